"""Lists of sentences to speak: what `eval tts` reads, and how one is drawn from held-out speech."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data_prep.manifest import (
    Utterance,
    read_lines,
    read_manifest,
    resolve_audio,
    write_json_lines,
)
from ..errors import CorpusError

# A shorter prompt says too little of a voice; of a longer one a speaker only uses a part.
PROMPT_SECONDS = (2.0, 12.0)
MIN_WORDS = 4
_KEYS = {"id", "text", "prompt", "prompt_text", "reference", "speaker"}


@dataclass(frozen=True)
class Sentence:
    """One sentence to speak in a voice.

    Attributes:
        id: Name in the report.
        text: What to say.
        prompt: Recording of the voice.
        prompt_text: What the prompt says, if the speaker shall know it.
        reference: A true recording of `text` in that voice, if there is one.
        speaker: Whose voice, so that other speakers' prompts can be told; empty if unknown.
    """

    id: str
    text: str
    prompt: Path
    prompt_text: str | None = None
    reference: Path | None = None
    speaker: str = ""


def read_listing(path: Path) -> list[Sentence]:
    """Read a list: one JSON object a line with `text` and `prompt`, the rest optional.

    Paths are absolute or below the list's folder.

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


def make_cloning_list(
    manifest: Path, out: Path, num: int = 20, split: str = "valid", seed: int = 0
) -> list[Sentence]:
    """Draw sentences for cross-sentence cloning (VALL-E, section 5.1) from held-out speech.

    Every sentence's text and reference are one utterance, its prompt another one of the same
    speaker; speakers take turns, so `num` sentences cover as many voices as there are. No
    utterance is drawn twice as a text. Prompts come without their transcripts. The same manifest
    and seed give the same list.

    Args:
        manifest: Manifest of `prepare`.
        out: The list to write, JSON lines.
        num: Sentences wanted; fewer come back where the split has fewer.
        split: Held-out split.
        seed: Of the draw.

    Raises:
        CorpusError: If no speaker of the split has a text and another recording to prompt with.
    """
    voices: dict[str, list[Utterance]] = {}
    for utterance in read_manifest(manifest):
        if utterance.split == split and utterance.speaker:
            voices.setdefault(utterance.speaker, []).append(utterance)
    draw = random.Random(seed)
    turns = []
    for speaker in sorted(voices):
        spoken = sorted(voices[speaker], key=lambda utterance: utterance.id)
        draw.shuffle(spoken)
        turns.append(_pairs(spoken))
    draw.shuffle(turns)
    longest = max(map(len, turns), default=0)
    chosen = [pairs[turn] for turn in range(longest) for pairs in turns if turn < len(pairs)][:num]
    if not chosen:
        raise CorpusError(
            f"{manifest} has no speaker in the split {split} with a text of {MIN_WORDS} words and "
            f"another recording of {PROMPT_SECONDS[0]:.0f} to {PROMPT_SECONDS[1]:.0f} s as prompt."
        )
    sentences = [
        Sentence(text.id, text.text, prompt.audio, None, text.audio, text.speaker)
        for text, prompt in chosen
    ]
    folder = out.parent.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    write_json_lines(out, (_as_row(sentence, folder) for sentence in sentences))
    return sentences


def _pairs(spoken: list[Utterance]) -> list[tuple[Utterance, Utterance]]:
    """(text, prompt) of one speaker, each text with the next utterance that can be a prompt."""
    shortest, longest = PROMPT_SECONDS
    pairs = []
    for index, text in enumerate(spoken):
        others = spoken[index + 1 :] + spoken[:index]
        prompts = [other for other in others if shortest <= other.seconds <= longest]
        if prompts and len(text.text.split()) >= MIN_WORDS:
            pairs.append((text, prompts[0]))
    return pairs


def _as_row(sentence: Sentence, folder: Path) -> dict[str, Any]:
    def place(path: Path) -> str:
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)

    row: dict[str, Any] = {"id": sentence.id, "text": sentence.text}
    row["prompt"] = place(sentence.prompt)
    if sentence.reference is not None:
        row["reference"] = place(sentence.reference)
    row["speaker"] = sentence.speaker
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
    if wrong := sorted(key for key, value in row.items() if not isinstance(value, str)):
        raise CorpusError(f"{', '.join(wrong)} must be a string.")
    if not row.get("text", "").strip() or not row.get("prompt"):
        raise CorpusError("the text or the prompt is missing or empty.")
    named = {
        key: resolve_audio(row[key], folder) for key in ("prompt", "reference") if row.get(key)
    }
    if absent := [str(recording) for recording in named.values() if not recording.is_file()]:
        raise CorpusError(f"the recording {absent[0]} does not exist.")
    return Sentence(
        id=row.get("id") or default_id,
        text=row["text"],
        prompt=named["prompt"],
        prompt_text=row.get("prompt_text"),
        reference=named.get("reference"),
        speaker=row.get("speaker", ""),
    )
