"""Kernels of high relative accuracy, after a pivoted QR: `householder` in range, `qr` beyond.

Imported on first use, as `compiled` is, and by the same conventions.
"""

from __future__ import annotations

import numpy as np

from . import householder, jacobi, qr
from .caching import jit
from .compiled import (
    OPTIONS,
    POWERS,
    buffer,
    identity,
    inline,
    largest,
    layouts,
    memory,
    powers,
    put,
    take,
    tell,
    unscaled,
)
from .cpu import FAR, NONFINITE, UNCONVERGED
from .protocol import conj, entry, like, set_entry
from .scalars import components, lanes

#: Exponents that a matrix may span: scaled to the headroom of float64, 220, the least squares are above `flush`.
SPAN = 440


# ---- in range


@inline
def peaks(x, start, rows, columns, planes, wide, top):
    """top: the largest |real| of each column of the matrix, or of its conjugate transpose if wide; infinity if one is
    not finite. Returns the least of all that is not zero."""
    top[:] = 0.0
    least, k = np.inf, start
    for i in range(rows):
        for j in range(columns):
            p = i if wide else j
            for _ in range(planes):
                y = abs(x[k])
                if not y <= top[p]:
                    top[p] = y if y < np.inf else np.inf
                if y < least and y > 0.0:
                    least = y
                k += 1
    return least


@inline
def raised(x, start, rows, columns, planes, wide, f, g, raises, sizes):
    """sizes: the largest |real| of each row of the same, times f, g and the factor of its column."""
    sizes[:] = 0.0
    k = start
    for i in range(rows):
        for j in range(columns):
            p, q = (i, j) if wide else (j, i)
            for _ in range(planes):
                y = abs(x[k]) * f * g * raises[p]
                if y > sizes[q]:
                    sizes[q] = y
                k += 1


@inline
def load(x, start, rows, columns, wide, f, g, raises, places, A, M):
    """The columns of the matrix that starts at number `start`, or of its conjugate transpose if wide, their rows in the
    order of `places`, times f, g and the factor of the column; padded with zeros."""
    m, n = (columns, rows) if wide else (rows, columns)
    for e in range(n * M):
        A[e] = like(A[e], 0.0)
    for i in range(m):
        r = places[i]
        for j in range(n):
            y = conj(x[start + j * columns + r]) if wide else x[start + r * columns + j]
            set_entry(A, j * M, i, y * f * g * raises[j])


@inline
def unload(A, M, x, start, m, n, rowwise, places):
    """n columns of length m, row i to row places[i] of a matrix m x n; to its conjugate transpose if `rowwise`."""
    for p in range(n):
        for i in range(m):
            y = entry(A, p * M, i)
            if rowwise:
                x[start + p * m + places[i]] = conj(y)
            else:
                x[start + places[i] * n + p] = y


@jit(nogil=True, **OPTIONS)
def preconditioned(kind, leaf, lane, pairs, real_pairs, rows, columns, X, U, S, Vh, told, begin, end, limit):
    """U, S, Vh by `householder`, and Jacobi on R^H: S to high relative accuracy. Returns and tells what `svd` does, and
    FAR for a matrix that spans too much; that one, and one that is not finite, is left out."""
    wide, m, n, planes, width = rows < columns, max(rows, columns), min(rows, columns), components(leaf), lanes(kind)
    M, N, size, batch, anything = -(-m // width), -(-n // width), m * n, len(S) // n, False
    stride, top = planes * width, jacobi.headroom(np.finfo(X.dtype).eps)
    a, w, l, y = (
        memory(M * n * stride, X),
        memory(M * n * stride, X),
        memory(N * n * stride, X),
        memory(N * n * stride, X),
    )
    v, d, tau, facts = memory(n * n * planes, X), memory(n * planes, X), memory(n * planes, X), memory(2, X)
    s, norms, tops, raises, lowers = memory(n, X), memory(2 * n, X), memory(n, X), memory(n, X), memory(n, X)
    sizes, heights, places, pivots = memory(m, X), memory(m, X), np.empty(m, np.int64), np.empty(n, np.int64)
    A, W, L, Y, V = buffer(a, kind), buffer(w, kind), buffer(l, kind), buffer(y, kind), buffer(v, leaf)
    D, Tau, Sb, Norms, info = (
        buffer(d, leaf), buffer(tau, leaf), buffer(s, lane), buffer(norms, lane), buffer(facts, lane)
    )  # fmt: skip
    front = lanes(pairs)
    r, c = memory(3 * front, X), memory(3 * front * planes, X)
    R, C = buffer(r, real_pairs), buffer(c, pairs)
    Lowers, Sizes, Heights = buffer(lowers, lane), buffer(sizes, lane), buffer(heights, lane)
    x, reals, values = buffer(X, leaf), buffer(X, lane), buffer(S, lane)
    long, short = (buffer(Vh, leaf), buffer(U, leaf)) if wide else (buffer(U, leaf), buffer(Vh, leaf))
    for b in range(begin, end):
        least = peaks(reals, b * size * planes, rows, columns, planes, wide, tops)
        big = tops.max()
        if big == np.inf:
            anything = tell(told, b, batch, 0.0, 0.0, NONFINITE)
            continue
        exponent = jacobi.power_of_two(big, top)
        if least < np.inf and jacobi.power_of_two(least, top) - exponent > SPAN:
            anything = tell(told, b, batch, 0.0, 0.0, FAR)
            continue
        for j in range(n):
            raises[j] = POWERS[jacobi.power_of_two(tops[j], top) - exponent + 1100] if tops[j] > 0.0 else 1.0
            lowers[j] = 1.0 / raises[j]
        f, g = powers(exponent)
        raised(reals, b * size * planes, rows, columns, planes, wide, f, g, raises, sizes)
        householder.order_rows(Sizes, places, m)
        for i in range(m):
            heights[i] = sizes[places[i]]
        load(x, b * size, rows, columns, wide, f, g, raises, places, A, M)
        rank = householder.factor(A, W, D, Tau, Norms, Lowers, pivots, Heights, m, M, n, width)
        householder.triangle(A, D, Lowers, L, rank, M, N, n)
        for e in range(n * N):
            Y[e] = like(Y[e], 0.0)
        for p in range(n):
            set_entry(Y, p * N, p, like(D[p], 1.0))
        jacobi.converge_in_fronts(L, Y, R, C, info, N, N, n, n, limit, front)
        jacobi.normalise(L, Sb, N, n)
        householder.expand(W, Tau, Y, A, rank, M, N, n, width)
        for p in range(n):
            for i in range(n):
                V[p * n + i] = entry(L, p * N, i)
        vanished = rank
        while vanished > 0 and s[vanished - 1] == 0.0:
            vanished -= 1
        if vanished < n:
            jacobi.complete(V, n, n)
        f, g = powers(-exponent)
        for p in range(n):
            values[b * n + p] = Sb[p] * f * g
        unload(A, M, long, b * size, m, n, wide, places)
        unload(V, n, short, b * n * n, n, n, not wide, pivots)
        verdict = UNCONVERGED if facts[0] >= limit else FAR if vanished < rank else 0
        if tell(told, b, batch, facts[0], facts[1], verdict):
            anything = True
    return anything


# ---- beyond the range


@jit(nogil=True, **OPTIONS)
def graded(leaf, lane, rows, columns, X, U, S, Vh, told, begin, end, limit):
    """U, S, Vh by `qr`: S to high relative accuracy. A matrix that is not finite is left out. Returns and tells what
    `svd` does."""
    wide, m, n, planes = rows < columns, max(rows, columns), min(rows, columns), components(leaf)
    size, small, batch, anything = m * n * planes, n * n * planes, len(S) // n, False
    a, a0, k, facts = memory(size, X), memory(size, X), memory(small, X), memory(2, X)
    u, v, x, y, s = memory(size, X), memory(small, X), memory(small, X), memory(small, X), memory(n, X)
    d, sigma, r, h = memory(n * planes, X), memory(n * planes, X), memory(m * planes, X), memory(m, X)
    A, A0, K, info, Sb = buffer(a, leaf), buffer(a0, leaf), buffer(k, leaf), buffer(facts, lane), buffer(s, lane)
    Ub, Vb, L, Y = buffer(u, leaf), buffer(v, leaf), buffer(x, leaf), buffer(y, leaf)
    D, W, R, H = buffer(d, leaf), buffer(sigma, leaf), buffer(r, leaf), buffer(h, lane)
    source, values, Ar = buffer(X, lane), buffer(S, lane), buffer(a, lane)
    y_all, z_all, one, forms = buffer(U, lane), buffer(Vh, lane), unscaled(Sb[0]), layouts(rows, columns, planes)
    e, c, c0, f, f0 = (
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
    )
    order, places = np.empty(n, np.int64), np.empty(m, np.int64)
    left, right = (buffer(v, lane), buffer(u, lane)) if wide else (buffer(u, lane), buffer(v, lane))
    for b in range(begin, end):
        if largest(source, b * size, size) == np.inf:
            anything = tell(told, b, batch, 0.0, 0.0, NONFINITE)
            continue
        take(source, b, forms[0], one, Ar, 0, planes)
        identity(Y, n)
        qr.decompose(A, A0, H, L, K, Y, Sb, D, W, e, c, c0, f, f0, places, order, info, m, n, limit)
        qr.expand(A, W, e, Y, Ub, places, R, m, n)
        for p in range(n):
            values[b * n + p] = qr.shift(Sb[p], f[p])
            for j in range(n):
                Vb[p * n + order[j]] = L[p * n + j]
        jacobi.complete(Ub, m, n)
        jacobi.complete(Vb, n, n)
        put(left, 0, planes, one, y_all, b, forms[1])
        put(right, 0, planes, one, z_all, b, forms[3])
        if tell(told, b, batch, facts[0], facts[1], UNCONVERGED if facts[0] >= limit else 0):
            anything = True
    return anything


@jit(nogil=True, **OPTIONS)
def graded_slopes(kind, reals, leaf, lane, rows, columns, batch, count, X, dX, dS, begin, end, limit):
    """dS along `count` directions, taken at the triangular factor; left as it is for zeros, for ties, and where it is
    not resolved."""
    wide, m, n, planes = rows < columns, max(rows, columns), min(rows, columns), components(leaf)
    stride, size, small = components(kind), m * n * planes, n * n * planes
    chunk, real_stride = stride // planes - 1, stride // planes
    a, a0, k, facts = memory(size, X), memory(size, X), memory(small, X), memory(2, X)
    x, y, s, d, w = memory(small, X), memory(small, X), memory(n, X), memory(n * planes, X), memory(n * planes, X)
    h, z, g = memory(size, X), memory(n * planes, X), memory(real_stride * chunk, X)
    o, da, dl, dd, dw = (
        memory(m, X),
        memory(m * n * stride, X),
        memory(n * n * stride, X),
        memory(n * stride, X),
        memory(n * stride, X),
    )
    A, A0, K, info, S = buffer(a, leaf), buffer(a0, leaf), buffer(k, leaf), buffer(facts, lane), buffer(s, lane)
    L, Y, D, W, H = buffer(x, leaf), buffer(y, leaf), buffer(d, leaf), buffer(w, leaf), buffer(h, leaf)
    Z, G, dA, dL, dD, dW = (
        buffer(z, leaf), buffer(g, reals), buffer(da, kind), buffer(dl, kind), buffer(dd, kind), buffer(dw, kind),
    )  # fmt: skip
    source, tangents, slopes, O = buffer(X, lane), buffer(dX, lane), buffer(dS, lane), buffer(o, lane)
    Ar, Hr, one, form = (
        buffer(a, lane),
        buffer(h, lane),
        unscaled(S[0]),
        (rows, columns, wide, planes),
    )
    c, c0, f, f0, e = (
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
    )
    order, places = np.empty(n, np.int64), np.empty(m, np.int64)
    grades, sizes = np.empty(count, np.int64), np.empty(count, np.int64)
    g[:] = 0.0
    for j in range(chunk):
        g[j * real_stride + j + 1] = 1.0
    for b in range(begin, end):
        if largest(source, b * size, size) == np.inf:
            continue
        take(source, b, form, one, Ar, 0, planes)
        identity(Y, n)
        rank = qr.decompose(A, A0, O, L, K, Y, S, D, W, e, c, c0, f, f0, places, order, info, m, n, limit)
        for first in range(0, count, chunk):
            some = min(chunk, count - first)
            qr.seed(dA, A0, order, m, n)
            for j in range(some):
                at = (first + j) * batch + b
                take(tangents, at, form, one, Hr, 0, planes)
                grades[first + j] = qr.grading(O, H, c0, places, m, n)
                sizes[first + j] = -jacobi.power_of_two(largest(tangents, at * size, size), 0)
                qr.seed_direction(dA, G[j], H, c0, places, order, grades[first + j], m, n)
            qr.refactor(dA, D, dD, dW, e, rank, m, n)
            qr.triangle(dA, dD, c, dL, f0, m, n, False)
            for p in range(n):
                if qr.apart(S, f, p, n):
                    qr.quotients(K, L, Y, S, f, f0, Z, p, n)
                    for j in range(some):
                        grade = grades[first + j]
                        if qr.resolved(sizes[first + j], f[p], grade):
                            slope = S[p] * qr.slope(dL, Z, L, p, n, j)
                            slopes[((first + j) * batch + b) * n + p] = qr.shift(slope, f[p] + grade)
