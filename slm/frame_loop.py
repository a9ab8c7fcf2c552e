"""Frames of a batch of utterances, one after the other, as generation and streaming both take them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import LogitsProcessorList

from ..errors import ConfigError
from .autoregressive import AutoregressiveModel
from .constraints import ShortestLength, SilenceCap
from .frame_decoder import FrameDecoder
from .group_decoder import decoder_for
from .guidance import adapted, guided, unconditional
from .length import Corridor, LengthBounds
from .prompt import Voice
from .sampling import DRAWS_PER_CODE, BookSampler, SamplingConfig

DEFAULT_WINDOW = 10  # VALL-E 2's, used where nothing else prevents loops


class _FrameSampler:
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
        chance = _log_probability(mixed, codes)
        if not self.is_guided:
            return codes, chance, torch.zeros_like(chance)
        own, other = _log_probability(raw, codes.repeat(2, 1)).chunk(2)
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


class FrameLoop:
    """A batch of utterances in the making: each `step` writes one frame of all that still run.

    Args:
        ar: Model of the leading books, in evaluation mode.
        texts: int64 `[S_i]` of each item.
        voices: The prompt of each item.
        bounds: Shortest and longest utterance of each item.
        sampling: How codes are drawn.
        generators: One CPU generator an item; None takes torch's global one.
        silent_codes: int64 `[n]`, what the codec writes into book 1 for silence; only models
            without a pointer need it.

    Attributes:
        codes: int64 `[B, T, ar_books]`, of which `num_frames` of each item count.
        pointers: int64 `[B, T]`, the symbol under each frame.
        num_frames: int64 `[B]`, frames written so far.
        has_ended: bool `[B]`, whether the text was spoken to its end.
        log_probability: float `[B]`, of all choices under the model itself.
        evidence: float `[B]`, how much likelier text and prompt made the codes: their log-probability less
            that without text and prompt; 0 without guidance, where it is not known.
        is_over: Whether no item runs any more.
    """

    @torch.inference_mode()
    def __init__(
        self,
        ar: AutoregressiveModel,
        texts: Sequence[Tensor],
        voices: Sequence[Voice],
        bounds: Sequence[LengthBounds],
        sampling: SamplingConfig,
        generators: Sequence[torch.Generator] | None = None,
        silent_codes: Tensor | None = None,
    ) -> None:
        self.ar = ar
        batch, device = len(texts), ar.device
        caps = [bound.longest for bound in bounds]
        max_silence = round(sampling.max_silence_seconds * ar.config.frame_rate_hz)
        rules = LogitsProcessorList()
        if ar.uses_pointer:
            self.corridor = Corridor(ar, texts, max_silence)
        else:
            shortest = torch.tensor([bound.shortest for bound in bounds])
            rules.append(ShortestLength(shortest, ar.config.codebook_size))
            if silent_codes is not None:
                rules.append(SilenceCap(silent_codes, max_silence))
        self.sampler = _FrameSampler(ar, sampling, rules)
        self.uniforms = _uniforms(caps, self.sampler.num_draws, generators).to(device)
        spoken, prompts = list(texts), list(voices)
        if self.sampler.is_guided:
            require_guidable(ar)
            for text, voice in zip(texts, voices, strict=True):
                nothing, nobody = unconditional(text, voice, ar.uses_pointer)
                spoken.append(nothing)
                prompts.append(nobody)
        self.decoder = decoder_for(ar, spoken, prompts, max(caps))
        self.size = torch.tensor([len(text) for text in texts], device=device)
        self.cap = torch.tensor(caps, device=device)
        shape = (batch, max(caps), ar.config.ar_books)
        self.codes = torch.zeros(shape, dtype=torch.int64, device=device)
        self.pointers = torch.zeros(shape[:2], dtype=torch.int64, device=device)
        self.pointer, self.age, self.num_frames = torch.zeros(
            3, batch, dtype=torch.int64, device=device
        )
        self.is_running = torch.ones(batch, dtype=torch.bool, device=device)
        self.has_ended = torch.zeros_like(self.is_running)
        self.log_probability, self.evidence = torch.zeros(2, batch, device=device)
        self.previous = self.decoder.start
        self.frame = 0
        self.is_over = False

    @torch.inference_mode()
    def step(self) -> None:
        """Write the next frame of every item that still runs."""
        ar, frame = self.ar, self.frame
        known = (self.previous, self.pointer, self.age)
        if self.sampler.is_guided:
            previous, pointer, age = known
            previous = previous if frame == 0 else previous.repeat(2, 1)
            known = previous, pointer.repeat(2), age.repeat(2)
        state = self.decoder.step(*known)
        uniforms = self.uniforms[:, frame]
        scale = self.sampler.scale(self.evidence, self.num_frames)
        past = self.codes[:, :frame]
        chosen, chance, evidence = self.sampler.codes(self.decoder, state, past, uniforms, scale)
        self.log_probability += chance * self.is_running
        self.evidence += evidence * self.is_running
        if ar.uses_pointer:
            self._walk(state, uniforms[:, -1], scale)
        else:
            self.has_ended |= self.is_running & (chosen[:, 0] == ar.config.codebook_size)
            self.num_frames += self.is_running & ~self.has_ended
            chosen = chosen.clamp(max=ar.config.codebook_size - 1)
        self.codes[:, frame] = chosen
        self.is_running &= ~self.has_ended & (self.num_frames < self.cap)
        self.frame += 1
        self.is_over = not bool(self.is_running.any())
        if not self.is_over:
            self.previous = ar.codes(chosen[:, :, None]).sum(1)[:, 0]

    def _walk(self, state: Tensor, uniform: Tensor, scale: Tensor) -> None:
        self.pointers[:, self.frame] = self.pointer
        must_move, must_stay = self.corridor.step(self.frame, self.pointer, self.age)
        moves, chance = self.sampler.moves(state, must_move, must_stay, uniform, scale)
        self.log_probability += chance * self.is_running
        self.age = torch.where(moves, 0, self.age + 1)
        self.pointer = self.pointer + moves
        self.num_frames += self.is_running
        self.has_ended |= self.is_running & (self.pointer == self.size)
        # A finished item idles on its last symbol until the others are done.
        self.pointer = self.pointer.minimum(self.size - 1)
        self.age = self.age.clamp(max=self.ar.config.max_frames_per_symbol)


def _log_probability(logits: Sequence[Tensor], codes: Tensor) -> Tensor:
    """Of the codes of all books, `[B]`: logits `[B, V]` of each, int64 `[B, books]`."""
    most = logits[0].shape[1]  # the first one may have a class for the end, which the others lack
    same = [
        book if book.shape[1] == most else F.pad(book, (0, most - book.shape[1]), value=-torch.inf)
        for book in logits
    ]
    chances = torch.stack(same, dim=1).log_softmax(-1)
    return chances.gather(-1, codes[..., None]).sum((1, 2))


def require_guidable(model: AutoregressiveModel) -> None:
    """Refuse to guide a model that never spoke without text and prompt.

    Raises:
        ConfigError: If it was trained without `condition_drop`.
    """
    if not model.config.condition_drop:
        raise ConfigError(
            "The model was trained without condition_drop and cannot be guided; set guidance to 1, "
            "or train with model.condition_drop=0.1."
        )


def _uniforms(
    caps: Sequence[int], num_draws: int, generators: Sequence[torch.Generator] | None
) -> Tensor:
    """All chance of a batch beforehand, `[B, T, num_draws]`; an item's does not depend on others."""
    sources: Sequence[torch.Generator | None] = generators or [None] * len(caps)
    rows = [torch.rand(cap, num_draws, generator=g) for cap, g in zip(caps, sources, strict=True)]
    return pad_sequence(rows, batch_first=True)
