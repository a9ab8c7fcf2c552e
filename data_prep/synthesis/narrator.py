"""One utterance: a sentence and a speaker in, encoded audio and its line of metadata out."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from ...errors import UnsupportedText
from ...slm.phonemes import EspeakPhonemes
from ...slm.text import TextFrontEnd
from .kokoro import MAX_PHONEMES, SAMPLING_RATE, Kokoro, KokoroFiles, Synthesizer
from .plan import Assignment
from .voices import VoicePacks

_MIN_SECONDS = 0.5
_SILENCE = 0.01  # of full scale
# What is kept of the silence around the speech: its onset is softer than its end is long
_BEFORE_S, _AFTER_S = 0.05, 0.1
_PEAK = 0.98
_OPUS_COMPRESSION = 0.88  # about 36 kbit/s for one channel


@dataclass(frozen=True)
class Narrated:
    """A finished utterance.

    Attributes:
        row: Its line of metadata, as the reader `jsonl` takes it.
        audio: The content of the file that `row["audio"]` names.
    """

    row: dict[str, Any]
    audio: bytes


class Narrator:
    """Speaks assignments; the same one always gives the same samples on one machine.

    Args:
        synthesizer: Makes the sound.
        packs: The voices that speakers are mixed of.
        front_end: Gives the front end of a language, which is asked for once.
    """

    def __init__(
        self,
        synthesizer: Synthesizer,
        packs: VoicePacks,
        front_end: Callable[[str], TextFrontEnd] = EspeakPhonemes,
    ) -> None:
        self._synthesizer = synthesizer
        self._packs = packs
        self._make_front_end = front_end
        self._front_ends: dict[str, TextFrontEnd] = {}

    def narrate(self, asked: Assignment) -> Narrated | None:
        """Speak one sentence, or give None if it has nothing to speak, is too long or stayed silent."""
        speaker = asked.speaker
        try:
            written = self._front_end(speaker.language).phonemize(asked.text)
        except UnsupportedText:
            return None
        known = self._synthesizer.symbols
        phonemes = "".join(symbol for symbol in written if symbol in known)
        if not phonemes.strip() or len(phonemes) > MAX_PHONEMES:
            return None
        style = self._packs.style(speaker, len(phonemes))
        spoken = self._synthesizer.speak(phonemes, style, asked.speed)
        part = _speech_part(spoken.waveform)
        waveform = spoken.waveform[part]
        if len(waveform) < _MIN_SECONDS * SAMPLING_RATE:
            return None
        peak = float(np.abs(waveform).max())
        if peak > _PEAK:
            waveform = waveform * np.float32(_PEAK / peak)
        row = {
            "id": asked.id,
            "index": asked.index,
            "speaker": speaker.name,
            "mix": [speaker.pack, speaker.other, speaker.share],
            "speed": asked.speed,
            "text": asked.text,
            "phonemes": phonemes,
            "durations": spoken.durations,
            "offset_s": round(part.start / SAMPLING_RATE, 4),
            "seconds": round(len(waveform) / SAMPLING_RATE, 3),
            "audio": f"{speaker.name}/{asked.id}.opus",
        }
        return Narrated(row, _encode(waveform))

    def _front_end(self, language: str) -> TextFrontEnd:
        if language not in self._front_ends:
            self._front_ends[language] = self._make_front_end(language)
        return self._front_ends[language]


class NarratorSource(Protocol):
    """How a process gets its narrator; passed on to others, so it is small and can be pickled."""

    def open(self) -> Narrator:
        """Load everything."""
        ...

    def fingerprint(self) -> dict[str, str]:
        """Checksums of all that the sound depends on, by a word for each."""
        ...


@dataclass(frozen=True)
class KokoroSource:
    """Kokoro with the English front ends of espeak-ng.

    Attributes:
        voices: Folder of voice packs.
        model: Folder with the unpacked model; None takes the installed packages.
    """

    voices: Path
    model: Path | None = None

    def open(self) -> Narrator:
        """Load everything; see `Kokoro`, `VoicePacks.load` and `EspeakPhonemes` for what it raises."""
        packs = VoicePacks.load(self.voices)
        EspeakPhonemes("en-us")  # its absence shall be told before the model loads
        return Narrator(Kokoro(KokoroFiles.find(self.model)), packs)

    def fingerprint(self) -> dict[str, str]:
        """Checksums of model and voices."""
        return {
            "model": KokoroFiles.find(self.model).fingerprint(),
            "voices": VoicePacks.load(self.voices).fingerprint,
        }


def _speech_part(waveform: NDArray[np.float32]) -> slice:
    loud = np.flatnonzero(np.abs(waveform) > _SILENCE)
    if not len(loud):
        return slice(0, 0)
    start = max(0, int(loud[0]) - round(_BEFORE_S * SAMPLING_RATE))
    end = min(len(waveform), int(loud[-1]) + round(_AFTER_S * SAMPLING_RATE))
    return slice(start, end)


def _encode(waveform: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(
        buffer,
        waveform,
        SAMPLING_RATE,
        format="OGG",
        subtype="OPUS",
        compression_level=_OPUS_COMPRESSION,
    )
    return buffer.getvalue()
