"""Reading and writing of compiled DualArrays: elements, parts, index arrays, and what iterates over them."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.core.imputils import RefType, impl_ret_new_ref, iternext_impl
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import lower_builtin
from numba.np import arrayobj

from ... import dual as rules
from ...errors import DTypeError, MissingRuleError, ShapeError
from ..number_types import join
from ..scalars import refusal
from ..staging import Emitter
from .model import (
    DualArrayIterator,
    DualArrayType,
    as_element_of,
    check_holds,
    element_type,
    holds_no_derivatives,
    is_operand,
    item_of,
    ndim_of,
    overload_array,
    pair_of,
)
from .source import definition, from_source, loops_over


def _subscripts(index: types.Type, name: str) -> str:
    """Source of the subscripts of an index; that without any is the whole array."""
    if not isinstance(index, types.BaseTuple):
        return name
    return ", ".join(f"{name}[{k}]" for k in range(len(index))) or "..."


def _kinds(index: Any) -> tuple[types.Type, ...]:
    return tuple(index.types) if isinstance(index, (types.Tuple, types.UniTuple)) else (index,)


def _is_element_index(array: DualArrayType, index: types.Type) -> bool:
    kinds = _kinds(index)
    return len(kinds) == array.ndim and all(isinstance(k, types.Integer) for k in kinds)


# Elements are read and written without a function of their own around it: loops over arrays then compile to what they
# are for plain arrays. The index is checked once, against the value.


@infer_global(operator.getitem)
class _ElementOf(AbstractTemplate):
    key = operator.getitem

    def generic(self, args: tuple[types.Type, ...], kws: Any) -> Any:
        A, i = args
        return A.element(A, i) if isinstance(A, DualArrayType) and _is_element_index(A, i) else None


@infer_global(operator.setitem)
class _SetElementOf(AbstractTemplate):
    key = operator.setitem

    def generic(self, args: tuple[types.Type, ...], kws: Any) -> Any:
        A, i, x = args[0], args[1], types.unliteral(args[2])
        if not (isinstance(A, DualArrayType) and _takes_elements(A, i, x)):
            return None
        check_holds(A.element, x)
        return types.none(A, i, x)


def _takes_elements(A: DualArrayType, i: types.Type, x: types.Type) -> bool:
    """Whether A[i] = x writes an element, for which all parts of A have room."""
    return _is_element_index(A, i) and ndim_of(x) == 0 and _is_uniform(A)


def _is_uniform(A: Any) -> bool:
    if not all(element_type(a) == A.element.part for a in (A.value, A.partials)):
        return False
    return all(_is_uniform(a) if isinstance(a, DualArrayType) else a.mutable for a in (A.value, A.partials))


def _is_writable(A: Any) -> bool:
    return all(_is_writable(a) if isinstance(a, DualArrayType) else a.mutable for a in (A.value, A.partials))


@lower_builtin(operator.getitem, DualArrayType, types.Any)
def _lower_getitem(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    A, emitter = sig.args[0], Emitter(context.typing_context, context, builder)
    return emitter.unwrap(sig.return_type, _read(emitter, A, values[0], _position(emitter, sig, values)))


@lower_builtin(operator.setitem, DualArrayType, types.Any, types.Any)
def _lower_setitem(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    A, emitter = sig.args[0], Emitter(context.typing_context, context, builder)
    x = emitter.convert(emitter.wrap(sig.args[2], values[2]), A.element)
    _write(emitter, A, values[0], _position(emitter, sig, values), x)
    return context.get_dummy_value()


def _position(emitter: Emitter, sig: Any, values: Any) -> list[Any]:
    """The indices of an element: in bounds if that is asked for, and none negative."""
    context, builder, value, t = emitter.context, emitter.builder, values[0], sig.args[0]
    while isinstance(t, DualArrayType):
        value, t = builder.extract_value(value, 0), t.value
    shape = cgutils.unpack_tuple(builder, context.make_array(t)(context, builder, value).shape, t.ndim)
    kinds = tuple(map(types.unliteral, _kinds(sig.args[1])))
    indices = cgutils.unpack_tuple(builder, values[1]) if isinstance(sig.args[1], types.BaseTuple) else [values[1]]
    position = []
    for axis, (kind, index, length) in enumerate(zip(kinds, indices, shape)):
        place = arrayobj.fix_integer_index(context, builder, kind, index, length)
        cgutils.do_boundscheck(context, builder, place, length, axis)
        position.append(place)
    return position


def _pointer(emitter: Emitter, t: types.Array, value: Any, position: list[Any]) -> Any:
    context, builder = emitter.context, emitter.builder
    return cgutils.get_item_pointer(context, builder, t, context.make_array(t)(context, builder, value), position)


def _members(emitter: Emitter, t: DualArrayType, value: Any, position: list[Any]) -> list[tuple[Any, ...]]:
    """(type, value, position) of the value and of each partial of an element."""
    first, rest = (emitter.builder.extract_value(value, k) for k in range(2))
    directions = [cgutils.intp_t(k) for k in range(t.count)]
    return [(t.value, first, position), *((t.partials, rest, [k, *position]) for k in directions)]


def _read(emitter: Emitter, t: Any, value: Any, position: list[Any]) -> Any:
    if isinstance(t, DualArrayType):
        first, *rest = (_read(emitter, *member) for member in _members(emitter, t, value, position))
        return rules.Dual(first, rest, t.level)
    pointer = _pointer(emitter, t, value, position)
    return emitter.wrap(t.dtype, arrayobj.load_item(emitter.context, emitter.builder, t, pointer))


def _write(emitter: Emitter, t: Any, value: Any, position: list[Any], x: Any) -> None:
    if isinstance(t, DualArrayType):
        for part, (kind, array, place) in zip((x.value, *x.partials), _members(emitter, t, value, position)):
            _write(emitter, kind, array, place, part)
    else:
        pointer = _pointer(emitter, t, value, position)
        arrayobj.store_item(emitter.context, emitter.builder, t, emitter.unwrap(t.dtype, x), pointer)


@overload_array(operator.getitem)
def _getitem(A, i):
    if not isinstance(A, DualArrayType):
        return None
    if _is_element_index(A, i):
        return None  # see _ElementOf
    _refuse_masks_of_axes(i)
    if _around_ellipsis(A, i):
        return from_source(f"def f(A, i): return A[{_around_ellipsis(A, i)}]")
    at = _subscripts(i, "i")
    pair = pair_of(A.count, A.level)
    if not _stand_apart(i):
        return from_source(f"def f(A, i): return pair(A.value[{at},], A.partials[:, {at}])", pair=pair)
    if isinstance(A.partials, DualArrayType):
        raise refusal(MissingRuleError, "index arrays with slices between them have no rule in nested derivatives")
    lines = [f"value = A.value[{at},]", f"partials = np.empty(({A.count},) + value.shape, A.partials.dtype)"]
    lines.append(f"for k in range({A.count}): partials[k] = A.partials[k][{at}]")
    return from_source(definition("A, i", [*lines, "return pair(value, partials)"]), pair=pair, np=np)


def _around_ellipsis(A: DualArrayType, i: types.Type) -> str:
    """Source of the subscripts of an element if the index is one with an ellipsis for no axes, else nothing."""
    kinds = _kinds(i)
    numbers = [k for k, kind in enumerate(kinds) if isinstance(kind, types.Integer)]
    others = [kind for kind in kinds if not isinstance(kind, types.Integer)]
    if len(numbers) != A.ndim or len(others) != 1 or not isinstance(others[0], types.EllipsisType):
        return ""
    return ", ".join(f"i[{k}]" for k in numbers)


def _stand_apart(i: types.Type) -> bool:
    """Whether slices stand between index arrays (and numbers): NumPy then puts what these select in front of all axes,
    the directions too."""
    kinds = [types.unliteral(kind) for kind in _kinds(i)]
    if not any(isinstance(kind, types.Array) for kind in kinds):
        return False
    places = [k for k, kind in enumerate(kinds) if isinstance(kind, (types.Integer, types.Array))]
    return places[-1] - places[0] >= len(places)


def _refuse_masks_of_axes(i: types.Type) -> None:
    if any(isinstance(k, types.Array) and isinstance(k.dtype, types.Boolean) and k.ndim > 1 for k in _kinds(i)):
        raise refusal(
            MissingRuleError,
            "Numba has no index arrays of truth values with several axes: ravel both arrays, x.ravel()[mask.ravel()], "
            "or write a loop",
        )


@overload_array(operator.setitem)
def _setitem(A, i, x):
    if isinstance(A, types.Array) and isinstance(x, DualArrayType):
        raise holds_no_derivatives(A, x)
    if not isinstance(A, DualArrayType) or not is_operand(x) or _takes_elements(A, i, x):
        return None
    if not _is_writable(A):
        raise refusal(DTypeError, f"{A} is read-only, and cannot be written to: pass or make a copy")
    _refuse_masks_of_axes(i)
    at = _subscripts(i, "i")
    if _around_ellipsis(A, i):
        lines = [f"A[{_around_ellipsis(A, i)}] = x"]
    elif any(isinstance(k, types.Array) for k in _kinds(i)):
        lines = _set_selected(A, at, x)
    elif _is_element_index(A, i):
        lines = ["d = as_element(x)", f"A.value[{at}] = d.value", *_each(A, f"A.partials[k, {at}] = d.partials[k]")]
    else:
        whole = isinstance(i, types.EllipsisType) or _subscripts(i, "i") == "..."
        lines = _set_view("A" if whole else "A[i]", A.ndim if whole else item_of(A, *_kinds(i)).ndim, ndim_of(x))
    return from_source(definition("A, i, x", lines), as_element=as_element_of(A.element))


def _set_view(view: str, n: int, source: int) -> list[str]:
    """Source that writes a number, or an array of `source` axes, to every entry of a view of n axes."""
    if source > n:
        raise refusal(ShapeError, f"an array of {source} axes cannot be written to a part of {n}")
    lines, subscripts = [f"view = {view}", *(f"n{a} = view.shape[{a}]" for a in range(n))], []
    lines.append("source = x.copy()" if source else "source = as_element(x)")  # it may overlap with the view
    for axis, a in enumerate(range(n - source, n)):
        length = f"source.shape[{axis}]"
        lines.append(
            f"if {length} != n{a} and {length} != 1: raise ValueError('cannot write an array to a part of other shape')"
        )
        lines.append(f"step{a} = 0 if {length} == 1 else 1")
        subscripts.append(f"step{a} * i{a}")
    entry = f"source[{', '.join(subscripts)}]" if source else "source"
    return [*lines, *loops_over(range(n), f"view[{', '.join(f'i{a}' for a in range(n))}] = {entry}")]


def _set_selected(A: DualArrayType, at: str, x: types.Type) -> list[str]:
    """Source that writes where an array of integers or truth values says."""
    if isinstance(x, DualArrayType) and x.level == A.level:
        join(A.element, x.element)  # says what is wrong where the numbers of partials differ
        return [f"A.value[{at}] = x.value", *_each(A, f"A.partials[k][{at}] = x.partials[k]")]
    if isinstance(x, (DualArrayType, types.Array)):
        return [f"A.value[{at}] = x", *_each(A, f"A.partials[k][{at}] = 0")]
    return ["d = as_element(x)", f"A.value[{at}] = d.value", *_each(A, f"A.partials[k][{at}] = d.partials[k]")]


def _each(A: DualArrayType, statement: str) -> list[str]:
    """Source that does something for each direction k, if there are any: an empty tuple cannot be indexed."""
    return [f"for k in range({A.count}): {statement}"] if A.count else []


@lower_builtin("getiter", DualArrayType)
def _getiter(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    iterator = context.make_helper(builder, sig.return_type)
    iterator.index = cgutils.alloca_once_value(builder, context.get_constant(types.intp, 0))
    iterator.array = values[0]
    if context.enable_nrt:
        context.nrt.incref(builder, sig.args[0], values[0])
    return impl_ret_new_ref(context, builder, sig.return_type, iterator._getvalue())


@lower_builtin("iternext", DualArrayIterator)
@iternext_impl(RefType.NEW)
def _iternext(context: Any, builder: Any, sig: Any, values: Any, result: Any) -> None:
    t = sig.args[0]
    iterator = context.make_helper(builder, t, value=values[0])
    index = builder.load(iterator.index)
    length = context.compile_internal(builder, lambda A: len(A.value), types.intp(t.array), [iterator.array])
    valid = builder.icmp_signed("<", index, length)
    result.set_valid(valid)
    with builder.if_then(valid):
        get = t.yield_type(t.array, types.intp)
        result.yield_(context.compile_internal(builder, lambda A, i: A[i], get, [iterator.array, index]))
        builder.store(cgutils.increment_index(builder, index), iterator.index)
