"""Closed-form derivatives by a team of threads for each matrix: the steps of `derivatives.pushforward` and `pullback`.

U, V and all that is made of them lie in shared memory, or in a workspace of global memory where that is too small.
Columns are an odd number of entries apart, so that threads side by side meet in no bank of it, whether they take rows
or columns side by side. All threads share each step: tiles of a product, pairs of values, numbers to load and store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba.cuda
from numba import int64

from .. import derivatives
from ..buffers import Kind, buffer, components
from ..derivatives import conjugate_if
from ..jacobi import tie_tolerance
from ..protocol import eps_of, like, plus_product, real
from .memory import exponent_for, halves, inline, larger, largest, load, load_factors, store, store_factors

#: Untyped, for type checkers see the typing functions of numba.cuda's device functions in place of these.
cuda: Any = numba.cuda

#: Rows and columns of a product that a thread takes at a time: a number that is loaded serves four of the sums, or two.
#: Of complex numbers half as many columns, for as many registers.
TILE_ROWS, TILE_COLUMNS = 2, 4


def apart(n: int) -> int:
    """The distance between columns of n entries: odd."""
    return n | 1


def padded(numbers: int) -> int:
    """Four more than a multiple of eight: so the entries of neighbouring small matrices lie in different banks too."""
    return (numbers + 3) // 8 * 8 + 4


def pushforward_numbers(rows: int, cols: int, planes: int, threads: int) -> int:
    """Reals that a matrix takes: U, D, T and V, Y, the values, their inverses, and a slot for each thread."""
    return padded((3 * apart(rows) + 2 * apart(cols)) * cols * planes + 2 * cols + threads)


def pullback_numbers(rows: int, cols: int, planes: int) -> int:
    """Reals that a matrix takes: U, U_bar and V, X, Y, the values and their inverses."""
    return padded((2 * apart(rows) + 3 * apart(cols)) * cols * planes + 2 * cols)


# ---- steps


@inline
def pair(p, d, n):
    """The places p and p + d on a circle of n, the smaller first, and whether they are met for the first time: pairs
    half-way round come twice."""
    q = p + d if p + d < n else p + d - n
    return min(p, q), max(p, q), 2 * d < n or p < q


@inline
def together(slots, x, t, threads):
    """The largest x of the team. Not that of `teams`, for the simulator finds barriers in the kernel's module only."""
    slots[t] = x
    cuda.syncthreads()
    top = slots[0]
    for k in range(1, threads):
        top = larger(top, slots[k])
    return top


@inline
def plain(X, lead):
    """X as a factor of a product, its columns `lead` numbers apart: its numbers, the steps between its rows and between
    its columns, whether it is conjugated."""
    return X, 1, lead, False


@inline
def adjoint(X, lead):
    """X^H as a factor of a product."""
    return X, lead, 1, True


@inline
def row_of(i, k, stride, rows):
    """Row k of the tile at i; that row itself once more, where the matrix ends."""
    return i + k * stride if i + k * stride < rows else i


@inline
def product(tile, left, right, result, rows, depth, cols, add, over, t, threads):
    """C_ij = sum_r left_ir right_rj by tiles, and C_ij over_j, if `add`. A tile is its number of columns and registers:
    for sums, numbers of the left factor, places.

    The rows of a tile lie a fraction of the matrix apart: what neighbours read lies side by side.
    """
    (A, ai, ar, ca), (B, br, bj, cb), (C, _, lead, _), (breadth, sums, some, at) = left, right, result, tile
    high, wide, zero = (rows + TILE_ROWS - 1) // TILE_ROWS, (cols + breadth - 1) // breadth, like(A[0], 0.0)
    for e in range(t, high * wide, threads):
        i, j = e % high, e // high
        for x in range(TILE_ROWS):
            at[x] = row_of(i, x, high, rows) * ai
        for y in range(breadth):
            q = row_of(j, y, wide, cols)
            at[TILE_ROWS + y] = q * bj
            for x in range(TILE_ROWS):
                sums[y * TILE_ROWS + x] = C[q * lead + row_of(i, x, high, rows)] * over[q] if add else zero
        r = 0
        while r < depth:
            for x in range(TILE_ROWS):
                some[x] = conjugate_if(ca, A[at[x] + r * ar])
            for y in range(breadth):
                b = conjugate_if(cb, B[at[TILE_ROWS + y] + r * br])
                for x in range(TILE_ROWS):
                    sums[y * TILE_ROWS + x] = plus_product(sums[y * TILE_ROWS + x], some[x], b)
            r += 1
        for y in range(breadth):
            for x in range(TILE_ROWS):
                C[row_of(j, y, wide, cols) * lead + row_of(i, x, high, rows)] = sums[y * TILE_ROWS + x]
    cuda.syncthreads()


@inline
def load_values(s, over, values, start, exponent, cols, t, threads):
    """The values times 2^exponent, and the inverse of each, 0 for a zero; what counts as a tie, and one."""
    f, g = halves(exponent, values[start])
    one = like(values[start], 1.0)
    tie = values[start] * f * g * like(one, tie_tolerance(eps_of(one), cols))
    for i in range(t, cols, threads):
        s[i] = values[start + i] * f * g
        half = derivatives.reciprocals(one, s[i] + s[i], s[i], tie, one)[1]
        over[i] = half + half
    return tie, one


# ---- kernels


def block_pushforward(
    kind: Kind, real_kind: Kind, real_type: Any, m: int, n: int, threads: int, in_shared: bool
) -> Callable[..., None]:
    """dU, dS, dVh along each of N directions from finished factors: a team for each matrix and direction."""
    rows, cols, wide, planes, residual = max(m, n), min(m, n), m < n, components(kind), m != n
    lead, distance, total = apart(rows), apart(cols), pushforward_numbers(rows, cols, components(kind), threads)
    size, tall, square, leads = rows * cols, lead * cols * planes, distance * cols * planes, (lead, distance)
    breadth, few = TILE_COLUMNS // planes, TILE_ROWS * planes
    many, sides, pairs = breadth * few, TILE_ROWS + breadth, cols * (cols // 2 + 1)

    def pushforward(da, U, S, Vh, dU, dS, dVh, work, B, N):
        t, seat, seats = cuda.threadIdx.x % threads, cuda.threadIdx.x // threads, cuda.blockDim.x // threads
        whole = cuda.shared.array(0, real_type) if in_shared else work[cuda.blockIdx.x * seats * total :]
        memory = whole[seat * total : (seat + 1) * total]
        Ub, D, T = buffer(memory, kind), buffer(memory[tall:], kind), buffer(memory[2 * tall :], kind)
        Vb, Y = buffer(memory[3 * tall :], kind), buffer(memory[3 * tall + square :], kind)
        M, dVb = D, D  # when D V is known, and when dU is
        rest = memory[3 * tall + 2 * square :]
        s, over, slots = buffer(rest, real_kind), buffer(rest[cols:], real_kind), rest[2 * cols :]
        crew = over, t, threads
        some, sums = buffer(cuda.local.array(few, real_type), kind), buffer(cuda.local.array(many, real_type), kind)
        tile = breadth, sums, some, cuda.local.array(sides, int64)
        left, right, d_left, d_right = buffer(U, kind), buffer(Vh, kind), buffer(dU, kind), buffer(dVh, kind)
        D_all, values, d_values = buffer(da, kind), buffer(S, real_kind), buffer(dS, real_kind)
        for first in range(cuda.blockIdx.x * seats, N * B, cuda.gridDim.x * seats):
            c, mine = min(first + seat, N * B - 1), first + seat < N * B
            b = c % B
            scale = exponent_for(S[b * cols], 0)
            tie, one = load_values(s, over, values, b * cols, scale, cols, t, threads)
            load_factors(Ub, Vb, left, right, b, rows, cols, wide, t, threads, leads)
            height = exponent_for(together(slots, largest(D_all, c * size, size, t, threads), t, threads), 0)
            load(D, 1, 0, D_all, c * size, rows, cols, wide, height, t, threads, lead)
            cuda.syncthreads()
            product(tile, plain(D, lead), plain(Vb, distance), plain(T, lead), rows, cols, cols, False, *crew)
            product(tile, adjoint(Ub, lead), plain(T, lead), plain(M, distance), cols, rows, cols, False, *crew)
            f, g = halves(-height, one)
            half, zero = like(one, 0.5), like(one, 0.0)
            for e in range(t, pairs, threads):
                i, j, new = pair(e % cols, e // cols, cols)
                over_i, over_j = (over[i], over[j]) if residual else (zero, zero)
                above, below = j * distance + i, i * distance + j
                if e < cols:
                    if mine:
                        d_values[c * cols + i] = real(M[above]) * f * g
                    derivatives.generator_value(M, Y, above, half * half * over[i], over_i)
                elif new:
                    x, y = derivatives.reciprocals(s[i] - s[j], s[j] + s[i], s[i], tie, one)
                    derivatives.generator_pair(M, Y, above, below, half * x, half * y, over_i, over_j)
            cuda.syncthreads()
            product(tile, plain(Ub, lead), plain(M, distance), plain(T, lead), rows, cols, cols, residual, *crew)
            product(tile, plain(Vb, distance), plain(Y, distance), plain(dVb, distance), cols, cols, cols, False, *crew)
            if mine:
                store_factors(T, dVb, 1, 0, d_left, d_right, c, rows, cols, wide, scale - height, t, threads, leads)
            cuda.syncthreads()

    return pushforward


def block_pullback(
    kind: Kind, real_kind: Kind, real_type: Any, m: int, n: int, threads: int, in_shared: bool
) -> Callable[..., None]:
    """A_bar from finished factors and their cotangents."""
    rows, cols, wide, planes, residual = max(m, n), min(m, n), m < n, components(kind), m != n
    lead, distance, total = apart(rows), apart(cols), pullback_numbers(rows, cols, components(kind))
    size, tall, square, leads = rows * cols, lead * cols * planes, distance * cols * planes, (lead, distance)
    breadth, few = TILE_COLUMNS // planes, TILE_ROWS * planes
    many, sides, pairs = breadth * few, TILE_ROWS + breadth, cols * (cols // 2 + 1)

    def pullback(U, S, Vh, U_bar, S_bar, Vh_bar, A_bar, work, B):
        t, seat, seats = cuda.threadIdx.x % threads, cuda.threadIdx.x // threads, cuda.blockDim.x // threads
        whole = cuda.shared.array(0, real_type) if in_shared else work[cuda.blockIdx.x * seats * total :]
        memory = whole[seat * total : (seat + 1) * total]
        Ub, T, Vb = buffer(memory, kind), buffer(memory[tall:], kind), buffer(memory[2 * tall :], kind)
        X, Y = buffer(memory[2 * tall + square :], kind), buffer(memory[2 * tall + 2 * square :], kind)
        Ub_bar, Vb_bar, Ab_bar = T, X, Ub  # until each is needed
        rest = memory[2 * tall + 3 * square :]
        s, over = buffer(rest, real_kind), buffer(rest[cols:], real_kind)
        crew = over, t, threads
        some, sums = buffer(cuda.local.array(few, real_type), kind), buffer(cuda.local.array(many, real_type), kind)
        tile = breadth, sums, some, cuda.local.array(sides, int64)
        left, right, left_bar, right_bar = buffer(U, kind), buffer(Vh, kind), buffer(U_bar, kind), buffer(Vh_bar, kind)
        values, values_bar = buffer(S, real_kind), buffer(S_bar, real_kind)
        for first in range(cuda.blockIdx.x * seats, B, cuda.gridDim.x * seats):
            b, mine = min(first + seat, B - 1), first + seat < B
            scale = exponent_for(S[b * cols], 0)
            tie, one = load_values(s, over, values, b * cols, scale, cols, t, threads)
            load_factors(Ub_bar, Vb_bar, left_bar, right_bar, b, rows, cols, wide, t, threads, leads)
            load_factors(Ub, Vb, left, right, b, rows, cols, wide, t, threads, leads)
            cuda.syncthreads()
            product(
                tile, adjoint(Vb, distance), plain(Vb_bar, distance), plain(Y, distance), cols, cols, cols, False, *crew
            )
            product(tile, adjoint(Ub, lead), plain(Ub_bar, lead), plain(X, distance), cols, rows, cols, False, *crew)
            f, g = halves(-scale, one)
            half, zero = like(one, 0.5), like(one, 0.0)
            for e in range(t, pairs, threads):
                i, j, new = pair(e % cols, e // cols, cols)
                over_i, over_j = (over[i], over[j]) if residual else (zero, zero)
                above, below = j * distance + i, i * distance + j
                if e < cols:
                    s_bar = values_bar[b * cols + i] * f * g
                    derivatives.join_value(X, Y, above, half * half * over[i], over_i, s_bar)
                elif new:
                    x, y = derivatives.reciprocals(s[i] - s[j], s[j] + s[i], s[i], tie, one)
                    derivatives.join_pair(X, Y, above, below, x, y, half, over_i, over_j)
            cuda.syncthreads()
            product(tile, plain(Ub, lead), plain(X, distance), plain(T, lead), rows, cols, cols, residual, *crew)
            product(tile, plain(T, lead), adjoint(Vb, distance), plain(Ab_bar, lead), rows, cols, cols, False, *crew)
            if mine:
                store(Ab_bar, 1, 0, buffer(A_bar, kind), b * size, rows, cols, wide, scale, t, threads, lead)
            cuda.syncthreads()

    return pullback
