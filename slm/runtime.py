"""A model's weights laid out for steps (`step.py`), at one precision, and the steps of a batch over them.

Generation on the CPU uses it by itself (`frame_decoder.py`); training never does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from .autoregressive import AutoregressiveModel, BookHead
from .projections import Precision, Projection, new_room, projection
from .step import StepBooks, StepHead, StepLayers, compiled
from .transformer import NORM_EPS, Block, KeyValueCache, RMSNorm, Transformer, rotation


class Runtime:
    """Weights of one model, laid out for steps at one precision; shared by all that generate.

    Args:
        model: The trained model, in float32 on the CPU.
        precision: `fp32`, `bf16` or `int8`.

    Attributes:
        num_bytes: Bytes of weights that one step reads, heads of all books included.
        prompts: Keys and values of the last prompts by a hash of what the model read (`frame_decoder.py`).
    """

    @torch.no_grad()
    def __init__(self, model: AutoregressiveModel, precision: Precision) -> None:
        decoder = model.decoder
        self.num_heads, self.head_size = decoder.num_heads, decoder.head_size
        self.size, self.theta = model.config.hidden_size, decoder.rope_theta
        self.ffn_size = model.config.ffn_size
        layers = StepLayers(decoder, self.ffn_size, precision)
        heads = [StepHead(cast(BookHead, head), precision) for head in model.heads]
        self.num_bytes = _bytes_of([layers, *heads])
        self.prompts: dict[bytes, KeyValueCache] = {}
        self.layers = compiled(layers)
        self.heads = [compiled(head) for head in heads]
        self.books: nn.Module | None = None
        if model.uses_pointer:  # else the first book can end the speech, which is no code to embed
            width = model.config.hidden_size
            chosen = model.chosen.table.weight if len(heads) > 1 else torch.zeros(1, width)
            books = StepBooks(self.heads, chosen.detach(), model.config.codebook_size)
            self.books = compiled(books)


def _bytes_of(parts: Sequence[nn.Module]) -> int:
    products = [m for part in parts for m in part.modules() if isinstance(m, Projection)]
    return sum(product.num_bytes for product in products)


class Stepper:
    """Steps of a batch over a `Runtime`, with memory of its own; not for two threads at once.

    Args:
        runtime: The weights.
        batch_size: B.
        capacity: Positions that the batch may come to.
        one_item: Whether all rows are one utterance's, so that they may be rounded in one range.
    """

    def __init__(
        self, runtime: Runtime, batch_size: int, capacity: int, one_item: bool = False
    ) -> None:
        self.runtime = runtime
        self.batch_size = batch_size
        size = runtime.size
        # Behind each row the norm's epsilon, as one more number whose square joins the sum.
        self.padded = torch.full((batch_size, size + 1), math.sqrt(size * NORM_EPS))
        self.x = self.padded[:, :size]
        rows = 0 if one_item or batch_size == 1 else batch_size
        self.rooms = new_room(rows, size), new_room(rows, runtime.ffn_size)
        self.head_epsilon = torch.tensor(math.sqrt(runtime.head_size * NORM_EPS))
        angles = rotation(torch.arange(capacity), runtime.head_size, runtime.theta)
        cosine, sine = (turn[0, :, None, None] for turn in angles)
        self.angles = cosine, sine  # [N, 1, 1, head_size]

    def step(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        past: KeyValueCache,
        starts: Sequence[int] = (),
    ) -> Tensor:
        """State of one more position.

        Args:
            x: `[B, D]`.
            positions: int64 `[B]`.
            mask: bool, True where a key is seen, `[B, 1, 1, past + 1]`; None where all are.
            past: Is read, and takes the position in.
            starts: First key that each item sees, if it sees all after it; takes the place of the mask.

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
            list(starts),
        )
        past.length = end
        return state

    def logits(self, book: int, state: Tensor) -> Tensor:
        """Logits of one book from the state `[B, D]` with the books before it: `[B, classes]`."""
        self.x.copy_(state)
        logits: Tensor = self.runtime.heads[book](self.padded, self.x, self.rooms[0])
        return logits

    def codes(
        self,
        state: Tensor,
        uniforms: Tensor,
        scale: Tensor | None,
        top_k: Sequence[tuple[int, float]],
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """Codes of a whole frame; arguments and results as of `FrameDecoder.codes`."""
        if self.runtime.books is None:
            return None
        counts, temperatures = zip(*top_k, strict=True)
        drawn: tuple[Tensor, Tensor, Tensor] = self.runtime.books(
            state,
            self.padded,
            self.x,
            self.rooms[0],
            uniforms,
            scale,
            list(counts),
            list(temperatures),
        )
        return drawn


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
