"""`DualArray` in compiled code: a user's own `@njit` function takes it, reads and writes `Dual` elements, and may
return one.

The compiled array is a pair (value, partials) of Numba's arrays, or of compiled DualArrays where derivatives are
nested. An element is gathered from both when it is read and scattered when it is written; the arithmetic of
elements is that of `scalars`. Linear operations (views, sums, copies) act on both members. Everything else is a
loop over elements, generated as Python source.

The type carries the *depth* of the derivative's level, not its run-time id: code that is compiled once, or read
from the cache on disk, serves every later derivative, and two levels that meet in one function nest as they do in
Python.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.core import cgutils, types
from numba.core.imputils import RefType, force_error_model, impl_ret_borrowed, impl_ret_new_ref, iternext_impl
from numba.core.registry import cpu_target
from numba.core.typing.arraydecl import get_array_index_type
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.core.typing.typeof import Purpose
from numba.extending import (
    NativeValue,
    box,
    intrinsic,
    lower_builtin,
    lower_cast,
    make_attribute_wrapper,
    models,
    overload,
    overload_attribute,
    overload_method,
    register_jitable,
    register_model,
    typeof_impl,
    unbox,
)
from numba.np import arrayobj
from numba.np.numpy_support import as_dtype, from_dtype

from .. import dual as rules
from ..elementary import BY_NAME
from ..errors import DTypeError, MissingRuleError, ShapeError, TagError
from ..forward import VIEWED, DualArray
from ..rules.registry import Tracer, caller, depth_of, tag_at
from .scalars import levels_of, lower, of_numbers, refusal, stage
from .staging import DualType, Emitter, ScalarType, Versioned, is_complex_type, join, lane_type, real_type

#: Registered for the CPU alone, these are asked before Numba's own overloads, some of which take any type for a scalar.
overload_array = functools.partial(overload, target="cpu")


# ---- the type


class DualArrayType(Versioned, types.IterableType):
    """(value, partials): arrays of Numba's or DualArrays; `count` partials of the derivative nested `level` deep."""

    mutable = True  # x += y writes there

    def __init__(self, value: Any, partials: Any, count: int, level: int) -> None:
        self.value, self.partials, self.count, self.level = value, partials, count, level
        super().__init__(f"DualArray({value}, {partials}, {count}, level={level})")

    def unify(self, typingctx: Any, other: types.Type) -> types.Type | None:
        """What holds either of two arrays of other layouts, or of which one is read-only, as with Numba's own."""
        if not self._is_like(other):
            return None
        value, partials = (typingctx.unify_pairs(a, b) for a, b in self._members_with(other))
        return None if value is None or partials is None else DualArrayType(value, partials, self.count, self.level)

    def can_convert_to(self, typingctx: Any, other: types.Type) -> Any:
        if not self._is_like(other):
            return None
        found = [typingctx.can_convert(a, b) for a, b in self._members_with(other)]
        return None if None in found else max(found)

    def _is_like(self, other: Any) -> bool:
        return isinstance(other, DualArrayType) and (self.count, self.level) == (other.count, other.level)

    def _members_with(self, other: Any) -> list[tuple[Any, Any]]:
        return [(self.value, other.value), (self.partials, other.partials)]

    @property
    def ndim(self) -> int:
        return self.value.ndim

    @property
    def element(self) -> DualType:
        """The type of an element."""
        return DualType(join(element_type(self.value), element_type(self.partials)), self.count, self.level)

    @property
    def item(self) -> types.Type:
        """The type of A[i]: an element, or a row."""
        return _item(self, types.intp)

    @property
    def iterator_type(self) -> Any:
        return DualArrayIterator(self)


class DualArrayIterator(types.SimpleIteratorType):
    """Runs over the first axis."""

    def __init__(self, array: DualArrayType) -> None:
        self.array = array
        super().__init__(f"iter({array})", array.item)


def element_type(t: types.Type) -> types.Type:
    """The type of an element of an array, or of a number itself."""
    if isinstance(t, DualArrayType):
        return t.element
    return t.dtype if isinstance(t, types.Array) else types.unliteral(t)


def _item(t: Any, *index: types.Type) -> Any:
    if isinstance(t, DualArrayType):
        if len(index) == t.ndim and all(isinstance(i, types.Integer) for i in index):
            return t.element
        return DualArrayType(_item(t.value, *index), _item(t.partials, types.slice2_type, *index), t.count, t.level)
    return get_array_index_type(t, types.Tuple(index)).result


@register_model(DualArrayType)
class _DualArrayModel(models.StructModel):
    def __init__(self, manager: Any, t: DualArrayType) -> None:
        super().__init__(manager, t, [("value", t.value), ("partials", t.partials)])


@register_model(DualArrayIterator)
class _IteratorModel(models.StructModel):
    def __init__(self, manager: Any, t: DualArrayIterator) -> None:
        super().__init__(manager, t, [("index", types.EphemeralPointer(types.intp)), ("array", t.array)])


make_attribute_wrapper(DualArrayType, "value", "value")
make_attribute_wrapper(DualArrayType, "partials", "partials")


@lower_cast(DualArrayType, DualArrayType)
def _cast(context: Any, builder: Any, source: DualArrayType, target: DualArrayType, value: Any) -> Any:
    """See `DualArrayType.unify`: the memory is the same."""
    result = cgutils.create_struct_proxy(target)(context, builder)
    for k, name in enumerate(("value", "partials")):
        member = builder.extract_value(value, k)
        setattr(result, name, context.cast(builder, member, getattr(source, name), getattr(target, name)))
    return result._getvalue()


# ---- across the border


def array_type(x: DualArray) -> types.Type:
    """Numba's type of a DualArray; one without axes is a Dual.

    Compiled code may write there, or return a view: the memory must be the array's own.
    """
    level = depth_of(x.tag)  # also refuses a number of a derivative that is over
    known = getattr(x, "numba_type", None)
    if known is not None:
        return known
    if not x.value.shape:
        return _number_type(x, level)
    x.views(own=True)
    value, partials = (array_type(p) if isinstance(p, DualArray) else numba.typeof(p) for p in (x.value, x.partials))
    x.numba_type = DualArrayType(value, partials, x.directions, level)
    return x.numba_type


_NUMBER_TYPES: dict[Any, DualType] = {}


def _number_type(x: DualArray, level: int) -> DualType:
    """The type of an array without axes. It is not remembered by the array, which may be written to."""
    value, partials, count = x.value, x.partials, x.partials.shape[0]
    kinds = tuple(array_type(p) if isinstance(p, DualArray) else p.dtype for p in (value, partials))
    key = (level, count, *kinds)
    known = _NUMBER_TYPES.get(key)
    if known is None:
        parts = (element_type(kind if isinstance(kind, types.Type) else from_dtype(kind)) for kind in kinds)
        part = functools.reduce(join, parts)
        part = types.float64 if isinstance(part, types.Integer) else part
        known = _NUMBER_TYPES[key] = DualType(part, count, level)
    return known


@typeof_impl.register(Tracer)
def _typeof_tracer(x: Tracer, context: Any) -> types.Type:
    if context.purpose is Purpose.constant:
        raise refusal(
            DTypeError,
            f"the compiled function called at {caller()} holds {type(x).__name__} as a constant, and would keep its "
            "derivatives for good: pass it as an argument",
        )
    return type_of(x)


def type_of(x: Tracer) -> types.Type:
    """Numba's type of an array of this library; those of reverse mode have none."""
    if isinstance(x, DualArray):
        return array_type(x)
    raise MissingRuleError(
        f"a compiled function was called with {type(x).__name__}, an array of reverse mode: the tape cannot look into "
        "compiled code. Use mode='forward', which can, or give the function a pullback with dualsvd.custom_rule"
    )


@unbox(DualArrayType)
def _unbox(t: DualArrayType, x: Any, c: Any) -> NativeValue:
    aggregate = cgutils.create_struct_proxy(t)(c.context, c.builder)
    error = cgutils.false_bit
    for name in ("value", "partials"):
        member = c.pyapi.object_getattr_string(x, name)
        native = c.unbox(getattr(t, name), member)
        c.pyapi.decref(member)
        setattr(aggregate, name, native.value)
        error = c.builder.or_(error, native.is_error)
    return NativeValue(aggregate._getvalue(), is_error=error)


def _rebuild(value: Any, partials: Any, level: int) -> DualArray:
    return DualArray.wrap(value, partials, tag_at(level), VIEWED)


@box(DualArrayType)
def _box(t: DualArrayType, value: Any, c: Any) -> Any:
    aggregate = cgutils.create_struct_proxy(t)(c.context, c.builder, value=value)
    members = [c.box(t.value, aggregate.value), c.box(t.partials, aggregate.partials)]
    members.append(c.pyapi.long_from_longlong(c.context.get_constant(types.int64, t.level)))
    rebuild = c.env_manager.read_const(c.env_manager.add_const(_rebuild))
    result = c.pyapi.call_function_objargs(rebuild, members)
    for owned in members:
        c.pyapi.decref(owned)
    return result


# ---- making numbers and arrays of a given level


@functools.cache
def _number(element: DualType) -> Callable[..., Any]:
    """(value, partials) -> the element with these parts."""

    @intrinsic
    def number(typing: Any, value: Any, partials: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            emitter = Emitter(context.typing_context, context, builder)
            parts = [values[0], *cgutils.unpack_tuple(builder, values[1])]
            kinds = [sig.args[0], *sig.args[1].types]
            first, *rest = (emitter.convert(emitter.wrap(t, v), element.part) for t, v in zip(kinds, parts))
            return emitter.unwrap(element, rules.Dual(first, rest, element.level))

        return element(value, partials), generate

    return number


@functools.cache
def _as_element(element: DualType) -> Callable[..., Any]:
    """A number -> the element that it is; a constant of the level has zero partials."""

    @intrinsic
    def as_element(typing: Any, x: Any) -> Any:
        x = types.unliteral(x)
        _check_holds(element, x)

        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            emitter = Emitter(context.typing_context, context, builder)
            return emitter.unwrap(element, emitter.wrap(x, values[0]))

        return element(x), generate

    return as_element


def _check_holds(element: DualType, x: types.Type) -> None:
    try:
        whole = join(element, x)
    except ShapeError as error:
        raise refusal(ShapeError, str(error)) from None
    same_levels = isinstance(whole, DualType) and levels_of(whole) == levels_of(element)
    if not same_levels or is_complex_type(whole) != is_complex_type(element):
        raise refusal(
            TagError if not same_levels else DTypeError,
            f"an array of {element} cannot hold {x}; make it by np.zeros_like of an array that holds such numbers",
        )


@functools.cache
def _pair(count: int, level: int) -> Callable[..., Any]:
    """(value, partials) -> DualArray."""

    @intrinsic
    def pair(typing: Any, value: Any, partials: Any) -> Any:
        t = DualArrayType(value, partials, count, level)

        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            aggregate = cgutils.create_struct_proxy(t)(context, builder)
            aggregate.value, aggregate.partials = values
            return impl_ret_borrowed(context, builder, t, aggregate._getvalue())

        return t(value, partials), generate

    return pair


@functools.cache
def allocator(element: Any, make: str) -> Callable[..., Any]:
    """shape -> an array of such elements, made by NumPy's function of that name."""
    if isinstance(element, DualType):
        inner, pair, count = allocator(element.part, make), _pair(element.count, element.level), element.count

        @register_jitable
        def allocate(shape: Any) -> Any:
            return pair(inner(shape), inner((count, *shape)))

        return allocate
    dtype, function = as_dtype(element).type, getattr(np, make)

    @register_jitable
    def allocate_numbers(shape: Any) -> Any:
        return function(shape, dtype)

    return allocate_numbers


def from_source(source: str, **namespace: Any) -> Callable[..., Any]:
    """The function `f` of a piece of Python source."""
    exec(compile(source, "<dualsvd>", "exec"), namespace)
    return namespace["f"]


# ---- reading and writing


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
        _check_holds(A.element, x)
        return types.none(A, i, x)


def _takes_elements(A: DualArrayType, i: types.Type, x: types.Type) -> bool:
    """Whether A[i] = x writes an element, for which all parts of A have room."""
    return _is_element_index(A, i) and _ndim(x) == 0 and _is_uniform(A)


def _is_uniform(A: Any) -> bool:
    members = (A.value, A.partials)
    if not all(element_type(a) == A.element.part for a in members):
        return False
    return all(_is_uniform(a) if isinstance(a, DualArrayType) else a.mutable for a in members)


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
    pair = _pair(A.count, A.level)
    if not _stand_apart(i):
        return from_source(f"def f(A, i): return pair(A.value[{at},], A.partials[:, {at}])", pair=pair)
    if isinstance(A.partials, DualArrayType):
        raise refusal(MissingRuleError, "index arrays with slices between them have no rule in nested derivatives")
    lines = [f"value = A.value[{at},]", f"partials = np.empty(({A.count},) + value.shape, A.partials.dtype)"]
    lines.append(f"for k in range({A.count}): partials[k] = A.partials[k][{at}]")
    return from_source(_definition("A, i", [*lines, "return pair(value, partials)"]), pair=pair, np=np)


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
    if not isinstance(A, DualArrayType) or not _is_operand(x) or _takes_elements(A, i, x):
        return None
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
        lines = _set_view("A" if whole else "A[i]", A.ndim if whole else _item(A, *_kinds(i)).ndim, _ndim(x))
    return from_source(_definition("A, i, x", lines), as_element=_as_element(A.element))


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
    return [*lines, *_loops(range(n), f"view[{', '.join(f'i{a}' for a in range(n))}] = {entry}")]


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


# ---- shape


def _same_for_value(name: str) -> None:
    @overload_attribute(DualArrayType, name)
    def attribute(A):
        return from_source(f"def f(A): return A.value.{name}")


for _name in ("shape", "ndim", "size", "dtype"):
    _same_for_value(_name)


def _same_for_both(name: str) -> None:
    @overload_attribute(DualArrayType, name)
    def attribute(A):
        pair = _pair(A.count, A.level)
        return from_source(f"def f(A): return pair(A.value.{name}, A.partials.{name})", pair=pair)


for _name in ("real", "imag"):  # views, as Numba's
    _same_for_both(_name)


@overload_array(len)
def _len(A):
    if isinstance(A, DualArrayType):
        return lambda A: len(A.value)
    return None


@overload_array(np.shape)
def _shape(a):
    if isinstance(a, DualArrayType):
        return lambda a: a.shape
    return None


@functools.cache
def _permuted(order: tuple[int, ...]) -> Callable[..., Any]:
    """array -> the view whose axis k is axis order[k] of the array, which is known at compile time."""

    @intrinsic
    def permuted(typing: Any, a: Any) -> Any:
        layout = {"C": "F", "F": "C"}.get(a.layout, "A") if order == tuple(reversed(range(a.ndim))) else "A"
        t = a.copy(layout=layout)

        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            old, new = context.make_array(a)(context, builder, values[0]), context.make_array(t)(context, builder)
            shape, strides = (cgutils.unpack_tuple(builder, x, a.ndim) for x in (old.shape, old.strides))
            arrayobj.populate_array(
                new,
                data=old.data,
                shape=[shape[k] for k in order],
                strides=[strides[k] for k in order],
                itemsize=old.itemsize,
                meminfo=old.meminfo,
                parent=old.parent,
            )
            return impl_ret_borrowed(context, builder, t, new._getvalue())

        return t(a), generate

    return permuted


def _reorder(order: tuple[int, ...]) -> Callable[..., Any]:
    """The same for Numba's arrays and compiled DualArrays."""

    def reorder(a):
        pass

    @overload_array(reorder)
    def overloaded(a):
        if not isinstance(a, DualArrayType):
            permuted = _permuted(order)
            return lambda a: permuted(a)
        pair, value, partials = _pair(a.count, a.level), _reorder(order), _reorder((0, *(k + 1 for k in order)))
        return lambda a: pair(value(a.value), partials(a.partials))

    return reorder


@overload_attribute(DualArrayType, "T")
def _T(A):
    reverse = _reorder(tuple(reversed(range(A.ndim))))
    return lambda A: reverse(A)


@overload_array(np.transpose)
@overload_method(DualArrayType, "transpose")
def _transpose(a):
    if isinstance(a, DualArrayType):
        return lambda a: a.T
    return None


@overload_method(DualArrayType, "reshape")
def _reshape(A, *shape):
    kinds = shape[0].types if isinstance(shape[0], (types.StarArgTuple, types.StarArgUniTuple)) else shape
    lengths = [f"shape[{k}]" for k in range(len(kinds))]
    if len(kinds) == 1 and isinstance(kinds[0], types.BaseTuple):
        lengths = [f"shape[0][{k}]" for k in range(len(kinds[0]))]
    axes = "".join(f"{length}, " for length in lengths)
    source = f"def f(A, *shape): return pair(A.value.reshape(({axes})), A.partials.reshape(({A.count}, {axes})))"
    return from_source(source, pair=_pair(A.count, A.level))


@overload_array(np.reshape)
def _np_reshape(a, shape):
    if isinstance(a, DualArrayType):
        return lambda a, shape: a.reshape(shape)
    return None


@overload_array(np.ravel)
@overload_method(DualArrayType, "ravel")
def _ravel(a):
    """A view where NumPy gives one, which Numba tells by the type."""
    if not isinstance(a, DualArrayType):
        return None
    return (lambda a: a.reshape(a.size)) if _is_contiguous(a) else (lambda a: a.flatten())


@overload_method(DualArrayType, "flatten")
def _flatten(a):
    return lambda a: a.copy().reshape(a.size)


def _is_contiguous(a: Any) -> bool:
    return all(
        _is_contiguous(part) if isinstance(part, DualArrayType) else part.layout == "C"
        for part in (a.value, a.partials)
    )


@overload_array(np.copy)
@overload_method(DualArrayType, "copy")
def _copy(a):
    if isinstance(a, DualArrayType):
        return lambda a: +a  # element by element: seeds of a nested derivative may be plain, the copy has room for all
    return None


# ---- new arrays like another one


def _make_like(a: types.Type, dtype: Any, arguments: str, fill: str) -> Any:
    if not isinstance(a, DualArrayType):
        return None
    same = isinstance(dtype, types.DTypeSpec) and dtype.dtype == lane_type(a.element)
    if not (same or _is_none(dtype)):
        raise refusal(DTypeError, f"an array like a DualArray has its numbers, got {dtype}: leave out the dtype")
    lines = ["out = allocate(a.shape)", fill, "return out"]
    return from_source(_definition(arguments, lines), allocate=allocator(a.element, "zeros"))


def _like(function: Callable[..., Any], fill: str) -> None:
    @overload_array(function)
    def like(a, dtype=None):
        return _make_like(a, dtype, "a, dtype=None", fill)


_like(np.zeros_like, "pass")
_like(np.empty_like, "pass")
_like(np.ones_like, "out[...] = 1")


@overload_array(np.full_like)
def _full_like(a, fill_value, dtype=None):
    return _make_like(a, dtype, "a, fill_value, dtype=None", "out[...] = fill_value")


def _is_none(t: Any) -> bool:
    """Whether an argument was left out, or is None."""
    return t is None or isinstance(t, (types.NoneType, types.Omitted))


@overload_method(DualArrayType, "fill")
def _fill(A, value):
    def fill(A, value):
        A[...] = value

    return fill


@overload_method(DualArrayType, "conj")
@overload_method(DualArrayType, "conjugate")
def _conj(A):
    return lambda A: np.conjugate(A)


# ---- elementwise


def _is_operand(t: types.Type) -> bool:
    return isinstance(t, (DualArrayType, types.Array, ScalarType, types.Number, types.Boolean))


def _ndim(t: types.Type) -> int:
    return getattr(t, "ndim", 0)


def _elementwise(function: Callable[..., Any], rule: Callable[..., Any], operands: tuple[types.Type, ...]) -> Any:
    """A loop over the broadcast operands: out[i] = function(x0[i], x1[i])."""
    arrays = any(isinstance(t, (DualArrayType, types.Array)) for t in operands)
    carries = any(isinstance(t, (DualArrayType, DualType)) for t in operands)
    if not (arrays and carries and all(map(_is_operand, operands))):
        return None
    element = stage(rule, tuple(map(element_type, operands)), cpu_target.typing_context)
    names = [f"x{k}" for k in range(len(operands))]
    lengths, entries = _broadcast(dict(zip(names, map(_ndim, operands))))
    axes = range(max(map(_ndim, operands)))
    shape, at = ("".join(f"{letter}{a}, " for a in axes) for letter in "ni")
    arguments = ", ".join(entries[name] for name in names)
    lines = [*lengths, f"out = allocate(({shape}))", *_loops(axes, f"out[{at}] = function({arguments})"), "return out"]
    return from_source(_definition(", ".join(names), lines), function=function, allocate=allocator(element, "empty"))


def _definition(arguments: str, lines: list[str]) -> str:
    return f"def f({arguments}):\n    " + "\n    ".join(lines)


def _loops(axes: range, body: str) -> list[str]:
    """Nested loops over i0 < n0, i1 < n1 ..."""
    heads = [f"{'    ' * a}for i{a} in range(n{a}):" for a in axes]
    return [*heads, "    " * len(axes) + body]


def _broadcast(ndims: dict[str, int]) -> tuple[list[str], dict[str, str]]:
    """Source that finds the common lengths n0, n1 ... of arrays, and for each array the source of its entry there.

    An axis of length 1 is read at 0 all along.
    """
    n = max(ndims.values())
    arrays = [name for name, ndim in ndims.items() if ndim]
    lines, entries = [], {name: name for name in ndims}
    for a in range(n):
        owners = [(name, a - n + ndims[name]) for name in arrays if a - n + ndims[name] >= 0]
        first, *rest = (f"{name}.shape[{axis}]" for name, axis in owners)
        lines.append(f"n{a} = {first}")
        for other in rest:
            lines.append(f"if n{a} == 1: n{a} = {other}")
            lines.append(
                f"elif {other} != n{a} and {other} != 1: raise ValueError('arrays of these shapes do not broadcast')"
            )
    for name in arrays:
        subscripts = []
        for axis in range(ndims[name]):
            a = n - ndims[name] + axis
            if len(arrays) == 1:
                subscripts.append(f"i{a}")
            else:
                lines.append(f"{name}_{axis} = 0 if {name}.shape[{axis}] == 1 else 1")
                subscripts.append(f"{name}_{axis} * i{a}")
        entries[name] = f"{name}[{', '.join(subscripts)}]"
    return lines, entries


def _register_elementwise(
    function: Callable[..., Any], rule: Callable[..., Any], arity: int, of_elements: Callable[..., Any] | None = None
) -> None:
    of_elements = of_elements or function
    if arity == 1:

        @overload_array(function)
        def unary(x0):
            return _elementwise(of_elements, rule, (x0,))

    elif arity == 3:

        @overload_array(function)
        def ternary(x0, x1, x2):
            return _elementwise(of_elements, rule, (x0, x1, x2))

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
            raise refusal(
                MissingRuleError, f"{A} cannot hold {x}: make it by np.zeros_like(x), which holds derivatives"
            )
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
        if _is_none(axis):
            return lambda a, axis=None: function(a.value)
        return lambda a, axis=None: function(a.value, axis)

    return position


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

    @overload_array(getattr(np, name))
    def ask_for_the_value(a):
        if isinstance(a, DualArrayType):
            raise refusal(MissingRuleError, f"compiled, write np.{name}(x.value) for np.{name}(x) of a DualArray")
        return None


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
_register_elementwise(np.clip, rules.clip, 3)


@overload_array(np.where)
def _where(x0, x1, x2):
    if not (_is_operand(x0) and any(isinstance(t, (DualArrayType, DualType)) for t in (x0, x1, x2))):
        return None
    if isinstance(element_type(x0), types.Boolean):
        return _elementwise(np.where, rules.where, (x0, x1, x2))
    return lambda x0, x1, x2: np.where(x0 != 0, x1, x2)


@overload_array(np.clip)
def _clip_at_one_end(a, a_min, a_max):
    if isinstance(a, DualArrayType) and _is_none(a_min) != _is_none(a_max):
        infinity = as_dtype(lane_type(a.element)).type(np.inf)
        if _is_none(a_min):
            return lambda a, a_min, a_max: np.clip(a, -infinity, a_max)
        return lambda a, a_min, a_max: np.clip(a, a_min, infinity)
    return None


@overload_array(np.angle)
def _angle(z, deg=False):
    if not isinstance(z, DualArrayType):
        return None
    radian, degree = (as_dtype(real_type(lane_type(z.element))).type(x) for x in (1, 180 / np.pi))
    return lambda z, deg=False: np.arctan2(z.imag, z.real) * (degree if deg else radian)


for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    _register_comparison(getattr(operator, _name))
for _function in (np.any, np.all, np.isposinf, np.isneginf):
    _register_of_values(_function)
for _function in (np.argmax, np.argmin):
    overload_array(_function)(_position_of(_function))
    overload_method(DualArrayType, _function.__name__)(_position_of(_function))
_answer_of_type(np.iscomplexobj, lambda t: is_complex_type(t.element))
_answer_of_type(np.isrealobj, lambda t: not is_complex_type(t.element))
_answer_of_type(np.isscalar, lambda t: False)
for _function in (np.convolve, np.correlate):
    _refuse_arrays(_function, "a, v, mode=None", "write a loop, or call it outside of the compiled function")
_refuse_arrays(np.searchsorted, "a, v, side=None", "write np.searchsorted(a.value, v.value), which has no derivative")
_refuse_arrays(np.nditer, "op", "loop over x.ravel()")
for _name in ("isnan", "isinf", "isfinite"):
    _refuse_of_values(_name)


# ---- reductions and products


@functools.cache
def _zero(element: DualType) -> Callable[..., Any]:
    @intrinsic
    def zero(typing: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            return cgutils.get_null_value(context.get_value_type(element))

        return element(), generate

    return zero


#: Sums of up to so many partials are written out one by one; more go through an array, for each would take Numba 25 ms.
_WRITTEN_OUT = 4


def _sum_along(n: int) -> str:
    """Source of the sum along one axis of an array of n axes: a branch for each axis, as the result's shape differs."""
    axes = range(n)
    lines = [*(f"n{a} = a.shape[{a}]" for a in axes), f"along = axis + {n} if axis < 0 else axis"]
    for along in axes:
        shape, at = ("".join(f"{letter}{a}, " for a in axes if a != along) for letter in "ni")
        loops = _loops(axes, f"out[{at}] = out[{at}] + a[{', '.join(f'i{a}' for a in axes)}]")
        block = [f"if along == {along}:", f"    out = allocate(({shape}))", *(f"    {line}" for line in loops)]
        lines += [*block, "    return out"]
    return _definition("a, axis=None", [*lines, f"raise ValueError('the array has {n} axes, and not that one')"])


def _refuse_axes(axis: Any) -> None:
    if not (_is_none(axis) or isinstance(axis, types.Integer)):
        raise refusal(MissingRuleError, f"compiled, the axis of a sum or mean is one integer, got {axis}: sum twice")


@overload_array(np.sum)
@overload_method(DualArrayType, "sum")
def _sum(a, axis=None):
    if not isinstance(a, DualArrayType):
        return None
    _refuse_axes(axis)
    if isinstance(axis, types.Integer) and a.ndim > 1:
        return from_source(_sum_along(a.ndim), allocate=allocator(a.element, "zeros"))
    lines = []
    if isinstance(axis, types.Integer):
        lines.append("if axis != 0 and axis != -1: raise ValueError('the array has 1 axis, and not that one')")
    if a.count <= _WRITTEN_OUT:
        partials = "".join(f"np.sum(a.partials[{k}]), " for k in range(a.count))
        lines.append(f"return number(np.sum(a.value), ({partials}))")
    else:
        sums = f"for k in range({a.count}): total.partials[k, 0] = np.sum(a.partials[k])"
        lines += ["total = allocate((1,))", "total.value[0] = np.sum(a.value)", sums, "return total[0]"]
    source, allocate = _definition("a, axis=None", lines), allocator(a.element, "empty")
    return from_source(source, np=np, number=_number(a.element), allocate=allocate)


@overload_array(sum)
def _builtin_sum(iterable, start=0):
    if not isinstance(iterable, DualArrayType):
        return None
    if iterable.ndim > 1:
        return lambda iterable, start=0: np.sum(iterable, 0) + start
    zero = _zero(iterable.element)

    def add_up(iterable, start=0):
        total = start + zero()
        for x in iterable:
            total = total + x
        return total

    return add_up


@overload_array(np.mean)
@overload_method(DualArrayType, "mean")
def _mean(a, axis=None):
    if not isinstance(a, DualArrayType):
        return None
    _refuse_axes(axis)
    if isinstance(axis, types.Integer):
        return lambda a, axis=None: np.sum(a, axis) / a.shape[axis]
    return lambda a, axis=None: np.divide(np.sum(a), a.size)  # as arrays divide


@overload_array(np.trace)
@overload_method(DualArrayType, "trace")
def _trace(a):
    if not isinstance(a, DualArrayType):
        return None
    zero = _zero(a.element)

    def trace(a):
        total = zero()
        for i in range(min(a.shape)):
            total = total + a[i, i]
        return total

    return trace


@overload_array(np.outer)
def _outer(a, b):
    if isinstance(a, DualArrayType) or isinstance(b, DualArrayType):
        return lambda a, b: a.ravel().reshape((a.size, 1)) * b.ravel().reshape((1, b.size))
    return None


@overload_array(np.prod)
@overload_method(DualArrayType, "prod")
def _prod(a):
    if not isinstance(a, DualArrayType):
        return None
    axes = range(a.ndim)
    loops = _loops(axes, f"result = result * a[{', '.join(f'i{k}' for k in axes)}]")
    lines = ["result = as_element(1)", *(f"n{k} = a.shape[{k}]" for k in axes), *loops, "return result"]
    return from_source(_definition("a", lines), as_element=_as_element(a.element))


def _extremum(function: Callable[..., Any], position: Callable[..., Any]) -> Callable[..., Any]:
    """The element where the value is largest or smallest, the first of equals."""

    def extremum(a):
        if not isinstance(a, DualArrayType):
            return None
        lines = ["k = position(a.value)"]
        for axis in reversed(range(a.ndim)):
            lines += [f"i{axis} = k % a.shape[{axis}]", f"k = k // a.shape[{axis}]"]
        lines.append(f"return a[{', '.join(f'i{axis}' for axis in range(a.ndim))}]")
        return from_source(_definition("a", lines), position=position)

    return overload_array(function)(extremum)


overload_method(DualArrayType, "max")(_extremum(np.max, np.argmax))
overload_method(DualArrayType, "min")(_extremum(np.min, np.argmin))


@overload_method(DualArrayType, "dot")
def _dot(a, b):
    return lambda a, b: np.dot(a, b)


@overload_array(operator.matmul)
@overload_array(np.dot)
def _matmul(a, b):
    if not (isinstance(a, DualArrayType) or isinstance(b, DualArrayType)):
        return None
    if not all(isinstance(x, (DualArrayType, types.Array)) and x.ndim in (1, 2) for x in (a, b)):
        return None
    element = stage(operator.mul, (element_type(a), element_type(b)), cpu_target.typing_context)
    free = [axis for axis, x in (("a.shape[0]", a), ("b.shape[1]", b)) if x.ndim == 2]
    loops = [f"{'    ' * k}for i{k} in range({length}):" for k, length in enumerate(free)]
    at = ", ".join(f"i{k}" for k in range(len(free)))
    left = "a[i0, k]" if a.ndim == 2 else "a[k]"
    right = f"b[k, i{len(free) - 1}]" if b.ndim == 2 else "b[k]"
    indent = "    " * len(free)
    store = f"{indent}out[{at}] = s" if free else "out = s"
    lines = [
        f"if a.shape[{a.ndim - 1}] != b.shape[0]: raise ValueError('the inner axes of a product differ in length')",
        *([f"out = allocate(({', '.join(free)},))"] if free else []),
        *loops,
        f"{indent}s = zero()",
        f"{indent}for k in range(b.shape[0]): s = s + {left} * {right}",
        store,
        "return out",
    ]
    source = "def f(a, b):\n    " + "\n    ".join(lines)
    return from_source(source, zero=_zero(element), allocate=allocator(element, "empty"))


@overload_array(np.linalg.svd)
def _svd(a, full_matrices=True):
    if isinstance(a, DualArrayType):
        raise refusal(
            MissingRuleError,
            "compiled, write U, S, Vh = dualsvd.kernels.svd_small(x) for np.linalg.svd(x) of a DualArray; it is thin, "
            "and S alone is svdvals_small(x)",
        )
    return None
