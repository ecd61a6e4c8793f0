"""Every registered rule at its own examples: its two directions against each other, against differences, and nested."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import dualsvd as ds
import dualsvd.spectral  # brings a rule of its own
from dualsvd.rules.registry import RULES

# <y_bar, J v> and <J^T y_bar, v> differ by the rounding of two products and of the rule itself
ADJOINT = {"f": 1e-5, "d": 1e-13}
# central differences of step h err by h^2 |f'''| / 6 + eps |f| / h; these are taken with h = 2^-17, in double precision
STEP = 2.0**-17
DIFFERENCES = 1e-7
# a second derivative divides by more, and rounds twice
SECOND_ORDER = {"f": 1e-3, "d": 1e-10}
# a few seeds, so that no example is right by the luck of one draw
SEEDS = (0, 1)

every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


class Example:
    """A rule at operands: as a function of those that hold floating-point numbers."""

    def __init__(self, rule, operands, params, rng):
        self.rule, self.operands, self.params, self.rng = rule, operands, params, rng
        self.moving = [k for k, x in enumerate(operands) if np.asarray(x).dtype.kind in "fc"]
        self.x = tuple(np.asarray(operands[k]) for k in self.moving)
        self.y = self(*self.x)
        precisions = [np.finfo(x.dtype).dtype.char for x in (*self.x, *self.y)]
        self.precision = "f" if "f" in precisions else "d"

    def __call__(self, *x):
        operands = list(self.operands)
        for k, variable in zip(self.moving, x):
            operands[k] = variable
        y = self.rule(*operands, **self.params)
        return tuple(y) if isinstance(y, tuple) else (y,)

    def __str__(self):
        kinds = ", ".join(f"{np.asarray(x).dtype}{list(np.shape(x))}" for x in self.operands)
        return f"{self.rule.name}({kinds}, {self.params})"

    def direction(self):
        return tuple(like(x, self.rng) for x in self.x)

    def push(self, v):
        return ds.jvp(self, self.x, v)[1]

    def pullback(self):
        """The pullback with a cotangent it takes: one of the image of the pushforward where values have a gauge."""
        pull = ds.vjp(self, *self.x)[1]
        y_bar = tuple(like(y, self.rng) for y in self.y)
        try:
            pull(y_bar)
        except ds.GaugeError:
            y_bar = self.push(self.direction())
        return pull, y_bar


def like(x, rng):
    v = rng.standard_normal(np.shape(x))
    if np.iscomplexobj(x):
        v = v + 1j * rng.standard_normal(np.shape(x))
    return np.asarray(v, dtype=np.result_type(x))


def inner(a, b):
    return sum(float(np.real(np.vdot(p, q))) for p, q in zip(a, b))


def size(a):
    return np.sqrt(inner(a, a))


def examples(rule, seeds=SEEDS):
    found = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        for operands, params in rule.examples(rng):
            found += 1
            example = Example(rule, operands, params, rng)
            if example.x:
                yield example
    assert found, f"{rule.name} has no example: nothing shows that it is right"


def at_every_example(test, seeds=SEEDS):
    @every_rule
    @functools.wraps(test)
    def over_examples(rule):
        for example in examples(rule, seeds):
            try:
                test(example)
            except Exception as error:
                error.add_note(f"at {example}")
                raise

    del over_examples.__wrapped__  # pytest would look for a fixture called "example"
    return over_examples


# nested derivatives take long: one draw is enough
at_every_example_once = functools.partial(at_every_example, seeds=SEEDS[:1])


def test_no_two_rules_share_a_name():
    names = [rule.name for rule in RULES]
    assert len(names) == len(set(names))


@every_rule
def test_it_comes_with_examples_in_both_precisions(rule):
    precisions = {example.precision for example in examples(rule)}
    assert "d" in precisions
    assert "f" in precisions or rule.name == "polygamma"


@at_every_example
def test_tangents_leave_the_value_alone(example):
    for y, y_dual in zip(example.y, ds.jvp(example, example.x, example.direction())[0]):
        tolerance = 64 * np.finfo(np.result_type(y)).eps * np.max(np.abs(y), initial=0.0)
        np.testing.assert_allclose(y_dual, y, rtol=0, atol=tolerance)


@at_every_example
def test_shapes_and_dtypes_are_kept(example):
    pull, y_bar = example.pullback()
    for y, y_dot in zip(example.y, example.push(example.direction())):
        assert (np.shape(y), np.result_type(y)) == (np.shape(y_dot), np.result_type(y_dot))
    for x, x_bar in zip(example.x, pull(y_bar)):
        assert (np.shape(x), np.result_type(x)) == (np.shape(x_bar), np.result_type(x_bar))


@at_every_example
def test_adjoint_identity(example):
    v = example.direction()
    y_dot = example.push(v)
    pull, y_bar = example.pullback()
    x_bar = pull(y_bar)
    scale = max(size(y_bar) * size(y_dot), size(x_bar) * size(v))
    assert abs(inner(y_bar, y_dot) - inner(x_bar, v)) <= ADJOINT[example.precision] * scale


@at_every_example
def test_pushforward_against_differences(example):
    if example.precision == "f":  # the same rule; the difference quotients would have no digits
        return
    v = example.direction()
    there, here = (example(*(x + sign * STEP * d for x, d in zip(example.x, v))) for sign in (1, -1))
    for y, y_dot, a, b in zip(example.y, example.push(v), there, here):
        scale = 1 + np.max(np.abs(y), initial=0.0) + np.max(np.abs(y_dot), initial=0.0)  # operands are of order 1
        np.testing.assert_allclose(y_dot, (a - b) / (2 * STEP), rtol=0, atol=DIFFERENCES * scale)


@at_every_example
def test_several_directions_at_once_equal_one_by_one(example):
    directions = [example.direction() for _ in range(3)]
    together = push_together(example, directions)
    for k, v in enumerate(directions):
        for y_dots, y_dot in zip(together, example.push(v)):
            tolerance = 64 * np.finfo(np.result_type(y_dot)).eps * np.max(np.abs(y_dot), initial=0.0)
            np.testing.assert_allclose(y_dots[k], y_dot, rtol=0, atol=tolerance)


def push_together(example, directions):
    duals = [ds.DualArray(x, np.stack([v[k] for v in directions])) for k, x in enumerate(example.x)]
    empty = np.zeros(len(directions))
    return [
        y.partials if isinstance(y, ds.DualArray) else np.multiply.outer(empty, np.zeros_like(y))
        for y in example(*duals)
    ]


@at_every_example_once
def test_second_derivatives_are_symmetric(example):
    """d/dx <y_bar, J(x) v> along w is symmetric in v and w, by forward over reverse."""
    _, y_bar = example.pullback()
    v, w = example.direction(), example.direction()

    def gradient(*x):
        return ds.vjp(example, *x)[1](y_bar)

    try:
        Hv, Hw = (ds.jvp(gradient, example.x, u)[1] for u in (v, w))
    except (ds.GaugeError, ds.DegenerateError):  # moving x by an outer derivative, a fixed y_bar leaves the image
        return
    scale = max(size(Hv) * size(w), size(Hw) * size(v), size(gradient(*example.x)) * size(v) * size(w))
    assert abs(inner(Hv, w) - inner(Hw, v)) <= SECOND_ORDER[example.precision] * scale


@at_every_example_once
def test_forward_over_forward_equals_forward_over_reverse(example):
    _, y_bar = example.pullback()
    v, w = example.direction(), example.direction()
    try:
        Hw = ds.jvp(lambda *x: ds.vjp(example, *x)[1](y_bar), example.x, w)[1]
    except (ds.GaugeError, ds.DegenerateError):
        return
    second = ds.jvp(lambda *x: ds.jvp(example, x, v)[1], example.x, w)[1]
    scale = max(size(y_bar) * size(second), size(Hw) * size(v), size(y_bar) * size(example.push(v)) * size(w))
    assert abs(inner(y_bar, second) - inner(Hw, v)) <= SECOND_ORDER[example.precision] * scale


@at_every_example
def test_linearize_pushes_as_jvp_does(example):
    """Along a direction, and along a number that is added to every operand: its tangent has to be broadcast."""
    number = np.zeros((), np.result_type(example.x[0]).type(0).real.dtype)
    cases = (
        (example, example.x, example.direction()),
        (lambda s: example(*(x + s for x in example.x)), (number,), (np.ones_like(number),)),
    )
    for f, at, v in cases:
        for expected, pushed in zip(ds.jvp(f, at, v)[1], ds.linearize(f, *at)[1](*v)):
            assert (np.shape(pushed), np.result_type(pushed)) == (np.shape(expected), np.result_type(expected))
            tolerance = 64 * np.finfo(np.result_type(expected)).eps * np.max(np.abs(expected), initial=0.0)
            np.testing.assert_allclose(pushed, expected, rtol=0, atol=tolerance)
