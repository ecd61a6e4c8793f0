"""Users' own compiled functions: Dual as they write float, DualArray as arrays, nested, cached, in parallel."""

from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
import textwrap
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import numpy as np
import pytest
from numba import njit, prange
from numba.core.runtime import _nrt_python as _nrt
from numba.core.runtime import rtsys
from numba.typed import List

import dualsvd as ds
from dualsvd.dual import Dual, functions
from dualsvd.elementary import TABLE
from dualsvd.errors import DTypeError, MissingRuleError, ShapeError, TagError
from dualsvd.forward import DualArray
from dualsvd.kernels import arrays, boxing, caching

#: sums in another order, functions of another library: some units of rounding
CLOSE = {"float64": 1e-13, "float32": 1e-5}


def flat(x) -> list:
    """The numbers of a result, in order."""
    if isinstance(x, tuple):
        return [n for part in x for n in flat(part)]
    if isinstance(x, Dual):
        return [n for part in (x.value, *x.partials) for n in flat(part)]
    if isinstance(x, DualArray):
        return flat(x.value) + flat(x.partials)
    return list(np.ravel(x))


def assert_same(result, expected, precision: str = "float64") -> None:
    """Equal structure, values and partials."""
    if isinstance(expected, tuple):
        assert len(result) == len(expected)
        for k, (r, e) in enumerate(zip(result, expected, strict=True)):
            a, b = np.array(flat(r), complex), np.array(flat(e), complex)
            assert a.shape == b.shape, f"entry {k}"
            assert np.all(np.abs(a - b) <= CLOSE[precision] * np.maximum(1, np.abs(b))), f"entry {k}"
    else:
        assert_same((result,), (expected,), precision)


def normal(*shape: int, count: int = 2, dtype: str = "float64", seed: int = 0) -> DualArray:
    """A DualArray of normal numbers."""
    rng = np.random.default_rng([seed, *shape])
    value, partials = rng.standard_normal(shape), rng.standard_normal((count, *shape))
    if np.dtype(dtype).kind == "c":
        value, partials = value + 1j * rng.standard_normal(shape), partials - 0.5j
    return DualArray(value.astype(dtype), partials.astype(dtype))


# ---- Dual


def newton(a):
    """The cube root by iteration: a loop, a branch, a tolerance that looks at the primal."""
    x = 1.0 * a
    for _ in range(100):
        step = (x * x * x - a) / (3 * x * x)
        x = x - step
        if abs(step) < 1e-15:
            break
    return x


def potential(x, y):
    r = np.sqrt(x * x + y * y)
    if r > 1.0 and not y < 0:
        return -1 / r
    return 0.5 * r**2 - 1.5


def accumulate(x):
    total = 0.0
    for k in range(4):
        total += k * x
        total *= 2
    total -= 1
    total /= x
    return total


def attributes(x):
    total = x.value
    for p in x.partials:
        total += p
    return total, len(x.partials), x.partials[0], x.value > 1


def choose(x, y):
    return max(x, y, 1.0), min(x, y), x if x < y else y, np.maximum(x, y), np.where(x > y, x, y), np.clip(x, 0.0, 1.0)


def decide(x, y):
    return bool(x), not x, x == y, x != y, np.isfinite(x), np.isnan(x), x >= 1, y < 1


def construct(x):
    d = Dual(x, (1.0,))
    e = Dual(value=2, partials=(x, 1))
    nested = Dual(Dual(x, (1.0,)), (Dual(1.0, (0.0,)),))
    return d * d, e * x, np.exp(nested), Dual(x, (1j,)), Dual(d, (d,))


def powers(x):
    return 2.0**x, 2**x, pow(3, x), x**2.5, x**x, (1 + 1j) ** x, x**2, x**True, x ** (x > 1), np.hypot(x > 1, x)


def remainders(x, y):
    return divmod(x, 0.75), divmod(5.0, y), divmod(x, y), max((x, y, 1.0)), min((9.0, x)), max((x, x.value, y))


def steps(x, y):
    return round(x), round(x, 1), math.floor(x), math.ceil(x), math.trunc(y), round(y), round(y, -1)


def compare_by_name(x, y):
    of_two = np.greater(x, y), np.less_equal(x, 2.0), np.equal(2.0, x), np.not_equal(x, y), np.less(y, 1)
    logic = np.logical_not(x), np.logical_and(x, y), np.logical_or(0.0, y * 0), np.logical_xor(x, y * 0)
    return of_two, logic, np.signbit(x), np.signbit(-x), np.signbit(x * -0.0), np.greater_equal(x, y)


def angles(z, x):
    return np.angle(z), np.angle(-z, True), np.angle(x), np.angle(-x, deg=True)


def decide_of_complex(z, x):
    w = z * math.inf
    return np.isinf(z), np.isinf(w), np.isfinite(z), np.isfinite(w), np.isnan(z), np.isnan(w * 0), np.isfinite(z * x)


def complex_numbers(z, x):
    return z * z / (z + x), z.real, z.imag, z.conjugate(), abs(z), np.exp(z) * 2j, z**2, np.sqrt(z) - x, np.conj(z)


Z = Dual(1 + 2j, (1j, 0.5))
X2 = Dual(2.0, (1.0, 3.0))


@pytest.mark.parametrize(
    "f, arguments",
    [
        pytest.param(newton, (Dual(8.0, (1.0,)),), id="newton"),
        pytest.param(newton, (Dual(Dual(8.0, (1.0,)), (Dual(1.0, (0.0,)),)),), id="newton, nested"),
        pytest.param(potential, (Dual(1.0, (1.0, 0.0)), Dual(2.0, (0.0, 1.0))), id="branch taken"),
        pytest.param(potential, (Dual(0.5, (1.0, 0.0)), Dual(0.25, (0.0, 1.0))), id="branch not taken"),
        pytest.param(accumulate, (X2,), id="sum that starts as a float"),
        pytest.param(attributes, (X2,), id="attributes"),
        pytest.param(choose, (X2, Dual(0.5, (3.0, 4.0))), id="max and min"),
        pytest.param(decide, (X2, Dual(2.0, (0.0, 0.0))), id="decisions"),
        pytest.param(steps, (X2 * 1.37, X2 * -27.625), id="steps"),
        pytest.param(compare_by_name, (X2, Dual(2.0, (0.0, 0.0))), id="decisions by NumPy's names"),
        pytest.param(construct, (3.0,), id="construction"),
        pytest.param(complex_numbers, (Z, X2), id="complex"),
        pytest.param(decide_of_complex, (Z, X2), id="decisions on complex numbers"),
        pytest.param(remainders, (X2, Dual(0.6, (1.0, -1.0))), id="divmod, and max of a tuple"),
        pytest.param(powers, (X2,), id="powers"),
    ],
)
def test_a_function_of_duals_gives_the_same_compiled_and_in_python(f, arguments):
    assert_same(njit(f)(*arguments), f(*arguments))


IN_MATH = [row for row in TABLE.values() if row.math]


@pytest.fixture(scope="module")
def of_math():
    """All functions of the module math at once."""
    calls = []
    for row in IN_MATH:
        at = [low + 0.4 * (high - low) + 0.01 * k for k, (low, high) in enumerate(row.intervals)]
        calls.append(f"math.{row.math}({', '.join(f'Dual({x!r}, (1.0, {k}))' for k, x in enumerate(at))})")
    source = f"lambda: ({', '.join(calls)},)"
    results = njit(eval(source, {"math": math, "Dual": Dual}))()
    expected = eval(source, {"math": _Substitute(), "Dual": Dual})()
    return dict(zip((row.name for row in IN_MATH), zip(results, expected, strict=True), strict=True))


class _Substitute:
    """The functions of `math` at duals, which Python's own refuse."""

    def __getattr__(self, name: str):
        return next(functions[row.name] for row in IN_MATH if row.math == name)


@pytest.mark.parametrize("name", [row.name for row in IN_MATH])
def test_functions_of_the_module_math(of_math, name):
    assert_same(*of_math[name])


def test_angles_of_a_dual():
    turn = Dual(math.atan2(2, 1), (0.2, -0.2))  # Im(conj(z) dz) / |z|^2
    found = njit(angles)(Z, X2)
    assert_same(found[0], turn)
    assert_same(found[1:], ((turn - math.pi) * (180 / math.pi), X2 * 0, X2 * 0 + 180))


@pytest.mark.parametrize("dtype", ["complex128", "complex64"])
def test_complex_numbers_enter_in_every_form(dtype):
    """Numba itself takes no complex number out of an array without axes."""
    z = np.dtype(dtype).type(2 + 1j)
    array = DualArray(np.array(z), np.ones(1, dtype))
    for number in (array, Dual(z, (z,)), Dual(Dual(z, (1.0,)), (Dual(1.0, (0.0,)),))):
        assert_same(njit(square)(number), square(number), "float32" if dtype == "complex64" else "float64")
    assert ds.derivative(njit(square), z) == ds.derivative(njit(square), np.array(z)) == 4 + 2j


def square(x):
    return x * x


def of_type(x):
    answers = np.iscomplexobj(x), np.isrealobj(x), np.isscalar(x)
    return *answers, np.zeros_like(x), np.empty_like(x) * 0, np.ones_like(x), np.full_like(x, 2.5)


@pytest.mark.parametrize("x", [X2, Z, Dual(X2, (X2,))], ids=["real", "complex", "nested"])
def test_a_dual_is_a_number_of_its_type(x):
    of_complex = isinstance(flat(x)[0], complex)
    assert_same(njit(of_type)(x), (of_complex, not of_complex, True, x * 0, x * 0, x * 0 + 1, x * 0 + 2.5))


def test_round_is_constant_between_its_jumps():
    result = njit(lambda x: (round(x), round(x, 1), round(x, -1)))(Dual(27.25, (3.0,)))
    assert_same(result, (Dual(27.0, (0.0,)), Dual(27.2, (0.0,)), Dual(30.0, (0.0,))))


#: reals and zeros of either sign, and what is not finite
REALS = [0.3, -0.3, 1.4, -1.4, 2.1, 0.7, 0.0, -0.0, math.inf, -math.inf, math.nan, 1e300]
COMPLEX = [complex(a, b) for a in (0.0, -0.0, 2.0, -4.0, math.inf, math.nan) for b in (0.0, -0.0, 1.5, -2.0, math.inf)]
OF_COMPLEX = """
    z + 1.0; 1 + z; z - 2.5; 2 - z; z * 3; -1.5 * z; z / 2.0; True * z; z * np.int8(-1); z + np.float32(2); z * z
    2j - z; z.real - z; z.imag * z; z + z.imag; z * (1 + 0j); z**0; z**2; np.power(z, 2); np.sqrt(1 - z * z)
    np.sqrt(1 - z**2); np.sqrt(z + 1.0); np.log(z * -1.0); np.arcsin(2 - z); np.log10(z); np.tanh(z); np.arccosh(z)
    np.arcsinh(z); np.expm1(z)
"""
OF_REALS = """
    np.power(z, 3); np.power(z, -2); z**3; pow(z, 3); math.pow(z, 3); z**0; z % -0.7; z // 0.7; np.remainder(z, -0.7)
    np.mod(z, 0.7); np.floor_divide(z, 0.7); np.floor_divide(z, -0.7); round(z, 2)
"""


@pytest.mark.parametrize(
    "expression, points",
    [
        pytest.param(expression.strip(), points, id=expression.strip())
        for table, points in ((OF_COMPLEX, COMPLEX), (OF_REALS, REALS))
        for expression in table.strip().replace("\n", ";").split(";")
    ],
)
def test_values_are_those_of_plain_compiled_code_to_the_sign_of_a_zero(expression, points):
    """By which roots and logarithms tell the sides of their cuts."""
    f = njit(eval(f"lambda z: {expression}", {"np": np, "math": math}))
    for z in points:
        plain, dual = (np.array([w.real, w.imag]) for w in (f(z), f(Dual(z, (1.0,))).value))
        np.testing.assert_array_equal(dual, plain, err_msg=f"at {z!r}")
        known = ~np.isnan(plain)
        np.testing.assert_array_equal(np.signbit(dual)[known], np.signbit(plain)[known], err_msg=f"at {z!r}")


@pytest.mark.parametrize("z", [2 + 0j, complex(2, -0.0), complex(-4, 0.0), complex(-4, -0.0)])
@pytest.mark.parametrize("x", [1.0, Dual(1.0, (0.0,))], ids=["a constant", "a Dual"])
def test_slopes_on_a_cut_are_those_of_its_side_compiled(z, x):
    f = njit(lambda z, x: (np.sqrt(x - z * z), np.log(x * z * -1.0), np.arcsin(z), np.arccos(2 * z)))
    h = 1e-6
    up, down = (f(complex(z.real + t, z.imag), 1.0) for t in (h, -h))
    for y, a, b in zip(f(Dual(z, (1.0,)), x), up, down, strict=True):
        assert abs(y.partials[0] - (a - b) / (2 * h)) <= 1e-8


@pytest.mark.parametrize("scalar", [np.float32, np.complex64])
def test_single_precision_comes_back(scalar):
    x = Dual(scalar(2), (scalar(1), scalar(0.5)))
    y = njit(lambda x: 2 * x + np.exp(x) / 3)(x)
    assert {type(n) for n in flat(y)} == {scalar}


def test_a_quotient_has_the_digits_of_the_longer_operand():
    z, w = Dual(np.complex64(2 + 1j), (np.complex64(1),)), Dual(1 / 3 + 1j, (1.0,))
    wide = Dual(2 + 1j, (1 + 0j,))
    assert_same(njit(lambda a, b: (a / b, b / a))(z, w), (wide / w, w / wide))


def test_containers_of_duals():
    def f(x):
        numbers = [x, 2 * x, x * x]
        total = numbers[0]
        for n in numbers[1:]:
            total = total + n
        return total, (x, 1.0), numbers

    total, pair, numbers = njit(f)(X2)
    assert_same((total, *pair, *numbers), (X2 * 3 + X2 * X2, X2, 1.0, X2, 2 * X2, X2 * X2))


POLES = [("sqrt", 0.0), ("cbrt", 0.0), ("log", 0.0), ("reciprocal", 0.0), ("log1p", -1.0), ("arcsin", 1.0)]


@pytest.mark.parametrize("name, pole", POLES)
def test_an_infinite_slope_is_no_error(name, pole):
    """Compiled, in Python, and in arrays alike: the function itself has a value there in every one of them."""
    f = eval(f"lambda x: np.{name}(x)", {"np": np})
    with np.errstate(all="ignore"):
        of_array = f(DualArray(np.array([pole]), np.ones((1, 1))))
        for y in (njit(f)(Dual(pole, (1.0,))), f(Dual(pole, (1.0,)))):
            assert (y.value, y.partials[0]) == (of_array.value[0], of_array.partials[0, 0])
            assert math.isinf(y.partials[0])


DIVISIONS = [
    lambda a: a % np.zeros(4),
    lambda a: a // np.zeros(4),
    lambda a: 2.0 % (a * 0.0),
    lambda a: np.remainder(a, 0.0),
    lambda a: np.floor_divide(a, 0.0),
    lambda a: np.power(a * 0.0, -2),
    lambda a: np.power(a, 3) * 1.0,
    lambda a: a[a > 9.0].mean() * a,
]


@pytest.mark.parametrize("model", ["python", "numpy"])
def test_arrays_divide_by_zero_in_every_error_model(model):
    for f in DIVISIONS:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # NumPy's, of the mean of nothing
            result, expected = njit(error_model=model)(f)(V), f(V)
        np.testing.assert_allclose(result.value, expected.value, rtol=1e-15)
        np.testing.assert_allclose(result.partials, expected.partials, rtol=1e-13)


def test_an_array_to_a_whole_power_is_rounded_as_without_derivatives():
    f, x = njit(lambda a: np.power(a, 3)), np.linspace(-3.0, 3.0, 100)
    np.testing.assert_array_equal(f(DualArray(x, np.ones((1, 100)))).value, f(x))


@pytest.mark.parametrize("model", ["python", "numpy"])
def test_division_by_zero_is_the_users_choice(model):
    of_arrays = njit(error_model=model)(lambda a: a / np.zeros(4))(V)  # arrays have none
    assert np.all(np.isinf(of_arrays.value)) and np.all(np.isinf(of_arrays.partials))
    divide = njit(error_model=model)(lambda x: 1.0 / x)
    if model == "numpy":
        assert divide(Dual(0.0, (1.0,))).value == math.inf
    else:
        with pytest.raises(ZeroDivisionError):
            divide(Dual(0.0, (1.0,)))


# ---- errors while compiling: this library's own, with the line of the user's code


def fill_zeros(x):
    out = np.zeros(3)
    out[0] = x
    return out


def write_row(x):
    out = np.zeros(2)
    out[:] = np.ones(2) * x
    return out


def fill_by_method(x):
    out = np.zeros(3)
    out.fill(x)
    return out


def write_first(a):
    a[0] = 1.0
    return a


def write_other_count(x):
    out = np.zeros_like(np.ones(2) * x)
    out[0] = Dual(1.0, (1.0, 2.0, 3.0))
    return out


def select_by_two_axes(x):
    a = np.ones((2, 2)) * x
    return a[a > 1.0]


def write_by_two_axes(x):
    a = np.ones((2, 2)) * x
    a[a > 1.0] = 0.0
    return a


def two_counts(x):
    return x * Dual(1.0, (1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    "f, error, words",
    [
        pytest.param(
            lambda x: np.isnan(np.ones(2) * x), MissingRuleError, r"np.isnan\(x.value\)", id="isnan of an array"
        ),
        pytest.param(lambda x: np.convolve(np.ones(2) * x, np.ones(3)), MissingRuleError, "no rule", id="convolve"),
        pytest.param(lambda x: np.correlate(np.ones(3), np.ones(2) * x), MissingRuleError, "no rule", id="correlate"),
        pytest.param(lambda x: np.searchsorted(np.ones(2) * x, 1.0), MissingRuleError, "v.value", id="searchsorted"),
        pytest.param(lambda x: np.nditer(np.ones(2) * x), MissingRuleError, "x.ravel", id="nditer"),
        pytest.param(lambda x: np.linalg.svd(np.eye(2) * x), MissingRuleError, "svd_small", id="np.linalg.svd"),
        pytest.param(lambda x: float(x), MissingRuleError, "take .value to drop it", id="float"),
        pytest.param(lambda x: int(x), MissingRuleError, "take .value to drop it", id="int"),
        pytest.param(lambda x: str(x), MissingRuleError, "as text", id="str"),
        pytest.param(lambda x: f"{x}", MissingRuleError, "as text", id="f-string"),
        pytest.param(lambda x: W[x], MissingRuleError, r"int\(x.value\)", id="index"),
        pytest.param(
            lambda x: W[math.floor(x)], MissingRuleError, r"int\(math.floor\(x\).value\)", id="floor as index"
        ),
        pytest.param(lambda x: (np.ones(2) * x)[x], MissingRuleError, r"int\(x.value\)", id="index of a DualArray"),
        pytest.param(lambda x: x.value * X2, DTypeError, "pass it as an argument", id="a Dual from outside"),
        pytest.param(lambda x: np.zeros_like(x, np.int64), DTypeError, "leave out the dtype", id="dtype of a number"),
        pytest.param(lambda x: np.full_like(x, 1, np.float32), DTypeError, "leave out the dtype", id="dtype to fill"),
        pytest.param(fill_zeros, MissingRuleError, "make it by np.zeros_like", id="write into np.zeros"),
        pytest.param(write_row, MissingRuleError, "make it by np.zeros_like", id="write a row into np.zeros"),
        pytest.param(fill_by_method, MissingRuleError, "make it by np.zeros_like", id="fill np.zeros"),
        pytest.param(lambda x: np.full(2, x), MissingRuleError, "np.full_like", id="np.full"),
        pytest.param(lambda x: np.less(np.ones(2) * x, 1.0), MissingRuleError, "operator", id="less of an array"),
        pytest.param(lambda x: np.sign(x * 1j), DTypeError, r"Dual\(complex128", id="sign of complex"),
        pytest.param(select_by_two_axes, MissingRuleError, "ravel both arrays", id="mask of two axes"),
        pytest.param(write_by_two_axes, MissingRuleError, "ravel both arrays", id="write by a mask of two axes"),
        pytest.param(lambda x: np.sum(np.ones(2) * x, (0,)), MissingRuleError, "one integer", id="tuple of axes"),
        pytest.param(lambda x: np.mean(np.ones(2) * x, (0,)), MissingRuleError, "one integer", id="mean over a tuple"),
        pytest.param(
            lambda x: np.zeros_like(np.ones(2) * x, np.complex128), DTypeError, "leave out the dtype", id="dtype"
        ),
        pytest.param(lambda x: np.array([x, 2 * x]), MissingRuleError, "np.array cannot hold", id="np.array of duals"),
        pytest.param(lambda x: x * 1j < 2, DTypeError, "no order", id="order of complex numbers"),
        pytest.param(write_other_count, ShapeError, "equally many partials, got 2 and 3", id="write of other partials"),
        pytest.param(two_counts, ShapeError, "equally many partials, got 2 and 3", id="numbers of partials"),
        pytest.param(lambda x: np.floor(x * 1j), DTypeError, "no complex derivative|complex", id="floor of complex"),
        pytest.param(lambda x: Dual(1.0, 2.0), DTypeError, "takes a tuple of partials", id="partials not a tuple"),
        pytest.param(lambda x: Dual("1", (2.0,)), DTypeError, "parts of a Dual are numbers", id="a string"),
    ],
)
def test_errors_name_the_line(f, error, words):
    line = f.__code__.co_firstlineno
    with pytest.raises(error, match=words) as caught:
        njit(f)(X2)
    named = int(str(caught.value).split("test_njit.py:")[1].split(":")[0])
    assert line <= named <= line + 3


def test_a_read_only_array_is_not_written_to():
    with pytest.raises(DTypeError, match=r"test_njit.py:\d+: .*read-only"):
        njit(write_first)(DualArray(READ_ONLY, np.ones((1, 3, 4))))


def test_an_array_of_the_closure_is_refused():
    with pytest.raises(DTypeError, match=r"test_njit.py:\d+ holds DualArray .*pass it as an argument"):
        njit(lambda x: x * V)(X2)


# ---- DualArray

A, B, V, W, M = normal(3, 4), normal(3, 4, seed=1), normal(4), np.arange(1.0, 5.0), normal(4, 3).value
C = normal(2, 2, dtype="complex128")
READ_ONLY = np.broadcast_to(np.arange(1.0, 5.0), (3, 4))
S = normal(2, 2, dtype="float32")


def elements(a):
    return a[1, 2], a[-1, -2], a[0][3], a[np.int32(1), np.uint8(2)], a[(2, 0)]


def views(a):
    return a[1], a[:, 1], a[1:, ::2], a[::-1], a[..., 0], a[:, np.array([0, 2])], a[0][a.value[0] > 0]


def shapes(a):
    return a.T, np.transpose(a), a.reshape((4, 3)), a.reshape(2, 6), a.reshape(12), a.ravel(), a.copy(), a.reshape(-1)


def sizes(a):
    return a.shape[0], a.shape[1], a.ndim, a.size, len(a)


def rows(a):
    total = 0.0
    for row in a:
        for x in row:
            total += x * x
    return total


def write_elements(a):
    out = np.zeros_like(a)
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            out[i, j] = a[i, j] * a[i, 0]
    out[0, -1] = 3.0
    out[1, 1] += 2 * a[0, 0]
    return out


def write_parts(a, w):
    out = np.zeros_like(a)
    out[1, :] = a[0]
    out[:, 3] = a[0, 0]
    out[2, 1:3] = 1
    out[0] = w
    out[1:, :2] += a[:2, 2:]
    out[:, 1] *= 2
    shifted = a.copy()
    shifted[1:] = shifted[:-1]
    shifted[:, 0:1] = a[:, 1:2]
    chosen = a.copy()
    chosen[1][np.array([0, 2])] = 5.0
    return out, shifted, chosen


def fills(a):
    b = np.empty_like(a)
    b[...] = a[0, 1]
    c = np.zeros_like(a, np.float64)
    c.fill(2.0)
    return np.zeros_like(a), np.ones_like(a), np.full_like(a, 2.5), np.full_like(a, a[0, 0]), b, c


def arithmetic(a, b, w):
    return a + b, a * 2, 2 - a, a / b, a * a[0], -a, abs(a), a**2, a[:, :1] * b, w * a, a - w, a[0, 0] * w[:1] + a


def ufuncs(a, b):
    return np.sin(a), np.exp(a) * np.tanh(b), np.hypot(a, b), np.maximum(a, 0.0), np.arctan2(a, 2.0)


def choices(a, b):
    return np.where(a > b, a, b), np.where(a.value > 0, a, 0.0), np.where(a[0] > 0, b, a[0, 0]), np.clip(a, -0.5, 0.5)


def comparisons(a, b):
    return a < b, a > 0.0, a == a.copy(), np.isfinite(a.value), b >= a[0, 0]


def reductions(a):
    extrema = np.min(a), a.max(), np.argmax(a), a.argmax(), a.argmin()
    return np.sum(a), a.sum(), np.mean(a), np.sum(a, 0), np.sum(a, axis=1), np.prod(a), *extrema


def more_reductions(a, v):
    of_one_axis = np.sum(v, 0), v.sum(axis=-1), np.mean(v, -1), np.sum(v, axis=None)
    return *of_one_axis, np.mean(a, 0), a.mean(axis=-1), np.trace(a), np.outer(v, a[0]), np.outer(v, v.value)


def products(a, v, m):
    return a @ v, a @ m, m @ a, np.dot(v, v), v @ m, a @ a.T, np.dot(a, v)


def of_complex(c):
    return c * c, c[0, 0] * 2j, c.T, np.conj(c), np.real(c), np.imag(c), abs(c), c @ c, np.exp(c), np.sum(c)


def of_single(s):
    return s * 2, s @ s, np.sqrt(abs(s)), s[0, 0] * 2


def kinds(a, c):
    return np.iscomplexobj(a), np.isrealobj(a), np.isscalar(a), np.iscomplexobj(c), np.isrealobj(c)


def questions(a):
    return np.argmax(a, 0), a.argmin(1), np.argmin(a, axis=None), np.isposinf(a), np.isneginf(a)


def methods(a, v, c):
    out = c.copy()
    out.real[0] = 5.0
    plain = np.zeros(3, a.dtype) + v[0], v.dot(v), a.transpose(), sum(v), sum(v, v[1]), sum(a)
    return *plain, c.real, c.imag, c.conj(), c.conjugate(), np.angle(c), np.angle(c, deg=True), out


def one_end(a):
    return np.clip(a, None, 0.5), np.clip(a, -0.5, None)


def whole_and_single(a, v):
    out = a.copy()
    out[()] = 2.0
    out[..., 1, 2] = v[0]
    out[1, ..., 0] = 3.0
    return a[()], a[..., 1, 2], a[1, ..., 0], v[..., -1] * v, out


def truth_of_numbers(a, v):
    return np.where(np.array([1, 0, 2, 0]), v, 0.0), np.where(v, a, 1.0), np.where(v[0], v, 1.0), np.where(a, 2.0, 1.0)


def transposed(a):
    cube = a.reshape((3, 2, 2))
    of_pairs = np.transpose(a), np.transpose(a, (1, 0)), a.transpose(1, 0), a.transpose((1, 0)), a.transpose((0, 1))
    return of_pairs, np.transpose(cube, (1, -1, 0)), cube.transpose(-2, 0, 2), np.transpose(a, axes=(-1, 0))


def other_names(a):
    b = a.copy()
    return np.clip(a, a_min=-0.5, a_max=0.5), np.amax(a), np.amin(a), np.size(a), a is a, b is a


def iterated(a):
    y = a
    for _ in range(2):
        y = np.sin(y) * a[0, 0]
    total = 0.0
    while len(a) > 1:
        total += a[0, 0] * a[1, 1]
        a = a[1:]
    return y, total


def chosen(a):
    y = a if a[0, 0] < -9.0 else a[::-1]
    rest = [a, y, a[:, ::-1]]
    z = y.copy() if a[0, 0] < 9.0 else a.T
    z[0] *= 2.0
    return y[0, 0] * y[1], z, rest[1] * 2.0


def index_arrays_apart(a):
    cube = a[:2].copy().reshape((2, 2, 2)) * np.arange(8.0).reshape((2, 2, 2))
    places = np.array([1, 0, 1])
    return cube[0, :, places], cube[places, :, 1], cube[places, ..., 1], cube[:, places, 1], cube[:, 0, places]


def ravelled(a):
    b = a.copy()
    row = b.ravel()
    row[0] = row[1] * row[2]
    column = b.T.ravel()
    column[1] = 7.0
    np.ravel(b)[5] = b[0, 1]
    apart = b.flatten()
    apart[6] = 0.0
    return b, row, column, apart


@pytest.mark.parametrize(
    "f, arguments",
    [
        pytest.param(elements, (A,), id="elements"),
        pytest.param(index_arrays_apart, (A,), id="index arrays apart"),
        pytest.param(whole_and_single, (A, V), id="indices without slices"),
        pytest.param(kinds, (A, C), id="kinds of numbers"),
        pytest.param(questions, (A,), id="questions"),
        pytest.param(methods, (A, V, C), id="methods"),
        pytest.param(transposed, (A,), id="transposes"),
        pytest.param(other_names, (A,), id="other names and keywords"),
        pytest.param(one_end, (A,), id="clip at one end"),
        pytest.param(truth_of_numbers, (A, V), id="where numbers are not 0"),
        pytest.param(iterated, (A,), id="types that unify"),
        pytest.param(iterated, (A[:, ::2],), id="types that unify, strided"),
        pytest.param(iterated, (A.T,), id="types that unify, Fortran"),
        pytest.param(iterated, (DualArray(READ_ONLY, np.ones((2, 3, 4))),), id="types that unify, read-only"),
        pytest.param(chosen, (A,), id="types that unify in branches"),
        pytest.param(ravelled, (A,), id="ravel"),
        pytest.param(views, (A,), id="views"),
        pytest.param(views, (DualArray(A.value[::-1, ::-1], A.partials[:, ::-1, ::-1]),), id="negative strides"),
        pytest.param(views, (DualArray(np.broadcast_to(W, (3, 4)), np.zeros((1, 3, 4))),), id="zero strides"),
        pytest.param(shapes, (A,), id="shapes"),
        pytest.param(sizes, (A,), id="sizes"),
        pytest.param(rows, (A,), id="iteration"),
        pytest.param(write_elements, (A,), id="writing elements"),
        pytest.param(write_parts, (A, W), id="writing parts"),
        pytest.param(fills, (A,), id="new arrays"),
        pytest.param(arithmetic, (A, B, W), id="arithmetic"),
        pytest.param(ufuncs, (A, B), id="functions"),
        pytest.param(choices, (A, B), id="choices"),
        pytest.param(comparisons, (A, B), id="comparisons"),
        pytest.param(reductions, (A,), id="reductions"),
        pytest.param(more_reductions, (A, V), id="means, trace, outer product"),
        pytest.param(products, (A, V, M), id="products"),
        pytest.param(of_complex, (C,), id="complex"),
    ],
)
def test_a_function_of_arrays_gives_the_same_compiled_and_in_python(f, arguments):
    assert_same(njit(f)(*arguments), f(*arguments))


def test_single_precision_arrays():
    result = njit(of_single)(S)
    assert_same(result, of_single(S), "float32")
    assert {x.dtype for x in flat(result)} == {np.dtype("float32")}


def test_the_code_of_a_sum_does_not_grow_with_the_partials():
    """Each statement would take Numba 25 ms."""
    sizes = {len(arrays.reductions._sum(arrays.array_type(normal(3, count=n))).__code__.co_code) for n in (9, 300)}
    assert len(sizes) == 1
    x = normal(3, 2, count=9)
    assert_same(njit(lambda x: (np.sum(x), x.mean(), np.sum(x[0])))(x), (np.sum(x), x.mean(), np.sum(x[0])))


def test_without_directions_and_without_elements():
    none, empty = DualArray(np.ones((2, 2)), np.zeros((0, 2, 2))), DualArray(np.zeros(0), np.zeros((2, 0)))
    double = njit(lambda a: a * a + np.sin(a))
    assert double(none).partials.shape == (0, 2, 2)
    assert double(empty).partials.shape == (2, 0)
    assert njit(rows)(none).partials == ()


@pytest.mark.parametrize(
    "f, error, words",
    [
        pytest.param(lambda a: a + np.ones(5), ValueError, "do not broadcast", id="broadcast"),
        pytest.param(lambda a: a @ np.ones(5), ValueError, "inner axes", id="product"),
        pytest.param(lambda a: np.sum(a, 2), ValueError, "has 2 axes", id="axis"),
        pytest.param(lambda a: np.sum(a[0], 7), ValueError, "has 1 axis", id="axis of one"),
        pytest.param(lambda a: np.mean(a[0], axis=3), ValueError, "has 1 axis", id="axis of a mean"),
        pytest.param(lambda a: a.copy().__setitem__(0, np.ones(5)), None, None, id="write of another shape"),
    ],
)
def test_shapes_that_do_not_fit(f, error, words):
    if error is None:

        def f(a):
            a = a.copy()
            a[0] = np.ones(5)
            return a

        error, words = ValueError, "other shape"
    with pytest.raises(error, match=words):
        njit(f)(A)


# ---- transforms of compiled functions


@njit
def rosenbrock(x):
    total = 0.0
    for i in range(len(x) - 1):
        total += 100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2
    return total


@njit
def cyclic(x):
    out = np.zeros_like(x)
    for i in range(len(x)):
        out[i] = x[i] * x[(i + 1) % len(x)] + np.sin(x[i])
    return out


POINT = np.array([0.5, -1.25, 2.0, 0.75])


@njit
def double_in_place(x):
    for i in range(len(x)):
        x[i] = 2.0 * x[i]


@njit
def rear(x):
    return x[1:]


def _written_beside_its_lender(x):
    y = x * x
    z = y + 1.0  # has the derivatives of y
    double_in_place(z)
    return y * z


def _lender_written(x):
    y = x * x
    z = 1.0 - y - 3.0
    double_in_place(y)
    double_in_place(x)
    return y * z + x


def _written_through_a_compiled_view(x):
    y = x * x
    view = rear(y)
    z = y - 1.0
    view[0] = 5.0 * x[0]
    double_in_place(z)
    return y * z


@njit
def doubled_through_a_view(x):
    y = x * x
    z = y[1:]
    z *= 2.0
    w = z
    w += 1.0
    return y


def _written_in_compiled_code(x):
    return doubled_through_a_view(x) * x


@pytest.mark.parametrize(
    "f",
    [_written_beside_its_lender, _lender_written, _written_through_a_compiled_view, _written_in_compiled_code],
)
def test_compiled_code_writes_into_its_argument_alone(f):
    x, h = np.array([0.3, 1.2, -0.7]), 1e-6
    kept = x.copy()
    differences = np.stack([(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(3)], axis=-1)
    columns = np.stack([ds.jvp(f, (x,), (e,))[1] for e in np.eye(3)], axis=-1)
    for result in (columns, ds.jacobian(f, x, mode="forward"), ds.jacobian(f, x, mode="forward", chunk=2)):
        np.testing.assert_allclose(result, differences, rtol=1e-8, atol=1e-9)
    np.testing.assert_array_equal(x, kept)


def test_jacobian_of_a_compiled_function():
    expected = np.diag(np.roll(POINT, -1) + np.cos(POINT)) + np.roll(np.diag(POINT), 1, axis=1)
    assert np.allclose(ds.jacobian(cyclic, POINT, mode="forward"), expected, rtol=CLOSE["float64"])
    for chunk in (1, 3):
        assert np.array_equal(ds.jacobian(cyclic, POINT, mode="forward", chunk=chunk), ds.jacobian(cyclic, POINT))


def test_hessian_of_a_compiled_function_nests_two_levels():
    gradient = lambda x: ds.jacobian(rosenbrock, x, mode="forward")  # noqa: E731
    expected = ds.hessian(rosenbrock.py_func, POINT)
    assert np.allclose(ds.jacobian(gradient, POINT, mode="forward"), expected, rtol=1e-12)


@njit
def written_over(x):
    for i in range(1, len(x)):
        x[i] += x[i - 1] * x[i]
    return np.sum(x * x)


def test_second_derivatives_of_a_function_that_writes_into_its_argument():
    expected = ds.hessian(written_over.py_func, POINT)
    assert np.allclose(ds.hessian(written_over, POINT, mode="forward"), expected, rtol=1e-12)
    assert np.allclose(ds.hvp(written_over, POINT, POINT), expected @ POINT, rtol=1e-12)


def test_a_function_that_another_calls_is_compiled_for_each_number():
    """Code that was compiled for one number must not serve another that could be converted to it."""
    square = njit(lambda a: a * a)

    @njit
    def total(x):
        s = 0.0
        for i in range(len(x)):
            s += square(x[i])
        return s

    for n in (3, 2, 1):
        x = np.arange(1.0, 1.0 + n)
        assert np.array_equal(ds.gradient(total, x, mode="forward"), 2 * x)
        assert np.array_equal(ds.hessian(total, x, mode="forward"), 2 * np.eye(n))
        assert total(x) == np.sum(x * x)
    for x in (np.complex128(3), np.float32(3), 3.0, 3):
        dual = Dual(x, (1.0,))
        assert_same((total((dual,)), total((x,))), (dual * dual, x * x))


def of_everything(x):
    """Views, products, sums and writes in one function, to be taken at nested numbers."""
    a = x.reshape((2, 2)).copy()
    a[:, 0] *= x[0]
    b = np.sin(a.T) @ a + a[::-1]
    c = np.zeros_like(b)
    c[0] = np.sum(b, axis=0)
    c[1, :] = b[0, 1]
    total = 0.0
    for row in c:
        total += np.sum(row * row) * np.max(a)
    return total


def test_arrays_nest():
    def hessian(f):
        slope = lambda x: ds.jacobian(f, x, mode="forward", chunk=1)  # noqa: E731  fewer partials compile sooner
        return ds.jacobian(slope, POINT, mode="forward", chunk=1)

    result = hessian(njit(of_everything))
    assert np.allclose(result, hessian(of_everything), rtol=CLOSE["float64"], atol=CLOSE["float64"])
    assert np.allclose(result, result.T, rtol=1e-12)


def test_third_derivatives_of_a_compiled_function():
    f = njit(lambda x: x**4 + np.exp(x))
    third = ds.derivative(lambda x: ds.derivative(lambda y: ds.derivative(f, y), x), 1.5)
    assert abs(third - (24 * 1.5 + math.exp(1.5))) <= 1e-12


product, total = njit(lambda x, y: x * y), njit(lambda x, y: x + y)
into = njit(lambda x, y: np.sum(x * y[0]) + y[0])


def in_a_thread(call, *args):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call, *args).result()


def slope(x):
    return ds.derivative(lambda y: product(x, y), 3.0)


@pytest.mark.parametrize(
    "f, expected",
    [
        pytest.param(lambda x: x * ds.derivative(lambda y: total(x, y), 1.0), 1.0, id="x D_y(x + y)"),
        pytest.param(lambda x: x * ds.derivative(lambda y: product(x, y), 1.0), 2.0, id="x D_y(x y)"),
        pytest.param(lambda x: ds.derivative(lambda y: product(y, product(x, y)), 3.0), 6.0, id="D_y(x y^2)"),
        pytest.param(
            lambda x: ds.derivative(lambda y: ds.derivative(lambda z: product(x, y) * z, 1.0), 1.0), 1.0, id="three"
        ),
        pytest.param(lambda x: in_a_thread(product, x, x), 2.0, id="x x in a thread"),
        pytest.param(lambda x: in_a_thread(copy_context().run, slope, x), 1.0, id="D_y(x y) in a thread"),
    ],
)
def test_levels_that_meet_in_compiled_code_are_not_confused(f, expected):
    assert ds.derivative(f, 1.0) == expected


def test_arrays_of_two_levels_meet_in_compiled_code():
    x = np.array([1.0, 2.0, 3.0])

    def slope(x):
        return ds.jacobian(lambda y: into(x, y), np.array([5.0]), mode="forward")[0]

    assert np.array_equal(ds.jacobian(slope, x, mode="forward"), [1.0, 1.0, 1.0])


def written_between(x):
    def inner(y):
        z = y + 0.0
        total = into(z, z)
        z[0] = x[0] * y[0]
        return total + into(z, z)

    return ds.jacobian(inner, np.array([2.0, 3.0]), mode="forward")


def viewed_between(x):
    def inner(y):
        total = into(y, y)
        y[1:] *= y[:1]
        return total + into(y, y)

    return ds.jacobian(inner, x, mode="forward")


@pytest.mark.parametrize("f", (written_between, viewed_between))
def test_an_array_may_take_numbers_of_an_outer_level_between_two_calls(f):
    x, h = np.array([5.0, 7.0]), 1e-6
    differences = np.stack([(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(2)], axis=-1)
    np.testing.assert_allclose(ds.jacobian(f, x, mode="forward"), differences, rtol=1e-7, atol=1e-7)


scaled = njit(lambda x, a: a * x * x * x[0])


def test_auto_goes_forward_wherever_a_function_is_compiled():
    x = np.array([1.0, 2.0, 3.0])
    J = 2.0 * (np.diag(2.0 * x) * x[0] + np.outer(x * x, [1.0, 0.0, 0.0]))
    for f in (lambda x: scaled(x, 2.0), functools.partial(scaled, a=2.0)):
        np.testing.assert_array_equal(ds.jacobian(f, x), J)
        np.testing.assert_array_equal(ds.gradient(lambda x: f(x)[1], x), J[1])  # noqa: B023
        H = ds.jacobian(lambda x: ds.gradient(lambda y: f(y)[1], x), x)  # noqa: B023
        np.testing.assert_array_equal(H, [[0, 8, 0], [8, 4, 0], [0, 0, 0]])
    assert ds.gradient(lambda t: product(t, t), 3.0) == 6.0


def test_code_compiled_once_serves_every_derivative():
    f = njit(lambda x: x * np.sum(x))
    for _ in range(3):
        ds.jacobian(f, POINT, mode="forward")
    assert len(f.signatures) == 1


def test_a_number_of_a_finished_derivative_is_refused():
    kept = []
    ds.jacobian(lambda x: kept.append(x) or x * 1.0, POINT, mode="forward")
    with pytest.raises(TagError):
        cyclic(kept[0])


def test_a_number_kept_in_a_typed_container_is_refused():
    """Compiled code knows the depth of a level, not which it is: only one that is open nowhere can be told."""
    kept = List()
    ds.derivative(lambda u: (kept.append(u * u), u)[1], 3.0)
    with pytest.raises(TagError, match="typed container"):
        kept[0]


def test_a_traced_number_from_outside_is_refused():
    with pytest.raises(DTypeError, match="pass it as an argument"):
        ds.jvp(lambda x: njit(lambda t: t * x)(3.0), (2.0,), (1.0,))


def test_a_thread_that_was_not_told_of_the_levels_around_is_refused():
    with ThreadPoolExecutor(1) as pool:
        for thread in (lambda call, x: pool.submit(call, x).result(), in_a_thread):
            with pytest.raises(TagError, match=r"test_njit\.py:\d+ .*copy_context"):
                ds.jvp(lambda x: thread(slope, x), (2.0,), (1.0,))  # noqa: B023
            assert ds.derivative(lambda x: thread(lambda x: product(x, x), x), 2.0) == 4.0  # noqa: B023
        assert pool.submit(ds.derivative, lambda x: product(x, x), 2.0).result() == 4.0  # outlives what it took up


def test_a_dual_by_hand_around_a_running_derivative_is_refused():
    f = njit(lambda x: (Dual(x, (1.0,)) * 2.0).partials[0])
    assert f(3.0) == 2.0
    with pytest.raises(TagError, match="could not be told apart"):
        ds.derivative(f, 1.0)


def inner_into_outer(x, y):
    out = np.zeros_like(x)
    out[0] = y[0]
    return out


def test_an_array_of_an_outer_level_cannot_hold_an_inner_number():
    f = njit(inner_into_outer)

    def outer(x):
        return ds.jacobian(lambda y: f(x, y), POINT, mode="forward")

    with pytest.raises(TagError, match=r"test_njit\.py:\d+: .*np\.zeros_like"):
        ds.jacobian(outer, POINT, mode="forward")


def test_reverse_mode_says_what_to_do():
    with pytest.raises(MissingRuleError, match=r"mode='forward'.*custom_rule"):
        ds.gradient(rosenbrock, POINT, mode="reverse")


def test_a_compiled_function_with_derivatives_of_its_own():
    energy = njit(lambda x: np.sum(x**4))  # returns a number of Python's
    quartic = ds.custom_rule(
        energy,
        pushforward=lambda y, x, dx: np.sum(4 * x[0] ** 3 * dx[0]),
        pullback=lambda y_bar, y, x: 4 * x[0] ** 3 * y_bar,
        examples=lambda rng: [((rng.standard_normal(3),), {})],
    )
    assert np.array_equal(ds.gradient(quartic, POINT, mode="reverse"), 4 * POINT**3)
    ds.check_rules([quartic]).raise_if_failed()


def test_values_are_those_without_derivatives():
    """Products and sums of tangents may be fused, those of values not."""
    f = njit(lambda x, y: (x * y + x) * y - x / y)
    for x, y in np.random.default_rng(0).standard_normal((50, 2)):
        assert f(Dual(x, (1.0, 0.0)), Dual(y, (0.0, 1.0))).value == f(x, y)


# ---- Numba's own features


def test_parallel_loops():
    def f(x, w):
        out = np.zeros_like(x)
        for i in prange(len(x)):
            out[i] = x[i] * w[i] + np.sin(x[i])
        return out

    x = normal(50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the threading layer, which depends on the machine
        result = njit(parallel=True)(f)(x, np.arange(50.0))
    assert_same(result, f(x, np.arange(50.0)))


@pytest.mark.parametrize("position", [np.argmax, np.argmin], ids=["argmax", "argmin"])
def test_positions_in_parallel(position):
    f = njit(parallel=True)(lambda x: x[position(x)] * 2.0)
    x = normal(50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_same(f(x), f.py_func(x))
        assert f(x.value) == f.py_func(x.value)


def test_nothing_leaks():
    @njit
    def work(a):
        b = np.sin(a[::2]) + a[0]
        b[0] = a[1]
        c = np.zeros_like(b)
        for row in b:
            c[0] = row
        d = a
        for _ in range(2):
            d = d[:, ::-1]
        return b, c.T, d

    _nrt.memsys_enable_stats()
    work(A)
    before = rtsys.get_allocation_stats()
    references = sys.getrefcount(A.value), sys.getrefcount(A.partials)
    for _ in range(10):
        work(A)
    after = rtsys.get_allocation_stats()
    assert after.alloc - before.alloc == after.free - before.free > 0
    assert (sys.getrefcount(A.value), sys.getrefcount(A.partials)) == references


CACHED = """
    import sys
    import numpy as np
    import numba
    import dualsvd.kernels.caching as caching
    if len(sys.argv) > 1:
        caching.FINGERPRINT = sys.argv[1]
    import dualsvd as ds
    import dualsvd.kernels.arrays

    @numba.njit(cache=True)
    def f(x):
        out = np.zeros_like(x)
        for i in range(len(x)):
            out[i] = np.exp(x[i]) * x[0]
        return out, x[0] * x[1]

    x = ds.DualArray(np.array([1.0, 2.0]), np.eye(2))
    array, number = f(x)
    print(sum(f.stats.cache_hits.values()), array.partials.tolist(), number)
"""


def test_code_is_cached_on_disk_until_a_rule_changes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(CACHED))

    def run(*arguments: str) -> list[str]:
        environment = os.environ | {
            "NUMBA_CACHE_DIR": str(tmp_path),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        command = [sys.executable, script, *arguments]
        result = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        return result.stdout.split(maxsplit=1)

    first, second, edited = run(), run(), run("another fingerprint")
    assert [first[0], second[0], edited[0]] == ["0", "1", "0"]
    assert first[1] == second[1] == edited[1]


def test_the_fingerprint_covers_the_rules():
    names = {path.name for pattern in caching._RULES for path in caching._PACKAGE.glob(pattern)}
    assert names >= {"dual.py", "elementary.py", "protocol.py", "staging.py", "scalars.py", "items.py", "jacobi.py"}


def test_kernels_compile_where_no_cache_can_be_written():
    space: dict = {}
    exec("def f(x): return x * x", space)  # its source file exists nowhere, so Numba finds no place for a cache
    compiled = caching.jit()(space["f"])
    assert compiled(X2).partials == (4.0, 12.0)


def test_the_type_of_an_array_is_found_once():
    x = normal(3)
    assert arrays.array_type(x) is arrays.array_type(x) is x.numba_type.type
    assert boxing.type_of(X2) is boxing.type_of(Dual(3.0, (0.0, 1.0)))


def test_parts_that_were_replaced_are_seen():
    """Strides, the number of directions, and whether memory may be written to are parts of the type."""

    @njit
    def twice(x):
        return x * 2

    @njit
    def write(x):
        x[0] = 5.0

    d = DualArray(np.ones(3), np.ones((2, 3)))
    twice(d)
    d.value = np.arange(6.0)[::2]
    np.testing.assert_array_equal(twice(d).value, [0, 4, 8])
    d.value, d.partials = np.ones(3), np.full((1, 3), 3.0)
    np.testing.assert_array_equal(twice(d).partials, [[6, 6, 6]])
    v = DualArray(np.ones((2, 2)), np.ones((1, 2, 2)))
    nested = DualArray(v, np.zeros((1, 2, 2)))
    twice(nested)
    v.partials = np.asfortranarray([[[1.0, 2.0], [3.0, 4.0]]])
    np.testing.assert_array_equal(twice(nested).value.partials, [[[2, 4], [6, 8]]])
    write(d)
    d.value.flags.writeable = False
    with pytest.raises(DTypeError, match="read-only"):
        write(d)
