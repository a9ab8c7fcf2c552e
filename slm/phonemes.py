"""espeak-ng as the text front end: the phonemes that the shipped models were trained on.

espeak-ng and phonemizer are GPL-3, therefore an extra that the user installs, and imported on use.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError, MissingExtra, UnsupportedText
from .normalize import normalize
from .signs import leave_out_symbols
from .text import SymbolTable, is_speakable, require_latin, require_text

# espeak writes a few sounds in a way that the speech data does not: one sign for r, none for
# palatal release, and the nearest English sound for those of foreign names.
_REPLACED = str.maketrans({"ʲ": "j", "r": "ɹ", "x": "k", "ɬ": "l"})
# A possessive after a mark or acronym comes out as a word of its own: " z".
_LOOSE_Z = re.compile(r' z(?=[;:,.!?¡¿—…"«»“” ]|$)')


def tidy_phonemes(raw: str) -> str:
    """Put espeak's output in the spelling of the speech data: one character a symbol."""
    return _LOOSE_Z.sub("z", raw.strip().translate(_REPLACED))


class EspeakPhonemes:
    """Phonemes by espeak-ng through phonemizer, stress marks and punctuation kept.

    Args:
        language: An espeak language code; `en-us` and `en-gb` are what the shipped models know.
        table: Characters that may come out; others are dropped.

    Raises:
        MissingExtra: If phonemizer or the espeak-ng library is not installed.
        ConfigError: If espeak-ng does not know the language.
    """

    note: str | None = None

    def __init__(self, language: str = "en-us", table: SymbolTable | None = None) -> None:
        self.language = language
        self.table = table or SymbolTable()
        self._backend = _espeak_backend(language)
        self._lock = threading.Lock()  # one espeak voice is active at a time in a process

    def phonemize(self, text: str) -> str:
        """The phonemes of a text.

        Raises:
            UnsupportedText: If the text is empty, too long, or has nothing to speak.
        """
        spoken = require_text(text)
        if self.language.startswith("en"):
            spoken = require_latin(normalize(spoken))
        else:
            spoken, _ = leave_out_symbols(spoken)  # which espeak would name in any language
        phonemes = self.phonemize_raw([spoken])[0]
        if not is_speakable(phonemes):
            raise UnsupportedText(
                f"There is nothing to speak in {text[:40]!r}; give a text with words."
            )
        return phonemes

    def phonemize_raw(self, texts: Sequence[str]) -> list[str]:
        """Phonemes of many texts as they stand, not normalized; an unspeakable one gives ''."""
        filled = [text if text.strip() else "." for text in texts]  # espeak drops empty lines
        with self._lock:
            raw = self._backend.phonemize(filled)
        return [
            self.table.clean(tidy_phonemes(line)) if text.strip() else ""
            for text, line in zip(texts, raw, strict=True)
        ]


def _espeak_backend(language: str) -> Any:
    try:
        import espeakng_loader
        from phonemizer.backend import EspeakBackend
        from phonemizer.backend.espeak.wrapper import EspeakWrapper
    except ImportError as error:
        raise MissingExtra(
            "Phonemes by espeak-ng need the extra `phonemes`: pip install -e '.[phonemes]' in a checkout."
        ) from error
    quiet = logging.getLogger("speechlm.phonemizer")
    quiet.setLevel(logging.ERROR)  # it warns at each word that espeak joins with the next one
    try:
        EspeakWrapper.set_library(espeakng_loader.get_library_path())
        EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
        return EspeakBackend(
            language,
            preserve_punctuation=True,
            with_stress=True,
            language_switch="remove-flags",
            logger=quiet,
        )
    except RuntimeError as error:
        raise ConfigError(
            f"espeak-ng has no language {language!r} ({error}); use a code such as en-us or en-gb."
        ) from error
