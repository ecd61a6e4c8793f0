"""`out=`: results into arrays of the caller's, so that a loop over batches allocates nothing."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from .errors import DTypeError, ShapeError


def check_outputs(out: Any, results: dict[str, tuple[tuple[int, ...], Any]]) -> None:
    """Refuse what cannot take the results, a shape and a dtype for each name: all arrays, or none, are written."""
    if out is None:
        return
    given = out if isinstance(out, tuple) and len(results) > 1 else (out,)
    if len(given) != len(results):
        raise ShapeError(f"out must be a tuple of {len(results)} arrays ({', '.join(results)}), got {len(given)}")
    for x, (name, (shape, dtype)) in zip(given, results.items()):
        if not isinstance(x, np.ndarray):
            raise DTypeError(f"out takes plain arrays, got {type(x).__name__} for {name}")
        if x.shape != shape:
            raise ShapeError(f"out for {name} must have shape {shape}, got {x.shape}")
        if x.dtype != dtype:
            raise DTypeError(f"out for {name} must hold {np.dtype(dtype)} numbers, got {x.dtype}")
        if not x.flags.writeable:
            raise DTypeError(
                f"out for {name} must be an array that may be written, got a read-only one; give a copy of it"
            )
    if any(np.may_share_memory(x, y) for x, y in itertools.combinations(given, 2)):
        raise ShapeError(f"out must be arrays apart from one another ({', '.join(results)}), got two that share memory")


def stacked(out: Any, axes: tuple[int, ...], inputs: Any, leading: int = 0) -> Any:
    """The arrays with one batch axis before the last `axes` of each and behind `leading` others, for the kernels to
    write into; None where there are none, not all are contiguous, or one lies where an input does."""
    if out is None or not all(x.flags.c_contiguous for x in out):
        return None
    if any(np.may_share_memory(x, y) for x in out for y in inputs if y is not None):
        return None
    return tuple(x.reshape(*x.shape[:leading], -1, *x.shape[x.ndim - k :]) for x, k in zip(out, axes))


def deliver(results: tuple[Any, ...], out: Any) -> tuple[Any, ...]:
    """The results, in `out` if it is given: copied unless they were put there."""
    if out is None:
        return results
    there = [np.may_share_memory(x, y) for x, y in zip(out, results)]
    for x, y, done in zip(out, results, there):
        if not done:
            x[...] = y
    return out
