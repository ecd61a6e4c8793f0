"""Linear algebra away from special points: both modes against each other and against what the formulas promise."""

from __future__ import annotations

import itertools
import json
import tracemalloc
import warnings
from typing import Any

import cases
import mpmath as mp
import numpy as np
import pytest

import dualsvd as ds
from dualsvd.linalg.factorise import SVDResult
from dualsvd.linalg.solve import products_of_others
from dualsvd.linalg.spectral_rule import SPECTRAL
from dualsvd.linalg.svd import SVD, SVDVALS
from dualsvd.rules.registry import RULES, Rule

SHAPES = [(3, 3), (5, 3), (3, 5), (1, 4), (4, 1), (1, 1), (2, 4, 3), (2, 3, 2, 2)]
DTYPES = pytest.mark.parametrize("dtype", cases.DTYPES)
ALL_SHAPES = pytest.mark.parametrize("shape", SHAPES, ids=str)


def random(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def inner(x: Any, y: Any) -> float:
    """Re tr(X^H Y) over tuples."""
    return float(sum(np.real(np.vdot(a, b)) for a, b in zip(x, y) if a is not None))


def adjoint(x: Any) -> Any:
    return np.conj(np.swapaxes(x, -1, -2))


def legal(y: SVDResult, bars: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """Cotangents of U, S, Vh with the dependence on the phases taken out: Im diag(U^H U_bar + V^H V_bar) = 0."""
    U_bar, S_bar, Vh_bar = bars
    phase = np.einsum("...ij,...ij->...j", y.U.conj(), U_bar) + np.einsum("...ji,...ji->...j", y.Vh, Vh_bar.conj())
    phase = np.imag(phase)
    return (U_bar - 1j * phase[..., None, :] * y.U if np.iscomplexobj(y.U) else U_bar), S_bar, Vh_bar


# ---------------------------------------------------------------------------------------------------------------------
# The SVD and its two rules


@DTYPES
@ALL_SHAPES
@pytest.mark.parametrize("full", [False, True], ids=["thin", "full"])
def test_pushforward_differentiates_the_decomposition_itself(rng, shape, dtype, full):
    """dU S Vh + U dS Vh + U S dVh = dA, U^H dU and V^H dV skew, and the gauge Im(u^H du + v^H dv) = 0."""
    a, da = random(rng, shape, dtype), random(rng, (2, *shape), dtype)
    y, dy = ds.linalg.svd(a, full), ds.svd(ds.DualArray(a, da), full)
    tolerance = 2e3 * cases.eps(dtype) * (1 + np.abs(da).max())
    r = min(shape[-2:])
    (U, S, Vh), (dU, dS, dVh) = y, (x.partials for x in dy)
    thin = [x[..., :, :r] for x in (U, dU)] + [x[..., :r, :] for x in (Vh, dVh)]
    u, du, vh, dvh = thin
    np.testing.assert_allclose((du * S[..., None, :]) @ vh + (u * dS[..., None, :]) @ vh + (u * S[..., None, :]) @ dvh,
                               da, rtol=0, atol=tolerance)  # fmt: skip
    for Q, dQ in ((U, dU), (adjoint(Vh), adjoint(dVh))):
        X = adjoint(Q) @ dQ
        np.testing.assert_allclose(X + adjoint(X), 0, atol=tolerance * 10)
    phases = np.imag(np.einsum("...ij,...ij->...j", u.conj(), du) + np.einsum("...ij,...ij->...i", vh, dvh.conj()))
    np.testing.assert_allclose(phases, 0, atol=tolerance)
    assert dU.dtype == U.dtype and dS.dtype == S.dtype and dVh.dtype == Vh.dtype


@DTYPES
@ALL_SHAPES
def test_pullback_is_the_transpose_of_pushforward(rng, shape, dtype):
    a, da = random(rng, shape, dtype), random(rng, shape, dtype)
    y = ds.svd(a)
    bars = legal(y, tuple(random(rng, x.shape, x.dtype.name) for x in y))
    dy = ds.svd_pushforward(*y, da)
    a_bar = ds.svd_pullback(*y, *bars)
    size = sum(np.linalg.norm(np.ravel(p)) * np.linalg.norm(np.ravel(q)) for p, q in zip(bars, dy))
    assert abs(inner(bars, dy) - inner((a_bar,), (da,))) <= 400 * cases.eps(dtype) * size
    assert a_bar.dtype == a.dtype


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (2, 5, 2)], ids=str)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_full_pullback_is_the_transpose_of_pushforward_for_what_the_free_columns_span(rng, shape, dtype):
    """The cotangent of a projector on free columns is admissible: it sees no rotation among them."""
    a, da = random(rng, shape, dtype), random(rng, shape, dtype)
    W = [random(rng, (*shape[:-2], n, n), dtype) for n in shape[-2:]]
    r = min(shape[-2:])

    def f(x: Any) -> Any:
        U, S, Vh = ds.svd(x, True)
        left, right = U[..., :, r:], Vh[..., r:, :]
        projectors = (left @ adjoint(left), adjoint(right) @ right)
        return sum(np.sum(np.real(w * p)) for w, p in zip(W, projectors)) + np.sum(S)

    dy = ds.jvp(f, (a,), (da,))[1]
    gradient = ds.gradient(f, a, mode="reverse")
    size = np.linalg.norm(np.ravel(gradient)) * np.linalg.norm(np.ravel(da))
    assert abs(inner((gradient,), (da,)) - dy) <= 1e-13 * size


def test_a_cotangent_that_is_absent_is_skipped(rng):
    y = ds.svd(random(rng, (4, 3), "float64"))
    bars = tuple(random(rng, x.shape, "float64") for x in y)
    parts = [ds.svd_pullback(*y, *(b if i == k else None for i, b in enumerate(bars))) for k in range(3)]
    np.testing.assert_allclose(sum(parts), ds.svd_pullback(*y, *bars), atol=1e-13)
    assert not ds.svd_pullback(*y).any()


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize(
    "f",
    [
        pytest.param(lambda X: np.linalg.svd(X, compute_uv=False)[0], id="np.linalg.svd(X, compute_uv=False)[0]"),
        pytest.param(lambda X: np.linalg.svd(X)[1][0], id="np.linalg.svd(X)[1][0]"),
        pytest.param(lambda X: np.linalg.svdvals(X)[0], id="np.linalg.svdvals(X)[0]"),
        pytest.param(lambda X: np.linalg.norm(X, 2), id="np.linalg.norm(X, 2)"),
        pytest.param(lambda X: ds.svdvals(X)[0], id="svdvals(X)[0]"),
        pytest.param(ds.opnorm, id="opnorm(X)"),
    ],
)
def test_gradient_of_the_largest_singular_value_is_its_dyad(X, f, mode):
    U, _, Vh = np.linalg.svd(X)
    np.testing.assert_allclose(ds.gradient(f, X, mode=mode), np.outer(U[:, 0], Vh[0]), rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(3, 5), (4, 3), (2, 3, 2), (6, 6)], ids=str)
def test_jacobian_of_singular_values_is_written_as_dyads(rng, shape):
    a = random(rng, shape, "float64")
    J = ds.jacobian(ds.svdvals, a)
    np.testing.assert_allclose(J, ds.jacobian(lambda x: 1.0 * ds.svdvals(x), a, mode="forward"), atol=1e-13)
    np.testing.assert_allclose(SVDVALS.jacobian(SVDVALS(a), (a,)), J, atol=1e-14)


@pytest.mark.parametrize("scale", [2.0**-1060, 2.0**-520, 2.0**520, 2.0**1010], ids=lambda s: f"2^{int(np.log2(s))}")
def test_scaling_by_a_power_of_two_changes_nothing_but_the_scale(rng, scale):
    """A and D scaled alike: U, V and their tangents are the same, S and its tangent scale, to the last digits."""
    a, da = (np.round(random(rng, (4, 3), "float64") * 64) / 64 for _ in range(2))  # stays exact where subnormal
    plain, moved = (ds.svd(ds.DualArray(x * a, x * da[None])) for x in (1.0, scale))
    signs = np.sign(np.sum(plain.U.value * moved.U.value, axis=0))
    rounding = 2.0**-1074 / scale  # of the subnormal numbers that S and its tangent are given in
    np.testing.assert_allclose(moved.S.value / scale, plain.S.value, rtol=1e-14, atol=rounding)
    np.testing.assert_allclose(moved.S.partials / scale, plain.S.partials, rtol=0, atol=1e-13 + rounding)
    np.testing.assert_allclose(moved.U.partials * signs, plain.U.partials, rtol=0, atol=1e-12)
    np.testing.assert_allclose(moved.Vh.partials * signs[:, None], plain.Vh.partials, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 2), (2, 4), (3, 3)], ids=str)
@pytest.mark.parametrize("scale", [2.0**-1030, 2.0**-520, 2.0**1000], ids=lambda s: f"2^{int(np.log2(s))}")
def test_derivatives_from_given_factors_know_no_scale(scale, shape, rng):
    """A and D scaled alike, thin and full: vectors move as they do, and cotangents are those divided by the scale."""
    a, d = cases.spectrum(*shape, [3, 2, 1][: min(shape)]), rng.standard_normal(shape)
    rounding = 1e-13 + 10 * 2.0**-1074 / scale  # of the subnormal numbers that A, S and D are given in, over gaps of 1
    for full in (False, True):
        plain, moved = (ds.svd(x * a, full_matrices=full) for x in (1.0, scale))
        for factor in (0, 2):
            x, y = (ds.linalg.svd_pushforward(*f, c * d)[factor] for f, c in ((plain, 1.0), (moved, scale)))
            np.testing.assert_allclose(y, x, rtol=0, atol=rounding * np.abs(x).max())
        W = rng.standard_normal(plain.U.shape)
        if full and shape[0] > shape[1]:  # a function of the projector on the free columns
            W[:, shape[1] :] = W[:, :1] * (W[:, :1].T @ plain.U[:, shape[1] :])
        x, y = (ds.linalg.svd_pullback(*f, c * W, None, None) for f, c in ((plain, 1.0), (moved, scale)))
        np.testing.assert_allclose(y, x, rtol=0, atol=rounding * np.abs(x).max())


@pytest.mark.parametrize("exponent", [0, 250, 400])
def test_the_slopes_of_graded_values_keep_their_digits_at_any_size(exponent):
    """The Jacobian by `svd` is that by `svdvals`, each row right relative to its own size."""
    a = 2.0**exponent * cases.graded(4, 4, 20, True, True, seed=6)
    with ds.options(algorithm="jacobi"):
        by_svd, by_svdvals = (ds.jacobian(f, a) for f in (lambda a: ds.svd(a).S, ds.svdvals))
    np.testing.assert_allclose(by_svd / by_svdvals, np.ones_like(by_svd), rtol=1e-12)


@pytest.mark.parametrize("tangents", ["closed-form", "sweeps"])
@pytest.mark.parametrize("algorithm", ["auto", "lapack", "jacobi"])
def test_options_change_the_way_and_not_the_result(X, algorithm, tangents):
    expected = ds.jacobian(ds.svdvals, X)
    with ds.options(algorithm=algorithm, tangents=tangents):
        np.testing.assert_allclose(ds.jacobian(ds.svdvals, X, mode="forward"), expected, atol=1e-13)
        np.testing.assert_allclose(np.linalg.svd(ds.DualArray(X, X[None])).S.partials[0], ds.svdvals(X), atol=1e-13)
    given = ds.svdvals(ds.DualArray(X, X[None]), algorithm=algorithm, tangents=tangents)
    np.testing.assert_allclose(given.partials[0], ds.svdvals(X), atol=1e-13)


def test_values_with_tangents_are_those_without(rng):
    for shape in SHAPES:
        a = random(rng, shape, "float64")
        for f in (ds.svd, ds.svdvals, ds.nuclear_norm, ds.pinv, ds.polar, ds.opnorm):
            plain, traced = f(a), f(ds.DualArray(a, a[None]))
            for p, t in zip(*(x if isinstance(x, tuple) else (x,) for x in (plain, traced))):
                np.testing.assert_allclose(t.value, p, rtol=0, atol=1e-14 * (1 + np.abs(p).max()))


@pytest.mark.parametrize("shape", [(100, 3, 3), (70, 4, 2), (64, 2, 5)], ids=str)
@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_a_stack_that_the_kernels_take_is_a_stack_of_single_matrices(rng, shape, dtype):
    a, da = random(rng, shape, dtype), random(rng, shape, dtype)
    S, dS = ds.jvp(ds.svdvals, (a,), (da,))
    single = [ds.jvp(lambda x: ds.svdvals(x, algorithm="lapack"), (a[i],), (da[i],)) for i in range(len(a))]
    tolerance = 1e3 * cases.eps(dtype)
    np.testing.assert_allclose(S, [s for s, _ in single], rtol=0, atol=tolerance)
    gaps = np.minimum(np.min(S[:, :-1] - S[:, 1:], axis=1, initial=np.inf), S[:, -1])
    error = np.abs(dS - [d for _, d in single]).max(axis=1) * np.minimum(gaps, 1)
    assert error.max() <= tolerance * 10


# ---------------------------------------------------------------------------------------------------------------------
# The other factorisations


@pytest.mark.parametrize("algorithm", ["lapack", "jacobi"])
@pytest.mark.parametrize("shape", [(4, 4), (3, 2, 2), (1, 1)], ids=str)
def test_eigenvalues_of_the_hermitian_part(rng, shape, algorithm):
    a = random(rng, shape, "complex128")
    w, Q = ds.linalg.eigh(a, algorithm=algorithm)
    np.testing.assert_allclose((Q * w[..., None, :]) @ adjoint(Q), (a + adjoint(a)) / 2, atol=1e-13)
    np.testing.assert_allclose(
        ds.linalg.eigvalsh(a, algorithm=algorithm), np.linalg.eigvalsh((a + adjoint(a)) / 2), atol=1e-13
    )
    assert (np.diff(w, axis=-1) >= 0).all()


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (3, 3)], ids=str)
@pytest.mark.parametrize("columns", [None, 2])
def test_least_squares_is_numpys_and_differentiates(rng, shape, columns):
    a, b = random(rng, shape, "float64"), random(rng, (shape[0],) + (columns,) * (columns is not None), "float64")
    for ours, theirs in zip(ds.linalg.lstsq(a, b), np.linalg.lstsq(a, b)):
        np.testing.assert_allclose(ours, theirs, atol=1e-13)
    J = ds.jacobian(lambda x: np.linalg.lstsq(x, b)[0], a, mode="forward")
    np.testing.assert_allclose(J, ds.jacobian(lambda x: np.linalg.lstsq(x, b)[0], a, mode="reverse"), atol=1e-12)
    for rcond in (None, 0.3, -1, 0.0, 1.0):
        ours, theirs = ds.linalg.lstsq(a, b, rcond), np.linalg.lstsq(a, b, rcond=rcond)
        assert ours[2] == theirs[2]
        np.testing.assert_allclose(ours[0], theirs[0], atol=1e-13)
    along_itself = np.tensordot(J, a, 2)  # x is homogeneous of degree -1 in a
    np.testing.assert_allclose(along_itself, -np.linalg.lstsq(a, b)[0], atol=1e-12)


def test_least_squares_of_no_cutoff_drop_what_is_below_the_unit_of_rounding():
    a, b = np.outer([1.0, 2, 3, 4], [1, 1 / 3, 1 / 7]), np.array([1.0, -1, 2, 0.3])
    for rcond in (-1, 0):
        expected = np.linalg.lstsq(a, b, rcond=rcond)[0]
        x, dx = ds.jvp(lambda a, rcond=rcond: np.linalg.lstsq(a, b, rcond=rcond)[0], (a,), (a,))
        np.testing.assert_allclose(x, expected, rtol=1e-13)
        np.testing.assert_allclose(dx, -expected, rtol=1e-13)


def test_eigenvectors_are_transposed_in_reverse_mode(rng):
    a, da = random(rng, (4, 4), "complex128"), random(rng, (4, 4), "complex128")
    W = random(rng, (4, 4, 4), "complex128")

    def f(x: Any) -> Any:
        w, Q = np.linalg.eigh(x)
        dyads = np.einsum("ik,jk->kij", Q, np.conj(Q))
        return np.sum(np.real(W * dyads)) + np.sum(w**3)

    g = ds.gradient(f, a, mode="reverse")
    assert abs(inner((g,), (da,)) - ds.jvp(f, (a,), (da,))[1]) <= 1e-12 * np.linalg.norm(g)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_numpys_names_read_one_triangle_and_so_do_their_derivatives(rng, dtype):
    """The derivative along any direction is that of what NumPy computes, Hermitian or not."""
    a, d = random(rng, (3, 3), dtype), random(rng, (3, 3), dtype)
    a = a @ adjoint(a) + 9 * np.eye(3)
    t = 1e-5
    for f in (
        np.linalg.eigvalsh,
        lambda x: np.linalg.eigvalsh(x, "U"),
        np.linalg.cholesky,
        lambda x: np.linalg.cholesky(x, upper=True),
    ):
        y, dy = ds.jvp(f, (a + d,), (d,))
        np.testing.assert_allclose(y, f(a + d), atol=1e-13)
        np.testing.assert_allclose(dy, (f(a + d + t * d) - f(a + d - t * d)) / (2 * t), atol=1e-8)


@pytest.mark.parametrize("n", [0, 1, 2, 5, -1, -3])
def test_matrix_power_differentiates_as_the_product_it_is(rng, n):
    a, da = random(rng, (3, 3), "float64") + 3 * np.eye(3), random(rng, (3, 3), "float64")
    y, dy = ds.jvp(lambda x: np.linalg.matrix_power(x, n), (a,), (da,))
    np.testing.assert_allclose(y, np.linalg.matrix_power(a, n), rtol=1e-12)
    base = a if n >= 0 else np.linalg.inv(a)
    dbase = da if n >= 0 else -base @ da @ base
    powers = [np.linalg.matrix_power(base, k) for k in range(abs(n) + 1)]
    expected = sum((powers[k] @ dbase @ powers[abs(n) - 1 - k] for k in range(abs(n))), np.zeros((3, 3)))
    np.testing.assert_allclose(dy, expected, rtol=0, atol=1e-12 * (1 + np.abs(expected).max()))


@pytest.mark.parametrize("rank", [3, 2, 1, 0])
def test_gradient_of_the_determinant_is_the_matrix_of_cofactors_at_any_rank(rng, rank):
    a = np.round(random(rng, (3, rank), "float64") * 4) @ np.round(random(rng, (rank, 3), "float64") * 4)
    cofactors = np.array(
        [[(-1) ** (i + j) * np.linalg.det(np.delete(np.delete(a, i, 0), j, 1)) for j in range(3)] for i in range(3)]
    )
    for mode in ("forward", "reverse"):
        gradient = ds.gradient(np.linalg.det, a, mode=mode)
        np.testing.assert_allclose(gradient, cofactors, atol=1e-12 * (1 + np.abs(a).max() ** 2))
    hessian = ds.hessian(np.linalg.det, a)
    assert hessian[0, 0, 1, 1] == pytest.approx(a[2, 2], abs=1e-12)
    assert hessian[0, 1, 1, 0] == pytest.approx(-a[2, 2], abs=1e-12)


#: matrices and the units of their rows and columns
DETERMINANTS = {
    "almost singular": (cases.spectrum(3, 3, [2, 1, 1e-13]), 1),
    "almost of rank one": (cases.spectrum(3, 3, [2, 1e-9, 1e-13]), 1),
    "two by two": (np.array([[1.0, 1.0], [1.0, 1.0 + 1e-13]]), 1),
    "badly scaled": (cases.normal(4, 4), np.outer([1e12, 1e4, 1e-4, 1e-12], [1e-12, 1e-4, 1e4, 1e12])),
    "huge and tiny": (cases.normal(4, 4), np.outer([1e90, 1e-90, 1, 1], [1, 1, 1e-60, 1e60])),
    "complex": (cases.spectrum(4, 4, [2, 1, 1e-7, 1e-9], dtype="complex128"), 1),
}


@pytest.mark.parametrize("name", DETERMINANTS)
def test_derivatives_of_determinants_agree_with_many_digits(name):
    """Of three orders, along directions in the units of the matrix; by finite sums, as the determinant is a polynomial
    of degree one in each row. What rounds are products of n entries: the bound is the sum of their sizes."""
    a, units = DETERMINANTS[name]
    n, dtype = len(a), a.dtype.name
    a, *directions = (units * x for x in (a, *(cases.direction((n, n), seed, dtype) for seed in (1, 2, 3))))
    f: Any = np.linalg.det
    for order, d in enumerate(directions, 1):
        inner_f = f
        f = lambda x, g=inner_f, d=d: along(g, x, d)  # noqa: E731
        expected, size = mp.mpf(0), mp.mpf(0)
        with mp.workdps(50):
            for rows in itertools.permutations(range(n), order):
                mixed = a.copy()
                for row, direction in zip(rows, directions):
                    mixed[row] = direction[row]
                for columns in itertools.permutations(range(n)):
                    term = mp.fprod(mixed[range(n), columns].tolist())
                    odd = sum(i > k for i, k in itertools.combinations(columns, 2)) % 2
                    expected, size = expected - term if odd else expected + term, size + abs(term)
        ways = {"forward": f(a)}
        if dtype == "float64":
            ways["reverse"] = np.sum(d * ds.gradient(inner_f, a, mode="reverse"))
        for way, value in ways.items():
            assert abs(value - expected) <= 4 * cases.eps(a) * size, (order, way)


def test_directions_that_are_not_graded_like_the_matrix():
    """All that is known of a second derivative is relative to the largest that directions of their size have."""
    a, (d, e) = cases.spectrum(3, 3, [2, 1, 0.5]) * [1, 1, 1e-8], (cases.direction((3, 3), seed) for seed in (1, 2))
    minors = [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    columns = lambda x, y, z: np.linalg.det(np.stack([x, y, z], axis=-1))  # noqa: E731
    expected = sum(
        columns(*(pair[1][:, k] if k == i else pair[0][:, k] if k == j else a[:, k] for k in range(3)))
        for i, j, _ in minors
        for pair in ((d, e), (e, d))
    )
    assert along(lambda x: along(np.linalg.det, x, d), a, e) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 3)], ids=str)
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_the_sign_of_a_complex_determinant_turns_alike_in_both_modes(rng, shape, dtype):
    a = random(rng, shape, dtype)
    f = lambda x: np.sum(np.real(np.linalg.slogdet(x)[0]))  # noqa: E731
    forward, reverse = (ds.gradient(f, a, mode=mode) for mode in ("forward", "reverse"))
    assert forward.dtype == reverse.dtype == dtype
    np.testing.assert_allclose(reverse, forward, atol=200 * cases.eps(dtype) * np.abs(forward).max())


def test_solve_takes_vectors_and_broadcasts_stacks(rng):
    a, b = random(rng, (3, 3), "float64") + 3 * np.eye(3), random(rng, (3,), "float64")
    np.testing.assert_allclose(ds.gradient(lambda b: np.sum(np.linalg.solve(a, b)), b), np.linalg.inv(a).sum(axis=0))
    stack = random(rng, (4, 3, 2), "float64")
    J = ds.jacobian(lambda a: np.linalg.solve(a, stack), a, mode="forward")
    np.testing.assert_allclose(J, ds.jacobian(lambda a: np.linalg.solve(a, stack), a, mode="reverse"), atol=1e-13)


def test_condition_number_and_rank_are_numpys(rng):
    a = random(rng, (4, 4), "float64")
    for p in (None, 2, -2, 1, -1, np.inf, -np.inf, "fro", "nuc"):
        x = ds.DualArray(a, a[None])
        np.testing.assert_allclose(np.linalg.cond(x, p).value, np.linalg.cond(a, p), rtol=1e-12)
        np.testing.assert_allclose(np.linalg.cond(x, p).partials, 0, atol=1e-11)  # scaling a changes nothing
    assert np.linalg.matrix_rank(ds.DualArray(np.ones((3, 3)), np.ones((1, 3, 3)))) == 1


@pytest.mark.parametrize("p", [None, -2, 1, -1, np.inf, "fro", "nuc"])
@pytest.mark.parametrize("e", [-1000, -700, 700, 1000])
def test_the_condition_number_knows_no_scale(rng, p, e):
    """Nor do its derivatives, along directions of the size of the matrix, and along such as are beyond all measure."""
    a, d = (np.round(random(rng, (3, 3), "float64") * 64) / 64 for _ in range(2))
    small, cond = np.ldexp(a, e), lambda x: ds.linalg.cond(x, p)
    y, slope = ds.jvp(cond, (a,), (d,))
    for value in (ds.linalg.cond(small, p), ds.jvp(cond, (small,), (d,))[0]):
        np.testing.assert_allclose(value, y, rtol=1e-13)
    np.testing.assert_allclose(ds.jvp(cond, (small,), (np.ldexp(d, e),))[1], slope, rtol=1e-12)
    np.testing.assert_allclose(ds.jvp(cond, (small,), (d,))[1], np.ldexp(slope, -e), rtol=1e-12)


def test_a_graded_matrix_is_not_singular_where_every_value_has_its_digits():
    """To scale the tiny column scales the least value alone: cond(A diag(1, 1 + t)) = cond(A) / (1 + t)."""
    a = np.array([[1.0, 1e-30], [2.0, 3e-30]])
    with ds.options(algorithm="jacobi"):
        y, slope = ds.jvp(ds.linalg.cond, (a,), (a * [0, 1],))
        assert y == ds.linalg.cond(a) == pytest.approx(5e30, rel=1e-14)
    assert slope == pytest.approx(-y, rel=1e-14)
    with pytest.raises(ds.DegenerateError, match="singular"):
        ds.jvp(ds.linalg.cond, (a,), (a,))


NORMS = [2, -2, "nuc", "fro", 1, -1, np.inf, -np.inf, *(("schatten", p) for p in (1, 3.5, 200, 2000, np.inf))]


@pytest.mark.parametrize("order", NORMS, ids=str)
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 3)], ids=str)
def test_every_norm_is_homogeneous_and_equal_in_both_modes(rng, order, shape):
    """Euler: <grad ||A||, A> = ||A||."""
    a = random(rng, shape, "complex128")
    y, along_itself = ds.jvp(lambda x: ds.norm(x, order), (a,), (a,))
    np.testing.assert_allclose(along_itself, y, rtol=1e-13)
    g = ds.gradient(lambda x: np.sum(ds.norm(x, order)), a)
    np.testing.assert_allclose(inner((g,), (a,)), np.sum(y), rtol=1e-13)
    assert isinstance(ds.norm(a.reshape(-1, *a.shape[-2:])[0], order), np.float64)
    if not isinstance(order, tuple):
        np.testing.assert_allclose(y, np.linalg.norm(a, order, axis=(-2, -1)), rtol=1e-13)


@pytest.mark.parametrize(
    ("values", "p", "dtype"),
    [
        ([1.0] * 10, 400, "f"),
        ([100.0] + [0.0] * 99, 200, "d"),
        ([0.6, 0.6], 2000, "d"),
        ([0.6, 0.5], 300, "f"),
        ([3e200, 2e200, 1.0], 5, "d"),
        ([2e-170, 1e-170], 3, "d"),
        ([2e-30, 1e-30], 1.5, "f"),
    ],
    ids=str,
)
def test_schatten_norms_of_any_order(values, p, dtype):
    """(sum s^p)^(1/p) and its gradient (s / norm)^(p-1) against fifty digits; float32 compares what it holds."""
    s = np.array(values, dtype)
    with mp.workdps(50):
        exact = [mp.mpf(float(x)) for x in s]
        size = mp.fsum(x**p for x in exact) ** (mp.mpf(1) / p)
        slopes = [float((x / size) ** (p - 1)) for x in exact]
    f, rtol = (lambda a: ds.norm(a, ("schatten", p))), 8 * (p + 10) * cases.eps(dtype)
    y, along_itself = ds.jvp(f, (np.diag(s),), (np.diag(s),))
    for value in (f(np.diag(s)), y, along_itself):
        assert float(value) == pytest.approx(float(size), rel=rtol)
    g = ds.gradient(f, np.diag(s))
    np.testing.assert_allclose(g, np.diag(slopes), rtol=rtol, atol=rtol)
    np.testing.assert_allclose(ds.vjp(f, np.diag(s))[1](y)[0] / y, g, rtol=rtol, atol=rtol)


@pytest.mark.parametrize(
    ("x", "p"),
    [
        (np.array([3.0, -2, 1]), -1000),
        (np.array([3.0, -2, 1]), -1),
        (np.array([1e300, -1e-300, 2e-300]), -2),
        (np.array([1e-5, 2, -1], "f"), -10),
        (cases.normal(500).astype("f"), 0.1),
        (cases.normal(500), 0.01),
        (np.array([1e200, -2e200]) * 1j, -3),
    ],
    ids=["-1000", "-1", "-2, spread", "-10, float32", "0.1, float32", "0.01", "-3, complex"],
)
def test_vector_norms_of_negative_and_small_orders(x, p):
    """(sum |x|^p)^(1/p) against fifty digits, and Euler: <grad ||x||, x> = ||x||, in both modes."""
    with mp.workdps(50):
        exact = mp.fsum(mp.mpf(float(abs(v))) ** p for v in x) ** (1 / mp.mpf(p))
    f, rtol = (lambda x: ds.linalg.vector_norm(x, p)), 2e2 * max(1, 1 / abs(p)) * cases.eps(x.dtype)
    y, along_itself = ds.jvp(f, (x,), (x,))
    for value in (f(x), y, along_itself, inner((ds.gradient(f, x),), (x,))):
        assert float(value) == pytest.approx(float(exact), rel=rtol)
    if p < 0:
        with pytest.raises(ds.DegenerateError, match="an element is 0"):
            ds.gradient(f, x * (np.arange(len(x)) > 0))


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(
    ("order", "axis"),
    [
        (None, None),
        (None, 0),
        (3, 1),
        (3, 1.0),
        (np.inf, 0),
        (-np.inf, 0),
        (1, 1),
        (0, 0),
        (2, (0, 1)),
        ("nuc", (1, 0)),
    ],
)
def test_norm_has_numpys_signature(rng, order, axis, keepdims):
    a = random(rng, (3, 4), "float64")
    y = np.linalg.norm(ds.DualArray(a, a[None]), order, axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(
        getattr(y, "value", y), np.linalg.norm(a, order, axis=axis, keepdims=keepdims), rtol=1e-14
    )


@pytest.mark.parametrize(
    "cutoff",
    [{}, {"rtol": None}, {"rtol": 1e-6}, {"rcond": 1e-6}, {"rcond": 1e-16}, {"hermitian": True}],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pinv_has_numpys_cutoff(cutoff, dtype):
    a = np.diag([1.0, 1e-7, 2e-15]).astype(dtype)
    traced = np.linalg.pinv(ds.DualArray(a, a[None]), **cutoff)
    np.testing.assert_allclose(traced.value, np.linalg.pinv(a, **cutoff), rtol=1e3 * cases.eps(dtype))
    assert np.isfinite(traced.partials).all()


def test_pinv_takes_one_cutoff():
    with pytest.raises(ValueError, match="rcond"):
        np.linalg.pinv(ds.DualArray(np.eye(2), np.eye(2)[None]), rcond=0.1, rtol=0.1)


# ---------------------------------------------------------------------------------------------------------------------
# Empty, wrong and non-finite input


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 3), (0, 2, 2)], ids=str)
def test_empty_matrices_are_as_in_numpy(shape):
    a = np.ones(shape)
    for full in (False, True):
        for ours, theirs in zip(ds.svd(a, full), np.linalg.svd(a, full_matrices=full)):
            assert ours.shape == theirs.shape
    assert ds.svdvals(a).shape == np.linalg.svd(a, compute_uv=False).shape
    assert ds.pinv(a).shape == np.linalg.pinv(a).shape
    assert ds.gradient(lambda x: np.sum(ds.nuclear_norm(x)), a).shape == shape
    assert ds.jvp(ds.svdvals, (a,), (a,))[1].shape == ds.svdvals(a).shape
    assert np.all(ds.nuclear_norm(a) == 0)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3), (2, 3, 0)], ids=str)
@pytest.mark.parametrize("order", [2, "nuc", "fro", 1, -1, np.inf, -np.inf, ("schatten", 3)], ids=str)
def test_norms_of_empty_matrices_are_those_of_numpy(shape, order):
    """0, but where the smallest of no sums is asked for; no element moves them."""
    a, f = np.ones(shape), lambda x: ds.norm(x, order)
    if order in (-1, -np.inf) and shape[-1 if order == -1 else -2] == 0:
        for call in (f, lambda x: ds.jvp(f, (x,), (x,))):
            with pytest.raises(ds.ShapeError, match="no numbers"):
                call(a)
        return
    expected = np.zeros(shape[:-2]) if isinstance(order, tuple) else np.linalg.norm(a, order, axis=(-2, -1))
    for y in (f(a), *ds.jvp(f, (a,), (a,))):
        assert np.array_equal(y, expected) and np.shape(y) == shape[:-2]
    assert ds.vjp(f, a)[1](np.ones(shape[:-2]))[0].shape == shape


@pytest.mark.parametrize("order", [0, 0.5, 1, 2, 3, np.inf, -1, -1000])
def test_norms_of_empty_vectors_are_those_of_numpy(order):
    x = np.ones((2, 0))
    with np.errstate(divide="ignore"):
        expected = np.linalg.norm(x, order, axis=-1)
    y, slope = ds.jvp(lambda x: ds.linalg.vector_norm(x, order), (x,), (x,))
    for value in (ds.linalg.vector_norm(x, order), y):
        np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(slope, [0, 0])


@pytest.mark.parametrize(
    ("f", "a", "error", "says"),
    [
        pytest.param(ds.svdvals, np.ones(3), ds.ShapeError, r"\(3,\).*a\[:, None\]", id="a vector"),
        pytest.param(ds.svd, np.ones((2, 2), np.float16), ds.DTypeError, "float16", id="half precision"),
        pytest.param(ds.opnorm, np.array([["a"]]), ds.DTypeError, "got <U1", id="strings"),
        pytest.param(lambda a: ds.norm(a, -2), np.ones((0, 3)), ds.ShapeError, "empty", id="no smallest value"),
        pytest.param(lambda a: ds.norm(a, -1), np.ones((3, 0)), ds.ShapeError, "no numbers", id="no smallest sum"),
        pytest.param(
            lambda x: ds.linalg.vector_norm(x, -np.inf), np.ones((2, 0)), ds.ShapeError, "no numbers", id="no element"
        ),
        pytest.param(np.linalg.inv, np.ones((2, 3)), np.linalg.LinAlgError, "square", id="NumPy's own error"),
        pytest.param(ds.linalg.inv, np.ones((2, 3)), ds.ShapeError, r"square.*\(2, 3\)", id="inverse of a rectangle"),
        pytest.param(ds.svdvals, np.array([[1.0, np.nan], [0, 1]]), ds.NonFiniteError, r"nan at \(0, 1\)", id="NaN"),
        *(
            pytest.param(
                lambda a, p=p: ds.norm(a, p), np.full((2, 2), np.nan), ds.NonFiniteError, "nan", id=f"norm {p}"
            )
            for p in (None, "fro", 1, -1, np.inf, -np.inf, 2, "nuc")
        ),
        *(
            pytest.param(ds.linalg.matrix_rank, a, ds.DTypeError, "a must hold", id=f"rank of {name}")
            for name, a in {
                "half precision": np.eye(2, dtype=np.float16),
                "objects": np.eye(2, dtype=object),
                "strings": [["a"]],
                "None": None,
                "a dict": {},
            }.items()
        ),
        pytest.param(lambda a: ds.low_rank(a, -1), np.eye(2), ds.ShapeError, "-1", id="negative rank"),
        pytest.param(lambda a: ds.linalg.singular_value_threshold(a, np.nan), np.eye(2), ValueError, "nan", id="tau"),
        pytest.param(
            lambda a: ds.spectral_function(a, lambda s: 1j * s, np.ones_like),
            np.eye(2),
            ds.DTypeError,
            "f must.*complex128",
            id="complex f",
        ),
        pytest.param(
            lambda a: ds.gradient(lambda x: np.sum(ds.spectral_function(x, np.exp, lambda s: s[:1])), a),
            np.eye(2),
            ds.ShapeError,
            r"df must.*\(1,\)",
            id="too short a df",
        ),
        pytest.param(lambda a: ds.norm(a, 7), np.eye(2), ValueError, "got 7", id="an order without a norm"),
        *(
            pytest.param(lambda a, p=p: ds.norm(a, p), np.eye(2), ValueError, says, id=f"norm of order {p}")
            for p, says in {("schatten",): "'schatten'", ("ky fan", 2): "ky fan", ("schatten", 0.5): "p >= 1"}.items()
        ),
        pytest.param(
            lambda a: ds.linalg.vector_norm(a, ("schatten", 3)), np.ones(2), ValueError, "number", id="vector"
        ),
        *(
            pytest.param(ds.svd, np.eye(2, dtype=kind), ds.DTypeError, rf"astype\(np\.{to}\)", id=np.dtype(kind).name)
            for kind, to in {np.longdouble: "float64", np.clongdouble: "complex128"}.items()
        ),
        *(
            pytest.param(lambda y, f=f: f(*y), factors, ds.ShapeError, f"factors.*{says}", id=f"{name} to {f.__name__}")
            for f in (lambda U, S, Vh: ds.svd_pushforward(U, S, Vh, np.eye(len(U))), ds.svd_pullback)
            for name, says, factors in (
                ("two triplets of three", r"\(3, 2\).*S_bar", (np.eye(3, 2), np.array([2.0, 1]), np.eye(2, 3))),
                ("two values of three", r"\(2,\)", (np.eye(3), np.array([2.0, 1]), np.eye(3))),
                ("three values of two", r"\(3,\)", (np.eye(2), np.array([3.0, 2, 1]), np.eye(2))),
                ("values of a stack", r"\(5, 2\)", (np.eye(2), np.ones((5, 2)) * [2, 1], np.eye(2))),
                ("vectors of a stack", r"\(5, 2, 2\)", (np.eye(2), np.array([2.0, 1]), np.ones((5, 2, 2)))),
            )
        ),
        pytest.param(lambda a: ds.linalg.lstsq(a, np.ones(4)), np.ones((3, 2)), ds.ShapeError, "3 rows", id="long b"),
        pytest.param(lambda a: ds.linalg.lstsq(a, 1.0), np.ones((3, 2)), ds.ShapeError, "3 rows", id="b a number"),
        pytest.param(lambda a: ds.linalg.lstsq(a, a), np.ones((2, 3, 3)), ds.ShapeError, "pinv", id="lstsq of a stack"),
        pytest.param(lambda a: ds.linalg.matrix_power(a, 1.5), np.eye(2), TypeError, "integer, got 1.5", id="power"),
        pytest.param(lambda a: ds.svdvals(a, ties="perhaps"), np.eye(2), ValueError, "perhaps", id="an unknown option"),
        pytest.param(
            lambda a: ds.svd_pushforward(*ds.svd(a), np.ones((3, 2))),
            np.eye(2),
            ds.ShapeError,
            r"\(3, 2\)",
            id="tangent shape",
        ),
        pytest.param(
            lambda a: ds.svd_pullback(*ds.svd(a), np.ones((3, 2))),
            np.eye(2),
            ds.ShapeError,
            "U_bar",
            id="cotangent shape",
        ),
    ],
)
def test_bad_input_is_told(f, a, error, says):
    with pytest.raises(error, match=says):
        f(a)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("count", [3, 100])
def test_a_matrix_that_is_not_finite_spoils_no_other(rng, bad, count):
    a, da = random(rng, (count, 3, 2), "float64"), random(rng, (count, 3, 2), "float64")
    spoiled = a.copy()
    spoiled[1, 2, 0] = bad
    others = np.arange(count) != 1
    norms = [lambda x, p=p: ds.norm(x, p) for p in ("fro", 1, -1)]
    all_of_it = [lambda x: ds.low_rank(x, 2), lambda x: ds.range_projector(x, 3)]
    for f in (ds.svdvals, lambda x: ds.svd(x).S, ds.nuclear_norm, ds.opnorm, ds.pinv, *norms, *all_of_it):
        with pytest.raises(ds.NonFiniteError, match="1 of"):
            f(spoiled)
        with ds.options(nonfinite="propagate"):
            y, dy = ds.jvp(f, (spoiled,), (da,))
            (g,) = ds.vjp(f, spoiled)[1](np.ones_like(y))
        expected, dexpected = ds.jvp(f, (a,), (da,))
        np.testing.assert_allclose(y[others], expected[others], atol=1e-13)
        np.testing.assert_allclose(dy[others], dexpected[others], atol=1e-10)
        assert np.isnan(y[1]).all() and np.isnan(dy[1]).all() and np.isnan(g[1]).all() and np.isfinite(g[others]).all()


SQUARE_ONLY = {
    "cond": ds.linalg.cond,
    "cond in the 1-norm": lambda a: ds.linalg.cond(a, 1),
    "slogdet": lambda a: ds.linalg.slogdet(a)[1],
    "sign": lambda a: ds.linalg.slogdet(a)[0],
    "solve": lambda a: ds.linalg.solve(a, np.ones((3, 1))),
    "inv": ds.linalg.inv,
    "low rank, all of it": lambda a: ds.low_rank(a, 3),
    "projector, all of it": lambda a: ds.linalg.range_projector(a, 3),
    "det": ds.linalg.det,
    "rank": ds.linalg.matrix_rank,
}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", SQUARE_ONLY)
def test_functions_of_square_matrices_refuse_what_is_not_finite(name, bad, rng):
    f, a = SQUARE_ONLY[name], random(rng, (4, 3, 3), "float64")
    spoiled, others = a.copy(), np.arange(4) != 1
    spoiled[1, 2, 0] = bad
    for x in (spoiled, spoiled[1], ds.DualArray(spoiled, a[None])):
        with pytest.raises(ds.NonFiniteError):
            f(x)
    with ds.options(nonfinite="propagate"):
        y, expected = f(spoiled), f(a)
    np.testing.assert_allclose(y[others], expected[others], rtol=1e-13)
    assert y[1] == 0 if name == "rank" else np.isnan(y[1]).all()


def test_a_right_side_that_is_not_finite(rng):
    a, b = random(rng, (3, 3), "float64"), np.array([[1.0, np.nan], [2.0, 0.0], [0.0, 1.0]])
    with pytest.raises(ds.NonFiniteError):
        ds.linalg.solve(a, b)
    with pytest.raises(ds.NonFiniteError):
        ds.linalg.solve(a, b[:, 1])
    with ds.options(nonfinite="propagate"):
        x = ds.linalg.solve(a, b)
    np.testing.assert_allclose(a @ x[:, 0], b[:, 0], atol=1e-13)
    assert np.isnan(x[:, 1]).all()


def test_the_condition_number_of_a_rectangle_that_is_not_finite_is_nan():
    with ds.options(nonfinite="propagate"):
        assert np.isnan(ds.linalg.cond(np.full((3, 2), np.nan)))


# ---------------------------------------------------------------------------------------------------------------------
# Jacobians without waste


@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (3, 5), (1, 4), (4, 1), (1, 1)], ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("part", [0, 1, 2], ids=["U", "S", "Vh"])
def test_jacobians_of_the_factors_are_those_of_their_columns(part, shape, dtype, rng):
    a = random(rng, shape, dtype)
    f = lambda x: ds.svd(x)[part]  # noqa: E731
    whole, columns = ds.jacobian(f, a), ds.jacobian(f, a, mode="forward")
    assert whole.dtype == a.dtype and whole.shape == columns.shape
    np.testing.assert_allclose(whole, columns, atol=100 * np.finfo(dtype).eps * np.abs(columns).max())
    out = np.empty_like(columns)[::-1]
    assert ds.jacobian(f, a, out=out) is out and np.array_equal(out, whole)


@pytest.mark.parametrize("name", ["svdvals", "U", "Vh", "opnorm"])
def test_jacobians_take_little_more_memory_than_they_fill(name, rng):
    f = {"svdvals": ds.svdvals, "U": lambda x: ds.svd(x).U, "Vh": lambda x: ds.svd(x).Vh, "opnorm": ds.opnorm}[name]
    a = random(rng, (40, 30) if name != "opnorm" else (300, 200), "float64")
    ds.jacobian(f, a)
    tracemalloc.start()
    J = ds.jacobian(f, a)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    rest = 6 * a.nbytes if name != "opnorm" else 20 * a.nbytes  # the variable, the factors, LAPACK's workspace
    assert peak <= 1.2 * J.nbytes + rest


# ---------------------------------------------------------------------------------------------------------------------
# Results into arrays of the caller's


def into(name: str, a: Any) -> tuple[Any, tuple[Any, ...]]:
    """A function of out=, and what it gives without."""
    y = ds.svd(a)
    bars = tuple(np.roll(x, 1, axis=0) for x in y)
    if np.iscomplexobj(a):
        bars = (None, y.S, None)  # no cotangent that depends on phases
    call = {
        "svd": lambda out=None: ds.svd(a, out=out),
        "svdvals": lambda out=None: ds.svdvals(a, out=out[0] if out else None),
        "svd_pushforward": lambda out=None: ds.linalg.svd_pushforward(*y, a[::-1], out=out),
        "several": lambda out=None: ds.linalg.svd_pushforward(*y, np.stack([a, a[::-1]]), out=out),
        "svd_pullback": lambda out=None: ds.linalg.svd_pullback(*y, *bars, out=out[0] if out else None),
    }[name]
    plain = call()
    return call, plain if isinstance(plain, tuple) else (plain,)


@pytest.mark.parametrize("name", ["svd", "svdvals", "svd_pushforward", "several", "svd_pullback"])
@pytest.mark.parametrize("shape", [(100, 3, 3), (3, 4, 2), (100, 2, 5)], ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128"])
def test_results_go_where_they_are_told(name, shape, dtype, rng):
    call, plain = into(name, random(rng, shape, dtype))
    for make in (np.empty_like, lambda x: np.empty((*x.shape, 2), x.dtype)[..., 0], lambda x: np.empty_like(x)[::-1]):
        out = tuple(map(make, plain))
        result = call(out)
        result = result if isinstance(result, tuple) else (result,)
        assert all(x is y for x, y in zip(result, out))
        assert all(np.array_equal(x, y) for x, y in zip(out, plain))
    with pytest.raises(ds.ShapeError, match=r"must have shape \("):
        call(tuple(x[..., :1] for x in plain))
    with pytest.raises(ds.DTypeError, match="must hold"):
        call(tuple(x.astype(np.result_type(x, np.longdouble)) for x in plain))
    with pytest.raises(ds.DTypeError, match="plain arrays, got list"):
        call(tuple(x.tolist() for x in plain))


def test_results_may_go_where_the_matrices_are(rng):
    a = random(rng, (100, 3, 3), "float64")
    plain, U = ds.svd(a), a.copy()
    ds.svd(U, out=(U, np.empty((100, 3)), np.empty_like(a)))
    assert np.array_equal(U, plain.U)


def test_a_traced_matrix_takes_no_array_for_its_results():
    with pytest.raises(ds.DTypeError, match="differentiate without it"):
        ds.jvp(lambda a: ds.svdvals(a, out=np.empty(2)), (np.eye(2),), (np.eye(2),))


# ---------------------------------------------------------------------------------------------------------------------
# Rules and reports


def test_factors_are_remembered_only_as_long_as_their_result():
    from dualsvd.linalg import factorise

    before = len(factorise._factors)
    y = SVDVALS(np.eye(3))
    assert len(factorise._factors) == before + 1 and factorise.recall(y) is not None
    del y
    assert len(factorise._factors) == before


def test_linearize_reuses_the_factorisation(monkeypatch, rng):
    a, d = random(rng, (2, 4, 3), "float64")
    y, push = ds.linearize(ds.nuclear_norm, a)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("factorised again")

    monkeypatch.setattr(np.linalg, "svd", fail)
    slope = push(d)
    monkeypatch.undo()
    # LAPACK rounds values alone and values with vectors apart
    assert y == pytest.approx(ds.nuclear_norm(a), rel=1e-14)
    assert slope == pytest.approx(ds.jvp(ds.nuclear_norm, (a,), (d,))[1], rel=1e-13)


@pytest.mark.parametrize(
    "rule",
    [rule for rule in RULES if rule.function.__module__.startswith("dualsvd.linalg")],
    ids=lambda rule: rule.name,
)
def test_every_rule_of_this_package_agrees_with_every_way(rule: Rule):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds.check_rules([rule]).raise_if_failed()


@pytest.mark.parametrize("digits", [30, 100, 140])
def test_the_jacobian_of_graded_values_has_the_digits_of_their_tangents(digits):
    """s_1 is the length of the first column x, and s_2 = |det| / s_1, to their last digits."""
    b, unit = np.array([[1.0, 2.0], [3.0, -1.0]]), 10.0**digits
    x, det, cofactors = b[:, 0], -7.0, np.array([-1.0, -2.0])
    by_x = abs(det) / np.linalg.norm(x) * (cofactors / det - x / (x @ x))
    with ds.options(algorithm="jacobi"):
        for mode in ("auto", "forward"):
            J = ds.jacobian(ds.svdvals, b * [unit, 1 / unit], mode=mode)
            np.testing.assert_allclose(J[1, :, 0] * unit * unit, by_x, rtol=1e-12)


def test_the_report_of_a_spectrum_reads_aloud():
    report = ds.linalg.diagnose(np.diag([2.0, 2.0, 1.0, 0.0]))
    assert (
        report.clusters == (((0, 1), (2,), (3,)),)
        and report.rank == 3
        and report.tied
        and report.deficient
        and report.mask
    )
    assert report.condition["low_rank, k = 2"] == 2 and np.isinf(report.condition["low_rank, k = 1"])
    assert "tied with 2" in str(report) and "zero" in str(report)
    again = json.loads(report.to_json())
    assert again["rank"] == 3 and again["condition"]["svd"] is None and again["clusters"] == [[[0, 1], [2], [3]]]


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", [(4, 4), (5, 4)], ids=str)
def test_conditions_are_what_derivatives_make_of_an_error_in_the_matrix(shape, dtype):
    """Observed: the change of the gradient, or of derivatives along some directions, relative to their size, as the
    matrix moves by 1e-11 of its own. Random directions and changes meet what is worst by a part, or add a few times."""
    a, change = cases.spectrum(*shape, [3, 2, 1, 1e-4], dtype=dtype), cases.normal(*shape, dtype=dtype)
    there = a + 1e-11 * 3 * change / np.linalg.norm(change, 2)
    condition = ds.linalg.diagnose(a).condition
    functions = {
        "opnorm": ds.opnorm,
        "nuclear_norm": ds.nuclear_norm,
        "polar": lambda x: ds.polar(x)[0],
        "pinv, keeping the rank": ds.pinv,
        "low_rank, k = 3": lambda x: ds.low_rank(x, 3),
    }
    directions = np.stack([cases.direction(shape, seed, dtype) for seed in range(8)])
    for name, f in functions.items():
        if np.ndim(f(a)):
            here, moved = (np.stack([along(f, x, d) for d in directions]) for x in (a, there))
        else:
            here, moved = (ds.gradient(f, x, mode="reverse") for x in (a, there))
        observed = np.max(np.abs(moved - here)) / np.max(np.abs(here)) / 1e-11
        assert condition[name] / 30 <= observed <= 3 * condition[name], (name, observed, condition[name])


def test_the_report_of_a_stack_marks_the_matrices_to_mistrust():
    stack = np.stack([np.diag([3.0, 1.0]), np.eye(2), np.diag([1.0, 1 - 1e-10]), np.diag([1.0, 0.0])])
    report = ds.linalg.diagnose(stack)
    assert report.mask.tolist() == [False, True, True, False]
    assert report.tied.tolist() == [False, True, False, False] and report.deficient.tolist() == [
        False,
        False,
        False,
        True,
    ]
    assert str(report).count("*") >= 2
    with ds.options(algorithm="jacobi"):
        assert np.isinf(ds.linalg.diagnose(np.diag([1e200, 1e-200])).condition["pinv, keeping the rank"])
    with ds.options(nonfinite="propagate"):
        report = ds.linalg.diagnose(np.stack([np.eye(2), np.full((2, 2), np.nan)]))
    assert report.mask.tolist() == [True, True]
    assert report.rank.tolist() == [2, 0] and report.deficient.tolist() == [False, True]


def test_the_rule_of_spectral_functions_is_its_own_derivative(rng):
    """D^2 F(A)[D, E] is symmetric in D, E and in what it is paired with."""
    from dualsvd.linalg.divided_differences import Kept

    a, D, E, W = random(rng, (4, 4, 3), "complex128")
    f = Kept("inverse")
    values = [inner((W,), (SPECTRAL(a, D, E, family=f),)), inner((W,), (SPECTRAL(a, E, D, family=f),)),
              inner((D,), (SPECTRAL(a, W, E, family=f),)), inner((E,), (SPECTRAL(a, D, W, family=f),))]  # fmt: skip
    np.testing.assert_allclose(values, values[0], rtol=1e-12)


def test_the_svd_rule_takes_one_operand_of_any_level(rng):
    """Third derivatives by nesting: of the cube of the spectral norm along A itself, 6 ||A||^3."""
    a = random(rng, (3, 2), "float64")
    f = lambda t: ds.opnorm(t * a) ** 3  # noqa: E731
    third = ds.derivative(lambda t: ds.derivative(lambda u: ds.derivative(f, u), t), 1.0)
    assert third == pytest.approx(6 * ds.opnorm(a) ** 3, rel=1e-12)
    assert isinstance(SVD(a), SVDResult)


READ_ONLY = np.zeros((20, 2))
READ_ONLY.flags.writeable = False
SQUARE = np.zeros((20, 2, 2))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda a: ds.svdvals(a, out=READ_ONLY), ds.DTypeError, "read-only"),
        (lambda a: ds.svd(a, out=(SQUARE, np.zeros((20, 2)), SQUARE)), ds.ShapeError, "share memory"),
        (lambda a: ds.svdvals(a, out=np.zeros((20, 3))), ds.ShapeError, r"\(20, 2\)"),
        (lambda a: ds.svdvals(a, out=[0.0]), ds.DTypeError, "plain arrays"),
        (lambda a: ds.jacobian(ds.svdvals, a[0], out=np.zeros((2, 2, 2), int)), ds.DTypeError, "float64"),
        (lambda a: ds.jacobian(lambda x: 1.5 * x, a[0, 0], out=np.zeros((2, 2), int)), ds.DTypeError, "float64"),
        (lambda a: ds.jacobian(ds.svdvals, a[0], out=np.zeros((2, 2))), ds.ShapeError, r"\(2, 2, 2\)"),
    ],
)
def test_outputs_that_cannot_take_the_results_are_refused_and_kept(call, error, words, rng):
    with pytest.raises(error, match=words):
        call(rng.standard_normal((20, 2, 2)))
    assert not READ_ONLY.any() and not SQUARE.any()


@pytest.mark.parametrize("how", [{}, {"tangents": "sweeps"}, {"algorithm": "jacobi"}], ids=str)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (5, 0, 3), (0, 3, 3)], ids=str)
def test_empty_matrices_have_empty_derivatives(shape, how):
    with ds.options(**how):
        for f in (ds.svdvals, lambda x: ds.svd(x)[0], lambda x: ds.svd(x)[2]):
            y, dy = ds.jvp(f, (np.zeros(shape),), (np.zeros(shape),))
            assert dy.shape == y.shape == f(np.zeros(shape)).shape


def test_no_directions_are_as_good_as_some(rng):
    a = rng.standard_normal((5, 3, 3))
    none = ds.DualArray(a, np.zeros((0, 5, 3, 3)))
    assert ds.svdvals(none).partials.shape == (0, 5, 3)
    assert [x.partials.shape for x in ds.svd(none)] == [(0, 5, 3, 3), (0, 5, 3), (0, 5, 3, 3)]
    graded = ds.DualArray(a * [1, 1e-5, 1e-9], none.partials)
    assert ds.svdvals(graded, algorithm="jacobi").partials.shape == (0, 5, 3)


@pytest.mark.parametrize("batch", [(), (9,)], ids=["one", "a stack"])
@pytest.mark.parametrize("factors", cases.DTYPES)
@pytest.mark.parametrize("moved", cases.DTYPES)
def test_derivatives_have_the_precision_of_the_factors(batch, factors, moved, rng):
    a, d = random(rng, (*batch, 4, 3), factors), random(rng, (*batch, 4, 3), moved)
    y = ds.svd(a)
    U_bar = d if factors[0] == "f" else d - y.U * np.sum(np.conj(y.U) * d, axis=-2, keepdims=True)  # sees no phase
    if moved[0] == "c" and factors[0] == "f":
        for call in (lambda: ds.linalg.svd_pushforward(*y, d), lambda: ds.linalg.svd_pullback(*y, d)):
            with pytest.raises(ds.DTypeError, match=f"real to go with {factors}"):
                call()
        return
    assert [x.dtype for x in ds.linalg.svd_pushforward(*y, d)] == [x.dtype for x in y]
    assert ds.linalg.svd_pullback(*y, U_bar, y.S.astype("float64")).dtype == a.dtype


@pytest.mark.parametrize("scale", [1.2e308, 1e-310])
@pytest.mark.parametrize("algorithm", ["lapack", "jacobi"])
def test_eigenvalues_at_the_ends_of_the_numbers(scale, algorithm):
    a, d = scale * np.diag([1.0, 0.5]), np.array([[1.0, 2.0], [2.0, 3.0]])
    f = lambda x: ds.linalg.eigvalsh(x, algorithm=algorithm)  # noqa: E731
    w, Q = ds.linalg.eigh(a, algorithm=algorithm)
    for values in (w, f(a)):
        np.testing.assert_allclose(values / scale, [0.5, 1], rtol=1e-12)
    np.testing.assert_allclose(np.abs(Q), [[0, 1], [1, 0]], atol=1e-15)
    np.testing.assert_allclose(ds.jvp(f, (a,), (d,))[1], [3, 1], rtol=1e-12)
    np.testing.assert_allclose(ds.linalg.polar(a).positive / scale, a / scale, rtol=1e-12)


def test_refined_values_keep_tails_and_factors_apart(rng):
    a, d = random(rng, (2, 4, 3), "float64")
    with ds.options(refine=1):
        (U, _, Vh), S = ds.svd(a), ds.svdvals(ds.DualArray(a, d[None])).value
        _, dS, _ = ds.linalg.svd_pushforward(U, S, Vh, d)
        A_bar = ds.linalg.svd_pullback(U, S, Vh, None, dS)
    assert inner((A_bar,), (d,)) == pytest.approx(dS @ dS, rel=1e-13)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", [(9, 9), (20, 9), (9, 20), (3, 12, 11)], ids=str)
def test_refined_factors_are_right_to_their_last_digit(shape, dtype, rng):
    """Orthonormal, and with A as their product, to the rounding of each number; tall and wide ones too, where what A
    has outside of U is not to be taken for what a U a little too long leaves of it."""
    a = random(rng, shape, dtype)
    for steps in (1, 2):
        U, S, Vh = (x.astype(np.result_type(x, np.longdouble)) for x in ds.svd(a, refine=steps))
        eye = np.eye(min(shape[-2:]))
        for defect in (adjoint(U) @ U - eye, Vh @ adjoint(Vh) - eye, ((U * S[..., None, :]) @ Vh - a) / np.max(S)):
            assert np.abs(defect).max() < cases.eps(a)


@pytest.mark.parametrize("shape", [(40, 50, 50), (2, 9, 60, 49), (7, 49, 80), (4, 6, 4000)], ids=str)
def test_closed_forms_of_large_stacks_are_those_of_their_matrices(shape, rng):
    """They go through products of matrices block by block: wide and tall, complex, with a tie and a zero."""
    a, d, u = rng.standard_normal((3, *shape)) + 1j * rng.standard_normal((3, *shape))
    flat = a.reshape(-1, *shape[-2:])
    flat[1] = np.eye(*shape[-2:])
    flat[2, :, 0] = 0
    U, S, Vh = ds.svd(a)
    dU, dS, dVh = ds.linalg.svd_pushforward(U, S, Vh, np.stack([d, u]))
    bars = U * np.real(u[..., :1, :1]), np.ones_like(S), None
    bars[0].reshape(len(flat), -1)[1:3] = bars[1].reshape(len(flat), -1)[2] = 0  # where none is allowed
    with ds.options(ties="subspace"):
        A_bar = ds.linalg.svd_pullback(U, S, Vh, *bars)
        for i in np.ndindex(shape[:-2]):
            one = ds.linalg.svd_pushforward(U[i], S[i], Vh[i], np.stack([d[i], u[i]]))
            for x, y in zip((dU, dS, dVh), one):
                np.testing.assert_allclose(x[(slice(None), *i)], y, rtol=0, atol=1e-9 * np.abs(y).max())
            single = ds.linalg.svd_pullback(U[i], S[i], Vh[i], bars[0][i], bars[1][i], None)
            np.testing.assert_allclose(A_bar[i], single, rtol=0, atol=1e-9 * np.abs(single).max())


# ---------------------------------------------------------------------------------------------------------------------
# Where a factorisation is not the easy one

EPS = float(np.finfo(np.float64).eps)


def _of_rank(rng, m, n, rank, is_complex):
    def normal(*shape):
        x = rng.standard_normal(shape)
        return x + 1j * rng.standard_normal(shape) if is_complex else x

    return normal(m, rank) @ normal(rank, n)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
def test_refinement_leaves_what_is_zero_alone(steps, is_complex, rng):
    matrices = [_of_rank(rng, *rng.integers(2, 8, 2), 2, is_complex) for _ in range(20)]
    Q, R = (np.linalg.qr(_of_rank(rng, 4, 4, 4, is_complex))[0] for _ in range(2))
    matrices += [(Q * [3, 2, 1, small]) @ R for small in (0.0, 1e-14, 1e-13, 1e-11)] + [np.outer([1.0, 3, 5], [1.0, 2])]
    for a in matrices:
        U, S, Vh = ds.svd(a, refine=steps)
        r = len(S)
        assert np.abs(U.conj().T @ U - np.eye(r)).max() < 4 * EPS
        assert np.abs(Vh @ Vh.conj().T - np.eye(r)).max() < 4 * EPS
        assert np.abs((U * S) @ Vh - a).max() < 4 * EPS * S[0]
        np.testing.assert_allclose(S, np.linalg.svd(a)[1], rtol=0, atol=16 * EPS * S[0])
        assert (S >= 0).all()


@pytest.mark.parametrize(("dtype", "exponent"), [("d", 0), ("d", 331), ("d", 500), ("d", -700), ("f", 38), ("f", -60)])
def test_refined_derivatives_know_no_scale(dtype, exponent, rng):
    """c A and c D, c a power of two: what the values have below rounding is in their units."""
    Q, P, d, W = (np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(4))
    a, d, W = (((Q * [1, 0.8, 0.3]) @ P).astype(dtype), d.astype(dtype), W.astype(dtype))
    c = np.ldexp(np.dtype(dtype).type(1), exponent)

    def dyad(x):
        U, _, Vh = ds.svd(x)
        return U[:, :1] @ Vh[:1]

    expected = along(dyad, a, d)
    with ds.options(refine=1):
        slopes = along(dyad, c * a, c * d)
        U, S, Vh = ds.svd(c * a)
        dU, _, dVh = ds.svd_pushforward(U, S, Vh, c * d)
        A_bar = ds.gradient(lambda x: np.sum(W * dyad(x)), c * a, mode="reverse")
    bound = 100 * cases.eps(dtype)  # gaps of 0.2 and more
    np.testing.assert_allclose(slopes, expected, rtol=0, atol=bound)
    np.testing.assert_allclose(dU[:, :1] @ Vh[:1] + U[:, :1] @ dVh[:1], expected, rtol=0, atol=bound)
    assert np.sum(c * A_bar * d) == pytest.approx(np.sum(W * expected), abs=bound)


@pytest.mark.parametrize("neighbour", [1, 0, np.nan], ids=["alike", "zero", "NaN"])
def test_refinement_of_a_matrix_does_not_look_at_its_neighbours(neighbour, rng):
    Q, P, d = (np.linalg.qr(rng.standard_normal((4, 4)))[0] for _ in range(3))
    a = (Q * [2, 1 + 1e-9, 1, 0.5]) @ P

    def dyad(x):
        U, _, Vh = ds.svd(x)
        return U[..., :, 1:2] @ Vh[..., 1:2, :]

    with ds.options(refine=2, nonfinite="propagate"):
        alone = ds.jvp(dyad, (a,), (d,))[1]
        slopes = ds.jvp(dyad, (np.stack([a, neighbour * a]),), (np.stack([d, d]),))[1]
    np.testing.assert_allclose(slopes[0], alone, rtol=1e-13)
    assert np.isnan(slopes[1]).all() == np.isnan(neighbour)


#: what is differentiated, how often, and the same of mpmath's U, S, V
NEAR_CUT = {
    "low_rank": (lambda a, W: np.sum(W * ds.low_rank(a, 1)), 1, lambda U, S, V, W: pair(U, V, W) * S[0]),
    "projector": (lambda a, W: np.sum(W * ds.range_projector(a, 1)), 1, lambda U, S, V, W: pair(U, U.T, W)),
    "opnorm": (lambda a, W: ds.opnorm(a), 2, lambda U, S, V, W: S[0]),
    "norm of order 2": (lambda a, W: ds.norm(a, 2), 2, lambda U, S, V, W: S[0]),
    "low_rank, second": (lambda a, W: np.sum(W * ds.low_rank(a, 1)), 2, lambda U, S, V, W: pair(U, V, W) * S[0]),
}


def pair(U, V, W):
    return sum(W[i, j] * U[i, 0] * V[0, j] for i in range(3) for j in range(3))


@pytest.mark.parametrize("name", NEAR_CUT)
def test_refinement_reaches_functions_that_cut_between_close_values(name, rng):
    f, order, exactly = NEAR_CUT[name]
    Q, P = (np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(2))
    a, (d, W) = (Q * [1, 1 - 1e-10, 0.3]) @ P, rng.standard_normal((2, 3, 3))
    with mp.workdps(120):
        h = mp.mpf(10) ** -40
        A, D = mp.matrix(a.tolist()), mp.matrix(d.tolist())
        low, here, high = (exactly(*mp.svd_r(A + t * h * D), W) for t in (-1, 0, 1))
        exact = float((high - low) / (2 * h) if order == 1 else (high - 2 * here + low) / h**2)
    along = lambda x: ds.jvp(lambda x: f(x, W), (x,), (d,))[1]  # noqa: E731
    with ds.options(refine=2):
        found = along(a) if order == 1 else ds.jvp(along, (a,), (d,))[1]
    assert found == pytest.approx(exact, rel=1e-13)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("others", [(), (3, 3), (0.1, 0.1), (0.05, 0)], ids=str)
def test_refinement_is_not_lost_beside_a_tie_or_a_zero(others, sign, rng):
    """The second derivative of a dyad of two close values, where other values of the matrix meet."""
    Q, P = (np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(2))
    n, k = 3 + len(others), sum(s > 1 for s in others)
    a, (d, W) = np.diag([0.0, 0, 0, *others]), rng.standard_normal((2, n, n))
    a[:3, :3], d = (Q * [1, 1 - 1e-9, 0.3]) @ P, sign * d

    def exactly(t):
        U, S, V = mp.svd_r(mp.matrix(a.tolist()) + t * mp.matrix(d.tolist()))
        i = sorted(range(n), key=lambda i: -S[i])[k]
        return sum(W[p, q] * U[p, i] * V[i, q] for p in range(n) for q in range(n))

    def dyad(x):
        U, _, Vh = ds.svd(x)
        return np.sum(W * np.outer(U[:, k], Vh[k]))

    with mp.workdps(80):
        h = mp.mpf(10) ** -25
        exact = float((exactly(h) - 2 * exactly(0) + exactly(-h)) / h**2)
    slope = lambda x: ds.jvp(dyad, (x,), (d,))[1]  # noqa: E731
    with ds.options(refine=1):
        second = ds.jvp(slope, (a,), (d,))[1]
        mixed = ds.jvp(lambda x: ds.gradient(dyad, x, mode="reverse"), (a,), (d,))[1]
    assert [second, np.sum(mixed * d)] == pytest.approx([exact] * 2, rel=1e-13)


#: f, its derivative, and f in mpmath
BENDING = {
    "kink": (lambda s: np.maximum(s - 1, 0), lambda s: np.where(s > 1, 1.0, 0.0), lambda x: max(x - 1, 0)),
    "fast": (lambda s: np.sin(1000 * s), lambda s: 1000 * np.cos(1000 * s), lambda x: mp.sin(1000 * x)),
    "slower": (lambda s: np.sin(50 * s), lambda s: 50 * np.cos(50 * s), lambda x: mp.sin(50 * x)),
    "smooth": (np.tanh, lambda s: 1 - np.tanh(s) ** 2, mp.tanh),
}


@pytest.mark.parametrize("gap", [0.04, 1e-2, 1e-5, 1e-9])
@pytest.mark.parametrize("name", BENDING)
def test_functions_that_bend_between_two_values(name, gap):
    """The derivative of U f(S) V^H along u_1 v_2^H + u_2 v_1^H is the divided difference of f there."""
    f, df, exactly = BENDING[name]
    s = np.array([1 + gap / 2, 1 - gap / 2])
    with mp.workdps(60):
        x, y = (mp.mpf(float(value)) for value in s)
        exact = float((exactly(x) - exactly(y)) / (x - y))
    a, swap = np.diag(s), np.array([[0.0, 1.0], [1.0, 0.0]])
    function = lambda a: ds.spectral_function(a, f, df)  # noqa: E731
    found = ds.jvp(function, (a,), (swap,))[1][0, 1]
    by_reverse = ds.gradient(lambda a: np.sum(swap * function(a)), a, mode="reverse")[0, 1]
    lost = (
        8 * EPS * np.abs(f(s)).max() / gap if name in ("kink", "fast") else 0.0
    )  # by the quotient, which is taken there
    np.testing.assert_allclose([found, by_reverse], exact, rtol=1e-13, atol=lost)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, np.inf])
def test_a_schatten_norm_at_zero_has_the_slope_of_the_norm_itself(p, rng):
    zero, d = np.zeros((3, 2)), rng.standard_normal((3, 2))
    f = lambda a: ds.linalg.norm(a, ("schatten", p))  # noqa: E731
    np.testing.assert_allclose(ds.jvp(f, (zero,), (d,))[1], f(d), rtol=1e-14)
    np.testing.assert_allclose(ds.jvp(f, (np.stack([zero, d]),), (np.stack([d, d]),))[1], [f(d)] * 2, rtol=1e-14)
    assert not ds.gradient(f, zero).any()


NORMS_AT_ZERO = {
    "vector": lambda x: np.linalg.norm(x.reshape(-1)),
    "vector of order 3": lambda x: np.linalg.norm(x.reshape(-1), 3),
    "vector of order 1.5": lambda x: np.linalg.norm(x.reshape(-1), 1.5),
    "rows": lambda x: np.sum(np.linalg.norm(x, axis=-1) * np.array([1.0, 2.0, 3.0])),
    "fro": lambda x: ds.linalg.norm(x, "fro"),
    "schatten 3": lambda x: ds.linalg.norm(x, ("schatten", 3)),
    "schatten 1.5": lambda x: ds.linalg.norm(x, ("schatten", 1.5)),
    "nuclear": ds.nuclear_norm,
    "opnorm": ds.opnorm,
}


@pytest.mark.parametrize("name", NORMS_AT_ZERO)
def test_the_slope_of_a_norm_at_zero_is_the_norm_of_the_direction(name, rng):
    """So is its derivative by the direction, and all that does not depend on the chunk."""
    norm, zero, d = NORMS_AT_ZERO[name], np.zeros((3, 2)), rng.standard_normal((3, 2))
    slope = lambda d: ds.jvp(norm, (zero,), (d,))[1]  # noqa: E731
    for mode in ("forward", "reverse"):
        value, gradient = ds.value_and_gradient(slope, d, mode=mode)
        np.testing.assert_allclose(value, norm(d), rtol=1e-14)
        np.testing.assert_allclose(gradient, ds.gradient(norm, d), rtol=1e-12, atol=1e-14)
    chunks = [ds.jacobian(norm, zero, mode="forward", chunk=chunk) for chunk in (None, 1, 2, 4)]
    for J in chunks[1:]:
        np.testing.assert_array_equal(J, chunks[0])
    if name == "rows":  # a row that is elsewhere takes no part
        at, along = np.array([[0, 0], [1, 2], [0, 0.0]]), np.array([[3, 4], [0, 0], [0, 1.0]])
        value, gradient = ds.value_and_gradient(lambda d: ds.jvp(norm, (at,), (d,))[1], along)
        assert value == 5 + 3
        np.testing.assert_allclose(gradient, [[0.6, 0.8], 2 * at[1] / np.sqrt(5), [0, 3]], rtol=1e-14)


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
@pytest.mark.parametrize("p", [2, 3, 1.5])
def test_norms_of_nothing_have_derivatives_without_entries(p, mode):
    f = lambda x: np.linalg.norm(x, p)  # noqa: E731
    assert ds.gradient(f, np.zeros(0), mode=mode).shape == (0,)
    assert ds.hessian(f, np.zeros(0), mode=mode).shape == (0, 0)
    assert ds.hessian(np.linalg.norm, np.zeros((0, 3)), mode=mode).shape == (0, 3, 0, 3)


@pytest.mark.parametrize(
    ("dtype", "value", "tangent"),
    [
        ("f", 1e-39, 1.0),
        ("f", 1e-30, 1e9),
        ("f", 1e15, 1e-31),
        ("d", 1e-309, 1.0),
        ("d", 1e-200, 1e100),
        ("d", 1e150, 1e-180),
    ],
)
def test_tangents_of_another_size_than_the_matrix(dtype, value, tangent, rng):
    a, d = rng.standard_normal((2, 3, 3)).astype(dtype)
    scale = np.dtype(dtype).type(tangent)
    for f in (ds.svdvals, ds.opnorm, ds.nuclear_norm, lambda a: ds.linalg.norm(a, "fro")):
        small = a * np.dtype(dtype).type(value)
        exact = (small.astype(np.longdouble) / np.longdouble(value)).astype(np.float64)
        expected = ds.jvp(f, (exact,), (d.astype(np.float64),))[1]
        slope = ds.jvp(f, (small,), (d * scale,))[1].astype(np.float64) / tangent
        np.testing.assert_allclose(slope, expected, rtol=0, atol=100 * np.finfo(dtype).eps * np.abs(expected).max())


#: functions of a matrix that are homogeneous, and of what degree
HOMOGENEOUS: dict[str, tuple[Any, int]] = {
    "svdvals": (ds.svdvals, 1),
    "values of svd": (lambda a: ds.svd(a).S, 1),
    "vectors of svd": (lambda a: (lambda y: y.U[..., :, :1] @ y.Vh[..., :1, :])(ds.svd(a)), 0),
    "opnorm": (ds.opnorm, 1),
    "smallest": (lambda a: ds.norm(a, -2), 1),
    "nuclear": (ds.nuclear_norm, 1),
    "fro": (lambda a: ds.norm(a, "fro"), 1),
    "schatten 3": (lambda a: ds.norm(a, ("schatten", 3)), 1),
    "schatten 200": (lambda a: ds.norm(a, ("schatten", 200)), 1),
    "low rank": (lambda a: ds.low_rank(a, 1), 1),
    "threshold": (lambda a: ds.linalg.singular_value_threshold(a, 0), 1),
    "unitary": (lambda a: ds.polar(a).unitary, 0),
    "positive": (lambda a: ds.polar(a).positive, 1),
    "projector": (lambda a: ds.linalg.range_projector(a, 1), 0),
    "pinv": (ds.pinv, -1),
    "cond": (ds.linalg.cond, 0),
    "normalized": (ds.spectral.spectral_normalize, 0),
    "eigenvalues": (lambda a: ds.linalg.eigvalsh(a[..., :3, :]), 1),
    "values of eigh": (lambda a: ds.linalg.eigh(a[..., :3, :]).eigenvalues, 1),
    "vectors of eigh": (lambda a: np.abs(ds.linalg.eigh(a[..., :3, :]).eigenvectors) ** 2, 0),
}


def pulled(f: Any, y_bar: Any) -> Any:
    """a -> the pullback of y_bar at a."""
    return lambda a: ds.vjp(f, a)[1](y_bar)[0]


def along(f: Any, a: Any, d: Any) -> Any:
    return ds.jvp(f, (a,), (d,))[1]


@pytest.mark.parametrize("name", HOMOGENEOUS)
@pytest.mark.parametrize(
    ("dtype", "exponent"), [("f", -93), ("f", 76), ("d", -600), ("d", 600), ("D", -600), ("d", -980), ("d", 940)]
)
def test_cotangents_of_the_size_of_a_very_small_or_large_matrix(name, dtype, exponent, rng):
    """f(c A) = c^k f(A): of its pullback the powers are 1, c or 1 / c, and so they are of all second derivatives."""
    f, degree = HOMOGENEOUS[name]
    a, d, e = (random(rng, (2, 4, 3), dtype) for _ in range(3))
    y_bar = random(rng, np.shape(f(a)), np.result_type(f(a)).char)
    bottom = np.finfo(dtype).minexp

    def times(x: Any, power: int) -> Any:
        """x c^power for the first matrix of the stack; the second shows that others stay as they are."""
        factors = np.array([np.ldexp(1.0, exponent * power), 1.0]).astype(x.real.dtype)
        return x * factors.reshape(2, *(1,) * (x.ndim - 1))

    A, D, E = (times(x, 1) for x in (a, d, e))
    found = [(ds.jvp(f, (A,), (D,))[1], ds.jvp(f, (a,), (d,))[1], degree)]
    found.append((along(lambda x: along(f, x, D), A, E), along(lambda x: along(f, x, d), a, e), degree))
    for units in (0, 1):
        power = units + degree - 1
        if abs(power) > 1:
            continue
        Y = times(y_bar, units)
        found.append((pulled(f, Y)(A), pulled(f, y_bar)(a), power))
        found.append((along(pulled(f, Y), A, D), along(pulled(f, y_bar), a, d), power))
        if units and abs(exponent) > -0.6 * bottom and degree == 1:
            continue  # a cotangent times a direction leaves the range
        by_both = pulled(lambda x, f=f: along(f, x, D), Y)(A), pulled(lambda x, f=f: along(f, x, d), y_bar)(a)
        found.append((*by_both, power))
        for own in (0, 1):
            if abs(power + own - 1) <= 1:
                twice = pulled(pulled(f, Y), times(e, own))(A), pulled(pulled(f, y_bar), e)(a)
                found.append((*twice, power + own - 1))
    for actual, expected, power in found:
        for one, other in zip(actual, times(expected, power)):
            np.testing.assert_allclose(one, other, rtol=0, atol=3e4 * cases.eps(dtype) * np.abs(other).max())


@pytest.mark.parametrize("name", HOMOGENEOUS)
@pytest.mark.parametrize(
    ("dtype", "size", "tiny", "algorithm"),
    [
        ("d", 2.0**565, 1e-200, "lapack"),
        ("d", 2.0**565, 1e-250, "lapack"),
        ("f", 2.0**66, 1e-30, "lapack"),
        ("d", 2.0**565, 1e-200, "jacobi"),  # which keeps tiny entries, and brings the others as far as that allows
    ],
)
def test_a_tiny_entry_changes_nothing_in_a_huge_matrix(name, dtype, size, tiny, algorithm):
    """Whether an entry far below the rounding of the others is a zero, or not quite."""
    f = HOMOGENEOUS[name][0]
    b, d, size = cases.normal(4, 3), cases.direction((4, 3), 1), np.dtype(dtype).type(size)
    b[0, 2] = 0
    a, d = (size * x.astype(dtype) for x in (b, d))
    almost = a.copy()
    almost[0, 2] = tiny
    with ds.options(algorithm=algorithm):
        for g in (f, lambda x: along(f, x, d)):
            expected = along(g, a, d)
            bound = 1e3 * cases.eps(dtype) * np.abs(expected).max()  # where scales differ, sums round otherwise
            np.testing.assert_allclose(along(g, almost, d), expected, rtol=0, atol=bound)


@pytest.mark.parametrize("n", [3, 40])
def test_the_pullback_of_huge_factors_leaves_the_cotangent_of_the_values_its_units(rng, n):
    (U, S, Vh), S_bar = ds.svd(rng.standard_normal((n, n))), rng.standard_normal(n)
    pulled_back = ds.linalg.svd_pullback(U, 1e200 * S, Vh, 1e200 * U, 1e150 * S_bar)
    np.testing.assert_allclose(pulled_back / 1e150, U * S_bar @ Vh, atol=1e-13)


def test_a_loss_in_the_units_of_a_tiny_matrix(rng):
    a, target, c = rng.standard_normal((3, 3)), np.array([3.0, 2, 1]), 1e-200
    loss = lambda a, c: np.sum((ds.svdvals(a) - c * target) ** 2)  # noqa: E731
    np.testing.assert_allclose(
        ds.gradient(lambda x: loss(x, c), c * a) / c, ds.gradient(lambda x: loss(x, 1), a), rtol=1e-12
    )


def test_values_of_a_tiny_tie_are_there_where_vectors_are_not():
    a = 1e-200 * np.eye(3)
    jacobian = ds.jacobian(lambda x: ds.svd(x).S, a, mode="forward")
    np.testing.assert_array_equal(jacobian, ds.jacobian(ds.svdvals, np.eye(3), mode="forward"))
    with pytest.raises(ds.DegenerateError, match="singular vectors have no derivative"):
        ds.jacobian(lambda x: ds.svd(x).U, a, mode="forward")


def test_the_gradient_of_a_determinant_of_large_and_small_values():
    a = np.diag([1e200, 1e200, 1e-200, 1e-200])
    for mode in ("forward", "reverse"):
        gradient = ds.gradient(ds.linalg.det, a, mode=mode)
        np.testing.assert_allclose(np.diag(gradient), [1e-200, 1e-200, 1e200, 1e200], rtol=1e-14)


def test_the_gradient_of_a_large_determinant():
    """Products of more mantissas than the range of single precision, or double, has powers of two."""
    n = 200
    a = np.eye(n, dtype=np.float32)
    np.testing.assert_array_equal(ds.gradient(ds.linalg.det, a), a)
    assert ds.jvp(ds.linalg.det, (a,), (a,))[1] == n
    P, e = products_of_others(np.full(1100, 1.5), 1)
    np.testing.assert_allclose(np.log2(P) + e, 1099 * np.log2(1.5), rtol=1e-14)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize(
    "w",
    [
        pytest.param(ds.linalg.det, id="det"),
        pytest.param(lambda x: np.vdot(x, x), id="vdot"),
        pytest.param(lambda x: x[0] @ x[1], id="product"),
        pytest.param(lambda x: np.linalg.norm(x) + 0j, id="norm"),
    ],
)
def test_gradients_through_the_parts_of_one_complex_number(w, mode, rng):
    """Their cotangents are Python's numbers by rights: 1j times one of NumPy's is one."""
    a, d = (rng.standard_normal((3, 3)) + 1j * rng.standard_normal((3, 3)) for _ in range(2))
    f = lambda x: (lambda y: np.real(y) + 2 * np.imag(y))(w(x))  # noqa: E731
    slope = (f(a + 1e-6 * d) - f(a - 1e-6 * d)) / 2e-6  # to 1e-12 for its own error, 1e-10 for rounding
    np.testing.assert_allclose(np.sum(np.real(np.conj(ds.gradient(f, a, mode=mode)) * d)), slope, rtol=1e-8)


@pytest.mark.parametrize("n", [64, 190])
def test_eigenvalues_by_jacobi_are_those_of_the_matrix(n):
    a = np.diag(np.linspace(-1, 1, n)) + 1e-3
    with ds.options(algorithm="jacobi"):
        w, Q = ds.linalg.eigh(a)
    assert np.abs((Q * w) @ Q.T - a).max() < 100 * EPS * np.abs(w).max()


def test_norms_of_no_matrices():
    a = np.zeros((0, 3, 2))
    for f in (ds.linalg.norm, lambda a: ds.linalg.norm(a, ("schatten", 2)), lambda a: np.linalg.norm(a, axis=(-2, -1))):
        assert f(a).shape == ds.jvp(f, (a,), (a,))[1].shape == (0,)
