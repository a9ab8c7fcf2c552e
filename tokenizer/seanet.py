"""The SEANet encoder of Language-Codec: strided convolutions in the time domain, LSTM, latent out.

Source: EnCodec (Défossez et al. 2022, section 3.1), in the form Language-Codec uses (arXiv 2402.12208):
strides 2, 4, 5, 8, ELU, weight norm, one residual layer a stage. One departure: padding is zeros
everywhere, not reflection, so that an utterance in a padded batch is encoded as alone and a stream can
start without hearing ahead.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from .config import CodecConfig


class _Conv(nn.Module):
    """Weight-normed convolution on `[B, C, L]` with L a multiple of the stride; returns `L / stride`."""

    def __init__(
        self, width_in: int, width_out: int, kernel_size: int, stride: int, *, is_causal: bool
    ) -> None:
        super().__init__()
        spare = kernel_size - stride
        self.padding = (spare, 0) if is_causal else (spare - spare // 2, spare // 2)
        self.conv = weight_norm(nn.Conv1d(width_in, width_out, kernel_size, stride))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, self.padding))


class _Residual(nn.Module):
    """ELU, kernel 3 at half width, ELU, kernel 1; added to a 1x1 shortcut."""

    def __init__(self, width: int, *, is_causal: bool) -> None:
        super().__init__()
        self.squeeze = _Conv(width, width // 2, 3, 1, is_causal=is_causal)
        self.expand = _Conv(width // 2, width, 1, 1, is_causal=is_causal)
        self.shortcut = _Conv(width, width, 1, 1, is_causal=is_causal)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        hidden = self.squeeze(F.elu(x) * keep)
        return self.shortcut(x) + self.expand(F.elu(hidden))


class SEANetEncoder(nn.Module):
    """Waveform to latent frames, as Language-Codec's encoder."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        width = config.seanet_filters
        self.first = _Conv(1, width, 7, 1, is_causal=config.is_causal)
        self.residuals = nn.ModuleList()
        self.downsamplings = nn.ModuleList()
        for stride in config.seanet_strides:
            self.residuals.append(_Residual(width, is_causal=config.is_causal))
            self.downsamplings.append(
                _Conv(width, 2 * width, 2 * stride, stride, is_causal=config.is_causal)
            )
            width *= 2
        # One direction: frame t never waits for the end of the utterance.
        self.lstm = (
            nn.LSTM(width, width, config.seanet_lstm_layers, batch_first=True)
            if config.seanet_lstm_layers
            else None
        )
        self.last = _Conv(width, config.latent_size, 7, 1, is_causal=config.is_causal)

    def forward(self, waveform: Tensor, mask: Tensor) -> Tensor:
        """Encode zero-padded waveforms.

        Args:
            waveform: float32 `[B, T * hop]`, zeros past each item's end.
            mask: bool `[B, T, 1]`, the frames that exist.

        Returns:
            `[B, T, latent_size]`, zero where the mask is.
        """
        strides = self.config.seanet_strides
        samples_per_frame = math.prod(strides)
        # past an item's last frame every layer's output is cleared, as if the signal ended there
        keep = mask.transpose(1, 2).to(waveform.dtype).repeat_interleave(samples_per_frame, -1)
        x = self.first(waveform[:, None])
        for stride, residual, downsampling in zip(
            strides, self.residuals, self.downsamplings, strict=True
        ):
            x = residual(x, keep)
            x = downsampling(F.elu(x) * keep)
            keep = keep[..., ::stride]
        x = x * keep
        if self.lstm is not None:
            x = x + self.lstm(x.transpose(1, 2))[0].transpose(1, 2)
        return self.last(F.elu(x) * keep).transpose(1, 2) * mask
