"""Products of arrays: matmul, einsum and convolution are rules, every other product is one of these."""

from __future__ import annotations

import functools
import math
import string
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from .elementwise import conjugate
from .registry import Operands, Rule, implements, primal
from .structural import align, finish, operand

# ---------------------------------------------------------------------------------------------------------------------
# matmul


def adjoint(x: Any) -> Any:
    """The conjugate transpose of the last two axes, without a copy where x is real."""
    return conjugate(np.swapaxes(x, -1, -2))


def _rows(x: Any) -> Any:
    """All rows of a stack of matrices under each other, so that one large product replaces many small ones."""
    return np.reshape(x, (math.prod(np.shape(x)[:-1]), np.shape(x)[-1]))


def _push_left(a_dot: Any, a: Any, b: Any, ndim: int) -> Any:
    """dA B."""
    if np.ndim(b) == 2:
        return np.reshape(_rows(a_dot) @ b, (*np.shape(a_dot)[:-1], np.shape(b)[-1]))
    if np.ndim(b) == 1:
        return a_dot @ b
    if np.ndim(a) == 1:
        return (align(a_dot, ndim)[..., None, :] @ b)[..., 0, :]
    return align(a_dot, ndim) @ b


def _push_right(b_dot: Any, a: Any, b: Any, ndim: int) -> Any:
    """A dB."""
    if np.ndim(b) == 1 and np.ndim(a) > 1:
        if np.ndim(a) == 2:
            return b_dot @ np.swapaxes(a, -1, -2)
        return (a @ align(b_dot, ndim)[..., None])[..., 0]
    if np.ndim(a) == 1 and np.ndim(b) == 1:
        return b_dot @ a
    return a @ (b_dot if np.ndim(a) == 1 else align(b_dot, ndim))


def _push_matmul(y: Any, operands: Operands, tangents: Operands) -> Any:
    (a, b), (a_dot, b_dot) = operands, tangents
    ndim = np.ndim(y)
    if a_dot is None:
        return _push_right(b_dot, a, b, ndim)
    left = _push_left(a_dot, a, b, ndim)
    return left if b_dot is None else left + _push_right(b_dot, a, b, ndim)


def _pull_matmul(y_bar: Any, y: Any, operands: Operands) -> tuple[Any, Any]:
    a, b = operands

    def a_bar() -> Any:
        """Y_bar B^H."""
        if np.ndim(b) == 1:
            return y_bar[..., None] * conjugate(b)
        if np.ndim(a) == 1:
            return (conjugate(b) @ y_bar[..., None])[..., 0]
        return y_bar @ adjoint(b)

    def b_bar() -> Any:
        """A^H Y_bar."""
        if np.ndim(a) == 1:
            return conjugate(a) * y_bar if np.ndim(b) == 1 else conjugate(a)[:, None] * y_bar[..., None, :]
        if np.ndim(b) == 1:
            return np.ravel(y_bar) @ conjugate(_rows(a))
        return adjoint(_rows(a)) @ _rows(y_bar) if np.ndim(b) == 2 else adjoint(a) @ y_bar

    return a_bar, b_bar


_MATMUL_SHAPES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((3, 4), (4, 2)),
    ((3, 4), (4,)),
    ((4,), (4, 2)),
    ((4,), (4,)),
    ((5, 3, 4), (4, 2)),
    ((5, 3, 4), (4,)),
    ((3, 4), (5, 4, 2)),
    ((4,), (5, 4, 2)),
    ((5, 1, 3, 4), (2, 4, 2)),
    ((3, 0), (0, 2)),
    ((0, 4), (4, 2)),
    ((1, 3), (3, 1)),
)


def _matmul_examples(rng: np.random.Generator) -> Any:
    for a_shape, b_shape in _MATMUL_SHAPES:
        a, b = rng.standard_normal(a_shape), rng.standard_normal(b_shape)
        yield (a, b), {}
        yield (a.astype(np.float32), b.astype(np.float32)), {}
        yield (a + 1j * rng.standard_normal(a_shape), b + 1j * rng.standard_normal(b_shape)), {}
    a = rng.standard_normal((6, 8))
    yield (a[::-2, ::2], a.T[1:5, ::-3]), {}
    yield (a, np.broadcast_to(a[:, 0, None, None], (6, 8, 2))), {}
    yield (a, a[0] + 1j), {}


matmul = Rule("matmul", np.matmul, _push_matmul, _pull_matmul, _matmul_examples)


@implements(np.matmul, np.linalg.matmul)
def _np_matmul(x1: Any, x2: Any, /, *, axes: Any = None, dtype: Any = None) -> Any:
    """Matrices are in the last two axes, or where `axes` says, for both operands and the result."""
    x1, x2 = operand(x1), operand(x2)
    if axes is not None:
        first, second, *result = axes
        places = [range(-min(np.ndim(x), 2), 0) for x in (x1, x2)]
        x1, x2 = (np.moveaxis(x, at, to) for x, at, to in zip((x1, x2), (first, second), places))
        y = matmul(x1, x2)
        core = y.ndim - len(np.broadcast_shapes(np.shape(x1)[:-2], np.shape(x2)[:-2]))
        return finish(np.moveaxis(y, range(-core, 0), result[0]) if result and core else y, None, dtype)
    return finish(matmul(x1, x2), None, dtype)


# ---------------------------------------------------------------------------------------------------------------------
# einsum


def _in_letters(args: tuple[Any, ...]) -> tuple[str, list[Any]]:
    """einsum(x, [0, 1], y, [1, 2], [0, 2]) as "ab,bc->ac" and its operands; a string stays as it is."""
    if isinstance(args[0], str):
        return args[0].replace(" ", ""), [operand(x) for x in args[1:]]
    pairs = len(args) // 2 * 2
    lists = [*args[1:pairs:2], *args[pairs:]]
    words = ["".join("..." if i is Ellipsis else string.ascii_letters[i] for i in subscript) for subscript in lists]
    inputs = ",".join(words[: pairs // 2])
    return inputs if len(args) == pairs else f"{inputs}->{words[-1]}", [operand(x) for x in args[:pairs:2]]


@functools.lru_cache(maxsize=1024)
def _written_out(subscripts: str, ndims: tuple[int, ...]) -> tuple[tuple[str, ...], str]:
    """The subscripts of the operands and of the result with a letter for each axis, those of an ellipsis included."""
    inputs, arrow, output = subscripts.partition("->")
    words = inputs.split(",")
    if len(words) != len(ndims):
        raise ValueError(f"einstein sum subscripts string names {len(words)} operands, got {len(ndims)}")
    widths = [ndim - len(word.replace("...", "")) if "..." in word else 0 for word, ndim in zip(words, ndims)]
    letters = "".join(_unused(inputs)[: max(widths, default=0)])
    written = tuple(word.replace("...", letters[len(letters) - width :]) for word, width in zip(words, widths))
    if arrow:
        return written, output.replace("...", letters)
    explicit = inputs.replace("...", "").replace(",", "")
    return written, letters + "".join(c for c in sorted(set(explicit)) if explicit.count(c) == 1)


@functools.lru_cache(maxsize=1024)
def _unused(subscripts: str) -> tuple[str, ...]:
    return tuple(c for c in string.ascii_letters if c not in subscripts)


def _einsum(*operands: Any, inputs: tuple[str, ...], output: str, optimize: Any) -> Any:
    return np.einsum(",".join(inputs) + "->" + output, *operands, optimize=optimize)


def _push_einsum(
    y: Any, operands: Operands, tangents: Operands, inputs: tuple[str, ...], output: str, optimize: Any
) -> Any:
    direction = _unused("".join(inputs))[0]
    y_dot = None
    for k, x_dot in enumerate(tangents):
        if x_dot is None:
            continue
        with_dot = (*operands[:k], x_dot, *operands[k + 1 :])
        subscripts = (*inputs[:k], direction + inputs[k], *inputs[k + 1 :])
        term = _einsum(*with_dot, inputs=subscripts, output=direction + output, optimize=optimize)
        y_dot = term if y_dot is None else y_dot + term
    return y_dot


def _pull_einsum(
    y_bar: Any, y: Any, operands: Operands, inputs: tuple[str, ...], output: str, optimize: Any
) -> tuple[Any, ...]:
    """The transpose by one operand: contract y_bar with all the others into that operand's axes.

    A letter that only this operand has was summed: ones take its place. A letter that it has twice was a diagonal:
    the identity spreads it over both axes.
    """
    lengths = {c: 1 for s in inputs for c in s}
    for s, x in zip(inputs, operands):
        for c, n in zip(s, np.shape(x)):
            lengths[c] = max(lengths[c], n) if n != 0 else 0

    def x_bar(k: int) -> Any:
        kind = np.result_type(primal(operands[k]))
        factors = [y_bar, *(conjugate(x) for j, x in enumerate(operands) if j != k)]
        subscripts = [output, *(s for j, s in enumerate(inputs) if j != k)]
        fresh = iter(_unused("".join(inputs)))
        axes = ""
        for c in inputs[k]:
            letter = c
            if c in axes:
                letter = next(fresh)
                factors.append(np.eye(lengths[c], dtype=kind))
                subscripts.append(c + letter)
            elif not any(c in s for s in subscripts):
                factors.append(np.ones(lengths[c], dtype=kind))
                subscripts.append(c)
            axes += letter
        return _einsum(*factors, inputs=tuple(subscripts), output=axes, optimize=optimize)

    return tuple(lambda k=k: x_bar(k) for k in range(len(operands)))


_EINSUMS: tuple[tuple[str, tuple[tuple[int, ...], ...]], ...] = (
    ("ij,jk->ik", ((2, 3), (3, 4))),
    ("i,i->", ((3,), (3,))),
    ("ij->ji", ((2, 3),)),
    ("ij->", ((2, 3),)),
    ("ii->", ((3, 3),)),
    ("ii->i", ((3, 3),)),
    ("iij,j->i", ((2, 2, 3), (3,))),
    ("iii->i", ((2, 2, 2),)),
    ("bij,bjk,bk->bi", ((2, 3, 2), (2, 2, 4), (2, 4))),
    ("ij,kl->ijkl", ((2, 3), (1, 2))),
    ("bi,ci->bc", ((1, 3), (2, 3))),
    ("ij,ij->i", ((2, 3), (1, 3))),
    (",i->i", ((), (3,))),
    ("ij,jk->ik", ((2, 0), (0, 3))),
)


def _einsum_examples(rng: np.random.Generator) -> Any:
    for subscripts, shapes in _EINSUMS:
        inputs, output = subscripts.split("->")
        params = {"inputs": tuple(inputs.split(",")), "output": output, "optimize": False}
        arrays = tuple(rng.standard_normal(s) for s in shapes)
        yield arrays, params
        yield tuple(np.float32(x) for x in arrays), params
        yield tuple(x + 1j * rng.standard_normal(x.shape) for x in arrays), params | {"optimize": True}
        yield tuple(x[::-1] if x.ndim else x for x in arrays), params


einsum = Rule("einsum", _einsum, _push_einsum, _pull_einsum, _einsum_examples)


@implements(np.einsum)
def _np_einsum(*args: Any, out: Any = None, dtype: Any = None, optimize: Any = False, **kwargs: Any) -> Any:
    subscripts, operands = _in_letters(args)
    inputs, output = _written_out(subscripts, tuple(map(np.ndim, operands)))
    return finish(einsum(*operands, inputs=inputs, output=output, optimize=optimize), out, dtype)


# ---------------------------------------------------------------------------------------------------------------------
# Convolution of sequences


def _push_convolve(y: Any, operands: Operands, tangents: Operands) -> Any:
    (a, v), (a_dot, v_dot) = operands, tangents
    terms = []
    if a_dot is not None:
        terms.append(np.stack([np.convolve(t, v) for t in a_dot]))
    if v_dot is not None:
        terms.append(np.stack([np.convolve(a, t) for t in v_dot]))
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


def _pull_convolve(y_bar: Any, y: Any, operands: Operands) -> tuple[Any, Any]:
    a, v = operands
    n, m = np.shape(a)[0], np.shape(v)[0]
    return (
        lambda: np.convolve(y_bar, np.conj(v[::-1]))[m - 1 : m - 1 + n],
        lambda: np.convolve(y_bar, np.conj(a[::-1]))[n - 1 : n - 1 + m],
    )


def _convolve_examples(rng: np.random.Generator) -> Any:
    for n, m in ((5, 3), (2, 4), (1, 1)):
        a, v = rng.standard_normal(n), rng.standard_normal(m)
        yield (a, v), {}
        yield (np.float32(a), np.float32(v)), {}
        yield (a + 1j * rng.standard_normal(n), v[::-1] - 1j), {}


#: the full convolution; the shorter ones of NumPy are its middle
convolve = Rule("convolve", np.convolve, _push_convolve, _pull_convolve, _convolve_examples)


@implements(np.convolve)
def _np_convolve(a: Any, v: Any, mode: Any = "full") -> Any:
    a, v = np.atleast_1d(operand(a)), np.atleast_1d(operand(v))
    wanted = np.convolve(np.ones(np.shape(a)), np.ones(np.shape(v)), mode).shape[0]
    n, m = np.shape(a)[0], np.shape(v)[0]
    start = {"full": 0, "same": (min(n, m) - 1) // 2, "valid": min(n, m) - 1}[mode]
    return convolve(a, v)[start : start + wanted]


@implements(np.correlate)
def _np_correlate(a: Any, v: Any, mode: Any = "valid") -> Any:
    a, v = operand(a), operand(v)
    n, m = np.shape(a)[0], np.shape(v)[0]
    full = np.convolve(a, np.conj(v[::-1]))
    wanted = np.correlate(np.ones(n), np.ones(m), mode).shape[0]
    # NumPy swaps the two where the second is longer, and reverses the result: the middle is then rounded the other way
    middle = (min(n, m) - 1) // 2 if n >= m else min(n, m) // 2
    start = {"full": 0, "same": middle, "valid": min(n, m) - 1}[mode]
    return full[start : start + wanted]


# ---------------------------------------------------------------------------------------------------------------------
# The other products


@implements(np.tensordot, np.linalg.tensordot)
def _np_tensordot(a: Any, b: Any, /, axes: Any = 2) -> Any:
    a, b = operand(a), operand(b)
    if np.ndim(axes) == 0:
        a_axes, b_axes = list(range(-int(axes), 0)), list(range(int(axes)))
    else:
        a_axes, b_axes = (list(np.atleast_1d(k)) for k in axes)
    a_axes, b_axes = (list(normalize_axis_tuple(k, np.ndim(x))) for k, x in ((a_axes, a), (b_axes, b)))
    if [np.shape(a)[k] for k in a_axes] != [np.shape(b)[k] for k in b_axes]:
        raise ValueError("shape-mismatch for sum")
    a_kept = [k for k in range(np.ndim(a)) if k not in a_axes]
    b_kept = [k for k in range(np.ndim(b)) if k not in b_axes]
    inner = math.prod(np.shape(a)[k] for k in a_axes)
    a_shape, b_shape = [np.shape(a)[k] for k in a_kept], [np.shape(b)[k] for k in b_kept]
    left = np.reshape(np.transpose(a, a_kept + a_axes), (math.prod(a_shape), inner))
    right = np.reshape(np.transpose(b, b_axes + b_kept), (inner, math.prod(b_shape)))
    return np.reshape(left @ right, a_shape + b_shape)


@implements(np.dot)
def _np_dot(a: Any, b: Any, out: Any = None) -> Any:
    a, b = operand(a), operand(b)
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return finish(a * b, out)
    if np.ndim(b) <= 2:
        return finish(a @ b, out)
    return finish(np.tensordot(a, b, (-1, -2)), out)


@implements(np.inner)
def _np_inner(a: Any, b: Any, /) -> Any:
    a, b = operand(a), operand(b)
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return a * b
    return a @ b if np.ndim(b) == 1 else np.tensordot(a, b, (-1, -1))


@implements(np.outer)
def _np_outer(a: Any, b: Any, out: Any = None) -> Any:
    return finish(np.ravel(operand(a))[:, None] * np.ravel(operand(b)), out)


@implements(np.linalg.outer)
def _linalg_outer(x1: Any, x2: Any, /) -> Any:
    np.linalg.outer(primal(x1), primal(x2))  # NumPy's own complaint
    return np.outer(x1, x2)


@implements(np.vdot)
def _np_vdot(a: Any, b: Any, /) -> Any:
    return conjugate(np.ravel(operand(a))) @ np.ravel(operand(b))


@implements(np.vecdot)
def _np_vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    x1, x2 = operand(x1), operand(x2)
    if axis != -1:
        x1, x2 = np.moveaxis(x1, axis, -1), np.moveaxis(x2, axis, -1)
    if np.ndim(x1) == np.ndim(x2) == 1:
        return conjugate(x1) @ x2
    return (conjugate(x1)[..., None, :] @ x2[..., None])[..., 0, 0]


implements(np.linalg.vecdot)(_np_vecdot)
implements(np.matvec)(lambda x1, x2, /: (operand(x1) @ operand(x2)[..., None])[..., 0])
implements(np.vecmat)(lambda x1, x2, /: (conjugate(operand(x1))[..., None, :] @ operand(x2))[..., 0, :])


@implements(np.kron)
def _np_kron(a: Any, b: Any) -> Any:
    a, b = operand(a), operand(b)
    ndim = max(np.ndim(a), np.ndim(b))
    a_shape, b_shape = ((1,) * (ndim - np.ndim(x)) + np.shape(x) for x in (a, b))
    apart = [np.reshape(a, [k for n in a_shape for k in (n, 1)]), np.reshape(b, [k for n in b_shape for k in (1, n)])]
    return np.reshape(apart[0] * apart[1], [n * m for n, m in zip(a_shape, b_shape)])


@implements(np.cross)
def _np_cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None) -> Any:
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = np.moveaxis(operand(a), axisa, -1), np.moveaxis(operand(b), axisb, -1)
    if np.shape(a)[-1] != 3 or np.shape(b)[-1] != 3:
        np.cross(primal(a), primal(b))  # NumPy's own complaint
        if np.shape(a)[-1] == np.shape(b)[-1]:
            return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
        a, b = (np.concatenate([x, np.zeros_like(x[..., :1])], -1)[..., :3] for x in (a, b))
    following, after = [1, 2, 0], [2, 0, 1]
    y = a[..., following] * b[..., after] - a[..., after] * b[..., following]
    return np.moveaxis(y, -1, axisc)


@implements(np.linalg.cross)
def _linalg_cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    return np.cross(x1, x2, axis=axis)


@implements(np.trace)
def _np_trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    return finish(np.sum(np.diagonal(a, offset, axis1, axis2), axis=-1), out, dtype)


@implements(np.linalg.trace)
def _linalg_trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    return np.trace(x, offset, -2, -1, dtype)


@implements(np.linalg.multi_dot)
def _linalg_multi_dot(arrays: Any, *, out: Any = None) -> Any:
    factors = [operand(a) for a in arrays]
    if len(factors) < 2:
        raise ValueError("Expecting at least two arrays.")
    while len(factors) > 1:  # the pair with the longest common axis, whose product frees most, comes first
        k = max(range(len(factors) - 1), key=lambda i: np.shape(factors[i])[-1])
        factors[k : k + 2] = [factors[k] @ factors[k + 1]]
    return finish(factors[0], out)


@implements(np.vander)
def _np_vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    n = x.shape[0] if N is None else N
    powers = np.arange(n) if increasing else np.arange(n)[::-1]
    return np.astype(x, np.promote_types(x.dtype, int), copy=False)[:, None] ** powers.astype(float)


@implements(np.polyval)
def _np_polyval(p: Any, x: Any) -> Any:
    y = np.zeros_like(primal(operand(x)))
    for coefficient in operand(p):
        y = y * x + coefficient
    return y
