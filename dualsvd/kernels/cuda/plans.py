"""Which kernel runs on matrices of one shape and type, and with what."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import from_dtype, int64

from ..buffers import Kind, components
from .closed_forms import (
    TILE_COLUMNS,
    TILE_ROWS,
    block_pullback,
    block_pushforward,
    pullback_numbers,
    pushforward_numbers,
)
from .teams import block_dual, block_svd, dual_numbers, pairs_of, svd_numbers
from .threads import THREADS, thread_dual, thread_pullback, thread_pushforward, thread_svd

#: The largest matrix whose values or factors a thread finds, in bytes: 6 x 6 of float64, 8 x 8 of float32. Up to 36
#: reals of A and V it stays in registers, above it keeps a part of them, up to 600 bytes, in local memory: that is
#: still faster than a team (2.9 ns against 4.9 for 5 x 5 on an H100, 3.9 against 11 for 6 x 6). In no case do
#: registers spill (tests/gpu/test_resources.py holds the table).
THREAD_BYTES = 288

#: The largest matrix that a thread takes for the others, as reals of A and V with their partials, and one more for each
#: direction: up to here the kernels were seen to stay in 255 registers without local memory.
THREAD_NUMBERS = {"pushforward": 36, "pullback": 36, "dual": 66}

#: The most rows of a matrix of duals that a thread takes. It matters for one column along one direction alone: of 29
#: rows 252 registers are taken, and of 30 they spill.
DUAL_ROWS = 28

#: Directions that one dual number carries at most; more are taken in turns.
THREAD_CHUNK, TEAM_CHUNK = 3, 2

#: Threads of a block of teams: a warp holds the n // 2 pairs of the widest front up to n = 64.
WARP = 32

#: Threads that share a pair of columns, by how many pairs are turned at a time: the fastest on an H100.
LANES = {"svd": {1: 1, 2: 1, 4: 1, 8: 1, 16: 2, 32: 4}, "dual": {1: 1, 2: 1, 4: 1, 8: 2, 16: 4, 32: 8}}

#: Registers of a thread of a team. What does not fit is not needed in inner loops, and more teams are resident: on an
#: H100 the SVD of 8 x 8 to 64 x 64 was faster by a tenth to a half, that of duals slower, which have no limit.
REGISTERS = 128

#: The largest team of the closed forms, whose products have more tiles than sweeps have pairs: as many as have 255
#: registers each on a multiprocessor.
CLOSED_FORM_TEAM = 256

#: Shared memory that every device gives a block without being asked, in bytes.
SHARED_BYTES = 48 * 1024


@dataclass(frozen=True)
class Plan:
    """How an operation runs on matrices of one shape and type."""

    kernel: Callable[..., None]
    signature: tuple[Any, ...]
    threads: int  # of a block
    matrices: int  # that a block takes
    team: int  # threads that share a matrix; 1 in the kernels of threads
    shared: int  # bytes of shared memory that a block asks for when it is launched
    workspace: int  # reals of global memory that a block works in instead
    registers: int | None = None  # that a thread may take; None if as many as there are

    def blocks(self, batch: int) -> int:
        return -(-batch // self.matrices)


@functools.cache
def plan(operation: str, dtype: str, m: int, n: int, count: int = 0, shared: int = SHARED_BYTES) -> Plan:
    """The kernel for "svd", "svdvals", "pushforward", "pullback" or "dual" (along `count` directions) of one shape.

    `shared` is what the device gives a block; where that is too small, the block works in global memory.
    """
    real = np.empty(0, dtype).real.dtype
    kind, real_kind, real_type = Kind(dtype), Kind(real), from_dtype(real)
    rows, cols, planes = max(m, n), min(m, n), components(kind)
    vectors = operation != "svdvals"
    arrays, report, integer = real_type[::1], from_dtype(np.float64)[::1], int64
    signature = {
        "svd": (arrays, arrays, arrays, arrays, report, arrays, *[integer] * 2),
        "pushforward": (*[arrays] * 8, *[integer] * 2),
        "pullback": (*[arrays] * 8, integer),
        "dual": (*[arrays] * 8, report, arrays, *[integer] * 2),
    }[operation if vectors else "svd"]
    if for_threads(operation, rows, cols, planes * (1 + count), real.itemsize):
        kernel = {
            "svd": lambda: thread_svd(kind, real_kind, real_type, m, n, vectors),
            "svdvals": lambda: thread_svd(kind, real_kind, real_type, m, n, vectors),
            "pushforward": lambda: thread_pushforward(kind, real_kind, real_type, m, n),
            "pullback": lambda: thread_pullback(kind, real_kind, real_type, m, n),
            "dual": lambda: thread_dual(Kind(dtype, (count,)), kind, real_type, m, n, count),
        }[operation]()
        return Plan(kernel, signature, THREADS, THREADS, 1, 0, 0)
    team, numbers = teams_of(operation, rows, cols, planes, count)
    matrices = max(1, WARP // team)
    needed = matrices * numbers
    fits = needed * real.itemsize <= shared
    lanes = team // pairs_of(cols)
    kernel = {
        "svd": lambda: block_svd(kind, real_kind, real_type, m, n, lanes, True, fits),
        "svdvals": lambda: block_svd(kind, real_kind, real_type, m, n, lanes, False, fits),
        "pushforward": lambda: block_pushforward(kind, real_kind, real_type, m, n, team, fits),
        "pullback": lambda: block_pullback(kind, real_kind, real_type, m, n, team, fits),
        "dual": lambda: block_dual(Kind(dtype, (count,)), kind, real_type, m, n, lanes, count, fits),
    }[operation]()
    room = (needed * real.itemsize, 0) if fits else (0, needed)
    return Plan(kernel, signature, matrices * team, matrices, team, *room, None if operation == "dual" else REGISTERS)


def teams_of(operation: str, rows: int, cols: int, planes: int, count: int) -> tuple[int, int]:
    """Threads that share a matrix, and reals that it takes in the memory of its block."""
    pairs = pairs_of(cols)
    if operation == "dual":
        return pairs * LANES["dual"][pairs], dual_numbers(rows, cols, LANES["dual"][pairs], 1 + count)
    if operation in ("svd", "svdvals"):
        return pairs * LANES["svd"][pairs], svd_numbers(rows, cols, LANES["svd"][pairs], planes, operation == "svd")
    team = closed_form_team(rows, cols * planes)
    if operation == "pushforward":
        return team, pushforward_numbers(rows, cols, planes, team)
    return team, pullback_numbers(rows, cols, planes)


def closed_form_team(rows: int, cols: int) -> int:
    """Threads that share a matrix in the closed forms, a tile of a product each: a power of two, or whole warps. A
    complex column counts as two."""
    tiles = -(-rows // TILE_ROWS) * -(-cols // TILE_COLUMNS)
    if tiles <= WARP:
        return 1 << (tiles - 1).bit_length()
    return min(CLOSED_FORM_TEAM, WARP * -(-tiles // WARP))


def for_threads(operation: str, rows: int, cols: int, parts: int, itemsize: int = 8) -> bool:
    """Whether a thread takes a matrix of numbers with so many real parts."""
    if operation in ("svd", "svdvals"):
        return rows * cols * parts * itemsize <= THREAD_BYTES
    numbers = (rows + cols) * cols * parts
    if operation == "dual":
        return numbers + parts - 1 <= THREAD_NUMBERS["dual"] and rows <= DUAL_ROWS
    return numbers <= THREAD_NUMBERS[operation]


def chunk(m: int, n: int) -> int:
    """Directions that the dual kernel carries at a time: as many as a thread holds, else those of a team."""
    rows, cols = max(m, n), min(m, n)
    counts = range(1, THREAD_CHUNK + 1)
    return max(
        (count for count in counts if for_threads("dual", rows, cols, 1 + count)),
        default=TEAM_CHUNK,
    )
