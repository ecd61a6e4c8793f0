"""Polar factor, pseudo-inverse, low-rank approximation and their kin: all by the one rule of spectral functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..errors import ShapeError
from ..rules.registry import as_inexact, implements, of_dtype, primal
from ..settings import Options, get
from .degeneracy import scaled, spectrum
from .divided_differences import Family, Kept, UserFunction
from .factorise import factors_at, finite_or_nan
from .gauge import signed_zeros
from .matrices import adjoint, as_matrix, from_triangle, hermitian_part
from .scaling import from_range, in_range
from .spectral_rule import SPECTRAL
from .svd import svdvals

_NOT_GIVEN = object()  # rtol=None means something of its own to NumPy


class PolarResult(NamedTuple):
    """A (..., m, n) = unitary (..., m, n) @ positive (..., n, n)."""

    unitary: Any
    positive: Any


def spectral_in_range(a: Any, family: Family, degree: int) -> Any:
    """F(A) with F(c A) = c^degree F(A), brought to range first."""
    a, e = in_range(a)
    return from_range(SPECTRAL(a, family=family, options=get()), e, degree)


def spectral_function(a: Any, f: Callable[[Any], Any], df: Callable[[Any], Any]) -> Any:
    """U f(S) V^H (..., m, n) for a function f of the singular values with derivative df, f(0) = 0 where any is zero.

    f and df take and return real arrays of values, right relative to the value (expm1(s), not exp(s) - 1): second
    derivatives divide by the square of the value. Exact through ties, both modes, every order; second derivatives
    differentiate df, which must then be written with NumPy functions that have rules. Kinks of f are allowed where no
    value lies.

    Raises DegenerateError where a derivative is asked for, a value is zero and f(0) is not; DTypeError where f or df
    returns complex numbers; ShapeError, NonFiniteError, ConvergenceError.
    Source: Noferini 2017, "A formula for the Frechet derivative of a generalized matrix function".

    >>> import numpy as np, dualsvd as ds
    >>> ds.linalg.spectral_function(np.diag([3.0, 2.0]), np.square, lambda s: 2 * s)
    array([[9., 0.],
           [0., 4.]])
    """
    return SPECTRAL(as_matrix(a), family=UserFunction(f, df), options=get())


def polar(a: Any) -> PolarResult:
    """The polar factors of a (..., m, n): the unitary U V^H (..., m, n) and the positive V S V^H (..., n, n).

    Smooth where all singular values are positive, tied or not, and where one of a real square a is zero, as long as the
    determinant of the unitary factor keeps its sign. At other zeros the null vectors, and with them that factor, are
    one choice of many: the derivative is that of the rest, and what the zeros leave open counts as 0, in the positive
    factor its part between null vectors.

    Raises ShapeError, DTypeError, NonFiniteError, ConvergenceError. Source: Kenney and Laub 1991.

    >>> import numpy as np, dualsvd as ds
    >>> ds.linalg.polar(np.array([[0.0, -2.0], [2.0, 0.0]]))
    PolarResult(unitary=array([[ 0., -1.],
           [ 1.,  0.]]), positive=array([[2., 0.],
           [0., 2.]]))
    """
    a, e = in_range(as_matrix(a), order_one=True)
    options = get()
    W = SPECTRAL(a, family=Kept("one", "all"), options=options)
    return PolarResult(from_range(W, e, 0), from_range(hermitian_part(adjoint(determined(W, a, options)) @ a), e, 1))


def determined(W: Any, a: Any, options: Options) -> Any:
    """W without null vectors that are one choice of many: the positive factor must know nothing of that."""
    factors = factors_at(W, a, options)
    null = spectrum(factors.S, options).null
    one = (null.sum(axis=-1) == 1) & signed_zeros(factors)
    chosen = null.any(axis=-1) & ~one
    if not chosen.any():
        return W
    positive = SPECTRAL(a, family=Kept("one"), factors=factors, options=options)
    return np.where(chosen[..., None, None], positive, W)


def pinv(a: Any, rcond: Any = None) -> Any:
    """The Moore-Penrose inverse (..., n, m); singular values up to rcond * s_1 count as zero.

    rcond None: the noise of the factorisation. At a rank-deficient a the derivative is that along directions that keep
    the rank (Golub and Pereyra 1973); it is exact through ties.

    Raises ShapeError, DTypeError, NonFiniteError, ConvergenceError.

    >>> import numpy as np, dualsvd as ds
    >>> ds.linalg.pinv(np.array([[2.0, 0.0], [0.0, 0.0]]))
    array([[0.5, 0. ],
           [0. , 0. ]])
    """
    a = as_matrix(a)
    family = Kept("inverse") if rcond is None else Kept("inverse", "above", ratio=np.asarray(rcond)[..., None])
    return adjoint(spectral_in_range(a, family, -1))


def low_rank(a: Any, k: int) -> Any:
    """The best approximation of rank k to a (..., m, n) (Eckart, Young, Mirsky), a itself if k >= min(m, n).

    Differentiable where s_k > s_{k+1}, through ties on either side; DegenerateError where the cut falls into a tie.

    Raises ShapeError, DTypeError, NonFiniteError, ConvergenceError.

    >>> import numpy as np, dualsvd as ds
    >>> ds.linalg.low_rank(np.diag([3.0, 2.0]), 1)
    array([[3., 0.],
           [0., 0.]])
    """
    a = as_matrix(a)
    if of_rank(a, k):
        return finite_or_nan(a) * 1
    return spectral_in_range(a, Kept("identity", "first", k=k), 1)


def range_projector(a: Any, k: int) -> Any:
    """The projector U_k U_k^H (..., m, m) on the span of the first k left singular vectors: the range of `low_rank`.

    Vectors of null values have no direction and are left out, unless k = m, where the span is all of the space.
    Differentiable where s_k > s_{k+1}, through ties on either side; DegenerateError where the cut falls into a tie, and
    where s_k = 0.

    Raises ShapeError, DTypeError, NonFiniteError, ConvergenceError.

    >>> import numpy as np, dualsvd as ds
    >>> ds.linalg.range_projector(np.diag([3.0, 2.0]), 1)
    array([[1., 0.],
           [0., 0.]])
    """
    a = as_matrix(a)
    of_rank(a, k)
    if k >= np.shape(a)[-2]:
        return whole_space(a)
    W = spectral_in_range(a, Kept("one", "first", k=k), 0)
    return hermitian_part(W @ adjoint(W))


def whole_space(a: Any) -> Any:
    """The identity (..., m, m), which no a (..., m, n) moves."""
    m = np.shape(a)[-2]
    identity = np.zeros_like(a, shape=(*np.shape(a)[:-1], m)) + np.eye(m, dtype=primal(a).dtype)
    x = finite_or_nan(a)
    return identity if x is a else identity + np.sum(0 * x, axis=(-2, -1), keepdims=True)


def singular_value_threshold(a: Any, tau: float) -> Any:
    """U max(S - tau, 0) V^H (..., m, n), the proximal map of tau times the nuclear norm.

    Differentiable where no singular value equals tau; a value at tau counts as below it. tau is a plain number: there
    is no derivative by it.

    Raises ValueError where tau is NaN, MissingRuleError where it is traced; ShapeError, DTypeError, NonFiniteError,
    ConvergenceError.
    Source: Cai, Candes and Shen 2010, "A singular value thresholding algorithm".

    >>> import numpy as np, dualsvd as ds
    >>> ds.linalg.singular_value_threshold(np.diag([3.0, 2.0]), 2.5)
    array([[0.5, 0. ],
           [0. , 0. ]])
    """
    a, tau = as_matrix(a), float(tau)
    if math.isnan(tau):
        raise ValueError("tau must be a number, got nan")
    scaled_a, e = in_range(a)
    if e is None:
        return SPECTRAL(a, family=Kept("identity", "above", level=tau), options=get())
    if np.ndim(a) > 2:  # each matrix has its own scale
        return np.stack([singular_value_threshold(one, tau) for one in a])
    return from_range(SPECTRAL(scaled_a, family=Kept("identity", "above", level=scaled(tau, -e)), options=get()), e, 1)


def of_rank(a: Any, k: int) -> bool:
    """Whether every matrix of that shape has rank k at most."""
    r = min(np.shape(a)[-2:])
    if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or not k >= 0:
        raise ShapeError(f"k must be a number of singular values, an integer >= 0 ({r} are all), got {k!r}")
    return k >= r


@implements(np.linalg.pinv)
def _numpy_pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = _NOT_GIVEN) -> Any:
    """With NumPy's cutoffs: 1e-15 s_1 where neither is given, the rounding of the matrix where rtol is None."""
    if rcond is None:
        rcond = 1e-15 if rtol is _NOT_GIVEN else rtol
    elif rtol is not _NOT_GIVEN:
        raise ValueError("give one of rtol and rcond, got both")
    a = from_triangle(a) if hermitian else as_matrix(a)
    if rcond is None:
        rcond = max(np.shape(a)[-2:]) * np.finfo(primal(a).dtype).eps
    return pinv(a, rcond)


@implements(np.linalg.lstsq)
def lstsq(a: Any, b: Any, rcond: Any = None) -> tuple[Any, Any, int, Any]:
    """Least-squares solution of least norm, residuals, rank and singular values, as in NumPy.

    The solution has the derivative of `pinv(a, cutoff) @ b`: at a rank-deficient a, that along directions that keep the
    rank. Residuals and singular values have theirs; the rank is a number without one.

    a is one matrix (m, n), b a vector (m,) or a matrix (m, k); x is (n,) or (n, k), the residuals are (1,) or (k,), or
    (0,) where the rank is below n or m <= n, the singular values (min(m, n),). Singular values up to rcond * s_1 count
    as zero; None stands for the rounding unit times max(m, n), and what is not between 0 and 1 for LAPACK's unit of
    rounding alone.

    Raises ShapeError, DTypeError, NonFiniteError, ConvergenceError.

    >>> import numpy as np, dualsvd as ds
    >>> ds.linalg.lstsq(np.array([[1.0], [1.0]]), np.array([1.0, 3.0]))[0]
    array([2.])
    """
    a, b = as_matrix(a), as_inexact(b, "b")
    if np.ndim(a) != 2:
        raise ShapeError(f"lstsq takes one matrix a, got a stack of shape {np.shape(a)}; take pinv(a) @ b for a stack")
    if np.ndim(b) not in (1, 2) or len(b) != len(a):
        raise ShapeError(
            f"b must be a vector or matrix of {len(a)} rows to go with a of shape {np.shape(a)}, got {np.shape(b)}"
        )
    a, b = (of_dtype(x, np.result_type(a, b)) for x in (a, b))
    (m, n), S = np.shape(a)[-2:], svdvals(a)
    s = primal(S)
    eps = float(np.finfo(s.dtype).eps)
    at_most = eps * max(m, n) if rcond is None else rcond
    cut = at_most if 0 < at_most < 1 else eps / 2  # as LAPACK has it, in its unit of rounding
    rank = int(np.sum(s > cut * s[:1]))
    x = pinv(a, cut) @ b
    rest = b - a @ x
    residuals = np.sum(np.real(np.conj(rest) * rest), axis=0, keepdims=np.ndim(b) == 1)
    return x, residuals if rank == n < m else np.zeros(0, dtype=s.dtype), rank, S
