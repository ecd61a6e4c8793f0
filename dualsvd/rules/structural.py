"""Rules that move numbers about: reading and writing elements, changing shapes, joining arrays."""

from __future__ import annotations

import math
import operator
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..dual import Dual
from ..errors import DTypeError, MissingRuleError
from .elementwise import align
from .registry import Operands, Rule, Tracer, implements, linear, missing, primal, topmost, write_out


def finish(result: Any, out: Any = None, dtype: Any = None) -> Any:
    """The arguments `dtype` and `out` of a NumPy function."""
    if dtype is not None and np.result_type(result) != np.dtype(dtype):
        result = np.astype(result, np.dtype(dtype))
    return result if out is None else write_out(out, result)


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
            numbers = np.arange(math.prod(shape)).reshape(shape)
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
    (x, _), (x_dot, v_dot) = operands, tangents
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
        if _has_repeats(index):
            read = np.where(_winners(index, np.shape(y)), read, 0)
        return np.reshape(read, (1,) * (np.ndim(operands[1]) - np.ndim(read)) + np.shape(read))

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

# ---------------------------------------------------------------------------------------------------------------------
# Changing shapes: the three rules leave axes in front of their operand's alone, so each serves its own tangents


def _reshape(x: Any, axes: int, shape: tuple[int, ...]) -> Any:
    return np.reshape(x, np.shape(x)[: np.ndim(x) - axes] + shape)


def _transpose(x: Any, axes: tuple[int, ...]) -> Any:
    ndim = np.ndim(x)
    return np.transpose(x, (*range(ndim - len(axes)), *(axis + ndim for axis in axes)))


def _broadcast(x: Any, axes: int, shape: tuple[int, ...]) -> Any:
    lead, own = np.shape(x)[: np.ndim(x) - axes], np.shape(x)[np.ndim(x) - axes :]
    return np.broadcast_to(np.reshape(x, lead + (1,) * (len(shape) - axes) + own), lead + shape)


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(k) - len(axes) for k in np.argsort(axes))


def _shape_examples(*cases: tuple[tuple[int, ...], dict[str, Any]]) -> Any:
    def examples(rng: np.random.Generator) -> Any:
        for shape, params in cases:
            x = rng.standard_normal(shape)
            yield (x,), params
            yield (np.float32(x),), params
            yield (x + 1j * rng.standard_normal(shape),), params

    return examples


reshape = linear(
    "reshape",
    _reshape,
    lambda y_bar, x, axes, shape: np.reshape(y_bar, np.shape(x)),
    _shape_examples(
        ((2, 6), {"axes": 2, "shape": (3, 4)}),
        ((), {"axes": 0, "shape": (1, 1)}),
        ((0, 2), {"axes": 2, "shape": (2, 0, 3)}),
    ),
)
transpose = linear(
    "transpose",
    _transpose,
    lambda y_bar, x, axes: _transpose(y_bar, _inverse(axes)),
    _shape_examples(((2, 3, 4), {"axes": (-2, -1, -3)}), ((), {"axes": ()}), ((0, 2), {"axes": (-1, -2)})),
)
broadcast_to = linear(
    "broadcast_to",
    _broadcast,
    lambda y_bar, x, axes, shape: y_bar,  # `fit` sums what was broadcast
    _shape_examples(
        ((3, 1), {"axes": 2, "shape": (2, 3, 4)}),
        ((), {"axes": 0, "shape": (2, 2)}),
        ((1, 2), {"axes": 2, "shape": (0, 2)}),
    ),
)


@implements(np.reshape)
def _np_reshape(a: Any, /, shape: Any, order: str = "C", *, copy: bool | None = None) -> Any:
    shape = tuple(shape) if isinstance(shape, (tuple, list)) else (operator.index(shape),)
    if min(shape, default=0) < 0:
        shape = np.reshape(primal(a), shape).shape
    if order == "F" or (order == "A" and np.isfortran(primal(a))):
        return np.transpose(np.reshape(np.transpose(a), shape[::-1]))
    return reshape(a, axes=a.ndim, shape=shape)


def _reshaping(function: Any) -> Any:
    """A function that only changes the shape: the shape it gives to the primal."""

    def of_traced(a: Any, *args: Any, **kwargs: Any) -> Any:
        return reshape(a, axes=a.ndim, shape=np.shape(function(primal(a), *args, **kwargs)))

    return of_traced


def _permuting(function: Any) -> Any:
    """A function that permutes the axes: an empty array whose lengths are 0, 1, 2, ... tells where each one goes."""

    def of_traced(a: Any, *args: Any, **kwargs: Any) -> Any:
        order = function(np.empty(range(a.ndim)), *args, **kwargs).shape
        return transpose(a, axes=tuple(axis - a.ndim for axis in order))

    return of_traced


def rearranging(function: Any) -> Any:
    """A function that only moves elements: what it does to their numbers says which element stands where."""

    def of_traced(a: Any, *args: Any, **kwargs: Any) -> Any:
        numbers = np.arange(a.size).reshape(a.shape)
        return np.ravel(a)[function(numbers, *args, **kwargs)]

    return of_traced


for _function in (np.expand_dims, np.squeeze):
    implements(_function)(_reshaping(_function))
for _function in (
    np.transpose,
    np.permute_dims,
    np.matrix_transpose,
    np.linalg.matrix_transpose,
    np.swapaxes,
    np.moveaxis,
    np.rollaxis,
):
    implements(_function)(_permuting(_function))
for _function in (np.repeat, np.tile, np.roll, np.resize, np.delete, np.rot90, np.fft.fftshift, np.fft.ifftshift):
    implements(_function)(rearranging(_function))


@implements(np.ravel)
def _np_ravel(a: Any, order: str = "C") -> Any:
    return np.reshape(a, (a.size,), order="C" if order == "K" else order)


@implements(np.broadcast_to)
def _np_broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    shape = tuple(shape) if isinstance(shape, (tuple, list)) else (operator.index(shape),)
    np.broadcast_to(primal(array), shape)  # NumPy's own complaint
    return broadcast_to(array, axes=array.ndim, shape=shape)


@implements(np.broadcast_arrays)
def _np_broadcast_arrays(*args: Any, subok: bool = False) -> Any:
    shape = np.broadcast_shapes(*map(np.shape, args))
    return tuple(np.broadcast_to(a, shape) for a in args)


@implements(np.meshgrid)
def _np_meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> Any:
    places = np.meshgrid(*(np.arange(np.size(x)) for x in xi), sparse=sparse, indexing=indexing)
    return tuple(np.ravel(x)[place] for x, place in zip(xi, places))


def _atleast(function: Any) -> Any:
    one = _reshaping(function)

    def of_traced(*arys: Any) -> Any:
        results = tuple(one(a) if isinstance(a, Tracer) else function(a) for a in arys)
        return results[0] if len(results) == 1 else results

    return of_traced


for _function in (np.atleast_1d, np.atleast_2d, np.atleast_3d):
    implements(_function)(_atleast(_function))


@implements(np.flip)
def _np_flip(m: Any, axis: Any = None) -> Any:
    axes = normalize_axis_tuple(range(m.ndim) if axis is None else axis, m.ndim)
    return m[tuple(slice(None, None, -1) if k in axes else slice(None) for k in range(m.ndim))]


implements(np.flipud)(lambda m: np.flip(m, 0))
implements(np.fliplr)(lambda m: np.flip(m, 1))


# ---------------------------------------------------------------------------------------------------------------------
# Joining and splitting


def operand(x: Any) -> Any:
    """A member of a list of arrays: traced as it is, anything else an array."""
    return x if isinstance(x, (Tracer, Dual)) else np.asarray(x)


def _tangent_or_zero(tangent: Any, x: Any, directions: int) -> Any:
    if tangent is not None:
        return tangent
    return np.broadcast_to(np.zeros((), dtype=np.result_type(primal(x))), (directions, *np.shape(x)))


def _all_tangents(tangents: Operands, operands: Operands) -> list[Any]:
    """The tangents of several operands, zeros for those that have none."""
    directions = next(np.shape(t)[0] for t in tangents if t is not None)
    return [_tangent_or_zero(t, x, directions) for t, x in zip(tangents, operands)]


def _concatenate(*arrays: Any, axis: int) -> Any:
    return np.concatenate(arrays, axis=axis)


def _stack(*arrays: Any, axis: int) -> Any:
    return np.stack(arrays, axis=axis)


def _along(axis: int, piece: Any) -> tuple[Any, ...]:
    """The index that takes a piece of an axis counted from the end."""
    return (Ellipsis, piece, *(slice(None),) * (-1 - axis))


def _pull_concatenate(y_bar: Any, y: Any, operands: Operands, axis: int) -> tuple[Any, ...]:
    ends = np.cumsum([np.shape(x)[axis] for x in operands]).tolist()
    pieces = [slice(start, end) for start, end in zip([0, *ends], ends)]
    return tuple(partial(get_item, y_bar, index=_along(axis, piece)) for piece in pieces)


def _join_examples(same_shape: bool) -> Any:
    def examples(rng: np.random.Generator) -> Any:
        for axis in (-1, -2):
            arrays = tuple(rng.standard_normal((3, 3, 2)))
            yield arrays, {"axis": axis}
            yield tuple(np.float32(a) for a in arrays), {"axis": axis}
            yield (arrays[0] + 1j * arrays[1], arrays[2], arrays[0]), {"axis": axis}
        if same_shape:
            yield (rng.standard_normal(()), rng.standard_normal(())), {"axis": -1}
        else:
            yield (rng.standard_normal((2, 3)), rng.standard_normal((2, 0)), rng.standard_normal((2, 1))), {"axis": -1}

    return examples


concatenate = Rule(
    "concatenate",
    _concatenate,
    lambda y, operands, tangents, axis: np.concatenate(_all_tangents(tangents, operands), axis=axis),
    _pull_concatenate,
    _join_examples(same_shape=False),
)
stack = Rule(
    "stack",
    _stack,
    lambda y, operands, tangents, axis: np.stack(_all_tangents(tangents, operands), axis=axis),
    lambda y_bar, y, operands, axis: tuple(
        partial(get_item, y_bar, index=_along(axis, k)) for k in range(len(operands))
    ),
    _join_examples(same_shape=True),
)


@implements(np.concatenate, np.concat)
def _np_concatenate(
    arrays: Any, /, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind"
) -> Any:
    operands = [operand(a) for a in arrays]
    if axis is None:
        operands, axis = [np.ravel(a) for a in operands], 0
    axis = normalize_axis_index(axis, np.ndim(operands[0]))
    return finish(concatenate(*operands, axis=axis - np.ndim(operands[0])), out, dtype)


@implements(np.stack)
def _np_stack(arrays: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind") -> Any:
    operands = [operand(a) for a in arrays]
    ndim = np.ndim(operands[0]) + 1
    return finish(stack(*operands, axis=normalize_axis_index(axis, ndim) - ndim), out, dtype)


def _stacking(shape_up: Any, axis: int, axis_of_vectors: int) -> Any:
    def of_traced(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Any:
        arrays = [shape_up(operand(a)) for a in tup]
        return np.concatenate(arrays, axis_of_vectors if np.ndim(arrays[0]) == 1 else axis, dtype=dtype)

    return of_traced


implements(np.vstack)(_stacking(np.atleast_2d, 0, 0))
implements(np.hstack)(_stacking(np.atleast_1d, 1, 0))
implements(np.dstack)(_stacking(np.atleast_3d, 2, 2))


@implements(np.column_stack)
def _np_column_stack(tup: Any) -> Any:
    columns = [operand(a) for a in tup]
    return np.concatenate([a if np.ndim(a) >= 2 else np.reshape(a, (-1, 1)) for a in columns], axis=1)


@implements(np.block)
def _np_block(arrays: Any) -> Any:
    def depth(nested: Any) -> int:
        return 1 + max(map(depth, nested)) if isinstance(nested, list) else 0

    def leaves(nested: Any) -> Any:
        return (leaf for item in nested for leaf in leaves(item)) if isinstance(nested, list) else (nested,)

    levels = depth(arrays)
    ndim = max(levels, *(np.ndim(leaf) for leaf in leaves(arrays)))

    def join(nested: Any, level: int) -> Any:
        if isinstance(nested, list):
            return np.concatenate([join(item, level - 1) for item in nested], axis=-level)
        x = operand(nested)
        return np.reshape(x, (1,) * (ndim - np.ndim(x)) + np.shape(x))

    return join(arrays, levels)


@implements(np.append)
def _np_append(arr: Any, values: Any, axis: Any = None) -> Any:
    return np.concatenate([operand(arr), operand(values)], axis=axis)


def _splitting(function: Any, axis_of: Any) -> Any:
    """A function that cuts along an axis: what it does to the numbers along that axis says where."""

    def of_traced(ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
        axis = normalize_axis_index(axis_of(ary.ndim, axis), ary.ndim)
        whole = (slice(None),) * axis
        length, start, pieces = ary.shape[axis], 0, []
        for numbers in function(np.arange(length), indices_or_sections):
            start = int(numbers[0]) if len(numbers) else start
            pieces.append(ary[(*whole, slice(start, start + len(numbers)))])
        return pieces

    return of_traced


implements(np.split)(_splitting(np.split, lambda ndim, axis: axis))
implements(np.array_split)(_splitting(np.array_split, lambda ndim, axis: axis))
implements(np.hsplit)(_splitting(np.split, lambda ndim, axis: min(ndim, 2) - 1))
implements(np.vsplit)(_splitting(np.split, lambda ndim, axis: 0))
implements(np.dsplit)(_splitting(np.split, lambda ndim, axis: 2))


@implements(np.unstack)
def _np_unstack(x: Any, /, *, axis: int = 0) -> Any:
    return tuple(np.moveaxis(x, axis, 0))


# ---------------------------------------------------------------------------------------------------------------------
# Choosing elements


def _where(a: Any, b: Any, condition: Any) -> Any:
    return np.where(condition, a, b)


def _push_where(y: Any, operands: Operands, tangents: Operands, condition: Any) -> Any:
    a, b = (0 if t is None else align(t, np.ndim(y)) for t in tangents)
    return np.where(condition, a, b)


def _where_examples(rng: np.random.Generator) -> Any:
    mask = np.array([[True, False, True], [False, False, True]])
    a, b = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
    yield (a, b), {"condition": mask}
    yield (a.astype(np.float32), np.float32(2)), {"condition": mask}
    yield (a + 1j * b, b - 1j * a), {"condition": mask}
    yield (a[:, :1], b[0]), {"condition": mask[0]}
    yield (np.float64(1.5), np.float64(-2.5)), {"condition": mask}
    yield (a[:0], b[:0]), {"condition": True}


where = Rule(
    "where",
    _where,
    _push_where,
    lambda y_bar, y, operands, condition: (
        lambda: np.where(condition, y_bar, 0),
        lambda: np.where(condition, 0, y_bar),
    ),
    _where_examples,
)


@implements(np.where)
def _np_where(condition: Any, x: Any = None, y: Any = None, /) -> Any:
    if x is None:
        return np.where(primal(condition))
    condition = np.asarray(primal(condition), dtype=bool)
    if not isinstance(x, Tracer) and not isinstance(y, Tracer):
        return np.where(condition, x, y)
    return where(x, y, condition=condition)


@implements(np.triu)
def _np_triu(m: Any, k: int = 0) -> Any:
    return np.where(np.triu(np.ones(m.shape[-2:], dtype=bool), k), m, 0)


@implements(np.tril)
def _np_tril(m: Any, k: int = 0) -> Any:
    return np.where(np.tril(np.ones(m.shape[-2:], dtype=bool), k), m, 0)


@implements(np.select)
def _np_select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    result = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = np.where(condition, choice, result)
    return result


@implements(np.choose)
def _np_choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    choices = [operand(c) for c in choices]
    shape = np.broadcast_shapes(np.shape(a), *map(np.shape, choices))
    place = np.choose(primal(a), np.arange(len(choices)), mode=mode)
    stacked = np.stack([np.broadcast_to(c, shape) for c in choices])
    return finish(np.take_along_axis(stacked, np.broadcast_to(place, shape)[None], axis=0)[0], out)


@implements(np.piecewise)
def _np_piecewise(x: Any, condlist: Any, funclist: Any, *args: Any, **kwargs: Any) -> Any:
    conditions = np.asarray(condlist, dtype=bool)
    conditions = conditions.reshape((-1, *x.shape)) if conditions.ndim <= x.ndim else conditions
    if len(funclist) == len(conditions) + 1:
        conditions = np.concatenate([conditions, ~np.any(conditions, axis=0, keepdims=True)])
    y = np.zeros_like(x)
    for condition, function in zip(conditions, funclist, strict=True):
        y = set_item(y, function(x[condition], *args, **kwargs) if callable(function) else function, index=condition)
    return y


@implements(np.take)
def _np_take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    a = np.ravel(a) if axis is None else a
    axis = normalize_axis_index(axis or 0, a.ndim)
    places = np.take(np.arange(a.shape[axis]), primal(indices), mode=mode)
    return finish(a[(*(slice(None),) * axis, places)], out)


def _grid_along(a: Any, indices: Any, axis: int) -> tuple[Any, ...]:
    """The index tuple that uses `indices` along one axis and walks along with them in the others."""
    axes = [np.arange(n).reshape((-1,) + (1,) * (a.ndim - 1 - k)) for k, n in enumerate(a.shape)]
    return tuple(indices if k == axis else places for k, places in enumerate(axes))


@implements(np.take_along_axis)
def _np_take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    if axis is None:
        return np.ravel(arr)[indices]
    return arr[_grid_along(arr, indices, normalize_axis_index(axis, arr.ndim))]


@implements(np.compress)
def _np_compress(condition: Any, a: Any, axis: Any = None, out: Any = None) -> Any:
    return np.take(a, np.flatnonzero(primal(condition)), axis=axis, out=out)


@implements(np.extract)
def _np_extract(condition: Any, arr: Any) -> Any:
    return np.take(arr, np.flatnonzero(primal(condition)))


@implements(np.diagonal)
def _np_diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    a = np.moveaxis(a, (axis1, axis2), (-2, -1))
    rows = max(min(a.shape[-2], a.shape[-1] - offset) if offset >= 0 else min(a.shape[-2] + offset, a.shape[-1]), 0)
    k = np.arange(rows)
    return a[(Ellipsis, k + max(-offset, 0), k + max(offset, 0))]


@implements(np.linalg.diagonal)
def _linalg_diagonal(x: Any, /, *, offset: int = 0) -> Any:
    return np.diagonal(x, offset, -2, -1)


@implements(np.diag)
def _np_diag(v: Any, k: int = 0) -> Any:
    if v.ndim != 1:
        return np.diagonal(v, k) if v.ndim == 2 else np.diag(primal(v), k)
    n, places = len(v) + abs(k), np.arange(len(v))
    return add_up(v, index=(places + max(-k, 0), places + max(k, 0)), shape=(n, n))


@implements(np.diagflat)
def _np_diagflat(v: Any, k: int = 0) -> Any:
    return np.diag(np.ravel(v), k)


@implements(np.pad)
def _np_pad(array: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> Any:
    if mode in ("edge", "reflect", "symmetric", "wrap") and kwargs.get("reflect_type", "even") == "even":
        return rearranging(np.pad)(array, pad_width, mode, **kwargs)
    if mode not in ("constant", "empty"):
        raise MissingRuleError(missing(f"numpy.pad with mode={mode!r}"))
    around = np.pad(np.zeros(array.shape, dtype=array.dtype), pad_width, "constant", **kwargs)
    inside = np.pad(np.ones(array.shape, dtype=bool), pad_width)
    starts = [np.argmax(np.any(inside, axis=tuple(j for j in range(array.ndim) if j != k))) for k in range(array.ndim)]
    return set_item(around, array, index=tuple(slice(s, s + n) for s, n in zip(starts, array.shape)))


@implements(np.nan_to_num)
def _np_nan_to_num(x: Any, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    value = primal(x)
    return np.where(np.isfinite(value), x, np.nan_to_num(value, nan=nan, posinf=posinf, neginf=neginf))


# ---------------------------------------------------------------------------------------------------------------------
# Copies, and new arrays to write into


def _astype(x: Any, dtype: Any) -> Any:
    return np.astype(x, dtype) if isinstance(x, Tracer) else np.asarray(x).astype(dtype)


def _constant(x: Any, fill: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    return np.full(shape, fill, dtype=dtype)


def _push_constant(y: Any, operands: Operands, tangents: Operands, **params: Any) -> Any:
    # zeros of the innermost level around, so that its numbers can be written there too
    (x_dot,) = tangents
    innermost = topmost((y, x_dot))
    return np.zeros_like(y if innermost is None else innermost, dtype=y.dtype, shape=(np.shape(x_dot)[0], *np.shape(y)))


def _copy_examples(rng: np.random.Generator) -> Any:
    x = rng.standard_normal((3, 2))
    for y in (x, np.float32(x), x + 1j * x[::-1], x[0, 0], x[:0], x[::-1, :1], np.broadcast_to(x[0], (3, 2))):
        yield (y,), {}


copy = linear("copy", np.copy, lambda y_bar, x: y_bar, _copy_examples)
astype = linear(
    "astype",
    _astype,
    lambda y_bar, x, dtype: np.astype(
        y_bar, np.result_type(np.complex64 if np.iscomplexobj(y_bar) else np.float32, primal(x))
    ),
    lambda rng: (((x,), {"dtype": t}) for (x,), _ in _copy_examples(rng) for t in _wider(x)),
)
constant = Rule(
    "constant",
    _constant,
    _push_constant,
    lambda y_bar, y, operands, **params: (None,),
    lambda rng: (
        ((x,), {"fill": 2.0, "shape": shape, "dtype": x.dtype})
        for (x,), _ in _copy_examples(rng)
        for shape in ((2, 3), ())
    ),
)


def _wider(x: Any) -> tuple[Any, ...]:
    return (np.complex128,) if np.iscomplexobj(x) else (np.float64, np.complex128)


@implements(np.copy)
def _np_copy(a: Any, order: str = "K", subok: bool = False) -> Any:
    return copy(a)


@implements(np.astype)
def _np_astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    dtype = np.dtype(dtype)
    if dtype.kind in "iub":  # a step function of x
        return primal(x).astype(dtype)
    if dtype.char not in "fdFD":
        raise DTypeError(
            f"traced arrays hold float32, float64, complex64 or complex128 numbers, astype was asked for {dtype}"
        )
    return x if dtype == x.dtype and not copy else astype(x, dtype=dtype)


def _like(fill: float) -> Any:
    def of_traced(
        a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, *, device: Any = None
    ) -> Any:
        return _full_like(a, fill, dtype, shape)

    return of_traced


def _full_like(a: Any, fill: Any, dtype: Any, shape: Any) -> Any:
    dtype = a.dtype if dtype is None else np.dtype(dtype)
    shape = a.shape if shape is None else tuple(shape) if isinstance(shape, (tuple, list)) else (operator.index(shape),)
    if dtype.char not in "fdFD":  # no derivative can be written there
        return np.full(shape, primal(fill), dtype=dtype)
    if isinstance(fill, Tracer) or np.ndim(fill):
        return set_item(_full_like(a, 0.0, dtype, shape), fill, index=...)
    return constant(a, fill=fill, shape=shape, dtype=dtype)


implements(np.zeros_like, np.empty_like)(_like(0.0))
implements(np.ones_like)(_like(1.0))


@implements(np.full_like)
def _np_full_like(
    a: Any,
    fill_value: Any,
    dtype: Any = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Any:
    return _full_like(a, fill_value, dtype, shape)


# ---------------------------------------------------------------------------------------------------------------------
# Functions that write into their first argument


@implements(np.copyto)
def _np_copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    write_out(dst, np.broadcast_to(src, np.shape(dst)) if where is True else np.where(where, src, dst))


@implements(np.fill_diagonal)
def _np_fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    flat = np.zeros(np.shape(a), dtype=bool)
    np.fill_diagonal(flat, True, wrap)
    write_out(a, set_item(a, np.resize(val, np.count_nonzero(flat)) if np.ndim(val) else val, index=flat))


@implements(np.put_along_axis)
def _np_put_along_axis(arr: Any, indices: Any, values: Any, axis: Any) -> None:
    index = _grid_along(arr, indices, normalize_axis_index(axis, np.ndim(arr)))
    write_out(arr, set_item(arr, values, index=index))


@implements(np.put)
def _np_put(a: Any, ind: Any, v: Any, mode: str = "raise") -> None:
    places = np.take(np.arange(np.size(a)), ind, mode=mode)
    v = np.resize(v, np.shape(places)) if np.ndim(v) else v
    write_out(a, np.reshape(set_item(np.ravel(a), v, index=places), np.shape(a)))


@implements(np.putmask)
def _np_putmask(a: Any, mask: Any, values: Any) -> None:
    mask = np.broadcast_to(np.asarray(mask, dtype=bool), np.shape(a))
    write_out(a, set_item(a, np.resize(values, np.shape(a))[mask], index=mask))


@implements(np.place)
def _np_place(arr: Any, mask: Any, vals: Any) -> None:
    mask = np.broadcast_to(np.asarray(mask, dtype=bool), np.shape(arr))
    write_out(arr, set_item(arr, np.resize(vals, np.count_nonzero(mask)), index=mask))
