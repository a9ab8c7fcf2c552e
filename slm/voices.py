"""Voices: recordings and files of voices, and how they are prepared."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from torch import Tensor

from ..errors import ConfigError, ModelMismatch, UnsupportedText
from ..tokenizer.codes import CodecIdentity, Codes
from .autoregressive import AutoregressiveModel
from .forced_alignment import align
from .prompt import Voice, read_prompt, speech_level
from .shipped import VOICE_SUFFIX, find_voice
from .text import has_words
from .transcribe import Transcriber
from .voice_file import load_voice, vocabulary_id

Prompt = str | os.PathLike[str] | Tensor | Voice | None


class Codec(Protocol):
    """What a speaker asks of a codec; `CodecModel` is one."""

    @property
    def identity(self) -> CodecIdentity:
        """What its codes carry."""
        ...

    def tokenize(self, waveforms: Sequence[Tensor], num_books: int | None = None) -> Codes:
        """Waveforms `[L_i]` to codes."""
        ...

    def synthesize(self, codes: Codes) -> list[Tensor]:
        """Codes to waveforms `[L_i]`."""
        ...


def prepare_voice(
    prompt: Prompt,
    codec: Codec,
    ar: AutoregressiveModel,
    encode: Callable[[str], Tensor],
    *,
    source_rate: int | None = None,
    prompt_text: str | None = None,
    transcriber: Transcriber | None = None,
) -> Voice:
    """Turn a recording into a voice; see `Speaker.prepare_voice`.

    Args:
        prompt: As there.
        codec: Makes the codes.
        ar: The model that will speak, which also aligns a transcript.
        encode: Text to its symbols.
        source_rate: Rate of a waveform; the codec's if None.
        prompt_text: As there.
        transcriber: As there.

    Raises:
        SpeechLMError: As there.
    """
    if not isinstance(prompt, (Tensor, Voice)):
        prompt = find_voice(prompt)
    if isinstance(prompt, Path) and prompt.suffix == VOICE_SUFFIX:
        prompt = load_voice(prompt)
    if isinstance(prompt, Voice):
        if prompt_text is not None:
            raise ConfigError(
                "The voice is prepared already; give its text when it is prepared, not again."
            )
        return _checked(prompt, codec, ar)
    rate = codec.identity.sampling_rate
    waveform = read_prompt(prompt, rate, source_rate=source_rate, is_whole=prompt_text is not None)
    whole_frames = len(waveform) - len(waveform) % codec.identity.hop_length
    codes = codec.tokenize([waveform[:whole_frames]])
    voice = replace(
        Voice.without_text(codes.item(0), codes.identity),
        loudness_dbfs=round(speech_level(waveform, rate), 1),
        source="a waveform" if isinstance(prompt, Tensor) else prompt.name,
    )
    if prompt_text is not None:
        return _with_text(voice, ar, encode(prompt_text))
    heard = "" if transcriber is None else transcriber.transcribe(waveform, rate)
    if not has_words(heard):
        return voice
    try:
        return _with_text(voice, ar, encode(heard))
    except UnsupportedText:  # misheard, or in another language: the voice serves without it
        return voice


def _with_text(voice: Voice, ar: AutoregressiveModel, symbols: Tensor) -> Voice:
    pointer = align(ar, symbols, voice) if ar.uses_pointer else voice.pointer
    vocabulary = vocabulary_id(ar.vocabulary)
    return replace(voice, symbols=symbols, pointer=pointer, vocabulary=vocabulary)


def _checked(voice: Voice, codec: Codec, ar: AutoregressiveModel) -> Voice:
    codec.identity.require(voice.identity, "The voice")
    if voice.vocabulary and voice.vocabulary != vocabulary_id(ar.vocabulary):
        raise ModelMismatch(
            "The voice's transcript is written in the symbols of another model; prepare the "
            "voice with this model, or without its text."
        )
    return voice
