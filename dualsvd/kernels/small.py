"""The SVD of one small matrix inside users' own compiled functions: the same texts, for a matrix at a time.

    svd_small(A)                  U, S, Vh as new arrays
    svdvals_small(A)              S
    jacobi_svd_inplace(A, V, S)   A becomes U

A is a float or complex array or a DualArray, nested or not, of any layout. Duals are treated as in `dual_svd.lift`: the
values are swept until they are orthogonal, at ties the basis turns to follow the directions, and one sweep more gives
the tangents what they are owed.

What is compiled with the user's function is a call. First derivatives are compiled once for each kind of plain number,
whatever the layout of A, the number of partials and the level of the derivative; nested ones once for each choice of
numbers of partials. Both are kept on disk. The texts work on blocks of memory, one for the values and one for each
direction, that hold U, V, S and two numbers more, see `block`.

Imported on first use, for it imports Numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import overload, register_jitable

from ..errors import ConvergenceError, DegenerateError, DTypeError, NonFiniteError, ShapeError
from . import derivatives, dual_svd, jacobi
from .arrays import DualArrayType, allocator, element_type, from_source
from .buffers import Kind, buffer, components, leaf_kind, order_of
from .caching import jit, need_compiler
from .number_types import DualType, precision, real_type
from .protocol import any_true, conj, eps_of, like, raising
from .scalars import refusal
from .texts import OPTIONS, TEXT, called
from .transfer import identity
from .verdicts import NONFINITE, TIED, UNCONVERGED

#: What allocates nothing need not count who holds memory. Buffers go from one such function to another only: others
#: would give back what was never counted.
text = register_jitable(**TEXT)


def svd_small(A: Any) -> Any:
    """U, S, Vh of one matrix (m, n), thin: r = min(m, n) columns of U, values, rows of Vh.

    For use in compiled functions; called from Python it compiles itself. S has the units of A, is descending, and at
    ties and zeros U, S and Vh follow the directions of the partials in their order, as everywhere in forward mode.

    Raises NonFiniteError for NaN or infinity, ConvergenceError after 30 sweeps, DegenerateError for a second derivative
    at tied or zero values.

    >>> import numpy as np
    >>> from numba import njit
    >>> from dualsvd.kernels import svd_small
    >>> @njit
    ... def nearest_rotation(A):
    ...     U, S, Vh = svd_small(A)
    ...     return U @ Vh
    >>> nearest_rotation(np.array([[0.0, -2.0], [3.0, 0.0]]))
    array([[ 0., -1.],
           [ 1.,  0.]])
    """
    need_compiler()
    return _svd_small(A)


def svdvals_small(A: Any) -> Any:
    """The singular values of one matrix, descending; see `svd_small`."""
    need_compiler()
    return _svdvals_small(A)


def jacobi_svd_inplace(A: Any, V: Any, S: Any) -> None:
    """A = U S V^H for A (m, n), m >= n: A becomes U, V (n, n) and S (n,) are filled; see `svd_small`."""
    need_compiler()
    _jacobi_svd_inplace(A, V, S)


# ---- the sweeps, for each kind of number


@text
def plain(kind, real, memory, m, n, vectors):
    """The SVD of the columns in a block of plain numbers. Returns what is wrong."""
    A, V, S, info = block(kind, real, memory, 0, m, n)
    largest, finite = jacobi.extent(reals_of(kind, real, memory, 0, m, n), m * n * components(kind))
    f, g, over_g, over_f = raising(largest, jacobi.headroom(np.finfo(memory.dtype).eps))
    jacobi.raise_lanes(A, finite, f, g, m * n)
    k = n if vectors else 0
    identity(V, k)
    jacobi.svd(A, V, S, info, m, k, n, jacobi.MAX_SWEEPS)
    for p in range(n):
        S[p] = S[p] * over_g * over_f
    verdict = 0 if any_true(finite) else NONFINITE
    return verdict if info[0] < jacobi.MAX_SWEEPS else verdict | UNCONVERGED


@jit(nogil=True, **OPTIONS)
def first_order(kind, reals, leaf, real, memory, m, n, count):
    """The SVD of the columns in the first block, and its derivatives along those in the `count` others, in their
    places. `kind` has one partial: the directions are taken one after the other."""
    verdict, scale, tie, is_tied = values(leaf, real, memory, m, n)
    if is_tied:
        rotated = np.empty((count * m + 1) * n * components(leaf), memory.dtype)
        follow_directions(leaf, real, memory, rotated, np.empty(n, np.int64), tie, m, n, count)
    work = np.empty(((m + n + 1) * n + n) * components(kind), memory.dtype)
    tangents(kind, reals, leaf, real, memory, work, scale, tie, m, n, count)
    return verdict


@text
def values(leaf, real, memory, m, n):
    """The SVD of the first block, s_1 brought to [1/2, 1). Returns what is wrong, the powers of two for that with those
    that undo it, the tie, and whether there is one."""
    verdict = plain(leaf, real, memory, m, n, True)
    _, _, S0, _ = block(leaf, real, memory, 0, m, n)
    scale = raising(S0[0], 0)
    for p in range(n):
        S0[p] = S0[p] * scale[0] * scale[1]
    tie = S0[0] * like(S0[0], jacobi.tie_tolerance(eps_of(S0[0]), n))
    return verdict, scale, tie, not any_true(derivatives.simple(S0, n))


@text
def tangents(kind, reals, leaf, real, memory, work, scale, tie, m, n, count):
    """The derivatives in place of the directions, by `dual_svd.lift` in `work`."""
    U0, V0, S0, _ = block(leaf, real, memory, 0, m, n)
    v, r, s = m * n * components(kind), (m + n) * n * components(kind), (m + n + 1) * n * components(kind)
    A, V, row, S = buffer(work[:v], kind), buffer(work[v:r], kind), buffer(work[r:s], kind), buffer(work[s:], reals)
    of_A, of_V, of_S = buffer(work[:v], leaf), buffer(work[v:r], leaf), buffer(work[s:], real)
    f, g, over_g, over_f = scale
    for k in range(1, count + 1):
        dU, dV, dS, _ = block(leaf, real, memory, k, m, n)
        over_less, over_down = bring_to_one(reals_of(leaf, real, memory, k, m, n), m * n * components(leaf))
        for i in range(m * n):
            of_A[2 * i], of_A[2 * i + 1] = like(dU[0], 0.0), dU[i]  # lift puts the value there
        dual_svd.lift(A, V, S, U0, V0, S0, row, m, n, tie, components(leaf) == 2)
        for i in range(m * n):
            dU[i] = of_A[2 * i + 1] * (f * over_down) * (g * over_less)
        for i in range(n * n):
            dV[i] = of_V[2 * i + 1] * (f * over_down) * (g * over_less)
        for p in range(n):
            dS[p] = of_S[2 * p + 1] * over_less * over_down
    for p in range(n):
        S0[p] = S0[p] * over_g * over_f


@text
def follow_directions(leaf, real, memory, rotated, group, tie, m, n, count):
    """Turn U_0 and V_0 at ties to follow the directions."""
    U0, V0, S0, _ = block(leaf, real, memory, 0, m, n)
    size = m * n * components(leaf)
    D, row = buffer(rotated[: count * size], leaf), buffer(rotated[count * size :], leaf)
    for k in range(count):
        dA, _, _, _ = block(leaf, real, memory, k + 1, m, n)
        for i in range(m * n):
            D[k * m * n + i] = dA[i]
        bring_to_one(buffer(rotated[k * size : (k + 1) * size], real), size)
        dual_svd.times(D, k * n, V0, row, m, n)
    dual_svd.adapt(U0, V0, D, group, dual_svd.tie_groups(S0, group, n, tie), m, n, n, count)


@text
def bring_to_one(reals, size):
    """Scale so that the largest of the reals is about 1; returns the powers of two that undo it."""
    largest, _ = jacobi.extent(reals, size)
    f, g, over_g, over_f = raising(largest, 0)
    for i in range(size):
        reals[i] = reals[i] * f * g
    return over_g, over_f


@jit(nogil=True, **OPTIONS)
def higher_order(kind, reals, leaf, real, memory, m, n):
    """The SVD of the nested duals in a block. Behind it there is room for a row, and for a block of values."""
    return nested(kind, reals, leaf, real, memory, m, n)


@text
def nested(kind, reals, leaf, real, memory, m, n):
    """The work of `higher_order`, in a function that counts no references to its buffers (`text`)."""
    A, V, S, _ = block(kind, reals, memory, 0, m, n)
    r = block_size(kind, reals, m, n)
    row, behind = buffer(memory[r : r + n * components(kind)], kind), memory[r + n * components(kind) :]
    U0, V0, S0, _ = block(leaf, real, behind, 0, m, n)
    dual_svd.primals(A, U0, m * n)
    verdict, scale, tie, is_tied = values(leaf, real, behind, m, n)
    if is_tied:
        return verdict | TIED
    f, g, over_g, over_f = scale
    for i in range(m * n):
        A[i] = A[i] * f * g
    dual_svd.lift(A, V, S, U0, V0, S0, row, m, n, tie, components(leaf) == 2)
    for p in range(n):
        S[p] = S[p] * over_g * over_f
    return verdict


@text
def block_size(kind, real, m, n):
    """Reals in a block."""
    return (m + n) * n * components(kind) + (n + 2) * components(real)


@text
def block(kind, real, memory, k, m, n):
    """Block k: the columns of A or U, those of V, S, and two numbers more."""
    u = k * block_size(kind, real, m, n)
    v = u + m * n * components(kind)
    s = v + n * n * components(kind)
    info = s + n * components(real)
    return (
        buffer(memory[u:v], kind),
        buffer(memory[v:s], kind),
        buffer(memory[s:info], real),
        buffer(memory[info : info + 2 * components(real)], real),
    )


@text
def reals_of(kind, real, memory, k, m, n):
    """The reals of the first matrix in block k."""
    start = k * block_size(kind, real, m, n)
    return buffer(memory[start : start + m * n * components(kind)], real)


# ---- between the user's arrays and blocks


@text
def take_matrix(A, kind, real, memory, k, m, n):
    """The columns of A, or of A^H if it is wide, to block k."""
    columns, _, _, _ = block(kind, real, memory, k, m, n)
    wide = A.shape[0] < A.shape[1]
    for p in range(n):
        for i in range(m):
            columns[p * m + i] = conj(A[p, i]) if wide else A[i, p]


@text
def put_factors(U, S, Vh, kind, real, memory, k, m, n):
    """U, S, Vh from block k."""
    left, right, values, _ = block(kind, real, memory, k, m, n)
    if U.shape[0] < Vh.shape[1]:
        put_columns(U, right, n, n)
        put_rows(Vh, left, m, n)
    else:
        put_columns(U, left, m, n)
        put_rows(Vh, right, n, n)
    for p in range(n):
        S[p] = values[p]


@text
def put_in_place(A, V, S, kind, real, memory, k, m, n):
    """U to the place of A, V and S from block k."""
    left, right, values, _ = block(kind, real, memory, k, m, n)
    put_columns(A, left, m, n)
    put_columns(V, right, n, n)
    for p in range(n):
        S[p] = values[p]


@text
def put_values(S, kind, real, memory, k, m, n):
    """S from block k."""
    _, _, values, _ = block(kind, real, memory, k, m, n)
    for p in range(n):
        S[p] = values[p]


@text
def put_columns(U, columns, m, n):
    """Columns to the columns of an array."""
    for p in range(n):
        for i in range(m):
            U[i, p] = columns[p * m + i]


@text
def put_rows(Vh, columns, m, n):
    """The conjugates of columns to the rows of an array."""
    for p in range(n):
        for i in range(m):
            Vh[p, i] = conj(columns[p * m + i])


#: Written out beforehand: compiled code formats no numbers when it raises.
UNCONVERGED_MESSAGE = f"a compiled SVD did not converge in {jacobi.MAX_SWEEPS} sweeps; rescale the matrix"


@called
def complain(verdict):
    """The errors of the library."""
    if verdict & NONFINITE:
        raise NonFiniteError("the matrix given to a compiled SVD holds NaN or infinity")
    if verdict & UNCONVERGED:
        raise ConvergenceError(UNCONVERGED_MESSAGE)
    if verdict & TIED:
        raise DegenerateError(
            "a compiled SVD was asked for a second derivative where singular values are tied or zero; there U, S and "
            "Vh have none: take dualsvd.polar, low_rank or spectral_function outside of compiled code"
        )


# ---- for each type of array


class Numbers:
    """The kinds of the numbers of a matrix."""

    def __init__(self, A: Any) -> None:
        if not isinstance(A, (types.Array, DualArrayType)):
            raise refusal(DTypeError, f"a compiled SVD takes an array or a DualArray, got {A}")
        if A.ndim != 2:
            raise refusal(ShapeError, f"a compiled SVD takes one matrix, got an array of {A.ndim} axes; loop over them")
        element = element_type(A)
        if isinstance(element, types.Integer):
            element = types.float64
        if not isinstance(element, (DualType, types.Float, types.Complex)) or precision(element) not in (32, 64):
            raise refusal(DTypeError, f"an SVD takes float32, float64, complex64 or complex128 numbers, got {A}")
        self.element, self.real_element, self.order = element, real_number(element), order_of(element)
        self.here, self.here_real = Kind.of(element), Kind.of(self.real_element)
        self.leaf, self.real = leaf_kind(self.here), leaf_kind(self.here_real)
        # the sweeps see the same memory without its levels, so that one compilation serves all
        self.kind, self.reals = (Kind.of(without_level(t)) for t in (element, self.real_element))
        self.one, self.one_real = (Kind.of(DualType(t.number, 1)) for t in (self.leaf, self.real))
        self.dtype = np.dtype(f"float{precision(element)}").type


def real_number(t: Any) -> Any:
    """The type of the real part of a number."""
    return DualType(real_number(t.part), t.count, t.level) if isinstance(t, DualType) else real_type(t)


def without_level(t: Any) -> Any:
    """The type of a number with the same derivatives, made by hand."""
    return DualType(without_level(t.part), t.count) if isinstance(t, DualType) else t


def factorise(A: Any, vectors: bool) -> Any:
    """Memory with the factors of a matrix in blocks."""


@overload(factorise)
def _overload_factorise(A, vectors):
    numbers = Numbers(A)
    leaf, real, kind, reals = numbers.leaf, numbers.real, numbers.kind, numbers.reals
    here, here_real, one, one_real = numbers.here, numbers.here_real, numbers.one, numbers.one_real
    dtype = numbers.dtype

    def of_plain(A, vectors):
        m, n = max(A.shape), min(A.shape)
        memory = np.empty(block_size(leaf, real, m, n), dtype)
        take_matrix(A, leaf, real, memory, 0, m, n)
        complain(plain(leaf, real, memory, m, n, vectors) if n > 0 else 0)
        return memory

    def of_first_order(A, vectors):
        m, n, count = max(A.shape), min(A.shape), len(A.partials)
        memory = np.empty((count + 1) * block_size(leaf, real, m, n), dtype)
        take_matrix(A.value, leaf, real, memory, 0, m, n)
        for k in range(count):
            take_matrix(A.partials[k], leaf, real, memory, k + 1, m, n)
        complain(first_order(one, one_real, leaf, real, memory, m, n, count) if n > 0 else 0)
        return memory

    def of_higher_order(A, vectors):
        m, n = max(A.shape), min(A.shape)
        size = block_size(kind, reals, m, n) + n * components(kind) + block_size(leaf, real, m, n)
        memory = np.empty(size, dtype)
        take_matrix(A, here, here_real, memory, 0, m, n)
        complain(higher_order(kind, reals, leaf, real, memory, m, n) if n > 0 else 0)
        return memory

    return (of_plain, of_first_order, of_higher_order)[min(numbers.order, 2)]


def storing(numbers: Numbers, put_block: Any, names: str) -> Any:
    """A compiled function that fills arrays, of the names, from the blocks of a matrix A."""
    head, put_here = f"def f(A, {names}, memory, m, n):", "put_block({}, {}, memory, {}, m, n)"
    if numbers.order == 1:
        values, partials = (", ".join(name + part for name in names.split(", ")) for part in (".value", ".partials[k]"))
        first = put_here.format(values, "leaf, real", 0)
        others = f"for k in range(len(A.partials)): {put_here.format(partials, 'leaf, real', 'k + 1')}"
        source = f"{head}\n    {first}\n    {others}"
    else:
        source = f"{head} {put_here.format(names, 'here, here_real', 0)}"
    kinds = {name: getattr(numbers, name) for name in ("here", "here_real", "leaf", "real")}
    return called(from_source(source, put_block=put_block, **kinds))


# Compiled for each type of array, and kept on disk, so that users' functions need only call them. The kind is there to
# have them compiled anew when a rule changes.


@jit(nogil=True)
def svd_of(kind, A):
    return factors_of(A)


@jit(nogil=True)
def svdvals_of(kind, A):
    return values_of(A)


@jit(nogil=True)
def svd_in_place_of(kind, A, V, S):
    factors_in_place_of(A, V, S)


def factors_of(A: Any) -> Any:
    """`svd_small`, compiled."""


def values_of(A: Any) -> Any:
    """`svdvals_small`, compiled."""


def factors_in_place_of(A: Any, V: Any, S: Any) -> None:
    """`jacobi_svd_inplace`, compiled."""


@overload(factors_of)
def _overload_factors_of(A):
    numbers = Numbers(A)
    store = storing(numbers, put_factors, "U, S, Vh")
    allocate, allocate_real = allocator(numbers.element, "empty"), allocator(numbers.real_element, "empty")

    def svd(A):
        m, n = max(A.shape), min(A.shape)
        memory = factorise(A, True)
        U, S, Vh = allocate((A.shape[0], n)), allocate_real((n,)), allocate((n, A.shape[1]))
        store(A, U, S, Vh, memory, m, n)
        return U, S, Vh

    return svd


@overload(values_of)
def _overload_values_of(A):
    numbers = Numbers(A)
    store, allocate_real = storing(numbers, put_values, "S"), allocator(numbers.real_element, "empty")

    def svdvals(A):
        m, n = max(A.shape), min(A.shape)
        memory = factorise(A, False)
        S = allocate_real((n,))
        store(A, S, memory, m, n)
        return S

    return svdvals


@overload(factors_in_place_of)
def _overload_factors_in_place_of(A, V, S):
    store = storing(Numbers(A), put_in_place, "U, V, S")

    def svd(A, V, S):
        m, n = A.shape
        if m < n or V.shape != (n, n) or S.shape != (n,):
            raise ShapeError("jacobi_svd_inplace takes A (m, n) with m >= n, V (n, n) and S (n,); give it A^H if m < n")
        store(A, A, V, S, factorise(A, True), m, n)

    return svd


# ---- what users' functions call


@overload(svd_small)
def _overload_svd_small(A):
    kind = Numbers(A).here
    return lambda A: svd_of(kind, A)


@overload(svdvals_small)
def _overload_svdvals_small(A):
    kind = Numbers(A).here
    return lambda A: svdvals_of(kind, A)


@overload(jacobi_svd_inplace)
def _overload_jacobi_svd_inplace(A, V, S):
    kind = Numbers(A).here
    return lambda A, V, S: svd_in_place_of(kind, A, V, S)


# ---- what Python calls


@njit(nogil=True)
def _svd_small(A):
    return svd_small(A)


@njit(nogil=True)
def _svdvals_small(A):
    return svdvals_small(A)


@njit(nogil=True)
def _jacobi_svd_inplace(A, V, S):
    jacobi_svd_inplace(A, V, S)
