"""What is timed: for each regime and size our call and the same mathematics by every library that is installed.

A regime makes a `Case`: the candidates, how accurate our results are on the same input, and how much work they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import linalg
from ..kernels.cpu import BY_ROTATIONS
from ..linalg.dispatch import way_for
from ..settings import cores, options
from ..transforms import gradient, jacobian, jvp
from .timing import Candidates, optional

OURS = "dualsvd"
Accuracy = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Case:
    """One size of a regime. Names in brackets give a scale only: they do other work, or the same with more help.

    flops, bytes: of our kernels, for all matrices together; 0 where they are not ours.
    """

    batch: int
    candidates: Candidates
    accuracy: Accuracy
    flops: float = 0.0
    bytes: float = 0.0


def engines(
    *arguments: np.ndarray,
    torch: Callable[..., Callable[[], Any]] | None = None,
    jax: Callable[[Any], Callable[..., Any]] | None = None,
) -> Candidates:
    """Candidates by the engines that are installed.

    torch   (torch, *arguments as tensors) -> the call to time
    jax     (jax, in double precision) -> a function of the arguments as JAX's arrays, to be jitted
    """
    candidates: Candidates = {}
    if torch is not None and (module := optional("torch")):
        candidates["torch"] = torch(module, *map(module.from_numpy, arguments))
    if jax is not None and (module := optional("jax")):
        module.config.update("jax_enable_x64", True)
        candidates["jax"] = compiled(module, jax(module), *arguments)
    return candidates


def compiled(jax: Any, function: Callable[..., Any], *arguments: np.ndarray) -> Callable[[], Any]:
    """A jitted call that waits for its result."""
    call, given = jax.jit(function), [jax.numpy.asarray(x) for x in arguments]
    return lambda: jax.block_until_ready(call(*given))


def svd_by_jax(jax: Any) -> Callable[[Any], Any]:
    """The thin SVD; a tuple, so that cotangents may be tuples too."""
    return lambda a: tuple(jax.numpy.linalg.svd(a, full_matrices=False))


def values_by_jax(jax: Any) -> Callable[[Any], Any]:
    """The singular values alone."""
    return lambda a: jax.numpy.linalg.svd(a, compute_uv=False)


def norm_gradients(A: np.ndarray) -> Candidates:
    """The gradient of the spectral norm of a matrix, by the engines."""

    def by_torch(torch: Any, t: Any) -> Callable[[], Any]:
        t.requires_grad_()
        return lambda: torch.autograd.grad(torch.linalg.matrix_norm(t, 2), t)

    return engines(A, torch=by_torch, jax=lambda jax: jax.grad(lambda a: jax.numpy.linalg.norm(a, 2)))


def batch_for(n: int) -> int:
    """About as much work at every size: enough matrices that a call takes milliseconds."""
    return max(4, min(10_000, 400_000 // n**2))


def random_batch(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch_for(n), n, n))


# ---------------------------------------------------------------------------------------------------------------------
# Work and accuracy


def sweeps_of(A: np.ndarray) -> float:
    """The sweeps that the kernel takes for these, on average."""
    from ..kernels import cpu

    return float(np.mean(cpu.svd(np.ascontiguousarray(A))[3].sweeps))


def svd_flops(A: np.ndarray, vectors: bool = True) -> float:
    """Of the Jacobi kernel: every sweep takes ten inner products for four pairs, and all but the last turn them. By way
    of a bidiagonal matrix: two reflectors a column, some n^2 pairs of rotations, and the vectors turned by both."""
    batch, m, n = A.shape
    way = way_for("factors" if vectors else "values", A.shape, A.dtype.char)
    if way == "lapack":
        return 0.0
    if way == "bidiagonal":
        return batch * n * n * (8 * m + 9 * n)
    if n > BY_ROTATIONS and not vectors:
        return batch * n * n * (4 * (m - n / 3) + 30)
    sweeps, pairs = sweeps_of(A), n * (n - 1) / 2
    return batch * pairs * (sweeps * (5 * m + 6) + (sweeps - 1) * (4 * m + 4 * n * vectors + 40))


def factor_errors(A: np.ndarray) -> Accuracy:
    """Of U, S, Vh: against A, relative to s_1, and against orthonormality."""
    U, S, Vh = linalg.svd(A)
    eye, scale = np.eye(A.shape[-1]), np.maximum(S[..., :1], np.finfo(S.dtype).tiny)
    unit = S / scale
    return {
        "reconstruction": float(np.max(np.abs((U * unit[..., None, :]) @ Vh - A / scale[..., None]))),
        "orthogonality": float(
            max(np.max(np.abs(np.swapaxes(U, -1, -2) @ U - eye)), np.max(np.abs(Vh @ np.swapaxes(Vh, -1, -2) - eye)))
        ),
    }


# ---------------------------------------------------------------------------------------------------------------------
# Batches of small matrices


def full_svd(n: int) -> Case:
    """U, S, Vh of a batch."""
    return full_svd_of(random_batch(n))


def full_svd_of(A: np.ndarray) -> Case:
    """U, S, Vh of this batch."""
    out = linalg.svd(A)
    candidates: Candidates = {
        OURS: lambda: linalg.svd(A),
        "numpy": lambda: np.linalg.svd(A, full_matrices=False),
        "(out=)": lambda: linalg.svd(A, out=out),
    }
    candidates |= engines(A, torch=lambda torch, t: lambda: torch.linalg.svd(t, full_matrices=False), jax=svd_by_jax)
    return Case(len(A), candidates, factor_errors(A), svd_flops(A), 8 * (3 * A.size + out.S.size))


def values_only(n: int) -> Case:
    """S of a batch."""
    A = random_batch(n)
    candidates: Candidates = {OURS: lambda: linalg.svdvals(A), "numpy": lambda: np.linalg.svd(A, compute_uv=False)}
    candidates |= engines(A, torch=lambda torch, t: lambda: torch.linalg.svdvals(t), jax=values_by_jax)
    S = np.linalg.svd(A, compute_uv=False)
    errors = {"values": float(np.max(np.abs(linalg.svdvals(A) - S) / S[:, :1]))}
    return Case(len(A), candidates, errors, svd_flops(A, vectors=False), 8 * (A.size + S.size))


def with_pullback(n: int) -> Case:
    """The SVD and its pullback, with given cotangents of U, S and Vh."""
    A, rng = random_batch(n), np.random.default_rng(1)
    bars = rng.standard_normal(A.shape), rng.standard_normal(A.shape[:-1]), rng.standard_normal(A.shape)

    def ours() -> Any:
        return linalg.svd_pullback(*linalg.svd(A), *bars)

    def by_torch(torch: Any, t: Any, *bars: Any) -> Callable[[], Any]:
        t.requires_grad_()
        return lambda: torch.autograd.grad(torch.linalg.svd(t, full_matrices=False), t, bars)

    def by_jax(jax: Any) -> Callable[..., Any]:
        return lambda a, *bars: jax.vjp(svd_by_jax(jax), a)[1](bars)

    candidates = {OURS: ours} | engines(A, *bars, torch=by_torch, jax=by_jax)
    v, A_bar = rng.standard_normal(A.shape), ours()
    tangents = linalg.svd_pushforward(*linalg.svd(A), v)
    forward = sum(np.sum(bar * dx) for bar, dx in zip(bars, tangents))
    errors = {"adjoint identity": float(abs(forward - np.sum(A_bar * v)) / np.sum(np.abs(A_bar * v)))}
    flops = svd_flops(A) and svd_flops(A) + len(A) * 8 * n**3
    return Case(len(A), candidates, errors, flops, 8 * (8 * A.size))


def with_tangents(n: int, count: int = 8) -> Case:
    """The SVD and its derivative along eight directions."""
    A = random_batch(n)
    dA = np.random.default_rng(1).standard_normal((count, *A.shape))
    out = linalg.svd_pushforward(*linalg.svd(A), dA)
    candidates: Candidates = {
        OURS: lambda: linalg.svd_pushforward(*linalg.svd(A), dA),
        "(out=)": lambda: linalg.svd_pushforward(*linalg.svd(A), dA, out=out),
    }

    def by_torch(torch: Any, t: Any, dt: Any) -> Callable[[], Any]:
        def svd(x: Any) -> Any:
            return tuple(torch.linalg.svd(x, full_matrices=False))

        return lambda: torch.func.vmap(lambda v: torch.func.jvp(svd, (t,), (v,))[1])(dt)

    def by_jax(jax: Any) -> Callable[..., Any]:
        svd = svd_by_jax(jax)
        return lambda a, da: jax.vmap(lambda v: jax.jvp(svd, (a,), (v,))[1])(da)

    candidates |= engines(A, dA, torch=by_torch, jax=by_jax)
    flops = svd_flops(A) and svd_flops(A) + len(A) * count * 8 * n**3
    return Case(len(A), candidates, tangent_errors(A, dA), flops, 8 * (3 * dA.size + count * A.size // n + 3 * A.size))


def tangent_errors(A: np.ndarray, dA: np.ndarray) -> Accuracy:
    """The product rule d(U S Vh) = dA, relative to |dU|; and dS against that of factors refined to twice the digits."""
    U, S, Vh = linalg.svd(A)
    dU, dS, dVh = linalg.svd_pushforward(U, S, Vh, dA)
    s = S[..., None, :]
    back = (dU * s) @ Vh + (U * dS[..., None, :]) @ Vh + (U * s) @ dVh
    some = A[:50]
    with options(refine=2):
        exact = jvp(linalg.svdvals, (some,), (dA[0, :50],))[1]
    return {
        "product rule": float(np.max(np.abs(back - dA)) / np.max(np.abs(dU * s))),
        "dS": float(np.max(np.abs(dS[0, :50] - exact)) / np.max(np.abs(exact))),
    }


# ---------------------------------------------------------------------------------------------------------------------
# Batches that are hard


def hard_batch(name: str, n: int) -> np.ndarray:
    """A batch of that family."""
    A = random_batch(n)
    U, _, Vh = np.linalg.svd(A)
    values = {
        "graded": np.exp2(-4.0 * np.arange(n)),
        "clustered": 1 + 1e-7 * np.arange(n)[::-1],
        "rank-deficient": np.r_[np.linspace(2, 1, n - n // 2), np.zeros(n // 2)],
    }
    if name in values:
        return (U * values[name]) @ Vh
    return A * {"random": 1.0, "1e+150": 1e150, "1e-150": 1e-150}[name]


def put_together(a: Any) -> Any:
    """U S Vh of a: the identity, by way of the factors and their derivatives."""
    U, S, Vh = linalg.svd(a)
    return (U * S[..., None, :]) @ Vh


HARD = ("random", "graded", "clustered", "rank-deficient", "1e+150", "1e-150")


def hard_batches(n: int) -> dict[str, Case]:
    """The full SVD of each family, with the derivative along a direction as well in its accuracy."""
    cases = {}
    for name in HARD:
        A = hard_batch(name, n)
        case = full_svd_of(A)
        dA = A[::-1] if name.startswith("1e") else np.random.default_rng(1).standard_normal(A.shape)
        error = {"d(U S Vh)": float(np.max(np.abs(jvp(put_together, (A,), (dA,))[1] - dA)) / np.max(np.abs(dA)))}
        cases[name] = dataclasses.replace(case, accuracy=case.accuracy | error, flops=0.0)
    return cases


# ---------------------------------------------------------------------------------------------------------------------
# One matrix


def jacobian_of_values(n: int) -> Case:
    """The Jacobian of svdvals of one matrix, SVD included."""
    A = np.random.default_rng(0).standard_normal((n, n))
    out = jacobian(linalg.svdvals, A)
    candidates: Candidates = {
        OURS: lambda: jacobian(linalg.svdvals, A),
        "(out=)": lambda: jacobian(linalg.svdvals, A, out=out),
    }

    def by_torch(torch: Any, t: Any) -> Callable[[], Any]:
        call = torch.func.jacrev(torch.linalg.svdvals)
        return lambda: call(t)

    candidates |= engines(A, torch=by_torch, jax=lambda jax: jax.jacrev(values_by_jax(jax)))
    candidates["(numpy svd)"] = lambda: np.linalg.svd(A)
    U, _, Vh = np.linalg.svd(A, full_matrices=False)
    errors = {"error": float(np.max(np.abs(out - np.einsum("ik,kj->kij", U, Vh))))}
    return Case(1, candidates, errors)


def trained_weights(n: int) -> np.ndarray:
    """A matrix with a gap below its largest singular value, as trained weights have: about 2 for that, and 1."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((n, n)) / np.sqrt(n)
    return A + 4 * np.outer(rng.standard_normal(n), rng.standard_normal(n)) / n


def gradient_of_norm_trained(n: int) -> Case:
    """The gradient of the spectral norm of one matrix with a gap."""
    return gradient_of_norm(trained_weights(n))


def gradient_of_norm_random(n: int) -> Case:
    """The gradient of the spectral norm of one random matrix, whose top is as crowded as that of any generic one."""
    return gradient_of_norm(np.random.default_rng(0).standard_normal((n, n)))


def gradient_of_norm(A: np.ndarray) -> Case:
    """The gradient of the spectral norm of this matrix."""
    candidates: Candidates = {OURS: lambda: gradient(linalg.opnorm, A)} | norm_gradients(A)
    candidates["(numpy svd)"] = lambda: np.linalg.svd(A)
    U, _, Vh = np.linalg.svd(A)
    errors = {"error": float(np.max(np.abs(gradient(linalg.opnorm, A) - np.outer(U[:, 0], Vh[0]))))}
    return Case(1, candidates, errors)


def accurate_jacobi_random(n: int) -> Case:
    """One random matrix to high relative accuracy."""
    return accurate_jacobi(np.random.default_rng(0).standard_normal((n, n)))


def accurate_jacobi_graded(n: int) -> Case:
    """One matrix whose columns fall by twelve powers of ten."""
    return accurate_jacobi(np.random.default_rng(0).standard_normal((n, n)) * np.logspace(0, -12, n))


def accurate_jacobi(A: np.ndarray) -> Case:
    """Against LAPACK's Jacobi, dgejsv."""
    candidates: Candidates = {
        OURS: lambda: linalg.svd(A, algorithm="jacobi"),
        "(numpy svd)": lambda: np.linalg.svd(A),
    }
    lapack = optional("scipy.linalg.lapack")
    if lapack:
        candidates["dgejsv"] = lambda: lapack.dgejsv(A, joba=2, jobu=0, jobv=0)
    U, S, Vh = linalg.svd(A, algorithm="jacobi")
    errors = {"columns": float(np.max(np.linalg.norm((U * S) @ Vh - A, axis=0) / np.linalg.norm(A, axis=0)))}
    if lapack:
        values, work = lapack.dgejsv(A, joba=2, jobu=0, jobv=0)[0], lapack.dgejsv(A, joba=2, jobu=0, jobv=0)[3]
        errors["values against dgejsv"] = float(np.max(np.abs(S / (values * work[0] / work[1]) - 1)))
    return Case(1, candidates, errors)


# ---------------------------------------------------------------------------------------------------------------------
# The whole of it: traced arrays around the kernels


def gradient_of_small_norm(n: int) -> Case:
    """A gradient from end to end, of one matrix 3 x 5 (n = 3) or so: what the tape costs."""
    A = np.random.default_rng(0).standard_normal((n, n + 2))
    candidates: Candidates = {OURS: lambda: gradient(linalg.opnorm, A)} | norm_gradients(A)
    if autograd := optional("autograd"):
        anp = optional("autograd.numpy")

        def norm(a: Any) -> Any:
            return anp.linalg.svd(a, full_matrices=False)[1][0]

        candidates["autograd"] = lambda: autograd.grad(norm)(A)
    U, _, Vh = np.linalg.svd(A)
    errors = {"error": float(np.max(np.abs(gradient(linalg.opnorm, A) - np.outer(U[:, 0], Vh[0]))))}
    return Case(1, candidates, errors)


def all_cores(n: int) -> Case:
    """The full SVD of a large batch on all cores; in brackets on one."""
    A = np.random.default_rng(0).standard_normal((batch_for(n) * 8, n, n))

    def on(threads: int) -> Callable[[], Any]:
        def call() -> Any:
            with options(threads=threads):
                return linalg.svd(A)

        return call

    candidates = {OURS: on(cores()), "(one thread)": on(1)} | engines(A, jax=svd_by_jax)
    return Case(len(A), candidates, factor_errors(A[:1000]))


SMALL = (2, 3, 4, 8, 16, 32, 64)
#: name -> (what makes its cases, sizes)
REGIMES: dict[str, tuple[Callable[[int], Case], tuple[int, ...]]] = {
    "full SVD, batch": (full_svd, SMALL),
    "values only, batch": (values_only, SMALL),
    "SVD + pullback, batch": (with_pullback, SMALL),
    "SVD + 8 tangents, batch": (with_tangents, SMALL),
    "Jacobian of svdvals": (jacobian_of_values, (8, 32, 64, 128)),
    "gradient of the norm, small": (gradient_of_small_norm, (3, 8)),
    "gradient of the norm, trained": (gradient_of_norm_trained, (32, 256, 512, 1024)),
    "gradient of the norm, random": (gradient_of_norm_random, (32, 256, 512, 1024)),
    "accurate Jacobi, random": (accurate_jacobi_random, (64, 128, 256)),
    "accurate Jacobi, graded": (accurate_jacobi_graded, (64, 128, 256)),
}
