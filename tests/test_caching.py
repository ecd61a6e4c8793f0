"""Compiled kernels on disk, written by several processes at a time."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
import time

import numba
import pytest

PROCESSES = 6

MODULE = """
    from dualsvd.kernels.caching import jit

    @jit()
    def kernel(x):
        return x[0] + x[-1]
"""

#: each compiles the kernel for a type of its own, all at about the same moment, and prints what it gets; between
#: reading the list of what is there and writing it each takes its time
COMPILE = """
    import sys, time
    import numba
    from numba.core.caching import IndexDataCacheFile
    from a_kernel import kernel

    def save_slowly(*arguments, save=IndexDataCacheFile._save_data):
        time.sleep(0.3)
        save(*arguments)

    IndexDataCacheFile._save_data = save_slowly
    k, start = int(sys.argv[1]), float(sys.argv[2])
    time.sleep(max(0.0, start - time.time()))
    kernel.compile((numba.types.UniTuple(numba.float64, k + 2),))
    print(kernel(tuple(float(k * i) for i in range(k + 2))), sum(kernel.stats.cache_hits.values()))
"""


def with_a_kernel(path):
    """The environment of processes that import the kernel, and keep its code beside it."""
    (path / "a_kernel.py").write_text(textwrap.dedent(MODULE))
    return os.environ | {
        "NUMBA_CACHE_DIR": str(path / "cache"),
        "PYTHONPATH": os.pathsep.join([str(path), *filter(None, sys.path)]),
    }


def test_processes_that_compile_at_once_keep_each_others_code(tmp_path):
    environment = with_a_kernel(tmp_path)

    def run(start: float) -> list[str]:
        command = [sys.executable, "-c", textwrap.dedent(COMPILE)]
        processes = [
            subprocess.Popen([*command, str(k), str(start)], env=environment, stdout=subprocess.PIPE, text=True)
            for k in range(PROCESSES)
        ]
        return [process.communicate()[0].strip() for process in processes]

    expected = [float(k * (k + 1)) for k in range(PROCESSES)]
    assert run(time.time() + 4) == [f"{x} 0" for x in expected]
    assert run(0.0) == [f"{x} 1" for x in expected]


#: what may stand in the way of a lock, or of a file in the cache
OBSTACLES = {
    "no locks on this file system": """
        import fcntl
        def flock(*arguments): raise OSError(38, "Function not implemented")
        fcntl.flock = flock
    """,
    "the lock belongs to another user": """
        import pathlib
        def open_it(self, *arguments, open_one=pathlib.Path.open, **options):
            if self.name == "dualsvd.lock": raise PermissionError(13, "Permission denied")
            return open_one(self, *arguments, **options)
        pathlib.Path.open = open_it
    """,
    "a full disk": """
        from numba.core.caching import IndexDataCacheFile
        def save(*arguments): raise OSError(28, "No space left on device")
        IndexDataCacheFile._save_data = save
    """,
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_what_cannot_be_kept_is_compiled_all_the_same(tmp_path, obstacle):
    environment = with_a_kernel(tmp_path)
    code = textwrap.dedent(OBSTACLES[obstacle]) + "\nfrom a_kernel import kernel; print(kernel((1.0, 2.0)))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["3.0"], done.stderr


def test_an_index_that_other_rules_have_left_is_not_read(tmp_path):
    """Numba's list of what is there holds types, which cannot be loaded where one of them has moved since."""
    environment = with_a_kernel(tmp_path)

    def run() -> str:
        code = "from a_kernel import kernel; print(kernel((1.0, 2.0)), sum(kernel.stats.cache_hits.values()))"
        done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        return done.stdout.strip()

    assert run() == "3.0 0"
    (index,) = tmp_path.glob("cache/**/*.nbi")
    index.write_bytes(pickle.dumps(numba.__version__) + b"cdualsvd.kernels.scalars\nATypeThatWas\n.")
    assert run() == "3.0 0"
    assert run() == "3.0 1"
