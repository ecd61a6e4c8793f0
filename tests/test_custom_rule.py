"""Rules of the user's own: what their functions return is taken for what it is, or refused."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

import dualsvd as ds
from dualsvd.rules.custom import CUSTOM

MODES = ("forward", "reverse")
POINT = np.array([1.0, 5.0, 2.0])
W = np.array([0.5, 0.25, 0.1])


class Pair(NamedTuple):
    once: object
    twice: object


def own_rule(*functions, **named):
    """A rule that is no business of check_rules() in other tests."""
    rule = ds.custom_rule(*functions, **named)
    CUSTOM.discard(rule)
    return rule


def passed_on(y, operands, tangents):
    return tangents[0]


# Functions that have no derivative, or another one, for NumPy's rules.
rounded = own_rule(lambda x: np.round(x).astype(int), passed_on, lambda y_bar, y, x: y_bar)
positive = own_rule(lambda x: x > 0, lambda y, x, dx: dx[0] / 2, lambda y_bar, y, x: y_bar / 2)
reversing = own_rule(lambda x: x, lambda y, x, dx: -dx[0], lambda y_bar, y, x: -y_bar)
flat = own_rule(np.ravel, lambda y, x, dx: np.ravel(dx[0]), lambda y_bar, y, x: y_bar.reshape(x[0].shape))
top = own_rule(
    lambda x: (np.max(x), np.argmax(x)),
    lambda y, x, dx: (dx[0][y[1]], None),
    lambda y_bar, y, x: y_bar[0] * np.eye(3)[y[1]],
)
product = own_rule(
    lambda a, b: a * b,
    lambda y, x, dx: dx[0] * x[1] + x[0] * dx[1],
    lambda y_bar, y, x: [y_bar * x[1], y_bar * x[0]],
)
multiples = own_rule(
    lambda x: [x, 3 * x], lambda y, x, dx: [dx[0], 3 * dx[0]], lambda y_bar, y, x: [y_bar[0] + 3 * y_bar[1]]
)
pair = own_rule(
    lambda x: Pair(x, 2 * x), lambda y, x, dx: Pair(dx[0], 2 * dx[0]), lambda y_bar, y, x: y_bar.once + 2 * y_bar.twice
)
constant = own_rule(np.floor, lambda y, x, dx: None, lambda y_bar, y, x: None)


def written_after(x):
    y = x * 1.0
    z = reversing(y)
    z += 1
    return z**2 + 10 * y**2


def operand_written_after(x):
    y = np.reshape(x * 1.0, (3, 1))
    z = flat(y)
    y *= 2
    return z**2


everywhere = own_rule(  # 7 sum(x) in every place, derivatives as a number
    lambda x: np.full(x.shape, 7 * np.sum(x)), lambda y, x, dx: 7 * np.sum(dx[0]), lambda y_bar, y, x: 7 * np.sum(y_bar)
)


DERIVATIVES = {
    "integers": (lambda x: rounded(1.5 * x), np.diag([1.5, 1.5, 1.5])),
    "integers, weighed": (lambda x: rounded(x) * W, np.diag(W)),
    "the largest of integers": (lambda x: np.max(rounded(x)), np.array([0.0, 1.0, 0.0])),
    "singular values of integers": (lambda x: ds.svdvals(np.diag(rounded(x))), np.eye(3)[[1, 2, 0]]),
    "truths": (lambda x: positive(x) * 4.0, 2 * np.eye(3)),
    "an index beside a number": (lambda x: x[top(x)[1]] ** 2 + top(x)[0], np.array([0.0, 11.0, 0.0])),
    "cotangents in a list": (lambda x: product(x, x + 1), np.diag(2 * POINT + 1)),
    "a cotangent to be summed": (lambda x: np.sum(product(x, np.sum(x))), np.full(3, 16.0)),
    "outputs in a list": (lambda x: multiples(x)[0] * multiples(x)[1], np.diag(6 * POINT)),
    "named outputs": (lambda x: pair(x).once * pair(x).twice, np.diag(4 * POINT)),
    "numbers for arrays": (everywhere, np.full((3, 3), 7.0)),
    "no derivative": (lambda x: constant(x) + x, np.eye(3)),
    "the operand itself, written later": (written_after, np.diag(-2 * (POINT + 1) + 20 * POINT)),
    "a view of an operand that is written later": (operand_written_after, np.diag(2 * POINT)),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives_are_those_of_the_rule_and_values_those_of_the_function(name, mode):
    f, expected = DERIVATIVES[name]
    y, J = ds.value_and_jacobian(f, POINT, mode=mode)
    assert J.dtype == np.float64
    np.testing.assert_array_equal(J, expected)
    np.testing.assert_array_equal(y, f(POINT))


@pytest.mark.parametrize("mode", MODES)
def test_of_nothing_there_is_nothing_to_differentiate(mode):
    assert ds.jacobian(lambda x: product(x, x), np.zeros(0), mode=mode).shape == (0, 0)
    assert ds.jacobian(lambda x: pair(x).twice, np.zeros((0, 2)), mode=mode).shape == (0, 2, 0, 2)


def test_a_dual_number_goes_by_the_rule():
    assert np.array_equal(reversing(ds.Dual(2.0, (1.0, 3.0))).partials, [-1.0, -3.0])


def by(push=None, pull=None, f=lambda a, b: a * b):
    """A rule of two operands, by what its functions return."""
    return own_rule(
        f,
        pushforward=lambda y, x, dx: push(dx[0]) if callable(push) else push,
        pullback=lambda y_bar, y, x: pull(y_bar) if callable(pull) else pull,
    )


def both(f):
    return by(lambda v: v, lambda v: (v, v), f)


def two(a, b):
    return a + b, a - b


REFUSED = {
    "one cotangent for two operands": (by(pull=lambda v: v), "reverse", ds.ShapeError, "tuple of 2, got a single"),
    "three cotangents": (by(pull=lambda v: (v, v, v)), "reverse", ds.ShapeError, "tuple of 2, got one of 3"),
    "a large cotangent": (by(pull=(np.ones((2, 3)), None)), "reverse", ds.ShapeError, r"\(3,\), got \(2, 3\)"),
    "a small cotangent": (by(pull=(np.ones(1), None)), "reverse", ds.ShapeError, r"\(3,\), got \(1,\)"),
    "a large cotangent in time": (by(pull=lambda v: (lambda: v[None], v)), "reverse", ds.ShapeError, r"got \(1, 3\)"),
    "words for a cotangent": (by(pull=("one", "two")), "reverse", ds.DTypeError, "arrays of numbers, got str"),
    "a small tangent": (by(push=np.ones(1)), "forward", ds.ShapeError, r"\(3,\), got \(1,\)"),
    "a complex tangent": (by(push=lambda v: v * 1j), "forward", ds.DTypeError, "np.real"),
    "one tangent of two": (by(push=lambda v: (v,), f=two), "forward", ds.ShapeError, "tuple of 2, got one of 1"),
    "rows for tangents": (by(push=np.ones((2, 3)), f=two), "forward", ds.ShapeError, "tuple of 2, got a single"),
    "a dict of outputs": (both(lambda a, b: {"a": a}), "forward", ds.DTypeError, "arrays of numbers, got dict"),
    "outputs of unequal lengths": (both(lambda a, b: ([[1.0], [1.0, 2.0]], a)), "reverse", ds.DTypeError, "got list"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name):
    rule, mode, error, message = REFUSED[name]
    with pytest.raises(error, match=message) as refusal:
        ds.jacobian(lambda x: rule(x, x)[0], POINT, mode=mode)
    assert "<lambda>" in str(refusal.value) or "two" in str(refusal.value)


def by_closure(x):
    return both(lambda a, b: a * x)(x, x)


WAYS_OUT = {
    "a list": (lambda x: both(two)([x[0], x[1]], 1.0), "np.stack"),
    "a tuple of a tuple": (lambda x: both(two)(((x[0], 1.0), x[1]), 1.0), "np.stack"),
    "a keyword": (lambda x: both(lambda a, b, scale: a * b * scale)(x, x, scale=x), "scale="),
    "a keyword alone": (lambda x: both(lambda a, b, scale: a * b * scale)(1.0, 2.0, scale=x), "scale="),
    "from outside": (by_closure, "from outside"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", WAYS_OUT)
def test_numbers_of_a_derivative_come_as_operands(name, mode):
    f, message = WAYS_OUT[name]
    with pytest.raises(ds.MissingRuleError, match=rf"{message}.*test_custom_rule\.py|test_custom_rule\.py.*{message}"):
        ds.jacobian(f, POINT, mode=mode)


@pytest.mark.parametrize("part", ["y", "operand", "vector"])
@pytest.mark.parametrize("mode", MODES)
def test_what_a_rule_is_given_cannot_be_written(mode, part):
    def write(y, operand, vector):
        {"y": y, "operand": operand, "vector": vector}[part][...] = 7.0
        return vector

    rule = own_rule(lambda x: 2 * x, lambda y, x, dx: write(y, x[0], dx[0]), lambda y_bar, y, x: write(y, x[0], y_bar))
    with pytest.raises(ValueError, match="read-only"):
        ds.jacobian(rule, POINT, mode=mode)


@pytest.mark.parametrize(("part", "given"), [("f", 3), ("f", None), ("pushforward", 3), ("pullback", 3)])
def test_all_parts_are_functions(part, given):
    parts = {"f": np.sin, "pushforward": passed_on} | {part: given}
    with pytest.raises(TypeError, match=f"{part} of custom_rule must be a function, got {given}"):
        ds.custom_rule(**parts)


@pytest.mark.parametrize("name", ["add", "subtract", "times"])
def test_constants_are_kept_whatever_the_function_is_called(name):
    def times(x, c):
        return x * c

    times.__name__ = name
    rule = own_rule(times, pullback=lambda y_bar, y, x: (y_bar * x[1], y_bar * x[0]))
    c = np.array([2.0, 3.0])
    _, pullback = ds.vjp(lambda x: rule(x, c), np.ones(2))
    c[:] = 100.0
    assert np.array_equal(pullback(np.ones(2))[0], [2.0, 3.0])
