"""Divided differences of the functions that act on singular values, exact where the values meet.

A spectral function F(A) = U f(S) V^H is the upper right block of f(H), H = [[0, A], [A^H, 0]] with eigenvalues s, -s
and 0, where f is continued oddly. Its derivatives of every order have the divided differences of f as coefficients
(Daleckii and Krein 1965; Noferini 2017): for x_0 <= ... <= x_p,

    f[x_0] = f(x_0),    f[x_0 ... x_p] = (f[x_1 ... x_p] - f[x_0 ... x_{p-1}]) / (x_p - x_0)

The quotient is right where x_0 and x_p are apart. Where they meet, f[x_0 ... x_p] is a mean of the p-th derivative
over the simplex (Hermite and Genocchi), taken in closed form or by Gauss-Legendre quadrature; where they lie on
different pieces of f (one value kept, one cut away), there is no meeting.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError
from ..rules.registry import primal
from .degeneracy import Spectrum, of_matrix

#: Arguments closer than this, relative to the larger one, are averaged over instead of divided by their difference. The
#: quotient loses a factor 1/0.05 at most; five points of Gauss-Legendre leave (0.05/2)^10 of a function that varies on
#: the scale of its argument.
NEAR = 0.05
#: From second differences on a quotient is right to its bound, the errors of the lower differences by the gap. A
#: quadrature that differs by more has missed a kink, or the jump at 0 of a function like s^2 when continued oddly.
#: f may lose that many units of eps to cancellation, as log(1 + s) does; arguments closer than eps^0.5 show no kink.
CANCELLED = 1e3


def gauss_legendre(points: int) -> tuple[Any, Any]:
    """Nodes and weights on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(points)
    return 0.5 * (x + 1.0), 0.5 * w


#: Five points of Gauss-Legendre, and of Gauss-Lobatto, which looks at the ends: no jump of the slope hides from both.
QUADRATURE = gauss_legendre(5)
COARSE = 0.5 + 0.5 * np.array([-1, -((3 / 7) ** 0.5), 0, (3 / 7) ** 0.5, 1]), np.array([9, 49, 64, 49, 9]) / 180


@dataclasses.dataclass(slots=True)
class Nodes:
    """Signed arguments of f.

    x        the numbers
    piece    the label of the piece of f each lies on, with the sign of its argument
    tail     what the numbers had below rounding, which their differences show, or None
    """

    x: Any
    piece: Any
    tail: Any = None

    def symmetric(self, zero: bool) -> Nodes:
        """These, which descend in the last axis, their opposites and perhaps 0: ascending in the first axis."""

        def line(y: Any) -> Any:
            y = np.moveaxis(y, -1, 0)
            return np.concatenate([-y, *([np.zeros_like(y[:1])] if zero else []), y[::-1]])

        return Nodes(line(self.x), line(self.piece), None if self.tail is None else line(self.tail))


class Family:
    """A function f of singular values, odd when continued to negative ones, analytic on pieces of the line.

    pieces     a label per singular value: values of different labels lie on different pieces; on 0 f is zero
    nodes      the values at which f is taken: zeros of the factorisation as exact zeros
    value      f at nonnegative values of one piece
    local      the divided difference of x (p + 1, ...) within one piece, and its error; asked where `near` says so and,
               if the line is `one_piece`, from second differences on where the quotient is less exact than at NEAR
    """

    one_piece = False  # whether f may be analytic on the whole line, or have kinks anywhere

    def pieces(self, S: Any, at: Spectrum) -> Any:
        raise NotImplementedError

    def nodes(self, S: Any, at: Spectrum) -> Any:
        return np.where(at.null, S.dtype.type(0), S)

    def value(self, s: Any, piece: Any) -> Any:
        raise NotImplementedError

    def near(self, low: Any, high: Any) -> Any:
        return np.ones(np.broadcast_shapes(np.shape(low), np.shape(high)), dtype=bool)

    def local(self, x: Any, piece: Any) -> Any:
        raise NotImplementedError

    def broken(self, S: Any, at: Spectrum) -> str | None:
        """Why the function has no derivative, or None."""
        return None


# ---------------------------------------------------------------------------------------------------------------------
# A closed form on the values that are kept, zero on the others


def _one(x: Any, s: Any) -> Any:
    return s if len(x) == 1 else 0.0 * s


def _identity(x: Any, s: Any) -> Any:
    return x[0] if len(x) == 1 else abs(s) if len(x) == 2 else 0.0 * s


def _inverse(x: Any, s: Any) -> Any:
    return (-1.0) ** (len(x) - 1) / np.prod(x, axis=0)


#: f[x_0 ... x_p] on the piece of the sign s
CLOSED: dict[str, Callable[[Any, Any], Any]] = {"one": _one, "identity": _identity, "inverse": _inverse}


@dataclasses.dataclass(frozen=True)
class Kept(Family):
    """A closed form (`shape`) on some of the values, zero on the rest.

    shape    "one", "identity", "inverse"
    which    "all" (null ones too), "positive", "first" k, "simple" (the k-th from 0 if nothing ties with it),
             "tie" (all that tie with the k-th if that is the first of several), "largest" or "smallest" (with all that
             tie), "above" a level, which is a number, subtracted from the values too, or a `ratio` to s_1
    """

    shape: str
    which: str = "positive"
    k: int = 0
    level: float = 0.0
    ratio: Any = None

    def kept(self, S: Any, at: Spectrum) -> Any:
        if self.which == "all":
            return np.ones(S.shape, dtype=bool)
        if self.which == "positive":
            return ~at.null
        if self.which == "first":
            return (np.arange(S.shape[-1]) < self.k) & ~at.null
        if self.which in ("simple", "tie"):
            same = at.group == at.group[..., self.k, None]
            first, alone = np.argmax(same, axis=-1)[..., None] == self.k, same.sum(axis=-1, keepdims=True) == 1
            return same & (alone if self.which == "simple" else first & ~alone) & ~at.null
        if self.which == "largest":
            return (at.group == at.group[..., :1]) & ~at.null
        if self.which == "smallest":
            return (at.group == at.group[..., -1:]) & ~at.null
        if self.ratio is not None:  # the caller's own cutoff, perhaps below the noise
            return np.greater(S, self.ratio * S[..., :1]) & (S > 0)
        return np.greater(S, self.level) & ~at.null

    def pieces(self, S: Any, at: Spectrum) -> Any:
        kept = self.kept(S, at)
        above = np.cumsum(kept, axis=-1) == 0  # larger than all that is kept
        return np.where(kept, 1, np.where(above & kept.any(axis=-1, keepdims=True), 2, 0))

    def nodes(self, S: Any, at: Spectrum) -> Any:
        return S if self.ratio is not None else super().nodes(S, at)  # the caller may keep what is null

    def value(self, s: Any, piece: Any) -> Any:
        one = np.ones_like(s)
        safe = np.where(piece == 1, s, one)
        return np.where(piece == 1, CLOSED[self.shape](safe[None], one) - self.level, 0.0)

    def local(self, x: Any, piece: Any) -> Any:
        kept = abs(piece) == 1
        return np.where(kept, CLOSED[self.shape](np.where(kept, x, 1.0), np.sign(piece)), 0.0), 0.0

    def broken(self, S: Any, at: Spectrum) -> str | None:
        if self.which != "first" or not self.k:
            return None
        k = min(self.k, S.shape[-1])
        if self.shape == "one" and np.any(at.null[..., k - 1 : k]):
            return (
                f"the span of the first {k} singular vectors is not determined where sigma_{k} is zero to "
                "working accuracy; choose another k, or use low_rank"
            )
        if self.k >= S.shape[-1]:
            return None
        cut = (at.group[..., self.k - 1] == at.group[..., self.k]) & ~at.null[..., self.k]
        if not np.any(cut):
            return None
        i = tuple(np.argwhere(cut)[0].tolist())
        low, high = S[(*i, self.k)], S[(*i, self.k - 1)]
        return (
            f"the cut after {self.k} singular values falls into a tie: sigma_{self.k} = {high:.6g} and "
            f"sigma_{self.k + 1} = {low:.6g} (gap {high - low:.1e}){of_matrix(i)}; choose another k"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Weighted(Family):
    """Given numbers at the values of one matrix or stack: each that is not 0 is constant on a piece of its own."""

    weights: Any

    def pieces(self, S: Any, at: Spectrum) -> Any:
        return np.where(self.weights != 0, 1 + np.arange(self.weights.size).reshape(self.weights.shape), 0)

    def value(self, s: Any, piece: Any) -> Any:
        return np.concatenate([[0.0], self.weights.ravel()])[piece]

    def local(self, x: Any, piece: Any) -> Any:
        return np.zeros(x.shape[1:]), 0.0


# ---------------------------------------------------------------------------------------------------------------------
# Smooth functions, by quadrature where their arguments are near


class Smooth(Family):
    """A function with derivatives, `slope(s, q)` the q-th of them at s >= 0."""

    def slope(self, s: Any, q: int) -> Any:
        raise NotImplementedError

    def value(self, s: Any, piece: Any) -> Any:
        return self.slope(s, 0)

    def near(self, low: Any, high: Any) -> Any:
        return abs(high - low) <= NEAR * np.maximum(abs(low), abs(high))

    def local(self, x: Any, piece: Any) -> Any:
        """By quadrature; its error rho^10, as far as the coarse rule differs from it, by rho^8."""
        with np.errstate(divide="ignore", invalid="ignore"):  # a node may fall on 0
            fine, coarse = self.mean_slope(x, *QUADRATURE), self.mean_slope(x, *COARSE)
            size = np.maximum(np.abs(fine), np.abs(coarse))
            return fine, size * (np.abs(fine - coarse) / np.where(size == 0, 1, size)) ** 1.25

    def mean_slope(self, x: Any, nodes: Any, weights: Any) -> Any:
        """The mean of the p-th derivative over the simplex of x_0 ... x_p, by a one-dimensional rule in each of
        Duffy's coordinates."""
        p = len(x) - 1
        total = 0.0
        for points in itertools.product(range(len(nodes)), repeat=p):
            u, at, weight = 1.0, x[0], 1.0
            for i, k in enumerate(points):
                weight *= weights[k] * u
                u *= nodes[k]
                at = at + u * (x[i + 1] - x[i])
            sign = 1.0 if p % 2 else np.sign(at)  # of the odd continuation
            total = total + weight * sign * self.slope(abs(at), p)
        return total


@dataclasses.dataclass(frozen=True)
class Power(Smooth):
    """p s^(p-1), the gradient of the sum of s^p; zero where s is null."""

    p: float

    def pieces(self, S: Any, at: Spectrum) -> Any:
        return np.where(at.null, 0, 1)

    def value(self, s: Any, piece: Any) -> Any:
        return np.where(piece == 1, self.slope(np.where(piece == 1, s, 1.0), 0), 0.0)

    def slope(self, s: Any, q: int) -> Any:
        return math.prod(self.p - i for i in range(q + 1)) * s ** (self.p - 1 - q)

    def local(self, x: Any, piece: Any) -> Any:
        kept = abs(piece) == 1
        value, error = super().local(np.where(kept, x, 1.0), piece)
        return np.where(kept, value, 0.0), np.where(kept, error, 0.0)


def returned(name: str, y: Any, s: Any) -> Any:
    """What a function of the user's made of the values s, as an array of their shape; a number stands for all."""
    if np.iscomplexobj(primal(y)):
        raise DTypeError(
            f"{name} must return real numbers, got {primal(y).dtype}; split it into real and imaginary part"
        )
    if np.shape(y) not in ((), np.shape(s)):
        raise ShapeError(f"{name} must return one number for each of its values {np.shape(s)}, got shape {np.shape(y)}")
    return y if np.shape(y) == np.shape(s) else y + np.zeros_like(s)


@dataclasses.dataclass(frozen=True)
class UserFunction(Smooth):
    """A function of the user's, with its derivative; higher derivatives come from differentiating that."""

    f: Callable[[Any], Any]
    df: Callable[[Any], Any]
    one_piece = True

    def pieces(self, S: Any, at: Spectrum) -> Any:
        return np.zeros(S.shape, dtype=int)

    def slope(self, s: Any, q: int) -> Any:
        if q < 2:
            name, function = (("f", self.f), ("df", self.df))[q]
            return returned(name, function(s), s)
        from ..transforms import jvp  # the derivative of a user's function is the business of the transforms

        return jvp(lambda t: self.slope(t, q - 1), (s,), (np.ones_like(s),))[1]

    def broken(self, S: Any, at: Spectrum) -> str | None:
        if not np.any(at.null):
            return None
        origin = float(self.slope(np.zeros(1), 0)[0])
        if origin == 0.0:
            return None
        i = tuple(np.argwhere(at.null)[0].tolist())
        return (
            f"U f(S) V^H with f(0) = {origin:.3g} has no derivative where sigma_{i[-1] + 1} = {S[i]:.1e}"
            f"{of_matrix(i[:-1])} is zero: the sign of f jumps there; take f with f(0) = 0"
        )


# ---------------------------------------------------------------------------------------------------------------------
# The recursion


class DividedDifferences:
    """f[x_0 ... x_p] of all choices of p + 1 `points` among the nodes s, -s and, if asked for, 0.

    `plus`, `minus` and `zero` are the places of these nodes in ascending order, listed in the order of s. Indexed by
    p + 1 arrays of places, which broadcast, this gives the divided differences there, the axes of a stack behind.

    The order of the nodes does not matter, and f is odd: f[-x_0 ... -x_p] = (-1)^(p+1) f[x_0 ... x_p]. So only one is
    computed of all choices that differ in order or in every sign, and each serves all those of one node more.
    """

    def __init__(self, family: Family, nodes: Nodes, points: int, *, zero: bool = False) -> None:
        self.line, r = nodes.symmetric(zero), nodes.x.shape[-1]
        self.n = len(self.line.x)
        self.plus, self.minus, self.zero = self.n - 1 - np.arange(r), np.arange(r), np.arange(r, self.n - r)
        values = self.of_one_node(family)
        errors = np.finfo(values.dtype).eps * abs(values)
        chosen = np.arange(self.n)[None]
        for p in range(1, points):
            chosen, first = with_one_more(chosen, self.n)
            taken = np.isin(chosen, self.zero).sum(axis=0) <= points // 2  # no path passes 0 twice in a row
            half = np.flatnonzero(taken & (chosen[0] + chosen[-1] >= self.n - 1))
            opposite = rank(self.n - 1 - chosen[::-1, half], self.n)
            y, its_error = self.one_order_up(family, values, errors, chosen[:, half], first[half])
            values, errors = np.zeros((2, chosen.shape[1], *y.shape[1:]), y.dtype)
            values[opposite], values[half] = (y if p % 2 else -y), y
            errors[opposite] = errors[half] = its_error
        self.values = values

    def __getitem__(self, places: Any) -> Any:
        return self.values[rank(ascending(places), self.n)]

    def of_one_node(self, family: Family) -> Any:
        x, piece = self.line.x, self.line.piece
        sign = np.where(piece != 0, np.sign(piece), np.sign(x))
        size = abs(x)
        if family.one_piece:  # f need not be defined at the 0 of a null space
            size = np.where(sign == 0, size.max(axis=0, initial=0), size)
        return (sign * family.value(size, abs(piece))).astype(x.dtype, copy=False)

    def one_order_up(self, family: Family, values: Any, errors: Any, chosen: Any, first: Any) -> tuple[Any, Any]:
        """Divided differences of the `chosen` places, which ascend, and their errors, from those of one node less:
        `first` is the rank of all but the last."""
        x, piece, tail = self.line.x, self.line.piece, self.line.tail
        low, high, last, eps = chosen[0], chosen[-1], rank(chosen[1:], self.n), np.finfo(x.dtype).eps
        gap = x[high] - x[low]
        if tail is not None:
            gap += tail[high] - tail[low]
        apart = gap > 0
        safe = np.where(apart, gap, 1)
        near = (piece[low] == piece[high]) & family.near(x[low], x[high])
        with np.errstate(over="ignore"):  # rounding over a gap below the normal range may be infinite, in the error too
            y = np.where(apart, (values[last] - values[first]) / safe, 0)
            error = np.where(apart, (errors[last] + errors[first]) / safe, np.where(near, np.inf, 0))
        unsure = family.one_piece and len(chosen) > 2
        if unsure:  # f may vary on another scale than its arguments: all that lose more than those at NEAR
            near |= (error > eps / NEAR * abs(y)) | np.isinf(error)
        if near.any():  # by whichever is more exact: f may bend or jump
            window = np.stack([x[i][near] for i in chosen])
            value, its_error = family.local(window, piece[low][near])
            quotient, bound = y[near], error[near]
            better = ~(its_error > bound)
            if unsure:
                far = gap[near] > eps**0.5 * np.max(abs(window), axis=0)
                better &= ~far | (abs(value - quotient) <= CANCELLED * bound)
            # Without null values F does not depend on f near 0: where its slope there is infinite, 0 stands in for it.
            free = np.zeros_like(near)
            free[np.isin(chosen, self.zero).sum(axis=0) > 1] = np.count_nonzero(x == 0, axis=0) == 1
            better &= np.isfinite(its_error) | ~free[near]
            y[near] = np.where(better, value, quotient)
            error[near] = np.where(better, its_error + eps * abs(value), np.where(free[near] & ~apart[near], 0, bound))
        return y, error


def with_one_more(chosen: Any, n: int) -> tuple[Any, Any]:
    """All choices of one place more, below n, and the rank of each without its last place: those of q places that end
    at k or before come first, C(k + q, q) of them."""
    q = len(chosen)
    counts = np.array([math.comb(k + q, q) for k in range(n)], dtype=int)
    last = np.repeat(np.arange(n), counts)
    first = np.arange(len(last)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.vstack([chosen[:, first], last]), first


def rank(chosen: Any, n: int) -> Any:
    """Where a choice i_0 <= i_1 <= ... stands in the list of all those of places below n, which is sorted by the last
    place, then by the last but one, and so on: i_0 + C(i_1 + 1, 2) + C(i_2 + 2, 3) + ..."""
    total, below = 0, np.arange(n)
    for i in chosen:
        total = total + below[i]
        below = np.cumsum(below)
    return total


def ascending(places: Any) -> list[Any]:
    """Arrays that broadcast, sorted element by element: a bubble sort, in which most steps see two small arrays."""
    places = list(places)
    for end in range(len(places) - 1, 0, -1):
        for i in range(end):
            low, high = places[i : i + 2]
            places[i : i + 2] = np.minimum(low, high), np.maximum(low, high)
    return places
