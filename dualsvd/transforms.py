"""The transforms: from a function of arrays to its derivatives.

Forward mode calls the function on DualArrays once for each chunk of directions. Reverse mode runs it once on
TapeArrays, and then reads the tape backwards for each output. Everything here seeds, calls, and collects; the
derivatives themselves are in the rules.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from . import settings
from .errors import DegenerateError, DTypeError, DualSVDError, MissingRuleError, ShapeError
from .forward import DualArray, laid_as
from .kernels.memory import PAGES, keep_freed_memory
from .outputs import check_outputs
from .reverse import Slot, Tape, TapeArray
from .rules.levels import NeedsAllDirections, at_new_level, check_open
from .rules.registry import KNOWN, Tracer, as_inexact, as_numbers, is_foreign, of_dtype, primal, refuse_foreign
from .structure import Rebuild, describe, flatten, leaves_like, places

MODES = ("auto", "forward", "reverse")

# Arrays of tangents alive at one time, in units of the variable's: an estimate for chains of a dozen operations.
_TANGENTS_ALIVE = 16


# ---------------------------------------------------------------------------------------------------------------------
# Arguments and results


def _variable(x: Any, name: str, own: bool = True) -> Any:
    """A leaf that can be differentiated by, as a floating-point array; of its own where f may write into it."""
    if type(x) not in KNOWN and isinstance(x, np.ndarray) and is_foreign(type(x)):
        refuse_foreign(type(x), f"{name} is")  # f does other things with it than with an array of its values
    x = as_inexact(x, name)
    if isinstance(x, Tracer):
        return x
    if x.nbytes >= PAGES:
        keep_freed_memory()
    return np.array(x) if own else x


def _variables(tree: Any, name: str, own: bool = True) -> tuple[list[Any], Rebuild]:
    leaves, rebuild = flatten(tree)
    if not leaves:
        raise ShapeError(f"{name} holds no array to differentiate by, got {describe(tree)}")
    try:
        return [_variable(leaf, name, own) for leaf in leaves], rebuild
    except DTypeError:
        for leaf, place in zip(leaves, places(tree, name)):
            _variable(leaf, place, own)  # once more, to say which leaf it is
        raise


def _position(argnum: int, arguments: Sequence[Any]) -> int:
    """The argument's number, counted from the front."""
    number = settings.whole_number(argnum)
    if number is None or not -len(arguments) <= number < len(arguments):
        raise ShapeError(f"argnum must name one of the {len(arguments)} arguments, got {argnum!r}")
    return number % len(arguments)


def _of_argument(
    f: Callable[..., Any], x: Any, args: tuple[Any, ...], argnum: int, own: bool = True
) -> tuple[Any, Any, Any]:
    """f as a function of the leaves of its argument `argnum`; those leaves; and how to put results in their place."""
    everything = (x, *args)
    argnum = _position(argnum, everything)
    leaves, rebuild = _variables(everything[argnum], f"argument {argnum}", own)

    def of_leaves(*variables: Any) -> Any:
        return f(*everything[:argnum], rebuild(variables), *everything[argnum + 1 :])

    return of_leaves, leaves, rebuild


def _result(y: Any) -> Any:
    """A constant f returned, as an array of its own; what is no array, or of a derivative that is over, is refused."""
    if isinstance(y, Tracer):
        check_open(y.tag)
        return y.copy("K")
    array = as_numbers(y, "the function")
    return array.astype(np.float64 if array.dtype.kind in "iub" else array.dtype)


def _call(f: Callable[..., Any], variables: Sequence[Any]) -> Any:
    """f(*variables); where NumPy put an error of its own before ours (out[0] = x into np.zeros), ours is the one."""
    try:
        return f(*variables)
    except (TypeError, ValueError) as error:
        if isinstance(error.__cause__, DualSVDError) and not isinstance(error, DualSVDError):
            raise error.__cause__ from None
        raise


def _single(y: list[Any], whom: str) -> Any:
    if len(y) != 1:
        raise ShapeError(f"{whom} takes a function that returns one array, got a structure of {len(y)}")
    return y[0]


def _scalar(y: Any, whom: str) -> Any:
    if np.shape(y) != ():
        raise ShapeError(
            f"{whom} takes a function that returns a scalar, got shape {np.shape(y)}. Perhaps you meant jacobian?"
        )
    if np.iscomplexobj(y):
        raise DTypeError(
            f"{whom} takes a real function, got a complex value. Perhaps you meant jacobian(holomorphic=True)?"
        )
    return y


def _tidy(x: Any) -> Any:
    """0-d arrays as NumPy's scalars, as NumPy's own functions return them."""
    return x[()] if isinstance(x, np.ndarray) and x.ndim == 0 else x


def _apart(parts: list[Any], leaves: Sequence[Any]) -> list[Any]:
    """The parts, copied where their caller could not write into them alone: where one is read-only, or lies in the
    memory of a leaf or of a part before it."""
    owners, result = {id(_owner(primal(leaf))) for leaf in leaves}, []
    for part in parts:
        plain = primal(part)
        if isinstance(plain, np.ndarray) and (not plain.flags.writeable or id(_owner(plain)) in owners):
            part = part.copy()
        owners.add(id(_owner(primal(part))))
        result.append(part)
    return result


def _owner(x: Any) -> Any:
    """The array whose memory this one looks into: NumPy's views know the first."""
    base = getattr(x, "base", None)
    return x if base is None else base


def _check(mode: str, chunk: int | None) -> None:
    if mode not in MODES:
        raise ValueError(f"mode must be one of {MODES}, got {mode!r}")
    if chunk is not None and (settings.whole_number(chunk) or 0) < 1:
        raise ValueError(f"chunk must be a positive integer or None, got {chunk!r}")


# ---------------------------------------------------------------------------------------------------------------------
# Forward: one call on DualArrays


def _push(
    f: Callable[..., Any], values: Sequence[Any], tangents: Sequence[Any], lent: bool = False, partial: bool = False
) -> tuple[list[Any], list[Any], Rebuild]:
    """f at `values` along `tangents` (each with its leading axis): leaves of y, leaves of dy, and y's structure.

    f may write into them, unless they are `lent`: then it is given a copy where it does. `partial`: the tangents are
    only some of those that belong together.
    """
    lent = lent or any(isinstance(x, Tracer) for x in (*values, *tangents))  # an outer derivative's own
    make = DualArray.lent if lent else DualArray.wrap

    def along(tag: int) -> tuple[list[Any], list[Any], Rebuild]:
        leaves, rebuild = flatten(_call(f, [make(v, dv, tag) for v, dv in zip(values, tangents)]))
        directions = np.shape(tangents[0])[:1]
        primals, dots = [], []
        for leaf in leaves:
            if isinstance(leaf, DualArray) and leaf.tag == tag:
                leaf.settle()
                primals.append(leaf.value)
                dots.append(leaf.partials)
            else:
                leaf = _result(leaf)
                primals.append(leaf)
                dots.append(np.zeros(directions + np.shape(leaf), dtype=primal(leaf).dtype))
        return primals, dots, rebuild

    return at_new_level(along, partial)


def _seeds(leaves: Sequence[Any], start: int, stop: int, scale: complex = 1.0 + 0.0j) -> list[Any]:
    """Rows start:stop of the identity over all elements of all leaves, cut into the leaves' shapes."""
    seeds, offset = [], 0
    for leaf in leaves:
        size = math.prod(np.shape(leaf))
        whole = np.zeros((stop - start, *np.shape(leaf)), dtype=primal(leaf).dtype)
        seed = whole.reshape(stop - start, size)
        low, high = max(start, offset), min(stop, offset + size)
        if low < high:
            rows = np.arange(low, high)
            seed[rows - start, rows - offset] = scale if seed.dtype.kind == "c" else scale.real
        seeds.append(laid_as(primal(leaf), whole) if np.ndim(leaf) else whole)
        offset += size
    return seeds


def _chunks(leaves: Sequence[Any], chunk: int | None) -> Iterator[tuple[int, int]]:
    """The ranges of directions that forward mode carries at a time."""
    total = sum(math.prod(np.shape(leaf)) for leaf in leaves)
    if chunk is None:
        bytes_each = sum(primal(leaf).nbytes for leaf in leaves) * _TANGENTS_ALIVE
        chunk = max(1, settings.get().max_bytes // max(1, bytes_each))
    return ((k, min(k + chunk, total)) for k in range(0, total, chunk))


def _with_progress(items: Sequence[Any], progress: bool) -> Any:
    if not progress or sys.stderr is None:  # pythonw and services have none
        return items
    try:
        from tqdm import tqdm
    except ImportError:
        return items
    return tqdm(items, desc="directions", unit="chunk")


def _in_one_stroke(f: Callable[..., Any], leaves: Sequence[Any], whom: str) -> tuple[Any, Any] | None:
    """y and J as `_jacobian_forward` gives them, where f is a single rule that offers J whole, and the directions are
    more than may be carried at a time."""
    total = sum(math.prod(np.shape(leaf)) for leaf in leaves)
    if total * sum(primal(leaf).nbytes for leaf in leaves) <= settings.get().max_bytes:
        return None
    try:
        recording = _Recording(f, leaves)
    except MissingRuleError:  # f has a forward mode only
        return None
    y = _single(recording.y, whom)
    whole = recording.whole_jacobian(None, least=False)
    return None if whole is None else (y, np.reshape(whole, (*np.shape(y), total)))


def _jacobian_forward(
    f: Callable[..., Any],
    leaves: Sequence[Any],
    chunk: int | None,
    progress: bool,
    scale: complex = 1.0 + 0.0j,
    again: bool = False,
    whom: str = "jacobian",
) -> tuple[Any, Any]:
    """(y, J): J has shape y.shape + (number of elements of all leaves,). `again`: the leaves are needed afterwards."""
    ranges = list(_chunks(leaves, chunk)) or [(0, 0)]

    def push(start: int, stop: int, partial: bool = False) -> tuple[Any, Any]:
        ys, dots, _ = _push(f, leaves, _seeds(leaves, start, stop, scale), again or len(ranges) > 1, partial)
        return _single(ys, whom), dots[0]

    try:
        pushed = [push(start, stop, len(ranges) > 1) for start, stop in _with_progress(ranges, progress)]
    except NeedsAllDirections:
        stroke = _in_one_stroke(f, leaves, whom)
        if stroke is not None:
            return stroke
        try:
            pushed = [push(0, ranges[-1][1])]
        except DegenerateError:
            if any(stop - start > 1 for start, stop in ranges):
                raise
            pushed = [push(start, stop) for start, stop in ranges]  # asked for one by one: each follows its own
    dots = [dot for _, dot in pushed]
    return pushed[-1][0], np.moveaxis(dots[0] if len(dots) == 1 else np.concatenate(dots), 0, -1)


# ---------------------------------------------------------------------------------------------------------------------
# Reverse: one call on TapeArrays


class _Recording:
    """One call of f on a tape."""

    def __init__(self, f: Callable[..., Any], values: Sequence[Any]) -> None:
        self.values = values
        at_new_level(lambda tag: self._record(f, Tape(tag)))

    def _record(self, f: Callable[..., Any], tape: Tape) -> None:
        self.tape = tape
        variables = [tape.input(value) for value in self.values]
        self.inputs: list[Slot] = [variable.slot for variable in variables]
        leaves, self.rebuild = flatten(_call(f, variables))
        self.y: list[Any] = []
        self.slots: list[Slot | None] = []
        for leaf in leaves:
            if isinstance(leaf, TapeArray) and leaf.tag == tape.tag:
                leaf.refresh()
                self.y.append(leaf.value)
                self.slots.append(leaf.slot)
            else:
                self.y.append(_result(leaf))
                self.slots.append(None)

    def value(self) -> Any:
        """What f returned, for a caller who may write into it while the tape lives on."""
        return self.rebuild([_tidy(leaf.copy() if isinstance(leaf, np.ndarray) else leaf) for leaf in self.y])

    def pull(self, y_bars: Sequence[Any]) -> list[Any]:
        """The cotangents of the inputs, given those of the outputs."""
        seeds = [(slot, y_bar) for slot, y_bar in zip(self.slots, y_bars) if slot is not None]
        x_bars = self.tape.pull(seeds, self.inputs)
        return [np.zeros_like(x) if x_bar is None else x_bar for x, x_bar in zip(self.values, x_bars)]

    def push(self, tangents: Sequence[Any]) -> list[Any]:
        """The tangents of the outputs, given those of the inputs, each with its leading axis."""
        dots = self.tape.push(
            {slot[0]: dx for slot, dx in zip(self.inputs, tangents)},
            [slot if slot is not None else (-1, None) for slot in self.slots],
        )
        shape = np.shape(tangents[0])[:1]
        return [
            np.zeros(shape + np.shape(y), dtype=primal(y).dtype)
            if dy is None
            else np.broadcast_to(dy, shape + np.shape(y))
            for y, dy in zip(self.y, dots)
        ]

    def whole_jacobian(self, out: Any, least: bool | None) -> Any:
        """The Jacobian in one stroke, where f is a single rule that offers it; at kinks with the least subgradients, or
        lexicographic, as `Rule` has it; else None."""
        slot = self.slots[0]
        if slot is None or len(self.inputs) != 1:
            return None
        node, part = self.tape.nodes[slot[0]], slot[1]
        if node.rule is None or node.rule.jacobian is None or node.parents[0] != self.inputs[0]:
            return None
        if any(parent is not None for parent in node.parents[1:]):
            return None
        shape = np.shape(self.y[0]) + np.shape(self.values[0])
        check_outputs(out, {"the Jacobian": (shape, np.result_type(primal(self.y[0]), primal(self.values[0])))})
        whole = node.rule.jacobian(node.output, node.operands, part=part, out=out, least=least, **node.params)
        if whole is None or out is None or whole is out:
            return whole
        out[...] = whole
        return out


def _jacobian_reverse(recording: _Recording, progress: bool) -> list[Any]:
    """One block per leaf, of shape y.shape + leaf.shape."""
    y = _single(recording.y, "jacobian")
    shape, size = np.shape(y), math.prod(np.shape(y))
    dtype = primal(y).dtype
    rows: list[list[Any]] = []
    for k in _with_progress(range(size), progress):
        one = np.zeros(size, dtype=dtype)
        one[k] = 1.0
        bars = recording.pull([one.reshape(shape)])
        if dtype.kind == "c":
            leaves = [np.iscomplexobj(x) for x in recording.values]
            turned = bars if all(leaves) else recording.pull([1j * one.reshape(shape)])
            # by a complex variable, of which it is a holomorphic function, J^H; by a real one Re(J^H 1) and Re(J^H i)
            bars = [np.conj(a) if c else a + 1j * b for c, a, b in zip(leaves, bars, turned)]
        rows.append(bars)
    blocks = []
    for i, x in enumerate(recording.values):
        if rows:
            blocks.append(np.reshape(np.stack([row[i] for row in rows]), shape + np.shape(x)))
        else:
            blocks.append(np.zeros(shape + np.shape(x), dtype=primal(x).dtype))
    return blocks


def _prefers_forward(f: Any, mode: str) -> bool:
    """Compiled functions are carried through by dual numbers only."""
    return mode == "forward" or (mode == "auto" and hasattr(f, "py_func"))


# ---------------------------------------------------------------------------------------------------------------------
# The public transforms


def derivative(f: Callable[..., Any], t: Any) -> Any:
    """The derivative of a function of one number, which may return an array: df/dt, of the shape of f(t).

    Forward mode. Calls nest. Complex t: the derivative of a holomorphic f.

    Raises ShapeError if t is not a single number.

    >>> derivative(lambda x: x * derivative(lambda y: x + y, 1.0), 1.0)
    np.float64(1.0)
    """
    if np.shape(t) != ():
        raise ShapeError(
            f"derivative takes a function of one number, got an argument of shape {np.shape(t)}. "
            "Perhaps you meant gradient or jacobian?"
        )
    t = _variable(t, "t")
    _, dots, rebuild = _push(f, [t], [np.ones((1,), dtype=primal(t).dtype)])
    return rebuild([_tidy(dot[0]) for dot in dots])


def gradient(
    f: Callable[..., Any], x: Any, *args: Any, argnum: int = 0, mode: str = "auto", chunk: int | None = None
) -> Any:
    """The gradient of a real scalar function by its argument `argnum`: the structure of that argument.

    x       an array, a number, or a nested tuple, list or dict of them; integers become float64
    mode    "reverse" (one call and one pass backwards), "forward" (dual numbers), "auto" (reverse, or forward where f
            calls compiled functions or rules that have no reverse mode)
    chunk   directions carried at a time in forward mode; the result does not depend on it

    For complex x the gradient G satisfies df = Re tr(G^H dx).

    Where f has a kink, reverse mode gives the least subgradient of singular values, norms and elementwise functions,
    forward mode derivatives along the directions of the elements; see notes/conventions.md.

    Raises ShapeError where f is not scalar, DTypeError where it is not real, MissingRuleError for a function without a
    rule.

    >>> import numpy as np
    >>> gradient(lambda X: np.linalg.svd(X, compute_uv=False)[0], np.diag([3.0, 2.0]))
    array([[1., 0.],
           [0., 0.]])
    """
    return _value_and_gradient("gradient", f, x, args, argnum, mode, chunk)[1]


def value_and_gradient(
    f: Callable[..., Any], x: Any, *args: Any, argnum: int = 0, mode: str = "auto", chunk: int | None = None
) -> tuple[Any, Any]:
    """(f(x), gradient), from one pass; a second one where "auto" finds no way in reverse. Arguments as in `gradient`.

    Raises as `gradient`.

    >>> value_and_gradient(lambda x: x**3, 2.0)
    (np.float64(8.0), np.float64(12.0))
    """
    return _value_and_gradient("value_and_gradient", f, x, args, argnum, mode, chunk)


def _value_and_gradient(
    whom: str, f: Callable[..., Any], x: Any, args: tuple[Any, ...], argnum: int, mode: str, chunk: int | None
) -> tuple[Any, Any]:
    """For the transform that was called, whose name errors tell."""
    _check(mode, chunk)
    if not _prefers_forward(f, mode):
        of_leaves, leaves, rebuild = _of_argument(f, x, args, argnum, own=False)
        try:
            recording = _Recording(of_leaves, leaves)
            y = _scalar(_single(recording.y, whom), whom)
            parts = _apart(recording.pull([np.ones((), dtype=primal(y).dtype)]), leaves)
            return _tidy(y), rebuild([_tidy(part) for part in parts])
        except MissingRuleError:
            if mode == "reverse":
                raise
    of_leaves, leaves, rebuild = _of_argument(f, x, args, argnum)
    is_complex = any(np.iscomplexobj(leaf) for leaf in leaves)
    y, J = _jacobian_forward(of_leaves, leaves, chunk, False, again=is_complex, whom=whom)
    _scalar(y, whom)
    if is_complex:
        # df along 1 is Re G and along i is Im G
        J = J + 1j * _jacobian_forward(of_leaves, leaves, chunk, False, scale=1j)[1]
    parts = [part if np.iscomplexobj(leaf) else np.real(part) for part, leaf in zip(_cut(J, leaves), leaves)]
    return _tidy(y), rebuild([_tidy(part) for part in parts])


def _cut(J: Any, leaves: Sequence[Any]) -> list[Any]:
    """The last axis of J, all elements of all leaves, cut into the leaves' shapes, each in its leaf's precision."""
    parts, offset = [], 0
    for leaf in leaves:
        size, dtype = math.prod(np.shape(leaf)), np.result_type(primal(leaf))
        part = np.reshape(J[..., offset : offset + size], np.shape(J)[:-1] + np.shape(leaf))
        parts.append(of_dtype(part, np.result_type(dtype, np.complex64) if np.iscomplexobj(part) else dtype))
        offset += size
    return parts


def jacobian(
    f: Callable[..., Any],
    x: Any,
    *args: Any,
    argnum: int = 0,
    mode: str = "auto",
    chunk: int | None = None,
    out: Any = None,
    progress: bool = False,
    holomorphic: bool = False,
) -> Any:
    """The Jacobian of an array function by its argument `argnum`: shape f(x).shape + x.shape.

    mode         "forward", "reverse", or "auto": reverse where the output is smaller than the input, else forward, as
                 where f calls compiled functions or rules that have no reverse mode
    chunk        directions carried at a time in forward mode; None: as many as `options(max_bytes=...)` allows
    out          an array to write the result into
    progress     show a progress bar (tqdm, where installed)
    holomorphic  required for complex x: f is then taken to be holomorphic and J is dy/dx

    Where f has a kink, reverse mode gives the least subgradient of singular values, norms and elementwise functions,
    forward mode derivatives along the directions of the elements, as does "auto" of `svdvals` alone; see
    notes/conventions.md.

    Raises ShapeError where f returns a structure or `out` does not fit, DTypeError for complex x without
    `holomorphic`.

    >>> import numpy as np
    >>> jacobian(lambda X: np.linalg.svd(X, compute_uv=False), np.diag([3.0, 2.0])).shape
    (2, 2, 2)
    """
    return value_and_jacobian(
        f, x, *args, argnum=argnum, mode=mode, chunk=chunk, out=out, progress=progress, holomorphic=holomorphic
    )[1]


def value_and_jacobian(
    f: Callable[..., Any],
    x: Any,
    *args: Any,
    argnum: int = 0,
    mode: str = "auto",
    chunk: int | None = None,
    out: Any = None,
    progress: bool = False,
    holomorphic: bool = False,
) -> tuple[Any, Any]:
    """(f(x), Jacobian); "auto" learns the shape of f(x) from a pass of its own where it goes forward. Arguments as
    those of `jacobian`.

    Raises as `jacobian`.

    >>> import numpy as np
    >>> value_and_jacobian(lambda x: x * x, np.array([3.0]))
    (array([9.]), array([[6.]]))
    """
    _check(mode, chunk)
    of_leaves, leaves, rebuild = _of_argument(f, x, args, argnum)
    if any(np.iscomplexobj(leaf) for leaf in leaves) and not holomorphic:
        raise DTypeError(
            "the Jacobian of a complex variable exists only for holomorphic functions; say holomorphic=True if f is "
            "one, or take gradient, jvp or vjp, whose meaning for complex numbers is fixed"
        )
    if not _prefers_forward(f, mode):
        try:
            recording = _Recording(of_leaves, leaves)
            y = _single(recording.y, "jacobian")
            whole = recording.whole_jacobian(out, least=True if mode == "reverse" else None)
            if whole is not None:
                return _tidy(y), rebuild([whole])
            if mode == "reverse" or math.prod(np.shape(y)) < sum(math.prod(np.shape(leaf)) for leaf in leaves):
                return _tidy(y), _deliver(_jacobian_reverse(recording, progress), rebuild, out)
        except MissingRuleError:
            if mode == "reverse":
                raise
    y, J = _jacobian_forward(of_leaves, leaves, chunk, progress)
    return _tidy(y), _deliver(_cut(_apart([J], ())[0], leaves), rebuild, out)


def _deliver(blocks: list[Any], rebuild: Rebuild, out: Any) -> Any:
    if out is None:
        return rebuild(blocks)
    block = _single(blocks, "jacobian(out=...)")
    check_outputs(out, {"the Jacobian": (np.shape(block), primal(block).dtype)})
    out[...] = block
    return out


def hessian(
    f: Callable[..., Any], x: Any, *args: Any, argnum: int = 0, mode: str = "auto", chunk: int | None = None
) -> Any:
    """The Hessian of a real scalar function of a real array: shape x.shape + x.shape.

    mode    "auto": forward over "auto" of `gradient`; "forward": forward over forward; "reverse": reverse over reverse
    chunk   directions carried at a time by the outer forward mode; one, where several cannot be carried through a tie

    Raises ShapeError where f is not scalar or x is a structure, DTypeError for complex x (take `hvp`), DegenerateError
    where f has none, as functions that are not symmetric in singular values have none where these are repeated.

    >>> import numpy as np
    >>> hessian(lambda x: x[0] ** 2 * x[1], np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    _check(mode, chunk)
    everything = (x, *args)
    variable = everything[_position(argnum, everything)]
    if isinstance(variable, (tuple, list, dict)):
        raise ShapeError("hessian takes one array; put the parts of a structure into one array, or take hvp")
    if np.iscomplexobj(variable):
        raise DTypeError("the Hessian is defined here for real variables; for complex ones take hvp along directions")
    outer = "reverse" if mode == "reverse" else "forward"

    def slope(x: Any, *args: Any) -> Any:
        return _value_and_gradient("hessian", f, x, args, argnum, mode, None)[1]

    try:
        return jacobian(slope, x, *args, argnum=argnum, mode=outer, chunk=chunk)
    except DegenerateError:
        if outer == "reverse" or chunk == 1:
            raise
        # no basis of a tie follows several directions; where f is smooth, each may have the one that follows it
        H = jacobian(slope, x, *args, argnum=argnum, mode=outer, chunk=1)
        if not _is_symmetric(primal(H)):
            raise
        return H


def _is_symmetric(H: Any) -> bool:
    """Whether a Hessian is symmetric to half of the digits, as that of a smooth function is to nearly all: where there
    is none, second derivatives by one direction at a time differ by as much as they are."""
    H = H.reshape(math.isqrt(H.size), -1)
    return bool(np.all(np.abs(H - H.T) <= np.finfo(H.dtype).eps ** 0.5 * np.max(np.abs(H), initial=0.0)))


def _matching(primals: Any, tangents: Any, what: str) -> list[Any]:
    """The leaves of `tangents`, checked against the structure, shapes and kinds of `primals`."""
    wanted, given = flatten(primals)[0], leaves_like(primals, tangents)
    if given is None or any(np.shape(w) != np.shape(g) for w, g in zip(wanted, given)):
        raise ShapeError(f"{what} must have the structure and shapes {describe(primals)}, got {describe(tangents)}")
    result = []
    for w, g in zip(wanted, given):
        if type(w) is type(g) is np.ndarray and w.dtype == g.dtype and w.dtype.char in "fdFD" and g.dtype.isnative:
            result.append(g)
            continue
        g = as_inexact(g, what)
        if np.iscomplexobj(g) and not np.iscomplexobj(w):
            raise DTypeError(f"{what} is complex where the variable is real; give the variable a complex dtype")
        if not isinstance(g, Tracer):
            g = g.astype(np.result_type(primal(w)) if primal(w).dtype.kind in "fc" else np.float64, copy=False)
        result.append(g)
    return result


def jvp(f: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """(f(*primals), its derivative along `tangents`): one call on dual numbers.

    `primals` and `tangents` are tuples of equal structure and shapes. Where singular values are repeated or zero, and
    at the kink of a norm, this is the one-sided directional derivative; at that of an elementwise function (`abs`,
    `maximum`) the product with the least element of its subdifferential.

    Raises ShapeError where they do not match.

    >>> import numpy as np
    >>> jvp(np.sin, (0.0,), (2.0,))
    (np.float64(0.0), np.float64(2.0))
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise ShapeError(
            f"primals and tangents must be tuples, one entry per argument, got {type(primals).__name__} and "
            f"{type(tangents).__name__}; write jvp(f, (x,), (v,))"
        )
    values, put = _variables(tuple(primals), "primals", own=False)
    directions = _matching(put(values), tuple(tangents), "tangents")
    y, dots, rebuild = _push(lambda *leaves: f(*put(leaves)), values, [v[None] for v in directions], lent=True)
    return rebuild([_tidy(leaf) for leaf in y]), rebuild([_tidy(dot) for dot in _apart([dot[0] for dot in dots], ())])


def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """(f(*primals), pullback): pullback(y_bar) gives a tuple, one cotangent per primal; call it as often as you like.

    Raises ShapeError where y_bar does not have the structure and shapes of the value.

    >>> y, pullback = vjp(lambda a, b: a * b, 2.0, 3.0)
    >>> pullback(1.0)
    (np.float64(3.0), np.float64(2.0))
    """
    values, put = _variables(tuple(primals), "primals")
    recording = _Recording(lambda *leaves: f(*put(leaves)), values)
    y = recording.value()

    def pullback(y_bar: Any) -> tuple[Any, ...]:
        bars = _matching(y, y_bar, "y_bar")
        return tuple(put([_tidy(part) for part in _apart(recording.pull(bars), bars)]))

    return y, pullback


def linearize(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """(f(*primals), push): push(*tangents) is the derivative along them, reusing every factorisation of the value.

    At repeated or zero singular values these follow each direction, while the vectors do not turn, as `jvp` turns them:
    they keep the basis of the value, and raise DegenerateError where a direction asks for another.

    Raises ShapeError where the tangents do not match the primals.

    >>> y, push = linearize(lambda a: a * a, 3.0)
    >>> push(1.0), push(2.0)
    (np.float64(6.0), np.float64(12.0))
    """
    values, put = _variables(tuple(primals), "primals")
    recording = _Recording(lambda *leaves: f(*put(leaves)), values)

    def push(*tangents: Any) -> Any:
        directions = _matching(put(values), tuple(tangents), "tangents")
        pushed = recording.push([v[None] for v in directions])
        return recording.rebuild([_tidy(dy[0]) for dy in _apart(pushed, directions)])

    return recording.value(), push


def hvp(f: Callable[..., Any], x: Any, v: Any) -> Any:
    """The Hessian of a real scalar function times `v`, without the Hessian: forward mode over the gradient.

    `v` has the structure and shapes of x; so has the result.

    Raises ShapeError where v does not match x or f is not scalar, DTypeError where f is not real, MissingRuleError for
    a function without a rule.

    >>> import numpy as np
    >>> hvp(lambda x: np.sum(x**3), np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    array([ 6., 12.])
    """
    return jvp(lambda z: _value_and_gradient("hvp", f, z, (), 0, "auto", None)[1], (x,), (v,))[1]
