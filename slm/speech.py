"""What a speaker gives: sentences joined as codes, decoded as one, with soft edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .generate import Generation

PAUSE_SECONDS = 0.15  # between sentences; each brings some silence of its own
FADE_SECONDS = 0.005  # a waveform cut at a sample that is not zero clicks


@dataclass(frozen=True)
class Speech:
    """What `Speaker.say` gives.

    Attributes:
        waveform: float32 `[L]`, within -1 to 1.
        sampling_rate: Samples per second.
        finish_reason: `end`, or `length` if some sentence was cut at its cap on frames.
        compute_seconds: Wall time of the call; of a batch, this line's share by its duration.
        notes: Sentences that the user should see.
    """

    waveform: Tensor
    sampling_rate: int
    finish_reason: Literal["end", "length"]
    compute_seconds: float
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.waveform) / self.sampling_rate


def pause_codes(
    last_frame: Tensor, is_end: bool, silent_frame: Tensor, frame_rate_hz: float
) -> Tensor:
    """Codes of the pause after a sentence: the room that it fell silent in goes on.

    A pause of zeros, or a waveform put together of pieces, would be heard as a hole in the noise of
    the room; codes that are decoded in one go have no seam.

    Args:
        last_frame: int64 `[k]`, of the sentence before.
        is_end: Whether that sentence was spoken to its end, and so ends in silence.
        silent_frame: int64 `[K]`, the codec's silence, for a sentence that was cut.
        frame_rate_hz: Of the codec.

    Returns:
        int64 `[k, n]`.
    """
    frame = last_frame if is_end else silent_frame[: len(last_frame)].to(last_frame)
    return frame[:, None].expand(-1, max(1, round(PAUSE_SECONDS * frame_rate_hz)))


def join_codes(spoken: Sequence[Generation], silent_frame: Tensor, frame_rate_hz: float) -> Tensor:
    """Sentences and the pauses between them as one sequence of codes, int64 `[k, T]`."""
    parts: list[Tensor] = []
    for sentence in spoken:
        is_end = sentence.finish_reason == "end"
        pause = pause_codes(sentence.codes[:, -1], is_end, silent_frame, frame_rate_hz)
        parts += [sentence.codes, pause]
    return torch.cat(parts[:-1], dim=1)


class SoftEdges:
    """Fades a waveform in and out and keeps it within full scale, in pieces of any size.

    The samples of the fade at the end are held back until the end is known.

    Args:
        sampling_rate: Samples per second.
    """

    def __init__(self, sampling_rate: int) -> None:
        self.ramp = torch.linspace(0, 1, round(FADE_SECONDS * sampling_rate))
        self.held = torch.zeros(0)
        self.num_taken = 0

    def push(self, samples: Tensor) -> Tensor:
        """Take in float `[n]`; returns the samples that are now final."""
        samples = samples.clamp(-1, 1)
        rising = self.ramp[self.num_taken : self.num_taken + len(samples)]
        if len(rising):
            samples = torch.cat((samples[: len(rising)] * rising, samples[len(rising) :]))
        self.num_taken += len(samples)
        waiting = torch.cat((self.held, samples))
        ready = max(0, len(waiting) - len(self.ramp))
        self.held = waiting[ready:]
        return waiting[:ready]

    def flush(self) -> Tensor:
        """The samples held back, faded out."""
        held, self.held = self.held, self.held[:0]
        return held * self.ramp.flip(0)[len(self.ramp) - len(held) :]
