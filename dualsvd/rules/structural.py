"""Rules that move numbers about: reading and writing elements, changing shapes, joining arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from .registry import Operands, Rule, Tracer, primal

# ---------------------------------------------------------------------------------------------------------------------
# Reading and writing elements


def is_basic(index: Any) -> bool:
    """Whether an index is of slices, whole numbers, None and Ellipsis only: NumPy then gives a view."""
    if isinstance(index, tuple):
        return all(map(is_basic, index))
    if isinstance(index, (int, np.integer)):
        return not isinstance(index, bool)
    return index is None or index is Ellipsis or isinstance(index, slice)


def plain_index(index: Any) -> Any:
    """An index whose traced arrays are replaced by their values."""
    return tuple(primal(i) for i in index) if isinstance(index, tuple) else primal(index)


def behind_directions(index: Any, shape: tuple[int, ...]) -> Any:
    """The index that reads the same elements behind one leading axis, the directions.

    A slice in front does that, except where advanced indices stand apart (x[0, :, [1, 2]]): NumPy then puts their axes
    first, before the directions. Written out for every axis they stand together again.
    """
    parts = index if isinstance(index, tuple) else (index,)
    if not is_basic(parts):
        advanced = [k for k, i in enumerate(parts) if not (i is None or i is Ellipsis or isinstance(i, slice))]
        if advanced[-1] - advanced[0] >= len(advanced):
            numbers = np.arange(int(np.prod(shape))).reshape(shape)
            parts = np.unravel_index(numbers[parts], shape)
    return (slice(None), *parts)


def _has_repeats(index: Any) -> bool:
    """Whether an element can be read twice: only arrays of whole numbers do that."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(not is_basic(i) and np.asarray(i).dtype != bool for i in parts)


def _read(x: Any, index: Any) -> Any:
    return x[index]


def _write(x: Any, v: Any, index: Any) -> Any:
    y = np.array(x, dtype=np.result_type(x))
    y[index] = v
    return y


def _add_up(v: Any, index: Any, shape: tuple[int, ...]) -> Any:
    y = np.zeros(shape, dtype=np.result_type(v))
    if _has_repeats(index):
        np.add.at(y, index, v)
    else:
        y[index] = v
    return y


_INDICES: tuple[Any, ...] = (
    1,
    slice(None, None, -2),
    (Ellipsis, 0),
    (slice(1, 3), None, 2),
    (),
    np.array([0, 2, 2, 1]),
    (slice(None), [3, 0, 0]),
    ([0, 2], [1, -1]),
    (2, slice(None), None),
    np.eye(3, 4, dtype=bool),
    np.array([True, False, True]),
    (np.zeros((0,), int),),
)


def _read_examples(rng: np.random.Generator) -> Any:
    for index in _INDICES:
        yield (rng.standard_normal((3, 4)),), {"index": index}
    cube = rng.standard_normal((2, 3, 4))
    for apart in ((0, slice(None), [1, 2, 2]), ([0, 1], None, [1, 2]), ([[0], [1]], slice(None, 2), [0, 3])):
        yield (cube,), {"index": apart}
    yield (cube[::-1, :, ::2].astype(np.float32),), {"index": (Ellipsis, [0, 0])}
    yield (cube + 1j * cube[::-1],), {"index": (1, slice(None), [0, 0])}
    yield (np.asarray(1.5),), {"index": ()}
    yield (np.asarray(1.5),), {"index": (None, Ellipsis)}
    yield (np.zeros((0, 2)),), {"index": (slice(None), 1)}


def _write_examples(rng: np.random.Generator) -> Any:
    for (x,), params in _read_examples(rng):
        slot = x[params["index"]]
        yield (x, rng.standard_normal(slot.shape).astype(x.dtype)), params
        yield (x, x.dtype.type(0.5)), params
    yield (rng.standard_normal((3, 4)), rng.standard_normal((1, 1, 4))), {"index": slice(None)}


def _slots(v: Any, ndim: int) -> Any:
    """A tangent of what is written, its axes in line with those of the slot of `ndim` axes."""
    shape = np.shape(v)
    own = len(shape) - 1
    if own < ndim:
        return np.reshape(v, shape[:1] + (1,) * (ndim - own) + shape[1:])
    return np.reshape(v, shape[:1] + shape[1 + own - ndim :]) if own > ndim else v


def _winners(index: Any, shape: tuple[int, ...]) -> Any:
    """Which writes last: of several writes into one element only the last one stands."""
    last = np.zeros(shape, dtype=int)
    numbers = np.arange(last[index].size).reshape(last[index].shape)
    last[index] = numbers
    return last[index] == numbers


def _push_read(y: Any, operands: Operands, tangents: Operands, index: Any) -> Any:
    return tangents[0][behind_directions(index, np.shape(operands[0]))]


def _pull_read(y_bar: Any, y: Any, operands: Operands, index: Any) -> tuple[Any]:
    return (add_up(y_bar, index=index, shape=np.shape(operands[0])),)


def _push_add_up(y: Any, operands: Operands, tangents: Operands, index: Any, shape: tuple[int, ...]) -> Any:
    (v_dot,) = tangents
    return add_up(v_dot, index=behind_directions(index, shape), shape=(np.shape(v_dot)[0], *shape))


def _push_write(y: Any, operands: Operands, tangents: Operands, index: Any) -> Any:
    (x, v), (x_dot, v_dot) = operands, tangents
    shape = np.shape(x)
    rows = behind_directions(index, shape)
    if x_dot is None:
        x_dot = np.zeros((np.shape(v_dot)[0], *shape), dtype=np.result_type(primal(y)))
    if v_dot is not None:
        v_dot = _slots(v_dot, np.ndim(primal(x)[index]))
    return set_item(x_dot, 0.0 if v_dot is None else v_dot, index=rows)


def _pull_write(y_bar: Any, y: Any, operands: Operands, index: Any) -> tuple[Any, Any]:
    def v_bar() -> Any:
        read = y_bar[index]
        return np.where(_winners(index, np.shape(y)), read, 0) if _has_repeats(index) else read

    return lambda: set_item(y_bar, 0.0, index=index), v_bar


#: x[index], and its transpose: a zero array with v added at index, twice where index reads twice
get_item = Rule("get_item", _read, _push_read, _pull_read, _read_examples)
add_up = Rule(
    "add_up",
    _add_up,
    _push_add_up,
    lambda y_bar, y, operands, index, shape: (y_bar[index],),
    lambda rng: (((p[0][q["index"]],), {**q, "shape": p[0].shape}) for p, q in _read_examples(rng)),
)
#: a copy of x with v written at index
set_item = Rule("set_item", _write, _push_write, _pull_write, _write_examples)

Tracer.__getitem__ = lambda self, index: get_item(self, index=plain_index(index))  # type: ignore[attr-defined]
