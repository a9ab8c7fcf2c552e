"""Word and character error rates, and the one spelling to which both transcripts are brought."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import CorpusError
from .extras import require

_TITLES = {"mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint"}
_SIGNS = {"&": " and ", "%": " percent ", "+": " plus "}
_CURRENCIES = {"$": "dollar", "£": "pound", "€": "euro"}
_MONEY = re.compile(r"([$£€])\s?(\d[\d,]*(?:\.\d+)?)")
_NUMBER = re.compile(r"(\d[\d,]*\d|\d)(\.\d+)?(st|nd|rd|th)?(?![a-z\d])")
_GROUPED = re.compile(r"\d{1,3}(,\d{3})+")
_MAX_DIGITS = 15  # beyond, a number is read digit by digit


def normalise_transcript(text: str) -> str:
    """Bring a transcript to the form in which words are compared.

    In this order: Unicode NFKC and lower case; `$5` and `5%` in words; `mr`, `mrs`, `dr` and `st`
    (also with a full stop) to mister, missus, doctor and saint; digits to words, where 1100 to 1999
    and 2010 to 2099 without a comma are read as years; every other sign but the apostrophe inside a
    word becomes a space; accents are dropped.

    Raises:
        MissingExtra: If the text holds digits and the package num2words is not installed.
    """
    text = unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    text = _MONEY.sub(_money, text)
    for sign, word in _SIGNS.items():
        text = text.replace(sign, word)
    text = _NUMBER.sub(_number, text)
    text = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    text = re.sub(r"(?<![a-z0-9])'|'(?![a-z0-9])|[^\w']|_", " ", text)
    return " ".join(_TITLES.get(word, word) for word in text.split())


@dataclass(frozen=True)
class TranscriptScore:
    """Errors over a whole list: all errors by all words, not the mean of the sentences' rates.

    Attributes:
        word_error_rate: (substitutions + deletions + insertions) / words; may exceed 1.
        character_error_rate: The same over characters with single spaces.
        substitutions: Words heard as another word.
        deletions: Words not heard.
        insertions: Words heard that are not in the text.
        words: Words of the reference.
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
        references: The true texts.
        hypotheses: What a recognizer heard, in the same order; may be empty strings.

    Raises:
        CorpusError: If the lists differ in length or no reference holds a word.
        MissingExtra: If the package jiwer (or num2words, for digits) is not installed.
    """
    jiwer = require("jiwer", "The word error rate")
    if len(references) != len(hypotheses):
        raise CorpusError(f"{len(references)} texts cannot be compared with {len(hypotheses)} transcripts.")
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


def _money(match: re.Match[str]) -> str:
    amount = match[2].rstrip(",")
    unit = _CURRENCIES[match[1]]
    return f"{amount} {unit}{'' if amount == '1' else 's'}"


def _number(match: re.Match[str]) -> str:
    whole, fraction, ordinal = match.groups()
    spell = require("num2words", "Scoring a text with digits").num2words
    if "," in whole and not _GROUPED.fullmatch(whole):
        # a list such as "1,2,3", not one number
        spoken = " ".join(spell(int(part)) for part in whole.split(",") if part)
    elif len(digits := whole.replace(",", "")) > _MAX_DIGITS or (len(digits) > 1 and digits[0] == "0"):
        spoken = " ".join(spell(int(digit)) for digit in digits)
    elif ordinal:
        spoken = spell(int(digits), to="ordinal")
    elif not fraction and "," not in whole and _is_year(int(digits)):
        spoken = spell(int(digits), to="year")
    else:
        spoken = spell(int(digits))
    if fraction:
        spoken += " point " + " ".join(spell(int(digit)) for digit in fraction[1:])
    # speakers and recognizers differ on "one hundred (and) five"; the American form is scored
    return " " + spoken.replace(" and ", " ") + " "


def _is_year(number: int) -> bool:
    return 1100 <= number < 2000 or 2010 <= number < 2100
