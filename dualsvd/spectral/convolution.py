"""The spectral norm of a convolution, as a linear map of images.

It is not the norm of the kernel reshaped to (out, in kh kw), but up to sqrt(kh kw) times as much, and never less where
some output reads through the whole kernel inside the image. Three ways to it:

    circular, the stride divides the image   the Fourier transform makes the map block diagonal: a small matrix for
                                             every frequency of the output (Sedghi, Gupta and Long, ICLR 2019)
    otherwise, small, or one side is short   the matrix of the map itself, linear in the kernel
    otherwise, large                         products with the map and its adjoint, for the top singular triplet

The first two are NumPy code around `opnorm`, and so differentiable as often as that is. For the last, with A(K) the map
and u, v its top pair, d sigma = Re u^H A(dK) v = <G, dK>: the gradient G is the correlation of u with v.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from typing import Any

import numpy as np

from .. import linalg, settings, transforms
from ..errors import (
    ConvergenceError,
    DegeneracyWarning,
    DegenerateError,
    MissingRuleError,
    NonFiniteError,
    ShapeError,
)
from ..linalg.degeneracy import SPLIT, TIE, meet_tie, spectrum, tolerance
from ..linalg.lanczos import DENSE, Leading, dense_leading, krylov
from ..linalg.operators import Array, Operator
from ..rules.levels import need_all_directions
from ..rules.registry import Operands, Rule, Tracer, as_inexact, primal
from ..settings import Options

#: entries of the largest matrix of a convolution that is formed: 32 MiB of float64
FORMED = 1 << 22
#: the same, where a second derivative leaves no other way
FORMED_TWICE = 1 << 24


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis of an image: `size` pixels, a kernel of `taps`, `outputs` = ceil(size / stride) positions."""

    size: int
    taps: int
    stride: int
    circular: bool

    @property
    def outputs(self) -> int:
        return -(-self.size // self.stride)

    @property
    def before(self) -> int:
        """Pixels of padding before the image; the rest comes after, so that stride 1 keeps the size."""
        return (self.taps - 1) // 2

    def reads(self, tap: int) -> tuple[Any, Any]:
        """Which outputs read a pixel through that tap, and which pixels: two indices of equal length."""
        outputs = np.arange(self.outputs)
        pixels = outputs * self.stride + tap - self.before
        if self.circular:
            return outputs, pixels % self.size
        inside = (pixels >= 0) & (pixels < self.size)
        return outputs[inside], pixels[inside]

    def selection(self, dtype: np.dtype[Any]) -> Array:
        """(taps, outputs, size): 1 where that output reads that pixel through that tap."""
        S = np.zeros((self.taps, self.outputs, self.size), dtype)
        for tap in range(self.taps):
            S[tap][self.reads(tap)] = 1
        return S

    def waves(self, dtype: np.dtype[Any]) -> Array:
        """(outputs, stride, taps): what a tap does to the `stride` frequencies that alias to one of the output's.

        Output i reads pixel i stride + tap - before. A wave of frequency f becomes a wave of frequency f modulo
        `outputs`, times the sum over the taps of kernel * exp(2 pi i f (tap - before) / size). Unit waves of the image
        and of its samples are normalised differently: 1/sqrt(stride).
        """
        frequency = np.arange(self.size).reshape(self.stride, self.outputs).T
        shift = np.arange(self.taps) - self.before
        turns = (frequency[..., None] * shift) % self.size / self.size  # exact for whole turns, however many
        return (np.exp(2j * np.pi * turns) / math.sqrt(self.stride)).astype(np.result_type(dtype, np.complex64))


@dataclasses.dataclass(frozen=True)
class Geometry:
    """A convolution but for the numbers in its kernel."""

    channels: tuple[int, int]  # out, in
    rows: Axis
    columns: Axis

    @property
    def image(self) -> tuple[int, int, int]:
        return self.channels[1], self.rows.size, self.columns.size

    @property
    def output(self) -> tuple[int, int, int]:
        return self.channels[0], self.rows.outputs, self.columns.outputs

    @property
    def shape(self) -> tuple[int, int]:
        return math.prod(self.output), math.prod(self.image)

    @property
    def diagonalizable(self) -> bool:
        """Whether the Fourier transform makes the map block diagonal."""
        return all(axis.circular and axis.size % axis.stride == 0 for axis in (self.rows, self.columns))

    @property
    def missing(self) -> str:
        """What it lacks to be so: the way out where its matrix is too large, or its largest values lie too close."""
        axes, lacking = (self.rows, self.columns), []
        if not all(axis.circular for axis in axes):
            lacking.append("padding='circular'")
        if any(axis.size % axis.stride for axis in axes):
            strides = " x ".join(str(axis.stride) for axis in axes)
            lacking.append(f"sides of the image that the stride, {strides}, divides")
        return " and ".join(lacking)


def conv_opnorm(
    kernel: Any, input_shape: tuple[int, ...], padding: str = "circular", stride: int | tuple[int, int] = 1
) -> Any:
    """Spectral norm of the convolution with `kernel`, the most by which it stretches an image; a real number.

    kernel       (out, in, kh, kw), applied as by torch.nn.Conv2d: y[o,i,j] = sum of K[o,c,p,q] x[c, s i + p, s j + q]
    input_shape  (height, width) of the images, or (in, height, width)
    padding      the image continues with itself ("circular") or with "zeros", (k - 1) // 2 before and the rest after
    stride       one number, or one for each axis

    Differentiable in both modes, at simple values to any order. Where several frequencies share the largest value the
    derivative is that of `opnorm` of the map's matrix: exact along one direction, in reverse the mean over all vectors
    of the tie. Where a large image (beyond 4 million entries of that matrix) is padded with zeros, the norm is found by
    products with the convolution; its gradient at a tie is then one of the legal ones, with a DegeneracyWarning.
    Where a stride divides one side of a circular image and not the other, the largest value may stand twice whatever
    the kernel, for a frequency and its conjugate: take second derivatives by `hvp` or `hessian` there, for reverse mode
    over `jvp` raises DegenerateError.

    Raises ShapeError, DTypeError, NonFiniteError, ValueError for another padding; ConvergenceError where a large
    convolution's top values are too close, MissingRuleError for its second derivative; DegenerateError at ties under
    ties="raise". Source: Sedghi, Gupta and Long, "The singular values of convolutional layers", ICLR 2019.

    >>> import numpy as np, dualsvd as ds
    >>> mean = np.full((1, 1, 3, 3), 1 / 9)
    >>> round(float(ds.spectral.conv_opnorm(mean, (8, 8))), 12)
    1.0
    """
    kernel = as_inexact(kernel, "kernel")
    geometry = parse(np.shape(kernel), input_shape, padding, stride)
    if not np.all(np.isfinite(primal(kernel))):
        if settings.get().nonfinite == "propagate":
            return np.real(np.sum(kernel)) * np.nan
        raise NonFiniteError("the kernel holds numbers that are not finite")
    if geometry.diagonalizable:
        return by_frequencies(kernel, geometry)
    if math.prod(geometry.shape) <= FORMED or min(geometry.shape) <= DENSE:
        return linalg.opnorm(matrix(kernel, geometry))
    return CONVOLUTION_NORM(kernel, cache=TopTripletCache(geometry))


def parse(shape: tuple[int, ...], input_shape: Any, padding: str, stride: Any) -> Geometry:
    """The geometry, or what is wrong with it."""
    if len(shape) != 4 or 0 in shape:
        raise ShapeError(f"kernel must have the shape (out, in, kh, kw), without a zero; got {shape}")
    size, strides = counts(input_shape), counts(stride)
    if len(size) == 3:
        if size[0] != shape[1]:
            raise ShapeError(f"the kernel takes {shape[1]} channels, but input_shape {size} has {size[0]}")
        size = size[1:]
    if len(size) != 2:
        raise ShapeError(f"input_shape must be (height, width) or (in, height, width), got {input_shape}")
    if len(strides) == 1:
        strides *= 2
    if len(strides) != 2:
        raise ShapeError(f"stride must be a positive integer, or two; got {stride}")
    if padding not in ("circular", "zeros"):
        raise ValueError(f'padding must be "circular" or "zeros", got {padding!r}')
    rows, columns = (Axis(n, taps, s, padding == "circular") for n, taps, s in zip(size, shape[2:], strides))
    return Geometry((shape[0], shape[1]), rows, columns)


def counts(x: Any) -> tuple[int, ...]:
    """The positive integers in x, a number or a sequence; none if it holds anything else."""
    try:
        numbers = np.atleast_1d(np.asarray(x, dtype=float))
    except (TypeError, ValueError):
        return ()
    whole = numbers.ndim == 1 and np.all((numbers >= 1) & (numbers < 2**31) & (numbers == np.floor(numbers)))
    return tuple(int(n) for n in numbers) if whole else ()


# ---------------------------------------------------------------------------------------------------------------------
# By frequencies


def by_frequencies(kernel: Any, geometry: Geometry) -> Any:
    """The largest of the norms of the blocks; only those that attain it are differentiated."""
    plain, options = primal(kernel), settings.get()
    real = not np.iscomplexobj(plain)
    rows, columns = (axis.waves(plain.dtype) for axis in (geometry.rows, geometry.columns))
    some = columns[: len(columns) // 2 + 1] if real else columns  # opposite frequencies have conjugate blocks
    norms = np.stack([linalg.opnorm(blocks(plain, rows[k : k + 1], some)) for k in range(len(rows))])
    if not isinstance(kernel, Tracer):
        return norms.max()
    i, j = _attaining(norms, geometry, real)
    tied = linalg.opnorm(blocks(kernel, rows[i], columns[j], paired=True))
    if len(i) == 1:
        return tied[0]
    S = linalg.svdvals(blocks(plain, rows[i], columns[j], paired=True))
    copies = np.sum(spectrum(S, options).group == 0, axis=-1) * _copies(i, j, geometry, real)
    return LARGEST_OF_EQUALS(tied, kernel, weights=(copies / copies.sum()).astype(S.dtype), options=options)


def _attaining(norms: Array, geometry: Geometry, real: bool) -> tuple[Array, Array]:
    """The frequencies whose blocks have the largest norm; of two opposite ones of a real kernel the first."""
    noise = tolerance(TIE, min(geometry.channels), norms.dtype) * norms.max()
    i, j = np.nonzero(norms >= norms.max() - noise)
    if real:
        opposite_i, opposite_j = _opposite(i, j, geometry)
        first = (opposite_j != j) | (i <= opposite_i)
        i, j = i[first], j[first]
    return i, j


def _copies(i: Array, j: Array, geometry: Geometry, real: bool) -> Array:
    """How many frequencies each of these stands for: two where it is one of a pair that a real kernel has."""
    opposite_i, opposite_j = _opposite(i, j, geometry)
    return np.where(real & ((opposite_i != i) | (opposite_j != j)), 2, 1)


def _opposite(i: Array, j: Array, geometry: Geometry) -> tuple[Array, Array]:
    return -i % geometry.rows.outputs, -j % geometry.columns.outputs


def blocks(kernel: Any, rows: Array, columns: Array, paired: bool = False) -> Any:
    """The blocks (out, stride^2 in) of the map at frequencies of the output: all pairs, or the k-th with the k-th."""
    at = "kbq" if paired else "lbq"
    B = np.einsum(f"ocpq,kap,{at}->{'k' if paired else 'kl'}oabc", kernel, rows, columns, optimize=True)
    return np.reshape(B, (-1, np.shape(kernel)[0], rows.shape[1] * columns.shape[1] * np.shape(kernel)[1]))


def _push_largest(y: Any, operands: Operands, tangents: Operands, weights: Array, options: Options) -> Any:
    """The tangent of the value that grows fastest along the first direction; among equals, along the next, and so on.

    The kernel is there to tell the size of a direction, and so that of rounding: its slopes may all be zero.
    """
    dx, d_kernel = tangents
    meet_equals(primal(y), len(weights), options)
    need_all_directions(dx)
    leading = np.arange(len(weights))
    for slopes, direction in zip(primal(dx), primal(d_kernel)):
        noise = tolerance(SPLIT, 1, slopes.dtype) * np.abs(direction).sum()
        leading = leading[slopes[leading] >= slopes[leading].max() - noise]
    return dx[:, leading[0]]


def _pull_largest(y_bar: Any, y: Any, operands: Operands, weights: Array, options: Options) -> tuple[Any, None]:
    meet_equals(primal(y), len(weights), options)
    return y_bar * weights, None


def meet_equals(value: Any, times: int, options: Options) -> None:
    """What `ties` asks for where the largest value is there so many times, or zero."""
    S = np.full(times, value)
    meet_tie(S, spectrum(S, options), options)


def _equal_examples(rng: np.random.Generator) -> Any:
    for dtype in ("d", "f"):  # of one, where there is a derivative
        yield (
            (rng.uniform(1, 2, 1).astype(dtype), np.ones(3, dtype)),
            {"weights": np.ones(1, dtype), "options": settings.get()},
        )


LARGEST_OF_EQUALS = Rule(
    "largest_of_equals", lambda x, kernel, weights, options: x.max(), _push_largest, _pull_largest, _equal_examples
)


# ---------------------------------------------------------------------------------------------------------------------
# By the matrix of the map, and by products with it


def matrix(kernel: Any, geometry: Geometry) -> Any:
    """The matrix of the map, from images to outputs, both flattened."""
    dtype = primal(kernel).real.dtype
    rows, columns = geometry.rows.selection(dtype), geometry.columns.selection(dtype)
    A = np.einsum("ocpq,piy,qjx->oijcyx", kernel, rows, columns, optimize=True)
    return np.reshape(A, geometry.shape)


class ConvolutionOperator:
    """The convolution with a kernel as an operator on flattened images, or its adjoint; blocks of them are columns.

    Both gather: for every place of the target and every tap, `places` has the place of the source that meets it there,
    or, where there is none, the place after the last, which holds a zero. One product with the kernel does the rest.
    """

    def __init__(self, kernel: Array, geometry: Geometry, adjoint: bool = False) -> None:
        self.kernel, self.geometry, self.transposed = kernel, geometry, adjoint
        self.dtype = kernel.dtype
        self.shape = geometry.shape[::-1] if adjoint else geometry.shape
        self.places = places(geometry, adjoint)
        K = np.conj(kernel.swapaxes(0, 1)) if adjoint else kernel
        self.weights = K.reshape(len(K), -1)

    @property
    def H(self) -> ConvolutionOperator:
        return ConvolutionOperator(self.kernel, self.geometry, not self.transposed)

    def matmat(self, X: Array) -> Array:
        return self @ X

    def __matmul__(self, X: Array) -> Array:
        source = self.geometry.output if self.transposed else self.geometry.image
        met = gather(X.T.reshape(-1, *source), self.places)
        return (self.weights @ met.reshape(len(met), self.weights.shape[1], -1)).reshape(len(met), -1).T


@functools.lru_cache(maxsize=16)
def places(geometry: Geometry, adjoint: bool = False) -> Array:
    """(taps, places of the target): the pixel that an output reads through a tap; adjoint: the output that reads it."""
    rows, columns = geometry.rows, geometry.columns
    source, target = (rows.size, columns.size), (rows.outputs, columns.outputs)
    if adjoint:
        source, target = target, source
    table = np.full((rows.taps, columns.taps, *target), source[0] * source[1], dtype=np.intp)
    for p in range(rows.taps):
        for q in range(columns.taps):
            (i, y), (j, x) = rows.reads(p), columns.reads(q)
            if adjoint:
                i, y, j, x = y, i, x, j
            table[p, q, i[:, None], j] = y[:, None] * source[1] + x
    return table.reshape(rows.taps * columns.taps, -1)


def gather(images: Array, places: Array) -> Array:
    """(..., taps, targets) of images (..., height, width), zero where a place lies outside."""
    flat = images.reshape(*images.shape[:-2], -1)
    return np.concatenate([flat, np.zeros_like(flat[..., :1])], axis=-1)[..., places]


def correlation(u: Array, v: Array, geometry: Geometry) -> Array:
    """G (out, in, kh, kw) with Re u^H A(K) v = Re <G, K> for all K."""
    read = gather(v.reshape(geometry.image), places(geometry))
    G = np.tensordot(u.reshape(geometry.channels[0], -1), np.conj(read), axes=(1, 2))
    return G.reshape(*geometry.channels, geometry.rows.taps, geometry.columns.taps)


class TopTripletCache:
    """The top triplet of the convolution with the kernel it saw last: the value and both derivatives need the same."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.last: tuple[Array, Leading] | None = None

    def solve(self, kernel: Array) -> Leading:
        """The top triplet, in double precision: in single one could not tell a crowd of large values from a tie."""
        if self.last is not None and self.last[0] is kernel:
            return self.last[1]
        operator = Operator(ConvolutionOperator(kernel.astype(np.result_type(kernel, np.float64)), self.geometry))
        found = krylov(operator) if min(operator.shape) > DENSE else dense_leading(operator)
        if not isinstance(found, Leading):
            raise ConvergenceError(
                f"the norm of the convolution was not resolved in {found.steps} steps: it is at least "
                f"{found.sigma:.6g}, and its largest values lie too close. Take {self.geometry.missing}"
            )
        self.last = kernel, found
        return found


def gradient(kernel: Any, cache: TopTripletCache) -> Any:
    """G of the kernel. Where that is to be differentiated again, u and v move too: by way of the matrix."""
    if isinstance(kernel, Tracer):
        return gradient_by_matrix(kernel, cache.geometry)
    sigma, u, v, residual, second, _ = cache.solve(kernel)
    if sigma == 0:
        meet_equals(0.0, 1, settings.get())
        return np.zeros_like(kernel)
    if sigma - second <= max(tolerance(TIE, min(cache.geometry.shape), u.dtype) * sigma, residual):
        message = f"the largest singular value {sigma:.6g} of the convolution is repeated"
        if settings.get().ties == "raise":
            raise DegenerateError(f"{message}; allow one of several legal gradients with ties='warn'")
        warnings.warn(f"{message}: its gradient is one of several", DegeneracyWarning, stacklevel=2)
    return correlation(u, v, cache.geometry).astype(kernel.dtype)


def gradient_by_matrix(kernel: Any, geometry: Geometry) -> Any:
    """G of the kernel from the matrix of the map, as an expression that can be differentiated."""
    rows, columns = geometry.shape
    if rows * columns > FORMED_TWICE:
        raise MissingRuleError(
            f"second derivatives of conv_opnorm need the matrix of the convolution, here {rows} x {columns}; it is "
            f"formed up to {FORMED_TWICE} entries. Take a smaller image, or {geometry.missing}"
        )
    return transforms.gradient(lambda K: linalg.opnorm(matrix(K, geometry)), kernel, mode="reverse")


def _push_norm(y: Any, operands: Operands, tangents: Operands, cache: TopTripletCache) -> Any:
    G = gradient(operands[0], cache)
    if primal(y) == 0:  # the slope is the norm of the direction: of several that of the first, along which the rest go
        need_all_directions(tangents[0])
        first = next((D for D in tangents[0] if cache.solve(primal(D)).sigma > 0), None)
        G = G if first is None else gradient(first, cache)
    return np.sum(np.real(np.conj(G) * tangents[0]), axis=(-4, -3, -2, -1))


def _pull_norm(y_bar: Any, y: Any, operands: Operands, cache: TopTripletCache) -> tuple[Any]:
    return (y_bar * gradient(operands[0], cache),)


def _norm_examples(rng: np.random.Generator) -> Any:
    cases = (((3, 2, 3, 3), 1, "d"), ((2, 3, 3, 4), 2, "d"), ((2, 2, 3, 3), 1, "D"), ((1, 2, 3, 3), 2, "f"))
    for shape, stride, kind in cases:
        kernel = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if kind == "D" else 0)
        yield (kernel.astype(kind),), {"cache": TopTripletCache(parse(shape, (5, 6), "zeros", stride))}


CONVOLUTION_NORM = Rule(
    "conv_opnorm",
    lambda kernel, cache: np.asarray(cache.solve(kernel).sigma, dtype=kernel.real.dtype),
    _push_norm,
    _pull_norm,
    _norm_examples,
)
