"""A belief that text is spoken in order, for attention that has to find the alignment by itself.

The beta-binomial prior of One TTS Alignment (Badlani et al. 2021, section 3.2) on the attention from
frames to text, strong in early training and gone later, as T5-TTS (Neekhara et al. 2024) uses it.
There text has an attention of its own; here it shares one softmax with the past frames, so the prior
is taken relative to its peak: the symbol where a frame should look loses nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .text import BOUNDARY

CONCENTRATION = 0.5  # T5-TTS's scale; lower is more tolerant
FLOOR = -12.0  # in nats; further down nothing changes but the gradient


def diagonal_prior(num_symbols: Tensor, num_frames: Tensor, size: int, length: int) -> Tensor:
    """Log prior of a frame looking at a symbol, relative to the frame's likeliest symbol.

    Args:
        num_symbols: int64 `[B]`, at least 1.
        num_frames: int64 `[B]`, at least 1.
        size: S of the result.
        length: T of the result.

    Returns:
        float32 `[B, T, S]` in [`FLOOR`, 0]; meaningless at padding.
    """
    device = num_symbols.device
    last = (num_symbols[:, None, None] - 1).float()
    total = num_frames[:, None, None].float()
    symbol = torch.arange(size, device=device).minimum(last).float()
    frame = torch.arange(length, device=device)[:, None].minimum(total - 1).float()
    alpha, beta = CONCENTRATION * (frame + 1), CONCENTRATION * (total - frame)
    # Terms that do not depend on the symbol fall out with the peak.
    choices = torch.lgamma(symbol + 1) + torch.lgamma(last - symbol + 1)
    score = torch.lgamma(symbol + alpha) + torch.lgamma(last - symbol + beta) - choices
    return (score - score.amax(-1, keepdim=True)).clamp(min=FLOOR)


def target_symbols_from(symbols: Tensor, num_symbols: Tensor) -> Tensor:
    """Where the target's text begins behind a prompt's: at the last boundary but one.

    Args:
        symbols: int64 `[B, S]`, the target's last.
        num_symbols: int64 `[B]`.

    Returns:
        int64 `[B]`; 0 for an item without two boundaries.
    """
    index = torch.arange(symbols.shape[1], device=symbols.device)
    is_boundary = (symbols == BOUNDARY) & (index < num_symbols[:, None])
    to_come = is_boundary.flip(1).cumsum(1).flip(1)  # boundaries from here on
    return torch.where(is_boundary & (to_come == 2), index, 0).amax(1)


def prefix_prior(
    symbols: Tensor,
    num_symbols: Tensor,
    first_target: Tensor,
    num_positions: Tensor,
    length: int,
) -> Tensor:
    """What is added to the attention scores of a text prefix and the positions behind it.

    Only the target's positions are led, and only among the target's text.

    Args:
        symbols: int64 `[B, S]`.
        num_symbols: int64 `[B]`.
        first_target: int64 `[B]`, the target's first position behind the text.
        num_positions: int64 `[B]`, positions in use behind the text.
        length: N, positions behind the text with their padding.

    Returns:
        float32 `[B, 1, S + N, S + N]`.
    """
    size, device = symbols.shape[1], symbols.device
    start = target_symbols_from(symbols, num_symbols)
    prior = diagonal_prior(
        (num_symbols - start).clamp(min=1),
        (num_positions - first_target).clamp(min=1),
        size,
        length,
    )
    symbol = torch.arange(size, device=device) - start[:, None]
    position = torch.arange(length, device=device) - first_target[:, None]
    prior = prior.gather(1, position.clamp(min=0)[..., None].expand_as(prior))
    prior = prior.gather(2, symbol.clamp(min=0)[:, None].expand_as(prior))
    is_led = (position >= 0)[..., None] & (symbol >= 0)[:, None]
    whole = prior.new_zeros(len(symbols), size + length, size + length)
    whole[:, size:, :size] = torch.where(is_led, prior, FLOOR * (position >= 0)[..., None])
    return whole[:, None]


def prior_strength(step: int, full_until: int, gone_at: int) -> float:
    """How much of the prior training adds in a step: all of it at first, then less, then nothing.

    Args:
        step: Of training, from 0.
        full_until: Last step of full strength.
        gone_at: First step without; 0 adds none at all.
    """
    if step >= gone_at:
        return 0.0
    if step <= full_until:
        return 1.0
    return (gone_at - step) / (gone_at - full_until)
