"""The steps of a Krylov process with two vectors at a time, in one pass over memory.

The matrix, and the basis, are read once for two vectors and for both of the products that a step needs, where BLAS
reads them four times. Imported on first use, for it imports Numba. Arrays are contiguous, in double precision.
"""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from .caching import compiled_for, jit

#: Rows that meet two vectors at a time: eight sums.
ROWS = 4

#: Sums in any order: these are of rows of one vector, where no order is better than another.
_sums = register_jitable(fastmath={"contract", "reassoc", "nsz"}, forceinline=True)


@_sums
def dots(X, i, V):
    """The products of rows i to i + 3 of X with both rows of V."""
    v, w = V[0], V[1]
    a, b, c, d = X[i], X[i + 1], X[i + 2], X[i + 3]
    av = bv = cv = dv = aw = bw = cw = dw = 0.0
    for j in range(len(v)):
        x, y = v[j], w[j]
        av, bv, cv, dv = av + a[j] * x, bv + b[j] * x, cv + c[j] * x, dv + d[j] * x
        aw, bw, cw, dw = aw + a[j] * y, bw + b[j] * y, cw + c[j] * y, dw + d[j] * y
    return (av, bv, cv, dv), (aw, bw, cw, dw)


@_sums
def add_rows(W, factors, sign, X, i):
    """Rows i to i + 3 of X, times the factors, to both rows of W."""
    (p, q, r, s), (t, u, v, w) = factors
    a, b, c, d, x, y = X[i], X[i + 1], X[i + 2], X[i + 3], W[0], W[1]
    for j in range(len(x)):
        x[j] += sign * ((a[j] * p + b[j] * q) + (c[j] * r + d[j] * s))
        y[j] += sign * ((a[j] * t + b[j] * u) + (c[j] * v + d[j] * w))


@_sums
def dot(x, y):
    """The product of two vectors."""
    sum = 0.0
    for j in range(len(x)):
        sum += x[j] * y[j]
    return sum


@jit(nogil=True)
def gram(kind, X, V, W, backwards):
    """W = V X^T X, for two rows V. `backwards` from one time to the next: so it begins where it ended, with what the
    cache still holds."""
    W[:] = 0.0
    whole = len(X) // ROWS * ROWS
    for k in range(0, whole, ROWS):
        i = whole - ROWS - k if backwards else k
        add_rows(W, dots(X, i, V), 1.0, X, i)
    for i in range(whole, len(X)):
        for k in range(2):
            y = dot(X[i], V[k])
            for j in range(X.shape[1]):
                W[k, j] += y * X[i, j]


@_sums
def take_out(W, V, first, last, H):
    """Take from two rows W, in place, their parts along orthonormal rows V[first:last], four of these after the other.
    Adds the coefficients to H; returns the sums of their squares."""
    r = s = 0.0
    whole = last - (last - first) % ROWS
    for i in range(first, whole, ROWS):
        (a, b, c, d), (e, f, g, h) = dots(V, i, W)
        add_rows(W, ((a, b, c, d), (e, f, g, h)), -1.0, V, i)
        H[0, i], H[0, i + 1], H[0, i + 2], H[0, i + 3] = H[0, i] + a, H[0, i + 1] + b, H[0, i + 2] + c, H[0, i + 3] + d
        H[1, i], H[1, i + 1], H[1, i + 2], H[1, i + 3] = H[1, i] + e, H[1, i + 1] + f, H[1, i + 2] + g, H[1, i + 3] + h
        r, s = r + (a * a + b * b + c * c + d * d), s + (e * e + f * f + g * g + h * h)
    for i in range(whole, last):
        a, e = dot(V[i], W[0]), dot(V[i], W[1])
        for j in range(V.shape[1]):
            W[0, j] -= a * V[i, j]
            W[1, j] -= e * V[i, j]
        H[0, i], H[1, i], r, s = H[0, i] + a, H[1, i] + e, r + a * a, s + e * e
    return r, s


@jit(nogil=True)
def extend(kind, W, V, H, beta, size, shrunk, independent):
    """The next two rows of an orthonormal basis, V[size:size + 2], and their coefficients beta, from what two rows W
    have outside of it; H receives what they have in it.

    The last four rows of the basis go first, and all of them after that: again, where that took `shrunk` times what it
    left. Returns whether there are two, with less than 1 / `independent` lost where the second is freed of the first.
    """
    H[:] = 0.0
    take_out(W, V, max(size - 4, 0), size, H)
    r, s = take_out(W, V, 0, size, H)
    first, second = dot(W[0], W[0]), dot(W[1], W[1])
    if r > shrunk * shrunk * first or s > shrunk * shrunk * second:
        take_out(W, V, 0, size, H)
        first, second = dot(W[0], W[0]), dot(W[1], W[1])
    if not first > 0.0:
        return False
    beta[0, 0] = np.sqrt(first)
    for j in range(len(V[size])):
        V[size, j] = W[0, j] / beta[0, 0]
    g = dot(V[size], W[1])
    for j in range(len(V[size])):
        V[size + 1, j] = W[1, j] - g * V[size, j]
    left = dot(V[size + 1], V[size + 1])
    if not left > independent * independent * second:
        return False
    beta[0, 1], beta[1, 0], beta[1, 1] = g, 0.0, np.sqrt(left)
    for j in range(len(V[size])):
        V[size + 1, j] /= beta[1, 1]
    return True


def gram_of_two(X: np.ndarray, V: np.ndarray, backwards: bool = False) -> np.ndarray:
    """V X^T X of two rows V, in double precision, summed over the rows of X, four by four, forwards or backwards."""
    W, (kind, entry) = np.empty_like(V), compiled_for(gram, X.dtype, (2, 2, 2), (bool,))
    entry(kind, X, V, W, backwards)
    return W


def extend_basis(
    W: np.ndarray, V: np.ndarray, size: int, beta: np.ndarray, shrunk: float, independent: float
) -> tuple[np.ndarray, bool]:
    """`extend`: the coefficients in the basis (2, size), and whether there are two more rows; W is what they come
    from."""
    H, (kind, entry) = np.empty((2, size)), compiled_for(extend, V.dtype, (2,) * 4, (int, float, float))
    return H, bool(entry(kind, W, V, H, beta, size, shrunk, independent))
