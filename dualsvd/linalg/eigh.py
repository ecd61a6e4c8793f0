"""Eigenvalues and eigenvectors of Hermitian matrices, with their derivatives in both directions.

A = Q diag(w) Q^H, M = Q^H dA Q with dA Hermitian (Magnus 1985):

    dw_i = M_ii,      dQ = Q X,   X_ij = M_ij / (w_j - w_i),  X_ii = 0                               (1)
    A_bar = Q (diag(w_bar) + sk(Q^H Q_bar) / (w_j - w_i)) Q^H                                        (2)

At ties the same holds as for singular values: forward mode turns the tied eigenvectors to follow the direction, reverse
mode refuses what depends on their arbitrary basis. The functions are those of the Hermitian part (A + A^H) / 2, so the
gradient is Hermitian too. NumPy's own names read one triangle of the matrix, and so do their derivatives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import DegenerateError, GaugeError
from ..rules.levels import need_all_directions
from ..rules.registry import Rule, Tracer, implements, primal
from ..settings import Options, get, resolve
from .degeneracy import (
    GAUGE,
    UNEQUAL,
    Spectrum,
    eigen_spectrum,
    groups_of,
    inverse_gaps,
    object_to,
    of_matrix,
    parted,
    same_group,
    slope_noise,
    spectrum,
    tolerance,
)
from .factorise import EighResult, SVDResult, eigh_factors, recall, remember
from .gauge import admit_phases, is_zero
from .matrices import (
    adjoint,
    as_square,
    diagonal,
    dyads,
    from_triangle,
    hermitian_part,
    is_plain,
    on_tape,
    with_diagonal,
)
from .scaling import from_range, in_range
from .svd import values_along
from .tied_values import (
    change_by,
    check_sloped,
    known_curvature,
    least_weights,
    smooth_dyads,
    take_slopes,
)
from .ties import (
    Unresolved,
    follow,
    left_by_outer,
    masked,
    other_slopes,
    second_turn,
    split_by_outer,
    turned_on,
    turning,
    unfollowed,
    with_motions,
)


def eigh_function(a: Any, *, options: Options | None = None) -> EighResult:
    """w, Q of the Hermitian part of plain matrices."""
    return eigh_factors(hermitian_part(a), options or get())


def eigh_left_tied(y: EighResult) -> Spectrum:
    """The ties that are left when outer derivatives have split some along their directions."""
    return left_by_outer(eigen_spectrum(y.eigenvalues), *y)


def eigh_turned(y: EighResult, dA: Any, at: Spectrum) -> EighResult:
    """The factors with tied eigenvectors turned to follow the Hermitian dA (N, ..., n, n)."""
    Q, along, dA = primal(y.eigenvectors), dA, with_motions(dA) if is_plain(*y) else primal(dA)
    turned = Q.copy()
    dA = np.broadcast_to(dA, dA.shape[:1] + Q.shape)
    for index in np.argwhere(at.tied).tolist():
        i = tuple(index)
        for g in groups_of(at.group[i]):
            block = turned[i][:, g]
            turned[i][:, g] = follow(block, block, -dA[(slice(None), *i)])[0]  # follow() sorts descending
    if is_plain(*y):
        return EighResult(y.eigenvalues, turned)
    Q = y.eigenvectors @ (adjoint(Q) @ turned)
    turn = second_turn(-(adjoint(Q) @ along @ Q), at)
    return EighResult(y.eigenvalues, Q if turn is None else Q @ turn)


def eigh_push(y: EighResult, dA: Any, at: Spectrum) -> tuple[Any, Any]:
    """(dw, dQ) by (1); dQ is `Unresolved` where there is none."""
    w, Q = y
    M = adjoint(Q) @ dA @ Q
    first = eigen_spectrum(w) if isinstance(w, Tracer) else at
    dw, dQ = np.real(diagonal(M)).copy(), Q @ (M * inverse_gaps(w, first))
    if not np.any(first.tied):
        return dw, dQ
    lost = parted(first, at)
    if lost.any():
        dQ = masked(dQ, lost[..., None, :], split_by_outer("eigenvectors", tie_of(primal(w), first), "eigvalsh"))
    if not np.any(at.tied):
        return dw, dQ
    message = eigh_lost(y, dA, at)
    if message is not None:
        return dw, Unresolved(dQ, message)
    lost = turning(SVDResult(Q, w, adjoint(Q)), dA, at)
    if lost.any():
        dQ = masked(dQ, lost[..., None, :], turned_on("eigenvectors", tie_of(primal(w), at), "eigvalsh"))
    return dw, dQ


def eigh_lost(y: EighResult, dA: Any, at: Spectrum) -> str | None:
    """What to say if some direction asks for a part of the tangents of the vectors that does not exist."""
    w, Q, dA = (primal(x) for x in (*y, dA))
    M = adjoint(Q) @ dA @ Q
    n = w.shape[-1]
    noise = slope_noise(dA, n, UNEQUAL)[..., None, None]
    if not np.any(same_group(at) & ~np.eye(n, dtype=bool) & (np.abs(M) > noise)):
        return None
    return unfollowed("eigenvectors", tie_of(w, at), len(dA)) + ", or eigvalsh for the values"


def tie_of(w: Any, at: Spectrum) -> str:
    """'eigenvalues 1 and 2, 2 and 2 (gap 0.0e+00) of matrix 3': the first tie, for messages."""
    i = tuple(np.argwhere(np.diff(at.group, axis=-1) == 0)[0].tolist())
    low, high = w[i], w[(*i[:-1], i[-1] + 1)]
    gap = f"(gap {high - low:.1e}){of_matrix(i[:-1])}"
    return f"eigenvalues {i[-1] + 1} and {i[-1] + 2}, {low:.6g} and {high:.6g} {gap}"


def eigh_meet_tie(w: Any, at: Spectrum, options: Options) -> None:
    """What ties="raise" and ties="warn" say where eigenvalues meet, in both modes."""
    if options.ties in ("raise", "warn"):
        object_to(
            DegenerateError,
            f"{tie_of(primal(w), at)} meet: only one-sided directional derivatives exist there; "
            'take ties="directional" for those',
            options,
        )


def eigh_jvp(operands: Any, tangents: Any, *, options: Options | None = None) -> tuple[EighResult, tuple[Any, Any]]:
    """The factors in the basis that follows the direction, and their tangents."""
    (a,), dA, options = operands, hermitian_part(tangents[0]), options or get()
    y = EighResult(*EIGH(a, options=options))
    at = eigh_left_tied(y)
    if not np.any(at.tied):
        return y, eigh_push(y, dA, at)
    eigh_meet_tie(y.eigenvalues, at, options)
    need_all_directions(dA)
    turned = eigh_turned(y, dA, at)
    dw, dQ = eigh_push(turned, dA, at)
    if not on_tape(a):
        return turned, (dw, dQ)
    w, dw = eigenvalues_along(a, dA, y.eigenvalues, options)
    return EighResult(w, turned.eigenvectors), (dw, dQ)


def eigh_pushforward(y: Any, operands: Any, tangents: Any, *, options: Options | None = None) -> tuple[Any, Any]:
    """Tangents of factors that are given and cannot turn."""
    y, (a,), dA, options = EighResult(*y), operands, hermitian_part(tangents[0]), options or get()
    at = eigh_left_tied(y)
    given, dQ = eigh_push(y, dA, at)
    if not np.any(at.tied):
        return given, dQ
    eigh_meet_tie(y.eigenvalues, at, options)
    if on_tape(a):
        dw = eigenvalues_along(a, dA, y.eigenvalues, options)[1]
    else:
        dw = eigh_push(eigh_turned(y, dA, at), dA, at)[0]
    lost = other_slopes(dw, given, dA).any(axis=0)  # the values took another order than the vectors
    if lost.any():
        dQ = masked(dQ, lost[..., None, :], unfollowed("eigenvectors", tie_of(primal(y.eigenvalues), at), len(dA)))
    return dw, dQ


def eigh_pullback(y_bar: Any, y: Any, operands: Any, *, options: Options | None = None) -> tuple[Any]:
    """A_bar by (2), after the cotangent has been found independent of phases and bases."""
    w, Q = y
    w_bar, Q_bar = (None if x is None or is_zero(x) else x for x in y_bar)
    at = eigen_spectrum(w)
    options = options or get()
    eigh_admit(EighResult(*y), w_bar, Q_bar, at, options)
    if w_bar is not None and np.any(at.tied) and on_tape(w):
        zero = primal(w_bar).dtype.type(0)
        tied = eigen_dyads(operands[0], w, np.where(at.shared, w_bar, zero), options)
        alone = np.where(at.shared, zero, w_bar)
        return (tied + eigh_pull(w, Q, alone, Q_bar, at),)
    return (eigh_pull(w, Q, w_bar, Q_bar, at),)


def eigh_pull(w: Any, Q: Any, w_bar: Any, Q_bar: Any, at: Spectrum) -> Any:
    """(2); None for zero."""
    if Q_bar is None:
        return None if w_bar is None else dyads(Q, w_bar, adjoint(Q))
    P = adjoint(Q) @ Q_bar
    G = (P - adjoint(P)) * 0.5 * inverse_gaps(w, at)
    if w_bar is not None:
        G = with_diagonal(G, w_bar)
    return Q @ G @ adjoint(Q)


def eigh_admit(y: EighResult, w_bar: Any, Q_bar: Any, at: Spectrum, options: Options) -> None:
    """Raise GaugeError or DegenerateError for a cotangent whose pullback would be arbitrary or wrong."""
    w, Q, w_bar, Q_bar = (primal(x) for x in (*y, w_bar, Q_bar))
    limit = tolerance(GAUGE, w.shape[-1], w.dtype)
    sizes, skew = np.zeros_like(w), np.zeros((*w.shape, w.shape[-1]), dtype=w.dtype)
    if Q_bar is not None:
        P = adjoint(Q) @ Q_bar
        sizes, skew = np.max(np.abs(Q_bar), axis=-2, initial=0.0), np.abs(P - adjoint(P)) * 0.5
        change = "q is multiplied by a phase (q q^H, |q|, eigenvalues)"
        admit_phases(diagonal(skew), sizes, limit, options, "eigenvector", "q^H q_bar", change)
    if np.any(at.tied):
        eigh_admit_ties(tie_of(w, at), w_bar, skew, sizes, limit, at, options)


def eigh_admit_ties(
    where: str, w_bar: Any, skew: Any, sizes: Any, limit: float, at: Spectrum, options: Options
) -> None:
    """Within a tie the vectors are an arbitrary basis, and the values are not differentiable one by one."""
    pairs = same_group(at) & ~np.eye(sizes.shape[-1], dtype=bool)
    largest = np.max(sizes, axis=-1, initial=0.0)[..., None, None]
    if np.any(pairs & (skew > limit * largest)):
        object_to(
            GaugeError,
            f"the derivative depends on the arbitrary basis of the eigenvectors of {where}; use a function of the "
            "projector on their space, or forward mode",
            options,
        )
    if w_bar is not None:
        spread = np.abs(w_bar[..., :, None] - w_bar[..., None, :])
        if np.any(pairs & (spread > limit * np.max(np.abs(w_bar), axis=-1, initial=0.0)[..., None, None])):
            object_to(
                DegenerateError,
                f"the ordered eigenvalues are not differentiable at {where}, and their cotangents differ; use "
                "eigvalsh, which gives the least generalised gradient, or forward mode along one direction",
                options,
            )
    if np.any(pairs.any(axis=-1) & (sizes > limit * largest[..., 0])):
        object_to(
            DegenerateError,
            f"the cotangent of the eigenvectors does not determine the derivative at {where}; use forward mode, or "
            'vouch with ties="subspace" that the result depends on the invariant subspaces only',
            options,
            vouched=True,
        )


# ---------------------------------------------------------------------------------------------------------------------
# Eigenvalues alone


def eigvalsh_function(a: Any, *, options: Options | None = None) -> Any:
    """w of plain matrices, with the eigenvectors remembered beside it."""
    factors = eigh_function(a, options=options)
    return remember(factors.eigenvalues, factors)


def eigvalsh_factors(y: Any, a: Any, options: Options) -> EighResult:
    """The factors of a at the level of a: those remembered with y where nothing is traced."""
    return (recall(y) if is_plain(a) else None) or EighResult(*EIGH(a, options=options))


def eigvalsh_jvp(operands: Any, tangents: Any, *, options: Options | None = None) -> tuple[Any, Any] | None:
    """Values and slopes together where a tape traces them at ties."""
    (a,), dA, options = operands, tangents[0], options or get()
    if not on_tape(a):
        return None
    y = EIGVALSH(a, options=options)
    at = eigen_spectrum(y)
    if not np.any(at.tied):
        return y, eigvalsh_pushforward(y, operands, tangents, options=options)
    eigh_meet_tie(y, at, options)
    need_all_directions(dA)
    return eigenvalues_along(a, hermitian_part(dA), y, options)


def eigenvalues_along(a: Any, dA: Any, w: Any, options: Options) -> tuple[Any, Any]:
    """The eigenvalues w, and their slopes along the Hermitian dA, of an a that a tape traces."""
    b, _, factors, options = shifted(a, options)
    at = spectrum(factors.S, options)
    falling, slopes = values_along(b, dA, factors, at, options, primal(w)[..., ::-1])
    return falling[..., ::-1], slopes[..., ::-1]


def eigvalsh_pushforward(y: Any, operands: Any, tangents: Any, *, options: Options | None = None) -> Any:
    """q_i^H dA q_i, in the basis that follows the direction."""
    (a,), dA, options = operands, hermitian_part(tangents[0]), options or get()
    factors = eigvalsh_factors(y, a, options)
    at = eigh_left_tied(factors)
    if np.any(at.tied):
        eigh_meet_tie(factors.eigenvalues, at, options)
        need_all_directions(dA)
        if on_tape(a):
            take_slopes(y)
            return eigenvalues_along(a, dA, y, options)[1]
        factors = eigh_turned(factors, dA, at)
    Q = factors.eigenvectors
    return np.real(np.sum(np.conj(Q) * (dA @ Q), axis=-2))


def eigvalsh_pullback(y_bar: Any, y: Any, operands: Any, *, options: Options | None = None) -> tuple[Any]:
    """sum_i y_bar_i q_i q_i^H; at a tie the element of least norm of the generalised gradient."""
    (a,), options = operands, options or get()
    factors = eigvalsh_factors(y, a, options)
    at = eigen_spectrum(factors.eigenvalues)
    if np.any(at.tied):
        eigh_meet_tie(factors.eigenvalues, at, options)
        smooth = None if is_plain(a) else eigen_dyads(a, y, y_bar, options)
        if smooth is not None:
            return (smooth,)
        check_sloped(y, y_bar, at)
        y_bar = least_weights(y_bar, at, change=change_by(y_bar, a, y), fixed=is_plain(a))
    Q = factors.eigenvectors
    return (dyads(Q, y_bar, adjoint(Q)),)


def eigen_dyads(a: Any, y: Any, y_bar: Any, options: Options) -> Any:
    """sum_i y_bar_i q_i q_i^H of a traced a with ties, by `tied_values`; None where it does not know."""
    b, shift, factors, options = shifted(a, options)
    at = spectrum(factors.S, options)
    rising = at._replace(group=at.group[..., ::-1], null=at.null[..., ::-1])
    c = known_curvature(y, y_bar, a, rising)
    if c is None and not on_tape(a):
        return None
    y_bar = y_bar[..., ::-1]
    weights = least_weights(y_bar, at, change=change_by(y_bar, a, y))
    c = None if c is None else c._replace(x=c.x[..., ::-1])
    return smooth_dyads(b, y[..., ::-1] + shift, weights, c, at, factors, options)


def shifted(a: Any, options: Options) -> tuple[Any, Any, SVDResult, Options]:
    """B = herm(A) + c I, c (..., 1), positive definite: its singular values are the eigenvalues of A and c, descending,
    its dyads their projectors; B, c, the factors of its primal, and options by which its ties are those of A."""
    b = hermitian_part(a)
    w, Q = eigh_factors(primal(b), options)
    size = np.max(np.abs(w), axis=-1, keepdims=True, initial=0.0)
    c = np.where(size == 0, w.dtype.type(1), 2 * size)
    Q = Q[..., ::-1]
    factors = SVDResult(Q, w[..., ::-1] + c, adjoint(Q))
    b = b + c[..., None] * np.eye(w.shape[-1], dtype=w.dtype)
    return b, c, factors, dataclasses.replace(options, algorithm="lapack", refine=0)


# ---------------------------------------------------------------------------------------------------------------------
# Registration, and what users call


def hermitian_examples(rng: np.random.Generator, complex_too: bool = True) -> Iterator[Any]:
    for shape in ((3, 3), (1, 1), (2, 3, 3)):
        yield (rng.standard_normal(shape),), {}
    yield (rng.standard_normal((3, 3)).astype(np.float32),), {}
    if complex_too:
        yield (rng.standard_normal((3, 3)) + 1j * rng.standard_normal((3, 3)),), {}


EIGH = Rule(
    "eigh",
    eigh_function,
    eigh_pushforward,
    eigh_pullback,
    lambda rng: hermitian_examples(rng, complex_too=False),
    jvp=eigh_jvp,
)
EIGVALSH = Rule(
    "eigvalsh", eigvalsh_function, eigvalsh_pushforward, eigvalsh_pullback, hermitian_examples, jvp=eigvalsh_jvp
)


def eigh(a: Any, *, algorithm: str | None = None, ties: str | None = None) -> EighResult:
    """Eigenvalues w (..., n), ascending, and eigenvectors Q (..., n, n) of the Hermitian part of a (..., n, n).

    Differentiable in both modes where eigenvalues are distinct. At ties forward mode along one direction starts from
    the basis that the direction picks, and is exact for the values and for all that does not depend on a basis within a
    tie. How single eigenvectors turn within a tie depends on the second derivative of the path; no first derivative can
    know it, and that part is left out. Reverse mode raises GaugeError or DegenerateError unless the cotangent allows an
    answer. Gauge: q_i^H dq_i = 0.

    algorithm   "auto" and "lapack": LAPACK; "jacobi": one-sided Jacobi on a + c I, c above the norm of a
    ties        at repeated eigenvalues: "directional" as above, "raise", "warn", or "subspace", by which the caller
                vouches in reverse mode that only whole subspaces matter

    None takes what `dualsvd.options` has set.

    Raises ShapeError, DTypeError, NonFiniteError, ConvergenceError; DegenerateError at ties under ties="raise".
    Source: Magnus 1985, "On differentiating eigenvalues and eigenvectors".

    >>> import numpy as np, dualsvd as ds
    >>> ds.linalg.eigh(np.array([[2.0, 0.0], [0.0, 1.0]])).eigenvalues
    array([1., 2.])
    """
    a, chosen = as_square(a), resolve(algorithm=algorithm, ties=ties)
    if not isinstance(a, Tracer):
        return eigh_function(a, options=chosen)
    a, e = in_range(a)
    w, Q = EIGH(a, options=chosen)
    return EighResult(from_range(w, e, 1), from_range(Q, e, 0))


def eigvalsh(a: Any, *, algorithm: str | None = None, ties: str | None = None) -> Any:
    """The eigenvalues (..., n), ascending, of the Hermitian part of a (..., n, n).

    Forward mode gives the one-sided directional derivative at ties too, reverse mode the element of least norm of the
    generalised gradient; symmetric functions of the values have exact second derivatives there. Options as in `eigh`.

    Raises ShapeError, DTypeError, NonFiniteError, ConvergenceError; DegenerateError at ties under ties="raise".
    Source: Magnus 1985; Kato 1966, II.2 (ties).

    >>> import numpy as np, dualsvd as ds
    >>> swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> ds.jvp(ds.linalg.eigvalsh, (np.eye(2),), (swap,))[1]
    array([-1.,  1.])
    """
    a, chosen = as_square(a), resolve(algorithm=algorithm, ties=ties)
    if not isinstance(a, Tracer):
        return eigh_function(a, options=chosen).eigenvalues
    a, e = in_range(a)
    return from_range(EIGVALSH(a, options=chosen), e, 1)


@implements(np.linalg.eigh)
def _numpy_eigh(a: Any, UPLO: str = "L") -> Any:
    return eigh(from_triangle(a, UPLO))


@implements(np.linalg.eigvalsh)
def _numpy_eigvalsh(a: Any, UPLO: str = "L") -> Any:
    return eigvalsh(from_triangle(a, UPLO))
