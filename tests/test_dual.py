"""The number: a Dual in plain Python, with NumPy's functions, nested, complex, in every precision."""

from __future__ import annotations

import itertools
import math
import pickle

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualsvd.dual import Dual, depth, functions, primal
from dualsvd.elementary import BY_NAME, TABLE
from dualsvd.errors import DTypeError, MissingRuleError, ShapeError, TagError
from dualsvd.forward import DualArray
from dualsvd.rules.elementwise import ELEMENTWISE

ROWS = [pytest.param(row, id=row.name) for row in TABLE.values()]
EXACT = 4e-15  # an identity of a few operations near 1, float64
STEP = 1e-3  # of the differences below: error of the formula STEP^4, of its rounding eps/STEP
DIFFERENCES = 2e-10


def inside(row, fraction: float) -> list[float]:
    """A point of the intervals on which a function is smooth."""
    return [low + (fraction + 0.1 * k) * (high - low) for k, (low, high) in enumerate(row.intervals)]


def difference(f, x: float) -> float:
    """The derivative by central differences of fourth order."""
    return (8 * (f(x + STEP) - f(x - STEP)) - (f(x + 2 * STEP) - f(x - 2 * STEP))) / (12 * STEP)


def parts(x) -> list:
    """All numbers in x, flat."""
    return [n for p in (x.value, *x.partials) for n in parts(p)] if isinstance(x, Dual) else [x]


def close(x, y, tolerance: float = EXACT) -> bool:
    """Whether two numbers agree in every part, relative to the larger part or 1."""
    a, b = np.array(parts(x), complex), np.array(parts(y), complex)
    return a.shape == b.shape and bool(np.all(np.abs(a - b) <= tolerance * np.maximum(1, np.abs(b))))


# ---- the table


@pytest.mark.parametrize("row", [p for p in ROWS if p.id != "polygamma"])
@pytest.mark.parametrize("fraction", [0.31, 0.73])
def test_derivatives_are_differences(row, fraction):
    at = inside(row, fraction)
    f = functions[row.name]
    y = f(*(Dual(x, np.eye(row.arity)[k]) for k, x in enumerate(at)))
    assert y.value == f(*at)
    for k in range(row.arity):
        expected = difference(lambda x, k=k: f(*at[:k], x, *at[k + 1 :]), at[k])
        assert abs(y.partials[k] - expected) <= DIFFERENCES * max(1, abs(expected))


@pytest.mark.parametrize("order", [0, 1, 2])
def test_polygamma_is_a_chain_of_derivatives(order):
    at = 1.7
    y = functions["polygamma"](order, Dual(at, (1.0,)))
    assert close(y.partials[0], difference(lambda x: functions["polygamma"](order, x), at), DIFFERENCES)


@pytest.mark.parametrize("row", ROWS)
def test_numpy_and_methods_reach_the_same_function(row):
    numbers = [Dual(x, (1.0,)) for x in inside(row, 0.4)]
    expected = functions[row.name](*numbers)
    for name in [n for n, r in BY_NAME.items() if r is row and hasattr(np, n)]:
        assert parts(getattr(np, name)(*numbers)) == parts(expected)
    assert parts(ELEMENTWISE[row.name](*numbers)) == parts(expected)
    if row.arity == 1:
        assert parts(getattr(numbers[0], row.name)()) == parts(expected)


@pytest.mark.parametrize(
    "name, x, value, slope",
    [
        pytest.param("gamma", 200.0, math.inf, math.inf, id="gamma beyond the largest number"),
        pytest.param("gamma", 0.0, math.inf, math.nan, id="gamma at 0"),
        pytest.param("gamma", -0.0, -math.inf, math.nan, id="gamma at -0"),
        pytest.param("gamma", -1.0, math.nan, math.nan, id="gamma at a pole"),
        pytest.param("gamma", -math.inf, math.nan, math.nan, id="gamma at -inf"),
        pytest.param("lgamma", 0.0, math.inf, math.nan, id="lgamma at 0"),
        pytest.param("lgamma", -1.0, math.inf, math.nan, id="lgamma at a pole"),
        pytest.param("lgamma", math.inf, math.inf, math.inf, id="lgamma at inf"),
        pytest.param("lgamma", 1e308, math.inf, math.log(1e308), id="lgamma beyond the largest number"),
        pytest.param("expm1", -25.0, math.expm1(-25.0), math.exp(-25.0), id="expm1 far below 0"),
        pytest.param("expm1", -700.0, -1.0, math.exp(-700.0), id="expm1 further below"),
    ],
)
def test_where_values_end(name, x, value, slope):
    """As SciPy has it, for a number and in arrays."""
    with np.errstate(all="ignore"):
        number, array = functions[name](Dual(x, (1.0,))), ELEMENTWISE[name](DualArray([x], [[1.0]]))
    for found in ((number.value, number.partials[0]), (array.value[0], array.partials[0, 0])):
        np.testing.assert_allclose(found, (value, slope), rtol=EXACT)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("x", [1e-200, 1e308])
def test_polygamma_of_any_size(order, x):
    """The leading term, order! / x^(order + 1) near 0 and (order - 1)! / x^order far away."""
    sign, exponent = (1.0 if order % 2 else -1.0), order + 1 if x < 1 else order
    with np.errstate(over="ignore"):
        found = functions["polygamma"](order, x)
    np.testing.assert_allclose(found, sign * math.prod([1 / x] * exponent), rtol=EXACT)


@pytest.mark.parametrize("scalar", [float, np.float64, np.float32], ids=lambda t: t.__name__)
@pytest.mark.parametrize("row", ROWS)
def test_precision_is_kept(row, scalar):
    y = functions[row.name](*(Dual(scalar(x), (scalar(0.5),)) for x in inside(row, 0.4)))
    assert {type(p) for p in parts(y)} == {scalar}


@pytest.mark.parametrize("row", [p for p in ROWS if p.values[0].complex])
def test_complex_derivatives_are_holomorphic(row):
    at = [complex(x, 0.2) for x in inside(row, 0.4)]
    f = functions[row.name]
    for k in range(row.arity):
        y = f(*(Dual(z, (1.0 if j == k else 0.0,)) for j, z in enumerate(at)))
        for turn in (1, 1j):  # the same slope along the real and the imaginary axis
            expected = difference(lambda t, k=k, turn=turn: f(*at[:k], at[k] + turn * t, *at[k + 1 :]), 0.0) / turn
            assert abs(y.partials[0] - expected) <= 10 * DIFFERENCES * max(1, abs(expected))


@pytest.mark.parametrize("row", [p for p in ROWS if not p.values[0].complex and p.id not in ("absolute", "polygamma")])
def test_complex_numbers_are_refused_without_a_complex_derivative(row):
    with pytest.raises(DTypeError, match="no complex derivative"):
        functions[row.name](*(Dual(complex(x, 0.2), (1.0,)) for x in inside(row, 0.4)))


#: points on the cuts of functions, from either side, and the way along the cut
ON_CUTS = [
    *((name, complex(x, zero), 1) for name in ("arcsin", "arccos") for x in (4.0, -4.0) for zero in (0.0, -0.0)),
    *(("arccosh", complex(x, zero), 1) for x in (0.5, -0.5, -4.0) for zero in (0.0, -0.0)),
    *((name, complex(zero, y), 1j) for name in ("arcsinh", "arctan") for y in (2.0, -2.0) for zero in (0.0, -0.0)),
    *((name, complex(-4.0, zero), 1) for name in ("sqrt", "log", "log10", "log1p") for zero in (0.0, -0.0)),
    *(("arctanh", complex(x, zero), 1) for x in (2.0, -2.0) for zero in (0.0, -0.0)),
]


@pytest.mark.parametrize("name, z, turn", ON_CUTS)
def test_slopes_on_a_cut_are_those_of_its_side(name, z, turn):
    f = getattr(np, name)
    step = lambda t: complex(z.real + t, z.imag) if turn == 1 else complex(z.real, z.imag + t)  # noqa: E731
    expected = difference(lambda t: f(step(t)), 0.0) / turn
    array = f(DualArray(np.array([z]), np.ones((1, 1)))).partials[0, 0]
    for slope in (f(Dual(z, (1.0,))).partials[0], f(Dual(np.complex128(z), (1.0,))).partials[0], array):
        assert abs(slope - expected) <= 10 * DIFFERENCES * max(1, abs(expected))


# ---- identities

x_ = st.floats(0.1, 3.0)
dual_ = st.builds(lambda v, p, q: Dual(v, (p, q)), x_, st.floats(-2, 2), st.floats(-2, 2))


@given(dual_, dual_)
def test_sum_product_and_quotient_are_inverse_to_each_other(a, b):
    assert close(a * b / b, a, 100 * EXACT)
    assert close(a + b - b, a, 100 * EXACT)
    assert close((a + b) * (a - b), a * a - b * b, 100 * EXACT)
    assert close(1 / (1 / a), a, 100 * EXACT)


@pytest.mark.parametrize(
    "left, right",
    [
        pytest.param(lambda x: np.sin(x) ** 2 + np.cos(x) ** 2, lambda x: x * 0 + 1, id="sin2+cos2=1"),
        pytest.param(lambda x: np.exp(np.log(x)), lambda x: x, id="exp(log x)=x"),
        pytest.param(lambda x: np.sqrt(x) * np.sqrt(x), lambda x: x, id="sqrt(x)^2=x"),
        pytest.param(lambda x: np.cbrt(x) ** 3, lambda x: x, id="cbrt(x)^3=x"),
        pytest.param(lambda x: x**3, lambda x: x * x * x, id="x**3=x*x*x"),
        pytest.param(lambda x: x**-2, lambda x: 1 / (x * x), id="x**-2=1/(x*x)"),
        pytest.param(lambda x: 2.0**x, lambda x: np.exp2(x), id="2**x=exp2(x)"),
        pytest.param(lambda x: x**x, lambda x: np.exp(x * np.log(x)), id="x**x=exp(x log x)"),
        pytest.param(np.tanh, lambda x: np.sinh(x) / np.cosh(x), id="tanh=sinh/cosh"),
        pytest.param(lambda x: np.hypot(x, 2 * x) ** 2, lambda x: 5 * x * x, id="hypot(x,2x)^2=5x^2"),
        pytest.param(lambda x: np.arctan2(np.sin(x), np.cos(x)), lambda x: x, id="arctan2(sin,cos)=x"),
        pytest.param(lambda x: x - x // 1, lambda x: x % 1, id="x-floor(x)=x mod 1"),
        pytest.param(lambda x: np.clip(x, 0.0, 0.25), lambda x: x * 0 + 0.25, id="clip is constant outside"),
        pytest.param(lambda x: np.clip(x, min=0.0, max=0.25), lambda x: x * 0 + 0.25, id="clip by the names min, max"),
        pytest.param(lambda x: np.clip(x, max=2.0), lambda x: x, id="clip by one bound"),
        pytest.param(lambda x: np.angle(np.exp(1j * x), deg=True), lambda x: np.degrees(x), id="angle in degrees"),
        pytest.param(lambda x: abs(-x), lambda x: x, id="|-x|=x"),
    ],
)
@pytest.mark.parametrize("order", [1, 2], ids=["first order", "nested"])
def test_identity(left, right, order):
    x = Dual(1.1, (1.0, -0.5))
    if order == 2:
        x = Dual(Dual(1.1, (1.0,)), (Dual(1.0, (0.0,)), Dual(0.3, (-2.0,))))
    assert close(left(x), right(x), 10 * EXACT)


def test_abs_of_a_complex_number_is_real():
    z, dz = 3 + 4j, 1 - 2j
    assert close(abs(Dual(z, (dz,))), Dual(5.0, ((z.conjugate() * dz).real / 5,)))
    assert abs(Dual(0j, (dz,))).partials == (0.0,)


def test_complex_parts_are_linear():
    z = Dual(1 + 2j, (3 - 1j, 2.0))
    assert close(z.real + 1j * z.imag, z)
    assert close(z * z.conjugate(), abs(z) ** 2)
    assert close(np.conj(z), z.conjugate()) and close(np.real(z), z.real) and close(np.imag(z), z.imag)
    assert close(np.angle(Dual(1j, (1.0,))), Dual(math.pi / 2, (-1.0,)))


# ---- powers at their special points


@pytest.mark.parametrize(
    "base, exponent, value, slope",
    [
        pytest.param(0.0, 0, 1.0, 0.0, id="0**0"),
        pytest.param(0.0, 1, 0.0, 1.0, id="0**1"),
        pytest.param(0.0, 2.0, 0.0, 0.0, id="0**2"),
        pytest.param(-2.0, 3, -8.0, 12.0, id="negative base"),
        pytest.param(-2.0, -1, -0.5, -0.25, id="negative base and exponent"),
        pytest.param(-2.0, 2.0, 4.0, -4.0, id="negative base, whole float exponent"),
        pytest.param(4.0, 0.5, 2.0, 0.25, id="root"),
    ],
)
def test_power_by_its_base(base, exponent, value, slope):
    y = Dual(base, (1.0,)) ** exponent
    assert (y.value, y.partials) == (value, (slope,))


def test_power_by_its_exponent():
    assert close(2.0 ** Dual(3.0, (1.0,)), Dual(8.0, (8 * math.log(2),)))
    assert (0.0 ** Dual(2.0, (1.0,))).partials == (0.0,)


# ---- levels


def level(value, *partials, tag):
    return Dual(value, partials, tag)


def test_an_inner_level_takes_an_outer_number_for_a_constant():
    x, y = level(3.0, 1.0, tag=1), level(2.0, 1.0, tag=2)
    product = x * y
    assert product.tag == 2 and product.value.tag == 1
    assert parts(product) == [6.0, 2.0, 3.0, 1.0]  # x y, d/dx, d/dy, d2/dxdy
    assert parts(y * x) == parts(product)


def along(x, tag, k):
    """Partial k of the level with that tag, wherever it stands in x."""
    if not isinstance(x, Dual):
        return 0.0
    if x.tag == tag:
        return x.partials[k]
    return Dual(along(x.value, tag, k), [along(p, tag, k) for p in x.partials], x.tag)


@pytest.mark.parametrize("name", ["__add__", "__sub__", "__mul__", "__truediv__", "__pow__", "__mod__", "__floordiv__"])
def test_the_order_of_levels_does_not_matter(name):
    f = lambda a, b: getattr(a, name)(b)  # noqa: E731
    x, y = level(3.0, 1.0, 0.5, tag=1), level(2.0, 1.0, 0.25, tag=2)
    straight, swapped = f(x, y), f(level(3.0, 1.0, 0.5, tag=2), level(2.0, 1.0, 0.25, tag=1))
    assert straight.tag == swapped.tag == 2
    assert straight == swapped
    for i, j in itertools.product(range(2), range(2)):
        assert close(primal(along(straight, 1, i)), primal(along(swapped, 2, i)))
        assert close(primal(along(straight, 2, j)), primal(along(swapped, 1, j)))
        assert close(along(along(straight, 1, i), 2, j), along(along(swapped, 1, j), 2, i))


def test_perturbations_are_not_confused():
    # D_x (x * D_y (x + y)) at 1 is 1; confusing the two levels gives 2
    x = level(1.0, 1.0, tag=1)
    inner = (x + level(1.0, 1.0, tag=2)).partials[0]
    assert (x * inner).partials == (1.0,)


def test_duals_nested_by_hand_are_ordered_by_depth():
    x = Dual(Dual(2.0, (1.0,)), (Dual(1.0, (0.0,)),))
    cube = x * x * x
    assert parts(cube) == [8.0, 12.0, 12.0, 12.0]
    assert parts(x * Dual(3.0, (1.0,))) == [6.0, 5.0, 3.0, 1.0]  # the lower one is a constant for the outer level
    assert depth(x, 0) == 2


def test_a_dual_by_hand_cannot_hold_a_running_derivative():
    with pytest.raises(TagError, match="cannot hold"):
        Dual(level(1.0, 1.0, tag=3), (1.0,))


# ---- decisions look at the primal


def test_comparisons_look_at_the_primal():
    a, b = Dual(1.0, (5.0,)), Dual(2.0, (-5.0,))
    assert (
        a < b and a <= b and b > a and b >= a and a != b and a == Dual(1.0, (0.0,)) and a == 1 and a < np.float64(1.5)
    )
    assert a != "1"
    assert bool(a) and not Dual(0.0, (1.0,))
    assert max(a, b) is b and sorted([b, a])[0] is a
    assert np.less(a, 2.0) and np.isfinite(a) and not np.isnan(a) and np.logical_not(Dual(0.0, (1.0,)))


def test_it_is_no_key():
    with pytest.raises(TypeError, match="unhashable"):
        hash(Dual(1.0, (1.0,)))


@pytest.mark.parametrize("row", ROWS)
def test_the_primal_is_that_of_plain_numbers(row):
    at = inside(row, 0.57)
    nested = [Dual(Dual(x, (1.0,)), (Dual(1.0, (0.0,)),)) for x in at]
    assert primal(functions[row.name](*nested)) == functions[row.name](*at)


# ---- beside other numbers

OTHERS = [3, 3.0, True, np.float64(3), np.float32(3), np.int64(3), np.array(3.0), 3 + 1j, np.complex128(3 + 1j)]


@pytest.mark.parametrize("other", OTHERS, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "power"])
def test_arithmetic_with_other_numbers(other, name):
    x = Dual(2.0, (1.0, -1.0))
    symbol = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "power": "**"}[name]
    tolerance = 1e-6 if isinstance(other, np.float32) else EXACT  # Python's float gives way to NumPy's float32
    number = complex(other) if np.iscomplexobj(other) else float(other)
    for left, right in ((x, other), (other, x)):
        a, b = (Dual(number, (0.0, 0.0)) if side is other else side for side in (left, right))
        expected = functions[name](a, b)
        assert close(eval(f"left {symbol} right"), expected, tolerance)
        assert close(getattr(np, name)(left, right), expected, tolerance)


def test_whole_numbers_become_floats():
    assert type(Dual(3, (1,)).value) is float and Dual(3, (1,)) ** -1 == 1 / 3


def test_arrays_of_objects_are_taken_elementwise():
    x, y = Dual(2.0, (1.0,)), Dual(3.0, (0.5,))
    a = np.array([x, y], dtype=object)
    for result, expected in (
        (a * x, [x * x, y * x]),
        (x - a, [x - x, x - y]),
        (np.sin(a), [np.sin(x), np.sin(y)]),
        (np.arctan2(x, a), [np.arctan2(x, x), np.arctan2(x, y)]),
        ([a.sum()], [x + y]),
        ([a @ a], [x * x + y * y]),
    ):
        assert all(close(r, e) for r, e in zip(result, expected, strict=True))


def test_numpy_functions_of_scalars():
    x, y = Dual(2.0, (1.0,)), Dual(3.0, (0.5,))
    assert np.where(True, x, y) is x or close(np.where(True, x, y), x)
    assert close(np.where(x > y, x, 1.0), Dual(1.0, (0.0,)))
    assert np.shape(x) == () and np.ndim(x) == 0
    assert np.zeros_like(x).partials == (0.0,)
    assert close(np.sinc(x), functions["sinc"](x))


# ---- errors


@numba.vectorize(["float64(float64)"])
def square(x):  # a user's, with the name of NumPy's
    return x + 1.0


@pytest.mark.parametrize(
    "leave",
    [
        pytest.param(float, id="float"),
        pytest.param(int, id="int"),
        pytest.param(complex, id="complex"),
        pytest.param(math.sin, id="math.sin"),
        pytest.param(lambda x: [1, 2][x], id="index"),
        pytest.param(lambda x: np.zeros(3).__setitem__(0, x), id="write into np.zeros"),
        pytest.param(lambda x: np.array([x, x], dtype=float), id="np.array of floats"),
    ],
)
def test_leaving_the_dual_numbers_is_refused(leave):
    with pytest.raises(MissingRuleError, match=r"np\.sin for math\.sin.*np\.zeros_like"):
        leave(Dual(1.0, (1.0,)))


@pytest.mark.parametrize(
    "call, error, words",
    [
        pytest.param(
            lambda x: x * Dual(1.0, (1.0, 2.0)), ShapeError, "equally many partials, got 1 and 2", id="partials"
        ),
        pytest.param(lambda x: np.ones(3) * x, DTypeError, "make the array a DualArray", id="array times number"),
        pytest.param(lambda x: np.frexp(x), MissingRuleError, "np.frexp has no .* known are abs", id="without a rule"),
        pytest.param(lambda x: square(x), MissingRuleError, "'square'. has no rule", id="another of that name"),
        pytest.param(lambda x: np.add.outer(x, x), MissingRuleError, "np.add.outer has no rule .* number$", id="outer"),
        pytest.param(lambda x: np.linalg.norm(x), MissingRuleError, "np.norm", id="function without a rule"),
        pytest.param(lambda x: np.add(x, x, out=np.zeros(())), MissingRuleError, "with out .* without$", id="out="),
        pytest.param(lambda x: x + "1", TypeError, "unsupported operand", id="string"),
        pytest.param(lambda x: x < "1", TypeError, "not supported", id="compared with a string"),
        pytest.param(lambda x: np.floor(x * 1j), DTypeError, "take .real and .imag apart", id="floor of complex"),
    ],
)
def test_errors_say_what_to_do(call, error, words):
    with pytest.raises(error, match=words):
        call(Dual(1.0, (1.0,)))


# ---- looks


@pytest.mark.parametrize(
    "x, text",
    [
        pytest.param(Dual(2.0, (1.0,)), "Dual(2.0, (1.0,))", id="one partial"),
        pytest.param(Dual(np.float64(2.0), np.array([1.0, 0.5])), "Dual(2.0, (1.0, 0.5))", id="numpy numbers"),
        pytest.param(Dual(1j, ()), "Dual(1j, ())", id="no partials"),
        pytest.param(Dual(2.0, (1.0,), 7), "Dual(2.0, (1.0,), tag=7)", id="tag"),
    ],
)
def test_repr(x, text):
    assert repr(x) == text
    assert parts(eval(text)) == parts(x)


def test_it_can_be_pickled():
    x = Dual(2.0, (1.0, 0.5), 0)
    assert parts(pickle.loads(pickle.dumps(x))) == parts(x)
