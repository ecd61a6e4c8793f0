"""Candidates timed in turn, A B C A B C ..., so that a machine whose speed drifts slows all of them alike."""

from __future__ import annotations

import contextlib
import importlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

Candidates = dict[str, Callable[[], Any]]

#: A sample lasts this long at least: short calls are made so often.
SAMPLE = 2e-3

#: Calls before a sample are not counted, for so long: they wait out what the candidate before left behind, caches full
#: of its data and threads that still spin for more work (those of XLA do so for some milliseconds).
SETTLE = 1e-2


def optional(name: str) -> Any:
    """A module, or None where it is not installed."""
    with contextlib.suppress(ImportError):
        return importlib.import_module(name)
    return None


@contextlib.contextmanager
def one_core(single: bool) -> Iterator[None]:
    """Keep the whole process on one core, and BLAS at one thread: several would spin there waiting for one another.

    The threads of BLAS are told through threadpoolctl, where that is installed; else set OPENBLAS_NUM_THREADS=1.
    """
    if not single or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    pools = optional("threadpoolctl")
    try:
        with pools.threadpool_limits(1) if pools else contextlib.nullcontext():
            yield
    finally:
        os.sched_setaffinity(0, before)


def interleave(
    candidates: Candidates,
    seconds: float = 0.4,
    rounds: tuple[int, int] = (5, 200),
    of: Callable[[list[float]], float] = statistics.median,
) -> dict[str, float]:
    """Seconds of each candidate, the median `of` the turns.

    At least rounds[0] and at most rounds[1] turns, in about `seconds` per candidate.
    """
    repeats = {}
    for name, call in candidates.items():
        call()
        start = time.perf_counter()
        call()
        repeats[name] = max(1, round(SAMPLE / max(time.perf_counter() - start, 1e-9)))
    times: dict[str, list[float]] = {name: [] for name in candidates}
    deadline = time.perf_counter() + seconds * len(candidates)
    for turn in range(rounds[1]):
        if turn >= rounds[0] and time.perf_counter() > deadline:
            break
        for name, call in candidates.items():
            settled = time.perf_counter() + SETTLE
            call()
            while time.perf_counter() < settled:
                call()
            start = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            times[name].append((time.perf_counter() - start) / repeats[name])
    return {name: of(values) for name, values in times.items()}


def best_of(call: Callable[[], Any], seconds: float = 0.2) -> float:
    """The fastest of as many calls as fit, three at least: what a machine that others share can do."""
    call()
    least, calls, deadline = float("inf"), 0, time.perf_counter() + seconds
    while calls < 3 or time.perf_counter() < deadline:
        calls += 1
        start = time.perf_counter()
        call()
        least = min(least, time.perf_counter() - start)
    return least
