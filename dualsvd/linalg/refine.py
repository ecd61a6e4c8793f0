"""Refinement of an SVD in double-double arithmetic: the digits that a small gap costs.

A gap of g between singular values leaves singular vectors, and their derivatives, with an error of eps s_1 / g in any
method that works in double precision. The matrix itself is exact, so the problem is not to blame: one step of Newton's
method for U^H U = I, V^H V = I, U^H A V diagonal squares that error (Ogita and Aishima 2020, "Iterative refinement for
singular value decomposition", here written as one linear solve a pair):

    R = I - U^H U,   Q = I - V^H V,   T = U^H A V,   s_i = T_ii / (1 - (R_ii + Q_ii) / 2)
    alpha_ij = T_ij + s_j R_ij,   beta_ij = conj(T_ji) + s_j Q_ij
    F_ij = (alpha_ij s_j + beta_ij s_i) / ((s_j - s_i)(s_j + s_i)),   G_ij = (alpha_ij s_i + beta_ij s_j) / (same)
    U <- U + U F + (A V - U (I + R) T) / s,      V <- V + V G + (A^H U - V (I + Q) T^H) / s

R, Q and T are differences of nearly equal numbers and need twice the digits; the corrections are small and do not. Only
the gaps s_j - s_i are asked for later beyond double precision: S comes back with its `tail`, the part below rounding.

Newton's method converges from an error below one. Within a cluster of close values the error may be larger; there each
step first solves the small Hermitian problem of the cluster, shifted so that its digits are those of the gaps.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np


class Pair(NamedTuple):
    """An unevaluated sum of two arrays, the second below the rounding of the first."""

    high: Any
    low: Any


CLOSE = 1e-3  # gaps below this, relative to s_1, make a cluster: beyond it vectors start from 13 digits
FIRST_ORDER = 1e-17  # what a step of the usual length leaves of orthogonality: less than a rounding, but not nothing
ORTHONORMAL = 5  # steps to orthonormality at most: each squares what is missing, and five bring 0.3 below a rounding
SPLITTER = 2.0**27 + 1.0  # Dekker 1971: cuts 53 bits into 26 and 26 with a sign between


def two_sum(a: Any, b: Any) -> Pair:
    """a + b = high + low exactly (Knuth)."""
    s = a + b
    t = s - a
    return Pair(s, (a - (s - t)) + (b - t))


def two_product(a: Any, b: Any) -> Pair:
    """a * b = high + low exactly, for reals (Dekker)."""
    p = a * b
    ca, cb = SPLITTER * a, SPLITTER * b
    ah, bh = ca - (ca - a), cb - (cb - b)
    al, bl = a - ah, b - bh
    return Pair(p, al * bl - (((p - ah * bh) - al * bh) - ah * bl))


def dot2(factors: list[tuple[Any, Any]]) -> Pair:
    """The sum of real matrix products in twice the working precision (Ogita, Rump and Oishi 2005, Dot2)."""
    total: Any = 0.0
    error: Any = 0.0
    for A, B in factors:
        for k in range(A.shape[-1]):
            p = two_product(A[..., :, k, None], B[..., None, k, :])
            total, e = two_sum(total, p.high)
            error = error + (e + p.low)
    return two_sum(total, error)


def exact_product(A: Any, B: Any) -> Pair:
    """A @ B in twice the working precision, real or complex."""
    if not (np.iscomplexobj(A) or np.iscomplexobj(B)):
        return dot2([(A, B)])
    Ar, Ai, Br, Bi = A.real, A.imag, B.real, B.imag
    real, imaginary = dot2([(Ar, Br), (-Ai, Bi)]), dot2([(Ar, Bi), (Ai, Br)])
    return Pair(real.high + 1j * imaginary.high, real.low + 1j * imaginary.low)


def product(A: Pair, B: Pair) -> Pair:
    """A @ B in twice the working precision; products of low parts are below it."""
    high, low = exact_product(A.high, B.high)
    return plus(Pair(high, low), A.high @ B.low + A.low @ B.high)


def plus(A: Pair, b: Any) -> Pair:
    """A + b, normalised; componentwise, so that complex numbers are right too."""
    high, low = two_sum(A.high, A.low + b)
    return Pair(high, low)


def flip(A: Pair) -> Pair:
    """The conjugate transpose."""
    return Pair(*(np.conj(np.swapaxes(x, -1, -2)) for x in A))


def off_identity(Q: Pair) -> Any:
    """I - Q^H Q, rounded once."""
    P = product(flip(Q), Q)
    return (np.eye(Q.high.shape[-1]) - P.high) - P.low


class Refined(NamedTuple):
    """Factors rounded to working precision, and what S = S.high + tail had below rounding."""

    U: Any
    S: Any
    Vh: Any
    tail: Any


def refine(A: Any, U: Any, S: Any, Vh: Any, steps: int, resolved: Any, null: Any) -> Refined:
    """The thin factors of a plain A after so many steps; `resolved` (..., r, r) masks the pairs that are no tie, `null`
    (..., r) the values that are zero to working precision, which stay as they are.

    float32 input is refined in double precision, which doubles its digits at once.
    """
    dtype = A.dtype
    wide = np.result_type(dtype, np.float64)
    exact = (x.astype(wide) for x in (A, U, np.conj(np.swapaxes(Vh, -1, -2))))
    A, U, V = (Pair(x, np.zeros_like(x)) for x in exact)
    for _ in range(steps):
        U, V = solve_clusters(A, U, V, S)
        (U, R), (V, Q) = newton_step(A, U, V, resolved, ~null)
    values = rayleigh(product(flip(U), product(A, V)), R, Q)
    real = np.dtype(dtype.type(0).real.dtype)
    high = np.where(null, S, (values.high + values.low).astype(real))
    tail = np.where(null, 0.0, (values.high - high) + values.low)
    return Refined(U.high.astype(dtype), high, np.conj(np.swapaxes(V.high, -1, -2)).astype(dtype), tail.astype(real))


def rayleigh(T: Pair, R: Any, Q: Any) -> Pair:
    """s_i = T_ii / (1 - (R_ii + Q_ii) / 2), to first order in R and Q: the singular values to the square of the error
    of the vectors."""
    high, low, r, q = (np.real(np.diagonal(x, axis1=-2, axis2=-1)) for x in (*T, R, Q))
    return plus(Pair(high, low), high * (r + q) * 0.5)


def solve_clusters(A: Pair, U: Pair, V: Pair, S: Any) -> tuple[Pair, Pair]:
    """U and V with the columns of every cluster turned to the eigenvectors of herm(U^H A V) there."""
    close = S[..., :-1] - S[..., 1:] <= CLOSE * S[..., :1]
    for index in np.argwhere(close.any(axis=-1)).tolist():
        i = tuple(index)
        cuts = [0, *(np.flatnonzero(~close[i]) + 1).tolist(), S.shape[-1]]
        for start, stop in itertools.pairwise(cuts):
            if stop - start > 1:
                one = [Pair(X.high[i], X.low[i]) for X in (A, U, V)]
                turn_cluster(one[0], one[1], one[2], slice(start, stop), S[i][start])
    return U, V


def turn_cluster(A: Pair, U: Pair, V: Pair, g: slice, s: Any) -> None:
    """Turns the columns g of one matrix in place."""
    u, v = (Pair(X.high[:, g], X.low[:, g]) for X in (U, V))
    T = product(flip(u), product(A, v))
    shifted = (T.high - s * np.eye(T.high.shape[-1])) + T.low
    H = (shifted + np.conj(shifted.T) + s * (off_identity(u) + off_identity(v))) * 0.5
    Q = np.linalg.eigh(H)[1][:, ::-1]
    turn = Pair(Q, np.zeros_like(Q))
    for X, x in ((U, u), (V, v)):
        X.high[:, g], X.low[:, g] = product(x, turn)


def newton_step(A: Pair, U: Pair, V: Pair, resolved: Any, positive: Any) -> tuple[tuple[Pair, Any], tuple[Pair, Any]]:
    """One step for all pairs; within a tie the columns are made orthonormal only. Returns U and V, each with what it
    lacks of that."""
    AV = product(A, V)
    AhU = product(flip(A), U)
    T, R, Q = product(flip(U), AV), off_identity(U), off_identity(V)
    s = rayleigh(T, R, Q)
    row, column = Pair(*(x[..., :, None] for x in s)), Pair(*(x[..., None, :] for x in s))
    gap = (column.high - row.high) + (column.low - row.low)
    t = T.high + T.low
    alpha = t + column.high * R
    beta = np.conj(np.swapaxes(t, -1, -2)) + column.high * Q
    denominator = np.where(resolved, gap * (column.high + row.high), 1.0)
    F = np.where(resolved, (alpha * column.high + beta * row.high) / denominator, R * 0.5)
    G = np.where(resolved, (alpha * row.high + beta * column.high) / denominator, Q * 0.5)
    over_s = np.where(positive, 1.0 / np.where(positive, s.high, 1.0), 0.0)
    if np.iscomplexobj(t):  # u_i^H A v_i is to be real
        phase = 0.5j * np.imag(np.diagonal(t, axis1=-2, axis2=-1)) * over_s
        diagonal = np.eye(s.high.shape[-1]) * phase[..., None, :]
        F, G = F + diagonal, G - diagonal
    (m, r), n = U.high.shape[-2:], V.high.shape[-2]
    du, dv = U.high @ F, V.high @ G
    if m > r:
        UT = product(U, T)
        outside = (AV.high - UT.high) + (AV.low - UT.low) - U.high @ (R @ t)
        du = du + outside * over_s[..., None, :]
    if n > r:
        VT = product(V, flip(T))
        outside = (AhU.high - VT.high) + (AhU.low - VT.low) - V.high @ (Q @ np.conj(np.swapaxes(t, -1, -2)))
        dv = dv + outside * over_s[..., None, :]
    return orthonormal(plus(U, du)), orthonormal(plus(V, dv))


def orthonormal(Q: Pair) -> tuple[Pair, Any]:
    """Q made orthonormal again where the step was long, as it is beside small values (a step is right to first order);
    and I - Q^H Q."""
    R = off_identity(Q)
    for _ in range(ORTHONORMAL):
        if not np.abs(R).max(initial=0.0) > FIRST_ORDER:
            break
        Q = plus(Q, Q.high @ (R * 0.5))
        R = off_identity(Q)
    return Q, R
