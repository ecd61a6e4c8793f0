"""The device that the tests of `dualsvd.cuda` run on: a GPU, the CUDA simulator if asked for, else executed PTX."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import dualsvd as ds

from . import emulated, toolchain

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its name: "hardware", "simulator" or "executed PTX". Gone after the module: others test that there is none."""
    if ds.cuda.is_available():
        yield "simulator" if SIMULATED else "hardware"
        return
    if reason := toolchain.missing():
        pytest.skip(f"no device, and its code cannot be executed on the CPU: {reason}")
    with emulated.device(tmp_path_factory.mktemp("device")):
        yield "executed PTX"
