"""What a prompt says, by an optional recognizer, for who has no transcript at hand."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ..errors import MissingExtra
from ..tokenizer.audio import resample

WHISPER_RATE_HZ = 16_000


class Transcriber(Protocol):
    """What a speaker asks of a recognizer; any object of this shape will do."""

    def transcribe(self, waveform: Tensor, sampling_rate: int) -> str:
        """Return the text of float `[L]`, empty if nothing is said."""
        ...


class WhisperTranscriber:
    """A CTranslate2 Whisper model from a folder on this machine, through faster-whisper.

    Args:
        model: What faster-whisper loaded.
        language: What is spoken, as Whisper writes it.
    """

    def __init__(self, model: Any, language: str = "en") -> None:
        self._model = model
        self.language = language

    @classmethod
    def load(
        cls, folder: str | os.PathLike[str], *, language: str = "en", threads: int = 1
    ) -> WhisperTranscriber:
        """Load a model folder; nothing is downloaded.

        Raises:
            MissingExtra: If faster-whisper is not installed, or the folder holds no model of it.
        """
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise MissingExtra(
                "A prompt is transcribed by faster-whisper, which is not installed; install the "
                "extra `eval`, give the prompt's text, or speak without it."
            ) from error
        if not (Path(folder) / "model.bin").is_file():
            raise MissingExtra(
                f"{folder} holds no CTranslate2 Whisper model (model.bin); give the folder of one."
            )
        model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=threads)
        return cls(model, language)

    def transcribe(self, waveform: Tensor, sampling_rate: int) -> str:
        """Return what Whisper hears in float `[L]`."""
        samples = resample(waveform.detach().cpu().float(), sampling_rate, WHISPER_RATE_HZ)
        # Whisper can repeat itself without end on what is no speech; nobody says 12 tokens a second
        tokens = 16 + math.ceil(12 * len(samples) / WHISPER_RATE_HZ)
        segments, _ = self._model.transcribe(
            samples.numpy(),
            language=self.language,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
            max_new_tokens=tokens,
            vad_filter=False,
        )
        return " ".join(segment.text.strip() for segment in segments)
