"""Kaldi data folders: `wav.scp`, `text`, `utt2spk`, `segments`."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...errors import CorpusError
from ..manifest import resolve_audio, storable
from .entry import TRANSCRIPT, UNLISTED, Recording, Rejection, clean_text, split_of
from .lines import read_lines
from .tree import ListedFiles, missing, subfolders

COMMAND = "command"
_PARENTS = 3


@dataclass(frozen=True)
class KaldiReader:
    """A data folder, or a folder whose sub-folders are some (`train/`, `test/`, ...).

    `wav.scp` names the recordings; `segments`, if there, the utterances in them, else each
    recording is one; `text` and `utt2spk` give transcript and speaker. A command in `wav.scp`
    (a line that ends with a bar) is never run. A speaker named as its utterance is Kaldi's way
    of saying that the speaker is unknown. The folder's name tells the split.

    Attributes:
        audio_root: Folder in which relative paths of `wav.scp` begin; if empty, the data folder or
            the nearest folder above it (three at most) where the first recording is found.

    Source:
        Kaldi's documentation, "Data preparation".
    """

    name: ClassVar[str] = "kaldi"
    audio_root: str = ""

    def accepts(self, corpus: Path) -> bool:
        """Whether the folder or one below it holds a `wav.scp`."""
        return bool(self._folders(corpus))

    def read(self, corpus: Path) -> Iterator[Recording | Rejection]:
        """Yield the utterances of every data folder, folders by name, in the order of the lists."""
        for folder in self._folders(corpus.absolute()):
            yield from _DataFolder(folder, self.audio_root).entries()

    def _folders(self, corpus: Path) -> list[Path]:
        if (corpus / "wav.scp").is_file():
            return [corpus]
        below = subfolders(corpus) if corpus.is_dir() else []
        return [folder for folder in below if (folder / "wav.scp").is_file()]


class _Column:
    """A Kaldi list as a look-up that reads on only as far as asked.

    Kaldi sorts all lists of a folder alike, so that almost nothing is held; another order costs
    memory, never correctness.
    """

    def __init__(self, path: Path) -> None:
        self._lines = read_lines(path) if path.is_file() else iter(())
        self._ahead: dict[str, str] = {}
        self.rejections: list[Rejection] = []

    def take(self, key: str) -> str | None:
        """The value of a key, which is given once."""
        if key in self._ahead:
            return self._ahead.pop(key)
        for found, value in self._read():
            if found == key:
                return value
            self._ahead[found] = value
        return None

    def rest(self) -> Iterator[str]:
        """The keys that nobody asked for."""
        self._ahead.update(self._read())
        yield from self._ahead

    def _read(self) -> Iterator[tuple[str, str]]:
        for line in self._lines:
            if isinstance(line, Rejection):
                self.rejections.append(line)
                continue
            key, *value = line.text.split(None, 1)
            yield key, value[0].strip() if value else ""


class _DataFolder:
    """One data folder while it is read."""

    def __init__(self, folder: Path, audio_root: str) -> None:
        self._folder = folder
        self._base = Path(audio_root).absolute() if audio_root else None
        self._split = split_of(folder.name)
        self._text = _Column(folder / "text")
        self._speaker = _Column(folder / "utt2spk")
        self._files = ListedFiles()

    def entries(self) -> Iterator[Recording | Rejection]:
        """Yield every utterance, then what the lists name in vain."""
        found = self._segments() if (self._folder / "segments").is_file() else self._recordings()
        for entry in found:
            yield entry
            yield from self._told()
        for key in self._text.rest():
            yield missing(storable(key), self._folder / "wav.scp")
        yield from self._told()

    def _told(self) -> Iterator[Rejection]:
        for column in (self._text, self._speaker):
            yield from column.rejections
            column.rejections.clear()

    def _recordings(self) -> Iterator[Recording | Rejection]:
        for line in read_lines(self._folder / "wav.scp"):
            if isinstance(line, Rejection):
                yield line
                continue
            key, *value = line.text.split(None, 1)
            yield self._utterance(key, value[0].strip() if value else "", line.where)

    def _segments(self) -> Iterator[Recording | Rejection]:
        audios: dict[str, str] = {}
        for line in read_lines(self._folder / "wav.scp"):
            if isinstance(line, Rejection):
                yield line
                continue
            key, *value = line.text.split(None, 1)
            audios[key] = value[0].strip() if value else ""
        unused = set(audios)
        for line in read_lines(self._folder / "segments"):
            if isinstance(line, Rejection):
                yield line
                continue
            key, *rest = line.text.split()
            recording = rest[0] if rest else ""
            unused.discard(recording)
            part = _part(rest[1:])
            if part is None or recording not in audios:
                self._text.take(key)
                yield Rejection(
                    storable(key), "", f"The line {line.where} is not utterance, recording of "
                    "wav.scp, start and end in seconds; correct it.",
                )  # fmt: skip
                continue
            yield self._utterance(key, audios[recording], line.where, *part)
        for key in sorted(unused):
            yield Rejection(
                storable(key), storable(audios[key]),
                f"The recording {storable(key)} has no line in {self._folder / 'segments'}; "
                "add one or leave it.", UNLISTED,
            )  # fmt: skip

    def _utterance(
        self, key: str, audio: str, where: str, start_s: float = 0.0, end_s: float | None = None
    ) -> Recording | Rejection:
        words, speaker = self._text.take(key), self._speaker.take(key)
        name = storable(key)
        if audio.endswith("|"):
            return Rejection(
                name, storable(audio), f"In {where}, the audio is a command, and commands are "
                "never run; run it yourself and name the file that it makes.", COMMAND,
            )  # fmt: skip
        if re.search(r"\.ark(:\d+)?$", audio):
            return Rejection(
                name, storable(audio), f"In {where}, the audio lies in a Kaldi archive, which is "
                "not read; copy it out into WAV or FLAC files.", COMMAND,
            )  # fmt: skip
        try:
            path = self._path(audio)
        except CorpusError as error:
            return Rejection(name, storable(audio), f"In {where}, {error}")
        try:
            text = None if words is None else clean_text(words)
        except CorpusError as error:
            return Rejection(name, str(path), f"In text, {error}", TRANSCRIPT)
        known = "" if speaker in (None, key) else storable(str(speaker))
        return self._files.check(
            Recording(name, path, text, known, self._split, start_s=start_s, end_s=end_s)
        )

    def _path(self, audio: str) -> Path:
        if self._base is None:
            above = (self._folder, *self._folder.parents[:_PARENTS])
            # os.path's, because Path's raises on a name that is too long
            found = next((b for b in above if os.path.isfile(resolve_audio(audio, b))), None)  # noqa: PTH113
            if found is None:
                return resolve_audio(audio, self._folder)
            self._base = found
        return resolve_audio(audio, self._base)


def _part(cells: list[str]) -> tuple[float, float | None] | None:
    """Start and end in seconds; an end of -1 is that of the recording."""
    try:
        start, end = float(cells[0]), float(cells[1])
    except (IndexError, ValueError):
        return None
    if end == -1 and math.isfinite(start) and start >= 0:
        return start, None
    return (start, end) if 0 <= start < end < math.inf else None
