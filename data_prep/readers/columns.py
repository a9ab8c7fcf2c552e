"""The columns of lists: what they are called, and how a row becomes a recording."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path, PurePath
from typing import Any

from ...errors import ConfigError, CorpusError
from ..manifest import alignment_problem, resolve_audio, storable
from .entry import ENTRY, TRANSCRIPT, Recording, Rejection, clean_text, split_of

DURATION_UNIT_S = 0.025  # one unit of an integer `durations` column (Kokoro's duration predictor)
# Kokoro's boundaries, taken as predicted, come late: by 57 ms at the onsets after pauses, by 64 ms
# for an aligner that never saw them (docs/alignment.md). Its vocoder does not put that time out.
VOCODER_LEAD_S = 0.06

# Our own name first, then those of NeMo, Coqui, Common Voice and the Hub's speech datasets. An
# inexact transcript (`text_asr`) is never taken unasked.
ALIASES: dict[str, tuple[str, ...]] = {
    "id": ("id", "utt_id", "utterance_id", "segment_id"),
    "audio": (
        "audio", "audio_filepath", "audio_path", "audio_file", "file_name", "wav", "path", "file",
    ),
    "text": (
        "text", "transcript", "transcription", "sentence", "text_normalized", "normalized_text",
    ),
    "speaker": ("speaker", "speaker_id", "speaker_name", "spk_id", "spk", "client_id"),
    "split": ("split",),
    "phonemes": ("phonemes",),
    "durations_s": ("durations_s",),
    "durations": ("durations",),
    "offset_s": ("offset_s",),
    "start_s": ("start_s", "offset"),
    "end_s": ("end_s",),
    "duration": ("duration",),
}  # fmt: skip


def find_columns(names: Collection[str], chosen: Mapping[str, str]) -> dict[str, str]:
    """Map our column names to those of a list: the chosen ones, else the first known alias.

    Raises:
        ConfigError: If `chosen` names a column that we do not know.
    """
    if unknown := sorted(set(chosen) - set(ALIASES)):
        raise ConfigError(
            f"columns names {', '.join(unknown)}; a list has {', '.join(ALIASES)} to choose."
        )
    found = {key: [name for name in aliases if name in names] for key, aliases in ALIASES.items()}
    found |= {key: [name] if name in names else [] for key, name in chosen.items()}
    return {key: there[0] for key, there in found.items() if there}


def entry_from_row(
    row: Mapping[str, Any], folder: Path, where: str, split: str | None = None
) -> Recording | Rejection:
    """Turn a row (by our column names) into a recording, or say why it is none.

    Args:
        row: The columns that are there.
        folder: Where relative audio paths begin.
        where: File and line, for messages.
        split: The split of rows that name none.
    """
    kind = TRANSCRIPT
    try:
        text = _text(row.get("text"))
        kind = ENTRY
        return recording_from_row({**row, "text": text}, folder, split)
    except CorpusError as error:
        name, audio = row.get("id"), row.get("audio")
        return Rejection(
            storable(name) if isinstance(name, str) and name else where,
            audio if isinstance(audio, str) else "",
            f"In {where}, {error}",
            kind,
        )


def recording_from_row(
    row: Mapping[str, Any],
    folder: Path,
    split: str | None = None,
    *,
    audio: Path | None = None,
    content: bytes | None = None,
) -> Recording:
    """Turn a row (by our column names) into a recording.

    Raises:
        CorpusError: If a value is missing or makes no sense.
    """
    named = row.get("audio")
    if audio is None:
        if not isinstance(named, str) or not named:
            raise CorpusError("the audio path is missing or is not a string.")
        audio = resolve_audio(named, folder)
    start_s, end_s = _part(row)
    name = _name(row, "id")
    if name is None:  # the path stands in; several parts of one recording differ by their start
        name = storable(PurePath(str(named)).with_suffix("").as_posix().lstrip("/"))
        name += f"@{start_s:.3f}" if start_s or end_s is not None else ""
    phonemes = row.get("phonemes") or None
    if phonemes is not None and (not isinstance(phonemes, str) or phonemes != storable(phonemes)):
        raise CorpusError("the phonemes are not a string, or not UTF-8.")
    given = row.get("split")
    if given is not None and given != "":
        split = split_of(given) if isinstance(given, str) else None
        if split is None:
            raise CorpusError(f"the split {given!r} is none of train, valid (or dev), test.")
    durations = _durations(row)
    if (problem := alignment_problem(phonemes, durations)) is not None:
        raise CorpusError(problem)
    return Recording(
        id=name,
        audio=audio,
        text=_text(row.get("text")),
        speaker=_name(row, "speaker") or "",
        split=split,
        phonemes=phonemes,
        durations_s=durations,
        start_s=start_s,
        end_s=end_s,
        content=content,
    )


def _text(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise CorpusError("the text is not a string.")
    return None if value is None else clean_text(value)


def _name(row: Mapping[str, Any], key: str) -> str | None:
    value = row.get(key)
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):  # speaker numbers are common
        return str(value)
    if not isinstance(value, str) or value != storable(value):
        raise CorpusError(f"the {key} is not a string, or not UTF-8.")
    return value


def _part(row: Mapping[str, Any]) -> tuple[float, float | None]:
    """Start and end; NeMo's lists give the duration in place of the end."""
    start = _seconds(row, "start_s") or 0.0
    end = _seconds(row, "end_s")
    if end is None and row.get("start_s") not in (None, ""):
        length = _seconds(row, "duration")
        end = None if length is None else start + length
    if start < 0 or (end is not None and end <= start):
        raise CorpusError(f"from {start:g} s to {end:g} s is no part of a recording.")
    return start, end


def _seconds(row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    if value is None or value == "":
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise CorpusError(f"the {key} is not a number of seconds.")
    return seconds


def _durations(row: Mapping[str, Any]) -> tuple[float, ...] | None:
    seconds, units = (_numbers(row.get(key)) for key in ("durations_s", "durations"))
    if seconds is not None:
        return tuple(seconds)
    if units is None:
        return None
    # The time trimmed from the start is taken off the first symbols, as a rule off the silence
    offset = max(0.0, _seconds(row, "offset_s") or 0.0) + VOCODER_LEAD_S
    durations = [value * DURATION_UNIT_S for value in units]
    for index, duration in enumerate(durations):
        taken = min(duration, offset) if duration > 0 else 0.0
        durations[index], offset = duration - taken, offset - taken
    return tuple(durations)


def _numbers(value: object) -> list[float] | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):  # a table's cell holds the list as text
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"the durations are no list of numbers ({error}).") from error
    if not isinstance(value, list) or not all(
        isinstance(number, int | float) and not isinstance(number, bool) for number in value
    ):
        raise CorpusError("the durations are not a list of numbers.")
    return value
