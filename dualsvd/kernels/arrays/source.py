"""Functions over arrays written as Python source: their axes are known when they are compiled, and loops over them are
written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def from_source(source: str, **namespace: Any) -> Callable[..., Any]:
    """The function `f` of a piece of Python source."""
    exec(compile(source, "<dualsvd>", "exec"), namespace)
    return namespace["f"]


def definition(arguments: str, lines: list[str]) -> str:
    """Source of the function `f`."""
    return f"def f({arguments}):\n    " + "\n    ".join(lines)


def loops_over(axes: range, body: str) -> list[str]:
    """Nested loops over i0 < n0, i1 < n1 ..."""
    heads = [f"{'    ' * a}for i{a} in range(n{a}):" for a in axes]
    return [*heads, "    " * len(axes) + body]


def broadcast(ndims: dict[str, int]) -> tuple[list[str], dict[str, str]]:
    """Source that finds the common lengths n0, n1 ... of arrays, and for each array the source of its entry there.

    An axis of length 1 is read at 0 all along.
    """
    n = max(ndims.values())
    arrays = [name for name, ndim in ndims.items() if ndim]
    lines, entries = [], {name: name for name in ndims}
    for a in range(n):
        owners = [(name, a - n + ndims[name]) for name in arrays if a - n + ndims[name] >= 0]
        first, *rest = (f"{name}.shape[{axis}]" for name, axis in owners)
        lines.append(f"n{a} = {first}")
        for other in rest:
            lines.append(f"if n{a} == 1: n{a} = {other}")
            lines.append(
                f"elif {other} != n{a} and {other} != 1: raise ValueError('arrays of these shapes do not broadcast')"
            )
    for name in arrays:
        subscripts = []
        for axis in range(ndims[name]):
            a = n - ndims[name] + axis
            if len(arrays) == 1:
                subscripts.append(f"i{a}")
            else:
                lines.append(f"{name}_{axis} = 0 if {name}.shape[{axis}] == 1 else 1")
                subscripts.append(f"{name}_{axis} * i{a}")
        entries[name] = f"{name}[{', '.join(subscripts)}]"
    return lines, entries
