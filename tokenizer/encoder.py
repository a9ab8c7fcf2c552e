"""Frame-rate spectral encoder: STFT in, ConvNeXt at the codec's frame rate, latent out.

It replaces the time-domain SEANet stack, whose first layers run at the sampling rate: everything learned
here runs at 50 frames a second.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import Carry, ConvNeXtStack, FrameConv, FrameLinear
from .config import CodecConfig
from .spectral import frames_of, log_mels, pitch_evidence

# Log-mels of speech lie between the floor, log(1e-5), and about 0: roughly to zero mean, unit variance.
MEL_MEAN, MEL_SCALE = -6.5, 2.5
# Windows, over all items, that are analysed at once: on a CPU their spectra stay in its cache.
_ANALYSIS_ROWS = {"cpu": 512, "cuda": 1 << 17}


class SpectralEncoder(nn.Module):
    """Waveform to latent frames.

    Each frame holds `num_subframes` analysis windows; each window gives log-mels and, optionally, the
    normalised autocorrelation as pitch evidence, so that no pitch tracker runs outside torch.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        features = config.num_subframes * (config.num_mels + config.num_pitch_lags)
        self.embed = FrameConv(
            features,
            config.encoder_width,
            3,
            is_causal=config.is_causal,
            lookahead=config.encoder_lookahead,
        )
        self.stack = ConvNeXtStack(
            config.encoder_width,
            config.encoder_layers,
            config.expansion,
            config.kernel_size,
            is_causal=config.is_causal,
        )
        self.project = FrameLinear(config.encoder_width, config.latent_size)
        # frames by which latents come later than their waveform, analysis aside
        self.lookahead = self.embed.context.right + self.stack.lookahead

    @property
    def margins(self) -> tuple[int, int]:
        """Samples that the analysis of whole frames needs before and after them."""
        config = self.config
        spare = config.window_length - config.hop_length // config.num_subframes
        right = config.analysis_lookahead if config.is_causal else spare // 2
        return spare - right, right

    def features(self, waveform: Tensor) -> Tensor:
        """Analysis of float32 `[B, left + T * hop + right]`, `[B, T, num_subframes * (mels + lags)]`."""
        config = self.config
        hop = config.hop_length // config.num_subframes
        frames = frames_of(waveform, config.window_length, hop)
        rows = _ANALYSIS_ROWS.get(waveform.device.type, 1 << 14)
        tiles = frames.split(max(1, rows // max(1, len(waveform))), 1)
        merged = torch.cat([self._analysed(tile) for tile in tiles], 1)
        return merged.reshape(len(waveform), -1, config.num_subframes * merged.shape[-1])

    def _analysed(self, frames: Tensor) -> Tensor:
        """Log-mels and pitch evidence of windows `[B, N, window_length]`, `[B, N, mels + lags]`."""
        config = self.config
        mels = (log_mels(frames, config.sampling_rate, config.num_mels) - MEL_MEAN) / MEL_SCALE
        parts = [mels]
        if config.num_pitch_lags:
            parts.append(
                pitch_evidence(
                    frames,
                    config.sampling_rate,
                    config.min_pitch_hz,
                    config.max_pitch_hz,
                    config.num_pitch_lags,
                    config.pitch_highpass_hz,
                )
            )
        return torch.cat(parts, -1)

    def forward(self, waveform: Tensor, mask: Tensor) -> Tensor:
        """Encode whole signals, zero past each item's end.

        Args:
            waveform: float32 `[B, T * hop]`.
            mask: bool `[B, T, 1]`, the frames that exist.

        Returns:
            `[B, T, latent_size]`, zero where the mask is.
        """
        return self._encode(F.pad(waveform, self.margins), mask, None)[0]

    def block(self, waveform: Tensor, mask: Tensor, carry: Carry) -> tuple[Tensor, Tensor]:
        """Encode the next block.

        Args:
            waveform: float32 `[B, left + N * hop + right]`, with the `margins` on either side.
            mask: bool `[B, N, 1]`.
            carry: State between blocks.

        Returns:
            Latent `[B, M, latent_size]` and its mask; M is N, less what the first block waits for.
        """
        return self._encode(waveform, mask, carry)

    def _encode(self, waveform: Tensor, mask: Tensor, carry: Carry | None) -> tuple[Tensor, Tensor]:
        with torch.autocast(waveform.device.type, enabled=False):
            features = self.features(waveform.float())
        hidden, valid = self.embed(features, mask, carry)
        hidden, seen = self.stack(hidden, None if self.config.is_causal else valid, carry)
        valid = valid if seen is None else seen
        return self.project(hidden) * valid, valid
