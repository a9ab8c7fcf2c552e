"""Several reports on one page: draws of one measurement are averaged, others are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechlm.errors import ConfigError
from speechlm.eval.report import Report, Row
from speechlm.eval.summary import summarise


def report(folder: Path, wer: float, *, listing: str = "a.jsonl", **figures: object) -> Path:
    rows: list[Row] = [
        {"system": "model", "sentences": 20, "wer": wer, "wer_low": 0.01, "mos": 4.0, **figures},
        {"system": "ground truth", "sentences": 20, "wer": 0.02, "wer_low": 0.0, "mos": None},
    ]
    facts = {"list": listing, "codec": "c", "seed": 0}
    Report(folder, "Text to speech", facts, {"systems": rows}, ["No ear was there."]).save()
    return folder


def test_draws_of_one_list_are_averaged_and_their_spread_is_told(tmp_path: Path) -> None:
    reports = [
        ("people", report(tmp_path / str(n), wer)) for n, wer in enumerate((0.04, 0.06, 0.11))
    ]
    page = summarise(reports, tmp_path / "new" / "tables.md")
    assert (tmp_path / "new" / "tables.md").read_text() == page
    heading, _, model, truth, _, _, _, notes = page.strip().splitlines()[2:]
    assert "low" not in heading  # an interval of one draw says nothing of three
    assert "| people | model | 3 | 20 | 0.070 (0.040 to 0.110) | 4.000 |" in model
    assert "| people | ground truth | 3 | 20 | 0.020 | n/a |" in truth
    assert notes == "- No ear was there."  # once


def test_a_name_of_its_own_keeps_a_report_apart(tmp_path: Path) -> None:
    first, other = report(tmp_path / "1", 0.04), report(tmp_path / "2", 0.06, listing="b.jsonl")
    page = summarise([("one", first), ("two", other)], tmp_path / "tables.md")
    assert page.count("## Text to speech") == 1
    assert "| one | model | 1 | 20 | 0.040 | 0.010 |" in page
    assert "| two | model | 1 | 20 | 0.060 | 0.010 |" in page


def test_what_is_no_draw_of_one_measurement_has_no_mean(tmp_path: Path) -> None:
    first, other = report(tmp_path / "1", 0.04), report(tmp_path / "2", 0.06, listing="b.jsonl")
    with pytest.raises(ConfigError, match="differ in list"):
        summarise([("people", first), ("people", other)], tmp_path / "tables.md")
    third = tmp_path / "3"
    Report(
        third, "Text to speech", {"list": "a.jsonl", "codec": "c"}, {"systems": [{"system": "x"}]}
    ).save()
    with pytest.raises(ConfigError, match="differ in systems"):
        summarise([("people", first), ("people", third)], tmp_path / "tables.md")
    codec = tmp_path / "codec"
    rows: list[Row] = [{"system": "original", "pesq": 1.0}]
    Report(codec, "Codec", {"list": "a.jsonl", "codec": "c"}, {"quality": rows}).save()
    with pytest.raises(ConfigError, match="differ in kind"):
        summarise([("people", first), ("people", codec)], tmp_path / "tables.md")
    assert not (tmp_path / "tables.md").exists()
    page = summarise([("people", first), ("people copied", codec)], tmp_path / "tables.md")
    assert page.index("## Text to speech") < page.index("## Codec")


@pytest.mark.parametrize("content", [None, "{", "[]", '{"title": "x", "facts": {}, "tables": {}}'])
def test_a_folder_without_a_report_is_one_sentence(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "report"
    folder.mkdir()
    if content is not None:
        (folder / "report.json").write_text(content)
    with pytest.raises(ConfigError, match="holds no whole report"):
        summarise([("people", folder)], tmp_path / "tables.md")
