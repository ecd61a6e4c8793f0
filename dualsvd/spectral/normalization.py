"""Weights divided by their spectral norm."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .. import linalg
from ..errors import DegeneracyWarning, ShapeError
from ..linalg.degeneracy import values_in_range
from ..linalg.scaling import from_range, in_range
from ..rules.registry import as_inexact, primal


def spectral_normalize(W: Any, coeff: float = 1.0) -> Any:
    """coeff * W / opnorm(W): the weight W (..., out, in) scaled to spectral norm `coeff`, matrix by matrix.

    Exact, not a power iteration: no state, no difference between training and evaluation, and the derivative is that
    of the whole expression, in both modes. It exists where the largest singular value is simple; at a repeated one the
    meaning is that of `opnorm`. A zero matrix has no direction to scale: it is returned unchanged, its derivative that
    of the identity, with a DegeneracyWarning.

    A convolution kernel (out, in, kh, kw) is a stack of small matrices to this function. The norm of the convolution
    itself is `conv_opnorm`: W / conv_opnorm(W, input_shape).

    Raises ShapeError for less than two axes, NonFiniteError for NaN or infinity. Source: Miyato et al., ICLR 2018,
    equation (8), with sigma(W) exact.

    >>> import numpy as np, dualsvd as ds
    >>> ds.spectral.spectral_normalize(np.diag([4.0, 2.0]))
    array([[1. , 0. ],
           [0. , 0.5]])
    """
    W = as_inexact(W, "W")
    if np.ndim(W) < 2:
        raise ShapeError(f"spectral_normalize takes a matrix or a stack of matrices (..., out, in), got {np.shape(W)}")
    if 0 in np.shape(W):
        return W
    sigma = linalg.opnorm(W)[..., None, None]
    if values_in_range(primal(sigma)):
        return coeff * (W / sigma)
    scaled_W, e = in_range(W)  # second derivatives divide by sigma^3
    return from_range(quotient(scaled_W, linalg.opnorm(scaled_W)[..., None, None], coeff), e, 0)


def quotient(W: Any, sigma: Any, coeff: float) -> Any:
    """coeff * W / sigma; W where sigma is zero."""
    zero = primal(sigma) == 0
    if np.any(zero):
        warnings.warn(
            f"{np.count_nonzero(zero)} of {np.size(zero)} weights are zero, and have no spectral norm to divide by; "
            "they are returned unchanged. Initialise them with random numbers",
            DegeneracyWarning,
            stacklevel=3,
        )
        return np.where(zero, W, coeff * (W / np.where(zero, 1, sigma)))
    return coeff * (W / sigma)
