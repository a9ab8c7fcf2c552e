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
CYCLE_BITS = 33
_OFF_POLE = 2e-8  # radians that keep 0/0 out of a pulse's centre: under -100 dB
_TABLED_ROWS = 256  # frames, over all items, whose sines are worked out at once on a CPU
_GROUP = 32  # samples whose angles are tabled once for all groups of a frame


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
    halves = (pitch_hz.double() * (hop / sampling_rate * 2 ** (CYCLE_BITS - 1))).round().long()
    unvoiced = voicing < RESTART_VOICING
    if before is None:
        zero = torch.zeros_like(halves[:, 0])
        before = PhaseState(zero, halves[:, 0], torch.ones_like(unvoiced[:, 0]))
    steps = torch.cat([before.cycles[:, None], halves[:, :-1]], 1) + halves
    total = before.phase[:, None] + steps.cumsum(1)
    restarts = unvoiced & ~torch.cat([before.is_unvoiced[:, None], unvoiced[:, :-1]], 1)
    total = total - torch.where(restarts, total, 0).cummax(1).values
    phase = total & ((1 << CYCLE_BITS) - 1)
    state = PhaseState(phase[:, -1], halves[:, -1], unvoiced[:, -1])
    return phase.double() / (1 << CYCLE_BITS), state


class PulseTrains:
    """Windowed, band-limited pulse trains of unit power, one a frame.

    The closed form of a sum of cosines, cos(x) + … + cos(n x) = sin((n + 1/2) x) / (2 sin(x/2)) - 1/2,
    costs two sines a sample however many harmonics there are. The topmost harmonic fades in with the
    fractional part of n, so that a gliding pitch does not click.

    No sine is taken sample by sample. A sample is so many steps after the first of its group, and the angles
    of groups and of steps add up: with both tabled, each sample costs two products. Close to x = 0 both
    sines vanish and errors of theirs would not cancel, hence tables in double precision.

    Args:
        pitch_hz: `[B, N]`.
        phase: float64 `[B, N]` from `pulse_phase`.
        fft_size: Samples of a frame.
        sampling_rate: Hz.
        gain: Factor of each train, `[B, N]`; None for 1.
    """

    def __init__(
        self,
        pitch_hz: Tensor,
        phase: Tensor,
        fft_size: int,
        sampling_rate: int,
        gain: Tensor | None = None,
    ) -> None:
        self.fft_size = fft_size
        pitch = pitch_hz.float()
        harmonics = BANDWIDTH * sampling_rate / pitch
        whole = harmonics.floor()
        level = torch.sqrt(2 / harmonics)
        if gain is not None:
            level = level * gain
        # half of x at a window's first sample and from sample to sample: for the sine below the fraction,
        # which is never exactly 0, and for the one above
        step = pitch.double() * (math.pi / sampling_rate)
        start = (phase * math.pi + _OFF_POLE) + step * -(fft_size // 2)
        odd = 2 * whole + 1
        angles = torch.stack([start, start * odd, step, step * odd])[..., None]
        turns = torch.complex(angles.cos(), angles.sin())
        width = math.gcd(fft_size, _GROUP)
        steps, group = _powers(turns[2:], width)
        groups = turns[:2] * _powers(group, fft_size // width)[0]
        top = level * (harmonics - whole)
        self.base = 0.5 * level
        self.below = _factors(groups[0], steps[0])
        self.above = _factors(groups[1] * self.base[..., None], steps[1])
        # the topmost harmonic's angle is the sum of the two
        self.topmost = [
            factor.float()
            for factor in _factors(
                groups[0] * groups[1] * (1j * top[..., None]), steps[0] * steps[1]
            )
        ]
        self.base = self.base[..., None]

    def frames(self, part: slice = slice(None)) -> Tensor:
        """Trains of some frames, float32 `[B, n, fft_size]`."""
        first, last, _ = part.indices(self.base.shape[1])
        batch, device = len(self.base), self.base.device
        window = hann_window(self.fft_size, device)
        trains = torch.empty(batch, last - first, self.fft_size, device=device)
        # a few at a time, so that what is held in double precision stays in a cache
        rows = last - first
        if device.type == "cpu" and rows * batch > 1.5 * _TABLED_ROWS:
            rows = _TABLED_ROWS // batch
        rows = max(1, rows)
        for start in range(first, last, rows):
            some = slice(start, min(start + rows, last))
            series = _sines(self.above, some).div_(_sines(self.below, some)).float()
            series = series.add_(_sines(self.topmost, some)).flatten(2).sub_(self.base[:, some])
            torch.mul(series, window, out=trains[:, start - first : some.stop - first])
        return trains


def _powers(base: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Powers 0 to `count - 1` of complex `[..., 1]`, `[..., count]`, and the next one, `[..., 1]`."""
    powers = base.new_ones(*base.shape[:-1], count)
    square, size = base, 1
    while size < count:
        more = min(size, count - size)
        torch.mul(powers[..., :more], square, out=powers[..., size : size + more])
        square, size = square * square, size + more
    return powers, powers[..., -1:] * base


def _factors(groups: Tensor, steps: Tensor) -> list[Tensor]:
    """Imaginary and real parts, so placed that `_sines` finds the sines of all sums of angles."""
    imaginary, real = steps.imag.contiguous(), steps.real.contiguous()
    return [
        groups.imag[..., None],
        groups.real[..., None],
        real[..., None, :],
        imaginary[..., None, :],
    ]


def _sines(factors: list[Tensor], part: slice) -> Tensor:
    """sin(a + b) = sin a cos b + cos a sin b for frames of `part`, `[B, n, groups, steps]`."""
    sine, cosine, of_cosine, of_sine = (factor[:, part] for factor in factors)
    return torch.mul(sine, of_cosine).addcmul_(cosine, of_sine)


@constant
def pulse_offsets(fft_size: int, sampling_rate: int, device: torch.device) -> Tensor:
    """Seconds from a window's centre, float32 `[fft_size]`."""
    samples = torch.arange(-(fft_size // 2), fft_size - fft_size // 2, dtype=torch.float32)
    return (samples / sampling_rate).to(device)


def noise_samples(first: int, count: int, seed: int, device: torch.device) -> Tensor:
    """White noise of unit variance as a pure function of (seed, sample index), float32 `[count]`.

    A counter-based generator (the 32-bit finaliser of MurmurHash3) instead of a stateful one: a batch, a
    chunk and a stream hear the same noise at the same place. Negative indices are allowed.
    """
    x = torch.arange(first, first + count, device=device, dtype=torch.int64) + (seed * 0x9E3779B1)
    x &= 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x ^= x >> shift
        x *= factor
        x &= 0xFFFFFFFF
    x ^= x >> 16
    return x.double().div_(0xFFFFFFFF).sub_(0.5).mul_(math.sqrt(12)).float()


class Excitation:
    """Pulses and noise of ISTFT frames, made when they are asked for, a few frames at a time.

    Args:
        trains: Pulse trains of N frames.
        noise: Noise that they span, `[L]`.
        hop: Samples between frames.
    """

    def __init__(self, trains: PulseTrains, noise: Tensor, hop: int) -> None:
        self.trains = trains
        self.noise = noise.unfold(0, trains.fft_size, hop)

    @torch.no_grad()
    def spectra(self, part: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Pulses, complex64 `[B, n, fft_size // 2 + 1]`, and noise, `[1, n, …]`, of some frames."""
        window = hann_window(self.trains.fft_size, self.noise.device)
        pulses = torch.fft.rfft(self.trains.frames(part))
        return pulses, torch.fft.rfft(self.noise[part] * window)[None]


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
        self,
        pitch_hz: Tensor,
        voicing: Tensor,
        gain: Tensor,
        noise_seed: int,
        carry: Carry | None = None,
    ) -> Excitation:
        """Excitation of the next N frames from their pitch, voicing and gain of the pulses `[B, N]`."""
        before, first = None, self.first_frame
        if carry is not None:
            before, first = carry.get(self, (before, first))
        count = pitch_hz.shape[1]
        phase, after = pulse_phase(pitch_hz, voicing, self.hop, self.sampling_rate, before)
        if carry is not None:
            carry[self] = after, first + count
        trains = PulseTrains(pitch_hz, phase, self.fft_size, self.sampling_rate, gain)
        reach = (self.fft_size - self.hop) // 2
        noise = noise_samples(
            first * self.hop - reach,
            (count - 1) * self.hop + self.fft_size,
            noise_seed,
            pitch_hz.device,
        )
        return Excitation(trains, noise, self.hop)


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
    if torch.is_grad_enabled():
        out: Tensor = _Filter.apply(log_gain, angle, pulses, log_noise, noise)
        return out
    tonal, rough = _filtered(log_gain, angle, pulses, log_noise, noise)
    return tonal if rough is None else tonal.add_(rough)


def _filtered(
    log_gain: Tensor,
    angle: Tensor,
    pulses: Tensor,
    log_noise: Tensor | None,
    noise: Tensor | None,
) -> tuple[Tensor, Tensor | None]:
    """What the filter and what the gain of the noise let through."""
    gain = log_gain.clamp(max=MAX_LOG_GAIN).exp_()
    tonal = torch.complex(angle.cos().mul_(gain), angle.sin().mul_(gain)).mul_(pulses)
    if log_noise is None or noise is None:
        return tonal, None
    return tonal, noise * log_noise.clamp(max=MAX_LOG_GAIN).exp_()


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
        tonal, rough = _filtered(log_gain, angle, pulses, log_noise, noise)
        if log_noise is None or rough is None:
            ctx.save_for_backward(log_gain, tonal)
            return tonal.clone()
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
