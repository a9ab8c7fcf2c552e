"""A list of lines to speak: JSON lines, one object an utterance."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from ..errors import CorpusError
from .prompt import Voice

MAX_FILE_BYTES = 64 << 20
_STRINGS = ("text", "prompt", "prompt_text", "out")


@dataclass(frozen=True)
class Line:
    """One line to speak.

    Attributes:
        text: What to say.
        prompt: As in `Speaker.say`.
        prompt_text: What the prompt says, if known.
        seed: The same seed gives the same speech.
        out: Where to write it, relative to the folder of the results; None for nowhere.
    """

    text: str
    prompt: str | os.PathLike[str] | Tensor | Voice | None = None
    prompt_text: str | None = None
    seed: int = 0
    out: str | None = None


def read_lines(path: str | os.PathLike[str]) -> list[Line]:
    """Read a list: `text`, and optionally `prompt`, `prompt_text`, `seed` and `out` a line.

    A prompt that is a file beside the list is taken from there. A line without `out` is written to
    its number: `0001.wav`.

    Raises:
        CorpusError: If the file cannot be read or a line is not what it should be, with its number.
    """
    name = Path(path)
    if not name.is_file() or name.stat().st_size > MAX_FILE_BYTES:
        raise CorpusError(
            f"{name} is no list of at most {MAX_FILE_BYTES >> 20} MiB; give a file of JSON lines, "
            'such as {"text": "Hello."}.'
        )
    lines: list[Line] = []
    written: dict[str, int] = {}
    try:
        texts = name.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise CorpusError(f"{name} is not UTF-8 text; save it as such.") from error
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        where = f"{name} line {number}"
        line = _line(text, where, name.parent, f"{len(lines) + 1:04d}.wav")
        if line.out in written:
            raise CorpusError(
                f"{where} writes {line.out} as line {written[line.out]} does; give it another name."
            )
        written[str(line.out)] = number
        lines.append(line)
    if not lines:
        raise CorpusError(f"{name} holds no line to speak; write one JSON object a line.")
    return lines


def _line(text: str, where: str, folder: Path, default_out: str) -> Line:
    try:
        raw: Any = json.loads(text)
    except ValueError as error:
        raise CorpusError(f"{where} is not JSON ({error}); write one object a line.") from error
    if not isinstance(raw, dict) or "text" not in raw:
        raise CorpusError(f'{where} has no "text"; write an object such as {{"text": "Hello."}}.')
    if unknown := sorted(set(raw) - {*_STRINGS, "seed"}):
        raise CorpusError(
            f"{where} has the unknown key {unknown[0]!r}; "
            "known are text, prompt, prompt_text, seed and out."
        )
    for key in _STRINGS:
        if not isinstance(raw.get(key, ""), str) and not (key != "text" and raw[key] is None):
            raise CorpusError(f"{where}: {key} must be a string.")
    seed = raw.get("seed", 0)
    if type(seed) is not int or not 0 <= seed < 1 << 32:
        raise CorpusError(f"{where}: seed must be a whole number from 0 to 2^32 - 1.")
    prompt = raw.get("prompt")
    if prompt is not None and (folder / prompt).is_file():
        prompt = str(folder / prompt)
    out = raw.get("out") or default_out
    place = PurePosixPath(out.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts or ":" in out:
        raise CorpusError(f"{where}: out must name a file below the folder of the results.")
    return Line(raw["text"], prompt, raw.get("prompt_text"), seed, out)
