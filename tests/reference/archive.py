"""Reads and writes reference.jsonl, which generate.py makes: one case a line."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from typing import Any

import numpy as np

FILE = pathlib.Path(__file__).resolve().parent / "reference.jsonl"


def encode(a: Any) -> Any:
    """A number or an array as JSON, every digit kept."""
    a = np.asarray(a)
    return {"re": a.real.tolist(), "im": a.imag.tolist()} if a.dtype.kind == "c" else a.tolist()


def decode(a: Any) -> np.ndarray:
    """The inverse of `encode`."""
    return np.array(a["re"]) + 1j * np.array(a["im"]) if isinstance(a, dict) else np.array(a)


@dataclasses.dataclass(frozen=True)
class FunctionReference:
    """A function at a case: its value, derivatives along D[0], D[1], second ones along (0, 0), (0, 1), (1, 1)."""

    name: str
    value: np.ndarray
    d: list[np.ndarray]
    dd: list[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Reference:
    """A case: matrix, directions, ordered singular values and their one-sided derivatives (a row each), functions."""

    name: str
    family: str
    a: np.ndarray
    directions: list[np.ndarray]
    s: np.ndarray
    ds: np.ndarray
    dds: np.ndarray
    functions: dict[str, FunctionReference]
    lexicographic: np.ndarray | None

    def __repr__(self) -> str:
        return self.name


@functools.cache
def load() -> tuple[Reference, ...]:
    """All cases, in the order of the file."""
    references = []
    for line in FILE.read_text().splitlines():
        case = json.loads(line)
        functions = {
            name: FunctionReference(name, decode(f["value"]), [decode(x) for x in f["d"]], [decode(x) for x in f["dd"]])
            for name, f in case.get("functions", {}).items()
        }
        lexicographic = case.get("lexicographic", {})
        references.append(
            Reference(
                name=case["name"],
                family=case["family"],
                a=decode(case["A"]),
                directions=[decode(d) for d in lexicographic.get("D", case.get("D"))],
                s=np.array(case["s"]),
                ds=np.array(case.get("ds", [])),
                dds=np.array(case.get("dds", [])),
                functions=functions,
                lexicographic=np.array(lexicographic["rows"]) if lexicographic else None,
            )
        )
    return tuple(references)
