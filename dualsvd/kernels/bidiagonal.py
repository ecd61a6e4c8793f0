"""SVDs by way of a bidiagonal matrix, over the scalar protocol.

Two steps, for the values of larger matrices, a matrix a lane, and for the factors of single ones, a row a lane. Errors
are some eps of s_1, growing like sqrt(m + n):

    step 1  reduce       H_n ... H_1 A G_1 ... G_(n-1) = B, real, with diagonal d and superdiagonal e
    step 2  diagonalise  QR sweeps on B until e vanishes

Step 1 takes 4 n^3 / 3 multiply-adds, less than a sweep of Jacobi does, and step 2 some 4 n^2 rotations (Golub and Kahan
1965; Golub and Reinsch 1970). Two reflectors a step would pass four times over what is left of A. Here the second one
waits: it is subtracted together with the first of the next step, and the products that tell the one after that are
summed in the same pass (Howell, Demmel, Fulton, Hammarling and Marmol 2008). A step reads A twice and writes it once.

A sweep begins, in each lane, where its lowest block that is not diagonal yet begins, and dies where that ends: beside
a zero the rotation is the identity. So every lane goes through the same loop, and a lane that is done stays as it is.

Factors are the reflectors applied to the rotations: B = Y S X^T, and A = (H_1 H_2 ... Y) S (G_1 G_2 ... X)^H, which
`householder.expand` multiplies out.

Buffers as in `householder`: columns one after the other, M numbers each, m >= n; scaled as in `jacobi`, so that the
square of a bulge that counts does not underflow. E[j] stands above D[j]; E[0] = E[n] = 0.
"""

from __future__ import annotations

from .householder import TOGETHER, annihilate
from .jacobi import exchange_columns, rotate, scale_column
from .protocol import (
    absolute,
    any_true,
    conj,
    entry,
    eps_of,
    like,
    maximum,
    minimum,
    minus_product,
    over_root_of,
    plus_product,
    set_entry,
    sqrt,
    tiny_of,
    total,
    where,
)

#: Numbers of B below so many eps of its largest are nothing. A shift is known to an eps or two, and so a sweep leaves
#: as much between equal values.
NOTHING = 4.0

#: Sweeps for each value after which more and more is nothing: 2 are usual, 3 the most that was seen without that.
PATIENCE = 3.0


# ---- step 1: reduce


def reduce(A, U, V, D, E, tau, upsilon, w, y, z, p, M, n, N, width, keep):
    """A to B; A is overwritten. Scratch: w and y of M numbers, z and p of n.

    Reflector k from the left goes to column k of U, with tau[k]; k from the right, with row k - 1, to column k of V,
    with upsilon[k]. If they are not to be kept, one column serves all. What is left of the matrix is A - w p^T, for the
    last reflector from the right is put off.
    """
    nothing = like(A[0], 0.0)
    for i in range(M):
        w[i] = nothing
    for i in range(N):
        V[i] = nothing
    for j in range(n):
        p[j] = like(z[0], 0.0)
    upsilon[0], E[0], E[n] = like(z[0], 0.0), like(D[0], 0.0), like(D[0], 0.0)
    for k in range(n):
        P, Q, first = keep * k * M, keep * (k + 1) * N, k // width
        for i in range(first, M):
            U[P + i] = minus_product(A[k * M + i], w[i], p[k])
        D[k], tau[k] = annihilate(U, P, k, M, width)
        if k + 1 < n:
            products(A, U, P, z, k, first, M, n)
            overlap = conj(U[P + first]) * w[first]
            for i in range(first + 1, M):
                overlap = plus_product(overlap, conj(U[P + i]), w[i])
            overlap, x, s = total(overlap), entry(w, 0, k), entry(U, P, k)
            V[Q + N - 1] = nothing  # of its rows some may not be there
            for j in range(k + 1, n):
                z[j] = minus_product(z[j], overlap, p[j]) * tau[k]
                row = minus_product(minus_product(entry(A, j * M, k), x, p[j]), s, z[j])
                set_entry(V, Q, j, conj(row))
            E[k + 1], upsilon[k + 1] = annihilate(V, Q, k + 1, N, width)
            advance(A, U, P, w, y, V, Q, z, p, k + 1, (k + 1) // width, M, n)
            for i in range((k + 1) // width, M):
                w[i] = y[i] * conj(upsilon[k + 1])
            for j in range(k + 1, n):
                p[j] = conj(entry(V, Q, j))


def products(A, U, P, z, k, first, M, n):
    """z_j = u^H a_j for j > k, from number `first` on."""
    whole = n - (n - k - 1) % TOGETHER
    for j in range(k + 1, whole, TOGETHER):
        a, b, c, d, x = j * M, (j + 1) * M, (j + 2) * M, (j + 3) * M, conj(U[P + first])
        f, g, h, t = x * A[a + first], x * A[b + first], x * A[c + first], x * A[d + first]
        for i in range(first + 1, M):
            x = conj(U[P + i])
            f, g = plus_product(f, x, A[a + i]), plus_product(g, x, A[b + i])
            h, t = plus_product(h, x, A[c + i]), plus_product(t, x, A[d + i])
        z[j], z[j + 1], z[j + 2], z[j + 3] = total(f), total(g), total(h), total(t)
    for j in range(whole, n):
        f = conj(U[P + first]) * A[j * M + first]
        for i in range(first + 1, M):
            f = plus_product(f, conj(U[P + i]), A[j * M + i])
        z[j] = total(f)


def advance(A, U, P, w, y, V, Q, z, p, k, first, M, n):
    """A - w p^T - u z^T in place of A, and y = A v of that, from column k and number `first` of each on."""
    for i in range(first, M):
        y[i] = like(y[i], 0.0)
    whole = n - (n - k) % TOGETHER
    for j in range(k, whole, TOGETHER):
        a, b, c, d = j * M, (j + 1) * M, (j + 2) * M, (j + 3) * M
        p0, p1, p2, p3 = p[j], p[j + 1], p[j + 2], p[j + 3]
        z0, z1, z2, z3 = z[j], z[j + 1], z[j + 2], z[j + 3]
        v0, v1, v2, v3 = entry(V, Q, j), entry(V, Q, j + 1), entry(V, Q, j + 2), entry(V, Q, j + 3)
        for i in range(first, M):
            s, t = w[i], U[P + i]
            f = minus_product(minus_product(A[a + i], s, p0), t, z0)
            g = minus_product(minus_product(A[b + i], s, p1), t, z1)
            h = minus_product(minus_product(A[c + i], s, p2), t, z2)
            r = minus_product(minus_product(A[d + i], s, p3), t, z3)
            A[a + i], A[b + i], A[c + i], A[d + i] = f, g, h, r
            y[i] = plus_product(plus_product(plus_product(plus_product(y[i], f, v0), g, v1), h, v2), r, v3)
    for j in range(whole, n):
        for i in range(first, M):
            f = minus_product(minus_product(A[j * M + i], w[i], p[j]), U[P + i], z[j])
            A[j * M + i] = f
            y[i] = plus_product(y[i], f, entry(V, Q, j))


# ---- step 2: diagonalise


def diagonalise(D, E, X, Y, info, N, n, limit):
    """The singular values of B, descending, in D. The columns of X and Y, N numbers each, are multiplied by the vectors
    from the right and from the left. N = 0: by none, and all lanes go at once.

    info[0]: the sweeps that a lane took, `limit` if they did not do; info[1]: the square of the largest of E over the
    largest number of B, if a lane's did not.
    """
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
            clear_rows(D, E, Y, nothing, N, last)
        busy, begin, f, g = lowest_block(D, E, last)
        while last > 1 and not any_true(absolute(E[last - 1]) > zero):
            last -= 1
        if last > 1:
            info[0] = info[0] + where(busy, one, zero)
            chase(D, E, X, Y, begin, f, g, N, last)
            sweeps += 1
    if last > 1:
        left = zero
        for j in range(1, last):
            left = maximum(left, absolute(E[j]))
        left = left / where(largest > zero, largest, one)
        info[1] = left * left
    if N:
        arrange(D, X, Y, N, n)
    else:
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


def clear_rows(D, E, Y, tolerance, N, last):
    """Rotate rows with nothing on the diagonal with those below until nothing is beside it either (Golub and Kahan).

    One row at a time: where another has nothing on the diagonal it takes in x, of which more than nothing is left. So
    `row` is the one that x belongs to, where there is one lane, which alone has columns to turn.
    """
    none = like(tolerance, 0.0)
    x, row = none, 0
    for j in range(last - 1):
        hole = (absolute(D[j]) <= tolerance) & (absolute(E[j + 1]) > none)
        if any_true(hole):
            row = j
        x, E[j + 1], D[j] = where(hole, E[j + 1], x), where(hole, none, E[j + 1]), where(hole, none, D[j])
        x = where(absolute(x) > tolerance, x, none)  # so that a row that takes in another is none without a diagonal
        D[j + 1], c, s, _, _, x, E[j + 2] = annul(D[j + 1], x, none, none, E[j + 2])
        x = -x
        if N:
            rotate(Y, j + 1, row, c, s, N)


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


def chase(D, E, X, Y, begin, f, g, N, last):
    """One sweep, of each lane from its `begin` on; f, g tell the first rotation.

    Each root waits for the one before, and for little else: the next pair is had from products with the pair itself,
    and multiplied by the root's inverse. While it waits, there is time to turn columns.
    """
    none, first = like(f, 0.0), 0
    while N and not any_true(begin <= like(begin, first)):
        first += 1
    x = y = c = s = none
    for j in range(first, last - 1):
        here = (begin <= like(f, j)) & (begin >= like(f, j))
        h, cos, sin, x, above, y, below = annul(where(here, f, x), where(here, g, y), D[j], E[j + 1], D[j + 1])
        if N and j > first:
            rotate(Y, j - 1, j, c, s, N)
        E[j] = where(here, none, h)
        D[j], c, s, x, D[j + 1], y, E[j + 2] = annul(x, y, above, below, E[j + 2])
        if N:
            rotate(X, j, j + 1, cos, sin, N)
    if N:
        rotate(Y, last - 2, last - 1, c, s, N)
    E[last - 1] = x


def annul(x, y, a, b, z):
    """What x becomes by the rotation that leaves nothing of y beside it; its cosine and sine; and what it makes of a
    and b, and of nothing and z, that stand beside these. Exactly the identity where y is nothing."""
    square, none = y * y, like(x, 0.0)
    alive, whole = square > like(x, tiny_of(x)), (x * x + like(x, 2 * eps_of(x) * tiny_of(x))) + square  # not zero
    h, c, s, p, q, r = over_root_of(whole, (whole, x, y, x * a + y * b, x * b - y * a, y * z))
    return (
        where(alive, h, x),
        where(alive, c, like(x, 1.0)),
        where(alive, s, none),
        where(alive, p, a),
        where(alive, q, b),
        where(alive, r, none),
        where(alive, c * z, z),
    )


def arrange(D, X, Y, N, n):
    """Moduli in descending order, with their columns of X and Y."""
    for p in range(n):
        if any_true(D[p] < like(D[p], 0.0)):
            scale_column(Y, p, like(D[p], -1.0), N)
        D[p] = absolute(D[p]) + like(D[p], 0.0)  # no -0.0
    for p in range(n - 1):
        best = p
        for q in range(p + 1, n):
            if any_true(D[q] > D[best]):
                best = q
        if best > p:
            D[p], D[best] = D[best], D[p]
            exchange_columns(X, p, best, N)
            exchange_columns(Y, p, best, N)


def descending(S, n):
    """Moduli in order."""
    for p in range(n):
        S[p] = absolute(S[p]) + like(S[p], 0.0)  # no -0.0
    for p in range(n - 1):
        for q in range(p + 1, n):
            S[p], S[q] = maximum(S[p], S[q]), minimum(S[p], S[q])
