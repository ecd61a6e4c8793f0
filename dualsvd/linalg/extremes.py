"""The largest and the smallest singular value: one rule, and a short way to the largest of a large matrix.

    s_1     gradient U_k V_k^H / k, k the multiplicity: the least of all subgradients                                (1)
    s_r     the same at the other end

(Watson 1992, "Characterization of the subdifferential of some matrix norms".) Forward mode gives the one-sided
directional derivative: the largest eigenvalue of the Hermitian part of U_k^H D V_k.

Of large matrices the largest value is found with its pair of vectors only, at a fraction of the price of all (`tops`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..rules.levels import need_all_directions
from ..rules.registry import Rule, primal
from ..settings import Options, get
from .degeneracy import Spectrum, meet_tie, spectrum
from .divided_differences import Kept
from .factorise import SVDResult, recall, remember, singular_values, svd_factors
from .kernel_rules import each_dyad, fusible, graded, graded_slopes, pull_fused, swept_slopes
from .lanczos import Leading
from .matrices import dyads, inner, is_plain, operand_examples
from .spectral_rule import SPECTRAL
from .svd import turned_slopes, value_slopes
from .ties import follow_entries
from .tops import Tops, by_top_pair, stack, top_pairs


def kinked(at: Spectrum, which: str) -> Any:
    """Where the largest or the smallest value is tied or zero."""
    i, j = (0, 1) if which == "largest" else (-1, -2)
    return at.null[..., i] | (at.group[..., i] == at.group[..., j] if at.group.shape[-1] > 1 else False)


# ---------------------------------------------------------------------------------------------------------------------
# By all factors


def extreme_gradient(a: Any, factors: SVDResult, which: str, options: Options) -> Any:
    """(1): U_k V_k^H / k, and 0 where the value is zero."""
    at = spectrum(factors.S, options)
    end = at.group[..., :1] if which == "largest" else at.group[..., -1:]
    k = (at.group == end).sum(axis=-1)[..., None, None].astype(factors.S.dtype)
    if is_plain(a) and np.all(k == 1):
        i = 0 if which == "largest" else -1
        return (factors.U[..., :, i] * ~at.null[..., i, None])[..., :, None] * factors.Vh[..., None, i, :]
    if is_plain(a):
        weights = np.where((at.group == end) & ~at.null, 1 / k[..., 0], 0.0).astype(factors.S.dtype)
        return dyads(factors.U, weights, factors.Vh)
    return SPECTRAL(a, family=Kept("one", which), factors=factors, options=options) / k


def simple_gradient(weights: Any, a: Any, factors: SVDResult, which: str, options: Options) -> Any:
    """`weights` (...) times (1) by kernels, or None: where something is tied or zero, or no kernels take these."""
    if not fusible(options, factors.U, factors.Vh, a, weights):
        return None
    S_bar = np.zeros(factors.S.shape, factors.S.dtype)
    S_bar[..., 0 if which == "largest" else -1] = weights
    A_bar, whole = pull_fused(*factors, None, S_bar, None)
    return A_bar if whole else None


def factored_slopes(a: Any, factors: SVDResult, dA: Any, which: str, options: Options) -> Any:
    """Re u^H dA v, in the basis that follows the direction if the value is tied or zero."""
    gradient = simple_gradient(1.0, a, factors, which, options)
    if gradient is not None:
        return inner(gradient, dA)
    at = spectrum(factors.S, options)
    if not np.any(kinked(at, which)):
        slope = inner(extreme_gradient(a, factors, which, options), dA)
        if which == "smallest" and graded(factors.S, a, dA, options):
            sharp = graded_slopes(primal(a), primal(dA), value_slopes(factors, primal(dA)), options)[..., -1]
            slope = slope - primal(slope) + sharp  # with outer tangents, if it has any
        return slope
    meet_tie(factors.S, at, options)
    need_all_directions(dA)
    return turned_slopes(a, factors, dA, options)[..., 0 if which == "largest" else -1]


def factored_cotangent(y_bar: Any, a: Any, factors: SVDResult, which: str, options: Options) -> Any:
    """y_bar times (1)."""
    a_bar = simple_gradient(y_bar, a, factors, which, options)
    if a_bar is not None:
        return a_bar
    if options.ties != "directional":
        at = spectrum(factors.S, options)
        if np.any(kinked(at, which)):
            meet_tie(factors.S, at, options)
    return y_bar[..., None, None] * extreme_gradient(a, factors, which, options)


# ---------------------------------------------------------------------------------------------------------------------
# By the top pair


def as_values(values: list[Any], a: Any) -> Any:
    """One number for each matrix, of the shape of the stack."""
    return np.array(values, dtype=a.real.dtype).reshape(a.shape[:-2])


def pair_slopes(tops: Tops, a: Any, dA: Any, options: Options) -> Any:
    """Re u^H dA v of each matrix."""
    if not is_plain(a):
        return inner(SPECTRAL(a, family=Kept("one", "largest"), factors=tops, options=options), dA)
    directions = np.reshape(dA, (np.shape(dA)[0], len(tops.each), *np.shape(a)[-2:]))
    slopes = [
        np.real(directions[:, i] @ top.v @ np.conj(top.u))
        if isinstance(top, Leading)
        else factored_slopes(matrix, top, directions[:, i], "largest", options)
        for i, (top, matrix) in enumerate(zip(tops.each, stack(a)))
    ]
    return np.reshape(np.stack(slopes, axis=-1), np.shape(dA)[:-2])


def pair_cotangent(y_bar: Any, tops: Tops, a: Any, options: Options) -> Any:
    """y_bar u v^H of each matrix."""
    if not is_plain(a):
        return y_bar[..., None, None] * SPECTRAL(a, family=Kept("one", "largest"), factors=tops, options=options)
    parts = [
        each_dyad((bar * top.u)[:, None], np.conj(top.v)[None])[0]
        if isinstance(top, Leading)
        else factored_cotangent(bar, matrix, top, "largest", options)
        for bar, top, matrix in zip(np.reshape(y_bar, (-1,)), tops.each, stack(a))
    ]
    return np.reshape(np.stack(parts), np.shape(a)) if np.ndim(a) > 2 else parts[0]


# ---------------------------------------------------------------------------------------------------------------------
# The rule


def extreme_function(a: Any, *, which: str, options: Options | None = None) -> Any:
    """s_1 or s_r of plain matrices, with what the derivative will need remembered beside it."""
    options = options or get()
    if which == "largest" and by_top_pair(a, options):
        tops = [pair or svd_factors(matrix, options) for pair, matrix in zip(top_pairs(a, options), stack(a))]
        return remember(as_values([t.sigma if isinstance(t, Leading) else t.S[0] for t in tops], a), Tops(tops))
    factors = svd_factors(a, options)
    return remember(factors.S[..., 0 if which == "largest" else -1].copy(), factors)


def known_at(y: Any, a: Any, options: Options) -> Tops | SVDResult:
    """What was remembered with y; all factors where the pairs do not tell the derivatives of a traced a."""
    known = recall(y) or svd_factors(primal(a), options)
    if isinstance(known, Tops) and not is_plain(a) and not known.pairs:
        return known.factors(primal(a), options)
    return known


def extreme_value(a: Any, which: str, options: Options) -> Any:
    """The same when nobody asks for derivatives."""
    if which == "largest" and by_top_pair(a, options):
        each = zip(top_pairs(a, options), stack(a))
        return as_values([p.sigma if p else singular_values(matrix, options)[0] for p, matrix in each], a)[()]
    return singular_values(a, options)[..., 0 if which == "largest" else -1][()]


def extreme_pushforward(y: Any, operands: Any, tangents: Any, *, which: str, options: Options | None = None) -> Any:
    (a,), (dA,), options = operands, tangents, options or get()
    if options.tangents == "sweeps" and is_plain(a, dA):
        return swept_slopes(a, dA, options)[..., 0 if which == "largest" else -1]
    known = known_at(y, a, options)
    if isinstance(known, Tops):
        return pair_slopes(known, a, dA, options)
    return factored_slopes(a, known, dA, which, options)


def extreme_pullback(y_bar: Any, y: Any, operands: Any, *, which: str, options: Options | None = None) -> tuple[Any]:
    (a,), options = operands, options or get()
    known = known_at(y, a, options)
    if isinstance(known, Tops):
        return (pair_cotangent(y_bar, known, a, options),)
    return (factored_cotangent(y_bar, a, known, which, options),)


def extreme_jacobian(
    y: Any,
    operands: Any,
    *,
    which: str,
    part: int | None = None,
    out: Any = None,
    least: bool | None = None,
    options: Options | None = None,
) -> Any:
    """The gradient itself; at a tie, if not the least, of the basis that follows all entries in turn."""
    (a,), options = operands, options or get()
    if np.ndim(a) != 2 or np.iscomplexobj(a) or not is_plain(a):
        return None
    if least is False:
        known = known_at(y, a, options)
        factors = known.each[0] if isinstance(known, Tops) else known
        if not isinstance(factors, Leading) and kinked(at := spectrum(factors.S, options), which):
            meet_tie(factors.S, at, options)
            U, _, Vh = follow_entries(factors, at)
            i = 0 if which == "largest" else -1
            return np.outer(U[:, i], Vh[i])
    return extreme_pullback(np.ones((), a.dtype), y, operands, which=which, options=options)[0]


def extreme_examples(rng: np.random.Generator) -> Iterator[Any]:
    for operands, _ in operand_examples(rng):
        yield operands, {"which": "largest"}
        yield operands, {"which": "smallest"}


EXTREME = Rule(
    "extreme_singular_value",
    extreme_function,
    extreme_pushforward,
    extreme_pullback,
    extreme_examples,
    jacobian=extreme_jacobian,
)
