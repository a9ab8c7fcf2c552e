"""Clipping: samples that lie on flat tops, at full scale or at a recording's own ceiling."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_STEP = 1.5 / 32768  # what 16 bit may round away
_LEAST_RUN = 3  # a 100 Hz sine at 48 kHz stays within a step of its peak for two samples


def count_plateaus(samples: NDArray[np.float32], ceiling: float = 1.0) -> int:
    """Samples of `[L]` in runs of at least three at or above a ceiling."""
    at_ceiling = np.abs(samples) >= ceiling - _STEP
    if np.count_nonzero(at_ceiling) < _LEAST_RUN:
        return 0
    edges = np.flatnonzero(np.diff(np.concatenate(([False], at_ceiling, [False]))))
    runs = edges[1::2] - edges[::2]
    return int(runs[runs >= _LEAST_RUN].sum())


def clipped_samples(samples: NDArray[np.float32]) -> int:
    """The same at full scale or, where a recording was turned down after it clipped, at its peak."""
    return count_plateaus(samples, min(1.0, float(np.abs(samples).max())))
