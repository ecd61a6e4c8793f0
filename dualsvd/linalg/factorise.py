"""The primal: plain matrices in, plain factors out, by whichever algorithm; wrong input is told here."""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import numpy as np

from ..errors import ConvergenceError, NonFiniteError, ShapeError
from ..rules.registry import as_inexact, primal
from ..settings import Options


class SVDResult(NamedTuple):
    """A = U diag(S) Vh, with S descending and nonnegative."""

    U: Any
    S: Any
    Vh: Any


class EighResult(NamedTuple):
    """A = Q diag(w) Q^H, with w ascending."""

    eigenvalues: Any
    eigenvectors: Any


def as_matrix(a: Any, name: str = "a") -> Any:
    """A matrix or a stack of matrices of floating-point numbers, traced or not."""
    a = as_inexact(a, name)
    if len(np.shape(a)) < 2:
        raise ShapeError(
            f"{name} must be a matrix or a stack of matrices (at least 2 axes), got shape {np.shape(a)}; "
            f"for a single column take {name}[:, None]"
        )
    return a


def as_square(a: Any, name: str = "a") -> Any:
    """A square matrix or a stack of square matrices."""
    a = as_matrix(a, name)
    m, n = np.shape(a)[-2:]
    if m != n:
        raise ShapeError(f"{name} must be square in its last two axes, got shape {np.shape(a)}")
    return a


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


def svd_factors(a: Any, options: Options, full_matrices: bool = False) -> SVDResult:
    """U, S, Vh of plain matrices."""
    finite, bad = finite_part(a, options)
    try:
        U, S, Vh = np.linalg.svd(finite, full_matrices=full_matrices)
    except np.linalg.LinAlgError as error:
        raise not_converged(a, error) from None
    return SVDResult(*spoil((U, S, Vh), bad)) if bad is not None else SVDResult(U, S, Vh)


def singular_values(a: Any, options: Options) -> Any:
    """S of plain matrices, when nobody asks for vectors."""
    finite, bad = finite_part(a, options)
    try:
        S = np.linalg.svd(finite, compute_uv=False)
    except np.linalg.LinAlgError as error:
        raise not_converged(a, error) from None
    return spoil((S,), bad)[0]


def eigh_factors(a: Any, options: Options) -> EighResult:
    """w, Q of plain Hermitian matrices."""
    finite, bad = finite_part(a, options)
    try:
        w, Q = np.linalg.eigh(finite)
    except np.linalg.LinAlgError as error:
        raise not_converged(a, error) from None
    return EighResult(*spoil((w, Q), bad))


def not_converged(a: Any, error: Exception) -> ConvergenceError:
    return ConvergenceError(
        f"LAPACK did not converge on a matrix of shape {np.shape(a)} ({error}); "
        'rescale the input, or use algorithm="jacobi"'
    )


# ---------------------------------------------------------------------------------------------------------------------
# A factorisation lives as long as the result that was made of it


_factors: dict[int, tuple[weakref.ref[Any], Any]] = {}


def remember(y: Any, factors: Any) -> Any:
    """y, a fresh plain array, and with it the factors that its derivatives will ask for."""
    key = id(y)
    _factors[key] = (weakref.ref(y, lambda _: _factors.pop(key, None)), factors)
    return y


def recall(y: Any) -> Any:
    """The factors that were remembered with y, whatever is traced around it, or None."""
    y = primal(y)
    found = _factors.get(id(y))
    return found[1] if found is not None and found[0]() is y else None
