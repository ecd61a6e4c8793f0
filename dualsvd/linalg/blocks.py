"""Large stacks a few matrices at a time: the temporaries of NumPy's expressions then stay in the second cache.

For 64 x 64 matrices that makes the closed forms two to three times as fast as over a whole stack of a hundred.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..kernels.memory import keep_freed_memory
from .degeneracy import Spectrum
from .matrices import flat, is_plain

#: Bytes of one operand that are worked on at a time; an expression has about ten of them.
BLOCK = 1 << 18


def block_cuts(U: Any, Vh: Any, *others: Any, directions: int = 1) -> list[slice]:
    """The cuts of a stack of plain factors into blocks; none where it is small or traced."""
    if np.ndim(U) < 3 or not is_plain(U, Vh, *others):
        return []
    each = directions * U.shape[-2] * Vh.shape[-1] * U.itemsize
    size, count = max(1, BLOCK // max(1, each)), math.prod(U.shape[:-2])
    if count <= size:
        return []
    keep_freed_memory()
    return [slice(i, i + size) for i in range(0, count, size)]


def flat_spectrum(at: Spectrum, batch: tuple[int, ...]) -> Spectrum:
    """The spectrum of the stack with one batch axis."""
    noise, group, null, tail = (flat(x, batch, 1) for x in (at.noise, at.group, at.null, at.tail))
    return Spectrum(noise, group, null, flat(at.tied, batch, 0), tail, at.absolute)
