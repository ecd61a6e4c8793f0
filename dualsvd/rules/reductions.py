"""Rules along axes: sums, products, extremes, running ones of each, and sorting."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from .elementwise import ELEMENTWISE
from .registry import Operands, Rule, derivative_dtype, implements, linear, of_dtype, primal
from .structural import add_up, finish, in_dtype, operand

Axes = tuple[int, ...]

# ---------------------------------------------------------------------------------------------------------------------
# Axes are counted from the end, so that the directions in front of a tangent do not matter


def negative_axes(axis: Any, ndim: int) -> Axes:
    """The axes that NumPy's `axis` means, counted from the end; None means all."""
    if axis is None:
        return tuple(range(-ndim, 0))
    return tuple(k - ndim for k in normalize_axis_tuple(axis, ndim, allow_duplicate=True))  # NumPy itself complains


def reduced_axes(axis: Any, ndim: int) -> Axes:
    """The axes that a ufunc reduces, counted from the end: a number has a first and a last one there, which is none."""
    return () if not ndim and np.ndim(axis) == 0 and axis in (0, -1) else negative_axes(axis, ndim)


def negative_axis(axis: int, ndim: int) -> int:
    """One axis, counted from the end."""
    return normalize_axis_index(axis, ndim) - ndim


def restore(y: Any, ndim: int, axes: Axes, keepdims: bool) -> Any:
    """y with an axis of length one wherever a reduction of an array of `ndim` axes took one."""
    if keepdims or not axes:
        return y
    shape = list(np.shape(y))
    for k in sorted(k + ndim for k in axes):
        shape.insert(k + len(np.shape(y)) - (ndim - len(axes)), 1)
    return np.reshape(y, shape)


def _reduction_examples(rng: np.random.Generator) -> Any:
    x = rng.standard_normal((2, 3, 4))
    for axes, keepdims in (((-1,), False), ((-3,), True), ((-3, -1), False), ((-3, -2, -1), False), ((), False)):
        yield (x,), {"axis": axes, "keepdims": keepdims}
    yield (np.float32(x[0]),), {"axis": (-2,), "keepdims": False}
    yield (x[0, ::-1, ::2],), {"axis": (-2,), "keepdims": False}
    yield (np.broadcast_to(x[0, 0], (2, 4)),), {"axis": (-1,), "keepdims": False}
    yield (x[0] + 1j * x[1],), {"axis": (-1,), "keepdims": True}
    yield (x[0, 0, 0],), {"axis": (), "keepdims": False}
    yield (x[:, :0],), {"axis": (-1,), "keepdims": False}


def _scan_examples(rng: np.random.Generator) -> Any:
    x = rng.standard_normal((2, 3, 5))
    for axis in (-1, -2, -3):
        yield (x,), {"axis": axis}
    yield (np.float32(x[0]),), {"axis": -1}
    yield (x[0] + 1j * x[1],), {"axis": -2}
    yield (x[0, ::-1, ::2],), {"axis": -1}
    yield (x[0, :0],), {"axis": -1}
    yield (x[0, :, :0],), {"axis": -1}


# ---------------------------------------------------------------------------------------------------------------------
# Sums


def _pull_sum(y_bar: Any, x: Any, axis: Axes, keepdims: bool) -> Any:
    return np.broadcast_to(restore(y_bar, np.ndim(x), axis, keepdims), np.shape(x))


def _from_the_end(x: Any, axis: int) -> Any:
    """The running sum that starts at the end: the transpose of the one that starts at the front."""
    return np.flip(np.cumsum(np.flip(x, axis), axis), axis)


total = linear("sum", np.sum, _pull_sum, _reduction_examples)
running_total = linear("cumsum", np.cumsum, lambda y_bar, x, axis: _from_the_end(y_bar, axis), _scan_examples)


@implements(np.sum)
def _np_sum(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = None,
) -> Any:
    a = in_dtype(a if where is None or where is True else np.where(where, a, 0), dtype)
    y = total(a, axis=reduced_axes(axis, a.ndim), keepdims=bool(keepdims))
    return finish(y if initial is None else y + initial, out, dtype)


def _running(rule: Rule) -> Any:
    def of_traced(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        if axis is None or not a.ndim:
            a, axis = np.ravel(a), axis or 0
        a = in_dtype(a, dtype)
        return finish(rule(a, axis=negative_axis(axis, a.ndim)), out, dtype)

    return of_traced


implements(np.cumsum)(_running(running_total))


# ---------------------------------------------------------------------------------------------------------------------
# Products: right with zeros among the factors, so there is no division


def last_axes(x: Any, axes: Axes) -> Any:
    """x with those axes moved to the end and run together into one."""
    kept = np.ndim(x) - len(axes)
    x = np.moveaxis(x, axes, range(-len(axes), 0)) if axes else x
    return np.reshape(x, (*np.shape(x)[:kept], math.prod(np.shape(x)[kept:])))


def _shifted(x: Any, steps: int, fill: float) -> Any:
    """x moved along its last axis, with `fill` coming in at the front."""
    start = np.full((*np.shape(x)[:-1], min(steps, np.shape(x)[-1])), fill, dtype=np.result_type(primal(x)))
    return np.concatenate([start, x[..., : np.shape(x)[-1] - steps]], axis=-1)


def _others(x: Any, axes: Axes) -> Any:
    """For each factor the product of all the others: those before it times those behind it."""
    flat = last_axes(x, axes)
    before = np.cumprod(_shifted(flat, 1, 1.0), axis=-1)
    behind = np.flip(np.cumprod(_shifted(np.flip(flat, -1), 1, 1.0), axis=-1), -1)
    order = tuple(k for k in range(-np.ndim(x), 0) if k not in axes) + axes
    moved = np.reshape(before * behind, tuple(np.shape(x)[k] for k in order))
    return np.moveaxis(moved, range(-len(axes), 0), axes) if axes else moved


def _recurrence(factors: Any, terms: Any) -> Any:
    """r_k = factors_k r_(k-1) + terms_k along the last axis, by doubling: log2(n) passes, each over the whole array."""
    steps = 1
    while steps < np.shape(factors)[-1]:
        terms = terms + factors * _shifted(terms, steps, 0.0)
        factors = factors * _shifted(factors, steps, 1.0)
        steps *= 2
    return terms


def _push_prod(y: Any, operands: Operands, tangents: Operands, axis: Axes, keepdims: bool) -> Any:
    return np.sum(_others(operands[0], axis) * tangents[0], axis=axis, keepdims=keepdims)


def _pull_prod(y_bar: Any, y: Any, operands: Operands, axis: Axes, keepdims: bool) -> Any:
    (x,) = operands
    return (restore(y_bar, np.ndim(x), axis, keepdims) * np.conj(_others(x, axis)),)


# y_k = x_k y_(k-1), so dy_k = x_k dy_(k-1) + y_(k-1) dx_k; backwards r_k = conj(x_(k+1)) r_(k+1) + y_bar_k and
# x_bar_k = conj(y_(k-1)) r_k


def _push_cumprod(y: Any, operands: Operands, tangents: Operands, axis: int) -> Any:
    x, x_dot, y = (np.moveaxis(z, axis, -1) for z in (operands[0], tangents[0], y))
    return np.moveaxis(_recurrence(x, _shifted(y, 1, 1.0) * x_dot), -1, axis)


def _pull_cumprod(y_bar: Any, y: Any, operands: Operands, axis: int) -> Any:
    x, y_bar, y = (np.moveaxis(z, axis, -1) for z in (operands[0], y_bar, y))
    backwards = _shifted(np.flip(np.conj(x), -1), 1, 0.0)
    r = np.flip(_recurrence(backwards, np.flip(y_bar, -1)), -1)
    return (np.moveaxis(np.conj(_shifted(y, 1, 1.0)) * r, -1, axis),)


def _with_zeros(examples: Any) -> Any:
    """Each array once as it is, and once with zeros among its numbers."""

    def more(rng: np.random.Generator) -> Any:
        for (x,), params in examples(rng):
            yield (x,), params
            yield (np.where(np.arange(x.size).reshape(x.shape) % 4 == 1, x.dtype.type(0), x),), params

    return more


product = Rule("prod", np.prod, _push_prod, _pull_prod, _with_zeros(_reduction_examples))
running_product = Rule("cumprod", np.cumprod, _push_cumprod, _pull_cumprod, _with_zeros(_scan_examples))


@implements(np.prod)
def _np_prod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = None,
) -> Any:
    a = in_dtype(a if where is None or where is True else np.where(where, a, 1), dtype)
    y = product(a, axis=reduced_axes(axis, a.ndim), keepdims=bool(keepdims))
    return finish(y if initial is None else y * initial, out, dtype)


implements(np.cumprod)(_running(running_product))


def _cumulative(function: Any, start: float) -> Any:
    def of_traced(
        x: Any, /, *, axis: Any = None, dtype: Any = None, out: Any = None, include_initial: bool = False
    ) -> Any:
        if axis is None and x.ndim > 1:
            function(primal(x))  # NumPy's own complaint
        x = np.atleast_1d(x)
        axis = negative_axis(0 if axis is None else axis, x.ndim)
        y = (np.cumsum if start == 0.0 else np.cumprod)(x, axis, dtype)
        if include_initial:
            one = [1 if k == axis + y.ndim else n for k, n in enumerate(y.shape)]
            y = np.concatenate([np.full(one, start, dtype=y.dtype), y], axis=axis)
        return finish(y, out, dtype)

    return of_traced


implements(np.cumulative_sum)(_cumulative(np.cumulative_sum, 0.0))
implements(np.cumulative_prod)(_cumulative(np.cumulative_prod, 1.0))


# ---------------------------------------------------------------------------------------------------------------------
# Extremes: equals share evenly, which is the element of least norm of the subdifferential


def _shares(y: Any, x: Any, axis: Axes, keepdims: bool) -> Any:
    """The weight of each element in the extreme of its row: 1 over the number of those that attain it."""
    x, y = primal(x), restore(primal(y), np.ndim(x), axis, keepdims)
    attains = (x == y) | (x != x)  # NaN is the extreme of a row that holds one
    weights = attains.astype(np.finfo(derivative_dtype(x)).dtype)
    return weights / np.sum(weights, axis=axis, keepdims=True)


def _extreme(name: str, function: Any) -> Rule:
    def pushforward(y: Any, operands: Operands, tangents: Operands, axis: Axes, keepdims: bool) -> Any:
        return np.sum(_shares(y, operands[0], axis, keepdims) * tangents[0], axis=axis, keepdims=keepdims)

    def pullback(y_bar: Any, y: Any, operands: Operands, axis: Axes, keepdims: bool) -> Any:
        (x,) = operands
        return (_shares(y, x, axis, keepdims) * restore(y_bar, np.ndim(x), axis, keepdims),)

    return Rule(name, function, pushforward, pullback, _nonempty(_reduction_examples))


def _nonempty(examples: Any) -> Any:
    return lambda rng: (e for e in examples(rng) if e[0][0].size)


largest = _extreme("max", np.max)
smallest = _extreme("min", np.min)


def _extremes(rule: Rule, two: Any, worst: float) -> Any:
    def of_traced(
        a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None, where: Any = None
    ) -> Any:
        if where is not None and where is not True:
            if initial is None:
                raise ValueError(f"reduction of {rule.name} with where= needs initial=, as in NumPy")
            a = np.where(where, a, worst)
        if initial is not None and not a.size:  # an element to begin with
            a = np.pad(a, [(0, int(k - a.ndim in negative_axes(axis, a.ndim))) for k in range(a.ndim)])
            a = np.where(True, worst, a)
        y = rule(a, axis=reduced_axes(axis, a.ndim), keepdims=bool(keepdims))
        return finish(y if initial is None else two(y, initial), out)

    return of_traced


implements(np.max, np.amax)(_extremes(largest, np.maximum, -np.inf))
implements(np.min, np.amin)(_extremes(smallest, np.minimum, np.inf))


@implements(np.ptp)
def _np_ptp(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    return finish(np.max(a, axis=axis, keepdims=keepdims) - np.min(a, axis=axis, keepdims=keepdims), out)


# ---------------------------------------------------------------------------------------------------------------------
# Sorting: the order is that of the primal


def _ordering(arg: Any) -> Any:
    """A function that puts an axis in order; `arg` gives the places of its elements instead."""

    def of_traced(a: Any, *args: Any, axis: Any = -1, **kwargs: Any) -> Any:
        if axis is None:
            a, axis = np.ravel(a), -1
        return np.take_along_axis(a, arg(primal(a), *args, axis=axis, **kwargs), axis=axis)

    return of_traced


_sorted, _partitioned = _ordering(np.argsort), _ordering(np.argpartition)


@implements(np.sort)
def _np_sort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    return _sorted(a, axis=axis, kind=kind, order=order, stable=stable)


@implements(np.partition)
def _np_partition(a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None) -> Any:
    return _partitioned(a, kth, axis=axis, kind=kind, order=order)


# ---------------------------------------------------------------------------------------------------------------------
# Methods of the ufuncs. `reduce` goes along the first axis unless told otherwise


def _reduce(function: Any) -> Any:
    def of_traced(array: Any, axis: Any = 0, dtype: Any = None, keepdims: bool = False, **kwargs: Any) -> Any:
        return finish(function(in_dtype(array, dtype), axis=axis, keepdims=keepdims, **kwargs), None, dtype)

    return of_traced


def _accumulate(function: Any) -> Any:
    def of_traced(array: Any, axis: int = 0, dtype: Any = None) -> Any:
        if not array.ndim:
            raise TypeError("cannot accumulate on a scalar")
        return finish(function(in_dtype(array, dtype), axis), None, dtype)

    return of_traced


def _running_extreme(ufunc: Any) -> Any:
    def of_traced(a: Any, axis: int) -> Any:
        axis = negative_axis(axis, a.ndim)
        x = np.moveaxis(primal(a), axis, -1)
        new = (x == ufunc.accumulate(x, axis=-1)) | (x != x)  # from the first NaN on it is NaN
        places = np.maximum.accumulate(np.where(new, np.arange(x.shape[-1]), 0), axis=-1)
        return np.take_along_axis(a, np.moveaxis(places, -1, axis), axis=axis)

    return of_traced


def _log_of_sum(exp: Any, log: Any) -> Any:
    """log(sum(exp(x))), shifted by the largest x so that nothing overflows."""

    def of_traced(array: Any, axis: Any = 0, dtype: Any = None, keepdims: bool = False) -> Any:
        array = in_dtype(array, dtype)
        top = np.max(primal(array), axis=axis, keepdims=True)
        top = np.where(np.isfinite(top), top, 0)
        y = log(np.sum(exp(array - top), axis=axis, keepdims=keepdims))
        return finish(y + (top if keepdims else np.squeeze(top, axis)), None, dtype)

    return of_traced


def _outer(rule: Rule) -> Any:
    def of_traced(a: Any, b: Any) -> Any:
        a, b = operand(a), operand(b)
        return rule(np.reshape(a, np.shape(a) + (1,) * np.ndim(b)), b)

    return of_traced


def _at(combine: Any) -> Any:
    def of_traced(a: Any, indices: Any, b: Any) -> None:
        slots = np.empty(np.shape(a))[indices].shape
        b = of_dtype(operand(b), np.result_type(a.dtype, np.complex64 if np.iscomplexobj(b) else a.dtype))
        a[...] = combine(a, add_up(np.broadcast_to(b, slots), index=indices, shape=np.shape(a)))

    return of_traced


for _ufunc, _function in ((np.add, np.sum), (np.multiply, np.prod), (np.maximum, np.max), (np.minimum, np.min)):
    implements((_ufunc, "reduce"))(_reduce(_function))
implements((np.logaddexp, "reduce"))(_log_of_sum(np.exp, np.log))
implements((np.logaddexp2, "reduce"))(_log_of_sum(np.exp2, np.log2))
implements((np.add, "accumulate"))(_accumulate(np.cumsum))
implements((np.multiply, "accumulate"))(_accumulate(np.cumprod))
for _ufunc in (np.maximum, np.minimum):
    implements((_ufunc, "accumulate"))(_accumulate(_running_extreme(_ufunc)))
for _name, _rule in ELEMENTWISE.items():
    if isinstance(getattr(np, _name, None), np.ufunc) and getattr(np, _name).nin == 2:
        implements((getattr(np, _name), "outer"))(_outer(_rule))
implements((np.add, "at"))(_at(np.add))
implements((np.subtract, "at"))(_at(np.subtract))
