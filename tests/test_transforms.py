"""The transforms: nesting, modes against each other, chunks, structures, complex numbers, and what they refuse."""

from __future__ import annotations

import contextvars
import inspect
import itertools
import pickle
import sys
import threading
from collections import OrderedDict, defaultdict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import dualsvd as ds
from dualsvd.rules import levels

MODES = ("forward", "reverse", "auto")


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def rosenbrock_gradient(x):
    return np.array([-2 * (1 - x[0]) - 400 * x[0] * (x[1] - x[0] ** 2), 200 * (x[1] - x[0] ** 2)])


def rosenbrock_hessian(x):
    return np.array([[2 - 400 * (x[1] - 3 * x[0] ** 2), -400 * x[0]], [-400 * x[0], 200.0]])


# The classics of perturbation confusion (Siskind and Pearlmutter 2005; Manzyuk et al. 2019).
def _outer_constant(d):
    return d(lambda x: x * d(lambda y: x + y, 1.0), 1.0), 1.0


def _outer_factor(d):
    return d(lambda x: x * d(lambda y: x * y, 2.0), 3.0), 6.0


def _same_function(d):
    def f(x):
        return x**3

    return d(lambda x: d(lambda y: f(y) * x, x), 2.0), 6 * 2.0 * 2.0 + 3 * 4.0


def _function_valued(d):
    def shifted(offset):
        return lambda x: d(lambda y: np.sin(y + offset), x)

    return d(lambda offset: shifted(offset)(0.5), 0.25), -np.sin(0.75)


def _inner_ignores_its_variable(d):
    return d(lambda x: d(lambda y: x * x, 1.0) + x, 1.0), 1.0


def _three_levels(d):
    return d(lambda x: d(lambda y: d(lambda z: np.exp(x * y * z), 1.0), 1.0), 1.0), 5 * np.e


@pytest.mark.parametrize(
    "case",
    [
        _outer_constant,
        _outer_factor,
        _same_function,
        _function_valued,
        _inner_ignores_its_variable,
        _three_levels,
    ],
)
@pytest.mark.parametrize("mode", ("dual", "forward", "reverse"))
def test_nested_derivatives_are_not_confused(case, mode):
    def d(f, t):
        return ds.derivative(f, t) if mode == "dual" else ds.gradient(f, t, mode=mode)

    came, right = case(d)
    np.testing.assert_allclose(came, right, rtol=1e-14)


@pytest.mark.parametrize("outer", ("forward", "reverse"))
@pytest.mark.parametrize("inner", ("forward", "reverse"))
def test_modes_nest_in_any_order(outer, inner):
    x = np.array([1.2, -0.7])
    H = ds.jacobian(lambda z: ds.gradient(rosenbrock, z, mode=inner), x, mode=outer)
    np.testing.assert_allclose(H, rosenbrock_hessian(x), rtol=1e-13)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("x", ([1.2, 1.0], [-0.5, 2.0], [1.0, 1.0]), ids=str)
def test_rosenbrock(mode, x):
    x = np.array(x)
    y, G = ds.value_and_gradient(rosenbrock, x, mode=mode)
    assert y == rosenbrock(x)
    np.testing.assert_allclose(G, rosenbrock_gradient(x), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(ds.hessian(rosenbrock, x, mode=mode), rosenbrock_hessian(x), rtol=1e-13)
    v = np.array([0.3, -2.0])
    np.testing.assert_allclose(ds.hvp(rosenbrock, x, v), rosenbrock_hessian(x) @ v, rtol=1e-13)


def test_third_derivative_by_nesting():
    d = ds.derivative
    third = d(lambda x: d(lambda y: d(lambda z: np.sin(z) ** 3, y), x), 0.3)
    s, c = np.sin(0.3), np.cos(0.3)
    np.testing.assert_allclose(third, 6 * c**3 - 21 * s**2 * c, rtol=1e-13)


def network(x):
    W = np.arange(12.0).reshape(4, 3) / 10
    return np.tanh(W @ x) * np.sum(x * x)


@pytest.mark.parametrize("chunk", (1, 2, 3, 7, None))
def test_the_result_does_not_depend_on_the_chunk(chunk):
    x = np.array([0.3, -1.0, 2.0])
    whole = ds.jacobian(network, x, mode="forward", chunk=3)
    assert np.array_equal(ds.jacobian(network, x, mode="forward", chunk=chunk), whole)
    np.testing.assert_allclose(ds.jacobian(network, x, mode="reverse"), whole, rtol=1e-13, atol=1e-15)


def test_max_bytes_bounds_the_chunk_and_not_the_result():
    x = np.linspace(0.1, 1.0, 3)
    whole = ds.jacobian(network, x, mode="forward")
    with ds.options(max_bytes=1):
        assert np.array_equal(ds.jacobian(network, x, mode="forward"), whole)


@pytest.mark.parametrize("mode", MODES)
def test_structures_keep_their_shape(mode):
    x = {"W": np.array([[1.0, 2.0], [3.0, 4.0]]), "rest": [np.array([0.5, -0.5]), (2.0,)]}

    def f(p):
        return np.sum(p["W"] @ p["rest"][0]) * p["rest"][1][0]

    G = ds.gradient(f, x, mode=mode)
    assert G["W"].shape == (2, 2) and isinstance(G["rest"], list) and isinstance(G["rest"][1], tuple)
    np.testing.assert_allclose(G["W"], np.tile([1.0, -1.0], (2, 1)))
    np.testing.assert_allclose(G["rest"][0], [8.0, 12.0])
    np.testing.assert_allclose(G["rest"][1][0], -1.0)


@pytest.mark.parametrize("mode", MODES)
def test_argnum_and_further_arguments(mode):
    G = ds.gradient(lambda a, b: np.sum(a * b**2), np.ones(3), np.array([1.0, 2.0, 3.0]), argnum=1, mode=mode)
    np.testing.assert_allclose(G, [2.0, 4.0, 6.0])
    assert np.array_equal(ds.gradient(lambda a, b: np.sum(a * b), 1.0, np.ones(2), argnum=-1, mode=mode), [1.0, 1.0])


@pytest.mark.parametrize("mode", MODES)
def test_complex_gradient_pairs_with_tangents_by_the_real_inner_product(mode):
    rng = np.random.default_rng(0)
    A, D = (rng.standard_normal((2, 3)) + 1j * rng.standard_normal((2, 3)) for _ in range(2))

    def f(A):
        return np.sum(np.abs(A) ** 3) + np.real(np.sum(A * A))

    G = ds.gradient(f, A, mode=mode)
    h = 1e-6
    np.testing.assert_allclose(np.vdot(G, D).real, (f(A + h * D) - f(A - h * D)) / (2 * h), rtol=1e-8)
    _, dy = ds.jvp(f, (A,), (D,))
    np.testing.assert_allclose(np.vdot(G, D).real, dy, rtol=1e-13)


@pytest.mark.parametrize("mode", MODES)
def test_holomorphic_jacobian(mode):
    z = np.array([0.3 + 0.4j, -1.0 + 0.2j])
    J = ds.jacobian(lambda z: np.exp(z) * np.sum(z), z, mode=mode, holomorphic=True)
    np.testing.assert_allclose(J, np.diag(np.exp(z) * np.sum(z)) + np.exp(z)[:, None], rtol=1e-13)


@pytest.mark.parametrize("mode", MODES)
def test_complex_values_of_real_variables(mode):
    x = np.array([0.3, -1.0])
    J = ds.jacobian(lambda x: np.exp(1j * x), x, mode=mode)
    np.testing.assert_allclose(J, np.diag(1j * np.exp(1j * x)), rtol=1e-13)


def test_vjp_is_the_adjoint_of_jvp_and_can_be_called_again():
    rng = np.random.default_rng(1)
    a, b, da, db = rng.standard_normal((4, 3))

    def f(a, b):
        return {"outer": a[:, None] * b, "sum": np.sum(np.sin(a))}

    y, dy = ds.jvp(f, (a, b), (da, db))
    value, pullback = ds.vjp(f, a, b)
    _, push = ds.linearize(f, a, b)
    assert np.array_equal(value["outer"], y["outer"])
    for seed in (2, 3):
        bars = {"outer": np.random.default_rng(seed).standard_normal((3, 3)), "sum": 1.5}
        a_bar, b_bar = pullback(bars)
        left = np.vdot(bars["outer"], dy["outer"]) + bars["sum"] * dy["sum"]
        np.testing.assert_allclose(left, a_bar @ da + b_bar @ db, rtol=1e-13)
    pushed = push(da, db)
    np.testing.assert_allclose(pushed["outer"], dy["outer"], rtol=1e-14)
    np.testing.assert_allclose(pushed["sum"], dy["sum"], rtol=1e-14)


def _running_product(x):
    out = np.zeros_like(x)
    out[0] = x[0]
    for i in range(1, len(x)):
        out[i] = out[i - 1] * np.sin(x[i])
    return out


def _through_a_view(x):
    table = np.zeros_like(x, shape=(2, 3))
    row = table[1]
    row[:] = x * x
    table[0] = row + 1.0
    table[1, 2] = x[0]
    return row * table[0]


def _overwritten(x):
    x[0] = 2.0
    return x * x


def _added_in_place(x):
    y = np.copy(x)
    y += x**2
    y[1:] *= x[:-1]
    return y


def _shifted_and_written(x):
    y = x + 1.0
    x[0] = 3.0 * x[1]
    z = y - 2.0
    z[1] = 0.5 * z[0] * x[2]
    row = z[1:]
    u = 1.0 + z
    row[0] = 7.0 * x[2] * u[1]
    return x * y + z * u + np.sum(row)


def _written_through_an_older_view(x):
    row = x[1:]
    y = x - 1.0
    row[0] = x[0] * y[2]
    y += x
    return x * y


def _written_into_itself(x):
    y = x + 0.0
    y[:2] = y[1:] + x[0]
    x[...] = y + 1.0
    return x * y


WRITING = (
    _running_product,
    _through_a_view,
    _added_in_place,
    _shifted_and_written,
    _written_through_an_older_view,
    _written_into_itself,
)


@pytest.mark.parametrize("f", WRITING)
def test_what_writes_in_place_leaves_the_arguments_alone(f):
    x, v = np.array([0.7, 1.3, 2.1]), np.array([1.0, -2.0, 0.5])
    given = x.copy(), v.copy()
    ds.jvp(f, (x,), (v,))
    ds.jvp(_overwritten, (x,), (v,))
    assert np.array_equal(x, given[0])
    assert np.array_equal(v, given[1])


@pytest.mark.parametrize("f", WRITING)
def test_in_place_writing(f):
    x = np.array([0.3, 1.2, -0.7])
    kept = x.copy()
    h = 1e-6
    differences = np.stack([(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(3)], axis=-1)
    for mode in ("forward", "reverse"):
        np.testing.assert_allclose(ds.jacobian(f, x, mode=mode, chunk=2), differences, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(ds.jacobian(f, x, mode=mode), differences, rtol=1e-8, atol=1e-9)
    columns = np.stack([ds.jvp(f, (x,), (e,))[1] for e in np.eye(3)], axis=-1)
    np.testing.assert_allclose(columns, differences, rtol=1e-8, atol=1e-9)
    assert np.array_equal(x, kept)


def test_the_argument_of_the_caller_is_never_written():
    def f(x):
        x *= 2
        return np.sum(x)

    for mode in MODES:
        x = np.ones(3)
        assert np.array_equal(ds.gradient(f, x, mode=mode), np.full(3, 2.0))
        assert np.array_equal(x, np.ones(3))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("f", "expected"),
    [(lambda x: 3.0, 0.0), (lambda x: np.sum(np.ones(2)), 0.0), (lambda x: np.sum(x[:0]), 0.0)],
    ids=("number", "plain array", "empty slice"),
)
def test_constants_have_zero_derivative(mode, f, expected):
    assert np.array_equal(ds.gradient(f, np.ones(3), mode=mode), np.full(3, expected))


@pytest.mark.parametrize("mode", ("forward", "reverse"))
@pytest.mark.parametrize("shape", ((0,), (2, 0), ()), ids=str)
def test_empty_and_scalar_arguments(mode, shape):
    x = np.ones(shape)
    assert ds.gradient(lambda x: np.sum(x * x), x, mode=mode).shape == shape
    assert ds.jacobian(lambda x: x * 2, x, mode=mode).shape == shape + shape


@pytest.mark.parametrize("mode", MODES)
def test_float32_is_kept_and_integers_become_float64(mode):
    assert ds.gradient(lambda x: np.sum(np.sin(x) * 2), np.ones(2, np.float32), mode=mode).dtype == np.float32
    assert ds.gradient(lambda x: np.sum(x * x), np.array([1, 2]), mode=mode).dtype == np.float64


@pytest.mark.parametrize("mode", MODES)
def test_each_leaf_has_a_derivative_of_its_precision(mode):
    x, z = (np.float32([1, 2]), np.array([3.0, 4.0])), np.complex64([1j, 2])
    for result in (
        ds.gradient(lambda x: np.sum(x[0] * x[1]), x, mode=mode),
        ds.jacobian(lambda x: x[0] * x[1], x, mode=mode),
    ):
        assert [part.dtype for part in result] == [np.float32, np.float64]
    assert ds.gradient(lambda z: np.sum(abs(z) * x[1]), z, mode=mode).dtype == np.complex64
    assert ds.jacobian(lambda z: z * x[1], z, mode=mode, holomorphic=True).dtype == np.complex64
    assert ds.jacobian(lambda x: x * 1j * z, x[0], mode=mode).dtype == np.complex64


@pytest.mark.parametrize("dtype", (np.float32, np.float64, np.complex64, np.complex128))
def test_partials_by_hand_take_the_precision_of_their_value(dtype):
    x = ds.DualArray(np.array([1, 2], dtype), np.eye(2, dtype=np.float32))
    assert x.partials.dtype == dtype
    x[0] = x[1] * dtype(3j if x.dtype.kind == "c" else 3)
    np.testing.assert_array_equal(x.partials[1], [x[0].value / 2, 1])


@pytest.mark.parametrize("mode", MODES)
def test_foreign_byte_order_becomes_native(mode):
    G = ds.gradient(lambda x: np.sum(x * x), np.array([1.0, 2.0], dtype=">f8"), mode=mode)
    assert G.dtype.isnative and np.array_equal(G, [2.0, 4.0])


def test_out_is_written():
    x = np.array([1.0, 2.0])
    for mode in MODES:
        out = np.full((2, 2), np.nan)
        assert ds.jacobian(lambda x: x * x, x, mode=mode, out=out) is out
        assert np.array_equal(out, np.diag([2.0, 4.0]))


@pytest.mark.parametrize("mode", MODES)
def test_progress_without_a_place_to_show_it(mode, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)  # as in a service
    J = ds.jacobian(np.sin, ones, mode=mode, progress=True)
    np.testing.assert_array_equal(J, np.diag(np.cos(ones)))


def _kept_after_the_end():
    kept = []
    ds.gradient(lambda x: (kept.append(x), np.sum(x))[1], np.ones(2))
    return kept[0] + 1


def _kept_dual_after_the_end():
    kept = []
    ds.derivative(lambda x: (kept.append(x), x)[1], 1.0)
    return np.sin(kept[0])


def _given_back_after_the_end(transform):
    kept = []
    ds.gradient(lambda x: (kept.append(x * 1.0), np.sum(x))[1], np.ones(2), mode="forward")
    return transform(lambda x: kept[0])


def _into_a_plain_array(x):
    out = np.zeros(2)
    out[0] = x[0]
    return out[0]


def _plain_array_plus_equals(x):
    out = np.zeros(2)
    out += x
    return out[0]


ones = np.ones(2)
BAD = {
    "gradient of a vector": (lambda: ds.gradient(lambda x: x, ones), ds.ShapeError, "Perhaps you meant jacobian"),
    "derivative of a vector": (lambda: ds.derivative(np.sin, ones), ds.ShapeError, "Perhaps you meant gradient"),
    "hessian of a vector": (lambda: ds.hessian(lambda x: x, ones), ds.ShapeError, "hessian takes .* scalar"),
    "hvp of a vector": (lambda: ds.hvp(lambda x: x, ones, ones), ds.ShapeError, "hvp takes .* scalar"),
    "gradient of two": (lambda: ds.gradient(lambda x: (x[0], x), ones), ds.ShapeError, "gradient takes .* of 2"),
    "gradient of two, forward": (
        lambda: ds.gradient(lambda x: (x[0], x), ones, mode="forward"),
        ds.ShapeError,
        "gradient takes .* of 2",
    ),
    "complex value": (lambda: ds.gradient(lambda x: np.sum(x) * 1j, ones), ds.DTypeError, "real function"),
    "complex jacobian": (lambda: ds.jacobian(np.sin, ones * 1j), ds.DTypeError, "holomorphic=True"),
    "complex hessian": (lambda: ds.hessian(np.sum, ones * 1j), ds.DTypeError, "hvp"),
    "float16": (lambda: ds.gradient(np.sum, ones.astype(np.float16)), ds.DTypeError, "float16"),
    "object": (lambda: ds.gradient(np.sum, np.array([1, None])), ds.DTypeError, "object"),
    "strings": (lambda: ds.gradient(np.sum, np.array(["a"])), ds.DTypeError, "<U1"),
    "None among parameters": (
        lambda: ds.gradient(lambda p: np.sum(p["W"]), {"W": ones, "b": [ones, None]}),
        ds.DTypeError,
        r"argument 0\['b'\]\[1\] must hold .* got a NoneType; give",
    ),
    "a name among parameters": (
        lambda: ds.gradient(lambda p: np.sum(p["W"]), {"W": ones, "act": "relu"}),
        ds.DTypeError,
        r"argument 0\['act'\] must hold .* got a str; give",
    ),
    "a matrix whose * is another": (
        lambda: ds.gradient(lambda x: np.sum(x * x), np.eye(2).view(np.matrix)),
        ds.DTypeError,
        r"argument 0 is a numpy\.matrix.*np\.asarray",
    ),
    "wrong tangent shape": (lambda: ds.jvp(np.sin, (ones,), (np.ones(3),)), ds.ShapeError, r"\(2,\).*\(3,\)"),
    "wrong tangent structure": (
        lambda: ds.jvp(np.sin, (ones,), (ones, ones)),
        ds.ShapeError,
        r"tangents .* shapes \(\(2,\),\), got \(\(2,\), \(2,\)\)",
    ),
    "tangents not a tuple": (lambda: ds.jvp(np.sin, ones, ones), ds.ShapeError, "tuples"),
    "complex tangent": (lambda: ds.jvp(np.sin, (ones,), (ones * 1j,)), ds.DTypeError, "complex"),
    "wrong cotangent": (lambda: ds.vjp(np.sin, ones)[1](np.ones(3)), ds.ShapeError, "y_bar"),
    "None returned": (lambda: ds.gradient(lambda x: None, ones), ds.DTypeError, "NoneType"),
    "structure returned": (lambda: ds.jacobian(lambda x: (x, x), ones), ds.ShapeError, "one array"),
    "no rule": (lambda: ds.gradient(lambda x: np.sum(np.i0(x)), ones), ds.MissingRuleError, "i0"),
    "float(x)": (lambda: ds.gradient(lambda x: float(x[0]), ones), ds.MissingRuleError, "test_transforms.py"),
    "np.asarray(x)": (lambda: ds.gradient(lambda x: np.asarray(x)[0], ones), ds.MissingRuleError, "np.stack"),
    "into np.zeros": (
        lambda: ds.gradient(_into_a_plain_array, ones, mode="forward"),
        ds.MissingRuleError,
        "zeros_like",
    ),
    "np.zeros +=": (lambda: ds.gradient(_plain_array_plus_equals, ones), ds.MissingRuleError, "zeros_like"),
    "kept after the end": (_kept_after_the_end, ds.TagError, "already been computed"),
    "dual kept after the end": (_kept_dual_after_the_end, ds.TagError, "already been computed"),
    "given back after the end": (
        lambda: _given_back_after_the_end(lambda f: ds.jvp(f, (ones,), (ones,))),
        ds.TagError,
        r"test_transforms\.py.*already been computed",
    ),
    "given back after the end in reverse": (
        lambda: _given_back_after_the_end(lambda f: ds.vjp(f, ones)),
        ds.TagError,
        "already been computed",
    ),
    "pickled": (lambda: ds.jvp(pickle.dumps, (ones,), (ones,)), ds.TagError, r"pickled.*x\.value.*threads"),
    "pickled in reverse": (lambda: ds.vjp(pickle.dumps, ones), ds.TagError, "cannot be pickled"),
    "in a set": (lambda: ds.gradient(lambda x: sum(set(x)), ones), TypeError, "unhashable"),
    "unknown mode": (lambda: ds.gradient(np.sum, ones, mode="backward"), ValueError, "mode"),
    "zero chunk": (lambda: ds.jacobian(np.sin, ones, mode="forward", chunk=0), ValueError, "chunk"),
    "zero chunk in reverse": (lambda: ds.gradient(np.sum, ones, mode="reverse", chunk=0), ValueError, "chunk"),
    "True for a chunk": (lambda: ds.jacobian(np.sin, ones, chunk=True), ValueError, "chunk must .* got True"),
    "True for an argnum": (lambda: ds.gradient(np.dot, ones, ones, argnum=True), ds.ShapeError, "argnum"),
    "fraction of a thread": (lambda: ds.options(threads=1.5).__enter__(), ValueError, "threads"),
    "wrong out": (lambda: ds.jacobian(np.sin, ones, out=np.zeros(2)), ds.ShapeError, "out"),
    "out in a tuple": (lambda: ds.jacobian(np.sin, ones, out=(np.eye(2),)), ds.DTypeError, "got tuple for the Jac"),
    "wrong argnum": (lambda: ds.gradient(np.sum, ones, argnum=1), ds.ShapeError, "argnum"),
    "nothing to differentiate": (lambda: ds.gradient(lambda p: 1.0, {}), ds.ShapeError, "no array"),
    "unknown option": (lambda: ds.options(algoritm="jacobi").__enter__(), ValueError, "algorithm"),
    "wrong option": (lambda: ds.options(ties="drop").__enter__(), ValueError, "directional"),
    "partials of another shape": (lambda: ds.DualArray(ones, np.ones(3)), ds.ShapeError, r"\(3,\)"),
    "numbers of different directions": (
        lambda: ds.DualArray(ones, np.ones((1, 2))) + ds.DualArray(ones, np.ones((3, 2))),
        ds.ShapeError,
        "1 and 3 directions",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_its_own_clear_error(name):
    call, error, message = BAD[name]
    with pytest.raises(error, match=message):
        call()


def test_arrays_made_by_hand_can_be_pickled():
    x = ds.DualArray(np.ones(3), np.eye(3)) + 1
    copy = pickle.loads(pickle.dumps(x))
    copy[0] = 5.0
    np.testing.assert_array_equal(copy.value, [5, 2, 2])
    np.testing.assert_array_equal(copy.partials, np.diag([0, 1, 1]))
    np.testing.assert_array_equal(x.partials, np.eye(3))


def test_integers_of_numpy_are_integers():
    f, two = lambda a, b: np.sum(a**2 * b), np.int64(2)
    for mode in MODES:
        by_b = ds.gradient(f, ones, 3 * ones, argnum=np.int8(1), chunk=two, mode=mode)
        np.testing.assert_array_equal(by_b, ones)
    with ds.options(threads=two, max_bytes=np.uint32(1 << 20)) as options:
        assert (type(options.threads), type(options.max_bytes)) == (int, int)
        a = np.stack([np.diag([3.0, 2.0])] * 8)
        np.testing.assert_allclose(ds.svdvals(a), [[3.0, 2.0]] * 8, rtol=1e-14)


def test_auto_goes_forward_where_reverse_cannot():
    square = ds.custom_rule(lambda x: x**2, pushforward=lambda y, ops, t: 2 * ops[0] * t[0])
    x = np.array([0.5, 2.0, 3.0])
    for f in (square, lambda x: square(x)):
        np.testing.assert_array_equal(ds.jacobian(f, x), np.diag(2 * x))
        assert ds.value_and_gradient(f, 3.0) == (9.0, 6.0)
    total = lambda x: np.sum(square(x) * x)  # noqa: E731
    np.testing.assert_array_equal(ds.gradient(total, x), 3 * x**2)
    np.testing.assert_array_equal(ds.jacobian(lambda x: ds.gradient(total, x), x), np.diag(6 * x))
    np.testing.assert_array_equal(ds.hessian(total, x), np.diag(6 * x))
    np.testing.assert_array_equal(ds.hvp(total, x, x), 6 * x**2)
    for call in (ds.gradient, ds.hessian):
        with pytest.raises(ds.MissingRuleError, match="mode='forward'"):
            call(total, x, mode="reverse")


def test_custom_rule_in_the_modes_given():
    x = np.array([0.5, 2.0])

    def both(x):
        return x**3

    forward_only = ds.custom_rule(both, pushforward=lambda y, ops, t: 3 * ops[0] ** 2 * t[0])
    reverse_only = ds.custom_rule(both, pullback=lambda y_bar, y, ops: 3 * ops[0] ** 2 * y_bar)
    assert np.array_equal(forward_only(x), x**3)
    for rule, mode, other in ((forward_only, "forward", "reverse"), (reverse_only, "reverse", "forward")):
        np.testing.assert_allclose(ds.gradient(lambda x, r=rule: np.sum(r(x)), x, mode=mode), 3 * x**2)
        with pytest.raises(ds.MissingRuleError, match=f"mode='{mode}'"):
            ds.gradient(lambda x, r=rule: np.sum(r(x)), x, mode=other)
    with pytest.raises(ValueError, match="pushforward"):
        ds.custom_rule(both)


def test_comparisons_and_branches_look_at_the_primal():
    def f(x):
        return np.sum(x**2) if x[0] > 0 else np.sum(x**3)

    for mode in MODES:
        np.testing.assert_allclose(ds.gradient(f, np.array([1.0, 2.0]), mode=mode), [2.0, 4.0])
        np.testing.assert_allclose(ds.gradient(f, np.array([-1.0, 2.0]), mode=mode), [3.0, 12.0])


TIED = {"identity": np.eye(3), "zero": np.zeros((2, 3)), "a pair": np.diag([2.0, 2.0, 1.0])}


@pytest.mark.parametrize("matrix", TIED)
@pytest.mark.parametrize(
    "f",
    (
        ds.svdvals,
        ds.opnorm,
        ds.nuclear_norm,
        lambda a: ds.eigvalsh(a @ a.T),
        lambda a: np.sum(np.cos(ds.svd(a).S)),
        lambda a: ds.svd(a, True).S,
        lambda a: ds.eigh(a @ a.T).eigenvalues[-1],
    ),
)
@pytest.mark.parametrize("tangents", ("closed-form", "sweeps"))
def test_lexicographic_derivatives_do_not_depend_on_the_chunk(f, matrix, tangents):
    a = TIED[matrix]
    with ds.options(tangents=tangents):
        whole = ds.jacobian(f, a, mode="forward", chunk=a.size)
        for chunk in (1, 2, None):
            assert np.array_equal(ds.jacobian(f, a, mode="forward", chunk=chunk), whole)


def _in_a_thread(call, *args):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call, *args).result()


def _catching_errors(a):
    try:
        return ds.svdvals(a)
    except Exception:
        return a[0]


TIES_OUT_OF_SIGHT = {
    "in a thread": lambda a: _in_a_thread(ds.svdvals, a),
    "in a thread that was told": lambda a: _in_a_thread(contextvars.copy_context().run, ds.svdvals, a),
    "of a direction, in a thread": lambda a: _in_a_thread(lambda a: ds.jvp(ds.svdvals, (np.eye(2),), (a,))[1], a),
    "of a direction, by linearize": lambda a: _in_a_thread(ds.linearize(ds.svdvals, np.eye(2))[1], a),
    "where errors are caught": _catching_errors,
    "inside another jacobian": lambda a: ds.jacobian(lambda y: y * ds.svdvals(a), 1.0, mode="forward"),
}


@pytest.mark.parametrize("f", TIES_OUT_OF_SIGHT.values(), ids=TIES_OUT_OF_SIGHT)
def test_a_chunk_meets_a_tie_wherever_it_is(f):
    whole = ds.jacobian(ds.svdvals, np.eye(2), mode="forward")
    for chunk in (1, 2, 3):
        assert np.array_equal(ds.jacobian(f, np.eye(2), mode="forward", chunk=chunk), whole)


def test_a_tie_of_numbers_made_by_hand_is_none_of_a_chunk_in_another_thread():
    by_hand = ds.DualArray(np.eye(2), np.stack([np.eye(2), np.ones((2, 2))]))
    started, met = threading.Event(), threading.Event()

    def f(x):
        started.set()
        met.wait(60)
        return np.sin(x)

    with ThreadPoolExecutor(1) as pool:
        J = pool.submit(ds.jacobian, f, ones, mode="forward", chunk=1)
        started.wait(60)
        try:
            S = ds.svdvals(by_hand)
        finally:
            met.set()
    np.testing.assert_allclose(S.partials, [[1, 1], [2, 0]], atol=1e-15)  # rounding of the eigenvalues of ones
    np.testing.assert_array_equal(J.result(), np.diag(np.cos(ones)))


INTERRUPTED = {
    "chunks": lambda: ds.jacobian(np.sin, ones, mode="forward", chunk=1),
    "nested": lambda: ds.jacobian(lambda x: ds.jvp(np.sin, (x,), (x,))[1], ones, mode="forward", chunk=1),
    "reverse": lambda: ds.gradient(np.prod, ones, mode="reverse"),
    "tie in a thread": lambda: ds.jacobian(TIES_OUT_OF_SIGHT["in a thread"], np.eye(2), mode="forward", chunk=3),
}


@pytest.mark.parametrize("call", INTERRUPTED.values(), ids=INTERRUPTED)
def test_an_interrupt_at_any_moment_leaves_no_level_behind(call):
    """Where functions begin and end: there, among others, Python raises KeyboardInterrupt after Ctrl-C."""
    tracing, done = sys.gettrace(), False
    for moments in itertools.count():

        def trace(frame, event, arg):
            nonlocal moments
            of_dualsvd = frame.f_globals.get("__name__", "").startswith("dualsvd")
            if not of_dualsvd or frame.f_code.co_flags & inspect.CO_GENERATOR:  # one that is dropped raises nothing
                return None
            frame.f_trace_lines = False
            if event in ("call", "return"):
                moments -= 1
                if moments < 0:
                    sys.settrace(None)
                    raise KeyboardInterrupt
            return trace

        try:
            sys.settrace(trace)
            call()
            done = True
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(tracing)
        np.testing.assert_allclose(ds.jvp(ds.svdvals, (np.eye(2),), (np.ones((2, 2)),))[1], [2, 0], atol=1e-15)
        assert set(levels._open) == {0}
        if done:
            break


SWEEPING = {
    "opnorm": ds.opnorm,
    "nuclear norm": ds.nuclear_norm,
    "values": ds.svdvals,
    "NumPy's norm": lambda a: np.linalg.norm(a, 2),
    "polar by full factors": lambda a: (lambda U, S, Vh: U @ Vh[:3])(*np.linalg.svd(a)),
    "null space": lambda a: (lambda N: N.T @ N)(np.linalg.svd(a).Vh[3:]),
    "polar of a square": lambda a: (lambda U, S, Vh: U @ Vh)(*np.linalg.svd(a[:, :3])),
    "left null space": lambda a: (lambda N: N @ N.T)(np.linalg.svd(a.T).U[:, 3:]),
}


@pytest.mark.parametrize("name", SWEEPING)
def test_the_sweeps_give_another_way_to_the_same_functions(name):
    f, a = SWEEPING[name], np.random.default_rng(0).standard_normal((3, 5))
    by_rule = ds.jacobian(f, a, mode="forward")
    with ds.options(tangents="sweeps"):
        swept = ds.jacobian(f, a, mode="forward")
    np.testing.assert_allclose(swept, by_rule, rtol=0, atol=1e-13)
    assert not np.array_equal(swept, by_rule)  # it is another way


#: functions whose derivatives are views, or what was given, where nothing is done about it
PASSING_ON = {
    "sum": np.sum,
    "identity": lambda x: x,
    "transpose": np.transpose,
    "broadcast_to": lambda x: np.broadcast_to(x, (2, *np.shape(x))),
    "diagonal": np.diag,
    "slice": lambda x: x[1:],
    "real": np.real,
    "x + 1": lambda x: x + 1,
    "svdvals": ds.svdvals,
    "S of svd": lambda x: ds.svd(x).S,
    "eigenvalues": lambda x: ds.linalg.eigh(x + x.T)[0],
}


@pytest.mark.parametrize("f", PASSING_ON.values(), ids=PASSING_ON)
def test_results_are_the_callers_own(f, rng):
    a, d = rng.standard_normal((2, 4, 4))
    y, pull = ds.vjp(f, a)
    bar = np.ones_like(y)
    twice = ds.vjp(lambda x, z: f(x + z), a, d)[1](bar)
    results = [*pull(bar), *twice, ds.jvp(f, (a,), (d,))[1], ds.linearize(f, a)[1](d), ds.jacobian(f, a)]
    if np.ndim(y) == 0:
        results.append(ds.gradient(f, a))
    kept = [x.copy() for x in (a, d, bar, *results)]
    for k, x in enumerate(results):
        if isinstance(x, np.ndarray):
            x += 1  # writes where it may, and nowhere else
            for other, (now, before) in enumerate(zip((a, d, bar, *results), kept)):
                if other != k + 3:
                    np.testing.assert_array_equal(now, before)
            x -= 1
            kept[k + 3] = x.copy()


@pytest.mark.parametrize("mode", ("forward", "reverse"))
def test_a_constant_result_is_the_callers_own(mode):
    c = np.ones(3)
    for y in (
        ds.value_and_jacobian(lambda x: c, ones, mode=mode)[0],
        ds.jvp(lambda x: {"c": c}, (ones,), (ones,))[0]["c"],
    ):
        y[:] = 9.0
    assert np.array_equal(c, np.ones(3))

    def outer(x):
        y = ds.value_and_jacobian(lambda t: x, ones, mode=mode)[0]
        y[:] = 9.0
        return np.sum(x**2)

    assert np.array_equal(ds.gradient(outer, c), 2 * c)


@pytest.mark.parametrize("f", [np.exp, np.linalg.inv, lambda x: ds.svd(x).S, lambda x: x], ids=["exp", "inv", "S", "x"])
def test_to_write_into_a_value_leaves_its_derivative_alone(f, rng):
    a, d = rng.standard_normal((2, 3, 3))
    for transform, argument in ((ds.vjp, np.ones_like(f(a))), (ds.linearize, d)):
        y, derivative = transform(f, a)
        before = np.copy(derivative(argument))
        y[...] = 7.0
        np.testing.assert_array_equal(np.copy(derivative(argument)), before)


def test_hessian_refuses_an_argument_that_is_not_there():
    with pytest.raises(ds.ShapeError, match="argnum"):
        ds.hessian(np.sum, np.ones(2), argnum=1)


# ---------------------------------------------------------------------------------------------------------------------
# What is written later changes nothing that was computed before


def _constant_overwritten(x):
    w = np.ones(3)
    a = x * w
    w *= 2
    return np.sum(a + x * w)


def _scratch(x):
    one, total = np.zeros(3), 0.0
    for i in range(3):
        one[:] = 0
        one[i] = 1
        total += np.dot(one, x) ** (i + 1)
    return total


def _index_moved(x):
    i = np.array([0])
    a = x[i]
    i += 1
    return np.sum(a * x[i] ** 2)


def _mask_turned(x):
    mask = np.array([True, False, True])
    a = np.where(mask, x, 0)
    mask[:] = ~mask
    return np.sum(a**2 + np.where(mask, x, 0))


def _running_sums(x):
    sums = [x[0]]
    for i in (1, 2):
        s = sums[-1]
        s += x[i]
        sums.append(s)
    return sums[0] * sums[1] * sums[2]


def _number_added_to(x):
    s = np.sum(x)
    t = s
    s *= 2
    s -= x[0]
    return s * t


def _question_of_a_view(x):
    v = x[1:]
    x[1] = 5.0 * x[0]
    return np.sum(v[v > 3]) + np.max(np.sort(v)) * np.argmax(v == np.max(v))


def _view_doubled(x):
    v = x[1:]
    v *= 2
    return np.sum(x**3)


def _base_written(x):
    v, w = x[1:], x[None]
    x[1] = 2 * x[0]
    x *= x
    return np.sum(v**3) + np.sum(w**2)


def _own_product(x):
    x[0] = x[0] * x[1]
    return np.sum(x**2)


def _swapped(x):
    z = x * 1.0
    z[0], z[1] = z[1], z[0]
    pivot = z[2]
    z[2] /= pivot
    z *= np.array([2.0, 3.0, 5.0])
    return z[0] ** 2 * pivot + z[1] * z[2]


def _read_before(x):
    z = x * 1.0
    rows = [z[0], np.take(z, 1), next(iter(z[2:])), *z[:1]]
    z[...] = z[::-1] * 7.0
    return np.sum(np.stack(rows) ** 2) * np.sum(z)


def _array_of_a_number(x):
    s = np.sum(x)
    rows = [np.atleast_1d(s), s.reshape(1), s[None], x[0].reshape(1)]
    for row in rows:
        row[0] = 5 * row[0]
    return np.sum(np.concatenate(rows)) * s * x[0]


def _fresh_in_another_layout(x):
    rows = np.stack([x, 2 * x])
    total = 0.0
    for y in (rows.T - np.ones((3, 2)), 1.0 + rows.T, -rows.T, rows.T + rows[:, ::-1].T):
        flat = y.ravel()
        flat *= x[0]
        total = total + np.sum(y * y)
    return total


def _row_of_a_view(x):
    square = np.stack([x, x * x, x + 1.0])
    column = square[:, 0].ravel()
    column *= 3.0
    part = square[:, :2]
    part += 1.0
    row = part.reshape(-1)
    row[0] = 3 * row[0]
    apart = np.ravel(x[::-1])
    apart[0] = 7.0
    return np.sum(square**2) + np.sum(column) * np.sum(row) + np.sum(apart * x)


def _view_of_a_constant(x):
    c = np.ones(3)
    M = np.diag(c)
    y = x * np.broadcast_to(c, (3,)) * np.diagonal(M)
    c[:] = 5.0
    M[:] = 7.0
    return np.sum(y**2)


def _whole_view(x):
    y = x * 1.0
    v = y.view()
    v[0] = 5.0 * y[1]
    y[1] = x[2]
    return np.sum(v**3) * y[0]


def _view_without_axes(x):
    y = x * 1.0
    s, t = y[0, ...], y[:1].reshape(())
    y[0] = 5.0 * y[1]
    return s * t * y[2]


def _other_layout(x):
    rows = np.stack([x, 2 * x])
    for y in (rows.T.copy(order="C"), rows[[1, 0]], np.cumprod(rows, axis=0), np.take(rows, [1, 0], axis=0)):
        y.reshape(-1)[0] = 7.0 * x[1]
        x = x + np.sum(y**2)
    return np.sum(x)


ALIASES = (
    _array_of_a_number,
    _fresh_in_another_layout,
    _row_of_a_view,
    _view_of_a_constant,
    _whole_view,
    _view_without_axes,
    _swapped,
    _read_before,
    _constant_overwritten,
    _scratch,
    _index_moved,
    _mask_turned,
    _running_sums,
    _number_added_to,
    _question_of_a_view,
    _view_doubled,
    _base_written,
    _own_product,
    _other_layout,
)


@pytest.mark.parametrize("f", ALIASES)
def test_what_is_written_later_changes_nothing_before(f):
    x, h = np.array([1.25, 0.5, -0.75]), 1e-6
    plain = lambda x: f(x.copy())  # noqa: E731
    slopes = [(plain(x + h * e) - plain(x - h * e)) / (2 * h) for e in np.eye(3)]
    for mode in ("forward", "reverse"):
        value, gradient = ds.value_and_gradient(f, x, mode=mode)
        np.testing.assert_allclose(value, plain(x), rtol=1e-14)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-7)
    np.testing.assert_allclose([ds.jvp(f, (x,), (e,))[1] for e in np.eye(3)], slopes, rtol=1e-7)
    np.testing.assert_allclose([ds.linearize(f, x)[1](e) for e in np.eye(3)], slopes, rtol=1e-7)
    by_reverse = ds.hessian(f, x, mode="reverse")
    np.testing.assert_allclose(ds.hessian(f, x, mode="forward"), by_reverse, rtol=1e-11, atol=1e-11)
    rows = [(ds.gradient(f, x + h * e) - ds.gradient(f, x - h * e)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(by_reverse, rows, rtol=1e-6, atol=1e-6)


def test_views_of_views_to_any_depth():
    def f(x):
        y = v = x * 1.0
        for _ in range(1200):
            v = v.T
        v[0, 1] = x[0, 0] ** 2
        y[1, 1] = 3.0 * v[0, 1]
        return np.sum(y * v)

    x = np.array([[3.0, 2.0], [5.0, 7.0]])
    np.testing.assert_array_equal(ds.gradient(f, x, mode="reverse"), ds.gradient(f, x, mode="forward"))


def test_threads_write_into_one_array():
    x = np.arange(1.0, 9.0)

    def f(x):
        z = np.zeros_like(x)

        def write(i):
            z[i] = np.sin(x[i]) * x[i]

        list(pool.map(write, range(len(x))))
        return np.sum(z)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns within a line of Python
    try:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(200):
                for mode in ("forward", "reverse"):
                    np.testing.assert_allclose(ds.gradient(f, x, mode=mode), np.sin(x) + x * np.cos(x), rtol=1e-14)
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("outer", ["forward", "reverse"])
def test_an_inner_derivative_writes_into_its_own_variable(outer):
    def inner(y):
        y[0] = 7.0
        return np.sum(y**2)

    x, one = np.array([1.0, 2.0, 3.0]), np.ones(3)
    for g in (
        lambda x: np.sum(ds.gradient(inner, x, mode="forward")),
        lambda x: np.sum(ds.gradient(inner, x, mode="reverse")),
        lambda x: np.sum(ds.gradient(inner, x, mode="forward", chunk=2)),
        lambda x: ds.jvp(inner, (x,), (one,))[1],
        lambda x: ds.jvp(inner, (one,), (x,))[1],
        lambda x: ds.linearize(inner, x)[1](one),
    ):
        np.testing.assert_array_equal(ds.gradient(lambda x: g(x) + np.sum(x**3), x, mode=outer), [3, 14, 29])  # noqa: B023


@pytest.mark.parametrize("outer", ["forward", "reverse"])
@pytest.mark.parametrize(
    "inner",
    [
        lambda x: ds.linearize(lambda t: t * t, x)[1](x),
        lambda x: ds.linearize(lambda t: t, x)[1](2 * x * x),
        lambda x: ds.vjp(lambda t: t + 0.0, x)[1](2 * x * x)[0],
        lambda x: ds.vjp(lambda t: t * t, x)[1](x)[0],
        lambda x: 2 * ds.gradient(lambda t: np.sum(t) * x[0], x) * x[0],
    ],
    ids=["push", "push of itself", "pullback of itself", "pullback", "gradient"],
)
def test_an_inner_derivative_is_its_callers_own(inner, outer):
    def f(x):
        d = inner(x)
        d *= 2
        return d

    x = np.array([1.0, 2.0, 3.0])
    value, J = ds.value_and_jacobian(f, x, mode=outer)
    np.testing.assert_array_equal(value, f(x))
    slopes = np.array([(f(x + h) - f(x - h)) / 2 for h in np.eye(3) / 8]).T * 8  # exact, of squares
    np.testing.assert_array_equal(J, slopes)


def test_a_large_constant_that_was_overwritten_is_told():
    w = np.ones(20_000)
    y, pull = ds.vjp(lambda x: x * w, np.ones(20_000))
    np.testing.assert_array_equal(pull(y)[0], w)
    w *= 2
    with pytest.raises(ds.DualSVDError, match="overwritten"):
        pull(y)
    w /= 2
    np.testing.assert_array_equal(pull(y)[0], w)


def test_what_is_written_into_partials_is_in_no_other_array():
    """x + 1 has the partials of x, and keeps them in the same memory until someone asks for them."""
    x = ds.DualArray(np.ones(3), np.eye(3))
    y = 2 * x
    z = y + 1
    z.partials[0] = 0
    np.testing.assert_array_equal(y.partials, np.diag([2, 2, 2]))
    w, kept = y + 1, y.partials
    kept[1] = 0
    np.testing.assert_array_equal(y.partials, np.diag([2, 0, 2]))
    np.testing.assert_array_equal(z.partials, np.diag([0, 2, 2]))
    np.testing.assert_array_equal(w.partials, np.diag([2, 2, 2]))
    v = np.arange(1.0, 4)
    ds.jvp(lambda x: (x.partials.fill(0), x)[1], (x.value,), (v,))
    np.testing.assert_array_equal(v, [1, 2, 3])


def test_partials_can_be_given_anew():
    x = ds.DualArray(np.ones(3), np.eye(3))
    y = x + 1
    y.partials *= 2
    x.partials = np.ones((1, 3))
    np.testing.assert_array_equal((x * x).partials, [[2, 2, 2]])
    np.testing.assert_array_equal((y * y).partials, 8 * np.eye(3))

    row = (whole := ds.DualArray(np.ones((2, 3)), np.zeros((1, 2, 3))))[0]
    row.partials += 1
    row *= 2
    np.testing.assert_array_equal(whole.partials, [[[2, 2, 2], [0, 0, 0]]])
    row.partials = np.ones((1, 3))  # from here on the row stands by itself, value and partials
    row[...] = row * 5
    np.testing.assert_array_equal(whole.value[0], [2, 2, 2])
    np.testing.assert_array_equal([row.value, row.partials[0]], [[10, 10, 10], [5, 5, 5]])

    def f(x):
        x.partials = np.full((1, 3), 5.0)
        x[0] = 7.0
        return x

    np.testing.assert_array_equal(ds.jvp(f, (np.ones(3),), (np.ones(3),)), [[7, 1, 1], [0, 5, 5]])
    with pytest.raises(ds.ShapeError, match=r"\(N, 3\), got \(3,\)"):
        x.partials = np.ones(3)


def test_fortran_order_is_kept_by_tangents():
    def f(x):
        row = x.reshape(-1)  # a copy
        row[0] = 7.0
        column = x.T.reshape(-1)  # a view
        column[1] = 5.0
        return np.sum(x**2) + np.sum(row)

    x = np.asfortranarray(np.arange(1.0, 7).reshape(3, 2))
    for mode in ("forward", "reverse"):
        np.testing.assert_array_equal(ds.gradient(f, x, mode=mode), [[2, 5], [1, 9], [11, 13]])
        curvature = np.diag(np.ravel([[2.0, 2], [0, 2], [2, 2]]))
        np.testing.assert_array_equal(ds.hessian(f, x, mode=mode).reshape(6, 6), curvature)
    assert ds.jvp(f, (x,), (np.ones((3, 2)),))[1] == 41


def test_dicts_belong_together_by_their_keys():
    y, pull = ds.vjp(lambda a: {"u": 2 * a, "v": 3 * a}, 1.0)
    assert list(y) == ["u", "v"]
    for x in (OrderedDict(b=2.0, a=3.0), defaultdict(float, b=2.0, a=3.0)):
        G = ds.gradient(lambda d: d["a"] * d["b"] + d.get("c", 0.0), x)
        assert type(G) is type(x)
        assert list(G.items()) == [("b", 3.0), ("a", 2.0)]
    assert pull({"v": 1.0, "u": 0.0})[0] == 3.0
    f = lambda d: 2 * d["a"] + 3 * d["b"]  # noqa: E731
    assert ds.jvp(f, ({"a": 1.0, "b": 1.0},), ({"b": 1.0, "a": 0.0},))[1] == 3.0
    assert ds.hvp(lambda d: d["a"] ** 2 * d["b"], {"b": 3.0, "a": 2.0}, {"a": 1.0, "b": 0.0}) == {"b": 4.0, "a": 6.0}
    assert ds.jvp(lambda d: d[1] * 3 + d[2] * 5, ({np.int64(1): 1.0, 2: 10.0},), ({1: 1.0, 2: 0.0},))[1] == 3.0
    assert ds.vjp(lambda x: {True: x * 2, 2: x * 3}, 1.0)[1]({1: 1.0, 2: 0.0})[0] == 2.0
    for other in ({"x": 1.0, "y": 0.0}, {"u": 1.0}, [1.0, 0.0]):
        with pytest.raises(ds.ShapeError, match="structure"):
            pull(other)


def test_real_and_complex_variables_of_one_complex_function():
    x, z = np.array([1.0, 2.0]), np.array([1.0 + 1j, 2.0 - 1j])
    for mode in ("forward", "reverse"):
        by_x, by_z = ds.jacobian(lambda t: np.sum(t[0] * t[1] ** 2), (x, z), mode=mode, holomorphic=True)
        np.testing.assert_allclose(by_x, z**2, rtol=1e-15)
        np.testing.assert_allclose(by_z, 2 * x * z, rtol=1e-15)
        J = ds.jacobian(lambda x: x * (1 + 2j), x, mode=mode, holomorphic=True)
        np.testing.assert_array_equal(J, np.diag([1 + 2j] * 2))

    def norm(z):
        z[0] *= 2
        return np.sum(np.real(z * np.conj(z)))

    for mode in ("forward", "reverse"):
        np.testing.assert_allclose(ds.gradient(norm, z, mode=mode), [8 * z[0], 2 * z[1]], rtol=1e-15)


def test_to_write_over_what_is_infinite_leaves_nothing_of_it():
    def f(x):
        y = 1.0 / np.reshape(x, ())
        y[...] = 3.0
        return y * x[0]

    with np.errstate(divide="ignore", invalid="ignore"):
        assert ds.gradient(f, np.zeros(1), mode="forward") == 3.0
