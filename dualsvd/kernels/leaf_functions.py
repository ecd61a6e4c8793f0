"""Functions of the table that leaves write with their own operators; all others are Numba's.

A leaf is a number of `staging`: running these on it records instructions.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .number_types import precision

if TYPE_CHECKING:
    from .staging import Leaf


def _sign(x: Leaf) -> Leaf:
    return (x > 0).select(1, (x < 0).select(-1, x))


def _heaviside(x: Leaf, at_zero: Leaf) -> Leaf:
    return (x == 0).select(at_zero, (x < 0).select(0, (x > 0).select(1, x)))


def _sinc(x: Leaf) -> Leaf:
    t = (x == 0).select(1, x * math.pi)
    return (x == 0).select(1, t.emitter.function("sin", (t,)) / t)


def whole_power(z: Any, one: Any, n: int) -> Any:
    """z**n by squaring, as Python does it; by logarithms (1+2j)**2 would come out off by rounding."""
    if n == 0:
        return one
    factor, left = z, n
    while left & 1 == 0:
        factor, left = factor * factor, left >> 1
    power, left = factor, left >> 1
    while left > 0:
        factor = factor * factor
        if left & 1:
            power = power * factor
        left = left >> 1
    return power


OWN: dict[str, Callable[..., Any]] = {
    "absolute": abs,
    "square": lambda x: x * x,
    "reciprocal": lambda x: 1 / x,
    "degrees": lambda x: x * (180 / math.pi),
    "radians": lambda x: x * (math.pi / 180),
    "maximum": lambda a, b: ((a >= b) | (a != a)).select(a, b),  # NaN wins, as in NumPy
    "minimum": lambda a, b: ((a <= b) | (a != a)).select(a, b),
    "fmax": lambda a, b: ((a >= b) | (b != b)).select(a, b),  # NaN loses
    "fmin": lambda a, b: ((a <= b) | (b != b)).select(a, b),
    "sign": _sign,
    "heaviside": _heaviside,
    "sinc": _sinc,
}


def _trunc(x: Leaf) -> Leaf:
    whole = abs(x) >= 2.0 ** (52 if precision(x.type) == 64 else 23)  # inf too, of which fmod is NaN
    return (whole | (x != x)).select(x, x - x.emitter.function("fmod", (x, 1.0)))


def _floor(x: Leaf) -> Leaf:
    t = _trunc(x)
    return t - (t > x).select(1, 0)


def _ceil(x: Leaf) -> Leaf:
    t = _trunc(x)
    return t + (t < x).select(1, 0)


def _rint(x: Leaf) -> Leaf:
    t = _trunc(x)
    over, odd = abs(x - t), t.emitter.function("fmod", (t, 2.0)) != 0
    return ((over > 0.5) | ((over == 0.5) & odd)).select(t + _sign(x), t)


def _remainder(a: Leaf, b: Leaf) -> Leaf:
    r = a.emitter.function("fmod", (a, b))  # exact, but of the sign of a
    return ((r != 0) & ((r < 0) ^ (b < 0))).select(r + b, r)


def _floor_divide(a: Leaf, b: Leaf) -> Leaf:
    r = a.emitter.function("fmod", (a, b))
    quotient = (a - r) / b - ((r != 0) & ((r < 0) ^ (b < 0))).select(1, 0)  # whole but for rounding
    return (b == 0).select(a / b, _rint(quotient))


def _cbrt(x: Leaf) -> Leaf:
    regular = (x != 0) & (abs(x) < math.inf)
    safe = regular.select(x, 1)
    y = _sign(safe) * x.emitter.function("power", (abs(safe), 1 / 3))
    y = y - (y - safe / (y * y)) / 3  # a step of Newton's, for the rounding of 1/3
    return regular.select(y, x)


def _logaddexp(a: Leaf, b: Leaf) -> Leaf:
    higher = (a > b).select(a, b)
    ratio = a.emitter.function("exp", (-abs(a - b),))
    return (a == b).select(a + math.log(2), higher + a.emitter.function("log1p", (ratio,)))


def _logaddexp2(a: Leaf, b: Leaf) -> Leaf:
    return _logaddexp(a * math.log(2), b * math.log(2)) / math.log(2)


# for targets that lack NumPy's function: CUDA
SUBSTITUTES: dict[str, Callable[..., Any]] = {
    "trunc": _trunc,
    "floor": _floor,
    "ceil": _ceil,
    "rint": _rint,
    "cbrt": _cbrt,
    "logaddexp": _logaddexp,
    "logaddexp2": _logaddexp2,
    "remainder": _remainder,
    "floor_divide": _floor_divide,
}
OWN_COMPLEX: dict[str, Callable[..., Any]] = {
    "square": lambda z: z * z,
    "reciprocal": lambda z: 1 / z,
    "absolute": lambda z: z.emitter.function("hypot", (z.re, z.im)),
}
# where Numba's function of `math` gives an integer, or there is an operator that it compiles better
NUMBA: dict[str, Callable[..., Any]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "power": operator.pow,
    "remainder": operator.mod,
    "floor_divide": operator.floordiv,
}

# NumPy's ufuncs differ here from Numba's operators: whole powers go by logarithms, and signs of zeros and quotients of
# infinity are others
OTHER_IN_NUMPY = ("power", "remainder", "floor_divide")

# CUDA has operators for these, which round a / b: 1.0 % 0.1 would be 0
ROUNDED_ELSEWHERE = ("remainder", "floor_divide")
