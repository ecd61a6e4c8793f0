"""Batches of small SVDs and their derivatives on CUDA: matrices (B, m, n) with m, n up to 64.

NumPy arrays come back as NumPy arrays, cut into parts where the device has not memory enough for all; arrays that live
on a device (anything with `__cuda_array_interface__`) stay there. `stream=` takes a `numba.cuda` stream.

For kernels of one's own: `Dual` and the pieces of the Jacobi method (`dualsvd.kernels`) work inside `@numba.cuda.jit`
as they do inside `@numba.njit`.
"""

from __future__ import annotations

import importlib
from typing import Any

from ..kernels import PIECES
from .batches import svd as svd
from .batches import svd_dual as svd_dual
from .batches import svd_jvp as svd_jvp
from .batches import svd_vjp as svd_vjp
from .batches import svdvals as svdvals
from .device import is_available as is_available
from .device import obstacle as obstacle
from .validation import cross_validate_device as cross_validate_device


def __getattr__(name: str) -> Any:
    if name in PIECES:
        return getattr(importlib.import_module("dualsvd.kernels"), name)
    if name == "Dual":
        # `cuda.jit` does not load Numba's extensions, as `njit` does: whoever asks here has this one loaded
        return importlib.import_module("dualsvd.kernels.buffers").Dual
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
