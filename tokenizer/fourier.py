"""Fourier decoder: ConvNeXt at frame rate, a short stack at the ISTFT's rate, spectra, overlap-add.

Source: Vocos (Siuzdak 2023) and Language-Codec's decoder, with two additions of ours: upsampling before the
head, so that ISTFT windows are short, and an optional harmonic source (`source.py`).

The decoder treats its latent as zero before the first frame and after the last, and synthesises one such
frame on either side, so that every sample has its full set of windows and the window envelope is the same
everywhere: a piece decoded with its context is the piece of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .attention import AttentionPrenet
from .blocks import Carry, Context, ConvNeXtStack, FrameConv, FrameLinear, linear, sigmoid
from .config import CodecConfig
from .prepared import Prepared, packed
from .source import Excitation, HarmonicSource, filter_source
from .spectral import constant, hann_window

# A mel loss gives the bins next to half the sampling rate no weight: left to itself the head whistles there.
PASSBAND = 0.4875  # of the sampling rate: 7.8 kHz at 16 kHz
# ISTFT frames, over all items, whose spectra are made at once: on a CPU they stay in its cache.
_SYNTHESIS_ROWS = {"cpu": 256, "cuda": 1 << 17}


@dataclass
class Synthesis:
    """Decoder output.

    Attributes:
        waveform: float32 `[B, T * hop]`.
        log_pitch: Predicted natural logarithm of the pitch in Hz, `[B, T * upsampling]`, or None.
        voicing_logit: Predicted logit of voicing, `[B, T * upsampling]`, or None.
    """

    waveform: Tensor
    log_pitch: Tensor | None = None
    voicing_logit: Tensor | None = None


@constant
def window_and_envelope(fft_size: int, hop: int, device: torch.device) -> Tensor:
    """Hann window over the sum of its squares in an endless signal, float32 `[fft_size]`."""
    window = hann_window(fft_size, device)
    squares = F.pad(window.square(), (0, -fft_size % hop)).view(-1, hop).sum(0)
    return window / squares.repeat(-(-fft_size // hop))[:fft_size]


def overlap_add(
    spectra: Tensor, hop: int, fft_size: int, tail: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Inverse STFT with Hann windows and the constant envelope of an endless signal.

    Args:
        spectra: complex `[B, N, bins]`; bins that lack up to `fft_size // 2 + 1` are silent.
        tail: What the frames before reach over to these ones, `[B, fft_size - hop]`; None for nothing.

    Returns:
        The `[B, N * hop]` samples from the start of the first frame's window on, whole once `tail` is in
        them, and the tail to hand on.
    """
    if torch.is_grad_enabled():
        added: Tensor = _OverlapAdd.apply(spectra, hop, fft_size, tail)
    else:
        added = _overlap_added(spectra, hop, fft_size, tail)
    length = spectra.shape[1] * hop
    return added[:, :length], added[:, length:]


def _overlap_added(spectra: Tensor, hop: int, fft_size: int, tail: Tensor | None) -> Tensor:
    """Samples and tail in one, `[B, (N - 1) * hop + fft_size]`."""
    frames = torch.fft.irfft(spectra, fft_size)
    frames *= window_and_envelope(fft_size, hop, spectra.device)
    batch, count, _ = frames.shape
    hops = -(-fft_size // hop)
    added = frames.new_zeros(batch, (count + hops - 1) * hop)
    if tail is not None:
        added[:, : tail.shape[1]] = tail
    rows = added.view(batch, -1, hop)
    for place in reversed(range(hops)):  # oldest frames first, as if there were no blocks
        piece = frames[..., place * hop : (place + 1) * hop]
        rows[:, place : place + count, : piece.shape[-1]] += piece
    return added[:, : (count - 1) * hop + fft_size]


class _OverlapAdd(torch.autograd.Function):
    """`_overlap_added`; the gradient cuts frames out of a signal, with no copies of it."""

    @staticmethod
    def forward(ctx: Any, spectra: Tensor, hop: int, fft_size: int, tail: Tensor | None) -> Tensor:
        ctx.hop, ctx.fft_size, ctx.bins = hop, fft_size, spectra.shape[-1]
        return _overlap_added(spectra, hop, fft_size, tail)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        window = window_and_envelope(ctx.fft_size, ctx.hop, gradient.device)
        spectra = torch.fft.rfft(gradient.unfold(1, ctx.fft_size, ctx.hop) * window)
        spectra = spectra[..., : ctx.bins]
        # an inverse real transform counts inner bins twice, and divides by its length
        spectra[..., 1 : (ctx.fft_size + 1) // 2] *= 2
        return spectra / ctx.fft_size, None, None, None


class FourierDecoder(nn.Module):
    """Quantized latent to waveform."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        width, causal, up = config.decoder_width, config.is_causal, config.upsampling
        self.embed = FrameConv(config.latent_size, width, config.kernel_size, is_causal=causal)
        self.prenet = (
            AttentionPrenet(width, config.attention_window, is_causal=causal)
            if config.attention_window
            else None
        )
        self.stack = ConvNeXtStack(
            width, config.decoder_layers, config.expansion, config.kernel_size, is_causal=causal
        )
        is_refined = up > 1 or config.head_layers > 0
        head_width = config.head_width if is_refined else width
        self.upsample = FrameLinear(width, up * head_width) if is_refined else None
        self.head_stack = (
            ConvNeXtStack(
                head_width,
                config.head_layers,
                config.expansion,
                config.kernel_size,
                is_causal=causal,
            )
            if config.head_layers
            else None
        )
        self.all_bins = bins = config.fft_size // 2 + 1
        self.num_bins = bins
        # per bin: log-gain and phase of the tonal part, and, with a source, log-gain of the noise
        self.head = FrameLinear(head_width, bins * (3 if config.has_harmonic_source else 2))
        # frames by which samples come later than their latent: layers at both rates, then the windows
        fine = 0 if self.head_stack is None else self.head_stack.lookahead
        self.lookahead = (
            self.embed.context.right
            + (0 if self.prenet is None else self.prenet.lookahead)
            + self.stack.lookahead
            + -(-(fine * config.synthesis_hop + config.synthesis_reach) // config.hop_length)
        )
        self.pitch_head = None
        if config.has_harmonic_source:
            self.num_bins = int(PASSBAND * config.fft_size) + 1
            self.pitch_head = FrameLinear(width, 2 * up)
            # the head's stack sees this many rows ahead, and the pitch waits for it
            self.pitch_delay = Context(0, fine)
            self.source = HarmonicSource(
                config.sampling_rate, config.synthesis_hop, config.fft_size, -up
            )
        self._audible: Prepared[tuple[Tensor, Tensor]] = Prepared()
        with torch.no_grad():
            self.head.weight.mul_(0.5)
            self.head.bias.zero_()
            # speech is far below a unit source; the noise starts below the pulses
            self.head.bias[:bins] = -3.0
            if config.has_harmonic_source:
                self.head.bias[2 * bins :] = -4.5

    def forward(
        self,
        latent: Tensor,
        mask: Tensor,
        pitch_hz: Tensor | None = None,
        voicing: Tensor | None = None,
        noise_seed: int = 0,
    ) -> Synthesis:
        """Synthesise whole signals, as training does.

        Args:
            latent: `[B, T, latent_size]`, zero where `mask` is.
            mask: bool `[B, T, 1]`.
            pitch_hz: `[B, T * upsampling]`, true pitch for the source in training, positive
                everywhere; None uses the decoder's own prediction.
            voicing: `[B, T * upsampling]` within 0 to 1, with `pitch_hz`.
            noise_seed: Seed of the noise.

        Returns:
            `Synthesis`, T * hop samples an item.
        """
        config = self.config
        up, hop, reach = config.upsampling, config.hop_length, config.synthesis_reach
        latent = F.pad(latent, (0, 0, 1, 1))
        inner = F.pad(mask, (0, 0, 2, 0), value=True)  # the item with one frame on either side
        if pitch_hz is not None and voicing is not None:
            pitch_hz = F.pad(pitch_hz[:, None], (up, up), mode="replicate")[:, 0]
            voicing = F.pad(voicing, (up, up))
        fine, log_pitch, voicing_logit, inner = self._predict(latent, inner, None)
        # one frame past each end still belongs to the item, later ones of a padded batch do not
        level, excitation = inner.float(), None
        if log_pitch is not None and voicing_logit is not None:
            if pitch_hz is None or voicing is None:
                pitch_hz, voicing = log_pitch.exp(), sigmoid(voicing_logit)
            excitation = self._excite(pitch_hz, voicing, level, noise_seed, None)
        spectra = self._spectra(fine, level, excitation, slice(None))
        samples, tail = overlap_add(spectra, config.synthesis_hop, config.fft_size)
        first = hop + reach
        waveform = torch.cat([samples, tail], 1)[:, first : first + samples.shape[1] - 2 * hop]
        if log_pitch is None or voicing_logit is None:
            return Synthesis(waveform)
        return Synthesis(waveform, log_pitch[:, up:-up], voicing_logit[:, up:-up])

    def block(self, latent: Tensor, mask: Tensor, carry: Carry, noise_seed: int = 0) -> Tensor:
        """Synthesise the next block of a signal.

        The first block starts with one frame of zeros. Samples come as soon as they are final; the first
        of them are `hop_length + synthesis_reach` samples early and belong to nothing.

        Args:
            latent: `[B, N, latent_size]`.
            mask: bool `[B, N, 1]`: frames of each item, and one frame of zeros on either side.
            carry: State between blocks.
            noise_seed: Seed of the noise.

        Returns:
            float32 `[B, M]`; M is N hops, less what the first block waits for.
        """
        config = self.config
        fine, log_pitch, voicing_logit, inner = self._predict(latent, mask, carry)
        level = inner.float()
        excitation = None
        if log_pitch is not None and voicing_logit is not None:
            pitch_hz, voicing = log_pitch.exp(), sigmoid(voicing_logit)
            if pitch_hz.shape[1]:
                excitation = self._excite(pitch_hz, voicing, level, noise_seed, carry)
        samples = [latent.new_zeros(len(latent), 0)]
        for part in self._tiles(fine):
            spectra = self._spectra(fine[:, part], level[:, part], excitation, part)
            final, carry[self] = overlap_add(
                spectra, config.synthesis_hop, config.fft_size, carry.get(self)
            )
            samples.append(final)
        return torch.cat(samples, 1)

    @staticmethod
    def _tiles(fine: Tensor) -> list[slice]:
        """ISTFT frames of `[B, N, …]` that are best synthesised at once."""
        count, best = fine.shape[1], _SYNTHESIS_ROWS.get(fine.device.type, 1 << 14) // len(fine)
        # alike in size, for a few frames left over take a good part of a tile's time
        rows = max(1, -(-count // max(1, round(count / max(1, best)))))
        return [slice(start, start + rows) for start in range(0, count, rows)]

    def _predict(
        self, latent: Tensor, mask: Tensor, carry: Carry | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
        """What the head reads `[B, N, head_width]`, log-pitch and voicing `[B, N]`, mask `[B, N, 1]`."""
        up = self.config.upsampling
        # a causal item does not hear what lies past its end
        hidden_mask = None if self.config.is_causal else mask
        hidden, hidden_mask = self.embed(latent, hidden_mask, carry)
        if self.prenet is not None:
            hidden, hidden_mask = self.prenet(hidden, hidden_mask, carry)
        hidden, hidden_mask = self.stack(hidden, hidden_mask, carry)
        mask = (mask if hidden_mask is None else hidden_mask).repeat_interleave(up, 1)
        fine, fine_mask = hidden, None if hidden_mask is None else mask
        if self.upsample is not None:
            fine = self.upsample(hidden).unflatten(-1, (up, -1)).flatten(1, 2)
        if self.head_stack is not None:
            fine, fine_mask = self.head_stack(fine, fine_mask, carry)
        if self.pitch_head is None:
            return fine, None, None, mask if fine_mask is None else fine_mask
        raw = self.pitch_head(hidden).float().unflatten(-1, (2, up)).transpose(2, 3).flatten(1, 2)
        raw = self.pitch_delay(raw, None, carry)[1]
        low, high = (
            torch.tensor([self.config.min_pitch_hz, self.config.max_pitch_hz]).log().tolist()
        )
        # the middle of the range is 173 Hz; a quarter of a unit is about half an octave either way
        log_pitch = (0.5 * (low + high) + raw[..., 0]).clamp(low, high)
        return fine, log_pitch, raw[..., 1], mask if fine_mask is None else fine_mask

    def _excite(
        self,
        pitch_hz: Tensor,
        voicing: Tensor,
        level: Tensor,
        noise_seed: int,
        carry: Carry | None,
    ) -> Excitation:
        """The source's answer to pitch and voicing `[B, N]`, silent where level `[B, N, 1]` is 0."""
        with torch.autocast(level.device.type, enabled=False):
            gain = level[..., 0] * voicing.detach()
            excitation: Excitation = self.source(pitch_hz, voicing, gain, noise_seed, carry)
        return excitation

    def _spectra(
        self, fine: Tensor, level: Tensor, excitation: Excitation | None, part: slice
    ) -> Tensor:
        """What the head makes of `[B, n, head_width]`: a filtered source, or magnitude and phase.

        Args:
            fine: Input of the head for the frames of `part`.
            level: float32 `[B, n, 1]`, 0 for silence.
            excitation: Of all frames, if there is a source.
            part: Which frames these are.

        Returns:
            complex64 `[B, n, num_bins]`.
        """
        bins = self.num_bins
        weight, bias = self._audible(self._audible_rows, self.head.weight, self.head.bias)
        parts = linear(fine, weight, bias).unflatten(-1, (-1, bins)).unbind(-2)
        with torch.autocast(fine.device.type, enabled=False):
            log_gain, angle = parts[0].float(), parts[1].float()
            if excitation is None:
                return filter_source(log_gain, angle, level * self.config.fft_size**0.5)
            pulses, noise = (spectra[..., :bins] for spectra in excitation.spectra(part))
            if torch.is_grad_enabled() or not bool(level.all()):
                noise = noise * level
            return filter_source(log_gain, angle, pulses, parts[2].float(), noise)

    def _audible_rows(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """The head without the rows whose bins stay silent."""
        weight, bias = (
            values.unflatten(0, (-1, self.all_bins))[:, : self.num_bins].flatten(0, 1)
            for values in (weight, bias)
        )
        return packed(weight), bias
