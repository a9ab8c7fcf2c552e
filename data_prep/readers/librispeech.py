"""LibriSpeech: a tree of speakers and chapters, the transcripts of a chapter in one file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...errors import CorpusError
from ..manifest import storable
from .entry import TRANSCRIPT, Recording, Rejection, clean_text, split_of
from .lines import read_lines
from .tree import holds_below, missing, recordings_among, unlisted, walk


@dataclass(frozen=True)
class LibriSpeechReader:
    """`<split>/<speaker>/<chapter>/` with recordings and `<speaker>-<chapter>.trans.txt`.

    Each line of that file is an id, a blank, and the words. The corpus may be the folder of the
    splits or one split.

    Source:
        Panayotov et al., LibriSpeech (ICASSP 2015); its README.
    """

    name: ClassVar[str] = "librispeech"
    known_by: ClassVar[str] = ".trans.txt"

    def accepts(self, corpus: Path) -> bool:
        """Whether a file of transcripts lies where a chapter would."""
        return corpus.is_dir() and holds_below(corpus, self.known_by)

    def read(self, corpus: Path) -> Iterator[Recording | Rejection]:
        """Yield chapter by chapter; no more than one chapter's transcripts are held at a time."""
        root = corpus.absolute()
        for found in walk(root):
            if isinstance(found, Rejection):
                yield found
            else:
                yield from self._chapter(root, *found)

    def _chapter(
        self, root: Path, folder: Path, files: list[str]
    ) -> Iterator[Recording | Rejection]:
        transcripts: dict[str, str] = {}
        for name in (name for name in files if name.endswith(self.known_by)):
            for line in read_lines(folder / name):
                if isinstance(line, Rejection):
                    yield line
                    continue
                utterance, _, words = line.text.partition(" ")
                transcripts[utterance] = words
        speaker, split = place_in_tree(root, folder)
        for audio in recordings_among(root, folder, files):
            if isinstance(audio, Rejection):
                yield audio
            elif (said := transcripts.pop(audio.stem, None)) is None:
                yield unlisted(root, audio)
            else:
                try:
                    yield Recording(storable(audio.stem), audio, clean_text(said), speaker, split)
                except CorpusError as error:
                    yield Rejection(
                        storable(audio.stem), str(audio), f"In {folder}, {error}", TRANSCRIPT
                    )
        for utterance in transcripts:
            yield missing(storable(utterance), folder / f"{utterance}.flac")


def place_in_tree(root: Path, chapter: Path) -> tuple[str, str | None]:
    """Speaker and split of a chapter's folder, `<split>/<speaker>/<chapter>`."""
    speaker = "" if chapter == root else storable(chapter.parent.name)
    return speaker, split_of(chapter.parent.parent.name)
