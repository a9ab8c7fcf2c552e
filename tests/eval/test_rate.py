"""The rate report counts the bits of real streams, and says what it could not measure."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_codecs import tiny_codec
from tiny_rates import RATE, Models, tiny_models, tiny_recordings
from torch import Tensor
from typer.testing import CliRunner

from speechlm.cli import app
from speechlm.errors import ConfigError, ModelMismatch
from speechlm.eval import baselines
from speechlm.eval import rate as rate_report
from speechlm.eval.rate import evaluate_rate
from speechlm.eval.rate_ways import Sender
from speechlm.eval.scorers import Scorers
from speechlm.tokenizer.audio import read_audio
from speechlm.transmission.codes_stream import CodesReader
from speechlm.transmission.decompressor import Decompressor
from speechlm.transmission.info import describe_stream
from speechlm.transmission.models import load_entropy_model

TIMES = {"encode_rtf", "decode_rtf", "encode_seconds", "decode_seconds"}
C2ENC = """
data = open(sys.argv[2], "rb").read()
open(sys.argv[3], "wb").write(bytes(8 * (len(data) // 320)))
open(sys.argv[3] + ".kept", "wb").write(data)
"""
C2DEC = """open(sys.argv[3], "wb").write(open(sys.argv[2] + ".kept", "rb").read())"""


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
    """Mishears everything but the originals, whose samples have 16 bits."""

    name = "listener"

    def transcribe(self, waveform: Tensor, sampling_rate: int) -> str:
        is_original = not (waveform * 2**15).frac().any()
        return "hello there" if is_original else "hello where"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_recordings(tmp_path_factory.mktemp("rate") / "in")


@pytest.fixture
def no_scorers(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pesq", "pystoi", "speechmos.plcmos", "jiwer"):
        monkeypatch.setitem(sys.modules, module, None)


@pytest.fixture
def no_programmes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setattr(baselines.ctypes.util, "find_library", lambda _: None)
    return path


def programme(folder: Path, name: str, code: str) -> None:
    (folder / name).write_text(f"#!{sys.executable}\nimport sys\n{code}")
    (folder / name).chmod(0o755)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def report(folder: Path, out: Path, models: Models) -> dict[str, Any]:
    return evaluate_rate(
        folder,
        out,
        codec=models.codec,
        entropy=[models.entropy, models.table],
        fine=[models.fine],
        chunk_frames=20,
        baselines=None,
        scorers=Scorers(Listener(), quality=Judge()),
    )


def rows_of(report: dict[str, Any], table: str) -> dict[str, dict[str, Any]]:
    return {row["system"]: row for row in report["tables"][table]}


def items_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]


def test_every_way_has_a_row_and_the_report_is_whole(report: dict[str, Any], out: Path) -> None:
    names = [
        "base books, raw",
        "base books, static table",
        "base books, entropy model",
        "all books, raw",
        "all books, static table",
        "base books, entropy model + fine codes",
        "base books, entropy model + mean of the fine books",
    ]
    assert [row["system"] for row in report["tables"]["quality"]] == ["original", *names]
    assert [row["system"] for row in report["tables"]["rate"]] == names
    assert all(row["recordings"] == 3 for row in report["tables"]["rate"])
    assert report == json.loads((out / "report.json").read_text())
    assert "| all books, static table |" in (out / "report.md").read_text()
    for name in [*report["figures"], *report["sounds"]]:
        assert (out / name).stat().st_size > 0
    assert "rate-quality.png" in report["figures"]
    assert not (out / rate_report.JOURNAL_NAME).exists()


def test_counted_bits_are_the_bytes_of_the_streams(
    report: dict[str, Any], out: Path, folder: Path, models: Models
) -> None:
    items = {row["system"]: row for row in items_of(out) if row["id"] == "0"}
    samples = len(read_audio(folder / "0.wav", RATE))
    for title in {row["stream"] for row in items.values() if "stream" in row}:
        row = items[title]
        stream = out / f"example-1-{title.replace(', ', '-').replace(' ', '-')}.lmc"
        told = describe_stream(stream)
        assert row["bits"] == 8 * stream.stat().st_size
        assert row["payload_bits"] == 8 * told.num_code_bytes
        assert row["payload_bits"] + row["container_bits"] == row["bits"]
        assert row["raw_bits"] == math.ceil(samples / 320) * told.header.num_books * 4
        assert (told.num_chunks, told.num_raw_chunks) == (row["chunks"], row["raw_chunks"])
        assert told.header.chunk_frames == 20 and told.num_samples == samples
    rates = rows_of(report, "rate")
    seconds = report["facts"]["seconds"]
    for name, row in rates.items():
        mine = [item for item in items_of(out) if item["system"] == name]
        assert row["total_bits_per_second"] == pytest.approx(sum(r["bits"] for r in mine) / seconds)
        parts = row["payload_bits_per_second"] + row["container_bits_per_second"]
        assert parts == pytest.approx(row["total_bits_per_second"], abs=1e-3)
        assert row["latency_ms"] == pytest.approx(1000 * models.codec.config.latency_seconds + 400)
        assert row["encode_rtf"] > 0 and row["decode_rtf"] > 0
        quality = rows_of(report, "quality")[name]
        assert quality["bits_per_second"] == row["total_bits_per_second"]


def test_what_is_scored_is_what_the_stream_plays(
    report: dict[str, Any], out: Path, models: Models
) -> None:
    table = load_entropy_model(models.table)
    stream = (out / "example-1-all-books-static-table.lmc").read_bytes()
    decompressor = Decompressor(models.codec, table)
    played = torch.cat([decompressor.push(stream), decompressor.flush()])
    kept = read_audio(out / "example-1-all-books-static-table.wav", RATE)
    assert float((played - kept).abs().max()) < 2**-14
    quality = rows_of(report, "quality")
    for coded, raw in (("base", "base"), ("all", "all")):
        same = {k: v for k, v in quality[f"{coded} books, static table"].items() if "bits" not in k}
        other = {k: v for k, v in quality[f"{raw} books, raw"].items() if "bits" not in k}
        assert same | {"system": ""} == other | {"system": ""}
    assert quality["base books, raw"]["plcmos"] != quality["all books, raw"]["plcmos"]


def test_a_coder_is_held_against_raw_codes_the_table_and_its_own_model(
    report: dict[str, Any], out: Path, models: Models
) -> None:
    coding = {(r["coder"], r["num_books"]): r for r in report["tables"]["entropy_coding"]}
    assert set(coding) == {("static table", 3), ("entropy model", 3), ("static table", 6)}
    items = [r for r in items_of(out) if r["kind"] == "sent"]
    payload = {
        coder: sum(r["payload_bits"] for r in items if r["system"] == f"base books, {coder}")
        for coder in ("raw", "static table", "entropy model")
    }
    raw = sum(r["raw_bits"] for r in items if r["system"] == "base books, raw")
    static, network = coding["static table", 3], coding["entropy model", 3]
    assert static["saved_of_raw_percent"] == pytest.approx(
        100 * (1 - payload["static table"] / raw)
    )
    assert static["saved_of_raw_low"] < static["saved_of_raw_percent"] < static["saved_of_raw_high"]
    assert static["saved_of_static_percent"] is None
    against = 100 * (1 - payload["entropy model"] / payload["static table"])
    assert network["saved_of_static_percent"] == pytest.approx(against)
    # what the table says of the codes of one stream, counted by hand
    table = load_entropy_model(models.table, num_books=3)
    reader = CodesReader(table)
    pieces = reader.push((out / "example-1-base-books-static-table.lmc").read_bytes())
    bits = 0.0
    for piece in pieces + reader.finish():
        state = table.start()
        for symbol in piece.codes.T.reshape(-1).tolist():
            bits -= math.log2(table.frequencies(state)[symbol] / 2**16)
            table.push(state, symbol)
    row = next(r for r in items if r["system"] == "base books, static table")
    assert row["model_bits"] == pytest.approx(bits, abs=1e-3)
    assert 0 < row["payload_bits"] - bits < 64 * row["chunks"]
    assert static["chunks_within"] == static["chunks"] and static["most_over_model_bits"] < 32
    assert network["raw_chunks"] > 0  # it was not trained, so codes as they are were shorter


def test_generated_books_are_held_against_the_same_stream_alone(report: dict[str, Any]) -> None:
    quality, gains = rows_of(report, "quality"), rows_of(report, "differences")
    alone = "base books, entropy model"
    assert len(gains) == 2
    for name, gain in gains.items():
        assert gain["against"] == alone
        assert quality[name]["bits_per_second"] == quality[alone]["bits_per_second"]
        change = quality[name]["plcmos"] - quality[alone]["plcmos"]
        assert gain["plcmos_change"] == pytest.approx(change, abs=2e-6) and change != 0
        assert gain["plcmos_low"] <= gain["plcmos_change"] <= gain["plcmos_high"]
    codes, mean = (quality[name]["plcmos"] for name in gains)
    assert codes != mean


def test_words_are_counted_where_a_text_is_known(report: dict[str, Any], out: Path) -> None:
    quality = rows_of(report, "quality")
    assert quality["original"]["wer"] == 0 and quality["original"]["wer_change"] is None
    assert quality["all books, raw"]["wer"] == quality["all books, raw"]["wer_change"] == 0.5
    assert {row["id"] for row in items_of(out) if "words" in row} == {"0", "1"}
    assert report["facts"]["recognizer"] == "listener"


def test_programmes_that_are_missing_leave_their_rows_out_and_are_named(
    folder: Path, tmp_path: Path, models: Models, no_programmes: Path
) -> None:
    programme(no_programmes, "c2enc", C2ENC)
    programme(no_programmes, "c2dec", C2DEC)
    programme(no_programmes, "speexenc", "sys.exit('not today')")
    programme(no_programmes, "speexdec", "")
    report = evaluate_rate(
        folder, tmp_path / "out", codec=models.codec, limit=2, scorers=Scorers(quality=Judge())
    )
    names = list(rows_of(report, "quality"))
    ours = ["original", "base books, raw", "all books, raw"]
    assert names == [*ours, *(f"Codec2 {mode}" for mode in ("700C", "1300", "2400", "3200"))]
    notes = " ".join(report["notes"])
    for words in ("Opus needs", "AMR-WB needs", "No static table", "No entropy model", "No fine"):
        assert words in notes
    assert "Speex 0 failed on 2 recordings; on 0: speexenc ended with 1 (not today)" in notes
    assert "entropy_coding" not in report["tables"] and "differences" in report["tables"]
    row = rows_of(report, "rate")["Codec2 3200"]
    assert row["payload_bits_per_second"] == row["total_bits_per_second"] == pytest.approx(3200)
    assert rows_of(report, "quality")["Codec2 3200"]["bits_per_second"] == pytest.approx(3200)
    assert rows_of(report, "rate")["Codec2 1300"]["container_bits_per_second"] > 0
    assert row["raw_bits_per_second"] is None and row["latency_ms"] == 40
    failed = [r for r in items_of(tmp_path / "out") if "failed" in r]
    assert len(failed) == 2 * 3


def test_a_killed_report_goes_on_to_the_same_end(
    folder: Path,
    tmp_path: Path,
    models: Models,
    no_programmes: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    programme(no_programmes, "c2enc", "sys.exit('not today')")
    programme(no_programmes, "c2dec", "")
    for slow in ("pesq", "pystoi"):
        monkeypatch.setitem(sys.modules, slow, None)
    sent: list[int] = []
    send = Sender.send
    monkeypatch.setattr(Sender, "send", lambda s, w: (sent.append(len(w)), send(s, w))[1])

    def run(name: str, judge: Judge, **options: Any) -> dict[str, Any]:
        return evaluate_rate(
            folder,
            tmp_path / name,
            codec=models.codec,
            entropy=[models.table],
            baselines="codec2:3200",
            scorers=Scorers(Listener(), quality=judge),
            **options,
        )

    whole = run("whole", Judge())
    each = Judge()
    with pytest.raises(KeyboardInterrupt):
        run("out", Judge(dies_at=4))  # 3 sounds a recording: the original, base and all books
    assert not (tmp_path / "out" / "report.json").exists()
    sent.clear()
    resumed = run("out", each)
    assert each.asked == 6  # of the second and third recording alone
    assert set(sent[4:]) == {len(read_audio(folder / f"{n}.wav", RATE)) for n in (1, 2)}

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: timeless(v) for k, v in value.items() if k not in TIMES}
        return [timeless(v) for v in value] if isinstance(value, list) else value

    assert timeless(resumed) == timeless(whole)
    assert timeless(items_of(tmp_path / "out")) == timeless(items_of(tmp_path / "whole"))
    assert (tmp_path / "out" / "rate-quality.png").read_bytes() == (
        tmp_path / "whole" / "rate-quality.png"
    ).read_bytes()
    for name in whole["sounds"]:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with pytest.raises(KeyboardInterrupt):
        run("out", Judge(dies_at=4))
    other = Judge()
    run("out", other, chunk_frames=25)
    assert other.asked == 9  # other chunks, other bits: begun anew


def test_scorers_that_are_missing_are_gaps_and_notes(
    folder: Path, tmp_path: Path, models: Models, no_scorers: None
) -> None:
    report = evaluate_rate(folder, tmp_path, codec=models.codec, limit=1, baselines="")
    row = rows_of(report, "quality")["base books, raw"]
    assert (row["pesq"], row["stoi"], row["plcmos"]) == (None, None, None) and "wer" not in row
    notes = " ".join(report["notes"])
    assert all(word in notes for word in ("pesq", "pystoi", "speechmos", "jiwer"))
    assert report["figures"] == {} and row["bits_per_second"] > 600


def test_models_that_do_not_fit_are_one_sentence(
    folder: Path, tmp_path: Path, models: Models
) -> None:
    other = tiny_codec(hop_length=160)
    for options in ({"entropy": [models.table]}, {"fine": [models.fine]}):
        with pytest.raises(ModelMismatch) as raised:
            evaluate_rate(folder, tmp_path / "out", codec=other, **options)
        assert "\n" not in str(raised.value)
    with pytest.raises(ConfigError, match="would be called Codec2 3200"):
        evaluate_rate(folder, tmp_path / "out", codec=models.codec, baselines="codec2,codec2:3200")
    assert not (tmp_path / "out").exists()


def test_the_command_writes_the_report(
    folder: Path, tmp_path: Path, models: Models, no_scorers: None
) -> None:
    options = {"--codec": models.codec_folder, "--entropy": models.table, "--fine": models.fine}
    options |= {"--limit": "1", "--chunk-frames": "10", "--baselines": ""}
    arguments = ["eval", "rate", folder, tmp_path / "out"]
    arguments += [word for option in options.items() for word in option]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["facts"]["chunk_frames"] == 10 and report["facts"]["recordings"] == 1
    assert "base books, static table + fine codes" in rows_of(report, "rate")
