"""Levels of differentiation: each transform opens one, with a run-time id, its tag."""

from __future__ import annotations

import contextvars
import itertools
import sys

from ..errors import TagError

_ids = itertools.count(1)
#: of each level that is open, the tags of those around it and its own; 0 is for numbers that users make by hand
_chains: dict[int, tuple[int, ...]] = {0: ()}
#: the levels that carry only some of the directions asked for
_partial: set[int] = set()
_stack: contextvars.ContextVar[tuple[int, ...]] = contextvars.ContextVar("dualsvd.levels", default=())


class level:
    """Open a level of differentiation; its tag is a fresh run-time id, larger than that of every level around it.

    partial: the directions that it carries are only some of those asked for.
    """

    __slots__ = ("partial", "tag", "token")

    def __init__(self, partial: bool = False) -> None:
        self.partial = partial

    def __enter__(self) -> int:
        self.tag = next(_ids)
        chain = _chains[self.tag] = (*_open_here(), self.tag)
        if self.partial:
            _partial.add(self.tag)
        self.token = _stack.set(chain)
        return self.tag

    def __exit__(self, *error: object) -> None:
        _stack.reset(self.token)
        _partial.discard(self.tag)
        del _chains[self.tag]


def _open_here() -> tuple[int, ...]:
    """The tags of the levels that are open here; a thread may have taken up some that have ended since."""
    stack = _stack.get()
    while stack and stack[-1] not in _chains:
        stack = stack[:-1]
    return stack


def check_open(tag: int) -> tuple[int, ...]:
    """The tags of the levels around the one of that tag, and its own; TagError if it is over."""
    try:
        return _chains[tag]
    except KeyError:
        raise TagError(
            f"a number of derivative {tag} was used at {caller()}, but that derivative has already been computed; "
            "return what you need from the function instead of storing it outside"
        ) from None


def depth_of(tag: int) -> int:
    """How deep the level of that tag is nested: 0 for numbers made by hand, 1 for the outermost transform."""
    if not tag:
        return 0
    chain = _chains.get(tag)
    if chain is None or chain is not _stack.get():  # nearly all numbers are of the innermost level
        chain = _known_here(tag)
    return len(chain)


def _known_here(tag: int) -> tuple[int, ...]:
    """The levels around that tag, which must be those around this thread: compiled code tells levels by their depth.

    A thread that knows of none takes up those of the first number that it meets.
    """
    chain = check_open(tag)
    if _stack.get()[: len(chain)] != chain:
        here = _open_here()
        if chain[: len(here)] != here:
            raise TagError(
                f"a compiled function called at {caller()} met a number of derivative {tag}, but its thread computes "
                f"derivative {here[-1]} without knowing which others are around that; start what a thread has to do "
                "with contextvars.copy_context().run(...), which tells it"
            )
        _stack.set(chain)
    return chain


def tag_at(depth: int) -> int:
    """The tag of the open level that is nested that deep: the inverse of `depth_of`."""
    stack = _stack.get()
    if depth > len(stack):
        raise TagError(
            f"compiled code gave a number of a derivative to {caller()}, but that derivative has already been "
            "computed; do not keep its numbers in a typed container or a generator"
        )
    return stack[depth - 1] if depth else 0


class NeedsAllDirections(BaseException):
    """A tie was met while only a chunk of the directions was carried: the transform starts again with all of them.

    No error, so that a function that catches errors does not keep it from the transform.
    """


def need_all_directions() -> None:
    """Called by a rule whose derivative at this point depends on all directions together (lexicographic, at a tie)."""
    if _partial:
        here = _open_here()  # nothing in a thread that was not told: it may work for any level
        if not here or not _partial.isdisjoint(here):
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
