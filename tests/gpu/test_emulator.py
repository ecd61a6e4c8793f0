"""The emulator itself: translated PTX computes what NumPy computes, and what hardware forbids is caught."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from . import toolchain

if reason := toolchain.missing():
    pytest.skip(reason, allow_module_level=True)

from numba import cuda, float32, float64, int32, int64, uint32, uint64

from .emulator import DeviceFault, Emulated
from .ptx import UnsupportedPTX, translate

THREADS = 64  # two warps
SEEDS = range(5)


def emulated(kernel, signature, tmp_path, edit=lambda ptx: ptx):
    return Emulated(edit(toolchain.compile_ptx(kernel, signature, (8, 0))), tmp_path)


# ---- kernels


def integers(a, b, out):
    k = cuda.grid(1)
    if k < a.shape[0]:
        x, y = a[k], b[k]
        out[k, 0] = x + y
        out[k, 1] = x - y
        out[k, 2] = x * y
        out[k, 3] = x // (y | 1)
        out[k, 4] = x & ~y
        out[k, 5] = (x ^ y) >> 3
        out[k, 6] = x << (y & 7)
        out[k, 7] = min(x, y) | max(x, y)


def integers_in_numpy(x, y):
    return np.stack(
        [x + y, x - y, x * y, x // (y | 1), x & ~y, (x ^ y) >> 3, x << (y & 7), np.minimum(x, y) | np.maximum(x, y)], 1
    )


def floats(a, b, out):
    k = cuda.grid(1)
    if k < a.shape[0]:
        x, y = a[k], b[k]
        out[k, 0] = x / y
        out[k, 1] = abs(x) ** a.dtype.type(0.5)
        out[k, 2] = min(x, y) - max(x, y)
        out[k, 3] = -x if x >= y else y
        out[k, 4] = a.dtype.type(int64(x * 100))
        out[k, 5] = float32(x)


def sines(x, out):
    k = cuda.grid(1)
    if k < x.shape[0]:
        out[k, 0], out[k, 1], out[k, 2] = math.sin(x[k]), math.cos(x[k]), math.exp(-abs(x[k]) % 1.0)


def block_sum(a, total):
    """Sum by halving in shared memory, one block a row."""
    part = cuda.shared.array(THREADS, float64)
    k, row = cuda.threadIdx.x, cuda.blockIdx.x
    part[k] = a[row, k]
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if k < half:
            part[k] += part[k + half]
        cuda.syncthreads()
        half //= 2
    total[row, k] = part[0]


def warp_sum(a, total):
    """Sum by shuffles, then over the warps by an atomic."""
    both = cuda.shared.array(1, float64)
    k, row = cuda.threadIdx.x, cuda.blockIdx.x
    if k == 0:
        both[0] = 0.0
    cuda.syncthreads()
    s = a[row, k]
    step = 16
    while step > 0:
        s += cuda.shfl_xor_sync(0xFFFFFFFF, s, step)
        step //= 2
    if k % 32 == 0:
        cuda.atomic.add(both, 0, s)
    cuda.syncthreads()
    total[row, k] = both[0]


def votes(a, out):
    k = cuda.threadIdx.x
    out[k, 0] = cuda.syncthreads_count(int(a[k] > 0))
    out[k, 1] = cuda.syncthreads_or(int(a[k] > 1000))
    out[k, 2] = cuda.syncthreads_and(int(a[k] > -1000))
    out[k, 3] = cuda.ballot_sync(0xFFFFFFFF, a[k] > 0)
    out[k, 4] = cuda.shfl_up_sync(0xFFFFFFFF, k, 1)
    out[k, 5] = cuda.shfl_sync(0xFFFFFFFF, k, 5)


def uninitialised(out):
    shared = cuda.shared.array(THREADS, float64)
    local = cuda.local.array(4, float64)
    k = cuda.threadIdx.x
    here, there = int(out[k, 0]), int(out[k, 1])  # which the compiler cannot foresee, so that it must read
    shared[here] = 1.0
    local[here] = 1.0
    cuda.syncthreads()
    out[k, 0] = shared[there]
    out[k, 1] = local[there]


def diverging(a):
    if a[cuda.threadIdx.x] > 0:
        cuda.syncthreads()
    a[cuda.threadIdx.x] = 1.0


def unordered(a, out):
    """A warp sync orders the threads of a warp, not those of another."""
    part = cuda.shared.array(THREADS, float64)
    k = cuda.threadIdx.x
    part[k] = a[k]
    cuda.syncwarp()
    out[k] = part[(k + 1) % THREADS]


def overrun(a, out):
    k = cuda.threadIdx.x
    part = cuda.shared.array(THREADS, float64)
    part[k + int(a[k])] = a[k]
    out[k] = part[k]


def endless(a):
    while a[0] > 0:
        a[1] += 1


# ---- right results


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint64"])
def test_integer_instructions_equal_numpy(dtype, tmp_path, rng):
    kind = {"int32": int32, "int64": int64, "uint32": uint32, "uint64": uint64}[dtype]
    kernel = emulated(integers, (kind[::1], kind[::1], kind[:, ::1]), tmp_path)
    a, b = (rng.integers(0 if dtype[0] == "u" else -(2**31), 2**31, 200).astype(dtype) for _ in range(2))
    out = np.zeros((200, 8), dtype)
    kernel.launch(4, THREADS, a, b, out)
    np.testing.assert_array_equal(out, integers_in_numpy(a, b))


@pytest.mark.parametrize(("dtype", "kind"), [("f4", float32), ("f8", float64)], ids=["float32", "float64"])
def test_float_instructions_equal_numpy(dtype, kind, tmp_path, rng):
    kernel = emulated(floats, (kind[::1], kind[::1], kind[:, ::1]), tmp_path)
    x, y = (rng.standard_normal(200).astype(dtype) * 10 ** rng.integers(-3, 4, 200).astype(dtype) for _ in range(2))
    out = np.zeros((200, 6), dtype)
    kernel.launch(4, THREADS, x, y, out)
    expected = [
        x / y,
        np.sqrt(abs(x)),
        np.minimum(x, y) - np.maximum(x, y),
        np.where(x >= y, -x, y),
        np.trunc(x * 100),
        x.astype("f4"),
    ]
    np.testing.assert_allclose(out, np.stack(expected, 1), rtol=2 * np.finfo(dtype).eps)


def test_elementary_functions_equal_numpy_on_arguments_of_every_size(tmp_path, rng):
    """Beyond 1e9 the reduction by pi/2 takes the slow path: a function with tables, local memory and long products."""
    x = rng.choice([-1.0, 1.0], 200) * 10.0 ** rng.uniform(-9, 300, 200)
    out = np.zeros((200, 3))
    emulated(sines, (float64[::1], float64[:, ::1]), tmp_path).launch(4, THREADS, x, out)
    expected = np.stack([np.sin(x), np.cos(x), np.exp(-np.abs(x) % 1.0)], 1)
    np.testing.assert_allclose(out, expected, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("kernel", [block_sum, warp_sum])
def test_sums_over_a_block_do_not_depend_on_the_order_of_threads(kernel, tmp_path, rng):
    a = rng.integers(-1000, 1000, (20, THREADS)).astype(float)
    device = emulated(kernel, (float64[:, ::1], float64[:, ::1]), tmp_path)
    for seed in SEEDS:
        total = np.zeros_like(a)
        device.launch(20, THREADS, a, total, seed=seed)
        np.testing.assert_array_equal(total, np.broadcast_to(a.sum(1, keepdims=True), a.shape))


def test_votes_and_shuffles_follow_the_instruction_set(tmp_path, rng):
    a, out = rng.standard_normal(THREADS), np.zeros((THREADS, 6), np.int64)
    emulated(votes, (float64[::1], int64[:, ::1]), tmp_path).launch(1, THREADS, a, out)
    lane, warp = np.arange(THREADS) % 32, np.arange(THREADS) // 32
    ballot = np.array([sum(int(a[32 * w + k] > 0) << k for k in range(32)) for w in (0, 1)])
    np.testing.assert_array_equal(out[:, 0], (a > 0).sum())
    np.testing.assert_array_equal(out[:, 1] != 0, False)
    np.testing.assert_array_equal(out[:, 2] != 0, True)
    np.testing.assert_array_equal(out[:, 3] & 0xFFFFFFFF, ballot[warp])
    np.testing.assert_array_equal(out[:, 4], 32 * warp + np.maximum(lane - 1, 0))
    np.testing.assert_array_equal(out[:, 5], 32 * warp + 5)


def test_memory_that_nobody_wrote_is_poison(tmp_path):
    out = np.array([[0.0, 2.0]])
    # numba-cuda fills local arrays with zeros first: left out here
    kept = emulated(uninitialised, (float64[:, ::1],), tmp_path, lambda ptx: re.sub(r"st\.local\.v2[^;]*;", "", ptx))
    kept.launch(1, 1, out)
    assert np.isnan(out).all()


# ---- negative controls


def without_barrier(ptx, which):
    places = [m.start() for m in re.finditer(r"bar\.sync", ptx)]
    return ptx[: places[which]] + "//" + ptx[places[which] :]


def barriers(kernel, signature):
    return len(re.findall(r"bar\.sync", toolchain.compile_ptx(kernel, signature, (8, 0))))


@pytest.mark.parametrize("kernel", [block_sum, warp_sum])
def test_every_barrier_is_missed_when_removed(kernel, tmp_path):
    signature = (float64[:, ::1], float64[:, ::1])
    a = np.ones((4, THREADS))
    for which in range(barriers(kernel, signature)):
        device = emulated(kernel, signature, tmp_path, lambda ptx, k=which: without_barrier(ptx, k))
        with pytest.raises(DeviceFault, match="race on shared memory"):
            device.launch(4, THREADS, a, np.zeros_like(a))


def expect(fault, device, *arguments, blocks=1, **settings):
    with pytest.raises(DeviceFault, match=fault):
        device.launch(blocks, THREADS, *arguments, **settings)


def test_a_divergent_barrier_is_caught(tmp_path):
    device = emulated(diverging, (float64[::1],), tmp_path)
    device.launch(1, THREADS, np.ones(THREADS))
    expect("divergent barrier", device, np.r_[np.ones(THREADS - 1), -1.0])


def test_a_warp_sync_does_not_order_two_warps(tmp_path):
    expect("race", emulated(unordered, (float64[::1], float64[::1]), tmp_path), np.ones(THREADS), np.ones(THREADS))


def test_an_index_out_of_bounds_is_caught_in_every_memory(tmp_path):
    ones = np.ones(THREADS)
    device = emulated(overrun, (float64[::1], float64[::1]), tmp_path)
    device.launch(1, THREADS, 0 * ones, ones)
    expect("out-of-bounds access: block 0, thread 63, address", device, np.r_[0 * ones[1:], 1.0], ones)
    expect("byte 504 of the 504 of array 0", device, 0 * ones[1:], ones)
    expect("byte 504 of the 504 of array 1", device, 0 * ones, ones[1:])


def test_a_misaligned_access_is_caught(tmp_path):
    device = emulated(
        diverging, (float64[::1],), tmp_path, lambda ptx: re.sub(r"(st\.global\.\S+\s+\[%rd\d+)\]", r"\1+4]", ptx)
    )
    expect("misaligned", device, np.ones(THREADS))


def test_an_endless_loop_is_caught(tmp_path):
    device = emulated(endless, (float64[::1],), tmp_path)
    expect("endless loop", device, np.ones(THREADS), budget=10**5)


def test_an_unknown_instruction_is_refused(tmp_path):
    ptx = toolchain.compile_ptx(diverging, (float64[::1],), (8, 0))
    with pytest.raises(UnsupportedPTX, match=r"line \d+: a barrier"):
        translate(re.sub(r"bar\.sync\s+0", "bar.sync 1, 32", ptx))
    with pytest.raises(UnsupportedPTX, match=r"line \d+: tanh"):
        translate(re.sub(r"bar\.sync\s+0", "tanh.approx.f32 %f1, %f1", ptx))
