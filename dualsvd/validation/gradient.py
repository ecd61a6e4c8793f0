"""compare_gradients: a whole gradient by every way, entry by entry, against that of reverse mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..settings import options
from ..transforms import gradient
from .first import FirstOrder
from .limits import AGREEMENT, AGREEMENT_SWEEPS, SEED
from .report import ValidationReport, row
from .vectors import largest


def compare_gradients(
    f: Callable[[Any], Any],
    a: np.ndarray,
    by_reverse: np.ndarray,
    *,
    swept: Callable[[Any], Any],
    formulas: Mapping[str, np.ndarray],
    subject: str,
) -> ValidationReport:
    """The gradient of a real function f at an array, of small size: forward mode takes a direction for each entry.

    by_reverse   what reverse mode gives
    swept        the same function, written with functions whose tangents the sweeps carry
    formulas     gradients by formula, under their names
    subject      what is compared, in words
    """
    study = FirstOrder(lambda a: (f(a),), (a,), np.random.default_rng(SEED), exhaustive=0)
    there = gradient(f, study.nearby()[0], mode="reverse")
    study.count_conditioning(largest(there - by_reverse), "gradient")
    with options(tangents="sweeps"):  # a direction at a time: the kernel that cross_validate has compiled
        by_sweeps = gradient(swept, a, mode="forward", chunk=1)
    ways = [
        ("forward, closed form", gradient(f, a, mode="forward"), AGREEMENT),
        ("forward, through the sweeps", by_sweeps, AGREEMENT_SWEEPS),
        *((name, G, AGREEMENT) for name, G in formulas.items()),
    ]
    rows = tuple(row(name, largest(G - by_reverse), study.allowed(agreement)) for name, G, agreement in ways)
    return ValidationReport(subject, rows, notes=tuple(study.notes))
