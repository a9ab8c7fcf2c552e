"""Voicing and pitch of a decoded voice against the original's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from speechlm.eval.pitch import compare_pitch, pitch_track

RATE = 16_000


def track(*hertz: float) -> Tensor:
    return torch.tensor(hertz)


def test_f1_counts_voiced_frames_and_cents_compare_where_both_are_voiced() -> None:
    same = compare_pitch(track(100, 110, 0, 0), track(100, 110, 0, 0))
    assert (same.vuv_f1, same.pitch_rmse_cents) == (1.0, 0.0)
    half = compare_pitch(track(100, 110, 0, 0), track(200, 0, 90, 0))
    assert half.vuv_f1 == 0.5  # one hit, one miss, one false alarm
    assert half.pitch_rmse_cents == pytest.approx(1200)
    semitone = compare_pitch(track(100, 100), track(100 * 2 ** (1 / 12), 100 / 2 ** (1 / 12)))
    assert semitone.pitch_rmse_cents == pytest.approx(100, rel=1e-3)


def test_scores_without_voice_are_undefined_not_perfect() -> None:
    silent = compare_pitch(track(0, 0), track(0, 0))
    assert (silent.vuv_f1, silent.pitch_rmse_cents) == (None, None)
    lost = compare_pitch(track(100, 0), track(0, 0))
    assert (lost.vuv_f1, lost.pitch_rmse_cents) == (0.0, None)


def test_a_track_follows_a_voice_and_its_pauses_at_any_rate() -> None:
    pytest.importorskip("pyworld")
    for rate in (RATE, 24_000):
        time = torch.arange(2 * rate) / rate
        phase = 2 * math.pi * 150 * time
        voice = 0.1 * sum(torch.sin(k * phase) / k for k in range(1, 25)) * (time < 1)
        voice += 1e-4 * torch.randn(len(time), generator=torch.Generator().manual_seed(0))
        found = pitch_track(voice, rate)
        assert len(found) == 200
        assert found[20:80].tolist() == pytest.approx([150.0] * 60, rel=0.01)
        assert (found[110:] == 0).float().mean() > 0.9


def test_silence_and_single_samples_have_no_pitch() -> None:
    pytest.importorskip("pyworld")
    assert not pitch_track(torch.zeros(RATE), RATE).any()
    assert not pitch_track(torch.ones(1), RATE).any()
