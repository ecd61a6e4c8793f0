"""Who computes what, by size and batch: LAPACK one by one, SIMD packs of matrices, or packs of the rows of one matrix.

The crossovers were measured by `tests/benchmarks/dispatch.py`. A single matrix always goes to LAPACK: where its rows in
packs are faster, they are so by less than a third, which does not pay for loading the kernels.
"""

from __future__ import annotations

from typing import Literal

Way = Literal["lapack", "packs", "rows"]
Wanted = Literal["factors", "values", "closed forms"]

#: What is wanted -> (up to this min(m, n), packs from this batch on), sizes ascending.
PACKS: dict[Wanted, tuple[tuple[int, int], ...]] = {
    "factors": ((2, 8), (12, 4), (48, 8)),
    "values": ((2, 16), (20, 8), (40, 16)),
    "closed forms": ((32, 4), (48, 16)),
}

#: Sizes whose factors go through packs of rows, where matrices are too few for packs of matrices.
ROWS = range(12, 33)


def way_for(wanted: Wanted, shape: tuple[int, ...]) -> Way:
    """The way for a stack of that shape (..., m, n)."""
    batch, r = 1, min(shape[-2:])
    for extent in shape[:-2]:
        batch *= extent
    if len(shape) == 2 or batch * r == 0:
        return "lapack"
    for largest, least in PACKS[wanted]:
        if r <= largest:
            if batch >= least:
                return "packs"
            break
    return "rows" if wanted == "factors" and r in ROWS and batch > 1 else "lapack"
