"""Results of an evaluation, a line each as they come, so that a killed one goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from .report import Row


class ItemJournal:
    """An append-only file of the rows that each item of a list gave.

    The first line names what the results are a function of. A journal of anything else is begun
    anew; of a line that a kill cut off, nothing is kept.

    Args:
        path: The file.
        made_of: Plain values: list, models, seed, scorers.
    """

    def __init__(self, path: Path, made_of: Sequence[object]) -> None:
        self.path = path
        key = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
        self.known: dict[int, dict[str, Any]] = {}
        end = 0
        if path.is_file():
            with path.open("rb") as file:
                if _value(file.readline()) == {"made_of": key}:
                    end = file.tell()
                    for line in file:
                        value = _value(line)
                        if value is None or "item" not in value:
                            break
                        self.known[int(value["item"])] = value
                        end += len(line)
        self._file = path.open("r+b" if end else "w+b")
        self._file.truncate(end)
        self._file.seek(end)
        if not end:
            self._write({"made_of": key})

    def add(self, item: int, rows: Sequence[Row], notes: Sequence[str]) -> None:
        """Write down what item number `item` gave, before the next one is begun."""
        value = {"item": item, "rows": list(rows), "notes": list(notes)}
        self.known[item] = value
        self._write(value)

    def discard(self) -> None:
        """Take the file away: the report is whole."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> ItemJournal:
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

    def _write(self, value: dict[str, Any]) -> None:
        self._file.write(json.dumps(value).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _value(line: bytes) -> dict[str, Any] | None:
    """A whole line's object, or None."""
    try:
        value = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
