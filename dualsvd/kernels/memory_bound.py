"""What costs memory and nothing else, in one pass over it.

For the product of two arrays with tangents NumPy goes through memory four times, for a quotient nine; here each element
is a `Dual` and follows its rules. Where something is not finite NumPy has warnings to give, so it goes NumPy's way; so
does everything where Numba is told not to compile (NUMBA_DISABLE_JIT).

Dyads are written at the speed of a fill, two to three times that of `einsum`. A Krylov process reads its matrix, and
its basis, once for two vectors and for both of the products it needs, where BLAS reads them four times.

Imported on first use, for it imports Numba. Arrays are contiguous, of real numbers.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import from_dtype, typeof, types
from numba.extending import register_jitable

from ..dual import Dual
from .buffers import Kind
from .caching import compiles, jit
from .texts import inlined

#: Every bit as NumPy has it, so that no result depends on which way was taken: tangents are not fused (`staging`) where
#: flags say what may be, and these, for functions that LLVM may approximate, mean nothing to products and quotients.
TO_THE_BIT: Any = {"nogil": True, "fastmath": {"afn"}}


@jit(**TO_THE_BIT)
def multiply(kind, a, da, b, db, y, dy):
    """y = a b and dy, along each direction. Returns whether all of it is finite."""
    finite = True
    for k in range(len(dy)):
        for i in range(len(y)):
            z = Dual(a[i], (da[k, i],)) * Dual(b[i], (db[k, i],))
            y[i], dy[k, i] = z.value, z.partials[0]
            finite &= bounded(z)
    return finite


@jit(**TO_THE_BIT)
def divide(kind, a, da, b, db, y, dy):
    """y = a / b and dy, along each direction. Returns whether all of it is finite."""
    finite = True
    for k in range(len(dy)):
        for i in range(len(y)):
            z = Dual(a[i], (da[k, i],)) / Dual(b[i], (db[k, i],))
            y[i], dy[k, i] = z.value, z.partials[0]
            finite &= bounded(z)
    return finite


@jit(**TO_THE_BIT)
def divide_number(kind, b, db, y, dy, a):
    """y = a / b of a number a, and dy, along each direction. Returns whether all of it is finite."""
    finite = True
    for k in range(len(dy)):
        for i in range(len(y)):
            z = a / Dual(b[i], (db[k, i],))
            y[i], dy[k, i] = z.value, z.partials[0]
            finite &= bounded(z)
    return finite


@inlined
def bounded(z):
    """Whether a dual of one partial is finite."""
    return (abs(z.value) < np.inf) & (abs(z.partials[0]) < np.inf)


@jit(nogil=True)
def dyads(kind, U, Vh, J):
    """J_ikj = U_ki Vh_ij."""
    r, m, n = J.shape
    for i in range(r):
        for k in range(m):
            for j in range(n):
                J[i, k, j] = U[k, i] * Vh[i, j]


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


def in_one_pass(name: str, dtype: np.dtype[Any]) -> Any:
    """The product or quotient ("multiply", "divide", "divide_number") of dtype as a function: of arrays x of one shape,
    each followed by its tangents (N, *shape) along one direction or more, and of a number where there is one; it
    returns (y, dy), or None where not all is finite. None where Numba is told not to compile.
    """
    if not compiles():
        return None
    kernel, arrays, numbers = KERNELS[name]
    kind, entry = entry_of(kernel, dtype, (1, 2) * (arrays + 1), (dtype.type,) * numbers)

    def compute(x: np.ndarray, dx: np.ndarray, *others: Any) -> tuple[Any, Any] | None:
        y, dy = np.empty_like(x), np.empty_like(dx)
        operands = (x, dx, *others[: 2 * arrays - 2], y, dy)
        if x.ndim != 1:
            operands = tuple(z.reshape((len(dx), -1) if k % 2 else -1) for k, z in enumerate(operands))
        return (y, dy) if entry(kind, *operands, *others[2 * arrays - 2 :]) else None

    return compute


def each_dyad(U: np.ndarray, Vh: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """u_i v_i^T for every i, (r, m, n), from U (m, r) and Vh (r, n), perhaps in `out`."""
    J = np.empty((*Vh.shape[:1], *U.shape[:1], *Vh.shape[1:]), U.dtype) if out is None else out
    kind, entry = entry_of(dyads, U.dtype, (2, 2, 3))
    entry(kind, U, Vh, J)
    return J


def gram_of_two(X: np.ndarray, V: np.ndarray, backwards: bool = False) -> np.ndarray:
    """V X^T X of two rows V, in double precision, summed over the rows of X, four by four, forwards or backwards."""
    W, (kind, entry) = np.empty_like(V), entry_of(gram, X.dtype, (2, 2, 2), (bool,))
    entry(kind, X, V, W, backwards)
    return W


def extend_basis(
    W: np.ndarray, V: np.ndarray, size: int, beta: np.ndarray, shrunk: float, independent: float
) -> tuple[np.ndarray, bool]:
    """`extend`: the coefficients in the basis (2, size), and whether there are two more rows; W is what they come
    from."""
    H, (kind, entry) = np.empty((2, size)), entry_of(extend, V.dtype, (2,) * 4, (int, float, float))
    return H, bool(entry(kind, W, V, H, beta, size, shrunk, independent))


#: the kernel, and of how many arrays and numbers
KERNELS: dict[str, tuple[Any, int, int]] = {
    "multiply": (multiply, 2, 0),
    "divide": (divide, 2, 0),
    "divide_number": (divide_number, 1, 1),
}


@functools.cache
def entry_of(
    kernel: Any, dtype: np.dtype[Any], axes: tuple[int, ...], numbers: tuple[type, ...] = ()
) -> tuple[Kind, Any]:
    """A kernel for arrays of so many axes each, and numbers after them; Numba's dispatcher would take some microseconds
    to find it, and Numba's types, if they were the key, one or two to compare."""
    kind, arrays = Kind(dtype, (1,)), (types.Array(from_dtype(dtype), n, "C") for n in axes)
    return kind, kernel.compile((kind.numba_type, *arrays, *(typeof(number()) for number in numbers)))
