"""The Transformer of both language models: rotary positions, RMSNorm, SwiGLU, and a static cache.

Pre-norm blocks after LLaMA (Touvron et al. 2023), rotary positions after RoFormer (Su et al. 2021).
The norms can carry a gain per stage, which is what adaptive normalisation comes to when there are
few stages (VALL-E section 4.2.2 uses a linear map of the stage's embedding).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

NORM_EPS = 1e-6


def prefix_lm_mask(is_valid: Tensor, num_prefix: int) -> Tensor:
    """Who attends to whom: the prefix to all of itself, the rest to the prefix and its own past.

    With `num_prefix` 0 this is the causal mask. Padding is seen by itself only (a row without any
    key has no softmax).

    Args:
        is_valid: bool `[B, N]`, False at padding anywhere in the sequence.
        num_prefix: Positions of the prefix, padding included.

    Returns:
        bool `[B, 1, N, N]`, True where the query (third axis) sees the key (last axis).
    """
    index = torch.arange(is_valid.shape[1], device=is_valid.device)
    allowed = index[None, :] <= index[:, None]
    allowed |= (index < num_prefix)[None, :] & (index < num_prefix)[:, None]
    seen = allowed[None] & is_valid[:, None, :]
    return (seen | torch.eye(len(index), dtype=torch.bool, device=index.device))[:, None]


def padding_mask(is_valid: Tensor) -> Tensor:
    """Everyone sees all that is no padding: bool `[B, N]` to `[B, 1, 1, N]`."""
    return is_valid[:, None, None, :]


class KeyValueCache:
    """Keys and values of the past in memory of fixed size; a step writes in place, copies nothing.

    Args:
        num_layers, num_heads, head_size: Shape of the Transformer.
        batch_size: B.
        capacity: Positions that fit.
        device, dtype: Of the keys and values.

    Attributes:
        length: Positions written so far, the same for all items: shorter ones are padded before.
    """

    def __init__(
        self,
        num_layers: int,
        batch_size: int,
        num_heads: int,
        head_size: int,
        capacity: int,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        shape = (num_layers, batch_size, num_heads, capacity, head_size)
        self.keys = torch.empty(shape, device=device, dtype=dtype)
        self.values = torch.empty_like(self.keys)
        self.length = 0

    @property
    def capacity(self) -> int:
        """Positions that fit."""
        return self.keys.shape[3]

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write `[B, H, N, D/H]` behind the past of one layer; views of all of it come back.

        Raises:
            ValueError: If the capacity does not hold the new positions.
        """
        end = self.length + keys.shape[2]
        if end > self.capacity:
            raise ValueError(f"The cache holds {self.capacity} positions, {end} are needed.")
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def fill(self, items: Tensor, past: KeyValueCache) -> None:
        """Begin with the past of some items, bool `[B]`; that of the others is blank, to be masked."""
        self.length = past.length
        for memory, heard in ((self.keys, past.keys), (self.values, past.values)):
            begun = memory[:, :, :, : past.length]
            begun[:, items] = heard[:, :, :, : past.length]
            # whatever lies in new memory, such as NaN, would pass through a mask
            begun[:, ~items] = 0.0

    def repeat(self, count: int) -> KeyValueCache:
        """A cache for `count` continuations of the only item of this one."""
        layers, _, heads, capacity, size = self.keys.shape
        device, dtype = self.keys.device, self.keys.dtype
        wider = KeyValueCache(layers, count, heads, size, capacity, device, dtype)
        wider.length = self.length
        wider.keys[:, :, :, : self.length] = self.keys[:, :, :, : self.length]
        wider.values[:, :, :, : self.length] = self.values[:, :, :, : self.length]
        return wider

    def reorder(self, items: Tensor, start: int = 0) -> None:
        """Let item i continue item `items[i]`; before position `start` all items are the same."""
        changed = torch.nonzero(items != torch.arange(len(items), device=items.device)).squeeze(1)
        if not len(changed):
            return
        for memory in (self.keys, self.values):
            for layer in memory:
                past = layer[:, :, start : self.length]
                past[changed] = past[items[changed]]


def rotation(positions: Tensor, head_size: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary angles.

    Args:
        positions: int64 `[N]` or `[B, N]`.
        head_size: Even; channel i turns together with channel i + head_size / 2.
        theta: Base of the frequencies.

    Returns:
        Two float32 `[…, 1, N, head_size]`, ready to multiply `[B, H, N, head_size]`.
    """
    exponents = torch.arange(0, head_size, 2, device=positions.device, dtype=torch.float32)
    angles = positions[..., None].float() * theta ** (-exponents / head_size)
    angles = torch.cat((angles, angles), dim=-1).unsqueeze(-3)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn the channel pairs of `[B, H, N, head_size]` by the angles of `rotation`."""
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-second, first), dim=-1) * sine


class RMSNorm(nn.Module):
    """Root-mean-square norm whose gain may depend on a stage.

    Args:
        size: D.
        num_stages: 0 for one gain; otherwise each stage has its own, and `forward` needs `stages`.
    """

    def __init__(self, size: int, num_stages: int = 0) -> None:
        super().__init__()
        self.size = size
        self.num_stages = num_stages
        self.weight = nn.Parameter(torch.ones(num_stages, size) if num_stages else torch.ones(size))

    def forward(self, x: Tensor, stages: Tensor | None = None) -> Tensor:
        """Normalise `[B, N, D]`; `stages` is int64 `[B]`."""
        if not self.num_stages:
            # autocast hands over bfloat16 activations; the fused kernel wants the gain alike
            return F.rms_norm(x, (self.size,), self.weight.to(x.dtype), NORM_EPS)
        if stages is None:
            raise ValueError("A stage-conditioned norm needs the stage of every item.")
        return F.rms_norm(x, (self.size,), None, NORM_EPS) * self.weight[stages][:, None]


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions over `scaled_dot_product_attention`."""

    def __init__(self, hidden_size: int, num_heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_size = hidden_size // num_heads
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size, bias=False)
        self.output = nn.Linear(hidden_size, hidden_size, bias=False)
        self.query_norm = RMSNorm(self.head_size) if qk_norm else nn.Identity()
        self.key_norm = RMSNorm(self.head_size) if qk_norm else nn.Identity()

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        mask: Tensor | None,
        is_causal: bool,
        cache: KeyValueCache | None,
        layer: int,
    ) -> Tensor:
        """Mix `[B, N, D]` over N and, with a cache, over its past."""
        batch, length, width = x.shape
        packed = self.query_key_value(x).view(batch, length, 3, self.num_heads, self.head_size)
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        # Rotation runs in float32; autocast's attention wants one type for all three.
        query = rotate(self.query_norm(query), *angles).to(value.dtype)
        key = rotate(self.key_norm(key), *angles).to(value.dtype)
        if cache is not None:
            key, value = cache.extend(layer, key, value)
        if mask is not None and mask.is_floating_point():
            mask = mask.to(query.dtype)
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=is_causal
        )
        return self.output(mixed.transpose(1, 2).reshape(batch, length, width))


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020): a gated linear unit with a SiLU gate."""

    def __init__(self, hidden_size: int, ffn_size: int) -> None:
        super().__init__()
        self.gate_and_value = nn.Linear(hidden_size, 2 * ffn_size, bias=False)
        self.output = nn.Linear(ffn_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[…, D]` to `[…, D]`."""
        gate, value = self.gate_and_value(x).chunk(2, dim=-1)
        return self.output(F.silu(gate) * value)


class Block(nn.Module):
    """One pre-norm block: attention, then feed-forward, each added to its input."""

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        ffn_size: int,
        dropout: float,
        qk_norm: bool,
        num_stages: int,
    ) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(hidden_size, num_stages)
        self.attention = Attention(hidden_size, num_heads, qk_norm)
        self.ffn_norm = RMSNorm(hidden_size, num_stages)
        self.ffn = FeedForward(hidden_size, ffn_size)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        mask: Tensor | None,
        is_causal: bool,
        stages: Tensor | None,
        cache: KeyValueCache | None,
        layer: int,
    ) -> Tensor:
        """Map `[B, N, D]` to `[B, N, D]`."""
        normed = self.attention_norm(x, stages)
        x = x + self.dropout(self.attention(normed, angles, mask, is_causal, cache, layer))
        return x + self.dropout(self.ffn(self.ffn_norm(x, stages)))


class Transformer(nn.Module):
    """A stack of blocks and a final norm, over embeddings that the caller makes.

    Args:
        hidden_size: D.
        num_layers: Blocks.
        num_heads: Heads; D / heads is even.
        ffn_size: Width inside the feed-forward part.
        dropout: Dropout on every block's two outputs.
        qk_norm: Whether queries and keys are normalised per head.
        rope_theta: Base of the rotary frequencies.
        num_stages: 0, or the number of stages that the norms tell apart.
    """

    def __init__(
        self,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        ffn_size: int,
        *,
        dropout: float = 0.0,
        qk_norm: bool = True,
        rope_theta: float = 10_000.0,
        num_stages: int = 0,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_size = hidden_size // num_heads
        self.rope_theta = rope_theta
        self.blocks = nn.ModuleList(
            Block(hidden_size, num_heads, ffn_size, dropout, qk_norm, num_stages)
            for _ in range(num_layers)
        )
        self.norm = RMSNorm(hidden_size, num_stages)
        # Both names are transformers': `activation_checkpointing_enable` sets them.
        self.gradient_checkpointing = False
        self._gradient_checkpointing_func: Callable[..., Tensor] = checkpoint

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        *,
        mask: Tensor | None = None,
        is_causal: bool = False,
        stages: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Run the stack.

        Args:
            x: `[B, N, D]`.
            positions: int64 `[N]` or `[B, N]`; only differences matter.
            mask: bool, True where a query sees a key, or float, what is added to the scores (-inf
                hides); broadcast to `[B, 1, N, past + N]`.
            is_causal: Use the causal mask instead; not together with a cache that has a past.
            stages: int64 `[B]`, for stage-conditioned norms.
            cache: Holds the past, and takes the new positions in.

        Returns:
            `[B, N, D]`, normalised.
        """
        if is_causal and cache is not None and cache.length:
            raise ValueError("Behind a cached past give an explicit mask.")
        angles = rotation(positions, self.head_size, self.rope_theta)
        for layer, block in enumerate(self.blocks):
            given = (x, angles, mask, is_causal, stages, cache, layer)
            if self.gradient_checkpointing and self.training:
                x = self._gradient_checkpointing_func(block, *given)
            else:
                x = block(*given)
        if cache is not None:
            cache.length += x.shape[1]
        return self.norm(x, stages)

    def new_cache(self, batch_size: int, capacity: int) -> KeyValueCache:
        """An empty cache of this stack's shape, beside its weights."""
        weight = self.norm.weight
        return KeyValueCache(
            len(self.blocks),
            batch_size,
            self.num_heads,
            self.head_size,
            capacity,
            weight.device,
            weight.dtype,
        )
