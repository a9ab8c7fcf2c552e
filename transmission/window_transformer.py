"""A Transformer with a bounded memory: each frame sees the last `window` frames, and no more.

Pre-norm blocks as in `slm/transformer.py`, but where a frame lies is told by a learned bias for each
head and age (after T5, Raffel et al. 2020, without buckets), not by rotation: ages are bounded by the
window, so a stream may run for ever, and in integers a bias is one addition (`integer_network.py`).
It is causal unless it is made to see some frames ahead, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import initialization as init

from ..slm.transformer import FeedForward, RMSNorm

# of heads that see ahead, as they begin
_SLOPES = torch.tensor([2.0, 2.0, 2.0, 0.25])
_PEAKS = torch.tensor([0, 1, -1, 0])


@dataclass
class WindowCache:
    """Keys and values of the last frames of every layer.

    Attributes:
        keys, values: A `[B, H, n, D/H]` for each layer, n at most `window` - 1 between two steps.
    """

    keys: list[Tensor]
    values: list[Tensor]


class WindowAttention(nn.Module):
    """Multi-head self-attention over a window, with a bias for each head and age.

    Args:
        hidden_size: D.
        num_heads: H.
        window: Frames seen, the current one included.
        ahead: Frames seen behind the current one; their ages are negative, from -`ahead` on.
    """

    def __init__(self, hidden_size: int, num_heads: int, window: int, ahead: int = 0) -> None:
        super().__init__()
        self.num_heads, self.window, self.ahead = num_heads, window, ahead
        self.head_size = hidden_size // num_heads
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        self.output = nn.Linear(hidden_size, hidden_size, bias=False)
        self.query_norm = RMSNorm(self.head_size)
        self.key_norm = RMSNorm(self.head_size)
        self.bias = nn.Parameter(torch.zeros(num_heads, ahead + window))

    def forward(self, x: Tensor, is_seen: Tensor | None = None) -> Tensor:
        """Mix `[B, T, D]` over the frames; of those in reach only where bool `[B, T, T]` says so."""
        query, key, value = self._split(x)
        index = torch.arange(x.shape[1], device=x.device)
        age = index[:, None] - index[None, :]
        bias = self.bias[:, age.clamp(-self.ahead, self.window - 1) + self.ahead]
        bias = bias.masked_fill((age < -self.ahead) | (age >= self.window), -torch.inf)
        if is_seen is not None:
            bias = torch.where(is_seen[:, None], bias, -torch.inf)
        return self._mixed(query, key, value, bias)

    def step(self, x: Tensor, cache: WindowCache, layer: int) -> Tensor:
        """The same for the next frame, `[B, 1, D]`, behind those in the cache."""
        query, key, value = self._split(x)
        keys = torch.cat((cache.keys[layer], key), dim=2)[:, :, -self.window :]
        values = torch.cat((cache.values[layer], value), dim=2)[:, :, -self.window :]
        kept = self.window - 1
        cache.keys[layer] = keys[:, :, max(0, keys.shape[2] - kept) :]
        cache.values[layer] = values[:, :, max(0, values.shape[2] - kept) :]
        bias = self.bias[:, : keys.shape[2]].flip(-1)[:, None]
        return self._mixed(query, keys, values, bias)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, length, _ = x.shape
        packed = self.query_key_value(x).view(batch, length, 3, self.num_heads, self.head_size)
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        return self.query_norm(query), self.key_norm(key), value

    def _mixed(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        scores = query @ key.transpose(-1, -2) * self.head_size**-0.5
        weights = (scores.float() + bias).softmax(-1).to(value.dtype)
        return self.output((weights @ value).transpose(1, 2).flatten(2))


class WindowBlock(nn.Module):
    """One pre-norm block: attention over the window, then a gated feed-forward part."""

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        ffn_size: int,
        window: int,
        dropout: float,
        ahead: int = 0,
    ) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(hidden_size)
        self.attention = WindowAttention(hidden_size, num_heads, window, ahead)
        self.ffn_norm = RMSNorm(hidden_size)
        self.ffn = FeedForward(hidden_size, ffn_size)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        cache: WindowCache | None = None,
        layer: int = 0,
        is_seen: Tensor | None = None,
    ) -> Tensor:
        """Map `[B, T, D]` to `[B, T, D]`; with a cache T is 1."""
        normed = self.attention_norm(x)
        if cache is None:
            mixed = self.attention(normed, is_seen)
        else:
            mixed = self.attention.step(normed, cache, layer)
        x = x + self.dropout(mixed)
        return x + self.dropout(self.ffn(self.ffn_norm(x)))


class WindowTransformer(nn.Module):
    """A stack of blocks without a final norm: the heads bring their own.

    Args:
        hidden_size: D.
        num_layers: Blocks.
        num_heads: H, a divisor of D.
        ffn_size: Width inside the feed-forward part.
        window: Frames that a block sees.
        dropout: Dropout on every block's two outputs.
        ahead: Frames that a block sees behind its own; a causal stack, which alone has steps, has none.
    """

    def __init__(
        self,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        ffn_size: int,
        window: int,
        dropout: float = 0.0,
        ahead: int = 0,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            WindowBlock(hidden_size, num_heads, ffn_size, window, dropout, ahead)
            for _ in range(num_layers)
        )

    def forward(
        self, x: Tensor, cache: WindowCache | None = None, is_seen: Tensor | None = None
    ) -> Tensor:
        """Run the stack: `[B, T, D]` from the start of a signal, or the next frame of a cache.

        Args:
            x: `[B, T, D]`, or `[B, 1, D]` with a cache.
            cache: Holds the frames before, and takes this one in.
            is_seen: bool `[B, T, T]`, which frames (last axis) a frame (second) sees of those in reach,
                itself always; all of them if not given. Not for a cache.

        Returns:
            `[B, T, D]`.
        """
        for layer, block in enumerate(self.blocks):
            x = block(x, cache, layer, is_seen)
        return x

    def new_cache(self, batch_size: int) -> WindowCache:
        """An empty cache beside the weights."""
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for module in self.blocks:
            attention: WindowAttention = module.attention  # type: ignore[assignment]
            shape = (batch_size, attention.num_heads, 0, attention.head_size)
            keys.append(attention.output.weight.new_empty(shape))
            values.append(attention.output.weight.new_empty(shape))
        return WindowCache(keys, values)


def initialize_window(module: WindowAttention, num_layers: int) -> None:
    """Draw what is special to this attention: its output, and biases that fall with distance.

    Causal heads begin each with another slope (as in ALiBi, Press et al. 2022): some see the last frames
    only, some nearly the whole window. Where frames ahead are seen, a head begins at the frame itself, one
    at each neighbour, and the fourth sees what is around; more heads repeat this.
    """
    width = module.output.in_features
    init.normal_(module.output.weight, std=(width * 2 * num_layers) ** -0.5)
    head = torch.arange(module.num_heads)
    slopes, peaks = 2.0 ** -(head + 1), torch.zeros_like(head)
    if module.ahead:
        slopes, peaks = _SLOPES[head % len(_SLOPES)], _PEAKS[head % len(_PEAKS)]
    ages = torch.arange(-module.ahead, module.window)
    init.copy_(module.bias, -slopes[:, None] * (ages - peaks[:, None]).abs())
