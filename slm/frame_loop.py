"""Frames of a batch of utterances, one after the other, as generation and streaming both take them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import LogitsProcessorList

from ..errors import ConfigError
from .autoregressive import AutoregressiveModel
from .constraints import ShortestLength, SilenceCap
from .frame_sampler import FrameSampler
from .group_decoder import decoder_for
from .guidance import unconditional
from .length import Corridor, LengthBounds
from .prompt import Voice, heard_again
from .sampling import SamplingConfig


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
        self.sampler = FrameSampler(ar, sampling, rules)
        self.uniforms = _uniforms(caps, self.sampler.num_draws, generators).to(device)
        asked = sampling.min_prompt_seconds
        seconds = ar.config.min_prompt_seconds if asked is None else asked
        spoken, prompts = list(texts), [heard_again(voice, seconds) for voice in voices]
        if self.sampler.is_guided:
            require_guidable(ar)
            for text, voice in zip(texts, voices, strict=True):
                nothing, nobody = unconditional(text, voice, ar.uses_pointer)
                spoken.append(nothing)
                prompts.append(nobody)
        self.decoder = decoder_for(ar, spoken, prompts, max(caps), one_item=batch == 1)
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
            previous = previous if frame == 0 else torch.cat((previous, previous))
            known = previous, torch.cat((pointer, pointer)), torch.cat((age, age))
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

    def waits(self) -> Tensor:
        """Whether an item has not come to its first sound, bool `[B]`; false without a pointer."""
        if not self.ar.uses_pointer:
            return torch.zeros_like(self.is_running)
        return self.pointer < self.corridor.first_sound

    def lead(self) -> Tensor:
        """Frames of the pause before the first sound that nobody needs to hear, int64 `[B]`.

        Behind a prompt with a second of its room before the first word the model waits as long. 0 for an
        item that never came to a sound.
        """
        if not self.ar.uses_pointer:
            return torch.zeros_like(self.num_frames)
        is_written = torch.arange(self.frame, device=self.pointer.device) < self.num_frames[:, None]
        is_pause = self.pointers[:, : self.frame] < self.corridor.first_sound[:, None]
        pause = (is_pause & is_written).sum(1)
        return torch.where(self.waits(), 0, (pause - self.corridor.kept_lead).clamp(min=0))

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
