"""The scalar protocol in compiled code: `Dual`, SIMD packs, masks and buffers as Numba types.

Nothing of the arithmetic is written here: each operator and function is the Python rule itself, run on the numbers
of `staging` while Numba compiles. This module says which of Numba's calls run which rule, and how numbers cross
into Python and memory.

Importing it registers everything; Numba does so itself through the entry point `numba_extensions` (`register`).
Registration is by plain `numba.extending`, which serves numba-cuda too.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import math
import operator
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import impl_ret_borrowed, lower_constant
from numba.core.ir import Loc
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, CallableTemplate, infer_global, signature
from numba.extending import (
    NativeValue,
    box,
    infer_getattr,
    intrinsic,
    lower_builtin,
    lower_cast,
    lower_getattr,
    make_attribute_wrapper,
    models,
    overload,
    overload_method,
    register_model,
    typeof_impl,
    unbox,
)

from .. import dual as rules
from ..dual import Dual
from ..elementary import BY_NAME, Row
from ..errors import DTypeError, DualSVDError, MissingRuleError, TagError
from . import protocol
from .staging import (
    Complex,
    DualType,
    Emitter,
    Leaf,
    MaskType,
    PackType,
    ScalarType,
    Versioned,
    is_complex_type,
    join,
    lane_type,
    leaf_type,
    precision,
    real_type,
)

__all__ = ["Kind", "buffer", "components", "lanes", "leaf_kind", "register"]


def register() -> None:
    """Make Numba know these types; Numba calls it at its first compilation, through the entry point."""
    from . import arrays  # noqa: F401


# ---- staging: from Numba's calls to the rules

_PLAIN = (types.Number, types.Boolean)


def _is_scalar(t: types.Type) -> bool:
    return isinstance(t, ScalarType)


def _is_number(t: Any) -> bool:
    return isinstance(t, (ScalarType, MaskType, *_PLAIN))


def user_line() -> str:
    """'file:line: ' of the code that Numba is compiling, for messages; empty where Numba is not at work."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        location = getattr(frame.f_locals.get("self"), "loc", None)
        if isinstance(location, Loc):
            return f"{location.filename}:{location.line}: "
        frame = frame.f_back
    return ""


def refusal(error: type[Exception], message: str) -> Exception:
    """An error of this library about the code being compiled.

    Not one of Numba's own errors: those only say that a template does not match, and are buried among the others.
    """
    return error(f"{user_line()}{message}")


def stage(rule: Callable[..., Any], argument_types: tuple[types.Type, ...], typing: Any) -> types.Type:
    """The type of the result of a rule."""
    emitter = Emitter(typing)
    try:
        return emitter.typeof(rule(*(emitter.wrap(t, None) for t in argument_types)))
    except DualSVDError as error:
        raise refusal(type(error), str(error)) from None


def lower(rule: Callable[..., Any]) -> Callable[..., Any]:
    """The code generator of a rule."""

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        emitter = Emitter(context.typing_context, context, builder)
        result = rule(*(emitter.wrap(t, v) for t, v in zip(sig.args, values)))
        return emitter.unwrap(sig.return_type, result)

    return generate


def _fits(args: tuple[types.Type, ...], form: tuple[Any, ...]) -> bool:
    return len(args) == len(form) and all(t is types.Any or isinstance(a, t) for a, t in zip(args, form))


def compile_as(
    function: Callable[..., Any],
    rule: Callable[..., Any],
    *forms: tuple[Any, ...],
    accepts: Callable[..., bool] = lambda *ts: any(map(_is_scalar, ts)),
) -> None:
    """Let Numba compile calls of `function` by running `rule`, at argument types of one of the `forms`."""

    class Template(AbstractTemplate):
        key = function

        def generic(self, args: tuple[types.Type, ...], kws: dict[str, types.Type]) -> Any:
            args = tuple(map(types.unliteral, args))
            if kws or not any(_fits(args, form) for form in forms) or not accepts(*args):
                return None
            return signature(stage(rule, args, self.context), *args)

    infer_global(function)(Template)
    for form in forms:
        lower_builtin(function, *form)(lower(rule))


def arity(function: Callable[..., Any]) -> int:
    """How many arguments a Python function takes."""
    return len(inspect.signature(function).parameters)


def _forms(arity: int) -> list[tuple[type[types.Type], ...]]:
    """The argument types of a function of numbers of which at least one is a scalar of this library."""
    mixed = itertools.product((ScalarType, types.Number, types.Boolean), repeat=arity)
    return [form for form in mixed if ScalarType in form]


def _register_operators() -> None:
    for name in ("add", "sub", "mul", "truediv", "pow", "mod", "floordiv"):
        compile_as(getattr(operator, name), getattr(operator, name), *_forms(2))
        compile_as(getattr(operator, "i" + name), getattr(operator, name), *_forms(2))
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):
        compile_as(getattr(operator, name), getattr(operator, name), *_forms(2))
    for name in ("neg", "pos"):
        compile_as(getattr(operator, name), getattr(operator, name), *_forms(1))
    compile_as(abs, abs, *_forms(1))
    compile_as(pow, operator.pow, *_forms(2))
    compile_as(bool, lambda x: rules.primal(x) != 0, *_forms(1))
    compile_as(operator.not_, lambda x: rules.primal(x) == 0, *_forms(1))
    for arity in (2, 3, 4):
        compile_as(max, lambda *xs: functools.reduce(lambda a, b: rules.where(b > a, b, a), xs), *_forms(arity))
        compile_as(min, lambda *xs: functools.reduce(lambda a, b: rules.where(b < a, b, a), xs), *_forms(arity))
    for name in ("and_", "or_", "xor"):
        compile_as(getattr(operator, name), getattr(operator, name), (MaskType, MaskType), accepts=operator.eq)


def _register_table() -> None:
    """Every function of the table by its names in NumPy and in `math`, and what NumPy has beside it."""
    names: dict[Any, Row] = {
        function: row
        for name, row in BY_NAME.items()
        for function in (getattr(np, name, None), getattr(math, row.math or "", None))
        if function is not None
    }
    for function, row in names.items():
        compile_as(function, rules.functions[row.name], *_forms(row.arity))
    for name, decide in _DECISIONS.items():
        compile_as(getattr(np, name), decide, *_forms(1))
        compile_as(getattr(math, name), decide, *_forms(1))
    compile_as(np.real, rules.real, *_forms(1))
    compile_as(np.imag, rules.imag, *_forms(1))
    compile_as(np.conjugate, rules.conj, *_forms(1))
    compile_as(np.clip, rules.clip, *_forms(3))
    compile_as(np.where, rules.where, *((types.Boolean, *form) for form in _forms(2)))


_DECISIONS: dict[str, Callable[..., Any]] = {
    "isnan": lambda x: rules.primal(x) != rules.primal(x),
    "isinf": lambda x: abs(rules.primal(x)) == math.inf,
    "isfinite": lambda x: abs(rules.primal(x)) < math.inf,
}


def _partial(x: Any, k: Any) -> Any:
    if not isinstance(x, Dual) or not x.partials:
        return protocol.like(x, 0.0)
    return functools.reduce(
        lambda chosen, i: rules.where(k == i, x.partials[i], chosen), range(len(x.partials)), x.partials[0]
    )


def _register_protocol() -> None:
    """The functions of `protocol`, at plain numbers too: one kernel text serves float64 and Dual."""
    functions = {name: getattr(protocol, name) for name in protocol.__all__ if name != "Buffer"}
    staged = functions | {"partial": _partial}
    for name, function in functions.items():
        form = (types.Any,) * arity(function)
        compile_as(function, staged[name], form, accepts=lambda *ts: all(map(_is_number, ts)))


# ---- Dual in compiled code: construction, attributes, casts


def dual_type(value: types.Type, partials: tuple[types.Type, ...]) -> DualType:
    """The type of Dual(value, partials): all parts in the type that holds them all."""
    part = functools.reduce(join, partials, value)
    if isinstance(part, DualType) and part.level:
        raise refusal(
            TagError,
            f"a Dual made by hand cannot hold {part}, a number of the derivative being computed: the two levels could "
            "not be told apart; use dualsvd.derivative outside the compiled function instead",
        )
    return DualType(types.float64 if isinstance(part, types.Integer) else part, len(partials))


@infer_global(Dual)
class _DualCall(CallableTemplate):
    key = Dual

    def generic(self) -> Any:
        def typer(value: Any, partials: Any) -> Any:
            if not isinstance(partials, (types.UniTuple, types.Tuple)):
                raise refusal(
                    DTypeError,
                    f"Dual(value, partials) takes a tuple of partials, got {partials}; write (p,) for a single one",
                )
            if all(map(_is_number, (value, *partials.types))):
                return dual_type(types.unliteral(value), tuple(map(types.unliteral, partials.types)))
            raise refusal(DTypeError, f"the parts of a Dual are numbers, got {value} and {partials}")

        return typer


@lower_builtin(Dual, types.Any, types.BaseTuple)
def _make_dual(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    emitter = Emitter(context.typing_context, context, builder)
    value = emitter.wrap(sig.args[0], values[0])
    elements = cgutils.unpack_tuple(builder, values[1])
    partials = [emitter.wrap(t, x) for t, x in zip(sig.args[1].types, elements)]
    t = sig.return_type
    # not as an operand: a plain value beside dual partials belongs to the level of the whole
    whole = Dual(emitter.convert(value, t.part), [emitter.convert(p, t.part) for p in partials], t.level)
    return emitter.unwrap(t, whole)


make_attribute_wrapper(DualType, "value", "value")
make_attribute_wrapper(DualType, "partials", "partials")


@infer_getattr
class _DualAttributes(AttributeTemplate):
    key = DualType

    def resolve_real(self, t: DualType) -> types.Type:
        return stage(rules.real, (t,), self.context)

    def resolve_imag(self, t: DualType) -> types.Type:
        return stage(rules.imag, (t,), self.context)


@lower_getattr(DualType, "real")
def _real(context: Any, builder: Any, t: DualType, value: Any) -> Any:
    sig = signature(stage(rules.real, (t,), context.typing_context), t)
    return lower(rules.real)(context, builder, sig, (value,))


@lower_getattr(DualType, "imag")
def _imag(context: Any, builder: Any, t: DualType, value: Any) -> Any:
    sig = signature(stage(rules.imag, (t,), context.typing_context), t)
    return lower(rules.imag)(context, builder, sig, (value,))


@overload_method(DualType, "conjugate")
def _conjugate(x):
    return lambda x: np.conjugate(x)


@lower_cast(types.Number, DualType)
@lower_cast(DualType, DualType)
def _cast(context: Any, builder: Any, source: types.Type, target: types.Type, value: Any) -> Any:
    emitter = Emitter(context.typing_context, context, builder)
    return emitter.unwrap(target, emitter.wrap(source, value))


def _refuse(function: Callable[..., Any], advice: Callable[..., str | None]) -> None:
    class Template(AbstractTemplate):
        key = function

        def generic(self, args: tuple[types.Type, ...], kws: dict[str, types.Type]) -> None:
            message = advice(*args)
            if message:
                raise refusal(MissingRuleError, message)

    infer_global(function)(Template)


def _no_cast(t: types.Type, *_: types.Type) -> str | None:
    if isinstance(t, DualType):
        return f"{t} cannot be cast to a plain number without losing its derivative; take .value to drop it on purpose"
    return None


def _no_plain_store(target: types.Type, index: types.Type, x: types.Type) -> str | None:
    if isinstance(target, types.Array) and not isinstance(target.dtype, DualType) and isinstance(x, DualType):
        advice = "make it by np.zeros_like(x) of a DualArray x, which holds derivatives, not by np.zeros"
        return f"{target} cannot hold {x}: {advice}"
    return None


# ---- Dual across the border to Python


_TYPES: dict[Any, DualType] = {}


def type_of(x: Dual) -> DualType:
    """Numba's type of a Python Dual."""
    level = importlib.import_module("dualsvd.rules.registry").depth_of(x.tag) if x.tag else 0
    parts = (x.value, *x.partials)
    signature = (level, *map(type, parts))
    if signature not in _TYPES or Dual in signature:
        part = functools.reduce(join, (type_of(p) if isinstance(p, Dual) else numba.typeof(p) for p in parts))
        part = types.float64 if isinstance(part, types.Integer) else part
        _TYPES[signature] = DualType(part, len(x.partials), level)
    return _TYPES[signature]


@typeof_impl.register(Dual)
def _typeof_dual(x: Dual, context: Any) -> DualType:
    return type_of(x)


def _levels(t: types.Type) -> tuple[tuple[int, int], ...]:
    """(partials, level) of each wrapper, the outermost first."""
    return ((t.count, t.level), *_levels(t.part)) if isinstance(t, DualType) else ()


def _tag_at(level: int) -> int:
    return importlib.import_module("dualsvd.rules.registry").tag_at(level) if level else 0


def leaves(x: Any, levels: tuple[tuple[int, int], ...]) -> tuple[Any, ...]:
    """The plain numbers in x, in the order of memory; x may be a constant for some of the levels."""
    if not levels:
        return (x,)
    (count, level), inner = levels[0], levels[1:]
    nested_in_itself = sum(other == level for _, other in levels)
    tag = _tag_at(level)
    carries = getattr(x, "tag", None) == tag and (not isinstance(x, Dual) or rules.depth(x, tag) == nested_in_itself)
    parts = (x.value, *x.partials) if carries else (x, *(0.0,) * count)
    return tuple(leaf for part in parts for leaf in leaves(part, inner))


def assemble(numbers: tuple[Any, ...], levels: tuple[tuple[int, int], ...], dtype: str) -> Any:
    """The inverse of `leaves`: a Dual, or a DualArray without axes for a number of a running derivative."""

    def build(part: tuple[Any, ...], levels: tuple[tuple[int, int], ...]) -> Any:
        if not levels:
            return np.dtype(dtype).type(part[0]) if dtype in ("float32", "complex64") else part[0]
        (count, level), inner = levels[0], levels[1:]
        size = len(part) // (1 + count)
        value, *partials = (build(part[k * size : (k + 1) * size], inner) for k in range(1 + count))
        return Dual(value, partials, _tag_at(level))

    number = build(numbers, levels)
    return importlib.import_module("dualsvd.forward").DualArray.from_number(number) if levels[0][1] else number


@unbox(DualType)
def _unbox_dual(t: DualType, x: Any, c: Any) -> NativeValue:
    leaf = leaf_type(t)
    if isinstance(t.part, DualType):
        callee, levels = (c.pyapi.unserialize(c.pyapi.serialize_object(known)) for known in (leaves, _levels(t)))
        parts = c.pyapi.call_function_objargs(callee, (x, levels))
        numbers = c.unbox(types.UniTuple(leaf, _size(t)), parts).value
        for owned in (callee, levels, parts):
            c.pyapi.decref(owned)
        emitter = Emitter(c.context.typing_context, c.context, c.builder)
        flat = iter([emitter.wrap(leaf, n) for n in cgutils.unpack_tuple(c.builder, numbers)])
        value = emitter.unwrap(t, _fold(t, flat))
    else:
        aggregate = cgutils.create_struct_proxy(t)(c.context, c.builder)
        first = c.pyapi.object_getattr_string(x, "value")
        rest = c.pyapi.object_getattr_string(x, "partials")
        sequence = c.pyapi.sequence_tuple(rest)
        aggregate.value = c.unbox(leaf, first).value
        aggregate.partials = c.unbox(types.UniTuple(leaf, t.count), sequence).value
        for owned in (first, rest, sequence):
            c.pyapi.decref(owned)
        value = aggregate._getvalue()
    return NativeValue(value, is_error=cgutils.is_not_null(c.builder, c.pyapi.err_occurred()))


@box(DualType)
def _box_dual(t: DualType, value: Any, c: Any) -> Any:
    leaf = leaf_type(t)
    numbers = cgutils.pack_array(c.builder, _flatten(c.builder, t, value), c.context.get_value_type(leaf))
    flat = c.box(types.UniTuple(leaf, _size(t)), numbers)
    callee, *rest = (c.env_manager.read_const(c.env_manager.add_const(x)) for x in (assemble, _levels(t), str(leaf)))
    result = c.pyapi.call_function_objargs(callee, (flat, *rest))
    c.pyapi.decref(flat)
    return result


def _size(t: types.Type) -> int:
    return (1 + t.count) * _size(t.part) if isinstance(t, DualType) else 1


def _fold(t: types.Type, numbers: Any) -> Any:
    if not isinstance(t, DualType):
        return next(numbers)
    value, *partials = (_fold(t.part, numbers) for _ in range(1 + t.count))
    return Dual(value, partials, t.level)


def _flatten(builder: Any, t: types.Type, value: Any) -> list[Any]:
    if not isinstance(t, DualType):
        return [value]
    parts = [builder.extract_value(value, 0), *(builder.extract_value(value, (1, k)) for k in range(t.count))]
    return [leaf for part in parts for leaf in _flatten(builder, t.part, part)]


# ---- buffers: scalars in a flat array of reals


class Kind:
    """A type of number, to pass to a kernel: it is compiled once for each.

    dtype     type of the leaves
    partials  number of partials of each level of derivatives, the innermost first
    lanes     numbers side by side in a SIMD register

    >>> Kind("float64", partials=(4,), lanes=8)
    Kind(Dual(Pack(8 x float64), 4))
    """

    __slots__ = ("numba_type", "number")

    def __init__(self, dtype: Any, partials: tuple[int, ...] = (), lanes: int = 1) -> None:
        number: types.Type = numba.from_dtype(np.dtype(dtype))
        if lanes > 1:
            number = PackType(lanes, number)
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


register_model(KindType)(models.OpaqueModel)


@register_model(BufferType)
class _BufferModel(models.StructModel):
    def __init__(self, manager: Any, t: BufferType) -> None:
        super().__init__(manager, t, [("array", t.array)])


@typeof_impl.register(Kind)
def _typeof_kind(kind: Kind, context: Any) -> KindType:
    return kind.numba_type


@unbox(KindType)
def _unbox_kind(t: KindType, x: Any, c: Any) -> NativeValue:
    return NativeValue(c.context.get_dummy_value())


@lower_constant(KindType)
def _constant_kind(context: Any, builder: Any, t: KindType, x: Any) -> Any:
    return context.get_dummy_value()


def lanes_of(number: types.Type) -> int:
    leaf = leaf_type(number)
    return leaf.lanes if isinstance(leaf, PackType) else 1


def components_of(number: types.Type) -> int:
    return _size(number) * (2 if is_complex_type(number) else 1)


def lanes(kind: Kind) -> int:
    """How many numbers of that kind stand side by side."""
    return lanes_of(kind.number)


def components(kind: Kind) -> int:
    """Reals in one lane of a number: value, partials, imaginary parts."""
    return components_of(kind.number)


def leaf_kind(kind: Kind) -> Kind:
    """The kind of the primal."""
    return Kind.of(leaf_type(kind.number))


@overload(lanes)
def _lanes(kind):
    count = lanes_of(kind.number)
    return lambda kind: count


@overload(components)
def _components(kind):
    count = components_of(kind.number)
    return lambda kind: count


@intrinsic
def _leaf_kind(typing: Any, kind: KindType) -> Any:
    return KindType(leaf_type(kind.number))(kind), lambda context, builder, sig, values: context.get_dummy_value()


@overload(leaf_kind)
def _overload_leaf_kind(kind):
    return lambda kind: _leaf_kind(kind)  # type: ignore[call-arg]


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
        return _fold(self.number, numbers)

    def __setitem__(self, k: int, x: Any) -> None:
        size = components_of(self.number)
        parts = leaves(x, _levels(self.number))
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
    """Loads and stores of numbers by a pointer to reals."""

    def __init__(self, emitter: Emitter, number: types.Type, pointer: Any) -> None:
        self.emitter, self.pointer = emitter, pointer
        self.plane = real_type(leaf_type(number))
        self.position = 0

    def _next(self) -> Any:
        builder = self.emitter.builder
        offset = ir.Constant(ir.IntType(64), self.position)
        self.position += lanes_of(self.plane)
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


def _memory(context: Any, builder: Any, t: BufferType, value: Any, k: Any) -> _Memory:
    array = context.make_array(t.array)(context, builder, builder.extract_value(value, 0))
    real = context.get_value_type(real_type(lane_type(t.number)))
    stride = ir.Constant(k.type, components_of(t.number) * lanes_of(t.number))
    start = builder.gep(builder.bitcast(array.data, real.as_pointer()), [builder.mul(k, stride)], inbounds=True)
    return _Memory(Emitter(context.typing_context, context, builder), t.number, start)


@intrinsic
def _load(typing: Any, store: BufferType, k: types.Integer) -> Any:
    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        memory = _memory(context, builder, store, *values)
        return memory.emitter.unwrap(store.number, memory.load(store.number))

    return store.number(store, types.intp), generate


@intrinsic
def _store(typing: Any, store: BufferType, k: types.Integer, x: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        memory = _memory(context, builder, store, *values[:2])
        number = memory.emitter.wrap(sig.args[2], values[2])
        memory.store(store.number, memory.emitter.convert(number, store.number))
        return context.get_dummy_value()

    return types.void(store, types.intp, types.unliteral(x)), generate


@overload(operator.getitem)
def _getitem(store, k):
    if isinstance(store, BufferType) and isinstance(k, types.Integer):
        return lambda store, k: _load(store, k)  # type: ignore[call-arg]
    return None


@overload(operator.setitem)
def _setitem(store, k, x):
    if isinstance(store, BufferType) and isinstance(k, types.Integer) and _is_number(x):
        return lambda store, k, x: _store(store, k, x)  # type: ignore[call-arg]
    return None


_register_operators()
_register_table()
_register_protocol()
_refuse(float, _no_cast)
_refuse(int, _no_cast)
_refuse(complex, _no_cast)
_refuse(operator.setitem, _no_plain_store)
