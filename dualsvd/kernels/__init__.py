"""The hand-written Jacobi SVD: plain Python over a scalar protocol, and what compiles it.

    protocol                              the operations a kernel text may use
    jacobi, dual_svd, derivatives         the texts: rotations and sweeps, what duals need after them, closed forms,
    qr, householder, bidiagonal           pivoted QR factorisations, reduction to bidiagonal form and QR sweeps
    number_types, staging, leaf_functions numbers as Numba's types; numbers that record LLVM instructions
    scalars, boxing                       Dual and SIMD packs in Numba's calls; Dual from Python and back
    buffers, lanes                        numbers of any kind in memory; packs from matrices and back
    texts, caching                        the texts made known to Numba; code on disk that notices edited rules
    transfer, compiled, accurate          the kernels, and how matrices come to them and leave
    memory_bound, krylov, banded          products and dyads in one pass; Krylov steps; the top of a band matrix
    verdicts                              what a kernel tells of a matrix
    cpu, memory                           batches over threads; freed memory kept
    cuda                                  the same texts by threads and teams of threads of a device
    small, arrays                         one matrix, and DualArray, in users' compiled functions
    peak                                  the most that a core can do, to hold the others against

The protocol and the texts import no Numba.

For users' own compiled functions there are here

    svd_small, svdvals_small, jacobi_svd_inplace     one matrix, with its tangents
    rotation, rotate, dots, inner, converge, normalise, complete, primal_columns, follow, adapt, lift    the texts
    Kind, buffer                                     what the texts work on: numbers in a flat array of reals

>>> from numba import njit
>>> from dualsvd.kernels import rotation
>>> @njit
... def tilt(alpha, beta, g):
...     c, s = rotation(alpha, beta, g, 0.0)
...     return s / c
>>> tilt(2.0, 1.0, 0.0)
0.0
"""

from __future__ import annotations

import importlib
from typing import Any

#: The texts for users' own compiled functions and kernels, and what these work on, by the module of each.
PIECES = {
    **dict.fromkeys(("Kind", "buffer"), "buffers"),
    **dict.fromkeys(("dots", "inner", "rotation", "rotate", "converge", "normalise", "complete"), "jacobi"),
    **dict.fromkeys(("primal_columns", "follow", "adapt", "lift"), "dual_svd"),
}

#: The same for one matrix, on the CPU alone.
SMALL = dict.fromkeys(("svd_small", "svdvals_small", "jacobi_svd_inplace"), "small")


def __getattr__(name: str) -> Any:
    module = (PIECES | SMALL).get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module(f"{__name__}.texts")  # which lets Numba compile them
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
