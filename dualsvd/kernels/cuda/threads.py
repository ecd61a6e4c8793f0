"""A thread for each matrix, in registers: sizes are constants of the kernel, so that every loop unrolls.

Pairs of columns are turned one by one: registers have no stores to save, and tiles would not unroll.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba.cuda
from numba import int64

from .. import derivatives, dual_svd, jacobi
from ..buffers import Kind, buffer, components
from ..protocol import eps_of, like
from .memory import exponent_for, fill, identity, largest, load, load_factors, store, store_factors, tell, verdict

#: Untyped, for type checkers see the typing functions of numba.cuda's device functions in place of these.
cuda: Any = numba.cuda


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
            jacobi.iterate(A, V, s, info, rows, k, cols, limit, None)
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
                derivatives.pushforward(Ub, Vb, F, D, dUb, ds, dVb, X, Y, T, rows, cols)
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
            left, right, left_bar, right_bar = (
                buffer(U, kind),
                buffer(Vh, kind),
                buffer(U_bar, kind),
                buffer(Vh_bar, kind),
            )
            Ub, Vb = buffer(cuda.local.array(tall, real_type), kind), buffer(cuda.local.array(square, real_type), kind)
            Ub_bar, Vb_bar = (
                buffer(cuda.local.array(tall, real_type), kind),
                buffer(cuda.local.array(square, real_type), kind),
            )
            Ab_bar, T = buffer(cuda.local.array(tall, real_type), kind), buffer(cuda.local.array(tall, real_type), kind)
            X = buffer(cuda.local.array(square, real_type), kind)
            F = buffer(cuda.local.array(table, real_type), real_kind)
            s, s_bar = (
                buffer(cuda.local.array(cols, real_type), real_kind),
                buffer(cuda.local.array(cols, real_type), real_kind),
            )
            size = exponent_for(S[b * cols], 0)
            load(s, 1, 0, buffer(S, real_kind), b * cols, cols, 1, True, size, 0, 1)
            load(s_bar, 1, 0, buffer(S_bar, real_kind), b * cols, cols, 1, True, -size, 0, 1)
            load_factors(Ub, Vb, left, right, b, rows, cols, wide, 0, 1)
            load_factors(Ub_bar, Vb_bar, left_bar, right_bar, b, rows, cols, wide, 0, 1)
            derivatives.coefficients(s, F, cols)
            derivatives.pullback(Ub, Vb, F, Ub_bar, s_bar, Vb_bar, Ab_bar, X, T, rows, cols)
            store(Ab_bar, 1, 0, buffer(A_bar, kind), b * rows * cols, rows, cols, wide, size, 0, 1)

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
            jacobi.iterate(A, V, s, info, rows, cols, cols, limit, None)
            dual_svd.primal_columns(A, U0, s0, rows, cols)
            dual_svd.follow(A, V, s, U0, s0, rows, cols, False)
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
