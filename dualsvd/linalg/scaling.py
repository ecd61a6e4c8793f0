"""Very small and very large matrices, brought to the range where reciprocals are safe, and back what is made of them.

To compute f of degree d, f(c A) = c^d f(A), in the range of the numbers is y = 2^(e d) f(2^-e A). The transposes of the
two steps multiply by 2^(e d), then by 2^-e: a cotangent in the units of A, which is as small or as large as A, leaves
the range between them. So the powers are shared out otherwise. `dilate` of degree k is x 2^(e k) with the pullback
y_bar 2^(e (k - 1)), and f is computed as

    y = dilate(f(dilate(A, -e, 1)), e, d)      pullback: 2^(e (d - 1)) leaving, 1 entering; the product is the same

Every cotangent between is 2^-e times the true one, which a linear pullback does not mind. That pullback is itself the
dilate(y_bar, -e, 1 - k), so that the same holds of it at every further level: cotangents cross with degree 1 - k
where values cross with k, and all cotangents of those between are again off by that one factor. This needs *all* that
is traced to cross by dilates of one e: those of degree 0 too, whose values they leave alone. In forward mode they are
what they say, as a tangent between has the size of a matrix brought to range.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..rules.registry import Rule, primal
from ..settings import Options
from .degeneracy import SAFE_RANGE, largest_part, out_of_range, scaled
from .ties import Unresolved


def dilate_function(x: Any, *, e: Any, degree: int) -> Any:
    return scaled(x, e * degree)


def dilate_pushforward(y: Any, operands: Any, tangents: Any, *, e: Any, degree: int) -> Any:
    (dx,) = tangents
    if isinstance(dx, Unresolved):
        known = dx if dx.known is None else DILATE(dx.known, e=e, degree=degree)
        return Unresolved(known, dx.message, dx.lost)
    return DILATE(dx, e=e, degree=degree)


def dilate_pullback(y_bar: Any, y: Any, operands: Any, *, e: Any, degree: int) -> tuple[Any]:
    return (DILATE(y_bar, e=-e, degree=1 - degree),)


#: Not registered: one alone is no rule, as its pullback is not its adjoint.
DILATE = Rule(
    "dilate", dilate_function, dilate_pushforward, dilate_pullback, lambda rng: (), fresh=True, register=False
)


def in_range(a: Any, options: Options | None = None, *, order_one: bool = False) -> tuple[Any, Any]:
    """a, and None; or, where singular values are so small or large that reciprocals fail, a 2^-e and e (...).

    All that is made of it must come back by `from_range`. It is brought no further than to the nearer end of the range,
    as tangents go with it and may be of any size, unless `order_one` asks for it: where it will be multiplied by
    cotangents. Entries that underflow on the way lie far below the rounding of the largest, and do not count. Only
    the singular values of algorithm="jacobi" are right to their own rounding: there it goes as far as no entry
    underflows.
    """
    if all_in_range(primal(a)):
        return a, None
    top = largest_part(primal(a))
    if not out_of_range(top[..., None]):
        return a, None
    low, high = (np.frexp(end)[1] for end in SAFE_RANGE[top.dtype])
    e = np.frexp(np.where(np.isfinite(top) & (top > 0), top, 1.0))[1]
    ends = (0, 0) if order_one else (low + 1, high - 1)
    e = np.where(e <= low, e - ends[0], np.where(e >= high, e - ends[1], 0))
    if options is not None and options.algorithm == "jacobi":
        size = np.abs(primal(a))
        bottom = np.min(np.where(size > 0, size, np.inf), axis=(-2, -1), initial=np.inf)
        smallest = np.frexp(np.where(np.isfinite(bottom), bottom, 1.0))[1]
        e = np.minimum(e, np.maximum(smallest - np.finfo(size.dtype).minexp - 1, 0))
    return DILATE(a, e=-e[..., None, None], degree=1), e


def from_range(y: Any, e: Any, degree: int) -> Any:
    """What was computed of a matrix that `in_range` gave with e, for the matrix itself: y is homogeneous of degree."""
    if e is None:
        return y
    return DILATE(y, e=np.reshape(e, (*e.shape, *(1,) * (np.ndim(y) - e.ndim))), degree=degree)


def all_in_range(a: Any) -> bool:
    """Whether all of some plain matrices are seen to be in range without a look at each by itself: no entry is too
    large, and of each matrix the first is large enough."""
    reals = a.view(a.real.dtype) if a.dtype.kind == "c" and a.flags.c_contiguous else a
    if reals.dtype.kind != "f" or not reals.size:
        return False
    low, high = SAFE_RANGE[reals.dtype]
    if reals.flags.c_contiguous:
        reals = reals.reshape(-1)  # NumPy goes along one axis twice as fast as along three
    return bool(low <= np.abs(a[..., 0, 0].real).min() and reals.max() <= high and -high <= reals.min())
