"""What a reader yields: recordings and rejections, one stream an entry at a time.

A reader is lenient: an entry that it cannot use becomes a `Rejection` with a reason, so that one
bad file never ends a run and nothing disappears unseen. Only a corpus that yields nothing is an
error.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ...errors import CorpusError
from ..manifest import storable

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


# Kinds that readers give; whoever checks the audio adds its own.
ENTRY = "entry"  # a line, or a value in it, that makes no sense
TRANSCRIPT = "transcript"  # not UTF-8, or too long
MISSING = "missing"  # a list names a recording that is not there
UNLISTED = "unlisted"  # a recording that no list names
FORMAT = "format"  # audio of a kind that is not read
LINK = "link"  # a link to a folder, not followed
LIST = "list"  # a whole list or folder that cannot be read


class CorpusReader(Protocol):
    """One corpus layout. A new layout is a frozen dataclass with these members, in `LAYOUTS`.

    Its fields are the options of the layout, which `read_corpus` sets by name.
    """

    @property
    def name(self) -> str:
        """What the layout is called, for `prepare --layout`."""
        ...

    def accepts(self, corpus: Path) -> bool:
        """Whether `corpus` has this layout; looks at names and at the heads of lists only."""
        ...

    def read(self, corpus: Path) -> Iterator[Recording | Rejection]:
        """Yield every entry once, in an order that depends on names only."""
        ...


_SPLIT_NAMES = re.compile(
    r"(?P<train>train(?:ing)?)|(?P<valid>dev|development|val|valid|validation)"
    r"|(?P<test>test(?:ing)?|eval|evaluation)"
)


def split_of(name: str) -> str | None:
    """The split that a corpus means by a name such as `train-clean-100`, `dev` or `test.other`."""
    head = re.match(r"[a-z]*", name.lower())
    found = _SPLIT_NAMES.fullmatch(head.group()) if head else None
    return found.lastgroup if found else None


def clean_text(text: str) -> str:
    """Compose the characters (NFC) and make every run of white space one blank.

    Raises:
        CorpusError: If it is longer than 1 MiB, was not UTF-8, or holds half of a character pair.
    """
    if len(text) > MAX_TRANSCRIPT_BYTES:
        raise CorpusError(f"the transcript is longer than {MAX_TRANSCRIPT_BYTES >> 20} MiB.")
    if text != storable(text):
        raise CorpusError("the transcript is not UTF-8; convert it.")
    return " ".join(unicodedata.normalize("NFC", text).split())


def read_transcript(path: Path) -> str | None:
    """The side-car transcript of a recording, cleaned, or None if there is none.

    Raises:
        CorpusError: If it is larger than 1 MiB, not readable, or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_TRANSCRIPT_BYTES + 1)
        if len(content) <= MAX_TRANSCRIPT_BYTES:
            return clean_text(content.decode("utf-8-sig"))
    except FileNotFoundError:
        return None
    except (UnicodeDecodeError, OSError) as error:
        raise CorpusError(
            f"The transcript {path.name} is not readable as UTF-8 ({error}); convert it."
        ) from error
    raise CorpusError(
        f"The transcript {path.name} is larger than {MAX_TRANSCRIPT_BYTES >> 20} MiB; cut it."
    )
