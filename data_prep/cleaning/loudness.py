"""Loudness by ITU-R BS.1770 (pyloudnorm), and gains that never clip."""

from __future__ import annotations

import importlib
import warnings

import numpy as np
from numpy.typing import NDArray

PEAK_CEILING = 10 ** (-1 / 20)  # -1 dBFS leaves room for what lossy codecs and resamplers add
_BLOCK_S = 0.4  # BS.1770's gating block


def integrated_loudness(samples: NDArray[np.float32], sampling_rate: int) -> float:
    """LUFS of `[L]`; minus infinity where every block is gated away.

    What is shorter than a gating block is one block.
    """
    pyloudnorm = importlib.import_module("pyloudnorm")
    block_s = min(_BLOCK_S, (len(samples) - 1) / sampling_rate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of gated blocks, and of loudness without samples
        meter = pyloudnorm.Meter(sampling_rate, block_size=block_s)
        return float(meter.integrated_loudness(samples.astype(np.float64)))


def levelling_gain(samples: NDArray[np.float32], loudness: float, target: float) -> float:
    """Factor that brings `[L]` from a loudness to another, as far as its peak allows."""
    if not np.isfinite(loudness):
        return 1.0
    peak = float(np.abs(samples).max())
    return min(10 ** ((target - loudness) / 20), PEAK_CEILING / peak)


def fitting_gain(samples: NDArray[np.float32]) -> float:
    """1, or the factor that brings a peak beyond full scale back, so that 16 bit can hold `[L]`."""
    peak = float(np.abs(samples).max())
    return 1.0 if peak <= 1 else PEAK_CEILING / peak
