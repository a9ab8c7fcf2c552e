"""A delay is found and taken away, whether or not the waveform itself was kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from speechlm.eval.delay import align, find_delay

RATE = 16_000


def bursts(seconds: float = 1.5, seed: int = 0) -> Tensor:
    """Noise that comes and goes at random moments."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.rand(round(seconds * 20), generator=generator).square()
    levels = torch.nn.functional.interpolate(levels[None, None], round(seconds * RATE))[0, 0]
    return 0.2 * levels * torch.randn(len(levels), generator=generator)


@pytest.mark.parametrize("lag", [-700, -1, 0, 1, 95, 6_400])
def test_a_delayed_copy_comes_back_to_the_sample(lag: int) -> None:
    wave = bursts()
    delayed = torch.nn.functional.pad(wave, (lag, 0)) if lag >= 0 else wave[-lag:]
    noisy = delayed + 0.01 * torch.randn(len(delayed), generator=torch.Generator().manual_seed(1))
    assert find_delay(wave, noisy, RATE) == lag
    back = align(wave, noisy, RATE)
    assert back.shape == wave.shape
    inner = slice(800, -800)
    assert float((back - wave)[inner].abs().max()) < 0.1


def test_a_vocoder_s_delay_is_found_by_its_levels() -> None:
    wave = bursts()
    other = wave.abs() * torch.randn(len(wave), generator=torch.Generator().manual_seed(2)).sign()
    delayed = torch.nn.functional.pad(other, (480, 0))
    assert find_delay(wave, delayed, RATE) == pytest.approx(480, abs=2 * RATE // 1000)


def test_silence_and_single_samples_have_no_delay() -> None:
    assert find_delay(bursts(), torch.zeros(100), RATE) == 0
    assert align(torch.ones(1), torch.ones(3), RATE).shape == (1,)
    assert align(bursts(), torch.zeros(5), RATE).shape == bursts().shape
