"""What each kernel takes of a GPU, as ptxas reports it for two compute capabilities: no spills, no local memory.

    cd tests && python -m gpu.test_resources

prints the table anew, for when the texts or the compiler have changed.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import pytest

from . import toolchain

if reason := toolchain.missing():
    pytest.skip(reason, allow_module_level=True)

from dualsvd.kernels.cuda import SHARED_BYTES, plan

#: Registers a thread, for compute capability 8.0 and 9.0, by ptxas 13.5. A thread's kernel serves one shape, a team's
#: kernel all.
TABLE = {
    ("svd", "float64", 2, 2, 0): (58, 58),
    ("svd", "float64", 3, 3, 0): (78, 78),
    ("svd", "float64", 4, 4, 0): (114, 114),
    ("svd", "float64", 2, 5, 0): (68, 68),
    ("svd", "float32", 4, 4, 0): (64, 64),
    ("svd", "complex64", 3, 3, 0): (64, 64),
    ("svd", "complex128", 3, 3, 0): (118, 118),
    ("svdvals", "float64", 3, 3, 0): (60, 60),
    ("svdvals", "float64", 6, 6, 0): (122, 120),
    ("pushforward", "float64", 3, 3, 0): (120, 124),
    ("pushforward", "float64", 4, 4, 0): (214, 216),
    ("pushforward", "complex128", 3, 3, 0): (240, 240),
    ("pullback", "float64", 3, 3, 0): (124, 124),
    ("pullback", "float64", 4, 4, 0): (216, 220),
    ("pullback", "complex128", 3, 3, 0): (232, 234),
    ("dual", "float64", 2, 2, 3): (154, 154),
    ("dual", "float64", 3, 3, 2): (214, 222),
    ("dual", "float64", 4, 4, 1): (238, 248),
    ("dual", "float32", 3, 3, 2): (120, 128),
    # the largest that threads take
    ("svd", "float64", 35, 1, 0): (160, 156),
    ("svd", "complex128", 7, 2, 0): (140, 128),
    ("svdvals", "complex128", 9, 2, 0): (136, 134),
    ("pushforward", "float64", 5, 4, 0): (252, 250),
    ("pushforward", "complex128", 7, 2, 0): (216, 212),
    ("pullback", "float64", 5, 4, 0): (234, 238),
    ("pullback", "complex128", 7, 2, 0): (194, 194),
    ("dual", "float64", 28, 1, 1): (240, 240),
    ("dual", "float64", 14, 2, 1): (248, 248),
    ("dual", "float64", 6, 2, 3): (246, 246),
    ("dual", "float64", 4, 2, 3): (198, 200),
    # teams
    ("svd", "float64", 8, 8, 0): (168, 168),
    ("svdvals", "float64", 8, 8, 0): (155, 152),
    ("pushforward", "float64", 8, 8, 0): (106, 96),
    ("pullback", "float64", 8, 8, 0): (127, 96),
    ("dual", "float64", 8, 8, 1): (168, 170),
}
#: Another release of the compiler may allocate a little more.
SLACK = 16
LARGEST = 255
#: That a multiprocessor has, and so a block at most.
REGISTERS = 65536

#: One of each kind; the rest of the table is slow.
FIRST = {("svd", "float64", 3, 3, 0), ("pushforward", "float64", 3, 3, 0), ("dual", "float64", 3, 3, 2)}


def rows():
    for (operation, dtype, m, n, count), registers in TABLE.items():
        key = (operation, dtype, m, n, count)
        name = f"{operation} {m}x{n} {dtype}" + (f" along {count}" if count else "")
        yield pytest.param(key, registers, id=name, marks=() if key in FIRST else pytest.mark.slow)


def resources(key, folder):
    """What ptxas reports for each compute capability."""
    chosen = plan(*key)
    for capability in toolchain.CAPABILITIES:
        ptx = toolchain.compile_ptx(chosen.kernel, chosen.signature, capability)
        yield toolchain.assemble(ptx, capability, folder)


@pytest.mark.parametrize(("key", "registers"), list(rows()))
def test_registers_suffice(key, registers, tmp_path):
    for found, expected in zip(resources(key, tmp_path), registers, strict=True):
        assert (found.spills, found.stack, found.shared) == (0, 0, 0)
        assert found.registers <= min(expected + SLACK, LARGEST)


def test_teams_fill_a_warp_and_fit_their_memory():
    for n in range(1, 65):
        for operation, count in (("svd", 0), ("svdvals", 0), ("dual", 2)):
            chosen = plan(operation, "float64", n, 64, count)
            assert chosen.matrices * chosen.team == chosen.threads == 32
            assert chosen.team >= n // 2
            assert (chosen.shared > 0) != (chosen.workspace > 0) and chosen.shared <= SHARED_BYTES


def test_teams_of_the_closed_forms_are_a_part_of_a_warp_or_whole_warps():
    for m, n in itertools.combinations_with_replacement(range(5, 65), 2):
        for operation in ("pushforward", "pullback"):
            chosen = plan(operation, "float64", m, n)
            assert chosen.matrices * chosen.team == chosen.threads
            assert chosen.threads == 32 if chosen.team < 32 else chosen.matrices == 1 and chosen.team % 32 == 0
            assert chosen.threads * LARGEST <= REGISTERS  # whatever the compiler allocates
            assert (chosen.shared > 0) != (chosen.workspace > 0) and chosen.shared <= SHARED_BYTES


@pytest.mark.parametrize(
    ("operation", "count", "thread", "team"),
    [
        ("svd", 0, (4, 4), (5, 5)),
        ("svdvals", 0, (6, 6), (7, 7)),
        ("dual", 2, (3, 3), (4, 4)),
        ("dual", 1, (4, 4), (5, 4)),
    ],
)
def test_small_matrices_go_to_threads(operation, count, thread, team):
    assert (
        plan(operation, "float64", *thread, count).team == 1 and plan(operation, "float64", *thread, count).shared == 0
    )
    assert plan(operation, "float64", *team, count).shared > 0


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for key in TABLE:
            print(f"    {key}: {tuple(found.registers for found in resources(key, Path(folder)))},", flush=True)
