"""The MOS predictor hears damage, at any length."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from speechlm.errors import MissingExtra
from speechlm.eval.mos import DistillMos
from speechlm.tokenizer.audio import read_audio, resample

RATE = 16_000
VOICE = Path(str(files("speechlm.slm"))) / "weights" / "voices" / "clara.opus"


@pytest.fixture(scope="module")
def predictor() -> DistillMos:
    try:
        return DistillMos()
    except MissingExtra as error:
        pytest.skip(str(error))


def test_noise_lowers_the_score_and_the_rate_does_not_matter(predictor: DistillMos) -> None:
    clean = read_audio(VOICE, RATE)
    noise = clean.std() * torch.randn(len(clean), generator=torch.Generator().manual_seed(0))
    scores = [predictor.predict(wave, RATE) for wave in (clean, clean + 0.3 * noise)]
    assert all(score is not None and 1 <= score <= 5 for score in scores)
    assert scores[0] > scores[1] + 0.5
    assert predictor.predict(resample(clean, RATE, 24_000), 24_000) == pytest.approx(
        scores[0], abs=0.2
    )


def test_silence_has_no_score_and_one_sample_does_not_crash(predictor: DistillMos) -> None:
    assert predictor.predict(torch.zeros(RATE), RATE) is None
    assert predictor.predict(torch.ones(1), RATE) is not None


def test_nothing_is_printed_and_no_stand_in_stays(
    predictor: DistillMos, capsys: pytest.CaptureFixture[str]
) -> None:
    held = "torchaudio" in sys.modules and sys.modules["torchaudio"].__spec__ is None
    DistillMos()
    assert capsys.readouterr().out == "" and not held
