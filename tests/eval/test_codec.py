"""The codec's report: more books score better here, because this codec is built so."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from speechlm.errors import ConfigError, CorpusError
from speechlm.eval import codec as codec_report
from speechlm.eval.codec import evaluate_codec, find_recordings
from speechlm.eval.scorers import Scorers
from speechlm.tokenizer.audio import read_audio, write_audio
from speechlm.tokenizer.codes import CodecIdentity, Codes

RATE = 16_000


class PulseCode:
    """A codec of one frame a sample: each book refines the amplitude by a factor of four."""

    identity = CodecIdentity("pulse", "0" * 16, RATE, 1, 4, 6, 2)

    def tokenize(self, waveforms: list[Tensor], num_books: int | None = None) -> Codes:
        (wave,) = waveforms
        rest, books = (wave.clamp(-0.999, 0.999) + 1) / 2, []
        for _ in range(num_books or 6):
            books.append((rest * 4).floor())
            rest = rest * 4 - books[-1]
        return Codes(torch.stack(books).long()[None], torch.tensor([len(wave)]), self.identity)

    def synthesize(self, codes: Codes) -> list[Tensor]:
        scale = 0.25 ** torch.arange(1, codes.values.shape[1] + 1)
        middle = scale[-1] / 2
        return [(2 * ((scale[:, None] * codes.item(0)).sum(0) + middle) - 1).float()]


class Listener:
    """Hears the text if the sound has at most this much rounding noise."""

    name = "listener"

    def transcribe(self, waveform: Tensor, sampling_rate: int) -> str:
        steps = (waveform * 2**9).frac().abs()
        return "hello there" if float(steps.std()) > 0.1 else "yellow there"


class Ear:
    """An embedding that is the spectrum."""

    name = "ear"

    def embed(self, waveform: Tensor, sampling_rate: int) -> Tensor:
        return torch.fft.rfft(waveform, 512).abs()


class Judge:
    """Likes what is loud."""

    name = "judge"

    def predict(self, waveform: Tensor, sampling_rate: int) -> float:
        return 1 + float(waveform.abs().max())


def corpus(folder: Path, items: int = 3) -> Path:
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(RATE // 2) / RATE
    for number in range(items):
        wave = 0.3 * torch.sin(6.28 * (200 + 100 * number) * time)
        wave = wave * torch.rand(len(wave), generator=generator)
        write_audio(folder / f"{number}.flac", wave, RATE)
        (folder / f"{number}.txt").write_text("Hello there")
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def report(out: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = corpus(tmp_path_factory.mktemp("in"))
    scorers = Scorers(Listener(), Ear())
    return evaluate_codec(folder, out, codec=PulseCode(), num_books=[6, 2], scorers=scorers)


def test_the_report_has_a_row_for_each_number_of_books(report: dict[str, Any], out: Path) -> None:
    original, few, all_books = report["tables"]["quality"]
    assert original["system"] == "original" and original["wer"] == 0
    assert (few["num_books"], all_books["num_books"]) == (2, 6)
    assert (few["bits_per_second"], all_books["bits_per_second"]) == (4 * RATE, 12 * RATE)
    assert all_books["mel_distance"] < few["mel_distance"]
    assert all_books["similarity"] > few["similarity"]
    assert few["wer_change"] == pytest.approx(0.5)
    assert few["encode_x_realtime"] > 0 and few["decode_x_realtime"] > 0
    assert report == json.loads((out / "report.json").read_text())
    assert "| 2 books |" in (out / "report.md").read_text()


def test_the_report_shows_codebooks_examples_and_items(report: dict[str, Any], out: Path) -> None:
    books = report["tables"]["codebooks"]
    assert [row["kind"] for row in books] == ["masked"] * 2 + ["residual"] * 4
    assert all(1 <= row["perplexity"] <= 4 for row in books)
    assert books[0]["frames"] == 3 * (RATE // 2)
    for name in [*report["figures"], *report["sounds"]]:
        assert (out / name).stat().st_size > 0
    assert "example-2-6-books.wav" in report["sounds"]
    items = [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]
    assert [(item["id"], item["num_books"]) for item in items[:3]] == [("0", 2), ("0", 6), ("1", 2)]


def test_other_systems_stand_in_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, peer = tmp_path / "in", tmp_path / "peer"
    folder.mkdir()
    peer.mkdir()
    corpus(folder)
    for number in (0, 2):
        wave = read_audio(folder / f"{number}.flac", RATE)
        write_audio(peer / f"{number}.wav", torch.cat([torch.zeros(80), 0.5 * wave]), RATE)
    monkeypatch.setenv("PATH", str(tmp_path))
    report = evaluate_codec(
        folder,
        tmp_path / "out",
        codec=PulseCode(),
        num_books=[2, 6],
        scorers=Scorers(Listener(), Ear(), Judge()),
        baselines="all",
        against=[f"a/peer={peer}"],
        against_bps=["a/peer=3000"],
    )
    original, *ours, other = report["tables"]["quality"]
    assert [row["kind"] for row in (original, *ours, other)] == [
        *("original", "codec", "codec"),
        "folder",
    ]
    assert (other["system"], other["bits_per_second"], other["recordings"]) == ("a/peer", 3000, 2)
    assert ours[0]["recordings"] == original["recordings"] == 3
    assert other["similarity"] == pytest.approx(1, abs=1e-3)  # the delay is gone
    assert other["mos"] < original["mos"] == pytest.approx(ours[1]["mos"], abs=0.01)
    # two of three recordings are compared: with the originals of those two
    assert other["wer_change"] == pytest.approx(other["wer"] - original["wer"])
    text = " ".join(report["notes"])
    assert "a/peer has no file for 1;" in text and "Codec2 needs" in text
    assert "rate-quality.png" in report["figures"]
    assert "example-1-a-peer.wav" in report["sounds"]
    assert "example-2-a-peer.wav" not in report["sounds"]
    out = tmp_path / "out"
    items = [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]
    assert [row["id"] for row in items if row["system"] == "a/peer"] == ["0", "2"]
    assert "| a/peer | folder |" in (out / "report.md").read_text()


def test_the_picture_of_an_example_has_ours_and_the_nearest_of_each_method() -> None:
    def run(name: str, family: str, kind: str, rate: float | None) -> codec_report._Run:
        system = SimpleNamespace(name=name, family=family, kind=kind, num_books=None, notes=[])
        return codec_report._Run(system, bits=rate, coded_seconds=1.0)

    ours = [run(f"{n} books", "ours", "codec", 500.0 * n) for n in range(3, 9)]
    opus = [run(f"Opus {n}", "Opus", "baseline", 1000.0 * n) for n in (6, 12, 24)]
    peer = run("peer", "peer", "folder", None)
    shown = codec_report._shown([*ours, *opus, peer])
    assert shown == ["3 books", "5 books", "6 books", "7 books", "8 books", "Opus 6", "peer"]
    assert codec_report._shown(ours[:1]) == ["3 books"]


def test_recordings_of_other_splits_are_left_out(tmp_path: Path) -> None:
    corpus(tmp_path)
    lines = [
        {"id": str(n), "audio": f"{n}.flac", "split": "valid" if n else "train"} for n in range(3)
    ]
    text = "\n".join(map(json.dumps, lines))
    (tmp_path / "manifest.jsonl").write_text(text + "\nnonsense\n")
    (tmp_path / "rejected.jsonl").write_text('{"id": "x", "audio": "0.flac"}\n')
    found, unusable = find_recordings(tmp_path, "valid", None)
    assert [recording.id for recording in found] == ["1", "2"] and unusable == 1
    assert len(find_recordings(tmp_path, "valid", 1)[0]) == 1
    with pytest.raises(CorpusError, match="only of train, valid"):
        find_recordings(tmp_path, "test", None)


def test_bad_requests_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="holds no recordings"):
        evaluate_codec(tmp_path, tmp_path / "out", codec=PulseCode(), scorers=Scorers())
    with pytest.raises(ConfigError, match="decodes 2 to 6 books, not 1, 7"):
        evaluate_codec(corpus(tmp_path), tmp_path / "out", codec=PulseCode(), num_books=[1, 7])
    for name in ("original", "2 books"):
        with pytest.raises(ConfigError, match=f"would be called {name}"):
            evaluate_codec(
                tmp_path, tmp_path / "out", codec=PulseCode(), against=[f"{name}={tmp_path}"]
            )
    assert not (tmp_path / "out").exists()
