"""Nested tuples, lists and dicts of arrays: taken apart into leaves, and put together again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Rebuild = Callable[[Sequence[Any]], Any]


def flatten(tree: Any) -> tuple[list[Any], Rebuild]:
    """The leaves of a structure, and the function that puts leaves in their place.

    >>> leaves, rebuild = flatten({"W": 1, "layers": [2, (3,)]})
    >>> leaves
    [1, 2, 3]
    >>> rebuild("abc")
    {'W': 'a', 'layers': ['b', ('c',)]}
    """
    if isinstance(tree, dict):  # sorted by key: the order of entry does not matter
        keys = sorted(tree, key=repr)

        def fill(parts: list[Any]) -> Any:
            filled = copy.copy(tree)  # of its type and order
            for key, part in zip(keys, parts):
                filled[key] = part
            return filled

        return _join([tree[key] for key in keys], fill)
    if isinstance(tree, tuple):
        return _join(list(tree), lambda parts: tuple_like(tree, parts))
    if isinstance(tree, list):
        return _join(list(tree), type(tree))
    return [tree], lambda leaves: leaves[0]


def _join(children: list[Any], make: Callable[[list[Any]], Any]) -> tuple[list[Any], Rebuild]:
    parts = [flatten(child) for child in children]

    def rebuild(leaves: Sequence[Any]) -> Any:
        built, start = [], 0
        for own, put in parts:
            built.append(put(leaves[start : start + len(own)]))
            start += len(own)
        return make(built)

    return [leaf for own, _ in parts for leaf in own], rebuild


def places(tree: Any, name: str) -> list[str]:
    """Where each leaf of a structure of that name stands, in the order of `flatten`.

    >>> places({"W": 1, "layers": [2, (3,)]}, "p")
    ["p['W']", "p['layers'][0]", "p['layers'][1][0]"]
    """
    if isinstance(tree, dict):
        parts = [(key, tree[key]) for key in sorted(tree, key=repr)]
    elif isinstance(tree, (tuple, list)):
        parts = list(enumerate(tree))
    else:
        return [name]
    return [place for key, child in parts for place in places(child, f"{name}[{key!r}]")]


def leaves_like(pattern: Any, tree: Any) -> list[Any] | None:
    """The leaves of a structure in the order of those of another one; None where the two do not belong together."""
    if isinstance(pattern, dict):
        if not isinstance(tree, dict) or tree.keys() != pattern.keys():
            return None
        pairs = [(pattern[key], tree[key]) for key in sorted(pattern, key=repr)]
    elif isinstance(pattern, (tuple, list)):
        if not isinstance(tree, (tuple, list)) or len(tree) != len(pattern):
            return None
        pairs = list(zip(pattern, tree))
    else:
        return None if isinstance(tree, (dict, tuple, list)) else [tree]
    leaves: list[Any] = []
    for part, given in pairs:
        found = leaves_like(part, given)
        if found is None:
            return None
        leaves += found
    return leaves


def tuple_like(pattern: tuple[Any, ...], parts: Iterable[Any]) -> Any:
    """The parts as a tuple of the type of another one, its names included."""
    return type(pattern)(*parts) if hasattr(pattern, "_fields") else type(pattern)(parts)


def describe(tree: Any) -> str:
    """The structure in words, with the shape of each leaf.

    >>> describe({"W": 1.0, "b": (2.0, [3.0]), "c": (4.0,)})
    '{W: (), b: ((), [()]), c: ((),)}'
    """
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key}: {describe(child)}" for key, child in tree.items()) + "}"
    if isinstance(tree, (tuple, list)):
        inside = ", ".join(describe(child) for child in tree)
        if isinstance(tree, list):
            return f"[{inside}]"
        return f"({inside},)" if len(tree) == 1 else f"({inside})"
    return str(getattr(tree, "shape", ()))
