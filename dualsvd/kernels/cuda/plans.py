"""Which kernel runs on matrices of one shape and type, and with what."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import from_dtype, int64

from ..buffers import Kind, components
from .teams import (
    block_dual,
    block_pullback,
    block_pushforward,
    block_svd,
    dual_numbers,
    pullback_numbers,
    pushforward_numbers,
    svd_numbers,
)
from .threads import THREADS, thread_dual, thread_pullback, thread_pushforward, thread_svd

#: The largest matrix whose values or factors a thread finds, in bytes: 6 x 6 of float64, 8 x 8 of float32. Up to 36
#: reals of A and V it stays in registers, above it keeps a part of them, up to 600 bytes, in local memory: that is
#: still faster than a team (2.9 ns against 4.9 for 5 x 5 on an H100, 3.9 against 11 for 6 x 6). In no case do
#: registers spill (tests/gpu/test_resources.py holds the table).
THREAD_BYTES = 288

#: The largest that a thread takes for the others, as reals of A and V with their partials, as columns, and as rows: up
#: to here the kernels were seen to stay in 255 registers without local memory.
THREAD_NUMBERS = {"pushforward": 36, "pullback": 36, "dual": 64}
THREAD_COLUMNS = {"pushforward": 4, "pullback": 4, "dual": 4}
THREAD_ROWS = {"pushforward": 36, "pullback": 36, "dual": 28}

#: Directions that one dual number carries at most; more are taken in turns.
THREAD_CHUNK, TEAM_CHUNK = 3, 2

#: Threads of a block of teams: a warp holds the n // 2 pairs of the widest front up to n = 64.
WARP = 32

#: Shared memory that every device gives a block without being asked, in bytes.
SHARED_BYTES = 48 * 1024

#: Blocks of teams that the registers of an SM hold, and its shared memory (compute capability 8.0): a block packs as
#: many matrices as keep most of them resident.
RESIDENT_BLOCKS, PROCESSOR_BYTES = 12, 164 * 1024


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
        "svd": (arrays, arrays, arrays, arrays, report, arrays, *[integer] * 5),
        "pushforward": (*[arrays] * 8, *[integer] * 5),
        "pullback": (*[arrays] * 8, *[integer] * 4),
        "dual": (*[arrays] * 8, report, arrays, *[integer] * 5),
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
    pairs = cols // 2  # of the widest front

    def resident(team: int) -> int:
        """Matrices that an SM works on at a time."""
        needed = WARP // team * matrix_numbers(operation, rows, cols, planes, count, team) * real.itemsize
        return WARP // team * min(RESIDENT_BLOCKS, PROCESSOR_BYTES // needed) if needed <= shared else 0

    team = max((t for t in (1, 2, 4, 8, 16, WARP) if t >= pairs), key=lambda t: (resident(t), t))
    size = matrix_numbers(operation, rows, cols, planes, count, team)
    matrices = WARP // team
    needed = matrices * size
    fits = needed * real.itemsize <= shared
    kernel = block_kernel(operation, dtype, count, fits)
    return Plan(kernel, signature, WARP, matrices, team, needed * real.itemsize if fits else 0, 0 if fits else needed)


def for_threads(operation: str, rows: int, cols: int, parts: int, itemsize: int = 8) -> bool:
    """Whether a thread takes a matrix of numbers with so many real parts."""
    if operation in ("svd", "svdvals"):
        return rows * cols * parts * itemsize <= THREAD_BYTES
    numbers = (rows + cols) * cols * parts
    return numbers <= THREAD_NUMBERS[operation] and rows <= THREAD_ROWS[operation] and cols <= THREAD_COLUMNS[operation]


def chunk(m: int, n: int) -> int:
    """Directions that the dual kernel carries at a time: as many as a thread holds, else those of a team."""
    rows, cols = max(m, n), min(m, n)
    counts = range(1, THREAD_CHUNK + 1)
    return max(
        (count for count in counts if for_threads("dual", rows, cols, 1 + count)),
        default=TEAM_CHUNK,
    )


def matrix_numbers(operation: str, rows: int, cols: int, planes: int, count: int, team: int) -> int:
    """Reals that a matrix takes in the memory of its block."""
    tall, square = rows * cols * planes, cols * cols * planes
    if operation == "dual":
        return dual_numbers(tall, square, cols, team, 1 + count)
    if operation == "pushforward":
        return pushforward_numbers(tall, square, cols, team)
    if operation == "pullback":
        return pullback_numbers(tall, square, cols)
    return svd_numbers(tall, square if operation == "svd" else 0, cols, team)


@functools.cache
def block_kernel(operation: str, dtype: str, count: int, in_shared: bool) -> Callable[..., None]:
    """One kernel serves all shapes."""
    real = np.empty(0, dtype).real.dtype
    kind, real_kind, real_type = Kind(dtype), Kind(real), from_dtype(real)
    if operation == "pushforward":
        return block_pushforward(kind, real_kind, real_type, in_shared)
    if operation == "pullback":
        return block_pullback(kind, real_kind, real_type, in_shared)
    if operation == "dual":
        return block_dual(Kind(dtype, (count,)), kind, real_type, count, in_shared)
    return block_svd(kind, real_kind, real_type, operation == "svd", in_shared)
