"""Where the top singular pair by Krylov steps overtakes the whole SVD: python tests/benchmarks/crossover.py

It sets `KRYLOV_SIZE` of `dualsvd.linalg.tops`. Ratios: the time by LAPACK over that by the Krylov process, more
than 1 where the process is the better way; for the value alone (LAPACK without vectors) and for its gradient.
"""

from __future__ import annotations

import numpy as np

import dualsvd as ds
from dualsvd.bench import interleave, one_core
from dualsvd.linalg import tops

SQUARE = (64, 96, 128, 192, 256, 384, 512, 1024)
SHAPES = (*((n, n) for n in SQUARE), (128, 512), (256, 1024), (1024, 256), (256, 8192), (512, 4096))


def spectra(m: int, n: int) -> dict[str, np.ndarray]:
    """From the kindest to the process to one that defeats it."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((m, n))
    Q, Z = (np.linalg.qr(rng.standard_normal((k, min(m, n))))[0] for k in (m, n))
    crowded = 1 - np.linspace(0, 1, min(m, n)) ** 4
    return {
        "trained": noise / np.sqrt(n) + 4 * np.outer(rng.standard_normal(m), rng.standard_normal(n)) / n,
        "random": noise,
        "crowded": (Q * crowded) @ Z.T,
    }


def main() -> None:
    tops.KRYLOV_SIZE = 1
    print(f"{'shape':>10s}  {'spectrum':8s}  value  gradient")
    with one_core(True):
        for shape in SHAPES:
            for name, a in spectra(*shape).items():
                ratios = []
                for f in (ds.opnorm, lambda x, **k: ds.gradient(lambda y: ds.opnorm(y, **k), x)):
                    ways = {way: (lambda f=f, way=way, a=a: f(a, algorithm=way)) for way in ("auto", "lapack")}
                    seconds = interleave(ways)
                    ratios.append(seconds["lapack"] / seconds["auto"])
                print(f"{shape[0]:>5d}x{shape[1]:<5d} {name:8s}  {ratios[0]:5.2f}  {ratios[1]:5.2f}")


if __name__ == "__main__":
    main()
