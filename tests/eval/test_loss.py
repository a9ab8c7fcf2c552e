"""The loss report: equal draws for every way, all bits counted, and what comes through whole is whole."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_codecs import tiny_codec
from tiny_rates import tiny_recordings
from torch import Tensor
from typer.testing import CliRunner

from speechlm.cli import app
from speechlm.errors import ConfigError
from speechlm.eval.loss import JOURNAL_NAME, evaluate_loss
from speechlm.eval.scorers import Scorers
from speechlm.tokenizer.codec import CodecModel

LINKS = ("default", "default:silence", "redundant-10", "low-delay")


class Judge:
    """Likes what is loud, and counts how often it is asked."""

    name = "judge"

    def __init__(self, dies_at: int | None = None) -> None:
        self.asked, self.dies_at = 0, dies_at

    def predict(self, waveform: Tensor, sampling_rate: int) -> float:
        if self.asked == self.dies_at:
            raise KeyboardInterrupt
        self.asked += 1
        return 1 + float(waveform.abs().mean())


class Listener:
    """Hears what was said if it hears anything."""

    name = "listener"

    def transcribe(self, waveform: Tensor, sampling_rate: int) -> str:
        return "hello there" if bool(waveform.any()) else ""


@pytest.fixture(scope="module")
def codec() -> CodecModel:
    return tiny_codec()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_recordings(tmp_path_factory.mktemp("loss") / "in", count=2)


@pytest.fixture(scope="module", autouse=True)
def one_scorer() -> Any:
    """PESQ and STOI have tests of their own, and take their time."""
    patch = pytest.MonkeyPatch()
    for module in ("pesq", "pystoi"):
        patch.setitem(sys.modules, module, None)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


def evaluate(folder: Path, out: Path, codec: CodecModel, judge: Judge, **options: Any) -> Any:
    given: dict[str, Any] = {"losses": ("0", "0.4"), "links": LINKS, "num_seeds": 2}
    given |= {"baselines": "", "scorers": Scorers(Listener(), quality=judge), **options}
    return evaluate_loss(folder, out, codec=codec, **given)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


@pytest.fixture(scope="module")
def report(folder: Path, out: Path, codec: CodecModel, judge: Judge) -> dict[str, Any]:
    return evaluate(folder, out, codec, judge)


@pytest.fixture(scope="module")
def items(report: dict[str, Any], out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]


def test_the_report_is_whole(report: dict[str, Any], out: Path) -> None:
    at_loss = [row["system"] for row in report["tables"]["quality"] if row["loss"] == "0.4"]
    assert at_loss == [
        "default, model",
        "default, silence",
        "redundant-10, model",
        "low-delay, model",
    ]
    assert report == json.loads((out / "report.json").read_text())
    assert "| 0.4 | default, model |" in (out / "report.md").read_text()
    for name in [*report["figures"], *report["sounds"]]:
        assert (out / name).stat().st_size > 0
    assert {"loss-quality.png", "loss-spectrograms.png"} == set(report["figures"])
    assert not (out / JOURNAL_NAME).exists()


def test_without_loss_codes_and_sound_are_the_codecs_own(report: dict[str, Any]) -> None:
    rows = report["tables"]["exactness"]
    assert len(rows) == len(LINKS)
    assert all(row["differing_codes"] == 0 and row["codes"] > 0 for row in rows)
    assert all(row["waveform_difference"] <= 1e-5 for row in rows)


def test_ways_with_packets_of_one_length_lose_the_same_packets(items: list[dict[str, Any]]) -> None:
    def lost(system: str) -> list[tuple[Any, ...]]:
        names = ("id", "loss", "seed", "packets_lost")
        return [tuple(r[n] for n in names) for r in items if r["system"] == system]

    assert lost("default, model") == lost("default, silence") == lost("redundant-10, model")
    draws = {(row[0], row[2]): row[3] for row in lost("default, model") if row[1] == "0.4"}
    assert len(draws) == 4
    assert len(set(draws.values())) > 1, "every recording and seed is another draw"


def test_headers_of_packets_are_counted(items: list[dict[str, Any]]) -> None:
    rows = [row for row in items if "packets_sent" in row]
    for row in rows:
        headers = row["total_bits_per_second"] - row["payload_bits_per_second"]
        assert headers == pytest.approx(320 * row["packets_sent"] / row["seconds"], rel=1e-4)
    by_name = {row["system"]: row["packets_sent"] for row in rows if row["id"] == "0"}
    assert by_name["low-delay, model"] > 1.7 * by_name["default, model"]


def test_words_are_heard_in_the_first_draw_only(items: list[dict[str, Any]]) -> None:
    ours = [row for row in items if "seed" in row and row["id"] == "0"]
    assert all(("words" in row) == (row["seed"] == 0) for row in ours)


def test_fine_codes_that_hang_on_others_are_not_played(
    folder: Path, tmp_path: Path, codec: CodecModel
) -> None:
    links = ("no-copies", "no-copies:model:hung")
    found = evaluate(folder, tmp_path, codec, Judge(), links=links, losses=("0.2",), limit=1)
    used = {row["system"]: row["fine_codes_used_percent"] for row in found["tables"]["link"]}
    assert used["no-copies, model"] == 100
    assert used["no-copies, model, hung"] < 60
    (row,) = found["tables"]["differences"]
    assert (row["system"], row["against"]) == tuple(used)


def test_a_killed_evaluation_goes_on(
    folder: Path, tmp_path: Path, codec: CodecModel, report: dict[str, Any], judge: Judge
) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate(folder, tmp_path, codec, Judge(dies_at=judge.asked - 2))
    again = Judge()
    assert evaluate(folder, tmp_path, codec, again) == report
    assert 0 < again.asked < judge.asked / 2


def test_codecs_that_are_absent_are_named(
    folder: Path, tmp_path: Path, codec: CodecModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    options: dict[str, Any] = {"links": ("default",), "losses": ("0",), "limit": 1}
    found = evaluate(folder, tmp_path, codec, Judge(), baselines="opus,amr-wb", **options)
    notes = " ".join(found["notes"])
    assert "the package av" in notes
    assert "AMR-WB under loss needs" in notes


@pytest.mark.parametrize(
    "options",
    [
        {"losses": ("much",)},
        {"losses": ()},
        {"links": ("nowhere",)},
        {"links": ("default:hope",)},
        {"links": ("default:model:hanging",)},
        {"baselines": "speex"},
        {"rate_of": "nowhere"},
        {"num_seeds": 0},
    ],
)
def test_what_does_not_exist_is_refused(
    folder: Path, tmp_path: Path, codec: CodecModel, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError):
        evaluate(folder, tmp_path, codec, Judge(), **options)
    assert not (tmp_path / "report.json").exists()


def test_the_command_writes_a_report(
    folder: Path, tmp_path: Path, codec: CodecModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("speechmos.plcmos", "jiwer"):
        monkeypatch.setitem(sys.modules, module, None)
    codec.save_pretrained(tmp_path / "codec")
    words = ["eval", "loss", str(folder), str(tmp_path / "out"), "--codec", str(tmp_path / "codec")]
    words += ["--loss", "0", "--loss", "outage:0.1,0.2", "--link", "lean", "--baselines", ""]
    done = CliRunner().invoke(app, [*words, "--seeds", "1", "--limit", "1"])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert found["facts"]["losses"]["outage:0.1,0.2"] == pytest.approx(1 / 3, abs=1e-6)
    assert any("PLCMOS needs" in note for note in found["notes"])


def test_sounds_of_a_link_are_finite(out: Path, report: dict[str, Any]) -> None:
    from speechlm.tokenizer.audio import read_audio

    sounds = [read_audio(out / name, 16_000) for name in report["sounds"]]
    assert len(sounds) == 4
    assert all(torch.isfinite(sound).all() and sound.any() for sound in sounds)
