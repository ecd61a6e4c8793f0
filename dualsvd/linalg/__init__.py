"""Linear algebra that differentiates in both modes, exact at ties and zeros."""

from __future__ import annotations

from .diagnose import SpectrumReport as SpectrumReport
from .diagnose import diagnose as diagnose
from .eigh import eigh as eigh
from .eigh import eigvalsh as eigvalsh
from .factorise import EighResult as EighResult
from .factorise import SVDResult as SVDResult
from .norms import cond as cond
from .norms import matrix_rank as matrix_rank
from .norms import norm as norm
from .norms import nuclear_norm as nuclear_norm
from .norms import opnorm as opnorm
from .norms import vector_norm as vector_norm
from .second_order import svdvals_second as svdvals_second
from .solve import SlogdetResult as SlogdetResult
from .solve import cholesky as cholesky
from .solve import det as det
from .solve import inv as inv
from .solve import matrix_power as matrix_power
from .solve import slogdet as slogdet
from .solve import solve as solve
from .spectral_functions import PolarResult as PolarResult
from .spectral_functions import low_rank as low_rank
from .spectral_functions import lstsq as lstsq
from .spectral_functions import pinv as pinv
from .spectral_functions import polar as polar
from .spectral_functions import range_projector as range_projector
from .spectral_functions import singular_value_threshold as singular_value_threshold
from .spectral_functions import spectral_function as spectral_function
from .svd import svd as svd
from .svd import svd_pullback as svd_pullback
from .svd import svd_pushforward as svd_pushforward
from .svd import svdvals as svdvals
