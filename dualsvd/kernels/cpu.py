"""Batches of small SVDs on the CPU: allocates, chooses the kernel by size, compiles it on first use, spreads it over
threads.

Arrays are C-contiguous, float32, float64, complex64 or complex128, with one batch axis: a (B, m, n), directions da (N,
B, m, n). Results are thin, r = min(m, n): U (B, m, r), S (B, r), Vh (B, r, n), tangents with N in front.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from .jacobi import MAX_SWEEPS

#: Batches of matrices up to this min(m, n) go lane by lane through SIMD packs, larger matrices one by one.
PACK_LIMIT = 48

#: Directions that one dual number carries; more are taken in turns.
CHUNKS = (1, 4)

#: Matrices a thread takes at least: below that starting it costs more than it saves.
MIN_PER_THREAD = 256


@dataclass(frozen=True, slots=True)
class Info:
    """How each matrix of a batch fared: sweeps until nothing changed, the largest |cos| left between two columns, what
    went wrong."""

    sweeps: np.ndarray
    off_norm: np.ndarray
    nonfinite: np.ndarray
    unconverged: np.ndarray


def svd(a: np.ndarray, *, limit: int = MAX_SWEEPS, threads: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, Info]:
    """U, S, Vh and how it went. A matrix that is not finite gives NaN, and leaves the others alone."""
    U, S, Vh = factors(a, ())
    return U, S, Vh, _run_svd(a, U, S, Vh, limit, threads)


def svdvals(a: np.ndarray, *, limit: int = MAX_SWEEPS, threads: int = 1) -> tuple[np.ndarray, Info]:
    """S and how it went."""
    U, S, Vh = factors(a[:0], ())
    S = np.empty((len(a), S.shape[1]), S.dtype)
    return S, _run_svd(a, U, S, Vh, limit, threads)


def svd_lift(a: np.ndarray, da: np.ndarray, *, limit: int = MAX_SWEEPS, threads: int = 1) -> tuple[Any, ...]:
    """U, S, Vh, dU, dS, dVh, info: the primal to the end, then one tangent sweep. At ties the basis follows the
    directions."""
    U, S, Vh, info = svd(a, limit=limit, threads=threads)
    return U, S, Vh, *lift(U, S, Vh, da, threads=threads), info


def svd_accurate(
    a: np.ndarray, *, limit: int = MAX_SWEEPS, threads: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Info]:
    """U, S, Vh and how it went, by pivoted QR and Jacobi on the triangle: S to high relative accuracy on graded
    matrices."""
    wide = a.astype(np.result_type(a, np.float64), copy=False)
    results = factors(wide, ())
    info, told = _report(len(a))
    if results[1].size:
        run, (leaf, _, lane) = _compiled().graded, _leaf_kinds(wide.dtype, 1)
        arrays = [_reals(x) for x in (wide, *results)]
        _spread(lambda begin, end: run(leaf, lane, *a.shape[1:], *arrays, *told, begin, end, limit), len(a), 1, threads)
    outcome = info()
    for x in results:
        x[outcome.nonfinite] = np.nan
    U, S, Vh = (x.astype(a.real.dtype if x.dtype.kind == "f" else a.dtype, copy=False) for x in results)
    return U, S, Vh, outcome


def svd_accurate_lift(a: np.ndarray, da: np.ndarray, *, limit: int = MAX_SWEEPS, threads: int = 1) -> tuple[Any, ...]:
    """U, S, Vh, dU, dS, dVh, info: `svd_accurate` with tangents, dS too to high relative accuracy along graded
    directions."""
    wide = np.result_type(a, np.float64)
    x, dx = a.astype(wide, copy=False), da.astype(wide, copy=False)
    U, S, Vh, info = svd_accurate(x, limit=limit, threads=threads)
    dU, dS, dVh = lift(U, S, Vh, dx, graded=True, threads=threads)
    if dS.size:
        run, kinds, sizes = _compiled().graded_slopes, _dual_kinds(wide, len(da)), (*a.shape[1:], len(a), len(da))
        arrays = [_reals(y) for y in (x, dx, dS)]
        _spread(lambda begin, end: run(*kinds, *sizes, *arrays, begin, end, limit), len(a), 1, threads)
    results = (U, S, Vh, dU, dS, dVh)
    return *(y.astype(a.real.dtype if y.dtype.kind == "f" else a.dtype, copy=False) for y in results), info


def lift(
    U: np.ndarray, S: np.ndarray, Vh: np.ndarray, da: np.ndarray, *, graded: bool = False, threads: int = 1
) -> tuple[Any, ...]:
    """dU, dS, dVh of finished SVDs by one tangent sweep. At ties U and Vh are turned, in place, to follow the
    directions.

    If `graded`, small values are no noise: only equal ones are tied, and only zero is zero.
    """
    dU, dS, dVh = (np.zeros((len(da), *x.shape), x.dtype) for x in (U, S, Vh))
    if da.size:
        run, kinds, sizes = _compiled().lift, _dual_kinds(U.dtype, len(da)), (U.shape[1], Vh.shape[2], len(U), len(da))
        arrays = [_reals(x) for x in (U, S, Vh, da, dU, dS, dVh)]
        _spread(lambda begin, end: run(*kinds, *sizes, graded, *arrays, begin, end), len(U), 1, threads)
    return dU, dS, dVh


def svd_sweeps(a: np.ndarray, da: np.ndarray, *, limit: int = MAX_SWEEPS, threads: int = 1) -> tuple[Any, ...]:
    """U, S, Vh, dU, dS, dVh, info: tangents carried through every rotation; bases at ties as in `svd_lift`."""
    if not da.size:
        U, S, Vh, info = svd(a, limit=limit, threads=threads)
        return U, S, Vh, *factors(a, (len(da),)), info
    results = *factors(a, ()), *factors(a, (len(da),))
    info, told = _report(len(a))
    run, kinds, sizes = _compiled().sweeps, _dual_kinds(a.dtype, len(da)), (*a.shape[1:], len(a), len(da))
    arrays = [_reals(x) for x in (a, da, *results)]
    _spread(lambda begin, end: run(*kinds, *sizes, *arrays, *told, begin, end, limit), len(a), 1, threads)
    outcome = info()
    for k, x in enumerate(results):
        x[(slice(None),) * (k > 2) + (outcome.nonfinite,)] = np.nan
    return *results, outcome


def svd_pushforward(
    U: np.ndarray, S: np.ndarray, Vh: np.ndarray, da: np.ndarray, *, out: Any = None, threads: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dU, dS, dVh along da (N, B, m, n) by the closed form, into `out` if given. Quotients at ties and zeros count as
    0."""
    dU, dS, dVh = out or tuple(np.empty((len(da), *x.shape), x.dtype) for x in (U, S, Vh))
    if da.size:
        run, lanes, sizes = _compiled().pushforward, _lanes(da[0]), (*da.shape[2:], len(U), len(da))
        arrays = [_reals(x) for x in (U, S, Vh, da, dU, dS, dVh)]
        kinds = _leaf_kinds(U.dtype, lanes)
        _spread(lambda begin, end: run(*kinds, *sizes, *arrays, begin, end), len(U), lanes, threads)
    return dU, dS, dVh


def svd_pullback(
    U: np.ndarray,
    S: np.ndarray,
    Vh: np.ndarray,
    U_bar: np.ndarray | None,
    S_bar: np.ndarray | None,
    Vh_bar: np.ndarray | None,
    *,
    out: np.ndarray | None = None,
    threads: int = 1,
) -> np.ndarray:
    """The cotangent of the matrices, into `out` if given; None is a zero cotangent. Quotients at ties and zeros count
    as 0."""
    bars = [np.zeros_like(x) if bar is None else bar for x, bar in zip((U, S, Vh), (U_bar, S_bar, Vh_bar))]
    a_bar = np.empty((len(U), U.shape[1], Vh.shape[2]), U.dtype) if out is None else out
    if S.size:
        run, lanes, sizes = _compiled().pullback, _lanes(a_bar), (U.shape[1], Vh.shape[2])
        arrays = [_reals(x) for x in (U, S, Vh, *bars, a_bar)]
        kinds = _leaf_kinds(U.dtype, lanes)
        _spread(lambda begin, end: run(*kinds, *sizes, *arrays, begin, end), len(U), lanes, threads)
    return a_bar


def factors(a: np.ndarray, leading: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Uninitialised U, S, Vh for a batch, with leading axes."""
    batch, m, n = a.shape
    r = min(m, n)
    real = a.real.dtype
    return (
        np.empty((*leading, batch, m, r), a.dtype),
        np.empty((*leading, batch, r), real),
        np.empty((*leading, batch, r, n), a.dtype),
    )


def _run_svd(a: np.ndarray, U: np.ndarray, S: np.ndarray, Vh: np.ndarray, limit: int, threads: int) -> Info:
    info, told = _report(len(a))
    if S.size:
        run = _compiled().svd
        lanes = _lanes(a)
        kinds = _leaf_kinds(a.dtype, lanes)
        arrays = [_reals(x) for x in (a, U, S, Vh)]
        _spread(lambda begin, end: run(*kinds, *a.shape[1:], *arrays, *told, begin, end, limit), len(a), lanes, threads)
    return info()


def _report(batch: int) -> tuple[Any, tuple[np.ndarray, ...]]:
    """A maker of Info, and the arrays that a kernel fills for it."""
    sweeps, off_norm, flags = np.zeros(batch, np.int64), np.zeros(batch), np.zeros(batch, np.uint8)

    def info() -> Info:
        from .compiled import NONFINITE, UNCONVERGED

        return Info(sweeps, off_norm, (flags & NONFINITE) != 0, (flags & UNCONVERGED) != 0)

    return info, (sweeps, off_norm, flags)


def _compiled() -> Any:
    """The kernels; Numba is imported here, on first use."""
    from . import compiled

    return compiled


@functools.cache
def _kind(dtype: np.dtype, partials: int, lanes: int) -> Any:
    from .scalars import Kind

    return Kind(dtype, (partials,) if partials else (), lanes)


def _leaf_kinds(dtype: np.dtype, lanes: int) -> tuple[Any, ...]:
    """The kinds of entries, of reals, and of one lane of reals."""
    real = np.empty(0, dtype).real.dtype
    return _kind(dtype, 0, lanes), _kind(real, 0, lanes), _kind(real, 0, 1)


def _dual_kinds(dtype: np.dtype, directions: int) -> tuple[Any, ...]:
    real = np.empty(0, dtype).real.dtype
    partials = next((c for c in CHUNKS if c >= directions), CHUNKS[-1])
    return _kind(dtype, partials, 1), _kind(real, partials, 1), _kind(dtype, 0, 1), _kind(real, 0, 1)


def _lanes(a: np.ndarray) -> int:
    """Matrices side by side: as many as fill a cache line, one where packs do not pay."""
    return 64 // a.real.itemsize if len(a) > 1 and min(a.shape[1:]) <= PACK_LIMIT else 1


def _reals(x: np.ndarray) -> np.ndarray:
    """x as a flat array of reals."""
    return x.reshape(-1).view(x.real.dtype)


def _spread(run: Any, batch: int, lanes: int, threads: int) -> None:
    """run(begin, end) over the batch, cut between packs, in up to `threads` threads: the kernels hold no lock."""
    parts = max(1, min(threads, batch // MIN_PER_THREAD))
    if parts == 1:
        run(0, batch)
        return
    packs = -(-batch // lanes)
    cuts = [min(packs * i // parts * lanes, batch) for i in range(parts + 1)]
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(run, cuts[:-1], cuts[1:]))
