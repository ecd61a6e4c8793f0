"""The Jacobi SVD inside users' own compiled functions: with tangents, at ties and zeros, in loops, differentiated."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from gpu.users_kernels import (
    LAMBDA,
    MU,
    elastic_energy_in_closed_form,
    kepler_in_closed_form,
    procrustes_in_closed_form,
)
from numba import njit, prange

import dualsvd as ds
from dualsvd.errors import DegenerateError, DTypeError, NonFiniteError, ShapeError
from dualsvd.forward import DualArray
from dualsvd.kernels import jacobi_svd_inplace, rotation, svd_small, svdvals_small

AGREEMENT = 1e-12
SLOW = pytest.mark.slow


def normal(*shape: int, dtype: str = "float64", seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([seed, *shape])
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def along(value: np.ndarray, count: int = 2) -> DualArray:
    """A matrix with directions."""
    return DualArray(value, normal(count, *value.shape, dtype=value.dtype.name, seed=1))


@njit
def factors(A):
    return svd_small(A)


@njit
def values(A):
    return svdvals_small(A)


@njit
def factors_in_place(A):
    A = A.copy()
    V, S = np.zeros_like(A[: A.shape[1]]), values(A)
    jacobi_svd_inplace(A, V, S)
    return A, S, V


# ---- the factors, by identities, and the values, by the library's own


def far(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.max(np.abs(x - y), initial=0.0))


def assert_is_svd(A: DualArray, U: DualArray, S: DualArray, Vh: DualArray, close: float, count: int = 2) -> None:
    """A = U S V^H, along `count` directions, U^H U = 1, V^H V = 1; S as everywhere in forward mode."""
    size = max(float(np.max(np.abs(A.value), initial=0.0)), np.finfo(A.value.dtype).tiny)
    product = (U * S) @ Vh
    assert far(product.value, A.value) <= close * size
    assert far(product.partials[:count], A.partials[:count]) <= close * 10
    for frame in (np.conj(U.T) @ U, Vh @ np.conj(Vh.T)):
        assert far(frame.value, np.eye(len(S))) <= close
        assert far(frame.partials, np.zeros(frame.partials.shape)) <= close * 10 / size
    expected = ds.svdvals(A)
    assert far(S.value, expected.value) <= close * size
    assert far(S.partials, expected.partials) <= close * 10


MATRICES = {
    "general": normal(3, 3),
    "tall": normal(5, 3),
    "wide": normal(2, 4),
    "one number": normal(1, 1),
    "a row": normal(1, 3),
    "empty": normal(0, 3),
    "identity": np.eye(3),
    "a tie": np.diag([2.0, 2.0, 1.0]),
    "two ties": np.diag([2.0, 1.0, 2.0, 1.0]),
    "a zero": np.diag([2.0, 0.0, 1.0]),
    "rank one, tall": np.ones((4, 3)),
    "zeros": np.zeros((3, 2)),
    "diagonal, out of order": np.diag([1.0, 3.0, 2.0]),
    "near a tie": np.diag([1.0, 1.0 + 1e-9, 2.0]),
}


#: The basis follows the first direction, and to it the second is not smooth.
TIED = ("identity", "a tie", "two ties", "rank one, tall", "zeros")


@pytest.mark.parametrize("name", MATRICES)
def test_the_svd_of_a_matrix_with_its_tangents(name):
    A, close = along(MATRICES[name]), AGREEMENT if name != "near a tie" else 1e-6
    U, S, Vh = factors(A)
    assert_is_svd(A, U, S, Vh, close, count=1 if name in TIED else 2)
    if S.value[-1:].all():
        expected = ds.polar(A)[0]  # which is smooth there
        assert far((U @ Vh).partials, expected.partials) <= close * 10


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_scales(scale):
    A = DualArray(scale * MATRICES["general"], scale * normal(2, 3, 3, seed=1))
    U, S, Vh = factors(A)
    plain = factors(along(MATRICES["general"]))
    for x, y, factor in ((U, plain[0], 1.0), (S, plain[1], scale), (Vh, plain[2], 1.0)):
        assert np.allclose(x.value, factor * y.value, rtol=1e-12)
        assert np.allclose(x.partials, factor * y.partials, rtol=1e-10)


def test_values_do_not_depend_on_tangents():
    A = along(normal(4, 3))
    for x, y in zip(factors(A), factors(A.value), strict=True):
        assert np.array_equal(x.value, y)


@pytest.mark.parametrize(
    "dtype", ["complex128", pytest.param("float32", marks=SLOW), pytest.param("complex64", marks=SLOW)]
)
def test_types_of_numbers(dtype):
    A = along(normal(4, 3, dtype=dtype))
    U, S, Vh = factors(A)
    assert_is_svd(A, U, S, Vh, AGREEMENT if dtype == "complex128" else 1e-5)
    assert U.dtype == Vh.dtype == dtype
    assert S.dtype == A.value.real.dtype


def test_values_alone_and_in_place():
    A = normal(4, 3)
    U, S, V = factors_in_place(A)
    expected = factors(A)
    for x, y in ((U, expected[0]), (S, expected[1]), (V.T, expected[2]), (values(A), expected[1])):
        assert np.allclose(x, y, rtol=1e-14)
    assert np.array_equal(svdvals_small(A), values(A))  # called from Python it compiles itself
    assert np.allclose(values(np.array([[1, 2], [3, 4]])), np.linalg.svd([[1, 2], [3, 4]])[1])


@SLOW
def test_in_place_with_tangents_and_any_layout():
    A = along(normal(4, 3), count=1)
    U, S, V = factors_in_place(A)
    assert_is_svd(A, U, S, np.conj(V.T), AGREEMENT)
    assert_is_svd(A.T, *factors(A.T), AGREEMENT)


@SLOW
def test_second_derivatives():
    """Of nested numbers; at a tie there are none."""
    A = normal(2, 2)

    def hessian(A):
        slope = lambda A: ds.jacobian(values, A, mode="forward", chunk=1)[0]  # noqa: E731
        return ds.jacobian(slope, A, mode="forward", chunk=1)

    assert np.allclose(hessian(A), ds.hessian(ds.opnorm, A), atol=AGREEMENT)
    with pytest.raises(DegenerateError, match="second derivative"):
        hessian(np.eye(2))


@pytest.mark.parametrize(
    "A, error, words",
    [
        pytest.param(normal(2, 2) * np.nan, NonFiniteError, "NaN or infinity", id="NaN"),
        pytest.param(normal(3), ShapeError, r"test_njit_svd\.py:\d+: .* 1 axes", id="a vector"),
        pytest.param(normal(2, 2) > 0, DTypeError, r"test_njit_svd\.py:\d+: .*float64", id="truth values"),
        pytest.param(normal(2, 2).astype(np.float16), DTypeError, "float16", id="half precision"),
    ],
)
def test_errors(A, error, words):
    with pytest.raises(error, match=words):
        values(A)


def test_a_rotation_of_duals_makes_a_pair_orthogonal():
    """[[a, g], [g, b]], with tangents, in the basis of the rotation: g is gone, and so are its partials."""

    def turned(a, b, g):
        c, s = rotation(a, b, g, 0.0)
        return c * c * a + 2.0 * c * s * g + s * s * b, c * s * (b - a) + (c * c - s * s) * g

    a, b, g = ds.Dual(2.0, (1.0, 0.0)), ds.Dual(1.0, (0.0, 1.0)), ds.Dual(0.5, (0.5, -1.0))
    for largest, off in (njit(turned)(a, b, g), turned(a, b, g)):
        expected = ds.Dual(1.5, (0.5, 0.5)) + np.sqrt((a - b) * (a - b) + 4.0 * g * g) / 2.0
        for x, y in ((largest, expected), (off, 0.0 * a)):
            assert far(np.array([x.value, *x.partials]), np.array([y.value, *y.partials])) <= AGREEMENT


# ---- kernels as users write them, against their closed forms


@njit
def elastic_energies(F):
    """mu |F - R|^2 + lambda/2 (tr(R^T F) - 3)^2 of deformation gradients F = R P."""
    out = np.zeros_like(F[:, 0, 0])
    for b in range(len(F)):
        U, S, Vh = svd_small(F[b])
        distance = F[b] - U @ Vh
        out[b] = MU * np.sum(distance * distance) + 0.5 * LAMBDA * (np.sum(S) - 3.0) ** 2
    return out


@njit
def procrustes(X, Y):
    """The orthogonal matrices that turn points X into Y best."""
    out = np.zeros_like(X[:, :3])
    for b in range(len(X)):
        U, _, Vh = svd_small(X[b].T @ Y[b])
        out[b] = U @ Vh
    return out


@njit
def anomaly(orbit):
    """E of Kepler's equation E - e sin E = M, by Newton's method."""
    M, e = orbit[0], orbit[1]
    E = M + e * np.sin(M)
    for _ in range(50):
        step = (E - e * np.sin(E) - M) / (1.0 - e * np.cos(E))
        E = E - step
        if abs(step) < 1e-14:
            break
    return E


def test_elastic_energy():
    F = np.eye(3) + 0.3 * normal(4, 3, 3)
    F[0] = 1.5 * np.eye(3)  # all values tied
    F[1] = np.diag([1.5, 1.0, 1.5])
    J = ds.jacobian(elastic_energies, F, mode="forward", chunk=1)
    for k, along in enumerate(np.eye(9).reshape(9, 3, 3)):
        expected = elastic_energy_in_closed_form(F, np.broadcast_to(along, F.shape))
        own = J.reshape(4, 4, 9)[np.arange(4), np.arange(4), k]
        assert far(own, expected[:, 1]) <= AGREEMENT * 10
    assert far(elastic_energies(F), expected[:, 0]) <= AGREEMENT


def test_procrustes():
    X, Y = normal(2, 5, 3), normal(2, 5, 3, seed=2)
    J = ds.jacobian(procrustes, X, Y, mode="forward", chunk=1)
    dX = normal(2, 5, 3, seed=3)
    R, dR = procrustes_in_closed_form(X, Y, dX)
    assert far(procrustes(X, Y), R) <= AGREEMENT
    assert far(np.einsum("bijckl,ckl->bij", J, dX), dR) <= AGREEMENT


def test_newton():
    mean, eccentricity = np.array([0.5, 2.0, 4.0]), np.array([0.1, 0.6, 0.9])
    for row in zip(mean, eccentricity, kepler_in_closed_form(mean, eccentricity), strict=True):
        orbit, expected = np.array(row[:2]), row[2]
        value, slopes = ds.value_and_jacobian(anomaly, orbit, mode="forward")
        assert far(np.array([value, *slopes]), expected) <= AGREEMENT * np.max(np.abs(expected))


@SLOW
def test_in_parallel():
    def largest(F):
        out = np.zeros_like(F[:, 0, 0])
        for b in prange(len(F)):
            out[b] = svdvals_small(F[b])[0]
        return out

    F = normal(20, 3, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the threading layer, which depends on the machine
        result = njit(parallel=True)(largest)(F)
    assert far(result, np.linalg.svd(F)[1][:, 0]) <= AGREEMENT


CACHED = """
import numpy as np, dualsvd as ds
from numba import njit
from dualsvd.kernels import svd_small

@njit(cache=True)
def polar(A):
    U, S, Vh = svd_small(A)
    return U @ Vh

result = polar(ds.DualArray(np.array([[0.0, -2.0], [3.0, 0.0]]), np.ones((1, 2, 2))))
print(sum(polar.stats.cache_hits.values()), result.value.tolist(), result.partials.round(12).tolist())
"""


@SLOW
def test_functions_that_call_it_are_cached_on_disk(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(CACHED)
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }

    def run() -> list[str]:
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, check=True)
        return done.stdout.split(maxsplit=1)

    first, second = run(), run()
    assert (first[0], second[0]) == ("0", "1")
    assert first[1] == second[1]
