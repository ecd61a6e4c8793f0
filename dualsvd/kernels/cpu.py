"""Batches of small SVDs on the CPU: allocates, chooses the kernel by size, and spreads it over threads.

Arrays are C-contiguous, float32, float64, complex64 or complex128, with one batch axis: a (B, m, n), directions
da (N, B, m, n). Results are thin, r = min(m, n): U (B, m, r), S (B, r), Vh (B, r, n), tangents with N in front.
Numba is imported, and a kernel compiled or read from its cache, at the first call that needs it.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .caching import need_compiler
from .jacobi import MAX_SWEEPS, tie_tolerance
from .memory import keep_freed_memory
from .verdicts import FAR, NONFINITE, UNCONVERGED, VERDICT

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

#: Batches of matrices up to this min(m, n) go lane by lane through SIMD packs, larger matrices one by one.
PACK_LIMIT = 64

#: The same where S alone is wanted by way of a bidiagonal matrix, which is so beyond min(m, n) = BY_ROTATIONS. Up to
#: there Jacobi is faster than LAPACK by far, and gives more digits of the values of graded columns; beyond it is not.
VALUES_LIMIT = 192
BY_ROTATIONS = 24

#: Sizes with a kernel of their own: 1.2 to 1.9 times faster, at the price of compiling it. From 8 x 8 it does not pay.
FIXED = ((2, 2), (3, 3), (4, 4))

#: Matrices from which a pack is filled up rather than taking them one by one.
MIN_PER_PACK = 3

#: Bytes of real A and V in packs of two registers, beyond which SVDs go by packs of one register: those take half as
#: much of the second cache. 1.2 times faster at 48 x 48, 1.4 at 64 x 64 on an Intel Xeon, a few percent on a Zen 4.
NEAR = 1 << 18

#: The same of A alone, where no V is wanted.
NEAR_ALONE = 1 << 19

#: Registers that hold rows of one column: sums of four columns at a time are chains enough.
ROW_REGISTERS = 1

#: Tiles of one matrix, of four pairs of columns each, that are under way at a time.
FRONT = 8

#: Directions that one dual number carries; more are taken in turns.
CHUNKS = (1, 4)

#: Work for which a second thread is woken, in units of m n min(m, n): an SVD takes about 1.5 ns for each, and to wake
#: a thread some 20 us.
GRAIN = 1 << 16

#: An SVD by way of a QR factorisation, and each direction carried through the sweeps, counts for so many plain ones. It
#: takes 3 to 70 times as long, by size: when to wake a second thread is a question of the order of magnitude.
COSTLY = 10

#: U, S, Vh, or their tangents.
Factors = tuple[np.ndarray, np.ndarray, np.ndarray]


class Info:
    """How each matrix of a batch fared, worked out when it is asked for.

    clean        whether there is nothing to tell: all converged, all were finite
    sweeps       until nothing changed, that last one included
    off_norm     the largest |cos| between two columns that is left, or |e| / |B| above the diagonal of a bidiagonal B;
                 0 where it has converged
    nonfinite    whether NaN or infinity was there: all results are NaN
    unconverged  whether it still changed at the bound
    """

    __slots__ = ("_told", "clean")

    def __init__(self, told: np.ndarray, clean: bool) -> None:
        self._told, self.clean = told, clean

    @property
    def sweeps(self) -> np.ndarray:
        return self._told[0].astype(np.int64) % VERDICT + ~self.unconverged

    @property
    def off_norm(self) -> np.ndarray:
        return np.sqrt(np.where(self.unconverged, self._told[1], 0))

    @property
    def nonfinite(self) -> np.ndarray:
        return _verdicts(self._told) & NONFINITE != 0

    @property
    def unconverged(self) -> np.ndarray:
        return _verdicts(self._told) & UNCONVERGED != 0


def _verdicts(told: np.ndarray) -> np.ndarray:
    return told[0].astype(np.int64) // VERDICT


# ---- SVDs


def svd(
    a: np.ndarray, *, out: Factors | None = None, limit: int = MAX_SWEEPS, threads: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Info]:
    """U, S, Vh, in `out` if given, and how it went. A matrix that is not finite gives NaN, and leaves the others
    alone."""
    (U, S, Vh), info = _by_lanes("svd", a, _lanes(a, _registers(*a.shape[1:])), factors, out, limit, threads)
    return U, S, Vh, info


def svdvals(
    a: np.ndarray, *, out: np.ndarray | None = None, limit: int = MAX_SWEEPS, threads: int = 1
) -> tuple[np.ndarray, Info]:
    """S, in `out` if given, and how it went. By way of a bidiagonal matrix errors are some eps of s_1, and `limit` is
    for each value (VERDICT - 1 for all of them at most)."""
    m, n = a.shape[1:]
    if min(m, n) > BY_ROTATIONS:
        lanes = _lanes(a, 2 if 2 * m * n * _register() <= NEAR_ALONE else 1, VALUES_LIMIT)
        if lanes > 1:
            alone, limit = None if out is None else (out,), min(limit * min(m, n), VERDICT - 1)
            (S,), info = _by_lanes("values", a, lanes, lambda full: (_values(full),), alone, limit, threads)
            return S, info
    between = None if out is None else _values_only(a, out)
    (_, S, _), info = _by_lanes("svd", a, _lanes(a, _registers(m, n)), _values_only, between, limit, threads)
    return S, info


def _by_lanes(
    kernel: str, a: np.ndarray, lanes: int, fresh: Any, out: Any, limit: int, threads: int
) -> tuple[tuple[np.ndarray, ...], Info]:
    """What a kernel computes of a, in `out` if given, else in what `fresh` makes for a batch; and how it went."""
    batch, sizes, full = len(a), a.shape[1:], _filled(a, lanes)
    results = fresh(full) if out is None else tuple(_filled(x, lanes) for x in out)
    told, anything = np.empty((2, len(full)), a.real.dtype), False
    if a.size:
        kinds, arguments = _leaf_kinds(a.dtype, lanes), (*_sizes(*sizes, lanes), *map(_reals, (full, *results, told)))
        anything = _run(kernel, kinds, arguments, len(full), _work(*sizes), lanes, threads, limit)
    else:
        told[...] = 0
    if out is not None:
        _hand_over(results, out, 0)
        results = out
    elif len(full) > batch:
        results = tuple(x[:batch] for x in results)
    return results, Info(told[:, :batch], not anything)


def svd_bidiagonal(
    a: np.ndarray, *, out: Factors | None = None, limit: int = MAX_SWEEPS, threads: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Info]:
    """`svd`, one matrix after the other in packs of rows, by way of a bidiagonal matrix; `limit` as in `svdvals`. All
    is computed in double precision; `out` is used for matrices that are of it, and not for others."""
    x = _doubled(a)
    results = factors(x) if out is None or x is not a else out
    told, anything = np.zeros((2, len(a)), x.real.dtype), False
    if a.size:
        sizes, arrays = a.shape[1:], map(_reals, (x, *results, told))
        limit, work = min(limit * min(sizes), VERDICT - 1), _work(*sizes)
        anything = _run("factors", _row_kinds(x.dtype), (*sizes, *arrays), len(a), work, 1, threads, limit)
    return _finished(a, results, Info(told, not anything))


def svd_accurate(
    a: np.ndarray, *, limit: int = MAX_SWEEPS, threads: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Info]:
    """`svd` by pivoted QR and Jacobi on the triangle: S to high relative accuracy on graded matrices."""
    x = _doubled(a)
    results, anything = factors(x), False
    told = np.zeros((2, len(a)), results[1].dtype)
    if results[1].size:
        arrays, sizes, work = [_reals(y) for y in (x, *results, told)], a.shape[1:], COSTLY * _work(*a.shape[1:])
        kind, _, *leaves = _row_kinds(x.dtype)
        kinds = kind, *leaves, *_leaf_kinds(x.dtype, FRONT)[:2]  # and of packs of them, a tile a lane
        anything = _run("preconditioned", kinds, (*sizes, *arrays), len(a), work, 1, threads, limit)
        far = np.flatnonzero(_verdicts(told) == FAR) if anything else ()
        if len(far):
            again = x[far], *(y[far] for y in results), told[:, far].copy()
            arguments = (*sizes, *map(_reals, again))
            anything = _run("graded", _leaf_kinds(x.dtype, 1)[::2], arguments, len(far), work, 1, threads, limit)
            for y, z in zip(results, again[1:]):
                y[far] = z
            told[:, far] = again[-1]
            anything = bool(_verdicts(told).any())
    return _finished(a, results, Info(told, not anything))


def _finished(a: np.ndarray, results: Factors, info: Info) -> tuple[np.ndarray, np.ndarray, np.ndarray, Info]:
    """What packs of rows computed in double precision, in that of a; NaN for matrices that are not finite."""
    for y in () if info.clean else results:
        y[info.nonfinite] = np.nan
    U, S, Vh = (_like(a, y) for y in results)
    return U, S, Vh, info


# ---- with tangents


def svd_sweeps(a: np.ndarray, da: np.ndarray, *, limit: int = MAX_SWEEPS, threads: int = 1) -> tuple[Any, ...]:
    """U, S, Vh, dU, dS, dVh, info: tangents carried through every rotation.

    At ties the basis follows the directions, in their order.
    """
    if not da.size:
        U, S, Vh, info = svd(a, limit=limit, threads=threads)
        return U, S, Vh, *factors(a, len(da)), info
    results = (*factors(a), *factors(a, len(da)))
    info = _sweeps(a, da, results, None, limit, threads)
    U, S, Vh = results[:3]
    tied = np.flatnonzero(_tied(S))
    if tied.size:
        some, along = a[tied], da[:, tied]
        again = [x[tied] for x in results[:3]] + [x[:, tied] for x in results[3:]]
        turns = _adapt(again[0], again[1], again[2], along, threads)
        _sweeps(some, along, again, turns, limit, threads)
        for k, (x, y) in enumerate(zip(results, again)):
            x[(slice(None),) * (k > 2) + (tied,)] = y
    for k, x in enumerate(() if info.clean else results):
        x[(slice(None),) * (k > 2) + (info.nonfinite,)] = np.nan
    return *results, info


def _sweeps(a: np.ndarray, da: np.ndarray, results: Any, turns: np.ndarray | None, limit: int, threads: int) -> Info:
    """Fill the results, U, S, Vh and their tangents; where turned, U or Vh holds what `_adapt` made of it."""
    told = np.zeros((2, len(a)), results[1].dtype)
    arrays = [_reals(x) for x in (a, da, a[:0] if turns is None else turns, *results, told)]
    arguments = (*a.shape[1:], len(a), len(da), turns is not None, *arrays)
    kinds, work = _dual_kinds(a.dtype, len(da)), COSTLY * len(da) * _work(*a.shape[1:])
    return Info(told, not _run("sweeps", kinds, arguments, len(a), work, 1, threads, limit))


def sharpen_slopes(a: np.ndarray, da: np.ndarray, dS: np.ndarray, *, limit: int = MAX_SWEEPS, threads: int = 1) -> None:
    """Put in dS the derivatives taken at the triangular factor, which are right relative to themselves. Double
    precision only. Those of zeros, and those far below their values, stay as they are."""
    if dS.size:
        sizes, arrays = (*a.shape[1:], len(a), len(da)), [_reals(y) for y in (a, da, dS)]
        kinds, work = _dual_kinds(a.dtype, len(da)), COSTLY * len(da) * _work(*a.shape[1:])
        _run("graded_slopes", kinds, (*sizes, *arrays), len(a), work, 1, threads, limit)


def _tied(S: np.ndarray) -> np.ndarray:
    """Which matrices have a tie or a zero, as `dual_svd.tie_groups` sees them."""
    tolerance = S.dtype.type(tie_tolerance(float(np.finfo(S.dtype).eps), S.shape[1]))
    tie = S[:, :1] * tolerance
    return np.any(S[:, :-1] - S[:, 1:] <= tie, axis=1) | (S[:, -1] <= tie[:, 0])


def _adapt(U: np.ndarray, S: np.ndarray, Vh: np.ndarray, da: np.ndarray, threads: int) -> np.ndarray:
    """Turn U or Vh, that of the longer side, in place, to follow the directions at ties; returns the turns that the
    other is owed, from the right for U."""
    turns = np.empty((len(S), S.shape[1], S.shape[1]), U.dtype)
    da = np.ascontiguousarray(da)
    arguments = (U.shape[1], Vh.shape[2], len(U), len(da), *(_reals(x) for x in (U, S, Vh, da, turns)))
    kinds, work = _leaf_kinds(U.dtype, 1)[::2], len(da) * _work(*da.shape[2:])
    _run("adapt", kinds, arguments, len(U), work, 1, threads)
    return turns


# ---- closed forms
#
# Quotients at ties and zeros count as 0. Beside the results: whether there were none in any matrix, all of it was
# finite, and the cotangents did not depend on phases, so that the results are the derivative.


def svd_pushforward(
    U: np.ndarray, S: np.ndarray, Vh: np.ndarray, da: np.ndarray, *, out: Factors | None = None, threads: int = 1
) -> tuple[Factors, bool]:
    """dU, dS, dVh along da, into `out` if given; whether that is all."""
    results = out or (
        np.empty((len(da), *U.shape), U.dtype),
        np.empty((len(da), *S.shape), S.dtype),
        np.empty((len(da), *Vh.shape), Vh.dtype),
    )
    left_out = False
    if da.size:
        lanes = _lanes(da[0])
        given = [*(_filled(x, lanes) for x in (U, S, Vh)), _filled(da, lanes, 1)]
        taken = [_filled(x, lanes, 1) for x in results]
        arguments = (*_sizes(*da.shape[2:], lanes), len(given[0]), len(da), *(_reals(x) for x in (*given, *taken)))
        kinds, work = _leaf_kinds(U.dtype, lanes), len(da) * _work(*da.shape[2:])
        left_out = _run("pushforward", kinds, arguments, len(given[0]), work, lanes, threads)
        _hand_over(taken, results, 1)
    return results, not left_out


def svd_slopes(
    U: np.ndarray, S: np.ndarray, Vh: np.ndarray, da: np.ndarray, *, threads: int = 1
) -> tuple[np.ndarray, bool]:
    """dS = Re u_i^H dA v_i along da; whether that is all."""
    dS, left_out = np.empty((len(da), *S.shape), S.dtype), False
    if da.size:
        lanes = _lanes(da[0])
        given, taken = [*(_filled(x, lanes) for x in (U, S, Vh)), _filled(da, lanes, 1)], _filled(dS, lanes, 1)
        arguments = (*_sizes(*da.shape[2:], lanes), len(given[0]), len(da), *(_reals(x) for x in (*given, taken)))
        kinds, work = _leaf_kinds(U.dtype, lanes), len(da) * _work(*da.shape[2:])
        left_out = _run("slopes", kinds, arguments, len(given[0]), work, lanes, threads)
        _hand_over([taken], [dS], 1)
    return dS, not left_out


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
) -> tuple[np.ndarray, bool]:
    """The cotangent of the matrices, into `out` if given; whether that is all. None is zero."""
    a_bar = np.empty((len(U), U.shape[1], Vh.shape[2]), U.dtype) if out is None else out
    left_out = False
    if S.size:
        sizes, lanes = a_bar.shape[1:], _lanes(a_bar)
        if U_bar is None and Vh_bar is None:
            kernel, bars = "dyads", [np.zeros_like(S) if S_bar is None else S_bar]
        else:
            kernel = "pullback"
            bars = [np.zeros_like(x) if y is None else y for x, y in ((U, U_bar), (S, S_bar), (Vh, Vh_bar))]
        arrays = [_filled(x, lanes) for x in (U, S, Vh, *bars, a_bar)]
        kinds, arguments = _leaf_kinds(U.dtype, lanes), (*_sizes(*sizes, lanes), *map(_reals, arrays))
        left_out = _run(kernel, kinds, arguments, len(arrays[0]), _work(*sizes), lanes, threads)
        if arrays[-1] is not a_bar:
            _hand_over(arrays[-1:], [a_bar], 0)
    return a_bar, not left_out


# ---- arrays


def factors(a: np.ndarray, *leading: int) -> Factors:
    """Uninitialised U, S, Vh for a batch, with leading axes."""
    batch, m, n = a.shape
    r = min(m, n)
    return (
        np.empty((*leading, batch, m, r), a.dtype),
        np.empty((*leading, batch, r), a.real.dtype),
        np.empty((*leading, batch, r, n), a.dtype),
    )


def _values(a: np.ndarray) -> np.ndarray:
    """Uninitialised S for a batch."""
    return np.empty((len(a), min(a.shape[1:])), a.real.dtype)


def _values_only(a: np.ndarray, S: np.ndarray | None = None) -> Factors:
    """S, uninitialised if it is not given, and no matrix of U and Vh."""
    (m, n), r = a.shape[1:], min(a.shape[1:])
    return np.empty((0, m, r), a.dtype), _values(a) if S is None else S, np.empty((0, r, n), a.dtype)


def _reals(x: np.ndarray) -> np.ndarray:
    """x as a flat array of reals."""
    flat = x.reshape(-1)
    return flat.view(x.real.dtype) if x.dtype.kind == "c" else flat


def _doubled(x: np.ndarray) -> np.ndarray:
    """x in double precision: what packs of rows compute in."""
    return x.astype(np.result_type(x, np.float64), copy=False)


def _like(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """x in the precision of a."""
    return x.astype(a.dtype if np.iscomplexobj(x) else a.real.dtype, copy=False)


def _filled(x: np.ndarray, lanes: int, axis: int = 0) -> np.ndarray:
    """A contiguous batch of at least `lanes`, x itself if it is that: else the last matrix is repeated."""
    count = x.shape[axis]
    if count >= lanes or not count:
        return x if x.flags.c_contiguous else np.ascontiguousarray(x)
    return np.take(x, np.minimum(np.arange(lanes), count - 1), axis=axis)


def _hand_over(taken: Any, results: Any, axis: int) -> None:
    """Copy results that went elsewhere to where they belong."""
    for x, y in zip(results, taken):
        if x is not y:
            x[...] = y[(slice(None),) * axis + (slice(x.shape[axis]),)]


# ---- kernels


@functools.cache
def _kind(dtype: np.dtype, partials: int, lanes: int) -> Any:
    from .buffers import Kind

    return Kind(dtype, (partials,) if partials else (), lanes)


@functools.cache
def _leaf_kinds(dtype: np.dtype, lanes: int) -> tuple[Any, ...]:
    """The kinds of entries, of reals, and of one lane of reals."""
    real = np.empty(0, dtype).real.dtype
    return _kind(dtype, 0, lanes), _kind(real, 0, lanes), _kind(real, 0, 1)


@functools.cache
def _row_kinds(dtype: np.dtype) -> tuple[Any, ...]:
    """The kinds of packs of rows, and of real ones of as many; of entries and reals."""
    from .buffers import Kind

    rows, real = ROW_REGISTERS * _register() // dtype.itemsize, np.empty(0, dtype).real.dtype
    return Kind(dtype, rows=rows), Kind(real, rows=rows), *_leaf_kinds(dtype, 1)[::2]


@functools.cache
def _dual_kinds(dtype: np.dtype, directions: int) -> tuple[Any, ...]:
    """The kinds of entries and of reals, as duals and as plain numbers."""
    real = np.empty(0, dtype).real.dtype
    partials = next((c for c in CHUNKS if c >= directions), CHUNKS[-1])
    return _kind(dtype, partials, 1), _kind(real, partials, 1), _kind(dtype, 0, 1), _kind(real, 0, 1)


def _lanes(a: np.ndarray, registers: int = 1, limit: int = PACK_LIMIT) -> int:
    """Matrices side by side, so that a real number fills one register, or two: then two chains of operations are always
    under way. The parts of a complex number fill one each."""
    packs = len(a) >= MIN_PER_PACK and min(a.shape[1:]) <= limit
    return (registers if a.dtype.kind == "f" else 2) * _register() // a.itemsize if packs else 1


def widest_pack(dtype: np.dtype) -> tuple[int, Any]:
    """How many numbers the widest packs hold, those of two registers, and their kind."""
    lanes = 2 * _register() // dtype.itemsize
    return lanes, _kind(dtype, 0, lanes)


@functools.cache
def _registers(m: int, n: int) -> int:
    """How many a real number of an SVD fills; those of the closed forms, whose products are eight chains, fill one."""
    return 2 if (m + n) * min(m, n) * 2 * _register() <= NEAR else 1


@functools.cache
def _register() -> int:
    """Bytes of a SIMD register."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx") else 16


@functools.cache
def _sizes(m: int, n: int, lanes: int) -> tuple[Any, Any]:
    """The sizes as packs take them: some have kernels of their own."""
    from .buffers import Fixed

    return (Fixed(m), Fixed(n)) if lanes > 1 and (m, n) in FIXED else (m, n)


def _work(m: int, n: int) -> int:
    """Of the SVD of one matrix, in the unit of GRAIN."""
    return m * n * min(m, n)


def _run(kernel: str, kinds: Any, arguments: Any, batch: int, work: int, lanes: int, threads: int, *limit: int) -> bool:
    """A kernel over the batch, cut between packs, in up to `threads` threads: the kernels hold no lock.

    Returns whether it has anything to tell of a matrix.
    """
    entry, packs = _entry(kernel, kinds, arguments, limit), -(-batch // lanes)
    parts = max(1, min(threads, packs, batch * work // GRAIN))
    if parts == 1:
        return bool(entry(*kinds, *arguments, 0, batch, *limit))
    cuts = [min(packs * i // parts * lanes, batch) for i in range(parts + 1)]
    others = [_begin(threads, entry, *kinds, *arguments, *cut, *limit) for cut in itertools.pairwise(cuts[1:])]
    anything = entry(*kinds, *arguments, 0, cuts[1], *limit)
    return any([anything, *(finish() for finish in others)])


def _begin(threads: int, entry: Any, *arguments: Any) -> Callable[[], Any]:
    """Give a part to another thread; what is returned waits for its result. Where the interpreter is shutting down its
    threads take no more work, and the part is left for then."""
    try:
        return _pool(threads).submit(entry, *arguments).result
    except RuntimeError as error:
        if "shutdown" not in str(error):  # other failures come when the part is queued already, and may be at work
            raise
        return functools.partial(entry, *arguments)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that wait for work; a forked child has none, and makes its own."""
    from concurrent.futures import ThreadPoolExecutor  # not while the interpreter is shutting down

    return ThreadPoolExecutor(threads - 1, thread_name_prefix="dualsvd")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


_entries: dict[tuple[Any, ...], Any] = {}


def _entry(kernel: str, kinds: Any, arguments: Any, limit: Any) -> Any:
    """The entry point of a kernel: Numba's dispatcher takes longer to find that than a small SVD takes."""
    fixed = not isinstance(arguments[0], int)
    key = (kernel, kinds, *arguments[:2]) if fixed else (kernel, kinds)
    entry = _entries.get(key)
    if entry is None:
        from . import accurate, compiled

        need_compiler()
        keep_freed_memory()
        signature = tuple(map(_type, (*kinds, *arguments, 0, 0, *limit)))
        dispatcher = getattr(compiled, kernel, None) or getattr(accurate, kernel)
        entry = _entries[key] = dispatcher.compile(signature)
    return entry


def _type(x: Any) -> Any:
    """Numba's type of an argument."""
    from numba import boolean, from_dtype, int64, types

    if isinstance(x, np.ndarray):
        return types.Array(from_dtype(x.dtype), 1, "C")
    return boolean if isinstance(x, bool) else int64 if isinstance(x, int) else x.numba_type
