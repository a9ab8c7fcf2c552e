"""What a codec writes for silence, learned by listening to some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Silence:
    """Codes of digital silence and of a quiet room.

    Attributes:
        codes: int64 `[n]`, what the first book holds in them, sorted.
        frame: int64 `[K]`, a frame in the middle of digital silence.
    """

    codes: Tensor
    frame: Tensor

    @classmethod
    def of(cls, codec: Encoder) -> Silence:
        """Listen to silence; takes a few hundredths of a second."""
        count = round(SECONDS * codec.identity.sampling_rate)
        chance = torch.Generator().manual_seed(0)
        noise = torch.randn(count, generator=chance)
        levels = [0.0, *(10 ** (level / 20) for level in ROOM_TONE_DBFS)]
        values = codec.tokenize([noise * level for level in levels]).values
        return cls(values[:, 0].unique(), values[0, :, values.shape[2] // 2])
