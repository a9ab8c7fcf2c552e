"""Matrix products of a few rows, laid out once from trained weights: float32, bfloat16 or int8.

A step of generation multiplies one row an item by every matrix of the model, so it waits for memory:
weights of a quarter of the bytes are read in a quarter of the time. Int8 weights have a scale an output
channel. Activations are rounded to 8 bits on the way; sums are exact integers. A row alone is rounded
between its least and largest value. In a batch, where the kernel knows one range for all, each row is
first divided by its own largest magnitude, so that no item depends on its neighbours.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError
from ..tokenizer.prepared import fused_linear

Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS: tuple[str, ...] = get_args(Precision)

_PINNED = 2  # columns that hold 1 and -1: the range the kernel finds is then the same for all rows
_LEVELS = 127
_SMALLEST = torch.finfo(torch.float32).tiny


class Room:
    """Memory for the rounded rows of one width; one thread's, one batch's.

    Args:
        batch_size: B.
        size: Width of the rows.
    """

    def __init__(self, batch_size: int, size: int) -> None:
        self.rows = torch.zeros(batch_size, size + _PINNED)
        self.rows[:, size], self.rows[:, size + 1] = 1.0, -1.0
        self.values = self.rows[:, :size]


class Projection:
    """`x @ weight.T + bias` in float32, for rows as they are or behind an RMS norm.

    Args:
        weight: float32 `[N, D]`; a norm's gain belongs into it.
        bias: float32 `[N]` or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight = weight.contiguous()
        self.bias = bias

    @property
    def num_bytes(self) -> int:
        """What a product reads of weights."""
        return self.weight.numel() * self.weight.element_size()

    def rows(self, x: Tensor, room: Room) -> Tensor:
        """Map `[B, D]` to `[B, N]`."""
        return F.linear(x, self.weight, self.bias)

    def normed(self, padded: Tensor, x: Tensor, room: Room) -> Tensor:
        """Map rows divided by their root of the sum of squares.

        Args:
            padded: `[B, D + 1]`, behind each row what the norm adds to its squares (`NORM_EPS`).
            x: `[B, D]`, the same rows without it.
            room: Of width D.

        Returns:
            `[B, N]`.
        """
        return self.rows(x / torch.linalg.vector_norm(padded, 2, -1, True), room)


class BFloat16Projection(Projection):
    """A `Projection` with weights, rows and results in bfloat16; sums are float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__(weight.bfloat16(), bias)
        self.ordered: Tensor | None = None
        if fused_linear() is not None:
            self.ordered = torch.ops.mkldnn._reorder_linear_weight(self.weight)

    def rows(self, x: Tensor, room: Room) -> Tensor:
        """Map `[B, D]` to `[B, N]`."""
        if self.ordered is None:
            mapped = F.linear(x.bfloat16(), self.weight)
        else:
            mapped = torch.ops.mkldnn._linear_pointwise(
                x.bfloat16(), self.ordered, None, "none", [], "none"
            )
        return mapped.float() if self.bias is None else self.bias + mapped


class Int8Projection(Projection):
    """A `Projection` with int8 weights, one scale an output channel, and rows of 8 bits.

    Raises:
        ConfigError: If this build of torch has no int8 products.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        rounded, scale = round_channels(weight)
        super().__init__(rounded, bias)
        if torch.backends.quantized.engine not in ("x86", "fbgemm"):
            raise ConfigError(
                "This processor's torch has no int8 products; take the precision fp32 or bf16."
            )
        self.scale = scale
        self.single = _pack(rounded, scale)
        # Without the instruction for four products at once, sums of two would overflow 16 bits.
        self.halves_range = not torch.cpu._is_vnni_supported()

    @functools.cached_property
    def packed(self) -> Any:
        """The weights for rows with pinned columns, which have no weight."""
        return _pack(F.pad(self.weight, (0, _PINNED)), self.scale)

    def rows(self, x: Tensor, room: Room) -> Tensor:
        """Map `[B, D]` to `[B, N]`."""
        if len(x) == 1:
            return self._alone(x)
        largest = torch.linalg.vector_norm(x, torch.inf, -1, True).clamp_min_(_SMALLEST)
        return self._product(x, largest, largest, room)

    def normed(self, padded: Tensor, x: Tensor, room: Room) -> Tensor:
        """As for a `Projection`."""
        length = torch.linalg.vector_norm(padded, 2, -1, True)
        if len(x) == 1:
            return self._alone(x / length)
        largest = torch.linalg.vector_norm(padded, torch.inf, -1, True)
        return self._product(x, largest, largest / length, room)

    def _alone(self, x: Tensor) -> Tensor:
        mapped = torch.ops.quantized.linear_dynamic(x, self.single, self.halves_range)
        return mapped if self.bias is None else mapped.add_(self.bias)

    def _product(self, x: Tensor, divisor: Tensor, scale: Tensor, room: Room) -> Tensor:
        torch.div(x, divisor, out=room.values)
        mapped = torch.ops.quantized.linear_dynamic(room.rows, self.packed, self.halves_range)
        if self.bias is None:
            return mapped.mul_(scale)
        return torch.addcmul(self.bias, mapped, scale)


def _pack(weight: Tensor, scale: Tensor) -> Any:
    """Int8 weights `[N, D]` in the order in which the kernel reads them."""
    with warnings.catch_warnings():
        # Torch announces an end of its quantized tensors; only the packed weights stay here.
        warnings.simplefilter("ignore", UserWarning)
        zeros = torch.zeros(len(scale), dtype=torch.int64)
        tensor = torch._make_per_channel_quantized_tensor(weight, scale.double(), zeros, 0)
        return torch.ops.quantized.linear_prepack(tensor, None)


def round_channels(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest int8 weights `[N, D]` in [-127, 127], and the float32 scale `[N]` of each channel."""
    scale = weight.abs().amax(1).clamp_min(_SMALLEST) / _LEVELS
    return (weight / scale[:, None]).round().to(torch.int8), scale


_KINDS: dict[str, type[Projection]] = {
    "fp32": Projection,
    "bf16": BFloat16Projection,
    "int8": Int8Projection,
}


def projection(weight: Tensor, bias: Tensor | None, precision: str) -> Projection:
    """A product at one of the `PRECISIONS`.

    Raises:
        ConfigError: If there is no such precision, or not here.
    """
    if precision not in _KINDS:
        raise ConfigError(f"The precision is {precision!r}; choose one of {', '.join(PRECISIONS)}.")
    return _KINDS[precision](weight.detach(), None if bias is None else bias.detach())
