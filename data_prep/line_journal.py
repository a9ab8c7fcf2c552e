"""A journal of what a long job found, a line each as it comes, so that a killed job goes on.

Only whole lines count, by a checksum: a kill costs the line that it cut, damage the lines that it hit.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class LineJournal:
    """An append-only file of JSON objects, each found again by its key.

    Rows stay on the disk; in memory is where each begins. Of two rows with one key the later counts.

    Args:
        path: The file, made if need be; what a killed job left unfinished at its end is cut off.
        sync: Wait for the disk after each row, where a row is worth more than that takes.
    """

    def __init__(self, path: Path, *, sync: bool = False) -> None:
        self.path = path
        self._sync = sync
        self._file = path.open("a+b")
        self._places: dict[str, tuple[int, int]] = {}
        self._file.seek(0)
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            if (row := _row(line)) is not None:
                self._places[row["key"]] = (end, len(line))
            end += len(line)
        self._file.truncate(end)

    def __iter__(self) -> Iterator[str]:
        """The keys, in the order in which they first came."""
        return iter(self._places)

    def row(self, key: str) -> dict[str, Any] | None:
        """What was written under a key, or None."""
        return _row(self._line(key)) if key in self._places else None

    def write(self, key: str, row: dict[str, Any]) -> None:
        """Write a row down before the next one is waited for."""
        body = json.dumps({"key": key, **row}).encode()
        line = b"%08x %b\n" % (zlib.crc32(body), body)
        self._places[key] = (self._file.seek(0, os.SEEK_END), len(line))
        self._file.write(line)
        self._file.flush()
        if self._sync:
            os.fsync(self._file.fileno())

    def compact(self, keys: Iterable[str]) -> None:
        """Leave a file of the rows of these keys alone, in this order; nothing may follow."""
        temporary = self.path.with_name(f".{self.path.name}.compact")
        with temporary.open("wb") as file:
            for key in dict.fromkeys(keys):
                if key in self._places:
                    file.write(self._line(key))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)

    def clear(self) -> None:
        """Forget every row."""
        self._file.truncate(0)
        self._places.clear()

    def _line(self, key: str) -> bytes:
        place, length = self._places[key]
        self._file.seek(place)
        return self._file.read(length)

    def __enter__(self) -> Self:
        """The journal itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file and leave it where it is."""
        self._file.close()


def _row(line: bytes) -> dict[str, Any] | None:
    """A line as it was written, or None if something happened to it."""
    checksum, _, body = line.rstrip(b"\n").partition(b" ")
    return json.loads(body) if checksum == b"%08x" % zlib.crc32(body) else None
