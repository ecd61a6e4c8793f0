"""The one-sided Jacobi SVD, written once over the scalar protocol.

A rotation from the right makes two columns of A orthogonal, and the sorted sweep over all pairs is repeated until none
needs it: then A V = U S with U the normalised columns (Hestenes 1958; de Rijk 1989 for the sorting; Demmel and Veselic
1992 for the relative accuracy). Four steps:

    step 1  converge     sweeps of rotations; on duals the tangents ride along
    step 2  adapt        at ties, turn the basis to the directions: `dual_svd`
    step 3  settle       tangent sweeps, for whatever rotation the tangents are still owed: `dual_svd`
    step 4  finish       norms, normalised columns, completion of U where columns vanish

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
    eps_of,
    lane,
    like,
    maximum,
    minimum,
    minus_product,
    order,
    over_root,
    plus_product,
    primal,
    real,
    root,
    set_lane,
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

#: While sweeping, columns are stored without the cosines of their rotations, and D[p] keeps the product of cos^2. When
#: D[p] falls below this, the column is rescaled and D[p] set to 1. One rotation at most halves it, so stored columns
#: exceed true ones by at most what `headroom` allows for.
LEAST_SCALE = 2.0**-10

#: Up to so many columns, D[p] cannot fall that far within one sweep if it is rescaled in time before: it is looked at
#: after each sweep, not after each rotation.
FEW = 10

#: Squares of columns that are found by subtraction have errors of so many eps of what it was subtracted from: the
#: roundings of a sum over rows add up like the root of their number, so this is ample for a thousand rows. Too much
#: makes an angle too small, and the next sweep makes that good; too little loses digits of short columns.
NOISE = 64.0

#: While sweeping, a rotation whose h is below sqrt(SMOOTH) of |A| (|a_p|^2 + |a_q|^2)^(1/2) passes no tangent on: near
#: a tie it would multiply the rounding errors by 1/h, and `settle` gives the pair its tangent at the end anyway. So the
#: errors grow by a factor of a thousand at most.
SMOOTH = 1e-6


# ---- tolerances


def headroom(eps: float) -> int:
    """The exponent to which the largest entry is scaled: 220, or 20 in float32.

    A rotation forms fourth powers of column norms, over the square of LEAST_SCALE / 2 at most: (64 2^20)^4 2^22 = 2^126
    is just below overflow in float32, and (64 2^220)^4 2^22 = 2^926 has room to spare. A column counts as vanished
    (`flush`) only below 3e-134 (float32: 8e-12) of the largest entry.
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


def exponent_to(largest: float, height: int) -> int:
    """k such that 2^k times the largest entry is in [2^(height-1), 2^height); 0 for a zero matrix."""
    return height - math.frexp(largest)[1] if largest > 0.0 else 0


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
        g = plus_product(g, conj(x), y)
    return total(alpha), total(beta), total(g)


def inner(A, p, B, q, m):
    """a_p^H b_q."""
    P, Q = p * m, q * m
    g = conj(A[P]) * B[Q]
    for i in range(1, m):
        g = plus_product(g, conj(A[P + i]), B[Q + i])
    return total(g)


def norm2(A, p, m):
    """|a_p|^2."""
    P = p * m
    alpha = abs2(A[P])
    for i in range(1, m):
        alpha = alpha + abs2(A[P + i])
    return total(alpha)


def angle(gap, g, w, g2, floor):
    """The angle that makes a pair of columns orthogonal; gap = alpha - beta, g2 = w |g|^2 = |a_p^H a_q|^2, where w is
    the product of the scales that g lacks:

        2 g / u,   sin^2 = 2 g2 / (u h),   and 2 g2 / u, what the longer column gains in square

    with h^2 = gap^2 + 4 g2 and u = |gap| + h. All are exactly 0 where g is, so that no lane is touched for its
    neighbours' sake.
    """
    if order(gap) > 0:
        return angle_of_duals(gap, g, w, g2, floor)
    one, twice = like(gap, 1.0), g2 + g2
    h2 = where(g2 > like(gap, 0.0), gap * gap + (twice + twice), one)
    over_u, over_uh = over_root(absolute(gap), h2)
    return (g + g) * over_u, twice * over_uh, twice * over_u


def angle_of_duals(gap, g, w, g2, floor):
    """The values of plain numbers, and the partials by way of the tangent of the angle, which is regular where g = 0.
    They are noise where h^2 <= floor: there they are left out, and `settle` makes them good."""
    one, h2 = like(gap, 1.0), gap * gap + (g2 + g2) + (g2 + g2)
    smooth = primal(h2) > floor
    u = absolute(gap) + sqrt(where(smooth, h2, one)) + like(gap, tiny_of(gap))
    over_u = where(smooth, (one + one) / u, like(primal(gap), 0.0))
    f, sin2, gain = angle(gap.value, g.value, w.value, g2.value, floor)
    f = setprimal(g * over_u, f)
    tan2 = abs2(f) * w  # of that f, so that it is a rotation whatever was left out
    return f, setprimal(tan2 / (one + tan2), sin2), setprimal(g2 * over_u, gain)


def rotation(alpha, beta, g, floor):
    """c and s of the rotation that makes a pair with these products orthogonal, the longer column first.

        [a_p, a_q] <- [a_p, a_q] [ c  -conj(s) ]      d = alpha - beta,  h^2 = d^2 + 4 |g|^2,
                                 [ s   conj(c) ]      t = 2 conj(g) / (|d| + h)

    cos = 1 / sqrt(1 + |t|^2), sin = t cos; c = cos, s = sin, or c = conj(sin), s = cos where d < 0, which exchanges the
    columns too. g = 0 gives exactly the identity, or the exchange.
    """
    one = like(alpha, 1.0)
    t, sin2, _ = angle(alpha - beta, conj(g), one, abs2(g), floor * primal(alpha + beta))
    cos, swap = sqrt(one - sin2), primal(alpha) < primal(beta)
    c, sin = like(g, 1.0) * cos, t * cos
    return where(swap, conj(sin), c), where(swap, c, sin)


def rotate(A, p, q, c, s, m):
    """Columns p and q, of length m, times the rotation."""
    P, Q = p * m, q * m
    cc, cs = conj(c), conj(s)
    for i in range(m):
        x, y = A[P + i], A[Q + i]
        A[P + i] = c * x + s * y
        A[Q + i] = cc * y - cs * x


# ---- the same without the cosines
#
# While sweeping, the columns are rotated up to their lengths: over the cosine a rotation is two multiply-adds a row
# instead of four operations, and takes one root instead of two. The true columns are sqrt(D[p]) times those written, in
# A and in V, and D[p] is multiplied by cos^2 = 1 - sin^2 each time (Anda and Park 1994, for Givens rotations).


def sheared(x, y, right, left):
    """A rotation over its cosine, of one row of two columns."""
    return plus_product(x, y, right), minus_product(y, x, left)


def turned(x, y, swap, right, left):
    """The same after an exchange of the columns where `swap`."""
    return sheared(where(swap, y, x), where(swap, x, y), right, left)


def changes(alpha, beta, g, dp, dq, tol2, least):
    """Whether two columns need a rotation, or an exchange; alpha and beta are true, g is of those written."""
    a, b, g2 = primal(alpha), primal(beta), abs2(primal(g)) * (primal(dp) * primal(dq))
    return (g2 > tol2 * ((a + least) * (b + least))) | (a < b)


def pair_rotation(alpha, beta, g, dp, dq, active, tol2, floor, least):
    """The rotation of a pair, in active lanes: whether there is one, (swap, right, left) of `turned`, then alpha, beta,
    dp, dq as it leaves them. Where beta cancels it is not known below NOISE of what it was; an overestimate only makes
    the angle of another pair too small, an underestimate would mix that column into a much shorter one."""
    a, b, w, zero = primal(alpha), primal(beta), dp * dq, like(alpha, 0.0)
    swap = (a < b) & active
    g = where(swap, conj(g), g)
    g2 = abs2(g) * w
    need = (primal(g2) > tol2 * ((a + least) * (b + least))) & active
    f, sin2, gain = angle(alpha - beta, squelch(need, g), w, where(need, g2, zero), floor * (a + b))
    longer, shorter = where(swap, beta, alpha), where(swap, alpha, beta)
    alpha, beta = longer + gain, maximum(shorter - gain, shorter * like(shorter, NOISE * eps_of(shorter)))
    dp, dq = where(swap, dq, dp), where(swap, dp, dq)
    return need | swap, swap, conj(f) * dq, f * dp, alpha, beta, dp - dp * sin2, dq - dq * sin2


def turn_columns(A, p, q, swap, right, left, m):
    """Columns p and q, `turned`."""
    P, Q = p * m, q * m
    if any_true(swap):
        for i in range(m):
            A[P + i], A[Q + i] = turned(A[P + i], A[Q + i], swap, right, left)
    else:
        for i in range(m):
            A[P + i], A[Q + i] = sheared(A[P + i], A[Q + i], right, left)


def begin_scales(D, n):
    """Every column is what is written."""
    for p in range(n):
        D[p] = like(D[p], 1.0)


def write_small_scales(A, V, D, p, q, width, bound, m, k):
    """Write out the scales of `width` columns from p on and from q on, if one is below the bound."""
    least = minimum(primal(D[p]), primal(D[q]))
    for j in range(1, width):
        least = minimum(least, minimum(primal(D[p + j]), primal(D[q + j])))
    small = least < like(least, bound)
    if any_true(small):
        for j in range(width):
            write_scale(A, V, D, p + j, small, m, k)
            write_scale(A, V, D, q + j, small, m, k)


def write_scale(A, V, D, p, mask, m, k):
    """Column p as it is, where the mask is true."""
    one = like(D[p], 1.0)
    scale, _ = root(where(mask, D[p], one))
    D[p] = where(mask, one, D[p])
    scale_column(A, p, scale, m)
    scale_column(V, p, scale, k)


# ---- step 1: converge


def sweep(A, V, D, m, k, n, tol2, floor):
    """One sweep over all pairs, row by row, two rows at a time. Returns the mask of lanes that changed.

    An exchange of columns is a change too: it brings an untested column into a slot already tested. V has k rows, none
    to leave it out.
    """
    zero = like(primal(real(total(A[0]))), 0.0)
    least, moved = like(zero, flush(eps_of(zero))), zero > zero
    # rows p and p + 1; p = -1 stands for row 0 alone, if n is odd: one loop, so that `turn_pair`, which is inlined, is
    # compiled once
    for p in range(-(n % 2), n - 1, 2):
        for q in range(max(p, 0) + 1, n if p < 0 else p + 2):
            moved = turn_pair(A, V, D, max(p, 0), q, m, k, tol2, floor, least, moved)
            if n > FEW:
                write_small_scales(A, V, D, max(p, 0), q, 1, LEAST_SCALE, m, k)
        for q in range(n if p < 0 else p + 2, n, 2):
            moved = turn_tile(A, V, D, p, q, m, k, tol2, floor, least, moved)
            if n > FEW:
                write_small_scales(A, V, D, p, q, 2, LEAST_SCALE, m, k)
    return moved


def sweep_by_pairs(A, V, D, m, k, n, tol2, floor):
    """The same, pair by pair, in loops that a compiler unrolls if it knows n."""
    zero = like(primal(real(total(A[0]))), 0.0)
    least, moved = like(zero, flush(eps_of(zero))), zero > zero
    for p in range(n - 1):
        for q in range(p + 1, n):
            moved = turn_pair(A, V, D, p, q, m, k, tol2, floor, least, moved)
            if n > FEW:
                write_small_scales(A, V, D, p, q, 1, LEAST_SCALE, m, k)
    return moved


def turn_pair(A, V, D, p, q, m, k, tol2, floor, least, moved):
    """Make a pair orthogonal, the longer column first. Joins to `moved` whether it changed."""
    alpha, beta, g = dots(A, p, q, m)
    dp, dq = D[p], D[q]
    alpha, beta = alpha * dp, beta * dq
    active = changes(alpha, beta, g, dp, dq, tol2, least)
    if any_true(active):
        change, swap, right, left, _, _, dp, dq = pair_rotation(alpha, beta, g, dp, dq, active, tol2, floor, least)
        moved = moved | change
        turn_columns(A, p, q, swap, right, left, m)
        turn_columns(V, p, q, swap, right, left, k)
        D[p], D[q] = dp, dq
    return moved


def converge(A, V, D, info, m, k, n, limit):
    """Sweep until one sweep changes nothing in any lane. D: scratch for n reals. V, of k rows, receives the rotations.

    info[0]: sweeps that changed the lane; it has converged if that is below the limit. info[1]: the largest |cos|^2
    between columns that is left, if a lane has not.
    """
    iterate(A, V, D, info, m, k, n, limit, sweep)
    info[1] = like(info[0], 0.0)
    if any_true(info[0] >= like(info[0], limit)):
        info[1] = largest_cosine(A, m, n)


def iterate(A, V, D, info, m, k, n, limit, sweep):
    """`converge` by `sweep`, or by `sweep_by_pairs`; what is left is not measured.

    Stopping earlier, because convergence is quadratic, is unsafe on clusters.
    """
    zero = like(primal(real(total(A[0]))), 0.0)
    one, eps = like(zero, 1.0), eps_of(zero)
    tol2 = like(zero, squared_tolerance(eps, m))
    floor = like(zero, SMOOTH) * size2(A, m * n)
    info[0] = zero
    begin_scales(D, n)
    going, sweeps = True, 0
    while going and sweeps < limit:
        moved = sweep(A, V, D, m, k, n, tol2, floor)
        info[0] = info[0] + where(moved, one, zero)
        going = any_true(moved)
        sweeps += 1
        if n <= FEW and going:
            bound = LEAST_SCALE * 0.25 * float(1 << n)  # n - 1 halvings a sweep
            write_small_scales(A, V, D, 0, n // 2, n - n // 2, bound, m, k)
    for p in range(n):
        write_scale(A, V, D, p, zero < one, m, k)


def largest_cosine(A, m, n):
    """The largest |cos|^2 between two columns."""
    off = like(primal(real(total(A[0]))), 0.0)
    for p in range(n - 1):
        for q in range(p + 1, n):
            alpha, beta, g = dots(A, p, q, m)
            off = maximum(off, cosine2(alpha, beta, g))
    return off


def cosine2(alpha, beta, g):
    """|cos|^2 of the angle between two columns with these squares and this product."""
    a, b = primal(alpha), primal(beta)
    least = like(a, flush(eps_of(a)))
    return abs2(primal(g)) / ((a + least) * (b + least))


def size2(A, size):
    """Squared Frobenius norm of the primal."""
    sum = abs2(primal(A[0]))
    for i in range(1, size):
        sum = sum + abs2(primal(A[i]))
    return total(sum)


# ---- four pairs at a time
#
# Columns a, b = p, p + 1 and x, y = q, q + 1 make a tile of four pairs. Their ten inner products tell all four
# rotations, one after the other: what a rotation does to columns it does to products with them. So a column is read and
# written once for two rotations, and a processor can write half as much as it can multiply.
#
# Within a tile norms and products lose digits where a rotation cancels, as it does if columns are nearly parallel. The
# next sweep takes all afresh, and a tile in which nothing moves has been tested with products of what is there; see
# `pair_rotation` for what must not happen before.


def turn_tile(A, V, D, p, q, m, k, tol2, floor, least, moved):
    """`turn_pair` of (a, x), (a, y), (b, x) and (b, y)."""
    scales = (D[p], D[p + 1], D[q], D[q + 1])
    squares, products = tile_dots(A, p, q, m)
    active = tile_changes(squares, products, scales, tol2, least)
    if any_true(active):
        change, rotations, scales = tile_rotations(squares, products, scales, active, tol2, floor, least)
        moved = moved | change
        finish_tile(A, V, D, p, q, rotations, scales, m, k)
    return moved


def tile_dots(A, p, q, m):
    """The squares of a, b, x, y as they are written, and the products x^H a, y^H a, b^H a, b^H x, b^H y, y^H x."""
    P, Q = p * m, q * m
    a, b, x, y = A[P], A[P + m], A[Q], A[Q + m]
    aa, bb, xx, yy = abs2(a), abs2(b), abs2(x), abs2(y)
    xa, ya, ba, bx, by, yx = conj(x) * a, conj(y) * a, conj(b) * a, conj(b) * x, conj(b) * y, conj(y) * x
    for i in range(1, m):
        a, b, x, y = A[P + i], A[P + m + i], A[Q + i], A[Q + m + i]
        aa, bb, xx, yy = aa + abs2(a), bb + abs2(b), xx + abs2(x), yy + abs2(y)
        xa, ya, ba = plus_product(xa, conj(x), a), plus_product(ya, conj(y), a), plus_product(ba, conj(b), a)
        bx, by, yx = plus_product(bx, conj(b), x), plus_product(by, conj(b), y), plus_product(yx, conj(y), x)
    return (total(aa), total(bb), total(xx), total(yy)), (
        total(xa), total(ya), total(ba), total(bx), total(by), total(yx),
    )  # fmt: skip


def tile_changes(squares, products, scales, tol2, least):
    """The lanes in which a pair needs a rotation or an exchange; `squares` are not below those of true columns."""
    aa, bb, xx, yy = primal(squares[0]), primal(squares[1]), primal(squares[2]), primal(squares[3])
    da, db, dx, dy = primal(scales[0]), primal(scales[1]), primal(scales[2]), primal(scales[3])
    xa, ya, _, bx, by, _ = products
    shorter, longer = minimum(aa * da, bb * db), maximum(xx * dx, yy * dy)
    aa, bb, xx, yy = tol2 * (aa + least), tol2 * (bb + least), xx + least, yy + least
    upper = (abs2(primal(xa)) > aa * xx) | (abs2(primal(ya)) > aa * yy)
    return upper | (abs2(primal(bx)) > bb * xx) | (abs2(primal(by)) > bb * yy) | (shorter < longer)


def tile_rotations(squares, products, scales, active, tol2, floor, least):
    """In active lanes: whether anything moves, the rotations as (swap, right, left), and the new scales."""
    da, db, dx, dy = scales
    aa, bb, xx, yy = squares[0] * da, squares[1] * db, squares[2] * dx, squares[3] * dy
    xa, ya, ba, bx, by, yx = products
    change, s1, r1, l1, aa, xx, da, dx = pair_rotation(aa, xx, conj(xa), da, dx, active, tol2, floor, least)
    ya, yx = turned(ya, yx, s1, r1, l1)
    ba, bx = turned(ba, bx, s1, r1, l1)
    moved, s2, r2, l2, aa, yy, da, dy = pair_rotation(aa, yy, conj(ya), da, dy, active, tol2, floor, least)
    change = change | moved
    ba, by = turned(ba, by, s2, r2, l2)
    _, xy = turned(like(xa, 0.0), conj(yx), s2, r2, l2)  # x^H a = 0 since the first
    moved, s3, r3, l3, bb, xx, db, dx = pair_rotation(bb, xx, bx, db, dx, active, tol2, floor, least)
    change = change | moved
    yb, _ = turned(conj(by), conj(xy), s3, r3, l3)
    moved, s4, r4, l4, bb, yy, db, dy = pair_rotation(bb, yy, conj(yb), db, dy, active, tol2, floor, least)
    return change | moved, ((s1, r1, l1), (s2, r2, l2), (s3, r3, l3), (s4, r4, l4)), (da, db, dx, dy)


def finish_tile(A, V, D, p, q, rotations, scales, m, k):
    """The rotations of a tile in A and V, and its scales."""
    rotate_tile(A, p, q, rotations, m)
    rotate_tile(V, p, q, rotations, k)
    D[p], D[p + 1], D[q], D[q + 1] = scales


def rotate_tile(A, p, q, rotations, m):
    """The rotations of (a, x), (a, y), (b, x) and (b, y)."""
    P, Q = p * m, q * m
    (s1, r1, l1), (s2, r2, l2), (s3, r3, l3), (s4, r4, l4) = rotations
    if any_true(s1 | s2 | s3 | s4):
        for i in range(m):
            a, b, x, y = A[P + i], A[P + m + i], A[Q + i], A[Q + m + i]
            a, x = turned(a, x, s1, r1, l1)
            a, y = turned(a, y, s2, r2, l2)
            b, x = turned(b, x, s3, r3, l3)
            b, y = turned(b, y, s4, r4, l4)
            A[P + i], A[P + m + i], A[Q + i], A[Q + m + i] = a, b, x, y
    else:
        for i in range(m):
            a, b, x, y = A[P + i], A[P + m + i], A[Q + i], A[Q + m + i]
            a, x = sheared(a, x, r1, l1)
            a, y = sheared(a, y, r2, l2)
            b, x = sheared(b, x, r3, l3)
            b, y = sheared(b, y, r4, l4)
            A[P + i], A[P + m + i], A[Q + i], A[Q + m + i] = a, b, x, y


# ---- the same, several tiles at a time
#
# Tiles with equal p + q, a front, share no column, and the fronts follow each other as the tiles of a row by row sweep
# must: each after all that share a column with it and come before. So `width` rows of tiles are taken together, front
# after front, and the angles of a front are found at once, a tile a lane. The rotations are those of `sweep`, to the
# bit where a pack finds an angle as a number does (`protocol.over_root`), else to rounding. What is gained is that a
# processor need not wait for one angle before it begins with the next, and that a column is fetched once for `width`
# tiles.


def converge_in_fronts(A, V, D, R, C, info, m, k, n, rows, limit, width):
    """`converge` for one matrix of n columns, an even number, of m numbers or `rows` rows. D, R and C are scratch: n
    reals, 9 reals of `width` lanes, and 8 numbers of so many."""
    zero = like(D[0], 0.0)
    tol2 = like(zero, squared_tolerance(eps_of(zero), rows))
    floor = like(zero, SMOOTH) * size2(A, m * n)
    info[0], info[1] = zero, zero
    begin_scales(D, n)
    going, sweeps = True, 0
    while going and sweeps < limit:
        going = any_true(sweep_in_fronts(A, V, D, R, C, m, k, n, tol2, floor, width))
        sweeps += 1
        if going:
            info[0] = like(zero, sweeps)
    for p in range(n):
        write_scale(A, V, D, p, zero <= zero, m, k)
    if going:
        info[1] = largest_cosine(A, m, n)


def sweep_in_fronts(A, V, D, R, C, m, k, n, tol2, floor, width):
    """One sweep over all pairs. Returns whether anything changed."""
    least, moved, half = like(floor, flush(eps_of(floor))), floor < floor, n // 2
    for first in range(0, half, width):
        last = min(first + width, half)
        for front in range(2 * first, last + half - 1):
            if front % 2 == 0 and front < 2 * last:
                moved = turn_pair(A, V, D, front, front + 1, m, k, tol2, floor, least, moved)
                write_small_scales(A, V, D, front, front + 1, 1, LEAST_SCALE, m, k)
            low, high = max(first, front - half + 1), min(last, (front + 1) // 2)
            if low < high:
                moved = turn_front(A, V, D, R, C, low, high, front, m, k, tol2, floor, least, moved)
    return moved


def turn_front(A, V, D, R, C, low, high, front, m, k, tol2, floor, least, moved):
    """`turn_tile` for columns 2 i and 2 (front - i), low <= i < high."""
    zero, one = like(R[0], 0.0), like(R[0], 1.0)
    for j in range(4):
        R[j], R[4 + j] = zero, one
    for j in range(6):
        C[j] = like(C[0], 0.0)
    for i in range(low, high):
        gather(A, D, R, C, 2 * i, 2 * (front - i), i - low, m)
    squares, scales = (R[0], R[1], R[2], R[3]), (R[4], R[5], R[6], R[7])
    products = (C[0], C[1], C[2], C[3], C[4], C[5])
    active = tile_changes(squares, products, scales, tol2, least)
    if any_true(active):
        change, rotations, scales = tile_rotations(squares, products, scales, active, tol2, floor, least)
        (s0, C[0], C[1]), (s1, C[2], C[3]), (s2, C[4], C[5]), (s3, C[6], C[7]) = rotations
        R[0], R[1], R[2], R[3] = where(s0, one, zero), where(s1, one, zero), where(s2, one, zero), where(s3, one, zero)
        R[4], R[5], R[6], R[7] = scales
        R[8] = where(change, one, zero)
        for i in range(low, high):
            if any_true(lane(R, 8, i - low) > like(floor, 0.0)):
                moved = floor <= floor
                turn_one(A, V, D, R, C, 2 * i, 2 * (front - i), i - low, m, k)
                write_small_scales(A, V, D, 2 * i, 2 * (front - i), 2, LEAST_SCALE, m, k)
    return moved


def gather(A, D, R, C, p, q, i, m):
    """The products and scales of a tile, to lane i."""
    (aa, bb, xx, yy), (xa, ya, ba, bx, by, yx) = tile_dots(A, p, q, m)
    set_lane(C, 0, i, xa)
    set_lane(C, 1, i, ya)
    set_lane(C, 2, i, ba)
    set_lane(C, 3, i, bx)
    set_lane(C, 4, i, by)
    set_lane(C, 5, i, yx)
    for j in range(2):
        set_lane(R, 4 + j, i, D[p + j])
        set_lane(R, 6 + j, i, D[q + j])
    set_lane(R, 0, i, aa)
    set_lane(R, 1, i, bb)
    set_lane(R, 2, i, xx)
    set_lane(R, 3, i, yy)


def turn_one(A, V, D, R, C, p, q, i, m, k):
    """The rotations of the tile in lane i."""
    half = like(D[p], 0.5)
    rotations = (
        (lane(R, 0, i) > half, lane(C, 0, i), lane(C, 1, i)),
        (lane(R, 1, i) > half, lane(C, 2, i), lane(C, 3, i)),
        (lane(R, 2, i) > half, lane(C, 4, i), lane(C, 5, i)),
        (lane(R, 3, i) > half, lane(C, 6, i), lane(C, 7, i)),
    )
    scales = (lane(R, 4, i), lane(R, 5, i), lane(R, 6, i), lane(R, 7, i))
    finish_tile(A, V, D, p, q, rotations, scales, m, k)


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


def svd(A, V, S, info, m, k, n, limit):
    """A = U S V^H: A becomes U, and V, the identity on entry, the right singular vectors as columns of k = n rows; or,
    with k = 0, S alone."""
    converge(A, V, S, info, m, k, n, limit)
    normalise(A, S, m, n)
    if k and any_true(S[n - 1] <= like(S[n - 1], 0.0)):
        complete(A, m, n)


def normalise(A, S, m, n):
    """S = norms of the columns, which become unit columns; a vanished column becomes exactly zero."""
    zero = like(real(total(A[0])), 0.0)
    one, least = like(zero, 1.0), like(zero, flush(eps_of(zero)))
    for p in range(n):
        alpha = norm2(A, p, m)
        alive = alpha > least
        s, over_s = root(where(alive, alpha, one))
        S[p] = where(alive, s, zero)
        if p > 0:
            S[p] = minimum(S[p], S[p - 1])  # equal norms may round apart
        scale_column(A, p, where(alive, over_s, zero), m)


def scale_column(A, p, factor, m):
    """Column p times a number."""
    for i in range(p * m, p * m + m):
        A[i] = A[i] * factor


def exchange_columns(A, p, q, m):
    """Columns p and q change places."""
    for i in range(m):
        A[p * m + i], A[q * m + i] = A[q * m + i], A[p * m + i]


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
