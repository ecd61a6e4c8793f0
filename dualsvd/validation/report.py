"""What a validation found: rows that can be read, tested, raised and printed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from ..errors import DualSVDError


class DisagreementError(DualSVDError, AssertionError):
    """Two ways to the same derivative gave different results."""


class Row(NamedTuple):
    """One comparison: what was compared, how far apart the two were, how far apart they may be."""

    name: str
    error: float
    tolerance: float
    passed: bool


def row(name: str, error: float, tolerance: float) -> Row:
    """A row with its verdict; an error that is not a number has not passed."""
    return Row(name, float(error), float(tolerance), bool(error <= tolerance))


class Worst:
    """Of many comparisons of one kind, the one that came closest to its tolerance, or went furthest beyond it."""

    def __init__(self) -> None:
        self.error, self.tolerance, self.ratio = 0.0, 0.0, -1.0

    def add(self, error: float, tolerance: float) -> None:
        """Take one more comparison into account; an error that is not a number is the worst of all."""
        if error == 0:
            ratio = 0.0
        elif math.isfinite(error) and tolerance > 0:
            ratio = error / tolerance
        else:
            ratio = math.inf
        if ratio > self.ratio:
            self.error, self.tolerance, self.ratio = error, tolerance, ratio

    def add_each(self, errors: Any, tolerances: Any) -> None:
        """Take comparisons of many elements into account."""
        errors, tolerances = np.broadcast_arrays(errors, tolerances)
        if not errors.size:
            self.add(0.0, 0.0)
            return
        with np.errstate(all="ignore"):
            ratios = np.where(errors == 0, 0.0, errors / tolerances)
        k = int(np.argmax(np.where(np.isnan(ratios), np.inf, ratios)))
        self.add(float(errors.flat[k]), float(tolerances.flat[k]))


def _finite(part: Any) -> Any:
    return None if isinstance(part, float) and not math.isfinite(part) else part


@dataclasses.dataclass(frozen=True)
class ValidationReport:
    """The comparisons made at one point, and what to know when reading them.

    subject   what was validated, in words
    rows      one `Row(name, error, tolerance, passed)` per comparison
    smooth    False at a kink, where other things must hold than at a smooth point
    notes     ways that did not apply, and why; what was found about the point

    `str()` is a table, `to_dict()` is ready for JSON.
    """

    subject: str
    rows: tuple[Row, ...]
    smooth: bool = True
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether anything was compared, and all of it agreed."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    def raise_if_failed(self) -> None:
        """Raise DisagreementError, with the table, unless all comparisons agreed."""
        if not self.passed:
            raise DisagreementError(str(self))

    def to_dict(self) -> dict[str, Any]:
        """The report as plain numbers, strings, lists and dicts; what is not finite becomes None."""
        return {
            "subject": self.subject,
            "passed": self.passed,
            "smooth": self.smooth,
            "rows": [{key: _finite(part) for key, part in r._asdict().items()} for r in self.rows],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        width = max([len(r.name) for r in self.rows], default=0)
        lines = [self.subject]
        if self.rows:
            lines.append(f"  {'':{width}}  {'error':>8}  {'allowed':>8}")
        for r in self.rows:
            verdict = "agrees" if r.passed else "DISAGREES"
            lines.append(f"  {r.name:{width}}  {r.error:8.1e}  {r.tolerance:8.1e}  {verdict}")
        lines += [f"  note: {note}" for note in self.notes]
        failed = sum(not r.passed for r in self.rows)
        if not self.rows:
            lines.append("  nothing could be compared")
        else:
            lines.append(f"  {failed} of {len(self.rows)} disagree" if failed else f"  all {len(self.rows)} agree")
        return "\n".join(lines)
