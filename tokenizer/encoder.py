"""Frame-rate spectral encoder: STFT in, ConvNeXt at the codec's frame rate, latent out.

It replaces the time-domain SEANet stack, whose first layers run at the sampling rate: everything learned
here runs at 50 frames a second.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import ConvNeXtStack, FrameConv
from .config import CodecConfig
from .spectral import frames_of, log_mels, pitch_evidence

# Log-mels of speech lie between the floor, log(1e-5), and about 0: roughly to zero mean, unit variance.
_MEL_MEAN, _MEL_SCALE = -6.5, 2.5


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
        self.project = nn.Linear(config.encoder_width, config.latent_size)

    @property
    def analysis_padding(self) -> tuple[int, int]:
        """Zeros before and after a whole number of frames, so that windows sit where they must."""
        config = self.config
        spare = config.window_length - config.hop_length // config.num_subframes
        right = config.analysis_lookahead if config.is_causal else spare // 2
        return spare - right, right

    def features(self, waveform: Tensor) -> Tensor:
        """Analysis of float32 `[B, T * hop]`, `[B, T, num_subframes * (mels + lags)]`."""
        config = self.config
        hop = config.hop_length // config.num_subframes
        frames = frames_of(F.pad(waveform, self.analysis_padding), config.window_length, hop)
        mels = (log_mels(frames, config.sampling_rate, config.num_mels) - _MEL_MEAN) / _MEL_SCALE
        parts = [mels]
        if config.num_pitch_lags:
            parts.append(
                pitch_evidence(
                    frames,
                    config.sampling_rate,
                    config.min_pitch_hz,
                    config.max_pitch_hz,
                    config.num_pitch_lags,
                )
            )
        merged = torch.cat(parts, -1)
        return merged.reshape(len(waveform), -1, config.num_subframes * merged.shape[-1])

    def forward(self, waveform: Tensor, mask: Tensor) -> Tensor:
        """Encode zero-padded waveforms.

        Args:
            waveform: float32 `[B, T * hop]`, zeros past each item's end.
            mask: bool `[B, T, 1]`, the frames that exist.

        Returns:
            `[B, T, latent_size]`, zero where the mask is.
        """
        with torch.autocast(waveform.device.type, enabled=False):
            features = self.features(waveform.float())
        hidden = self.stack(self.embed(features, mask), None if self.config.is_causal else mask)
        return self.project(hidden) * mask
