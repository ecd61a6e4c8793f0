"""The texts of `jacobi`, `derivatives` and `qr` compiled, and the loops that bring batches of matrices to them.

Imported on first use, for it imports Numba. Matrices and results are flat arrays of reals, matrix after matrix; a
complex entry is two reals (planes = 2). A kernel takes the matrices from `begin` to `end`, `lanes(kind)` (no more than
there are) at a time: each number of its buffers holds one entry of that many matrices side by side. One lane is a plain
number.
"""

from __future__ import annotations

from types import FunctionType

import numpy as np
from numba.extending import register_jitable

from . import derivatives, jacobi, qr
from .caching import jit
from .cpu import NONFINITE, UNCONVERGED
from .lanes import read_lanes, write_lanes
from .protocol import any_true, like, where
from .scalars import buffer, components, lanes

#: Fused multiply-add, no signed zeros, reciprocals; NaN and infinity keep their meaning, and sums their order.
FAST = {"contract", "nsz", "arcp"}
OPTIONS = {"fastmath": FAST, "error_model": "numpy", "boundscheck": False}

#: 2^k at k + 1100.
POWERS = np.ldexp(1.0, np.arange(-1100, 1024))

#: What runs once an entry or a pair is inlined, so that packs stay in registers; what runs once a sweep or less is not:
#: it would only make the compiler work.
HOT = {
    "dots",
    "inner",
    "norm2",
    "rotation",
    "angle",
    "tangent_of_angle",
    "rotate",
    "rebase",
    "turn_pair",
    "settle_pair",
    "shear",
    "shift",
    "exponent_of",
}
HOT |= {"converge", "sweep", "normalise", "extent", "raise_lanes"}  # these stand in a kernel once
HOT |= {"multiply_block", "multiply_entry", "conjugate_if", "reciprocal"}

# The texts allocate nothing, so they need not count who holds a buffer: to count costs more than a small rotation.
for _text in (jacobi, derivatives, qr):
    for _name, _function in vars(_text).items():
        if isinstance(_function, FunctionType) and _function.__module__ == _text.__name__:
            register_jitable(**OPTIONS, _nrt=False, forceinline=_name in HOT)(_function)

inline = register_jitable(**OPTIONS)
once = register_jitable(**OPTIONS, forceinline=True)


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
def set_scale(scale, w, width, exponent):
    """Lane w: two powers of two whose product is 2^exponent; one alone may overflow. Beyond both bounds every result is
    0 or inf."""
    exponent = max(-2200, min(exponent, 2046))
    half = exponent // 2
    scale[w], scale[width + w] = POWERS[half + 1100], POWERS[exponent - half + 1100]


# ---- between arrays and buffers


@once
def load(x, size, b, a, start, stride, width, scale, m, n, wide, planes):
    """Matrix b and the following, or their conjugate transposes, scaled, a lane each: column after column."""
    down, right = (1, m) if wide else (n, 1)
    for j in range(n):
        for i in range(m):
            for c in range(planes):
                source, target = (i * down + j * right) * planes + c, (j * m + i) * stride + start + c * width
                sign = -1 if wide and c == 1 else 1
                for w in range(width):
                    a[target + w] = x[(b + w) * size + source] * scale[w] * scale[width + w] * sign


@once
def store(a, start, stride, width, scale, y, size, b, m, n, rows, planes):
    """n columns of length m, scaled, as columns of matrix b and the following; conjugated as rows if `rows`."""
    for p in range(n):
        for i in range(m):
            for c in range(planes):
                source = (p * m + i) * stride + start + c * width
                target = (p * m + i if rows else i * n + p) * planes + c
                sign = -1 if rows and c == 1 else 1
                for w in range(width):
                    y[(b + w) * size + target] = a[source + w] * scale[w] * scale[width + w] * sign


# ---- between matrices in memory and packs


@once
def read_matrices(x, b, rows, columns, turned, planes, T, A):
    """Matrix b and the following, a lane each, column after column, or row after row and conjugated if `turned`.

    T is scratch of eight packs.
    """
    size = rows * columns * planes
    start, left, at = b * size, size, (0, 0, 0)
    while left >= 8:
        read_lanes(x, start, size, T, 8)
        at = spread(T, 8, A, at, rows, columns, turned, planes)
        start, left = start + 8, left - 8
    if left & 4:
        read_lanes(x, start, size, T, 4)
        at = spread(T, 4, A, at, rows, columns, turned, planes)
        start += 4
    if left & 2:
        read_lanes(x, start, size, T, 2)
        at = spread(T, 2, A, at, rows, columns, turned, planes)
        start += 2
    if left & 1:
        read_lanes(x, start, size, T, 1)
        spread(T, 1, A, at, rows, columns, turned, planes)


@once
def write_matrices(A, f, y, b, rows, columns, turned, planes, T):
    """The inverse of `read_matrices`, times f."""
    size = rows * columns * planes
    start, left, at = b * size, size, (0, 0, 0)
    while left >= 8:
        at = gather(T, 8, A, f, at, rows, columns, turned, planes)
        write_lanes(T, y, start, size, 8)
        start, left = start + 8, left - 8
    if left & 4:
        at = gather(T, 4, A, f, at, rows, columns, turned, planes)
        write_lanes(T, y, start, size, 4)
        start += 4
    if left & 2:
        at = gather(T, 2, A, f, at, rows, columns, turned, planes)
        write_lanes(T, y, start, size, 2)
        start += 2
    if left & 1:
        gather(T, 1, A, f, at, rows, columns, turned, planes)
        write_lanes(T, y, start, size, 1)


@once
def spread(T, count, A, at, rows, columns, turned, planes):
    """The packs of T to their places, from row, column and plane `at` of the matrices on; returns what comes next."""
    for k in range(count):
        place, flipped = position(at, rows, columns, turned, planes)
        A[place] = -T[k] if flipped else T[k]
        at = following(at, columns, planes)
    return at


@once
def gather(T, count, A, f, at, rows, columns, turned, planes):
    """The inverse of `spread`, times f."""
    for k in range(count):
        place, flipped = position(at, rows, columns, turned, planes)
        T[k] = -A[place] * f if flipped else A[place] * f
        at = following(at, columns, planes)
    return at


@once
def position(at, rows, columns, turned, planes):
    """Where a real stands in a buffer, and whether with the other sign."""
    i, j, c = at
    return ((i * columns + j) if turned else (j * rows + i)) * planes + c, turned and c == 1


@once
def following(at, columns, planes):
    """Row, column and plane of the next real in memory."""
    i, j, c = at
    if c + 1 < planes:
        return i, j, c + 1
    return (i, j + 1, 0) if j + 1 < columns else (i + 1, 0, 0)


# ---- the primal SVD


@once
def scale_lanes(tops, exponents, up, down, width, top):
    """Up: two powers of two, a lane each, whose product raises its largest real, `tops`, to about 2^top; down: their
    inverses. By the bits: two factors, for one alone may overflow."""
    bits, powers = tops.view(np.int64), exponents.view(np.float64)
    for w in range(width):
        exponent = top + 1022 - (bits[w] >> 52) if bits[w] else 0
        half = exponent >> 1
        exponents[w], exponents[width + w] = (half + 1023) << 52, (exponent - half + 1023) << 52
        exponents[2 * width + w], exponents[3 * width + w] = (half - exponent + 1023) << 52, (1023 - half) << 52
    for w in range(2 * width):
        up[w], down[w] = powers[w], powers[2 * width + w]


@once
def decompose(kind, reals, lane, rows, columns, X, U, S, Vh, told, begin, end, limit):
    """U, S and Vh, or S alone where U is empty. Returns whether anything is to be told of a matrix.

    told: for each matrix the sweeps before the last, then |cos|^2, then the verdict, which is 0 if all went well.
    """
    wide, m, n = rows < columns, max(rows, columns), min(rows, columns)
    width, planes = lanes(kind), components(kind)
    stride, k, height, batch = planes * width, n if len(U) else 0, jacobi.headroom(np.finfo(X.dtype).eps), len(S) // n
    a, v, s, t = memory(m * n * stride, X), memory((k * k + 1) * stride, X), memory(n * width, X), memory(8 * width, X)
    up, down, info = memory(2 * width, X), memory(2 * width, X), memory(3 * width, X)
    tops, exponents = np.empty(width), np.empty(4 * width, np.int64)
    A, V, Sb, T, verdict = buffer(a, kind), buffer(v, kind), buffer(s, reals), buffer(t, reals), buffer(info, reals)
    A_reals, left, right = buffer(a, reals), buffer(v if wide else a, reals), buffer(a if wide else v, reals)
    x, y, z, values, report = buffer(X, lane), buffer(U, lane), buffer(Vh, lane), buffer(S, lane), buffer(told, lane)
    one, raised, lowered = like(Sb[0], 1.0), buffer(up, reals), buffer(down, reals)
    anything = False
    for first in range(begin, end, width):
        b = min(first, end - width)  # the last pack overlaps the one before
        read_matrices(x, b, rows, columns, wide, planes, T, A_reals)
        largest, finite = jacobi.extent(A_reals, m * n * planes)
        verdict[0] = largest
        for w in range(width):
            tops[w] = info[w]
        scale_lanes(tops, exponents, up, down, width, height)
        jacobi.raise_lanes(A, finite, raised[0], raised[1], m * n)
        identity(V, k)
        jacobi.converge(A, V, verdict, m, k, n, limit)
        jacobi.normalise(A, Sb, m, n)
        if k and any_true(Sb[n - 1] <= like(Sb[0], 0.0)):
            jacobi.complete(A, m, n)
        verdict[2] = judge(verdict[0], finite, limit)
        if any_true(verdict[2] > like(one, 0.0)):
            anything = True
            spoil(A, V, Sb, finite, m, k, n)
        for p in range(n):
            Sb[p] = Sb[p] * lowered[0] * lowered[1]
        write_matrices(Sb, one, values, b, 1, n, True, 1, T)
        if k:
            write_matrices(left, one, y, b, rows, n, False, planes, T)
            write_matrices(right, one, z, b, n, columns, True, planes, T)
        for i in range(3):
            T[0] = verdict[i]
            write_lanes(T, report, i * batch + b, 1, 1)
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


@jit(nogil=True, **OPTIONS)
def svd(kind, reals, lane, rows, columns, X, U, S, Vh, told, begin, end, limit):
    """U, S and Vh, or S alone where U is empty."""
    return decompose(kind, reals, lane, rows, columns, X, U, S, Vh, told, begin, end, limit)


# The same at sizes known when they are compiled: the loops unroll, and columns stay in registers.


@jit(nogil=True, **OPTIONS)
def svd_2(kind, reals, lane, X, U, S, Vh, told, begin, end, limit):
    """2 x 2."""
    return decompose(kind, reals, lane, 2, 2, X, U, S, Vh, told, begin, end, limit)


@jit(nogil=True, **OPTIONS)
def svd_3(kind, reals, lane, X, U, S, Vh, told, begin, end, limit):
    """3 x 3."""
    return decompose(kind, reals, lane, 3, 3, X, U, S, Vh, told, begin, end, limit)


@jit(nogil=True, **OPTIONS)
def svd_4(kind, reals, lane, X, U, S, Vh, told, begin, end, limit):
    """4 x 4."""
    return decompose(kind, reals, lane, 4, 4, X, U, S, Vh, told, begin, end, limit)


# ---- its tangents


@inline
def scale_directions(dx, size, batch, b, count, exponents, top):
    """The exponents that bring the largest real of each direction to 2^top."""
    for j in range(count):
        big = largest(dx, (j * batch + b) * size, size)
        exponents[j] = jacobi.power_of_two(big, top) if big < np.inf else 0


@inline
def load_directions(dx, size, batch, b, first, count, a, stride, exponents, scale, m, n, wide, planes):
    """Directions first, ..., first + count - 1 to the partials of a matrix of duals; `scale` is scratch."""
    for j in range(count):
        set_scale(scale, 0, 1, exponents[first + j])
        at = (first + j) * batch + b
        load(dx, size, at, a, (j + 1) * planes, stride, 1, scale, m, n, wide, planes)


@inline
def adapt(U, W, S, V, T, t, R, group, tie, dx, size, batch, b, count, exponents, scale, m, n, wide, planes):
    """Turn the columns of U and W inside ties, where U S V^H is the matrix and W is V or rides along; whether there
    were any."""
    zeros = jacobi.tie_groups(S, group, n, tie)
    tied = zeros < n
    for p in range(n):
        tied = tied or group[p] != p
    if tied:
        for j in range(count):
            set_scale(scale, 0, 1, exponents[j])
            at = j * batch + b
            load(dx, size, at, t, j * m * n * planes, planes, 1, scale, m, n, wide, planes)
            jacobi.times(T, j * n, V, R, m, n)
        jacobi.adapt(U, W, T, group, zeros, m, n, n, count)
    return tied


@inline
def store_tangents(
    a, v, s, stride, dy, dvalues, dz, batch, b, first, count, exponents, exponent, scale, m, n, wide, planes
):
    """The partials of a matrix to directions first, ..., first + count - 1; it had been scaled by 2^exponent."""
    left, right, rows, columns = (v, a, n, m) if wide else (a, v, m, n)
    for j in range(count):
        at, start = (first + j) * batch + b, (j + 1) * planes
        set_scale(scale, 0, 1, -exponents[first + j])
        store(s, j + 1, stride // planes, 1, scale, dvalues, n, at, 1, n, True, 1)
        set_scale(scale, 0, 1, exponent - exponents[first + j])
        store(left, start, stride, 1, scale, dy, rows * n * planes, at, rows, n, False, planes)
        store(right, start, stride, 1, scale, dz, columns * n * planes, at, columns, n, True, planes)


@jit(nogil=True, **OPTIONS)
def lift(kind, reals, leaf, lane, rows, columns, batch, count, graded, U, S, Vh, dX, dU, dS, dVh, begin, end):
    """The tangents of finished SVDs along `count` directions. At ties U and Vh are turned in place.

    If the matrices are graded, values far below s_1 are no noise: only equal ones are tied, and only zero is zero.
    """
    wide, m, n = rows < columns, max(rows, columns), min(rows, columns)
    planes, stride, eps = components(leaf), components(kind), np.finfo(U.dtype).eps
    chunk, size = stride // planes - 1, m * n * planes
    a, v, s, r = memory(m * n * stride, U), memory(n * n * stride, U), memory(n * stride, U), memory(n * stride, U)
    u0, v0, s0, r0 = memory(size, U), memory(n * n * planes, U), memory(n, U), memory(n * planes, U)
    t, scale = memory(count * size, U), memory(2, U)
    A, V, Sb, R = buffer(a, kind), buffer(v, kind), buffer(s, reals), buffer(r, kind)
    U0, V0, S0, R0, T = buffer(u0, leaf), buffer(v0, leaf), buffer(s0, lane), buffer(r0, leaf), buffer(t, leaf)
    al, vl, sl, ul, wl, tl = (
        buffer(a, lane),
        buffer(v, lane),
        buffer(s, lane),
        buffer(u0, lane),
        buffer(v0, lane),
        buffer(t, lane),
    )
    x, y, z, dx, sc = buffer(S, lane), buffer(U, lane), buffer(Vh, lane), buffer(dX, lane), buffer(scale, lane)
    dy, dvalues, dz = buffer(dU, lane), buffer(dS, lane), buffer(dVh, lane)
    group, exponents = np.empty(n, np.int64), np.empty(count, np.int64)
    left, right = (wl, ul) if wide else (ul, wl)
    for b in range(begin, end):
        exponent = jacobi.power_of_two(S[b * n], 900 if graded else 0) if S[b * n] < np.inf else 0
        set_scale(sc, 0, 1, exponent)
        load(x, n, b, S0, 0, 1, 1, sc, 1, n, False, 1)
        set_scale(sc, 0, 1, 0)
        load(y, rows * n * planes, b, left, 0, planes, 1, sc, rows, n, False, planes)
        load(z, columns * n * planes, b, right, 0, planes, 1, sc, columns, n, True, planes)
        scale_directions(dx, size, batch, b, count, exponents, 0)
        tie = S0[0] * jacobi.tie_tolerance(0.0 if graded else eps, n)
        if adapt(U0, V0, S0, V0, T, tl, R0, group, tie, dx, size, batch, b, count, exponents, sc, m, n, wide, planes):
            set_scale(sc, 0, 1, 0)
            store(left, 0, planes, 1, sc, y, rows * n * planes, b, rows, n, False, planes)
            store(right, 0, planes, 1, sc, z, columns * n * planes, b, columns, n, True, planes)
        for first in range(0, count, chunk):
            some = min(chunk, count - first)
            a[:] = 0.0
            load_directions(dx, size, batch, b, first, some, al, stride, exponents, sc, m, n, wide, planes)
            jacobi.lift(A, V, Sb, U0, V0, S0, R, m, n, tie, planes == 2)
            store_tangents(
                al, vl, sl, stride, dy, dvalues, dz, batch, b, first, some, exponents, exponent, sc, m, n, wide, planes
            )


@jit(nogil=True, **OPTIONS)
def sweeps(
    kind, reals, leaf, lane, rows, columns, batch, count,
    X, dX, U, S, Vh, dU, dS, dVh, told, begin, end, limit,
):  # fmt: skip
    """U, S, Vh and their tangents along `count` directions, carried through every rotation. A matrix that is not finite
    is left out. Returns and tells what `decompose` does."""
    wide, m, n = rows < columns, max(rows, columns), min(rows, columns)
    planes, stride, eps = components(leaf), components(kind), np.finfo(U.dtype).eps
    chunk, size = stride // planes - 1, m * n * planes
    a, v, s, r = memory(m * n * stride, U), memory(n * n * stride, U), memory(n * stride, U), memory(n * stride, U)
    u0, v0, s0, r0 = memory(size, U), memory(n * n * planes, U), memory(n, U), memory(n * planes, U)
    t, q, facts, scale = memory(count * size, U), memory(n * n * planes, U), memory(2, U), memory(2, U)
    A, V, Sb, R = buffer(a, kind), buffer(v, kind), buffer(s, reals), buffer(r, kind)
    U0, V0, S0, R0, T = buffer(u0, leaf), buffer(v0, leaf), buffer(s0, lane), buffer(r0, leaf), buffer(t, leaf)
    Q, info, anything = buffer(q, leaf), buffer(facts, lane), False
    al, vl, sl, tl = buffer(a, lane), buffer(v, lane), buffer(s, lane), buffer(t, lane)
    x, y, z, values, dx, sc = (
        buffer(X, lane),
        buffer(U, lane),
        buffer(Vh, lane),
        buffer(S, lane),
        buffer(dX, lane),
        buffer(scale, lane),
    )
    dy, dvalues, dz = buffer(dU, lane), buffer(dS, lane), buffer(dVh, lane)
    group, exponents, top = np.empty(n, np.int64), np.empty(count, np.int64), jacobi.headroom(eps)
    left, right = (vl, al) if wide else (al, vl)
    for b in range(begin, end):
        big = largest(x, b * size, size)
        if big == np.inf:
            anything = tell(told, b, batch, 0.0, 0.0, NONFINITE)
            continue
        exponent, tied = jacobi.power_of_two(big, top), False
        scale_directions(dx, size, batch, b, count, exponents, top)
        for first in range(0, count, chunk):
            some = min(chunk, count - first)
            a[:] = 0.0
            set_scale(sc, 0, 1, exponent)
            load(x, size, b, al, 0, stride, 1, sc, m, n, wide, planes)
            load_directions(dx, size, batch, b, first, some, al, stride, exponents, sc, m, n, wide, planes)
            identity(V, n)
            jacobi.converge(A, V, info, m, n, n, limit)
            if first == 0:
                jacobi.primal_columns(A, U0, S0, m, n)
                jacobi.primals(V, V0, n * n)
                identity(Q, n)
                tie = S0[0] * jacobi.tie_tolerance(eps, n)
                tied = adapt(
                    U0, Q, S0, V0, T, tl, R0, group, tie, dx, size, batch, b, count, exponents, sc, m, n, wide, planes
                )
            if tied:
                jacobi.times(A, 0, Q, R, m, n)
                jacobi.times(V, 0, Q, R, n, n)
            jacobi.follow(A, V, Sb, U0, S0, m, n, planes == 2)
            store_tangents(
                al, vl, sl, stride, dy, dvalues, dz, batch, b, first, some, exponents, exponent, sc, m, n, wide, planes
            )
        set_scale(sc, 0, 1, -exponent)
        store(sl, 0, stride // planes, 1, sc, values, n, b, 1, n, True, 1)
        set_scale(sc, 0, 1, 0)
        store(left, 0, stride, 1, sc, y, rows * n * planes, b, rows, n, False, planes)
        store(right, 0, stride, 1, sc, z, columns * n * planes, b, columns, n, True, planes)
        if tell(told, b, batch, facts[0], facts[1], UNCONVERGED if facts[0] >= limit else 0):
            anything = True
    return anything


@inline
def tell(told, b, batch, sweeps, cos2, verdict):
    """Report of matrix b; whether it has anything to say."""
    told[b], told[batch + b], told[2 * batch + b] = sweeps, cos2, verdict
    return verdict != 0


# ---- closed forms


@inline
def scale_values(S, n, b, scale, width):
    """Scales, one a lane, that bring s_1 into [1/2, 1); a lane that is not finite stays."""
    for w in range(width):
        top = S[(b + w) * n]
        set_scale(scale, w, width, jacobi.power_of_two(top, 0) if top < np.inf else 0)


@jit(nogil=True, **OPTIONS)
def pushforward(kind, reals, lane, rows, columns, batch, count, U, S, Vh, dX, dU, dS, dVh, begin, end):
    """dU, dS, dVh of finished SVDs along `count` directions, by the closed form."""
    wide, m, n = rows < columns, max(rows, columns), min(rows, columns)
    width, planes = lanes(kind), components(kind)
    stride, size = planes * width, m * n * planes * width
    u, v, s, f = memory(size, U), memory(n * n * stride, U), memory(n * width, U), memory(n * n * width, U)
    d, du, dv, ds = memory(size, U), memory(size, U), memory(n * n * stride, U), memory(n * width, U)
    p, q, t = memory(n * n * stride, U), memory(n * n * stride, U), memory(size, U)
    scale, unit = memory(2 * width, U), memory(2 * width, U)
    unit[:] = 1.0
    one, shrink = buffer(unit, lane), buffer(scale, lane)
    left, right, dleft, dright = (v, u, dv, du) if wide else (u, v, du, dv)
    Ub, Vb, F = buffer(u, kind), buffer(v, kind), buffer(f, reals)
    ysize, zsize = rows * n * planes, columns * n * planes
    for first in range(begin, end, width):
        b = min(first, end - width)  # the last pack overlaps the one before
        scale_values(S, n, b, scale, width)
        load(buffer(S, lane), n, b, buffer(s, lane), 0, width, width, shrink, 1, n, False, 1)
        load(buffer(U, lane), ysize, b, buffer(left, lane), 0, stride, width, one, rows, n, False, planes)
        load(buffer(Vh, lane), zsize, b, buffer(right, lane), 0, stride, width, one, columns, n, True, planes)
        derivatives.coefficients(buffer(s, reals), F, n)
        for k in range(count):
            i = k * batch + b
            load(buffer(dX, lane), m * n * planes, i, buffer(d, lane), 0, stride, width, one, m, n, wide, planes)
            derivatives.pushforward(
                Ub, buffer(s, reals), Vb, F, buffer(d, kind), buffer(du, kind), buffer(ds, reals), buffer(dv, kind),
                buffer(p, kind), buffer(q, kind), buffer(t, kind), m, n,
            )  # fmt: skip
            store(buffer(ds, lane), 0, width, width, one, buffer(dS, lane), n, i, 1, n, True, 1)
            store(buffer(dleft, lane), 0, stride, width, shrink, buffer(dU, lane), ysize, i, rows, n, False, planes)
            store(buffer(dright, lane), 0, stride, width, shrink, buffer(dVh, lane), zsize, i, columns, n, True, planes)


@jit(nogil=True, **OPTIONS)
def pullback(kind, reals, lane, rows, columns, U, S, Vh, gU, gS, gVh, gX, begin, end):
    """The cotangents of the matrices from those of finished SVDs."""
    wide, m, n = rows < columns, max(rows, columns), min(rows, columns)
    width, planes = lanes(kind), components(kind)
    stride, size = planes * width, m * n * planes * width
    u, v, s, f = memory(size, U), memory(n * n * stride, U), memory(n * width, U), memory(n * n * width, U)
    gu, gv, gs, gx = memory(size, U), memory(n * n * stride, U), memory(n * width, U), memory(size, U)
    p, t = memory(n * n * stride, U), memory(size, U)
    scale, unit = memory(2 * width, U), memory(2 * width, U)
    unit[:] = 1.0
    one, shrink = buffer(unit, lane), buffer(scale, lane)
    left, right, gleft, gright = (v, u, gv, gu) if wide else (u, v, gu, gv)
    F, ysize, zsize = buffer(f, reals), rows * n * planes, columns * n * planes
    for first in range(begin, end, width):
        b = min(first, end - width)  # the last pack overlaps the one before
        scale_values(S, n, b, scale, width)
        load(buffer(S, lane), n, b, buffer(s, lane), 0, width, width, shrink, 1, n, False, 1)
        load(buffer(gS, lane), n, b, buffer(gs, lane), 0, width, width, one, 1, n, False, 1)
        load(buffer(U, lane), ysize, b, buffer(left, lane), 0, stride, width, one, rows, n, False, planes)
        load(buffer(Vh, lane), zsize, b, buffer(right, lane), 0, stride, width, one, columns, n, True, planes)
        load(buffer(gU, lane), ysize, b, buffer(gleft, lane), 0, stride, width, shrink, rows, n, False, planes)
        load(buffer(gVh, lane), zsize, b, buffer(gright, lane), 0, stride, width, shrink, columns, n, True, planes)
        derivatives.coefficients(buffer(s, reals), F, n)
        derivatives.pullback(
            buffer(u, kind), buffer(s, reals), buffer(v, kind), F, buffer(gu, kind), buffer(gs, reals),
            buffer(gv, kind), buffer(gx, kind), buffer(p, kind), buffer(t, kind), m, n,
        )  # fmt: skip
        store(buffer(gx, lane), 0, stride, width, one, buffer(gX, lane), m * n * planes, b, m, n, wide, planes)


# ---- high relative accuracy


@jit(nogil=True, **OPTIONS)
def graded(leaf, lane, rows, columns, X, U, S, Vh, told, begin, end, limit):
    """U, S, Vh by `qr`: S to high relative accuracy. A matrix that is not finite is left out. Returns and tells what
    `decompose` does."""
    wide, m, n, planes = rows < columns, max(rows, columns), min(rows, columns), components(leaf)
    size, small, batch, anything = m * n * planes, n * n * planes, len(S) // n, False
    a, a0, k, scale, facts = memory(size, X), memory(size, X), memory(small, X), memory(2, X), memory(2, X)
    u, v, x, y, s = memory(size, X), memory(small, X), memory(small, X), memory(small, X), memory(n, X)
    d, sigma, r, h = memory(n * planes, X), memory(n * planes, X), memory(m * planes, X), memory(m, X)
    A, A0, K, info, Sb = buffer(a, leaf), buffer(a0, leaf), buffer(k, leaf), buffer(facts, lane), buffer(s, lane)
    Ub, Vb, L, Y = buffer(u, leaf), buffer(v, leaf), buffer(x, leaf), buffer(y, leaf)
    D, W, R, H = buffer(d, leaf), buffer(sigma, leaf), buffer(r, leaf), buffer(h, lane)
    source, sc, values = buffer(X, lane), buffer(scale, lane), buffer(S, lane)
    e, c, c0, f, f0 = (
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
    )
    order, places = np.empty(n, np.int64), np.empty(m, np.int64)
    left, right = (v, u) if wide else (u, v)
    ysize, zsize = rows * n * planes, columns * n * planes
    set_scale(sc, 0, 1, 0)
    for b in range(begin, end):
        if largest(source, b * size, size) == np.inf:
            anything = tell(told, b, batch, 0.0, 0.0, NONFINITE)
            continue
        load(source, size, b, buffer(a, lane), 0, planes, 1, sc, m, n, wide, planes)
        identity(Y, n)
        qr.decompose(A, A0, H, L, K, Y, Sb, D, W, e, c, c0, f, f0, places, order, info, m, n, limit)
        qr.expand(A, W, e, Y, Ub, places, R, m, n)
        for p in range(n):
            values[b * n + p] = qr.shift(Sb[p], f[p])
            for j in range(n):
                Vb[p * n + order[j]] = L[p * n + j]
        jacobi.complete(Ub, m, n)
        jacobi.complete(Vb, n, n)
        store(buffer(left, lane), 0, planes, 1, sc, buffer(U, lane), ysize, b, rows, n, False, planes)
        store(buffer(right, lane), 0, planes, 1, sc, buffer(Vh, lane), zsize, b, columns, n, True, planes)
        if tell(told, b, batch, facts[0], facts[1], UNCONVERGED if facts[0] >= limit else 0):
            anything = True
    return anything


@jit(nogil=True, **OPTIONS)
def graded_slopes(kind, reals, leaf, lane, rows, columns, batch, count, X, dX, dS, begin, end, limit):
    """dS along `count` directions, taken at the triangular factor; left as it is for zeros, and where it is not
    resolved."""
    wide, m, n, planes = rows < columns, max(rows, columns), min(rows, columns), components(leaf)
    stride, size, small = components(kind), m * n * planes, n * n * planes
    chunk, real_stride = stride // planes - 1, stride // planes
    a, a0, k, scale, facts = memory(size, X), memory(size, X), memory(small, X), memory(2, X), memory(2, X)
    x, y, s, d, w = memory(small, X), memory(small, X), memory(n, X), memory(n * planes, X), memory(n * planes, X)
    t, h, z, g = memory(count * small, X), memory(size, X), memory(n * planes, X), memory(real_stride * chunk, X)
    o, da, dl, dd, dw = (
        memory(m, X),
        memory(m * n * stride, X),
        memory(n * n * stride, X),
        memory(n * stride, X),
        memory(n * stride, X),
    )
    A, A0, K, info, S = buffer(a, leaf), buffer(a0, leaf), buffer(k, leaf), buffer(facts, lane), buffer(s, lane)
    L, Y, D, W, T, H = (
        buffer(x, leaf),
        buffer(y, leaf),
        buffer(d, leaf),
        buffer(w, leaf),
        buffer(t, leaf),
        buffer(h, leaf),
    )
    Z, G, dA, dL, dD, dW = (
        buffer(z, leaf), buffer(g, reals), buffer(da, kind), buffer(dl, kind), buffer(dd, kind), buffer(dw, kind),
    )  # fmt: skip
    source, tangents, sc, slopes = buffer(X, lane), buffer(dX, lane), buffer(scale, lane), buffer(dS, lane)
    O = buffer(o, lane)
    c, c0, f, f0, e = (
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
    )
    order, places, group = np.empty(n, np.int64), np.empty(m, np.int64), np.empty(n, np.int64)
    grades, sizes = np.empty(count, np.int64), np.empty(count, np.int64)
    set_scale(sc, 0, 1, 0)
    g[:] = 0.0
    for j in range(chunk):
        g[j * real_stride + j + 1] = 1.0
    for b in range(begin, end):
        if largest(source, b * size, size) == np.inf:
            continue
        load(source, size, b, buffer(a, lane), 0, planes, 1, sc, m, n, wide, planes)
        identity(Y, n)
        rank = qr.decompose(A, A0, O, L, K, Y, S, D, W, e, c, c0, f, f0, places, order, info, m, n, limit)
        for first in range(0, count, chunk):
            some = min(chunk, count - first)
            qr.seed(dA, A0, order, m, n)
            for j in range(some):
                at = (first + j) * batch + b
                load(tangents, size, at, buffer(h, lane), 0, planes, 1, sc, m, n, wide, planes)
                grades[first + j] = qr.grading(O, H, c0, places, m, n)
                sizes[first + j] = -jacobi.power_of_two(largest(tangents, at * size, size), 0)
                qr.seed_direction(dA, G[j], H, c0, places, order, grades[first + j], m, n)
            qr.refactor(dA, D, dD, dW, e, rank, m, n)
            qr.triangle(dA, dD, c, dL, f0, m, n, False)
            for p in range(n):
                if S[p] > 0.0:
                    qr.quotients(K, L, Y, S, f, f0, Z, p, n)
                    for j in range(some):
                        qr.slopes(dL, Z, T, (first + j) * n + p, p, n, j)
        zeros = qr.relative_groups(S, f, group, n)
        qr.adapt(L, Y, T, group, zeros, n, count)
        for j in range(count):
            for p in range(zeros):
                if qr.resolved(sizes[j], f[p], grades[j]):
                    slope = S[p] * jacobi.slope(L, T, p, j * n, n)
                    slopes[(j * batch + b) * n + p] = qr.shift(slope, f[p] + grades[j])
