"""Collections: folders that hold corpora, and corpora given side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ..manifest import storable
from .entry import CorpusReader, Recording, Rejection
from .folder import FolderReader
from .tree import recordings_among, subfolders, walk

_DEPTH = 2


@dataclass(frozen=True)
class CollectionReader:
    """A folder without a layout of its own, below which corpora lie.

    Each corpus is read by its own layout, its ids and speakers preceded by its folder's name, so
    that speaker 84 of one is not speaker 84 of another. Everything else in the folder is read as
    in a plain folder.

    Attributes:
        find: Gives the reader of a folder with a layout of its own, or None.
        plain: Reads the rest.
    """

    name: ClassVar[str] = "collection"
    find: Callable[[Path], CorpusReader | None]
    plain: FolderReader

    def accepts(self, corpus: Path) -> bool:
        """Whether a folder at most two below has a layout of its own."""
        return corpus.is_dir() and self._holds_corpus(corpus, _DEPTH)

    def read(self, corpus: Path) -> Iterator[Recording | Rejection]:
        """Yield what lies at the top, then sub-folder by sub-folder."""
        root = corpus.absolute()
        for found in walk(root):
            if isinstance(found, Rejection):
                yield found
            elif found[0] == root:
                yield from self.plain.entries(root, recordings_among(root, *found))
            else:
                break
        for folder in subfolders(root):
            reader = self.find(folder) or (self if self.accepts(folder) else None)
            if reader is None:
                yield from self.plain.read_part(root, folder)
            else:
                yield from within(folder.name, reader.read(folder))

    def _holds_corpus(self, folder: Path, depth: int) -> bool:
        return any(
            self.find(below) is not None or (depth > 1 and self._holds_corpus(below, depth - 1))
            for below in subfolders(folder)
        )


def within(name: str, entries: Iterator[Recording | Rejection]) -> Iterator[Recording | Rejection]:
    """Put a corpus's name before the ids and speakers of its entries."""
    prefix = storable(name)
    for entry in entries:
        if isinstance(entry, Rejection):
            yield replace(entry, id=f"{prefix}/{entry.id}")
        else:
            speaker = entry.speaker
            if speaker and speaker != prefix:
                speaker = f"{prefix}/{speaker}"
            yield replace(entry, id=f"{prefix}/{entry.id}", speaker=speaker)
