"""What the command line does, as functions that return results: `__main__` parses, calls one, and prints."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import importlib.metadata
import itertools
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import files, linalg
from .bench import machine
from .errors import DTypeError, NonFiniteError
from .files import FileError, Matrix
from .forward import DualArray
from .linalg.tops import KRYLOV_SIZE
from .rules.elementwise import ONE_PASS
from .settings import options
from .transforms import gradient, jacobian, jvp
from .validation import ValidationReport, cross_validate
from .validation.gradient import compare_gradients

Progress = Callable[[str], None]

#: small, with distinct singular values, and its entries exact: everybody gets the same digits
BUILT_IN = Matrix(
    "the built-in matrix",
    np.array([[2.0, -1.0, 0.5, 3.0, 1.0], [0.0, 1.5, -2.0, 1.0, 4.0], [1.0, 2.5, 1.0, -0.5, 0.0]]),
)

#: forward mode carries one direction per entry: of larger matrices the gradient is compared along random directions
#: only, which cross_validate does
WHOLE_GRADIENT = 512
#: a gap of singular values below so many eps of the largest is none
GAP = 1e4
#: checks sum the singular values, and take differences of such sums at shifted matrices: the sum must stay below
#: 1/ROOM of the largest number (2 is too little: differences at diag(1, 1e-3), scaled to that, overflow)
ROOM = 4.0
#: enough matrices of any type to go through the kernels for batches
PACK = 16


def silent(what: str) -> None:
    """No progress shown."""


# ---------------------------------------------------------------------------------------------------------------------
# The story of one matrix


@dataclasses.dataclass(frozen=True)
class Story:
    """A matrix, its singular values, its spectral norm, the gradient of that by the adjoint, and what was compared."""

    matrix: Matrix
    singular_values: np.ndarray
    spectral_norm: np.ndarray
    gradient: np.ndarray
    reports: tuple[ValidationReport, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether everything agreed."""
        return all(report.passed for report in self.reports)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dicts."""
        return {
            "name": self.matrix.name,
            "shape": list(self.matrix.array.shape),
            "dtype": str(self.matrix.array.dtype),
            "passed": self.passed,
            "singular_values": self.singular_values.tolist(),
            "spectral_norm": self.spectral_norm.tolist(),
            "reports": [report.to_dict() for report in self.reports],
            "seconds": round(self.seconds, 3),
        }

    def __str__(self) -> str:
        a = self.matrix.array
        parts = [
            f"{self.matrix.name}: {' x '.join(map(str, a.shape))}, {a.dtype}",
            f"singular values   {_shorten(self.singular_values)}\nspectral norm     {_shorten(self.spectral_norm)}",
            "its gradient, u1 v1^H\n" + "\n".join(f"  {line}" for line in _table(self.gradient)),
            *map(str, self.reports),
            f"{'all ways agree' if self.passed else 'NOT ALL WAYS AGREE'}, {self.seconds:.1f} s",
        ]
        return "\n\n".join(parts)


def _shorten(values: np.ndarray, shown: int = 8) -> str:
    flat = np.ravel(values)
    text = "  ".join(f"{v:.6g}" for v in flat[:shown])
    return text if len(flat) <= shown else f"{text}  ...  {flat[-1]:.6g}  ({len(flat)} in all)"


def _table(a: np.ndarray) -> list[str]:
    return np.array2string(a, precision=6, suppress_small=True, threshold=60, edgeitems=3).splitlines()


def total_opnorm(a: Any) -> Any:
    """The spectral norm; of a batch, their sum."""
    return np.sum(linalg.opnorm(a))


def total_largest(a: Any) -> Any:
    """The spectral norm, of a batch their sum, by way of all singular values: what the sweeps compute."""
    return np.sum(linalg.svdvals(a)[..., 0])


def leading_part(S: np.ndarray) -> Callable[[Any], Any]:
    """A -> the part of A in its leading singular vectors, cut at the widest gap of S: smooth, and without a gauge.

    Where there is no gap at all it is A itself.
    """
    r = S.shape[-1]
    gaps = np.min((S[..., :-1] - S[..., 1:]).reshape(-1, r - 1), axis=0) if r > 1 else np.zeros(0)
    noise = GAP * float(np.max(S, initial=0.0)) * float(np.finfo(S.dtype).eps)
    k = int(np.argmax(gaps)) + 1 if np.any(gaps > noise) else r

    def low_rank(a: Any) -> Any:
        return linalg.low_rank(a, k)

    low_rank.__name__ = f"low_rank of order {k}"
    return low_rank


def subjects(S: np.ndarray) -> dict[str, Callable[[Any], Any]]:
    """What is cross-validated at a matrix with these singular values."""
    return {
        "opnorm": linalg.opnorm,
        "svdvals": linalg.svdvals,
        "nuclear_norm": linalg.nuclear_norm,
        "low_rank": leading_part(S),
    }


#: how many functions that are, for the progress bar
SUBJECTS = len(subjects(np.ones(1)))


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is refused, or does not agree
def tell(matrix: Matrix = BUILT_IN, *, order: int = 1, device: str = "cpu", progress: Progress = silent) -> Story:
    """Run the whole story on a matrix, or on all the matrices of a batch at once; on device "cuda" its kernels too.

    Raises BackendError for "cuda" where there is no such device, NonFiniteError where the largest singular value is
    subnormal or the sum of all comes near to overflow: such numbers have no digits to compare, or none to be added to.
    """
    start = time.perf_counter()
    a = matrix.array
    S, sigma = linalg.svdvals(a), np.asarray(linalg.opnorm(a))
    _refuse_out_of_range(matrix.name, S)
    reports = []
    if device == "cuda":
        from . import cuda

        reports.append(cuda.cross_validate_device(a))
    G = gradient(total_opnorm, a, mode="reverse")
    for name, f in subjects(S).items():
        progress(name)
        reports.append(cross_validate(f, a, order=order))
        if name == "opnorm" and reports[-1].smooth and a.size <= WHOLE_GRADIENT:
            reports.append(_compare_gradients(a, G))
    return Story(matrix, S, sigma, G, tuple(reports), time.perf_counter() - start)


def _refuse_out_of_range(name: str, S: np.ndarray) -> None:
    limits = np.finfo(S.dtype)
    for top in S[..., 0].flat:
        if top and not limits.tiny <= top < np.inf:
            raise _out_of_range(name, top)
    if np.sum(S / limits.max) > 1 / ROOM:
        raise NonFiniteError(
            f"{name}: the singular values, up to {np.max(S):.3g}, add to more than 1/{ROOM:.0f} of the largest number, "
            f"and differences of their sums may leave the range of {S.dtype}; rescale the matrix"
        )


def _out_of_range(name: str, top: Any) -> NonFiniteError:
    return NonFiniteError(
        f"{name}: the largest singular value, {top:.3g}, is out of the range of {top.dtype}; rescale the matrix"
    )


def _compare_gradients(a: np.ndarray, by_reverse: np.ndarray) -> ValidationReport:
    """The whole gradient of the spectral norm, by every way."""
    U, _, Vh = linalg.svd(a)
    return compare_gradients(
        total_opnorm,
        a,
        by_reverse,
        swept=total_largest,
        formulas={"u1 v1^H": U[..., :, :1] @ Vh[..., :1, :]},
        subject="gradient of the spectral norm, entry by entry, against reverse mode",
    )


def diagnose(matrix: Matrix) -> tuple[str, Any]:
    """The spectrum report of a matrix or a batch: as text, and ready for JSON.

    Raises NonFiniteError where a singular value overflows.
    """
    with np.errstate(over="ignore"):
        report = linalg.diagnose(matrix.array)
    if not np.all(np.isfinite(report.S)):
        raise _out_of_range(matrix.name, np.max(report.S))
    return str(report), report.to_dict()


# ---------------------------------------------------------------------------------------------------------------------
# Jacobians into files


def left_polar_factor(a: Any) -> Any:
    """The unitary polar factor."""
    return linalg.polar(a)[0]


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "svdvals": linalg.svdvals,
    "opnorm": linalg.opnorm,
    "nuclear_norm": linalg.nuclear_norm,
    "cond": linalg.cond,
    "pinv": linalg.pinv,
    "polar": left_polar_factor,
}


def write_jacobian(
    matrix: Matrix, of: str, out: Path, *, mode: str = "auto", progress: bool = False
) -> tuple[int, ...]:
    """The Jacobian of one of FUNCTIONS at a matrix, into a .npy file; its shape, f(A).shape + A.shape.

    Raises FileError for another kind of file, DTypeError for a complex matrix; NonFiniteError, and writes nothing,
    where the Jacobian is not finite.
    """
    if out.suffix != ".npy":
        raise FileError(f"{out}: the Jacobian is written in NumPy's format; give a name that ends in .npy")
    f, a = FUNCTIONS[of], matrix.array
    if np.iscomplexobj(a):
        raise DTypeError(
            f"{matrix.name}: holds complex numbers, and by those only holomorphic functions have a Jacobian; in Python "
            "dualsvd.gradient and dualsvd.jvp take any function"
        )
    with files.replacing(out) as temporary, np.errstate(over="ignore", invalid="ignore"):  # an error is what tells
        y = np.asarray(f(a))
        J = files.allocate(temporary, y.shape + a.shape, y.dtype)
        jacobian(f, a, mode=mode, out=J, progress=progress)
        bad = sum(x.size - np.count_nonzero(np.isfinite(x)) for x in J)
        if bad:
            raise NonFiniteError(
                f"the Jacobian of {of} at {matrix.name} was not written: {bad} of its {J.size} entries are not finite; "
                "it overflows, or does not exist there (rescale the matrix, or see dualsvd diagnose)"
            )
        J.flush()
        return J.shape


# ---------------------------------------------------------------------------------------------------------------------
# The machine

#: optional packages, and the extra that brings each
OPTIONAL = {
    "scipy": "cli",
    "tqdm": "cli",
    "matplotlib": "cli",
    "torch": "torch",
    "jax": "jax",
    "autograd": "autograd",
    "dask": "dask",
    "numba-cuda": "cuda13",
}


def information() -> dict[str, str]:
    """Versions, the machine, and which optional packages there are: what a report of a problem needs."""
    facts = {"dualsvd": _version("dualsvd") or "not installed, run from its sources"}
    facts |= {key: value for key, value in machine().items() if key in ("python", "processor", "cores")}
    facts |= {name: str(_version(name)) for name in ("numpy", "numba")}
    for name, extra in OPTIONAL.items():
        facts[name] = _version(name) or f"not installed: pip install 'dualsvd[{extra}]'"
    return facts


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


#: shapes whose batches have kernels of their own, and one that shares its kernels with all others
SHAPES = ((2, 2), (3, 3), (4, 4), (3, 5))
#: sizes of square matrices that reach the kernel for the SVD of one matrix (LARGE), and that for values alone (LARGER)
LARGE, LARGER = 40, 100
DTYPES = ("float64", "complex128", "float32", "complex64")
REAL = ("float64", "float32")
#: of kernels that single precision is computed by, too
DOUBLE = ("float64", "complex128")


def _batch(m: int, n: int, dtype: str) -> np.ndarray:
    rows = np.array(BUILT_IN.array[:, :n], dtype=dtype)[np.arange(m) % 3]
    return np.stack([rows + np.eye(m, n, dtype=dtype)] * PACK)


def _units(n: int, dtype: str) -> np.ndarray:
    return np.stack([np.eye(n, dtype=dtype)] * PACK)


def _accurate(dtype: str) -> Any:
    """The SVD by Jacobi of columns that lie further apart than what packs of rows hold at a time."""
    return linalg.svd(_batch(3, 5, dtype) * np.logspace(0, -280, 5).astype(dtype), algorithm="jacobi")


def _tangents(dtype: str, **how: Any) -> None:
    """Values along one direction and two, of a generic matrix, a graded one, and one with a tie."""
    a = _batch(3, 5, dtype)[0]
    graded, tied = a * np.logspace(0, -12, 5).astype(dtype), np.eye(3, 5, dtype=dtype)
    with options(**how):
        for x, count in itertools.product((a, graded, tied), (1, 2)):
            linalg.svdvals(DualArray(x, np.stack([a] * count)))


def _memory_bound(dtype: str) -> Any:
    """Products and quotients of arrays in one pass, and the dyads of a Jacobian."""
    x = np.ones(ONE_PASS, dtype)
    return (
        jvp(lambda a: (a * a, a / a, 1 / a), (x,), (x,)),
        jacobian(linalg.svdvals, np.diag(np.linspace(1, 2, 64).astype(dtype))),
    )


def _factors(m: int, n: int, dtype: str) -> Any:
    return linalg.svd(_batch(m, n, dtype))


def _closed_forms(m: int, n: int, dtype: str) -> Any:
    U, S, Vh = linalg.svd(a := _batch(m, n, dtype))
    return (
        linalg.svd_pushforward(U, S, Vh, a),
        linalg.svd_pullback(U, S, Vh, U, S, Vh),
        linalg.svd_pullback(U, S, Vh, None, S, None),
        jvp(linalg.svdvals, (a,), (a,)),
    )


#: the calls whose first time compiles, and the number types they are made for; together they reach every kernel
FIRST_CALLS: dict[str, tuple[tuple[str, ...], Callable[[str], Any]]] = {
    "svd by Jacobi": (DTYPES, _accurate),
    "tangents by Jacobi": (DTYPES, functools.partial(_tangents, algorithm="jacobi")),
    "tangents through the sweeps": (DTYPES, functools.partial(_tangents, tangents="sweeps")),
    "values of batches, larger": (DTYPES, lambda dtype: linalg.svdvals(_units(LARGE, dtype))),
    "svd one by one": (DOUBLE, lambda dtype: linalg.svd(_units(LARGE, dtype)[0])),
    "products with two vectors": (("float64",), lambda dtype: linalg.opnorm(_units(KRYLOV_SIZE, dtype)[0])),
    "svd of batches, larger": (REAL, lambda dtype: linalg.svd(_units(LARGE, dtype))),
    "values of batches, larger still": (REAL, lambda dtype: linalg.svdvals(_units(LARGER, dtype))),
    "products, quotients and dyads": (REAL, _memory_bound),
}
for _m, _n in SHAPES:
    _size = f"{_m} x {_n}" if _m == _n else "any size"
    FIRST_CALLS[f"svd of batches, {_size}"] = DTYPES, functools.partial(_factors, _m, _n)
    FIRST_CALLS[f"closed forms of batches, {_size}"] = DTYPES, functools.partial(_closed_forms, _m, _n)

KERNELS = tuple(f"{call}, {dtype}" for dtype in DTYPES for call, (dtypes, _) in FIRST_CALLS.items() if dtype in dtypes)


def compile_kernel(name: str) -> tuple[str, float]:
    """Call one kernel for the first time, so that its machine code lies on disk; (name, seconds)."""
    start = time.perf_counter()
    call, _, dtype = name.rpartition(", ")
    FIRST_CALLS[call][1](dtype)
    return name, time.perf_counter() - start


def warm_up(processes: int | None = None) -> Iterator[tuple[str, float]]:
    """Compile all kernels, each in a process of its own; yields (name, seconds) as they are done."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes or os.cpu_count(), mp_context=context) as pool:
        waiting = [pool.submit(compile_kernel, name) for name in KERNELS]
        for done in concurrent.futures.as_completed(waiting):
            yield done.result()
