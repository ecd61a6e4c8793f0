"""Second derivatives: by every nesting, against many digits and against identities, where values meet and where not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import cases
import mpmath
import numpy as np
import pytest

import dualsvd as ds

MATRICES = {
    "distinct": cases.spectrum(3, 3, [3, 2, 1]),
    "distinct, tall": cases.spectrum(4, 2, [3, 1]),
    "distinct, wide": cases.spectrum(2, 3, [3, 1]),
    "identity": np.eye(3),
    "a rotation": cases.pythagorean(2) / 4,
    "pairs": cases.exact(4, 4, [2, 2, 1, 1]) / 64,
    "tied, tall": cases.exact(4, 3, [2, 1, 1]) / 64,
    "tied, wide": cases.exact(2, 3, [1, 1]) / 32,
    "gap 1e-9": np.diag([1.0 + 1e-9, 1.0, 0.5]),
}
NAMED = pytest.mark.parametrize("a", [pytest.param(a, id=name) for name, a in MATRICES.items()])

FUSED: dict[str, Callable[[Any], Any]] = {
    "polar": lambda x: ds.polar(x)[0],
    "positive factor": lambda x: ds.polar(x)[1],
    "pinv": ds.pinv,
    "low_rank": lambda x: ds.low_rank(x, 1 if x.shape[-1] != 4 else 2),
    "range_projector": lambda x: ds.range_projector(x, 2 if min(x.shape) == 4 else 1),
    "threshold": lambda x: ds.singular_value_threshold(x, 0.3),
    "tanh": lambda x: ds.spectral_function(x, np.tanh, lambda s: 1 / np.cosh(s) ** 2),
    "log": lambda x: ds.spectral_function(x, np.log, lambda s: 1 / s),
    "nuclear_norm": ds.nuclear_norm,
    "schatten": lambda x: ds.norm(x, ("schatten", 3)),
    "fro": lambda x: ds.norm(x, "fro"),
}


def direction(a: np.ndarray, seed: int) -> np.ndarray:
    return cases.direction(a.shape, seed)


def dot(x: Any, y: Any) -> float:
    return float(np.sum(np.asarray(x) * y))


def along(f: Callable[[Any], Any], a: np.ndarray, d: np.ndarray) -> Any:
    return ds.jvp(f, (a,), (d,))[1]


def smooth_at(name: str, a: np.ndarray) -> bool:
    """Whether the cut of that function does not fall into a tie of a."""
    S = np.linalg.svd(a, compute_uv=False)
    k = {"low_rank": 1 if a.shape[-1] != 4 else 2, "range_projector": 2 if min(a.shape) == 4 else 1}.get(name)
    return k is None or k >= len(S) or S[k - 1] - S[k] > 1e-3


SMOOTH = pytest.mark.parametrize(
    ("name", "a"),
    [
        pytest.param(name, a, id=f"{name} at {where}")
        for name in FUSED
        for where, a in MATRICES.items()
        if smooth_at(name, a)
    ]
    + [  # smooth there: what grows as 1 / s_r is to cancel without rounding
        pytest.param(name, cases.spectrum(3, 3, [1.7, 1.2, smallest]), id=f"{name} at {smallest}")
        for name in ("polar", "positive factor")
        for smallest in (1e-3, 1e-9, 1e-13)
    ],
)


@SMOOTH
def test_every_nesting_gives_the_same_second_derivative(name, a):
    """Forward over forward, forward over reverse, reverse over forward, and the symmetry of the Hessian."""
    f, (d, e) = FUSED[name], (direction(a, 1), direction(a, 2))
    w = cases.direction(np.shape(f(a)), 3)
    scalar = lambda x: np.sum(w * f(x))  # noqa: E731
    gradient = lambda x: ds.gradient(scalar, x, mode="reverse")  # noqa: E731
    ways = {
        "forward over forward": along(lambda x: along(scalar, x, d), a, e),
        "the other way round": along(lambda x: along(scalar, x, e), a, d),
        "forward over reverse": dot(along(gradient, a, d), e),
        "reverse over forward": dot(ds.gradient(lambda x: along(scalar, x, d), a, mode="reverse"), e),
        "hvp": dot(ds.hvp(scalar, a, d), e),
        "hessian": dot(np.tensordot(ds.hessian(scalar, a), d, 2), e),
    }
    reference = ways["forward over reverse"]
    scale = max(np.abs(ds.hessian(scalar, a)).max(), 1.0) * np.linalg.norm(d) * np.linalg.norm(e)
    for way, value in ways.items():
        assert abs(value - reference) <= 1e-13 * scale, way


@SMOOTH
def test_second_derivatives_agree_with_sixty_digits(name, a):
    """Differences of the function itself, evaluated by mpmath without singular values where that is possible."""
    d = direction(a, 1)
    with mpmath.workdps(60):
        h = mpmath.mpf(10) ** -15
        A, D = (mpmath.matrix(x.tolist()) for x in (a, d))
        values = [precise(name, A + t * h * D) for t in (-1, 0, 1)]
        second = (values[0] - 2 * values[1] + values[2]) / h**2
        expected = np.array([[float(x) for x in row] for row in second.tolist()])
    actual = np.atleast_2d(along(lambda x: along(FUSED[name], x, d), a, d))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * max(np.abs(expected).max(), 1.0))


def precise(name: str, A: Any) -> Any:
    """The function in mpmath, by the singular value decomposition at working precision."""
    U, S, V = mpmath.svd_r(A)
    r = len(S)
    k = {"low_rank": 1 if A.cols != 4 else 2, "range_projector": 2 if min(A.rows, A.cols) == 4 else 1}.get(name, r)

    def rebuild(f: Callable[[Any], Any], count: int = r) -> Any:
        total = mpmath.zeros(A.rows, A.cols)
        for i in range(count):
            total += f(S[i]) * U[:, i] * V[i, :]
        return total

    one = lambda s: mpmath.mpf(1)  # noqa: E731
    match name:
        case "polar":
            return rebuild(one)
        case "positive factor":
            return V.T * mpmath.diag([S[i] for i in range(r)]) * V
        case "pinv":
            return rebuild(lambda s: 1 / s).T
        case "low_rank":
            return rebuild(lambda s: s, k)
        case "range_projector":
            return U[:, :k] * U[:, :k].T
        case "threshold":
            return rebuild(lambda s: max(s - mpmath.mpf(0.3), 0))
        case "tanh":
            return rebuild(mpmath.tanh)
        case "log":
            return rebuild(mpmath.log)
        case "nuclear_norm":
            return mpmath.matrix([[mpmath.fsum(S)]])
        case "schatten":
            return mpmath.matrix([[mpmath.cbrt(mpmath.fsum([s**3 for s in S]))]])
        case "fro":
            return mpmath.matrix([[mpmath.mnorm(A, "f")]])
    raise KeyError(name)


@pytest.mark.parametrize("smallest", [1.0, 0.0])
@pytest.mark.parametrize("n", [2, 3, 4])
def test_polar_factor_along_a_curve_of_rotations(n, smallest):
    """polar(exp(tK) A exp(tL)) = exp(tK) polar(A) exp(tL) for skew K, L, to second order: also where all values are
    tied, and where one of them is zero but for rounding."""
    K, L = (x - x.T for x in (cases.direction((n, n), 1), cases.direction((n, n), 2)))
    turn = lambda x: K @ x + x @ L  # noqa: E731
    polar = FUSED["polar"]
    a = np.eye(n) if smallest else cases.spectrum(n, n, [*range(n, 1, -1), 0])
    np.testing.assert_allclose(along(polar, a, turn(a)), turn(polar(a)), atol=1e-13)
    second = along(lambda x: along(polar, x, turn(a)), a, turn(a))
    np.testing.assert_allclose(second + along(polar, a, turn(turn(a))), turn(turn(polar(a))), atol=1e-13)


@NAMED
def test_defining_equations_hold_to_second_order(a):
    """A pinv(A) A = A and W P = A: their second derivatives along any two directions vanish."""
    d, e = direction(a, 1), direction(a, 2)
    for f in (lambda x: x @ ds.pinv(x) @ x, lambda x: ds.polar(x)[0] @ ds.polar(x)[1]):
        second = along(lambda x, f=f: along(f, x, d), a, e)
        np.testing.assert_allclose(second, 0, atol=1e-12 * np.linalg.norm(d) * np.linalg.norm(e))


def test_hessian_of_the_nuclear_norm_at_the_identity():
    """|tr| of the symmetric part is linear; the skew part gives its square: H[D, D] = |sk(D)|^2."""
    a, d = np.eye(3), direction(np.eye(3), 4)
    skew = (d - d.T) / 2
    assert dot(ds.hvp(ds.nuclear_norm, a, d), d) == pytest.approx(np.sum(skew**2), rel=1e-13)


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (2, 4)], ids=str)
def test_hessian_of_the_spectral_norm_is_the_closed_formula(rng, shape):
    """2 sum Sy_1j^2 / (s_1 - s_j) + 2 sum Sk_1j^2 / (s_1 + s_j) + |residuals|^2 / s_1."""
    a, d = rng.standard_normal((2, *shape))
    U, S, Vh = np.linalg.svd(a, full_matrices=False)
    M = U.T @ d @ Vh.T
    sy, sk = (M[0] + M[:, 0]) / 2, (M[0] - M[:, 0]) / 2
    left, right = d @ Vh[0] - U @ M[:, 0], d.T @ U[:, 0] - Vh.T @ M[0]
    expected = 2 * np.sum(sy[1:] ** 2 / (S[0] - S[1:])) + 2 * np.sum(sk**2 / (S[0] + S))
    expected += (left @ left + right @ right) / S[0]
    assert dot(ds.hvp(ds.opnorm, a, d), d) == pytest.approx(expected, rel=1e-12)
    assert ds.linalg.svdvals_second(a, d)[0] == pytest.approx(expected, rel=1e-12)


def test_a_tie_below_the_top_does_not_disturb_the_spectral_norm():
    """Elsewhere a repeated value anywhere makes the Hessian NaN."""
    H = ds.hessian(ds.opnorm, np.diag([2.0, 1.0, 1.0]))
    assert np.isfinite(H).all()
    assert H[0, 1, 0, 1] == pytest.approx(2 / 3) and H[0, 1, 1, 0] == pytest.approx(1 / 3)


def test_a_tie_does_not_disturb_simple_values_beside_it():
    """Through svdvals too: the Hessian of s_1^2 + s_4 at (3, 2, 2, 1) is that of the dyads of s_1 and s_4."""
    a = cases.exact(4, 4, [3, 2, 2, 1]) / 64
    f = lambda x: ds.svdvals(x)[0] ** 2 + ds.svdvals(x)[3]  # noqa: E731
    expected = ds.hessian(lambda x: ds.opnorm(x) ** 2 + ds.linalg.norm(x, -2), a)
    np.testing.assert_allclose(ds.hessian(f, a), expected, atol=1e-12)
    for chunk in (None, 1):
        fro = ds.hessian(lambda x: np.sum(ds.svdvals(x) ** 2), a, chunk=chunk).reshape(16, 16)
        np.testing.assert_allclose(fro, 2 * np.eye(16), atol=1e-12)


# ---------------------------------------------------------------------------------------------------------------------
# The one-sided second derivative of the ordered values


KINKS = {
    **MATRICES,
    "zero": np.zeros((3, 2)),
    "one zero": cases.exact(3, 3, [2, 1, 0]) / 8,
    "two zeros": cases.exact(3, 3, [2, 0, 0]) / 8,
    "two zeros, tall": cases.exact(4, 3, [2, 0, 0]) / 64,
    "two zeros, wide": cases.exact(2, 4, [1, 0]) / 32,
    "tied and zero": cases.exact(4, 4, [2, 2, 0, 0]) / 64,
    "complex tied": cases.exact(3, 3, [2, 2, 1], complex=True) / 64,
}


@pytest.mark.parametrize("a", [pytest.param(a, id=name) for name, a in KINKS.items() if name != "gap 1e-9"])
def test_taylor_with_one_sided_derivatives(a):
    """S(A + t D) = S + t S' + t^2 S'' / 2 + O(t^3) for t > 0: the remainder falls by 8 when t is halved."""
    d = cases.direction(a.shape, 1, a.dtype.name)
    S, first = ds.jvp(ds.svdvals, (a,), (d,))
    second = ds.linalg.svdvals_second(a, d)
    with mpmath.workdps(50):
        A, D = (mpmath.matrix(x.tolist()) for x in (a, d))
        exact = sorted(mpmath.svd_c(A, compute_uv=False) if len(A) else [], reverse=True)
        remainders = []
        for t in (mpmath.mpf(2) ** -20, mpmath.mpf(2) ** -21):
            moved = sorted(mpmath.svd_c(A + t * D, compute_uv=False), reverse=True)
            remainders.append([float((x - y) / t - p - t * q / 2) for x, y, p, q in zip(moved, exact, first, second)])
    coarse, fine = np.abs(remainders)
    assert (fine <= 0.5 * coarse + 1e-13 * np.linalg.norm(d)).all()
    assert (coarse <= 1e-10 * (1 + np.linalg.norm(d)) ** 3 / min(1, S[S > 1e-9].min(initial=1)) ** 2).all()


def second_differences(a: Any, d: Any, digits: int, step: int) -> list[float]:
    """(s(A + h D) - 2 s(A) + s(A - h D)) / h^2 of the ordered singular values, h = 10^-step, with so many digits."""
    with mpmath.workdps(digits):
        A, D = (mpmath.matrix(x.tolist()) for x in (a, d))
        h = mpmath.mpf(10) ** -step
        low, mid, high = (sorted(mpmath.svd_r(A + t * D, compute_uv=False), reverse=True) for t in (-h, 0, h))
        return [float((x - 2 * y + z) / h**2) for x, y, z in zip(low, mid, high)]


@pytest.mark.parametrize(
    ("digits", "rows", "columns", "bound"),
    [(8, True, False, 1e-12), (30, True, False, 1e-12), (8, False, True, 2e-2), (30, False, True, 10)],
    ids=["rows 1e8", "rows 1e30", "columns 1e8", "columns 1e30"],
)
def test_second_derivatives_of_graded_matrices_are_of_the_size_of_each_value(digits, rows, columns, bound):
    """By rows right to many digits, by columns as far as the tiny components of V are known; never noise of s_1."""
    down, across = cases.grading(4, 4, digits, rows, columns)
    a, d = (cases.normal(4, 4, seed=seed) * down[:, None] * across for seed in (0, 1))
    with ds.options(algorithm="jacobi"):
        actual = ds.linalg.svdvals_second(a, d)
    np.testing.assert_allclose(actual, second_differences(a, d, digits=300, step=90), rtol=bound)


@pytest.mark.parametrize("values", [[2, 1 + 1e-9, 1], [1 + 1e-11, 1, 0.5]], ids=str)
def test_second_derivatives_of_refined_values_close_to_each_other(values):
    """The digits that the gap costs come back: in both terms, the vectors and the gap itself."""
    a, d = cases.spectrum(4, 3, values), cases.direction((4, 3), 1)
    with ds.options(refine=2):
        actual = ds.linalg.svdvals_second(a, d)
    np.testing.assert_allclose(actual, second_differences(a, d, digits=120, step=40), rtol=1e-13)


def test_second_derivatives_of_a_stack_are_one_by_one(rng):
    stack = np.stack([rng.standard_normal((3, 3)), np.eye(3), np.diag([2.0, 2, 0]), np.zeros((3, 3))])
    d = rng.standard_normal(stack.shape)
    together = ds.linalg.svdvals_second(stack, d)
    for row, a, x in zip(together, stack, d):
        np.testing.assert_allclose(row, ds.linalg.svdvals_second(a, x), rtol=1e-12)  # LAPACK's there, packs here
    assert ds.linalg.svdvals_second(np.ones((0, 3)), np.ones((0, 3))).shape == (0,)
    with pytest.raises(ds.ShapeError, match=r"\(3, 3\)"):
        ds.linalg.svdvals_second(np.eye(3), np.ones(3)[:, None])
    with pytest.raises(ds.MissingRuleError, match="svdvals_second"):
        ds.jvp(lambda x: ds.linalg.svdvals_second(x, np.eye(2)), (np.eye(2),), (np.eye(2),))


@pytest.mark.parametrize("name", ["distinct", "identity", "pairs", "tied, tall", "tied, wide"])
def test_nested_dual_numbers_along_one_direction_give_it_too(name):
    """The outer direction has split the ties when the inner one looks: exact if first order splits them."""
    a = MATRICES[name]
    d = direction(a, 1)
    nested = along(lambda x: along(ds.svdvals, x, d), a, d)
    np.testing.assert_allclose(nested, ds.linalg.svdvals_second(a, d), atol=1e-12 * np.linalg.norm(d) ** 2)


@pytest.mark.parametrize("rank", [0, 1], ids=["zeros stay", "one zero moves"])
@pytest.mark.parametrize("name", [name for name in KINKS if "identity" in name or "zero" in name or "tied" in name])
def test_nested_dual_numbers_follow_what_first_order_leaves_tied(name, rank):
    """Along a direction without a Hermitian part on the ties, their values leave each other only at second order; along
    one that moves null values by a matrix of that rank, the other null values leave zero so."""
    a = KINKS[name]
    d = cases.direction(a.shape, 1, a.dtype.name)
    U, S, Vh = np.linalg.svd(a)
    positive = int(np.sum(S > 1e-9))
    M = np.conj(U.T) @ d @ np.conj(Vh.T)
    tied = np.abs(S[:positive, None] - S[:positive]) < 1e-9
    corner = M[:positive, :positive]
    M[:positive, :positive] -= np.where(tied, (corner + np.conj(corner.T)) / 2, 0)
    M[positive:, positive:] = rank * np.outer(*(cases.normal(k - positive, 1, seed=k)[:, 0] for k in a.shape))
    d = U @ M @ Vh
    expected = ds.linalg.svdvals_second(a, d)
    for f, values in (
        (ds.svdvals, expected),
        (lambda x: ds.svd(x).S, expected),
        (lambda x: ds.svd(x, True).S, expected),
        (ds.nuclear_norm, expected.sum()),
        (ds.opnorm, expected[0]),
        (lambda x: ds.norm(x, -2), expected[-1]),
    ):
        nested = along(lambda x, f=f: along(f, x, d), a, d)
        np.testing.assert_allclose(nested, values, atol=1e-12 * np.linalg.norm(d) ** 2)


NULL = {
    "tall": (5, 4, [2, 1, 0, 0]),
    "wide": (3, 5, [2, 0, 0]),
    "square": (4, 4, [1, 0, 0, 0]),
    "complex": (4, 3, [2, 0, 0]),
}


@pytest.mark.parametrize("inner", ["keeps the rank", "moves the zeros"])
@pytest.mark.parametrize("name", NULL)
def test_slopes_of_null_values_along_another_direction_agree_with_many_digits(name, inner):
    """The outer direction keeps the rank to first order, or for good where the inner one moves the zeros. All are
    integers, and so exact."""
    m, n, values = NULL[name]
    rng = np.random.default_rng([m, n])
    unit = 1j if name == "complex" else 0
    a = np.zeros((m, n)) + 0 * unit
    np.fill_diagonal(a, values)

    def integers(*shape: int) -> Any:
        return rng.integers(-3, 4, shape) + rng.integers(-3, 4, shape) * unit + 0.0

    if inner == "keeps the rank":
        d, e = (integers(m, m) @ a + a @ integers(n, n) for _ in range(2))
    else:
        d, e = integers(m, n), integers(m, m) @ a
    with mpmath.workdps(120):
        A, D, E = (mpmath.matrix((x if m >= n else x.T).tolist()) for x in (a, d, e))
        t, h = mpmath.mpf(10) ** -15, mpmath.mpf(10) ** -60

        def slopes(t: Any) -> list[Any]:
            here, there = (
                sorted(mpmath.svd_c(A + t * E + step * D, compute_uv=False), reverse=True) for step in (0, h)
            )
            return [(y - x) / h for x, y in zip(here, there)]

        expected = [float((y - x) / t) for x, y in zip(slopes(t), slopes(2 * t))]
    for f in (ds.svdvals, lambda x: ds.svd(x).S, lambda x: ds.svd(x, True).S):
        np.testing.assert_allclose(along(lambda x, f=f: along(f, x, d), a, e), expected, rtol=1e-11, atol=1e-11)


def test_second_derivatives_of_null_values_of_a_stack_are_one_by_one(rng):
    stack = np.stack([np.diag([2.0, 1, 0, 0])[:3], np.zeros((3, 4)), rng.standard_normal((3, 4)), np.eye(4)[:3]])
    d, e = (rng.integers(-3, 4, (4, 3, 3)) @ stack + stack @ rng.integers(-3, 4, (4, 4, 4)) for _ in range(2))
    twice = lambda a, d, e: along(lambda x: along(ds.svdvals, x, d), a, e)  # noqa: E731
    np.testing.assert_allclose(twice(stack, d, d), ds.linalg.svdvals_second(stack, d), atol=1e-12)
    together = twice(stack, d, e)
    for row, one in zip(together, zip(stack, d, e)):
        np.testing.assert_allclose(row, twice(*one), atol=1e-12)
    scaled = twice(stack, 2.0**500 * d, 2.0**-500 * e)
    np.testing.assert_allclose(scaled, together, atol=1e-12)


@pytest.mark.parametrize("values", [[2, 1, 0, 0], [2, 2, 1, 0], [1, 1, 1, 1]], ids=str)
def test_small_and_large_directions_of_a_stack_are_one_by_one(values, rng):
    a, unit = np.diag(np.array(values, float)), np.array([1.0, 1e20])
    d, e = rng.integers(-3, 4, (2, 4, 4)).astype(float)
    for x, y in ((d, e), (d, e @ a), (d @ a, e), (d @ a, a @ e)):
        one = along(lambda z, x=x: along(ds.svdvals, z, x), a, y)
        units = unit[:, None, None]
        both = along(lambda z, x=x, u=units: along(ds.svdvals, z, u * x), np.stack([a, a]), units * y)
        np.testing.assert_allclose(both / unit[:, None] ** 2, [one, one], atol=1e-12)


def test_null_values_that_leave_zero_at_second_order_have_no_third_derivative():
    a, d = np.diag([2.0, 0.0]), np.array([[1.0, 1.0], [1.0, 0.0]])
    with pytest.raises(ds.DegenerateError, match=r"third derivative.*svdvals_second"):
        along(lambda x: along(lambda y: along(ds.svdvals, y, d), x, d), a, d)


def test_nested_dual_numbers_follow_eigenvalues_that_first_order_leaves_tied():
    """Beside w = 2, 2, 1, 1 a block C with values s: the second derivatives are +-2 s^2 / (2 - 1)."""
    C = cases.normal(2, 2)
    a, d = np.diag([2.0, 2.0, 1.0, 1.0]), np.block([[np.zeros((2, 2)), C], [C.T, np.zeros((2, 2))]])
    squares = np.linalg.svd(C, compute_uv=False) ** 2
    for f in (ds.linalg.eigvalsh, lambda x: ds.linalg.eigh(x).eigenvalues):
        nested = along(lambda x, f=f: along(f, x, d), a, d)
        np.testing.assert_allclose(nested, 2 * np.concatenate([-squares, squares[::-1]]), atol=1e-13)


@pytest.mark.parametrize(
    ("f", "remedy"),
    [
        pytest.param(lambda x: (lambda U, S, Vh: U @ Vh)(*ds.svd(x)), "polar.*svdvals", id="svd"),
        pytest.param(lambda x: (lambda U, S, Vh: U[:, 1:2] * S[:1])(*ds.svd(x, True)), "polar.*svdvals", id="full"),
        pytest.param(lambda x: np.linalg.eigh(x @ x.T).eigenvectors, "eigvalsh", id="eigh"),
        pytest.param(
            lambda x: ds.linearize(lambda z: ds.svd(z).U, x)[1](np.ones(x.shape)), "polar.*svdvals", id="linearize"
        ),
        pytest.param(
            lambda x: ds.svd_pushforward(*ds.svd(x), np.ones(x.shape))[0] ** 2, "polar.*svdvals", id="svd_pushforward"
        ),
    ],
)
@pytest.mark.parametrize("name", ["identity", "pairs", "tied, tall"])
def test_vectors_of_a_tie_that_an_outer_direction_splits_are_refused(name, f, remedy):
    """They turn as 1 / gap, and no numbers can say that the parts of a composite cancel; values have no such parts."""
    a = MATRICES[name]
    d, e = direction(a, 1), direction(a, 2)
    with pytest.raises(ds.DegenerateError, match=f"outer direction splits.*{remedy}"):
        along(lambda x: along(f, x, d), a, e)
    expected = along(lambda x: along(ds.svdvals, x, d), a, e)
    values = {
        "svd": lambda x: along(lambda z: ds.svd(z).S, x, d),
        "linearize": lambda x: ds.linearize(lambda z: ds.svd(z).S, x)[1](d),
        "svd_pushforward": lambda x: ds.svd_pushforward(*ds.svd(x), d)[1],
    }
    for way, slopes in values.items():
        np.testing.assert_allclose(along(slopes, a, e), expected, atol=1e-12, err_msg=way)
    square = lambda x: x @ x.T  # noqa: E731
    np.testing.assert_allclose(
        along(lambda x: along(lambda z: ds.linalg.eigh(square(z)).eigenvalues, x, d), a, e),
        along(lambda x: along(lambda z: ds.linalg.eigvalsh(square(z)), x, d), a, e),
        atol=1e-11,
    )


@pytest.mark.parametrize("full", [False, True], ids=["thin", "full"])
@pytest.mark.parametrize("name", ["tied, tall", "one zero", "two zeros, tall", "two zeros, wide"])
def test_vectors_beside_a_tie_that_an_outer_direction_splits_are_exact(name, full):
    a = KINKS[name]
    d, e = direction(a, 1), direction(a, 2)

    def dyad(x: Any) -> Any:
        U, S, Vh = ds.svd(x, full)
        return U[:, :1] * S[:1] @ Vh[:1]

    expected = along(lambda x: along(lambda z: ds.low_rank(z, 1), x, d), a, e)
    np.testing.assert_allclose(along(lambda x: along(dyad, x, d), a, e), expected, atol=1e-12)


@pytest.mark.parametrize("p", [1.5, 3.0, 4.0])
@pytest.mark.parametrize("order", [2, 3])
def test_third_derivatives_of_fused_functions_by_nesting(p, order):
    """t -> f(A exp(t)) = exp(c t) f(A) for homogeneous f of degree c: the k-th derivative is c^k f(A)."""
    a = MATRICES["pairs"]
    for f, c in ((FUSED["polar"], 0), (ds.pinv, -1), (FUSED["low_rank"], 1)):
        curve: Any = lambda t, f=f: f(a * np.exp(t))  # noqa: E731
        for _ in range(order):
            curve = lambda t, inner=curve: ds.derivative(inner, t)  # noqa: E731
        np.testing.assert_allclose(curve(0.0), c**order * f(a), atol=1e-11)
    total: Any = lambda t: np.sum(ds.norm(a * np.exp(t), ("schatten", p)))  # noqa: E731
    for _ in range(order):
        total = lambda t, inner=total: ds.derivative(inner, t)  # noqa: E731
    assert total(0.0) == pytest.approx(ds.norm(a, ("schatten", p)), rel=1e-11)


@pytest.mark.parametrize("shape", [(3, 2), (2, 3), (2, 3, 2)], ids=str)
@pytest.mark.parametrize(
    ("f", "df"), [(np.sqrt, lambda s: 0.5 / np.sqrt(s)), (np.log, lambda s: 1 / s)], ids=["square root", "logarithm"]
)
def test_third_derivatives_at_full_rank_do_not_need_a_slope_at_zero(f, df, shape):
    """Matrices of full rank that are not square have a null space, but no singular value in it."""
    a, d = cases.normal(*shape, seed=1), cases.normal(*shape, seed=2)

    def by_vectors(x: Any) -> Any:
        U, S, Vh = ds.svd(x)
        return U * f(S)[..., None, :] @ Vh

    third, expected = (
        along(lambda x, F=F: along(lambda y: along(F, y, d), x, d), a, d)
        for F in (lambda x: ds.spectral_function(x, f, df), by_vectors)
    )
    np.testing.assert_allclose(third, expected, rtol=1e-9, atol=1e-10 * abs(expected).max())


@pytest.mark.parametrize("exponent", [-365, -329, 329])
def test_second_derivatives_of_an_inverse_of_any_size(exponent):
    """pinv(c A) = pinv(A) / c."""
    a, c = cases.spectrum(3, 3, [1, 0.5, 1e-4]), 2.0**exponent
    d = direction(a, 1)
    expected, scaled = (ds.hvp(lambda x: np.sum(ds.pinv(x)), x, y) for x, y in ((a, d), (c * a, c * d)))
    np.testing.assert_allclose(scaled * c * c, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize(
    "way, dtype, exponent",
    [("third", "d", k) for k in (-600, 266, 300, 600)]
    + [("third", "f", k) for k in (-33, 27, 33, 43)]
    + [("third, reverse last", t, k) for t, k in (("d", -266), ("d", 266), ("d", 300), ("f", 33))]
    + [("fourth", "d", k) for k in (-196, 216, 266)],
)
def test_higher_derivatives_of_an_inverse_of_any_size(way, dtype, exponent):
    """pinv(c A) = pinv(A) / c, and so is each of its derivatives along c D."""
    a, c = cases.spectrum(3, 2, [1, 0.5]).astype(dtype), np.dtype(dtype).type(2.0**exponent)
    d = direction(a, 1).astype(dtype)

    def along(f, d):
        return lambda x: ds.jvp(f, (x,), (d,))[1]

    def derivative(x, d):
        if way == "third, reverse last":
            twice = lambda x: np.sum(ds.hvp(lambda x: np.sum(ds.pinv(x)), x, d) * d)  # noqa: E731
            return np.sum(ds.gradient(twice, x) * d)
        third = along(along(along(ds.pinv, d), d), d)
        return (along(third, d) if way == "fourth" else third)(x)

    expected, scaled = derivative(a, d), derivative(c * a, c * d)
    atol = 100 * np.finfo(dtype).eps * np.abs(expected).max()  # c is a power of two: only sums in another order round
    np.testing.assert_allclose(scaled * c, expected, rtol=0, atol=atol)


# ---------------------------------------------------------------------------------------------------------------------
# Functions of the values alone: the Hessians of traces, by every nesting


def adjoint(x: Any) -> Any:
    return np.conj(np.swapaxes(x, -1, -2))


def inner(x: Any, y: Any) -> Any:
    return np.real(np.sum(np.conj(x) * y))


def slope_of_polar(a: Any, d: Any) -> Any:
    return along(FUSED["polar"], a, d)


def hvp_of_squared_sum(a: Any, d: Any) -> Any:
    W, S = ds.polar(a)[0], np.linalg.svd(a, compute_uv=False)
    return 2 * S.sum() * slope_of_polar(a, d) + 2 * inner(W, d) * W


def quartic(a: Any, d: Any) -> Any:
    return 4 * (d @ adjoint(a) @ a + a @ adjoint(d) @ a + a @ adjoint(a) @ d)


#: f(S), its Hessian times d without singular values or by fused functions, and whether it asks for full rank
OF_VALUES: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], Any], bool]] = {
    "sum s^2": (lambda s: np.sum(s**2), lambda a, d: 2 * d, False),
    "sum s^4": (lambda s: np.sum(s**4), quartic, False),
    "sum (s^2-1)^2": (lambda s: np.sum((s**2 - 1) ** 2), lambda a, d: quartic(a, d) - 4 * d, False),
    "(sum s^2)^2": (lambda s: np.sum(s**2) ** 2, lambda a, d: 8 * inner(a, d) * a + 4 * inner(a, a) * d, False),
    "sum (s-1)^2": (lambda s: np.sum((s - 1) ** 2), lambda a, d: 2 * d - 2 * slope_of_polar(a, d), True),
    "sum s": (np.sum, slope_of_polar, True),
    "(sum s)^2": (lambda s: np.sum(s) ** 2, hvp_of_squared_sum, True),
    "variance": (
        lambda s: np.sum((s - np.mean(s)) ** 2),
        lambda a, d: 2 * d - hvp_of_squared_sum(a, d) / min(a.shape),
        True,
    ),
}

AT_TIES = {
    "identity": np.eye(3),
    "3 1 1": cases.exact(3, 3, [3, 1, 1]) / 9,
    "a rotation": cases.pythagorean(4) / 65,  # values that are 1 to rounding
    "tall": cases.exact(4, 3, [2, 1, 1]) / 64,
    "wide": cases.exact(3, 4, [2, 1, 1]) / 64,
    "complex": cases.exact(3, 3, [2, 2, 1], complex=True) / 9,
    "2 1 0": np.diag([2.0, 1.0, 0.0]),
    "two zeros, tall": cases.exact(5, 3, [1, 0, 0]) / 64,
    "zeros, wide": cases.exact(2, 4, [1, 0]) / 32,
    "tied and zero": cases.exact(4, 4, [2, 2, 0, 0]) / 64,
    "complex zeros": cases.exact(3, 3, [2, 0, 0], complex=True) / 9,
    "complex tied and zero": cases.exact(4, 3, [2, 2, 0], complex=True) / 64,
    "zero": np.zeros((3, 2)),
    "single precision": np.float32(1.5) * np.eye(3, dtype=np.float32),
    "small": 2.0**-300 * np.eye(2),
}


def nestings(f: Callable[[Any], Any], a: Any, d: Any, e: Any) -> dict[str, Callable[[], Any]]:
    """The Hessian of f times d, three ways; the last one times e."""
    one = np.ones((), a.real.dtype)
    backwards = lambda z: ds.gradient(f, z, mode="reverse")  # noqa: E731
    return {
        "forward over reverse": lambda: ds.hvp(f, a, d),
        "reverse over reverse": lambda: ds.vjp(backwards, a)[1](d)[0],
        "linearize": lambda: ds.linearize(backwards, a)[1](d),
        "reverse over linearize": lambda: ds.vjp(lambda z: ds.linearize(f, z)[1](d), a)[1](one)[0],
        "reverse over forward": lambda: ds.vjp(lambda z: along(f, z, d), a)[1](one)[0],
        "forward over forward": lambda: along(lambda z: along(f, z, d), a, e),
    }


#: Which go through singular vectors, and may say that they cannot know: of functions of `svdvals`, and of `svd`, whose
#: pullback answers for each value by itself.
BY_VECTORS = ("reverse over linearize",)
BY_FACTORS = (*BY_VECTORS, "forward over reverse", "reverse over reverse", "linearize")


def check_nestings(f, a, hessian_times, refusing=BY_VECTORS):
    """All are right; those `refusing`, right or refused."""
    d, e = (cases.direction(a.shape, seed, a.dtype.name) for seed in (1, 2))
    expected = np.asarray(hessian_times(a, d))
    # products of a dozen matrices of 5 rows at most, and quotients by gaps of a quarter or more
    bound = cases.eps(a) * 1e4 * max(np.abs(expected).max(), np.abs(hessian_times(a, e)).max(), np.abs(d).max())
    for way, run in nestings(f, a, d, e).items():
        try:
            actual = run()
        except (ds.DegenerateError, ds.GaugeError):
            assert way in refusing, way
            continue
        wanted = inner(e, expected) if way == "forward over forward" else expected
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=bound, err_msg=way)


OF_VALUES_AT_TIES = pytest.mark.parametrize(
    ("name", "a"),
    [
        pytest.param(name, a, id=f"{name} at {where}")
        for name, (_, _, full_rank) in OF_VALUES.items()
        for where, a in AT_TIES.items()
        if not (full_rank and ("zero" in where or where == "2 1 0"))
        if not (where == "small" and name not in ("sum s^2", "sum s"))
    ],
)


@OF_VALUES_AT_TIES
def test_smooth_functions_of_the_values_have_their_hessian_by_every_nesting(name, a):
    g, hessian_times, _ = OF_VALUES[name]
    check_nestings(lambda x: g(ds.svdvals(x)), a, hessian_times)
    check_nestings(lambda x: g(ds.svd(x).S), a, hessian_times, BY_FACTORS)


@OF_VALUES_AT_TIES
@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_whole_hessians_of_smooth_functions_of_the_values(name, a, mode):
    if np.iscomplexobj(a):
        a = np.ascontiguousarray(a.real)
    g, hessian_times, _ = OF_VALUES[name]
    H = ds.hessian(lambda x: g(ds.svdvals(x)), a, mode=mode)
    expected = np.stack([hessian_times(a, e.reshape(a.shape)) for e in np.eye(a.size, dtype=a.dtype)])
    bound = cases.eps(a) * 1e4 * max(1, np.abs(expected).max())  # as above
    np.testing.assert_allclose(H.reshape(-1, *a.shape), expected, rtol=0, atol=bound)


@pytest.mark.parametrize("copies", [1, 4], ids=["LAPACK", "packs"])
def test_stacks_of_ties_zeros_and_simple_values(copies, rng):
    """Also where the function makes one number of all matrices."""
    a = np.stack([np.eye(3), np.diag([2.0, 1, 0]), np.diag([3.0, 1, 1]), rng.standard_normal((3, 3))] * copies)
    check_nestings(lambda x: np.sum(ds.svdvals(x) ** 4), a, quartic)
    check_nestings(lambda x: np.sum(ds.svdvals(x) ** 2) ** 2, a, OF_VALUES["(sum s^2)^2"][1])


def test_simple_values_whose_weight_vanishes_at_a_tie_beside_them():
    """sum (s - c)^2 at s = c = (3, 1, 1): |A|^2 - 2 (s_1 + s_2 + s_3) - 4 s_1, but for a constant."""
    f = lambda x: np.sum((ds.svdvals(x) - np.array([3.0, 1.0, 1.0])) ** 2)  # noqa: E731
    expected = lambda a, d: 2 * d - 2 * slope_of_polar(a, d) - 4 * ds.hvp(ds.opnorm, a, d)  # noqa: E731
    check_nestings(f, np.diag([3.0, 1.0, 1.0]), expected)


def test_values_that_are_used_twice_are_right_or_refused():
    """By reverse over reverse the weights of one are the other, which it cannot see."""
    f = lambda x: np.sum(ds.svdvals(x) * ds.svdvals(x))  # noqa: E731
    a, d = AT_TIES["3 1 1"], direction(np.eye(3), 1)
    ways = nestings(f, a, d, d)
    for way in ("forward over reverse", "reverse over forward"):
        np.testing.assert_allclose(ways[way](), 2 * d, atol=1e-12)
    with pytest.raises(ds.DegenerateError, match=r"more than one way.*take hvp"):
        ways["reverse over reverse"]()


@pytest.mark.parametrize(
    ("f", "says"),
    [
        pytest.param(lambda s: np.sum((s - 1) ** 2 * np.array([1.0, 1.0, 2.0])), "not symmetric", id="other weights"),
        pytest.param(lambda s: (s[0] - 1) ** 2, "not symmetric", id="one of a tie"),
    ],
)
def test_functions_that_only_look_symmetric_to_first_order_have_no_second_derivative(f, says):
    with pytest.raises(ds.DegenerateError, match=says):
        ds.hessian(lambda x: f(ds.svdvals(x)), np.eye(3), mode="reverse")
    with pytest.raises(ds.DegenerateError, match="differ within the tie"):
        ds.vjp(lambda z: along(lambda x: ds.svdvals(x)[0] ** 2, z, np.ones((3, 3))), np.eye(3))[1](1.0)


@pytest.mark.parametrize("values", [(2.0, 2, 1), (2.0, 2, 2, 1)], ids=str)
def test_one_value_of_a_tie_has_no_hessian_in_forward_mode(values):
    """One direction at a time gives numbers, which are not symmetric."""
    a = cases.spectrum(len(values), len(values), values)
    with pytest.raises(ds.DegenerateError, match="directions at once"):
        ds.hessian(lambda x: ds.svdvals(x)[0], a, mode="forward")


@pytest.mark.parametrize("name", ["identity", "3 1 1", "2 1 0", "two zeros, tall", "complex", "complex tied and zero"])
def test_parts_of_a_gradient_that_another_engine_puts_together(name):
    """Cotangents are variables beside the matrix there: they tell how they move, but not what they depend on."""
    a, (g, hessian_times, _) = AT_TIES[name], OF_VALUES["sum s^4"]
    d = cases.direction(a.shape, 1, a.dtype.name)
    pulled = lambda a, w: ds.vjp(ds.svdvals, a)[1](w)[0]  # noqa: E731
    S, dS = ds.jvp(ds.svdvals, (a,), (d,))
    w, dw = ds.jvp(lambda s: ds.gradient(g, s), (S,), (dS,))
    bound = 1e-11 * np.abs(hessian_times(a, d)).max()
    np.testing.assert_allclose(ds.linearize(pulled, a, w)[1](d, dw), hessian_times(a, d), rtol=0, atol=bound)
    with pytest.raises(ds.DegenerateError, match="put together from its parts"):
        ds.vjp(pulled, a, w)[1](d)
    if name == "identity":  # of three values: two always differ by a multiple of what two others do
        with pytest.raises(ds.DegenerateError, match="not symmetric"):
            ds.linearize(pulled, a, w)[1](d, np.arange(len(S)) + 1.0)
    ones = np.ones_like(S)
    if name not in ("two zeros, tall", "2 1 0", "complex tied and zero"):  # where the nuclear norm is smooth
        np.testing.assert_allclose(ds.vjp(lambda a: pulled(a, ones), a)[1](d)[0], slope_of_polar(a, d), atol=1e-13)


@pytest.mark.parametrize("order", list(itertools.product("fr", repeat=3)), ids="".join)
@pytest.mark.parametrize("name", ["identity", "3 1 1", "2 1 0", "two zeros, tall", "complex"])
def test_third_derivatives_through_values_are_right_or_refused(name, order):
    """Of sum s^4: 4 Re tr(G^H X Y^H Z), summed over all orders of the directions and A."""
    a = AT_TIES[name]
    d, e, g = (cases.direction(a.shape, seed, a.dtype.name) for seed in (1, 2, 3))
    f: Any = lambda x: np.sum(ds.svdvals(x) ** 4)  # noqa: E731
    for how, x in zip(order, (d, e, g)):
        if how == "f":
            f = lambda z, f=f, x=x: along(f, z, x)  # noqa: E731
        else:
            f = lambda z, f=f, x=x: inner(x, ds.gradient(f, z, mode="reverse"))  # noqa: E731
    try:
        actual = f(a)
    except ds.DegenerateError:
        return
    expected = 4 * sum(inner(g, x @ adjoint(y) @ z) for x, y, z in itertools.permutations((d, e, a)))
    assert actual == pytest.approx(expected, rel=1e-10)


OF_EIGENVALUES = {
    "sum w^2": (lambda w: np.sum(w**2), lambda a, d: 2 * d),
    "sum w^3": (lambda w: np.sum(w**3), lambda a, d: 3 * (d @ a + a @ d)),
    "sum (w-1)^2": (lambda w: np.sum((w - 1) ** 2), lambda a, d: 2 * d),
    "(sum w)^2": (lambda w: np.sum(w) ** 2, lambda a, d: 2 * np.real(np.trace(d)) * np.eye(len(a))),
}


@pytest.mark.parametrize("values", [[1, 1, 1], [2, 1, 1], [-1, -1, 2], [0, 0, 0], [3, 2, 1]], ids=str)
@pytest.mark.parametrize("name", OF_EIGENVALUES)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_smooth_functions_of_eigenvalues_have_their_hessian_by_every_nesting(name, values, dtype):
    g, hessian_times = OF_EIGENVALUES[name]
    Q = cases.orthogonal(3, seed=1, dtype=dtype)
    a = (Q * np.array(values, float)) @ adjoint(Q)
    expected = lambda a, d: hessian_times(a, (d + adjoint(d)) / 2)  # noqa: E731  # functions of the Hermitian part
    check_nestings(lambda x: g(ds.linalg.eigvalsh(x)), (a + adjoint(a)) / 2, expected)
    check_nestings(lambda x: g(ds.linalg.eigh(x).eigenvalues), (a + adjoint(a)) / 2, expected, BY_FACTORS)


@pytest.mark.parametrize("exponent", [-1010, -600, 600, 1010])
@pytest.mark.parametrize("values", [[1, 1, 1], [2, 1, 1], [2, 1, 0], [2, 2, 0], [2, 0, 0]], ids=str)
@pytest.mark.parametrize(
    "f",
    [
        pytest.param(ds.svdvals, id="svdvals"),
        pytest.param(lambda x: ds.svd(x).S, id="svd"),
        pytest.param(ds.linalg.eigvalsh, id="eigvalsh"),
        pytest.param(lambda x: ds.linalg.eigh(x).eigenvalues, id="eigh"),
    ],
)
def test_functions_of_values_in_their_own_units_have_the_same_hessian_at_any_scale(f, values, exponent):
    """g(S / c), smooth at ties and zeros, at c A along c D: c its gradient, and the Hessian times c D and c, are those
    at A along D."""
    Q = cases.orthogonal(3, seed=1)
    a, c = (Q * np.array(values, float)) @ Q.T, 2.0**exponent
    a, (d, e) = (a + a.T) / 2, (cases.normal(3, 3, seed=seed) for seed in (1, 2))
    ways, large = (nestings(lambda x, u=u: np.sum(np.cos(f(x) / u)), u * a, u * d, u * e) for u in (1.0, c))
    for way, run in ways.items():
        try:
            expected = run()
        except (ds.DegenerateError, ds.GaugeError):
            assert way in BY_FACTORS, way
            continue
        actual, units = large[way](), 1 if way == "forward over forward" else c
        bound = 1e4 * cases.eps(a) * max(np.abs(expected).max(), 1)  # as above
        np.testing.assert_allclose(units * actual, expected, rtol=0, atol=bound, err_msg=way)


@pytest.mark.parametrize("gap", [1e-5, 1e-7, 1e-9])
def test_second_derivatives_close_to_a_tie_lose_no_more_than_the_gap_takes(gap):
    """eps / gap, as the vectors do: what grows as 1 / gap cancels to its own rounding, not to that over the gap."""
    for seed in range(4):
        Q, P = (cases.orthogonal(4, seed=10 * seed + k) for k in (1, 2))
        a, d = (Q * [1.5, 1.5, 1.5 - gap, 0.3]) @ P, cases.normal(4, 4, seed=seed)
        f = lambda x: np.sum(ds.svdvals(x))  # noqa: E731
        expected = ds.hvp(ds.nuclear_norm, a, d)
        for way, run in nestings(f, a, d, d).items():
            if way not in ("forward over forward", *BY_VECTORS):  # of ordered values, which lose more
                np.testing.assert_allclose(run(), expected, rtol=0, atol=1e2 * cases.eps(a) / gap, err_msg=way)


# ---------------------------------------------------------------------------------------------------------------------
# Divided differences


def differences_among(sizes, points, f, df):
    """Every choice of so many of the numbers of these sizes, and of zero, and the divided difference of f there."""
    from dualsvd.linalg.divided_differences import DividedDifferences, Nodes, UserFunction

    S = np.array(sorted(sizes, reverse=True))
    with np.errstate(invalid="ignore"):  # as in the rule: choices with 0 twice may be infinite
        actual = DividedDifferences(UserFunction(f, df), Nodes(S, np.zeros(len(S), dtype=int)), points, zero=True)
    places = np.array(list(itertools.combinations(range(2 * len(S) + 1), points))).T
    return zip(actual.line.x[places].T.tolist(), actual[places], strict=True)


@pytest.mark.parametrize("points", [2, 3, 4])
def test_divided_differences_of_user_functions_are_right_at_any_distance(points):
    """tanh at points near and far, of both signs: against the quotient in fifty digits."""
    sizes = [1e-12, 1e-9, 1e-4, 1e-4 * (1 + 1e-13), 0.03, 1.0, 1.0 + 1e-8, 2.5]
    for x, actual in differences_among(sizes, points, np.tanh, lambda s: 1 - np.tanh(s) ** 2):
        with mpmath.workdps(80):
            table = [mpmath.tanh(v) for v in x]
            for p in range(1, points):
                table = [(b - a) / (mpmath.mpf(x[i + p]) - x[i]) for i, (a, b) in enumerate(itertools.pairwise(table))]
            assert abs(actual - float(table[0])) <= 2e-13 / math.factorial(points - 1), x


#: f, its derivative, and f in mpmath; continued oddly they jump or bend at 0, and some do elsewhere
UNEVEN = {
    "constant": (lambda s: 1.0, lambda s: 0.0, lambda x: mpmath.mpf(1)),
    "square": (np.square, lambda s: 2 * s, lambda x: x**2),
    "logarithm": (np.log, lambda s: 1 / s, mpmath.log),
    "saturating": (lambda s: -np.expm1(-s / 100), lambda s: np.exp(-s / 100) / 100, lambda x: -mpmath.expm1(-x / 100)),
    "corner": (lambda s: np.minimum(s, 1), lambda s: np.where(s < 1, 1.0, 0.0), lambda x: min(x, mpmath.mpf(1))),
    "bend": (
        lambda s: np.where(s < 1, s**3, 3 * s - 2),
        lambda s: np.where(s < 1, 3 * s**2, 3.0),
        lambda x: x**3 if x < 1 else 3 * x - 2,
    ),
}


@pytest.mark.parametrize("points", [2, 3, 4])
@pytest.mark.parametrize("name", UNEVEN)
def test_divided_differences_across_a_jump_or_a_bend_are_as_good_as_the_quotient(name, points):
    f, df, exactly = UNEVEN[name]
    sizes, eps = [1e-4, 0.01, 0.1, 0.385, 0.998, 1.0005, 1.03, 2.5], float(np.finfo(float).eps)
    for x, actual in differences_among(sizes, points, f, df):
        with mpmath.workdps(60):
            table = [mpmath.sign(v) * exactly(abs(mpmath.mpf(v))) if v else mpmath.mpf(0) for v in x]
            bound = [eps * abs(v) for v in table]
            for p in range(1, points):
                gaps = [mpmath.mpf(x[i + p]) - x[i] for i in range(points - p)]
                table = [(b - a) / gap for gap, (a, b) in zip(gaps, itertools.pairwise(table))]
                bound = [(a + b) / gap for gap, (a, b) in zip(gaps, itertools.pairwise(bound))]
            assert abs(actual - float(table[0])) <= 4 * float(bound[0]), x


@pytest.mark.parametrize("g", [lambda s: s**2, lambda s: s**4 + s**2, np.cos], ids=["squares", "quartic", "cosine"])
@pytest.mark.parametrize(
    "a",
    [
        np.diag([2.0, 0.0]),
        np.diag([2.0, 1.0, 0.0]),
        np.zeros((3, 2)),
        np.outer([1.0, 2, 3], [1.0, 1]),
        np.zeros((2, 1)),
    ],
    ids=["diagonal", "three", "zero", "rank one", "column"],
)
def test_smooth_functions_of_all_values_where_some_are_zero(g, a, rng):
    """sum g(s), g even, is a smooth function of A^H A: its second derivative is that nearby, at no null value."""
    d, nearby = rng.standard_normal((2, *a.shape))
    f = lambda a: np.sum(g(ds.svdvals(a)))  # noqa: E731
    np.testing.assert_allclose(ds.hvp(f, a, d), ds.hvp(f, a + 1e-6 * nearby, d), rtol=1e-4, atol=1e-4)
    if g(2.0) == 4.0:
        np.testing.assert_allclose(ds.hvp(f, np.stack([a] * 9), np.stack([d] * 9)), np.stack([2 * d] * 9), atol=1e-12)
        whole = ds.jacobian(lambda a: ds.gradient(f, a), a, mode="forward", chunk=a.size)
        np.testing.assert_allclose(whole.reshape(a.size, a.size), 2 * np.eye(a.size), atol=1e-12)


def test_third_derivatives_of_weights_that_vanish_to_first_order():
    """A weight, and its tangent along either direction, may be zero where the mixed one is not."""
    cubes = lambda A: np.sum((ds.svdvals(A) - 1) ** 3)  # noqa: E731, of which D^3 f(I)[V, W] = 3 (V W + W V)
    eye, a, d = np.eye(2), np.diag([2.0, 2.0, 1.0]), np.diag([0.0, 0.0, 1.0])
    third = ds.jvp(lambda z: ds.hvp(cubes, z, eye), (eye,), (eye,))[1]
    np.testing.assert_allclose(third, 6 * eye, atol=1e-13)
    simple = lambda A: (ds.svdvals(A)[2] - 1) ** 3  # noqa: E731, beside a tie
    third = ds.jvp(lambda z: ds.hvp(simple, z, d), (a,), (d,))[1]
    np.testing.assert_allclose(third, 6 * d, atol=1e-13)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(ds.svdvals, id="svdvals"),
        pytest.param(lambda A: ds.svd(A).S, id="svd"),
        pytest.param(lambda A: ds.eigvalsh(A)[::-1], id="eigvalsh"),
        pytest.param(lambda A: ds.eigh(A)[0][::-1], id="eigh"),
    ],
)
@pytest.mark.parametrize(
    "inner",
    [
        pytest.param(along, id="jvp"),
        pytest.param(lambda f, z, d: ds.linearize(f, z)[1](d), id="linearize"),
        pytest.param(lambda f, z, d: ds.svd_pushforward(*ds.svd(z), d)[1], id="svd_pushforward"),
    ],
)
def test_slopes_of_a_tie_have_a_derivative_by_jvp_and_none_by_linearize(values, inner):
    """diag(2, 2, 1) + t e leaves the tie as t^2 e_12 e_12^T / (2 - 1), e_12 = (1, 2): slopes 0, second slopes 10, 0."""
    e = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 2.0], [1.0, 2.0, 0.0]])
    a, slopes = np.diag([2.0, 2.0, 1.0]), lambda z: inner(values, z, e)
    np.testing.assert_allclose(along(slopes, a, e), [10, 0, -10], atol=1e-13)
    with pytest.raises(ds.DegenerateError, match="jvp"):  # which the message names instead
        ds.linearize(slopes, a)[1](e)[:2]
    simple = a + np.diag([1.0, 0.0, 0.0])
    np.testing.assert_allclose(ds.linearize(slopes, simple)[1](e), along(slopes, simple, e), atol=1e-13)
