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

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..errors import ConvergenceError, DTypeError, NonFiniteError, ShapeError
from .degeneracy import scaled
from .operators import SEED, Array, Operator, conj

#: columns of the random start: two, the fewest that see a double top
BLOCK = 2
#: the probability that the certificate is wrong, over the draw of the start, for the worst of matrices
FAILURE = 1e-6
#: default tolerance in units of eps, a few times what (2) allows
TOLERANCE = 16384
#: the same in eps of the array, where that is in single precision and the work in double
TOLERANCE_GIVEN = 16
#: the Ritz vector's residual may be the bound of sigma over this: 128 eps by default, which turns u and v by no more
#: than 64 eps over the relative gap below sigma, 1.4e-14 over the gap
VECTORS = 128
#: ||F|| in (2), in units of eps ||M||: measured 0.2 to 3.6 on the families of the tests, up to n = 1000; and as much
#: again for the factors of x - T, whose backward error has the same form
NOISE = 8
#: an array whose shorter side is at most this goes to the SVD, which is faster there; an operator is made dense
DENSE = 64
#: what LAPACK's values are off by, in units of `Operator.rounding`: measured up to 1.3, for small matrices
DENSE_ROUNDING = 4
#: the step after which T is looked at first: few matrices are done earlier
FIRST_LOOK = 6
#: steps allowed, per cube root of the shorter side: random square matrices, whose top is as crowded as that of any
#: generic matrix, take 7 to 8 of them; beyond twice that the SVD is the better way
STEPS = 15
#: beta at most this many eps ||M|| sqrt(n) is rounding: the Krylov space is exhausted
EXHAUSTED = 8
#: the least share of a row that must be left beside the rows before it: one pass of Gram-Schmidt loses one digit then
INDEPENDENT = 0.1
#: a row from which a pass of Gram-Schmidt took this many times what it left needs another ("twice is enough")
SHRUNK = 2


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
    second: float  # at most the second Ritz value; that value where it is next to sigma
    steps: int

    @property
    def triplet(self) -> Triplet:
        return Triplet(*self[:4])


def top_singular_triplet(A: Any, tol: float | None = None, u0: Any = None) -> Triplet:
    """Largest singular value of A (m, n) with its vectors, u (m,) and v (n,), and a bound of the error of sigma.

    A      an array, or anything with `shape`, `@` and `.T` (complex: `.H` or `.conj().T`): a sparse array, a SciPy
           `LinearOperator`. One that has `matmat` or `toarray` is applied to blocks of vectors, others to one by one
    tol    residual <= tol * sigma is asked for; by default 16384 eps (3.6e-12), about the least that rounding allows;
           for an array in single precision, which is multiplied in double, 16 eps of its own (1.9e-6). Where all
           values are equal, as of an orthogonal matrix, it is some 1e-10
    u0     a guess of u, from the step before in a training loop: the nearer, the fewer steps. Each multiplies three
           vectors instead of two, so that only a very near guess (an angle below some 1e-6) saves products in all

    The bound, |sigma - true| <= residual, is a certificate that sigma is the *largest* value, whatever the matrix: it
    holds with probability 1 - 1e-6 over the random start (seeded: the same call gives the same result). Where
    neighbouring values lie too close for it, an array goes to the SVD, which costs what it costs.

    The vectors are those of A, with u^H A v = sigma; a joint sign or phase is free. At a repeated top they are one pair
    of many. A zero A gives sigma = 0 with unit vectors.

    Raises ConvergenceError for an operator that is too large to be made dense and whose top values lie too close,
    MissingRuleError for an array that is being differentiated (take `dualsvd.opnorm`), ValueError for a tol below 0;
    ShapeError, DTypeError, NonFiniteError. Source: see the module.

    >>> import numpy as np
    >>> sigma, u, v, residual = top_singular_triplet(np.diag([3.0, 2.0, 1.0]))
    >>> bool(abs(sigma - 3) <= residual), bool(np.allclose(np.outer(u, v), np.diag([1, 0, 0])))
    (True, True)
    """
    operator = Operator(A)
    if tol is not None and not (isinstance(tol, (int, float, np.number)) and 0 <= tol < math.inf):
        raise ValueError(f"tol must be a finite number that is not negative, got {tol!r}")
    if min(operator.shape) > DENSE:
        found = krylov(operator, tol=tol, u0=u0)
        if isinstance(found, Leading):
            return found.triplet
        if operator.X is None:
            wanted = relative_tolerance(operator, tol) * found.sigma
            raise ConvergenceError(
                f"the top of the spectrum was not resolved in {found.steps} steps: the largest singular value is at "
                f"least {found.sigma:.6g}, but its error is bounded by {found.residual:.1e} only, and "
                f"{wanted:.1e} was asked for; raise tol, or pass an array, for the SVD"
            )
    elif u0 is not None:
        as_guess(u0, operator)  # the SVD has no use for it, but a wrong one is an error for matrices of any size
    return dense_leading(operator).triplet


def leading(A: Any, tol: float | None = None, u0: Any = None) -> Leading | None:
    """`top_singular_triplet` for callers that have an SVD of their own: None where that is the better way."""
    operator = Operator(A)
    if min(operator.shape) <= DENSE:
        return None
    found = krylov(operator, tol=tol, u0=u0)
    return found if isinstance(found, Leading) else None


def relative_tolerance(operator: Operator, tol: float | None) -> float:
    """The relative bound asked for, or the rounding of sigma where that is more."""
    default = max(TOLERANCE * operator.eps, TOLERANCE_GIVEN * float(np.finfo(operator.given).eps))
    return max(default if tol is None else float(tol), 2 * operator.rounding)


# ---------------------------------------------------------------------------------------------------------------------
# The process


class GaveUp(NamedTuple):
    """How far the process came when its steps were used up."""

    sigma: float
    residual: float
    steps: int


class Ritz(NamedTuple):
    """The largest eigenvalue of T; the second where that is next to it, or else a smaller number; the vector of the
    largest."""

    value: float
    second: float
    vector: Array


class Basis:
    """Orthonormal rows V that span the Krylov space, and T, the block tridiagonal M in that basis."""

    def __init__(self, start: Array, steps: int, by_two: Any = None) -> None:
        b, n = start.shape
        self.by_two, self.banded = by_two, None  # kernels for two vectors at a time, and for what they make of T
        if by_two:
            from ..kernels import banded

            self.banded = banded
        self.b, self.k = b, 0  # width, and number of blocks whose product with M is known
        self.rows = np.empty(((steps + 1) * b, n), start.dtype)
        self.rows[:b] = start
        self.eps = float(np.finfo(start.dtype).eps)
        self.T = np.zeros((steps * b, steps * b), np.result_type(start, np.float64))
        self.beta = np.zeros((b, b), self.T.dtype)  # the last
        self._eigen: Any = None

    @property
    def size(self) -> int:
        return self.k * self.b

    def last(self) -> Array:
        return self.rows[self.size : self.size + self.b]

    def eigen(self) -> tuple[Array, Array]:
        """All eigenvalues and vectors of T, found once until it grows."""
        if self._eigen is None:
            self._eigen = np.linalg.eigh(self.T[: self.size, : self.size])
        return self._eigen

    def ritz(self, guess: Array, both: bool = True) -> Ritz:
        """The top of T: by band factors where there are kernels, and they find it. Not `both`: to foretell the end."""
        if self.banded is not None:
            start = np.zeros(self.size)
            start[: len(guess)] = guess
            found = self.banded.top_pair(self.T[: self.size], self.b, start, both)
            if found[0] > 0.0:
                return Ritz(*found)
        values, S = self.eigen()
        return Ritz(float(values[-1]), float(values[-2]), S[:, -1])

    def resolvents(self, xs: Any) -> Iterator[tuple[Array, float]]:
        """For every x above the Ritz values the last columns of E_1^H (x - T)^-1, and its norm."""
        if self.banded is not None:
            for x in xs:
                Z = self.banded.rows_of_resolvent(self.T[: self.size], self.b, x)
                yield Z[:, -self.b :], length(Z)
        else:
            values, S = self.eigen()
            for x in xs:
                Z = S[: self.b] / (x - values)
                yield Z @ conj(S[-self.b :]).T, length(Z)

    def extend(self, W: Array) -> None:
        """Take in W = M V_k: what it has in the space so far is removed, and what is left made orthonormal.

        But for rounding all of that lies in the last two blocks. So these go first; then rounding is all that the pass
        over all rows removes, and one such pass leaves rows as orthogonal as two would.
        """
        b, low = self.b, self.size
        V, beta = self.rows[: low + b], np.zeros((b, b), self.T.dtype)
        if self.by_two and b == 2:
            coefficients, done = self.by_two.extend_basis(W, self.rows, low + b, beta, SHRUNK, INDEPENDENT)
        else:
            coefficients, done = clear(W, V, V[max(low - b, 0) :]), False
        self.T[low : low + b, low : low + b] = conj(coefficients[:, -b:])  # what is read of T is the lower triangle
        if not done:
            orthonormal_rows(W, V, self.rows[low + b : low + 2 * b], beta)
        self.beta = beta
        if low + b < len(self.T):
            self.T[low + b : low + 2 * b, low : low + b] = beta
        self.k += 1
        self._eigen = None


def clear(W: Array, V: Array, last: Array) -> Array:
    """Take from the rows of W their parts in the span of V, those of the last rows first: the coefficients of these."""
    h = take(W, last)
    rounding = take(W, V)
    h += rounding[:, -len(last) :]
    if any(length(r) > SHRUNK * length(w) for r, w in zip(rounding, W)):
        h += take(W, V)[:, -len(last) :]
    return h


def take(W: Array, V: Array) -> Array:
    """Take from the rows of W, in place, their parts in the span of the orthonormal rows of V; returns the
    coefficients."""
    h = np.empty((len(W), len(V)), V.dtype)
    for w, row in zip(W, h):  # BLAS reads V faster for one vector after the other
        row[:] = conj(V.dot(conj(w)))
        w -= row.dot(V)
    return h


def length(w: Array) -> float:
    """The Euclidean norm, without ado."""
    return math.sqrt(np.vdot(w, w).real)


def orthonormal_rows(W: Array, V: Array, Q: Array, R: Array) -> None:
    """W^T = Q^T R, written to Q and R, with orthonormal rows Q, orthogonal to those of V as W is."""
    for i, w in enumerate(W):
        left = whole = length(w)
        if i:
            R[:i, i] = take(W[i : i + 1], Q[:i])[0]
            left = length(w)
        if not left > INDEPENDENT * whole:
            break
        R[i, i] = left
        np.divide(w, left, out=Q[i])
    else:
        return
    W[: i + 1] += np.triu(R[:i, : i + 1], 1).T @ Q[:i]  # what the loop took
    P, first = np.linalg.qr(W.T)
    P = P - V.T @ (np.conj(V) @ P)  # dependent rows: the QR magnified what the passes had left
    P, second = np.linalg.qr(P)
    Q[:], R[:] = P.T, second @ first


def krylov(
    operator: Operator, tol: float | None = None, u0: Any = None, start: Array | None = None
) -> Leading | GaveUp:
    """Steps until sigma is certified; looks at the spectrum of T only where the last looks foretell success.

    `start`, rows of the shorter side's length, replaces the random start; its likely part is then its caller's concern.
    """
    n = min(operator.shape)
    V1 = starting_block(operator, u0) if start is None else start
    random = V1.shape[0] - (u0 is not None and start is None)
    part = likely_part(random, n, operator.dtype.kind == "c")
    steps = min(math.ceil(STEPS * n ** (1 / 3)), n // V1.shape[0] - 1)
    tolerance = relative_tolerance(operator, tol) - operator.rounding
    operator.load_kernels()
    basis = Basis(V1, steps, operator.by_two)
    looks: list[tuple[int, float]] = []
    look, bound, ritz = FIRST_LOOK, math.inf, Ritz(0.0, 0.0, np.ones(1))
    basis.extend(operator.gram(basis.last()))
    noise = EXHAUSTED * operator.eps * math.sqrt(n) * float(np.linalg.norm(basis.T[: basis.b, : basis.b]))
    while True:
        beta = length(basis.beta)
        exhausted = beta <= noise
        if exhausted or basis.k in (look, steps):
            if not math.isfinite(beta):
                raise NonFiniteError(f"the operator's products are not finite after {basis.k} steps")
            ritz = basis.ritz(ritz.vector, both=False)
            top = ritz.value
            if top <= 0.0:
                return zero_triplet(operator)
            missing, finest, allowed = foretell(ritz, basis, part, tolerance)
            if missing <= 0 or exhausted or basis.k == steps:
                bound = certify(basis, top, part, finest, allowed)
                if bound <= allowed or exhausted:
                    return finish(operator, basis, basis.ritz(ritz.vector), bound)
            looks.append((basis.k, missing))
            if basis.k == steps or (operator.X is not None and hopeless(looks, steps)):
                sigma = math.ldexp(math.sqrt(top), operator.exponent)
                return GaveUp(sigma, bound * sigma, basis.k)
            look = min(next_look(looks), steps)
        basis.extend(operator.gram(basis.last()))


def foretell(ritz: Ritz, basis: Basis, part: float, tolerance: float) -> tuple[float, float, float]:
    """The logarithm of the factor by which the bound, as the top pair of T foretells it, exceeds what it may be (0 or
    less: time to certify); the finest bound that rounding leaves, and the one that will do."""
    in_start = length(ritz.vector[: basis.b])
    finest = NOISE * basis.eps * max(in_start / part, 1.0)  # where (2) takes half of the part
    allowed = max(tolerance, finest)
    # near its top Ritz value G(x) is |E_1^H s| |beta_k s_k| / (x - top)
    error = length(basis.beta @ ritz.vector[-basis.b :]) / ritz.value
    missing = math.log(max(in_start * error / (2 * allowed * part), error * VECTORS / allowed, 1e-300))
    return missing, finest, allowed


def hopeless(looks: list[tuple[int, float]], steps: int) -> bool:
    """Whether the steps will not do, by the last looks; an array then goes to the SVD before all are spent.

    Above a spectrum that reaches up to x (1 - g) the best polynomial of degree k grows at first like exp(2 g k^2), and
    then more slowly. So that what is missing falls like k^2 is the best that may be hoped for.
    """
    if len(looks) < 3:
        return False
    (i, old), (k, missing) = looks[-3], looks[-1]
    return missing * (k**2 - i**2) > (old - missing) * (steps**2 - k**2)


def next_look(looks: list[tuple[int, float]]) -> int:
    """The step at which what is missing should come to zero, from the last looks: (step, missing) each.

    It falls faster and faster at first and at a steady rate at last. So the mean rate still to come is taken to exceed
    that since the last look by half of what that exceeded the one before. Two steps on at least, and half of k at most:
    a look costs half a step by band factors, and as much as several steps by all eigenvectors.
    """
    k, missing = looks[-1]
    rates = [(old - new) / (j - i) for (i, old), (j, new) in itertools.pairwise(looks[-3:])]
    rate = rates[-1] + max(rates[-1] - rates[0], 0) / 2 if rates else 0.0
    if missing > 0 and not rate > 0:
        return k + k // 2
    return k + min(max(2, math.ceil(missing / rate)), k // 2) if missing > 0 else k + 2


def starting_block(operator: Operator, u0: Any) -> Array:
    """Orthonormal rows: those of the guess, if one is given, and random ones, uniform among all such."""
    block = random_rows(min(operator.shape), operator.dtype)
    if u0 is not None:
        row = operator.guess(as_guess(u0, operator))
        if np.any(row):
            block = np.concatenate([row[None] / np.abs(row).max(), block])
            block = np.linalg.qr(block.T)[0].T.copy()
    return block


def as_guess(u0: Any, operator: Operator) -> Array:
    """u0 with its largest entry at 1/2 to 1, in the type of the work; or what is wrong with it."""
    guess = np.asarray(u0)
    if guess.shape != operator.shape[:1]:
        raise ShapeError(f"u0 must be a vector of length {operator.shape[0]}, a guess of u; got shape {guess.shape}")
    if guess.dtype.kind not in "biufc":
        raise DTypeError(f"u0 must hold numbers, got {guess.dtype}")
    if not np.all(np.isfinite(guess)):
        raise NonFiniteError("u0 holds numbers that are not finite")
    if operator.dtype.kind != "c" and np.iscomplexobj(guess):
        raise DTypeError("u0 is complex but the matrix is real; pass its real part")
    exponent = math.frexp(float(np.abs(guess).max()))[1]  # NumPy divides complex numbers by way of 1 / |u0|
    return scaled(guess.astype(np.result_type(guess, np.float64)), -exponent).astype(operator.dtype)


@functools.lru_cache(maxsize=8)  # training asks for the same few sizes again and again
def random_rows(n: int, dtype: np.dtype[Any]) -> Array:
    """BLOCK orthonormal rows of length n, uniform among all such."""
    rng = np.random.default_rng(SEED)
    block = rng.standard_normal((BLOCK, n)) + (1j * rng.standard_normal((BLOCK, n)) if dtype.kind == "c" else 0.0)
    rows = np.linalg.qr(block.astype(dtype).T)[0].T.copy()
    rows.flags.writeable = False
    return rows


def likely_part(columns: int, n: int, complex_: bool) -> float:
    """t with P(|X^H v| <= t) <= FAILURE for a unit v and `columns` random orthonormal columns X of length n.

    |X^H v|^2 has the Beta(d/2, (N - d)/2) distribution, d and N counting real numbers; its density is at most that of
    the power u^(d/2 - 1), normalised alike. A guess beside the random columns only adds to the part, and if it held a
    share of v then the random ones hold that much less: the two never sum to less than without it.
    """
    d, N = (2 * columns, 2 * n) if complex_ else (columns, n)
    log = math.log(FAILURE) + math.lgamma(d / 2 + 1) + math.lgamma((N - d) / 2) - math.lgamma(N / 2)
    return math.exp(log / d)


def certify(basis: Basis, top: float, part: float, finest: float, allowed: float) -> float:
    """The least e, on a grid by factors of 10 through `allowed`, from which on (1 + e) sigma is no singular value."""
    below, above = math.floor(math.log10(finest / allowed)), math.ceil(-math.log10(allowed)) + 1
    e = allowed * 10.0 ** np.arange(min(below, 0), max(above, 1))
    bounds = [
        length(corner @ conj(basis.beta).T) + NOISE * basis.eps * top * size
        for corner, size in basis.resolvents(top * (1 + e) ** 2)
    ]
    possible = np.flatnonzero(~(np.array(bounds) <= part))
    if len(possible) == 0:
        return float(e[0])
    return math.inf if possible[-1] + 1 == len(e) else float(e[possible[-1] + 1])


# ---------------------------------------------------------------------------------------------------------------------
# Results


def finish(operator: Operator, basis: Basis, ritz: Ritz, bound: float) -> Leading:
    """The Ritz vector, its image, and sigma as the length of that image."""
    near = np.dot(ritz.vector.astype(operator.dtype), basis.rows[: basis.size])
    size, u, v = operator.pair(near / length(near))
    sigma = math.ldexp(size, operator.exponent)
    residual = operator.error(sigma, bound + operator.rounding)
    second = math.ldexp(math.sqrt(max(ritz.second, 0.0)), operator.exponent)
    return Leading(sigma, u, v, residual, second, basis.k)


def zero_triplet(operator: Operator) -> Leading:
    """Any unit vectors: here the first axes."""
    u, v = (np.eye(1, size, dtype=operator.given)[0] for size in operator.shape)
    return Leading(0.0, u, v, operator.underflow, 0.0, 1)


def dense_leading(operator: Operator) -> Leading:
    """By the SVD of the matrix."""
    U, S, Vh = np.linalg.svd(operator.dense(), full_matrices=False)
    sigma, second = (math.ldexp(float(s), operator.exponent) for s in (S[0], S[1] if len(S) > 1 else 0.0))
    u, v = (x.astype(operator.given, copy=False) for x in (U[:, 0], np.conj(Vh[0])))
    residual = operator.error(sigma, DENSE_ROUNDING * operator.rounding)
    return Leading(sigma, u, v, residual, second, 0)
