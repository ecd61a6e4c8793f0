"""Kernels of high relative accuracy, after a pivoted QR: `householder` in range, `qr` beyond.

Imported on first use, as `compiled` is, and by the same conventions.
"""

from __future__ import annotations

import numpy as np

from . import householder, jacobi, qr
from .buffers import buffer, components, lanes
from .caching import jit
from .protocol import entry, like
from .texts import OPTIONS, called
from .transfer import (
    POWERS,
    identity,
    identity_of_rows,
    largest,
    layouts,
    load,
    powers,
    put,
    room,
    shared,
    sides,
    take,
    tell,
    unload,
    unscaled,
)
from .verdicts import FAR, NONFINITE, UNCONVERGED

#: Exponents that a matrix may span: scaled to the headroom of float64, 220, the least squares are above `flush`.
SPAN = 440


# ---- in range


@called
def peaks(x, start, rows, columns, planes, wide, top, n):
    """top: the largest |real| of each column of the matrix, or of its conjugate transpose if wide; infinity if one is
    not finite. Returns the largest of all, and the least that is not zero."""
    for p in range(n):
        top[p] = 0.0
    big, least, k = 0.0, np.inf, start
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
    for p in range(n):
        big = max(big, top[p])
    return big, least


@called
def raised(x, start, rows, columns, planes, wide, f, g, raises, sizes, m):
    """sizes: the largest |real| of each row of the same, times f, g and the factor of its column."""
    for q in range(m):
        sizes[q] = 0.0
    k = start
    for i in range(rows):
        for j in range(columns):
            p, q = (i, j) if wide else (j, i)
            for _ in range(planes):
                y = abs(x[k]) * f * g * raises[p]
                if y > sizes[q]:
                    sizes[q] = y
                k += 1


@called
def prepare(
    x, reals, b, rows, columns, wide, planes, exponent, top,
    Tops, Raises, Lowers, Sizes, Heights, places, A, m, M, n,
):  # fmt: skip
    """A: matrix b times 2^exponent, its columns brought to the height 2^top, its rows in descending order; the factors
    of the columns and their inverses, the places of the rows and their sizes."""
    for j in range(n):
        Raises[j] = POWERS[jacobi.exponent_to(Tops[j], top) - exponent + 1100] if Tops[j] > 0.0 else 1.0
        Lowers[j] = 1.0 / Raises[j]
    f, g = powers(exponent)
    raised(reals, b * m * n * planes, rows, columns, planes, wide, f, g, Raises, Sizes, m)
    householder.order_rows(Sizes, places, m)
    for i in range(m):
        Heights[i] = Sizes[places[i]]
    load(x, b * m * n, rows, columns, wide, f, g, Raises, places, A, M)


@called
def factor(A, W, D, Tau, Norms, Lowers, pivots, Heights, L, Y, m, M, n, N, even, width):
    """A P = Q R; R^H, whose columns Jacobi is to turn, to L, and 1 to Y. Returns the rank."""
    rank = householder.factor(A, W, D, Tau, Norms, Lowers, pivots, Heights, m, M, n, width)
    householder.triangle(A, D, Lowers, L, rank, M, N, n)
    identity_of_rows(Y, N, n)
    for e in range(n * N, even * N):  # a column of zeros comes to rest at once
        L[e], Y[e] = like(L[e], 0.0), like(Y[e], 0.0)
    return rank


@called
def finish_factors(L, Y, S, W, Tau, overlaps, rank, U, V, M, n, N, width):
    """From R^H Y = X S, X in L: U = Q Y, and V = X, its rows still to be permuted. Returns how many values there are
    beside zeros."""
    householder.expand(W, Tau, overlaps, Y, U, rank, M, N, n, width)
    for p in range(n):
        for i in range(n):
            V[p * n + i] = entry(L, p * N, i)
    found = rank
    while found > 0 and S[found - 1] == 0.0:
        found -= 1
    if found < n:
        jacobi.complete(V, n, n)
    return found


@jit(nogil=True, **OPTIONS)
def preconditioned(kind, leaf, lane, pairs, real_pairs, rows, columns, X, U, S, Vh, told, begin, end, limit):
    """U, S, Vh by `householder`, and Jacobi on R^H: S to high relative accuracy. Returns and tells what `svd` does, and
    FAR for a matrix that spans too much; that one, and one that is not finite, is left out."""
    wide, m, n, planes, width = rows < columns, max(rows, columns), min(rows, columns), components(leaf), lanes(kind)
    M, N, size, batch, anything = -(-m // width), -(-n // width), m * n, len(S) // n, False
    front, top, even = lanes(pairs), jacobi.headroom(np.finfo(X.dtype).eps), n + n % 2
    A, W, L, Y, V = (
        room(M * n, X, kind),
        room(M * n, X, kind),
        room(N * even, X, kind),
        room(N * even, X, kind),
        room(n * n, X, leaf),
    )
    D, Tau, Sb, Norms, info = (
        room(n, X, leaf),
        room(n, X, leaf),
        room(even, X, lane),
        room(2 * n, X, lane),
        room(2, X, lane),
    )
    Tops, Raises, Lowers, Sizes, Heights = (
        room(n, X, lane), room(n, X, lane), room(n, X, lane), room(m, X, lane), room(m, X, lane)
    )  # fmt: skip
    Overlaps = room(n // 2 + 1, X, leaf)
    R, C, places, pivots = room(9, X, real_pairs), room(8, X, pairs), np.empty(m, np.int64), np.empty(n, np.int64)
    x, reals, values = buffer(X, leaf), buffer(X, lane), buffer(S, lane)
    long, short = (buffer(Vh, leaf), buffer(U, leaf)) if wide else (buffer(U, leaf), buffer(Vh, leaf))
    for b in range(begin, end):
        big, least = peaks(reals, b * size * planes, rows, columns, planes, wide, Tops, n)
        exponent = jacobi.exponent_to(big, top) if big < np.inf else 0
        if big == np.inf or (least < np.inf and jacobi.exponent_to(least, top) - exponent > SPAN):
            anything = tell(told, b, batch, 0.0, 0.0, NONFINITE if big == np.inf else FAR)
            continue
        prepare(
            x, reals, b, rows, columns, wide, planes, exponent, top,
            Tops, Raises, Lowers, Sizes, Heights, places, A, m, M, n,
        )  # fmt: skip
        rank = factor(A, W, D, Tau, Norms, Lowers, pivots, Heights, L, Y, m, M, n, N, even, width)
        jacobi.converge_in_fronts(L, Y, Sb, R, C, info, N, N, even, n, limit, front)
        jacobi.normalise(L, Sb, N, n)
        found = finish_factors(L, Y, Sb, W, Tau, Overlaps, rank, A, V, M, n, N, width)
        f, g = powers(-exponent)
        for p in range(n):
            values[b * n + p] = Sb[p] * f * g
        unload(A, M, long, b * size, m, n, wide, places)
        unload(V, n, short, b * n * n, n, n, not wide, pivots)
        verdict = UNCONVERGED if info[0] >= limit else FAR if found < rank else 0
        if tell(told, b, batch, info[0], info[1], verdict):
            anything = True
    return anything


# ---- beyond the range


@jit(nogil=True, **OPTIONS)
def graded(leaf, lane, rows, columns, X, U, S, Vh, told, begin, end, limit):
    """U, S, Vh by `qr`: S to high relative accuracy. A matrix that is not finite is left out. Returns and tells what
    `svd` does."""
    wide, m, n, planes = rows < columns, max(rows, columns), min(rows, columns), components(leaf)
    size, batch, anything = m * n * planes, len(S) // n, False
    A, Ar = shared(room(m * n, X, leaf), lane)
    Ub, Vb = room(m * n, X, leaf), room(n * n, X, leaf)
    A0, K, L, Y = room(m * n, X, leaf), room(n * n, X, leaf), room(n * n, X, leaf), room(n * n, X, leaf)
    D, W, R, Sb, H, info = (
        room(n, X, leaf), room(n, X, leaf), room(m, X, leaf), room(n, X, lane), room(m, X, lane), room(2, X, lane)
    )  # fmt: skip
    source, values = buffer(X, lane), buffer(S, lane)
    y_all, z_all, one, forms = buffer(U, lane), buffer(Vh, lane), unscaled(Sb[0]), layouts(rows, columns, planes)
    e, c, c0, f, f0 = (
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
    )
    order, places = np.empty(n, np.int64), np.empty(m, np.int64)
    left, right = sides(Ub, Vb, lane, wide)
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
        if tell(told, b, batch, info[0], info[1], UNCONVERGED if info[0] >= limit else 0):
            anything = True
    return anything


@jit(nogil=True, **OPTIONS)
def graded_slopes(kind, reals, leaf, lane, rows, columns, batch, count, X, dX, dS, begin, end, limit):
    """dS along `count` directions, taken at the triangular factor; left as it is for zeros, for ties, and where it is
    not resolved."""
    wide, m, n, planes = rows < columns, max(rows, columns), min(rows, columns), components(leaf)
    size, chunk = m * n * planes, components(reals) - 1
    A, Ar = shared(room(m * n, X, leaf), lane)
    H, Hr = shared(room(m * n, X, leaf), lane)
    G, Gr = shared(room(chunk, X, reals), lane)
    A0, K, L, Y = room(m * n, X, leaf), room(n * n, X, leaf), room(n * n, X, leaf), room(n * n, X, leaf)
    D, W, Z, S, O, info = (
        room(n, X, leaf), room(n, X, leaf), room(n, X, leaf), room(n, X, lane), room(m, X, lane), room(2, X, lane)
    )  # fmt: skip
    dA, dL, dD, dW = room(m * n, X, kind), room(n * n, X, kind), room(n, X, kind), room(n, X, kind)
    source, tangents, slopes = buffer(X, lane), buffer(dX, lane), buffer(dS, lane)
    one, form = unscaled(S[0]), (rows, columns, wide, planes)
    c, c0, f, f0, e = (
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
    )
    order, places = np.empty(n, np.int64), np.empty(m, np.int64)
    grades, sizes = np.empty(count, np.int64), np.empty(count, np.int64)
    for j in range(chunk):  # the unit partials
        for i in range(chunk + 1):
            Gr[j * (chunk + 1) + i] = 1.0 if i == j + 1 else 0.0
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
                sizes[first + j] = -jacobi.exponent_to(largest(tangents, at * size, size), 0)
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
