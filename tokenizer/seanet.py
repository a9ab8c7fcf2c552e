"""The SEANet encoder of Language-Codec: strided convolutions in the time domain, LSTM, latent out.

Source: EnCodec (Défossez et al. 2022, section 3.1), in the form Language-Codec uses (arXiv 2402.12208):
strides 2, 4, 5, 8, ELU, weight norm, one residual layer a stage. One departure: padding is zeros
everywhere, not reflection, so that an utterance in a padded batch is encoded as alone and a stream can
start without hearing ahead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from .blocks import Carry, Context, conv_matrix, dense_conv, elu, linear, sigmoid
from .config import CodecConfig
from .prepared import Prepared, packed


class _Conv(nn.Module):
    """Weight-normed convolution `[B, L, C]` -> `[B, L / stride, C']`."""

    def __init__(
        self, width_in: int, width_out: int, kernel_size: int, stride: int, *, is_causal: bool
    ) -> None:
        super().__init__()
        spare = kernel_size - stride
        right = 0 if is_causal else spare // 2
        self.context = Context(spare - right, right, stride)
        self.conv = weight_norm(nn.Conv1d(width_in, width_out, kernel_size, stride))
        self._weights: Prepared[tuple[Tensor, Tensor]] = Prepared()

    def forward(
        self, x: Tensor, mask: Tensor | None, carry: Carry | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Also returns the input rows that outputs sit on, and the outputs' mask."""
        rows, centres, mask = self.context(x, mask, carry)
        weight, matrix = self._weights(
            self._normed, *self.conv.parametrizations.weight.parameters()
        )
        hidden = dense_conv(
            rows, weight, self.conv.bias, self.context.stride, matrix, is_tap_major=True
        )
        return hidden, centres, mask

    def _normed(self, *_: Tensor) -> tuple[Tensor, Tensor]:
        """The weight that magnitude and direction make, and its matrix."""
        weight = self.conv.weight
        return weight, conv_matrix(weight, is_tap_major=True)


class _Residual(nn.Module):
    """ELU, kernel 3 at half width, ELU, kernel 1; added to a 1x1 shortcut."""

    def __init__(self, width: int, *, is_causal: bool) -> None:
        super().__init__()
        self.squeeze = _Conv(width, width // 2, 3, 1, is_causal=is_causal)
        self.expand = _Conv(width // 2, width, 1, 1, is_causal=is_causal)
        self.shortcut = _Conv(width, width, 1, 1, is_causal=is_causal)
        self.delay = Context(0, self.squeeze.context.right)

    def forward(self, x: Tensor, mask: Tensor, carry: Carry | None) -> tuple[Tensor, Tensor]:
        hidden, _, valid = self.squeeze(elu(x), mask, carry)
        expanded, _, _ = self.expand(elu(hidden), None, carry)
        shortcut, _, _ = self.shortcut(self.delay(x, mask, carry)[1], None, carry)
        return shortcut + expanded, valid if valid is not None else mask


class SEANetEncoder(nn.Module):
    """Waveform to latent frames, as Language-Codec's encoder."""

    margins = (0, 0)  # its context is carried by its layers

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
        self._recurrences: list[Prepared[tuple[Tensor, Tensor, Tensor]]] = [
            Prepared() for _ in range(config.seanet_lstm_layers)
        ]
        self.last = _Conv(width, config.latent_size, 7, 1, is_causal=config.is_causal)
        # frames by which latents come later than their waveform: each layer waits for whole outputs
        waits = self.first.context.right
        for stride in config.seanet_strides:
            waits = -(-(waits + (0 if config.is_causal else 1 + stride // 2)) // stride)
        self.lookahead = waits + self.last.context.right

    def forward(self, waveform: Tensor, mask: Tensor) -> Tensor:
        """Encode whole signals, zero past each item's end.

        Args:
            waveform: float32 `[B, T * hop]`.
            mask: bool `[B, T, 1]`, the frames that exist.

        Returns:
            `[B, T, latent_size]`, zero where the mask is.
        """
        return self._encode(waveform, mask, None)[0]

    def block(self, waveform: Tensor, mask: Tensor, carry: Carry) -> tuple[Tensor, Tensor]:
        """Encode the next block, `[B, N * hop]`; see `SpectralEncoder.block`."""
        return self._encode(waveform, mask, carry)

    def _encode(self, waveform: Tensor, mask: Tensor, carry: Carry | None) -> tuple[Tensor, Tensor]:
        # past an item's last frame every layer's output is cleared, as if the signal ended there
        keep = mask.repeat_interleave(self.config.hop_length, 1)
        x, _, keep = self.first(waveform[..., None], keep, carry)
        for residual, downsampling in zip(self.residuals, self.downsamplings, strict=True):
            x, keep = residual(x, keep, carry)
            x, _, keep = downsampling(elu(x), keep, carry)
        x = x * keep
        if self.lstm is not None:
            x = x + self._recur(self.lstm, x, carry)
        x, _, keep = self.last(elu(x), keep, carry)
        return x * keep, keep

    def _recur(self, lstm: nn.LSTM, x: Tensor, carry: Carry | None) -> Tensor:
        """The LSTM's output, `[B, T, D]`; step by step in blocks, where its state goes on."""
        if carry is None:
            return lstm(x)[0]
        zeros = x.new_zeros(len(x), lstm.hidden_size)
        states: list[Any] = carry.get(lstm, [(zeros, zeros)] * lstm.num_layers)
        carry[lstm] = states = list(states)
        for layer, (hidden, cell) in enumerate(states):
            into, again, bias = self._recurrences[layer](_recurrence, *lstm.all_weights[layer])
            outputs = []
            for gates in linear(x, into, bias).unbind(1):
                parts = (gates + linear(hidden, again)).chunk(4, -1)
                cell = sigmoid(parts[1]) * cell + sigmoid(parts[0]) * parts[2].tanh()
                hidden = sigmoid(parts[3]) * cell.tanh()
                outputs.append(hidden)
            x = torch.stack(outputs, 1) if outputs else x
            states[layer] = hidden, cell
        return x


def _recurrence(
    into: Tensor, again: Tensor, bias_in: Tensor, bias_again: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What a layer of the LSTM multiplies its input and its state with, and adds."""
    return packed(into), packed(again), bias_in + bias_again
