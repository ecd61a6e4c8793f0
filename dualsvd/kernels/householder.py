"""The QR factorisation with pivoting that goes before Jacobi, over the scalar protocol: A P = Q R.

With rows in descending order of their largest entries and columns pivoted (Powell and Reid 1969; Cox and Higham 1998),
R^H keeps the small singular values of a badly scaled A to high relative accuracy, and Jacobi on its columns finds them
in a few sweeps (Drmac and Veselic 2008):

    R^H Y = X S,     A = Q R P^T = (Q Y) S (P X)^H.

Buffers hold columns one after the other, M numbers each; a number may be a pack of rows, the last ones padded with
zeros, and `entry` reads one row of a column. Columns come raised to one height by powers of two; `scale` undoes that.
All entries are in range for squares: `qr` is for matrices where they cannot be.
"""

from __future__ import annotations

from .jacobi import exchange_columns, norm2, tie_tolerance
from .protocol import (
    abs2,
    absolute,
    any_true,
    conj,
    entry,
    eps_of,
    imag,
    like,
    maximum,
    real,
    set_entry,
    sqrt,
    tiny_of,
    total,
    where,
)

#: Columns that a reflector meets at a time, in `reflect_four`.
TOGETHER = 4

#: A squared norm that has lost this much to subtractions is computed again. What is left of one that is kept is off by
#: eps / STALE, 2e-12, at most: no choice of a pivot needs more, and few norms are summed twice.
STALE = 1e-4


def factor(A, W, d, tau, norms, scale, columns, h, m, M, n, width):
    """A, of m rows, `width` to a number, becomes R above the diagonal; d its diagonal; W the reflectors. Returns the
    rank.

    The reflectors are those of `elimination`. `columns` receives the pivoting, along which `scale` goes. What falls
    below the rounding errors of every row, of heights h, is zero. `norms` is scratch of 2 n.
    """
    for j in range(n):
        columns[j] = j
        norms[j] = norm2(A, j, M)
        norms[n + j] = norms[j]
    for k in range(n):
        exchange(A, norms, scale, columns, k, pivot(norms, scale, k, n), M, n)
        if exhausted(A, h, k, m, M, n):
            return k
        d[k] = reflector(A, W, tau, k, M, width)
        reflect_columns(W, k, tau[k], A, k + 1, n, k // width, M)
        for j in range(k + 1, n):
            shorten(A, norms, j, k, m, M, n)
    return n


def pivot(norms, scale, k, n):
    """The column with the largest norm from row k on, in the scale of the matrix."""
    best, most = k, norms[k] * scale[k] * scale[k]
    for j in range(k + 1, n):
        size = norms[j] * scale[j] * scale[j]
        if any_true(size > most):
            best, most = j, size
    return best


def exchange(A, norms, scale, columns, j, k, M, n):
    """Columns j and k change places."""
    columns[j], columns[k] = columns[k], columns[j]
    scale[j], scale[k] = scale[k], scale[j]
    norms[j], norms[k] = norms[k], norms[j]
    norms[n + j], norms[n + k] = norms[n + k], norms[n + j]
    exchange_columns(A, j, k, M)


def exhausted(A, h, k, m, M, n):
    """Whether what is left from row and column k on is rounding errors of the rows."""
    least = like(h[0], tie_tolerance(eps_of(h[0]), n))
    for j in range(k, n):
        for i in range(k, m):
            x = entry(A, j * M, i)
            if any_true(maximum(absolute(real(x)), absolute(imag(x))) > h[i] * least):
                return False
    return True


def reflector(A, W, tau, k, M, width):
    """The reflector of column k, to W; returns beta."""
    for i in range(k * M + k // width, k * M + M):
        W[i] = A[i]
    beta, tau[k] = annihilate(W, k * M, k, M, width)
    return like(tau[k], 1.0) * beta


def annihilate(W, P, k, M, width):
    """The w of `elimination` in place of a column, from row k on: it stands at number P of W. Returns beta and tau,
    which are 0 where the column is."""
    first, x = k // width, entry(W, P, k)
    for i in range((k - k % 2) // width * width, k):  # zero from where the even one of two reflectors begins
        set_entry(W, P, i, like(x, 0.0))
    square = abs2(W[P + first])
    for i in range(first + 1, M):
        square = square + abs2(W[P + i])
    square = total(square)
    none, alive = like(x, 0.0), square > like(square, tiny_of(square))
    beta, over = elimination(x, where(alive, square, like(square, 1.0)))
    set_entry(W, P, k, x - beta)
    return where(alive, beta, real(none)), where(alive, over, none)


def elimination(first, square):
    """beta and tau of the reflector of a column x, of which the first number and |x|^2 > 0 are given.

    H = I - w tau w^H with w = x - beta e_1, 1/tau = |x|^2 - beta x_1, beta = -+|x| real, is unitary and H x = beta
    e_1; no phase of x is divided by.
    """
    norm = sqrt(square)
    beta = where(real(first) > like(norm, 0.0), -norm, norm)
    return beta, like(first, 1.0) / (square - first * beta)


def reflect_columns(W, k, tau, B, begin, end, first, M):
    """Columns begin to end - 1 of B minus w tau (w^H b), from number `first` on; conj(tau) gives the inverse."""
    whole = begin + (end - begin) // TOGETHER * TOGETHER
    for j in range(begin, whole, TOGETHER):
        reflect_four(W, k, tau, B, j, first, M)
    for j in range(whole, end):
        reflect(W, k, tau, B, j, first, M)


def reflect(W, k, tau, B, j, first, M):
    """One column."""
    P, Q = k * M, j * M
    g = conj(W[P + first]) * B[Q + first]
    for i in range(first + 1, M):
        g = g + conj(W[P + i]) * B[Q + i]
    g = total(g) * tau
    for i in range(first, M):
        B[Q + i] = B[Q + i] - W[P + i] * g


def reflect_four(W, k, tau, B, j, first, M):
    """Four columns: the reflector is read once, and no sum waits for another."""
    P, a, b, c, d = k * M, j * M, (j + 1) * M, (j + 2) * M, (j + 3) * M
    w = conj(W[P + first])
    f, g, h, u = w * B[a + first], w * B[b + first], w * B[c + first], w * B[d + first]
    for i in range(first + 1, M):
        w = conj(W[P + i])
        f, g, h, u = f + w * B[a + i], g + w * B[b + i], h + w * B[c + i], u + w * B[d + i]
    f, g, h, u = total(f) * tau, total(g) * tau, total(h) * tau, total(u) * tau
    for i in range(first, M):
        w = W[P + i]
        B[a + i], B[b + i] = B[a + i] - w * f, B[b + i] - w * g
        B[c + i], B[d + i] = B[c + i] - w * h, B[d + i] - w * u


def shorten(A, norms, j, k, m, M, n):
    """Take row k from the squared norm of column j; where little is left of it, sum it afresh."""
    norms[j] = norms[j] - abs2(entry(A, j * M, k))
    if any_true(norms[j] <= norms[n + j] * like(norms[j], STALE)):
        square = like(norms[j], 0.0)
        for i in range(k + 1, m):
            square = square + abs2(entry(A, j * M, i))
        norms[j] = square
        norms[n + j] = square


def triangle(A, d, scale, L, rank, M, N, n):
    """L = R^H in the scale of the matrix, columns of N numbers; zero from column `rank` on."""
    for e in range(n * N):
        L[e] = like(L[e], 0.0)
    for i in range(rank):
        set_entry(L, i * N, i, conj(d[i]) * scale[i])
        for j in range(i + 1, n):
            set_entry(L, i * N, j, conj(entry(A, j * M, i)) * scale[j])


def expand(W, tau, overlaps, Y, U, rank, M, N, n, width):
    """U = Q Y, a few columns at a time, which stay near while all reflectors pass, two by two; `overlaps` is scratch of
    n / 2."""
    for p in range(n):
        for i in range(M):
            U[p * M + i] = Y[p * N + i] if i < N else like(Y[0], 0.0)
    pairs = rank // 2
    for k in range(pairs):
        overlaps[k] = overlap(W, 2 * k, 2 * k // width, M)
    for first in range(0, n, TOGETHER):
        last = min(first + TOGETHER, n)
        if rank % 2 > 0:
            reflect_columns(W, rank - 1, conj(tau[rank - 1]), U, first, last, (rank - 1) // width, M)
        for k in range(2 * pairs - 2, -1, -2):
            if last == first + TOGETHER:
                reflect_four_twice(W, k, conj(tau[k]), conj(tau[k + 1]), overlaps[k // 2], U, first, k // width, M)
            else:
                reflect_columns(W, k + 1, conj(tau[k + 1]), U, first, last, k // width, M)
                reflect_columns(W, k, conj(tau[k]), U, first, last, k // width, M)


def overlap(W, k, first, M):
    """w^H w' of reflectors k and k + 1, which begin in number `first`."""
    P, Q = k * M, (k + 1) * M
    g = conj(W[P + first]) * W[Q + first]
    for i in range(first + 1, M):
        g = g + conj(W[P + i]) * W[Q + i]
    return total(g)


def reflect_four_twice(W, k, tau, tau_next, cross, B, j, first, M):
    """Four columns by reflector k + 1 and then by k, whose w^H w' is `cross`."""
    P, Q, a, b, c, d = k * M, (k + 1) * M, j * M, (j + 1) * M, (j + 2) * M, (j + 3) * M
    v, w = conj(W[P + first]), conj(W[Q + first])
    x, y, z, t = B[a + first], B[b + first], B[c + first], B[d + first]
    f0, g0, h0, u0, f1, g1, h1, u1 = v * x, v * y, v * z, v * t, w * x, w * y, w * z, w * t
    for i in range(first + 1, M):
        v, w = conj(W[P + i]), conj(W[Q + i])
        x, y, z, t = B[a + i], B[b + i], B[c + i], B[d + i]
        f0, g0, h0, u0 = f0 + v * x, g0 + v * y, h0 + v * z, u0 + v * t
        f1, g1, h1, u1 = f1 + w * x, g1 + w * y, h1 + w * z, u1 + w * t
    f1, g1, h1, u1 = total(f1) * tau_next, total(g1) * tau_next, total(h1) * tau_next, total(u1) * tau_next
    f0, g0 = (total(f0) - cross * f1) * tau, (total(g0) - cross * g1) * tau
    h0, u0 = (total(h0) - cross * h1) * tau, (total(u0) - cross * u1) * tau
    for i in range(first, M):
        v, w = W[P + i], W[Q + i]
        B[a + i], B[b + i] = B[a + i] - w * f1 - v * f0, B[b + i] - w * g1 - v * g0
        B[c + i], B[d + i] = B[c + i] - w * h1 - v * h0, B[d + i] - w * u1 - v * u0


# ---- rows in order


def order_rows(sizes, rows, m):
    """rows: the places of the sizes, in descending order (Shell 1959, gaps of Knuth)."""
    for i in range(m):
        rows[i] = i
    gap = 1
    while 3 * gap + 1 < m:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, m):
            row, j = rows[i], i
            while j >= gap and any_true(sizes[rows[j - gap]] < sizes[row]):
                rows[j] = rows[j - gap]
                j -= gap
            rows[j] = row
        gap //= 3
