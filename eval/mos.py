"""How good would listeners call a recording: DistillMOS, which needs no original to compare with.

A small convolutional Transformer that learned from a large speech-quality model (Stahl and Gamper,
"Distillation and Pruning for Scalable Self-Supervised Representation-Based Speech Quality
Assessment", 2025). It hears 16 kHz, so it says nothing of what is above 8 kHz.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator
from io import StringIO
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import Tensor

from ..tokenizer.audio import resample
from .extras import require
from .metrics import mean

RATE_HZ = 16_000
_PIECE_SECONDS = 20.0  # bounds the memory: the network holds every 7.68 s window of a piece at once


class QualityPredictor(Protocol):
    """What an evaluation asks of a predictor of opinion scores; any object of this shape will do."""

    @property
    def name(self) -> str:
        """Stands in the report, because figures of two predictors cannot be compared."""
        ...

    def predict(self, waveform: Tensor, sampling_rate: int) -> float | None:
        """Return the mean opinion score of float `[L]`, 1 to 5; None where it means nothing."""
        ...


class DistillMos:
    """Predicts the mean opinion score of a recording, 1 (bad) to 5 (excellent)."""

    name = "DistillMOS v7 (distillmos 0.9)"

    def __init__(self) -> None:
        """Load the weights that come inside the package distillmos.

        Raises:
            MissingExtra: If distillmos or xls-r-sqa is not installed.
        """
        purpose = "The MOS predictor (distillmos on xls_r_sqa)"
        require("xls_r_sqa", purpose, "make scorers")
        with _torchaudio_stand_in():
            distillmos = require("distillmos", purpose, "make scorers")
        with contextlib.redirect_stdout(StringIO()):  # it prints where its weights lie
            self._model: Any = distillmos.ConvTransformerSQAModel().eval()

    @torch.inference_mode()
    def predict(self, waveform: Tensor, sampling_rate: int) -> float | None:
        """Score float `[L]`: windows of 7.68 s, at most 1 s apart, averaged; None for silence.

        Shorter recordings are filled up with zeros, as the predictor's authors do.
        """
        samples = resample(waveform.detach().cpu().float(), sampling_rate, RATE_HZ)
        if not samples.any():
            return None
        pieces = samples.chunk(math.ceil(len(samples) / (_PIECE_SECONDS * RATE_HZ)))
        return mean([float(self._model(piece[None])) for piece in pieces if bool(piece.any())])


@contextlib.contextmanager
def _torchaudio_stand_in() -> Iterator[None]:
    """Let distillmos import without torchaudio, which only its own command line uses."""
    if "torchaudio" in sys.modules:
        yield
        return
    sys.modules["torchaudio"] = ModuleType("torchaudio")
    try:
        yield
    finally:
        del sys.modules["torchaudio"]
