"""What the device computes, compared with itself by other ways and with the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import linalg
from ..errors import ShapeError
from ..forward import DualArray
from ..kernels.jacobi import TIE
from ..linalg.degeneracy import spectrum, tolerance
from ..linalg.factorise import SVDResult
from ..settings import get
from ..validation.limits import SEED
from ..validation.report import ValidationReport, row
from .arrays import fetch, on_device, plain
from .batches import svd, svd_dual, svd_jvp, svd_vjp
from .device import backend

#: How far two right computations may be apart, in units of max(m, n) eps and of the condition s_1 / gap of the matrix.
#: On random matrices up to 5 x 5, and on the families of the tests, 1.1 was the worst.
AGREEMENT = 100.0

#: The same for tangents that went through the sweeps. Two columns may come close to a tie in a sweep where values do
#: not: of 400,000 matrices of 3 x 3 all but a thousandth stay below 0.4, and the worst reaches 18; of 150 of 64 x 64
#: the worst reaches 85.
CARRIED = 2000.0


class Trial(NamedTuple):
    """Matrices (B, m, n) and what the device made of them.

    direction   a direction in units of `scale`, the largest singular values (B, 1), or 1
    values      the singular values by the CPU
    y, dy       factors and tangents by the device, in closed form
    condition   (B,) by how much the tangents of the vectors may be worse than those of the values
    """

    a: Any
    direction: Any
    scale: Any
    values: Any
    y: SVDResult
    dy: SVDResult
    condition: Any

    @property
    def da(self) -> Any:
        """As large as the matrix: nothing that follows over- or underflows."""
        return self.direction * self.scale[:, :, None]

    def of(self, chosen: Any) -> Trial:
        """That of some matrices."""
        y, dy = (SVDResult(*(x[chosen] for x in factors)) for factors in (self.y, self.dy))
        a, direction, scale, values = (x[chosen] for x in self[:4])
        return Trial(a, direction, scale, values, y, dy, self.condition[chosen])


#: What is compared, by how much it differs, and by how much it may, in units of max(m, n) eps.
Compared = Iterator[tuple[str, float, float]]


def cross_validate_device(
    a: Any, *, rng: np.random.Generator | int | None = None, tol: float | None = None
) -> ValidationReport:
    """Compare on the device: dual sweeps, closed form and adjoint with each other, and all with the CPU.

    `a`: a matrix or a batch, NumPy or on the device. Vectors are compared where there is no tie; at a tie the values'
    one-sided derivatives still are. Each row has the largest error of the batch, relative to the matrix or to the
    direction and, for derivatives, to the condition s_1 / gap of each matrix. `tol` is the largest error that passes;
    by default 100 max(m, n) eps, and 2000 max(m, n) eps for tangents that went through the sweeps.

    Raises BackendError where there is no device, ShapeError where there is nothing to compare; NonFiniteError,
    ConvergenceError, DTypeError.
    """
    backend()
    host = fetch(plain(a, "a", (2, 3)), 0) if on_device(a) else np.asarray(a)
    if host.ndim < 2:
        raise ShapeError(f"a must be a matrix or a batch of matrices, got shape {host.shape}")
    if not host.size:
        raise ShapeError(f"there is nothing to compare in matrices of shape {host.shape}")
    rng = np.random.default_rng(SEED if rng is None else rng)
    trial = made_of(plain(host.reshape(-1, *host.shape[-2:]), "a", (3,)), rng)
    simple = ~spectrum(trial.y.S, get()).degenerate
    found = [*compare_factors(trial, trial.y, "device values", "on the device")]
    if simple.any():
        found += [*compare_tangents(trial.of(simple)), *compare_adjoints(trial.of(simple), rng)]
    if trial.a.dtype.kind != "c":
        found += compare_sweeps(trial, simple)
    unit = max(host.shape[-2:]) * float(np.finfo(trial.a.dtype).eps)
    rows = tuple(row(name, error, factor * unit if tol is None else tol) for name, error, factor in found)
    ties = int(np.sum(~simple))
    notes = (f"{ties} of {len(simple)} matrices have a tie or a zero: their vectors are not compared",) if ties else ()
    return ValidationReport("svd on the device", rows, not ties, notes)


def made_of(a: np.ndarray, rng: np.random.Generator) -> Trial:
    """Factors and tangents along a random direction."""
    values = linalg.svdvals(a)
    scale = np.where(values[:, :1] > 0, np.maximum(values[:, :1], np.finfo(values.dtype).tiny), 1).astype(values.dtype)
    direction = drawn(rng, a.shape, a.dtype)
    y, dy = svd(a), SVDResult(*svd_jvp(a, direction * scale[:, :, None]))
    return Trial(a, direction, scale, values, y, dy, conditions(y.S, a.shape[1] != a.shape[2]))


def drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Normal numbers of that type."""
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if dtype.kind == "c" else x).astype(dtype)


def compare_factors(trial: Trial, y: SVDResult, values: str, where: str) -> Compared:
    """Some factors with the CPU's values, and with the matrix."""
    yield f"{values}, CPU values", worst((y.S - trial.values) / trial.scale), AGREEMENT
    yield f"U S Vh {where}, the matrix", rebuilt(*y, trial.a, trial.scale), AGREEMENT


def compare_tangents(trial: Trial) -> Compared:
    """The closed forms, without ties."""
    cpu = linalg.svd_pushforward(*trial.y, trial.da)
    yield "device closed form, CPU closed form", apart(trial.dy, cpu, trial.condition, trial.scale), AGREEMENT


def compare_adjoints(trial: Trial, rng: np.random.Generator) -> Compared:
    """The device's pullback with its pushforward, and with the CPU's, without ties."""
    bars = gauge_free(trial.y, *(drawn(rng, x.shape, x.dtype) for x in trial.y))
    pulled = svd_vjp(trial.a, *bars)
    forward, backward = paired(bars, trial.dy), paired((pulled,), (trial.da,))
    sizes = sum(norms(bar) * norms(tangent) for bar, tangent in zip(bars, trial.dy))
    error = worst((forward - backward) / sizes / trial.condition)
    yield "<y_bar, J v>, <J^T y_bar, v> on the device", error, AGREEMENT
    on_cpu = linalg.svd_pullback(*trial.y, *bars)
    of_one = pulled_back(pulled - on_cpu, bars, trial.scale) / trial.condition**2
    yield "device adjoint, CPU adjoint", worst(of_one), AGREEMENT


def compare_sweeps(trial: Trial, simple: np.ndarray) -> Compared:
    """What is carried through the sweeps with the closed form: values everywhere, vectors without ties."""
    duals = svd_dual(DualArray(trial.a, trial.da[None]))
    y, dy = (SVDResult(*parts) for parts in zip(*((x.value, x.partials[0]) for x in duals)))
    yield from compare_factors(trial, y, "values of the dual sweeps", "of the dual sweeps")
    condition = conditions(y.S, True)  # at the end columns are divided by their lengths, the values
    slopes = worst((dy.S - trial.dy.S) / trial.scale / condition[:, None]) / worst(trial.direction)
    yield "dS through the sweeps, closed form, on the device", slopes, CARRIED
    if simple.any():
        signs = np.sign(np.sum(trial.y.U * y.U, axis=1))
        turned = SVDResult(dy.U * signs[:, None, :], dy.S, dy.Vh * signs[:, :, None])
        one = trial.of(simple)
        swept = tuple(x[simple] for x in turned)
        error = apart(swept, one.dy, condition[simple], one.scale)
        yield "dU, dVh through the sweeps, closed form", error, CARRIED


def conditions(S: np.ndarray, zero: bool) -> np.ndarray:
    """s_1 / gap of each matrix: the factor by which its singular vectors lose digits. A tie is no gap.

    zero: whether 0 is a neighbour of the last value, as in a matrix that is not square.
    """
    last = S[:, -1:] if zero else S[:, -2:-1] + S[:, -1:]
    gaps = np.concatenate([S[:, :-1] - S[:, 1:], last], axis=1) / np.where(S[:, :1] > 0, S[:, :1], 1)
    return 1 / np.min(gaps, axis=1, initial=1.0, where=gaps > tolerance(TIE, S.shape[1], S.dtype))


def worst(x: np.ndarray) -> float:
    return float(np.max(np.abs(x), initial=0.0))


def rebuilt(U: np.ndarray, S: np.ndarray, Vh: np.ndarray, a: np.ndarray, scale: np.ndarray) -> float:
    """How far U S Vh is from the matrix, relative to its norm."""
    return worst(U * (S / scale)[:, None, :] @ Vh - a / scale[:, :, None])


def apart(x: tuple[Any, ...], y: tuple[Any, ...], condition: np.ndarray, scale: np.ndarray) -> float:
    """The largest difference of tangents in units of the condition, those of values in units of the largest one."""
    units, k = (1, scale, 1), condition[:, None]
    sizes = [worst((dx / unit).reshape(len(k), -1) / k) for dx, unit in zip(y, units)]
    errors = [worst(((dx - dy) / unit).reshape(len(k), -1) / k**2) for dx, dy, unit in zip(x, y, units)]
    return float(np.max(errors) / np.max([*sizes, np.finfo(scale.dtype).tiny]))  # in Python's max NaN may lose


def pulled_back(A_bar: np.ndarray, bars: tuple[Any, ...], scale: np.ndarray) -> np.ndarray:
    """The largest entry of each cotangent, relative to those it comes from, of which those of vectors count 1 / s_1."""
    of_u, of_s, of_v = (np.max(np.abs(x).reshape(len(x), -1), axis=1) for x in bars)
    return np.max(np.abs(A_bar), axis=(1, 2)) * scale[:, 0] / (of_s * scale[:, 0] + np.maximum(of_u, of_v))


def paired(x: tuple[Any, ...], y: tuple[Any, ...]) -> np.ndarray:
    """Re tr(X^H Y) of each matrix, summed over the parts."""
    products = (np.real(np.conj(a) * b).reshape(len(a), -1) for a, b in zip(x, y))
    return np.sum(np.concatenate(list(products), axis=1), axis=1)


def norms(x: np.ndarray) -> np.ndarray:
    """The Frobenius norm of each matrix, of any size."""
    x = x.reshape(len(x), -1)
    largest = np.maximum(np.max(np.abs(x), axis=1), np.finfo(x.dtype).tiny)
    return largest * np.linalg.norm(x / largest[:, None], axis=1)


def gauge_free(y: tuple[Any, ...], U_bar: Any, S_bar: Any, Vh_bar: Any) -> tuple[Any, Any, Any]:
    """The cotangents with the part taken away that would turn u_i and v_i by a common phase."""
    U, _, Vh = y
    phase = np.imag(np.sum(np.conj(U) * U_bar, axis=1) + np.sum(Vh * np.conj(Vh_bar), axis=2))
    return (U_bar - 1j * U * phase[:, None, :]).astype(U.dtype) if U.dtype.kind == "c" else U_bar, S_bar, Vh_bar
