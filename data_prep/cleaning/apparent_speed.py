"""How many times too fast a recording runs, by its own sound: a wrong sampling rate in the header.

A wrong rate multiplies letters per second, voice pitch and the middle of the spectrum by one factor.
Speakers differ in each of the three, but rarely in all of them the same way: a slow reader with
a low voice and a dull microphone is rare. Their geometric mean, over its usual value, is the estimate.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .bandwidth import power_spectra
from .speaking_rate import characters_per_second

TYPICAL = (12.6, 188.0, 421.0)  # letters a second, pitch and centre in Hz: medians of read English
_PITCHES_HZ = (25.0, 1000.0)  # of voices that run up to three times too slow or too fast
_WINDOW_S = 0.064
_VOICE_BAND_HZ = 2500.0  # harmonics above it blur the autocorrelation
_LOUD_POWER = 0.03  # vowels
_VOICED = 0.6
_NEAR_BEST = 0.9  # of the peaks about as high as the highest, the shortest lag is the period
_LOWEST_HZ = 80.0


def apparent_speed(text: str, samples: NDArray[np.float32], sampling_rate: int) -> float:
    """Factor by which `[L]` seems to run too fast; about 1 for read speech of a Latin transcript."""
    signs = [
        characters_per_second(text, samples, sampling_rate) / TYPICAL[0],
        voice_pitch(samples, sampling_rate) / TYPICAL[1],
        spectral_centre(samples, sampling_rate) / TYPICAL[2],
    ]
    told = [sign for sign in signs if sign > 0]
    return float(np.exp(np.mean(np.log(told)))) if told else 1.0


def voice_pitch(samples: NDArray[np.float32], sampling_rate: int) -> float:
    """Median pitch in Hz of the voiced loud frames of `[L]`, by autocorrelation; 0 without any."""
    size = 2 ** round(np.log2(sampling_rate * _WINDOW_S))
    padded = np.pad(samples, (0, max(0, size - len(samples))))
    frames = sliding_window_view(padded, size)[:: size // 2]
    power = np.square(frames).mean(axis=1)
    frames = frames[power >= np.quantile(power, 0.95) * _LOUD_POWER]
    window = np.hanning(size)
    spectra = np.square(
        np.abs(np.fft.rfft((frames - frames.mean(1, keepdims=True)) * window, 2 * size))
    )
    spectra[:, np.fft.rfftfreq(2 * size, 1 / sampling_rate) > _VOICE_BAND_HZ] = 0
    correlation = np.fft.irfft(spectra, axis=1)[:, : size // 2]
    # A window's own autocorrelation falls off with the lag, and that of what it cuts out with it
    fall = np.fft.irfft(np.square(np.abs(np.fft.rfft(window, 2 * size))))[: size // 2]
    correlation = correlation / fall / (correlation[:, :1] / fall[0] + 1e-12)
    first = int(sampling_rate / _PITCHES_HZ[1])
    lags = correlation[:, first : min(int(sampling_rate / _PITCHES_HZ[0]), size // 2)]
    voiced = lags[lags.max(axis=1) > _VOICED]
    if not len(voiced):
        return 0.0
    early = (voiced >= _NEAR_BEST * voiced.max(axis=1, keepdims=True)).argmax(axis=1)
    # The first lag that is high enough lies on the slope of its peak
    tops = [
        start + int(row[start : start + start // 8 + 2].argmax())
        for row, start in zip(voiced, early, strict=True)
    ]
    return float(np.median(sampling_rate / (first + np.array(tops))))


def spectral_centre(samples: NDArray[np.float32], sampling_rate: int) -> float:
    """Mean of the spectrum of the active frames of `[L]` on a logarithmic axis, in Hz."""
    power = power_spectra(samples, sampling_rate)
    energy = power.sum(axis=1)
    mean = power[energy >= np.quantile(energy, 0.95) * 1e-2].mean(axis=0)
    frequencies = np.linspace(0, sampling_rate / 2, len(mean))
    kept = frequencies > _LOWEST_HZ
    weights = mean[kept] / max(float(mean[kept].sum()), 1e-30)
    return float(np.exp((weights * np.log(frequencies[kept])).sum()))
