"""What costs memory alone: compiled kernels give what NumPy gives."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dualsvd as ds
from dualsvd.kernels import caching, krylov, memory_bound
from dualsvd.linalg.kernel_rules import MANY
from dualsvd.rules import elementwise
from dualsvd.spectral import top_singular_triplet

SIDE = 190  # SIDE^2 numbers bring in the kernels, a row of them does not
PRODUCT, QUOTIENT, RECIPROCAL = {"multiply"}, {"divide"}, {"divide_number"}
FUNCTIONS: dict[str, tuple[Callable[[Any, Any], Any], set[str]]] = {
    "x y": (lambda x, y: x * y, PRODUCT),
    "x x": (lambda x, y: x * x, PRODUCT),
    "x^2": (lambda x, y: x**2, PRODUCT),
    "x / y": (lambda x, y: x / y, QUOTIENT),
    "x / x": (lambda x, y: x / x, QUOTIENT),
    "3 / x": (lambda x, y: 3 / x, RECIPROCAL),
    "-0.1 / x": (lambda x, y: -0.1 / x, RECIPROCAL),
    "y / (1 + x x)": (lambda x, y: y / (1 + x * x), PRODUCT | QUOTIENT),
    "x y sin(x) / (x + y)": (lambda x, y: x * y * np.sin(x) / (x + y), PRODUCT | QUOTIENT),
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the kernels that were called, of which none is loaded yet."""
    names, load = set(), memory_bound.in_one_pass

    def watched(name: str, dtype: Any) -> Any:
        kernel = load(name, dtype)
        return lambda *operands: names.add(name) or kernel(*operands)

    monkeypatch.setattr(memory_bound, "in_one_pass", watched)
    for kernels in (elementwise.PRODUCT, elementwise.QUOTIENT, elementwise.RECIPROCAL):
        monkeypatch.setattr(kernels, "kernels", {})
    return names


def operands(rng: np.random.Generator, dtype: Any, directions: int) -> tuple[ds.DualArray, ds.DualArray]:
    values, tangents = rng.uniform(1, 2, (2, SIDE, SIDE)), rng.standard_normal((2, directions, SIDE, SIDE))
    x, y = (ds.DualArray(v.astype(dtype), dv.astype(dtype)) for v, dv in zip(values, tangents))
    return x, y


@pytest.mark.parametrize("directions", [1, 3])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_kernels_give_every_bit_that_numpy_gives(
    name: str, dtype: str, directions: int, rng: np.random.Generator, calls: set[str]
) -> None:
    """So that a result depends neither on how large an array is, nor on what was computed before."""
    (f, kernels), (x, y) = FUNCTIONS[name], operands(rng, dtype, directions)
    rows = [f(x[i], y[i]) for i in range(SIDE)]
    assert not calls
    whole = f(x, y)
    assert calls == kernels and x.size >= elementwise.ONE_PASS > x[0].size
    np.testing.assert_array_equal(whole.value, [row.value for row in rows])
    np.testing.assert_array_equal(whole.partials, np.stack([row.partials for row in rows], axis=1))
    assert whole.dtype == whole.partials.dtype == dtype
    calls.clear()
    row = f(np.copy(x[0]), np.copy(y[0]))  # small, now that they are loaded
    assert calls == kernels
    np.testing.assert_array_equal(row.value, rows[0].value)
    np.testing.assert_array_equal(row.partials, rows[0].partials)


@pytest.mark.parametrize(
    "change",
    {
        "transposed": lambda x, y: (x.T, y),
        "broadcast": lambda x, y: (x, y[:1]),
        "every other": lambda x, y: (x[:, ::2], y[:, ::2]),
        "complex": lambda x, y: (x * 1j, y),
        "another byte order": lambda x, y: (np.astype(x, ">f8"), np.astype(y, ">f8")),
        "two precisions": lambda x, y: (x, np.astype(y, np.float32)),
        "no directions": lambda x, y: (ds.DualArray(x.value, x.partials[:0]), ds.DualArray(y.value, y.partials[:0])),
    }.items(),
    ids=lambda item: item[0],
)
def test_what_the_kernels_do_not_take_goes_to_numpy(
    change: tuple[str, Any], rng: np.random.Generator, calls: set[str]
) -> None:
    x, y = change[1](*operands(rng, "float64", 2))
    calls.clear()
    product = x * y
    assert not calls
    np.testing.assert_array_equal(product.value, x.value * y.value)
    np.testing.assert_allclose(product.partials, x.partials * y.value + x.value * y.partials, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "f",
    [lambda x, y: x / y, lambda x, y: x * (y + np.inf), lambda x, y: 1 / y, lambda x, y: (y + np.inf - np.inf) ** 2],
    ids=["divided", "multiplied", "divided a number", "squared"],
)
def test_what_is_not_finite_is_told_as_by_numpy(f: Any, rng: np.random.Generator, calls: set[str]) -> None:
    x, y = operands(rng, "float64", 1)
    y.value[3, 5] = x.value[7, 7] = 0
    with np.errstate(all="ignore"):
        rows = [f(x[i], y[i]) for i in range(SIDE)]
    assert not calls
    with pytest.warns(RuntimeWarning):
        whole = f(x, y)
    assert calls
    np.testing.assert_array_equal(whole.value, [row.value for row in rows])
    np.testing.assert_array_equal(whole.partials, np.stack([row.partials for row in rows], axis=1))
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        f(x, y)


def test_second_derivatives_go_through(rng: np.random.Generator, calls: set[str]) -> None:
    """d^2/dx^2 of x x / (1 + x) = 2 / (1 + x)^3."""
    x, one = rng.uniform(1, 2, SIDE * SIDE), np.ones(SIDE * SIDE)
    slope = lambda x: ds.jvp(lambda x: x * x / (1 + x), (x,), (one,))[1]  # noqa: E731
    np.testing.assert_allclose(ds.jvp(slope, (x,), (one,))[1], 2 / (1 + x) ** 3, rtol=1e-13)
    assert calls == PRODUCT | QUOTIENT | RECIPROCAL  # of 1 / (1 + x) squared, in the tangent of a tangent


def test_without_a_compiler_numpy_does_it() -> None:
    code = "import numpy as np, dualsvd as ds; x = np.ones(40_000); print(ds.jvp(lambda x: x * x, (x,), (x,))[1].sum())"
    code += "; print(ds.jacobian(ds.svdvals, np.diag(np.arange(80.0, 0, -1))).sum())"
    code += "; print(ds.svd(np.ones((9, 3, 3))).S.sum().round(9))"
    code += "; print(ds.opnorm(np.diag(np.arange(300.0, 0, -1))).round(9))"
    code += "; report = ds.cross_validate(ds.svdvals, np.diag([3.0, 2.0, 1.0]))"
    code += "; print(report.passed, 'through the sweeps does not apply' in str(report))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True
    )
    assert done.stdout.split() == ["80000.0", "80.0", "27.0", "300.0", "True", "True"], done.stderr


@pytest.mark.parametrize(
    "call",
    ["ds.svd(np.eye(3), algorithm='jacobi')", "svd_small(np.eye(2))", "svdvals_small(np.eye(2))"],
)
def test_what_needs_a_compiler_says_so(call: str) -> None:
    code = "import numpy as np, dualsvd as ds; from dualsvd.kernels import svd_small, svdvals_small"
    code += f"\ntry: {call}\nexcept ds.BackendError as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True
    )
    assert "unset that variable" in done.stdout, done.stderr


def test_what_lapack_does_alone_loads_no_compiler() -> None:
    code = "import sys, numpy as np, dualsvd as ds; a = np.random.default_rng(0).standard_normal((31, 40))"
    code += "; ds.jacobian(ds.svdvals, a); ds.jacobian(lambda x: ds.svdvals(x, algorithm='lapack'), np.eye(33))"
    code += "; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False"], done.stderr


@pytest.mark.parametrize("rows", [1, 4, 7, 64])
@pytest.mark.parametrize("columns", [3, 64, 301])
def test_two_vectors_at_a_time_are_multiplied_as_one_by_one(rows: int, columns: int, rng: np.random.Generator) -> None:
    """V X^T X to some roundings."""
    X, V = rng.standard_normal((rows, columns)), rng.standard_normal((2, columns))
    exact = (V.astype(np.longdouble) @ X.T.astype(np.longdouble)) @ X
    error = np.abs(krylov.gram_of_two(X, V) - exact).max()
    assert error <= np.finfo(float).eps * np.sqrt(rows + columns) * np.linalg.norm(X) ** 2 * np.linalg.norm(V)


@pytest.mark.parametrize("size", [2, 4, 7, 60])
@pytest.mark.parametrize("within", [0.0, 1.0, 1e12], ids=lambda x: f"{x:g} within")
def test_a_basis_is_extended_by_two_rows(size: int, within: float, rng: np.random.Generator) -> None:
    """Orthonormal, whatever part of the new rows lay in the space already; and the coefficients give them back."""
    n = 300
    V, W = np.empty((size + 2, n)), rng.standard_normal((2, n))
    V[:size] = np.linalg.qr(rng.standard_normal((n, size)))[0].T
    W += within * rng.standard_normal((2, size)) @ V[:size]
    given, beta = W.copy(), np.zeros((2, 2))
    H, done = krylov.extend_basis(W, V, size, beta, 2.0, 0.1)
    assert done and beta[1, 0] == 0
    np.testing.assert_allclose(V @ V.T, np.eye(size + 2), atol=4e-15)
    np.testing.assert_allclose(H @ V[:size] + beta.T @ V[size:], given, atol=1e-14 * np.abs(given).max())


@pytest.mark.parametrize("second", [0.0, 1.0, 1.0 + 1e-3], ids=["zero", "equal", "nearly"])
def test_a_basis_is_not_extended_by_rows_that_depend_on_each_other(second: float, rng: np.random.Generator) -> None:
    n, size = 50, 4
    V, W, beta = np.empty((size + 2, n)), rng.standard_normal((2, n)), np.zeros((2, 2))
    V[:size] = np.linalg.qr(rng.standard_normal((n, size)))[0].T
    W[1] = second * W[0] + (second % 1) * W[1]
    given = W.copy()
    H, done = krylov.extend_basis(W, V, size, beta, 2.0, 0.1)
    assert not done
    np.testing.assert_allclose(W + H @ V[:size], given, atol=1e-14)


@pytest.mark.parametrize("shape", [(300, 260), (260, 300)], ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_spectral_norm_with_kernels_and_without(
    shape: tuple[int, int], order: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = np.asarray(rng.standard_normal(shape), order=order)
    s, (u, v) = np.linalg.norm(a, 2), top_singular_triplet(a)[1:3]
    called, multiply = [], krylov.gram_of_two
    monkeypatch.setattr(krylov, "gram_of_two", lambda *args: called.append(args) or multiply(*args))
    assert abs(ds.opnorm(a) - s) <= 1e-14 * s and len(called) > 5
    monkeypatch.setattr(caching, "compiles", lambda: False)
    called.clear()
    without = top_singular_triplet(a)
    assert not called
    np.testing.assert_allclose(np.outer(without.u, without.v), np.outer(u, v), atol=1e-12)


@pytest.mark.parametrize("order", ["C", "F", None])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(70, 64), (64, 70), (65, 65)], ids=str)
def test_dyads_are_outer_products(shape: tuple[int, int], dtype: str, order: Any, rng: np.random.Generator) -> None:
    """The Jacobian of the singular values is u_i v_i^T, in memory of every order."""
    a = rng.standard_normal(shape).astype(dtype)
    U, S, Vh = ds.svd(a)
    assert U.size * shape[1] >= MANY
    out = None if order is None else np.full((len(S), *shape), np.nan, dtype, order=order)
    J = ds.jacobian(ds.svdvals, a, out=out)
    assert out is None or J is out
    np.testing.assert_array_equal(J, U.T[:, :, None] * Vh[:, None, :])
    assert J.dtype == dtype


def test_dyads_of_tied_values() -> None:
    """All values of the identity are tied: the dyads are those of the basis that follows the entries in turn."""
    J = ds.jacobian(ds.svdvals, np.eye(80))
    np.testing.assert_allclose(J.sum(axis=0), np.eye(80), atol=1e-14)
    np.testing.assert_array_equal(J, ds.jacobian(ds.svdvals, np.eye(80), mode="forward"))
