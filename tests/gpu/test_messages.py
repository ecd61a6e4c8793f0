"""Where nothing can run on a device, each reason is told with its remedy."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest

import dualsvd as ds
from dualsvd import kernels
from dualsvd.kernels import PIECES


class Driver:
    """A driver of a given CUDA version, or none."""

    def __init__(self, version):
        self.version = version

    def get_version(self):
        if self.version is None:
            raise ImportError("driver not found")
        return self.version


def machine(
    monkeypatch, *, installed=True, implementation="NVIDIA", available=False, error=None, version=None, misfit=None
):
    """Let `numba.cuda` be one that finds this."""
    numba = pytest.importorskip("numba")
    found = ModuleType("numba.cuda")
    found.implementation, found.is_available, found.cuda_error = implementation, lambda: available, lambda: error
    monkeypatch.setattr(numba, "cuda", found, raising=False)
    monkeypatch.setattr(ds.cuda.device, "find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr(ds.cuda.device, "driver_version", lambda: version)
    monkeypatch.setattr(ds.cuda.device, "misfit", lambda: misfit)


#: What is there, and what is told.
REASONS = {
    "no numba-cuda": (
        {"installed": False},
        "numba-cuda is not installed: pip install 'dualsvd[cuda13]' (or 'dualsvd[cuda12]' for CUDA 12)",
    ),
    "the target built into Numba": (
        {"implementation": "Built-in", "available": True},
        "built-in CUDA target, not numba-cuda: pip install -U 'dualsvd[cuda13]'",
    ),
    "a NumPy newer than numba-cuda": (
        {"misfit": "module 'numpy' has no attribute 'row_stack'", "available": True},
        f"NumPy {np.__version__} (module 'numpy' has no attribute 'row_stack'): pip install 'numpy<2.5'",
    ),
    "no driver": (
        {"error": "CUDA driver library\ncannot be found."},
        "CUDA driver library cannot be found. Install an NVIDIA driver",
    ),
    "an old driver": (
        {"error": "initialisation failed", "version": (11, 4)},
        "supports CUDA 11.4, older than 12.0: install a newer NVIDIA driver",
    ),
    "no device": (
        {"version": (13, 0)},
        "no CUDA device was found. Install an NVIDIA driver, or run where there is one",
    ),
}
CALLS = {
    "svd": lambda a: ds.cuda.svd(a),
    "svdvals": lambda a: ds.cuda.svdvals(a),
    "svd_jvp": lambda a: ds.cuda.svd_jvp(a, a),
    "svd_vjp": lambda a: ds.cuda.svd_vjp(a, None, None, None),
    "svd_dual": lambda a: ds.cuda.svd_dual(ds.DualArray(a, a[None])),
    "cross_validate_device": lambda a: ds.cuda.cross_validate_device(a),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("reason", REASONS)
def test_why_nothing_can_run_and_what_to_do(reason, call, monkeypatch):
    there, told = REASONS[reason]
    machine(monkeypatch, **there)
    with pytest.raises(ds.BackendError) as caught:
        CALLS[call](np.eye(2)[None])
    assert not ds.cuda.is_available()
    assert told in str(caught.value)


@pytest.mark.parametrize(("version", "told"), [((12, 4), (12, 4)), (None, None)], ids=["12.4", "none"])
def test_the_version_of_the_driver(version, told, monkeypatch):
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install 'dualsvd[cuda13]'")
    from numba.cuda.cudadrv import driver

    monkeypatch.setattr(driver, "driver", Driver(version))
    assert ds.cuda.device.driver_version() == told


NEWER = """
import numpy
numpy.row_stack = 1; del numpy.row_stack
import dualsvd
print(dualsvd.cuda.device.misfit())
"""


def test_a_numpy_newer_than_numba_cuda_is_noticed():
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install 'dualsvd[cuda13]'")
    assert ds.cuda.device.misfit() is None
    told = subprocess.run([sys.executable, "-c", NEWER], capture_output=True, text=True, check=True).stdout
    assert "no attribute 'row_stack'" in told


def test_asking_imports_nothing_heavy():
    code = "import sys, dualsvd.cuda; dualsvd.cuda.svd; print('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("name", PIECES)
def test_the_pieces_are_those_of_the_cpu(name):
    pytest.importorskip("numba")
    assert getattr(ds.cuda, name) is getattr(kernels, name)


def test_dual_is_among_the_pieces():
    pytest.importorskip("numba")
    assert ds.cuda.Dual is ds.Dual


@pytest.mark.parametrize("name", ["rotations", "svd_small"], ids=["of no such name", "of the CPU alone"])
def test_what_is_no_piece_is_told(name):
    with pytest.raises(AttributeError, match=f"module 'dualsvd.cuda' has no attribute '{name}'"):
        getattr(ds.cuda, name)
