"""Linear algebra that differentiates in both modes, exact at ties and zeros."""

from __future__ import annotations

from .factorise import EighResult as EighResult
from .factorise import SVDResult as SVDResult
from .svd import svd as svd
from .svd import svd_pullback as svd_pullback
from .svd import svd_pushforward as svd_pushforward
from .svd import svdvals as svdvals
