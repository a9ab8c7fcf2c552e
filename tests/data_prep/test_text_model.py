"""Pieces from a manifest: from the training split alone, repeatable, and refusing in one sentence."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from speechlm.data_prep.manifest import Utterance, write_manifest
from speechlm.data_prep.text_model import train_text_model
from speechlm.errors import ConfigError, CorpusError
from speechlm.slm import speak
from speechlm.slm.pieces import PieceTokenizer

TEXTS = [line.strip() for line in inspect.getsource(speak).splitlines() if len(line.split()) > 3]


def write(path: Path, texts: dict[str, list[str]]) -> Path:
    rows = [
        Utterance(f"{split}-{number}", path.parent / "a.wav", 1.0, text, "", split)
        for split, some in texts.items()
        for number, text in enumerate(some)
    ]
    write_manifest(path, rows)
    return path


def test_held_out_transcripts_teach_no_pieces(tmp_path: Path) -> None:
    secret = "zyxomorphic quuxification"
    held_out = [secret] * 200
    manifest = write(tmp_path / "m.jsonl", {"valid": held_out, "train": TEXTS, "test": held_out})
    summary = train_text_model(manifest, tmp_path / "out", 600)
    pieces = PieceTokenizer.load(tmp_path / "out")
    assert pieces.size == summary.num_pieces == 600
    assert len(pieces.encode(secret)) > len(secret) / 3
    assert (summary.lines, summary.held_out_lines) == (len(set(TEXTS)), 1)
    assert summary.held_out_characters_per_piece < summary.characters_per_piece
    assert "600 unigram pieces" in summary.table()


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_the_same_transcripts_give_the_same_bytes_however_often_they_are_read(
    model_type: str, tmp_path: Path
) -> None:
    once = write(tmp_path / "once.jsonl", {"train": TEXTS})
    often = write(tmp_path / "often.jsonl", {"train": TEXTS + TEXTS[:50] * 30})
    for manifest in (once, often):
        train_text_model(manifest, tmp_path / manifest.stem, 500, model_type)  # type: ignore[arg-type]
    files = [tmp_path / name / "pieces.model" for name in ("once", "often")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_english_is_read_as_it_is_spoken_and_other_text_as_it_stands(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.jsonl", {"train": TEXTS})
    for name, is_english in (("english", True), ("other", False)):
        train_text_model(manifest, tmp_path / name, 500, is_english=is_english)
    english, other = (PieceTokenizer.load(tmp_path / name) for name in ("english", "other"))
    text = "Dr. Ito paid $5"
    assert english.decode(english.encode(text)) == "Doctor Ito paid five dollars"
    assert other.decode(other.encode(text)) == text


def test_a_long_list_is_thinned_evenly(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.jsonl", {"train": TEXTS})
    summary = train_text_model(manifest, tmp_path / "out", 400, "bpe", max_lines=100)
    assert summary.lines == 100


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_a_size_that_the_text_does_not_allow_is_refused_with_the_nearest_that_works(
    model_type: str, tmp_path: Path
) -> None:
    manifest = write(tmp_path / "m.jsonl", {"train": TEXTS[:5]})
    for size, limit in ((1000, "at the most"), (200, "at the least")):
        with pytest.raises(ConfigError, match=f"5 different .* {limit}.*--vocab-size") as caught:
            train_text_model(manifest, tmp_path, size, model_type)  # type: ignore[arg-type]
        (named,) = re.findall(rf"(\d+) pieces {limit}", str(caught.value))
        made = train_text_model(manifest, tmp_path, int(named), model_type)  # type: ignore[arg-type]
        assert made.num_pieces == int(named)
        beyond = int(named) + (1 if size > int(named) else -1)
        with pytest.raises(ConfigError, match=limit):
            train_text_model(manifest, tmp_path, beyond, model_type)  # type: ignore[arg-type]


def test_refusals(tmp_path: Path) -> None:
    manifest = write(tmp_path / "m.jsonl", {"train": TEXTS})
    with pytest.raises(ConfigError, match="wordpiece"):
        train_text_model(manifest, tmp_path, model_type="wordpiece")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="100000"):
        train_text_model(manifest, tmp_path, 100_000)
    silent = write(tmp_path / "silent.jsonl", {"train": ["", "..."], "valid": TEXTS})
    with pytest.raises(CorpusError, match="no transcripts"):
        train_text_model(silent, tmp_path)
    assert not (tmp_path / "pieces.model").exists()
