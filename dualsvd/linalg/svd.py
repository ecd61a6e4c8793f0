"""The singular value decomposition: its rules, their registration, and what users call.

Notation, and the equations (1)-(8) of the derivatives: see `closed_forms`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import DegenerateError, DTypeError, ShapeError
from ..outputs import check_outputs, deliver
from ..rules.levels import need_all_directions
from ..rules.registry import Rule, Tracer, as_inexact, implements, of_dtype, primal
from ..settings import Options, get, resolve
from .closed_forms import pull_full, pull_thin, push_free, push_full
from .degeneracy import (
    Spectrum,
    inverse_gaps,
    inverse_sums,
    inverse_values,
    largest_part,
    meet_tie,
    out_of_range,
    parted,
    spectrum,
    where_tied,
)
from .factorise import SVDResult, recall, remember, singular_values, svd_factors, tail_of
from .gauge import admit, is_zero, signed_zeros
from .kernel_rules import (
    each_dyad,
    fusible,
    graded_dyads,
    pull_fused,
    push_fused,
    sharpened,
    slopes_fused,
    svd_sweeps,
    swept_slopes,
)
from .matrices import (
    adjoint,
    as_matrix,
    dyads,
    from_triangle,
    is_plain,
    matrix_examples,
    on_tape,
    operand_examples,
)
from .scaling import from_range, in_range
from .spectral_rule import SPECTRAL
from .tied_values import (
    ALONG,
    change_by,
    check_sloped,
    known_curvature,
    least_weights,
    of_first_order,
    slopes_on_tape,
    smooth_dyads,
    sum_of_dyads,
    take_slopes,
    tie_mean,
    vanishes,
)
from .ties import (
    Unresolved,
    complete_like,
    follow_direction,
    follow_entries,
    lost_directions,
    other_slopes,
    split,
    split_by_outer,
    svd_spectrum,
    turned_on,
    turning,
    unfollowed,
    without,
)

# ---------------------------------------------------------------------------------------------------------------------
# The rule


def plain_thin(y: SVDResult) -> SVDResult:
    """The plain thin factors in y."""
    U, _, Vh, _ = split(*(primal(x) for x in y))
    return SVDResult(U, primal(y.S), Vh)


def is_thin(y: Any) -> bool:
    """Whether the factors are without free columns."""
    return y[0].shape[-1] == y[1].shape[-1] == y[2].shape[-2]


def svd_function(a: Any, *, full_matrices: bool = False, options: Options | None = None) -> SVDResult:
    """U, S, Vh of plain matrices."""
    return svd_factors(a, options or get(), full_matrices)


def svd_jvp(
    operands: Any, tangents: Any, *, full_matrices: bool = False, options: Options | None = None
) -> tuple[SVDResult, tuple[Any, Any, Any]]:
    """The factors in the basis that follows the direction, and their tangents."""
    (a,), (da,), options = operands, tangents, options or get()
    if options.tangents == "sweeps" and is_plain(a, da):
        return swept_factors(a, da, full_matrices, options)
    y = SVD(a, full_matrices=full_matrices, options=options)
    if is_thin(y) and fusible(options, *y, da):
        dy, whole = push_fused(y.U, y.S, y.Vh, da)
        if whole:
            return y, dy
    at = svd_spectrum(y, options)
    if not np.any(at.degenerate):
        dU, dS, dVh = svd_push(y, da, at, options)
        return y, (dU, sharpened(y.S, a, da, dS, options), dVh)
    meet_tie(y.S, at, options)
    need_all_directions(da)
    turned = follow_direction(y, da, at)
    dU, dS, dVh = svd_push(turned, da, at, options)
    if not on_tape(a):
        return turned, (dU, sharpened(turned.S, a, da, dS, options), dVh)
    S, dS = values_along(a, da, plain_thin(y), at, options)
    return SVDResult(turned.U, S, turned.Vh), (dU, dS, dVh)


def swept_factors(a: Any, dA: Any, full_matrices: bool, options: Options) -> tuple[SVDResult, tuple[Any, Any, Any]]:
    """Factors and tangents through the sweeps; signs, phases and free columns are those without tangents."""
    y, dy = svd_sweeps(a, dA, options)
    at = spectrum(y.S, options)
    like_U, U_perp, like_Vh, Vh_perp = split(*svd_factors(a, options, full_matrices))
    turn = common_phase(y, like_U, like_Vh)
    U, Vh = y.U * turn[..., None, :], np.conj(turn)[..., :, None] * y.Vh
    full_U = U if U_perp is None else np.concatenate([U, complete_like(U, U_perp, at)], axis=-1)
    full_Vh = Vh
    if Vh_perp is not None:
        full_Vh = np.concatenate([Vh, adjoint(complete_like(adjoint(Vh), adjoint(Vh_perp), at))], axis=-2)
    full = SVDResult(full_U, y.S, full_Vh)
    dU, dS, dVh = dy
    if isinstance(dU, Unresolved):
        dU, dVh = (Unresolved(np.broadcast_to(x, (len(dA), *x.shape)), dU.message) for x in (full_U, full_Vh))
        return full, (dU, dS, dVh)
    return full, push_free(*full, (dU * turn[..., None, :], dS, np.conj(turn)[..., :, None] * dVh), dA, at)


def common_phase(y: SVDResult, U: Any, Vh: Any) -> Any:
    """The phases (..., r) that bring u_i and v_i of y nearest to these; 1 where a tie has turned them far away."""
    z = (np.sum(np.conj(y.U) * U, axis=-2) + np.sum(y.Vh * np.conj(Vh), axis=-1)) / 2
    near = np.abs(z) > 0.5
    return np.where(near, z, 1) / np.where(near, np.abs(z), 1)


def svd_push(y: SVDResult, dA: Any, at: Spectrum, options: Options) -> tuple[Any, Any, Any]:
    """The tangents of factors that already follow dA; those of the vectors are `Unresolved` where they cannot."""
    dU, dS, dVh = push_traced(y, dA, at, options)
    if not np.any(at.degenerate):
        return dU, dS, dVh
    message = lost_directions(y, dA, at)
    if message is not None:
        return Unresolved(dU, message), dS, Unresolved(dVh, message)
    lost = turning(y, dA, at)
    if lost.any():
        dU, dVh = without(dU, dVh, lost, turned_on("singular vectors", where_tied(y.S, at), "svdvals"))
    return dU, dS, dVh


def push_traced(y: SVDResult, dA: Any, at: Spectrum, options: Options) -> tuple[Any, Any, Any]:
    """`push_full` for factors of any level: where an outer direction has split a tie, the vectors turn as 1 / gap."""
    first = spectrum(y.S, options, tail_of(y.S, options)) if isinstance(y.S, Tracer) else at
    lost = None if first is at or not np.any(first.degenerate) else parted(first, at)
    if lost is None or not lost.any():
        return push_full(*y, dA, at)
    dU, dS, dVh = push_full(*y, dA, first)
    message = split_by_outer("singular vectors", where_tied(y.S, first), "svdvals")
    dU, dVh = without(dU, dVh, lost, message)
    return dU, dS, dVh


def svd_pushforward_rule(
    y: Any, operands: Any, tangents: Any, *, full_matrices: bool = False, options: Options | None = None
) -> tuple[Any, Any, Any]:
    """Tangents of factors that are given and cannot turn: the values get their derivative, the vectors what exists."""
    factors, (a,), (dA,), options = SVDResult(*y), operands, tangents, options or get()
    at = svd_spectrum(factors, options)
    dU, given, dVh = svd_push(factors, dA, at, options)
    if not np.any(at.degenerate):
        return dU, sharpened(factors.S, a, dA, given, options), dVh
    meet_tie(factors.S, at, options)
    if on_tape(a):
        dS = values_along(a, dA, plain_thin(factors), at, options)[1]
    else:
        dS = sharpened(factors.S, a, dA, svd_push(follow_direction(factors, dA, at), dA, at, options)[1], options)
    lost = other_slopes(dS, given, dA).any(axis=0)  # the values took another order, or sign, than the vectors
    if lost.any():
        if on_tape(factors.S):
            take_slopes(factors.S)
        dU, dVh = without(dU, dVh, lost, unfollowed("singular vectors", where_tied(factors.S, at), len(dA)))
    return dU, dS, dVh


def svd_pullback_rule(
    y_bar: Any, y: Any, operands: Any, *, full_matrices: bool = False, options: Options | None = None, out: Any = None
) -> tuple[Any]:
    """A_bar, perhaps in `out`, after the cotangent has been found independent of gauge and bases."""
    options, factors = options or get(), SVDResult(*y)
    if is_thin(factors) and fusible(options, *factors, *(x for x in y_bar if x is not None)):
        A_bar, whole = pull_fused(*factors, y_bar[0], y_bar[1], y_bar[2], out)
        if whole:
            return (A_bar,)
    U_bar, S_bar, Vh_bar = (None if x is None or is_zero(x) else x for x in y_bar)
    if U_bar is None and S_bar is None and Vh_bar is None:
        return (None,)
    at = spectrum(factors.S, options, tail_of(factors.S, options))
    (a,), A_bar = operands, None
    if S_bar is not None and np.any(at.degenerate):
        check_sloped(factors.S, S_bar, at)
    admit(factors, U_bar, S_bar, Vh_bar, at, options)
    if S_bar is not None and a is not None and np.any(at.degenerate) and on_tape(factors.S):
        shared = at.shared | (at.null & (not signed_zeros(factors)))
        zero = primal(S_bar).dtype.type(0)
        A_bar = traced_dyads(a, factors.S, np.where(shared, S_bar, zero), at, None, options)
        S_bar = np.where(shared, zero, S_bar)
    rest = pull_full(factors.U, factors.S, factors.Vh, U_bar, S_bar, Vh_bar, at)
    return (rest if A_bar is None else rest + A_bar,)


# ---------------------------------------------------------------------------------------------------------------------
# Singular values alone


def svdvals_function(a: Any, *, options: Options | None = None) -> Any:
    """S of plain matrices, with the vectors that the derivative will need remembered beside it."""
    factors = svd_factors(a, options or get())
    return remember(factors.S.copy(), factors)


def svdvals_factors(y: Any, a: Any, options: Options) -> SVDResult:
    """The factors of a at the level of a: those remembered with y where nothing is traced."""
    return (recall(y) if is_plain(a) else None) or SVD(a, options=options)


def svdvals_jvp(operands: Any, tangents: Any, *, options: Options | None = None) -> tuple[Any, Any] | None:
    """Values and slopes together where a tape traces them at ties or zeros."""
    (a,), (dA,), options = operands, tangents, options or get()
    if not on_tape(a):
        return None
    y = SVDVALS(a, options=options)
    at = spectrum(y, options)
    if not np.any(at.degenerate):
        return y, svdvals_pushforward(y, operands, tangents, options=options)
    meet_tie(y, at, options)
    need_all_directions(dA)
    return values_along(a, dA, recall(y) or svd_factors(primal(a), options), at, options)


def values_along(a: Any, dA: Any, factors: SVDResult, at: Spectrum, options: Options, S: Any = None) -> tuple[Any, Any]:
    """Values, `factors.S` or S, and slopes of an a that a tape traces, from the factors of its primal."""
    turned = follow_direction(factors, primal(dA), at)
    slopes = sharpened(factors.S, primal(a), primal(dA), value_slopes(turned, primal(dA)), options)
    known = {"factors": turned, "at": at, "options": options}
    return ALONG(a, dA, S=factors.S if S is None else S, slopes=slopes, **known)


def svdvals_pushforward(y: Any, operands: Any, tangents: Any, *, options: Options | None = None) -> Any:
    """Re u_i^H dA v_i, in the basis that follows the direction."""
    (a,), (dA,), options = operands, tangents, options or get()
    if options.tangents == "sweeps" and is_plain(a, dA):
        return swept_slopes(a, dA, options)
    factors = svdvals_factors(y, a, options)
    if fusible(options, *factors, dA):
        dS, whole = slopes_fused(*factors, dA)
        if whole:
            return dS
    at = svd_spectrum(factors, options)
    if np.any(at.degenerate):
        meet_tie(y, at, options)
        need_all_directions(dA)
        if on_tape(a):
            take_slopes(y)
            return values_along(a, dA, plain_thin(factors), at, options)[1]
    return followed_slopes(factors, a, dA, at, options)


def value_slopes(factors: SVDResult, dA: Any) -> Any:
    """Re u_i^H dA v_i for every i."""
    U, _, Vh = factors
    return np.real(np.sum((adjoint(U) @ dA) * np.conj(Vh), axis=-1))


def turned_slopes(a: Any, factors: SVDResult, dA: Any, options: Options) -> Any:
    """`followed_slopes` at the level of a, from the factors of its primal."""
    y = factors if is_plain(a) else SVD(a, options=options)
    return followed_slopes(y, a, dA, svd_spectrum(y, options), options)


def followed_slopes(factors: SVDResult, a: Any, dA: Any, at: Spectrum, options: Options) -> Any:
    """The slopes of all singular values in the basis that follows dA."""
    if np.any(at.degenerate):
        factors = follow_direction(factors, dA, at)
    return sharpened(factors.S, a, dA, value_slopes(factors, dA), options)


def svdvals_pullback(y_bar: Any, y: Any, operands: Any, *, options: Options | None = None) -> tuple[Any]:
    """sum_i y_bar_i u_i v_i^H; at a tie the element of least norm of the generalised gradient."""
    (a,), options = operands, options or get()
    if is_plain(a):
        factors: SVDResult = recall(y) or svd_factors(a, options)
        if fusible(options, *factors, y_bar):
            A_bar, whole = pull_fused(*factors, None, y_bar, None)
            if whole:
                return (A_bar,)
        at = spectrum(factors.S, options)
        if np.any(at.degenerate):
            meet_tie(factors.S, at, options)
            check_sloped(y, y_bar, at)
            y_bar = least_weights(y_bar, at, fixed=True)
        return (pull_thin(*factors, None, y_bar, None, at),)
    at = spectrum(y, options)
    if not np.any(at.degenerate):
        factors = SVD(a, options=options)
        return (dyads(factors.U, y_bar, factors.Vh),)
    meet_tie(y, at, options)
    return (traced_dyads(a, y, y_bar, at, recall(y), options),)


def traced_dyads(a: Any, S: Any, S_bar: Any, at: Spectrum, factors: SVDResult | None, options: Options) -> Any:
    """sum_i S_bar_i u_i v_i^H for a traced a with ties or null values: by `tied_values` where f is smooth.

    Else, in forward mode, the parts of S_bar that differ within a tie need vectors that follow the outer direction, if
    they do not vanish. The weight of a null value is zero itself, but may move: along the direction in which the value
    does.
    """
    factors = factors or svd_factors(primal(a), options)

    def term(family: Any) -> Any:
        return SPECTRAL(a, family=family, factors=factors, options=options)

    weights = least_weights(S_bar, at, change=change_by(S_bar, a, S))
    c = known_curvature(S, S_bar, a, at)
    if c is not None or on_tape(a):
        return smooth_dyads(a, S, weights, c, at, factors, options)
    total = np.zeros(np.shape(a), dtype=primal(a).dtype)
    moving, dA = weights * at.null, a._partials
    if not vanishes(moving):
        if not is_plain(a.value, dA) or len(dA) > 1:
            raise DegenerateError(
                "a second derivative passes singular values that are zero to working precision, where it follows one "
                "direction at a time, by forward over reverse: take hvp, or jacobian of the gradient with chunk=1"
            )
        U, _, Vh = follow_direction(factors, dA, at)
        total = total + dyads(U, moving, Vh)
        weights = np.where(at.null, primal(weights).dtype.type(0), weights)
    total = total + sum_of_dyads(weights, at, term, factors if of_first_order(a, weights) else None)
    tied = at.shared & ~at.null
    rest = (weights - tie_mean(weights, at)) * tied
    if not vanishes(rest):
        U, _, Vh = SVD(a, options=options)
        total = total + dyads(U, rest, Vh)
    return total


def svdvals_jacobian(
    y: Any,
    operands: Any,
    *,
    part: int | None = None,
    out: Any = None,
    least: bool | None = None,
    options: Options | None = None,
) -> Any:
    """The dyads u_i v_i^H themselves, (..., r) + (..., m, n); at ties of the basis that follows all entries in turn."""
    (a,), options = operands, options or get()
    if np.iscomplexobj(a) or not is_plain(a):
        return None
    factors = svdvals_factors(y, a, options)
    at = spectrum(factors.S, options)
    if np.any(at.degenerate):
        if least:
            return None
        meet_tie(factors.S, at, options)
        factors = follow_entries(factors, at)
    U, S, Vh = factors
    if a.ndim == 2:
        return graded_dyads(a, S, each_dyad(U, Vh, out), at, options)
    batch, (m, n), r = a.shape[:-2], a.shape[-2:], S.shape[-1]
    B = int(np.prod(batch))
    J = np.zeros((B, r, B, m, n), dtype=a.dtype)
    each = np.arange(B)
    blocks = np.swapaxes(U, -1, -2)[..., :, :, None] * Vh[..., :, None, :]
    J[each, :, each] = graded_dyads(a, S, blocks, at, options).reshape(B, r, m, n)
    return J.reshape((*batch, r, *batch, m, n))


def svd_jacobian(
    y: Any,
    operands: Any,
    *,
    part: int | None = None,
    out: Any = None,
    least: bool | None = None,
    full_matrices: bool = False,
    options: Options | None = None,
) -> Any:
    """The Jacobian of U, S or Vh alone, for one real matrix with distinct positive values.

    Along the unit matrix e_k e_l^T M is the dyad of row k of U and row l of V, so that (2)-(4) are two outer products:

        dU_pj / dA_kl = B_pjk V_lj + C_pjl U_kj,        P, Q = (1/(s_j - s_i) +- 1/(s_j + s_i)) / 2,
        B_pjk = sum_i U_pi P_ij U_ki + (I - U U^T)_pk / s_j,     C_pjl = sum_i U_pi Q_ij V_li;

    for V the same with A^T.
    """
    (a,), factors, options = operands, SVDResult(*y), options or get()
    if part is None or np.ndim(a) != 2 or np.iscomplexobj(a) or not is_plain(a) or not is_thin(factors):
        return None
    at = spectrum(factors.S, options, tail_of(factors.S, options))
    if np.any(at.degenerate):
        return None
    U, S, Vh = factors
    if part == 1:
        return graded_dyads(a, S, each_dyad(U, Vh, out), at, options)
    if out_of_range(S):
        return None
    shape = (*np.shape(y[part]), *np.shape(a))
    J = np.empty(shape, a.dtype) if out is None else out
    if part == 0:
        motion_of_vectors(U, S, Vh.T, at, J)
    else:
        motion_of_vectors(Vh.T, S, U, at, J.transpose(1, 0, 3, 2))
    return J


def motion_of_vectors(U: Any, S: Any, V: Any, at: Spectrum, J: Any) -> None:
    """J_pjkl = dU_pj / dA_kl, row by row, so that no second array of that size is made."""
    gaps, sums = inverse_gaps(S, at), inverse_sums(S, at)
    P, Q = (gaps + sums) * 0.5, (gaps - sums) * 0.5
    rest = np.eye(len(U), dtype=U.dtype) - U @ U.T
    over_s = inverse_values(S, at) if len(U) > len(S) else np.zeros_like(S)
    for p, row in enumerate(U):
        B = (row[:, None] * P).T @ U.T + over_s[:, None] * rest[p]
        C = (row[:, None] * Q).T @ V.T
        np.einsum("jk,lj->jkl", B, V, out=J[p])
        J[p] += C[:, None, :] * U.T[:, :, None]


# ---------------------------------------------------------------------------------------------------------------------
# Registration


def svd_examples(rng: np.random.Generator) -> Iterator[Any]:
    """Real matrices: in complex ones the phases of the primal follow LAPACK's convention, which has no derivative."""
    for a in matrix_examples(rng):
        if not np.iscomplexobj(a):
            yield (a,), {}


SVD = Rule(
    "svd", svd_function, svd_pushforward_rule, svd_pullback_rule, svd_examples, jvp=svd_jvp, jacobian=svd_jacobian
)
SVDVALS = Rule(
    "svdvals",
    svdvals_function,
    svdvals_pushforward,
    svdvals_pullback,
    operand_examples,
    jvp=svdvals_jvp,
    jacobian=svdvals_jacobian,
)


# ---------------------------------------------------------------------------------------------------------------------
# What users call


def svd(
    a: Any,
    full_matrices: bool = False,
    *,
    algorithm: str | None = None,
    tangents: str | None = None,
    ties: str | None = None,
    refine: int | None = None,
    out: tuple[Any, Any, Any] | None = None,
) -> SVDResult:
    """The singular value decomposition A = U diag(S) Vh of a matrix or a stack (..., m, n).

    Thin by default: U (..., m, r), S (..., r), Vh (..., r, n), r = min(m, n); S descending and >= 0, in the units of a.
    Differentiable in both modes where singular values are distinct and nonzero. Elsewhere forward mode along one
    direction starts from the basis that the direction picks, and is exact for the values and for all that does not
    depend on a basis within a tie or within zero. How single vectors turn within a tie depends on the second derivative
    of the path; no first derivative can know it, and that part of their tangent is left out. Reverse mode raises
    GaugeError or DegenerateError unless the cotangent allows an answer. The tangents have the gauge
    Im(u_i^H du_i + v_i^H dv_i) = 0.

    algorithm   "auto" by size; "lapack"; "jacobi": small values, and their derivatives, to high relative accuracy
                where rows and columns are badly scaled (derivatives in forward mode and as a Jacobian of the values;
                gradients in reverse mode are as exact as u v^H, and so are second derivatives); up to three times the
                time of LAPACK, and ten times that of the packs that "auto" uses for stacks of small matrices
    tangents    "closed-form" equations, or "sweeps": dual numbers carried through every rotation, the independent way
                to the same result, several times slower; plain arrays in forward mode only. Right to rounding of the
                largest slope, also under algorithm="jacobi": not for badly scaled matrices
    ties        at repeated or zero values: "directional" as above, "raise", "warn", or "subspace", by which the caller
                vouches in reverse mode that only whole subspaces matter
    refine      1 or 2 steps in double-double arithmetic, for vectors of nearly equal values
    out         for plain a: three arrays that receive the results; a loop over batches then allocates nothing

    None takes what `dualsvd.options` has set.

    Raises ShapeError, DTypeError, NonFiniteError, ConvergenceError; DegenerateError at ties and zeros under
    ties="raise".
    Source: Townsend 2016, "Differentiating the singular value decomposition"; the equations stand in
    `linalg/closed_forms.py`.

    >>> import numpy as np, dualsvd as ds
    >>> ds.svd(np.array([[0.0, 2.0], [3.0, 0.0]])).S
    array([3., 2.])
    """
    chosen = resolve(algorithm=algorithm, tangents=tangents, ties=ties, refine=refine)
    a, full_matrices = as_matrix(a), bool(full_matrices)
    if not isinstance(a, Tracer):
        if out is None:
            return svd_factors(a, chosen, full_matrices)
        check_outputs(out, factor_shapes(a, full_matrices))
        return SVDResult(*deliver(svd_factors(a, chosen, full_matrices, out), out))
    refuse_outputs(out)
    e = None
    if not graded_once(a, chosen) or np.any(largest_part(primal(a)) < 1):  # tiny values have few digits for vectors
        a, e = in_range(a, chosen)
    U, S, Vh = SVD(a, full_matrices=full_matrices, options=chosen)
    return SVDResult(from_range(U, e, 0), from_range(S, e, 1), from_range(Vh, e, 0))


def svdvals(
    a: Any,
    *,
    algorithm: str | None = None,
    tangents: str | None = None,
    ties: str | None = None,
    refine: int | None = None,
    out: Any = None,
) -> Any:
    """The singular values (..., r) of a matrix or a stack (..., m, n), descending and >= 0, in the units of a.

    Forward mode gives the exact one-sided directional derivative, at repeated and zero values too (several partials:
    the lexicographic derivative); reverse mode the element of least norm of the generalised gradient. Functions of the
    values that are symmetric, and even at zeros, have exact first and second derivatives there by every nesting.

    Options as in `svd`; `out`, for plain a: an array that receives the result.

    Raises ShapeError, DTypeError, NonFiniteError, ConvergenceError; DegenerateError at ties and zeros under
    ties="raise". Source: Kato 1966, II.2 (ties); Nesterov 2005 (lexicographic derivative).

    >>> import numpy as np, dualsvd as ds
    >>> swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> ds.jvp(ds.svdvals, (np.eye(2),), (swap,))[1]
    array([ 1., -1.])
    """
    a = as_matrix(a)
    chosen = resolve(algorithm=algorithm, tangents=tangents, ties=ties, refine=refine)
    if not isinstance(a, Tracer):
        if out is None:
            return singular_values(a, chosen)
        check_outputs(out, {"S": ((*a.shape[:-2], min(a.shape[-2:])), a.real.dtype)})
        return deliver((singular_values(a, chosen, out),), (out,))[0]
    refuse_outputs(out)
    e = None
    if not is_plain(a.value):  # first slopes divide by nothing
        a, e = in_range(a, chosen)
    S = SVDVALS(a, options=chosen)
    return from_range(S, e, 1)


def graded_once(a: Any, options: Options) -> bool:
    """Whether a traced a stays as it is, of whatever size: the slopes of graded values would lose digits on the way to
    a safe range, and first derivatives do without one (they scale what they divide by themselves)."""
    return options.algorithm == "jacobi" and is_plain(a.value)


def factor_shapes(a: Any, full_matrices: bool) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and dtype of each factor of a."""
    *batch, m, n = a.shape
    r = min(m, n)
    k, l = (m, n) if full_matrices else (r, r)
    return {"U": ((*batch, m, k), a.dtype), "S": ((*batch, r), a.real.dtype), "Vh": ((*batch, l, n), a.dtype)}


def refuse_outputs(out: Any) -> None:
    """Traced results carry their tangents: no array of the caller's could take them."""
    if out is not None:
        raise DTypeError("out= takes the results of plain arrays; differentiate without it")


def as_factors(U: Any, S: Any, Vh: Any) -> SVDResult:
    """Factors that a user gives, all of one precision."""
    U, S, Vh = as_matrix(U, "U"), as_inexact(S, "S"), as_matrix(Vh, "Vh")
    together(U.shape, S.shape, Vh.shape)
    dtypes = primal(U).dtype, primal(S).dtype, primal(Vh).dtype
    if dtypes[0] == dtypes[1] == dtypes[2] and dtypes[1].kind == "f":
        return SVDResult(U, S, Vh)
    if dtypes[1].kind == "c":
        raise DTypeError(f"S must be real, got {dtypes[1]}; take S.real")
    dtype = np.result_type(*dtypes)
    return SVDResult(of_dtype(U, dtype), of_dtype(S, dtype.type(0).real.dtype), of_dtype(Vh, dtype))


def together(u: tuple[int, ...], s: tuple[int, ...], vh: tuple[int, ...]) -> None:
    """ShapeError for shapes that are not those of the factors, thin or full, of one matrix or stack.

    Of the first triplets alone one would have the derivatives of a matrix that has no others.
    """
    r, sides = (min(u[-2], vh[-1]),), (u[-1:], vh[-2:-1])
    if s[-1:] != r or sides not in ((r, r), (u[-2:-1], vh[-1:])) or not u[:-2] == s[:-1] == vh[:-2]:
        raise ShapeError(
            f"U, S and Vh must be all the factors, thin or full, of one matrix or stack (..., m, n), r = min(m, n): "
            f"(..., m, r), (..., r) and (..., r, n), or (..., m, m), (..., r) and (..., n, n); got {u}, {s} and {vh}; "
            "the gradient of the first values alone is (U * S_bar[..., None, :]) @ Vh"
        )


def in_precision_of(factor: Any, x: Any, name: str) -> Any:
    """A tangent or cotangent in the dtype of what it belongs to."""
    if type(x) is np.ndarray and x.dtype == factor.dtype:
        return x
    x = as_inexact(x, name)
    if primal(x).dtype.kind == "c" and factor.dtype.kind != "c":
        raise DTypeError(
            f"{name} must be real to go with {factor.dtype} factors, got {primal(x).dtype}; take {name}.real, or the "
            "factors of a complex matrix"
        )
    return of_dtype(x, factor.dtype)


def cotangent(factor: Any, bar: Any, name: str) -> Any:
    """That of a factor, in its dtype; None for zero."""
    if bar is None:
        return None
    bar = in_precision_of(primal(factor), bar, name)
    if bar.shape != factor.shape:
        raise ShapeError(f"{name} must have the shape {factor.shape} of its factor, got {bar.shape}")
    return bar


def svd_pushforward(
    U: Any, S: Any, Vh: Any, dA: Any, *, out: tuple[Any, Any, Any] | None = None
) -> tuple[Any, Any, Any]:
    """(dU, dS, dVh) along dA, from the factors (thin or full) of a matrix or a stack (..., m, n).

    dA has the shape of the matrix, or one more leading axis, a direction each, which the results, of the shapes of U, S
    and Vh, then have too; dS has the units of dA. The gauge is Im(u_i^H du_i + v_i^H dv_i) = 0. At a tie dS is the
    derivative of the ordered values (lexicographic for several directions), and dU, dVh lack what lies inside the tie;
    `svd` on a DualArray turns the basis first, so that nothing is lost. Nor do factors alone tell the slopes of tiny
    values of a badly scaled matrix to their own last digits, as `svd` does under algorithm="jacobi". `out`: three
    arrays that receive the results.

    Raises ShapeError where shapes do not go together, DTypeError where dtypes do not. Source: as `svd`, (1)-(5).

    >>> import numpy as np, dualsvd as ds
    >>> U, S, Vh = ds.svd(np.diag([3.0, 2.0]))
    >>> ds.linalg.svd_pushforward(U, S, Vh, np.array([[1.0, 0.0], [0.0, 5.0]]))[1]
    array([1., 5.])
    """
    y = as_factors(U, S, Vh)
    dA = in_precision_of(primal(y.U), dA, "dA")
    shape = (*np.shape(y.U)[:-1], np.shape(y.Vh)[-1])
    if np.shape(dA) != shape and np.shape(dA)[1:] != shape:
        raise ShapeError(f"dA must have the shape {shape} of the matrix, or (N, *{shape}), got {np.shape(dA)}")
    if np.shape(dA) == shape:
        single = None if out is None else tuple(x[None] if isinstance(x, np.ndarray) else x for x in out)
        dU, dS, dVh = (x if isinstance(x, Unresolved) else x[0] for x in pushed_along(y, dA[None], single))
        return out or (dU, dS, dVh)
    return pushed_along(y, dA, out)


def pushed_along(y: SVDResult, dA: Any, out: Any) -> tuple[Any, Any, Any]:
    """`svd_pushforward` for directions with their leading axis."""
    if out is not None:
        shapes = {f"d{name}": ((len(dA), *np.shape(x)), x.dtype) for name, x in zip(y._fields, y)}
        check_outputs(out, shapes)
    options = get()
    if is_thin(y) and fusible(options, *y, dA):
        dy, whole = push_fused(*y, dA, out)
        if whole:
            return deliver(dy, out)
    at = svd_spectrum(y, options)
    dU, dS, dVh = push_traced(y, dA, at, options)
    if np.any(at.degenerate):
        meet_tie(y.S, at, options)
        dS = slopes_on_tape(push_full(*follow_direction(y, dA, at), dA, at)[1], at)
    return deliver((dU, dS, dVh), out)


def svd_pullback(
    U: Any, S: Any, Vh: Any, U_bar: Any = None, S_bar: Any = None, Vh_bar: Any = None, *, out: Any = None
) -> Any:
    """A_bar (..., m, n), the cotangent of the matrix, from its factors (thin or full) and their cotangents, which have
    their shapes; None stands for zero. <A_bar, dA> = <U_bar, dU> + <S_bar, dS> + <Vh_bar, dVh>, <X, Y> = Re tr(X^H Y).

    `out`: an array that receives the result.

    Raises GaugeError where the cotangents depend on arbitrary phases or bases, DegenerateError where a tie leaves the
    answer open, both naming what to use instead; ShapeError, DTypeError. Source: as `svd`, (6)-(7).

    >>> import numpy as np, dualsvd as ds
    >>> U, S, Vh = ds.svd(np.diag([3.0, 2.0]))
    >>> ds.linalg.svd_pullback(U, S, Vh, None, np.array([1.0, 0.0]), None)
    array([[1., 0.],
           [0., 0.]])
    """
    y = as_factors(U, S, Vh)
    bars = cotangent(y.U, U_bar, "U_bar"), cotangent(y.S, S_bar, "S_bar"), cotangent(y.Vh, Vh_bar, "Vh_bar")
    shape, dtype = (*y.U.shape[:-1], y.Vh.shape[-1]), primal(y.U).dtype
    if out is not None:
        check_outputs(out, {"A_bar": (shape, dtype)})
    A_bar = svd_pullback_rule(bars, y, (None,), options=get(), out=out)[0]
    if A_bar is None:
        A_bar = np.zeros(shape, dtype=dtype)
    return A_bar if out is None else deliver((A_bar,), (out,))[0]


# ---------------------------------------------------------------------------------------------------------------------
# NumPy's names


@implements(np.linalg.svd)
def _numpy_svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    a = from_triangle(a) if hermitian else a
    return svd(a, full_matrices) if compute_uv else svdvals(a)


@implements(np.linalg.svdvals)
def _numpy_svdvals(x: Any) -> Any:
    return svdvals(x)
