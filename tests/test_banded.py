"""The top of a symmetric band matrix, and rows of its resolvent, against LAPACK's eigenvalues and an inverse."""

from __future__ import annotations

import numpy as np
import pytest

from dualsvd.kernels import banded

EPS = np.finfo(float).eps


def kinds(n: int, b: int) -> dict[str, np.ndarray]:
    """Lower triangles of symmetric matrices with b diagonals below the main one, of several kinds, some with a tie."""
    rng = np.random.default_rng(n + b)
    at = np.subtract.outer(np.arange(n), np.arange(n))
    band = np.where((at >= 0) & (at <= b), rng.standard_normal((n, n)), 0.0)
    tied = np.diag(np.r_[5.0, 5.0, rng.uniform(0, 4, n - 2)])
    like_lanczos = np.diag(np.linspace(2, 1, n)) + np.diag(np.full(n - b, 0.5), -b)
    return {
        "random": band,
        "nearly diagonal": np.diag(np.arange(1.0, n + 1)) + 1e-9 * band,
        "graded": np.diag(np.logspace(0, -12, n)) + np.tril(np.diag(np.logspace(-2, -13, n - 1), -1)),
        "a tie": tied,
        "nearly a tie": tied - np.diag(np.r_[0.0, 1e-12, np.zeros(n - 2)]),
        "as of a Krylov process": like_lanczos,
        "large": 1e60 * (band + 9 * np.eye(n)),
        "small": 1e-60 * (band + 9 * np.eye(n)),
    }


SIZES = pytest.mark.parametrize("n, b", [(3, 1), (12, 2), (31, 3), (110, 2)])


@SIZES
def test_the_top_is_that_of_lapack(n: int, b: int) -> None:
    for kind, T in kinds(n, b).items():
        values, S = np.linalg.eigh(T)
        size = np.abs(values).max()
        for both in (False, True):
            first, second, v = banded.top_pair(T, b, np.ones(n), both)
            assert abs(first - values[-1]) <= 16 * EPS * size, kind
            assert abs(v @ v - 1) <= 8 * EPS, kind
            outside = (T + np.tril(T, -1).T) / size @ v - first / size * v
            assert np.abs(outside).max() <= 16 * EPS, kind
            if not both:
                assert second == first, kind
            else:
                assert second <= values[-2] + 16 * EPS * size, kind
                if values[-1] - values[-2] <= 1e-9 * size:
                    assert abs(second - values[-2]) <= 16 * EPS * size, kind
                else:
                    assert second < values[-1] - 1e-9 * size, kind
                    assert abs(v @ S[:, -1]) >= 1 - 8 * EPS, kind


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 1e-10, 3e-11, 1e-11])
def test_vectors_of_values_that_a_certificate_tells_apart_are_not_mixed(gap: float) -> None:
    """Two halves with the same values but for a factor: the vector of the top has nothing in the second."""
    n = 31
    half = np.diag(np.linspace(1, 2, n)) + np.diag(np.full(n - 2, 0.25), -2)
    T = np.zeros((2 * n, 2 * n))
    T[:n, :n], T[n:, n:] = half, half * (1 - gap)
    first, second, v = banded.top_pair(T, 2, np.ones(2 * n), True)
    assert np.linalg.norm(v[n:]) <= 32 * EPS / gap
    assert abs(second / first - (1 - gap)) <= 16 * EPS


def test_a_part_of_an_array_is_taken_as_it_is() -> None:
    """The lower triangle of the first rows and columns, whatever stands elsewhere."""
    T = kinds(31, 2)["random"]
    whole = np.full((40, 40), np.nan)
    whole[:31, :31] = T + np.triu(np.full((31, 31), np.nan), 1)
    for x, y in zip(banded.top_pair(whole[:31], 2, np.eye(31)[0], True), banded.top_pair(T, 2, np.eye(31)[0], True)):
        assert np.array_equal(x, y)


def test_without_a_positive_value_there_is_no_top() -> None:
    """Nor is there one outside of what the guess can lead to."""
    for T in (np.zeros((5, 5)), -np.eye(5), np.full((5, 5), np.nan), np.diag([1.0, 2.0, 3.0, 2.0, 1.0])):
        assert not banded.top_pair(T, 2, np.eye(5)[0], True)[0] > 0


@SIZES
def test_rows_of_the_resolvent(n: int, b: int) -> None:
    for kind, T in kinds(n, b).items():
        full, top = T + np.tril(T, -1).T, np.linalg.eigvalsh(T)[-1]
        for x in (top + 1e-3 * abs(top), 2 * abs(top)):
            rows = banded.rows_of_resolvent(T, b, x)
            assert np.abs(rows @ (x * np.eye(n) - full) - np.eye(n)[:b]).max() <= 1e-12, kind
        assert np.isnan(banded.rows_of_resolvent(T, b, top - 1e-3 * abs(top))).all(), kind
