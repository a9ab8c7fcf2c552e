"""The speaker embedding: one voice is like itself, silence is like nobody."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from speechlm.errors import MissingExtra
from speechlm.eval.similarity import SpeakerEncoder, similarity


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    try:
        return SpeakerEncoder()
    except MissingExtra as error:
        pytest.skip(str(error))


def voice(pitch_hz: float, formant_hz: float, rate: int = 16_000) -> Tensor:
    time = torch.arange(2 * rate) / rate
    glide = pitch_hz * (1 + 0.05 * torch.sin(2 * math.pi * 2 * time))
    phase = 2 * math.pi * torch.cumsum(glide, 0) / rate
    tones = [
        math.exp(-(((k * pitch_hz - formant_hz) / 400) ** 2)) * torch.sin(k * phase)
        for k in range(1, int(rate / 2 / pitch_hz / 1.1))
    ]
    return 0.2 * torch.stack(tones).sum(0) * (torch.sin(2 * math.pi * 3 * time) > -0.5)


def test_an_embedding_has_length_one_and_is_like_itself(encoder: SpeakerEncoder) -> None:
    low = encoder.embed(voice(100, 600), 16_000)
    assert low.shape == (256,)
    assert float(low.norm()) == pytest.approx(1, abs=1e-5)
    assert similarity(low, low) == pytest.approx(1, abs=1e-5)


def test_another_voice_is_less_alike_than_the_same_at_another_rate(
    encoder: SpeakerEncoder,
) -> None:
    low = encoder.embed(voice(100, 600), 16_000)
    same = encoder.embed(voice(100, 600, 24_000), 24_000)
    other = encoder.embed(voice(280, 2200), 16_000)
    assert similarity(low, same) > 0.95
    assert similarity(low, other) < similarity(low, same) - 0.1


@pytest.mark.parametrize("samples", [1, 700])
def test_silence_and_a_click_do_not_stop_an_evaluation(
    encoder: SpeakerEncoder, samples: int
) -> None:
    assert not encoder.embed(torch.zeros(samples), 16_000).any()
    assert torch.isfinite(encoder.embed(torch.full((samples,), 0.3), 16_000)).all()
    assert similarity(torch.zeros(256), torch.ones(256)) == 0
