"""Measurements of speed, side by side in one process: what `python -m dualsvd bench` runs.

A regime is a function that makes, for one size, the candidates: our call and the same mathematics by each peer that is
installed. They are timed in turn, A B C A B C ..., so that a machine whose speed drifts slows all of them alike;
medians are reported, and their ratios are what to trust. Each regime also says how accurate our result of that run was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import linalg
from .transforms import gradient, jacobian

OURS = "dualsvd"
Candidates = dict[str, Callable[[], Any]]
Accuracy = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One line of the table: a regime at one size, the median seconds of each candidate, and our accuracy."""

    regime: str
    size: int
    batch: int
    threads: int
    seconds: dict[str, float]
    accuracy: Accuracy

    @property
    def peer(self) -> str | None:
        """The fastest candidate that does the same work and is not ours; names in brackets only give a scale."""
        peers = [name for name in self.seconds if name != OURS and not name.startswith("(")]
        return min(peers, key=self.seconds.__getitem__, default=None)

    @property
    def ratio(self) -> float:
        """How many times faster than the fastest peer we are; NaN without one."""
        return self.seconds[self.peer] / self.seconds[OURS] if self.peer else math.nan


# ---------------------------------------------------------------------------------------------------------------------
# Timing


@contextlib.contextmanager
def one_core(single: bool) -> Iterator[None]:
    """Keep the whole process on one core, and BLAS at one thread: several would spin there waiting for one another.

    The threads of BLAS are told through threadpoolctl, where that is installed; else set OPENBLAS_NUM_THREADS=1.
    """
    if not single or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    pools = _optional("threadpoolctl")
    try:
        with pools.threadpool_limits(1) if pools else contextlib.nullcontext():
            yield
    finally:
        os.sched_setaffinity(0, before)


def interleave(candidates: Candidates, seconds: float = 0.4, rounds: tuple[int, int] = (5, 200)) -> dict[str, float]:
    """Median seconds of each candidate, called in turn after one call each that is not counted.

    At least rounds[0] and at most rounds[1] turns, in about `seconds` per candidate.
    """
    for call in candidates.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    deadline = time.perf_counter() + seconds * len(candidates)
    for turn in range(rounds[1]):
        if turn >= rounds[0] and time.perf_counter() > deadline:
            break
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def _optional(name: str) -> Any:
    with contextlib.suppress(ImportError):
        return importlib.import_module(name)
    return None


def _jax() -> Any:
    jax = _optional("jax")
    if jax is not None:
        jax.config.update("jax_enable_x64", True)
    return jax


# ---------------------------------------------------------------------------------------------------------------------
# Regimes


def _batch_for(n: int) -> int:
    """About as much work at every size: enough matrices that a call takes milliseconds."""
    return max(4, min(4096, 200_000 // n**2))


def _matrices(n: int, batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, n, n))


def _factor_errors(A: np.ndarray) -> Accuracy:
    U, S, Vh = linalg.svd(A)
    eye, scale = np.eye(A.shape[-1]), S[..., :1, None]
    return {
        "reconstruction": float(np.max(np.abs((U * S[..., None, :]) @ Vh - A) / scale)),
        "orthogonality": float(
            max(np.max(np.abs(np.swapaxes(U, -1, -2) @ U - eye)), np.max(np.abs(Vh @ np.swapaxes(Vh, -1, -2) - eye)))
        ),
    }


def full_svd(n: int) -> tuple[int, Candidates, Accuracy]:
    """U, S, Vh of a batch."""
    A = _matrices(n, batch := _batch_for(n))
    candidates: Candidates = {OURS: lambda: linalg.svd(A), "numpy": lambda: np.linalg.svd(A, full_matrices=False)}
    if torch := _optional("torch"):
        t = torch.from_numpy(A)
        candidates["torch"] = lambda: torch.linalg.svd(t, full_matrices=False)
    if jax := _jax():
        call = jax.jit(lambda a: jax.numpy.linalg.svd(a, full_matrices=False))
        j = jax.numpy.asarray(A)
        candidates["jax"] = lambda: jax.block_until_ready(call(j))
    return batch, candidates, _factor_errors(A)


def values_only(n: int) -> tuple[int, Candidates, Accuracy]:
    """S of a batch."""
    A = _matrices(n, batch := _batch_for(n))
    candidates: Candidates = {OURS: lambda: linalg.svdvals(A), "numpy": lambda: np.linalg.svd(A, compute_uv=False)}
    if torch := _optional("torch"):
        t = torch.from_numpy(A)
        candidates["torch"] = lambda: torch.linalg.svdvals(t)
    if jax := _jax():
        call = jax.jit(lambda a: jax.numpy.linalg.svd(a, compute_uv=False))
        j = jax.numpy.asarray(A)
        candidates["jax"] = lambda: jax.block_until_ready(call(j))
    S = np.linalg.svd(A, compute_uv=False)
    return batch, candidates, {"values": float(np.max(np.abs(linalg.svdvals(A) - S) / S[:, :1]))}


def with_pullback(n: int) -> tuple[int, Candidates, Accuracy]:
    """The SVD and its pullback, cotangents of U, S and Vh that do not depend on the signs of the vectors."""
    A = _matrices(n, batch := _batch_for(n))
    rng = np.random.default_rng(1)
    W, s_bar = rng.standard_normal(A.shape), rng.standard_normal((batch, n))

    def ours() -> Any:
        U, S, Vh = linalg.svd(A)
        return linalg.svd_pullback(U, S, Vh, W @ np.swapaxes(Vh, -1, -2), s_bar, np.swapaxes(U, -1, -2) @ W)

    candidates: Candidates = {OURS: ours}
    if torch := _optional("torch"):
        t, w, s = torch.from_numpy(A).requires_grad_(), torch.from_numpy(W), torch.from_numpy(s_bar)

        def by_torch() -> Any:
            U, S, Vh = torch.linalg.svd(t, full_matrices=False)
            return torch.autograd.grad((U, S, Vh), t, (w @ Vh.mT.detach(), s, U.mT.detach() @ w))

        candidates["torch"] = by_torch
    if jax := _jax():
        jnp = jax.numpy

        def pull(a: Any, w: Any, s: Any) -> Any:
            (U, _, Vh), pullback = jax.vjp(lambda x: tuple(jnp.linalg.svd(x, full_matrices=False)), a)
            return pullback((w @ jnp.swapaxes(Vh, -1, -2), s, jnp.swapaxes(U, -1, -2) @ w))

        call = jax.jit(pull)
        j = [jnp.asarray(x) for x in (A, W, s_bar)]
        candidates["jax"] = lambda: jax.block_until_ready(call(*j))
    U, S, Vh = linalg.svd(A)
    A_bar = ours()
    v = rng.standard_normal(A.shape)
    dU, dS, dVh = linalg.svd_pushforward(U, S, Vh, v)
    out = np.sum(W @ np.swapaxes(Vh, -1, -2) * dU) + np.sum(s_bar * dS) + np.sum(np.swapaxes(U, -1, -2) @ W * dVh)
    back = np.sum(A_bar * v)
    return batch, candidates, {"adjoint identity": float(abs(out - back) / np.sum(np.abs(A_bar * v)))}


def with_tangents(n: int) -> tuple[int, Candidates, Accuracy]:
    """The SVD and its derivative along eight directions."""
    A = _matrices(n, batch := _batch_for(n))
    dA = np.random.default_rng(1).standard_normal((8, *A.shape))

    def ours() -> Any:
        U, S, Vh = linalg.svd(A)
        return linalg.svd_pushforward(U, S, Vh, dA)

    candidates: Candidates = {OURS: ours}
    if jax := _jax():
        jnp = jax.numpy

        def push(a: Any, da: Any) -> Any:
            f = lambda x: tuple(jnp.linalg.svd(x, full_matrices=False))  # noqa: E731
            return jax.vmap(lambda v: jax.jvp(f, (a,), (v,))[1])(da)

        call = jax.jit(push)
        j, dj = jnp.asarray(A), jnp.asarray(dA)
        candidates["jax"] = lambda: jax.block_until_ready(call(j, dj))
    if torch := _optional("torch"):
        t, dt = torch.from_numpy(A), torch.from_numpy(dA)
        svd = lambda x: tuple(torch.linalg.svd(x, full_matrices=False))  # noqa: E731
        candidates["torch"] = lambda: torch.func.vmap(lambda v: torch.func.jvp(svd, (t,), (v,))[1])(dt)
    U, S, Vh = linalg.svd(A)
    dU, dS, dVh = ours()
    back = (dU * S[..., None, :]) @ Vh + (U * dS[..., None, :]) @ Vh + (U * S[..., None, :]) @ dVh
    return batch, candidates, {"product rule": float(np.max(np.abs(back - dA)) / np.max(np.abs(dU)))}


def jacobian_of_values(n: int) -> tuple[int, Candidates, Accuracy]:
    """The Jacobian of svdvals of one matrix, SVD included."""
    A = _matrices(n, 1)[0]
    candidates: Candidates = {OURS: lambda: jacobian(linalg.svdvals, A)}
    if jax := _jax():
        call = jax.jit(jax.jacrev(lambda a: jax.numpy.linalg.svd(a, compute_uv=False)))
        j = jax.numpy.asarray(A)
        candidates["jax"] = lambda: jax.block_until_ready(call(j))
    if torch := _optional("torch"):
        t = torch.from_numpy(A)
        call_torch = torch.func.jacrev(torch.linalg.svdvals)
        candidates["torch"] = lambda: call_torch(t)
    candidates["(numpy svd)"] = lambda: np.linalg.svd(A)
    U, _, Vh = np.linalg.svd(A, full_matrices=False)
    exact = np.einsum("ik,kj->kij", U, Vh)
    return 1, candidates, {"error": float(np.max(np.abs(jacobian(linalg.svdvals, A) - exact)))}


def trained_weights(n: int) -> np.ndarray:
    """A matrix with a gap below its largest singular value, as trained weights have: about 2 for that, and 1."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((n, n)) / np.sqrt(n)
    return A + 4 * np.outer(rng.standard_normal(n), rng.standard_normal(n)) / n


def gradient_of_norm_trained(n: int) -> tuple[int, Candidates, Accuracy]:
    """The gradient of the spectral norm of one matrix with a gap."""
    return gradient_of_norm(trained_weights(n))


def gradient_of_norm_random(n: int) -> tuple[int, Candidates, Accuracy]:
    """That of one random matrix, whose top is as crowded as that of any generic matrix."""
    return gradient_of_norm(_matrices(n, 1)[0])


def gradient_of_norm(A: np.ndarray) -> tuple[int, Candidates, Accuracy]:
    candidates: Candidates = {OURS: lambda: gradient(linalg.opnorm, A)}
    if jax := _jax():
        call = jax.jit(jax.grad(lambda a: jax.numpy.linalg.norm(a, 2)))
        j = jax.numpy.asarray(A)
        candidates["jax"] = lambda: jax.block_until_ready(call(j))
    if torch := _optional("torch"):
        t = torch.from_numpy(A).requires_grad_()
        candidates["torch"] = lambda: torch.autograd.grad(torch.linalg.matrix_norm(t, 2), t)
    candidates["(numpy svd)"] = lambda: np.linalg.svd(A)
    U, _, Vh = np.linalg.svd(A)
    return 1, candidates, {"error": float(np.max(np.abs(gradient(linalg.opnorm, A) - np.outer(U[:, 0], Vh[0]))))}


def accurate_jacobi(n: int) -> tuple[int, Candidates, Accuracy]:
    """One matrix to high relative accuracy, against LAPACK's Jacobi (dgejsv)."""
    rng = np.random.default_rng(0)
    scales = np.logspace(0, -12, n)
    A = rng.standard_normal((n, n)) * scales
    candidates: Candidates = {
        OURS: lambda: linalg.svd(A, algorithm="jacobi"),
        "(numpy svd)": lambda: np.linalg.svd(A),
    }
    if lapack := _optional("scipy.linalg.lapack"):
        candidates["dgejsv"] = lambda: lapack.dgejsv(A, joba=2, jobu=0, jobv=0)
    U, S, Vh = linalg.svd(A, algorithm="jacobi")
    residual = np.linalg.norm(((U * S) @ Vh - A) / scales, axis=0)
    return 1, candidates, {"column-wise reconstruction": float(np.max(residual))}


REGIMES: dict[str, tuple[Callable[[int], tuple[int, Candidates, Accuracy]], tuple[int, ...]]] = {
    "full SVD, batch": (full_svd, (2, 3, 4, 8, 16, 32, 64)),
    "values only, batch": (values_only, (2, 3, 4, 8, 16, 32, 64)),
    "SVD + pullback, batch": (with_pullback, (2, 3, 4, 8, 16, 32, 64)),
    "SVD + 8 tangents, batch": (with_tangents, (2, 3, 4, 8, 16, 32, 64)),
    "Jacobian of svdvals": (jacobian_of_values, (8, 32, 64, 128)),
    "gradient of the norm, trained": (gradient_of_norm_trained, (32, 256, 512, 1024)),
    "gradient of the norm, random": (gradient_of_norm_random, (32, 256, 512, 1024)),
    "accurate Jacobi": (accurate_jacobi, (64, 128, 256)),
}


def measure(
    regimes: Iterable[str] = tuple(REGIMES),
    *,
    largest: int = 1024,
    seconds: float = 0.4,
    single: bool = True,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Measurement]:
    """Run the regimes at their sizes up to `largest`; on one core, or on all where `single` is False."""
    results = []
    with one_core(single):
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        for name in regimes:
            make, sizes = REGIMES[name]
            for n in (n for n in sizes if n <= largest):
                batch, candidates, accuracy = make(n)
                result = Measurement(name, n, batch, threads, interleave(candidates, seconds), accuracy)
                progress(describe(result))
                results.append(result)
    return results


# ---------------------------------------------------------------------------------------------------------------------
# Reports


def describe(m: Measurement) -> str:
    """One line: the regime, our time a matrix, the ratio to the best peer, the accuracy."""
    accuracy = ", ".join(f"{name} {error:.0e}" for name, error in m.accuracy.items())
    each = m.seconds[OURS] / m.batch * 1e6
    versus = f"{m.ratio:6.2f}x {m.peer}" if m.peer else "no peer installed"
    return f"{m.regime:32s} n={m.size:<5d} {each:10.2f} us a matrix   {versus:24s} {accuracy}"


def machine() -> dict[str, str]:
    """The machine and the versions that a measurement belongs to."""
    versions = {}
    for name in ("numpy", "numba", "scipy", "torch", "jax"):
        module = sys.modules.get(name)
        if module is not None:
            versions[name] = str(module.__version__)
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    return {"processor": processor, "cores": str(os.cpu_count()), "python": platform.python_version(), **versions}


def to_json(results: list[Measurement]) -> str:
    """The measurements with the machine they were made on."""
    rows = [dataclasses.asdict(m) | ({"ratio": m.ratio, "peer": m.peer} if m.peer else {}) for m in results]
    return json.dumps({"machine": machine(), "measurements": rows}, indent=1)


def plot(results: list[Measurement], path: Path) -> None:
    """Ratio to the best peer against the size, one line a regime."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    for name in dict.fromkeys(m.regime for m in results):
        points = [(m.size, m.ratio) for m in results if m.regime == name and m.peer]
        if points:
            axes.loglog(*zip(*points), marker="o", label=name, base=2)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xlabel("n (matrices n x n)")
    axes.set_ylabel("times faster than the best peer")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
