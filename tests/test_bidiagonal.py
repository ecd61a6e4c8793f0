"""SVDs by way of a bidiagonal matrix: batches whose values alone are asked for, and the factors of single matrices."""

from __future__ import annotations

import cases
import numpy as np
import pytest

import dualsvd as ds
from dualsvd.errors import ConvergenceError, NonFiniteError
from dualsvd.kernels import bidiagonal, cpu, householder
from dualsvd.kernels.protocol import Buffer

DTYPES = pytest.mark.parametrize("dtype", cases.DTYPES)
#: both numbers of registers, whole packs and remainders; columns and rows more or less
SHAPES = pytest.mark.parametrize("m, n", [(25, 25), (40, 26), (27, 60), (64, 64), (90, 85)], ids=lambda k: str(k))
BATCH = 37


def stack(m, n, dtype):
    """Matrices of every kind that an iteration may trip over, as far as they have these sizes, scaled to any size."""
    r, rng = min(m, n), np.random.default_rng(m * n)

    def with_values(S):
        return cases.spectrum(m, n, S, seed=len(S), dtype=dtype)

    def bidiagonal_of(d, e):
        B = np.zeros((m, n))
        B[range(r), range(r)], B[range(r - 1), range(1, r)] = d, e[1:]
        return B

    ones, down = np.ones(r), np.logspace(0, -14, r)
    holes = np.where(np.arange(r) % 5 == 2, 0.0, 1.0)
    kinds = [
        np.zeros((m, n)),
        np.eye(m, n),
        np.ones((m, n)),
        rng.integers(-1, 2, (m, n)),
        np.triu(np.ones((m, n))),
        with_values(ones),
        with_values(down),
        with_values(np.where(np.arange(r) < r // 2, 1.0, 1e-9)),
        with_values(np.where(np.arange(r) < r // 3, 1.0, 0.0)),
        bidiagonal_of(ones, ones),
        bidiagonal_of(holes, ones),
        bidiagonal_of(ones, holes),
        bidiagonal_of(down, down),
        bidiagonal_of(down[::-1], down[::-1]),
        cases.normal(m, n, dtype=dtype) * np.logspace(0, -12, n),
        cases.normal(m, n, dtype=dtype) * np.logspace(-12, 0, m)[:, None],
    ]
    tiny = np.finfo(dtype).minexp // 2
    scales = [1.0, 2.0**tiny, 2.0**-tiny]
    kinds += [cases.normal(m, n, seed=k, dtype=dtype) for k in range(8)]
    return np.array([kinds[k % len(kinds)] * scales[k % len(scales)] for k in range(BATCH)], dtype=dtype)


@DTYPES
@SHAPES
def test_values_are_those_of_lapack(m, n, dtype):
    """To the backward error of two ways: a few eps of s_1 sqrt(n)."""
    a = stack(m, n, dtype)
    S, info = cpu.svdvals(a)
    assert info.clean and not info.unconverged.any()
    size = np.abs(a).max(axis=(1, 2), keepdims=True)
    size[size == 0] = 1
    exact = np.linalg.svd((a / size).astype(np.result_type(dtype, np.float64)), compute_uv=False)
    assert np.all(np.diff(S) <= 0) and np.all(S >= 0)
    bound = 8 * cases.eps(S) * np.sqrt(m + n) * exact[:, :1]
    assert np.all(np.abs(S / size[..., 0] - exact) <= bound)


@DTYPES
@SHAPES
def test_what_neighbours_do_is_their_own_affair(m, n, dtype, rng):
    """The same bits in any order, in any number, in two threads; and NaN for a matrix with NaN in it, and no other."""
    a = stack(m, n, dtype)
    S, info = cpu.svdvals(a)
    order = rng.permutation(BATCH)
    again, other = cpu.svdvals(a[order])
    assert np.array_equal(again, S[order]) and np.array_equal(other.sweeps, info.sweeps[order])
    assert np.array_equal(cpu.svdvals(a[:5])[0], S[:5])
    assert np.array_equal(cpu.svdvals(a, threads=2)[0], S)
    ill = a.copy()
    ill[[3, BATCH - 1], -1, -1] = np.nan, np.inf
    spoilt, info = cpu.svdvals(ill)
    assert np.flatnonzero(info.nonfinite).tolist() == [3, BATCH - 1] and np.isnan(spoilt[[3, BATCH - 1]]).all()
    healthy = np.delete(np.arange(BATCH), [3, BATCH - 1])
    assert np.array_equal(spoilt[healthy], S[healthy])


@DTYPES
@pytest.mark.parametrize("n", [25, 32])
def test_what_is_tied_comes_to_rest(n, dtype, rng):
    """Between equal values a sweep leaves an eps or two, whatever the shift: projectors, orthogonal matrices, two
    values of many, and identities that are off by some eps."""
    count, half = 400, np.arange(n) < n // 2
    U, V = (
        np.linalg.qr(cases.normal(count, n, n, seed=k, dtype=dtype).astype(np.result_type(dtype, float)))[0]
        for k in (0, 1)
    )
    spectra = np.array([np.ones(n), half, np.where(half, 1, 1e-3), np.r_[1.0, np.linspace(1, 0.1, n - 1)]])
    S = spectra[np.arange(count) % 4] * np.exp2(rng.integers(-9, 9, (count, 1)))
    nearly = np.stack([np.eye(n)] * 64).astype(dtype)
    nearly[:, 0, 1] = rng.uniform(0, 8, 64) * np.finfo(dtype).eps
    nearly[::2, 5, 5], nearly[::2, 7, 8] = 0, nearly[::2, 0, 1]
    still = np.stack([np.eye(n)] * 64).astype(dtype)  # where the smaller value of the last two columns is no shift
    still[:, 0, 0], still[:, 0, 1], still[:, 1, 1] = np.logspace(-5, -1, 64), 0.5**0.5, 0.5**0.5
    still[:, 1, 2] = 10.0 ** rng.uniform(0, 5, 64) * np.finfo(dtype).eps
    for a in ((U * S[:, None]) @ V, (U * S[:, None]) @ U.conj().swapaxes(1, 2), nearly, still):
        a = a.astype(dtype)
        found, info = cpu.svdvals(a)
        assert info.clean and info.sweeps.max() <= 4 * n
        assert not np.signbit(found).any()
        exact = np.linalg.svd(a.astype(np.result_type(dtype, float)), compute_uv=False)
        assert np.all(np.abs(found - exact) <= 40 * cases.eps(found) * exact[:, :1])


def test_a_bound_too_low_is_reported():
    a = np.stack([cases.normal(28, 28), np.eye(28), cases.normal(28, 28, seed=1)])
    S, info = cpu.svdvals(a, limit=1)
    assert info.unconverged.tolist() == [True, False, True]
    assert (info.off_norm[[0, 2]] > 1e-6).all() and info.off_norm[1] == 0
    assert np.array_equal(S[1], np.ones(28))


def test_the_public_function(monkeypatch):
    """Options, stacks, outputs, and errors, with what is told in them."""
    a = stack(30, 28, "float64")[:24].reshape(2, 12, 30, 28)
    S = ds.svdvals(a)
    assert np.array_equal(S.reshape(24, -1), cpu.svdvals(a.reshape(24, 30, 28))[0])
    out = np.empty_like(S)
    assert ds.svdvals(a, out=out) is out and np.array_equal(out, S)
    some = np.empty((5, 28))
    assert np.array_equal(ds.svdvals(a[0, :6], out=np.empty((6, 28))), S[0, :6])
    assert np.array_equal(cpu.svdvals(a[0, :5], out=some)[0], S[0, :5]) and np.array_equal(some, S[0, :5])
    assert np.array_equal(ds.svdvals(a[:, :, ::-1].transpose(0, 1, 3, 2)), ds.svdvals(a[:, :, ::-1].mT.copy()))
    a[1, 2, 0, 0] = np.nan
    with pytest.raises(NonFiniteError, match=r"\(1, 2, 0, 0\) in 1 of 24 matrices"):
        ds.svdvals(a)
    with ds.options(nonfinite="propagate"):
        assert np.isnan(ds.svdvals(a)[1, 2]).all() and np.array_equal(ds.svdvals(a)[0], S[0])
    limited = cpu.svdvals
    monkeypatch.setattr(cpu, "svdvals", lambda *args, **kwargs: limited(*args, limit=1, **kwargs))
    with pytest.raises(ConvergenceError, match=r"in 2\d sweeps: off-norm .* for matrix 3 of 12; .*lapack"):
        ds.svdvals(a[0])


#: shapes whose columns fill packs of rows, and do not; one column, one row
FACTORED = pytest.mark.parametrize(
    "m, n",
    [
        *((1, 1), (1, 5), (9, 1), (2, 2), (3, 2), (2, 3), (8, 8), (17, 3), (16, 15), (12, 10), (10, 33)),
        *((64, 64), (61, 47), (90, 19), (192, 192)),
    ],
    ids=lambda k: str(k),
)


def check_factors(a, U, S, Vh, slack):
    """U, S, Vh are an SVD of a stack, to `slack` eps sqrt(m + n): a backward error."""
    m, n = a.shape[1:]
    size = np.abs(a).max(axis=(1, 2), keepdims=True)
    size[size == 0] = 1
    unit, s = (a / size).astype(np.result_type(a, float)), S / size[..., 0].astype(float)
    exact = np.linalg.svd(unit, compute_uv=False)
    bound = slack * cases.eps(S) * np.sqrt(m + n)
    assert np.all(np.diff(S) <= 0) and np.all(S >= 0) and not np.signbit(S).any()
    assert np.all(np.abs(s - exact) <= bound * exact[:, :1])
    U, Vh = U.astype(unit.dtype), Vh.astype(unit.dtype)
    assert np.all(np.abs((U * s[:, None]) @ Vh - unit) <= bound * exact[:, :1, None])
    eye = np.eye(min(m, n))
    assert np.all(np.abs(U.conj().swapaxes(1, 2) @ U - eye) <= bound)
    assert np.all(np.abs(Vh @ Vh.conj().swapaxes(1, 2) - eye) <= bound)


@DTYPES
@FACTORED
def test_factors_are_an_svd(m, n, dtype):
    """Of every kind of matrix. Single precision is computed in double, and rounded."""
    a = stack(m, n, dtype)
    U, S, Vh, info = cpu.svd_bidiagonal(a)
    assert info.clean and not info.unconverged.any()
    assert U.dtype == Vh.dtype == a.dtype and S.dtype == a.real.dtype
    check_factors(a, U, S, Vh, 8)


@DTYPES
def test_factors_do_not_depend_on_what_is_beside(dtype):
    """Nor on threads, nor on what memory held before; a matrix with NaN in it gives NaN, and no other does."""
    a = stack(27, 21, dtype)
    whole = cpu.svd_bidiagonal(a)
    litter = [np.full(k, np.nan) for k in (500, 5000, 50000)]
    del litter
    for x, y in zip(whole[:3], cpu.svd_bidiagonal(a, threads=2)[:3]):
        assert np.array_equal(x, y)
    for x, y in zip(whole[:3], cpu.svd_bidiagonal(a[5:6])[:3]):
        assert np.array_equal(x[5:6], y)
    a[[3, BATCH - 1], -1, -1] = np.nan, np.inf
    *spoilt, info = cpu.svd_bidiagonal(a)
    assert np.flatnonzero(info.nonfinite).tolist() == [3, BATCH - 1]
    for x, y in zip(whole[:3], spoilt):
        assert np.isnan(y[[3, BATCH - 1]]).all()
        assert np.array_equal(np.delete(y, [3, BATCH - 1], 0), np.delete(x, [3, BATCH - 1], 0))


def test_where_factors_are_put_and_what_is_told_of_them():
    a = stack(14, 11, "float64")[:6]
    U, S, Vh, _ = cpu.svd_bidiagonal(a)
    out = np.empty_like(U), np.empty_like(S), np.empty_like(Vh)
    assert all(x is y for x, y in zip(cpu.svd_bidiagonal(a, out=out), out))
    assert all(np.array_equal(x, y) for x, y in zip(out, (U, S, Vh)))
    a = np.stack([cases.normal(28, 28), np.eye(28), cases.normal(28, 28, seed=1)])
    U, S, Vh, info = cpu.svd_bidiagonal(a, limit=1)
    assert info.unconverged.tolist() == [True, False, True]
    assert (info.off_norm[[0, 2]] > 1e-6).all() and info.off_norm[1] == 0
    assert np.array_equal(U[1], np.eye(28)) and np.array_equal(S[1], np.ones(28))
    for shape in ((0, 40, 40), (3, 40, 0)):
        U, S, Vh, info = cpu.svd_bidiagonal(np.zeros(shape))
        assert U.shape == (*shape[:2], min(shape[1:])) and Vh.shape == (shape[0], min(shape[1:]), shape[2])
        assert S.shape == U.shape[::2] and info.clean


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_the_factors_of_one_matrix(dtype):
    """Publicly: options, full matrices, refinement, outputs, errors, by the names of NumPy too."""
    a = cases.normal(40, 36, dtype=dtype)
    U, S, Vh = ds.svd(a)
    for x, y in zip((U, S, Vh), cpu.svd_bidiagonal(a[None])):
        assert np.array_equal(x, y[0])
    check_factors(a[None], U[None], S[None], Vh[None], 8)
    full = ds.svd(a, full_matrices=True)
    assert full.U.shape == (40, 40) and np.allclose(full.U.conj().T @ full.U, np.eye(40), atol=1e-13)
    assert np.array_equal(full.U[:, :36], U)
    fine = ds.svd(a, refine=1)
    check_factors(a[None], *(x[None] for x in fine), 8)
    for other in (a, a.astype(dtype.replace("64", "32").replace("128", "64"))):
        out = tuple(np.empty_like(x) for x in ds.svd(other))
        given = ds.svd(other, out=out)
        assert all(x is y and np.array_equal(x, z) for x, y, z in zip(given, out, ds.svd(other)))
    out = ds.svd(np.zeros_like(a))
    assert ds.svd(a.T.copy().T, out=out) is not None and np.array_equal(out.U, U) and np.array_equal(out.S, S)
    a[2, 3] = np.nan
    with pytest.raises(NonFiniteError, match=r"\(2, 3\)"):
        ds.svd(a)
    with ds.options(nonfinite="propagate"):
        assert all(np.isnan(x).all() for x in ds.svd(a))


@pytest.mark.parametrize("z", [1.0, 1j], ids=["real", "complex"])
@pytest.mark.parametrize("keep", [0, 1])
def test_the_text_in_plain_python(z, keep):
    """B has the norm and the determinant of A, and A A^H the characteristic polynomial; with the reflectors and the
    rotations kept, they give A."""
    m, n, rng = 7, 5, np.random.default_rng(2)
    a = rng.standard_normal((m, n)) / 4 + (z - 1.0) * rng.standard_normal((m, n)) / 4
    a = a.astype(type(z))

    def room(count, zero=0 * z):
        return Buffer.zeros(count, zero)

    A, U, V, D, E = Buffer(a.T.ravel().tolist()), room(m * n), room(n * n), room(n, 0.0), room(n + 1, 0.0)
    tau, upsilon, X, Y, info = room(n), room(n), *(Buffer(np.eye(n).ravel().tolist()) for _ in range(2)), room(2, 0.0)
    bidiagonal.reduce(A, U, V, D, E, tau, upsilon, room(m), room(m), room(n), room(n), m, n, n, 1, keep)
    B = np.diag(list(D)) + np.diag(list(E)[1:n], 1)
    assert np.allclose(np.poly(B.T @ B), np.poly(a.conj().T @ a), rtol=1e-13)
    bidiagonal.diagonalise(D, E, X, Y, info, keep * n, n, 40)
    assert np.allclose(list(D), np.linalg.svd(a, compute_uv=False), rtol=1e-14)
    assert 3 <= info[0] < 40
    if keep:
        left, right = room(m * n), room(n * n)
        householder.expand(U, tau, room(n // 2 + 1), Y, left, n, m, n, n, 1)
        householder.expand(V, upsilon, room(n // 2 + 1), X, right, n, n, n, n, 1)
        left, right = np.reshape(list(left), (n, m)).T, np.reshape(list(right), (n, n)).T
        assert np.allclose(left * list(D) @ right.conj().T, a, atol=1e-14)


def test_a_row_without_its_diagonal_is_cleared():
    """Two of them in one block, and one at its end, which a sweep without a shift brings out."""
    n, tolerance = 7, 1e-15
    D, E = Buffer([3.0, 0.0, 2.0, 1e-16, 1.0, 2.0, 0.0]), Buffer([0.0, *[1.0] * (n - 1), 0.0])
    S = np.linalg.svd(np.diag(list(D)) + np.diag(list(E)[1:n], 1), compute_uv=False)
    before, Y = np.diag(list(D)) + np.diag(list(E)[1:n], 1), Buffer(np.eye(n).ravel().tolist())
    assert bidiagonal.settle(D, E, tolerance, n)
    bidiagonal.clear_rows(D, E, Y, tolerance, n, n)
    assert not bidiagonal.settle(D, E, tolerance, n)
    assert D[1] == E[2] == 0
    cleared = np.diag(list(D)) + np.diag(list(E)[1:n], 1)
    assert np.allclose(np.reshape(list(Y), (n, n)).T @ cleared, before, atol=1e-15)
    assert np.allclose(np.linalg.svd(cleared, compute_uv=False), S, atol=1e-15)
    D[n - 1] = 0.0
    busy, begin, f, g = bidiagonal.lowest_block(D, E, n)
    assert busy and begin >= 2 and f == D[int(begin)] and g == E[int(begin) + 1]
    bidiagonal.chase(D, E, D, D, begin, f, g, 0, n)
    assert abs(E[n - 1]) <= tolerance
