import json
import os

from speechlm.data_prep.readers import read_corpus


def make_list(root, touch, *ids):
    touch(root, *(f"{name}.wav" for name in ids))
    rows = ({"id": name, "audio": f"{name}.wav", "speaker": "s"} for name in ids)
    (root / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_corpora_in_sub_folders_are_read_whole(tmp_path, touch, read):
    touch(tmp_path, "LJ/wavs/a.wav", "mine/ann/a.wav", "top.wav")
    (tmp_path / "LJ" / "metadata.csv").write_text("a|one|one\n")
    make_list(tmp_path / "deep" / "list", touch, "a")
    recordings, rejections = read(tmp_path)
    assert [(r.id, r.speaker) for r in recordings] == [
        ("top", ""),
        ("LJ/a", "LJ"),
        ("deep/list/a", "deep/list/s"),
        ("mine/ann/a", "ann"),
    ]
    assert rejections == []


def test_an_option_reaches_the_corpora_that_have_it(tmp_path, touch, read):
    touch(tmp_path, "LJ/wavs/a.wav", "mine/ann/b.wav")
    (tmp_path / "LJ" / "metadata.csv").write_text("a|1|one\n")
    assert [r.text for r in read(tmp_path, text="original")[0]] == ["1", None]


def test_a_list_in_one_folder_leaves_the_others_plain(tmp_path, touch, read):
    touch(tmp_path, "ann/x.wav", "bob/x.wav")
    make_list(tmp_path / "carl", touch, "x")
    recordings, _ = read(tmp_path)
    assert [(r.id, r.speaker) for r in recordings] == [
        ("ann/x", "ann"),
        ("bob/x", "bob"),
        ("carl/x", "carl/s"),
    ]


def test_side_files_do_not_make_a_plain_folder_a_collection(tmp_path, touch, read):
    touch(tmp_path, "ann/x.wav", "bob/x.wav")
    (tmp_path / "bob" / "notes.csv").write_text("date,weather\n1,rain\n")
    (tmp_path / "bob" / "log.jsonl").write_text('{"step": 1}\n')
    assert [(r.id, r.speaker) for r in read(tmp_path)[0]] == [("ann/x", "ann"), ("bob/x", "bob")]


def test_links_in_a_collection_are_told_once(tmp_path, touch, read):
    make_list(tmp_path / "a", touch, "x")
    (tmp_path / "again").symlink_to(tmp_path / "a")
    (tmp_path / "loop").symlink_to(tmp_path)
    _, rejections = read(tmp_path)
    assert [(r.id, r.kind) for r in rejections] == [("again", "link"), ("loop", "link")]


def test_several_corpora_bear_their_names(tmp_path, touch, read):
    make_list(tmp_path / "one" / "train", touch, "x")
    make_list(tmp_path / "two" / "train", touch, "x")
    recordings, _ = read([tmp_path / "one" / "train", str(tmp_path / "two" / "train")])
    assert [r.id for r in recordings] == ["train/x", "train-2/x"]
    assert [r.id for r in read([tmp_path / "one" / "train"])[0]] == ["x"]


def test_a_corpus_is_read_one_folder_at_a_time(tmp_path, touch, monkeypatch):
    """Corpora of millions of recordings: the first entry comes before the last folder is seen."""
    touch(tmp_path, *(f"s{n:02d}/x.wav" for n in range(50)))
    list(read_corpus(tmp_path))  # choosing the layout looks at more folders than reading needs
    entries = read_corpus(tmp_path)
    seen = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: seen.append(path) or scandir(path))
    next(entries)
    assert len(seen) < 10
