"""Results of an evaluation, a line each as they come, so that a killed one goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data_prep.line_journal import LineJournal
from ..data_prep.readers import Recording
from .report import Row

_MADE_OF = "made of"


class ItemJournal(LineJournal):
    """A file of the rows that each item of a list gave; a journal of anything else is begun anew.

    Args:
        path: As `LineJournal` takes it.
        made_of: What the results are a function of, in plain values: list, models, seed, scorers.

    Attributes:
        known: Rows and notes of each item that was judged, by its number.
    """

    def __init__(self, path: Path, made_of: Sequence[object]) -> None:
        super().__init__(path, sync=True)
        mine = {"hash": hashlib.sha256(json.dumps(made_of).encode()).hexdigest()}
        if self.row(_MADE_OF) != {"key": _MADE_OF, **mine}:
            self.clear()
            self.write(_MADE_OF, mine)
        rows = {key: self.row(key) for key in self if key != _MADE_OF}
        self.known: dict[int, dict[str, Any]] = {int(k): row for k, row in rows.items() if row}

    def add(self, item: int, rows: Sequence[Row], notes: Sequence[str]) -> None:
        """Write down what item number `item` gave, before the next one is begun."""
        value = {"rows": list(rows), "notes": list(notes)}
        self.known[item] = value
        self.write(str(item), value)

    def discard(self) -> None:
        """Take the file away: the report is whole."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def stamp_of(recording: Recording) -> list[object]:
    """What of a recording results are a function of: its name, its file as it is now, and its text."""
    told = recording.audio.stat()
    return [recording.id, str(recording.audio), told.st_size, told.st_mtime_ns, recording.text]
