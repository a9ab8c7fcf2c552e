"""The codes of one frame from its state: book by book, with guidance, and what they tell of the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LogitsProcessorList

from .autoregressive import AutoregressiveModel
from .frame_decoder import FrameDecoder
from .guidance import adapted, guided
from .sampling import DRAWS_PER_CODE, BookSampler, SamplingConfig, log_probability

DEFAULT_WINDOW = 10  # VALL-E 2's, used where nothing else prevents loops


class FrameSampler:
    """Chooses the codes of one frame, book by book, and whether the pointer moves on."""

    def __init__(
        self, model: AutoregressiveModel, sampling: SamplingConfig, rules: LogitsProcessorList
    ) -> None:
        self.model = model
        config, given = model.config, sampling.guidance
        self.guidance = float(config.guidance if given is None else given)
        own = config.max_guidance if given is None else None
        highest = own if sampling.max_guidance is None else sampling.max_guidance
        self.max_guidance = max(self.guidance, float(highest or 1))
        masked = max(model.config.num_masked_books, 1)
        window = sampling.repetition_window
        if window is None:
            window = 0 if model.uses_pointer else DEFAULT_WINDOW
        self.samplers = [
            BookSampler(
                sampling.processors(is_residual=book >= masked),
                window if book == 0 else 0,
                sampling.repetition_ratio,
                rules if book == 0 else None,
            )
            for book in range(model.config.ar_books)
        ]
        plain = [sampler.top_k for sampler in self.samplers]
        self._top_k = None if None in plain else cast(list[tuple[int, float]], plain)

    @property
    def num_draws(self) -> int:
        """Uniform numbers that one frame consumes."""
        return DRAWS_PER_CODE * len(self.samplers) + 1

    @property
    def is_guided(self) -> bool:
        """Whether each item brings its unconditional half."""
        return self.max_guidance > 1

    def scale(self, evidence: Tensor, num_frames: Tensor) -> Tensor:
        """Guidance of the next frame: `[B]` from the evidence `[B]` of the int64 `[B]` frames so far."""
        lowest, highest = self.guidance, self.max_guidance
        if lowest == highest:
            return torch.full_like(evidence, lowest)
        return adapted(lowest, highest, evidence, num_frames, len(self.samplers))

    def codes(
        self, decoder: FrameDecoder, state: Tensor, past: Tensor, uniforms: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Codes, their log-probability, and how much likelier text and prompt made them.

        Args:
            decoder: What gave the state.
            state: `[B, D]`; `[2 B, D]` with guidance, the unconditional items last.
            past: int64 `[B, t, ar_books]`.
            uniforms: `[B, num_draws]`.
            scale: `[B]`, of guidance.

        Returns:
            int64 `[B, ar_books]` (the end class of book 1 is V) and float `[B]` twice; the second one is 0
            without guidance.
        """
        if self._top_k is not None:
            at_once = decoder.codes(state, uniforms, scale if self.is_guided else None, self._top_k)
            if at_once is not None:
                return at_once
        chosen: list[Tensor] = []
        raw: list[Tensor] = []
        mixed: list[Tensor] = []
        for book, sampler in enumerate(self.samplers):
            raw.append(decoder.book_logits(book, state))
            mixed.append(self._mixed(raw[-1], scale))
            pair = uniforms[:, DRAWS_PER_CODE * book : DRAWS_PER_CODE * (book + 1)]
            code = sampler(mixed[-1], past[:, :, book], pair)
            chosen.append(code)
            if book + 1 < len(self.samplers):
                known = code.clamp(max=self.model.config.codebook_size - 1)
                told = self.model.chosen.of_book(book, known)
                state = state + (told.repeat(2, 1) if self.is_guided else told)
        codes = torch.stack(chosen, dim=1)
        chance = log_probability(_stacked(mixed), codes)
        if not self.is_guided:
            return codes, chance, torch.zeros_like(chance)
        own, other = log_probability(_stacked(raw), codes.repeat(2, 1)).chunk(2)
        return codes, chance, own - other

    def moves(
        self,
        state: Tensor,
        must_move: Tensor,
        must_stay: Tensor,
        uniform: Tensor,
        scale: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Whether the pointer leaves its symbol: bool `[B]`, and the log-probability `[B]`."""
        score = self._mixed(self.model.advance(state), scale)[:, 0]
        is_moving = ((uniform < score.sigmoid()) | must_move) & ~must_stay
        chance = F.logsigmoid(torch.where(is_moving, score, -score))
        return is_moving, chance.masked_fill(must_move | must_stay, 0.0)

    def _mixed(self, logits: Tensor, scale: Tensor) -> Tensor:
        return guided(logits, scale) if self.is_guided else logits


def _stacked(logits: Sequence[Tensor]) -> Tensor:
    """Logits `[B, V]` of all books as `[B, books, V]`; the first one may have a class for the end."""
    most = logits[0].shape[1]
    same = [
        book if book.shape[1] == most else F.pad(book, (0, most - book.shape[1]), value=-torch.inf)
        for book in logits
    ]
    return torch.stack(same, dim=1)
