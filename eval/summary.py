"""Several reports on one page: a table for each kind of report, a row for each name and system.

Reports of one name are draws of one measurement, such as seeds: their figures are averaged, and the
lowest and highest stand beside the mean.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..tokenizer.files import write_atomically
from .report import JSON_NAME, Row, cell_text, markdown_table

_TABLES = ("systems", "quality")  # what systems are compared by: of speech; of everything else
_MUST_AGREE = ("list", "codec", "precision", "recognizer", "speaker_encoder", "mos_predictor")
_BOUNDS = ("_low", "_high")  # over the sentences of one draw; they have no mean


@dataclass(frozen=True)
class _Read:
    """One report: its kind, its facts, the table of its systems, and what it could not measure."""

    folder: Path
    title: str
    facts: dict[str, Any]
    rows: list[Row]
    notes: list[str]


def summarise(reports: Sequence[tuple[str, Path]], out: Path) -> str:
    """Write the tables of several reports as one Markdown page.

    Args:
        reports: (name, folder) of each; those of one name are averaged.
        out: The page to write.

    Returns:
        The page.

    Raises:
        ConfigError: If there is no report, a folder holds none, or those of one name are not draws of one
            measurement: another kind, list, codec or scorer.
    """
    if not reports:
        raise ConfigError("There is no report to show; give NAME=FOLDER for each.")
    named: dict[str, list[_Read]] = {}
    for name, folder in reports:
        named.setdefault(name, []).append(_read(folder))
    kinds: dict[str, list[Row]] = {}
    for name, read in named.items():
        _require_one_measurement(name, read)
        kinds.setdefault(read[0].title, []).extend(
            _mean(name, rows) for rows in zip(*(report.rows for report in read), strict=True)
        )
    parts = [f"## {title}\n\n{markdown_table(rows)}\n" for title, rows in kinds.items()]
    notes = dict.fromkeys(note for read in named.values() for each in read for note in each.notes)
    if notes:
        parts.append("## Notes\n\n" + "".join(f"- {note}\n" for note in notes))
    page = "\n".join(parts)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, page.encode())
    return page


def _read(folder: Path) -> _Read:
    path = folder / JSON_NAME
    try:
        report = json.loads(path.read_text("utf-8"))
        title, facts, tables = report["title"], report["facts"], report["tables"]
        rows = next(tables[name] for name in _TABLES if tables.get(name))
        notes = [str(note) for note in report.get("notes", [])]
        return _Read(folder, title, facts, [dict(row) for row in rows], notes)
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise ConfigError(
            f"{folder} holds no whole report of codecs or speech; name a folder that `speechlm eval` wrote."
        ) from error


def _require_one_measurement(name: str, reports: Sequence[_Read]) -> None:
    first = reports[0]
    for other in reports[1:]:
        unequal = [key for key in _MUST_AGREE if other.facts.get(key) != first.facts.get(key)]
        if other.title != first.title:
            unequal.append("kind")
        elif [_words(row) for row in other.rows] != [_words(row) for row in first.rows]:
            unequal.append("systems")
        if unequal:
            raise ConfigError(
                f"The reports {first.folder} and {other.folder} differ in {', '.join(unequal)} and "
                f"have no mean; give one of them another name than {name}."
            )


def _words(row: Row) -> Row:
    return {key: value for key, value in row.items() if isinstance(value, str)}


def _mean(name: str, rows: Sequence[Row]) -> Row:
    mean: Row = {"of": name, **_words(rows[0]), "reports": len(rows)}
    for key in rows[0]:
        if key in mean:
            continue
        values = [row.get(key) for row in rows]
        if len(rows) > 1 and key.endswith(_BOUNDS):
            mean[key] = None
        elif all(value == values[0] for value in values):
            mean[key] = values[0]
        elif all(isinstance(value, int | float) for value in values):
            numbers = [float(value) for value in values if value is not None]
            spread = f"{cell_text(min(numbers))} to {cell_text(max(numbers))}"
            mean[key] = f"{cell_text(sum(numbers) / len(numbers))} ({spread})"
    return mean
