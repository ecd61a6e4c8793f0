"""Singular vectors of a tie in forward mode: the basis that follows the directions.

Along A + t D, t > 0, the values of a group of s > 0 leave it as s + t mu, mu the eigenvalues (descending) of the
Hermitian part of U_g^H D V_g, and the vectors start from its eigenvectors. Values that are null leave zero as t tau,
tau the singular values of B = P D V_0, P the projector on the complement of the other left vectors, and the vectors
start from those of B. In that basis the numerator of every 0/0 of the rules vanishes with its denominator, and the
product rule is exact for all that does not depend on the choice. (Kato 1966, II.2.) What single vectors turn within a
split tie is a matter of second order, N_ij / (2 (mu_j - mu_i)) with N of `second_order`, and the curvature of the path
if it has one: the tangent does not tell it, and it counts as 0.

Several directions refine the basis one after the other; the values then have their lexicographic derivative (Nesterov
2005), the vectors none if the directions do not commute on the tie.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ..errors import DegenerateError
from ..rules.registry import Tracer, primal
from ..settings import Options
from .degeneracy import (
    SPLIT,
    UNEQUAL,
    Spectrum,
    groups_of,
    largest_exponent,
    refine_groups,
    same_group,
    scaled,
    slope_noise,
    spectrum,
    tolerance,
    where_tied,
)
from .factorise import SVDResult, tail_of
from .matrices import adjoint, diagonal, is_plain, on_tape, with_complement


def adapt(U: Any, Vh: Any, at: Spectrum, directions: Any) -> tuple[Any, Any]:
    """U, Vh of one matrix with every tied group turned to follow `directions` (N, m, n), one after the other.

    `directions` may be `UnitDirections`, of which only those are looked at that turn something.
    """
    U, V = U.copy(), np.conj(Vh.T)
    for g in groups_of(at.group):
        if at.null[g.start]:
            others = slice(0, g.start)
            U[:, g], V[:, g] = follow_null(U[:, g], V[:, g], U[:, others], V[:, others], directions)
        elif g.stop - g.start > 1:
            U[:, g], V[:, g] = follow(U[:, g], V[:, g], directions)
    return U, np.conj(V.T)


def follow(U: Any, V: Any, directions: Any, start: int = 0) -> tuple[Any, Any]:
    """The basis of equal positive values: eigenvectors along the first direction (from `start` on), its ties by the
    second ..."""
    k = U.shape[1]
    q = next_direction(directions, start, row_sizes(U), row_sizes(V)) if k > 1 else None
    while q is not None:
        D = directions[q]
        M = np.conj(U.T) @ (D @ V)
        mu, Q = np.linalg.eigh((M + np.conj(M.T)) / 2)
        mu, Q = mu[::-1], Q[:, ::-1]
        cuts = np.flatnonzero(mu[:-1] - mu[1:] > slope_noise(D, k))
        if len(cuts):
            U, V = U @ Q, V @ Q
            bounds = [0, *(cuts + 1).tolist(), k]
            parts = [follow(U[:, a:b], V[:, a:b], directions, q + 1) for a, b in itertools.pairwise(bounds)]
            return np.hstack([u for u, _ in parts]), np.hstack([v for _, v in parts])
        q = next_direction(directions, q + 1, row_sizes(U), row_sizes(V))
    return U, V


def follow_null(U: Any, V: Any, U_other: Any, V_other: Any, directions: Any) -> tuple[Any, Any]:
    """The basis of null values: singular vectors of B along the first direction, its null part by the second ..."""
    if len(U) < len(V):
        V, U = follow_null(V, U, V_other, U_other, flipped(directions))
        return U, V
    taken, done_u, done_v, old = U_other, [], [], U
    q = next_direction(directions, 0, beside_sizes(taken), row_sizes(V))
    while q is not None and V.shape[1]:
        D = directions[q]
        B = D @ V
        B = B - taken @ (np.conj(taken.T) @ B)
        B = B - taken @ (np.conj(taken.T) @ B)  # twice is enough (Parlett): orthogonal to working accuracy
        X, tau, Yh = np.linalg.svd(B, full_matrices=False)
        noise = slope_noise(D, U.shape[1])
        bounds = [0, *(np.flatnonzero((tau[:-1] - tau[1:] > noise) | (tau[1:] <= noise)) + 1).tolist(), len(tau)]
        Y = np.conj(Yh.T)
        grown = int(np.sum(tau > noise))
        X = orthogonal_to(taken, X[:, :grown])
        for a, b in itertools.pairwise(bounds):
            if b <= grown:
                u, v = follow(X[:, a:b], V @ Y[:, a:b], directions, q + 1)
                done_u.append(u)
                done_v.append(v)
        taken = np.hstack([taken, X])
        V = V @ Y[:, grown:]
        q = next_direction(directions, q + 1, beside_sizes(taken), row_sizes(V))
    if V.shape[1]:  # unresolved: any completion will do, so keep near the old one
        rest = old - taken @ (np.conj(taken.T) @ old)
        rest = rest - taken @ (np.conj(taken.T) @ rest)
        done_u.append(np.linalg.svd(rest, full_matrices=False)[0][:, : V.shape[1]])
        done_v.append(V)
    return np.hstack(done_u), np.hstack(done_v)


def orthogonal_to(taken: Any, X: Any) -> Any:
    """Columns in order of descending size, made orthogonal to `taken` and to each other: that of a small tau holds
    rounding errors over tau."""
    Q, R = np.linalg.qr(X - taken @ (np.conj(taken.T) @ X))
    diagonal = np.diagonal(R)
    return Q * (diagonal / np.abs(diagonal))


# ---------------------------------------------------------------------------------------------------------------------
# The directions of a whole Jacobian


class UnitDirections:
    """The directions e_k e_l^T of all entries of a real matrix in their order, none of them stored; `flipped`: their
    transposes in that same order."""

    def __init__(self, m: int, n: int, dtype: Any, flipped: bool = False) -> None:
        self.shape, self.dtype, self.flipped = (m, n), np.dtype(dtype), flipped

    def __getitem__(self, q: int) -> Any:
        D = np.zeros(self.shape, self.dtype)
        D.flat[q] = 1
        return D.T if self.flipped else D

    def next(self, start: int, left: Any, right: Any) -> int | None:
        """The first from `start` on that turns something between U and V with rows of these sizes: |U_k| |V_l|."""
        sizes = np.multiply.outer(right, left) if self.flipped else np.multiply.outer(left, right)
        noise = tolerance(SPLIT, 1, self.dtype) * sizes.size**0.5  # at most `slope_noise`
        telling = sizes.ravel()[start:] > noise
        return start + int(np.argmax(telling)) if telling.any() else None


def next_direction(directions: Any, start: int, left: Any, right: Any) -> int | None:
    """The number of the next direction to look at, or None: none that is not finite, which has NaN for slopes."""
    if isinstance(directions, UnitDirections):
        return directions.next(start, left, right)
    return next((q for q in range(start, len(directions)) if np.isfinite(directions[q]).all()), None)


def flipped(directions: Any) -> Any:
    """The adjoint of every direction."""
    if isinstance(directions, UnitDirections):
        return UnitDirections(*directions.shape, directions.dtype, not directions.flipped)
    return adjoint(directions)


def row_sizes(X: Any) -> Any:
    """|X_k| of every row."""
    return np.sqrt(np.sum(np.abs(X) ** 2, axis=-1))


def beside_sizes(Q: Any) -> Any:
    """|P e_k| for every k, P the projector on the complement of the orthonormal columns of Q."""
    return np.sqrt(np.maximum(0, 1 - np.sum(np.abs(Q) ** 2, axis=-1)))


# ---------------------------------------------------------------------------------------------------------------------
# A stack, thin or full, plain or traced by outer derivatives


def split(U: Any, S: Any, Vh: Any) -> tuple[Any, Any, Any, Any]:
    """U, U_perp, Vh, Vh_perp of full factors; what is absent is None."""
    r = np.shape(S)[-1]
    U_perp = U[..., :, r:] if np.shape(U)[-1] > r else None
    Vh_perp = Vh[..., r:, :] if np.shape(Vh)[-2] > r else None
    return U[..., :, :r], U_perp, Vh[..., :r, :], Vh_perp


def in_adapted_basis(U: Any, Vh: Any, dA: Any, at: Spectrum) -> tuple[Any, Any]:
    """Plain thin U, Vh of a stack, with the tied and null groups of each matrix turned to follow dA (N, ..., m, n);
    `UnitDirections` are those of every matrix."""
    U, Vh = U.copy(), Vh.copy()
    if not isinstance(dA, UnitDirections):
        dA = np.broadcast_to(dA, dA.shape[:1] + U.shape[:-1] + Vh.shape[-1:])
    for index in np.argwhere(at.degenerate).tolist():
        i = tuple(index)
        directions = dA if isinstance(dA, UnitDirections) else dA[(slice(None), *i)]
        U[i], Vh[i] = adapt(U[i], Vh[i], at.of(i), directions)
    return U, Vh


def follow_entries(y: SVDResult, at: Spectrum) -> SVDResult:
    """Plain real thin factors, turned where they are tied to follow the entries of the matrix one after the other."""
    directions = UnitDirections(y.U.shape[-2], y.Vh.shape[-1], y.U.dtype)
    U, Vh = in_adapted_basis(y.U, y.Vh, directions, at)
    return SVDResult(U, y.S, Vh)


def follow_direction(y: SVDResult, dA: Any, at: Spectrum) -> SVDResult:
    """The factors y, thin or full, turned to follow dA where they are tied.

    What turns is decided on primals. Where an outer derivative traces y, it has turned its ties already, and sees a
    constant rotation of what is still tied; what dA leaves tied too follows the motion of its blocks (`second_turn`),
    what it leaves null that of its own (`follow_null_motion`).
    """
    plain = SVDResult(*(primal(x) for x in y))
    U, U_perp, Vh, Vh_perp = split(*plain)
    directions = with_motions(dA) if is_plain(*y) else primal(dA)
    new_U, new_Vh = in_adapted_basis(U, Vh, directions, at)
    still = left_null(y, new_U, new_Vh, primal(dA), at)
    if still is not None:
        follow_null_motion(y, new_U, new_Vh, primal(dA), still)
    if U_perp is not None:
        new_U = np.concatenate([new_U, complete_like(new_U, U_perp, at)], axis=-1)
    if Vh_perp is not None:
        flipped = complete_like(adjoint(new_Vh), adjoint(Vh_perp), at)
        new_Vh = np.concatenate([new_Vh, adjoint(flipped)], axis=-2)
    if is_plain(*y):
        return SVDResult(new_U, plain.S, new_Vh)
    turn_U, turn_V = adjoint(plain.U) @ new_U, new_Vh @ adjoint(plain.Vh)
    U = y.U @ turn_U + (new_U - plain.U @ turn_U)
    Vh = turn_V @ y.Vh + (new_Vh - turn_V @ plain.Vh)
    if still is not None:
        U, Vh = null_beside_others(y, U, Vh, new_U, new_Vh, at)
    left, _, right, _ = split(U, y.S, Vh)
    turn = second_turn(adjoint(left) @ dA @ adjoint(right), at)
    if turn is not None:
        U, Vh = U @ beside_identity(turn, U.shape[-1]), adjoint(beside_identity(turn, Vh.shape[-2])) @ Vh
    return SVDResult(U, with_sign(y.S, turn_U, turn_V, at), Vh)


def with_motions(dA: Any) -> Any:
    """Directions (N, ..., m, n), and behind them those in which outer levels of forward mode move them: what a
    direction leaves tied or null follows its motion."""
    plain, several = primal(dA), [primal(dA)]
    while isinstance(dA, Tracer):
        if hasattr(dA, "_partials"):
            several.append(np.reshape(primal(dA._partials), (-1, *plain.shape[1:])))
        dA = dA.value
    return np.concatenate(several)


def with_sign(S: Any, turn_U: Any, turn_V: Any, at: Spectrum) -> Any:
    """Traced S, of which a null value that passes zero with its sign moves the other way if a vector has turned."""
    r = np.shape(S)[-1]
    sign = np.real(diagonal(turn_U[..., :r, :r]) * diagonal(turn_V[..., :r, :r]))
    turned = at.null & (sign < -0.5)
    if not np.any(turned):
        return S
    plain = primal(S)
    return np.where(turned, (plain + plain) - S, S)


def left_null(y: SVDResult, U: Any, Vh: Any, dA: Any, at: Spectrum) -> Spectrum | None:
    """What is null along all of dA, which plain U, Vh follow, and along the directions of an outer level of forward
    mode; None where no such level traces null values."""
    if not np.any(at.null) or not hasattr(y.S, "_partials"):
        return None
    still = left_on_block(at, adjoint(U) @ dA @ adjoint(Vh))
    if is_plain(y.S.value):
        return still
    if np.any(still.null):
        raise DegenerateError(
            f"singular values that leave zero at second order have no third derivative here ({where_tied(y.S, at)}); "
            f"svdvals_second gives the second; take {SMOOTH}"
        )
    return None


def follow_null_motion(y: SVDResult, U: Any, Vh: Any, dA: Any, still: Spectrum) -> None:
    """Turn plain U, Vh in place where null values leave zero along no direction, inner or outer: `still`.

    Along A + t E they leave it as t^2, with the singular values and vectors of -P E A^+ E V_0 (`second_order`, C), A^+
    the inverse of the rest; and that moves by -P (E A^+ D + D A^+ E) V_0 along D.
    """
    S, (left, _, right, _) = primal(y.S), split(*y)
    moved: Any = primal(((left * y.S[..., None, :]) @ right)._partials)
    along: Any = np.broadcast_to(dA, (len(dA), *moved.shape[1:]))
    positive = still.noise < S
    for index in np.argwhere(still.null[..., -1]).tolist():
        i = tuple(index)
        null, k = groups_of(still.group[i])[-1], int(np.sum(positive[i]))
        inverse = np.conj(Vh[i][:k].T) / S[i][:k] @ np.conj(U[i][:, :k].T)
        outer, inner = (
            [scaled(x, -largest_exponent(x)) for x in several[(slice(None), *i)] if np.isfinite(x).all()]
            for several in (moved, along)
        )
        pairs = [(x, z) for j, x in enumerate(outer) for z in outer[j:]] + [(x, z) for z in inner for x in outer]
        moves = np.array([-(x @ inverse @ z + z @ inverse @ x) for x, z in pairs])
        V, others = np.conj(Vh[i].T), slice(0, null.start)
        u, v = follow_null(U[i][:, null], V[:, null], U[i][:, others], V[:, others], moves)
        U[i][:, null], Vh[i][null] = u, np.conj(v.T)


def null_beside_others(y: SVDResult, U: Any, Vh: Any, new_U: Any, new_Vh: Any, at: Spectrum) -> tuple[Any, Any]:
    """Traced U, Vh whose null vectors have those values, and move as what is orthogonal to those of positive values:
    they may lie outside the span of the old ones."""
    positive = primal(y.S) > at.noise  # an outer direction may have moved others from zero
    left, _, right, _ = split(*y)
    X, Y = left * positive[..., None, :], right * positive[..., :, None]
    null_U, null_V = (
        np.concatenate([at.null, np.zeros((*at.null.shape[:-1], k - at.null.shape[-1]), dtype=bool)], axis=-1)
        for k in (new_U.shape[-1], new_Vh.shape[-2])
    )
    U = np.where(null_U[..., None, :], new_U - X @ (adjoint(X) @ new_U), U)
    return U, np.where(null_V[..., :, None], new_Vh - (new_Vh @ adjoint(Y)) @ Y, Vh)


def second_turn(M: Any, at: Spectrum) -> Any:
    """The rotation (..., r, r) of what is tied along all directions, M (N, ..., r, r) = U^H D V, to follow how outer
    directions move those blocks; or None.

    Values that leave s along A + t D only as t^2 nu / 2 have t nu for slopes there: nu are the eigenvalues of the
    derivative of the block of M by t, and the vectors start from its eigenvectors.
    """
    if not hasattr(M, "_partials"):
        return None
    plain = primal(M)
    left = left_on_block(at, plain)
    if not np.any(left.tied):
        return None
    turn = np.broadcast_to(np.eye(plain.shape[-1], dtype=plain.dtype), plain.shape[1:]).copy()
    moves: Any = np.reshape(primal(M._partials), (-1, *plain.shape[1:]))
    for index in np.argwhere(left.tied).tolist():
        i = tuple(index)
        for g in groups_of(left.group[i]):
            if not left.null[i][g.start]:
                turn[i][:, g] = follow(turn[i][:, g], turn[i][:, g], moves[(slice(None), *i)])[0]
    return turn


def left_on_block(at: Spectrum, M: Any) -> Spectrum:
    """What is still tied or null along directions with the plain M (N, ..., r, r) = U^H D V, in a basis that follows
    them."""
    return refine_groups(at, np.real(diagonal(M)), size_of(M, (0, -2, -1)) * M.shape[-1])


def size_of(x: Any, axes: Any) -> Any:
    """(..., 1): the largest modulus of plain x over these axes, of each matrix by itself."""
    return np.max(np.abs(x), axis=axes, initial=0.0)[..., None]


def beside_identity(turn: Any, k: int) -> Any:
    """A rotation (..., r, r) of the first r of k columns."""
    r = turn.shape[-1]
    whole = np.broadcast_to(np.eye(k, dtype=turn.dtype), (*turn.shape[:-2], k, k)).copy()
    whole[..., :r, :r] = turn
    return whole


def complete_like(Q: Any, old: Any, at: Spectrum) -> Any:
    """The free columns beside Q: the old ones, unless a null group has mixed with them."""
    new = old.copy()
    for index in np.argwhere(at.null[..., -1]).tolist():
        new[tuple(index)] = with_complement(Q[tuple(index)])[:, Q.shape[-1] :]
    return new


def svd_spectrum(y: SVDResult, options: Options) -> Spectrum:
    """The ties that are left when outer derivatives have split some along their directions."""
    return left_by_outer(spectrum(y.S, options, tail_of(y.S, options)), y.S, y.U, y.Vh)


def left_by_outer(at: Spectrum, *factors: Any) -> Spectrum:
    """What is left of the ties `at` of values, the first of these factors, when outer derivatives have split some."""
    while isinstance(factors[0], Tracer) and np.any(at.degenerate):
        if hasattr(factors[0], "_partials"):
            moves, top = primal(factors[0]._partials), size_of(primal(factors[0]), -1)
            vector_motions = [size_of(primal(x._partials), (0, -2, -1)) for x in factors[1:] if hasattr(x, "_partials")]
            at = refine_groups(at, moves, size_of(moves, (0, -1)) + sum(vector_motions) * top)
        factors = tuple(x.value if isinstance(x, Tracer) else x for x in factors)
    return at


# ---------------------------------------------------------------------------------------------------------------------
# Tangents that do not exist


class Unresolved:
    """In place of the tangents of singular vectors that do not exist: whoever uses them is told why.

    Along one direction the vectors of a tie follow that direction. Along several at once no basis follows all, unless
    their blocks commute; the singular values still have their lexicographic derivative, the vectors have none.

    `lost`, which broadcasts over `like`, tells what of it does not exist, if it is not all: the rest may be read.
    """

    __slots__ = ("dtype", "known", "lost", "message", "shape")

    def __init__(self, like: Any, message: str, lost: Any = None) -> None:
        self.shape, self.dtype, self.message = np.shape(like), primal(like).dtype, message
        self.known: Any = None if lost is None else like
        self.lost = lost

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise DegenerateError(self.message)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """What an array tells of itself; anything else would use it."""
        if function not in (np.shape, np.ndim, np.size, np.result_type, np.iscomplexobj):
            self.refuse()
        stand_in = np.broadcast_to(np.zeros((), self.dtype), self.shape)
        return function(*(stand_in if x is self else x for x in args), **kwargs)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        if self.lost is None or np.broadcast_to(self.lost, self.shape)[index].any():
            self.refuse()
        return self.known[index]

    def __repr__(self) -> str:
        return f"<unresolved tangent of shape {self.shape}>"

    __array_ufunc__ = __array__ = __iter__ = __float__ = refuse
    __add__ = __radd__ = __mul__ = __rmul__ = __sub__ = __rsub__ = __matmul__ = __rmatmul__ = __neg__ = refuse


def masked(d: Any, lost: Any, message: str) -> Unresolved:
    """The tangent d without what is `lost`, which broadcasts over it, nor what it lacks already."""
    if isinstance(d, Unresolved):
        return d if d.lost is None else Unresolved(d.known, d.message, d.lost | lost)
    return Unresolved(d, message, lost)


def without(dU: Any, dVh: Any, lost: Any, message: str) -> tuple[Unresolved, Unresolved]:
    """The tangents of singular vectors without those of the vectors `lost` (..., r), and of free columns."""
    lost_U, lost_V = (
        np.concatenate([lost, np.ones((*lost.shape[:-1], k - lost.shape[-1]), dtype=bool)], axis=-1)
        for k in (np.shape(dU)[-1], np.shape(dVh)[-2])
    )
    return masked(dU, lost_U[..., None, :], message), masked(dVh, lost_V[..., :, None], message)


def unresolved(M: Any, rest: Any, at: Spectrum, noise: Any) -> Any:
    """(N, ..., r): whose tangents along a direction ask for a part of the basis that the adapted one cannot give.

    M (N, ..., r, r) = U^H D V in that basis, `rest` by `outside`, noise (N, ..., 1, 1) what counts as nothing.
    """
    off = same_group(at) & ~np.eye(M.shape[-1], dtype=bool)
    null = at.null[..., :, None] & at.null[..., None, :]
    Sy = (M + adjoint(M)) / 2
    asked = off & (np.abs(np.where(null, M, Sy)) > noise)
    lost = asked.any(axis=-1) | asked.any(axis=-2)
    return lost if rest is None else lost | (at.null & (np.max(np.abs(rest), axis=-2) > noise[..., 0]))


def other_slopes(dS: Any, given: Any, dA: Any) -> Any:
    """(N, ..., r): where the slopes of values in two bases differ."""
    dS, given, dA = primal(dS), primal(given), primal(dA)
    return np.abs(dS - given) > slope_noise(dA, min(dA.shape[-2:]), UNEQUAL)[..., None]


def outside(U: Any, Vh: Any, dA: Any, M: Any) -> Any:
    """What dA makes of each thin right vector outside the range of U, as columns, or of each left one outside that of
    V; None if the matrix is square."""
    m, r = np.shape(U)[-2:]
    if m > r:
        return dA @ adjoint(Vh) - U @ M
    return adjoint(adjoint(U) @ dA - M @ Vh) if np.shape(Vh)[-1] > r else None


def motions(x: Any, tag: int) -> Any:
    """The plain partials of x at that level of forward mode, or None."""
    while isinstance(x, Tracer):
        if x.tag == tag:
            return primal(x._partials)
        x = x.value
    return None


def turning(y: SVDResult, dA: Any, at: Spectrum) -> Any:
    """(..., r): the vectors of ties and zeros that turn as outer derivatives move the block of dA that they follow; by
    how much is not known here. Where a tape traces dA, that may be all."""
    U, _, Vh, _ = split(*y)
    if on_tape(dA):
        tall_or_wide = np.shape(U)[-2] != np.shape(Vh)[-1]
        return at.shared | (at.null & tall_or_wide)
    M, lost = adjoint(U) @ dA @ adjoint(Vh), np.zeros(np.shape(y.S), dtype=bool)
    rest, level = outside(U, Vh, dA, M), M
    while isinstance(level, Tracer):
        if hasattr(level, "_partials"):
            dM, dR, *parts = (motions(x, level.tag) for x in (M, rest, dA, U, Vh))
            size = turning_noise(primal(dA), *parts)
            dM, dR = (None if x is None else x.reshape(-1, *x.shape[2:]) for x in (dM, dR))
            lost = lost | unresolved(dM, dR, at, size).any(axis=0)
        level = level.value
    return lost


def turning_noise(dA: Any, ddA: Any, dU: Any, dVh: Any) -> Any:
    """(..., 1, 1): what counts as nothing in U^H dA V when its factors move so."""
    r = min(dA.shape[-2:])
    turn = sum(size_of(x, (0, -2, -1)) for x in (dU, dVh) if x is not None)
    noise = turn * np.max(slope_noise(dA, r, UNEQUAL), axis=0, initial=0.0)[..., None]
    if ddA is not None:
        noise = noise + np.max(slope_noise(ddA, r, UNEQUAL), axis=(0, 1), initial=0.0)[..., None]
    return noise[..., None]


#: what to take in place of the vectors, in messages
SMOOTH = "a function that is smooth there (polar, pinv, low_rank, range_projector, spectral_function, norms)"


def split_by_outer(vectors: str, where: str, values: str) -> str:
    """What to say where vectors have no second derivative."""
    return (
        f"an outer direction splits {where}, where {vectors} have no second derivative; take {SMOOTH}, whose second "
        f"derivatives are exact, or the values alone ({values})"
    )


def lost_directions(y: SVDResult, dA: Any, at: Spectrum) -> str | None:
    """What to say if some direction asks for a part of the tangents of the vectors that does not exist."""
    U, S, Vh, dA = (primal(x) for x in (*y, dA))
    U, _, Vh, _ = split(U, S, Vh)
    M = adjoint(U) @ dA @ adjoint(Vh)
    noise = slope_noise(dA, U.shape[-1], UNEQUAL)[..., None, None]
    if not unresolved(M, outside(U, Vh, dA, M), at, noise).any():
        return None
    followed = unfollowed("singular vectors", where_tied(S, at), len(dA))
    return f"{followed}, or use {SMOOTH}, or svdvals for the values"


def turned_on(vectors: str, where: str, values: str) -> str:
    """What to say where the direction that a tie follows moves."""
    return (
        f"an outer derivative moves the direction that the {vectors} follow at {where}, and with it their basis: its "
        f"derivative is not known; take {SMOOTH}, or the values alone ({values})"
    )


def unfollowed(vectors: str, where: str, directions: int) -> str:
    """What to say where the basis of a tie does not follow all directions."""
    if directions > 1:
        return (
            f"the {vectors} have no derivative along {directions} directions at once at {where}: no basis of the tie "
            "follows all of them; carry one direction at a time (chunk=1, or jvp)"
        )
    return (
        f"the {vectors} were given in a basis of the tie that does not follow this direction, along which they have no "
        f"derivative at {where}; take dualsvd.jvp of the whole function, which turns them first"
    )
