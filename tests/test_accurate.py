"""Jacobi after a pivoted QR: the text in plain Python, the kernel on packs of rows, and where the range ends."""

from __future__ import annotations

import cases
import mpmath
import numpy as np
import pytest

import dualsvd as ds
from dualsvd.kernels import cpu, householder, jacobi
from dualsvd.kernels.protocol import Buffer, like, real

DOUBLE = 2.0**-52
PROPER = cases.named(without=["empty", "nonfinite", "scaled"])


def number(x):
    return complex(x) if np.iscomplexobj(x) else float(x)


def columns(a):
    return Buffer([number(x) for x in a.T.reshape(-1)])


def matrix(buffer, m, n):
    return np.array([[buffer[j * m + i] for j in range(n)] for i in range(m)])


def tall(a):
    return a.conj().T.copy() if a.shape[0] < a.shape[1] else a


class Factored:
    """A tall matrix of order one through the text."""

    def __init__(self, a):
        m, n = a.shape
        size = np.maximum(np.abs(a.real), np.abs(a.imag))
        self.raises = raises = np.exp2([-np.frexp(x)[1] for x in size.max(axis=0)])
        self.sizes = (size * raises).max(axis=1)
        self.rows = [0] * m
        sizes = Buffer([float(x) for x in self.sizes])
        householder.order_rows(sizes, self.rows, m)
        self.A = columns((a * raises)[self.rows])
        x = self.A[0]
        self.W, self.d, self.tau = Buffer.zeros(m * n, x), Buffer.zeros(n, x), Buffer.zeros(n, x)
        norms, self.scale, self.pivots = Buffer.zeros(2 * n, 1.0), Buffer([float(1 / r) for r in raises]), [0] * n
        heights = Buffer([sizes[r] for r in self.rows])
        self.rank = householder.factor(
            self.A, self.W, self.d, self.tau, norms, self.scale, self.pivots, heights, m, m, n, 1
        )
        self.L, self.Y = Buffer.zeros(n * n, x), Buffer([like(x, float(i == j)) for j in range(n) for i in range(n)])
        householder.triangle(self.A, self.d, self.scale, self.L, self.rank, m, n, n)
        self.m, self.n = m, n

    def expanded(self):
        """Q Y with the rows where they were."""
        U = Buffer.zeros(self.m * self.n, self.A[0])
        householder.expand(
            self.W, self.tau, Buffer.zeros(self.n, self.tau[0]), self.Y, U, self.rank, self.m, self.n, self.n, 1
        )
        u = np.empty((self.m, self.n), np.array(U[0]).dtype)
        u[self.rows] = matrix(U, self.m, self.n)
        return u


@pytest.mark.parametrize("case", PROPER)
def test_the_triangle_is_that_of_the_matrix(case):
    a = tall(case.matrix())
    f = Factored(a)
    product = f.expanded() @ matrix(f.L, f.n, f.n).conj().T
    permuted = np.empty_like(product)
    permuted[:, f.pivots] = product
    # backward stable row by row, once the columns are of one height
    assert np.all(np.abs(permuted - a) * f.raises <= 20 * max(a.shape) * DOUBLE * f.sizes[:, None])
    u = f.expanded()
    np.testing.assert_allclose(u.conj().T @ u, np.eye(f.n), atol=10 * f.m * DOUBLE)


@pytest.mark.parametrize("case", cases.named("integer", without=["empty", "nonfinite"]))
def test_the_rank_of_integers_is_found(case):
    a = tall(case.matrix())
    assert Factored(a).rank == np.linalg.matrix_rank(a)


@pytest.mark.parametrize("case", cases.named(without=["empty", "nonfinite", "scaled", "graded"]))
def test_fronts_make_the_rotations_of_rows(case, monkeypatch):
    """One tile at a time in plain Python: another order of the same sweep, with the same bits."""
    monkeypatch.setattr(jacobi, "FEW", 0)  # scales are looked at when those of fronts are
    a = tall(case.matrix())
    a = np.pad(a, ((0, a.shape[1] % 2), (0, a.shape[1] % 2))) * 2.0**200
    m, n = a.shape
    results = []
    for fronts in (False, True):
        A, D, info = columns(a), Buffer.zeros(n, 1.0), Buffer.zeros(2, 1.0)
        V = Buffer([like(A[0], float(i == j)) for j in range(n) for i in range(n)])
        if fronts:
            R, C = Buffer.zeros(9, 1.0), Buffer.zeros(8, A[0])
            jacobi.converge_in_fronts(A, V, D, R, C, info, m, n, n, m, jacobi.MAX_SWEEPS, 1)
        else:
            jacobi.converge(A, V, D, info, m, n, n, jacobi.MAX_SWEEPS)
        results.append([*A, *V, *info])
    assert results[0] == results[1]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_rows_are_put_in_order(count, rng):
    sizes, rows = Buffer([float(x) for x in rng.integers(0, 9, count)]), [0] * count
    householder.order_rows(sizes, rows, count)
    assert sorted(rows) == list(range(count))
    assert [sizes[r] for r in rows] == sorted(sizes, reverse=True)


# ---------------------------------------------------------------------------------------------------------------------
# Compiled

SHAPES = [(1, 1), (1, 9), (9, 1), (2, 2), (3, 8), (15, 15), (16, 16), (17, 17), (33, 20), (20, 47), (64, 64), (90, 70)]


@pytest.mark.parametrize("m, n", SHAPES, ids=lambda k: str(k))
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_factors_of_every_size(m, n, dtype):
    a = np.stack([cases.normal(m, n, seed=k, dtype=dtype) for k in range(3)])
    a[1] = 0
    U, S, Vh, info = cpu.svd_accurate(a)
    assert info.clean and U.dtype == Vh.dtype == a.dtype and S.dtype == a.real.dtype
    bound, eye = 10 * max(m, n) * cases.eps(dtype), np.eye(min(m, n))
    np.testing.assert_allclose((U * S[:, None, :]) @ Vh, a, rtol=0, atol=bound * max(S.max(), 1))
    np.testing.assert_allclose(np.conj(U).swapaxes(1, 2) @ U, np.broadcast_to(eye, (3, *eye.shape)), atol=bound)
    np.testing.assert_allclose(Vh @ np.conj(Vh).swapaxes(1, 2), np.broadcast_to(eye, (3, *eye.shape)), atol=bound)
    assert np.all(np.diff(S, axis=1) <= 0) and np.all(S >= 0) and not S[1].any()


@pytest.mark.parametrize("digits", [0, 5, 30, 60])
@pytest.mark.parametrize("rows, across", [(True, True), (True, False), (False, True)], ids=["both", "rows", "columns"])
@pytest.mark.parametrize("m, n", [(6, 6), (9, 5), (4, 8)], ids=lambda k: str(k))
def test_values_of_graded_matrices_are_right_relative_to_themselves(m, n, digits, rows, across):
    a = cases.graded(m, n, digits, rows, across, seed=3)
    with mpmath.workdps(300):
        expected = [float(x) for x in mpmath.svd_r(mpmath.matrix(a.tolist()), compute_uv=False)]
    S = cpu.svd_accurate(a[None])[1][0]
    np.testing.assert_allclose(S, expected, rtol=1e-13)


@pytest.mark.parametrize("across", [160, 180, 200])
def test_directions_have_zeros_where_columns_are_raised_beyond_the_range(across):
    """A column of 1e-180 beside one of 1e180 is raised by more than any number is; the slopes are those of A^T."""
    a, d = np.array([[1.0, 2.0], [3.0, 1.0]]) * [10.0**across, 10.0**-across], np.array([[1.0, 0.0], [0.0, 0.0]])
    with ds.options(algorithm="jacobi"):
        slopes, transposed = (ds.jvp(ds.svdvals, (x,), (y,))[1] for x, y in ((a, d), (a.T, d.T)))
    np.testing.assert_allclose(slopes, transposed, rtol=1e-13)
    np.testing.assert_allclose(slopes[0], 1 / np.sqrt(10), rtol=1e-13)


@pytest.mark.parametrize("m, n, rank", [(20, 20, 3), (40, 30, 17), (30, 64, 29), (64, 64, 1)], ids=lambda k: str(k))
def test_what_a_matrix_lacks_in_rank_is_exactly_zero(m, n, rank, rng):
    a = (rng.integers(-3, 4, (m, rank)) @ rng.integers(-3, 4, (rank, n))).astype(float)
    S = cpu.svd_accurate(a[None])[1][0]
    assert not S[rank:].any() and S[rank - 1] > 1e-3


def test_what_spans_too_much_takes_the_long_way():
    a = np.stack([cases.normal(5, 5, seed=k) for k in range(4)])
    a[1] *= np.exp2([0.0, -200, -400, -600, -800])
    a[2] *= np.exp2([500.0, 0, 0, -400, 0])[:, None]
    a[3, 0, 0] = np.nan
    _, S, _, info = cpu.svd_accurate(a)
    assert info.nonfinite.tolist() == [False, False, False, True] and np.isnan(S[3]).all()
    for k in range(3):
        alone = cpu.svd_accurate(a[k : k + 1])
        assert alone[3].clean and np.array_equal(alone[1][0], S[k]) and S[k].all()
    with mpmath.workdps(600):
        expected = [float(x) for x in mpmath.svd_r(mpmath.matrix(a[1].tolist()), compute_uv=False)]
    np.testing.assert_allclose(S[1], expected, rtol=1e-13)


def test_real_parts_of_the_text_are_reals():
    assert isinstance(real(Factored(np.array([[1.0, 2j], [3, 4]])).tau[0]), float)
