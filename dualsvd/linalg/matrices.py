"""Small operations on (stacks of) matrices that the rules share; they take traced arrays too."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..rules.products import adjoint as adjoint
from ..rules.registry import Tracer, as_inexact, primal


def as_matrix(a: Any, name: str = "a") -> Any:
    """A matrix or a stack of matrices of floating-point numbers, traced or not."""
    a = as_inexact(a, name)
    if a.ndim < 2:
        raise ShapeError(
            f"{name} must be a matrix or a stack of matrices (at least 2 axes), got shape {a.shape}; "
            f"for a single column take {name}[:, None]"
        )
    return a


def as_square(a: Any, name: str = "a") -> Any:
    """A square matrix or a stack of square matrices."""
    a = as_matrix(a, name)
    m, n = np.shape(a)[-2:]
    if m != n:
        raise ShapeError(f"{name} must be square in its last two axes, got shape {np.shape(a)}")
    return a


def is_plain(*operands: Any) -> bool:
    """Whether none of these is traced: plain arrays, below every level."""
    return not any(isinstance(x, Tracer) for x in operands)


def on_tape(x: Any) -> bool:
    """Whether some level of reverse mode traces x."""
    while isinstance(x, Tracer):
        if hasattr(x, "tape"):
            return True
        x = x.value
    return False


def hermitian_part(a: Any) -> Any:
    """(A + A^H) / 2, halved first: the sum may leave the range of the numbers."""
    half = a * 0.5
    return half + adjoint(half)


def from_triangle(a: Any, UPLO: str = "L") -> Any:
    """The Hermitian matrix that NumPy reads from one triangle of a: what differentiates as NumPy computes."""
    if UPLO.upper() not in ("L", "U"):
        raise ValueError(f"UPLO must be 'L' or 'U', got {UPLO!r}")
    a = as_square(a)
    strict = np.tril(a, -1) if UPLO.upper() == "L" else np.triu(a, 1)
    return strict + adjoint(strict) + np.real(a) * np.eye(np.shape(a)[-1], dtype=primal(a).real.dtype)


def inner(X: Any, Y: Any) -> Any:
    """Re tr(X^H Y)."""
    return np.real(np.sum(np.conj(X) * Y, axis=(-2, -1)))


def flat(x: Any, batch: tuple[int, ...], axes: int, leading: int = 0) -> Any:
    """Plain x with one batch axis before its last `axes`, behind `leading` others; None stays None."""
    if x is None:
        return None
    given = x.shape[leading : x.ndim - axes]
    if given == batch and len(batch) == 1:
        return x
    own = x.shape[x.ndim - axes :]
    if given != batch:
        x = np.broadcast_to(x, (*x.shape[:leading], *batch, *own))
    return x.reshape(*x.shape[:leading], math.prod(batch), *own)


def diagonal(x: Any) -> Any:
    """The diagonal of the last two axes."""
    return np.diagonal(x, axis1=-2, axis2=-1)


def with_diagonal(G: Any, d: Any) -> Any:
    """G + diag(d), in place of G where both are plain."""
    if not is_plain(G, d):
        return G + d[..., None, :] * np.eye(np.shape(d)[-1], dtype=primal(d).dtype)
    np.einsum("...ii->...i", G)[...] += d
    return G


def dyads(U: Any, weights: Any, Vh: Any) -> Any:
    """sum_i weights_i u_i v_i^H."""
    return (U * weights[..., None, :]) @ Vh


def with_complement(Q: Any) -> Any:
    """Q (..., m, r) with orthonormal columns, completed to a square unitary matrix."""
    rest = np.linalg.qr(Q, mode="complete")[0][..., :, Q.shape[-1] :]
    return np.concatenate([Q, rest], axis=-1)


def matrix_examples(rng: np.random.Generator) -> Iterator[Any]:
    """Matrices of every shape and type that the rules of this package take, well separated in their singular values."""
    for shape in ((3, 3), (5, 3), (3, 5), (1, 4), (4, 1), (2, 3, 2), (2, 1, 2, 2)):
        yield rng.standard_normal(shape)
    for shape in ((3, 3), (4, 2), (2, 4), (2, 2, 3)):
        yield rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    yield rng.standard_normal((3, 2)).astype(np.float32)
    yield (rng.standard_normal((2, 3)) + 1j * rng.standard_normal((2, 3))).astype(np.complex64)


def operand_examples(rng: np.random.Generator) -> Iterator[Any]:
    for a in matrix_examples(rng):
        yield (a,), {}
