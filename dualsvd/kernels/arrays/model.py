"""The type of a DualArray in compiled code, its way from Python and back, and how its numbers and arrays are made."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numba
import numpy as np
from numba.core import cgutils, types
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing.arraydecl import get_array_index_type
from numba.core.typing.typeof import Purpose
from numba.extending import (
    NativeValue,
    box,
    intrinsic,
    lower_cast,
    make_attribute_wrapper,
    models,
    overload,
    register_jitable,
    register_model,
    typeof_impl,
    unbox,
)
from numba.np.numpy_support import as_dtype, from_dtype

from ... import dual as rules
from ...errors import DTypeError, MissingRuleError, ShapeError, TagError
from ...forward import VIEWED, DualArray
from ...rules.levels import caller, depth_of, tag_at
from ...rules.registry import Tracer
from ..number_types import DualType, ScalarType, Versioned, is_complex_type, join, levels_of
from ..scalars import refusal
from ..staging import Emitter

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
        return item_of(self, types.intp)

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


def item_of(t: Any, *index: types.Type) -> Any:
    if isinstance(t, DualArrayType):
        if len(index) == t.ndim and all(isinstance(i, types.Integer) for i in index):
            return t.element
        return DualArrayType(item_of(t.value, *index), item_of(t.partials, types.slice2_type, *index), t.count, t.level)
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
    if known is not None and known.holds(x):
        return known.type
    if not x.value.shape:
        return _number_type(x, level)
    x.views(own=True)
    value, partials = (array_type(p) if isinstance(p, DualArray) else numba.typeof(p) for p in (x.value, x.partials))
    t = DualArrayType(value, partials, x.directions, level)
    x.numba_type = Known(tuple(_arrays_of(x)), t)
    return t


class Known(NamedTuple):
    """Numba's type of a DualArray, as long as it is made of these arrays, which may be written to or not."""

    arrays: tuple[tuple[np.ndarray, bool], ...]
    type: DualArrayType

    def holds(self, x: DualArray) -> bool:
        now = tuple(_arrays_of(x))
        return len(now) == len(self.arrays) and all(
            a is b and may is might for (a, may), (b, might) in zip(now, self.arrays)
        )


def _arrays_of(x: DualArray) -> Iterator[tuple[np.ndarray, bool]]:
    """The arrays that x is made of, at all its levels, and whether each may be written to."""
    for part in (x.value, x._partials):
        if isinstance(part, DualArray):
            yield from _arrays_of(part)
        else:
            yield part, part.flags.writeable


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
def number_of(element: DualType) -> Callable[..., Any]:
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
def as_element_of(element: DualType) -> Callable[..., Any]:
    """A number -> the element that it is; a constant of the level has zero partials."""

    @intrinsic
    def as_element(typing: Any, x: Any) -> Any:
        x = types.unliteral(x)
        check_holds(element, x)

        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            emitter = Emitter(context.typing_context, context, builder)
            return emitter.unwrap(element, emitter.wrap(x, values[0]))

        return element(x), generate

    return as_element


def check_holds(element: DualType, x: types.Type) -> None:
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
def pair_of(count: int, level: int) -> Callable[..., Any]:
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
        inner, pair, count = allocator(element.part, make), pair_of(element.count, element.level), element.count

        @register_jitable
        def allocate(shape: Any) -> Any:
            return pair(inner(shape), inner((count, *shape)))

        return allocate
    dtype, function = as_dtype(element).type, getattr(np, make)

    @register_jitable
    def allocate_numbers(shape: Any) -> Any:
        return function(shape, dtype)

    return allocate_numbers


@functools.cache
def zero_of(element: DualType) -> Callable[..., Any]:
    @intrinsic
    def zero(typing: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            return cgutils.get_null_value(context.get_value_type(element))

        return element(), generate

    return zero


def is_operand(t: types.Type) -> bool:
    return isinstance(t, (DualArrayType, types.Array, ScalarType, types.Number, types.Boolean))


def ndim_of(t: types.Type) -> int:
    return getattr(t, "ndim", 0)


def holds_no_derivatives(A: types.Type, x: types.Type) -> Exception:
    """The error for writing derivatives into a plain array."""
    return refusal(MissingRuleError, f"{A} cannot hold {x}: make it by np.zeros_like(x), which holds derivatives")
