"""JSON-lines lists: a `.jsonl` file, or a folder whose top holds some."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from .columns import entry_from_row, find_columns
from .entry import Recording, Rejection, split_of
from .lines import read_lines
from .tree import ListedFiles

SUFFIXES = (".jsonl", ".ndjson")
_HEAD_LINES = 20


@dataclass(frozen=True)
class JsonLinesReader:
    """A `.jsonl` file, or a folder whose top holds some: one object an utterance.

    Columns: `audio` (relative to the file's folder, or absolute); optionally `id` (else the path),
    `text`, `speaker`, `split` (else the file's name tells), `start_s` and `end_s` (a part of the
    recording), `phonemes`, and either `durations_s` or `durations` in units of 25 ms with
    `offset_s`, the time that was trimmed from the start. Other columns are ignored.

    Attributes:
        columns: Our column names to the list's, where `ALIASES` does not know them.
    """

    name: ClassVar[str] = "jsonl"
    columns: Mapping[str, str] = field(default_factory=dict)

    def accepts(self, corpus: Path) -> bool:
        """Whether there is a JSONL file that names audio."""
        return bool(self._lists(corpus))

    def read(self, corpus: Path) -> Iterator[Recording | Rejection]:
        """Yield the lines of every list by its name, then recordings in a folder that none names."""
        files = ListedFiles()
        for path in self._lists(corpus) or [corpus]:
            for entry in self._entries(path):
                yield files.check(entry) if isinstance(entry, Recording) else entry
        if corpus.is_dir():
            yield from files.others_below(corpus.absolute(), [corpus.absolute()])

    def _entries(self, path: Path) -> Iterator[Recording | Rejection]:
        split = split_of(path.stem)
        known: tuple[str, ...] = ()
        found: dict[str, str] = {}
        for line in read_lines(path):
            if isinstance(line, Rejection):
                yield line
                continue
            try:
                row = _parse(line.text)
            except (ValueError, RecursionError) as error:
                yield Rejection(
                    line.where, "", f"The line {line.where} is not a JSON object ({error})."
                )
                continue
            if tuple(row) != known:  # as a rule all lines have the same columns
                known, found = tuple(row), find_columns(row, self.columns)
            values = {key: row[name] for key, name in found.items()}
            yield entry_from_row(values, path.parent, line.where, split)

    def _lists(self, corpus: Path) -> list[Path]:
        if corpus.is_file():
            return [corpus] if corpus.suffix.lower() in SUFFIXES else []
        lists = sorted(p for p in _top(corpus) if p.suffix.lower() in SUFFIXES and p.is_file())
        names = {path.name for path in lists}
        # What `prepare` left: beside the manifest lies the ledger, which names bad recordings
        if "manifest.jsonl" in names and (corpus / "summary.json").is_file():
            return [corpus / "manifest.jsonl"]
        return [path for path in lists if self._names_audio(path)]

    def _names_audio(self, path: Path) -> bool:
        for line in islice(read_lines(path), _HEAD_LINES):
            try:
                row = {} if isinstance(line, Rejection) else _parse(line.text)
            except (ValueError, RecursionError):
                continue
            if "audio" in find_columns(row, self.columns):
                return True
        return False


def _parse(text: str) -> dict[str, Any]:
    row = json.loads(text)
    if not isinstance(row, dict):
        raise ValueError("not an object")
    return row


def _top(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.name[0] != "."]
    except OSError:
        return []
