"""The exceptions of dualsvd: each message says what was expected, what came (with numbers) and what to do."""

from __future__ import annotations


class DualSVDError(Exception):
    """Root of the exceptions of dualsvd's own.

    A value that an option or an argument does not take is a plain ValueError or TypeError; singular systems raise
    numpy.linalg.LinAlgError.
    """


class ShapeError(DualSVDError, ValueError):
    """An array has the wrong number of axes, or axes that do not fit together."""


class DTypeError(DualSVDError, TypeError):
    """A data type that carries no derivative, or that the operation does not take."""


class NonFiniteError(DualSVDError, ValueError):
    """NaN or infinity where a factorisation needs finite numbers."""


class ConvergenceError(DualSVDError, ArithmeticError):
    """An iteration ended at its bound before it met its tolerance."""


class DegenerateError(DualSVDError, ArithmeticError):
    """The derivative asked for does not exist, or cannot be resolved, at repeated or zero singular values."""


class GaugeError(DualSVDError, ArithmeticError):
    """The derivative asked for depends on the arbitrary phases or bases of the singular vectors."""


class MissingRuleError(DualSVDError, NotImplementedError):
    """A function has no derivative rule, or takes a number out of the reach of differentiation."""


class BackendError(DualSVDError, RuntimeError):
    """An optional package, driver or device is missing."""


class TagError(DualSVDError, RuntimeError):
    """A number of a derivative that has already been computed is used again."""


class DegeneracyWarning(UserWarning):
    """Said in place of a DegenerateError or GaugeError under ties="warn".

    At a repeated or zero singular value the result is one of several, or lacks what its inputs do not determine, and
    may be wrong.
    """


def in_one_line(error: BaseException) -> str:
    """What an error says, or its name where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
