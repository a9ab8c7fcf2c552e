"""Verdicts of a run, a line each as they fall, so that a killed run goes on where it stopped.

Only whole lines count, by a checksum. A verdict is found again by a key of all that it is a function
of: the entry, the file's size and time of change, and the options.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from ..manifest import CleaningRecord
from ..readers.entry import Recording, Rejection
from .options import CleaningOptions
from .recording import Cleaned, Verdict

FORMAT_VERSION = 1


class Journal:
    """An append-only file of verdicts.

    Args:
        path: The file; what a killed run left unfinished at its end is cut off.
        options: Part of every key, with `require_text`.
        require_text: As `clean_recording` takes it.
    """

    def __init__(self, path: Path, options: CleaningOptions, require_text: bool) -> None:
        self.path = path
        self._settings = json.dumps([FORMAT_VERSION, asdict(options), require_text])
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
        if key not in self._places:
            return None
        row = _row(self._line(key))
        if row is None:
            return None
        if "cleaned" not in row:
            return Rejection(recording.id, str(row["audio"]), str(row["reason"]), str(row["kind"]))
        return _cleaned(row["cleaned"])

    def add(self, key: str, verdict: Verdict) -> None:
        """Write a verdict down before the next one is waited for."""
        if isinstance(verdict, Rejection):
            row: dict[str, Any] = {
                "audio": verdict.audio,
                "kind": verdict.kind,
                "reason": verdict.reason,
            }
        else:
            row = {"cleaned": _cleaned_row(verdict)}
        body = json.dumps({"key": key, **row}).encode()
        line = b"%08x %b\n" % (zlib.crc32(body), body)
        self._places[key] = (self._file.seek(0, os.SEEK_END), len(line))
        self._file.write(line)
        self._file.flush()

    def compact(self, keys: Iterable[str]) -> None:
        """Keep the verdicts of these keys alone, in this order."""
        temporary = self.path.with_name(f".{self.path.name}.compact")
        with temporary.open("wb") as file:
            for key in dict.fromkeys(keys):
                if key in self._places:  # what ended a process has no verdict
                    file.write(self._line(key))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)

    def _line(self, key: str) -> bytes:
        place, length = self._places[key]
        self._file.seek(place)
        return self._file.read(length)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def _row(line: bytes) -> dict[str, Any] | None:
    """A line as it was written, or None if something happened to it."""
    checksum, _, body = line.rstrip(b"\n").partition(b" ")
    return json.loads(body) if checksum == b"%08x" % zlib.crc32(body) else None


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
