"""SVDs of batches of matrices on the device, and their derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ConvergenceError, DTypeError, NonFiniteError
from ..forward import DualArray
from ..kernels.jacobi import MAX_SWEEPS
from ..kernels.verdicts import NONFINITE, TIED, UNCONVERGED
from ..linalg.degeneracy import meet_tie, spectrum
from ..linalg.factorise import SVDResult
from ..linalg.gauge import admit
from ..settings import get
from .arrays import batch_of, empty_factors, fetch, plain, run, same_shape, zeros
from .device import backend

# ---- the decomposition


def svd(a: Any, *, stream: Any = 0) -> SVDResult:
    """U, S, Vh of each matrix of a batch (B, m, n): thin, S descending, in the units of a.

    Raises BackendError where there is no device, NonFiniteError, ConvergenceError, DTypeError, ShapeError, also beyond
    64 x 64.
    """
    kernels, a = backend(), batch_of(a)
    if not min(a.shape):
        return SVDResult(*empty_factors(a))

    def work(a: Any, first: int) -> tuple[Any, ...]:
        U, S, Vh, report = kernels.svd(a, stream)
        examine(report, first, stream, ties=False)
        return U, S, Vh

    return SVDResult(*run(work, (a,), (0,), (0, 0, 0), stream))


def svdvals(a: Any, *, stream: Any = 0) -> Any:
    """The singular values alone (B, min(m, n)) of a batch (B, m, n), descending, in the units of a.

    Raises BackendError where there is no device; NonFiniteError, ConvergenceError, DTypeError, ShapeError.
    """
    kernels, a = backend(), batch_of(a)
    if not min(a.shape):
        return empty_factors(a)[1]

    def work(a: Any, first: int) -> tuple[Any, ...]:
        S, report = kernels.svdvals(a, stream)
        examine(report, first, stream, ties=False)
        return (S,)

    return run(work, (a,), (0,), (0,), stream)[0]


# ---- derivatives


def svd_jvp(a: Any, da: Any, *, stream: Any = 0) -> tuple[Any, Any, Any]:
    """dU, dS, dVh along da, in closed form, for matrices a (B, m, n).

    da has the shape of a, or one more leading axis (N, B, m, n), a direction each, which the results then have too. The
    gauge is Im(u_i^H du_i + v_i^H dv_i) = 0. At a tie dS is the one-sided derivative of the ordered values. dU and dVh
    have no derivative there by themselves: they belong to U and Vh turned to follow da (lexicographically, if it holds
    several directions), which `svd_dual` returns (of reals) and this does not.

    Raises BackendError where there is no device, DegenerateError at ties under ties="raise"; NonFiniteError,
    ConvergenceError, DTypeError, ShapeError.
    """
    kernels, a = backend(), batch_of(a)
    da = plain(da, "da", (3, 4), a.dtype)
    single = len(da.shape) == 3
    same_shape(da, tuple(a.shape) if single else (da.shape[0], *a.shape), "da")
    da = da.reshape(1, *a.shape) if single else da
    if not min(da.shape):
        tangents = empty_factors(da)
    else:

        def work(a: Any, da: Any, first: int) -> tuple[Any, ...]:
            U, S, Vh, report = kernels.svd(a, stream)
            ties = examine(report, first, stream)
            tangents = kernels.pushforward(U, S, Vh, da, stream)
            if len(ties):
                allow_ties(S, stream)
                kernels.follow_ties(ties, da, U, S, Vh, *tangents, stream)
            return tangents

        tangents = run(work, (a, da), (0, 1), (1, 1, 1), stream)
    return tuple(x.reshape(*x.shape[1:]) for x in tangents) if single else tangents


def svd_vjp(a: Any, U_bar: Any, S_bar: Any, Vh_bar: Any, *, stream: Any = 0) -> Any:
    """A_bar (B, m, n), the cotangent of a, from those of U, S and Vh.

    U_bar (B, m, r), S_bar (B, r) and Vh_bar (B, r, n), r = min(m, n), may each be None. The inner product is
    <X, Y> = Re tr(X^H Y).

    Raises GaugeError and DegenerateError as `dualsvd.linalg.svd_pullback` does; BackendError where there is no device,
    NonFiniteError, ConvergenceError, DTypeError, ShapeError.
    """
    kernels, a = backend(), batch_of(a)
    bars = []
    named = (("U_bar", U_bar), ("S_bar", S_bar), ("Vh_bar", Vh_bar))
    for (name, bar), (shape, dtype) in zip(named, kernels.shapes_of_factors(a)):
        if bar is None:
            bar = zeros(shape, dtype, a, stream)
        bar = plain(bar, name, (len(shape),), dtype)
        same_shape(bar, shape, name)
        bars.append(bar)
    if not min(a.shape):
        return zeros(a.shape, a.dtype, a)

    def work(a: Any, U_bar: Any, S_bar: Any, Vh_bar: Any, first: int) -> tuple[Any, ...]:
        U, S, Vh, report = kernels.svd(a, stream)
        ties = examine(report, first, stream)
        if a.dtype.kind == "c" or len(ties):
            y = SVDResult(*(fetch(x, stream) for x in (U, S, Vh)))
            g_u, g_s, g_v = (x if x.any() else None for x in (fetch(x, stream) for x in (U_bar, S_bar, Vh_bar)))
            admit(y, g_u, g_s, g_v, spectrum(y.S, get()), get())
        return (kernels.pullback(U, S, Vh, U_bar, S_bar, Vh_bar, stream),)

    return run(work, (a, *bars), (0, 0, 0, 0), (0,), stream)[0]


def svd_dual(x: DualArray, *, stream: Any = 0) -> SVDResult:
    """U, S, Vh of a DualArray (B, m, n) of reals as DualArrays: the tangents are carried through every rotation.

    The partials are (N, B, m, n). At ties U and Vh are turned to follow the directions, in their order.

    Raises BackendError where there is no device, DTypeError for plain arrays and complex numbers, DegenerateError at
    ties under ties="raise"; NonFiniteError, ConvergenceError, ShapeError.
    """
    kernels = backend()
    if not isinstance(x, DualArray):
        raise DTypeError(f"svd_dual takes a DualArray, got {type(x).__name__}; use svd for plain arrays")
    a = batch_of(x.value)
    if a.dtype.kind == "c":
        raise DTypeError(f"svd_dual carries real numbers, got {a.dtype}; use svd_jvp, which takes complex ones")
    da = plain(x.partials, "the partials", (4,), a.dtype)
    if not min(da.shape):
        parts = (*svd(a, stream=stream), *empty_factors(da))
    else:

        def work(a: Any, da: Any, first: int) -> tuple[Any, ...]:
            *results, report = kernels.dual(a, da, stream)
            ties = examine(report, first, stream)
            if len(ties):
                allow_ties(results[1], stream)
                kernels.follow_ties(ties, da, *results, stream)
            return tuple(results)

        parts = run(work, (a, da), (0, 1), (0, 0, 0, 1, 1, 1), stream)
    return SVDResult(*(DualArray(y, dy, x.tag) for y, dy in zip(parts[:3], parts[3:])))


# ---- what the device tells


def examine(report: Any, first: int, stream: Any, *, ties: bool = True) -> np.ndarray:
    """The indices of the finite matrices with a tie or a zero; NonFiniteError or ConvergenceError as on the CPU.

    Waits for the device. Where there is nothing to tell the report stays there; without `ties`, which only derivatives
    need, a tie is nothing to tell.
    """
    asked = NONFINITE | UNCONVERGED | (TIED if ties else 0)
    if not backend().joined_flags(report, stream) & asked:
        return np.empty(0, np.int64)
    told = fetch(report, stream)
    flags = told[:, 2].astype(np.int64)
    nonfinite = np.flatnonzero(flags & NONFINITE)
    if len(nonfinite) and get().nonfinite == "raise":
        raise NonFiniteError(
            f"the matrix must be finite, got NaN or infinity in {len(nonfinite)} of {len(flags)} matrices, first in "
            f"matrix {first + nonfinite[0]}; remove it, or use "
            'dualsvd.options(nonfinite="propagate") to get NaN for that matrix only'
        )
    unconverged = np.flatnonzero(flags & UNCONVERGED)
    if len(unconverged):
        b = unconverged[0]
        left = "" if np.isnan(told[b, 1]) else f": off-norm {told[b, 1]:.1e}"
        raise ConvergenceError(
            f"svd did not converge in {MAX_SWEEPS} sweeps{left} for matrix {first + b}; rescale the input"
        )
    return np.flatnonzero((flags & TIED != 0) & (flags & NONFINITE == 0))


def allow_ties(S: Any, stream: Any) -> None:
    """What `ties=` says to directional derivatives at a tie: nothing, a warning, or DegenerateError."""
    options = get()
    if options.ties in ("raise", "warn"):
        values = fetch(S, stream)
        meet_tie(values, spectrum(values, options), options)
