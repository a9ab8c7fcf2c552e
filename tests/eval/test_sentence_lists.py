"""Given sentences dealt out to voices: the 200 hard ones, and a user's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from voice_manifest import manifest_of

from speechlm.errors import CorpusError
from speechlm.eval.listing import read_listing
from speechlm.eval.sentence_lists import hard_sentences, make_given_list, make_hard_list


def test_the_hard_sentences_are_what_they_are_called() -> None:
    sentences = hard_sentences()
    assert len(sentences) == 200
    assert len({name for name, _, _ in sentences}) == len({t for _, _, t in sentences}) == 200
    kinds = {kind: [t for _, k, t in sentences if k == kind] for _, kind, _ in sentences}
    assert len(kinds) == 12 and min(map(len, kinds.values())) >= 8
    assert all(len(text.split()) == 1 for text in kinds["one word"])
    assert all(60 <= len(text.split()) <= 70 for text in kinds["sixty words"])
    assert all(any(c.isdigit() for c in text) for text in kinds["digits"])
    assert all(text.isprintable() and text == text.strip() for _, _, text in sentences)


def test_a_hard_list_takes_the_shipped_voices_by_turns(tmp_path: Path) -> None:
    drawn = make_hard_list(tmp_path / "list.jsonl")
    assert [s.speaker for s in drawn[:5]] == ["clara", "isla", "martin", "oliver", "clara"]
    assert len(drawn) == 200 and {s.protocol for s in drawn} == {"hard"}
    few = make_hard_list(tmp_path / "few.jsonl", count=24)
    assert len(few) == 24 and {s.kind for s in few} == {s.kind for s in drawn}
    assert '"prompt": "clara"' in (tmp_path / "few.jsonl").read_text()  # good on any machine
    assert read_listing(tmp_path / "few.jsonl") == few


def test_a_hard_list_takes_prompts_and_references(tmp_path: Path) -> None:
    folder = tmp_path / "spoken"
    folder.mkdir()
    with pytest.raises(CorpusError, match=r"digits-01\.wav"):
        make_hard_list(tmp_path / "list.jsonl", references=folder)
    (folder / "one-word-03.flac").write_bytes(b"x")
    drawn = make_hard_list(tmp_path / "list.jsonl", manifest_of(tmp_path), references=folder)
    assert [s.id for s in drawn if s.reference] == ["one-word-03"]
    assert [s.speaker for s in drawn[:4]] == ["s1", "s2", "s3", "s1"]
    assert {s.prompt.stem[:2] for s in drawn[::3]} == {"s1"}


def test_own_sentences_are_dealt_out_to_voices_of_one_recording(tmp_path: Path) -> None:
    texts = tmp_path / "say.txt"
    texts.write_text("First of all.\n\nThen this.\nAnd that.\nAt last.\n")
    manifest = manifest_of(tmp_path, each=1)
    drawn = make_given_list(tmp_path / "list.jsonl", texts, manifest)
    assert [s.text for s in drawn] == ["First of all.", "Then this.", "And that.", "At last."]
    assert [s.speaker for s in drawn] == ["s1", "s2", "s3", "s1"]
    assert all(s.prompt.stem == f"{s.speaker}-0" and s.reference is None for s in drawn)
    assert read_listing(tmp_path / "list.jsonl") == drawn


def test_another_list_lends_its_sentences_to_the_shipped_voices(tmp_path: Path) -> None:
    hard = make_hard_list(tmp_path / "hard.jsonl")
    drawn = make_given_list(tmp_path / "few.jsonl", tmp_path / "hard.jsonl", count=5)
    assert [s.text for s in drawn] == [s.text for s in hard[:5]]
    assert [s.speaker for s in drawn] == ["clara", "isla", "martin", "oliver", "clara"]


@pytest.mark.parametrize("content", ["", "\n \n", None])
def test_nothing_to_say_is_one_sentence(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "say.txt").write_text(content)
    with pytest.raises(CorpusError, match=r"say\.txt"):
        make_given_list(tmp_path / "list.jsonl", tmp_path / "say.txt")
    assert not (tmp_path / "list.jsonl").exists()


def test_voices_too_short_to_prompt_are_one_sentence(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path, seconds=1.0)
    with pytest.raises(CorpusError, match="2 to 20 s"):
        make_hard_list(tmp_path / "list.jsonl", manifest)
