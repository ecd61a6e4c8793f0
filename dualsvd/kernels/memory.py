"""Where the memory of large results comes from."""

from __future__ import annotations

import functools

import numpy as np

#: Bytes of an array from which on fetching its memory counts beside the work done there.
PAGES = 1 << 16


@functools.cache
def keep_freed_memory() -> None:
    """Let the C library keep what results leave when they are freed.

    It hands freed memory back to the system beyond twice the largest block that was ever freed, and to fetch it again,
    page by page, takes as long as the SVDs, or many times as long as the products, that go there. So a block is freed
    that is as large as it takes notice of.
    """
    np.empty(31 << 20, np.uint8)
