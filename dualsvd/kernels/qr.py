"""High relative accuracy: Householder QR, then Jacobi on R^H, safe over the whole range of exponents.

For A = D_1 B D_2 with D_1, D_2 diagonal of any range and B well conditioned, no singular value need lose a digit, and
no derivative along a direction of the same grading. Three things make it so (Higham 2000; Drmac and Veselic 2008):

    the rows sorted by size, the columns pivoted by norm: the QR is then accurate row by row;
    Jacobi on R^H, whose columns are the graded rows of R: it is accurate column by column;
    the tangents carried through the QR, and the derivative taken at the triangular factor: u^H dA v would need the
    tiniest components of u and v to full accuracy, which no product of rotations has. With R^H = L = X S Y^H and L = K
    diag(2^e), K of unit columns,

        ds_i = s_i Re x_i^H dL diag(2^-e) z_i,     z_i = K^-1 x_i = diag(2^e) y_i / s_i.

    Where column k is smaller than s_i the quotient z_ki is tiny and the solve does not resolve it: there it is taken
    from Y, which is graded too.

Columns are scaled by powers of two c_j to one height, TOP, near overflow; what the matrix spans, up to 1e600, then
fits. In the Jacobi sweeps a column is x 2^e with |x| about 1.

Plain numbers and duals, one matrix at a time; columns in buffers as in `jacobi`. The integers (exponents, permutations)
are in arrays.
"""

from __future__ import annotations

import math

from .jacobi import dots, exchange_columns, norm2, rotate, scale_column, squared_tolerance, tie_tolerance
from .protocol import abs2, absolute, any_true, conj, eps_of, imag, like, maximum, partial, primal, real, sqrt, where

#: The exponent to which the columns are raised before the QR.
TOP = 960

#: The exponent of zero.
NOTHING = -(1 << 30)

#: A difference of exponents that decides alone which of two columns is longer: columns are brought to about 1 before a
#: sweep, so 4^40 exceeds any quotient of their squares, and it does not overflow. A column that rotations have
#: shortened since finds its place in the next sweep.
DECISIVE = 40

#: The exponent from which on a tangent beside numbers of about 1 has all its digits: it is 62 binary digits above the
#: least normal number, 2^-1022, and has 53 of them.
WHOLE = -960


def shift(x, exponent):
    """x 2^exponent: in two steps, for one power alone may overflow."""
    half = exponent // 2
    return x * like(x, math.ldexp(1.0, half)) * like(x, math.ldexp(1.0, exponent - half))


def exponent_of(x):
    """e with 2^(e-1) <= max(|Re x|, |Im x|) < 2^e; NOTHING for zero."""
    x = primal(x)
    top = maximum(absolute(real(x)), absolute(imag(x)))
    return math.frexp(top)[1] if top > 0.0 else NOTHING


def column_exponent(A, p, first, m):
    """The exponent of the largest entry of column p from row `first` on."""
    top = NOTHING
    for i in range(p * m + first, p * m + m):
        top = max(top, exponent_of(A[i]))
    return top


def height(A, p, first, m):
    """`column_exponent`, and 0 for zeros."""
    top = column_exponent(A, p, first, m)
    return top if top != NOTHING else 0


# ---- the QR


def heights(A, c, m, n):
    """c[j]: the power of two that raises column j to the height TOP."""
    for j in range(n):
        top = column_exponent(A, j, 0, m)
        c[j] = TOP - top if top != NOTHING else 0


def sort_rows(A, h, rows, m, n):
    """Bring the rows into descending order of their largest entries, h; rows[i] receives where row i was."""
    for i in range(m):
        rows[i] = i
    for i in range(m - 1):
        best = i
        for k in range(i + 1, m):
            if any_true(row_size(A, k, m, n) > row_size(A, best, m, n)):
                best = k
        rows[i], rows[best] = rows[best], rows[i]
        for j in range(n):
            A[j * m + i], A[j * m + best] = A[j * m + best], A[j * m + i]
    for i in range(m):
        h[i] = row_size(A, i, m, n)


def row_size(A, i, m, n):
    """The largest |real or imaginary part| in row i."""
    top = absolute(real(A[i]))
    for j in range(n):
        top = maximum(top, maximum(absolute(real(A[j * m + i])), absolute(imag(A[j * m + i]))))
    return top


def factor(A, h, c, columns, d, sigma, e, m, n):
    """A becomes R above the diagonal and the reflectors w on and below it; d: the diagonal of R. Returns the rank.

    H = I - w w^H / sigma with w = x - beta e_1, sigma = |x|^2 - beta x_1, beta = -+|x| real, is unitary and H x = beta
    e_1; no phase of x is divided by. `columns` receives the pivoting, along which c is permuted; sigma is meant times
    4^e. What falls below the rounding errors of every row, of heights h, is zero.
    """
    for j in range(n):
        columns[j] = j
    for k in range(n):
        exchange(A, c, columns, k, pivot(A, c, k, m, n), m)
        if exhausted(A, h, k, m, n):
            clear(A, d, sigma, e, k, m, n)
            return k
        down = any_true(primal(real(A[k * m + k])) < like(h[0], 0.0))
        eliminate(A, d, sigma, e, down, k, m, n)
    return n


def refactor(A, d0, d, sigma, e, rank, m, n):
    """`factor` of a matrix already pivoted, with the rank and the signs of an earlier one, d0: rounding may decide
    neither."""
    for k in range(rank):
        eliminate(A, d, sigma, e, any_true(real(d0[k]) > like(real(d0[k]), 0.0)), k, m, n)
    clear(A, d, sigma, e, rank, m, n)


def eliminate(A, d, sigma, e, positive, k, m, n):
    """One step of the QR; the new diagonal entry is positive or negative."""
    e[k] = height(A, k, k, m)
    beta = reflector(A, sigma, e, positive, k, m)
    for j in range(k + 1, n):
        reflect(A, k, sigma[k], e[k], A, j, m, False)
    d[k] = beta


def exhausted(A, h, k, m, n):
    """Whether what is left from row and column k on is rounding errors of the rows."""
    least = like(h[0], tie_tolerance(eps_of(h[0]), n))
    for j in range(k, n):
        for i in range(k, m):
            x = primal(A[j * m + i])
            if any_true(maximum(absolute(real(x)), absolute(imag(x))) > h[i] * least):
                return False
    return True


def clear(A, d, sigma, e, rank, m, n):
    """Zero from row and column `rank` on: reflectors that do nothing."""
    for j in range(rank, n):
        d[j], sigma[j], e[j] = like(A[0], 0.0), like(A[0], 1.0), 0
        for i in range(rank, m):
            A[j * m + i] = like(A[0], 0.0)


def pivot(A, c, k, m, n):
    """The column with the largest norm from row k on, in the scale of the matrix."""
    best, best_exponent, best_fraction = k, NOTHING, 0.0
    for j in range(k, n):
        top = column_exponent(A, j, k, m)
        if top != NOTHING:
            total = 0.0
            for i in range(j * m + k, j * m + m):
                total += abs2(shift(primal(A[i]), -top))
            fraction, half_exponent = math.frexp(total)
            exponent = 2 * (top - c[j]) + half_exponent
            if exponent > best_exponent or (exponent == best_exponent and fraction > best_fraction):
                best, best_exponent, best_fraction = j, exponent, fraction
    return best


def exchange(A, c, columns, j, k, m):
    """Columns j and k change places."""
    columns[j], columns[k] = columns[k], columns[j]
    c[j], c[k] = c[k], c[j]
    exchange_columns(A, j, k, m)


def reflector(A, sigma, e, positive, k, m):
    """Make the reflector of column k in place; returns beta."""
    P = k * m
    x = shift(A[P + k], -e[k])
    total = abs2(x)
    for i in range(P + k + 1, P + m):
        total = total + abs2(shift(A[i], -e[k]))
    norm = sqrt(total)
    beta = norm if positive else -norm
    sigma[k] = total - x * beta
    A[P + k] = shift(x - beta, e[k])
    return shift(like(x, 1.0) * beta, e[k])


def reflect(A, k, sigma, e, B, j, m, inverse):
    """Column j of B, from row k on: minus w (w^H b) / sigma, or the inverse of that."""
    P, Q = k * m, j * m
    top = height(B, j, k, m)
    total = conj(shift(A[P + k], -e)) * shift(B[Q + k], -top)
    for i in range(k + 1, m):
        total = total + conj(shift(A[P + i], -e)) * shift(B[Q + i], -top)
    f = total / (conj(sigma) if inverse else sigma)
    for i in range(k, m):
        B[Q + i] = B[Q + i] - shift(A[P + i], top - e) * f


def triangle(A, d, c, L, f, m, n, fresh):
    """L = R^H, column i times 2^-f[i]; f from the primal if `fresh`: column i then is about 1."""
    for i in range(n):
        if fresh:
            f[i] = row_exponent(A, d, c, i, m, n)
            if f[i] == NOTHING:
                f[i] = f[max(i, 1) - 1] if i > 0 else 0
        for j in range(n):
            x = d[i] if i == j else A[j * m + i]
            L[i * n + j] = conj(shift(x, -c[j] - f[i])) if j >= i else like(x, 0.0)


def row_exponent(A, d, c, i, m, n):
    """The exponent of the largest entry of row i of R in the scale of the matrix."""
    top = exponent_of(d[i]) - c[i] if exponent_of(d[i]) != NOTHING else NOTHING
    for j in range(i + 1, n):
        e = exponent_of(A[j * m + i])
        top = max(top, e - c[j]) if e != NOTHING else top
    return top


# ---- Jacobi on columns x 2^e


def graded_svd(L, Y, S, f, info, n, limit):
    """L diag(2^f) = X diag(S 2^f) Y^H: L becomes X, Y (the identity on entry) the right singular vectors, f the
    exponents of S."""
    tol2 = like(S[0], squared_tolerance(eps_of(S[0]), n))
    info[0] = like(S[0], 0.0)
    going, sweeps = True, 0
    while going and sweeps < limit:
        going, info[1] = graded_sweep(L, Y, f, n, tol2)
        sweeps += 1
        if going:
            info[0] = like(S[0], sweeps)
    for p in range(n):
        level(L, f, p, n)
        S[p] = sqrt(norm2(L, p, n))
        scale_column(L, p, like(S[p], 1.0) / where(S[p] > like(S[p], 0.0), S[p], like(S[p], 1.0)), n)


def level(L, f, p, n):
    """Bring column p back to about 1."""
    top = column_exponent(L, p, 0, n)
    if top != NOTHING and top != 0:
        f[p] += top
        for i in range(p * n, p * n + n):
            L[i] = shift(L[i], -top)


def graded_sweep(L, Y, f, n, tol2):
    """One sweep over all pairs. Returns whether anything changed and the largest |cos|^2 met."""
    for p in range(n):
        level(L, f, p, n)
    moved, off = False, tol2 - tol2
    for p in range(n - 1):
        for q in range(p + 1, n):
            alpha, beta, g = dots(L, p, q, n)
            if longer(beta, alpha, f[q] - f[p]):
                f[p], f[q] = f[q], f[p]
                exchange_columns(L, p, q, n)
                exchange_columns(Y, p, q, n)
                alpha, beta, g = beta, alpha, conj(g)
                moved = True
            if any_true(beta > like(beta, 0.0)):
                cos2 = abs2(g) / (alpha * beta)
                off = maximum(off, cos2)
                if any_true(cos2 > tol2):
                    graded_rotation(L, Y, p, q, alpha, beta, g, f[q] - f[p], n)
                    moved = True
    return moved, off


def longer(beta, alpha, exponent):
    """beta 4^exponent > alpha; zero is never longer."""
    near = max(-DECISIVE, min(exponent, DECISIVE))
    return any_true(beta * like(beta, math.ldexp(1.0, 2 * near)) > alpha)


def graded_rotation(L, Y, p, q, alpha, beta, g, exponent, n):
    """The rotation of x and y 2^exponent, the first the longer one, without the power: t = tau 2^exponent may
    underflow, tau does not.

    x <- (x + y tau 4^exponent) cos,   y <- (y - x conj(tau)) cos
    """
    rho = like(alpha, math.ldexp(1.0, max(exponent, -1074)))
    gap, twice = maximum(alpha - beta * rho * rho, like(alpha, 0.0)), conj(g) + conj(g)
    tau = twice / (gap + sqrt(gap * gap + abs2(twice) * rho * rho))
    t = tau * rho
    one = like(alpha, 1.0)
    cosine = one / sqrt(one + abs2(t))
    for i in range(n):
        x, y = L[p * n + i], L[q * n + i]
        L[p * n + i] = (x + y * (t * rho)) * cosine
        L[q * n + i] = (y - x * conj(tau)) * cosine
    rotate(Y, p, q, like(g, 1.0) * cosine, t * cosine, n)


# ---- the whole


def decompose(A, B, h, L, K, Y, S, d, sigma, e, c, c0, f, f0, rows, columns, info, m, n, limit):
    """A = Q R, R^H = K diag(2^f0) = X diag(S 2^f) Y^H: X in L. B keeps the raised and sorted A, of row heights h, and
    c0 the exponents of its columns. Returns the rank."""
    heights(A, c, m, n)
    for j in range(n):
        c0[j] = c[j]
        for i in range(j * m, j * m + m):
            A[i] = shift(A[i], c[j])
    sort_rows(A, h, rows, m, n)
    for i in range(m * n):
        B[i] = A[i]
    rank = factor(A, h, c, columns, d, sigma, e, m, n)
    triangle(A, d, c, L, f, m, n, True)
    for i in range(n):
        f0[i] = f[i]
    for i in range(n * n):
        K[i] = L[i]
    graded_svd(L, Y, S, f, info, n, limit)
    return rank


def grading(h, D, c0, rows, m, n):
    """The power of two by which a direction exceeds, somewhere, what the rows (of heights h) and columns of the matrix
    span."""
    worst = NOTHING
    for i in range(m):
        size = exponent_of(h[i])
        for j in range(n):
            x = exponent_of(D[j * m + rows[i]])
            if size != NOTHING and x != NOTHING:
                worst = max(worst, x + c0[j] - size)
    return worst if worst != NOTHING else 0


def seed(A, B, columns, m, n):
    """The raised and sorted matrix B, its columns in the order of the pivoting, as duals without tangents."""
    for j in range(n):
        for i in range(m):
            A[j * m + i] = like(A[0], 0.0) + B[columns[j] * m + i]


def seed_direction(A, unit, D, c0, rows, columns, exponent, m, n):
    """Add the direction D 2^-exponent, raised and sorted as `seed` is, to the partial that `unit` has.

    Its zeros stay zero: the column of the matrix may be raised by more than any number is.
    """
    for j in range(n):
        for i in range(m):
            x = D[columns[j] * m + rows[i]]
            if exponent_of(x) != NOTHING:
                A[j * m + i] = A[j * m + i] + unit * shift(x, c0[columns[j]] - exponent)


# ---- out of the triangle


def expand(A, sigma, e, Y, U, rows, row, m, n):
    """U = Q Y with the rows where they were; row is scratch of m."""
    for p in range(n):
        for i in range(m):
            U[p * m + i] = Y[p * n + i] if i < n else like(Y[0], 0.0)
        for k in range(n - 1, -1, -1):
            reflect(A, k, sigma[k], e[k], U, p, m, True)
        for i in range(m):
            row[i] = U[p * m + i]
        for i in range(m):
            U[p * m + rows[i]] = row[i]


def quotients(K, X, Y, S, f, f0, z, p, n):
    """z_k = 2^f0[k] y_kp / s_p: by the triangular solve K z = x_p where column k is at least as large as s_p, from Y
    elsewhere."""
    for j in range(n):
        x = X[p * n + j]
        for i in range(j):
            x = x - K[i * n + j] * z[i]
        solid = absolute(K[j * n + j]) > like(S[0], 0.0)
        z[j] = where(solid, x / where(solid, K[j * n + j], like(x, 1.0)), like(x, 0.0))
    for k in range(n):
        if f0[k] < f[p]:
            z[k] = shift(Y[p * n + k], f0[k] - f[p]) / S[p]


def slope(L, z, X, p, n, k):
    """Re x_p^H dL z, dL partial k of the dual L: with z = diag(2^-f) y_p / s_p that is ds_p / s_p."""
    sum = like(z[0], 0.0)
    for j in range(n):
        x = partial(L[j], k) * z[0]
        for i in range(1, n):
            x = x + partial(L[i * n + j], k) * z[i]
        sum = sum + conj(X[p * n + j]) * x
    return real(sum)


def resolved(size, f, grade):
    """Whether a direction of exponent `size`, graded by `grade`, has kept its digits beside a value of exponent f.

    It stands in L beside columns of about 1, with this exponent. Where it has not kept them, it lies far below that
    value, and no cancellation hides it: u^H D v is accurate then.
    """
    return size - f - grade > WHOLE


def apart(S, f, p, n):
    """Whether value p, S 2^f, is neither zero nor tied with its neighbours, relative to itself."""
    near = like(S[0], tie_tolerance(eps_of(S[0]), n))
    free = any_true(S[p] > like(near, 0.0))
    for q in range(max(p, 1), min(p + 2, n)):
        if free and abs(f[q] - f[q - 1]) < 2:
            before = shift(S[q - 1], f[q - 1] - f[q])
            free = any_true(before - S[q] > before * near)
    return free
