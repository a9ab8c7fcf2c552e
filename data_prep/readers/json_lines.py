"""JSON-lines lists: a `.jsonl` file, or a folder whose top holds some."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import CorpusError
from ..manifest import SPLITS, alignment_problem, read_lines, resolve_audio, storable
from .entry import Recording, Rejection, clean_text

DURATION_UNIT_S = 0.025  # one unit of an integer `durations` column (Kokoro's duration predictor)


class JsonLinesReader:
    """A `.jsonl` file, or a folder whose top holds some: one object an utterance.

    Columns: `id` and `audio` (relative to the file's folder, or absolute); optionally `text`,
    `speaker`, `split`, `phonemes`, and either `durations_s` or `durations` in units of 25 ms with
    `offset_s`, the time that was trimmed from the start. Other columns are ignored.
    """

    name = "jsonl"

    def accepts(self, corpus: Path) -> bool:
        """Whether there is a JSONL file to read."""
        return bool(self._lists(corpus))

    def read(self, corpus: Path) -> Iterator[Recording | Rejection]:
        """Yield the lines of every list, lists by name."""
        for path in self._lists(corpus):
            for number, line in read_lines(path):
                where = f"{path.name}:{number}"
                try:
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError("not an object")
                except (ValueError, RecursionError) as error:
                    yield Rejection(where, "", f"The line is not a JSON object ({error}).")
                    continue
                try:
                    yield _recording(row, path.parent)
                except CorpusError as error:
                    name = row.get("id")
                    audio = row.get("audio")
                    yield Rejection(
                        name if isinstance(name, str) and name else where,
                        audio if isinstance(audio, str) else "",
                        f"In {where}, {error}",
                    )

    def _lists(self, corpus: Path) -> list[Path]:
        if corpus.suffix.lower() == ".jsonl" and corpus.is_file():
            return [corpus]
        return sorted(p for p in corpus.glob("*.jsonl") if p.is_file()) if corpus.is_dir() else []


def _recording(row: dict[str, Any], folder: Path) -> Recording:
    name, audio = row.get("id"), row.get("audio")
    if not isinstance(name, str) or not name:
        raise CorpusError("the id is missing or is not a string.")
    if not isinstance(audio, str):
        raise CorpusError("the audio path is missing or is not a string.")
    text, speaker, split, phonemes = (
        row.get(key) for key in ("text", "speaker", "split", "phonemes")
    )
    for key, value in (("id", name), ("text", text), ("speaker", speaker), ("phonemes", phonemes)):
        if value is not None and not isinstance(value, str):
            raise CorpusError(f"the {key} is not a string.")
        if value is not None and value != storable(value):
            raise CorpusError(f"the {key} holds half of a character pair.")
    if split is not None and split not in SPLITS:
        raise CorpusError(f"the split {split!r} is none of {', '.join(SPLITS)}.")
    durations = _durations(row)
    if (problem := alignment_problem(phonemes, durations)) is not None:
        raise CorpusError(problem)
    return Recording(
        id=name,
        audio=resolve_audio(audio, folder),
        text=None if text is None else clean_text(text),
        speaker=speaker or "",
        split=split,
        phonemes=phonemes,
        durations_s=durations,
    )


def _durations(row: dict[str, Any]) -> tuple[float, ...] | None:
    seconds = row.get("durations_s")
    units = row.get("durations")
    raw = seconds if seconds is not None else units
    if raw is None:
        return None
    offset = 0.0 if seconds is not None else row.get("offset_s", 0.0)
    if not isinstance(raw, list) or not all(_is_number(value) for value in [offset, *raw]):
        raise CorpusError("the durations are not a list of numbers.")
    scale = 1.0 if seconds is not None else DURATION_UNIT_S
    durations = [value * scale for value in raw]
    # The time trimmed from the start is taken off the first symbols, as a rule off the silence
    for index, duration in enumerate(durations):
        taken = min(duration, max(0.0, offset)) if duration > 0 else 0.0
        durations[index], offset = duration - taken, offset - taken
    return tuple(durations)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
