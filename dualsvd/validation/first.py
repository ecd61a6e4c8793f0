"""First derivatives of one function at one point, by every way, and the comparisons between them.

Three of the ways share nothing. Closed-form rules push tangents through the converged factors; the sweeps carry them
through every rotation of the Jacobi iteration; differences know only values. The adjoint is the transpose of the first,
and the identity <y_bar, J v> = <J^T y_bar, v> holds the two against each other without any step size.

Where the point is a kink the derivative is not linear, and other things must hold: dual numbers give the one-sided
slope f'(A; D), and the adjoint a subgradient, <G, D> <= f'(A; D).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from ..errors import BackendError, DegenerateError, DualSVDError, GaugeError, MissingRuleError, in_one_line
from ..reverse import Tape
from ..rules.levels import at_new_level
from ..settings import options
from ..transforms import jvp, vjp
from .differences import Slopes, is_smooth, slopes
from .limits import (
    AGREEMENT,
    AGREEMENT_SWEEPS,
    CONDITIONING,
    EXHAUSTIVE,
    ILL_POSED,
    RANDOM,
)
from .report import Row, ValidationReport, Worst, row
from .vectors import (
    Leaves,
    basis_of,
    dimensions,
    double,
    inner,
    largest,
    length,
    moved,
    negative,
    norm,
    plain,
    random_like,
    typical,
)

Pullback = Callable[[Leaves], Leaves]

#: what a mode says where it rightly gives no derivative: there is no rule, or nothing to give
REFUSALS = (MissingRuleError, GaugeError, DegenerateError)

#: the rules that carry tangents through the sweeps, unless the function asks them for closed forms itself
SWEEPING = ("svd", "svdvals", "nuclear_norm", "extreme_singular_value")

VALUE = "value, with tangents = without"
KINDS = "shapes and dtypes of derivatives"
FORWARD = "forward = differences"
SWEEPS_VALUE = "value, through the sweeps = without"
SWEEPS = "forward through the sweeps = closed form"
REVERSE = "reverse = forward"
ADJOINT = "<y_bar, J v> = <J^T y_bar, v>"
REVERSE_DIFFERENCES = "reverse = differences"
ONE_SIDED = "forward along D = one-sided differences"
BETWEEN = "forward between the one-sided slopes"
CONVEX = "subgradient: <G, D> <= f'(A; D)"
CONCAVE = "supergradient: <G, D> >= f'(A; D)"
NOTHING = "nothing to compare the derivative with"

#: they say nothing of how large a derivative is
NO_EVIDENCE = {VALUE, SWEEPS_VALUE, KINDS}


@dataclasses.dataclass(frozen=True)
class Pulled:
    """Reverse mode at a point: its pullback, and pairs (y_bar, x_bar); `gauge`: they were chosen to see none."""

    pullback: Pullback
    pairs: list[tuple[Leaves, Leaves]]
    gauge: bool


class FirstOrder:
    """One function of arrays at one point: its derivatives by all ways, and the comparisons between them.

    f     arrays -> a tuple of arrays
    x     the arrays; each direction moves each of them by as much as it is large

    exhaustive   up to so many real dimensions every basis direction is tried, beyond it random ones only
    """

    def __init__(
        self,
        f: Callable[..., Leaves],
        x: Leaves,
        rng: np.random.Generator,
        tol: float | None = None,
        exhaustive: int = EXHAUSTIVE,
    ) -> None:
        self.f, self.x, self.rng, self.tol, self.exhaustive = f, x, rng, tol, exhaustive
        self.rows: list[Row] = []
        self.notes: list[str] = []
        self.refusals: list[DualSVDError] = []
        self.smooth = True
        self.y = plain(f(*x))
        self.eps = max((float(np.finfo(v.dtype).eps) for v in (*self.x, *self.y)), default=0.0)
        self.x_scales = [typical(v) for v in x]
        self.y_scales = [largest(v) or 1.0 for v in self.y]
        self.directions = [random_like(x, self.x_scales, rng) for _ in range(RANDOM)]
        if dimensions(x) <= self.exhaustive:
            self.directions += basis_of(x, self.x_scales)
        self.conditioning = 0.0
        self.kinds = Worst()

    def report(self, subject: str) -> ValidationReport:
        """What was found so far."""
        return ValidationReport(subject, tuple(self.rows), self.smooth, tuple(self.notes))

    def allowed(self, agreement: float, conditioning: float = 0.0) -> float:
        """The relative error to allow between two right computations that round, one of them perhaps worse conditioned
        than the derivative."""
        worse = max(conditioning, self.conditioning)
        return agreement * self.eps + CONDITIONING * worse if self.tol is None else self.tol

    def add(self, name: str, worst: Worst) -> None:
        """A row of the report, if anything was compared."""
        if worst.ratio >= 0:
            self.rows.append(row(name, worst.error, worst.tolerance))

    def leave_out(self, count: int, way: str) -> None:
        """Note so many comparisons that differences could not decide."""
        if count:
            self.notes.append(
                f"{count} comparisons of {way} with differences are left out: these settle on no slope, or meet a kink"
            )

    def refuse(self, way: str, error: DualSVDError) -> None:
        """Note a way that does not apply, and why."""
        self.refusals.append(error)
        self.notes.append(f"{way} does not apply: {type(error).__name__}: {in_one_line(error)}")

    def compare(self) -> None:
        """Every way, every comparison; at a kink those that hold there."""
        differences = self._differences()
        bent = [any(np.any(s.kinked) for s in along) for along in differences]
        self._find_kinks(bent, "one-sided slopes differ")
        tangents = self._forward()
        central = [tuple(s.central for s in along) for along in differences]
        self.y_scales = self._output_scales(central if tangents is None else tangents)
        linear, opposite = True, None
        if tangents is not None:
            opposite = self._opposite(tangents, differences)
            bent = self._not_linear(tangents, opposite, differences)
            self._find_kinks(bent, "forward mode is not linear")
            linear = not any(bent)
        if tangents is not None and linear:
            self._measure_conditioning(tangents)
        pulled = self._reverse(tangents) if linear else None
        gauge = pulled is not None and pulled.gauge
        if tangents is not None and opposite is not None and not gauge:
            self._compare_forward(tangents, opposite, differences)
            self._compare_sweeps(tangents)
        if pulled is not None:
            self._compare_reverse(pulled, tangents, differences)
        if not linear or (pulled is not None and tangents is None and not self.smooth):
            self._compare_subgradient(differences)
        self.add(KINDS, self.kinds)
        if not self.rows and self.refusals:
            raise type(self.refusals[0])(f"nothing could be compared: {'; '.join(self.notes)}")
        if NO_EVIDENCE.issuperset(r.name for r in self.rows):
            self.rows.append(row(NOTHING, np.inf, 0.0))

    def _differences(self) -> list[Slopes]:
        """In double precision, whatever the precision of x: they are the reference for its rounding too."""
        return slopes(
            lambda *x: plain(self.f(*x)),
            double(self.x),
            self.directions,
            self.eps,
        )

    def _push(self, direction: Leaves, x: Leaves | None = None) -> tuple[Leaves, Leaves]:
        y, dy = jvp(self.f, self.x if x is None else x, direction)
        return plain(y), plain(dy)

    def _forward(self) -> list[Leaves] | None:
        """The tangents along all directions by closed-form rules, or None where f has no forward mode."""
        try:
            results = [self._push(direction) for direction in self.directions]
        except REFUSALS as error:
            self.refuse("forward", error)
            return None
        value, tangents = Worst(), [dy for _, dy in results]
        scales = self._output_scales(tangents)  # of a value that is zero to rounding, how far rounding of x moves it
        for y, dy in results:
            for v, u, du, scale in zip(self.y, y, dy, scales):
                value.add(largest(u - v) / scale, self.allowed(AGREEMENT))
                self.kinds.add(float((u.shape, u.dtype, v.dtype) != (du.shape, du.dtype, du.dtype)), 0.0)
        self.add(VALUE, value)
        return tangents

    def _output_scales(self, tangents: list[Leaves]) -> list[float]:
        """The largest element of each output and of its derivatives: what its errors are relative to."""
        scales = []
        for k, v in enumerate(self.y):
            sizes = [largest(v), *(largest(dy[k]) for dy in tangents)]
            scales.append(max((size for size in sizes if np.isfinite(size)), default=0.0) or 1.0)
        return scales

    def _find_kinks(self, bent: list[bool], how: str) -> None:
        if self.smooth and any(bent):
            self.smooth = False
            self.notes.append(f"not smooth here: {how} along {sum(bent)} of {len(bent)} directions")

    def _opposite(self, tangents: list[Leaves], differences: list[Slopes]) -> list[Leaves]:
        """The tangents along the opposite directions. Where values vouch for a smooth function nobody needs to ask."""
        if all(is_smooth(along, self.y_scales) for along in differences):
            return [negative(dy) for dy in tangents]
        return [self._push(negative(direction))[1] for direction in self.directions]

    def _not_linear(self, tangents: list[Leaves], opposite: list[Leaves], differences: list[Slopes]) -> list[bool]:
        """Per direction: whether what forward mode gives along -D is not the opposite of what it gives along D.

        That is how it answers at a kink, and in single precision within a tie that differences in double precision
        see apart. Along a direction that values find smooth it would be wrong, and is compared as any other.
        """
        return [
            not is_smooth(along, self.y_scales)
            and any(
                not largest(p + m) / scale <= self.allowed(AGREEMENT) for p, m, scale in zip(plus, minus, self.y_scales)
            )
            for plus, minus, along in zip(tangents, opposite, differences)
        ]

    def nearby(self) -> Leaves:
        """x with its last digit changed."""
        nudge = random_like(self.x, self.x_scales, self.rng)
        return tuple(u.astype(v.dtype) for u, v in zip(moved(self.x, nudge, self.eps), self.x))

    def _measure_conditioning(self, tangents: list[Leaves]) -> None:
        self.count_conditioning(self._change(tangents), "derivative")

    def _change(self, tangents: list[Leaves]) -> float:
        """How far the derivative moves when its argument moves in the last digit."""
        x, changes = self.nearby(), [0.0]
        for direction, dy in list(zip(self.directions, tangents))[:RANDOM]:
            there = self._push(direction, x)[1]
            changes += [largest(b - a) / s for a, b, s in zip(dy, there, self.y_scales)]
        return max(changes)

    def count_conditioning(self, change: float, of: str) -> None:
        """Allow for a derivative that moves, unless it moves so far that it has no digits."""
        if change <= ILL_POSED:
            self.conditioning = max(self.conditioning, change)
        else:
            self.notes.append(f"ill-posed here: the {of} changes when x changes in its last digit")

    def _compare_forward(self, tangents: list[Leaves], opposite: list[Leaves], differences: list[Slopes]) -> None:
        """Against central differences where f is smooth; where it has a kink, against one-sided ones.

        At a kink forward mode is either not linear, and then claims the exact one-sided slopes, or it is (abs at 0,
        maximum of equals), and then has chosen a number between the two.
        """
        central, one_sided, between = Worst(), Worst(), Worst()
        left_out = 0
        for tangent, opposed, along in zip(tangents, opposite, differences):
            for up, down, slope, scale in zip(tangent, opposed, along, self.y_scales):
                bent = np.abs(up + down) > self.allowed(AGREEMENT) * scale
                kinked = slope.kinked | bent
                low, high = np.minimum(slope.left, slope.right), np.maximum(slope.left, slope.right)
                exact = np.where(slope.resolved, slope.one_sided, np.inf)
                for worst, where, allowed, gap in (
                    (central, ~kinked, slope.accuracy, up - slope.central),
                    (one_sided, kinked & bent, exact, up - slope.right),
                    (one_sided, kinked & bent, exact, down + slope.left),
                    (between, kinked & ~bent, slope.one_sided, np.maximum(0, up - high)),
                    (between, kinked & ~bent, slope.one_sided, np.maximum(0, low - up)),
                ):
                    known = where & (allowed / scale <= slope.limit)
                    left_out += bool(np.any(where & ~known))
                    if np.any(known) or not np.size(where):
                        errors, tolerances = np.abs(gap[known]) / scale, allowed[known] / scale
                        worst.add_each(errors, np.maximum(tolerances, self.allowed(AGREEMENT)))
        self.add(FORWARD, central)
        self.add(ONE_SIDED, one_sided)
        self.add(BETWEEN, between)
        self.leave_out(left_out, "forward mode")

    def _compare_sweeps(self, tangents: list[Leaves]) -> None:
        swept = self._swept()
        if swept == "no":
            return
        value, worst, same = Worst(), Worst(), True
        try:
            with options(tangents="sweeps"):
                results = [self._push(direction) for direction in self.directions]
                change = self._change([dy for _, dy in results])
        except BackendError as error:  # no compiler
            self.refuse("forward mode through the sweeps", error)
            return
        allowed = self.allowed(AGREEMENT_SWEEPS, change if change <= ILL_POSED else 0.0)
        for (y, dy), expected in zip(results, tangents):
            for v, u, a, b, scale in zip(self.y, y, dy, expected, self.y_scales):
                value.add(largest(u - v) / scale, self.allowed(AGREEMENT_SWEEPS))
                worst.add(largest(a - b) / scale, allowed)
                same &= bool(np.array_equal(a, b))
        if swept == "yes" or not same:
            self.add(SWEEPS_VALUE, value)
            self.add(SWEEPS, worst)

    def _swept(self) -> Literal["yes", "perhaps", "no"]:
        """Whether the sweeps carry the tangents of anything that f calls.

        Perhaps: fused functions of the spectrum may have a closed form only, and some functions no tape can read.
        """

        def record(tag: int) -> Tape:
            tape = Tape(tag)
            self.f(*(tape.input(v) for v in self.x))
            return tape

        try:
            with options(tangents="sweeps"):
                tape = at_new_level(record)
        except DualSVDError:
            return "perhaps"
        nodes = [node for node in tape.nodes if node.rule is not None and "options" in node.params]
        if not nodes:
            return "no"
        return "yes" if any(self._sweeps(node) for node in nodes) else "perhaps"

    @staticmethod
    def _sweeps(node: Any) -> bool:
        return node.rule.name in SWEEPING and node.params["options"].tangents == "sweeps"

    # -- reverse

    def _reverse(self, tangents: list[Leaves] | None) -> Pulled | None:
        """Cotangents and what they pull back to, or None where reverse mode does not apply, or rightly refuses.

        Where the value depends on a gauge, only a cotangent that does not see it has a derivative. One from the image
        of the pushforward, which moves no gauge, takes the place of the random ones.
        """
        pullback = self._pullback()
        if pullback is None:
            return None
        cotangents = [random_like(self.y, self.weights(), self.rng) for _ in range(RANDOM)]
        if dimensions(self.y) <= self.exhaustive:
            cotangents += basis_of(self.y, self.weights())
        try:
            return Pulled(pullback, [(y_bar, pullback(y_bar)) for y_bar in cotangents], gauge=False)
        except GaugeError as error:
            if tangents is None:
                self.refuse("reverse", error)
                return None
        except REFUSALS as error:
            self.refuse("reverse", error)
            return None
        y_bar = self._unit(tangents[0])
        try:
            pairs = [(y_bar, pullback(y_bar))]
        except REFUSALS as error:
            self.refuse("reverse", error)
            return None
        self.notes.append(
            "the value depends on a gauge (the phases of singular vectors, say): reverse mode is compared for "
            "cotangents that do not see it; the sweeps and differences follow gauges of their own, and are not compared"
        )
        return Pulled(pullback, pairs, gauge=True)

    def _pullback(self) -> Pullback | None:
        try:
            pullback = vjp(self.f, *self.x)[1]
        except REFUSALS as error:
            self.refuse("reverse", error)
            return None
        return lambda y_bar: plain(pullback(y_bar))

    def weights(self) -> list[float]:
        """The scale of cotangents that lets every output count alike, whatever its size and its number of elements."""
        return [1.0 / (scale * np.sqrt(max(1, np.size(v)))) for v, scale in zip(self.y, self.y_scales)]

    def _unit(self, dy: Leaves) -> Leaves:
        size = norm(dy) or 1.0
        return tuple(part / size for part in dy)

    def _compare_reverse(self, pulled: Pulled, tangents: list[Leaves] | None, differences: list[Slopes]) -> None:
        entries, by_values, left_out = Worst(), Worst(), 0
        for y_bar, x_bar in pulled.pairs:
            for v, bar in zip(self.x, x_bar):
                self.kinds.add(float((v.shape, v.dtype) != (bar.shape, bar.dtype)), 0.0)
            for i, (direction, along) in enumerate(zip(self.directions, differences)):
                slope = inner(x_bar, direction)
                if not pulled.gauge:
                    left_out += not self._compare_slope(y_bar, slope, along, by_values)
                if tangents is not None:
                    scale = self._pair_scale(y_bar, tangents[i], x_bar, direction)
                    entries.add(abs(inner(y_bar, tangents[i]) - slope) / scale, self.allowed(AGREEMENT))
        self.add(REVERSE, entries)
        if tangents is not None:
            self._compare_adjoint(pulled)
        self.add(REVERSE_DIFFERENCES, by_values)
        self.leave_out(left_out, "reverse mode")

    def _pair_scale(self, y_bar: Leaves, dy: Leaves, x_bar: Leaves, direction: Leaves) -> float:
        """What <y_bar, dy> is measured by; never less than the value gives, whose rounding it inherits."""
        value = sum(length(w) * largest(v) for w, v in zip(y_bar, self.y))
        forward = sum(length(w) * length(t) for w, t in zip(y_bar, dy))
        reverse = sum(length(w) * length(t) for w, t in zip(x_bar, direction))
        return max(forward, reverse, value) or 1.0

    def _compare_slope(self, y_bar: Leaves, slope: float, differences: Slopes, worst: Worst) -> bool:
        """<G, D> against <y_bar, difference>, where the differences have settled and nothing is kinked: whether so."""
        accuracy = [s.accuracy for s in differences]
        if any(np.any(s.kinked) for s in differences) or not self._is_known(y_bar, accuracy, differences):
            return False
        scale = sum(length(w) * size for w, size in zip(y_bar, self.y_scales)) or 1.0
        uncertain = sum(float(np.sum(np.abs(w[w != 0]) * a[w != 0])) for w, a in zip(y_bar, accuracy))
        allowed = max(uncertain / scale, self.allowed(AGREEMENT))
        seen = tuple(np.where(w == 0, 0, s.central) for w, s in zip(y_bar, differences))  # the others may not be known
        worst.add(abs(slope - inner(y_bar, seen)) / scale, allowed)
        return True

    def _is_known(self, y_bar: Leaves, accuracy: Sequence[Any], differences: Slopes) -> bool:
        """Whether differences know the slope of every element that a cotangent sees."""
        return all(
            bool(np.all((a <= s.limit * scale) | (w == 0)))
            for w, a, s, scale in zip(y_bar, accuracy, differences, self.y_scales)
        )

    def _compare_adjoint(self, pulled: Pulled) -> None:
        """The identity, with vectors that nothing before has used."""
        v = random_like(self.x, self.x_scales, self.rng)
        dy = self._push(v)[1]
        if pulled.gauge:
            y_bar = self._unit(self._push(random_like(self.x, self.x_scales, self.rng))[1])
        else:
            y_bar = random_like(self.y, self.weights(), self.rng)
        x_bar = pulled.pullback(y_bar)
        scale = self._pair_scale(y_bar, dy, x_bar, v)
        worst = Worst()
        worst.add(abs(inner(y_bar, dy) - inner(x_bar, v)) / scale, self.allowed(AGREEMENT))
        self.add(ADJOINT, worst)

    def _compare_subgradient(self, differences: list[Slopes]) -> None:
        """At a kink: of a convex f, <G, D> <= f'(A; D) along every D; of several outputs, their sum is taken."""
        if any(np.iscomplexobj(v) for v in self.y):
            self.notes.append("complex values are neither convex nor concave: reverse mode is not compared at a kink")
            return
        pullback = self._pullback()
        if pullback is None:
            return
        y_bar = tuple(np.full_like(v, 1.0 / (scale * max(1, np.size(v)))) for v, scale in zip(self.y, self.y_scales))
        try:
            G = pullback(y_bar)
        except REFUSALS as error:
            self.refuse("reverse", error)
            return
        cases = []
        for direction, along in zip(self.directions, differences):
            one_sided = [s.one_sided for s in along]
            if self._is_known(y_bar, one_sided, along):
                uncertain = sum(float(np.sum(w * a)) for w, a in zip(y_bar, one_sided))
                right, left = (inner(y_bar, side) for side in zip(*((s.right, s.left) for s in along)))
                cases.append((inner(G, direction), right, left, max(uncertain, self.allowed(AGREEMENT))))
        self.leave_out(len(differences) - len(cases), "the subgradient")
        convex = all(right >= left - allowed for _, right, left, allowed in cases)
        concave = all(right <= left + allowed for _, right, left, allowed in cases)
        if not convex and not concave:
            self.notes.append("neither convex nor concave along these directions: no subgradient to compare")
            return
        worst = Worst()
        for slope, right, left, allowed in cases:
            worst.add(max(0.0, slope - max(right, left), min(right, left) - slope), allowed)
        self.add(CONVEX if convex else CONCAVE, worst)
