"""Word and character error rates, and the one spelling to which both transcripts are brought."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import CorpusError
from ..slm.normalize import normalize
from .extras import require

# Recognizers write titles with and without a full stop; the front end only reads the former.
_TITLES = {"mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint"}


def normalise_transcript(text: str) -> str:
    """Bring a transcript to the form in which words are compared.

    Numbers, money, times and abbreviations become words by the reading that the text front end
    speaks (`slm/normalize.py`), so "1984" and "nineteen eighty-four" are the same words. Then:
    lower case; `mr`, `mrs`, `dr` and `st` without a full stop to words too; "hundred and five" to
    "hundred five"; accents dropped; hyphens and all other signs become spaces, except an
    apostrophe inside a word.
    """
    text = unicodedata.normalize("NFKC", text).replace("’", "'")
    text = unicodedata.normalize("NFD", normalize(text).lower())
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = re.sub(r"(?<!\w)'|'(?!\w)|[^\w']|_", " ", text)
    text = re.sub(r"\b(hundred|thousand)\s+and\b", r"\1", text)
    return " ".join(_TITLES.get(word, word) for word in text.split())


@dataclass(frozen=True)
class TranscriptScore:
    """Errors over a whole list: all errors by all words, not the mean of the sentences' rates.

    Attributes:
        word_error_rate: (substitutions + deletions + insertions) / words; may exceed 1.
        character_error_rate: The same over characters, spaces among them.
        substitutions: Words heard as another word.
        deletions: Words not heard.
        insertions: Words heard that are not in the text.
        words: Words of the texts.
    """

    word_error_rate: float
    character_error_rate: float
    substitutions: int
    deletions: int
    insertions: int
    words: int


def score_transcripts(references: Sequence[str], hypotheses: Sequence[str]) -> TranscriptScore:
    """Compare what was said with what was heard, both normalised first.

    Args:
        references: The true texts; those without a word are left out.
        hypotheses: What a recognizer heard, in the same order; may be empty strings.

    Raises:
        CorpusError: If the lists differ in length or no text holds a word.
        MissingExtra: If the package jiwer is not installed.
    """
    jiwer = require("jiwer", "The word error rate")
    if len(references) != len(hypotheses):
        raise CorpusError(
            f"{len(references)} texts came with {len(hypotheses)} transcripts; give one for each."
        )
    pairs = [
        (normalise_transcript(text), normalise_transcript(heard))
        for text, heard in zip(references, hypotheses, strict=True)
    ]
    pairs = [pair for pair in pairs if pair[0]]
    if not pairs:
        raise CorpusError("No text holds a word, so there is no word error rate; give transcripts.")
    texts, heard = map(list, zip(*pairs, strict=True))
    words = jiwer.process_words(texts, heard)
    return TranscriptScore(
        word_error_rate=float(words.wer),
        character_error_rate=float(jiwer.process_characters(texts, heard).cer),
        substitutions=words.substitutions,
        deletions=words.deletions,
        insertions=words.insertions,
        words=words.hits + words.substitutions + words.deletions,
    )
