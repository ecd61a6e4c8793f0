"""Closed-form derivatives by a team of threads for each matrix: the steps of `derivatives.pushforward` and `pullback`.

U, V and all that is made of them lie in shared memory, or in a workspace of global memory where that is too small.
Columns are an odd number of entries apart, so that threads side by side meet in no bank of it, whether they take rows
or columns side by side. All threads share each step: tiles of a product, pairs of values, numbers to load and store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba.cuda

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
def course(width, t, threads):
    """Thread t among places in rows of `width`: its place in a row, the row, and its steps on both. Once a kernel, for
    a division takes a device as long as a tile."""
    return t % width, t // width, threads % width, threads // width


@inline
def ahead(i, j, width, steps):
    """The next place of a course."""
    i, j = i + steps[2], j + steps[3]
    return (i - width, j + 1) if i >= width else (i, j)


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
def load_columns(X, some, x, start, rows, cols, wide, steps, t, threads):
    """`memory.load` to columns that are `apart`, at any size. Returns the largest |real or imaginary part|."""
    size, width = rows * cols, rows if wide else cols
    right, down = (1, apart(rows)) if wide else (apart(rows), 1)
    i, j = steps[0], steps[1]
    top = like(real(x[start]), 0.0)
    for first in range(t, size, AT_ONCE * threads):
        for k in range(AT_ONCE):
            some[k] = x[start + min(first + k * threads, size - 1)]
        for k in range(AT_ONCE):
            if first + k * threads < size:
                X[i * right + j * down] = conjugate_if(wide, some[k])
                i, j = ahead(i, j, width, steps)
            top = larger(larger(top, absolute(real(some[k]))), absolute(imag(some[k])))
    return top


@inline
def store_columns(X, x, start, rows, cols, wide, exponent, steps, t, threads):
    """`memory.store` of columns that are `apart`."""
    f, g = halves(exponent, X[0])
    width = rows if wide else cols
    right, down = (1, apart(rows)) if wide else (apart(rows), 1)
    i, j = steps[0], steps[1]
    for e in range(t, rows * cols, threads):
        x[start + e] = conjugate_if(wide, X[i * right + j * down]) * f * g
        i, j = ahead(i, j, width, steps)


@inline
def row_of(i, k, stride, rows):
    """Row k of the tile at i; that row itself once more, where the matrix ends."""
    return i + k * stride if i + k * stride < rows else i


@inline
def product(sums, some, A, ai, ar, ca, B, br, bj, cb, C, rows, depth, cols, add, over, steps, t, threads):
    """`derivatives.multiply` by tiles, to columns that are `apart`; to C_ij over_j, where `add` says so.

    The rows of a tile lie a fraction of the matrix apart: what neighbours read lies side by side.
    """
    high, wide, cj = (rows + TILE_ROWS - 1) // TILE_ROWS, (cols + TILE_COLUMNS - 1) // TILE_COLUMNS, apart(rows)
    i, j = steps[0], steps[1]
    zero = like(A[0], 0.0)
    for _ in range(t, high * wide, threads):
        for y in range(TILE_COLUMNS):
            q = row_of(j, y, wide, cols)
            for x in range(TILE_ROWS):
                sums[y * TILE_ROWS + x] = C[q * cj + row_of(i, x, high, rows)] * over[q] if add else zero
        for r in range(depth):
            for x in range(TILE_ROWS):
                some[x] = conjugate_if(ca, A[row_of(i, x, high, rows) * ai + r * ar])
            for y in range(TILE_COLUMNS):
                b = conjugate_if(cb, B[row_of(j, y, wide, cols) * bj + r * br])
                for x in range(TILE_ROWS):
                    sums[y * TILE_ROWS + x] = plus_product(sums[y * TILE_ROWS + x], some[x], b)
        for y in range(TILE_COLUMNS):
            for x in range(TILE_ROWS):
                C[row_of(j, y, wide, cols) * cj + row_of(i, x, high, rows)] = sums[y * TILE_ROWS + x]
        i, j = ahead(i, j, high, steps)
    cuda.syncthreads()


@inline
def invert(s, over, tie, one, cols, t, threads):
    """The inverse of each value, 0 for a zero."""
    for i in range(t, cols, threads):
        half = derivatives.reciprocals(one, s[i] + s[i], tie + tie, one)[1]
        over[i] = half + half


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
        by_rows, by_pairs = course(n if wide else cols, t, threads), course(cols, t, threads)
        tiles = course((rows + TILE_ROWS - 1) // TILE_ROWS, t, threads)
        square_tiles = course((cols + TILE_ROWS - 1) // TILE_ROWS, t, threads)
        for first in range(cuda.blockIdx.x * seats, B, cuda.gridDim.x * seats):
            b, mine = min(first + seat, B - 1), first + seat < B
            scale = exponent_for(S[b * cols], 0)
            load(s, 1, 0, values, b * cols, cols, 1, True, scale, t, threads)
            load_columns(Ub, some, left, b * rows * cols, rows, cols, wide, by_rows, t, threads)
            load_columns(Vb, some, right, b * cols * cols, cols, cols, not wide, by_pairs, t, threads)
            cuda.syncthreads()
            one = like(s[0], 1.0)
            half, zero, tie = like(one, 0.5), like(one, 0.0), s[0] * like(one, tie_tolerance(eps_of(one), cols))
            invert(s, over, tie, one, cols, t, threads)
            for k in range(N):
                c = k * B + b
                top = load_columns(D, some, D_all, c * rows * cols, rows, cols, wide, by_rows, t, threads)
                height = exponent_for(together(slots, top, t, threads), 0)
                f, g = halves(height, one)
                for e in range(t, apart(rows) * cols, threads):
                    D[e] = D[e] * f * g
                cuda.syncthreads()
                product(
                    sums, some, D, 1, apart(rows), False, Vb, 1, apart(cols), False, T,
                    rows, cols, cols, False, over, tiles, t, threads,
                )  # fmt: skip
                product(
                    sums, some, Ub, apart(rows), 1, True, T, 1, apart(rows), False, X,
                    cols, rows, cols, False, over, square_tiles, t, threads,
                )  # fmt: skip
                f, g = halves(-height, one)
                p, d = by_pairs[0], by_pairs[1]
                for _ in range(t, cols * (cols // 2 + 1), threads):
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
                    p, d = ahead(p, d, cols, by_pairs)
                cuda.syncthreads()
                product(
                    sums, some, Ub, 1, apart(rows), False, X, 1, apart(cols), False, T,
                    rows, cols, cols, rows > cols, over, tiles, t, threads,
                )  # fmt: skip
                product(
                    sums, some, Vb, 1, apart(cols), False, Y, 1, apart(cols), False, X,
                    cols, cols, cols, False, over, square_tiles, t, threads,
                )  # fmt: skip
                if mine:
                    change = scale - height
                    store_columns(T, d_left, c * rows * cols, rows, cols, wide, change, by_rows, t, threads)
                    store_columns(X, d_right, c * cols * cols, cols, cols, not wide, change, by_pairs, t, threads)
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
        by_rows, by_pairs = course(n if wide else cols, t, threads), course(cols, t, threads)
        tiles = course((rows + TILE_ROWS - 1) // TILE_ROWS, t, threads)
        square_tiles = course((cols + TILE_ROWS - 1) // TILE_ROWS, t, threads)
        for first in range(cuda.blockIdx.x * seats, B, cuda.gridDim.x * seats):
            b, mine = min(first + seat, B - 1), first + seat < B
            u0, v0 = b * rows * cols, b * cols * cols
            scale = exponent_for(S[b * cols], 0)
            load(s, 1, 0, values, b * cols, cols, 1, True, scale, t, threads)
            load_columns(Vb, some, right, v0, cols, cols, not wide, by_pairs, t, threads)
            load_columns(X, some, right_bar, v0, cols, cols, not wide, by_pairs, t, threads)
            load_columns(Ub, some, left, u0, rows, cols, wide, by_rows, t, threads)
            load_columns(T, some, left_bar, u0, rows, cols, wide, by_rows, t, threads)
            cuda.syncthreads()
            one = like(s[0], 1.0)
            half, zero, tie = like(one, 0.5), like(one, 0.0), s[0] * like(one, tie_tolerance(eps_of(one), cols))
            invert(s, over, tie, one, cols, t, threads)
            product(
                sums, some, Vb, apart(cols), 1, True, X, 1, apart(cols), False, Y,
                cols, cols, cols, False, over, square_tiles, t, threads,
            )  # fmt: skip
            product(
                sums, some, Ub, apart(rows), 1, True, T, 1, apart(rows), False, X,
                cols, rows, cols, False, over, square_tiles, t, threads,
            )  # fmt: skip
            f, g = halves(-scale, one)
            p, d = by_pairs[0], by_pairs[1]
            for _ in range(t, cols * (cols // 2 + 1), threads):
                i, j, new = pair(p, d, cols)
                over_i, over_j = (over[i], over[j]) if rows > cols else (zero, zero)
                if d == 0:
                    s_bar = values_bar[b * cols + i] * f * g
                    derivatives.join_value(X, Y, i * apart(cols) + i, half * half * over[i], over_i, s_bar)
                elif new:
                    x, y = derivatives.reciprocals(s[i] - s[j], s[j] + s[i], tie, one)
                    derivatives.join_pair(X, Y, j * apart(cols) + i, i * apart(cols) + j, x, y, half, over_i, over_j)
                p, d = ahead(p, d, cols, by_pairs)
            cuda.syncthreads()
            product(
                sums, some, Ub, 1, apart(rows), False, X, 1, apart(cols), False, T,
                rows, cols, cols, rows > cols, over, tiles, t, threads,
            )  # fmt: skip
            product(
                sums, some, T, 1, apart(rows), False, Vb, apart(cols), 1, True, Ub,
                rows, cols, cols, False, over, tiles, t, threads,
            )  # fmt: skip
            if mine:
                store_columns(Ub, buffer(A_bar, kind), u0, rows, cols, wide, scale, by_rows, t, threads)
            cuda.syncthreads()

    return pullback
