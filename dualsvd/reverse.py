"""Reverse mode: `TapeArray`, an array that remembers how it was made.

A tape is data: a list of nodes, each a rule with the operands it met and the output it gave. Two interpreters read it:
`pull` walks it backwards with cotangents, `push` walks it forwards with tangents.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import DualSVDError, MissingRuleError
from .rules.elementwise import ELEMENTWISE
from .rules.levels import check_open
from .rules.registry import Operands, Rule, Tracer, fit, primal, spread
from .rules.structural import VIEWS, get_item, plain_index, reshape, set_item, transpose
from .structure import tuple_like

Slot = tuple[int, int | None]  # where a traced value lives: its node, and which of the node's outputs (None: the one)


#: Bytes of a constant up to which it is copied; beyond, that would cost as much as what is done with it.
COPIED = 1 << 17
#: Rules that do not look at their operands again: constants among them need not be kept.
SUMS = (ELEMENTWISE["add"], ELEMENTWISE["subtract"])


def _sample(x: np.ndarray) -> bytes:
    """Some elements of an array, evenly spread, bit by bit."""
    return x.flat[:: max(1, x.size // 64)].tobytes()


def _may_be_written(x: Any) -> bool:
    """Whether an array, or one that it is a view of, can be written to."""
    while isinstance(x, np.ndarray):
        if x.flags.writeable:
            return True
        x = x.base
    return False


def _shares_memory(y: Any, x: Any) -> bool:
    """Whether y is an array in the memory of x, not a number that was read there."""
    return isinstance(y, np.ndarray) and np.may_share_memory(y, x)


@dataclasses.dataclass(slots=True)
class Node:
    """One line of the tape: output = rule(*operands, **params), and where each traced operand came from."""

    rule: Rule | None  # None for an input
    operands: Operands
    params: dict[str, Any]
    output: Any
    parents: tuple[Slot | None, ...]


class Tape:
    """What one level of reverse mode recorded."""

    __slots__ = ("constants", "nodes", "tag", "writing")

    def __init__(self, tag: int) -> None:
        self.tag, self.nodes = tag, list[Node]()
        self.constants: dict[int, tuple[np.ndarray, bytes]] = {}  # large ones, and what some elements of them were
        self.writing = threading.RLock()  # one write in place after the other: threads may share an array's elements

    def input(self, value: Any) -> TapeArray:
        """A variable to differentiate by."""
        self.nodes.append(Node(None, (), {}, value, ()))
        return TapeArray(value, self, (len(self.nodes) - 1, None))

    def keep(self, x: Any) -> Any:
        """A constant as it is now, for whoever owns it may overwrite it while the tape lives: a copy, or a large array
        itself, of which it is told then that it was overwritten."""
        if type(x) in (tuple, list):
            return type(x)(map(self.keep, x))
        if type(x) is not np.ndarray or not _may_be_written(x):
            return x
        if x.nbytes <= COPIED:
            return x.copy("K")
        self.constants.setdefault(id(x), (x, _sample(x)))
        return x

    def check_constants(self) -> None:
        """Raise where a large constant is not what it was."""
        for x, sample in self.constants.values():
            if _sample(x) != sample:
                raise DualSVDError(
                    f"an array of shape {x.shape} and {x.nbytes} bytes was overwritten after it had been combined with "
                    "a traced array, and is needed to differentiate in reverse; give that operation a copy of it"
                )

    def record(self, rule: Rule, operands: Operands, params: dict[str, Any], parents: tuple[Slot | None, ...]) -> Any:
        """Evaluate a rule on the values one level down, and write it on the tape."""
        y = rule(*operands, **params)
        self.nodes.append(line := Node(rule, operands, params, y, parents))
        node = len(self.nodes) - 1
        while self.nodes[node] is not line:  # other threads have written on since
            node -= 1
        if isinstance(y, tuple):
            outputs = [TapeArray(v, self, (node, k)) for k, v in enumerate(y)]
            return tuple_like(y, outputs)
        return TapeArray(y, self, (node, None))

    def pull(self, seeds: list[tuple[Slot, Any]], inputs: list[Slot], cut: int | None = None) -> list[Any]:
        """The cotangents of `inputs`, given cotangents of some outputs; None where no path leads to an input. The node
        `cut` counts as an input."""
        self.check_constants()
        bars: dict[int, Any] = {}
        for (seeded, k), y_bar in seeds:
            self._accumulate(bars, seeded, k, y_bar)
        for i in range(max(bars, default=-1), -1, -1):
            node = self.nodes[i]
            if i not in bars or node.rule is None or i == cut:
                continue
            if node.rule.pullback is None:
                raise MissingRuleError(
                    f"{node.rule.name} has a pushforward but no pullback: "
                    "use mode='forward', or give custom_rule a pullback"
                )
            cotangents = node.rule.pullback(bars.pop(i), node.output, node.operands, **node.params)
            for parent, x_bar, x in zip(node.parents, cotangents, node.operands):
                if parent is None or x_bar is None:
                    continue
                self._accumulate(bars, *parent, fit(x_bar() if callable(x_bar) else x_bar, x))
        return [bars.get(i) for i, _ in inputs]

    def _accumulate(self, bars: dict[int, Any], node: int, k: int | None, y_bar: Any) -> None:
        if k is None:
            bars[node] = y_bar if node not in bars else bars[node] + y_bar
            return
        parts = list(bars.get(node) or [None] * len(self.nodes[node].output))
        parts[k] = y_bar if parts[k] is None else parts[k] + y_bar
        bars[node] = tuple(parts)

    def push(self, tangents: dict[int, Any], outputs: list[Slot]) -> list[Any]:
        """The tangents of `outputs` along those of some inputs (each with its leading axis); None stands for zero."""
        self.check_constants()
        dots: dict[int, Any] = dict(tangents)
        directions = next((len(v) for v in tangents.values()), None)

        def dot(slot: Slot | None) -> Any:
            if slot is None or slot[0] not in dots:
                return None
            whole = dots[slot[0]]
            return whole if slot[1] is None else whole[slot[1]]

        for i, node in enumerate(self.nodes):
            incoming = tuple(dot(parent) for parent in node.parents)
            if node.rule is None or all(t is None for t in incoming):
                continue
            if node.rule.pushforward is None:
                raise MissingRuleError(f"{node.rule.name} has a pullback but no pushforward: give custom_rule one")
            dy, y = node.rule.pushforward(node.output, node.operands, incoming, **node.params), node.output
            if isinstance(y, tuple):
                dots[i] = tuple(None if dv is None else spread(dv, v, directions) for v, dv in zip(y, dy))
            else:
                dots[i] = spread(dy, y, directions)
        return [dot(slot) for slot in outputs]


class TapeArray(Tracer):
    """An array of reverse mode: its value, and its place on the tape that records what is done to it.

    Writing in place moves the array to a new place on the tape, where a node with the written elements stands. A
    view (a basic slice, a reshaped or transposed array) remembers its base, so that it sees what is written there and
    writes through, as NumPy's views do.

    >>> import numpy as np, dualsvd as ds
    >>> ds.gradient(lambda x: print(x, np.shape(x)) or np.sum(x**2), np.array([1.0, 2.0]), mode="reverse")
    TapeArray([1. 2.], node=0) (2,)
    array([2., 4.])
    """

    __slots__ = ("base", "made_by", "slot", "tape", "version")

    def __init__(self, value: Any, tape: Tape, slot: Slot) -> None:
        self.value, self.tag, self.tape, self.slot = value, tape.tag, tape, slot
        self.base: TapeArray | None = None  # of a view: what it is a view of, by which rule, and of which version
        self.made_by: tuple[Rule, dict[str, Any]] | None = None
        self.version = 0  # counts the writes

    def __repr__(self) -> str:
        return f"TapeArray({self.value}, node={self.slot[0]})"

    @classmethod
    def apply(cls, rule: Rule, operands: Operands, params: dict[str, Any], tag: int) -> Any:
        check_open(tag)
        tape: Tape | None = None
        values: list[Any] = []
        parents: list[Slot | None] = []
        for operand in operands:
            if isinstance(operand, TapeArray) and operand.tag == tag:
                operand.refresh()
                tape = operand.tape
                values.append(operand.value)
                parents.append(operand.slot)
            else:
                values.append(operand)
                parents.append(None)
        assert tape is not None
        if rule not in SUMS:
            values = [tape.keep(x) if parent is None else x for x, parent in zip(values, parents)]
        params = {name: tape.keep(x) for name, x in params.items()} if params else params
        y = tape.record(rule, tuple(values), params, tuple(parents))
        if rule in VIEWS and _shares_memory(primal(y), primal(operands[0])):
            y.base, y.made_by, y.version = operands[0], (rule, params), operands[0].version
        return y

    def __setitem__(self, index: Any, x: Any) -> None:
        with self.tape.writing:
            self.refresh()
            self._move(set_item(self, x, index=plain_index(index)))
            view = self
            while view.base is not None and view.made_by is not None:
                rule, params = view.made_by
                view.base._move(_THROUGH[rule](view.base, view, **params))
                view = view.base
            self.refresh()  # to lie as it does in the base

    def refresh(self) -> None:
        """See what has been written to the base since this view was taken."""
        if self.base is None:
            return
        views, view = list[TapeArray](), self
        while view.base is not None:
            views.append(view)
            view = view.base
        version = view.version  # of the memory they all look into
        for view in reversed(views):
            if view.version != version and view.base is not None and view.made_by is not None:
                rule, params = view.made_by
                view._move(rule(view.base, **params))
                view.version = version

    def _move(self, to: TapeArray) -> None:
        self.value, self.slot = to.value, to.slot
        if self.base is None:
            self.version += 1


def _through_slice(base: TapeArray, y: TapeArray, index: Any) -> Any:
    return set_item(base, y, index=index)


def _through_shape(base: TapeArray, y: TapeArray, axes: int, shape: tuple[int, ...]) -> Any:
    return set_item(base, np.reshape(y, base.shape), index=...)


def _through_axes(base: TapeArray, y: TapeArray, axes: tuple[int, ...]) -> Any:
    return set_item(base, np.transpose(y, np.argsort(axes)), index=...)


#: the base of each of the VIEWS, with what was written to the view
_THROUGH: dict[Rule, Callable[..., Any]] = {
    get_item: _through_slice,
    reshape: _through_shape,
    transpose: _through_axes,
}
