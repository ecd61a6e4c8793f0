"""The texts of `jacobi` and `derivatives` compiled, and the loops that bring batches of matrices to them. Imported on first use.

A batch is an array of reals (B, m, n, planes), planes = 2 for complex numbers. A kernel takes the matrices from `begin` to `end`,
`lanes(kind)` at a time: every number of its buffers holds one entry of that many matrices side by side. One lane is a plain number.
"""

from __future__ import annotations

import math
from types import FunctionType

import numpy as np
from numba.extending import register_jitable

from . import derivatives, jacobi
from .caching import jit
from .scalars import buffer, components, lanes

#: Fused multiply-add, no signed zeros, reciprocals; NaN and infinity keep their meaning, and sums their order.
FAST = {"contract", "nsz", "arcp"}
OPTIONS = {"fastmath": FAST, "error_model": "numpy", "boundscheck": False}

#: What `flags` tells of a matrix.
NONFINITE, UNCONVERGED, UNDERFLOW = 1, 2, 4

for _text in (jacobi, derivatives):
    for _function in vars(_text).values():
        if isinstance(_function, FunctionType) and _function.__module__ == _text.__name__:
            register_jitable(**OPTIONS, forceinline=True)(_function)

inline = register_jitable(**OPTIONS)


# ---- memory


@inline
def aligned(size, like):
    """Uninitialised memory on a cache line: packs are 64 bytes."""
    raw = np.empty(size + 16, like.dtype)
    skip = (-raw.ctypes.data % 64) // raw.itemsize
    return raw[skip : skip + size]


@inline
def identity(v, n, stride, width):
    """The identity in every lane; `stride` reals a number, of which the first `width` are its lanes."""
    v[: n * n * stride] = 0.0
    for i in range(n):
        for w in range(width):
            v[i * (n + 1) * stride + w] = 1.0


# ---- scaling


@inline
def largest(X, b):
    """The largest |real or imaginary part| of matrix b, infinity if one is not finite."""
    top = 0.0
    for i in range(X.shape[1]):
        for j in range(X.shape[2]):
            for c in range(X.shape[3]):
                x = abs(X[b, i, j, c])
                if not x <= top:
                    top = x if x < np.inf else np.inf
    return top


@inline
def halves(exponent):
    """Two powers of two whose product is 2^exponent: one alone may overflow."""
    half = exponent // 2
    return math.ldexp(1.0, half), math.ldexp(1.0, exponent - half)


# ---- between arrays and buffers


@inline
def load(X, b, a, start, stride, width, wide, exponent, m, n):
    """Matrix b, or the conjugate transpose of a wide one, times 2^exponent, to one lane: column after column, from a[start]."""
    f, g = halves(exponent)
    for j in range(n):
        for i in range(m):
            k = (j * m + i) * stride + start
            for c in range(X.shape[3]):
                x = -X[b, j, i, c] if wide and c == 1 else X[b, j, i, c] if wide else X[b, i, j, c]
                a[k + c * width] = x * f * g


@inline
def store_columns(a, start, stride, width, Y, b, exponent):
    """Columns of a buffer, times 2^exponent, to the columns of Y[b]."""
    f, g = halves(exponent)
    for i in range(Y.shape[1]):
        for p in range(Y.shape[2]):
            k = (p * Y.shape[1] + i) * stride + start
            for c in range(Y.shape[3]):
                Y[b, i, p, c] = a[k + c * width] * f * g


@inline
def store_rows(a, start, stride, width, Y, b, exponent):
    """Columns of a buffer, conjugated, times 2^exponent, to the rows of Y[b]."""
    f, g = halves(exponent)
    for p in range(Y.shape[1]):
        for i in range(Y.shape[2]):
            k = (p * Y.shape[2] + i) * stride + start
            for c in range(Y.shape[3]):
                x = a[k + c * width] * f * g
                Y[b, p, i, c] = -x if c == 1 else x


@inline
def store_values(s, start, stride, S, b, exponent):
    """Reals of a buffer, times 2^exponent."""
    f, g = halves(exponent)
    for p in range(S.shape[1]):
        S[b, p] = s[p * stride + start] * f * g


# ---- the primal SVD


@jit(nogil=True, **OPTIONS)
def svd(kind, real_kind, X, U, S, Vh, counts, off_norm, flags, begin, end, limit):
    """U, S and Vh of the matrices of X, or S alone where U is empty."""
    wide, vectors = X.shape[1] < X.shape[2], U.shape[0] > 0
    m, n = max(X.shape[1], X.shape[2]), min(X.shape[1], X.shape[2])
    width, planes = lanes(kind), X.shape[3]
    stride, k = planes * width, n if vectors else 0
    a, v = aligned(m * n * stride, X), aligned(k * k * stride + 1, X)
    s, told = aligned(n * width, X), aligned(2 * width, X)
    A, V, Sb, info = buffer(a, kind), buffer(v, kind), buffer(s, real_kind), buffer(told, real_kind)
    exponents = np.zeros(width, np.int64)
    top = jacobi.headroom(np.finfo(X.dtype).eps)
    for b0 in range(begin, end, width):
        for w in range(width):
            b = min(b0 + w, end - 1)
            big = largest(X, b)
            flags[b] = 0 if big < np.inf else NONFINITE
            exponents[w] = jacobi.power_of_two(big, top) if big < np.inf else 0
            load(X, b, a, w, stride, width, wide, exponents[w], m, n)
            if big == np.inf:
                for i in range(m * n * planes):
                    a[i * width + w] = 0.0
        identity(v, k, stride, width)
        jacobi.converge(A, V, info, m, k, n, limit)
        jacobi.normalise(A, Sb, m, n)
        if vectors:
            jacobi.complete(A, m, n)
        for w in range(min(width, end - b0)):
            b = b0 + w
            counts[b], off_norm[b] = told[w] + 1, math.sqrt(told[width + w])
            if told[w] >= limit:
                flags[b] |= UNCONVERGED
            store_values(s, w, width, S, b, -exponents[w])
            if vectors:
                store_columns(v if wide else a, w, stride, width, U, b, 0)
                store_rows(a if wide else v, w, stride, width, Vh, b, 0)
            if flags[b] & NONFINITE:
                S[b, :] = np.nan
                if vectors:
                    U[b, :, :, 0], Vh[b, :, :, 0] = np.nan, np.nan


# ---- its tangents


@inline
def scale_of_directions(dX, b, exponents, top):
    """The exponents that bring the largest entry of each direction to 2^top; infinity anywhere leaves that matrix unscaled."""
    for j in range(dX.shape[0]):
        big = largest(dX[j], b)
        exponents[j] = jacobi.power_of_two(big, top) if big < np.inf else 0


@inline
def adapt_to_directions(U, V, W, S, T, t, row, group, tie, dX, b, stride, wide, exponents, m, n):
    """Turn the columns of U and W = V, or another basis riding along, inside ties; whether there were any."""
    zeros = jacobi.tie_groups(S, group, n, tie)
    tied = zeros < n
    for p in range(n):
        tied = tied or group[p] != p
    if tied:
        for j in range(dX.shape[0]):
            load(dX[j], b, t, j * n * m * stride, stride, 1, wide, exponents[j], m, n)
            jacobi.times(T, j * n, V, row, m, n)
        jacobi.adapt(U, W, T, group, zeros, m, n, n, dX.shape[0])
    return tied


@inline
def store_tangents(kind, a, v, s, dU, dS, dVh, b, first, wide, exponents, matrix_exponent):
    """The partials of one matrix to directions first, first + 1, ..."""
    planes = dU.shape[4]
    stride, real_stride = components(kind), components(kind) // planes
    for j in range(first, min(first + real_stride - 1, dS.shape[0])):
        start = (j - first + 1) * planes
        store_values(s, j - first + 1, real_stride, dS[j], b, -exponents[j])
        store_columns(v if wide else a, start, stride, 1, dU[j], b, matrix_exponent - exponents[j])
        store_rows(a if wide else v, start, stride, 1, dVh[j], b, matrix_exponent - exponents[j])


@jit(nogil=True, **OPTIONS)
def lift(kind, real_kind, leaf, real_leaf, U, S, Vh, dX, dU, dS, dVh, begin, end):
    """The tangents of finished SVDs along dX. At ties U and Vh are turned in place."""
    m, n, wide, planes = max(U.shape[1], Vh.shape[2]), S.shape[1], U.shape[1] < Vh.shape[2], U.shape[3]
    stride, count, eps = components(kind), dX.shape[0], np.finfo(U.dtype).eps
    a, v, s, row = (
        aligned(m * n * stride, U),
        aligned(n * n * stride, U),
        aligned(n * stride, U),
        aligned(n * stride, U),
    )
    u0, v0, s0, row0 = aligned(m * n * planes, U), aligned(n * n * planes, U), aligned(n, U), aligned(n * planes, U)
    t = aligned(count * m * n * planes, U)
    A, V, Sb, R = buffer(a, kind), buffer(v, kind), buffer(s, real_kind), buffer(row, kind)
    U0, V0, S0, R0, T = buffer(u0, leaf), buffer(v0, leaf), buffer(s0, real_leaf), buffer(row0, leaf), buffer(t, leaf)
    group, exponents = np.empty(n, np.int64), np.empty(count, np.int64)
    for b in range(begin, end):
        exponent = jacobi.power_of_two(S[b, 0], 0) if S[b, 0] < np.inf else 0
        load_factors(U, S, Vh, b, u0, s0, v0, wide, exponent)
        scale_of_directions(dX, b, exponents, 0)
        tie = S0[0] * jacobi.tie_tolerance(eps, n)
        if adapt_to_directions(U0, V0, V0, S0, T, t, R0, group, tie, dX, b, planes, wide, exponents, m, n):
            store_columns(v0 if wide else u0, 0, planes, 1, U, b, 0)
            store_rows(u0 if wide else v0, 0, planes, 1, Vh, b, 0)
        for first in range(0, count, stride // planes - 1):
            a[:] = 0.0
            for j in range(first, min(first + stride // planes - 1, count)):
                load(dX[j], b, a, (j - first + 1) * planes, stride, 1, wide, exponents[j], m, n)
            jacobi.lift(A, V, Sb, U0, V0, S0, R, m, n, planes == 2)
            store_tangents(kind, a, v, s, dU, dS, dVh, b, first, wide, exponents, exponent)


@inline
def load_factors(U, S, Vh, b, u, s, v, wide, exponent):
    """U, S times 2^exponent and V of a finished SVD, as columns, those of the conjugate transpose if the matrix is wide."""
    f, g = halves(exponent)
    for p in range(S.shape[1]):
        s[p] = S[b, p] * f * g
    columns, rows = (v, u) if wide else (u, v)
    for p in range(S.shape[1]):
        for c in range(U.shape[3]):
            for i in range(U.shape[1]):
                columns[(p * U.shape[1] + i) * U.shape[3] + c] = U[b, i, p, c]
            for i in range(Vh.shape[2]):
                x = Vh[b, p, i, c]
                rows[(p * Vh.shape[2] + i) * U.shape[3] + c] = -x if c == 1 else x


@jit(nogil=True, **OPTIONS)
def sweeps(kind, real_kind, leaf, real_leaf, X, dX, U, S, Vh, dU, dS, dVh, counts, off_norm, flags, begin, end, limit):
    """U, S, Vh of the matrices of X and their tangents along dX, carried through every rotation."""
    m, n = max(X.shape[1], X.shape[2]), min(X.shape[1], X.shape[2])
    wide, planes = X.shape[1] < X.shape[2], X.shape[3]
    stride, count, eps = components(kind), dX.shape[0], np.finfo(X.dtype).eps
    a, v, s, row = (
        aligned(m * n * stride, X),
        aligned(n * n * stride, X),
        aligned(n * stride, X),
        aligned(n * stride, X),
    )
    u0, v0, s0, row0 = aligned(m * n * planes, X), aligned(n * n * planes, X), aligned(n, X), aligned(n * planes, X)
    q, t, told = aligned(n * n * planes, X), aligned(count * m * n * planes, X), aligned(2, X)
    A, V, Sb, R = buffer(a, kind), buffer(v, kind), buffer(s, real_kind), buffer(row, kind)
    U0, V0, S0, R0, T = buffer(u0, leaf), buffer(v0, leaf), buffer(s0, real_leaf), buffer(row0, leaf), buffer(t, leaf)
    Q, info = buffer(q, leaf), buffer(told, real_leaf)
    group, exponents, top = np.empty(n, np.int64), np.empty(count, np.int64), jacobi.headroom(eps)
    for b in range(begin, end):
        big = largest(X, b)
        flags[b] = 0 if big < np.inf else NONFINITE
        if flags[b]:
            fill_with_nan(U, S, Vh, dU, dS, dVh, b)
            continue
        exponent, tied = jacobi.power_of_two(big, top), False
        scale_of_directions(dX, b, exponents, top)
        for first in range(0, count, stride // planes - 1):
            a[:] = 0.0
            load(X, b, a, 0, stride, 1, wide, exponent, m, n)
            for j in range(first, min(first + stride // planes - 1, count)):
                load(dX[j], b, a, (j - first + 1) * planes, stride, 1, wide, exponents[j], m, n)
            identity(v, n, stride, 1)
            jacobi.converge(A, V, info, m, n, n, limit)
            if first == 0:
                jacobi.primal_columns(A, U0, S0, m, n)
                jacobi.primals(V, V0, n * n)
                identity(q, n, planes, 1)
                tie = S0[0] * jacobi.tie_tolerance(eps, n)
                tied = adapt_to_directions(U0, V0, Q, S0, T, t, R0, group, tie, dX, b, planes, wide, exponents, m, n)
            if tied:
                jacobi.times(A, 0, Q, R, m, n)
                jacobi.times(V, 0, Q, R, n, n)
            jacobi.follow(A, V, Sb, U0, S0, m, n, planes == 2)
            store_tangents(kind, a, v, s, dU, dS, dVh, b, first, wide, exponents, exponent)
        counts[b], off_norm[b] = told[0] + 1, math.sqrt(told[1])
        if told[0] >= limit:
            flags[b] |= UNCONVERGED
        store_values(s, 0, stride // planes, S, b, -exponent)
        store_columns(v if wide else a, 0, stride, 1, U, b, 0)
        store_rows(a if wide else v, 0, stride, 1, Vh, b, 0)


@inline
def fill_with_nan(U, S, Vh, dU, dS, dVh, b):
    """NaN for everything about matrix b."""
    U[b, :, :, :], S[b, :], Vh[b, :, :, :] = np.nan, np.nan, np.nan
    dU[:, b, :, :, :], dS[:, b, :], dVh[:, b, :, :, :] = np.nan, np.nan, np.nan
