"""Lines to speak: read from JSON lines, prepared, and generated in batches over their borders."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from ..errors import CorpusError, SpeechLMError, UnsupportedAudio
from ..tokenizer.audio import encode_audio
from .generate import Generation
from .prompt import Voice
from .sampling import generator_of

MAX_FILE_BYTES = 64 << 20
_STRINGS = ("text", "prompt", "voice", "prompt_text", "out")


@dataclass(frozen=True)
class Line:
    """One line to speak.

    Attributes:
        text: What to say.
        prompt: As in `Speaker.say`.
        prompt_text: What the prompt says, if known.
        seed: The same seed gives the same speech.
        out: Where to write it, relative to the folder of the results; None for nowhere.
        where: Which line of which file it was, for messages; empty if it was none.
    """

    text: str
    prompt: str | os.PathLike[str] | Tensor | Voice | None = None
    prompt_text: str | None = None
    seed: int = 0
    out: str | None = None
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class Job:
    """One sentence of a line.

    Attributes:
        text: int64 `[S]`, its symbols.
        voice: The prompt.
        seed: Of its line.
        index: Its place in that line.
    """

    text: Tensor
    voice: Voice
    seed: int
    index: int

    def generator(self) -> torch.Generator:
        """The sentence's own source of chance; neighbouring seeds share none of them."""
        if 0 <= self.seed < 1 << 12 and self.index < 1 << 20:
            return torch.Generator().manual_seed((self.seed << 20) + self.index)
        return generator_of(self.seed, self.index)


def read_lines(
    path: str | os.PathLike[str],
    on_error: Callable[[SpeechLMError], None] | None = None,
    default: Line | None = None,
) -> list[Line]:
    """Read a list: `text`, and optionally `prompt` or `voice`, `prompt_text`, `seed`, `out` a line.

    A prompt that is a file beside the list is taken from there. The n-th object without `out` is
    written to its number, such as `0001.wav`.

    Args:
        path: JSON lines in UTF-8; blank lines do not count.
        on_error: Is told of each line that is not what it should be, which is then left out; None
            raises at the first.
        default: Its seed is taken where a line names none, its prompt and the text of that where
            a line names no prompt.

    Raises:
        CorpusError: If the file cannot be read or a line is not what it should be, with its number.
    """
    name = Path(path)
    if not name.is_file() or name.stat().st_size > MAX_FILE_BYTES:
        raise CorpusError(
            f"{name} is no list of at most {MAX_FILE_BYTES >> 20} MiB; give a file of JSON lines, "
            'such as {"text": "Hello."}.'
        )
    try:
        texts = name.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{name} is not UTF-8 text; save it as such.") from error
    lines: list[Line] = []
    written: dict[str, int] = {}
    filled = [(number, text) for number, text in enumerate(texts, start=1) if text.strip()]
    if not filled:
        raise CorpusError(f"{name} holds no line to speak; write one JSON object a line.")
    for place, (number, text) in enumerate(filled, start=1):
        where = f"{name} line {number}"
        try:
            line = _line(text, where, name.parent, f"{place:04d}.wav", default or Line(""))
            if line.out in written:
                raise CorpusError(
                    f"{where} writes {line.out} as line {written[line.out]} does; "
                    "give it another name."
                )
        except CorpusError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        written[str(line.out)] = number
        lines.append(line)
    return lines


def _line(text: str, where: str, folder: Path, default_out: str, default: Line) -> Line:
    try:
        raw: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{where} is not JSON ({error}); write one object a line.") from error
    if not isinstance(raw, dict) or "text" not in raw:
        raise CorpusError(f'{where} has no "text"; write an object such as {{"text": "Hello."}}.')
    if unknown := sorted(set(raw) - {*_STRINGS, "seed"}):
        raise CorpusError(
            f"{where} has the unknown key {unknown[0]!r}; "
            "known are text, prompt or voice, prompt_text, seed and out."
        )
    for key in _STRINGS:
        if not isinstance(raw.get(key, ""), str) and not (key != "text" and raw[key] is None):
            raise CorpusError(f"{where}: {key} must be a string.")
    seed = raw.get("seed", default.seed)
    if type(seed) is not int or not 0 <= seed < 1 << 32:
        raise CorpusError(f"{where}: seed must be a whole number from 0 to 2^32 - 1.")
    if None not in (raw.get("prompt"), raw.get("voice")):
        raise CorpusError(f"{where} has both prompt and voice, which mean the same; give one.")
    prompt, prompt_text = raw.get("prompt") or raw.get("voice"), raw.get("prompt_text")
    if prompt is None:
        prompt, prompt_text = default.prompt, prompt_text or default.prompt_text
    elif (folder / prompt).is_file():
        prompt = str(folder / prompt)
    out = raw.get("out") or default_out
    place = PurePosixPath(out.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts or ":" in out:
        raise CorpusError(f"{where}: out must name a file below the folder of the results.")
    try:  # before an hour of other lines has been spoken
        encode_audio(torch.zeros(1), 16_000, place.suffix)
    except UnsupportedAudio as error:
        raise CorpusError(f"{where}: out is {out}. {error}") from error
    return Line(raw["text"], prompt, prompt_text, seed, out, where)


def prepare_lines(
    lines: Iterable[Line | str],
    sentences_of: Callable[[str], list[Tensor]],
    prepare_voice: Callable[..., Voice],
    on_error: Callable[[int, SpeechLMError], None] | None = None,
) -> list[list[Job]]:
    """The sentences of each line that can be spoken; a prompt that several name is prepared once.

    Args:
        lines: What to say.
        sentences_of: Symbols `[S_i]` of a text's sentences.
        prepare_voice: Makes a voice of a prompt and its `prompt_text`.
        on_error: Is told place and fault of a line that cannot be spoken, which is then left out;
            None raises at the first.

    Raises:
        SpeechLMError: What the two callables raise, with the line's number where it has one.
    """
    given = [Line(line) if isinstance(line, str) else line for line in lines]
    voices: dict[tuple[object, str | None], Voice] = {}
    jobs: list[list[Job]] = []
    for place, line in enumerate(given):
        prompt = line.prompt
        key = (id(prompt) if isinstance(prompt, (Tensor, Voice)) else prompt, line.prompt_text)
        try:
            texts = sentences_of(line.text)
            if key not in voices:
                voices[key] = prepare_voice(prompt, prompt_text=line.prompt_text)
        except SpeechLMError as error:
            told = type(error)(f"{line.where}: {error}") if line.where else error
            if on_error is None:
                raise told from error
            on_error(place, told)
            continue
        jobs.append([Job(text, voices[key], line.seed, i) for i, text in enumerate(texts)])
    return jobs


def generate_lines(
    lines: Sequence[Sequence[Job]],
    per_batch: int,
    generate: Callable[[Sequence[Job]], list[Generation]],
) -> Iterator[tuple[list[Generation], float]]:
    """Generate the sentences of all lines, some at once, and give each line when it is whole.

    Args:
        lines: As `prepare_lines` gives them.
        per_batch: Sentences at once.
        generate: Speaks a batch.

    Yields:
        A line's sentences, and the seconds they took: of a batch their share by duration.
    """
    waiting = iter([job for jobs in lines for job in jobs])
    done: list[Generation] = []
    spent = 0.0
    for jobs in lines:
        while len(done) < len(jobs):
            began = time.perf_counter()
            done += generate(list(islice(waiting, per_batch)))
            spent += time.perf_counter() - began
        mine, rest = done[: len(jobs)], done[len(jobs) :]
        share = spent * _frames(mine) / _frames(done)
        done, spent = rest, spent - share
        yield mine, share


def _frames(spoken: Sequence[Generation]) -> int:
    return sum(item.codes.shape[1] for item in spoken)
