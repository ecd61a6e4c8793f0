"""Fourier transforms: two rules, the transform of one axis and its inverse; all others are made of these."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DTypeError
from .reductions import negative_axes, negative_axis
from .registry import implements, linear
from .structural import finish, operand, piece_along

# The adjoint of the transform is the inverse without its scaling, and norm= says which of the two carries that
_ADJOINT: dict[Any, Any] = {None: "forward", "backward": "forward", "forward": "backward", "ortho": "ortho"}


def _examples(rng: np.random.Generator) -> Any:
    x = rng.standard_normal((3, 4))
    for norm in _ADJOINT:
        yield (x,), {"axis": -1, "norm": norm}
        yield (x + 1j * rng.standard_normal((3, 4)),), {"axis": -2, "norm": norm}
    yield (np.float32(x),), {"axis": -1, "norm": None}
    yield (x[::-1, ::2],), {"axis": -2, "norm": None}


def _adjoint_of_fft(y_bar: Any, x: Any, axis: int, norm: Any) -> Any:
    return np.fft.ifft(y_bar, axis=axis, norm=_ADJOINT[norm])


def _adjoint_of_ifft(y_bar: Any, x: Any, axis: int, norm: Any) -> Any:
    return np.fft.fft(y_bar, axis=axis, norm=_ADJOINT[norm])


fft = linear("fft", np.fft.fft, _adjoint_of_fft, _examples)
ifft = linear("ifft", np.fft.ifft, _adjoint_of_ifft, _examples)


def _resized(a: Any, n: int | None, axis: int) -> Any:
    """a cut off or filled up with zeros to length n."""
    length = np.shape(a)[axis]
    if n is None or n == length:
        return a
    if n < length:
        return a[piece_along(axis, slice(None, n))]
    widths = [(0, n - length) if k - np.ndim(a) == axis else (0, 0) for k in range(np.ndim(a))]
    return np.pad(a, widths)


def _of_one_axis(rule: Any) -> Any:
    def of_traced(a: Any, n: int | None = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
        axis = negative_axis(axis, np.ndim(a))
        return finish(rule(_resized(a, n, axis), axis=axis, norm=norm), out)

    return of_traced


def _of_axes(one: Any, last: Any, all_axes: Any) -> Any:
    """A transform along several axes: `last` along the last of them, `one` along the others."""

    def of_traced(a: Any, s: Any = None, axes: Any = all_axes, norm: Any = None, out: Any = None) -> Any:
        if axes is None:
            axes = range(-np.ndim(a), 0) if s is None else range(-len(s), 0)
        places = negative_axes(tuple(axes), np.ndim(a))
        lengths = (
            (None,) * len(places) if s is None else tuple(np.shape(a)[k] if n == -1 else n for k, n in zip(places, s))
        )
        first = list(zip(places[:-1], lengths))
        if last is np.fft.irfft:  # which takes the real part, and so comes at the end
            for axis, n in first:
                a = one(a, n, axis, norm)
            return last(a, lengths[-1], places[-1], norm, out)
        a = last(a, lengths[-1], places[-1], norm)
        for axis, n in reversed(first):
            a = one(a, n, axis, norm)
        return finish(a, out)

    return of_traced


implements(np.fft.fft)(_of_one_axis(fft))
implements(np.fft.ifft)(_of_one_axis(ifft))


@implements(np.fft.rfft)
def _rfft(a: Any, n: int | None = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
    if np.iscomplexobj(a):
        raise DTypeError(f"rfft takes real numbers, got {np.result_type(a)}; use fft")
    axis = negative_axis(axis, np.ndim(a))
    y = np.fft.fft(a, n, axis, norm)
    return finish(_resized(y, np.shape(y)[axis] // 2 + 1, axis), out)


@implements(np.fft.irfft)
def _irfft(a: Any, n: int | None = None, axis: int = -1, norm: Any = None, out: Any = None) -> Any:
    """The other half of the spectrum is the conjugate of this one."""
    a = np.moveaxis(operand(a), axis, -1)
    n = 2 * (np.shape(a)[-1] - 1) if n is None else n
    half = _resized(a, n // 2 + 1, -1)
    spectrum = np.concatenate([half, np.conj(half[..., (n - 1) // 2 : 0 : -1])], axis=-1)
    return finish(np.moveaxis(np.real(np.fft.ifft(spectrum, norm=norm)), -1, axis), out)


for _function, _one, _last, _axes in (
    (np.fft.fftn, np.fft.fft, np.fft.fft, None),
    (np.fft.fft2, np.fft.fft, np.fft.fft, (-2, -1)),
    (np.fft.ifftn, np.fft.ifft, np.fft.ifft, None),
    (np.fft.ifft2, np.fft.ifft, np.fft.ifft, (-2, -1)),
    (np.fft.rfftn, np.fft.fft, np.fft.rfft, None),
    (np.fft.rfft2, np.fft.fft, np.fft.rfft, (-2, -1)),
    (np.fft.irfftn, np.fft.ifft, np.fft.irfft, None),
    (np.fft.irfft2, np.fft.ifft, np.fft.irfft, (-2, -1)),
):
    implements(_function)(_of_axes(_one, _last, _axes))
