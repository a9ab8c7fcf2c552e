"""From text to symbol ids: the table of symbols, the front ends, and long texts cut into sentences.

A symbol is one character of a phoneme string. A sequence of ids begins and ends with a boundary,
which carries the silence at both ends; so S = `len(phonemes) + 2`, as the durations of the training
data count.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from ..errors import ConfigError, MissingExtra, UnsupportedText
from .normalize import ends_with_abbreviation, normalize
from .signs import leave_out_symbols

PAD, BOUNDARY, NO_TEXT = 0, 1, 2
SPECIALS = ("<pad>", "<boundary>", "<no-text>")

MAX_TEXT_CHARACTERS = 20_000  # about twenty minutes of speech in one call
MIN_PIECE_CHARACTERS = 20  # shorter sentences are spoken together with a neighbour
MAX_SYMBOLS = 200  # about 13 s of speech; the training utterances end near there

_PUNCTUATION = ' ;:,.!?—…"()'
_MARKS = "ˈˌː"
_CONSONANTS = "bdfhjklmnpstvwzðŋɡɹɾʃʒʔθ"
_VOWELS = "aeiouæɐɑɒɔəɚɛɜɪʊʌᵻ"
# Consonants of foreign names; the front ends here replace them, other data may hold them.
_RARE = "rxçɬ"


class Vocabulary(Protocol):
    """What a language model asks of any text representation: `SymbolTable` or `PieceTokenizer`."""

    @property
    def size(self) -> int:
        """Number of ids, specials included."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids with a boundary at both ends."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids, specials left out."""
        ...


class SymbolTable:
    """A fixed, ordered list of symbols: three specials, then single characters.

    Args:
        symbols: All symbols in the order of their ids, `SPECIALS` first. None gives the table of
            the English front ends.

    Raises:
        ConfigError: If the specials are missing, a symbol repeats or is not one character.
    """

    def __init__(self, symbols: Iterable[str] | None = None) -> None:
        english = (*SPECIALS, *_PUNCTUATION, *_MARKS, *_CONSONANTS, *_VOWELS, *_RARE)
        self.symbols: list[str] = list(english if symbols is None else symbols)
        characters = self.symbols[len(SPECIALS) :]
        if tuple(self.symbols[: len(SPECIALS)]) != SPECIALS:
            raise ConfigError(
                f"A symbol table begins with {', '.join(SPECIALS)}; this one begins with "
                f"{self.symbols[: len(SPECIALS)]}: take the list from the model's config.json."
            )
        if wrong := [c for c in characters if not isinstance(c, str) or len(c) != 1]:
            raise ConfigError(f"Every symbol is one character, but the table holds {wrong[0]!r}.")
        self._ids = {c: i for i, c in enumerate(self.symbols) if i >= len(SPECIALS)}
        if len(self._ids) != len(characters):
            raise ConfigError("A symbol stands twice in the symbol table; keep the first one.")

    @property
    def size(self) -> int:
        """Number of ids, specials included."""
        return len(self.symbols)

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SymbolTable) and self.symbols == other.symbols

    def __hash__(self) -> int:
        return hash(tuple(self.symbols))

    def clean(self, phonemes: str) -> str:
        """The phonemes without the characters that the table does not know."""
        return "".join(c for c in phonemes if c in self._ids)

    def encode(self, text: str) -> list[int]:
        """Ids of a phoneme string, `len(text) + 2` of them, a boundary at both ends.

        Raises:
            UnsupportedText: If a character is not in the table, or none can be spoken.
        """
        if not is_speakable(text):
            raise UnsupportedText(
                f"There is nothing to speak in the phonemes {text!r}; give a text with words."
            )
        if unknown := sorted({c for c in text if c not in self._ids}):
            raise UnsupportedText(
                f"The phonemes hold {', '.join(map(repr, unknown[:5]))}, which this model does not "
                "know; use SymbolTable.clean to leave them out."
            )
        return [BOUNDARY, *(self._ids[c] for c in text), BOUNDARY]

    def decode(self, ids: Sequence[int]) -> str:
        """The phonemes of the ids, specials left out.

        Raises:
            UnsupportedText: If an id lies outside the table.
        """
        if wrong := [i for i in ids if not 0 <= i < self.size]:
            raise UnsupportedText(
                f"Id {wrong[0]} lies outside the table of {self.size} symbols; it is of "
                "another model."
            )
        return "".join(self.symbols[i] for i in ids if i >= len(SPECIALS))


@runtime_checkable
class TextFrontEnd(Protocol):
    """Text to phonemes, one character a symbol.

    Attributes:
        note: A sentence that the user should see about this front end, or None.
    """

    note: str | None

    def phonemize(self, text: str) -> str:
        """The phonemes of a text, punctuation kept.

        Raises:
            UnsupportedText: If the text is empty, too long, or has nothing to speak.
        """
        ...


class GivenPhonemes:
    """A front end for who has phonemes already: the text is them, blanks around it aside.

    For a model whose data came with phonemes of its own (`symbols: corpus` in its recipe), which no
    front end here writes.
    """

    note: str | None = None

    def phonemize(self, text: str) -> str:
        """The phonemes as they are given.

        Raises:
            UnsupportedText: If there are none, or too many.
        """
        return require_text(text)


def default_front_end(language: str = "en-us") -> TextFrontEnd:
    """espeak-ng where the `phonemes` extra is installed, else the built-in letter model (English).

    Raises:
        MissingExtra: If the extra is absent and the language is not English.
        ConfigError: If espeak-ng does not know the language.
    """
    from .letters import LetterPhonemes
    from .phonemes import EspeakPhonemes

    try:
        return EspeakPhonemes(language)
    except MissingExtra:
        if not language.startswith("en"):
            raise

    return LetterPhonemes.shipped(language)


def require_latin(text: str) -> str:
    """The text itself, which English front ends can read.

    Raises:
        UnsupportedText: If it holds a letter of another script, which they would drop or spell out.
    """
    for character in text:
        if character.isalpha() and not unicodedata.name(character, "").startswith("LATIN"):
            raise UnsupportedText(
                f"The text holds {character!r}, a letter that the English front end cannot read; "
                "write it in Latin letters."
            )
    return text


def is_speakable(phonemes: str) -> bool:
    """Whether a phoneme string holds a sound; stress and length marks alone are none."""
    return any(c.isalpha() and c not in _MARKS for c in phonemes)


def has_words(text: str) -> bool:
    """Whether a text, in any script, holds a letter or a digit."""
    return any(c.isalnum() for c in text)


def require_text(text: str) -> str:
    """The text without surrounding blanks.

    Raises:
        UnsupportedText: If nothing is left, or more than `MAX_TEXT_CHARACTERS`.
    """
    stripped = text.strip()
    if not stripped:
        raise UnsupportedText("The text is empty; give at least one word to speak.")
    if len(stripped) > MAX_TEXT_CHARACTERS:
        raise UnsupportedText(
            f"The text has {len(stripped)} characters, the limit is {MAX_TEXT_CHARACTERS}; "
            "cut it into parts."
        )
    return stripped


def speakable(text: str) -> tuple[str, list[str]]:
    """A text without surrounding blanks and symbols that have no reading, such as emoji; and these.

    Raises:
        UnsupportedText: If no letter or digit is left to speak, or the text is too long.
    """
    spoken, left_out = leave_out_symbols(require_text(text))
    if not has_words(spoken):
        raise UnsupportedText(
            f"There is nothing to speak in {text[:40]!r}; give a text with words."
        )
    return spoken.strip(), left_out


# A sentence ends at . ! ? or … with the quotes and brackets that close it, before a blank and
# anything but a small letter ('"Why?" she asked.' is one sentence); an empty line always ends it.
_CLOSING = r"[\"'”’»)\]]*"
_SENTENCE_END = re.compile(rf"[.!?…]+{_CLOSING}(?=\s+[^\sa-z])|\n\s*\n")
_CLAUSE_END = re.compile(rf"[.!?…;:,—–]+{_CLOSING}(?=\s)|—|--")


def split_sentences(text: str, max_symbols: int = MAX_SYMBOLS) -> list[str]:
    """Cut a text into parts that are spoken one by one.

    Cuts fall between sentences; a sentence that is still too long is cut between clauses, then
    between words, and a word without an end anywhere. Sentences of a few letters join a neighbour.
    Nothing but blanks is lost. Length is counted in characters of the normalized text: an
    English character is 1.06 symbols on average.

    Raises:
        UnsupportedText: If the text is empty or too long.
        ConfigError: If `max_symbols` is below 1.
    """
    if max_symbols < 1:
        raise ConfigError(f"A part of a text needs at least one symbol, not {max_symbols}.")
    pieces: list[str] = []
    for sentence in _cut(require_text(text), _SENTENCE_END):
        pieces += _shorten(sentence, max_symbols)
    joined = [pieces[0]]
    for piece in pieces[1:]:
        together = f"{joined[-1]} {piece}"
        if (
            min(_spoken_length(joined[-1]), _spoken_length(piece)) < MIN_PIECE_CHARACTERS
            and _spoken_length(together) <= max_symbols
        ):
            joined[-1] = together
        else:
            joined.append(piece)
    return joined


def _spoken_length(text: str) -> int:
    return len(normalize(text))


def _cut(text: str, end: re.Pattern[str]) -> list[str]:
    parts, start = [], 0
    for match in end.finditer(text):
        if match[0] == "." and ends_with_abbreviation(text[: match.end()]):
            continue
        parts.append(text[start : match.end()])
        start = match.end()
    parts.append(text[start:])
    return [" ".join(part.split()) for part in parts if part.strip()]


def _shorten(sentence: str, max_symbols: int) -> list[str]:
    if _spoken_length(sentence) <= max_symbols:
        return [sentence]
    parts = _cut(sentence, _CLAUSE_END)
    if len(parts) == 1:
        parts = sentence.split()
    if len(parts) == 1:
        return [sentence[i : i + max_symbols] for i in range(0, len(sentence), max_symbols)]
    # Fill each part as far as it goes, so that a long list is not read item by item.
    pieces: list[str] = []
    for part in parts:
        for piece in _shorten(part, max_symbols):
            if pieces and _spoken_length(f"{pieces[-1]} {piece}") <= max_symbols:
                pieces[-1] = f"{pieces[-1]} {piece}"
            else:
                pieces.append(piece)
    return pieces
