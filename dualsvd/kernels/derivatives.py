"""Closed-form pushforward and pullback of the thin SVD of small matrices, over the scalar protocol.

With M = U^H D V, Sy and Sk its Hermitian and skew-Hermitian parts, the derivative of A = U S V^H along D is

    ds_i = Re M_ii
    a_ij = Sy_ij / (s_j - s_i),  a_ii = 0                      singular only at a tie
    b_ij = Sk_ij / (s_j + s_i)                                 singular only if both are zero
    dU = U (a + b) + (D V - U M) / s,   dV = V (a - b)         the quotient by s only if m > n

and the pullback is the transpose of that map: with p = sk(U^H U_bar + V^H V_bar), q = sk(U^H U_bar - V^H V_bar),
sk(Z) = (Z - Z^H)/2,

    G_ij = p_ij / (s_j - s_i) + q_ij / (s_j + s_i) + delta_ij s_bar_i,
    A_bar = (U G + (U_bar - U U^H U_bar) / s) V^H.

(Townsend 2016; Wan and Zhang 2019 for complex phases; here split into 1/(s_j - s_i) and 1/(s_j + s_i), so that nothing
is squared.) The gauge is the symmetric one, Im(u_i^H du_i + v_i^H dv_i) = 0. Singular quotients count as 0, as in
`linalg.degeneracy`: the caller sees to it that the basis follows the direction there, or that the cotangent does not
ask. A value below the tie is noise and counts as zero, and so does the sum of two such values.

Buffers hold columns, as in `jacobi`; m >= n, a wide matrix comes as its conjugate transpose, with U and V exchanged.
"""

from __future__ import annotations

from .jacobi import inner, norm2, tie_tolerance
from .protocol import conj, eps_of, imag, inverse, like, plus_product, real, where


def coefficients(S, F, n):
    """F: 1/(s_j - s_i) above the diagonal (i < j), 0 at a tie; 1/(s_j + s_i) below and on it, 0 if both are zero."""
    zero = like(S[0], 0.0)
    tie = S[0] * like(zero, tie_tolerance(eps_of(zero), n))
    one = like(zero, 1.0)
    for j in range(n):
        for i in range(j):
            F[j * n + i], F[i * n + j] = reciprocals(S[i] - S[j], S[j] + S[i], S[i], tie, one)
        F[j * n + j] = reciprocals(one, S[j] + S[j], S[j], tie, one)[1]


def simple(S, n):
    """The mask of lanes without a tie or a zero."""
    tie = S[0] * like(S[0], tie_tolerance(eps_of(S[0]), n))
    mask = S[n - 1] > tie
    for j in range(1, n):
        mask = mask & (S[j - 1] - S[j] > tie)
    return mask


def reciprocals(gap, sum, larger, tie, one):
    """-1 / gap, 0 in a tie, and 1 / sum, 0 where the larger of the two values is a zero; by one quotient."""
    zero, apart, alive = one - one, gap > tie, larger > tie
    gap, sum = where(apart, gap, one), where(alive, sum, one)
    quotient = inverse(gap * sum)
    return where(apart, -(quotient * sum), zero), where(alive, quotient * gap, zero)


def pushforward(U, V, F, D, dU, dS, dV, X, Y, T, m, n):
    """dU, dS and dV along D, from the `coefficients` F. X, Y (n n) and T (m n) are scratch."""
    multiply(D, 1, m, False, V, 1, n, False, T, m, n, n, False)
    multiply(U, m, 1, True, T, 1, m, False, X, n, m, n, False)
    for i in range(n):
        dS[i] = real(X[i * n + i])
    tall = m > n
    generators(X, Y, F, n, tall)
    if tall:
        divide_columns(T, F, dU, m, n)
    multiply(U, 1, m, False, X, 1, n, False, dU, m, n, n, tall)
    multiply(V, 1, n, False, Y, 1, n, False, dV, n, n, n, False)


def slopes(U, V, D, dS, T, m, n):
    """dS alone, along D. T (m n) is scratch."""
    multiply(D, 1, m, False, V, 1, n, False, T, m, n, n, False)
    for i in range(n):
        dS[i] = real(inner(U, i, T, i, m))


def generators(X, Y, F, n, tall):
    """From M in X: a + b to X, less M / s if the residual (D V - U M) / s is still to come, and a - b to Y."""
    half, zero = like(F[0], 0.5), like(F[0], 0.0)
    for j in range(n):
        over_s = F[j * n + j] + F[j * n + j] if tall else zero
        for i in range(j):
            over_si = F[i * n + i] + F[i * n + i] if tall else zero
            generator_pair(X, Y, j * n + i, i * n + j, half * F[j * n + i], half * F[i * n + j], over_si, over_s)
        generator_value(X, Y, j * n + j, half * F[j * n + j], over_s)


def generator_pair(X, Y, k, l, f, g, over_i, over_j):
    """The entries k = (i, j), i < j, and l = (j, i), from half their coefficients f and g."""
    x, y = X[k], conj(X[l])
    a, b = (x + y) * f, (x - y) * g
    X[k], Y[k] = a + b - x * over_j, a - b
    X[l], Y[l] = conj(-(a + b) - y * over_i), conj(b - a)


def generator_value(X, Y, k, g, over_s):
    """The entry k on the diagonal."""
    x = X[k]
    b = (x - conj(x)) * g
    X[k], Y[k] = b - x * over_s, -b


def pullback(U, V, F, U_bar, S_bar, V_bar, A_bar, X, T, m, n):
    """A_bar from the cotangents, which are all given. X (n n) and T (m n) are scratch."""
    multiply(U, m, 1, True, U_bar, 1, m, False, X, n, m, n, False)
    multiply(V, n, 1, True, V_bar, 1, n, False, A_bar, n, n, n, False)
    tall = m > n
    join(X, A_bar, S_bar, F, n, tall)
    if tall:
        divide_columns(U_bar, F, T, m, n)
    multiply(U, 1, m, False, X, 1, n, False, T, m, n, n, tall)
    multiply(T, 1, m, False, V, n, 1, True, A_bar, m, n, n, False)


def dyads(U, w, V, A, T, m, n):
    """A = sum_i w_i u_i v_i^H: the pullback where only values have a cotangent. T (m n) is scratch."""
    for j in range(n):
        for i in range(j * m, j * m + m):
            T[i] = U[i] * w[j]
    multiply(T, 1, m, False, V, n, 1, True, A, m, n, n, False)


def phases_free(U, U_bar, V, V_bar, limit, m, n):
    """The mask of lanes in which the cotangents do not depend on common phases of u_i and v_i: |Im(u^H u_bar + v^H
    v_bar)| is at most `limit` of their size."""
    zero = like(real(U[0]), 0.0)
    free = zero <= zero
    for j in range(n):
        turn = imag(inner(U, j, U_bar, j, m)) + imag(inner(V, j, V_bar, j, n))
        free = free & (turn * turn <= like(zero, limit * limit) * (norm2(U_bar, j, m) + norm2(V_bar, j, n)))
    return free


def join(X, Y, S_bar, F, n, tall):
    """From U^H U_bar in X and V^H V_bar in Y: G to X, less U^H U_bar / s if (U_bar - U U^H U_bar) / s is still to
    come."""
    half, zero = like(F[0], 0.5), like(F[0], 0.0)
    for j in range(n):
        over_s = F[j * n + j] + F[j * n + j] if tall else zero
        for i in range(j):
            over_si = F[i * n + i] + F[i * n + i] if tall else zero
            join_pair(X, Y, j * n + i, i * n + j, F[j * n + i], F[i * n + j], half, over_si, over_s)
        join_value(X, Y, j * n + j, half * F[j * n + j], over_s, S_bar[j])


def join_pair(X, Y, k, l, f, g, half, over_i, over_j):
    """The entries k = (i, j), i < j, and l = (j, i), from their coefficients f and g."""
    x, y = X[k], conj(X[l])
    u, v = (x - y) * half, (Y[k] - conj(Y[l])) * half
    p, q = (u + v) * f, (u - v) * g
    X[k], X[l] = p + q - x * over_j, conj(p - q - y * over_i)


def join_value(X, Y, k, g, over_s, s_bar):
    """The entry k on the diagonal."""
    x, y = X[k], Y[k]
    X[k] = ((x - conj(x)) - (y - conj(y))) * g - x * over_s + s_bar


def divide_columns(T, F, C, m, n):
    """C = T / s."""
    for j in range(n):
        over_s = F[j * n + j] + F[j * n + j]
        for i in range(j * m, j * m + m):
            C[i] = T[i] * over_s


# ---- products


def multiply(A, ai, ar, ca, B, br, bj, cb, C, rows, depth, cols, add):
    """C_ij (+)= sum_r A[i ai + r ar] B[r br + j bj], conjugated where ca, cb say so; two rows by four columns, so that
    a loaded number serves four times or twice, and eight sums are under way."""
    fours = cols - cols % 4
    for j in range(0, fours, 4):
        for i in range(0, rows - 1, 2):
            multiply_fours(A, i * ai, ai, ar, ca, B, j * bj, bj, br, cb, C, j * rows + i, rows, depth, add)
        if rows % 2:
            for k in range(j, j + 4):
                multiply_entry(A, (rows - 1) * ai, ar, ca, B, k * bj, br, cb, C, (k + 1) * rows - 1, depth, add)
    multiply_by_pairs(A, ai, ar, ca, B, br, bj, cb, C, rows, depth, fours, cols, add)


def multiply_by_pairs(A, ai, ar, ca, B, br, bj, cb, C, rows, depth, first, cols, add):
    """The same for columns from `first` on, two rows by two columns."""
    for j in range(first, cols - 1, 2):
        for i in range(0, rows - 1, 2):
            multiply_pairs(A, i * ai, ai, ar, ca, B, j * bj, bj, br, cb, C, j * rows + i, rows, depth, add)
        if rows % 2:
            multiply_entry(A, (rows - 1) * ai, ar, ca, B, j * bj, br, cb, C, j * rows + rows - 1, depth, add)
            multiply_entry(A, (rows - 1) * ai, ar, ca, B, j * bj + bj, br, cb, C, (j + 2) * rows - 1, depth, add)
    if cols % 2:
        for i in range(rows):
            multiply_entry(A, i * ai, ar, ca, B, (cols - 1) * bj, br, cb, C, (cols - 1) * rows + i, depth, add)


def multiply_fours(A, P, ai, ar, ca, B, R, bj, br, cb, C, k, rows, depth, add):
    """Two rows of four columns of C from C[k]."""
    zero, k3, R3 = like(A[P], 0.0), k + 2 * rows, R + 2 * bj
    aw, bw = (C[k], C[k + 1]) if add else (zero, zero)
    ax, bx = (C[k + rows], C[k + rows + 1]) if add else (zero, zero)
    ay, by = (C[k3], C[k3 + 1]) if add else (zero, zero)
    az, bz = (C[k3 + rows], C[k3 + rows + 1]) if add else (zero, zero)
    for r in range(depth):
        a, b = conjugate_if(ca, A[P + r * ar]), conjugate_if(ca, A[P + ai + r * ar])
        w, x = conjugate_if(cb, B[R + r * br]), conjugate_if(cb, B[R + bj + r * br])
        aw = plus_product(aw, a, w)
        bw = plus_product(bw, b, w)
        ax = plus_product(ax, a, x)
        bx = plus_product(bx, b, x)
        y, z = conjugate_if(cb, B[R3 + r * br]), conjugate_if(cb, B[R3 + bj + r * br])
        ay = plus_product(ay, a, y)
        by = plus_product(by, b, y)
        az = plus_product(az, a, z)
        bz = plus_product(bz, b, z)
    C[k], C[k + 1], C[k + rows], C[k + rows + 1] = aw, bw, ax, bx
    C[k3], C[k3 + 1], C[k3 + rows], C[k3 + rows + 1] = ay, by, az, bz


def multiply_pairs(A, P, ai, ar, ca, B, R, bj, br, cb, C, k, rows, depth, add):
    """Two rows of two columns of C from C[k]."""
    zero = like(A[P], 0.0)
    ax, bx = (C[k], C[k + 1]) if add else (zero, zero)
    ay, by = (C[k + rows], C[k + rows + 1]) if add else (zero, zero)
    for r in range(depth):
        a, b = conjugate_if(ca, A[P + r * ar]), conjugate_if(ca, A[P + ai + r * ar])
        x, y = conjugate_if(cb, B[R + r * br]), conjugate_if(cb, B[R + bj + r * br])
        ax = plus_product(ax, a, x)
        bx = plus_product(bx, b, x)
        ay = plus_product(ay, a, y)
        by = plus_product(by, b, y)
    C[k], C[k + 1], C[k + rows], C[k + rows + 1] = ax, bx, ay, by


def multiply_entry(A, P, ar, ca, B, R, br, cb, C, k, depth, add):
    """The entry C[k]."""
    total = C[k] if add else like(A[P], 0.0)
    for r in range(depth):
        total = plus_product(total, conjugate_if(ca, A[P + r * ar]), conjugate_if(cb, B[R + r * br]))
    C[k] = total


def conjugate_if(conjugated, x):
    """conj(x) or x."""
    return conj(x) if conjugated else x
