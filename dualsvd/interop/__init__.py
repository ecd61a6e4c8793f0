"""dualsvd inside other engines: `interop.torch`, `interop.jax`, `interop.autograd`, `interop.dask`.

Each is imported when asked for, and by nothing else.
"""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import BackendError


class MissingEngineError(BackendError, ImportError):
    """The package that a module of `dualsvd.interop` bridges to is not installed."""


def engine(name: str) -> Any:
    """The module of that name, from a package that dualsvd can do without."""
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingEngineError(
            f"dualsvd.interop.{package} needs the package {package}, which cannot be imported ({error}); "
            f"install it with: pip install 'dualsvd[{package}]'"
        ) from error


_ENGINES = ("autograd", "dask", "jax", "torch")


def __getattr__(name: str) -> Any:
    if name in _ENGINES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
