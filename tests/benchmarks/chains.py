"""What differentiation costs beside what it differentiates, interleaved: python tests/benchmarks/chains.py

    jvp of elementwise chains, one tangent     / the same NumPy code on plain arrays       promised 2.5
    gradient of opnorm over 10,000 3x3         / the kernels alone: SVD and pullback       promised 1.3
    gradient of opnorm of one 3x5              in microseconds                             promised 150

Each chain stands here with its derivative written by hand, in NumPy calls: what is left of a ratio when nothing is
traced. A sine costs a cosine more, a product of two variables is three products and a sum, and large temporaries of the
primal are overwritten in place, which those of a pair are not.

Counted is the fastest of many turns: where others share the machine, medians tell of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import dualsvd as ds
from dualsvd.bench import one_core
from dualsvd.kernels import cpu

SIZES = (10**3, 10**4, 10**5, 10**6)
CHAINS: dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {}


def chain(name: str, f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Enter a chain together with the function decorated, which gives its value and derivative along v."""

    def enter(by_hand: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        CHAINS[name] = f, by_hand
        return by_hand

    return enter


@chain("tanh(sin(x) x + exp(-x^2))", lambda x: np.tanh(np.sin(x) * x + np.exp(-(x**2))))
def _(x: Any, v: Any) -> Any:
    s, e = np.sin(x), np.exp(-(x**2))
    y = np.tanh(s * x + e)
    return y, (1 - y * y) * (np.cos(x) * x + s - 2 * x * e) * v


@chain("sqrt(1 + x x) cos(x)", lambda x: np.sqrt(1 + x * x) * np.cos(x))
def _(x: Any, v: Any) -> Any:
    r, c = np.sqrt(1 + x * x), np.cos(x)
    return r * c, (x / r * c - r * np.sin(x)) * v


@chain("x exp(-x x / 2)", lambda x: x * np.exp(-0.5 * x * x))
def _(x: Any, v: Any) -> Any:
    q = x * x
    e = np.exp(-0.5 * q)
    return x * e, (1 - q) * e * v


@chain("1 / (1 + exp(-x))", lambda x: 1 / (1 + np.exp(-x)))
def _(x: Any, v: Any) -> Any:
    e = np.exp(-x)
    y = 1 / (1 + e)
    return y, y * y * e * v


@chain("log(1 + exp(x))", lambda x: np.log(1 + np.exp(x)))
def _(x: Any, v: Any) -> Any:
    e = np.exp(x)
    q = 1 + e
    return np.log(q), e / q * v


@chain("x tanh(log1p(exp(x)))", lambda x: x * np.tanh(np.log1p(np.exp(x))))
def _(x: Any, v: Any) -> Any:
    e = np.exp(x)
    t = np.tanh(np.log1p(e))
    return x * t, (t + x * (1 - t * t) * e / (1 + e)) * v


@chain("x / (1 + x x)", lambda x: x / (1 + x * x))
def _(x: Any, v: Any) -> Any:
    q = 1 + x * x
    y = x / q
    return y, (1 - 2 * x * y) / q * v


@chain("x x x - 2 x + 1", lambda x: x * x * x - 2 * x + 1)
def _(x: Any, v: Any) -> Any:
    q = x * x
    return q * x - 2 * x + 1, (3 * q - 2) * v


@chain("((x/2 - 3/2) x + 2) x - 1/4", lambda x: ((0.5 * x - 1.5) * x + 2) * x - 0.25)
def _(x: Any, v: Any) -> Any:
    p = 0.5 * x - 1.5
    q = p * x + 2
    return q * x - 0.25, ((0.5 * x + p) * x + q) * v


@chain("x^3 - 2 x^2", lambda x: x**3 - 2 * x**2)
def _(x: Any, v: Any) -> Any:
    return x**3 - 2 * x**2, (3 * x**2 - 4 * x) * v


def fastest(candidates: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """The least seconds of each candidate, called in turn, each after one call that is not counted."""
    least = dict.fromkeys(candidates, float("inf"))
    end = time.perf_counter() + seconds * len(candidates)
    while time.perf_counter() < end or not np.isfinite(list(least.values())).all():
        for name, call in candidates.items():
            call()
            start = time.perf_counter()
            for _ in range(4):
                call()
            least[name] = min(least[name], (time.perf_counter() - start) / 4)
    return least


def print_chains() -> None:
    print("jvp / primal (derivative by hand / primal)")
    print(f"{'':30s}" + "".join(f"{f'{n:,}':>18s}" for n in SIZES))
    rng = np.random.default_rng(0)
    for name, (f, by_hand) in CHAINS.items():
        row = ""
        for n in SIZES:
            x, v = rng.uniform(-2, 2, n), rng.standard_normal(n)
            y, dy = by_hand(x, v)
            np.testing.assert_allclose(ds.jvp(f, (x,), (v,)), (y, dy), rtol=1e-12, atol=1e-12)
            seconds = fastest(
                {
                    "primal": lambda f=f, x=x: f(x),
                    "jvp": lambda f=f, x=x, v=v: ds.jvp(f, (x,), (v,)),
                    "by hand": lambda by_hand=by_hand, x=x, v=v: by_hand(x, v),
                },
                seconds=0.15,
            )
            ratio, hand = seconds["jvp"] / seconds["primal"], seconds["by hand"] / seconds["primal"]
            row += f"{f'{ratio:.2f} ({hand:.2f})':>18s}"
        print(f"{name:30s}{row}", flush=True)


def print_gradients() -> None:
    rng = np.random.default_rng(0)
    batch, small = rng.standard_normal((10_000, 3, 3)), rng.standard_normal((3, 5))
    first = np.zeros((10_000, 3))
    first[:, 0] = 1

    def kernels() -> Any:
        U, S, Vh, _ = cpu.svd(batch)
        return cpu.svd_pullback(U, S, Vh, None, first, None)

    seconds = fastest(
        {
            "kernels": kernels,
            "batch": lambda: ds.gradient(lambda x: ds.opnorm(x).sum(), batch),
            "small": lambda: ds.gradient(ds.opnorm, small),
        },
        seconds=1.0,
    )
    ratio = seconds["batch"] / seconds["kernels"]
    print(f"gradient of opnorm over 10,000 3x3 / kernels   {ratio:6.2f} (promised 1.3)")
    print(f"gradient of opnorm of 3x5, microseconds        {seconds['small'] * 1e6:6.0f} (promised 150)")


def main() -> None:
    with one_core(True):
        print_gradients()
        print_chains()


if __name__ == "__main__":
    main()
