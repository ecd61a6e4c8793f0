"""Levels of differentiation: each transform opens one, with a run-time id, its tag."""

from __future__ import annotations

import contextvars
import itertools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import TagError

T = TypeVar("T")


class Level:
    """A level of differentiation: its tag, the level around it, how deep it is nested, and whether it, or one around
    it, carries only some of the directions asked for."""

    __slots__ = ("depth", "outer", "partial", "tag")
    tag: int
    outer: Level
    depth: int
    partial: bool

    def __init__(self, tag: int, outer: Level | None, partial: bool = False) -> None:
        self.tag = tag
        self.outer = self if outer is None else outer
        self.depth = 0 if outer is None else outer.depth + 1
        self.partial = partial or (outer is not None and outer.partial)

    def at(self, depth: int) -> Level:
        """The level that is nested that deep, of this one and those around it; itself if it is not so deep."""
        level = self
        while level.depth > depth:
            level = level.outer
        return level


#: around all others: that of plain numbers, and of dual numbers that users make by hand
OUTSIDE = Level(0, None)
_ids = itertools.count(1)
#: the levels that are open, by their tags
_open = {0: OUTSIDE}
#: the innermost level that this thread knows of
innermost: contextvars.ContextVar[Level] = contextvars.ContextVar("dualsvd.levels", default=OUTSIDE)


def at_new_level(work: Callable[[int], T], partial: bool = False) -> T:
    """work(tag) at a level of its own, whose tag is a fresh run-time id, larger than that of every level around it.

    partial: the directions that it carries are only some of those asked for.
    """
    level = Level(next(_ids), _open_here(), partial)
    try:
        _open[level.tag] = level
        return within(level, work, level.tag)
    finally:
        del _open[level.tag]


def within(level: Level, call: Callable[..., T], *args: Any) -> T:
    """call(*args), whose innermost level is that one, whatever this thread knows of it."""
    # Ctrl-C may come at any time. Python raises KeyboardInterrupt only where a function written in Python begins, a
    # loop repeats, or a call has returned: so `finally` is sure to set the level again. A class with `__exit__` is not,
    # which may be interrupted where it begins.
    before = innermost.get()
    try:
        innermost.set(level)
        return call(*args)
    finally:
        innermost.set(before)


def _open_here() -> Level:
    """The innermost level that is open here; a thread may have taken up some that have ended since."""
    level = innermost.get()
    while level.tag not in _open:
        level = level.outer
    return level


def check_open(tag: int) -> Level:
    """The level of that tag; TagError if it is over."""
    try:
        return _open[tag]
    except KeyError:
        raise TagError(
            f"a number of derivative {tag} was used at {caller()}, but that derivative has already been computed; "
            "return what you need from the function instead of storing it outside"
        ) from None


def depth_of(tag: int) -> int:
    """How deep the level of that tag is nested: 0 for numbers made by hand, 1 for the outermost transform."""
    if not tag:
        return 0
    level = _open.get(tag)
    if level is None or level is not innermost.get():  # nearly all numbers are of the innermost level
        level = _known_here(tag)
    return level.depth


def _known_here(tag: int) -> Level:
    """The level of that tag, which must be one of those around this thread: compiled code tells levels by their depth.

    A thread that knows of none takes up those of the first number that it meets.
    """
    level = check_open(tag)
    if innermost.get().at(level.depth) is not level:
        here = _open_here()
        if level.at(here.depth) is not here:
            raise TagError(
                f"a compiled function called at {caller()} met a number of derivative {tag}, but its thread computes "
                f"derivative {here.tag} without knowing which others are around that; start what a thread has to do "
                "with contextvars.copy_context().run(...), which tells it"
            )
        innermost.set(level)
    return level


def tag_at(depth: int) -> int:
    """The tag of the open level that is nested that deep: the inverse of `depth_of`."""
    level = innermost.get()
    if depth > level.depth:
        raise TagError(
            f"compiled code gave a number of a derivative to {caller()}, but that derivative has already been "
            "computed; do not keep its numbers in a typed container or a generator"
        )
    return level.at(depth).tag


class NeedsAllDirections(BaseException):
    """A tie was met while only a chunk of the directions was carried: the transform starts again with all of them.

    No error, so that a function that catches errors does not keep it from the transform.
    """


def need_all_directions(tangents: Any) -> None:
    """Called by a rule whose derivative at this point depends on all directions together (lexicographic, at a tie).

    The tangents may be numbers of a chunk themselves, of which a thread need not have been told.
    """
    partial = _open_here().partial
    while not partial and hasattr(tangents, "tag"):
        partial, tangents = check_open(tangents.tag).partial, tangents.value
    if partial:
        raise NeedsAllDirections


_LIBRARIES = ("dualsvd", "numpy", "numba", "scipy", "pandas", "torch", "jax", "contextlib", "functools")


def caller() -> str:
    """File and line of the innermost frame that is neither dualsvd's nor of a library that it is called by."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        module = frame.f_globals.get("__name__", "").partition(".")[0]
        if module not in _LIBRARIES:
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
