"""dualsvd's functions as primitives of HIPS autograd, in reverse mode and in forward mode, at every order.

Where autograd has no rule (the spectral norm, `cond`, anything of the SVD in forward mode), or NaN at repeated and zero
singular values, these have dualsvd's. Autograd's gradient of a complex argument is the conjugate of dualsvd's.

>>> import autograd, autograd.numpy as anp, dualsvd.interop.autograd as dsa
>>> autograd.grad(lambda W: dsa.nuclear_norm(W @ W))(anp.eye(2))
array([[2., 0.],
       [0., 2.]])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import linalg
from ..linalg.factorise import SVDResult
from ..linalg.spectral_functions import PolarResult
from . import engine
from .maps import Map, Memory, Tangent, Transpose, public, remembering

anp = engine("autograd.numpy")
extend = engine("autograd.extend")
tracer = engine("autograd.tracer")


# ---------------------------------------------------------------------------------------------------------------------
# The bridge


@extend.primitive
def apply_map(map: Map, memory: Memory | None, *xs: Any) -> tuple[Any, ...]:
    """A map on arrays, or on boxes of autograd's."""
    with remembering(memory):
        return map(*xs)


FIRST = 2  # where the operands begin among the arguments of `apply_map`


def pullback(argnums: tuple[int, ...], ys: Any, args: tuple[Any, ...], kwargs: Any) -> Callable[..., Any]:
    """Autograd pairs x_bar with dx by Re tr(x_bar^T dx), dualsvd by Re tr(x_bar^H dx)."""
    map, memory, *xs = args
    wanted = tuple(i + FIRST in argnums for i in range(len(xs)))

    def pull(y_bars: Any) -> tuple[Any, ...]:
        conjugate = [anp.conj(y_bars[k]) for k in range(len(ys))]
        x_bars = apply_map(Transpose(map, wanted), memory, *xs, *conjugate)
        return tuple(anp.conj(x_bars[k]) for k in range(len(argnums)))

    return pull


def pushforward(argnums: tuple[int, ...], dxs: Any, ys: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    """The tangents of the results, dxs being those of the operands `argnums`."""
    map, memory, *xs = args
    moves = tuple(i + FIRST in argnums for i in range(len(xs)))
    return apply_map(Tangent(map, moves), memory, *xs, *dxs)


extend.defvjp_argnums(apply_map, pullback)
extend.defjvp_argnums(apply_map, pushforward)


def apply(function: Callable[..., Any], *xs: Any, **params: Any) -> Any:
    """A function of dualsvd: a tuple of what it returns."""
    memory = Memory() if any(tracer.isbox(x) for x in xs) else None
    return apply_map(public(function, **params), memory, *xs)


# ---------------------------------------------------------------------------------------------------------------------
# The functions


def svd(a: Any, full_matrices: bool = False) -> SVDResult:
    """U, S, Vh of a (..., m, n), thin by default: `dualsvd.svd`.

    Vectors that have been given cannot turn with a direction. So at a tie forward mode raises DegenerateError where
    they have no tangents, and reverse mode GaugeError or DegenerateError; the other functions are exact there.
    """
    y = apply(linalg.svd, a, full_matrices=full_matrices)
    return SVDResult(y[0], y[1], y[2])


def svdvals(a: Any) -> Any:
    """The singular values (..., r) of a (..., m, n), descending: `dualsvd.svdvals`."""
    return apply(linalg.svdvals, a)[0]


def opnorm(a: Any) -> Any:
    """The spectral norm (...) of a (..., m, n): `dualsvd.opnorm`."""
    return apply(linalg.opnorm, a)[0]


def nuclear_norm(a: Any) -> Any:
    """The sum (...) of the singular values of a (..., m, n): `dualsvd.nuclear_norm`."""
    return apply(linalg.nuclear_norm, a)[0]


def norm(a: Any, ord: Any = None) -> Any:
    """A norm (...) of the matrices a (..., m, n), of any order that `dualsvd.norm` knows."""
    return apply(linalg.norm, a, ord=ord)[0]


def cond(a: Any, p: Any = None) -> Any:
    """The condition number (...) of a (..., m, n): `dualsvd.cond`."""
    return apply(linalg.cond, a, p=p)[0]


def pinv(a: Any, rcond: float | None = None) -> Any:
    """The Moore-Penrose inverse (..., n, m) of a (..., m, n): `dualsvd.pinv`."""
    return apply(linalg.pinv, a, rcond=rcond)[0]


def polar(a: Any) -> PolarResult:
    """The unitary (..., m, n) and the positive polar factor (..., n, n): `dualsvd.polar`."""
    y = apply(linalg.polar, a)
    return PolarResult(y[0], y[1])


def low_rank(a: Any, k: int) -> Any:
    """The best approximation of a (..., m, n) of rank k: `dualsvd.low_rank`."""
    return apply(linalg.low_rank, a, k=k)[0]


def range_projector(a: Any, k: int) -> Any:
    """The projector (..., m, m) on the span of the first k left singular vectors: `dualsvd.range_projector`."""
    return apply(linalg.range_projector, a, k=k)[0]
