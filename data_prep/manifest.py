"""The manifest: one JSON line an utterance, the only thing that later steps know of a corpus.

Readers of foreign corpora (`readers/`) are lenient and explain; this file is strict, because a
manifest is our own product, and a line that does not fit means that somebody damaged it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path, PurePath
from typing import Any

from ..errors import CorpusError
from ..tokenizer.files import write_atomically
from ..tokenizer.paths import require_file

SPLITS = ("train", "valid", "test")
MAX_LINE_BYTES = 1 << 20
_REQUIRED: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "audio": str,
    "seconds": (int, float),
    "text": str,
    "speaker": str,
    "split": str,
}
_OPTIONAL: dict[str, type | tuple[type, ...]] = {
    "phonemes": str,
    "durations_s": list,
    "cleaning": dict,
}


@dataclass(frozen=True)
class CleaningRecord:
    """What cleaning measured on one recording and changed in it; None where a step did nothing.

    Attributes:
        part_s: Start and end in the longer recording that it was cut out of.
        num_channels: Channels that became one.
        trimmed_s: Seconds cut from the head and from the tail.
        original_hz: Sampling rate before resampling.
        loudness_lufs: Loudness before levelling.
        gain_db: Gain that was applied.
        clipped_share: Share of the samples on clipped plateaus.
        bandwidth_hz: Frequency up to which the recording reaches.
        characters_per_second: Letters of the transcript per second of speech.
        apparent_speed: Factor by which the recording seems to run too fast.
    """

    part_s: tuple[float, float] | None = None
    num_channels: int | None = None
    trimmed_s: tuple[float, float] | None = None
    original_hz: int | None = None
    loudness_lufs: float | None = None
    gain_db: float | None = None
    clipped_share: float | None = None
    bandwidth_hz: float | None = None
    characters_per_second: float | None = None
    apparent_speed: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The steps that did something."""
        return {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> CleaningRecord:
        """The inverse of `to_json`.

        Raises:
            CorpusError: If a key is unknown or a value is not what that key holds.
        """
        kinds = {f.name: str(f.type) for f in fields(cls)}
        if unknown := sorted(set(row) - set(kinds)):
            raise CorpusError(f"unknown key {', '.join(unknown)} in cleaning.")
        values: dict[str, Any] = {}
        for key, value in row.items():
            pair = kinds[key].startswith("tuple")
            numbers = value if pair and isinstance(value, list | tuple) else [value]
            numeric = all(isinstance(n, int | float) and math.isfinite(n) for n in numbers)
            if len(numbers) != 1 + pair or not numeric or any(isinstance(n, bool) for n in numbers):
                raise CorpusError(
                    f"{key} in cleaning is not {'two numbers' if pair else 'a number'}."
                )
            values[key] = tuple(numbers) if pair else value
        return cls(**values)


@dataclass(frozen=True)
class Utterance:
    """One recording with what is known about it.

    Attributes:
        id: Unique within the manifest.
        audio: Absolute path of the recording.
        seconds: Duration.
        text: Transcript; empty if unknown.
        speaker: Name of the speaker; empty if unknown, then no prompt may be taken from elsewhere.
        split: One of `train`, `valid`, `test`.
        phonemes: One character a symbol, without the boundary symbols, or None.
        durations_s: Seconds of every symbol with the silence at both ends first and last
            (`len(phonemes) + 2` numbers), or None.
        cleaning: What cleaning measured and changed, or None.
    """

    id: str
    audio: Path
    seconds: float
    text: str
    speaker: str
    split: str
    phonemes: str | None = None
    durations_s: tuple[float, ...] | None = None
    cleaning: CleaningRecord | None = None

    def __post_init__(self) -> None:
        if not self.id:
            raise CorpusError("an utterance has an empty id.")
        if self.split not in SPLITS:
            raise CorpusError(f"the split {self.split!r} is none of {', '.join(SPLITS)}.")
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise CorpusError(f"{self.seconds} is not a duration in seconds.")
        if (problem := alignment_problem(self.phonemes, self.durations_s)) is not None:
            raise CorpusError(problem)


def alignment_problem(phonemes: str | None, durations_s: tuple[float, ...] | None) -> str | None:
    """Say what is wrong between phonemes and their durations, or None if they fit together."""
    if durations_s is None:
        return None
    if phonemes is None:
        return "there are durations without phonemes."
    if len(durations_s) != len(phonemes) + 2:
        return (
            f"{len(durations_s)} durations do not fit {len(phonemes)} phonemes, "
            "which take two more for the silence at both ends."
        )
    if not all(math.isfinite(d) and d >= 0 for d in durations_s):
        return "a duration is negative or not finite."
    return None


def resolve_audio(named: str, folder: Path) -> Path:
    """Turn the path that a line names into an absolute one.

    A relative path may not climb out of the folder that its list lies in: a list from elsewhere
    names its own recordings. An absolute path is taken as it stands.

    Raises:
        CorpusError: If the path is empty, holds a NUL, or climbs out of the folder.
    """
    if not named or "\0" in named:
        raise CorpusError("the audio path is empty or holds a NUL character.")
    path = PurePath(named)
    if path.is_absolute():
        return Path(path)
    if ".." in path.parts:
        raise CorpusError(
            f"the audio path {named!r} leaves the folder of its list; give an absolute path."
        )
    return folder.absolute() / path


def read_manifest(path: str | os.PathLike[str]) -> list[Utterance]:
    """Read a manifest in its own order.

    Raises:
        CorpusError: If the file is missing or empty, an id comes twice, or a line is not exactly
            an utterance; the message names file and line.
    """
    name = Path(path)
    utterances: list[Utterance] = []
    seen: set[str] = set()
    for number, line in read_lines(name):
        try:
            utterance = _parse(line, name.parent)
        except CorpusError as error:
            raise CorpusError(
                f"{name}, line {number}: {error} Run `speechlm prepare` again."
            ) from error
        if utterance.id in seen:
            raise CorpusError(
                f"{name}, line {number}: the id {utterance.id!r} is there twice; ids must differ."
            )
        seen.add(utterance.id)
        utterances.append(utterance)
    if not utterances:
        raise CorpusError(
            f"{name} holds no utterances; give a manifest written by `speechlm prepare`."
        )
    return utterances


def require_manifest(path: Path) -> Path:
    """The path of a manifest that is there; what it holds is not looked at.

    Raises:
        CorpusError: If it is no file.
    """
    inside = path / "manifest.jsonl"
    hint = str(inside) if inside.is_file() else "the path of a JSONL manifest"
    return require_file(path, CorpusError, hint)


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, bytes) of a JSON-lines file, blank lines left out.

    Raises:
        CorpusError: If the file cannot be opened or a line is longer than 1 MiB.
    """
    require_manifest(path)
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise CorpusError(f"{path}, line {number}: longer than 1 MiB; this is no manifest.")
            if line.strip():
                yield number, line


def write_manifest(path: str | os.PathLike[str], utterances: Iterable[Utterance]) -> None:
    """Write a manifest atomically, audio below the manifest's folder by relative path."""
    target = Path(path)
    folder = target.parent.absolute()
    write_json_lines(target, (_as_row(utterance, folder) for utterance in utterances))


def storable(text: str) -> str:
    """Spell out what UTF-8 has no bytes for, such as the odd bytes of an old file name."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_json_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line, atomically."""
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    # A path need not be UTF-8; the surrogates that stand for such bytes must survive the trip
    write_atomically(path, "".join(lines).encode("utf-8", "surrogateescape"))


def _parse(line: bytes, folder: Path) -> Utterance:
    try:
        row = json.loads(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"this is not JSON ({error}).") from error
    if not isinstance(row, dict):
        raise CorpusError("this is not a JSON object.")
    if missing := sorted(set(_REQUIRED) - set(row)):
        raise CorpusError(f"{', '.join(missing)} missing.")
    if unknown := sorted(set(row) - set(_REQUIRED) - set(_OPTIONAL)):
        raise CorpusError(f"unknown key {', '.join(unknown)}.")
    for key, kind in (_REQUIRED | _OPTIONAL).items():
        if key in row and (not isinstance(row[key], kind) or isinstance(row[key], bool)):
            raise CorpusError(f"{key} has the wrong type ({type(row[key]).__name__}).")
    durations = row.get("durations_s")
    if durations is not None and not all(
        isinstance(d, int | float) and not isinstance(d, bool) for d in durations
    ):
        raise CorpusError("durations_s holds something that is not a number.")
    return Utterance(
        id=row["id"],
        audio=resolve_audio(row["audio"], folder),
        seconds=float(row["seconds"]),
        text=row["text"],
        speaker=row["speaker"],
        split=row["split"],
        phonemes=row.get("phonemes"),
        durations_s=None if durations is None else tuple(float(d) for d in durations),
        cleaning=CleaningRecord.from_json(row["cleaning"]) if "cleaning" in row else None,
    )


def _as_row(utterance: Utterance, folder: Path) -> dict[str, Any]:
    audio = utterance.audio
    row: dict[str, Any] = {
        "id": utterance.id,
        "audio": audio.relative_to(folder).as_posix()
        if audio.is_relative_to(folder)
        else str(audio),
        "seconds": round(utterance.seconds, 6),
        "text": utterance.text,
        "speaker": utterance.speaker,
        "split": utterance.split,
    }
    if utterance.phonemes is not None:
        row["phonemes"] = utterance.phonemes
    if utterance.durations_s is not None:
        row["durations_s"] = [round(d, 6) for d in utterance.durations_s]
    if utterance.cleaning is not None:
        row["cleaning"] = utterance.cleaning.to_json()
    return row
