import os

import pytest

from speechlm.data_prep.readers import Rejection, read_corpus
from speechlm.errors import ConfigError, CorpusError


def tell(path, text):
    path.with_suffix(".txt").write_text(text, "utf-8")


def test_recordings_come_by_path_with_the_folder_as_speaker(tmp_path, touch, read):
    touch(tmp_path, "bob/2.FLAC", "bob/10.wav", "ann/deep/x.opus", "top.mp3", "notes.md")
    touch(tmp_path, ".hidden/y.wav", "._top.wav")
    tell(tmp_path / "bob" / "2.FLAC", "  two\n words ")
    tell(tmp_path / "bob" / "10.wav", "ten")
    tell(tmp_path / "top.mp3", "\ufefftop")
    recordings, rejections = read(tmp_path)
    assert [(r.id, r.text, r.speaker) for r in recordings] == [
        ("top", "top", ""),  # nobody knows who speaks at the top
        ("ann/deep/x", None, "deep"),
        ("bob/10", "ten", "bob"),
        ("bob/2", "two words", "bob"),
    ]
    assert rejections == []


@pytest.mark.parametrize(
    ("level", "speaker"), [(-1, "chapter"), (0, "ann"), ("-2", "ann"), (5, "")]
)
def test_another_folder_may_name_the_speaker(tmp_path, touch, read, level, speaker):
    touch(tmp_path, "ann/chapter/x.wav")
    assert [r.speaker for r in read(tmp_path, speaker_level=level)[0]] == [speaker]


def test_links_to_folders_are_told_and_not_followed(tmp_path, touch, read):
    touch(tmp_path, "a/x.wav")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "self.wav").symlink_to(tmp_path / "self.wav")
    recordings, rejections = read(tmp_path)
    assert [r.id for r in recordings] == ["self", "a/x"]
    assert [(r.id, r.kind) for r in rejections] == [("a/loop", "link")]


def test_audio_in_a_format_that_is_not_read_is_told(tmp_path, touch, read):
    touch(tmp_path, "x.wav", "y.m4a")
    _, (rejection,) = read(tmp_path)
    assert (rejection.id, rejection.kind) == ("y", "format")


@pytest.mark.parametrize("content", ["é".encode("latin-1"), b"a" * ((1 << 20) + 1)])
def test_a_transcript_that_cannot_be_one_is_a_rejection(tmp_path, touch, read, content):
    touch(tmp_path, "x.wav")
    (tmp_path / "x.txt").write_bytes(content)
    _, (rejection,) = read(tmp_path)
    assert rejection.kind == "transcript"
    assert "x.txt" in rejection.reason


def test_names_with_spaces_quotes_and_odd_bytes_have_ids(tmp_path, touch, read):
    touch(tmp_path, 'it\'s "quoted"\n.wav')
    name = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    try:
        with open(name, "wb") as file:  # noqa: PTH123 - pathlib takes no bytes
            file.write(b"audio")
    except OSError:
        pytest.skip("this file system wants UTF-8 names")
    recordings, _ = read(tmp_path)
    assert all(r.id.encode("utf-8") and r.audio.is_file() for r in recordings)
    assert len(recordings) == 2


def test_a_folder_that_cannot_be_read_is_told(tmp_path, touch, read, monkeypatch):
    touch(tmp_path, "a/x.wav", "b/y.wav")
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("b"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    recordings, rejections = read(tmp_path)
    assert [r.id for r in recordings] == ["a/x"]
    assert [(r.id, r.kind) for r in rejections] == [("b", "list")]


def test_what_is_no_corpus_is_an_error(tmp_path, touch):
    touch(tmp_path, "x.zip")
    with pytest.raises(CorpusError, match="unpack archives"):
        read_corpus(tmp_path / "x.zip")
    with pytest.raises(CorpusError, match="does not exist"):
        read_corpus(tmp_path / "absent")
    with pytest.raises(CorpusError, match="does not have the layout kaldi"):
        read_corpus(tmp_path, layout="kaldi")
    with pytest.raises(ConfigError, match="no layout"):
        read_corpus(tmp_path, layout="html")
    with pytest.raises(CorpusError, match="No corpus"):
        read_corpus([])


def test_options_that_nobody_has_or_that_make_no_sense_are_errors(tmp_path):
    for options in ({"colour": 1}, {"microphone": "mic1"}, {"speaker_level": "one"}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            read_corpus(tmp_path, **options)


def test_an_empty_folder_yields_nothing(tmp_path):
    assert [e for e in read_corpus(tmp_path) if not isinstance(e, Rejection)] == []
