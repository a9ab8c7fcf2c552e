"""A few samples more or fewer, so that nobody hears it: how playout follows another clock."""

from __future__ import annotations

import torch
from torch import Tensor

_QUIET = 1e-3  # root mean square, -60 dB: below it pitch cannot be heard to change
_QUIET_SHARE = 10
_LOUD_SHARE = 160  # two samples a frame of 20 ms at 16 kHz: a tenth of a semitone


def most_samples(samples: Tensor) -> int:
    """By how many samples a piece `[n]` may grow or shrink unheard."""
    is_quiet = bool(samples.square().mean() < _QUIET**2)
    return len(samples) // (_QUIET_SHARE if is_quiet else _LOUD_SHARE)


def stretched(samples: Tensor, change: int) -> Tensor:
    """A piece `[n]` played in n + `change` samples, by cubic interpolation (Catmull and Rom, 1974).

    The first sample stays, and the next piece follows at the same distance as all others, so pieces join
    without a step.
    """
    size = len(samples)
    if not change or size < 4:
        return samples
    place = torch.arange(size + change, dtype=torch.float64) * size / (size + change)
    whole = place.long().clamp(max=size - 1)
    part = (place - whole).to(samples.dtype)
    before, at, behind, beyond = (
        samples[(whole + step).clamp(0, size - 1)] for step in (-1, 0, 1, 2)
    )
    slope = (behind - before) / 2
    next_slope = (beyond - at) / 2
    rise = behind - at
    curve = slope + part * (3 * rise - 2 * slope - next_slope)
    cubic = slope + next_slope - 2 * rise
    return at + part * (curve + part * part * cubic)
