"""A team of threads for each matrix, in shared memory or in a workspace of global memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba.cuda

from .. import dual_svd, jacobi
from ..buffers import Kind, buffer, components
from ..protocol import any_true, eps_of, like, maximum, minimum, primal, real
from .memory import (
    exponent_for,
    fill,
    identity,
    inline,
    larger,
    largest,
    load,
    store,
    store_factors,
    tell,
    verdict,
    view,
)

#: Untyped, for type checkers see the typing functions of numba.cuda's device functions in place of these.
cuda: Any = numba.cuda


@inline
def svd_numbers(tall, square, cols, threads):
    """Reals that a matrix takes in `block_svd`; `tall` and `square` are those of U and V.

    An odd number, so that the same entry of neighbouring matrices lies in different banks of shared memory.
    """
    return (tall + square + 2 + cols + 2 + threads) | 1


@inline
def dual_numbers(tall, square, cols, threads, stride):
    return ((tall + square + cols) * stride + tall + cols + 2 + threads) | 1


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
def block_converge(A, V, D, info, slots, m, k, n, limit, t, threads):
    """`jacobi.converge` by a block, a pair a thread: tiles would keep a quarter of the threads busy."""
    zero = like(primal(real(A[0])), 0.0)
    tol2 = like(zero, jacobi.squared_tolerance(eps_of(zero), m))
    floor = like(zero, jacobi.SMOOTH) * jacobi.size2(A, m * n)
    least = like(zero, jacobi.flush(eps_of(zero)))
    for p in range(t, n, threads):
        D[p] = like(D[p], 1.0)
    cuda.syncthreads()
    moving, sweeps, changed, off = True, 0, 0, zero
    while moving and sweeps < limit:
        moved = False
        for front in range(1, 2 * n - 2):
            for p in range(first_pair(front, n) + t, (front + 1) // 2, threads):
                moved = jacobi.turn_pair(A, V, D, p, front - p, m, k, tol2, floor, least, moved)
                jacobi.write_small_scales(A, V, D, p, front - p, 1, jacobi.LEAST_SCALE, m, k)
            cuda.syncthreads()
        sweeps += 1
        changed = sweeps if moved else changed
        moving = cuda.syncthreads_or(int(moved)) != 0  # in any matrix of the block: one at rest stays as it is
    for p in range(t, n, threads):
        jacobi.write_scale(A, V, D, p, True, m, k)
    cuda.syncthreads()
    if moving:
        for p in range(t, n - 1, threads):
            for q in range(p + 1, n):
                off = maximum(off, jacobi.cosine2(A, p, q, m))
    changes, last = together(slots, like(zero, changed), t, threads), together(slots, off, t, threads)
    if t == 0:
        info[0], info[1] = changes, last
    cuda.syncthreads()


@inline
def block_settle(A, V, S0, m, n, tie, t, threads):
    """`dual_svd.settle` at first order by a block."""
    near = like(tie, jacobi.tie_tolerance(eps_of(tie), n))
    for front in range(1, 2 * n - 2):
        for p in range(first_pair(front, n) + t, (front + 1) // 2, threads):
            dual_svd.settle_pair(A, V, S0, p, front - p, m, n, tie, near)
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
            block_converge(A, V, buffer(s_store, real_kind), info, slots, rows, k, cols, limit, t, threads)
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
            block_converge(A, V, buffer(s_store, kind), info, slots, rows, cols, cols, limit, t, threads)
            for e in range(t, size, threads):
                U0[e] = primal(A[e])
            cuda.syncthreads()
            block_normalise(u_store, s0_store, leaf, leaf, rows, cols, t, threads)
            for p in range(t, cols, threads):
                column, unit = view(a_store, p * rows, kind), view(u_store, p * rows, leaf)
                dual_svd.slopes(column, view(s_store, p, kind), unit, view(s0_store, p, leaf), rows, 1)
            cuda.syncthreads()
            tie = s0[0] * like(top, jacobi.tie_tolerance(eps_of(top), cols))
            block_settle(A, V, s0, rows, cols, tie, t, threads)
            for p in range(t, cols, threads):
                column, unit = view(a_store, p * rows, kind), view(u_store, p * rows, leaf)
                dual_svd.unit_columns(column, view(s_store, p, kind), unit, view(s0_store, p, leaf), rows, 1, tie)
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
