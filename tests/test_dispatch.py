"""The dispatcher: every way gives the same factors and derivatives, at its crossovers and on both sides of them."""

from __future__ import annotations

import numpy as np
import pytest

import dualsvd as ds
from dualsvd.linalg import dispatch
from dualsvd.linalg.dispatch import way_for

#: shape of a stack -> who computes its factors and its values
WAYS = {
    (3, 5): ("lapack", "lapack"),
    (1, 3, 5): ("lapack", "lapack"),
    (3, 3, 5): ("lapack", "lapack"),
    (2, 2, 3, 5): ("packs", "lapack"),
    (2, 4, 5, 3): ("packs", "packs"),
    (7, 2, 2): ("lapack", "lapack"),
    (8, 2, 9): ("packs", "lapack"),
    (16, 9, 2): ("packs", "packs"),
    (3, 9, 9): ("lapack", "lapack"),
    (3, 10, 12): ("bidiagonal", "lapack"),
    (4, 10, 12): ("packs", "lapack"),
    (5, 20, 16): ("bidiagonal", "lapack"),
    (6, 20, 16): ("packs", "lapack"),
    (8, 16, 16): ("packs", "packs"),
    (9, 25, 30): ("bidiagonal", "packs"),
    (10, 25, 30): ("packs", "packs"),
    (16, 49, 50): ("bidiagonal", "packs"),
    (8, 64, 65): ("bidiagonal", "packs"),
    (31, 40): ("lapack", "lapack"),
    (40, 32): ("bidiagonal", "lapack"),
    (1, 40, 32): ("bidiagonal", "lapack"),
    (192, 200): ("bidiagonal", "lapack"),
    (2, 192, 193): ("bidiagonal", "lapack"),
    (8, 193, 193): ("lapack", "lapack"),
    (2, 20000, 64): ("lapack", "lapack"),
    (0, 3, 3): ("lapack", "lapack"),
    (100, 0, 3): ("lapack", "lapack"),
}


@pytest.mark.parametrize("shape", WAYS, ids=str)
def test_who_computes_what(shape):
    assert (way_for("factors", shape), way_for("values", shape)) == WAYS[shape]


@pytest.mark.parametrize("wanted", dispatch.PACKS)
def test_others_count_as_more_or_fewer_columns(wanted):
    shapes = [(64, n, n) for n in range(1, 256)]
    last = {t: max(s[-1] for s in shapes if way_for(wanted, s, t) == "packs") for t in "fdFD"}
    assert last == {t: int(last["d"] / times) for t, times in dispatch.COUNTS_AS[wanted].items()}


def test_single_matrices_by_type():
    largest = {t: max(n for n in range(1, 256) if way_for("factors", (n, n), t) == "bidiagonal") for t in "fdFD"}
    assert largest == {"f": 192, "d": 192, "F": 128, "D": 128}


@pytest.mark.parametrize("wanted", dispatch.PACKS)
def test_the_table_is_in_order(wanted):
    sizes = [largest for largest, _ in dispatch.PACKS[wanted]]
    assert sizes == sorted(set(sizes))


def nearest_isometry(x):
    U, _, Vh = ds.svd(x)
    return U @ Vh


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize(
    "shape", [s for s in WAYS if WAYS[s] != ("lapack", "lapack") and len(s) == 3 and max(s) < 100], ids=str
)
def test_all_ways_agree(shape, dtype, rng):
    """Values, and what does not depend on the phases of the vectors: the product of the factors, and a derivative."""
    a, d = rng.standard_normal((2, *shape, 2)).view(np.complex128)[..., 0]
    if dtype == np.float64:
        a, d = a.real.copy(), d.real.copy()
    results = {}
    for algorithm in ("auto", "lapack", "jacobi"):
        with ds.options(algorithm=algorithm):
            U, S, Vh = ds.svd(a)
            back = (U * S[..., None, :]) @ Vh
            dS = ds.jvp(ds.svdvals, (a,), (d,))[1]
            polar = ds.vjp(nearest_isometry, a)[1](d)[0]
        results[algorithm] = ds.svdvals(a, algorithm=algorithm), S, back, dS, polar
    gap = np.min(np.abs(np.diff(np.sort(S, axis=-1), axis=-1)) / S[..., :1], initial=1.0)
    for x, y, z in zip(*results.values()):
        size = np.max(np.abs(y))
        for other in (x, z):  # U alone is as well determined as the values are apart, which the derivative squares
            np.testing.assert_allclose(other, y, atol=size * 1e-14 * a.shape[-1] / gap, rtol=0)
