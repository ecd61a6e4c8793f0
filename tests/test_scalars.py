"""The scalar protocol: one text gives the same numbers in plain Python and compiled, on every kind of number."""

from __future__ import annotations

import functools
import math
import operator

import numba
import numpy as np
import pytest

from dualsvd.dual import Dual, functions
from dualsvd.elementary import TABLE
from dualsvd.errors import DTypeError, ShapeError
from dualsvd.kernels import protocol, staging
from dualsvd.kernels.boxing import leaves
from dualsvd.kernels.buffers import Kind, buffer, components, lanes, leaf_kind
from dualsvd.kernels.leaf_functions import SUBSTITUTES
from dualsvd.kernels.number_types import DualType, PackType, join, lane_type
from dualsvd.kernels.protocol import (
    Buffer,
    abs2,
    absolute,
    any_true,
    conj,
    count,
    eps_of,
    imag,
    infadd,
    infdiv,
    infsub,
    like,
    maximum,
    minimum,
    order,
    partial,
    primal,
    real,
    setprimal,
    sqrt,
    squelch,
    tiny_of,
    where,
)

#: libm and NumPy round their functions differently, by an ulp or two; a chain rule multiplies a few of them
ULPS = 32.0

KINDS = [
    Kind(*arguments)
    for arguments in (
        ("float64",),
        ("float32",),
        ("complex128",),
        ("complex64",),
        ("float64", (1,)),
        ("float64", (4,)),
        ("float32", (2,)),
        ("complex128", (2,)),
        ("float64", (2, 1)),
        ("complex128", (1, 2)),
        ("float64", (), 8),
        ("float32", (), 16),
        ("complex128", (), 4),
        ("float64", (2,), 8),
        ("float32", (1,), 8),
        ("float64", (1, 2), 4),
        ("complex128", (2,), 4),
    )
]


def levels(number) -> tuple:
    return ((number.count, number.level), *levels(number.part)) if isinstance(number, DualType) else ()


def leaf_dtype(kind: Kind) -> np.dtype:
    lane = lane_type(kind.number)
    return np.dtype(str(lane))


def one_lane(kind: Kind) -> Kind:
    """The same number without the pack."""

    def strip(number):
        if isinstance(number, DualType):
            return DualType(strip(number.part), number.count)
        return number.lane if isinstance(number, PackType) else number

    return Kind.of(strip(kind.number))


def numbers(kind: Kind, array: np.ndarray, lane: int) -> Buffer:
    """Lane `lane` of a compiled buffer, as Python numbers."""
    planes = array.view(real_dtype(kind)).reshape(-1, components(kind), lanes(kind))[:, :, lane]
    return Buffer(buffer(np.ascontiguousarray(planes).ravel(), one_lane(kind)))


def real_dtype(kind: Kind) -> np.dtype:
    return np.zeros(0, leaf_dtype(kind)).real.dtype


def workspace(kind: Kind, size: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-2, 2, size * components(kind) * lanes(kind)).astype(real_dtype(kind))


def distance(kind: Kind, x, y) -> float:
    """Difference of two numbers in units of rounding, relative to the larger part or 1."""
    a, b = (np.array(leaves(z, levels(one_lane(kind).number)), complex) for z in (x, y))
    return float(np.max(np.abs(a - b) / np.maximum(1, np.abs(b)), initial=0.0) / np.finfo(real_dtype(kind)).eps)


# ---- one text over the whole protocol


def text(A, B):
    """Every function of the protocol that all kinds have; results go to B."""
    x, y, z = A[0], A[1], A[2]
    zero, one = like(x, 0.0), like(x, 1.0)
    B[0] = (x + y) * z - x / (abs2(y) + like(real(x), 0.5))
    B[1] = sqrt(abs2(x) + abs2(y)) * one
    B[2] = conj(x) * y + real(z) * x - imag(y) * one
    B[3] = absolute(x) * z - (-y)
    small = absolute(primal(x)) < like(real(primal(x)), 1.0)
    smaller = small & (absolute(primal(y)) < absolute(primal(z)))
    B[4] = where(small, x * y, z)
    B[5] = where(smaller | small, squelch(small, y), one)
    B[6] = maximum(real(x), real(y)) * one + minimum(real(y), real(z)) * z
    if any_true(small):
        B[7] = partial(x, 0) * like(x, 1.0) if count(x) < 0 else zero + like(x, 2.0) * x
    else:
        B[7] = zero + like(x, 2.0) * x
    B[8] = one / z + like(x, eps_of(x)) + like(x, tiny_of(x)) * like(x, float(order(x)))


@numba.njit(error_model="numpy")
def compiled(kind, a, b):
    text_compiled(buffer(a, kind), buffer(b, kind))


text_compiled = numba.njit(error_model="numpy")(text)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_one_text_gives_the_same_numbers_compiled_and_in_python(kind, rng):
    a, b = workspace(kind, 3, rng), np.zeros(9 * components(kind) * lanes(kind), real_dtype(kind))
    compiled(kind, a, b)
    for lane in range(lanes(kind)):
        expected = Buffer([None] * 9)
        text(numbers(kind, a, lane), expected)
        for k, result in enumerate(numbers(kind, b, lane)):
            assert distance(kind, result, expected[k]) <= ULPS, f"entry {k} of lane {lane}"


def infinitesimal_text(A, P, B):
    """The functions that only duals have; P holds numbers one level below."""
    x, y, z = A[0], A[1], A[2]
    ok = abs2(primal(P[0])) > like(real(primal(P[0])), 0.25)
    t = infdiv(x, P[0], ok)
    B[0] = t
    B[1] = infadd(y, t, z)
    B[2] = infsub(z, t, y)
    B[3] = setprimal(x, P[1])


@numba.njit(error_model="numpy")
def infinitesimal_compiled(kind, lower, a, p, b):
    infinitesimal_text_compiled(buffer(a, kind), buffer(p, lower), buffer(b, kind))


infinitesimal_text_compiled = numba.njit(error_model="numpy")(infinitesimal_text)


@pytest.mark.parametrize("kind", [k for k in KINDS if isinstance(k.number, DualType)], ids=str)
def test_infinitesimals_are_the_same_compiled_and_in_python(kind, rng):
    lower = Kind.of(kind.number.part)
    a, p = workspace(kind, 3, rng), workspace(lower, 2, rng)
    b = np.zeros(4 * components(kind) * lanes(kind), real_dtype(kind))
    infinitesimal_compiled(kind, lower, a, p, b)
    for lane in range(lanes(kind)):
        expected = Buffer([None] * 4)
        infinitesimal_text(numbers(kind, a, lane), numbers(lower, p, lane), expected)
        for k, result in enumerate(numbers(kind, b, lane)):
            assert distance(kind, result, expected[k]) <= ULPS, f"entry {k} of lane {lane}"


# ---- the protocol in plain Python

SCALARS = [1.5, np.float64(1.5), np.float32(1.5), 1.5 + 2j, np.complex64(1.5 + 2j), np.complex128(1.5 + 2j)]


@pytest.mark.parametrize("x", SCALARS, ids=lambda x: type(x).__name__)
def test_types_are_kept(x):
    real_part = type(x.real)
    assert type(like(x, 2.0)) is type(sqrt(x)) is type(squelch(True, x)) is type(conj(x)) is type(x)
    assert type(abs2(x)) is type(absolute(x)) is type(real(x)) is type(imag(x)) is real_part
    assert eps_of(x) == np.finfo(real_part).eps
    d = Dual(x, (x, x))
    for y in (like(d, 2.0), sqrt(d), squelch(False, d), conj(d), abs2(d), absolute(d)):
        assert {type(p) for p in leaves(y, ((2, 0),))} <= {type(x), real_part}


@pytest.mark.parametrize("mask", [True, False])
def test_squelch_keeps_the_tangent(mask):
    assert squelch(mask, Dual(3.0, (1.0, 2.0))).partials == (1.0, 2.0)
    assert squelch(mask, Dual(3.0, (1.0, 2.0))).value == (3.0 if mask else 0.0)


def test_absolute_of_zero_takes_the_branch_of_where():
    for x in (Dual(0.0, (2.0,)), Dual(-0.0, (2.0,)), Dual(-1.0, (2.0,))):
        assert absolute(x).partials == where(x < 0.0, -x, x).partials


def test_infinitesimals():
    x, y = Dual(2.0, (1.0, 3.0)), Dual(5.0, (7.0, 9.0))
    t = infdiv(x, 4.0, True)
    assert (t.value, t.partials) == (0.0, (0.25, 0.75))
    assert infdiv(x, 0.0, False).partials == (0.0, 0.0)
    assert (infadd(y, t, x).value, infadd(y, t, x).partials) == (5.0, (7.5, 10.5))
    assert (infsub(y, t, x).value, infsub(y, t, x).partials) == (5.0, (6.5, 7.5))
    assert infadd(y, t, x).partials == (y + t * x).partials  # t x has the value 0
    assert setprimal(x, 9.0).value == 9.0 and setprimal(x, 9.0).partials == x.partials


def test_order_and_count():
    x = Dual(Dual(1.0, (2.0, 3.0)), (Dual(4.0, (5.0, 6.0)),))
    assert [order(1.0), order(x.value), order(x)] == [0, 1, 2]
    assert [count(1.0), count(x.value), count(x)] == [0, 2, 1]
    assert partial(x.value, 1) == 3.0 and partial(1.5, 0) == 0.0


# ---- the table, compiled: all functions of one arity in one compiled function, so that it is compiled once a type

IN_COMPILED_CODE = [row for row in TABLE.values() if row.math or hasattr(np, row.name)]
UNARY = [row for row in IN_COMPILED_CODE if row.arity == 1]
BINARY = [row for row in IN_COMPILED_CODE if row.arity == 2]


def name_of(row) -> str:
    return f"np.{row.name}" if hasattr(np, row.name) else f"math.{row.math}"


@functools.cache
def all_at_once(names: tuple[str, ...], arity: int):
    arguments = [f"({', '.join(f'x[{arity * k + j}]' for j in range(arity))})" for k in range(len(names))]
    source = f"lambda x: ({', '.join(name + argument for name, argument in zip(names, arguments, strict=True))},)"
    return numba.njit(eval(source, {"np": np, "math": math}))


def point(row, kind: str):
    at = [low + (0.37 + 0.11 * k) * (high - low) for k, (low, high) in enumerate(row.intervals)]
    make = {
        "Dual(float64, 2)": lambda x, k: Dual(x, (1.0, 0.5 - k)),
        "Dual(float32, 2)": lambda x, k: Dual(np.float32(x), (np.float32(1.0), np.float32(0.5 - k))),
        "nested": lambda x, k: Dual(Dual(x, (1.0 + k,)), (Dual(0.5 - k, (0.25,)), Dual(1.0, (0.0,)))),
        "Dual(complex128, 1)": lambda x, k: Dual(complex(x, 0.25 + k / 8), (1.0 - 2j * k,)),
    }[kind]
    return tuple(make(x, k) for k, x in enumerate(at))


@functools.cache
def table_results(kind: str, arity: int):
    rows = [r for r in (UNARY if arity == 1 else BINARY) if "complex" not in kind or r.complex]
    f = all_at_once(tuple(map(name_of, rows)), arity)
    return dict(zip((r.name for r in rows), f(tuple(x for r in rows for x in point(r, kind))), strict=True))


POINTS = ["Dual(float64, 2)", "Dual(float32, 2)", "nested", "Dual(complex128, 1)"]


@pytest.mark.parametrize(
    "row, kind",
    [
        pytest.param(row, kind, id=f"{row.name}-{kind}")
        for kind in POINTS
        for row in UNARY + BINARY
        if "complex" not in kind or row.complex
    ],
)
def test_compiled_functions_equal_those_of_python(row, kind):
    result, expected = table_results(kind, row.arity)[row.name], functions[row.name](*point(row, kind))
    shape = {"nested": ((2, 0), (1, 0)), "Dual(complex128, 1)": ((1, 0),)}.get(kind, ((2, 0),))
    a, b = (np.array(leaves(x, shape), complex) for x in (result, expected))
    eps = 2.0**-23 if "float32" in kind else 2.0**-52
    # complex power and arccosh go through logarithms in one of the two, and through products in the other
    assert np.all(np.abs(a - b) <= 4 * ULPS * eps * np.maximum(1, np.abs(b)))
    if "float32" in kind:
        assert {type(x) for x in leaves(result, shape)} == {np.float32}


# ---- functions that leaves write themselves


@pytest.mark.parametrize("name", sorted(SUBSTITUTES))
def test_substitutes_for_targets_without_the_function(name, monkeypatch):
    """What numba-cuda lacks is written with leaf operators; here it is compiled on the CPU in the place of NumPy's."""
    known = staging._numba_functions
    monkeypatch.setattr(staging, "_numba_functions", lambda n: [] if n == name else known(n))
    function = getattr(np, name)
    arity = TABLE[name].arity
    # no Dual of the arguments: its type would find the code compiled before
    compute = eval(
        f"lambda x, y: f(Dual(x, (1.0,)){', Dual(y, (0.5,))' if arity == 2 else ''})", {"f": function, "Dual": Dual}
    )
    compute = numba.njit(error_model="numpy")(compute)
    points = [-2.5, -1.5, -0.75, -0.5, 0.0, 0.3, 0.5, 1.5, 2.0, 2.5, 1e17, -1e17, 8.0, math.inf]
    for x in points if arity == 1 else points[:-1]:
        result = compute(x, 1.75).value
        expected = function(x, 1.75) if arity == 2 else function(x)
        assert abs(result - expected) <= 4e-15 * abs(expected) if math.isfinite(expected) else result == expected


@pytest.mark.parametrize("name", ["maximum", "minimum", "fmax", "fmin", "sign", "absolute", "heaviside", "sinc"])
def test_not_a_number_is_treated_as_numpy_does(name):
    arity = TABLE[name].arity
    f = all_at_once((f"np.{name}",), arity)
    for a, b in ((math.nan, 1.0), (1.0, math.nan), (0.0, 0.5), (-0.0, 2.0), (2.0, -1.0)):
        arguments = (a, b)[:arity]
        (result,) = f(tuple(Dual(x, (1.0,)) for x in arguments))
        assert np.array_equal(result.value, getattr(np, name)(*arguments), equal_nan=True)


@pytest.mark.parametrize("exponent", [-3, -1, 0, 1, 2, 7])
@pytest.mark.parametrize("base", [1.5, -1.5, 1 + 2j])
def test_whole_powers_are_exact_products(base, exponent):
    power = numba.njit(lambda x, n: x**n)
    result, expected = power(Dual(base, (1.0,)), exponent), Dual(base, (1.0,)) ** exponent
    assert abs(result.value - expected.value) <= 4 * 2.0**-52 * abs(expected.value)
    assert abs(result.partials[0] - expected.partials[0]) <= 8 * 2.0**-52 * abs(expected.partials[0])


@pytest.mark.parametrize("model", ["python", "numpy"])
@pytest.mark.parametrize("exponent", [-1, -2, -3])
def test_a_power_has_its_value_where_the_slope_overflows(exponent, model):
    power = numba.njit(error_model=model)(lambda x, n: x**n)
    x = 10.0 ** (100 / exponent)
    y = power(Dual(x, (1.0,)), exponent)
    assert (y.value, y.partials[0]) == (power(x, exponent), exponent * power(x, exponent - 1))
    second = power(Dual(Dual(x, (1.0,)), (Dual(1.0, (0.0,)),)), exponent)
    assert second.value.value == y.value and second.value.partials == y.partials
    steep = 10.0 ** (290 / exponent)
    y = power(Dual(steep, (1.0,)), exponent)
    assert y.value == power(steep, exponent) and abs(y.partials[0]) > 1e290
    with np.errstate(all="ignore"):
        assert np.isclose(power(Dual(steep + 0j, (1.0,)), exponent).value, y.value)


@pytest.mark.parametrize("base", [0.0, Dual(0.0, (1.0,))], ids=["plain", "Dual"])
def test_a_negative_power_of_zero_has_no_value(base):
    with pytest.raises(ZeroDivisionError):
        numba.njit(lambda x: x**-1)(base)


# ---- packs


@numba.njit(error_model="numpy")
def functions_of_packs(kind, a, b):
    A, B = buffer(a, kind), buffer(b, kind)
    B[0] = np.sin(A[0]) + np.exp(A[1]) / np.sqrt(A[2])
    B[1] = np.arctan2(A[0], A[2]) * 2 + A[1] ** 2
    B[2] = np.maximum(A[0], A[1]) - abs(A[0])


@pytest.mark.parametrize("kind", [Kind("float64", (), 8), Kind("float64", (1,), 4), Kind("float32", (), 16)], ids=str)
def test_functions_of_the_table_work_lane_by_lane(kind, rng):
    a = np.abs(workspace(kind, 3, rng)) + real_dtype(kind).type(0.1)
    b = np.zeros_like(a)
    functions_of_packs(kind, a, b)
    for lane in range(lanes(kind)):
        x, y, z = numbers(kind, a, lane)
        expected = [np.sin(x) + np.exp(y) / np.sqrt(z), np.arctan2(x, z) * 2 + y**2, np.maximum(x, y) - abs(x)]
        for result, e in zip(numbers(kind, b, lane), expected, strict=True):
            assert distance(kind, result, e) <= ULPS


@numba.njit(error_model="numpy")
def roots_and_quotients(kind, a, b):
    A, B = buffer(a, kind), buffer(b, kind)
    B[0] = protocol.inverse(A[1])
    B[1], B[2] = protocol.root(A[1])
    B[3], B[4] = protocol.over_root(A[0], A[1])


@pytest.mark.parametrize(
    "kind", [Kind(t, (), n) for t, n in (("float64", 1), ("float64", 8), ("float64", 16), ("float32", 32))], ids=str
)
def test_roots_and_quotients_of_any_size_are_right_to_a_rounding(kind, rng):
    """Up to 2^+-960, or 2^+-100 in single precision: what the Jacobi method divides by is less far from 1."""
    lane, reach = real_dtype(kind), 960 if real_dtype(kind) == np.float64 else 100
    for _ in range(200):
        x = np.exp2(rng.uniform(-reach, reach, lanes(kind))).astype(lane)
        a = (np.sqrt(x) * np.exp2(rng.uniform(-20, 20, x.size)) * (rng.random(x.size) < 0.9)).astype(lane)
        b = np.zeros(5 * x.size, lane)
        roots_and_quotients(kind, np.concatenate([a, x]), b)
        wide = np.longdouble
        h = np.sqrt(x.astype(wide))
        u = a + h
        for found, exact in zip(b.reshape(5, -1), (1 / x.astype(wide), h, 1 / h, 1 / u, 1 / (u * h)), strict=True):
            assert np.all(abs(found / exact - 1) <= 2 * np.finfo(lane).eps)


def test_packs_use_vector_instructions():
    kind = Kind("float64", (1,), 8)
    a, b = np.ones(3 * 16), np.zeros(9 * 16)
    compiled(kind, a, b)
    ir = compiled.inspect_llvm(next(s for s in compiled.signatures if str(s[0]) == str(kind.numba_type)))
    assert "<8 x double>" in ir


# ---- buffers


@pytest.mark.parametrize("kind", [k for k in KINDS if lanes(k) == 1], ids=str)
def test_a_buffer_over_an_array_in_python(kind, rng):
    array = workspace(kind, 4, rng)
    store = buffer(array, kind)
    assert len(store) == 4 and len(list(store)) == 4
    for k in range(4):
        store[k] = store[k] * 1
    copied = Buffer(store)
    store[1] = store[3]
    assert distance(kind, store[1], copied[3]) == 0 and distance(kind, store[2], copied[2]) == 0
    assert order(store[0]) == len(levels(kind.number))


def test_sizes_of_kinds():
    kind = Kind("complex64", (4, 2), 8)
    assert (lanes(kind), components(kind)) == (8, 2 * 5 * 3)
    assert leaf_kind(kind).number == PackType(8, numba.complex64)
    sizes = numba.njit(lambda kind: (lanes(kind), components(kind), components(leaf_kind(kind))))
    assert sizes(kind) == (8, 30, 2)


@numba.njit
def stand(array, kind):
    return buffer(array, kind)[0]


@pytest.mark.parametrize(
    "array, words",
    [
        pytest.param(np.zeros(4, np.float32), "stands on an array of float64", id="precision"),
        pytest.param(np.zeros(8)[::2], "contiguous array of one axis", id="strided"),
        pytest.param(np.zeros((2, 2)), "contiguous array of one axis", id="two axes"),
    ],
)
def test_a_buffer_says_what_it_stands_on(array, words):
    with pytest.raises(DTypeError, match=words):
        stand(array, Kind("float64"))


def test_python_has_no_packs():
    with pytest.raises(DTypeError, match="8 lanes"):
        buffer(np.zeros(8), Kind("float64", (), 8))


# ---- types

F4, F8, C8, C16, I8 = numba.float32, numba.float64, numba.complex64, numba.complex128, numba.int64


@pytest.mark.parametrize(
    "a, b, joined",
    [
        (F4, F8, F8),
        (F4, C8, C8),
        (F8, C8, C16),
        (I8, F4, F4),
        (I8, I8, I8),
        (DualType(F4, 2), I8, DualType(F4, 2)),
        (DualType(F4, 2), F8, DualType(F8, 2)),
        (DualType(F8, 2), C8, DualType(C16, 2)),
        (DualType(F8, 2), DualType(F4, 2), DualType(F8, 2)),
        (DualType(DualType(F8, 3), 2), DualType(F8, 3), DualType(DualType(F8, 3), 2)),
        (DualType(F8, 2, 1), DualType(F8, 3, 2), DualType(DualType(F8, 2, 1), 3, 2)),
        (DualType(F8, 2), DualType(F8, 3, 2), DualType(DualType(F8, 2), 3, 2)),
        (PackType(8, F4), F8, PackType(8, F4)),
        (PackType(8, F8), C16, PackType(8, C16)),
        (DualType(PackType(8), 2), F8, DualType(PackType(8), 2)),
    ],
    ids=str,
)
def test_the_type_of_mixed_numbers(a, b, joined):
    assert join(a, b) == join(b, a) == joined


def test_numbers_of_partials_must_agree():
    with pytest.raises(ShapeError, match="got 2 and 3"):
        join(DualType(F8, 2), DualType(F8, 3))


def test_the_protocol_is_complete():
    """Every name a kernel may import is compiled, too."""
    for name in set(protocol.__all__) - {"Buffer"}:
        function = getattr(protocol, name)
        assert numba.core.registry.cpu_target.typing_context.resolve_value_type(function) is not None


def test_decisions_at_run_time_cannot_be_branched_on():
    emitter = staging.Emitter(numba.core.registry.cpu_target.typing_context)
    x = emitter.wrap(F8, None)
    for undecided in (x, x < 1.0):
        with pytest.raises(TypeError, match="where"):
            operator.truth(undecided)
