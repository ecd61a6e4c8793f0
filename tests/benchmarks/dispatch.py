"""Who is fastest where: NumPy, packs of matrices, or packs of the rows of one: python tests/benchmarks/dispatch.py

It sets the crossovers of `dualsvd.linalg.dispatch`. Ratios: the time by NumPy (LAPACK, and the closed forms as matrix
products) over that by the kernels, more than 1 where these are the better way; n along the lines, the batch along the
columns. The least times are compared, so that a busy machine does not blur them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dualsvd import linalg
from dualsvd.bench import interleave, one_core
from dualsvd.kernels import cpu
from dualsvd.linalg import dispatch

SIZES = (2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 32, 40, 48, 64, 128, 192)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 256)
Ways = tuple[Callable[[], Any], Callable[[], Any]]


def factors(a: np.ndarray) -> Ways:
    return lambda: np.linalg.svd(a, full_matrices=False), lambda: cpu.svd(a)


def values(a: np.ndarray) -> Ways:
    return lambda: np.linalg.svd(a, compute_uv=False), lambda: cpu.svdvals(a)


def bidiagonal(a: np.ndarray) -> Ways:
    return lambda: np.linalg.svd(a, full_matrices=False), lambda: cpu.svd_bidiagonal(a)


def pullback(a: np.ndarray) -> Ways:
    U, S, Vh = linalg.svd(a)
    return lambda: linalg.svd_pullback(U, S, Vh, U, S, Vh), lambda: cpu.svd_pullback(U, S, Vh, U, S, Vh)


#: what is asked for -> NumPy's way and the kernels'
WAYS: dict[str, Callable[[np.ndarray], Ways]] = {
    "U, S, Vh by packs": factors,
    "S by packs": values,
    "U, S, Vh by way of a bidiagonal matrix": bidiagonal,
    "the pullback by packs": pullback,
}


def main() -> None:
    dispatch.PACKS |= dict.fromkeys(dispatch.PACKS, ())  # NumPy's way, whatever the size
    dispatch.ENTRIES = 0
    dispatch.way_for.cache_clear()
    with one_core(True):
        for dtype in (np.float64, np.float32, np.complex128):
            for name, make in WAYS.items():
                print(f"\n{name}, {np.dtype(dtype)}\n{'n':>4s} " + "".join(f"{batch:>7d}" for batch in BATCHES))
                for n in SIZES:
                    ratios = []
                    for batch in BATCHES:
                        a = np.random.default_rng(0).standard_normal((2, batch, n, n))
                        a = a[0].astype(dtype) if dtype != np.complex128 else a[0] + 1j * a[1]
                        by_numpy, by_kernels = make(a)
                        seconds = interleave({"numpy": by_numpy, "kernels": by_kernels}, seconds=0.05, of=min)
                        ratios.append(seconds["numpy"] / seconds["kernels"])
                    print(f"{n:>4d} " + "".join(f"{ratio:7.2f}" for ratio in ratios), flush=True)


if __name__ == "__main__":
    main()
