"""Functions of dualsvd as another engine of differentiation wants them: maps of arrays that know their derivatives.

An engine asks three things of a function that is foreign to it. A `Map` answers each with a Map, so that the engine's
own machinery, let loose on the answers, reaches every order without another rule:

    F              x -> y                  tuples of arrays
    Tangent(F)     (x, dx) -> dy           linear in dx
    Transpose(F)   (x, y_bar) -> x_bar     linear in y_bar; the inner product is Re tr(X^H Y)
    F.over(...)    F for every entry of a leading axis

What these compute, dualsvd's own transforms compute: `linearize` for the first, `vjp` for the second. Maps compare and
hash by value, so that an engine that compiles (JAX) knows one again.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import linalg, spectral
from ..rules.registry import Tracer
from ..settings import Options, get, options
from ..structure import flatten
from ..transforms import linearize, vjp


class Memory:
    """The recordings made where a function was applied: its backward pass finds the factorisation of the forward."""

    __slots__ = ("recordings",)

    def __init__(self) -> None:
        self.recordings: dict[Any, tuple[tuple[Any, ...], Any]] = {}


_memory: contextvars.ContextVar[Memory | None] = contextvars.ContextVar("dualsvd.memory", default=None)


@contextlib.contextmanager
def remembering(memory: Memory | None) -> Iterator[None]:
    """Keep what is recorded inside in `memory`, and look there first."""
    token = _memory.set(memory)
    try:
        yield
    finally:
        _memory.reset(token)


def recorded(transform: Callable[..., Any], f: Map, moves: tuple[bool, ...], xs: tuple[Any, ...]) -> Any:
    """`transform` (vjp, linearize) of f at xs as a function of the operands that move; remembered where one can."""
    memory, key = _memory.get(), (transform, f, moves)
    if memory is not None and key in memory.recordings:
        seen, recording = memory.recordings[key]
        if all(map(same, seen, xs)):
            return recording

    def moving(*variables: Any) -> Any:
        rest = iter(variables)
        return f(*(next(rest) if moves_here else x for moves_here, x in zip(moves, xs)))

    with remembering(None):  # what is inside is traced, and of no use later
        recording = transform(moving, *(x for moves_here, x in zip(moves, xs) if moves_here))
    if memory is not None:  # by copies: the engine's arrays may be written to
        memory.recordings[key] = (tuple(x if isinstance(x, Tracer) else np.array(x) for x in xs), recording)
    return recording


def same(x: Any, y: Any) -> bool:
    """Whether a recording made at x serves at y."""
    if isinstance(x, Tracer) or isinstance(y, Tracer):
        return x is y
    return x.dtype == np.result_type(y) and np.array_equal(x, y)


class Map:
    """Tuples of arrays to tuples of arrays, traced or not."""

    def __call__(self, *xs: Any) -> tuple[Any, ...]:
        raise NotImplementedError

    def over(self, batched: tuple[bool, ...]) -> Map:
        """The map of every entry of a leading axis, which the operands `batched` have.

        Itself, if its own leading axes do: all operands must then have that axis.
        """
        return Batch(self, batched)


#: the axes of a matrix and of what comes of it, r = min(m, n), as NumPy writes them; leading axes are a batch
SIGNATURES: dict[Callable[..., Any], str] = {
    linalg.svd: "(m,n)->(m,r),(r),(r,n)",
    linalg.svdvals: "(m,n)->(r)",
    linalg.opnorm: "(m,n)->()",
    linalg.nuclear_norm: "(m,n)->()",
    linalg.polar: "(m,n)->(m,n),(n,n)",
    linalg.pinv: "(m,n)->(n,m)",
    linalg.low_rank: "(m,n)->(m,n)",
    linalg.svd_pushforward: "(m,r),(r),(r,n),(m,n)->(m,r),(r),(r,n)",
    linalg.svd_pullback: "(m,r),(r),(r,n),(m,r),(r),(r,n)->(m,n)",
    spectral.spectral_normalize: "(m,n)->(m,n)",
}
#: of svd with full_matrices=True
FULL_SVD = "(m,n)->(m,m),(r),(n,n)"

Axes = tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Function(Map):
    """A public function of dualsvd with its parameters, under the settings in force where it was called.

    signature   one like those of SIGNATURES; without one the function takes one array, and no batch
    """

    function: Callable[..., Any]
    signature: str = ""
    params: tuple[tuple[str, Any], ...] = ()
    settings: Options = dataclasses.field(default_factory=get)

    def __call__(self, *xs: Any) -> tuple[Any, ...]:
        if _memory.get() is not None:
            return recorded(vjp, self, (True,) * len(xs), xs)[0]
        with options(**{field.name: getattr(self.settings, field.name) for field in dataclasses.fields(Options)}):
            return tuple(flatten(self.function(*xs, **dict(self.params)))[0])

    def over(self, batched: tuple[bool, ...]) -> Map:
        return self if self.signature else super().over(batched)

    @property
    def cores(self) -> tuple[Axes, Axes]:
        """The axes of each operand and of each result, by their names in the signature."""
        inputs, outputs = (
            tuple(tuple(filter(None, core.split(","))) for core in side.strip("()").split("),("))
            for side in self.signature.split("->")
        )
        return inputs, outputs


def public(function: Callable[..., Any], **params: Any) -> Function:
    """A function of dualsvd with these parameters, and the signature that it has with them."""
    signature = FULL_SVD if params.get("full_matrices") else SIGNATURES.get(function, "")
    return Function(function, signature, frozen(params))


def frozen(params: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Parameters that hash: the arrays among them, of whatever engine, as tuples of numbers."""
    return tuple((name, as_tuple(x.tolist()) if hasattr(x, "tolist") else x) for name, x in params.items())


def as_tuple(x: Any) -> Any:
    """Nested lists as nested tuples; anything else as it is."""
    return tuple(map(as_tuple, x)) if isinstance(x, list) else x


@dataclasses.dataclass(frozen=True)
class Derivative(Map):
    """Of the map `of`, by those operands that move (`moves`); what it is linear in follows the operands of `of`."""

    of: Map
    moves: tuple[bool, ...]

    def cut(self, operands: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """The operands of `of`, and what the derivative is linear in."""
        return operands[: len(self.moves)], operands[len(self.moves) :]

    def over(self, batched: tuple[bool, ...]) -> Map:
        xs, _ = self.cut(batched)
        native = any(xs) and self.of.over(xs) is self.of
        return self if native else super().over(batched)  # of one x, many directions: one factorisation


@dataclasses.dataclass(frozen=True)
class Tangent(Derivative):
    """(x, dx) -> dy, dx for the operands that move. At a tie: that of the very factors the primal gave."""

    def __call__(self, *operands: Any) -> tuple[Any, ...]:
        xs, dxs = self.cut(operands)
        return recorded(linearize, self.of, self.moves, xs)[1](*dxs)


@dataclasses.dataclass(frozen=True)
class Transpose(Derivative):
    """(x, y_bar) -> x_bar, x_bar for the operands that move."""

    def __call__(self, *operands: Any) -> tuple[Any, ...]:
        xs, y_bars = self.cut(operands)
        return recorded(vjp, self.of, self.moves, xs)[1](y_bars)


@dataclasses.dataclass(frozen=True)
class Batch(Map):
    """Entry by entry of the leading axis that the operands `batched` have; what the entries share is done once."""

    of: Map
    batched: tuple[bool, ...]

    def __call__(self, *xs: Any) -> tuple[Any, ...]:
        size = next(len(x) for x, batched in zip(xs, self.batched) if batched)
        if not size:  # the results of an entry tell shapes and dtypes: of zeros, in which every map is defined
            ys = self.of(*(np.zeros(x.shape[1:], x.dtype) if batched else x for x, batched in zip(xs, self.batched)))
            return tuple(np.zeros((0, *np.shape(y)), y.dtype) for y in ys)
        with remembering(Memory()):
            rows = [self.of(*(x[k] if batched else x for x, batched in zip(xs, self.batched))) for k in range(size)]
        return tuple(np.stack(column) for column in zip(*rows))
