"""Tuples of arrays as vectors of one real space, under <X, Y> = Re tr(X^H Y)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..rules.registry import as_inexact

Leaves = tuple[Any, ...]


def plain(structure: Iterable[Any]) -> Leaves:
    """What a function or a transform returned, as a tuple of arrays of floating-point numbers."""
    return tuple(np.asarray(as_inexact(part)) for part in structure)


def double(a: Leaves) -> Leaves:
    """The same numbers in double precision."""
    return tuple(p.astype(np.result_type(p.dtype, np.float64)) for p in a)


def inner(a: Leaves, b: Leaves) -> float:
    """<a, b>, summed over the arrays."""
    return float(sum(np.vdot(p, q).real for p, q in zip(a, b)))


def length(p: Any) -> float:
    """The Euclidean length of one array, of any magnitude."""
    top = largest(p)
    return top * float(np.linalg.norm(np.ravel(p) / top)) if 0 < top < np.inf else top


def norm(a: Leaves) -> float:
    """The Euclidean length of all of them."""
    return math.hypot(*map(length, a))


def largest(p: Any) -> float:
    """The largest modulus, 0 of an empty array, infinite where there is a NaN."""
    if not np.size(p):
        return 0.0
    top = float(np.max(np.abs(p)))
    return top if top == top else np.inf


def typical(p: Any) -> float:
    """The root mean square of an array, 1 where that is 0: what a step in it is measured by."""
    return length(p) / math.sqrt(np.size(p)) if largest(p) > 0 else 1.0


def dimensions(a: Leaves) -> int:
    """Real dimensions of the space."""
    return sum(np.size(p) * (2 if np.iscomplexobj(p) else 1) for p in a)


def random_like(a: Leaves, scales: Sequence[float], rng: np.random.Generator) -> Leaves:
    """Normal random arrays of the shapes and kinds of a, each of its scale."""

    def draw(p: Any, scale: float) -> Any:
        z = rng.standard_normal(np.shape(p))
        if np.iscomplexobj(p):
            z = (z + 1j * rng.standard_normal(np.shape(p))) / np.sqrt(2)
        return np.asarray(scale * z, dtype=np.asarray(p).dtype)

    return tuple(draw(p, scale) for p, scale in zip(a, scales))


def basis_of(a: Leaves, scales: Sequence[float]) -> Iterator[Leaves]:
    """The basis directions, each of its array's scale; of complex arrays the imaginary ones too."""
    for k, (p, scale) in enumerate(zip(a, scales)):
        for j in range(np.size(p)):
            for unit in (scale, 1j * scale) if np.iscomplexobj(p) else (scale,):
                vector = [np.zeros_like(q) for q in a]
                vector[k].flat[j] = unit
                yield tuple(vector)


def moved(a: Leaves, direction: Leaves, step: float) -> Leaves:
    """a + step * direction."""
    return tuple(p + step * d for p, d in zip(a, direction))


def negative(a: Leaves) -> Leaves:
    """-a."""
    return tuple(-p for p in a)
