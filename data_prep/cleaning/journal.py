"""Verdicts of a run, written down as they fall, so that a killed run goes on where it stopped.

A verdict is found again by a key of all that it is a function of: the entry, the file's size and time
of change, and the options.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ..line_journal import LineJournal
from ..manifest import CleaningRecord
from ..readers.entry import Recording, Rejection
from .options import CleaningOptions
from .recording import Cleaned, Verdict

FORMAT_VERSION = 2


class Journal(LineJournal):
    """A file of verdicts.

    Args:
        path: As `LineJournal` takes it.
        options: Part of every key, with `require_text`.
        require_text: As `clean_recording` takes it.
    """

    def __init__(self, path: Path, options: CleaningOptions, require_text: bool) -> None:
        super().__init__(path)
        self._settings = json.dumps([FORMAT_VERSION, asdict(options), require_text])

    def key(self, recording: Recording) -> str | None:
        """What a verdict is found by, or None where there is no file to know again."""
        if recording.content is not None:
            source = [hashlib.sha256(recording.content).hexdigest()]
        else:
            try:
                found = recording.audio.stat()
            except OSError:
                return None
            source = [str(recording.audio), str(found.st_size), str(found.st_mtime_ns)]
        entry = [recording.id, recording.text, recording.start_s, recording.end_s]
        known = json.dumps([self._settings, source, entry, recording.durations_s])
        return hashlib.sha256(known.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def find(self, key: str, recording: Recording) -> Verdict | None:
        """The verdict of an earlier run; whether the audio that it stored is still there, ask it."""
        row = self.row(key)
        if row is None:
            return None
        if "cleaned" not in row:
            return Rejection(recording.id, str(row["audio"]), str(row["reason"]), str(row["kind"]))
        return _cleaned(row["cleaned"])

    def add(self, key: str, verdict: Verdict) -> None:
        """Write a verdict down before the next one is waited for."""
        if isinstance(verdict, Rejection):
            reason = {"audio": verdict.audio, "kind": verdict.kind, "reason": verdict.reason}
            self.write(key, reason)
        else:
            self.write(key, {"cleaned": _cleaned_row(verdict)})


def _cleaned_row(cleaned: Cleaned) -> dict[str, Any]:
    row = {field.name: getattr(cleaned, field.name) for field in fields(Cleaned)}
    return row | {"record": cleaned.record.to_json() if cleaned.record else None}


def _cleaned(row: dict[str, Any]) -> Cleaned:
    durations, record = row["durations_s"], row["record"]
    values = row | {
        "durations_s": None if durations is None else tuple(float(d) for d in durations),
        "record": None if record is None else CleaningRecord.from_json(record),
    }
    return Cleaned(**values)
