"""The texts of `jacobi` and `derivatives` on CUDA. Imported on first use, for it imports numba.cuda.

A thread or a block is one more way to run them; this file holds indexing, memory and launches only.

    thread    one thread a matrix, in registers: sizes are constants of the kernel, so that every loop unrolls
    block     a team of threads a matrix, as many matrices as a warp has teams, in shared memory or, where that is too
              small, in a workspace of global memory; a team shares the pairs of a sweep, front after front, and the
              columns of a product; all teams of a block meet at its barriers, and sweep until the last is at rest

A front is all pairs (p, q) with equal p + q (see `jacobi`): none shares a column with another, and each comes after
every pair that it must follow in the row-cyclic order. So a team makes the rotations of the serial sweep, with the same
numbers, in 2 n - 3 steps.

Arrays are flat, of reals; matrix b of a batch starts at b m n. A matrix with m < n is worked on as its conjugate
transpose, rows >= cols, with U and V exchanged.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba.cuda
import numpy as np
from numba import from_dtype, int64
from numba.extending import register_jitable

from . import derivatives, jacobi
from .compiled import NONFINITE, OPTIONS, UNCONVERGED
from .cpu import MAX_SWEEPS
from .protocol import (
    absolute,
    any_true,
    conj,
    eps_of,
    imag,
    like,
    minimum,
    primal,
    real,
    where,
)
from .scalars import Kind, buffer, components

#: What the report tells of a matrix, beside NONFINITE and UNCONVERGED: a tie or a zero, where tangents need the basis
#: that follows the directions.
TIED = 8

#: The largest matrix that a thread takes, as reals of A and V with their partials, and as columns: up to here the
#: kernels were seen to stay in 255 registers without local memory (tests/gpu/test_resources.py holds the table).
THREAD_NUMBERS = {"svd": 36, "svdvals": 36, "pushforward": 36, "pullback": 36, "dual": 64}
THREAD_COLUMNS = {"svd": 4, "svdvals": 6, "pushforward": 4, "pullback": 4, "dual": 4}

#: Threads of a block of teams: a warp holds the n // 2 pairs of the widest front up to n = 64.
WARP = 32

#: Threads of a block where each takes a matrix.
THREADS = 64

#: Shared memory that every device gives a block without being asked, in bytes.
SHARED_BYTES = 48 * 1024

#: Blocks of teams that the registers of an SM hold, and its shared memory (compute capability 8.0): a block packs as
#: many matrices as keep most of them resident.
RESIDENT_BLOCKS, PROCESSOR_BYTES = 12, 164 * 1024

#: Global memory that the workspaces of one launch may take together, in bytes.
WORKSPACE_BYTES = 1 << 28

#: Directions that one dual number of a block carries; more are taken in turns. A thread carries what it can hold.
CHUNK = 2

#: Untyped, for type checkers see the typing functions of numba.cuda's device functions in place of these.
cuda: Any = numba.cuda

inline = register_jitable(**OPTIONS)


# ---- indexing


@inline
def halves(exponent):
    """Two powers of two whose product is 2^exponent: one alone may overflow."""
    half = int(exponent) // 2
    return math.ldexp(1.0, half), math.ldexp(1.0, int(exponent) - half)


@inline
def place(e, rows, cols, wide):
    """Where entry e of a matrix in memory, row by row, stands in a buffer of columns; a wide one is transposed."""
    return e if wide else (e % cols) * rows + e // cols


@inline
def conjugate_if(conjugated, x):
    """conj(x) or x."""
    return conj(x) if conjugated else x


@inline
def load(X, stride, which, x, start, rows, cols, wide, exponent, first, step):
    """A matrix of x times 2^exponent, conjugated if wide, to component `which` of the numbers in the columns of X."""
    f, g = halves(exponent)
    zero = like(real(x[start]), 0.0)
    f, g = like(zero, f), like(zero, g)
    for e in range(first, rows * cols, step):
        X[place(e, rows, cols, wide) * stride + which] = conjugate_if(wide, x[start + e]) * f * g


@inline
def store(X, stride, which, x, start, rows, cols, wide, exponent, first, step):
    """The inverse of `load`."""
    f, g = halves(exponent)
    zero = like(real(X[which]), 0.0)
    f, g = like(zero, f), like(zero, g)
    for e in range(first, rows * cols, step):
        x[start + e] = conjugate_if(wide, X[place(e, rows, cols, wide) * stride + which]) * f * g


@inline
def load_factors(U, V, left, right, b, rows, cols, wide, first, step):
    """U and V of matrix b as columns; `left` and `right` are U and Vh as they stand in memory."""
    tall, square = (right, left) if wide else (left, right)
    load(U, 1, 0, tall, b * rows * cols, rows, cols, wide, 0, first, step)
    load(V, 1, 0, square, b * cols * cols, cols, cols, not wide, 0, first, step)


@inline
def store_factors(U, V, stride, which, left, right, b, rows, cols, wide, exponent, first, step):
    """The inverse of `load_factors`, for component `which`, times 2^exponent."""
    tall, square = (right, left) if wide else (left, right)
    store(U, stride, which, tall, b * rows * cols, rows, cols, wide, exponent, first, step)
    store(V, stride, which, square, b * cols * cols, cols, cols, not wide, exponent, first, step)


@inline
def fill(X, size, x, first, step):
    for e in range(first, size, step):
        X[e] = x


@inline
def identity(V, n, first, step):
    one, zero = like(V[0], 1.0), like(V[0], 0.0)
    for e in range(first, n * n, step):
        V[e] = one if e % (n + 1) == 0 else zero


# ---- scaling and verdicts


@inline
def larger(top, x):
    """The larger; infinity if x is not finite."""
    return where(x <= top, top, where(x < like(x, math.inf), x, like(x, math.inf)))


@inline
def largest(x, start, size, first, step):
    """The largest |real or imaginary part| of some numbers, infinity if one is not finite."""
    top = like(real(x[start]), 0.0)
    for e in range(start + first, start + size, step):
        top = larger(larger(top, absolute(real(x[e]))), absolute(imag(x[e])))
    return top


@inline
def exponent_for(top, height):
    """The exponent that brings `top` to 2^height; 0 if it is not finite."""
    return jacobi.power_of_two(float(top), height) if top < like(top, math.inf) else 0


@inline
def verdict(S, info, finite, n, limit):
    """The flags of a finished matrix."""
    tie = S[0] * like(S[0], jacobi.tie_tolerance(eps_of(S[0]), n))
    tied = any_true(S[n - 1] <= tie)
    for p in range(1, n):
        tied = tied or any_true(S[p - 1] - S[p] <= tie)
    flags = TIED if tied else 0
    if not finite:
        flags |= NONFINITE
    if any_true(info[0] >= like(info[0], limit)):
        flags |= UNCONVERGED
    return flags


@inline
def tell(report, b, info, flags):
    """Sweeps, off-norm and flags of matrix b."""
    report[3 * b], report[3 * b + 1], report[3 * b + 2] = float(info[0]) + 1.0, math.sqrt(float(info[1])), float(flags)


# ---- a thread for each matrix


def thread_svd(kind: Kind, real_kind: Kind, real_type: Any, m: int, n: int, vectors: bool) -> Callable[..., None]:
    """U, S, Vh, or S alone."""
    rows, cols, wide = max(m, n), min(m, n), m < n
    planes = components(kind)
    a_size, v_size = rows * cols * planes, cols * cols * planes if vectors else planes
    k = cols if vectors else 0

    def svd(a, U, S, Vh, report, work, B, m, n, limit, threads):
        b = cuda.grid(1)
        if b < B:
            x, left, right = buffer(a, kind), buffer(U, kind), buffer(Vh, kind)
            A = buffer(cuda.local.array(a_size, real_type), kind)
            V = buffer(cuda.local.array(v_size, real_type), kind)
            s = buffer(cuda.local.array(cols, real_type), real_kind)
            info = buffer(cuda.local.array(2, real_type), real_kind)
            top = largest(x, b * rows * cols, rows * cols, 0, 1)
            finite = top < like(top, math.inf)
            exponent = exponent_for(top, jacobi.headroom(eps_of(top)))
            load(A, 1, 0, x, b * rows * cols, rows, cols, wide, exponent, 0, 1)
            if not finite:
                fill(A, rows * cols, like(A[0], 0.0), 0, 1)
            identity(V, k, 0, 1)
            jacobi.converge(A, V, info, rows, k, cols, limit)
            jacobi.normalise(A, s, rows, cols)
            tell(report, b, info, verdict(s, info, finite, cols, limit))
            if not finite:
                fill(s, cols, like(top, math.nan), 0, 1)
            store(s, 1, 0, buffer(S, real_kind), b * cols, cols, 1, True, -exponent, 0, 1)
            if vectors:
                jacobi.complete(A, rows, cols)
                if not finite:
                    fill(A, rows * cols, like(A[0], math.nan), 0, 1)
                    fill(V, cols * cols, like(A[0], math.nan), 0, 1)
                store_factors(A, V, 1, 0, left, right, b, rows, cols, wide, 0, 0, 1)

    return svd


def thread_pushforward(kind: Kind, real_kind: Kind, real_type: Any, m: int, n: int) -> Callable[..., None]:
    """dU, dS, dVh along each of N directions from finished factors."""
    rows, cols, wide = max(m, n), min(m, n), m < n
    planes = components(kind)
    tall, square, table = rows * cols * planes, cols * cols * planes, cols * cols

    def pushforward(da, U, S, Vh, dU, dS, dVh, work, B, m, n, N, threads):
        b = cuda.grid(1)
        if b < B:
            D_all, left, right = buffer(da, kind), buffer(U, kind), buffer(Vh, kind)
            d_left, values, d_right = buffer(dU, kind), buffer(dS, real_kind), buffer(dVh, kind)
            Ub, Vb = buffer(cuda.local.array(tall, real_type), kind), buffer(cuda.local.array(square, real_type), kind)
            D, T = buffer(cuda.local.array(tall, real_type), kind), buffer(cuda.local.array(tall, real_type), kind)
            X, Y = buffer(cuda.local.array(square, real_type), kind), buffer(cuda.local.array(square, real_type), kind)
            dUb, dVb = (
                buffer(cuda.local.array(tall, real_type), kind),
                buffer(cuda.local.array(square, real_type), kind),
            )
            F = buffer(cuda.local.array(table, real_type), real_kind)
            s, ds = (
                buffer(cuda.local.array(cols, real_type), real_kind),
                buffer(cuda.local.array(cols, real_type), real_kind),
            )
            size = exponent_for(S[b * cols], 0)
            load(s, 1, 0, buffer(S, real_kind), b * cols, cols, 1, True, size, 0, 1)
            load_factors(Ub, Vb, left, right, b, rows, cols, wide, 0, 1)
            derivatives.coefficients(s, F, cols)
            for j in range(N):
                c = j * B + b
                height = exponent_for(largest(D_all, c * rows * cols, rows * cols, 0, 1), 0)
                load(D, 1, 0, D_all, c * rows * cols, rows, cols, wide, height, 0, 1)
                derivatives.pushforward(Ub, s, Vb, F, D, dUb, ds, dVb, X, Y, T, rows, cols)
                store(ds, 1, 0, values, c * cols, cols, 1, True, -height, 0, 1)
                store_factors(dUb, dVb, 1, 0, d_left, d_right, c, rows, cols, wide, size - height, 0, 1)

    return pushforward


def thread_pullback(kind: Kind, real_kind: Kind, real_type: Any, m: int, n: int) -> Callable[..., None]:
    """A_bar from finished factors and their cotangents."""
    rows, cols, wide = max(m, n), min(m, n), m < n
    planes = components(kind)
    tall, square, table = rows * cols * planes, cols * cols * planes, cols * cols

    def pullback(U, S, Vh, U_bar, S_bar, Vh_bar, A_bar, work, B, m, n, threads):
        b = cuda.grid(1)
        if b < B:
            left, right, g_left, g_right = buffer(U, kind), buffer(Vh, kind), buffer(U_bar, kind), buffer(Vh_bar, kind)
            Ub, Vb = buffer(cuda.local.array(tall, real_type), kind), buffer(cuda.local.array(square, real_type), kind)
            gU, gV = buffer(cuda.local.array(tall, real_type), kind), buffer(cuda.local.array(square, real_type), kind)
            gA, T = buffer(cuda.local.array(tall, real_type), kind), buffer(cuda.local.array(tall, real_type), kind)
            X = buffer(cuda.local.array(square, real_type), kind)
            F = buffer(cuda.local.array(table, real_type), real_kind)
            s, gs = (
                buffer(cuda.local.array(cols, real_type), real_kind),
                buffer(cuda.local.array(cols, real_type), real_kind),
            )
            size = exponent_for(S[b * cols], 0)
            load(s, 1, 0, buffer(S, real_kind), b * cols, cols, 1, True, size, 0, 1)
            load(gs, 1, 0, buffer(S_bar, real_kind), b * cols, cols, 1, True, -size, 0, 1)
            load_factors(Ub, Vb, left, right, b, rows, cols, wide, 0, 1)
            load_factors(gU, gV, g_left, g_right, b, rows, cols, wide, 0, 1)
            derivatives.coefficients(s, F, cols)
            derivatives.pullback(Ub, s, Vb, F, gU, gs, gV, gA, X, T, rows, cols)
            store(gA, 1, 0, buffer(A_bar, kind), b * rows * cols, rows, cols, wide, size, 0, 1)

    return pullback


def thread_dual(kind: Kind, leaf: Kind, real_type: Any, m: int, n: int, count: int) -> Callable[..., None]:
    """U, S, Vh and their tangents along `count` directions, carried through every rotation. Real numbers only."""
    rows, cols, wide = max(m, n), min(m, n), m < n
    size, stride = rows * cols, 1 + count
    a_size, v_size, s_size = size * stride, cols * cols * stride, cols * stride

    def dual(a, da, U, S, Vh, dU, dS, dVh, report, work, B, m, n, limit, threads):
        b = cuda.grid(1)
        if b < B:
            x, dx, values, d_values = buffer(a, leaf), buffer(da, leaf), buffer(S, leaf), buffer(dS, leaf)
            left, right, d_left, d_right = buffer(U, leaf), buffer(Vh, leaf), buffer(dU, leaf), buffer(dVh, leaf)
            a_store, v_store = cuda.local.array(a_size, real_type), cuda.local.array(v_size, real_type)
            s_store, heights = cuda.local.array(s_size, real_type), cuda.local.array(count, int64)
            A, V, s = buffer(a_store, kind), buffer(v_store, kind), buffer(s_store, kind)
            A_parts, V_parts, s_parts = buffer(a_store, leaf), buffer(v_store, leaf), buffer(s_store, leaf)
            U0, s0 = buffer(cuda.local.array(size, real_type), leaf), buffer(cuda.local.array(cols, real_type), leaf)
            info = buffer(cuda.local.array(2, real_type), leaf)
            top = largest(x, b * size, size, 0, 1)
            finite = top < like(top, math.inf)
            exponent = exponent_for(top, jacobi.headroom(eps_of(top)))
            load(A_parts, stride, 0, x, b * size, rows, cols, wide, exponent, 0, 1)
            for j in range(count):
                start = (j * B + b) * size
                heights[j] = exponent_for(largest(dx, start, size, 0, 1), jacobi.headroom(eps_of(top)))
                load(A_parts, stride, 1 + j, dx, start, rows, cols, wide, heights[j], 0, 1)
            if not finite:
                fill(A, size, like(A[0], 0.0), 0, 1)
            identity(V, cols, 0, 1)
            jacobi.converge(A, V, info, rows, cols, cols, limit)
            jacobi.primal_columns(A, U0, s0, rows, cols)
            jacobi.follow(A, V, s, U0, s0, rows, cols, False)
            tell(report, b, info, verdict(s0, info, finite, cols, limit))
            if not finite:
                nan = like(A_parts[0], math.nan)
                fill(A_parts, size * stride, nan, 0, 1)
                fill(V_parts, cols * cols * stride, nan, 0, 1)
                fill(s_parts, cols * stride, nan, 0, 1)
            store(s_parts, stride, 0, values, b * cols, cols, 1, True, -exponent, 0, 1)
            store_factors(A_parts, V_parts, stride, 0, left, right, b, rows, cols, wide, 0, 0, 1)
            for j in range(count):
                c = j * B + b
                store(s_parts, stride, 1 + j, d_values, c * cols, cols, 1, True, -heights[j], 0, 1)
                change = exponent - heights[j]
                store_factors(A_parts, V_parts, stride, 1 + j, d_left, d_right, c, rows, cols, wide, change, 0, 1)

    return dual


# ---- a team of threads for each matrix


@inline
def svd_numbers(tall, square, cols, threads):
    """Reals that a matrix takes in `block_svd`; `tall` and `square` are those of U and V.

    An odd number, so that the same entry of neighbouring matrices lies in different banks of shared memory.
    """
    return (tall + square + 2 + cols + 2 + threads) | 1


@inline
def pushforward_numbers(tall, square, cols, threads):
    return (2 * tall + 2 * square + cols * cols + 2 * cols + threads) | 1


@inline
def pullback_numbers(tall, square, cols, threads):
    return (2 * tall + 2 * square + cols * cols + 2 * cols) | 1


@inline
def dual_numbers(tall, square, cols, threads, stride):
    return ((tall + square + cols) * stride + tall + cols + 2 + threads) | 1


@inline
def view(x, start, kind):
    """The numbers of a flat array from number `start` on."""
    return buffer(x[start * components(kind) :], kind)


@inline
def together(slots, x, t, threads):
    """The largest x of the block; infinity if one is not finite."""
    slots[t] = x
    cuda.syncthreads()
    top = slots[0]
    for k in range(1, threads):
        top = larger(top, slots[k])
    cuda.syncthreads()
    return top


@inline
def first_pair(front, n):
    """The smallest p of the pairs (p, front - p); the largest is (front - 1) // 2."""
    return max(0, front - n + 1)


@inline
def block_converge(A, V, info, slots, m, k, n, limit, t, threads):
    """`jacobi.converge` by a block."""
    zero = like(primal(real(A[0])), 0.0)
    tol2 = like(zero, jacobi.squared_tolerance(eps_of(zero), m))
    floor = like(zero, jacobi.SMOOTH) * jacobi.size2(A, m * n)
    least = like(zero, jacobi.flush(eps_of(zero)))
    cuda.syncthreads()
    moving, sweeps, changed, off = True, 0, 0, zero
    while moving and sweeps < limit:
        moved, off = False, zero
        for front in range(1, 2 * n - 2):
            for p in range(first_pair(front, n) + t, (front + 1) // 2, threads):
                moved, off = jacobi.turn_pair(A, V, p, front - p, m, k, tol2, floor, least, moved, off)
            cuda.syncthreads()
        sweeps += 1
        changed = sweeps if moved else changed
        moving = cuda.syncthreads_or(int(moved)) != 0  # in any matrix of the block: one at rest stays as it is
    changes, last = together(slots, like(zero, changed), t, threads), together(slots, off, t, threads)
    if t == 0:
        info[0], info[1] = changes, last
    cuda.syncthreads()


@inline
def block_settle(A, V, S0, m, n, tie, t, threads):
    """`jacobi.settle` at first order by a block."""
    near = like(tie, jacobi.tie_tolerance(eps_of(tie), n))
    for front in range(1, 2 * n - 2):
        for p in range(first_pair(front, n) + t, (front + 1) // 2, threads):
            jacobi.settle_pair(A, V, S0, p, front - p, m, n, tie, near)
        cuda.syncthreads()


@inline
def block_normalise(a, s, kind, real_kind, m, n, t, threads):
    """`jacobi.normalise` by a block, a column a thread; its first thread sees to the order and the completion."""
    for p in range(t, n, threads):
        jacobi.normalise(view(a, p * m, kind), view(s, p, real_kind), m, 1)
    cuda.syncthreads()
    if t == 0:
        values = buffer(s, real_kind)
        for p in range(1, n):
            values[p] = minimum(values[p], values[p - 1])  # equal norms round apart
        if any_true(values[n - 1] <= like(values[0], 0.0)):
            jacobi.complete(buffer(a, kind), m, n)
    cuda.syncthreads()


def block_svd(kind: Kind, real_kind: Kind, real_type: Any, vectors: bool, in_shared: bool) -> Callable[..., None]:
    """U, S, Vh, or S alone."""
    planes = components(kind)

    def svd(a, U, S, Vh, report, work, B, m, n, limit, threads):
        t, seat, seats = cuda.threadIdx.x % threads, cuda.threadIdx.x // threads, cuda.blockDim.x // threads
        rows, cols, wide = max(m, n), min(m, n), m < n
        k = cols if vectors else 0
        size_a, size_v = rows * cols * planes, k * k * planes
        total = svd_numbers(size_a, size_v, cols, threads)
        whole = cuda.shared.array(0, real_type) if in_shared else work[cuda.blockIdx.x * seats * total :]
        memory = whole[seat * total : (seat + 1) * total]
        a_store, v_store = memory[:size_a], memory[size_a : size_a + size_v + 2]
        s_store = memory[size_a + size_v + 2 : size_a + size_v + 2 + cols]
        info, slots = buffer(memory[size_a + size_v + 2 + cols :], real_kind), memory[size_a + size_v + 4 + cols :]
        x, values, A, V, s = (
            buffer(a, kind),
            buffer(S, real_kind),
            buffer(a_store, kind),
            buffer(v_store, kind),
            s_store,
        )
        left, right = buffer(U, kind), buffer(Vh, kind)
        for first in range(cuda.blockIdx.x * seats, B, cuda.gridDim.x * seats):
            b, mine = min(first + seat, B - 1), first + seat < B
            start = b * rows * cols
            top = together(slots, largest(x, start, rows * cols, t, threads), t, threads)
            finite = top < like(top, math.inf)
            exponent = exponent_for(top, jacobi.headroom(eps_of(top)))
            load(A, 1, 0, x, start, rows, cols, wide, exponent, t, threads)
            cuda.syncthreads()  # the threads fill other entries than they loaded
            if not finite:
                fill(A, rows * cols, like(x[start], 0.0), t, threads)
            identity(V, k, t, threads)
            cuda.syncthreads()
            block_converge(A, V, info, slots, rows, k, cols, limit, t, threads)
            block_normalise(a_store, s_store, kind, real_kind, rows, cols, t, threads)
            if t == 0 and mine:
                tell(report, b, info, verdict(s, info, finite, cols, limit))
            cuda.syncthreads()
            if not finite:
                fill(s, cols, like(top, math.nan), t, threads)
                fill(A, rows * cols, like(x[start], math.nan), t, threads)
                fill(V, k * k, like(x[start], math.nan), t, threads)
            cuda.syncthreads()
            if mine:
                store(buffer(s, real_kind), 1, 0, values, b * cols, cols, 1, True, -exponent, t, threads)
                if vectors:
                    store_factors(A, V, 1, 0, left, right, b, rows, cols, wide, 0, t, threads)
            cuda.syncthreads()

    return svd


@inline
def product(kind, a, a0, ai, ar, ca, b, b0, br, bj, cb, c, rows, depth, cols, add, t, threads):
    """`derivatives.multiply` by a block, each thread some columns: `a` and `b` from number a0 and b0 on."""
    share = (cols + threads - 1) // threads
    begin, end = t * share, min(cols, (t + 1) * share)
    if begin < end:
        A, B, C = view(a, a0, kind), view(b, b0 + begin * bj, kind), view(c, begin * rows, kind)
        derivatives.multiply(A, ai, ar, ca, B, br, bj, cb, C, rows, depth, end - begin, add)
    cuda.syncthreads()


@inline
def factor_strides(rows, cols, wide):
    """How U and V of the worked matrix stand in memory: steps between rows and columns, and whether conjugated."""
    return (1, rows, True, cols, 1, False) if wide else (cols, 1, False, 1, cols, True)


def block_pushforward(kind: Kind, real_kind: Kind, real_type: Any, in_shared: bool) -> Callable[..., None]:
    """dU, dS, dVh along each of N directions from finished factors: the steps of `derivatives.pushforward`."""
    planes = components(kind)

    def pushforward(da, U, S, Vh, dU, dS, dVh, work, B, m, n, N, threads):
        t, seat, seats = cuda.threadIdx.x % threads, cuda.threadIdx.x // threads, cuda.blockDim.x // threads
        rows, cols, wide = max(m, n), min(m, n), m < n
        size, square = rows * cols * planes, cols * cols * planes
        total = pushforward_numbers(size, square, cols, threads)
        whole = cuda.shared.array(0, real_type) if in_shared else work[cuda.blockIdx.x * seats * total :]
        memory = whole[seat * total : (seat + 1) * total]
        d, p, x, y = memory[:size], memory[size : 2 * size], memory[2 * size :], memory[2 * size + square :]
        f, s = memory[2 * size + 2 * square :], memory[2 * size + 2 * square + cols * cols :]
        D, P, X, Y, F = buffer(d, kind), buffer(p, kind), buffer(x, kind), buffer(y, kind), buffer(f, real_kind)
        values, ds, slots = buffer(s, real_kind), buffer(s[cols:], real_kind), s[2 * cols : 2 * cols + threads]
        D_all, d_left, d_values, d_right = buffer(da, kind), buffer(dU, kind), buffer(dS, real_kind), buffer(dVh, kind)
        u, v = (Vh, U) if wide else (U, Vh)
        ui, up, uc, vi, vp, vc = factor_strides(rows, cols, wide)
        for first in range(cuda.blockIdx.x * seats, B, cuda.gridDim.x * seats):
            b, mine = min(first + seat, B - 1), first + seat < B
            u0, v0 = b * rows * cols, b * cols * cols
            scale = exponent_for(S[b * cols], 0)
            load(values, 1, 0, buffer(S, real_kind), b * cols, cols, 1, True, scale, t, threads)
            cuda.syncthreads()
            if t == 0:
                derivatives.coefficients(values, F, cols)
            for j in range(N):
                c = j * B + b
                top = together(slots, largest(D_all, c * rows * cols, rows * cols, t, threads), t, threads)
                height = exponent_for(top, 0)
                load(D, 1, 0, D_all, c * rows * cols, rows, cols, wide, height, t, threads)
                cuda.syncthreads()
                product(kind, d, 0, 1, rows, False, v, v0, vi, vp, vc, p, rows, cols, cols, False, t, threads)
                product(kind, u, u0, up, ui, not uc, p, 0, 1, rows, False, x, cols, rows, cols, False, t, threads)
                for i in range(t, cols, threads):
                    ds[i] = real(X[i * cols + i])
                if mine:
                    store(ds, 1, 0, d_values, c * cols, cols, 1, True, -height, t, threads)
                cuda.syncthreads()
                if t == 0:
                    derivatives.generators(X, Y, F, cols, rows > cols)
                    if rows > cols:
                        derivatives.divide_columns(P, F, P, rows, cols)
                cuda.syncthreads()
                product(kind, u, u0, ui, up, uc, x, 0, 1, cols, False, p, rows, cols, cols, rows > cols, t, threads)
                product(kind, v, v0, vi, vp, vc, y, 0, 1, cols, False, d, cols, cols, cols, False, t, threads)
                if mine:
                    store_factors(P, D, 1, 0, d_left, d_right, c, rows, cols, wide, scale - height, t, threads)
                cuda.syncthreads()

    return pushforward


def block_pullback(kind: Kind, real_kind: Kind, real_type: Any, in_shared: bool) -> Callable[..., None]:
    """A_bar from finished factors and their cotangents: the steps of `derivatives.pullback`."""
    planes = components(kind)

    def pullback(U, S, Vh, U_bar, S_bar, Vh_bar, A_bar, work, B, m, n, threads):
        t, seat, seats = cuda.threadIdx.x % threads, cuda.threadIdx.x // threads, cuda.blockDim.x // threads
        rows, cols, wide = max(m, n), min(m, n), m < n
        size, square = rows * cols * planes, cols * cols * planes
        total = pullback_numbers(size, square, cols, threads)
        whole = cuda.shared.array(0, real_type) if in_shared else work[cuda.blockIdx.x * seats * total :]
        memory = whole[seat * total : (seat + 1) * total]
        g, p, x, y = memory[:size], memory[size : 2 * size], memory[2 * size :], memory[2 * size + square :]
        f, s = memory[2 * size + 2 * square :], memory[2 * size + 2 * square + cols * cols :]
        g_values = buffer(s[cols:], real_kind)
        G, P, X, Y, F = buffer(g, kind), buffer(p, kind), buffer(x, kind), buffer(y, kind), buffer(f, real_kind)
        values = buffer(s, real_kind)
        u, v, gu, gv = (Vh, U, Vh_bar, U_bar) if wide else (U, Vh, U_bar, Vh_bar)
        ui, up, uc, vi, vp, vc = factor_strides(rows, cols, wide)
        for first in range(cuda.blockIdx.x * seats, B, cuda.gridDim.x * seats):
            b, mine = min(first + seat, B - 1), first + seat < B
            u0, v0 = b * rows * cols, b * cols * cols
            scale = exponent_for(S[b * cols], 0)
            load(values, 1, 0, buffer(S, real_kind), b * cols, cols, 1, True, scale, t, threads)
            load(g_values, 1, 0, buffer(S_bar, real_kind), b * cols, cols, 1, True, -scale, t, threads)
            load(G, 1, 0, buffer(gu, kind), u0, rows, cols, wide, 0, t, threads)
            cuda.syncthreads()
            product(kind, u, u0, up, ui, not uc, g, 0, 1, rows, False, x, cols, rows, cols, False, t, threads)
            product(kind, v, v0, vp, vi, not vc, gv, v0, vi, vp, vc, y, cols, cols, cols, False, t, threads)
            if t == 0:
                derivatives.coefficients(values, F, cols)
                derivatives.join(X, Y, g_values, F, cols, rows > cols)
                if rows > cols:
                    derivatives.divide_columns(G, F, P, rows, cols)
            cuda.syncthreads()
            product(kind, u, u0, ui, up, uc, x, 0, 1, cols, False, p, rows, cols, cols, rows > cols, t, threads)
            product(kind, p, 0, 1, rows, False, v, v0, vp, vi, not vc, g, rows, cols, cols, False, t, threads)
            if mine:
                store(G, 1, 0, buffer(A_bar, kind), u0, rows, cols, wide, scale, t, threads)
            cuda.syncthreads()

    return pullback


def block_dual(kind: Kind, leaf: Kind, real_type: Any, count: int, in_shared: bool) -> Callable[..., None]:
    """U, S, Vh and their tangents along `count` directions, carried through every rotation. Real numbers only."""
    stride = 1 + count

    def dual(a, da, U, S, Vh, dU, dS, dVh, report, work, B, m, n, limit, threads):
        t, seat, seats = cuda.threadIdx.x % threads, cuda.threadIdx.x // threads, cuda.blockDim.x // threads
        rows, cols, wide = max(m, n), min(m, n), m < n
        size, square = rows * cols, cols * cols
        total = dual_numbers(size, square, cols, threads, stride)
        whole = cuda.shared.array(0, real_type) if in_shared else work[cuda.blockIdx.x * seats * total :]
        memory = whole[seat * total : (seat + 1) * total]
        a_store, v_store, s_store = memory, memory[size * stride :], memory[(size + square) * stride :]
        u_store = s_store[cols * stride :]
        s0_store, slots = u_store[size:], u_store[size + cols + 2 :]
        A, V = buffer(a_store, kind), buffer(v_store, kind)
        A_parts, V_parts, s_parts = buffer(a_store, leaf), buffer(v_store, leaf), buffer(s_store, leaf)
        U0, s0, info = buffer(u_store, leaf), buffer(s0_store, leaf), buffer(s0_store[cols:], leaf)
        x, dx, values, d_values = buffer(a, leaf), buffer(da, leaf), buffer(S, leaf), buffer(dS, leaf)
        left, right, d_left, d_right = buffer(U, leaf), buffer(Vh, leaf), buffer(dU, leaf), buffer(dVh, leaf)
        for first in range(cuda.blockIdx.x * seats, B, cuda.gridDim.x * seats):
            b, mine = min(first + seat, B - 1), first + seat < B
            top = together(slots, largest(x, b * size, size, t, threads), t, threads)
            finite, height = top < like(top, math.inf), jacobi.headroom(eps_of(top))
            exponent = exponent_for(top, height)
            load(A_parts, stride, 0, x, b * size, rows, cols, wide, exponent, t, threads)
            for j in range(count):
                start = (j * B + b) * size
                up = exponent_for(together(slots, largest(dx, start, size, t, threads), t, threads), height)
                load(A_parts, stride, 1 + j, dx, start, rows, cols, wide, up, t, threads)
            cuda.syncthreads()
            if not finite:
                fill(A_parts, size * stride, like(top, 0.0), t, threads)
            identity(V, cols, t, threads)
            cuda.syncthreads()
            block_converge(A, V, info, slots, rows, cols, cols, limit, t, threads)
            for e in range(t, size, threads):
                U0[e] = primal(A[e])
            cuda.syncthreads()
            block_normalise(u_store, s0_store, leaf, leaf, rows, cols, t, threads)
            for p in range(t, cols, threads):
                column, unit = view(a_store, p * rows, kind), view(u_store, p * rows, leaf)
                jacobi.slopes(column, view(s_store, p, kind), unit, view(s0_store, p, leaf), rows, 1)
            cuda.syncthreads()
            tie = s0[0] * like(top, jacobi.tie_tolerance(eps_of(top), cols))
            block_settle(A, V, s0, rows, cols, tie, t, threads)
            for p in range(t, cols, threads):
                column, unit = view(a_store, p * rows, kind), view(u_store, p * rows, leaf)
                jacobi.unit_columns(column, view(s_store, p, kind), unit, view(s0_store, p, leaf), rows, 1, tie)
            if t == 0 and mine:
                tell(report, b, info, verdict(s0, info, finite, cols, limit))
            cuda.syncthreads()
            if not finite:
                fill(A_parts, (size + square + cols) * stride, like(top, math.nan), t, threads)
            cuda.syncthreads()
            if mine:
                store(s_parts, stride, 0, values, b * cols, cols, 1, True, -exponent, t, threads)
                store_factors(A_parts, V_parts, stride, 0, left, right, b, rows, cols, wide, 0, t, threads)
            for j in range(count):
                c = j * B + b
                up = exponent_for(together(slots, largest(dx, c * size, size, t, threads), t, threads), height)
                if mine:
                    store(s_parts, stride, 1 + j, d_values, c * cols, cols, 1, True, -up, t, threads)
                    change = exponent - up
                    store_factors(
                        A_parts, V_parts, stride, 1 + j, d_left, d_right, c, rows, cols, wide, change, t, threads
                    )
            cuda.syncthreads()

    return dual


# ---- ties: a thread for each tied matrix


def directional(kind: Kind, leaf: Kind, real_kind: Kind, real_leaf: Kind) -> Callable[..., None]:
    """The tangents of finished factors at ties: U and Vh turn to follow the directions, then one tangent sweep each.

    A matrix is a thread's, of any size, and its workspace lies in global memory: ties are the exception.
    """
    phases = components(leaf) == 2

    def follow(index, da, U, S, Vh, dU, dS, dVh, work, groups, tied, B, m, n, N):
        i = cuda.grid(1)
        if i < tied:
            b, rows, cols, wide = index[i], max(m, n), min(m, n), m < n
            size, square = rows * cols, cols * cols
            tangents = 2 * (size + square + cols)
            memory = work[i * directional_numbers(rows, cols, N, components(leaf)) :]
            A, V, row = view(memory, 0, kind), view(memory, size, kind), view(memory, size + square, kind)
            A_parts, V_parts = view(memory, 0, leaf), view(memory, 2 * size, leaf)
            U0, V0 = view(memory, tangents, leaf), view(memory, tangents + size, leaf)
            row0, T = view(memory, tangents + size + square, leaf), view(memory, tangents + size + square + cols, leaf)
            reals = memory[components(leaf) * (tangents + (1 + N) * size + square + cols) :]
            s0, s, s_parts = buffer(reals, real_leaf), buffer(reals[cols:], real_kind), buffer(reals[cols:], real_leaf)
            D, left, right, group = buffer(da, leaf), buffer(U, leaf), buffer(Vh, leaf), groups[i * cols :]
            d_left, d_values, d_right = buffer(dU, leaf), buffer(dS, real_leaf), buffer(dVh, leaf)
            scale = exponent_for(S[b * cols], 0)
            load(s0, 1, 0, buffer(S, real_leaf), b * cols, cols, 1, True, scale, 0, 1)
            load_factors(U0, V0, left, right, b, rows, cols, wide, 0, 1)
            tie = s0[0] * like(s0[0], jacobi.tie_tolerance(eps_of(s0[0]), cols))
            zeros = jacobi.tie_groups(s0, group, cols, tie)
            for j in range(N):
                start = (j * B + b) * size
                height = exponent_for(largest(D, start, size, 0, 1), 0)
                load(
                    view(memory, tangents + (1 + j) * size + square + cols, leaf),
                    1,
                    0,
                    D,
                    start,
                    rows,
                    cols,
                    wide,
                    height,
                    0,
                    1,
                )
                jacobi.times(T, j * cols, V0, row0, rows, cols)
            jacobi.adapt(U0, V0, T, group, zeros, rows, cols, cols, N)
            store_factors(U0, V0, 1, 0, left, right, b, rows, cols, wide, 0, 0, 1)
            for j in range(N):
                c = j * B + b
                height = exponent_for(largest(D, c * size, size, 0, 1), 0)
                fill(A_parts, 2 * size, like(U0[0], 0.0), 0, 1)
                load(A_parts, 2, 1, D, c * size, rows, cols, wide, height, 0, 1)
                jacobi.lift(A, V, s, U0, V0, s0, row, rows, cols, tie, phases)
                store(s_parts, 2, 1, d_values, c * cols, cols, 1, True, -height, 0, 1)
                store_factors(A_parts, V_parts, 2, 1, d_left, d_right, c, rows, cols, wide, scale - height, 0, 1)

    return follow


@inline
def directional_numbers(rows, cols, count, planes):
    """Reals of the workspace of a tied matrix."""
    size, square = rows * cols, cols * cols
    return planes * (2 * (size + square + cols) + (1 + count) * size + square + cols) + 3 * cols


# ---- what to launch


@dataclass(frozen=True)
class Plan:
    """How an operation runs on matrices of one shape and type."""

    kernel: Callable[..., None]
    signature: tuple[Any, ...]
    threads: int  # of a block
    matrices: int  # that a block takes
    team: int  # threads that share a matrix; 1 in the kernels of threads
    shared: int  # bytes of shared memory that a block asks for
    workspace: int  # reals of global memory that a block works in instead

    def blocks(self, batch: int) -> int:
        return -(-batch // self.matrices)


@functools.cache
def plan(operation: str, dtype: str, m: int, n: int, count: int = 0, shared: int = SHARED_BYTES) -> Plan:
    """The kernel for "svd", "svdvals", "pushforward", "pullback" or "dual" (along `count` directions) of one shape.

    `shared` is what the device gives a block; where that is too small, the block works in global memory.
    """
    real = np.empty(0, dtype).real.dtype
    kind, real_kind, real_type = Kind(dtype), Kind(real), from_dtype(real)
    rows, cols, planes = max(m, n), min(m, n), components(kind)
    vectors = operation != "svdvals"
    numbers = (rows * cols + (cols * cols if vectors else 0)) * planes * (1 + count)
    arrays, report, integer = real_type[::1], from_dtype(np.float64)[::1], int64
    signature = {
        "svd": (arrays, arrays, arrays, arrays, report, arrays, *[integer] * 5),
        "pushforward": (*[arrays] * 8, *[integer] * 5),
        "pullback": (*[arrays] * 8, *[integer] * 4),
        "dual": (*[arrays] * 8, report, arrays, *[integer] * 5),
    }[operation if vectors else "svd"]
    if cols <= THREAD_COLUMNS[operation] and numbers <= THREAD_NUMBERS[operation]:
        kernel = {
            "svd": lambda: thread_svd(kind, real_kind, real_type, m, n, vectors),
            "svdvals": lambda: thread_svd(kind, real_kind, real_type, m, n, vectors),
            "pushforward": lambda: thread_pushforward(kind, real_kind, real_type, m, n),
            "pullback": lambda: thread_pullback(kind, real_kind, real_type, m, n),
            "dual": lambda: thread_dual(Kind(dtype, (count,)), kind, real_type, m, n, count),
        }[operation]()
        return Plan(kernel, signature, THREADS, THREADS, 1, 0, 0)
    pairs = cols // 2  # of the widest front

    def resident(team: int) -> int:
        """Matrices that an SM works on at a time."""
        needed = WARP // team * matrix_numbers(operation, rows, cols, planes, count, team) * real.itemsize
        return WARP // team * min(RESIDENT_BLOCKS, PROCESSOR_BYTES // needed) if needed <= shared else 0

    team = max((t for t in (1, 2, 4, 8, 16, WARP) if t >= pairs), key=lambda t: (resident(t), t))
    size = matrix_numbers(operation, rows, cols, planes, count, team)
    matrices = WARP // team
    needed = matrices * size
    fits = needed * real.itemsize <= shared
    kernel = block_kernel(operation, dtype, count, fits)
    return Plan(kernel, signature, WARP, matrices, team, needed * real.itemsize if fits else 0, 0 if fits else needed)


def matrix_numbers(operation: str, rows: int, cols: int, planes: int, count: int, team: int) -> int:
    """Reals that a matrix takes in the memory of its block."""
    tall, square = rows * cols * planes, cols * cols * planes
    if operation == "dual":
        return dual_numbers(tall, square, cols, team, 1 + count)
    if operation == "pushforward":
        return pushforward_numbers(tall, square, cols, team)
    if operation == "pullback":
        return pullback_numbers(tall, square, cols, team)
    return svd_numbers(tall, square if operation == "svd" else 0, cols, team)


@functools.cache
def block_kernel(operation: str, dtype: str, count: int, in_shared: bool) -> Callable[..., None]:
    """One kernel serves all shapes."""
    real = np.empty(0, dtype).real.dtype
    kind, real_kind, real_type = Kind(dtype), Kind(real), from_dtype(real)
    if operation == "pushforward":
        return block_pushforward(kind, real_kind, real_type, in_shared)
    if operation == "pullback":
        return block_pullback(kind, real_kind, real_type, in_shared)
    if operation == "dual":
        return block_dual(Kind(dtype, (count,)), kind, real_type, count, in_shared)
    return block_svd(kind, real_kind, real_type, operation == "svd", in_shared)


# ---- launching: arrays live on the device


@functools.cache
def compiled(kernel: Callable[..., None]) -> Any:
    return cuda.jit(kernel)


def launcher(kernel: Callable[..., None], blocks: int, threads: int, stream: Any = 0, shared: int = 0) -> Any:
    """The kernel, ready to launch. A batch may be small: numba-cuda's advice to launch more blocks is no help then."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Grid size")
        return compiled(kernel)[blocks, threads, stream, shared]


@functools.cache
def shared_limit() -> int:
    """What the device can give a block that asks for more shared memory than usual."""
    return getattr(cuda.get_current_device(), "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN", SHARED_BYTES)


@functools.cache
def allow_shared(kernel: Callable[..., None], signature: tuple[Any, ...]) -> None:
    """Let a kernel ask for all the shared memory of the device: numba-cuda has no way of its own to say so."""
    from cuda.bindings import driver as binding
    from numba.cuda.cudadrv.driver import driver

    function = compiled(kernel).compile(signature)._codelibrary.get_cufunc()
    attribute = binding.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    driver.cuKernelSetAttribute(attribute, shared_limit(), function.handle, function.device.id)


def run(chosen: Plan, batch: int, arrays: tuple[Any, ...], integers: tuple[int, ...], stream: Any) -> None:
    """Launch a kernel on flat arrays of reals."""
    blocks, real = chosen.blocks(batch), reals(arrays[0]).dtype
    if chosen.workspace:
        blocks = max(1, min(blocks, WORKSPACE_BYTES // (chosen.workspace * real.itemsize)))
    if chosen.shared > SHARED_BYTES:
        allow_shared(chosen.kernel, chosen.signature)
    work = cuda.device_array(max(1, blocks * chosen.workspace), real, stream=stream)
    launch = launcher(chosen.kernel, blocks, chosen.threads, stream, chosen.shared)
    launch(*(reals(x) for x in arrays), work, *integers, chosen.team)


def reals(x: Any) -> Any:
    """A device array as a flat one of reals."""
    flat = x.reshape(x.size)
    return flat.view(np.empty(0, x.dtype).real.dtype) if x.dtype.kind == "c" else flat


def factors(a: Any, leading: tuple[int, ...], stream: Any) -> tuple[Any, Any, Any]:
    """Uninitialised U, S, Vh for a batch, with leading axes."""
    batch, m, n = a.shape
    r, real = min(m, n), np.empty(0, a.dtype).real.dtype
    shapes = (((batch, m, r), a.dtype), ((batch, r), real), ((batch, r, n), a.dtype))
    return tuple(cuda.device_array((*leading, *shape), dtype, stream=stream) for shape, dtype in shapes)


def svd(a: Any, stream: Any = 0) -> tuple[Any, Any, Any, Any]:
    """U, S, Vh and the report (B, 3): sweeps, off-norm and flags of each matrix."""
    batch, m, n = a.shape
    U, S, Vh = factors(a, (), stream)
    report = cuda.device_array((batch, 3), np.float64, stream=stream)
    chosen = plan("svd", a.dtype.name, m, n, 0, shared_limit())
    run(chosen, batch, (a, U, S, Vh, report), (batch, m, n, MAX_SWEEPS), stream)
    return U, S, Vh, report


def svdvals(a: Any, stream: Any = 0) -> tuple[Any, Any]:
    """S and the report."""
    batch, m, n = a.shape
    real = np.empty(0, a.dtype).real.dtype
    S = cuda.device_array((batch, min(m, n)), real, stream=stream)
    report = cuda.device_array((batch, 3), np.float64, stream=stream)
    chosen = plan("svdvals", a.dtype.name, m, n, 0, shared_limit())
    run(chosen, batch, (a, S, S, S, report), (batch, m, n, MAX_SWEEPS), stream)
    return S, report


def pushforward(U: Any, S: Any, Vh: Any, da: Any, stream: Any = 0) -> tuple[Any, Any, Any]:
    """dU, dS, dVh from finished factors along da (N, B, m, n), in closed form."""
    count, batch, m, n = da.shape
    tangents = factors(da.reshape(count * batch, m, n), (), stream)
    chosen = plan("pushforward", da.dtype.name, m, n, 0, shared_limit())
    run(chosen, batch, (da, U, S, Vh, *tangents), (batch, m, n, count), stream)
    return tuple(x.reshape(count, *like.shape) for x, like in zip(tangents, (U, S, Vh)))


def pullback(U: Any, S: Any, Vh: Any, U_bar: Any, S_bar: Any, Vh_bar: Any, stream: Any = 0) -> Any:
    """A_bar from finished factors and their cotangents."""
    batch, m, n = len(S), U.shape[1], Vh.shape[2]
    A_bar = cuda.device_array((batch, m, n), U.dtype, stream=stream)
    chosen = plan("pullback", U.dtype.name, m, n, 0, shared_limit())
    run(chosen, batch, (U, S, Vh, U_bar, S_bar, Vh_bar, A_bar), (batch, m, n), stream)
    return A_bar


def dual(a: Any, da: Any, stream: Any = 0) -> tuple[Any, ...]:
    """U, S, Vh, their tangents along da (N, B, m, n), carried through every rotation, and the report. Reals only."""
    count, batch, m, n = da.shape
    U, S, Vh = factors(a, (), stream)
    report = cuda.device_array((batch, 3), np.float64, stream=stream)
    tangents = tuple(
        x.reshape(count, *y.shape) for x, y in zip(factors(da.reshape(count * batch, m, n), (), stream), (U, S, Vh))
    )
    numbers = (max(m, n) + min(m, n)) * min(m, n)
    in_registers = THREAD_NUMBERS["dual"] // numbers - 1 if min(m, n) <= THREAD_COLUMNS["dual"] else 0
    chunk = min(in_registers, 4) if in_registers > 0 else CHUNK
    for first in range(0, count, chunk):
        some = slice(first, min(first + chunk, count))
        chosen = plan("dual", a.dtype.name, m, n, some.stop - first, shared_limit())
        arrays = (a, da[some], U, S, Vh, *(x[some] for x in tangents), report)
        run(chosen, batch, arrays, (batch, m, n, MAX_SWEEPS), stream)
    return U, S, Vh, *tangents, report


def follow_ties(
    tied: np.ndarray, da: Any, U: Any, S: Any, Vh: Any, dU: Any, dS: Any, dVh: Any, stream: Any = 0
) -> None:
    """Correct the tangents of the matrices with the numbers `tied`, and turn their U and Vh, all in place."""
    count, batch, m, n = da.shape
    dtype, real = da.dtype, S.dtype
    kernel = directional_kernel(dtype.name)
    size = directional_numbers(max(m, n), min(m, n), count, 2 if dtype.kind == "c" else 1)
    at_once = max(1, WORKSPACE_BYTES // (size * real.itemsize))
    for first in range(0, len(tied), at_once):
        index = tied[first : first + at_once].astype(np.int64)
        work = cuda.device_array(len(index) * size, real, stream=stream)
        groups = cuda.device_array(len(index) * min(m, n), np.int64, stream=stream)
        arrays = (reals(x) for x in (da, U, S, Vh, dU, dS, dVh))
        launch = launcher(kernel, -(-len(index) // WARP), WARP, stream)
        launch(cuda.to_device(index, stream=stream), *arrays, work, groups, len(index), batch, m, n, count)


@functools.cache
def directional_kernel(dtype: str) -> Callable[..., None]:
    real = np.empty(0, dtype).real.dtype
    return directional(Kind(dtype, (1,)), Kind(dtype), Kind(real, (1,)), Kind(real))
