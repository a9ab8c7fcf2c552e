"""Readers: what a corpus looks like on disk, turned into one stream of recordings.

A reader is lenient: an entry that it cannot use becomes a `Rejection` with a reason, so that one
bad file never ends a run and nothing disappears unseen. Only a corpus that yields nothing is an
error.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import CorpusError
from .manifest import SPLITS, alignment_problem, read_lines, resolve_audio, storable

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3"})
DURATION_UNIT_S = 0.025  # one unit of an integer `durations` column (Kokoro's duration predictor)
MAX_TRANSCRIPT_BYTES = 1 << 20


@dataclass(frozen=True)
class Recording:
    """One entry of a corpus as its reader found it, the audio not yet opened.

    Attributes:
        id: Name within the corpus.
        audio: Absolute path.
        text: Transcript, or None if the corpus has none for this entry.
        speaker: Name, empty if unknown.
        split: The split that the corpus gives, or None.
        phonemes: One character a symbol, or None.
        durations_s: Seconds of every symbol, both boundaries included, or None.
    """

    id: str
    audio: Path
    text: str | None
    speaker: str
    split: str | None = None
    phonemes: str | None = None
    durations_s: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Rejection:
    """An entry that is not used, the sentence that says why, and a word to count it under."""

    id: str
    audio: str
    reason: str
    kind: str = "entry"


class CorpusReader(Protocol):
    """One corpus layout. A new layout is a class with these two methods, listed in `READERS`."""

    def accepts(self, corpus: Path) -> bool:
        """Whether `corpus` has this layout; looks at names only."""
        ...

    def read(self, corpus: Path) -> Iterator[Recording | Rejection]:
        """Yield every entry once, in an order that depends on names only."""
        ...


class JsonLinesReader:
    """A `.jsonl` file, or a folder whose top holds some: one object an utterance.

    Columns: `id` and `audio` (relative to the file's folder, or absolute); optionally `text`,
    `speaker`, `split`, `phonemes`, and either `durations_s` or `durations` in units of 25 ms with
    `offset_s`, the time that was trimmed from the start. Other columns are ignored.
    """

    def accepts(self, corpus: Path) -> bool:
        """Whether there is a JSONL file to read."""
        return bool(self._lists(corpus))

    def read(self, corpus: Path) -> Iterator[Recording | Rejection]:
        """Yield the lines of every list, lists by name."""
        for path in self._lists(corpus):
            for number, line in read_lines(path):
                where = f"{path.name}:{number}"
                try:
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError("not an object")
                except (ValueError, RecursionError) as error:
                    yield Rejection(where, "", f"The line is not a JSON object ({error}).")
                    continue
                try:
                    yield _recording(row, path.parent)
                except CorpusError as error:
                    name = row.get("id")
                    audio = row.get("audio")
                    yield Rejection(
                        name if isinstance(name, str) and name else where,
                        audio if isinstance(audio, str) else "",
                        f"In {where}, {error}",
                    )

    def _lists(self, corpus: Path) -> list[Path]:
        if corpus.suffix.lower() == ".jsonl" and corpus.is_file():
            return [corpus]
        return sorted(p for p in corpus.glob("*.jsonl") if p.is_file()) if corpus.is_dir() else []


class FolderReader:
    """A folder of recordings, searched to any depth, each with a `.txt` transcript beside it.

    The sub-folder that a recording lies in names its speaker; at the top the folder itself does.
    """

    def accepts(self, corpus: Path) -> bool:
        """Any folder."""
        return corpus.is_dir()

    def read(self, corpus: Path) -> Iterator[Recording | Rejection]:
        """Yield recordings by path; links to folders are not followed, so no loop can trap us."""
        root = corpus.absolute()
        for audio in self._recordings(root):
            name = storable(audio.relative_to(root).with_suffix("").as_posix())
            try:
                text = _transcript(audio.with_suffix(".txt"))
            except CorpusError as error:
                yield Rejection(name, str(audio), str(error), "transcript")
                continue
            yield Recording(name, audio, text, speaker=storable(audio.parent.name))

    def _recordings(self, root: Path) -> Iterator[Path]:
        for folder, subfolders, files in os.walk(root):
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            for name in sorted(files):
                # Dot files are the litter of other systems (`._take1.wav`), never recordings
                if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES:
                    yield Path(folder, name)


READERS: tuple[CorpusReader, ...] = (JsonLinesReader(), FolderReader())


def read_corpus(corpus: Path) -> Iterator[Recording | Rejection]:
    """Read a corpus by the first reader that knows its layout.

    Raises:
        CorpusError: If the path does not exist or has no known layout.
    """
    if not corpus.exists():
        raise CorpusError(
            f"{corpus} does not exist; give a folder of recordings or a JSONL list of them."
        )
    for reader in READERS:
        if reader.accepts(corpus):
            return reader.read(corpus)
    raise CorpusError(
        f"{corpus} is no folder and no JSONL list; give a folder of recordings or a .jsonl file."
    )


def clean_text(text: str) -> str:
    """Compose the characters (NFC) and make every run of white space one blank."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _transcript(path: Path) -> str | None:
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


def _recording(row: dict[str, Any], folder: Path) -> Recording:
    name, audio = row.get("id"), row.get("audio")
    if not isinstance(name, str) or not name:
        raise CorpusError("the id is missing or is not a string.")
    if not isinstance(audio, str):
        raise CorpusError("the audio path is missing or is not a string.")
    text, speaker, split, phonemes = (
        row.get(key) for key in ("text", "speaker", "split", "phonemes")
    )
    for key, value in (("id", name), ("text", text), ("speaker", speaker), ("phonemes", phonemes)):
        if value is not None and not isinstance(value, str):
            raise CorpusError(f"the {key} is not a string.")
        if value is not None and value != storable(value):
            raise CorpusError(f"the {key} holds half of a character pair.")
    if split is not None and split not in SPLITS:
        raise CorpusError(f"the split {split!r} is none of {', '.join(SPLITS)}.")
    durations = _durations(row)
    if (problem := alignment_problem(phonemes, durations)) is not None:
        raise CorpusError(problem)
    return Recording(
        id=name,
        audio=resolve_audio(audio, folder),
        text=None if text is None else clean_text(text),
        speaker=speaker or "",
        split=split,
        phonemes=phonemes,
        durations_s=durations,
    )


def _durations(row: dict[str, Any]) -> tuple[float, ...] | None:
    seconds = row.get("durations_s")
    units = row.get("durations")
    raw = seconds if seconds is not None else units
    if raw is None:
        return None
    offset = 0.0 if seconds is not None else row.get("offset_s", 0.0)
    if not isinstance(raw, list) or not all(_is_number(value) for value in [offset, *raw]):
        raise CorpusError("the durations are not a list of numbers.")
    scale = 1.0 if seconds is not None else DURATION_UNIT_S
    durations = [value * scale for value in raw]
    # The time trimmed from the start is taken off the first symbols, as a rule off the silence
    for index, duration in enumerate(durations):
        taken = min(duration, max(0.0, offset)) if duration > 0 else 0.0
        durations[index], offset = duration - taken, offset - taken
    return tuple(durations)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
