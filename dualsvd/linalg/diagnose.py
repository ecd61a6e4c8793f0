"""What the spectrum of a matrix means for derivatives: clusters, gaps, rank, and the condition of each derivative."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

from ..rules.registry import primal
from ..settings import get
from .degeneracy import Spectrum, groups_of, same_group, spectrum
from .factorise import finite_part, spoil, svd_factors
from .matrices import as_matrix

#: matrices of a batch that a printed table shows; the report holds all
SHOWN = 20


@dataclasses.dataclass(frozen=True)
class SpectrumReport:
    """The singular values of a matrix or a stack (..., m, n), and how well each derivative is determined.

    S           (..., r)   singular values, descending
    gap         (..., r)   distance to the nearest point where u_i, v_i are not determined: another value, or zero where
                           that matters (m != n, or complex); derivatives of the vectors divide by it
    clusters    per matrix, in the order of the stack: tuples of indices (from 0) of values that count as equal
    rank        (...)      values that do not count as zero
    tied        (...)      whether two positive values count as equal
    deficient   (...)      whether a value counts as zero
    condition   per function, (...): how many units of relative error its derivative makes of one in the matrix;
                inf where the derivative does not exist
    mask        (...)      matrices at which `svd` has no derivative, or keeps less than half its digits
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    S: Any
    gap: Any
    clusters: tuple[tuple[tuple[int, ...], ...], ...]
    rank: Any
    tied: Any
    deficient: Any
    condition: dict[str, Any]
    mask: Any

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings; what is infinite becomes None."""
        return {
            "shape": list(self.shape),
            "dtype": self.dtype.name,
            "singular_values": plain(self.S),
            "gap": plain(self.gap),
            "clusters": [[list(cluster) for cluster in clusters] for clusters in self.clusters],
            "rank": plain(self.rank),
            "tied": plain(self.tied),
            "deficient": plain(self.deficient),
            "condition": {name: plain(x) for name, x in self.condition.items()},
            "mask": plain(self.mask),
        }

    def to_json(self) -> str:
        """The same as JSON."""
        return json.dumps(self.to_dict())

    def __str__(self) -> str:
        return self._table_of_one() if self.S.ndim == 1 else self._table_of_many()

    def _table_of_one(self) -> str:
        m, n = self.shape
        lines = [
            f"{m} x {n} {self.dtype}, rank {int(self.rank)}",
            "    i        sigma_i        gap   condition   meaning",
        ]
        clusters = {i: cluster for cluster in self.clusters[0] for i in cluster}
        top = self.S[0] if len(self.S) else 0.0
        for i, (s, gap) in enumerate(zip(self.S, self.gap)):
            if i >= self.rank:
                meaning = "zero: one-sided derivative only"
            elif len(clusters[i]) > 1:
                others = ", ".join(str(j + 1) for j in clusters[i] if j != i)
                meaning = f"tied with {others}: one-sided derivative only"
            else:
                meaning = "simple"
            lines.append(f"{i + 1:5d} {s:14.8g} {gap:10.1e} {ratio(top, gap):11.1e}   {meaning}")
        lines.append("  condition of the derivative of")
        lines += [f"    {name:<24} {float(x):9.1e}" for name, x in self.condition.items()]
        return "\n".join(lines)

    def _table_of_many(self) -> str:
        *batch, m, n = self.shape
        count = int(np.prod(batch))
        lines = [
            f"{count} matrices {m} x {n} {self.dtype}: {int(np.sum(self.tied))} with ties, "
            f"{int(np.sum(self.deficient))} deficient in rank, {int(np.sum(self.mask))} marked * where svd has no "
            "derivative or keeps less than half its digits",
            "  matrix   rank     sigma_1     sigma_r  least gap   condition of svd",
        ]
        for k, index in enumerate(np.ndindex(*batch)):
            if k == SHOWN:
                lines.append(f"  ... and {count - SHOWN} more")
                break
            s, name = self.S[index], ", ".join(map(str, index))
            first, last, gap = (s[0], s[-1], self.gap[index].min()) if len(s) else (0.0, 0.0, 0.0)
            lines.append(
                f"{name:>8} {int(self.rank[index]):6d} {first:11.4g} {last:11.4g} {gap:10.1e} "
                f"{self.condition['svd'][index]:18.1e}{'  *' if self.mask[index] else ''}"
            )
        return "\n".join(lines)


def plain(x: Any) -> Any:
    """An array as nested lists that JSON can hold."""
    if isinstance(x, np.ndarray):
        return [plain(y) for y in x] if x.ndim else plain(x[()])
    if isinstance(x, (bool, np.bool_)):
        return bool(x)
    if isinstance(x, (int, np.integer)):
        return int(x)
    return float(x) if np.isfinite(x) else None


def ratio(a: Any, b: Any) -> Any:
    """a / b, infinite where b is 0."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return np.where(np.equal(b, 0), np.inf, np.divide(a, b))[()]


def gaps(S: Any, at: Spectrum, to_zero: bool) -> Any:
    """The distance of each value to the nearest other (0 within a tie), and to zero where that counts."""
    r = S.shape[-1]
    if not r:
        return S.copy()
    distance = np.abs(S[..., :, None] - S[..., None, :])
    distance = np.where(same_group(at), 0.0, distance) + np.where(np.eye(r, dtype=bool), np.inf, 0.0)
    gap = distance.min(axis=-1)
    if to_zero:
        return np.minimum(gap, np.where(at.null, 0.0, S))
    return np.where(gap == np.inf, S, gap)  # where there is no other


def nearest_polar(S: Any, at: Spectrum, last: Any, to_zero: bool) -> Any:
    """What the derivative of the polar factor divides by: s_r, or (s_r + s_{r-1}) / 2 if a is square and real."""
    if to_zero or S.shape[-1] < 2:
        return last
    return (last + np.where(at.null[..., -2], 0.0, S[..., -2])) / 2


def diagnose(a: Any) -> SpectrumReport:
    """How well the derivatives of a matrix or a stack (..., m, n) are determined; prints as a table.

    Raises NonFiniteError for matrices that are not finite, which options(nonfinite="propagate") marks in the mask;
    ShapeError, DTypeError, ConvergenceError.

    >>> import numpy as np, dualsvd as ds
    >>> report = ds.linalg.diagnose(np.diag([2.0, 2.0, 1.0]))
    >>> report.clusters, int(report.rank), bool(report.mask)
    ((((0, 1), (2,)),), 3, True)
    """
    a = primal(as_matrix(a))
    options = get()
    _, bad = finite_part(a, options)
    (m, n), batch = a.shape[-2:], a.shape[:-2]
    S = svd_factors(a, options).S
    with np.errstate(invalid="ignore", over="ignore"):
        at = spectrum(S, options)
        gap = gaps(S, at, m != n or np.iscomplexobj(a))
        rank = np.sum(~at.null, axis=-1)
        rank = rank if bad is None else np.where(bad, 0, rank)[()]  # as matrix_rank counts them
        r = S.shape[-1]
        deficient = rank < r
        first, last, least = (np.ones(batch),) * 3
        if r:
            first, last = S[..., 0], np.where(at.null[..., -1], 0.0, S[..., -1])
            least = np.take_along_axis(S, np.maximum(rank - 1, 0)[..., None], axis=-1)[..., 0]
        polar = ratio(first, nearest_polar(S, at, last, m != n or np.iscomplexobj(a)))
        condition = {
            "svd": ratio(first, gap.min(axis=-1, initial=np.inf)),
            "opnorm": ratio(first, gap[..., 0]) if r else np.ones(batch),
            "nuclear_norm": np.where(deficient, np.inf, polar)[()],  # its gradient is the polar factor, but for kinks
            "polar": polar,
            "pinv, keeping the rank": ratio(first, least),
        }
        for k in range(1, r):
            cut = np.where(at.group[..., k - 1] == at.group[..., k], 0.0, S[..., k - 1] - S[..., k])
            condition[f"low_rank, k = {k}"] = ratio(first, cut)
    eps = float(np.finfo(S.dtype).eps)
    mask = ~(condition["svd"] < eps**-0.5)
    tied = np.zeros(batch, dtype=bool)
    clusters = []
    for index in np.ndindex(batch):
        groups = groups_of(at.group[index]) if r else []
        clusters.append(tuple(tuple(range(g.start, g.stop)) for g in groups))
        tied[index] = any(g.stop - g.start > 1 and not at.null[index][g.start] for g in groups)
    if bad is not None:
        S, gap = spoil((S, gap), bad)
    return SpectrumReport(
        a.shape, a.dtype, S, gap, tuple(clusters), rank, tied[()], deficient, condition, np.asarray(mask)[()]
    )
