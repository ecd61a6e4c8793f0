"""Where nothing can run on a device, each reason is told with its remedy."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

import dualsvd as ds


class Driver:
    """A driver of a given CUDA version, or none."""

    def __init__(self, version):
        self.version = version

    def get_version(self):
        if self.version is None:
            raise ImportError("driver not found")
        return self.version


def numba_cuda(monkeypatch, *, implementation="NVIDIA", available=False, error=None, version=None):
    """Let `numba.cuda` be one that finds this."""
    numba = pytest.importorskip("numba")
    found = ModuleType("numba.cuda")
    found.implementation, found.is_available, found.cuda_error = implementation, lambda: available, lambda: error
    monkeypatch.setattr(numba, "cuda", found, raising=False)
    monkeypatch.setattr(ds.cuda, "find_spec", lambda name: object())
    monkeypatch.setattr(ds.cuda, "driver_version", lambda: version)


def refusal():
    with pytest.raises(ds.BackendError) as caught:
        ds.cuda.svd(np.eye(2)[None])
    assert not ds.cuda.is_available()
    return str(caught.value)


def test_without_numba_cuda(monkeypatch):
    monkeypatch.setattr(ds.cuda, "find_spec", lambda name: None)
    assert "numba-cuda is not installed: pip install 'dualsvd[cuda13]'" in refusal()


def test_with_the_target_built_into_numba(monkeypatch):
    numba_cuda(monkeypatch, implementation="Built-in", available=True)
    assert "built-in CUDA target, not numba-cuda" in refusal()


def test_without_a_driver(monkeypatch):
    numba_cuda(monkeypatch, error="CUDA driver library\ncannot be found.")
    assert "CUDA driver library cannot be found. Install an NVIDIA driver" in refusal()


def test_with_an_old_driver(monkeypatch):
    numba_cuda(monkeypatch, error="initialisation failed", version=(11, 4))
    assert "supports CUDA 11.4, older than 12.0: install a newer NVIDIA driver" in refusal()


def test_without_a_device(monkeypatch):
    numba_cuda(monkeypatch, version=(13, 0))
    assert "no CUDA device was found" in refusal()


@pytest.mark.parametrize(("version", "told"), [((12, 4), (12, 4)), (None, None)], ids=["12.4", "none"])
def test_the_version_of_the_driver(version, told, monkeypatch):
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install 'dualsvd[cuda13]'")
    from numba.cuda.cudadrv import driver

    monkeypatch.setattr(driver, "driver", Driver(version))
    assert ds.cuda.driver_version() == told


def test_asking_imports_nothing_heavy():
    assert ds.cuda.svd.__module__ == "dualsvd.cuda"
    with pytest.raises(AttributeError, match="no attribute 'rotations'"):
        _ = ds.cuda.rotations
