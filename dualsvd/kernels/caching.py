"""Compiled kernels on disk that notice an edited rule.

Numba's cache watches the file of the decorated function only, while a compiled number consists of the rules of
`dual`, `elementary` and this package. So every number type (`scalars.Kind`, Dual, packs, buffers) carries the
fingerprint of these files in its key: a function that has one in its signature, the user's own included, is
compiled anew when they change. Kernels of this package therefore take a `Kind`, stand at module level (a function
made inside another never finds itself in the cache), and are decorated by

    @jit(fastmath={"contract"})          # numba.njit(cache=True, ...)
    def kernel(kind, a, out): ...

Where no directory can be written, neither the package's nor the user's, `jit` compiles without a cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parent.parent
_RULES = ("dual.py", "elementary.py", "kernels/*.py")


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for pattern in _RULES:
        for source in sorted(_PACKAGE.glob(pattern)):
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]


#: changes with any rule or kernel of this package
FINGERPRINT = _fingerprint()


def jit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` with a cache on disk where one can be written, and division by zero as in NumPy."""
    import numba

    options.setdefault("error_model", "numpy")

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # "no locator available": nowhere to write
            return numba.njit(**options)(function)

    return decorate
