"""The dataset under tests/assets was written once, by format 2, and stays readable for ever."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import torch
from token_datasets import CODEC

from speechlm.data_prep.damage import check_dataset
from speechlm.data_prep.receipts import finished_shard
from speechlm.data_prep.shards import TokenRow, TokenShards, write_shard

ASSET = Path(__file__).parents[1] / "assets" / "tokens-format-2"


def golden_rows(split, first, count):
    """Rows by a formula, so that no generator of random numbers has a say."""
    found = []
    for number in range(first, first + count):
        frames = 5 + number
        codes = torch.tensor(
            [[(7 * k + 3 * t + number) % 64 for t in range(frames)] for k in range(4)]
        )
        aligned = number % 2 == 0
        found.append(
            TokenRow(
                id=f"golden/{number}",
                text=f"Naïve “sentence” {number}." if number else "",
                phonemes="nˈa" if aligned else "",
                durations=torch.tensor([1, 1, 1, 1, frames - 4] if aligned else [], dtype=torch.int64),
                speaker="Zoë" if number < 3 else "",
                split=split,
                num_samples=80 * frames - number,
                codes=codes,
            )
        )  # fmt: skip
    return found


def golden_shards():
    yield "train", 0, golden_rows("train", 0, 3)
    yield "train", 1, golden_rows("train", 3, 2)
    yield "valid", 0, golden_rows("valid", 5, 1)


def test_every_row_is_what_was_written():
    assert check_dataset(ASSET).whole
    shards = TokenShards(ASSET, codec=CODEC)
    wanted = [row for *_, rows in golden_shards() for row in rows]
    assert len(shards) == len(wanted)
    for index, row in enumerate(wanted):
        found = shards.row(index)
        for name, value in vars(row).items():
            read = getattr(found, name)
            same = torch.equal(read, value) if isinstance(value, torch.Tensor) else read == value
            assert same, (index, name)
    assert len(TokenShards(ASSET, split="valid")) == 1


def test_a_second_run_would_skip_its_shards():
    for split, number, _ in golden_shards():
        receipt = finished_shard(ASSET, split, number, f"golden {split} {number}")
        assert receipt is not None
        lost = {"id": "lost", "audio": "lost.wav", "reason": "empty"}
        assert receipt.rejected == (() if number else (lost,))
        assert finished_shard(ASSET, split, number, "of something else") is None


def test_today_writes_the_same_columns_with_the_same_values(tmp_path):
    """Bytes may differ by the version of pyarrow, tables may not."""
    for split, number, rows in golden_shards():
        receipt = write_shard(
            tmp_path, split, number, rows, codec=CODEC, num_books=4, source="today"
        )
        today, golden = (pq.read_table(folder / receipt.name) for folder in (tmp_path, ASSET))
        assert today.equals(golden, check_metadata=True)


def test_the_index_holds_the_keys_that_the_format_names():
    index = json.loads((ASSET / "index.json").read_text())
    assert set(index) == {"format", "codec", "num_books", "shards"}
    assert [entry["name"] for entry in index["shards"]] == [
        "train-00000.parquet",
        "train-00001.parquet",
        "valid-00000.parquet",
    ]
    keys = {"name", "num_bytes", "sha256", "rows", "num_frames", "num_samples"}
    assert all(set(entry) == keys for entry in index["shards"])


def test_a_check_shows_how_far_it_is_where_asked(capsys):
    table = check_dataset(ASSET, progress=True).table()
    assert "6/6" in capsys.readouterr().err
    assert "in 3 shards\ndamaged: 0 shards, 0 utterances" in table
    check_dataset(ASSET)
    assert capsys.readouterr().err == ""
