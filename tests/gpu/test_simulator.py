"""Every kernel under the CUDA simulator, which Numba chooses at import: a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install 'dualsvd[cuda13]'")

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_simulator_passes_the_tests_of_the_device():
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "-m", "", "-k", "not njit"]
    files = ["tests/gpu/test_device.py", "tests/gpu/test_users_kernels.py"]
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run([*command, *files], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 30
