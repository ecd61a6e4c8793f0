"""Functions to differentiate, each with a name that says what it is made of and a shape for its argument.

CALLS     one NumPy function or method at a time, with the arguments people give it
COMPOSED  small programs: losses, layers, loops that write into arrays, matrix functions

Each takes one array of independent standard normal numbers, or of numbers in an interval where that is given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

import dualsvd as ds


@dataclasses.dataclass(frozen=True)
class Function:
    """f with the shape of its argument; `interval` bounds the numbers in it."""

    name: str
    f: Callable[[Any], Any]
    shape: tuple[int, ...]
    interval: tuple[float, float] | None = None
    scalar: bool = False  # real-valued and twice differentiable: its Hessian can be compared
    tolerance: float = 1e-12  # of forward against reverse, relative; more where the function itself is ill-conditioned

    def argument(self, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return rng.standard_normal(self.shape) if self.interval is None else rng.uniform(*self.interval, self.shape)

    def __str__(self) -> str:
        return self.name


CALLS: list[Function] = []
COMPOSED: list[Function] = []

# ---------------------------------------------------------------------------------------------------------------------
# Constants that the functions combine with their argument

_rng = np.random.default_rng(2024)
A34, A43, A4, A3 = (_rng.standard_normal(shape) for shape in ((3, 4), (4, 3), (4,), (3,)))
A234 = _rng.standard_normal((2, 3, 4))
MASK34 = A34 > 0
PLACES = np.array([2, 0, 2, 1])
POSITIVE = (0.3, 2.0)


def call(name: str, f: Callable[[Any], Any], *shape: int, **known: Any) -> None:
    CALLS.append(Function(name, f, shape, **known))


# shapes
call("reshape", lambda x: np.reshape(x, (2, -1)), 3, 4)
call("reshape, Fortran order", lambda x: np.reshape(x, (6, 2), order="F"), 3, 4)
call("x.reshape", lambda x: x.reshape(4, 3), 3, 4)
call("x.reshape of a tuple", lambda x: x.reshape((2, 6)), 3, 4)
call("ravel", np.ravel, 3, 4)
call("ravel, Fortran order", lambda x: np.ravel(x, "F"), 3, 4)
call("x.flatten", lambda x: x.flatten(), 3, 4)
call("transpose", np.transpose, 2, 3, 4)
call("transpose of axes", lambda x: np.transpose(x, (1, -1, 0)), 2, 3, 4)
call("x.transpose", lambda x: x.transpose(2, 0, 1), 2, 3, 4)
call("x.T", lambda x: x.T, 3, 4)
call("x.mT", lambda x: x.mT, 2, 3, 4)
call("swapaxes", lambda x: np.swapaxes(x, 0, -1), 2, 3, 4)
call("moveaxis", lambda x: np.moveaxis(x, [0, 1], [-1, 0]), 2, 3, 4)
call("rollaxis", lambda x: np.rollaxis(x, 2), 2, 3, 4)
call("expand_dims", lambda x: np.expand_dims(x, (0, -1)), 3, 4)
call("squeeze", np.squeeze, 1, 3, 1)
call("squeeze of an axis", lambda x: np.squeeze(x, 0), 1, 3, 1)
call("broadcast_to", lambda x: np.broadcast_to(x, (2, 3, 4)), 3, 1)
call("broadcast_arrays", lambda x: np.broadcast_arrays(x, A34)[0] * A34, 4)
call("meshgrid", lambda x: np.meshgrid(x, A3)[0] * np.meshgrid(A3, x)[1].T, 4)
call("atleast_1d", np.atleast_1d)
call("atleast_2d", np.atleast_2d, 3)
call("atleast_3d", np.atleast_3d, 3, 4)
call("flip", np.flip, 3, 4)
call("flip of an axis", lambda x: np.flip(x, 1), 3, 4)
call("fliplr, flipud", lambda x: np.fliplr(x) - np.flipud(x), 3, 4)
call("rot90", lambda x: np.rot90(x, 3), 3, 4)
call("roll", lambda x: np.roll(x, 5), 3, 4)
call("roll along axes", lambda x: np.roll(x, (1, -2), axis=(0, 1)), 3, 4)
call("repeat", lambda x: np.repeat(x, 2), 3, 4)
call("repeat by counts", lambda x: np.repeat(x, [2, 0, 1, 3], axis=1), 3, 4)
call("tile", lambda x: np.tile(x, (2, 1, 3)), 3, 4)
call("resize", lambda x: np.resize(x, (5, 3)), 3, 4)
call("delete", lambda x: np.delete(x, [0, 2], axis=1), 3, 4)
call("append", lambda x: np.append(x, x[:1] * 2, axis=0), 3, 4)
call("pad with zeros", lambda x: np.pad(x, ((1, 2), (0, 3))), 3, 4)
call("pad with a constant", lambda x: np.pad(x, 1, constant_values=2.0), 3, 4)
call("pad by the edge", lambda x: np.pad(x, 2, mode="edge"), 3, 4)
call("pad by reflection", lambda x: np.pad(x, ((1, 1), (2, 0)), mode="reflect"), 3, 4)
call("pad by wrapping", lambda x: np.pad(x, 1, mode="wrap"), 3, 4)
call("fftshift", np.fft.fftshift, 3, 4)

# joining and splitting
call("concatenate", lambda x: np.concatenate([x, A34, 2 * x], axis=1), 3, 4)
call("concatenate flat", lambda x: np.concatenate([x, A4, x], axis=None), 3, 4)
call("stack", lambda x: np.stack([x, A34, x * x], axis=1), 3, 4)
call("stack of numbers", lambda x: np.stack([x[0], 1.0, x[2] * x[1]]), 3)
call("vstack", lambda x: np.vstack([x, x[0], A4]), 3, 4)
call("hstack", lambda x: np.hstack([x, A34]), 3, 4)
call("hstack of vectors", lambda x: np.hstack([x, A4, x[1]]), 4)
call("dstack", lambda x: np.dstack([x, A34]), 3, 4)
call("column_stack", lambda x: np.column_stack([x, A43[:, 0], x * x]), 4)
call("block", lambda x: np.block([[x, A34], [np.zeros((1, 5)), x[0, :3]]]), 3, 4)
call("split", lambda x: np.split(x, 2, axis=1)[1], 3, 4)
call("split at places", lambda x: np.concatenate(np.split(x, [1, 3])[::-1]), 5)
call("array_split", lambda x: np.array_split(x, 3)[0], 5)
call("hsplit, vsplit", lambda x: np.hsplit(x, 2)[0] @ np.vsplit(x, 2)[1], 4, 4)
call("unstack", lambda x: np.unstack(x, axis=1)[2], 3, 4)

# reading
call("an element", lambda x: x[1, 2], 3, 4)
call("a row from the end", lambda x: x[-1], 3, 4)
call("a backward slice", lambda x: x[::-2, 1:], 3, 4)
call("newaxis and ellipsis", lambda x: x[..., None, 1], 2, 3, 4)
call("repeated places", lambda x: x[PLACES], 3, 4)
call("places apart", lambda x: x[[0, 1], :, [3, 3]], 2, 3, 4)
call("a mask", lambda x: x[MASK34], 3, 4)
call("a mask of its own", lambda x: x[x > 0], 3, 4)
call("np.ix_", lambda x: x[np.ix_([2, 0], [1, 1, 3])], 3, 4)
call("take", lambda x: np.take(x, PLACES, axis=1), 3, 4)
call("take, wrapping", lambda x: np.take(x, [-5, 13], mode="wrap"), 3, 4)
call("take_along_axis", lambda x: np.take_along_axis(x, np.argsort(A34, axis=0), axis=0), 3, 4)
call("compress", lambda x: np.compress([True, False, True], x, axis=0), 3, 4)
call("extract", lambda x: np.extract(MASK34, x), 3, 4)
call("diagonal", lambda x: np.diagonal(x, 1), 3, 4)
call("diagonal of axes", lambda x: np.diagonal(x, -1, 0, 2), 2, 3, 4)
call("diag of a matrix", lambda x: np.diag(x, -1), 3, 4)
call("diag of a vector", lambda x: np.diag(x, 1), 3)
call("diagflat", lambda x: np.diagflat(x, -1), 2, 2)
call("triu", lambda x: np.triu(x, 1), 2, 3, 4)
call("tril", lambda x: np.tril(x), 3, 4)
call("iteration", lambda x: sum(row * k for k, row in enumerate(x)), 3, 4)
call("unpacking", lambda x: (lambda a, b, c: a * b - c)(*x), 3, 4)

# choosing
call("where", lambda x: np.where(MASK34, x, x * x), 3, 4)
call("where of itself", lambda x: np.where(x > 0, x, 0.1 * x), 3, 4)
call("select", lambda x: np.select([x < -0.5, x < 0.5], [x, x * x], default=-x), 3, 4)
call("choose", lambda x: np.choose([0, 1, 1, 0], [x, x * x]), 4)
call("piecewise", lambda x: np.piecewise(x, [x < 0], [lambda t: t * t, np.sin]), 3, 4)
call("clip", lambda x: np.clip(x, -0.5, 0.5), 3, 4)
call("x.clip", lambda x: x.clip(0.0), 3, 4)
call("maximum of a number", lambda x: np.maximum(x, 0.0), 3, 4)
call("nan_to_num", lambda x: np.nan_to_num(np.where(MASK34, x, np.nan)), 3, 4)

# sums
call("sum", np.sum, 3, 4)
call("sum along an axis", lambda x: np.sum(x, axis=1), 2, 3, 4)
call("sum along axes, kept", lambda x: x.sum(axis=(0, -1), keepdims=True), 2, 3, 4)
call("sum where", lambda x: np.sum(x, axis=0, where=MASK34, initial=2.0), 3, 4)
call("add.reduce", np.add.reduce, 3, 4)
call("sum of a list", lambda x: sum(x), 3, 4)
call("cumsum", lambda x: np.cumsum(x, axis=1), 3, 4)
call("cumsum flat", lambda x: x.cumsum(), 3, 4)
call("cumulative_sum", lambda x: np.cumulative_sum(x, axis=1, include_initial=True), 3, 4)
call("add.accumulate", np.add.accumulate, 3, 4)
call("mean", lambda x: np.mean(x, axis=0), 3, 4)
call("mean where", lambda x: np.mean(x, axis=1, keepdims=True, where=MASK34 | (A34 > -1)), 3, 4)
call("average by weights", lambda x: np.average(x, axis=1, weights=[1.0, 2.0, 3.0, 4.0]), 3, 4)
call("average by itself", lambda x: np.average(A34, weights=x), 3, 4, interval=POSITIVE)
call("var", lambda x: np.var(x, axis=0, ddof=1), 3, 4)
call("std", lambda x: x.std(axis=1, keepdims=True), 3, 4)
call("cov", np.cov, 3, 5)
call("cov by weights", lambda x: np.cov(x, rowvar=False, aweights=[1.0, 2.0, 3.0]), 3, 2)
call("corrcoef", np.corrcoef, 3, 5)
call("nansum", lambda x: np.nansum(np.where(MASK34, x, np.nan), axis=0), 3, 4)
call("nanmean", lambda x: np.nanmean(np.where(A34 > -0.9, x, np.nan), axis=1), 3, 4)
call("nanvar", lambda x: np.nanvar(np.where(A34 > -0.9, x, np.nan)), 3, 4)
call("bincount", lambda x: np.bincount(PLACES, weights=x, minlength=5), 4)

# products
call("prod", np.prod, 3, 4)
call("prod along axes", lambda x: np.prod(x, axis=(0, 2), keepdims=True), 2, 3, 2)
call("prod with a zero", lambda x: np.prod(x * [0.0, 1.0, 2.0, 3.0], axis=1), 3, 4)
call("prod with two zeros", lambda x: np.prod(x * [0.0, 1.0, 0.0, 3.0], axis=1), 3, 4)
call("multiply.reduce", np.multiply.reduce, 3, 4)
call("cumprod", lambda x: np.cumprod(x, axis=1), 3, 5)
call("cumprod with zeros", lambda x: np.cumprod(x * [1.0, 0.0, 2.0, 0.0, 3.0], axis=-1), 2, 5)
call("cumulative_prod", lambda x: np.cumulative_prod(x, include_initial=True), 5)

# extremes and order
call("max", np.max, 3, 4)
call("max along an axis", lambda x: np.max(x, axis=1, keepdims=True), 3, 4)
call("min along axes", lambda x: x.min(axis=(0, 1)), 2, 3, 4)
call("max with an initial", lambda x: np.max(x, axis=0, initial=0.2, where=MASK34), 3, 4)
call("ptp", lambda x: np.ptp(x, axis=0), 3, 4)
call("maximum.reduce", np.maximum.reduce, 3, 4)
call("maximum.accumulate", lambda x: np.maximum.accumulate(x, axis=1), 3, 4)
call("nanmax", lambda x: np.nanmax(np.where(A34 > -0.9, x, np.nan), axis=1), 3, 4)
call("logaddexp.reduce", lambda x: np.logaddexp.reduce(x, axis=1), 3, 4)
call("sort", np.sort, 3, 4)
call("sort flat", lambda x: np.sort(x, axis=None), 3, 4)
call("partition", lambda x: np.partition(x, 2, axis=1)[:, 2], 3, 4)
call("median", np.median, 3, 4)
call("median along an axis", lambda x: np.median(x, axis=1, keepdims=True), 3, 5)
call("quantile", lambda x: np.quantile(x, [0.1, 0.77], axis=0), 5, 4)
call("percentile", lambda x: np.percentile(x, 30.0), 3, 4)
call("unique", np.unique, 3, 4)
call("unique along an axis", lambda x: np.unique(np.concatenate([x, x[::-1]]), axis=0), 3, 2)

# differences and tables
call("diff", np.diff, 3, 4)
call("diff twice, prepended", lambda x: np.diff(x, n=2, axis=0, prepend=1.0, append=x[:1]), 3, 4)
call("ediff1d", lambda x: np.ediff1d(x, to_end=A3), 3, 4)
call("gradient", lambda x: np.gradient(x, axis=1), 3, 5)
call("gradient, uneven, second order", lambda x: np.gradient(x, [0.0, 0.3, 1.0, 1.2, 2.0], edge_order=2), 5)
call("gradient of both axes", lambda x: np.gradient(x, 0.5, 2.0)[0] * np.gradient(x)[1], 3, 4)
call("trapezoid", lambda x: np.trapezoid(x, dx=0.3, axis=0), 3, 4)
call("trapezoid by abscissas", lambda x: np.trapezoid(np.sin(x), x), 6)
call("interp of values", lambda x: np.interp([-1.0, 0.2, 1.7, 9.0], [0.0, 1.0, 3.0, 4.0], x), 4)
call("interp of places", lambda x: np.interp(x, [-2.0, -0.1, 0.4, 3.0], A4), 5)
call("linspace", lambda x: np.linspace(x[0], x[1], 5), 2, 3)
call("unwrap", lambda x: np.unwrap(5 * x), 5)
call("apply_along_axis", lambda x: np.apply_along_axis(lambda v: np.outer(v, v), 1, x), 3, 2)

# products of arrays
call("matmul", lambda x: np.matmul(x, A43), 3, 4)
call("matmul from the left", lambda x: A34 @ x, 4, 2)
call("matmul of a vector", lambda x: A234 @ x, 4)
call("vector times matrices", lambda x: x @ A234, 3)
call("matmul of itself", lambda x: x @ np.swapaxes(x, -1, -2), 2, 3, 4)
call("matmul along axes", lambda x: np.matmul(x, A34, axes=[(1, 0), (0, 1), (1, 0)]), 3, 2)
call("matmul along axes of a vector", lambda x: np.matmul(A234, x, axes=[(2, 1), (0,), (0,)]), 3)
call("matmul, broadcast", lambda x: x @ A43, 2, 3, 4)
call("dot of vectors", lambda x: np.dot(x, A4), 4)
call("dot with a number", lambda x: np.dot(x, 3.0), 4)
call("dot of stacks", lambda x: np.dot(x, np.swapaxes(A234, 1, 2)), 3, 4)
call("x.dot", lambda x: x.dot(A43), 3, 4)
call("inner", lambda x: np.inner(x, A234), 3, 4)
call("outer", lambda x: np.outer(x, x), 3)
call("vdot", lambda x: np.vdot(x, A34 * x), 3, 4)
call("vecdot", lambda x: np.vecdot(x, A34 * x), 3, 4)
call("matvec, vecmat", lambda x: np.matvec(x, A4) + np.vecmat(A4, x.T), 3, 4)
call("tensordot", lambda x: np.tensordot(x, A234, axes=([1, 0], [2, 1])), 3, 4)
call("tensordot of one axis", lambda x: np.tensordot(x, A43, 1), 2, 3, 4)
call("kron", lambda x: np.kron(x, A34), 2, 2)
call("kron of unequal ranks", lambda x: np.kron(A3, x), 2, 2)
call("cross", lambda x: np.cross(x, A43), 4, 3)
call("cross along axes", lambda x: np.cross(x, A34, axis=0), 3, 4)
call("trace", lambda x: np.trace(x, 1), 3, 4)
call("linalg.trace", np.linalg.trace, 2, 3, 3)
call("multi_dot", lambda x: np.linalg.multi_dot([A4, x.T, x, A4]), 3, 4)
call("vector_norm", lambda x: np.linalg.vector_norm(x, axis=1), 3, 4)
call("vector_norm of order 3", lambda x: np.linalg.vector_norm(x, ord=3), 3, 4)
call("einsum, product", lambda x: np.einsum("ij,jk", x, A43), 3, 4)
call("einsum, trace", lambda x: np.einsum("...ii", x), 2, 3, 3)
call("einsum, diagonal", lambda x: np.einsum("ii->i", x), 3, 3)
call("einsum, three factors", lambda x: np.einsum("ij,ik,kl->jl", x, x, x.T[:3], optimize=True), 3, 3)
call("einsum, ellipsis", lambda x: np.einsum("...ij,kj->k...i", x, A34), 2, 3, 4)
call("einsum, lists", lambda x: np.einsum(x, [0, 1], A43, [1, 2], [2, 0]), 3, 4)
call("convolve", lambda x: np.convolve(x, A3), 5)
call("convolve, same", lambda x: np.convolve(x, x[:2], "same"), 5)
call("convolve, valid", lambda x: np.convolve(A3, x, "valid"), 5)
call("correlate", lambda x: np.correlate(x, A3, "full"), 5)
call("correlate, same", lambda x: np.correlate(A4, x, "same"), 5)
call("vander", lambda x: np.vander(x, 4), 3)
call("polyval", lambda x: np.polyval(x, [0.5, -1.0, 2.0]), 4)
call("multiply.outer", lambda x: np.multiply.outer(x, A34), 2)

# Fourier transforms
call("fft", lambda x: np.fft.fft(x, axis=0), 3, 4)
call("fft, filled up", lambda x: np.abs(np.fft.fft(x, 6, norm="ortho")), 3, 4)
call("ifft, cut off", lambda x: np.fft.ifft(x * (1 + 2j), 3), 3, 4)
call("fft2 and back", lambda x: np.real(np.fft.ifft2(np.fft.fft2(x) * A34)), 3, 4)
call("fftn, ifftn", lambda x: np.fft.ifftn(np.fft.fftn(x, axes=(0, 2)) * A234, norm="forward"), 2, 3, 4)
call("rfft", lambda x: np.fft.rfft(x), 3, 5)
call("irfft", lambda x: np.fft.irfft(x * (1 + 1j)), 3, 4)
call("irfft of odd length", lambda x: np.fft.irfft(x * (2 - 1j), 7, axis=0), 4, 3)
call("rfft2, irfft2", lambda x: np.fft.irfft2(np.fft.rfft2(x) ** 2, (3, 4)), 3, 4)
call("circular convolution", lambda x: np.fft.irfft(np.fft.rfft(x) * np.fft.rfft(x[::-1] ** 2), 5), 5)

# copies, kinds, rounding
call("copy", lambda x: np.copy(x) * x.copy(), 3, 4)
call("x.astype", lambda x: np.imag(x.astype(np.complex128) * 1j) * x.astype(int), 3, 4)
call("ones_like, full_like", lambda x: np.ones_like(x) * x + np.full_like(x, 3.0), 3, 4)
call("full_like of a traced number", lambda x: np.full_like(x, x[0, 0]), 3, 4)
call("round", lambda x: x * np.round(x, 1), 3, 4)
call("modf", lambda x: np.modf(3 * x)[0], 3, 4)
call("divmod", lambda x: divmod(x, 0.7)[1] + np.divmod(x, 0.7)[0], 3, 4)
call("ldexp", lambda x: np.ldexp(x, 3), 3, 4)
call("real of complex", lambda x: np.real(x * (1 + 2j)) + np.imag(np.conj(x * 1j)), 3, 4)
call("modulus of complex", lambda x: np.abs(x + 1j * x[::-1]), 4)
call("angle", lambda x: np.angle(x + 1j * x[::-1] ** 2), 4)


# ---------------------------------------------------------------------------------------------------------------------
# Small programs


def composed(name: str, *shape: int, **known: Any) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    def add(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
        COMPOSED.append(Function(name, f, shape, **known))
        return f

    return add


W1, W2, b1 = _rng.standard_normal((4, 6)) / 2, _rng.standard_normal((6, 3)) / 2, _rng.standard_normal(6)
INPUTS, TARGETS = _rng.standard_normal((5, 4)), np.eye(3)[[0, 2, 1, 1, 0]]
SPD = A43 @ A34 + 4 * np.eye(4)


def softmax(z: Any) -> Any:
    e = np.exp(z - np.max(z, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def logsumexp(z: Any) -> Any:
    top = np.max(z, axis=-1, keepdims=True)
    return np.squeeze(top, -1) + np.log(np.sum(np.exp(z - top), axis=-1))


# losses and layers
composed("softmax", 3, 4)(softmax)
composed("logsumexp", 3, 4)(logsumexp)
composed("sum of logsumexp", 3, 4, scalar=True)(lambda x: np.sum(logsumexp(x)))
composed("Rosenbrock", 5, scalar=True)(lambda x: np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))
composed("Himmelblau", 2, scalar=True)(lambda x: (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2)
composed("Rastrigin", 4, scalar=True)(lambda x: 10 * len(x) + np.sum(x**2 - 10 * np.cos(2 * np.pi * x)))
composed("Ackley", 3, scalar=True)(
    lambda x: -20 * np.exp(-0.2 * np.sqrt(np.mean(x**2))) - np.exp(np.mean(np.cos(2 * np.pi * x)))
)
composed("cross-entropy of a linear layer", 4, 3, scalar=True)(
    lambda W: -np.mean(np.sum(TARGETS * np.log(softmax(INPUTS @ W)), axis=1))
)
composed("hinge loss", 4, scalar=True)(lambda w: np.sum(np.maximum(0, 1 - (INPUTS @ w) * [1, -1, 1, 1, -1])))
composed("Huber loss", 4, scalar=True)(
    lambda w: np.sum(np.where(np.abs(INPUTS @ w) < 1, (INPUTS @ w) ** 2 / 2, np.abs(INPUTS @ w) - 0.5))
)
composed("ridge regression", 4, scalar=True)(lambda w: np.sum((INPUTS @ w - TARGETS[:, 0]) ** 2) + 0.1 * w @ w)
composed("network, weights of the first layer", 4, 6, scalar=True)(
    lambda W: np.sum((np.tanh(INPUTS @ W + b1) @ W2 - TARGETS) ** 2)
)
composed("network, input", 4)(lambda x: np.tanh(x @ W1 + b1) @ W2)
composed("two layers with a shared weight", 4, 4)(lambda W: np.tanh(np.tanh(INPUTS @ W) @ W.T))
composed("swish, elu, gelu", 3, 4)(
    lambda x: x / (1 + np.exp(-x)) + np.where(x > 0, x, np.expm1(np.minimum(x, 0))) + x * (1 + ds.erf(x / 2**0.5)) / 2
)
composed("layer normalisation", 3, 4)(
    lambda x: (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-3)
)
composed("attention", 3, 4)(lambda x: softmax(x @ A43 @ x[:, :3].T / 2) @ x)
composed("row normalisation", 3, 4)(lambda x: x / np.sqrt(np.sum(x * x, axis=1, keepdims=True)))
composed("cosine similarities", 3, 4)(
    lambda x: (x @ x.T) / np.outer(np.linalg.vector_norm(x, axis=1), np.linalg.vector_norm(x, axis=1))
)
composed("pairwise distances", 4, 2)(lambda x: np.sqrt(np.sum((x[:, None] - x[None]) ** 2, axis=-1) + np.eye(4)))
composed("Gaussian kernel", 4, 2, scalar=True)(
    lambda x: np.sum(np.exp(-np.sum((x[:, None] - x[None]) ** 2, axis=-1) / 2))
)
composed("max pooling", 4, 6)(lambda x: x.reshape(2, 2, 3, 2).max(axis=(1, 3)))
composed("convolutional layer", 5, 5)(
    lambda x: np.maximum(sum(A34[i, j] * x[i : i + 3, j : j + 3] for i in range(3) for j in range(3)), 0)
)
composed("cumulative returns", 6)(lambda r: np.cumprod(1 + 0.1 * np.tanh(r)) - 1)
composed("drawdown", 6)(lambda r: 1 - np.cumsum(r) / (5 + np.maximum.accumulate(np.cumsum(r))))
composed("trimmed mean", 7, scalar=True)(lambda x: np.mean(np.sort(x)[2:-2] ** 2))
composed("Gini coefficient", 5, interval=POSITIVE)(
    lambda x: np.sum((2 * np.arange(1, 6) - 6) * np.sort(x)) / (5 * np.sum(x))
)
composed("entropy", 5, interval=POSITIVE, scalar=True)(lambda x: -np.sum(x / x.sum() * np.log(x / x.sum())))
composed("geometric and harmonic means", 5, interval=POSITIVE)(lambda x: np.prod(x) ** (1 / 5) - 5 / np.sum(1 / x))
composed("correlation", 2, 6, scalar=True)(lambda x: np.corrcoef(x)[0, 1])
composed("arc length", 6, scalar=True)(lambda x: np.sum(np.hypot(np.diff(x), 0.3)))
composed("polygon area", 5, 2, scalar=True)(
    lambda p: np.sum(p[:, 0] * np.roll(p[:, 1], -1) - np.roll(p[:, 0], -1) * p[:, 1]) / 2
)
composed("triple product", 3, 3, scalar=True)(lambda x: np.dot(x[0], np.cross(x[1], x[2])))
composed("polynomial of a matrix", 3, 3)(lambda x: x @ x @ x - 2 * x @ x + np.eye(3))
composed("truncated exponential of a matrix", 3, 3)(
    lambda x: np.eye(3) + x @ (np.eye(3) + x / 2 @ (np.eye(3) + x / 3 @ (np.eye(3) + x / 4)))
)
composed("quadratic forms by einsum", 5, 3)(lambda x: np.einsum("bi,ij,bj->b", x, A34[:, :3], np.sin(x)))
composed("Tucker product", 2, 3, 4)(lambda x: np.einsum("ijk,ia,jb->abk", x, x[:, 0, :2], A34[:, :2]))
composed("discrete Laplacian", 4, 5)(
    lambda u: np.pad(u, 1)[2:, 1:-1] + np.pad(u, 1)[:-2, 1:-1] + np.pad(u, 1)[1:-1, 2:] - 3 * u
)
composed("Burgers step", 6)(lambda u: u - 0.1 * u * (np.roll(u, -1) - np.roll(u, 1)) + 0.05 * np.diff(np.pad(u, 1), 2))
composed("Lennard-Jones energy", 4, 3, scalar=True, tolerance=1e-11)(
    lambda p: np.sum(
        np.triu((np.sum((p[:, None] - p[None]) ** 2, -1) + 9 * np.eye(4)) ** -3.0, 1)
        - np.triu((np.sum((p[:, None] - p[None]) ** 2, -1) + 9 * np.eye(4)) ** -1.0, 1)
    )
)
composed("complex impedance", 3, interval=POSITIVE)(
    lambda x: np.abs(x[0] + 1j * 2 * x[1] + 1 / (1j * 2 * x[2])) * np.cos(np.angle(x[0] + 1j * x[1] * x[2]))
)
composed("Fourier transform by its matrix", 4, scalar=True)(
    lambda x: np.sum(np.abs(np.exp(-2j * np.pi * np.outer(range(4), range(4)) / 4) @ x) ** 2 * [1, 0, 2, 1])
)
composed("power spectrum", 6, scalar=True)(lambda x: np.sum(np.abs(np.fft.rfft(x * np.hanning(6))) ** 2 * [1, 0, 2, 1]))


# loops that write into arrays
@composed("recurrence written in place", 6)
def _recurrence(x: Any) -> Any:
    out = np.zeros_like(x)
    out[0] = x[0]
    for k in range(1, len(x)):
        out[k] = np.sin(out[k - 1]) + x[k] * out[k - 1]
    return out


@composed("matrix filled by elements", 4)
def _filled(x: Any) -> Any:
    K = np.empty_like(x, shape=(4, 4))
    for i in range(4):
        for j in range(4):
            K[i, j] = np.exp(-((x[i] - x[j]) ** 2)) * (1 + i)
    return K


@composed("rows overwritten", 3, 4)
def _overwritten(x: Any) -> Any:
    y = x.copy()
    y[1] = y[0] * y[2]
    y[:, 0] += y[1, 1]
    y[y > 1] *= 0.5
    return y


@composed("prefix sums through a view", 2, 5)
def _through_a_view(x: Any) -> Any:
    y = x * 1.0
    row = y[0]
    for k in range(1, 5):
        row[k] += row[k - 1]
    return y * y


@composed("forward substitution", 4, 4)
def _substitution(x: Any) -> Any:
    L = np.tril(x) + 3 * np.eye(4)
    y = np.zeros_like(x[0])
    for i in range(4):
        y[i] = (A4[i] - L[i, :i] @ y[:i]) / L[i, i]
    return y


@composed("Cholesky factor by columns", 4, 4)
def _cholesky(x: Any) -> Any:
    S = x @ x.T + 4 * np.eye(4)
    L = np.zeros_like(S)
    for j in range(4):
        L[j, j] = np.sqrt(S[j, j] - L[j, :j] @ L[j, :j])
        for i in range(j + 1, 4):
            L[i, j] = (S[i, j] - L[i, :j] @ L[j, :j]) / L[j, j]
    return L


@composed("Gram-Schmidt", 4, 3)
def _gram_schmidt(x: Any) -> Any:
    columns: list[Any] = []
    for v in x.T:
        for q in columns:
            v = v - q * (q @ v)
        columns.append(v / np.sqrt(v @ v))
    return np.stack(columns, axis=1)


@composed("power iteration", 4, 4, scalar=True)
def _power_iteration(x: Any) -> Any:
    S, v = x @ x.T, np.ones(4)
    for _ in range(8):
        v = S @ v / np.sqrt(np.sum((S @ v) ** 2))
    return v @ S @ v


@composed("Newton's square root", 5, interval=POSITIVE)
def _newton(x: Any) -> Any:
    y = np.ones_like(x)
    for _ in range(6):
        y = (y + x / y) / 2
    return y


@composed("leapfrog of a pendulum", 2)
def _pendulum(x: Any) -> Any:
    q, p = x
    path = np.empty_like(x, shape=(6, 2))
    for k in range(6):
        p = p - 0.05 * np.sin(q)
        q = q + 0.1 * p
        p = p - 0.05 * np.sin(q)
        path[k] = np.stack([q, p])
    return path


@composed("logistic map", 1, interval=(0.1, 0.9))
def _logistic(x: Any) -> Any:
    for _ in range(5):
        x = 3.2 * x * (1 - x)
    return x


@composed("recurrent network", 4, 4)
def _rnn(W: Any) -> Any:
    h = np.zeros(4)
    for x in INPUTS:
        h = np.tanh(W @ h + x)
    return h


@composed("Kalman filter", 4, interval=POSITIVE)
def _kalman(z: Any) -> Any:
    mean, variance, out = 0.0, 1.0, np.zeros_like(z)
    for k in range(4):
        gain = (variance + 0.1) / (variance + 0.1 + 0.5 * z[0])
        mean = mean + gain * (z[k] - mean)
        variance = (1 - gain) * (variance + 0.1)
        out[k] = mean
    return out


# factorisations
composed("svdvals", 3, 4)(lambda x: np.linalg.svd(x, compute_uv=False))
composed("ds.svdvals of a product", 3, 4)(lambda x: ds.svdvals(np.tanh(x) @ A43))
composed("singular values of a triangle", 3, 3)(lambda x: np.linalg.svd(x, compute_uv=False, hermitian=True))
composed("absolute value of a triangle", 3, 3)(
    lambda x: (lambda U, S, Vh: (Vh.T * S) @ Vh)(*np.linalg.svd(x, hermitian=True))
)
composed("spectral norm", 3, 4, scalar=True)(lambda x: np.linalg.norm(x, 2))
composed("ds.opnorm", 4, 3, scalar=True)(lambda x: ds.opnorm(x))
composed("spectral normalisation of a layer", 4, 3)(lambda W: np.tanh(INPUTS @ (W / ds.opnorm(W))))
composed("nuclear norm", 3, 4, scalar=True)(lambda x: np.linalg.norm(x, "nuc"))
composed("Frobenius norm", 3, 4, scalar=True)(lambda x: np.linalg.norm(x))
composed("condition number", 3, 3, scalar=True, tolerance=1e-10)(lambda x: np.linalg.cond(x + 3 * np.eye(3)))
composed("reconstruction from the SVD", 3, 4)(lambda x: (lambda U, S, Vh: (U * np.tanh(S)) @ Vh)(*ds.svd(x)))
composed("projector on the leading vectors", 4, 3)(lambda x: ds.linalg.range_projector(x, 2))
composed("low rank", 3, 4)(lambda x: ds.linalg.low_rank(x, 1))
composed("polar factor", 4, 3)(lambda x: ds.linalg.polar(x)[0])
composed("pseudoinverse", 4, 3)(lambda x: np.linalg.pinv(x))
composed("pseudoinverse of a triangle", 3, 3, tolerance=1e-11)(lambda x: np.linalg.pinv(x, hermitian=True))
composed("determinant", 3, 3, scalar=True)(lambda x: np.linalg.det(x))
composed("log-determinant", 4, 4, scalar=True)(lambda x: np.linalg.slogdet(x @ x.T + np.eye(4))[1])
composed("inverse", 3, 3, tolerance=1e-11)(lambda x: np.linalg.inv(x + 3 * np.eye(3)))
composed("linear system", 4, 4)(lambda x: np.linalg.solve(SPD + x @ x.T, A4))
composed("least squares by normal equations", 4, 3)(lambda x: np.linalg.solve(x.T @ x + np.eye(3), x.T @ A4))
composed("Cholesky factor", 4, 4)(lambda x: np.linalg.cholesky(x @ x.T + 4 * np.eye(4)))
composed("eigenvalues of a symmetric matrix", 4, 4)(lambda x: np.linalg.eigvalsh(x + x.T))
composed("function of a symmetric matrix", 3, 3)(
    lambda x: (lambda w, V: (V * np.exp(w)) @ V.T)(*np.linalg.eigh(x + x.T))
)
composed("power of a matrix", 3, 3)(lambda x: np.linalg.matrix_power(x, 3))
composed("singular values of a batch", 2, 3, 4)(lambda x: np.linalg.svd(x, compute_uv=False))
composed("low-rank loss", 3, 4, scalar=True)(lambda x: np.sum((A34 - x) ** 2) + 0.3 * np.sum(ds.svdvals(x)))
composed("Gaussian log-likelihood", 4, 4, scalar=True)(
    lambda x: -0.5 * A4 @ np.linalg.solve(x @ x.T + np.eye(4), A4) - 0.5 * np.linalg.slogdet(x @ x.T + np.eye(4))[1]
)
composed("orthogonal Procrustes", 4, 3, scalar=True)(lambda x: np.sum((A43 @ ds.linalg.polar(A34 @ x)[0] - x) ** 2))
