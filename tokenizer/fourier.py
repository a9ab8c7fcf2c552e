"""Fourier decoder: ConvNeXt at frame rate, a short stack at the ISTFT's rate, spectra, overlap-add.

Source: Vocos (Siuzdak 2023) and Language-Codec's decoder, with two additions of ours: upsampling before the
head, so that ISTFT windows are short, and an optional harmonic source (`source.py`).

The decoder treats its latent as zero before the first frame and after the last, and synthesises one such
frame on either side, so that every sample has its full set of windows and the window envelope is the same
everywhere: a piece decoded with its context is the piece of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import ConvNeXtStack, FrameConv
from .config import CodecConfig
from .source import noise_spectrum, pulse_phase, pulse_spectrum
from .spectral import hann_window

# A mel loss gives the bins next to half the sampling rate no weight: left to itself the head whistles there.
PASSBAND = 0.4875  # of the sampling rate: 7.8 kHz at 16 kHz
MAX_LOG_GAIN = 5.0  # about 43 dB above a unit source; training never needs it, a bad code might


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


def overlap_add(spectra: Tensor, hop: int, fft_size: int) -> Tensor:
    """Inverse STFT with Hann windows and the constant envelope of an endless signal.

    Args:
        spectra: complex `[B, N, fft_size // 2 + 1]`.

    Returns:
        float32 `[B, N * hop]`; frame i's window is centred on the centre of hop i. Samples within half a
        window of either end lack frames and are quieter, unless the caller cuts them off.
    """
    window = hann_window(fft_size, spectra.device)
    frames = torch.fft.irfft(spectra, fft_size) * window
    length = (frames.shape[1] - 1) * hop + fft_size
    added = F.fold(frames.transpose(1, 2), (1, length), (1, fft_size), stride=(1, hop))[:, 0, 0]
    squares = F.pad(window.square(), (0, -fft_size % hop)).view(-1, hop).sum(0)
    reach = (fft_size - hop) // 2
    added = added[:, reach : reach + frames.shape[1] * hop]
    envelope = torch.roll(squares, -(reach % hop)).repeat(frames.shape[1])
    return added / envelope


class FourierDecoder(nn.Module):
    """Quantized latent to waveform."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        width, causal = config.decoder_width, config.is_causal
        self.embed = FrameConv(config.latent_size, width, config.kernel_size, is_causal=causal)
        self.stack = ConvNeXtStack(
            width, config.decoder_layers, config.expansion, config.kernel_size, is_causal=causal
        )
        self.upsample = nn.Linear(width, config.upsampling * config.head_width)
        self.head_stack = (
            ConvNeXtStack(
                config.head_width,
                config.head_layers,
                config.expansion,
                config.kernel_size,
                is_causal=causal,
            )
            if config.head_layers
            else None
        )
        self.all_bins = bins = config.fft_size // 2 + 1
        self.num_bins = int(PASSBAND * config.fft_size) + 1
        # per bin: log-gain and phase of the tonal part, and, with a source, log-gain of the noise
        self.head = nn.Linear(config.head_width, bins * (3 if config.has_harmonic_source else 2))
        self.pitch_head = (
            nn.Linear(width, 2 * config.upsampling) if config.has_harmonic_source else None
        )
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
        """Synthesise.

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
        up = config.upsampling
        latent = F.pad(latent, (0, 0, 1, 1))
        inner = F.pad(mask, (0, 0, 2, 0), value=True)  # the item with one frame on either side
        hidden_mask = None if config.is_causal else inner
        hidden = self.stack(self.embed(latent, hidden_mask), hidden_mask)
        fine = self.upsample(hidden).unflatten(-1, (up, -1)).flatten(1, 2)
        if self.head_stack is not None:
            fine_mask = None if hidden_mask is None else hidden_mask.repeat_interleave(up, 1)
            fine = self.head_stack(fine, fine_mask)
        parts = self.head(fine)
        log_pitch = voicing_logit = None
        if self.pitch_head is not None:
            log_pitch, voicing_logit = self._pitch(hidden)
        with torch.autocast(latent.device.type, enabled=False):
            spectra = self._spectra(
                parts.float(), log_pitch, voicing_logit, pitch_hz, voicing, noise_seed
            )
            spectra = F.pad(spectra[..., : self.num_bins], (0, self.all_bins - self.num_bins))
            # one frame past each end still belongs to the item, later ones of a padded batch do not
            spectra = spectra * inner.repeat_interleave(up, 1)
            waveform = overlap_add(spectra, config.synthesis_hop, config.fft_size)
        waveform = waveform[:, config.hop_length : -config.hop_length]
        if log_pitch is None or voicing_logit is None:
            return Synthesis(waveform)
        return Synthesis(waveform, log_pitch[:, up:-up], voicing_logit[:, up:-up])

    def _pitch(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Log-pitch in Hz, within the source's range, and voicing logit, each `[B, (T + 2) * upsampling]`."""
        raw = self.pitch_head(hidden).float().unflatten(-1, (2, -1))  # type: ignore[misc]
        low, high = (
            torch.tensor([self.config.min_pitch_hz, self.config.max_pitch_hz]).log().tolist()
        )
        # the middle of the range is 173 Hz; a quarter of a unit is about half an octave either way
        log_pitch = (0.5 * (low + high) + raw[..., 0, :]).clamp(low, high)
        return log_pitch.flatten(1), raw[..., 1, :].flatten(1)

    def _spectra(
        self,
        parts: Tensor,
        log_pitch: Tensor | None,
        voicing_logit: Tensor | None,
        pitch_hz: Tensor | None,
        voicing: Tensor | None,
        noise_seed: int,
    ) -> Tensor:
        """Filter the source, or build magnitude and phase: complex64 `[B, N, bins]`."""
        config = self.config
        parts = parts.unflatten(-1, (-1, config.fft_size // 2 + 1))
        filters = torch.polar(parts[..., 0, :].clamp(max=MAX_LOG_GAIN).exp(), parts[..., 1, :])
        if log_pitch is None or voicing_logit is None:
            return filters * config.fft_size**0.5
        if pitch_hz is None or voicing is None:
            pitch_hz, voicing = log_pitch.exp(), torch.sigmoid(voicing_logit)
        else:
            up = config.upsampling
            pitch_hz = F.pad(pitch_hz[:, None], (up, up), mode="replicate")[:, 0]
            voicing = F.pad(voicing, (up, up))
        hop = config.synthesis_hop
        phase = pulse_phase(pitch_hz.detach(), hop, config.sampling_rate)
        pulses = pulse_spectrum(pitch_hz.detach(), phase, config.fft_size, config.sampling_rate)
        noise = noise_spectrum(
            -config.upsampling, parts.shape[1], hop, config.fft_size, noise_seed, parts.device
        )
        gains = parts[..., 2, :].clamp(max=MAX_LOG_GAIN).exp()
        return filters * (pulses * voicing.detach()[..., None]) + gains * noise
