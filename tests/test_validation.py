"""Validation agrees with what is right, and finds what is wrong: every comparison has a fault that only it must see."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dualsvd as ds
from dualsvd import settings
from dualsvd.rules.custom import CUSTOM
from dualsvd.rules.registry import RULES, Rule, primal
from dualsvd.validation import DisagreementError, ValidationReport, check_rules, cross_validate, first, second
from dualsvd.validation.differences import slopes
from dualsvd.validation.report import row

Array = np.ndarray


def failing(report: ValidationReport) -> set[str]:
    return {r.name for r in report.rows if not r.passed}


def names(report: ValidationReport) -> set[str]:
    return {r.name for r in report.rows}


# ---------------------------------------------------------------------------------------------------------------------
# What is right is found to agree

W = np.random.default_rng(7).standard_normal((4, 3))

SMOOTH: dict[str, Callable[[Any], Any]] = {
    "largest singular value by numpy": lambda X: np.linalg.svd(X, compute_uv=False)[0],
    "spectral norm by numpy": lambda X: np.linalg.norm(X, 2),
    "opnorm": ds.opnorm,
    "svdvals": ds.svdvals,
    "nuclear norm": ds.nuclear_norm,
    "low rank": lambda X: ds.linalg.low_rank(X, 2),
    "polar": lambda X: ds.polar(X)[0],
    "pinv": ds.pinv,
    "reconstruction": lambda X: (lambda U, S, Vh: (U * np.tanh(S)) @ Vh)(*ds.svd(X)),
    "reconstruction by numpy": lambda X: _reconstructed(X),
    "reconstruction by numpy, square": lambda X: _reconstructed(X[:, :3]),
    "left vectors by numpy": lambda X: np.linalg.svd(X)[0],
    "right vectors, one of them free": lambda X: np.linalg.svd(X[:, :4])[2],
    "projector beside the range": lambda X: (lambda N: N.T @ N)(np.linalg.svd(X).Vh[3:]),
    "normalised layer": lambda X: np.tanh((W / ds.opnorm(W)) @ X) / ds.opnorm(X),
    "no svd at all": lambda X: np.sum(np.tanh(W @ X) ** 2),
    "several outputs": lambda X: {"norm": ds.opnorm(X), "parts": (X @ X.T, np.exp(X[0]))},
    "in place": lambda X: _in_place(X),
}


#: those whose tangents can go through the sweeps
SWEPT = {
    "largest singular value by numpy",
    "spectral norm by numpy",
    "opnorm",
    "svdvals",
    "nuclear norm",
    "reconstruction",
    "reconstruction by numpy",
    "reconstruction by numpy, square",
    "left vectors by numpy",
    "right vectors, one of them free",
    "projector beside the range",
}


def _reconstructed(X: Any) -> Any:
    """By full factors, as np.linalg.svd gives them."""
    U, S, Vh = np.linalg.svd(X)
    return (U * np.tanh(S)) @ Vh[: len(S)]


def _in_place(X: Any) -> Any:
    out = np.zeros_like(X)
    out[0] = X[1] * X[2]
    out[1] = np.sin(X[0])
    return out


@pytest.mark.parametrize("name", SMOOTH)
def test_a_smooth_function_agrees_in_every_way(name: str, X: Array) -> None:
    report = cross_validate(SMOOTH[name], X, order=2)
    assert report.passed, str(report)
    assert report.smooth
    assert {first.FORWARD, first.REVERSE, first.ADJOINT, first.REVERSE_DIFFERENCES} <= names(report)
    assert {second.HESSIAN_REVERSE, second.HESSIAN_FORWARD, second.HESSIAN_SYMMETRIC} <= names(report)
    assert name not in SWEPT or first.SWEEPS in names(report)
    assert name not in ("no svd at all", "in place") or first.SWEEPS not in names(report)


def test_closed_forms_that_are_asked_for_are_no_other_way(X: Array) -> None:
    assert first.SWEEPS not in names(cross_validate(lambda X: ds.svdvals(X, tangents="closed-form"), X))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (2, 3, 2), (1, 6), (6, 1)], ids=str)
def test_kinds_and_shapes_of_matrices(dtype: str, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    A = (
        (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
        if dtype[0] == "c"
        else (rng.standard_normal(shape).astype(dtype))
    )
    report = cross_validate(ds.svdvals, A)
    assert report.passed, str(report)
    assert first.SWEEPS in names(report)


def test_singular_vectors_with_phases_are_met_with_cotangents_that_have_none(rng: np.random.Generator) -> None:
    A = rng.standard_normal((4, 3)) + 1j * rng.standard_normal((4, 3))
    report = cross_validate(lambda A: tuple(ds.svd(A)), A)
    assert first.ADJOINT in names(report)
    assert failing(report) <= {first.FORWARD, first.REVERSE_DIFFERENCES}  # LAPACK's phases do not move smoothly
    assert any("gauge" in note for note in report.notes)


def test_a_structure_of_arrays(rng: np.random.Generator) -> None:
    x = {"W": rng.standard_normal((2, 3)), "rest": [rng.standard_normal(3), (1e-6 * rng.standard_normal(2),)]}
    report = cross_validate(lambda p: p["W"] @ p["rest"][0] * np.exp(1e6 * p["rest"][1][0]), x, order=2)
    assert report.passed, str(report)


def test_integers_are_differentiated_as_floats() -> None:
    assert cross_validate(ds.opnorm, np.array([[2, 0], [1, 3]])).passed


def test_a_large_matrix_is_tried_along_few_directions(rng: np.random.Generator) -> None:
    calls = 0

    def counted(A: Any) -> Any:
        nonlocal calls
        calls += 1
        return np.sum(np.tanh(A))

    assert cross_validate(counted, rng.standard_normal((400, 60))).passed
    assert calls < 100


def test_the_same_call_gives_the_same_report(X: Array) -> None:
    assert cross_validate(ds.opnorm, X) == cross_validate(ds.opnorm, X)
    assert cross_validate(ds.opnorm, X, rng=1) == cross_validate(ds.opnorm, X, rng=np.random.default_rng(1))


@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-6])
def test_near_a_tie_the_tolerance_follows_the_conditioning(gap: float, rng: np.random.Generator) -> None:
    U, V = np.linalg.qr(rng.standard_normal((5, 3)))[0], np.linalg.qr(rng.standard_normal((3, 3)))[0]
    A = (U * np.array([2.0, 2.0 - gap, 1.0])) @ V.T
    report = cross_validate(lambda A: ds.linalg.low_rank(A, 1), A)
    assert report.passed, str(report)


# ---------------------------------------------------------------------------------------------------------------------
# Kinks nearby: what is right agrees, what is wrong does not

Point = Callable[[np.random.Generator], Array]


def turned(*S: float, dtype: str = "float64") -> Point:
    """A matrix of these singular values."""

    def matrix(rng: np.random.Generator) -> Array:
        U, V = (np.linalg.qr(rng.standard_normal((len(S), len(S))))[0] for _ in range(2))
        return ((U * np.array(S)) @ V).astype(dtype)

    return matrix


def mixed(least: float) -> Point:
    """A generic matrix, zero, the identity, and the first one again but small."""

    def stack(rng: np.random.Generator) -> Array:
        A = rng.standard_normal((3, 3))
        return np.stack([A, 0 * A, np.eye(3), least * A])

    return stack


def normal(n: int, scale: Any = 1.0) -> Point:
    return lambda rng: rng.standard_normal((n, n)) * scale


NEAR_KINKS: dict[str, tuple[Point, int]] = {  # and an order at which low_rank has a gap, or 0
    **{f"gap of {gap:g}": (turned(1, 1 - gap, 0.3), 1) for gap in (1e-4, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11)},
    "two gaps of 1e-6": (turned(2, 1 + 1e-6, 1, 1 - 1e-6), 2),
    "two gaps of 1e-9": (turned(2, 1 + 1e-9, 1, 1 - 1e-9), 2),
    "gap of 1e-9 in the middle": (turned(5, 4, 3, 3 - 1e-9, 1), 3),
    "value of 1e-8": (turned(1, 0.5, 1e-8), 2),
    "graded by 1e-4": (normal(3, [1, 1e-4, 1e-8]), 2),
    "graded by 1e-10": (normal(3, [1, 1e-10, 1e-20]), 1),
    "value of 1e-6 in single precision": (turned(1, 0.5, 1e-6, dtype="float32"), 1),
    "gap of 1e-6 in single precision": (turned(1, 1 - 1e-6, 0.3, dtype="float32"), 0),
    "a batch of all sizes": (mixed(1e-8), 0),
}


@pytest.mark.parametrize("name", NEAR_KINKS)
def test_a_right_derivative_agrees_close_to_a_kink(name: str, rng: np.random.Generator) -> None:
    make, order = NEAR_KINKS[name]
    A = make(rng)
    functions = [ds.svdvals, ds.opnorm, ds.nuclear_norm, *[lambda A: ds.linalg.low_rank(A, order)] * (order > 0)]
    for f in functions:
        report = cross_validate(f, A)
        assert report.passed, str(report)


def test_a_right_derivative_agrees_where_rotations_meet_chance_ties(rng: np.random.Generator) -> None:
    report = cross_validate(ds.svdvals, normal(130)(rng))
    assert first.SWEEPS in names(report)
    assert report.passed, str(report)


@pytest.mark.parametrize(("gap", "order"), [(1e-4, 2), (1e-8, 2)])
def test_second_derivatives_agree_close_to_a_kink(gap: float, order: int, rng: np.random.Generator) -> None:
    report = cross_validate(ds.svdvals, turned(1, 1 - gap, 0.3)(rng), order=order)
    assert second.HESSIAN_DIFFERENCES in names(report)
    assert report.passed, str(report)


SLIGHTLY, TWICE, NEGATED, LAST = "by 1e-3", "twice", "the other sign", "the last one twice"
WRONGS: dict[str, Callable[[Array], Array]] = {
    SLIGHTLY: lambda d: 1.001 * d,
    TWICE: lambda d: 2 * d,
    NEGATED: lambda d: -d,
    LAST: lambda d: d * (1 + (np.arange(d.size) == d.size - 1)).reshape(d.shape).astype(d.dtype),
}
FOUND: dict[str, tuple[Point, int, set[str]]] = {  # which of them no way but differences can see
    "generic": (normal(4), 2, {*WRONGS}),
    "generic, in single precision": (lambda rng: normal(4)(rng).astype(np.float32), 2, {*WRONGS}),
    "gap of 1e-4": (turned(1, 1 - 1e-4, 0.3), 1, {*WRONGS}),
    "gap of 1e-7": (turned(1, 1 - 1e-7, 0.3), 1, {*WRONGS}),
    "gap of 1e-10": (turned(1, 1 - 1e-10, 0.3), 1, {TWICE, NEGATED, LAST}),
    "two gaps of 1e-6": (turned(2, 1 + 1e-6, 1, 1 - 1e-6), 2, {TWICE, NEGATED, LAST}),
    "graded by 1e-4": (normal(3, [1, 1e-4, 1e-8]), 1, {*WRONGS}),
    "graded by 1e-10": (normal(3, [1, 1e-10, 1e-20]), 1, {TWICE, NEGATED, LAST}),
    "a batch of all sizes": (mixed(1e-8), 0, {*WRONGS}),
}


@pytest.mark.parametrize("name", FOUND)
def test_a_wrong_derivative_is_found_close_to_a_kink(name: str, rng: np.random.Generator) -> None:
    make, order, wrongs = FOUND[name]
    A = make(rng)
    for f in [ds.svdvals, *[lambda A: ds.linalg.low_rank(A, order)] * (order > 0)]:
        for how in wrongs:
            report = cross_validate(_both_wrong_alike(f, WRONGS[how]), A)
            assert {first.FORWARD, first.ONE_SIDED} & failing(report), f"{how}: {report}"


def _both_wrong_alike(f: Callable[[Any], Any], wrong: Callable[[Array], Array]) -> Callable[[Any], Any]:
    own = ds.custom_rule(
        f,
        pushforward=lambda y, x, dx: wrong(ds.jvp(f, (x[0],), (dx[0],))[1]),
        pullback=lambda y_bar, y, x: ds.vjp(f, x[0])[1](wrong(y_bar))[0],
    )
    CUSTOM.discard(own)
    return own


# ---------------------------------------------------------------------------------------------------------------------
# Kinks

R = np.array([[3.0, 4.0], [-4.0, 3.0]])  # both singular values are 5

KINKS: dict[str, tuple[Callable[[Any], Any], Any, str]] = {
    "spectral norm at a tie": (ds.opnorm, R, first.CONVEX),
    "spectral norm at the identity": (ds.opnorm, np.eye(3), first.CONVEX),
    "spectral norm at zero": (ds.opnorm, np.zeros((2, 3)), first.CONVEX),
    "minus the spectral norm at a tie": (lambda A: -ds.opnorm(A), R, first.CONCAVE),
    "nuclear norm at rank one": (ds.nuclear_norm, np.outer([1.0, 2.0], [3.0, 0.0, 4.0]), first.CONVEX),
    "singular values at a tie": (ds.svdvals, R, first.ONE_SIDED),
    "singular values at rank one": (ds.svdvals, np.outer([1.0, 2.0], [3.0, 0.0, 4.0]), first.ONE_SIDED),
    "absolute value": (lambda x: np.sum(np.abs(x)), np.array([1.0, 0.0, -2.0]), first.BETWEEN),
    "elements at a kink": (np.abs, np.array([1.0, 0.0, -2.0]), first.BETWEEN),
    "maximum of equals": (lambda x: np.maximum(x[0], x[1]), np.array([2.0, 2.0]), first.BETWEEN),
}


@pytest.mark.parametrize("name", KINKS)
def test_a_kink_is_found_and_what_must_hold_there_holds(name: str) -> None:
    f, x, expected = KINKS[name]
    report = cross_validate(f, x)
    assert not report.smooth
    assert report.passed, str(report)
    assert expected in names(report)
    assert any("not smooth" in note for note in report.notes)


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda A: ds.polar(A)[0], R),
        (ds.pinv, R),
        (ds.nuclear_norm, np.eye(3)),
        (lambda A: ds.linalg.spectral_function(A, np.tanh, lambda s: 1 / np.cosh(s) ** 2), np.diag([2.0, 2.0, 0.0])),
        (lambda x: np.sum(x**2), np.zeros(3)),
        (lambda x: np.sum(np.abs(x) ** 3), np.zeros(3)),
    ],
    ids=[
        "polar at a tie",
        "pinv at a tie",
        "nuclear norm at the identity",
        "tanh of a tie and a zero",
        "squares",
        "cubes",
    ],
)
def test_a_smooth_function_is_smooth_even_where_its_parts_are_not(f: Any, x: Array) -> None:
    report = cross_validate(f, x)
    assert report.smooth
    assert report.passed, str(report)


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_a_value_that_is_zero_to_rounding_is_as_good_as_another(scale: float, rng: np.random.Generator) -> None:
    Q, P = (np.linalg.qr(rng.standard_normal((3, 3)))[0] for _ in range(2))
    assert ds.cross_validate(lambda x: ds.norm(x, -2), (Q * [2, 1, 0]) @ P * scale).passed


def test_second_derivatives_are_not_asked_for_at_a_kink() -> None:
    report = cross_validate(ds.opnorm, R, order=2)
    assert not any("Hessian" in name for name in names(report))
    assert any("second" in note for note in report.notes)


# ---------------------------------------------------------------------------------------------------------------------
# Each comparison finds its fault


def rule(function: Any, push: Any, pull: Any, **more: Any) -> Rule:
    return Rule("faulty", function, push, pull, lambda rng: [((rng.uniform(1, 2, 3),), {})], register=False, **more)


def times(slope: Any) -> Any:
    return lambda y, operands, tangents, **params: slope(operands[0]) * tangents[0]


def pulled(slope: Any) -> Any:
    return lambda y_bar, y, operands, **params: (slope(operands[0]) * y_bar,)


def twice(x: Any) -> Any:
    return 2 * x


def digits_lost_through_the_sweeps(y: Any, operands: Any, tangents: Any, **params: Any) -> Any:
    return 2 * operands[0] * tangents[0] * (1 + 1e-7 * (settings.get().tangents == "sweeps"))


def bent(factor: float) -> Any:
    """|x| with the exact one-sided slope at 0, times a factor."""
    return lambda y, operands, tangents: np.where(
        operands[0] == 0, factor * np.abs(tangents[0]), np.sign(operands[0]) * tangents[0]
    )


def noisy(x: Any) -> Any:
    return x**2 + 1e-3 * np.sin(1e17 * x)  # no two neighbouring numbers are alike


POINT = np.array([1.0, 0.5, 2.0])
ZERO = np.array([0.0])
FAULTS: dict[str, tuple[Any, Any, set[str]]] = {
    "wrong pushforward": (
        rule(np.square, times(lambda x: 2.001 * x), pulled(twice)),
        POINT,
        {first.FORWARD, first.REVERSE, first.ADJOINT},
    ),
    "wrong pullback": (
        rule(np.square, times(twice), pulled(lambda x: 2 * x + 1e-6)),
        POINT,
        {first.REVERSE, first.ADJOINT, first.REVERSE_DIFFERENCES},
    ),
    "both wrong alike": (
        rule(np.square, times(lambda x: 3 * x), pulled(lambda x: 3 * x)),
        POINT,
        {first.FORWARD, first.REVERSE_DIFFERENCES},
    ),
    "a derivative that is not a number": (
        rule(np.square, times(lambda x: x * np.nan), pulled(twice)),
        POINT,
        {first.FORWARD, first.REVERSE, first.ADJOINT},
    ),
    "another value under differentiation": (
        rule(
            np.square,
            None,
            pulled(twice),
            jvp=lambda operands, tangents: (operands[0] ** 2 + 1e-6, 2 * operands[0] * tangents[0]),
        ),
        POINT,
        {first.VALUE},
    ),
    "sweeps that lose digits": (
        lambda x: rule(lambda x, options: x * x, digits_lost_through_the_sweeps, pulled(twice))(x, options=None),
        POINT,
        {first.SWEEPS},
    ),
    "half of a one-sided slope": (rule(np.abs, bent(0.5), pulled(np.sign)), ZERO, {first.ONE_SIDED}),
    "a slope outside the kink": (
        rule(np.abs, times(lambda x: x * 0 + 2), pulled(lambda x: x * 0 + 2)),
        ZERO,
        {first.BETWEEN},
    ),
    "no subgradient": (rule(np.abs, bent(1.0), pulled(lambda x: x * 0 + 2)), ZERO, {first.CONVEX}),
    "no subgradient, and no forward mode": (
        rule(np.abs, None, pulled(lambda x: x * 0 + 7)),
        np.zeros(3),
        {first.CONVEX},
    ),
    "noise in which no slope is seen": (rule(noisy, times(lambda x: x * 0 + 5), None), POINT, {first.NOTHING}),
    "noise, and no forward mode": (rule(noisy, None, pulled(lambda x: x * 0 + 5)), POINT, {first.NOTHING}),
    "no supergradient": (lambda x: -rule(np.abs, bent(1.0), pulled(lambda x: x * 0 + 2))(x), ZERO, {first.CONCAVE}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_comparison_finds_its_fault(name: str) -> None:
    f, x, expected = FAULTS[name]
    report = cross_validate(f, x)
    assert failing(report) == expected, str(report)
    with pytest.raises(DisagreementError, match="DISAGREES"):
        report.raise_if_failed()


def test_a_tangent_of_another_precision_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = first.jvp
    monkeypatch.setattr(first, "jvp", lambda *args: (right(*args)[0], tuple(np.float64(t) for t in right(*args)[1])))
    assert failing(cross_validate(np.square, POINT.astype(np.float32))) == {first.KINDS}


def test_a_cotangent_of_another_precision_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def upcast(*args: Any) -> Any:
        y, pullback = right(*args)
        return y, lambda y_bar: tuple(np.float64(part) for part in pullback(y_bar))

    right = first.vjp
    monkeypatch.setattr(first, "vjp", upcast)
    assert failing(cross_validate(np.square, POINT.astype(np.float32))) == {first.KINDS}


def test_a_derivative_that_forgets_to_depend_on_the_point_is_found_by_second_order() -> None:
    frozen = rule(lambda x: x**3, times(lambda x: 3 * primal(x) ** 2), pulled(lambda x: 3 * x**2))
    report = cross_validate(frozen, POINT, order=2)
    assert failing(report) == {second.HESSIAN_REVERSE, second.HESSIAN_FORWARD}
    frozen = rule(lambda x: x**3, times(lambda x: 3 * x**2), pulled(lambda x: 3 * primal(x) ** 2))
    assert second.HESSIAN_DIFFERENCES in failing(cross_validate(frozen, POINT, order=2))


def test_a_hessian_that_is_not_symmetric_is_found() -> None:
    shear = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    wrong = rule(
        lambda x: x**2,
        times(twice),
        lambda y_bar, y, operands: (2 * operands[0] * y_bar + shear @ (operands[0] - primal(operands[0])),),
    )
    assert second.HESSIAN_SYMMETRIC in failing(cross_validate(wrong, POINT, order=2))


def test_a_nesting_that_has_no_second_derivative_is_a_note() -> None:
    one_way = rule(twice, lambda y, operands, tangents: 2 * tangents[0], None)
    square = rule(np.square, times(one_way), pulled(twice))
    report = cross_validate(square, POINT, order=2)
    assert report.passed
    assert second.HESSIAN_FORWARD in names(report) and second.HESSIAN_REVERSE not in names(report)
    assert any(note.startswith("reverse over forward does not apply: MissingRuleError") for note in report.notes)


@pytest.mark.parametrize("f", [lambda a: np.sum(ds.svd(a).S ** 2), lambda a: np.sum(np.linalg.eigh(a)[0] ** 2)])
def test_values_that_come_with_vectors_have_every_nesting_at_a_tie(f) -> None:
    report = cross_validate(f, np.eye(2), order=2)
    assert report.passed and {second.HESSIAN_FORWARD, second.HESSIAN_REVERSE} <= names(report)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_one_mode_alone_is_compared_with_differences(mode: str) -> None:
    one = rule(np.square, times(twice) if mode == "forward" else None, pulled(twice) if mode == "reverse" else None)
    report = cross_validate(one, POINT)
    assert report.passed
    assert (first.FORWARD if mode == "forward" else first.REVERSE_DIFFERENCES) in names(report)
    assert any("does not apply" in note for note in report.notes)


def test_a_function_without_any_derivative_says_so() -> None:
    with pytest.raises(ds.MissingRuleError, match="i0"):
        cross_validate(lambda x: np.i0(x), POINT)


def test_a_tolerance_of_ones_own() -> None:
    rough = rule(np.square, times(lambda x: 2.001 * x), pulled(twice))
    assert cross_validate(rough, POINT, tol=1e-2).passed
    assert not cross_validate(ds.opnorm, np.array([[1.0, 2.0], [3.0, 5.0]]), tol=1e-30).passed
    assert failing(cross_validate(rule(np.square, times(lambda x: 3 * x), None), POINT, tol=1e-2)) == {first.FORWARD}
    assert failing(cross_validate(rule(np.square, None, pulled(lambda x: 3 * x)), POINT, tol=1e-2)) == {
        first.REVERSE_DIFFERENCES
    }


@pytest.mark.parametrize("tol", [-1.0, np.nan])
def test_a_tolerance_that_is_none(tol: float) -> None:
    with pytest.raises(ValueError, match=f"tol must be a number >= 0 or None, got {tol}"):
        cross_validate(np.sin, POINT, tol=tol)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_what_is_left_out_is_counted(mode: str) -> None:
    one = rule(noisy, times(twice) if mode == "forward" else None, pulled(twice) if mode == "reverse" else None)
    (note,) = (note for note in cross_validate(one, POINT).notes if "left out" in note)
    directions, cotangents = 3 + 3, 3 + 3  # random ones and a basis
    assert note.startswith(f"{directions * (cotangents if mode == 'reverse' else 1)} comparisons of {mode} mode")


def test_no_direction_is_the_point_that_a_user_drew() -> None:
    x, seen = np.random.default_rng(0).standard_normal(40), []
    probe = rule(
        np.sin, lambda y, operands, tangents: (seen.append(tangents[0]), np.cos(operands[0]) * tangents[0])[1], None
    )
    cross_validate(probe, x)
    probe.examples = lambda rng: [((x,), {})]
    check_rules([probe])
    assert seen
    assert max(abs(np.vdot(v, x)) / (np.linalg.norm(v) * np.linalg.norm(x)) for v in seen) < 0.9


def test_an_order_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="order must be 1 or 2, got 3"):
        cross_validate(np.sin, POINT, order=3)


# ---------------------------------------------------------------------------------------------------------------------
# Differences


@pytest.mark.parametrize(
    ("f", "slope"),
    [
        (np.sin, np.cos),
        (np.exp, np.exp),
        (lambda x: np.sqrt(np.abs(x)), lambda x: 0.5 / np.sqrt(x)),
        (lambda x: np.sin(30 * x), lambda x: 30 * np.cos(30 * x)),
        (lambda x: 1e8 + x, lambda x: np.ones_like(x)),
        (lambda x: x * 1e-200, lambda x: np.full_like(x, 1e-200)),
        (lambda x: np.round(np.sin(x), 6), np.cos),
        (lambda x: np.float32(x) ** 3, lambda x: 3 * x**2),
    ],
    ids=["sine", "exponential", "root", "oscillation", "large offset", "tiny", "noise of 1e-6", "single precision"],
)
def test_differences_know_their_own_error(f: Any, slope: Any) -> None:
    x = np.array([0.3, 1.0, 2.5])
    ((found,),) = slopes(lambda x: (f(x),), (x,), [(np.ones(3),)])
    assert np.all(np.abs(found.central - slope(x)) <= found.accuracy)
    assert not found.kinked.any()


@pytest.mark.parametrize("at", [1e-7, -1e-8, 1e-9, -1e-11], ids=str)
def test_differences_see_past_a_kink(at: float) -> None:
    ((found,),) = slopes(lambda x: (np.abs(x),), (np.array([at, 1.0]),), [(np.ones(2),)])
    assert not found.kinked.any()
    assert np.all(np.abs(found.central - np.sign([at, 1.0])) <= found.accuracy)
    assert np.all(found.accuracy < 0.1)


def test_differences_look_no_closer_than_the_numbers_were_given() -> None:
    x = np.array([1e-9, 1.0])
    ((found,),) = slopes(lambda x: (np.abs(x),), (x,), [(np.ones(2),)], float(np.finfo(np.float32).eps))
    assert found.kinked.tolist() == [True, False]


def test_a_jump_within_the_smallest_steps_is_left_out() -> None:
    ((found,),) = slopes(lambda x: (np.abs(x),), (np.array([3e-14, 1.0]),), [(np.ones(2),)])
    assert not found.resolved.all() or found.kinked.any()


def test_differences_are_sharp_on_smooth_functions() -> None:
    ((found,),) = slopes(lambda x: (np.sin(x),), (np.ones(3),), [(np.ones(3),)])
    assert np.all(found.accuracy < 1e-10)


@pytest.mark.parametrize("at", [0.0, 1e-15, -1e-14], ids=str)
def test_differences_see_a_kink(at: float) -> None:
    ((found,),) = slopes(lambda x: (np.abs(x),), (np.array([at, 1.0]),), [(np.ones(2),)])
    assert found.kinked.tolist() == [True, False]


def test_steps_that_leave_the_domain_are_passed_over() -> None:
    ((found,),) = slopes(lambda x: (np.log(x),), (np.array([1e-2]),), [(np.array([1.0]),)])
    assert abs(found.central[0] - 100) <= found.accuracy < 1


# ---------------------------------------------------------------------------------------------------------------------
# Reports


def test_a_report_prints_its_rows_and_goes_through_json() -> None:
    report = ValidationReport("f at (3,)", (row("one", 1e-16, 1e-13), row("two", np.nan, 1e-13)), True, ("a note",))
    assert [r.passed for r in report.rows] == [True, False]
    assert not report.passed
    text = str(report)
    assert "f at (3,)" in text and "DISAGREES" in text and "a note" in text and "1 of 2 disagree" in text
    again = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert again["rows"][0] == {"name": "one", "error": 1e-16, "tolerance": 1e-13, "passed": True}
    assert again["rows"][1]["error"] is None
    assert again["passed"] is False
    json.dumps(cross_validate(np.sin, POINT, tol=np.inf).to_dict(), allow_nan=False)


def test_a_report_of_nothing_has_not_passed() -> None:
    assert not ValidationReport("nothing", ()).passed
    with pytest.raises(DisagreementError, match="nothing could be compared"):
        ValidationReport("nothing", ()).raise_if_failed()


def test_a_row_unpacks() -> None:
    name, error, tolerance, passed = cross_validate(ds.opnorm, np.diag([2.0, 1.0])).rows[0]
    assert isinstance(name, str) and error <= tolerance and passed is True


# ---------------------------------------------------------------------------------------------------------------------
# All rules


def test_every_registered_rule_is_right_at_its_examples() -> None:
    report = check_rules()
    assert report.passed, str(report)
    assert len(report.rows) >= len(RULES)


@pytest.mark.parametrize("rule_", RULES, ids=lambda r: r.name)
def test_every_rule_has_an_example(rule_: Rule, rng: np.random.Generator) -> None:
    assert list(rule_.examples(rng))


def test_rules_of_ones_own_are_checked_too() -> None:
    wrong = ds.custom_rule(
        np.cbrt, pullback=lambda y_bar, y, operands: y_bar / y, examples=lambda rng: [((rng.uniform(1, 2, 3),), {})]
    )
    try:
        report = check_rules([*CUSTOM])
        assert any(r.name.startswith("cbrt") and not r.passed for r in report.rows)
    finally:
        CUSTOM.discard(wrong)


def test_a_rule_of_ones_own_is_checked_where_it_was_last_called() -> None:
    square = ds.custom_rule(lambda x: x * x, pushforward=lambda y, x, dx: 2 * x[0] * dx[0])
    assert not check_rules([square]).passed  # never called: nothing to check it at
    square(np.array([1.0, 2.0]))
    assert check_rules([square]).passed
    CUSTOM.discard(square)


def raising(x: Any) -> Any:
    raise KeyError("not of NumPy")


def called(f: Any, *x: Any, **derivatives: Any) -> Rule:
    """A rule of one's own, whose example is its latest call."""
    own = ds.custom_rule(f, **derivatives)
    CUSTOM.discard(own)
    with contextlib.suppress(KeyError):
        own(*x)
    return own


def shown(f: Any, *x: Any, **derivatives: Any) -> Rule:
    """A rule of one's own, at an example that comes with it."""
    own = ds.custom_rule(f, examples=lambda rng: [(x, {})], **derivatives)
    CUSTOM.discard(own)
    return own


CUBE = {"pushforward": lambda y, x, dx: 3 * x[0] ** 2 * dx[0]}
BOTH = {"pushforward": lambda y, x, dx: dx[0], "pullback": lambda y_bar, y, x: y_bar}
TOP = {"pullback": lambda y_bar, y, x: y_bar[0] * np.eye(3)[y[1]]}
OWN: dict[str, tuple[Rule, str | None, str]] = {  # the row that fails, and what the notes say of it
    "called with integers": (called(lambda x: x**3, np.array([1, 2]), **CUBE), None, ""),
    "called with a number": (called(lambda x: x**3, 2, **CUBE), None, ""),
    "foreign byte order": (shown(lambda x: x**3, POINT.astype(">f8"), **CUBE), None, ""),
    "an index among its values": (shown(lambda x: (np.max(x), np.argmax(x)), POINT, **TOP), None, ""),
    "integers for values": (
        shown(lambda x: np.rint(x).astype(int), np.array([1.2, 2.7]), **BOTH),
        f"<lambda>: {first.FORWARD}",
        "",
    ),
    "only calls that raised": (called(raising, POINT, **CUBE), "raising", "no example"),
    "an example that raises": (shown(raising, POINT, **CUBE), "raising", "KeyError: 'not of NumPy'"),
    "an example of words": (shown(np.copy, "word", **CUBE), "copy", "arrays of numbers"),
    "an example in half precision": (shown(np.copy, np.float16([1.0]), **CUBE), "copy", "DTypeError"),
    "a derivative that raises": (shown(np.copy, POINT, pullback=lambda *_: 1 / 0), "copy", "ZeroDivisionError"),
}


@pytest.mark.parametrize("name", OWN)
def test_no_rule_of_ones_own_is_the_end_of_check_rules(name: str) -> None:
    own, expected, note = OWN[name]
    good = called(lambda x: x**3, POINT, **CUBE)
    report = check_rules([own, good])
    assert len(report.rows) == 2
    assert report.rows[1].passed
    assert failing(report) == (set() if expected is None else {expected})
    assert any(note in line for line in report.notes)
