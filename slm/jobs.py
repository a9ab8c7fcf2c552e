"""Lines as jobs: each cut into sentences with a voice, and generated in batches over their borders."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from ..errors import SpeechLMError
from .generate import Generation
from .lines import Line
from .prompt import Voice
from .sampling import generator_of


@dataclass(frozen=True)
class Job:
    """One sentence of a line.

    Attributes:
        text: int64 `[S]`, its symbols.
        voice: The prompt.
        seed: Of its line.
        index: Its place in that line.
        note: What to tell the user about that line's text; empty if nothing.
    """

    text: Tensor
    voice: Voice
    seed: int
    index: int
    note: str = ""

    def generator(self) -> torch.Generator:
        """The sentence's own source of chance; neighbouring seeds share none of them."""
        if 0 <= self.seed < 1 << 12 and self.index < 1 << 20:
            return torch.Generator().manual_seed((self.seed << 20) + self.index)
        return generator_of(self.seed, self.index)


def prepare_lines(
    lines: Iterable[Line | str],
    sentences_of: Callable[[str], tuple[list[Tensor], str]],
    prepare_voice: Callable[..., Voice],
    on_error: Callable[[int, SpeechLMError], None] | None = None,
) -> list[list[Job]]:
    """The sentences of each line that can be spoken; a prompt that several name is prepared once.

    Args:
        lines: What to say.
        sentences_of: Symbols `[S_i]` of a text's sentences, and what to tell about the text.
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
            texts, note = sentences_of(line.text)
            if key not in voices:
                voices[key] = prepare_voice(prompt, prompt_text=line.prompt_text)
        except SpeechLMError as error:
            told = type(error)(f"{line.where}: {error}") if line.where else error
            if on_error is None:
                raise told from error
            on_error(place, told)
            continue
        jobs.append([Job(text, voices[key], line.seed, i, note) for i, text in enumerate(texts)])
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
