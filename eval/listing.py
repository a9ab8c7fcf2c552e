"""Lists of sentences to speak, JSON lines: what `eval tts` reads and `eval list` writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data_prep.manifest import read_lines, resolve_audio, write_json_lines
from ..errors import CorpusError
from ..slm.speak import shipped_voices

PROTOCOLS = ("cross", "continual", "hard")
_STRINGS = (
    "id",
    "text",
    "prompt",
    "prompt_text",
    "reference",
    "speaker",
    "protocol",
    "kind",
)
_KEYS = {*_STRINGS, "cut_s"}


@dataclass(frozen=True)
class Sentence:
    """One sentence to speak in a voice.

    Attributes:
        id: Name in the report.
        text: What to say.
        prompt: Recording of the voice.
        prompt_text: What the prompt says, if the speaker shall know it.
        reference: A true recording of `text`, if there is one.
        speaker: Whose voice, so that other speakers' prompts can be told; empty if unknown.
        protocol: One of `PROTOCOLS`, or empty; each has rows of its own in the report.
        kind: What makes the sentence hard, or any other group to count by; may be empty.
        cut_s: Seconds at which the prompt ends and the reference begins: with the continual
            protocol both are one recording. None takes both whole.
    """

    id: str
    text: str
    prompt: Path
    prompt_text: str | None = None
    reference: Path | None = None
    speaker: str = ""
    protocol: str = ""
    kind: str = ""
    cut_s: float | None = None


def read_listing(path: Path) -> list[Sentence]:
    """Read a list: one JSON object a line with `text` and `prompt`, the rest optional.

    Paths are absolute or below the list's folder; a prompt may also be a shipped voice's name.

    Raises:
        CorpusError: If the file is missing or empty, or a line is not a sentence whose recordings
            exist; the message names file and line.
    """
    sentences: list[Sentence] = []
    for number, line in read_lines(path):
        try:
            sentences.append(_parse(line, path.parent, f"{len(sentences) + 1:04d}"))
        except CorpusError as error:
            raise CorpusError(f"{path}, line {number}: {error}") from error
    if not sentences:
        raise CorpusError(f'{path} holds no sentences; give lines of {{"text": …, "prompt": …}}.')
    return sentences


def write_listing(path: Path, sentences: Sequence[Sentence]) -> None:
    """Write a list that `read_listing` reads; recordings below its folder are named from there."""
    folder = path.parent.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    shipped = {recording: name for name, recording in shipped_voices().items()}
    write_json_lines(path, (_as_row(sentence, folder, shipped) for sentence in sentences))


def _as_row(sentence: Sentence, folder: Path, shipped: dict[Path, str]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in (*_STRINGS, "cut_s"):
        value = getattr(sentence, name)
        if value in shipped:
            value = shipped[value]
        if isinstance(value, Path):
            inside = value.is_relative_to(folder)
            value = value.relative_to(folder).as_posix() if inside else str(value)
        if value not in (None, ""):
            row[name] = value
    return row


def _parse(line: bytes, folder: Path, default_id: str) -> Sentence:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"this is not JSON ({error}).") from error
    if not isinstance(row, dict):
        raise CorpusError("this is not a JSON object.")
    if unknown := sorted(set(row) - _KEYS):
        raise CorpusError(
            f"unknown key {', '.join(unknown)}; known are {', '.join(sorted(_KEYS))}."
        )
    if wrong := sorted(k for k, v in row.items() if k != "cut_s" and not isinstance(v, str)):
        raise CorpusError(f"{', '.join(wrong)} must be a string.")
    if not row.get("text", "").strip():
        raise CorpusError("the text is missing or empty.")
    if not row.get("prompt"):
        raise CorpusError("the prompt is missing or empty; name a recording or a shipped voice.")
    named = {
        key: resolve_audio(row[key], folder) for key in ("prompt", "reference") if row.get(key)
    }
    if not named["prompt"].is_file():
        named["prompt"] = shipped_voices().get(row["prompt"], named["prompt"])
    if absent := [str(recording) for recording in named.values() if not recording.is_file()]:
        raise CorpusError(f"the recording {absent[0]} does not exist.")
    protocol, cut = row.get("protocol", ""), row.get("cut_s")
    if protocol and protocol not in PROTOCOLS:
        raise CorpusError(f"the protocol {protocol} is none of {', '.join(PROTOCOLS)}.")
    if cut is not None and (type(cut) not in (int, float) or not 0 < cut < float("inf")):
        raise CorpusError("cut_s must be a number of seconds above 0.")
    if protocol == "continual" and (cut is None or not row.get("prompt_text")):
        raise CorpusError(
            "the continual protocol needs cut_s, where the prompt ends, and prompt_text, what is "
            "said until then; `speechlm eval list` finds both."
        )
    return Sentence(
        id=row.get("id") or default_id,
        text=row["text"],
        prompt=named["prompt"],
        prompt_text=row.get("prompt_text"),
        reference=named.get("reference"),
        speaker=row.get("speaker", ""),
        protocol=protocol,
        kind=row.get("kind", ""),
        cut_s=None if cut is None else float(cut),
    )
