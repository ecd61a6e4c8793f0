"""Who computes what, by size and batch: LAPACK one by one, SIMD packs of matrices, or packs of the rows of one matrix.

The crossovers were measured by `tests/benchmarks/dispatch.py`. A single matrix always goes to LAPACK: where its rows in
packs are faster, they are so by less than a third, which does not pay for loading the kernels.
"""

from __future__ import annotations

import functools
import math
from typing import Literal

Way = Literal["lapack", "packs", "rows"]
Wanted = Literal["factors", "values", "closed forms"]

#: What is wanted -> (up to this min(m, n), packs from this batch on), sizes ascending.
PACKS: dict[Wanted, tuple[tuple[int, int], ...]] = {
    "factors": ((2, 8), (12, 4), (48, 8), (64, 16)),
    "values": ((2, 16), (20, 8), (24, 16), (64, 6), (192, 8)),
    "closed forms": ((32, 4), (64, 16)),
}

#: Sizes whose factors go through packs of rows, where matrices are too few for packs of matrices.
ROWS = (12, 32)

#: A complex matrix counts as a real one so many times its size: the kernels' lead over LAPACK ends there.
COMPLEX: dict[Wanted, float] = {"factors": 1.3, "values": 1.2, "closed forms": 1}


@functools.lru_cache(1024)
def way_for(wanted: Wanted, shape: tuple[int, ...], is_complex: bool = False) -> Way:
    """The way for a stack of that shape (..., m, n)."""
    batch, size = math.prod(shape[:-2]), min(shape[-2:]) * (COMPLEX[wanted] if is_complex else 1)
    if len(shape) == 2 or batch * size == 0:
        return "lapack"
    least = next((least for largest, least in PACKS[wanted] if size <= largest), math.inf)
    if batch >= least:
        return "packs"
    return "rows" if wanted == "factors" and ROWS[0] <= size <= ROWS[1] and batch > 1 else "lapack"
