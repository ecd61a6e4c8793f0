"""Rules of the user's own."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..dual import Dual
from ..errors import DTypeError, MissingRuleError, ShapeError
from ..structure import tuple_like
from .registry import Examples, Operands, Rule, Tracer, as_numbers, leaving

#: the rules made by `custom_rule` that are still in use; check_rules() covers them
CUSTOM: weakref.WeakSet[Rule] = weakref.WeakSet()


def custom_rule(
    f: Callable[..., Any],
    pushforward: Callable[..., Any] | None = None,
    pullback: Callable[..., Any] | None = None,
    *,
    examples: Examples | None = None,
) -> Rule:
    """A function with derivatives of your own, in the mode or modes given.

    f            takes arrays, returns an array or a tuple of arrays; may be compiled, or call any library
    pushforward  (y, operands, tangents) -> dy, of the structure and shapes of y (None: zero; a number is that of every
                 element): one direction; each tangent has its operand's shape
    pullback     (y_bar, y, operands) -> the cotangent, or a tuple of them, one per operand (None: no derivative), of
                 its shape, or of that of the output over which it was broadcast, or a number
    examples     rng -> (operands, {}) pairs at which `check_rules` tests it; without, those of the latest call

    Every array that f depends on is an operand of its own: not part of a list, not a keyword, nor taken from outside.
    What f returns is copied where it lies in the memory of an operand; the arrays that the other two are given are
    read-only. The inner product is Re tr(X^H Y). For second derivatives, write both with NumPy functions.

    Raises ValueError where neither derivative is given, TypeError for one that is no function. What it returns raises
    MissingRuleError when a mode is used for which nothing was given, or a number of a derivative comes by
    another way than as an operand; ShapeError and DTypeError where what the three return does not fit.

    >>> import numpy as np, dualsvd as ds
    >>> cube = ds.custom_rule(lambda x: x**3, pullback=lambda y_bar, y, operands: 3 * operands[0] ** 2 * y_bar)
    >>> ds.gradient(lambda x: np.sum(cube(x)), np.array([1.0, 2.0]))
    array([ 3., 12.])
    """
    if pushforward is None and pullback is None:
        raise ValueError("custom_rule needs a pushforward, a pullback, or both; got neither")
    for part, given in {"f": f, "pushforward": pushforward, "pullback": pullback}.items():
        if not callable(given) and (given is not None or part == "f"):
            raise TypeError(f"{part} of custom_rule must be a function, got {given!r}")
    name = getattr(f, "__name__", "custom rule")
    latest: list[tuple[Operands, dict[str, Any]]] = []

    def function(*operands: Any, **params: Any) -> Any:
        y = _outputs(f(*operands, **params), operands, name)
        latest[:] = [(operands, params)]
        return y

    def push(y: Any, operands: Operands, tangents: Operands, **params: Any) -> Any:
        y, operands, tangents = map(_read_only, (y, operands, tangents))
        rows = []
        for k in range(next(len(t) for t in tangents if t is not None)):
            along = tuple(np.zeros_like(x) if t is None else t[k] for x, t in zip(operands, tangents))
            dy = pushforward(y, operands, along, **params)  # type: ignore[misc]
            rows.append(_tangents(dy, y, f"the pushforward of {name}"))
        if isinstance(y, tuple):
            return tuple(_stacked([row[k] for row in rows], v) for k, v in enumerate(y))
        return _stacked([row[0] for row in rows], y)

    def pull(y_bar: Any, y: Any, operands: Operands, **params: Any) -> Operands:
        if isinstance(y, tuple):
            y_bar = tuple_like(y, (np.zeros_like(v) if bar is None else bar for v, bar in zip(y, y_bar)))
        y_bar, y, operands = map(_read_only, (y_bar, y, operands))
        bars = pullback(y_bar, y, operands, **params)  # type: ignore[misc]
        return _cotangents(bars, y, operands, f"the pullback of {name}")

    rule = CustomRule(
        name,
        function,
        None if pushforward is None else push,
        None if pullback is None else pull,
        examples or (lambda rng: list(latest)),
        register=False,
    )
    CUSTOM.add(rule)
    return rule


class CustomRule(Rule):
    """A rule of the user's own, which sees to it that what is to be differentiated comes as operands."""

    __slots__ = ()

    def __call__(self, *operands: Any, **params: Any) -> Any:
        for key, param in params.items():
            if _is_traced(param):
                raise MissingRuleError(leaving(f"giving {self.name} a traced {key}=", "make it an operand"))
        for operand in operands:
            if isinstance(operand, (list, tuple)) and _is_traced(operand):
                raise MissingRuleError(
                    leaving(f"giving {self.name} a list of traced numbers", "join them with np.stack")
                )
        if any(isinstance(x, Dual) for x in operands):
            from ..forward import DualArray

            operands = tuple(DualArray.from_number(x) if isinstance(x, Dual) else x for x in operands)
        return super().__call__(*operands, **params)


def _is_traced(x: Any) -> bool:
    """Whether x is, or holds, a number of a derivative."""
    if isinstance(x, (list, tuple)):
        return any(map(_is_traced, x))
    return isinstance(x, (Tracer, Dual))


def _read_only(x: Any) -> Any:
    """x, or the arrays in it, as views that nobody can write to: they are the tape's, or an operand's own."""
    if isinstance(x, tuple):
        return tuple_like(x, map(_read_only, x))
    if type(x) is not np.ndarray:
        return x
    x = x.view()
    x.flags.writeable = False
    return x


# ---------------------------------------------------------------------------------------------------------------------
# What the user's functions return


def _outputs(y: Any, operands: Operands, name: str) -> Any:
    """What f returned, as arrays and NumPy's numbers, each in memory of its own."""
    taken = [x for x in operands if isinstance(x, np.ndarray)]

    def output(v: Any) -> Any:
        if isinstance(v, (Tracer, Dual)):
            raise MissingRuleError(
                leaving(f"a number of a derivative that {name} takes from outside", "make it an operand")
            )
        numbers = as_numbers(v, name)
        v = v if isinstance(v, np.ndarray) else numbers[()]
        if isinstance(v, np.ndarray):
            if any(np.may_share_memory(v, x) for x in taken):
                v = v.copy()
            taken.append(v)
        return v

    if isinstance(y, (list, tuple)):
        return tuple_like(y, map(output, y)) if isinstance(y, tuple) else tuple(map(output, y))
    return output(y)


def _fitting(derivative: Any, x: Any, whose: str, over: Iterable[Any] = ()) -> Any:
    """A derivative, if it has the shape of x, or of one of the arrays over which x was broadcast; a number is that of
    every element."""
    derivative, shape = as_numbers(derivative, whose), np.shape(x)
    if shape and derivative.shape == ():
        return np.broadcast_to(derivative, shape)
    if derivative.shape != shape and not any(_broadcasts(shape, v) for v in over if derivative.shape == np.shape(v)):
        raise ShapeError(f"{whose} must return an array of shape {shape}, got {derivative.shape}")
    return derivative


def _broadcasts(shape: tuple[int, ...], v: Any) -> bool:
    """Whether an array of that shape is broadcast over v."""
    return len(shape) <= np.ndim(v) and all(n in (1, m) for n, m in zip(shape[::-1], np.shape(v)[::-1]))


def _sequence(parts: Any, count: int, whose: str) -> list[Any]:
    """So many parts; one of them may come by itself, and None stands for zeros."""
    if parts is None:
        return [None] * count
    several = isinstance(parts, (list, tuple))
    if several and len(parts) == count:
        return list(parts)
    if count == 1:
        return [parts]
    got = f"one of {len(parts)}" if several else f"a single {type(parts).__name__}"
    raise ShapeError(f"{whose} must return a tuple of {count}, got {got}; None in it stands for zero")


def _tangents(dy: Any, y: Any, whose: str) -> list[Any]:
    """What a pushforward returned, one for each output."""
    outputs = y if isinstance(y, tuple) else (y,)

    def tangent(dv: Any, v: Any) -> Any:
        if dv is None:
            return np.zeros_like(v)
        dv = _fitting(dv, v, whose)
        if dv.dtype.kind == "c" != v.dtype.kind:
            raise DTypeError(f"{whose} returned complex numbers for a real output; take np.real of them")
        return dv

    return list(map(tangent, _sequence(dy, len(outputs), whose), outputs))


def _stacked(rows: list[Any], v: Any) -> Any:
    """The tangents of one output along all directions."""
    return np.stack(rows) if rows else np.zeros((0, *np.shape(v)))


def _cotangents(bars: Any, y: Any, operands: Operands, whose: str) -> Operands:
    """What a pullback returned, one for each operand: of its shape, or of that of an output over which it was broadcast
    (`fit` sums such a one)."""
    outputs = y if isinstance(y, tuple) else (y,)

    def cotangent(bar: Any, x: Any) -> Any:
        if callable(bar):
            return lambda: _fitting(bar(), x, whose, outputs)
        return None if bar is None else _fitting(bar, x, whose, outputs)

    return tuple(map(cotangent, _sequence(bars, len(operands), whose), operands))
