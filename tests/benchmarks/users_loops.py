"""Users' compiled loops on duals against value and partial written by hand, interleaved in one process:
python tests/benchmarks/users_loops.py

What is promised: one partial within 1.2 of the same rules written by hand; a call with duals in and out below 5 us.
Who simplifies what the rules give, 3 y^2 dy for the three products of y y y, still gains by it: the second row.
"""

from __future__ import annotations

import math
import sys
from functools import partial
from typing import Any

import numpy as np
from numba import njit

from dualsvd import Dual, DualArray
from dualsvd.bench import interleave, one_core

LOOP, CROSSING = 1.2, 5e-6

#: Over arrays, so that what is timed is the loop.
PASSES = 20


# ---- loops of numbers


@njit
def newton(a):
    total = 0.0 * a
    for k in range(1000):
        x = a + k
        y = x
        for _ in range(6):
            y = y - (y * y * y - x) / (3.0 * y * y)
        total = total + y
    return total


@njit
def newton_by_hand(a, da):
    total, dtotal = 0.0, 0.0
    for k in range(1000):
        x, dx = a + k, da
        y, dy = x, dx
        for _ in range(6):
            square, dsquare = y * y, y * dy + y * dy
            f, df = square * y - x, square * dy + y * dsquare - dx
            g, dg = 3.0 * y * y, 3.0 * y * dy + 3.0 * dy * y
            step = f / g
            y, dy = y - step, dy - (df - step * dg) / g
        total, dtotal = total + y, dtotal + dy
    return total, dtotal


@njit
def newton_simplified(a, da):
    total, dtotal = 0.0, 0.0
    for k in range(1000):
        x, dx = a + k, da
        y, dy = x, dx
        for _ in range(6):
            f, df = y * y * y - x, 3.0 * y * y * dy - dx
            g, dg = 3.0 * y * y, 6.0 * y * dy
            step = f / g
            y, dy = y - step, dy - (df - step * dg) / g
        total, dtotal = total + y, dtotal + dy
    return total, dtotal


@njit
def kepler(e):
    total = 0.0 * e
    for k in range(2000):
        mean = 0.001 * k
        E = mean + e * math.sin(mean)
        for _ in range(5):
            E = E - (E - e * math.sin(E) - mean) / (1.0 - e * math.cos(E))
        total = total + E
    return total


@njit
def kepler_by_hand(e, de):
    total, dtotal = 0.0, 0.0
    for k in range(2000):
        mean = 0.001 * k
        E, dE = mean + e * math.sin(mean), de * math.sin(mean)
        for _ in range(5):
            s, c = math.sin(E), math.cos(E)
            f, df = E - e * s - mean, dE - de * s - e * c * dE
            g, dg = 1.0 - e * c, e * s * dE - de * c
            step = f / g
            E, dE = E - step, dE - (df - step * dg) / g
        total, dtotal = total + E, dtotal + dE
    return total, dtotal


@njit
def horner(x):
    total = 0.0 * x
    for k in range(5000):
        y = 0.0 * x
        for c in range(12):
            y = y * x + 1.0 / (c + 1.0 + k)
        total = total + y
    return total


@njit
def horner_by_hand(x, dx):
    total, dtotal = 0.0, 0.0
    for k in range(5000):
        y, dy = 0.0, 0.0
        for c in range(12):
            y, dy = y * x + 1.0 / (c + 1.0 + k), dy * x + y * dx
        total, dtotal = total + y, dtotal + dy
    return total, dtotal


# ---- loops over arrays


@njit
def rosenbrock(x):
    total = 0.0 * x[0]
    for _ in range(PASSES):
        for i in range(len(x) - 1):
            total += 100.0 * (x[i + 1] - x[i] * x[i]) ** 2 + (1.0 - x[i]) ** 2
    return total


@njit
def rosenbrock_by_hand(x, dx):
    total, dtotal = 0.0, 0.0
    for _ in range(PASSES):
        for i in range(len(x) - 1):
            a, da = x[i + 1] - x[i] * x[i], dx[i + 1] - 2.0 * x[i] * dx[i]
            b, db = 1.0 - x[i], -dx[i]
            total += 100.0 * a * a + b * b
            dtotal += 200.0 * a * da + 2.0 * b * db
    return total, dtotal


@njit
def dot(x, y):
    total = 0.0 * x[0]
    for _ in range(PASSES):
        for i in range(len(x)):
            total += x[i] * y[i]
    return total


@njit
def dot_by_hand(x, dx, y, dy):
    total, dtotal = 0.0, 0.0
    for _ in range(PASSES):
        for i in range(len(x)):
            total += x[i] * y[i]
            dtotal += x[i] * dy[i] + dx[i] * y[i]
    return total, dtotal


@njit
def diffuse(x, out):
    for _ in range(PASSES):
        for i in range(1, len(x) - 1):
            out[i] = x[i] + 0.1 * (x[i - 1] - 2.0 * x[i] + x[i + 1]) * x[i]


@njit
def diffuse_by_hand(x, dx, out, dout):
    for _ in range(PASSES):
        for i in range(1, len(x) - 1):
            lap, dlap = x[i - 1] - 2.0 * x[i] + x[i + 1], dx[i - 1] - 2.0 * dx[i] + dx[i + 1]
            out[i], dout[i] = x[i] + 0.1 * lap * x[i], dx[i] + 0.1 * (dlap * x[i] + lap * dx[i])


@njit
def heat(x, out):
    for _ in range(PASSES):
        for i in range(1, x.shape[0] - 1):
            for j in range(1, x.shape[1] - 1):
                lap = x[i - 1, j] + x[i + 1, j] + x[i, j - 1] + x[i, j + 1] - 4.0 * x[i, j]
                out[i, j] = x[i, j] + 0.1 * lap * x[i, j]


@njit
def heat_by_hand(x, dx, out, dout):
    for _ in range(PASSES):
        for i in range(1, x.shape[0] - 1):
            for j in range(1, x.shape[1] - 1):
                lap = x[i - 1, j] + x[i + 1, j] + x[i, j - 1] + x[i, j + 1] - 4.0 * x[i, j]
                dlap = dx[i - 1, j] + dx[i + 1, j] + dx[i, j - 1] + dx[i, j + 1] - 4.0 * dx[i, j]
                out[i, j] = x[i, j] + 0.1 * lap * x[i, j]
                dout[i, j] = dx[i, j] + 0.1 * (dlap * x[i, j] + lap * dx[i, j])


@njit
def layer(x, w, out):
    for _ in range(PASSES):
        for i in range(w.shape[0]):
            total = 0.0 * x[0]
            for j in range(w.shape[1]):
                total += w[i, j] * x[j]
            out[i] = math.tanh(total)


@njit
def layer_by_hand(x, dx, w, out, dout):
    for _ in range(PASSES):
        for i in range(w.shape[0]):
            total, dtotal = 0.0, 0.0
            for j in range(w.shape[1]):
                total += w[i, j] * x[j]
                dtotal += w[i, j] * dx[j]
            out[i] = math.tanh(total)
            dout[i] = (1.0 - out[i] * out[i]) * dtotal


# ---- calls that do nothing: what it costs to cross into compiled code and back


@njit
def same(x):
    return x


@njit
def first(x):
    return x[0]


@njit
def number(x):
    return x * x


def array(*shape: int) -> DualArray:
    rng = np.random.default_rng(0)
    return DualArray(rng.standard_normal(shape), rng.standard_normal((1, *shape)))


def parts(*arrays: DualArray) -> tuple[np.ndarray, ...]:
    return tuple(part for a in arrays for part in (a.value, a.partials[0]))


def loops() -> dict[str, tuple[Any, tuple[Any, ...], Any, tuple[Any, ...]]]:
    """Function and arguments, by duals and by hand."""
    x, numbers = Dual(0.7, (1.0,)), (0.7, 1.0)
    u, v, out = array(5000), array(5000), array(5000)
    plane, after = array(100, 100), array(100, 100)
    h, activations, w = array(64), array(64), np.random.default_rng(1).standard_normal((64, 64))
    return {
        "Newton's cube roots": (newton, (x,), newton_by_hand, numbers),
        "the same, simplified": (newton, (x,), newton_simplified, numbers),
        "Kepler's equation": (kepler, (x,), kepler_by_hand, numbers),
        "Horner's polynomials": (horner, (x,), horner_by_hand, numbers),
        "Rosenbrock, 5000": (rosenbrock, (u,), rosenbrock_by_hand, parts(u)),
        "dot product, 5000": (dot, (u, v), dot_by_hand, parts(u, v)),
        "stencil, 5000": (diffuse, (u, out), diffuse_by_hand, parts(u, out)),
        "stencil, 100 x 100": (heat, (plane, after), heat_by_hand, parts(plane, after)),
        "tanh layer, 64 x 64": (layer, (h, w, activations), layer_by_hand, (*parts(h), w, *parts(activations))),
    }


def crossings() -> dict[str, tuple[Any, Any]]:
    a, x = array(8), Dual(0.7, (1.0,))
    nested = Dual(x, (Dual(1.0, (0.0,)),))
    return {
        "Dual to Dual": (number, x),
        "Dual of 4 partials": (number, Dual(0.7, (1.0, 2.0, 3.0, 4.0))),
        "nested Dual": (number, nested),
        "DualArray to DualArray": (same, a),
        "DualArray to Dual": (first, a),
    }


def main() -> int:
    missed = 0
    with one_core(True):
        for name, (f, duals, by_hand, numbers) in loops().items():
            seconds = interleave({"dual": partial(f, *duals), "hand": partial(by_hand, *numbers)})
            ratio = seconds["dual"] / seconds["hand"]
            promised = float("nan") if name == "the same, simplified" else LOOP
            missed += ratio > promised
            print(f"{name:24s} {ratio:6.2f} (promised {promised:g})   by hand {seconds['hand'] * 1e6:8.1f} us")
        for name, (f, x) in crossings().items():
            seconds = interleave({"dual": partial(f, x), "plain": partial(same, np.ones(8))})
            missed += seconds["dual"] > CROSSING
            ours, theirs = (seconds[key] * 1e6 for key in ("dual", "plain"))
            print(f"{name:24s} {ours:6.2f} us (promised {CROSSING * 1e6:g})   a plain array {theirs:5.2f} us")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
