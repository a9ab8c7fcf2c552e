"""From text and a voice to codes: one cached step per frame, then the remaining books at once.

With the pointer alignment a frame may only keep its symbol or move to the next one, moves on at the
latest after `max_frames_per_symbol` frames, and speech ends as the pointer leaves the last symbol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from ..errors import ConfigError, ModelMismatch, UnsupportedText
from .autoregressive import AutoregressiveModel
from .frame_decoder import FrameDecoder
from .nonautoregressive import NonAutoregressiveModel
from .prompt import Voice
from .sampling import DRAWS_PER_CODE, BookSampler, SamplingConfig

SECONDS_PER_SYMBOL = 0.22  # cap without a pointer; read speech takes about 0.07
DEFAULT_WINDOW = 10  # VALL-E 2's, used where nothing else prevents loops


@dataclass(frozen=True)
class Generation:
    """One generated utterance.

    Attributes:
        codes: int64 `[K, T]`; without a non-autoregressive model the first `ar_books` books.
        finish_reason: `end` if the text was spoken to its end, `length` if the cap came first.
        pointer: int64 `[T]`, the symbol under each frame (empty with the prefix alignment).
        log_probability: Of the autoregressive choices under the model itself, in nats, without
            temperature and filters.
    """

    codes: Tensor
    finish_reason: Literal["end", "length"]
    pointer: Tensor
    log_probability: float


class _FrameSampler:
    """Chooses the codes of one frame, book by book, and whether the pointer moves on."""

    def __init__(self, model: AutoregressiveModel, sampling: SamplingConfig) -> None:
        self.model = model
        masked = max(model.config.num_masked_books, 1)
        window = sampling.repetition_window
        if window is None:
            window = 0 if model.uses_pointer else DEFAULT_WINDOW
        self.samplers = [
            BookSampler(
                sampling.processors(is_residual=book >= masked),
                window if book == 0 else 0,
                sampling.repetition_ratio,
            )
            for book in range(model.config.ar_books)
        ]

    @property
    def num_draws(self) -> int:
        """Uniform numbers that one frame consumes."""
        return DRAWS_PER_CODE * len(self.samplers) + 1

    def codes(self, state: Tensor, past: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and their log-probability.

        Args:
            state: `[B, D]`.
            past: int64 `[B, t, ar_books]`.
            uniforms: `[B, num_draws]`.

        Returns:
            int64 `[B, ar_books]` (the end class of book 1 is V) and float `[B]`.
        """
        chosen: list[Tensor] = []
        total = state.new_zeros(len(state))
        for book, sampler in enumerate(self.samplers):
            scores = self.model.heads[book](state)
            if book == 0 and not self.model.uses_pointer and past.shape[1] == 0:
                scores[:, self.model.config.codebook_size] = -torch.inf  # never an empty utterance
            pair = uniforms[:, DRAWS_PER_CODE * book : DRAWS_PER_CODE * (book + 1)]
            code = sampler(scores, past[:, :, book], pair)
            total += scores.gather(1, code[:, None])[:, 0] - scores.logsumexp(-1)
            chosen.append(code)
            if book + 1 < len(self.samplers):
                known = code.clamp(max=self.model.config.codebook_size - 1)
                state = state + self.model.chosen.of_book(book, known)
        return torch.stack(chosen, dim=1), total

    def moves(self, state: Tensor, age: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Whether the pointer leaves its symbol: bool `[B]`, and the log-probability `[B]`."""
        score = self.model.advance(state)[:, 0]
        is_forced = age + 1 >= self.model.config.max_frames_per_symbol
        is_moving = (uniform < score.sigmoid()) | is_forced
        chance = F.logsigmoid(torch.where(is_moving, score, -score))
        return is_moving, chance.masked_fill(is_forced, 0.0)


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
) -> list[Generation]:
    """Speak several texts at once; each item comes out as it would alone.

    Args:
        ar: Model of the leading books, in evaluation mode.
        nar: Model of the other books, or None for the leading books only.
        texts: int64 `[S_i]` each, as the `vocabulary` of the model makes them.
        voices: One prompt an item; it may have no frames at all.
        sampling: How codes are drawn.
        max_frames: Cap on an item's frames. By default the text sets it: `max_frames_per_symbol` a
            symbol with the pointer (which always ends before), 0.22 s a symbol without (a byte of
            the text where symbols are pieces).
        generators: One CPU generator an item; without them torch's global one is used.

    Returns:
        One `Generation` an item.

    Raises:
        UnsupportedText: If a text is empty or holds symbols that the model does not know.
        ModelMismatch: If the two models, or a voice and a model, do not belong together.
        ConfigError: If `max_frames` is below 1.
    """
    _require_fit(ar, nar, texts, voices)
    sampler = _FrameSampler(ar, sampling or SamplingConfig())
    caps = [_frame_cap(ar, text, max_frames) for text in texts]
    uniforms = _uniforms(caps, sampler.num_draws, generators).to(ar.device)
    decoder = FrameDecoder(ar, texts, voices, max(caps))
    size = torch.tensor([len(text) for text in texts], device=ar.device)
    cap = torch.tensor(caps, device=ar.device)
    batch = len(texts)
    codes = torch.zeros(batch, max(caps), ar.config.ar_books, dtype=torch.int64, device=ar.device)
    pointers = torch.zeros(batch, max(caps), dtype=torch.int64, device=ar.device)
    pointer, age, num_frames = torch.zeros(3, batch, dtype=torch.int64, device=ar.device)
    is_running = torch.ones(batch, dtype=torch.bool, device=ar.device)
    has_ended = torch.zeros_like(is_running)
    log_probability = torch.zeros(batch, device=ar.device)
    previous = decoder.start
    for frame in range(max(caps)):
        state = decoder.step(previous, pointer, age)
        chosen, chance = sampler.codes(state, codes[:, :frame], uniforms[:, frame])
        log_probability += chance * is_running
        if ar.uses_pointer:
            pointers[:, frame] = pointer
            moves, chance = sampler.moves(state, age, uniforms[:, frame, -1])
            log_probability += chance * is_running
            age = torch.where(moves, 0, age + 1)
            pointer = pointer + moves
            num_frames += is_running
            has_ended |= is_running & (pointer == size)
            # A finished item idles on its last symbol until the others are done.
            pointer = pointer.minimum(size - 1)
            age = age.clamp(max=ar.config.max_frames_per_symbol)
        else:
            has_ended |= is_running & (chosen[:, 0] == ar.config.codebook_size)
            num_frames += is_running & ~has_ended
            chosen = chosen.clamp(max=ar.config.codebook_size - 1)
        codes[:, frame] = chosen
        is_running &= ~has_ended & (num_frames < cap)
        if not bool(is_running.any()):
            break
        previous = ar.codes(chosen[:, :, None]).sum(1)[:, 0]
    lengths = num_frames.tolist()
    spoken = [codes[i, :n].T for i, n in enumerate(lengths)]
    walked = [pointers[i, : n if ar.uses_pointer else 0] for i, n in enumerate(lengths)]
    if nar is not None:
        spoken = _complete(nar, texts, voices, spoken, walked)
    return [
        Generation(c.cpu(), "end" if ended else "length", p.cpu(), float(chance))
        for c, p, ended, chance in zip(spoken, walked, has_ended, log_probability, strict=True)
    ]


def _uniforms(
    caps: Sequence[int], num_draws: int, generators: Sequence[torch.Generator] | None
) -> Tensor:
    """All chance of a batch beforehand, `[B, T, num_draws]`; an item's does not depend on others."""
    sources: Sequence[torch.Generator | None] = generators or [None] * len(caps)
    rows = [torch.rand(cap, num_draws, generator=g) for cap, g in zip(caps, sources, strict=True)]
    return pad_sequence(rows, batch_first=True)


def _complete(
    nar: NonAutoregressiveModel,
    texts: Sequence[Tensor],
    voices: Sequence[Voice],
    spoken: Sequence[Tensor],
    walked: Sequence[Tensor],
) -> list[Tensor]:
    """All K books of each item, from the leading ones: `[ar_books, T_i]` to `[K, T_i]`."""
    device = nar.device
    missing = nar.config.num_codebooks - nar.config.ar_books
    frames, symbols, pointers = [], [], []
    for text, voice, codes, pointer in zip(texts, voices, spoken, walked, strict=True):
        given = voice.codes[: nar.config.num_codebooks].to(device)
        frames.append(torch.cat((given, F.pad(codes, (0, 0, 0, missing))), dim=1).T)
        symbols.append(torch.cat((voice.symbols, text)).to(device))
        pointers.append(torch.cat((voice.pointer.to(device), pointer + len(voice.symbols))))
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


def _frame_cap(ar: AutoregressiveModel, text: Tensor, max_frames: int | None) -> int:
    if max_frames is not None:
        if max_frames < 1:
            raise ConfigError(f"max_frames is {max_frames}; it must be at least 1.")
        return max_frames
    if ar.uses_pointer:
        return ar.config.max_frames_per_symbol * len(text)
    num_symbols = len(text)
    if ar.config.num_pieces:
        # bytes of the text stand for its sounds: a letter of Latin script has one, a syllable of
        # Chinese or Korean, which lasts longer, three
        num_symbols = max(num_symbols, len(ar.vocabulary.decode(text.tolist()).encode()))
    return max(1, round(SECONDS_PER_SYMBOL * ar.config.frame_rate_hz * num_symbols))


def _require_fit(
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
