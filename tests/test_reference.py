"""Against the reference: values and derivatives that mpmath computed with hundreds of digits, by differences.

`reference/generate.py` says how. Every bound here is a multiple of the rounding unit and of a condition number, both
named where they stand; what is asserted finite is asserted so before it is compared.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import cases
import numpy as np
import pytest
from reference import generate
from reference.archive import FILE, FunctionReference, Reference, load

import dualsvd as ds

EPS = float(np.finfo(np.float64).eps)
SUBNORMAL = 5e-324  # the spacing of subnormal numbers: no result is rounded more finely

# Values, relative to s_1: the backward error of an SVD of a 12x7 matrix, a few eps a rotation or reflection.
VALUE = 18  # * eps = 4e-15
# Derivatives of simple values, relative to their conditioning.
SIMPLE = 20
# The motion of singular vectors is divided by the gap, which the errors of both values put off as well.
MOTION = SIMPLE + 2 * VALUE
# Directional derivatives at exact ties: eigenvalues of a block of U^H D V, which are perfectly conditioned.
TIED = 100
# Their sum where two values are an eps or two apart, carried through the sweeps: a rotation between them has an angle
# that moves as fast as 1 / gap, and the gap is rounding. Over orders and signs of rows and columns of one case the
# median is 7, one in a hundred is beyond 90, and the worst of 6000 is 140.
SWEPT_TIED = 200
# Graded matrices, every value relative to itself.
GRADED_VALUE = 1e-13
GRADED_DERIVATIVE = 1e-12
# Fused primitives, relative to the largest entry of the derivative, where they are well conditioned.
FUSED = 450  # * eps = 1e-13

REFERENCES = {case.name: case for case in load()}


def smooth(case: Reference) -> dict[str, FunctionReference]:
    """Fused primitives: all but the dyad, which goes through the SVD's own derivative."""
    return {name: f for name, f in case.functions.items() if not name.startswith("dyad")}


def of(*families: str, functions: bool = False) -> Any:
    """Parametrizes a test by the cases of some families, or of all; or by those for which functions are known."""
    chosen = [case for case in REFERENCES.values() if not families or case.family in families]
    chosen = [case for case in chosen if smooth(case) or not functions]
    assert chosen, families
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in chosen])


WELL_SCALED = ("generic", "ill-conditioned", "near-tie", "near-zero", "scaled")
AT_TIES = ("tied", "deficient", "zero")

MODES = pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"algorithm": "auto"}, id="closed form"),
        pytest.param({"algorithm": "jacobi"}, id="closed form on Jacobi"),
        pytest.param({"algorithm": "lapack"}, id="closed form on LAPACK"),
        pytest.param({"tangents": "sweeps"}, id="carried through the sweeps"),
    ],
)


# ---------------------------------------------------------------------------------------------------------------------
# Comparing


class Comparison:
    """Collects comparisons and reports all that fail, with error and bound."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.count = 0

    def __call__(self, what: str, actual: Any, expected: Any, bound: Any) -> None:
        actual, expected = np.asarray(actual), np.asarray(expected)
        assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
        self.count += 1
        if not np.isfinite(actual).all():
            self.failures.append(f"{what}: not finite, {actual}")
            return
        # halves, so that the difference of two numbers near overflow is finite
        error = 2 * np.abs(actual / 2 - expected / 2)
        if (error > bound).any():
            worst = int(np.argmax(error / np.maximum(bound, SUBNORMAL)))
            worst_bound = np.broadcast_to(bound, error.shape).flat[worst]
            self.failures.append(f"{what}: error {error.flat[worst]:.2e} > {worst_bound:.2e} at entry {worst}")

    def verdict(self) -> None:
        assert self.count, "nothing was compared"
        if self.failures:
            pytest.fail("\n".join(self.failures), pytrace=False)


@pytest.fixture
def compare() -> Comparison:
    """What a test collects its comparisons in; it ends with `compare.verdict()`."""
    return Comparison()


def size(x: Any) -> float:
    """The largest entry, or 0."""
    return float(np.max(np.abs(x), initial=0.0))


def dot(x: Any, y: Any) -> float:
    """The inner product Re tr(X^H Y)."""
    return float(np.real(np.vdot(x, y)))


def gaps(case: Reference) -> np.ndarray:
    """How far A is from one where the i-th singular vectors are not determined: what their derivative divides by."""
    s = case.s
    distance = np.abs(s[:, None] - s)
    np.fill_diagonal(distance, np.inf)
    gap = np.min(distance, axis=1, initial=np.inf)
    if case.a.shape[0] != case.a.shape[1]:
        gap = np.minimum(gap, s)  # the other singular vectors of value 0
    if case.a.dtype.kind == "c":
        gap = np.minimum(gap, 2 * s)  # the phase of u against that of v
    return np.minimum(gap, s[0])


def conditioning(case: Reference) -> np.ndarray:
    """s_1 / gap: how much a relative change of A turns the i-th singular vectors."""
    with np.errstate(divide="ignore"):
        return case.s[0] / gaps(case)


def resolved(case: Reference) -> np.ndarray:
    """Which values the SVD can tell from their neighbours: of the others only the sum is determined in float64."""
    return gaps(case) > 1e-13 * case.s[0]


def simple_bound(case: Reference, d: np.ndarray, eps: float = EPS) -> np.ndarray:
    """ds_i = Re u_i^H D v_i is off by |D| times what the backward error turns u_i and v_i by.

    Each product of the sum may be rounded to a subnormal number.
    """
    return SIMPLE * eps * conditioning(case) * norm2(d) + (1 + d.size) * SUBNORMAL


def norm2(d: np.ndarray) -> float:
    """The spectral norm; LAPACK scales, so that no size of d is in its way."""
    return float(np.linalg.norm(d, 2))


# ---------------------------------------------------------------------------------------------------------------------
# The functions, by the names that the reference has for them


def dyad(i: int, **settings: Any) -> Callable[[Any], Any]:
    """u_i v_i^H, a function of the singular vectors that does not depend on their phase."""

    def f(a: Any) -> Any:
        u, _, vh = ds.linalg.svd(a, **settings)
        return u[:, i : i + 1] @ vh[i : i + 1, :]

    return f


def function(name: str) -> Callable[[Any], Any]:
    """The function that a name of the reference stands for."""
    head, *rest = name.split()
    match head, rest:
        case "norm", ["schatten", p]:
            return lambda a: ds.linalg.norm(a, ("schatten", int(p)))
        case "norm", ["fro"]:
            return lambda a: ds.linalg.norm(a, "fro")
        case "norm", [order]:
            return lambda a: ds.linalg.norm(a, int(order))
        case "spectral_function", ["tanh"]:
            return lambda a: ds.linalg.spectral_function(a, np.tanh, lambda x: 1 - np.tanh(x) ** 2)
        case "polar", []:
            return lambda a: ds.linalg.polar(a)[0]
        case "dyad", [i]:
            return dyad(int(i))
        case "low_rank" | "range_projector", [k]:
            return lambda a: getattr(ds.linalg, head)(a, int(k))
        case "singular_value_threshold", [tau]:
            return lambda a: ds.linalg.singular_value_threshold(a, float(tau))
        case _, []:
            return getattr(ds.linalg, head)
    raise KeyError(name)


def function_conditioning(name: str, case: Reference) -> float:
    """What the derivative of that function divides by, relative to s_1.

    Nothing where the function treats all values alike; the gap that it cuts at; the smallest value where it inverts.
    """
    head, *rest = name.split()
    s = case.s
    if head in ("low_rank", "range_projector", "singular_value_threshold"):
        cut = float(rest[0]) if head == "singular_value_threshold" else np.mean(s[int(rest[0]) - 1 : int(rest[0]) + 1])
        return s[0] / (2 * np.min(np.abs(s - cut)))
    if head == "dyad":
        return float(conditioning(case)[int(rest[0])])
    if head == "opnorm":
        return float(conditioning(case)[0])
    if name == "norm -2":
        return float(conditioning(case)[-1])
    if head == "cond":
        return float(max(conditioning(case)[0], conditioning(case)[-1], s[0] / s[-1]))
    if head in ("polar", "pinv", "nuclear_norm") or name == "norm schatten 3":
        return s[0] / s[-1]
    return 1.0


def fused_bound(name: str, case: Reference, order: int = 1, eps: float = EPS) -> float:
    """1e-13 at every gap; where the function itself is ill-conditioned, as for simple values.

    Each further derivative divides by the same once more, and loses as much again.
    """
    loss = MOTION if name.startswith("dyad") else SIMPLE
    return max(FUSED, loss * order * function_conditioning(name, case)) * eps


def first_size(f: FunctionReference, w: Any = None) -> float:
    """How large first derivatives are along these directions, or their inner products with w before they cancel."""
    return max(size(x) if w is None else float(np.sum(np.abs(w) * np.abs(x))) for x in f.d)


def second_size(f: FunctionReference, w: Any = None) -> float:
    """The same of second derivatives, but as large as their terms: those of a norm may cancel exactly."""
    sizes = [size(x) if w is None else float(np.sum(np.abs(w) * np.abs(x))) for x in f.dd]
    value = size(f.value)
    return max(*sizes, first_size(f) / value * first_size(f, w) if value else 0.0)


def representable(f: FunctionReference, case: Reference) -> bool:
    """Whether the gradient is in the range of float64: the pseudoinverse of a 1e160 matrix has one of size 1e-320."""
    slope = first_size(f) / max(map(size, case.directions))
    return 1e-290 < slope < 1e290


def along(f: Callable[[Any], Any], a: np.ndarray, *directions: np.ndarray) -> Any:
    """The derivative of f at a, once along each of the directions."""
    if not directions:
        return f(a)
    *first, last = directions
    return ds.jvp(lambda x: along(f, x, *first), (a,), (last,))[1]


def basis(a: np.ndarray) -> np.ndarray:
    """All real directions: the unit matrices, and i times them if A is complex."""
    unit = np.eye(a.size, dtype=a.dtype).reshape(a.size, *a.shape)
    return np.concatenate([unit, 1j * unit]) if a.dtype.kind == "c" else unit


# ---------------------------------------------------------------------------------------------------------------------
# The reference itself


@pytest.mark.parametrize(
    "name",
    ["generic complex 3x3", "tied wide 3x5", "gap 1e-12 on top 5x3", "graded 1e60 4x4", "lexicographic: zero 3x3"],
)
def test_the_script_makes_what_the_file_holds(name):
    problem = next(problem for problem in generate.problems() if problem.name == name)
    lines = [line for line in FILE.read_text().splitlines() if line.startswith(f'{{"name":{json.dumps(name)},')]
    # the matrices of the file: NumPy does not promise the same random numbers in all its versions
    case = REFERENCES[name]
    directions = "lexicographic" if case.lexicographic is not None else "directions"
    problem = dataclasses.replace(problem, a=case.a, **{directions: case.directions})
    assert lines == [generate.line_of(problem)]


# ---------------------------------------------------------------------------------------------------------------------
# Singular values


@of()
@MODES
def test_singular_values_are_right_relative_to_the_largest(case, settings, compare):
    with ds.options(**settings):
        compare("S", ds.linalg.svdvals(case.a), case.s, VALUE * EPS * case.s[0] + SUBNORMAL)
        u, s, vh = ds.linalg.svd(case.a)
    compare("S of svd", s, case.s, VALUE * EPS * case.s[0] + SUBNORMAL)
    # backward stable: A within the same error of U S V^H, and factors orthonormal to it
    r = len(s)
    compare("U S V^H", (u * s) @ vh, case.a, VALUE * EPS * case.s[0] * np.sqrt(r) + SUBNORMAL * r)
    compare("U^H U", u.conj().T @ u, np.eye(r), VALUE * EPS)
    compare("V^H V", vh @ vh.conj().T, np.eye(r), VALUE * EPS)
    compare.verdict()


@of("graded")
def test_graded_values_are_right_relative_to_themselves(case, compare):
    compare("S", ds.linalg.svdvals(case.a, algorithm="jacobi") / case.s, np.ones(len(case.s)), GRADED_VALUE)
    compare("S of svd", ds.linalg.svd(case.a, algorithm="jacobi").S / case.s, np.ones(len(case.s)), GRADED_VALUE)
    compare.verdict()


# ---------------------------------------------------------------------------------------------------------------------
# Derivatives of singular values


@of(*WELL_SCALED)
@MODES
def test_derivatives_of_simple_values_forward(case, settings, compare):
    simple, tied = resolved(case), SWEPT_TIED if settings.get("tangents") == "sweeps" else TIED
    for d, expected in zip(case.directions, case.ds):
        with ds.options(**settings):
            s, derivative = ds.jvp(ds.linalg.svdvals, (case.a,), (d,))
            through_svd = ds.jvp(lambda a: ds.linalg.svd(a).S, (case.a,), (d,))[1]
        compare("S beside its tangent", s, case.s, VALUE * EPS * case.s[0] + SUBNORMAL)
        for what, dS in (("dS", derivative), ("dS of svd", through_svd)):
            compare(what, dS[simple], expected[simple], simple_bound(case, d)[simple])
            if not simple.all():
                sums = np.sum(dS[~simple]), np.sum(expected[~simple])
                compare(f"{what}, sum of the cluster", *sums, tied * EPS * norm2(d))
    compare.verdict()


@of(*WELL_SCALED)
def test_derivatives_of_simple_values_reverse(case, compare):
    _, pullback = ds.vjp(ds.linalg.svdvals, case.a)
    for i in np.flatnonzero(resolved(case)):
        (gradient,) = pullback(np.eye(len(case.s))[i])
        assert gradient.shape == case.a.shape and np.isfinite(gradient).all()
        for d, expected in zip(case.directions, case.ds):
            compare(f"<G_{i}, D>", dot(gradient, d), expected[i], simple_bound(case, d)[i])
    compare.verdict()


@of(*AT_TIES)
@MODES
def test_directional_derivatives_at_exact_ties(case, settings, compare):
    for i, (d, expected) in enumerate(zip(case.directions, case.ds)):
        with ds.options(**settings):
            derivative = ds.jvp(ds.linalg.svdvals, (case.a,), (d,))[1]
            through_svd = ds.jvp(lambda a: ds.linalg.svd(a).S, (case.a,), (d,))[1]
        compare(f"dS along direction {i}", derivative, expected, TIED * EPS * norm2(d))
        compare(f"dS of svd along direction {i}", through_svd, expected, TIED * EPS * norm2(d))
    compare.verdict()


@of("graded")
def test_graded_derivatives_are_right_relative_to_themselves(case, compare):
    def of_svd(a: Any) -> Any:
        return ds.linalg.svd(a).S

    def least(a: Any) -> Any:
        return ds.norm(a, -2)

    def inside(f: Callable[[Any], Any], d: np.ndarray) -> Any:
        """The value of a derivative that is being differentiated."""
        return ds.jvp(lambda a: along(f, a, d), (case.a,), (d,))[0]

    ways: dict[str, Any] = {
        "dS": lambda d: along(ds.svdvals, case.a, d),
        "dS of svd": lambda d: along(of_svd, case.a, d),
        "dS of svd, linearized": lambda d: ds.linearize(of_svd, case.a)[1](d),
        "dS of the least": lambda d: along(least, case.a, d),
    }
    if np.max(np.abs(case.a)) < 1e100:  # else the outer tangents leave the range
        ways["dS inside another derivative"] = lambda d: inside(ds.svdvals, d)
        ways["dS of the least, inside"] = lambda d: inside(least, d)
    if np.isrealobj(case.a) and case.s[-1] > 1e-100 * case.s[0]:  # else slopes along entries are far below their values
        for what, f in (("J", ds.svdvals), ("J of svd", of_svd)):
            ways[what] = lambda d, f=f: np.tensordot(ds.jacobian(f, case.a), d, 2)
    for i, (d, expected) in enumerate(zip(case.directions, case.ds)):
        for what, slopes in ways.items():
            with ds.options(algorithm="jacobi"):
                derivative = np.atleast_1d(slopes(d))
            ratio = derivative / expected[-len(derivative) :]
            compare(f"{what} along direction {i}", ratio, np.ones(len(ratio)), GRADED_DERIVATIVE)
    compare.verdict()


@of("lexicographic")
@pytest.mark.parametrize("tangents", ["closed-form", "sweeps"])
def test_several_directions_at_a_tie_are_differentiated_one_after_the_other(case, tangents, compare):
    for count in range(1, len(case.directions) + 1):
        together = ds.DualArray(case.a, np.stack(case.directions[:count]))
        with ds.options(tangents=tangents):
            rows, rows_of_svd = ds.linalg.svdvals(together).partials, ds.linalg.svd(together).S.partials
        for i, expected in enumerate(case.lexicographic[:count]):
            # each level divides by the slopes that the one before tells apart; here they differ by 1/10 or more
            bound = TIED * EPS * max(norm2(x) for x in case.directions) * 10**i
            compare(f"row {i} of {count}", rows[i], expected, bound)
            compare(f"row {i} of {count} of svd", rows_of_svd[i], expected, bound)
    compare.verdict()


# ---------------------------------------------------------------------------------------------------------------------
# Second derivatives of singular values


def second_order_bound(case: Reference, d: np.ndarray, ds_: np.ndarray) -> np.ndarray:
    """Divides by the gap to the other values and, inside a tie, by that between slopes; each may lose its condition."""
    s, n = case.s, norm2(d)
    tied = np.abs(s[:, None] - s) <= 1e-13 * s[0]
    apart = np.where(tied, np.inf, np.abs(s[:, None] - s))
    gap = np.minimum(np.min(apart, axis=1, initial=np.inf), np.where(s > 1e-13 * s[0], s, np.inf))
    gap = np.minimum(gap, s[0] if s[0] > 0 else 1.0)
    slopes = np.abs(ds_[:, None] - ds_)
    slopes = np.where(tied & (slopes > 1e-10 * n), slopes, np.inf)
    slope = np.minimum(np.min(slopes, axis=1, initial=np.inf), n)
    unit = s[0] if s[0] > 0 else 1.0
    return TIED * EPS * (unit / gap) * (n / slope) * n * (n / gap) + 4 * SUBNORMAL


@of(*WELL_SCALED, *AT_TIES)
def test_one_sided_second_derivatives_of_values(case, compare):
    # tied to rounding only, the library sees a tie, and the matrix as it stands a second derivative of size 1e16
    chosen = resolved(case) | (case.family in AT_TIES)
    for i, (d, first, expected) in enumerate(zip(case.directions, case.ds, case.dds)):
        actual = ds.linalg.svdvals_second(case.a, d)
        assert np.isfinite(actual).all()
        compare(f"along direction {i}", actual[chosen], expected[chosen], second_order_bound(case, d, first)[chosen])
    compare.verdict()


@of("generic", "near-tie")
def test_second_derivatives_of_simple_values_by_nesting(case, compare):
    simple = gaps(case) > 1e-7 * case.s[0]  # the rule itself, differentiated, divides by the square of the gap
    if not simple.any():
        pytest.skip("no value is simple enough")
    for i, (d, first, expected) in enumerate(zip(case.directions, case.ds, case.dds)):
        actual = along(ds.linalg.svdvals, case.a, d, d)
        bound = second_order_bound(case, d, first)
        compare(f"along direction {i}", actual[simple], expected[simple], bound[simple])
    compare.verdict()


# ---------------------------------------------------------------------------------------------------------------------
# Fused primitives


@of(*WELL_SCALED, *AT_TIES, functions=True)
@pytest.mark.parametrize("algorithm", ["auto", "jacobi", "lapack"])
def test_fused_primitives_forward(case, algorithm, compare):
    with ds.options(algorithm=algorithm):
        for name, expected in smooth(case).items():
            bound = fused_bound(name, case)
            largest = first_size(expected)
            for i, d in enumerate(case.directions[:2]):
                value, derivative = ds.jvp(function(name), (case.a,), (d,))
                compare(name, value, expected.value, bound * size(expected.value) + 4 * SUBNORMAL)
                compare(f"{name} along direction {i}", derivative, expected.d[i], bound * largest + 4 * SUBNORMAL)
    compare.verdict()


@of(*WELL_SCALED, *AT_TIES, functions=True)
def test_fused_primitives_reverse(case, compare):
    for name, expected in smooth(case).items():
        w = cases.direction(expected.value.shape, seed=5, dtype=expected.value.dtype.name)
        bound = fused_bound(name, case) * first_size(expected, w) + 4 * w.size * SUBNORMAL
        if not representable(expected, case):
            continue
        _, pullback = ds.vjp(function(name), case.a)
        (gradient,) = pullback(w)
        assert gradient.shape == case.a.shape
        for i, d in enumerate(case.directions[:2]):
            compare(f"<pullback of {name}, direction {i}>", dot(gradient, d), dot(w, expected.d[i]), bound)
    compare.verdict()


@of("generic", "near-tie", "near-zero", *AT_TIES, functions=True)
def test_fused_primitives_reverse_is_the_adjoint_of_forward(case, compare):
    """Entry by entry: the gradient against forward mode along all unit matrices at once."""
    units = basis(case.a)
    for name, expected in smooth(case).items():
        w = cases.direction(expected.value.shape, seed=6, dtype=expected.value.dtype.name)
        columns = function(name)(ds.DualArray(case.a, units)).partials
        (gradient,) = ds.vjp(function(name), case.a)[1](w)
        by_forward = np.array([dot(w, column) for column in columns])
        by_reverse = np.array([dot(gradient, unit) for unit in units])
        scale = max(np.sum(np.abs(w) * np.abs(column)) for column in columns)
        compare(name, by_reverse, by_forward, fused_bound(name, case) * scale)
    compare.verdict()


@of(*WELL_SCALED, *AT_TIES, functions=True)
def test_fused_primitives_second_order_forward(case, compare):
    for name, expected in smooth(case).items():
        bound = fused_bound(name, case, order=2) * second_size(expected) + 4 * SUBNORMAL
        for (i, j), second in zip(((0, 0), (0, 1), (1, 1)), expected.dd):
            actual = along(function(name), case.a, case.directions[i], case.directions[j])
            compare(f"{name} along directions {i}, {j}", actual, second, bound)
    compare.verdict()


@of(*WELL_SCALED, *AT_TIES, functions=True)
def test_fused_primitives_second_order_forward_over_reverse(case, compare):
    for name, expected in smooth(case).items():
        w = cases.direction(expected.value.shape, seed=7, dtype=expected.value.dtype.name)
        bound = fused_bound(name, case, order=2) * second_size(expected, w) + 4 * w.size * SUBNORMAL
        if not representable(expected, case):
            continue
        for i, j, second in ((0, 0, 0), (0, 1, 1), (1, 1, 2)):
            gradient = lambda a, name=name, w=w: ds.vjp(function(name), a)[1](w)[0]  # noqa: E731
            hessian_d = along(gradient, case.a, case.directions[i])
            actual, exact = dot(hessian_d, case.directions[j]), dot(w, expected.dd[second])
            compare(f"{name} along directions {i}, {j}", actual, exact, bound)
    compare.verdict()


@of("tied", "near-tie", "deficient")
def test_numpy_functions_route_to_the_primitives(case, compare):
    routes = {
        "pinv": np.linalg.pinv,
        "opnorm": lambda a: np.linalg.norm(a, 2),
        "nuclear_norm": lambda a: np.linalg.norm(a, "nuc"),
        "norm fro": np.linalg.norm,
        "norm -2": lambda a: np.linalg.norm(a, -2),
        "cond": np.linalg.cond,
    }
    for name in routes.keys() & case.functions.keys():
        expected, d = case.functions[name], case.directions[0]
        value, derivative = ds.jvp(routes[name], (case.a,), (d,))
        bound = fused_bound(name, case)
        compare(name, value, expected.value, bound * size(expected.value))
        compare(f"derivative of {name}", derivative, expected.d[0], bound * first_size(expected))
    compare.verdict()


# ---------------------------------------------------------------------------------------------------------------------
# Through the SVD itself: exact along the direction at ties, by the direction-adapted basis


COMPOSITES: dict[str, Callable[[Any], Any]] = {
    "polar": np.ones_like,
    "pinv": lambda s: 1 / s,
    "spectral_function tanh": np.tanh,
}


@of("tied", "deficient", "zero")
@pytest.mark.parametrize("tangents", ["closed-form", "sweeps"])
def test_composites_of_the_svd_are_exact_along_a_direction_at_ties(case, tangents, compare):
    def composite(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def of_matrix(a: Any) -> Any:
            u, s, vh = ds.linalg.svd(a)
            return (u * f(s)) @ vh

        return of_matrix

    with ds.options(tangents=tangents):
        for i, d in enumerate(case.directions):
            identity = ds.jvp(composite(lambda s: s), (case.a,), (d,))[1]
            compare(f"U S V^H along direction {i}", identity, d, FUSED * EPS * size(d))
        for name, f in COMPOSITES.items():
            for i, d in enumerate(case.directions[:2] if name in case.functions else ()):
                expected = case.functions[name].d[i]
                expected = expected.conj().T if name == "pinv" else expected
                actual = ds.jvp(composite(f), (case.a,), (d,))[1]
                compare(f"{name} along direction {i}", actual, expected, FUSED * EPS * size(expected))
    compare.verdict()


DYADS = [
    (case, f)
    for case in REFERENCES.values()
    for name, f in case.functions.items()
    if name.startswith("dyad") and fused_bound(name, case) < 1e-2
]


@pytest.mark.parametrize(("case", "expected"), [pytest.param(*pair, id=pair[0].name) for pair in DYADS])
@MODES
def test_singular_vectors_move_as_they_should_forward(case, expected, settings, compare):
    """u v^H of the value with the nearest neighbour; the gap costs its digits, and no more."""
    bound = fused_bound(expected.name, case) * first_size(expected) + 4 * SUBNORMAL
    for i, d in enumerate(case.directions[:2]):
        with ds.options(**settings):
            actual = ds.jvp(function(expected.name), (case.a,), (d,))[1]
        compare(f"{expected.name} along direction {i}", actual, expected.d[i], bound)
    compare.verdict()


@pytest.mark.parametrize(
    ("case", "expected"), [pytest.param(case, f, id=case.name) for case, f in DYADS if representable(f, case)]
)
def test_singular_vectors_move_as_they_should_reverse(case, expected, compare):
    w = cases.direction(expected.value.shape, seed=8, dtype=expected.value.dtype.name)
    bound = fused_bound(expected.name, case) * first_size(expected, w) + 4 * w.size * SUBNORMAL
    (gradient,) = ds.vjp(function(expected.name), case.a)[1](w)
    for i, d in enumerate(case.directions[:2]):
        compare(f"<pullback of {expected.name}, direction {i}>", dot(gradient, d), dot(w, expected.d[i]), bound)
    compare.verdict()


# ---------------------------------------------------------------------------------------------------------------------
# Subgradients


@of("tied", "deficient", "zero", "lexicographic")
def test_reverse_mode_of_the_norms_at_ties_is_the_minimal_norm_subgradient(case, compare):
    """The subdifferential of a norm: |G| dual <= 1 and <G, A> = |A|; the element of least Frobenius norm is unique."""
    s = case.s
    top, rank = int(np.sum(s == s[0])), int(np.sum(s > 0))
    spectral = ds.gradient(ds.linalg.opnorm, case.a, mode="reverse")
    nuclear = ds.gradient(ds.linalg.nuclear_norm, case.a, mode="reverse")
    few = TIED * EPS
    compare("<G, A> is the spectral norm", dot(spectral, case.a), s[0], few * s[0])
    compare("<G, A> is the nuclear norm", dot(nuclear, case.a), np.sum(s), few * np.sum(s))
    compare("Frobenius norm of the spectral norm's", np.linalg.norm(spectral), top**-0.5 if rank else 0.0, few)
    compare("Frobenius norm of the nuclear norm's", np.linalg.norm(nuclear), rank**0.5, few)
    compare("nuclear norm of the spectral norm's", np.linalg.norm(spectral, "nuc"), 1.0 if rank else 0.0, few)
    compare("spectral norm of the nuclear norm's", np.linalg.norm(nuclear, 2), 1.0 if rank else 0.0, few)
    for d, slopes in zip(case.directions, case.ds):
        assert dot(spectral, d) <= np.max(slopes) + few * norm2(d)
        assert dot(nuclear, d) <= np.sum(slopes) + few * norm2(d) * len(s)
    compare.verdict()


@of("tied", "deficient", "zero", "lexicographic")
@pytest.mark.parametrize("tangents", ["closed-form", "sweeps"])
def test_forward_jacobians_at_ties_are_elements_of_the_b_subdifferential(case, tangents, compare):
    """All unit matrices at once: one dyad u v^H for each value, and for their sum a matrix of spectral norm one."""
    if case.a.dtype.kind == "c":
        units = basis(case.a)
        with ds.options(tangents=tangents):
            rows = ds.linalg.svdvals(ds.DualArray(case.a, units)).partials
        jacobian = np.einsum("ki,kab->iab", rows, units)
        nuclear = np.sum(jacobian, axis=0)
    else:
        with ds.options(tangents=tangents):
            jacobian = ds.jacobian(ds.linalg.svdvals, case.a, mode="forward")
            nuclear = ds.gradient(ds.linalg.nuclear_norm, case.a, mode="forward")
    few = TIED * EPS
    compare("norm of the nuclear norm's", np.linalg.norm(nuclear, 2), 1.0, few)
    compare("<G, A> is the nuclear norm", dot(nuclear, case.a), np.sum(case.s), few * max(1.0, np.sum(case.s)))
    for i, gradient in enumerate(jacobian):
        compare(f"<G_{i}, A> is the value", dot(gradient, case.a), case.s[i], few * max(1.0, case.s[0]))
        dyad_values = np.linalg.svd(gradient, compute_uv=False)
        compare(f"G_{i} is a dyad", dyad_values, np.eye(len(case.s))[0], few)
    compare.verdict()


# ---------------------------------------------------------------------------------------------------------------------
# Single precision


def as_single(x: np.ndarray) -> np.ndarray:
    return x.astype("complex64" if x.dtype.kind == "c" else "float32")


SINGLE = [
    pytest.param(case, id=case.name)
    for case in REFERENCES.values()
    if case.family in ("generic", "near-tie", *AT_TIES) and np.array_equal(as_single(case.a), case.a)
]


@pytest.mark.parametrize("case", SINGLE)
@pytest.mark.parametrize("tangents", ["closed-form", "sweeps"])
def test_single_precision_to_its_own_rounding_unit(case, tangents, compare):
    """The same matrices, exactly; the same bounds, with the rounding unit of float32."""
    eps = float(np.finfo(np.float32).eps)
    a = as_single(case.a)
    for i, d in enumerate(case.directions[:2]):
        d32 = as_single(d)
        # turning directions need not be exact in single precision; these are
        assert np.array_equal(d32, d)
        with ds.options(tangents=tangents):
            s, derivative = ds.jvp(ds.linalg.svdvals, (a,), (d32,))
        assert s.dtype == derivative.dtype == np.float32
        compare("S", s, case.s, VALUE * eps * case.s[0])
        bound = TIED * eps * norm2(d) if case.family in AT_TIES else simple_bound(case, d, eps)
        compare(f"dS along direction {i}", derivative, case.ds[i], bound)
        for name, expected in smooth(case).items():
            value, derivative = ds.jvp(function(name), (a,), (d32,))
            (gradient,) = ds.vjp(function(name), a)[1](np.ones_like(value))
            assert derivative.dtype == value.dtype and value.dtype.itemsize <= a.dtype.itemsize
            assert gradient.dtype == a.dtype
            bound = fused_bound(name, case, eps=eps) * first_size(expected)
            compare(f"{name} along direction {i}", derivative, expected.d[i], bound)
            ones = np.ones_like(expected.value)
            compare(f"reverse {name}", dot(gradient, d32), dot(ones, expected.d[i]), bound * expected.value.size)
    compare.verdict()


def test_single_precision_has_cases():
    assert {case.values[0].family for case in SINGLE} == {"generic", "near-tie", *AT_TIES}


# ---------------------------------------------------------------------------------------------------------------------
# Refinement near ties


@of("near-tie")
@pytest.mark.parametrize("refine", [1, 2])
def test_refinement_restores_the_digits_that_a_small_gap_costs(case, refine, compare):
    """One step of Ogita and Aishima squares the error: right to gaps of 1e-8, two steps to 1e-12."""
    reach = {1: 1e-8, 2: 1e-12}[refine]
    inside = gaps(case) >= 0.5 * reach * case.s[0]
    for i, d in enumerate(case.directions):
        derivative = ds.jvp(lambda a: ds.linalg.svdvals(a, refine=refine), (case.a,), (d,))[1]
        compare(f"dS along direction {i}", derivative[inside], case.ds[i][inside], TIED * EPS * norm2(d))
        for name, expected in case.functions.items():
            if name.startswith("dyad") and inside[k := int(name.split()[1])]:
                value, tangent = ds.jvp(dyad(k, refine=refine), (case.a,), (d,))
                compare(f"{name} along direction {i}", tangent, expected.d[i], FUSED * EPS * size(expected.d[i]))
                w = cases.direction(value.shape, seed=9, dtype=value.dtype.name)
                (gradient,) = ds.vjp(dyad(k, refine=refine), case.a)[1](w)
                bound = FUSED * EPS * first_size(expected, w)
                compare(f"pullback of {name}, direction {i}", dot(gradient, d), dot(w, expected.d[i]), bound)
    compare.verdict()


@pytest.mark.parametrize("name", ["gap 1e-8 4x4", "gap 1e-8 on top 5x3", "gap 1e-8 at the end, complex 3x4"])
def test_refinement_gains_digits(name):
    case = REFERENCES[name]
    k = next(int(name.split()[1]) for name in case.functions if name.startswith("dyad"))
    expected = case.functions[f"dyad {k}"].d[0]

    def error(refine: int) -> float:
        return size(ds.jvp(dyad(k, refine=refine), (case.a,), (case.directions[0],))[1] - expected) / size(expected)

    errors = [error(refine) for refine in (0, 1, 2)]
    assert errors[0] > 1e-10, f"{errors}: the case is too easy to show anything"
    assert max(errors[1:]) < 1e-3 * errors[0], errors


# ---------------------------------------------------------------------------------------------------------------------
# Batches that mix what is healthy, tied, zero, badly scaled and not finite


HEALTHY = (
    "generic 3x3",
    "tied pair on top 3x3",
    "zero 3x3",
    "ones 3x3",
    "one zero value 3x3",
    "diagonal, a zero",
    "tied, tiny 3x3",
    "near overflow 3x3",
    "subnormal 3x3",
)


def mixed() -> tuple[np.ndarray, np.ndarray, list[int]]:
    """(A, D, where the cases of HEALTHY went): between them matrices with a NaN or an infinity."""
    bad = [np.full((3, 3), np.nan), np.where(np.eye(3) == 1, np.inf, 0.5)]
    a, d, positions = [], [], []
    for i, name in enumerate(HEALTHY):
        if i % 4 == 1:
            a.append(bad[i // 4 % 2])
            d.append(np.ones((3, 3)))
        positions.append(len(a))
        a.append(REFERENCES[name].a)
        d.append(REFERENCES[name].directions[0])
    return np.stack(a), np.stack(d), positions


@pytest.mark.parametrize("tangents", ["closed-form", "sweeps"])
@pytest.mark.parametrize("order", ["as listed", "reversed"])
def test_each_matrix_of_a_mixed_batch_as_if_alone(tangents, order, compare):
    a, d, positions = mixed()
    if order == "reversed":
        a, d = a[::-1], d[::-1]
        positions = [len(a) - 1 - p for p in positions]
    with ds.options(nonfinite="propagate", tangents=tangents):
        s, derivative = ds.jvp(ds.linalg.svdvals, (a,), (d,))
        value, tangent = ds.jvp(function("spectral_function tanh"), (a,), (d,))
        gradient = ds.gradient(lambda a: np.sum(ds.linalg.opnorm(a)[positions]), a, mode="reverse")
    others = np.setdiff1d(np.arange(len(a)), positions)
    for what, result in (("S", s), ("dS", derivative), ("U tanh(S) V^H", value), ("its derivative", tangent)):
        assert np.isnan(result[others]).all(), f"{what} of a matrix that is not finite"
    for name, p in zip(HEALTHY, positions):
        case = REFERENCES[name]
        compare(f"S of {name}", s[p], case.s, VALUE * EPS * case.s[0] + SUBNORMAL)
        bound = TIED * EPS * norm2(d[p]) if case.family in AT_TIES else simple_bound(case, d[p])
        if name != "tied, tiny 3x3":
            compare(f"dS of {name}", derivative[p], case.ds[0], np.minimum(bound, norm2(d[p])))
        if expected := case.functions.get("spectral_function tanh"):
            few = FUSED * EPS
            compare(f"U tanh(S) V^H of {name}", value[p], expected.value, few * size(expected.value) + 4 * SUBNORMAL)
            compare(f"its derivative at {name}", tangent[p], expected.d[0], few * first_size(expected) + 4 * SUBNORMAL)
        alone = ds.gradient(ds.linalg.opnorm, case.a, mode="reverse")
        compare(f"gradient of opnorm at {name}", gradient[p], alone, TIED * EPS)
    compare.verdict()


def test_a_mixed_batch_is_refused_unless_asked_to_propagate():
    a, d, _ = mixed()
    with pytest.raises(ds.NonFiniteError, match="1"):
        ds.linalg.svdvals(a)
    with pytest.raises(ds.NonFiniteError):
        ds.jvp(ds.linalg.svdvals, (a,), (d,))


@pytest.mark.parametrize("name", ["polar", "pinv", "spectral_function tanh", "norm fro", "nuclear_norm"])
def test_fused_primitives_of_a_batch_are_those_of_its_matrices(name, compare):
    batch = [case for case in REFERENCES.values() if name in case.functions and case.a.shape == (4, 4)]
    batch = [case for case in batch if case.family != "ill-conditioned" and case.a.dtype == np.float64]
    a, d = np.stack([case.a for case in batch]), np.stack([case.directions[0] for case in batch])
    value, derivative = ds.jvp(function(name), (a,), (d,))
    (gradient,) = ds.vjp(function(name), a)[1](np.ones_like(value))
    for i, case in enumerate(batch):
        expected = case.functions[name]
        bound = fused_bound(name, case)
        compare(f"{name} of {case}", value[i], expected.value, bound * size(expected.value))
        compare(f"{name} of {case}, forward", derivative[i], expected.d[0], bound * first_size(expected))
        exact = dot(np.ones_like(expected.value), expected.d[0])
        scale = first_size(expected, np.ones_like(expected.value))
        compare(f"{name} of {case}, reverse", dot(gradient[i], case.directions[0]), exact, bound * scale)
    compare.verdict()
