"""Whether there is a device, and what to do where there is none."""

from __future__ import annotations

import contextlib
import importlib
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..errors import BackendError

#: The oldest driver that runs what numba-cuda compiles.
OLDEST_DRIVER = (12, 0)


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
