"""A CUDA driver that executes PTX on the CPU. numba-cuda finds it as libcuda.so.1 and drives it as it drives a GPU.

    driver = load(folder)

One device of compute capability 8.0. Its memory is the host's, with gaps between the arrays and poisoned with NaN; what
is launched or copied on a stream waits until the stream is waited for, so that a missing wait shows. Kernels come as
the cubins that nvJitLink assembled; the PTX they were made of is executed by the emulator, the threads in an order that
changes with every launch.

Functions of the driver are methods of `Driver` by their name, their parameters the words that they are passed.
"""

from __future__ import annotations

import atexit
import ctypes
import inspect
import itertools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .emulator import DeviceFault, Emulated

HERE = Path(__file__).parent

SUCCESS, INVALID_VALUE, OUT_OF_MEMORY, NOT_FOUND, LAUNCH_FAILED = 0, 1, 2, 500, 719

VERSION = 13000  # of CUDA
SHARED, SHARED_IF_ASKED = 48 * 1024, 163 * 1024  # bytes of shared memory of a block, of compute capability 8.0
ATTRIBUTES = {  # by their number in `CUdevice_attribute`; one that is not named is 0
    1: 1024,  # MAX_THREADS_PER_BLOCK
    8: SHARED,  # MAX_SHARED_MEMORY_PER_BLOCK
    10: 32,  # WARP_SIZE
    16: 108,  # MULTIPROCESSOR_COUNT
    75: 8,  # COMPUTE_CAPABILITY_MAJOR
    76: 0,  # COMPUTE_CAPABILITY_MINOR
    97: SHARED_IF_ASKED,  # MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
}
MAX_THREADS_PER_BLOCK, MAX_DYNAMIC_SHARED_SIZE_BYTES = 0, 8  # in `CUfunction_attribute`

GAP = 256  # bytes between two arrays, of which none is addressable


@dataclass
class Kernel:
    """A function of a library, and how much shared memory its blocks may ask for."""

    code: Emulated
    shared: int = SHARED


@dataclass(eq=False)
class Driver:
    """What the driver knows, and its functions."""

    folder: Path
    capacity: int = 1 << 33  # bytes of memory; a test may make it less
    arrays: dict[int, np.ndarray] = field(default_factory=dict)  # by the address on the device
    linked: dict[bytes, str] = field(default_factory=dict)  # the PTX of each cubin
    handles: dict[int, Any] = field(default_factory=dict)
    streams: dict[int, list[Callable[[], int]]] = field(default_factory=dict)  # what has been asked of each
    contexts: list[int] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)  # the functions as C calls them
    numbers: itertools.count = field(default_factory=lambda: itertools.count(0x1000))

    def new(self, thing: Any) -> int:
        handle = next(self.numbers)
        self.handles[handle] = thing
        return handle

    def on(self, stream: int, work: Callable[[], int]) -> int:
        """Do it when the stream is waited for; at once, after all streams, if it is the default one."""
        if stream in self.streams:
            self.streams[stream].append(work)
            return SUCCESS
        return self.cuCtxSynchronize() or work()

    # ---- device and context

    def cuInit(self, flags):
        return SUCCESS

    def cuDriverGetVersion(self, version):
        return write(version, VERSION)

    def cuDeviceGetCount(self, count):
        return write(count, 1)

    def cuDeviceGet(self, device, ordinal):
        return write(device, 0)

    def cuDeviceGetName(self, name, length, device):
        ctypes.memmove(name, b"executed PTX\0", 13)
        return SUCCESS

    def cuDeviceGetUuid(self, uuid, device):
        ctypes.memset(uuid, 7, 16)
        return SUCCESS

    def cuDeviceGetAttribute(self, value, attribute, device):
        return write(value, ATTRIBUTES.get(low(attribute), 0))

    def cuDevicePrimaryCtxRetain(self, context, device):
        return write(context, 1, ctypes.c_uint64)

    def cuDevicePrimaryCtxRelease(self, device):
        return SUCCESS

    def cuCtxGetCurrent(self, context):
        return write(context, self.contexts[-1] if self.contexts else 0, ctypes.c_uint64)

    def cuCtxSetCurrent(self, context):
        self.contexts[-1:] = [context]
        return SUCCESS

    def cuCtxPushCurrent(self, context):
        self.contexts.append(context)
        return SUCCESS

    def cuCtxPopCurrent(self, context):
        return write(context, self.contexts.pop(), ctypes.c_uint64)

    def cuCtxGetDevice(self, device):
        return write(device, 0)

    # ---- memory

    def cuMemGetInfo(self, free, total):
        write(free, self.capacity - self.taken(), ctypes.c_uint64)
        return write(total, self.capacity, ctypes.c_uint64)

    def taken(self) -> int:
        return sum(x.nbytes for x in self.arrays.values())

    def cuMemAlloc(self, address, size):
        if not size:
            return INVALID_VALUE
        if self.taken() + size > self.capacity:
            return OUT_OF_MEMORY
        memory = np.full(size + 3 * GAP, 0xFF, np.uint8)
        place = (memory.ctypes.data // GAP + 2) * GAP
        self.arrays[place] = memory
        return write(address, place, ctypes.c_uint64)

    def cuMemFree(self, address):
        failed = self.cuCtxSynchronize()
        del self.arrays[address]
        return failed

    def cuMemcpyHtoDAsync(self, target, source, size, stream):
        staged = ctypes.string_at(source, size)  # pageable memory is read before the call returns
        return self.on(stream, lambda: copy(target, staged, size))

    def cuMemcpyDtoHAsync(self, target, source, size, stream):
        return self.on(stream, lambda: copy(target, source, size))

    def cuMemcpyHtoD(self, target, source, size):
        return self.cuMemcpyDtoHAsync(target, source, size, 0)

    cuMemcpyDtoH = cuMemcpyDtoD = cuMemcpyHtoD
    cuMemcpyDtoDAsync = cuMemcpyDtoHAsync

    # ---- streams

    def cuStreamCreate(self, stream, flags):
        handle = self.new(None)
        self.streams[handle] = []
        return write(stream, handle, ctypes.c_uint64)

    def cuStreamSynchronize(self, stream):
        failed = SUCCESS
        while self.streams.get(stream):
            failed = self.streams[stream].pop(0)() or failed
        return failed

    def cuStreamDestroy(self, stream):
        failed = self.cuStreamSynchronize(stream)
        del self.streams[stream]
        return failed

    def cuCtxSynchronize(self):
        return max(map(self.cuStreamSynchronize, self.streams), default=SUCCESS)

    # ---- code

    def cuLibraryLoadData(self, library, code, options, values, count, more, more_values, more_count):
        for cubin, ptx in self.linked.items():
            if ctypes.string_at(code, len(cubin)) == cubin:
                return write(library, self.new(ptx), ctypes.c_uint64)
        return NOT_FOUND

    def cuLibraryUnload(self, library):
        return SUCCESS

    def cuLibraryGetKernel(self, kernel, library, name):
        return write(kernel, self.new(Kernel(Emulated(self.handles[library], self.folder))), ctypes.c_uint64)

    def cuKernelGetFunction(self, function, kernel):
        return write(function, kernel, ctypes.c_uint64)

    def cuKernelGetAttribute(self, value, attribute, kernel, device):
        return write(value, ATTRIBUTES[1] if low(attribute) == MAX_THREADS_PER_BLOCK else 0)

    def cuKernelSetAttribute(self, attribute, value, kernel, device):
        if low(attribute) != MAX_DYNAMIC_SHARED_SIZE_BYTES or low(value) > SHARED_IF_ASKED:
            return INVALID_VALUE
        self.handles[kernel].shared = low(value)
        return SUCCESS

    def cuLaunchKernelEx(self, config, function, parameters, extra):
        numbers = (ctypes.c_uint32 * 7).from_address(config)  # CUlaunchConfig: grid, block, shared memory; the stream
        stream = ctypes.c_uint64.from_address(config + 32).value
        kernel, shared = self.handles[function], numbers[6]
        if shared > kernel.shared or not all(numbers[:6]):
            return INVALID_VALUE
        params = kernel.code.module.entry.params
        places = (ctypes.c_uint64 * len(params)).from_address(parameters)
        block = kernel.code.parameter_block(ctypes.string_at(x, param.size) for x, param in zip(places, params))
        grid, threads, seed = numbers[:3], numbers[3:6], next(self.numbers)

        def work() -> int:
            try:
                kernel.code.execute(grid, threads, block, self.arrays_in(block), shared=shared, seed=seed)
            except DeviceFault as fault:
                print(fault, file=sys.stderr)
                return LAUNCH_FAILED
            return SUCCESS

        return self.on(stream, work)

    def arrays_in(self, block: bytes) -> list[tuple[int, int]]:
        """Address and bytes of each array among the parameters, which are all that a kernel may touch.

        numba-cuda passes an array as (meminfo, parent, items, item size, data, shape, strides); the first two are null.
        """
        words = np.frombuffer(block[: len(block) // 8 * 8], np.uint64).tolist()
        return [
            (words[k + 4], words[k + 2] * words[k + 3])
            for k in range(len(words) - 6)
            if words[k : k + 2] == [0, 0] and words[k + 3] in (1, 2, 4, 8, 16) and self.holds(words[k + 4])
        ]

    def holds(self, address: int) -> bool:
        """Whether that is an address in the memory of the device."""
        return any(0 <= address - place < memory.nbytes for place, memory in self.arrays.items())


def low(word: int) -> int:
    """An argument of 32 bits: the upper half of its word may hold anything."""
    return word & 0xFFFFFFFF


def write(address: int, value: int, kind: Any = ctypes.c_int) -> int:
    kind.from_address(address).value = value
    return SUCCESS


def copy(target: int, source: int | bytes, size: int) -> int:
    ctypes.memmove(target, source, size)
    return SUCCESS


# ---- in the place of libcuda.so.1


FACE = r"""
#include <stdint.h>
#include <string.h>
typedef uint64_t W;
typedef int (*Answer)(W, W, W, W, W, W, W, W);  /* whoever takes fewer words does not look at the others */
static int gone;
void leave(void) { gone = 1; }
"""
FUNCTION = """
static Answer answer_{name};
void set_{name}(Answer a) {{ answer_{name} = a; }}
int {name}(W a, W b, W c, W d, W e, W f, W g, W h) {{ return gone ? 0 : answer_{name}(a, b, c, d, e, f, g, h); }}
"""
LOOK_UP = """
int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {{
    *function = 0;
    {}
    if (status) *status = !*function;
    return *function ? 0 : 500;  /* CUDA_ERROR_NOT_FOUND */
}}
int cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {{
    return cuGetProcAddress_v2(name, function, version, flags, 0);
}}
"""


def load(folder: Path) -> Driver:
    """Let this process find the driver: the library is known by its name from now on.

    Callers in C come through functions in C, which answer without Python when it has gone: the last objects of NVIDIA's
    bindings outlive it.
    """
    driver = Driver(folder)
    names = [name for name in dir(driver) if name.startswith("cu")]
    known = "\n    ".join(f'if (!strcmp(name, "{name}")) *function = {name};' for name in names)
    source, library = folder / "libcuda.c", folder / "libcuda.so.1"
    source.write_text(FACE + "".join(FUNCTION.format(name=name) for name in names) + LOOK_UP.format(known))
    command = ["gcc", "-w", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", source, "-o", library]
    subprocess.run(command, check=True)
    face = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    for name in names:
        method = getattr(driver, name)
        words = [ctypes.c_uint64] * len(inspect.signature(method).parameters)
        driver.answers.append(ctypes.CFUNCTYPE(ctypes.c_int, *words)(method))
        getattr(face, f"set_{name}")(driver.answers[-1])
    atexit.register(face.leave)
    take(driver)
    return driver


def take(driver: Driver) -> None:
    """Have numba-cuda look for a driver, anew if it has found none before, and tell of what PTX it makes a cubin."""
    from numba.cuda.cudadrv import driver as numbas

    numbas.driver.__init__()
    complete = numbas._Linker.complete

    def noting(linker: Any) -> Any:
        ptx = linker.get_linked_ptx()
        cubin = complete(linker)
        driver.linked[bytes(cubin.code)] = ptx.decode()
        return cubin

    numbas._Linker.complete = noting
