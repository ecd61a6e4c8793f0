"""Inverse, linear systems, determinants, Cholesky: rules of one line each, with their derivations beside them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..errors import DegenerateError, DTypeError, ShapeError
from ..rules.registry import Rule, as_inexact, implements, primal
from ..rules.structural import align
from ..settings import get
from .degeneracy import spectrum
from .factorise import finite_part, spoil, svd_factors
from .matrices import adjoint, as_square, from_triangle, hermitian_part, is_plain


class SlogdetResult(NamedTuple):
    """det = sign * exp(logabsdet), all of the shape (...) of the stack."""

    sign: Any
    logabsdet: Any


def trace_product(x: Any, y: Any) -> Any:
    """tr(X Y)."""
    return np.sum(np.swapaxes(x, -1, -2) * y, axis=(-2, -1))


def harmless(a: Any) -> tuple[Any, Any]:
    """The matrices with the identity in place of the non-finite ones, and the mask of those (None: there is none)."""
    finite, bad = finite_part(a, get())
    if bad is None:
        return a, None
    return np.where(bad[..., None, None], np.eye(*a.shape[-2:], dtype=a.dtype), finite), bad


def of_finite(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function with NonFiniteError, or NaN for the matrix of a stack, where the matrix is not finite."""

    def checked(a: Any) -> Any:
        finite, bad = harmless(a)
        y = function(finite)
        return type(y)(*spoil(y, bad)) if isinstance(y, tuple) else spoil((y,), bad)[0]

    return checked


# -- d(A^-1) = -A^-1 dA A^-1


def inv_pushforward(y: Any, operands: Any, tangents: Any) -> Any:
    return -y @ tangents[0] @ y


def inv_pullback(y_bar: Any, y: Any, operands: Any) -> tuple[Any]:
    return (-adjoint(y) @ y_bar @ adjoint(y),)


# -- A X = B:  dX = A^-1 (dB - dA X),  B_bar = A^-H X_bar,  A_bar = -B_bar X^H


def solve_function(a: Any, b: Any) -> Any:
    finite, bad = harmless(a)
    x = np.linalg.solve(finite, b)
    return x if bad is None else np.where(bad[..., None, None], np.nan, x)


def solve_pushforward(y: Any, operands: Any, tangents: Any) -> Any:
    a, _ = operands
    dA, dB = (None if t is None else align(t, np.ndim(y)) for t in tangents)
    right = dB if dA is None else -dA @ y if dB is None else dB - dA @ y
    return SOLVE(a, right)


def solve_pullback(y_bar: Any, y: Any, operands: Any) -> tuple[Any, Any]:
    b_bar = SOLVE(adjoint(operands[0]), y_bar)
    return lambda: -b_bar @ adjoint(y), b_bar


# -- d det A = tr(adj(A) dA), adj the matrix of cofactors transposed: it exists where A is singular too


def adjugate(a: Any, y: Any) -> Any:
    """adj(A) = det(A) A^-1, by the SVD: det(U V^H) V diag(prod_{j != i} s_j) U^H, so that no quotient is needed, with
    the exponents of the values summed beside, so that no part of a product leaves the range."""
    if not is_plain(a):
        factors = svd_factors(finite_part(primal(a), get())[0], get())
        if not np.any(spectrum(factors.S, get()).null):
            return y[..., None, None] * INV(a)
        return adjugate_by_minors(a)
    U, S, Vh = svd_factors(a, get())
    one, (x, e) = np.ones_like(S[..., :1]), np.frexp(S)
    before = np.cumprod(np.concatenate([one, x[..., :-1]], axis=-1), axis=-1)
    after = np.cumprod(np.concatenate([one, x[..., :0:-1]], axis=-1), axis=-1)[..., ::-1]
    others = np.ldexp(before * after, np.sum(e, axis=-1, keepdims=True) - e)
    phase = np.linalg.det(U) * np.linalg.det(Vh)
    return phase[..., None, None] * (adjoint(Vh) * others[..., None, :] @ adjoint(U))


def adjugate_by_minors(a: Any) -> Any:
    """adj(A) by the determinants that define it: what an outer derivative at a singular matrix needs."""
    n = np.shape(a)[-1]
    keep = [[k for k in range(n) if k != i] for i in range(n)]

    def minor(i: int, j: int) -> Any:
        return (-1) ** (i + j) * DET(a[..., keep[i], :][..., :, keep[j]])

    return np.stack([np.stack([minor(j, i) for j in range(n)], axis=-1) for i in range(n)], axis=-2)


def det_pushforward(y: Any, operands: Any, tangents: Any) -> Any:
    return trace_product(adjugate(operands[0], y), tangents[0])


def det_pullback(y_bar: Any, y: Any, operands: Any) -> tuple[Any]:
    return (y_bar[..., None, None] * adjoint(adjugate(operands[0], y)),)


# -- d log|det A| = Re tr(A^-1 dA),  d sign = i sign Im tr(A^-1 dA)


def slogdet_inverse(a: Any) -> Any:
    try:
        return INV(a)
    except np.linalg.LinAlgError:
        raise DegenerateError(
            "slogdet has no derivative at a singular matrix, where log|det| is -inf; use det, which has one"
        ) from None


def slogdet_pushforward(y: Any, operands: Any, tangents: Any) -> tuple[Any, Any]:
    t = trace_product(slogdet_inverse(operands[0]), tangents[0])
    return (1j * y[0] * np.imag(t) if np.iscomplexobj(operands[0]) else None), np.real(t)


def slogdet_pullback(y_bar: Any, y: Any, operands: Any) -> tuple[Any]:
    sign_bar, log_bar = y_bar
    c = log_bar
    if sign_bar is not None and np.iscomplexobj(operands[0]):
        turn = np.real(np.conj(sign_bar) * 1j * y[0]) * 1j  # 1j first may give a complex of Python's, without axes
        c = turn if c is None else c + turn
    return (None if c is None else c[..., None, None] * adjoint(slogdet_inverse(operands[0])),)


# -- A = L L^H:  dL = L low(L^-1 dA L^-H),  A_bar = herm(L^-H low(L^H L_bar) L^-1);  low: the lower triangle with half
#    the diagonal


def low(x: Any) -> Any:
    n = np.shape(x)[-1]
    return x * (np.tri(n, dtype=primal(x).real.dtype) - 0.5 * np.eye(n, dtype=primal(x).real.dtype))


def cholesky_pushforward(y: Any, operands: Any, tangents: Any) -> Any:
    W = SOLVE(y, adjoint(SOLVE(y, hermitian_part(tangents[0]))))
    return y @ low(W)


def cholesky_pullback(y_bar: Any, y: Any, operands: Any) -> tuple[Any]:
    Lh = adjoint(y)
    W = SOLVE(Lh, low(Lh @ y_bar))
    return (hermitian_part(adjoint(SOLVE(Lh, adjoint(W)))),)


# ---------------------------------------------------------------------------------------------------------------------
# Registration


def square_examples(rng: np.random.Generator) -> Iterator[Any]:
    for shape in ((3, 3), (1, 1), (2, 3, 3)):
        yield (rng.standard_normal(shape) + 2 * np.eye(shape[-1]),), {}
    yield (rng.standard_normal((3, 3)) + 1j * rng.standard_normal((3, 3)) + 2 * np.eye(3),), {}
    yield ((rng.standard_normal((2, 2)) + 2 * np.eye(2)).astype(np.float32),), {}


def solve_examples(rng: np.random.Generator) -> Iterator[Any]:
    for (a,), _ in square_examples(rng):
        yield (a, rng.standard_normal((*a.shape[:-1], 2)).astype(a.dtype)), {}
    yield (rng.standard_normal((3, 3)) + 2 * np.eye(3), rng.standard_normal((2, 3, 1))), {}
    yield (rng.standard_normal((2, 3, 3)) + 2 * np.eye(3), rng.standard_normal((3, 1))), {}


def positive_examples(rng: np.random.Generator) -> Iterator[Any]:
    for (a,), _ in square_examples(rng):
        yield (a @ adjoint(a) + np.eye(a.shape[-1], dtype=a.dtype),), {}


INV = Rule("inv", of_finite(np.linalg.inv), inv_pushforward, inv_pullback, square_examples)
SOLVE = Rule("solve", solve_function, solve_pushforward, solve_pullback, solve_examples)
DET = Rule("det", of_finite(np.linalg.det), det_pushforward, det_pullback, square_examples)
SLOGDET = Rule(
    "slogdet",
    of_finite(lambda a: SlogdetResult(*np.linalg.slogdet(a))),
    slogdet_pushforward,
    slogdet_pullback,
    square_examples,
)
CHOLESKY = Rule(
    "cholesky",
    of_finite(lambda a: np.linalg.cholesky(hermitian_part(a))),
    cholesky_pushforward,
    cholesky_pullback,
    positive_examples,
)


# ---------------------------------------------------------------------------------------------------------------------
# What users call


@implements(np.linalg.inv)
def inv(a: Any) -> Any:
    """The inverse of a square matrix or of each of a stack (..., n, n).

    Raises numpy.linalg.LinAlgError where it is singular; ShapeError, DTypeError, NonFiniteError.
    Source: Giles 2008, "Collected matrix derivative results": d A^-1 = -A^-1 dA A^-1.

    >>> import numpy as np, dualsvd as ds
    >>> np.diag(ds.jvp(ds.linalg.inv, (np.diag([2.0, 1.0]),), (np.eye(2),))[1])
    array([-0.25, -1.  ])
    """
    return INV(as_square(a))


@implements(np.linalg.solve)
def solve(a: Any, b: Any) -> Any:
    """x with a @ x = b, a (..., n, n); as in NumPy, b is a vector if it has one axis and a stack of matrices otherwise.

    Raises numpy.linalg.LinAlgError where a is singular; ShapeError, DTypeError, NonFiniteError.
    Source: Giles 2008: d x = a^-1 (d b - d a x).

    >>> import numpy as np, dualsvd as ds
    >>> ds.gradient(lambda b: np.sum(ds.linalg.solve(np.diag([2.0, 4.0]), b)), np.ones(2))
    array([0.5 , 0.25])
    """
    a, b = as_square(a), as_inexact(b, "b")
    if np.ndim(b) == 0 or np.shape(b)[-1 if np.ndim(b) == 1 else -2] != np.shape(a)[-1]:
        raise ShapeError(f"b must have {np.shape(a)[-1]} rows to go with a of shape {np.shape(a)}, got {np.shape(b)}")
    if get().nonfinite == "raise":  # otherwise NaN finds its own columns
        finite_part(np.atleast_2d(primal(b)), get())
    return SOLVE(a, b[:, None])[..., 0] if np.ndim(b) == 1 else SOLVE(a, b)


@implements(np.linalg.det)
def det(a: Any) -> Any:
    """The determinant (...) of square matrices (..., n, n); its derivative, the matrix of cofactors, exists at singular
    matrices too.

    Raises ShapeError, DTypeError, NonFiniteError. Source: Jacobi's formula, d det A = tr(adj(A) dA).

    >>> import numpy as np, dualsvd as ds
    >>> np.diag(ds.gradient(ds.linalg.det, np.diag([3.0, 0.0]))).round(12) + 0
    array([0., 3.])
    """
    return DET(as_square(a))


@implements(np.linalg.slogdet)
def slogdet(a: Any) -> SlogdetResult:
    """Sign (...) and logarithm (...) of the modulus of the determinant of square matrices (..., n, n).

    Raises DegenerateError where a derivative is asked for at a singular matrix; ShapeError, DTypeError, NonFiniteError.

    >>> import numpy as np, dualsvd as ds
    >>> np.diag(ds.gradient(lambda a: ds.linalg.slogdet(a).logabsdet, np.diag([4.0, -2.0])))
    array([ 0.25, -0.5 ])
    """
    return SlogdetResult(*SLOGDET(as_square(a)))


def cholesky(a: Any, *, upper: bool = False) -> Any:
    """The lower (or upper) Cholesky factor of the Hermitian part of a (..., n, n); its gradient is Hermitian too.

    Raises numpy.linalg.LinAlgError where that is not positive definite; ShapeError, DTypeError, NonFiniteError.
    Source: Murray 2016, "Differentiation of the Cholesky decomposition".

    >>> import numpy as np, dualsvd as ds
    >>> np.diag(ds.jvp(ds.linalg.cholesky, (np.diag([4.0, 1.0]),), (np.eye(2),))[1])
    array([0.25, 0.5 ])
    """
    L = CHOLESKY(as_square(a))
    return adjoint(L) if upper else L


@implements(np.linalg.cholesky)
def _numpy_cholesky(a: Any, /, *, upper: bool = False) -> Any:
    return cholesky(from_triangle(a, "U" if upper else "L"), upper=upper)


@implements(np.linalg.matrix_power)
def matrix_power(a: Any, n: int) -> Any:
    """The matrices a (..., n, n) to an integer power, by repeated squaring, and of the inverse if it is negative.

    Raises numpy.linalg.LinAlgError where a is singular and the power negative; DTypeError, also for a power that is no
    integer; ShapeError.

    >>> import numpy as np, dualsvd as ds
    >>> np.diag(ds.jvp(lambda a: ds.linalg.matrix_power(a, 3), (np.diag([2.0, 1.0]),), (np.eye(2),))[1])
    array([12.,  3.])
    """
    a = as_square(a)
    try:
        n = operator.index(n)
    except TypeError:
        raise DTypeError(f"the power must be an integer, got {n!r}") from None
    if n < 0:
        a, n = inv(a), -n
    if n == 0:
        return np.zeros_like(a) + np.eye(np.shape(a)[-1], dtype=primal(a).dtype)
    result = None
    while n:
        if n & 1:
            result = a if result is None else result @ a
        n >>= 1
        if n:
            a = a @ a
    return result
