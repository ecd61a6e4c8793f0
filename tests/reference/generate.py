"""Makes reference.jsonl: singular values and derivatives, right to float64's last digit.

    python tests/reference/generate.py           adds the cases that are not there yet; safe to stop and start again

How it was made. Every matrix is the float64 matrix as it stands in the file: where a spectrum is prescribed (gaps of
1e-3 to 1e-15), the matrix is built with mpmath and rounded, and the rounded matrix defines its own gap. Of that matrix
mpmath computes the SVD with 220 digits (more where the entries span many powers of ten). Derivatives are differences
of what does not depend on the choice of singular vectors - the ordered singular values and the matrices F(A) - at
A + t D for t = 0, h, ..., 4h with h = 1e-36 (relative to A), combined by Newton's forward differences (Richardson
extrapolation). No derivative formula enters. The size of the last term bounds the truncation: the script stops unless
it is below 1e-30 of the result. Lexicographic derivatives are one-sided differences of one-sided differences, each
with a step 1e-36 times that of the level above. Rounded to float64, every number is right to its last digit.

One JSON object a line: name, family, A, D (two directions), s, ds and dds (first and second one-sided derivative of
the ordered singular values along each D), functions (value, d along each D, dd along (D1,D1), (D1,D2), (D2,D2)) where
they are smooth, and, for some ties, lexicographic (the directions and a row for each). Complex matrices are {re, im}.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import mpmath as mp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import cases
from reference.archive import FILE, encode

DIGITS = 220  # two differences cost 2 * 36 digits, the condition of a gap of 1e-16 about 50: more than 60 remain
LEVEL = 36
STEP = mp.mpf(10) ** -LEVEL  # (step / gap)^3 is below 1e-48 for every gap above 1e-20
CERTAIN = mp.mpf(10) ** -30  # the last term of the extrapolation may be that much of the result

Matrix = mp.matrix
Spectrum = tuple[Matrix, list[Any], Matrix]


# ---------------------------------------------------------------------------------------------------------------------
# Arrays in and out


def exactly(a: np.ndarray) -> Matrix:
    """The float64 matrix as an mpmath matrix, exactly."""
    convert = (lambda z: mp.mpc(float(z.real), float(z.imag))) if a.dtype.kind == "c" else (lambda x: mp.mpf(float(x)))
    return mp.matrix([[convert(x) for x in row] for row in a])


def rounded(a: Matrix, is_complex: bool) -> np.ndarray:
    """An mpmath matrix as float64 or complex128, each part correctly rounded."""
    kind = complex if is_complex else (lambda x: float(mp.re(x)))
    return np.array([[kind(a[i, j]) for j in range(a.cols)] for i in range(a.rows)])


# ---------------------------------------------------------------------------------------------------------------------
# The singular value decomposition, and functions of it


def svd(a: Matrix) -> Spectrum:
    """Thin SVD, values in descending order."""
    is_complex = any(isinstance(x, mp.mpc) for x in a)
    u, s, vh = (mp.svd_c if is_complex else mp.svd_r)(a, full_matrices=False)
    order = sorted(range(len(s)), key=lambda i: -s[i])
    r = len(order)
    u = mp.matrix([[u[i, k] for k in order] for i in range(a.rows)])
    vh = mp.matrix([[vh[k, j] for j in range(a.cols)] for k in order])
    assert (u.cols, vh.rows) == (r, r)
    return u, [s[k] for k in order], vh


def spectral(f: Callable[[Any], Any]) -> Callable[[Spectrum], Matrix]:
    """U f(S) V^H."""

    def of(usv: Spectrum) -> Matrix:
        u, s, vh = usv
        return u * mp.diag([f(x) for x in s]) * vh

    return of


def dyads(usv: Spectrum, i: int, j: int) -> Matrix:
    """Sum of u_k v_k^H for i <= k < j."""
    u, _, vh = usv
    return u[:, i:j] * vh[i:j, :]


def projector(usv: Spectrum, k: int) -> Matrix:
    u = usv[0][:, 0:k]
    return u * u.H


def truncated(usv: Spectrum, k: int) -> Matrix:
    u, s, vh = usv
    return u[:, 0:k] * mp.diag(s[:k]) * vh[0:k, :]


def pseudoinverse(usv: Spectrum) -> Matrix:
    u, s, vh = usv
    return vh.H * mp.diag([1 / x for x in s]) * u.H


def schatten(p: float) -> Callable[[Spectrum], Any]:
    return lambda usv: sum(x**p for x in usv[1]) ** (mp.mpf(1) / p)


def smooth_functions(s: list[Any], m: int, n: int) -> dict[str, Callable[[Spectrum], Any]]:
    """The functions that are smooth at a matrix with that spectrum, by the name that the tests read.

    A number after the name is its parameter; ranks and thresholds are put into the widest gap, so that what is close
    or tied is close or tied *inside* what the function treats alike.
    """
    r, top = len(s), s[0]
    if top == 0:
        return {"spectral_function tanh": spectral(mp.tanh)}
    apart = 1e-2 * top
    functions: dict[str, Callable[[Spectrum], Any]] = {"norm fro": schatten(2), "norm schatten 4": schatten(4)}
    if top < 1e3:
        functions["spectral_function tanh"] = spectral(mp.tanh)
    if r == 1 or s[0] - s[1] > apart:
        functions["opnorm"] = lambda usv: usv[1][0]
    if s[-1] > 1e-7 * top:
        functions["nuclear_norm"] = lambda usv: sum(usv[1])
        functions["polar"] = spectral(lambda x: mp.mpf(1))
        functions["pinv"] = pseudoinverse
        functions["norm schatten 3"] = schatten(3)
        if r > 1 and s[-2] - s[-1] > apart:
            functions["norm -2"] = lambda usv: usv[1][-1]
            if s[0] - s[1] > apart:
                functions["cond"] = lambda usv: usv[1][0] / usv[1][-1]
    if r > 1:
        k = max(range(1, r), key=lambda i: s[i - 1] - s[i])
        if s[k - 1] - s[k] > apart:
            tau = mp.mpf(float((s[k - 1] + s[k]) / 2))
            functions[f"low_rank {k}"] = lambda usv: truncated(usv, k)
            functions[f"range_projector {k}"] = lambda usv: projector(usv, k)
            functions[f"singular_value_threshold {float(tau)!r}"] = spectral(lambda x: max(x - tau, mp.mpf(0)))
        i = min(range(1, r), key=lambda i: s[i - 1] - s[i])
        if s[i - 1] - s[i] > 1e-14 * top and (i < 2 or s[i - 2] - s[i - 1] > apart):
            functions[f"dyad {i - 1}"] = lambda usv: dyads(usv, i - 1, i)  # the hardest term of the SVD itself
    return functions


# ---------------------------------------------------------------------------------------------------------------------
# Derivatives by differences


def largest(x: Any) -> Any:
    return max((abs(y) for y in x), default=mp.mpf(0)) if isinstance(x, mp.matrix) else abs(x)


def one_sided(values: list[Any], size: Any = 0) -> tuple[Any, Any]:
    """First and second derivative from the right, from values at 0, STEP, ..., 4 STEP: Newton's forward differences.

    `size` is that of what `values` were computed from: a value that is zero carries rounding noise relative to it.
    """
    rows = [values]
    while len(rows[-1]) > 1:
        rows.append([b - a for a, b in zip(rows[-1], rows[-1][1:])])
    d1, d2, d3, d4 = (row[0] for row in rows[1:])
    first = (d1 - d2 / 2 + d3 / 3 - d4 / 4) / STEP
    second = (d2 - d3 + d4 * 11 / 12) / STEP**2
    truncation, scale = largest(d4) / STEP**2, size + largest(values[0]) + largest(first) + largest(second)
    if truncation > CERTAIN * scale:
        raise ArithmeticError(f"the extrapolation is certain only to {mp.nstr(truncation, 3)} of {mp.nstr(scale, 3)}")
    return first, second


def lexicographic_row(points: list[Matrix], direction: Matrix) -> list[Any]:
    """The derivative along `direction` of the one-sided derivative at points[0] along points[1], then points[2], ...

    f is the vector of ordered singular values; each level has a step that is small beside that of the level above it.
    """
    depth = len(points)

    def derivative(points: list[Matrix], direction: Matrix) -> Matrix:
        if not points:
            return mp.matrix(svd(direction)[1])
        *above, point = points
        step = STEP ** (depth - len(points) + 1)
        at_0, at_1, at_2 = (derivative(above, point + k * step * direction) for k in range(3))
        return ((at_1 - at_0) - (at_2 - 2 * at_1 + at_0) / 2) / step

    return list(derivative(points, direction))


# ---------------------------------------------------------------------------------------------------------------------
# The cases


@dataclasses.dataclass
class Problem:
    """A matrix to differentiate at, and how."""

    name: str
    family: str
    a: np.ndarray
    directions: list[np.ndarray]
    digits: int = DIGITS
    unit: float = 1.0  # the step is relative to A: D * unit is as large as A
    functions: bool = True
    lexicographic: list[np.ndarray] = dataclasses.field(default_factory=list)


def dense(a: np.ndarray, count: int = 2) -> list[np.ndarray]:
    """Directions as large as A, exact in float64 (subnormal ones too)."""
    exponent = int(np.frexp(np.abs(a).max())[1]) - 1 if a.any() else 0
    return [scaled(cases.direction(a.shape, seed=i, dtype=a.dtype.name), exponent) for i in range(count)]


def scaled(a: np.ndarray, exponent: int) -> np.ndarray:
    """A times a power of two, exactly."""
    if a.dtype.kind == "c":
        return np.ldexp(a.real, exponent) + 1j * np.ldexp(a.imag, exponent)
    return np.ldexp(a, exponent)


def near_one(a: np.ndarray) -> np.ndarray:
    """A scaled by a power of two, exactly, so that its largest singular value is between 1 and 2."""
    top = np.linalg.norm(a, 2)
    return scaled(a, 1 - int(np.frexp(top)[1])) if top else a


def rank_one(m: int, n: int) -> np.ndarray:
    """A direction that leaves ties of multiplicity three and more tied to first order."""
    return np.outer(np.resize([1.0, -2.0, 1.0, 3.0], m), np.resize([2.0, 1.0, 1.0, -1.0], n)) / 8


def turning(a: np.ndarray) -> np.ndarray:
    """A K with K skew: rotates the singular vectors only, so that every singular value stands still to first order."""
    n = a.shape[1]
    k = np.triu(cases.direction((n, n), seed=3), 1)
    return a @ (k - k.T)


def coupling(a: np.ndarray) -> np.ndarray:
    """A X + Y A: values that are zero stay there to first order, and leave it to second order."""
    m, n = a.shape
    return a @ cases.direction((n, n), seed=4) + cases.direction((m, m), seed=5) @ a


def prescribed(
    m: int, n: int, values: Iterable[Any], seed: int, is_complex: bool = False, dtype: str = ""
) -> np.ndarray:
    """U diag(values) V^H with random unitary U and V of 60 digits, rounded to float64 (or to float32)."""
    with mp.workdps(60):
        values = [mp.mpf(x) for x in values]
        kind = "complex128" if is_complex else "float64"
        u, _ = mp.qr(exactly(cases.normal(m, m, seed=seed, dtype=kind)))
        v, _ = mp.qr(exactly(cases.normal(n, n, seed=seed + 100, dtype=kind)))
        r = len(values)
        a = rounded(u[:, 0:r] * mp.diag(values) * v[:, 0:r].H, is_complex)
        return a.astype(dtype).astype(kind) if dtype else a


def graded_problem(
    name: str, m: int, n: int, digits: int, rows: bool, columns: bool, seed: int, is_complex: bool
) -> Problem:
    """D1 B D2 and directions D1 E D2 with the same D1, D2: relative perturbations of B."""
    down, across = cases.grading(m, n, digits, rows, columns, seed)
    kind = "complex128" if is_complex else "float64"
    a = cases.normal(m, n, seed=seed, dtype=kind) * down[:, None] * across
    along = [cases.direction((m, n), seed=i, dtype=kind) * down[:, None] * across for i in range(2)]
    return Problem(name, "graded", a, along, digits=DIGITS + 5 * digits, functions=False)


def problems() -> Iterator[Problem]:
    for name, case in cases.CASES.items():
        a = case.matrix()
        if case.tags & {"strided", "integer", "nonfinite", "empty", "clustered", "graded", "scaled"}:
            continue
        if "zero" in case.tags:
            yield Problem(name, "zero", a, [*dense(a), rank_one(*a.shape).astype(a.dtype)])
        elif case.tags & {"tied", "deficient"}:
            a = scaled(np.round(scaled(near_one(a), 20)), -20)  # short numbers, so that the directions are exact
            family, special = ("deficient", coupling) if "deficient" in case.tags else ("tied", turning)
            yield Problem(name, family, a, [dense(a)[0], rank_one(*a.shape).astype(a.dtype), special(a)])
        else:
            yield Problem(name, "ill-conditioned" if "ill-conditioned" in case.tags else "generic", a, dense(a))

    for m, n in ((3, 3), (4, 6)):
        a = cases.normal(m, n, seed=9).astype(np.float32).astype(np.float64)
        yield Problem(f"float32 generic {m}x{n}", "generic", a, dense(a))
    for exponent in (2, 4):
        values = [3, 2 + mp.mpf(10) ** -exponent, 2, 1]
        a = prescribed(4, 4, values, 10 + exponent, dtype="float32")
        yield Problem(f"float32 gap 1e-{exponent} 4x4", "near-tie", a, dense(a))

    for exponent in range(3, 16):
        gap = mp.mpf(10) ** -exponent
        with mp.workdps(60):
            inside = prescribed(4, 4, [3, 2, 2 - gap, 1], 20 + exponent)
            yield Problem(f"gap 1e-{exponent} 4x4", "near-tie", inside, dense(inside))
            if exponent in (3, 6, 8, 12, 14):
                top = prescribed(5, 3, [2, 2 - gap, 1], 40 + exponent)
                yield Problem(f"gap 1e-{exponent} on top 5x3", "near-tie", top, dense(top))
                end = prescribed(3, 4, [2, 1, 1 - gap], 60 + exponent, is_complex=True)
                yield Problem(f"gap 1e-{exponent} at the end, complex 3x4", "near-tie", end, dense(end))
    with mp.workdps(60):
        e = mp.mpf(10)
        a = prescribed(6, 4, [2, 2 - e**-8, 2 - 3 * e**-8, 1], 80)
        yield Problem("three within 1e-8 6x4", "near-tie", a, dense(a))
        a = prescribed(5, 5, [2, 2 - e**-6, 1 + e**-10, 1, 1 - e**-10], 81)
        yield Problem("clusters 1e-6 and 1e-10 5x5", "near-tie", a, dense(a))
        a = prescribed(12, 7, [3, 2.5, 2, 2 - e**-8, 1.5, 1, 0.5], 85)
        yield Problem("gap 1e-8 12x7", "near-tie", a, dense(a))
        a = prescribed(4, 4, [2, 1, 1, 1], 82)
        yield Problem("triple to rounding 4x4", "near-tie", a, dense(a))
        a = prescribed(4, 3, [1, 0.5, e**-6], 83)
        yield Problem("small value 1e-6 4x3", "near-zero", a, dense(a))
        a = prescribed(3, 3, [1, 2 * e**-10, e**-10], 84)
        yield Problem("two small values 1e-10 3x3", "near-zero", a, dense(a))

    for digits in (4, 8, 30, 60, 100, 150):
        for m, n, is_complex in ((4, 4, False), (6, 4, False), (3, 5, False), (4, 3, True)):
            name = f"graded 1e{digits} {'complex ' * is_complex}{m}x{n}"
            yield graded_problem(name, m, n, digits, True, True, digits, is_complex)
    yield graded_problem("graded rows 1e60 4x4", 4, 4, 60, True, False, 1, False)
    yield graded_problem("graded rows 1e100 6x3", 6, 3, 100, True, False, 2, False)
    yield graded_problem("graded columns 1e60 4x4", 4, 4, 60, False, True, 3, False)
    yield graded_problem("graded columns 1e100 5x4", 5, 4, 100, False, True, 4, False)
    yield graded_problem("graded rows 1e60 complex 3x3", 3, 3, 60, True, False, 5, True)

    for name, a in (
        ("tiny 1e-160 3x3", scaled(cases.normal(3, 3, seed=2), -531)),
        ("huge 1e160 4x3", scaled(cases.normal(4, 3, seed=3), 531)),
        ("subnormal 3x3", scaled(np.round(cases.normal(3, 3, seed=4) * 2**20), -1070)),
        ("complex subnormal 3x2", scaled(np.round(cases.normal(3, 2, seed=4, dtype="complex128") * 2**20), -1070)),
        ("near overflow 3x3", scaled(cases.normal(3, 3, seed=5), 1019)),
        ("tied, tiny 3x3", scaled(cases.exact(3, 3, [2, 2, 1]), -900)),
    ):
        yield Problem(name, "scaled", a, dense(a))
    a = scaled(cases.normal(3, 4, seed=6), -531)
    yield Problem(
        "tiny 1e-160 along ordinary 3x4", "scaled", a, dense(np.ones((3, 4))), unit=2.0**-531, functions=False
    )

    one = rank_one(3, 3)
    for name, a, along in (
        ("identity 3", np.eye(3), [np.diag([1.0, 1.0, 0.0]), one, cases.direction((3, 3))]),
        ("identity 3, dense first", np.eye(3), [cases.direction((3, 3)), cases.direction((3, 3), 1)]),
        ("identity 2, off-diagonal", np.eye(2), [np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([1.0, 0.0])]),
        ("hadamard 4", cases.hadamard(4), [rank_one(4, 4), np.diag([1.0, 0, 0, 0]), cases.direction((4, 4))]),
        ("tied pair 4x3", near_one(cases.exact(4, 3, [3, 1, 1])), dense(np.ones((4, 3)), 3)),
        ("complex tied 3x3", np.eye(3) + 0j, [one + 0j, *dense(np.ones((3, 3), complex))]),
        ("zero 3x3", np.zeros((3, 3)), [np.diag([1.0, 1.0, 0.0]), one, cases.direction((3, 3))]),
        ("zero 4x2", np.zeros((4, 2)), [rank_one(4, 2), cases.direction((4, 2)), cases.direction((4, 2), 1)]),
        ("zero 2x3", np.zeros((2, 3)), [np.eye(2, 3), cases.direction((2, 3)), cases.direction((2, 3), 1)]),
        ("rank one 3x3", np.ones((3, 3)), [one, cases.direction((3, 3)), cases.direction((3, 3), 1)]),
        ("rank two, tied 4x4", near_one(cases.exact(4, 4, [1, 1, 0, 0])), [rank_one(4, 4), *dense(np.ones((4, 4)))]),
    ):
        yield Problem(f"lexicographic: {name}", "lexicographic", a, [], functions=False, lexicographic=along)


# ---------------------------------------------------------------------------------------------------------------------
# One case after the other


def solve(problem: Problem) -> dict[str, Any]:
    """What the reference says of one problem."""
    a, is_complex = exactly(problem.a), problem.a.dtype.kind == "c"
    along = [exactly(d) for d in problem.directions]
    result: dict[str, Any] = {"name": problem.name, "family": problem.family, "A": encode(problem.a)}
    here = svd(a)
    # what is zero in exact arithmetic comes out as rounding noise of the working precision
    noise = mp.mpf(10) ** (60 - problem.digits)
    result["s"] = [float(x) if x > noise * here[1][0] else 0.0 for x in here[1]]
    if problem.lexicographic:
        rows = []
        with mp.workdps(problem.digits + 4 * LEVEL):
            directions = [exactly(d) for d in problem.lexicographic]
            for i in range(len(directions)):
                row = lexicographic_row([a, *directions[:i]], directions[i])
                rows.append([float(x) if abs(x) > CERTAIN else 0.0 for x in row])
        return result | {"lexicographic": {"D": [encode(d) for d in problem.lexicographic], "rows": rows}}

    unit = mp.mpf(problem.unit)

    def spectra(direction: Matrix) -> list[Spectrum]:
        return [here] + [svd(a + k * STEP * unit * direction) for k in range(1, 5)]

    def clean(x: Any, scale: Any) -> float:
        return float(x) if problem.family == "graded" or abs(x) > CERTAIN * scale else 0.0

    lines = [spectra(d) for d in along]
    result |= {"D": [encode(d) for d in problem.directions], "ds": [], "dds": []}
    for d, line in zip(along, lines):
        scale = largest(d)
        size = 0 if problem.family == "graded" else scale * unit
        pairs = [one_sided([usv[1][i] for usv in line], size) for i in range(len(here[1]))]
        result["ds"].append([clean(first / unit, scale) for first, _ in pairs])
        result["dds"].append([clean(second / unit**2, scale / unit) for _, second in pairs])
    if not problem.functions:
        return result

    both = spectra(along[0] + along[1])
    result["functions"] = {}
    for name, f in smooth_functions(here[1], a.rows, a.cols).items():
        (d1, d11), (d2, d22), (_, d12) = (one_sided([f(usv) for usv in line]) for line in (lines[0], lines[1], both))
        numbers = [f(here), d1, d2, d11, (d12 - d11 - d22) / 2, d22]
        if max(largest(x) for x in numbers) > np.finfo(np.float64).max:
            continue  # the pseudoinverse of a subnormal matrix
        size = sum(largest(x) for x in numbers)
        value, d1, d2, d11, d12, d22 = (to_float(x, is_complex, CERTAIN * size) for x in numbers)
        result["functions"][name] = {"value": value, "d": [d1, d2], "dd": [d11, d12, d22]}
    return result


def to_float(x: Any, is_complex: bool, noise: Any) -> Any:
    """A number or a matrix as JSON; what is smaller than the noise, as a whole, is zero."""
    if largest(x) < noise:
        x = 0 * x
    return encode(rounded(x, is_complex)) if isinstance(x, mp.matrix) else float(mp.re(x))


def line_of(problem: Problem) -> str:
    """The line of one problem, as it stands in the file."""
    with mp.workdps(problem.digits):
        return json.dumps(solve(problem), separators=(",", ":"))


def main() -> None:
    done = {json.loads(known)["name"] for known in FILE.read_text().splitlines()} if FILE.exists() else set()
    todo = [problem for problem in problems() if problem.name not in done]
    try:
        from tqdm import tqdm
    except ImportError:
        progress: Any = todo
    else:
        progress = tqdm(todo, unit="case")
    for problem in progress:
        made = line_of(problem)
        with FILE.open("a") as file:
            file.write(made + "\n")


if __name__ == "__main__":
    main()
