"""A voice: the prompt recording checked, trimmed and cut, and the codes that models continue."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ModelMismatch, UnsupportedAudio
from ..tokenizer.audio import read_audio, resample
from ..tokenizer.codes import CodecIdentity
from .text import NO_TEXT

MIN_SECONDS = 0.5
ENOUGH_SECONDS = 2.0  # of a voice whose model hears it again
SHORTEST_CUT_SECONDS, LONGEST_SECONDS = 8.0, 10.0
LONGEST_WITH_TEXT_SECONDS = 8.0  # a transcript is for the whole recording: nothing is cut off
MAX_FILE_SECONDS = 600.0
SILENCE_DBFS = -55.0  # a recording that never rises above this holds no voice
TRIM_BELOW_PEAK_DB = 35.0
MARGIN_SECONDS = 0.05  # soft onsets and the last of a fading sound lie below the threshold
WINDOW_SECONDS = 0.02
LEVELS_DBFS = (-32.0, -16.0)  # loudness of the speech that codecs and models were trained on


@dataclass(frozen=True)
class Voice:
    """A prompt as the language models read it; prepared once, it serves any number of texts.

    Attributes:
        codes: int64 `[K, P]`, the prompt's frames.
        symbols: int64 `[S]`, the prompt's text, or the single symbol `NO_TEXT`.
        pointer: int64 `[P]`, the symbol under each frame.
        identity: The codec that made the codes.
        vocabulary: Which symbols the text is written in (`vocabulary_id`); empty without a text.
        loudness_dbfs: Level of the prompt's speech in dB of full scale, where it is known.
        source: Where the voice comes from, for people.
    """

    codes: Tensor
    symbols: Tensor
    pointer: Tensor
    identity: CodecIdentity
    vocabulary: str = ""
    loudness_dbfs: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        frames = self.codes.shape[-1]
        if self.codes.dim() != 2 or self.pointer.shape != (frames,) or self.symbols.dim() != 1:
            raise ModelMismatch(
                f"A voice needs codes [K, P] and a pointer [P], got {list(self.codes.shape)} and "
                f"{list(self.pointer.shape)}; prepare the voice from its recording again."
            )

    @property
    def note(self) -> str:
        """What the user should know of it; empty if nothing."""
        seconds = self.codes.shape[-1] / self.identity.frame_rate_hz
        if seconds >= ENOUGH_SECONDS:
            return ""
        return (
            f"The prompt holds {seconds:.1f} s of speech; "
            f"a voice is followed well from {ENOUGH_SECONDS:.0f} s on."
        )

    @classmethod
    def without_text(cls, codes: Tensor, identity: CodecIdentity) -> Voice:
        """A voice whose transcript is not known: int64 `[K, P]`."""
        pointer = torch.zeros(codes.shape[-1], dtype=torch.int64, device=codes.device)
        symbols = torch.tensor([NO_TEXT], device=codes.device)
        return cls(codes, symbols, pointer, identity)


def heard_again(voice: Voice, seconds: float) -> Voice:
    """A short prompt without its transcript, as often in a row as brings it to `seconds`.

    Attention then finds every frame of the voice more than once, and follows it more closely
    (docs/language-model.md has figures). A prompt with its transcript stays as it is: its words would be said
    again too.
    """
    frames = voice.codes.shape[1]
    wanted = seconds * voice.identity.frame_rate_hz
    if not 0 < frames < wanted or voice.symbols.tolist() != [NO_TEXT]:
        return voice
    times = math.ceil(wanted / frames)
    return replace(voice, codes=voice.codes.repeat(1, times), pointer=voice.pointer.repeat(times))


def read_prompt(
    source: str | os.PathLike[str] | Tensor,
    sampling_rate: int,
    *,
    source_rate: int | None = None,
    is_whole: bool = False,
) -> Tensor:
    """The part of a recording that serves as a prompt.

    Silence at both ends goes; of a long recording the last eight to ten seconds stay, beginning at
    a quiet point, so that the prompt ends where its speaker stopped.

    Args:
        source: A file in any format and rate, or a waveform float `[L]`.
        sampling_rate: Rate of the result.
        source_rate: Rate of a waveform; `sampling_rate` if None.
        is_whole: Cut nothing but silence, for a prompt that comes with its transcript.

    Returns:
        float32 `[L]`, at a level usual for speech.

    Raises:
        UnsupportedAudio: If the recording is unreadable, silent, or too short or too long.
    """
    if isinstance(source, Tensor):
        name = "The prompt"
        if source.dim() != 1 or source.numel() == 0 or not source.isfinite().all():
            raise UnsupportedAudio(
                f"The prompt must be a waveform [L] of finite samples, got {list(source.shape)}; "
                "average its channels and export it again."
            )
        waveform = resample(
            source.detach().cpu().float(), source_rate or sampling_rate, sampling_rate
        )
    else:
        name = f"The prompt {Path(source)}"
        waveform = read_audio(source, sampling_rate, MAX_FILE_SECONDS)
    if len(waveform) < MIN_SECONDS * sampling_rate:
        raise UnsupportedAudio(
            f"{name} lasts {len(waveform) / sampling_rate:.2f} s; give 2 to 10 s of one speaker."
        )
    loudness = _loudness(waveform, sampling_rate)
    if float(loudness.max()) < SILENCE_DBFS:
        raise UnsupportedAudio(f"{name} is silent; give 2 to 10 s of one speaker.")
    speech = _without_silence(waveform, loudness, sampling_rate)
    if len(speech) < MIN_SECONDS * sampling_rate:
        raise UnsupportedAudio(
            f"{name} holds only {len(speech) / sampling_rate:.2f} s of sound between silences; "
            "give 2 to 10 s of one speaker."
        )
    if is_whole:
        if len(speech) > LONGEST_WITH_TEXT_SECONDS * sampling_rate:
            raise UnsupportedAudio(
                f"{name} lasts {len(speech) / sampling_rate:.1f} s; with its transcript at most "
                f"{LONGEST_WITH_TEXT_SECONDS:.0f} s are taken: cut both, or leave out the text."
            )
    else:
        speech = _last_seconds(speech, sampling_rate)
    return _at_usual_level(speech, sampling_rate)


def _loudness(waveform: Tensor, sampling_rate: int) -> Tensor:
    """Level of each window in dB of full scale, `[ceil(L / window)]`."""
    window = round(WINDOW_SECONDS * sampling_rate)
    padded = F.pad(waveform, (0, -len(waveform) % window))
    power = padded.view(-1, window).square().mean(1)
    return 10 * power.clamp(min=1e-12).log10()


def _without_silence(waveform: Tensor, loudness: Tensor, sampling_rate: int) -> Tensor:
    window = round(WINDOW_SECONDS * sampling_rate)
    margin = round(MARGIN_SECONDS * sampling_rate)
    loud = torch.nonzero(loudness > loudness.max() - TRIM_BELOW_PEAK_DB).squeeze(1)
    start = int(loud[0]) * window - margin
    end = (int(loud[-1]) + 1) * window + margin
    return waveform[max(start, 0) : end]


def _last_seconds(speech: Tensor, sampling_rate: int) -> Tensor:
    """The last 8 to 10 s, from the quietest point between."""
    if len(speech) <= LONGEST_SECONDS * sampling_rate:
        return speech
    window = round(WINDOW_SECONDS * sampling_rate)
    first = len(speech) - round(LONGEST_SECONDS * sampling_rate)
    last = len(speech) - round(SHORTEST_CUT_SECONDS * sampling_rate)
    quietest = int(_loudness(speech[first:last], sampling_rate).argmin())
    return speech[first + quietest * window + window // 2 :]


def speech_level(speech: Tensor, sampling_rate: int) -> float:
    """Level of what sounds in float `[L]`, pauses left out, in dB of full scale."""
    loudness = _loudness(speech, sampling_rate)
    active = loudness[loudness > loudness.max() - TRIM_BELOW_PEAK_DB]
    return 10 * float((10 ** (active / 10)).mean().log10())


def _at_usual_level(speech: Tensor, sampling_rate: int) -> Tensor:
    """Lift a faint prompt and lower a loud one; what lies in the usual range stays as it is."""
    level = speech_level(speech, sampling_rate)
    wanted = min(max(level, LEVELS_DBFS[0]), LEVELS_DBFS[1])
    return (speech * 10 ** ((wanted - level) / 20)).clamp(-1, 1)
