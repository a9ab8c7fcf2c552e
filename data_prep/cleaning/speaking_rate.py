"""Speaking rate: letters per second of speech, which gives transcripts of other recordings away.

A wrong sampling rate in a header changes it too, by the factor of the two rates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LETTERS_PER_DIGIT = 4  # zero to nine have 40 letters in English
_FRAME_S = 0.02
_ACTIVE_POWER = 1e-3


def spoken_characters(text: str) -> int:
    """Letters of a text, a digit counted as the letters of its name."""
    return sum(LETTERS_PER_DIGIT if c.isdigit() else c.isalpha() for c in text)


def active_seconds(samples: NDArray[np.float32], sampling_rate: int) -> float:
    """Seconds of `[L]` in which the level is within 30 dB of the loud frames; at least one frame."""
    size = max(1, round(_FRAME_S * sampling_rate))
    padded = np.pad(samples, (0, -len(samples) % size))
    power = np.square(padded).reshape(-1, size).mean(axis=1)
    active = int(np.count_nonzero(power >= np.quantile(power, 0.95) * _ACTIVE_POWER))
    return max(1, active) * size / sampling_rate


def characters_per_second(text: str, samples: NDArray[np.float32], sampling_rate: int) -> float:
    """Letters of a transcript per second of speech in `[L]`."""
    return spoken_characters(text) / active_seconds(samples, sampling_rate)
