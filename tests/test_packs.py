"""Batches through SIMD packs: a matrix does not notice which matrices share its register, or how many threads run."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading

import cases
import numpy as np
import pytest

import dualsvd as ds
from dualsvd.kernels import cpu
from dualsvd.kernels.compiled import FAR_APART, NEAR_BY

LANES = {"float32": 32, "float64": 16, "complex64": 16, "complex128": 8}  # of the widest registers there are
DTYPES = pytest.mark.parametrize("dtype", cases.DTYPES)
SHAPES = pytest.mark.parametrize("m, n", [(3, 3), (5, 2), (2, 6), (9, 9)], ids=lambda k: str(k))


def batch(count, m, n, dtype):
    """Healthy matrices, with one that is zero, one deficient (slow) and one graded among them."""
    a = np.stack([cases.normal(m, n, seed=k, dtype=dtype) for k in range(count)])
    a[2 % count] = 0
    a[5 % count] = np.ones((m, n))
    a[7 % count] *= np.exp2(-8 * np.arange(n)).astype(dtype)
    return a


def same(left, right):
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(left, right))


@DTYPES
@SHAPES
def test_neighbours_do_not_matter(m, n, dtype, rng):
    a = batch(3 * LANES[dtype] + 5, m, n, dtype)
    order = rng.permutation(len(a))
    U, S, Vh, info = cpu.svd(a)
    assert same(cpu.svd(a[order])[:3], (U[order], S[order], Vh[order]))
    assert np.array_equal(cpu.svd(a[order])[3].sweeps, info.sweeps[order])


@DTYPES
@pytest.mark.parametrize("n", [2, 3, 4, 5, 8])
def test_neighbours_do_not_matter_to_the_signs_of_zeros(n, dtype, rng):
    """A rotation run for a neighbour's sake is by zero, and leaves -0.0 as it is: complex angles tell."""
    a = rng.standard_normal((2, LANES[dtype], n, n)).astype(dtype)
    if np.iscomplexobj(a):
        a[1] += 1j * a[1][::-1]
    a[1, 0] = a[0, 0]
    for alone, beside in zip(cpu.svd(np.stack([a[0, 0]] * LANES[dtype]))[:3], cpu.svd(a[1])[:3]):
        assert alone[0].tobytes() == beside[0].tobytes()


@DTYPES
def test_every_number_of_lanes(dtype):
    a = batch(LANES[dtype] + 3, 4, 3, dtype)
    whole = cpu.svd(a)[:3]
    for count in range(cpu.MIN_PER_PACK, len(a)):
        assert same(cpu.svd(a[:count])[:3], (x[:count] for x in whole))


@pytest.mark.parametrize("n", [3, 30])
def test_as_much_is_told_as_there_are_matrices(n):
    a = batch(5, n, n, "float64")
    for out in (None, np.empty((5, n))):
        assert len(cpu.svdvals(a, out=out)[1].sweeps) == 5
    for out in (None, cpu.svd(a)[:3]):
        assert len(cpu.svd(a, out=out)[3].sweeps) == 5


@DTYPES
@SHAPES
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_matrix_that_is_not_finite_spoils_nobody(m, n, dtype, poison):
    a = batch(LANES[dtype] + 4, m, n, dtype)
    healthy = cpu.svd(a)
    ill = [1, LANES[dtype], len(a) - 1]
    b = a.copy()
    b[ill, -1, 0] = poison
    U, S, Vh, info = cpu.svd(b)
    rest = np.setdiff1d(np.arange(len(a)), ill)
    assert np.array_equal(np.flatnonzero(info.nonfinite), ill)
    assert all(np.isnan(x[ill]).all() for x in (U, S, Vh))
    assert same((U[rest], S[rest], Vh[rest]), (x[rest] for x in healthy[:3]))
    assert not info.unconverged.any()


@DTYPES
def test_packs_and_single_matrices_agree(dtype):
    a = batch(LANES[dtype] + 1, 6, 4, dtype)
    _, S, _, _ = cpu.svd(a)
    alone = np.concatenate([cpu.svd(a[k : k + 1])[1] for k in range(len(a))])
    np.testing.assert_allclose(S, alone, rtol=0, atol=40 * cases.eps(S) * S.max())


@DTYPES
@SHAPES
def test_values_alone_are_the_values(m, n, dtype):
    a = batch(20, m, n, dtype)
    S, info = cpu.svdvals(a)
    assert np.array_equal(S, cpu.svd(a)[1])
    assert not info.unconverged.any()


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(threads):
    a = batch(6000, 3, 4, "float64")  # enough work for three
    assert same(cpu.svd(a, threads=threads)[:3], cpu.svd(a)[:3])
    da = np.stack([cases.direction(a.shape, seed=k) for k in range(2)])
    assert same(cpu.svd_sweeps(a, da, threads=threads)[:6], cpu.svd_sweeps(a, da)[:6])
    U, S, Vh, _ = cpu.svd(a)
    assert same(cpu.svd_pushforward(U, S, Vh, da, threads=threads)[0], cpu.svd_pushforward(U, S, Vh, da)[0])


@DTYPES
def test_a_slow_matrix_takes_its_own_sweeps(dtype):
    a = np.broadcast_to(np.eye(3), (LANES[dtype], 3, 3)).astype(dtype)
    a[3] = [[-1, -1, -1], [-1, -1, -1], [-1, 1, -1]]  # deficient: rotates rounding errors for a while
    _, _, _, info = cpu.svd(a)
    assert info.sweeps[3] > 4
    assert (np.delete(info.sweeps, 3) == 1).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("m, n", [(1, 1), (2, 2), (24, 24), (64, 64), (65, 65), (60, 20)], ids=lambda k: str(k))
def test_sizes_on_both_sides_of_the_limit(m, n, dtype):
    a = batch(9, m, n, dtype)
    U, S, Vh, _ = cpu.svd(a)
    assert np.abs((U * S[:, None]) @ Vh - a).max() <= 10 * max(m, n) * cases.eps(a) * S.max()


def test_what_is_fetched_ahead_changes_no_bit(rng):
    """Large batches are fetched ahead, and many directions of them taken some at a time."""
    a, da = rng.standard_normal((2001, 3, 4)), rng.standard_normal((60, 2001, 3, 4))
    U, S, Vh, _ = cpu.svd(a)
    together, whole = cpu.svd_pushforward(U, S, Vh, da)
    assert whole and da.size > FAR_APART > da[:10].size and da[:, 0].size > NEAR_BY
    for k in range(0, 60, 10):
        for x, y in zip(together, cpu.svd_pushforward(U, S, Vh, da[k : k + 10])[0]):
            np.testing.assert_array_equal(x[k : k + 10], y)

    large = rng.standard_normal((24_000, 3, 4))
    assert large.size > FAR_APART > large[:12_000].size
    factors = cpu.svd(large)[:3]
    bars = [rng.standard_normal(x.shape) for x in factors]
    a_bar = cpu.svd_pullback(*factors, *bars)[0]
    for half in (slice(12_000), slice(12_000, None)):
        for x, y in zip(factors, cpu.svd(large[half])):
            np.testing.assert_array_equal(x[half], y)
        near = cpu.svd_pullback(*(x[half] for x in (*factors, *bars)))[0]
        np.testing.assert_array_equal(a_bar[half], near)


def test_threads_that_cannot_start_are_an_error(monkeypatch, rng):
    """The pool has queued the part by then, and another thread may be at work on it: it must not be done twice."""

    def start(self):
        raise RuntimeError("can't start new thread")

    cpu._pool.cache_clear()
    monkeypatch.setattr(threading.Thread, "start", start)
    with ds.options(threads=2), pytest.raises(RuntimeError, match="start new thread"):
        ds.svd(rng.standard_normal((100_000, 4, 4)))
    cpu._pool.cache_clear()


@pytest.mark.parametrize("batch", [50, 200_000], ids=["one thread", "both"])
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_threads_that_outlive_the_main_one_go_on(batch, warm):
    """Python's pools take no work by then; NumPy's SVD and Numba's functions work."""
    code = f"""
        import threading, numpy as np, dualsvd as ds
        def work():
            threading.main_thread().join()
            with ds.options(threads=2):
                print(ds.svdvals(np.ones(({batch}, 3, 3))).sum().round(6))
        {"ds.svdvals(np.ones((9, 3, 3)))" if warm else ""}
        threading.Thread(target=work).start()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.stdout.split() == [f"{3.0 * batch}"], done.stderr
