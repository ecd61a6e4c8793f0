"""The device that the tests of `dualsvd.cuda` run on: a GPU, the CUDA simulator if asked for, else executed PTX."""

from __future__ import annotations

import os

import pytest

import dualsvd as ds

from . import toolchain
from .driver import Driver, load

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Driver | None:
    """The driver that executes PTX on the CPU, loaded where there is no other device; None if there is one."""
    if ds.cuda.is_available():
        return None
    if reason := toolchain.missing():
        pytest.skip(f"no device, and its code cannot be executed on the CPU: {reason}")
    return load(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def device(driver: Driver | None) -> str:
    """Its name: "hardware", "simulator" or "executed PTX"."""
    assert ds.cuda.is_available(), ds.cuda.obstacle()
    return "executed PTX" if driver else "simulator" if SIMULATED else "hardware"
