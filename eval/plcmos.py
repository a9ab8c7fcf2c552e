"""How good would listeners call speech with gaps and codec damage: PLCMOS, which needs no original.

A small network that learned from listeners of concealed packet losses (Diener et al., "PLCMOS - A Data-driven
Non-intrusive Metric for The Evaluation of Packet Loss Concealment Algorithms", 2023; arXiv 2305.15127). It
hears 16 kHz.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from ..tokenizer.audio import resample
from .extras import require
from .metrics import mean

RATE_HZ = 16_000
_PIECE_SECONDS = 20.0  # bounds the memory
_LEAST_SECONDS = 0.25  # the network's layers leave nothing of less
# The network answers as one listener would, who is a random vector. Its authors average over fifteen that
# are drawn anew each time; here they are always the same, so that equal samples have equal scores.
_NUM_RATERS, _RATER_SIZE, _SEED = 15, 64, 0


class PlcMos:
    """Predicts the mean opinion score of a recording, 1 (bad) to 5 (excellent)."""

    name = "PLCMOS v2 (speechmos 0.0.1, 15 fixed raters)"

    def __init__(self) -> None:
        """Load the weights that come inside the package speechmos.

        Raises:
            MissingExtra: If speechmos or onnxruntime is not installed.
        """
        purpose = "PLCMOS"
        runtime = require("onnxruntime", purpose)
        self._model: Any = require("speechmos.plcmos", purpose).PLCMOS()
        options = runtime.SessionOptions()
        # as many sums in the same order everywhere, and no other thread's time in a report
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session: Any = runtime.InferenceSession(
            self._model.model_path, options, providers=["CPUExecutionProvider"]
        )
        raters = np.random.default_rng(_SEED).normal(size=(_NUM_RATERS, 1, _RATER_SIZE))
        self._raters = raters.astype(np.float32)

    def predict(self, waveform: Tensor, sampling_rate: int) -> float | None:
        """Score float `[L]`; None for silence and for less than a quarter of a second.

        Recordings longer than 20 s are scored in equal pieces, which are averaged.
        """
        samples = resample(waveform.detach().cpu().float(), sampling_rate, RATE_HZ).clamp(-1, 1)
        if not samples.any() or len(samples) < _LEAST_SECONDS * RATE_HZ:
            return None
        pieces = samples.chunk(math.ceil(len(samples) / (_PIECE_SECONDS * RATE_HZ)))
        return mean([self._score(piece) for piece in pieces if bool(piece.any())])

    def _score(self, piece: Tensor) -> float:
        features = self._model.stft_transform(piece.numpy())[None, None].astype(np.float32)
        scores = [
            self._session.run(None, {"degraded_audio": features, "rater_embed": rater})[0]
            for rater in self._raters
        ]
        return float(np.mean(scores))
