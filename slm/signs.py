"""Signs and symbols: which of them are read, which are silent, and which are left out and named.

A symbol such as an emoji has no reading that listeners expect, and front ends disagree about it: one
drops it, another spells out its name. So the text loses it before any front end sees it, and who asked
for the speech is told.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# Signs that have one reading wherever they stand; those of money before a number are read with it.
SIGNS = {
    "&": "and", "@": "at", "%": "percent", "‰": "per mille", "+": "plus", "±": "plus or minus",
    "−": "minus", "×": "times", "÷": "divided by", "=": "equals", "°": "degrees", "²": "squared",
    "³": "cubed", "§": "section", "№": "number", "$": "dollars", "£": "pounds", "€": "euros",
    "¥": "yen", "¢": "cents",
}  # fmt: skip
FRACTIONS = {
    "½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5",
    "⅘": "4/5", "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8",
}  # fmt: skip
SILENT = "*_~^|<>\\/#•·†‡¶"  # marks of typing that nobody reads, and nobody misses
_ACCENTS = "`´˝"  # typed as quotes
_KNOWN = frozenset((*SIGNS, *FRACTIONS, *SILENT, *_ACCENTS))
_MOST_NAMED = 5
_PLAIN = re.compile(r"[\x20-\x7e\s]*")
# What changes the look of the character before it, and is nothing without it: variation selectors, the
# keycap around a digit, the tags of flags.
_LOOKS = re.compile("[\ufe00-\ufe0f\u20e3\U000e0020-\U000e007f]")
_JOINER = "\u200d"  # makes one emoji of several
_GONE = "\0"  # stands where something was left out; no text keeps one
_HOLE = re.compile(r"[^\S\n]*\0[^\S\n\0]*(?:\0[^\S\n\0]*)*(.?)")


def leave_out_symbols(text: str) -> tuple[str, list[str]]:
    """A text without the symbols that have no reading, and these, each once.

    They are what Unicode files under symbols (emoji, arrows, letters in circles and so on), numbers that
    are no digits, characters of private use and of no use, and control characters; but not the signs
    that `normalize` reads, nor the marks of typing that are silent anyway.
    """
    if _PLAIN.fullmatch(text):
        return text, []
    found: dict[str, None] = {}
    kept = []
    for character in _LOOKS.sub("", text):
        if _has_reading(character):
            kept.append(character)
        else:
            found[character] = None
            kept.append(_GONE)
    rest = "".join(kept)
    if found:
        rest = _HOLE.sub(_blank, rest.replace(_JOINER, ""))
    return rest, list(found)


def plain_letters(text: str) -> str:
    """A text with bold, wide and other letters of show as the letters that they are, and no hidden marks.

    Hidden are the soft hyphen, spaces of no width and the like, which would part a word in two.
    """
    if _PLAIN.fullmatch(text):
        return text
    return "".join(_plain(c) for c in text if unicodedata.category(c) != "Cf")


def note_on(left_out: Sequence[str]) -> str:
    """One sentence that names what was left out; `left_out` is not empty."""
    named = ", ".join(map(_named, left_out[:_MOST_NAMED]))
    more = len(left_out) - _MOST_NAMED
    others = f" and {more} more" if more > 0 else ""
    return f"Left out of the text, having no reading: {named}{others}."


def _blank(hole: re.Match[str]) -> str:
    """One blank in place of symbols and the blanks around them; none before a mark and at an end."""
    following = hole[1]
    return following if not following or following in ",.;:!?…)" else f" {following}"


def _has_reading(character: str) -> bool:
    if character in _KNOWN or character.isspace():
        return True
    kind = unicodedata.category(character)
    return kind[0] != "S" and kind not in ("No", "Co", "Cn", "Cs", "Cc")


def _plain(character: str) -> str:
    if character.isalpha() and not unicodedata.name(character, "").startswith("LATIN"):
        letter = unicodedata.normalize("NFKC", character)
        if letter.isascii():
            return letter
    return character


def _named(character: str) -> str:
    name = unicodedata.name(character, "").lower()
    return f"{character} ({name})" if name else f"U+{ord(character):04X}"
