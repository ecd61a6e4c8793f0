"""Forward mode: `DualArray`, a value with its partial derivatives along N directions."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from .dual import Dual
from .errors import DTypeError, MissingRuleError, ShapeError
from .rules.levels import check_open, innermost, within
from .rules.registry import Operands, Rule, Tracer, as_inexact, of_dtype, primal, spread
from .rules.structural import VIEWS, axes_in_memory, behind_directions, in_slot, plain_index, set_item
from .structure import tuple_like

# Who else knows the memory of an array.
# OWN: nobody. VIEWED: a view, what it looks into, or someone who asked for the partials, who must see each other's
# writes; never lent. LENT: several arrays, as if each had a copy (x + 1 has the partials of x); it is copied before
# anything is written there, or a view taken that would have to see what is written later.
OWN, VIEWED, LENT = range(3)


class DualArray(Tracer):
    """An array with its partial derivatives along N directions.

    value     shape S
    partials  shape (N,) + S: partials[k] is the derivative of value along direction k

    NumPy's functions and operators carry the partials along; comparisons look at the value. `tag` is the run-time id of
    the derivative the partials belong to, 0 for arrays made by hand. A value may itself be a DualArray (of a smaller
    tag): that is a second derivative.

    Raises ShapeError where the shapes do not fit, DTypeError for numbers that carry no derivative.

    >>> import numpy as np, dualsvd as ds
    >>> x = ds.DualArray(np.array([1.0, 2.0]), np.eye(2))
    >>> np.sum(x * x)
    DualArray(5.0, partials=[2. 4.])
    """

    __slots__ = ("_partials", "hold", "numba_type")
    _partials: Any  # the partials, which other arrays may share: what rules read, and never write to
    hold: int  # OWN, VIEWED or LENT
    numba_type: Any  # what Numba takes it for, remembered by `kernels.arrays`; None: to be found again

    def __init__(self, value: Any, partials: Any, tag: int = 0) -> None:
        value = as_inexact(value, "value")
        partials = as_inexact(partials, "partials")
        if np.shape(partials)[1:] != np.shape(value) or not np.ndim(partials):
            raise ShapeError(
                f"partials must have one leading axis, the directions, before the shape of the value: expected (N, "
                f"{', '.join(map(str, np.shape(value)))}), got {np.shape(partials)}"
            )
        if np.iscomplexobj(partials) and not np.iscomplexobj(value):
            raise DTypeError("partials are complex but the value is real; give the value a complex dtype")
        check_open(tag)
        self.value, self._partials, self.tag, self.hold = value, of_dtype(partials, value.dtype), tag, VIEWED

    @classmethod
    def wrap(cls, value: Any, partials: Any, tag: int, hold: int = OWN) -> DualArray:
        """A DualArray of parts that are known to fit."""
        self = object.__new__(cls)
        self.value, self._partials, self.tag, self.hold = value, partials, tag, hold
        return self

    @classmethod
    def lent(cls, value: Any, partials: Any, tag: int) -> DualArray:
        """A DualArray of parts that belong to someone else, and are never written."""
        if isinstance(value, Tracer) or isinstance(partials, Tracer):
            return cls.wrap(value.copy("K"), laid_as(value, partials).copy("K"), tag, VIEWED)
        value, partials = value.view(), laid_as(value, partials)
        value.flags.writeable = False
        return cls.wrap(value, partials, tag, LENT)

    def settle(self) -> DualArray:
        """Stand on memory of its own."""
        if self.hold == LENT:
            self._partials = self._partials.copy("K")  # as it lies: what factorises it rounds as it would have
            if not self.value.flags.writeable:
                self.value = self.value.copy("K")
            self.hold = OWN
        return self

    def views(self, own: bool = False) -> DualArray:
        """Be ready for a view: never lend what it may write. If it is the `own` memory that a view looks into, it needs
        room for all that may be written there, numbers of an outer derivative among them."""
        self.settle().hold = VIEWED
        if own and isinstance(self.value, Tracer):
            self._replace(self.value, _roomy(self.value, self._partials))
        return self

    def _replace(self, value: Any, partials: Any) -> None:
        """Take other parts, which Numba may take for something else."""
        if value is not self.value or partials is not self._partials:
            self.value, self._partials, self.numba_type = value, partials, None

    @classmethod
    def from_number(cls, number: Dual) -> DualArray:
        """A Python `Dual` as a 0-d array."""
        value, *partials = (cls.from_number(p) if isinstance(p, Dual) else p for p in (number.value, *number.partials))
        return cls.wrap(as_inexact(value), np.stack([as_inexact(p) for p in partials]), number.tag)

    @property
    def partials(self) -> Any:
        """The partial derivatives. Whoever asks may write there, which only views of this array see, and what it is a
        view of; partials that are set anew are its own, and so is then its value."""
        return self.views()._partials

    @partials.setter
    def partials(self, partials: Any) -> None:
        if partials is self._partials:  # x.partials *= 2 has written there
            return
        given = DualArray(self.value, partials, self.tag)  # which checks them
        self._replace(np.copy(self.value), given._partials)
        self.hold = VIEWED

    @property
    def directions(self) -> int:
        """N, the number of directions carried."""
        return np.shape(self._partials)[0]

    def __repr__(self) -> str:
        gap = "\n" if self.ndim > 1 else " "
        tag = f", tag={self.tag}" if self.tag else ""
        return f"DualArray({self.value},{gap}partials={self._partials}{tag})"

    # -- what forward mode does with a rule

    @classmethod
    def apply(cls, rule: Rule, operands: Operands, params: dict[str, Any], tag: int) -> Any:
        level = check_open(tag)
        here = innermost.get()
        if level is not here and (level.partial or here.partial):  # its ties start it again, it alone, in any thread
            return within(level, cls.apply, rule, operands, params, tag)
        values: list[Any] = []
        tangents: list[Any] = []
        directions, plain, fresh = None, True, rule.fresh
        for operand in operands:
            if type(operand) is Dual:
                operand = cls.from_number(operand)
            tangent = None
            if type(operand) is cls and operand.tag == tag:
                if not fresh:
                    operand.views(rule in VIEWS)
                operand, tangent = operand.value, operand._partials
                if directions is None:
                    directions = len(tangent)
                elif directions != len(tangent):
                    raise ShapeError(
                        f"{rule.name} met arrays with {directions} and {len(tangent)} directions; "
                        "arrays that meet must carry the same directions"
                    )
            if plain and isinstance(operand, Tracer):
                plain = False
            values.append(operand)
            tangents.append(tangent)
        inputs, along = tuple(values), tuple(tangents)
        together = None if rule.jvp is None else rule.jvp(inputs, along, **params)
        if together is not None:
            y, dy = together
        else:
            y = rule.function(*values, **params) if plain else rule(*values, **params)
            dy = (rule.pushforward or _missing_pushforward(rule))(y, inputs, along, **params)
            if rule in VIEWS and not isinstance(primal(values[0]), np.ndarray):
                dy = np.copy(dy)  # a new array, made from a number
        if fresh:
            if dy is not None and (dy is tangents[0] or dy is tangents[-1]):
                return cls.borrow(y, dy, operands, directions, tag)
            return cls.carry(y, dy, directions, tag)
        if isinstance(y, tuple):
            outputs = [cls.carry(v, dv, directions, tag, VIEWED) for v, dv in zip(y, dy)]
            return tuple_like(y, outputs)
        return cls.carry(y, dy, directions, tag, VIEWED)

    @classmethod
    def borrow(cls, y: Any, dy: Any, operands: Operands, directions: int | None, tag: int) -> Any:
        """y with the partials of an operand, lent if they may be."""
        if _is_as_usual(y, dy, directions) and laid_as(y, dy) is dy:
            lenders = [x for x in operands if isinstance(x, DualArray) and x._partials is dy]
            if all(x.hold != VIEWED for x in lenders):
                for x in lenders:
                    x.hold = LENT
                return cls.wrap(y, dy, tag, LENT)
        return cls.carry(y, np.copy(dy), directions, tag)

    @classmethod
    def carry(cls, y: Any, dy: Any, directions: int | None, tag: int, hold: int = OWN) -> Any:
        """y with its partials dy, which a rule may leave still to be broadcast over the shape of y."""
        if dy is None:
            return y
        if not _is_as_usual(y, dy, directions):
            dy = spread(dy, y, directions)
        if hold != OWN and not isinstance(primal(y), np.ndarray):
            dy = np.copy(dy)  # of a number that was read: it does not see what is written later
        elif y.ndim > 1 and (hold == OWN or primal(y).base is None):  # no view
            dy = laid_as(y, dy)
        return cls.wrap(y, _roomy(y, dy) if isinstance(y, Tracer) else dy, tag, hold)

    # -- writing in place

    def __setitem__(self, index: Any, x: Any) -> None:
        check_open(self.tag)
        index = plain_index(index)
        if isinstance(x, Dual):
            x = DualArray.from_number(x)
        self.settle()
        rows = behind_directions(index, self.shape)
        if isinstance(x, DualArray) and x.tag == self.tag:
            if x.directions != self.directions:
                raise ShapeError(f"cannot write {x.directions} directions into an array of {self.directions}")
            value, partials = x.value, in_slot(x._partials, np.ndim(primal(self.value)[index]))
        elif isinstance(x, Tracer) and x.tag > self.tag:
            raise ShapeError(
                "cannot write a number of an inner derivative into an array of an outer one; "
                "make the array inside, with np.zeros_like of the inner variable"
            )
        else:
            value, partials = x, 0.0
        if not isinstance(primal(self.value), np.ndarray):
            self.value, self._partials = np.zeros_like(self.value) + value, np.zeros_like(self._partials) + partials
            return
        self._replace(_written(self.value, index, value), _written(self._partials, rows, partials))


def _written(x: Any, index: Any, v: Any) -> Any:
    """x with v at index: in place, or a new array where v is of an outer derivative and x plain."""
    if isinstance(v, Tracer) and not (isinstance(x, Tracer) and x.tag >= v.tag):
        if isinstance(x, np.ndarray) and x.base is not None:
            raise ShapeError(
                "cannot write a number of an outer derivative through a view of an inner array; write into that array"
            )
        return set_item(x, v, index=index)
    x[index] = v
    return x


def _roomy(y: Any, dy: Any) -> Any:
    """The partials of a traced y as an array of its level, so that what is written to y finds room there too."""
    room = dy.tag >= y.tag if isinstance(dy, Tracer) else not isinstance(dy, np.ndarray)  # tangents that do not exist
    return dy if room else dy + np.zeros_like(y, shape=(1,) * (y.ndim + 1))


def laid_as(y: Any, dy: Any) -> Any:
    """The partials of y with its layout in memory behind their directions: what is a view of one is a view of both."""
    v, dv = primal(y), primal(dy)
    if not (isinstance(v, np.ndarray) and isinstance(dv, np.ndarray)) or v.ndim < 2:
        return dy
    if dv.strides[1:] == v.strides or (v.flags.c_contiguous and dv.flags.c_contiguous):
        return dy
    axes = axes_in_memory(v)
    back = (0, *(1 + axes.index(k) for k in range(v.ndim)))
    return np.transpose(np.copy(np.transpose(dy, (0, *(1 + k for k in axes))), order="C"), back)


def _is_as_usual(y: Any, dy: Any, directions: int | None) -> bool:
    """Whether dy are the partials of y as nearly all rules leave them: plain, of its dtype and its shape."""
    return type(y) is type(dy) is np.ndarray and dy.shape == (directions, *y.shape) and dy.dtype == y.dtype


def _missing_pushforward(rule: Rule) -> NoReturn:
    raise MissingRuleError(
        f"{rule.name} has a pullback but no pushforward: use mode='reverse', or give custom_rule a pushforward"
    )
