"""Durations for token shards that have none: what is filled, what is refused, and resuming."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_up_speech import IDENTITY, LETTERS, aligner, trained_aligner, utterance, write_dataset

from speechlm.data_prep.align import align_shards
from speechlm.data_prep.shards import TokenRow, TokenShards
from speechlm.errors import ConfigError, CorpusError, ModelMismatch
from speechlm.slm.aligner import AlignerModel

NONE = torch.zeros(0, dtype=torch.int64)


class Killed(BaseException):
    """Stands for a signal: nothing below may catch it."""


@pytest.fixture(scope="module")
def model() -> AlignerModel:
    return trained_aligner()


def read(folder: Path) -> dict[str, TokenRow]:
    shards = TokenShards(folder)
    return {row.id: row for row in (shards.row(i) for i in range(len(shards)))}


def run(shards: Path, out: Path, model: AlignerModel, **options):
    return align_shards(shards, out, model, progress=False, **options)


def error(rows: dict[str, TokenRow], true: list[TokenRow]) -> float:
    """Mean boundary error in frames."""
    moves = [
        (rows[row.id].durations.cumsum(0) - row.durations.cumsum(0))[:-1].abs() for row in true
    ]
    return float(torch.cat(moves).double().mean())


@pytest.fixture(scope="module")
def true() -> list[TokenRow]:
    return [utterance(1000 + n, "valid" if n % 4 == 3 else "train") for n in range(20)]


@pytest.fixture(scope="module")
def shards(true: list[TokenRow], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six shards; every third row has durations, which are wrong by a known amount."""
    rows = [
        dataclasses.replace(row, durations=row.durations.flip(0) if n % 3 == 0 else NONE)
        for n, row in enumerate(true)
    ]
    folder = write_dataset(tmp_path_factory.mktemp("align") / "in", rows, rows_per_shard=4)
    (folder / "rejected.jsonl").write_text('{"id": "gone", "reason": "an empty file"}\n')
    return folder


def test_missing_durations_are_filled_and_nothing_else_moves(
    true: list[TokenRow], shards: Path, tmp_path: Path, model: AlignerModel
) -> None:
    summary = run(shards, tmp_path / "out", model)
    before, after = read(shards), read(tmp_path / "out")
    assert list(after) == list(before)
    for name, row in after.items():
        assert torch.equal(row.codes, before[name].codes)
        assert dataclasses.replace(row, durations=NONE, codes=NONE) == dataclasses.replace(
            before[name], durations=NONE, codes=NONE
        )
    kept = true[::3]
    assert (summary.kept, summary.aligned, summary.unaligned) == (7, 13, {})
    assert all(torch.equal(after[row.id].durations, row.durations.flip(0)) for row in kept)
    assert error(after, [row for n, row in enumerate(true) if n % 3]) < 1.0
    assert (tmp_path / "out/rejected.jsonl").read_bytes() == (
        shards / "rejected.jsonl"
    ).read_bytes()
    figures = json.loads((tmp_path / "out/alignment.json").read_text())
    assert figures["margin_percentiles"]["1"] > 0.2
    assert "13 aligned" in summary.table()


def test_overwriting_replaces_what_was_there(
    true: list[TokenRow], shards: Path, tmp_path: Path, model: AlignerModel
) -> None:
    summary = run(shards, tmp_path / "out", model, overwrite=True)
    assert (summary.kept, summary.aligned) == (0, 20)
    assert error(read(shards), true[::3]) > 2
    assert error(read(tmp_path / "out"), true) < 1.0


def test_what_cannot_be_aligned_is_listed_with_its_reason(
    true: list[TokenRow], tmp_path: Path, model: AlignerModel
) -> None:
    rows = [dataclasses.replace(row, durations=NONE) for row in true if row.split == "train"]
    rows[0] = dataclasses.replace(rows[0], phonemes="")
    rows[1] = dataclasses.replace(rows[1], phonemes="ab" * rows[1].num_frames)
    rows[2] = dataclasses.replace(rows[2], phonemes="a語b")
    unspoken = next(letter for letter in LETTERS if letter not in rows[3].phonemes)
    rows[3] = dataclasses.replace(rows[3], phonemes=unspoken * (rows[3].num_frames - 2))
    write_dataset(tmp_path / "in", rows)
    summary = run(tmp_path / "in", tmp_path / "out", model)
    kinds = ("no phonemes", "too many symbols", "unknown symbol", "poor match")
    assert summary.unaligned == dict.fromkeys(sorted(kinds), 1)
    ledger = [
        json.loads(line) for line in (tmp_path / "out/unaligned.jsonl").read_text().splitlines()
    ]
    assert {(entry["id"], entry["kind"]) for entry in ledger} == {
        (row.id, kind) for row, kind in zip(rows, kinds, strict=False)
    }
    after = read(tmp_path / "out")
    assert [len(after[row.id].durations) > 0 for row in rows] == [False] * 4 + [True] * (
        len(rows) - 4
    )
    assert "poor match: 1" in summary.table()


@pytest.mark.parametrize("rows_per_shard", [1, 1000])
def test_an_aligner_that_has_hardly_learned_is_told_loudly(
    rows_per_shard: int, true: list[TokenRow], tmp_path: Path, model: AlignerModel
) -> None:
    """Also where every row is alone in its shard, with no other text beside it."""
    rows = [dataclasses.replace(row, durations=NONE) for row in true]
    write_dataset(tmp_path / "in", rows, rows_per_shard)
    hardly = run(tmp_path / "in", tmp_path / "hardly", trained_aligner(steps=2))
    assert hardly.aligned < len(rows) / 2 and hardly.is_suspicious
    assert hardly.table().splitlines()[-1].startswith("WARNING: do not train on this.")
    again = run(tmp_path / "in", tmp_path / "hardly", trained_aligner(steps=2))
    assert again.skipped == again.shards and again.is_suspicious  # nothing new, and still told
    assert json.loads((tmp_path / "hardly" / "alignment.json").read_text())["suspicious"]
    healthy = run(tmp_path / "in", tmp_path / "healthy", model)
    assert healthy.aligned > 0.9 * len(rows) and not healthy.is_suspicious
    assert "WARNING" not in healthy.table()


def test_a_second_run_aligns_nothing(
    shards: Path,
    tmp_path: Path,
    model: AlignerModel,
    monkeypatch: pytest.MonkeyPatch,
    content: Callable[[Path], dict[str, bytes]],
) -> None:
    first = run(shards, tmp_path / "out", model)
    before = content(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(AlignerModel, "align", lambda *_: pytest.fail("aligned again"))
        again = run(shards, tmp_path / "out", model)
    assert (again.skipped, again.aligned, again.kept) == (6, first.aligned, first.kept)
    assert content(tmp_path / "out") == before
    damaged = tmp_path / "out/train-00001.parquet"
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert run(shards, tmp_path / "out", model).skipped == 5
    assert content(tmp_path / "out") == before
    assert run(shards, tmp_path / "out", model, min_margin=0.4).skipped == 0
    assert run(shards, tmp_path / "out", aligner(), min_margin=0.4).skipped == 0


def test_a_run_stopped_at_any_write_ends_in_the_same_bytes(
    tmp_path: Path,
    model: AlignerModel,
    monkeypatch: pytest.MonkeyPatch,
    content: Callable[[Path], dict[str, bytes]],
) -> None:
    rows = [utterance(n, "valid" if n > 3 else "train", timed=False) for n in range(5)]
    shards = write_dataset(tmp_path / "in", rows)
    rename = os.replace
    done = 0

    def count(source: str, target: str) -> None:
        nonlocal done
        rename(source, target)
        done += 1

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", count)
        run(shards, tmp_path / "whole", model)
    assert done == 2 * 3 + 4  # notes, shard and receipt of each; ledger, figures, card, index
    for moment in range(done):
        calls = 0

        def stop(source: str, target: str, moment: int = moment) -> None:
            nonlocal calls
            if calls == moment:
                raise Killed
            rename(source, target)
            calls += 1

        out = tmp_path / f"stopped-{moment}"
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", stop)
            with pytest.raises(Killed):
                run(shards, out, model)
        with pytest.raises(CorpusError, match="no finished token dataset"):
            TokenShards(out)
        for leftover in (".unaligned.jsonl.x7_tmp", "alignment/.train-00000.json.x7_tmp"):
            (out / leftover).write_bytes(b"half")  # what a real signal leaves
        run(shards, out, model)
        assert content(out) == content(tmp_path / "whole")


def test_tokens_of_another_codec_and_the_same_folder_are_refused(
    true: list[TokenRow], shards: Path, tmp_path: Path
) -> None:
    other = dataclasses.replace(IDENTITY, revision="1" * 16)
    with pytest.raises(ModelMismatch, match="revision"):
        run(shards, tmp_path / "out", aligner(other))
    with pytest.raises(ConfigError, match="another folder"):
        run(shards, shards / "../in", aligner())
    with pytest.raises(CorpusError, match="no finished token dataset"):
        run(tmp_path, tmp_path / "out", aligner())
    assert not (tmp_path / "out").exists()
