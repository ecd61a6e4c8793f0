"""Linear algebra that differentiates in both modes, exact at ties and zeros."""

from __future__ import annotations

from .eigh import eigh as eigh
from .eigh import eigvalsh as eigvalsh
from .factorise import EighResult as EighResult
from .factorise import SVDResult as SVDResult
from .solve import cholesky as cholesky
from .solve import det as det
from .solve import inv as inv
from .solve import matrix_power as matrix_power
from .solve import slogdet as slogdet
from .solve import solve as solve
from .svd import svd as svd
from .svd import svd_pullback as svd_pullback
from .svd import svd_pushforward as svd_pushforward
from .svd import svdvals as svdvals
