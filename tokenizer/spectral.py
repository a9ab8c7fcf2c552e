"""Spectra in torch: framed transforms, mel filters and pitch evidence.

Constants are built once per (size, device) and kept outside the modules' state, so that a model made
on the meta device and then loaded finds them right.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from .blocks import linear


def constant(function):  # type: ignore[no-untyped-def]
    """Cache a tensor that no autograd mode of the first caller may mark."""

    @functools.lru_cache(maxsize=64)
    @functools.wraps(function)
    def build(*args):  # type: ignore[no-untyped-def]
        with torch.inference_mode(False), torch.no_grad():
            return function(*args)

    return build


@constant
def hann_window(length: int, device: torch.device) -> Tensor:
    """Periodic Hann window, float32 `[length]`."""
    return torch.hann_window(length, periodic=True, device=device)


@constant
def mel_filters(sampling_rate: int, fft_size: int, num_mels: int, device: torch.device) -> Tensor:
    """Triangular filters on the HTK mel scale, each of unit sum, float32 `[fft_size // 2 + 1, num_mels]`.

    Unit-sum triangles keep low bands, narrower than a bin, from vanishing: a filter without a bin
    takes the nearest one.
    """
    top = sampling_rate / 2
    edges_mel = torch.linspace(
        0, 2595 * math.log10(1 + top / 700), num_mels + 2, dtype=torch.float64
    )
    edges = 700 * (10 ** (edges_mel / 2595) - 1)
    bins = torch.linspace(0, top, fft_size // 2 + 1, dtype=torch.float64)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rising, falling).clamp(min=0)
    empty = filters.sum(0) == 0
    nearest = (bins - edges[1:-1]).abs().argmin(0)
    filters[nearest[empty], torch.nonzero(empty)[:, 0]] = 1
    return (filters / filters.sum(0)).float().to(device)


@constant
def lag_transform(
    length: int,
    fft_size: int,
    sampling_rate: int,
    low_hz: float,
    high_hz: float,
    num_lags: int,
    highpass_hz: float,
    device: torch.device,
) -> Tensor:
    """From a power spectrum to the autocorrelation at logarithmically spaced lags, over the window's own.

    float32 `[fft_size // 2 + 1, 1 + num_lags]`; the first column gives the energy. One product with this
    takes a third of the time of an inverse transform to all lags. Power below `highpass_hz` counts
    nothing and full from 1.4 times that, for the lags as for the energy.
    """
    ratio = torch.linspace(0, 1, num_lags, dtype=torch.float64)
    lags = sampling_rate / (high_hz * (low_hz / high_hz) ** ratio)
    lags = lags.float().double().clamp(max=length // 2 - 1)
    bins = torch.arange(fft_size // 2 + 1, dtype=torch.float64)
    every = torch.arange(length // 2 + 1, dtype=torch.float64)
    inverse = torch.cos(2 * math.pi / fft_size * bins[:, None] * every) * (2 / fft_size)
    inverse[0] /= 2
    inverse[-1] /= 2
    spectrum = torch.fft.rfft(torch.hann_window(length, dtype=torch.float64), fft_size)
    own = spectrum.abs().square() @ inverse
    inverse = inverse / (own / own[0])
    lower = lags.long()
    weight = lags - lower
    at_lags = inverse[:, lower] * (1 - weight) + inverse[:, lower + 1] * weight
    transform = torch.cat([inverse[:, :1], at_lags], 1)
    if highpass_hz:
        hz = bins * sampling_rate / fft_size
        transform *= ((hz / highpass_hz - 1) / 0.4).clamp(0, 1)[:, None]
    return transform.float().to(device)


def frames_of(waveform: Tensor, length: int, hop: int) -> Tensor:
    """Overlapping frames of `[B, L]`, a view `[B, (L - length) // hop + 1, length]`."""
    return waveform.unfold(-1, length, hop)


def magnitudes(frames: Tensor) -> Tensor:
    """Magnitude spectrum of Hann-windowed frames, scaled so that a full-scale sine peaks near 1.

    Args:
        frames: `[..., length]`.

    Returns:
        `[..., length // 2 + 1]`.
    """
    length = frames.shape[-1]
    spectrum = torch.fft.rfft(frames * hann_window(length, frames.device))
    return torch.sqrt(_power(spectrum) + 1e-14) * (4 / length)


def _power(spectrum: Tensor) -> Tensor:
    """Squared magnitude; real and imaginary parts are squared where they lie, side by side."""
    squares = torch.view_as_real(spectrum).square()
    return squares[..., 0] + squares[..., 1]


def log_mels(frames: Tensor, sampling_rate: int, num_mels: int, floor: float = 1e-5) -> Tensor:
    """Natural logarithm of mel magnitudes of frames `[..., length]`, `[..., num_mels]`."""
    filters = mel_filters(sampling_rate, frames.shape[-1], num_mels, frames.device)
    return torch.log(linear(magnitudes(frames), filters.T).clamp(min=floor))


def pitch_evidence(
    frames: Tensor,
    sampling_rate: int,
    low_hz: float,
    high_hz: float,
    num_lags: int,
    highpass_hz: float = 0.0,
) -> Tensor:
    """Normalised autocorrelation of each frame at logarithmically spaced lags (Boersma 1993, eq. 9).

    A voiced frame shows peaks at its period and multiples; silence gives values near 0. Nothing is
    decided here: the network reads the evidence.

    Args:
        frames: `[..., length]`; `length` should hold two periods of `low_hz`.
        highpass_hz: What lies below is not heard. Speech keeps its period in its harmonics, but mains
            hum at 50 or 60 Hz, which has a period too, drowns it from -20 dB on.

    Returns:
        `[..., num_lags]`, nominally within -1 to 1, from the shortest lag (`high_hz`) to the longest.
    """
    length = frames.shape[-1]
    fft_size = 1 << (length + length // 2 - 1).bit_length()
    centred = frames - frames.mean(-1, keepdim=True)
    spectrum = torch.fft.rfft(centred * hann_window(length, frames.device), fft_size)
    transform = lag_transform(
        length, fft_size, sampling_rate, low_hz, high_hz, num_lags, highpass_hz, frames.device
    )
    correlation = linear(_power(spectrum), transform.T)
    # 1e-5 is white noise near -60 dB full scale: quieter frames fade to no evidence
    return correlation[..., 1:] / (correlation[..., :1] + 1e-5)
