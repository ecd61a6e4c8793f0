"""Arithmetic and NumPy's functions of compiled DualArrays, element by element, with broadcasting; questions
about the values."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba.core import types
from numba.core.imputils import force_error_model
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload_method
from numba.np.numpy_support import as_dtype
from numba.parfors import parfor

from ... import dual as rules
from ...elementary import BY_NAME
from ...errors import MissingRuleError
from ..number_types import DualType, ScalarType, is_complex_type, lane_type
from ..scalars import COMPARISONS, angle_of, is_none, lower, of_numbers, refusal, stage
from .model import DualArrayType, allocator, element_type, holds_no_derivatives, is_operand, ndim_of, overload_array
from .source import broadcast, definition, from_source, loops_over


def _elementwise(
    function: Callable[..., Any], rule: Callable[..., Any], operands: tuple[types.Type, ...], names: Sequence[str] = ()
) -> Any:
    """A loop over the broadcast operands: out[i] = function(x0[i], x1[i]). `names`: of the arguments, if not these."""
    arrays = any(isinstance(t, (DualArrayType, types.Array)) for t in operands)
    carries = any(isinstance(t, (DualArrayType, DualType)) for t in operands)
    if not (arrays and carries and all(map(is_operand, operands))):
        return None
    element = stage(rule, tuple(map(element_type, operands)), cpu_target.typing_context)
    names = names or [f"x{k}" for k in range(len(operands))]
    lengths, entries = broadcast(dict(zip(names, map(ndim_of, operands))))
    axes = range(max(map(ndim_of, operands)))
    shape, at = ("".join(f"{letter}{a}, " for a in axes) for letter in "ni")
    arguments = ", ".join(entries[name] for name in names)
    lines = [
        *lengths,
        f"out = allocate(({shape}))",
        *loops_over(axes, f"out[{at}] = function({arguments})"),
        "return out",
    ]
    return from_source(definition(", ".join(names), lines), function=function, allocate=allocator(element, "empty"))


def _register_elementwise(
    function: Callable[..., Any], rule: Callable[..., Any], arity: int, of_elements: Callable[..., Any] | None = None
) -> None:
    of_elements = of_elements or function
    if arity == 1:

        @overload_array(function)
        def unary(x0):
            return _elementwise(of_elements, rule, (x0,))

    else:

        @overload_array(function)
        def binary(x0, x1):
            return _elementwise(of_elements, rule, (x0, x1))


def _register_comparison(function: Callable[..., Any]) -> None:
    @overload_array(function)
    def compare(x0, x1):
        a, b = (isinstance(x, DualArrayType) for x in (x0, x1))
        if not a and not b:
            return None
        left = "x0.value" if a else "primal(x0)" if isinstance(x0, ScalarType) else "x0"
        right = "x1.value" if b else "primal(x1)" if isinstance(x1, ScalarType) else "x1"
        source = f"def f(x0, x1): return function({left}, {right})"
        return from_source(source, function=function, primal=rules.primal)


def _register_in_place(name: str) -> None:
    function = getattr(operator, name)

    @overload_array(getattr(operator, "i" + name))
    def in_place(A, x):
        if isinstance(A, types.Array) and isinstance(x, (DualArrayType, DualType)):
            raise holds_no_derivatives(A, x)
        if not isinstance(A, DualArrayType):
            return None

        def update(A, x):
            A[...] = function(A, x)
            return A

        return update


def _register_of_values(function: Callable[..., Any]) -> None:
    """Questions about the values alone."""
    overload_array(function)(_of_values(function))


def _of_values(function: Callable[..., Any]) -> Callable[..., Any]:
    def of_values(a):
        if isinstance(a, DualArrayType):
            return lambda a: function(a.value)
        return None

    return of_values


def _position_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where the value is largest or smallest, along an axis or of all."""

    def position(a, axis=None):
        if not isinstance(a, DualArrayType):
            return None
        if is_none(axis):
            return lambda a, axis=None: function(a.value)
        return lambda a, axis=None: function(a.value, axis)

    return position


def _keep_in_parallel(name: str) -> None:
    """Under parallel=True Numba puts a loop of its own in the function's place, whose first value is a plain number."""
    own: Any = parfor.swap_functions_map.get((name, "numpy"))
    if own is not None:
        parfor.swap_functions_map[name, "numpy"] = lambda result, a, *rest: (
            None if isinstance(a, DualArrayType) else own(result, a, *rest)
        )


def _answer_of_type(function: Callable[..., Any], answer: Callable[[DualArrayType], bool]) -> None:
    """What Numba asks of any type, and answers wrongly of those that it does not know."""

    @overload_array(function)
    def ask_the_type(x):
        if not isinstance(x, DualArrayType):
            return None
        known = answer(x)
        return lambda x: known


def _refuse_arrays(function: Callable[..., Any], arguments: str, advice: str) -> None:
    """A function without a rule in whose place Numba would speak of its own code."""

    def refuse(*xs: Any) -> None:
        if any(isinstance(x, DualArrayType) for x in xs):
            raise refusal(MissingRuleError, f"compiled, np.{function.__name__} of a DualArray has no rule: {advice}")

    names = ", ".join(argument.split("=")[0] for argument in arguments.split(", "))
    overload_array(function)(from_source(f"def f({arguments}): return refuse({names})", refuse=refuse))


def _refuse_of_values(name: str) -> None:
    """A ufunc with a plain result: Numba would fuse it with other array code, where no DualArray can stand."""
    arguments = "x, y" if name in COMPARISONS else "x"
    advice = "the operator" if name in COMPARISONS else f"np.{name}(x.value)"
    _refuse_arrays(getattr(np, name), arguments, f"write {advice} for np.{name}({arguments})")


def _in_arrays(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A compiled function of two numbers that runs a rule as arrays do: they divide by zero in every error model."""

    @intrinsic
    def function(typing: Any, x0: Any, x1: Any) -> Any:
        kinds = (types.unliteral(x0), types.unliteral(x1))

        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            with force_error_model(context):
                return lower(rule)(context, builder, sig, values)

        return stage(rule, kinds, typing)(*kinds), generate

    return function


def _power(x: Any, n: Any) -> Any:
    """np.power, which takes integers in the exponent for reals."""
    exponent, base = rules.primal(n), rules.primal(x)
    if exponent is n and isinstance(n.type, types.Integer) and isinstance(base.type, types.Float):
        n = base.like(n)
    return rules.functions["power"](x, n)


#: functions of elements where those of numbers would follow the error model
_IN_ARRAYS: dict[Any, Callable[..., Any]] = {
    operator.truediv: np.divide,
    operator.mod: _in_arrays(of_numbers(operator.mod)),
    operator.floordiv: _in_arrays(of_numbers(operator.floordiv)),
    np.power: _in_arrays(of_numbers(_power)),
}
_IN_ARRAYS[np.remainder], _IN_ARRAYS[np.floor_divide] = (_IN_ARRAYS[f] for f in (operator.mod, operator.floordiv))

for _name in ("add", "sub", "mul", "truediv", "pow", "mod", "floordiv"):
    _function = getattr(operator, _name)
    _register_elementwise(_function, of_numbers(_function), 2, _IN_ARRAYS.get(_function))
    _register_in_place(_name)
for _name in ("neg", "pos"):
    _register_elementwise(getattr(operator, _name), getattr(operator, _name), 1)
_register_elementwise(abs, abs, 1)
for _function, _row in {getattr(np, _n): _r for _n, _r in BY_NAME.items() if hasattr(np, _n)}.items():
    _register_elementwise(_function, of_numbers(rules.functions[_row.name]), _row.arity, _IN_ARRAYS.get(_function))
for _function, _rule in ((np.real, rules.real), (np.imag, rules.imag), (np.conjugate, rules.conj)):
    _register_elementwise(_function, _rule, 1)


@overload_array(np.where)
def _where(x0, x1, x2):
    if not (is_operand(x0) and any(isinstance(t, (DualArrayType, DualType)) for t in (x0, x1, x2))):
        return None
    if isinstance(element_type(x0), types.Boolean):
        return _elementwise(np.where, rules.where, (x0, x1, x2))
    return lambda x0, x1, x2: np.where(x0 != 0, x1, x2)


@overload_array(np.clip)
def _clip(a, a_min, a_max):
    if isinstance(a, DualArrayType) and is_none(a_min) != is_none(a_max):
        infinity = as_dtype(lane_type(a.element)).type(np.inf)
        if is_none(a_min):
            return lambda a, a_min, a_max: np.clip(a, -infinity, a_max)
        return lambda a, a_min, a_max: np.clip(a, a_min, infinity)
    return _elementwise(np.clip, rules.clip, (a, a_min, a_max), ("a", "a_min", "a_max"))


@overload_array(np.angle)
def _angle(z, deg=False):
    return angle_of(z.element) if isinstance(z, DualArrayType) else None


for _function in COMPARISONS.values():
    _register_comparison(_function)
for _function in (np.any, np.all, np.isposinf, np.isneginf):
    _register_of_values(_function)
for _function in (np.argmax, np.argmin):
    _keep_in_parallel(_function.__name__)
    overload_array(_function)(_position_of(_function))
    overload_method(DualArrayType, _function.__name__)(_position_of(_function))
_answer_of_type(np.iscomplexobj, lambda t: is_complex_type(t.element))
_answer_of_type(np.isrealobj, lambda t: not is_complex_type(t.element))
_answer_of_type(np.isscalar, lambda t: False)
for _function in (np.convolve, np.correlate):
    _refuse_arrays(_function, "a, v, mode=None", "write a loop, or call it outside of the compiled function")
_refuse_arrays(np.searchsorted, "a, v, side=None", "write np.searchsorted(a.value, v.value), which has no derivative")
_refuse_arrays(np.nditer, "op", "loop over x.ravel()")
for _name in ("isnan", "isinf", "isfinite", *COMPARISONS):
    _refuse_of_values(_name)
