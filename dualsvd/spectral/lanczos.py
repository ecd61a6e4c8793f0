"""The largest singular value and its vectors by a block Golub-Kahan-Lanczos process, with a certificate.

A Krylov space finds the top of the spectrum first, so a few dozen products with A replace its SVD. Two questions decide
whether the answer may be believed.

How near is sigma to *a* singular value? The Ritz residual ||A^H u - sigma v|| says so, and is small when we stop.

Is it the *largest*? No residual can tell: from a start orthogonal to the top, the process converges to the second value
and looks perfect. What tells is that the start was drawn at random. Let V = [V_1 ... V_k] be the basis, V_1 the start,

    T = V^H A^H A V       block tridiagonal: alpha_j on the diagonal, beta_j below it
    A^H A V_k - V (...) = V_{k+1} beta_k

and let v be a unit eigenvector of A^H A with an eigenvalue x above every Ritz value. The rows V^H A^H A v = x V^H v
read (x - T) V^H v = E_k beta_k^H V_{k+1}^H v, so the part of v in the start is bounded:

    |V_1^H v| <= ||G(x)||,    G(x) = E_1^H (x - T)^-1 E_k beta_k^H.                                                  (1)

By elimination G is a product with a factor for every step, and falls with each. Once ||G(x)|| is less than
`likely_part`, below which the part of any given vector in a random start falls with probability FAILURE only, x is no
singular value squared. Rounding adds a matrix F to the relation that defines T, of a few eps ||M||, and to (1) the term

    ||E_1^H (x - T)^-1|| ||F||,                                                                                     (2)

which keeps the certificate from being finer than some 1e-12: two values closer than that could hide one another.

A tie of the top needs a block of two to be seen at all, and a block makes a small part far less likely: hence BLOCK. At
the top of the spectrum A^H A loses nothing, so only one of the two bases is kept and reorthogonalised, that of the
shorter side. The process is that of Golub, Luk and Overton, ACM TOMS 7 (1981), 149-169. On convergence to the wrong
value see Parlett, Simon and Stringer, Math. Comp. 38 (1982), 153-165; on what a random start excludes, Kuczynski and
Wozniakowski, SIAM J. Matrix Anal. 13 (1992), 1094-1122.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from ..errors import ConvergenceError, DTypeError, MissingRuleError, NonFiniteError, ShapeError
from ..rules.registry import Tracer

Array = np.ndarray[Any, np.dtype[Any]]

#: columns of the random start: two, the fewest that see a double top
BLOCK = 2
#: the probability that the certificate is wrong, over the draw of the start, for the worst of matrices
FAILURE = 1e-6
#: seed of the start: results are reproducible
SEED = 20201117
#: default tolerance in units of eps, some times above what (2) allows
TOLERANCE = 16384
#: the Ritz vector's residual may be the bound of sigma over this: 64 eps by default
VECTORS = 256
#: ||F|| in (2), in units of eps ||M||: measured 0.2 to 3.1 on the families of the tests, up to n = 1000; and as much
#: again for the Ritz pairs
NOISE = 8
#: an array whose shorter side is at most this goes to the SVD, which is faster there; an operator is made dense
DENSE = 64
#: steps allowed, per cube root of the shorter side: random square matrices, whose top is as crowded as that of any
#: generic matrix, take 7 to 8 of them; beyond twice that the SVD is the better way
STEPS = 15
#: bytes of A multiplied at a time: what stays in the second-level cache between the product with A and that with A^H
SLAB = 1 << 19
#: exponents of max |A| that need no scaling: the squares in the length of M v are fourth powers, and stay in range
UNSCALED = {np.dtype(np.float64): 100, np.dtype(np.float32): 8}
#: beta at most this many eps ||M|| sqrt(n) is rounding: the Krylov space is exhausted
EXHAUSTED = 8
#: the least share of a row that must be left beside the rows before it: one pass of Gram-Schmidt loses one digit then
INDEPENDENT = 0.1


class Triplet(NamedTuple):
    """A v = sigma u, A^H u = sigma v with the largest sigma, and |sigma - true| <= residual."""

    sigma: float
    u: Array
    v: Array
    residual: float


class Leading(NamedTuple):
    """A `Triplet`, and what the process saw on the way."""

    sigma: float
    u: Array
    v: Array
    residual: float
    second: float  # the second Ritz value: next to sigma if and only if the top is tied
    steps: int

    @property
    def triplet(self) -> Triplet:
        return Triplet(*self[:4])


def top_singular_triplet(A: Any, tol: float | None = None, u0: Any = None) -> Triplet:
    """Largest singular value of A (m, n) with its vectors, u (m,) and v (n,), and a bound of the error of sigma.

    A      an array, or anything with `shape`, `@` and `.T` (complex: `.H` or `.conj().T`): a sparse array, a SciPy
           `LinearOperator`. One that has `matmat` or `toarray` is applied to blocks of vectors, others to one by one
    tol    residual <= tol * sigma is asked for; by default 16384 eps (3.6e-12), about the least that rounding allows
    u0     a guess of u, from the step before in a training loop: the nearer, the fewer steps

    The bound, |sigma - true| <= residual, is a certificate that sigma is the *largest* value, whatever the matrix: it
    holds with probability 1 - 1e-6 over the random start (seeded: the same call gives the same result). Where
    neighbouring values lie too close for it, an array goes to the SVD, which costs what it costs.

    The vectors are those of A, with u^H A v = sigma; a joint sign or phase is free. At a repeated top they are one pair
    of many. A zero A gives sigma = 0 with unit vectors.

    Raises ShapeError, DTypeError, NonFiniteError, and ConvergenceError for an operator that is too large to be made
    dense and whose top values lie too close. Source: see the module.

    >>> import numpy as np
    >>> sigma, u, v, residual = top_singular_triplet(np.diag([3.0, 2.0, 1.0]))
    >>> bool(abs(sigma - 3) <= residual), bool(np.allclose(np.outer(u, v), np.diag([1, 0, 0])))
    (True, True)
    """
    operator = Operator(A)
    if min(operator.shape) > DENSE:
        found = krylov(operator, tol=tol, u0=u0)
        if isinstance(found, Leading):
            return found.triplet
        if operator.array is None:
            raise ConvergenceError(
                f"the top of the spectrum was not resolved in {found.steps} steps: the largest singular value is at "
                f"least {found.sigma:.6g}, but its error is bounded by {found.residual:.1e} only, and "
                f"{operator.tolerance(tol) * found.sigma:.1e} was asked for; raise tol, or pass an array, for the SVD"
            )
    return dense_triplet(operator)


def leading(A: Any, tol: float | None = None, u0: Any = None) -> Leading | None:
    """`top_singular_triplet` for callers that have an SVD of their own: None where that is the better way."""
    operator = Operator(A)
    if min(operator.shape) <= DENSE:
        return None
    found = krylov(operator, tol=tol, u0=u0)
    return found if isinstance(found, Leading) else None


# ---------------------------------------------------------------------------------------------------------------------
# What is multiplied


class Operator:
    """A matrix as the process sees it: products with blocks of vectors, scaled by a power of two where need be.

    Vectors are the rows of a block. `shape` is that of A; the basis is made of vectors of the shorter side, so the
    process multiplies by M = A^H A, or by A A^H where A is wide. `dtype` is None until a first product shows it.
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
        self.array: Array | None = None
        if isinstance(A, np.ndarray):
            self.array = self._scaled(A)
            self.dtype = self.array.dtype
        else:
            self.operand = A
            self.dtype = self._probe(A)
        self.real = np.dtype(self.dtype.char.lower())
        self.eps = float(np.finfo(self.dtype).eps)

    def _scaled(self, A: Array) -> Array:
        if A.dtype.kind in "iub":
            A = A.astype(np.float64)
        if A.dtype.char not in "fdFD":
            raise DTypeError(f"expected float32, float64, complex64 or complex128 numbers, got {A.dtype}")
        if not (A.flags.c_contiguous or A.flags.f_contiguous):
            A = np.ascontiguousarray(A)
        parts = A.T if A.flags.f_contiguous else A
        parts = parts.view(parts.real.dtype)  # minimum and maximum of the parts need no temporary, and see every NaN
        peak = float(max(-parts.min(), parts.max()))
        if not math.isfinite(peak) or not math.isfinite(parts.min()):
            raise NonFiniteError(f"the matrix holds {A.size - int(np.isfinite(A).sum())} numbers that are not finite")
        exponent = math.frexp(peak)[1]
        if abs(exponent) > UNSCALED[parts.dtype]:
            self.exponent = exponent
            half = parts.dtype.type(2.0) ** (-exponent // 2)  # in two steps: 2^1074 alone would overflow
            A = A * half * parts.dtype.type(2.0) ** (-exponent - -exponent // 2)
        return A

    def _probe(self, A: Any) -> np.dtype[Any]:
        """dtype and scale of an operator, from its product with one vector of each side that no pattern is tuned to."""
        n = self.shape[1]
        known = getattr(A, "dtype", None)
        real = np.dtype(np.dtype(known).char.lower()) if known is not None and np.dtype(known).char in "fdFD" else float
        y = np.asarray(apply(A, np.random.default_rng(SEED + 1).standard_normal((1, n)).astype(real)))
        dtype = np.result_type(y.dtype, np.dtype(known).type if known is not None else y.dtype)
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

    def tolerance(self, tol: float | None) -> float:
        """The relative bound asked for, or the rounding of sigma where that is more."""
        return max(TOLERANCE * self.eps if tol is None else float(tol), 2 * self.rounding)

    @property
    def rounding(self) -> float:
        """What rounding in the products may do to sigma, relative: errors of eps add up like a random walk."""
        return self.eps * math.sqrt(sum(self.shape))

    @property
    def wide(self) -> bool:
        return self.shape[0] < self.shape[1]

    def forward(self, V: Array) -> Array:
        """A v for every row v of V."""
        if self.array is not None:
            return V @ self.array.T
        return self._shifted(apply(self.operand, V))

    def backward(self, U: Array) -> Array:
        """A^H u for every row u of U."""
        if self.array is not None:
            return conj(conj(U) @ self.array)
        return self._shifted(apply(adjoint(self.operand, self.dtype.kind == "c"), U))

    def _shifted(self, Y: Array) -> Array:
        if self.exponent:
            half = -self.exponent // 2
            Y = Y * 2.0**half * 2.0 ** (-self.exponent - half)
        return Y

    def gram(self, V: Array) -> Array:
        """M v for every row v of V. An array is read once: each slab of it serves both products from the cache."""
        if self.array is None:
            return self.forward(self.backward(V)) if self.wide else self.backward(self.forward(V))
        A = dagger(self.array) if self.wide else self.array
        slab = max(1, SLAB // (A.shape[1] * A.itemsize))
        slabs = (A[i : i + slab] for i in range(0, A.shape[0], slab))
        return reduce(np.add, (conj(conj(V @ rows.T) @ rows) for rows in slabs))


def dagger(X: Array) -> Array:
    """X^H, without a copy where X is real."""
    return np.conj(X.T) if X.dtype.kind == "c" else X.T


def conj(X: Array) -> Array:
    """The conjugate, without a copy where X is real."""
    return np.conj(X) if X.dtype.kind == "c" else X


def apply(A: Any, V: Array) -> Array:
    """A v for every row v of V: at once if A is known to take blocks, else one after the other."""
    if hasattr(A, "matmat") or hasattr(A, "toarray"):
        return np.asarray(A @ V.T).T
    return np.stack([np.asarray(A @ v) for v in V])


def adjoint(A: Any, complex_: bool) -> Any:
    """A^H of an operator, by whichever name it has one."""
    if hasattr(A, "H"):
        return A.H
    if complex_ and not hasattr(A, "conj"):
        raise DTypeError(f"a complex operator needs .H or .conj().T for its adjoint, {type(A).__name__} has neither")
    return A.conj().T if complex_ else A.T


# ---------------------------------------------------------------------------------------------------------------------
# The process


class Unresolved(NamedTuple):
    """How far the process came when its steps were used up."""

    sigma: float
    residual: float
    steps: int


class Basis:
    """Orthonormal rows V that span the Krylov space, and T, the block tridiagonal M in that basis."""

    def __init__(self, start: Array, steps: int) -> None:
        b, n = start.shape
        self.b, self.k = b, 0  # width, and number of blocks whose product with M is known
        self.rows = np.empty(((steps + 1) * b, n), start.dtype)
        self.rows[:b] = start
        self.eps = float(np.finfo(start.dtype).eps)
        self.T = np.zeros((steps * b, steps * b), np.result_type(start, np.float64))
        self.beta = np.zeros((b, b), self.T.dtype)  # the last

    @property
    def size(self) -> int:
        return self.k * self.b

    def last(self) -> Array:
        return self.rows[self.size : self.size + self.b]

    def extend(self, W: Array) -> None:
        """Take in W = M V_k: two passes of classical Gram-Schmidt against all rows, the rest made orthonormal."""
        b, low = self.b, self.size
        V = self.rows[: low + b]
        Vh = dagger(V)
        H = W @ Vh
        W = W - H @ V
        again = W @ Vh
        W -= again @ V
        Q, R = orthonormal_rows(W, V)
        alpha = H[:, low:] + again[:, low:]
        self.beta = R.astype(self.T.dtype)
        self.T[low : low + b, low : low + b] = (alpha.T + conj(alpha)) / 2
        if low + b < len(self.T):
            self.T[low + b : low + 2 * b, low : low + b] = self.beta  # the lower triangle is all that eigh reads
        self.rows[low + b : low + 2 * b] = Q
        self.k += 1


def orthonormal_rows(W: Array, V: Array) -> tuple[Array, Array]:
    """Q with orthonormal rows, orthogonal to those of V as W is, and R with W^T = Q^T R."""
    Q, R = np.empty_like(W), np.zeros((len(W), len(W)), W.dtype)
    for i, w in enumerate(W):
        length = np.linalg.norm(w)
        if i:
            R[:i, i] = conj(Q[:i]) @ w
            w = w - R[:i, i] @ Q[:i]
        R[i, i] = left = np.linalg.norm(w)
        if not left > INDEPENDENT * length:
            break
        Q[i] = w / left
    else:
        return Q, R
    Q, R = np.linalg.qr(W.T)
    Q = Q - V.T @ (np.conj(V) @ Q)  # dependent rows: the QR magnified what the two passes had left
    Q, S = np.linalg.qr(Q)
    return Q.T, S @ R


def krylov(
    operator: Operator, tol: float | None = None, u0: Any = None, start: Array | None = None
) -> Leading | Unresolved:
    """Steps until sigma is certified; looks at the spectrum of T only where the last looks foretell success.

    `start`, rows of the shorter side's length, replaces the random start; its likely part is then its caller's concern.
    """
    n = min(operator.shape)
    V1 = starting_block(operator, u0) if start is None else start
    random = V1.shape[0] - (u0 is not None and start is None)
    part = likely_part(random, n, operator.dtype.kind == "c")
    steps = min(math.ceil(STEPS * n ** (1 / 3)), n // V1.shape[0] - 1)
    tolerance = operator.tolerance(tol) - operator.rounding
    basis = Basis(V1, steps)
    look, before, bound = 4, None, math.inf
    while True:
        basis.extend(operator.gram(basis.last()))
        beta = float(np.linalg.norm(basis.beta))
        if basis.k == 1:
            noise = EXHAUSTED * operator.eps * math.sqrt(n) * float(np.linalg.norm(basis.T[: basis.b, : basis.b]))
        exhausted = beta <= noise
        if not (exhausted or basis.k == look or basis.k == steps):
            continue
        if not math.isfinite(beta):
            raise NonFiniteError(f"the operator's products are not finite after {basis.k} steps")
        ritz, S = np.linalg.eigh(basis.T[: basis.size, : basis.size])
        top, second = float(ritz[-1]), float(ritz[-2])
        if top <= 0.0:
            return zero_triplet(operator, V1)
        in_start = float(np.linalg.norm(S[: basis.b, -1]))
        finest = NOISE * operator.eps * max(in_start / part, 1.0)  # where (2) takes half of the part
        allowed = max(tolerance, finest)
        # near its top Ritz value G(x) is |E_1^H s| |beta_k s_k| / (x - top)
        error = float(np.linalg.norm(basis.beta @ S[-basis.b :, -1])) / top
        missing = math.log(max(in_start * error / (2 * allowed * part), error * VECTORS / allowed, 1e-300))
        if missing <= 0 or exhausted or basis.k == steps:
            bound = certify(basis, ritz, S, part, finest, allowed)
            if bound <= allowed or exhausted:
                return finish(operator, basis, S[:, -1], second, bound)
        if basis.k == steps:
            sigma = math.ldexp(math.sqrt(top), operator.exponent)
            return Unresolved(sigma, bound * sigma, steps)
        look, before = min(next_look(basis.k, missing, before), steps), (basis.k, missing)


def next_look(k: int, missing: float, before: tuple[int, float] | None) -> int:
    """Where `missing`, which at last falls linearly, should reach zero: two steps on at least, half of k at most."""
    if missing <= 0 or before is None or before[1] <= missing:
        return k + 2 if missing <= 0 else k + max(2, k // 2)
    rate = (before[1] - missing) / (k - before[0])
    return k + min(max(2, math.ceil(missing / rate)), max(2, k // 2))


def starting_block(operator: Operator, u0: Any) -> Array:
    """Orthonormal rows: those of the guess, if one is given, and random ones, uniform among all such."""
    n, complex_ = min(operator.shape), operator.dtype.kind == "c"
    rng = np.random.default_rng(SEED)
    block = rng.standard_normal((BLOCK, n)) + (1j * rng.standard_normal((BLOCK, n)) if complex_ else 0.0)
    block = block.astype(operator.dtype)
    if u0 is not None:
        guess = np.asarray(u0)
        if guess.shape != operator.shape[:1]:
            raise ShapeError(
                f"u0 must be a vector of length {operator.shape[0]}, a guess of u; got shape {guess.shape}"
            )
        if not np.all(np.isfinite(guess)):
            raise NonFiniteError("u0 holds numbers that are not finite")
        if not complex_ and np.iscomplexobj(guess):
            raise DTypeError("u0 is complex but the matrix is real; pass its real part")
        peak = float(np.abs(guess).max())
        row = (guess / (peak or 1.0)).astype(operator.dtype)[None]
        if not operator.wide:
            row = operator.backward(row)
        if np.any(row):
            block = np.concatenate([row / np.abs(row).max(), block])
    return np.linalg.qr(block.T)[0].T.copy()


def likely_part(columns: int, n: int, complex_: bool) -> float:
    """t with P(|X^H v| <= t) <= FAILURE for a unit v and `columns` random orthonormal columns X of length n.

    |X^H v|^2 has the Beta(d/2, (N - d)/2) distribution, d and N counting real numbers; its density is at most that of
    the power u^(d/2 - 1), normalised alike. A guess beside the random columns only adds to the part, and if it held a
    share of v then the random ones hold that much less: the two never sum to less than without it.
    """
    d, N = (2 * columns, 2 * n) if complex_ else (columns, n)
    log = math.log(FAILURE) + math.lgamma(d / 2 + 1) + math.lgamma((N - d) / 2) - math.lgamma(N / 2)
    return math.exp(log / d)


def certify(basis: Basis, ritz: Array, S: Array, part: float, finest: float, allowed: float) -> float:
    """The least e, on a grid by factors of 10 through `allowed`, from which on (1 + e) sigma is no singular value.

    G(x) is summed over the Ritz pairs; the error of its terms is like (2), and NOISE has room for it.
    """
    below, above = math.floor(math.log10(finest / allowed)), math.ceil(-math.log10(allowed)) + 1
    e = allowed * 10.0 ** np.arange(min(below, 0), max(above, 1))
    x = ritz[-1] * (1 + e) ** 2
    first, last = S[: basis.b], basis.beta @ S[-basis.b :]
    poles = 1 / (x[:, None] - ritz)
    G = np.einsum("ij,xj,kj->xik", first, poles, np.conj(last), optimize=True)
    rounding = NOISE * basis.eps * ritz[-1] * np.linalg.norm(np.linalg.norm(first, axis=0) * poles, axis=-1)
    possible = np.flatnonzero(np.linalg.norm(G, axis=(-2, -1)) + rounding > part)
    if len(possible) == 0:
        return float(e[0])
    return math.inf if possible[-1] + 1 == len(e) else float(e[possible[-1] + 1])


# ---------------------------------------------------------------------------------------------------------------------
# Results


def finish(operator: Operator, basis: Basis, s: Array, second: float, bound: float) -> Leading:
    """The Ritz vector, its image, and sigma as the length of that image."""
    near = basis.rows[: basis.size].T @ s.astype(operator.dtype)
    near /= np.linalg.norm(near)
    far = (operator.backward if operator.wide else operator.forward)(near[None])[0]
    length = float(np.linalg.norm(far))
    far = far / length
    u, v = (near, far) if operator.wide else (far, near)
    sigma = math.ldexp(length, operator.exponent)
    residual = max((bound + operator.rounding) * sigma, math.ulp(sigma))
    second_value = math.ldexp(math.sqrt(max(second, 0.0)), operator.exponent)
    return Leading(sigma, u, v, residual, second_value, basis.k)


def zero_triplet(operator: Operator, start: Array) -> Leading:
    """Any unit vectors: here the first axes."""
    u, v = (np.eye(1, size, dtype=operator.dtype)[0] for size in operator.shape)
    return Leading(0.0, u, v, 0.0, 0.0, 1)


def dense_triplet(operator: Operator) -> Triplet:
    """By the SVD of the matrix, which an operator gives by its product with the identity."""
    A = operator.array
    if A is None:
        A = operator.forward(np.eye(operator.shape[1], dtype=operator.dtype)).T
    U, S, Vh = np.linalg.svd(A, full_matrices=False)
    sigma = math.ldexp(float(S[0]), operator.exponent)
    return Triplet(sigma, U[:, 0], np.conj(Vh[0]), max(operator.rounding * sigma, math.ulp(sigma)))
