"""Closed-form derivatives by a team of threads for each matrix: the steps of `derivatives.pushforward` and `pullback`.

U, V and all that is made of them lie in shared memory, or in a workspace of global memory where that is too small.
Columns are an odd number of entries apart, so that threads side by side meet in no bank of it, whether they take rows
or columns side by side. All threads share each step: tiles of a product, pairs of values, numbers to load and store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba.cuda
from numba import float32, int32, int64

from .. import derivatives
from ..buffers import Kind, buffer, components
from ..derivatives import conjugate_if
from ..jacobi import tie_tolerance
from ..protocol import absolute, eps_of, imag, like, plus_product, real
from .memory import exponent_for, halves, inline, larger, load

#: Untyped, for type checkers see the typing functions of numba.cuda's device functions in place of these.
cuda: Any = numba.cuda

#: Rows and columns of a product that a thread takes at a time: of eight sums, a number that is loaded serves four or two.
TILE_ROWS, TILE_COLUMNS = 2, 4
TILE_SIDES = TILE_ROWS + TILE_COLUMNS

#: Numbers that a thread asks global memory for before it waits for the first.
AT_ONCE = 4


@inline
def apart(n):
    """The distance between columns of n entries: odd."""
    return n | 1


@inline
def padded(numbers):
    """Four more than a multiple of eight: so the entries of neighbouring small matrices lie in different banks too."""
    return (numbers + 3) // 8 * 8 + 4


@inline
def pushforward_numbers(rows, cols, planes, threads):
    """Reals that a matrix takes: U, D, T and V, Y, the values, their inverses, and a slot for each thread."""
    return padded((3 * apart(rows) + 2 * apart(cols)) * cols * planes + 2 * cols + threads)


@inline
def pullback_numbers(rows, cols, planes):
    """Reals that a matrix takes: U, U_bar and V, X, Y, the values and their inverses."""
    return padded((2 * apart(rows) + 3 * apart(cols)) * cols * planes + 2 * cols)


# ---- sharing


@inline
def split(e, width, over):
    """e % width and e // width, for e < 2^20 and over = 1 / width: a device's own division takes ten times as long."""
    row = int32((float32(int32(e)) + float32(0.5)) * over)
    return e - row * width, row


@inline
def inverse_of(width):
    return float32(1.0) / float32(width)


@inline
def pair(p, d, n):
    """The places p and p + d on a circle of n, the smaller first, and whether they are met for the first time: pairs
    half-way round come twice."""
    q = p + d if p + d < n else p + d - n
    return min(p, q), max(p, q), 2 * d < n or p < q


@inline
def together(slots, x, t, threads):
    """The largest x of the team; infinity if one is not finite. What was written before is seen after."""
    slots[t] = x
    cuda.syncthreads()
    half = threads // 2
    while half > 0:
        if t < half:
            slots[t] = larger(slots[t], slots[t + half])
        cuda.syncthreads()
        half //= 2
    return slots[0]


# ---- steps


@inline
def load_columns(X, some, x, start, rows, cols, wide, over, t, threads):
    """`memory.load` to columns that are `apart`; `over` is the inverse of the length of a row in memory. Returns the
    largest |real or imaginary part|."""
    size, width = rows * cols, rows if wide else cols
    right, down = (1, apart(rows)) if wide else (apart(rows), 1)
    top = like(real(x[start]), 0.0)
    first = t
    while first < size:
        for k in range(AT_ONCE):
            some[k] = x[start + min(first + k * threads, size - 1)]
        for k in range(AT_ONCE):
            i, j = split(first + k * threads, width, over)
            if first + k * threads < size:
                X[i * right + j * down] = conjugate_if(wide, some[k])
            top = larger(larger(top, absolute(real(some[k]))), absolute(imag(some[k])))
        first += AT_ONCE * threads
    return top


@inline
def store_columns(X, x, start, rows, cols, wide, exponent, over, t, threads):
    """`memory.store` of columns that are `apart`."""
    f, g = halves(exponent, X[0])
    width = rows if wide else cols
    right, down = (1, apart(rows)) if wide else (apart(rows), 1)
    e = t
    while e < rows * cols:
        i, j = split(e, width, over)
        x[start + e] = conjugate_if(wide, X[i * right + j * down]) * f * g
        e += threads


@inline
def row_of(i, k, stride, rows):
    """Row k of the tile at i; that row itself once more, where the matrix ends."""
    return i + k * stride if i + k * stride < rows else i


@inline
def product(sums, some, at, A, ai, ar, ca, B, br, bj, cb, C, rows, depth, cols, add, over, t, threads):
    """`derivatives.multiply` by tiles, to columns that are `apart`; to C_ij over_j, where `add` says so.

    The rows of a tile lie a fraction of the matrix apart: what neighbours read lies side by side.
    """
    high, wide, cj = (rows + TILE_ROWS - 1) // TILE_ROWS, (cols + TILE_COLUMNS - 1) // TILE_COLUMNS, apart(rows)
    zero = like(A[0], 0.0)
    e = t
    while e < high * wide:
        i, j = split(e, high, inverse_of(high))
        for x in range(TILE_ROWS):
            at[x] = row_of(i, x, high, rows) * ai
        for y in range(TILE_COLUMNS):
            q = row_of(j, y, wide, cols)
            at[TILE_ROWS + y] = q * bj
            for x in range(TILE_ROWS):
                sums[y * TILE_ROWS + x] = C[q * cj + row_of(i, x, high, rows)] * over[q] if add else zero
        left = depth
        while left > 0:
            left -= 1
            for x in range(TILE_ROWS):
                some[x] = conjugate_if(ca, A[at[x]])
                at[x] += ar
            for y in range(TILE_ROWS, TILE_ROWS + TILE_COLUMNS):
                b = conjugate_if(cb, B[at[y]])
                at[y] += br
                for x in range(TILE_ROWS):
                    k = (y - TILE_ROWS) * TILE_ROWS + x
                    sums[k] = plus_product(sums[k], some[x], b)
        for y in range(TILE_COLUMNS):
            for x in range(TILE_ROWS):
                C[row_of(j, y, wide, cols) * cj + row_of(i, x, high, rows)] = sums[y * TILE_ROWS + x]
        e += threads
    cuda.syncthreads()


@inline
def invert(s, over, tie, one, cols, t, threads):
    """The inverse of each value, 0 for a zero."""
    i = t
    while i < cols:
        half = derivatives.reciprocals(one, s[i] + s[i], tie + tie, one)[1]
        over[i] = half + half
        i += threads


# ---- kernels


def block_pushforward(kind: Kind, real_kind: Kind, real_type: Any, in_shared: bool) -> Callable[..., None]:
    """dU, dS, dVh along each of N directions from finished factors."""
    planes = components(kind)
    tile, few = TILE_ROWS * TILE_COLUMNS * planes, max(AT_ONCE, TILE_ROWS) * planes

    def pushforward(da, U, S, Vh, dU, dS, dVh, work, B, m, n, N, threads):
        t, seat, seats = cuda.threadIdx.x % threads, cuda.threadIdx.x // threads, cuda.blockDim.x // threads
        rows, cols, wide = max(m, n), min(m, n), m < n
        tall, square = apart(rows) * cols * planes, apart(cols) * cols * planes
        total = pushforward_numbers(rows, cols, planes, threads)
        whole = cuda.shared.array(0, real_type) if in_shared else work[cuda.blockIdx.x * seats * total :]
        memory = whole[seat * total : (seat + 1) * total]
        Ub, D, T = buffer(memory, kind), buffer(memory[tall:], kind), buffer(memory[2 * tall :], kind)
        Vb, Y, X = buffer(memory[3 * tall :], kind), buffer(memory[3 * tall + square :], kind), D
        rest = memory[3 * tall + 2 * square :]
        s, over, slots = buffer(rest, real_kind), buffer(rest[cols:], real_kind), rest[2 * cols :]
        sums, some = buffer(cuda.local.array(tile, real_type), kind), buffer(cuda.local.array(few, real_type), kind)
        left, right = (buffer(Vh, kind), buffer(U, kind)) if wide else (buffer(U, kind), buffer(Vh, kind))
        d_left, d_right = (buffer(dVh, kind), buffer(dU, kind)) if wide else (buffer(dU, kind), buffer(dVh, kind))
        D_all, values, d_values = buffer(da, kind), buffer(S, real_kind), buffer(dS, real_kind)
        over_width, over_cols = inverse_of(n if wide else cols), inverse_of(cols)
        at = cuda.local.array(TILE_SIDES, int64)
        for first in range(cuda.blockIdx.x * seats, B, cuda.gridDim.x * seats):
            b, mine = min(first + seat, B - 1), first + seat < B
            scale = exponent_for(S[b * cols], 0)
            load(s, 1, 0, values, b * cols, cols, 1, True, scale, t, threads)
            load_columns(Ub, some, left, b * rows * cols, rows, cols, wide, over_width, t, threads)
            load_columns(Vb, some, right, b * cols * cols, cols, cols, not wide, over_cols, t, threads)
            cuda.syncthreads()
            one = like(s[0], 1.0)
            half, zero, tie = like(one, 0.5), like(one, 0.0), s[0] * like(one, tie_tolerance(eps_of(one), cols))
            invert(s, over, tie, one, cols, t, threads)
            for k in range(N):
                c = k * B + b
                top = load_columns(D, some, D_all, c * rows * cols, rows, cols, wide, over_width, t, threads)
                height = exponent_for(together(slots, top, t, threads), 0)
                f, g = halves(height, one)
                e = t
                while e < apart(rows) * cols:
                    D[e] = D[e] * f * g
                    e += threads
                cuda.syncthreads()
                product(
                    sums, some, at, D, 1, apart(rows), False, Vb, 1, apart(cols), False, T,
                    rows, cols, cols, False, over, t, threads,
                )  # fmt: skip
                product(
                    sums, some, at, Ub, apart(rows), 1, True, T, 1, apart(rows), False, X,
                    cols, rows, cols, False, over, t, threads,
                )  # fmt: skip
                f, g = halves(-height, one)
                e = t
                while e < cols * (cols // 2 + 1):
                    p, d = split(e, cols, over_cols)
                    i, j, new = pair(p, d, cols)
                    over_i, over_j = (over[i], over[j]) if rows > cols else (zero, zero)
                    if d == 0:
                        if mine:
                            d_values[c * cols + i] = real(X[i * apart(cols) + i]) * f * g
                        derivatives.generator_value(X, Y, i * apart(cols) + i, half * half * over[i], over_i)
                    elif new:
                        x, y = derivatives.reciprocals(s[i] - s[j], s[j] + s[i], tie, one)
                        derivatives.generator_pair(
                            X, Y, j * apart(cols) + i, i * apart(cols) + j, half * x, half * y, over_i, over_j
                        )
                    e += threads
                cuda.syncthreads()
                product(
                    sums, some, at, Ub, 1, apart(rows), False, X, 1, apart(cols), False, T,
                    rows, cols, cols, rows > cols, over, t, threads,
                )  # fmt: skip
                product(
                    sums, some, at, Vb, 1, apart(cols), False, Y, 1, apart(cols), False, X,
                    cols, cols, cols, False, over, t, threads,
                )  # fmt: skip
                if mine:
                    change = scale - height
                    store_columns(T, d_left, c * rows * cols, rows, cols, wide, change, over_width, t, threads)
                    store_columns(X, d_right, c * cols * cols, cols, cols, not wide, change, over_cols, t, threads)
                cuda.syncthreads()

    return pushforward


def block_pullback(kind: Kind, real_kind: Kind, real_type: Any, in_shared: bool) -> Callable[..., None]:
    """A_bar from finished factors and their cotangents."""
    planes = components(kind)
    tile, few = TILE_ROWS * TILE_COLUMNS * planes, max(AT_ONCE, TILE_ROWS) * planes

    def pullback(U, S, Vh, U_bar, S_bar, Vh_bar, A_bar, work, B, m, n, threads):
        t, seat, seats = cuda.threadIdx.x % threads, cuda.threadIdx.x // threads, cuda.blockDim.x // threads
        rows, cols, wide = max(m, n), min(m, n), m < n
        tall, square = apart(rows) * cols * planes, apart(cols) * cols * planes
        total = pullback_numbers(rows, cols, planes)
        whole = cuda.shared.array(0, real_type) if in_shared else work[cuda.blockIdx.x * seats * total :]
        memory = whole[seat * total : (seat + 1) * total]
        Ub, T, Vb = buffer(memory, kind), buffer(memory[tall:], kind), buffer(memory[2 * tall :], kind)
        X, Y = buffer(memory[2 * tall + square :], kind), buffer(memory[2 * tall + 2 * square :], kind)
        rest = memory[2 * tall + 3 * square :]
        s, over = buffer(rest, real_kind), buffer(rest[cols:], real_kind)
        sums, some = buffer(cuda.local.array(tile, real_type), kind), buffer(cuda.local.array(few, real_type), kind)
        left, right = (buffer(Vh, kind), buffer(U, kind)) if wide else (buffer(U, kind), buffer(Vh, kind))
        left_bar, right_bar = (
            (buffer(Vh_bar, kind), buffer(U_bar, kind)) if wide else (buffer(U_bar, kind), buffer(Vh_bar, kind))
        )
        values, values_bar = buffer(S, real_kind), buffer(S_bar, real_kind)
        over_width, over_cols = inverse_of(n if wide else cols), inverse_of(cols)
        at = cuda.local.array(TILE_SIDES, int64)
        for first in range(cuda.blockIdx.x * seats, B, cuda.gridDim.x * seats):
            b, mine = min(first + seat, B - 1), first + seat < B
            u0, v0 = b * rows * cols, b * cols * cols
            scale = exponent_for(S[b * cols], 0)
            load(s, 1, 0, values, b * cols, cols, 1, True, scale, t, threads)
            load_columns(Vb, some, right, v0, cols, cols, not wide, over_cols, t, threads)
            load_columns(X, some, right_bar, v0, cols, cols, not wide, over_cols, t, threads)
            load_columns(Ub, some, left, u0, rows, cols, wide, over_width, t, threads)
            load_columns(T, some, left_bar, u0, rows, cols, wide, over_width, t, threads)
            cuda.syncthreads()
            one = like(s[0], 1.0)
            half, zero, tie = like(one, 0.5), like(one, 0.0), s[0] * like(one, tie_tolerance(eps_of(one), cols))
            invert(s, over, tie, one, cols, t, threads)
            product(
                sums, some, at, Vb, apart(cols), 1, True, X, 1, apart(cols), False, Y,
                cols, cols, cols, False, over, t, threads,
            )  # fmt: skip
            product(
                sums, some, at, Ub, apart(rows), 1, True, T, 1, apart(rows), False, X,
                cols, rows, cols, False, over, t, threads,
            )  # fmt: skip
            f, g = halves(-scale, one)
            e = t
            while e < cols * (cols // 2 + 1):
                p, d = split(e, cols, over_cols)
                i, j, new = pair(p, d, cols)
                over_i, over_j = (over[i], over[j]) if rows > cols else (zero, zero)
                if d == 0:
                    s_bar = values_bar[b * cols + i] * f * g
                    derivatives.join_value(X, Y, i * apart(cols) + i, half * half * over[i], over_i, s_bar)
                elif new:
                    x, y = derivatives.reciprocals(s[i] - s[j], s[j] + s[i], tie, one)
                    derivatives.join_pair(X, Y, j * apart(cols) + i, i * apart(cols) + j, x, y, half, over_i, over_j)
                e += threads
            cuda.syncthreads()
            product(
                sums, some, at, Ub, 1, apart(rows), False, X, 1, apart(cols), False, T,
                rows, cols, cols, rows > cols, over, t, threads,
            )  # fmt: skip
            product(
                sums, some, at, T, 1, apart(rows), False, Vb, apart(cols), 1, True, Ub,
                rows, cols, cols, False, over, t, threads,
            )  # fmt: skip
            if mine:
                store_columns(Ub, buffer(A_bar, kind), u0, rows, cols, wide, scale, over_width, t, threads)
            cuda.syncthreads()

    return pullback
