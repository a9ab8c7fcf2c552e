import json
import warnings

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from token_datasets import make_row, same, write_dataset

from speechlm.data_prep.damage import check_dataset
from speechlm.data_prep.receipts import INDEX_NAME, sha256_of
from speechlm.data_prep.shards import ROWS_PER_GROUP, TokenShards
from speechlm.errors import ConfigError, CorruptShard


@pytest.fixture
def dataset(tmp_path):
    """Four shards of ten training rows, one of five held-out rows; the training rows in order."""
    rows = [make_row(i, 5 + i % 7) for i in range(40)]
    held_out = [make_row(100 + i, 9, split="valid") for i in range(5)]
    write_dataset(tmp_path / "d", [*(rows[i : i + 10] for i in range(0, 40, 10)), held_out])
    return tmp_path / "d", rows


def rewrite(folder, name, change):
    """Let a shard hold other rows under a checksum that fits, as a stranger could make it."""
    path = folder / name
    table = pq.read_table(path)
    records = table.to_pylist()
    change(records)
    pq.write_table(pa.Table.from_pylist(records, table.schema), path)
    index = json.loads((folder / INDEX_NAME).read_text())
    (entry,) = (entry for entry in index["shards"] if entry["name"] == name)
    entry |= {"sha256": sha256_of(path), "num_bytes": path.stat().st_size}
    (folder / INDEX_NAME).write_text(json.dumps(index))


def cut(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1])


def flip(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 3] ^= 1
    (folder / name).write_bytes(data)


def remove(folder, name):
    (folder / name).unlink()


@pytest.mark.parametrize("harm", [cut, flip, remove])
def test_a_damaged_shard_is_left_out_up_to_the_stated_share(dataset, harm):
    folder, rows = dataset
    harm(folder, "train-00001.parquet")
    with pytest.raises(CorruptShard, match=r"train-00001\.parquet.*redoes only this shard"):
        TokenShards(folder, split="train")
    with pytest.raises(CorruptShard, match=r"10 of 40 rows.*more than 24\.0%.*train-00001"):
        TokenShards(folder, split="train", max_damaged_share=0.24)
    with pytest.warns(UserWarning, match=r"Left out: .*train-00001\.parquet") as said:
        shards = TokenShards(folder, split="train", max_damaged_share=0.25)
    assert len(said) == 1
    assert [damage.shard for damage in shards.damaged] == ["train-00001.parquet"]
    rest = rows[:10] + rows[20:]
    assert shards.lengths.tolist() == [row.num_frames for row in rest]
    assert all(same(shards.row(i), row) for i, row in enumerate(rest))
    assert not TokenShards(folder, split="valid").damaged


def test_damaged_rows_alone_are_left_out_of_a_readable_shard(dataset):
    folder, rows = dataset

    def spoil(records):
        records[2]["codes"][1][0] = 64
        records[5]["durations"] = [1, 1]
        records[7]["text"] = None
        records[8]["codec"] = "level@" + "1" * 16

    rewrite(folder, "train-00003.parquet", spoil)
    with pytest.warns(
        UserWarning, match=r"row 2 has a code outside 0 to 63; row 5 has 2 durations"
    ):
        shards = TokenShards(folder, split="train", max_damaged_share=0.1)
    assert [(d.shard, list(d.rows)) for d in shards.damaged] == [
        ("train-00003.parquet", [2, 5, 7, 8])
    ]
    rest = [row for i, row in enumerate(rows) if i not in (32, 35, 37, 38)]
    assert all(same(shards.row(i), row) for i, row in enumerate(rest))
    strict = TokenShards(folder, split="train")
    assert same(strict.row(31), rows[31])
    with pytest.raises(CorruptShard, match=r"Row 2 of .*train-00003.*code outside 0 to 63"):
        strict.row(32)


def test_a_row_group_that_cannot_be_decoded_costs_only_its_rows(tmp_path):
    rows = [make_row(i, 40) for i in range(2 * ROWS_PER_GROUP)]
    (receipt,) = write_dataset(tmp_path / "d", [rows])
    path = tmp_path / "d" / receipt.name
    column = pq.read_metadata(path).row_group(0).column(9)
    data = bytearray(path.read_bytes())
    start = column.data_page_offset + 60
    data[start : start + 40] = bytes(40)
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="rows 0 to 63"):
        shards = TokenShards(tmp_path / "d", verify=False, max_damaged_share=0.5)
    assert len(shards) == ROWS_PER_GROUP
    assert same(shards.row(0), rows[ROWS_PER_GROUP])


def test_what_is_left_out_changes_the_fingerprint(dataset):
    """A run must not resume on fewer rows than it began with."""
    folder, _ = dataset
    whole = TokenShards(folder, max_damaged_share=0.3)
    assert not whole.damaged
    remove(folder, "train-00002.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, two = (TokenShards(folder, max_damaged_share=0.3) for _ in range(2))
    assert one.fingerprint == two.fingerprint != whole.fingerprint


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_is_between_none_and_all(dataset, share):
    with pytest.raises(ConfigError, match="give a share of 0 to 1"):
        TokenShards(dataset[0], max_damaged_share=share)


def test_check_names_every_damaged_shard_and_every_stray(dataset):
    folder, _ = dataset
    report = check_dataset(folder)
    assert (report.whole, report.shards, report.rows) == (True, 5, 45)
    assert report.seconds == pytest.approx(
        sum(TokenShards(folder).row(i).num_samples for i in range(45)) / 8000
    )
    cut(folder, "train-00000.parquet")
    flip(folder, "valid-00000.parquet")
    rewrite(folder, "train-00002.parquet", lambda records: records[4].update(num_samples=1))
    (folder / "train-00009.parquet").write_bytes(b"of a run before")
    report = check_dataset(folder)
    assert not report.whole
    assert [(damage.shard, len(damage.rows)) for damage in report.damaged] == [
        ("train-00000.parquet", 10),
        ("train-00002.parquet", 1),
        ("valid-00000.parquet", 5),
    ]
    for said in ("bytes are not the index's", "row 4 has frames", "SHA-256", "train-00009"):
        assert said in report.table()


def test_an_index_that_counts_wrong_is_found(dataset):
    folder, _ = dataset
    index = json.loads((folder / INDEX_NAME).read_text())
    index["shards"][1]["num_samples"] += 80
    (folder / INDEX_NAME).write_text(json.dumps(index))
    (damage,) = check_dataset(folder).damaged
    assert damage.shard == "train-00001.parquet"
    assert "not as many as the index says" in damage.reason


def test_a_small_file_that_would_fill_the_memory_is_refused(dataset):
    """A dictionary holds a long string once and each of many rows points to it."""
    folder, _ = dataset

    def swell(records):
        for record in records:
            record["speaker"] = "x" * (8 << 20)

    rewrite(folder, "train-00000.parquet", swell)
    assert (folder / "train-00000.parquet").stat().st_size < 1 << 20
    with pytest.raises(CorruptShard, match=r"83886080 bytes in the column speaker"):
        TokenShards(folder)
    assert [damage.shard for damage in check_dataset(folder).damaged] == ["train-00000.parquet"]


def test_a_shard_of_format_1_is_to_be_tokenized_again(dataset):
    folder, _ = dataset
    index = json.loads((folder / INDEX_NAME).read_text())
    (folder / INDEX_NAME).write_text(json.dumps(index | {"format": 1}))
    for opened in (TokenShards, check_dataset):
        with pytest.raises(CorruptShard, match=r"format 1, this speechlm reads 2; tokenize again"):
            opened(folder)
