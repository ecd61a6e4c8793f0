"""Statistics, differences, integrals and tables along axes: all made of the rules for reductions."""

from __future__ import annotations

import math
import warnings
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


def _count(a: Any, axis: Any, where: Any, keepdims: Any = False) -> Any:
    """How many elements a mean along those axes is over."""
    if where is None or where is True:
        return math.prod(a.shape[k] for k in negative_axes(axis, a.ndim))
    return np.sum(np.broadcast_to(where, a.shape), axis=axis, dtype=real_dtype(a), keepdims=bool(keepdims))


def _freedom(n: Any, ddof: Any) -> Any:
    """Degrees of freedom, of which there are none rather than less."""
    left = n - ddof
    if np.any(left <= 0) if np.ndim(left) else left <= 0:
        warnings.warn("Degrees of freedom <= 0 for slice", RuntimeWarning, stacklevel=2)
    return np.maximum(left, 0) if np.ndim(left) else max(left, 0)


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
    a, n = in_dtype(a, dtype), _count(a, axis, where, keepdims)
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
    if mean is None:
        mean = np.mean(a, axis=axis, dtype=dtype, keepdims=True, where=where)
    if dtype is not None and (a.dtype.kind != "c" or np.dtype(dtype).kind == "c"):  # NumPy casts the mean alone there
        a = in_dtype(a, dtype)
    spread = np.sum(square_modulus(a - mean), axis=axis, keepdims=keepdims, where=where)
    free = _freedom(_count(a, axis, where, keepdims), ddof if correction is None else correction)
    return finish(spread / free, out, dtype)


@implements(np.std)
def _np_std(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, *args: Any, **kwargs: Any) -> Any:
    return finish(root(np.var(a, axis, dtype, None, *args, **kwargs)), out, dtype)


@implements(np.average)
def _np_average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False) -> Any:
    a = operand(a)
    if weights is None:
        y = np.mean(a, axis=axis, keepdims=keepdims)
        weight = np.asarray(_count(a, axis, None), dtype=y.dtype)
    else:
        weights = operand(weights)
        weights = of_dtype(weights, np.result_type(a, weights, *([np.float64] if a.dtype.kind in "iub" else [])))
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
    q = np.asarray(q)
    q = q if q.dtype.kind in "iu" else q.astype(float)  # whole ones name elements
    # where in the sorted row each quantile stands, as NumPy's method says of the row 0, 1, 2, ...
    rows = np.sort(last_axes(a, axes), axis=-1)
    place = np.quantile(np.arange(rows.shape[-1]), q, method=method)
    y = _beside_nan(rows, _between(rows, place, dtype) if place.dtype.kind == "f" else np.take(rows, place, axis=-1))
    y = np.moveaxis(y, range(-q.ndim, 0), range(q.ndim))
    if keepdims:
        y = restore(y, a.ndim, axes, False)
    return finish(y, out)


def _between(rows: Any, place: Any, dtype: Any) -> Any:
    """The numbers of sorted rows at places between their elements, counted from the nearer one as NumPy does."""
    low = np.floor(place).astype(int)
    along, high = (place - low).astype(dtype), np.minimum(low + 1, rows.shape[-1] - 1)
    nearer, ahead = np.where(along < 0.5, low, high), np.where(along < 0.5, along, along - 1)
    return rows[..., nearer] + ahead * (rows[..., high] - rows[..., low])


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
    if n % 2:
        y = np.take(rows, n // 2, axis=-1)
    else:
        y = (rows[..., n // 2 - 1] + rows[..., n // 2]) / 2 if n else np.mean(rows, axis=-1)  # NaN, with a warning
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
    arrays = [operand(z) for z in (m, y) if z is not None]
    dtype = np.result_type(*arrays, np.float64) if dtype is None else np.dtype(dtype)
    x, *others = (np.atleast_2d(in_dtype(z, dtype)) for z in arrays)
    x = x if rowvar or np.ndim(m) == 1 else x.T
    x = np.concatenate([x, *(z if rowvar or z.shape[0] == 1 else z.T for z in others)], axis=0)
    ddof = (0 if bias else 1) if ddof is None else ddof
    w = 1.0 if fweights is None else np.asarray(fweights, dtype=float)
    w = w if aweights is None else w * operand(aweights)
    total_weight = np.sum(np.broadcast_to(w, x.shape[1:]))
    of_squares = ddof if aweights is None else ddof * np.sum(w * aweights) / total_weight
    d = x - np.sum(w * x, axis=1, keepdims=True) / total_weight
    c = np.squeeze((w * d) @ np.conj(d.T) / _freedom(total_weight, of_squares))
    return finish(c, None, np.result_type(dtype, np.float64) if np.ndim(w) else dtype)


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
):
    implements(_nan_function)(_without_nan(_function, _fill))


def _extreme_but_nan(function: Any, worst: float) -> Any:
    """nanmax and nanmin, which are NaN over nothing else."""

    def of_traced(
        a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None, where: Any = None
    ) -> Any:
        gaps = np.isnan(a)
        y = function(np.where(gaps, worst, a), axis, None, keepdims, initial, where)
        nothing = np.all(gaps, axis=axis, keepdims=bool(keepdims))
        if initial is None and np.any(nothing):
            warnings.warn("All-NaN slice encountered", RuntimeWarning, stacklevel=2)
            y = np.where(nothing, np.nan, y)
        return finish(y, out)

    return of_traced


implements(np.nanmax)(_extreme_but_nan(np.max, -np.inf))
implements(np.nanmin)(_extreme_but_nan(np.min, np.inf))


@implements(np.nanmean)
def _np_nanmean(a: Any, *args: Any, where: Any = True, **kwargs: Any) -> Any:
    return np.mean(np.where(np.isnan(a), 0, a), *args, where=where & ~np.isnan(a), **kwargs)


@implements(np.nanvar)
def _np_nanvar(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    *,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    there, ddof = where & ~np.isnan(a), ddof if correction is None else correction
    n = _count(a, axis, there, keepdims)
    none = n <= ddof
    if np.any(none):
        warnings.warn("Degrees of freedom <= 0 for slice.", RuntimeWarning, stacklevel=2)
        ddof = np.where(none, n - 1, ddof).astype(real_dtype(a))  # anything that leaves finite slopes
    with np.errstate(invalid="ignore"):
        y = np.var(np.where(np.isnan(a), 0, a), axis, dtype, None, ddof, keepdims, where=there, mean=mean)
    return finish(np.where(none, np.nan, y) if np.any(none) else y, out)


@implements(np.nanstd)
def _np_nanstd(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, *args: Any, **kwargs: Any) -> Any:
    return finish(root(np.nanvar(a, axis, dtype, None, *args, **kwargs)), out, dtype)


# ---------------------------------------------------------------------------------------------------------------------
# Differences, integrals and tables along an axis


@implements(np.diff)
def _np_diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n}")
    if n == 0:
        return a
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
    if np.ndim(spacing) == 0 or not (isinstance(h, Tracer) or np.any(h != h[0])):
        inside = (f[..., 2:] - f[..., :-2]) / (2 * before)
    else:  # as NumPy has it: what is infinite in the middle meets one weight
        middle = (behind - before) / (before * behind) * f[..., 1:-1]
        outer = before / behind * f[..., 2:] - behind / before * f[..., :-2]
        inside = middle + outer / (before + behind)
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
    # a line to infinity starts at its finite end, and its ends are themselves
    at_k, at_j = (primal(x) == primal(xp)[i] for i in (k, j))
    ends = primal(fp)[k], primal(fp)[j]
    flat = (at_k | at_j | (ends[0] == ends[1])) & ~(np.isfinite(ends[0]) & np.isfinite(ends[1]))
    rise = np.where(flat, 0, fp[j]) - np.where(flat, 0, fp[k])
    start = np.where(at_k | (np.isfinite(ends[0]) & ~(at_j & flat)), k, j)
    y = fp[start] + (x - xp[start]) * rise / np.where(primal(width) == 0, 1, width)
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
    return (y, float(step) * (stop - start)) if retstep else y
