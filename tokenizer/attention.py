"""The attention prenet of the later Language-Codec: residual blocks around one attention block.

Source: the abstract of arXiv 2402.12208v4 names attention blocks; WavTokenizer (arXiv 2408.16532) places one
attention block between two pairs of residual blocks, before the ConvNeXt stack, as here. Two departures, so
that the codec streams and an utterance in a batch comes out as alone: attention reaches over a stated window
of frames, not over the utterance, and LayerNorm stands where statistics were taken over all frames.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import Carry, Context, FrameConv, FrameLinear, sigmoid


class _ResidualBlock(nn.Module):
    """LayerNorm, SiLU, kernel 3, twice; added to the input."""

    def __init__(self, width: int, *, is_causal: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.convs = nn.ModuleList(
            FrameConv(width, width, 3, is_causal=is_causal) for _ in range(2)
        )
        self.lookahead = 0 if is_causal else 2
        self.delay = Context(0, self.lookahead)

    def forward(
        self, x: Tensor, mask: Tensor | None, carry: Carry | None
    ) -> tuple[Tensor, Tensor | None]:
        hidden, valid = x, mask
        for norm, conv in zip(self.norms, self.convs, strict=True):
            normed = norm(hidden)
            hidden, valid = conv(normed * sigmoid(normed), valid, carry)
        return self.delay(x, mask, carry)[1] + hidden, valid


class WindowAttention(nn.Module):
    """Self-attention of one head over a window of frames; every row sums over its own window alone.

    Args:
        width: D.
        window: Frames attended to: the current one and those before it, or, where the model is not
            causal, half of the others on either side.
    """

    def __init__(self, width: int, window: int, *, is_causal: bool) -> None:
        super().__init__()
        self.lookahead = 0 if is_causal else window // 2
        self.context = Context(window - 1 - self.lookahead, self.lookahead)
        self.norm = nn.LayerNorm(width)
        self.query = FrameLinear(width, width)
        self.key_value = FrameLinear(width, 2 * width)
        self.out = FrameLinear(width, width)

    def forward(
        self, x: Tensor, mask: Tensor | None, carry: Carry | None
    ) -> tuple[Tensor, Tensor | None]:
        """`[B, T, D]` -> `[B, T, D]` and its mask."""
        # a channel of ones shows which rows of the context exist
        marked = F.pad(x, (0, 1), value=1.0)
        rows, centres, valid = self.context(marked, mask, carry)
        rows, exists, centres = rows[..., :-1], rows[..., -1], centres[..., :-1]
        if not centres.shape[1]:
            return centres, valid
        window = self.context.left + 1 + self.context.right
        queries = self.query(self.norm(centres))
        keys, values = (
            part.unfold(1, window, 1) for part in self.key_value(self.norm(rows)).chunk(2, -1)
        )
        scores = (queries[..., None] * keys).sum(-2) * queries.shape[-1] ** -0.5
        scores = scores.masked_fill(exists.unfold(1, window, 1) == 0, -1e9)
        mixed = (scores.softmax(-1)[..., None, :] * values).sum(-1)
        return centres + self.out(mixed), valid


class AttentionPrenet(nn.Module):
    """Two residual blocks, window attention, two residual blocks."""

    def __init__(self, width: int, window: int, *, is_causal: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            WindowAttention(width, window, is_causal=is_causal)
            if place == 2
            else _ResidualBlock(width, is_causal=is_causal)
            for place in range(5)
        )
        self.lookahead = 0 if is_causal else 4 * 2 + window // 2

    def forward(
        self, x: Tensor, mask: Tensor | None = None, carry: Carry | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """`[B, T, D]` -> `[B, T, D]` and its mask."""
        for layer in self.layers:
            x, mask = layer(x, mask, carry)
        return x, mask
