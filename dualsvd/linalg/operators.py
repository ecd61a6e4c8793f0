"""What the Krylov process multiplies by: an array or an operator, brought to range by a power of two."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import DTypeError, MissingRuleError, NonFiniteError, ShapeError
from ..rules.registry import Tracer
from ..settings import get
from .degeneracy import scaled
from .kernel_calls import threads

Array = np.ndarray[Any, np.dtype[Any]]

#: seed of the random vectors: results are reproducible
SEED = 20201117
#: bytes of A multiplied at a time: what stays in the second-level cache between the products with A and with A^H
SLAB = 1 << 19
#: arrays of so many entries meet two vectors at a time in a kernel that reads them once, in half of BLAS's time; for
#: larger ones all the cores that BLAS may use, if there are several, are faster than one
BY_KERNEL = range(1 << 16, (1 << 20) + 1)
#: exponents of max |A| that need no scaling: the squares in the length of M v are fourth powers, and stay in range
UNSCALED = {np.dtype(np.float64): 100, np.dtype(np.float32): 8}


class Operator:
    """A matrix as the process sees it: products with blocks of vectors, scaled by a power of two where need be.

    Vectors are the rows of a block. `shape` is that of A; the basis is made of vectors of the shorter side, so the
    process multiplies by M = A^H A, or by A A^H where A is wide. An array in single precision is multiplied in double:
    `given` is its own type, `dtype` that of the work.

    An array is kept as X, which is A, or A^T where A is wide: the vectors of A^T are those of A, conjugated.
    """

    def __init__(self, A: Any) -> None:
        if isinstance(A, Tracer):
            raise MissingRuleError(
                "top_singular_triplet gives numbers without derivatives; differentiate dualsvd.opnorm instead, which "
                "uses it for large matrices"
            )
        if isinstance(A, (list, tuple, np.ndarray)):
            A = np.asarray(A)
        shape = getattr(A, "shape", None)
        if shape is None or len(shape) != 2 or not hasattr(A, "__matmul__"):
            raise ShapeError(
                f"expected a matrix: an array with two axes, or an operator with shape (m, n) and @; got "
                f"{type(A).__name__} of shape {shape}"
            )
        if 0 in shape:
            raise ShapeError(f"a matrix of shape {tuple(shape)} has no singular values")
        self.shape = (int(shape[0]), int(shape[1]))
        self.exponent = 0  # the process sees 2^-exponent A
        self.X: Array | None = None
        self.by_two: Any = None  # kernels, if they are loaded
        self.backwards = True  # how these read X the last time
        if isinstance(A, np.ndarray):
            self.X = self._prepared(A.T if self.wide else A)
            self.dtype = self.X.dtype
        else:
            self.operand = A
            self.dtype = self.given = self._probe(A)
        self.eps = float(np.finfo(self.dtype).eps)

    def _prepared(self, X: Array) -> Array:
        """X in double precision, without gaps between its numbers, and in range."""
        if X.dtype.kind not in "iub" and X.dtype.char not in "fdFD":
            raise DTypeError(f"expected float32, float64, complex64 or complex128 numbers, got {X.dtype}")
        self.given = X.dtype if X.dtype.kind in "fc" else np.dtype(np.float64)
        X = np.asarray(X, dtype=np.result_type(X.dtype, np.float64))
        if not (X.flags.c_contiguous or X.flags.f_contiguous):
            X = np.ascontiguousarray(X)
        flat = X.ravel(order="K")
        square = float(np.vdot(flat, flat).real)  # the fastest pass there is; most matrices need no more
        if 4.0 ** -UNSCALED[np.dtype(np.float64)] < square < 4.0 ** UNSCALED[np.dtype(np.float64)]:
            return X
        parts = flat.view(np.float64)
        peak = float(max(-parts.min(), parts.max()))
        if not math.isfinite(peak):
            raise NonFiniteError(f"the matrix holds {X.size - int(np.isfinite(X).sum())} numbers that are not finite")
        self.exponent = math.frexp(peak)[1]
        return scaled(X, -self.exponent)

    def _probe(self, A: Any) -> np.dtype[Any]:
        """dtype and scale of an operator, from its product with one vector of each side that no pattern is tuned to."""
        n = self.shape[1]
        known = _dtype_of(A)
        real = np.dtype(known.char.lower()) if known is not None and known.char in "fdFD" else float
        y = np.asarray(apply(A, np.random.default_rng(SEED + 1).standard_normal((1, n)).astype(real)))
        dtype = np.result_type(y.dtype, known if known is not None else y.dtype)
        if dtype.kind in "iub":
            dtype = np.dtype(np.float64)
        if dtype.char not in "fdFD":
            raise DTypeError(f"expected an operator on float32, float64 or complex numbers, its products are {dtype}")
        peak = float(np.abs(y).max())
        if not math.isfinite(peak):
            raise NonFiniteError("the operator's product with a vector is not finite")
        exponent = math.frexp(peak)[1]
        if abs(exponent) > UNSCALED[np.dtype(dtype.char.lower())] // 2:
            self.exponent = exponent
        return dtype

    @property
    def rounding(self) -> float:
        """What rounding in the products may do to sigma, relative: errors of eps add up like a random walk."""
        return self.eps * math.sqrt(sum(self.shape))

    @property
    def underflow(self) -> float:
        """What sigma may lose where products of an operator, which is not scaled itself, fall below the normal range:
        up to the smallest number in each. An array is scaled first; 0."""
        if self.X is not None:
            return 0.0
        m, n = self.shape
        return math.sqrt(max(m, n)) * min(m, n) * float(np.finfo(self.dtype).smallest_subnormal)

    def error(self, sigma: float, relative: float) -> float:
        """What sigma may be off by where its relative error is bounded: no less than its last digit."""
        return max(relative * sigma, math.ulp(sigma)) + self.underflow

    @property
    def wide(self) -> bool:
        return self.shape[0] < self.shape[1]

    def load_kernels(self) -> None:
        """Have two vectors at a time multiplied by compiled kernels, where these are the better way."""
        X = self.X
        if X is None or X.dtype != np.float64 or X.size < BY_KERNEL.start:
            return
        if X.size >= BY_KERNEL.stop and threads(get()) > 1:
            return
        from ..kernels import memory_bound  # brings in Numba

        if memory_bound.compiles():
            self.X, self.by_two = np.ascontiguousarray(X), memory_bound

    def gram(self, V: Array) -> Array:
        """M v for every row v of V.

        An array is read once: each slab of it serves all products from the cache. One product with a vector after the
        other: BLAS runs those as fast as it can read, and products with a few vectors at once several times slower.
        """
        by_two, X = self.by_two, self.X
        if X is None:
            forward, backward = (self.backward, self.forward) if self.wide else (self.forward, self.backward)
            return backward(forward(V))
        if by_two and len(V) == 2:
            self.backwards = not self.backwards
            return by_two.gram_of_two(X, V, self.backwards)
        height = max(1, SLAB // (X.shape[1] * X.itemsize))
        W, part = np.zeros_like(V), np.empty_like(V[0])
        times: Any = np.ndarray.dot if X.flags.c_contiguous else np.matmul  # quicker to call, but copies what has gaps
        pairs = list(zip(V, W))
        for i in range(0, len(X), height):
            rows = X[i : i + height]
            for v, w in pairs:
                w += times(conj(times(rows, v)), rows, out=part)
        return conj(W)

    def image(self, x: Array) -> Array:
        """X x, of an array."""
        return self._array() @ x

    def back(self, y: Array) -> Array:
        """X^H y, of an array."""
        return conj(conj(y) @ self._array())

    def _array(self) -> Array:
        assert self.X is not None
        return self.X

    def forward(self, V: Array) -> Array:
        """A v for every row v of V, by an operator."""
        return self._shifted(apply(self.operand, V))

    def backward(self, U: Array) -> Array:
        """A^H u for every row u of U, by an operator."""
        try:
            return self._shifted(apply(adjoint_operator(self.operand, self.dtype.kind == "c"), U))
        except (TypeError, NotImplementedError) as error:  # SciPy's where there is no rmatvec: 'NoneType' ...
            raise DTypeError(
                f"expected an operator whose adjoint, by .H or .conj().T, multiplies vectors too; that of "
                f"{type(self.operand).__name__} failed: {error}. Give it one (rmatvec), or pass an array"
            ) from error

    def _shifted(self, Y: Array) -> Array:
        return scaled(Y, -self.exponent) if self.exponent else Y

    def guess(self, u: Array) -> Array:
        """The vector of the shorter side that belongs to a guess of u."""
        if self.X is None:
            return u if self.wide else self.backward(u[None])[0]
        return conj(u) if self.wide else self.back(u)

    def pair(self, near: Array) -> tuple[float, Array, Array]:
        """2^-exponent sigma, u and v, from a unit vector of the basis, whose image has the length of the value."""
        if self.X is not None:
            far = self.image(near)
            near, far = (conj(near), conj(far)) if self.wide else (near, far)
        else:
            far = (self.backward if self.wide else self.forward)(near[None])[0]
        length = float(np.linalg.norm(far))
        u, v = (near, far / length) if self.wide else (far / length, near)
        return length, u.astype(self.given, copy=False), v.astype(self.given, copy=False)

    def dense(self) -> Array:
        """2^-exponent A; an operator tells by its product with the identity."""
        if self.X is None:
            identity = np.eye(min(self.shape), dtype=self.dtype)
            return conj(self.backward(identity)) if self.wide else self.forward(identity).T
        return self.X.T if self.wide else self.X


def conj(X: Array) -> Array:
    """The conjugate, without a copy where X is real."""
    return np.conj(X) if X.dtype.kind == "c" else X


def apply(A: Any, V: Array) -> Array:
    """A v for every row v of V: at once if A is known to take blocks, else one after the other."""
    if hasattr(A, "matmat") or hasattr(A, "toarray"):
        return np.asarray(A @ V.T).T
    return np.stack([np.asarray(A @ v) for v in V])


def _dtype_of(A: Any) -> np.dtype[Any] | None:
    """What an operator says of its numbers, if NumPy knows the word; its products tell."""
    known = getattr(A, "dtype", None)
    try:
        return None if known is None else np.dtype(known)
    except TypeError:
        return None


def adjoint_operator(A: Any, complex_: bool) -> Any:
    """A^H of an operator, by whichever name it has one."""
    if hasattr(A, "H"):
        return A.H
    if complex_ and not hasattr(A, "conj"):
        raise DTypeError(f"a complex operator needs .H or .conj().T for its adjoint, {type(A).__name__} has neither")
    return A.conj().T if complex_ else A.T
