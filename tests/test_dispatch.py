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
    (2, 16, 20): ("rows", "lapack"),
    (7, 32, 16): ("rows", "lapack"),
    (8, 24, 30): ("packs", "lapack"),
    (6, 25, 30): ("rows", "packs"),
    (8, 16, 16): ("packs", "packs"),
    (5, 33, 40): ("lapack", "lapack"),
    (8, 33, 40): ("packs", "packs"),
    (16, 41, 41): ("packs", "packs"),
    (15, 49, 50): ("lapack", "packs"),
    (16, 64, 65): ("packs", "packs"),
    (7, 65, 66): ("lapack", "lapack"),
    (8, 65, 70): ("lapack", "packs"),
    (8, 193, 193): ("lapack", "lapack"),
    (0, 3, 3): ("lapack", "lapack"),
    (100, 0, 3): ("lapack", "lapack"),
}


@pytest.mark.parametrize("shape", WAYS, ids=str)
def test_who_computes_what(shape):
    assert (way_for("factors", shape), way_for("values", shape)) == WAYS[shape]


@pytest.mark.parametrize("wanted", dispatch.PACKS)
def test_complex_matrices_count_as_larger(wanted):
    shapes = [(64, n, n) for n in range(1, 256)]
    last = {z: max(s[-1] for s in shapes if way_for(wanted, s, z) == "packs") for z in (False, True)}
    assert last[True] == int(last[False] / dispatch.COMPLEX[wanted])


@pytest.mark.parametrize("wanted", dispatch.PACKS)
def test_the_table_is_in_order(wanted):
    sizes = [largest for largest, _ in dispatch.PACKS[wanted]]
    assert sizes == sorted(set(sizes))


def nearest_isometry(x):
    U, _, Vh = ds.svd(x)
    return U @ Vh


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("shape", [s for s in WAYS if WAYS[s] != ("lapack", "lapack") and len(s) == 3], ids=str)
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
