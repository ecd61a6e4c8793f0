"""The one-sided Jacobi SVD, written once over the scalar protocol.

A rotation from the right makes two columns of A orthogonal, and the sorted sweep over all pairs is repeated until none
needs it: then A V = U S with U the normalised columns (Hestenes 1958; de Rijk 1989 for the sorting; Demmel and Veselic
1992 for the relative accuracy). Four steps:

    step 1  converge     sweeps of rotations; on duals the tangents ride along
    step 2  adapt        at ties, turn the basis to the directions (Khan and Barton 2015: lexicographic derivatives)
    step 3  settle       tangent sweeps: whatever rotation the tangents are still owed, an infinitesimal one
    step 4  finish       norms, normalised columns, completion of U where columns vanish

Why step 3 is unconditional: where the primal needs no rotation (diag(3, 2, 1) in a dense direction) its tangent still
does. One sweep from the converged primal is exact: with c = g_p^H g_q = 0 a pair is owed dtheta = dc / (|g_p|^2 -
|g_q|^2), and giving it changes no other dc to first order. `order(x)` sweeps serve nested duals, for the order of what
is left doubles with each.

Buffers hold columns one after the other: A[p * m + i] for row i of column p, V[p * n + i] likewise. m >= n: a wide
matrix comes as its conjugate transpose. All entries are scaled beforehand so that the largest is about
2**headroom(eps): see `headroom`. The functions allocate nothing; sizes are integers, known when they run or, as
`Fixed`, when they are compiled.
"""

from __future__ import annotations

import math

from .protocol import (
    abs2,
    absolute,
    any_true,
    conj,
    entry,
    eps_of,
    infadd,
    infdiv,
    infsub,
    like,
    maximum,
    minimum,
    order,
    primal,
    real,
    set_entry,
    setprimal,
    sqrt,
    squelch,
    tiny_of,
    total,
    where,
)

#: Sweeps before the iteration is given up. 5 to 8 are usual, rank-deficient integers take up to 17 while they rotate
#: rounding noise.
MAX_SWEEPS = 30

#: A tie or a zero: closer than TIE * r * eps * s_1. The backward error of the SVD is of that size, so a smaller gap is
#: noise.
TIE = 8.0

#: While sweeping, a rotation whose h is below sqrt(SMOOTH) of |A| (|a_p|^2 + |a_q|^2)^(1/2) passes no tangent on: near
#: a tie it would multiply the rounding errors by 1/h, and `settle` gives the pair its tangent at the end anyway.
SMOOTH = 1e-6


# ---- tolerances


def headroom(eps: float) -> int:
    """The exponent to which the largest entry is scaled: 220, or 20 in float32.

    A rotation forms fourth powers of column norms: (64 2^220)^4 and (64 2^20)^4 are just below overflow. The lower end
    then reaches furthest: two columns count as vanished (`flush`) only below 1e-134 (float32: 1e-12) of the largest
    entry.
    """
    return 220 if eps < 1e-10 else 20


def flush(eps: float) -> float:
    """The squared norm below which a scaled column has vanished: the pair test would underflow there."""
    return 2.0**-450 if eps < 1e-10 else 2.0**-36


def tie_tolerance(eps: float, n: int) -> float:
    """Relative to s_1: singular values closer than this, or smaller, are tied, or zero."""
    return TIE * n * eps


def squared_tolerance(eps: float, m: int) -> float:
    """A pair with |cos|^2 below this is orthogonal: inner products of length m have errors of that size."""
    return eps * eps * (m + 2.0)


def power_of_two(largest: float, exponent: int) -> int:
    """k such that 2^k times the largest entry is in [2^(exponent-1), 2^exponent); 0 for a zero matrix."""
    return exponent - math.frexp(largest)[1] if largest > 0.0 else 0


# ---- one pair of columns


def dots(A, p, q, m):
    """|a_p|^2, |a_q|^2 and a_p^H a_q, computed afresh: norms kept from before lose their digits on graded columns."""
    P, Q = p * m, q * m
    x, y = A[P], A[Q]
    alpha, beta, g = abs2(x), abs2(y), conj(x) * y
    for i in range(1, m):
        x, y = A[P + i], A[Q + i]
        alpha = alpha + abs2(x)
        beta = beta + abs2(y)
        g = g + conj(x) * y
    return total(alpha), total(beta), total(g)


def inner(A, p, B, q, m):
    """a_p^H b_q."""
    P, Q = p * m, q * m
    g = conj(A[P]) * B[Q]
    for i in range(1, m):
        g = g + conj(A[P + i]) * B[Q + i]
    return total(g)


def norm2(A, p, m):
    """|a_p|^2."""
    P = p * m
    alpha = abs2(A[P])
    for i in range(1, m):
        alpha = alpha + abs2(A[P + i])
    return total(alpha)


def rotation(alpha, beta, g, floor):
    """c and s of the rotation that makes a pair with these products orthogonal, the longer column first.

        [a_p, a_q] <- [a_p, a_q] [ c  -conj(s) ]      d = alpha - beta,  h^2 = d^2 + 4 |g|^2,
                                 [ s   conj(c) ]      t = 2 conj(g) / (|d| + h)

    cos = 1 / sqrt(1 + |t|^2), sin = t cos; c = cos, s = sin, or c = conj(sin), s = cos where d < 0, which exchanges the
    columns too. g = 0 gives exactly the identity, or the exchange. On duals the angle is differentiated through t,
    which is regular at g = 0; plain numbers do without the quotient.
    """
    gap, twice = alpha - beta, conj(g) + conj(g)
    h2 = gap * gap + abs2(twice)
    cos, sin = angle(gap, twice, h2, floor * primal(alpha + beta))
    c, swap = like(g, 1.0) * cos, primal(gap) < like(primal(gap), 0.0)
    return where(swap, conj(sin), c), where(swap, c, sin)


def angle(gap, twice, h2, floor):
    """cos and sin of plain numbers from u = |d| + h: cos = u / w, sin = 2 conj(g) / w, w^2 = u^2 + 4 |g|^2. They are
    exactly 1 and 0 where there is no angle, so that no lane is touched for its neighbours' sake."""
    if order(gap) > 0:
        return angle_of_duals(gap, twice, h2, floor)
    one, zero = like(gap, 1.0), like(gap, 0.0)
    u, size = absolute(gap) + sqrt(h2), abs2(twice)
    turned = size > zero
    over_w = one / sqrt(where(turned, u * u + size, one))
    return where(turned, u * over_w, one), twice * over_w


def angle_of_duals(gap, twice, h2, floor):
    """The values of plain numbers, and the partials of cos and sin through t. Those of t are noise where h^2 <= floor:
    there they are left out, and `settle` makes them good."""
    one, smooth = like(gap, 1.0), primal(h2) > floor
    t = twice / (absolute(gap) + sqrt(where(smooth, h2, one)) + like(gap, tiny_of(gap)))
    t = where(smooth, t, like(primal(twice), 0.0))
    cosine = one / sqrt(one + abs2(t))
    cos, sin = angle(gap.value, twice.value, h2.value, floor)
    return setprimal(cosine, cos), setprimal(t * cosine, sin)


def rotate(A, p, q, c, s, m):
    """Columns p and q, of length m, times the rotation."""
    P, Q = p * m, q * m
    cc, cs = conj(c), conj(s)
    for i in range(m):
        x, y = A[P + i], A[Q + i]
        A[P + i] = c * x + s * y
        A[Q + i] = cc * y - cs * x


# ---- step 1: converge


def sweep(A, V, m, k, n, tol2, floor):
    """One sweep over all pairs, row by row. Returns the mask of lanes that changed and the largest |cos|^2 met.

    An exchange of columns is a change too: it brings an untested column into a slot already tested. V has k rows, none
    to leave it out.
    """
    zero = like(primal(real(total(A[0]))), 0.0)
    least = like(zero, flush(eps_of(zero)))
    moved, off = zero > zero, zero
    for p in range(n - 1):
        for q in range(p + 1, n):
            moved, off = turn_pair(A, V, p, q, m, k, tol2, floor, least, moved, off)
    return moved, off


def turn_pair(A, V, p, q, m, k, tol2, floor, least, moved, off):
    """Make a pair orthogonal, the longer column first. Joins to `moved` whether it changed, to `off` its |cos|^2."""
    alpha, beta, g = dots(A, p, q, m)
    a, b = primal(alpha), primal(beta)
    g2, size = abs2(primal(g)), (a + least) * (b + least)
    need = g2 > tol2 * size
    change = need | (b > a)
    moved, off = moved | change, maximum(off, g2 / size)
    if any_true(change):
        c, s = rotation(alpha, beta, squelch(need, g), floor)
        rotate(A, p, q, c, s, m)
        rotate(V, p, q, c, s, k)
    return moved, off


def converge(A, V, info, m, k, n, limit):
    """Sweep until one sweep changes nothing in any lane.

    info[0]: sweeps that changed the lane; it has converged if that is below the limit. info[1]: the largest |cos|^2 of
    the last sweep. Stopping earlier, because convergence is quadratic, is unsafe on clusters.
    """
    zero = like(primal(real(total(A[0]))), 0.0)
    one, eps = like(zero, 1.0), eps_of(zero)
    tol2 = like(zero, squared_tolerance(eps, m))
    floor = like(zero, SMOOTH) * size2(A, m * n)
    info[0] = zero
    going, sweeps = True, 0
    while going and sweeps < limit:
        moved, off = sweep(A, V, m, k, n, tol2, floor)
        info[0] = info[0] + where(moved, one, zero)
        info[1] = off
        going = any_true(moved)
        sweeps += 1


def size2(A, size):
    """Squared Frobenius norm of the primal."""
    sum = abs2(primal(A[0]))
    for i in range(1, size):
        sum = sum + abs2(primal(A[i]))
    return total(sum)


# ---- the same, several pairs at a time
#
# Pairs with equal p + q, a front, share no column, and the fronts follow each other as the pairs of a row by row sweep
# must: each after all that share a column with it and come before. So `width` rows of a sweep are taken together, front
# after front, and the angles of a front are found at once, a pair a lane. The rotations are those of `sweep`, to the
# bit; what is gained is that a processor need not wait for one angle before it begins with the next, and that a column
# is fetched once for `width` rotations.


def converge_in_fronts(A, V, R, C, info, m, k, n, rows, limit, width):
    """`converge` for one matrix of columns of m numbers, or `rows` rows. R and C are scratch: 3 reals and 3 entries of
    `width` lanes."""
    tol2 = like(R[0], squared_tolerance(eps_of(R[0]), rows))
    zero = like(primal(entry(R, 0, 0)), 0.0)
    floor = like(zero, SMOOTH) * size2(A, m * n)
    info[0] = zero
    going, sweeps = True, 0
    while going and sweeps < limit:
        moved, off = sweep_in_fronts(A, V, R, C, m, k, n, tol2, floor, width)
        going = any_true(moved)
        sweeps += 1
        R[0] = off
        for i in range(width):
            info[1] = entry(R, 0, i) if i == 0 else maximum(info[1], entry(R, 0, i))
        if going:
            info[0] = like(zero, sweeps)


def sweep_in_fronts(A, V, R, C, m, k, n, tol2, floor, width):
    """One sweep over all pairs. Returns the mask of lanes that changed and the largest |cos|^2 of each."""
    zero = like(R[0], 0.0)
    least = like(zero, flush(eps_of(zero)))
    moved, off = zero > zero, zero
    for first in range(0, n - 1, width):
        last = min(first + width, n - 1)
        for front in range(2 * first + 1, last + n - 1):
            low, high = max(first, front - n + 1), min(last, (front + 1) // 2)
            moved, off = turn_front(A, V, R, C, low, high, front, m, k, tol2, floor, least, moved, off)
    return moved, off


def turn_front(A, V, R, C, low, high, front, m, k, tol2, floor, least, moved, off):
    """`turn_pair` for the pairs (p, front - p), low <= p < high."""
    zero = like(R[0], 0.0)
    R[0], R[1], C[0] = zero, zero, like(C[0], 0.0)
    for p in range(low, high):
        alpha, beta, g = dots(A, p, front - p, m)
        set_entry(R, 0, p - low, alpha)
        set_entry(R, 1, p - low, beta)
        set_entry(C, 0, p - low, g)
    alpha, beta, g = R[0], R[1], C[0]
    a, b = primal(alpha), primal(beta)
    g2, size = abs2(primal(g)), (a + least) * (b + least)
    need = g2 > tol2 * size
    change = need | (b > a)
    moved, off = moved | change, maximum(off, g2 / size)
    if any_true(change):
        C[1], C[2] = rotation(alpha, beta, squelch(need, g), floor)
        R[2] = where(change, like(zero, 1.0), zero)
        for p in range(low, high):
            if any_true(entry(R, 2, p - low) > like(floor, 0.0)):
                c, s = entry(C, 1, p - low), entry(C, 2, p - low)
                rotate(A, p, front - p, c, s, m)
                rotate(V, p, front - p, c, s, k)
    return moved, off


# ---- the primal SVD: steps 1 and 4


def extent(X, size):
    """The largest of `size` reals, and the mask of lanes in which all are finite."""
    largest, poison = absolute(X[0]), X[0] - X[0]
    for i in range(1, size):
        largest, poison = maximum(largest, absolute(X[i])), poison + (X[i] - X[i])
    zero = like(largest, 0.0)
    finite = (poison <= zero) & (poison >= zero)
    return where(finite, largest, zero), finite


def raise_lanes(A, finite, f, g, size):
    """Times f g, a power of two each; lanes that are not finite become zero, and so come to rest at once."""
    zero = like(A[0], 0.0)
    for i in range(size):
        A[i] = where(finite, A[i] * f * g, zero)


def svd(A, V, S, info, m, n, limit):
    """A = U S V^H: A becomes U, and V, the identity on entry, the right singular vectors as columns."""
    converge(A, V, info, m, n, n, limit)
    normalise(A, S, m, n)
    if any_true(S[n - 1] <= like(S[n - 1], 0.0)):
        complete(A, m, n)


def svdvals(A, S, info, m, n, limit):
    """The values only."""
    converge(A, A, info, m, 0, n, limit)
    normalise(A, S, m, n)


def normalise(A, S, m, n):
    """S = norms of the columns, which become unit columns; a vanished column becomes exactly zero."""
    zero = like(real(total(A[0])), 0.0)
    one, least = like(zero, 1.0), like(zero, flush(eps_of(zero)))
    for p in range(n):
        alpha = norm2(A, p, m)
        alive = alpha > least
        s = sqrt(where(alive, alpha, one))
        S[p] = where(alive, s, zero)
        if p > 0:
            S[p] = minimum(S[p], S[p - 1])  # equal norms may round apart
        scale_column(A, p, where(alive, one / s, zero), m)


def scale_column(A, p, factor, m):
    """Column p times a number."""
    for i in range(p * m, p * m + m):
        A[i] = A[i] * factor


def complete(U, m, n):
    """Replace zero columns of U so that all columns are orthonormal."""
    half = like(real(U[0]), 0.5)
    for p in range(n):
        vanished = norm2(U, p, m) < half
        if any_true(vanished):
            fill(U, p, vanished, m, n)
            for _ in range(2):  # twice is enough (Kahan, Parlett), for 1/sqrt(m) of the unit vector at least is left
                project_out(U, p, vanished, m, n)
            one = like(half, 1.0)
            length = sqrt(where(vanished, norm2(U, p, m), one))
            scale_column(U, p, one / length, m)


def fill(U, p, vanished, m, n):
    """Where column p has vanished put the unit vector that is farthest from the span of the others."""
    zero, one = like(real(U[0]), 0.0), like(U[0], 1.0)
    best, row = zero, zero
    for i in range(m):
        left = like(zero, 1.0)
        for q in range(n):
            left = left - abs2(U[q * m + i])
        farther = left > best
        best, row = where(farther, left, best), where(farther, like(zero, i), row)
    for i in range(m):
        here = vanished & (row <= like(zero, i)) & (row >= like(zero, i))
        U[p * m + i] = where(here, one, U[p * m + i])


def project_out(U, p, mask, m, n):
    """Where the mask is true take from column p its components along the other columns."""
    zero = like(U[0], 0.0)
    for q in range(n):
        if q != p:
            g = where(mask, inner(U, q, U, p, m), zero)
            for i in range(m):
                U[p * m + i] = U[p * m + i] - U[q * m + i] * g


# ---- step 2: adapt


def adapt(U, W, T, group, zeros, m, n, k, count):
    """Turn the basis inside ties so that it follows the directions D_0, D_1, ... lexicographically. Plain scalars only.

    T holds D_j V for each direction, n columns each. Equal values: eigenvectors of the symmetric part of u^H D v on the
    block. Zeros: singular vectors of [U_0 U_perp]^H D V_0. What D_0 leaves tied D_1 turns, and so on; a tie is measured
    against the direction, never against the block, which may be noise. W (k rows) receives the same rotations as V
    does. `group` and `zeros` come from `tie_groups`.
    """
    for j in range(count):
        size = sqrt(norm2(T, j, m * n))
        noise = size * like(size, tie_tolerance(eps_of(size), n))
        if any_true(noise > like(noise, 0.0)):
            positive = zeros
            zeros = adapt_zeros(U, W, T, group, m, n, k, count, j, positive, noise)
            adapt_groups(U, W, T, group, m, n, k, count, j, positive, noise)
    complete(U, m, n)


def tie_groups(S, group, n, tie):
    """group[p]: the first column of the tied group of column p. Returns the first column that is zero, or n."""
    zeros, near = n, like(tie, tie_tolerance(eps_of(tie), n))
    for p in range(n):
        if any_true(S[p] <= tie):
            zeros = min(zeros, p)
        tied = any_true(S[max(p, 1) - 1] - S[p] <= maximum(tie, S[max(p, 1) - 1] * near)) if p > 0 else False
        group[p] = group[p - 1] if tied and p != zeros else p
    return zeros


def turn(U, W, T, c, s, p, q, m, n, k, count):
    """One rotation of the basis: U, W and every direction's D V."""
    rotate(U, p, q, c, s, m)
    rotate(W, p, q, c, s, k)
    for j in range(count):
        rotate(T, j * n + p, j * n + q, c, s, m)


def slope(U, T, p, first, m):
    """The derivative of value p along the direction whose columns start at `first`: Re u_p^H D v_p."""
    return real(inner(U, p, T, first + p, m))


def adapt_groups(U, W, T, group, m, n, k, count, j, positive, noise):
    """Diagonalise the symmetric part of U^H D_j V inside each group before `positive`; split what it separates."""
    moved, sweeps = True, 0
    while moved and sweeps < MAX_SWEEPS:
        moved = False
        for p in range(positive - 1):
            for q in range(p + 1, positive):
                if group[q] == group[p] and adapt_pair(U, W, T, p, q, m, n, k, count, j, noise):
                    moved = True
        sweeps += 1
    before = 0
    for p in range(1, positive):
        apart = any_true(slope(U, T, p - 1, j * n, m) - slope(U, T, p, j * n, m) > noise)
        label = p if group[p] != before or apart else group[p - 1]
        before = group[p]
        group[p] = label


def adapt_pair(U, W, T, p, q, m, n, k, count, j, noise):
    """One rotation of the Hermitian Jacobi method on the symmetric part; whether it was needed."""
    alpha, beta = slope(U, T, p, j * n, m), slope(U, T, q, j * n, m)
    g = (inner(U, p, T, j * n + q, m) + conj(inner(U, q, T, j * n + p, m))) * like(alpha, 0.5)
    need = absolute(g) > noise * like(noise, 1.0 / TIE)
    change = any_true(need | (beta > alpha))
    if change:
        c, s = rotation(alpha, beta, squelch(need, g), noise)
        turn(U, W, T, c, s, p, q, m, n, k, count)
    return change


def adapt_zeros(U, W, T, group, m, n, k, count, j, zeros, noise):
    """One-sided Jacobi on [U_0 U_perp]^H D_j V_0. Returns the first column that stays zero; see `settle_zeros`."""
    for p in range(zeros, n):
        group[p] = p
        scale_column(U, p, like(noise, 0.0), m)
        for q in range(zeros):
            subtract(T, j * n + p, U, q, inner(U, q, T, j * n + p, m), m)
    moved, sweeps = True, 0
    while moved and sweeps < MAX_SWEEPS:
        moved = False
        for p in range(zeros, n - 1):
            for q in range(p + 1, n):
                if adapt_zero_pair(U, W, T, p, q, m, n, k, count, j, noise):
                    moved = True
        sweeps += 1
    return settle_zeros(U, T, group, m, n, j, zeros, noise)


def adapt_zero_pair(U, W, T, p, q, m, n, k, count, j, noise):
    """One rotation of the one-sided method on columns p and q of D_j V_0; whether it was needed."""
    alpha, beta, g = dots(T, j * n + p, j * n + q, m)
    eps = eps_of(alpha)
    need = (abs2(g) > like(alpha, squared_tolerance(eps, m)) * alpha * beta) & (maximum(alpha, beta) > noise * noise)
    change = any_true(need | (beta > alpha))
    if change:
        c, s = rotation(alpha, beta, squelch(need, g), noise)
        turn(U, W, T, c, s, p, q, m, n, k, count)
    return change


def settle_zeros(U, T, group, m, n, j, zeros, noise):
    """The unit vectors of the nonzero columns go to U, grouped by ties. Returns the first column that stays zero."""
    before = noise
    for p in range(zeros, n):
        length = sqrt(norm2(T, j * n + p, m))
        if any_true(length <= noise):
            return p
        if p > zeros and any_true(before - length <= noise):
            group[p] = group[p - 1]
        before = length
        subtract(U, p, T, j * n + p, like(U[0], -1.0) / length, m)
        project_out(U, p, length > noise, m, n)
        scale_column(U, p, like(length, 1.0) / sqrt(norm2(U, p, m)), m)
    return n


def subtract(A, p, B, q, g, m):
    """a_p - b_q g."""
    P, Q = p * m, q * m
    for i in range(m):
        A[P + i] = A[P + i] - B[Q + i] * g


# ---- step 3: settle


def settle(A, V, S0, m, n, tie):
    """Give every pair the rotation that its tangents are still owed; the primal stays. First order:

        [x, y] + [conj(t) y, -t x],     t = dg / (s_p^2 - s_q^2)

    A tied pair gets no rotation. What is left in its dg belongs to a later direction than the one that settled the
    basis: u makes the columns of U orthogonal to first order without turning either.
    """
    near = like(tie, tie_tolerance(eps_of(tie), n))
    for p in range(n - 1):
        for q in range(p + 1, n):
            settle_pair(A, V, S0, p, q, m, n, tie, near)


def settle_pair(A, V, S0, p, q, m, n, tie, near):
    """One pair of the tangent sweep; values closer than `near` times the larger, or than `tie`, are tied."""
    one, sp, sq = like(tie, 1.0), S0[p], S0[q]
    gap, sum, least = sp - sq, sp + sq, maximum(tie, sp * near)
    g = inner(A, p, A, q, m)
    apart, tied = gap > least, (gap <= least) & (sq > tie)
    # in two steps: a product of small values would underflow
    t = infdiv(g, gap, apart) / where(apart, sum, one)
    u = infdiv(g, sum, tied) / where(tied, sq, one)
    shear(A, p, q, conj(t - u), t + u, m)
    shear(V, p, q, conj(t), t, n)


def shear(A, p, q, right, left, m):
    """[a_p, a_q] + [a_q right, -a_p left] for infinitesimal factors."""
    P, Q = p * m, q * m
    for i in range(m):
        x, y = A[P + i], A[Q + i]
        A[P + i] = infadd(x, right, y)
        A[Q + i] = infsub(y, left, x)


def settle_nested(A, V, S0, m, n, tie):
    """The same at any order: full dual rotations whose primal is the identity."""
    floor = tie * tie + tie * tie
    for p in range(n - 1):
        for q in range(p + 1, n):
            alpha, beta, g = dots(A, p, q, m)
            alpha, beta = rebase(alpha, S0[p] * S0[p]), rebase(beta, S0[q] * S0[q])
            c, s = rotation(alpha, beta, squelch(S0[p] < S0[q], g), floor)  # never true: the primal of g is noise
            rotate(A, p, q, c, s, m)
            rotate(V, p, q, c, s, n)


# ---- the dual SVD: steps 2 to 4 after the primal


def follow(A, V, S, U0, S0, m, n, phases):
    """Steps 3 and 4 on duals: A, which holds A V and whose primal is U_0 S_0, becomes U, and S the values."""
    follow_beyond(A, V, S, U0, S0, m, n, S0[0] * like(S0[0], tie_tolerance(eps_of(S0[0]), n)), phases)


def follow_beyond(A, V, S, U0, S0, m, n, tie, phases):
    """The same with a tie of one's own: 0 for graded matrices, whose small values are not noise.

    `phases` (for complex numbers) brings the result to the symmetric gauge, Im(u^H du + v^H dv) = 0.
    """
    if order(A[0]) == 1:
        follow_first(A, V, S, U0, S0, m, n, tie, phases)
    else:
        follow_nested(A, V, S, U0, S0, m, n, tie, phases)


def follow_first(A, V, S, U0, S0, m, n, tie, phases):
    """`follow_beyond` at first order: infinitesimal rotations."""
    slopes(A, S, U0, S0, m, n)
    settle(A, V, S0, m, n, tie)
    unit_columns(A, S, U0, S0, m, n, tie)
    if phases:
        balance_phases(A, V, m, n)


def follow_nested(A, V, S, U0, S0, m, n, tie, phases):
    """`follow_beyond` at any order: whole rotations whose primal is the identity."""
    for _ in range(order(A[0])):
        settle_nested(A, V, S0, m, n, tie)
    lengths(A, S, U0, S0, m, n, tie)
    unit_columns(A, S, U0, S0, m, n, tie)
    if phases:
        balance_phases(A, V, m, n)


def rebase(x, value):
    """x with its innermost primal replaced by a close value: the primal keeps the bits that it has without tangents."""
    return x + (value - primal(x))


def slopes(A, S, U0, S0, m, n):
    """First order: ds = Re u^H dg, taken before the settling adds dg's components along the other columns."""
    for p in range(n):
        S[p] = rebase(real(inner(U0, p, A, p, m)), S0[p])


def lengths(A, S, U0, S0, m, n, tie):
    """Any order: s = |g|; at zero Re u^H g for the constant u."""
    for p in range(n):
        alpha = norm2(A, p, m)
        alive = S0[p] > tie
        s = sqrt(where(alive, alpha, like(alpha, 1.0)))
        S[p] = rebase(where(alive, s, real(inner(U0, p, A, p, m))), S0[p])


def unit_columns(A, S, U0, S0, m, n, tie):
    """u = g / s. Where s = 0, u is constant but for what keeps it orthogonal to the others: parallel transport."""
    for p in range(n):
        alive = S0[p] > tie
        s = where(alive, S[p], like(S[p], 1.0))
        for i in range(p * m, p * m + m):
            A[i] = rebase(where(alive, A[i] / s, U0[i]), U0[i])
    for p in range(n):
        zero = S0[p] <= tie
        if any_true(zero):
            project_out(A, p, zero, m, n)
            for i in range(p * m, p * m + m):
                A[i] = rebase(A[i], U0[i])


def balance_phases(U, V, m, n):
    """Turn u and v by one common phase, so that u_0^H u + v_0^H v stays real."""
    for p in range(n):
        z = conj(U[p * m]) * primal(U[p * m])
        for i in range(p * m + 1, p * m + m):
            z = z + conj(U[i]) * primal(U[i])
        for i in range(p * n, p * n + n):
            z = z + conj(V[i]) * primal(V[i])
        z = total(z)
        z = z / absolute(z)
        phase = z + (like(primal(z), 1.0) - primal(z))
        scale_column(U, p, phase, m)
        scale_column(V, p, phase, n)


def lift(A, V, S, U0, V0, S0, row, m, n, tie, phases):
    """The tangents of a finished primal SVD, for the matrix A with its tangents: one product, then one settling."""
    zero = like(A[0], 0.0)
    times(A, 0, V0, row, m, n)
    for p in range(n):
        for i in range(p * m, p * m + m):
            A[i] = rebase(A[i], U0[i] * S0[p])
    for i in range(n * n):
        V[i] = zero + V0[i]
    follow_beyond(A, V, S, U0, S0, m, n, tie, phases)


def times(A, first, W, row, m, n):
    """The n columns of A from `first` on, times W, in place by way of a row of n."""
    start = first * m
    for i in range(start, start + m):
        for p in range(n):
            x = A[i] * W[p * n]
            for j in range(1, n):
                x = x + A[j * m + i] * W[p * n + j]
            row[p] = x
        for p in range(n):
            A[p * m + i] = row[p]


def primal_columns(A, U0, S0, m, n):
    """The primal of converged dual columns, finished: U_0 and S_0."""
    primals(A, U0, m * n)
    normalise(U0, S0, m, n)
    complete(U0, m, n)


def primals(A, B, size):
    """B = the primal of A."""
    for i in range(size):
        B[i] = primal(A[i])
