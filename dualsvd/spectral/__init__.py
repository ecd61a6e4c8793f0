"""Spectral normalisation: weights and convolutions by their spectral norm, and what finds it for large matrices."""

from __future__ import annotations

from ..linalg.lanczos import top_singular_triplet as top_singular_triplet
from .convolution import conv_opnorm as conv_opnorm
from .layers import Dense as Dense
from .layers import Sequential as Sequential
from .normalization import spectral_normalize as spectral_normalize
