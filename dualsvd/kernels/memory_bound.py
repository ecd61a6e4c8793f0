"""What costs memory and nothing else, in one pass over it.

For the product of two arrays with tangents NumPy goes through memory four times, for a quotient nine; here each element
is a `Dual` and follows its rules. Where something is not finite NumPy has warnings to give, so it goes NumPy's way; so
does everything where Numba is told not to compile (NUMBA_DISABLE_JIT).

Dyads are written at the speed of a fill, two to three times that of `einsum`.

Imported on first use, for it imports Numba. Arrays are contiguous, of real numbers.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import config, from_dtype, types

from ..dual import Dual
from .caching import jit
from .scalars import Kind
from .texts import inlined

COMPILED = not getattr(config, "DISABLE_JIT")  # noqa: B009, numba sets it as it runs


@jit(nogil=True)
def multiply(kind, a, da, b, db, y, dy):
    """y = a b and dy, along one direction. Returns whether all of it is finite."""
    finite = True
    for i in range(len(y)):
        z = Dual(a[i], (da[i],)) * Dual(b[i], (db[i],))
        y[i], dy[i] = z.value, z.partials[0]
        finite &= bounded(z)
    return finite


@jit(nogil=True)
def divide(kind, a, da, b, db, y, dy):
    """y = a / b and dy, along one direction. Returns whether all of it is finite."""
    finite = True
    for i in range(len(y)):
        z = Dual(a[i], (da[i],)) / Dual(b[i], (db[i],))
        y[i], dy[i] = z.value, z.partials[0]
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


def in_one_pass(name: str, a: np.ndarray, da: np.ndarray, b: np.ndarray, db: np.ndarray) -> tuple[Any, Any] | None:
    """The value of a product or quotient ("multiply", "divide") and its tangents along N directions, if all is finite.

    a and b have one shape, da and db (N, *shape); all are of one type.
    """
    if not COMPILED:
        return None
    y, dy, (kind, entry) = np.empty_like(a), np.empty_like(da), _entry(name, a.dtype, (1,) * 6)
    for along_a, along_b, along_y in zip(da, db, dy):
        if not entry(kind, *(x.reshape(-1) for x in (a, along_a, b, along_b, y, along_y))):
            return None
    return y, dy


def each_dyad(U: np.ndarray, Vh: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """u_i v_i^T for every i, (r, m, n), from U (m, r) and Vh (r, n), perhaps in `out`."""
    J = np.empty((*Vh.shape[:1], *U.shape[:1], *Vh.shape[1:]), U.dtype) if out is None else out
    kind, entry = _entry("dyads", U.dtype, (2, 2, 3))
    entry(kind, U, Vh, J)
    return J


KERNELS = {"multiply": multiply, "divide": divide, "dyads": dyads}


@functools.cache
def _entry(name: str, dtype: np.dtype[Any], axes: tuple[int, ...]) -> tuple[Kind, Any]:
    """A kernel for arrays of so many axes each; Numba's dispatcher would take some microseconds to find it."""
    kind, arrays = Kind(dtype, (1,)), (types.Array(from_dtype(dtype), n, "C") for n in axes)
    return kind, KERNELS[name].compile((kind.numba_type, *arrays))
