"""How time and memory grow: with the batch, with the number of directions, with the size."""

from __future__ import annotations

import dataclasses
import functools
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import linalg
from ..transforms import jacobian
from .timing import best_of


@dataclasses.dataclass(frozen=True)
class Curve:
    """A figure at several points, y at each x; the function that makes it says what they are, and in which units."""

    name: str
    x: tuple[int, ...]
    y: tuple[float, ...]


def batches(n: int, largest: int = 1_000_000) -> Curve:
    """Nanoseconds a matrix of the full SVD, against the batch."""
    sizes = tuple(b for b in (1_000, 10_000, 100_000, 1_000_000) if b <= largest and b * n * n * 8 < 1 << 29)
    times = []
    for batch in sizes:
        A = np.random.default_rng(0).standard_normal((batch, n, n))
        times.append(best_of(functools.partial(linalg.svd, A)) / batch * 1e9)
    return Curve(f"{n} x {n}", sizes, tuple(times))


def directions(n: int, counts: tuple[int, ...] = (1, 2, 4, 8, 16, 32)) -> Curve:
    """Time of the pushforward along N directions over N times that along one."""
    A = np.random.default_rng(0).standard_normal((max(64, 40_000 // n**2), n, n))
    y, dA = linalg.svd(A), np.random.default_rng(1).standard_normal((max(counts), *A.shape))
    times = [best_of(functools.partial(linalg.svd_pushforward, *y, dA[:N])) for N in counts]
    return Curve(f"{n} x {n}", counts, tuple(t / (N * times[0]) for N, t in zip(counts, times)))


def peak_of(call: Callable[[], Any]) -> int:
    """Bytes, at most, that are allocated at a time while it runs for the second time, its result included."""
    call()
    tracemalloc.start()
    kept = call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del kept
    return peak


def memory(name: str, call: Callable[[np.ndarray], tuple[np.ndarray, ...]], sizes: tuple[int, ...]) -> Curve:
    """Peak of what is allocated while the results are made, over the bytes of argument and results, against the size.

    A copy of the argument would show.
    """
    peaks = []
    for n in sizes:
        A = np.random.default_rng(0).standard_normal((max(64, 4_000_000 // n**2), n, n))
        peaks.append(peak_of(functools.partial(call, A)) / sum(x.nbytes for x in (A, *call(A))))
    return Curve(name, sizes, tuple(peaks))


def memory_of_jacobian(sizes: tuple[int, ...]) -> Curve:
    """Peak of what is allocated for the Jacobian of svdvals of one matrix, over the bytes of that Jacobian."""
    peaks = []
    for n in sizes:
        A = np.random.default_rng(0).standard_normal((n, n))
        peaks.append(peak_of(functools.partial(jacobian, linalg.svdvals, A)) / (8 * n**3))
    return Curve("jacobian(svdvals), one matrix", sizes, tuple(peaks))


def memories(largest: int = 48) -> list[Curve]:
    """The peaks of what there is, at sizes up to `largest`."""
    sizes = tuple(n for n in (2, 3, 4, 8, 16, 32, 48) if n <= largest)
    curves = [
        memory("svd", linalg.svd, sizes),
        memory("svdvals", lambda A: (linalg.svdvals(A),), sizes),
        memory("svd_pushforward", lambda A: (*(y := linalg.svd(A)), *linalg.svd_pushforward(*y, A)), sizes),
        memory_of_jacobian(tuple(n for n in (16, 32, 64, 128) if n <= largest)),
    ]
    return [curve for curve in curves if curve.x]
