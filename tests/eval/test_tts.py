"""The report on a speaker: words, voices, lengths and endings, beside the true recordings."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from speechlm.errors import UnsupportedText
from speechlm.eval import tts
from speechlm.eval.listing import Sentence
from speechlm.eval.scorers import Scorers, is_nearest
from speechlm.eval.tts import evaluate_tts, other_prompts
from speechlm.slm.lines import Line
from speechlm.slm.speak import Speech
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


class Taste:
    """Likes what is long."""

    name = "taste"

    def predict(self, waveform: Tensor, sampling_rate: int) -> float:
        return 2 * len(waveform) / sampling_rate


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
    prompts: list[tuple[int, str | None]] = field(default_factory=list)
    takes: list[int] = field(default_factory=list)
    dies_at: int | None = None

    def say(
        self,
        text: str,
        prompt: Path | Tensor,
        *,
        prompt_text: str | None,
        seed: int,
        sampling_rate: int | None = None,
        num_candidates: int = 1,
    ) -> Any:
        self.takes.append(num_candidates)
        if seed == self.dies_at:
            raise KeyboardInterrupt
        self.seeds.append(seed)
        if text.startswith("five"):
            raise UnsupportedText("I cannot say five.")
        sound = prompt if isinstance(prompt, Tensor) else read_audio(prompt, RATE)
        self.prompts.append((len(sound), prompt_text))
        waveform = sound.repeat(2)
        return SimpleNamespace(
            waveform=waveform,
            sampling_rate=RATE,
            seconds=len(waveform) / RATE,
            compute_seconds=0.25,
            finish_reason="length" if text.startswith("three") else "end",
            notes=["a note"],
        )


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longer than all else here; one test looks at them."""
    if request.node.name != "test_the_report_is_whole":
        for name in ("save_spectrograms", "save_system_scores"):
            monkeypatch.setattr(tts, name, lambda path, *rows: path.write_bytes(b"png"))


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
    scorers = Scorers(Listener(), Ear(), Taste())
    report = evaluate_tts(listing, tmp_path / "out", speaker=speaker, seed=7, scorers=scorers)
    model, truth, copy = report["tables"]["systems"]
    assert [row["system"] for row in (model, truth, copy)] == [
        "model",
        "ground truth",
        "codec copy",
    ]
    assert [row["sentences"] for row in (model, truth, copy)] == [3, 2, 2]
    assert model["wer"] == pytest.approx(2 / 6) and truth["wer"] == copy["wer"] == 0
    assert model["wer_low"] < model["wer"] < model["wer_high"] <= 1
    assert model["duration_ratio"] == pytest.approx(2) and truth["duration_ratio"] == 1
    assert model["duration_error"] == pytest.approx(1) and truth["duration_error"] == 0
    assert model["similarity_to_prompt"] == pytest.approx(1)
    assert model["similarity_to_other_prompts"] == pytest.approx(0)
    assert model["nearest_own_prompt"] == truth["nearest_own_prompt"] == 1
    assert [row["mos"] for row in (model, truth, copy)] == pytest.approx([2.0, 1.0, 1.0])
    assert report["facts"]["finish_reasons"] == {"end": 1, "failed": 1, "length": 1}
    assert report["facts"]["model_x_realtime"] == pytest.approx(2.0 / 0.5)
    faults = report["tables"]["faults"]
    assert [(row["failed"], row["empty"], row["never_stop"]) for row in faults] == [
        (1, 1, 1),
        (0, 0, 0),
        (0, 0, 0),
    ]
    assert speaker.seeds == [7, 8, 9]
    assert report["notes"][:2] == ["a note", "0003: I cannot say five."]
    assert "True recordings are known of 2 of the 3 sentences" in report["notes"][2]
    assert [note.split(" counts")[0] for note in report["notes"][3:]] == [
        "Failed",
        "Empty",
        "Never stop",
    ]


def test_the_report_is_whole(listing: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = evaluate_tts(listing, out, speaker=Speaker(), limit=2, scorers=Scorers())
    assert json.loads((out / "report.json").read_text()) == report
    assert "wer" not in report["tables"]["systems"][0]
    assert {"systems.png", "example-1.png", "example-2.png"} <= set(report["figures"])
    assert len(report["sounds"]) == 8
    for name in [*report["figures"], *report["sounds"]]:
        assert (out / name).stat().st_size > 0
    rows = [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]
    assert [row["system"] for row in rows] == ["model"] * 2 + ["ground truth"] * 2 + [
        "codec copy"
    ] * 2
    assert {path.suffix for path in out.iterdir()} <= {".json", ".md", ".jsonl", ".png", ".wav"}


def test_the_meaning_of_faults_is_told_only_where_there_are_some(
    listing: Path, tmp_path: Path
) -> None:
    report = evaluate_tts(listing, tmp_path / "out", speaker=Speaker(), limit=1, scorers=Scorers())
    assert report["notes"] == ["a note"]


def test_without_scorers_failures_have_no_word_errors(listing: Path, tmp_path: Path) -> None:
    report = evaluate_tts(listing, tmp_path / "out", speaker=Speaker(), scorers=Scorers())
    assert report["facts"]["finish_reasons"]["failed"] == 1
    assert "wer" not in report["tables"]["systems"][0]
    assert "runs_percent" not in report["tables"]["faults"][0]


def test_a_killed_evaluation_goes_on(listing: Path, tmp_path: Path) -> None:
    scorers = Scorers(Listener(), Ear())
    whole = evaluate_tts(listing, tmp_path / "whole", speaker=Speaker(), scorers=scorers)
    killed = Speaker(dies_at=1)
    with pytest.raises(KeyboardInterrupt):
        evaluate_tts(listing, tmp_path / "out", speaker=killed, scorers=scorers)
    assert not (tmp_path / "out" / "report.json").exists()
    again = Speaker()
    resumed = evaluate_tts(listing, tmp_path / "out", speaker=again, scorers=scorers)
    assert again.seeds == [1, 2]  # the first sentence is not spoken again
    assert resumed["facts"].pop("sentences_gone_on_from") == 1
    whole["facts"].pop("sentences_gone_on_from")
    assert resumed == whole
    items = [(tmp_path / name / "items.jsonl").read_bytes() for name in ("whole", "out")]
    assert items[0] == items[1]


def test_another_seed_begins_anew(listing: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate_tts(listing, tmp_path / "out", speaker=Speaker(dies_at=2), scorers=Scorers())
    again = Speaker()
    evaluate_tts(listing, tmp_path / "out", speaker=again, seed=5, scorers=Scorers())
    assert again.seeds == [5, 6, 7]


def test_the_continual_protocol_speaks_on_from_the_cut(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", torch.cat((tone(200, 1.0), tone(300, 2.0))), RATE)
    row = {"prompt": "a.wav", "reference": "a.wav", "protocol": "continual", "cut_s": 1.0}
    row |= {"text": "three four", "prompt_text": "one two"}
    cross = {"text": "one two", "prompt": "a.wav", "protocol": "cross"}
    path = tmp_path / "list.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(cross) + "\n")
    speaker = Speaker()
    report = evaluate_tts(path, tmp_path / "out", speaker=speaker, scorers=Scorers(Listener()))
    assert speaker.prompts == [(RATE, "one two"), (3 * RATE, None)]
    systems = {(r["system"], r["protocol"]): r for r in report["tables"]["systems"]}
    assert set(systems) == {
        ("model", "continual"),
        ("model", "cross"),
        ("ground truth", "continual"),
        ("codec copy", "continual"),
    }
    truth = systems["ground truth", "continual"]
    assert truth["seconds"] == pytest.approx(2.0) and truth["wer"] == 0
    assert systems["model", "continual"]["duration_ratio"] == pytest.approx(1.0)


def test_first_audio_is_timed_with_a_prepared_voice(listing: Path, tmp_path: Path) -> None:
    class Streaming(Speaker):
        def prepare_voice(self, prompt: Path, *, prompt_text: str | None) -> Path:
            time.sleep(0.5)
            return prompt

        def speak_stream(self, text: str, voice: Path, *, seed: int) -> Iterator[Tensor]:
            time.sleep(0.02)
            yield tone(200)
            raise AssertionError("nothing is waited for after the first piece")

    report = evaluate_tts(listing, tmp_path / "out", speaker=Streaming(), scorers=Scorers())
    assert 20 <= report["facts"]["first_audio_ms"] < 400


def test_sentences_are_spoken_in_batches(listing: Path, tmp_path: Path) -> None:
    sizes: list[int] = []

    class Batching(Speaker):
        def say_many(
            self, lines: Iterable[Line], batch_size: int, num_candidates: int
        ) -> Iterator[Speech]:
            given = list(lines)
            assert batch_size == len(given) * num_candidates
            if any(line.text.startswith("five") for line in given):
                raise UnsupportedText("I cannot say five.")
            sizes.append(batch_size)
            for line in given:
                sound = self.say(line.text, line.prompt, prompt_text=None, seed=line.seed)
                yield Speech(sound.waveform, RATE, sound.finish_reason, 9.0)

    one_by_one = Batching()
    found = [
        evaluate_tts(
            listing,
            tmp_path / f"{n}",
            speaker=speaker,
            batch_size=n,
            num_candidates=takes,
            scorers=Scorers(),
        )
        for n, speaker, takes in ((1, Speaker(), 1), (2, Batching(), 4), (3, one_by_one, 4))
    ]
    assert sizes == [8] and found[1]["facts"]["candidates"] == 4
    assert one_by_one.takes == [4] * 3  # of three, one cannot be spoken, so they come one by one
    assert found[0]["tables"] == found[1]["tables"] == found[2]["tables"]
    assert found[1]["facts"]["sentences_at_once"] == 2
    assert found[1]["facts"]["model_x_realtime"] > 4  # by the clock, not by what a line reports


def test_kinds_are_counted_apart(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", tone(200), RATE)
    rows = [
        {"text": "one two", "prompt": "a.wav", "kind": "easy"},
        {"text": "one two three four five", "prompt": "a.wav", "kind": "hard"},
    ]
    path = tmp_path / "list.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    report = evaluate_tts(
        path, tmp_path / "out", speaker=Speaker(), scorers=Scorers(Listener()), keep_sounds=True
    )
    easy, hard = report["tables"]["kinds"]
    assert (easy["kind"], easy["wer"], easy["with_a_fault"]) == ("easy", 0, 0)
    assert (hard["kind"], hard["wer"], hard["with_a_fault"]) == ("hard", 0.6, 1)
    assert report["tables"]["faults"][0]["runs_percent"] == 50
    assert len(list((tmp_path / "out" / "sounds").iterdir())) == 2


def test_other_prompts_are_other_voices() -> None:
    def sentence(speaker: str, prompt: str) -> Sentence:
        return Sentence("", "", Path(prompt), speaker=speaker)

    named = [sentence("a", "1"), sentence("a", "2"), sentence("b", "3")]
    assert [other_prompts(named, i) for i in range(3)] == [[2], [2], [0, 1]]
    unnamed = [sentence("", "1"), sentence("", "1"), sentence("", "2")]
    assert [other_prompts(unnamed, i) for i in range(3)] == [[2], [2], [0, 1]]
    assert other_prompts(named[:2], 0) == []


def test_a_voice_is_nearest_to_the_prompt_that_it_resembles_most() -> None:
    own, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    spoken = torch.tensor([0.9, 0.4])
    assert is_nearest(spoken, own, [other]) is True
    assert is_nearest(spoken, other, [own]) is False
    assert is_nearest(spoken, own, []) is None and is_nearest(None, own, [other]) is None
    assert is_nearest(spoken, own, [other, None]) is None
