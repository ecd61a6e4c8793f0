"""The texts of `jacobi` and `derivatives` on CUDA. Imported on first use, for it imports numba.cuda.

A thread or a team of threads is one more way to run them; what stands here is indexing, memory and launches only.

    threads       one thread a matrix, in registers: sizes are constants of the kernel, so that every loop unrolls; a
                  block moves its matrices together, through shared memory
    teams         a team of threads a matrix, as many matrices as a warp has teams, in shared memory or, where that is
                  too small, in a workspace of global memory; a team shares the pairs of a front and the rows of a pair;
                  all teams of a block meet at its barriers, and sweep until the last is at rest
    closed_forms  the same for derivatives from finished factors, by up to eight warps a matrix; a team shares the tiles
                  of a product

A front is all pairs (p, q) with equal p + q (see `jacobi`): none shares a column with another, and each comes after
every pair that it must follow in the row-cyclic order. So a team makes the rotations of the serial sweep, with the same
numbers, in 2 n - 3 steps, of which all but n overlap with the next sweep.

Arrays are flat, of reals; matrix b of a batch starts at b m n. A matrix with m < n is worked on as its conjugate
transpose, rows >= cols, with U and V exchanged.
"""

from __future__ import annotations

from .launches import compiled as compiled
from .launches import dual as dual
from .launches import follow_ties as follow_ties
from .launches import joined_flags as joined_flags
from .launches import launcher as launcher
from .launches import pullback as pullback
from .launches import pushforward as pushforward
from .launches import run as run
from .launches import shapes_of_factors as shapes_of_factors
from .launches import shared_limit as shared_limit
from .launches import svd as svd
from .launches import svdvals as svdvals
from .launches import zeros as zeros
from .plans import SHARED_BYTES as SHARED_BYTES
from .plans import plan as plan
