"""The spectral norm of large matrices: by the top pair where that does, by the SVD where it does not; exact by both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cases
import numpy as np
import pytest

import dualsvd as ds
from dualsvd.kernels import cpu
from dualsvd.linalg import tops as tops_module
from dualsvd.linalg.extremes import EXTREME
from dualsvd.linalg.factorise import recall
from dualsvd.linalg.lanczos import DENSE, Leading
from dualsvd.linalg.tops import KRYLOV_SIZE, Tops
from dualsvd.settings import get

N = KRYLOV_SIZE
#: of values, in eps: a length of a vector of N numbers
VALUE = 64
#: of gradients, in eps over the relative gap below the top: what is promised is 1e-13 over it
GRADIENT = 450


def uniform(*values: float) -> list[float]:
    """N singular values: those given, the rest spread over (0, 1)."""
    return [*values, *np.sort(np.random.default_rng(5).random(N - len(values)))[::-1]]


def exact(*values: int) -> np.ndarray:
    """A dense matrix of integers with those singular values times N^2, to the last digit, and ones times N^2 else."""
    v, w = np.sign(cases.normal(2, N)).astype(int)
    left, right = (N * np.eye(N, dtype=int) - 2 * np.outer(x, x) for x in (v, w))
    return ((left * np.array([*values] + [1] * (N - len(values)))) @ right).astype(float)


def trained(m: int, n: int) -> np.ndarray:
    return cases.normal(m, n) / np.sqrt(n) + 4 * np.outer(cases.normal(m, seed=1), cases.normal(n, seed=2)) / n


PAIRS: dict[str, Callable[[], np.ndarray]] = {
    "random": lambda: cases.normal(N, N),
    "gap as trained weights have": lambda: trained(N, N),
    "tall": lambda: cases.normal(3 * N, N),
    "wide": lambda: cases.normal(N, 2 * N),
    "wide, large": lambda: trained(N, 1100),  # in several slabs
    "complex": lambda: cases.normal(N, N, dtype="complex128"),
    "complex wide": lambda: cases.normal(N, 300, dtype="complex128"),
    "complex tall": lambda: cases.normal(300, N, dtype="complex128"),
    "float32": lambda: cases.normal(N, N, dtype="float32"),
    "complex64": lambda: cases.normal(N, 280, dtype="complex64"),
    "1e-300": lambda: 1e-300 * cases.normal(N, N),
    "1e300": lambda: 1e300 * cases.normal(N, N),
    "fortran order": lambda: np.asfortranarray(cases.normal(N, N)),
    "strided": lambda: cases.normal(2 * N, 2 * N)[::2, ::-2],
    "rank one": lambda: np.outer(cases.normal(N), cases.normal(N + 1)),
    "gap 1e-3": lambda: cases.spectrum(N, N, uniform(2, 2 - 2e-3)),
    "gap 1e-8": lambda: cases.spectrum(N, N, uniform(2, 2 - 2e-8)),
    "gap 1e-10, three": lambda: cases.spectrum(N, N, uniform(2, 2 - 2e-10, 2 - 4e-10)),
    "graded": lambda: cases.spectrum(N, N, 10.0 ** -np.linspace(0, 12, N)),
    "tie below the top": lambda: exact(3, 2, 2),
    "one entry": lambda: np.diag([5.0] + [0.0] * (N - 1)),
}
FACTORS: dict[str, Callable[[], np.ndarray]] = {
    "double top": lambda: exact(2, 2),
    "triple top": lambda: exact(2, 2, 2),
    "orthogonal": lambda: cases.orthogonal(N),
    "hadamard": lambda: cases.hadamard(N),
    "zero": lambda: np.zeros((N, N)),
    "gap 1e-13": lambda: cases.spectrum(N, N, uniform(2, 2 - 2e-13)),
    "crowded": lambda: cases.spectrum(N, N, 1 - np.linspace(0, 1, N) ** 4),
    "float32, crowded": lambda: cases.spectrum(N, N, uniform(2, 2 - 1e-4)).astype(np.float32),
}
ALL = {**PAIRS, **FACTORS}


def reference(a: np.ndarray, e: int) -> tuple[Any, Any, Any]:
    """U, S, Vh of 2^-e a in double precision."""
    return np.linalg.svd(np.ldexp(a.real, -e) + (1j * np.ldexp(a.imag, -e) if np.iscomplexobj(a) else 0))


def exponent(a: np.ndarray) -> int:
    return int(np.frexp(np.max(np.abs(a)))[1])


def inner(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.sum(np.real(np.conj(x) * y)))


def eps(a: np.ndarray) -> float:
    return float(np.finfo(a.dtype).eps)


@pytest.mark.parametrize("name", ALL)
def test_pairs_serve_where_the_top_is_simple(name: str) -> None:
    y = EXTREME(ALL[name](), which="largest")
    (known,) = recall(y).each
    assert isinstance(known, Leading) == (name in PAIRS)


@pytest.mark.parametrize("name", ALL)
def test_value(name: str) -> None:
    a = ALL[name]()
    e = exponent(a)
    top = reference(a, e)[1][0]
    for y in (ds.opnorm(a), ds.value_and_gradient(ds.opnorm, a)[0], ds.norm(a, 2)):
        assert y.dtype == a.real.dtype and np.ndim(y) == 0
        assert abs(np.ldexp(float(y), -e) - top) <= VALUE * eps(a) * top


@pytest.mark.parametrize("mode", ["reverse", "jacobian"])
@pytest.mark.parametrize("name", PAIRS)
def test_gradient_is_the_dyad(name: str, mode: str) -> None:
    a = PAIRS[name]()
    if mode == "jacobian" and np.iscomplexobj(a):
        mode = "reverse"
    U, S, Vh = reference(a, exponent(a))
    G = ds.gradient(ds.opnorm, a) if mode == "reverse" else ds.jacobian(ds.opnorm, a)
    assert G.dtype == a.dtype and G.shape == a.shape
    gap = (S[0] - S[1]) / S[0]
    assert np.linalg.norm(G - np.outer(U[:, 0], Vh[0])) <= GRADIENT * eps(a) / gap


@pytest.mark.parametrize("name", PAIRS)
def test_slope_is_that_of_the_gradient(name: str) -> None:
    a = PAIRS[name]()
    d = cases.direction(a.shape, dtype=str(a.dtype))
    y, dy = ds.jvp(ds.opnorm, (a,), (d,))
    G = ds.gradient(ds.opnorm, a)
    assert y == ds.opnorm(a) and dy.dtype == a.real.dtype
    assert abs(dy - np.sum(np.real(np.conj(G) * d))) <= VALUE * eps(a) * np.linalg.norm(d)


@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize("ties", ["directional", "raise"])
def test_where_the_pair_does_not_do_the_meaning_is_that_of_the_svd(name: str, ties: str) -> None:
    a = FACTORS[name]()
    d = cases.direction(a.shape).astype(a.dtype)
    for f in (
        lambda **k: ds.gradient(lambda x: ds.opnorm(x, **k), a),
        lambda **k: ds.jvp(lambda x: ds.opnorm(x, **k), (a,), (d,))[1],
        lambda **k: ds.jvp(lambda x: ds.opnorm(x, **k), (a,), (-d,))[1],
    ):
        if ties == "raise" and name != "crowded":
            with pytest.raises(ds.DegenerateError, match="sigma_1"):
                f(ties=ties)
        else:
            np.testing.assert_array_equal(f(ties=ties), f(ties=ties, algorithm="lapack"))


def test_gradient_at_a_double_top_is_the_least_subgradient() -> None:
    U, _, Vh = np.linalg.svd(exact(2, 2))
    G = ds.gradient(ds.opnorm, exact(2, 2))
    np.testing.assert_allclose(G, U[:, :2] @ Vh[:2] / 2, rtol=0, atol=1e-13)
    assert ds.gradient(ds.opnorm, np.zeros((N, N))).max() == 0


def test_a_tie_below_the_top_is_none_of_its_business() -> None:
    a = exact(3, 2, 2)
    with ds.options(ties="raise"):
        assert np.isfinite(ds.gradient(ds.opnorm, a)).all()
        assert np.isfinite(ds.gradient(ds.opnorm, np.diag([3.0, 1.0, 1.0]))).all()


@pytest.mark.parametrize(
    "settings", [{"algorithm": "lapack"}, {"algorithm": "jacobi"}, {"refine": 1}, {"tangents": "sweeps"}], ids=str
)
def test_a_way_that_is_asked_for_is_taken(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    a = cases.normal(N, N)
    expected = ds.opnorm(a)
    monkeypatch.setattr(tops_module, "leading", None)  # would fail if it were called
    for f in (lambda x: ds.opnorm(x, **settings), lambda x: ds.jvp(lambda z: ds.opnorm(z, **settings), (x,), (x,))[0]):
        assert f(a) == pytest.approx(expected, rel=1e-13)
    with ds.options(**settings):
        assert np.linalg.norm(ds.DualArray(a, a[None]), 2).value == pytest.approx(expected, rel=1e-13)


def test_small_matrices_do_not_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tops_module, "leading", None)
    a = cases.normal(N - 1, 3 * N)
    assert ds.gradient(ds.opnorm, a).shape == a.shape
    assert ds.opnorm(np.zeros((0, N, N))).shape == (0,)
    assert ds.gradient(lambda x: np.sum(ds.opnorm(x)), np.zeros((0, N, N))).shape == (0, N, N)


@pytest.mark.parametrize(
    "f",
    [
        pytest.param(lambda X: np.linalg.norm(X, 2), id="np.linalg.norm(X, 2)"),
        pytest.param(lambda X: np.linalg.matrix_norm(X, ord=2), id="np.linalg.matrix_norm"),
        pytest.param(lambda X: ds.norm(X, 2), id="ds.norm(X, 2)"),
        pytest.param(lambda X: ds.linalg.norm(X, ("schatten", np.inf)), id="Schatten"),
        pytest.param(lambda X: np.sum(ds.spectral.spectral_normalize(X)), id="spectral_normalize"),
        pytest.param(lambda X: np.sum(ds.spectral.Dense(N, N)(np.ones(N), {"W": X, "b": 0 * X[0]})), id="Dense"),
    ],
)
def test_everything_that_takes_the_norm_takes_it(f: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    a = cases.normal(N, N)
    with ds.options(algorithm="lapack"):
        expected = ds.gradient(f, a)
    calls = []
    monkeypatch.setattr(np.linalg, "svd", lambda *args, **kwargs: calls.append(args))
    G = ds.gradient(f, a)
    assert not calls
    np.testing.assert_allclose(G, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


def test_one_process_serves_value_and_all_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    a, d, e = cases.normal(N, N), cases.direction((N, N)), cases.direction((N, N), seed=1)
    y, push = ds.linearize(ds.opnorm, a)
    value, pull = ds.vjp(ds.opnorm, a)
    monkeypatch.setattr(tops_module, "leading", None)
    monkeypatch.setattr(np.linalg, "svd", None)
    assert y == value
    (G,) = pull(1.0)
    np.testing.assert_array_equal(pull(2.0)[0], 2 * G)
    for direction in (d, e):
        assert push(direction) == pytest.approx(np.sum(G * direction), rel=1e-12)


def test_several_directions_at_once() -> None:
    a, D = cases.normal(N, N), np.stack([cases.direction((N, N), seed=k) for k in range(3)])
    y = ds.opnorm(ds.DualArray(a, D))
    np.testing.assert_allclose(y.partials, [ds.jvp(ds.opnorm, (a,), (d,))[1] for d in D], rtol=1e-12)
    assert ds.opnorm(ds.DualArray(a, D[:0])).partials.shape == (0,)


@pytest.mark.parametrize("name", ["random", "gap as trained weights have", "wide", "tall", "complex", "complex wide"])
def test_second_derivatives_by_conjugate_gradients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    a = PAIRS[name]()
    d, e = (cases.direction(a.shape, seed=k, dtype=str(a.dtype)) for k in (0, 1))
    expected = ds.hvp(lambda x: ds.opnorm(x, algorithm="lapack"), a, d)
    monkeypatch.setattr(np.linalg, "svd", None)
    H = ds.hvp(ds.opnorm, a, d)
    np.testing.assert_allclose(H, expected, rtol=0, atol=1e-12 * np.linalg.norm(expected))
    size = np.linalg.norm(H) * np.linalg.norm(e)
    assert abs(inner(H, e) - inner(d, ds.hvp(ds.opnorm, a, e))) <= 1e-12 * size, "the Hessian is symmetric"
    twice = ds.derivative(lambda t: ds.derivative(lambda s: ds.opnorm(a + s * d), t), 0.0)
    assert twice == pytest.approx(inner(expected, d), rel=1e-11)


@pytest.mark.parametrize(("scale", "length"), [(1e-150, 1.0), (1e150, 1.0), (1.0, 1e200), (1.0, 1e-200)])
def test_second_derivatives_scale(scale: float, length: float) -> None:
    a, d = cases.normal(N, N), cases.direction((N, N))
    plain, scaled = ds.hvp(ds.opnorm, a, d), ds.hvp(ds.opnorm, scale * a, length * d)
    np.testing.assert_allclose(scaled * scale / length, plain, rtol=0, atol=1e-12 * np.abs(plain).max())


@pytest.mark.parametrize("name", ["float32", "complex64"])
def test_second_derivatives_in_single_precision(name: str) -> None:
    a = PAIRS[name]()
    d = cases.direction(a.shape, dtype=str(a.dtype))
    H, expected = ds.hvp(ds.opnorm, a, d), ds.hvp(ds.opnorm, *(x.astype(np.result_type(x, float)) for x in (a, d)))
    assert H.dtype == a.dtype
    np.testing.assert_allclose(H, expected, rtol=0, atol=1e-5 * np.linalg.norm(expected))


@pytest.mark.parametrize("name", ["gap 1e-8", "tie below the top", "double top", "rank one"])
def test_second_derivatives_where_they_are_hard(name: str) -> None:
    """A gap too small for conjugate gradients, ties that disturb nothing, and one at the top."""
    a = ALL[name]()
    d = cases.direction(a.shape)
    H, expected = (ds.hvp(lambda x, way=way: ds.opnorm(x, algorithm=way), a, d) for way in ("auto", "lapack"))
    gap = 1e-8 if name == "gap 1e-8" else 1.0
    np.testing.assert_allclose(H, expected, rtol=0, atol=1e-12 / gap * np.linalg.norm(expected))


def test_several_directions_of_a_second_derivative() -> None:
    a, D = cases.normal(N, N), np.stack([cases.direction((N, N), seed=k) for k in range(3)])
    columns = ds.jacobian(lambda t: ds.gradient(ds.opnorm, a + np.tensordot(t, D, 1)), np.zeros(3))
    for k in range(3):
        H = ds.hvp(ds.opnorm, a, D[k])
        np.testing.assert_allclose(columns[..., k], H, rtol=0, atol=1e-13 * np.linalg.norm(H))


def test_third_derivatives_make_all_factors_once(monkeypatch: pytest.MonkeyPatch) -> None:
    n = DENSE + 6  # the sum over triples of singular values takes memory of their number cubed
    monkeypatch.setattr(tops_module, "KRYLOV_SIZE", n)
    a, d, e = cases.normal(n, n), cases.direction((n, n)), cases.direction((n, n), seed=1)
    expected = ds.jvp(lambda x: ds.hvp(lambda z: ds.opnorm(z, algorithm="lapack"), x, d), (a,), (e,))[1]
    calls: list[Any] = []
    svd = cpu.svd_bidiagonal
    monkeypatch.setattr(cpu, "svd_bidiagonal", lambda *args, **kwargs: (calls.append(args), svd(*args, **kwargs))[1])
    third = ds.jvp(lambda x: ds.hvp(ds.opnorm, x, d), (a,), (e,))[1]
    assert len(calls) == 1
    np.testing.assert_allclose(third, expected, rtol=0, atol=1e-11 * np.linalg.norm(expected))


def test_second_derivatives_of_a_stack() -> None:
    a = np.stack([cases.normal(N, N), trained(N, N)])
    d = np.stack([cases.direction((N, N), seed=k) for k in range(2)])
    H = ds.hvp(lambda x: np.sum(ds.opnorm(x)), a, d)
    for i in range(2):
        np.testing.assert_allclose(H[i], ds.hvp(ds.opnorm, a[i], d[i]), rtol=0, atol=1e-14)
    assert np.isfinite(ds.hvp(lambda x: np.sum(ds.opnorm(x)), mixed()[0], d)).all(), "with a tie among them"


def test_slope_along_a_direction_that_moves() -> None:
    """The matrix is plain and the direction is not: the pair still does."""
    a, d = cases.normal(N, N), cases.direction((N, N))
    slope = ds.derivative(lambda t: ds.jvp(ds.opnorm, (a,), (t * d,))[1], 2.0)
    assert slope == pytest.approx(ds.jvp(ds.opnorm, (a,), (d,))[1], rel=1e-13)


def mixed() -> np.ndarray:
    return np.stack([cases.normal(N, N), exact(2, 2), np.zeros((N, N)), trained(N, N)]).reshape(2, 2, N, N)


def test_stack_is_its_matrices() -> None:
    a = mixed()
    d, bars = np.stack([cases.direction((N, N), seed=k) for k in range(4)]).reshape(a.shape), np.arange(1.0, 5)
    y, dy = ds.jvp(ds.opnorm, (a,), (d,))
    G = ds.gradient(lambda x: np.sum(bars.reshape(2, 2) * ds.opnorm(x)), a)
    for i, (matrix, direction) in enumerate(zip(a.reshape(-1, N, N), d.reshape(-1, N, N))):
        value, slope = ds.jvp(ds.opnorm, (matrix,), (direction,))
        assert y.flat[i] == value and dy.flat[i] == slope
        assert ds.opnorm(a).flat[i] == pytest.approx(value, rel=1e-14)
        expected = bars[i] * ds.gradient(ds.opnorm, matrix)
        np.testing.assert_allclose(G.reshape(-1, N, N)[i], expected, rtol=0, atol=1e-15)


def test_matrix_that_is_not_finite_is_told_or_left_alone() -> None:
    a = mixed()
    a[1, 0, 3, 4] = np.nan
    for f in (ds.opnorm, lambda x: ds.gradient(lambda z: np.sum(ds.opnorm(z)), x)):
        with pytest.raises(ds.NonFiniteError, match=r"nan at \(1, 0, 3, 4\) in 1 of 4 matrices"):
            f(a)
    with ds.options(nonfinite="propagate"):
        y, G = ds.opnorm(a), ds.gradient(lambda x: np.sum(ds.opnorm(x)), a)
    assert np.isnan(y[1, 0]) and np.isnan(G[1, 0]).any()
    np.testing.assert_array_equal(np.delete(y.ravel(), 2), np.delete(ds.opnorm(mixed()).ravel(), 2))
    assert np.isfinite(np.delete(G.reshape(4, N, N), 2, axis=0)).all()


def test_same_call_same_result() -> None:
    a = cases.normal(N, N)
    (y, G), _ = ds.value_and_gradient(ds.opnorm, a), ds.opnorm(trained(N, N))
    again = ds.value_and_gradient(ds.opnorm, a.copy())
    assert y == again[0] and np.array_equal(G, again[1])


def test_pairs_are_remembered_only_as_long_as_their_value() -> None:
    a = cases.normal(N, N)
    y = EXTREME(a, which="largest")
    assert isinstance(recall(y), Tops)
    copy = y.copy()
    assert recall(copy) is None
    (bar,) = EXTREME.pullback(np.ones(()), copy, (a,), which="largest", options=get())
    np.testing.assert_allclose(bar, ds.gradient(ds.opnorm, a), atol=1e-13)


def test_a_gradient_never_lies_in_the_memory_of_its_argument() -> None:
    f = ds.custom_rule(lambda x: np.sum(x * x) / 2, pullback=lambda y_bar, y, x: (x[0],))
    a = np.arange(3.0)
    for variable in (a, a[:2], {"w": a}):
        G = ds.gradient(lambda v: f(v["w"] if isinstance(v, dict) else v), variable)
        G = G["w"] if isinstance(G, dict) else G
        np.testing.assert_array_equal(G, a[: len(G)])
        assert not np.shares_memory(G, a)


@pytest.mark.slow
def test_cross_validation() -> None:
    ds.cross_validate(ds.opnorm, cases.normal(N, N)).raise_if_failed()


@pytest.mark.parametrize("f", (ds.opnorm, lambda a: ds.norm(a, -2)), ids=("opnorm", "smallest"))
@pytest.mark.parametrize(
    "a", (np.eye(4), np.diag([2.0, 2, 1, 0]), np.eye(3, 4), np.zeros((3, 3)), cases.normal(4, 4)), ids=str
)
def test_forward_gradients_do_not_depend_on_how_many_directions_there_is_room_for(f, a) -> None:
    whole = ds.gradient(f, a, mode="forward")
    with ds.options(max_bytes=20):
        np.testing.assert_array_equal(ds.gradient(f, a, mode="forward"), whole)


@pytest.mark.parametrize("f", (ds.opnorm, lambda a: ds.norm(a, -2)), ids=("opnorm", "smallest"))
@pytest.mark.parametrize("special", ("none", "tied", "zero", "tiny", "huge", "zero corner"))
def test_large_stacks_go_with_their_matrices(f, special: str) -> None:
    a = np.random.default_rng(0).standard_normal((100, 3, 4))
    put = {"tied": np.eye(3, 4), "zero": np.zeros((3, 4)), "tiny": a[7] * 1e-150, "huge": a[7] * 1e150}
    a[7] = put.get(special, a[7])
    if special == "zero corner":
        a[7, 0, 0] = 0.0
    weights = np.random.default_rng(1).standard_normal(100)
    G = ds.gradient(lambda x: np.sum(weights * f(x)), a)
    each = np.stack([w * ds.gradient(f, x) for w, x in zip(weights, a)])
    np.testing.assert_allclose(G, each, rtol=0, atol=1e-13)
    d = cases.direction(a.shape)
    slopes = [ds.jvp(f, (x,), (dx,))[1] for x, dx in zip(a, d)]
    np.testing.assert_allclose(ds.jvp(f, (a,), (d,))[1], slopes, rtol=0, atol=1e-12)
