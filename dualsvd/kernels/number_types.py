"""The types of numbers that compiled code knows beside Numba's own: duals, packs, masks; and what holds two of them."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typeconv import Conversion
from numba.extending import models, register_model

from ..errors import ShapeError
from .caching import FINGERPRINT

INTEGER = types.int64
REAL = {32: types.float32, 64: types.float64}
COMPLEX = {32: types.complex64, 64: types.complex128}


class Versioned(types.Type):
    """A type of this library: what Numba has cached on disk holds the rules of its day, and is found only by them."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.rules = FINGERPRINT  # pickled with the type

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.name, self.rules)


class ScalarType(Versioned):
    """A number of this library: a dual or a pack."""


class DualType(ScalarType):
    """`Dual` with `count` partials, all parts of the type `part`; `level` orders nested derivatives as `tag` does."""

    def __init__(self, part: Any, count: int, level: int = 0) -> None:
        self.part, self.count, self.level = part, count, level
        super().__init__(f"Dual({part}, {count}, level={level})" if level else f"Dual({part}, {count})")

    @property
    def place(self) -> tuple[int, int]:
        """Where the outermost level stands among nested ones: its level, then how often that is nested in itself."""
        below = self.part.place if isinstance(self.part, DualType) else (-1, 0)
        return (self.level, 1 + below[1] if below[0] == self.level else 1)

    @property
    def bitwidth(self) -> int:
        return (1 + self.count) * self.part.bitwidth

    def can_convert_from(self, typingctx: Any, other: types.Type) -> Any:
        """A constant can be taken for a dual, but is none: code compiled for it must win over code for duals."""
        if not isinstance(other, (DualType, types.Number)):
            return None
        try:
            holds = join(self, other) == self
        except ShapeError:
            holds = False
        found = typingctx.can_convert(lane_type(other), lane_type(self)) if holds else None
        return None if found is None else max(found, Conversion.safe)

    def unify(self, typingctx: Any, other: types.Type) -> types.Type | None:
        return join(self, other) if isinstance(other, (DualType, types.Number)) else None


class PackType(ScalarType):
    """`lanes` numbers of one type in SIMD registers."""

    def __init__(self, lanes: int, lane: Any = types.float64) -> None:
        self.lanes, self.lane = lanes, lane
        super().__init__(f"Pack({lanes} x {lane})")

    def of(self, lane: Any) -> PackType:
        """As many numbers of another type."""
        return type(self)(self.lanes, lane)

    @property
    def bitwidth(self) -> int:
        return self.lanes * self.lane.bitwidth


class RowsType(PackType):
    """A pack whose lanes are rows of one column: what is said of the column is the `total` over its lanes."""

    def __init__(self, lanes: int, lane: Any = types.float64) -> None:
        super().__init__(lanes, lane)
        self.name = f"Rows({lanes} x {lane})"


class MaskType(Versioned):
    """One truth value a lane."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(f"Mask({lanes})")


@register_model(DualType)
class _DualModel(models.StructModel):
    def __init__(self, manager: Any, t: DualType) -> None:
        super().__init__(manager, t, [("value", t.part), ("partials", types.UniTuple(t.part, t.count))])


@register_model(PackType)
@register_model(RowsType)
class _PackModel(models.PrimitiveModel):
    def __init__(self, manager: Any, t: PackType) -> None:
        super().__init__(manager, t, vector_of(t))


@register_model(MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, t: MaskType) -> None:
        super().__init__(manager, t, ir.VectorType(ir.IntType(1), t.lanes))


def vector_of(t: PackType) -> ir.Type:
    plane = ir.VectorType(ir.FloatType() if precision(t) == 32 else ir.DoubleType(), t.lanes)
    return ir.LiteralStructType([plane, plane]) if is_complex_type(t) else plane


def leaf_type(t: types.Type) -> Any:
    """The type of the plain number inside all levels."""
    return leaf_type(t.part) if isinstance(t, DualType) else t


def levels_of(t: types.Type) -> tuple[tuple[int, int], ...]:
    """(partials, level) of each wrapper, the outermost first."""
    return ((t.count, t.level), *levels_of(t.part)) if isinstance(t, DualType) else ()


def size_of(t: types.Type) -> int:
    """How many plain numbers a number is made of."""
    return (1 + t.count) * size_of(t.part) if isinstance(t, DualType) else 1


def lane_type(t: types.Type) -> Any:
    """The type of a single number of a leaf."""
    t = leaf_type(t)
    return t.lane if isinstance(t, PackType) else t


def is_complex_type(t: types.Type) -> bool:
    return isinstance(lane_type(t), types.Complex)


def precision(t: types.Type) -> int:
    """Bits of the real numbers of a leaf, 32 or 64."""
    lane = lane_type(t)
    return lane.underlying_float.bitwidth if isinstance(lane, types.Complex) else lane.bitwidth


def real_type(t: types.Type) -> Any:
    """The leaf type of the real part."""
    if isinstance(t, PackType):
        return t.of(real_type(t.lane))
    return REAL[precision(t)] if isinstance(t, types.Complex) else t


def complex_type(t: types.Type) -> Any:
    """The leaf type whose real part has the type t."""
    return t.of(complex_type(t.lane)) if isinstance(t, PackType) else COMPLEX[precision(t)]


def join(a: Any, b: Any) -> Any:
    """The type that holds both: outer level of duals, packs over single numbers, complex over real, 64 bits over 32.

    An integer takes the precision of the other: 2*x keeps the type of x, as Python's integers do in NumPy.
    """
    if isinstance(a, DualType) and isinstance(b, DualType) and a.place == b.place:
        if a.count != b.count:
            raise ShapeError(
                f"two Duals of one level must have equally many partials, got {a.count} and {b.count}; "
                "seed both with the same number of directions"
            )
        return DualType(join(a.part, b.part), a.count, a.level)
    if isinstance(a, DualType) and not (isinstance(b, DualType) and b.place > a.place):
        return DualType(join(a.part, b), a.count, a.level)
    if isinstance(b, DualType):
        return DualType(join(a, b.part), b.count, b.level)
    packs = [t for t in (a, b) if isinstance(t, PackType)]
    if packs:
        return complex_type(real_type(packs[0])) if is_complex_type(a) or is_complex_type(b) else packs[0]
    inexact = [t for t in (a, b) if isinstance(t, (types.Float, types.Complex))]
    if not inexact:
        return INTEGER
    bits = max(map(precision, inexact))
    return (COMPLEX if any(map(is_complex_type, inexact)) else REAL)[bits]
