"""A team of threads for each matrix, in shared memory or in a workspace of global memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba.cuda

from .. import dual_svd, jacobi
from ..buffers import Kind, buffer, components
from ..protocol import (
    abs2,
    any_true,
    conj,
    eps_of,
    infadd,
    infsub,
    like,
    maximum,
    minimum,
    plus_product,
    primal,
    real,
    root,
)
from .memory import (
    exponent_for,
    fill,
    inline,
    larger,
    largest,
    load,
    store,
    store_factors,
    tell,
    verdict,
    view,
)

#: Untyped, for type checkers see the typing functions of numba.cuda's device functions in place of these.
cuda: Any = numba.cuda


# ---- who does what, and where it lies
#
# A team has a power of two of threads, `lanes` of which share a pair of columns: each has every lanes-th row. Columns
# lie so far apart, and matrices too, that what the threads of a warp touch at once lies in different banks of shared
# memory: thread `lane` of pair j touches number j lead + lane, and these differ modulo the threads of the team if lead
# is an odd multiple of `lanes`, as those of neighbouring teams do if what a matrix takes is an odd multiple of a team.
# Sizes are constants of a kernel: addresses are then known when it is compiled, which are most of what it computes.


def pairs_of(cols: int) -> int:
    """The pairs that a team turns at a time, rounded up to a power of two."""
    return 1 << max(cols // 2 - 1, 0).bit_length()


def odd_multiple(size: int, unit: int) -> int:
    """The smallest odd multiple of `unit` that is not below `size`."""
    return size + (unit - size) % (2 * unit)


def shared_dots(lanes: int, cols: int) -> int:
    """Numbers for the three sums of every thread, if a pair has more than one."""
    return 3 * pairs_of(cols) * lanes if lanes > 1 else 0


def svd_numbers(rows: int, cols: int, lanes: int, planes: int, vectors: bool) -> int:
    """Reals that a matrix takes in `block_svd`."""
    team, dots = pairs_of(cols) * lanes, shared_dots(lanes, cols)
    columns = odd_multiple(rows, lanes) + (odd_multiple(cols, lanes) if vectors else 0)
    return odd_multiple((columns * cols + dots) * planes + 2 + cols + 2 + team, team)


def dual_numbers(rows: int, cols: int, lanes: int, stride: int) -> int:
    """Reals that a matrix takes in `block_dual`, of numbers of `stride` reals."""
    team, tall = pairs_of(cols) * lanes, odd_multiple(rows, lanes) * cols
    moving = tall + odd_multiple(cols, lanes) * cols + cols + shared_dots(lanes, cols)
    return odd_multiple(moving * stride + tall + cols + 2 + team, team)


@inline
def identity(V, n, lead, t, threads):
    """The identity, its columns `lead` numbers apart, with zeros between them."""
    for e in range(t, lead * n, threads):
        V[e] = like(V[0], 1.0 if e % lead == e // lead else 0.0)


@inline
def pad(A, rows, lead, cols, t, threads):
    """Zeros between the columns, for threads whose last row is none."""
    gap = lead - rows
    for e in range(t, gap * cols, threads):
        A[(e // gap) * lead + rows + e % gap] = like(A[0], 0.0)


@inline
def together(slots, x, t, threads):
    """The largest x of the team; infinity if one is not finite."""
    slots[t] = x
    cuda.syncthreads()
    top = slots[0]
    for k in range(1, threads):
        top = larger(top, slots[k])
    cuda.syncthreads()
    return top


@inline
def summed(slots, x, t, threads):
    """The sum of x over the team."""
    slots[t] = x
    cuda.syncthreads()
    sum = slots[0]
    for k in range(1, threads):
        sum = sum + slots[k]
    cuda.syncthreads()
    return sum


@inline
def pair_of(j, front, n):
    """Pair j of those with p + q = front, after which come those with p + q = front + n: p, q, and whether it is one of
    the latter. p >= q if there is no such pair."""
    first = max(0, front - n + 1)
    begins = ((front + 1) >> 1) - first
    later = j >= begins
    p = front + 1 + (j - begins) if later else first + j
    return p, front + n - p if later else front - p, later


# Loops over rows say `while`: of a `range` with a step the compiler keeps the count of its turns, and a test of it in
# each.


@inline
def some_dots(A, P, Q, lanes, count):
    """What every lanes-th of `lanes * count` rows contributes to `jacobi.dots`, from P and from Q on."""
    x, y = A[P], A[Q]
    alpha, beta, g = abs2(x), abs2(y), conj(x) * y
    i = lanes
    while i < count * lanes:
        x, y = A[P + i], A[Q + i]
        alpha = alpha + abs2(x)
        beta = beta + abs2(y)
        g = plus_product(g, conj(x), y)
        i += lanes
    return alpha, beta, g


@inline
def gathered(shares, t, lane, lanes):
    """The sum of what the threads at one pair have put there."""
    sum = shares[t - lane]
    for i in range(t - lane + 1, t - lane + lanes):
        sum = sum + shares[i]
    return sum


@inline
def turn_rows(A, P, Q, swap, right, left, lanes, count):
    """`jacobi.turn_columns` of these rows."""
    first, second, i = P, Q, 0
    if any_true(swap):
        first, second = Q, P
    while i < count * lanes:
        A[P + i], A[Q + i] = jacobi.sheared(A[first + i], A[second + i], right, left)
        i += lanes


@inline
def shear_rows(A, P, Q, right, left, lanes, count):
    """`dual_svd.shear` of these rows."""
    i = 0
    while i < count * lanes:
        x, y = A[P + i], A[Q + i]
        A[P + i], A[Q + i] = infadd(x, right, y), infsub(y, left, x)
        i += lanes


@inline
def scale_rows(A, P, scale, lanes, count):
    """These rows times a number."""
    for i in range(0, count * lanes, lanes):
        A[P + i] = A[P + i] * scale


@inline
def finish_pair(A, V, D, p, q, places, rotation, scales, bound, lane, lanes, some, few):
    """Turn columns p and q of A and V, each thread at the pair its own rows, and write their new scales to D.

    places: where these rows begin in both columns of A, then of V. rotation: (swap, right, left). If a scale is below
    the bound, both are multiplied into the columns, and D has ones.
    """
    (P, Q, R, T), (swap, right, left), (dp, dq) = places, rotation, scales
    turn_rows(A, P, Q, swap, right, left, lanes, some)
    turn_rows(V, R, T, swap, right, left, lanes, few)
    if any_true(minimum(primal(dp), primal(dq)) < bound):
        for X, Y, d in ((P, R, dp), (Q, T, dq)):
            scale, _ = root(d)
            scale_rows(A, X, scale, lanes, some)
            scale_rows(V, Y, scale, lanes, few)
        dp, dq = like(dp, 1.0), like(dq, 1.0)
    if lane == 0:
        D[p], D[q] = dp, dq


@inline
def block_converge(A, V, D, sums, products, info, slots, m, k, n, limit, t, threads, lanes, lead, distance):
    """`jacobi.converge` by a block, `lanes` threads at a pair. Columns of A, of m rows, lie `lead` numbers apart, those
    of V, of k rows, `distance`.

    The rotations are those of the serial sweep, and so are the sweeps that they take, but a sweep begins while the one
    before it is still under way: pairs with p + q = front and those of the sweep before with p + q = front + n share no
    column, and each comes after all that it must follow. So a sweep takes n steps, in which all are busy.
    """
    zero, blank = like(primal(real(A[0])), 0.0), like(A[0], 0.0)
    unit, eps = like(D[0], 1.0), eps_of(zero)
    lane, j, some, few = t % lanes, t // lanes, (m + lanes - 1) // lanes, (k + lanes - 1) // lanes
    tol2, least = like(zero, jacobi.squared_tolerance(eps, m)), like(zero, jacobi.flush(eps))
    size, bound, off = zero, like(zero, jacobi.LEAST_SCALE), zero
    for p in range(t, n, threads):
        D[p] = unit
        for i in range(p * lead, p * lead + m):
            size = size + abs2(primal(A[i]))
    floor = like(zero, jacobi.SMOOTH) * summed(slots, size, t, threads)
    sweeps, changed, moving, before = 0, 0, True, True
    while moving and sweeps <= limit:  # `before`: whether the sweep that now ends has moved a pair
        moved = False  # that of the sweep that now begins
        for front in range(1, n + 1):
            p, q, later = pair_of(j, front, n)
            mine = p < q and (sweeps > 0 if later else sweeps < limit)
            P, Q, R, T = p * lead + lane, q * lead + lane, p * distance + lane, q * distance + lane
            alpha, beta, g, dp, dq = unit, unit, blank, unit, unit
            if mine:
                dp, dq = D[p], D[q]
                alpha, beta, g = some_dots(A, P, Q, lanes, some)
            if lanes > 1:
                if mine:
                    sums[t], sums[threads + t], products[t] = alpha, beta, g
                cuda.syncthreads()
                if mine:
                    alpha, beta = gathered(sums, t, lane, lanes), gathered(sums, threads + t, lane, lanes)
                    g = gathered(products, t, lane, lanes)
            if mine:
                alpha, beta = alpha * dp, beta * dq
                active = jacobi.changes(alpha, beta, g, dp, dq, tol2, least)
                if any_true(active):
                    change, swap, right, left, _, _, dp, dq = jacobi.pair_rotation(
                        alpha, beta, g, dp, dq, active, tol2, floor, least
                    )
                    moved, before = moved or (any_true(change) and not later), before or (any_true(change) and later)
                    places, rotation = (P, Q, R, T), (swap, right, left)
                    finish_pair(A, V, D, p, q, places, rotation, (dp, dq), bound, lane, lanes, some, few)
            cuda.syncthreads()
        changed = sweeps if before and sweeps > 0 else changed
        moving = cuda.syncthreads_or(int(before)) != 0  # in any matrix of the block: one at rest stays as it is
        before = moved
        sweeps += 1
    for p in range(t, n, threads):
        scale, _ = root(D[p])
        scale_rows(A, p * lead, scale, 1, m)
        scale_rows(V, p * distance, scale, 1, k)
    cuda.syncthreads()
    if moving:
        for p in range(t, n - 1, threads):
            for q in range(p + 1, n):
                off = maximum(off, jacobi.cosine2(*some_dots(A, p * lead, q * lead, 1, m)))
    changes, last = together(slots, like(zero, changed), t, threads), together(slots, off, t, threads)
    if t == 0:
        info[0], info[1] = changes, last
    cuda.syncthreads()


@inline
def block_settle(A, V, S0, products, m, n, tie, t, lanes, lead, distance):
    """`dual_svd.settle` at first order by a block."""
    lane, j, some, few = t % lanes, t // lanes, (m + lanes - 1) // lanes, (n + lanes - 1) // lanes
    for front in range(1, 2 * n - 2):
        p = max(0, front - n + 1) + j
        q = front - p
        P, Q = p * lead + lane, q * lead + lane
        g = like(A[0], 0.0)
        if p < q:
            g = some_dots(A, P, Q, lanes, some)[2]
        if lanes > 1:
            if p < q:
                products[t] = g
            cuda.syncthreads()
            if p < q:
                g = gathered(products, t, lane, lanes)
        if p < q:
            step, tied = dual_svd.owed(g, S0[p], S0[q], tie)
            shear_rows(A, P, Q, conj(step - tied), step + tied, lanes, some)
            P, Q = p * distance + lane, q * distance + lane
            shear_rows(V, P, Q, conj(step), step, lanes, few)
        cuda.syncthreads()


@inline
def block_normalise(a, s, kind, real_kind, m, lead, n, t, threads):
    """`jacobi.normalise` by a block, a column a thread; its first thread sees to the order and the completion."""
    for p in range(t, n, threads):
        jacobi.normalise(view(a, p * lead, kind), view(s, p, real_kind), m, 1)
    cuda.syncthreads()
    if t == 0:
        values, U = buffer(s, real_kind), buffer(a, kind)
        for p in range(1, n):
            values[p] = minimum(values[p], values[p - 1])  # equal norms round apart
        if any_true(values[n - 1] <= like(values[0], 0.0)):
            for e in range(m, m * n):  # the text takes columns without gaps
                U[e] = U[(e // m) * lead + e % m]
            jacobi.complete(U, m, n)
            for e in range(m * n - 1, m - 1, -1):
                U[(e // m) * lead + e % m] = U[e]
    cuda.syncthreads()


def block_svd(
    kind: Kind, real_kind: Kind, real_type: Any, m: int, n: int, lanes: int, vectors: bool, in_shared: bool
) -> Callable[..., None]:
    """U, S, Vh, or S alone."""
    rows, cols, wide, planes = max(m, n), min(m, n), m < n, components(kind)
    threads, lead, distance = pairs_of(cols) * lanes, odd_multiple(rows, lanes), odd_multiple(cols, lanes)
    k, total = cols if vectors else 0, svd_numbers(rows, cols, lanes, planes, vectors)
    size_a, size_v = lead * cols * planes, distance * k * planes

    def svd(a, U, S, Vh, report, work, B, limit):
        t, seat, seats = cuda.threadIdx.x % threads, cuda.threadIdx.x // threads, cuda.blockDim.x // threads
        whole = cuda.shared.array(0, real_type) if in_shared else work[cuda.blockIdx.x * seats * total :]
        memory = whole[seat * total : (seat + 1) * total]
        a_store, v_store = memory, memory[size_a:]
        s_store = memory[size_a + size_v + 2 :]
        info, slots, shares = buffer(s_store[cols:], real_kind), s_store[cols + 2 :], s_store[cols + 2 + threads :]
        sums, products = buffer(shares, real_kind), buffer(shares[2 * threads :], kind)
        x, values, s = buffer(a, kind), buffer(S, real_kind), s_store
        A, V, left, right = buffer(a_store, kind), buffer(v_store, kind), buffer(U, kind), buffer(Vh, kind)
        for first in range(cuda.blockIdx.x * seats, B, cuda.gridDim.x * seats):
            b, mine = min(first + seat, B - 1), first + seat < B
            start = b * rows * cols
            top = together(slots, largest(x, start, rows * cols, t, threads), t, threads)
            finite = top < like(top, math.inf)
            exponent = exponent_for(top, jacobi.headroom(eps_of(top)))
            load(A, 1, 0, x, start, rows, cols, wide, exponent, t, threads, lead)
            pad(A, rows, lead, cols, t, threads)
            cuda.syncthreads()  # the threads fill other entries than they loaded
            if not finite:
                fill(A, lead * cols, like(x[start], 0.0), t, threads)
            identity(V, k, distance, t, threads)
            cuda.syncthreads()
            D, steps = buffer(s_store, real_kind), (limit, t, threads, lanes, lead, distance)
            block_converge(A, V, D, sums, products, info, slots, rows, k, cols, *steps)
            block_normalise(a_store, s_store, kind, real_kind, rows, lead, cols, t, threads)
            if t == 0 and mine:
                tell(report, b, info, verdict(s, info, finite, cols, limit))
            cuda.syncthreads()
            if not finite:
                fill(s, cols, like(top, math.nan), t, threads)
                fill(A, lead * cols, like(x[start], math.nan), t, threads)
                fill(V, distance * k, like(x[start], math.nan), t, threads)
            cuda.syncthreads()
            if mine:
                store(buffer(s, real_kind), 1, 0, values, b * cols, cols, 1, True, -exponent, t, threads)
                if vectors:
                    leads = (lead, distance)
                    store_factors(A, V, 1, 0, left, right, b, rows, cols, wide, 0, t, threads, leads)
            cuda.syncthreads()

    return svd


def block_dual(
    kind: Kind, leaf: Kind, real_type: Any, m: int, n: int, lanes: int, count: int, in_shared: bool
) -> Callable[..., None]:
    """U, S, Vh and their tangents along `count` directions, carried through every rotation. Real numbers only."""
    rows, cols, wide, stride = max(m, n), min(m, n), m < n, 1 + count
    threads, lead, distance = pairs_of(cols) * lanes, odd_multiple(rows, lanes), odd_multiple(cols, lanes)
    size, tall, square, leads = rows * cols, lead * cols, distance * cols, (lead, distance)
    dots, total = shared_dots(lanes, cols), dual_numbers(rows, cols, lanes, stride)

    def dual(a, da, U, S, Vh, dU, dS, dVh, report, work, B, limit):
        t, seat, seats = cuda.threadIdx.x % threads, cuda.threadIdx.x // threads, cuda.blockDim.x // threads
        whole = cuda.shared.array(0, real_type) if in_shared else work[cuda.blockIdx.x * seats * total :]
        memory = whole[seat * total : (seat + 1) * total]
        a_store, v_store, s_store = memory, memory[tall * stride :], memory[(tall + square) * stride :]
        shares = s_store[cols * stride :]
        u_store = shares[dots * stride :]
        s0_store, slots = u_store[tall:], u_store[tall + cols + 2 :]
        A, V = buffer(a_store, kind), buffer(v_store, kind)
        sums, products = buffer(shares, kind), buffer(shares[2 * threads * stride :], kind)
        A_parts, V_parts, s_parts = buffer(a_store, leaf), buffer(v_store, leaf), buffer(s_store, leaf)
        U0, s0, info = buffer(u_store, leaf), buffer(s0_store, leaf), buffer(s0_store[cols:], leaf)
        x, dx, values, d_values = buffer(a, leaf), buffer(da, leaf), buffer(S, leaf), buffer(dS, leaf)
        left, right, d_left, d_right = buffer(U, leaf), buffer(Vh, leaf), buffer(dU, leaf), buffer(dVh, leaf)
        for first in range(cuda.blockIdx.x * seats, B, cuda.gridDim.x * seats):
            b, mine = min(first + seat, B - 1), first + seat < B
            top = together(slots, largest(x, b * size, size, t, threads), t, threads)
            finite, height = top < like(top, math.inf), jacobi.headroom(eps_of(top))
            exponent = exponent_for(top, height)
            load(A_parts, stride, 0, x, b * size, rows, cols, wide, exponent, t, threads, lead)
            pad(A, rows, lead, cols, t, threads)
            for j in range(count):
                start = (j * B + b) * size
                up = exponent_for(together(slots, largest(dx, start, size, t, threads), t, threads), height)
                load(A_parts, stride, 1 + j, dx, start, rows, cols, wide, up, t, threads, lead)
            cuda.syncthreads()
            if not finite:
                fill(A_parts, tall * stride, like(top, 0.0), t, threads)
            identity(V, cols, distance, t, threads)
            cuda.syncthreads()
            D, steps = buffer(s_store, kind), (limit, t, threads, lanes, lead, distance)
            block_converge(A, V, D, sums, products, info, slots, rows, cols, cols, *steps)
            for p in range(t, cols, threads):
                for i in range(p * lead, p * lead + rows):
                    U0[i] = primal(A[i])
            cuda.syncthreads()
            block_normalise(u_store, s0_store, leaf, leaf, rows, lead, cols, t, threads)
            for p in range(t, cols, threads):
                column, unit = view(a_store, p * lead, kind), view(u_store, p * lead, leaf)
                dual_svd.slopes(column, view(s_store, p, kind), unit, view(s0_store, p, leaf), rows, 1)
            cuda.syncthreads()
            tie = s0[0] * like(top, jacobi.tie_tolerance(eps_of(top), cols))
            block_settle(A, V, s0, products, rows, cols, tie, t, lanes, lead, distance)
            for p in range(t, cols, threads):
                column, unit = view(a_store, p * lead, kind), view(u_store, p * lead, leaf)
                dual_svd.unit_columns(column, view(s_store, p, kind), unit, view(s0_store, p, leaf), rows, 1, tie)
            if t == 0 and mine:
                tell(report, b, info, verdict(s0, info, finite, cols, limit))
            cuda.syncthreads()
            if not finite:
                fill(A_parts, (tall + square + cols) * stride, like(top, math.nan), t, threads)
            cuda.syncthreads()
            if mine:
                store(s_parts, stride, 0, values, b * cols, cols, 1, True, -exponent, t, threads)
                store_factors(A_parts, V_parts, stride, 0, left, right, b, rows, cols, wide, 0, t, threads, leads)
            for j in range(count):
                c = j * B + b
                up = exponent_for(together(slots, largest(dx, c * size, size, t, threads), t, threads), height)
                if mine:
                    store(s_parts, stride, 1 + j, d_values, c * cols, cols, 1, True, -up, t, threads)
                    change = exponent - up
                    store_factors(
                        A_parts, V_parts, stride, 1 + j, d_left, d_right, c, rows, cols, wide, change, t, threads, leads
                    )
            cuda.syncthreads()

    return dual
