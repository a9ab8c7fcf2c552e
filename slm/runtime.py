"""The autoregressive model's step as a few operators over weights laid out once.

The same function as `Transformer.forward` for one position behind a cached past, and as the heads of
`AutoregressiveModel`. Gains of norms are folded into the matrices behind them, those of queries and
keys into the rotary tables; every result is written where the next operator reads it. Generation on
the CPU uses it by itself (`frame_decoder.py`); training never does.
"""

from __future__ import annotations

import math
import warnings
from typing import cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .autoregressive import AutoregressiveModel, BookHead
from .projections import Precision, Projection, new_room, projection
from .transformer import NORM_EPS, Block, KeyValueCache, RMSNorm, Transformer, rotation


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
        mixed = F.scaled_dot_product_attention(
            query, keys.narrow(2, 0, end), values.narrow(2, 0, end), attn_mask=mask
        )
        x.add_(self.mix.rows(mixed.reshape(x.size(0), -1), room))
        wide = self.gate_and_value.normed(padded, x, room)
        size = self.ffn_size
        hidden = F.silu(wide.narrow(1, 0, size)).mul_(wide.narrow(1, size, size))
        x.add_(self.output.rows(hidden, ffn_room))


class _Layers(nn.Module):
    """The steps of all blocks, and the last norm.

    Args:
        layers: One a block.
        turn_gains: What cosine and sine are multiplied by, two `[layers, 1, 2, 1, head_size]`.
        gain: `[D]`, of the last norm.
    """

    def __init__(
        self, layers: list[_Layer], turn_gains: tuple[Tensor, Tensor], gain: Tensor
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.kept, self.swapped = turn_gains
        self.gain = gain

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
    ) -> Tensor:
        """State `[B, D]` of the position `end - 1`; arguments as in `Stepper.step` and `_Layer`."""
        x.copy_(given)
        cosines = (self.kept * angles[0].index_select(0, positions)).unbind(0)
        sines = (self.swapped * angles[1].index_select(0, positions)).unbind(0)
        # TorchScript unrolls a loop over modules, and knows neither zip nor strict.
        i = 0
        for layer in self.layers:
            turn = cosines[i], sines[i]
            layer(padded, x, rooms, turn, (past[0][i], past[1][i]), end, epsilon, mask)
            i += 1
        return torch.div(x, torch.linalg.vector_norm(padded, 2.0, [-1], True)).mul_(self.gain)


class _Head(nn.Module):
    """One book's head."""

    def __init__(self, head: BookHead, precision: str) -> None:
        super().__init__()
        self.hidden = _fold(head.hidden, head.norm, precision)
        self.logits = _plain(head.logits, precision)

    def forward(self, padded: Tensor, x: Tensor, room: Tensor) -> Tensor:
        """Logits `[B, classes]` of states `[B, D]`."""
        return self.logits.rows(F.gelu(self.hidden.normed(padded, x, room)), room)


def _compiled(module: nn.Module) -> nn.Module:
    """The module without Python between its operators, where torch still has TorchScript.

    Half of an int8 step's time was Python's. Torch means to drop TorchScript one day; the module
    runs as it is then.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            script: nn.Module = torch.jit.script(module)
    except (AttributeError, NotImplementedError, RuntimeError):
        return module
    return script


class Runtime:
    """Weights of one model, laid out for steps at one precision; shared by all that generate.

    Args:
        model: The trained model, in float32 on the CPU.
        precision: `fp32`, `bf16` or `int8`.

    Attributes:
        num_bytes: Bytes of weights that one step reads, heads of all books included.
    """

    @torch.no_grad()
    def __init__(self, model: AutoregressiveModel, precision: Precision) -> None:
        decoder = model.decoder
        self.num_heads, self.head_size = decoder.num_heads, decoder.head_size
        self.size, self.theta = model.config.hidden_size, decoder.rope_theta
        self.ffn_size, self.has_qk_norm = model.config.ffn_size, model.config.qk_norm
        layers = [_Layer(cast(Block, block), self.ffn_size, precision) for block in decoder.blocks]
        heads = [_Head(cast(BookHead, head), precision) for head in model.heads]
        self.num_bytes = _bytes_of([*layers, *heads])
        gain = decoder.norm.weight.detach() * math.sqrt(self.size)
        self.layers = _compiled(_Layers(layers, self._turn_gains(decoder), gain).eval())
        self.heads = [_compiled(head.eval()) for head in heads]

    def _turn_gains(self, decoder: Transformer) -> tuple[Tensor, Tensor]:
        """What cosine and sine are multiplied by: two `[layers, 1, 2, 1, head_size]`."""
        kept, swapped = [], []
        half = self.head_size // 2
        for block in decoder.blocks:
            attention = cast(Block, block).attention
            gains = torch.ones(2, self.head_size)
            if self.has_qk_norm:
                norms = (attention.query_norm, attention.key_norm)
                gains = torch.stack([cast(RMSNorm, norm).weight for norm in norms])
                gains = gains * math.sqrt(self.head_size)
            kept.append(gains)
            swapped.append(gains.roll(half, -1))
        sign = torch.ones(self.head_size)
        sign[:half] = -1
        together = torch.stack(kept), torch.stack(swapped) * sign
        return together[0][:, None, :, None].detach(), together[1][:, None, :, None].detach()


def _bytes_of(parts: list[nn.Module]) -> int:
    products = [m for part in parts for m in part.modules() if isinstance(m, Projection)]
    return sum(product.num_bytes for product in products)


class Stepper:
    """Steps of a batch over a `Runtime`, with memory of its own; not for two threads at once.

    Args:
        runtime: The weights.
        batch_size: B.
        capacity: Positions that the batch may come to.
    """

    def __init__(self, runtime: Runtime, batch_size: int, capacity: int) -> None:
        self.runtime = runtime
        self.batch_size = batch_size
        size = runtime.size
        # Behind each row the norm's epsilon, as one more number whose square joins the sum.
        self.padded = torch.full((batch_size, size + 1), math.sqrt(size * NORM_EPS))
        self.x = self.padded[:, :size]
        self.rooms = new_room(batch_size, size), new_room(batch_size, runtime.ffn_size)
        self.head_epsilon = torch.tensor(math.sqrt(runtime.head_size * NORM_EPS))
        angles = rotation(torch.arange(capacity), runtime.head_size, runtime.theta)
        cosine, sine = (turn[0, :, None, None] for turn in angles)
        self.angles = cosine, sine  # [N, 1, 1, head_size]

    def step(
        self, x: Tensor, positions: Tensor, mask: Tensor | None, past: KeyValueCache
    ) -> Tensor:
        """State of one more position.

        Args:
            x: `[B, D]`.
            positions: int64 `[B]`.
            mask: bool, True where a key is seen, `[B, 1, 1, past + 1]`; None where all are.
            past: Is read, and takes the position in.

        Returns:
            `[B, D]`, normalised, as `Transformer.forward` gives it.

        Raises:
            ValueError: If the cache is full.
        """
        runtime = self.runtime
        end = past.length + 1
        if end > past.capacity:
            raise ValueError(f"The cache holds {past.capacity} positions, {end} are needed.")
        state: Tensor = runtime.layers(
            x,
            self.padded,
            self.x,
            self.rooms,
            self.angles,
            positions,
            (past.keys, past.values),
            end,
            self.head_epsilon,
            mask,
        )
        past.length = end
        return state

    def logits(self, book: int, state: Tensor) -> Tensor:
        """Logits of one book from the state `[B, D]` with the books before it: `[B, classes]`."""
        self.x.copy_(state)
        logits: Tensor = self.runtime.heads[book](self.padded, self.x, self.rooms[0])
        return logits


_Fingerprint = tuple[tuple[int, int], ...]
_precisions: WeakKeyDictionary[AutoregressiveModel, Precision] = WeakKeyDictionary()
_runtimes: WeakKeyDictionary[AutoregressiveModel, tuple[_Fingerprint, Precision, Runtime]] = (
    WeakKeyDictionary()
)


def set_precision(model: AutoregressiveModel, precision: Precision) -> None:
    """Choose the precision of a model's weights in generation; `fp32` unless it is chosen.

    The model itself, its prompts' pass and its training stay in their own precision.

    Args:
        model: Any autoregressive model.
        precision: `fp32`, `bf16` or `int8`.

    Raises:
        ConfigError: If there is no such precision, or not on this processor.
    """
    projection(torch.zeros(1, 1), None, precision)
    _precisions[model] = precision


def usual_precision() -> Precision:
    """The precision of speaking where none is chosen: int8 on x86 with VNNI, elsewhere fp32.

    Without VNNI rows are rounded more coarsely, and what that costs was not measured.
    """
    has_products = torch.backends.quantized.engine in ("x86", "fbgemm")
    return "int8" if has_products and torch.cpu._is_vnni_supported() else "fp32"


def precision_of(model: AutoregressiveModel) -> Precision:
    """The precision that `set_precision` chose for a model."""
    return _precisions.get(model, "fp32")


def runtime_of(model: AutoregressiveModel) -> Runtime | None:
    """The weights of a model laid out for steps; made anew after they have changed.

    Returns:
        None where only the module itself will do: on another device, in another type, while it is
        trained, or with layers that someone has replaced (LoRA).
    """
    if model.training or not _is_plain(model):
        return None
    precision = precision_of(model)
    fingerprint = tuple((p.data_ptr(), _version(p)) for p in model.parameters())
    made = _runtimes.get(model)
    if made is None or made[:2] != (fingerprint, precision):
        made = fingerprint, precision, Runtime(model, precision)
        _runtimes[model] = made
    return made[2]


def _version(parameter: Tensor) -> int:
    return 0 if parameter.is_inference() else parameter._version


def _is_plain(model: AutoregressiveModel) -> bool:
    parts = (*model.decoder.modules(), *model.heads.modules())
    known = (Transformer, nn.ModuleList, RMSNorm, nn.Linear, nn.Identity, nn.Dropout)
    ours = (*known, Block, BookHead)
    weights = [p for part in (model.decoder, model.heads) for p in part.parameters()]
    if any(p.device.type != "cpu" or p.dtype != torch.float32 for p in weights):
        return False
    if any(type(m).__module__ != Block.__module__ and type(m) not in ours for m in parts):
        return False
    return not any(m._forward_hooks or m._forward_pre_hooks for m in parts)
