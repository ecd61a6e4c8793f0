"""Launching: arrays live on the device."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numba.cuda
import numpy as np
from numba import config

from ..jacobi import MAX_SWEEPS
from .plans import SHARED_BYTES, WARP, Plan, chunk, plan
from .ties import directional_kernel, directional_numbers

#: Global memory that the workspaces of one launch may take together, in bytes.
WORKSPACE_BYTES = 1 << 28

#: Threads of a block where each takes one element of an array.
ELEMENTS = 256

#: Untyped, for type checkers see the typing functions of numba.cuda's device functions in place of these.
cuda: Any = numba.cuda


@functools.cache
def compiled(kernel: Callable[..., None], registers: int | None = None) -> Any:
    """The kernel, which takes so many registers at most; the simulator has none, and no such option."""
    limited = registers is not None and not getattr(config, "ENABLE_CUDASIM")  # noqa: B009, numba sets it as it runs
    return cuda.jit(kernel, max_registers=registers) if limited else cuda.jit(kernel)


def launcher(
    kernel: Callable[..., None],
    blocks: int,
    threads: int,
    stream: Any = 0,
    shared: int = 0,
    registers: int | None = None,
) -> Any:
    """The kernel, ready to launch. A batch may be small: numba-cuda's advice to launch more blocks is no help then."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*Grid size")
        return compiled(kernel, registers)[blocks, threads, stream, shared]


@functools.cache
def shared_limit() -> int:
    """What the device can give a block that asks for more shared memory than usual."""
    return getattr(cuda.get_current_device(), "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN", SHARED_BYTES)


@functools.cache
def allow_shared(chosen: Plan) -> None:
    """Let a kernel ask for all the shared memory of the device: numba-cuda has no way of its own to say so."""
    from cuda.bindings import driver as binding
    from numba.cuda.cudadrv.driver import driver

    function = compiled(chosen.kernel, chosen.registers).compile(chosen.signature)._codelibrary.get_cufunc()
    attribute = binding.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    driver.cuKernelSetAttribute(attribute, shared_limit(), function.handle, function.device.id)


def run(chosen: Plan, batch: int, arrays: tuple[Any, ...], integers: tuple[int, ...], stream: Any) -> None:
    """Launch a kernel on flat arrays of reals."""
    blocks, real = chosen.blocks(batch), reals(arrays[0]).dtype
    if chosen.workspace:
        blocks = max(1, min(blocks, WORKSPACE_BYTES // (chosen.workspace * real.itemsize)))
    if chosen.shared > SHARED_BYTES:
        allow_shared(chosen)
    work = cuda.device_array(max(1, blocks * chosen.workspace), real, stream=stream)
    launch = launcher(chosen.kernel, blocks, chosen.threads, stream, chosen.shared, chosen.registers)
    launch(*(reals(x) for x in arrays), work, *integers)


def reals(x: Any) -> Any:
    """A device array as a flat one of reals."""
    flat = x.reshape(x.size)
    return flat.view(np.empty(0, x.dtype).real.dtype) if x.dtype.kind == "c" else flat


def clear(x, size):
    e = cuda.grid(1)
    if e < size:
        x[e] = 0.0


def zeros(shape: tuple[int, ...], dtype: Any, stream: Any = 0) -> Any:
    """An array of zeros, made on the device."""
    x = cuda.device_array(shape, dtype, stream=stream)
    if x.size:
        flat = reals(x)
        launcher(clear, -(-flat.size // ELEMENTS), ELEMENTS, stream)(flat, flat.size)
    return x


def join_flags(report, B, joined):
    b = cuda.grid(1)
    if b < B and report[3 * b + 2] > 0.0:
        cuda.atomic.or_(joined, 0, int(report[3 * b + 2]))


def joined_flags(report: Any, stream: Any = 0) -> int:
    """The flags of all matrices of a report, one number. Waits for the device."""
    joined = cuda.to_device(np.zeros(1, np.int64), stream=stream)
    launch = launcher(join_flags, -(-len(report) // ELEMENTS), ELEMENTS, stream)
    launch(report.reshape(report.size), len(report), joined)
    found = joined.copy_to_host(stream=stream)
    if stream:
        stream.synchronize()
    return int(found[0])


def shapes_of_factors(a: Any) -> tuple[tuple[tuple[int, ...], Any], ...]:
    """Shape and type of U, of S and of Vh for matrices (..., m, n)."""
    *batch, m, n = a.shape
    r, real = min(m, n), np.empty(0, a.dtype).real.dtype
    return ((*batch, m, r), a.dtype), ((*batch, r), real), ((*batch, r, n), a.dtype)


def factors(a: Any, stream: Any) -> tuple[Any, ...]:
    """Uninitialised U, S, Vh, or their tangents, for matrices (..., m, n)."""
    return tuple(cuda.device_array(shape, dtype, stream=stream) for shape, dtype in shapes_of_factors(a))


def svd(a: Any, stream: Any = 0) -> tuple[Any, Any, Any, Any]:
    """U, S, Vh and the report (B, 3): sweeps, off-norm and flags of each matrix."""
    batch, m, n = a.shape
    U, S, Vh = factors(a, stream)
    report = cuda.device_array((batch, 3), np.float64, stream=stream)
    chosen = plan("svd", a.dtype.name, m, n, 0, shared_limit())
    run(chosen, batch, (a, U, S, Vh, report), (batch, MAX_SWEEPS), stream)
    return U, S, Vh, report


def svdvals(a: Any, stream: Any = 0) -> tuple[Any, Any]:
    """S and the report."""
    batch, m, n = a.shape
    shape, real = shapes_of_factors(a)[1]
    S = cuda.device_array(shape, real, stream=stream)
    report = cuda.device_array((batch, 3), np.float64, stream=stream)
    chosen = plan("svdvals", a.dtype.name, m, n, 0, shared_limit())
    run(chosen, batch, (a, S, S, S, report), (batch, MAX_SWEEPS), stream)
    return S, report


def pushforward(U: Any, S: Any, Vh: Any, da: Any, stream: Any = 0) -> tuple[Any, ...]:
    """dU, dS, dVh from finished factors along da (N, B, m, n), in closed form."""
    count, batch, m, n = da.shape
    tangents = factors(da, stream)
    chosen = plan("pushforward", da.dtype.name, m, n, 0, shared_limit())
    works = batch if chosen.team == 1 else count * batch  # a thread takes all directions of its matrix
    run(chosen, works, (da, U, S, Vh, *tangents), (batch, count), stream)
    return tangents


def pullback(U: Any, S: Any, Vh: Any, U_bar: Any, S_bar: Any, Vh_bar: Any, stream: Any = 0) -> Any:
    """A_bar from finished factors and their cotangents."""
    batch, m, n = len(S), U.shape[1], Vh.shape[2]
    A_bar = cuda.device_array((batch, m, n), U.dtype, stream=stream)
    chosen = plan("pullback", U.dtype.name, m, n, 0, shared_limit())
    run(chosen, batch, (U, S, Vh, U_bar, S_bar, Vh_bar, A_bar), (batch,), stream)
    return A_bar


def dual(a: Any, da: Any, stream: Any = 0) -> tuple[Any, ...]:
    """U, S, Vh, their tangents along da (N, B, m, n), carried through every rotation, and the report. Reals only."""
    count, batch, m, n = da.shape
    (U, S, Vh), tangents = factors(a, stream), factors(da, stream)
    report = cuda.device_array((batch, 3), np.float64, stream=stream)
    size = chunk(m, n)
    for first in range(0, count, size):
        some = slice(first, min(first + size, count))
        chosen = plan("dual", a.dtype.name, m, n, some.stop - first, shared_limit())
        arrays = (a, da[some], U, S, Vh, *(x[some] for x in tangents), report)
        run(chosen, batch, arrays, (batch, MAX_SWEEPS), stream)
    return U, S, Vh, *tangents, report


def follow_ties(
    tied: np.ndarray, da: Any, U: Any, S: Any, Vh: Any, dU: Any, dS: Any, dVh: Any, stream: Any = 0
) -> None:
    """Correct the tangents of the matrices with the indices `tied`, and turn their U and Vh, all in place."""
    count, batch, m, n = da.shape
    dtype, real = da.dtype, S.dtype
    kernel = directional_kernel(dtype.name)
    size = directional_numbers(max(m, n), min(m, n), count, 2 if dtype.kind == "c" else 1)
    at_once = max(1, WORKSPACE_BYTES // (size * real.itemsize))
    for first in range(0, len(tied), at_once):
        index = tied[first : first + at_once].astype(np.int64)
        work = cuda.device_array(len(index) * size, real, stream=stream)
        groups = cuda.device_array(len(index) * min(m, n), np.int64, stream=stream)
        arrays = (reals(x) for x in (da, U, S, Vh, dU, dS, dVh))
        launch = launcher(kernel, -(-len(index) // WARP), WARP, stream)
        launch(cuda.to_device(index, stream=stream), *arrays, work, groups, len(index), batch, m, n, count)
