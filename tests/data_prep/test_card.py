import re

import datasets
import pytest
import torch
import yaml
from tiny_codecs import tiny_codec
from token_datasets import CODEC, OTHER, make_row, write_dataset

import speechlm
from speechlm.data_prep.receipts import INDEX_NAME
from speechlm.data_prep.shards import TokenRow, TokenShards, codes_of
from speechlm.errors import CorruptCodes, ModelMismatch


@pytest.fixture
def spoken(tmp_path, monkeypatch):
    """A tiny codec, the codes that it makes of two waveforms, and these as a dataset."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    codec = tiny_codec()
    identity = codec.identity
    noise = torch.Generator().manual_seed(1)
    codes = codec.tokenize([0.1 * torch.randn(n, generator=noise) for n in (4000, 5003)])
    rows = [
        TokenRow(
            f"u{i}", "", "", torch.zeros(0, dtype=torch.int64), f"s{i}", "train",
            int(codes.num_samples[i]), codes.item(i),
        )
        for i in range(2)
    ]  # fmt: skip
    write_dataset(tmp_path / "d", [rows], identity, identity.num_codebooks)
    return codec, codes, tmp_path / "d"


def test_a_row_of_load_dataset_becomes_the_waveform_that_its_codes_decode_to(spoken, tmp_path):
    codec, codes, folder = spoken
    rows = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    for given in (list(rows), list(rows.with_format("torch")), list(rows.with_format("numpy"))):
        found = codes_of(given, codec.identity)
        assert torch.equal(found.values, codes.values)
        for heard, wanted in zip(codec.synthesize(found), codec.synthesize(codes), strict=True):
            assert torch.equal(heard, wanted)


def test_two_datasets_of_one_folder_name_are_told_apart(tmp_path):
    cache = str(tmp_path / "cache")
    for place, count in (("a", 1), ("b", 3)):
        folder = tmp_path / place / "tokens"
        folder.parent.mkdir()
        write_dataset(folder, [[make_row(i, 6) for i in range(count)]], CODEC)
        assert len(datasets.load_dataset(str(folder), split="train", cache_dir=cache)) == count


def test_the_lines_of_the_card_run(spoken, monkeypatch):
    codec, codes, folder = spoken
    monkeypatch.setattr(speechlm, "load_codec", lambda: codec, raising=False)
    (lines,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    names = {"DATASET": str(folder)}
    exec(lines, names)
    assert len(names["waveform"]) == int(codes.num_samples[0])
    assert f"revision `{codec.identity.revision}`" in (folder / "README.md").read_text()


def test_rows_that_cannot_be_decoded_are_refused():
    row = make_row(0, 6)
    good = {
        "id": "u0",
        "codec": "level@" + "0" * 16,
        "num_samples": row.num_samples,
        "codes": row.codes.tolist(),
    }
    assert torch.equal(codes_of([good], CODEC).item(0), row.codes)
    with pytest.raises(ModelMismatch, match=r"u0 was made with the codec level@0+, but level@1+"):
        codes_of([good], OTHER)
    for wrong in (
        {"num_samples": 481},
        {"codes": [[1, 2], [3]]},
        {"codes": None},
        {"codes": [[64] * 6] * 4},
        {"codes": [[0] * 6] * 5},
    ):
        with pytest.raises(CorruptCodes):
            codes_of([good | wrong], CODEC)
    for rows in ([], [{}], [good, good | {"codes": row.codes[:3].tolist()}]):
        with pytest.raises(CorruptCodes):
            codes_of(rows, CODEC)


def test_the_card_counts_utterances_hours_and_speakers(tmp_path):
    train = [make_row(i, 3600) for i in range(10)]  # 36 s each, by s0, s1, s2
    write_dataset(tmp_path / "d", [train[:5], train[5:], [make_row(3, 9, split="test")]])
    card = (tmp_path / "d" / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "unknown"
    assert front["configs"][0]["data_files"] == [
        {"split": "train", "path": "train-*.parquet"},
        {"split": "test", "path": "test-*.parquet"},
    ]
    assert "| train | 10 | 0.10 | 3 |" in card
    assert "| test | 1 | 0.00 | 1 |" in card
    assert "| all | 11 | 0.10 | 3 |" in card
    assert "4 of 4, 64 entries each" in card
    assert "| bit rate | 2400 bit/s |" in card


def test_a_card_that_somebody_completed_stays_while_the_tokens_do(tmp_path):
    folder = tmp_path / "d"
    write_dataset(folder, [[make_row(0, 9)]])
    card = folder / "README.md"
    completed = card.read_text().replace("license: unknown", "license: cc-by-4.0")
    card.write_text(completed)
    write_dataset(folder, [[make_row(0, 9)]])
    assert card.read_text() == completed
    write_dataset(folder, [[make_row(1, 9)]])
    assert "license: unknown" in card.read_text()


def test_a_split_whose_recordings_were_all_lost_is_not_promised(tmp_path, monkeypatch):
    """`load_dataset` fails on a split without rows."""
    from speechlm.data_prep.card import finish_dataset
    from speechlm.data_prep.shards import write_shard

    folder = tmp_path / "d"
    (receipt,) = write_dataset(folder, [[make_row(0, 9)]])
    (folder / INDEX_NAME).unlink()
    empty = write_shard(folder, "valid", 0, [], codec=CODEC, num_books=4, source="")
    finish_dataset(folder, [receipt, empty], CODEC, 4)
    assert list(datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))) == ["train"]
    assert len(TokenShards(folder)) == 1
