"""dualsvd's functions on Dask arrays: batches in many chunks, and matrices too tall for one machine.

Stacks of matrices (..., m, n) whose matrices lie whole in their chunks go chunk by chunk. A single matrix cut into
blocks of rows, tall and skinny, is first brought to the size of its columns by a QR that Dask spreads over the cluster
(TSQR, Demmel et al. 2012), and what dualsvd does to the small factor is carried back:

    A = Q B                       singular values and norms of A are those of B, U = Q U_B
    [U dA] = Q [U_B dA_B]         dU = Q dU_B, and dS, dVh are those of the small problem
    [U U_bar] = Q [U_B Ubar_B]    A_bar = Q A_bar_B

The last two say that a derivative never leaves the span of the columns at hand. So the rules of the small problem are
the rules of the large one, at repeated and zero singular values too. A matrix in blocks of columns is the adjoint of
one in blocks of rows.

>>> import dask.array as da, dualsvd.interop.dask as dsd
>>> a = da.ones((1000, 3), chunks=(100, 3))
>>> bool(abs(dsd.opnorm(a).compute() - 3000**0.5) < 1e-12)
True
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import linalg
from ..errors import DualSVDError, ShapeError
from ..linalg.factorise import SVDResult
from ..linalg.spectral_functions import PolarResult, of_rank
from ..linalg.svd import together
from ..rules.registry import as_inexact
from ..settings import get, resolve
from . import engine
from .maps import SIGNATURES, Function

da = engine("dask.array")

Array = Any  # dask.array.Array: this module is checked without Dask


# ---------------------------------------------------------------------------------------------------------------------
# How the matrices lie


def layout(a: Array, name: str = "a") -> str:
    """How the matrices are to be taken: "whole", or in blocks of "rows" or of "columns".

    "whole" is also said of one that is cut across its short side or is nearly square: `by_chunk` rechunks it.
    """
    if not isinstance(a, da.Array) or a.ndim < 2:
        raise ShapeError(f"{name} must be a Dask array with at least 2 axes, got {type(a).__name__} of {np.shape(a)}")
    as_inexact(np.empty(0, a.dtype), name)  # refuses what has no derivative
    (m, n), (rows, columns) = a.shape[-2:], a.numblocks[-2:]
    if np.isnan(m + n):
        raise ShapeError(f"{name} has chunks of unknown size, {a.chunks}; call {name}.compute_chunk_sizes() before")
    if rows == columns == 1:
        return "whole"
    if a.ndim > 2 or min(rows, columns) > 1:
        raise ShapeError(
            f"{name} must have its matrices whole in their chunks, or be one matrix in blocks of rows or of columns, "
            f"got chunks {a.chunks}; rechunk it with {name}.rechunk({{-2: -1, -1: -1}})"
        )
    thin = columns > 1 if m > n else rows > 1  # cut across its short side: a block of the whole length is there anyway
    if thin or max(m, n) < 2 * min(m, n):  # or no larger than the problem that it would be brought to
        return "whole"
    return "rows" if columns == 1 else "columns"


def adjoint(a: Array) -> Array:
    """a^H."""
    return da.conj(da.swapaxes(a, -1, -2))


def on_chunk(f: Function, *blocks: Any) -> Any:
    """A function of dualsvd on one chunk; errors say that the places they name are places there."""
    try:
        ys = f(*blocks)
    except DualSVDError as error:
        where = "in a chunk (of a matrix in blocks: in the small factor of its QR)"
        raise type(error)(f"{where}: {error}") from None
    return ys[0] if len(ys) == 1 else ys


def by_chunk(function: Callable[..., Any], *xs: Array, **params: Any) -> Any:
    """A function of dualsvd on every chunk: one array, or a tuple of them."""
    one_thread = resolve(threads=get().threads or 1)  # the cores are Dask's to share out
    f = Function(function, SIGNATURES[function], tuple(params.items()), one_thread)
    xs = tuple(map(da.asarray, xs))
    inputs, outputs = f.cores
    sample = f(*(np.ones((1,) * len(core), dtype=x.dtype) for core, x in zip(inputs, xs)))
    metas = tuple(np.empty((0,) * np.ndim(y), dtype=y.dtype) for y in sample)
    full = all(x.size for x in xs)  # Dask divides by the sizes of chunks to cut them anew
    return da.apply_gufunc(
        functools.partial(on_chunk, f),
        f.signature,
        *(xs if full else (x.rechunk(-1) for x in xs)),
        meta=metas[0] if len(outputs) == 1 else metas,
        output_sizes={"r": min(xs[0].shape[-2:])},
        allow_rechunk=full,
    )


def tall(*columns: Array) -> tuple[Array, list[Array]]:
    """Q with orthonormal columns, and B with columns = Q B, for arrays of as many rows."""
    columns = tuple(map(da.asarray, columns))
    if any(c.ndim != 2 or len(c) != len(columns[0]) for c in columns):
        raise ShapeError(
            f"a matrix in blocks takes one direction or cotangent at a time, with {len(columns[0])} rows as it has; "
            f"got shapes {[c.shape for c in columns]}"
        )
    rows = columns[0].chunks[0]
    side_by_side = da.concatenate([c.rechunk({0: rows}) for c in columns], axis=1).rechunk({1: -1})
    Q, R = da.linalg.tsqr(side_by_side)
    ends = np.cumsum([c.shape[1] for c in columns])
    return Q, [R[:, end - c.shape[1] : end] for c, end in zip(columns, ends)]


def small(a: Array) -> Array:
    """Whole matrices with the singular values of a."""
    match layout(a):
        case "whole":
            return a
        case "columns":
            a = adjoint(a)
    return tall(a)[1][0]


# ---------------------------------------------------------------------------------------------------------------------
# The functions


def svd(a: Array) -> SVDResult:
    """U, S, Vh of a (..., m, n), thin: `dualsvd.svd`. U lies as a does."""
    match layout(a):
        case "whole":
            return SVDResult(*by_chunk(linalg.svd, a))
        case "columns":
            V, S, Uh = svd(adjoint(a))
            return SVDResult(adjoint(Uh), S, adjoint(V))
    Q, (B,) = tall(a)
    U, S, Vh = svd(B)
    return SVDResult(Q @ U, S, Vh)


def svdvals(a: Array) -> Array:
    """The singular values (..., r) of a (..., m, n), descending: `dualsvd.svdvals`."""
    return by_chunk(linalg.svdvals, small(a))


def opnorm(a: Array) -> Array:
    """The spectral norm (...) of a (..., m, n): `dualsvd.opnorm`."""
    return by_chunk(linalg.opnorm, small(a))


def nuclear_norm(a: Array) -> Array:
    """The sum (...) of the singular values of a (..., m, n): `dualsvd.nuclear_norm`."""
    return by_chunk(linalg.nuclear_norm, small(a))


def polar(a: Array) -> PolarResult:
    """The unitary (..., m, n) and the positive polar factor (..., n, n): `dualsvd.polar`.

    A matrix in blocks of columns is refused: its positive factor would be n x n.
    """
    if layout(a) == "whole":
        return PolarResult(*by_chunk(linalg.polar, a))
    if layout(a) == "columns":
        raise ShapeError(f"the positive factor of a matrix of {a.shape[1]} columns is too large; take polar of a^H")
    Q, (B,) = tall(a)
    unitary, positive = polar(B)
    return PolarResult(Q @ unitary, positive)


def pinv(a: Array, rcond: float | None = None) -> Array:
    """The Moore-Penrose inverse (..., n, m) of a (..., m, n): `dualsvd.pinv`."""
    if rcond is not None and np.ndim(rcond):
        raise ShapeError(f"rcond must be one number for all chunks, got shape {np.shape(rcond)}")
    match layout(a):
        case "whole":
            return by_chunk(linalg.pinv, a, rcond=rcond)
        case "columns":
            return adjoint(pinv(adjoint(a), rcond))
    Q, (B,) = tall(a)
    return pinv(B, rcond) @ adjoint(Q)


def low_rank(a: Array, k: int) -> Array:
    """The best approximation of a (..., m, n) of rank k: `dualsvd.low_rank`."""
    lies = layout(a)
    of_rank(a, k)  # refuses a k that is no rank, with the size of a in mind rather than that of a chunk
    match lies:
        case "whole":
            return by_chunk(linalg.low_rank, a, k=k)
        case "columns":
            return adjoint(low_rank(adjoint(a), k))
    Q, (B,) = tall(a)
    return Q @ low_rank(B, k)


# ---------------------------------------------------------------------------------------------------------------------
# Both modes


def factors_lie(U: Array, S: Array, Vh: Array) -> str:
    """How a matrix lies that has these factors: cut into "rows" if U is, into "columns" if Vh is, or "whole"."""
    of_U, of_Vh = layout(U, "U"), layout(Vh, "Vh")
    together(U.shape, np.shape(S), Vh.shape)
    return of_U if of_Vh == "whole" else "columns"  # not both: U or Vh is square


def svd_pushforward(U: Array, S: Array, Vh: Array, dA: Array) -> tuple[Array, Array, Array]:
    """(dU, dS, dVh) along dA, which has the shape of the matrix: `dualsvd.svd_pushforward`."""
    lies = factors_lie(U, S, Vh)
    if lies == "columns":
        dV, dS, dUh = svd_pushforward(adjoint(Vh), S, adjoint(U), adjoint(dA))
        return adjoint(dUh), dS, adjoint(dV)
    if lies == "whole":
        return by_chunk(linalg.svd_pushforward, U, S, Vh, dA)
    Q, (U, dA) = tall(U, dA)
    dU, dS, dVh = svd_pushforward(U, S, Vh, dA)
    return Q @ dU, dS, dVh


def svd_pullback(
    U: Array,
    S: Array,
    Vh: Array,
    U_bar: Array | None = None,
    S_bar: Array | None = None,
    Vh_bar: Array | None = None,
) -> Array:
    """A_bar from the cotangents of the factors, None for zero: `dualsvd.svd_pullback`.

    The gradient of a function of the singular values alone is `svd_pullback(U, S, Vh, None, S_bar)`.
    """
    U_bar, S_bar, Vh_bar = (
        da.zeros_like(x) if bar is None else bar for x, bar in zip((U, S, Vh), (U_bar, S_bar, Vh_bar))
    )
    lies = factors_lie(U, S, Vh)
    if lies == "columns":
        return adjoint(svd_pullback(adjoint(Vh), S, adjoint(U), adjoint(Vh_bar), S_bar, adjoint(U_bar)))
    if lies == "whole":
        return by_chunk(linalg.svd_pullback, U, S, Vh, U_bar, S_bar, Vh_bar)
    Q, (U, U_bar) = tall(U, U_bar)
    return Q @ svd_pullback(U, S, Vh, U_bar, S_bar, Vh_bar)
