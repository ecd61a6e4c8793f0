"""The plan for a GPU, and the measurement that settles it: predicted and measured time a matrix of every kernel.

    cd tests && python -m gpu.measure
    cd tests && python -m gpu.measure vary      with a device: times by `plans.LANES` and `plans.REGISTERS`

Instructions are counted by executing the PTX on the CPU, registers and shared memory are those that ptxas reports; with
a device at hand its time stands beside, and, with PyTorch at hand, that of its calls, which are cuSOLVER's. The
prediction is the largest of four times:

    fp64      double (or single) precision instructions, a division or root counted as what it expands to
    issue     all instructions, one a cycle from each of an SM's four schedulers
    latency   the same, each waiting for the one before it, over the warps that fit an SM
    memory    bytes read and written

Instructions are those of warps: each of a block of teams issues what its first thread does, which takes part in
everything.
"""

from __future__ import annotations

import itertools
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numba import cuda

from dualsvd.kernels import cuda as kernels
from dualsvd.kernels.cuda import plans
from dualsvd.kernels.jacobi import MAX_SWEEPS

from . import toolchain
from .emulator import Emulated
from .families import batch


@dataclass(frozen=True)
class Machine:
    """What one streaming multiprocessor does in a cycle, and how many there are."""

    name: str
    clock: float  # Hz
    processors: int
    float64: float  # warp instructions a cycle
    float32: float
    issue: float
    bandwidth: float  # bytes a second
    registers: int  # of 32 bits
    shared: int  # bytes
    warps: int
    blocks: int
    latency: float  # cycles until a dependent instruction can issue, an average over arithmetic and shared memory


#: Shared memory that an H100 gives a block that asks, in bytes.
SHARED_LIMIT = 227 * 1024

H100 = Machine("H100 SXM", 1.7e9, 132, 2.0, 4.0, 4.0, 3.35e12, 65536, 227 * 1024, 64, 32, 9.0)

#: Instructions that a correctly rounded division or root expands to.
EXPANSION = {"div": 9, "sqrt": 9, "rcp": 7}

#: Numbers in a batch that is timed: 128 MB in double precision.
NUMBERS = 1 << 24

#: Matrices in it that differ.
DRAWN = 1000

#: The largest side of a matrix that cuSOLVER takes in batches; PyTorch calls it one by one above.
BATCHED = 32

KERNELS = [
    ("svdvals", "float64", 3, 3, 0),
    ("svd", "float64", 3, 3, 0),
    ("pushforward", "float64", 3, 3, 0),
    ("pullback", "float64", 3, 3, 0),
    ("dual", "float64", 3, 3, 1),
    ("svd", "float32", 3, 3, 0),
    ("svd", "float64", 8, 8, 0),
    ("dual", "float64", 8, 8, 1),
    ("pushforward", "float64", 8, 8, 0),
    ("pullback", "float64", 8, 8, 0),
    ("svd", "float64", 16, 16, 0),
    ("svd", "float64", 32, 32, 0),
    ("dual", "float64", 32, 32, 1),
    ("svd", "float32", 32, 32, 0),
    ("svd", "float64", 64, 64, 0),
]


def arguments(operation: str, dtype: str, m: int, n: int, count: int, size: int) -> tuple[list[np.ndarray], list[int]]:
    """Arrays and integers that a kernel takes, for generic matrices."""
    a, da, names = batch(m, n, dtype, 2 * size + 24)
    a, da = (np.ascontiguousarray(x[np.array(names) == "generic"][:size]) for x in (a, da))
    da = np.stack([da] * max(count, 1))
    U, S, Vh = np.linalg.svd(a, full_matrices=False)
    tangents = [np.zeros((len(da), *x.shape), x.dtype) for x in (U, S, Vh)]
    report = np.zeros((size, 3))
    integers = [size, MAX_SWEEPS]
    if operation == "pushforward":
        return [da, U, S, Vh, *tangents], [size, len(da)]
    if operation == "pullback":
        return [U, S, Vh, U.copy(), S.copy(), Vh.copy(), a], integers[:1]
    if operation == "dual":
        return [a, da, U, S, Vh, *tangents, report], integers
    return [a, U, S, Vh, report], integers


def repeated(operation: str, dtype: str, m: int, n: int, count: int, size: int) -> tuple[list[np.ndarray], list[int]]:
    """The same for a batch of any size, which repeats a few matrices."""
    few = min(size, DRAWN)
    arrays, integers = arguments(operation, dtype, m, n, count, few)
    index = np.arange(size) % few
    return [np.take(x, index, axis=0 if len(x) == few else 1) for x in arrays], [size, *integers[1:]]


def instructions(ptx: str, visits: np.ndarray, column: int) -> dict[str, float]:
    """How many instructions were executed: arithmetic of the kernel's precision, expanded, and all."""
    arithmetic = total = 0.0
    for number, line in enumerate(ptx.split("\n"), 1):
        found = re.match(r"\s*(?:@!?%\w+\s+)?([a-z]\w*)((?:\.\w+)*)", line)
        if not found or not visits[number, column]:
            continue
        cost = EXPANSION.get(found[1], 1) if re.search(r"\.f(32|64)\b", found[2]) else 1
        total += cost * float(visits[number, column])
        if re.search(r"\.f(32|64)\b", found[2]) and found[1] in {*EXPANSION, "add", "sub", "mul", "fma", "setp", "neg"}:
            arithmetic += cost * float(visits[number, column])
    return {"arithmetic": arithmetic, "all": total}


def predict(operation: str, dtype: str, m: int, n: int, count: int, machine: Machine, folder: Path) -> dict[str, Any]:
    """Occupancy, instructions, bytes and the predicted time a matrix."""
    chosen = kernels.plan(operation, dtype, m, n, count, SHARED_LIMIT)
    ptx = toolchain.compile_ptx(chosen.kernel, chosen.signature, (9, 0))
    resources = toolchain.assemble(ptx, (9, 0), folder, chosen.registers)
    emulated = Emulated(ptx, folder)
    size = 2 * chosen.matrices
    arrays, integers = arguments(operation, dtype, m, n, count, size)
    visits = np.zeros((len(ptx.split("\n")) + 2, 2), np.uint64)
    work = np.zeros(max(1, chosen.blocks(size) * chosen.workspace), arrays[0].dtype)
    flat = [x.reshape(-1) for x in arrays]
    emulated.launch(chosen.blocks(size), chosen.threads, *flat, work, *integers, shared=chosen.shared, visits=visits)
    in_threads = chosen.matrices == chosen.threads and not chosen.shared
    counted = instructions(ptx, visits, 0 if in_threads else 1)
    warps, shared = chosen.threads // 32, max(chosen.shared, resources.shared)
    # warp instructions a matrix: of 32 threads each with a matrix, or of the first thread of a block of teams
    per = {name: number / size * (1 / 32 if in_threads else warps) for name, number in counted.items()}
    blocks = min(
        machine.warps // warps,
        machine.blocks,
        machine.registers // (max(resources.registers, 1) * chosen.threads),
        machine.shared // (shared + 1024) if shared else machine.blocks,
    )
    rate = machine.clock * machine.processors
    pipe = machine.float32 if dtype == "float32" else machine.float64
    moved = sum(x.nbytes for x in arrays) / size
    times = {
        "fp": per["arithmetic"] / pipe / rate,
        "issue": per["all"] / machine.issue / rate,
        "latency": per["all"] * machine.latency / (blocks * warps) / rate,
        "memory": moved / machine.bandwidth,
    }
    limit = max(times, key=lambda name: times[name])
    return {
        "registers": resources.registers,
        "shared": shared,
        "warps": blocks * warps,
        "bytes": moved,
        "instructions": per["all"],
        "arithmetic": per["arithmetic"],
        "time": times[limit],
        "limit": limit,
    }


def measure(operation: str, dtype: str, m: int, n: int, count: int, repeats: int = 20) -> float:
    """Seconds a matrix on the device, arrays resident: the median of `repeats` launches between two events."""
    size = NUMBERS // (m * n)
    chosen = kernels.plan(operation, dtype, m, n, count, kernels.shared_limit())
    arrays, integers = repeated(operation, dtype, m, n, count, size)
    resident = [cuda.to_device(x) for x in arrays]
    return timed(lambda: kernels.run(chosen, size, tuple(resident), tuple(integers), 0), repeats) / size


def timed(work: Callable[[], Any], repeats: int) -> float:
    """Seconds that it takes of the device: the median of some runs after a first."""
    times = []
    for _ in range(repeats + 1):
        start, end = cuda.event(), cuda.event()
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(cuda.event_elapsed_time(start, end) * 1e-3)
    return float(np.median(times[1:]))


def peer(operation: str, dtype: str, m: int, n: int, repeats: int = 3) -> float | None:
    """Seconds a matrix of what PyTorch has for the same, if anything."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available() or operation not in ("svd", "svdvals", "pullback"):
        return None
    size = NUMBERS // (m * n) // 4 if max(m, n) <= BATCHED else 50
    a = torch.as_tensor(repeated("svd", dtype, m, n, 0, size)[0][0], device="cuda")
    if operation == "svdvals":
        return timed(lambda: torch.linalg.svdvals(a), repeats) / size
    if operation == "svd":
        return timed(lambda: torch.linalg.svd(a, full_matrices=False), repeats) / size
    y = torch.linalg.svd(a.requires_grad_(), full_matrices=False)
    bars = [torch.ones_like(x) for x in y]
    return timed(lambda: torch.autograd.grad(y, a, bars, retain_graph=True), repeats) / size


#: What teams are tried on, and how.
VARIED = [
    *(("svd", "float64", n, n, 0) for n in (8, 16, 24, 32, 48, 64)),
    *(("svd", "float32", n, n, 0) for n in (16, 32, 64)),
    *(("dual", "float64", n, n, 1) for n in (8, 16, 32, 64)),
]
LANES, REGISTERS = (1, 2, 4, 8), (None, 128, 96)


def vary() -> None:
    """Print the nanoseconds a matrix of each number of threads at a pair and each limit of registers."""
    print("lanes, registers: " + "  ".join(f"{lanes}, {most or 'all'}" for lanes in LANES for most in REGISTERS))
    for operation, dtype, m, n, count in VARIED:
        line = f"{operation} {m}x{n} {dtype}: "
        for lanes, registers in itertools.product(LANES, REGISTERS):
            tried = {name: dict.fromkeys(table, lanes) for name, table in plans.LANES.items()}
            with mock.patch.object(plans, "LANES", tried), mock.patch.object(plans, "REGISTERS", registers):
                plans.plan.cache_clear()
                line += f" {measure(operation, dtype, m, n, count, 5) * 1e9:.4g}"
        print(line, flush=True)
    plans.plan.cache_clear()


def main() -> None:
    import dualsvd as ds

    if reason := toolchain.missing():
        sys.exit(reason)
    device = ds.cuda.is_available()
    if "vary" in sys.argv:
        return vary() if device else sys.exit(ds.cuda.obstacle())
    print(
        f"{'':34}{'regs':>5} {'shared':>7} {'warps':>5} {'bytes':>7} {'instr.':>8} {'fp':>8}  {H100.name}, ns a matrix"
    )
    with tempfile.TemporaryDirectory() as folder:
        for operation, dtype, m, n, count in KERNELS:
            p = predict(operation, dtype, m, n, count, H100, Path(folder))
            name = f"{operation} {m}x{n} {dtype}" + (f", {count} direction" if count else "")
            line = f"{name:34}{p['registers']:5} {p['shared']:7} {p['warps']:5} {p['bytes']:7.0f} "
            line += f"{p['instructions']:8.1f} {p['arithmetic']:8.1f}  {p['time'] * 1e9:9.2f} ({p['limit']})"
            if device:
                line += f", measured {measure(operation, dtype, m, n, count) * 1e9:.2f}"
                other = peer(operation, dtype, m, n)
                line += f", PyTorch {other * 1e9:.2f}" if other else ""
            print(line, flush=True)


if __name__ == "__main__":
    main()
