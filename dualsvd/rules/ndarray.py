"""What else an array can do: its methods, and the questions that its primal answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import MissingRuleError
from . import products, reductions, selection, statistics, structural  # noqa: F401, whose functions are methods below
from .registry import NUMPY, Tracer, implements, leaving, linear, primal
from .structural import finish

# ---------------------------------------------------------------------------------------------------------------------
# Questions: whole numbers, truth values and texts have no derivative, so the primal answers

_QUESTIONS = """
    all allclose any argmax argmin argpartition argsort argwhere array_equal array_equiv can_cast common_type
    count_nonzero digitize flatnonzero histogram_bin_edges isclose iscomplex isin isneginf isposinf isreal lexsort
    min_scalar_type nanargmax nanargmin nonzero result_type searchsorted unravel_index diag_indices_from
    tril_indices_from triu_indices_from isfinite isinf isnan isnat logical_and logical_not logical_or logical_xor
    signbit spacing
"""


def _plain(x: Any) -> Any:
    return type(x)(map(_plain, x)) if type(x) in (list, tuple) else primal(x)


def _question(function: Any) -> Any:
    def of_traced(*args: Any, **kwargs: Any) -> Any:
        return function(*map(_plain, args), **{name: _plain(x) for name, x in kwargs.items()})

    return of_traced


for _name in _QUESTIONS.split():
    implements(getattr(np, _name))(_question(getattr(np, _name)))
for _name in ("logical_and", "logical_or"):
    _reduce = getattr(np, _name).reduce
    implements((getattr(np, _name), "reduce"))(_question(_reduce))


@implements(np.shape)
def _shape(a: Any) -> tuple[int, ...]:
    return a.shape


@implements(np.ndim)
def _ndim(a: Any) -> int:
    return a.ndim


@implements(np.size)
def _size(a: Any, axis: Any = None) -> int:
    return np.size(primal(a), axis)


@implements(np.array_repr, np.array_str, np.array2string)
def _text(a: Any, *args: Any, **kwargs: Any) -> str:
    return repr(a)


@implements(np.shares_memory, np.may_share_memory)
def _shares_memory(a: Any, b: Any, /, max_work: Any = None) -> bool:
    return np.shares_memory(primal(a), primal(b)) if isinstance(primal(a), np.ndarray) else False


@implements(np.unique)
def _unique(
    ar: Any,
    return_index: Any = False,
    return_inverse: Any = False,
    return_counts: Any = False,
    axis: int | None = None,
    *,
    equal_nan: bool = True,
    **kwargs: Any,
) -> Any:
    """The elements, or the slices along `axis`, that stand first among their equals."""
    x = primal(ar)
    _, index, *more = np.unique(x, True, return_inverse, return_counts, axis, equal_nan=equal_nan, **kwargs)
    first = np.ravel(ar)[index] if axis is None else np.take(ar, index, axis)
    wanted = (first, *([index] if return_index else []), *more)
    return wanted if len(wanted) > 1 else wanted[0]


# ---------------------------------------------------------------------------------------------------------------------
# Rounding, and ufuncs made of others


@implements(np.round, np.around)
def _round(a: Any, decimals: int = 0, out: Any = None) -> Any:
    return finish(np.full_like(a, np.round(primal(a), decimals)), out)


@implements(np.fix)
def _fix(x: Any, out: Any = None) -> Any:
    return np.trunc(x, out=out)


@implements(np.divmod)
def _divmod(x1: Any, x2: Any) -> tuple[Any, Any]:
    return np.floor_divide(x1, x2), np.remainder(x1, x2)


@implements(np.modf)
def _modf(x: Any) -> tuple[Any, Any]:
    whole, infinite = np.trunc(x), np.isinf(x)
    return np.where(infinite, 0, x) - np.where(infinite, 0, whole), whole


ldexp = linear(
    "ldexp",
    lambda x, exponents: np.ldexp(x, exponents),
    lambda y_bar, x, exponents: np.ldexp(y_bar, exponents),
    lambda rng: (
        ((rng.standard_normal(shape).astype(dtype),), {"exponents": np.array([3, -2])})
        for shape in ((2,), (3, 2), (0, 2))
        for dtype in (np.float64, np.float32)
    ),
)


@implements(np.ldexp)
def _ldexp(x1: Any, x2: Any) -> Any:
    shape = np.broadcast_shapes(np.shape(x1), np.shape(x2))
    return ldexp(x1 if x1.shape == shape else np.broadcast_to(x1, shape), exponents=primal(x2))


@implements(np.real_if_close)
def _real_if_close(a: Any, tol: float = 100) -> Any:
    return np.real(a) if np.isrealobj(np.real_if_close(primal(a), tol)) else a


@implements(np.unwrap)
def _unwrap(p: Any, discont: Any = None, axis: int = -1, *, period: float = 2 * np.pi) -> Any:
    value = primal(p)
    with np.errstate(invalid="ignore"):  # what is infinite stays
        whole = np.unwrap(value, discont, axis, period=period)
        turns = whole - value
    return p + np.where(whole == value, 0, turns)


@implements(np.apply_along_axis)
def _apply_along_axis(func1d: Any, axis: int, arr: Any, *args: Any, **kwargs: Any) -> Any:
    rows = np.moveaxis(arr, axis, -1)
    results = [func1d(rows[k], *args, **kwargs) for k in np.ndindex(*rows.shape[:-1])]
    shape = np.shape(results[0])
    table = np.reshape(np.stack(results), (*rows.shape[:-1], *shape))
    return np.moveaxis(table, range(-len(shape), 0), range(axis % arr.ndim, axis % arr.ndim + len(shape)))


# ---------------------------------------------------------------------------------------------------------------------
# Methods

_METHODS = """
    all any argmax argmin argpartition argsort clip cumprod cumsum diagonal dot
    max mean min nonzero prod ravel repeat round searchsorted squeeze std sum swapaxes take trace var
"""


def _method(name: str) -> Any:
    function = NUMPY[getattr(np, name)]

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    method.__name__ = name
    return method


for _name in _METHODS.split():
    setattr(Tracer, _name, _method(_name))


def _several(args: tuple[Any, ...]) -> Any:
    """x.reshape(2, 3) and x.reshape((2, 3)) are the same."""
    return args[0] if len(args) == 1 and not isinstance(args[0], (int, np.integer)) else args


def _reshape(self: Any, *shape: Any, order: Any = "C", copy: Any = None) -> Any:
    return np.reshape(self, _several(shape), order=order)


def _transpose(self: Any, *axes: Any) -> Any:
    return np.transpose(self, _several(axes) if axes else None)


def _view(self: Any, dtype: Any = None, type: Any = None) -> Any:
    if type is not None or (dtype is not None and np.dtype(dtype) != self.dtype):
        raise MissingRuleError(leaving("x.view(dtype)", "use x.astype(dtype), or np.real(x) and np.imag(x)"))
    return self[...]


def _astype(
    self: Any, dtype: Any, order: Any = "K", casting: Any = "unsafe", subok: bool = True, copy: Any = True
) -> Any:
    if casting != "unsafe":
        np.empty(0, self.dtype).astype(dtype, casting=casting)  # NumPy's own complaint
    y = NUMPY[np.astype](self, dtype, copy=copy)
    return y if order == "K" or not isinstance(y, Tracer) else np.copy(y, order)


def _conj(self: Any) -> Any:
    """Of real arrays NumPy's method, unlike its function, gives the array itself."""
    return np.conj(self) if np.iscomplexobj(self) else self


def _flatten(self: Any, order: Any = "C") -> Any:
    return np.copy(np.ravel(self, order))


def _sort(self: Any, axis: int = -1, **kwargs: Any) -> None:
    self[...] = np.sort(self, axis, **kwargs)


def _fill(self: Any, value: Any) -> None:
    self[...] = value


def _put(self: Any, indices: Any, values: Any, mode: Any = "raise") -> None:
    np.put(self, indices, values, mode)


for _name, _attribute in {
    "reshape": _reshape,
    "copy": lambda self, order="C": np.copy(self, order),
    "compress": lambda self, condition, axis=None, out=None: np.compress(condition, self, axis, out),
    "transpose": _transpose,
    "view": _view,
    "astype": _astype,
    "conj": _conj,
    "conjugate": _conj,
    "strides": property(lambda self: primal(self).strides),
    "flags": property(lambda self: primal(self).flags),
    "flatten": _flatten,
    "sort": _sort,
    "fill": _fill,
    "put": _put,
    "itemsize": property(lambda self: self.dtype.itemsize),
    "nbytes": property(lambda self: self.size * self.dtype.itemsize),
    "__divmod__": _divmod,
    "__rdivmod__": lambda self, other: _divmod(other, self),
    "__round__": lambda self, digits=0: np.round(self, digits or 0),
    "__contains__": lambda self, x: x in primal(self),
    "__copy__": lambda self: np.copy(self),
    "__deepcopy__": lambda self, memo: np.copy(self),
}.items():
    setattr(Tracer, _name, _attribute)
