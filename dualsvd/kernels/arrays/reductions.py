"""Sums, extrema and products of compiled DualArrays."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import types
from numba.core.registry import cpu_target
from numba.extending import overload_method

from ...errors import MissingRuleError
from ..scalars import is_none, refusal, stage
from .model import DualArrayType, allocator, as_element_of, element_type, number_of, overload_array, zero_of
from .source import definition, from_source, loops_over

#: Sums of up to so many partials are written out one by one; more go through an array, for each would take Numba 25 ms.
_WRITTEN_OUT = 4


def _sum_along(n: int) -> str:
    """Source of the sum along one axis of an array of n axes: a branch for each axis, as the result's shape differs."""
    axes = range(n)
    lines = [*(f"n{a} = a.shape[{a}]" for a in axes), f"along = axis + {n} if axis < 0 else axis"]
    for along in axes:
        shape, at = ("".join(f"{letter}{a}, " for a in axes if a != along) for letter in "ni")
        loops = loops_over(axes, f"out[{at}] = out[{at}] + a[{', '.join(f'i{a}' for a in axes)}]")
        block = [f"if along == {along}:", f"    out = allocate(({shape}))", *(f"    {line}" for line in loops)]
        lines += [*block, "    return out"]
    return definition("a, axis=None", [*lines, f"raise ValueError('the array has {n} axes, and not that one')"])


def _refuse_axes(axis: Any) -> None:
    if not (is_none(axis) or isinstance(axis, types.Integer)):
        raise refusal(MissingRuleError, f"compiled, the axis of a sum or mean is one integer, got {axis}: sum twice")


@overload_array(np.sum)
@overload_method(DualArrayType, "sum")
def _sum(a, axis=None):
    if not isinstance(a, DualArrayType):
        return None
    _refuse_axes(axis)
    if isinstance(axis, types.Integer) and a.ndim > 1:
        return from_source(_sum_along(a.ndim), allocate=allocator(a.element, "zeros"))
    lines = []
    if isinstance(axis, types.Integer):
        lines.append("if axis != 0 and axis != -1: raise ValueError('the array has 1 axis, and not that one')")
    if a.count <= _WRITTEN_OUT:
        partials = "".join(f"np.sum(a.partials[{k}]), " for k in range(a.count))
        lines.append(f"return number(np.sum(a.value), ({partials}))")
    else:
        sums = f"for k in range({a.count}): total.partials[k, 0] = np.sum(a.partials[k])"
        lines += ["total = allocate((1,))", "total.value[0] = np.sum(a.value)", sums, "return total[0]"]
    source, allocate = definition("a, axis=None", lines), allocator(a.element, "empty")
    return from_source(source, np=np, number=number_of(a.element), allocate=allocate)


@overload_array(sum)
def _builtin_sum(iterable, start=0):
    if not isinstance(iterable, DualArrayType):
        return None
    if iterable.ndim > 1:
        return lambda iterable, start=0: np.sum(iterable, 0) + start
    zero = zero_of(iterable.element)

    def add_up(iterable, start=0):
        total = start + zero()
        for x in iterable:
            total = total + x
        return total

    return add_up


@overload_array(np.mean)
@overload_method(DualArrayType, "mean")
def _mean(a, axis=None):
    if not isinstance(a, DualArrayType):
        return None
    _refuse_axes(axis)
    if isinstance(axis, types.Integer):
        return lambda a, axis=None: np.sum(a, axis) / a.shape[axis]
    return lambda a, axis=None: np.divide(np.sum(a), a.size)  # as arrays divide


@overload_array(np.trace)
@overload_method(DualArrayType, "trace")
def _trace(a):
    if not isinstance(a, DualArrayType):
        return None
    zero = zero_of(a.element)

    def trace(a):
        total = zero()
        for i in range(min(a.shape)):
            total = total + a[i, i]
        return total

    return trace


@overload_array(np.outer)
def _outer(a, b):
    if isinstance(a, DualArrayType) or isinstance(b, DualArrayType):
        return lambda a, b: a.ravel().reshape((a.size, 1)) * b.ravel().reshape((1, b.size))
    return None


@overload_array(np.prod)
@overload_method(DualArrayType, "prod")
def _prod(a):
    if not isinstance(a, DualArrayType):
        return None
    axes = range(a.ndim)
    loops = loops_over(axes, f"result = result * a[{', '.join(f'i{k}' for k in axes)}]")
    lines = ["result = as_element(1)", *(f"n{k} = a.shape[{k}]" for k in axes), *loops, "return result"]
    return from_source(definition("a", lines), as_element=as_element_of(a.element))


def _extremum(function: Callable[..., Any], position: Callable[..., Any]) -> Callable[..., Any]:
    """The element where the value is largest or smallest, the first of equals."""

    def extremum(a):
        if not isinstance(a, DualArrayType):
            return None
        lines = ["k = position(a.value)"]
        for axis in reversed(range(a.ndim)):
            lines += [f"i{axis} = k % a.shape[{axis}]", f"k = k // a.shape[{axis}]"]
        lines.append(f"return a[{', '.join(f'i{axis}' for axis in range(a.ndim))}]")
        return from_source(definition("a", lines), position=position)

    return overload_array(function)(extremum)


overload_method(DualArrayType, "max")(_extremum(np.max, np.argmax))
overload_method(DualArrayType, "min")(_extremum(np.min, np.argmin))
_extremum(np.amax, np.argmax)
_extremum(np.amin, np.argmin)


@overload_method(DualArrayType, "dot")
def _dot(a, b):
    return lambda a, b: np.dot(a, b)


@overload_array(operator.matmul)
@overload_array(np.dot)
def _matmul(a, b):
    if not (isinstance(a, DualArrayType) or isinstance(b, DualArrayType)):
        return None
    if not all(isinstance(x, (DualArrayType, types.Array)) and x.ndim in (1, 2) for x in (a, b)):
        return None
    element = stage(operator.mul, (element_type(a), element_type(b)), cpu_target.typing_context)
    free = [axis for axis, x in (("a.shape[0]", a), ("b.shape[1]", b)) if x.ndim == 2]
    loops = [f"{'    ' * k}for i{k} in range({length}):" for k, length in enumerate(free)]
    at = ", ".join(f"i{k}" for k in range(len(free)))
    left = "a[i0, k]" if a.ndim == 2 else "a[k]"
    right = f"b[k, i{len(free) - 1}]" if b.ndim == 2 else "b[k]"
    indent = "    " * len(free)
    store = f"{indent}out[{at}] = s" if free else "out = s"
    lines = [
        f"if a.shape[{a.ndim - 1}] != b.shape[0]: raise ValueError('the inner axes of a product differ in length')",
        *([f"out = allocate(({', '.join(free)},))"] if free else []),
        *loops,
        f"{indent}s = zero()",
        f"{indent}for k in range(b.shape[0]): s = s + {left} * {right}",
        store,
        "return out",
    ]
    source = "def f(a, b):\n    " + "\n    ".join(lines)
    return from_source(source, zero=zero_of(element), allocate=allocator(element, "empty"))


@overload_array(np.linalg.svd)
def _svd(a, full_matrices=True):
    if isinstance(a, DualArrayType):
        raise refusal(
            MissingRuleError,
            "compiled, write U, S, Vh = dualsvd.kernels.svd_small(x) for np.linalg.svd(x) of a DualArray; it is thin, "
            "and S alone is svdvals_small(x)",
        )
    return None
