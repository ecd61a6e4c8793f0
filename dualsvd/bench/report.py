"""All of it run, and told: as a table and as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable
from typing import Any

from ..settings import cores
from . import growth
from .growth import Curve
from .machine import Limits, limits, machine
from .regimes import OURS, REGIMES, Accuracy, Case, all_cores, hard_batches
from .timing import interleave, one_core

Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One line of the table: a regime at one size, the median seconds of each candidate, and our accuracy.

    multiply_adds, copies: fractions of what the machine does at best, or 0 where the work is not that of our kernels.
    """

    regime: str
    size: int
    batch: int
    threads: int
    seconds: dict[str, float]
    accuracy: Accuracy
    multiply_adds: float = 0.0
    copies: float = 0.0

    @property
    def peer(self) -> str | None:
        """The fastest candidate that does the same work and is not ours; names in brackets only give a scale."""
        peers = [name for name in self.seconds if name != OURS and not name.startswith("(")]
        return min(peers, key=self.seconds.__getitem__, default=None)

    @property
    def ratio(self) -> float:
        """How many times faster than the fastest peer we are; NaN without one."""
        return self.seconds[self.peer] / self.seconds[OURS] if self.peer else math.nan

    def ratio_to(self, name: str) -> float:
        """How many times faster than that candidate we are."""
        return self.seconds[name] / self.seconds[OURS]

    def __str__(self) -> str:
        accuracy = ", ".join(f"{name} {error:.0e}" for name, error in self.accuracy.items())
        each = self.seconds[OURS] / self.batch * 1e6
        versus = f"{self.ratio:6.2f}x {self.peer}" if self.peer else "no peer installed"
        share = f"{self.multiply_adds:4.0%} fma {self.copies:4.0%} copy" if self.multiply_adds else ""
        return f"{self.regime:32s} n={self.size:<5d} {each:10.3f} us a matrix   {versus:20s} {share:19s} {accuracy}"


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything that was measured in one run."""

    limits: Limits
    measurements: tuple[Measurement, ...]
    batches: tuple[Curve, ...]
    directions: tuple[Curve, ...]
    memory: tuple[Curve, ...]

    def to_json(self) -> str:
        """With the machine it was measured on."""
        rows = [
            dataclasses.asdict(m) | ({"ratio": m.ratio, "peer": m.peer} if m.peer else {}) for m in self.measurements
        ]
        curves = {
            name: {c.name: dict(zip(c.x, c.y)) for c in getattr(self, name)}
            for name in ("batches", "directions", "memory")
        }
        facts: dict[str, Any] = {"machine": machine(), "limits": dataclasses.asdict(self.limits)}
        return json.dumps(facts | {"measurements": rows} | curves, indent=1)


def measure(
    regimes: Iterable[str] = tuple(REGIMES),
    *,
    largest: int = 1024,
    seconds: float = 0.4,
    single: bool = True,
    progress: Progress = lambda line: None,
) -> Report:
    """Run the regimes at their sizes up to `largest`; on one core, or on all where `single` is False."""
    results: list[Measurement] = []
    with one_core(single):
        best, threads = limits(), cores()

        def time(name: str, n: int, case: Case) -> None:
            taken = interleave(case.candidates, seconds)
            flops, copies = case.flops / best.multiply_adds, case.bytes / best.copies
            shares = (flops / taken[OURS], copies / taken[OURS]) if flops and threads == 1 else (0.0, 0.0)
            results.append(Measurement(name, n, case.batch, threads, taken, case.accuracy, *shares))
            progress(str(results[-1]))

        for name in regimes:
            make, sizes = REGIMES[name]
            for n in (n for n in sizes if n <= largest):
                time(name, n, make(n))
        for family, case in hard_batches(min(8, largest)).items():
            time(f"full SVD, {family}", min(8, largest), case)
        small = [n for n in (3, 8, 16) if n <= largest]
        batches = tuple(growth.batches(n, 1_000_000 if largest > 8 else 10_000) for n in small)
        directions = tuple(growth.directions(n) for n in small)
        memory = tuple(growth.memories(largest))
    if single and cores() > 1:
        for n in (n for n in (2, 3, 8, 16) if n <= largest):
            results.append(_measure_all_cores(n, seconds))
            progress(f"{results[-1]}   {results[-1].ratio_to('(one thread)'):.2f}x one thread")
    return Report(best, tuple(results), batches, directions, memory)


def _measure_all_cores(n: int, seconds: float) -> Measurement:
    """Ours on all cores and on one in turn, and after them the others, whose threads wait at work on all cores."""
    case = all_cores(n)
    ours = {name: case.candidates[name] for name in (OURS, "(one thread)")}
    peers = {name: call for name, call in case.candidates.items() if name not in ours}
    taken = interleave(ours, seconds) | interleave(peers, seconds)
    return Measurement("full SVD, all cores", n, case.batch, cores(), taken, case.accuracy)
