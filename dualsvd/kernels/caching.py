"""Compiled kernels on disk that notice an edited rule.

Numba's cache watches the file of the decorated function only, while a compiled number consists of the rules of
`dual`, `elementary` and this package. So every number type (`buffers.Kind`, Dual, packs, buffers) carries the
fingerprint of these files in its key: a function that has one in its signature, the user's own included, is
compiled anew when they change. Kernels of this package therefore take a `Kind`, stand at module level (a function
made inside another never finds itself in the cache), and are decorated by

    @jit(fastmath={"contract"})          # numba.njit(cache=True, ...)
    def kernel(kind, a, out): ...

Where no directory can be written, neither the package's nor the user's, `jit` compiles without a cache.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import BackendError

_PACKAGE = Path(__file__).parent.parent
_RULES = ("dual.py", "elementary.py", "kernels/*.py", "kernels/arrays/*.py")


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for pattern in _RULES:
        for source in sorted(_PACKAGE.glob(pattern)):
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


#: changes with any rule or kernel of this package
FINGERPRINT = _fingerprint()


@functools.cache
def compiles() -> bool:
    """Whether Numba compiles, which it may be told not to do (NUMBA_DISABLE_JIT)."""
    from numba import config

    return not getattr(config, "DISABLE_JIT")  # noqa: B009, numba sets it as it runs


def need_compiler() -> None:
    """BackendError where Numba is told not to compile."""
    if not compiles():
        raise BackendError(
            "kernels are compiled by Numba, and NUMBA_DISABLE_JIT tells it not to: unset that variable, or do without "
            "svd_small, algorithm='jacobi' and tangents='sweeps'"
        )


def jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` with a cache on disk where one can be written, and division by zero as in NumPy."""
    import numba

    options.setdefault("error_model", "numpy")

    def decorate(function: Callable[..., Any]) -> Any:
        compiled = numba.njit(**options)(function)
        with contextlib.suppress(RuntimeError):  # "no locator available": nowhere to write
            compiled._cache = _cache_of(function)
        return compiled

    return decorate


@functools.cache
def compiled_for(kernel: Any, dtype: Any, axes: tuple[int, ...], numbers: tuple[type, ...] = ()) -> tuple[Any, Any]:
    """The kind that a kernel takes, and its entry point for arrays of dtype with so many axes each and numbers after
    them. Numba's dispatcher would take some microseconds to find it, and Numba's types, if they were the key, one or
    two to compare."""
    from numba import from_dtype, typeof, types

    from .buffers import Kind

    kind, arrays = Kind(dtype, (1,)), (types.Array(from_dtype(dtype), n, "C") for n in axes)
    return kind, kernel.compile((kind.numba_type, *arrays, *(typeof(number()) for number in numbers)))


def _cache_of(function: Callable[..., Any]) -> Any:
    """Numba's cache of a function, written by one process at a time.

    Numba reads the list of what is there, writes a file with the next number, then the list: processes that do so at
    once, as when all kernels are compiled in parallel, lose entries or take those of each other.
    """
    from numba.core.caching import FunctionCache

    class Cache(FunctionCache):
        def save_overload(self, sig: Any, data: Any) -> None:
            with contextlib.suppress(OSError):  # a full disk, a directory that others own: compiled again next time
                self._impl.locator.ensure_cache_path()
                with _alone(Path(self.cache_path) / "dualsvd.lock"):
                    super().save_overload(sig, data)

    cache = Cache(function)
    # Numba reads no index of another version. Nor must one be read that other rules have left: it holds their types,
    # and fails to load where one of these has another place by now.
    cache._cache_file._version += f" {FINGERPRINT}"
    return cache


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock on that file; where there is none to be had (on Windows, on some file systems, or the file is
    another user's), go on without."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(stack.enter_context(path.open("w")), fcntl.LOCK_EX)
        yield
