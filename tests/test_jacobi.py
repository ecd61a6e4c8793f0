"""The Jacobi text in plain Python: factors, tangents carried through it, ties, second order; then compiled, on the
families where an SVD goes wrong without saying so."""

from __future__ import annotations

import itertools

import cases
import mpmath
import numpy as np
import pytest
from numba import njit

import dualsvd as ds
from dualsvd.dual import Dual
from dualsvd.kernels import cpu, dual_svd, jacobi, svd_small
from dualsvd.kernels.protocol import Buffer, like, primal, real

DOUBLE = 2.0**-52

# ---------------------------------------------------------------------------------------------------------------------
# The text in plain Python


def number(x):
    """A Python number of a NumPy one."""
    return complex(x) if np.iscomplexobj(x) else float(x)


def columns(a):
    return Buffer([number(x) for x in a.T.reshape(-1)])


def identity(n, x):
    return Buffer([like(x, float(i == j)) for j in range(n) for i in range(n)])


def matrix(buffer, m, n, part=lambda x: x):
    return np.array([[part(buffer[j * m + i]) for j in range(n)] for i in range(m)])


def scaled(a):
    """A tall matrix at the height that the text expects, and the exponent it was raised by."""
    k = jacobi.exponent_to(float(max(np.abs(a.real).max(), np.abs(a.imag).max())), jacobi.headroom(DOUBLE))
    return a * 2.0 ** (k // 2) * 2.0 ** (k - k // 2), k


def python_svd(a):
    """U, S, V and the sweeps of a tall matrix."""
    m, n = a.shape
    b, k = scaled(a)
    A = columns(b)
    V, S, info = identity(n, A[0]), Buffer.zeros(n, 1.0), Buffer.zeros(2, 1.0)
    jacobi.svd(A, V, S, info, m, n, n, jacobi.MAX_SWEEPS)
    return matrix(A, m, n), np.ldexp(np.array(list(S)), -k), matrix(V, n, n), info[0]


def seeded(a, directions):
    """The columns of a with one partial a direction."""
    m, n = a.shape
    return Buffer([Dual(number(a[i, j]), [number(d[i, j]) for d in directions]) for j in range(n) for i in range(m)])


def adapt(U, W, S, V, directions, m, n):
    """Turn U and W inside ties along the directions; V: the right vectors as an array."""
    group = [0] * n
    zeros = dual_svd.tie_groups(S, group, n, S[0] * jacobi.tie_tolerance(DOUBLE, n))
    T = Buffer([number(x) for d in directions for x in (d @ V).T.reshape(-1)])
    dual_svd.adapt(U, W, T, group, zeros, m, n, n, len(directions))


def python_lift(a, directions):
    """Dual U, S, V: the primal to the end, then one tangent sweep."""
    m, n = a.shape
    U, S, V, _ = python_svd(a)
    U0, S0, V0 = columns(U), Buffer([float(s) for s in S]), columns(V)
    adapt(U0, V0, S0, V, directions, m, n)
    A = seeded(a, directions)
    dual_V, dual_S, row = Buffer.zeros(n * n, A[0]), Buffer.zeros(n, real(A[0])), Buffer.zeros(n, A[0])
    tie = S0[0] * jacobi.tie_tolerance(DOUBLE, n)
    dual_svd.lift(A, dual_V, dual_S, U0, V0, S0, row, m, n, tie, np.iscomplexobj(a))
    return A, dual_S, dual_V


def python_sweeps(a, directions):
    """Dual U, S, V: tangents carried through every rotation."""
    m, n = a.shape
    A = seeded(a, directions)
    V, S = identity(n, A[0]), Buffer.zeros(n, real(A[0]))
    row, info = Buffer.zeros(n, A[0]), Buffer.zeros(2, 1.0)
    jacobi.converge(A, V, S, info, m, n, n, jacobi.MAX_SWEEPS)
    U0, S0 = Buffer.zeros(m * n, primal(A[0])), Buffer.zeros(n, 1.0)
    dual_svd.primal_columns(A, U0, S0, m, n)
    Q = identity(n, primal(A[0]))
    adapt(U0, Q, S0, matrix(V, n, n, primal), directions, m, n)
    dual_svd.times(A, 0, Q, row, m, n)
    dual_svd.times(V, 0, Q, row, n, n)
    dual_svd.follow(A, V, S, U0, S0, m, n, np.iscomplexobj(a))
    return A, S, V


def tall(a):
    return a.conj().T.copy() if a.shape[0] < a.shape[1] else a


def unit(a):
    """A tall matrix over its largest entry: directions of size one are then of the size of the matrix."""
    a = tall(a)
    return a / (np.abs(a).max() or 1.0)


def assert_svd(a, U, S, V, factor=10.0):
    """U S V^H = A and orthonormal factors to factor max(m, n) eps, S sorted and not negative."""
    m, n = a.shape
    bound = factor * max(m, n) * np.finfo(S.dtype).eps
    top = S[0] if S[0] else 1.0
    rounding = n * np.finfo(S.dtype).smallest_subnormal / top  # of S itself
    np.testing.assert_allclose((U * (S / top)) @ V.conj().T, a / top, rtol=0, atol=bound + rounding)
    np.testing.assert_allclose(U.conj().T @ U, np.eye(n), rtol=0, atol=bound)
    np.testing.assert_allclose(V.conj().T @ V, np.eye(n), rtol=0, atol=bound)
    assert (np.diff(S) <= 0).all() and (S >= 0).all()


HARD = cases.named(without=["strided"])
TIED = [c for tag in ("tied", "zero-value", "zero", "deficient") for c in cases.named(tag)]
TIED = list({c.id: c for c in TIED}.values())
SIMPLE = cases.named("generic")
MODES = pytest.mark.parametrize("mode", [python_lift, python_sweeps], ids=["lift", "sweeps"])


@pytest.mark.parametrize("case", HARD)
def test_python_factors(case):
    a = tall(case.matrix().astype(complex if "complex" in case.tags else float))
    U, S, V, sweeps = python_svd(a)
    assert_svd(a, U, S, V)
    assert sweeps < jacobi.MAX_SWEEPS


@pytest.mark.parametrize("g", [0.0, 1e-30, -0.5, 0.5j, 0.3 - 0.2j, 1.0])
@pytest.mark.parametrize("alpha, beta", [(2.0, 1.0), (1.0, 2.0), (1.0, 1.0), (1e-140, 3e-140)])
def test_rotation_diagonalises_and_sorts(alpha, beta, g):
    g = g * np.sqrt(alpha * beta)
    c, s = jacobi.rotation(alpha, beta, g, 0.0)
    R = np.array([[c, -np.conj(s)], [s, np.conj(c)]])
    D = R.conj().T @ np.array([[alpha, g], [np.conj(g), beta]]) @ R
    np.testing.assert_allclose(R.conj().T @ R, np.eye(2), rtol=0, atol=8 * DOUBLE)
    assert abs(D[0, 1]) <= 8 * DOUBLE * max(alpha, beta)
    assert D[0, 0].real >= D[1, 1].real


def test_no_angle_is_exactly_no_rotation():
    assert jacobi.rotation(2.0, 1.0, 0.0, 0.0) == (1.0, 0.0)
    assert jacobi.rotation(1.0, 2.0, 0.0, 0.0) == (0.0, 1.0)
    assert jacobi.rotation(0.0, 0.0, 0.0, 0.0) == (1.0, 0.0)


@pytest.mark.parametrize("case", SIMPLE)
def test_a_tile_makes_the_rotations_of_its_four_pairs(case):
    """Angles from products that are updated, and from columns that are turned: the same to rounding."""
    a = scaled(np.resize(tall(case.matrix()), (7, 4)))[0]
    least, floor = jacobi.flush(DOUBLE), 0.0
    turned, start = [], np.sqrt([1.0, 0.7, 0.9, 0.6])
    for tile in (False, True):
        A, V, D = columns(a), identity(4, number(a[0, 0])), Buffer(start**2)
        rest = 7, 4, jacobi.squared_tolerance(DOUBLE, 7), floor, least, False
        if tile:
            assert jacobi.turn_tile(A, V, D, 0, 2, *rest)
        else:
            for p, q in itertools.product((0, 1), (2, 3)):
                jacobi.turn_pair(A, V, D, p, q, *rest)
        scale = np.sqrt(np.array(list(D)))
        turned.append((matrix(A, 7, 4) * scale / np.abs(a).max(), matrix(V, 4, 4) * scale))
        rotation = turned[-1][1] / start[:, None]  # what the true columns were multiplied by
        np.testing.assert_allclose(rotation.conj().T @ rotation, np.eye(4), rtol=0, atol=64 * DOUBLE)
    for x, y in zip(*turned):
        np.testing.assert_allclose(x, y, rtol=0, atol=64 * DOUBLE)


def near_identity(n, noise=1e-9):
    """Every pair wants a rotation by any angle, up to 45 degrees: scales shrink as fast as they can."""
    return np.eye(n) + noise * cases.normal(n, n)


@pytest.mark.parametrize("n, least", [(2, 1.0), (3, 1.0), (8, 0.9), (40, jacobi.LEAST_SCALE)])
def test_scales_that_become_small_are_written_out(n, least, monkeypatch):
    monkeypatch.setattr(jacobi, "LEAST_SCALE", least)
    written, write = [], jacobi.write_scale
    monkeypatch.setattr(jacobi, "write_scale", lambda *given: written.append(given[3]) or write(*given))
    a = near_identity(n)
    assert_svd(a, *python_svd(a)[:3])
    assert len(written) > n  # those at the end, and some before


@pytest.mark.parametrize("n, dtype", [(33, "float64"), (48, "float64"), (130, "float64"), (300, "float32")])
def test_scales_stay_in_range_whatever_the_angles(n, dtype):
    """In float32 scales of 300 columns would leave the range, were they not written out."""
    a = near_identity(n, 1e-9 if dtype == "float64" else 1e-4).astype(dtype)
    U, S, Vh, info = cpu.svd(a[None])
    assert not info.unconverged.any()
    assert_svd(a, U[0], S[0], Vh[0].T)


def cancelling(theta, tiny, seed):
    """Two columns within theta of parallel, beside one that is tiny: their rotation leaves noise of the second."""
    q = np.linalg.qr(cases.normal(5, 4, seed=seed))[0].T
    return np.stack([q[0], tiny * (q[2] + 0.5 * q[1] + 0.3 * q[0]), 0.9 * (q[0] + theta * q[1]), q[3]], axis=1)


@pytest.mark.parametrize(
    "theta, tiny, dtype",
    [(1e-8, 1e-30, "float64"), (1e-9, 1e-20, "float64"), (1e-10, 1e-30, "float64"), (1e-4, 1e-10, "float32")],
)
def test_what_cancels_is_not_mixed_into_a_tiny_column(theta, tiny, dtype):
    """Values are accurate to eps kappa of the matrix of normalised columns, kappa = 1 / theta, however tiny."""
    a = np.stack([cancelling(theta, tiny, seed) for seed in range(24)]).astype(dtype)
    packed, single = cpu.svd(a)[1], np.concatenate([cpu.svd(x[None])[1] for x in a])
    with mpmath.workdps(80):
        for x, *results in zip(a, packed, single):
            exact = mpmath.svd_r(mpmath.matrix(x.astype(float).tolist()), compute_uv=False)
            errors = [abs(float(mpmath.mpf(float(s)) / e - 1)) for S in results for s, e in zip(S, exact)]
            assert max(errors) < 64 * np.finfo(dtype).eps / theta


# ---------------------------------------------------------------------------------------------------------------------
# Tangents


def closed_form(U, S, V, D):
    """dU, dS, dV at a simple spectrum, in NumPy."""
    M = U.conj().T @ D @ V
    sym, skew = (M + M.conj().T) / 2, (M - M.conj().T) / 2
    gap = S[None, :] - S[:, None] + np.eye(len(S))
    a, b = sym / gap * (1 - np.eye(len(S))), skew / (S[None, :] + S[:, None])
    return U @ (a + b) + (D @ V - U @ M) / S, np.diag(M).real, V @ (a - b)


def partials(result, m, n, k):
    U, S, V = result
    part = lambda x: x.partials[k]  # noqa: E731
    return matrix(U, m, n, part), np.array([part(s) for s in S]), matrix(V, n, n, part)


def primals(result, m, n):
    U, S, V = result
    return matrix(U, m, n, primal), np.array([primal(s) for s in S]), matrix(V, n, n, primal)


@MODES
@pytest.mark.parametrize("case", SIMPLE)
def test_tangents_are_the_closed_form(case, mode):
    a = tall(case.matrix())
    m, n = a.shape
    directions = [tall(cases.direction(case.matrix().shape, seed=k, dtype=a.dtype.name)) for k in range(2)]
    result = mode(a, directions)
    U, S, V = primals(result, m, n)
    assert_svd(a, U, S, V)
    gaps = np.abs(np.subtract.outer(S, S) + S[0] * np.eye(n)).min(initial=S[-1])
    for k, D in enumerate(directions):
        bound = (2e-13 if mode is python_sweeps else 2e-14) * (1 + np.linalg.norm(D) / gaps) * (S[0] / gaps)
        for got, wanted in zip(partials(result, m, n, k), closed_form(U, S, V, D)):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=bound)


@MODES
@pytest.mark.parametrize("case", cases.named("orthogonal-columns", without=["tied", "zero-value", "zero"]))
def test_tangents_where_the_primal_needs_no_rotation(case, mode):
    a = unit(case.matrix())
    m, n = a.shape
    D = cases.direction((m, n), seed=3, dtype=a.dtype.name)
    result = mode(a, [D])
    for got, wanted in zip(partials(result, m, n, 0), closed_form(*primals(result, m, n), D)):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12 * max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize("case", SIMPLE)
def test_primal_bits_do_not_know_of_tangents(case):
    a = tall(case.matrix())
    m, n = a.shape
    directions = [cases.direction((m, n), seed=k, dtype=a.dtype.name) for k in range(2)]
    U, S, V, _ = python_svd(a)
    lifted = primals(python_lift(a, directions), m, n)
    assert all(np.array_equal(x, y) for x, y in zip(lifted, (U, S, V)))
    A = seeded(scaled(a)[0], directions)
    W, D, info = identity(n, A[0]), Buffer.zeros(n, real(A[0])), Buffer.zeros(2, 1.0)
    jacobi.converge(A, W, D, info, m, n, n, jacobi.MAX_SWEEPS)
    assert np.array_equal(matrix(W, n, n, primal), V)


# ---------------------------------------------------------------------------------------------------------------------
# Ties and zeros


def lexicographic(a, directions):
    """Derivatives of the ordered singular values along the directions in turn, by dense eigenproblems of the tied
    blocks."""
    U, s, Vh = np.linalg.svd(a, full_matrices=True)
    V, n = Vh.conj().T, a.shape[1]
    out = np.zeros((len(directions), n))
    noise = [1e-12 * np.linalg.norm(D) for D in directions]

    def chains(w, least):
        starts = [i for i in range(len(w)) if i == 0 or w[i - 1] - w[i] > least]
        return itertools.pairwise([*starts, len(w)])

    def equal(X, Y, where, k):
        if k < len(directions):
            M = X.conj().T @ directions[k] @ Y
            w, Q = np.linalg.eigh((M + M.conj().T) / 2)
            out[k, where] = w = w[::-1]
            for i, j in chains(w, noise[k]):
                equal(X @ Q[:, ::-1][:, i:j], Y @ Q[:, ::-1][:, i:j], where[i:j], k + 1)

    def zero(X, Y, where, k):
        if k < len(directions) and len(where):
            P, w, Qh = np.linalg.svd(X.conj().T @ directions[k] @ Y, full_matrices=True)
            out[k, where] = w
            some = int((w > noise[k]).sum())
            for i, j in chains(w[:some], noise[k]):
                equal(X @ P[:, i:j], Y @ Qh.conj().T[:, i:j], where[i:j], k + 1)
            zero(X @ P[:, some:], Y @ Qh.conj().T[:, some:], where[some:], k + 1)

    rank = int((s > 1e-12 * s[0]).sum())
    for i, j in chains(s[:rank], 1e-12 * s[0]):
        equal(U[:, i:j], V[:, i:j], np.arange(i, j), 0)
    zero(U[:, rank:], V[:, rank:], np.arange(rank, n), 0)
    return out


@MODES
@pytest.mark.parametrize("case", TIED)
def test_ties_follow_the_directions(case, mode):
    a = unit(case.matrix())
    m, n = a.shape
    sparse = np.zeros((m, n), a.dtype)
    sparse[0, -1] = 1.0
    directions = [sparse, *(cases.direction((m, n), seed=k, dtype=a.dtype.name) for k in (1, 2))]
    result = mode(a, directions)
    U, S, V = primals(result, m, n)
    assert_svd(a, U, S, V)
    wanted = lexicographic(a, directions)
    for k in range(len(directions)):
        dU, dS, _ = partials(result, m, n, k)
        np.testing.assert_allclose(dS, wanted[k], rtol=0, atol=(1e-11 if mode is python_sweeps else 1e-13) * n)
        np.testing.assert_allclose(dU.conj().T @ U, -(U.conj().T @ dU), rtol=0, atol=1e-10)
    dU, dS, dV = partials(result, m, n, 0)
    product = (dU * S + U * dS) @ V.conj().T + (U * S) @ dV.conj().T
    np.testing.assert_allclose(product, directions[0], rtol=0, atol=1e-10)


# ---------------------------------------------------------------------------------------------------------------------
# Second order: nested duals


@pytest.mark.parametrize("carried", [False, True], ids=["lift", "sweeps"])
@pytest.mark.parametrize("name", ["generic 3x3", "generic 5x3", "generic complex 4x3"])
def test_nested_duals_factorise_to_second_order(name, carried):
    a = cases.CASES[name].matrix()
    m, n = a.shape
    D, E = (cases.direction((m, n), seed=k, dtype=a.dtype.name) for k in (1, 2))
    nested = [
        Dual(Dual(number(x), (number(d),)), (Dual(number(e), (0 * number(x),)),))
        for x, d, e in zip(a.T.reshape(-1), D.T.reshape(-1), E.T.reshape(-1))
    ]
    U, S, V, _ = python_svd(a)
    A, U0, S0 = Buffer(nested), columns(U), Buffer([float(s) for s in S])
    dual_S, row, phases = Buffer.zeros(n, real(A[0])), Buffer.zeros(n, A[0]), np.iscomplexobj(a)
    if carried:
        W = identity(n, A[0])
        jacobi.converge(A, W, Buffer.zeros(n, real(A[0])), Buffer.zeros(2, 1.0), m, n, n, jacobi.MAX_SWEEPS)
        dual_svd.primal_columns(A, U0, S0, m, n)
        dual_svd.follow(A, W, dual_S, U0, S0, m, n, phases)
    else:
        W = Buffer.zeros(n * n, A[0])
        dual_svd.lift(A, W, dual_S, U0, columns(V), S0, row, m, n, S0[0] * jacobi.tie_tolerance(DOUBLE, n), phases)
    X, Y = matrix(A, m, n).astype(object), matrix(W, n, n).astype(object)
    adjoint = np.vectorize(lambda x: x.conjugate(), otypes=[object])
    product = (X * np.array(list(dual_S), dtype=object)) @ adjoint(Y).T
    for got, wanted in zip(product.T.reshape(-1), nested):
        assert abs(got.partials[0].partials[0]) < 1e-12 * np.linalg.norm(a)  # the second derivative of A is zero
        assert abs((got - wanted).partials[0].value) < 1e-12
    for gram in (adjoint(X).T @ X, adjoint(Y).T @ Y):
        assert max(abs(g.partials[0].partials[0]) for g in gram.reshape(-1)) < 1e-12


# ---------------------------------------------------------------------------------------------------------------------
# Compiled


def assert_batch(a, result, factor=10.0):
    """Factors, values, order and convergence, none of it by the kernel's own word."""
    U, S, Vh, info = result
    _, m, n = a.shape
    r = min(m, n)
    top = np.where(S[:, :1] > 0, S[:, :1], 1)
    bound = factor * max(m, n) * np.finfo(S.dtype).eps
    assert np.abs((U * (S / top)[:, None]) @ Vh - a / top[..., None]).max(initial=0) <= bound
    assert np.abs(U.conj().swapaxes(1, 2) @ U - np.eye(r)).max(initial=0) <= bound
    assert np.abs(Vh @ Vh.conj().swapaxes(1, 2) - np.eye(r)).max(initial=0) <= bound
    assert (np.diff(S, axis=1) <= 0).all() and (S >= 0).all()
    assert np.abs(S - np.linalg.svd(a, compute_uv=False)).max(initial=0, where=True) <= bound * top.max(initial=1)
    assert info is None or not (info.unconverged.any() or info.nonfinite.any())


SIGNS = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=9))).reshape(-1, 3, 3)


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_all_matrices_of_signs(dtype):
    assert_batch(SIGNS.astype(dtype), cpu.svd(SIGNS.astype(dtype)))


def test_all_matrices_of_signs_have_few_values():
    """Their squared values are roots of integer cubics: equal determinants and norms to rounding, matrix by matrix."""
    S, _ = cpu.svdvals(SIGNS)
    np.testing.assert_allclose(S.prod(1), np.abs(np.linalg.det(SIGNS)), rtol=0, atol=1e-13)
    np.testing.assert_allclose((S**2).sum(1), (SIGNS**2).sum((1, 2)), rtol=1e-14)


@pytest.mark.parametrize("start", range(8))
def test_matrices_of_signs_in_plain_python(start):
    for a in SIGNS[start * 13 :: 1601]:
        assert_svd(a, *python_svd(a)[:3])
        D = cases.direction((3, 3), seed=start)
        for mode in (python_lift, python_sweeps):
            result = mode(a, [D])
            dS = partials(result, 3, 3, 0)[1]
            np.testing.assert_allclose(dS, lexicographic(a, [D])[0], rtol=0, atol=1e-10)


@njit
def each_svd(A):
    U, S, Vh = np.empty_like(A), np.empty_like(A[:, 0]), np.empty_like(A)
    for i in range(len(A)):
        U[i], S[i], Vh[i] = svd_small(A[i])
    return U, S, Vh


def swept(A):
    with ds.options(tangents="sweeps"):
        return ds.linalg.svd(A)


@pytest.mark.parametrize("svd", [swept, each_svd], ids=["sweeps", "compiled lift"])
def test_all_matrices_of_signs_with_duals(svd):
    D = np.broadcast_to(cases.direction((3, 3), seed=9), (1, *SIGNS.shape)).copy()
    U, S, Vh = svd(ds.DualArray(SIGNS, D))
    assert_batch(SIGNS, (U.value, S.value, Vh.value, None))
    assert np.abs(((U * S[:, None]) @ Vh).partials - D).max() < 1e-9
    a, h = SIGNS[::37], 1e-7  # one-sided differences, for the values have kinks
    forward = (cpu.svdvals(a + h * D[0, ::37])[0] - cpu.svdvals(a)[0]) / h
    assert np.abs(S.partials[0, ::37] - forward).max() < 1e-5


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize("m, n", [(4, 4), (6, 4), (4, 7), (8, 8), (12, 7), (16, 16), (33, 17)])
def test_rank_deficient_integers(m, n, dtype, rng):
    count, k = (1000, max(1, min(m, n) // 2)) if m < 16 else (60, min(m, n) // 3)
    a = (rng.integers(-2, 3, (count, m, k)) @ rng.integers(-2, 3, (count, k, n))).astype(dtype)
    assert_batch(a, cpu.svd(a))


SIZES = [(1, 1), (1, 5), (5, 1), (2, 2), (3, 2), (5, 5), (8, 3), (17, 9), (9, 17), (32, 32), (64, 64), (64, 5)]


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("m, n", SIZES, ids=lambda k: str(k))
def test_sizes(m, n, dtype):
    a = np.stack([cases.normal(m, n, seed=k, dtype=dtype) for k in range(3)])
    assert_batch(a, cpu.svd(a))
    assert_batch(a[:1], cpu.svd(a[:1]))


@pytest.mark.parametrize("shape", [(0, 3, 2), (4, 0, 3), (4, 3, 0), (2, 0, 0)])
def test_empty(shape):
    batch, m, n = shape
    U, S, Vh, info = cpu.svd(np.zeros(shape))
    assert (U.shape, S.shape, Vh.shape) == ((batch, m, min(m, n)), (batch, min(m, n)), (batch, min(m, n), n))
    assert len(info.sweeps) == batch


@pytest.mark.parametrize("exponent", [-1060, -1000, -500, 500, 1000], ids=lambda e: f"2^{e}")
def test_powers_of_two_change_only_the_values(exponent):
    a = np.round(cases.normal(5, 4, seed=1)[None] * 8) / 8
    U, S, Vh, _ = cpu.svd(a)
    V, T, Wh, _ = cpu.svd(np.ldexp(a, exponent))
    assert np.array_equal(U, V) and np.array_equal(Vh, Wh)
    assert np.array_equal(np.ldexp(S, exponent), T)


@pytest.mark.parametrize("case", cases.named("graded", without=["scaled"]))
def test_columns_of_any_grading_are_orthogonal(case):
    a = case.matrix()[None]
    U, S, Vh, info = cpu.svd(a)
    assert not info.unconverged.any()
    assert np.abs(U[0].conj().T @ U[0] - np.eye(S.shape[1])).max() < 1e-13
    assert np.abs((U * S[:, None]) @ Vh - a).max() <= 1e-14 * S[0, 0]


def test_a_bound_too_low_is_reported():
    a = cases.normal(8, 8)[None].repeat(3, 0)
    a[1] = np.eye(8)
    _, _, _, info = cpu.svd(a, limit=2)
    assert info.unconverged.tolist() == [True, False, True]
    assert (info.off_norm[[0, 2]] > 1e-3).all()
    assert info.off_norm[1] == 0
