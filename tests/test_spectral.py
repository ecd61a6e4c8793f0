"""Spectral normalisation: the top triplet and its certificate, weights, convolutions, layers, the tutorial."""

from __future__ import annotations

import doctest
import itertools
import math
from pathlib import Path
from typing import Any

import cases
import mpmath
import numpy as np
import pytest

import dualsvd as ds
from dualsvd.kernels import banded
from dualsvd.linalg import lanczos as lanczos_module
from dualsvd.linalg import operators as operators_module
from dualsvd.linalg.lanczos import DENSE, GaveUp, Leading, Operator, krylov, leading, likely_part
from dualsvd.spectral import Dense, Sequential, conv_opnorm, spectral_normalize, top_singular_triplet
from dualsvd.spectral import convolution as convolution_module

TUTORIAL = Path(__file__).parents[1] / "notes" / "tutorial-spectral-normalisation.md"

#: beyond DENSE, so that the Krylov process serves it, and no more, so that the tests are quick
N = 96
#: forward against reverse, relative: a few hundred operations
AGREEMENT = 1e-12
#: of central differences with a step of 1e-6: the step squared and eps over the step, each some orders larger
DIFFERENCES = 1e-7
#: of the certificate, in eps: 16384 eps are asked for; an exhausted Krylov space leaves more
FINEST = 2e6
#: rounding of a pair of singular vectors, in eps times the square root of the size
ROUNDING = 8


def uniform(*values: float) -> np.ndarray:
    """N singular values: those given, the rest spread over (0, 1)."""
    return np.array([*values, *np.random.default_rng(5).random(N - len(values))])


def with_values(values: np.ndarray, dtype: str = "float64") -> np.ndarray:
    return cases.spectrum(len(values), len(values), np.sort(values)[::-1], seed=3, dtype=dtype)


def first_entry(value: float, rest: float) -> np.ndarray:
    return np.diag([value] + [rest] * (N - 1))


MATRICES = {
    "random": cases.normal(N, N),
    "tall": cases.normal(250, N),
    "wide": cases.normal(N, 250),
    "complex": cases.normal(N, N, dtype="complex128"),
    "complex wide": cases.normal(N, 130, dtype="complex128"),
    "float32": cases.normal(N, N, dtype="float32"),
    "complex64": cases.normal(N, 110, dtype="complex64"),
    "integers": np.random.default_rng(0).integers(-5, 6, (N, N)),
    "every second row backwards": cases.normal(2 * N, 2 * N)[::2, ::-2],
    "transposed view": cases.normal(120, N).T,
    "gap as trained weights have": with_values(uniform(12, 9, 7, 5)),
    "top twice": with_values(uniform(2, 2)),
    "top three times": with_values(uniform(2, 2, 2)),
    "top ten times": with_values(uniform(*[2] * 10)),
    "gap 1e-3": with_values(uniform(2, 2 - 2e-3)),
    "gap 1e-8": with_values(uniform(2, 2 - 2e-8)),
    "gap 1e-13": with_values(uniform(2, 2 - 2e-13)),
    "twenty within 1e-7": with_values(uniform(*(2 - 1e-8 * np.arange(20)))),
    "all within 1e-4": with_values(1 - 1e-6 * np.arange(N)),
    "evenly spaced": np.diag(np.arange(1.0, N + 1)),
    "crowded at the top": with_values(1 - (np.arange(N) / N) ** 4),
    "graded": with_values(10.0 ** -np.arange(N)),
    "orthogonal": cases.orthogonal(N),
    "Hadamard": cases.hadamard(128),
    "identity": np.eye(N),
    "permutation": cases.permutation(N),
    "rank one": np.outer(cases.normal(N), cases.normal(N, seed=1)),
    "rank three": cases.normal(N, 3) @ cases.normal(3, N, seed=1),
    "one entry": first_entry(1.0, 0.0),
    "1e300 among 1e-300": first_entry(1e300, 1e-300),
    "Hilbert": cases.hilbert(N, N),
    "near overflow": 1e300 * cases.normal(N, N),
    "squares underflow": 1e-300 * cases.normal(N, N),
    "subnormal": 1e-310 * cases.normal(N, N),
    "float32 near overflow": (1e36 * cases.normal(N, N)).astype("float32"),
    "float32 tiny": (1e-37 * cases.normal(N, N)).astype("float32"),
    "one row": cases.normal(1, N),
    "one column": cases.normal(N, 1),
    "one number": np.array([[-3.0]]),
}


def in_range(a: np.ndarray) -> tuple[np.ndarray, int]:
    """a times a power of two that brings its largest entry near 1, and the exponent: the reference's own scaling."""
    a = a.astype(np.result_type(a, np.float64))
    exponent = math.frexp(float(np.abs(a).max()))[1]
    half = -exponent // 2
    return a * 2.0**half * 2.0 ** (-exponent - half), exponent


# ---------------------------------------------------------------------------------------------------------------------
# The top triplet


@pytest.fixture(params=["BLAS", "kernels"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How real arrays of the size of these are multiplied, and what finds the top of the tridiagonal matrix."""
    if request.param == "kernels":
        monkeypatch.setattr(operators_module, "BY_KERNEL", range(1, 1 << 20))
    return request.param


WAYS = pytest.mark.usefixtures("way")


@pytest.mark.parametrize("name", MATRICES)
@WAYS
def test_triplet(name: str) -> None:
    a = MATRICES[name]
    sigma, u, v, residual = top_singular_triplet(a)
    scaled, exponent = in_range(a)
    unit = float(np.finfo(u.dtype).eps) * math.sqrt(sum(a.shape))
    s, bound = math.ldexp(sigma, -exponent), math.ldexp(residual, -exponent)
    true = np.linalg.norm(scaled, 2)
    assert abs(s - true) <= bound + 1e-15 * true  # the reference itself is rounded
    assert bound <= FINEST * np.finfo(u.dtype).eps * s
    assert abs(s - true) <= unit * true, "the value is far better than the bound"
    assert np.linalg.norm(scaled @ v - s * u) <= ROUNDING * unit * s
    assert np.linalg.norm(scaled.conj().T @ u - s * v) <= ROUNDING * unit * s
    assert abs(np.linalg.norm(u) - 1) <= unit and abs(np.linalg.norm(v) - 1) <= unit
    assert u.shape == a.shape[:1] and v.shape == a.shape[1:]
    assert u.dtype == v.dtype == (np.float64 if a.dtype.kind == "i" else a.dtype)


@WAYS
def test_the_krylov_process_serves_all_but_the_small() -> None:
    served = {name: leading(a) for name, a in MATRICES.items()}
    small = {"one row", "one column", "one number"}
    crowded = {"crowded at the top", "twenty within 1e-7", "all within 1e-4"}
    assert {name for name, found in served.items() if found is None} <= small | crowded
    assert max(found.steps for found in served.values() if found is not None) < N // 2
    assert min(MATRICES["random"].shape) > DENSE


@WAYS
def test_zero_matrix() -> None:
    sigma, u, v, residual = top_singular_triplet(np.zeros((N, 2 * N)))
    assert (sigma, residual, np.linalg.norm(u), np.linalg.norm(v)) == (0, 0, 1, 1)


@pytest.mark.parametrize("name", ["top twice", "top three times", "top ten times", "gap 1e-13", "gap 1e-8", "random"])
def test_second_value_tells_a_tie(name: str, way: str) -> None:
    """By kernels it is the second Ritz value where that is next to the first, and else no more than it."""
    found = leading(MATRICES[name])
    assert found is not None
    true = np.linalg.svd(MATRICES[name], compute_uv=False)
    assert found.second <= true[1] * (1 + 1e-14)
    far = way == "kernels" and name == "random"
    assert found.second == pytest.approx(true[1], rel=1e-6 if far else 1e-14, abs=0)


@pytest.mark.parametrize("separation", [1e-2, 1e-5, 1e-8, 1e-11, 1e-12])
@pytest.mark.parametrize("rest", ["gap", "even", "tie"])
@pytest.mark.parametrize("block", [1, 2, 3])
@WAYS
def test_certificate_holds_for_the_worst_start_it_allows(separation: float, rest: str, block: int) -> None:
    # equation (1) is a theorem for every start with the likely part of the top in it: take exactly that much
    others = {"gap": np.linspace(0.1, 0.6, N - 2), "even": np.linspace(0.1, 0.99, N - 2)}.get(rest, np.full(N - 2, 0.5))
    values = np.array([1 + separation, 1.0, *others])
    start = np.linalg.qr(cases.normal(N - 1, block))[0]
    part = 1.01 * likely_part(block, N, False)
    start = np.vstack([np.full((1, block), part / math.sqrt(block)), start * math.sqrt(1 - part**2 / block)])
    start = np.linalg.qr(start)[0].T.copy()
    assert np.linalg.norm(start[:, 0]) >= likely_part(block, N, False)
    found = krylov(Operator(np.diag(values)), start=start)
    assert abs(found.sigma - values[0]) <= found.residual


@WAYS
def test_a_start_without_the_top_is_deceived() -> None:
    # why the start is random: without any part of the top in it, the certificate's assumption is broken, and no
    # residual can tell
    values = np.array([2.0, 1.0, *np.linspace(0.1, 0.6, N - 2)])
    start = np.zeros((2, N))
    start[:, 1:] = np.linalg.qr(cases.normal(N - 1, 2))[0].T
    found = krylov(Operator(np.diag(values)), start=start)
    assert isinstance(found, Leading) and found.sigma == pytest.approx(1.0) and found.residual < 1e-9


@WAYS
def test_likely_part_is_exceeded_as_often_as_it_says(rng: np.random.Generator) -> None:
    # at the probability of 1e-6 nothing could be counted; the law is the same at 1 in 100
    for block, complex_ in ((1, False), (2, False), (1, True), (2, True)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lanczos_module, "FAILURE", 0.01)
            part = likely_part(block, 40, complex_)
        draws = rng.standard_normal((4000, 40, block)) + (
            1j * rng.standard_normal((4000, 40, block)) if complex_ else 0
        )
        parts = np.linalg.norm(np.linalg.qr(draws)[0][:, 0], axis=-1)
        assert 0.004 <= np.mean(parts <= part) <= 0.016


@pytest.mark.parametrize("size", [0.0, 1e-8, 1e-3])
@WAYS
def test_warm_start_saves_steps_and_keeps_the_bound(size: float) -> None:
    a = cases.normal(160, 160)
    u = top_singular_triplet(a).u
    near = a + size * cases.normal(160, 160, seed=1)
    cold, warm = krylov(Operator(near)), krylov(Operator(near), u0=u)
    assert isinstance(cold, Leading) and isinstance(warm, Leading)
    assert warm.steps < cold.steps
    assert abs(warm.sigma - np.linalg.norm(near, 2)) <= warm.residual


@pytest.mark.parametrize("k", [1, 5, N - 1], ids=["second", "sixth", "last"])
@WAYS
def test_warm_start_from_a_wrong_vector_finds_the_top(k: int) -> None:
    a = MATRICES["random"]
    U, S, _ = np.linalg.svd(a)
    sigma, _, _, residual = top_singular_triplet(a, u0=U[:, k])
    assert abs(sigma - S[0]) <= residual


@WAYS
def test_tolerance_trades_steps_for_accuracy() -> None:
    a = cases.normal(160, 160)
    rough, fine = krylov(Operator(a), tol=1e-3), krylov(Operator(a))
    assert isinstance(rough, Leading) and isinstance(fine, Leading)
    assert rough.steps < fine.steps and rough.residual <= 1e-3 * rough.sigma
    assert abs(rough.sigma - fine.sigma) <= rough.residual


@WAYS
def test_same_call_same_result() -> None:
    first, second = (top_singular_triplet(MATRICES["random"]) for _ in range(2))
    assert first.sigma == second.sigma and np.array_equal(first.u, second.u) and np.array_equal(first.v, second.v)


@pytest.mark.parametrize("gap", [1e-3, 1e-7, 1e-9, 1e-10, 2e-11, 8e-12])
@pytest.mark.parametrize("seed", range(3))
@WAYS
def test_vectors_of_a_certified_top_are_its_own(gap: float, seed: int) -> None:
    """To 64 eps over the gap, as promised, and as much again for LAPACK's; or there is no certificate."""
    S = np.r_[1.0, 1 - gap, np.linspace(0.8, 0.1, N - 2)]
    U, V = (np.linalg.qr(cases.normal(N, N, seed=2 * seed + k))[0] for k in range(2))
    a = U * S @ V.T
    found = leading(a)
    if found is not None and found.sigma - found.second > found.residual:
        v = np.linalg.svd(a)[2][0]
        assert np.linalg.norm(v - found.v * (v @ found.v)) <= 128 * np.finfo(float).eps / gap


@pytest.mark.parametrize("failing", ["top_pair", "rows_of_resolvent"])
def test_where_band_factors_fail(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a top LAPACK finds it; without a resolvent there is no certificate."""
    monkeypatch.setattr(operators_module, "BY_KERNEL", range(1, 1 << 20))
    a = MATRICES["gap as trained weights have"]
    expected = leading(a)
    assert expected is not None
    if failing == "top_pair":
        monkeypatch.setattr(banded, "top_pair", lambda T, b, guess, both: (np.nan, np.nan, guess))
        found = leading(a)
        assert found is not None and found.steps == expected.steps
        assert found.sigma == pytest.approx(expected.sigma, rel=1e-15)
        assert found.residual == pytest.approx(expected.residual, rel=1e-6)
    else:
        monkeypatch.setattr(banded, "rows_of_resolvent", lambda T, b, x: np.full((b, len(T)), np.nan))
        assert leading(a) is None


class VectorsOnly:
    """The least that is asked of an operator: a shape, products with vectors, and a transpose."""

    def __init__(self, a: Any) -> None:
        self.a, self.shape = a, a.shape

    def __matmul__(self, x: Any) -> Any:
        assert x.ndim == 1
        return self.a @ x

    @property
    def T(self) -> VectorsOnly:
        return VectorsOnly(self.a.T)

    def conj(self) -> VectorsOnly:
        return VectorsOnly(self.a.conj())


@pytest.mark.parametrize("name", ["random", "wide", "complex", "complex wide", "near overflow", "squares underflow"])
@pytest.mark.parametrize("kind", ["LinearOperator", "sparse array", "sparse matrix", "vectors only"])
def test_operators(name: str, kind: str) -> None:
    a = MATRICES[name]
    if kind == "vectors only":
        operator: Any = VectorsOnly(a)
    else:
        sparse = pytest.importorskip("scipy.sparse")
        from scipy.sparse.linalg import aslinearoperator

        operator = {
            "LinearOperator": aslinearoperator,
            "sparse array": sparse.csr_array,
            "sparse matrix": sparse.csr_matrix,
        }[kind](a)
    found, direct = top_singular_triplet(operator), top_singular_triplet(a)
    assert abs(found.sigma - direct.sigma) <= found.residual
    assert abs(np.vdot(found.u, direct.u)) == pytest.approx(1) and abs(np.vdot(found.v, direct.v)) == pytest.approx(1)


@pytest.mark.parametrize("exponent", [-1020, -1060, -1070, -1074])
@pytest.mark.parametrize("shape", [(300, 280), (80, 400), (20, 30)], ids=str)
def test_the_bound_covers_products_that_underflow(shape: tuple[int, int], exponent: int) -> None:
    """Nothing scales an operator, so its products lose digits there; at last all."""
    a = np.ldexp(cases.normal(*shape), exponent)
    true = math.ldexp(float(np.linalg.norm(a * 2.0**1000, 2)), -1000)
    found = top_singular_triplet(VectorsOnly(a))
    assert abs(found.sigma - true) <= found.residual


def test_the_bound_covers_the_rounding_of_small_matrices() -> None:
    for seed in range(100):
        a = np.random.default_rng(seed).standard_normal((4, 6))
        found = top_singular_triplet(a)
        true = mpmath.svd(mpmath.matrix(a.tolist()), compute_uv=False)[0]
        assert abs(found.sigma - true) <= found.residual


class OfAnotherLibrary(VectorsOnly):
    dtype = "other.float64"  # no word of NumPy's


class WithoutAdjoint:
    """SciPy's LinearOperator of a matvec alone."""

    shape = (N, N)

    def __matmul__(self, x: Any) -> Any:
        return x

    def conj(self) -> Any:
        raise NotImplementedError("rmatvec is not defined")

    T = property(conj)


def test_operators_whose_dtype_numpy_does_not_know() -> None:
    a = cases.normal(N, N)
    assert top_singular_triplet(OfAnotherLibrary(a)).sigma == top_singular_triplet(VectorsOnly(a)).sigma


def test_operators_without_an_adjoint_are_refused() -> None:
    with pytest.raises(ds.DTypeError, match="rmatvec is not defined"):
        top_singular_triplet(WithoutAdjoint())


@pytest.mark.parametrize("size", [5e-324, 1e-310, 1.0, 1e308])
def test_guesses_of_any_size(size: float) -> None:
    a = cases.normal(N, N, dtype="complex128")
    found, guessed = top_singular_triplet(a), top_singular_triplet(a, u0=np.full(N, size * (1 + 1j)))
    assert abs(found.sigma - guessed.sigma) <= found.residual


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (400, 3), (3, 400)], ids=str)
def test_small_operators_become_dense(shape: tuple[int, int]) -> None:
    a, products = cases.normal(*shape, dtype="complex128"), []

    class Counted(VectorsOnly):
        def __matmul__(self, x: Any) -> Any:
            products.append(x)
            return super().__matmul__(x)

        @property
        def T(self) -> VectorsOnly:
            return Counted(self.a.T)

        def conj(self) -> VectorsOnly:
            return Counted(self.a.conj())

    assert top_singular_triplet(Counted(a)).sigma == pytest.approx(np.linalg.norm(a, 2), rel=1e-14)
    assert len(products) <= min(shape) + 1, "one of them asks for the type"


class Diagonal:
    """A diagonal matrix too large to be formed."""

    def __init__(self, d: np.ndarray) -> None:
        self.d, self.shape, self.dtype = d, (d.size, d.size), d.dtype

    def matmat(self, X: np.ndarray) -> np.ndarray:
        return self.d[:, None] * X

    __matmul__ = matmat

    @property
    def H(self) -> Diagonal:
        return Diagonal(self.d.conj())


def test_crowded_operator_does_not_converge_and_says_how_far_it_came() -> None:
    operator = Diagonal(1 - (np.arange(1500) / 1500) ** 4)
    with pytest.raises(ds.ConvergenceError, match=r"not resolved in 172 steps: .* at least 0.99999\d, .* raise tol"):
        top_singular_triplet(operator)
    found = krylov(Operator(operator))
    assert isinstance(found, GaveUp) and abs(found.sigma - 1) <= found.residual
    rough = top_singular_triplet(operator, tol=0.01)
    assert abs(rough.sigma - 1) <= rough.residual <= 0.01


@pytest.mark.parametrize(
    ("a", "error", "message"),
    [
        (np.full((N, N), np.nan), ds.NonFiniteError, "9216 numbers"),
        (first_entry(np.inf, 1.0), ds.NonFiniteError, "1 numbers that are not finite"),
        (first_entry(-np.inf, 1.0), ds.NonFiniteError, "1 numbers that are not finite"),
        (np.ones(3), ds.ShapeError, r"shape \(3,\)"),
        (np.ones((2, 3, 3)), ds.ShapeError, r"shape \(2, 3, 3\)"),
        (np.ones((0, 3)), ds.ShapeError, "no singular values"),
        ("matrix", ds.ShapeError, "got str"),
        (np.ones((N, N), dtype=np.float16), ds.DTypeError, "float16"),
        (np.ones((N, N), dtype=object), ds.DTypeError, "object"),
        (Diagonal(np.full(N, np.nan)), ds.NonFiniteError, "product"),
    ],
    ids=["NaN", "inf", "-inf", "vector", "stack", "empty", "string", "float16", "object", "operator of NaN"],
)
def test_what_is_refused(a: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        top_singular_triplet(a)


def test_complex_operator_without_an_adjoint_is_refused() -> None:
    class Transposed(Diagonal):
        H = property()
        T = property(lambda self: self)

    with pytest.raises(ds.DTypeError, match=r"needs \.H or \.conj"):
        top_singular_triplet(Transposed(1j * np.arange(1.0, 100.0)))


def test_triplet_of_a_traced_matrix_names_opnorm() -> None:
    with pytest.raises(ds.MissingRuleError, match="opnorm"):
        ds.gradient(lambda a: top_singular_triplet(a).sigma, MATRICES["random"])


@pytest.mark.parametrize(
    ("u0", "error", "message"),
    [
        (np.ones(5), ds.ShapeError, "length 96"),
        (np.full(N, np.nan), ds.NonFiniteError, "u0"),
        (np.full(N, 1j), ds.DTypeError, "complex"),
        (np.full(N, "a"), ds.DTypeError, "numbers"),
        (np.full(N, None), ds.DTypeError, "numbers"),
    ],
    ids=["length", "NaN", "complex", "strings", "objects"],
)
@pytest.mark.parametrize("columns", [N, 3], ids=["by the process", "by the SVD"])
def test_guesses_that_are_refused(u0: Any, error: type[Exception], message: str, columns: int) -> None:
    with pytest.raises(error, match=message):
        top_singular_triplet(MATRICES["random"][:, :columns], u0=u0)


@pytest.mark.parametrize("tol", [np.nan, np.inf, -1e-6, "1e-3", 1j])
@pytest.mark.parametrize("columns", [N, 3], ids=["by the process", "by the SVD"])
def test_tolerances_that_are_refused(tol: Any, columns: int) -> None:
    with pytest.raises(ValueError, match="tol must be"):
        top_singular_triplet(MATRICES["random"][:, :columns], tol)


# ---------------------------------------------------------------------------------------------------------------------
# Weights


def both_gradients(f: Any, x: Any) -> tuple[Any, Any]:
    return ds.gradient(f, x, mode="forward"), ds.gradient(f, x, mode="reverse")


@pytest.mark.parametrize("shape", [(4, 3), (3, 5), (1, 4), (4, 1), (1, 1), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_normalised_weights(shape: tuple[int, ...], dtype: str) -> None:
    W = cases.normal(*shape, dtype=dtype)
    result = spectral_normalize(W, 2.5)
    unit = 50 * cases.eps(W)
    assert result.dtype == W.dtype and result.shape == shape
    np.testing.assert_allclose(np.linalg.norm(result, 2, axis=(-2, -1)), 2.5, rtol=unit)
    C = cases.normal(*shape, seed=1, dtype=dtype)
    forward, reverse = both_gradients(lambda W: np.sum(np.real(C * spectral_normalize(W, 2.5))), W)
    np.testing.assert_allclose(forward, reverse, rtol=0, atol=unit * np.abs(reverse).max() + unit)
    # the result does not feel the scale of W
    assert np.abs(np.real(np.sum(np.conj(reverse) * W, axis=(-2, -1)))).max() <= unit * np.linalg.norm(W)


def test_normalised_weights_by_every_way() -> None:
    C = cases.normal(4, 3, seed=1)
    report = ds.cross_validate(lambda W: np.sum(C * spectral_normalize(W)), cases.normal(4, 3), order=2)
    report.raise_if_failed()


def test_zero_weight_is_returned_unchanged_with_a_warning() -> None:
    W = np.stack([np.zeros((2, 2)), np.diag([4.0, 2.0])])
    with pytest.warns(ds.DegeneracyWarning, match="1 of 2 weights are zero"):
        result = spectral_normalize(W)
    assert np.array_equal(result, [np.zeros((2, 2)), np.diag([1.0, 0.5])])
    for mode in ("forward", "reverse"):
        with pytest.warns(ds.DegeneracyWarning):
            gradient = ds.gradient(lambda W: np.sum(spectral_normalize(W)[0]), W, mode=mode)
        assert np.array_equal(gradient, [np.ones((2, 2)), np.zeros((2, 2))])


@pytest.mark.parametrize("size", [1e-300, 1e300, 5e-324])
def test_normalised_weights_of_extreme_size(size: float) -> None:
    W = size * np.diag([4.0, 2.0])
    np.testing.assert_allclose(spectral_normalize(W), np.diag([1.0, 0.5]), rtol=1e-15)


@pytest.mark.parametrize("exponent", [-700, 700])
def test_second_derivatives_do_not_feel_the_size_of_a_weight(exponent: int) -> None:
    C, W, D = (cases.normal(4, 3, seed=seed) for seed in range(3))

    def bend(size: float) -> Any:
        return ds.hvp(lambda W: np.sum(C * spectral_normalize(W)), size * W, size * D) * size

    np.testing.assert_allclose(bend(2.0**exponent), bend(1.0), rtol=1e-12)


def test_weights_that_are_refused() -> None:
    with pytest.raises(ds.ShapeError, match=r"got \(3,\)"):
        spectral_normalize(np.ones(3))
    with pytest.raises(ds.NonFiniteError):
        spectral_normalize(np.full((2, 2), np.nan))
    assert spectral_normalize(np.ones((0, 3))).shape == (0, 3)


# ---------------------------------------------------------------------------------------------------------------------
# Convolutions


def by_definition(kernel: np.ndarray, size: tuple[int, int], padding: str, stride: tuple[int, int]) -> np.ndarray:
    """The matrix of the convolution, entry by entry from its definition."""
    out, in_, kh, kw = kernel.shape
    h, w = size
    H, W = math.ceil(h / stride[0]), math.ceil(w / stride[1])
    A = np.zeros((out, H, W, in_, h, w), kernel.dtype)
    for i, j, p, q in itertools.product(range(H), range(W), range(kh), range(kw)):
        y, x = i * stride[0] + p - (kh - 1) // 2, j * stride[1] + q - (kw - 1) // 2
        if padding == "circular" or (0 <= y < h and 0 <= x < w):
            A[:, i, j, :, y % h, x % w] += kernel[:, :, p, q]
    return A.reshape(out * H * W, in_ * h * w)


GEOMETRIES = list(
    itertools.product(
        [(1, 1), (3, 3), (2, 4), (5, 2)], [(4, 6), (5, 5), (1, 2)], ["circular", "zeros"], [(1, 1), (2, 2), (2, 3)]
    )
)


@pytest.mark.parametrize(("taps", "size", "padding", "stride"), GEOMETRIES, ids=str)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_convolution_norm(
    taps: tuple[int, int], size: tuple[int, int], padding: str, stride: tuple[int, int], dtype: str
) -> None:
    kernel = cases.normal(3, 2, *taps, dtype=dtype)
    A = by_definition(kernel, size, padding, stride)
    true = np.linalg.norm(A, 2)
    assert conv_opnorm(kernel, size, padding, stride) == pytest.approx(true, rel=1e-13)
    # and the parts of the way by products, which large images take
    geometry = convolution_module.parse(kernel.shape, size, padding, stride)
    convolution = convolution_module.ConvolutionOperator(kernel, geometry)
    X, Y = (cases.normal(k, 2, seed=k, dtype=dtype) for k in A.shape[::-1])
    np.testing.assert_allclose(convolution @ X, A @ X, atol=1e-13)
    np.testing.assert_allclose(convolution.H @ Y, A.conj().T @ Y, atol=1e-13)
    G = convolution_module.correlation(Y[:, 0], X[:, 0], geometry)
    np.testing.assert_allclose(np.real(np.vdot(G, kernel)), np.real(np.vdot(Y[:, 0], A @ X[:, 0])), atol=1e-12)


@pytest.mark.parametrize(("taps", "size", "padding", "stride"), GEOMETRIES[::5], ids=str)
def test_convolution_is_that_of_torch(
    taps: tuple[int, int], size: tuple[int, int], padding: str, stride: tuple[int, int]
) -> None:
    torch = pytest.importorskip("torch")
    kernel = cases.normal(3, 2, *taps)
    around = [(k - 1) // 2 for k in taps]
    pad = [(before, k - 1 - before) for before, k in zip(around, taps)]
    mode: dict[str, Any] = {"mode": "wrap"} if padding == "circular" else {"mode": "constant"}
    images = np.eye(2 * size[0] * size[1]).reshape(-1, 2, *size)
    images = np.pad(images, [(0, 0), (0, 0), *pad], **mode)
    outputs = torch.nn.functional.conv2d(torch.from_numpy(images), torch.from_numpy(kernel), stride=stride)
    true = np.linalg.norm(outputs.numpy().reshape(len(images), -1), 2)
    assert conv_opnorm(kernel, size, padding, stride) == pytest.approx(true, rel=1e-13)


WAYS = {
    "frequencies": ("circular", 1, None),
    "aliased frequencies": ("circular", 2, None),
    "matrix, zeros": ("zeros", 1, None),
    "matrix, stride does not divide": ("circular", 3, None),
    "products, zeros": ("zeros", 1, 0),
    "products, stride": ("zeros", 2, 0),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_convolution_norm_differentiates(way: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    padding, stride, formed = WAYS[way]
    if formed is not None:
        monkeypatch.setattr(convolution_module, "FORMED", formed)
    kernel, D = cases.normal(2, 3, 3, 3, dtype=dtype), cases.direction((2, 3, 3, 3), dtype=dtype)

    def norm(K: Any) -> Any:
        return conv_opnorm(K, (12, 12), padding, stride)

    forward, reverse = both_gradients(norm, kernel)
    assert forward.dtype == reverse.dtype == kernel.dtype
    np.testing.assert_allclose(forward, reverse, atol=AGREEMENT)
    along = np.sum(np.real(np.conj(reverse) * D))
    h = 1e-6
    assert along == pytest.approx(
        (norm(kernel + h * D) - norm(kernel - h * D)) / (2 * h), abs=DIFFERENCES * np.abs(D).sum()
    )
    # one Hessian direction, against differences of gradients
    ahead, behind = (ds.gradient(norm, kernel + t * D) for t in (h, -h))
    np.testing.assert_allclose(ds.hvp(norm, kernel, D), (ahead - behind) / (2 * h), atol=100 * DIFFERENCES)


def test_large_zero_padded_convolution_is_found_by_products() -> None:
    kernel = cases.normal(4, 3, 3, 3)
    geometry = convolution_module.parse(kernel.shape, (12, 12), "zeros", 1)
    norm = convolution_module.CONVOLUTION_NORM
    assert min(geometry.shape) > DENSE
    f = lambda K: norm(K, cache=convolution_module.TopTripletCache(geometry))  # noqa: E731
    g = lambda K: ds.opnorm(convolution_module.matrix(K, geometry))  # noqa: E731
    assert f(kernel) == pytest.approx(g(kernel), rel=1e-14)
    np.testing.assert_allclose(
        ds.gradient(f, kernel, mode="reverse"), ds.gradient(g, kernel, mode="reverse"), atol=1e-11
    )


@pytest.mark.parametrize("kernel", ["delta", "delta of one channel", "two equal channels", "zero"])
@pytest.mark.parametrize("size", [(6, 4), (5, 7)], ids=str)
@pytest.mark.parametrize("way", ["circular", "circular, strides", "zeros", "zeros, a short side"])
def test_convolution_norm_at_a_tie(
    kernel: str, size: tuple[int, int], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "zeros, a short side":
        monkeypatch.setattr(convolution_module, "FORMED", 0)
    padding = way.partition(",")[0]
    stride = (size[0], 1) if way == "circular, strides" else 1
    K = np.zeros((2, 2, 3, 3) if size == (6, 4) else (1, 2, 3, 3))
    if kernel == "delta":  # the identity: every frequency, every channel
        K[range(len(K)), range(len(K)), 1, 1] = 1
    elif kernel == "delta of one channel":
        K[0, 0, 1, 1] = 1
    elif kernel == "two equal channels":
        K[range(len(K)), range(len(K))] = cases.normal(3, 3)
    D = cases.direction(K.shape)
    geometry = convolution_module.parse(K.shape, size, padding, stride)

    def norm(K: Any) -> Any:
        return conv_opnorm(K, size, padding, stride)

    def of_matrix(K: Any) -> Any:
        return ds.opnorm(convolution_module.matrix(K, geometry))

    value, slope = ds.jvp(norm, (K,), (D,))
    h = 1e-7
    assert slope == pytest.approx((norm(K + h * D) - value) / h, abs=1e-5), "one-sided derivative"
    for mode in ("forward", "reverse"):
        G = ds.gradient(norm, K, mode=mode)
        np.testing.assert_allclose(G, ds.gradient(of_matrix, K, mode=mode), atol=1e-12)


@pytest.mark.parametrize("size", [(4, 4), (1, 6)], ids=["zero kernel", "no tap meets a pixel"])
def test_large_zero_convolution_has_the_least_subgradient(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution_module, "FORMED", 0)
    K, D = np.zeros((12, 12, 3, 3)), cases.direction((12, 12, 3, 3))
    if size[0] == 1:
        K[:, :, 0] = 1

    def norm(K: Any) -> Any:
        return conv_opnorm(K, size, "zeros")

    assert np.array_equal(ds.gradient(norm, K, mode="reverse"), np.zeros(K.shape))
    assert ds.jvp(norm, (K,), (D,))[1] == pytest.approx(norm(D))
    assert ds.jvp(norm, (K,), (0 * D,))[1] == 0
    with ds.options(ties="raise"), pytest.raises(ds.DegenerateError, match="zero to working accuracy"):
        ds.jvp(norm, (K,), (D,))


def test_equal_frequencies_need_no_matrix_of_them() -> None:
    K = np.zeros((1, 1, 3, 3))
    K[0, 0, 1, 1] = 1
    G = ds.gradient(lambda K: conv_opnorm(K, (128, 130)), K, mode="reverse")
    np.testing.assert_allclose(G, K, atol=1e-13)


def test_top_values_of_a_large_convolution_in_single_precision_are_told_apart() -> None:
    K = np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32)  # the gap is 7e-5 of the largest
    single, double = (
        ds.gradient(lambda K: conv_opnorm(K, (40, 40), "zeros"), x, mode="reverse") for x in (K, K.astype(float))
    )
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, atol=1e-6)


def test_tie_of_a_large_zero_padded_convolution_warns_where_it_is_differentiated() -> None:
    K = np.zeros((2, 2, 3, 3))
    K[0, 0] = K[1, 1] = cases.normal(3, 3)
    geometry = convolution_module.parse(K.shape, (12, 12), "zeros", 1)

    def norm(K: Any) -> Any:
        return convolution_module.CONVOLUTION_NORM(K, cache=convolution_module.TopTripletCache(geometry))

    sigma = norm(K)  # the value is beyond doubt
    with pytest.warns(ds.DegeneracyWarning, match="repeated"):
        G = ds.gradient(norm, K, mode="reverse")
    assert np.sum(G * K) == pytest.approx(sigma)
    with ds.options(ties="raise"), pytest.raises(ds.DegenerateError, match="repeated"):
        ds.gradient(norm, K, mode="reverse")


def test_convolution_of_nan_propagates_if_asked() -> None:
    with ds.options(nonfinite="propagate"):
        assert np.isnan(conv_opnorm(np.full((1, 1, 3, 3), np.nan), (6, 6)))


def test_convolution_norm_of_float32_and_integers() -> None:
    kernel = cases.normal(2, 2, 3, 3, dtype="float32")
    assert conv_opnorm(kernel, (6, 6)).dtype == np.float32
    assert ds.gradient(lambda K: conv_opnorm(K, (6, 6)), kernel).dtype == np.float32
    assert conv_opnorm(np.ones((1, 1, 3, 3), dtype=int), (1, 6, 6)) == pytest.approx(9.0)


@pytest.mark.parametrize(
    ("kernel", "size", "options", "error", "message"),
    [
        (np.ones((3, 3)), (6, 6), {}, ds.ShapeError, r"\(out, in, kh, kw\)"),
        (np.ones((2, 0, 3, 3)), (6, 6), {}, ds.ShapeError, r"without a zero"),
        (np.ones((1, 1, 3, 3)), (6,), {}, ds.ShapeError, r"got \(6,\)"),
        (np.ones((1, 1, 3, 3)), 6, {}, ds.ShapeError, "got 6"),
        (np.ones((1, 1, 3, 3)), (6, 6.5), {}, ds.ShapeError, "got"),
        (np.ones((1, 1, 3, 3)), (2, 6, 6), {}, ds.ShapeError, "takes 1 channels"),
        (np.ones((1, 1, 3, 3)), (6, 6), {"stride": 0}, ds.ShapeError, "stride"),
        (np.ones((1, 1, 3, 3)), (6, 6), {"stride": (1, 2, 3)}, ds.ShapeError, "stride"),
        (np.ones((1, 1, 3, 3)), (6, 6), {"stride": "a"}, ds.ShapeError, "got a"),
        (np.ones((1, 1, 3, 3)), (6, 6), {"stride": None}, ds.ShapeError, "got None"),
        (np.ones((1, 1, 3, 3)), (6, 6), {"stride": (1, np.inf)}, ds.ShapeError, r"got \(1, inf\)"),
        (np.ones((1, 1, 3, 3)), (6, np.nan), {}, ds.ShapeError, "got .6, nan"),
        (np.ones((1, 1, 3, 3)), (6, 6), {"padding": "same"}, ValueError, "circular"),
        (np.full((1, 1, 3, 3), np.nan), (6, 6), {}, ds.NonFiniteError, "not finite"),
        (np.ones((1, 1, 3, 3), dtype=np.float16), (6, 6), {}, ds.DTypeError, "float16"),
    ],
    ids=[
        "matrix",
        "no channels",
        "one axis",
        "a number",
        "a fraction",
        "channels",
        "stride 0",
        "three strides",
        "a word for a stride",
        "no stride",
        "an infinite stride",
        "NaN pixels",
        "padding",
        "NaN",
        "float16",
    ],
)
def test_convolutions_that_are_refused(
    kernel: Any, size: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        conv_opnorm(kernel, size, **options)


@pytest.mark.parametrize(
    ("padding", "stride", "way_out"),
    [
        ("zeros", 1, "padding='circular'"),
        ("circular", 2, "sides of the image that the stride, 2 x 2, divides"),
        ("circular", (3, 2), "sides of the image that the stride, 3 x 2, divides"),
        ("zeros", 2, "padding='circular' and sides of the image that the stride, 2 x 2, divides"),
    ],
    ids=str,
)
def test_a_convolution_that_is_too_hard_names_a_way_out_that_is_not_its_own(
    padding: str, stride: Any, way_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("FORMED", "FORMED_TWICE", "DENSE"):
        monkeypatch.setattr(convolution_module, limit, 0)
    monkeypatch.setattr(convolution_module, "krylov", convolution_module.dense_leading)
    kernel = cases.normal(1, 1, 3, 3)

    def norm(K: Any) -> Any:
        return conv_opnorm(K, (11, 13), padding, stride)

    with pytest.raises(ds.MissingRuleError, match=f"second derivatives of conv_opnorm .* smaller image, or {way_out}$"):
        ds.hvp(norm, kernel, kernel)
    monkeypatch.setattr(convolution_module, "krylov", lambda operator: GaveUp(1.0, 0.1, 7))
    with pytest.raises(ds.ConvergenceError, match=f"not resolved in 7 steps: .* Take {way_out}$"):
        norm(kernel)


# ---------------------------------------------------------------------------------------------------------------------
# Layers


def test_dense_layer_is_what_it_says() -> None:
    layer = Dense(5, 3, np.tanh, rng=0)
    W, b = layer.parameters["W"], cases.normal(3)
    x = cases.normal(7, 5)
    expected = np.tanh(x @ (W / np.linalg.norm(W, 2)).T + b)
    np.testing.assert_allclose(layer(x, {"W": W, "b": b}), expected, atol=1e-15)
    assert layer(x[0]).shape == (3,) and layer(x[None]).shape == (1, 7, 3)
    plain = Dense(5, 3, spectral=False, rng=0)
    np.testing.assert_allclose(plain(x), x @ W.T)
    assert repr(Sequential(layer, plain)) == "Sequential(Dense(5, 3, tanh), Dense(5, 3, spectral=False))"


def test_network_is_1_lipschitz() -> None:
    network = Sequential(Dense(6, 8, np.tanh, rng=0), Dense(8, 8, np.tanh, rng=1), Dense(8, 4, rng=2))
    for layer in network.layers:
        layer.parameters["W"] *= 100
    x, y = cases.normal(200, 6), cases.normal(200, 6, seed=1)
    ratio = np.linalg.norm(network(x) - network(y), axis=1) / np.linalg.norm(x - y, axis=1)
    assert ratio.max() <= 1 + 1e-14


def test_network_differentiates_by_its_parameters_in_both_modes() -> None:
    network = Sequential(Dense(4, 6, np.tanh, rng=0), Dense(6, 1, rng=1))
    x = cases.normal(5, 4)
    forward, reverse = both_gradients(lambda p: np.sum(network(x, p) ** 2), network.parameters)
    for f, r in zip(forward, reverse):
        assert set(f) == set(r) == {"W", "b"}
        for name in f:
            np.testing.assert_allclose(f[name], r[name], atol=1e-13)
    before = network(x)
    network.parameters = [{k: p[k] - 0.1 * g[k] for k in p} for p, g in zip(network.parameters, reverse)]
    assert np.sum(network(x) ** 2) < np.sum(before**2)


def test_layers_that_do_not_fit_are_refused() -> None:
    layer = Dense(4, 2)
    with pytest.raises(ds.ShapeError, match="inputs"):
        layer(np.ones(3))
    with pytest.raises(ds.ShapeError, match="takes W"):
        layer(np.ones(4), {"W": np.ones((4, 2)), "b": np.zeros(2)})
    with pytest.raises(ds.ShapeError, match="list of 1"):
        Sequential(layer)(np.ones(4), [])
    with pytest.raises(ds.ShapeError, match="at least one"):
        Dense(0, 2)


# ---------------------------------------------------------------------------------------------------------------------
# The tutorial


def test_tutorial_runs_as_written() -> None:
    pytest.importorskip("sklearn")
    result = doctest.testfile(str(TUTORIAL), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 30 and result.failed == 0
