"""Rules that put arrays together and choose among their elements."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from ..errors import MissingRuleError
from .registry import Operands, Rule, Tracer, as_operand, implements, missing, primal, write_out
from .structural import add_up, align, finish, get_item, operand, piece_along, rearranging, set_item

# ---------------------------------------------------------------------------------------------------------------------
# Joining and splitting


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


def _pull_concatenate(y_bar: Any, y: Any, operands: Operands, axis: int) -> tuple[Any, ...]:
    ends = np.cumsum([np.shape(x)[axis] for x in operands]).tolist()
    pieces = [slice(start, end) for start, end in zip([0, *ends], ends)]
    return tuple(partial(get_item, y_bar, index=piece_along(axis, piece)) for piece in pieces)


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
        partial(get_item, y_bar, index=piece_along(axis, k)) for k in range(len(operands))
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
    condition, x, y = np.asarray(primal(condition), dtype=bool), as_operand(x), as_operand(y)
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
        result = np.where(condition, as_operand(choice), result)
    return result


@implements(np.choose)
def _np_choose(a: Any, choices: Any, out: Any = None, mode: Any = "raise") -> Any:
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
def _np_take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: Any = "raise") -> Any:
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
    starts = np.argwhere(np.pad(np.ones((1,) * array.ndim, dtype=bool), pad_width))[0]
    return set_item(around, array, index=tuple(slice(s, s + n) for s, n in zip(starts, array.shape)))


@implements(np.nan_to_num)
def _np_nan_to_num(x: Any, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    value = primal(x)
    y = np.where(np.isfinite(value), x, np.nan_to_num(value, nan=nan, posinf=posinf, neginf=neginf))
    if np.iscomplexobj(value):  # which may be finite in one part only
        parts = [np.nan_to_num(part, nan=nan, posinf=posinf, neginf=neginf) for part in (np.real(x), np.imag(x))]
        y = np.where(np.isfinite(value), x, parts[0] + 1j * parts[1])
    return y if copy or not isinstance(value, np.ndarray) else write_out(x, y)


# ---------------------------------------------------------------------------------------------------------------------
# Functions that write into their first argument


@implements(np.copyto)
def _np_copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    src = operand(src)
    extra = np.ndim(src) - np.ndim(dst)
    if extra > 0 and np.shape(src)[:extra] == (1,) * extra:  # as in an assignment
        src = src[(0,) * extra]
    write_out(dst, np.broadcast_to(src, np.shape(dst)) if where is True else np.where(where, src, dst))


@implements(np.fill_diagonal)
def _np_fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    flat = np.zeros(np.shape(a), dtype=bool)
    np.fill_diagonal(flat, True, wrap)
    write_out(a, set_item(a, np.resize(val, np.count_nonzero(flat)) if np.ndim(val) else val, index=flat))


@implements(np.put_along_axis)
def _np_put_along_axis(arr: Any, indices: Any, values: Any, axis: Any) -> None:
    if axis is None:  # of the elements in a row
        write_out(arr, np.reshape(set_item(np.ravel(arr), values, index=np.asarray(indices)), np.shape(arr)))
        return
    index = _grid_along(arr, indices, normalize_axis_index(axis, np.ndim(arr)))
    write_out(arr, set_item(arr, values, index=index))


@implements(np.put)
def _np_put(a: Any, ind: Any, v: Any, mode: Any = "raise") -> None:
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
