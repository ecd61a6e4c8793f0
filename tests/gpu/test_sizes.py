"""Sizes from 1 to 64, tall and wide: a shape of each way in which kernels are launched, and slowly every ninth size.

A shape has kernels of its own, each a quarter of a minute to compile, translate and execute.
"""

from __future__ import annotations

import numpy as np
import pytest

import dualsvd as ds
from dualsvd.cuda.arrays import LARGEST
from dualsvd.cuda.validation import gauge_free

from . import toolchain
from .conftest import SIMULATED
from .driver import SHARED_IF_ASKED
from .test_device import CARRIED, FACTOR, bound, check, conditions, per_matrix, product, sized

if SIMULATED:
    pytest.skip("the simulator takes minutes for a large matrix", allow_module_level=True)
pytest.importorskip("numba_cuda", reason=toolchain.missing() or "")

from dualsvd.kernels.cuda import SHARED_BYTES, plan

MATRICES = 2


# ---- the ways


def ways(dtype, m, n):
    """For each operation how many threads share a matrix; for one type, tall or wide, also where the matrix lies."""
    for operation in ("svd", "svdvals", "pushforward", "pullback", "dual"):
        if operation == "dual" and dtype.startswith("complex"):
            continue
        chosen = plan(operation, dtype, m, n, 2 if operation == "dual" else 0, SHARED_IF_ASKED)
        memory = "shared" if chosen.shared <= SHARED_BYTES else "shared if asked"
        memory = memory if chosen.shared else "global" if chosen.workspace else "registers"
        crowd = "part of a warp" if chosen.team < 32 else "a warp" if chosen.team == 32 else "warps"
        yield operation, "a thread" if chosen.team == 1 else crowd
        if dtype == "float64":
            yield operation, memory, m < n


def shapes(dtype):
    """A few shapes, preferably small, that together are launched in every way."""
    sides = range(1, LARGEST + 1)
    taken = {(m, n): set(ways(dtype, m, n)) for m in sides for n in sides}
    missing = set().union(*taken.values())

    def worth(shape):
        m, n = shape
        return len(taken[shape] & missing) / (4000 + m * n * min(m, n)), -m * n

    while missing:
        best = max(taken, key=worth)
        missing -= taken[best]
        yield best


def one_of_each_way():
    for dtype in ("float64", "float32", "complex64", "complex128"):
        for m, n in shapes(dtype):
            quick = dtype == "float64" and m * n * min(m, n) < 20000
            yield pytest.param(m, n, dtype, id=f"{m}x{n} {dtype}", marks=() if quick else pytest.mark.slow)


def some_sizes():
    for n in range(1, LARGEST + 1, 9):
        yield pytest.param(n, LARGEST + 1 - n, id=f"{n}x{LARGEST + 1 - n}")


# ---- what is asked of each


def generic(m, n, dtype, count=MATRICES):
    rng = np.random.default_rng([m, n])

    def draw():
        x = rng.standard_normal((count, m, n))
        return (x + 1j * rng.standard_normal(x.shape) if dtype.startswith("complex") else x).astype(dtype)

    return draw(), np.stack([draw(), draw()]), rng


def check_factors(a):
    U, S, Vh = ds.cuda.svd(a)
    check(per_matrix(product(U, S, Vh, sized(a)) - a / sized(a)[:, None, None]), "ab", bound(a))
    check(per_matrix(np.conj(U.swapaxes(1, 2)) @ U - np.eye(S.shape[1])), "ab", bound(a))
    check(per_matrix(Vh @ np.conj(Vh.swapaxes(1, 2)) - np.eye(S.shape[1])), "ab", bound(a))
    check(per_matrix(ds.cuda.svdvals(a) - S) / S[:, 0], "ab", bound(a))
    return U, S, Vh


@pytest.mark.parametrize(("m", "n", "dtype"), list(one_of_each_way()))
def test_every_way_of_launching(m, n, dtype, device):
    a, da, rng = generic(m, n, dtype)
    U, S, Vh = check_factors(a)
    ease = 1 / conditions(a) ** 2
    closed = ds.cuda.svd_jvp(a, da)
    scale = (S[:, :1, None], 1.0, S[:, :1, None])
    for x, expected, unit in zip(closed, ds.linalg.svd_pushforward(U, S, Vh, da), scale):
        for j in range(len(da)):
            check(per_matrix((x - expected)[j] * unit) * ease / sized(da[j]), "ab", bound(a, 10 * FACTOR))
    bars = gauge_free((U, S, Vh), *(rng.standard_normal(x.shape).astype(x.dtype) for x in (U, S, Vh)))
    pulled, expected = ds.cuda.svd_vjp(a, *bars), ds.linalg.svd_pullback(U, S, Vh, *bars)
    check(per_matrix(pulled - expected) * ease * S[:, 0], "ab", bound(a, 10 * FACTOR))
    if not dtype.startswith("complex"):
        y = ds.cuda.svd_dual(ds.DualArray(a, da))
        for j in range(len(da)):
            errors = per_matrix(y.S.partials[j] - closed[1][j]) * ease / sized(da[j])
            check(errors, "ab", bound(a, CARRIED))


@pytest.mark.slow
@pytest.mark.parametrize(("m", "n"), list(some_sizes()))
def test_every_ninth_size(m, n, device):
    """The factors of m x n and of m x m, and the derivatives of m x n by all ways."""
    check_factors(generic(m, m, "float64", 1)[0])
    test_every_way_of_launching(m, n, "float64", device)
