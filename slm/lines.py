"""Lines to speak, and how they are read from JSON lines. Nothing here imports torch."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ..errors import CorpusError, SpeechLMError, UnsupportedAudio, UnsupportedText
from ..tokenizer.paths import require_audio_suffix

if TYPE_CHECKING:
    from torch import Tensor

    from .prompt import Voice

MAX_FILE_BYTES = 64 << 20
_WANTED = 'write one object a line, such as {"text": "Hello."}.'
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

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise UnsupportedText(
                f"A text to speak is a string, not {type(self.text).__name__}; "
                "`say_many` speaks several."
            )


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
    if not name.is_file():
        raise CorpusError(
            f"There is no file {name}; give a file of JSON lines, such as "
            '{"text": "Any sentence of yours."}.'
        )
    if name.stat().st_size > MAX_FILE_BYTES:
        raise CorpusError(
            f"{name} is larger than {MAX_FILE_BYTES >> 20} MiB and was not read; split the list."
        )
    try:
        texts = name.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{name} is not UTF-8 text; save it as such.") from error
    lines: list[Line] = []
    written: dict[str, int] = {}
    filled = [(number, text) for number, text in enumerate(texts, start=1) if text.strip()]
    if not filled:
        raise CorpusError(f"{name} holds no line to speak; {_WANTED}")
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
    except json.JSONDecodeError as error:  # whose own text counts lines of its own
        fault = f"{error.msg} at character {error.colno}"
        raise CorpusError(f"{where} is not JSON ({fault}); {_WANTED}") from error
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{where} is not JSON ({error}); {_WANTED}") from error
    if not isinstance(raw, dict) or "text" not in raw:
        raise CorpusError(f'{where} has no "text"; {_WANTED}')
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
        require_audio_suffix(place.suffix)
    except UnsupportedAudio as error:
        raise CorpusError(f"{where}: out is {out}. {error}") from error
    return Line(raw["text"], prompt, prompt_text, seed, out, where)
