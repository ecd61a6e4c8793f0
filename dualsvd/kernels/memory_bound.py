"""What costs memory and nothing else, in one pass over it.

For the product of two arrays with tangents NumPy goes through memory four times, for a quotient nine; here each element
is a `Dual` and follows its rules. Where something is not finite NumPy has warnings to give, so it goes NumPy's way; so
does everything where Numba is told not to compile (NUMBA_DISABLE_JIT).

Dyads are written at the speed of a fill, two to three times that of `einsum`.

Imported on first use, for it imports Numba. Arrays are contiguous, of real numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dual import Dual
from .caching import compiled_for, compiles, jit
from .texts import inlined

#: Results are NumPy's to the bit, whichever way is taken. With any fastmath flag set `staging` does not fuse tangents;
#: `afn` is one that means nothing to products and quotients.
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


def in_one_pass(name: str, dtype: np.dtype[Any]) -> Any:
    """The product or quotient ("multiply", "divide", "divide_number") of dtype as a function: of arrays x of one shape,
    each followed by its tangents (N, *shape) along one direction or more, and of a number where there is one; it
    returns (y, dy), or None where not all is finite. None where Numba is told not to compile.
    """
    if not compiles():
        return None
    kernel, arrays, numbers = KERNELS[name]
    kind, entry = compiled_for(kernel, dtype, (1, 2) * (arrays + 1), (dtype.type,) * numbers)

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
    kind, entry = compiled_for(dyads, U.dtype, (2, 2, 3))
    entry(kind, U, Vh, J)
    return J


#: the kernel, and of how many arrays and numbers
KERNELS: dict[str, tuple[Any, int, int]] = {
    "multiply": (multiply, 2, 0),
    "divide": (divide, 2, 0),
    "divide_number": (divide_number, 1, 1),
}
