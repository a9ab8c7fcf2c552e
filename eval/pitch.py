"""Does decoded speech keep the voicing and the pitch of the original.

The voicing score is that of the vocoder literature (CARGAN, Morrison et al. 2022; Vocos, Siuzdak
2023): F1 of the decision voiced or unvoiced, frame by frame, with the original as the truth. Those
papers ask a neural pitch tracker; here it is WORLD's DIO with StoneMask, the tracker that made the
pitch targets of training, so figures compare within this toolkit only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..data_prep.packs import PITCH_FRAMES_PER_SECOND, pitch_tracker
from ..tokenizer.audio import resample
from .metrics import common_length

RATE_HZ = 16_000
FRAMES_PER_SECOND = 100


@dataclass(frozen=True)
class PitchScore:
    """Agreement of two pitch tracks, frames of 10 ms.

    Attributes:
        vuv_f1: Of the voiced frames, 0 to 1; None if neither track has one.
        pitch_rmse_cents: Root mean square of the pitch difference over frames voiced in both, in
            hundredths of a semitone, octave errors included; None if there is no such frame.
    """

    vuv_f1: float | None
    pitch_rmse_cents: float | None


def pitch_track(waveform: Tensor, sampling_rate: int) -> Tensor:
    """Fundamental frequency of float `[L]`: float32 `[T]` in Hz at 100 Hz, 0 where unvoiced.

    Raises:
        MissingExtra: If pyworld is not installed.
    """
    samples = resample(waveform.detach().cpu().float(), sampling_rate, RATE_HZ)
    track = pitch_tracker(RATE_HZ)(samples.numpy())
    return torch.from_numpy(track[:: PITCH_FRAMES_PER_SECOND // FRAMES_PER_SECOND].copy())


def compare_pitch(original: Tensor, judged: Tensor) -> PitchScore:
    """Compare two tracks of `pitch_track`, float `[T]`; the longer is cut."""
    truth, guess = common_length(original, judged)
    voiced, claimed = truth > 0, guess > 0
    both = voiced & claimed
    total = int(voiced.sum()) + int(claimed.sum())
    if total == 0:
        return PitchScore(None, None)
    cents = 1200 * (guess[both] / truth[both]).log2()
    return PitchScore(
        2 * int(both.sum()) / total,
        float(cents.square().mean().sqrt()) if bool(both.any()) else None,
    )
