"""The report on a speaker: words, voices, lengths and endings, beside the true recordings."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from speechlm.errors import UnsupportedText
from speechlm.eval.listing import Sentence
from speechlm.eval.scorers import Scorers
from speechlm.eval.tts import evaluate_tts, other_prompt
from speechlm.tokenizer.audio import read_audio, write_audio

RATE = 16_000
WORDS = {200: "one two", 300: "three four", 400: "five six"}


def tone(hertz: float, seconds: float = 0.5) -> Tensor:
    return 0.3 * torch.sin(6.2832 * hertz * torch.arange(round(seconds * RATE)) / RATE)


def pitch(waveform: Tensor) -> int:
    spectrum = torch.fft.rfft(waveform).abs()
    return round(int(spectrum.argmax()) * RATE / len(waveform) / 100) * 100


class Listener:
    """Hears the words that belong to a pitch."""

    name = "listener"

    def transcribe(self, waveform: Tensor, sampling_rate: int) -> str:
        return WORDS.get(pitch(waveform), "")


class Ear:
    """One direction a pitch."""

    name = "ear"

    def embed(self, waveform: Tensor, sampling_rate: int) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor(pitch(waveform) // 100), 10).float()


class Copy:
    """A codec that loses nothing."""

    identity = SimpleNamespace(codec_id="copy", revision="0", sampling_rate=RATE)

    def tokenize(self, waveforms: list[Tensor]) -> list[Tensor]:
        return waveforms

    def synthesize(self, codes: list[Tensor]) -> list[Tensor]:
        return codes


@dataclass
class Speaker:
    """Repeats its prompt twice as long, and cannot say "five"."""

    codec: Copy = field(default_factory=Copy)
    seeds: list[int] = field(default_factory=list)

    def say(self, text: str, prompt: Path, *, prompt_text: str | None, seed: int) -> Any:
        self.seeds.append(seed)
        if text.startswith("five"):
            raise UnsupportedText("I cannot say five.")
        waveform = read_audio(prompt, RATE).repeat(2)
        return SimpleNamespace(
            waveform=waveform,
            sampling_rate=RATE,
            seconds=len(waveform) / RATE,
            compute_seconds=0.25,
            finish_reason="length" if text.startswith("three") else "end",
            notes=["a note"],
        )


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    rows = []
    for number, (hertz, text) in enumerate(WORDS.items()):
        write_audio(tmp_path / f"{hertz}.wav", tone(hertz), RATE)
        row = {"text": text, "prompt": f"{hertz}.wav", "speaker": f"s{number}"}
        rows.append(row | ({"reference": f"{hertz}.wav"} if number < 2 else {}))
    path = tmp_path / "list.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_model_truth_and_copy_are_scored_alike(listing: Path, tmp_path: Path) -> None:
    speaker = Speaker()
    scorers = Scorers(Listener(), Ear())
    report = evaluate_tts(listing, tmp_path / "out", speaker=speaker, seed=7, scorers=scorers)
    model, truth, copy = report["tables"]["systems"]
    assert [row["system"] for row in (model, truth, copy)] == [
        "model",
        "ground truth",
        "codec copy",
    ]
    assert [row["sentences"] for row in (model, truth, copy)] == [3, 2, 2]
    assert model["wer"] == pytest.approx(2 / 6) and truth["wer"] == copy["wer"] == 0
    assert model["duration_ratio"] == pytest.approx(2) and truth["duration_ratio"] == 1
    assert model["similarity_to_prompt"] == pytest.approx(1)
    assert model["similarity_to_other_prompts"] == pytest.approx(0)
    assert report["facts"]["finish_reasons"] == {"end": 1, "failed": 1, "length": 1}
    assert report["facts"]["model_x_realtime"] == pytest.approx(2.0 / 0.5)
    assert speaker.seeds == [7, 8, 9]
    assert report["notes"] == ["a note", "0003: I cannot say five."]


def test_the_report_is_whole(listing: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = evaluate_tts(listing, out, speaker=Speaker(), limit=2, scorers=Scorers())
    assert json.loads((out / "report.json").read_text()) == report
    assert "wer" not in report["tables"]["systems"][0]
    assert {"example-1.png", "example-2.png"} <= set(report["figures"])
    for name in [*report["figures"], *report["sounds"]]:
        assert (out / name).stat().st_size > 0
    rows = [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]
    assert [row["system"] for row in rows] == ["model"] * 2 + ["ground truth"] * 2 + [
        "codec copy"
    ] * 2


def test_the_other_prompt_is_another_voice() -> None:
    def sentence(speaker: str, prompt: str) -> Sentence:
        return Sentence("", "", Path(prompt), speaker=speaker)

    named = [sentence("a", "1"), sentence("a", "2"), sentence("b", "3")]
    assert [other_prompt(named, i) for i in range(3)] == [2, 2, 0]
    unnamed = [sentence("", "1"), sentence("", "1"), sentence("", "2")]
    assert [other_prompt(unnamed, i) for i in range(3)] == [2, 2, 0]
    assert other_prompt(named[:2], 0) is None
