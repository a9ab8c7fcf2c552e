"""What a reader yields: recordings and rejections, one stream an entry at a time.

A reader is lenient: an entry that it cannot use becomes a `Rejection` with a reason, so that one
bad file never ends a run and nothing disappears unseen. Only a corpus that yields nothing is an
error.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ...errors import CorpusError

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3"})
MAX_TRANSCRIPT_BYTES = 1 << 20


@dataclass(frozen=True)
class Recording:
    """One entry of a corpus as its reader found it, the audio not yet opened.

    Attributes:
        id: Name within the corpus.
        audio: Absolute path; where `content` holds the bytes, only their name.
        text: Transcript, or None if the corpus has none for this entry.
        speaker: Name, empty if unknown.
        split: The split that the corpus gives, or None.
        phonemes: One character a symbol, or None.
        durations_s: Seconds of every symbol, both boundaries included, or None.
        start_s, end_s: The part of the audio that this entry is; an `end_s` of None is its end.
        content: The encoded audio itself, where it lies in no file of its own.
    """

    id: str
    audio: Path
    text: str | None
    speaker: str
    split: str | None = None
    phonemes: str | None = None
    durations_s: tuple[float, ...] | None = None
    start_s: float = 0.0
    end_s: float | None = None
    content: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Rejection:
    """An entry that is not used, the sentence that says why, and a word to count it under."""

    id: str
    audio: str
    reason: str
    kind: str = "entry"


class CorpusReader(Protocol):
    """One corpus layout. A new layout is a class with these members, listed in `READERS`."""

    @property
    def name(self) -> str:
        """What the layout is called, for `prepare --layout`."""
        ...

    def accepts(self, corpus: Path) -> bool:
        """Whether `corpus` has this layout; looks at names only."""
        ...

    def read(self, corpus: Path) -> Iterator[Recording | Rejection]:
        """Yield every entry once, in an order that depends on names only."""
        ...


def clean_text(text: str) -> str:
    """Compose the characters (NFC) and make every run of white space one blank."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def read_transcript(path: Path) -> str | None:
    """The side-car transcript of a recording, cleaned, or None if there is none.

    Raises:
        CorpusError: If it is larger than 1 MiB, not readable, or not UTF-8.
    """
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_TRANSCRIPT_BYTES:
        raise CorpusError(
            f"The transcript {path.name} is larger than {MAX_TRANSCRIPT_BYTES >> 20} MiB."
        )
    try:
        return clean_text(path.read_text("utf-8-sig"))
    except (UnicodeDecodeError, OSError) as error:
        raise CorpusError(
            f"The transcript {path.name} is not readable as UTF-8 ({error})."
        ) from error
