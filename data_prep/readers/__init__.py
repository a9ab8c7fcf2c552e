"""Readers of corpora: each layout in its file, all yielding the entries of `entry.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...errors import CorpusError
from .entry import CorpusReader, Recording, Rejection
from .folder import FolderReader
from .json_lines import JsonLinesReader

__all__ = ["READERS", "CorpusReader", "Recording", "Rejection", "read_corpus"]

# The first that accepts a corpus reads it: from the most particular layout to any folder
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
