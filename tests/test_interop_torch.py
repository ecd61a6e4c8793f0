"""dualsvd's functions on PyTorch tensors: every transform of torch, exact where torch's own derivatives are not."""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dualsvd as ds

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
dst = importlib.import_module("dualsvd.interop.torch")

# torch.func loads a module of PyTorch's own that still uses what it deprecates
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "svdvals": (dst.svdvals, ds.svdvals),
    "opnorm": (dst.opnorm, ds.opnorm),
    "nuclear_norm": (dst.nuclear_norm, ds.nuclear_norm),
    "unitary polar factor": (lambda a: dst.polar(a).unitary, lambda a: ds.polar(a).unitary),
    "positive polar factor": (lambda a: dst.polar(a).positive, lambda a: ds.polar(a).positive),
    "pinv": (dst.pinv, ds.pinv),
    "pinv with a cutoff": (lambda a: dst.pinv(a, np.array(0.1)), lambda a: ds.pinv(a, 0.1)),
    "low_rank": (lambda a: dst.low_rank(a, 1), lambda a: ds.low_rank(a, 1)),
    "svd": (lambda a: _dyad(dst.svd(a)), lambda a: _dyad(ds.svd(a))),
}
EACH = pytest.mark.parametrize(("f", "reference"), FUNCTIONS.values(), ids=FUNCTIONS)
SHAPES = pytest.mark.parametrize("shape", [(3, 2), (2, 3), (2, 2)], ids=["tall", "wide", "square"])


def _dyad(y: Any) -> Any:
    return y.U[..., :1] * y.Vh[..., :1, :]


def matrix(rng: np.random.Generator, *shape: int, dtype: str = "float64") -> Any:
    a = rng.standard_normal(shape)
    return torch.tensor((a + 1j * rng.standard_normal(shape) if "complex" in dtype else a).astype(dtype))


def close(x: Any, y: Any, tolerance: float = 1e-13) -> None:
    np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------------------------------------------------------------
# The derivatives are dualsvd's own


@EACH
@SHAPES
def test_torch_and_dualsvd_agree(f: Any, reference: Any, shape: tuple[int, int], rng: np.random.Generator) -> None:
    a, da = matrix(rng, *shape), matrix(rng, *shape)
    y, dy = torch.func.jvp(f, (a,), (da,))
    want, dwant = ds.jvp(reference, (a.numpy(),), (da.numpy(),))
    close(y, want)
    close(dy, dwant)
    y_bar = torch.ones_like(y)
    close(torch.func.vjp(f, a)[1](y_bar)[0], ds.vjp(reference, a.numpy())[1](y_bar.numpy())[0])


@EACH
def test_gradcheck_passes_at_both_orders(f: Any, reference: Any, rng: np.random.Generator) -> None:
    a = matrix(rng, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(f, (a,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(f, (a,), check_fwd_over_rev=True)


@pytest.mark.parametrize("name", ["svdvals", "opnorm", "unitary polar factor", "svd"])
def test_complex_gradients_have_pytorch_s_convention(name: str, rng: np.random.Generator) -> None:
    f, _ = FUNCTIONS[name]
    a = matrix(rng, 3, 2, dtype="complex128").requires_grad_()
    assert torch.autograd.gradcheck(f, (a,), check_forward_ad=True)
    if name == "opnorm":
        close(torch.func.grad(f)(a.detach()), torch.func.grad(lambda a: torch.linalg.svdvals(a)[0])(a.detach()))


ORDERS = {
    "forward over reverse": lambda f: torch.func.jacfwd(torch.func.jacrev(f)),
    "reverse over reverse": lambda f: torch.func.jacrev(torch.func.jacrev(f)),
    "forward over forward": lambda f: torch.func.jacfwd(torch.func.jacfwd(f)),
    "reverse over forward": lambda f: torch.func.jacrev(torch.func.jacfwd(f)),
}


@pytest.mark.parametrize("hessian", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("name", ["opnorm", "nuclear_norm"])
def test_hessians_agree_in_every_order_of_modes(name: str, hessian: Any, rng: np.random.Generator) -> None:
    f, reference = FUNCTIONS[name]
    a = matrix(rng, 3, 2)
    close(hessian(f)(a), ds.hessian(reference, a.numpy()), 1e-12)


def test_third_derivatives_nest(rng: np.random.Generator) -> None:
    a = matrix(rng, 2, 2)
    third = torch.func.jacfwd(torch.func.hessian(dst.nuclear_norm))(a)
    close(third, ds.jacobian(lambda x: ds.hessian(ds.nuclear_norm, x), a.numpy()), 1e-11)


@EACH
def test_vmap_is_the_loop(f: Any, reference: Any, rng: np.random.Generator) -> None:
    a = matrix(rng, 3, 2, 4)
    y = torch.func.vmap(f, in_dims=2, out_dims=0)(a)
    close(y, torch.stack([f(a[..., k]) for k in range(4)]))
    slopes = torch.func.vmap(torch.func.grad(lambda a: f(a).sum()), in_dims=2)(a)
    close(slopes, torch.stack([torch.func.grad(lambda a: f(a).sum())(a[..., k]) for k in range(4)]))


def test_vmap_of_a_hessian_is_the_loop(rng: np.random.Generator) -> None:
    a = matrix(rng, 3, 3, 2)
    close(
        torch.func.vmap(torch.func.hessian(dst.opnorm))(a),
        torch.stack([torch.func.hessian(dst.opnorm)(x) for x in a]),
        1e-12,
    )


def test_empty_matrices_have_empty_derivatives() -> None:
    """Also where a transform asks for none of them: rows of a Jacobian, directions of a Hessian."""
    nothing = torch.zeros(0, 3)
    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        assert jacobian(dst.svdvals)(nothing).shape == (0, 0, 3)
    assert torch.func.hessian(dst.nuclear_norm)(nothing).shape == (0, 3, 0, 3)
    assert torch.func.vmap(torch.func.hessian(dst.nuclear_norm))(torch.zeros(0, 3, 2)).shape == (0, 3, 2, 3, 2)

    def push(da: Any) -> Any:
        return torch.func.jvp(dst.svdvals, (torch.ones(3, 2),), (da,))[1]

    assert torch.func.vmap(push)(torch.zeros(0, 3, 2)).shape == (0, 2)


def test_jacobians_factorise_once(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many cotangents at one point share one recording, and a backward pass uses that of the forward."""
    module = importlib.import_module("dualsvd.linalg.svd")
    calls, factors = [], module.svd_factors
    monkeypatch.setattr(module, "svd_factors", lambda *args: calls.append(1) or factors(*args))
    a = matrix(rng, 4, 4).requires_grad_()
    dst.svdvals(a).sum().backward()
    assert len(calls) == 1
    calls.clear()
    torch.func.jacrev(dst.svdvals)(a.detach())
    assert len(calls) <= 2


# ---------------------------------------------------------------------------------------------------------------------
# Ties and zeros


def test_the_tangent_at_a_tie_is_one_sided() -> None:
    a, swap = torch.eye(2, dtype=torch.float64), torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    close(torch.func.jvp(dst.svdvals, (a,), (swap,))[1], [1.0, -1.0])


TIED = {"identity": np.eye(3), "Hadamard": np.array([[1.0, 1.0], [1.0, -1.0]]), "tall": np.eye(4, 2)}


@pytest.mark.parametrize("a", TIED.values(), ids=TIED)
@pytest.mark.parametrize("name", ["nuclear_norm", "unitary polar factor", "pinv"])
def test_smooth_functions_are_smooth_at_ties(name: str, a: np.ndarray) -> None:
    f, _ = FUNCTIONS[name]
    variable = torch.tensor(a).requires_grad_()
    assert torch.autograd.gradcheck(f, (variable,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(f, (variable,))


def test_zero_has_the_least_subgradient() -> None:
    for f in (dst.opnorm, dst.nuclear_norm):
        close(torch.func.grad(f)(torch.zeros(3, 2)), np.zeros((3, 2)))


def test_a_cotangent_that_depends_on_the_basis_is_refused() -> None:
    a = torch.eye(2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ds.GaugeError, match="use polar"):
        dst.svd(a).U[0, 1].backward()


def test_values_of_svd_have_no_use_for_the_vectors() -> None:
    a = torch.eye(2, dtype=torch.float64, requires_grad=True)
    dst.svd(a).S.sum().backward()
    close(a.grad, np.eye(2))


# ---------------------------------------------------------------------------------------------------------------------
# Tensors of every kind


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_dtypes_are_kept(dtype: str, rng: np.random.Generator) -> None:
    a = matrix(rng, 3, 2, dtype=dtype).requires_grad_()
    U, S, Vh = dst.svd(a)
    assert U.dtype == Vh.dtype == a.dtype and S.dtype == a.real.dtype
    dst.opnorm(a).backward()
    assert a.grad.dtype == a.dtype


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_autocast_takes_half_precision_to_single(dtype: str, rng: np.random.Generator) -> None:
    """As it does for torch.linalg.svdvals."""
    x, y = matrix(rng, 3, 4, dtype="float32").requires_grad_(), matrix(rng, 4, 2, dtype="float32")
    with torch.autocast("cpu", dtype=getattr(torch, dtype)):
        half = x @ y
        assert half.dtype == getattr(torch, dtype)
        values, theirs = dst.svdvals(half), torch.linalg.svdvals(half)
    assert values.dtype == theirs.dtype == torch.float32
    close(values.detach(), theirs.detach(), 1e-6)  # some units of rounding of single precision
    values.sum().backward()
    slope = torch.func.grad(dst.nuclear_norm)(half.detach().float()) @ y.T
    close(x.grad, slope, 4 * torch.finfo(half.dtype).eps)  # its cotangent is rounded to half, on the way and in sums


def test_conjugated_transposed_and_expanded_tensors_are_read_as_they_are(rng: np.random.Generator) -> None:
    a = matrix(rng, 3, 2, dtype="complex128")
    close(dst.pinv(a.mH), dst.pinv(a.mH.resolve_conj().contiguous()))
    close(dst.svdvals(a[:1].expand(4, 2)), dst.svdvals(a[:1].expand(4, 2).contiguous()))


def test_results_are_the_caller_s_to_write_into(rng: np.random.Generator) -> None:
    a = matrix(rng, 3, 2).requires_grad_()
    y = dst.svdvals(a)
    with torch.no_grad():
        y.mul_(0)
    grad = torch.autograd.grad(y.sum(), a)[0]
    close(grad, ds.gradient(lambda x: np.sum(ds.svdvals(x)), a.detach().numpy()))


def test_full_matrices_differentiate(rng: np.random.Generator) -> None:
    a = matrix(rng, 4, 2).requires_grad_()

    def projector(a: Any) -> Any:
        rest = dst.svd(a, full_matrices=True).U[:, 2:]
        return rest @ rest.mT

    assert torch.autograd.gradcheck(projector, (a,), check_forward_ad=True)


REFUSED = {
    "another device": (lambda: torch.empty(2, 2, device="meta"), ds.BackendError, r"got a tensor on meta; move it"),
    "half precision": (lambda: torch.ones(2, 2, dtype=torch.bfloat16), ds.DTypeError, r"a\.float\(\)"),
    "half precision of complex numbers": (
        lambda: torch.ones(2, 2, dtype=torch.complex32),
        ds.DTypeError,
        r"a\.to\(torch\.complex64\)",
    ),
    "a quarter of precision": (lambda: torch.ones(2, 2, dtype=torch.float8_e5m2), ds.DTypeError, r"a\.float\(\)"),
    "a sparse tensor": (lambda: torch.eye(2).to_sparse(), ds.DTypeError, r"to_dense"),
    "a vector": (lambda: torch.ones(3), ds.ShapeError, "at least 2 axes"),
    "NaN": (lambda: torch.full((2, 2), torch.nan), ds.NonFiniteError, "must be finite"),
    "a traced array": (lambda: ds.DualArray(np.eye(2), np.ones((1, 2, 2))), ds.DTypeError, r"dualsvd\.opnorm"),
}


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
@pytest.mark.parametrize(("a", "error", "match"), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_told(a: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        dst.opnorm(a())


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_traced_array_and_a_tensor_do_not_meet(mode: str) -> None:
    a, t = np.eye(2), torch.ones(2, 2, dtype=torch.float64)
    for meet in (lambda x: x * t, lambda x: t - x, lambda x: x @ t, lambda x: np.dot(t, x)):
        with pytest.raises(ds.DTypeError, match=r"test_interop_torch.*torch\.Tensor.*m\.numpy\(\)"):
            ds.jacobian(meet, a, mode=mode)
    with pytest.raises(ds.MissingRuleError, match=r"torch\.as_tensor.*test_interop_torch"):
        ds.jacobian(lambda x: torch.as_tensor(x), a, mode=mode)


RECORDERS: dict[str, Callable[[Any], Any]] = {
    "linearize": lambda a: torch.func.linearize(dst.svdvals, a),
    "make_fx": lambda a: torch.fx.experimental.proxy_tensor.make_fx(dst.svdvals)(a),
    "export": lambda a: torch.export.export(_Norm(), (a,), strict=False),
    "the older vmap": lambda a: torch.autograd.functional.jacobian(dst.svdvals, a, vectorize=True),
    "tensors without numbers": lambda a: _without_numbers(a),
}


class _Norm(torch.nn.Module):
    def forward(self, a: Any) -> Any:
        return dst.opnorm(a)


def _without_numbers(a: Any) -> Any:
    with torch._subclasses.FakeTensorMode() as mode:
        return dst.opnorm(mode.from_tensor(a))


@pytest.mark.parametrize("record", RECORDERS.values(), ids=RECORDERS)
def test_what_pytorch_cannot_record_is_refused(record: Any, rng: np.random.Generator) -> None:
    """It would be a constant of the recording."""
    with pytest.raises(ds.BackendError, match="PyTorch cannot record"):
        record(matrix(rng, 3, 2))


# The compiler warns of itself: it looks for gradients of tensors in between, and makes an object of a class of ours.
COMPILED = pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
    r"ignore:.*should not be instantiated:DeprecationWarning",
)


@COMPILED
@EACH
def test_compiled_code_steps_around_what_numpy_computes(f: Any, reference: Any, rng: np.random.Generator) -> None:
    """Also where the backward pass is inside of it."""

    def slope(a: Any) -> Any:
        return torch.autograd.grad(f(torch.sin(a)).sum(), a)[0]

    a = matrix(rng, 3, 2).requires_grad_()
    torch.compiler.reset()
    assert torch.equal(torch.compile(slope, backend="eager")(a), slope(a))


@COMPILED
def test_compiled_code_serves_other_shapes(rng: np.random.Generator) -> None:
    """The compiler makes them variables from the second on."""
    torch.compiler.reset()
    slope = torch.compile(lambda a: torch.autograd.grad(dst.opnorm(2 * a), a)[0], backend="eager")
    for shape in [(4, 3), (2, 5), (0, 3)]:
        a = matrix(rng, *shape).requires_grad_()
        assert torch.equal(slope(a), 2 * torch.func.grad(dst.opnorm)(a))


def test_each_matrix_may_have_a_cutoff(rng: np.random.Generator) -> None:
    a, cutoffs = matrix(rng, 2, 3, 2), np.array([0.1, 0.9])
    slope = torch.func.grad(lambda a: dst.pinv(a, cutoffs).sum())(a)
    close(slope, ds.gradient(lambda a: np.sum(ds.pinv(a, cutoffs)), a.numpy()), 1e-12)


def test_settings_go_with_the_call(rng: np.random.Generator) -> None:
    with ds.options(nonfinite="propagate"):
        assert dst.opnorm(torch.full((2, 2), torch.nan)).isnan()
    a = torch.eye(2, dtype=torch.float64, requires_grad=True)
    with ds.options(ties="raise"):
        y = dst.opnorm(a)
    with pytest.raises(ds.DegenerateError):
        y.backward()


# ---------------------------------------------------------------------------------------------------------------------
# Spectral normalisation


def linear(seed: int = 0, **kwargs: Any) -> Any:
    torch.manual_seed(seed)
    return dst.spectral_norm(torch.nn.Linear(4, 3, dtype=torch.float64), **kwargs)


def test_the_weight_is_normalised_whenever_it_is_read() -> None:
    layer = linear(coeff=2.0)
    close(torch.linalg.matrix_norm(layer.weight, 2).detach(), 2.0)
    with torch.no_grad():
        layer.parametrizations.weight.original.mul_(7.0)
    close(torch.linalg.matrix_norm(layer.weight, 2).detach(), 2.0)
    layer.weight = torch.full_like(layer.weight, 5.0)
    close(torch.linalg.matrix_norm(layer.weight, 2).detach(), 2.0)


def test_evaluation_calls_and_copies_change_nothing(rng: np.random.Generator) -> None:
    layer = linear()
    x, weight = matrix(rng, 5, 4), layer.weight.detach().clone()
    for _ in range(3):
        y = layer(x)
    twin = copy.deepcopy(layer)
    assert torch.equal(layer.eval()(x), y)
    assert torch.equal(layer.train()(x), y)
    assert torch.equal(twin(x), y) and torch.equal(twin.weight, weight)
    assert twin.parametrizations.weight.original is not layer.parametrizations.weight.original


def test_the_gradient_is_that_of_the_whole_expression(rng: np.random.Generator) -> None:
    layer, x = linear(), matrix(rng, 5, 4)
    torch.tanh(layer(x)).sum().backward()
    original = layer.parametrizations.weight.original

    def loss(W: Any) -> Any:
        return np.sum(np.tanh(x.numpy() @ ds.spectral.spectral_normalize(W).T + layer.bias.detach().numpy()))

    close(original.grad, ds.gradient(loss, original.detach().numpy()))
    close(torch.sum(original.grad * original.detach()), 0.0)  # the norm of W does not matter


def test_double_backward_goes_through_the_layer(rng: np.random.Generator) -> None:
    """As a gradient penalty takes it."""
    layer, x = linear(), matrix(rng, 5, 4).requires_grad_()
    (slope,) = torch.autograd.grad(torch.tanh(layer(x)).sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert layer.parametrizations.weight.original.grad.abs().max() > 1e-3


def test_a_functional_call_sees_the_original(rng: np.random.Generator) -> None:
    layer, x = linear(), matrix(rng, 5, 4)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    slopes = torch.func.grad(lambda p: torch.func.functional_call(layer, p, (x,)).square().sum())(parameters)
    layer(x).square().sum().backward()
    close(slopes["parametrizations.weight.original"], layer.parametrizations.weight.original.grad)


CHECKPOINTS = {
    "its own": linear,
    "the plain module": lambda seed: _plain(seed),
    "torch.nn.utils.parametrizations": lambda seed: torch.nn.utils.parametrizations.spectral_norm(_plain(seed)),
    "torch.nn.utils": lambda seed: _deprecated(_plain(seed)),
}


def _plain(seed: int) -> Any:
    torch.manual_seed(seed)
    return torch.nn.Linear(4, 3, dtype=torch.float64)


def _deprecated(module: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return torch.nn.utils.spectral_norm(module)


@pytest.mark.parametrize("make", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_checkpoints_are_understood(make: Any) -> None:
    state = torch.nn.Sequential(make(1)).state_dict()
    model = torch.nn.Sequential(copy.deepcopy(linear(2)))
    assert not torch.equal(model[0].weight, linear(1).weight)
    model.load_state_dict(state)
    close(model[0].weight.detach(), linear(1).weight.detach())
    assert set(model.state_dict()) == {"0.bias", "0.parametrizations.weight.original"}


class _WithVectors(torch.nn.Linear):
    """A module with parameters by the names that a power iteration gives its vectors."""

    def __init__(self) -> None:
        super().__init__(4, 3, dtype=torch.float64)
        self.weight_u, self.weight_orig = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
        self.register_buffer("weight_v", torch.ones(1))


OWN = {
    "the names of vectors": _WithVectors,
    "vectors of a power iteration before": lambda: torch.nn.utils.parametrizations.spectral_norm(_plain(1)),
}


@pytest.mark.parametrize("make", OWN.values(), ids=OWN)
def test_what_the_module_owns_is_loaded(make: Any) -> None:
    layer, state = dst.spectral_norm(make()), dst.spectral_norm(make()).state_dict()
    layer.load_state_dict({key: 2 * x for key, x in state.items()})
    for key, x in layer.state_dict().items():
        assert torch.equal(x, 2 * state[key])


def test_parametrisation_can_be_removed() -> None:
    layer = linear()
    weight = layer.weight.detach().clone()
    torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")
    close(layer.weight.detach(), weight, 1e-15)  # the SVD with and without vectors rounds differently
    layer.load_state_dict(_plain(3).state_dict())
    assert torch.equal(layer.weight, _plain(3).weight)


MODULES = {
    "Conv1d": lambda: torch.nn.Conv1d(3, 4, 3),
    "Conv2d": lambda: torch.nn.Conv2d(3, 4, 3),
    "ConvTranspose2d": lambda: torch.nn.ConvTranspose2d(3, 4, 3),
    "Embedding": lambda: torch.nn.Embedding(5, 3),
}


@pytest.mark.parametrize("name", MODULES)
def test_kernels_are_matrices_of_outputs_by_the_rest(name: str) -> None:
    """As torch.nn.utils has them."""
    torch.manual_seed(0)
    W = dst.spectral_norm(MODULES[name]()).weight
    rows = W.movedim(1, 0) if "Transpose" in name else W
    close(torch.linalg.matrix_norm(rows.flatten(1), 2).detach(), 1.0, 1e-5)


def test_the_norm_of_the_convolution_itself() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(2, 3, 3, padding="same", padding_mode="circular", bias=False, dtype=torch.float64)
    dst.spectral_norm(layer, input_shape=(4, 4))
    images = torch.eye(32, dtype=torch.float64).reshape(32, 2, 4, 4)
    close(torch.linalg.matrix_norm(layer(images).flatten(1), 2).detach(), 1.0)
    layer(images).square().sum().backward()
    original = layer.parametrizations.weight.original
    close(torch.sum(original.grad * original.detach()), 0.0, 1e-12)


NORMALISERS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "a matrix": (lambda: torch.nn.Linear(2, 2), {}),
    "a convolution": (lambda: torch.nn.Conv2d(1, 2, 3, padding=1), {"input_shape": (4, 4)}),
}


@pytest.mark.parametrize(("make", "options"), NORMALISERS.values(), ids=NORMALISERS)
def test_a_zero_weight_stays_zero_with_a_warning(make: Any, options: Any) -> None:
    layer = make()
    torch.nn.init.zeros_(layer.weight)
    with pytest.warns(ds.DegeneracyWarning, match="weights are zero"):
        dst.spectral_norm(layer, **options)
    with pytest.warns(ds.DegeneracyWarning):
        weight = layer.weight
    weight.sum().backward()
    close(weight.detach(), np.zeros(weight.shape))
    close(layer.parametrizations.weight.original.grad, np.ones(weight.shape))


def test_a_kernel_of_one_tap_keeps_the_size_without_padding() -> None:
    layer = torch.nn.Conv2d(2, 3, 1, padding="valid", dtype=torch.float64)
    W = dst.spectral_norm(layer, input_shape=(4, 4)).weight
    close(torch.linalg.matrix_norm(W[..., 0, 0], 2).detach(), 1.0)


MISUSED = {
    "no such parameter": (lambda: dst.spectral_norm(torch.nn.Linear(2, 2), "wait"), "got nothing by the name 'wait'"),
    "a vector": (lambda: dst.spectral_norm(torch.nn.Linear(2, 2), "bias"), r"at least 2 axes, got Parameter"),
    "not a convolution": (lambda: dst.spectral_norm(torch.nn.Linear(2, 2), input_shape=(4, 4)), "goes with a torch"),
    "a number for a size": (lambda: dst.spectral_norm(torch.nn.Conv2d(2, 2, 1), input_shape=5), "got 5"),
    "no padding": (lambda: dst.spectral_norm(torch.nn.Conv2d(2, 2, 3), input_shape=(4, 4)), "keeps the size"),
    "normalised by a hook": (
        lambda: dst.spectral_norm(torch.nn.utils.spectral_norm(torch.nn.Linear(2, 2))),
        "remove_spectral_norm",
    ),
}


@pytest.mark.parametrize(("call", "match"), MISUSED.values(), ids=MISUSED)
def test_misuse_is_told(call: Callable[[], Any], match: str) -> None:
    with pytest.raises(ds.ShapeError, match=match):
        call()


@pytest.mark.parametrize("kind", ["a buffer", "a parameter of two names"])
def test_a_module_s_own_weights_of_any_kind_are_normalised(kind: str) -> None:
    layer = torch.nn.Linear(4, 3)
    name = "weight"
    if kind == "a buffer":
        weight = layer.weight.detach()
        del layer.weight
        layer.register_buffer("weight", weight)
    else:
        name = "other"
        layer.other = layer.weight
    dst.spectral_norm(layer, name)
    assert dst.opnorm(getattr(layer, name)).item() == pytest.approx(1, rel=1e-5)
