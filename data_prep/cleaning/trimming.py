"""Silence trimming by silero-vad: what comes before the first speech and after the last."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...tokenizer.audio import resample

VAD_HZ = 16_000
_LEAST_SPEECH_MS = 60  # a short word counts; a click does not


def speech_bounds(samples: NDArray[np.float32], sampling_rate: int) -> tuple[float, float] | None:
    """Seconds at which the first speech of `[L]` begins and the last ends, or None if there is none."""
    detect, model = _detector()
    waveform = resample(torch.from_numpy(samples), sampling_rate, VAD_HZ)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order would move a boundary
    try:
        found = detect(
            waveform, model, sampling_rate=VAD_HZ, min_speech_duration_ms=_LEAST_SPEECH_MS
        )
    finally:
        torch.set_num_threads(threads)
    if not found:
        return None
    return found[0]["start"] / VAD_HZ, min(found[-1]["end"] / VAD_HZ, len(samples) / sampling_rate)


def trimmed_margins(
    bounds: tuple[float, float],
    seconds: float,
    margin_s: float,
    durations_s: tuple[float, ...] | None,
) -> tuple[float, float]:
    """Seconds to cut from the head and from the tail.

    Where phonemes are aligned, only the silence at either end is cut, never into a phoneme.
    """
    head = max(0.0, bounds[0] - margin_s)
    tail = max(0.0, seconds - bounds[1] - margin_s)
    if durations_s is not None:
        spoken_until = sum(durations_s[:-1])
        head = min(head, durations_s[0])
        tail = min(tail, max(0.0, seconds - spoken_until))
    return head, tail


@cache
def _detector() -> tuple[Any, Any]:
    threads = torch.get_num_threads()
    silero_vad = importlib.import_module("silero_vad")
    torch.set_num_threads(threads)  # silero-vad sets it to one for the whole process
    return silero_vad.get_speech_timestamps, silero_vad.load_silero_vad()
