"""dualsvd's functions on JAX arrays: jit, grad, jvp, vmap, and any nesting of them.

Exact at repeated and at zero singular values as dualsvd is. JAX's gradient of a complex argument is the conjugate of
dualsvd's. Dtypes are kept: float64 is JAX's to allow (`jax_enable_x64`).

One primitive stands for every map: its tangents are the map `Tangent`, those transposed are `Transpose`, a batch is
`over`. Compiled code calls back into NumPy on the host; an error of dualsvd's comes out of it as one of JAX's, with
dualsvd's message in it. The settings of `dualsvd.options` are those in force when a function is traced.

>>> import jax, dualsvd.interop.jax as dsj
>>> import jax.numpy as jnp
>>> swap = jnp.array([[0.0, 1.0], [1.0, 0.0]])
>>> jax.jvp(dsj.svdvals, (jnp.eye(2),), (swap,))[1].round(4)
Array([ 1., -1.], dtype=float32)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import linalg
from ..errors import DTypeError, MissingRuleError, ShapeError
from ..linalg.factorise import SVDResult
from ..linalg.spectral_functions import PolarResult
from . import engine
from .maps import Batch, Derivative, Function, Map, Tangent, Transpose, public

jax = engine("jax")
jnp = engine("jax.numpy")
ad, batching, mlir = (engine(f"jax.interpreters.{name}") for name in ("ad", "batching", "mlir"))
Primitive = engine("jax.extend.core").Primitive

Array = Any  # jax.Array: this module is checked without JAX


# ---------------------------------------------------------------------------------------------------------------------
# The bridge


def on_host(*xs: Any, map: Map) -> tuple[np.ndarray, ...]:
    """The map itself, on NumPy's arrays."""
    return tuple(np.asarray(y) for y in map(*(np.asarray(x) for x in xs)))


def forms(map: Map, xs: Any) -> tuple[Any, ...]:
    """Shapes and dtypes of what the map makes of operands with the shapes and dtypes of `xs`."""
    match map:
        case Function():
            (x,) = xs
            *batch, m, n = x.shape
            axes = {"m": m, "n": n, "r": min(m, n)}
            sample = map(np.ones((1, 1), dtype=x.dtype))
            shapes = [(*batch, *(axes[axis] for axis in core)) for core in map.cores[1]]
            return tuple(jax.ShapeDtypeStruct(shape, y.dtype) for shape, y in zip(shapes, sample))
        case Tangent(of, moves):
            return forms(of, xs[: len(moves)])
        case Transpose(of, moves):
            return tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x, moving in zip(xs, moves) if moving)
        case Batch(of, batched):
            size = next(x.shape[0] for x, here in zip(xs, batched) if here)
            entry = [jax.ShapeDtypeStruct(x.shape[1:] if here else x.shape, x.dtype) for x, here in zip(xs, batched)]
            return tuple(jax.ShapeDtypeStruct((size, *y.shape), y.dtype) for y in forms(of, entry))
    raise AssertionError(map)


def abstract(*xs: Any, map: Map) -> list[Any]:
    """What JAX asks for before it has numbers."""
    return [jax.core.ShapedArray(y.shape, y.dtype) for y in forms(map, xs)]


def compiled(*xs: Array, map: Map) -> tuple[Array, ...]:
    """The map in compiled code: a call back to the host."""
    return jax.pure_callback(functools.partial(on_host, map=map), forms(map, xs), *xs)


def tangent(xs: Any, dxs: Any, *, map: Map) -> tuple[Any, Any]:
    """The results and their tangents; `Zero` is JAX's tangent of an operand that does not move."""
    moves = tuple(type(dx) is not ad.Zero for dx in dxs)
    moving = [dx for dx, here in zip(dxs, moves) if here]
    return APPLY.bind(*xs, map=map), APPLY.bind(*xs, *moving, map=Tangent(map, moves))


def transpose(y_bars: Any, *operands: Any, map: Map) -> list[Any]:
    """The cotangents of the operands that are not known, in which the map is linear.

    JAX pairs x_bar with dx by Re tr(x_bar^T dx), dualsvd by Re tr(x_bar^H dx).
    """
    unknown = tuple(ad.is_undefined_primal(x) for x in operands)
    y_bars = [jnp.conj(ad.instantiate_zeros(y_bar)) for y_bar in y_bars]
    x_bars = iter(jnp.conj(x_bar) for x_bar in linear_transpose(map, operands, unknown, y_bars))
    return [next(x_bars) if here else None for here in unknown]


def linear_transpose(map: Map, operands: Any, unknown: tuple[bool, ...], y_bars: list[Any]) -> list[Any]:
    """What y_bars pull back to in dualsvd's inner product, for the unknown operands; an error if it is not linear."""
    of: Any = map
    while isinstance(of, Batch):
        of = of.of
    at, linear = of.cut(unknown) if isinstance(of, Derivative) else (unknown, ())
    if any(at):
        while not isinstance(of, Function):
            of = of.of
        raise MissingRuleError(
            f"jax.linear_transpose takes a function that is linear in its argument; {of.function.__name__} is not, nor "
            "are its derivatives in the matrix where they are taken; take jax.vjp"
        )
    match map:
        case Tangent(of, moves):
            rest = iter(linear)
            wanted = tuple(moving and next(rest) for moving in moves)
            return APPLY.bind(*map.cut(operands)[0], *y_bars, map=Transpose(of, wanted))
        case Transpose(of, moves):
            dys = APPLY.bind(*map.cut(operands)[0], *y_bars, map=Tangent(of, moves))
            return [dy for dy, here in zip(dys, linear) if here]
    zeros = [jnp.zeros(x.aval.shape, x.aval.dtype) if here else x for x, here in zip(operands, unknown)]
    return APPLY.bind(*zeros, *y_bars, map=Transpose(map, unknown))  # of a batch, by what each entry is linear in


def batched(xs: Any, dims: Any, *, map: Map) -> tuple[Any, list[int]]:
    """The map over the axes `dims`, None of an operand that has none; the results have theirs in front."""
    along = [dim is not None for dim in dims]
    size = next(x.shape[dim] for x, dim, here in zip(xs, dims, along) if here)
    wide = map.over(tuple(along))
    xs = [jnp.moveaxis(x, dim, 0) if here else x for x, dim, here in zip(xs, dims, along)]
    if wide is map:
        xs = [x if here else jnp.broadcast_to(x, (size, *x.shape)) for x, here in zip(xs, along)]
    ys = APPLY.bind(*xs, map=wide)
    return ys, [0] * len(ys)


APPLY = Primitive("dualsvd")
APPLY.multiple_results = True
APPLY.def_impl(lambda *xs, map: [jnp.asarray(y) for y in on_host(*xs, map=map)])  # errors as dualsvd raises them
APPLY.def_abstract_eval(abstract)
mlir.register_lowering(APPLY, mlir.lower_fun(compiled, multiple_results=True))
ad.primitive_jvps[APPLY] = tangent
ad.primitive_transposes[APPLY] = transpose
batching.primitive_batchers[APPLY] = batched


def apply(function: Callable[..., Any], a: Array, **params: Any) -> list[Array]:
    """A function of dualsvd on an array of JAX's."""
    a = jnp.asarray(a)
    if jnp.issubdtype(a.dtype, jnp.integer) or a.dtype == bool:
        a = a.astype(float)
    if a.dtype not in (jnp.float32, jnp.float64, jnp.complex64, jnp.complex128):
        raise DTypeError(f"a must be float32, float64, complex64 or complex128, got {a.dtype}; take a.astype(float)")
    if a.ndim < 2:
        raise ShapeError(f"a must be a matrix or a stack of matrices (at least 2 axes), got shape {a.shape}")
    for name, x in params.items():
        if isinstance(x, jax.core.Tracer):
            raise DTypeError(
                f"{name} must be known when the function is traced, got {x}; close over it, or name it in "
                "static_argnums of jax.jit"
            )
    return APPLY.bind(a, map=public(function, **params))


# ---------------------------------------------------------------------------------------------------------------------
# The functions


def svd(a: Array, full_matrices: bool = False) -> SVDResult:
    """U, S, Vh of a (..., m, n), thin by default: `dualsvd.svd`.

    Vectors that JAX has been given cannot turn with a direction. So at a tie forward mode raises DegenerateError where
    they have no tangents, and reverse mode GaugeError or DegenerateError; `svdvals` and `opnorm` are exact there.
    """
    return SVDResult(*apply(linalg.svd, a, full_matrices=full_matrices))


def svdvals(a: Array) -> Array:
    """The singular values (..., r) of a (..., m, n), descending: `dualsvd.svdvals`."""
    return apply(linalg.svdvals, a)[0]


def opnorm(a: Array) -> Array:
    """The spectral norm (...) of a (..., m, n): `dualsvd.opnorm`.

    >>> jax.grad(opnorm)(jnp.array([[3.0, 0.0], [0.0, 2.0]]))
    Array([[1., 0.],
           [0., 0.]], dtype=float32)
    """
    return apply(linalg.opnorm, a)[0]


def nuclear_norm(a: Array) -> Array:
    """The sum (...) of the singular values of a (..., m, n): `dualsvd.nuclear_norm`."""
    return apply(linalg.nuclear_norm, a)[0]


def polar(a: Array) -> PolarResult:
    """The unitary (..., m, n) and the positive polar factor (..., n, n): `dualsvd.polar`."""
    return PolarResult(*apply(linalg.polar, a))


def pinv(a: Array, rcond: float | None = None) -> Array:
    """The Moore-Penrose inverse (..., n, m) of a (..., m, n): `dualsvd.pinv`."""
    return apply(linalg.pinv, a, rcond=rcond)[0]


def low_rank(a: Array, k: int) -> Array:
    """The best approximation of a (..., m, n) of rank k: `dualsvd.low_rank`."""
    return apply(linalg.low_rank, a, k=k)[0]
