"""What a codec writes for silence, learned by listening to some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..tokenizer.codes import CodecIdentity, Codes

SECONDS = 1.0
ROOM_TONE_DBFS = (-80.0, -70.0)  # noise that nobody hears beside speech


class Encoder(Protocol):
    """What this asks of a codec."""

    @property
    def identity(self) -> CodecIdentity:
        """What its codes carry."""
        ...

    def tokenize(self, waveforms: Sequence[Tensor], num_books: int | None = None) -> Codes:
        """Waveforms `[L_i]` to codes."""
        ...


def silent_codes(codec: Encoder) -> Tensor:
    """What a codec writes into its first book for digital silence and for a quiet room.

    A model without a pointer does not say which of its frames are pauses, so its codes have to. The
    shipped codec has 18 such codes of 1,024.

    Args:
        codec: Takes a few hundredths of a second.

    Returns:
        int64 `[n]`, sorted.
    """
    count = round(SECONDS * codec.identity.sampling_rate)
    noise = torch.randn(count, generator=torch.Generator().manual_seed(0))
    levels = [0.0, *(10 ** (level / 20) for level in ROOM_TONE_DBFS)]
    return codec.tokenize([noise * level for level in levels]).values[:, 0].unique()
