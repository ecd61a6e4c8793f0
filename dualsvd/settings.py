"""Settings for everything inside a `with` block, `np.linalg` calls included."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import operator
import os
from collections.abc import Iterator
from typing import Any

CHOICES = {
    "algorithm": ("auto", "jacobi", "lapack"),
    "tangents": ("closed-form", "sweeps"),
    "ties": ("directional", "raise", "warn", "subspace"),
    "refine": (0, 1, 2),
    "nonfinite": ("raise", "propagate"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """The settings in force, as `options` describes them."""

    algorithm: str = "auto"
    tangents: str = "closed-form"
    ties: str = "directional"
    refine: int = 0
    nonfinite: str = "raise"
    threads: int | None = None
    max_bytes: int = 1 << 28


DEFAULTS = Options()
_current: contextvars.ContextVar[Options] = contextvars.ContextVar("dualsvd.options", default=DEFAULTS)


def get() -> Options:
    """The settings in force here."""
    return _current.get()


def whole_number(x: Any) -> int | None:
    """An integer of Python or NumPy as Python's; None for anything else, truth values included."""
    try:
        return None if isinstance(x, bool) else operator.index(x)
    except TypeError:
        return None


def checked(**settings: Any) -> dict[str, Any]:
    """The settings as `Options` holds them; ValueError for one that does not exist or a value that it does not take."""
    for name, value in settings.items():
        if name in CHOICES:
            if value not in CHOICES[name]:
                raise ValueError(f"option {name} must be one of {CHOICES[name]}, got {value!r}")
        elif name in ("threads", "max_bytes"):
            number = whole_number(value)
            if (number is None or number < 1) and not (name == "threads" and value is None):
                or_none = " or None" if name == "threads" else ""
                raise ValueError(f"option {name} must be a positive integer{or_none}, got {value!r}")
            settings[name] = number
        else:
            known = ", ".join(f.name for f in dataclasses.fields(Options))
            raise ValueError(f"no option {name!r}; the options are {known}")
    return settings


def resolve(**settings: Any) -> Options:
    """The settings in force, with those given (not None) in their place: what one call uses."""
    given = {name: value for name, value in settings.items() if value is not None}
    return dataclasses.replace(get(), **checked(**given)) if given else get()


@contextlib.contextmanager
def options(**settings: Any) -> Iterator[Options]:
    """Change settings for a block; nested blocks add up, threads and coroutines each see their own.

    The first named is the default; refine=0, threads=None, max_bytes=2**28.

    algorithm   who computes the primal: "auto" (by size), "jacobi" (high relative accuracy), "lapack"
    tangents    how forward mode differentiates an SVD: "closed-form" rules, or "sweeps" (through every rotation: a
                proof of the rules for well-scaled matrices; of badly scaled ones algorithm="jacobi" keeps the digits of
                small slopes by closed form alone)
    ties        what is done at repeated or zero singular values, and at repeated eigenvalues:
                "directional"  forward mode gives the one-sided derivative along the direction; reverse mode gives the
                               least subgradient of values and norms, and the gradient of a function of the vectors if
                               it is determined: else it raises GaugeError or DegenerateError
                "raise"        DegenerateError in place of one-sided derivatives and subgradients as well
                "warn"         a DegeneracyWarning in place of all these errors; the result may be wrong
                "subspace"     as "directional", but in reverse mode the caller vouches that the result depends on the
                               spectral subspaces only, not on the vectors in them
    refine      steps of refinement in double-double arithmetic near ties: 0, 1, 2
    nonfinite   "raise" NonFiniteError, or "propagate" NaN for that matrix of a batch
    threads     threads for batches; None: as many as there are cores that the process may use
    max_bytes   memory that the tangents carried at one time may take, in bytes

    Raises ValueError for a setting that does not exist or a value that it does not take.

    >>> import numpy as np, dualsvd as ds
    >>> with ds.options(tangents="sweeps"):
    ...     ds.gradient(lambda X: np.linalg.svd(X, compute_uv=False)[0], np.diag([3.0, 2.0]), mode="forward")
    array([[1., 0.],
           [0., 0.]])
    """
    token = _current.set(dataclasses.replace(get(), **checked(**settings)))
    try:
        yield get()
    finally:
        _current.reset(token)


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
