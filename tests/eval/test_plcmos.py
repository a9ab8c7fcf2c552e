"""PLCMOS hears damage, answers the same each time, and needs no network."""

from __future__ import annotations

import socket
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from speechlm.errors import MissingExtra
from speechlm.eval.plcmos import PlcMos
from speechlm.tokenizer.audio import read_audio, resample

RATE = 16_000
VOICE = Path(str(files("speechlm.slm"))) / "weights" / "voices" / "clara.opus"


@pytest.fixture(scope="module")
def predictor() -> PlcMos:
    try:
        return PlcMos()
    except MissingExtra as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def speech() -> torch.Tensor:
    return read_audio(VOICE, RATE)


def test_lost_packets_lower_the_score(predictor: PlcMos, speech: torch.Tensor) -> None:
    packets = torch.arange(len(speech)) // (RATE // 50)
    lost = (packets % 4 != 0) * speech
    whole = predictor.predict(speech, RATE)
    assert whole is not None and 3.5 < whole < 5
    assert predictor.predict(lost, RATE) < whole - 0.5
    assert predictor.predict(resample(speech, RATE, 24_000), 24_000) == pytest.approx(
        whole, abs=0.15
    )


def test_equal_samples_have_equal_scores_whatever_was_drawn_before(
    predictor: PlcMos, speech: torch.Tensor
) -> None:
    first = predictor.predict(speech, RATE)
    np.random.default_rng().normal()
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the package draws from it
    assert predictor.predict(speech, RATE) == first == PlcMos().predict(speech, RATE)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_it_agrees_with_the_package_itself(predictor: PlcMos, speech: torch.Tensor) -> None:
    package = pytest.importorskip("speechmos.plcmos")
    theirs = package.PLCMOS().get_mos(speech.numpy())
    assert predictor.predict(speech, RATE) == pytest.approx(theirs, abs=0.05)


def test_what_has_no_score_is_none_and_long_speech_is_cut(
    predictor: PlcMos, speech: torch.Tensor
) -> None:
    assert predictor.predict(torch.zeros(RATE), RATE) is None
    assert predictor.predict(speech[:3000], RATE) is None
    short = predictor.predict(speech, RATE)
    long = speech.repeat(
        10
    )  # of 20 s and more: the mean of its halves, 5 times the same speech each
    assert 20 * RATE < len(long) <= 40 * RATE
    half = predictor.predict(speech.repeat(5), RATE)
    assert predictor.predict(long, RATE) == pytest.approx(half, abs=1e-4)
    assert half == pytest.approx(short, abs=0.3)


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch, speech: torch.Tensor) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    try:
        assert PlcMos().predict(speech, RATE) is not None
    except MissingExtra as error:
        pytest.skip(str(error))
