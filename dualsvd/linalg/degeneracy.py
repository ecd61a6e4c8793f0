"""Ties, zeros and gauge of singular values: their tolerances, and the coefficients both modes share.

The derivative of an SVD has two singularities, and the split form of the rules keeps them apart:

    1/(s_j - s_i)     singular where two values are equal         (`inverse_gaps`)
    1/(s_j + s_i)     singular only where two values are zero     (`inverse_sums`)

Values whose difference lies below the noise of the factorisation are *tied*, values below it are *null*. There the
coefficients are 0, and the callers see to it that nothing is lost: forward mode turns the singular vectors of a tie
into the basis that follows the direction (`adapt`), reverse mode asks that the cotangent does not need what is missing.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Any, NamedTuple

import numpy as np

from ..errors import DegeneracyWarning, DegenerateError, DualSVDError
from ..kernels.jacobi import TIE
from ..rules.registry import Tracer, primal
from ..settings import Options

# ---------------------------------------------------------------------------------------------------------------------
# Tolerances: TIE, SPLIT and GAUGE in units of r eps, where r is the number of values found together, those of a matrix
# or of a tied block; the others as they stand

# TIE is the kernels' own: singular values are computed to c r eps s_1 with c about 1 to 3; a smaller gap is noise.

#: Eigenvalues of a tied block along a direction D are exact to a few r eps |D|. The scale is the direction's: a block
#: may be pure rounding noise, which must not be split.
SPLIT = 64.0
#: Two numbers of that kind that were found in two ways differ by no more than twice that: each has its error.
UNEQUAL = 2 * SPLIT
#: A cotangent passes for gauge-invariant if the forbidden part is this small against the whole: it went through a
#: handful of products of length r before it came here, and may have lost some digits to cancellation there.
GAUGE = 1e4
#: A matrix whose values span more than this is graded, where each derivative is to be right relative to itself.
GRADED = 1e-2
#: One that spans more than this would leave the dyads of a Jacobian less than half their digits along directions graded
#: alike, and is worth what those digits cost there: a QR with n tangents for every row.
BADLY_GRADED = 1e-8
#: Outside this range of s_1 the reciprocals might leave the range of the numbers: scale by a power of two first. Inside
#: it 1/s^4 (single precision) and 1/s^5 (double) of s_1 itself stay in range, those of a third and a fourth derivative;
#: in double precision 1/s^4 does for s down to the noise as well.
SAFE_RANGE = {np.dtype(np.float32): (1e-9, 1e9), np.dtype(np.float64): (1e-60, 1e60)}


def tolerance(factor: float, r: int, dtype: np.dtype[Any]) -> float:
    """factor * r * eps of that type."""
    return factor * max(r, 1) * float(np.finfo(dtype).eps)


def slope_noise(D: Any, r: int, factor: float = SPLIT) -> Any:
    """(...): entries and eigenvalues below this, of U^H D V with r columns each, are rounding; |D| is no more than
    sqrt(m n) max |D_kl|."""
    m, n = D.shape[-2:]
    return tolerance(factor, r, D.real.dtype) * (m * n) ** 0.5 * np.max(np.abs(D), axis=(-2, -1), initial=0.0)


# ---------------------------------------------------------------------------------------------------------------------
# The spectrum: who is tied with whom, who is zero


class Spectrum(NamedTuple):
    """Which singular values are tied (same group) and which are null, decided on the primal.

    noise   (..., r)   the uncertainty of each value
    group   (..., r)   number of the group a value belongs to, counted from 0 at the largest
    null    (..., r)   whether the value counts as zero
    tied    (...)      whether the matrix has a group of two or more
    tail    (..., r)   what the values had below rounding when they were refined, or None
    absolute           whether the noise is the same for all values of a matrix
    """

    noise: Any
    group: Any
    null: Any
    tied: Any
    tail: Any = None
    absolute: bool = True

    @property
    def degenerate(self) -> Any:
        """Per matrix: whether anything is tied or null."""
        return self.tied | (self.null[..., -1] if self.null.shape[-1] else False)

    @property
    def shared(self) -> Any:
        """(..., r): whether another value is tied with this one."""
        return same_group(self).sum(axis=-1) > 1

    def of(self, index: tuple[int, ...] | slice) -> Spectrum:
        """That of one matrix of a stack, or some."""
        noise, group, null, tied = (x[index] for x in self[:4])
        return Spectrum(noise, group, null, tied, None if self.tail is None else self.tail[index], self.absolute)


def spectrum(S: Any, options: Options, tail: Any = None) -> Spectrum:
    """The groups of the singular values S (..., r), descending.

    "jacobi" computes every value to high relative accuracy, so that its noise is relative to the value itself.
    """
    S, absolute = primal(S), options.algorithm != "jacobi"
    r = S.shape[-1]
    noise = np.empty_like(S)
    np.multiply(tolerance(TIE, r, S.dtype), S[..., :1] if absolute else S, out=noise)
    joined = S[..., :-1] - S[..., 1:] <= noise[..., :-1]
    null = np.less_equal(S, noise)
    group = np.zeros(S.shape, dtype=np.intp)
    if not joined.any():
        group[...] = np.arange(r)
        return Spectrum(noise, group, null, np.zeros(S.shape[:-1], dtype=bool), tail, absolute)
    np.cumsum(~joined, axis=-1, out=group[..., 1:])
    if null.any():  # a group that reaches down to zero is null as a whole
        first_null = np.min(np.where(null, group, r), axis=-1, keepdims=True)
        null = group >= first_null
        group = np.minimum(group, first_null)
    return Spectrum(noise, group, null, joined.any(axis=-1), tail, absolute)


def eigen_spectrum(w: Any) -> Spectrum:
    """The groups of the eigenvalues w (..., n), ascending; none of them is special for being zero."""
    w = primal(w)
    n = w.shape[-1]
    largest = np.max(np.abs(w), axis=-1, keepdims=True, initial=0.0)
    noise = np.broadcast_to(tolerance(TIE, n, w.dtype) * largest, w.shape)
    joined = np.diff(w, axis=-1) <= noise[..., 1:]
    group = np.zeros(w.shape, dtype=np.intp)
    np.cumsum(~joined, axis=-1, out=group[..., 1:])
    return Spectrum(noise, group, np.zeros(w.shape, dtype=bool), joined.any(axis=-1))


def refine_groups(at: Spectrum, partials: Any, size: Any) -> Spectrum:
    """What is still tied, or null, after motions of those sizes (..., 1) that gave the values these partials
    (N, ..., r)."""
    noise = tolerance(SPLIT, partials.shape[-1], partials.dtype) * size
    still = (np.abs(np.diff(partials, axis=-1)) <= noise).all(axis=0)
    null = at.null & (np.abs(partials) <= noise).all(axis=0)
    joined = (np.diff(at.group, axis=-1) == 0) & still & (null[..., 1:] == null[..., :-1])
    group = np.zeros_like(at.group)
    np.cumsum(~joined, axis=-1, out=group[..., 1:])
    return at._replace(group=group, null=null, tied=joined.any(axis=-1))


def parted(first: Spectrum, at: Spectrum) -> Any:
    """(..., r): the values that are tied or null, `first`, but no more, `at`, after a motion: 1 / gap is infinite."""
    return (first.null & ~at.null) | (same_group(first) & ~same_group(at)).any(axis=-1)


def groups_of(group: Any) -> list[slice]:
    """The groups of one matrix as slices."""
    cuts = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(group)]
    return [slice(a, b) for a, b in itertools.pairwise(cuts) if b > a]


def same_group(at: Spectrum) -> Any:
    """(..., r, r): whether i and j are tied, the diagonal included."""
    return at.group[..., :, None] == at.group[..., None, :]


def inverse_gaps(S: Any, at: Spectrum) -> Any:
    """1/(s_j - s_i) at (i, j), 0 within a tie and on the diagonal."""
    same = same_group(at)
    gap = S[..., None, :] - S[..., :, None]
    if at.tail is not None:
        gap = gap + (at.tail[..., None, :] - at.tail[..., :, None])
    return reciprocal(gap, same)


def inverse_sums(S: Any, at: Spectrum) -> Any:
    """1/(s_j + s_i) at (i, j), 0 where both are null."""
    zero = at.null[..., :, None] & at.null[..., None, :]
    return reciprocal(S[..., None, :] + S[..., :, None], zero)


def inverse_values(S: Any, at: Spectrum) -> Any:
    """1/s, 0 where s is null."""
    return reciprocal(+S, at.null)


def reciprocal(x: Any, excluded: Any) -> Any:
    """1/x, in place of x where that is plain; 0 where excluded, the largest number where 1/x would be infinite."""
    if isinstance(x, Tracer):
        return ~excluded / (x + excluded)
    np.copyto(x, np.inf, where=excluded)
    top = np.finfo(x.dtype).max
    with np.errstate(over="ignore", divide="ignore"):
        return np.clip(np.divide(1, x, out=x), -top, top, out=x)


def largest_exponent(x: Any) -> Any:
    """Exponents e (..., 1, 1) such that |x| 2^-e has its largest entry in [1/2, 1); 0 for a zero matrix."""
    largest = np.max(np.abs(primal(x)), axis=(-2, -1), keepdims=True, initial=0.0)
    return np.frexp(np.where(np.isfinite(largest), largest, 1.0))[1]


def largest_part(a: Any) -> Any:
    """The largest real or imaginary part (...) of the entries of plain matrices, by modulus."""
    parts: tuple[Any, ...] = (a.real, a.imag) if np.iscomplexobj(a) else (a,)
    if a.ndim > 2 and a.shape[-2] * a.shape[-1] < len(a):  # many small ones: NumPy's loop is to run over the matrices
        parts = tuple(np.ascontiguousarray(np.moveaxis(part, (-2, -1), (0, 1))) for part in parts)
        axes = (0, 1)
    else:
        axes = (-2, -1)
    return np.maximum.reduce(
        [x for part in parts for x in (part.max(axis=axes, initial=0), -part.min(axis=axes, initial=0))]
    )


def scaled(x: Any, e: Any) -> Any:
    """x 2^e, by two factors, so that neither leaves the range of the numbers."""
    half = e // 2
    dtype = np.finfo(np.result_type(primal(x))).dtype
    return x * np.ldexp(dtype.type(1), half) * np.ldexp(dtype.type(1), e - half)


def values_in_range(y: Any) -> bool:
    """Whether plain norms, or smallest values, are in range: none is zero, or NaN."""
    low, high = SAFE_RANGE[y.dtype]
    return bool(y.size and low <= y.min() and y.max() <= high)


def out_of_range(S: Any) -> bool:
    """Whether some matrix has a spectral norm so small or large that reciprocals are in danger."""
    S = primal(S)
    if not S.size:
        return False
    low, high = SAFE_RANGE[S.dtype]
    top = S[..., 0]
    return bool((((top < low) & (top > 0)) | (top > high)).any())


# ---------------------------------------------------------------------------------------------------------------------
# What is said at a tie


def of_matrix(index: tuple[int, ...]) -> str:
    """' of matrix 3' or ' of matrix (3, 1)' of a stack, '' of a single matrix: for messages."""
    return f" of matrix {index[0] if len(index) == 1 else index}" if index else ""


def where_tied(S: Any, at: Spectrum) -> str:
    """'sigma_1 = 2 and sigma_2 = 2 (gap 0.0e+00) of matrix 3': the first tie or zero, for messages."""
    S = primal(S)
    bad = np.argwhere(np.atleast_1d(at.degenerate)).tolist()
    index = tuple(bad[0]) if bad else (0,) * max(S.ndim - 1, 1)
    s, group, null = (x if S.ndim == 1 else x[index] for x in (S, at.group, at.null))
    matrix = of_matrix(() if S.ndim == 1 else index)
    for i in range(len(s) - 1):
        if group[i] == group[i + 1] and not null[i]:
            return f"sigma_{i + 1} = {s[i]:.6g} and sigma_{i + 2} = {s[i + 1]:.6g} (gap {s[i] - s[i + 1]:.1e}){matrix}"
    zeros = np.flatnonzero(null)
    i = int(zeros[0]) if len(zeros) else 0
    return f"sigma_{i + 1} = {s[i]:.1e}, which is zero to working accuracy{matrix}"


def object_to(kind: type[DualSVDError], message: str, options: Options, *, vouched: bool = False) -> None:
    """Raise, warn of, or pass over a derivative that does not exist or is not determined, as `ties` says.

    vouched: whether ties="subspace" (the caller vouches for the rest of the function) covers this case.
    """
    if options.ties == "warn":
        warnings.warn(message, DegeneracyWarning, stacklevel=2)
    elif not (vouched and options.ties == "subspace"):
        raise kind(message)


def meet_tie(S: Any, at: Spectrum, options: Options) -> None:
    """What ties="raise" and ties="warn" say where values meet, in both modes.

    Under "directional" there is nothing to say: forward mode gives the one-sided derivative, reverse mode of values and
    norms the least subgradient.
    """
    if options.ties in ("raise", "warn") and np.any(at.degenerate):
        object_to(
            DegenerateError,
            f"the singular values meet at {where_tied(S, at)}: only one-sided directional derivatives exist there; "
            'take ties="directional" for those, or a function that is smooth there (polar, pinv, low_rank, '
            "spectral_function, norms)",
            options,
        )
