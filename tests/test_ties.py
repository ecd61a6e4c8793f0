"""Repeated and zero singular values: the meaning promised there, told or exact, never NaN and never silently wrong."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import cases
import numpy as np
import pytest

import dualsvd as ds
from dualsvd.linalg.ties import Unresolved

REAL = {
    "identity": np.eye(3),
    "a rotation": cases.pythagorean(4) / 65,
    "Hadamard": cases.hadamard(4),
    "a permutation": cases.permutation(3),
    "pairs 2 2 1 1": cases.exact(4, 4, [2, 2, 1, 1]) / 70,
    "tall 1 1 1": cases.exact(5, 3, [1, 1, 1]),
    "wide 2 1 1": cases.exact(3, 4, [2, 1, 1]),
}
COMPLEX = {"complex 2 2 1": cases.exact(3, 3, [2, 2, 1], complex=True)}
DEFICIENT = {
    "zero": np.zeros((3, 2)),
    "ones": np.ones((3, 3)),
    "one zero": cases.exact(3, 3, [2, 1, 0]),
    "two zeros, tall": cases.exact(5, 3, [2, 0, 0]),
    "tied and zero": cases.exact(4, 4, [2, 2, 0, 0]),
    "wide": cases.exact(2, 4, [1, 0]),
}
TIED = {**REAL, **COMPLEX}
ALL = {**TIED, **DEFICIENT}


def named(table: dict[str, np.ndarray]) -> Any:
    return pytest.mark.parametrize("a", [pytest.param(a, id=name) for name, a in table.items()])


def direction(a: np.ndarray, seed: int = 0) -> np.ndarray:
    return cases.direction(a.shape, seed, a.dtype.name)


def inner(x: Any, y: Any) -> float:
    return float(np.real(np.vdot(x, y)))


def adjoint(x: Any) -> Any:
    return np.conj(x.T)


# ---------------------------------------------------------------------------------------------------------------------
# Forward mode: one-sided directional derivatives


@pytest.mark.parametrize("tangents", ["closed-form", "sweeps"])
def test_the_singular_values_of_the_identity_split_along_a_swap(tangents):
    """Elsewhere this comes out as (0, 0)."""
    swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    with ds.options(tangents=tangents):
        for f in (ds.svdvals, lambda x: np.linalg.svd(x).S):
            np.testing.assert_allclose(ds.jvp(f, (np.eye(2),), (swap,))[1], [1, -1], rtol=1e-15)


@named(ALL)
@pytest.mark.parametrize("tangents", ["closed-form", "sweeps"])
def test_directional_derivatives_are_ordered_and_one_sided(a, tangents):
    """Within a tie the slopes descend; backwards they are minus the same in reverse order; at zero they are moduli."""
    d = direction(a)
    S = ds.svdvals(a)
    with ds.options(tangents=tangents):
        there, back = (ds.jvp(ds.svdvals, (a,), (x,))[1] for x in (d, -d))
    noise = 1e-13 * np.linalg.norm(d)
    cuts = [0, *(np.flatnonzero(S[:-1] - S[1:] > 1e-10) + 1), len(S)]
    for i, j in itertools.pairwise(cuts):
        assert (np.diff(there[i:j]) <= noise).all()
        expected = there[i:j] if S[i] < 1e-10 else -there[i:j][::-1]
        np.testing.assert_allclose(back[i:j], expected, rtol=0, atol=noise)
        assert S[i] > 1e-10 or (there[i:j] >= -noise).all()


@named(TIED)
@pytest.mark.parametrize("tangents", ["closed-form", "sweeps"])
def test_composites_of_the_svd_are_exact_along_one_direction(a, tangents):
    """The vectors follow the direction; so any function that does not depend on their choice comes out right."""
    d = direction(a)
    r = ds.svd(a)
    np.testing.assert_allclose((r.U * r.S) @ r.Vh, a, atol=1e-13 * np.linalg.norm(a))
    composites = [
        (lambda r: r.U @ r.Vh, lambda x: ds.polar(x)[0]),
        (lambda r: (r.U / r.S) @ r.Vh, lambda x: np.conj(ds.pinv(x)).T),
        (lambda r: (r.U * r.S**2) @ r.Vh, lambda x: ds.spectral_function(x, np.square, lambda s: 2 * s)),
        (lambda r: (r.U * r.S) @ r.Vh, lambda x: x),
    ]
    with ds.options(tangents=tangents):
        for of_factors, fused in composites:
            actual = ds.jvp(lambda x, f=of_factors: f(ds.svd(x)), (a,), (d,))[1]
            expected = ds.jvp(fused, (a,), (d,))[1]
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@named(ALL)
def test_full_factors_follow_the_direction_too(a):
    """U Sigma Vh stays A with its tangent, U and Vh stay unitary, for full factors at every tie and zero."""
    d = direction(a)
    (m, n), r = a.shape, min(a.shape)

    def rebuild(x: Any) -> Any:
        U, S, Vh = ds.svd(x, True)
        return (U[:, :r] * S) @ Vh[:r, :], U @ adjoint_of(U), adjoint_of(Vh) @ Vh

    def adjoint_of(x: Any) -> Any:
        return np.conj(np.swapaxes(x, -1, -2))

    y, dy = ds.jvp(rebuild, (a,), (d,))
    scale = 1e-13 * (1 + np.linalg.norm(d))
    for actual, expected in zip((*y, *dy), (a, np.eye(m), np.eye(n), d, np.zeros((m, m)), np.zeros((n, n)))):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=scale * (1 + np.linalg.norm(a)))


@named(ALL)
def test_one_direction_at_a_time_and_scaled_it_is_the_same(a):
    """Positive homogeneity in D; and the decision what is tied is relative to D, not to a fixed level."""
    d = direction(a)
    slope = ds.jvp(ds.svdvals, (a,), (d,))[1]
    for scale in (1e-150, 1e-9, 1e12, 1e150):
        scaled = ds.jvp(ds.svdvals, (a,), (scale * d,))[1] / scale
        np.testing.assert_allclose(scaled, slope, rtol=0, atol=1e-13 * np.linalg.norm(d))


@pytest.mark.parametrize(
    "slopes",
    [
        pytest.param(lambda a, d: ds.jvp(ds.svdvals, (a,), (d,))[1], id="svdvals"),
        pytest.param(lambda a, d: ds.jvp(lambda x: ds.svd(x).S, (a,), (d,))[1], id="svd"),
        pytest.param(lambda a, d: ds.jvp(ds.opnorm, (a,), (d,))[1], id="opnorm"),
        pytest.param(lambda a, d: ds.jvp(ds.nuclear_norm, (a,), (d,))[1], id="nuclear_norm"),
        pytest.param(lambda a, d: ds.jvp(ds.linalg.eigvalsh, (a,), (d,))[1], id="eigvalsh"),
        pytest.param(lambda a, d: ds.jvp(lambda x: ds.linalg.eigh(x).eigenvalues, (a,), (d,))[1], id="eigh"),
        pytest.param(lambda a, d: ds.linearize(ds.svdvals, a)[1](d), id="linearize"),
        pytest.param(lambda a, d: ds.svd_pushforward(*ds.svd(a), d)[1], id="svd_pushforward"),
        pytest.param(ds.linalg.svdvals_second, id="svdvals_second"),
    ],
)
def test_a_direction_that_is_not_finite_spoils_no_other_matrix(slopes):
    """As at simple values, NaN stays with its matrix."""
    matrices = [np.eye(3), np.zeros((3, 3)), np.diag([3.0, 2.0, 1.0]), np.diag([2.0, 2.0, 0.0])]
    stack, d = np.repeat(np.stack(matrices), 2, axis=0), cases.normal(8, 3, 3)
    expected = slopes(stack, d)
    d[::2, 0, 1] = np.nan
    actual = slopes(stack, d)
    assert np.isnan(actual[::2]).all()
    np.testing.assert_array_equal(actual[1::2], expected[1::2])
    for a in matrices:
        assert np.isnan(slopes(a, np.full((3, 3), np.nan))).all()


# ---------------------------------------------------------------------------------------------------------------------
# Several directions: lexicographic


@pytest.mark.parametrize("tangents", ["closed-form", "sweeps"])
def test_directions_refine_what_those_before_leave_tied(tangents):
    """diag(1, 0, 0) splits off one value of the identity; the swap of the others then splits those."""
    first = np.diag([1.0, 0.0, 0.0])
    second = np.array([[0.0, 0, 0], [0, 0, 1], [0, 1, 0]])
    with ds.options(tangents=tangents):
        S = ds.svdvals(ds.DualArray(np.eye(3), np.stack([first, second])))
    np.testing.assert_allclose(S.partials, [[1, 0, 0], [0, 1, -1]], atol=1e-15)


def test_a_level_that_second_order_splits_is_split_by_the_next_direction_instead():
    """Along K, skew, nothing splits at first order: the second direction must not be polluted by K's second order."""
    skew = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 0]])
    second = np.array([[0.0, 0, 1], [0, 0, 0], [1, 0, 0]])
    S = ds.svdvals(ds.DualArray(np.eye(3), np.stack([skew, second])))
    np.testing.assert_allclose(S.partials, [[0, 0, 0], [1, 0, -1]], atol=1e-15)


@named(ALL)
def test_lexicographic_rows_are_products_with_a_subgradient(a):
    """Along a full basis: row q is <G, D_q>, with G in the subdifferential of the nuclear norm (spectral norm <= 1)."""
    if np.iscomplexobj(a):
        basis = np.concatenate([f * np.eye(a.size).reshape(-1, *a.shape) for f in (1, 1j)])
    else:
        basis = np.eye(a.size).reshape(-1, *a.shape)
    rng = np.random.default_rng(1)
    turned = np.tensordot(np.linalg.qr(rng.standard_normal((len(basis),) * 2))[0], basis, 1)
    rows = ds.svdvals(ds.DualArray(a.astype(basis.dtype), turned)).partials
    gradients = np.tensordot(rows.T, turned, 1)  # one for each singular value
    for G in gradients:
        np.testing.assert_allclose(np.linalg.svd(G, compute_uv=False)[:2], [1, 0][: min(a.shape)], atol=1e-11)
    assert np.linalg.norm(gradients.sum(axis=0), 2) <= 1 + 1e-11
    for q in range(len(turned)):
        np.testing.assert_allclose(rows[q], [inner(G, turned[q]) for G in gradients], atol=1e-11)


@named(TIED)
def test_vectors_along_several_directions_raise_when_used_and_only_then(a):
    directions = np.stack([direction(a, 1), direction(a, 2)])
    r = ds.svd(ds.DualArray(a, directions))
    assert isinstance(r.U.partials, Unresolved) and r.U.partials.ndim == 3 and "unresolved" in repr(r.U.partials)
    assert np.isfinite(r.S.partials).all()
    with pytest.raises(ds.DegenerateError, match="chunk=1"):
        r.U @ r.Vh
    with pytest.raises(ds.DegenerateError, match="polar"):
        np.sum(r.Vh)


@pytest.mark.parametrize("f", [lambda x: ds.svd(x).U, lambda x: ds.linalg.eigh(x).eigenvectors], ids=["svd", "eigh"])
def test_vectors_that_were_given_do_not_turn_for_one_direction_either(f):
    """The factors of `linearize` are there before the direction is: what remains is to take both at once."""
    a, d = np.eye(2), np.array([[0.0, 1.0], [1.0, 0.0]])
    with pytest.raises(ds.DegenerateError, match=r"given in a basis.*jvp.*(svdvals|eigvalsh) for the values"):
        ds.linearize(f, a)[1](d)
    assert np.isfinite(ds.jvp(f, (a,), (d,))[1]).all()


def put_together(a: Any) -> Any:
    """The identity, by way of the factors."""
    U, S, Vh = ds.svd(a)
    return (U * S) @ Vh


def put_together_hermitian(a: Any) -> Any:
    w, Q = ds.linalg.eigh(a)
    return (Q * w) @ np.swapaxes(Q, -1, -2)


@pytest.mark.parametrize(
    ("f", "a", "d"),
    [
        pytest.param(put_together, np.diag([2.0, 1.0, 0.0]), np.eye(3), id="a zero"),
        pytest.param(put_together, np.eye(2), np.diag([1.0, -1.0]), id="a tie"),
        pytest.param(put_together_hermitian, np.eye(2), np.diag([1.0, -1.0]), id="eigenvalues"),
    ],
)
def test_vectors_that_were_given_follow_one_direction_or_its_opposite(f, a, d):
    """Backwards the values take another order, or a zero another sign: the vectors that were given do not."""
    push = ds.linearize(f, a)[1]
    refused = 0
    for direction in (d, -d):
        try:
            np.testing.assert_allclose(push(direction), direction, atol=1e-14)
        except ds.DegenerateError as error:
            refused += "given in a basis" in str(error)
        np.testing.assert_allclose(ds.jvp(f, (a,), (direction,))[1], direction, atol=1e-14)
    assert refused == 1


def test_vectors_beside_a_zero_that_changes_its_sign_are_exact():
    a, d = np.diag([2.0, 1.0, 0.0]), -direction(np.eye(3))
    low = lambda x: (lambda U, S, Vh: U[:, :2] * S[:2] @ Vh[:2])(*ds.svd(x))  # noqa: E731
    expected = ds.jvp(lambda x: ds.low_rank(x, 2), (a,), (d,))[1]
    for sign in (1, -1):
        np.testing.assert_allclose(ds.linearize(low, a)[1](sign * d), sign * expected, atol=1e-14)


@pytest.mark.parametrize(
    ("f", "a"),
    [
        pytest.param(put_together, np.eye(2), id="svd at a tie"),
        pytest.param(put_together, np.zeros((3, 2)), id="svd at zero"),
        pytest.param(put_together, np.diag([1.0, 0.0, 0.0])[:, :2], id="svd at one zero, tall"),
        pytest.param(put_together_hermitian, np.eye(2), id="eigh"),
    ],
)
def test_the_basis_that_follows_a_direction_has_no_derivative_by_it(f, a):
    """v -> f'(a) v is the identity, but its vectors turn with v."""
    v, w = (cases.direction(a.shape, seed) for seed in (1, 2))
    v, w = (v + v.T, w + w.T) if f is put_together_hermitian else (v, w)
    slope = lambda v: ds.jvp(f, (a,), (v,))[1]  # noqa: E731
    with pytest.raises(ds.DegenerateError, match=r"moves the direction.*(svdvals|eigvalsh)"):
        ds.jvp(slope, (v,), (w,))
    with pytest.raises(ds.DegenerateError, match="moves the direction"):
        ds.jacobian(slope, v, mode="reverse")
    np.testing.assert_allclose(ds.jvp(slope, (v,), (2 * v,))[1], 2 * v, atol=1e-14)  # turns nothing


@pytest.mark.parametrize("along_what", ["nothing yet", "a direction"])
@named({"identity": np.eye(3), "zero": np.zeros((3, 2)), "tied and zero": DEFICIENT["tied and zero"]})
def test_slopes_of_values_have_a_derivative_by_the_direction(a, along_what):
    """They are homogeneous: from no direction at all they leave as the slopes along the second one."""
    v, w = direction(a, 1), direction(a, 2)
    slopes = lambda v: ds.jvp(ds.svdvals, (a,), (v,))[1]  # noqa: E731
    if along_what == "nothing yet":
        np.testing.assert_allclose(ds.jvp(slopes, (0 * a,), (w,))[1], slopes(w), atol=1e-13)
    else:
        differences = (slopes(v + 1e-6 * w) - slopes(v - 1e-6 * w)) / 2e-6
        np.testing.assert_allclose(ds.jvp(slopes, (v,), (w,))[1], differences, atol=1e-7)


def test_one_direction_a_time_serves_smooth_composites_of_vectors():
    a = REAL["pairs 2 2 1 1"]
    by_vectors = ds.jacobian(lambda x: ds.svd(x).U @ ds.svd(x).Vh, a, mode="forward", chunk=1)
    np.testing.assert_allclose(by_vectors, ds.jacobian(lambda x: ds.polar(x)[0], a), atol=1e-13)


# ---------------------------------------------------------------------------------------------------------------------
# Reverse mode: subgradients of least norm, and what cannot be answered


@named(ALL)
@pytest.mark.parametrize("f", [ds.opnorm, ds.nuclear_norm], ids=["opnorm", "nuclear_norm"])
def test_subgradients_support_the_directional_derivative(a, f):
    """<G, D> <= f'(A; D) for every D, and no other of the hull is smaller: G does not see the basis of the tie."""
    G = ds.gradient(f, a)
    for seed in range(8):
        d = direction(a, seed)
        slope = ds.jvp(f, (a,), (d,))[1]
        assert inner(G, d) <= slope + 1e-13 * np.linalg.norm(d)
    assert f is not ds.opnorm or np.linalg.norm(G, "nuc") <= 1 + 1e-13
    assert np.linalg.norm(G, 2) <= 1 + 1e-13


def test_subgradients_of_least_norm():
    np.testing.assert_allclose(ds.gradient(ds.opnorm, np.eye(3)), np.eye(3) / 3, atol=1e-15)
    np.testing.assert_allclose(ds.gradient(ds.opnorm, np.diag([2.0, 2.0, 1.0])), np.diag([0.5, 0.5, 0]), atol=1e-15)
    np.testing.assert_allclose(ds.gradient(ds.nuclear_norm, np.diag([2.0, 2.0, 0.0])), np.diag([1.0, 1, 0]), atol=1e-15)
    for f in (
        ds.opnorm,
        ds.nuclear_norm,
        lambda x: ds.norm(x, -2),
        np.linalg.norm,
        lambda x: ds.norm(x, ("schatten", 3)),
    ):
        assert not ds.gradient(f, np.zeros((3, 2))).any()


@named(TIED)
def test_subgradients_turn_with_the_matrix(a):
    """f(P A Q) = f(A) for unitary P, Q: so G(P A Q) = P G(A) Q, also where LAPACK chooses other bases."""
    P, Q = (cases.orthogonal(n, seed=3, dtype=a.dtype.name) for n in a.shape)
    for f in (ds.opnorm, ds.nuclear_norm, lambda x: ds.svdvals(x)[1]):
        np.testing.assert_allclose(ds.gradient(f, P @ a @ Q), P @ ds.gradient(f, a) @ Q, atol=1e-13)


@named(ALL)
def test_reverse_mode_of_singular_values_averages_over_ties(a):
    """A generalised gradient of least norm: equal cotangents of a tie are exact, others averaged, null ones dropped."""
    S = ds.svdvals(a)
    weights = np.arange(1.0, len(S) + 1)
    (G,) = ds.vjp(ds.svdvals, a)[1](weights)
    group = np.cumsum(np.concatenate([[0], S[:-1] - S[1:] > 1e-10]))
    averaged = np.array([weights[group == g].mean() for g in group]) * (S > 1e-10)
    U, _, Vh = np.linalg.svd(a, full_matrices=False)
    np.testing.assert_allclose(G, (U * averaged) @ Vh, atol=1e-13)


@pytest.mark.parametrize("values", [ds.svdvals, ds.linalg.eigvalsh], ids=["svdvals", "eigvalsh"])
@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("weights", [[1.0, 2.0], [1.0, 1.0], [0.0, 0.0]], ids=str)
def test_averages_over_a_tie_have_derivatives_by_the_cotangent(values, mode, weights):
    """The gradient of sum w_i s_i at the identity is (w_1 + w_2) I / 2, at equal weights too."""
    gradient = lambda w: ds.gradient(lambda x: np.sum(w * values(x)), np.eye(2))  # noqa: E731
    J = ds.jacobian(gradient, np.array(weights), mode=mode)
    np.testing.assert_allclose(J, np.eye(2)[..., None] * [0.5, 0.5], atol=1e-15)
    at_zero = lambda w: ds.gradient(lambda x: np.sum(w * ds.svdvals(x)), np.zeros((2, 2)))  # noqa: E731
    assert not ds.jacobian(at_zero, np.array(weights), mode=mode).any()


@pytest.mark.parametrize(
    ("f", "error", "says"),
    [
        pytest.param(lambda r, W: np.sum(W * r.U), ds.GaugeError, "basis of the singular vectors", id="U alone"),
        pytest.param(lambda r, W: np.sum(W * np.abs(r.Vh)), ds.GaugeError, "basis", id="moduli of Vh"),
        pytest.param(lambda r, W: r.S[0], ds.DegenerateError, "opnorm", id="one value of a tie"),
        pytest.param(lambda r, W: np.sum(W * (r.U @ r.Vh)), ds.DegenerateError, "polar", id="the polar factor"),
        pytest.param(lambda r, W: np.sum(W * ((r.U / r.S) @ r.Vh)), ds.DegenerateError, "pinv", id="the inverse"),
        pytest.param(lambda r, W: np.sum(W * ((r.U * r.S**2) @ r.Vh)), ds.DegenerateError, "spectral", id="U S^2 V^H"),
    ],
)
def test_the_pullback_of_svd_refuses_what_a_tie_leaves_open(f, error, says):
    """The inverse is where dropping 0/0 gives a wrong answer of order one without a sign of it."""
    a = cases.exact(3, 3, [2, 2, 1]) / 9
    W = direction(a)
    with pytest.raises(error, match=says) as caught:
        ds.gradient(lambda x: f(ds.svd(x), W), a, mode="reverse")
    assert "sigma_1 ... sigma_2 = 18" in str(caught.value) or "sigma_1 and sigma_2" in str(caught.value)
    assert "gap" in str(caught.value)


def test_what_the_pullback_of_svd_can_answer_at_a_tie():
    """Equal cotangents of the values, vectors outside the tie, and, if vouched for, functions of the subspaces."""
    a = cases.exact(4, 4, [2, 2, 1, 0]) / 70
    W = direction(a)
    y = ds.svd(a)
    np.testing.assert_allclose(
        ds.svd_pullback(*y, None, np.array([1.0, 1, 0, 0]), None), y.U[:, :2] @ y.Vh[:2], atol=1e-14
    )

    def third(x: Any) -> Any:
        r = ds.svd(x)
        return np.sum(W * (r.U[:, 2:3] @ r.Vh[2:3, :]))

    d = direction(a, 3)
    np.testing.assert_allclose(
        inner(ds.gradient(third, a, mode="reverse"), d), ds.jvp(third, (a,), (d,))[1], atol=1e-13
    )

    def projector(x: Any) -> Any:
        U = ds.svd(x).U[:, :2]
        return np.sum(W * (U @ U.T))

    expected = ds.gradient(lambda x: np.sum(W * ds.range_projector(x, 2)), a)
    with ds.options(ties="subspace"):
        np.testing.assert_allclose(ds.gradient(projector, a, mode="reverse"), expected, atol=1e-13)
    with ds.options(ties="warn"), pytest.warns(ds.DegeneracyWarning, match="range_projector"):
        np.testing.assert_allclose(ds.gradient(projector, a, mode="reverse"), expected, atol=1e-13)


def test_complex_phases_and_free_columns_are_gauges_too(rng):
    a = rng.standard_normal((4, 2)) + 1j * rng.standard_normal((4, 2))
    W = rng.standard_normal((4, 4))
    with pytest.raises(ds.GaugeError, match="phase of the pair of singular vectors 1"):
        ds.gradient(lambda x: np.sum(np.real(W[:, :2] * ds.svd(x).U)), a, mode="reverse")
    with pytest.raises(ds.GaugeError, match="free columns of U"):
        ds.gradient(lambda x: np.sum(W * ds.svd(x, True).U), a.real, mode="reverse")
    with pytest.raises(ds.GaugeError, match="phase of eigenvector 1"):
        ds.gradient(lambda x: np.sum(np.real(W * np.linalg.eigh(x)[1])), a @ adjoint(a), mode="reverse")


@pytest.mark.parametrize(
    "f", [ds.svdvals, ds.opnorm, ds.nuclear_norm, lambda x: ds.svd(x).S], ids=["S", "opnorm", "nuc", "svd"]
)
def test_ties_can_be_made_to_raise_or_to_warn(f):
    a, d = np.zeros((3, 3)), np.eye(3)
    with ds.options(ties="raise"), pytest.raises(ds.DegenerateError, match="sigma_1"):
        ds.jvp(f, (a,), (d,))
    with ds.options(ties="warn"), pytest.warns(ds.DegeneracyWarning, match="one-sided"):
        slope = ds.jvp(f, (a,), (d,))[1]
    np.testing.assert_allclose(slope, ds.jvp(f, (a,), (d,))[1])
    with ds.options(ties="raise"):
        assert np.isfinite(ds.jvp(f, (np.diag([3.0, 2, 1]),), (d,))[1]).all()


def test_a_near_tie_is_none():
    """A gap of 1e-12 is far above the noise: no error, and the derivative of a simple value."""
    a = np.diag([1.0 + 1e-12, 1.0])
    G = ds.gradient(lambda x: ds.svd(x).S[0], a, mode="reverse")
    np.testing.assert_allclose(G, np.diag([1.0, 0.0]), atol=1e-12)


@pytest.mark.parametrize(
    ("f", "where"),
    [
        pytest.param(lambda x: ds.low_rank(x, 1), "sigma_1 = 2 and sigma_2 = 2", id="low_rank"),
        pytest.param(lambda x: ds.range_projector(x, 1), "sigma_1 = 2 and sigma_2 = 2", id="range_projector"),
        pytest.param(lambda x: ds.spectral_function(x, np.exp, np.exp), r"f\(0\) = 1", id="spectral_function"),
        pytest.param(ds.cond, "singular", id="cond"),
        pytest.param(lambda x: ds.cond(x, "fro"), "singular", id="cond in the Frobenius norm"),
        pytest.param(lambda x: ds.cond(x, 1), "singular", id="cond in the 1-norm"),
    ],
)
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_fused_functions_say_where_they_are_not_smooth(f, where, mode):
    a = np.diag([2.0, 2.0, 0.0])
    with pytest.raises(ds.DegenerateError, match=where):
        ds.gradient(lambda x: np.sum(f(x)), a, mode=mode)


@pytest.mark.parametrize(
    ("f", "mode"),
    [
        pytest.param(ds.svdvals, "forward", id="values"),
        pytest.param(lambda x: ds.svd(x).U, "reverse", id="vectors"),
        pytest.param(ds.linalg.eigvalsh, "forward", id="eigenvalues"),
        pytest.param(lambda x: ds.linalg.eigh(x).eigenvectors, "reverse", id="eigenvectors"),
        pytest.param(lambda x: ds.low_rank(x, 1), "reverse", id="a cut"),
        pytest.param(lambda x: ds.spectral_function(x, np.exp, np.exp), "reverse", id="f(0) = 1"),
    ],
)
@pytest.mark.parametrize(
    ("batch", "name"), [((), ""), ((2,), " of matrix 1"), ((2, 2), " of matrix (1, 1)")], ids=["one", "2", "2x2"]
)
def test_messages_name_the_matrix_of_a_stack(f, mode, batch, name, rng):
    a = rng.standard_normal((*batch, 3, 3))
    a[(-1,) * len(batch)] = np.diag([2.0, 2.0, 0.0])
    with ds.options(ties="raise"), pytest.raises((ds.DegenerateError, ds.GaugeError)) as caught:
        ds.gradient(lambda x: np.sum(np.cos(f(x))), a, mode=mode)
    assert name in str(caught.value) and ("matrix" in str(caught.value)) == bool(name)


# ---------------------------------------------------------------------------------------------------------------------
# Fused primitives at ties: identities


@named(TIED)
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_jacobians_of_fused_functions_are_one_in_both_modes_and_finite(a, mode):
    if np.iscomplexobj(a):
        a = a.real  # a Jacobian needs real input; complex matrices are covered along directions
    tau = 0.7 * np.linalg.norm(a, 2)
    for f in (
        lambda x: ds.polar(x)[0],
        lambda x: ds.polar(x)[1],
        ds.pinv,
        lambda x: ds.singular_value_threshold(x, tau),
        lambda x: ds.spectral_function(x, np.tanh, lambda s: 1 / np.cosh(s) ** 2),
    ):
        J = ds.jacobian(f, a, mode=mode)
        other = ds.jacobian(f, a, mode="reverse" if mode == "forward" else "forward", chunk=None)
        np.testing.assert_allclose(J, other, atol=1e-13 * max(1, np.abs(other).max()))


@named(TIED)
def test_derivative_of_the_polar_factor_of_a_multiple_of_an_isometry_is_the_skew_part(a):
    """A = c W, W^H W = I: d polar = (D - W D^H W) / (2 c) within the range of W, plus (I - W W^H) D / c."""
    W = ds.polar(a)[0]
    if a.shape[0] < a.shape[1]:
        a, W = adjoint(a), adjoint(W)
    c = 3.0
    d = direction(a)
    expected = (W @ adjoint(W) @ d - W @ adjoint(d) @ W) / (2 * c) + (d - W @ adjoint(W) @ d) / c
    np.testing.assert_allclose(ds.jvp(lambda x: ds.polar(x)[0], (c * W,), (d,))[1], expected, atol=1e-14)


@named(DEFICIENT)
def test_what_zeros_leave_open_of_the_polar_factor_counts_as_zero(a):
    """Also where they are zero to working accuracy only."""
    Q, P = (np.linalg.qr(cases.direction((n, n), seed=n))[0] for n in a.shape)
    d, least = direction(a), np.min(np.linalg.svd(a)[1], initial=np.inf, where=np.linalg.svd(a)[1] > 1e-10)
    polar = lambda x: ds.polar(x)[0]  # noqa: E731
    for x in (a, Q @ a @ P):
        tangent = ds.jvp(polar, (x,), (d,))[1]
        assert np.linalg.norm(tangent) <= 2 * np.linalg.norm(d) / least
        assert inner(ds.vjp(polar, x)[1](d)[0], d) == pytest.approx(inner(tangent, d), abs=1e-12)


@named({name: a for name, a in DEFICIENT.items() if name != "one zero"})  # which is smooth with its sign
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_the_positive_factor_does_not_depend_on_the_choice_of_null_vectors(a, dtype):
    """H^2 = A^H A gives all of its derivative but what is between null vectors, which counts as 0."""
    a = a.astype(dtype)
    d, (m, n) = cases.direction(a.shape, 0, dtype), a.shape
    positive = lambda x: ds.polar(x)[1]  # noqa: E731
    P, Q = (cases.orthogonal(k, seed=3, dtype=dtype) for k in (m, n))
    H, dH = ds.jvp(positive, (a,), (d,))
    np.testing.assert_allclose(ds.jvp(positive, (P @ a @ Q,), (P @ d @ Q,))[1], adjoint(Q) @ dH @ Q, atol=1e-12)
    squares, V = np.linalg.eigh(adjoint(a) @ a)
    null = V[:, squares < 1e-10 * max(squares.max(), 1)]
    square = adjoint(d) @ a + adjoint(a) @ d
    scale = 1e-12 * np.linalg.norm(d) * max(1, np.linalg.norm(a))
    np.testing.assert_allclose(dH @ H + H @ dH, square, rtol=0, atol=scale)
    np.testing.assert_allclose(adjoint(null) @ dH @ null, 0, rtol=0, atol=scale)
    np.testing.assert_allclose(inner(ds.vjp(positive, a)[1](dH)[0], d), inner(dH, dH), rtol=1e-12)


@named({**TIED, "one zero": DEFICIENT["one zero"], "tied and zero": DEFICIENT["tied and zero"]})
def test_defining_equations_hold_to_first_order(a):
    """Derivatives of A pinv(A) A = A (along directions that keep the rank), W^H W = I, A = W P, svt + clip = A."""
    U, S, _ = ds.svd(a)
    rank = int(np.sum(S > 1e-10))
    X, Y = (cases.direction((n, n), seed=n, dtype=a.dtype.name) for n in a.shape)
    d = X @ a + a @ Y  # keeps the rank
    scale = 1e-12 * np.linalg.norm(d)
    dy = ds.jvp(lambda x: x @ ds.pinv(x) @ x, (a,), (d,))[1]
    np.testing.assert_allclose(dy, d, rtol=0, atol=scale)
    P, dP = ds.jvp(lambda x: x @ ds.pinv(x), (a,), (d,))
    np.testing.assert_allclose(P, U[:, :rank] @ adjoint(U[:, :rank]), atol=1e-13)
    np.testing.assert_allclose(P @ dP + dP @ P, dP, rtol=0, atol=scale)
    np.testing.assert_allclose(ds.jvp(lambda x: ds.range_projector(x, rank), (a,), (d,))[1], dP, rtol=0, atol=scale)
    np.testing.assert_allclose(ds.jvp(lambda x: ds.low_rank(x, rank), (a,), (d,))[1], d, rtol=0, atol=scale)
    if rank == min(a.shape):
        rebuilt = ds.jvp(lambda x: ds.polar(x)[0] @ ds.polar(x)[1], (a,), (d,))[1]
        np.testing.assert_allclose(rebuilt, d, rtol=0, atol=scale)


@pytest.mark.parametrize("gap", [0.0, 1e-15, 1e-12, 1e-8, 1e-4, 1e-2, 1.0])
def test_no_digit_is_lost_at_any_gap(gap):
    """pinv(A) = A^-1, whose derivative -A^-1 D A^-1 knows nothing of singular values."""
    a = np.diag([1.0 + gap, 1.0, 0.5])
    d = direction(a)
    inverse = np.diag(1 / np.diag(a))
    np.testing.assert_allclose(ds.jvp(ds.pinv, (a,), (d,))[1], -inverse @ d @ inverse, rtol=0, atol=1e-14)
    gradient = ds.gradient(lambda x: np.sum(d.T * ds.pinv(x)), a)
    np.testing.assert_allclose(gradient, -(inverse @ d @ inverse).T, rtol=0, atol=1e-14)
    squared = ds.jvp(lambda x: ds.spectral_function(x, lambda s: s**3, lambda s: 3 * s**2), (a,), (d,))[1]
    np.testing.assert_allclose(squared, d @ a.T @ a + a @ d.T @ a + a @ a.T @ d, rtol=0, atol=1e-13)


# ---------------------------------------------------------------------------------------------------------------------
# Hermitian matrices


def test_eigenvalues_split_along_the_direction():
    swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(ds.jvp(ds.eigvalsh, (np.eye(2),), (swap,))[1], [-1, 1], rtol=1e-15)
    w, Q = ds.linalg.eigh(ds.DualArray(np.eye(2), swap[None]))
    np.testing.assert_allclose(((Q * w) @ np.swapaxes(Q, 0, 1)).partials[0], swap, atol=1e-15)
    rows = ds.eigvalsh(ds.DualArray(np.eye(3), np.stack([np.diag([1.0, 0, 0]), np.eye(3)[[0, 2, 1]]]))).partials
    np.testing.assert_allclose(rows, [[0, 0, 1], [-1, 1, 1]], atol=1e-15)


def test_reverse_mode_of_eigenvectors_refuses_at_ties_what_it_cannot_know():
    a, W = np.diag([2.0, 1.0, 1.0]), direction(np.eye(3))
    with pytest.raises(ds.GaugeError, match="basis of the eigenvectors"):
        ds.gradient(lambda x: np.sum(W * np.linalg.eigh(x)[1]), a, mode="reverse")
    with pytest.raises(ds.DegenerateError, match="eigvalsh"):
        ds.gradient(lambda x: np.linalg.eigh(x)[0][0], a, mode="reverse")

    def lower_projector(x: Any) -> Any:
        q = np.linalg.eigh(x)[1][:, :2]
        return np.sum(W * (q @ q.T))

    with pytest.raises(ds.DegenerateError, match="subspace"):
        ds.gradient(lower_projector, a, mode="reverse")
    with ds.options(ties="subspace"):
        G = ds.gradient(lower_projector, a, mode="reverse")
    np.testing.assert_allclose(inner(G, W), ds.jvp(lower_projector, (a,), (W,))[1], atol=1e-14)
    np.testing.assert_allclose(ds.gradient(lambda x: np.linalg.eigvalsh(x)[0], a), np.diag([0, 0.5, 0.5]), atol=1e-15)

    def top(x: Any) -> Any:
        q = np.linalg.eigh(x)[1][:, 2]
        return q @ W @ q

    d = direction(a, 5)
    np.testing.assert_allclose(inner(ds.gradient(top, a, mode="reverse"), d), ds.jvp(top, (a,), (d,))[1], atol=1e-14)


# ---------------------------------------------------------------------------------------------------------------------
# Stacks


def test_a_stack_of_healthy_tied_and_zero_matrices_is_one_by_one(rng):
    stack = np.stack([rng.standard_normal((3, 3)), np.eye(3), np.zeros((3, 3)), np.diag([2.0, 1, 0]), np.ones((3, 3))])
    d = rng.standard_normal((2, *stack.shape))
    for f in (ds.svdvals, ds.opnorm, ds.nuclear_norm, lambda x: ds.svd(x).S, lambda x: ds.linalg.norm(x, -2)):
        together = f(ds.DualArray(stack, d))
        for i, a in enumerate(stack):
            alone = f(ds.DualArray(a, d[:, i]))
            np.testing.assert_allclose(together.partials[:, i], alone.partials, atol=1e-13)
    for f in (ds.opnorm, ds.nuclear_norm, lambda x: np.sum(ds.svdvals(x), -1)):
        gradients = ds.gradient(lambda x, f=f: np.sum(f(x)), stack)
        for G, a in zip(gradients, stack):
            np.testing.assert_allclose(G, ds.gradient(f, a), atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_single_precision_ties_are_ties_of_single_precision(dtype):
    a = (cases.orthogonal(3, dtype=dtype) * np.float32(1.5)).astype(dtype)
    S, dS = ds.jvp(ds.svdvals, (a,), (a,))
    assert dS.dtype == np.float32
    np.testing.assert_allclose(dS, S, atol=1e-5)
    G = ds.gradient(ds.opnorm, a)
    assert G.dtype == a.dtype
    np.testing.assert_allclose(G, ds.polar(a)[0] / 3, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 6), (8, 6), (6, 8)], ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize("small", [1e-3, 1e-5, 1e-7])
def test_null_vectors_that_barely_leave_zero_stay_orthogonal(shape, small, rng):
    """tau = `small` along D: its left vector is B v / tau, and with it the rounding errors of B over tau."""
    m, n = shape
    a = cases.spectrum(m, n, [2.0, 1.0])
    U, _, Vh = np.linalg.svd(a)
    k = min(m, n) - 2
    B = np.zeros((m - 2, n - 2))
    B[:k, :k] = cases.spectrum(k, k, [*np.linspace(2, 1, k - 1), small])
    D = rng.standard_normal(shape)
    D = D - U[:, 2:] @ U[:, 2:].T @ D @ Vh[2:].T @ Vh[2:] + U[:, 2:] @ B @ Vh[2:]

    def put_together(x):
        u, s, vh = ds.linalg.svd(x)
        return (u * s) @ vh

    np.testing.assert_allclose(ds.jvp(put_together, (a,), (D,))[1], D, atol=1e-13)
    u, _, vh = ds.linalg.svd(ds.DualArray(a, D[None]))
    np.testing.assert_allclose(u.value.T @ u.value, np.eye(len(vh.value)), atol=1e-14)


# ---------------------------------------------------------------------------------------------------------------------
# Whole Jacobians, without all directions in memory


STACK = np.stack([np.eye(3), np.zeros((3, 3)), np.arange(9.0).reshape(3, 3), np.diag([2.0, 2.0, 0.0])])


@named({**REAL, **DEFICIENT, "a stack": STACK, "float32": np.eye(3, dtype=np.float32)})
def test_the_jacobian_of_tied_values_is_lexicographic_whichever_way(a):
    whole, carried = (ds.jacobian(ds.svdvals, a, mode=mode) for mode in ("auto", "forward"))
    assert whole.dtype == a.dtype
    np.testing.assert_allclose(whole, carried, rtol=0, atol=1e2 * cases.eps(a))
    with ds.options(max_bytes=a.nbytes):
        assert np.array_equal(ds.jacobian(ds.svdvals, a, mode="forward"), whole)


@named({**REAL, **DEFICIENT})
def test_a_jacobian_in_reverse_mode_has_the_rows_of_reverse_mode(a):
    J = ds.jacobian(ds.svdvals, a, mode="reverse")
    np.testing.assert_array_equal(J, ds.jacobian(lambda x: ds.svdvals(1 * x), a, mode="reverse"))
    for row, one in zip(J, np.eye(len(J))):
        np.testing.assert_array_equal(row, ds.vjp(ds.svdvals, a)[1](one)[0])


@pytest.mark.parametrize("mode", ["auto", "forward"])
@pytest.mark.parametrize("flip", [False, True], ids=["tall", "wide"])
def test_a_zero_column_costs_no_more_memory_than_the_jacobian(mode, flip):
    a = cases.normal(120, 24)
    a[:, 5] = 0
    a = a.T if flip else a
    with ds.options(max_bytes=1 << 20):
        tracemalloc.start()
        try:
            J = ds.jacobian(ds.svdvals, a, mode=mode)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 12 * J.nbytes  # all directions would be 120 times as much
    assert J[-1].ravel()[np.argmax(np.abs(J[-1].ravel()) > 1e-14)] > 0  # it leaves zero along the first that moves it
    np.testing.assert_allclose(np.linalg.norm(J, axis=(1, 2)), 1, rtol=1e-13)


# ---------------------------------------------------------------------------------------------------------------------
# Norms of vectors at zero


ORDERS = pytest.mark.parametrize("p", [2, 3, 1.5, 4])


@ORDERS
def test_a_vector_norm_at_zero_has_its_one_sided_slope_and_the_least_subgradient(p):
    f, d = (lambda x: np.linalg.norm(x, p, axis=-1)), np.array([[3.0, -4.0, 0.0], [1.0, 1.0, 2.0]])
    x = np.array([[0.0, 0.0, 0.0], [0.0, 3.0, 4.0]])
    assert not ds.gradient(lambda x: f(x)[0], x).any()
    y, slope = ds.jvp(f, (x,), (d,))
    assert y[0] == 0 and slope[0] == pytest.approx(np.linalg.norm(d[0], p), rel=1e-14)
    whole = ds.jacobian(f, x, mode="forward")
    np.testing.assert_allclose(np.tensordot(whole, d, 2)[1], slope[1], rtol=1e-14)
    np.testing.assert_allclose(whole[1], ds.jacobian(f, x, mode="reverse")[1], rtol=1e-14)
    np.testing.assert_array_equal(whole[0], [[1, 0, 0], [0, 0, 0]])  # lexicographic: along the first direction


@ORDERS
@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_a_second_derivative_at_the_kink_of_a_norm_names_the_smooth_function(p, mode):
    f = lambda x: np.linalg.norm(x, p) ** max(p, 2)  # noqa: E731
    with pytest.raises(ds.DegenerateError, match=r"np\.sum\(x \* x\)"):
        ds.hessian(f, np.zeros(2), mode=mode)
    x = np.array([1.0, -2.0])
    if p >= 2:
        np.testing.assert_allclose(ds.hessian(f, x, mode=mode), np.diag(p * (p - 1) * np.abs(x) ** (p - 2)), atol=1e-12)


def test_a_second_derivative_passes_a_kink_that_does_not_move():
    f = lambda x: np.sum(np.linalg.norm(np.stack([x, 0 * x]), axis=1) ** 2)  # noqa: E731
    np.testing.assert_allclose(ds.hessian(f, np.array([1.0, 2.0])), 2 * np.eye(2), atol=1e-14)


def test_the_kink_of_a_complex_modulus_is_refused_at_second_order():
    z, v = np.array([0.0, 1 + 1j]), np.array([1.0, 1j])
    assert np.isfinite(ds.gradient(lambda z: np.sum(np.abs(z) ** 2), z)).all()
    with pytest.raises(ds.DegenerateError, match=r"np\.conj\(z\)"):
        ds.hvp(lambda z: np.sum(np.abs(z) ** 2), z, v)
    np.testing.assert_allclose(ds.hvp(lambda z: np.sum(np.real(np.conj(z) * z)), z, v), 2 * v)


def test_norms_of_negative_order_say_that_they_have_no_derivative():
    with pytest.raises(ds.DegenerateError, match="order -1"):
        ds.gradient(lambda x: np.linalg.norm(x, -1), np.array([1.0, 0.0]))


# ---------------------------------------------------------------------------------------------------------------------
# Projectors on spans that hold null vectors


@pytest.mark.parametrize(
    ("a", "k", "expected"),
    [
        pytest.param(np.diag([1.0, 0.0]), 2, np.eye(2), id="all of the space"),
        pytest.param(np.diag([1.0, 0.0]), 3, np.eye(2), id="more than all"),
        pytest.param(np.zeros((2, 3)), 2, np.eye(2), id="all of the space, of zero"),
        pytest.param(np.diag([1.0, 0.0]), 1, np.diag([1.0, 0.0]), id="the range"),
    ],
)
def test_a_projector_on_a_span_that_is_determined(a, k, expected):
    f = lambda x: ds.linalg.range_projector(x, k)  # noqa: E731
    P, dP = ds.jvp(f, (a,), (direction(a),))
    np.testing.assert_allclose(f(a), expected, atol=1e-15)
    np.testing.assert_allclose(P, expected, atol=1e-15)
    assert k < len(a) or not dP.any()
    assert ds.vjp(f, a)[1](P)[0].shape == a.shape


@pytest.mark.parametrize(
    ("a", "k"),
    [
        pytest.param(np.diag([1.0, 0.0, 0.0]), 2, id="one of two null vectors"),
        pytest.param(np.zeros((3, 3)), 1, id="one of all"),
        pytest.param(np.diag([1.0, 0.0, 0.0])[:, :2], 2, id="a null vector, others beside it"),
    ],
)
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_projector_on_null_vectors_has_no_derivative(a, k, mode):
    with pytest.raises(ds.DegenerateError, match=f"sigma_{k} is zero"):
        ds.jacobian(lambda x: ds.linalg.range_projector(x, k), a, mode=mode)
    assert np.linalg.matrix_rank(ds.linalg.range_projector(a, k)) == np.linalg.matrix_rank(a)  # left out


@pytest.mark.parametrize(
    ("scale", "dtype"),
    [(1e70, "d"), (1e-70, "d"), (1e300, "d"), (1e-300, "d"), (1e10, "f"), (1e-10, "f"), (1e-36, "f")],
)
@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_the_jacobian_of_tied_values_is_the_same_at_every_scale(mode, scale, dtype):
    a = np.diag([2.0, 1.0, 1.0]).astype(dtype)
    expected, actual = (ds.jacobian(ds.svdvals, x, mode=mode) for x in (a, a * a.dtype.type(scale)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("shape", [(4, 3), (3, 3), (3, 5)])
def test_smooth_functions_of_values_that_come_with_vectors_where_some_are_zero_to_rounding(shape, rng):
    """|A|^2 / 2: the cotangent of a value of 1e-16 is 1e-16, which is nothing beside that of the largest."""
    a = rng.standard_normal((shape[0], 2)) @ rng.standard_normal((2, shape[1]))
    f = lambda x: np.sum(ds.svd(x).S ** 2) / 2  # noqa: E731
    np.testing.assert_allclose(ds.gradient(f, a, mode="reverse"), a, atol=1e-13)
