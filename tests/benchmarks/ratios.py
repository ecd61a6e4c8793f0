"""Ratios to one np.linalg.svd of the same matrix, interleaved in one process: python tests/benchmarks/ratios.py

What is promised: svd of 32x32 within 3, the gradient of opnorm of 256x256 within 1.5, the Jacobian of svdvals of 32x32
within 3. `python -m dualsvd bench` compares with other libraries.
"""

from __future__ import annotations

import numpy as np

import dualsvd as ds
from dualsvd.bench import interleave, one_core

CASES = {
    "svd 32x32": (32, ds.svd, 3.0),
    "svd 32x32, Jacobi kernel": (32, lambda a: ds.svd(np.stack([a] * 64)), 3.0 * 64),
    "gradient of opnorm 256x256": (256, lambda a: ds.gradient(ds.opnorm, a), 1.5),
    "Jacobian of svdvals 32x32": (32, lambda a: ds.jacobian(ds.svdvals, a), 3.0),
    "gradient of opnorm 3x3": (3, lambda a: ds.gradient(ds.opnorm, a), float("nan")),
}


def main() -> None:
    with one_core(True):
        for name, (n, call, promised) in CASES.items():
            a = np.random.default_rng(0).standard_normal((n, n))
            seconds = interleave({"ours": lambda a=a, call=call: call(a), "numpy": lambda a=a: np.linalg.svd(a)})
            ratio = seconds["ours"] / seconds["numpy"]
            print(f"{name:28s} {ratio:8.2f} (promised {promised:g})   {seconds['ours'] * 1e6:9.1f} us")


if __name__ == "__main__":
    main()
