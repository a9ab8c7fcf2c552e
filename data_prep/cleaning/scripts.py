"""The language filter: which writing systems the letters of a transcript belong to.

Unicode names a letter by its script first (`LATIN SMALL LETTER A`), and Python ships those names, so
the script of every letter is known without a table of our own.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache

_ALIASES = {"HAN": "CJK", "KANA": "HIRAGANA"}
_END = 0x20000  # past it, all letters are Han


@cache
def script_of(letter: str) -> str:
    """The first word of a letter's Unicode name, such as `LATIN`; empty if it is no letter.

    Modifier letters, such as the length mark that both kanas use, belong to no script.
    """
    plain = unicodedata.normalize("NFKC", letter)[:1]  # a full-width Latin letter is a Latin letter
    if not plain.isalpha() or unicodedata.category(plain) == "Lm":
        return ""
    return unicodedata.name(plain, "").split(" ")[0]


@cache
def known_scripts() -> frozenset[str]:
    """Every name that `script_of` may give, and the aliases that people use."""
    named = {unicodedata.name(c, "").split(" ")[0] for c in map(chr, range(_END)) if c.isalpha()}
    return frozenset(named - {""}) | frozenset(_ALIASES)


def script_share(text: str, scripts: Iterable[str]) -> float:
    """Share of a text's letters that are of the named scripts; 1 where there are no letters."""
    wanted = {_ALIASES.get(name.upper(), name.upper()) for name in scripts}
    found = [script for character in text if (script := script_of(character))]
    return sum(script in wanted for script in found) / len(found) if found else 1.0
