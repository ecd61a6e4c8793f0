"""Rules that move numbers about: reading and writing elements, changing shapes, copies and new arrays."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from ..dual import Dual
from ..errors import DTypeError
from .registry import Operands, Rule, Tracer, as_operand, implements, linear, primal, topmost, write_out


def piece_along(axis: int, piece: Any) -> tuple[Any, ...]:
    """The index that takes a piece of an axis counted from the end."""
    return (Ellipsis, piece, *(slice(None),) * (-1 - axis))


def finish(result: Any, out: Any = None, dtype: Any = None) -> Any:
    """The arguments `dtype` and `out` of a NumPy function."""
    if dtype is not None and np.result_type(result) != np.dtype(dtype):
        result = np.astype(result, np.dtype(dtype))
    return result if out is None else write_out(out, result)


def in_dtype(x: Any, dtype: Any) -> Any:
    """An operand in the dtype that a reduction is asked to compute in."""
    return x if dtype is None or np.dtype(dtype) == x.dtype else np.astype(x, np.dtype(dtype))


def operand(x: Any) -> Any:
    """An argument of a NumPy function: traced as it is, anything else an array, and a list with traced numbers too."""
    x = as_operand(x)
    return x if isinstance(x, (Tracer, Dual)) else np.asarray(x)


def align(tangent: Any, ndim: int) -> Any:
    """A tangent whose operand has fewer axes than the result, with axes of length one after its directions."""
    missing = ndim - tangent.ndim + 1
    if missing <= 0:
        return tangent
    shape = np.shape(tangent)
    return np.reshape(tangent, shape[:1] + (1,) * missing + shape[1:])


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


def in_slot(v: Any, ndim: int) -> Any:
    """A tangent of what is written, its axes in line with those of the slot of `ndim` axes."""
    v = align(v, ndim)
    shape, extra = np.shape(v), np.ndim(v) - 1 - ndim
    return np.reshape(v, shape[:1] + shape[1 + extra :]) if extra else v


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
        v_dot = in_slot(v_dot, np.ndim(primal(x)[index]))
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


def _getitem(self: Tracer, index: Any) -> Any:
    return get_item(self, index=plain_index(index))


Tracer.__getitem__ = _getitem  # type: ignore[misc, method-assign]

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


#: the rules whose results are views of their operand, where NumPy's are
VIEWS = frozenset((get_item, reshape, transpose))


@implements(np.reshape)
def _np_reshape(a: Any, /, shape: Any, order: Any = "C", *, copy: bool | None = None) -> Any:
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


def axes_in_memory(x: Any) -> list[int]:
    """The axes of a plain array, those first along which neighbours lie furthest apart."""
    return sorted(range(x.ndim), key=lambda k: -abs(x.strides[k]))


def rearranging(function: Any) -> Any:
    """A function that only moves elements: what it does to their numbers says which element stands where."""

    def of_traced(a: Any, *args: Any, **kwargs: Any) -> Any:
        places = function(np.arange(a.size).reshape(a.shape), *args, **kwargs)
        return np.ravel(a)[places] if a.size else np.zeros_like(a, shape=places.shape)

    return of_traced


_function: Any
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
def _np_ravel(a: Any, order: Any = "C") -> Any:
    if order == "K":
        a, order = np.transpose(a, axes_in_memory(primal(a))), "C"
    value = primal(a)
    if order == "A":
        order = "F" if np.isfortran(value) else "C"
    row = np.reshape(a, (a.size,), order=order)
    whole = value.flags.c_contiguous if order == "C" else value.flags.f_contiguous
    return row if whole or not np.may_share_memory(primal(row), value) else np.copy(row)  # a view of no other


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
def _np_meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: Any = "xy") -> Any:
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
# Copies, and new arrays to write into


def _astype(x: Any, dtype: Any) -> Any:
    return x.astype(dtype) if isinstance(x, Tracer) else np.asarray(x).astype(dtype)


def _constant(x: Any, fill: Any, shape: tuple[int, ...], dtype: Any, order: Any) -> Any:
    return np.full_like(x, fill, dtype=dtype, order=order, subok=False, shape=shape)


def _push_constant(y: Any, operands: Operands, tangents: Operands, **params: Any) -> Any:
    # zeros of the innermost level around, so that its numbers can be written there too
    (x_dot,) = tangents
    innermost = topmost((y, x_dot))
    return np.zeros_like(y if innermost is None else innermost, dtype=y.dtype, shape=(np.shape(x_dot)[0], *np.shape(y)))


def _orders_examples(rng: np.random.Generator) -> Any:
    for k, (operands, _) in enumerate(_copy_examples(rng)):
        yield operands, {"order": "KCF"[k % 3]}


def _copy_examples(rng: np.random.Generator) -> Any:
    x = rng.standard_normal((3, 2))
    for y in (x, np.float32(x), x + 1j * x[::-1], x[0, 0], x[:0], x[::-1, :1], np.broadcast_to(x[0], (3, 2))):
        yield (y,), {}


copy = linear("copy", np.copy, lambda y_bar, x, order: y_bar, _orders_examples)
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
        ((x,), {"fill": 2.0, "shape": shape, "dtype": x.dtype, **params})
        for (x,), params in _orders_examples(rng)
        for shape in ((2, 3), ())
    ),
)


def _wider(x: Any) -> tuple[Any, ...]:
    return (np.complex128,) if np.iscomplexobj(x) else (np.float64, np.complex128)


@implements(np.copy)
def _np_copy(a: Any, order: str = "K", subok: bool = False) -> Any:
    return copy(a, order=order)


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
        return _full_like(a, fill, dtype, shape, order)

    return of_traced


def _full_like(a: Any, fill: Any, dtype: Any, shape: Any, order: Any) -> Any:
    dtype = a.dtype if dtype is None else np.dtype(dtype)
    shape = a.shape if shape is None else tuple(shape) if isinstance(shape, (tuple, list)) else (operator.index(shape),)
    if dtype.char not in "fdFD":  # no derivative can be written there
        return np.full_like(primal(a), primal(fill), dtype=dtype, order=order, shape=shape)
    if isinstance(fill, Tracer) or np.ndim(fill):
        return set_item(_full_like(a, 0.0, dtype, shape, order), fill, index=...)
    return constant(a, fill=fill, shape=shape, dtype=dtype, order=order)


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
    return _full_like(a, fill_value, dtype, shape, order)
