"""Frame-rate building blocks that work on a whole signal or, with a carry, on one block of it after another.

All of them take `[B, T, D]` and an optional validity mask `[B, T, 1]`. A whole signal is padded with zeros,
and what a mask hides is zero before every convolution, so that an utterance in a padded batch comes out as
alone. With a `Carry` the zeros come once, before the first block, and each layer keeps the rows that its
next block needs: a layer that sees r rows ahead returns r rows fewer for the first block and as many as it
gets for the others. Offline encoding, batches and streams all run this way, so they agree by construction.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .prepared import Prepared, fused_linear, packed

# For a handful of rows, matrix libraries take other kernels, which sum in another order: MKL for fewer
# than 16 on Intel processors.
MIN_ROWS, MIN_FUSED_ROWS = 16, 4

# What each layer remembers of the blocks before, by layer.
Carry = dict[nn.Module, Any]


def context(kernel_size: int, is_causal: bool, lookahead: int = 0) -> tuple[int, int]:
    """Frames seen on the left and on the right of the current one."""
    if not is_causal:
        return (kernel_size - 1) // 2, kernel_size // 2
    return kernel_size - 1 - lookahead, lookahead


def frame_mask(lengths: Tensor, num_frames: int, start: int = 0) -> Tensor:
    """Validity of the frames from `start` on, bool `[B, num_frames, 1]`."""
    frames = torch.arange(start, start + num_frames, device=lengths.device)
    return (frames < lengths[:, None])[..., None]


def is_finite(x: Tensor) -> bool:
    """Whether no value is NaN or infinite, from the extremes, which either would show."""
    return x.numel() == 0 or bool(torch.isfinite(torch.stack(x.aminmax())).all())


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none"
) -> Tensor:
    """`F.linear`, with `none` or `gelu` after it, whose rows do not depend on how many rows there are.

    The weight `[D_out, D_in]` may be `packed` where no gradient flows.
    """
    fused, rows = None, 0
    # where gradients flow, or torch traces a graph of its own, rows may be as they are
    is_plain = torch.is_grad_enabled() or torch.compiler.is_compiling()
    if not is_plain:
        rows = x.shape[:-1].numel()
        if x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32:
            fused = None if torch.is_autocast_enabled("cpu") else fused_linear()
        if not rows:
            return x.new_zeros(*x.shape[:-1], weight.shape[0])
    fewest = MIN_ROWS if fused is None else MIN_FUSED_ROWS
    if 0 < rows < fewest:
        padded = F.pad(x.reshape(rows, -1), (0, 0, 0, fewest - rows))
        return linear(padded, weight, bias, activation)[:rows].reshape(*x.shape[:-1], -1)
    if fused is not None:
        out: Tensor = fused(x, weight, bias, activation, [], "none")
        return out
    out = F.linear(x, weight, bias)
    return F.gelu(out) if activation == "gelu" else out


def sigmoid(x: Tensor) -> Tensor:
    """Logistic function whose values do not depend on their place in memory, as torch's do."""
    return 1 / (1 + torch.exp(-x))


def elu(x: Tensor) -> Tensor:
    """Exponential linear unit; see `sigmoid`."""
    return torch.where(x > 0, x, torch.expm1(x.clamp(max=0)))


class FrameLinear(nn.Linear):
    """Linear layer over the last dimension; see `linear`."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__(width_in, width_out)
        self._packed: Prepared[Tensor] = Prepared()

    def forward(self, input: Tensor) -> Tensor:
        """`[..., D_in]` -> `[..., D_out]`."""
        return linear(input, self._packed(packed, self.weight), self.bias)


class Context(nn.Module):
    """Gives each output row of a (strided) window its input rows.

    Args:
        left: Rows before the current one.
        right: Rows after it.
        stride: Input rows per output row; the window of an output holds `left + stride + right` rows.
    """

    def __init__(self, left: int, right: int, stride: int = 1) -> None:
        super().__init__()
        self.left, self.right, self.stride = left, right, stride

    def forward(
        self, x: Tensor, mask: Tensor | None = None, carry: Carry | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Take in `[B, N, D]`.

        Returns:
            The rows that windows slide over, `[B, left + n * stride + right, D]` for n outputs (fewer
            rows if n is 0); the rows in their centres, `[B, n * stride, D]`; and the outputs' mask.
        """
        if mask is not None:
            x = x * mask
        if carry is None:
            rows = F.pad(x, (0, 0, self.left, self.right)) if self.left or self.right else x
            valid = mask
            count = x.shape[1] // self.stride
        else:
            past, valid = carry.get(self, (x.new_zeros(len(x), self.left, x.shape[-1]), None))
            rows = torch.cat([past, x], 1) if past.shape[1] else x
            if mask is not None:
                valid = mask if valid is None else torch.cat([valid, mask], 1)
            count = max(0, (rows.shape[1] - self.left - self.right) // self.stride)
            used = count * self.stride
            carry[self] = rows[:, used:], None if valid is None else valid[:, used:]
            rows = rows[:, : self.left + used + self.right]
        centres = rows[:, self.left : self.left + count * self.stride]
        return (
            rows,
            centres,
            None if valid is None else valid[:, : count * self.stride : self.stride],
        )


class FrameConv(nn.Module):
    """Convolution over time that keeps the number of frames.

    Args:
        width_in, width_out: Channels.
        kernel_size: Frames.
        is_causal: Whether only the past, and `lookahead` frames, are seen.
        lookahead: Future frames of a causal convolution.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        kernel_size: int,
        *,
        is_causal: bool,
        lookahead: int = 0,
    ) -> None:
        super().__init__()
        self.context = Context(*context(kernel_size, is_causal, lookahead))
        self.conv = nn.Conv1d(width_in, width_out, kernel_size)
        self._packed: Prepared[Tensor] = Prepared()

    def forward(
        self, x: Tensor, mask: Tensor | None = None, carry: Carry | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """`[B, T, width_in]` -> `[B, T, width_out]` and its mask."""
        rows, _, mask = self.context(x, mask, carry)
        matrix = self._packed(conv_matrix, self.conv.weight)
        return dense_conv(rows, self.conv.weight, self.conv.bias, matrix=matrix), mask


def conv_matrix(weight: Tensor, *, is_tap_major: bool = False) -> Tensor:
    """A convolution's weight as `dense_conv` multiplies with it."""
    return packed((weight.transpose(1, 2) if is_tap_major else weight).flatten(1))


def dense_conv(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int = 1,
    matrix: Tensor | None = None,
    *,
    is_tap_major: bool = False,
) -> Tensor:
    """Convolution without padding as one matrix product, whose rows depend on nothing but their window.

    Args:
        rows: `[B, N, D_in]`.
        weight: `[D_out, D_in, kernel_size]`.
        matrix: The weight's `conv_matrix`, if it was made before.
        is_tap_major: Whether sums run tap by tap, as rows lie in memory, and not channel by channel: less to
            move where rows are many. The other order is that of the shipped weights' codes.

    Returns:
        `[B, (N - kernel_size) // stride + 1, D_out]`, empty where N is too small.
    """
    kernel = weight.shape[-1]
    if rows.shape[1] < kernel:
        return rows.new_zeros(len(rows), 0, len(weight))
    if weight.shape[1] == stride == 1 and not torch.is_grad_enabled():
        # so thin a product sums in an order that depends on where a row stands
        count = rows.shape[1] - kernel + 1
        out = rows.new_zeros(()) if bias is None else bias
        for tap in range(kernel):
            out = torch.addcmul(out, rows[:, tap : tap + count], weight[:, 0, tap])
        return out
    windows = rows
    if not kernel == stride == 1:
        windows = rows.unfold(1, kernel, stride)
        windows = (windows.transpose(2, 3) if is_tap_major else windows).flatten(2)
    if matrix is None:
        matrix = conv_matrix(weight, is_tap_major=is_tap_major)
    return linear(windows, matrix, bias)


def _depthwise(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # as an image of height 1 with its channels last, rows need no transposition to and fro
    image = rows.transpose(1, 2)[:, :, None]
    return F.conv2d(image, weight[:, :, None], bias, groups=len(weight))[:, :, 0].transpose(1, 2)


class _Depthwise(torch.autograd.Function):
    """`_depthwise` with its gradient as shifted products: less than half of the library's time."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        out = _depthwise(rows, weight, bias)
        ctx.save_for_backward(rows, weight)
        ctx.dtype = out.dtype
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, weight = ctx.saved_tensors
        taps, count = weight.shape[-1], gradient.shape[1]
        mirrored = weight.flip(-1).to(ctx.dtype)
        of_rows = _depthwise(F.pad(gradient, (0, 0, taps - 1, taps - 1)), mirrored, None)
        gradient, rows = gradient.float(), rows.float()
        of_weight = [(gradient * rows[:, tap : tap + count]).sum((0, 1)) for tap in range(taps)]
        return of_rows, torch.stack(of_weight, -1)[:, None], gradient.sum((0, 1))


class DepthwiseConv(nn.Module):
    """One filter a channel, over rows that carry their own context."""

    def __init__(self, width: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel_size, groups=width)

    def forward(self, rows: Tensor) -> Tensor:
        """`[B, N, D]` -> `[B, N - kernel_size + 1, D]`."""
        weight, bias = self.conv.weight, self.conv.bias
        if rows.shape[1] < weight.shape[-1]:
            return rows[:, :0]
        if torch.is_grad_enabled():
            return _Depthwise.apply(rows, weight, bias)
        return _depthwise(rows, weight, bias)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, LayerNorm, two pointwise layers with GELU, scaled residual.

    Source: Liu et al. 2022, in the one-dimensional form of Vocos (Siuzdak 2023).
    """

    def __init__(
        self, width: int, expansion: int, kernel_size: int, *, is_causal: bool, initial_scale: float
    ) -> None:
        super().__init__()
        self.context = Context(*context(kernel_size, is_causal))
        self.depthwise = DepthwiseConv(width, kernel_size)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.widen = FrameLinear(width, expansion * width)
        self.narrow = FrameLinear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), initial_scale))
        self._packed: Prepared[Tensor] = Prepared()

    def forward(
        self, x: Tensor, mask: Tensor | None = None, carry: Carry | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """`[B, T, D]` -> `[B, T, D]` and its mask."""
        rows, centres, mask = self.context(x, mask, carry)
        hidden = self.norm(self.depthwise(rows))
        weight = self._packed(packed, self.widen.weight)
        hidden = self.narrow(linear(hidden, weight, self.widen.bias, "gelu"))
        return torch.addcmul(centres, self.scale, hidden.to(centres.dtype)), mask


class ConvNeXtStack(nn.Module):
    """Input LayerNorm, several `ConvNeXtBlock`s, output LayerNorm."""

    def __init__(
        self, width: int, num_layers: int, expansion: int, kernel_size: int, *, is_causal: bool
    ) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(width, eps=1e-6)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(
                width, expansion, kernel_size, is_causal=is_causal, initial_scale=1 / num_layers
            )
            for _ in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(width, eps=1e-6)
        self.lookahead = num_layers * context(kernel_size, is_causal)[1]

    def forward(
        self, x: Tensor, mask: Tensor | None = None, carry: Carry | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """`[B, T, D]` -> `[B, T, D]` and its mask."""
        x = self.norm_in(x)
        for block in self.blocks:
            x, mask = block(x, mask, carry)
        return self.norm_out(x), mask
