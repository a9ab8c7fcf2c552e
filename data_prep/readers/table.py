"""Tables: CSV and TSV lists whose first row names the columns."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from .columns import entry_from_row, find_columns
from .entry import LIST, Recording, Rejection, split_of
from .lines import Line, read_lines
from .tree import ListedFiles

SUFFIXES = (".csv", ".tsv")
_DELIMITERS = (",", ";", "|", "\t")


@dataclass(frozen=True)
class TableReader:
    """A `.csv` or `.tsv` file, or a folder whose top holds some, with the columns of a JSONL list.

    CSV is split at commas, semicolons, bars or tabs, whichever finds an audio column in the first
    row. Commas and semicolons may stand inside double quotes (RFC 4180); between bars and tabs a
    quote is a letter like any other. `durations` are a JSON list in their cell.

    Attributes:
        columns: Our column names to the table's, where `ALIASES` does not know them.
    """

    name: ClassVar[str] = "table"
    columns: Mapping[str, str] = field(default_factory=dict)

    def accepts(self, corpus: Path) -> bool:
        """Whether it is a table, or a folder with a table that names audio."""
        return bool(self._tables(corpus))

    def read(self, corpus: Path) -> Iterator[Recording | Rejection]:
        """Yield the rows of every table by its name, then recordings in a folder that none names."""
        files = ListedFiles()
        for path in self._tables(corpus) or [corpus]:
            for entry in self._entries(path):
                yield files.check(entry) if isinstance(entry, Recording) else entry
        if corpus.is_dir():
            yield from files.others_below(corpus.absolute(), [corpus.absolute()])

    def _entries(self, path: Path) -> Iterator[Recording | Rejection]:
        header, delimiter = self._head(path)
        found = find_columns(header, self.columns)
        if "audio" not in found:
            yield Rejection(
                path.name,
                str(path),
                f"The first row of {path} names no audio column; its columns are "
                f"{', '.join(header)[:200]!r}: name one by the option columns.",
                LIST,
            )
            return
        places = {key: header.index(name) for key, name in found.items()}
        split = split_of(path.stem)
        for number, row in enumerate(read_rows(path, delimiter)):
            if isinstance(row, Rejection):
                yield row
            elif number == 0:
                continue
            elif len(row[1]) != len(header):
                yield Rejection(
                    row[0],
                    "",
                    f"The row {row[0]} has {len(row[1])} cells for {len(header)} columns; "
                    "correct it.",
                )
            else:
                values = {key: row[1][place] for key, place in places.items()}
                values = {key: value for key, value in values.items() if value}
                yield entry_from_row(values, path.parent, row[0], split)

    def _tables(self, corpus: Path) -> list[Path]:
        if corpus.is_file():
            return [corpus] if corpus.suffix.lower() in SUFFIXES else []
        try:
            tables = sorted(p for p in corpus.iterdir() if p.suffix.lower() in SUFFIXES)
        except OSError:
            return []
        return [p for p in tables if p.name[0] != "." and self.names_audio(p)]

    def names_audio(self, path: Path) -> bool:
        """Whether the first row of a table names an audio column."""
        return "audio" in find_columns(self._head(path)[0], self.columns)

    def _head(self, path: Path) -> tuple[list[str], str]:
        """The cells of the first row, and the delimiter."""
        line = next(read_lines(path), None)
        text = line.text if isinstance(line, Line) else ""
        delimiters = ("\t",) if path.suffix.lower() == ".tsv" else _DELIMITERS
        heads = [
            ([cell.strip().strip('"') for cell in text.split(delimiter)], delimiter)
            for delimiter in delimiters
        ]
        for cells, delimiter in heads:
            if "audio" in find_columns(cells, self.columns):
                return cells, delimiter
        return max(heads, key=lambda head: len(head[0]))


def read_rows(path: Path, delimiter: str) -> Iterator[tuple[str, list[str]] | Rejection]:
    """Yield (file and line number, cells) of every row.

    A row that the quoting breaks is a rejection, and the next line begins a new one, so that one
    stray quote does not swallow the rest of the table.
    """
    if delimiter in "|\t":
        for line in read_lines(path):
            yield line if isinstance(line, Rejection) else (line.where, line.text.split(delimiter))
        return
    source, again = read_lines(path), deque[Line]()
    taken: list[Line] = []
    refused: list[Rejection] = []

    def feed() -> Iterator[str]:
        while (line := again.popleft() if again else next(source, None)) is not None:
            if isinstance(line, Rejection):
                refused.append(line)
                continue
            taken.append(line)
            yield line.text + "\n"

    while True:
        taken.clear()
        problem = row = None
        try:
            row = next(csv.reader(feed(), delimiter=delimiter, strict=True), None)
        except csv.Error as error:
            problem = error
        yield from refused
        refused.clear()
        if problem is not None:
            where = taken[0].where
            again.extendleft(reversed(taken[1:]))
            yield Rejection(
                where, "", f"The row {where} is not CSV ({problem}); correct its quotes."
            )
        elif row is None:
            return
        else:
            yield taken[0].where, row
