"""The compiled kernels, called for stacks of any shape; Numba is loaded when the first of them is used."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..errors import ConvergenceError
from ..settings import Options, cores
from .matrices import flat


@functools.cache
def kernels() -> Any:
    """The compiled kernels, which bring in Numba: loaded when first used."""
    from ..kernels import cpu

    return cpu


def threads(options: Options) -> int:
    return options.threads or cores()


def stack_of(a: Any) -> Any:
    """One batch axis, contiguous: what the kernels take."""
    return np.ascontiguousarray(flat(a, a.shape[:-2], 2))


def check_converged(info: Any, remedy: str = 'algorithm="lapack"') -> None:
    """Raise ConvergenceError, with the way that iterates otherwise, where some matrix was not done in its sweeps."""
    if not info.clean and info.unconverged.any():
        i = int(np.flatnonzero(info.unconverged)[0])
        raise ConvergenceError(
            f"svd did not converge in {info.sweeps[i]} sweeps: off-norm {info.off_norm[i]:.1e} for matrix {i} of "
            f"{len(info.sweeps)}; rescale the input, or use {remedy}"
        )


def stack_of_directions(shape: tuple[int, ...], dtype: Any, dA: Any) -> Any:
    """(N, B, m, n), contiguous, along matrices of that shape and type: what the kernels take."""
    dA = np.broadcast_to(dA, (len(dA), *shape)).astype(dtype, copy=False)
    return np.ascontiguousarray(flat(dA, shape[:-2], 2, 1))
