"""Lists of sentences: read strictly, drawn fairly and repeatably."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from speechlm.data_prep.manifest import Utterance, write_manifest
from speechlm.errors import CorpusError
from speechlm.eval.listing import make_cloning_list, read_listing


def manifest_of(folder: Path, speakers: int = 4, each: int = 3) -> Path:
    utterances = []
    for speaker in range(speakers):
        for number in range(each):
            audio = folder / "audio" / f"s{speaker}-{number}.wav"
            audio.parent.mkdir(exist_ok=True)
            audio.write_bytes(b"x")
            split = "train" if speaker == 0 else "valid"
            text = f"speaker {speaker} says sentence number {number}"
            utterances.append(Utterance(audio.stem, audio, 3.0, text, f"s{speaker}", split))
    write_manifest(folder / "manifest.jsonl", utterances)
    return folder / "manifest.jsonl"


def test_a_cloning_list_takes_turns_over_held_out_voices(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    drawn = make_cloning_list(manifest, tmp_path / "list.jsonl", num=6, seed=3)
    assert len(drawn) == 6
    assert sorted({s.speaker for s in drawn[:3]}) == ["s1", "s2", "s3"]
    assert len({s.text for s in drawn}) == 6
    for sentence in drawn:
        assert sentence.reference is not None
        assert sentence.prompt != sentence.reference
        assert sentence.prompt.stem[:2] == sentence.reference.stem[:2] == sentence.speaker
        assert sentence.reference.stem == sentence.id


def test_a_cloning_list_reads_back_and_repeats_by_its_seed(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path)
    drawn = make_cloning_list(manifest, tmp_path / "a.jsonl", seed=1)
    make_cloning_list(manifest, tmp_path / "b.jsonl", seed=1)
    make_cloning_list(manifest, tmp_path / "c.jsonl", seed=2)
    texts = [(tmp_path / f"{name}.jsonl").read_text() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]
    assert read_listing(tmp_path / "a.jsonl") == drawn
    assert len(drawn) == 9  # fewer than asked: all that is there
    assert str(tmp_path) not in texts[0]  # the list can move with its recordings


def test_no_voice_to_prompt_with_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no speaker in the split valid"):
        make_cloning_list(manifest_of(tmp_path, each=1), tmp_path / "list.jsonl")


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"text": " ", "prompt": "a.wav"}, "text or the prompt is missing"),
        ({"text": "yes"}, "text or the prompt is missing"),
        ({"text": "yes", "prompt": "gone.wav"}, "gone.wav does not exist"),
        ({"text": "yes", "prompt": "a.wav", "reference": "gone.wav"}, "gone.wav does not exist"),
        ({"text": "yes", "prompt": "../a.wav"}, "leaves the folder"),
        ({"text": "yes", "prompt": "a.wav", "promt": "x"}, "unknown key promt"),
        ({"text": 3, "prompt": "a.wav"}, "text must be a string"),
        ([], "not a JSON object"),
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
