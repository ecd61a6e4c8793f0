"""NumPy's functions on traced arrays: NumPy's values, and derivatives that agree whatever way they are taken."""

from __future__ import annotations

import copy
import enum
import re
from decimal import Decimal
from fractions import Fraction

import numba
import numpy as np
import pytest
import scipy.sparse.linalg
from functions import CALLS, COMPOSED, Function

import dualsvd as ds

MODES = ("forward", "reverse")
# the same operations in the same order: only sums may be grouped otherwise
VALUE = 1e-13
# a chunk, a stride or a batch changes how BLAS groups its sums, nothing else
REGROUPED = 1e-13
# central differences with h = 2^-17, of functions with third derivatives up to 1e3
STEP, DIFFERENCES = 2.0**-17, 1e-6
# second derivatives by four ways
HESSIAN = 1e-10

every_call = pytest.mark.parametrize("function", CALLS, ids=str)
every_program = pytest.mark.parametrize("function", COMPOSED, ids=str)
every_function = pytest.mark.parametrize("function", CALLS + COMPOSED, ids=str)


def agree(a, b, tolerance):
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    scale = max(np.max(np.abs(a), initial=0.0), np.max(np.abs(b), initial=0.0), 1e-3)
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


def named(name: str) -> Function:
    (function,) = (f for f in COMPOSED if f.name == name)
    return function


def test_there_are_enough_of_them():
    assert len(COMPOSED) >= 60
    names = [function.name for function in CALLS + COMPOSED]
    assert len(names) == len(set(names))


@every_function
@pytest.mark.parametrize("mode", MODES)
def test_value_is_that_of_numpy(function, mode):
    x = function.argument()
    expected = np.asarray(function.f(x))
    value = np.asarray(ds.value_and_jacobian(function.f, x, mode=mode)[0])
    assert value.dtype == expected.dtype
    agree(value, expected, max(VALUE, function.tolerance))


@every_function
def test_forward_equals_reverse(function):
    x = function.argument()
    forward, reverse = (ds.jacobian(function.f, x, mode=mode) for mode in MODES)
    agree(forward, reverse, function.tolerance)


@every_function
def test_derivative_equals_differences(function):
    x = function.argument()
    v = np.random.default_rng(1).standard_normal(x.shape)
    there, here = (np.asarray(function.f(x + s * STEP * v)) for s in (1, -1))
    agree(ds.jvp(function.f, (x,), (v,))[1], (there - here) / (2 * STEP), DIFFERENCES)


@every_program
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_chunk_does_not_matter(function, mode, chunk):
    x = function.argument()
    agree(ds.jacobian(function.f, x, mode=mode, chunk=chunk), ds.jacobian(function.f, x, mode=mode), REGROUPED)


def _reversed(x):
    return np.ascontiguousarray(x[::-1])[::-1]


def _spread(x):
    return np.repeat(np.repeat(x, 2, axis=0), 3, axis=-1)[::2, ..., ::3] if x.ndim > 1 else np.repeat(x, 2)[::2]


def _in_fortran_order(x):
    return np.asfortranarray(x)


@every_program
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layout", [_reversed, _spread, _in_fortran_order], ids=lambda f: f.__name__.strip("_"))
def test_strides_do_not_matter(function, mode, layout):
    x = function.argument()
    strided = layout(x)
    assert np.array_equal(strided, x)
    agree(ds.jacobian(function.f, strided, mode=mode), ds.jacobian(function.f, x, mode=mode), function.tolerance)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "name", ["softmax", "attention", "rows overwritten", "max pooling", "recurrence written in place"]
)
def test_zero_strides_do_not_matter(name, mode):
    function = named(name)
    x = np.broadcast_to(function.argument()[..., :1], function.shape)
    x.flags.writeable = False
    agree(ds.jacobian(function.f, x, mode=mode), ds.jacobian(function.f, x.copy(), mode=mode), REGROUPED)


@every_program
@pytest.mark.parametrize("mode", MODES)
def test_a_batch_is_as_if_each_came_alone(function, mode):
    batch = np.stack([function.argument(seed) for seed in (0, 1)])
    J = ds.jacobian(lambda X: np.stack([function.f(x) for x in X]), batch, mode=mode)
    ndim = J.ndim - 1 - batch[0].ndim - 1  # of one value
    for i in range(2):
        for j in range(2):
            block = J[(i, *(slice(None),) * ndim, j)]
            alone = ds.jacobian(function.f, batch[i], mode=mode)
            agree(block, alone if i == j else np.zeros_like(alone), function.tolerance)


@pytest.mark.parametrize("name", ["determinant", "svdvals", "polar factor", "pseudoinverse", "inverse"])
@pytest.mark.parametrize("mode", MODES)
def test_matrix_functions_take_batches_themselves(name, mode):
    function = named(name)
    batch = np.stack([function.argument(seed) for seed in (0, 1, 2)])
    J = ds.jacobian(lambda X: np.sum(function.f(X), axis=0), batch, mode=mode)
    for k in range(3):
        alone = ds.jacobian(function.f, batch[k], mode=mode)
        agree(np.take(J, k, axis=J.ndim - 3), alone, function.tolerance)


def weighted(function: Function):
    """A real function of the same derivatives: the sum of its values by fixed random weights."""
    weights = np.random.default_rng(2).standard_normal(np.shape(function.f(function.argument())))
    return lambda x: np.sum(weights * np.real(function.f(x)))


@every_function
@pytest.mark.parametrize("outer", MODES)
@pytest.mark.parametrize("inner", MODES)
def test_hessian_by_every_nesting(function, outer, inner):
    f, x = weighted(function), function.argument()
    nested = ds.jacobian(lambda x: ds.gradient(f, x, mode=inner), x, mode=outer)
    agree(nested, ds.hessian(f, x), max(HESSIAN, 100 * function.tolerance))


@pytest.mark.parametrize("function", [function for function in COMPOSED if function.scalar], ids=str)
def test_hessian_equals_differences(function):
    x = function.argument()
    v = np.random.default_rng(3).standard_normal(x.shape)
    there, here = (ds.gradient(function.f, x + s * STEP * v) for s in (1, -1))
    agree(ds.hvp(function.f, x, v), (there - here) / (2 * STEP), 10 * DIFFERENCES)


@every_call
def test_float32_stays(function):
    x = function.argument().astype(np.float32)
    expected = np.result_type(np.asarray(function.f(x)))
    y, dy = ds.jvp(function.f, (x,), (np.ones_like(x),))
    assert np.result_type(y) == expected
    assert np.result_type(dy) == expected
    (x_bar,) = ds.vjp(function.f, x)[1](np.ones_like(y))
    assert np.result_type(x_bar) == np.float32


# what has an order, a sign or an integer part asks for real numbers
REAL_ONLY = re.compile(
    "of its own|of itself|select|piecewise|clip|maximum|max|min|ptp|sort|partition|median|quantile|percentile|unique"
    "|nan|interp|unwrap|round|modf|divmod|ldexp|modulus|angle|logaddexp|bincount|astype|cov|corrcoef|vector_norm"
    "|average by itself|rfft|circular"
)


@pytest.mark.parametrize("function", [f for f in CALLS if not REAL_ONLY.search(f.name)], ids=str)
def test_complex_adjoint(function):
    def draw(shape, seed):
        rng = np.random.default_rng(seed)
        return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)

    z, dz = draw(function.shape, 4), draw(function.shape, 5)
    y, dy = ds.jvp(function.f, (z,), (dz,))
    y_bar = draw(np.shape(y), 6) if np.iscomplexobj(y) else np.real(draw(np.shape(y), 6))
    (z_bar,) = ds.vjp(function.f, z)[1](y_bar)
    left, right = np.real(np.vdot(y_bar, dy)), np.real(np.vdot(z_bar, dz))
    assert abs(left - right) <= 1e-12 * (1 + np.linalg.norm(y_bar) * np.linalg.norm(dy))
    there, here = (np.asarray(function.f(z + s * STEP * dz)) for s in (1, -1))
    agree(dy, (there - here) / (2 * STEP), DIFFERENCES)


# ---------------------------------------------------------------------------------------------------------------------
# Ties and zeros: the subgradient of least norm, and products without division


def _added_at(x):
    y = x * 1.0
    np.add.at(y, [0, 0], np.uint8([200, 100]))
    np.subtract.at(y, [1, 1], x[:2])
    return y * y


def _into(call):
    """A function that writes its result into an array it is given."""

    def f(x):
        y = np.zeros_like(x)
        call(x, y)
        return y * x

    return f


V, M = np.array([1.0, 2.0, 3.0]), np.arange(1.0, 7).reshape(2, 3) ** 2
GAP = np.array([1.0, np.nan, 3.0, 2.0])
#: arguments that NumPy's functions may have, and where they are called
ARGUMENTS = {
    "compress": (lambda x: x.compress([True, False, True]), V),
    "compress, axis": (lambda x: x.compress([True, False, True], axis=1), M),
    "average, axes": (lambda x: np.average(x, axis=(1, 0), weights=np.arange(1.0, 7).reshape(3, 2)), M),
    "add.at": (_added_at, V),
    "fft2, s": (lambda x: np.abs(np.fft.fft2(x, s=(-1, 4), axes=(0, 1))) ** 2, M),
    "rfft2, s": (lambda x: np.abs(np.fft.rfft2(x, s=(2, -1))) ** 2, M),
    "irfft2, s": (lambda x: np.fft.irfft2(x, (-1, -1)) ** 2, M),
    "nanmean, where": (lambda x: np.nanmean(x, where=[True, True, False, True]), GAP),
    "nanvar, where": (lambda x: np.nanvar(x, where=[True, True, False, True]), GAP),
    "median, infinite": (np.median, np.array([1.0, 2.0, np.inf])),
    "median, axis": (lambda x: np.median(x, axis=(0, 1), keepdims=True), M),
    "median, even": (lambda x: np.median(x, axis=0), M),
    "median, NaN": (np.median, GAP),
    "quantile, NaN": (lambda x: np.quantile(np.stack([x, x[::-1] * 0 + 1]), [0.2, 0.5], axis=1), GAP),
    "round, out": (_into(lambda x, y: np.round(x * 1.234, 1, out=y)), V),
    "clip, out": (_into(lambda x, y: np.clip(x, 0, 2.5, out=y)), V),
    "fft, out": (_into(lambda x, y: np.fft.irfft(x + 0j, 3, out=y)), V),
    "put_along_axis": (_into(lambda x, y: np.put_along_axis(y, np.array([0, 2]), x[:2] * 5, None)), V),
    "gradient, list": (lambda x: np.gradient(x, [1, 2, 4]), V),
    "cov, dtype": (lambda x: np.cov(x, dtype=np.float64), M),
    "max, initial": (lambda x: np.max(x[:, :0], axis=1, initial=0.0) + x[:, 0], M),
    "fmax, NaN": (lambda x: np.fmax(x, np.nan) + np.fmin(np.nan, x), V),
    "erf": (lambda x: x * ds.erf(0.3) + ds.gamma(0.3), V),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_mean_what_they_mean_to_numpy(name):
    f, x = ARGUMENTS[name]
    whole = lambda x: np.sum(f(x))  # noqa: E731
    expected = whole(x.copy())
    results = [ds.value_and_gradient(whole, x, mode=mode) for mode in MODES]
    for value, _ in results:
        np.testing.assert_allclose(value, expected, rtol=VALUE)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=VALUE, atol=VALUE)
    if np.isfinite(expected):
        steps = np.eye(x.size).reshape(-1, *x.shape) * STEP
        slopes = [(whole(x + h) - whole(x - h)) / (2 * STEP) for h in steps]
        np.testing.assert_allclose(np.ravel(results[0][1]), slopes, rtol=DIFFERENCES, atol=DIFFERENCES)


INF, NAN = np.inf, np.nan
Z, GAPS = np.array([1 + 2j, 3 + 4j, 5j]), np.array([[1.0, NAN], [NAN, NAN], [2.0, 3.0]])
CUBE = np.arange(24.0).reshape(2, 3, 4) + 1
#: where NumPy has a value of its own: beside NaN and infinities, of few numbers or none, in other layouts and kinds
EDGES = {
    "maximum.accumulate": (np.maximum.accumulate, np.array([1.0, NAN, 0.0, 2.0])),
    "minimum.accumulate": (lambda x: np.minimum.accumulate(x, axis=1), GAPS),
    "nanmax of nothing": (np.nanmax, np.array([NAN, NAN])),
    "nanmin of nothing in a row": (lambda x: np.nanmin(x, axis=1, keepdims=True), GAPS),
    "nanmin of nothing, initial": (lambda x: np.nanmin(x, axis=1, initial=2.0), GAPS),
    "std, ddof too many": (lambda x: np.std(x, ddof=4), V),
    "var, ddof, where": (lambda x: np.var(x, axis=1, ddof=3, where=[True, False, True]), M),
    "var, ddof, float32": (lambda x: np.var(x, axis=1, ddof=4, keepdims=True), np.float32(M)),
    "nanvar, ddof too many": (lambda x: np.nanvar(x, ddof=4), V),
    "nanstd, ddof, too few in a column": (lambda x: np.nanstd(x, axis=0, ddof=1), GAPS),
    "cov, ddof too many": (lambda x: np.cov(x, ddof=5), M),
    "abs in float64": (lambda z: np.abs(z, dtype=np.float64), Z),
    "abs of complex64 in float64": (lambda z: np.abs(z, dtype=np.float64), np.complex64(Z)),
    "modf in float32": (lambda x: np.modf(x, dtype=np.float32)[0], V / 7),
    "prod of real parts": (lambda z: np.prod(z, dtype=np.float64), Z),
    "cumprod of real parts": (lambda z: np.cumprod(z, dtype=np.float32), Z),
    "multiply.reduce of real parts": (lambda z: np.multiply.reduce(z, dtype=np.float64), Z),
    "logaddexp.reduce of real parts": (lambda z: np.logaddexp.reduce(z, dtype=np.float64), Z),
    "sum and mean of real parts": (lambda z: np.sum(z, dtype=np.float64) + np.mean(z, dtype=np.float64), Z),
    "var around a real mean": (lambda z: np.var(z, dtype=np.float64), Z),
    "ravel as it lies": (lambda x: x.transpose(1, 0, 2).ravel("K"), CUBE),
    "flatten as it lies": (lambda x: (x.transpose(2, 0, 1) * 2).flatten("K"), CUBE),
    "ravel backwards as it lies": (lambda x: x[:, ::-1].ravel("K"), CUBE),
    "diff of order 0": (lambda x: np.diff(x, n=0, prepend=1.0, append=2.0), V),
    "ldexp far out": (lambda x: np.ldexp(x, [1030, -1080, 3]), np.array([1e-10, 1e10, 1.0])),
    "ldexp, broadcast": (lambda x: np.ldexp(x, np.array([[1], [2]])), np.float32(V)),
    "quantile, lower": (lambda x: np.quantile(x, 0.6, method="lower"), np.array([1.0, 2.0, INF])),
    "quantile, infinite": (lambda x: np.quantile(x, [0.3, 0.6]), np.array([-INF, 2.0, INF])),
    "quantile, last": (lambda x: np.quantile(x, 1), np.array([1.0, 2.0, INF])),
    "percentile, nearest": (lambda x: np.percentile(x, 100, method="nearest"), np.array([1.0, 2.0, INF])),
    "interp to infinity": (lambda y: np.interp([0.0, 0.5, 1.0], [0, 1], y), np.array([2.0, INF])),
    "interp from infinity": (lambda y: np.interp([0.0, 0.5, 1.0], [0, 1], y), np.array([-INF, 2.0])),
    "interp from infinity to itself": (lambda y: np.interp([0.0, 0.5, 1.0], [0, 1], y), np.array([INF, INF])),
    "interp at infinite ends": (lambda y: np.interp([0.0, 1.0], [0, 1], y), np.array([-INF, INF])),
    "modf of infinities": (lambda x: np.modf(x)[0], np.array([INF, -INF, 2.5])),
    "gradient around infinity": (np.gradient, np.array([0.0, 1.0, INF, 3.0, 4.0])),
    "gradient around infinity, even": (
        lambda x: np.gradient(x, [0, 2, 4, 6, 8.0]),
        np.array([0.0, 1.0, INF, 3.0, 4.0]),
    ),
    "gradient around infinity, uneven": (
        lambda x: np.gradient(x, [0, 1, 3, 4, 6]),
        np.array([0.0, 1.0, INF, 3.0, 4.0]),
    ),
    "sign of infinities": (np.sign, np.array([complex(INF, 1), complex(1, -INF), 0, 1 + 1j])),
    "round of infinity": (np.round, np.array([complex(-INF, 0), 1.26 + 2.5j])),
    "round to tens": (lambda x: np.round(x, -1), np.array([124.0, INF, NAN])),
    "unwrap of infinity": (np.unwrap, np.array([[INF, NAN]])),
    "power, list of exponents": (lambda z: np.power(z, [2.0]), Z),
    "power of a list": (lambda z: np.power([2.0], z), Z),
    "float_power, list": (lambda x: np.float_power(x, [2.0]), np.float32(V)),
    "add in float32, list": (lambda x: np.add(x, [1.0, 2.0, 3.0], dtype=np.float32), V),
    "matmul in float32, list": (lambda x: np.matmul(x, [1.0, 2.0, 3.0], dtype=np.float32), V),
    "power, list of its own": (lambda x: np.power(x, [x[0], 2.0, 3.0]), V),
    "pad of nothing": (lambda x: np.pad(x, ((1, 0), (0, 0))), np.zeros((4, 0))),
    "min along what is long, of nothing": (lambda x: np.min(x, axis=0, initial=1.0), np.zeros((4, 0))),
    "median of nothing": (np.median, np.zeros((0, 4))),
    "median of nothing in a row": (lambda x: np.median(x, axis=1), np.zeros((2, 0))),
    "resize of nothing": (lambda x: np.resize(x, (2,)), np.zeros(0)),
    "cumulative_sum of nothing": (lambda x: np.cumulative_sum(x, axis=0, include_initial=True), np.zeros((0, 1))),
    "cumulative_prod of nothing": (lambda x: np.cumulative_prod(x, axis=0, include_initial=True), np.zeros((0, 1))),
    "reductions of a number": (lambda x: np.sum(x.sum(), axis=0) + x.sum().max(-1) + np.prod(x.sum(), -1), V),
    "ptp of a number": (lambda x: np.ptp(x.sum(), 0), V),
    "ufuncs reduce a number": (lambda x: np.add.reduce(x.sum()) + np.multiply.reduce(x.sum()), V),
    "logaddexp reduces a number": (lambda x: np.logaddexp.reduce(x.sum()), V),
    "cumulative_sum of a number": (lambda x: np.cumulative_sum(x.sum()), V),
    "cumsum of a number": (lambda x: np.cumsum(x.sum(), axis=-1), V),
    "astype, casting and order": (lambda x: x.astype(np.float32, order="F", casting="same_kind").ravel("K"), M),
    "cross in the plane": (lambda x: np.cross(x, [[3.0, 4.0]]), M[:, :2]),
    "cross with the plane": (lambda x: np.cross([3.0, 4.0], x), M),
    "cov by weights in float32": (lambda x: np.cov(x, aweights=[1.0, 2.0, 3.0], dtype=np.float32), np.float32(M)),
    "cov in float32": (lambda x: np.cov(x, dtype=np.float32), M),
    "cov beside complex numbers in float32": (lambda x: np.cov(x, Z, dtype=np.float32), V),
    "cov of float32": (np.cov, np.float32(M)),
    "corrcoef in float32": (lambda x: np.corrcoef(x, dtype=np.float32), M),
    "average and what it is by": (lambda x: np.stack(np.average(x, axis=1, returned=True)), np.float32(M)),
    "average of truths": (lambda x: np.average([True, False, True], weights=x), np.float32(V)),
    "average of truths by complex numbers": (lambda x: np.average([True, False, True], weights=x), np.complex64(Z)),
    "step of linspace": (lambda x: np.linspace(1, x, 3, retstep=True)[1], np.float32(V)),
    "step of linspace, complex": (lambda x: np.linspace(1, x, 3, retstep=True)[1], np.complex64(Z)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", EDGES)
def test_value_is_that_of_numpy_at_the_edges(name):
    f, x = EDGES[name]
    expected = np.asarray(f(x.copy("K")))
    rng = np.random.default_rng(10)
    v, w = (rng.standard_normal(shape) for shape in (x.shape, expected.shape))
    y, dy = ds.jvp(f, (x,), (v.astype(x.dtype),))
    z, pull = ds.vjp(f, x)
    (x_bar,) = pull(w.astype(expected.dtype))
    tolerance = VALUE if {expected.dtype.char, x.dtype.char} <= set("dD") else 1e-6
    for value in (y, z):
        assert value.dtype == expected.dtype
        assert np.shape(value) == expected.shape
        np.testing.assert_allclose(value, expected, rtol=tolerance)
    assert dy.dtype == expected.dtype
    if np.isfinite(dy).all() and np.isfinite(x_bar).all():
        np.testing.assert_allclose(np.vdot(w, dy).real, np.vdot(x_bar, v).real, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("direction", [1.0, 1j, 2.0 - 3j])
def test_a_complex_number_may_be_finite_in_one_part(direction):
    z = np.array([complex(np.nan, 3), complex(4, np.inf), complex(-np.inf, np.nan), complex(1, -0.0)])
    v = np.full(4, direction)
    kept = [1j * v[0].imag, v[1].real, 0.0, v[3]]
    y, dy = ds.jvp(lambda z: np.nan_to_num(z, nan=2.0, posinf=7), (z,), (v,))
    np.testing.assert_array_equal(y, np.nan_to_num(z, nan=2.0, posinf=7))
    np.testing.assert_array_equal(dy, kept)
    np.testing.assert_array_equal(ds.vjp(np.nan_to_num, z)[1](v)[0], kept)


MASKED = {
    "divide": lambda y, **where: np.divide(3.0, y, **where),
    "divide a list": lambda y, **where: np.divide([1.0, 2.0, 3.0][: len(y)], y, **where),
    "log": np.log,
    "sqrt": np.sqrt,
    "reciprocal": np.reciprocal,
    "power": lambda y, **where: np.power(y, -1.5, **where),
    "power by an array": lambda y, **where: np.power(y, np.array([-2, -1, -3])[: len(y)].astype(float), **where),
    "arccosh": np.arccosh,
    "log10 of float32": lambda y, **where: np.log10(y, **where),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MASKED)
def test_where_keeps_out_what_has_no_slope(name, mode):
    """Neither a NaN nor a warning comes from where a ufunc was not asked for its value."""
    ufunc, x = MASKED[name], np.array([2.0, 0.0, -1.0], dtype=np.float32 if "float32" in name else np.float64)
    f = lambda y: np.sum(ufunc(y, out=np.zeros_like(y), where=y > 0))  # noqa: E731
    alone = lambda y: np.sum(ufunc(y[:1]))  # noqa: E731
    value, slopes = ds.value_and_gradient(f, x, mode=mode)
    assert value == f(x)
    assert slopes.dtype == x.dtype
    np.testing.assert_array_equal(slopes, ds.gradient(alone, x[:1], mode=mode)[0] * np.array([1, 0, 0]))
    np.testing.assert_array_equal(ds.hessian(f, x), ds.hessian(alone, x[:1]) * np.diag([1, 0, 0]))


WIDE = np.float32([1e8, 1.0, -1e8])


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: np.sum(x, dtype=np.float64), WIDE),
        (lambda x: np.mean(x, dtype=np.float64), WIDE),
        (lambda x: np.cumsum(x, dtype=np.float64), WIDE),
        (lambda x: np.std(x, dtype=np.float64), WIDE),
        (lambda x: np.add.reduce(x, dtype=np.float64), WIDE),
        (lambda x: np.exp(x, dtype=np.float64), np.float32([100.0])),
        (lambda x: np.float_power(x, 2), np.float32([1e30])),
    ],
    ids=["sum", "mean", "cumsum", "std", "add.reduce", "exp", "float_power"],
)
def test_dtype_is_what_is_computed_in(f, x):
    value, slope = ds.jvp(f, (x,), (np.ones_like(x),))
    np.testing.assert_allclose(value, f(x), rtol=1e-15)
    np.testing.assert_allclose(slope, ds.jvp(f, (x.astype(np.float64),), (np.ones_like(x),))[1], rtol=1e-15)


@pytest.mark.parametrize("q", (0.3, [0.3, 0.5], np.float32(0.3), np.float32([0.3, 0.5])), ids=repr)
@pytest.mark.parametrize("method", ("linear", "lower", "nearest", "median_unbiased"))
def test_quantiles_have_the_precision_that_numpy_gives_them(method, q):
    x = np.float32([3.0, 1.0, 4.0, 1.5, 9.0])
    expected = np.quantile(x, q, method=method), np.percentile(x, 100 * np.asarray(q), method=method)
    values, slopes = ds.jvp(
        lambda x: (np.quantile(x, q, method=method), np.percentile(x, 100 * np.asarray(q), method=method)), (x,), (x,)
    )
    for wanted, value, slope in zip(expected, values, slopes):
        assert wanted.dtype == value.dtype == slope.dtype
        np.testing.assert_allclose(value, wanted, rtol=1e-6)


def test_the_sign_and_powers_of_complex_numbers():
    z, h = 1.0 + 2.0j, 1e-6
    for f, v in ((np.sign, 1.0), (np.sign, 1j), (lambda z: np.power(-2.0, z), 1.0), (lambda z: (-2) ** z, 1.0)):
        slope = (f(z + h * v) - f(z - h * v)) / (2 * h)
        np.testing.assert_allclose(ds.jvp(f, (z,), (v + 0j,))[1], slope, rtol=1e-8)


#: with a constant b, whose precision is not that of the result: NumPy takes functions of b alone in that of b
BESIDE = {
    "x / b": lambda x, b: x / b,
    "b / x": lambda x, b: b / x,
    "x b": lambda x, b: x * b,
    "x - b": lambda x, b: x - b,
    "x^b": lambda x, b: x**b,
    "b^x": lambda x, b: b**x,
    "x mod b": lambda x, b: np.fmod(x, b) + np.remainder(x, b),
    "hypot": np.hypot,
    "arctan2(x, b)": np.arctan2,
    "arctan2(b, x)": lambda x, b: np.arctan2(b, x),
    "logaddexp": np.logaddexp,
    "logaddexp2": lambda x, b: np.logaddexp2(b, x),
    "maximum": np.maximum,
    "copysign": np.copysign,
    "where": lambda x, b: np.where(x > 1, x, b),
    "outer": np.outer,
    "dot": np.dot,
    "einsum": lambda x, b: np.einsum("i,j->ij", x, b),
    "convolve": np.convolve,
    "polyval": lambda x, b: np.polyval(b, x),
    "average": lambda x, b: np.average(x, weights=b),
    "interp": lambda x, b: np.interp(x, [0.0, 1.0, 3.0], b),
    "interp in b": lambda x, b: np.interp([1.5, 2.5], np.cumsum(b), x),
    "gradient": lambda x, b: np.gradient(x, np.cumsum(b, dtype=b.dtype)[::-1]),
    "solve": lambda x, b: np.linalg.solve(np.diag(b), x),
    "lstsq": lambda x, b: np.linalg.lstsq(b[:, None], x, rcond=None)[0],
}


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "float16", "float32"])
@pytest.mark.parametrize("name", BESIDE)
def test_constants_of_less_precision_cost_no_digits(name, dtype):
    if (name, dtype) in {("solve", "float16"), ("lstsq", "float16"), ("gradient", "bool")}:
        return  # NumPy refuses it
    f, x = BESIDE[name], np.array([1.3, 0.7, 2.1])
    b = (np.array([7, 3, 5]) / (1 if np.dtype(dtype).kind in "biu" else 8)).astype(dtype)
    wide = b.astype(np.float64)
    for mode in MODES:
        agree(ds.jacobian(lambda x: f(x, b), x, mode=mode), ds.jacobian(lambda x: f(x, wide), x, mode=mode), VALUE)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("zero", [0, 0.0, -0.0, False], ids=repr)
def test_to_divide_by_zero_of_python_is_to_divide_by_that_of_numpy(zero, mode):
    x = np.float32([1.0, -2.0])
    with np.errstate(all="ignore"):
        J, expected = (ds.jacobian(lambda x, b=b: x / b, x, mode=mode) for b in (zero, np.float32(zero)))
    assert J.dtype == np.float32
    np.testing.assert_array_equal(J, expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("f", [np.divide, np.power, np.hypot, np.remainder, np.logaddexp], ids=lambda f: f.__name__)
def test_a_list_is_an_array(f, mode):
    x, b = np.array([1.3, 0.7, 2.1]), [0.5, 2.0, 3.0]
    agree(ds.jacobian(lambda x: f(x, b), x, mode=mode), ds.jacobian(lambda x: f(x, np.array(b)), x, mode=mode), VALUE)
    agree(ds.jacobian(lambda x: f(b, x), x, mode=mode), ds.jacobian(lambda x: f(np.array(b), x), x, mode=mode), VALUE)


#: functions of x and a list beside it
BESIDE_A_LIST = {
    "add": np.add,
    "matmul": np.matmul,
    "dot": np.dot,
    "inner": np.inner,
    "outer": np.outer,
    "kron": np.kron,
    "cross": np.cross,
    "tensordot": lambda x, b: np.tensordot(x, b, 1),
    "einsum": lambda x, b: np.einsum("i,i->", x, b),
    "convolve": np.convolve,
    "concatenate": lambda x, b: np.concatenate([x, b]),
    "stack": lambda x, b: np.stack([b, x]),
    "vstack": lambda x, b: np.vstack([x, b]),
    "append": np.append,
    "where": lambda x, b: np.where([True, False, True], x, b),
    "select": lambda x, b: np.select([x > 1, x > 0], [x, b]),
    "choose": lambda x, b: np.choose([0, 1, 0], [x, b]),
    "average": lambda x, b: np.average(x, weights=b),
    "trapezoid": np.trapezoid,
    "cov": np.cov,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", BESIDE_A_LIST)
def test_a_list_with_traced_numbers_is_an_array(name, mode):
    f, x = BESIDE_A_LIST[name], np.array([1.3, 0.7, 2.1])
    beside = lambda x: [x[2], 2.0, x[0] * x[1]]  # noqa: E731
    stacked = ds.jacobian(lambda x: f(x, np.stack(beside(x))), x, mode=mode)
    agree(ds.jacobian(lambda x: f(x, beside(x)), x, mode=mode), stacked, VALUE)


class Table:
    """Values with an arithmetic of their own, as a table of pandas, of which NumPy makes an array if it is asked to."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values

    def __sub__(self, other):  # leaves it to what outranks a table, as pandas does
        return NotImplemented if getattr(other, "__pandas_priority__", 0) > 4000 else Table(self.values - other)

    def __truediv__(self, other):
        return Table(self.values / other)

    def to_numpy(self):
        return self.values


class Quantity(np.ndarray):
    """An array that counts in a unit."""

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return NotImplemented


HALVES = np.array([[0.5, 1.5], [2.5, 3.5]])
FOREIGN = {
    "a masked array": (np.ma.masked_array(HALVES, HALVES > 3), r"m\.filled"),
    "a matrix": (HALVES.view(np.matrix), r"numpy\.matrix.*np\.asarray\(m\)"),
    "a quantity": (HALVES.view(Quantity), r"Quantity.*np\.asarray\(m\)"),
    "a table": (Table(HALVES), r"Table.*m\.to_numpy\(\)"),
    "a sparse matrix": (scipy.sparse.csr_matrix(HALVES), r"scipy\.csr_matrix.*m\.toarray\(\)"),
}
MEETINGS = {
    "x - m": lambda x, m: x - m,
    "x @ m": lambda x, m: x @ m,
    "x**m": lambda x, m: x**m,
    "an element times m": lambda x, m: x[0, 0] * m,
    "a sum in place": lambda x, m: (x * x).__iadd__(m),
    "multiply": lambda x, m: np.multiply(x, m),
    "dot": lambda x, m: np.dot(m, x),
    "einsum": lambda x, m: np.einsum("ij,jk", m, x),
    "stack": lambda x, m: np.stack([m, x]),
    "concatenate": lambda x, m: np.concatenate([x, m]),
    "where": lambda x, m: np.where(HALVES > 1, x, m),
    "clip": lambda x, m: np.clip(x, m, None),
    "a list of it": lambda x, m: x * [m, m],
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("meeting", MEETINGS)
@pytest.mark.parametrize("name", FOREIGN)
def test_arrays_with_operations_of_their_own_are_refused(name, meeting, mode):
    """Rules would take their values alone, and differentiate another function."""
    (m, message), f = FOREIGN[name], MEETINGS[meeting]
    with pytest.raises(ds.DTypeError, match=f"test_numpy_dispatch.*traced array met.*{message}"):
        ds.jacobian(lambda x: f(x, m), HALVES, mode=mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("meeting", ["x - m", "x @ m", "an element times m"])
def test_what_is_no_array_at_all_asks_for_a_rule(meeting, mode):
    operator = scipy.sparse.linalg.aslinearoperator(HALVES)
    with pytest.raises(ds.DTypeError, match=r"LinearOperator.*rule; make .*custom_rule"):
        ds.jacobian(lambda x: MEETINGS[meeting](x, operator), HALVES, mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_a_table_before_a_traced_array_is_refused_too(mode):
    with pytest.raises(ds.DTypeError, match=r"m\.to_numpy\(\)"):
        ds.jacobian(lambda x: Table(HALVES) - x, HALVES, mode=mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["a masked array", "a sparse matrix"])
@pytest.mark.parametrize("f", [lambda x, m: m - x, lambda x, m: m @ x, lambda x, m: m.dot(x)], ids=["-", "@", "dot"])
def test_those_that_go_first_are_told_where(f, name, mode):
    with pytest.raises((ds.DTypeError, ds.MissingRuleError), match=r"test_numpy_dispatch.*(filled|toarray)"):
        ds.jacobian(lambda x: f(x, FOREIGN[name][0]), HALVES, mode=mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("meeting", ["x - m", "x @ m", "x**m", "dot", "stack", "where", "clip"])
def test_arrays_under_another_name_are_arrays(meeting, mode):
    """Of a subclass without operations of its own, and what NumPy can only take for an array."""

    class Named(np.ndarray):
        pass

    f = MEETINGS[meeting]
    expected = ds.jacobian(lambda x: f(x, HALVES), HALVES, mode=mode)
    for m in (HALVES.view(Named), memoryview(HALVES)):
        np.testing.assert_array_equal(ds.jacobian(lambda x, m=m: f(x, m), HALVES, mode=mode), expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("meeting", ["x - m", "x**m", "stack", "where", "clip"])
def test_numbers_under_another_name_are_numbers(meeting, mode):
    """Those derived from Python's, as the members of an IntEnum are."""

    class Rate(float):
        pass

    class Order(enum.IntEnum):
        TWO = 2

    f = MEETINGS[meeting]
    for m, plain in ((Rate(1.5), 1.5), (Order.TWO, 2), ([[Order.TWO, Rate(1.5)], [3.0, 1]], [[2, 1.5], [3.0, 1]])):
        if meeting == "stack" and not isinstance(m, list):
            continue
        expected, actual = (ds.jacobian(lambda x, m=m: f(x, m), HALVES, mode=mode) for m in (plain, m))
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy], ids=lambda f: f.__name__)
def test_copies_are_differentiated(copied, mode):
    f = lambda x: np.sum(copied({"W": x})["W"] ** 2)  # noqa: E731
    np.testing.assert_array_equal(ds.gradient(f, HALVES, mode=mode), 2 * HALVES)


NO_NUMBERS = {
    "x times an array of objects": (lambda x: x * np.array([1, 2, 3], dtype=object), "dtype object"),
    "an array of objects to the power x": (lambda x: np.array([1, 2, 3], dtype=object) ** x, "dtype object"),
    "x times a Fraction": (lambda x: x * Fraction(1, 2), "Fraction"),
    "a sum over a Fraction": (lambda x: np.sum(x) / Fraction(1, 2), "Fraction"),
    "a Decimal less x": (lambda x: Decimal(1) - x[0], "Fraction"),
    "a variable with a mask": (lambda x: ds.gradient(np.sum, np.ma.masked_array([1.0, 2.0], [0, 1])), "filled"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NO_NUMBERS)
def test_what_holds_no_numbers_of_numpy_is_refused(name, mode):
    f, message = NO_NUMBERS[name]
    with pytest.raises(ds.DTypeError, match=message):
        ds.jacobian(f, np.ones(3), mode=mode)


KINKS = {
    "max of equals": (np.max, [2.0, 1.0, 2.0], [0.5, 0.0, 0.5]),
    "min of three equals": (np.min, [1.0, 1.0, 1.0], [1 / 3, 1 / 3, 1 / 3]),
    "maximum of equals": (lambda x: np.maximum(x[0], x[1]), [1.0, 1.0], [0.5, 0.5]),
    "prod with one zero": (np.prod, [2.0, 0.0, 3.0], [0.0, 6.0, 0.0]),
    "prod with two zeros": (np.prod, [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    "prod of zeros and its only other factor": (np.prod, [0.0, 5.0], [5.0, 0.0]),
    "last of cumprod with one zero": (lambda x: np.cumprod(x)[-1], [2.0, 0.0, 3.0], [0.0, 6.0, 0.0]),
    "std of equals": (np.std, [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]),
    "abs of zero": (lambda x: np.sum(np.abs(x)), [0.0, -2.0], [0.0, -1.0]),
    "logaddexp of infinities": (lambda x: np.logaddexp.reduce(x), [0.0, -np.inf], [1.0, 0.0]),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", KINKS.values(), ids=KINKS.keys())
def test_gradient_at_a_kink(case, mode):
    f, x, expected = case
    np.testing.assert_allclose(ds.gradient(f, np.array(x), mode=mode), expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("mode", MODES)
def test_product_keeps_its_digits_where_division_would_lose_them(mode):
    x = np.array([1e-300, 1e-30, 1e10])  # whose product is subnormal
    expected = [1e-20, 1e-290, 0.0]
    np.testing.assert_allclose(ds.gradient(np.prod, x, mode=mode), expected, rtol=1e-14)


# ---------------------------------------------------------------------------------------------------------------------
# Writing in place


def _add_at(x):
    y = np.zeros_like(x)
    np.add.at(y, [0, 2, 2], x[:3] * 2)
    return y


def _copyto(x):
    y = np.empty_like(x)
    np.copyto(y, x * x)
    np.copyto(y, 7.0, where=np.arange(5) % 2 == 0)
    return y


def _fill_diagonal(x):
    y = np.outer(x, x)
    np.fill_diagonal(y, x[0])
    return y


def _put_along_axis(x):
    y = np.outer(x, x)
    np.put_along_axis(y, np.array([[1], [0], [2], [2], [4]]), x[:, None] ** 3, axis=1)
    return y


def _put(x):
    y = x * x
    np.put(y, [0, -1], x[1:3])
    y.put([2], 0.5)
    return y


def _masks(x):
    y = x * 1.0
    np.putmask(y, np.arange(5) > 2, x * x)
    np.place(y, np.arange(5) < 1, x[-1:])
    y[np.arange(5) == 1] = x[3]
    return y


def _last_write_stands(x):
    y = np.zeros_like(x)
    y[[1, 1, 3]] = x[:3]
    return y


def _methods(x):
    y = x.copy()
    y.fill(2.0)
    y[1:3] = np.sin(x[:2])
    y.sort()
    return y


def _broadcast(x):
    y = np.zeros_like(x, shape=(3, 5))
    y[:, 1:] = x[0]
    y[1] = x
    y[..., 0] = x[:3]
    return y


def _apart(x):
    y = np.zeros_like(x, shape=(2, 3, 5))
    y[0, :, [1, 3]] = x[:3]
    y[[0, 1], 2, [0, 4]] = x[3:]
    return y


def _augmented(x):
    y = x * x
    y += x
    y *= y[0]
    y[1:] -= y[:-1]
    y /= 2.0
    y **= 2
    return y


def _ufunc_out(x):
    y = np.empty_like(x)
    np.multiply(x, x, out=y)
    np.add(y, 1.0, out=y)
    np.sum(np.outer(x, x), axis=0, out=y)
    return y


def _number(x):
    total = np.zeros_like(x[0])
    for k in range(5):
        total += x[k] ** k
    return total


def _view_of_view(x):
    y = np.outer(x, x)
    rows = y[1:4]
    rows[1:, ::2] = 0.5 * x[:3]
    rows[0] *= 2
    return y * y


def _read_after_write_to_base(x):
    y = x * x
    tail = y[2:]
    y[3] = x[0]
    return tail * tail


def _in_another_layout(x):
    y = np.zeros_like(np.outer(x, x), order="F")
    y.reshape(-1)[0] = 5.0  # of a copy
    z = np.ones_like(np.outer(x, x).T)
    z.ravel("K")[1] = x[2]
    return y + z * x


def _views_of_one_element(x):
    y = x * x
    element = y[0, ...]
    element *= x[1]
    last = np.squeeze(y[-1:])
    last -= y[1]
    number = y[2]
    number += 7.0  # no view
    return y


def _numbers_that_are_no_views(x):
    for number in (
        np.median(x),
        np.quantile(x, 0.5),
        np.quantile(x, 0.4, method="lower"),
        np.inner(x, x),
        np.vecdot(x, x),
    ):
        other = number
        other += 1.0
        x = x + number * other
    return x


def _the_conjugate_of_real_numbers(x):
    y = x * x
    z = y.conj()
    z *= x
    np.conjugate(y)[0] = 3.0  # of a copy
    return y


def _numbers_made_of_nan(x):
    y = np.where([False, True, False, True, False], [0.0, np.nan, 0.0, np.inf, 0.0], x * x)
    return np.nan_to_num(y, copy=False, posinf=2.0) * y


def _copied_from_a_row(x):
    y = np.zeros_like(x)
    np.copyto(y, (x * x)[None])
    return y


WRITERS = (
    _add_at,
    _in_another_layout,
    _views_of_one_element,
    _numbers_that_are_no_views,
    _the_conjugate_of_real_numbers,
    _numbers_made_of_nan,
    _copied_from_a_row,
    _copyto,
    _fill_diagonal,
    _put_along_axis,
    _put,
    _masks,
    _last_write_stands,
    _methods,
    _broadcast,
    _apart,
    _augmented,
    _ufunc_out,
    _number,
    _view_of_view,
    _read_after_write_to_base,
)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("writer", WRITERS, ids=lambda f: f.__name__.strip("_").replace("_", " "))
def test_writing_in_place(writer, mode):
    x = np.random.default_rng(7).uniform(0.5, 2.0, 5)
    value, J = ds.value_and_jacobian(writer, x, mode=mode)
    agree(value, writer(x), VALUE)
    v = np.random.default_rng(8).standard_normal(5)
    there, here = (writer(x + s * STEP * v) for s in (1, -1))
    agree(J @ v, (there - here) / (2 * STEP), DIFFERENCES)


@pytest.mark.parametrize("outer", MODES)
@pytest.mark.parametrize("inner", MODES)
@pytest.mark.parametrize("writer", WRITERS, ids=lambda f: f.__name__.strip("_").replace("_", " "))
def test_writing_in_place_twice_differentiated(writer, outer, inner):
    x = np.random.default_rng(7).uniform(0.5, 2.0, 5)
    weights = np.random.default_rng(9).standard_normal(np.shape(writer(x)))

    def f(x):
        return np.sum(weights * writer(x) ** 2)

    H = ds.jacobian(lambda x: ds.gradient(f, x, mode=inner), x, mode=outer)
    v = np.random.default_rng(8).standard_normal(5)
    there, here = (ds.gradient(f, x + s * STEP * v) for s in (1, -1))
    agree(H @ v, (there - here) / (2 * STEP), 10 * DIFFERENCES)


# What a function returns is fresh memory or a view of its argument, as in NumPy: whether writing there changes x
MEMORY = {
    "x + 0": lambda x: x + 0,
    "x - 0": lambda x: x - 0.0,
    "+x": lambda x: +x,
    "x % 100": lambda x: x % 100,
    "real": np.real,
    "conj": np.conj,
    "x.conj": lambda x: x.conj(),
    "clip": lambda x: np.clip(x, -100, 100),
    "copy": np.copy,
    "astype": lambda x: x.astype(float),
    "flatten": lambda x: x.flatten(),
    "ravel": np.ravel,
    "ravel as it lies": lambda x: x.T.ravel("K"),
    "ravel of the transpose": lambda x: x.T.ravel(),
    "reshape": lambda x: np.reshape(x, (2, 3)),
    "transpose": np.transpose,
    "swapaxes": lambda x: np.swapaxes(x, 0, 1),
    "expand_dims": lambda x: np.expand_dims(x, 1),
    "squeeze": lambda x: np.squeeze(x),
    "atleast_3d": np.atleast_3d,
    "a slice": lambda x: x[1:],
    "rows of the transpose": lambda x: x.T[0],
    "a mask": lambda x: x[x == x],
    "flip": np.flip,
    "split": lambda x: np.split(x, 3)[1],
    "sum over no axis": lambda x: np.sum(x, axis=()),
    "concatenate": lambda x: np.concatenate([x]),
    "stack": lambda x: np.stack([x]),
    "where": lambda x: np.where(True, x, 0),
    "roll": lambda x: np.roll(x, 0),
    "sort": np.sort,
    "triu": lambda x: np.triu(x, -5),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("function", MEMORY.values(), ids=MEMORY.keys())
def test_writing_into_a_result_changes_its_argument_as_in_numpy(function, mode):
    def f(x):
        x = x * 2.0
        y = function(x)
        y[0] = y[-1] * 3.0
        return x * x + np.sum(y)

    x = np.arange(1.0, 7.0).reshape(3, 2)
    value, J = ds.value_and_jacobian(f, x, mode=mode)
    agree(value, f(x), VALUE)
    v = np.random.default_rng(8).standard_normal(x.shape)
    agree(np.tensordot(J, v, 2), (f(x + STEP * v) - f(x - STEP * v)) / (2 * STEP), DIFFERENCES)


# ---------------------------------------------------------------------------------------------------------------------
# Questions, complaints, and ways out

QUESTIONS = {
    "shape": lambda x: (x.shape, np.shape(x), x.ndim, np.ndim(x), x.size, np.size(x), np.size(x, 0), len(x)),
    "argmax": lambda x: (int(np.argmax(x)), x.argmin(axis=0).tolist(), np.argsort(x).tolist(), x.argmax()),
    "comparisons": lambda x: ((x > 0).tolist(), (1 - x > 0).tolist(), (x == x).all(), (x != x).any()),
    "finiteness": lambda x: (np.isfinite(x).all(), np.isnan(x).any(), np.isinf(x).any(), np.isposinf(x).any()),
    "closeness": lambda x: (
        np.allclose(x, x + 1e-12),
        np.isclose(x, 0).any(),
        np.array_equal(x, x),
        np.array_equiv(x, x),
    ),
    "truth": lambda x: (bool(np.any(x)), bool(x.all()), bool(x[0, 0]), bool(np.logical_and(x > 0, x < 1).any())),
    "counting": lambda x: (np.count_nonzero(x), [i.tolist() for i in np.nonzero(x)], x.nonzero()[0].tolist()),
    "searching": lambda x: (np.searchsorted([-1.0, 0.0, 1.0], x).tolist(), np.digitize(x, [0.0]).tolist()),
    "layout": lambda x: (x.strides, x.T.strides, x.flags.c_contiguous, x.T.flags.c_contiguous),
    "kinds": lambda x: (np.result_type(x), x.dtype, np.iscomplexobj(x), np.isrealobj(x), x.itemsize, x.nbytes),
    "sign": lambda x: (np.signbit(x).tolist(), np.isin(x, [1.0]).tolist(), np.sign(x[0, 0]) > 0),
    "logical reduction": lambda x: (np.logical_and.reduce(x > 0, axis=None), np.logical_or.reduce(x)[0]),
    "membership": lambda x: 0.25 in x,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS.keys())
def test_questions_are_answered_by_the_primal(question, mode):
    x = np.random.default_rng(1).standard_normal((3, 4))
    answers = []

    def f(x):
        answers.append(question(x))
        return np.sum(x)

    ds.gradient(f, x, mode=mode)
    assert answers[0] == question(x)


COMPLAINTS = {
    "sum, axis out of bounds": lambda x: np.sum(x, axis=2),
    "sum, repeated axis": lambda x: np.sum(x, axis=(0, 0)),
    "max, axis out of bounds": lambda x: x.max(axis=-3),
    "cumsum, axis out of bounds": lambda x: np.cumsum(x, axis=5),
    "cumulative_sum without an axis": lambda x: np.cumulative_sum(x),
    "reshape to another size": lambda x: np.reshape(x, (5, 2)),
    "reshape to an unknown size": lambda x: x.reshape(-1, 5),
    "transpose, wrong axes": lambda x: np.transpose(x, (0, 0)),
    "transpose, too few axes": lambda x: np.transpose(x, (0,)),
    "swapaxes out of bounds": lambda x: np.swapaxes(x, 0, 2),
    "squeeze of a long axis": lambda x: np.squeeze(x, 0),
    "expand_dims, repeated": lambda x: np.expand_dims(x, (0, 0)),
    "broadcast_to fewer axes": lambda x: np.broadcast_to(x, (4,)),
    "broadcast_to another length": lambda x: np.broadcast_to(x, (2, 4)),
    "index out of bounds": lambda x: x[3],
    "too many indices": lambda x: x[0, 0, 0],
    "mask of another shape": lambda x: x[np.ones(5, dtype=bool)],
    "take out of bounds": lambda x: np.take(x, [7], axis=0),
    "concatenate of unequal lengths": lambda x: np.concatenate([x, np.ones((3, 3))], axis=0),
    "concatenate, axis out of bounds": lambda x: np.concatenate([x, x], axis=2),
    "stack of unequal shapes": lambda x: np.stack([x, np.ones((3, 3))]),
    "split into unequal parts": lambda x: np.split(x, 2),
    "matmul of unequal lengths": lambda x: x @ x,
    "matmul with a number": lambda x: np.matmul(x, 2.0),
    "operands that do not broadcast": lambda x: x + np.ones(3),
    "where that does not broadcast": lambda x: np.where(np.ones(3, dtype=bool), x, 0.0),
    "tensordot of unequal lengths": lambda x: np.tensordot(x, x, 1),
    "linalg.outer of matrices": lambda x: np.linalg.outer(x, x),
    "norm, axis out of bounds": lambda x: np.linalg.norm(x, axis=2),
    "norm, axis out of bounds below": lambda x: np.linalg.norm(x, axis=-3),
    "norm, one of two axes out of bounds": lambda x: np.linalg.norm(x, axis=(1, 2)),
    "norm, a list of axes": lambda x: np.linalg.norm(x, axis=[0, 1]),
    "vector_norm, a list of axes": lambda x: np.linalg.vector_norm(x, axis=[0, 1]),
    "vector_norm, axis out of bounds": lambda x: np.linalg.vector_norm(x[0], axis=1),
    "max of nothing": lambda x: np.max(x[:0]),
    "astype, unsafe": lambda x: x.astype(np.float32, casting="safe"),
    "add in a lesser kind": lambda x: np.add(x, 1j, dtype=np.float64),
    "accumulation of a number": lambda x: np.maximum.accumulate(x[0, 0]),
    "sum of a number along axes": lambda x: np.sum(x[0, 0], axis=(0,)),
    "mean of a number along an axis": lambda x: np.mean(x[0, 0], axis=0),
    "len of a number": lambda x: len(x[0, 0]) if np.ndim(x[0, 0]) else len(np.zeros(())),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("call", COMPLAINTS.values(), ids=COMPLAINTS.keys())
def test_complaints_are_those_of_numpy(call, mode):
    x = np.random.default_rng(1).standard_normal((3, 4))
    with pytest.raises(Exception) as expected:
        call(x)
    with pytest.raises(expected.type) as complaint:
        ds.jacobian(call, x, mode=mode)
    assert str(expected.value) in str(complaint.value)


def square(a):
    """By a name of the table, and another function than NumPy's."""
    return 3 * a * a


def erf(a):
    """Likewise, of SciPy's."""
    return 5 * a


WITHOUT_RULE = {
    "numpy.linalg.eig": lambda x: np.linalg.eig(x[:, :3])[0],
    "numpy.histogram": lambda x: np.histogram(x)[0],
    "numpy.i0": lambda x: np.i0(x),
    "nextafter": lambda x: np.nextafter(x, 1.0),
    "add.reduceat": lambda x: np.add.reduceat(x, [0, 1]),
    "square": lambda x: numba.vectorize("f8(f8)")(square)(x),
    "erf": lambda x: numba.vectorize("f8(f8)")(erf)(x),
    "numpy.pad with mode='mean'": lambda x: np.pad(x, 1, mode="mean"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", WITHOUT_RULE)
def test_a_function_without_a_rule_is_named(name, mode):
    with pytest.raises(ds.MissingRuleError, match=re.escape(name)) as error:
        ds.jacobian(WITHOUT_RULE[name], np.ones((3, 4)), mode=mode)
    assert "test_numpy_dispatch.py" in str(error.value)


WAYS_OUT = {
    "float": lambda x: float(x[0, 0]),
    "int": lambda x: int(x[0, 0]),
    "complex": lambda x: complex(x[0, 0]),
    "np.asarray": np.asarray,
    "np.array of a list": lambda x: np.array([x[0], x[1]]),
    "np.array of numbers": lambda x: np.array([x[0, 0], x[1, 1]]),
    "writing into np.zeros": lambda x: np.zeros(3).__setitem__(0, x[0, 0]),
    "writing rows into np.zeros": lambda x: np.zeros((3, 4)).__setitem__(0, x[0]),
    "adding into a plain array": lambda x: np.add(x, x, out=np.zeros((3, 4))),
    "item": lambda x: x[0, 0].item(),
    "tolist": lambda x: x.tolist(),
    "range": lambda x: range(x[0, 0]),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS_OUT.values(), ids=WAYS_OUT.keys())
def test_leaving_is_refused_and_says_where(way, mode):
    with pytest.raises(ds.MissingRuleError, match=r"test_numpy_dispatch\.py:\d+"):
        ds.jacobian(way, np.ones((3, 4)), mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_arguments_of_ufuncs(mode):
    x = np.random.default_rng(1).standard_normal((3, 4))
    mask = x > 0

    def f(x):
        y = np.zeros_like(x)
        np.multiply(x, x, out=y, where=mask)
        return y + np.add(x, 1, dtype=np.float64)

    agree(ds.jacobian(f, x, mode=mode), np.diag((2 * x * mask + 1).ravel()).reshape(3, 4, 3, 4), REGROUPED)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128"])
@pytest.mark.parametrize("b", [-2, -1, -1.0, 0, 0.5, 1, 1.0, 1.5, 2, 2.0, 3], ids=repr)
def test_powers_have_numpys_bits_and_their_slopes(b, dtype, mode):
    """NumPy has functions of their own for some exponents of arrays."""
    x = np.random.default_rng(2).uniform(0.5, 2, 5).astype(dtype)
    x = x * np.exp(0.7j).astype(dtype) if dtype == "complex128" else x
    v = np.ones_like(x)
    power = lambda x: x**b  # noqa: E731
    y, pull = ds.vjp(power, x)
    value, slope = ds.jvp(power, (x,), (v,)) if mode == "forward" else (y, np.conj(pull(v)[0]))
    bits = 4 * np.finfo(dtype).eps if dtype == "complex128" else 0  # of complex ones it takes fewer, by version
    np.testing.assert_allclose(value, x**b, rtol=bits)
    assert value.dtype == slope.dtype == x.dtype
    rounding = 16 * np.finfo(dtype).eps  # of two powers
    np.testing.assert_allclose(slope, b * x ** (b - 1.0), rtol=rounding)
    second = ds.jvp(lambda x: ds.jvp(power, (x,), (v,))[1], (x,), (v,))[1]
    np.testing.assert_allclose(second, b * (b - 1) * x ** (b - 2.0), rtol=4 * rounding, atol=4 * rounding)


BY_NAME = {
    "sinc": lambda x: np.sinc(x=x),
    "real": lambda x: np.real(val=x),
    "imag": lambda x: np.imag(val=x * 1j),
    "tile": lambda x: np.tile(A=x, reps=2),
    "delete": lambda x: np.delete(arr=x, obj=1, axis=0),
    "rot90": lambda x: np.rot90(m=x),
    "fftshift": lambda x: np.fft.fftshift(x=x),
    "ifftshift": lambda x: np.fft.ifftshift(x=x, axes=1),
    "cond": lambda x: np.linalg.cond(x=x, p="fro"),
    "tensordot": lambda x: np.tensordot(a=x, b=x, axes=1),
    "sum": lambda x: np.sum(a=x, axis=0),
    "norm": lambda x: np.linalg.norm(x=x, ord="f"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", BY_NAME)
def test_the_first_argument_by_its_name_in_numpy(name, mode):
    f, x = BY_NAME[name], np.random.default_rng(3).standard_normal((3, 3)) + 3 * np.eye(3)
    y, J = ds.value_and_jacobian(f, x, mode=mode)
    np.testing.assert_array_equal(y, f(x))
    d = np.random.default_rng(4).standard_normal((3, 3))
    agree(np.tensordot(J, d, 2), (f(x + STEP * d) - f(x - STEP * d)) / (2 * STEP), DIFFERENCES)


@pytest.mark.parametrize("mode", MODES)
def test_a_number_can_be_printed_while_it_is_differentiated(mode):
    seen = []

    def loss(x):
        y = np.sum(x * x)
        seen.append(f"{y:.3f} {y:8.1e} {y}")
        return y

    ds.gradient(loss, np.array([1.0, 2.0]), mode=mode)
    assert seen[0].startswith("5.000  5.0e+00 ") and "Array(" in seen[0]
