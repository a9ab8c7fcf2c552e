"""How weights lie in a file: float32, half precision, or 8 bits a weight. They run in float32 from all three.

In `int8` every matrix holds whole numbers in [-127, 127] and beside it, under its name with `.int8_scale`,
one factor a row; biases, gains and whatever else is small stay in half precision. What that costs a language
model is in docs/performance.md: its int8 products round in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import CorruptWeights

Storage = Literal["float32", "half", "int8"]
STORAGES: tuple[str, ...] = get_args(Storage)

_SCALE = ".int8_scale"
_LEVELS = 127
_SMALLEST = 1e-30
_FEWEST_COLUMNS = 16  # below, the factors would be a good part of the bytes


def round_channels(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest int8 weights `[N, …]` in [-127, 127], and the float32 scale `[N]` of each row."""
    scale = weight.abs().flatten(1).amax(1).clamp_min(_SMALLEST) / _LEVELS
    rows = scale.unflatten(0, (-1, *(1 for _ in weight.shape[1:])))
    return (weight / rows).round().to(torch.int8), scale


def stored(tensors: Mapping[str, Tensor], storage: Storage) -> dict[str, Tensor]:
    """The tensors of a file: those of a model, and with `int8` their scales."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            found[name] = tensor.contiguous()
        elif storage == "int8" and tensor.dim() > 1 and tensor[0].numel() >= _FEWEST_COLUMNS:
            found[name], found[name + _SCALE] = round_channels(tensor.detach().float())
        else:
            found[name] = tensor.to(torch.float32 if storage == "float32" else torch.float16)
    return {name: tensor.contiguous() for name, tensor in found.items()}


def restored(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors of a model from those of a file, matrices of 8 bits as float32.

    Raises:
        CorruptWeights: If a scale is of no matrix, or does not fit it.
    """
    found = {name: tensor for name, tensor in tensors.items() if not name.endswith(_SCALE)}
    for name in set(tensors) - set(found):
        scale, weight = tensors[name], found.get(name.removesuffix(_SCALE))
        if weight is None or weight.dtype != torch.int8 or weight.dim() < 2:
            raise CorruptWeights(
                f"{where}: {name} scales no matrix of 8 bits; export the model again."
            )
        if scale.shape != weight.shape[:1] or not bool(torch.isfinite(scale).all()):
            raise CorruptWeights(
                f"{where}: {name} is not one finite factor for each of {weight.shape[0]} rows; "
                "restore the file."
            )
        rows = scale.float().unflatten(0, (-1, *(1 for _ in weight.shape[1:])))
        found[name.removesuffix(_SCALE)] = weight.float() * rows
    return found
