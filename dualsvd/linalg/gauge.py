"""Which cotangents of singular vectors have a derivative.

Singular vectors are determined up to signs, phases, bases of ties and bases of the free columns. A function that does
not depend on these has a cotangent with no component along them; one that has is refused (GaugeError). At a tie there
is more: the derivative within the tied block, f'(s) Sy, is not contained in the cotangents of U, S and V, whatever
they are; so what they leave open is refused too (DegenerateError), unless they vanish there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DegenerateError, GaugeError
from ..rules.registry import primal
from ..settings import Options
from .degeneracy import GAUGE, Spectrum, groups_of, object_to, of_matrix, tolerance
from .factorise import SVDResult
from .matrices import adjoint, diagonal, is_plain
from .ties import split

REMEDY = (
    "use polar, pinv, low_rank, range_projector, singular_value_threshold, spectral_function or a norm, which are "
    'exact there, or forward mode, or vouch with ties="subspace" that the result depends on the spectral subspaces only'
)


def is_zero(x: Any) -> bool:
    """Whether a cotangent is plain and zero, so that its terms can be skipped."""
    return is_plain(x) and not np.any(x)


def admit(y: SVDResult, U_bar: Any, S_bar: Any, Vh_bar: Any, at: Spectrum, options: Options) -> None:
    """Raise GaugeError or DegenerateError for a cotangent whose pullback would be arbitrary or wrong."""
    U, S, Vh, U_bar, S_bar, Vh_bar = (primal(x) for x in (*y, U_bar, S_bar, Vh_bar))
    U, U_perp, Vh, Vh_perp = split(U, S, Vh)
    r = S.shape[-1]
    limit = tolerance(GAUGE, r, S.dtype)
    if U_perp is not None and U_bar is not None:
        admit_free(U_perp, U_bar[..., :, r:], limit, "U", options)
    if Vh_perp is not None and Vh_bar is not None:
        admit_free(adjoint(Vh_perp), adjoint(Vh_bar[..., r:, :]), limit, "V", options)
    u_bar = None if U_bar is None else U_bar[..., :, :r]
    v_bar = None if Vh_bar is None else adjoint(Vh_bar[..., :r, :])
    degenerate = bool(np.any(at.degenerate))
    if not degenerate and not np.iscomplexobj(U):
        return
    P = np.zeros((*S.shape, r), dtype=U.dtype)
    sizes = np.zeros_like(S)
    for Q, bar in ((U, u_bar), (adjoint(Vh), v_bar)):
        if bar is not None:
            P = P + adjoint(Q) @ bar
            sizes = sizes + np.max(np.abs(bar), axis=-2)
    skew = np.abs(P - adjoint(P)) * 0.5
    if np.iscomplexobj(U):
        admit_phases(diagonal(skew), sizes, limit, options)
    if degenerate:
        admit_ties(y, S_bar, skew, sizes, limit, at, options)


def admit_free(Q: Any, bar: Any, limit: float, name: str, options: Options) -> None:
    """The free columns are defined up to a unitary factor: their cotangent must not see one."""
    P = adjoint(Q) @ bar
    skew, size = np.abs(P - adjoint(P)) * 0.5, np.max(np.abs(bar), initial=0.0)
    if np.any(skew > limit * size):
        object_to(
            GaugeError,
            f"the derivative depends on the arbitrary basis of the free columns of {name} (full_matrices=True): "
            f"|sk(Q^H Q_bar)| = {skew.max():.1e} of {size:.1e}; use a function of the projector Q Q^H, or "
            "full_matrices=False",
            options,
        )


def admit_phases(
    skew: Any,
    sizes: Any,
    limit: float,
    options: Options,
    vectors: str = "the pair of singular vectors",
    product: str = "u^H u_bar + v^H v_bar",
    change: str = "u and v are multiplied by a common phase (u v^H, |u|, singular values)",
) -> None:
    """The phase of each vector, or pair, must not matter; the words are for the message."""
    bad = np.argwhere(skew > limit * sizes)
    if len(bad):
        i = tuple(bad[0].tolist())
        object_to(
            GaugeError,
            f"the derivative depends on the arbitrary phase of {vectors} {i[-1] + 1}{of_matrix(i[:-1])}: "
            f"|Im({product})| = {skew[i]:.1e} of {sizes[i]:.1e}; use a function that does not change when {change}",
            options,
        )


def admit_ties(y: SVDResult, S_bar: Any, skew: Any, sizes: Any, limit: float, at: Spectrum, options: Options) -> None:
    """Within a tie the vectors are an arbitrary basis, and the values are not differentiable one by one."""
    S = primal(y.S)
    one_passes = signed_zeros(y)
    for index in np.argwhere(at.degenerate).tolist():
        i = tuple(index)
        for g in groups_of(at.group[i]):
            null, k = bool(at.null[i][g.start]), g.stop - g.start
            if k == 1 and (one_passes or not null):
                continue
            names = f"sigma_{g.start + 1}" + (f" ... sigma_{g.stop}" if k > 1 else "")
            gap = S[i][g.start] - S[i][g.stop - 1]
            what = f"{names} = {S[i][g.start]:.6g} (gap {gap:.1e}){of_matrix(i)}"
            size = sizes[i][g]
            if not null:
                admit_basis(what, skew[i][g, g], size, limit, options)
            if S_bar is not None:
                scale = max(float(np.max(np.abs(S_bar[i]))), float(np.max(size)))
                admit_values(what, S_bar[i][g], scale, null, limit, options)
            if np.any(size > limit * np.max(sizes[i])):
                object_to(
                    DegenerateError,
                    f"the cotangent of the singular vectors does not determine the derivative at {what}: the part of "
                    f"the tied block that it leaves out may be of order one; {REMEDY}",
                    options,
                    vouched=True,
                )


def signed_zeros(y: SVDResult) -> bool:
    """Whether a single zero is smooth with its sign: in a real square matrix."""
    return bool(np.shape(y.U)[-2] == np.shape(y.Vh)[-1] and not np.iscomplexobj(y.U))


def admit_basis(what: str, skew: Any, sizes: Any, limit: float, options: Options) -> None:
    """The basis of one tie must not matter."""
    worst, size = float(np.max(skew, initial=0.0)), float(np.max(sizes))
    if worst > limit * size:
        object_to(
            GaugeError,
            f"the derivative depends on the arbitrary basis of the singular vectors of {what}: "
            f"|sk(U^H U_bar + V^H V_bar)| = {worst:.1e} of {size:.1e} within the tie; {REMEDY}",
            options,
        )


def admit_values(what: str, s_bar: Any, scale: float, null: bool, limit: float, options: Options) -> None:
    """The values of one tie must have equal cotangents, those of zeros none, to rounding of the `scale`."""
    spread = float(np.max(np.abs(s_bar)) if null else np.max(s_bar) - np.min(s_bar))
    if spread > limit * scale:
        object_to(
            DegenerateError,
            f"the ordered singular values are not differentiable at {what}, and their cotangents "
            f"{'are not zero' if null else 'differ'} there ({', '.join(f'{x:.3g}' for x in s_bar[:4])}"
            f"{', ...' if len(s_bar) > 4 else ''}); for a subgradient use opnorm, nuclear_norm or svdvals; with "
            f"singular vectors in the function too, {REMEDY}",
            options,
        )
