"""Random integer matrices, where repeated and zero singular values abound: never a NaN, never a wrong derivative.

The truth is at hand for them: mpmath computes one-sided differences of their singular values with 80 digits.
"""

from __future__ import annotations

import itertools
from typing import Any

import hypothesis.strategies as st
import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

import dualsvd as ds

EPS = float(np.finfo(np.float64).eps)


def fuzz(examples: int) -> settings:
    """The same examples in every run; no deadline, since the first call compiles."""
    return settings(max_examples=examples, derandomize=True, deadline=None, database=None)


# ---------------------------------------------------------------------------------------------------------------------
# Matrices of small integers


def integers(m: int, n: int, is_complex: bool, bound: int = 2) -> st.SearchStrategy[np.ndarray]:
    part = hnp.arrays(np.int64, (m, n), elements=st.integers(-bound, bound))
    if is_complex:
        return st.tuples(part, part).map(lambda parts: parts[0] + 1j * parts[1])
    return part.map(lambda a: a.astype(np.float64))


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    """m x n (Gaussian) integers, 1 to 6 each way: any, of low rank, twice the same block, or orthogonal columns."""
    is_complex = draw(st.booleans())
    m, n = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    match draw(st.sampled_from(["any", "low rank", "blocks", "signed permutation"])):
        case "low rank":
            k = draw(st.integers(0, min(m, n)))
            return draw(integers(m, k, is_complex, 1)) @ draw(integers(k, n, is_complex, 1))
        case "blocks":
            return np.kron(np.eye(2), draw(integers((m + 1) // 2, (n + 1) // 2, is_complex)))
        case "signed permutation":
            order = draw(st.permutations(range(n)))
            signs = draw(st.lists(st.sampled_from([1, -1, 2, 0]), min_size=n, max_size=n))
            return (np.eye(n) * signs)[:, order] * (1j if is_complex else 1.0)
        case _:
            return draw(integers(m, n, is_complex))


@st.composite
def matrices_and_directions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    a = draw(matrices())
    return a, draw(integers(*a.shape, np.iscomplexobj(a), 3))


MATRICES = matrices()
PAIRS = matrices_and_directions()


def values(a: Any) -> list[Any]:
    """Singular values of a real matrix in the working precision of mpmath, descending."""
    return sorted(mp.svd_r(a, compute_uv=False), reverse=True)


def exactly(a: np.ndarray) -> Any:
    """A real matrix with the singular values of a, each twice if a is complex."""
    if np.iscomplexobj(a):
        a = np.block([[a.real, -a.imag], [a.imag, a.real]])
    return mp.matrix(a.tolist())


def truth(a: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """(s, one-sided derivatives along d, s_1 over the smallest gap between values that differ)."""
    with mp.workdps(80):
        step, every = mp.mpf(10) ** -30, 2 if np.iscomplexobj(a) else 1
        here, there = (values(x)[::every] for x in (exactly(a), exactly(a) + step * exactly(d)))
        slopes = [(y - x) / step for x, y in zip(here, there)]
        levels = [*here, mp.mpf(0)]
        steps = [x - y for x, y in itertools.pairwise(levels) if x - y > mp.mpf(10) ** -40]
        condition = here[0] / min(steps) if steps else mp.mpf(1)
        return np.array([float(x) for x in here]), np.array([float(x) for x in slopes]), float(condition)


def dot(x: Any, y: Any) -> float:
    """The inner product Re tr(X^H Y)."""
    return float(np.real(np.vdot(x, y)))


def norm2(d: np.ndarray) -> float:
    return float(np.linalg.norm(d, 2))


# ---------------------------------------------------------------------------------------------------------------------
# The promises


@fuzz(300)
@given(MATRICES)
@pytest.mark.parametrize("algorithm", ["auto", "jacobi", "lapack"])
def test_the_factors_make_the_matrix(algorithm, a):
    u, s, vh = ds.linalg.svd(a, algorithm=algorithm)
    r = min(a.shape)
    few = 10 * max(a.shape) * EPS
    assert (s[:-1] >= s[1:]).all() and (s >= 0).all()
    np.testing.assert_allclose((u * s) @ vh, a, rtol=0, atol=few * max(s[0], 1.0))
    np.testing.assert_allclose(u.conj().T @ u, np.eye(r), rtol=0, atol=few)
    np.testing.assert_allclose(vh @ vh.conj().T, np.eye(r), rtol=0, atol=few)
    np.testing.assert_allclose(ds.linalg.svdvals(a, algorithm=algorithm), s, rtol=0, atol=few * max(s[0], 1.0))


@fuzz(100)
@given(PAIRS)
@pytest.mark.parametrize("tangents", ["closed-form", "sweeps"])
@pytest.mark.parametrize("algorithm", ["auto", "jacobi"])
def test_the_directional_derivative_is_the_one_sided_difference(algorithm, tangents, pair):
    a, d = pair
    s, slopes, condition = truth(a, d)
    with ds.options(algorithm=algorithm, tangents=tangents):
        computed, derivative = ds.jvp(ds.linalg.svdvals, (a,), (d,))
        factors, tangent_factors = ds.jvp(ds.linalg.svd, (a,), (d,))
    np.testing.assert_allclose(computed, s, rtol=0, atol=100 * EPS * max(s[0], 1.0))
    # each value loses what the gap to its neighbours costs its vectors
    bound = 100 * EPS * condition * norm2(d)
    np.testing.assert_allclose(derivative, slopes, rtol=0, atol=bound)
    np.testing.assert_allclose(tangent_factors.S, slopes, rtol=0, atol=bound)
    # the product rule gives the direction back: the vectors' tangents are right where values are tied, too
    (u, s, vh), (du, ds_, dvh) = factors, tangent_factors
    back = (du * s) @ vh + (u * ds_) @ vh + (u * s) @ dvh
    np.testing.assert_allclose(back, d, rtol=0, atol=10 * bound)


@fuzz(60)
@given(PAIRS, st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("name", ["tanh", "polar", "pinv", "low_rank", "range_projector", "threshold"])
def test_fused_primitives_are_adjoint_to_themselves_in_the_other_mode(name, pair, seed):
    a, d = pair
    s = np.linalg.svd(a, compute_uv=False)
    levels = np.append(s, 0.0)
    full_rank = s[-1] > 1e-6
    cuts = [k for k in range(1, len(s)) if s[k - 1] - s[k] > 1e-3]
    condition = 1.0
    if name == "tanh":
        f = lambda a: ds.linalg.spectral_function(a, np.tanh, lambda x: 1 - np.tanh(x) ** 2)  # noqa: E731
    elif name in ("polar", "pinv"):
        if not full_rank:
            return  # not differentiable there
        condition = (s[0] / s[-1]) ** (2 if name == "pinv" else 1)
        f = (lambda a: ds.linalg.polar(a)[0]) if name == "polar" else ds.linalg.pinv
    else:
        if not cuts:
            return
        k = cuts[seed % len(cuts)]
        condition = levels[0] / (s[k - 1] - s[k])
        tau = (s[k - 1] + s[k]) / 2
        f = {
            "low_rank": lambda a: ds.linalg.low_rank(a, k),
            "range_projector": lambda a: ds.linalg.range_projector(a, k),
            "threshold": lambda a: ds.linalg.singular_value_threshold(a, tau),
        }[name]
    y, dy = ds.jvp(f, (a,), (d,))
    w = np.random.default_rng(seed).integers(-3, 4, y.shape).astype(y.dtype)
    (gradient,) = ds.vjp(f, a)[1](w)
    assert np.isfinite(y).all() and np.isfinite(dy).all() and np.isfinite(gradient).all()
    scale = np.sum(np.abs(w) * np.abs(dy)) + np.sum(np.abs(gradient) * np.abs(d))
    assert abs(dot(w, dy) - dot(gradient, d)) <= 450 * EPS * max(condition, 1.0) * max(scale, 1.0)


@fuzz(100)
@given(PAIRS)
def test_subgradients_lie_below_the_directional_derivatives(pair):
    a, d = pair
    s, slopes, condition = truth(a, d)
    few = 100 * EPS * condition
    for norm, value, slope in (
        (ds.linalg.opnorm, s[0], slopes[0]),
        (ds.linalg.nuclear_norm, np.sum(s), np.sum(slopes)),
    ):
        gradient = ds.gradient(norm, a, mode="reverse")
        assert abs(dot(gradient, a) - value) <= few * max(value, 1.0)
        assert dot(gradient, d) <= slope + few * max(norm2(d), 1.0) * len(s)
        computed, derivative = ds.jvp(norm, (a,), (d,))
        assert abs(computed - value) <= few * max(value, 1.0)
        assert abs(derivative - slope) <= few * max(norm2(d), 1.0) * len(s)


@fuzz(150)
@given(PAIRS, st.integers(0, 2**32 - 1))
def test_reverse_mode_through_the_svd_is_right_or_refused(pair, seed):
    """U tanh(S) V^H composed of the factors: the same gradient as the primitive, or an error that says why not.

    The cotangent is generic: one that vanishes by chance in the basis that a tie happens to have tells the SVD nothing.
    """
    a, _ = pair

    def composed(a: Any) -> Any:
        u, s, vh = ds.linalg.svd(a)
        return (u * np.tanh(s)) @ vh

    rng = np.random.default_rng(seed)
    w = rng.standard_normal(a.shape) + (1j * rng.standard_normal(a.shape) if np.iscomplexobj(a) else 0.0)
    try:
        (gradient,) = ds.vjp(composed, a)[1](w)
    except (ds.DegenerateError, ds.GaugeError):
        s = np.linalg.svd(a, compute_uv=False)
        assert np.min(np.abs(np.diff(s)), initial=s[-1]) < 1e-10, f"refused at simple values {s}"
        return
    fused = lambda a: ds.linalg.spectral_function(a, np.tanh, lambda x: 1 - np.tanh(x) ** 2)  # noqa: E731
    (expected,) = ds.vjp(fused, a)[1](w)
    s = np.append(np.linalg.svd(a, compute_uv=False), 0.0)
    gap = np.min(-np.diff(s)[-np.diff(s) > 1e-10], initial=1.0)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=450 * EPS * max(s[0], 1.0) / gap * np.sum(np.abs(w)))


@fuzz(40)
@given(st.lists(PAIRS, min_size=2, max_size=6), st.integers(1, 3))
def test_a_batch_is_its_matrices(pairs, size):
    """Pairs cut to one shape: each matrix of the batch as if alone."""
    a = np.stack([np.resize(a, (size + 1, size)) for a, _ in pairs])
    d = np.stack([np.resize(d, (size + 1, size)).astype(a.dtype) for _, d in pairs])
    s, derivative = ds.jvp(ds.linalg.svdvals, (a,), (d,))
    gradient = ds.gradient(lambda a: np.sum(ds.linalg.nuclear_norm(a)), a, mode="reverse")
    for i in range(len(a)):
        alone, derivative_alone = ds.jvp(ds.linalg.svdvals, (a[i],), (d[i],))
        few = 100 * EPS * truth(a[i], d[i])[2]
        np.testing.assert_allclose(s[i], alone, rtol=0, atol=few * max(alone[0], 1.0))
        np.testing.assert_allclose(derivative[i], derivative_alone, rtol=0, atol=few * max(norm2(d[i]), 1.0))
        expected = ds.gradient(ds.linalg.nuclear_norm, a[i], mode="reverse")
        np.testing.assert_allclose(gradient[i], expected, rtol=0, atol=few)
