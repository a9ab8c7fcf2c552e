"""The demo speaks, draws, and says what it could not measure."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from speechlm.errors import CorruptWeights
from speechlm.eval import demonstrate as demo
from speechlm.eval.scorers import Scorers
from speechlm.tokenizer.audio import inspect_audio, write_audio

RATE = 16_000


@pytest.fixture
def prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shipped voice, a speaker that answers with three seconds, and no scorers."""
    path = tmp_path / "anna.wav"
    write_audio(path, torch.sin(torch.arange(RATE) / 9), RATE)

    def say(text: str, prompt: Path, *, seed: int) -> Any:
        wave = torch.sin(torch.arange(3 * RATE) / 7)
        return SimpleNamespace(
            waveform=wave,
            sampling_rate=RATE,
            seconds=3.0,
            compute_seconds=1.5,
            finish_reason="end",
            notes=["by the letter model"],
        )

    monkeypatch.setattr(demo.Speaker, "from_pretrained", lambda: SimpleNamespace(say=say))
    monkeypatch.setattr(demo, "shipped_voices", lambda: {"anna": path})
    monkeypatch.setattr(Scorers, "installed", lambda: Scorers(notes=["no recognizer"]))
    return path


def test_the_demo_writes_a_sound_and_numbers(prompt: Path, tmp_path: Path) -> None:
    result = demo.demonstrate(tmp_path / "new" / "demo")
    assert json.loads(json.dumps(result)) == result
    assert inspect_audio(result["sound"]).seconds == 3.0
    assert result["voice"] == "anna" and result["x_realtime"] == 2.0
    assert result["word_error_rate"] is None
    assert result["notes"][0] == "by the letter model" and "no recognizer" in result["notes"]
    if result["spectrogram"] is not None:
        assert Path(result["spectrogram"]).stat().st_size > 0


def test_an_installation_without_voices_says_so(
    prompt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "shipped_voices", dict)
    with pytest.raises(CorruptWeights, match="install speechlm again"):
        demo.demonstrate(tmp_path)
