"""The dual number: a value and its partial derivatives.

A `Dual` stands for value + sum_k partials[k] e_k with e_k e_l = 0. Sum, product and quotient rule are the operators
below; every other function follows by the chain rule from its row in `elementary`:

    (a + h) (b + k) = a b + a k + b h
    (a + h) / (b + k) = q + (h - q k) / b,          q = a / b
    f(a + h, b + k) = f(a, b) + f_a h + f_b k

Comparisons look at the primal only, so that a program takes the same path with and without derivatives.

The parts may be real, complex or duals of another level. Levels of nested derivatives are told apart by their
`tag`, an integer that grows with every new level: of two numbers the one with the higher tag belongs to the inner
derivative and wraps the other, a constant for it. Duals of one tag nested by hand are ordered by their depth.

The same rules are run at code-generation time on operands that stand for compiled values (`Staged`), see
`kernels.staging`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np

from .elementary import BY_NAME, EXTRA, TABLE, Row, array_function, compile_row, is_of_scipy
from .errors import DTypeError, MissingRuleError, ShapeError, TagError

__all__ = ["Dual"]


class Staged:
    """A number or mask of a code generator: it brings its own arithmetic and answers what follows."""

    __slots__ = ()
    type: Any
    emitter: Any
    is_complex: bool
    precision: str

    def function(self, name: str, arguments: tuple[Any, ...], slope: bool = False) -> Any:
        """The function of the table called `name` at plain numbers; as part of a slope it raises no error."""
        raise NotImplementedError

    def like(self, constant: Any) -> Any:
        """A constant in the type of this number."""
        raise NotImplementedError

    def plus_product(self, y: Any, z: Any) -> Any:
        """As a complex number: self + y z, each part by two multiply-adds."""
        raise NotImplementedError

    def minus_product(self, y: Any, z: Any) -> Any:
        """As a complex number: self - y z, in the same way."""
        raise NotImplementedError

    def select(self, a: Any, b: Any) -> Any:
        """As a mask: a where true, b where false."""
        raise NotImplementedError

    def any_true(self) -> Any:
        """As a mask: whether any lane is true."""
        raise NotImplementedError


_NUMBERS = (int, float, complex, np.number, np.bool_, Staged)


class Dual:
    """A value with its partial derivatives.

    Parameters: `value`, a real or complex number or a Dual; `partials`, one derivative a direction, of the same kind;
    `tag`, the derivative level, which the transforms set: leave it 0.

    Works in plain Python, in `numba.njit` and in `numba.cuda` kernels. Comparisons and truth look at the value.

    Raises TagError for parts that belong to a running derivative; arithmetic raises ShapeError for different numbers of
    partials, MissingRuleError for float(x) and functions without a rule.

    >>> x = Dual(3.0, (1.0, 0.0))
    >>> y = Dual(2.0, (0.0, 1.0))
    >>> x * y + x / y
    Dual(7.5, (2.5, 2.25))
    >>> import numpy as np
    >>> np.sqrt(Dual(4.0, (1.0,)))
    Dual(2.0, (0.25,))
    """

    __slots__ = ("partials", "tag", "value")
    # equality looks at the primal: as a key, a dual would stand for others with different partials
    __hash__ = None  # type: ignore[assignment]

    value: Any
    partials: tuple[Any, ...]
    tag: int

    def __init__(self, value: Any, partials: Iterable[Any], tag: int = 0) -> None:
        self.value = float(value) if isinstance(value, (int, np.integer)) else value
        self.partials = tuple(partials)
        self.tag = tag
        if not tag and any(isinstance(p, Dual) and p.tag for p in (value, *self.partials)):
            raise TagError(
                f"a Dual without a tag cannot hold {value!r}, a number of a derivative being computed: the two levels "
                "could not be told apart; use dualsvd.derivative, which gives each derivative a tag of its own"
            )

    def __repr__(self) -> str:
        level = f", tag={self.tag}" if self.tag else ""
        partials = ", ".join(map(_show, self.partials)) + "," * (len(self.partials) == 1)
        return f"Dual({_show(self.value)}, ({partials}){level})"

    # ---- sum, product and quotient rule

    def __neg__(self) -> Dual:
        return Dual(-self.value, [-p for p in self.partials], self.tag)

    def __pos__(self) -> Dual:
        return self

    def __add__(self, other: Any) -> Any:
        if (outer := _outer(self, other)) is None:
            return NotImplemented
        if outer < 0:
            return Dual(self + other.value, other.partials, other.tag)
        if outer > 0:
            return Dual(self.value + other, self.partials, self.tag)
        return Dual(self.value + other.value, [p + q for p, q in _pairs(self, other)], self.tag)

    def __radd__(self, other: Any) -> Any:
        return NotImplemented if _outer(self, other) is None else Dual(other + self.value, self.partials, self.tag)

    def __sub__(self, other: Any) -> Any:
        if (outer := _outer(self, other)) is None:
            return NotImplemented
        if outer < 0:
            return Dual(self - other.value, [-q for q in other.partials], other.tag)
        if outer > 0:
            return Dual(self.value - other, self.partials, self.tag)
        return Dual(self.value - other.value, [p - q for p, q in _pairs(self, other)], self.tag)

    def __rsub__(self, other: Any) -> Any:
        if _outer(self, other) is None:
            return NotImplemented
        return Dual(other - self.value, [-p for p in self.partials], self.tag)

    def __mul__(self, other: Any) -> Any:
        if (outer := _outer(self, other)) is None:
            return NotImplemented
        if outer < 0:
            return Dual(self * other.value, [self * q for q in other.partials], other.tag)
        if outer > 0:
            return Dual(self.value * other, [p * other for p in self.partials], self.tag)
        a, b = self.value, other.value
        return Dual(a * b, [a * q + b * p for p, q in _pairs(self, other)], self.tag)

    def __rmul__(self, other: Any) -> Any:
        if _outer(self, other) is None:
            return NotImplemented
        return Dual(other * self.value, [other * p for p in self.partials], self.tag)

    def __truediv__(self, other: Any) -> Any:
        if (outer := _outer(self, other)) is None:
            return NotImplemented
        if outer < 0:
            return other.__rtruediv__(self)
        if outer > 0:
            return Dual(self.value / other, [p / other for p in self.partials], self.tag)
        b = other.value
        y = self.value / b
        return Dual(y, [(p - y * q) / b for p, q in _pairs(self, other)], self.tag)

    def __rtruediv__(self, other: Any) -> Any:
        if _outer(self, other) is None:
            return NotImplemented
        y = other / self.value
        slope = -y / self.value
        return Dual(y, [slope * p for p in self.partials], self.tag)

    # ---- operators that stand in the table

    def __abs__(self) -> Dual:
        return absolute(self)

    def __pow__(self, other: Any) -> Any:
        return NotImplemented if _outer(self, other) is None else functions["power"](self, other)

    def __rpow__(self, other: Any) -> Any:
        return NotImplemented if _outer(self, other) is None else functions["power"](other, self)

    def __mod__(self, other: Any) -> Any:
        return NotImplemented if _outer(self, other) is None else functions["remainder"](self, other)

    def __rmod__(self, other: Any) -> Any:
        return NotImplemented if _outer(self, other) is None else functions["remainder"](other, self)

    def __floordiv__(self, other: Any) -> Any:
        return NotImplemented if _outer(self, other) is None else functions["floor_divide"](self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return NotImplemented if _outer(self, other) is None else functions["floor_divide"](other, self)

    def __divmod__(self, other: Any) -> Any:
        return NotImplemented if _outer(self, other) is None else (self // other, self % other)

    def __rdivmod__(self, other: Any) -> Any:
        return NotImplemented if _outer(self, other) is None else (other // self, other % self)

    # ---- steps, constant between their jumps; `math` and `round` ask for these

    def __floor__(self) -> Dual:
        return functions["floor"](self)

    def __ceil__(self) -> Dual:
        return functions["ceil"](self)

    def __trunc__(self) -> Dual:
        return functions["trunc"](self)

    def __round__(self, digits: int | None = None) -> Dual:
        y = functions["rint"](self)
        return y if digits is None else y * 0 + round(primal(self), digits)

    # ---- complex numbers: linear maps act on every part

    @property
    def real(self) -> Dual:
        return real(self)

    @property
    def imag(self) -> Dual:
        return imag(self)

    def conjugate(self) -> Dual:
        return conj(self)

    # ---- decisions look at the primal

    def __bool__(self) -> bool:
        return bool(primal(self))

    def __eq__(self, other: Any) -> Any:
        return primal(self) == primal(other) if isinstance(other, (Dual, *_NUMBERS)) else NotImplemented

    def __ne__(self, other: Any) -> Any:
        return primal(self) != primal(other) if isinstance(other, (Dual, *_NUMBERS)) else NotImplemented

    def __lt__(self, other: Any) -> Any:
        return primal(self) < primal(other) if isinstance(other, (Dual, *_NUMBERS)) else NotImplemented

    def __le__(self, other: Any) -> Any:
        return primal(self) <= primal(other) if isinstance(other, (Dual, *_NUMBERS)) else NotImplemented

    def __gt__(self, other: Any) -> Any:
        return primal(self) > primal(other) if isinstance(other, (Dual, *_NUMBERS)) else NotImplemented

    def __ge__(self, other: Any) -> Any:
        return primal(self) >= primal(other) if isinstance(other, (Dual, *_NUMBERS)) else NotImplemented

    # ---- ways out of the dual numbers would lose the derivative silently

    def __float__(self) -> float:
        _refuse(self, "float")

    def __complex__(self) -> complex:
        _refuse(self, "complex")

    def __int__(self) -> int:
        _refuse(self, "int")

    def __index__(self) -> int:
        _refuse(self, "an index")

    # ---- Numba asks here for the type of what it does not know yet: only then are the compiled numbers registered

    @property
    def _numba_type_(self) -> Any:
        return _typing()(self)

    # ---- NumPy

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(hasattr(x, "__array_ufunc__") and not isinstance(x, (Dual, np.ndarray, np.generic)) for x in inputs):
            return NotImplemented
        function = _OF_UFUNC.get(ufunc) or _beside_numpy(ufunc)
        if function is None or method != "__call__" or kwargs:
            name = _called(ufunc) if method == "__call__" else f"{_called(ufunc)}.{method}"
            given = f" with {', '.join(sorted(kwargs))}" if kwargs else ""
            known = f"; known are {', '.join(sorted(_UFUNCS))}" if function is None else ""
            without = "; call it without" if kwargs and function is not None else ""
            raise MissingRuleError(f"{name}{given} has no rule for a Dual number{known or without}")
        arrays = [x for x in inputs if isinstance(x, np.ndarray) and x.ndim]
        if not arrays:
            return function(*(x[()] if isinstance(x, np.ndarray) else x for x in inputs))
        if all(x.dtype == object for x in arrays):
            return np.frompyfunc(function, len(inputs), 1)(*(_boxed(x) if isinstance(x, Dual) else x for x in inputs))
        raise DTypeError(
            f"{_called(ufunc)} of an array of {arrays[0].dtype} and a single Dual: such an array cannot hold "
            f"derivatives; make the array a DualArray, or loop over its elements"
        )

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        rule = _ARRAY_FUNCTIONS.get(function)
        if rule is None:
            raise MissingRuleError(f"np.{function.__name__} has no rule for a Dual number; a DualArray may have one")
        try:
            return rule(*args, **kwargs)
        except TypeError:
            try:
                inspect.signature(rule).bind(*args, **kwargs)
            except TypeError as error:
                raise MissingRuleError(
                    f"np.{function.__name__} has no rule for a Dual number with these arguments ({error}); a DualArray "
                    "may have one"
                ) from None
            raise


@functools.cache
def _typing() -> Any:
    return importlib.import_module("dualsvd.kernels.boxing").type_of


def _beside_numpy(ufunc: Any) -> Callable[..., Any] | None:
    """What serves a ufunc of SciPy's, or the one behind np.clip."""
    name = ufunc.__name__
    return _UFUNCS.get(name) if name == "clip" or is_of_scipy(ufunc) else None


def _called(ufunc: Any) -> str:
    name = ufunc.__name__
    return f"np.{name}" if getattr(np, name, None) is ufunc else str(ufunc)


def _show(part: Any) -> str:
    return repr(part.item() if isinstance(part, np.generic) else part)


def _boxed(x: Any) -> np.ndarray:
    box = np.empty((), object)
    box[()] = x
    return box


def _refuse(x: Dual, target: str) -> NoReturn:
    raise MissingRuleError(
        f"{x!r} cannot become {target} without losing its derivative. For a function of the module math take NumPy's "
        "(np.sin for math.sin), or compile the code with numba.njit, where both work; to fill an array make it by "
        "np.zeros_like(x), which holds derivatives, not by np.zeros; to drop the derivative on purpose take x.value"
    )


def depth(x: Any, tag: int) -> int:
    """How many levels with this tag are nested in x."""
    return 1 + max(depth(p, tag) for p in (x.value, *x.partials)) if isinstance(x, Dual) and x.tag == tag else 0


def _outer(a: Dual, b: Any) -> int | None:
    """1 if the level of a lies outside that of b (b is a constant for it), -1 the other way round, 0 for one level."""
    if not isinstance(b, Dual):
        return 1 if isinstance(b, _NUMBERS) else None
    if a.tag != b.tag:
        return 1 if a.tag > b.tag else -1
    if not isinstance(a.value, Dual) and not isinstance(b.value, Dual):
        return 0
    difference = depth(a, a.tag) - depth(b, b.tag)
    return (difference > 0) - (difference < 0)


def _pairs(a: Dual, b: Dual) -> Iterable[tuple[Any, Any]]:
    if len(a.partials) != len(b.partials):
        raise ShapeError(
            f"two Duals of one level must have equally many partials, got {len(a.partials)} and {len(b.partials)}; "
            "seed both with the same number of directions"
        )
    return zip(a.partials, b.partials, strict=True)


def _zero(x: Any) -> Any:
    return Dual(_zero(x.value), map(_zero, x.partials), x.tag) if isinstance(x, Dual) else x * 0


def primal(x: Any) -> Any:
    """The plain number inside all levels of derivatives."""
    while isinstance(x, Dual):
        x = x.value
    return x


def _linear(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Extend a real-linear function of numbers to duals: it acts on every part."""

    @functools.wraps(function)
    def extended(x: Any) -> Any:
        if isinstance(x, Dual):
            return Dual(extended(x.value), map(extended, x.partials), x.tag)
        return function(x)

    return extended


@_linear
def _of_numpy(x: Any) -> Any:
    return np.asarray(x)[()]


@_linear
def _of_python(x: Any) -> Any:
    return x.item() if isinstance(x, np.generic) else x


@_linear
def real(x: Any) -> Any:
    """The real part; a real number is its own."""
    return x.real


@_linear
def imag(x: Any) -> Any:
    """The imaginary part, zero of a real number."""
    return x.imag


@_linear
def conj(x: Any) -> Any:
    """The complex conjugate; a real number is its own."""
    return x.conjugate()


def where(mask: Any, a: Any, b: Any) -> Any:
    """a where the mask is true, b elsewhere, with their partials."""
    if not isinstance(a, Dual) and not isinstance(b, Dual):
        return mask.select(a, b) if isinstance(mask, Staged) else a if primal(mask) else b
    outer = _outer(a, b) if isinstance(a, Dual) else -1
    if outer == 0:
        return Dual(where(mask, a.value, b.value), [where(mask, p, q) for p, q in _pairs(a, b)], a.tag)
    if outer == 1:
        return Dual(where(mask, a.value, b), [where(mask, p, _zero(p)) for p in a.partials], a.tag)
    return Dual(where(mask, a, b.value), [where(mask, _zero(p), p) for p in b.partials], b.tag)


# ---- the table


def is_complex(x: Any) -> bool:
    """Whether the number inside all levels has an imaginary part of its own."""
    x = primal(x)
    return x.is_complex if isinstance(x, Staged) else isinstance(x, (complex, np.complexfloating))


def _of_numbers(row: Row, slope: bool = False) -> Callable[..., Any]:
    """The function of a row at plain numbers: `math` for Python's, NumPy for others and where `math` has no answer.

    As part of a `slope` it is infinite where users' compiled code may raise an error.
    """
    in_math = getattr(math, row.math, None) if row.math else None
    in_numpy = array_function(row.name)

    def function(*arguments: Any) -> Any:
        staged = next((x for x in arguments if isinstance(x, Staged)), None)
        if staged is not None:
            return staged.function(row.name, arguments, slope)
        if in_math and all(type(x) in (float, int) for x in arguments):
            try:
                return float(in_math(*arguments))
            except (ValueError, OverflowError):  # a pole or outside the domain: NumPy's inf or nan, and warning
                pass
        y = in_numpy(*arguments)
        return y if any(isinstance(x, np.generic) for x in arguments) else y.item()

    return function


def _of_duals(row: Row, slope: bool = False) -> Callable[..., Any]:
    """The function of a row at numbers and duals: the chain rule over the arguments that carry the outermost level."""
    of_numbers = _of_numbers(row, slope)

    def function(*arguments: Any) -> Any:
        duals = [x for x in arguments if isinstance(x, Dual)]
        if not duals:
            return of_numbers(*arguments)
        top = duals[-1] if _outer(duals[0], duals[-1]) == -1 else duals[0]
        carries = [isinstance(x, Dual) and _outer(top, x) == 0 for x in arguments]
        inner = [x.value if c else x for x, c in zip(arguments, carries, strict=True)]
        if not row.complex and any(map(is_complex, inner)):
            got = ", ".join(map(repr, arguments))
            raise DTypeError(f"{row.name} has no complex derivative; got {got}: take .real and .imag apart")
        y = function(*inner)
        slopes = _SLOPES[row.name]
        try:
            factors = [slope(*inner, y) if c else None for slope, c in zip(slopes, carries, strict=True)]
        except ZeroDivisionError:  # of Python's numbers, where NumPy's have an infinite slope
            numbers = [*map(_of_numpy, inner), _of_numpy(y)]
            factors = [_of_python(slope(*numbers)) if c else None for slope, c in zip(slopes, carries, strict=True)]
        terms = [[f * p for p in x.partials] for f, x, c in zip(factors, arguments, carries, strict=True) if c]
        partials = terms[0] if len(terms) == 1 else [p + q for p, q in zip(*terms, strict=True)]
        return Dual(y, partials, top.tag)

    function.__name__ = function.__qualname__ = row.name
    function.__doc__ = f"np.{row.name} at numbers and duals."
    return function


#: every function of the table at single numbers, Python's, NumPy's, staged or dual, by NumPy's name
functions: dict[str, Callable[..., Any]] = {name: _of_duals(row) for name, row in TABLE.items()}
functions |= {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "negative": operator.neg,
    "positive": operator.pos,
}
_absolute_of_reals = functions["absolute"]


def absolute(x: Any) -> Any:
    """|x|, real also for complex x; at zero its derivative is 0, the least of the subdifferential."""
    # d|z| = Re(conj(z) dz) / |z|
    if not isinstance(x, Dual) or not is_complex(x):
        return _absolute_of_reals(x)
    y = absolute(x.value)
    direction = conj(x.value) / where(primal(y) == 0, 1, y)
    return Dual(y, [real(direction * p) for p in x.partials], x.tag)


functions["absolute"] = absolute
_IN_SLOPES = functions | {"where": where, "power": _of_duals(TABLE["power"], slope=True)}
_SLOPES = {name: compile_row(row, _IN_SLOPES) for name, row in TABLE.items()}

sqrt = functions["sqrt"]


# ---- NumPy's names


def clip(x: Any, a_min: Any, a_max: Any) -> Any:
    """np.clip: the nearest number between the bounds, of which one may be None."""
    x = x if a_min is None else functions["maximum"](x, a_min)
    return x if a_max is None else functions["minimum"](x, a_max)


def _clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    return clip(a, a_min if min is None else min, a_max if max is None else max)


def _angle(z: Any, deg: bool = False) -> Any:
    phase = functions["arctan2"](imag(z), real(z))
    return functions["degrees"](phase) if deg else phase


def _of_primals(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: function(*map(primal, arguments))


def _reflected(name: str) -> Callable[..., Any]:
    """An operator that never asks its left operand: a NumPy scalar would call its ufunc, and that comes here."""
    forward, backward = getattr(Dual, f"__{name}__"), getattr(Dual, f"__r{name}__")
    return lambda a, b: forward(a, b) if isinstance(a, Dual) else backward(b, a)


_DECISIONS = (
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "isfinite",
    "isnan",
    "isinf",
    "signbit",
)
_LOGIC = ("logical_and", "logical_or", "logical_xor", "logical_not")
_UFUNCS: dict[str, Callable[..., Any]] = {
    **{name: functions[row.name] for name, row in BY_NAME.items()},
    "add": _reflected("add"),
    "subtract": _reflected("sub"),
    "multiply": _reflected("mul"),
    "divide": _reflected("truediv"),
    **{name: _of_primals(getattr(np, name)) for name in _DECISIONS + _LOGIC},
    "conjugate": conj,
    "clip": clip,
}
_OF_UFUNC: dict[Any, Callable[..., Any]] = {
    **{f: _UFUNCS[f.__name__] for f in vars(np).values() if isinstance(f, np.ufunc) and f.__name__ in _UFUNCS},
    **{of_arrays.ufunc: functions[name] for name, of_arrays in EXTRA.items()},
}


_ARRAY_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.where: where,
    np.clip: _clip,
    np.sinc: functions["sinc"],
    np.real: real,
    np.imag: imag,
    np.ndim: lambda a: 0,
    np.shape: lambda a: (),
    np.zeros_like: _zero,
    np.angle: _angle,
}

# NumPy's ufuncs over arrays of objects, as the CUDA simulator makes them, call a method of that name on each element.
for _name, _row in BY_NAME.items():
    if _row.arity == 1 and not hasattr(Dual, _name):
        setattr(Dual, _name, lambda self, _function=functions[_row.name]: _function(self))
