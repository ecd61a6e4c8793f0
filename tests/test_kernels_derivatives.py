"""Compiled derivatives of batches: closed forms, tangents through the sweeps, and the graded path."""

from __future__ import annotations

import cases
import mpmath
import numpy as np
import pytest

import dualsvd as ds
from dualsvd.kernels import cpu, derivatives
from dualsvd.kernels.jacobi import tie_tolerance
from dualsvd.kernels.protocol import Buffer
from dualsvd.linalg.degeneracy import inverse_gaps, inverse_sums, inverse_values, spectrum
from dualsvd.settings import get

DTYPES = pytest.mark.parametrize("dtype", cases.DTYPES)
SHAPES = pytest.mark.parametrize("m, n", [(1, 1), (1, 4), (4, 1), (2, 2), (5, 3), (3, 5), (4, 4), (7, 7)], ids=str)


def bound(dtype, S, D):
    """100 eps over the relative gaps: what any method loses, twice, in dU."""
    values = np.concatenate([S, np.zeros((len(S), 1), S.dtype)], axis=1)
    gaps = np.abs(np.diff(values, axis=1)).min() / S.max()
    return 100 * cases.eps(dtype) * (1 + np.abs(D).max()) / (S.max() * gaps**2)


def problem(m, n, dtype, count=11, directions=3):
    """Matrices with values apart, and directions."""
    r = min(m, n)
    a = np.stack([cases.spectrum(m, n, r + 1.0 - np.arange(r), seed=k, dtype=dtype) for k in range(count)])
    da = np.stack([cases.direction(a.shape, seed=k, dtype=dtype) for k in range(directions)])
    return a.astype(dtype), da


def closed_form(U, S, Vh, D):
    """dU, dS, dVh of batches in NumPy; U and V exchanged for wide matrices by both residuals being there."""
    V = Vh.conj().swapaxes(-1, -2)
    M = U.conj().swapaxes(-1, -2) @ D @ V
    H = M.conj().swapaxes(-1, -2)
    off = 1 - np.eye(S.shape[-1])
    a = (M + H) / 2 / (S[..., None, :] - S[..., :, None] + np.eye(S.shape[-1])) * off
    b = (M - H) / 2 / (S[..., None, :] + S[..., :, None])
    dU = U @ (a + b) + (D @ V - U @ M) / S[..., None, :]
    dV = V @ (a - b) + (D.conj().swapaxes(-1, -2) @ U - V @ H) / S[..., None, :]
    return dU, np.diagonal(M, axis1=-2, axis2=-1).real, dV.conj().swapaxes(-1, -2)


@DTYPES
@SHAPES
@pytest.mark.parametrize("mode", ["pushforward", "sweeps"])
def test_tangents_are_the_closed_form(m, n, dtype, mode):
    a, da = problem(m, n, dtype)
    if mode == "pushforward":
        U, S, Vh, _ = cpu.svd(a)
        tangents = cpu.svd_pushforward(U, S, Vh, da)[0]
    else:
        U, S, Vh, *tangents, _ = cpu.svd_sweeps(a, da)
    wanted = closed_form(*(x.astype(np.result_type(x, np.float64)) for x in (U, S, Vh, da)))
    loss = 30 if mode == "sweeps" else 1
    for got, right in zip(tangents, wanted):
        assert got.dtype == right.astype(got.dtype).dtype
        np.testing.assert_allclose(got, right, rtol=0, atol=loss * bound(dtype, S, da))


def inner(x, y):
    return sum((np.conj(a) * b).real.sum(dtype=float) for a, b in zip(x, y))


@DTYPES
@SHAPES
def test_adjoint_identity(m, n, dtype):
    a, da = problem(m, n, dtype, directions=1)
    U, S, Vh, _ = cpu.svd(a)
    bars = tuple(cases.normal(*x.shape, seed=5, dtype=x.dtype.name) for x in (U, S, Vh))
    tangents = [x[0] for x in cpu.svd_pushforward(U, S, Vh, da)[0]]
    size = np.sqrt(inner(bars, bars) * inner(tangents, tangents))
    got = inner([cpu.svd_pullback(U, S, Vh, *bars)[0]], [da[0]])
    assert abs(got - inner(bars, tangents)) <= 100 * cases.eps(dtype) * size
    for k in range(3):
        only = [bar if i == k else None for i, bar in enumerate(bars)]
        got = inner([cpu.svd_pullback(U, S, Vh, *only)[0]], [da[0]])
        assert abs(got - inner([bars[k]], [tangents[k]])) <= 100 * cases.eps(dtype) * size


TIE = tie_tolerance(cases.eps("float64"), 4)  # of four values, the largest of which is 1

SPECTRA = {
    "apart": (1.0, 0.5, 0.25, 0.125),
    "tied": (1.0, 1.0, 0.5, 0.25),
    "a zero": (1.0, 0.5, 0.25, 0.0),
    "a value just above the tie": (1.0, 0.5, 0.25, 1.5 * TIE),
    "two zeros": (1.0, 0.5, 0.0, 0.0),
    "two values of noise whose sum is above the tie": (1.0, 0.5, 0.8 * TIE, 0.7 * TIE),
    "three of them, one tie": (1.0, TIE, 0.6 * TIE, 0.0),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_coefficients_are_those_of_the_rules(name):
    S = np.array(SPECTRA[name])
    F, at = Buffer([0.0] * 16), spectrum(S, get())
    derivatives.coefficients(Buffer(S.tolist()), F, 4)
    got = np.array([F[k] for k in range(16)]).reshape(4, 4)  # F[j * 4 + i] in row j
    # both quotients are one here, times the other factor: two roundings more than by a division each
    np.testing.assert_allclose(np.triu(got.T, 1), np.triu(inverse_gaps(S, at), 1), rtol=4 * cases.eps("float64"))
    sums = np.tril(inverse_sums(S, at), -1) + np.diag(inverse_values(S, at)) / 2
    np.testing.assert_allclose(np.tril(got.T), sums, rtol=4 * cases.eps("float64"))


@pytest.mark.parametrize("n", [4, 8])
def test_noise_below_the_tie_counts_as_zero_in_batches_too(n):
    """The cotangent of a projector on the vectors of two zeros: their sum is above the tie, and yet nothing to divide
    by. Eight matrices, for in some of them what it would divide is exactly zero."""
    S = np.linspace(2.0, 1.0, n)
    S[-2:] = 1.6 * tie_tolerance(cases.eps("float64"), n), 1.4 * tie_tolerance(cases.eps("float64"), n)
    a = np.stack([cases.spectrum(n, n, S, seed=k) for k in range(8)])
    C = cases.normal(8, n, n, seed=9)
    with ds.options(ties="subspace"):
        U, S, Vh = ds.linalg.svd(a)
        U_bar = np.zeros_like(a)
        U_bar[..., -2:] = (C + C.swapaxes(1, 2)) @ U[..., -2:]
        together = ds.linalg.svd_pullback(U, S, Vh, U_bar, None, None)
        alone = [ds.linalg.svd_pullback(*x, None, None) for x in zip(U, S, Vh, U_bar)]
    # rounding, over gaps between values that are 1 / n at least
    np.testing.assert_allclose(together, alone, rtol=0, atol=100 * n * cases.eps("float64") * np.abs(C).max())


@DTYPES
@SHAPES
def test_slopes_are_those_of_the_whole(m, n, dtype):
    a, da = problem(m, n, dtype)
    U, S, Vh, _ = cpu.svd(a)
    (_, dS, _), whole = cpu.svd_pushforward(U, S, Vh, da)
    alone, also = cpu.svd_slopes(U, S, Vh, da)
    np.testing.assert_allclose(alone, dS, rtol=0, atol=10 * cases.eps(dtype) * np.abs(da).max())
    assert whole and also


WHOLE = {
    "generic": (lambda a: a, True),
    "tied": (lambda a: np.eye(3), False),
    "zero": (lambda a: a @ np.diag([1, 1, 0]), False),
    "nan": (lambda a: a * np.nan, False),
    "far": (lambda a: a * 2.0**900, None),  # the closed form of vectors wants it scaled
}


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("place", [0, 17, 40])
@pytest.mark.parametrize("name", WHOLE)
def test_the_closed_forms_tell_when_they_are_not_all(name, place, dtype):
    change, expected = WHOLE[name]
    a = np.stack([cases.normal(3, 3, seed=k, dtype=dtype) for k in range(41)])
    a[place] = change(a[place])
    U, S, Vh, _ = cpu.svd(a)
    directions, values = (expected, expected) if expected is not None else (False, True)
    assert cpu.svd_pushforward(U, S, Vh, a[None])[1] is directions
    assert cpu.svd_slopes(U, S, Vh, a[None])[1] is values
    assert cpu.svd_pullback(U, S, Vh, U, S, None)[1] is directions
    assert cpu.svd_pullback(U, S, Vh, None, S, None)[1] is values


def test_the_pullback_tells_of_phases():
    a, _ = problem(4, 3, "complex128")
    U, S, Vh, _ = cpu.svd(a)
    assert cpu.svd_pullback(U, S, Vh, U, S, Vh)[1] is True
    assert cpu.svd_pullback(U, S, Vh, 1j * U, S, Vh)[1] is False
    assert cpu.svd_pullback(U, S, Vh, 1j * U, S, 1j * Vh)[1] is True  # V turns by the conjugate phase


@pytest.mark.parametrize("exponent", [-1000, -300, 300, 900])
def test_scaling_by_powers_of_two_is_exact(exponent):
    a, da = problem(4, 3, "float64")
    U, S, Vh, _ = cpu.svd(a)
    plain = cpu.svd_pushforward(U, S, Vh, da)[0]
    U, S, Vh, _ = cpu.svd(np.ldexp(a, exponent))
    dU, dS, dVh = cpu.svd_pushforward(U, S, Vh, np.ldexp(da, exponent))[0]
    assert np.array_equal(dU, plain[0])
    assert np.array_equal(dS, np.ldexp(plain[1], exponent))
    assert np.array_equal(dVh, plain[2])
    swept = cpu.svd_sweeps(np.ldexp(a, exponent), np.ldexp(da, exponent))
    for x, y, shift in zip(swept[3:6], cpu.svd_sweeps(a, da)[3:6], (0, exponent, 0)):
        assert np.array_equal(x, np.ldexp(y, shift))


def test_results_go_where_they_are_told():
    a, da = problem(3, 3, "float64")
    U, S, Vh, _ = cpu.svd(a)
    out = tuple(np.empty((len(da), *x.shape)) for x in (U, S, Vh))
    assert all(x is y for x, y in zip(cpu.svd_pushforward(U, S, Vh, da, out=out)[0], out))
    strided = tuple(np.empty((len(da), *x.shape, 2))[..., 0] for x in (U, S, Vh))
    cpu.svd_pushforward(U, S, Vh, da, out=strided)
    assert all(np.array_equal(x, y) for x, y in zip(strided, out))
    few, _ = cpu.svd_pushforward(U[:1], S[:1], Vh[:1], da[:, :1].copy(), out=tuple(x[:, :1] for x in strided))
    assert all(np.allclose(x, y[:, :1], rtol=0, atol=1e-13) for x, y in zip(few, out))
    a_bar = np.empty_like(a)
    assert cpu.svd_pullback(U, S, Vh, U, S, Vh, out=a_bar)[0] is a_bar
    np.testing.assert_allclose(a_bar, a, rtol=0, atol=1e-13)  # the gradient of |S|^2 / 2; U and V give nothing


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_directions_do_not_know_of_each_other(count):
    a, da = problem(4, 3, "float64", directions=9)
    together = cpu.svd_sweeps(a, da[:count])[3:6]
    for k in range(count):
        for x, y in zip(together, cpu.svd_sweeps(a, da[k : k + 1])[3:6]):
            np.testing.assert_allclose(x[k], y[0], rtol=0, atol=1e-12)


TIED = [c for tag in ("tied", "zero-value", "zero", "deficient") for c in cases.named(tag, without=["scaled"])]
TIED = list({c.id: c for c in TIED}.values())


@pytest.mark.parametrize("case", TIED)
@pytest.mark.parametrize("tangents", ["closed-form", "sweeps"])
def test_ties_give_one_sided_derivatives(case, tangents):
    """Of the values by one-sided differences; of the whole factorisation by d(U S Vh) = D."""
    a = case.matrix()
    a = a / (np.abs(a).max() or 1.0)
    D = cases.direction(a.shape, seed=4, dtype=a.dtype.name)
    with ds.options(tangents=tangents):
        U, S, Vh = ds.linalg.svd(ds.DualArray(a, D[None]))
    h = 1e-7
    moved = np.linalg.svd(a + h * D, compute_uv=False)
    np.testing.assert_allclose(S.partials[0], (moved - S.value) / h, rtol=0, atol=1e-5)
    np.testing.assert_allclose(((U * S) @ Vh).partials[0], D, rtol=0, atol=1e-10)


# ---------------------------------------------------------------------------------------------------------------------
# Graded matrices


def exact(a, directions):
    """Singular values and their derivatives by mpmath, at enough digits for the span of the entries."""
    spread = np.log10(np.abs(a[a != 0]).max()) - np.log10(np.abs(a[a != 0]).min())
    with mpmath.workdps(int(60 + 3 * spread)):
        U, s, Vh = mpmath.svd(mpmath.matrix(a.tolist()))
        r = len(s)
        slopes = [
            [
                mpmath.re((U[:, k].transpose_conj() * mpmath.matrix(D.tolist()) * Vh[k, :].transpose_conj())[0])
                for k in range(r)
            ]
            for D in directions
        ]
        return list(s), slopes


GRADED = [
    (digits, rows, columns, shape, dtype)
    for digits, rows, columns in [
        (4, 1, 1), (30, 1, 1), (60, 0, 1), (60, 1, 0), (100, 1, 1), (145, 1, 1), (290, 0, 1), (290, 1, 0),
    ]
    for shape, dtype in [((4, 4), "float64"), ((5, 3), "float64"), ((3, 4), "complex128")]
]  # fmt: skip


@pytest.mark.parametrize("digits, rows, columns, shape, dtype", GRADED, ids=str)
def test_graded_matrices_to_high_relative_accuracy(digits, rows, columns, shape, dtype):
    m, n = shape
    down, across = cases.grading(m, n, digits, rows, columns)
    a = cases.graded(m, n, digits, rows, columns, dtype=dtype)
    D = cases.normal(m, n, seed=11, dtype=dtype) * down[:, None] * across
    dense = cases.normal(m, n, seed=12, dtype=dtype)
    with ds.options(algorithm="jacobi"):
        U, S, Vh = ds.linalg.svd(ds.DualArray(a, np.stack([D, dense])))
    values, (slopes, dense_slopes) = exact(a, [D, dense])
    for got, wanted, got_slope, slope, got_dense, dense_slope in zip(
        S.value, values, S.partials[0], slopes, S.partials[1], dense_slopes
    ):
        assert abs(got / wanted - 1) < 1e-13
        assert abs(got_slope - slope) < 1e-12 * wanted + 1e-12 * abs(slope)
        assert abs(got_dense - dense_slope) < 1e-12
    for Q in (U.value, Vh.value.conj().T):
        np.testing.assert_allclose(Q.conj().T @ Q, np.eye(min(m, n)), rtol=0, atol=1e-14)


@DTYPES
@pytest.mark.parametrize("case", cases.named(without=["graded", "scaled", "complex"]))
def test_the_graded_path_takes_everything(case, dtype):
    a = case.matrix(dtype)[None].repeat(2, 0)
    U, S, Vh, info = cpu.svd_accurate(a)
    assert all(np.array_equal(x[0], x[1]) for x in (U, S, Vh))
    m, n = a.shape[1:]
    tolerance = 10 * max(m, n) * cases.eps(dtype)
    assert (U.dtype, S.dtype) == (a.dtype, a.real.dtype)
    np.testing.assert_allclose((U * S[:, None]) @ Vh, a, rtol=0, atol=tolerance * max(S[0, 0], np.abs(a).max()))
    np.testing.assert_allclose(U[0].conj().T @ U[0], np.eye(min(m, n)), rtol=0, atol=tolerance)
    np.testing.assert_allclose(Vh[0] @ Vh[0].conj().T, np.eye(min(m, n)), rtol=0, atol=tolerance)
    assert (np.diff(S) <= 0).all()
    assert not info.unconverged.any()


@pytest.mark.parametrize("case", cases.named("tied", without=["scaled", "complex"]))
def test_ties_on_the_graded_path(case):
    a = case.matrix()
    a = a / (np.abs(a).max() or 1.0)
    D = cases.direction(a.shape, seed=6)
    with ds.options(algorithm="jacobi"):
        S = ds.linalg.svdvals(ds.DualArray(a, D[None]))
        moved = ds.linalg.svdvals(a + 1e-7 * D)
    np.testing.assert_allclose(S.partials[0], (moved - S.value) / 1e-7, rtol=0, atol=1e-5)
