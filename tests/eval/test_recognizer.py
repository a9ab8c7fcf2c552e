"""Weights that come in two halves are joined once, whole, and mended when they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechlm.eval import recognizer


@pytest.fixture
def halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two packages of a few bytes, and a cache of their own."""
    for number, name in enumerate(recognizer._BASE_PARTS, start=1):
        data = tmp_path / name / "data"
        data.mkdir(parents=True)
        (data / f"model.bin.part{number}").write_bytes(bytes([number]) * 5)
        for small in recognizer._SMALL_FILES:
            (data / small).write_text("{}")
    monkeypatch.setattr(recognizer, "_package_folder", lambda name: tmp_path / name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(recognizer.sys, "platform", "linux")
    return tmp_path


def test_the_halves_are_joined_in_the_users_cache(halves: Path) -> None:
    folder, name = recognizer.installed_weights()
    assert name == "base"
    assert Path(folder).parent == halves / "cache" / "speechlm"
    assert (Path(folder) / "model.bin").read_bytes() == b"\x01" * 5 + b"\x02" * 5
    assert {file.name for file in Path(folder).iterdir()} == {
        "model.bin",
        *recognizer._SMALL_FILES,
    }


def test_joined_weights_are_used_again_and_a_cut_file_is_replaced(halves: Path) -> None:
    weights = Path(recognizer.installed_weights()[0]) / "model.bin"
    written = weights.stat().st_mtime_ns
    recognizer.installed_weights()
    assert weights.stat().st_mtime_ns == written
    weights.write_bytes(b"\x01")
    recognizer.installed_weights()
    assert len(weights.read_bytes()) == 10


def test_tiny_weights_serve_where_base_is_not_whole(
    halves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        recognizer,
        "_package_folder",
        lambda name: None if name.endswith("part2") else halves / name,
    )
    assert recognizer.installed_weights() == (
        str(halves / recognizer._TINY_PACKAGE / "model"),
        "tiny.en",
    )
