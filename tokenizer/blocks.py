"""Frame-rate building blocks: context-aware convolution and the ConvNeXt block.

All of them work on `[B, T, D]` with an optional validity mask `[B, T, 1]`. Padding is zeros, and what a
mask hides is zero before every convolution, so that an utterance in a padded batch comes out as alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def context(kernel_size: int, is_causal: bool, lookahead: int = 0) -> tuple[int, int]:
    """Frames seen on the left and on the right of the current one."""
    if not is_causal:
        return (kernel_size - 1) // 2, kernel_size // 2
    return kernel_size - 1 - lookahead, lookahead


class FrameConv(nn.Module):
    """Convolution over time that keeps the number of frames.

    Args:
        width_in, width_out: Channels.
        kernel_size: Frames.
        is_causal: Whether only the past, and `lookahead` frames, are seen.
        lookahead: Future frames of a causal convolution.
        is_depthwise: One filter a channel.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        kernel_size: int,
        *,
        is_causal: bool,
        lookahead: int = 0,
        is_depthwise: bool = False,
    ) -> None:
        super().__init__()
        self.padding = context(kernel_size, is_causal, lookahead)
        self.conv = nn.Conv1d(
            width_in, width_out, kernel_size, groups=width_in if is_depthwise else 1
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`[B, T, width_in]` -> `[B, T, width_out]`."""
        if mask is not None:
            x = x * mask
        return self.conv(F.pad(x.transpose(1, 2), self.padding)).transpose(1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, LayerNorm, two pointwise layers with GELU, scaled residual.

    Source: Liu et al. 2022, in the one-dimensional form of Vocos (Siuzdak 2023).
    """

    def __init__(
        self, width: int, expansion: int, kernel_size: int, *, is_causal: bool, initial_scale: float
    ) -> None:
        super().__init__()
        self.depthwise = FrameConv(
            width, width, kernel_size, is_causal=is_causal, is_depthwise=True
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.widen = nn.Linear(width, expansion * width)
        self.narrow = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), initial_scale))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`[B, T, D]` -> `[B, T, D]`."""
        y = self.norm(self.depthwise(x, mask))
        return x + self.scale * self.narrow(F.gelu(self.widen(y)))


class ConvNeXtStack(nn.Module):
    """Input LayerNorm, several `ConvNeXtBlock`s, output LayerNorm."""

    def __init__(
        self, width: int, num_layers: int, expansion: int, kernel_size: int, *, is_causal: bool
    ) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(width, eps=1e-6)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(
                width, expansion, kernel_size, is_causal=is_causal, initial_scale=1 / num_layers
            )
            for _ in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`[B, T, D]` -> `[B, T, D]`."""
        x = self.norm_in(x)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm_out(x)


def frame_mask(lengths: Tensor, num_frames: int) -> Tensor:
    """Validity of each frame, bool `[B, T, 1]`."""
    return (torch.arange(num_frames, device=lengths.device) < lengths[:, None])[..., None]
