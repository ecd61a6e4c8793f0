"""Between matrices in memory, one after the other, and packs, a matrix a lane.

In memory the entries of one matrix stand side by side, in a pack those of many. A transposition in registers moves
them: `count` consecutive reals from each of L matrices fill `count` registers of L lanes, in which

    real e of matrix w    stands at    w count + e,    and is wanted at    e L + w.

That is a rotation of the bits of the index, for powers of two. Taking all reals at even places before those at odd
ones rotates by one bit, at one shuffle a register; so log2(count) rounds do it, and as many rounds of the inverse, the
perfect shuffle, undo it. (Stone 1971, "Parallel processing with the perfect shuffle".)

Compiled code only: plain Python has no packs.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from ..errors import DTypeError
from .buffers import BufferType, lanes_of, memory_at
from .scalars import refusal
from .staging import Emitter, shuffle_places


@intrinsic
def _read(typing: Any, store: BufferType, at: Any, stride: Any, packs: BufferType, places: Any, scale: Any) -> Any:
    """Real at + w stride + e of the store, times the factors, to lane w of packs[places[e]].

    `scale` is a factor for even e, one for odd e, and one more for all; there are 1, 2, 4 or 8 places.
    """
    lanes, count = _lanes(store, packs, places), len(places)
    signature = types.void(store, types.intp, types.intp, packs, places, scale)

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        shuffles, width = _Shuffles(builder), min(count, lanes)
        pieces = [shuffles.load(p, width) for p in _pieces(context, builder, store, values, lanes, count, width)]
        registers = shuffles.joined(pieces, lanes)
        for _ in range(_rounds(count, lanes)):
            pairs = list(zip(registers[::2], registers[1::2]))
            even, odd = list(range(0, 2 * lanes, 2)), list(range(1, 2 * lanes, 2))
            registers = [shuffles(a, b, even) for a, b in pairs] + [shuffles(a, b, odd) for a, b in pairs]
        registers = _scaled(context, builder, packs, registers, scale, values[5])
        for p, register in zip(_places(context, builder, packs, values[3], values[4]), registers):
            shuffles.store(register, p)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _write(typing: Any, store: BufferType, at: Any, stride: Any, packs: BufferType, places: Any, scale: Any) -> Any:
    """The inverse: real at + w stride + e of the store receives lane w of packs[places[e]], times the factors."""
    lanes, count = _lanes(store, packs, places), len(places)
    signature = types.void(store, types.intp, types.intp, packs, places, scale)

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        shuffles, width = _Shuffles(builder), min(count, lanes)
        registers = [shuffles.load(p, lanes) for p in _places(context, builder, packs, values[3], values[4])]
        registers = _scaled(context, builder, packs, registers, scale, values[5])
        half = lanes // 2
        low, high = ([k for i in range(a, a + half) for k in (i, i + lanes)] for a in (0, half))
        for _ in range(_rounds(count, lanes)):
            pairs = zip(registers[: count // 2], registers[count // 2 :])
            registers = [shuffles(a, b, mask) for a, b in pairs for mask in (low, high)]
        pieces = [piece for register in registers for piece in shuffles.cut(register, width)]
        for p, piece in zip(_pieces(context, builder, store, values, lanes, count, width), pieces):
            shuffles.store(piece, p)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _prefetch(typing: Any, store: BufferType, at: Any) -> Any:
    """Have the cache line of a real brought to the second cache; beyond the end of the array that does nothing."""

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        word, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        to_read, nearness, data = (ir.Constant(word, k) for k in (0, 2, 1))
        pointer = builder.bitcast(memory_at(context, builder, store, values[0], values[1]), byte)
        builder.call(function, [pointer, to_read, nearness, data])
        return context.get_dummy_value()

    return types.void(store, types.intp), generate


#: untyped: type checkers see the typing functions in place of what compiled code calls
read_lanes: Any = _read
write_lanes: Any = _write
prefetch: Any = _prefetch


def _lanes(store: Any, packs: Any, places: Any) -> int:
    if len(places) not in (1, 2, 4, 8):
        raise refusal(DTypeError, f"reals are moved 1, 2, 4 or 8 at a time, got {len(places)}")
    if lanes_of(store.number) != 1:
        raise refusal(DTypeError, f"matrices in memory are single reals, got {store}")
    return lanes_of(packs.number)


def _places(context: Any, builder: Any, packs: BufferType, value: Any, places: Any) -> list[Any]:
    """Pointers to the numbers of a buffer."""
    return [memory_at(context, builder, packs, value, k) for k in cgutils.unpack_tuple(builder, places)]


def _scaled(context: Any, builder: Any, packs: BufferType, registers: list[Any], scale: Any, factors: Any) -> list[Any]:
    emitter = Emitter(context.typing_context, context, builder)
    parts = zip(scale.types, cgutils.unpack_tuple(builder, factors))
    even, odd, all_ = (emitter.wrap(t, x) for t, x in parts)
    numbers = (emitter.wrap(packs.number, x) for x in registers)
    return [emitter.unwrap(packs.number, x * (odd if e % 2 else even) * all_) for e, x in enumerate(numbers)]


def _rounds(count: int, lanes: int) -> int:
    """log2(count); none for one lane, where memory has the order of the packs."""
    return count.bit_length() - 1 if lanes > 1 else 0


def _index(k: int) -> ir.Constant:
    return ir.Constant(ir.IntType(64), k)


def _pieces(context: Any, builder: Any, store: Any, values: Any, lanes: int, count: int, width: int) -> list[Any]:
    """Pointers to the pieces of all matrices, `width` reals each."""
    base = memory_at(context, builder, store, values[0], values[1])
    starts = [builder.mul(values[2], _index(w)) for w in range(lanes)]
    return [
        builder.gep(base, [builder.add(start, _index(e))], inbounds=True)
        for start in starts
        for e in range(0, count, width)
    ]


class _Shuffles:
    """Loads, stores and permutations of registers; one lane is a plain real."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def __call__(self, a: Any, b: Any, places: list[int]) -> Any:
        """The reals at these places of a and b, b counted after a."""
        return self.builder.shuffle_vector(a, b, shuffle_places(places))

    def load(self, pointer: Any, width: int) -> Any:
        real = pointer.type.pointee
        if width > 1:
            pointer = self.builder.bitcast(pointer, ir.VectorType(real, width).as_pointer())
        return self.builder.load(pointer, align=_bytes(real))

    def store(self, x: Any, pointer: Any) -> None:
        real = pointer.type.pointee
        if isinstance(x.type, ir.VectorType):
            pointer = self.builder.bitcast(pointer, x.type.as_pointer())
        self.builder.store(x, pointer, align=_bytes(real))

    def joined(self, pieces: list[Any], width: int) -> list[Any]:
        """The same reals in pieces of `width`, a power of two at least as wide."""
        while _width(pieces[0]) < width:
            pieces = [self._pair(a, b) for a, b in zip(pieces[::2], pieces[1::2])]
        return pieces

    def _pair(self, a: Any, b: Any) -> Any:
        if isinstance(a.type, ir.VectorType):
            return self(a, b, list(range(2 * a.type.count)))
        pair = ir.Constant(ir.VectorType(a.type, 2), ir.Undefined)
        for k, x in enumerate((a, b)):
            pair = self.builder.insert_element(pair, x, ir.Constant(ir.IntType(32), k))
        return pair

    def cut(self, x: Any, width: int) -> list[Any]:
        """x in pieces of `width`."""
        if _width(x) == width:
            return [x]
        if width == 1:
            return [self.builder.extract_element(x, ir.Constant(ir.IntType(32), k)) for k in range(_width(x))]
        return [self(x, x, list(range(k, k + width))) for k in range(0, _width(x), width)]


def _width(x: Any) -> int:
    return x.type.count if isinstance(x.type, ir.VectorType) else 1


def _bytes(real: Any) -> int:
    return 4 if isinstance(real, ir.FloatType) else 8
