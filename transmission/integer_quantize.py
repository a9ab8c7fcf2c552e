"""From a trained model to its integer twin: int8 weights, one multiplier a row.

Gains of norms go into the weights behind them, logits become base-2 logarithms, and everything is
rounded once. No data is looked at: norms bound the activations, whose 20 bits are no loss; what the
rounding of the weights costs is measured (docs/lmcodec.md).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import CorruptWeights
from .frame_model import FrameModel
from .integer_arithmetic import LIMIT, ONE, SCALE_BITS
from .integer_masked import IntegerMaskedModel
from .integer_model import IntegerFrameModel
from .integer_network import GAIN_BITS
from .masked_model import MaskedModel
from .window_transformer import WindowBlock

_LARGEST = 127


class _Writer:
    """Tensors as they are rounded, by name."""

    def __init__(self) -> None:
        self.tensors: dict[str, NDArray[Any]] = {}

    def matrix(self, name: str, weight: Tensor) -> None:
        """Round `[D_out, D_in]` to int8, each row by its largest value."""
        rows = weight.detach().double().cpu()
        largest = rows.abs().amax(1)
        scale = (largest / _LARGEST * (1 << SCALE_BITS)).ceil()
        if not bool(torch.isfinite(rows).all()) or float(scale.max()) >= 1 << SCALE_BITS:
            raise CorruptWeights(
                f"{name} holds weights that are not finite or above {_LARGEST}; train again."
            )
        rounded = (rows * (1 << SCALE_BITS) / scale.clamp(min=1)[:, None]).round()
        self.tensors[f"{name}.weight"] = rounded.clamp(-_LARGEST, _LARGEST).to(torch.int8).numpy()
        self.tensors[f"{name}.scale"] = scale.to(torch.int32).numpy()

    def vector(self, name: str, values: Tensor, unit: float = ONE, limit: int = LIMIT) -> None:
        """Round to fixed point."""
        rounded = (values.detach().double().cpu() * unit).round().clamp(-limit, limit)
        self.tensors[name] = rounded.to(torch.int32).numpy()


@torch.no_grad()
def quantize_masked(model: MaskedModel) -> IntegerMaskedModel:
    """The integer twin of the fine path of a trained masked model.

    Args:
        model: The model.

    Returns:
        A model of the profile `integer-masked-1`; its distributions are near the given one's.

    Raises:
        CorruptWeights: If a weight is not finite or absurdly large.
    """
    write = _Writer()
    write.matrix("codes", model.codes.table.weight)
    weight, unknown = model.given.weight, model.unknown.weight
    known = model.num_given * model.config.code_size
    write.vector("start", weight[:, known:] @ unknown[model.num_given :].flatten())
    write.vector("unknown", unknown[: model.num_given].flatten())
    write.matrix("given", weight[:, :known])
    for layer, block in enumerate(model.encoder.blocks):
        _write_block(write, f"blocks.{layer}", block)  # type: ignore[arg-type]
    _write_levels(write, model.chosen, model.heads[model.num_given :])
    return IntegerMaskedModel(model.config, write.tensors)


@torch.no_grad()
def quantize(model: FrameModel) -> IntegerFrameModel:
    """The integer twin of a trained model.

    Args:
        model: An `EntropyModel` or a `FineModel`.

    Returns:
        A model of the profile `integer-1`; its distributions are near the given one's.

    Raises:
        CorruptWeights: If a weight is not finite or absurdly large.
    """
    write = _Writer()
    write.matrix("codes", model.codes.table.weight)
    write.vector("start", model.start.weight[0])
    write.matrix("previous", model.previous.weight)
    if model.num_given:
        write.matrix("given", model.given.weight)
    for layer, block in enumerate(model.decoder.blocks):
        _write_block(write, f"blocks.{layer}", block)  # type: ignore[arg-type]
    _write_levels(write, model.chosen, model.heads)
    return IntegerFrameModel(model.config, write.tensors)


def _write_block(write: _Writer, name: str, block: WindowBlock) -> None:
    attention, ffn = block.attention, block.ffn
    gained = attention.query_key_value.weight * block.attention_norm.weight
    write.matrix(f"{name}.query_key_value", gained)
    write.matrix(f"{name}.output", attention.output.weight)
    gain = attention.query_norm.weight * attention.key_norm.weight  # type: ignore[operator]
    gain = gain * (attention.head_size**-0.5 * math.log2(math.e))
    write.vector(f"{name}.gain", gain, 1 << GAIN_BITS, 1 << (GAIN_BITS + 4))
    write.vector(f"{name}.bias", attention.bias * math.log2(math.e))
    write.matrix(f"{name}.gate_and_value", ffn.gate_and_value.weight * block.ffn_norm.weight)
    write.matrix(f"{name}.ffn_output", ffn.output.weight)


def _write_levels(write: _Writer, told: nn.ModuleList, heads: nn.ModuleList) -> None:
    for level, chosen in enumerate(told):
        write.matrix(f"chosen.{level}", chosen.weight)  # type: ignore[arg-type]
    for level, head in enumerate(heads):
        _write_head(write, f"heads.{level}", head)


def _write_head(write: _Writer, name: str, head: nn.Module) -> None:
    write.matrix(f"{name}.hidden", head.hidden.weight * head.norm.weight)  # type: ignore
    write.vector(f"{name}.hidden.bias", head.hidden.bias)  # type: ignore
    write.matrix(f"{name}.logits", head.logits.weight * math.log2(math.e))  # type: ignore
    write.vector(f"{name}.logits.bias", head.logits.bias * math.log2(math.e))  # type: ignore
