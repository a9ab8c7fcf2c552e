"""Classifier-free guidance: what a model says without text and prompt, and how far to lean away.

Ho and Salimans (2022); for speech models on codec tokens Koel-TTS (Hussain et al. 2025) drops text
and prompt together in a tenth of the training items. The unconditional item has no prompt at all,
and `NO_TEXT` for text: one with the prefix alignment, one a symbol with the pointer, which has to
walk over something.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .alignment import prompt_symbols_of
from .prompt import Voice
from .text import NO_TEXT, PAD

# Nats a code from which on guidance stays as it is, and up to which it is at its highest
_MUCH, _LITTLE = 0.9, 0.6
_FIRST_FRAMES = 10


class Utterances(NamedTuple):
    """A training batch, named as in `AutoregressiveModel.forward`; no pointer: prefix alignment."""

    symbols: Tensor
    num_symbols: Tensor
    codes: Tensor
    num_frames: Tensor
    prompt_frames: Tensor
    loss_mask: Tensor
    pointer: Tensor | None


def without_condition(batch: Utterances, is_dropped: Tensor) -> Utterances:
    """Take text and prompt from some items; their targets move to the front.

    Args:
        batch: The items.
        is_dropped: bool `[B]`.

    Returns:
        The batch in the same shape, longer padding included.
    """
    shift = torch.where(is_dropped, batch.prompt_frames, 0)
    length, size = batch.codes.shape[2], batch.symbols.shape[1]
    frame = torch.arange(length, device=shift.device) + shift[:, None]
    is_inside = frame < length
    frame = frame.clamp(max=length - 1)
    pointer = batch.pointer
    dropped = is_dropped[:, None]
    if pointer is None:
        first = torch.arange(size, device=shift.device) == 0
        nothing = torch.where(first, NO_TEXT, PAD).expand_as(batch.symbols)
        symbols = torch.where(dropped, nothing, batch.symbols)
        num_symbols = torch.where(is_dropped, 1, batch.num_symbols)
    else:
        theirs = prompt_symbols_of(pointer, batch.prompt_frames, batch.num_symbols)
        theirs = torch.where(is_dropped, theirs, 0)
        symbols = batch.symbols.masked_fill(dropped, NO_TEXT)
        num_symbols = batch.num_symbols - theirs
        pointer = (pointer.gather(1, frame) - theirs[:, None]).clamp(min=0)
    return Utterances(
        symbols,
        num_symbols,
        batch.codes.gather(2, frame[:, None].expand_as(batch.codes)),
        batch.num_frames - shift,
        torch.where(is_dropped, 0, batch.prompt_frames),
        batch.loss_mask.gather(1, frame) & is_inside,
        pointer,
    )


def unconditional(text: Tensor, voice: Voice, uses_pointer: bool) -> tuple[Tensor, Voice]:
    """The text and the voice of the item that guidance leans away from.

    Args:
        text: int64 `[S]`.
        voice: The prompt.
        uses_pointer: Whether the model's alignment is `pointer`.
    """
    nothing = torch.full_like(text if uses_pointer else text[:1], NO_TEXT)
    empty = Voice(voice.codes[:, :0], voice.symbols[:0], voice.pointer[:0], voice.identity)
    return nothing, empty


def adapted(
    scale: float, highest: float, evidence: Tensor, num_frames: Tensor, num_books: int
) -> Tensor:
    """How far to lean away, item by item: further where text and prompt say little about what is spoken.

    Behind clean prompts they make a code of the shipped model 1 to 2 nats likelier, from the first frames on;
    behind noisy ones, whose noise it continues, 0.2 to 0.7: then it leans on its own past, and mumbles.

    Args:
        scale: Where they say much, and in the first frames, which tell too little.
        highest: Where they say little.
        evidence: float `[B]`, nats by which they made the codes so far likelier.
        num_frames: int64 `[B]`, frames so far.
        num_books: Codes a frame.

    Returns:
        float `[B]`.
    """
    each_code = evidence / (num_frames * num_books).clamp(min=1)
    share = (each_code - _LITTLE) / (_MUCH - _LITTLE)
    leaning = highest + (scale - highest) * share.clamp(0, 1)
    return torch.where(num_frames < _FIRST_FRAMES, scale, leaning)


def guided(logits: Tensor, scale: Tensor) -> Tensor:
    """Mix two halves of a batch: unconditional + scale x (conditional - unconditional).

    Args:
        logits: `[2 B, N]`, the conditional items first.
        scale: `[B]`; 1 gives the conditional half back.

    Returns:
        `[B, N]`.
    """
    conditional, other = logits.chunk(2)
    return torch.lerp(other, conditional, scale[:, None])
