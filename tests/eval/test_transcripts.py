"""Word error rates compare words, not spellings."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechlm.errors import CorpusError
from speechlm.eval.transcripts import normalise_transcript, score_transcripts


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Mr. Smith and Mrs. Brown", "mister smith and missus brown"),
        ("mr smith met dr jones at st albans", "Mister Smith met Doctor Jones at Saint Albans."),
        ("In 1984, it was so.", "in nineteen eighty-four it was so"),
        ("He had 105 dogs", "he had one hundred and five dogs"),
        ("3,000 men", "three thousand men"),
        ("on the 21st", "on the twenty first"),
        ("Half — or 50% — of it", "half, or fifty percent of it"),
        ("“Don’t,” he said", "don't he said"),
        ("a well-known café", "A well known cafe."),
        ("the dogs' bowls", "the dogs bowls"),
    ],
)
def test_two_spellings_of_the_same_words_are_equal(one: str, other: str) -> None:
    assert normalise_transcript(one) == normalise_transcript(other)


def test_other_words_stay_other_words() -> None:
    assert normalise_transcript("its 15") != normalise_transcript("it's 50")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_normalised_text_is_words_with_single_spaces(text: str) -> None:
    normal = normalise_transcript(text)
    assert normal == " ".join(normal.split())
    assert normal == normal.lower()
    assert all(c.isalnum() or c in "' " for c in normal)


def test_errors_are_summed_over_the_list_and_told_apart() -> None:
    pytest.importorskip("jiwer")
    texts = ["one two three four five six seven eight nine", "ten"]
    heard = ["one two tree four five six seven eight nine ten", ""]
    score = score_transcripts(texts, heard)
    assert (score.substitutions, score.insertions, score.deletions, score.words) == (1, 1, 1, 10)
    assert score.word_error_rate == pytest.approx(0.3)
    assert 0 < score.character_error_rate < 0.3


def test_the_right_words_have_no_error_and_silence_loses_all() -> None:
    pytest.importorskip("jiwer")
    assert score_transcripts(["Yes, 2 of us."], ["yes two of us"]).word_error_rate == 0
    assert score_transcripts(["Yes, 2 of us."], [""]).word_error_rate == 1


def test_lists_that_cannot_be_compared_are_refused() -> None:
    pytest.importorskip("jiwer")
    with pytest.raises(CorpusError, match="2 texts came with 1"):
        score_transcripts(["a", "b"], ["a"])
    with pytest.raises(CorpusError, match="No text holds a word"):
        score_transcripts(["…"], ["a"])
