"""What each kernel takes of a GPU, as ptxas reports it for two compute capabilities.

Only teams with a limit of their own spill registers.

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

#: Registers a thread, for compute capability 8.0 and 9.0; bytes of local memory a thread, the larger of both; bytes of
#: static shared memory a block. By ptxas 13.5.
TABLE = {
    ("svd", "float64", 2, 2, 0): ((62, 62), 0, 4096),
    ("svd", "float64", 3, 3, 0): ((84, 82), 0, 6144),
    ("svd", "float64", 4, 4, 0): ((114, 114), 0, 10240),
    ("svd", "float64", 2, 5, 0): ((78, 78), 0, 7168),
    ("svd", "float32", 4, 4, 0): ((64, 72), 0, 5888),
    ("svd", "complex64", 3, 3, 0): ((66, 66), 0, 6400),
    ("svd", "complex128", 3, 3, 0): ((122, 122), 0, 11264),
    ("svdvals", "float64", 3, 3, 0): ((60, 60), 0, 6144),
    ("pushforward", "float64", 3, 3, 0): ((128, 128), 0, 4608),
    ("pushforward", "float64", 4, 4, 0): ((228, 232), 0, 8704),
    ("pushforward", "complex128", 3, 3, 0): ((252, 254), 0, 9728),
    ("pullback", "float64", 3, 3, 0): ((144, 144), 0, 4608),
    ("pullback", "float64", 4, 4, 0): ((216, 220), 0, 8704),
    ("pullback", "complex128", 3, 3, 0): ((234, 234), 0, 9728),
    ("dual", "float64", 2, 2, 3): ((168, 168), 0, 4096),
    ("dual", "float64", 3, 3, 1): ((172, 174), 0, 6144),
    ("dual", "float64", 3, 3, 2): ((222, 228), 0, 6144),
    ("dual", "float64", 4, 4, 1): ((254, 254), 0, 10240),
    ("dual", "float32", 3, 3, 2): ((122, 128), 0, 3840),
    # a part of A or V in local memory
    ("svd", "float64", 5, 5, 0): ((154, 156), 200, 14336),
    ("svd", "float64", 6, 6, 0): ((202, 202), 288, 20480),
    ("svd", "float32", 6, 6, 0): ((115, 115), 144, 11008),
    ("svd", "float32", 8, 8, 0): ((155, 168), 544, 18176),
    ("svd", "complex128", 4, 4, 0): ((188, 186), 256, 18432),
    ("svd", "complex64", 6, 6, 0): ((225, 224), 608, 20224),
    # the largest that threads take
    ("svd", "float64", 36, 1, 0): ((162, 162), 0, 20480),
    ("svd", "float64", 18, 2, 0): ((142, 150), 0, 20480),
    ("svd", "float64", 12, 3, 0): ((160, 160), 288, 20480),
    ("svd", "float64", 9, 4, 0): ((156, 156), 288, 20480),
    ("svd", "float64", 7, 5, 0): ((168, 166), 280, 19456),
    ("svd", "float32", 64, 1, 0): ((146, 148), 0, 18176),
    ("svd", "float32", 36, 2, 0): ((158, 158), 288, 20224),
    ("svd", "float32", 18, 4, 0): ((163, 154), 288, 20224),
    ("svd", "float32", 10, 7, 0): ((158, 159), 504, 19712),
    ("svd", "float32", 9, 8, 0): ((168, 168), 576, 20224),
    ("svd", "complex128", 18, 1, 0): ((126, 128), 0, 20480),
    ("svd", "complex128", 9, 2, 0): ((174, 172), 288, 20480),
    ("svd", "complex128", 6, 3, 0): ((204, 192), 288, 20480),
    ("svd", "complex64", 18, 2, 0): ((168, 168), 288, 20224),
    ("svd", "complex64", 9, 4, 0): ((168, 168), 432, 20224),
    ("svd", "complex64", 7, 5, 0): ((168, 168), 504, 19712),
    ("svdvals", "float64", 36, 1, 0): ((89, 94), 0, 20480),
    ("svdvals", "float64", 6, 6, 0): ((120, 120), 0, 20480),
    ("svdvals", "float32", 9, 8, 0): ((128, 128), 0, 20224),
    ("svdvals", "complex128", 9, 2, 0): ((134, 134), 0, 20480),
    ("svdvals", "complex128", 4, 4, 0): ((118, 118), 0, 18432),
    ("svdvals", "complex64", 6, 6, 0): ((96, 96), 320, 20224),
    ("pushforward", "float64", 5, 4, 0): ((254, 254), 0, 10752),
    ("pushforward", "complex128", 7, 2, 0): ((226, 226), 0, 14848),
    ("pullback", "float64", 5, 4, 0): ((234, 240), 0, 10752),
    ("pullback", "complex128", 7, 2, 0): ((194, 196), 0, 14848),
    ("dual", "float64", 28, 1, 1): ((246, 246), 0, 16384),
    ("dual", "float64", 14, 2, 1): ((252, 252), 0, 16384),
    ("dual", "float64", 4, 2, 3): ((210, 210), 0, 6144),
    # teams: what does not fit spills, but for those of duals
    ("svd", "float64", 8, 8, 0): ((128, 128), 144, 0),
    ("svd", "float64", 16, 16, 0): ((128, 128), 16, 0),
    ("svd", "float64", 32, 32, 0): ((128, 128), 120, 0),
    ("svd", "float64", 64, 64, 0): ((128, 128), 328, 0),
    ("svd", "float32", 32, 32, 0): ((128, 128), 16, 0),
    ("svd", "complex128", 8, 8, 0): ((128, 128), 232, 0),
    ("svdvals", "float64", 8, 8, 0): ((128, 128), 152, 0),
    ("svdvals", "float64", 32, 32, 0): ((128, 128), 136, 0),
    ("pushforward", "float64", 8, 8, 0): ((128, 128), 24, 0),
    ("pushforward", "float64", 32, 32, 0): ((128, 128), 112, 0),
    ("pushforward", "complex128", 16, 16, 0): ((128, 128), 72, 0),
    ("pullback", "float64", 8, 8, 0): ((128, 126), 0, 0),
    ("pullback", "float64", 32, 32, 0): ((128, 128), 88, 0),
    ("dual", "float64", 8, 8, 1): ((168, 164), 0, 0),
    ("dual", "float64", 8, 8, 2): ((178, 175), 0, 0),
    ("dual", "float64", 32, 32, 1): ((255, 255), 0, 0),
}
#: Another release of the compiler may allocate a little more.
SLACK = 16
LARGEST = 255
#: That a multiprocessor has, and so a block at most.
REGISTERS = 65536

#: One of each kind; the rest of the table is slow.
FIRST = {("svd", "float64", 3, 3, 0), ("pushforward", "float64", 3, 3, 0), ("dual", "float64", 3, 3, 2)}


def rows():
    for (operation, dtype, m, n, count), expected in TABLE.items():
        key = (operation, dtype, m, n, count)
        name = f"{operation} {m}x{n} {dtype}" + (f" along {count}" if count else "")
        yield pytest.param(key, *expected, id=name, marks=() if key in FIRST else pytest.mark.slow)


def resources(key, folder):
    """What ptxas reports for each compute capability."""
    chosen = plan(*key)
    for capability in toolchain.CAPABILITIES:
        ptx = toolchain.compile_ptx(chosen.kernel, chosen.signature, capability)
        yield toolchain.assemble(ptx, capability, folder, chosen.registers)


@pytest.mark.parametrize(("key", "registers", "stack", "shared"), list(rows()))
def test_registers_suffice(key, registers, stack, shared, tmp_path):
    for found, expected in zip(resources(key, tmp_path), registers, strict=True):
        assert found.stack <= stack and found.shared == shared <= SHARED_BYTES
        assert found.spills == 0 or plan(*key).registers is not None
        assert found.registers <= min(expected + SLACK, LARGEST)


@pytest.mark.parametrize(
    ("operation", "count"), [("svd", 0), ("svdvals", 0), ("dual", 2), ("pushforward", 0), ("pullback", 0)]
)
def test_teams_are_a_part_of_a_warp_or_whole_warps_and_fit_their_memory(operation, count):
    for m, n in itertools.combinations_with_replacement(range(7, 65), 2):
        chosen = plan(operation, "float64", m, n, count)
        assert chosen.matrices * chosen.team == chosen.threads and chosen.team >= min(m, n) // 2
        assert chosen.threads == 32 if chosen.team < 32 else chosen.matrices == 1 and chosen.team % 32 == 0
        assert chosen.threads * LARGEST <= REGISTERS  # whatever the compiler allocates
        assert (chosen.shared > 0) != (chosen.workspace > 0) and chosen.shared <= SHARED_BYTES


@pytest.mark.parametrize(
    ("operation", "count", "thread", "team"),
    [
        ("svd", 0, (6, 6), (7, 6)),
        ("svdvals", 0, (6, 6), (7, 6)),
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
            found = list(resources(key, Path(folder)))
            registers, stack = tuple(x.registers for x in found), max(x.stack for x in found)
            print(f"    {key}: ({registers}, {stack}, {found[0].shared}),".replace("'", '"'), flush=True)
