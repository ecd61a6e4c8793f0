"""The scalar protocol: the few operations in which the Jacobi text and the closed forms are written.

A text over this protocol runs unchanged on Python and NumPy numbers (float32, float64, complex64, complex128), on
`Dual` of any of these, nested or not, and, compiled, on the same types, on SIMD packs (one matrix a lane) and on
CUDA threads. `scalars` compiles these very functions: it runs them at code-generation time on operands that stand
for LLVM values.

Besides the functions below a scalar has + - * / (unary -) and the comparisons < <= > >=, which look at the primal
only and give a bool, or a mask of lanes on a pack. So that every scalar takes the text:

* decide with `where(mask, a, b)` and `any_true(mask)`, combine masks by & and |, never by `and`, `or`, `not`;
* write constants as `like(x, c)`: a bare literal would turn float32 into float64;
* end sums over rows with `total`: a number may be a pack of several rows of a column;
* keep matrices in buffers (`Buffer` here): one flat index, no slices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ..dual import Dual, Staged, conj, imag, is_complex, primal, real, sqrt, where
from ..dual import absolute as complex_absolute

__all__ = [
    "Buffer",
    "abs2",
    "absolute",
    "any_true",
    "conj",
    "count",
    "entry",
    "eps_of",
    "imag",
    "infadd",
    "infdiv",
    "infsub",
    "inverse",
    "lane",
    "like",
    "maximum",
    "minimum",
    "minus_product",
    "order",
    "over_root",
    "partial",
    "plus_product",
    "primal",
    "raising",
    "real",
    "root",
    "set_entry",
    "set_lane",
    "setprimal",
    "sqrt",
    "squelch",
    "tiny_of",
    "total",
    "where",
]


def any_true(mask: Any) -> Any:
    """Whether any lane of the mask is true; a single truth value is its own answer."""
    return mask.any_true() if isinstance(mask, Staged) else bool(mask)


def like(x: Any, constant: float) -> Any:
    """The constant as a scalar of the type of x, without tangent."""
    if isinstance(x, Dual):
        return Dual(like(x.value, constant), [like(p, 0.0) for p in x.partials], x.tag)
    if isinstance(x, Staged):
        return x.like(constant)
    return type(x)(constant)  # float, complex or a NumPy scalar


def total(x: Any) -> Any:
    """The sum over the rows of a column that x holds side by side; a number of one row, or of a matrix a lane, is its
    own. So a text sums over rows: over the numbers of a column, and then by this."""
    if isinstance(x, Dual):
        return Dual(total(x.value), map(total, x.partials), x.tag)
    return x.emitter.total(x) if isinstance(x, Staged) else x


def plus_product(x: Any, y: Any, z: Any) -> Any:
    """x + y z. Of complex numbers each part by two multiply-adds: a product of its own would take one operation more,
    and compilers are free in what they fuse with it."""
    return x.plus_product(y, z) if isinstance(x, Staged) and x.is_complex else x + y * z


def minus_product(x: Any, y: Any, z: Any) -> Any:
    """x - y z, in the same way."""
    return x.minus_product(y, z) if isinstance(x, Staged) and x.is_complex else x - y * z


def abs2(x: Any) -> Any:
    """|x|^2 = x conj(x), a real scalar."""
    # d|x|^2 = 2 Re(conj(x) dx)
    if isinstance(x, Dual):
        twice = x.value + x.value
        return Dual(abs2(x.value), [real(conj(twice) * p) for p in x.partials], x.tag)
    if is_complex(x):
        re, im = real(x), imag(x)
        return re * re + im * im
    return x * x


def absolute(x: Any) -> Any:
    """|x|, a real scalar. A real zero takes the branch x >= 0, its derivative included: where(x < 0, -x, x)."""
    # d|z| = Re(conj(z) dz) / |z|
    if is_complex(x):
        return complex_absolute(x)
    return where(x < like(primal(x), 0.0), -x, x)


def maximum(a: Any, b: Any) -> Any:
    """The larger of two reals, the first of equals, with its partials."""
    return where(a < b, b, a)


def minimum(a: Any, b: Any) -> Any:
    """The smaller of two reals, the first of equals, with its partials."""
    return where(b < a, b, a)


def squelch(mask: Any, x: Any) -> Any:
    """Zero the primal where the mask is false, and keep every partial.

    A pair whose primal is orthogonal needs no rotation, but its tangent is owed one.
    """
    if isinstance(x, Dual):
        return Dual(squelch(mask, x.value), x.partials, x.tag)
    return where(mask, x, like(x, 0.0))


def setprimal(x: Any, value: Any) -> Any:
    """x with its value replaced and its partials kept; `value` is one level below x."""
    return Dual(value, x.partials, x.tag)


def infdiv(g: Any, d: Any, ok: Any) -> Any:
    """The infinitesimal g/d: value 0, partials dg/d where `ok`, else 0. `d` is one level below g."""
    zero = like(g.value, 0.0)
    divisor = where(ok, d, like(d, 1.0))
    return Dual(zero, [where(ok, p / divisor, zero) for p in g.partials], g.tag)


def infadd(x: Any, t: Any, y: Any) -> Any:
    """x + t y for an infinitesimal t: the value of x stays, its partials receive dt y."""
    return Dual(x.value, [p + dt * y.value for p, dt in zip(x.partials, t.partials, strict=True)], x.tag)


def infsub(x: Any, t: Any, y: Any) -> Any:
    """x - t y for an infinitesimal t: the value of x stays, its partials receive -dt y."""
    return Dual(x.value, [p - dt * y.value for p, dt in zip(x.partials, t.partials, strict=True)], x.tag)


def order(x: Any) -> int:
    """How many levels of derivatives the scalar carries; known when the text is compiled."""
    return 1 + order(x.value) if isinstance(x, Dual) else 0


def count(x: Any) -> int:
    """The number of partials of the outermost level, 0 for a plain number; known when the text is compiled."""
    return len(x.partials) if isinstance(x, Dual) else 0


def partial(x: Any, k: int) -> Any:
    """Partial k of the outermost level; zero for a plain number."""
    return x.partials[k] if isinstance(x, Dual) else like(x, 0.0)


def raising(x: Any, height: int) -> tuple[Any, Any, Any, Any]:
    """f, g, 1/g, 1/f: powers of two with |x| f g in [2^(height-1), 2^height), 1 for zero. Two, for one may overflow.

    x is a normal number that is not negative; of others some powers come out.
    """
    if isinstance(x, Staged):
        return tuple(x.emitter.raising(x, height))
    k = height - math.frexp(x)[1] if x > 0 else 0
    half = k // 2
    return tuple(like(x, math.ldexp(1.0, e)) for e in (half, k - half, half - k, -half))


# Roots and quotients take a processor many times as long as products. Where it gives an estimate of 14 binary digits
# (AVX-512) two or three terms of a series give all of them, to about one rounding, at a quarter of the time. So what
# packs divide by once a pair, or once an entry, is known to be positive, and neither subnormal nor infinite.


def inverse(x: Any) -> Any:
    """1 / x for a positive normal x."""
    y = x.emitter.estimate("rcp14", x) if isinstance(x, Staged) else None
    if y is None:
        return like(x, 1.0) / x
    e = like(x, 1.0) - x * y  # 1/x = y / (1 - e)
    return y + y * (e if _precision(x) == "float32" else e + e * (e + e * e))


#: The 3/8 of (1 - e)^(-1/2), and in place of its 35/128 e^4 what has the same mean, for e as the estimates of a Xeon:
#: without that 1 / sqrt(x) is a hundredth of a rounding too small, which a thousand rotations one after the other tell.
SECOND = 0.375 + 35 / 128 * 0.375 * 2.0**-26


def _inverse_root(x: Any) -> Any:
    """1 / sqrt(x) by an estimate, or None."""
    y = x.emitter.estimate("rsqrt14", x) if isinstance(x, Staged) else None
    if y is None:
        return None
    e = like(x, 1.0) - (x * y) * y  # 1/sqrt(x) = y / sqrt(1 - e)
    series = like(x, 0.375) * e if _precision(x) == "float32" else e * (like(x, SECOND) + like(x, 0.3125) * e)
    return y + y * (e * (like(x, 0.5) + series))


def root(x: Any) -> tuple[Any, Any]:
    """sqrt(x) and 1 / sqrt(x) for a positive normal x."""
    y = _inverse_root(x)
    if y is None:
        h = sqrt(x)
        return h, like(x, 1.0) / h
    h = x * y
    return h + (x - h * h) * (like(x, 0.5) * y), y


def over_root_of(x: Any, numbers: Any) -> list[Any]:
    """z / sqrt(x) for each of the numbers z, and for a positive normal x. The numbers meet the estimate before the
    series is summed: where a chain of roots waits for one of them, that takes a fifth less time."""
    y = x.emitter.estimate("rsqrt14", x) if isinstance(x, Staged) else None
    if y is None:
        over = like(x, 1.0) / sqrt(x)
        return [z * over for z in numbers]
    e = like(x, 1.0) - (x * y) * y  # as above
    series = like(x, 0.5) * e + (e * e) * (like(x, SECOND) + like(x, 0.3125) * e)
    return [z * y + (z * y) * series for z in numbers]


def over_root(a: Any, x: Any) -> tuple[Any, Any]:
    """1 / u and 1 / (u h) for h = sqrt(x), u = a + h: a is not negative, x positive and normal."""
    y = _inverse_root(x)
    if y is not None:
        over_u = inverse(a + x * y)
        return over_u, over_u * y
    h = sqrt(x)
    over_uh = like(x, 1.0) / ((a + h) * h)
    return h * over_uh, over_uh


# Machine epsilon of the leaf type, and a bound for squared norms: below it the terms of the sum may have lost digits to
# underflow (it is the smallest normal, 1.2e-38 or 2.2e-308, divided by eps).
_EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
_TINY = {"float32": 1e-31, "float64": 1e-292}


def _precision(x: Any) -> str:
    x = primal(x)
    if isinstance(x, Staged):
        return x.precision
    return "float32" if str(getattr(x, "dtype", "")) in ("float32", "complex64") else "float64"


def eps_of(x: Any) -> float:
    """Distance from 1 to the next number of the leaf type, a Python float."""
    return _EPS[_precision(x)]


def tiny_of(x: Any) -> float:
    """A square below this has lost digits to underflow, a Python float."""
    return _TINY[_precision(x)]


def entry(store: Any, start: int, i: int) -> Any:
    """Row i of the column that starts at number `start` of a buffer, whose numbers may be packs of rows."""
    return store[start + i]


def set_entry(store: Any, start: int, i: int, x: Any) -> None:
    """Write row i of the column that starts at number `start`."""
    store[start + i] = x


def lane(store: Any, k: int, i: int) -> Any:
    """Lane i of number k of a buffer, a number of one lane."""
    return store[k]


def set_lane(store: Any, k: int, i: int, x: Any) -> None:
    """Write lane i of number k."""
    store[k] = x


class Buffer:
    """A flat store of scalars, indexed by one integer. Compiled, the same text reads `buffers.buffer(array, kind)`.

    >>> b = Buffer.zeros(3, 1.0)
    >>> b[1] = 2.5
    >>> list(b)
    [0.0, 2.5, 0.0]
    """

    __slots__ = ("items",)

    def __init__(self, items: Any) -> None:
        self.items = list(items)

    @classmethod
    def zeros(cls, size: int, x: Any) -> Buffer:
        """`size` zeros of the type of x."""
        return cls([like(x, 0.0)] * size)

    def __getitem__(self, k: int) -> Any:
        return self.items[k]

    def __setitem__(self, k: int, x: Any) -> None:
        self.items[k] = x

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)
