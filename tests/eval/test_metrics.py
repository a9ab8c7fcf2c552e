"""The scores of decoded speech: best for the original, lower with noise, None where undefined."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from speechlm.errors import ModelMismatch, UnsupportedAudio
from speechlm.eval.metrics import CodebookUsage, mean, mel_distance, pesq_wideband, stoi
from speechlm.tokenizer.codes import CodecIdentity, Codes

RATE = 16_000
IDENTITY = CodecIdentity("test", "0" * 16, RATE, 320, 16, 3, 1)


def speech_like(seconds: float = 2.0, seed: int = 0) -> Tensor:
    """Harmonics of a gliding pitch in syllables of a quarter of a second, with pauses."""
    time = torch.arange(round(seconds * RATE)) / RATE
    pitch = 120 + 30 * torch.sin(2 * math.pi * 0.7 * time)
    phase = 2 * math.pi * torch.cumsum(pitch, 0) / RATE
    voice = sum(torch.sin(k * phase) / k for k in range(1, 25))
    syllables = (torch.sin(2 * math.pi * 3.5 * time + seed) > -0.3).float()
    return 0.1 * voice * syllables


def noisy(wave: Tensor, snr_db: float) -> Tensor:
    noise = torch.randn(len(wave), generator=torch.Generator().manual_seed(1))
    return wave + noise * wave.std() / noise.std() * 10 ** (-snr_db / 20)


@pytest.mark.parametrize(
    ("module", "score", "best"),
    [("pesq", pesq_wideband, 4.64), ("pystoi", stoi, 1.0), (None, mel_distance, 0.0)],
)
def test_the_original_scores_best_and_noise_lowers_every_score(
    module: str | None, score: Callable[..., float], best: float
) -> None:
    if module:
        pytest.importorskip(module)
    wave = speech_like()
    values = [
        score(wave, wave, RATE),
        *(score(wave, noisy(wave, snr), RATE) for snr in (25, 10, -5)),
    ]
    assert values[0] == pytest.approx(best, abs=0.01)
    assert values == sorted(values, reverse=best > 0)
    assert len(set(values)) == 4


@pytest.mark.parametrize(("module", "score"), [("pesq", pesq_wideband), ("pystoi", stoi)])
@pytest.mark.parametrize("samples", [1, 100, 3000])
def test_a_score_that_is_not_defined_is_none_not_a_crash_or_a_number(
    module: str, score: Callable[..., float | None], samples: int
) -> None:
    pytest.importorskip(module)
    assert score(torch.full((samples,), 0.1), torch.full((samples,), 0.1), RATE) is None
    assert score(torch.zeros(RATE), torch.zeros(RATE), RATE) is None
    assert score(speech_like(1.0), torch.zeros(RATE), RATE) is None


def test_pesq_takes_a_recording_longer_than_its_tables() -> None:
    pytest.importorskip("pesq")
    wave = speech_like(2.0).repeat(25)
    assert pesq_wideband(wave, wave, RATE) == pytest.approx(4.64, abs=0.01)


def test_scores_take_other_rates_and_the_common_length() -> None:
    pytest.importorskip("pystoi")
    wave = speech_like()
    assert stoi(wave, wave[:-50], RATE) == pytest.approx(1.0, abs=1e-3)
    assert mel_distance(wave, wave, 24_000) == 0.0


def test_a_waveform_without_samples_is_refused_in_a_sentence() -> None:
    with pytest.raises(UnsupportedAudio, match="not empty"):
        mel_distance(torch.zeros(0), torch.zeros(5), RATE)


def codes(values: Tensor, padded_frames: int = 0) -> Codes:
    frames = values.shape[-1] - padded_frames
    return Codes(values, torch.full((len(values),), frames * 320), IDENTITY)


def test_perplexity_is_v_for_uniform_codes_and_one_for_constant_codes() -> None:
    usage = CodebookUsage(IDENTITY, 3)
    uniform = torch.arange(16).repeat(4)
    halves = uniform // 8 * 3  # two entries, evenly
    usage.add(codes(torch.stack([uniform, torch.zeros_like(uniform), halves])[None]))
    assert usage.perplexity == pytest.approx([16.0, 1.0, 2.0])
    assert usage.usage == pytest.approx([1.0, 1 / 16, 2 / 16])
    assert usage.num_frames == 64


def test_usage_does_not_count_padding() -> None:
    usage = CodebookUsage(IDENTITY, 1)
    usage.add(codes(torch.tensor([[[5, 5, 5, 0, 0]]]), padded_frames=2))
    assert usage.counts[0].tolist() == [0, 0, 0, 0, 0, 3, *[0] * 10]


def test_usage_refuses_codes_of_another_number_of_books() -> None:
    with pytest.raises(ModelMismatch, match="number of books"):
        CodebookUsage(IDENTITY, 2).add(codes(torch.zeros(1, 3, 4, dtype=torch.int64)))


def test_the_mean_leaves_undefined_scores_out() -> None:
    assert mean([1.0, None, 3.0, math.nan]) == 2.0
    assert mean([None]) is None
