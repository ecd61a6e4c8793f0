"""Batches of small SVDs and their derivatives on CUDA: matrices (B, m, n) with m, n up to 64.

NumPy arrays come back as NumPy arrays, cut into parts where the device has not memory enough for all; arrays that live
on a device (anything with `__cuda_array_interface__`) stay there. `stream=` takes a `numba.cuda` stream.

For kernels of one's own: `Dual` and the pieces of the Jacobi method work inside `@numba.cuda.jit` as they do inside
`@numba.njit`.
"""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from .errors import BackendError, ConvergenceError, DTypeError, NonFiniteError, ShapeError
from .forward import DualArray
from .linalg.degeneracy import meet_tie, spectrum
from .linalg.factorise import SVDResult
from .linalg.gauge import admit
from .rules.registry import Tracer
from .settings import get
from .validation.limits import SEED
from .validation.report import ValidationReport, row

#: The largest side of a matrix.
LARGEST = 64

#: The oldest driver that runs what numba-cuda compiles.
OLDEST_DRIVER = (12, 0)

DTYPES = ("float32", "float64", "complex64", "complex128")


#: What users' own kernels may call, and where it is. The texts of `jacobi` work on buffers: `buffer(array, kind)`
#: makes numbers of a kind (`Kind("float64", (2,))`: Dual with two partials) of a flat array of reals in any memory.
#: `Dual` is among them because `cuda.jit` does not load Numba's extensions, as `njit` does: one from here is known.
PIECES = {
    "buffers": ("Dual", "Kind", "buffer"),
    "jacobi": ("dots", "inner", "rotation", "rotate", "converge", "normalise", "complete"),
    "dual_svd": ("primal_columns", "follow"),
}


def __getattr__(name: str) -> Any:
    for module, names in PIECES.items():
        if name in names:
            importlib.import_module("dualsvd.kernels.texts")  # which lets Numba compile them
            return getattr(importlib.import_module(f"dualsvd.kernels.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# ---- is there a device


def is_available() -> bool:
    """Whether numba-cuda, a driver and a device are there."""
    return obstacle() is None


def obstacle() -> str | None:
    """Why nothing can run on a device here, and what to do; None if it can."""
    if find_spec("numba_cuda") is None:
        return (
            "the package numba-cuda is not installed: pip install 'dualsvd[cuda13]' (or 'dualsvd[cuda12]' for CUDA 12)"
        )
    from numba import cuda

    if getattr(cuda, "implementation", None) != "NVIDIA":
        return (
            "numba.cuda is Numba's built-in CUDA target, not numba-cuda: pip install -U 'dualsvd[cuda13]', and unset "
            "what keeps numba-cuda from taking its place"
        )
    if reason := misfit():
        return f"numba-cuda does not work with NumPy {np.__version__} ({reason}): pip install 'numpy<2.5'"
    if cuda.is_available():
        return None
    reason = " ".join(str(cuda.cuda_error() or "no CUDA device was found.").split())
    version = driver_version()
    if version is not None and version < OLDEST_DRIVER:
        oldest = ".".join(map(str, OLDEST_DRIVER))
        return f"the driver supports CUDA {version[0]}.{version[1]}, older than {oldest}: install a newer NVIDIA driver"
    return f"no CUDA device can be used: {reason} Install an NVIDIA driver, or run where there is one"


def misfit() -> str | None:
    """What numba-cuda misses in a NumPy that is newer than itself: it would say so only at the first kernel."""
    with contextlib.suppress(ModuleNotFoundError):  # the simulator has no such module
        try:
            importlib.import_module("numba.cuda.np.arrayobj")
        except AttributeError as error:
            return str(error)
    return None


def driver_version() -> tuple[int, int] | None:
    """The CUDA version that the driver supports; None if there is no driver."""
    from numba.cuda.cudadrv.driver import driver

    try:
        return driver.get_version()
    except Exception:  # whatever a missing or broken driver raises
        return None


def backend() -> Any:
    """The kernels; BackendError where they cannot run."""
    reason = obstacle()
    if reason is not None:
        raise BackendError(f"dualsvd.cuda needs an NVIDIA GPU with its driver, and numba-cuda; {reason}")
    return importlib.import_module("dualsvd.kernels.cuda")


# ---- what comes in


def on_device(x: Any) -> bool:
    """Whether an array lives on a device."""
    return hasattr(x, "__cuda_array_interface__") or hasattr(x, "__cuda_ndarray__")


def plain(x: Any, name: str, axes: tuple[int, ...], dtype: Any = None) -> Any:
    """An array that a kernel takes, on the host or on the device."""
    if on_device(x):
        from numba import cuda

        x = x if hasattr(x, "__cuda_ndarray__") else cuda.as_cuda_array(x)
        x = contiguous(x, name)
    elif isinstance(x, Tracer):
        raise DTypeError(
            f"{name} must be a plain array, got a {type(x).__name__}: device kernels have derivatives of their own, "
            "svd_dual (of a DualArray made by hand), svd_jvp and svd_vjp"
        )
    else:
        x = np.asarray(x)
        x = np.ascontiguousarray(x, np.float64 if x.dtype.kind in "iub" else x.dtype.newbyteorder("="))
    if x.dtype.name not in DTYPES:
        raise DTypeError(
            f"{name} must hold {', '.join(DTYPES)} numbers, got {x.dtype}; convert it with .astype(np.float64)"
        )
    if dtype is not None and x.dtype != dtype:
        raise DTypeError(
            f"{name} must have the type {dtype} of its partner, got {x.dtype}; convert it with .astype('{dtype}')"
        )
    if len(x.shape) not in axes:
        expected = " or ".join(map(str, axes))
        raise ShapeError(f"{name} must have {expected} axes, a batch of matrices (B, m, n), got shape {tuple(x.shape)}")
    return x


def contiguous(x: Any, name: str) -> Any:
    """An array of the device, if contiguous, with the strides of its shape.

    An axis of one entry may have others, x[None] has, and numba-cuda will not reshape it then.
    """
    from numba import cuda

    strides = tuple(x.dtype.itemsize * math.prod(x.shape[k + 1 :]) for k in range(len(x.shape)))
    strange = [size for size, found, expected in zip(x.shape, x.strides, strides) if found != expected]
    if any(size > 1 for size in strange) and x.size:
        raise ShapeError(f"{name} must be contiguous on the device, got strides {tuple(x.strides)}; copy it first")
    if not strange or not hasattr(x, "__cuda_array_interface__"):
        return x
    described = x.__cuda_array_interface__ | {"strides": None}
    return cuda.as_cuda_array(SimpleNamespace(__cuda_array_interface__=described, owner=x), sync=False)


def batch_of(a: Any) -> Any:
    """The matrices, checked."""
    a = plain(a, "a", (3,))
    if max(a.shape[1:]) > LARGEST:
        raise ShapeError(
            f"a matrix on the device has at most {LARGEST} rows and columns, got {a.shape[1]} x {a.shape[2]}; "
            "use dualsvd.svd on the CPU"
        )
    return a


def same_shape(x: Any, shape: tuple[int, ...], name: str) -> None:
    if tuple(x.shape) != tuple(shape):
        raise ShapeError(f"{name} must have the shape {tuple(shape)}, got {tuple(x.shape)}")


# ---- how it runs


def send(x: Any, stream: Any) -> Any:
    """An array of the host on the device, with the strides of its shape (see `contiguous`); one there as it is."""
    from numba import cuda

    return x if on_device(x) else cuda.to_device(np.ravel(x).reshape(x.shape), stream=stream)


def fetch(x: Any, stream: Any) -> np.ndarray:
    """An array of the device as it is when all that was launched on the stream has run."""
    y = x.copy_to_host(stream=stream)
    if stream:
        stream.synchronize()
    return y


def run(
    work: Callable[..., tuple[Any, ...]],
    inputs: tuple[Any, ...],
    axes: tuple[int, ...],
    outputs: tuple[int, ...],
    stream: Any,
) -> Any:
    """work(*inputs) on the device, in parts of the batch where memory does not suffice.

    axes, outputs: the batch axis of each input and of each result. `work` gets arrays on the device, and the number of
    the first matrix.
    """
    batch = inputs[0].shape[axes[0]]
    if any(map(on_device, inputs)):
        try:
            return work(*(send(x, stream) for x in inputs), 0)
        except Exception as error:
            if not out_of_memory(error):
                raise
            raise too_large(batch, error) from error
    parts: list[tuple[Any, ...]] = []
    begin, size = 0, batch
    while begin < batch:
        some = [part_of(x, axis, begin, begin + size) for x, axis in zip(inputs, axes)]
        try:
            results = work(*(send(x, stream) for x in some), begin)
            parts.append(tuple(fetch(x, stream) for x in results))
            del results  # or their memory is missing to the next part
        except Exception as error:
            if not out_of_memory(error):
                raise
            if size == 1:
                raise too_large(1, error) from error
            size = -(-size // 2)
            continue
        begin += size
    return parts[0] if len(parts) == 1 else tuple(np.concatenate(xs, axis) for xs, axis in zip(zip(*parts), outputs))


def part_of(x: np.ndarray, axis: int, begin: int, end: int) -> np.ndarray:
    return x[begin:end] if axis == 0 else x[:, begin:end]


def out_of_memory(error: Exception) -> bool:
    """Whether the device had not memory enough."""
    return isinstance(error, MemoryError) or "OUT_OF_MEMORY" in str(error)


def too_large(batch: int, error: Exception) -> MemoryError:
    """What is told where no smaller part of the batch can be taken."""
    return MemoryError(
        f"the memory of the device does not hold a batch of {batch} with its directions and results ({error}); pass "
        "fewer directions at a time, or a batch as NumPy arrays, which are taken in parts"
    )


def examine(report: Any, first: int, stream: Any) -> np.ndarray:
    """The numbers of the finite matrices with a tie or a zero; NonFiniteError or ConvergenceError as on the CPU.

    Waits for the device. Where there is nothing to tell the report stays there.
    """
    from .kernels.cuda import joined_flags
    from .kernels.jacobi import MAX_SWEEPS
    from .kernels.verdicts import NONFINITE, TIED, UNCONVERGED

    if not joined_flags(report, stream):
        return np.empty(0, np.int64)
    told = fetch(report, stream)
    flags = told[:, 2].astype(np.int64)
    nonfinite = np.flatnonzero(flags & NONFINITE)
    if len(nonfinite) and get().nonfinite == "raise":
        raise NonFiniteError(
            f"the matrix must be finite, got NaN or infinity in {len(nonfinite)} of {len(flags)} matrices, first in "
            f"matrix {first + nonfinite[0]}; remove it, or use "
            'dualsvd.options(nonfinite="propagate") to get NaN for that matrix only'
        )
    unconverged = np.flatnonzero(flags & UNCONVERGED)
    if len(unconverged):
        b = unconverged[0]
        left = "" if np.isnan(told[b, 1]) else f": off-norm {told[b, 1]:.1e}"
        raise ConvergenceError(
            f"svd did not converge in {MAX_SWEEPS} sweeps{left} for matrix {first + b}; rescale the input"
        )
    return np.flatnonzero((flags & TIED != 0) & (flags & NONFINITE == 0))


# ---- the decomposition


def svd(a: Any, *, stream: Any = 0) -> SVDResult:
    """U, S, Vh of each matrix of a batch (B, m, n): thin, S descending, in the units of a.

    Raises BackendError where there is no device, NonFiniteError, ConvergenceError, DTypeError, ShapeError, also beyond
    64 x 64.
    """
    kernels, a = backend(), batch_of(a)
    if not min(a.shape):
        return SVDResult(*empty(a))

    def work(a: Any, first: int) -> tuple[Any, ...]:
        U, S, Vh, report = kernels.svd(a, stream)
        examine(report, first, stream)
        return U, S, Vh

    return SVDResult(*run(work, (a,), (0,), (0, 0, 0), stream))


def svdvals(a: Any, *, stream: Any = 0) -> Any:
    """The singular values alone (B, min(m, n)) of a batch (B, m, n), descending, in the units of a.

    Raises BackendError where there is no device; NonFiniteError, ConvergenceError, DTypeError, ShapeError.
    """
    kernels, a = backend(), batch_of(a)
    if not min(a.shape):
        return empty(a)[1]

    def work(a: Any, first: int) -> tuple[Any, ...]:
        S, report = kernels.svdvals(a, stream)
        examine(report, first, stream)
        return (S,)

    return run(work, (a,), (0,), (0,), stream)[0]


def empty(x: Any) -> tuple[Any, ...]:
    """U, S, Vh, or their tangents, of matrices without an entry: arrays without one."""
    kernels = backend()
    return kernels.factors(x, 0) if on_device(x) else tuple(np.empty(*each) for each in kernels.shapes_of_factors(x))


# ---- derivatives


def svd_jvp(a: Any, da: Any, *, stream: Any = 0) -> tuple[Any, Any, Any]:
    """dU, dS, dVh along da, in closed form: da has the shape of a, or one more leading axis, a direction each.

    At ties the tangents are those of the basis that follows the directions, as `dualsvd.jvp` gives them.

    Raises BackendError where there is no device, DegenerateError at ties under ties="raise"; NonFiniteError,
    ConvergenceError, DTypeError, ShapeError.
    """
    kernels, a = backend(), batch_of(a)
    da = plain(da, "da", (3, 4), a.dtype)
    single = len(da.shape) == 3
    same_shape(da, tuple(a.shape) if single else (da.shape[0], *a.shape), "da")
    da = da.reshape(1, *a.shape) if single else da
    if not min(da.shape):
        tangents = empty(da)
    else:

        def work(a: Any, da: Any, first: int) -> tuple[Any, ...]:
            U, S, Vh, report = kernels.svd(a, stream)
            ties = examine(report, first, stream)
            tangents = kernels.pushforward(U, S, Vh, da, stream)
            if len(ties):
                allow_ties(S, stream)
                kernels.follow_ties(ties, da, U, S, Vh, *tangents, stream)
            return tangents

        tangents = run(work, (a, da), (0, 1), (1, 1, 1), stream)
    return tuple(x.reshape(*x.shape[1:]) for x in tangents) if single else tangents


def allow_ties(S: Any, stream: Any) -> None:
    """What `ties=` says to directional derivatives at a tie: nothing, a warning, or DegenerateError."""
    options = get()
    if options.ties in ("raise", "warn"):
        values = fetch(S, stream)
        meet_tie(values, spectrum(values, options), options)


def svd_vjp(a: Any, U_bar: Any, S_bar: Any, Vh_bar: Any, *, stream: Any = 0) -> Any:
    """A_bar, the cotangent of a, from those of U, S and Vh, of which any may be None.

    Raises GaugeError and DegenerateError as `dualsvd.linalg.svd_pullback` does; BackendError where there is no device,
    NonFiniteError, ConvergenceError, DTypeError, ShapeError.
    """
    kernels, a = backend(), batch_of(a)
    bars = []
    named = (("U_bar", U_bar), ("S_bar", S_bar), ("Vh_bar", Vh_bar))
    for (name, bar), (shape, dtype) in zip(named, kernels.shapes_of_factors(a)):
        if bar is None:
            bar = kernels.zeros(shape, dtype, stream) if on_device(a) else np.zeros(shape, dtype)
        bar = plain(bar, name, (len(shape),), dtype)
        same_shape(bar, shape, name)
        bars.append(bar)
    if not min(a.shape):
        return empty_like(a)

    def work(a: Any, U_bar: Any, S_bar: Any, Vh_bar: Any, first: int) -> tuple[Any, ...]:
        U, S, Vh, report = kernels.svd(a, stream)
        ties = examine(report, first, stream)
        if a.dtype.kind == "c" or len(ties):
            y = SVDResult(*(fetch(x, stream) for x in (U, S, Vh)))
            g_u, g_s, g_v = (x if x.any() else None for x in (fetch(x, stream) for x in (U_bar, S_bar, Vh_bar)))
            admit(y, g_u, g_s, g_v, spectrum(y.S, get()), get())
        return (kernels.pullback(U, S, Vh, U_bar, S_bar, Vh_bar, stream),)

    return run(work, (a, *bars), (0, 0, 0, 0), (0,), stream)[0]


def empty_like(a: Any) -> Any:
    if not on_device(a):
        return np.zeros(a.shape, a.dtype)
    from numba import cuda

    return cuda.device_array(a.shape, a.dtype)


def svd_dual(x: DualArray, *, stream: Any = 0) -> SVDResult:
    """U, S, Vh of a DualArray (B, m, n) of reals as DualArrays: the tangents are carried through every rotation.

    Raises BackendError where there is no device, DTypeError for plain arrays and complex numbers, DegenerateError at
    ties under ties="raise"; NonFiniteError, ConvergenceError, ShapeError.
    """
    kernels = backend()
    if not isinstance(x, DualArray):
        raise DTypeError(f"svd_dual takes a DualArray, got {type(x).__name__}; use svd for plain arrays")
    a = batch_of(x.value)
    if a.dtype.kind == "c":
        raise DTypeError(f"svd_dual carries real numbers, got {a.dtype}; use svd_jvp, which takes complex ones")
    da = plain(x.partials, "the partials", (4,), a.dtype)
    if not min(da.shape):
        parts = (*svd(a, stream=stream), *empty(da))
    else:

        def work(a: Any, da: Any, first: int) -> tuple[Any, ...]:
            *results, report = kernels.dual(a, da, stream)
            ties = examine(report, first, stream)
            if len(ties):
                allow_ties(results[1], stream)
                kernels.follow_ties(ties, da, *results, stream)
            return tuple(results)

        parts = run(work, (a, da), (0, 1), (0, 0, 0, 1, 1, 1), stream)
    return SVDResult(*(DualArray(y, dy, x.tag) for y, dy in zip(parts[:3], parts[3:])))


# ---- validation


#: Agreement that two ways may reach, in units of max(m, n) eps and of the condition s_1 / gap of the matrix.
AGREEMENT = 100.0


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


#: What is compared, and by how much it differs.
Compared = Iterator[tuple[str, float]]


def cross_validate_device(
    a: Any, *, rng: np.random.Generator | int | None = None, tol: float | None = None
) -> ValidationReport:
    """Compare on the device: dual sweeps, closed form and adjoint with each other, and all with the CPU.

    Errors are relative to the direction and to the condition s_1 / gap of each matrix. Vectors are compared where there
    is no tie; at a tie the values' one-sided derivatives still are. `a`: a matrix or a batch, NumPy or on the device.

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
    allowed = AGREEMENT * max(host.shape[-2:]) * float(np.finfo(trial.a.dtype).eps) if tol is None else tol
    ties = int(np.sum(~simple))
    notes = (f"{ties} of {len(simple)} matrices have a tie or a zero: their vectors are not compared",) if ties else ()
    return ValidationReport("svd on the device", tuple(row(*pair, allowed) for pair in found), not ties, notes)


def made_of(a: np.ndarray, rng: np.random.Generator) -> Trial:
    """Factors and tangents along a random direction."""
    from . import linalg

    values = linalg.svdvals(a)
    scale = np.where(values[:, :1] > 0, np.maximum(values[:, :1], np.finfo(values.dtype).tiny), 1).astype(values.dtype)
    direction = drawn(rng, a.shape, a.dtype)
    y, dy = svd(a), SVDResult(*svd_jvp(a, direction * scale[:, :, None]))
    return Trial(a, direction, scale, values, y, dy, conditions(y.S, a.shape))


def drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Normal numbers of that type."""
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if dtype.kind == "c" else x).astype(dtype)


def compare_factors(trial: Trial, y: SVDResult, values: str, where: str) -> Compared:
    """Some factors with the CPU's values, and with the matrix."""
    yield f"{values}, CPU values", worst((y.S - trial.values) / trial.scale)
    yield f"U S Vh {where}, the matrix", rebuilt(*y, trial.a, trial.scale)


def compare_tangents(trial: Trial) -> Compared:
    """The closed forms, without ties."""
    from . import linalg

    cpu = linalg.svd_pushforward(*trial.y, trial.da)
    yield "device closed form, CPU closed form", apart(trial.dy, cpu, trial.condition, trial.scale)


def compare_adjoints(trial: Trial, rng: np.random.Generator) -> Compared:
    """The device's pullback with its pushforward, and with the CPU's, without ties."""
    from . import linalg

    bars = gauge_free(trial.y, *(drawn(rng, x.shape, x.dtype) for x in trial.y))
    pulled = svd_vjp(trial.a, *bars)
    forward, backward = paired(bars, trial.dy), paired((pulled,), (trial.da,))
    sizes = sum(norms(bar) * norms(tangent) for bar, tangent in zip(bars, trial.dy))
    yield "<y_bar, J v>, <J^T y_bar, v> on the device", worst((forward - backward) / sizes / trial.condition)
    on_cpu = linalg.svd_pullback(*trial.y, *bars)
    of_one = pulled_back(pulled - on_cpu, bars, trial.scale) / trial.condition**2
    yield "device adjoint, CPU adjoint", worst(of_one)


def compare_sweeps(trial: Trial, simple: np.ndarray) -> Compared:
    """What is carried through the sweeps with the closed form: values everywhere, vectors without ties."""
    duals = svd_dual(DualArray(trial.a, trial.da[None]))
    y, dy = (SVDResult(*parts) for parts in zip(*((x.value, x.partials[0]) for x in duals)))
    yield from compare_factors(trial, y, "values of the dual sweeps", "of the dual sweeps")
    slopes = worst((dy.S - trial.dy.S) / trial.scale) / worst(trial.direction)
    yield "dS through the sweeps, closed form, on the device", slopes
    if simple.any():
        signs = np.sign(np.sum(trial.y.U * y.U, axis=1))
        turned = SVDResult(dy.U * signs[:, None, :], dy.S, dy.Vh * signs[:, :, None])
        one = trial.of(simple)
        swept = tuple(x[simple] for x in turned)
        yield "dU, dVh through the sweeps, closed form", apart(swept, one.dy, one.condition, one.scale)


def conditions(S: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """s_1 / gap of each matrix: the factor by which its singular vectors lose digits; 1 / eps at a tie."""
    gaps = [S[:, :1], S[:, :-1] - S[:, 1:]]
    if S.shape[1] > 1:
        gaps.append(S[:, -2:-1] + S[:, -1:])
    if shape[1] != shape[2]:
        gaps.append(S[:, -1:])
    top = np.where(S[:, 0] > 0, S[:, 0], 1)
    return 1 / np.maximum(np.min(np.concatenate(gaps, axis=1), axis=1) / top, np.finfo(S.dtype).eps)


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
