"""check_rules: every registered rule, and every rule of the user's own, at its own examples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..errors import in_one_line
from ..rules.custom import CUSTOM
from ..rules.registry import RULES, Operands, Rule, as_inexact
from .first import FirstOrder
from .limits import SEED
from .report import Row, ValidationReport, Worst, row


def check_rules(
    rules: Iterable[Rule] | None = None, *, rng: np.random.Generator | int | None = None
) -> ValidationReport:
    """Cross-validate every registered rule at the examples it comes with; one row a rule, the worst of its comparisons.

    rules   some rules instead of all; `custom_rule` returns one
    rng     a generator or a seed; None: the same numbers in every call

    A rule without an example fails, for it has not been shown to be right; so does one that raises an error.

    >>> import numpy as np, dualsvd as ds
    >>> half = ds.custom_rule(np.cbrt, pushforward=lambda y, x, dx: dx[0] / (2 * y**2),
    ...                       examples=lambda rng: [((rng.uniform(1.0, 2.0, 3),), {})])
    >>> print(ds.check_rules([half]))
    rules
    ...
      cbrt: forward = differences  ...  DISAGREES
    ...
      1 of 1 disagree
    """
    generator = np.random.default_rng(SEED if rng is None else rng)
    chosen = [*RULES, *sorted(CUSTOM, key=lambda rule: rule.name)] if rules is None else list(rules)
    notes: list[str] = []
    rows = tuple(_check(rule, generator, notes) for rule in chosen)
    return ValidationReport("rules", rows, True, tuple(notes))


def _check(rule: Rule, rng: np.random.Generator, notes: list[str]) -> Row:
    worst, name = Worst(), rule.name
    studies: list[FirstOrder] = []
    try:
        for operands, params in rule.examples(rng):
            studies.append(_study(rule, operands, params, rng))
            studies[-1].compare()
    except Exception as error:  # of a user's function, which may raise anything
        notes.append(f"{rule.name}: {type(error).__name__}: {in_one_line(error)}")
        return row(rule.name, np.inf, 0.0)
    for study in studies:
        notes += [f"{rule.name}: {note}" for note in study.notes if f"{rule.name}: {note}" not in notes]
        for comparison in study.rows:
            before = worst.ratio
            worst.add(comparison.error, comparison.tolerance)
            if worst.ratio > max(before, 0.0):
                name = f"{rule.name}: {comparison.name}"
    if worst.ratio < 0:
        notes.append(f"{rule.name} has no example")
        return row(rule.name, np.inf, 0.0)
    return row(name, worst.error, worst.tolerance)


def _study(rule: Rule, operands: Operands, params: dict[str, Any], rng: np.random.Generator) -> FirstOrder:
    """The rule as a function of those operands that hold floating-point numbers, the others stay as they are; of its
    integers where there are no others."""
    kinds = [np.asarray(operand).dtype.kind for operand in operands]
    moving = [k for k, kind in enumerate(kinds) if kind in "fc"] or [k for k, kind in enumerate(kinds) if kind in "iub"]

    def f(*variables: Any) -> tuple[Any, ...]:
        filled = list(operands)
        for k, variable in zip(moving, variables):
            filled[k] = variable
        y = rule(*filled, **params)
        return tuple(y) if isinstance(y, tuple) else (y,)

    return FirstOrder(f, tuple(np.asarray(as_inexact(operands[k])) for k in moving), rng, exhaustive=0)
