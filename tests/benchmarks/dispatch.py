"""Who is fastest where: LAPACK, packs of matrices, or rows of one: python tests/benchmarks/dispatch.py

It sets the crossovers of `dualsvd.linalg.dispatch`. Ratios: the time by LAPACK over that by the kernels, more than 1
where these are the better way; n along the lines, the batch along the columns.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from dualsvd.bench import interleave, one_core
from dualsvd.kernels import cpu

SIZES = (2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 32, 40, 48)
BATCHES = (1, 4, 8, 16, 32, 64, 256)

#: what is asked for: by LAPACK, by packs, by rows
WAYS: dict[str, tuple[Callable[[np.ndarray], object], Callable[[np.ndarray], object]]] = {
    "U, S, Vh by packs": (lambda a: np.linalg.svd(a, full_matrices=False), cpu.svd),
    "S by packs": (lambda a: np.linalg.svd(a, compute_uv=False), cpu.svdvals),
    "U, S, Vh by rows": (lambda a: np.linalg.svd(a, full_matrices=False), cpu.svd_accurate),
}


def main() -> None:
    with one_core(True):
        for name, (lapack, kernel) in WAYS.items():
            print(f"\n{name}\n{'n':>4s} " + "".join(f"{batch:>7d}" for batch in BATCHES))
            for n in SIZES:
                ratios = []
                for batch in BATCHES:
                    a = np.random.default_rng(0).standard_normal((batch, n, n))
                    calls = {"lapack": functools.partial(lapack, a), "kernel": functools.partial(kernel, a)}
                    seconds = interleave(calls, seconds=0.05)
                    ratios.append(seconds["lapack"] / seconds["kernel"])
                print(f"{n:>4d} " + "".join(f"{ratio:7.2f}" for ratio in ratios), flush=True)


if __name__ == "__main__":
    main()
