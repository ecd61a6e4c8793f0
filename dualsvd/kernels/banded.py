"""The top of a symmetric band matrix, in a time that grows like its rows.

A Krylov process with two vectors at a time makes a matrix T with two diagonals below the main one, and looks at its top
every few steps: its largest eigenvalue with the vector, the second, and rows of (x - T)^-1 for x above all of them. The
eigenvalues and vectors of all of T, by LAPACK, took a quarter of the process at 512 x 512 and half of it at 256 x 256.

Everything here is by factors x - T = L D L^T of matrices that are positive definite, without pivots and backward
stable; whether they are positive definite tells where the top is. Imported on first use, for it imports Numba. T is
given by its lower triangle, in double precision: the rows that it has, whatever stands in them beyond it.
"""

from __future__ import annotations

import numpy as np

from .caching import compiled_for, jit
from .krylov import dot
from .texts import called

#: Halvings of what lies between a Rayleigh quotient and the largest sum of a row, before the vector is iterated. What
#: foretells the end may mix the vectors of values as near as 1e-9. Where the vector is the result, the shift is then
#: some 1e-13 above the top, nearer by far than the next value is, unless no certificate tells them apart.
HALVINGS, HALVINGS_OF_RESULT = 30, 44

#: Inverse iterations at most: the first vector takes four or five. The second one is found as soon if its value is next
#: to the first; else what is found is a mean of the next values, and tells that it is not.
ITERATIONS = 12

#: A value that changes by so little is settled: it is a sum of some hundred rounded products. It is off by the square
#: of what the vector is: two iterations more settle that.
SETTLED = 64 * np.finfo(float).eps


@called
def factor(T, b, x, L, d):
    """L, unit lower triangular, L[i, b - k] standing k places left of the diagonal, and d. Returns whether x - T is
    positive definite."""
    for i in range(len(T)):
        first = max(0, i - b)
        pivot = x - T[i, i]
        for j in range(first, i):
            y = -T[i, j]
            for k in range(max(first, j - b), j):
                y -= L[i, b - i + k] * L[j, b - j + k] * d[k]
            L[i, b - i + j] = y / d[j]
            pivot -= L[i, b - i + j] * y
        if not pivot > 0.0:
            return False
        d[i] = pivot
    return True


@called
def solve(L, d, b, v):
    """v becomes (L D L^T)^-1 v."""
    n = len(d)
    for i in range(n):
        for k in range(max(0, i - b), i):
            v[i] -= L[i, b - i + k] * v[k]
    for i in range(n - 1, -1, -1):
        v[i] /= d[i]
        for k in range(i + 1, min(n, i + b + 1)):
            v[i] -= L[k, b - k + i] * v[k]


@called
def rayleigh(T, b, v):
    """v^T T v."""
    product = 0.0
    for i in range(len(T)):
        product += T[i, i] * v[i] * v[i]
        for j in range(max(0, i - b), i):
            product += 2.0 * T[i, j] * v[i] * v[j]
    return product


@called
def scale_to_unit(v):
    """Divide v by its length."""
    over = 1.0 / np.sqrt(dot(v, v))
    for i in range(len(v)):
        v[i] *= over


@called
def iterate(T, b, L, d, v, other, low):
    """The eigenvector nearest to the shift in place of v, outside of another one, if that is not empty. Returns the
    eigenvalue, and whether it settled: one below `low` is not the one that is sought, however still."""
    value, left, settled = rayleigh(T, b, v), ITERATIONS, False
    while left > 0:
        solve(L, d, b, v)
        overlap = dot(other, v)
        for i in range(len(other)):
            v[i] -= overlap * other[i]
        scale_to_unit(v)
        last, value = value, rayleigh(T, b, v)
        left -= 1
        if not settled and abs(value - last) <= SETTLED * abs(value) and value >= low:
            settled, left = True, 2
    return value, settled


@jit(nogil=True)
def top(kind, T, v, w, b):
    """The eigenvector of the largest eigenvalue in place of v, a guess; in place of w, if it is not empty, the next one
    or a mixture of the next. Returns the eigenvalue and w^T T w; NaN if the eigenvalue is not positive, or is not found
    from that guess. The kind tells Numba's cache of edited texts."""
    n = len(T)
    L, d = np.zeros((n, b)), np.empty(n)
    scale_to_unit(v)
    low, high = rayleigh(T, b, v), 0.0
    for i in range(n):
        row = T[i, i]
        for j in range(max(0, i - b), i):
            row += abs(T[i, j])
        for j in range(i + 1, min(n, i + b + 1)):
            row += abs(T[j, i])
        high = max(high, row)
    high *= 1.0 + SETTLED
    for _ in range(HALVINGS_OF_RESULT if len(w) > 0 else HALVINGS):
        middle = 0.5 * (low + high)
        if factor(T, b, middle, L, d):
            high = middle
        else:
            low = middle
    if not factor(T, b, high, L, d):
        return np.nan, np.nan
    first, settled = iterate(T, b, L, d, v, w[:0], low - SETTLED * abs(low))
    if not settled:
        return np.nan, np.nan
    if len(w) == 0:
        return first, first
    for i in range(n):
        w[i] = np.sin(1.0 + i * i)  # like nothing that T or v may be
    return first, iterate(T, b, L, d, w, v, -np.inf)[0]


@jit(nogil=True)
def resolvent(kind, T, Z, b, x):
    """Z, the first b rows of (x - T)^-1; NaN where x - T is not positive definite."""
    L, d = np.zeros((len(T), b)), np.empty(len(T))
    if not factor(T, b, x, L, d):
        Z[:] = np.nan
        return
    for r in range(b):
        for i in range(len(T)):
            Z[r, i] = 1.0 if i == r else 0.0
        solve(L, d, b, Z[r])


def top_pair(T: np.ndarray, b: int, guess: np.ndarray, both: bool) -> tuple[float, float, np.ndarray]:
    """The largest eigenvalue of T, with b diagonals below the main one, the second if it is next to that, or else a
    smaller number, and the vector of the first. Not `both`: the first value twice, and perhaps a mixture of the vectors
    of values next to it. NaN where they are not found."""
    v, w = guess.copy(), np.empty(len(guess) if both else 0)
    kind, entry = compiled_for(top, T.dtype, (2, 1, 1), (int,))
    first, second = entry(kind, T, v, w, b)
    return first, second, v


def rows_of_resolvent(T: np.ndarray, b: int, x: float) -> np.ndarray:
    """The first b rows of (x - T)^-1."""
    Z, (kind, entry) = np.empty((b, len(T))), compiled_for(resolvent, T.dtype, (2, 2), (int, float))
    entry(kind, T, Z, b, x)
    return Z
