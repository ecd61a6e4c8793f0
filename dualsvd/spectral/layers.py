"""Small layers on plain arrays: what a spectrally normalised network needs, and no more.

A layer is a function of an input and of its parameters, a dict (or a list of such) of arrays. The transforms
differentiate by nested structures, so `gradient(lambda p: loss(net(x, p)), net.parameters)` is all that training takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ShapeError
from .normalization import spectral_normalize

Parameters = Any


class Dense:
    """activation(x W^T + b) for inputs x (..., in_), with W (out, in_) divided by its spectral norm if `spectral`.

    The layer is then 1-Lipschitz, up to its activation. `parameters` {"W", "b"} are drawn from `rng` (a generator or a
    seed): W with deviation 1/sqrt(in_), b zero. They may be replaced, by training for instance; a call may also bring
    its own, which is how the layer is differentiated.

    Raises ShapeError where input or parameters do not fit.

    >>> import numpy as np
    >>> layer = Dense(64, 10, np.tanh, rng=0)
    >>> layer(np.ones((5, 64))).shape
    (5, 10)
    """

    def __init__(
        self,
        in_: int,
        out: int,
        activation: Callable[[Any], Any] | None = None,
        spectral: bool = True,
        *,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        if in_ < 1 or out < 1:
            raise ShapeError(f"a layer has at least one input and one output, got Dense({in_}, {out})")
        self.in_, self.out, self.activation, self.spectral = in_, out, activation, spectral
        W = np.random.default_rng(rng).standard_normal((out, in_)) / math.sqrt(in_)
        self.parameters: Parameters = {"W": W, "b": np.zeros(out)}

    def __call__(self, x: Any, parameters: Parameters = None) -> Any:
        parameters = self.parameters if parameters is None else parameters
        W, b = parameters["W"], parameters["b"]
        if np.shape(W) != (self.out, self.in_) or np.shape(b) != (self.out,):
            raise ShapeError(
                f"Dense({self.in_}, {self.out}) takes W {(self.out, self.in_)} and b {(self.out,)}, "
                f"got {np.shape(W)} and {np.shape(b)}"
            )
        if not np.ndim(x) or np.shape(x)[-1] != self.in_:
            raise ShapeError(
                f"Dense({self.in_}, {self.out}) takes inputs of shape (..., {self.in_}), got {np.shape(x)}"
            )
        y = x @ (spectral_normalize(W) if self.spectral else W).T + b
        return y if self.activation is None else self.activation(y)

    def __repr__(self) -> str:
        name = "" if self.activation is None else f", {getattr(self.activation, '__name__', self.activation)}"
        return f"Dense({self.in_}, {self.out}{name}{'' if self.spectral else ', spectral=False'})"


class Sequential:
    """Layers one after the other; `parameters` is the list of theirs.

    Raises ShapeError where a list of parameters is not as long as that of the layers.

    >>> import numpy as np, dualsvd as ds
    >>> net = Sequential(Dense(4, 8, np.tanh, rng=0), Dense(8, 1, rng=1))
    >>> slopes = ds.gradient(lambda p: np.sum(net(np.ones(4), p)), net.parameters)
    >>> [slope["W"].shape for slope in slopes]
    [(8, 4), (1, 8)]
    """

    def __init__(self, *layers: Any) -> None:
        self.layers = layers

    @property
    def parameters(self) -> Parameters:
        return [layer.parameters for layer in self.layers]

    @parameters.setter
    def parameters(self, new: Parameters) -> None:
        self._count(new)
        for layer, part in zip(self.layers, new):
            layer.parameters = part

    def __call__(self, x: Any, parameters: Parameters = None) -> Any:
        parameters = self.parameters if parameters is None else parameters
        self._count(parameters)
        for layer, part in zip(self.layers, parameters):
            x = layer(x, part)
        return x

    def _count(self, parameters: Parameters) -> None:
        if len(parameters) != len(self.layers):
            raise ShapeError(f"{len(self.layers)} layers take a list of {len(self.layers)}, got {len(parameters)}")

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"
