"""What a speaker gives: sentences joined as codes, decoded as one, with soft edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

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


def pause_codes(first_frame: Tensor, frame_rate_hz: float) -> Tensor:
    """Codes of the pause after a sentence: its first frame, the quiet before its first word, held.

    A pause of zeros, or a waveform put together of pieces, would be heard as a hole in the noise of
    the prompt's room. The last frame is no room: held, it gave -53 dB of full scale where the
    sentence faded out at -76, the first one gave -79 (shipped models, three voices).

    Args:
        first_frame: int64 `[k]`, of the sentence before the pause.
        frame_rate_hz: Of the codec.

    Returns:
        int64 `[k, n]`.
    """
    return first_frame[:, None].expand(-1, max(1, round(PAUSE_SECONDS * frame_rate_hz)))


def join_codes(sentences: Sequence[Tensor], frame_rate_hz: float) -> Tensor:
    """Codes `[k, T_i]` of sentences, and the pauses between them, as one sequence `[k, T]`."""
    parts: list[Tensor] = []
    for codes in sentences:
        parts += [codes, pause_codes(codes[:, 0], frame_rate_hz)]
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
