"""Arrays that kernels take and give: checked, sent, cut into parts, fetched."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError
from ..rules.registry import Tracer
from .device import backend

#: The largest side of a matrix.
LARGEST = 64

DTYPES = ("float32", "float64", "complex64", "complex128")


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


# ---- what is made of nothing


def zeros(shape: tuple[int, ...], dtype: Any, beside: Any, stream: Any = 0) -> Any:
    """Zeros where the array `beside` lives."""
    return backend().zeros(shape, dtype, stream) if on_device(beside) else np.zeros(shape, dtype)


def empty_factors(x: Any) -> tuple[Any, ...]:
    """U, S, Vh, or their tangents, of matrices without an entry: arrays without one."""
    return tuple(zeros(shape, dtype, x) for shape, dtype in backend().shapes_of_factors(x))


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

    axes, outputs: the batch axis of each input and of each result. `work` gets arrays on the device, and the index of
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
