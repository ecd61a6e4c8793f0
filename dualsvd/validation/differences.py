"""Differences: slopes of a function from its values alone, with an honest estimate of their error.

The step is not guessed. f is evaluated at x +- h D for a ladder of steps; Richardson's extrapolation removes the
leading error; and the rung is taken at which truncation (how far neighbouring rungs differ) and rounding (the noise
seen in f, divided by h) add up to least. That sum, times a margin, is the tolerance of the comparison: it depends on f
alone, never on the derivative that is being tested.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import DualSVDError
from .limits import JUMP_OVER_NOISE, JUMP_STAYS, MARGIN, STEP_RATIO, STEPS
from .vectors import Leaves, largest, moved


@dataclasses.dataclass(frozen=True)
class Slope:
    """The slope of each output along one direction, by values alone.

    central                per output, of its shape; 0 where there is a kink
    right, left            per output, of its shape
    accuracy               per output, the error to allow a central slope (absolute)
    one_sided              per output, the error to allow a one-sided slope (absolute)
    kinked                 per output, mask of the elements whose one-sided slopes differ
    """

    central: Leaves
    right: Leaves
    left: Leaves
    accuracy: tuple[float, ...]
    one_sided: tuple[float, ...]
    kinked: Leaves


def slopes(f: Callable[..., Leaves], x: Leaves, directions: Sequence[Leaves]) -> list[Slope]:
    """The slopes of f at x along each direction; noise is judged from all directions together."""
    y = f(*x)
    ladders = [_ladder(f, x, direction, y) for direction in directions]
    result: list[list[tuple[Any, ...]]] = [[] for _ in directions]
    for k, value in enumerate(y):
        rungs = [(np.stack(plus), np.stack(minus)) for plus, minus in (_output(ladder, k) for ladder in ladders)]
        noise = _noise(value, rungs)
        for i, (plus, minus) in enumerate(rungs):
            result[i].append(_slope(np.asarray(value), plus, minus, noise))
    return [Slope(*(tuple(part) for part in zip(*outputs))) for outputs in result]


def _ladder(f: Callable[..., Leaves], x: Leaves, direction: Leaves, y: Leaves) -> list[tuple[Leaves, Leaves]]:
    return [(_value(f, moved(x, direction, step), y), _value(f, moved(x, direction, -step), y)) for step in STEPS]


def _output(ladder: list[tuple[Leaves, Leaves]], k: int) -> tuple[list[Any], list[Any]]:
    return [plus[k] for plus, _ in ladder], [minus[k] for _, minus in ladder]


def _value(f: Callable[..., Leaves], x: Leaves, y: Leaves) -> Leaves:
    """f(x); NaN of the shape of y where the step leaves the domain of f."""
    try:
        with np.errstate(all="ignore"):
            return tuple(np.where(np.isfinite(v), v, np.nan) for v in f(*x))
    except (DualSVDError, ArithmeticError, np.linalg.LinAlgError):
        return tuple(np.full(np.shape(v), np.nan) for v in y)


def _noise(y: Any, rungs: Sequence[tuple[Any, Any]]) -> float:
    """How uncertain the values of f are: the wobble of its slopes over the smallest steps, where truncation is gone."""
    wobble = float(np.finfo(np.asarray(y).dtype).eps) * largest(y)
    for plus, minus in rungs:
        fine = _richardson(np.stack([(plus[k] - minus[k]) / (2 * STEPS[k]) for k in range(-4, 0)]), (2, 4))
        change = largest(fine[-1] - fine[-2]) * STEPS[-1]
        if np.isfinite(change):
            wobble = max(wobble, change)
    return wobble


def _slope(y: Any, plus: Any, minus: Any, noise: float) -> tuple[Any, ...]:
    steps = np.asarray(STEPS).reshape((-1,) + (1,) * y.ndim)
    right, left = (plus - y) / steps, (y - minus) / steps
    with np.errstate(all="ignore"):
        jump = np.abs(right - left)
        kinked = (jump[-2] > JUMP_STAYS * jump[-4]) & (jump[-2] > JUMP_OVER_NOISE * noise / STEPS[-2])
        central, accuracy = _extrapolated(np.where(kinked, 0, (right + left) / 2), (2, 4), noise)
        right, over_right = _extrapolated(right, (1, 2), noise)
        left, over_left = _extrapolated(left, (1, 2), noise)
    return central, right, left, accuracy, max(over_right, over_left), kinked


def _richardson(slopes: Any, powers: tuple[int, ...]) -> Any:
    """Slopes over the ladder, with their errors in h^p removed for these powers p."""
    for p in powers:
        slopes = (STEP_RATIO**p * slopes[1:] - slopes[:-1]) / (STEP_RATIO**p - 1)
    return slopes


def _extrapolated(slopes: Any, powers: tuple[int, ...], noise: float) -> tuple[Any, float]:
    """The best rung after extrapolation, and the error to allow it."""
    slopes = _richardson(slopes, powers)
    best, allowed = slopes[-1], np.inf
    for k in range(1, len(slopes)):
        estimate = MARGIN * (largest(slopes[k] - slopes[k - 1]) + 4 * noise / STEPS[k + len(powers)])
        if estimate < allowed:
            best, allowed = slopes[k], estimate
    return best, allowed
