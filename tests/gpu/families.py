"""Batches that mix matrices of every family: healthy, tied, zero, deficient, graded, clustered, out of scale."""

from __future__ import annotations

import cases
import numpy as np


def members(m: int, n: int, dtype: str) -> dict[str, np.ndarray]:
    """One matrix of each family, by name."""
    r = min(m, n)
    complex_part = 1j if np.dtype(dtype).kind == "c" else 0.0
    steps = np.arange(1, r + 1)
    grade = 4 if dtype in ("float32", "complex64") else 30
    far = 40 if dtype in ("float32", "complex64") else 500
    ones = np.ones((m, n)) * (1 + complex_part)
    found = {
        "identity": np.eye(m, n),
        "zero": np.zeros((m, n)),
        "ones": ones,
        "rank one": np.outer(np.arange(m) - 1.0, np.arange(n) + 1.0) * (1 + complex_part),
        "diagonal, unsorted": np.eye(m, n) * (np.arange(n) - 0.5),
        "tied": cases.spectrum(m, n, np.where(steps > r // 2, 1.0, 2.0), seed=1, dtype=dtype),
        "clustered": cases.spectrum(m, n, 1 + steps * 1e-9, seed=2, dtype=dtype),
        "graded columns": cases.normal(m, n, seed=3, dtype=dtype) * 10.0 ** -np.linspace(0, grade, n),
        "small": np.ldexp(cases.normal(m, n, seed=4), -far) * (1 + complex_part),
        "large": np.ldexp(cases.normal(m, n, seed=5), far) * (1 + complex_part),
        "hilbert": cases.hilbert(m, n),
    }
    return {name: a.astype(dtype) for name, a in found.items()}


def batch(m: int, n: int, dtype: str, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """`count` matrices (B, m, n), each of which a direction, and the name of each one's family.

    A dense one and one of integers over {-1, 0, 1}, where ties and zeros abound; the members; then these two in turn.
    """
    rng = np.random.default_rng([seed, m, n])

    def drawn(integers: bool) -> np.ndarray:
        a = rng.integers(-1, 2, (m, n)) if integers else rng.standard_normal((m, n))
        if np.dtype(dtype).kind == "c":
            a = a + 1j * (rng.integers(-1, 2, (m, n)) if integers else rng.standard_normal((m, n)))
        return a.astype(dtype)

    found = [("generic", drawn(False)), ("integers", drawn(True)), *members(m, n, dtype).items()]
    while len(found) < count:
        found += [("generic", drawn(False)), ("integers", drawn(True))]
    names = [name for name, _ in found[:count]]
    a = np.stack([x for _, x in found[:count]])
    scale = np.max(np.abs(a), axis=(1, 2), keepdims=True)
    unit = np.exp2(np.round(np.log2(np.where(scale > 0, scale, 1))))
    return a, (cases.direction((count, m, n), seed, dtype) * unit).astype(dtype), names
