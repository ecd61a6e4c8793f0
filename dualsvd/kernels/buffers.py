"""Numbers of any kind in a flat array of reals: what kernel texts read and write.

A `Kind` names a type of number to a kernel, and a `Fixed` an integer that it is compiled for; `buffer` sees an array as
a store of such numbers, in Python too. A number's components lie one after the other, each with its lanes side by side.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import impl_ret_borrowed, lower_constant
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import NativeValue, intrinsic, lower_builtin, models, overload, register_model, typeof_impl, unbox

from ..dual import Dual
from ..errors import DTypeError
from . import protocol
from .boxing import fold, leaves
from .number_types import (
    DualType,
    PackType,
    RowsType,
    Versioned,
    is_complex_type,
    lane_type,
    leaf_type,
    levels_of,
    precision,
    real_type,
    size_of,
)
from .scalars import arity, is_number, refusal
from .staging import Complex, Emitter, Leaf

__all__ = ["Fixed", "Kind", "buffer", "components", "integer", "lanes", "leaf_kind"]


class Kind:
    """A type of number, to pass to a kernel: it is compiled once for each.

    dtype     type of the leaves
    partials  number of partials of each level of derivatives, the innermost first
    lanes     numbers of different matrices side by side in SIMD registers
    rows      or numbers of different rows of one column

    >>> Kind("float64", partials=(4,), lanes=8), Kind("float32", rows=16)
    (Kind(Dual(Pack(8 x float64), 4)), Kind(Rows(16 x float32)))
    """

    __slots__ = ("numba_type", "number")

    def __init__(self, dtype: Any, partials: tuple[int, ...] = (), lanes: int = 1, rows: int = 1) -> None:
        number: types.Type = numba.from_dtype(np.dtype(dtype))
        if lanes > 1 or rows > 1:
            number = PackType(lanes, number) if lanes > 1 else RowsType(rows, number)
        for count in partials:
            number = DualType(number, count)
        self.number, self.numba_type = number, KindType(number)

    @classmethod
    def of(cls, number: types.Type) -> Kind:
        """The kind of a Numba type of numbers."""
        self = object.__new__(cls)
        self.number, self.numba_type = number, KindType(number)
        return self

    def __repr__(self) -> str:
        return f"Kind({self.number})"

    def __reduce__(self) -> Any:
        return Kind.of, (self.number,)


class KindType(Versioned, types.Opaque):
    """Numba's type of a `Kind`: the number is known when the kernel is compiled."""

    def __init__(self, number: types.Type) -> None:
        self.number = number
        super().__init__(f"Kind({number})")


class BufferType(Versioned):
    """Numbers in a flat array; number k holds its components one after the other, each with its lanes side by side."""

    def __init__(self, number: types.Type, array: types.Array) -> None:
        self.number, self.array = number, array
        super().__init__(f"Buffer({number}, {array})")


class Fixed:
    """An integer that a kernel is compiled for: loops over it unroll. `integer` reads it, and takes plain ones too.

    >>> integer(Fixed(3)), integer(3)
    (3, 3)
    """

    __slots__ = ("numba_type", "value")

    def __init__(self, value: int) -> None:
        self.value, self.numba_type = value, FixedType(value)

    def __repr__(self) -> str:
        return f"Fixed({self.value})"

    def __reduce__(self) -> Any:
        return Fixed, (self.value,)


class FixedType(Versioned, types.Opaque):
    """Numba's type of a `Fixed`."""

    def __init__(self, value: int) -> None:
        self.value = value
        super().__init__(f"Fixed({value})")


register_model(KindType)(models.OpaqueModel)
register_model(FixedType)(models.OpaqueModel)


@register_model(BufferType)
class _BufferModel(models.StructModel):
    def __init__(self, manager: Any, t: BufferType) -> None:
        super().__init__(manager, t, [("array", t.array)])


@typeof_impl.register(Kind)
@typeof_impl.register(Fixed)
def _typeof_known(x: Kind | Fixed, context: Any) -> KindType | FixedType:
    return x.numba_type


@unbox(KindType)
@unbox(FixedType)
def _unbox_known(t: types.Type, x: Any, c: Any) -> NativeValue:
    return NativeValue(c.context.get_dummy_value())


@lower_constant(KindType)
@lower_constant(FixedType)
def _constant_known(context: Any, builder: Any, t: types.Type, x: Any) -> Any:
    return context.get_dummy_value()


def lanes_of(number: types.Type) -> int:
    leaf = leaf_type(number)
    return leaf.lanes if isinstance(leaf, PackType) else 1


def components_of(number: types.Type) -> int:
    return size_of(number) * (2 if is_complex_type(number) else 1)


def order_of(number: types.Type) -> int:
    """How many levels of derivatives a number has."""
    return len(levels_of(number))


def lanes(kind: Kind) -> int:
    """How many numbers of that kind stand side by side."""
    return lanes_of(kind.number)


def components(kind: Kind) -> int:
    """Reals in one lane of a number: value, partials, imaginary parts."""
    return components_of(kind.number)


def integer(x: Fixed | int) -> int:
    """The integer itself."""
    return x.value if isinstance(x, Fixed) else x


def leaf_kind(kind: Kind) -> Kind:
    """The kind of the primal."""
    return Kind.of(leaf_type(kind.number))


def seen_as(store: Any, kind: Kind) -> Any:
    """The memory of a buffer as numbers of another kind."""
    return buffer(store.array, kind)


def _compile_in_place(
    function: Callable[..., Any], first: Any, signature_of: Callable[..., Any]
) -> Callable[[Callable[..., Any]], Any]:
    """Let Numba compile calls whose first argument is of the type `first` in place: functions of their own for each
    type of kind and buffer would be the greater part of what is compiled.

    `signature_of` gives the types, the decorated function generates the code."""

    class Template(AbstractTemplate):
        key = function

        def generic(self, args: tuple[types.Type, ...], kws: dict[str, types.Type]) -> Any:
            return signature_of(*args) if args and isinstance(args[0], first) and not kws else None

    infer_global(function)(Template)
    return lower_builtin(function, first, *(types.Any,) * (arity(signature_of) - 1))


def _compile_constant(function: Callable[..., Any], first: Any, value_of: Callable[[Any], int]) -> None:
    """The same for an integer that the type tells."""

    @_compile_in_place(function, first, lambda t: types.intp(t))
    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return context.get_constant(types.intp, value_of(sig.args[0]))


_compile_constant(lanes, KindType, lambda t: lanes_of(t.number))
_compile_constant(components, KindType, lambda t: components_of(t.number))
_compile_constant(integer, FixedType, lambda t: t.value)


@_compile_in_place(integer, types.Integer, lambda t: t(t))
def _same_integer(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    return values[0]


@_compile_in_place(leaf_kind, KindType, lambda t: KindType(leaf_type(t.number))(t))
def _leaf_kind(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    return context.get_dummy_value()


@_compile_in_place(seen_as, BufferType, lambda store, kind: BufferType(kind.number, store.array)(store, kind))
def _seen_as(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    return impl_ret_borrowed(context, builder, sig.return_type, values[0])


class _ArrayBuffer(protocol.Buffer):
    """A buffer over a NumPy array in plain Python, where numbers have one lane."""

    __slots__ = ("array", "number")

    def __init__(self, array: np.ndarray, number: types.Type) -> None:
        self.number = number
        self.array = array.view(np.dtype(f"float{precision(number)}"))

    def __len__(self) -> int:
        return len(self.array) // components_of(self.number)

    def __getitem__(self, k: int) -> Any:
        size = components_of(self.number)
        reals = iter(self.array[k * size : (k + 1) * size])
        numbers = ((re + 1j * next(reals) if is_complex_type(self.number) else re) for re in reals)
        return fold(self.number, numbers)

    def __setitem__(self, k: int, x: Any) -> None:
        size = components_of(self.number)
        parts = leaves(x, levels_of(self.number))
        self.array[k * size : (k + 1) * size] = (
            [r for z in parts for r in (z.real, z.imag)] if is_complex_type(self.number) else parts
        )

    def __iter__(self) -> Any:
        return (self[k] for k in range(len(self)))


def buffer(array: np.ndarray, kind: Kind) -> Any:
    """A flat contiguous array as a store of numbers of that kind: entry k is a whole number."""
    if lanes(kind) != 1:
        raise DTypeError(
            f"plain Python has no numbers of {lanes(kind)} lanes; compile the kernel, or take a kind of one lane"
        )
    return _ArrayBuffer(array, kind.number)


@intrinsic
def _buffer(typing: Any, array: types.Array, kind: KindType) -> Any:
    if array.ndim != 1 or array.layout != "C":
        raise refusal(DTypeError, f"a buffer stands on a contiguous array of one axis, got {array}")
    if precision(array.dtype) != precision(kind.number):
        raise refusal(
            DTypeError, f"a buffer of {kind.number} stands on an array of float{precision(kind.number)}, got {array}"
        )
    t = BufferType(kind.number, array)

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        aggregate = cgutils.create_struct_proxy(t)(context, builder)
        aggregate.array = values[0]
        return impl_ret_borrowed(context, builder, t, aggregate._getvalue())

    return t(array, kind), generate


@overload(buffer)
def _overload_buffer(array, kind):
    return lambda array, kind: _buffer(array, kind)  # type: ignore[call-arg]


class _Memory:
    """Loads and stores of numbers by a pointer to reals; of single ones out of packs, if it points to a lane."""

    def __init__(self, emitter: Emitter, number: types.Type, pointer: Any, single: bool = False) -> None:
        self.emitter, self.pointer = emitter, pointer
        self.plane = real_type(leaf_type(number))
        self.step, self.position = lanes_of(self.plane), 0
        if single:
            self.plane = lane_type(self.plane)

    def _next(self) -> Any:
        builder = self.emitter.builder
        offset = ir.Constant(ir.IntType(64), self.position)
        self.position += self.step
        pointer = builder.gep(self.pointer, [offset], inbounds=True)
        if isinstance(self.plane, PackType):
            pointer = builder.bitcast(pointer, self.emitter.context.get_value_type(self.plane).as_pointer())
        return pointer

    @property
    def _align(self) -> int:
        return precision(self.plane) // 8  # lanes too: workspaces are aligned, but their parts need not be

    def load(self, t: types.Type) -> Any:
        if isinstance(t, DualType):
            value, *partials = (self.load(t.part) for _ in range(1 + t.count))
            return Dual(value, partials, t.level)
        if is_complex_type(t):
            return Complex(self.load(self.plane), self.load(self.plane))
        return Leaf(self.emitter, self.plane, self.emitter.builder.load(self._next(), align=self._align))

    def store(self, t: types.Type, x: Any) -> None:
        if isinstance(t, DualType):
            for part in (x.value, *x.partials):
                self.store(t.part, part)
        elif is_complex_type(t):
            self.store(self.plane, x.re)
            self.store(self.plane, x.im)
        else:
            self.emitter.builder.store(x.value, self._next(), align=self._align)


def memory_at(context: Any, builder: Any, t: BufferType, value: Any, k: Any) -> Any:
    """The pointer to the first real of number k of a buffer."""
    array = context.make_array(t.array)(context, builder, builder.extract_value(value, 0))
    real = context.get_value_type(real_type(lane_type(t.number)))
    stride = ir.Constant(k.type, components_of(t.number) * lanes_of(t.number))
    return builder.gep(builder.bitcast(array.data, real.as_pointer()), [builder.mul(k, stride)], inbounds=True)


def _memory(context: Any, builder: Any, t: BufferType, value: Any, k: Any) -> _Memory:
    emitter = Emitter(context.typing_context, context, builder)
    return _Memory(emitter, t.number, memory_at(context, builder, t, value, k))


def lane_of(number: types.Type) -> Any:
    """The number that one lane of a number is."""
    return (
        DualType(lane_of(number.part), number.count, number.level)
        if isinstance(number, DualType)
        else lane_type(number)
    )


def entry_of(number: types.Type) -> Any:
    """The number that one row of a column is: a lane, if a number is a pack of rows."""
    return lane_of(number) if isinstance(leaf_type(number), RowsType) else number


def _type_of_number(store: BufferType, k: types.Type) -> Any:
    return store.number(store, types.intp) if isinstance(k, types.Integer) else None


def _type_of_entry(store: BufferType, start: types.Type, i: types.Type) -> Any:
    return entry_of(store.number)(store, types.intp, types.intp)


def _type_of_lane(store: BufferType, k: types.Type, i: types.Type) -> Any:
    return lane_of(store.number)(store, types.intp, types.intp)


def _type_of_writing(store: BufferType, k: types.Type, x: types.Type) -> Any:
    fits = isinstance(k, types.Integer) and is_number(x)
    return types.void(store, types.intp, types.unliteral(x)) if fits else None


def _type_of_writing_part(store: BufferType, k: types.Type, i: types.Type, x: types.Type) -> Any:
    return types.void(store, types.intp, types.intp, types.unliteral(x)) if is_number(x) else None


def _lane_memory(context: Any, builder: Any, t: BufferType, value: Any, k: Any, i: Any) -> _Memory:
    pointer = builder.gep(memory_at(context, builder, t, value, k), [i], inbounds=True)
    return _Memory(Emitter(context.typing_context, context, builder), t.number, pointer, single=True)


def _entry_memory(context: Any, builder: Any, t: BufferType, value: Any, start: Any, i: Any) -> _Memory:
    if entry_of(t.number) == t.number:
        return _memory(context, builder, t, value, builder.add(start, i))
    rows = ir.Constant(i.type, lanes_of(t.number))
    k = builder.add(start, builder.sdiv(i, rows))
    return _lane_memory(context, builder, t, value, k, builder.srem(i, rows))


def _reading(memory_of: Callable[..., _Memory]) -> Callable[..., Any]:
    """The code that reads a number where `memory_of` the buffer and the indices is."""

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        memory = memory_of(context, builder, sig.args[0], *values)
        return memory.emitter.unwrap(sig.return_type, memory.load(sig.return_type))

    return generate


def _writing(memory_of: Callable[..., _Memory], number_of: Callable[[Any], Any]) -> Callable[..., Any]:
    """The code that writes one there, as `number_of` the buffer's."""

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        memory, t = memory_of(context, builder, sig.args[0], *values[:-1]), number_of(sig.args[0].number)
        memory.store(t, memory.emitter.convert(memory.emitter.wrap(sig.args[-1], values[-1]), t))
        return context.get_dummy_value()

    return generate


_compile_in_place(operator.getitem, BufferType, _type_of_number)(_reading(_memory))
_compile_in_place(operator.setitem, BufferType, _type_of_writing)(_writing(_memory, lambda number: number))
_compile_in_place(protocol.entry, BufferType, _type_of_entry)(_reading(_entry_memory))
_compile_in_place(protocol.set_entry, BufferType, _type_of_writing_part)(_writing(_entry_memory, entry_of))
_compile_in_place(protocol.lane, BufferType, _type_of_lane)(_reading(_lane_memory))
_compile_in_place(protocol.set_lane, BufferType, _type_of_writing_part)(_writing(_lane_memory, lane_of))
