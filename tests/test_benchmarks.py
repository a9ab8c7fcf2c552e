"""The codec benchmark measures what it claims, keeps its bounds, and writes the rows others read."""

from __future__ import annotations

import json
import mmap
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_codecs import TINY, tiny_codec
from transformers import DacConfig, EncodecConfig, MimiConfig

from speechlm.benchmarks import codec as benchmark
from speechlm.benchmarks import meter, systems
from speechlm.benchmarks.codec import Bounds, Report, Row, Setting
from speechlm.benchmarks.meter import Meter, Pass
from speechlm.tokenizer.codec import load_codec

ROW_KEYS = {"system", "task", "audio_s", "batch", "threads", "seconds", "peak_rss_mb"}


class Clockwork:
    """A system whose passes take what they are told: seconds and megabytes per second of audio."""

    def __init__(self, seconds: float = 0.01, megabytes: float = 1.0) -> None:
        self.seconds, self.megabytes = seconds, megabytes
        self.passes: list[tuple[str, float, int]] = []

    def measure(self, task: str, audio_s: float, batch: int) -> Pass:
        self.passes.append((task, audio_s, batch))
        seconds = self.seconds * audio_s * batch
        return Pass(seconds, seconds, 100 + self.megabytes * audio_s * batch)


def _report(bounds: Bounds | None = None, **systems: Any) -> Report:
    report = Report()
    benchmark.measure_setting(Setting(10, 8, 1), systems, bounds or Bounds(), report)
    return report


def test_quick_is_one_setting() -> None:
    options = benchmark.parse(["--quick", "--audio-seconds", "60"])
    assert list(benchmark.settings(options, 2, Report())) == [Setting(10, 1, 1)]


def test_all_settings_unless_told_otherwise() -> None:
    report = Report()
    found = list(benchmark.settings(benchmark.parse([]), 2, report))
    wanted = [Setting(a, b, t) for t in (1, 2) for a in (10, 60) for b in (1, 8)]
    assert sorted(found) == sorted(wanted)
    assert not report.left_out


def test_threads_without_cores_are_left_out_and_said() -> None:
    report = Report()
    found = list(benchmark.settings(benchmark.parse(["--threads", "1", "2"]), 1, report))
    assert {setting.threads for setting in found} == {1}
    assert report.left_out == ["2 threads: only 1 core(s) may be used"]


@pytest.mark.parametrize("wrong", [["--batch", "0"], ["--systems", "opus"], ["--repeats", "x"]])
def test_wrong_usage_exits_with_two(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        benchmark.parse(wrong)
    assert error.value.code == 2


def test_ours_is_the_codec_that_the_commands_load() -> None:
    ours, codec = systems.load_ours(), load_codec()
    waveform = systems.speech_like(4_800, 1, 16_000)
    codes = ours.encode(waveform)
    assert codes.identity == codec.identity
    assert codes.values.shape == (1, codec.config.num_codebooks, 15)
    assert torch.equal(codes.values, codec.tokenize([waveform[0]]).values)
    assert torch.equal(ours.decode(codes)[0], codec.synthesize(codes)[0])


@pytest.mark.parametrize(
    ("system", "books"),
    [
        (systems.load_encodec(EncodecConfig(num_filters=2, hidden_size=8, codebook_dim=8)), 8),
        (
            systems.load_mimi(
                MimiConfig(
                    num_filters=2,
                    hidden_size=16,
                    codebook_dim=8,
                    vector_quantization_hidden_dimension=8,
                    num_hidden_layers=1,
                    num_attention_heads=2,
                    num_key_value_heads=2,
                    head_dim=8,
                    intermediate_size=16,
                    upsample_groups=16,
                )
            ),
            8,
        ),
        (systems.load_dac(DacConfig(encoder_hidden_size=2, decoder_hidden_size=32)), 9),
    ],
    ids=["encodec", "mimi", "dac"],
)
def test_peer_decodes_a_batch_from_the_books_it_states(system: systems.System, books: int) -> None:
    waveforms = systems.speech_like(system.sampling_rate // 2, 2, system.sampling_rate)
    with torch.inference_mode():
        codes = system.encode(waveforms)
        audio = system.decode(codes)
    assert codes.audio_codes.shape[-3:-1] == (2, books)
    # Whole frames: within one of the signal.
    assert audio.reshape(2, -1).shape[1] == pytest.approx(waveforms.shape[1], abs=2_000)


def test_paper_system_is_the_recipe_s_model(tmp_path: Path) -> None:
    model = {**TINY, "encoder": "seanet", "sampling_rate": 24_000, "has_harmonic_source": False}
    recipe = tmp_path / "paper.yaml"
    recipe.write_text(yaml.safe_dump({"model": model, "crop_seconds": 1.0}))
    paper = systems.load_paper(recipe)
    waveforms = systems.speech_like(4_800, 2, paper.sampling_rate)
    codes = paper.encode(waveforms)
    assert (paper.sampling_rate, codes.values.shape) == (24_000, (2, 6, 15))
    assert [len(waveform) for waveform in paper.decode(codes)] == [4_800, 4_800]


def test_signal_is_heard_and_differs_between_items() -> None:
    first, second = systems.speech_like(8_000, 2, 16_000)
    assert 0.01 < first.std() and first.abs().max() < 1
    assert not torch.allclose(first, second, atol=0.01)


def test_meter_times_the_task_alone() -> None:
    def encode(waveforms: torch.Tensor) -> torch.Tensor:
        time.sleep(0.05)
        return waveforms.sum(1)

    naps = Meter(systems.System(16_000, encode, lambda codes: codes + 1, "naps"))
    assert naps.measure("encode", 1, 2).seconds >= 0.05
    decoded = naps.measure("decode", 2, 2)  # whose codes are made anew, before the clock starts
    assert decoded.processor_seconds < 0.05
    assert decoded.seconds < 10


def test_peak_is_the_pass_s_own() -> None:
    size = 100_000_000

    def encode(waveforms: torch.Tensor) -> torch.Tensor:
        with mmap.mmap(-1, size) as pages:  # malloc may keep what an earlier test gave back
            pages.write(bytes([1]) * size)
        return waveforms.sum()

    hungry = Meter(systems.System(16_000, encode, lambda codes: codes, "hungry"))
    before = hungry.measure("decode", 0.25, 1).peak_rss_mb  # its encode came before, and is over
    during = hungry.measure("encode", 0.25, 1).peak_rss_mb
    after = hungry.measure("decode", 0.25, 1).peak_rss_mb
    assert during - before > 0.8 * size / 1e6
    assert during - after > 0.8 * size / 1e6


def test_rows_of_a_tiny_codec_are_what_others_read() -> None:
    tiny = Meter(systems._of_codec(tiny_codec(), "tiny"))
    report = Report()
    benchmark.measure_setting(Setting(1, 2, 1), {"ours": tiny}, Bounds(repeats=2), report)
    written = json.loads(json.dumps(benchmark.as_json(report)))
    assert [row["task"] for row in written["rows"]] == ["encode", "decode"]
    for row in written["rows"]:
        assert set(row) == ROW_KEYS
        assert (row["system"], row["audio_s"], row["batch"], row["threads"]) == ("ours", 1, 2, 1)
        assert 0 < row["seconds"] < 60
        assert row["peak_rss_mb"] > 10


def test_systems_take_turns() -> None:
    order: list[str] = []

    class Noted(Clockwork):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def measure(self, task: str, audio_s: float, batch: int) -> Pass:
            order.append(self.name)
            return super().measure(task, audio_s, batch)

    _report(Bounds(repeats=3), a=Noted("a"), b=Noted("b"))
    assert order[:8] == ["a"] * 4 + ["b"] * 4  # the warm-up
    assert order[8:] == ["a", "a", "b", "b"] * 3


def test_best_pass_and_highest_peak_count() -> None:
    row = Row("ours", "encode", 10, 2, 1, 4.0, 4.0, 100.0)
    row.add(Pass(2.0, 1.5, 90.0))
    row.add(Pass(3.0, 3.0, 120.0))
    assert (row.seconds, row.processor_seconds, row.peak_rss_mb, row.passes) == (2.0, 1.5, 120.0, 3)
    assert row.times_real_time == 10


def test_slow_row_is_repeated_less_and_a_slower_one_left_out() -> None:
    report = _report(
        Bounds(repeats=3, max_seconds=10),
        fast=Clockwork(0.01),
        slow=Clockwork(0.1),
        slower=Clockwork(1),
    )
    assert {(row.system, row.passes) for row in report.rows} == {("fast", 3), ("slow", 1)}
    assert report.left_out == [
        f"slower {task}, 10 s x 8, 1 thread: a pass would take about 80 s"
        for task in ("encode", "decode")
    ]


def test_row_beyond_the_memory_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "free_memory_mb", lambda: 20_000.0)
    large, small = Clockwork(megabytes=300), Clockwork(megabytes=100)
    report = _report(large=large, small=small)
    assert {row.system for row in report.rows} == {"small"}
    assert report.left_out[0].endswith("a pass would need about 22 GB of memory")
    assert max(batch for _, _, batch in large.passes) == 1


def test_every_row_is_measured_once_past_the_deadline() -> None:
    report = _report(
        Bounds(repeats=3, deadline=time.monotonic()), ours=Clockwork(), dac=Clockwork()
    )
    assert [row.passes for row in report.rows] == [1, 1, 1, 1]


def test_table_gives_both_tasks_ratio() -> None:
    rows = [
        Row("ours", "encode", 10, 1, 1, 0.1, 0.1, 400),
        Row("ours", "decode", 10, 1, 1, 0.4, 0.4, 500),
        Row("dac", "encode", 10, 1, 1, 4.0, 4.0, 1000),
        Row("dac", "decode", 10, 1, 1, 6.0, 6.0, 2000),
        Row("mimi", "encode", 10, 1, 1, 2.0, 2.0, 900),  # its decoding was left out
    ]
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in benchmark.table(Report(rows)).splitlines()
    ]
    ours, dac, mimi = (dict(zip(lines[0], line, strict=True)) for line in lines[2:])
    assert (ours["encode x real time"], ours["decode x real time"]) == ("100.0", "25.0")
    assert dac["ours is faster by"] == "20.00"
    assert (mimi["decode x real time"], mimi["ours is faster by"]) == ("–", "–")


def test_broken_system_is_reported_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "_PRELOADED", [])
    with meter.MeterProcess("no such system", threads=1) as process:
        report = _report(broken=process, ours=Clockwork())
    assert report.failures == ["broken, 10 s x 8, 1 thread: its process ended with 1"]
    assert [row.system for row in report.rows] == ["ours", "ours"]


def test_system_that_breaks_down_later_holds_up_no_other() -> None:
    class Fragile(Clockwork):
        def measure(self, task: str, audio_s: float, batch: int) -> Pass:
            if audio_s == 10 and task == "decode":
                raise meter.ProcessEnded("its process ended with -9")
            return super().measure(task, audio_s, batch)

    report = _report(dac=Fragile(), ours=Clockwork())
    assert [(row.system, row.task, row.passes) for row in report.rows] == [
        ("dac", "encode", 1),
        ("ours", "encode", 3),
        ("ours", "decode", 3),
    ]
    assert len(report.failures) == 1


def test_a_run_that_is_cut_off_leaves_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plug(Clockwork):
        """A system that is there for settings of one item."""

        note = "made of brass"

        def __init__(self, name: str, threads: int) -> None:
            super().__init__()

        def __enter__(self) -> Plug:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def measure(self, task: str, audio_s: float, batch: int) -> Pass:
            if batch > 1:
                raise KeyboardInterrupt
            return super().measure(task, audio_s, batch)

    monkeypatch.setattr(benchmark, "MeterProcess", Plug)
    out = tmp_path / "speed.json"
    choice = ["--systems", "ours", "--audio-seconds", "10", "--threads", "1", "--batch", "1", "8"]
    with pytest.raises(KeyboardInterrupt):
        benchmark.main([*choice, "--json", str(out)])
    rows = json.loads(out.read_text())["rows"]
    assert [(row["task"], row["batch"]) for row in rows] == [("encode", 1), ("decode", 1)]


@pytest.mark.slow
def test_command_writes_rows_of_the_shipped_codec(tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "speed.json"
    with pytest.raises(SystemExit) as end:
        benchmark.main(["--quick", "--systems", "ours", "--json", str(out)])
    assert end.value.code == 0
    rows = json.loads(out.read_text())["rows"]
    assert [(row["system"], row["task"], row["audio_s"]) for row in rows] == [
        ("ours", "encode", 10),
        ("ours", "decode", 10),
    ]
