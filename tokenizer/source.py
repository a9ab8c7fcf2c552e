"""Harmonic source and noise, as windowed spectra: what the Fourier decoder filters.

A mel loss teaches a network the envelope long before phase coherence. Given a pulse train at the right
pitch, coherence costs the network nothing (source-filter; compare NSF, Wang et al. 2019).

Every ISTFT frame makes its own excitation: a band-limited pulse train at the frame's pitch, in phase with
an accumulated phase at the frame's centre. So no frame needs a pitch of the future, and overlap-add
cross-fades from pitch to pitch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .spectral import hann_window

BANDWIDTH = 0.475  # highest harmonic, as a share of the sampling rate: 7.6 kHz at 16 kHz


def pulse_phase(
    pitch_hz: Tensor, hop: int, sampling_rate: int, start: Tensor | None = None
) -> Tensor:
    """Phase of the fundamental at each frame's centre, in cycles within [0, 1).

    Args:
        pitch_hz: `[B, N]`, positive everywhere.
        hop: Samples between frames.
        start: float64 `[B]`, phase one half hop before the first frame, carried by a stream.

    Returns:
        float64 `[B, N]`.
    """
    cycles = pitch_hz.double() * (hop / sampling_rate)
    before = torch.cat([cycles[:, :1], cycles[:, :-1]], 1)
    phase = torch.cumsum((before + cycles) / 2, 1)
    if start is not None:
        phase = phase + start[:, None]
    return phase.remainder(1)


def pulse_spectrum(pitch_hz: Tensor, phase: Tensor, fft_size: int, sampling_rate: int) -> Tensor:
    """Spectrum of each frame's windowed, band-limited pulse train of unit power.

    The closed form of a sum of cosines, cos(x) + … + cos(n x) = sin((n + 1/2) x) / (2 sin(x/2)) - 1/2,
    costs two sines a sample however many harmonics there are. The topmost harmonic fades in with the
    fractional part of n, so that a gliding pitch does not click.

    Args:
        pitch_hz: `[B, N]`.
        phase: float64 `[B, N]` from `pulse_phase`.

    Returns:
        complex64 `[B, N, fft_size // 2 + 1]`.
    """
    pitch = pitch_hz.float()[..., None]
    offset = (
        torch.arange(-(fft_size // 2), fft_size - fft_size // 2, device=pitch.device)
        / sampling_rate
    )
    cycles = phase.float()[..., None] + pitch * offset
    x = 2 * math.pi * (cycles - cycles.round())  # within half a turn, where float32 is exact enough
    harmonics = BANDWIDTH * sampling_rate / pitch
    whole = harmonics.floor()
    half = torch.sin(x / 2)
    near = half.abs() < 1e-4
    series = torch.sin((whole + 0.5) * x) / torch.where(near, torch.ones_like(half), 2 * half) - 0.5
    series = torch.where(near, whole.expand_as(series), series)
    series = series + (harmonics - whole) * torch.cos((whole + 1) * x)
    series = series * torch.sqrt(2 / harmonics)
    return torch.fft.rfft(series * hann_window(fft_size, series.device))


def noise_samples(first: int, count: int, seed: int, device: torch.device) -> Tensor:
    """White noise of unit variance as a pure function of (seed, sample index), float32 `[count]`.

    A counter-based generator (the 32-bit finaliser of MurmurHash3) instead of a stateful one: a batch, a
    chunk and a stream hear the same noise at the same place. Negative indices are allowed.
    """
    x = (
        torch.arange(first, first + count, device=device, dtype=torch.int64) + (seed * 0x9E3779B1)
    ) & 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFF
    x = x ^ (x >> 16)
    return ((x.double() / 0xFFFFFFFF - 0.5) * math.sqrt(12)).float()


def noise_spectrum(
    first_frame: int, num_frames: int, hop: int, fft_size: int, seed: int, device: torch.device
) -> Tensor:
    """Windowed noise from `first_frame` on: complex64 `[1, num_frames, fft_size // 2 + 1]`."""
    reach = (fft_size - hop) // 2
    samples = noise_samples(
        first_frame * hop - reach, (num_frames - 1) * hop + fft_size, seed, device
    )
    frames = samples.unfold(0, fft_size, hop)
    return torch.fft.rfft(frames * hann_window(fft_size, device))[None]
