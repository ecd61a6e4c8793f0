"""The tables of notes/benchmarks.md from a run: dualsvd bench --json --largest 1024 > run.json; tables.py run.json"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dualsvd.bench import OURS, REGIMES

SMALL = [name for name in REGIMES if "batch" in name]
LARGE = [name for name in REGIMES if "batch" not in name]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def figure(x: float | None) -> str:
    return "" if x is None else f"{x:.0f}" if x >= 19.5 else f"{x:.1f}" if x >= 1.95 else f"{x:.2f}"


def scientific(x: float) -> str:
    return f"{x:.0e}".replace("e-0", "e-")


class Run:
    """What one run measured: `lines[regime][size]`."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.lines: dict[str, dict[int, Any]] = {}
        for line in document["measurements"]:
            self.lines.setdefault(line["regime"], {})[line["size"]] = line

    def sizes(self, regimes: Iterable[str]) -> list[int]:
        return sorted({n for name in regimes for n in self.lines.get(name, ())})

    def ratios(self, regimes: list[str]) -> str:
        """Times faster than the best peer, which is named where it is not always the same."""
        sizes = self.sizes(regimes)

        def cell(name: str, n: int) -> str:
            line = self.lines.get(name, {}).get(n)
            return f"{figure(line['ratio'])} {line['peer']}" if line and "ratio" in line else ""

        return table(["", *(f"n={n}" for n in sizes)], ([name, *(cell(name, n) for n in sizes)] for name in regimes))

    def times(self, regimes: list[str]) -> str:
        """Microseconds a matrix, then the shares of the machine's best: multiply-adds and copying."""
        sizes = self.sizes(regimes)

        def cell(name: str, n: int) -> str:
            line = self.lines.get(name, {}).get(n)
            if not line:
                return ""
            each = f"{line['seconds'][OURS] / line['batch'] * 1e6:.3g}"
            return f"{each} ({line['multiply_adds']:.0%}, {line['copies']:.0%})" if line["multiply_adds"] else each

        return table(["", *(f"n={n}" for n in sizes)], ([name, *(cell(name, n) for n in sizes)] for name in regimes))

    def accuracy(self, regimes: list[str]) -> str:
        """The worst error of all sizes."""
        rows = []
        for name in regimes:
            lines = self.lines.get(name, {}).values()
            worst = {what: max(line["accuracy"][what] for line in lines) for line in lines for what in line["accuracy"]}
            rows.append([name, ", ".join(f"{what} {scientific(error)}" for what, error in worst.items())])
        return table(["", "largest error"], rows)

    def others(self, regime: str) -> str:
        """The candidates of one regime that are no peers, or not the best: times slower than ours."""
        rows = []
        for n, line in self.lines.get(regime, {}).items():
            ours = line["seconds"][OURS]
            rest = ", ".join(f"{name} {figure(t / ours)}" for name, t in line["seconds"].items() if name != OURS)
            rows.append([str(n), rest])
        return table(["n", regime], rows)

    def curves(self, name: str) -> str:
        lines = self.document[name]
        points = sorted({int(x) for line in lines.values() for x in line}, key=int)
        rows = ([key, *(figure(line.get(str(x))) for x in points)] for key, line in lines.items())
        return table([name, *map(str, points)], rows)


def main() -> None:
    run = Run(json.loads(Path(sys.argv[1]).read_text()))
    hard = [
        name for name in run.lines if name.startswith("full SVD, ") and name not in (*REGIMES, "full SVD, all cores")
    ]
    print(run.document["machine"], run.document["limits"], sep="\n", end="\n\n")
    for regimes in (SMALL, LARGE):
        print(run.ratios(regimes), run.times(regimes), run.accuracy(regimes), sep="\n")
    print(run.ratios(hard), run.accuracy(hard), run.others("full SVD, all cores"), sep="\n")
    for regime in LARGE:
        print(run.others(regime))
    for name in ("batches", "directions", "memory"):
        print(run.curves(name))


if __name__ == "__main__":
    main()
