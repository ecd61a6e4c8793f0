"""dualsvd's functions on PyTorch tensors: backward, forward mode, `torch.func`, `vmap`, at every order.

Exact at repeated and at zero singular values as dualsvd is, where PyTorch's own derivatives are NaN or wrong. Dtypes
are kept; gradients of complex tensors are PyTorch's (df = Re tr(G^H dA)), which is dualsvd's convention too.

Tensors live on the CPU: one on another device is refused, since moving it to and fro would be a cost that nobody sees.
Call `.cpu()` where you mean it; its gradient goes back by itself.

>>> import torch, dualsvd.interop.torch as dst
>>> W = torch.eye(2, requires_grad=True)
>>> dst.nuclear_norm(W @ W).backward()
>>> W.grad
tensor([[2., 0.],
        [0., 2.]])
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import linalg, spectral
from ..errors import BackendError, DTypeError, ShapeError
from ..linalg.factorise import SVDResult
from ..linalg.spectral_functions import PolarResult
from ..rules.registry import Tracer
from ..spectral.normalization import quotient
from . import engine
from .maps import Map, Memory, Tangent, Transpose, public, remembering

torch: Any = engine("torch")
parametrize = engine("torch.nn.utils.parametrize")
proxy_mode = engine("torch.fx.experimental.proxy_tensor").get_proxy_mode

Tensor = Any  # torch.Tensor: this module is checked without PyTorch


# ---------------------------------------------------------------------------------------------------------------------
# The bridge


class Apply(torch.autograd.Function):
    """A map on tensors, differentiated by maps on tensors."""

    @staticmethod
    def forward(map: Map, memory: Memory | None, *xs: Tensor) -> tuple[Tensor, ...]:
        # torch.compile steps around this class, but not around what is called here: of NumPy's functions it would make
        # PyTorch's, which take other dtypes and shapes. To tell it loads it: a second, for those alone who have it.
        run = torch.compiler.disable(computed) if "torch._dynamo" in sys.modules else computed
        return run(map, memory, xs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.map, ctx.memory, *xs = inputs
        ctx.save_for_backward(*xs)
        ctx.save_for_forward(*xs)

    @staticmethod
    def backward(ctx: Any, *y_bars: Tensor) -> tuple[Tensor | None, ...]:
        wanted = tuple(ctx.needs_input_grad[2:])
        x_bars = iter(Apply.apply(Transpose(ctx.map, wanted), ctx.memory, *ctx.saved_tensors, *y_bars))
        return (None, None, *(next(x_bars) if here else None for here in wanted))

    @staticmethod
    def jvp(ctx: Any, _map: None, _memory: None, *dxs: Tensor | None) -> tuple[Tensor, ...]:
        moves = tuple(dx is not None for dx in dxs)
        moving = (dx for dx in dxs if dx is not None)
        return Apply.apply(Tangent(ctx.map, moves), ctx.memory, *ctx.saved_tensors, *moving)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], map: Map, memory: Memory | None, *xs: Tensor) -> Any:
        dims = in_dims[2:]
        wide = map.over(tuple(dim is not None for dim in dims))
        operands = [x if dim is None else x.movedim(dim, 0) for x, dim in zip(xs, dims)]
        if wide is map:
            operands = [x.expand(info.batch_size, *x.shape) if dim is None else x for x, dim in zip(operands, dims)]
        ys = Apply.apply(wide, memory, *operands)
        return ys, (0,) * len(ys)


def computed(map: Map, memory: Memory | None, xs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The map itself, on NumPy's arrays."""
    with remembering(memory):
        ys = map(*(as_array(x) for x in xs))
    return tuple(torch.from_numpy(np.array(y, order="C")) for y in ys)


def as_array(x: Tensor) -> Any:
    """What NumPy sees of a tensor; an error where PyTorch records operations, which NumPy's would not be among."""
    refusal: Exception | None = None
    if proxy_mode() is None:
        try:
            return x.numpy(force=True)
        except RuntimeError as error:  # a tensor without numbers
            refusal = error
    raise BackendError(
        "dualsvd computes in NumPy, which PyTorch cannot record (torch.func.linearize, make_fx, torch.export), nor "
        "batch by its older vmap; take torch.func.jvp, vjp and vmap, and export what surrounds it"
    ) from refusal


def apply(function: Callable[..., Any], a: Tensor, **params: Any) -> tuple[Tensor, ...]:
    """A function of dualsvd on a tensor."""
    a = matrix(a)
    memory = Memory() if torch.is_grad_enabled() and a.requires_grad else None
    return Apply.apply(public(function, **params), memory, a)


def matrix(a: Tensor) -> Tensor:
    """A tensor that NumPy can see, or an error that says why not."""
    if not isinstance(a, torch.Tensor):
        if isinstance(a, Tracer):
            raise DTypeError(
                f"dualsvd.interop.torch takes tensors, got a {type(a).__name__}; to a function that dualsvd "
                "differentiates give dualsvd's own function of that name (dualsvd.opnorm, ...)"
            )
        a = torch.as_tensor(a)
    if a.device.type != "cpu":
        raise BackendError(
            f"dualsvd.interop.torch computes on the CPU, got a tensor on {a.device}; move it with a.cpu(), "
            "and the result back with .to(a.device)"
        )
    if a.layout is not torch.strided:
        raise DTypeError(f"a must be a dense tensor, got {a.layout}; convert it with a.to_dense()")
    if a.dtype in (torch.float16, torch.bfloat16) and torch.is_autocast_enabled("cpu"):
        return a.float()  # as autocast has it for PyTorch's own norms and singular values
    inexact = a.is_floating_point() or a.is_complex()
    if inexact and a.dtype not in (torch.float32, torch.float64, torch.complex64, torch.complex128):
        remedy = "a.to(torch.complex64)" if a.is_complex() else "a.float()"
        raise DTypeError(f"a must be float32, float64, complex64 or complex128, got {a.dtype}; take {remedy}")
    return a


# ---------------------------------------------------------------------------------------------------------------------
# The functions


def svd(a: Tensor, full_matrices: bool = False) -> SVDResult:
    """U, S, Vh of a (..., m, n), thin by default: `dualsvd.svd`.

    Vectors that PyTorch has been given cannot turn with a direction. So at a tie forward mode raises DegenerateError
    where they have no tangents, and reverse mode GaugeError or DegenerateError; the other functions are exact there.
    """
    return SVDResult(*apply(linalg.svd, a, full_matrices=full_matrices))


def svdvals(a: Tensor) -> Tensor:
    """The singular values (..., r) of a (..., m, n), descending: `dualsvd.svdvals`."""
    return apply(linalg.svdvals, a)[0]


def opnorm(a: Tensor) -> Tensor:
    """The spectral norm (...) of a (..., m, n): `dualsvd.opnorm`.

    >>> opnorm(torch.tensor([[3.0, 0.0], [0.0, 2.0]]))
    tensor(3.)
    """
    return apply(linalg.opnorm, a)[0]


def nuclear_norm(a: Tensor) -> Tensor:
    """The sum (...) of the singular values of a (..., m, n): `dualsvd.nuclear_norm`."""
    return apply(linalg.nuclear_norm, a)[0]


def polar(a: Tensor) -> PolarResult:
    """The unitary (..., m, n) and the positive polar factor (..., n, n): `dualsvd.polar`."""
    return PolarResult(*apply(linalg.polar, a))


def pinv(a: Tensor, rcond: float | None = None) -> Tensor:
    """The Moore-Penrose inverse (..., n, m) of a (..., m, n): `dualsvd.pinv`."""
    return apply(linalg.pinv, a, rcond=rcond)[0]


def low_rank(a: Tensor, k: int) -> Tensor:
    """The best approximation of a (..., m, n) of rank k: `dualsvd.low_rank`."""
    return apply(linalg.low_rank, a, k=k)[0]


# ---------------------------------------------------------------------------------------------------------------------
# Spectral normalisation


class SpectralNorm(torch.nn.Module):
    """The parametrisation that `spectral_norm` registers: W -> coeff W / |W|, without state."""

    def __init__(self, coeff: float, out_axis: int) -> None:
        super().__init__()
        self.coeff, self.out_axis = coeff, out_axis

    def forward(self, W: Tensor) -> Tensor:
        rows = W.movedim(self.out_axis, 0)
        unit = apply(spectral.spectral_normalize, rows.flatten(1), coeff=self.coeff)[0]
        return unit.reshape(rows.shape).movedim(0, self.out_axis)

    def right_inverse(self, W: Tensor) -> Tensor:
        return W


class ConvolutionNorm(SpectralNorm):
    """W -> coeff W / |convolution with W| for images of a given size."""

    def __init__(self, coeff: float, **geometry: Any) -> None:
        super().__init__(coeff, 0)
        self.geometry = geometry

    def forward(self, W: Tensor) -> Tensor:
        return apply(by_its_convolution, W, coeff=self.coeff, **self.geometry)[0]


def by_its_convolution(W: Any, coeff: float, **geometry: Any) -> Any:
    """coeff W / |convolution with W|, of NumPy's arrays."""
    return quotient(W, spectral.conv_opnorm(W, **geometry), coeff)


def spectral_norm(
    module: Any, name: str = "weight", *, coeff: float = 1.0, input_shape: tuple[int, int] | None = None
) -> Any:
    """Divide a weight of `module` by its spectral norm whenever it is read; returns the module.

    Exact, by the SVD: no power iteration, hence no state. Training, evaluation, copies and workers see one and the
    same weight; read outside of forward it is normalised too; the gradient is that of the whole expression, to any
    order. What is trained and saved is `parametrizations.<name>.original`, as by every parametrisation of PyTorch;
    checkpoints of the plain module, and of PyTorch's own two spectral_norm, are understood when loading.

    name         of the parameter; one with more than two axes is the matrix (out, rest), as in torch.nn.utils
    coeff        the norm that the weight gets
    input_shape  (height, width) of the images that a Conv2d sees: the weight is then divided by the norm of the
                 convolution itself (`dualsvd.spectral.conv_opnorm`), which that of the reshaped kernel is not

    A weight that is all zero stays so, with a DegeneracyWarning. To normalise once for several reads, read inside
    `torch.nn.utils.parametrize.cached()`; `torch.nn.utils.parametrize.remove_parametrizations` undoes it all.

    >>> layer = spectral_norm(torch.nn.Linear(4, 3))
    >>> round(opnorm(layer.weight).item(), 5)
    1.0
    """
    W = getattr(module, name, None)
    if not isinstance(W, torch.Tensor) or W.ndim < 2:
        what = "nothing" if W is None else f"{type(W).__name__} of shape {tuple(getattr(W, 'shape', ()))}"
        raise ShapeError(f"spectral_norm takes a weight with at least 2 axes, got {what} by the name {name!r}")
    own = {**module._parameters, **module._buffers}
    if name not in own and not parametrize.is_parametrized(module, name):
        raise ShapeError(
            f"spectral_norm takes a parameter, but {name!r} is computed before each call, as by "
            "torch.nn.utils.spectral_norm or weight_norm; take that off first, with "
            "torch.nn.utils.remove_spectral_norm or remove_weight_norm"
        )
    if input_shape is None:
        transposed = isinstance(module, torch.nn.modules.conv._ConvTransposeNd)
        normaliser = SpectralNorm(coeff, 1 if transposed else 0)
    else:
        size = tuple(input_shape) if np.ndim(input_shape) else input_shape  # a number is refused by the norm
        normaliser = ConvolutionNorm(coeff, input_shape=size, **convolution(module))
    parametrize.register_parametrization(module, name, normaliser)
    module.register_load_state_dict_pre_hook(functools.partial(translate, name))
    return module


def convolution(module: Any) -> dict[str, Any]:
    """What `conv_opnorm` needs to know of a Conv2d, if it is one that it knows."""
    if not isinstance(module, torch.nn.Conv2d):
        raise ShapeError(f"input_shape= goes with a torch.nn.Conv2d, got {type(module).__name__}")
    padding = (0, 0) if module.padding == "valid" else module.padding
    keeps = padding == "same" or all(2 * p == k - 1 for p, k in zip(padding, module.kernel_size))
    plain = module.padding_mode in ("zeros", "circular") and module.groups == 1 and set(module.dilation) == {1}
    if not keeps or not plain:
        raise ShapeError(
            "the norm of a convolution is known where the padding keeps the size (padding='same'), with zeros or "
            f"circular, for groups=1 and dilation=1; got kernel_size={module.kernel_size}, padding={module.padding}, "
            f"padding_mode={module.padding_mode!r}, groups={module.groups}, dilation={module.dilation}; leave "
            "input_shape out to divide by the norm of the kernel as a matrix"
        )
    return {"padding": module.padding_mode, "stride": tuple(module.stride)}


def translate(name: str, module: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Take the weight from a checkpoint of the plain module, or of a power iteration, whose vectors are not needed."""
    if not parametrize.is_parametrized(module, name):
        return
    foreign = set(state) - {prefix + key for key in module.state_dict()}
    ours = f"{prefix}parametrizations.{name}.original"
    for theirs in (f"{prefix}{name}", f"{prefix}{name}_orig"):
        if ours not in state and theirs in foreign:
            state[ours] = state.pop(theirs)
    for key in (f"{name}_u", f"{name}_v", f"parametrizations.{name}.0._u", f"parametrizations.{name}.0._v"):
        if prefix + key in foreign:
            del state[prefix + key]
