"""The one-sided second derivative of the ordered singular values, at any multiplicity.

Along A + t D, t > 0, with M = U^H D V, Sy and Sk its Hermitian and skew-Hermitian parts, R = D V - U M and
R' = D^H U - V M^H:

Values equal to s > 0 (columns 1, all others o) leave as s + t mu + t^2 nu / 2. The mu are the eigenvalues of Sy_11;
within a group of equal mu, with eigenvectors Q, the nu are those of Q^H N Q,

    N = 2 Sy_1o (s - S_o)^-1 Sy_o1 + 2 Sk_1: (s + S)^-1 Sk_1:^H + R_1^H R_1 / s + R'_1^H R'_1 / s
      = 4 s Sy_1o (s^2 - S_o^2)^-1 Sy_o1 - 2 herm(M_1o (s + S_o)^-1 M_o1) + Sk_11 Sk_11^H / s + the same            (1)

The second form does not cancel where s is far below S_o, and Sy and Sk are alike but for tiny parts. R is nothing but
rounding if U is square, R' if V is.

Null values (columns 0) are the singular values of t B - t^2 C, B = P D V_0, C = P D V_1 S_1^-1 U_1^H D V_0, P the
projector on the complement of U_1. With B = x tau y^H: for equal tau > 0 the nu are the eigenvalues of
-2 herm(x^H C y); where tau = 0 they are twice the singular values of C y_0 outside the range of x.                  (2)

(Second-order perturbation, Kato 1966, II.2, of [[0, A], [A^H, 0]].)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import MissingRuleError, ShapeError
from ..rules.registry import missing
from ..settings import get
from .degeneracy import Spectrum, groups_of, largest_exponent, scaled, slope_noise, spectrum
from .factorise import SVDResult, finite_part, spoil, svd_factors, tail_of
from .matrices import adjoint, as_matrix, is_plain


def svdvals_second(a: Any, da: Any) -> Any:
    """The one-sided second derivative (..., r) of the ordered singular values of a (..., m, n) along da.

    It has the units of da^2 / a. With it, S(A + t D) = S + t S' + t^2 S'' / 2 + o(t^2) for t > 0, in order, through
    ties and zeros of any kind. NaN along a direction that is not finite. Where algorithm="jacobi" serves a graded
    matrix, each has the size of its own value, and its digits as far as the tiny components of the singular vectors are
    known.

    Raises MissingRuleError for traced arrays, which have no third derivative here; ShapeError, DTypeError,
    NonFiniteError, ConvergenceError. Source: Kato 1966, II.2.

    >>> import numpy as np, dualsvd as ds
    >>> ds.linalg.svdvals_second(np.diag([2.0, 1.0]), np.array([[0.0, 1.0], [1.0, 0.0]]))
    array([ 2., -2.])
    """
    if not is_plain(a, da):
        raise MissingRuleError(missing("svdvals_second"))
    a, da = as_matrix(a), as_matrix(da, "da")
    if a.shape != da.shape:
        raise ShapeError(f"da must have the shape {a.shape} of a, got {da.shape}")
    options = get()
    finite, bad = finite_part(a, options)
    e, f = largest_exponent(finite), largest_exponent(da)
    factors = svd_factors(scaled(finite, -e), options)
    at = spectrum(factors.S, options, tail_of(factors.S, options))
    D = scaled(da, -f)
    result = np.full_like(factors.S, np.nan)  # what is left along directions that are not finite
    for index in np.argwhere(np.isfinite(D).all(axis=(-2, -1))).tolist():
        i = tuple(index)
        result[i] = second_of_one(SVDResult(*(x[i] for x in factors)), D[i], at.of(i))
    return spoil((scaled(result, (2 * f - e)[..., 0]),), bad)[0]


def second_of_one(factors: SVDResult, D: Any, at: Spectrum) -> Any:
    """The second derivatives of one matrix."""
    U, S, Vh = factors
    V = adjoint(Vh)
    M = adjoint(U) @ D @ V
    Sy, Sk = (M + adjoint(M)) / 2, (M - adjoint(M)) / 2
    R, R_right = D @ V - U @ M, adjoint(D) @ U - V @ adjoint(M)
    noise = slope_noise(D, U.shape[1])
    result = np.empty_like(S)
    for g in groups_of(at.group):
        if at.null[g.start]:
            result[g] = second_at_zero(U[:, : g.start], S[: g.start], V[:, : g.start], V[:, g], D, noise)
            continue
        s = S[g].mean()
        o = np.ones(len(S), dtype=bool)
        o[g] = False
        gap = s - S[o]
        if at.tail is not None:
            gap = gap + (at.tail[g].mean() - at.tail[o])
        crossed = M[g][:, o] / (s + S[o]) @ M[o][:, g]
        N = 4 * s * (Sy[g][:, o] / gap / (s + S[o])) @ Sy[o][:, g] - crossed - adjoint(crossed)
        N = N + Sk[g, g] @ adjoint(Sk[g, g]) / s
        if len(U) > len(S):
            N = N + adjoint(R[:, g]) @ R[:, g] / s
        if len(V) > len(S):
            N = N + adjoint(R_right[:, g]) @ R_right[:, g] / s
        mu, Q = np.linalg.eigh(Sy[g, g])
        result[g] = by_groups(mu[::-1], Q[:, ::-1], N, noise)
    return result


def by_groups(mu: Any, Q: Any, N: Any, noise: float) -> Any:
    """For each group of equal mu (descending), the eigenvalues, descending, of Q^H N Q on its columns of Q."""
    nu = np.empty_like(mu)
    for g in groups_of(np.concatenate([[0], np.cumsum(mu[:-1] - mu[1:] > noise)])):
        block = adjoint(Q[:, g]) @ N @ Q[:, g]
        nu[g] = np.linalg.eigvalsh((block + adjoint(block)) / 2)[::-1]
    return nu


def second_at_zero(U: Any, S: Any, V: Any, V_null: Any, D: Any, noise: float) -> Any:
    """Equation (2): U, S, V hold the positive values, V_null the right vectors of the null ones."""
    if len(U) < len(V):
        W = np.linalg.qr(U, mode="complete")[0][:, U.shape[1] :] if U.shape[1] else np.eye(len(U), dtype=D.dtype)
        return second_at_zero(V, S, U, W, adjoint(D), noise)

    def outside(X: Any, *spaces: Any) -> Any:
        for Q in (*spaces, *spaces):  # twice is enough
            X = X - Q @ (adjoint(Q) @ X)
        return X

    B = outside(D @ V_null, U)
    C = outside((D @ V) @ ((adjoint(U) @ D @ V_null) / S[:, None]), U)
    x, tau, yh = np.linalg.svd(B, full_matrices=False)
    k = int(np.sum(tau > noise))
    left = C @ adjoint(yh)
    nu = np.empty_like(tau)
    nu[:k] = by_groups(tau[:k], np.eye(len(tau), k), -2 * (adjoint(x) @ left), noise)
    nu[k:] = 2 * np.linalg.svd(outside(left[:, k:], x[:, :k]), compute_uv=False)
    return nu
