"""Harmonic source and noise, as windowed spectra: what the Fourier decoder filters.

A mel loss teaches a network the envelope long before phase coherence. Given a pulse train at the right
pitch, coherence costs the network nothing (source-filter; compare NSF, Wang et al. 2019).

Every ISTFT frame makes its own excitation: a band-limited pulse train at the frame's pitch, in phase with
an accumulated phase at the frame's centre. So no frame needs a pitch of the future, and overlap-add
cross-fades from pitch to pitch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .blocks import Carry
from .spectral import constant, hann_window

MAX_LOG_GAIN = 5.0  # about 43 dB above a unit source; training never needs it, a bad code might
BANDWIDTH = 0.475  # highest harmonic, as a share of the sampling rate: 7.6 kHz at 16 kHz


# The phase of the fundamental is an integer, in 2**-33 of a cycle: sums of integers are exact, so the phase
# does not depend on where a signal is cut into blocks.
_CYCLE_BITS = 33


# Where voicing falls below this the phase starts anew: what rounding has added to it by then, which differs
# from one matrix library to another, is forgotten where nobody hears it.
RESTART_VOICING = 0.1


@dataclass
class PhaseState:
    """Phase at the last frame's centre and cycles per hop there, int64 `[B]`, and whether it is unvoiced."""

    phase: Tensor
    cycles: Tensor
    is_unvoiced: Tensor


@torch.no_grad()
def pulse_phase(
    pitch_hz: Tensor,
    voicing: Tensor,
    hop: int,
    sampling_rate: int,
    before: PhaseState | None = None,
) -> tuple[Tensor, PhaseState]:
    """Phase of the fundamental at each frame's centre.

    Args:
        pitch_hz: `[B, N]`, positive everywhere, N at least 1.
        voicing: `[B, N]` within 0 to 1; the phase is 0 at the first frame below `RESTART_VOICING`.
        hop: Samples between frames.
        before: State after the previous block; None starts with phase 0 one hop before the first frame.

    Returns:
        Phase in cycles within [0, 1), float64 `[B, N]`, and the state to go on from.
    """
    # half a hop of each neighbour lies between two centres
    halves = (pitch_hz.double() * (hop / sampling_rate * 2 ** (_CYCLE_BITS - 1))).round().long()
    unvoiced = voicing < RESTART_VOICING
    if before is None:
        zero = torch.zeros_like(halves[:, 0])
        before = PhaseState(zero, halves[:, 0], torch.ones_like(unvoiced[:, 0]))
    steps = torch.cat([before.cycles[:, None], halves[:, :-1]], 1) + halves
    total = before.phase[:, None] + steps.cumsum(1)
    restarts = unvoiced & ~torch.cat([before.is_unvoiced[:, None], unvoiced[:, :-1]], 1)
    total = total - torch.where(restarts, total, 0).cummax(1).values
    phase = total & ((1 << _CYCLE_BITS) - 1)
    state = PhaseState(phase[:, -1], halves[:, -1], unvoiced[:, -1])
    return phase.double() / (1 << _CYCLE_BITS), state


@torch.no_grad()
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
    harmonics = BANDWIDTH * sampling_rate / pitch
    whole = harmonics.floor()
    level = torch.sqrt(2 / harmonics)
    # The sum is even in x: half of x, in (0, pi/2], away from the pole where float32 is exact enough. In
    # place, because this is the one signal here that is long: window by window, not hop by hop.
    half = torch.addcmul(
        phase.float()[..., None], pitch, _offsets(fft_size, sampling_rate, pitch.device)
    )
    half.sub_(half.round()).abs_().clamp_(min=3e-5).mul_(math.pi)
    topmost = torch.mul(half, 2 * whole + 2).cos_()
    series = torch.mul(half, 2 * whole + 1).sin_()
    series.div_(half.sin_()).mul_(0.5 * level).addcmul_(topmost, (harmonics - whole) * level)
    series.sub_(0.5 * level).mul_(hann_window(fft_size, series.device))
    return torch.fft.rfft(series)


@constant
def _offsets(fft_size: int, sampling_rate: int, device: torch.device) -> Tensor:
    """Seconds from a window's centre, float32 `[fft_size]`."""
    samples = torch.arange(-(fft_size // 2), fft_size - fft_size // 2, dtype=torch.float32)
    return (samples / sampling_rate).to(device)


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


class HarmonicSource(nn.Module):
    """Pulse train and noise of a signal's ISTFT frames; in blocks, phase and place go on.

    Args:
        sampling_rate: Hz.
        hop: Samples between frames.
        fft_size: Window of a frame.
        first_frame: Place of a signal's first frame, in hops from its first sample.
    """

    def __init__(self, sampling_rate: int, hop: int, fft_size: int, first_frame: int) -> None:
        super().__init__()
        self.sampling_rate, self.hop, self.fft_size = sampling_rate, hop, fft_size
        self.first_frame = first_frame

    @torch.no_grad()
    def forward(
        self, pitch_hz: Tensor, voicing: Tensor, noise_seed: int, carry: Carry | None = None
    ) -> tuple[Tensor, Tensor]:
        """Pitch and voicing `[B, N]` to pulses, complex64 `[B, N, bins]`, and noise, `[1, N, bins]`."""
        before, first = None, self.first_frame
        if carry is not None:
            before, first = carry.get(self, (before, first))
        count = pitch_hz.shape[1]
        phase, after = pulse_phase(pitch_hz, voicing, self.hop, self.sampling_rate, before)
        if carry is not None:
            carry[self] = after, first + count
        pulses = pulse_spectrum(pitch_hz, phase, self.fft_size, self.sampling_rate)
        noise = noise_spectrum(first, count, self.hop, self.fft_size, noise_seed, pitch_hz.device)
        return pulses, noise


def scaled(spectra: Tensor, gain: Tensor) -> Tensor:
    """Complex times real, without the complex copy of the real that torch would make."""
    return torch.view_as_complex(torch.view_as_real(spectra) * gain[..., None])


def filter_source(
    log_gain: Tensor,
    angle: Tensor,
    pulses: Tensor,
    log_noise: Tensor | None = None,
    noise: Tensor | None = None,
) -> Tensor:
    """Pulses through a complex filter and noise through a gain, bin by bin; gains are bounded.

    Args:
        log_gain, angle: float32 `[B, N, bins]`, the filter in nepers and radians.
        pulses: What it filters, broadcastable; no gradient flows into it.
        log_noise: float32 `[B, N, bins]`, gain of the noise in nepers.
        noise: complex `[B, N, bins]`.

    Returns:
        complex64 `[B, N, bins]`.
    """
    out: Tensor = _Filter.apply(log_gain, angle, pulses, log_noise, noise)
    return out


class _Filter(torch.autograd.Function):
    """`filter_source`; in polar form the gradient needs nothing but what the filter let through."""

    @staticmethod
    def forward(
        ctx: Any,
        log_gain: Tensor,
        angle: Tensor,
        pulses: Tensor,
        log_noise: Tensor | None,
        noise: Tensor | None,
    ) -> Tensor:
        gain = log_gain.clamp(max=MAX_LOG_GAIN).exp_()
        tonal = torch.complex(gain * angle.cos(), gain * angle.sin()).mul_(pulses)
        if log_noise is None or noise is None:
            ctx.save_for_backward(log_gain, tonal)
            return tonal.clone()
        rough = scaled(noise, log_noise.clamp(max=MAX_LOG_GAIN).exp_())
        ctx.save_for_backward(log_gain, tonal, log_noise, rough)
        return tonal + rough

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        log_gain, tonal, *of_noise = ctx.saved_tensors
        turned = torch.view_as_real(tonal.conj() * gradient)
        of_gain = turned[..., 0] * (log_gain < MAX_LOG_GAIN)
        if not of_noise:
            return of_gain, turned[..., 1], None, None, None
        log_noise, rough = of_noise
        of_log_noise = (rough.conj() * gradient).real * (log_noise < MAX_LOG_GAIN)
        return of_gain, turned[..., 1], None, of_log_noise, None
