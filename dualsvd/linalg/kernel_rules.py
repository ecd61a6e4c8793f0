"""The rules of the SVD where compiled kernels do better than NumPy, or other things.

Stacks of small matrices (the closed forms, in SIMD packs), tangents carried through every rotation (the
independent way to the same result), and graded matrices (each derivative to high accuracy relative to itself).
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ..outputs import stacked
from ..rules.levels import need_all_directions
from ..rules.registry import primal
from ..settings import Options, get
from .degeneracy import BADLY_GRADED, GRADED, Spectrum, meet_tie, spectrum
from .dispatch import way_for
from .factorise import SVDResult, finite_part, spoil
from .kernel_calls import (
    check_converged,
    kernels,
    stack_of,
    stack_of_directions,
    threads,
)
from .matrices import flat, is_plain
from .ties import Unresolved, lost_directions

#: Entries from which on dyads are worth a kernel, which takes a third to a quarter of NumPy's time; and from which on
#: they are worth loading one.
SOME, MANY = 1 << 15, 1 << 18


def fusible(options: Options, U: Any, *others: Any) -> bool:
    """Whether the kernels take this one: a stack of small plain matrices, ties and zeros measured against s_1."""
    return (
        options.algorithm != "jacobi"
        and not options.refine
        and is_plain(U, *others)
        and way_for("closed forms", U.shape, U.dtype.char) == "packs"
    )


# The second result says whether that is the whole derivative: no tie, no zero, no NaN in any matrix, no phase that
# matters. Where it is not, quotients at ties and zeros count as 0.


def push_fused(U: Any, S: Any, Vh: Any, dA: Any, out: Any = None) -> tuple[tuple[Any, Any, Any], bool]:
    """(dU, dS, dVh) by (1)-(5), perhaps in `out`."""
    N, stacks = len(dA), stacks_of(U, S, Vh)
    directions = stack_of_directions((*U.shape[:-1], Vh.shape[-1]), U.dtype, dA)
    place = stacked(out, (2, 1, 2), (U, S, Vh, dA), leading=1)
    (dU, dS, dVh), whole = kernels().svd_pushforward(*stacks, directions, out=place, threads=threads(get()))
    return (dU.reshape(N, *U.shape), dS.reshape(N, *S.shape), dVh.reshape(N, *Vh.shape)), whole


def slopes_fused(U: Any, S: Any, Vh: Any, dA: Any) -> tuple[Any, bool]:
    """dS by (1)."""
    directions = stack_of_directions((*U.shape[:-1], Vh.shape[-1]), U.dtype, dA)
    dS, whole = kernels().svd_slopes(*stacks_of(U, S, Vh), directions, threads=threads(get()))
    return dS.reshape(len(dA), *S.shape), whole


def pull_fused(U: Any, S: Any, Vh: Any, U_bar: Any, S_bar: Any, Vh_bar: Any, out: Any = None) -> tuple[Any, bool]:
    """A_bar by (6)-(7), perhaps in `out`."""

    def stacked_like(x: Any, like: Any, axes: int) -> Any:
        if x is None:
            return None
        x = np.asarray(x, dtype=like.dtype)
        if x.shape != like.shape:
            x = np.broadcast_to(x, like.shape)
        return flat(x, S.shape[:-1], axes)

    bars = [stacked_like(x, like, axes) for x, like, axes in ((U_bar, U, 2), (S_bar, S, 1), (Vh_bar, Vh, 2))]
    place = None if out is None else stacked((out,), (2,), (U, S, Vh, U_bar, S_bar, Vh_bar))
    A_bar, whole = kernels().svd_pullback(*stacks_of(U, S, Vh), *bars, out=place and place[0], threads=threads(get()))
    return A_bar.reshape(*U.shape[:-1], Vh.shape[-1]), whole


def stacks_of(U: Any, S: Any, Vh: Any) -> tuple[Any, Any, Any]:
    """The factors with one batch axis."""
    return flat(U, U.shape[:-2], 2), flat(S, S.shape[:-1], 1), flat(Vh, Vh.shape[:-2], 2)


def each_dyad(U: Any, Vh: Any, out: Any = None) -> Any:
    """u_i v_i^T of one plain matrix for every i, (r, m, n), perhaps in `out`."""
    arrays = (U, Vh) if out is None else (U, Vh, out)
    least = SOME if "numba" in sys.modules else MANY
    large = U.size * Vh.shape[-1] >= least and U.dtype == Vh.dtype and U.dtype.kind == "f"
    if large and all(x.flags.c_contiguous for x in arrays):
        from ..kernels import memory_bound  # brings in Numba

        if memory_bound.compiles():
            return memory_bound.each_dyad(U, Vh, out)
    return np.einsum("ki,il->ikl", U, Vh, out=out)


def svd_sweeps(a: Any, dA: Any, options: Options) -> tuple[SVDResult, tuple[Any, Any, Any]]:
    """The independent way to the same tangents: dual numbers through the hand-written iteration."""
    finite, bad = finite_part(a, options)
    batch, (m, n), N = a.shape[:-2], a.shape[-2:], dA.shape[0]
    r = min(m, n)
    directions = stack_of_directions(a.shape, a.dtype, dA)
    U, S, Vh, dU, dS, dVh, info = kernels().svd_sweeps(stack_of(finite), directions, threads=threads(options))
    check_converged(info, 'tangents="closed-form"')
    y = SVDResult(*spoil((U.reshape(*batch, m, r), S.reshape(*batch, r), Vh.reshape(*batch, r, n)), bad))
    at = spectrum(y.S, options)
    dy = (dU.reshape(N, *batch, m, r), dS.reshape(N, *batch, r), dVh.reshape(N, *batch, r, n))
    if bad is not None:
        dy = spoil(dy, np.broadcast_to(bad, (N, *batch)))
    if np.any(at.degenerate):
        meet_tie(y.S, at, options)
        need_all_directions(dA)
        message = lost_directions(y, dA, at)
        if message is not None:
            return y, (Unresolved(dy[0], message), dy[1], Unresolved(dy[2], message))
    return y, dy


def swept_slopes(a: Any, dA: Any, options: Options) -> Any:
    """The tangents of the singular values alone, carried through every rotation."""
    return svd_sweeps(a, dA, options)[1][1]


def graded(S: Any, a: Any, dA: Any, options: Options, span: float = GRADED) -> bool:
    """Whether accuracy relative to each value is asked for, and Re u^H dA v may not have it.

    The tiny components of u and v, which a graded dA multiplies by huge entries, are not known relative to themselves.
    """
    if options.algorithm != "jacobi":
        return False
    traced, S = not is_plain(a, dA), primal(S)
    if not np.any(S[..., -1:] < span * S[..., :1]) or not np.isfinite(primal(a)).all():
        return False
    return not (traced and np.any(spectrum(S, options).degenerate))  # an outer direction may have turned the tie


def sharpened(S: Any, a: Any, dA: Any, dS: Any, options: Options) -> Any:
    """dS, each right relative to itself where the matrix is graded and accuracy of that kind is asked for."""
    return graded_slopes(a, dA, dS, options) if graded(S, a, dA, options) else dS


def graded_slopes(a: Any, dA: Any, dS: Any, options: Options) -> Any:
    """dS with tangents carried through a pivoted QR, and the derivative taken at the triangular factor.

    Of traced dS that is the primal; what outer derivatives make of Re u^H dA v stays.
    """
    if not is_plain(a, dA, dS):
        plain = primal(dS)
        return dS - plain + graded_slopes(primal(a), primal(dA), plain, options)
    double = np.result_type(a, np.float64)
    sharp = flat(np.array(dS, np.float64, order="C"), dS.shape[1:-1], 1, 1)
    directions = stack_of_directions(a.shape, double, dA)
    kernels().sharpen_slopes(stack_of(a.astype(double, copy=False)), directions, sharp, threads=threads(options))
    return sharp.reshape(dS.shape).astype(dS.dtype, copy=False)


def graded_dyads(a: Any, S: Any, J: Any, at: Spectrum, options: Options) -> Any:
    """The dyads J (..., r, m, n), with every entry the slope along it where that is worth it and no values meet; in
    place, row after row."""
    if not graded(S, a, a, options, BADLY_GRADED):
        return J
    if np.any(at.degenerate):
        simple = ~at.degenerate
        J[simple] = graded_dyads(a[simple], S[simple], J[simple], at.of(simple), options)
        return J
    n = a.shape[-1]
    for k in range(a.shape[-2]):
        D = np.zeros((n, *a.shape), a.dtype)
        D[np.arange(n), ..., k, np.arange(n)] = 1
        J[..., k, :] = np.moveaxis(graded_slopes(a, D, np.moveaxis(J[..., k, :], -1, 0), options), 0, -1)
    return J
