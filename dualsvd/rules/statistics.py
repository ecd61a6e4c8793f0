"""Statistics, differences, integrals and tables along axes: all made of the rules for reductions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import MissingRuleError
from .reductions import last_axes, negative_axes, negative_axis, restore
from .registry import Tracer, derivative_dtype, implements, of_dtype, primal
from .structural import add_up, finish, in_dtype, operand, piece_along

# ---------------------------------------------------------------------------------------------------------------------
# Statistics


def real_dtype(x: Any) -> Any:
    """The dtype of the absolute values of x."""
    return np.finfo(derivative_dtype(x)).dtype


def _count(a: Any, axis: Any, where: Any) -> Any:
    """How many elements a mean along those axes is over."""
    if where is None or where is True:
        return math.prod(a.shape[k] for k in negative_axes(axis, a.ndim))
    return np.sum(np.broadcast_to(where, a.shape), axis=axis, dtype=real_dtype(a))


def root(x: Any) -> Any:
    """The square root of a sum of squares, with slope 0 where all of them vanish: the subgradient of least norm."""
    zero = primal(x) == 0
    return np.where(zero, 0, np.sqrt(np.where(zero, 1, x))) if np.any(zero) else np.sqrt(x)


def square_modulus(x: Any) -> Any:
    """|x|^2, real for complex x."""
    return np.square(np.real(x)) + np.square(np.imag(x)) if np.iscomplexobj(x) else np.square(x)


@implements(np.mean)
def _np_mean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = None
) -> Any:
    a, n = in_dtype(a, dtype), _count(a, axis, where)
    n = restore(n, a.ndim, negative_axes(axis, a.ndim), False) if keepdims and np.ndim(n) else n
    return finish(np.sum(a, axis=axis, keepdims=keepdims, where=where) / n, out, dtype)


@implements(np.var)
def _np_var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    *,
    where: Any = None,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    a = in_dtype(a, dtype)
    if mean is None:
        mean = np.mean(a, axis=axis, keepdims=True, where=where)
    spread = np.sum(square_modulus(a - mean), axis=axis, keepdims=keepdims, where=where)
    n = _count(a, axis, where)
    n = restore(n, a.ndim, negative_axes(axis, a.ndim), False) if keepdims and np.ndim(n) else n
    return finish(spread / (n - (ddof if correction is None else correction)), out, dtype)


@implements(np.std)
def _np_std(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, *args: Any, **kwargs: Any) -> Any:
    return finish(root(np.var(a, axis, dtype, None, *args, **kwargs)), out, dtype)


@implements(np.average)
def _np_average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False) -> Any:
    a = operand(a)
    if weights is None:
        y, weight = np.mean(a, axis=axis, keepdims=keepdims), np.asarray(float(_count(a, axis, None)))
    else:
        weights = operand(weights)
        weights = of_dtype(weights, np.result_type(a, weights))
        if np.shape(weights) != a.shape:
            places = [k + a.ndim for k in negative_axes(axis, a.ndim)]
            weights = np.transpose(weights, np.argsort(places))  # one axis of the weights for each, in that order
            weights = np.reshape(weights, [n if k in places else 1 for k, n in enumerate(a.shape)])
        weight = np.sum(np.broadcast_to(weights, a.shape), axis=axis, keepdims=keepdims)
        y = np.sum(a * weights, axis=axis, keepdims=keepdims) / weight
    return (y, np.broadcast_to(weight, np.shape(y))) if returned else y


@implements(np.quantile)
def _np_quantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: Any = "linear",
    keepdims: bool = False,
    *,
    weights: Any = None,
) -> Any:
    if weights is not None:
        raise MissingRuleError("np.quantile and np.percentile have no derivative rule for weights=")
    axes = negative_axes(axis, a.ndim)
    dtype = np.quantile(np.zeros(1, a.dtype), q, method=method).dtype  # some methods interpolate in that of q
    q = np.asarray(q, dtype=float)
    # where in the sorted row each quantile stands, as NumPy's method says of the row 0, 1, 2, ...
    rows = np.sort(last_axes(a, axes), axis=-1)
    place = np.quantile(np.arange(rows.shape[-1], dtype=float), q, method=method)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, rows.shape[-1] - 1)
    along = (place - low).astype(dtype)
    y = _beside_nan(rows, rows[..., low] + along * (rows[..., high] - rows[..., low]))
    y = np.moveaxis(y, range(-q.ndim, 0), range(q.ndim))
    if keepdims:
        y = restore(y, a.ndim, axes, False)
    return finish(y, out)


def _beside_nan(rows: Any, y: Any) -> Any:
    """What was found in sorted rows, or NaN where these hold one."""
    wrong = np.isnan(rows[..., -1]) if np.shape(rows)[-1] else np.zeros(1, bool)
    return np.where(np.reshape(wrong, wrong.shape + (1,) * (np.ndim(y) - wrong.ndim)), np.nan, y) if wrong.any() else y


@implements(np.percentile)
def _np_percentile(a: Any, q: Any, *args: Any, **kwargs: Any) -> Any:
    return np.quantile(a, q / 100 if type(q) in (int, float) else np.true_divide(q, 100), *args, **kwargs)


@implements(np.median)
def _np_median(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: bool = False) -> Any:
    axes = negative_axes(axis, a.ndim)
    rows = np.sort(last_axes(a, axes), axis=-1)
    n = rows.shape[-1]
    y = rows[..., n // 2] if n % 2 else (rows[..., n // 2 - 1] + rows[..., n // 2]) / 2
    return finish(restore(_beside_nan(rows, y), a.ndim, axes, not keepdims), out)


@implements(np.cov)
def _np_cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: Any = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Any:
    x = np.atleast_2d(in_dtype(operand(m), dtype))
    x = x if rowvar or np.ndim(m) == 1 else x.T
    if y is not None:
        y = np.atleast_2d(operand(y))
        x = np.concatenate([x, y if rowvar or y.shape[0] == 1 else y.T], axis=0)
    ddof = (0 if bias else 1) if ddof is None else ddof
    w = 1.0 if fweights is None else np.asarray(fweights, dtype=float)
    w = w if aweights is None else w * operand(aweights)
    total_weight = np.sum(np.broadcast_to(w, x.shape[1:]))
    of_squares = ddof if aweights is None else ddof * np.sum(w * aweights) / total_weight
    d = x - np.sum(w * x, axis=1, keepdims=True) / total_weight
    return np.squeeze((w * d) @ np.conj(d.T) / (total_weight - of_squares))


@implements(np.corrcoef)
def _np_corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    c = np.cov(x, y, rowvar, dtype=dtype)
    if np.ndim(c) == 0:
        return c / c
    scale = np.sqrt(np.real(np.diag(c)))
    return c / scale[:, None] / scale


def _without_nan(function: Any, fill: float) -> Any:
    """nansum and its kin: the same with NaN replaced by what does not count."""

    def of_traced(a: Any, *args: Any, **kwargs: Any) -> Any:
        return function(np.where(np.isnan(a), fill, a), *args, **kwargs)

    return of_traced


_function: Any
_nan_function: Any
for _nan_function, _function, _fill in (
    (np.nansum, np.sum, 0.0),
    (np.nanprod, np.prod, 1.0),
    (np.nancumsum, np.cumsum, 0.0),
    (np.nancumprod, np.cumprod, 1.0),
    (np.nanmax, np.max, -np.inf),
    (np.nanmin, np.min, np.inf),
):
    implements(_nan_function)(_without_nan(_function, _fill))
for _nan_function, _function in ((np.nanmean, np.mean), (np.nanvar, np.var), (np.nanstd, np.std)):
    implements(_nan_function)(
        lambda a, *args, where=True, _function=_function, **kwargs: _function(
            np.where(np.isnan(a), 0, a), *args, where=where & ~np.isnan(a), **kwargs
        )
    )


# ---------------------------------------------------------------------------------------------------------------------
# Differences, integrals and tables along an axis


@implements(np.diff)
def _np_diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n}")
    a = operand(a)
    axis = negative_axis(axis, a.ndim)
    row = [1 if k - a.ndim == axis else m for k, m in enumerate(a.shape)]
    ends = [e if e is None or np.ndim(e) else np.broadcast_to(e, row) for e in (prepend, append)]
    a = (
        np.concatenate([e for e in (ends[0], a, ends[1]) if e is not None], axis=axis)
        if any(e is not None for e in ends)
        else a
    )
    for _ in range(n):
        a = a[piece_along(axis, slice(1, None))] - a[piece_along(axis, slice(None, -1))]
    return a


@implements(np.ediff1d)
def _np_ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    pieces = (to_begin, np.diff(np.ravel(ary)), to_end)
    return np.concatenate([np.ravel(p) for p in pieces if p is not None], dtype=np.result_type(ary))


@implements(np.trapezoid)
def _np_trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    y = np.moveaxis(operand(y), axis, -1)
    if x is not None:
        x = operand(x)
        dx = np.diff(x if np.ndim(x) == 1 else np.moveaxis(x, axis, -1))
    return np.sum(dx * (y[..., 1:] + y[..., :-1]) / 2, axis=-1)


def _slope(f: Any, spacing: Any, edge_order: int) -> Any:
    """np.gradient along the last axis: second order inside, of first or second order at the ends."""
    n = np.shape(f)[-1]
    if n < edge_order + 1:
        raise ValueError(
            "Shape of array too small to calculate a numerical gradient, "
            "at least (edge_order + 1) elements are required."
        )
    spacing = operand(spacing)
    if spacing.dtype.kind in "iu":
        spacing = spacing.astype(np.float64)  # differences of unsigned numbers wrap
    h: Any = np.broadcast_to(spacing, (n - 1,)) if np.ndim(spacing) == 0 else np.diff(spacing)
    if np.shape(h) != (n - 1,):
        raise ValueError("when 1d, distances must match the length of the corresponding dimension")
    h = h if isinstance(h, Tracer) else h.astype(real_dtype(f))
    rise = np.diff(f) / h
    first, last = rise[..., :1], rise[..., -1:]
    if n == 2:
        return np.concatenate([first, last], axis=-1)
    before, behind = h[:-1], h[1:]
    inside = (behind * rise[..., :-1] + before * rise[..., 1:]) / (before + behind)
    if edge_order == 2:  # the line through the neighbouring slopes, continued to the end
        bend = (rise[..., 1:] - rise[..., :-1]) / (before + behind)
        first, last = first - before[:1] * bend[..., :1], last + behind[-1:] * bend[..., -1:]
    return np.concatenate([first, inside, last], axis=-1)


@implements(np.gradient)
def _np_gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    f = operand(f)
    axes = negative_axes(axis, f.ndim)
    spacings = (
        varargs if len(varargs) == len(axes) else varargs * len(axes) if len(varargs) == 1 else (1.0,) * len(axes)
    )
    if len(varargs) not in (0, 1, len(axes)):
        raise TypeError("invalid number of arguments")
    slopes = [np.moveaxis(_slope(np.moveaxis(f, k, -1), h, edge_order), -1, k) for k, h in zip(axes, spacings)]
    return slopes[0] if len(slopes) == 1 else tuple(slopes)


@implements(np.interp)
def _np_interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    x, xp, fp = (of_dtype(z, np.result_type(z, np.float64)) for z in map(operand, (x, xp, fp)))
    if period is not None:
        order = np.argsort(primal(xp) % period)
        x, xp, fp = x % period, (xp % period)[order], fp[order]
        xp = np.concatenate([xp[-1:] - period, xp, xp[:1] + period])
        fp = np.concatenate([fp[-1:], fp, fp[:1]])
        left = right = None
    k = np.clip(np.searchsorted(primal(xp), primal(x), side="right") - 1, 0, max(len(xp) - 2, 0))
    j = np.minimum(k + 1, len(xp) - 1)
    width = xp[j] - xp[k]
    y = fp[k] + (x - xp[k]) * (fp[j] - fp[k]) / np.where(primal(width) == 0, 1, width)
    y = np.where(primal(x) < primal(xp)[0], fp[0] if left is None else left, y)
    return np.where(primal(x) > primal(xp)[-1], fp[-1] if right is None else right, y)


@implements(np.bincount)
def _np_bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Any:
    length = np.bincount(x, minlength=minlength).shape
    return add_up(np.astype(weights, np.float64), index=np.asarray(x), shape=length)


@implements(np.linspace)
def _np_linspace(
    start: Any,
    stop: Any,
    num: int = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    **kwargs: Any,
) -> Any:
    t, step = np.linspace(0.0, 1.0, num, endpoint, retstep=True)
    ndim = max(np.ndim(start), np.ndim(stop))
    t = t.reshape((-1,) + (1,) * ndim).astype(real_dtype(start + stop))
    y = finish(np.moveaxis((1 - t) * start + t * stop, 0, axis), None, dtype)
    return (y, step * (stop - start)) if retstep else y
