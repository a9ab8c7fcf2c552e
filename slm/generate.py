"""From text and a voice to codes: one cached step per frame, then the remaining books at once.

With the pointer alignment a frame may only keep its symbol or move to the next one, and speech ends
as the pointer leaves the last symbol. Either alignment keeps within bounds that the text sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from ..errors import ConfigError, ModelMismatch, UnsupportedText
from .autoregressive import AutoregressiveModel
from .frame_loop import FrameLoop
from .length import LengthBounds
from .nonautoregressive import NonAutoregressiveModel
from .prompt import Voice
from .sampling import SamplingConfig, generator_of

Choice = Literal["faithful", "likeliest", "shortest"]


@dataclass(frozen=True)
class Generation:
    """One generated utterance.

    Attributes:
        codes: int64 `[K, T]`; without a non-autoregressive model the first `ar_books` books. A pause
            before the first sound is shortened to 0.2 s.
        finish_reason: `end` if the text was spoken to its end, `length` if the cap came first.
        pointer: int64 `[T]`, the symbol under each frame (empty with the prefix alignment).
        log_probability: Of the autoregressive choices under the model itself, in nats, without
            temperature and filters.
        evidence: By how many nats text and prompt made the autoregressive codes likelier; None without
            guidance.
    """

    codes: Tensor
    finish_reason: Literal["end", "length"]
    pointer: Tensor
    log_probability: float
    evidence: float | None = None


def generate_codes(
    ar: AutoregressiveModel,
    nar: NonAutoregressiveModel | None,
    symbols: Tensor,
    voice: Voice,
    *,
    sampling: SamplingConfig | None = None,
    max_frames: int | None = None,
    generator: torch.Generator | None = None,
) -> Generation:
    """Speak one text in one voice; `generate_batch` of one."""
    generators = None if generator is None else [generator]
    return generate_batch(
        ar,
        nar,
        [symbols],
        [voice],
        sampling=sampling,
        max_frames=max_frames,
        generators=generators,
    )[0]


@torch.inference_mode()
def generate_batch(
    ar: AutoregressiveModel,
    nar: NonAutoregressiveModel | None,
    texts: Sequence[Tensor],
    voices: Sequence[Voice],
    *,
    sampling: SamplingConfig | None = None,
    max_frames: int | None = None,
    generators: Sequence[torch.Generator] | None = None,
    silent_codes: Tensor | None = None,
    num_candidates: int = 1,
    choose: Choice = "faithful",
) -> list[Generation]:
    """Speak several texts at once; each item comes out as it would alone.

    Args:
        ar: Model of the leading books, in evaluation mode.
        nar: Model of the other books, or None for the leading books only.
        texts: int64 `[S_i]` each, as the `vocabulary` of the model makes them.
        voices: One prompt an item; it may have no frames at all.
        sampling: How codes are drawn.
        max_frames: Cap on an item's frames; by default the text sets it, see `LengthBounds`.
        generators: One CPU generator an item; without them torch's global one is used.
        silent_codes: As in `FrameLoop`.
        num_candidates: Takes of each item, all in one batch, of which the best is given; the first
            is what `num_candidates=1` gives.
        choose: `faithful` by evidence a frame, `likeliest` by log-probability a frame, or `shortest`; a
            take that came to its end is preferred to one that was cut. Without guidance there is no
            evidence, and `faithful` is `likeliest`.

    Returns:
        One `Generation` an item.

    Raises:
        UnsupportedText: If a text is empty or holds symbols that the model does not know.
        ModelMismatch: If the two models, or a voice and a model, do not belong together.
        ConfigError: If `max_frames` or `num_candidates` is below 1, or `choose` is unknown.
    """
    require_fit(ar, nar, texts, voices)
    if num_candidates < 1:
        raise ConfigError(f"num_candidates is {num_candidates}; it must be at least 1.")
    if choose not in get_args(Choice):
        raise ConfigError(f"choose is {choose!r}; take one of {', '.join(get_args(Choice))}.")
    bounds = [LengthBounds.of(ar, text, max_frames) for text in texts]
    loop = FrameLoop(
        ar,
        [text for text in texts for _ in range(num_candidates)],
        [voice for voice in voices for _ in range(num_candidates)],
        [bound for bound in bounds for _ in range(num_candidates)],
        sampling or SamplingConfig(),
        _takes(generators, num_candidates),
        silent_codes,
    )
    while not loop.is_over:
        loop.step()
    takes = _taken(loop)
    best = [
        _best(takes[first : first + num_candidates], choose)
        for first in range(0, len(takes), num_candidates)
    ]
    if nar is None:
        return best
    filled = complete(nar, texts, voices, [g.codes for g in best], [g.pointer for g in best])
    return [replace(g, codes=codes.cpu()) for g, codes in zip(best, filled, strict=True)]


def _takes(
    generators: Sequence[torch.Generator] | None, count: int
) -> Sequence[torch.Generator] | None:
    """A generator for every take: the item's own for the first, seeded by it for the others."""
    if generators is None or count == 1:
        return generators
    sources = []
    for generator in generators:
        seed = generator.initial_seed()
        others = [generator_of(seed, take) for take in range(1, count)]
        sources += [generator, *others]
    return sources


def _taken(loop: FrameLoop) -> list[Generation]:
    uses_pointer = loop.ar.uses_pointer
    is_guided = loop.sampler.is_guided
    return [
        Generation(
            loop.codes[i, lead:frames].T.cpu(),
            "end" if has_ended else "length",
            loop.pointers[i, lead : frames if uses_pointer else 0].cpu(),
            chance,
            evidence if is_guided else None,
        )
        for i, (lead, frames, has_ended, chance, evidence) in enumerate(
            zip(
                loop.lead().tolist(),
                loop.num_frames.tolist(),
                loop.has_ended.tolist(),
                loop.log_probability.tolist(),
                loop.evidence.tolist(),
                strict=True,
            )
        )
    ]


def _best(takes: Sequence[Generation], choose: Choice) -> Generation:
    """The chosen take; of equal ones the first."""

    def cost(take: Generation) -> tuple[bool, float]:
        frames = take.codes.shape[1]
        if choose == "shortest":
            value: float = frames
        elif choose == "faithful" and take.evidence is not None:
            value = -take.evidence / frames
        else:
            value = -take.log_probability / frames
        return take.finish_reason != "end", value

    return min(takes, key=cost)


def complete(
    nar: NonAutoregressiveModel,
    texts: Sequence[Tensor],
    voices: Sequence[Voice],
    spoken: Sequence[Tensor],
    walked: Sequence[Tensor],
) -> list[Tensor]:
    """All K books of each item, from the leading ones.

    Args:
        nar: The model of the other books.
        texts: int64 `[S_i]`.
        voices: The prompt of each item.
        spoken: int64 `[ar_books, T_i]`.
        walked: int64 `[T_i]`, the symbol under each frame.

    Returns:
        int64 `[K, T_i]` each.
    """
    device = nar.device
    missing = nar.config.num_codebooks - nar.config.ar_books
    frames, symbols, pointers = [], [], []
    for text, voice, codes, pointer in zip(texts, voices, spoken, walked, strict=True):
        given = voice.codes[: nar.config.num_codebooks].to(device)
        known = F.pad(codes.to(device), (0, 0, 0, missing))
        frames.append(torch.cat((given, known), dim=1).T)
        symbols.append(torch.cat((voice.symbols, text)).to(device))
        pointers.append(torch.cat((voice.pointer, pointer.cpu() + len(voice.symbols))).to(device))
    prompt_frames = torch.tensor([v.codes.shape[1] for v in voices], device=device)
    filled = nar.complete(
        pad_sequence(symbols, batch_first=True),
        torch.tensor([len(s) for s in symbols], device=device),
        pad_sequence(frames, batch_first=True).transpose(1, 2),
        torch.tensor([len(f) for f in frames], device=device),
        prompt_frames,
        pad_sequence(pointers, batch_first=True) if nar.uses_pointer else None,
    )
    return [
        filled[i, :, start : start + codes.shape[1]]
        for i, (start, codes) in enumerate(zip(prompt_frames.tolist(), spoken, strict=True))
    ]


def require_fit(
    ar: AutoregressiveModel,
    nar: NonAutoregressiveModel | None,
    texts: Sequence[Tensor],
    voices: Sequence[Voice],
) -> None:
    """Refuse what does not belong together, before anything is computed."""
    if not texts or len(texts) != len(voices):
        raise ConfigError(
            f"{len(texts)} texts came with {len(voices)} voices; give one voice a text."
        )
    if nar is not None:
        ar.config.codec_identity.require(nar.config.codec_identity, "The non-autoregressive model")
        for name in ("ar_books", "alignment"):
            if getattr(ar.config, name) != getattr(nar.config, name):
                raise ModelMismatch(
                    f"The two language models differ in {name}; use a pair trained with one recipe."
                )
        ar.require_same_text(nar)
    for text in texts:
        if text.numel() == 0:
            raise UnsupportedText("The text holds no symbol; give at least one word to speak.")
        if not 0 <= int(text.min()) <= int(text.max()) < ar.config.num_symbols:
            raise UnsupportedText(
                f"A symbol of the text lies outside the model's table of {ar.config.num_symbols}; "
                "encode the text with the model's own vocabulary."
            )
    needed = ar.config.num_codebooks if nar is not None else ar.config.ar_books
    for voice in voices:
        ar.config.codec_identity.require(voice.identity, "The voice")
        if voice.codes.shape[0] < needed:
            raise ModelMismatch(
                f"The voice has {voice.codes.shape[0]} codebooks, the models read {needed}; "
                "prepare it from its recording with all books."
            )
        if int(voice.symbols.max()) >= ar.config.num_symbols:
            raise ModelMismatch(
                "The voice's transcript holds symbols that the model does not know; prepare the "
                "voice with this model."
            )
