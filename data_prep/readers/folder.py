"""Plain folders: recordings at any depth, each with its transcript beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...errors import CorpusError
from ..manifest import storable
from .entry import TRANSCRIPT, Recording, Rejection, read_transcript
from .tree import id_below, recordings_below


@dataclass(frozen=True)
class FolderReader:
    """A folder of recordings, searched to any depth, each with a `.txt` transcript beside it.

    A folder on the way to a recording names its speaker; at the top of the corpus nobody does.

    Attributes:
        speaker_level: Which folder: -1 the one that the recording lies in, -2 the one above it,
            0 the first below the corpus, as in `speaker/chapter/take.wav`.
    """

    name: ClassVar[str] = "folder"
    speaker_level: int = -1

    def accepts(self, corpus: Path) -> bool:
        """Any folder."""
        return corpus.is_dir()

    def read(self, corpus: Path) -> Iterator[Recording | Rejection]:
        """Yield recordings by path."""
        root = corpus.absolute()
        return self.read_part(root, root)

    def read_part(self, root: Path, part: Path) -> Iterator[Recording | Rejection]:
        """Yield the recordings in one folder of a corpus and below it."""
        return self.entries(root, recordings_below(part))

    def entries(
        self, root: Path, found: Iterable[Path | Rejection]
    ) -> Iterator[Recording | Rejection]:
        """Yield the entries of recordings that were found below the root."""
        for audio in found:
            yield audio if isinstance(audio, Rejection) else self._recording(root, audio)

    def _recording(self, root: Path, audio: Path) -> Recording | Rejection:
        name = id_below(root, audio)
        folders = audio.relative_to(root).parts[:-1]
        level = self.speaker_level
        known = -len(folders) <= level < len(folders)
        try:
            text = read_transcript(audio.with_suffix(".txt"))
        except CorpusError as error:
            return Rejection(name, str(audio), str(error), TRANSCRIPT)
        return Recording(name, audio, text, speaker=storable(folders[level]) if known else "")
