"""The most multiply-adds that a core does: a kernel that does nothing else, to hold the others against."""

from __future__ import annotations

from .buffers import buffer
from .caching import jit

#: Chains of multiply-adds that do not wait for one another: latency times throughput, and some more.
CHAINS = 12


@jit(nogil=True, fastmath={"contract"})
def chains(kind, x, rounds):
    """c_i <- c_i a + b, CHAINS of them."""
    c = buffer(x, kind)
    a, b = c[12], c[13]
    c0, c1, c2, c3, c4, c5 = c[0], c[1], c[2], c[3], c[4], c[5]
    c6, c7, c8, c9, c10, c11 = c[6], c[7], c[8], c[9], c[10], c[11]
    for _ in range(rounds):
        c0, c1, c2, c3 = c0 * a + b, c1 * a + b, c2 * a + b, c3 * a + b
        c4, c5, c6, c7 = c4 * a + b, c5 * a + b, c6 * a + b, c7 * a + b
        c8, c9, c10, c11 = c8 * a + b, c9 * a + b, c10 * a + b, c11 * a + b
    c[0], c[1], c[2], c[3], c[4], c[5] = c0, c1, c2, c3, c4, c5
    c[6], c[7], c[8], c[9], c[10], c[11] = c6, c7, c8, c9, c10, c11
