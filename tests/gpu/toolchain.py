"""NVVM and ptxas without a driver: device code compiled to PTX, assembled, and the assembler's report read."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

CAPABILITIES = ((8, 0), (9, 0))


def ptxas() -> str | None:
    """The assembler of the package nvidia-cuda-nvcc, which fits the NVVM beside it: an older one rejects its PTX."""
    spec = find_spec("nvidia")
    folders = spec.submodule_search_locations if spec else None
    found = [str(path) for folder in folders or () for path in Path(folder).glob("*/bin/ptxas")]
    return found[0] if found else shutil.which("ptxas")


def missing() -> str | None:
    """Why device code cannot be compiled, assembled and executed here; None if it can."""
    if find_spec("numba_cuda") is None:
        return "numba-cuda is not installed: pip install 'dualsvd[cuda13]'"
    if ptxas() is None:
        return "no ptxas: pip install nvidia-cuda-nvcc"
    if shutil.which("gcc") is None:
        return "no gcc, which compiles the translated PTX"
    return None


@functools.cache
def compile_ptx(function: Callable[..., Any], signature: Any, capability: tuple[int, int]) -> str:
    """The PTX of a kernel for a compute capability.

    Nested device functions ask the current device for its capability; without a driver this object answers.
    """
    from numba import cuda
    from numba.cuda import dispatcher

    device = SimpleNamespace(compute_capability=capability)
    with mock.patch.object(dispatcher, "get_current_device", lambda: device):
        return cuda.compile_ptx(function, signature, cc=capability)[0]


@dataclass(frozen=True)
class Resources:
    """What one thread, or one block, of a kernel takes, as ptxas reports it."""

    registers: int
    stack: int  # bytes of local memory a thread, spills included
    spills: int  # bytes stored and loaded by spilling
    shared: int  # bytes of static shared memory a block


def assemble(ptx: str, capability: tuple[int, int], folder: Path, registers: int | None = None) -> Resources:
    """Assemble PTX as the driver would, for threads of so many registers, and read the report on its kernel."""
    source = folder / "kernel.ptx"
    source.write_text(ptx)
    command = [
        ptxas(),
        "-v",
        f"-arch=sm_{capability[0]}{capability[1]}",
        *([f"-maxrregcount={registers}"] if registers else []),
        str(source),
        "-o",
        str(folder / "kernel.cubin"),
    ]
    report = subprocess.run(command, capture_output=True, text=True, check=False)
    if report.returncode:
        raise AssertionError(f"ptxas refuses the PTX:\n{report.stderr}")
    properties = report.stderr[report.stderr.index("Compiling entry function") :]
    stack, stores, loads = map(
        int,
        re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", properties).groups(),
    )
    used = re.search(r"Used (\d+) registers[^\n]*", properties)
    shared = re.search(r"(\d+) bytes smem", used[0])
    return Resources(int(used[1]), stack, stores + loads, int(shared[1]) if shared else 0)
