"""The texts of `jacobi`, `derivatives` and `qr` compiled, and the loops that bring batches of matrices to them.

Imported on first use, for it imports Numba. Matrices and results are flat arrays of reals, matrix after matrix; a
complex entry is two reals (planes = 2). A kernel takes the matrices from `begin` to `end`, `lanes(kind)` (no more than
there are) at a time: each number of its buffers holds one entry of that many matrices side by side. One lane is a plain
number.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

import numpy as np
from numba.extending import overload, register_jitable

from . import derivatives, householder, jacobi, qr
from .caching import jit
from .cpu import NONFINITE, UNCONVERGED
from .lanes import read_lanes, write_lanes
from .protocol import any_true, like, raising, where
from .scalars import buffer, compile_rule, components, integer, lanes, order_of

#: Fused multiply-add, no signed zeros, reciprocals; NaN and infinity keep their meaning, and sums their order.
FAST = {"contract", "nsz", "arcp"}
OPTIONS = {"fastmath": FAST, "error_model": "numpy", "boundscheck": False}

#: A cotangent passes for free of phases if what depends on them is below GAUGE n eps of it. Where it does not, the
#: caller looks again, and is less strict.
GAUGE = 1e2

#: Exponents of s_1 for which the closed forms need not scale directions and cotangents; an eighth in float32.
REACH = 330

#: 2^k at k + 1100.
POWERS = np.ldexp(1.0, np.arange(-1100, 1024))

#: Functions of numbers alone: they are run while what calls them is compiled, for a third of the time.
STAGED = {"rotation", "angle", "tangent_of_angle", "rebase", "reciprocal"}

#: What runs once an entry or a pair is inlined, so that packs stay in registers; what runs once a sweep or less is not:
#: it would only make the compiler work.
HOT = {"dots", "inner", "norm2", "rotate", "turn_pair", "settle_pair", "shear", "shift", "exponent_of"}
HOT |= {
    "converge",
    "sweep",
    "converge_in_fronts",
    "sweep_in_fronts",
    "turn_front",
    "normalise",
    "extent",
    "raise_lanes",
}  # these stand in a kernel once
HOT |= {"multiply_block", "multiply_entry", "conjugate_if"}

# The texts allocate nothing, so they need not count who holds a buffer: to count costs more than a small rotation.
TEXT: Any = OPTIONS | {"_nrt": False, "no_cfunc_wrapper": True}

for _text in (jacobi, derivatives, qr, householder):
    for _name, _function in vars(_text).items():
        if isinstance(_function, FunctionType) and _function.__module__ == _text.__name__:
            if _name in STAGED:
                compile_rule(_function)
            elif _name != "follow_beyond":
                register_jitable(**TEXT, forceinline=_name in HOT)(_function)


@overload(jacobi.follow_beyond, jit_options=TEXT, strict=False)
def _follow_beyond(A, V, S, U0, S0, m, n, tie, phases):
    """By the order of the derivatives, so that the other way is not compiled."""
    return jacobi.follow_first if order_of(A.number) == 1 else jacobi.follow_nested


inline = register_jitable(**OPTIONS, no_cfunc_wrapper=True)
once = register_jitable(**OPTIONS, no_cfunc_wrapper=True, forceinline=True)


# ---- memory


@once
def memory(size, like):
    """Uninitialised reals on a cache line: packs are 64 bytes."""
    raw = np.empty(size + 16, like.dtype)
    skip = (-raw.ctypes.data % 64) // raw.itemsize
    return raw[skip : skip + size]


# ---- scaling


@inline
def largest(x, start, size):
    """The largest |real|, infinity if one is not finite."""
    top = 0.0
    for i in range(start, start + size):
        y = abs(x[i])
        if not y <= top:
            top = y if y < np.inf else np.inf
    return top


@inline
def powers(exponent):
    """Two powers of two whose product is 2^exponent; one alone may overflow. Beyond both bounds every result is 0 or
    inf."""
    exponent = max(-2200, min(exponent, 2046))
    half = exponent // 2
    return POWERS[half + 1100], POWERS[exponent - half + 1100]


@once
def scaling(x, exponent):
    """2^exponent as two numbers of the type of x."""
    f, g = powers(exponent)
    return like(x, f), like(x, g)


@once
def unscaled(x):
    """1 as two numbers of the type of x."""
    return like(x, 1.0), like(x, 1.0)


# ---- between matrices in memory and packs
#
# A layout is (rows, columns, turned, planes) of the matrices in memory. Their reals go to a buffer column after column,
# or row after row and conjugated if `turned`; real or imaginary part c of entry e is its number e stride + start + c.
# A scale is two factors, for one power of two may overflow.


@once
def layouts(rows, columns, planes):
    """Those of A, U, S and Vh: buffers hold the columns of a tall A and of its U and V, or of A^H."""
    n = min(rows, columns)
    return (
        (rows, columns, rows < columns, planes),
        (rows, n, False, planes),
        (1, n, True, 1),
        (n, columns, True, planes),
    )


@once
def take(x, b, layout, scale, A, start, stride):
    """Matrix b and the following, scaled, a lane each."""
    size, factors = layout[0] * layout[1] * layout[3], with_sign(scale, layout)
    k, left, at = b * size, size, (0, 0, 0)
    while left >= 8:
        places, at = eight(at, layout, start, stride)
        read_lanes(x, k, size, A, places, factors)
        k, left = k + 8, left - 8
    if left & 4:
        places, at = four(at, layout, start, stride)
        read_lanes(x, k, size, A, places, factors)
        k += 4
    if left & 2:
        places, at = two(at, layout, start, stride)
        read_lanes(x, k, size, A, places, factors)
        k += 2
    if left & 1:
        places, at = one(at, layout, start, stride)
        read_lanes(x, k, size, A, places, factors)


@once
def put(A, start, stride, scale, y, b, layout):
    """The inverse of `take`."""
    size, factors = layout[0] * layout[1] * layout[3], with_sign(scale, layout)
    k, left, at = b * size, size, (0, 0, 0)
    while left >= 8:
        places, at = eight(at, layout, start, stride)
        write_lanes(A, places, factors, y, k, size)
        k, left = k + 8, left - 8
    if left & 4:
        places, at = four(at, layout, start, stride)
        write_lanes(A, places, factors, y, k, size)
        k += 4
    if left & 2:
        places, at = two(at, layout, start, stride)
        write_lanes(A, places, factors, y, k, size)
        k += 2
    if left & 1:
        places, at = one(at, layout, start, stride)
        write_lanes(A, places, factors, y, k, size)


@once
def with_sign(scale, layout):
    """The factors of real parts, of imaginary ones, and of both; reals come by turns of the two too, if they are
    complex."""
    f, g = scale
    return (f, -f, g) if layout[2] and layout[3] == 2 else (f, f, g)


@once
def one(at, layout, start, stride):
    """The place in a buffer of the real in row, column and plane `at` of the matrices; and what comes next."""
    i, j, c = at
    rows, columns, turned, planes = layout
    place = (i * columns + j if turned else j * rows + i) * stride + start + c
    if c + 1 < planes:
        return (place,), (i, j, c + 1)
    return (place,), ((i, j + 1, 0) if j + 1 < columns else (i + 1, 0, 0))


@once
def two(at, layout, start, stride):
    """The places of two reals; and what comes next."""
    a, at = one(at, layout, start, stride)
    b, at = one(at, layout, start, stride)
    return a + b, at


@once
def four(at, layout, start, stride):
    """The places of four reals; and what comes next."""
    a, at = two(at, layout, start, stride)
    b, at = two(at, layout, start, stride)
    return a + b, at


@once
def eight(at, layout, start, stride):
    """The places of eight reals; and what comes next."""
    a, at = four(at, layout, start, stride)
    b, at = four(at, layout, start, stride)
    return a + b, at


# ---- the primal SVD


@jit(nogil=True, **OPTIONS)
def svd(kind, reals, lane, rows, columns, X, U, S, Vh, told, begin, end, limit):
    """U, S and Vh, or S alone where U is empty. Returns whether anything is to be told of a matrix.

    told: for each matrix the sweeps before the last, then |cos|^2, then the verdict, which is 0 if all went well.
    """
    rows, columns = integer(rows), integer(columns)
    wide, m, n = rows < columns, max(rows, columns), min(rows, columns)
    width, planes = lanes(kind), components(kind)
    stride, k, height, batch = planes * width, n if len(U) else 0, jacobi.headroom(np.finfo(X.dtype).eps), len(S) // n
    a, v, s = memory(m * n * stride, X), memory((k * k + 1) * stride, X), memory(n * width, X)
    info = memory(3 * width, X)
    A, V, Sb, verdict = buffer(a, kind), buffer(v, kind), buffer(s, reals), buffer(info, reals)
    Ar, left, right = buffer(a, reals), buffer(v if wide else a, reals), buffer(a if wide else v, reals)
    x, y, z, values, report = buffer(X, lane), buffer(U, lane), buffer(Vh, lane), buffer(S, lane), buffer(told, lane)
    one, anything = unscaled(Sb[0]), False
    of_x, of_u, of_s, of_v = layouts(rows, columns, planes)
    for first in range(begin, end, width):
        b = min(first, end - width)  # the last pack overlaps the one before
        take(x, b, of_x, one, Ar, 0, planes)
        largest, finite = jacobi.extent(Ar, m * n * planes)
        f, g, over_g, over_f = raising(largest, height)
        jacobi.raise_lanes(A, finite, f, g, m * n)
        identity(V, k)
        jacobi.converge(A, V, verdict, m, k, n, limit)
        jacobi.normalise(A, Sb, m, n)
        if k and any_true(Sb[n - 1] <= like(Sb[0], 0.0)):
            jacobi.complete(A, m, n)
        verdict[2] = judge(verdict[0], finite, limit)
        if any_true(verdict[2] > like(Sb[0], 0.0)):
            anything = True
            spoil(A, V, Sb, finite, m, k, n)
        put(Sb, 0, 1, (over_g, over_f), values, b, of_s)
        if k:
            put(left, 0, planes, one, y, b, of_u)
            put(right, 0, planes, one, z, b, of_v)
        for i in range(3):
            write_lanes(verdict, (i,), (one[0], one[0], one[1]), report, i * batch + b, 1)
    return anything


@once
def identity(V, n):
    """The identity in every lane."""
    zero, one = like(V[0], 0.0), like(V[0], 1.0)
    for e in range(n * n):
        V[e] = zero
    for i in range(n):
        V[i * (n + 1)] = one


@once
def judge(sweeps, finite, limit):
    """The verdicts: 0, or the sum of NONFINITE and UNCONVERGED."""
    zero = like(sweeps, 0.0)
    ill = where(finite, zero, like(zero, NONFINITE))
    return where(sweeps < like(zero, limit), ill, ill + like(zero, UNCONVERGED))


@inline
def spoil(A, V, S, finite, m, k, n):
    """NaN in the lanes that are not finite."""
    nan = like(S[0], np.nan)
    for p in range(n):
        S[p] = where(finite, S[p], nan)
    for e in range(m * n):
        A[e] = where(finite, A[e], nan)
    for e in range(k * k):
        V[e] = where(finite, V[e], nan)


# ---- its tangents


@inline
def scale_directions(dx, size, batch, b, count, exponents, top):
    """The exponents that bring the largest real of each direction to 2^top."""
    for j in range(count):
        big = largest(dx, (j * batch + b) * size, size)
        exponents[j] = jacobi.power_of_two(big, top) if big < np.inf else 0


@inline
def take_directions(dx, batch, b, first, count, exponents, layout, A, stride):
    """Directions first, ..., first + count - 1 to the partials of a matrix of duals, of `stride` reals a number."""
    for j in range(count):
        scale = scaling(A[0], exponents[first + j])
        take(dx, (first + j) * batch + b, layout, scale, A, (j + 1) * layout[3], stride)


@jit(nogil=True, **OPTIONS)
def adapt(leaf, lane, rows, columns, batch, count, graded, U, S, Vh, dX, Q, begin, end):
    """Turn the vectors of ties to follow `count` directions: those of the longer side, U or Vh, in place; Q receives
    the rotations that those of the shorter side are owed."""
    wide, m, n = rows < columns, max(rows, columns), min(rows, columns)
    planes, eps = components(leaf), np.finfo(U.dtype).eps
    forms, of_q = layouts(rows, columns, planes), (n, n, False, planes)
    size, square = m * n * planes, n * n * planes
    u, v, q, s, r = memory(size, U), memory(square, U), memory(square, U), memory(n, U), memory(n * planes, U)
    d, group = memory(count * size, U), np.empty(n, np.int64)
    U0, V0, W, S0, R, D = (
        buffer(u, leaf), buffer(v, leaf), buffer(q, leaf), buffer(s, lane), buffer(r, leaf), buffer(d, leaf)
    )  # fmt: skip
    Dr, Wr = buffer(d, lane), buffer(q, lane)
    left, right = (buffer(v, lane), buffer(u, lane)) if wide else (buffer(u, lane), buffer(v, lane))
    x, y, z, dx, turns = buffer(S, lane), buffer(U, lane), buffer(Vh, lane), buffer(dX, lane), buffer(Q, lane)
    one = unscaled(S0[0])
    for b in range(begin, end):
        exponent = jacobi.power_of_two(S[b * n], 900 if graded else 0) if S[b * n] < np.inf else 0
        take(x, b, forms[2], scaling(S0[0], exponent), S0, 0, 1)
        take(y, b, forms[1], one, left, 0, planes)
        take(z, b, forms[3], one, right, 0, planes)
        identity(W, n)
        zeros = jacobi.tie_groups(S0, group, n, S0[0] * jacobi.tie_tolerance(0.0 if graded else eps, n))
        for j in range(count):
            big = largest(dx, (j * batch + b) * size, size)
            scale = scaling(S0[0], jacobi.power_of_two(big, 0) if big < np.inf else 0)
            take(dx, j * batch + b, forms[0], scale, Dr, j * size, planes)
            jacobi.times(D, j * n, V0, R, m, n)
        jacobi.adapt(U0, W, D, group, zeros, m, n, n, count)
        if wide:
            put(right, 0, planes, one, z, b, forms[3])
        else:
            put(left, 0, planes, one, y, b, forms[1])
        put(Wr, 0, planes, one, turns, b, of_q)
    return False


@inline
def put_tangents(A, V, S, stride, dy, dvalues, dz, batch, b, first, count, exponents, exponent, forms):
    """The partials of a matrix to directions first, ..., first + count - 1; it had been scaled by 2^exponent."""
    of_x, of_u, of_s, of_v = forms
    left, right, planes = (V, A, of_x[3]) if of_x[2] else (A, V, of_x[3])
    for j in range(count):
        at, start = (first + j) * batch + b, (j + 1) * planes
        put(S, j + 1, stride // planes, scaling(S[0], -exponents[first + j]), dvalues, at, of_s)
        put(left, start, stride, scaling(S[0], exponent - exponents[first + j]), dy, at, of_u)
        put(right, start, stride, scaling(S[0], exponent - exponents[first + j]), dz, at, of_v)


@jit(nogil=True, **OPTIONS)
def lift(kind, reals, leaf, lane, rows, columns, batch, count, graded, U, S, Vh, dX, dU, dS, dVh, begin, end):
    """The tangents of finished SVDs, whose vectors follow the directions at ties, along `count` directions.

    If the matrices are graded, values far below s_1 are no noise: only equal ones are tied, and only zero is zero.
    """
    wide, m, n = rows < columns, max(rows, columns), min(rows, columns)
    planes, stride, eps = components(leaf), components(kind), np.finfo(U.dtype).eps
    chunk, size, forms = stride // planes - 1, m * n * planes, layouts(rows, columns, planes)
    a, v, s, r = memory(m * n * stride, U), memory(n * n * stride, U), memory(n * stride, U), memory(n * stride, U)
    u0, v0, s0 = memory(size, U), memory(n * n * planes, U), memory(n, U)
    A, V, Sb, R = buffer(a, kind), buffer(v, kind), buffer(s, reals), buffer(r, kind)
    U0, V0, S0 = buffer(u0, leaf), buffer(v0, leaf), buffer(s0, lane)
    Ar, Vr, Sr = buffer(a, lane), buffer(v, lane), buffer(s, lane)
    left, right = (buffer(v0, lane), buffer(u0, lane)) if wide else (buffer(u0, lane), buffer(v0, lane))
    x, y, z, dx = buffer(S, lane), buffer(U, lane), buffer(Vh, lane), buffer(dX, lane)
    dy, dvalues, dz, one = buffer(dU, lane), buffer(dS, lane), buffer(dVh, lane), unscaled(S0[0])
    exponents = np.empty(count, np.int64)
    for b in range(begin, end):
        exponent = jacobi.power_of_two(S[b * n], 900 if graded else 0) if S[b * n] < np.inf else 0
        take(x, b, forms[2], scaling(S0[0], exponent), S0, 0, 1)
        take(y, b, forms[1], one, left, 0, planes)
        take(z, b, forms[3], one, right, 0, planes)
        scale_directions(dx, size, batch, b, count, exponents, 0)
        tie = S0[0] * jacobi.tie_tolerance(0.0 if graded else eps, n)
        for first in range(0, count, chunk):
            some = min(chunk, count - first)
            a[:] = 0.0
            take_directions(dx, batch, b, first, some, exponents, forms[0], Ar, stride)
            jacobi.lift(A, V, Sb, U0, V0, S0, R, m, n, tie, planes == 2)
            put_tangents(Ar, Vr, Sr, stride, dy, dvalues, dz, batch, b, first, some, exponents, exponent, forms)
    return False


@jit(nogil=True, **OPTIONS)
def sweeps(
    kind, reals, leaf, lane, rows, columns, batch, count, turned,
    X, dX, Q, U, S, Vh, dU, dS, dVh, told, begin, end, limit,
):  # fmt: skip
    """U, S, Vh and their tangents along `count` directions, carried through every rotation. A matrix that is not finite
    is left out. Returns and tells what `svd` does.

    If `turned`, U or Vh and Q are those of `adapt`, for the very matrices.
    """
    wide, m, n = rows < columns, max(rows, columns), min(rows, columns)
    planes, stride, eps = components(leaf), components(kind), np.finfo(U.dtype).eps
    chunk, size, forms = stride // planes - 1, m * n * planes, layouts(rows, columns, planes)
    a, v, s, r = memory(m * n * stride, U), memory(n * n * stride, U), memory(n * stride, U), memory(n * stride, U)
    u0, q, s0 = memory(size, U), memory(n * n * planes, U), memory(n, U)
    facts, exponents = memory(2, U), np.empty(count, np.int64)
    A, V, Sb, R = buffer(a, kind), buffer(v, kind), buffer(s, reals), buffer(r, kind)
    U0, W, S0, info = buffer(u0, leaf), buffer(q, leaf), buffer(s0, lane), buffer(facts, lane)
    Ar, Vr, Sr, Ur, Wr = buffer(a, lane), buffer(v, lane), buffer(s, lane), buffer(u0, lane), buffer(q, lane)
    left, right = (Vr, Ar) if wide else (Ar, Vr)
    x, y, z, values, dx = buffer(X, lane), buffer(U, lane), buffer(Vh, lane), buffer(S, lane), buffer(dX, lane)
    dy, dvalues, dz, turns = buffer(dU, lane), buffer(dS, lane), buffer(dVh, lane), buffer(Q, lane)
    one, anything, top = unscaled(S0[0]), False, jacobi.headroom(eps)
    for b in range(begin, end):
        big = largest(x, b * size, size)
        if big == np.inf:
            anything = tell(told, b, batch, 0.0, 0.0, NONFINITE)
            continue
        exponent = jacobi.power_of_two(big, top)
        scale_directions(dx, size, batch, b, count, exponents, top)
        for first in range(0, count, chunk):
            some = min(chunk, count - first)
            a[:] = 0.0
            take(x, b, forms[0], scaling(S0[0], exponent), Ar, 0, stride)
            take_directions(dx, batch, b, first, some, exponents, forms[0], Ar, stride)
            identity(V, n)
            jacobi.converge(A, V, info, m, n, n, limit)
            if first == 0:
                jacobi.primal_columns(A, U0, S0, m, n)
            if turned:
                take(z if wide else y, b, forms[3] if wide else forms[1], one, Ur, 0, planes)
                take(turns, b, (n, n, False, planes), one, Wr, 0, planes)
                jacobi.times(A, 0, W, R, m, n)
                jacobi.times(V, 0, W, R, n, n)
            jacobi.follow(A, V, Sb, U0, S0, m, n, planes == 2)
            put_tangents(Ar, Vr, Sr, stride, dy, dvalues, dz, batch, b, first, some, exponents, exponent, forms)
        put(Sr, 0, stride // planes, scaling(S0[0], -exponent), values, b, forms[2])
        put(left, 0, stride, one, y, b, forms[1])
        put(right, 0, stride, one, z, b, forms[3])
        if tell(told, b, batch, facts[0], facts[1], UNCONVERGED if facts[0] >= limit else 0):
            anything = True
    return anything


@inline
def tell(told, b, batch, sweeps, cos2, verdict):
    """Report of matrix b; whether it has anything to say."""
    told[b], told[batch + b], told[2 * batch + b] = sweeps, cos2, verdict
    return verdict != 0


# ---- closed forms


@jit(nogil=True, **OPTIONS)
def pushforward(kind, reals, lane, rows, columns, batch, count, U, S, Vh, dX, dU, dS, dVh, begin, end):
    """dU, dS, dVh of finished SVDs along `count` directions, by the closed form. Returns whether it left something out:
    a matrix has a tie, a zero, or is not finite."""
    rows, columns = integer(rows), integer(columns)
    wide, m, n = rows < columns, max(rows, columns), min(rows, columns)
    width, planes = lanes(kind), components(kind)
    stride, size, forms = planes * width, m * n * planes * width, layouts(rows, columns, planes)
    u, v, s, f = memory(size, U), memory(n * n * stride, U), memory(n * width, U), memory(n * n * width, U)
    d, du, dv, ds = memory(size, U), memory(size, U), memory(n * n * stride, U), memory(n * width, U)
    p, q, h = memory(n * n * stride, U), memory(n * n * stride, U), memory(size, U)
    Ub, Vb, Sb, F = buffer(u, kind), buffer(v, kind), buffer(s, reals), buffer(f, reals)
    D, dUb, dVb, dSb = buffer(d, kind), buffer(du, kind), buffer(dv, kind), buffer(ds, reals)
    P, Q, H, Dr = buffer(p, kind), buffer(q, kind), buffer(h, kind), buffer(d, reals)
    ur, vr, dur, dvr = buffer(u, reals), buffer(v, reals), buffer(du, reals), buffer(dv, reals)
    left, right, dleft, dright = (vr, ur, dvr, dur) if wide else (ur, vr, dur, dvr)
    x, y, z, dx = buffer(S, lane), buffer(U, lane), buffer(Vh, lane), buffer(dX, lane)
    dy, dvalues, dz, one = buffer(dU, lane), buffer(dS, lane), buffer(dVh, lane), unscaled(Sb[0])
    none, left_out = like(Sb[0], 0.0), False
    for first in range(begin, end, width):
        b = min(first, end - width)  # the last pack overlaps the one before
        take(y, b, forms[1], one, left, 0, planes)
        take(z, b, forms[3], one, right, 0, planes)
        take(x, b, forms[2], one, Sb, 0, 1)
        scale, near = scale_values(Sb, n, np.finfo(U.dtype).eps)
        derivatives.coefficients(Sb, F, n)
        left_out |= any_true(where(near & derivatives.simple(Sb, n), none, one[0]) > none)
        for k in range(count):
            i = k * batch + b
            take(dx, i, forms[0], one, Dr, 0, planes)
            derivatives.pushforward(Ub, Sb, Vb, F, D, dUb, dSb, dVb, P, Q, H, m, n)
            put(dSb, 0, 1, one, dvalues, i, forms[2])
            put(dleft, 0, planes, scale, dy, i, forms[1])
            put(dright, 0, planes, scale, dz, i, forms[3])
    return left_out


@jit(nogil=True, **OPTIONS)
def pullback(kind, reals, lane, rows, columns, U, S, Vh, gU, gS, gVh, gX, begin, end):
    """The cotangents of the matrices from those of finished SVDs. Returns whether it left something out."""
    rows, columns = integer(rows), integer(columns)
    wide, m, n = rows < columns, max(rows, columns), min(rows, columns)
    width, planes, eps = lanes(kind), components(kind), np.finfo(U.dtype).eps
    stride, size, forms = planes * width, m * n * planes * width, layouts(rows, columns, planes)
    u, v, s, f = memory(size, U), memory(n * n * stride, U), memory(n * width, U), memory(n * n * width, U)
    gu, gv, gs, gx = memory(size, U), memory(n * n * stride, U), memory(n * width, U), memory(size, U)
    p, h = memory(n * n * stride, U), memory(size, U)
    Ub, Vb, Sb, F = buffer(u, kind), buffer(v, kind), buffer(s, reals), buffer(f, reals)
    gUb, gVb, gSb, gXb = buffer(gu, kind), buffer(gv, kind), buffer(gs, reals), buffer(gx, kind)
    P, H, gXr = buffer(p, kind), buffer(h, kind), buffer(gx, reals)
    ur, vr, gur, gvr = buffer(u, reals), buffer(v, reals), buffer(gu, reals), buffer(gv, reals)
    left, right, gleft, gright = (vr, ur, gvr, gur) if wide else (ur, vr, gur, gvr)
    x, y, z, gx_all = buffer(S, lane), buffer(U, lane), buffer(Vh, lane), buffer(gX, lane)
    gy, gvalues, gz, one = buffer(gU, lane), buffer(gS, lane), buffer(gVh, lane), unscaled(Sb[0])
    none, left_out = like(Sb[0], 0.0), False
    for first in range(begin, end, width):
        b = min(first, end - width)  # the last pack overlaps the one before
        take(y, b, forms[1], one, left, 0, planes)
        take(z, b, forms[3], one, right, 0, planes)
        take(x, b, forms[2], one, Sb, 0, 1)
        scale, near = scale_values(Sb, n, np.finfo(U.dtype).eps)
        derivatives.coefficients(Sb, F, n)
        left_out |= any_true(where(near & derivatives.simple(Sb, n), none, one[0]) > none)
        take(gvalues, b, forms[2], one, gSb, 0, 1)
        take(gy, b, forms[1], scale, gleft, 0, planes)
        take(gz, b, forms[3], scale, gright, 0, planes)
        if planes == 2:
            free = derivatives.phases_free(Ub, gUb, Vb, gVb, GAUGE * n * eps, m, n)
            left_out |= any_true(where(free, none, one[0]) > none)
        derivatives.pullback(Ub, Sb, Vb, F, gUb, gSb, gVb, gXb, P, H, m, n)
        put(gXr, 0, planes, one, gx_all, b, forms[0])
    return left_out


@jit(nogil=True, **OPTIONS)
def slopes(kind, reals, lane, rows, columns, batch, count, U, S, Vh, dX, dS, begin, end):
    """dS of finished SVDs along `count` directions. Returns whether it left something out."""
    rows, columns = integer(rows), integer(columns)
    wide, m, n = rows < columns, max(rows, columns), min(rows, columns)
    width, planes = lanes(kind), components(kind)
    stride, size, forms = planes * width, m * n * planes * width, layouts(rows, columns, planes)
    u, v, s = memory(size, U), memory(n * n * stride, U), memory(n * width, U)
    d, h, ds = memory(size, U), memory(size, U), memory(n * width, U)
    Ub, Vb, Sb = buffer(u, kind), buffer(v, kind), buffer(s, reals)
    D, H, dSb, Dr = buffer(d, kind), buffer(h, kind), buffer(ds, reals), buffer(d, reals)
    ur, vr = buffer(u, reals), buffer(v, reals)
    left, right = (vr, ur) if wide else (ur, vr)
    x, y, z, dx, dvalues = buffer(S, lane), buffer(U, lane), buffer(Vh, lane), buffer(dX, lane), buffer(dS, lane)
    one, none, left_out = unscaled(Sb[0]), like(Sb[0], 0.0), False
    for first in range(begin, end, width):
        b = min(first, end - width)  # the last pack overlaps the one before
        take(y, b, forms[1], one, left, 0, planes)
        take(z, b, forms[3], one, right, 0, planes)
        take(x, b, forms[2], one, Sb, 0, 1)
        left_out |= any_true(where(derivatives.simple(Sb, n), none, one[0]) > none)
        for k in range(count):
            take(dx, k * batch + b, forms[0], one, Dr, 0, planes)
            derivatives.slopes(Ub, Vb, D, dSb, H, m, n)
            put(dSb, 0, 1, one, dvalues, k * batch + b, forms[2])
    return left_out


@jit(nogil=True, **OPTIONS)
def dyads(kind, reals, lane, rows, columns, U, S, Vh, gS, gX, begin, end):
    """The cotangents of the matrices where only the values have one. Returns whether it left something out."""
    rows, columns = integer(rows), integer(columns)
    wide, m, n = rows < columns, max(rows, columns), min(rows, columns)
    width, planes = lanes(kind), components(kind)
    stride, size, forms = planes * width, m * n * planes * width, layouts(rows, columns, planes)
    u, v, s, gs = memory(size, U), memory(n * n * stride, U), memory(n * width, U), memory(n * width, U)
    gx, h = memory(size, U), memory(size, U)
    Ub, Vb, Sb, gSb = buffer(u, kind), buffer(v, kind), buffer(s, reals), buffer(gs, reals)
    gXb, H, gXr, ur, vr = buffer(gx, kind), buffer(h, kind), buffer(gx, reals), buffer(u, reals), buffer(v, reals)
    left, right = (vr, ur) if wide else (ur, vr)
    x, y, z, gvalues, gx_all = buffer(S, lane), buffer(U, lane), buffer(Vh, lane), buffer(gS, lane), buffer(gX, lane)
    one, none, left_out = unscaled(Sb[0]), like(Sb[0], 0.0), False
    for first in range(begin, end, width):
        b = min(first, end - width)  # the last pack overlaps the one before
        take(y, b, forms[1], one, left, 0, planes)
        take(z, b, forms[3], one, right, 0, planes)
        take(x, b, forms[2], one, Sb, 0, 1)
        left_out |= any_true(where(derivatives.simple(Sb, n), none, one[0]) > none)
        take(gvalues, b, forms[2], one, gSb, 0, 1)
        derivatives.dyads(Ub, gSb, Vb, gXb, H, m, n)
        put(gXr, 0, planes, one, gx_all, b, forms[0])
    return left_out


@once
def scale_values(S, n, eps):
    """Bring s_1 into [1/2, 1). Returns the two factors, and the mask of lanes where it was not far: beyond, products
    with directions or cotangents may leave the range."""
    reach = 2.0**REACH if eps < 1e-10 else 2.0 ** (REACH // 8)
    near = (S[0] < like(S[0], reach)) & (S[0] > like(S[0], 1.0 / reach))
    f, g, _, _ = raising(S[0], 0)
    for p in range(n):
        S[p] = S[p] * f * g
    return (f, g), near
