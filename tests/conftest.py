"""What every test may ask for: numbers that are random but the same in every run."""

from __future__ import annotations

import os
import zlib

import hypothesis
import numpy as np
import pytest

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
