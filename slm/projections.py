"""Matrix products of a few rows, laid out once from trained weights: float32, bfloat16 or int8.

A step of generation multiplies one row an item by every matrix of the model, so it waits for memory:
weights of a quarter of the bytes are read in a quarter of the time. Int8 weights have a scale an output
channel. Activations are rounded to 8 bits on the way; sums are exact integers. A row alone is rounded
between its least and largest value, and so are the two rows of one guided utterance together. In a
batch, where the kernel knows one range for all, each row is first divided by its own largest magnitude,
so that no item depends on its neighbours.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ConfigError
from ..tokenizer.prepared import fused_linear
from ..tokenizer.storage import round_channels

Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS: tuple[str, ...] = get_args(Precision)

_PINNED = 2  # columns that hold 1 and -1: the range the kernel finds is then the same for all rows
_LEVELS = 127
_SMALLEST = 1e-30


def new_room(batch_size: int, size: int) -> Tensor:
    """Memory for the rounded rows of one width, `[B, size + 2]`; one thread's, one batch's.

    Of no row it tells a product that all rows are one item's and may share their range.
    """
    room = torch.zeros(batch_size, size + _PINNED)
    room[:, size], room[:, size + 1] = 1.0, -1.0
    return room


class Projection(nn.Module):
    """`x @ weight.T + bias` in float32, for rows as they are or behind an RMS norm.

    A module only for TorchScript's sake: nothing here has a gradient.

    Args:
        weight: float32 `[N, D]`; a norm's gain belongs into it.
        bias: float32 `[N]` or None.

    Attributes:
        num_bytes: What a product reads of weights.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight = weight.contiguous()
        self.num_bytes = weight.numel() * weight.element_size()
        self.has_bias = bias is not None
        self.bias = weight.new_zeros(0) if bias is None else bias
        self.is_ordered = fused_linear() is not None and weight.is_floating_point()
        if self.is_ordered:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight)

    def rows(self, x: Tensor, room: Tensor) -> Tensor:
        """Map `[B, D]` to `[B, N]`; `room` is `new_room(B, D)`, or of no row where all are one item's."""
        bias = self.bias if self.has_bias else None
        if self.is_ordered:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, bias, "none", [], "none")
        return F.linear(x, self.weight, bias)

    def normed(self, padded: Tensor, x: Tensor, room: Tensor) -> Tensor:
        """Map rows divided by their root of the sum of squares.

        Args:
            padded: `[B, D + 1]`, behind each row what the norm adds to its squares (`NORM_EPS`).
            x: `[B, D]`, the same rows without it.
            room: `new_room(B, D)`.

        Returns:
            `[B, N]`.
        """
        return self.rows(x / torch.linalg.vector_norm(padded, 2.0, [-1], True), room)


class BFloat16Projection(Projection):
    """A `Projection` with weights, rows and results in bfloat16; sums are float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__(weight.bfloat16(), bias)

    def rows(self, x: Tensor, room: Tensor) -> Tensor:
        """Map `[B, D]` to `[B, N]`."""
        rounded = x.to(torch.bfloat16)
        if self.is_ordered:
            mapped = torch.ops.mkldnn._linear_pointwise(
                rounded, self.weight, None, "none", [], "none"
            )
        else:
            mapped = F.linear(rounded, self.weight)
        return self.bias + mapped if self.has_bias else mapped.to(torch.float32)


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
        self.single = _pack(rounded, scale)
        # For rows with pinned columns, which have no weight.
        self.packed = _pack(F.pad(rounded, (0, _PINNED)), scale)
        # Without the instruction for four products at once, sums of two would overflow 16 bits.
        self.halves_range = not torch.cpu._is_vnni_supported()

    def rows(self, x: Tensor, room: Tensor) -> Tensor:
        """Map `[B, D]` to `[B, N]`."""
        if room.size(0) == 0:
            return self._together(x)
        largest = torch.linalg.vector_norm(x, float("inf"), [-1], True).clamp_min_(1e-30)
        return self._product(x, largest, largest, room)

    def normed(self, padded: Tensor, x: Tensor, room: Tensor) -> Tensor:
        """As for a `Projection`."""
        length = torch.linalg.vector_norm(padded, 2.0, [-1], True)
        if room.size(0) == 0:
            return self._together(x / length)
        largest = torch.linalg.vector_norm(padded, float("inf"), [-1], True)
        return self._product(x, largest, largest / length, room)

    def _together(self, x: Tensor) -> Tensor:
        mapped = torch.ops.quantized.linear_dynamic(x, self.single, self.halves_range)
        return mapped.add_(self.bias) if self.has_bias else mapped

    def _product(self, x: Tensor, divisor: Tensor, scale: Tensor, room: Tensor) -> Tensor:
        torch.div(x, divisor, out=room.narrow(1, 0, x.size(1)))
        mapped = torch.ops.quantized.linear_dynamic(room, self.packed, self.halves_range)
        return torch.addcmul(self.bias, mapped, scale) if self.has_bias else mapped.mul_(scale)


def _pack(weight: Tensor, scale: Tensor) -> Any:
    """Int8 weights `[N, D]` in the order in which the kernel reads them."""
    with warnings.catch_warnings():
        # Torch announces an end of its quantized tensors; only the packed weights stay here.
        warnings.simplefilter("ignore", UserWarning)
        zeros = torch.zeros(len(scale), dtype=torch.int64)
        tensor = torch._make_per_channel_quantized_tensor(weight, scale.double(), zeros, 0)
        return torch.ops.quantized.linear_prepack(tensor, None)


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
