import json
import os

import pytest

from speechlm.data_prep.readers import Recording, Rejection, read_corpus
from speechlm.errors import CorpusError


def touch(path, text=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"audio")
    if text is not None:
        path.with_suffix(".txt").write_text(text, "utf-8")


def test_a_folder_gives_recordings_in_order_with_speaker_and_text(tmp_path):
    touch(tmp_path / "bob" / "2.FLAC", "  two\n words ")
    touch(tmp_path / "bob" / "10.wav", "ten")
    touch(tmp_path / "ann" / "deep" / "x.opus")
    touch(tmp_path / "top.mp3", "\ufefftop")
    touch(tmp_path / "notes.md", "no audio")
    touch(tmp_path / ".hidden" / "y.wav", "hidden")
    touch(tmp_path / "._top.wav", "litter")
    found = [(r.id, r.text, r.speaker) for r in read_corpus(tmp_path)]
    assert found == [
        ("top", "top", tmp_path.name),
        ("ann/deep/x", None, "deep"),
        ("bob/10", "ten", "bob"),
        ("bob/2", "two words", "bob"),
    ]


def test_a_loop_of_links_does_not_trap_the_reader(tmp_path):
    touch(tmp_path / "a" / "x.wav", "x")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert [r.id for r in read_corpus(tmp_path)] == ["a/x"]


def test_a_transcript_that_is_not_utf8_is_a_rejection(tmp_path):
    touch(tmp_path / "x.wav")
    (tmp_path / "x.txt").write_bytes("é".encode("latin-1"))
    (rejection,) = read_corpus(tmp_path)
    assert isinstance(rejection, Rejection)
    assert "UTF-8" in rejection.reason


def test_a_file_name_that_is_not_utf8_still_has_an_id(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    try:
        with open(name, "wb") as file:  # noqa: PTH123 - pathlib takes no bytes
            file.write(b"audio")
    except OSError:
        pytest.skip("this file system wants UTF-8 names")
    (recording,) = read_corpus(tmp_path)
    assert recording.id.encode("utf-8")


def test_a_list_gives_its_columns(tmp_path):
    row = {"id": "a", "audio": "w/a.opus", "speaker": "s", "split": "valid", "text": "hi", "age": 6}
    (tmp_path / "list.jsonl").write_text(json.dumps(row) + "\n")
    expected = Recording("a", tmp_path / "w" / "a.opus", "hi", "s", "valid")
    assert list(read_corpus(tmp_path)) == list(read_corpus(tmp_path / "list.jsonl")) == [expected]


def test_integer_durations_are_25_ms_and_lose_the_trimmed_start(tmp_path):
    row = {
        "id": "a",
        "audio": "a.wav",
        "phonemes": "hi",
        "durations": [4, 2, 2, 4],
        "offset_s": 0.12,
    }
    (tmp_path / "list.jsonl").write_text(json.dumps(row))
    (recording,) = read_corpus(tmp_path)
    assert recording.durations_s == pytest.approx((0.0, 0.03, 0.05, 0.1))


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[1]",
        '{"audio": "a.wav"}',
        '{"id": "a"}',
        '{"id": "a", "audio": "../../etc/passwd"}',
        '{"id": "a", "audio": "a.wav", "text": 7}',
        '{"id": "a", "audio": "a.wav", "text": "\\ud800"}',
        '{"id": "a", "audio": "a.wav", "split": "dev"}',
        '{"id": "a", "audio": "a.wav", "phonemes": "hi", "durations": [1, 2]}',
        '{"id": "a", "audio": "a.wav", "phonemes": "h", "durations": [1, "x", 2]}',
    ],
)
def test_a_bad_line_is_a_rejection_and_the_rest_is_read(tmp_path, line):
    (tmp_path / "list.jsonl").write_text(line + '\n{"id": "good", "audio": "g.wav"}\n')
    bad, good = read_corpus(tmp_path)
    assert isinstance(bad, Rejection)
    assert "list.jsonl:1" in bad.id + bad.reason
    assert good.id == "good"


def test_a_path_that_is_no_corpus_is_an_error(tmp_path):
    (tmp_path / "x.csv").write_text("a,b")
    with pytest.raises(CorpusError, match="no folder and no JSONL list"):
        read_corpus(tmp_path / "x.csv")
    with pytest.raises(CorpusError, match="does not exist"):
        read_corpus(tmp_path / "absent")
