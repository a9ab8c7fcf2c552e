"""The pointer: which symbol a frame speaks, and what the text says there.

A pointer walks over the symbols, one step or none per frame, as VALL-E R (Han et al. 2024,
section 3) lets its aligned phoneme do. Training takes it from the durations; generation may only
stay or advance, so speech can neither loop nor skip nor run on.

The prompt's symbols and the target's are encoded as two texts that do not see each other. What the
prompt's frames read then depends on the prompt alone, and one prepared voice serves every text.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .transformer import RMSNorm

NEXT_SYMBOL_SHARE = 0.5  # the frame's own symbol, and half of the one that its sound glides into


def is_before(lengths: Tensor, size: int) -> Tensor:
    """True at the positions before each item's length: int64 `[B]` to bool `[B, size]`."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def prompt_symbols_of(pointer: Tensor, prompt_frames: Tensor, num_symbols: Tensor) -> Tensor:
    """Number of symbols that belong to the prompt, int64 `[B]`.

    The target's first symbol is the one under the target's first frame.

    Args:
        pointer: int64 `[B, T]`.
        prompt_frames: int64 `[B]`; an item may have no prompt.
        num_symbols: int64 `[B]`.
    """
    last = pointer.shape[1] - 1
    first_target = pointer.gather(1, prompt_frames.clamp(max=last)[:, None]).squeeze(1)
    return torch.where(prompt_frames > last, num_symbols, first_target)


def pointer_age(pointer: Tensor, max_age: int) -> Tensor:
    """Frames since the pointer came to its symbol, from 0, clipped at `max_age`; int64 `[B, T]`."""
    frame = torch.arange(pointer.shape[1], device=pointer.device).expand_as(pointer)
    moved = F.pad(pointer[:, 1:] != pointer[:, :-1], (1, 0))
    arrival = torch.where(moved, frame, 0).cummax(dim=1).values
    return (frame - arrival).clamp(max=max_age)


def advances_after(pointer: Tensor, num_frames: Tensor) -> Tensor:
    """Where the pointer moves on after a frame; the last frame of an item leaves its last symbol.

    Args:
        pointer: int64 `[B, T]`.
        num_frames: int64 `[B]`.

    Returns:
        bool `[B, T]`; meaningless past an item's frames.
    """
    moves = F.pad(pointer[:, 1:] != pointer[:, :-1], (0, 1))
    frame = torch.arange(pointer.shape[1], device=pointer.device)
    return moves | (frame == num_frames[:, None] - 1)


class TextEncoder(nn.Module):
    """What a frame reads at each symbol: convolutions over the symbols, not causal.

    Args:
        num_symbols: Entries of the symbol table.
        hidden_size: D.
        num_layers: Convolutions, each behind a norm and around a residual connection.
        kernel_size: Odd width of each.
        dropout: Dropout on each convolution's output.
    """

    def __init__(
        self, num_symbols: int, hidden_size: int, num_layers: int, kernel_size: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_symbols, hidden_size)
        self.norms = nn.ModuleList(RMSNorm(hidden_size) for _ in range(num_layers))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(hidden_size, hidden_size, kernel_size, padding="same")
            for _ in range(num_layers)
        )
        self.output_norm = RMSNorm(hidden_size)
        self.dropout = nn.Dropout(dropout)
        # Zeros as wide as half a kernel keep two texts apart: every layer zeroes them again.
        self.gap = kernel_size // 2

    def forward(self, symbols: Tensor, num_symbols: Tensor, prompt_symbols: Tensor) -> Tensor:
        """Encode the prompt's text and the target's, each on its own.

        Args:
            symbols: int64 `[B, S]`, the prompt's first.
            num_symbols: int64 `[B]`.
            prompt_symbols: int64 `[B]`, how many of them are the prompt's.

        Returns:
            `[B, S, D]`: each symbol's state and half the next one's; 0 at padding.
        """
        batch, size = symbols.shape
        index = torch.arange(size, device=symbols.device).expand(batch, -1)
        is_target = index >= prompt_symbols[:, None]
        is_symbol = index < num_symbols[:, None]
        slot = index + self.gap * is_target
        is_real = torch.zeros(batch, size + self.gap, 1, device=symbols.device)
        is_real = is_real.scatter(1, slot[..., None], is_symbol[..., None].float())
        wide = slot[..., None].expand(-1, -1, self.embedding.embedding_dim)
        embedded = self.embedding(symbols)
        x = embedded.new_zeros(batch, size + self.gap, embedded.shape[-1])
        x = x.scatter(1, wide, embedded) * is_real
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            mixed = convolution((norm(x) * is_real).transpose(1, 2)).transpose(1, 2)
            x = (x + self.dropout(F.gelu(mixed))) * is_real
        states = (self.output_norm(x) * is_real).gather(1, wide)
        has_next = is_symbol & (index + 1 < num_symbols[:, None])
        has_next &= index + 1 != prompt_symbols[:, None]
        following = F.pad(states[:, 1:], (0, 0, 0, 1)) * has_next[..., None]
        return states + NEXT_SYMBOL_SHARE * following


def text_at(context: Tensor, pointer: Tensor) -> Tensor:
    """The text under each frame: `[B, S, D]` read at int64 `[B, T]` gives `[B, T, D]`."""
    return context.gather(1, pointer[..., None].expand(-1, -1, context.shape[-1]))
