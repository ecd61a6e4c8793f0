"""Differences: slopes of a function from its values alone, with an honest estimate of their error.

The step is not guessed. f is evaluated at x +- h D for a ladder of steps; Richardson's extrapolation removes the
leading error; and the rung is taken at which truncation (how far neighbouring rungs differ) and rounding (the noise
seen in f, divided by h) add up to least. That sum, times a margin, is the tolerance of the comparison: it depends on f
alone, never on the derivative that is being tested.

A ladder can settle on a slope that f does not have: all its steps may be longer than the way to the next kink. So a
slope stands only while no smaller step contradicts it beyond the noise there, which is measured by moving x in its last
digits. Where one does, or no slope was found, f is evaluated along a finer ladder, and a slope of that is taken if it
settles before noise drowns it. One that values contradict and do not settle is known to be wrong, and is not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import DualSVDError
from .limits import (
    FINE,
    JUMP_OVER_NOISE,
    JUMP_STAYS,
    LAST_DIGITS,
    MARGIN,
    PROBES,
    ROUGH,
    STEP_RATIO,
    STEPS,
    USELESS,
)
from .vectors import Leaves, largest, moved

DOUBLE = float(np.finfo(np.float64).eps)


class Slope(NamedTuple):
    """The slope of an output, or of some of its elements, along one direction, by values alone. Every field is an array
    of the shape of these, or a number that stands for all.

    central                0 where there is a kink
    right, left            one-sided
    accuracy               the error to allow a central slope (absolute); infinite where nothing is known
    one_sided              the error to allow a one-sided slope (absolute); likewise
    kinked                 mask of the elements whose one-sided slopes differ
    resolved               mask, False where values contradict the slopes they settle on, and no step is small enough to
                           tell the right ones; `right` and `left` are those of longer steps then
    limit                  the largest error, relative to what is compared, of a slope that decides anything
    """

    central: Any
    right: Any
    left: Any
    accuracy: Any
    one_sided: Any
    kinked: Any
    resolved: Any
    limit: Any


#: of all outputs along one direction
Slopes = tuple[Slope, ...]


def is_smooth(slopes: Slopes, scales: Sequence[float]) -> bool:
    """Whether the values vouch for a function that is smooth along this direction."""
    return all(bool(np.all((s.accuracy <= s.limit * scale) & ~s.kinked)) for s, scale in zip(slopes, scales))


class Walk(NamedTuple):
    """One output along one direction: its value at x, and those at x + h D and x - h D over the steps h."""

    steps: tuple[float, ...]
    y: Any
    plus: Any
    minus: Any

    def among(self, steps: tuple[float, ...]) -> Walk:
        """The part of the walk with these steps."""
        rungs = [k for k, step in enumerate(self.steps) if step in steps]
        return Walk(tuple(self.steps[k] for k in rungs), self.y, self.plus[rungs], self.minus[rungs])

    @property
    def h(self) -> Any:
        """The steps, along a leading axis before those of the values."""
        return np.reshape(self.steps, (-1,) + (1,) * self.y.ndim)

    @property
    def sides(self) -> tuple[Any, Any]:
        """The slopes to the right and to the left."""
        return (self.plus - self.y) / self.h, (self.y - self.minus) / self.h


def slopes(f: Callable[..., Leaves], x: Leaves, directions: Sequence[Leaves], eps: float = DOUBLE) -> list[Slopes]:
    """The slopes of f at x along each direction; noise is judged from all directions together.

    eps   the precision in which x was given: steps below it tell of other points
    """
    y = tuple(map(np.asarray, f(*x)))
    steps = (*STEPS, *(step for step in (*PROBES, LAST_DIGITS) if step >= eps))
    walks = [_walks(f, x, direction, y, steps) for direction in directions]
    finer: list[list[Walk]] = []
    columns = []
    with np.errstate(all="ignore"):  # steps that leave the domain, slopes that leave the range
        for k in range(len(y)):
            along = [walk[k] for walk in walks]
            found, probes = _climb([walk.among(STEPS) for walk in along]), [walk.among(PROBES) for walk in along]
            last = max(_movement(along), _unmoved(found, probes))
            if any(_is_doubtful(slope, walk, last) for slope, walk in zip(found, probes)):
                finer = finer or [_walks(f, x, direction, y, FINE) for direction in directions]
                found = _climb_finer(found, [walk[k] for walk in finer], last)
            columns.append(found)
    return list(zip(*columns))


def _walks(f: Callable[..., Leaves], x: Leaves, direction: Leaves, y: Leaves, steps: tuple[float, ...]) -> list[Walk]:
    """The walk of each output along that direction."""
    plus = [_value(f, moved(x, direction, step), y) for step in steps]
    minus = [_value(f, moved(x, direction, -step), y) for step in steps]
    return [Walk(steps, v, np.stack(p), np.stack(m)) for v, p, m in zip(y, zip(*plus), zip(*minus))]


def _value(f: Callable[..., Leaves], x: Leaves, y: Leaves) -> Leaves:
    """f(x); NaN of the shape of y where the step leaves the domain of f."""
    try:
        with np.errstate(all="ignore"):
            return tuple(np.where(np.isfinite(v), v, np.nan) for v in f(*x))
    except (DualSVDError, ArithmeticError, np.linalg.LinAlgError):
        return tuple(np.full(np.shape(v), np.nan) for v in y)


# -- the ladder


def _climb(walks: Sequence[Walk]) -> list[Slope]:
    """The slopes of one output along each direction."""
    noise = _noise(walks)
    return [_slope(walk, noise) for walk in walks]


def _noise(walks: Sequence[Walk]) -> float:
    """How uncertain the values of f are: the wobble of its slopes over the smallest steps, where truncation is gone."""
    wobble = _rounding(walks)
    for _, _, plus, minus in walks:
        fine = _richardson(np.stack([(plus[k] - minus[k]) / (2 * STEPS[k]) for k in range(-4, 0)]), (2, 4))
        change = largest(fine[-1] - fine[-2]) * STEPS[-1]
        if np.isfinite(change):
            wobble = max(wobble, change)
    return wobble


def _rounding(walks: Sequence[Walk]) -> float:
    """The rounding unit times the largest value at x."""
    return max((float(np.finfo(walk.y.dtype).eps) * largest(walk.y) for walk in walks), default=0.0)


def _slope(walk: Walk, noise: float) -> Slope:
    right, left = walk.sides
    jump = np.abs(right - left)
    kinked = (jump[-2] > JUMP_STAYS * jump[-4]) & (jump[-2] > JUMP_OVER_NOISE * noise / STEPS[-2])
    central, accuracy = _best(_rungs(np.where(kinked, 0, (right + left) / 2), STEPS, (2, 4), 4 * noise))
    right, over_right = _best(_rungs(right, STEPS, (1, 2), 4 * noise))
    left, over_left = _best(_rungs(left, STEPS, (1, 2), 4 * noise))
    everywhere = np.ones(walk.y.shape)
    one_sided = max(over_right, over_left) * everywhere
    return Slope(central, right, left, accuracy * everywhere, one_sided, kinked, everywhere > 0, USELESS * everywhere)


def _richardson(slopes: Any, powers: tuple[int, ...]) -> Any:
    """Slopes over the ladder, with their errors in h^p removed for these powers p."""
    for p in powers:
        slopes = (STEP_RATIO**p * slopes[1:] - slopes[:-1]) / (STEP_RATIO**p - 1)
    return slopes


class Rung(NamedTuple):
    """A slope after extrapolation, the error to allow it, and the smallest step in it."""

    slope: Any
    allowed: float
    step: float


def _rungs(slopes: Any, steps: tuple[float, ...], powers: tuple[int, ...], noise: float) -> list[Rung]:
    """What each step of a ladder gives."""
    slopes, smallest = _richardson(slopes, powers), steps[len(powers) :]
    return [
        Rung(after, MARGIN * (largest(after - before) + noise / step), step)
        for before, after, step in zip(slopes, slopes[1:], smallest[1:])
    ]


def _best(rungs: Sequence[Rung]) -> tuple[Any, float]:
    """The slope of which most is known; of the last rung where nothing is known of any."""
    best = min(rungs, key=lambda rung: rung.allowed)
    return (best.slope, best.allowed) if best.allowed < np.inf else (rungs[-1].slope, np.inf)


# -- below the ladder


def _movement(walks: Sequence[Walk]) -> float:
    """How far the values move when x moves in its last digits: the noise to expect of the smallest steps."""
    last = [walk.among((LAST_DIGITS,)) for walk in walks]
    moves = [largest(np.nan_to_num(side - walk.y)) for walk in last for side in (walk.plus, walk.minus)]
    return max(_rounding(walks), *moves, 0.0)


def _unmoved(found: Sequence[Slope], walks: Sequence[Walk]) -> float:
    """How far values ought to have moved that have not moved at all: they are rounded to no less than that."""
    hidden = [0.0]
    for slope, walk in zip(found, walks):
        for expected, side in ((slope.right, walk.plus), (slope.left, walk.minus)):
            hidden.append(largest(np.where(side == walk.y, np.abs(np.nan_to_num(expected)) * walk.h, 0.0)))
    return max(hidden)


def _uncertain(walk: Walk, noise: float) -> Any:
    """The error to allow the bare slopes of a walk."""
    return MARGIN * noise / walk.h


def _contradicted(slope: Slope, walk: Walk, noise: float) -> Any:
    """Mask: whether smaller steps find another slope, on either side or between them, or no kink where one was."""
    right, left = walk.sides
    jump = slope.right - slope.left
    cases = (
        (slope.right, right, slope.one_sided),
        (slope.left, left, slope.one_sided),
        (slope.central, (right + left) / 2, np.where(slope.kinked, np.inf, slope.accuracy)),
        (jump, right - left, np.where(slope.kinked, JUMP_STAYS * np.abs(jump), np.inf)),
    )
    masks = [_contradicts(bare, found, allowed + _uncertain(walk, noise)) for found, bare, allowed in cases]
    return np.any(masks, axis=(0, 1))


def _contradicts(bare: Any, found: Any, allowed: Any) -> Any:
    """Mask; a value that has not moved at all tells of its rounding, not of its slope."""
    return (np.abs(bare - found) > allowed) & (bare != 0)


def _uncontradicted(bare: Any, above: Any, allowed: Any, walk: Walk, powers: tuple[int, ...], noise: float) -> Rung:
    """The slope of which most is known among those that no smaller step contradicts."""
    told = np.where((bare == 0) & (np.abs(above) > allowed), np.nan, bare)
    rungs = _rungs(told, walk.steps, powers, noise)
    uncertain = _uncertain(walk, noise)
    for rung in sorted(rungs, key=lambda rung: rung.allowed):
        smaller = np.asarray(walk.steps) < rung.step
        if not np.any(_contradicts(bare[smaller], rung.slope, rung.allowed + uncertain[smaller])):
            return rung
    return Rung(rungs[-1].slope, np.inf, walk.steps[-1])


class Below(NamedTuple):
    """What a finer ladder gives for the elements of a mask, and the smallest step that this takes, or would take."""

    mask: Any
    found: Slope
    settled: bool
    step: float


def _is_doubtful(slope: Slope, probes: Walk, noise: float) -> bool:
    """Whether smaller steps contradict a slope, or none is found: where they are not too small for the numbers."""
    scale = max(largest(slope.right), largest(slope.left), largest(probes.y))
    unsettled = bool(probes.steps) and not np.all(slope.accuracy <= USELESS * scale)
    return unsettled or bool(np.any(_contradicted(slope, probes, noise)))


def _climb_finer(found: Sequence[Slope], walks: Sequence[Walk], noise: float) -> list[Slope]:
    """The slopes of one output along each direction, where smaller steps may tell more of them."""
    noise = max(noise, _unmoved(found, walks))
    contradicted = [_contradicted(slope, walk, noise) for slope, walk in zip(found, walks)]
    sides = [side[~mask] for s, mask in zip(found, contradicted) for side in (s.right, s.left)]
    scale = max(largest(walks[0].y), *map(largest, sides))
    below = []
    for slope, mask, walk in zip(found, contradicted, walks):
        below.append(_settle(slope, mask | ~(slope.accuracy <= USELESS * scale), walk, noise, scale))
        if not below[-1].settled:
            below[-1] = _settle(slope, mask, walk, noise, scale)
    if not any(part.mask.any() for part in below):
        return list(found)
    smallest = min(part.step for part in below if part.mask.any())
    floor = MARGIN * noise / np.where(np.any([part.mask for part in below], axis=0), smallest, PROBES[0])
    return [_merge(s, part, floor) for s, part in zip(found, below)]


def _settle(above: Slope, mask: Any, walk: Walk, noise: float, scale: float) -> Below:
    """The slopes that the smallest steps settle on, instead of those above."""
    part = Walk(walk.steps, walk.y[mask], walk.plus[:, mask], walk.minus[:, mask])
    above = Slope(*(field[mask] for field in above))
    bare = part.sides
    right = _uncontradicted(bare[0], above.right, above.one_sided, part, (1, 2), noise)
    left = _uncontradicted(bare[1], above.left, above.one_sided, part, (1, 2), noise)
    central = _uncontradicted((bare[0] + bare[1]) / 2, above.central, above.accuracy, part, (2, 4), noise)
    mean = Rung((right.slope + left.slope) / 2, max(right.allowed, left.allowed), min(right.step, left.step))
    middle = min(central, mean, key=lambda rung: rung.allowed)
    limit = ROUGH * max([scale, *(largest(rung.slope) for rung in (right, left, middle) if rung.allowed < np.inf)])
    accuracy = middle.allowed if middle.allowed <= limit else np.inf
    if mean.allowed <= limit:
        kinked = np.abs(right.slope - left.slope) > right.allowed + left.allowed
        between = np.where(kinked, 0, middle.slope)
        found = Slope(between, right.slope, left.slope, accuracy, mean.allowed, kinked, True, ROUGH)
    else:  # the slope in the middle settles sooner than those on the sides, where there is no kink
        kinked = above.kinked & (accuracy == np.inf)
        found = above._replace(central=middle.slope, accuracy=accuracy, kinked=kinked, resolved=False, limit=ROUGH)
    settled = bool(mask.any() and accuracy < np.inf)
    return Below(mask, found, settled, middle.step if settled else _step_needed(above, part, noise))


def _step_needed(above: Slope, walk: Walk, noise: float) -> float:
    """The step that would tell the slopes: below the largest one that finds others than those above."""
    seen = [step for step in walk.steps if np.any(_contradicted(above, walk.among((step,)), noise))]
    return max(seen, default=PROBES[0]) / STEP_RATIO


def _merge(above: Slope, below: Below, floor: Any) -> Slope:
    """The slopes from the finer ladder, and beside them those from above that nothing contradicts; all known no better
    than the steps at which this function changes can tell."""
    rough = above._replace(limit=np.maximum(above.limit, ROUGH))
    merged = Slope(*(_put(field, below.mask, inside) for field, inside in zip(rough, below.found)))
    return merged._replace(accuracy=merged.accuracy + floor, one_sided=merged.one_sided + floor)


def _put(field: Any, mask: Any, inside: Any) -> Any:
    """A copy of the field with other elements where the mask is true."""
    result = np.array(field)
    result[mask] = inside
    return result
