"""Plain folders: recordings at any depth, each with its transcript beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ...errors import CorpusError
from ..manifest import storable
from .entry import AUDIO_SUFFIXES, Recording, Rejection, read_transcript


class FolderReader:
    """A folder of recordings, searched to any depth, each with a `.txt` transcript beside it.

    The sub-folder that a recording lies in names its speaker; at the top the folder itself does.
    """

    name = "folder"

    def accepts(self, corpus: Path) -> bool:
        """Any folder."""
        return corpus.is_dir()

    def read(self, corpus: Path) -> Iterator[Recording | Rejection]:
        """Yield recordings by path; links to folders are not followed, so no loop can trap us."""
        root = corpus.absolute()
        for audio in self._recordings(root):
            name = storable(audio.relative_to(root).with_suffix("").as_posix())
            try:
                text = read_transcript(audio.with_suffix(".txt"))
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
