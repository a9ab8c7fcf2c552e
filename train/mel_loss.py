"""Log-mel distance of decoded and original audio, at several window lengths or at the published one.

The gradient is written out by hand. Autograd's of a real transform is a complex one of twice the length, and
that of overlapping frames a scatter; an inverse real transform and four shifted additions do the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..tokenizer.spectral import frames_of, hann_window, mel_filters

_OVERLAP = 4  # windows over a sample, in every scale
_TINY = 1e-14  # keeps the slope of a magnitude finite


class MelScale(NamedTuple):
    """One spectrogram of the loss: window in samples, hop a quarter of it, mel bands."""

    window: int
    bands: int


# DAC's loss (Kumar et al. 2023, equation 1) without its shortest windows. Below the floor, -80 dB against
# a full-scale sine, nothing is heard and nothing is compared.
MULTI = (
    MelScale(128, 16),
    MelScale(256, 32),
    MelScale(512, 64),
    MelScale(1024, 100),
    MelScale(2048, 160),
)
MULTI_FLOOR = 1e-4
# Vocos' and Language-Codec's: one window, and a floor far below any recording's noise.
SINGLE = (MelScale(1024, 100),)
SINGLE_FLOOR = 4e-10


class _Distance(torch.autograd.Function):
    """Mean L1 distance of log-mels at one scale; the gradient is that of the decoded audio only."""

    @staticmethod
    def forward(
        ctx: Any,
        decoded: Tensor,
        original: Tensor,
        filters: Tensor,
        window: int,
        floor: float,
        loudness: float,
    ) -> Tensor:
        shape = hann_window(window, decoded.device)
        signal = F.pad(torch.cat([decoded, original]), (window // 2, window // 2))
        spectrum = torch.fft.rfft(frames_of(signal, window, window // _OVERLAP) * shape)
        power = spectrum.real.square().add_(_TINY)
        magnitude = power.addcmul_(spectrum.imag, spectrum.imag).sqrt_()
        mels = (magnitude @ filters) * (4 / window)
        ours, theirs = mels.chunk(2)
        theirs = theirs.clamp(min=floor)
        gap = ours.clamp(min=floor).log_() - theirs.log()
        weight = theirs.pow_(loudness) if loudness else None
        if weight is not None:
            weight /= weight.mean((1, 2), keepdim=True)
        if decoded.requires_grad:
            # slope of the distance in each mel, and direction of each bin
            slope = gap.sign() * (ours > floor) / (ours * gap.numel())
            if weight is not None:
                slope *= weight
            size = len(decoded)
            ctx.save_for_backward(slope, spectrum[:size] * magnitude[:size].reciprocal(), filters)
            ctx.window, ctx.length = window, decoded.shape[-1]
        return gap.abs_().mean() if weight is None else gap.abs_().mul_(weight).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        slope, direction, filters = ctx.saved_tensors
        window = ctx.window
        hop = window // _OVERLAP
        slopes = (slope * (gradient * 4 / window)) @ filters.T
        # an inverse real transform counts inner bins twice and divides by its length
        slopes[..., 1:-1] *= 0.5
        bins = direction * slopes
        frames = torch.fft.irfft(bins, window, norm="forward") * hann_window(window, bins.device)
        pieces = frames.unflatten(-1, (_OVERLAP, hop))
        batch, count = frames.shape[:2]
        added = frames.new_zeros(batch, count + _OVERLAP - 1, hop)
        for place in range(_OVERLAP):
            added[:, place : place + count] += pieces[:, :, place]
        padded = F.pad(
            added.flatten(1), (0, window)
        )  # samples past the last whole frame are in none
        return padded[:, window // 2 : window // 2 + ctx.length], None, None, None, None, None


def log_mel_distance(
    decoded: Tensor,
    original: Tensor,
    sampling_rate: int,
    scales: tuple[MelScale, ...] = MULTI,
    floor: float = MULTI_FLOOR,
    loudness: float = 0.0,
) -> Tensor:
    """Mean over scales of the mean L1 distance of log-mels; differentiable in `decoded`.

    Args:
        decoded, original: float32 `[B, L]`.
        sampling_rate: Samples per second.
        scales: Spectrograms to compare.
        floor: Mels below it count as it, on a scale where a full-scale sine peaks near 1.
        loudness: Power of the original's mels that weighs their gaps, within each item: at 0 a soft
            band counts as much as a loud one. Loudness grows about as the amplitude to the power of
            0.6 (Stevens); 0.3 leaves the soft ones a say.

    Returns:
        Scalar, in nepers.
    """
    found = [
        _Distance.apply(
            decoded,
            original,
            mel_filters(sampling_rate, scale.window, scale.bands, decoded.device),
            scale.window,
            floor,
            loudness,
        )
        for scale in scales
    ]
    return torch.stack(found).mean()
