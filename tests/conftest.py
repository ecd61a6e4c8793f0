"""What every test may ask for: numbers that are random but the same in every run."""

from __future__ import annotations

import os
import zlib

# One BLAS thread a process: the tests run in as many processes as there are cores, and threads that wait for each other
# on a busy core make a small product a hundred times slower. Set before NumPy is imported, also for child processes.
for _variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

# No deadline: the first call of a kernel compiles it. In CI the examples are the same in every run; at home they are
# new each time, which is how they find anything.
hypothesis.settings.register_profile("dualsvd", deadline=None, derandomize="CI" in os.environ, database=None)
hypothesis.settings.load_profile("dualsvd")


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the test's own name: tests do not disturb each other, alone or in any order."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def X() -> np.ndarray:
    """The matrix of the README's first example: 3 x 5, distinct singular values."""
    return np.random.default_rng(0).standard_normal((3, 5))
