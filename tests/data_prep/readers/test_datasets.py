import io
import json

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from speechlm.data_prep.readers import Rejection, read_corpus
from speechlm.data_prep.readers.dataset import DatasetReader
from speechlm.errors import ConfigError, CorpusError


def encoded(level):
    file = io.BytesIO()
    soundfile.write(file, np.full(800, level, np.float32), 16_000, format="FLAC")
    return file.getvalue()


SOUNDS = [encoded(level) for level in (0.1, 0.2, 0.3)]


@pytest.fixture
def rows():
    return datasets.Dataset.from_dict(
        {
            "audio": [{"bytes": s, "path": f"{n}.flac"} for n, s in enumerate(SOUNDS)],
            "sentence": ["one", "two ", None],
            "speaker_id": [84, 84, 103],
            "embedding": [[0.0] * 4] * 3,
        }
    ).cast_column("audio", datasets.Audio(16_000))


def seen(entries):
    return [(r.id, r.text, r.speaker, r.split, r.content) for r in entries]


EXPECTED = [("one", "84", 0), ("two", "84", 1), (None, "103", 2)]


def expected(label, split):
    return [(f"{label}/{n:08d}", text, speaker, split, SOUNDS[n]) for text, speaker, n in EXPECTED]


def test_a_dataset_on_disk_with_splits(tmp_path, rows, read):
    saved = datasets.DatasetDict({"train.clean.100": rows, "validation": rows})
    saved.save_to_disk(tmp_path / "d")
    recordings, rejections = read(tmp_path / "d")
    assert seen(recordings) == [
        *expected("train.clean.100", "train"),
        *expected("validation", "valid"),
    ]
    assert rejections == []
    assert len(read(tmp_path / "d", split="validation")[0]) == 3


def test_a_dataset_on_disk_without_splits(tmp_path, rows, read):
    rows.save_to_disk(tmp_path / "d")
    assert seen(read(tmp_path / "d")[0]) == expected("row", None)


@pytest.mark.parametrize("where", ["", "data/"])
def test_parquet_files_of_the_hub_s_layout(tmp_path, rows, read, where):
    (tmp_path / "d" / where).mkdir(parents=True, exist_ok=True)
    rows.to_parquet(tmp_path / "d" / f"{where}test-00000-of-00001.parquet")
    found = expected(f"{where}test-00000-of-00001", "test")
    assert seen(read(tmp_path / "d")[0]) == found
    file = tmp_path / "d" / f"{where}test-00000-of-00001.parquet"
    assert [r.content for r in read(file)[0]] == SOUNDS


def test_parquet_of_other_tools_with_plain_bytes_and_paths(tmp_path, touch, read):
    touch(tmp_path, "x.wav")
    table = pa.table({"id": ["a", "b"], "wav": [SOUNDS[0], None], "words": ["one", "two"]})
    pq.write_table(table, tmp_path / "bytes.parquet")
    table = pa.table({"file": ["x.wav", "gone.wav", "../up.wav"], "text": ["x", "y", "z"]})
    pq.write_table(table, tmp_path / "paths.parquet")
    recordings, rejections = read(tmp_path / "bytes.parquet", columns={"text": "words"})
    assert [(r.id, r.content, r.text) for r in recordings] == [("a", SOUNDS[0], "one")]
    assert [(r.id, r.kind) for r in rejections] == [("b", "entry")]
    recordings, rejections = read(tmp_path / "paths.parquet")
    assert [r.audio for r in recordings] == [tmp_path / "x.wav"]
    assert [r.kind for r in rejections] == ["missing", "entry"]


def test_a_damaged_file_costs_itself_only(tmp_path, rows, read):
    rows.to_parquet(tmp_path / "a.parquet")
    rows.to_parquet(tmp_path / "b.parquet")
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:500])
    pq.write_table(pa.table({"x": [1]}), tmp_path / "c.parquet")
    recordings, rejections = read(tmp_path)
    assert seen(recordings) == expected("b", None)
    assert [(r.id, r.kind) for r in rejections] == [("a", "list"), ("c", "list")]


def test_a_stream_is_read_as_it_comes_and_not_ahead(rows):
    drawn = []

    def note(row):
        drawn.append(row["sentence"])
        return row

    stream = rows.to_iterable_dataset().cast_column("audio", datasets.Audio(decode=False)).map(note)
    entries = DatasetReader().read_rows(stream, "train", split="train")
    assert next(entries).content == SOUNDS[0]
    assert len(drawn) < 3
    assert [r.id for r in entries] == ["train/00000001", "train/00000002"]


def test_a_row_that_only_names_its_file_is_fetched_from_nowhere_else(tmp_path, touch):
    (tmp_path / "x.flac").write_bytes(SOUNDS[0])
    paths = [f"file://{tmp_path}/x.flac", "http://localhost/x.flac"]
    rows = datasets.Dataset.from_dict({"audio": [{"bytes": None, "path": path} for path in paths]})
    good, bad = DatasetReader().read_rows(rows, "row")
    assert good.content == SOUNDS[0]
    assert isinstance(bad, Rejection)
    assert "not fetched" in bad.reason


def test_a_name_on_the_hub_gives_its_parts_to_datasets(rows, monkeypatch, read):
    """The Hub itself is not asked: what is asked of it is."""
    asked = []

    def load_dataset(*args, **options):
        asked.append((args, options))
        return rows if options["split"] else {"train": rows.to_iterable_dataset()}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    recordings, _ = read("hf://owner/name@v2?config=clean&split=test.other&streaming=false")
    assert recordings[0].id == "test.other/00000000"
    assert recordings[0].split == "test"
    recordings, _ = read(["hf://owner/name", "hf://owner/name@v2"], revision="v1")
    assert [recordings[0].id, recordings[-1].id] == ["name/train/00000000", "name-2/train/00000002"]
    assert [(args, *options.values()) for args, options in asked] == [
        (("owner/name", "clean"), "test.other", "v2", False),
        (("owner/name", None), None, "v1", True),
        (("owner/name", None), None, "v2", True),
    ]
    with pytest.raises(ConfigError, match="speed"):
        read("hf://owner/name?speed=2")


def test_a_hub_that_does_not_answer_is_one_sentence(monkeypatch):
    def load_dataset(*args, **options):
        raise ConnectionError("no route\nsecond line")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(CorpusError, match=r"owner/name .*\(no route\)"):
        list(read_corpus("hf://owner/name"))


def test_a_json_column_of_durations_is_read(tmp_path, read):
    table = pa.table(
        {
            "id": ["a"],
            "audio": [SOUNDS[0]],
            "phonemes": ["h"],
            "durations_s": [json.loads("[0.1, 0.2, 0.1]")],
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    (recording,), _ = read(tmp_path)
    assert recording.durations_s == pytest.approx((0.1, 0.2, 0.1))
