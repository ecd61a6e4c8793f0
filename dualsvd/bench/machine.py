"""The machine, and what it can do at best: figures that the speed of a kernel is a fraction of."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .timing import best_of


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one core does at best: floating-point operations in fused multiply-adds, products of large matrices by
    BLAS, and bytes read and written while memory is copied, each per second."""

    multiply_adds: float
    products: float
    copies: float


def limits() -> Limits:
    """Measured now, in double precision. Compiles a kernel the first time."""
    return Limits(_multiply_adds(), _products(), _copies())


def _multiply_adds(rounds: int = 4096) -> float:
    """Chains of x * y + z, as many as hide their latency, in packs as wide as those of the kernels."""
    from ..kernels.cpu import widest_pack
    from ..kernels.peak import CHAINS, chains

    lanes, kind = widest_pack(np.dtype(np.float64))
    x = np.full((CHAINS + 2) * lanes, 1e-3)
    return 2 * CHAINS * lanes * rounds / best_of(lambda: chains(kind, x, rounds))


def _products(n: int = 768) -> float:
    a, b = np.ones((2, n, n))
    out = np.empty_like(a)
    return 2 * n**3 / best_of(lambda: np.matmul(a, b, out=out))


def _copies(size: int = 1 << 25) -> float:
    a, b = np.zeros(size, np.uint8), np.ones(size, np.uint8)
    return 2 * size / best_of(lambda: np.copyto(b, a))


def machine() -> dict[str, str]:
    """The machine and the versions that a measurement belongs to."""
    versions = {}
    for name in ("numpy", "numba", "scipy", "torch", "jax"):
        module: Any = sys.modules.get(name)
        if module is not None:
            versions[name] = str(module.__version__)
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    facts = {"processor": processor, "cores": str(os.cpu_count()), "python": platform.python_version()}
    return facts | {"registers": registers()} | versions


def registers() -> str:
    """The widest SIMD registers."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    names = (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("avx", "AVX"), ("sve", "SVE"), ("neon", "NEON"))
    return next((name for feature, name in names if features.get(feature)), "SSE2")
