"""Do two recordings sound like one speaker: Resemblyzer's embedding (GE2E, Wan et al. 2018).

Figures to hold a score against, measured by this scorer on read English: the same speaker 0.86,
two speakers 0.52, equal error at 0.718. Never compare them with another scorer's.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..tokenizer.audio import resample
from .extras import require
from .spectra import mel_spectrogram

RATE_HZ = 16_000
_PIECES = ("webrtcvad", "resemblyzer")


class VoiceEncoder(Protocol):
    """What an evaluation asks of a speaker encoder; any object of this shape will do."""

    @property
    def name(self) -> str:
        """Stands in the report, because figures of two encoders cannot be compared."""
        ...

    def embed(self, waveform: Tensor, sampling_rate: int) -> Tensor:
        """Return the embedding of float `[L]`, zeros for silence."""
        ...


class SpeakerEncoder:
    """Turns a recording into a vector of length one that depends on the voice."""

    name = "Resemblyzer 0.1"

    def __init__(self) -> None:
        """Load the weights that come inside the package Resemblyzer.

        Raises:
            MissingExtra: If Resemblyzer or webrtcvad is not installed.
        """
        with _librosa_stand_in(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a SciPy name that moved years ago
            for module in _PIECES:
                require(module, "Speaker similarity", "make scorers")
            self._audio = require("resemblyzer.audio", "Speaker similarity", "make scorers")
            encoder = require("resemblyzer.voice_encoder", "Speaker similarity", "make scorers")
        self._encoder: Any = encoder.VoiceEncoder("cpu", verbose=False)

    def embed(self, waveform: Tensor, sampling_rate: int) -> Tensor:
        """Embed float `[L]`: float32 `[256]` of length one, or zeros for silence."""
        samples = resample(waveform.detach().cpu().float(), sampling_rate, RATE_HZ).clamp(-1, 1)
        if not samples.any():
            return torch.zeros(256)
        loud = self._audio.normalize_volume(samples.numpy(), -30, increase_only=True)
        voiced = self._audio.trim_long_silences(np.clip(loud, -1, 1))
        # a whisper or a tone can fail the voice detector; then judge the recording as it is
        return torch.from_numpy(self._encoder.embed_utterance(voiced if len(voiced) else loud))


def similarity(first: Tensor, second: Tensor) -> float:
    """Cosine of two embeddings, in practice 0 to 1; 0 where one of them is silence."""
    return float(torch.nn.functional.cosine_similarity(first, second, dim=0))


@contextlib.contextmanager
def _librosa_stand_in() -> Iterator[None]:
    """Let Resemblyzer import without librosa.

    Resemblyzer takes one function of librosa on the way used here, a mel spectrogram that
    `spectra.py` computes too, and librosa would bring a compiler for it. Where librosa is
    installed it is used.
    """
    if "librosa" in sys.modules or find_spec("librosa") is not None:
        yield
        return

    def melspectrogram(
        *, y: np.ndarray, sr: int, n_fft: int, hop_length: int, n_mels: int
    ) -> np.ndarray:
        waveform = torch.from_numpy(np.ascontiguousarray(y, dtype=np.float32))
        return mel_spectrogram(waveform, sr, n_fft, hop_length, n_mels).numpy()

    stand_in = ModuleType("librosa")
    stand_in.feature = ModuleType("librosa.feature")  # type: ignore[attr-defined]
    stand_in.feature.melspectrogram = melspectrogram
    sys.modules["librosa"] = stand_in
    try:
        yield
    finally:
        del sys.modules["librosa"]
