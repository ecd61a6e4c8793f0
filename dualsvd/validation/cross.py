"""cross_validate: one function, one point, every way to its derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..rules.registry import as_inexact
from ..structure import describe, flatten
from .first import FirstOrder
from .limits import SEED
from .report import ValidationReport
from .second import SecondOrder


def cross_validate(
    f: Callable[[Any], Any],
    x: Any,
    *,
    order: int = 1,
    rng: np.random.Generator | int | None = None,
    tol: float | None = None,
) -> ValidationReport:
    """Evaluate the derivative of f at x by every independent way that applies, and compare them all.

    f       a function of one array, or of a nested tuple, list or dict of arrays; returns an array, or a structure
    x       the point: real or complex, float32 or float64, of any size
    order   2 compares second derivatives as well
    rng     a generator or a seed for the random directions; None: the same directions in every call
    tol     replaces the tolerances of comparisons by rounding, which otherwise come from the precision of the numbers
            and the measured conditioning of the derivative; those of differences come from the differences

    Errors are relative to the largest element of what is compared (of the value, where the derivative is smaller).
    Small arguments are tried along every basis direction, large ones along random directions. At a kink the report
    says so (`smooth` is False), and what must hold there is checked.

    Raises MissingRuleError where neither mode has a rule for what f calls, DegenerateError or GaugeError where neither
    has a derivative to give; ValueError for another order, or a tol below 0.

    >>> import numpy as np, dualsvd as ds
    >>> report = ds.cross_validate(lambda X: np.linalg.svd(X, compute_uv=False)[0], np.diag([3.0, 2.0]))
    >>> report.passed, report.smooth
    (True, True)
    >>> ds.cross_validate(ds.opnorm, np.eye(2)).smooth
    False
    """
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, got {order!r}")
    if tol is not None and not tol >= 0:
        raise ValueError(f"tol must be a number >= 0 or None, got {tol!r}")
    leaves, put = flatten(x)
    study = FirstOrder(
        lambda *variables: tuple(flatten(f(put(variables)))[0]),
        tuple(np.asarray(as_inexact(leaf)) for leaf in leaves),
        np.random.default_rng(SEED if rng is None else rng),
        tol,
    )
    study.compare()
    if order == 2:
        SecondOrder(study).compare()
    name = getattr(f, "__name__", getattr(f, "name", "f")).replace("<lambda>", "f")
    return study.report(f"{name} at {describe(x)}")
