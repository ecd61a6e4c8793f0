"""The primal: plain matrices in, plain factors out, by whichever algorithm; wrong input is told here."""

from __future__ import annotations

import functools
import weakref
from typing import Any, NamedTuple

import numpy as np

from ..errors import ConvergenceError, NonFiniteError
from ..outputs import stacked
from ..rules.registry import primal
from ..settings import Options, get
from .degeneracy import largest_exponent, same_group, scaled, spectrum
from .dispatch import Wanted, Way, way_for
from .kernel_calls import check_converged, kernels, stack_of, threads
from .matrices import adjoint, with_complement
from .refine import refine


class SVDResult(NamedTuple):
    """A (..., m, n) = U diag(S) Vh, with S descending and nonnegative.

    U (..., m, r), S (..., r), Vh (..., r, n), r = min(m, n); with full_matrices U (..., m, m) and Vh (..., n, n).
    """

    U: Any
    S: Any
    Vh: Any


class EighResult(NamedTuple):
    """A (..., n, n) = Q diag(w) Q^H: the eigenvalues w (..., n), ascending, and the eigenvectors Q (..., n, n)."""

    eigenvalues: Any
    eigenvectors: Any


def finite_part(a: Any, options: Options) -> tuple[Any, Any]:
    """The matrices with zeros in place of the non-finite ones, and the mask of those (None: there is none)."""
    if np.isfinite(a).all():
        return a, None
    bad = ~np.isfinite(a).all(axis=(-2, -1))
    if options.nonfinite == "raise":
        entry = tuple(np.argwhere(~np.isfinite(a))[0].tolist())
        which = f" in {int(bad.sum())} of {bad.size} matrices" if a.ndim > 2 else ""
        raise NonFiniteError(
            f"the matrix must be finite, got {a[entry]} at {entry}{which}; "
            'remove it, or use dualsvd.options(nonfinite="propagate") to get NaN for that matrix only'
        )
    return np.where(bad[..., None, None], a.dtype.type(0), a), bad


def spoil(results: tuple[Any, ...], bad: Any) -> tuple[Any, ...]:
    """The results with NaN for the matrices of the mask."""
    if bad is None:
        return results
    return tuple(np.where(bad.reshape(bad.shape + (1,) * (x.ndim - bad.ndim)), np.nan, x) for x in results)


def finite_or_nan(a: Any) -> Any:
    """a; NonFiniteError, or NaN for all of a matrix that is not finite, as the norms by singular values have it."""
    _, bad = finite_part(primal(a), get())
    return a if bad is None else a * np.where(bad, np.nan, 1).astype(primal(a).real.dtype)[..., None, None]


def svd_factors(a: Any, options: Options, full_matrices: bool = False, out: Any = None) -> SVDResult:
    """U, S, Vh of plain matrices, by LAPACK or by the kernels; perhaps in `out`, where the kernels can."""
    way = way_of("factors", a, options)
    if way in ("packs", "bidiagonal") and not (full_matrices or options.refine):
        return kernel_factors(a, options, way, out)
    finite, bad = finite_part(a, options)
    if way != "lapack":
        factors = finite_factors(finite, options, way, full_matrices)
    else:
        try:
            U, S, Vh = np.linalg.svd(finite, full_matrices=full_matrices)
        except np.linalg.LinAlgError as error:
            raise not_converged(a, error) from None
        factors = SVDResult(U, np.abs(S), Vh)  # LAPACK gives -0.0 for a matrix of -0.0
    if options.refine:
        factors = refined(finite, factors, options)
    return spoil_factors(factors, bad, options)


def spoil_factors(factors: SVDResult, bad: Any, options: Options) -> SVDResult:
    """The factors with NaN for the matrices of the mask; the tail of S stays with it."""
    if bad is None:
        return factors
    tail = tail_of(factors.S, options)
    U, S, Vh = spoil(factors, bad)
    return SVDResult(U, S if tail is None else remember(S, tail, _tails), Vh)


def factors_at(y: Any, a: Any, options: Options) -> SVDResult:
    """The factors of the primal of a: those remembered with y, if they are."""
    return recall(y) or svd_factors(primal(a), options)


def refined(a: Any, factors: SVDResult, options: Options) -> SVDResult:
    """The factors after some steps of refinement, the tail of S remembered beside it."""
    r = factors.S.shape[-1]
    U, Vh = factors.U[..., :, :r], factors.Vh[..., :r, :]
    at = spectrum(factors.S, options)
    e = largest_exponent(a)
    y = refine(scaled(a, -e), U, scaled(factors.S, -e[..., 0]), Vh, options.refine, ~same_group(at), at.null)
    S, tail = scaled(y.S, e[..., 0]), scaled(y.tail, e[..., 0])
    U, Vh = y.U, y.Vh
    full = factors.U.shape[-1] > r or factors.Vh.shape[-2] > r
    S = remember(S, tail, _tails)
    return completed(U, S, Vh) if full else SVDResult(U, S, Vh)


def completed(U: Any, S: Any, Vh: Any) -> SVDResult:
    """U and Vh made square by orthonormal columns and rows."""
    return SVDResult(with_complement(U), S, adjoint(with_complement(adjoint(Vh))))


def tail_of(S: Any, options: Options) -> Any:
    """What refined singular values had below rounding, or None."""
    return recall(S, _tails) if options.refine else None


def singular_values(a: Any, options: Options, out: Any = None) -> Any:
    """S of plain matrices, when nobody asks for vectors; perhaps in `out`, where the kernels can."""
    way = way_of("values", a, options)
    if way == "packs":
        place = None if out is None else stacked((out,), (1,), (a,))
        S, info = kernels().svdvals(stack_of(a), out=place and place[0], threads=threads(options))
        check_report(info, a, options)
        return S.reshape(*a.shape[:-2], -1)
    finite, bad = finite_part(a, options)
    if way == "accurate":
        S = finite_factors(finite, options, way).S
    else:
        try:
            S = np.abs(np.linalg.svd(finite, compute_uv=False))
        except np.linalg.LinAlgError as error:
            raise not_converged(a, error) from None
    return spoil((S,), bad)[0]


# ---------------------------------------------------------------------------------------------------------------------
# The kernels


def way_of(wanted: Wanted, a: Any, options: Options) -> Way:
    """Who computes what is wanted of these matrices."""
    if options.algorithm == "auto":
        return way_for(wanted, a.shape, a.dtype.char)
    return "accurate" if options.algorithm == "jacobi" and a.size else "lapack"


def kernel_of(way: Way) -> Any:
    """What computes U, S, Vh of a stack that way."""
    return getattr(kernels(), {"packs": "svd", "bidiagonal": "svd_bidiagonal", "accurate": "svd_accurate"}[way])


def kernel_factors(a: Any, options: Options, way: Way, out: Any = None) -> SVDResult:
    """U, S, Vh by kernels that tell by themselves of matrices that are not finite."""
    U, S, Vh, info = kernel_of(way)(stack_of(a), out=stacked(out, (2, 1, 2), (a,)), threads=threads(options))
    check_report(info, a, options)
    return unstacked(U, S, Vh, a)


def check_report(info: Any, a: Any, options: Options) -> None:
    """Raise for what the kernels met: entries that are not finite, or an iteration without end."""
    if not info.clean:
        finite_part(a, options)
        check_converged(info)


def finite_factors(a: Any, options: Options, way: Way, full_matrices: bool = False) -> SVDResult:
    """U, S, Vh of finite matrices by kernels; the accurate way every singular value to high relative accuracy."""
    U, S, Vh, info = kernel_of(way)(stack_of(a), threads=threads(options))
    check_converged(info)
    factors = unstacked(U, S, Vh, a)
    return completed(*factors) if full_matrices else factors


def unstacked(U: Any, S: Any, Vh: Any, a: Any) -> SVDResult:
    """The factors with the batch axes of a."""
    if a.ndim == 3:
        return SVDResult(U, S, Vh)
    (m, n), batch = a.shape[-2:], a.shape[:-2]
    return SVDResult(U.reshape(*batch, m, -1), S.reshape(*batch, -1), Vh.reshape(*batch, -1, n))


def eigh_factors(a: Any, options: Options) -> EighResult:
    """w, Q of plain Hermitian matrices."""
    finite, bad = finite_part(a, options)
    if options.algorithm == "jacobi" and a.size:
        return EighResult(*spoil(jacobi_eigh(finite, options), bad))
    try:
        w, Q = np.linalg.eigh(finite)
    except np.linalg.LinAlgError as error:
        raise not_converged(a, error) from None
    return EighResult(*spoil((w, Q), bad))


def jacobi_eigh(a: Any, options: Options) -> tuple[Any, Any]:
    """w, Q by one-sided Jacobi on A + c I with c above |A|: positive definite, so that V holds the eigenvectors."""
    n, e = a.shape[-1], largest_exponent(a)
    a = scaled(a, -e)
    rows, frobenius = np.abs(a).sum(axis=-1).max(axis=-1, initial=0.0), np.linalg.norm(a, axis=(-2, -1))
    shift = (1.125 * np.minimum(rows, frobenius))[..., None, None].astype(a.real.dtype)  # what is added costs digits
    _, _, Vh, info = kernels().svd(stack_of(a + shift * np.eye(n, dtype=a.dtype)), threads=threads(options))
    check_converged(info)
    Vh = Vh.reshape(a.shape)
    Q = adjoint(Vh)[..., :, ::-1]
    w = np.real(np.sum(np.conj(Q) * (a @ Q), axis=-2))
    order = np.argsort(w, axis=-1, kind="stable")  # Rayleigh quotients of a tie may be off by a rounding
    return scaled(np.take_along_axis(w, order, axis=-1), e[..., 0]), np.take_along_axis(Q, order[..., None, :], axis=-1)


def not_converged(a: Any, error: Exception) -> ConvergenceError:
    return ConvergenceError(
        f"LAPACK did not converge on a matrix of shape {np.shape(a)} ({error}); "
        'rescale the input, or use algorithm="jacobi"'
    )


# ---------------------------------------------------------------------------------------------------------------------
# A factorisation lives as long as the result that was made of it


Table = dict[int, tuple[weakref.ref[Any], Any]]
_factors: Table = {}
_tails: Table = {}  # of refined singular values, which may have factors too


def remember(y: Any, factors: Any, table: Table = _factors) -> Any:
    """y, a fresh plain array, and with it the factors that its derivatives will ask for."""
    key = id(y)
    forget = functools.partial(table.pop, key)  # bound now: globals are gone when the interpreter ends
    table[key] = (weakref.ref(y, forget), factors)
    return y


def recall(y: Any, table: Table = _factors) -> Any:
    """The factors that were remembered with y, whatever is traced around it, or None."""
    y = primal(y)
    found = table.get(id(y))
    return found[1] if found is not None and found[0]() is y else None
