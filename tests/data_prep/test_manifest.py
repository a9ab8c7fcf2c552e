import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speechlm.data_prep.manifest import (
    CleaningRecord,
    Utterance,
    read_manifest,
    resolve_audio,
    write_manifest,
)
from speechlm.errors import CorpusError

LINE = {"id": "a", "audio": "a.wav", "seconds": 1.0, "text": "hi", "speaker": "s", "split": "train"}


def test_what_was_written_is_read_back(tmp_path):
    utterances = [
        Utterance("a", tmp_path / "x y'\".wav", 1.25, "naïve “quote”", "s", "train"),
        Utterance(
            "b",
            tmp_path.parent / "out.wav",
            2.0,
            "",
            "",
            "test",
            "hˈaɪ",
            (0.1, 0, 0.2, 0.3, 1, 0.4),
            CleaningRecord(trimmed_s=(0.25, 0.5), original_hz=48_000, gain_db=-3.5),
        ),
    ]
    write_manifest(tmp_path / "m.jsonl", utterances)
    assert read_manifest(tmp_path / "m.jsonl") == utterances


def test_a_corpus_and_its_manifest_can_be_moved_together(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    write_manifest(
        old / "m.jsonl", [Utterance("a", old / "wavs" / "a.wav", 1.0, "hi", "s", "train")]
    )
    old.rename(new)
    assert read_manifest(new / "m.jsonl")[0].audio == new / "wavs" / "a.wav"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"split": "dev"}, "split 'dev'"),
        ({"seconds": -1}, "not a duration"),
        ({"seconds": "1"}, "seconds has the wrong type"),
        ({"id": ""}, "empty id"),
        ({"extra": 1}, "unknown key extra"),
        ({"audio": "../a.wav"}, "leaves the folder"),
        ({"audio": "a\0.wav"}, "NUL"),
        ({"durations_s": [1.0]}, "without phonemes"),
        ({"phonemes": "ab", "durations_s": [1.0]}, "1 durations do not fit 2 phonemes"),
        ({"phonemes": "", "durations_s": [1.0, -1.0]}, "negative"),
        ({"phonemes": "", "durations_s": [1.0, "x"]}, "not a number"),
        ({"cleaning": []}, "cleaning has the wrong type"),
        ({"cleaning": {"volume": 11}}, "unknown key volume in cleaning"),
        ({"cleaning": {"gain_db": "loud"}}, "gain_db in cleaning is not a number"),
        ({"cleaning": {"gain_db": True}}, "gain_db in cleaning is not a number"),
        ({"cleaning": {"trimmed_s": [0.1]}}, "trimmed_s in cleaning is not two numbers"),
    ],
)
def test_a_line_that_does_not_fit_is_named(tmp_path, change, said):
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(LINE) + "\n" + json.dumps(LINE | {"id": "b"} | change) + "\n")
    with pytest.raises(CorpusError, match="line 2") as caught:
        read_manifest(path)
    assert said in str(caught.value)


def test_an_id_may_come_once(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text((json.dumps(LINE) + "\n") * 2)
    with pytest.raises(CorpusError, match="line 2: the id 'a' is there twice"):
        read_manifest(path)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60), st.integers(0, 95))
def test_damaged_bytes_give_an_error_of_ours_or_a_manifest(tmp_path, junk, place):
    line = json.dumps(LINE).encode()
    path = tmp_path / "m.jsonl"
    path.write_bytes(line[:place] + junk + line[place:])
    try:
        assert all(utterance.split for utterance in read_manifest(path))
    except CorpusError as error:
        assert str(path) in str(error)


def test_an_endless_line_is_refused_before_it_is_read_whole(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"[" * (3 << 20))
    with pytest.raises(CorpusError, match="longer than 1 MiB"):
        read_manifest(path)


def test_an_absolute_path_stands(tmp_path):
    assert resolve_audio(str(tmp_path / "a.wav"), tmp_path / "elsewhere") == tmp_path / "a.wav"
