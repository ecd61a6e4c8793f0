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
from .memory import exponent_for, halves, inline, larger

#: Untyped, for type checkers see the typing functions of numba.cuda's device functions in place of these.
cuda: Any = numba.cuda

#: Rows and columns of a product that a thread takes at a time: a number that is loaded serves four of the sums, or two.
#: Of complex numbers half as many columns, for as many registers.
TILE_ROWS, TILE_COLUMNS = 2, 4

#: Numbers that a thread asks global memory for before it waits for the first.
AT_ONCE = 8


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

# Loops over the part of a thread say `while`: to count the turns of a `range` with a step that is not known, a thread
# would divide, and keep the number in registers.


@inline
def inverse_of(width):
    return float32(1.0) / float32(width)


@inline
def quotient(e, over):
    """e // width for e < 2^20 and over = 1 / width: a device's own division takes ten times as long."""
    return int32((float32(int32(e)) + float32(0.5)) * over)


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
    left = threads
    while left > 1:
        half = (left + 1) // 2
        if t + half < left:
            slots[t] = larger(slots[t], slots[t + half])
        cuda.syncthreads()
        left = half
    return slots[0]


# ---- steps


@inline
def course(rows, cols, wide):
    """How a matrix in memory runs through columns that are `apart`: the length of its rows, the step along a row, and
    what a new row adds to that of the entry's number."""
    return (rows, 1, apart(rows) - rows) if wide else (cols, apart(rows), 1 - cols * apart(rows))


@inline
def load_columns(X, some, x, start, rows, cols, wide, t, threads):
    """`memory.load` to columns that are `apart`, at any size. Returns the largest |real or imaginary part|."""
    size, (width, step, turn) = rows * cols, course(rows, cols, wide)
    over, top, e = inverse_of(width), like(real(x[start]), 0.0), t
    while e < size:
        for k in range(AT_ONCE):
            some[k] = x[start + min(e + k * threads, size - 1)]
        for k in range(AT_ONCE):
            if e < size:
                X[e * step + quotient(e, over) * turn] = conjugate_if(wide, some[k])
            top = larger(larger(top, absolute(real(some[k]))), absolute(imag(some[k])))
            e += threads
    return top


@inline
def store_columns(X, x, start, rows, cols, wide, exponent, t, threads):
    """`memory.store` of columns that are `apart`."""
    f, g = halves(exponent, X[0])
    width, step, turn = course(rows, cols, wide)
    over, e = inverse_of(width), t
    while e < rows * cols:
        for _ in range(AT_ONCE):
            if e < rows * cols:
                x[start + e] = conjugate_if(wide, X[e * step + quotient(e, over) * turn]) * f * g
            e += threads


@inline
def plain(X, rows):
    """X as a factor of a product, by columns that are `apart`: its numbers, the steps between its rows and between its
    columns, whether it is conjugated."""
    return X, 1, apart(rows), False


@inline
def adjoint(X, rows):
    """X^H as a factor of a product."""
    return X, apart(rows), 1, True


@inline
def row_of(i, k, stride, rows):
    """Row k of the tile at i; that row itself once more, where the matrix ends."""
    return i + k * stride if i + k * stride < rows else i


@inline
def product(tile, left, right, C, rows, depth, cols, add, over, t, threads):
    """C_ij = sum_r left_ir right_rj by tiles, to columns that are `apart`; and C_ij over_j, if `add`. A tile is its
    number of columns, known when the kernel is compiled, and registers: for sums, numbers of the left factor, places.

    The rows of a tile lie a fraction of the matrix apart: what neighbours read lies side by side.
    """
    (A, ai, ar, ca), (B, br, bj, cb), (breadth, sums, some, at) = left, right, tile
    high, wide, cj = (rows + TILE_ROWS - 1) // TILE_ROWS, (cols + breadth - 1) // breadth, apart(rows)
    zero, over_high, e = like(A[0], 0.0), inverse_of(high), t
    while e < high * wide:
        j = quotient(e, over_high)
        i = e - j * high
        for x in range(TILE_ROWS):
            at[x] = row_of(i, x, high, rows) * ai
        for y in range(breadth):
            q = row_of(j, y, wide, cols)
            at[TILE_ROWS + y] = q * bj
            for x in range(TILE_ROWS):
                sums[y * TILE_ROWS + x] = C[q * cj + row_of(i, x, high, rows)] * over[q] if add else zero
        rest = depth
        while rest > 0:
            for x in range(TILE_ROWS):
                some[x] = conjugate_if(ca, A[at[x]])
                at[x] += ar
            for y in range(breadth):
                b = conjugate_if(cb, B[at[TILE_ROWS + y]])
                at[TILE_ROWS + y] += br
                for x in range(TILE_ROWS):
                    sums[y * TILE_ROWS + x] = plus_product(sums[y * TILE_ROWS + x], some[x], b)
            rest -= 1
        for y in range(breadth):
            for x in range(TILE_ROWS):
                C[row_of(j, y, wide, cols) * cj + row_of(i, x, high, rows)] = sums[y * TILE_ROWS + x]
        e += threads
    cuda.syncthreads()


@inline
def load_values(s, over, values, start, exponent, cols, t, threads):
    """The values times 2^exponent, and the inverse of each, 0 for a zero; what counts as a tie, and one."""
    f, g = halves(exponent, values[start])
    one = like(values[start], 1.0)
    tie = values[start] * f * g * like(one, tie_tolerance(eps_of(one), cols))
    i = t
    while i < cols:
        s[i] = values[start + i] * f * g
        half = derivatives.reciprocals(one, s[i] + s[i], tie + tie, one)[1]
        over[i] = half + half
        i += threads
    return tie, one


# ---- kernels


def block_pushforward(kind: Kind, real_kind: Kind, real_type: Any, in_shared: bool) -> Callable[..., None]:
    """dU, dS, dVh along each of N directions from finished factors: a team for each matrix and direction."""
    planes = components(kind)
    breadth, few = TILE_COLUMNS // planes, max(AT_ONCE, TILE_ROWS) * planes
    many, sides = TILE_ROWS * breadth * planes, TILE_ROWS + breadth

    def pushforward(da, U, S, Vh, dU, dS, dVh, work, B, m, n, N, threads):
        t, seat, seats = cuda.threadIdx.x % threads, cuda.threadIdx.x // threads, cuda.blockDim.x // threads
        rows, cols, wide, residual = max(m, n), min(m, n), m < n, m != n
        tall, square = apart(rows) * cols * planes, apart(cols) * cols * planes
        total = pushforward_numbers(rows, cols, planes, threads)
        whole = cuda.shared.array(0, real_type) if in_shared else work[cuda.blockIdx.x * seats * total :]
        memory = whole[seat * total : (seat + 1) * total]
        Ub, D, T = buffer(memory, kind), buffer(memory[tall:], kind), buffer(memory[2 * tall :], kind)
        Vb, Y = buffer(memory[3 * tall :], kind), buffer(memory[3 * tall + square :], kind)
        M, dVb = D, D  # when D V is known, and when dU is
        rest = memory[3 * tall + 2 * square :]
        s, over, slots = buffer(rest, real_kind), buffer(rest[cols:], real_kind), rest[2 * cols :]
        some = buffer(cuda.local.array(few, real_type), kind)
        tile = breadth, buffer(cuda.local.array(many, real_type), kind), some, cuda.local.array(sides, int64)
        left, right = (buffer(Vh, kind), buffer(U, kind)) if wide else (buffer(U, kind), buffer(Vh, kind))
        d_left, d_right = (buffer(dVh, kind), buffer(dU, kind)) if wide else (buffer(dU, kind), buffer(dVh, kind))
        D_all, values, d_values = buffer(da, kind), buffer(S, real_kind), buffer(dS, real_kind)
        first = cuda.blockIdx.x * seats
        while first < N * B:
            c, mine = min(first + seat, N * B - 1), first + seat < N * B
            b = c % B
            scale = exponent_for(S[b * cols], 0)
            tie, one = load_values(s, over, values, b * cols, scale, cols, t, threads)
            load_columns(Ub, some, left, b * rows * cols, rows, cols, wide, t, threads)
            load_columns(Vb, some, right, b * cols * cols, cols, cols, not wide, t, threads)
            top = load_columns(D, some, D_all, c * rows * cols, rows, cols, wide, t, threads)
            height = exponent_for(together(slots, top, t, threads), 0)
            f, g = halves(height, one)
            e = t
            while e < apart(rows) * cols:
                for _ in range(AT_ONCE):
                    if e < apart(rows) * cols:
                        D[e] = D[e] * f * g
                    e += threads
            cuda.syncthreads()
            product(tile, plain(D, rows), plain(Vb, cols), T, rows, cols, cols, False, over, t, threads)
            product(tile, adjoint(Ub, rows), plain(T, rows), M, cols, rows, cols, False, over, t, threads)
            f, g = halves(-height, one)
            half, zero, over_cols, e = like(one, 0.5), like(one, 0.0), inverse_of(cols), t
            while e < cols * (cols // 2 + 1):
                d = quotient(e, over_cols)
                i, j, new = pair(e - d * cols, d, cols)
                over_i, over_j = (over[i], over[j]) if residual else (zero, zero)
                above, below = j * apart(cols) + i, i * apart(cols) + j
                if d == 0:
                    if mine:
                        d_values[c * cols + i] = real(M[above]) * f * g
                    derivatives.generator_value(M, Y, above, half * half * over[i], over_i)
                elif new:
                    x, y = derivatives.reciprocals(s[i] - s[j], s[j] + s[i], tie, one)
                    derivatives.generator_pair(M, Y, above, below, half * x, half * y, over_i, over_j)
                e += threads
            cuda.syncthreads()
            product(tile, plain(Ub, rows), plain(M, cols), T, rows, cols, cols, residual, over, t, threads)
            product(tile, plain(Vb, cols), plain(Y, cols), dVb, cols, cols, cols, False, over, t, threads)
            if mine:
                change = scale - height
                store_columns(T, d_left, c * rows * cols, rows, cols, wide, change, t, threads)
                store_columns(dVb, d_right, c * cols * cols, cols, cols, not wide, change, t, threads)
            cuda.syncthreads()
            first += cuda.gridDim.x * seats
            if in_shared:
                break

    return pushforward


def block_pullback(kind: Kind, real_kind: Kind, real_type: Any, in_shared: bool) -> Callable[..., None]:
    """A_bar from finished factors and their cotangents."""
    planes = components(kind)
    breadth, few = TILE_COLUMNS // planes, max(AT_ONCE, TILE_ROWS) * planes
    many, sides = TILE_ROWS * breadth * planes, TILE_ROWS + breadth

    def pullback(U, S, Vh, U_bar, S_bar, Vh_bar, A_bar, work, B, m, n, threads):
        t, seat, seats = cuda.threadIdx.x % threads, cuda.threadIdx.x // threads, cuda.blockDim.x // threads
        rows, cols, wide, residual = max(m, n), min(m, n), m < n, m != n
        tall, square = apart(rows) * cols * planes, apart(cols) * cols * planes
        total = pullback_numbers(rows, cols, planes)
        whole = cuda.shared.array(0, real_type) if in_shared else work[cuda.blockIdx.x * seats * total :]
        memory = whole[seat * total : (seat + 1) * total]
        Ub, T, Vb = buffer(memory, kind), buffer(memory[tall:], kind), buffer(memory[2 * tall :], kind)
        X, Y = buffer(memory[2 * tall + square :], kind), buffer(memory[2 * tall + 2 * square :], kind)
        Ub_bar, Vb_bar, Ab_bar = T, X, Ub  # until each is needed
        rest = memory[2 * tall + 3 * square :]
        s, over = buffer(rest, real_kind), buffer(rest[cols:], real_kind)
        some = buffer(cuda.local.array(few, real_type), kind)
        tile = breadth, buffer(cuda.local.array(many, real_type), kind), some, cuda.local.array(sides, int64)
        left, right = (buffer(Vh, kind), buffer(U, kind)) if wide else (buffer(U, kind), buffer(Vh, kind))
        left_bar, right_bar = (
            (buffer(Vh_bar, kind), buffer(U_bar, kind)) if wide else (buffer(U_bar, kind), buffer(Vh_bar, kind))
        )
        values, values_bar = buffer(S, real_kind), buffer(S_bar, real_kind)
        first = cuda.blockIdx.x * seats
        while first < B:
            b, mine = min(first + seat, B - 1), first + seat < B
            u0, v0 = b * rows * cols, b * cols * cols
            scale = exponent_for(S[b * cols], 0)
            tie, one = load_values(s, over, values, b * cols, scale, cols, t, threads)
            load_columns(Vb, some, right, v0, cols, cols, not wide, t, threads)
            load_columns(Vb_bar, some, right_bar, v0, cols, cols, not wide, t, threads)
            load_columns(Ub, some, left, u0, rows, cols, wide, t, threads)
            load_columns(Ub_bar, some, left_bar, u0, rows, cols, wide, t, threads)
            cuda.syncthreads()
            product(tile, adjoint(Vb, cols), plain(Vb_bar, cols), Y, cols, cols, cols, False, over, t, threads)
            product(tile, adjoint(Ub, rows), plain(Ub_bar, rows), X, cols, rows, cols, False, over, t, threads)
            f, g = halves(-scale, one)
            half, zero, over_cols, e = like(one, 0.5), like(one, 0.0), inverse_of(cols), t
            while e < cols * (cols // 2 + 1):
                d = quotient(e, over_cols)
                i, j, new = pair(e - d * cols, d, cols)
                over_i, over_j = (over[i], over[j]) if residual else (zero, zero)
                above, below = j * apart(cols) + i, i * apart(cols) + j
                if d == 0:
                    s_bar = values_bar[b * cols + i] * f * g
                    derivatives.join_value(X, Y, above, half * half * over[i], over_i, s_bar)
                elif new:
                    x, y = derivatives.reciprocals(s[i] - s[j], s[j] + s[i], tie, one)
                    derivatives.join_pair(X, Y, above, below, x, y, half, over_i, over_j)
                e += threads
            cuda.syncthreads()
            product(tile, plain(Ub, rows), plain(X, cols), T, rows, cols, cols, residual, over, t, threads)
            product(tile, plain(T, rows), adjoint(Vb, cols), Ab_bar, rows, cols, cols, False, over, t, threads)
            if mine:
                store_columns(Ab_bar, buffer(A_bar, kind), u0, rows, cols, wide, scale, t, threads)
            cuda.syncthreads()
            first += cuda.gridDim.x * seats
            if in_shared:
                break

    return pullback
