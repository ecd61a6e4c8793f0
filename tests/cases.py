"""The matrices that the tests share, each with a name that says what is hard about it.

    @pytest.mark.parametrize("case", cases.named("tied", without=["complex"]))
    def test_something(case):
        a = case.matrix()

Every matrix is made by integers, powers of two and a seeded generator, so that it is the same everywhere, but for the
last digits of those by `orthogonal` and `spectrum`, which LAPACK has a hand in. A tie that a name promises is exact: it
comes from integer matrices with orthogonal columns, never from a rounded rotation.

Tags: generic, complex, square, tall, wide, vector (1xn, nx1, 1x1), empty, tied, zero-value (some singular value is 0),
zero (the zero matrix), deficient (rank below min(m, n), not zero), diagonal, orthogonal-columns (a Jacobi method has
nothing to rotate), graded, clustered, ill-conditioned, scaled (squares of the entries leave the range), integer,
strided, nonfinite.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

DTYPES = ("float32", "float64", "complex64", "complex128")


def eps(x: Any) -> float:
    """The rounding unit of a dtype or of an array's."""
    return float(np.finfo(getattr(x, "dtype", x)).eps)


# ---------------------------------------------------------------------------------------------------------------------
# Recipes


def normal(*shape: int, seed: int = 0, dtype: str = "float64") -> np.ndarray:
    """Independent standard normal entries (complex ones of variance 2)."""
    rng = np.random.default_rng([seed, *shape])
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def direction(shape: Iterable[int], seed: int = 0, dtype: str = "float64") -> np.ndarray:
    """A dense direction to differentiate along: multiples of 1/8 between -1 and 1."""
    shape = tuple(shape)
    rng = np.random.default_rng([seed, 8, *shape])
    d = rng.integers(-8, 9, shape) / 8
    if np.dtype(dtype).kind == "c":
        d = d + 1j * rng.integers(-8, 9, shape) / 8
    return d.astype(dtype)


def orthogonal(n: int, seed: int = 0, dtype: str = "float64") -> np.ndarray:
    """A random orthogonal (unitary) matrix, to rounding."""
    q, r = np.linalg.qr(normal(n, n, seed=seed, dtype=dtype))
    return q * (np.diag(r) / np.abs(np.diag(r)))


def spectrum(m: int, n: int, values: Iterable[float], seed: int = 0, dtype: str = "float64") -> np.ndarray:
    """A dense m x n matrix whose singular values are `values`, to rounding."""
    values = np.array(list(values))
    r = len(values)
    u, v = orthogonal(m, seed=2 * seed, dtype=dtype)[:, :r], orthogonal(n, seed=2 * seed + 1, dtype=dtype)[:, :r]
    return (u * values) @ v.conj().T


def reflector(v: Iterable[complex]) -> np.ndarray:
    """|v|^2 I - 2 v v^H: |v|^2 times a dense orthogonal (unitary) matrix, exact for (Gaussian) integers v."""
    v = np.array(list(v))
    return np.real(v.conj() @ v) * np.eye(len(v)) - 2 * np.outer(v, v.conj())


_INTEGERS = {1: [1], 2: [1, 2], 3: [1, 2, 2], 4: [1, 1, 1, 2], 5: [1, 1, 2, 1, 3], 6: [1, 1, 2, 1, 1, 3]}
_GAUSSIAN = {1: [1], 2: [1, 2j], 3: [1, 2j, 1 + 1j], 4: [1, 1j, 1, 2], 5: [1, 1j, 2, 1 - 1j, 1]}


def exact(m: int, n: int, values: Iterable[int], complex: bool = False) -> np.ndarray:
    """A dense m x n integer matrix whose singular values are `values` times |v|^2 |w|^2, exactly."""
    vectors = _GAUSSIAN if complex else _INTEGERS
    values = np.array(list(values))
    r = len(values)
    return (reflector(vectors[m])[:, :r] * values) @ reflector(vectors[n])[:, :r].conj().T


def grading(m: int, n: int, digits: float, rows: bool, columns: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Row and column factors: powers of two from 10^digits to 10^-digits, not in order (ones where not asked for)."""
    rng = np.random.default_rng([seed, m, n])
    factors = (
        np.round(np.linspace(-1, 1, k) * digits * np.log2(10)) * wanted for k, wanted in ((m, rows), (n, columns))
    )
    down, across = (np.exp2(rng.permutation(f)) for f in factors)
    return down, across


def graded(
    m: int, n: int, digits: float, rows: bool, columns: bool, seed: int = 0, dtype: str = "float64"
) -> np.ndarray:
    """D1 B D2 with B well conditioned and D1, D2 from `grading`: its values span up to 4 * digits powers of ten."""
    down, across = grading(m, n, digits, rows, columns, seed)
    return normal(m, n, seed=seed, dtype=dtype) * down[:, None] * across


def hadamard(n: int) -> np.ndarray:
    """Sylvester's matrix of signs, n a power of two: all singular values are sqrt(n)."""
    h = np.ones((1, 1))
    while len(h) < n:
        h = np.block([[h, h], [h, -h]])
    return h


def hilbert(m: int, n: int) -> np.ndarray:
    """1 / (i + j + 1)."""
    return 1.0 / (np.arange(m)[:, None] + np.arange(n) + 1.0)


def kahan(n: int, sine: float = 0.75) -> np.ndarray:
    """Kahan's upper triangular matrix, hard for rank decisions; here with a sine exact in binary."""
    cosine = np.sqrt(1 - sine**2)
    return np.vander([sine], n, increasing=True).T * (np.eye(n) - cosine * np.triu(np.ones((n, n)), 1))


def permutation(n: int) -> np.ndarray:
    """The cyclic shift: all singular values 1."""
    return np.roll(np.eye(n), 1, axis=0)


def pythagorean(n: int = 4) -> np.ndarray:
    """5 times a rotation by arctan(4/3), and for n = 4 its product with a second one: exact ties, dense."""
    plane = np.array([[3.0, -4.0], [4.0, 3.0]])
    return plane if n == 2 else np.kron(plane, np.array([[5.0, -12.0], [12.0, 5.0]]))


# ---------------------------------------------------------------------------------------------------------------------
# The table


@dataclasses.dataclass(frozen=True)
class Case:
    """A named matrix; `matrix()` makes a fresh one."""

    name: str
    make: Callable[[], np.ndarray]
    tags: frozenset[str]

    def matrix(self, dtype: str | None = None) -> np.ndarray:
        """The matrix, as `dtype` if that is given (a real case as complex gets no imaginary part)."""
        a = self.make()
        return a if dtype is None else a.astype(dtype)

    def __repr__(self) -> str:
        return self.name


CASES: dict[str, Case] = {}


def _add(name: str, make: Callable[[], np.ndarray], tags: str) -> None:
    a = make()
    m, n = a.shape
    shape = {"empty"} if a.size == 0 else {"square"} if m == n else {"tall"} if m > n else {"wide"}
    if a.size and 1 in (m, n):
        shape.add("vector")
    if a.dtype.kind == "c":
        shape.add("complex")
    CASES[name] = Case(name, make, frozenset(tags.split()) | shape)


def named(*tags: str, without: Iterable[str] = ()) -> list[Any]:
    """Cases that have all of `tags` and none of `without`, for pytest.mark.parametrize.

    Empty and non-finite matrices come only where they are asked for.
    """
    special = {"empty", "nonfinite"} - set(tags)
    refused = special | set(without)
    return [
        pytest.param(case, id=case.name)
        for case in CASES.values()
        if case.tags.issuperset(tags) and not case.tags & refused
    ]


for _m, _n in ((2, 2), (3, 3), (3, 5), (5, 3), (4, 4), (6, 6), (12, 7), (7, 12)):
    _add(f"generic {_m}x{_n}", lambda m=_m, n=_n: normal(m, n), "generic")
for _m, _n in ((2, 2), (3, 3), (3, 4), (4, 3), (6, 4)):
    _add(f"generic complex {_m}x{_n}", lambda m=_m, n=_n: normal(m, n, dtype="complex128"), "generic")

_add("1x1", lambda: np.array([[-2.5]]), "generic orthogonal-columns")
_add("complex 1x1", lambda: np.array([[3.0 - 4.0j]]), "generic orthogonal-columns")
_add("row 1x5", lambda: normal(1, 5), "generic")
_add("column 5x1", lambda: normal(5, 1), "generic orthogonal-columns")
_add("complex column 4x1", lambda: normal(4, 1, dtype="complex128"), "generic orthogonal-columns")
_add("zero rows 0x3", lambda: np.zeros((0, 3)), "")
_add("zero columns 3x0", lambda: np.zeros((3, 0)), "")
_add("nothing 0x0", lambda: np.zeros((0, 0)), "")

_add("identity 2", lambda: np.eye(2), "tied diagonal orthogonal-columns")
_add("identity 4", lambda: np.eye(4), "tied diagonal orthogonal-columns")
_add("identity 4x3", lambda: np.eye(4, 3), "tied diagonal orthogonal-columns")
_add("complex identity 3", lambda: np.eye(3, dtype=complex), "tied diagonal orthogonal-columns")
_add("permutation 5", lambda: permutation(5), "tied orthogonal-columns")
_add("signed permutation 4", lambda: permutation(4) * [1.0, -1.0, 1.0, -1.0], "tied orthogonal-columns")
_add("hadamard 4", lambda: hadamard(4), "tied orthogonal-columns")
_add("hadamard 8", lambda: hadamard(8), "tied orthogonal-columns")
_add("pythagorean rotation 2", lambda: pythagorean(2), "tied orthogonal-columns")
_add("pythagorean rotations 4", lambda: pythagorean(4), "tied orthogonal-columns")
_add("tied pair on top 3x3", lambda: exact(3, 3, [2, 2, 1]), "tied")
_add("tied pair at the end 4x3", lambda: exact(4, 3, [3, 1, 1]), "tied")
_add("two tied pairs 4x4", lambda: exact(4, 4, [3, 3, 1, 1]), "tied")
_add("tied triple 6x4", lambda: exact(6, 4, [2, 2, 2, 1]), "tied")
_add("tied wide 3x5", lambda: exact(3, 5, [2, 1, 1]), "tied")
_add("tied complex 3x3", lambda: exact(3, 3, [2, 1, 1], complex=True), "tied")
_add("tied complex 5x4", lambda: exact(5, 4, [3, 3, 1, 1], complex=True), "tied")
_add("symmetric indefinite, tied 2x2", lambda: np.array([[0.0, 2.0], [2.0, 0.0]]), "tied orthogonal-columns")

_add("zero 1x1", lambda: np.zeros((1, 1)), "zero zero-value orthogonal-columns diagonal")
_add("zero 3x3", lambda: np.zeros((3, 3)), "zero tied zero-value orthogonal-columns diagonal")
_add("zero 4x2", lambda: np.zeros((4, 2)), "zero tied zero-value orthogonal-columns diagonal")
_add("zero 2x4", lambda: np.zeros((2, 4)), "zero tied zero-value orthogonal-columns diagonal")
_add("complex zero 3x2", lambda: np.zeros((3, 2), complex), "zero tied zero-value orthogonal-columns diagonal")
_add("one zero value 3x3", lambda: exact(3, 3, [2, 1, 0]), "deficient zero-value")
_add("one zero value 4x3", lambda: exact(4, 3, [2, 1, 0]), "deficient zero-value")
_add("ones 3x3", lambda: np.ones((3, 3)), "deficient tied zero-value")
_add("rank one 4x3", lambda: np.outer([1.0, -2.0, 0.0, 3.0], [2.0, 1.0, -1.0]), "deficient tied zero-value")
_add("rank one 2x4", lambda: np.outer([1.0, -2.0], [2.0, 1.0, -1.0, 4.0]), "deficient zero-value")
_add("rank two, tied 4x4", lambda: exact(4, 4, [1, 1, 0, 0]), "deficient tied zero-value")
_add("rank two, tied 5x4", lambda: exact(5, 4, [2, 2, 0, 0]), "deficient tied zero-value")
_add("rank one complex 3x3", lambda: exact(3, 3, [1, 0, 0], complex=True), "deficient tied zero-value")
_add("zero column 4x3", lambda: normal(4, 3) * [1.0, 0.0, 1.0], "deficient zero-value")
_add("zero row 3x4", lambda: normal(3, 4) * [[1.0], [0.0], [1.0]], "deficient zero-value")
_add("nilpotent 4", lambda: np.eye(4, k=1), "deficient tied zero-value orthogonal-columns")

_add("diagonal", lambda: np.diag([3.0, 2.0, 1.0]), "diagonal orthogonal-columns generic")
_add("diagonal, unsorted and signed", lambda: np.diag([-1.0, 3.0, 0.5, -2.0]), "diagonal orthogonal-columns generic")
_add("diagonal, tied", lambda: np.diag([1.0, 1.0, 2.0, 3.0]), "diagonal orthogonal-columns tied")
_add("diagonal, a zero", lambda: np.diag([2.0, 0.0, 1.0]), "diagonal orthogonal-columns deficient zero-value")
_add("diagonal 5x3", lambda: np.eye(5, 3) * [1.0, 4.0, 2.0], "diagonal orthogonal-columns generic")
_add("hadamard with scaled columns", lambda: hadamard(4) * [1.0, 4.0, 2.0, 3.0], "orthogonal-columns generic")
_add("orthogonal blocks", lambda: np.kron(np.diag([1.0, 2.0]), normal(2, 2, seed=1)), "generic")

_add("hilbert 5", lambda: hilbert(5, 5), "ill-conditioned")
_add("hilbert 8x6", lambda: hilbert(8, 6), "ill-conditioned")
_add("kahan 6", lambda: kahan(6), "ill-conditioned")
_add("cluster 1e-3", lambda: spectrum(4, 4, [2, 1 + 1e-3, 1, 0.5], seed=3), "clustered")
_add("cluster 1e-8", lambda: spectrum(5, 4, [2, 1 + 1e-8, 1, 0.5], seed=4), "clustered")
_add("cluster 1e-12", lambda: spectrum(4, 4, [1 + 1e-12, 1, 0.5, 0.25], seed=5), "clustered")
_add("cluster at rounding", lambda: spectrum(4, 4, [2, 1, 1, 1], seed=6), "clustered")
_add("complex cluster 1e-8", lambda: spectrum(4, 3, [1 + 1e-8, 1, 0.5], seed=7, dtype="complex128"), "clustered")

_add("graded 1e4 5x5", lambda: graded(5, 5, 4, True, True), "graded")
_add("graded 1e8 8x5", lambda: graded(8, 5, 8, True, True, seed=1), "graded")
_add("graded columns 1e30 4x4", lambda: graded(4, 4, 30, False, True, seed=2), "graded")
_add("graded rows 1e30 5x3", lambda: graded(5, 3, 30, True, False, seed=3), "graded")
_add("graded 1e60 4x4", lambda: graded(4, 4, 60, True, True, seed=4), "graded")
_add("graded complex 1e30 4x3", lambda: graded(4, 3, 30, True, True, seed=5, dtype="complex128"), "graded")
_add("graded 1e100 4x4", lambda: graded(4, 4, 100, True, True, seed=6), "graded scaled")

_add("tiny 1e-160", lambda: np.ldexp(normal(3, 3, seed=2), -531), "scaled")
_add("huge 1e160", lambda: np.ldexp(normal(4, 3, seed=3), 531), "scaled")
_add("subnormal 3x3", lambda: np.ldexp(np.round(normal(3, 3, seed=4) * 2**20), -1070), "scaled")
_add("near overflow 3x3", lambda: np.ldexp(normal(3, 3, seed=5), 1020), "scaled")
_add("smallest subnormal 2x2", lambda: np.array([[5e-324, 0.0], [0.0, 5e-324]]), "scaled tied")

_add("integers 3x4", lambda: np.array([[1, -2, 3, 0], [4, 0, -1, 2], [0, 5, 1, 1]]), "integer generic")
_add("integer identity", lambda: np.eye(3, dtype=np.int64), "integer tied diagonal orthogonal-columns")
_add("booleans 3x3", lambda: np.array([[1, 1, 0], [0, 1, 1], [1, 1, 1]], bool), "integer generic")

_add("reversed strides", lambda: normal(5, 4)[::-1, ::-1], "generic strided")
_add("every second entry", lambda: normal(8, 6)[::2, ::2], "generic strided")
_add("transposed", lambda: normal(3, 5).T, "generic strided")
_add("zero strides", lambda: np.broadcast_to(normal(1, 4), (3, 4)), "deficient tied zero-value strided")
_add("constant, both strides zero", lambda: np.broadcast_to(0.5, (3, 2)), "deficient zero-value strided")
_add("fortran order", lambda: np.asfortranarray(normal(4, 4, seed=1)), "generic strided")

_add("a NaN", lambda: np.where(np.eye(3) == 1, np.nan, normal(3, 3)), "nonfinite")
_add("an infinity", lambda: np.array([[1.0, np.inf], [2.0, 3.0]]), "nonfinite")
_add("complex, one part NaN", lambda: np.array([[complex(1.0, np.nan), 2.0], [3.0, 1.0]]), "nonfinite")
