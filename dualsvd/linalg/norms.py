"""Norms of matrices and vectors, condition and rank: the gradients are spectral functions, exact through ties.

    ||A||_2      the largest singular value: see `extremes`
    ||A||_*      gradient U_r V_r^H over the positive values: the least of all subgradients                          (1)
    ||A||_p      gradient U (S / ||A||_p)^(p-1) V^H                                                                  (2)

(Watson 1992, "Characterization of the subdifferential of some matrix norms".) Forward mode gives the one-sided
directional derivative: <U_r V_r^H, D> and the nuclear norm of D between the null spaces for (1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import DegenerateError, ShapeError
from ..rules.levels import need_all_directions
from ..rules.reductions import last_axes, negative_axes, restore
from ..rules.registry import Rule, Tracer, as_inexact, implements, primal, refuse_second
from ..settings import Options, get, resolve
from .degeneracy import largest_exponent, meet_tie, scaled, spectrum, values_in_range
from .divided_differences import Kept, Power
from .extremes import EXTREME, extreme_value
from .factorise import SVDResult, factors_at, finite_or_nan, finite_part, remember, singular_values, svd_factors
from .kernel_rules import swept_slopes
from .matrices import as_matrix, inner, is_plain, operand_examples
from .scaling import from_range, in_range
from .solve import inv, of_finite
from .spectral_rule import SPECTRAL
from .svd import svdvals, turned_slopes

# ---------------------------------------------------------------------------------------------------------------------
# Sums over the singular values: nuclear norm, Schatten norms


def nuclear_function(a: Any, *, options: Options | None = None) -> Any:
    """The sum of the singular values of plain matrices, with the factors remembered beside it."""
    factors = svd_factors(a, options or get())
    return remember(np.asarray(np.sum(factors.S, axis=-1)), factors)


def nuclear_pushforward(y: Any, operands: Any, tangents: Any, *, options: Options | None = None) -> Any:
    (a,), (dA,), options = operands, tangents, options or get()
    if options.tangents == "sweeps" and is_plain(a, dA):
        return np.sum(swept_slopes(a, dA, options), axis=-1)
    factors = factors_at(y, a, options)
    at = spectrum(factors.S, options)
    if not np.any(at.null):
        return inner(SPECTRAL(a, family=Kept("one"), factors=factors, options=options), dA)
    meet_tie(factors.S, at, options)
    need_all_directions()
    return np.sum(turned_slopes(a, factors, dA, options), axis=-1)


def nuclear_pullback(y_bar: Any, y: Any, operands: Any, *, options: Options | None = None) -> tuple[Any]:
    (a,), options = operands, options or get()
    factors = factors_at(y, a, options)
    at = spectrum(factors.S, options)
    if np.any(at.null):
        meet_tie(factors.S, at, options)
    return (y_bar[..., None, None] * SPECTRAL(a, family=Kept("one"), factors=factors, options=options),)


def largest_value(S: Any) -> Any:
    """s_1 (..., 1), by which the others are divided before they are raised to any power; 1 in place of 0."""
    top = np.max(S, axis=-1, keepdims=True, initial=0)
    return np.where(top == 0, np.ones_like(top), top)


def schatten_value(S: Any, p: float) -> Any:
    """(sum of s^p)^(1/p)."""
    top = largest_value(S)
    return np.sum((S / top) ** p, axis=-1) ** S.dtype.type(1 / p) * top[..., 0]


def schatten_function(a: Any, *, p: float, options: Options | None = None) -> Any:
    """The same of plain matrices, with the factors remembered beside it."""
    factors = svd_factors(a, options or get())
    return remember(np.asarray(schatten_value(factors.S, p)), factors)


def schatten_gradient(y: Any, a: Any, p: float, options: Options) -> Any:
    """(2), as (p (s / s_1)^(p-1)) (s_1 / y)^(p-1) / p, of which s_1 is a constant: every factor is of order one. 0 at a
    zero matrix, the least subgradient."""
    U, S, Vh = factors_at(y, a, options)
    top, zero = largest_value(S), np.asarray(primal(y)) == 0
    unit = SVDResult(U, S / top, Vh)
    slopes = SPECTRAL(a / top[..., None], family=Power(p), factors=unit, options=options)
    return slopes * ((top[..., 0] / (y + zero)) ** S.dtype.type(p - 1) / S.dtype.type(p))[..., None, None]


def schatten_pushforward(y: Any, operands: Any, tangents: Any, *, p: float, options: Options | None = None) -> Any:
    return inner(schatten_gradient(y, operands[0], p, options or get()), tangents[0])


def schatten_pullback(y_bar: Any, y: Any, operands: Any, *, p: float, options: Options | None = None) -> tuple[Any]:
    return (y_bar[..., None, None] * schatten_gradient(y, operands[0], p, options or get()),)


# ---------------------------------------------------------------------------------------------------------------------
# Norms of the last axis


def vector_function(x: Any, *, p: float = 2) -> Any:
    """(sum |x|^p)^(1/p) over the last axis, scaled so that no power leaves the range."""
    if not x.shape[-1]:
        return np.full(x.shape[:-1], 0 if p > 0 else np.inf, dtype=x.real.dtype)[()]
    moduli = np.abs(x)
    top = np.max(moduli, axis=-1, keepdims=True) if p > 0 else np.min(moduli, axis=-1, keepdims=True)
    if p == 2:
        e = np.frexp(top)[1]
        unit = scaled(x, -e)
        return scaled(np.sqrt(np.sum(np.real(unit) ** 2 + np.imag(unit) ** 2, axis=-1)), e[..., 0])
    top = np.where((top == 0) | np.isinf(top), np.ones_like(top), top)
    with np.errstate(divide="ignore", over="ignore"):  # of negative order: infinite there and back
        return np.sum((moduli / top) ** p, axis=-1) ** (1.0 / p) * top[..., 0]


def steepest(y: Any, x: Any, p: float) -> Any:
    """The gradient x |x|^(p-2) / y^(p-1) of the norm y of x; 0 where x is 0, which at y = 0 is the least
    subgradient."""
    zero = np.asarray(primal(y)) == 0
    if not primal(x).size:
        return x
    if p == 2:
        refuse_second(x, zero[..., None], AT_KINK)
        return x / (y + zero)[..., None]
    still = np.asarray(primal(x)) == 0
    if p < 0 and np.any(still):
        raise DegenerateError(f"the norm of order {p} has no derivative where an element is 0")
    refuse_second(x, still if p < 2 else zero[..., None], AT_KINK)
    with np.errstate(over="ignore"):  # of negative order: infinite, and nothing of it is left
        unit = (x + still) / (y + zero)[..., None]
        size = np.abs(unit)
        # below order 1 |x| / y may be so small that its power p - 2 leaves the range, or itself be beyond the range
        slope = unit * size ** (p - 2) if p >= 1 else (x + still) / np.abs(x + still) * size ** (p - 1)
    return np.where(still, np.zeros((), primal(x).dtype), slope)


AT_KINK = (
    "a second derivative passes the kink of a norm at 0, where the first one jumps; of a smooth function of the norm, "
    "write np.sum(x * x) for the square (np.sum(np.abs(x) ** p) for the p-th power)"
)


def vector_pushforward(y: Any, operands: Any, tangents: Any, *, p: float = 2) -> Any:
    """Re <g, dx>, g the gradient; where x = 0, that of the first direction that leaves 0."""
    (x,), (dx,) = operands, tangents
    g = steepest(y, x, p)
    zero = np.asarray(primal(y)) == 0
    if p > 0 and np.any(zero) and primal(dx).size:
        need_all_directions()
        size = vector_function(primal(dx), p=p)
        first = np.argmax(size > 0, axis=0)[None, ..., None]
        leaving = np.take_along_axis(dx, np.broadcast_to(first, (1, *dx.shape[1:])), axis=0)[0]
        leaving = np.where(zero[..., None], leaving, np.ones((), dx.dtype))  # the others need none
        g = np.where(zero[..., None], steepest(VECTOR(leaving, p=p), leaving, p), g)
    return np.real(np.sum(np.conj(g) * dx, axis=-1))


def vector_pullback(y_bar: Any, y: Any, operands: Any, *, p: float = 2) -> tuple[Any]:
    return (y_bar[..., None] * steepest(y, operands[0], p),)


# ---------------------------------------------------------------------------------------------------------------------
# Registration


def power_examples(rng: np.random.Generator) -> Iterator[Any]:
    for operands, _ in operand_examples(rng):
        yield operands, {"p": 3.0 if operands[0].shape[-1] % 2 else 1.5}


def vector_examples(rng: np.random.Generator) -> Iterator[Any]:
    for shape, p in (((3,), 2), ((2, 3), 2), ((1,), 2), ((3,), 3), ((2, 3), 1.5)):
        yield (rng.standard_normal(shape),), {"p": p}
    for p in (2, 3):
        yield (rng.standard_normal(3) + 1j * rng.standard_normal(3),), {"p": p}
        yield (rng.standard_normal(3).astype(np.float32),), {"p": p}


NUCLEAR = Rule("nuclear_norm", nuclear_function, nuclear_pushforward, nuclear_pullback, operand_examples)
SCHATTEN = Rule("schatten_norm", schatten_function, schatten_pushforward, schatten_pullback, power_examples)
VECTOR = Rule("vector_norm", vector_function, vector_pushforward, vector_pullback, vector_examples)


# ---------------------------------------------------------------------------------------------------------------------
# What users call


def nonempty(a: Any) -> Any:
    """A matrix or a stack with at least one singular value each."""
    a = as_matrix(a)
    if 0 in np.shape(a)[-2:]:
        raise ShapeError(f"an empty matrix has no smallest singular value: got shape {np.shape(a)}")
    return a


def norm_in_range(rule: Rule, a: Any, **params: Any) -> Any:
    """A norm by its rule; where a value tells that reciprocals may fail, by that of a matrix brought to range. Where
    the rule may warn it is not tried before."""
    y = None
    if params["options"].ties != "warn":
        with np.errstate(all="ignore"):  # of what may be thrown away
            y = rule(a, **params)
    if y is None or not values_in_range(primal(y)):
        a, e = in_range(a)
        y = rule(a, **params) if y is None or e is not None else y
        y = from_range(y, e, 1)
    return y if isinstance(y, Tracer) else y[()]


def opnorm(
    a: Any,
    *,
    algorithm: str | None = None,
    tangents: str | None = None,
    ties: str | None = None,
    refine: int | None = None,
) -> Any:
    """The spectral norm (...), the largest singular value of a (..., m, n), in the units of a.

    Where s_1 is tied, forward mode gives the one-sided directional derivative and reverse mode the subgradient of least
    norm, U_k V_k^H / k; 0 at a zero matrix. Of an empty matrix the norm is 0. Options as in `svd`; from 256 rows and
    columns on, "auto" finds the top pair alone by a Krylov process, where it can certify it.

    Raises ShapeError, DTypeError, NonFiniteError, ConvergenceError; DegenerateError where s_1 is tied or zero under
    ties="raise". Source: Watson 1992.

    >>> import numpy as np, dualsvd as ds
    >>> float(ds.opnorm(np.diag([3.0, 2.0])).round(12))
    3.0
    """
    chosen = resolve(algorithm=algorithm, tangents=tangents, ties=ties, refine=refine)
    a = as_matrix(a)
    if 0 in np.shape(a)[-2:]:
        return np.sum(np.abs(a), axis=(-2, -1))
    if not isinstance(a, Tracer):
        return extreme_value(a, "largest", chosen)
    return norm_in_range(EXTREME, a, which="largest", options=chosen)


def smallest_singular_value(a: Any) -> Any:
    """s_r (...), with the same conventions as `opnorm`; ShapeError where there is none."""
    a = nonempty(a)
    if not isinstance(a, Tracer):
        return extreme_value(a, "smallest", get())
    return norm_in_range(EXTREME, a, which="smallest", options=get())


def nuclear_norm(a: Any) -> Any:
    """The sum (...) of the singular values of a (..., m, n), in the units of a.

    Smooth where all are positive, tied or not. At zero values forward mode gives the one-sided directional derivative
    and reverse mode the subgradient of least norm, U_r V_r^H over the positive ones.

    Raises ShapeError, DTypeError, NonFiniteError, ConvergenceError; DegenerateError at zeros under ties="raise".
    Source: Watson 1992.

    >>> import numpy as np, dualsvd as ds
    >>> ds.gradient(ds.nuclear_norm, np.eye(2))
    array([[1., 0.],
           [0., 1.]])
    """
    a = as_matrix(a)
    if not isinstance(a, Tracer):
        return np.sum(singular_values(a, get()), axis=-1)
    return norm_in_range(NUCLEAR, a, options=get())


def schatten_norm(a: Any, p: float) -> Any:
    """(sum of s^p)^(1/p), p >= 1."""
    if p == 1:
        return nuclear_norm(a)
    if p == np.inf:
        return opnorm(a)
    if p == 2:
        return frobenius_norm(a)
    if not p > 1:
        raise ValueError(f"a Schatten norm needs p >= 1, got {p}")
    a, p = as_matrix(a), float(p)
    if not isinstance(a, Tracer):
        return schatten_value(singular_values(a, get()), p)
    y = norm_in_range(SCHATTEN, a, p=p, options=get())
    zero = np.asarray(primal(y)) == 0
    if zero.any():  # where the norm has a kink, it is that of the values' slopes
        y = np.where(zero, np.linalg.norm(svdvals(a), p, axis=-1), y)
    return y


def frobenius_norm(a: Any) -> Any:
    """The Euclidean norm (...) of the entries of a (..., m, n)."""
    a, e = in_range(finite_or_nan(as_matrix(a)))
    return from_range(VECTOR(np.reshape(a, (*np.shape(a)[:-2], math.prod(np.shape(a)[-2:])))), e, 1)


def largest_or_least(moduli: Any, sign: float) -> Any:
    """The largest of the last axis, 0 if there is none, or by a negative sign the smallest."""
    if np.shape(moduli)[-1]:
        return np.max(moduli, axis=-1) if sign > 0 else np.min(moduli, axis=-1)
    if sign > 0:
        return np.sum(moduli, axis=-1)
    raise ShapeError(f"the smallest of no numbers is asked for, of moduli of shape {np.shape(moduli)}")


def norm(a: Any, ord: Any = None) -> Any:
    """A norm (...) of the matrices a (..., m, n); ord as in NumPy, and ("schatten", p).

    2, -2: largest and smallest singular value; "nuc"; "fro" (None means this); 1, -1, inf, -inf: extreme sums of
    moduli over columns and rows; of ("schatten", p) p is a plain number, without a derivative. All have the units of a.

    Differentiable: 2, -2 where that value is simple and positive; "nuc" and ("schatten", 1) where all are positive,
    tied or not; "fro" and ("schatten", p), p > 1, but at zero matrices; 1, -1, inf, -inf where one sum is the extreme
    and none of its entries is 0. Elsewhere, by singular values or "fro": forward mode gives the one-sided derivative
    along a direction, reverse mode the subgradient of least norm (of -2 the like); by sums: what `np.max` and `np.abs`
    give at ties and at 0.

    Raises ValueError for another ord, MissingRuleError for a traced p; ShapeError (of an empty matrix too for -2, -1
    and -inf, where there is no least of anything; the others are 0), DTypeError, NonFiniteError, ConvergenceError;
    DegenerateError where norms by singular values have a kink under ties="raise".

    >>> import numpy as np, dualsvd as ds
    >>> [float(ds.linalg.norm(np.diag([3.0, 4.0]), ord)) for ord in (2, -2, "nuc", "fro", ("schatten", 2))]
    [4.0, 3.0, 7.0, 5.0, 5.0]
    """
    a = as_matrix(a)
    if isinstance(ord, tuple):
        if len(ord) != 2 or ord[0] != "schatten":
            raise ValueError(f'ord must be ("schatten", p) if it is a tuple, got {ord!r}')
        return schatten_norm(a, ord[1])
    if ord is None or ord in ("fro", "f"):  # the second is NumPy's
        return frobenius_norm(a)
    if ord == "nuc":
        return nuclear_norm(a)
    if ord == 2:
        return opnorm(a)
    if ord == -2:
        return smallest_singular_value(a)
    if ord in (1, -1, np.inf, -np.inf):
        return largest_or_least(np.sum(np.abs(finite_or_nan(a)), axis=-2 if abs(ord) == 1 else -1), ord)
    raise ValueError(
        f'ord must be None, "fro", "nuc", 1, -1, 2, -2, inf, -inf or ("schatten", p) for matrices, got {ord!r}'
    )


def vector_norm(x: Any, ord: Any = 2) -> Any:
    """A norm (...) of the vectors x (..., n) along the last axis, in the units of x; ord as in NumPy.

    Differentiable, for 1 < ord < inf, but at zero vectors (ord 1: entries 0; inf, -inf: where the extreme is tied or
    0); there forward mode along one direction gives that of ord > 1 one-sided, and reverse mode a subgradient.

    Raises ValueError for an ord that is no number, DegenerateError for a derivative of a negative order at an entry of
    0, ShapeError for the least of no entries; DTypeError.

    >>> import numpy as np, dualsvd as ds
    >>> ds.gradient(ds.linalg.vector_norm, np.array([3.0, 4.0]))
    array([0.6, 0.8])
    """
    x = as_inexact(x, "x")
    if ord is None or ord == 2:
        return VECTOR(x)
    if ord in (np.inf, -np.inf):
        return largest_or_least(np.abs(x), ord)
    if ord == 0:
        return np.sum(primal(x) != 0, axis=-1).astype(np.abs(primal(x)).dtype)
    if ord == 1:
        return np.sum(np.abs(x), axis=-1)
    if isinstance(ord, (str, tuple)):
        raise ValueError(f"ord must be a number for vectors, got {ord!r}")
    return VECTOR(x, p=ord)


def cond(a: Any, p: Any = None) -> Any:
    """The condition number (...) in the norm p, as in NumPy; s_1 / s_r for p None or 2.

    Infinite at singular matrices, where it has no derivative.

    Raises DegenerateError where a derivative is asked for at a singular matrix, ValueError for another p; ShapeError,
    DTypeError, NonFiniteError, ConvergenceError.

    >>> import numpy as np, dualsvd as ds
    >>> float(ds.linalg.cond(np.diag([4.0, 2.0])))
    2.0
    """
    a = nonempty(a)
    return cond_by_values(a, p == -2) if p in (None, 2, -2) else cond_by_inverse(a, p)


def cond_by_inverse(a: Any, p: Any) -> Any:
    """||A|| ||A^-1||."""
    a = scaled(a, -largest_exponent(a))  # no sum, and no derivative of the inverse, then leaves the range
    if not isinstance(a, Tracer):
        return of_finite(lambda finite: np.linalg.cond(finite, p))(a)[()]
    try:
        return norm(a, p) * norm(inv(a), p)
    except np.linalg.LinAlgError:
        raise DegenerateError(
            "the condition number has no derivative at a singular matrix, where it is infinite; differentiate "
            f"norm(a, {p!r}) instead"
        ) from None


def cond_by_values(a: Any, inverted: bool) -> Any:
    """s_1 / s_r, or s_r / s_1 if `inverted`."""
    if not isinstance(a, Tracer):
        S = singular_values(a, get())
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = S[..., -1] / S[..., 0] if inverted else S[..., 0] / S[..., -1]
        return np.where(np.isnan(ratio) & ~np.isnan(S[..., 0]), np.inf, ratio)[()]  # 0 / 0 of zero matrices
    a, e = in_range(a)
    top, bottom = opnorm(a), smallest_singular_value(a)
    s1, sr = np.asarray(primal(top))[..., None], np.asarray(primal(bottom))[..., None]
    r = min(np.shape(a)[-2:])
    ends = np.where(np.arange(r) < r - 1, s1, sr)  # those between do not tell whether the last is null
    if np.any(spectrum(ends, get()).null[..., -1]):
        raise DegenerateError(
            f"the condition number has no derivative at a singular matrix (s_r = {np.min(sr):.1e}, s_1 = "
            f"{np.max(s1):.1e}); differentiate opnorm(a) or norm(a, -2) instead"
        )
    return from_range(bottom / top if inverted else top / bottom, e, 0)


def matrix_rank(a: Any, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    """The number (...) of singular values of a (..., m, n) above a tolerance, as in NumPy: an integer, which carries no
    derivative. tol is in the units of a, rtol is relative to s_1.

    Raises DTypeError, NonFiniteError.

    >>> import numpy as np, dualsvd as ds
    >>> int(ds.linalg.matrix_rank(np.ones((3, 3))))
    1
    """
    a = as_inexact(primal(a), "a")
    if a.ndim >= 2:
        a = finite_part(a, get())[0]  # an integer cannot be NaN: a matrix that is not finite counts as 0
    return np.linalg.matrix_rank(a, tol, hermitian, rtol=rtol)


# ---------------------------------------------------------------------------------------------------------------------
# NumPy's names and signatures


def norm_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes that NumPy's norms mean, which take fewer things for axes than its reductions, counted from the end."""
    if axis is not None and not isinstance(axis, tuple):
        try:
            axis = int(axis)
        except (TypeError, ValueError):
            raise TypeError(f"'axis' must be None, an integer or a tuple of integers, got {axis!r}") from None
    return negative_axes(axis, ndim)


@implements(np.linalg.norm)
def _numpy_norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    ndim = np.ndim(x)
    axes = norm_axes(axis, ndim)
    if axis is None and ord is None:
        y = VECTOR(np.reshape(x, (-1,)))
    elif len(axes) == 1:
        y = vector_norm(np.moveaxis(x, axes[0], -1), 2 if ord is None else ord)
    elif len(axes) == 2:
        y = norm(np.moveaxis(x, axes, (-2, -1)), ord)
    else:
        raise ValueError("Improper number of dimensions to norm.")
    return restore(y, ndim, axes, False) if keepdims else y


@implements(np.linalg.vector_norm)
def _numpy_vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    axes = norm_axes(axis, np.ndim(x))
    y = vector_norm(last_axes(x, axes), ord)
    return restore(y, np.ndim(x), axes, False) if keepdims else y


@implements(np.linalg.matrix_norm)
def _numpy_matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    return _numpy_norm(x, ord, axis=(-2, -1), keepdims=keepdims)


implements(np.linalg.cond)(cond)


@implements(np.linalg.matrix_rank)
def _numpy_matrix_rank(A: Any, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    return matrix_rank(A, tol, hermitian, rtol=rtol)
