"""dualsvd's functions on JAX arrays: every transform of JAX, exact where JAX's own derivatives are not."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import dualsvd as ds

jax = pytest.importorskip("jax", reason="JAX is not installed")
jnp = pytest.importorskip("jax.numpy")
dsj = importlib.import_module("dualsvd.interop.jax")

FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "svdvals": (dsj.svdvals, ds.svdvals),
    "opnorm": (dsj.opnorm, ds.opnorm),
    "nuclear_norm": (dsj.nuclear_norm, ds.nuclear_norm),
    "unitary polar factor": (lambda a: dsj.polar(a).unitary, lambda a: ds.polar(a).unitary),
    "pinv": (dsj.pinv, ds.pinv),
    "pinv with a cutoff": (lambda a: dsj.pinv(a, np.array(0.1)), lambda a: ds.pinv(a, 0.1)),
    "low_rank": (lambda a: dsj.low_rank(a, 1), lambda a: ds.low_rank(a, 1)),
    "svd": (lambda a: _dyad(dsj.svd(a)), lambda a: _dyad(ds.svd(a))),
}
EACH = pytest.mark.parametrize(("f", "reference"), FUNCTIONS.values(), ids=FUNCTIONS)


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def _dyad(y: Any) -> Any:
    return y.U[..., :1] * y.Vh[..., :1, :]


def matrix(rng: np.random.Generator, *shape: int, dtype: str = "float64") -> Any:
    a = rng.standard_normal(shape)
    return jnp.asarray((a + 1j * rng.standard_normal(shape) if "complex" in dtype else a).astype(dtype))


def close(x: Any, y: Any, tolerance: float = 1e-13) -> None:
    np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------------------------------------------------------------
# The derivatives are dualsvd's own


@pytest.mark.parametrize("compile", [lambda f: f, jax.jit], ids=["step by step", "compiled"])
@EACH
def test_jax_and_dualsvd_agree(f: Any, reference: Any, compile: Any, rng: np.random.Generator) -> None:
    a, da = matrix(rng, 3, 2), matrix(rng, 3, 2)
    y, dy = compile(lambda a, da: jax.jvp(f, (a,), (da,)))(a, da)
    want, dwant = ds.jvp(reference, (np.asarray(a),), (np.asarray(da),))
    close(y, want)
    close(dy, dwant)
    y_bar = jnp.cos(jnp.arange(y.size)).reshape(y.shape)
    (a_bar,) = compile(lambda a, y_bar: jax.vjp(f, a)[1](y_bar))(a, y_bar)
    close(a_bar, ds.vjp(reference, np.asarray(a))[1](np.asarray(y_bar))[0])


ORDERS = {
    "forward over reverse": lambda f: jax.jacfwd(jax.jacrev(f)),
    "reverse over reverse": lambda f: jax.jacrev(jax.jacrev(f)),
    "forward over forward": lambda f: jax.jacfwd(jax.jacfwd(f)),
    "reverse over forward": lambda f: jax.jacrev(jax.jacfwd(f)),
    "compiled": lambda f: jax.jit(jax.hessian(f)),
}


@pytest.mark.parametrize("hessian", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("name", ["opnorm", "nuclear_norm"])
def test_hessians_agree_in_every_order_of_modes(name: str, hessian: Any, rng: np.random.Generator) -> None:
    f, reference = FUNCTIONS[name]
    a = matrix(rng, 3, 2)
    close(hessian(f)(a), ds.hessian(reference, np.asarray(a)), 1e-12)


def test_third_derivatives_nest(rng: np.random.Generator) -> None:
    a = matrix(rng, 2, 2)
    third = jax.jacfwd(jax.hessian(dsj.nuclear_norm))(a)
    close(third, ds.jacobian(lambda x: ds.hessian(ds.nuclear_norm, x), np.asarray(a)), 1e-11)


@pytest.mark.parametrize("name", ["svdvals", "unitary polar factor"])
def test_vmap_is_the_loop(name: str, rng: np.random.Generator) -> None:
    f, _ = FUNCTIONS[name]
    a = matrix(rng, 3, 2, 4)

    def slope(a: Any) -> Any:
        return jax.grad(lambda a: jnp.sum(jnp.sin(f(a))))(a)

    close(jax.vmap(f, in_axes=2)(a), jnp.stack([f(a[..., k]) for k in range(4)]))
    loop = jnp.stack([slope(a[..., k]) for k in range(4)])
    close(jax.vmap(slope, in_axes=2)(a), loop)
    close(jax.jit(jax.vmap(slope, in_axes=2))(a), loop)


def test_vmap_of_a_hessian_is_the_loop(rng: np.random.Generator) -> None:
    a = matrix(rng, 2, 3, 2)
    hessian = jax.hessian(dsj.opnorm)
    close(jax.vmap(hessian)(a), jnp.stack([hessian(x) for x in a]), 1e-12)


def test_empty_matrices_have_empty_derivatives() -> None:
    """Also where a transform asks for none of them: rows of a Jacobian, directions of a Hessian."""
    nothing = jnp.zeros((0, 3))
    for jacobian in (jax.jacrev, jax.jacfwd):
        assert jacobian(dsj.svdvals)(nothing).shape == (0, 0, 3)
    assert jax.hessian(dsj.nuclear_norm)(nothing).shape == (0, 3, 0, 3)
    assert jax.vmap(jax.hessian(dsj.nuclear_norm))(jnp.zeros((0, 3, 2))).shape == (0, 3, 2, 3, 2)
    push = jax.linearize(dsj.svdvals, jnp.ones((3, 2)))[1]
    assert jax.vmap(push)(jnp.zeros((0, 3, 2))).shape == (0, 2)


def test_a_batch_of_tangents_transposes_to_a_batch_of_cotangents(rng: np.random.Generator) -> None:
    a, bars = matrix(rng, 3, 2), matrix(rng, 4, 2)
    push = jax.linearize(dsj.svdvals, a)[1]
    (transposed,) = jax.linear_transpose(jax.vmap(push), matrix(rng, 4, 3, 2))(bars)
    close(transposed, jax.vmap(jax.vjp(dsj.svdvals, a)[1])(bars)[0])


def test_the_pullback_transposes_to_the_pushforward(rng: np.random.Generator) -> None:
    a, da = matrix(rng, 3, 2), matrix(rng, 3, 2)
    pull = jax.vjp(dsj.svdvals, a)[1]
    (dy,) = jax.linear_transpose(lambda y_bar: pull(y_bar)[0], jnp.zeros(2))(da)
    close(dy, jax.jvp(dsj.svdvals, (a,), (da,))[1])


@pytest.mark.parametrize("shape", [(3, 2), (2, 3)], ids=["tall", "wide"])
def test_complex_gradients_have_jax_s_convention(shape: tuple[int, int], rng: np.random.Generator) -> None:
    a = matrix(rng, *shape, dtype="complex128")
    close(jax.grad(dsj.opnorm)(a), jax.grad(lambda a: jnp.linalg.svd(a, compute_uv=False)[0])(a))
    close(jax.grad(dsj.opnorm)(a), np.conj(ds.gradient(ds.opnorm, np.asarray(a))))


def test_a_training_step_compiles(rng: np.random.Generator) -> None:
    """Spectral normalisation, in a scan."""
    W, x = matrix(rng, 3, 4), matrix(rng, 5, 4)

    def loss(W: Any) -> Any:
        return jnp.sum(jnp.tanh(x @ (W / dsj.opnorm(W)).T))

    @jax.jit
    def train(W: Any) -> Any:
        return jax.lax.scan(lambda W, _: (W - 0.1 * jax.grad(loss)(W), loss(W)), W, None, length=5)[1]

    losses = train(W)
    assert losses[-1] < losses[0]
    slope = ds.gradient(lambda W: np.sum(np.tanh(np.asarray(x) @ (W / ds.opnorm(W)).T)), np.asarray(W))
    close(jax.grad(loss)(W), slope)


NONLINEAR: dict[str, Callable[[Any], Any]] = {
    "a function": dsj.opnorm,
    "a function of many": lambda a: jax.vmap(dsj.opnorm)(jnp.stack([a, a])).sum(),
    "a tangent by its point": lambda a: jax.jvp(dsj.opnorm, (a,), (jnp.eye(2),))[1],
    "a gradient": lambda a: jax.grad(dsj.opnorm)(a)[0, 0],
    "many tangents by their point": lambda a: jax.jacfwd(dsj.opnorm)(a)[0, 0],
}


@pytest.mark.parametrize("f", NONLINEAR.values(), ids=NONLINEAR)
def test_what_is_not_linear_has_no_transpose(f: Any) -> None:
    """JAX's own functions say so too."""
    with pytest.raises(NotImplementedError, match=r"opnorm is not, nor are its derivatives.*take jax\.vjp"):
        jax.linear_transpose(f, jnp.eye(2))(1.0)


# ---------------------------------------------------------------------------------------------------------------------
# Ties and zeros


def test_the_tangent_at_a_tie_is_one_sided() -> None:
    swap = jnp.array([[0.0, 1.0], [1.0, 0.0]])
    close(jax.jit(lambda a: jax.jvp(dsj.svdvals, (a,), (swap,))[1])(jnp.eye(2)), [1.0, -1.0])


TIED = {"identity": np.eye(3), "Hadamard": np.array([[1.0, 1.0], [1.0, -1.0]]), "tall": np.eye(4, 2)}


@pytest.mark.parametrize("a", TIED.values(), ids=TIED)
@pytest.mark.parametrize("name", ["nuclear_norm", "unitary polar factor", "pinv"])
def test_smooth_functions_are_smooth_at_ties(name: str, a: np.ndarray) -> None:
    f, reference = FUNCTIONS[name]
    close(jax.jacrev(f)(jnp.asarray(a)), ds.jacobian(reference, a))
    close(jax.jacfwd(f)(jnp.asarray(a)), ds.jacobian(reference, a))
    if name == "nuclear_norm":
        close(jax.hessian(f)(jnp.asarray(a)), ds.hessian(reference, a))


def test_zero_has_the_least_subgradient() -> None:
    for f in (dsj.opnorm, dsj.nuclear_norm):
        close(jax.grad(f)(jnp.zeros((3, 2))), np.zeros((3, 2)))


def test_a_cotangent_that_depends_on_the_basis_is_refused() -> None:
    with pytest.raises(ds.GaugeError, match="use polar"):
        jax.grad(lambda a: dsj.svd(a).U[0, 1])(jnp.eye(2))


# ---------------------------------------------------------------------------------------------------------------------
# Arrays of every kind


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("full", [False, True], ids=["thin", "full"])
@pytest.mark.parametrize("shape", [(3, 2), (2, 3), (2, 4, 2)], ids=["tall", "wide", "stack"])
def test_shapes_and_dtypes_are_foretold(
    shape: tuple[int, ...], full: bool, dtype: str, rng: np.random.Generator
) -> None:
    a = matrix(rng, *shape, dtype=dtype)
    y = dsj.svd(a, full_matrices=full)
    foretold = jax.eval_shape(lambda a: dsj.svd(a, full_matrices=full), a)
    assert [(x.shape, x.dtype) for x in y] == [(x.shape, x.dtype) for x in foretold]
    assert y.S.dtype == a.real.dtype and jax.grad(lambda a: jnp.sum(dsj.opnorm(a)))(a).dtype == dtype


def test_settings_are_those_of_the_trace() -> None:
    with ds.options(nonfinite="propagate"):
        compiled = jax.jit(dsj.opnorm).lower(jnp.eye(2)).compile()
    assert jnp.isnan(compiled(jnp.full((2, 2), jnp.nan)))


REFUSED = {
    "half precision": (lambda: jnp.ones((2, 2), jnp.float16), ds.DTypeError, r"a\.astype"),
    "a vector": (lambda: jnp.ones(3), ds.ShapeError, "at least 2 axes"),
    "NaN": (lambda: jnp.full((2, 2), jnp.nan), ds.NonFiniteError, "must be finite"),
}


@pytest.mark.parametrize(("a", "error", "match"), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_told(a: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        dsj.opnorm(a())


@pytest.mark.parametrize("name", ["low_rank", "pinv"])
def test_parameters_are_not_traced(name: str) -> None:
    f = getattr(dsj, name)
    with pytest.raises(ds.DTypeError, match=r"must be known when the function is traced.*static_argnums"):
        jax.jit(f)(jnp.eye(2), 1)
    close(jax.jit(f, static_argnums=1)(jnp.eye(2), 1), f(jnp.eye(2), jnp.asarray(1)))


def test_an_error_comes_out_of_compiled_code_with_its_message() -> None:
    with pytest.raises(jax.errors.JaxRuntimeError, match="NonFiniteError: the matrix must be finite"):
        jax.block_until_ready(jax.jit(dsj.opnorm)(jnp.full((2, 2), jnp.nan)))
