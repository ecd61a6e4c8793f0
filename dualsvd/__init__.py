"""Derivatives of NumPy code through the singular value decomposition, in forward and in reverse mode.

Dual-number arrays carry tangents by closed forms, or through every rotation of a hand-written Jacobi SVD; beside them
stands a reverse-mode adjoint; each proves the others.

>>> import numpy as np, dualsvd as ds
>>> X = np.diag([3.0, 2.0])
>>> ds.gradient(lambda X: np.linalg.svd(X, compute_uv=False)[0], X)
array([[1., 0.],
       [0., 0.]])
"""

from __future__ import annotations

import importlib
from typing import Any

from . import linalg as linalg
from .dual import Dual as Dual
from .errors import BackendError as BackendError
from .errors import ConvergenceError as ConvergenceError
from .errors import DegeneracyWarning as DegeneracyWarning
from .errors import DegenerateError as DegenerateError
from .errors import DTypeError as DTypeError
from .errors import DualSVDError as DualSVDError
from .errors import GaugeError as GaugeError
from .errors import MissingRuleError as MissingRuleError
from .errors import NonFiniteError as NonFiniteError
from .errors import ShapeError as ShapeError
from .errors import TagError as TagError
from .forward import DualArray as DualArray
from .linalg import cond as cond
from .linalg import diagnose as diagnose
from .linalg import eigh as eigh
from .linalg import eigvalsh as eigvalsh
from .linalg import low_rank as low_rank
from .linalg import matrix_rank as matrix_rank
from .linalg import norm as norm
from .linalg import nuclear_norm as nuclear_norm
from .linalg import opnorm as opnorm
from .linalg import pinv as pinv
from .linalg import polar as polar
from .linalg import range_projector as range_projector
from .linalg import singular_value_threshold as singular_value_threshold
from .linalg import spectral_function as spectral_function
from .linalg import svd as svd
from .linalg import svd_pullback as svd_pullback
from .linalg import svd_pushforward as svd_pushforward
from .linalg import svdvals as svdvals
from .linalg import svdvals_second as svdvals_second
from .reverse import TapeArray as TapeArray
from .rules.custom import custom_rule as custom_rule
from .rules.elementwise import erf as erf
from .rules.elementwise import erfc as erfc
from .rules.elementwise import gamma as gamma
from .rules.elementwise import lgamma as lgamma
from .settings import options as options
from .transforms import derivative as derivative
from .transforms import gradient as gradient
from .transforms import hessian as hessian
from .transforms import hvp as hvp
from .transforms import jacobian as jacobian
from .transforms import jvp as jvp
from .transforms import linearize as linearize
from .transforms import value_and_gradient as value_and_gradient
from .transforms import value_and_jacobian as value_and_jacobian
from .transforms import vjp as vjp
from .validation import ValidationReport as ValidationReport
from .validation import check_rules as check_rules
from .validation import cross_validate as cross_validate

__version__ = "0.1.0"

_LAZY = ("cuda", "interop", "spectral")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
