"""Monotonic alignment of a text and its frames: the sum over all paths, and the best one.

A path gives every symbol at least one frame, in order, and every frame one symbol. Both algorithms
are the classical ones of hidden Markov models (Rabiner 1989), all steps equally likely; a Python
loop runs over the frames only, symbols and items side by side.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .alignment import is_before

_SPREAD = 0.1  # share of an utterance
_NEVER = -1e9  # log-likelihood of what cannot be; finite, so that no difference is undefined


class _PathSum(torch.autograd.Function):
    """Log of the sum over all paths; its gradient is the share of the paths through each place."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, num_frames: Tensor, num_symbols: Tensor) -> Tensor:
        """Run forwards and backwards over the frames."""
        shares, total = _path_shares(scores.float(), num_frames, num_symbols)
        ctx.save_for_backward(shares.to(scores.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Pass each item's gradient on by the shares."""
        (shares,) = ctx.saved_tensors
        return shares * grads[0][:, None, None], None, None


def log_path_sum(scores: Tensor, num_frames: Tensor, num_symbols: Tensor) -> Tensor:
    """Log of the summed likelihood of all monotonic paths, the loss of Baum-Welch training.

    Args:
        scores: float `[B, T, S]`, log-likelihood of each frame under each symbol, normalised or not.
        num_frames: int64 `[B]`, at least `num_symbols`.
        num_symbols: int64 `[B]`.

    Returns:
        float32 `[B]`; nats.
    """
    return _PathSum.apply(scores, num_frames, num_symbols)  # type: ignore[no-any-return]


def off_diagonal(scores: Tensor, num_frames: Tensor, num_symbols: Tensor) -> Tensor:
    """How far each place lies off the path that gives all symbols the same time.

    Args:
        scores: `[B, T, S]`, whose shape and device are taken.
        num_frames, num_symbols: As for `log_path_sum`.

    Returns:
        float32 `[B, T, S]`: half the squared distance in tenths of the utterance.
    """
    frame = torch.arange(scores.shape[1], device=scores.device) + 0.5
    symbol = torch.arange(scores.shape[2], device=scores.device) + 0.5
    distance = (frame / num_frames[:, None])[..., None] - (symbol / num_symbols[:, None])[:, None]
    return 0.5 * (distance / _SPREAD).square()


@torch.no_grad()
def best_path(
    scores: Tensor, num_frames: Tensor, num_symbols: Tensor
) -> tuple[list[Tensor], Tensor]:
    """Viterbi: the likeliest monotonic path of each item.

    Args:
        scores, num_frames, num_symbols: As for `log_path_sum`.

    Returns:
        Frames of every symbol, int64 `[S_i]` an item, each at least 1 and their sum `T_i`, and the
        path's log-likelihood, float32 `[B]`.
    """
    batch, length, size = scores.shape
    total = _start(scores.float())
    moved = torch.zeros(length, batch, size, dtype=torch.bool, device=scores.device)
    reached = [total]
    for t in range(1, length):
        arriving = F.pad(total[:, :-1], (1, 0), value=_NEVER)
        moved[t] = arriving > total
        total = torch.maximum(total, arriving) + scores[:, t]
        reached.append(total)
    item = torch.arange(batch, device=scores.device)
    likelihood = torch.stack(reached, 1)[item, num_frames - 1, num_symbols - 1]
    symbol = num_symbols - 1
    durations = torch.zeros(batch, size, dtype=torch.int64, device=scores.device)
    for t in range(length - 1, -1, -1):
        inside = t < num_frames
        durations[item, symbol] += inside
        symbol = symbol - (moved[t, item, symbol] & inside).long()
    return [row[:count] for row, count in zip(durations, num_symbols.tolist(), strict=True)], (
        likelihood
    )


def _start(scores: Tensor) -> Tensor:
    """Before the second frame every path stands on the first symbol."""
    first = torch.full_like(scores[:, 0], _NEVER)
    first[:, 0] = scores[:, 0, 0]
    return first


def _path_shares(scores: Tensor, num_frames: Tensor, num_symbols: Tensor) -> tuple[Tensor, Tensor]:
    """Share of the paths' likelihood that passes each place, `[B, T, S]`, and its log sum, `[B]`."""
    batch, length, size = scores.shape
    item = torch.arange(batch, device=scores.device)
    past = [_start(scores)]
    for t in range(1, length):
        arriving = F.pad(past[-1][:, :-1], (1, 0), value=_NEVER)
        past.append(torch.logaddexp(past[-1], arriving) + scores[:, t])
    before = torch.stack(past, 1)
    total = before[item, num_frames - 1, num_symbols - 1]
    end = torch.full_like(scores[:, 0], _NEVER)
    end[item, num_symbols - 1] = 0.0
    future = [end]
    for t in range(length - 2, -1, -1):
        ahead = future[-1] + scores[:, t + 1]
        left = torch.logaddexp(ahead, F.pad(ahead[:, 1:], (0, 1), value=_NEVER))
        future.append(torch.where((t < num_frames - 1)[:, None], left, end))
    after = torch.stack(future[::-1], 1)
    shares = (before + after - total[:, None, None]).exp()
    inside = is_before(num_frames, length)[..., None] & is_before(num_symbols, size)[:, None]
    return shares.masked_fill(~inside, 0.0), total
