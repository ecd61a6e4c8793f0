"""A device that is none: `dualsvd.cuda` runs, its kernels compiled to PTX and that executed on the CPU.

Arrays "on the device" are NumPy arrays of a class of their own. Kernels are compiled for one compute capability,
assembled by ptxas, translated and launched by the emulator; the seed of the thread order changes with every launch.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from . import toolchain
from .emulator import Emulated

CAPABILITY = (8, 0)
SHARED_LIMIT = 163 * 1024  # what compute capability 8.0 gives a block that asks


class DeviceArray(np.ndarray):
    """As much of numba-cuda's device array as dualsvd.cuda uses."""

    __cuda_ndarray__ = True

    def copy_to_host(self, stream: Any = 0) -> np.ndarray:
        return np.array(self).view(np.ndarray)

    def is_c_contiguous(self) -> bool:
        return self.flags.c_contiguous


def device_array(shape: Any, dtype: Any = np.float64, stream: Any = 0) -> DeviceArray:
    x = np.empty(shape, dtype).view(DeviceArray)
    x.view(np.uint8).fill(0xFF)  # NaN: nothing may be read before it is written
    return x


def to_device(x: Any, stream: Any = 0) -> DeviceArray:
    return np.array(x, order="C").view(DeviceArray)


class Launcher:
    """Stands for the result of `cuda.jit(kernel)`."""

    def __init__(self, kernel: Callable[..., None], folder: Path) -> None:
        self.kernel, self.folder, self.seeds = kernel, folder, itertools.count()
        self.compiled: dict[tuple[Any, ...], Emulated] = {}

    def __getitem__(self, configuration: tuple[Any, ...]) -> Callable[..., None]:
        blocks, threads, _, shared = (*configuration, 0, 0)[:4]

        def launch(*arguments: Any) -> None:
            key = signature(arguments)
            if key not in self.compiled:
                ptx = toolchain.compile_ptx(self.kernel, key, CAPABILITY)
                toolchain.assemble(ptx, CAPABILITY, self.folder)
                self.compiled[key] = Emulated(ptx, self.folder)
            flat = [a.view(np.ndarray) if isinstance(a, np.ndarray) else a for a in arguments]
            self.compiled[key].launch(blocks, threads, *flat, shared=shared, seed=next(self.seeds))

        return launch


def signature(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    from numba import from_dtype, types

    return tuple(
        types.Array(from_dtype(a.dtype), a.ndim, "C") if isinstance(a, np.ndarray) else types.int64 for a in arguments
    )


@contextmanager
def device(folder: Path) -> Iterator[None]:
    """Inside, dualsvd.cuda finds the emulated device."""
    from numba import cuda

    import dualsvd.cuda
    from dualsvd.kernels import cuda as kernels

    compiled = functools.cache(lambda kernel: Launcher(kernel, folder))
    with (
        mock.patch.object(dualsvd.cuda, "obstacle", lambda: None),
        mock.patch.object(cuda, "device_array", device_array),
        mock.patch.object(cuda, "to_device", to_device),
        mock.patch.object(kernels, "compiled", compiled),
        mock.patch.object(kernels, "shared_limit", lambda: SHARED_LIMIT),
        mock.patch.object(kernels, "allow_shared", lambda kernel, signature: None),
    ):
        yield
