"""The largest singular value of large matrices by its pair of vectors alone, to second order.

With s = u^H A v simple, the value moves by Re u^H dA v and its gradient is the dyad u v^H. For the motion of the dyad
along D, multiply A v = s u and A^H u = s v out to first order and project off u and v:

    (s^2 - A^H A) dv = s P_v D^H u + A^H P_u D v,      dv in the complement of v                                    (1)
    du = (P_u D v + A dv) / s
    d(u v^H) = du v^H + u dv^H + i Im(u^H D v) / s  u v^H                                                           (2)

The operator of (1) is positive definite there, with the condition s^2 / (s^2 - s_2^2); conjugate gradients solve it by
products with A. (Magnus and Neudecker, Matrix Differential Calculus, 1988, section 8.8, have (1) for eigenvectors.)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import NonFiniteError
from ..settings import Options
from .degeneracy import TIE, tolerance
from .factorise import SVDResult, finite_part, svd_factors
from .lanczos import Leading, leading
from .operators import Operator, conj

#: the shorter side from which on the Krylov process is tried; measured by tests/benchmarks/crossover.py
KRYLOV_SIZE = 256


class Tops:
    """For each matrix of a stack its top pair, or all its factors where a pair does not do."""

    def __init__(self, each: list[Leading | SVDResult]) -> None:
        self.each = each
        self._factors: SVDResult | None = None

    @property
    def pairs(self) -> list[Leading]:
        """The pairs, where each matrix has one and they alone tell the derivatives; else none."""
        pairs = [top for top in self.each if isinstance(top, Leading)]
        return pairs if len(pairs) == len(self.each) else []

    def factors(self, a: Any, options: Options) -> SVDResult:
        """All factors of the stack that these are the tops of, made when they are first asked for."""
        if self._factors is None:
            self._factors = svd_factors(a, options)
        return self._factors


def by_top_pair(a: Any, options: Options) -> bool:
    """Whether the Krylov process is tried first: where nobody asked for another way."""
    free = options.algorithm == "auto" and options.tangents == "closed-form" and not options.refine
    return free and min(a.shape[-2:]) >= KRYLOV_SIZE and a.size > 0


def top_pairs(a: Any, options: Options) -> list[Leading | None]:
    """The top pair of each matrix; None where its value is tied, zero, crowded or not finite, for the SVD to settle."""
    try:
        return [top_pair(matrix) for matrix in stack(a)]
    except NonFiniteError:
        finite, bad = finite_part(a, options)  # says where, if that is to be an error
        return [None if spoilt else top_pair(matrix) for matrix, spoilt in zip(stack(finite), bad.ravel())]


def top_pair(a: Any) -> Leading | None:
    """That of one matrix. Tied is what the rules take for it, and what is closer than the certificate tells apart."""
    found = leading(a)
    if found is None:
        return None
    noise = tolerance(TIE, min(a.shape), found.u.dtype) * found.sigma
    return found if found.sigma - found.second > max(noise, found.residual) else None


def stack(a: Any) -> Any:
    """(..., m, n) with one axis before the matrices."""
    return np.reshape(a, (-1, *np.shape(a)[-2:]))


# ---------------------------------------------------------------------------------------------------------------------
# The dyad, and its derivative by conjugate gradients


def top_dyads(pairs: list[Leading], a: Any) -> Any:
    """u v^H of each matrix."""
    return np.reshape(np.stack([top.u[:, None] * np.conj(top.v) for top in pairs]), a.shape)


def moved_dyads(pairs: list[Leading], a: Any, D: Any) -> Any:
    """d(u v^H) of each matrix along D (..., of the shape of a); None where (1) is too ill-conditioned to iterate."""
    D = np.broadcast_to(D, np.broadcast_shapes(np.shape(D), np.shape(a)))
    along = np.reshape(D, (-1, len(pairs), *a.shape[-2:]))
    result = np.empty(along.shape, np.result_type(a, D))
    for i, (top, matrix) in enumerate(zip(pairs, stack(a))):
        operator = Operator(matrix)
        left, right = (conj(top.v), conj(top.u)) if operator.wide else (top.u, top.v)  # those of X
        for direction, dyad in zip(along[:, i], result[:, i]):
            moved = moved_pair(operator, top.sigma, left, right, direction.T if operator.wide else direction)
            if moved is None:
                return None
            d_left, d_right = moved
            du, dv = (conj(d_right), conj(d_left)) if operator.wide else moved
            np.multiply(du[:, None], np.conj(top.v), out=dyad)
            dyad += top.u[:, None] * np.conj(dv)
    return np.reshape(result, D.shape)


def moved_pair(operator: Operator, sigma: float, u: Any, v: Any, D: Any) -> tuple[Any, Any] | None:
    """(2) for X, its vectors u and v: du, the turn of the phase included, and dv."""
    u, v = (x.astype(operator.dtype, copy=False) for x in (u, v))
    s = math.ldexp(sigma, -operator.exponent)
    Dv, Du = D @ v, conj(conj(u) @ D)
    size = float(max(np.abs(Dv).max(), np.abs(Du).max())) or 1.0
    Dv, Du = Dv / size, Du / size  # squares stay in range, whatever the direction
    slope = np.vdot(u, Dv)
    Dv, Du = Dv - u * slope, Du - v * np.vdot(v, Du)
    dv = conjugate_gradients(operator, s, v, s * Du + operator.back(Dv))
    if dv is None:
        return None
    du = (Dv + operator.image(dv)) / s
    turn = 1j * slope.imag / s if operator.dtype.kind == "c" else 0.0
    size = math.ldexp(size, -operator.exponent)
    return (du - u * np.vdot(u, du) + turn * u) * size, dv * size


def conjugate_gradients(operator: Operator, s: float, v: Any, b: Any) -> Any:
    """x in the complement of v with (s^2 - X^H X) x = b; None where that takes more steps than x has numbers."""
    r = b - v * np.vdot(v, b)
    x, p, square = np.zeros_like(r), r.copy(), np.vdot(r, r).real
    enough = operator.eps**2 * square
    for _ in range(len(b)):
        if square <= enough:
            return x
        q = s**2 * p - operator.gram(p[None])[0]
        q -= v * np.vdot(v, q)
        step = square / np.vdot(p, q).real
        x += step * p
        r -= step * q
        before, square = square, np.vdot(r, r).real
        p = r + (square / before) * p
    return None
