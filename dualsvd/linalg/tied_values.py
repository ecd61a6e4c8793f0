"""Second derivatives of functions of the values alone, where they are tied or null.

G = sum_i w_i u_i v_i^H is the gradient of f(S), w that by the values. If f is smooth, that is symmetric in tied values
and even in null ones, the w of a tie agree, those of null values are 0, and within one group dw_i/ds_j = c delta_ij +
const. So, to first order,

    G = sum_simple w_i u_i v_i^H + sum_ties (w E + c (F - s E)) + c_0 (A - sum_positive s_i u_i v_i^H),              (1)

E = U_k V_k^H and F = U_k S_k V_k^H of one tie, w and s the means over it: spectral functions, which need no vectors
that follow a direction. Where the outer derivative goes in reverse, c is read off its tape (`curvature`), where it goes
forward, off the tangents of s and w (`curvature_along`). Where the inner one goes forward along D, the basis that
follows D makes c needless: df = sum_i w_i mu_i, mu_i = Re u_i^H D v_i,

    A_bar = sum_i S_bar_i u_i v_i^H + D^2 [sum_i mu_bar_i s_i] (., D)                                                (2)

with the last term as in (1), for equal mu_bar of a tie and none of null values (`ALONG`).
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..errors import DegenerateError
from ..rules.registry import Rule, Tracer, of_dtype, primal
from ..settings import Options
from .degeneracy import GAUGE, Spectrum, refine_groups, same_group, scaled, slope_noise, tolerance, where_tied
from .divided_differences import Family, Kept, Weighted
from .factorise import SVDResult, Table, recall, remember, svd_factors
from .matrices import adjoint, diagonal, dyads, is_plain, on_tape
from .spectral_rule import SPECTRAL
from .ties import SMOOTH, follow_direction, left_on_block, lost_directions, masked, motions, size_of

#: Whether weights that differ within a tie are an error, not to be averaged: where it is asked what they depend on.
_strict: contextvars.ContextVar[bool] = contextvars.ContextVar("dualsvd.strict_ties", default=False)

ASYMMETRIC = (
    "the function has no second derivative where these singular values or eigenvalues are repeated or zero: it is not "
    "symmetric in those that are repeated, or not even in those that are zero"
)
NO_THIRD = (
    "functions of singular values or eigenvalues have no third derivative by reverse mode where these are repeated or "
    f"zero; take {SMOOTH}"
)
HVP = "take hvp, or hessian without a mode, which go forward over reverse"


def vanishes(x: Any) -> bool:
    """Whether x is zero, and so are its tangents at every level that carries some, and theirs; what a tape may yet ask
    is not."""
    while isinstance(x, Tracer):
        if not hasattr(x, "_partials") or on_tape(x._partials) or not vanishes(x._partials):
            return False
        x = x.value
    return not np.any(x)


# ---------------------------------------------------------------------------------------------------------------------
# The weights of a tie


def group_sum(x: Any, same: Any) -> Any:
    """The sums of x (..., r) over the group of each value."""
    return (same.astype(primal(x).dtype) @ x[..., None])[..., 0]


def tie_mean(x: Any, at: Spectrum) -> Any:
    """The mean of x (..., r) over the tie of each value; 0 at null values."""
    same = same_group(at) & ~at.null[..., :, None]
    return of_dtype(group_sum(x, same) / np.maximum(same.sum(axis=-1), 1), primal(x).dtype)


def kinks(weights: Any, at: Spectrum, change: Any = 0.0) -> tuple[Any, Any]:
    """Where plain weights (..., r) differ within their tie, and where those of null values are not 0: f has a kink.

    Noise is measured against the largest weight plus `change` (..., 1), by how much the weights would move if the
    values moved by their own size. That counts where weights cancel: 2 (s - 1) at values that are all 1 is nothing but
    rounding.
    """
    largest = np.max(np.abs(weights), axis=-1, keepdims=True, initial=0.0)
    noise = tolerance(GAUGE, weights.shape[-1], weights.dtype) * (largest + change)
    spread = np.abs(weights - tie_mean(weights, at)) > noise
    same = same_group(at) & ~at.null[..., :, None]
    return (same & spread[..., None, :]).any(axis=-1), at.null & (np.abs(weights) > noise)


def agreeing(weights: Any, at: Spectrum, change: Any = 0.0) -> Any:
    """(..., r): the values of ties whose weights agree, and the null ones whose weights are 0: where f is smooth."""
    differs, kink = kinks(weights, at, change)
    return (at.shared & ~at.null & ~differs) | (at.null & ~kink)


def change_by(x: Any, a: Any, S: Any) -> Any:
    """(..., 1): by how much x (..., r) changes as a does by its norm, by the levels of forward mode that trace a."""
    top, change = size_of(primal(S), -1), 0.0
    while isinstance(a, Tracer):
        dx = motions(x, a.tag) if hasattr(a, "_partials") else None
        if dx is not None:
            change = np.maximum(change, per_norm(size_of(dx, (0, -1)), primal(a._partials), top))
        a = a.value
    return change


def per_norm(size: Any, dA: Any, top: Any) -> Any:
    """A size (..., 1) along dA (N, ..., m, n) as that along a direction of norm `top`."""
    norm = size_of(dA, (0, -2, -1))
    k, j = exponent_below(norm), exponent_below(top)  # size / norm alone may leave the range
    return scaled(np.where(norm > 0, size, 0) * scaled(top, -j) / np.where(norm > 0, scaled(norm, -k), 1), j - k)


def least_weights(S_bar: Any, at: Spectrum, *, change: Any = 0.0, fixed: bool = False) -> Any:
    """Cotangents averaged over each tie, and 0 at null values (where those of a smooth function are 0 themselves).

    The generalised gradient holds Q diag(S_bar) Q^H on the tied block for every unitary Q; the least of its convex
    hull is the mean times the identity, which depends on no basis, and 0 where the two sides turn freely. Cotangents
    that agree on the tie stay as they are, so that those of a smooth function keep their own derivatives, unless the
    matrix is `fixed`: then these are derivatives by something else, and averaged like the cotangents.
    """
    differs, kink = kinks(primal(S_bar), at, change)
    if _strict.get() and (differs.any() or kink.any()):
        raise DegenerateError(
            f"the gradient at repeated or zero values depends on these values in more than one way; {HVP}"
        )
    if fixed and isinstance(S_bar, Tracer):
        return tie_mean(S_bar, at)
    zero = primal(S_bar).dtype.type(0)
    return np.where(differs, tie_mean(S_bar, at), np.where(kink, zero, S_bar))


def sum_of_dyads(weights: Any, at: Spectrum, term: Callable[[Family], Any], factors: SVDResult | None = None) -> Any:
    """sum_i w_i u_i v_i^H over positive values, w (..., r) averaged over each tie, or what `term` makes of the families
    of their dyads; 0 if there are none.

    Simple values are one family all together, and what their weights add by moving is a sum over the `factors` as they
    stand. Without these, where second tangents of weights and dyads meet, or each direction has weights of its own,
    each dyad is taken times its weight.
    """
    total: Any = 0.0
    simple, zero = ~at.shared & ~at.null, primal(weights).dtype.type(0)
    if factors is not None:
        fixed = np.where(simple, primal(weights), zero)
        if fixed.any():
            k = exponent_below(size_of(fixed, -1))  # weights of order one: they will be divided by gaps
            total = scaled(term(Weighted(scaled(fixed, -k))), k[..., None])
        rest = np.where(simple, weights - primal(weights), zero)
        total = total if vanishes(rest) else total + dyads(factors.U, rest, factors.Vh)
        simple = np.zeros_like(simple)
    mean = tie_mean(weights, at)
    for which, mask, w in (("simple", simple, weights), ("tie", first_of_ties(at), mean)):
        for i in range(mask.shape[-1]):
            if np.any(mask[..., i]) and not vanishes(w[..., i]):
                total = total + w[..., i, None, None] * term(Kept("one", which, k=i))
    return total


def of_first_order(*operands: Any) -> bool:
    """Whether each is plain, or traced once."""
    return all(is_plain(x) or is_plain(x.value, getattr(x, "_partials", None)) for x in operands)


class Curvature(NamedTuple):
    """c = x 2^e of (1), x (..., r) of the size of weights and e (..., 1), so that weights like 1e-300 of values like
    1e300 leave the range of the numbers no more than they do themselves; c is 0 at simple values."""

    x: Any
    e: Any


# ---------------------------------------------------------------------------------------------------------------------
# Reverse over reverse


@contextlib.contextmanager
def no_averages() -> Iterator[None]:
    token = _strict.set(True)
    try:
        yield
    finally:
        _strict.reset(token)


def curvature(y: Any, weights: Any, at: Spectrum) -> Curvature | None:
    """c of (1) for values y and weights on one tape; None where the weights are variables of their own there.
    DegenerateError where the second derivatives by y are not of that form.

    One pull of a cotangent q of the weights, with zero sum over each tie, tells: of that form, and only then (for
    numbers q without any relation), c q comes back. Another, without cancellation, tells what is noise. The cotangents
    have the size 2^k of the values, so that what comes back has that of weights.
    """
    plain, top, same = primal(weights), size_of(primal(y), -1), same_group(at)
    dtype, k = plain.dtype, exponent_below(top)
    top = scaled(top, -k)
    numbers = (0.5 + 0.618034 * np.arange(plain.size) % 1).reshape(plain.shape).astype(dtype)  # neighbours lie apart
    with no_averages():
        other = pulled_to(y, weights, scaled(numbers * (at.shared | at.null), k))[0]
        slope = 0.0 if other is None else size_of(primal(other), -1)
        smooth = agreeing(plain, at, slope * top)
        q = np.where(smooth, numbers - tie_mean(numbers, at), dtype.type(0))
        back, elsewhere = pulled_to(y, weights, scaled(q, k))
    if back is None:
        return None if elsewhere else Curvature(np.zeros_like(plain), -k)
    size = group_sum(q * q, same)
    x = group_sum(back * q, same) / (size + (size == 0))
    scale = np.maximum(slope, size_of(plain, -1) / np.where(top > 0, top, 1))
    if np.any(np.abs(primal(back - x * q)) > tolerance(GAUGE, q.shape[-1], dtype) * scale):
        raise DegenerateError(ASYMMETRIC)
    return Curvature(of_dtype(x, dtype), -k)


def exponent_below(size: Any) -> Any:
    """k with 2^k <= size < 2^(k + 1), 0 for zero."""
    return np.frexp(np.where((size > 0) & np.isfinite(size), size, 1))[1] - 1


def pulled_to(y: Any, x: Any, x_bar: Any) -> tuple[Any, bool]:
    """The cotangent of y that a cotangent of x gives by way of their tape, or None; and whether it also goes past y to
    some variable. Where y is one of several results (of `svd`), x may not depend on the others."""
    (node, part), nodes = y.slot, y.tape.nodes
    variables = [(i, None) for i, line in enumerate(nodes) if line.rule is None]
    bars, *past = y.tape.pull([(x.slot, x_bar)], [y.slot, *variables], cut=node)
    elsewhere = any(bar is not None and np.any(primal(bar)) for bar in past)
    if part is None or bars is None:
        return bars, elsewhere
    if any(bar is not None and np.any(primal(bar)) for i, bar in enumerate(bars) if i != part):
        raise DegenerateError(f"the gradient by repeated or zero values depends on singular vectors; {HVP}")
    return bars[part], elsewhere


# ---------------------------------------------------------------------------------------------------------------------
# Forward over reverse, and what both have in common


def curvature_along(S: Any, weights: Any, a: Any, at: Spectrum) -> Curvature | None:
    """c of (1) from the tangents that values and weights have along the directions of a; None where they are
    not of that form."""
    if getattr(weights, "tag", None) != a.tag or not is_plain(weights.value, weights._partials, S._partials):
        return None
    return quotient(S._partials, weights._partials, a._partials, S.value, weights.value, at)


def quotient(ds: Any, dw: Any, dA: Any, S: Any, weights: Any, at: Spectrum) -> Curvature | None:
    """c from plain tangents of values and weights along dA (N, ..., m, n), or None."""
    same, (r, dtype), top, norm = same_group(at), (S.shape[-1], S.dtype), size_of(S, -1), size_of(dA, (0, -2, -1))
    smooth = agreeing(weights, at, per_norm(size_of(dw, (0, -1)), dA, top))
    ds, dw = (np.where(smooth, x - tie_mean(x, at), dtype.type(0)) for x in (ds, dw))
    ds = np.where(np.abs(ds) > np.max(slope_noise(dA, r), axis=0, initial=0.0)[..., None], ds, dtype.type(0))
    k = exponent_below(size_of(ds, (0, -1)))
    ds = scaled(ds, -k)
    along, size = (group_sum(np.sum(x, axis=0), same) for x in (dw * ds, ds * ds))
    x = along / (size + (size == 0))
    scale = size_of(dw, (0, -1)) + size_of(weights, -1) * (norm / np.where(top > 0, top, 1))
    if np.any(np.abs(dw - x * ds) > tolerance(GAUGE, r, dtype) * scale):
        return None
    return Curvature(of_dtype(x, dtype), -k)


def known_curvature(S: Any, weights: Any, a: Any, at: Spectrum) -> Curvature | None:
    """c of (1) for a traced a, or None where it is not known here."""
    none = Curvature(np.zeros_like(primal(weights)), 0)
    if is_plain(weights):
        return none
    if isinstance(a.value, Tracer) or (hasattr(a, "_partials") and not is_plain(a._partials)):
        if not on_tape(a):
            return None
        raise DegenerateError(NO_THIRD)
    if hasattr(a, "_partials"):
        return curvature_along(S, weights, a, at)
    return curvature(S, weights, at) if getattr(weights, "tape", None) is a.tape else none


def smooth_dyads(
    a: Any, S: Any, weights: Any, c: Curvature | None, at: Spectrum, factors: SVDResult | None, options: Options
) -> Any:
    """(1) for a traced a with the values S, weights those of `least_weights`; c None where these are variables beside a
    on its tape."""
    factors = factors or svd_factors(primal(a), options)

    def term(family: Family) -> Any:
        return SPECTRAL(a, family=family, factors=factors, options=options)

    once = of_first_order(a, weights)
    total = np.zeros(np.shape(a), dtype=primal(a).dtype) + sum_of_dyads(weights, at, term, factors if once else None)
    if c is None:
        return total + DEVIATION(a, weights, factors=factors, at=at, options=options)
    return total if vanishes(c.x) else total + apart(a, S, c, at, term)


def apart(a: Any, S: Any, c: Curvature, at: Spectrum, term: Callable[[Family], Any]) -> Any:
    """The terms with c of (1)."""
    total: Any = 0.0
    s, e = tie_mean(S, at), np.asarray(c.e)[..., None]
    for i in firsts(at):
        tie = term(Kept("identity", "tie", k=i)) - s[..., i, None, None] * term(Kept("one", "tie", k=i))
        total = total + c.x[..., i, None, None] * scaled(tie, e)
    if np.any(at.null):
        total = total + (c.x * at.null)[..., -1, None, None] * scaled(a - term(Kept("identity")), e)
    return total


def first_of_ties(at: Spectrum) -> Any:
    """(..., r): whether a value is the first of a tie."""
    first = np.argmax(same_group(at), axis=-1) == np.arange(at.group.shape[-1])
    return first & at.shared & ~at.null


def firsts(at: Spectrum) -> list[int]:
    """The numbers of the values that are the first of a tie in some matrix."""
    first = first_of_ties(at)
    return np.flatnonzero(first.any(axis=tuple(range(first.ndim - 1)))).tolist()


# ---------------------------------------------------------------------------------------------------------------------
# Weights that are variables beside the matrix, as other engines have them, which put the parts of a gradient together


def deviation_function(a: Any, weights: Any, **known: Any) -> Any:
    """What weights that agree within each tie, and are 0 at null values, make by differing: nothing."""
    return np.zeros_like(a)


def deviation_pushforward(
    y: Any, operands: Any, tangents: Any, *, factors: SVDResult, at: Spectrum, options: Options
) -> Any:
    """The terms with c of (1), c by how the weights move beside the values."""
    (a, weights), (dA, dw) = operands, tangents
    if dA is None or dw is None:
        return None
    if not is_plain(a, weights, dA, dw):
        raise DegenerateError(NO_THIRD)
    U, S, Vh = follow_direction(factors, dA, at)
    ds = np.real(diagonal(adjoint(U) @ dA @ adjoint(Vh)))
    c = quotient(ds, dw, dA, S, weights, at)
    if c is None:
        raise DegenerateError(ASYMMETRIC)

    def term(family: Family) -> Any:
        return SPECTRAL(a, dA, family=family, factors=factors, options=options)

    turned = apart(dA, factors.S, c, at, term)
    for i in firsts(at):
        E = SPECTRAL(a, family=Kept("one", "tie", k=i), factors=factors, options=options)
        turned = turned - (c.x * scaled(tie_mean(ds, at), c.e))[..., i, None, None] * E
    return turned


def deviation_pullback(
    y_bar: Any, y: Any, operands: Any, *, factors: SVDResult, at: Spectrum, options: Options
) -> tuple[Any, Any]:
    """0 where y_bar is a multiple of U_k V_k^H on each tie, and 0 between null vectors: else how the weights go on to
    depend on the matrix matters, which an engine does not tell."""
    a, weights = operands
    if not is_plain(a, weights, y_bar):
        raise DegenerateError(NO_THIRD)
    U, _, Vh = follow_direction(factors, y_bar[None], at)
    M = adjoint(U) @ y_bar[None] @ adjoint(Vh)
    mu = np.real(diagonal(M))
    noise = np.max(slope_noise(M, mu.shape[-1]), axis=0, initial=0.0)[..., None]
    if np.any(agreeing(weights, at) & (np.abs(mu - tie_mean(mu, at)) > noise)):
        raise DegenerateError(
            f"a second derivative by reverse mode, put together from its parts, does not know how the gradient at "
            f"{where_tied(factors.S, at)} depends on values that are repeated or zero; go forward over reverse, take "
            f"{SMOOTH}, or dualsvd.hvp"
        )
    return None, None


DEVIATION = Rule(
    "tied_weights", deviation_function, deviation_pushforward, deviation_pullback, lambda rng: (), register=False
)


# ---------------------------------------------------------------------------------------------------------------------
# Reverse over forward

#: values of which `linearize` has taken slopes where they meet: cotangents of theirs that differ are no averages
_sloped: Table = {}


def take_slopes(y: Any) -> None:
    """Called where traced values y have slopes in a basis that follows a direction, unknown to their pullback."""
    remember(primal(y), True, _sloped)


def check_sloped(y: Any, y_bar: Any, at: Spectrum) -> None:
    """DegenerateError where cotangents of such values would be averaged."""
    if recall(y, _sloped) and any(x.any() for x in kinks(primal(y_bar), at)):
        raise DegenerateError(
            f"a second derivative of values that are repeated or zero by reverse mode over linearize does not know the "
            f"basis that followed the direction; {HVP}, or jvp in place of linearize"
        )


def slopes_on_tape(mu: Any, at: Spectrum) -> Any:
    """Slopes mu (N, ..., r) that belong to factors and to no matrix; on a tape, without those derivatives by
    `linearize` that ask for the basis of what stays tied along them, or for the sign of what is null."""
    if not on_tape(mu):
        return mu
    plain = primal(mu)
    left = refine_groups(at, plain, size_of(plain, (0, -1)) * plain.shape[-1])
    lost = left.shared | at.null
    return SLOPES(mu, lost=lost) if lost.any() else mu


def slopes_function(mu: Any, *, lost: Any) -> Any:
    return mu.copy()


def slopes_pushforward(y: Any, operands: Any, tangents: Any, *, lost: Any) -> Any:
    return masked(
        tangents[0],
        lost,
        "the slopes of repeated or zero values along a direction that leaves them so have no derivative by linearize, "
        f"which does not know the basis that they follow; {HVP}, or jvp in place of linearize",
    )


def slopes_pullback(y_bar: Any, y: Any, operands: Any, *, lost: Any) -> tuple[Any]:
    return (y_bar,)


SLOPES = Rule("slopes", slopes_function, slopes_pushforward, slopes_pullback, lambda rng: (), register=False)


def along_function(a: Any, dA: Any, *, S: Any, slopes: Any, **known: Any) -> tuple[Any, Any]:
    """The values and their slopes along dA (N, ..., m, n), which the caller knows."""
    return S.copy(), slopes.copy()


def along_pushforward(y: Any, operands: Any, tangents: Any, **known: Any) -> Any:
    raise DegenerateError(
        "the slopes of singular values or eigenvalues that are repeated or zero have derivatives by jvp, and one by "
        f"reverse mode, but none by linearize; nest jvp alone, or take {SMOOTH}"
    )


def along_pullback(
    y_bar: Any, y: Any, operands: Any, *, factors: SVDResult, at: Spectrum, options: Options, **known: Any
) -> Any:
    """(2), and dA_bar = sum_i mu_bar_i u_i v_i^H, in the basis that follows dA."""
    (a, dA), (S_bar, mu_bar) = operands, y_bar
    if not is_plain(a, dA):
        raise DegenerateError(NO_THIRD)
    total: Any = 0.0
    left, message = left_along(factors, dA, at)
    if S_bar is not None:
        if message is not None and any(x.any() for x in kinks(primal(S_bar), at)):
            raise DegenerateError(message)
        total = total + dyads(factors.U, least_weights(S_bar, left, fixed=True), factors.Vh)
    if mu_bar is None:
        return total, None
    change = 0.0 if S_bar is None else per_norm(size_of(primal(S_bar), -1), dA, size_of(factors.S, -1))
    check_slopes(mu_bar, factors, at, left, change)

    def term(family: Family) -> Any:
        return SPECTRAL(a, dA, family=family, factors=factors, options=options)

    total = total + np.sum(np.zeros(np.shape(dA), factors.U.dtype) + sum_of_dyads(mu_bar, at, term), axis=0)
    return total, dyads(factors.U, mu_bar, factors.Vh)


def left_along(factors: SVDResult, dA: Any, at: Spectrum) -> tuple[Spectrum, str | None]:
    """What of `at` the directions leave tied or null; or what to say if no basis follows them all."""
    message = lost_directions(factors, dA, at)
    if message is not None:
        return at, message
    return left_on_block(at, adjoint(factors.U) @ dA @ adjoint(factors.Vh)), None


def check_slopes(mu_bar: Any, factors: SVDResult, at: Spectrum, left: Spectrum, change: Any) -> None:
    """DegenerateError for cotangents of slopes that differ within a tie that the directions split, or are not 0 at null
    values: the slope of f jumps there."""
    differs, kink = kinks(primal(mu_bar), at, change)
    differs = differs & (same_group(at) & ~same_group(left)).any(axis=-1)
    if differs.any() or kink.any():
        raise DegenerateError(
            f"the function has no second derivative at {where_tied(factors.S, at)}: its cotangents "
            f"{'differ within the tie' if differs.any() else 'are not zero at the zeros'}, so that the first one jumps "
            f"there; take {SMOOTH}, or svdvals_second for the values alone"
        )


ALONG = Rule("values_along", along_function, along_pushforward, along_pullback, lambda rng: (), register=False)
