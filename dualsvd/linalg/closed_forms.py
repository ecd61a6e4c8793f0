"""The derivative of the singular value decomposition in closed form, in both directions, from the factors.

Notation: A = U diag(S) V^H thin, r = min(m, n); M = U^H dA V, Sy and Sk its Hermitian and skew-Hermitian parts. From
d(U^H U) = 0, d(V^H V) = 0 and dA = dU S V^H + U dS V^H + U S dV^H, compared entry by entry (Townsend 2016; with complex
phases Wan and Zhang 2019), and split so that each singularity stands alone and nothing is squared:

    ds_i = Re M_ii                                                                                   (1)
    a_ij = Sy_ij / (s_j - s_i)  for i != j,   a_ii = 0          singular at ties only                (2)
    b_ij = Sk_ij / (s_j + s_i)                                  singular at two zeros only           (3)
    dU = U (a + b) + (dA V - U M) / s                           the last term only where m > n       (4)
    dV = V (a - b) + (dA^H U - V M^H) / s                       the last term only where n > m       (5)

Gauge: vectors are fixed up to a common phase of u_i and v_i; these tangents have Im(u_i^H du_i + v_i^H dv_i) = 0, the
least possible motion. The pullback is the transpose of (1)-(5) under <X, Y> = Re tr(X^H Y): with sk(Z) = (Z - Z^H)/2,
p = sk(U^H U_bar + V^H V_bar), q = sk(U^H U_bar - V^H V_bar),

    G_ij = p_ij / (s_j - s_i) + q_ij / (s_j + s_i) + delta_ij S_bar_i                                 (6)
    A_bar = U G V^H + ((U_bar - U U^H U_bar) / s) V^H + U ((V_bar - V V^H V_bar) / s)^H                (7)

With full matrices the free part moves by parallel transport: dU_perp = -U ((U_perp^H dA V) / s)^H         (8)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..settings import get
from .blocks import block_cuts, flat_spectrum
from .degeneracy import (
    Spectrum,
    inverse_gaps,
    inverse_sums,
    inverse_values,
    largest_exponent,
    out_of_range,
    scaled,
)
from .kernel_rules import fusible, pull_fused, push_fused
from .matrices import adjoint, diagonal, dyads, flat, with_diagonal
from .ties import split

#: U, S, Vh and their cotangents, of which some may be None.
Factored = tuple[Any, ...]

# ---------------------------------------------------------------------------------------------------------------------
# Thin factors: equations (1) to (7)


def push_thin(U: Any, S: Any, Vh: Any, dA: Any, at: Spectrum) -> tuple[Any, Any, Any]:
    """(dU, dS, dVh) by (1)-(5); what a tie or a zero makes singular counts as 0. By the kernels, block by block, or at
    once."""
    if by_kernels(at, U, Vh, dA):
        return push_fused(U, S, Vh, dA)[0]
    found = block_cuts(U, Vh, dA, directions=len(dA)) if np.ndim(dA) == np.ndim(U) + 1 else []
    return push_blocks(U, S, Vh, dA, at, found) if found else push_products(U, S, Vh, dA, at)


def by_kernels(at: Spectrum, U: Any, *others: Any) -> bool:
    """Whether the kernels take what is left when ties have been seen to, with this spectrum."""
    return fusible(get(), U, *others) and at.absolute and at.tail is None


def push_blocks(U: Any, S: Any, Vh: Any, dA: Any, at: Spectrum, found: list[slice]) -> tuple[Any, Any, Any]:
    """`push_products` block by block."""
    batch, dtype, N = np.shape(S)[:-1], np.result_type(U, dA), len(dA)
    dU, dS, dVh = (np.empty((N, *x.shape), t) for x, t in ((U, dtype), (S, S.dtype), (Vh, dtype)))
    results = flat(dU, batch, 2, 1), flat(dS, batch, 1, 1), flat(dVh, batch, 2, 1)
    U, S, Vh, dA = flat(U, batch, 2), flat(S, batch, 1), flat(Vh, batch, 2), flat(dA, batch, 2, 1)
    at = flat_spectrum(at, batch)
    for cut in found:
        for x, y in zip(results, push_products(U[cut], S[cut], Vh[cut], dA[:, cut], at.of(cut))):
            x[:, cut] = y
    return dU, dS, dVh


def push_products(U: Any, S: Any, Vh: Any, dA: Any, at: Spectrum) -> tuple[Any, Any, Any]:
    """(1)-(5) as products of matrices."""
    m, r = np.shape(U)[-2:]
    n = np.shape(Vh)[-1]
    UhD, V = adjoint(U) @ dA, adjoint(Vh)
    M = UhD @ V
    half, flipped = M * 0.5, adjoint(M) * 0.5
    a = (half + flipped) * inverse_gaps(S, at)
    b = (half - flipped) * inverse_sums(S, at)
    dU, dVh = U @ (a + b), (b - a) @ Vh
    if m > r:
        dU = dU + (dA @ V - U @ M) * inverse_values(S, at)[..., None, :]
    if n > r:
        dVh = dVh + (UhD - M @ Vh) * inverse_values(S, at)[..., :, None]
    return dU, np.real(diagonal(M)).copy(), dVh


def pull_thin(U: Any, S: Any, Vh: Any, U_bar: Any, S_bar: Any, Vh_bar: Any, at: Spectrum) -> Any:
    """A_bar by (6)-(7). A cotangent that is None is skipped, not multiplied by zero. By the kernels, block by block, or
    at once."""
    if U_bar is None and Vh_bar is None:
        fused = by_kernels(at, U, Vh, S_bar)
        return pull_fused(U, S, Vh, None, S_bar, None)[0] if fused else dyads(U, S_bar, Vh)
    if by_kernels(at, U, Vh, U_bar, S_bar, Vh_bar):
        return pull_fused(U, S, Vh, U_bar, S_bar, Vh_bar)[0]
    parts = U, S, Vh, U_bar, S_bar, Vh_bar
    found = block_cuts(U, Vh, S, U_bar, S_bar, Vh_bar)
    return pull_blocks(parts, at, found) if found else pull_products(parts, at)


def pull_blocks(parts: Factored, at: Spectrum, found: list[slice]) -> Any:
    """`pull_products` block by block."""
    U, S, Vh = parts[:3]
    batch = S.shape[:-1]
    A_bar = np.empty((*U.shape[:-1], Vh.shape[-1]), np.result_type(*(x for x in parts if x is not None)))
    result, at = flat(A_bar, batch, 2), flat_spectrum(at, batch)
    stacks = [flat(x, batch, axes) for x, axes in zip(parts, (2, 1, 2, 2, 1, 2))]
    for cut in found:
        result[cut] = pull_products(tuple(None if x is None else x[cut] for x in stacks), at.of(cut))
    return A_bar


def pull_products(parts: Factored, at: Spectrum) -> Any:
    """(6)-(7) as products of matrices."""
    U, S, Vh, U_bar, S_bar, Vh_bar = parts
    m, r = np.shape(U)[-2:]
    n = np.shape(Vh)[-1]
    PU = None if U_bar is None else adjoint(U) @ U_bar
    PV = None if Vh_bar is None else Vh @ adjoint(Vh_bar)
    skU, skV = (0.0 if P is None else (P - adjoint(P)) * 0.5 for P in (PU, PV))
    G = (skU + skV) * inverse_gaps(S, at) + (skU - skV) * inverse_sums(S, at)
    if S_bar is not None:
        G = with_diagonal(G, S_bar)
    left, right = U @ G, None
    if U_bar is not None and m > r:
        left = left + (U_bar - U @ PU) * inverse_values(S, at)[..., None, :]
    if Vh_bar is not None and n > r:
        right = (Vh_bar - adjoint(PV) @ Vh) * inverse_values(S, at)[..., :, None]
    return left @ Vh if right is None else left @ Vh + U @ right


# ---------------------------------------------------------------------------------------------------------------------
# Full factors: equation (8) and its transpose


def push_full(U: Any, S: Any, Vh: Any, dA: Any, at: Spectrum) -> tuple[Any, Any, Any]:
    """(dU, dS, dVh), the free columns by parallel transport (8).

    Where reciprocals may fail, S and dA are brought to order one by powers of two, which is exact.
    """
    if out_of_range(S):
        e, f = largest_exponent(S[..., None]), largest_exponent(dA)
        dU, dS, dVh = push_full(U, scaled(S, -e[..., 0]), Vh, scaled(dA, -f), at)
        return scaled(dU, f - e), scaled(dS, f[..., 0]), scaled(dVh, f - e)
    thin_U, _, thin_Vh, _ = split(U, S, Vh)
    return push_free(U, S, Vh, push_thin(thin_U, S, thin_Vh, dA, at), dA, at)


def push_free(U: Any, S: Any, Vh: Any, thin: tuple[Any, Any, Any], dA: Any, at: Spectrum) -> tuple[Any, Any, Any]:
    """The tangents of thin factors, and beside them those of the free columns, by (8)."""
    U, U_perp, Vh, Vh_perp = split(U, S, Vh)
    dU, dS, dVh = thin
    over_s = inverse_values(S, at)
    if U_perp is not None:
        W = (adjoint(U_perp) @ dA @ adjoint(Vh)) * over_s[..., None, :]
        dU = np.concatenate([dU, -U @ adjoint(W)], axis=-1)
    if Vh_perp is not None:
        W = (adjoint(U) @ dA @ adjoint(Vh_perp)) * over_s[..., :, None]
        dVh = np.concatenate([dVh, -adjoint(W) @ Vh], axis=-2)
    return dU, dS, dVh


def pull_full(U: Any, S: Any, Vh: Any, U_bar: Any, S_bar: Any, Vh_bar: Any, at: Spectrum) -> Any:
    """A_bar, the transpose of `push_full`. S_bar has the units of A_bar."""
    if out_of_range(S) and not (U_bar is None and Vh_bar is None):
        e = largest_exponent(S[..., None])
        U_bar, Vh_bar = (None if bar is None else scaled(bar, -e) for bar in (U_bar, Vh_bar))
        return pull_full(U, scaled(S, -e[..., 0]), Vh, U_bar, S_bar, Vh_bar, at)
    r = np.shape(S)[-1]
    U, U_perp, Vh, Vh_perp = split(U, S, Vh)
    thin_U_bar = None if U_bar is None else U_bar[..., :, :r]
    thin_Vh_bar = None if Vh_bar is None else Vh_bar[..., :r, :]
    A_bar = pull_thin(U, S, Vh, thin_U_bar, S_bar, thin_Vh_bar, at)
    over_s = inverse_values(S, at)
    if U_perp is not None and U_bar is not None:
        W = (adjoint(U_bar[..., :, r:]) @ U) * over_s[..., None, :]
        A_bar = A_bar - U_perp @ W @ Vh
    if Vh_perp is not None and Vh_bar is not None:
        W = (Vh @ adjoint(Vh_bar[..., r:, :])) * over_s[..., :, None]
        A_bar = A_bar - U @ W @ Vh_perp
    return A_bar
