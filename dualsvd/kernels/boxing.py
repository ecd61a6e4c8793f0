"""Dual across the border between Python and compiled code: the type of a number, its way in and its way back."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import NativeValue, box, typeof_impl, unbox
from numba.np.numpy_support import as_dtype

from .. import dual as rules
from ..dual import Dual
from . import scalars  # noqa: F401, whoever has a Dual compiles its arithmetic too
from .number_types import DualType, is_complex_type, join, leaf_type, levels_of, size_of
from .staging import Emitter

_TYPES: dict[Any, DualType] = {}


def type_of(x: Dual) -> DualType:
    """Numba's type of a Python Dual."""
    classes = _classes(x)
    known = _TYPES.get(classes)
    if known is None:
        parts = (type_of(p) if isinstance(p, Dual) else numba.typeof(p) for p in (x.value, *x.partials))
        part = functools.reduce(join, parts)
        part = types.float64 if isinstance(part, types.Integer) else part
        known = _TYPES[classes] = DualType(part, len(x.partials), classes[0])
    return known


def _classes(x: Dual) -> tuple[Any, ...]:
    """The level, and the classes of the value and the partials: all that the type depends on."""
    level = _levels().depth_of(x.tag) if x.tag else 0
    classes = (level, type(x.value), *map(type, x.partials))
    if Dual in classes:
        return (level, *(_classes(p) if isinstance(p, Dual) else type(p) for p in (x.value, *x.partials)))
    return classes


@typeof_impl.register(Dual)
def _typeof_dual(x: Dual, context: Any) -> DualType:
    return type_of(x)


@functools.cache
def _levels() -> Any:
    return importlib.import_module("dualsvd.rules.levels")


@functools.cache
def _dual_array() -> Any:
    return importlib.import_module("dualsvd.forward").DualArray


def _tag_at(level: int) -> int:
    return _levels().tag_at(level) if level else 0


def leaves(x: Any, levels: tuple[tuple[int, int], ...]) -> tuple[Any, ...]:
    """The plain numbers in x, in the order of memory; x may be a constant for some of the levels."""
    if not levels:
        return (x[()] if isinstance(x, np.ndarray) else x,)
    (count, level), inner = levels[0], levels[1:]
    nested_in_itself = sum(other == level for _, other in levels)
    tag = _tag_at(level)
    carries = getattr(x, "tag", None) == tag and (not isinstance(x, Dual) or rules.depth(x, tag) == nested_in_itself)
    parts = (x.value, *x.partials) if carries else (x, *(0.0,) * count)
    return tuple(leaf for part in parts for leaf in leaves(part, inner))


def assemble(numbers: tuple[Any, ...], levels: tuple[tuple[int, int], ...], dtype: str) -> Any:
    """The inverse of `leaves` for a number of a running derivative: a DualArray without axes."""
    wrap, parts = _dual_array().wrap, np.array(numbers, dtype)
    if len(levels) == 1:
        return wrap(parts[0, ...], parts[1:], _tag_at(levels[0][1]))

    def build(parts: np.ndarray, levels: tuple[tuple[int, int], ...]) -> Any:
        # an axis for each level, value and partials, then the axes of the array
        if not levels:
            return parts
        (_, level), inner = levels[0], levels[1:]
        partials = parts[1:] if not inner else np.moveaxis(parts[1:], 0, len(inner))
        return wrap(build(parts[0, ...], inner), build(partials, inner), _tag_at(level))

    return build(parts.reshape([1 + count for count, _ in levels]), levels)


@unbox(DualType)
def _unbox_dual(t: DualType, x: Any, c: Any) -> NativeValue:
    real = not is_complex_type(t)  # Numba takes real numbers out of arrays without axes, but no complex ones
    if real and not isinstance(t.part, DualType):
        value = _unbox_number(t, x, c)
    elif real and not (t.level or isinstance(t.part.part, DualType)):
        value = _unbox_nested(t, x, c)
    else:
        callee, levels = (c.pyapi.unserialize(c.pyapi.serialize_object(known)) for known in (leaves, levels_of(t)))
        parts = c.pyapi.call_function_objargs(callee, (x, levels))
        numbers = c.unbox(types.UniTuple(leaf_type(t), size_of(t)), parts).value
        for owned in (callee, levels, parts):
            c.pyapi.decref(owned)
        emitter = Emitter(c.context.typing_context, c.context, c.builder)
        flat = iter([emitter.wrap(leaf_type(t), n) for n in cgutils.unpack_tuple(c.builder, numbers)])
        value = emitter.unwrap(t, fold(t, flat))
    return NativeValue(value, is_error=cgutils.is_not_null(c.builder, c.pyapi.err_occurred()))


def _unbox_parts(t: DualType, x: Any, c: Any, take: Callable[..., Any]) -> Any:
    """The value and the partials of an object, each by `take`."""
    aggregate = cgutils.create_struct_proxy(t)(c.context, c.builder)
    first = c.pyapi.object_getattr_string(x, "value")
    rest = c.pyapi.object_getattr_string(x, "partials")
    sequence = c.pyapi.sequence_tuple(rest)
    aggregate.value = take(first)
    partials = [take(c.pyapi.tuple_getitem(sequence, k)) for k in range(t.count)]
    aggregate.partials = c.context.make_tuple(c.builder, types.UniTuple(t.part, t.count), partials)
    for owned in (first, rest, sequence):
        c.pyapi.decref(owned)
    return aggregate._getvalue()


def _unbox_number(t: DualType, x: Any, c: Any) -> Any:
    """A Dual of plain numbers."""
    return _unbox_parts(t, x, c, lambda part: c.unbox(t.part, part).value)


def _unbox_nested(t: DualType, x: Any, c: Any) -> Any:
    """A Dual made by hand of Duals of plain numbers, or of plain numbers where they are constants."""
    whole = c.pyapi.object_type(x)

    def take(part: Any) -> Any:
        kind = c.pyapi.object_type(part)
        c.pyapi.decref(kind)
        result = cgutils.alloca_once_value(c.builder, cgutils.get_null_value(c.context.get_value_type(t.part)))
        with c.builder.if_else(c.builder.icmp_unsigned("==", kind, whole)) as (carries, constant):
            with carries:
                c.builder.store(_unbox_number(t.part, part, c), result)
            with constant:
                c.builder.store(c.unbox(t.part.part, part).value, cgutils.gep_inbounds(c.builder, result, 0, 0))
        return c.builder.load(result)

    value = _unbox_parts(t, x, c, take)
    c.pyapi.decref(whole)
    return value


@box(DualType)
def _box_dual(t: DualType, value: Any, c: Any) -> Any:
    leaf, levels = leaf_type(t), levels_of(t)
    if not any(level for _, level in levels):
        return _box_parts(t, value, c)
    numbers = cgutils.pack_array(c.builder, _flatten(c.builder, t, value), c.context.get_value_type(leaf))
    flat = c.box(types.UniTuple(leaf, size_of(t)), numbers)
    callee, *rest = (_constant(c, x) for x in (assemble, levels, str(leaf)))
    result = c.pyapi.call_function_objargs(callee, (flat, *rest))
    c.pyapi.decref(flat)
    return result


def _box_parts(t: types.Type, value: Any, c: Any) -> Any:
    """A number of no running derivative. The members of a Dual are set at once: `__init__` takes four times as long."""
    if t in (types.float32, types.complex64):
        wide = c.box(t, value)
        number = c.pyapi.call_function_objargs(_constant(c, as_dtype(t).type), (wide,))
        c.pyapi.decref(wide)
        return number
    if not isinstance(t, DualType):
        return c.box(t, value)
    partials = c.pyapi.tuple_new(t.count)
    for k in range(t.count):  # the tuple takes the reference
        c.pyapi.tuple_setitem(partials, k, _box_parts(t.part, c.builder.extract_value(value, (1, k)), c))
    members = {
        "value": _box_parts(t.part, c.builder.extract_value(value, 0), c),
        "partials": partials,
        "tag": c.pyapi.long_from_longlong(c.context.get_constant(types.int64, 0)),
    }
    allocate_type = ir.FunctionType(c.pyapi.pyobj, [c.pyapi.pyobj, c.pyapi.py_ssize_t])
    allocate = cgutils.get_or_insert_function(c.builder.module, allocate_type, "PyType_GenericAlloc")
    result = c.builder.call(allocate, [_constant(c, Dual), c.pyapi.py_ssize_t(0)])
    for name, member in members.items():
        c.pyapi.object_setattr_string(result, name, member)
        c.pyapi.decref(member)
    return result


def _constant(c: Any, x: Any) -> Any:
    """A Python object that boxing refers to."""
    return c.env_manager.read_const(c.env_manager.add_const(x))


def fold(t: types.Type, numbers: Any) -> Any:
    if not isinstance(t, DualType):
        return next(numbers)
    value, *partials = (fold(t.part, numbers) for _ in range(1 + t.count))
    return Dual(value, partials, t.level)


def _flatten(builder: Any, t: types.Type, value: Any) -> list[Any]:
    if not isinstance(t, DualType):
        return [value]
    parts = [builder.extract_value(value, 0), *(builder.extract_value(value, (1, k)) for k in range(t.count))]
    return [leaf for part in parts for leaf in _flatten(builder, t.part, part)]
