import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from token_datasets import CODEC, OTHER, make_row, same, write_dataset

from speechlm.data_prep.card import finish_dataset
from speechlm.data_prep.receipts import INDEX_NAME, finished_shard, sha256_of
from speechlm.data_prep.shards import (
    ROWS_PER_GROUP,
    TokenRow,
    TokenShards,
    open_datasets,
    write_shard,
)
from speechlm.errors import ConfigError, CorpusError, CorruptCodes, CorruptShard, ModelMismatch


@pytest.fixture
def dataset(tmp_path):
    """Shards of 70 and 4 rows of `train` and of 15 of `valid`; the rows in the dataset's order."""
    train = [make_row(i, 5 + i % 7) for i in range(ROWS_PER_GROUP + 10)]
    valid = [make_row(100 + i, 5 + i % 7, split="valid") for i in range(15)]
    write_dataset(tmp_path / "d", [train[:70], train[70:], valid])
    return tmp_path / "d", train + valid


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(2, 4))
def test_what_was_written_is_read_back(tmp_path_factory, lengths, books):
    folder = tmp_path_factory.mktemp("d")
    rows = [make_row(i, frames, books) for i, frames in enumerate(lengths)]
    write_dataset(folder, [rows], books=books)
    shards = TokenShards(folder, codec=CODEC)
    assert shards.num_books == books
    assert shards.lengths.tolist() == lengths
    assert all(same(shards.row(i), row) for i, row in enumerate(rows))


def test_rows_of_a_split_across_shards_and_groups(dataset):
    folder, rows = dataset
    wanted = [row for row in rows if row.split == "valid"]
    shards = TokenShards(folder, split="valid")
    assert len(shards) == len(wanted)
    assert shards.speakers == tuple(row.speaker for row in wanted)
    assert all(same(shards.row(i), wanted[i]) for i in reversed(range(len(wanted))))
    assert shards.fingerprint == TokenShards(folder).fingerprint


def test_memory_of_tokens_is_bounded(dataset, monkeypatch):
    folder, rows = dataset
    monkeypatch.setattr("speechlm.data_prep.shards.CACHE_BYTES", 1)
    shards = TokenShards(folder)
    for index in (0, 73, 1, 66, 0):
        assert same(shards.row(index), rows[index])
        assert len(shards._cache) == 1


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_dataset(tmp_path / name, [[make_row(i, 9) for i in range(5)]])
    for name in ("train-00000.parquet", "receipts/train-00000.json", "README.md", INDEX_NAME):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_plain_datasets_opens_the_folder(dataset, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    folder, rows = dataset
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {split: len(part) for split, part in loaded.items()} == {"train": 74, "validation": 15}
    for row, wanted in zip([*loaded["train"], *loaded["validation"]], rows, strict=True):
        assert row["id"] == wanted.id
        assert torch.equal(torch.tensor(row["codes"]), wanted.codes)


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
def test_a_cut_shard_is_named(dataset, keep):
    folder, _ = dataset
    path = folder / "train-00001.parquet"
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    for verify in (True, False):
        with pytest.raises(CorruptShard, match=r"train-00001\.parquet"):
            TokenShards(folder, verify=verify)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_altered_bytes_are_seen_and_never_crash_an_unverified_reader(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("d")
    write_dataset(folder, [[make_row(i, 6) for i in range(3)]])
    path = folder / "train-00000.parquet"
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole)
    with pytest.raises(CorruptShard, match="SHA-256"):
        TokenShards(folder)
    try:
        shards = TokenShards(folder, verify=False)
        for index in range(len(shards)):
            assert int(shards.row(index).codes.max()) < CODEC.codebook_size
    except (CorruptShard, CorpusError, ModelMismatch):
        pass


def test_a_missing_shard_or_index_is_named(dataset):
    folder, _ = dataset
    (folder / "train-00000.parquet").unlink()
    with pytest.raises(CorruptShard, match=r"train-00000\.parquet is missing"):
        TokenShards(folder)
    (folder / INDEX_NAME).unlink()
    with pytest.raises(CorpusError, match="no finished token dataset"):
        TokenShards(folder)


@pytest.mark.parametrize(
    "change",
    [{"format": 1}, {"num_books": 9}, {"codec": {}}, {"shards": 3}, {"shards": [{"name": "../x"}]}],
)
def test_a_foreign_index_is_refused(dataset, change):
    folder, _ = dataset
    index = json.loads((folder / INDEX_NAME).read_text())
    (folder / INDEX_NAME).write_text(json.dumps(index | change))
    with pytest.raises(CorruptShard, match=r"index\.json"):
        TokenShards(folder)


def test_tokens_of_another_codec_are_refused(dataset):
    folder, rows = dataset
    with pytest.raises(ModelMismatch, match="tokenize again"):
        TokenShards(folder, codec=OTHER)
    receipts = [finished_shard(folder, "train", n, f"source {n}") for n in range(2)]
    receipts[1] = write_shard(
        folder, "train", 1, rows[70:74], codec=OTHER, num_books=4, source="source 1"
    )
    finish_dataset(folder, receipts, CODEC, 4)
    with pytest.raises(ModelMismatch, match=r"train-00001\.parquet"):
        TokenShards(folder)


def test_an_unknown_or_empty_split_is_an_error(dataset):
    with pytest.raises(CorpusError, match="none of train, valid, test"):
        TokenShards(dataset[0], split="dev")
    with pytest.raises(CorpusError, match="no rows in the split 'test'"):
        TokenShards(dataset[0], split="test")


def test_datasets_are_opened_together_and_need_not_all_hold_out_rows(dataset, tmp_path):
    folder, _ = dataset
    write_dataset(tmp_path / "copies", [[make_row(i, 9) for i in range(3)]])
    write_dataset(tmp_path / "other", [[make_row(0, 9)]], codec=OTHER)
    twice = [tmp_path / "copies", folder, folder]
    assert [len(shards) for shards in open_datasets(twice, split="train")] == [3, 74, 74]
    assert [shards.folder for shards in open_datasets(twice, split="valid")] == [folder, folder]
    with pytest.raises(CorpusError, match=r"None of the token datasets .* 'test'"):
        open_datasets(twice, split="test")
    for split in ("train", "valid"):  # also where it would be passed over
        with pytest.raises(ModelMismatch, match="tokenize again"):
            open_datasets([folder, tmp_path / "other"], split=split)
    with pytest.raises(ConfigError, match="shards is empty"):
        open_datasets([])


@pytest.mark.parametrize("column", ["codes", "num_samples", "num_frames", "durations"])
def test_a_row_that_contradicts_itself_is_refused(tmp_path, column):
    """A shard of somebody else's making: the checksum is right, the content is not."""
    (receipt,) = write_dataset(tmp_path / "d", [[make_row(i, 6) for i in range(3)]])
    path = tmp_path / "d" / receipt.name
    table = pq.read_table(path)
    wrong = {
        "codes": [[[64] * 6] * 4] * 3,
        "num_samples": [481] * 3,
        "num_frames": [7] * 3,
        "durations": [[1, 1, 1, 1]] * 3,
    }
    place = table.schema.get_field_index(column)
    field = table.schema.field(place)
    pq.write_table(table.set_column(place, field, pa.array(wrong[column], field.type)), path)
    index = json.loads((tmp_path / "d" / INDEX_NAME).read_text())
    index["shards"][0] |= {"sha256": sha256_of(path), "num_bytes": path.stat().st_size}
    (tmp_path / "d" / INDEX_NAME).write_text(json.dumps(index))
    with pytest.raises(CorruptShard, match="contradicts itself"):
        TokenShards(tmp_path / "d").row(0)


def test_the_writer_refuses_rows_that_do_not_fit(tmp_path):
    row = make_row(0, 6)
    for wrong in (
        {"codes": row.codes[:3]},
        {"codes": row.codes + 64},
        {"num_samples": 481},
        {"split": "test"},
        {"durations": torch.tensor([6])},
    ):
        with pytest.raises(CorruptCodes, match="u0"):
            write_shard(
                tmp_path,
                "train",
                0,
                [TokenRow(**vars(row) | wrong)],
                codec=CODEC,
                num_books=4,
                source="",
            )
    assert not list(tmp_path.iterdir())
