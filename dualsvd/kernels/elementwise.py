"""Products and quotients of arrays of duals, value and tangent in one pass.

NumPy goes through memory four times for a product, nine for a quotient, and memory is what they cost. Here each element
is a `Dual` and follows its rules. Where something is not finite NumPy has warnings to give, so it goes NumPy's way.

Imported on first use, for it imports Numba. Arrays are flat and contiguous, of real numbers.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import from_dtype, types

from ..dual import Dual
from .caching import jit
from .scalars import Kind
from .texts import inlined


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


KERNELS = {"multiply": multiply, "divide": divide}


def in_one_pass(name: str, a: np.ndarray, da: np.ndarray, b: np.ndarray, db: np.ndarray) -> tuple[Any, Any] | None:
    """The value and its tangents along N directions, if they are finite. a and b have one shape, da and db
    (N, *shape); all are contiguous and of one type."""
    y, dy, (kind, entry) = np.empty_like(a), np.empty_like(da), _entry(name, a.dtype)
    for along_a, along_b, along_y in zip(da, db, dy):
        if not entry(kind, *(x.reshape(-1) for x in (a, along_a, b, along_b, y, along_y))):
            return None
    return y, dy


@functools.cache
def _entry(name: str, dtype: np.dtype[Any]) -> tuple[Kind, Any]:
    """The kernel for numbers of that type; Numba's dispatcher would take some microseconds to find it."""
    kind, array = Kind(dtype, (1,)), types.Array(from_dtype(dtype), 1, "C")
    return kind, KERNELS[name].compile((kind.numba_type, *[array] * 6))
