"""Between matrices in memory and the buffers that the texts work on.

Matrices are flat arrays of reals, matrix after matrix; a complex entry is two reals (planes = 2). A buffer holds
columns, and in each of its numbers the entries of as many matrices as the kind has lanes.
"""

from __future__ import annotations

import numpy as np

from .cpu import VERDICT
from .lanes import prefetch, read_lanes, write_lanes
from .protocol import like
from .scalars import buffer, components, lanes
from .texts import called, inlined

#: Reals on a cache line, of double precision.
LINE = 8

#: 2^k at k + 1100.
POWERS = np.ldexp(1.0, np.arange(-1100, 1024))


# ---- memory


@inlined
def memory(size, like):
    """Uninitialised reals on a cache line: packs are 64 bytes."""
    raw = np.empty(size + 16, like.dtype)
    skip = (-raw.ctypes.data % 64) // raw.itemsize
    return raw[skip : skip + size]


@inlined
def room(count, x, kind):
    """A buffer of `count` numbers, uninitialised; x is an array of their precision."""
    return buffer(memory(count * components(kind) * lanes(kind), x), kind)


@inlined
def shared(count, x, kind, other):
    """The same memory as numbers of a kind, and of another: their reals, say."""
    a = memory(count * components(kind) * lanes(kind), x)
    return buffer(a, kind), buffer(a, other)


@inlined
def identity(V, n):
    """The identity in every lane."""
    zero, one = like(V[0], 0.0), like(V[0], 1.0)
    for e in range(n * n):
        V[e] = zero
    for i in range(n):
        V[i * (n + 1)] = one


# ---- scaling


@called
def largest(x, start, size):
    """The largest |real|, infinity if one is not finite."""
    top = 0.0
    for i in range(start, start + size):
        y = abs(x[i])
        if not y <= top:
            top = y if y < np.inf else np.inf
    return top


@called
def powers(exponent):
    """Two powers of two whose product is 2^exponent; one alone may overflow. Beyond both bounds every result is 0 or
    inf."""
    exponent = max(-2200, min(exponent, 2046))
    half = exponent // 2
    return POWERS[half + 1100], POWERS[exponent - half + 1100]


@inlined
def scaling(x, exponent):
    """2^exponent as two numbers of the type of x."""
    f, g = powers(exponent)
    return like(x, f), like(x, g)


@inlined
def unscaled(x):
    """1 as two numbers of the type of x."""
    return like(x, 1.0), like(x, 1.0)


# ---- reading and writing
#
# A layout is (rows, columns, turned, planes) of the matrices in memory. Their reals go to a buffer column after column,
# or row after row and conjugated if `turned`; real or imaginary part c of entry e is its number e stride + start + c.
# A scale is two factors, for one power of two may overflow.


@inlined
def layouts(rows, columns, planes):
    """Those of A, U, S and Vh: buffers hold the columns of a tall A and of its U and V, or of A^H."""
    n = min(rows, columns)
    return (
        (rows, columns, rows < columns, planes),
        (rows, n, False, planes),
        (1, n, True, 1),
        (n, columns, True, planes),
    )


@inlined
def take(x, b, layout, scale, A, start, stride):
    """Matrix b and the following, scaled, a lane each."""
    move(read_lanes, x, b, layout, scale, A, start, stride)


@inlined
def put(A, start, stride, scale, y, b, layout):
    """The inverse of `take`."""
    move(write_lanes, y, b, layout, scale, A, start, stride)


@inlined
def move(some, x, b, layout, scale, A, start, stride):
    """All reals of the matrices, `some` at a time: eight, and what is left by four, two and one."""
    size, factors = layout[0] * layout[1] * layout[3], with_sign(scale, layout)
    k, left, at = b * size, size, (0, 0, 0)
    while left >= 8:
        places, at = eight(at, layout, start, stride)
        some(x, k, size, A, places, factors)
        k, left = k + 8, left - 8
    if left & 4:
        places, at = four(at, layout, start, stride)
        some(x, k, size, A, places, factors)
        k += 4
    if left & 2:
        places, at = two(at, layout, start, stride)
        some(x, k, size, A, places, factors)
        k += 2
    if left & 1:
        places, at = one(at, layout, start, stride)
        some(x, k, size, A, places, factors)


@inlined
def fetch(x, b, count, layout):
    """Have matrices b, ..., b + count - 1 brought near; beyond the array that does nothing. The processor does so by
    itself along one array, but not along seven at once, or where the directions of a pack lie far apart."""
    size = layout[0] * layout[1] * layout[3]
    for k in range(b * size, (b + count) * size, LINE):
        prefetch(x, k)


@inlined
def with_sign(scale, layout):
    """The factors of real parts, of imaginary ones, and of both; reals come by turns of the two too, if they are
    complex."""
    f, g = scale
    return (f, -f, g) if layout[2] and layout[3] == 2 else (f, f, g)


@inlined
def one(at, layout, start, stride):
    """The place in a buffer of the real in row, column and plane `at` of the matrices; and what comes next."""
    i, j, c = at
    rows, columns, turned, planes = layout
    place = (i * columns + j if turned else j * rows + i) * stride + start + c
    if c + 1 < planes:
        return (place,), (i, j, c + 1)
    return (place,), ((i, j + 1, 0) if j + 1 < columns else (i + 1, 0, 0))


@inlined
def two(at, layout, start, stride):
    """The places of two reals; and what comes next."""
    a, at = one(at, layout, start, stride)
    b, at = one(at, layout, start, stride)
    return a + b, at


@inlined
def four(at, layout, start, stride):
    """The places of four reals; and what comes next."""
    a, at = two(at, layout, start, stride)
    b, at = two(at, layout, start, stride)
    return a + b, at


@inlined
def eight(at, layout, start, stride):
    """The places of eight reals; and what comes next."""
    a, at = four(at, layout, start, stride)
    b, at = four(at, layout, start, stride)
    return a + b, at


# ---- verdicts


@called
def tell(told, b, batch, sweeps, cos2, verdict):
    """Report of matrix b; whether it has anything to say."""
    told[b], told[batch + b] = sweeps + VERDICT * verdict, cos2
    return verdict != 0
