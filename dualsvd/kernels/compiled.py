"""The kernels: loops that bring batches of matrices to the texts.

Imported on first use, for it imports Numba. Arrays are flat, of reals, as `transfer` describes. A kernel takes the
matrices from `begin` to `end`, `lanes(kind)` (no more than there are) at a time. One lane is a plain number.
"""

from __future__ import annotations

import numpy as np

from . import bidiagonal, derivatives, dual_svd, householder, jacobi
from .buffers import buffer, components, integer, lanes
from .caching import jit
from .lanes import write_lanes
from .protocol import any_true, like, raising, where
from .texts import OPTIONS, called, inlined
from .transfer import (
    fetch,
    identity,
    identity_of_rows,
    largest,
    layouts,
    load,
    powers,
    put,
    room,
    scaling,
    scratch,
    shared,
    sides,
    take,
    tell,
    unload,
    unscaled,
)
from .verdicts import NONFINITE, UNCONVERGED, VERDICT

#: A cotangent passes for free of phases if what depends on them is below STRICT_GAUGE n eps of it. Where it does not,
#: the caller looks again, and is less strict.
STRICT_GAUGE = 1e2

#: Exponents of s_1 for which the closed forms need not scale directions and cotangents; an eighth in float32.
REACH = 330

#: So many entries, and results beside them, do not stay in the second cache. Then what comes next is fetched while a
#: pack is worked on: 1.1 to 2 times faster up to 7 x 7, up to a tenth beyond. Fewer would lose a few percent.
FAR_APART = 1 << 18

#: Of directions far apart so many of each matrix are taken at a time as make NEAR_BY entries, for those of the next
#: pack to be there still. Fewer than eight at a time are not worth taking the factors again: then the next direction of
#: the same pack is fetched.
NEAR_BY = 500


# ---- the primal SVD


@jit(nogil=True, **OPTIONS)
def svd(kind, reals, lane, rows, columns, X, U, S, Vh, told, begin, end, limit):
    """U, S and Vh, or S alone where U is empty. Returns whether anything is to be told of a matrix.

    told: for each matrix the sweeps before the last, with VERDICT times the verdict, which is 0 if all went well; then
    |cos|^2, written only for packs where something did not.
    """
    place, rows, columns = scratch(rows, columns, X), integer(rows), integer(columns)
    wide, m, n = rows < columns, max(rows, columns), min(rows, columns)
    width, planes = lanes(kind), components(kind)
    k, height, batch = n if len(U) else 0, jacobi.headroom(np.finfo(X.dtype).eps), len(S) // n
    A, Ar = shared(room(m * n, place, kind), reals)
    V, Sb, info = room(k * k + 1, place, kind), room(n, place, reals), room(2, place, reals)
    left, right = sides(A, V, reals, wide)
    x, y, z, values, report = buffer(X, lane), buffer(U, lane), buffer(Vh, lane), buffer(S, lane), buffer(told, lane)
    one, anything = unscaled(Sb[0]), False
    forms, far_apart = layouts(rows, columns, planes), len(X) > FAR_APART
    for first in range(begin, end, width):
        b = min(first, end - width)  # the last pack overlaps the one before
        take(x, b, forms[0], one, Ar, 0, planes)
        if far_apart:
            fetch(x, b + width, width, forms[0])
            if k:
                fetch_factors(y, values, z, b + width, width, forms)
        largest, finite = jacobi.extent(Ar, m * n * planes)
        f, g, over_g, over_f = raising(largest, height)
        jacobi.raise_lanes(A, finite, f, g, m * n)
        identity(V, k)
        jacobi.svd(A, V, Sb, info, m, k, n, limit)
        verdict = judge(info[0], finite, limit)
        if any_true(verdict > like(verdict, 0.0)):
            anything = True
            spoil(A, V, Sb, finite, m, k, n)
            info[0] = info[0] + verdict * like(verdict, VERDICT)
            write_lanes(report, batch + b, 1, info, (1,), (one[0], one[0], one[1]))
        put(Sb, 0, 1, (over_g, over_f), values, b, forms[2])
        if k:
            put(left, 0, planes, one, y, b, forms[1])
            put(right, 0, planes, one, z, b, forms[3])
        write_lanes(report, b, 1, info, (0,), (one[0], one[0], one[1]))
    return anything


@jit(nogil=True, **OPTIONS)
def values(kind, reals, lane, rows, columns, X, S, told, begin, end, limit):
    """S alone, by way of a bidiagonal matrix. Returns and tells what `svd` does."""
    m, n = max(rows, columns), min(rows, columns)
    width, planes, batch = lanes(kind), components(kind), len(S) // n
    A, Ar = shared(room(m * n, X, kind), reals)
    u, w, y = room(m, X, kind), room(m, X, kind), room(m, X, kind)
    v, z, p, tau, upsilon = room(n, X, kind), room(n, X, kind), room(n, X, kind), room(n, X, kind), room(n, X, kind)
    D, E, info = room(n, X, reals), room(n + 1, X, reals), room(2, X, reals)
    x, values, report = buffer(X, lane), buffer(S, lane), buffer(told, lane)
    one, anything, forms = unscaled(D[0]), False, layouts(rows, columns, planes)
    height = jacobi.headroom(np.finfo(X.dtype).eps)
    for first in range(begin, end, width):
        b = min(first, end - width)  # the last pack overlaps the one before
        take(x, b, forms[0], one, Ar, 0, planes)
        largest, finite = jacobi.extent(Ar, m * n * planes)
        f, g, over_g, over_f = raising(largest, height)
        jacobi.raise_lanes(A, finite, f, g, m * n)
        bidiagonal.reduce(A, u, v, D, E, tau, upsilon, w, y, z, p, m, n, n, 1, 0)
        bidiagonal.diagonalise(D, E, D, D, info, 0, n, limit)
        verdict = judge(info[0], finite, limit)
        if any_true(verdict > like(verdict, 0.0)):
            anything = True
            spoil(A, A, D, finite, 0, 0, n)
            info[0] = info[0] + verdict * like(verdict, VERDICT)
            write_lanes(report, batch + b, 1, info, (1,), (one[0], one[0], one[1]))
        put(D, 0, 1, (over_g, over_f), values, b, forms[2])
        write_lanes(report, b, 1, info, (0,), (one[0], one[0], one[1]))
    return anything


@jit(nogil=True, **OPTIONS)
def factors(kind, real_kind, leaf, lane, rows, columns, X, U, S, Vh, told, begin, end, limit):
    """U, S, Vh of one matrix after the other, by way of a bidiagonal matrix. A matrix that is not finite is left out.
    Returns and tells what `svd` does."""
    wide, m, n, planes, width = rows < columns, max(rows, columns), min(rows, columns), components(leaf), lanes(kind)
    M, N, batch, anything = -(-m // width), -(-n // width), len(S) // n, False
    A, Q, P = room(M * n, X, kind), room(M * n, X, kind), room(N * n, X, kind)
    L, R, w, y = room(N * n, X, real_kind), room(N * n, X, real_kind), room(M, X, kind), room(M, X, kind)
    z, p, tau, upsilon = room(n, X, leaf), room(n, X, leaf), room(n, X, leaf), room(n, X, leaf)
    D, E, info, overlaps = room(n, X, lane), room(n + 1, X, lane), room(2, X, lane), room(n // 2 + 1, X, leaf)
    x, reals, values = buffer(X, leaf), buffer(X, lane), buffer(S, lane)
    long, short = (buffer(Vh, leaf), buffer(U, leaf)) if wide else (buffer(U, leaf), buffer(Vh, leaf))
    places, ones, top = np.arange(m), np.ones(n, X.dtype), jacobi.headroom(np.finfo(X.dtype).eps)
    for b in range(begin, end):
        big = largest(reals, b * m * n * planes, m * n * planes)
        if big == np.inf:
            anything = tell(told, b, batch, 0.0, 0.0, NONFINITE)
            continue
        f, g = powers(jacobi.exponent_to(big, top))
        load(x, b * m * n, rows, columns, wide, f, g, ones, places, A, M)
        bidiagonal.reduce(A, Q, P, D, E, tau, upsilon, w, y, z, p, M, n, N, width, 1)
        identity_of_rows(L, N, n)
        identity_of_rows(R, N, n)
        bidiagonal.diagonalise(D, E, R, L, info, N, n, limit)
        householder.expand(Q, tau, overlaps, L, A, n, M, N, n, width)
        unload(A, M, long, b * m * n, m, n, wide, places)
        householder.expand(P, upsilon, overlaps, R, A, n, N, N, n, width)
        unload(A, N, short, b * n * n, n, n, not wide, places)
        f, g = powers(-jacobi.exponent_to(big, top))
        for i in range(n):
            values[b * n + i] = D[i] * f * g
        if tell(told, b, batch, info[0], info[1], UNCONVERGED if info[0] >= limit else 0):
            anything = True
    return anything


@inlined
def judge(sweeps, finite, limit):
    """The verdicts: 0, or the sum of NONFINITE and UNCONVERGED."""
    zero = like(sweeps, 0.0)
    ill = where(finite, zero, like(zero, NONFINITE))
    return where(sweeps < like(zero, limit), ill, ill + like(zero, UNCONVERGED))


@called
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


@called
def clear(A, size):
    """Zeros."""
    for i in range(size):
        A[i] = like(A[i], 0.0)


@called
def scale_directions(dx, size, batch, b, count, exponents, top):
    """The exponents that bring the largest real of each direction to 2^top."""
    for j in range(count):
        big = largest(dx, (j * batch + b) * size, size)
        exponents[j] = jacobi.exponent_to(big, top) if big < np.inf else 0


@called
def take_directions(dx, batch, b, first, count, exponents, layout, A, stride):
    """Directions first, ..., first + count - 1 to the partials of a matrix of duals, of `stride` reals a number."""
    for j in range(count):
        scale = scaling(A[0], exponents[first + j])
        take(dx, (first + j) * batch + b, layout, scale, A, (j + 1) * layout[3], stride)


@jit(nogil=True, **OPTIONS)
def adapt(leaf, lane, rows, columns, batch, count, U, S, Vh, dX, Q, begin, end):
    """Turn the vectors of ties to follow `count` directions: those of the longer side, U or Vh, in place; Q receives
    the rotations that those of the shorter side are owed."""
    wide, m, n = rows < columns, max(rows, columns), min(rows, columns)
    planes, eps = components(leaf), np.finfo(U.dtype).eps
    forms, of_q = layouts(rows, columns, planes), (n, n, False, planes)
    size, group = m * n * planes, np.empty(n, np.int64)
    U0, V0 = room(m * n, U, leaf), room(n * n, U, leaf)
    W, Wr = shared(room(n * n, U, leaf), lane)
    D, Dr = shared(room(count * m * n, U, leaf), lane)
    S0, R = room(n, U, lane), room(n, U, leaf)
    left, right = sides(U0, V0, lane, wide)
    x, y, z, dx, turns = buffer(S, lane), buffer(U, lane), buffer(Vh, lane), buffer(dX, lane), buffer(Q, lane)
    one = unscaled(S0[0])
    for b in range(begin, end):
        exponent = jacobi.exponent_to(S[b * n], 0) if S[b * n] < np.inf else 0
        take_factors(y, x, z, b, forms, scaling(S0[0], exponent), left, S0, right)
        identity(W, n)
        zeros = dual_svd.tie_groups(S0, group, n, S0[0] * jacobi.tie_tolerance(eps, n))
        for j in range(count):
            big = largest(dx, (j * batch + b) * size, size)
            scale = scaling(S0[0], jacobi.exponent_to(big, 0) if big < np.inf else 0)
            take(dx, j * batch + b, forms[0], scale, Dr, j * size, planes)
            dual_svd.times(D, j * n, V0, R, m, n)
        dual_svd.adapt(U0, W, D, group, zeros, m, n, n, count)
        if wide:
            put(right, 0, planes, one, z, b, forms[3])
        else:
            put(left, 0, planes, one, y, b, forms[1])
        put(Wr, 0, planes, one, turns, b, of_q)
    return False


@inlined
def take_factors(y, x, z, b, forms, scale, left, S, right):
    """U, S, scaled, and Vh of matrix b and the following."""
    one, planes = unscaled(S[0]), forms[0][3]
    take(y, b, forms[1], one, left, 0, planes)
    take(x, b, forms[2], scale, S, 0, 1)
    take(z, b, forms[3], one, right, 0, planes)


@inlined
def fetch_factors(y, x, z, b, count, forms):
    """Have U, S and Vh of `count` matrices from b on brought near."""
    fetch(y, b, count, forms[1])
    fetch(x, b, count, forms[2])
    fetch(z, b, count, forms[3])


@called
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
    A, Ar = shared(room(m * n, U, kind), lane)
    V, Vr = shared(room(n * n, U, kind), lane)
    Sb, Sr = shared(room(n, U, reals), lane)
    U0, Ur = shared(room(m * n, U, leaf), lane)
    W, Wr = shared(room(n * n, U, leaf), lane)
    S0, R, info = room(n, U, lane), room(n, U, kind), room(2, U, lane)
    exponents = np.empty(count, np.int64)
    left, right = sides(A, V, lane, wide)
    x, y, z, values, dx = buffer(X, lane), buffer(U, lane), buffer(Vh, lane), buffer(S, lane), buffer(dX, lane)
    dy, dvalues, dz, turns = buffer(dU, lane), buffer(dS, lane), buffer(dVh, lane), buffer(Q, lane)
    one, anything, top = unscaled(S0[0]), False, jacobi.headroom(eps)
    for b in range(begin, end):
        big = largest(x, b * size, size)
        if big == np.inf:
            anything = tell(told, b, batch, 0.0, 0.0, NONFINITE)
            continue
        exponent = jacobi.exponent_to(big, top)
        scale_directions(dx, size, batch, b, count, exponents, top)
        for first in range(0, count, chunk):
            some = min(chunk, count - first)
            clear(Ar, m * n * stride)
            take(x, b, forms[0], scaling(S0[0], exponent), Ar, 0, stride)
            take_directions(dx, batch, b, first, some, exponents, forms[0], Ar, stride)
            identity(V, n)
            jacobi.converge(A, V, Sb, info, m, n, n, limit)
            if first == 0:
                dual_svd.primal_columns(A, U0, S0, m, n)
            if turned:
                take(z if wide else y, b, forms[3] if wide else forms[1], one, Ur, 0, planes)
                take(turns, b, (n, n, False, planes), one, Wr, 0, planes)
                dual_svd.times(A, 0, W, R, m, n)
                dual_svd.times(V, 0, W, R, n, n)
            dual_svd.follow(A, V, Sb, U0, S0, m, n, planes == 2)
            put_tangents(Ar, Vr, Sr, stride, dy, dvalues, dz, batch, b, first, some, exponents, exponent, forms)
        put(Sr, 0, stride // planes, scaling(S0[0], -exponent), values, b, forms[2])
        put(left, 0, stride, one, y, b, forms[1])
        put(right, 0, stride, one, z, b, forms[3])
        if tell(told, b, batch, info[0], info[1], UNCONVERGED if info[0] >= limit else 0):
            anything = True
    return anything


# ---- closed forms


@jit(nogil=True, **OPTIONS)
def pushforward(kind, reals, lane, rows, columns, batch, count, U, S, Vh, dX, dU, dS, dVh, begin, end):
    """dU, dS, dVh of finished SVDs along `count` directions, by the closed form. Returns whether it left something out:
    a matrix has a tie, a zero, or is not finite."""
    place, rows, columns = scratch(rows, columns, U), integer(rows), integer(columns)
    wide, m, n = rows < columns, max(rows, columns), min(rows, columns)
    width, planes = lanes(kind), components(kind)
    forms = layouts(rows, columns, planes)
    Ub, Vb = room(m * n, place, kind), room(n * n, place, kind)
    left, right = sides(Ub, Vb, reals, wide)
    dUb, dVb = room(m * n, place, kind), room(n * n, place, kind)
    dleft, dright = sides(dUb, dVb, reals, wide)
    D, Dr = shared(room(m * n, place, kind), reals)
    Sb, dSb, F = room(n, place, reals), room(n, place, reals), room(n * n, place, reals)
    P, Q, H = room(n * n, place, kind), room(n * n, place, kind), room(m * n, place, kind)
    x, y, z, dx = buffer(S, lane), buffer(U, lane), buffer(Vh, lane), buffer(dX, lane)
    dy, dvalues, dz, one = buffer(dU, lane), buffer(dS, lane), buffer(dVh, lane), unscaled(Sb[0])
    none, left_out = like(Sb[0], 0.0), False
    few = NEAR_BY // (m * n)
    far_apart = count * m * n * batch > FAR_APART
    by_turns = far_apart and few >= 8
    chunk, ahead = few if by_turns else count, width if by_turns or count == 1 else batch
    for start in range(0, count, chunk):
        for first in range(begin, end, width):
            b = min(first, end - width)  # the last pack overlaps the one before
            take_factors(y, x, z, b, forms, one, left, Sb, right)
            scale, near = scale_values(Sb, n, np.finfo(U.dtype).eps)
            derivatives.coefficients(Sb, F, n)
            left_out |= any_true(where(near & derivatives.simple(Sb, n), none, one[0]) > none)
            for k in range(start, min(start + chunk, count)):
                i = k * batch + b
                if far_apart:
                    fetch(dx, i + ahead, width, forms[0])
                    fetch_factors(dy, dvalues, dz, i + ahead, width, forms)
                take(dx, i, forms[0], one, Dr, 0, planes)
                derivatives.pushforward(Ub, Vb, F, D, dUb, dSb, dVb, P, Q, H, m, n)
                put(dSb, 0, 1, one, dvalues, i, forms[2])
                put(dleft, 0, planes, scale, dy, i, forms[1])
                put(dright, 0, planes, scale, dz, i, forms[3])
    return left_out


@jit(nogil=True, **OPTIONS)
def pullback(kind, reals, lane, rows, columns, U, S, Vh, U_bar, S_bar, Vh_bar, X_bar, begin, end):
    """The cotangents of the matrices from those of finished SVDs. Returns whether it left something out."""
    place, rows, columns = scratch(rows, columns, U), integer(rows), integer(columns)
    wide, m, n = rows < columns, max(rows, columns), min(rows, columns)
    width, planes, eps = lanes(kind), components(kind), np.finfo(U.dtype).eps
    forms = layouts(rows, columns, planes)
    Ub, Vb = room(m * n, place, kind), room(n * n, place, kind)
    left, right = sides(Ub, Vb, reals, wide)
    Ub_bar, Vb_bar = room(m * n, place, kind), room(n * n, place, kind)
    left_bar, right_bar = sides(Ub_bar, Vb_bar, reals, wide)
    Xb_bar, Xr_bar = shared(room(m * n, place, kind), reals)
    Sb, Sb_bar, F = room(n, place, reals), room(n, place, reals), room(n * n, place, reals)
    P, H = room(n * n, place, kind), room(m * n, place, kind)
    x, y, z, x_bar = buffer(S, lane), buffer(U, lane), buffer(Vh, lane), buffer(X_bar, lane)
    y_bar, values_bar, z_bar, one = buffer(U_bar, lane), buffer(S_bar, lane), buffer(Vh_bar, lane), unscaled(Sb[0])
    none, left_out, far_apart = like(Sb[0], 0.0), False, len(X_bar) > FAR_APART
    for first in range(begin, end, width):
        b = min(first, end - width)  # the last pack overlaps the one before
        take_factors(y, x, z, b, forms, one, left, Sb, right)
        scale, near = scale_values(Sb, n, np.finfo(U.dtype).eps)
        derivatives.coefficients(Sb, F, n)
        left_out |= any_true(where(near & derivatives.simple(Sb, n), none, one[0]) > none)
        if far_apart:
            fetch_factors(y, x, z, b + width, width, forms)
            fetch_factors(y_bar, values_bar, z_bar, b + width, width, forms)
            fetch(x_bar, b + width, width, forms[0])
        take(values_bar, b, forms[2], one, Sb_bar, 0, 1)
        take(y_bar, b, forms[1], scale, left_bar, 0, planes)
        take(z_bar, b, forms[3], scale, right_bar, 0, planes)
        if planes == 2:
            free = derivatives.phases_free(Ub, Ub_bar, Vb, Vb_bar, STRICT_GAUGE * n * eps, m, n)
            left_out |= any_true(where(free, none, one[0]) > none)
        derivatives.pullback(Ub, Vb, F, Ub_bar, Sb_bar, Vb_bar, Xb_bar, P, H, m, n)
        put(Xr_bar, 0, planes, one, x_bar, b, forms[0])
    return left_out


@jit(nogil=True, **OPTIONS)
def slopes(kind, reals, lane, rows, columns, batch, count, U, S, Vh, dX, dS, begin, end):
    """dS of finished SVDs along `count` directions. Returns whether it left something out."""
    place, rows, columns = scratch(rows, columns, U), integer(rows), integer(columns)
    wide, m, n = rows < columns, max(rows, columns), min(rows, columns)
    width, planes = lanes(kind), components(kind)
    forms = layouts(rows, columns, planes)
    Ub, Vb = room(m * n, place, kind), room(n * n, place, kind)
    left, right = sides(Ub, Vb, reals, wide)
    D, Dr = shared(room(m * n, place, kind), reals)
    Sb, dSb, H = room(n, place, reals), room(n, place, reals), room(m * n, place, kind)
    x, y, z, dx, dvalues = buffer(S, lane), buffer(U, lane), buffer(Vh, lane), buffer(dX, lane), buffer(dS, lane)
    one, none, left_out = unscaled(Sb[0]), like(Sb[0], 0.0), False
    for first in range(begin, end, width):
        b = min(first, end - width)  # the last pack overlaps the one before
        take_factors(y, x, z, b, forms, one, left, Sb, right)
        left_out |= any_true(where(derivatives.simple(Sb, n), none, one[0]) > none)
        for k in range(count):
            take(dx, k * batch + b, forms[0], one, Dr, 0, planes)
            derivatives.slopes(Ub, Vb, D, dSb, H, m, n)
            put(dSb, 0, 1, one, dvalues, k * batch + b, forms[2])
    return left_out


@jit(nogil=True, **OPTIONS)
def dyads(kind, reals, lane, rows, columns, U, S, Vh, S_bar, X_bar, begin, end):
    """The cotangents of the matrices where only the values have one. Returns whether it left something out."""
    place, rows, columns = scratch(rows, columns, U), integer(rows), integer(columns)
    wide, m, n = rows < columns, max(rows, columns), min(rows, columns)
    width, planes = lanes(kind), components(kind)
    forms = layouts(rows, columns, planes)
    Ub, Vb = room(m * n, place, kind), room(n * n, place, kind)
    left, right = sides(Ub, Vb, reals, wide)
    Xb_bar, Xr_bar = shared(room(m * n, place, kind), reals)
    Sb, Sb_bar, H = room(n, place, reals), room(n, place, reals), room(m * n, place, kind)
    x, y, z, values_bar, one = buffer(S, lane), buffer(U, lane), buffer(Vh, lane), buffer(S_bar, lane), unscaled(Sb[0])
    x_bar, none, left_out = buffer(X_bar, lane), like(Sb[0], 0.0), False
    for first in range(begin, end, width):
        b = min(first, end - width)  # the last pack overlaps the one before
        take_factors(y, x, z, b, forms, one, left, Sb, right)
        left_out |= any_true(where(derivatives.simple(Sb, n), none, one[0]) > none)
        take(values_bar, b, forms[2], one, Sb_bar, 0, 1)
        derivatives.dyads(Ub, Sb_bar, Vb, Xb_bar, H, m, n)
        put(Xr_bar, 0, planes, one, x_bar, b, forms[0])
    return left_out


@inlined
def scale_values(S, n, eps):
    """Bring s_1 into [1/2, 1). Returns the two factors, and the mask of lanes where it was not far: beyond, products
    with directions or cotangents may leave the range."""
    reach = 2.0**REACH if eps < 1e-10 else 2.0 ** (REACH // 8)
    near = (S[0] < like(S[0], reach)) & (S[0] > like(S[0], 1.0 / reach))
    f, g, _, _ = raising(S[0], 0)
    for p in range(n):
        S[p] = S[p] * f * g
    return (f, g), near
