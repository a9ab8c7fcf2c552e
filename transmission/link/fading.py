"""Loudness of what is concealed: full for a while, then less and less, and back when frames come again."""

from __future__ import annotations

import torch
from torch import Tensor


class Fading:
    """Gain of every sample, frame by frame.

    Args:
        hop_length: Samples of a frame.
        hold_samples: How long a gap keeps its level.
        fade_samples: In what time it falls to silence then.
    """

    def __init__(self, hop_length: int, hold_samples: int, fade_samples: int) -> None:
        self._hold, self._fade = hold_samples, fade_samples
        self._steps = torch.arange(hop_length) + 1
        # a stream that begins with a gap begins silent, one that begins with a frame at full level
        self._gain, self._lost_samples = 1.0, hold_samples + fade_samples

    @property
    def is_silent(self) -> bool:
        """Whether the last frame ended in silence."""
        return self._gain == 0

    def next(self, *, is_lost: bool) -> Tensor | None:
        """Gains of the next frame, float32 `[hop]`; None where all are 1."""
        if not is_lost:
            start, self._gain, self._lost_samples = self._gain, 1.0, 0
            if start == 1:
                return None
            gains: Tensor = start + (1 - start) * self._steps / len(self._steps)
            return gains
        beyond = self._lost_samples + self._steps - self._hold
        self._lost_samples += len(self._steps)
        gains = (1 - beyond / max(1, self._fade)).clamp(0, 1)
        self._gain = float(gains[-1])
        return gains
