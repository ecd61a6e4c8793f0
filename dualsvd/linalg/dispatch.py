"""Who computes what, by size and batch: LAPACK one by one, SIMD packs of matrices, or packs of the rows of one matrix.

The crossovers were measured by `tests/benchmarks/dispatch.py`. A single small matrix goes to LAPACK: what its rows in
packs gain does not pay for loading the kernels.
"""

from __future__ import annotations

import functools
import math
from typing import Literal

#: LAPACK; a matrix a lane; a row a lane by way of a bidiagonal matrix; a row a lane by Jacobi, where that is asked for.
Way = Literal["lapack", "packs", "bidiagonal", "accurate"]
Wanted = Literal["factors", "values", "closed forms"]

#: What is wanted -> (up to this min(m, n), packs from this batch on), sizes ascending.
PACKS: dict[Wanted, tuple[tuple[int, int], ...]] = {
    "factors": ((2, 8), (12, 4), (24, 6), (48, 10)),
    "values": ((2, 16), (20, 8), (24, 16), (64, 6), (192, 8)),
    "closed forms": ((32, 4), (64, 16)),
}

#: As how many columns of double precision one counts there, by the character of its type: packs of single precision
#: hold twice as many matrices, and what competes with them is in double precision; complex ones lead less.
COUNTS_AS: dict[Wanted, dict[str, float]] = {
    "factors": {"f": 0.75, "d": 1, "F": 0.75, "D": 1.75},
    "values": {"f": 1, "d": 1, "F": 1.2, "D": 1.2},
    "closed forms": {"f": 1, "d": 1, "F": 1, "D": 1},
}

#: Sizes whose factors go by way of a bidiagonal matrix, one matrix after the other, where packs do not take them; a
#: matrix alone from `ALONE` on, for it may be the only one. More entries than `ENTRIES` are LAPACK's.
BIDIAGONAL = {"f": range(10, 193), "d": range(10, 193), "F": range(10, 129), "D": range(10, 129)}
ALONE = 32
ENTRIES = 1 << 20


@functools.lru_cache(1024)
def way_for(wanted: Wanted, shape: tuple[int, ...], dtype: str = "d") -> Way:
    """The way for a stack of that shape (..., m, n) and type."""
    batch, n = math.prod(shape[:-2]), min(shape[-2:])
    if batch * n == 0:
        return "lapack"
    size = n * COUNTS_AS[wanted][dtype]
    least = next((least for largest, least in PACKS[wanted] if size <= largest), math.inf)
    by_packs = batch >= least
    one_by_one = n in BIDIAGONAL[dtype] and (batch > 1 or n >= ALONE) and shape[-2] * shape[-1] <= ENTRIES
    if not (by_packs or (one_by_one and wanted == "factors")):
        return "lapack"
    from ..kernels.caching import compiles  # brings in Numba

    return "lapack" if not compiles() else "packs" if by_packs else "bidiagonal"
