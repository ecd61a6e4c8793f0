"""Measurements of speed, side by side in one process: what `python -m dualsvd bench` runs.

timing      candidates called in turn, one core or all
machine     the machine, and what it can do at best: multiply-adds and copies
regimes     what is timed against other libraries, with the accuracy of our results
growth      how time and memory grow with the batch, the directions and the size
report      tables and JSON
"""

from __future__ import annotations

from .machine import machine as machine
from .regimes import OURS as OURS
from .regimes import REGIMES as REGIMES
from .report import Report as Report
from .report import measure as measure
from .timing import interleave as interleave
from .timing import one_core as one_core
