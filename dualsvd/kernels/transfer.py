"""Between matrices in memory and the buffers that the texts work on.

Matrices are flat arrays of reals, matrix after matrix; a complex entry is two reals (planes = 2). A buffer holds
columns, and in each of its numbers the entries of as many matrices as the kind has lanes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic, models, register_model
from numba.np.arrayobj import populate_array

from .buffers import BufferType, FixedType, buffer, components, components_of, lanes, lanes_of, seen_as
from .lanes import prefetch, read_lanes, write_lanes
from .number_types import Versioned
from .protocol import conj, entry, like, set_entry
from .texts import called, inlined
from .verdicts import VERDICT

#: Reals on a cache line, of double precision.
LINE = 8

#: 2^k at k + 1100.
POWERS = np.ldexp(1.0, np.arange(-1100, 1024))


# ---- memory


class StackType(Versioned, types.Opaque):
    """The stack of a kernel, with room for so many numbers in a buffer, of the precision of `real`."""

    def __init__(self, numbers: int, real: Any) -> None:
        self.numbers, self.real = numbers, real
        super().__init__(f"Stack({numbers}, {real})")


register_model(StackType)(models.OpaqueModel)


@intrinsic
def _scratch(typing: Any, rows: Any, columns: Any, x: types.Array) -> Any:
    """Where the buffers of a kernel lie: on its stack if the sizes are `Fixed`, for then LLVM keeps in registers what
    they hold, and else in memory of their own; x is an array of their precision."""
    if not isinstance(rows, FixedType):
        return x(rows, columns, x), lambda context, builder, sig, values: impl_ret_borrowed(
            context, builder, x, values[2]
        )
    t = StackType(max(rows.value, columns.value) ** 2 + 1, x.dtype)
    return t(rows, columns, x), lambda context, builder, sig, values: context.get_dummy_value()


@intrinsic
def _room(typing: Any, count: Any, place: Any, kind: Any) -> Any:
    """A buffer of `count` numbers, uninitialised, at the `scratch` of a kernel. To be called by the kernel itself: what
    is on the stack is gone when the function returns that asked for it."""
    array = types.Array(place.real if isinstance(place, StackType) else place.dtype, 1, "C")
    t = BufferType(kind.number, array)

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        if not isinstance(place, StackType):
            return context.compile_internal(builder, _on_the_heap, sig, values)
        real, size = context.get_value_type(place.real), place.numbers * components_of(t.number) * lanes_of(t.number)
        stack = cgutils.alloca_once(builder, ir.ArrayType(real, size))
        stack.align = 64
        reals = context.make_array(array)(context, builder)
        length, step = (context.get_constant(types.intp, k) for k in (size, place.real.bitwidth // 8))
        data = builder.bitcast(stack, real.as_pointer())
        populate_array(reals, data, shape=[length], strides=[step], itemsize=step, meminfo=None)
        numbers = cgutils.create_struct_proxy(t)(context, builder)
        numbers.array = reals._getvalue()
        return numbers._getvalue()

    return t(count, place, kind), generate


#: untyped: type checkers see the typing functions in place of what compiled code calls
scratch: Any = _scratch
room: Any = _room


def _on_the_heap(count, x, kind):
    return buffer(memory(count * components(kind) * lanes(kind), x), kind)


@inlined
def memory(size, like):
    """Uninitialised reals on a cache line: packs are 64 bytes."""
    raw = np.empty(size + 16, like.dtype)
    skip = (-raw.ctypes.data % 64) // raw.itemsize
    return raw[skip : skip + size]


@inlined
def shared(A, kind):
    """A buffer, and the same memory as numbers of another kind: its reals, say."""
    return A, seen_as(A, kind)


@inlined
def sides(U, V, kind, wide):
    """The reals of U and V of a tall matrix in the order of the factors in memory: left and right of S."""
    u, v = seen_as(U, kind), seen_as(V, kind)
    return (v, u) if wide else (u, v)


@inlined
def identity(V, n):
    """The identity in every lane."""
    identity_of_rows(V, n, n)


@inlined
def identity_of_rows(V, N, n):
    """The same in packs of rows, N numbers a column."""
    zero, one = like(V[0], 0.0), like(entry(V, 0, 0), 1.0)
    for e in range(N * n):
        V[e] = zero
    for i in range(n):
        set_entry(V, i * N, i, one)


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
    """Two powers of two whose product is 2^exponent; one alone may overflow. Beyond the bounds results are 0 or inf,
    except those of subnormal numbers beyond the upper one."""
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
    k, left, path = b * size, size, walk(layout, stride)
    at = start, path[0], 0
    while left >= 8:
        places, at = eight(at, path)
        some(x, k, size, A, places, factors)
        k, left = k + 8, left - 8
    if left & 4:
        places, at = four(at, path)
        some(x, k, size, A, places, factors)
        k += 4
    if left & 2:
        places, at = two(at, path)
        some(x, k, size, A, places, factors)
        k += 2
    if left & 1:
        places, at = one(at, path)
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


# Where the reals of a matrix in memory, one after the other, stand in a buffer: `at` is the place of an entry, the
# entries left in its line, and a plane.


@inlined
def walk(layout, stride):
    """The entries of a line; the steps from one to the next, and from the last to the next line; the planes."""
    rows, columns, turned, planes = layout
    if turned:  # the buffer has the order of memory
        return rows * columns, stride, stride, planes
    return columns, rows * stride, stride - (columns - 1) * (rows * stride), planes


@inlined
def one(at, path):
    """The place of one real; and what comes next."""
    place, left, c = at
    line, across, back, planes = path
    if c + 1 < planes:
        return (place + c,), (place, left, c + 1)
    return (place + c,), ((place + across, left - 1, 0) if left > 1 else (place + back, line, 0))


@inlined
def two(at, path):
    """The places of two reals; and what comes next."""
    a, at = one(at, path)
    b, at = one(at, path)
    return a + b, at


@inlined
def four(at, path):
    """The places of four reals; and what comes next."""
    a, at = two(at, path)
    b, at = two(at, path)
    return a + b, at


@inlined
def eight(at, path):
    """The places of eight reals, which begin with an entry; and what comes next. Mostly they stand on one line."""
    place, left, _ = at
    line, across, back, planes = path
    entries = 8 // planes
    if left < entries:
        a, at = four(at, path)
        b, at = four(at, path)
        return a + b, at
    last = place + (entries - 1) * across
    places = along(place, across, planes, 0) + along(place, across, planes, 4)
    return places, ((last + across, left - entries, 0) if left > entries else (last + back, line, 0))


@inlined
def along(place, across, planes, k):
    """The places of reals k to k + 3 of a line."""
    a, b, c, d = k // planes, (k + 1) // planes, (k + 2) // planes, (k + 3) // planes
    return (
        place + a * across,
        place + b * across + (k + 1) % planes,
        place + c * across,
        place + d * across + (k + 3) % planes,
    )


# ---- one matrix, in packs of rows


@called
def load(x, start, rows, columns, wide, f, g, raises, places, A, M):
    """The columns of the matrix that starts at number `start`, or of its conjugate transpose if wide, their rows in the
    order of `places`, times f, g and the factor of the column; padded with zeros.

    A line of one column after the other: a column is as long as the caches have sets, perhaps, and the lines that a row
    crosses would drive each other out.
    """
    m, n = (columns, rows) if wide else (rows, columns)
    for e in range(n * M):
        A[e] = like(A[e], 0.0)
    for first in range(0, m, LINE):
        for j in range(n):
            for i in range(first, min(first + LINE, m)):
                r = places[i]
                y = conj(x[start + j * columns + r]) if wide else x[start + r * columns + j]
                set_entry(A, j * M, i, y * f * g * raises[j])


@called
def unload(A, M, x, start, m, n, rowwise, places):
    """n columns of length m, row i to row places[i] of a matrix m x n; to its conjugate transpose if `rowwise`."""
    for first in range(0, m, LINE):
        for p in range(n):
            for i in range(first, min(first + LINE, m)):
                y = entry(A, p * M, i)
                if rowwise:
                    x[start + p * m + places[i]] = conj(y)
                else:
                    x[start + places[i] * n + p] = y


# ---- verdicts


@called
def tell(told, b, batch, sweeps, cos2, verdict):
    """Report of matrix b; whether it has anything to say."""
    told[b], told[batch + b] = sweeps + VERDICT * verdict, cos2
    return verdict != 0
