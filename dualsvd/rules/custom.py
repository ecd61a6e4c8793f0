"""Rules of the user's own."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from .registry import Examples, Operands, Rule

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
    pushforward  (y, operands, tangents) -> dy: one direction; each tangent has its operand's shape
    pullback     (y_bar, y, operands) -> the cotangent, or a tuple of them, one per operand (None: no derivative)
    examples     rng -> (operands, {}) pairs at which `check_rules` tests it; without, those of the latest call

    The inner product is Re tr(X^H Y). For second derivatives, write both with NumPy functions.

    Raises MissingRuleError when a mode is used for which nothing was given.

    >>> import numpy as np, dualsvd as ds
    >>> cube = ds.custom_rule(lambda x: x**3, pullback=lambda y_bar, y, operands: 3 * operands[0] ** 2 * y_bar)
    >>> ds.gradient(lambda x: np.sum(cube(x)), np.array([1.0, 2.0]))
    array([ 3., 12.])
    """
    if pushforward is None and pullback is None:
        raise ValueError("custom_rule needs a pushforward, a pullback, or both; got neither")
    latest: list[tuple[Operands, dict[str, Any]]] = []

    def function(*operands: Any, **params: Any) -> Any:
        latest[:] = [(operands, params)]
        return _as_numpy(f(*operands, **params))

    def push(y: Any, operands: Operands, tangents: Operands, **params: Any) -> Any:
        directions = next(np.shape(t)[0] for t in tangents if t is not None)
        rows = []
        for k in range(directions):
            along = tuple(np.zeros_like(x) if t is None else t[k] for x, t in zip(operands, tangents))
            rows.append(pushforward(y, operands, along, **params))  # type: ignore[misc]
        if isinstance(y, tuple):
            return tuple(np.stack(part) for part in zip(*rows))
        return np.stack(rows)

    def pull(y_bar: Any, y: Any, operands: Operands, **params: Any) -> tuple[Any, ...]:
        if isinstance(y, tuple):
            y_bar = tuple(np.zeros_like(v) if bar is None else bar for v, bar in zip(y, y_bar))
        bars = pullback(y_bar, y, operands, **params)  # type: ignore[misc]
        return bars if isinstance(bars, tuple) else (bars,)

    rule = Rule(
        getattr(f, "__name__", "custom rule"),
        function,
        None if pushforward is None else push,
        None if pullback is None else pull,
        examples or (lambda rng: list(latest)),
        register=False,
    )
    CUSTOM.add(rule)
    return rule


def _as_numpy(y: Any) -> Any:
    """Numbers of Python, which compiled functions return, as NumPy's."""
    if isinstance(y, tuple):
        return tuple(map(_as_numpy, y))
    return np.asarray(y)[()] if isinstance(y, (int, float, complex)) else y
