"""Tangents at ties: a thread for each tied matrix."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numba.cuda
import numpy as np

from .. import dual_svd, jacobi
from ..buffers import Kind, buffer, components
from ..protocol import eps_of, like
from .memory import exponent_for, fill, inline, largest, load, load_factors, store, store_factors, view

#: Untyped, for type checkers see the typing functions of numba.cuda's device functions in place of these.
cuda: Any = numba.cuda


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
            zeros = dual_svd.tie_groups(s0, group, cols, tie)
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
                dual_svd.times(T, j * cols, V0, row0, rows, cols)
            dual_svd.adapt(U0, V0, T, group, zeros, rows, cols, cols, N)
            store_factors(U0, V0, 1, 0, left, right, b, rows, cols, wide, 0, 0, 1)
            for j in range(N):
                c = j * B + b
                height = exponent_for(largest(D, c * size, size, 0, 1), 0)
                fill(A_parts, 2 * size, like(U0[0], 0.0), 0, 1)
                load(A_parts, 2, 1, D, c * size, rows, cols, wide, height, 0, 1)
                dual_svd.lift(A, V, s, U0, V0, s0, row, rows, cols, tie, phases)
                store(s_parts, 2, 1, d_values, c * cols, cols, 1, True, -height, 0, 1)
                store_factors(A_parts, V_parts, 2, 1, d_left, d_right, c, rows, cols, wide, scale - height, 0, 1)

    return follow


@inline
def directional_numbers(rows, cols, count, planes):
    """Reals of the workspace of a tied matrix."""
    size, square = rows * cols, cols * cols
    return planes * (2 * (size + square + cols) + (1 + count) * size + square + cols) + 3 * cols


@functools.cache
def directional_kernel(dtype: str) -> Callable[..., None]:
    real = np.empty(0, dtype).real.dtype
    return directional(Kind(dtype, (1,)), Kind(dtype), Kind(real, (1,)), Kind(real))
