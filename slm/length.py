"""How long a text can plausibly last, and how long a pause in it: bounds of what is generated.

In 2,057 utterances of read English a symbol took 0.036 to 0.09 s, no beginning of an utterance was
faster than 0.03 s a symbol by more than 0.1 s, and no silence lasted longer than 0.66 s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError
from .autoregressive import AutoregressiveModel
from .text import BOUNDARY, SymbolTable

SHORTEST_SECONDS_PER_SYMBOL = 0.03
HEAD_START_SECONDS = 0.1  # by which a pointer may be ahead of the fastest speech
LONGEST_SECONDS_PER_SYMBOL = 0.22
DELAY_SECONDS = 0.8  # by which it may be behind the slowest: the silence before the first word
KEPT_LEAD_SECONDS = 0.2  # of the pause before the first sound: a breath and the onset
PAUSES = frozenset(' ;:,.!?—…"()')  # symbols without a sound of their own


@dataclass(frozen=True)
class LengthBounds:
    """Frames that an utterance may have.

    Attributes:
        shortest: At least so many; 1 if the caller set a cap below the text's own shortest.
        longest: At most so many.
    """

    shortest: int
    longest: int

    @classmethod
    def of(
        cls, model: AutoregressiveModel, text: Tensor, max_frames: int | None = None
    ) -> LengthBounds:
        """The bounds that a text sets, or a cap in their place.

        Args:
            model: The model that will speak it.
            text: int64 `[S]`.
            max_frames: Cap on the frames.

        Raises:
            ConfigError: If `max_frames` is below 1.
        """
        if max_frames is not None and max_frames < 1:
            raise ConfigError(f"max_frames is {max_frames}; it must be at least 1.")
        count, rate = _num_sounds(model, text), model.config.frame_rate_hz
        shortest = (SHORTEST_SECONDS_PER_SYMBOL * count - HEAD_START_SECONDS) * rate
        longest = LONGEST_SECONDS_PER_SYMBOL * count * rate
        if model.uses_pointer:
            # forced on at the corridor's end, every symbol may still take the frame it is owed
            longest += DELAY_SECONDS * rate + count
        least, most = max(1, math.floor(shortest)), max(1, round(longest))
        if max_frames is not None:
            most = max_frames
        return cls(least if least <= most else 1, most)


def _num_sounds(model: AutoregressiveModel, text: Tensor) -> int:
    if not model.config.num_pieces:
        return len(text)
    # bytes of the text stand for its sounds: a letter of Latin script has one, a syllable of
    # Chinese or Korean, which lasts longer, three
    return max(len(text), len(model.vocabulary.decode(text.tolist()).encode()))


class Corridor:
    """When a pointer may leave a symbol, and when it must.

    It may not run ahead of the fastest plausible speech, nor fall behind the slowest, nor stand on
    boundaries, blanks and punctuation longer than a pause lasts. Symbols, not codes, tell what is a
    pause here: the pointer knows what is being spoken, whatever the prompt's room sounds like.

    Args:
        model: A model with the pointer alignment.
        texts: int64 `[S_i]` of each item.
        max_silence_frames: Longest pause, 0 for no limit.

    Attributes:
        first_sound: int64 `[B]`, the first symbol of each item that has a sound of its own; its length
            if there is none.
        kept_lead: Frames that are kept of the pause before it.
    """

    def __init__(
        self, model: AutoregressiveModel, texts: Sequence[Tensor], max_silence_frames: int
    ) -> None:
        rate, device = model.config.frame_rate_hz, model.device
        self.fastest = SHORTEST_SECONDS_PER_SYMBOL * rate
        self.slowest = LONGEST_SECONDS_PER_SYMBOL * rate
        self.head_start, self.delay = HEAD_START_SECONDS * rate, DELAY_SECONDS * rate
        self.longest_stay = model.config.max_frames_per_symbol
        self.max_silence = max_silence_frames
        table = model.vocabulary
        pauses = [BOUNDARY]
        if isinstance(table, SymbolTable):
            pauses += [i for i, symbol in enumerate(table.symbols) if symbol in PAUSES]
        self.is_pause = torch.nn.utils.rnn.pad_sequence(
            [torch.isin(text.cpu(), torch.tensor(pauses)) for text in texts], batch_first=True
        ).to(device)
        self.first_sound = self.is_pause.long().cumprod(dim=1).sum(1)
        self.kept_lead = round(KEPT_LEAD_SECONDS * rate)
        self.silence = torch.zeros(len(texts), dtype=torch.int64, device=device)
        self._item = torch.arange(len(texts), device=device)

    def step(self, frame: int, pointer: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """What the pointers may do after a frame; to be called once a frame.

        Args:
            frame: Number of the frame, from 0.
            pointer: int64 `[B]`, the symbol under it.
            age: int64 `[B]`, frames already spent on that symbol.

        Returns:
            bool `[B]` twice: must move on, must stay. Both are never true of one item.
        """
        self.silence = torch.where(self.is_pause[self._item, pointer], self.silence + 1, 0)
        symbols, frames = pointer + 1, frame + 1
        must_move = age + 1 >= self.longest_stay
        must_move |= symbols <= (frames - self.delay) / self.slowest
        if self.max_silence:
            must_move |= self.silence >= self.max_silence
        must_stay = symbols > (frames + self.head_start) / self.fastest
        return must_move, must_stay & ~must_move
