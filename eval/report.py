"""One report: figures as JSON for machines, as Markdown for people, plots and sounds beside."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ConfigError, MissingExtra
from ..tokenizer.audio import write_audio
from ..tokenizer.files import write_atomically

Row = dict[str, Any]
JSON_NAME = "report.json"
MARKDOWN_NAME = "report.md"
ITEMS_NAME = "items.jsonl"


@dataclass
class Report:
    """What an evaluation found, gathered piece by piece and then saved.

    Attributes:
        folder: Where everything goes; made if absent. The `report.json` of an older report is
            taken away first, so a folder with one is always complete.
        title: Heading.
        facts: What was measured and with what: without it no figure has a meaning.
        tables: By name, rows that share their keys; nested values stand in the JSON only.
        notes: Sentences: what was left out, and why.
        figures: By file name in the folder, the caption.
        sounds: By file name in the folder, the caption.
        items: One row a recording or sentence, for tests on pairs; written to `items.jsonl`.
    """

    folder: Path
    title: str
    facts: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, list[Row]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    sounds: dict[str, str] = field(default_factory=dict)
    items: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigError(f"{self.folder} is a file; name a folder for the report.")
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / JSON_NAME).unlink(missing_ok=True)

    def note(self, sentence: str) -> None:
        """Add a sentence once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def add_figure(self, name: str, caption: str, draw: Callable[[Path], None]) -> None:
        """Let `draw` write a PNG of this name; without matplotlib a note says why it is absent."""
        try:
            draw(self.folder / name)
        except MissingExtra as error:
            self.note(str(error))
        else:
            self.figures[name] = caption

    def add_sound(self, name: str, caption: str, waveform: Tensor, sampling_rate: int) -> None:
        """Write float `[L]` as an audio file of this name."""
        write_audio(self.folder / name, waveform, sampling_rate)
        self.sounds[name] = caption

    def to_dict(self) -> dict[str, Any]:
        """Plain values as in `report.json`; a number that is not finite is None."""
        return {
            "title": self.title,
            "facts": _plain(self.facts),
            "tables": _plain(self.tables),
            "notes": list(self.notes),
            "figures": dict(self.figures),
            "sounds": dict(self.sounds),
        }

    def to_markdown(self) -> str:
        """Tables and images for people."""
        parts = [f"# {self.title}", ""]
        parts += [f"- {_label(key)}: {cell_text(value)}" for key, value in self.facts.items()]
        for name, rows in self.tables.items():
            parts += ["", f"## {_label(name).capitalize()}", "", markdown_table(rows)]
        if self.notes:
            parts += ["", "## Notes", ""] + [f"- {note}" for note in self.notes]
        for name, caption in self.figures.items():
            parts += ["", f"![{caption}]({name})", "", caption]
        if self.sounds:
            parts += ["", "## Sounds", ""]
            parts += [f"- [{name}]({name}): {caption}" for name, caption in self.sounds.items()]
        return "\n".join(parts) + "\n"

    def save(self) -> dict[str, Any]:
        """Write `items.jsonl`, `report.md` and last `report.json`, each whole or not at all.

        Returns:
            What `report.json` holds.
        """
        content = self.to_dict()
        lines = "".join(json.dumps(_plain(row), allow_nan=False) + "\n" for row in self.items)
        write_atomically(self.folder / ITEMS_NAME, lines.encode())
        write_atomically(self.folder / MARKDOWN_NAME, self.to_markdown().encode())
        text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
        write_atomically(self.folder / JSON_NAME, text.encode() + b"\n")
        return content


def markdown_table(rows: Sequence[Row]) -> str:
    """A Markdown table of the plain values of rows, without the columns that are all empty."""
    keys = [
        key
        for key in dict.fromkeys(key for row in rows for key in row)
        if any(row.get(key) is not None for row in rows)
        and not any(isinstance(row.get(key), Mapping | list | tuple) for row in rows)
    ]
    if not keys:
        return "Nothing was measured."
    lines = ["| " + " | ".join(map(_label, keys)) + " |", "|" + " --- |" * len(keys)]
    lines += ["| " + " | ".join(cell_text(row.get(key)) for key in keys) + " |" for row in rows]
    return "\n".join(lines)


def _label(key: str) -> str:
    return key.replace("_", " ")


def cell_text(value: Any) -> str:
    """A value as it stands in a table: three digits, `n/a` where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "n/a"
    if isinstance(value, float):
        return (
            f"{value:.0f}"
            if abs(value) >= 1000
            else f"{value:.3g}"
            if abs(value) >= 10
            else f"{value:.3f}"
        )
    if isinstance(value, Mapping):
        return ", ".join(f"{_label(str(key))} {cell_text(entry)}" for key, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(cell_text, value))
    return " ".join(str(value).replace("|", "\\|").split())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
