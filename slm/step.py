"""The autoregressive model's step as modules over weights laid out once, which TorchScript compiles.

The same function as `Transformer.forward` for one position behind a cached past, as the heads of
`AutoregressiveModel`, and as drawing a frame's codes from these. Gains of norms are folded into the
matrices behind them, those of queries and keys into the rotary tables; every result is written where the
next operator reads it.
"""

from __future__ import annotations

import math
import warnings
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .autoregressive import BookHead
from .guidance import guided
from .projections import Projection, projection
from .sampling import DRAWS_PER_CODE, draw_top, log_probability
from .transformer import Block, RMSNorm, Transformer


def _fold(linear: nn.Module, norm: nn.Module, precision: str) -> Projection:
    """A linear layer behind a norm, as a product of rows that are only divided by their length."""
    linear, norm = cast(nn.Linear, linear), cast(RMSNorm, norm)
    gain = norm.weight * math.sqrt(norm.size)
    return projection(linear.weight * gain, linear.bias, precision)


def _plain(linear: nn.Module, precision: str) -> Projection:
    linear = cast(nn.Linear, linear)
    return projection(linear.weight, linear.bias, precision)


class _Layer(nn.Module):
    """The step of one block."""

    def __init__(self, block: Block, ffn_size: int, precision: str) -> None:
        super().__init__()
        attention, ffn = block.attention, block.ffn
        self.num_heads, self.head_size = attention.num_heads, attention.head_size
        self.ffn_size = ffn_size
        self.has_qk_norm = isinstance(attention.query_norm, RMSNorm)
        self.query_key_value = _fold(attention.query_key_value, block.attention_norm, precision)
        self.mix = _plain(attention.output, precision)
        self.gate_and_value = _fold(ffn.gate_and_value, block.ffn_norm, precision)
        self.output = _plain(ffn.output, precision)

    def forward(
        self,
        padded: Tensor,
        x: Tensor,
        rooms: tuple[Tensor, Tensor],
        turn: tuple[Tensor, Tensor],
        past: tuple[Tensor, Tensor],
        end: int,
        epsilon: Tensor,
        mask: Tensor | None,
        starts: list[int],
    ) -> None:
        """Add the block's two outputs to `x`, and the position to `past`."""
        keys, values = past
        room, ffn_room = rooms
        packed = self.query_key_value.normed(padded, x, room)
        packed = packed.view(-1, 3, self.num_heads, self.head_size)
        turning = packed.narrow(1, 0, 2)
        if self.has_qk_norm:
            length = torch.linalg.vector_norm(turning, 2.0, [-1], True)
            turning = turning.div_(length.hypot_(epsilon))
        half = self.head_size // 2
        turned = torch.mul(turning, turn[0]).addcmul_(turning.roll([half], [-1]), turn[1])
        keys.select(2, end - 1).copy_(turned.select(1, 1))
        values.select(2, end - 1).copy_(packed.select(1, 2))
        query = turned.select(1, 0).unsqueeze(2)
        if len(starts) == 0:
            mixed = F.scaled_dot_product_attention(
                query, keys.narrow(2, 0, end), values.narrow(2, 0, end), attn_mask=mask
            )
        else:
            rows: list[Tensor] = []
            for row, start in enumerate(starts):
                # what an item cannot see is not read either
                key = keys.narrow(0, row, 1).narrow(2, start, end - start)
                value = values.narrow(0, row, 1).narrow(2, start, end - start)
                rows.append(F.scaled_dot_product_attention(query.narrow(0, row, 1), key, value))
            mixed = torch.cat(rows)
        x.add_(self.mix.rows(mixed.reshape(x.size(0), -1), room))
        wide = self.gate_and_value.normed(padded, x, room)
        size = self.ffn_size
        hidden = F.silu(wide.narrow(1, 0, size)).mul_(wide.narrow(1, size, size))
        x.add_(self.output.rows(hidden, ffn_room))


def _turn_gains(decoder: Transformer) -> tuple[Tensor, Tensor]:
    """What cosine and sine are multiplied by: two `[layers, 1, 2, 1, head_size]`."""
    kept, swapped = [], []
    size, half = decoder.head_size, decoder.head_size // 2
    for block in decoder.blocks:
        attention = cast(Block, block).attention
        gains = torch.ones(2, size)
        if isinstance(attention.query_norm, RMSNorm):
            norms = (attention.query_norm, attention.key_norm)
            gains = torch.stack([cast(RMSNorm, norm).weight for norm in norms]) * math.sqrt(size)
        kept.append(gains)
        swapped.append(gains.roll(half, -1))
    sign = torch.ones(size)
    sign[:half] = -1
    together = torch.stack(kept), torch.stack(swapped) * sign
    return together[0][:, None, :, None].detach(), together[1][:, None, :, None].detach()


class StepLayers(nn.Module):
    """The steps of all blocks, and the last norm.

    Args:
        decoder: The trained Transformer.
        ffn_size: Width of its feed-forward layers.
        precision: `fp32`, `bf16` or `int8`.
    """

    def __init__(self, decoder: Transformer, ffn_size: int, precision: str) -> None:
        super().__init__()
        layers = [_Layer(cast(Block, block), ffn_size, precision) for block in decoder.blocks]
        self.layers = nn.ModuleList(layers)
        self.kept, self.swapped = _turn_gains(decoder)
        self.gain = decoder.norm.weight.detach() * math.sqrt(decoder.norm.size)

    def forward(
        self,
        given: Tensor,
        padded: Tensor,
        x: Tensor,
        rooms: tuple[Tensor, Tensor],
        angles: tuple[Tensor, Tensor],
        positions: Tensor,
        past: tuple[Tensor, Tensor],
        end: int,
        epsilon: Tensor,
        mask: Tensor | None,
        starts: list[int],
    ) -> Tensor:
        """State `[B, D]` of the position `end - 1`; arguments as in `Stepper.step` and `_Layer`."""
        x.copy_(given)
        cosines = (self.kept * angles[0].index_select(0, positions)).unbind(0)
        sines = (self.swapped * angles[1].index_select(0, positions)).unbind(0)
        # TorchScript unrolls a loop over modules, and knows neither zip nor strict.
        i = 0
        for layer in self.layers:
            turn = cosines[i], sines[i]
            layer(padded, x, rooms, turn, (past[0][i], past[1][i]), end, epsilon, mask, starts)
            i += 1
        return torch.div(x, torch.linalg.vector_norm(padded, 2.0, [-1], True)).mul_(self.gain)


class StepHead(nn.Module):
    """One book's head."""

    def __init__(self, head: BookHead, precision: str) -> None:
        super().__init__()
        self.hidden = _fold(head.hidden, head.norm, precision)
        self.logits = _plain(head.logits, precision)

    def forward(self, padded: Tensor, x: Tensor, room: Tensor) -> Tensor:
        """Logits `[B, classes]` of states `[B, D]`."""
        hidden = self.hidden.normed(padded, x, room)
        # Transposed, because oneDNN, which takes contiguous tensors only, is slow at so few numbers.
        return self.logits.rows(F.gelu(hidden.t()).t(), room)


class StepBooks(nn.Module):
    """All codes of a frame, one book after the other.

    Args:
        heads: One a book.
        chosen: `[(books - 1) x V, D]`, what a chosen code tells the books after it.
        codebook_size: V.
    """

    def __init__(self, heads: list[nn.Module], chosen: Tensor, codebook_size: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)
        self.chosen = chosen
        self.codebook_size = codebook_size
        self.num_draws = DRAWS_PER_CODE  # TorchScript reads no globals

    def forward(
        self,
        given: Tensor,
        padded: Tensor,
        x: Tensor,
        room: Tensor,
        uniforms: Tensor,
        scale: Tensor | None,
        counts: list[int],
        temperatures: list[float],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `FrameDecoder.codes`; `padded`, `x` and `room` as in `_Layer`."""
        x.copy_(given)
        codes: list[Tensor] = []
        raw: list[Tensor] = []
        mixed: list[Tensor] = []
        book = 0
        for head in self.heads:
            logits = head(padded, x, room)
            raw.append(logits)
            if scale is not None:
                logits = guided(logits, scale)
            mixed.append(logits)
            uniform = uniforms.select(1, self.num_draws * book)
            code = draw_top(logits, uniform, counts[book], temperatures[book])
            codes.append(code)
            if book + 1 < len(self.heads):
                told = F.embedding(code + book * self.codebook_size, self.chosen)
                x.view(-1, uniforms.size(0), x.size(1)).add_(told)  # both halves, with guidance
            book += 1
        drawn = torch.stack(codes, 1)
        chance = log_probability(torch.stack(mixed, 1), drawn)
        if scale is None:
            return drawn, chance, torch.zeros_like(chance)
        own, other = log_probability(torch.stack(raw, 1), torch.cat((drawn, drawn))).chunk(2)
        return drawn, chance, own - other


def compiled(module: nn.Module) -> nn.Module:
    """The module without Python between its operators, where torch still has TorchScript.

    Half of an int8 step's time was Python's. Torch means to drop TorchScript one day; the module
    runs as it is then.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            script: nn.Module = torch.jit.script(module.eval())
    except (AttributeError, NotImplementedError, RuntimeError):
        return module.eval()
    return script
