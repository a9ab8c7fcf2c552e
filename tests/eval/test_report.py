"""A report is JSON that any reader takes and Markdown that shows the same figures."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from speechlm.errors import ConfigError, MissingExtra
from speechlm.eval.report import Report, markdown_table


def test_report_holds_facts_tables_and_items(tmp_path: Path) -> None:
    report = Report(tmp_path / "new" / "out", "A codec", facts={"recordings": 3, "codec": {"V": 4}})
    report.tables["quality"] = [
        {"system": "a|b", "pesq": 1.23456789, "wer": math.nan, "path": Path("x"), "per_book": [1]},
        {"system": "c", "pesq": 2.0, "wer": 0.5},
    ]
    report.items = [{"id": "x", "pesq": math.inf}]
    report.add_sound("a.wav", "a sound", torch.zeros(100), 16_000)
    returned = report.save()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    read = json.loads((report.folder / "report.json").read_text(), parse_constant=refuse)
    assert read == returned
    assert read["tables"]["quality"][0]["wer"] is None
    assert read["tables"]["quality"][1]["pesq"] == 2.0
    assert json.loads((report.folder / "items.jsonl").read_text()) == {"id": "x", "pesq": None}
    markdown = (report.folder / "report.md").read_text()
    assert "| a\\|b | 1.235 | n/a |" in markdown
    assert "per book" not in markdown
    assert "[a.wav](a.wav)" in markdown and (report.folder / "a.wav").is_file()


def test_a_new_report_takes_the_mark_of_the_old_one_away(tmp_path: Path) -> None:
    Report(tmp_path, "first").save()
    (tmp_path / "mine.txt").write_text("stays")
    Report(tmp_path, "second")
    assert not (tmp_path / "report.json").exists()
    assert (tmp_path / "mine.txt").exists()


def test_a_picture_that_cannot_be_drawn_is_a_note(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        raise MissingExtra("no matplotlib")

    report = Report(tmp_path, "t")
    report.add_figure("a.png", "a", fail)
    report.add_figure("b.png", "b", fail)
    assert report.figures == {} and report.notes == ["no matplotlib"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="name a folder"):
        Report(tmp_path / "file", "t")


def test_columns_without_a_value_are_left_out() -> None:
    assert markdown_table([{"a": 1, "b": None}, {"a": 2}]).splitlines()[0] == "| a |"
    assert markdown_table([]) == "Nothing was measured."
