"""Numbers that stand for compiled values: running a rule on them records LLVM instructions.

The rules of `dual` and `protocol` are plain Python. While Numba compiles a function they are run on

    Leaf      a real number, an integer, or a pack of reals: one LLVM value
    Complex   a real and an imaginary leaf
    Mask      a truth value, or one a lane of a pack
    Dual      the Python class itself, holding any of these

and what they do with + - * / is written down as instructions. Without a builder the same run finds the type of the
result. A new kind of number needs the arithmetic of its leaf, and inherits every rule.
"""

from __future__ import annotations

import cmath
import functools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, errors, types
from numba.core.cpu import CPUContext

from ..dual import Dual, Staged
from ..elementary import TABLE, polygamma
from ..errors import DTypeError
from .leaf_functions import NUMBA, OTHER_IN_NUMPY, OWN, OWN_COMPLEX, ROUNDED_ELSEWHERE, SUBSTITUTES, whole_power
from .number_types import (
    INTEGER,
    DualType,
    MaskType,
    PackType,
    RowsType,
    complex_type,
    is_complex_type,
    join,
    lane_type,
    precision,
    real_type,
    vector_of,
)


class Number(Staged):
    """What leaves and complex numbers share."""

    __slots__ = ()
    emitter: Emitter

    @property
    def precision(self) -> str:  # type: ignore[override]
        return f"float{precision(self.type)}"

    def __repr__(self) -> str:
        return str(self.type)  # in messages

    def function(self, name: str, arguments: tuple[Any, ...], slope: bool = False) -> Any:
        return self.emitter.function(name, arguments, slope)

    def __bool__(self) -> bool:
        raise TypeError("a rule decided on a number that is known only at run time; use where(mask, a, b)")

    def __pow__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, Dual) else self.emitter.function("power", (self, other))

    def __rpow__(self, other: Any) -> Any:
        return self.emitter.function("power", (other, self))


def _arithmetic(operation: Callable[..., Any], instruction: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def forward(a: Any, b: Any) -> Any:
        if isinstance(b, (complex, np.complexfloating)):
            return operation(Complex(a, a.imag), b)
        if not _is_real(b):
            return NotImplemented
        a, b = a.emitter.alike(a, b)
        return a.emitter.arithmetic(operation, instruction, a, b)

    def backward(a: Any, b: Any) -> Any:
        if isinstance(b, (complex, np.complexfloating)):
            return operation(a.emitter.convert(b, complex_type(a.type)), a)
        if not _is_real(b):
            return NotImplemented
        a, b = a.emitter.alike(a, b)
        return a.emitter.arithmetic(operation, instruction, b, a)

    return forward, backward


def _comparison(symbol: str) -> Callable[..., Any]:
    def compare(a: Any, b: Any) -> Any:
        if not _is_real(b):
            return NotImplemented
        a, b = a.emitter.alike(a, b)

        def record(builder: Any) -> Any:
            if isinstance(a.type, types.Integer):
                return builder.icmp_signed(symbol, a.value, b.value)
            return (builder.fcmp_unordered if symbol == "!=" else builder.fcmp_ordered)(symbol, a.value, b.value)

        return a.emitter.record_mask(a.type, record)

    return compare


class Leaf(Number):
    """A real number, an integer, or a pack of reals; `value` is None while only types are asked for. `tangent` tells
    what partials enter, see `Emitter.arithmetic`."""

    __slots__ = ("emitter", "tangent", "type", "value")
    is_complex = False

    def __init__(self, emitter: Emitter, type: types.Type, value: Any, tangent: bool = False) -> None:
        self.emitter, self.type, self.value, self.tangent = emitter, type, value, tangent

    @property
    def real(self) -> Leaf:
        return self

    @property
    def imag(self) -> Leaf:
        return self.like(0)

    def conjugate(self) -> Leaf:
        return self

    def like(self, constant: Any) -> Leaf:
        """A constant, or a number of another type, in the type of this one."""
        return self.emitter.convert(constant, self.type)

    __add__, __radd__ = _arithmetic(operator.add, "fadd")
    __sub__, __rsub__ = _arithmetic(operator.sub, "fsub")
    __mul__, __rmul__ = _arithmetic(operator.mul, "fmul")
    __truediv__, __rtruediv__ = _arithmetic(operator.truediv, "fdiv")
    __lt__, __le__ = _comparison("<"), _comparison("<=")
    __gt__, __ge__ = _comparison(">"), _comparison(">=")
    __eq__, __ne__ = _comparison("=="), _comparison("!=")
    __hash__ = None  # type: ignore[assignment]

    def __neg__(self) -> Leaf:
        return self.like(-0.0) - self  # libNVVM has no fneg

    def __pos__(self) -> Leaf:
        return self

    def __abs__(self) -> Leaf:
        if isinstance(self.type, types.Integer):
            return self.emitter.call(abs, self)
        return self.emitter.clear_sign(self)


class Complex(Number):
    """A complex number, or a pack of them, as two leaves."""

    __slots__ = ("im", "re")
    is_complex = True

    def __init__(self, re: Leaf, im: Leaf) -> None:
        self.re, self.im = re, im

    @property
    def emitter(self) -> Emitter:  # type: ignore[override]
        return self.re.emitter

    @property
    def type(self) -> types.Type:  # type: ignore[override]
        return complex_type(self.re.type)

    @property
    def real(self) -> Leaf:
        return self.re

    @property
    def imag(self) -> Leaf:
        return self.im

    def conjugate(self) -> Complex:
        return Complex(self.re, -self.im)

    def like(self, constant: Any) -> Complex:
        return self.emitter.convert(constant, self.type)

    def __neg__(self) -> Complex:
        return Complex(-self.re, -self.im)

    def __pos__(self) -> Complex:
        return self

    def _beside(self, other: Any) -> Any:
        """An operand as users' code meets it: a real one is complex there, as in Numba, and gives zeros their signs, by
        which roots and logarithms tell the sides of their cuts. Tangents pass no cut."""
        if not (_is_real(other) and self.emitter.promotes) or self.re.tangent or getattr(other, "tangent", False):
            return other
        _, re = self.emitter.alike(self.re, other)
        return Complex(re, re.imag)

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Dual):
            return NotImplemented
        other = self._beside(other)
        if _is_real(other):
            return Complex(self.re + other, self.im)
        return Complex(self.re + other.real, self.im + other.imag)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, Dual):
            return NotImplemented
        if _is_real(other):
            return Complex(self.re - other, self.im)  # im - 0 is im
        return Complex(self.re - other.real, self.im - other.imag)

    def __rsub__(self, other: Any) -> Any:
        other = self._beside(other)
        return -self + other if _is_real(other) else Complex(other.real - self.re, other.imag - self.im)

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Dual):
            return NotImplemented
        other = self._beside(other)
        if _is_real(other):
            return Complex(self.re * other, self.im * other)
        c, d = other.real, other.imag
        return Complex(self.re * c - self.im * d, self.re * d + self.im * c)

    __rmul__ = __mul__

    def plus_product(self, y: Any, z: Any) -> Complex:
        """self + y z."""
        re, im = self.re + y.real * z.real, self.im + y.real * z.imag
        return Complex(re - y.imag * z.imag, im + y.imag * z.real)

    def minus_product(self, y: Any, z: Any) -> Complex:
        """self - y z."""
        re, im = self.re - y.real * z.real, self.im - y.real * z.imag
        return Complex(re + y.imag * z.imag, im - y.imag * z.real)

    def __truediv__(self, other: Any) -> Any:
        if isinstance(other, Dual):
            return NotImplemented
        other = self._beside(other)
        if _is_real(other):
            return Complex(self.re / other, self.im / other)
        return _divide(*self.emitter.alike(self.re, self.im, other.real, other.imag))

    def __rtruediv__(self, other: Any) -> Any:
        return _divide(*self.emitter.alike(other.real, other.imag, self.re, self.im))

    def __eq__(self, other: Any) -> Any:
        other = self.like(other)
        return (self.re == other.re) & (self.im == other.im)

    def __ne__(self, other: Any) -> Any:
        other = self.like(other)
        return (self.re != other.re) | (self.im != other.im)

    __hash__ = None  # type: ignore[assignment]

    def _unordered(self, other: Any) -> Any:
        raise DTypeError("complex numbers have no order; compare their absolute values or real parts")

    __lt__ = __le__ = __gt__ = __ge__ = _unordered


def _is_real(x: Any) -> bool:
    return isinstance(x, (Leaf, Mask, int, float, np.floating, np.integer))


def _divide(a: Leaf, b: Leaf, c: Leaf, d: Leaf) -> Complex:
    """(a + ib)/(c + id) scaled by the larger of c and d (Smith 1962), as Python divides; branch-free, for packs."""
    swap = abs(c) < abs(d)
    large, small = swap.select(d, c), swap.select(c, d)
    ratio = small / large
    norm = large + small * ratio
    re = swap.select(b, a) + swap.select(a, b) * ratio
    im = swap.select(b * ratio - a, b - a * ratio)
    return Complex(re / norm, im / norm)


class Mask(Staged):
    """A truth value, or one a lane. `origin` is the type of the numbers compared, for constants chosen by the mask."""

    __slots__ = ("emitter", "origin", "value")

    def __init__(self, emitter: Emitter, origin: types.Type, value: Any) -> None:
        self.emitter, self.origin, self.value = emitter, origin, value

    @property
    def type(self) -> types.Type:  # type: ignore[override]
        return MaskType(self.origin.lanes) if isinstance(self.origin, PackType) else types.boolean

    def select(self, a: Any, b: Any) -> Any:
        numbers = [x for x in (a, b) if isinstance(x, Number)]
        t = functools.reduce(join, [x.type for x in numbers]) if numbers else self.origin
        if isinstance(t, types.Integer) and any(isinstance(x, float) for x in (a, b)):
            t = types.float64
        if isinstance(self.origin, PackType):
            t = join(real_type(self.origin.of(lane_type(t))), t)
        a, b = self.emitter.convert(a, t), self.emitter.convert(b, t)
        if isinstance(a, Complex):
            return Complex(self.select(a.re, b.re), self.select(a.im, b.im))
        return self.emitter.record(t, lambda builder: builder.select(self.value, a.value, b.value))

    def any_true(self) -> Mask:
        if not isinstance(self.origin, PackType):
            return self
        bits = ir.IntType(self.origin.lanes)
        return self.emitter.record_mask(
            self.origin.lane,
            lambda builder: builder.icmp_unsigned("!=", builder.bitcast(self.value, bits), ir.Constant(bits, 0)),
        )

    def __and__(self, other: Mask) -> Mask:
        return self.emitter.record_mask(self.origin, lambda builder: builder.and_(self.value, other.value))

    def __or__(self, other: Mask) -> Mask:
        return self.emitter.record_mask(self.origin, lambda builder: builder.or_(self.value, other.value))

    def __xor__(self, other: Mask) -> Mask:
        return self.emitter.record_mask(self.origin, lambda builder: builder.xor(self.value, other.value))

    def __invert__(self) -> Mask:
        return self.emitter.record_mask(self.origin, lambda builder: builder.not_(self.value))

    def __bool__(self) -> bool:
        raise TypeError("a rule branched on a mask that is known only at run time; use where(mask, a, b)")


def _numba_functions(name: str) -> list[Callable[..., Any]]:
    """The functions under which Numba may know a row of the table at real numbers, best first."""
    if name in NUMBA:
        return [NUMBA[name]]
    return [f for f in (getattr(math, TABLE[name].math or "", None), getattr(np, name, None)) if f]


def _has_avx512(context: Any) -> bool:
    """Whether compiled code of that context may use its registers; nobody knows while only types are asked for."""
    return isinstance(context, CPUContext) and "+avx512f" in context.codegen().magic_tuple()[2].split(",")


def shuffle_places(lanes: Iterable[int]) -> ir.Constant:
    """The lanes that a shuffle takes, as it wants them."""
    places = list(lanes)
    return ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)


class Emitter:
    """Records instructions into `builder`; without one it only finds types.

    `called`: the function that the compiled code calls. In the operator / users choose what 1/0 is (`error_model`).
    """

    def __init__(self, typing: Any, context: Any = None, builder: Any = None, called: Any = None) -> None:
        self.typing, self.context, self.builder, self.called = typing, context, builder, called
        self.checks_division = called in (operator.truediv, operator.itruediv)
        # Where flags are chosen, by users or for the kernels of this library, Numba sets them on instructions without
        # any, and zeros may have any sign: real times complex is two products there.
        self.fuses = self.promotes = isinstance(context, CPUContext) and not context.fastmath

    def record(self, t: types.Type, instructions: Callable[[Any], Any]) -> Leaf:
        return Leaf(self, t, None if self.builder is None else instructions(self.builder))

    def record_mask(self, origin: types.Type, instructions: Callable[[Any], Any]) -> Mask:
        return Mask(self, origin, None if self.builder is None else instructions(self.builder))

    # -- between Numba's values and numbers

    def wrap(self, t: Any, value: Any, tangent: bool = False) -> Any:
        """The number, or the tuple of them, that stands for a value of Numba's."""

        def part(index: int, *more: int) -> Any:
            return None if self.builder is None else self.builder.extract_value(value, (index, *more))

        if isinstance(t, types.BaseTuple):
            return tuple(self.wrap(x, part(i)) for i, x in enumerate(t.types))  # type: ignore[attr-defined]
        if isinstance(t, DualType):
            partials = [self.wrap(t.part, part(1, k), True) for k in range(t.count)]
            return Dual(self.wrap(t.part, part(0), tangent), partials, t.level)
        if isinstance(t, MaskType):
            return Mask(self, PackType(t.lanes), value)
        if isinstance(t, types.Boolean):
            return Mask(self, types.float64, value)
        if is_complex_type(t):
            plane = real_type(t)
            return Complex(Leaf(self, plane, part(0), tangent), Leaf(self, plane, part(1), tangent))
        return Leaf(self, types.unliteral(t), value, tangent)

    def unwrap(self, t: Any, x: Any) -> Any:
        """The value of Numba's type t that a number, or a tuple of numbers, stands for."""
        if isinstance(x, tuple):
            return self.context.make_tuple(self.builder, t, [self.unwrap(part, y) for part, y in zip(t.types, x)])
        x = self.convert(x, t)
        if isinstance(t, DualType):
            aggregate = cgutils.get_null_value(self.context.get_value_type(t))
            aggregate = self.builder.insert_value(aggregate, self.unwrap(t.part, x.value), 0)
            for k, p in enumerate(x.partials):
                aggregate = self.builder.insert_value(aggregate, self.unwrap(t.part, p), (1, k))
            return aggregate
        if isinstance(x, Complex):
            aggregate = cgutils.get_null_value(self.context.get_value_type(t))
            return self.builder.insert_value(self.builder.insert_value(aggregate, x.re.value, 0), x.im.value, 1)
        return x.value

    def typeof(self, x: Any) -> Any:
        """Numba's type of a number, or of a tuple of numbers."""
        if isinstance(x, tuple):
            return types.BaseTuple.from_types(tuple(map(self.typeof, x)))
        if isinstance(x, Dual):
            parts = functools.reduce(join, map(self.typeof, (x.value, *x.partials)))
            return DualType(parts, len(x.partials), x.tag)
        if isinstance(x, Staged):
            return x.type
        return {bool: types.boolean, int: INTEGER, float: types.float64, complex: types.complex128}[type(x)]

    def convert(self, x: Any, t: Any) -> Any:
        """x as a number of type t: a constant of a level has zero partials, a single number spreads over the lanes."""
        if isinstance(t, DualType):
            if isinstance(x, Dual) and self.typeof(x).place == t.place:
                return Dual(self.convert(x.value, t.part), [self.convert(p, t.part) for p in x.partials], t.level)
            return Dual(self.convert(x, t.part), [self.convert(0, t.part)] * t.count, t.level)
        if isinstance(t, (types.Boolean, MaskType)):
            return x if isinstance(x, Mask) else self.record_mask(types.float64, lambda _: cgutils.bool_t(int(x)))
        if is_complex_type(t):
            plane = real_type(t)
            return Complex(self.convert(x.real, plane), self.convert(x.imag, plane))
        if not isinstance(x, Staged):
            return self.record(t, lambda _: self._constant(t, x))
        if isinstance(x, Mask):
            x = self.record(types.int64, lambda builder: builder.zext(x.value, ir.IntType(64)))
        if x.type == t:
            return x
        if isinstance(t, PackType):
            if isinstance(x.type, PackType):
                raise DTypeError(f"a {x.type} meets a {t}: packs of one computation must have one width and precision")
            return self._spread(self.convert(x, t.lane), t)
        return self.record(t, lambda builder: self.context.cast(builder, x.value, x.type, t))

    def _constant(self, t: types.Type, x: Any) -> Any:
        if isinstance(t, PackType):
            return ir.Constant(vector_of(t), [ir.Constant(vector_of(t).element, float(x))] * t.lanes)
        return self.context.get_constant(t, int(x) if isinstance(t, types.Integer) else float(x))

    def _spread(self, x: Leaf, t: PackType) -> Leaf:
        def shuffle(builder: Any) -> Any:
            undefined = ir.Constant(vector_of(t), ir.Undefined)
            first = builder.insert_element(undefined, x.value, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(first, undefined, shuffle_places([0] * t.lanes))

        return self.record(t, shuffle)

    def alike(self, *xs: Any) -> list[Any]:
        """Reals and constants in the type that holds them all; a constant takes the type of the others."""
        xs = tuple(self.convert(x, INTEGER) if isinstance(x, Mask) else x for x in xs)
        t = functools.reduce(join, [x.type for x in xs if isinstance(x, Leaf)])
        if isinstance(t, types.Integer) and any(isinstance(x, (float, np.floating)) for x in xs):
            t = types.float64
        return [self.convert(x, t) for x in xs]

    # -- instructions

    def arithmetic(self, operation: Callable[..., Any], instruction: str, a: Leaf, b: Leaf) -> Leaf:
        """a op b at one type. Integers, and where it is checked the division of single values, are Numba's.

        Products and sums of tangents may be fused into one operation. Values may not, unless the user says so: with
        and without derivatives a function takes the same path to the last bit.
        """
        single, tangent = not isinstance(a.type, PackType), a.tangent or b.tangent
        checked = operation is operator.truediv and self.checks_division and single and not tangent
        if isinstance(a.type, types.Integer) or checked:
            result = self.call(operation, a, b)
        else:
            flags = ("contract",) if tangent and self.fuses else ()
            result = self.record(a.type, lambda builder: getattr(builder, instruction)(a.value, b.value, flags=flags))
        if tangent:
            result.tangent = True
        return result

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A function of Numba's at single numbers."""
        function_type = self.typing.resolve_value_type(function)
        found = self.typing.resolve_function_type(function_type, tuple(x.type for x in arguments), {})
        if self.builder is None:
            return self.wrap(found.return_type, None)
        implementation = self.context.get_function(function_type, found)
        values = [self.unwrap(t, x) for x, t in zip(arguments, found.args)]
        return self.wrap(found.return_type, implementation(self.builder, values))

    def clear_sign(self, x: Leaf) -> Leaf:
        """|x| by its bits: libNVVM refuses llvm.fabs, and x86 makes one `and` of it."""
        bits = precision(x.type)
        integer: ir.Type = ir.IntType(bits)
        mask: Any = 2 ** (bits - 1) - 1
        if isinstance(x.type, PackType):
            integer, mask = ir.VectorType(integer, x.type.lanes), [ir.Constant(integer, mask)] * x.type.lanes

        def record(builder: Any) -> Any:
            cleared = builder.and_(builder.bitcast(x.value, integer), ir.Constant(integer, mask))
            return builder.bitcast(cleared, x.value.type)

        return self.record(x.type, record)

    def intrinsic(self, name: str, x: Leaf) -> Leaf:
        """An LLVM intrinsic of one argument, at a single number or a pack."""

        def record(builder: Any) -> Any:
            t = x.value.type
            suffix = f"v{t.count}f{precision(x.type)}" if isinstance(t, ir.VectorType) else f"f{precision(x.type)}"
            declared = cgutils.get_or_insert_function(builder.module, ir.FunctionType(t, [t]), f"llvm.{name}.{suffix}")
            return builder.call(declared, [x.value])

        return self.record(x.type, record)

    def estimate(self, name: str, x: Leaf) -> Leaf | None:
        """1 / x ("rcp14") or 1 / sqrt(x) ("rsqrt14") to a relative 2^-14, by AVX-512, for a number or for a pack that
        fills registers; None otherwise."""
        single = 512 // precision(x.type)
        if (isinstance(x.type, PackType) and x.type.lanes % single) or not _has_avx512(self.context):
            return None

        def record_single(builder: Any) -> Any:
            word, byte = ir.IntType(32), ir.IntType(8)
            t = ir.VectorType(x.value.type, 128 // precision(x.type))
            kind, suffix = ir.FunctionType(t, [t, t, t, byte]), "sd" if single == 8 else "ss"
            f = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.avx512.{name}.{suffix}")
            rest = ir.Constant(t, ir.Undefined)
            full = builder.insert_element(rest, x.value, ir.Constant(word, 0))
            return builder.extract_element(
                builder.call(f, [full, full, rest, ir.Constant(byte, 1)]), ir.Constant(word, 0)
            )

        def record(builder: Any) -> Any:
            element = x.value.type.element
            t, mask = ir.VectorType(element, single), ir.IntType(single)
            kind, suffix = ir.FunctionType(t, [t, t, mask]), "pd" if single == 8 else "ps"
            f = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.avx512.{name}.{suffix}.512")
            parts = []
            for k in range(0, x.type.lanes, single):
                part = builder.shuffle_vector(x.value, x.value, shuffle_places(range(k, k + single)))
                parts.append(builder.call(f, [part, ir.Constant(t, ir.Undefined), ir.Constant(mask, -1)]))
            while len(parts) > 1:
                parts = [
                    builder.shuffle_vector(a, b, shuffle_places(range(2 * a.type.count)))
                    for a, b in zip(parts[::2], parts[1::2])
                ]
            return parts[0]

        return self.record(x.type, record if isinstance(x.type, PackType) else record_single)

    def raising(self, x: Leaf, height: Any) -> list[Leaf]:
        """`protocol.raising`, by the bits of the exponent."""
        bits = precision(x.type)
        digits, bias = (52, 1023) if bits == 64 else (23, 127)
        height = self.convert(height, INTEGER)

        def power(choose: Callable[..., Any]) -> Leaf:
            def record(builder: Any) -> Any:
                t: Any = ir.IntType(bits)
                up = height.value if bits == 64 else builder.trunc(height.value, t)
                if isinstance(x.type, PackType):
                    t = ir.VectorType(t, x.type.lanes)
                    up = builder.insert_element(ir.Constant(t, ir.Undefined), up, ir.Constant(ir.IntType(32), 0))
                    up = builder.shuffle_vector(up, up, shuffle_places([0] * x.type.lanes))

                def known(k: int) -> Any:
                    return ir.Constant(t, [k] * x.type.lanes if isinstance(x.type, PackType) else k)

                pattern = builder.bitcast(x.value, t)
                k = builder.sub(builder.add(up, known(bias - 1)), builder.lshr(pattern, known(digits)))
                k = builder.select(builder.icmp_signed("==", pattern, known(0)), known(0), k)
                half = builder.ashr(k, known(1))
                exponent = choose(builder, k, half, known(0))
                return builder.bitcast(builder.shl(builder.add(exponent, known(bias)), known(digits)), x.value.type)

            return self.record(x.type, record)

        return [
            power(lambda builder, k, half, zero: half),
            power(lambda builder, k, half, zero: builder.sub(k, half)),
            power(lambda builder, k, half, zero: builder.sub(half, k)),
            power(lambda builder, k, half, zero: builder.sub(zero, half)),
        ]

    def total(self, x: Any) -> Any:
        """The sum over the rows that a number stands for; any other number is its own."""
        if isinstance(x, Complex):
            return Complex(self.total(x.re), self.total(x.im))
        if not isinstance(x.type, RowsType):
            return x

        def record(builder: Any) -> Any:
            sum = x.value
            for half in (2**k for k in reversed(range(x.type.lanes.bit_length() - 1))):
                low, high = shuffle_places(range(half)), shuffle_places(range(half, 2 * half))
                sum = builder.fadd(builder.shuffle_vector(sum, sum, low), builder.shuffle_vector(sum, sum, high))
            return builder.extract_element(sum, ir.Constant(ir.IntType(32), 0))

        return self.record(x.type.lane, record)

    # -- functions of the table

    def function(self, name: str, arguments: Sequence[Any], slope: bool = False) -> Any:
        """The function of the row `name` at plain numbers; as part of a slope it raises no error."""
        xs = [self.convert(x, INTEGER) if isinstance(x, Mask) else x for x in arguments]
        whole = name == "power" and isinstance(self.typeof(xs[1]), types.Integer)
        if whole and (slope or isinstance(xs[0], Complex)):
            base = xs[0] if isinstance(xs[0], Complex) else self._inexact(xs[0])
            return self._lane_by_lane(self._power, name, [base, self.convert(xs[1], INTEGER)])
        if any(isinstance(x, (Complex, complex, np.complexfloating)) for x in xs):
            t = functools.reduce(join, [self.typeof(x) for x in xs])
            xs = [self.convert(x, t) for x in xs]
            if name in OWN_COMPLEX:
                return OWN_COMPLEX[name](*xs)
            return self._lane_by_lane(self._of_single_complex, name, xs)
        if whole and not self._as_called(name):
            return self._lane_by_lane(self._of_single_reals, name, [self._inexact(xs[0]), self.convert(xs[1], INTEGER)])
        xs = [self._inexact(x) for x in self.alike(*xs)]
        if name in OWN:
            return OWN[name](*xs)
        if name == "sqrt":
            return self.intrinsic("sqrt", xs[0])
        return self._lane_by_lane(self._of_single_reals, name, xs)

    def _inexact(self, x: Any) -> Leaf:
        return self.convert(x, types.float64) if isinstance(self.typeof(x), types.Integer) else x

    def _of_single_reals(self, name: str, xs: list[Any]) -> Any:
        if name == "polygamma":
            wide = [self.convert(x, types.float64) for x in xs]
            return self.convert(self._compiled(polygamma, types.float64, wide), xs[-1].type)
        on_cpu = self.context is None or isinstance(self.context, CPUContext)
        known = _numba_functions(name) if on_cpu or name not in ROUNDED_ELSEWHERE else []
        for function in self._as_called(name) + known:
            try:
                return self.call(function, *xs)
            except (errors.TypingError, KeyError):  # KeyError: a ufunc that numba-cuda has a type of, and no code
                continue
        if name in SUBSTITUTES:
            return SUBSTITUTES[name](*xs)
        raise DTypeError(f"np.{name} cannot be compiled at {', '.join(str(x.type) for x in xs)}")

    def _of_single_complex(self, name: str, xs: list[Any]) -> Any:
        of_numpy, of_cmath = getattr(np, name, None), getattr(cmath, TABLE[name].math or "", None)
        on_cpu = self.context is None or isinstance(self.context, CPUContext)
        others = [of_numpy, of_cmath] if on_cpu else [of_cmath, of_numpy]
        for function in filter(None, [NUMBA.get(name), *others]):
            try:
                return self.call(function, *xs)
            except errors.TypingError:
                continue
        raise DTypeError(f"np.{name} cannot be compiled at complex numbers")

    def _as_called(self, name: str) -> list[Callable[..., Any]]:
        """The function of NumPy's that is called, where Numba's operator of that row has other values."""
        on_cpu = isinstance(self.context, CPUContext)
        return [self.called] if on_cpu and name in OTHER_IN_NUMPY and self.called is getattr(np, name) else []

    def _power(self, name: str, xs: list[Any]) -> Any:
        """A whole power that raises no error."""
        x, n = xs
        power = self._compiled(whole_power, x.type, [x, x.like(1), abs(n)])
        return (n < 0).select(1 / power, power)

    def _compiled(self, function: Callable[..., Any], t: types.Type, xs: list[Any]) -> Any:
        """A Python function with a result of type t, compiled on the spot."""
        if self.builder is None:
            return self.wrap(t, None)
        values = [self.unwrap(x.type, x) for x in xs]
        found = t(*(x.type for x in xs))
        return self.wrap(t, self.context.compile_internal(self.builder, function, found, values))

    def _lane_by_lane(self, function: Callable[..., Any], name: str, xs: list[Any]) -> Any:
        pack = next((x.type for x in xs if isinstance(x.type, PackType)), None)
        if pack is None:
            return function(name, xs)
        return self._gather(pack, [function(name, [self._lane(x, k) for x in xs]) for k in range(pack.lanes)])

    def _lane(self, x: Any, k: int) -> Any:
        if isinstance(x, Complex):
            return Complex(self._lane(x.re, k), self._lane(x.im, k))
        if not isinstance(x.type, PackType):
            return x
        index = ir.Constant(ir.IntType(32), k)
        return self.record(x.type.lane, lambda builder: builder.extract_element(x.value, index))

    def _gather(self, pack: PackType, lanes: list[Any]) -> Any:
        if isinstance(lanes[0], Complex):
            return Complex(self._gather(pack, [x.re for x in lanes]), self._gather(pack, [x.im for x in lanes]))
        t = pack.of(lanes[0].type)

        def record(builder: Any) -> Any:
            vector = ir.Constant(vector_of(t), ir.Undefined)
            for k, x in enumerate(lanes):
                vector = builder.insert_element(vector, x.value, ir.Constant(ir.IntType(32), k))
            return vector

        return self.record(t, record)
