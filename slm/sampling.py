"""Drawing a code from its logits: temperature, top-k, top-p, and repetition-aware sampling.

Filters are transformers' own logits processors, so any other one can join them. Every draw consumes
one uniform number that was drawn beforehand from the item's own generator: a batch then gives each
item what it would get alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import FloatTensor, LongTensor, Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ..errors import ConfigError
from .prompt import LONGEST_SECONDS

DRAWS_PER_CODE = 2  # the candidate, and its replacement if it repeats
LARGEST_UNIFORM = 1 - 1e-6
RESIDUAL_TEMPERATURE = 0.5


@dataclass(frozen=True)
class SamplingConfig:
    """How codes are drawn.

    Attributes:
        temperature: Divides the logits of the masked books (they carry most of the sound); 0 takes
            the likeliest code.
        residual_temperature: The same for residual books, whose detail is mostly noise; None is
            `temperature`, but at most 0.5.
        top_k: Keep this many likeliest codes; 0 keeps all.
        top_p: Keep the smallest set of codes with this share of the probability; 1 keeps all.
        repetition_window: Frames of the first book that repetition-aware sampling looks back at;
            None is 10 with the prefix alignment and 0 (off) with the pointer, which cannot loop.
        repetition_ratio: Share of the window above which a candidate is drawn again from the whole
            distribution (VALL-E 2, Chen et al. 2024, algorithm 1).
        max_silence_seconds: Longest silence inside an utterance and at its ends; 0 sets no limit.
        guidance: Scale of classifier-free guidance; 1 is off, more leans on text and prompt, for models
            trained with `condition_drop`; None is the model's own (`config.guidance`). Doubles the
            work of a step.
        max_guidance: To what guidance rises where text and prompt say little about what is spoken, as behind
            noisy prompts; None is the model's own, and `guidance` where that is given.
        min_prompt_seconds: A shorter prompt without its transcript is heard again until it is so long; 0
            hears each once, None is the model's own.
    """

    temperature: float = 0.8
    residual_temperature: float | None = None
    top_k: int = 30
    top_p: float = 1.0
    repetition_window: int | None = None
    repetition_ratio: float = 0.1
    max_silence_seconds: float = 0.8
    guidance: float | None = None
    max_guidance: float | None = None
    min_prompt_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.residual_temperature is None:
            lowered = min(self.temperature, RESIDUAL_TEMPERATURE)
            object.__setattr__(self, "residual_temperature", lowered)
        for name in ("temperature", "residual_temperature"):
            if not 0 <= getattr(self, name) <= 10:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must lie between 0 and 10.")
        for name in ("guidance", "max_guidance"):
            given = getattr(self, name)
            if given is not None and not 1 <= given <= 10:
                raise ConfigError(f"{name} is {given}; it must lie between 1 (off) and 10.")
        if self.top_k < 0:
            raise ConfigError(f"top_k is {self.top_k}; it must be 0 (off) or more.")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; it must lie above 0 and not above 1.")
        if not 0 <= self.repetition_ratio <= 1:
            raise ConfigError(
                f"repetition_ratio is {self.repetition_ratio}; it must lie in [0, 1]."
            )
        if self.repetition_window is not None and self.repetition_window < 0:
            raise ConfigError(
                f"repetition_window is {self.repetition_window}; it must be 0 (off) or more."
            )
        if not 0 <= (self.min_prompt_seconds or 0) <= LONGEST_SECONDS:
            raise ConfigError(
                f"min_prompt_seconds is {self.min_prompt_seconds}; it must lie between 0 (off) and "
                f"{LONGEST_SECONDS:.0f}."
            )
        if not 0 <= self.max_silence_seconds <= 60:
            raise ConfigError(
                f"max_silence_seconds is {self.max_silence_seconds}; it must lie between 0 (no "
                "limit) and 60."
            )

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """A configuration from its fields by name.

        Raises:
            ConfigError: If a name is unknown or a value out of range.
        """
        known = cls.__dataclass_fields__
        if unknown := sorted(set(options) - set(known)):
            raise ConfigError(
                f"There is no option {unknown[0]!r}; the ways to sample are {', '.join(known)}."
            )
        return cls(**options)

    def processors(self, is_residual: bool = False) -> LogitsProcessorList:
        """The filters for one book, in transformers' order: temperature, top-k, top-p."""
        chosen = self.residual_temperature if is_residual else self.temperature
        temperature = cast(float, chosen)
        filters = LogitsProcessorList()
        if temperature == 0:
            filters.append(TopKLogitsWarper(1))
            return filters
        if temperature != 1:
            filters.append(TemperatureLogitsWarper(float(temperature)))
        if self.top_k:
            filters.append(TopKLogitsWarper(self.top_k))
        if self.top_p < 1:
            filters.append(TopPLogitsWarper(self.top_p))
        return filters


def draw(scores: Tensor, uniform: Tensor, most: float = LARGEST_UNIFORM) -> Tensor:
    """Sample by inverting the cumulative distribution.

    Args:
        scores: `[B, V]` logits, -inf where a code is excluded.
        uniform: `[B]` in [0, 1).
        most: Larger numbers are taken for this one; an argument, since TorchScript reads no globals.

    Returns:
        int64 `[B]`; the same uniform number gives the same code in any batch.
    """
    cumulative = scores.softmax(-1).cumsum(-1)
    # Kept below the total, whatever the rounding: past it lies no code, or an excluded one.
    threshold = uniform.clamp(max=most)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(1)


def draw_top(scores: Tensor, uniform: Tensor, count: int, temperature: float) -> Tensor:
    """Sample among the likeliest codes alone: what temperature and top-k leave, in a third of the time.

    Args:
        scores: `[B, V]` logits, -inf where a code is excluded.
        uniform: `[B]` in [0, 1).
        count: Codes kept, at least 1.
        temperature: Above 0.

    Returns:
        int64 `[B]`.
    """
    kept, codes = scores.topk(min(count, scores.shape[1]))
    chosen = draw(kept / temperature, uniform)
    return codes.gather(1, chosen[:, None])[:, 0]


def log_probability(logits: Tensor, codes: Tensor) -> Tensor:
    """Of all books' codes together: logits `[B, books, V]`, int64 `[B, books]` to `[B]`."""
    return logits.log_softmax(-1).gather(-1, codes[:, :, None]).sum([1, 2])


def _as_top_k(filters: LogitsProcessorList) -> tuple[int, float] | None:
    """Count and temperature of `draw_top`, if the filters do nothing else."""
    temperature = 1.0
    *others, last = filters or [None]
    for warper in others:
        if not isinstance(warper, TemperatureLogitsWarper):
            return None
        temperature *= warper.temperature
    return (last.top_k, temperature) if isinstance(last, TopKLogitsWarper) else None


def generator_of(*words: int) -> torch.Generator:
    """A CPU generator that is a function of the words; other words give another sequence.

    Torch's generator reads the low 32 bits of its seed only, so shifting words beside each other
    would lose some of them.
    """
    digest = hashlib.sha256(repr(words).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


class RepetitionAwareSampling(LogitsProcessor):
    """Keeps a drawn candidate alone, or every code again where the candidate repeats too often.

    VALL-E 2 (Chen et al. 2024, algorithm 1): a candidate comes from the filtered distribution; one
    that fills more than `ratio` of the last `window` codes is drawn again from the whole one. In
    transformers' `generate` it is the last processor, with `do_sample=True` and `top_k=0`.

    Args:
        filters: Temperature, top-k, top-p and the like, for the candidate.
        window: Codes looked back at, 0 for none.
        ratio: Share of the window above which a code counts as repeated.
        generator: Source of the candidates; None takes torch's global one.
    """

    def __init__(
        self,
        filters: LogitsProcessorList,
        window: int = 10,
        ratio: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        self.filters = filters
        self.window = window
        self.ratio = ratio
        self.generator = generator
        self.top_k = _as_top_k(filters)

    def __call__(self, input_ids: LongTensor, scores: FloatTensor) -> FloatTensor:
        """Logits `[B, V]`: -inf everywhere but at the candidate, or as given where it repeats."""
        uniform = torch.rand(len(scores), generator=self.generator).to(scores.device)
        candidate, is_repeated = self.candidate(input_ids, scores, uniform)
        alone = torch.full_like(scores, -torch.inf).scatter(1, candidate[:, None], 0.0)
        if is_repeated is None:
            return cast(FloatTensor, alone)
        return cast(FloatTensor, torch.where(is_repeated[:, None], scores, alone))

    def candidate(
        self, history: Tensor, scores: Tensor, uniform: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The candidate, int64 `[B]`, and where it repeats, bool `[B]` (None if nowhere)."""
        if self.top_k is not None:
            candidate = draw_top(scores, uniform, *self.top_k)
        else:
            filtered = self.filters(cast(LongTensor, history), cast(FloatTensor, scores))
            candidate = draw(filtered, uniform)
        if not self.window or history.shape[1] == 0:
            return candidate, None
        recent = history[:, -self.window :]
        is_repeated = (recent == candidate[:, None]).sum(1) > self.ratio * self.window
        return candidate, is_repeated if bool(is_repeated.any()) else None


class BookSampler:
    """Draws one book's codes: rules, then filters, then repetition awareness if a window is given.

    Args:
        filters: Logits processors; they see the book's past codes as `input_ids`.
        window: Frames looked back at, 0 for none.
        ratio: Share of the window above which a code counts as repeated.
        rules: Processors that hold for the second draw of a repeated code too.
    """

    def __init__(
        self,
        filters: LogitsProcessorList,
        window: int = 0,
        ratio: float = 0.1,
        rules: LogitsProcessorList | None = None,
    ) -> None:
        self.repetition = RepetitionAwareSampling(filters, window, ratio)
        self.rules = rules or LogitsProcessorList()

    @property
    def top_k(self) -> tuple[int, float] | None:
        """Count and temperature if the sampler is `draw_top` and nothing else."""
        if self.rules or self.repetition.window:
            return None
        return self.repetition.top_k

    def __call__(self, scores: Tensor, history: Tensor, uniforms: Tensor) -> Tensor:
        """Draw one code an item.

        Args:
            scores: `[B, V]` logits.
            history: int64 `[B, t]`, this book's codes of the frames generated so far.
            uniforms: `[B, DRAWS_PER_CODE]` in [0, 1).

        Returns:
            int64 `[B]`.
        """
        allowed = self.rules(cast(LongTensor, history), cast(FloatTensor, scores))
        candidate, is_repeated = self.repetition.candidate(history, allowed, uniforms[:, 0])
        if is_repeated is None:
            return candidate
        return torch.where(is_repeated, draw(allowed, uniforms[:, 1]), candidate)
