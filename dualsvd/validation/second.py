"""Second derivatives of <w, f> for a fixed w (of f itself where it is a scalar): every nesting of the two modes.

Forward over reverse is the way of `hessian` and `hvp`; reverse over forward and forward over forward take the same
rules in another order, and differences of gradients know nothing of second derivatives at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..transforms import jvp, vjp
from .differences import slopes
from .first import REFUSALS, FirstOrder
from .limits import AGREEMENT_SECOND, EXHAUSTIVE_SECOND, RANDOM
from .report import Worst
from .vectors import Leaves, dimensions, double, inner, largest, length, plain, random_like

HESSIAN_REVERSE = "Hessian: reverse over forward = forward over reverse"
HESSIAN_FORWARD = "Hessian: forward over forward = forward over reverse"
HESSIAN_SYMMETRIC = "Hessian: <u, H v> = <v, H u>"
HESSIAN_DIFFERENCES = "Hessian: forward over reverse = differences"


class SecondOrder:
    """The Hessian at the point of a study of first derivatives, along its directions; rows go into that study."""

    def __init__(self, study: FirstOrder) -> None:
        self.study, self.x = study, study.x
        few = dimensions(self.x) > EXHAUSTIVE_SECOND
        self.directions = study.directions[:RANDOM] if few else study.directions
        scalar = len(study.y) == 1 and study.y[0].ndim == 0
        self.w = (np.ones_like(study.y[0]),) if scalar else random_like(study.y, study.weights(), study.rng)

    def compare(self) -> None:
        """Every comparison, with forward over reverse in the middle."""
        if not self.study.smooth:
            self.study.notes.append("no second derivatives at a kink")
            return
        try:
            gradient = self._gradient(*self.x)
            columns = [plain(jvp(self._gradient, self.x, u)[1]) for u in self.directions]
        except REFUSALS as error:
            self.study.refuse("forward over reverse", error)
            return
        self.scales = [
            max(largest(g), *(largest(column[k]) for column in columns)) or 1.0 for k, g in enumerate(gradient)
        ]
        self._measure_conditioning(columns)
        self._compare_nestings(columns)
        self._compare_symmetry(columns)
        self._compare_differences(columns)

    @property
    def allowed(self) -> float:
        return self.study.allowed(AGREEMENT_SECOND)

    def _scalar(self, *x: Any) -> Any:
        total: Any = 0.0
        for w, v in zip(self.w, self.study.f(*x)):
            total = total + np.sum(np.real(np.conj(w) * v) if np.iscomplexobj(w) else w * v)
        return total

    def _gradient(self, *x: Any) -> Leaves:
        return vjp(self._scalar, *x)[1](1.0)

    def _slope_along(self, u: Leaves) -> Callable[..., Any]:
        return lambda *x: jvp(self._scalar, x, u)[1]

    def _measure_conditioning(self, columns: list[Leaves]) -> None:
        there = plain(jvp(self._gradient, self.study.nearby(), self.directions[0])[1])
        changes = [largest(b - a) / s for a, b, s in zip(columns[0], there, self.scales)]
        self.study.count_conditioning(max(changes, default=0.0), "second derivative")

    def _compare_nestings(self, columns: list[Leaves]) -> None:
        for name, nesting, compare in (
            (HESSIAN_REVERSE, "reverse over forward", self._by_reverse),
            (HESSIAN_FORWARD, "forward over forward", self._by_forward),
        ):
            try:
                self.study.add(name, compare(columns))
            except REFUSALS as error:
                self.study.refuse(nesting, error)

    def _by_reverse(self, columns: list[Leaves]) -> Worst:
        worst = Worst()
        for u, column in zip(self.directions, columns):
            other = plain(vjp(self._slope_along(u), *self.x)[1](1.0))
            for a, b, scale in zip(other, column, self.scales):
                worst.add(largest(a - b) / scale, self.allowed)
        return worst

    def _by_forward(self, columns: list[Leaves]) -> Worst:
        worst, v = Worst(), self.directions[0]
        scale = sum(s * length(d) for s, d in zip(self.scales, v)) or 1.0
        for u, column in zip(self.directions, columns):
            twice = float(jvp(self._slope_along(u), self.x, v)[1])
            worst.add(abs(twice - inner(v, column)) / scale, self.allowed)
        return worst

    def _compare_symmetry(self, columns: list[Leaves]) -> None:
        worst = Worst()
        for i, (u, Hu) in enumerate(zip(self.directions, columns)):
            for v, Hv in zip(self.directions[:i], columns):
                scale = sum(length(a) * length(b) + length(c) * length(d) for a, b, c, d in zip(u, Hv, v, Hu)) or 1.0
                worst.add(abs(inner(u, Hv) - inner(v, Hu)) / scale, self.allowed)
        self.study.add(HESSIAN_SYMMETRIC, worst)

    def _compare_differences(self, columns: list[Leaves]) -> None:
        worst, left_out = Worst(), 0
        found = slopes(lambda *x: plain(self._gradient(*x)), double(self.x), self.directions, self.study.eps)
        for column, along in zip(columns, found):
            for a, slope, scale in zip(column, along, self.scales):
                accuracy = slope.accuracy / scale
                known = (accuracy <= slope.limit) & ~slope.kinked
                errors = np.abs(a - slope.central)[known] / scale
                worst.add_each(errors, np.maximum(accuracy[known], self.allowed))
                left_out += not np.all(known)
        self.study.add(HESSIAN_DIFFERENCES, worst)
        self.study.leave_out(left_out, "the Hessian")
