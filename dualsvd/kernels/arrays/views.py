"""Shapes and views of compiled DualArrays, and new arrays like them: what acts on value and partials alike."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic, lower_builtin, overload_attribute, overload_method
from numba.np import arrayobj

from ...errors import DTypeError
from ..number_types import lane_type
from ..scalars import is_none, refusal
from .model import DualArrayType, allocator, overload_array, pair_of
from .source import definition, from_source


def _same_for_value(name: str) -> None:
    @overload_attribute(DualArrayType, name)
    def attribute(A):
        return from_source(f"def f(A): return A.value.{name}")


for _name in ("shape", "ndim", "size", "dtype"):
    _same_for_value(_name)


def _same_for_both(name: str) -> None:
    @overload_attribute(DualArrayType, name)
    def attribute(A):
        pair = pair_of(A.count, A.level)
        return from_source(f"def f(A): return pair(A.value.{name}, A.partials.{name})", pair=pair)


for _name in ("real", "imag"):  # views, as Numba's
    _same_for_both(_name)


@overload_array(len)
def _len(A):
    if isinstance(A, DualArrayType):
        return lambda A: len(A.value)
    return None


@overload_array(np.size)
def _size(a):
    if isinstance(a, DualArrayType):
        return lambda a: a.size
    return None


@lower_builtin(operator.is_, DualArrayType, DualArrayType)
def _is(context: Any, builder: Any, sig: Any, values: Any) -> Any:
    """Whether two arrays see the same memory in the same way, as of Numba's own."""
    if sig.args[0] != sig.args[1]:
        return cgutils.false_bit
    return context.compile_internal(builder, lambda a, b: a.value is b.value and a.partials is b.partials, sig, values)


@overload_array(np.shape)
def _shape(a):
    if isinstance(a, DualArrayType):
        return lambda a: a.shape
    return None


@functools.cache
def _permuted(order: tuple[int, ...]) -> Callable[..., Any]:
    """array -> the view whose axis k is axis order[k] of the array, which is known at compile time."""

    @intrinsic
    def permuted(typing: Any, a: Any) -> Any:
        layout = {"C": "F", "F": "C"}.get(a.layout, "A") if order == tuple(reversed(range(a.ndim))) else "A"
        t = a.copy(layout=layout)

        def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            old, new = context.make_array(a)(context, builder, values[0]), context.make_array(t)(context, builder)
            shape, strides = (cgutils.unpack_tuple(builder, x, a.ndim) for x in (old.shape, old.strides))
            arrayobj.populate_array(
                new,
                data=old.data,
                shape=[shape[k] for k in order],
                strides=[strides[k] for k in order],
                itemsize=old.itemsize,
                meminfo=old.meminfo,
                parent=old.parent,
            )
            return impl_ret_borrowed(context, builder, t, new._getvalue())

        return t(a), generate

    return permuted


def _reorder(order: tuple[int, ...]) -> Callable[..., Any]:
    """The same for Numba's arrays and compiled DualArrays."""

    def reorder(a):
        pass

    @overload_array(reorder)
    def overloaded(a):
        if not isinstance(a, DualArrayType):
            permuted = _permuted(order)
            return lambda a: permuted(a)
        pair, value, partials = pair_of(a.count, a.level), _reorder(order), _reorder((0, *(k + 1 for k in order)))
        return lambda a: pair(value(a.value), partials(a.partials))

    return reorder


@overload_attribute(DualArrayType, "T")
def _T(A):
    reverse = _reorder(tuple(reversed(range(A.ndim))))
    return lambda A: reverse(A)


@overload_array(np.transpose)
def _transpose(a, axes=None):
    if not isinstance(a, DualArrayType):
        return None
    if is_none(axes):
        return lambda a, axes=None: a.T
    behind = "".join(f"axes[{k}] % {a.ndim} + 1, " for k in range(len(axes)))
    value, partials = "np.transpose(a.value, axes)", f"np.transpose(a.partials, (0, {behind}))"
    return from_source(f"def f(a, axes=None): return pair({value}, {partials})", pair=pair_of(a.count, a.level), np=np)


@overload_method(DualArrayType, "transpose")
def _transpose_method(a, *axes):
    order = _entries(axes, "axes") if axes else []
    return from_source(f"def f(a, *axes): return np.transpose(a, ({''.join(order) or None}))", np=np)


@overload_method(DualArrayType, "reshape")
def _reshape(A, *shape):
    axes = "".join(_entries(shape, "shape"))
    source = f"def f(A, *shape): return pair(A.value.reshape(({axes})), A.partials.reshape(({A.count}, {axes})))"
    return from_source(source, pair=pair_of(A.count, A.level))


def _entries(arguments: Any, name: str) -> list[str]:
    """Source of the integers in *arguments, which are one by one or in a tuple."""
    several = isinstance(arguments[0], (types.StarArgTuple, types.StarArgUniTuple))
    kinds = arguments[0].types if several else arguments
    if len(kinds) == 1 and isinstance(kinds[0], types.BaseTuple):
        return [f"{name}[0][{k}], " for k in range(len(kinds[0]))]
    return [f"{name}[{k}], " for k in range(len(kinds))]


@overload_array(np.reshape)
def _np_reshape(a, shape):
    if isinstance(a, DualArrayType):
        return lambda a, shape: a.reshape(shape)
    return None


@overload_array(np.ravel)
@overload_method(DualArrayType, "ravel")
def _ravel(a):
    """A view where NumPy gives one, which Numba tells by the type."""
    if not isinstance(a, DualArrayType):
        return None
    return (lambda a: a.reshape(a.size)) if _is_contiguous(a) else (lambda a: a.flatten())


@overload_method(DualArrayType, "flatten")
def _flatten(a):
    return lambda a: a.copy().reshape(a.size)


def _is_contiguous(a: Any) -> bool:
    return all(
        _is_contiguous(part) if isinstance(part, DualArrayType) else part.layout == "C"
        for part in (a.value, a.partials)
    )


@overload_array(np.copy)
@overload_method(DualArrayType, "copy")
def _copy(a):
    if isinstance(a, DualArrayType):
        return lambda a: +a  # element by element: seeds of a nested derivative may be plain, the copy has room for all
    return None


# ---- new arrays like another one


def _make_like(a: types.Type, dtype: Any, arguments: str, fill: str) -> Any:
    if not isinstance(a, DualArrayType):
        return None
    same = isinstance(dtype, types.DTypeSpec) and dtype.dtype == lane_type(a.element)
    if not (same or is_none(dtype)):
        raise refusal(DTypeError, f"an array like a DualArray has its numbers, got {dtype}: leave out the dtype")
    lines = ["out = allocate(a.shape)", fill, "return out"]
    return from_source(definition(arguments, lines), allocate=allocator(a.element, "zeros"))


def _like(function: Callable[..., Any], fill: str) -> None:
    @overload_array(function)
    def like(a, dtype=None):
        return _make_like(a, dtype, "a, dtype=None", fill)


_like(np.zeros_like, "pass")
_like(np.empty_like, "pass")
_like(np.ones_like, "out[...] = 1")


@overload_array(np.full_like)
def _full_like(a, fill_value, dtype=None):
    return _make_like(a, dtype, "a, fill_value, dtype=None", "out[...] = fill_value")


@overload_method(DualArrayType, "fill")
def _fill(A, value):
    def fill(A, value):
        A[...] = value

    return fill


@overload_method(DualArrayType, "conj")
@overload_method(DualArrayType, "conjugate")
def _conj(A):
    return lambda A: np.conjugate(A)
