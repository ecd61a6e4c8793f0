"""Inverse, linear systems, determinants, Cholesky: rules of one line each, with their derivations beside them."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..errors import DegenerateError, DTypeError, ShapeError
from ..rules.registry import Rule, as_inexact, implements, primal
from ..rules.structural import align
from ..settings import get
from .degeneracy import largest_exponent, scaled
from .factorise import finite_part, spoil, svd_factors
from .matrices import adjoint, as_square, from_triangle, hermitian_part
from .spectral_rule import one_direction_more


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


# -- d det A = tr(adj(A) dA), adj the matrix of cofactors transposed: a polynomial, which exists where A is singular too
#
# With A = U S V^H, d = det(U V^H), X = U^H D_0 V and M_l = U^H D_l V, Leibniz' formula gives
#
#     tr(D_0 D^k adj(A)[D_1 ... D_k]) = d sum_p sgn(p) sum_i P(i_0 ... i_k) X(i_0, p i_0) M_1(i_1, p i_1) ... M_k(...)
#
# over the permutations p of 0 ... k and all k + 1 different indices i, P the product of all other singular values: no
# quotient is needed. The sum is symmetric in D_0 ... D_k, so that ONE rule has all derivatives of det in both modes:
#
#     ADJUGATE(A, D_1 ... D_k) = D^k adj(A)[D_1 ... D_k]
#     along dA, dD_l:   ADJUGATE(A, D_1 ... D_k, dA) + sum_l ADJUGATE(A, D_1 .. dD_l .. D_k)
#     transposed, W:    A_bar = ADJUGATE(A, D_1 ... D_k, W^H)^H,   D_l_bar = ADJUGATE(A, D_1 .. W^H .. D_k)^H

#: In place of the exponent of 0: below those of all numbers and their products.
NOTHING = -(2**20)


def adjugate_function(a: Any, *directions: Any) -> Any:
    """D^k adj(A)[D_1 ... D_k] for plain arrays: rows and columns are brought to one size by powers of two, and back, so
    that each entry is right relative to itself where they differ in size."""
    n, parts = a.shape[-1], (a, *directions)
    sizes = [largest_exponent(x) for x in parts]
    rows, columns = balance(parts, sizes)
    B, *moved = (scaled(x, -e - rows - columns) for x, e in zip(parts, sizes))
    U, S, Vh = svd_factors(B, get())
    P, e = products_of_others(S, len(parts))
    G = sum_over_permutations(P, [adjoint(U) @ D @ adjoint(Vh) for D in moved])
    with np.errstate(invalid="ignore"):  # what is not finite stays so, where that is allowed
        phase = np.linalg.det(U) * np.linalg.det(Vh)
        G = phase[..., None, None] * (adjoint(Vh) @ G @ adjoint(U))
    e = e[..., None, None] + (n - len(parts)) * sizes[0] + sum(sizes[1:])
    e = e + np.sum(rows, axis=-2, keepdims=True) + np.sum(columns, axis=-1, keepdims=True)
    return scaled(G, e - np.swapaxes(rows, -1, -2) - np.swapaxes(columns, -1, -2))


def balance(parts: Any, sizes: Any) -> tuple[Any, Any]:
    """Exponents of rows (..., n, 1) and columns (..., 1, n) to divide all by, beside those of the matrices as a whole.
    The directions count too: along one that is not graded like the matrix all is known to the rounding of the largest.
    """
    entries = functools.reduce(np.maximum, [exponents(x) - e for x, e in zip(parts, sizes)])
    rows = np.max(entries, axis=-1, keepdims=True, initial=NOTHING)
    columns = np.max(np.where(entries > NOTHING, entries - rows, NOTHING), axis=-2, keepdims=True, initial=NOTHING)
    return np.where(rows > NOTHING, rows, 0), np.where(columns > NOTHING, columns, 0)


def exponents(x: Any) -> Any:
    """Those of the entries, or what stands for nothing."""
    size = np.abs(x)
    there = np.isfinite(size) & (size > 0)
    return np.where(there, np.frexp(np.where(there, size, 1))[1], 2 * NOTHING)


def products_of_others(S: Any, count: int) -> tuple[Any, Any]:
    """P (..., r, ..., r) with `count` indices, the products of all values but these, 0 where two are the same; as
    P 2^e, e (...), with the exponents summed beside, so that no part of a product leaves the range."""
    eye, different = np.eye(S.shape[-1], dtype=bool), np.ones((1,) * count, dtype=bool)
    for i, k in itertools.combinations(range(count), 2):
        different = different & ~np.expand_dims(eye, tuple(j for j in range(count) if j not in (i, k)))
    others, e = np.frexp(S)
    for _ in range(1, count):  # each index but the last puts 1 in place of its value
        others, e = np.where(eye, 1, others[..., None, :]), np.where(eye, 0, e[..., None, :])
    (before, low), (after, high) = products_before(others), products_before(others[..., ::-1])
    P, exponent = np.frexp(np.where(different, before * after[..., ::-1], 0))
    exponent = exponent + low + high[..., ::-1] + np.sum(e, axis=-1, keepdims=True) - e
    exponent = np.where(P == 0, NOTHING, exponent)
    axes = tuple(range(-count, 0))
    top = np.max(exponent, axis=axes, keepdims=True, initial=NOTHING)
    return np.ldexp(P, exponent - top), np.where(top > NOTHING, top, 0).reshape(S.shape[:-1])


def products_before(x: Any) -> tuple[Any, Any]:
    """The products of all entries before each, along the last axis, as y 2^e: even those of mantissas leave the range
    of single precision after 150."""
    y, e = np.empty_like(x), np.empty(x.shape, dtype=int)
    product, exponent = np.ones(x.shape[:-1], x.dtype), 0
    for i in range(x.shape[-1]):
        y[..., i], e[..., i] = product, exponent
        product, more = np.frexp(product * x[..., i])
        exponent = exponent + more
    return y, e


def sum_over_permutations(P: Any, M: list[Any]) -> Any:
    """(..., n, n): the factor of X in Leibniz' formula."""
    letters, total = "abcdefghij"[: len(M) + 1], 0.0
    for order in itertools.permutations(range(len(M) + 1)):
        inputs = [letters, *(letters[k] + letters[order[k]] for k in range(1, len(M) + 1))]
        odd = sum(i > k for i, k in itertools.combinations(order, 2)) % 2
        entry = "..." + (letters[order[0]] if order[0] else "") + "a"
        term = np.einsum(",".join("..." + x for x in inputs) + "->" + entry, P, *M)
        term = term if order[0] else term[..., None] * np.eye(P.shape[-1], dtype=P.dtype)
        total = total - term if odd else total + term
    return total


def adjugate_pushforward(y: Any, operands: Any, tangents: Any) -> Any:
    return one_direction_more(ADJUGATE, y, operands, tangents)


def adjugate_pullback(y_bar: Any, y: Any, operands: Any) -> tuple[Any, ...]:
    a, *directions = operands
    W = adjoint(y_bar)

    def in_place_of(i: int) -> Any:
        return lambda: adjoint(ADJUGATE(a, *directions[:i], W, *directions[i + 1 :]))

    return (lambda: adjoint(ADJUGATE(a, *directions, W))), *(in_place_of(i) for i in range(len(directions)))


def det_pushforward(y: Any, operands: Any, tangents: Any) -> Any:
    return trace_product(ADJUGATE(operands[0]), tangents[0])


def det_pullback(y_bar: Any, y: Any, operands: Any) -> tuple[Any]:
    return (y_bar[..., None, None] * adjoint(ADJUGATE(operands[0])),)


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


def adjugate_examples(rng: np.random.Generator) -> Iterator[Any]:
    for (a,), _ in square_examples(rng):
        yield (a,), {}
        if a.dtype.itemsize > 4:
            yield (a, rng.standard_normal(a.shape) * a), {}
    a, *directions = rng.standard_normal((3, 3, 3))
    yield (a * [1, 1, 0], *directions), {}


def positive_examples(rng: np.random.Generator) -> Iterator[Any]:
    for (a,), _ in square_examples(rng):
        yield (a @ adjoint(a) + np.eye(a.shape[-1], dtype=a.dtype),), {}


INV = Rule("inv", of_finite(np.linalg.inv), inv_pushforward, inv_pullback, square_examples)
SOLVE = Rule("solve", solve_function, solve_pushforward, solve_pullback, solve_examples)
DET = Rule("det", of_finite(np.linalg.det), det_pushforward, det_pullback, square_examples)
ADJUGATE = Rule("adjugate", adjugate_function, adjugate_pushforward, adjugate_pullback, adjugate_examples)
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
