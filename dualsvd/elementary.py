"""The table: every elementary function and its derivative, written once.

A row names a function as NumPy does, gives the derivative by each argument as an expression, and an interval on which
the function is smooth. The Python number, the Numba number, arrays in forward mode, the tape, and the tests all read
the same row. An expression may use

    x (or a, b for two arguments)   the arguments
    y                               the function's value
    sin, exp, sqrt ...              any function of the table
    where(c, p, q), comparisons, numbers, + - * / and the constants pi, ln2, ln10

`compile_row` turns it into a function in the namespace of whoever asks: NumPy's functions for arrays, the scalar
protocol's for single numbers.

At a kink (abs at 0, maximum of equals) the expression is the element of least norm of the subdifferential: 0 for
abs, one half each for maximum. At a branch point (sqrt at 0) it is what the limit says: infinite.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Row:
    """One function: NumPy's name, derivative expressions, where it is smooth, and who else has it."""

    name: str
    partials: tuple[str, ...]
    intervals: tuple[Interval, ...]
    complex: bool = False  # holomorphic: the same expressions hold for complex arguments
    math: str | None = None  # the name in the module `math`, where there is one
    aliases: tuple[str, ...] = ()  # other functions with the same derivative, SciPy's included

    @property
    def arity(self) -> int:
        return len(self.partials)

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("x",) if self.arity == 1 else ("a", "b")


CONSTANTS = {"pi": math.pi, "ln2": math.log(2.0), "ln10": math.log(10.0)}

ANY, POSITIVE, UNIT, ABOVE_ONE = (-3.0, 3.0), (0.2, 4.0), (-0.9, 0.9), (1.2, 4.0)


def _unary(name: str, partial: str, interval: Interval, *, aliases: tuple[str, ...] = (), **known: Any) -> Row:
    return Row(name, (partial,), (interval,), aliases=aliases, **known)


def _binary(name: str, by_a: str, by_b: str, a: Interval, b: Interval, **known: Any) -> Row:
    return Row(name, (by_a, by_b), (a, b), **known)


# t = pi x; the quotient loses eps/x near 0, so the series -t/3 (1 - t^2/10 (1 - t^2/28 (1 - t^2/54 (1 - t^2/88))))
# serves |x| < 0.1, where its next term is below 1e-16.
_SINC = (
    "where(absolute(x) < 0.1,"
    " -pi*(pi*x)/3*(1 - (pi*x)*(pi*x)/10*(1 - (pi*x)*(pi*x)/28*(1 - (pi*x)*(pi*x)/54*(1 - (pi*x)*(pi*x)/88)))),"
    " (cos(pi*x) - y)/where(x == 0, 1, x))"
)

_ROWS = (
    # arithmetic
    _binary("add", "1", "1", ANY, ANY, complex=True),
    _binary("subtract", "1", "-1", ANY, ANY, complex=True),
    _binary("multiply", "b", "a", ANY, ANY, complex=True),
    _binary("divide", "1/b", "-y/b", ANY, POSITIVE, complex=True, aliases=("true_divide",)),
    _unary("negative", "-1", ANY, complex=True),
    _unary("positive", "1", ANY, complex=True),
    _unary("reciprocal", "-y*y", POSITIVE, complex=True),
    _unary("square", "2*x", ANY, complex=True),
    # powers: the exponent b - 1 is replaced where b = 0, so that 0**0 has derivative 0 instead of 0*inf; and 0**b has
    # derivative 0 by b instead of 0*log(0)
    _binary(
        "power",
        "b*power(a, where(b == 0, 1, b - 1))",
        "y*log(where(a == 0, 1, a))",
        POSITIVE,
        ANY,
        complex=True,
        math="pow",
        aliases=("float_power", "pow"),
    ),
    _unary("sqrt", "1/(2*y)", POSITIVE, complex=True, math="sqrt"),
    _unary("cbrt", "1/(3*y*y)", POSITIVE, math="cbrt"),
    _binary("hypot", "a/where(y == 0, 1, y)", "b/where(y == 0, 1, y)", ANY, POSITIVE, math="hypot"),
    # exponentials and logarithms
    _unary("exp", "y", ANY, complex=True, math="exp"),
    _unary("exp2", "ln2*y", ANY, complex=True, math="exp2"),
    _unary("expm1", "exp(x)", ANY, complex=True, math="expm1"),  # in y + 1 small ones cancel
    _unary("log", "1/x", POSITIVE, complex=True, math="log"),
    _unary("log2", "1/(ln2*x)", POSITIVE, complex=True, math="log2"),
    _unary("log10", "1/(ln10*x)", POSITIVE, complex=True, math="log10"),
    _unary("log1p", "1/(1 + x)", UNIT, complex=True, math="log1p"),
    _binary("logaddexp", "exp(a - y)", "exp(b - y)", ANY, ANY),
    _binary("logaddexp2", "exp2(a - y)", "exp2(b - y)", ANY, ANY),
    # 1 - x and 1 + x are written (-x - -1) and (x - -1): on the cut of a complex function the sign of a zero tells the
    # side, and 1 + x loses that of -0.0
    # trigonometric
    _unary("sin", "cos(x)", ANY, complex=True, math="sin"),
    _unary("cos", "-sin(x)", ANY, complex=True, math="cos"),
    _unary("tan", "1 + y*y", (-1.2, 1.2), complex=True, math="tan"),
    _unary("arcsin", "1/sqrt((-x - -1)*(x - -1))", UNIT, complex=True, math="asin", aliases=("asin",)),
    _unary("arccos", "-1/sqrt((-x - -1)*(x - -1))", UNIT, complex=True, math="acos", aliases=("acos",)),
    _unary("arctan", "1/(1 + x*x)", ANY, complex=True, math="atan", aliases=("atan",)),
    _binary(
        "arctan2",
        "b/hypot(a, b)/hypot(a, b)",
        "-a/hypot(a, b)/hypot(a, b)",
        ANY,
        POSITIVE,
        math="atan2",
        aliases=("atan2",),
    ),
    _unary("sinc", _SINC, ANY),
    _unary("degrees", "180/pi", ANY, math="degrees", aliases=("rad2deg",)),
    _unary("radians", "pi/180", ANY, math="radians", aliases=("deg2rad",)),
    # hyperbolic
    _unary("sinh", "cosh(x)", ANY, complex=True, math="sinh"),
    _unary("cosh", "sinh(x)", ANY, complex=True, math="cosh"),
    _unary("tanh", "1 - y*y", ANY, complex=True, math="tanh"),
    _unary("arcsinh", "1/sqrt(x*x - -1)", ANY, complex=True, math="asinh", aliases=("asinh",)),
    _unary("arccosh", "1/(sqrt(x - 1)*sqrt(x - -1))", ABOVE_ONE, complex=True, math="acosh", aliases=("acosh",)),
    _unary("arctanh", "1/((1 - x)*(1 + x))", UNIT, complex=True, math="atanh", aliases=("atanh",)),
    # special functions that NumPy has not; `math` has all but polygamma
    _unary("erf", "2/sqrt(pi)*exp(-x*x)", ANY, math="erf"),
    _unary("erfc", "-2/sqrt(pi)*exp(-x*x)", ANY, math="erfc"),
    _unary("gamma", "y*polygamma(0, x)", POSITIVE, math="gamma"),
    _unary("lgamma", "polygamma(0, x)", POSITIVE, math="lgamma", aliases=("gammaln",)),
    _binary("polygamma", "0", "polygamma(a + 1, b)", (0.0, 0.0), POSITIVE),
    # kinks: the least element of the subdifferential
    _unary("absolute", "sign(x)", POSITIVE, math="fabs", aliases=("abs", "fabs")),
    _binary("maximum", "where(a == b, 0.5, where(a > b, 1, 0))", "where(a == b, 0.5, where(a > b, 0, 1))", ANY, ANY),
    _binary("minimum", "where(a == b, 0.5, where(a < b, 1, 0))", "where(a == b, 0.5, where(a < b, 0, 1))", ANY, ANY),
    # beside NaN these return the other operand
    _binary(
        "fmax",
        "where(a == b, 0.5, where(a < b, 0, where(a == a, 1, 0)))",
        "where(a == b, 0.5, where(a > b, 0, where(b == b, 1, 0)))",
        ANY,
        ANY,
    ),
    _binary(
        "fmin",
        "where(a == b, 0.5, where(a > b, 0, where(a == a, 1, 0)))",
        "where(a == b, 0.5, where(a < b, 0, where(b == b, 1, 0)))",
        ANY,
        ANY,
    ),
    _binary("copysign", "copysign(1, a)*copysign(1, b)", "0", POSITIVE, POSITIVE, math="copysign"),
    _binary("fmod", "1", "-trunc(a/b)", (0.1, 0.9), (1.0, 2.0), math="fmod"),
    _binary("remainder", "1", "-floor(a/b)", (0.1, 0.9), (1.0, 2.0), aliases=("mod",)),
    # steps: constant between their jumps
    _unary("sign", "0", POSITIVE),
    _unary("floor", "0", (0.1, 0.9), math="floor"),
    _unary("ceil", "0", (0.1, 0.9), math="ceil"),
    _unary("trunc", "0", (0.1, 0.9), math="trunc"),
    _unary("rint", "0", (0.1, 0.4)),
    _binary("floor_divide", "0", "0", (0.1, 0.9), (1.0, 2.0)),
    _binary("heaviside", "0", "0", POSITIVE, POSITIVE),
)

TABLE: dict[str, Row] = {row.name: row for row in _ROWS}
BY_NAME: dict[str, Row] = TABLE | {alias: row for row in _ROWS for alias in row.aliases}


def compile_row(row: Row, namespace: Mapping[str, Any]) -> tuple[Callable[..., Any], ...]:
    """The derivatives of a row as functions of (*arguments, y), their names looked up in `namespace`.

    >>> import numpy as np
    >>> (slope,) = compile_row(TABLE["tanh"], {})
    >>> bool(slope(0.3, np.tanh(0.3)) == 1 - np.tanh(0.3) ** 2)
    True
    """
    scope = CONSTANTS | dict(namespace)
    head = f"lambda {', '.join(row.arguments)}, y: "
    return tuple(
        eval(compile(head + partial, f"<derivative of {row.name}>", "eval"), scope) for partial in row.partials
    )


# B_2k / (2k)! for the asymptotic series of the polygamma functions; sixteen digits from _SHIFT upwards
_BERNOULLI = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600)
_SHIFT = 16.0


def polygamma(order: float, x: float) -> float:
    """The derivative of order `order` + 1 (a whole number) of log(gamma(x)).

    At a pole it is infinity, or NaN where the two sides differ. Recurrence up to x >= 16 + order, then the asymptotic
    series (Abramowitz and Stegun 6.3.18, 6.4.11).

    >>> round(polygamma(0, 1.0), 12)  # minus Euler's constant
    -0.577215664902
    """
    n = int(order)
    sign = 1.0 if n % 2 else -1.0  # (-1)^(n+1)
    if x <= 0 and not x % 1.0 > 0:  # a pole, or -inf
        return math.inf if n % 2 else math.nan
    factorial = 1.0
    for k in range(2, n + 1):
        factorial *= k
    total = 0.0
    while x < _SHIFT + n:
        term = sign * factorial
        for _ in range(n + 1):  # x**(n + 1) would be zero for small x
            term /= x
        total += term
        x += 1.0
    r = 1.0 / x  # whose powers may vanish, where those of x would overflow
    tail, rising, power = 0.0, factorial * (n + 1), r ** (n + 2)
    for k in range(len(_BERNOULLI)):  # B_2j/(2j)! (2j + n - 1)! / x^(2j + n), j = k + 1
        tail += _BERNOULLI[k] * rising * power
        rising *= (2 * k + 2 + n) * (2 * k + 3 + n)
        power *= r * r
    if n == 0:
        return total + math.log(x) - 0.5 * r - tail
    return total + sign * (factorial / n * r**n + factorial / 2.0 * r ** (n + 1) + tail)


def gamma(x: float) -> float:
    """math.gamma; where that raises an error, infinity or NaN as SciPy's."""
    try:
        return math.gamma(x)
    except OverflowError:
        return math.copysign(math.inf, x)
    except ValueError:  # a pole, or -inf
        return math.copysign(math.inf, x) if x == 0 else math.nan


def lgamma(x: float) -> float:
    """math.lgamma; infinity where that raises an error: at poles, and beyond the largest number."""
    try:
        return math.lgamma(x)
    except (ValueError, OverflowError):
        return math.inf


def _over_arrays(function: Callable[..., float], name: str) -> Any:
    """A scalar function over arrays: NumPy has no ufunc of it."""
    ufunc = np.frompyfunc(function, TABLE[name].arity, 1)

    def over_arrays(*arguments: Any) -> Any:
        result = ufunc(*arguments)
        if not isinstance(result, (float, np.ndarray)):  # of a number that has a rule of its own
            return result
        kind = getattr(arguments[-1], "dtype", None)
        return np.asarray(result, dtype=np.float32 if kind == np.float32 else np.float64)[()]

    over_arrays.__name__ = name
    over_arrays.ufunc = ufunc  # type: ignore[attr-defined]
    return over_arrays


#: what NumPy does not have, for arrays; the rest of the table are NumPy's own ufuncs
EXTRA = {
    "erf": _over_arrays(math.erf, "erf"),
    "erfc": _over_arrays(math.erfc, "erfc"),
    "gamma": _over_arrays(gamma, "gamma"),
    "lgamma": _over_arrays(lgamma, "lgamma"),
    "polygamma": _over_arrays(polygamma, "polygamma"),
}


def array_function(name: str) -> Any:
    """The function of that row over plain arrays.

    >>> array_function("sin") is np.sin
    True
    """
    return EXTRA[name] if name in EXTRA else getattr(np, name)


def is_of_scipy(ufunc: Any) -> bool:
    """Whether a ufunc is SciPy's of its name: one of the user's may go by that name, and be another function."""
    return getattr(sys.modules.get("scipy.special"), ufunc.__name__, None) is ufunc
