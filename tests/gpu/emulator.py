"""Runs compiled device code on the CPU: PTX is translated to C (`ptx.py`), compiled by gcc, called through ctypes."""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from .ptx import GAP, align_up, translate

HERE = Path(__file__).parent
FAULTS = ("", "out-of-bounds access", "misaligned access", "race on shared memory", "divergent barrier",
          "value taken from a lane outside the mask", "endless loop", "trap")  # fmt: skip
GCC = ("gcc", "-Og", "-march=native", "-fwrapv", "-fno-strict-aliasing", "-w", "-shared", "-fPIC",
       "-ffp-contract=off")  # a*b + c is fused only where the PTX says so # fmt: skip


class DeviceFault(Exception):
    """The kernel did what real hardware forbids or leaves undefined; `kind` is one of FAULTS."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class Region(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_uint64))


class Emulated:
    """A compiled kernel on the CPU: `kernel.launch(blocks, threads, *arguments)` changes its array arguments."""

    def __init__(self, ptx: str, folder: Path) -> None:
        self.module = translate(ptx)
        self.lines = ptx.split("\n")
        digest = hashlib.sha256((self.module.code + (HERE / "machine.h").read_text()).encode()).hexdigest()[:24]
        library = folder / f"{digest}.so"
        if not library.exists():
            source = folder / f"{digest}.c"
            source.write_text(self.module.code)
            subprocess.run([*GCC, f"-I{HERE}", source, "-o", library, "-lm"], check=True)
        self.function = ctypes.CDLL(str(library)).launch
        self.function.restype = ctypes.c_int64

    def launch(
        self,
        blocks: int,
        threads: int,
        *arguments: object,
        shared: int = 0,
        seed: int = 0,
        budget: int = 10**9,
        visits: np.ndarray | None = None,
    ) -> None:
        """Run the grid, the threads in an order drawn from `seed`.

        shared   bytes of dynamic shared memory
        budget   turns of loops after which the kernel counts as endless
        visits   uint64 (lines + 2, 2) that receives how often each line of PTX was executed: by all threads, and by the
                 first ones of the blocks
        """
        arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        memory, places = arena(arrays)
        regions = [(place, a.nbytes) for place, a in zip(places, arrays, strict=True)]
        block = self.parameter_block(self.words(arguments, places))
        try:
            self.execute((blocks, 1, 1), (threads, 1, 1), block, regions, shared, seed, budget, visits)
        finally:
            for a, place in zip(arrays, places, strict=True):
                at = place - memory.ctypes.data
                a[...] = memory[at : at + a.nbytes].view(a.dtype).reshape(a.shape)

    def execute(
        self,
        grid: Sequence[int],
        threads: Sequence[int],
        parameters: bytes,
        regions: list[tuple[int, int]],
        shared: int = 0,
        seed: int = 0,
        budget: int = 10**9,
        visits: np.ndarray | None = None,
    ) -> None:
        """The same on memory that is in place: `regions` are the address and the bytes of each array."""
        spans = [x for begin, end in self.module.shared for x in (begin, end or begin + shared)]
        report = (ctypes.c_int64 * 5)()
        kind = self.function(
            parameters,
            (Region * (len(regions) + 1))(*regions),
            ctypes.c_int(len(regions)),
            (ctypes.c_uint32 * (len(spans) + 1))(*spans),
            ctypes.c_int(len(spans) // 2),
            (ctypes.c_uint32 * 3)(*grid),
            (ctypes.c_uint32 * 3)(*threads),
            ctypes.c_uint32(max(spans, default=0)),
            ctypes.c_uint32(shared),
            ctypes.c_uint64(seed),
            ctypes.c_int64(budget),
            report,
            None if visits is None else visits.ctypes.data_as(ctypes.c_void_p),
        )
        if kind:
            line, block, thread, address = report[1:]
            where = f"block {block}, thread {thread}, {describe(address, regions)}"
            raise DeviceFault(FAULTS[kind], f"{where}PTX line {line}: {self.lines[line - 1].strip()}")

    def words(self, arguments: tuple[object, ...], places: list[int]) -> list[bytes]:
        """The arguments as numba-cuda passes them.

        An array is (meminfo, parent, items, item size, data, shape, strides).
        """
        words: list[object] = []
        data = iter(places)
        for a in arguments:
            if isinstance(a, np.ndarray):
                words += [0, 0, a.size, a.itemsize, next(data), *a.shape, *np.ascontiguousarray(a).strides]
            else:
                words.append(a)
        params = self.module.entry.params
        if len(words) != len(params):
            raise TypeError(f"the kernel takes {len(params)} words of parameters, {len(words)} came")
        dtypes = (f"{'f' if param.kind[0] == 'f' else 'i'}{param.size}" for param in params)
        return [np.array([word]).astype(dtype).tobytes() for word, dtype in zip(words, dtypes)]

    def parameter_block(self, words: Iterable[bytes]) -> bytes:
        """The words of the parameters, each at its offset."""
        offsets, size = self.module.entry.layout()
        block = bytearray(size + 8)
        for word, offset in zip(words, offsets, strict=True):
            block[offset : offset + len(word)] = word
        return bytes(block)


def arena(arrays: list[np.ndarray]) -> tuple[np.ndarray, list[int]]:
    """Copies of the arrays in one block of memory with gaps between, so that an overrun meets no neighbour.

    An array that is passed twice has one place.
    """
    memory = np.zeros(sum(a.nbytes + 2 * GAP for a in arrays) + GAP, np.uint8)
    found: dict[tuple[int, int], int] = {}
    at = align_up(memory.ctypes.data, GAP)
    for a in arrays:
        if (a.ctypes.data, a.nbytes) not in found:
            found[a.ctypes.data, a.nbytes] = at
            begin = at - memory.ctypes.data
            memory[begin : begin + a.nbytes] = np.ascontiguousarray(a).reshape(-1).view(np.uint8)
            at = align_up(at + a.nbytes + GAP, GAP)
    return memory, [found[a.ctypes.data, a.nbytes] for a in arrays]


def describe(address: int, regions: list[tuple[int, int]]) -> str:
    for k, (place, size) in enumerate(regions):
        if place - GAP // 2 <= address < place + size + GAP // 2:
            return f"byte {address - place} of the {size} of array {k}, "
    return f"address {address:#x}, " if address else ""
