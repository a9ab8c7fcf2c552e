"""Lists of sentences are read strictly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from speechlm.errors import CorpusError
from speechlm.eval.listing import Sentence, read_listing, write_listing


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"text": " ", "prompt": "a.wav"}, "the text is missing"),
        ({"text": "yes"}, "the prompt is missing"),
        ({"text": "yes", "prompt": "gone.wav"}, "gone.wav does not exist"),
        ({"text": "yes", "prompt": "a.wav", "reference": "gone.wav"}, "gone.wav does not exist"),
        ({"text": "yes", "prompt": "../a.wav"}, "leaves the folder"),
        ({"text": "yes", "prompt": "a.wav", "promt": "x"}, "unknown key promt"),
        ({"text": 3, "prompt": "a.wav"}, "text must be a string"),
        ([], "not a JSON object"),
        ({"text": "yes", "prompt": "a.wav", "protocol": "cros"}, "none of cross, continual, hard"),
        ({"text": "yes", "prompt": "a.wav", "protocol": "continual", "cut_s": 3}, "prompt_text"),
        ({"text": "yes", "prompt": "a.wav", "cut_s": 0}, "above 0"),
        ({"text": "yes", "prompt": "a.wav", "cut_s": True}, "above 0"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, row: object, sentence: str) -> None:
    (tmp_path / "a.wav").write_bytes(b"x")
    good = json.dumps({"text": "yes", "prompt": "a.wav"})
    (tmp_path / "list.jsonl").write_text(good + "\n\n" + json.dumps(row) + "\n")
    with pytest.raises(CorpusError, match=sentence) as raised:
        read_listing(tmp_path / "list.jsonl")
    assert "list.jsonl, line 3" in str(raised.value)


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text("\n")
    with pytest.raises(CorpusError, match="holds no sentences"):
        read_listing(tmp_path / "list.jsonl")


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    recordings = [tmp_path / "in" / "a.wav", tmp_path / "elsewhere.wav"]
    for recording in recordings:
        recording.parent.mkdir(exist_ok=True)
        recording.write_bytes(b"x")
    sentences = [
        Sentence("1", "yes", recordings[0], "no", recordings[1], "s", "continual", "short", 2.5),
        Sentence("2", "Grüße", recordings[1]),
    ]
    write_listing(tmp_path / "in" / "list.jsonl", sentences)
    assert read_listing(tmp_path / "in" / "list.jsonl") == sentences
    assert '"a.wav"' in (tmp_path / "in" / "list.jsonl").read_text()  # it can move with its folder


def test_a_shipped_voice_is_a_prompt_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text('{"text": "yes", "prompt": "clara"}')
    assert read_listing(tmp_path / "list.jsonl")[0].prompt.stem == "clara"
