"""Derivatives of the Jacobi SVD: what its factors still owe their tangents once the values have converged.

Steps 2 to 4 of `jacobi`, on duals of any order, and on plain numbers with directions beside them (step 2):

    step 2  adapt        at ties, turn the basis to the directions (Khan and Barton 2015: lexicographic derivatives)
    step 3  settle       tangent sweeps: whatever rotation the tangents are still owed, an infinitesimal one
    step 4  finish       values and columns with their tangents; completion of U where columns vanish

Why step 3 is unconditional: where the primal needs no rotation (diag(3, 2, 1) in a dense direction) its tangent still
does. One sweep from the converged primal is exact: with g = a_p^H a_q = 0 a pair is owed dtheta = dg / (|a_p|^2 -
|a_q|^2), and giving it changes no other dg to first order. `order(x)` sweeps serve nested duals, for the order of what
is left doubles with each.

`follow` takes duals that rode along through the sweeps, `lift` a finished primal SVD and the matrix with its tangents.
Buffers and sizes are those of `jacobi`.
"""

from __future__ import annotations

from .jacobi import (
    MAX_SWEEPS,
    TIE,
    complete,
    dots,
    inner,
    norm2,
    normalise,
    project_out,
    rotate,
    rotation,
    scale_column,
    squared_tolerance,
    tie_tolerance,
)
from .protocol import (
    abs2,
    absolute,
    any_true,
    conj,
    eps_of,
    infadd,
    infdiv,
    infsub,
    like,
    maximum,
    order,
    primal,
    real,
    sqrt,
    squelch,
    total,
    where,
)

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
    zeros = n
    for p in range(n - 1, -1, -1):
        group[p] = p
        if any_true(S[p] <= tie):
            zeros = p
    for p in range(1, n):
        if p != zeros and any_true(S[p - 1] - S[p] <= tie):
            group[p] = group[p - 1]
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

    A tied pair is not turned: the basis was settled by an earlier direction. Its two columns are only made orthogonal
    to first order, symmetrically, by u.
    """
    for p in range(n - 1):
        for q in range(p + 1, n):
            settle_pair(A, V, S0, p, q, m, n, tie)


def settle_pair(A, V, S0, p, q, m, n, tie):
    """One pair of the tangent sweep; values that are no farther apart than the tie are tied."""
    t, u = owed(inner(A, p, A, q, m), S0[p], S0[q], tie)
    shear(A, p, q, conj(t - u), t + u, m)
    shear(V, p, q, conj(t), t, n)


def owed(g, sp, sq, tie):
    """The t and u of a pair with the inner product g."""
    one, gap, sum = like(tie, 1.0), sp - sq, sp + sq
    apart, tied = gap > tie, (gap <= tie) & (sq > tie)
    # in two steps: a product of small values would underflow
    t = infdiv(g, gap, apart) / where(apart, sum, one)
    return t, infdiv(g, sum, tied) / where(tied, sq, one)


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
            # the mask is false everywhere: the primal of g is noise, and goes
            c, s = rotation(alpha, beta, squelch(S0[p] < S0[q], g), floor)
            rotate(A, p, q, c, s, m)
            rotate(V, p, q, c, s, n)


# ---- the dual SVD: steps 2 to 4 after the primal


def follow(A, V, S, U0, S0, m, n, phases):
    """Steps 3 and 4 on duals: A, which holds A V and whose primal is U_0 S_0, becomes U, and S the values."""
    follow_at_tie(A, V, S, U0, S0, m, n, S0[0] * like(S0[0], tie_tolerance(eps_of(S0[0]), n)), phases)


def follow_at_tie(A, V, S, U0, S0, m, n, tie, phases):
    """The same with the tie given, which `lift`'s callers know already.

    `phases` (for complex numbers) brings the result to the symmetric gauge, Im(u^H du + v^H dv) = 0.
    """
    if order(A[0]) == 1:
        follow_first(A, V, S, U0, S0, m, n, tie, phases)
    else:
        follow_nested(A, V, S, U0, S0, m, n, tie, phases)


def follow_first(A, V, S, U0, S0, m, n, tie, phases):
    """`follow_at_tie` at first order: infinitesimal rotations."""
    slopes(A, S, U0, S0, m, n)
    settle(A, V, S0, m, n, tie)
    unit_columns(A, S, U0, S0, m, n, tie)
    if phases:
        balance_phases(A, V, m, n)


def follow_nested(A, V, S, U0, S0, m, n, tie, phases):
    """`follow_at_tie` at any order: whole rotations whose primal is the identity."""
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
    """First order: ds = Re u^H da, taken before the settling adds to da components along the other columns."""
    for p in range(n):
        S[p] = rebase(real(inner(U0, p, A, p, m)), S0[p])


def lengths(A, S, U0, S0, m, n, tie):
    """Any order: s = |a|; at zero Re u^H a for the constant u."""
    for p in range(n):
        alpha = norm2(A, p, m)
        alive = S0[p] > tie
        s = sqrt(where(alive, alpha, like(alpha, 1.0)))
        S[p] = rebase(where(alive, s, real(inner(U0, p, A, p, m))), S0[p])


def unit_columns(A, S, U0, S0, m, n, tie):
    """u = a / s. Where s = 0, u is constant but for what keeps it orthogonal to the others: parallel transport."""
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
    follow_at_tie(A, V, S, U0, S0, m, n, tie, phases)


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
