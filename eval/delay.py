"""Put another system's output under its original: codecs delay, and most scores forgive no delay.

PESQ finds delays by itself; STOI, the mel distance and the pitch scores compare moment by moment.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .spectra import mel_spectrogram

MAX_DELAY_SECONDS = 0.5
_CLEAR_PEAK = 0.6  # of the normalised correlation: below, the waveform itself was not kept
_BANDS = 24


def find_delay(original: Tensor, judged: Tensor, sampling_rate: int) -> int:
    """By how many samples `judged` lags behind `original`, at most half a second either way.

    The peak of the waveforms' cross-correlation says it where a codec keeps the waveform. A
    vocoder does not: there the highest peak may be whole pitch periods off, so the levels of mel
    bands, 1 ms apart, are correlated instead.

    Args:
        original: float `[L]`.
        judged: float `[L']`.
        sampling_rate: Of both, in hertz.

    Returns:
        Samples; negative if `judged` is early; 0 where one of them is silent.
    """
    if not original.any() or not judged.any():
        return 0
    reach = round(MAX_DELAY_SECONDS * sampling_rate)
    lag, peak = _correlate(original[None], judged[None], reach)
    if peak >= _CLEAR_PEAK:
        return lag
    hop = max(1, sampling_rate // 1000)
    levels = [_levels(wave, sampling_rate, hop) for wave in (original, judged)]
    frames, _ = _correlate(levels[0], levels[1], reach // hop)
    return frames * hop


def align(original: Tensor, judged: Tensor, sampling_rate: int) -> Tensor:
    """Shift float `[L']` by its delay and cut it, or fill it up with zeros, to `[L]`."""
    lag = find_delay(original, judged, sampling_rate)
    shifted = judged[lag:] if lag >= 0 else torch.nn.functional.pad(judged, (-lag, 0))
    missing = len(original) - len(shifted)
    return torch.nn.functional.pad(shifted, (0, max(0, missing)))[: len(original)]


def _correlate(first: Tensor, second: Tensor, reach: int) -> tuple[int, float]:
    """Lag of the highest correlation of `[C, N]` and `[C, M]`, and its height, -1 to 1."""
    size = first.shape[1] + second.shape[1] + reach
    spectrum = torch.fft.rfft(first, size).conj() * torch.fft.rfft(second, size)
    products = torch.fft.irfft(spectrum.sum(dim=0), size)
    lags = torch.arange(-reach, reach + 1)
    values = products[lags % size]
    best = int(values.argmax())
    return int(lags[best]), float(values[best] / (first.norm() * second.norm()).clamp_min(1e-9))


def _levels(waveform: Tensor, sampling_rate: int, hop: int) -> Tensor:
    """Mean-free compressed levels of mel bands, `[C, N]`."""
    power = mel_spectrogram(waveform, sampling_rate, 16 * hop, hop, _BANDS)
    # bands above what the codec carries would be compared with nothing; they add nothing here
    levels = power.pow(0.15)
    return levels - levels.mean(dim=1, keepdim=True)
