"""Singular values alone, by way of a bidiagonal matrix, over the scalar protocol.

Two steps, for the values of larger matrices; their errors are some eps of s_1, growing like sqrt(m + n):

    step 1  reduce       H_n ... H_1 A G_1 ... G_(n-1) = B, real, with diagonal d and superdiagonal e
    step 2  diagonalise  QR sweeps on B until e vanishes

Step 1 takes 4 n^3 / 3 multiply-adds, less than a sweep of Jacobi does, and step 2 some 4 n^2 rotations (Golub and Kahan
1965; Golub and Reinsch 1970). Two reflectors a step would pass four times over what is left of A. Here the second one
waits: it is subtracted together with the first of the next step, and the products that tell the one after that are
summed in the same pass (Howell, Demmel, Fulton, Hammarling and Marmol 2008). A step reads A twice and writes it once.

A sweep begins, in each lane, where its lowest block that is not diagonal yet begins, and dies where that ends: beside
a zero the rotation is the identity. So every lane goes through the same loop, and a lane that is done stays as it is.

Buffers as in `jacobi`: A[p * m + i], m >= n, scaled as there, so that the square of a bulge that counts does not
underflow. E[j] stands above D[j]; E[0] = E[n] = 0.
"""

from __future__ import annotations

from .householder import TOGETHER, elimination
from .protocol import (
    abs2,
    absolute,
    any_true,
    conj,
    eps_of,
    like,
    maximum,
    minimum,
    minus_product,
    plus_product,
    real,
    root,
    sqrt,
    tiny_of,
    where,
)

#: Numbers of B below so many eps of its largest are nothing. A shift is known to an eps or two, and so a sweep leaves
#: as much between equal values.
NOTHING = 4.0

#: Sweeps for each value after which more and more is nothing: 2 are usual, 3 the most that was seen without that.
PATIENCE = 3.0


# ---- step 1: reduce


def reduce(A, D, E, u, w, y, v, z, p, m, n):
    """A to B; A is overwritten. Scratch: u, w and y of m numbers, v, z and p of n.

    What is left of the matrix is A - w p^T, for the last reflector from the right is put off.
    """
    nothing = like(A[0], 0.0)
    for i in range(m):
        w[i] = nothing
    for j in range(n):
        p[j] = nothing
    E[0], E[n] = real(nothing), real(nothing)
    for k in range(n):
        for i in range(k, m):
            u[i] = minus_product(A[k * m + i], w[i], p[k])
        D[k], tau = reflector(u, k, m)
        if k + 1 < n:
            products(A, u, z, k, m, n)
            overlap = conj(u[k]) * w[k]
            for i in range(k + 1, m):
                overlap = plus_product(overlap, conj(u[i]), w[i])
            for j in range(k + 1, n):
                z[j] = minus_product(z[j], overlap, p[j]) * tau
                v[j] = conj(minus_product(minus_product(A[j * m + k], w[k], p[j]), u[k], z[j]))
            E[k + 1], tau = reflector(v, k + 1, n)
            advance(A, u, w, y, v, z, p, k + 1, m, n)
            for i in range(k + 1, m):
                w[i] = y[i] * conj(tau)
            for j in range(k + 1, n):
                p[j] = conj(v[j])


def reflector(x, k, m):
    """The w of `elimination` in place of x, from number k on; beta and tau, which are 0 where x is."""
    square = abs2(x[k])
    for i in range(k + 1, m):
        square = square + abs2(x[i])
    none, alive = like(x[k], 0.0), square > like(square, tiny_of(square))
    beta, tau = elimination(x[k], where(alive, square, like(square, 1.0)))
    x[k] = x[k] - beta
    return where(alive, beta, real(none)), where(alive, tau, none)


def products(A, u, z, k, m, n):
    """z_j = u^H a_j for j > k, from row k on."""
    whole = n - (n - k - 1) % TOGETHER
    for j in range(k + 1, whole, TOGETHER):
        a, b, c, d, x = j * m, (j + 1) * m, (j + 2) * m, (j + 3) * m, conj(u[k])
        f, g, h, t = x * A[a + k], x * A[b + k], x * A[c + k], x * A[d + k]
        for i in range(k + 1, m):
            x = conj(u[i])
            f, g = plus_product(f, x, A[a + i]), plus_product(g, x, A[b + i])
            h, t = plus_product(h, x, A[c + i]), plus_product(t, x, A[d + i])
        z[j], z[j + 1], z[j + 2], z[j + 3] = f, g, h, t
    for j in range(whole, n):
        f = conj(u[k]) * A[j * m + k]
        for i in range(k + 1, m):
            f = plus_product(f, conj(u[i]), A[j * m + i])
        z[j] = f


def advance(A, u, w, y, v, z, p, k, m, n):
    """A - w p^T - u z^T in place of A, and y = A v of that, from row and column k on."""
    for i in range(k, m):
        y[i] = like(y[i], 0.0)
    whole = n - (n - k) % TOGETHER
    for j in range(k, whole, TOGETHER):
        a, b, c, d = j * m, (j + 1) * m, (j + 2) * m, (j + 3) * m
        p0, p1, p2, p3 = p[j], p[j + 1], p[j + 2], p[j + 3]
        z0, z1, z2, z3 = z[j], z[j + 1], z[j + 2], z[j + 3]
        v0, v1, v2, v3 = v[j], v[j + 1], v[j + 2], v[j + 3]
        for i in range(k, m):
            s, t = w[i], u[i]
            f = minus_product(minus_product(A[a + i], s, p0), t, z0)
            g = minus_product(minus_product(A[b + i], s, p1), t, z1)
            h = minus_product(minus_product(A[c + i], s, p2), t, z2)
            r = minus_product(minus_product(A[d + i], s, p3), t, z3)
            A[a + i], A[b + i], A[c + i], A[d + i] = f, g, h, r
            y[i] = plus_product(plus_product(plus_product(plus_product(y[i], f, v0), g, v1), h, v2), r, v3)
    for j in range(whole, n):
        for i in range(k, m):
            f = minus_product(minus_product(A[j * m + i], w[i], p[j]), u[i], z[j])
            A[j * m + i] = f
            y[i] = plus_product(y[i], f, v[j])


# ---- step 2: diagonalise


def diagonalise(D, E, info, n, limit):
    """The singular values of B, descending, in D. info[0]: the sweeps that a lane took, `limit` if they did not do;
    info[1]: the square of the largest of E over the largest number of B, if a lane's did not."""
    zero = like(D[0], 0.0)
    one = like(zero, 1.0)
    largest = absolute(D[0])
    for j in range(1, n):
        largest = maximum(largest, maximum(absolute(D[j]), absolute(E[j])))
    tolerance = largest * like(zero, NOTHING * eps_of(zero))
    info[0], info[1] = zero, zero
    last, sweeps = n, 0
    while last > 1 and sweeps < limit:
        nothing = tolerance * maximum(one, info[0] * like(zero, 1.0 / n) - like(zero, PATIENCE - 1.0))
        holes = settle(D, E, nothing, last)
        if any_true(holes):
            clear_rows(D, E, nothing, last)
        busy, begin, f, g = lowest_block(D, E, last)
        while last > 1 and not any_true(absolute(E[last - 1]) > zero):
            last -= 1
        if last > 1:
            info[0] = info[0] + where(busy, one, zero)
            chase(D, E, begin, f, g, last)
            sweeps += 1
    if last > 1:
        left = zero
        for j in range(1, last):
            left = maximum(left, absolute(E[j]))
        left = left / where(largest > zero, largest, one)
        info[1] = left * left
    descending(D, n)


def settle(D, E, tolerance, last):
    """Zeros in place of what is negligible. Returns the mask of lanes in which a row has nothing on the diagonal, but
    beside it."""
    zero = like(tolerance, 0.0)
    holes = zero > zero
    for j in range(1, last):
        coupled, hole = absolute(E[j]) > tolerance, absolute(D[j - 1]) <= tolerance
        E[j] = where(coupled, E[j], zero)
        holes = holes | (coupled & hole)
    return holes


def clear_rows(D, E, tolerance, last):
    """Rotate rows with nothing on the diagonal with those below until nothing is beside it either (Golub and Kahan)."""
    none = like(tolerance, 0.0)
    x = none
    for j in range(last - 1):
        hole = (absolute(D[j]) <= tolerance) & (absolute(E[j + 1]) > none)
        x, E[j + 1], D[j] = where(hole, E[j + 1], x), where(hole, none, E[j + 1]), where(hole, none, D[j])
        x = where(absolute(x) > tolerance, x, none)  # so that a row that takes in another is none without a diagonal
        c, s = turn(D[j + 1], x)
        D[j + 1] = c * D[j + 1] + s * x
        x, E[j + 2] = -(s * E[j + 2]), c * E[j + 2]


def lowest_block(D, E, last):
    """Whether anything is left of E; where the lowest block with some begins, and the first column that a sweep is to
    rotate, d^2 - shift^2 and d e, over d. The shift is that singular value of the last two rows and columns which is
    nearer to the last: the smaller one alone, where the larger number is the last, may stand still."""
    zero = like(D[0], 0.0)
    one, two, before = like(zero, 1.0), like(zero, 2.0), zero > zero
    busy, begin, d, e, upper, above, lower = before, zero, one, zero, zero, one, zero
    for j in range(1, last):
        x, y, z = D[j - 1], E[j], D[j]
        coupled = absolute(y) > zero
        begin = where(coupled, where(before, begin, like(zero, j - 1)), begin)
        d, e = where(coupled, where(before, d, x), d), where(coupled, where(before, e, y), e)
        upper, above, lower = where(coupled, x, upper), where(coupled, y, above), where(coupled, z, lower)
        before, busy = coupled, busy | coupled
    upper, lower, square = absolute(upper), absolute(lower), above * above
    both, difference = upper + lower, upper - lower
    span = sqrt(both * both + square) + sqrt(difference * difference + square)  # twice the larger value
    shift = where(lower > upper, span / two, two * upper * lower / span)
    return busy, begin, (d - shift) * (d + shift) / d, e


def chase(D, E, begin, f, g, last):
    """One sweep, of each lane from its `begin` on; f, g tell the first rotation."""
    x = like(f, 0.0)
    y = x
    for j in range(last - 1):
        here = (begin <= like(f, j)) & (begin >= like(f, j))
        c, s = turn(where(here, f, x), where(here, g, y))
        E[j] = c * x + s * y
        d, e, below = D[j], E[j + 1], D[j + 1]
        x, above, y, below = c * d + s * e, c * e - s * d, s * below, c * below
        c, s = turn(x, y)
        D[j], D[j + 1] = c * x + s * y, c * below - s * above
        x, y = c * above + s * below, s * E[j + 2]
        E[j + 2] = c * E[j + 2]
    E[last - 1] = x


def turn(x, y):
    """Cosine and sine of the rotation that leaves nothing of y beside x; exactly 1 and 0 where y is nothing."""
    one, square = like(x, 1.0), y * y
    alive = square > like(x, tiny_of(x))
    _, over = root(where(alive, x * x + square, one))
    return where(alive, x * over, one), where(alive, y * over, like(x, 0.0))


def descending(S, n):
    """Moduli in order."""
    for p in range(n):
        S[p] = absolute(S[p]) + like(S[p], 0.0)  # no -0.0
    for p in range(n - 1):
        for q in range(p + 1, n):
            S[p], S[q] = maximum(S[p], S[q]), minimum(S[p], S[q])
