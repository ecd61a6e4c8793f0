"""Negative controls: what would be wrong with a kernel on a GPU is caught when its PTX is executed."""

from __future__ import annotations

import re

import numpy as np
import pytest

from . import toolchain

if reason := toolchain.missing():
    pytest.skip(reason, allow_module_level=True)

from dualsvd.kernels.cuda import plan
from dualsvd.kernels.jacobi import MAX_SWEEPS

from .emulator import DeviceFault, Emulated

SIZE, BATCH = 7, 21
SVD = plan("svd", "float64", SIZE, SIZE)


def launch(ptx, folder, shared=SVD.shared, batch=BATCH):
    """Values of generic matrices; the kernel is told of `batch` matrices."""
    a = np.random.default_rng(0).standard_normal((BATCH, SIZE, SIZE))
    U, S, Vh, report = np.zeros_like(a), np.zeros((BATCH, SIZE)), np.zeros_like(a), np.zeros((BATCH, 3))
    arrays = [x.reshape(-1) for x in (a, U, S, Vh, report)]
    integers = (batch, MAX_SWEEPS)
    Emulated(ptx, folder).launch(SVD.blocks(BATCH), SVD.threads, *arrays, np.zeros(1), *integers, shared=shared)
    return a, S


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where what is compiled is found again."""
    return tmp_path_factory.mktemp("controls")


@pytest.fixture(scope="module")
def ptx():
    return toolchain.compile_ptx(SVD.kernel, SVD.signature, (8, 0))


def barriers(ptx):
    return [m.start() for m in re.finditer(r"bar(rier)?\.(sync|red)", ptx)]


def at_the_end_of_a_front(ptx):
    """The last barrier before the vote that ends a sweep."""
    vote = re.search(r"bar(rier)?\.red", ptx).start()
    return [place for place in barriers(ptx) if place < vote][-1]


def test_the_kernel_as_it_is_has_no_fault(ptx, folder):
    a, S = launch(ptx, folder)
    np.testing.assert_allclose(S, np.linalg.svd(a, compute_uv=False), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    "where",
    [lambda ptx: barriers(ptx)[0], at_the_end_of_a_front],
    ids=["before the largest entry is read", "at the end of a front"],
)
def test_a_barrier_is_missed(where, ptx, folder):
    place = where(ptx)
    with pytest.raises(DeviceFault, match="race on shared memory"):
        launch(ptx[:place] + "//" + ptx[place:], folder)


def test_a_barrier_that_not_all_reach_is_caught(ptx, folder):
    """Thread 0 leaves the kernel by the last barrier, where the others wait."""
    place = barriers(ptx)[-1]
    skipping = "mov.u32 %r99999, %tid.x;\n setp.ne.u32 %p99999, %r99999, 0;\n @%p99999 "
    declared = re.sub(r"(\.reg \.pred[^;]*;)", r"\1 .reg .pred %p99999; .reg .b32 %r99999;", ptx[:place], count=1)
    with pytest.raises(DeviceFault, match="divergent barrier"):
        launch(declared + skipping + ptx[place:], folder)


def test_memory_that_is_too_small_is_caught(ptx, folder):
    with pytest.raises(DeviceFault, match="out-of-bounds access"):
        launch(ptx, folder, shared=SVD.shared - 64)
    with pytest.raises(DeviceFault, match=r"out-of-bounds access: .* of array 0"):
        launch(ptx, folder, batch=BATCH + 1)


@pytest.mark.parametrize("where", [1, -2], ids=["after the matrices came", "before the last factors go"])
def test_a_barrier_of_a_kernel_of_threads_is_missed(where, folder):
    chosen, batch = plan("svd", "float64", 3, 3), 70
    a = np.random.default_rng(0).standard_normal((batch, 3, 3))
    U, S, Vh, report = np.zeros_like(a), np.zeros((batch, 3)), np.zeros_like(a), np.zeros((batch, 3))
    arguments = [*(x.reshape(-1) for x in (a, U, S, Vh, report)), np.zeros(1), batch, MAX_SWEEPS]
    ptx = toolchain.compile_ptx(chosen.kernel, chosen.signature, (8, 0))
    place = barriers(ptx)[where]
    Emulated(ptx, folder).launch(chosen.blocks(batch), chosen.threads, *arguments)
    with pytest.raises(DeviceFault, match="race on shared memory"):
        Emulated(ptx[:place] + "//" + ptx[place:], folder).launch(chosen.blocks(batch), chosen.threads, *arguments)
