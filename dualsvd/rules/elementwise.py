"""Elementwise functions of arrays: every row of the table becomes a rule, and every operator of a traced array."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ..dual import Dual
from ..elementary import EXTRA, TABLE, Row, array_function, compile_row
from .registry import (
    NUMPY,
    OF_PYTHON,
    Examples,
    Operands,
    Rule,
    Tracer,
    as_operand,
    implements,
    linear,
    of_dtype,
    primal,
    refuse_objects,
    refuse_second,
)
from .structural import align, finish


def times(slope: Any, tangent: Any, own: bool) -> Any:
    """slope * tangent. Along one direction both are taken for arrays of one shape, which costs NumPy half the overhead.

    A large slope that is the caller's `own`, computed for this product alone, gives its memory to the result: memory is
    what such a product costs.
    """
    if type(slope) is type(tangent) is np.ndarray and len(tangent) == 1:
        slope = slope[None]
        if own and slope.size > _LARGE and slope.shape == tangent.shape and slope.dtype == tangent.dtype:
            return np.multiply(slope, tangent, out=slope)
    return tangent * slope  # an array, then perhaps a number of Python's, which has to ask the array otherwise


_UNITS = ("1", "-1")  # slopes that need no product
_BARE = ("a", "b", "x", "y")  # slopes that are an operand or the result: not theirs to write on
_LARGE = 4096  # elements; below it the test costs more than the allocation


def plus(dy: Any, term: Any, own: bool) -> Any:
    """dy + term, written on dy if that is large and was made for this sum alone."""
    mine = own and type(dy) is type(term) is np.ndarray and dy.size > _LARGE
    return np.add(dy, term, out=dy) if mine and dy.shape == term.shape and dy.dtype == term.dtype else dy + term


class OnePass:
    """A product or quotient of large contiguous real arrays of one shape and type: value and tangents by a kernel that
    reads memory once. Returns None for other operands, and where something is not finite, so that NumPy gives its
    warnings."""

    __slots__ = ("kernels", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.kernels: dict[Any, Any] = {}  # by dtype, as soon as they are loaded

    def __call__(self, operands: Operands, tangents: Operands) -> Any:
        (a, b), (da, db) = operands, tangents
        if not (b is a and db is da) and not alike(a, da, b, db):
            return None
        kernel = self.kernel(a, da)
        if kernel is None or not (b.flags.c_contiguous and db.flags.c_contiguous):
            return None
        return kernel(a, da, b, db)

    def kernel(self, x: Any, dx: Any) -> Any:
        """The kernel for arrays like x and their tangents, or None."""
        if not type(x) is type(dx) is np.ndarray:
            return None
        kernel = self.kernels.get(x.dtype)
        if kernel is None:
            if x.size < ONE_PASS or x.dtype.char not in "fd" or not x.dtype.isnative:
                return None
            from ..kernels import memory_bound  # brings in Numba

            kernel = self.kernels[x.dtype] = memory_bound.in_one_pass(self.name, x.dtype)
        fits = dx.dtype == x.dtype and dx.shape[1:] == x.shape and dx.size
        return kernel if fits and x.flags.c_contiguous and dx.flags.c_contiguous else None


def alike(a: Any, da: Any, b: Any, db: Any) -> bool:
    """Whether two operands and their tangents are plain arrays of one shape and one type."""
    if not type(a) is type(b) is type(da) is type(db) is np.ndarray:
        return False
    return a.shape == b.shape and a.dtype == b.dtype and da.shape == db.shape and da.dtype == db.dtype


def square(operands: Operands, tangents: Operands) -> Any:
    """The square as a product."""
    return PRODUCT(operands * 2, tangents * 2)


def quotient(operands: Operands, tangents: Operands) -> Any:
    """The quotient of two arrays, or of one of Python's numbers and an array; without a kernel, of a `Dual` of arrays,
    which has the quotient rule too."""
    (a, b), (da, db) = operands, tangents
    if type(a) is float or type(a) is int:
        kernel = RECIPROCAL.kernel(b, db)
        return None if kernel is None else kernel(b, db, a)
    together = QUOTIENT(operands, tangents)
    if together is not None or not alike(a, da, b, db) or da.shape[1:] != a.shape:
        return together
    z = Dual(a, (da,)) / Dual(b, (db,))
    return z.value, z.partials[0]


#: From so many elements on these kernels save more than it takes to load Numba, half a second, once; small arrays have
#: them after that.
ONE_PASS = 1 << 13
PRODUCT, QUOTIENT, RECIPROCAL = OnePass("multiply"), OnePass("divide"), OnePass("divide_number")
IN_ONE_PASS: dict[str, Any] = {"multiply": PRODUCT, "divide": quotient, "square": square}


def in_precision_of(y: Any, operands: Operands, whole: bool) -> Operands:
    """The operands in the precision of the result, which slopes are to have: beside arrays of double precision NumPy
    would take log(b) of whole numbers of eight bits in half precision, and -b of unsigned ones modulo 256. `whole`:
    complex where the result is, for a real logarithm of a negative number is none."""
    if whole and y.dtype.kind == "c":
        return tuple(of_dtype(x, y.dtype) for x in operands)
    first, last = getattr(operands[0], "dtype", None), getattr(operands[-1], "dtype", None)
    if first is last:
        return operands
    if first is None or last is None:
        if type(operands[0 if first is None else -1]) in OF_PYTHON:  # which take the precision of the others
            return operands
        operands = tuple(x if hasattr(x, "dtype") else np.asarray(x) for x in operands)
    if any(x.dtype.kind == "O" for x in operands):
        refuse_objects()
    real = y.dtype.type(0).real.dtype
    return tuple(of_dtype(x, y.dtype if x.dtype.kind == "c" else real) for x in operands)


def as_numpy_divides(slope: Any) -> Any:
    """The slope 1/b also at 0, where Python's numbers raise what NumPy warns of."""

    def divided(a: Any, b: Any, y: Any) -> Any:
        try:
            return slope(a, b, y)
        except ZeroDivisionError:
            return slope(a, y.dtype.type(b), y)

    return divided


def conjugate(x: Any) -> Any:
    """The conjugate of what is complex; what is real stays as it is (np.conj would give Python's 2 its own type)."""
    return np.conj(x) if np.iscomplexobj(x) else x


def examples_of(row: Row) -> Examples:
    """Operands inside the row's intervals: plain, broadcast, scalar, float32, and complex where it is holomorphic."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...], k: int) -> Any:
        return rng.uniform(*row.intervals[k], size=shape)

    def examples(rng: np.random.Generator) -> Any:
        shapes: list[tuple[tuple[int, ...], ...]] = [((3, 2),) * row.arity, ((),) * row.arity, ((0, 2),) * row.arity]
        if row.arity == 2:
            shapes += [((3, 2), (2,)), ((2, 1), (1, 3)), ((), (4,))]
        for shape in shapes:
            operands = tuple(draw(rng, s, k) for k, s in enumerate(shape))
            yield operands, {}
        if row.name != "polygamma":
            yield tuple(draw(rng, (3,), k).astype(np.float32) for k in range(row.arity)), {}
        if row.complex:
            yield tuple(draw(rng, (3,), k) + 0.3j * rng.standard_normal(3) for k in range(row.arity)), {}

    return examples


def elementwise(row: Row) -> Rule:
    """The rule of a row: a diagonal Jacobian, so both directions multiply by the slope."""
    constants = row.partials
    slopes = [as_numpy_divides(s) if c == "1/b" else s for s, c in zip(compile_row(row, NAMESPACE), constants)]
    by_operand = tuple((k, slope, c) for k, (slope, c) in enumerate(zip(slopes, constants)) if c != "0")
    units = len(constants) == 1 or set(constants) <= {"0", *_UNITS}
    logarithms = len(constants) == 2 and any("log(" in c for c in constants)
    products = len(constants) == 2 and not {"0", *_UNITS} & set(constants)

    def pushforward(y: Any, operands: Operands, tangents: Operands) -> Any:
        if products and operands[0] is operands[1] and tangents[0] is tangents[1] is not None:
            return times(slopes[0](*operands, y) + slopes[1](*operands, y), tangents[0], True)  # x*x: one product
        dy, own, ndim = None, False, y.ndim
        operands = operands if units else in_precision_of(y, operands, logarithms)
        for k, slope, constant in by_operand:
            tangent = tangents[k]
            if tangent is None:
                continue
            if tangent.ndim <= ndim:
                tangent = align(tangent, ndim)
            if constant == "1":
                dy, own = (tangent, False) if dy is None else (plus(dy, tangent, own), True)
            elif constant == "-1":
                dy, own = -tangent if dy is None else dy - tangent, True
            else:
                term = times(slope(*operands, y), tangent, constant not in _BARE)
                dy, own = term if dy is None else plus(dy, term, own), True
        if dy is None:
            return np.zeros((1,) * (ndim + 1))
        return dy if own or any(dy is tangent for tangent in tangents) else np.copy(dy)

    def pullback(y_bar: Any, y: Any, operands: Operands) -> tuple[Any, ...]:
        operands = operands if units else in_precision_of(y, operands, logarithms)

        def cotangent(slope: Any, constant: str) -> Any:
            if constant in _UNITS:
                return y_bar if constant == "1" else lambda: -y_bar
            return lambda: conjugate(slope(*operands, y)) * y_bar

        return tuple(None if c == "0" else cotangent(slope, c) for slope, c in zip(slopes, constants))

    function, jvp = array_function(row.name), IN_ONE_PASS.get(row.name)
    return Rule(row.name, function, pushforward, pullback, examples_of(row), jvp=jvp, fresh=True)


def where(condition: Any, p: Any, q: Any) -> Any:
    """np.where, which takes its time to choose between numbers."""
    return (p if condition else q) if isinstance(condition, (bool, np.bool_)) else np.where(condition, p, q)


#: what an expression of the table may call, over arrays; NumPy's functions dispatch on traced arguments by themselves
NAMESPACE: dict[str, Any] = {name: array_function(name) for name in TABLE if name not in EXTRA} | {"where": where}
NAMESPACE |= {name: lambda *x, name=name: ELEMENTWISE[name](*x) for name in EXTRA}  # gamma's derivative needs polygamma
ELEMENTWISE: dict[str, Rule] = {name: elementwise(row) for name, row in TABLE.items()}

for _name, _rule in ELEMENTWISE.items():
    NUMPY[_name] = _rule
    for _alias in (_name, *TABLE[_name].aliases):
        NUMPY[_alias] = _rule
        if hasattr(np, _alias):
            NUMPY[getattr(np, _alias)] = _rule


@implements(np.float_power, "float_power")
def float_power(a: Any, b: Any) -> Any:
    """The power in double precision at least."""
    return np.power(*(of_dtype(x, np.result_type(x, np.float64)) for x in (a, b)))


def erf(x: Any) -> Any:
    """The error function of real numbers, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x, for each element.

    >>> import numpy as np, dualsvd as ds
    >>> bool(abs(ds.derivative(ds.erf, 0.5) - 2 / np.sqrt(np.pi) * np.exp(-0.25)) < 1e-15)
    True
    """
    return ELEMENTWISE["erf"](x)


def erfc(x: Any) -> Any:
    """1 - erf(x) of real numbers, to relative accuracy where it is small, for each element.

    >>> import dualsvd as ds
    >>> [float(f"{y:.6g}") for y in (ds.erfc(10.0), ds.derivative(ds.erfc, 0.0))]
    [2.08849e-45, -1.12838]
    """
    return ELEMENTWISE["erfc"](x)


def gamma(x: Any) -> Any:
    """The gamma function of real numbers, (n - 1)! at whole ones, for each element; its derivatives by polygamma.

    Differentiable but at 0, -1, -2, ...

    >>> import dualsvd as ds
    >>> [float(f"{y:.6g}") for y in (ds.gamma(5.0), ds.derivative(ds.gamma, 1.0))]
    [24.0, -0.577216]
    """
    return ELEMENTWISE["gamma"](x)


def lgamma(x: Any) -> Any:
    """log|gamma(x)| of real numbers, for each element; its derivatives by polygamma.

    Differentiable but at 0, -1, -2, ...

    >>> import dualsvd as ds
    >>> [float(f"{y:.6g}") for y in (ds.lgamma(3.0), ds.derivative(ds.lgamma, 1.0))]
    [0.693147, -0.577216]
    """
    return ELEMENTWISE["lgamma"](x)


# ---------------------------------------------------------------------------------------------------------------------
# Complex numbers: linear over the reals, not holomorphic


def _complex_examples(rng: np.random.Generator) -> Any:
    z = rng.standard_normal((3, 2)) + 1j * rng.standard_normal((3, 2))
    yield (z,), {}
    yield (z.astype(np.complex64),), {}
    yield (z.real,), {}


conj = linear("conj", np.conj, lambda y_bar, z: np.conj(y_bar), _complex_examples)
real = linear("real", np.real, lambda y_bar, z: y_bar, _complex_examples)
imag = linear("imag", np.imag, lambda y_bar, z: 1j * y_bar, _complex_examples)
implements(np.conj, np.conjugate)(conj)
implements(np.real)(lambda z: real(z) if np.iscomplexobj(z) else z)
implements(np.imag)(imag)


def _modulus_slope(y: Any, z: Any) -> Any:
    """z / |z|, and 0 at 0: the least element of the subdifferential."""
    zero = np.asarray(primal(y)) == 0
    refuse_second(
        z,
        zero,
        "a second derivative passes the kink of |z| at 0, where the first one jumps; "
        "for |z|**2 write np.real(np.conj(z) * z)",
    )
    return z / np.where(zero, 1, y)


modulus = Rule(
    "modulus",
    np.absolute,
    lambda y, operands, tangents: np.real(np.conj(_modulus_slope(y, operands[0])) * tangents[0]),
    lambda y_bar, y, operands: (y_bar * _modulus_slope(y, operands[0]),),
    _complex_examples,
)


@implements(np.absolute, np.fabs, "absolute")
def absolute(x: Any) -> Any:
    return modulus(x) if np.iscomplexobj(x) else ELEMENTWISE["absolute"](x)


@implements(np.sign, "sign")
def sign(z: Any) -> Any:
    if not np.iscomplexobj(z):
        return ELEMENTWISE["sign"](z)
    value = primal(z)
    constant = (value == 0) | np.isinf(value)
    z = np.where(constant, 1, z)
    return np.where(constant, np.sign(value), z / np.absolute(z))


@implements(np.angle)
def angle(z: Any, deg: bool = False) -> Any:
    phase = np.arctan2(np.imag(z), np.real(z))
    return np.degrees(phase) if deg else phase


@implements(np.iscomplexobj)
def iscomplexobj(x: Any) -> bool:
    return np.iscomplexobj(primal(x))


@implements(np.isrealobj)
def isrealobj(x: Any) -> bool:
    return not iscomplexobj(x)


@implements(np.clip)
def clip(
    a: Any,
    a_min: Any = None,
    a_max: Any = None,
    out: Any = None,
    *,
    min: Any = None,
    max: Any = None,
    dtype: Any = None,
) -> Any:
    low, high = a_min if min is None else min, a_max if max is None else max
    a = a if low is None else np.maximum(a, low)
    a = a if high is None else np.minimum(a, high)
    return finish(a, out, dtype)


# ---------------------------------------------------------------------------------------------------------------------
# Operators


_BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.divide,
    "pow": np.power,
    "mod": np.remainder,
    "floordiv": np.floor_divide,
}
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")


def _is_view(x: Any) -> bool:
    """Whether a plain array is a view of one that others may know, to whose memory in-place operators write."""
    return isinstance(x, np.ndarray) and x.base is not None and x.flags.writeable


_POWERS = {b: ELEMENTWISE[name] for b, name in ((-1, "reciprocal"), (0.5, "sqrt"), (1, "positive"), (2, "square"))}


def power(self: Any, other: Any) -> Any:
    """x ** b, where NumPy has quicker functions for some exponents of arrays."""
    if type(other) in (int, float) and other in _POWERS and self.ndim:
        return _POWERS[other](self)
    return ELEMENTWISE["power"](self, as_operand(other))


def _install_operators() -> None:
    def binary(rule: Rule) -> tuple[Any, Any]:
        def forward(self: Any, other: Any) -> Any:
            return rule(self, as_operand(other))

        def reflected(self: Any, other: Any) -> Any:
            return rule(as_operand(other), self)

        return forward, reflected

    def in_place(rule: Rule) -> Any:
        def write(self: Any, other: Any) -> Any:
            result = rule(self, as_operand(other))
            if not self.ndim and not _is_view(primal(self)):  # as of NumPy's scalars, which nobody can write to
                return result
            self[...] = result
            return self

        return write

    def comparison(compare: Any) -> Any:
        return lambda self, other: compare(primal(self), primal(other))

    for name, ufunc in _BINARY.items():
        rule = ELEMENTWISE[ufunc.__name__]
        forward, reflected = binary(rule)
        setattr(Tracer, f"__{name}__", forward)
        setattr(Tracer, f"__r{name}__", reflected)
        setattr(Tracer, f"__i{name}__", in_place(rule))
    Tracer.__pow__ = power  # type: ignore[attr-defined, operator]
    for name in _COMPARISONS:
        compare = getattr(operator, name)
        setattr(Tracer, f"__{name}__", comparison(compare))
        NUMPY[getattr(np, _COMPARISON_UFUNCS[name])] = comparison(compare)
    Tracer.__neg__ = lambda self: ELEMENTWISE["negative"](self)  # type: ignore[attr-defined, operator]
    Tracer.__pos__ = lambda self: ELEMENTWISE["positive"](self)  # type: ignore[attr-defined, operator]
    Tracer.__abs__ = lambda self: absolute(self)  # type: ignore[attr-defined, operator]
    Tracer.__matmul__ = lambda self, other: NUMPY[np.matmul](self, other)  # type: ignore[attr-defined, operator]
    Tracer.__rmatmul__ = lambda self, other: NUMPY[np.matmul](other, self)  # type: ignore[attr-defined, operator]


_COMPARISON_UFUNCS = {
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "eq": "equal",
    "ne": "not_equal",
}
_install_operators()
