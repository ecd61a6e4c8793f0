"""A thread for each matrix, in registers: sizes are constants of the kernel, so that every loop unrolls.

Pairs of columns are turned one by one: registers have no stores to save, and tiles would not unroll.

The matrices of a block follow each other in memory. They come and go through a tile of shared memory, in which each
thread has a place for one matrix, so that neighbouring threads read and write neighbouring numbers: a matrix to each
thread would be a transaction to each number. Threads past the end of the batch come along for the barriers, and work
on zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba.cuda
from numba import float64, int32, int64

from .. import derivatives, dual_svd, jacobi
from ..buffers import Kind, buffer, components
from ..protocol import eps_of, like
from .memory import exponent_for, fill, identity, inline, largest, load, store, tell, verdict

#: Untyped, for type checkers see the typing functions of numba.cuda's device functions in place of these.
cuda: Any = numba.cuda

#: Threads of a block, each with a matrix.
THREADS = 64

#: Numbers that are told of a matrix, and of those of a block.
TOLD, TOLD_SIZE, DOUBLE = 3, 3 * THREADS, Kind("float64")


# ---- the matrices of a block, by all its threads


@inline
def fetch(tile, width, reals, x, batch, size, B):
    """Matrices of `size` reals, of batch number `batch` in x, to the places of the threads, `width` reals each; zeros
    past the end. An odd width puts the same entry of neighbouring places into different banks."""
    places, numbers, t, first = buffer(tile, reals), buffer(x, reals), seat(), cuda.blockIdx.x * THREADS
    start, rest = (batch * B + first) * size, int32(min(THREADS, B - first) * size - t)
    zero = like(places[0], 0.0)
    cuda.syncthreads()
    for k in range(size):
        inside = int32(k * THREADS) < rest
        places[spot(k * THREADS, t, size, width)] = numbers[start + k * THREADS + t] if inside else zero
    cuda.syncthreads()


@inline
def deliver(tile, width, reals, x, batch, size, B):
    """The inverse of `fetch`."""
    places, numbers, t, first = buffer(tile, reals), buffer(x, reals), seat(), cuda.blockIdx.x * THREADS
    start, rest = (batch * B + first) * size, int32(min(THREADS, B - first) * size - t)
    cuda.syncthreads()
    for k in range(size):
        if int32(k * THREADS) < rest:
            numbers[start + k * THREADS + t] = places[spot(k * THREADS, t, size, width)]
    cuda.syncthreads()


@inline
def spot(e, t, size, width):
    """Where number e + t of a block's matrices stands in the tile. `e` is known to the compiler, t is not: this way few
    entries are divided anew."""
    return e + t + (e // size + (e % size + t) // size) * (width - size)


@inline
def seat():
    """The number of a thread in its block. The mask tells the compiler that it is small."""
    return cuda.threadIdx.x & (THREADS - 1)


@inline
def own(tile, width, kind):
    """The numbers of a thread's own place."""
    return buffer(tile[seat() * width :], kind)


@inline
def fetch_factors(tile, width, kind, reals, U, V, left, right, B, rows, cols, wide):
    """U and V of the thread's matrix as columns; `left` and `right` are U and Vh of all as they stand in memory."""
    tall, square = (right, left) if wide else (left, right)
    fetch(tile, width, reals, tall, 0, rows * cols * components(kind), B)
    load(U, 1, 0, own(tile, width, kind), 0, rows, cols, wide, 0, 0, 1)
    fetch(tile, width, reals, square, 0, cols * cols * components(kind), B)
    load(V, 1, 0, own(tile, width, kind), 0, cols, cols, not wide, 0, 0, 1)


@inline
def deliver_factors(tile, width, kind, reals, U, V, stride, which, left, right, batch, B, rows, cols, wide, exponent):
    """The inverse of `fetch_factors`, for component `which`, times 2^exponent, to batch number `batch`."""
    tall, square = (right, left) if wide else (left, right)
    store(U, stride, which, own(tile, width, kind), 0, rows, cols, wide, exponent, 0, 1)
    deliver(tile, width, reals, tall, batch, rows * cols * components(kind), B)
    store(V, stride, which, own(tile, width, kind), 0, cols, cols, not wide, exponent, 0, 1)
    deliver(tile, width, reals, square, batch, cols * cols * components(kind), B)


# ---- the kernels


def thread_svd(kind: Kind, real_kind: Kind, real_type: Any, m: int, n: int, vectors: bool) -> Callable[..., None]:
    """U, S, Vh, or S alone."""
    rows, cols, wide = max(m, n), min(m, n), m < n
    planes = components(kind)
    a_size, v_size = rows * cols * planes, cols * cols * planes if vectors else planes
    k, width = cols if vectors else 0, a_size | 1
    tile_size = THREADS * width

    def svd(a, U, S, Vh, report, work, B, limit):
        tile = cuda.shared.array(tile_size, real_type)
        told = cuda.shared.array(TOLD_SIZE, float64)
        x, values = own(tile, width, kind), own(tile, width, real_kind)
        A = buffer(cuda.local.array(a_size, real_type), kind)
        V = buffer(cuda.local.array(v_size, real_type), kind)
        s = buffer(cuda.local.array(cols, real_type), real_kind)
        info = buffer(cuda.local.array(2, real_type), real_kind)
        fetch(tile, width, real_kind, a, 0, a_size, B)
        top = largest(x, 0, rows * cols, 0, 1)
        finite = top < like(top, math.inf)
        exponent = exponent_for(top, jacobi.headroom(eps_of(top)))
        load(A, 1, 0, x, 0, rows, cols, wide, exponent, 0, 1)
        if not finite:
            fill(A, rows * cols, like(A[0], 0.0), 0, 1)
        identity(V, k, 0, 1)
        jacobi.iterate(A, V, s, info, rows, k, cols, limit, jacobi.sweep_by_pairs)
        info[1] = like(info[0], math.nan)  # what is left is not measured: that would be as much code as a sweep
        jacobi.normalise(A, s, rows, cols)
        tell(told, seat(), info, verdict(s, info, finite, cols, limit))
        deliver(told, TOLD, DOUBLE, report, 0, TOLD, B)
        if not finite:
            fill(s, cols, like(top, math.nan), 0, 1)
        store(s, 1, 0, values, 0, cols, 1, True, -exponent, 0, 1)
        deliver(tile, width, real_kind, S, 0, cols, B)
        if vectors:
            jacobi.complete(A, rows, cols)
            if not finite:
                fill(A, rows * cols, like(A[0], math.nan), 0, 1)
                fill(V, cols * cols, like(A[0], math.nan), 0, 1)
            deliver_factors(tile, width, kind, real_kind, A, V, 1, 0, U, Vh, 0, B, rows, cols, wide, 0)

    return svd


def thread_pushforward(kind: Kind, real_kind: Kind, real_type: Any, m: int, n: int) -> Callable[..., None]:
    """dU, dS, dVh along each of N directions from finished factors."""
    rows, cols, wide = max(m, n), min(m, n), m < n
    planes = components(kind)
    tall, square, table = rows * cols * planes, cols * cols * planes, cols * cols
    width = tall | 1
    tile_size = THREADS * width

    def pushforward(da, U, S, Vh, dU, dS, dVh, work, B, N):
        tile = cuda.shared.array(tile_size, real_type)
        x, values = own(tile, width, kind), own(tile, width, real_kind)
        Ub, Vb = buffer(cuda.local.array(tall, real_type), kind), buffer(cuda.local.array(square, real_type), kind)
        D, T = buffer(cuda.local.array(tall, real_type), kind), buffer(cuda.local.array(tall, real_type), kind)
        X, Y = buffer(cuda.local.array(square, real_type), kind), buffer(cuda.local.array(square, real_type), kind)
        dUb, dVb = buffer(cuda.local.array(tall, real_type), kind), buffer(cuda.local.array(square, real_type), kind)
        F = buffer(cuda.local.array(table, real_type), real_kind)
        s = buffer(cuda.local.array(cols, real_type), real_kind)
        ds = buffer(cuda.local.array(cols, real_type), real_kind)
        fetch(tile, width, real_kind, S, 0, cols, B)
        size = exponent_for(values[0], 0)
        load(s, 1, 0, values, 0, cols, 1, True, size, 0, 1)
        fetch_factors(tile, width, kind, real_kind, Ub, Vb, U, Vh, B, rows, cols, wide)
        derivatives.coefficients(s, F, cols)
        for j in range(N):
            fetch(tile, width, real_kind, da, j, tall, B)
            height = exponent_for(largest(x, 0, rows * cols, 0, 1), 0)
            load(D, 1, 0, x, 0, rows, cols, wide, height, 0, 1)
            derivatives.pushforward(Ub, Vb, F, D, dUb, ds, dVb, X, Y, T, rows, cols)
            store(ds, 1, 0, values, 0, cols, 1, True, -height, 0, 1)
            deliver(tile, width, real_kind, dS, j, cols, B)
            deliver_factors(
                tile, width, kind, real_kind, dUb, dVb, 1, 0, dU, dVh, j, B, rows, cols, wide, size - height
            )

    return pushforward


def thread_pullback(kind: Kind, real_kind: Kind, real_type: Any, m: int, n: int) -> Callable[..., None]:
    """A_bar from finished factors and their cotangents."""
    rows, cols, wide = max(m, n), min(m, n), m < n
    planes = components(kind)
    tall, square, table = rows * cols * planes, cols * cols * planes, cols * cols
    width = tall | 1
    tile_size = THREADS * width

    def pullback(U, S, Vh, U_bar, S_bar, Vh_bar, A_bar, work, B):
        tile = cuda.shared.array(tile_size, real_type)
        x, values = own(tile, width, kind), own(tile, width, real_kind)
        Ub, Vb = buffer(cuda.local.array(tall, real_type), kind), buffer(cuda.local.array(square, real_type), kind)
        Ub_bar, Vb_bar = (
            buffer(cuda.local.array(tall, real_type), kind),
            buffer(cuda.local.array(square, real_type), kind),
        )
        Ab_bar, T = buffer(cuda.local.array(tall, real_type), kind), buffer(cuda.local.array(tall, real_type), kind)
        X = buffer(cuda.local.array(square, real_type), kind)
        F = buffer(cuda.local.array(table, real_type), real_kind)
        s = buffer(cuda.local.array(cols, real_type), real_kind)
        s_bar = buffer(cuda.local.array(cols, real_type), real_kind)
        fetch(tile, width, real_kind, S, 0, cols, B)
        size = exponent_for(values[0], 0)
        load(s, 1, 0, values, 0, cols, 1, True, size, 0, 1)
        fetch(tile, width, real_kind, S_bar, 0, cols, B)
        load(s_bar, 1, 0, values, 0, cols, 1, True, -size, 0, 1)
        fetch_factors(tile, width, kind, real_kind, Ub, Vb, U, Vh, B, rows, cols, wide)
        fetch_factors(tile, width, kind, real_kind, Ub_bar, Vb_bar, U_bar, Vh_bar, B, rows, cols, wide)
        derivatives.coefficients(s, F, cols)
        derivatives.pullback(Ub, Vb, F, Ub_bar, s_bar, Vb_bar, Ab_bar, X, T, rows, cols)
        store(Ab_bar, 1, 0, x, 0, rows, cols, wide, size, 0, 1)
        deliver(tile, width, real_kind, A_bar, 0, tall, B)

    return pullback


def thread_dual(kind: Kind, leaf: Kind, real_type: Any, m: int, n: int, count: int) -> Callable[..., None]:
    """U, S, Vh and their tangents along `count` directions, carried through every rotation. Real numbers only."""
    rows, cols, wide = max(m, n), min(m, n), m < n
    size, stride = rows * cols, 1 + count
    a_size, v_size, s_size = size * stride, cols * cols * stride, cols * stride
    width = size | 1
    tile_size = THREADS * width

    def dual(a, da, U, S, Vh, dU, dS, dVh, report, work, B, limit):
        tile = cuda.shared.array(tile_size, real_type)
        told = cuda.shared.array(TOLD_SIZE, float64)
        x = own(tile, width, leaf)
        a_store, v_store = cuda.local.array(a_size, real_type), cuda.local.array(v_size, real_type)
        s_store, heights = cuda.local.array(s_size, real_type), cuda.local.array(count, int64)
        A, V, s = buffer(a_store, kind), buffer(v_store, kind), buffer(s_store, kind)
        A_parts, V_parts, s_parts = buffer(a_store, leaf), buffer(v_store, leaf), buffer(s_store, leaf)
        U0, s0 = buffer(cuda.local.array(size, real_type), leaf), buffer(cuda.local.array(cols, real_type), leaf)
        info = buffer(cuda.local.array(2, real_type), leaf)
        fetch(tile, width, leaf, a, 0, size, B)
        top = largest(x, 0, size, 0, 1)
        finite = top < like(top, math.inf)
        exponent = int32(exponent_for(top, jacobi.headroom(eps_of(top))))  # one register less
        load(A_parts, stride, 0, x, 0, rows, cols, wide, exponent, 0, 1)
        for j in range(count):
            fetch(tile, width, leaf, da, j, size, B)
            heights[j] = exponent_for(largest(x, 0, size, 0, 1), jacobi.headroom(eps_of(top)))
            load(A_parts, stride, 1 + j, x, 0, rows, cols, wide, heights[j], 0, 1)
        if not finite:
            fill(A, size, like(A[0], 0.0), 0, 1)
        identity(V, cols, 0, 1)
        jacobi.iterate(A, V, s, info, rows, cols, cols, limit, jacobi.sweep_by_pairs)
        info[1] = like(info[0], math.nan)
        dual_svd.primal_columns(A, U0, s0, rows, cols)
        dual_svd.follow(A, V, s, U0, s0, rows, cols, False)
        tell(told, seat(), info, verdict(s0, info, finite, cols, limit))
        deliver(told, TOLD, DOUBLE, report, 0, TOLD, B)
        if not finite:
            nan = like(A_parts[0], math.nan)
            fill(A_parts, size * stride, nan, 0, 1)
            fill(V_parts, cols * cols * stride, nan, 0, 1)
            fill(s_parts, cols * stride, nan, 0, 1)
        store(s_parts, stride, 0, x, 0, cols, 1, True, -exponent, 0, 1)
        deliver(tile, width, leaf, S, 0, cols, B)
        deliver_factors(tile, width, leaf, leaf, A_parts, V_parts, stride, 0, U, Vh, 0, B, rows, cols, wide, 0)
        for j in range(count):
            store(s_parts, stride, 1 + j, x, 0, cols, 1, True, -heights[j], 0, 1)
            deliver(tile, width, leaf, dS, j, cols, B)
            change = exponent - heights[j]
            deliver_factors(
                tile, width, leaf, leaf, A_parts, V_parts, stride, 1 + j, dU, dVh, j, B, rows, cols, wide, change
            )

    return dual
