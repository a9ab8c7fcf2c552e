"""Who says what: every utterance of a synthetic corpus, as a function of seed and index."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...errors import ConfigError, CorpusError
from ..manifest import storable
from ..readers.entry import Rejection, clean_text
from ..readers.lines import read_lines
from .voices import MixedSpeaker

# Shorter ones have no prosody of a sentence; longer ones outlast what the models are trained on
MIN_CHARACTERS, MAX_CHARACTERS = 20, 130
_SPEEDS = (0.9, 1.15)


@dataclass(frozen=True)
class Assignment:
    """One utterance that shall be spoken.

    Attributes:
        index: Its place in the corpus.
        id: Its name, which seed, speaker and index make.
        text: What is said.
        speaker: Who says it.
        speed: 1 is the synthesizer's own.
    """

    index: int
    id: str
    text: str
    speaker: MixedSpeaker
    speed: float


class SynthesisPlan:
    """Every sentence once, in a shuffled order, each by a drawn speaker.

    Args:
        sentences: What there is to say; repeated ones are taken once.
        speakers: Who may say it.
        seed: Another one, another order and other speakers.
        is_balanced: Deal sentences out in rounds in which every speaker has one, instead of drawing
            a speaker for each.

    Raises:
        ConfigError: If there is nothing to say, nobody to say it, or the seed is negative.
    """

    def __init__(
        self,
        sentences: Iterable[str],
        speakers: Sequence[MixedSpeaker],
        seed: int,
        *,
        is_balanced: bool = False,
    ) -> None:
        self.speakers = list(speakers)
        self.seed = seed
        self.is_balanced = is_balanced
        if seed < 0:
            raise ConfigError(f"The seed {seed} is negative; give 0 or more.")
        order = list(dict.fromkeys(sentences))
        if not order or not self.speakers:
            raise ConfigError("A plan needs a sentence and a speaker; give one of each or more.")
        random.Random(f"{seed} order").shuffle(order)
        self._order = order
        self._round = lru_cache(maxsize=2)(self._dealt)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Assignment:
        if not 0 <= index < len(self._order):
            raise IndexError(index)
        chance = random.Random(f"{self.seed} utterance {index}")
        speed = round(chance.uniform(*_SPEEDS), 3)
        if self.is_balanced:
            turn, place = divmod(index, len(self.speakers))
            speaker = self.speakers[self._round(turn)[place]]
        else:
            speaker = chance.choice(self.speakers)
        name = f"{speaker.name}_{self.seed}_{index:05d}"
        return Assignment(index, name, self._order[index], speaker, speed)

    @property
    def fingerprint(self) -> str:
        """A checksum of sentences, their order and the speakers."""
        said = [self._order, [repr(speaker) for speaker in self.speakers], self.is_balanced]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def _dealt(self, turn: int) -> list[int]:
        order = list(range(len(self.speakers)))
        random.Random(f"{self.seed} round {turn}").shuffle(order)
        return order


def read_sentences(path: Path, exclude: Sequence[Path] = ()) -> list[str]:
    """Read the sentences of a text file (one a line) or of a manifest.

    Those of fewer than 20 or more than 130 characters are passed over, and so are those that sound like
    an excluded one or like one before them.

    Args:
        path: A text file, or a manifest or metadata (`.jsonl`, the `text` of each line).
        exclude: Files of the same two kinds.

    Raises:
        CorpusError: If a file is missing or damaged, or leaves nothing to say.
    """
    taken = {sound_of(text) for other in exclude for text in texts_of(other)}
    kept, told = [], {"have another length": 0, "are excluded or repeated": 0}
    for text in texts_of(path):
        if not MIN_CHARACTERS <= len(text) <= MAX_CHARACTERS:
            told["have another length"] += 1
        elif (key := sound_of(text)) in taken:
            told["are excluded or repeated"] += 1
        else:
            taken.add(key)
            kept.append(text)
    if not kept:
        reasons = " and ".join(f"{count} {why}" for why, count in told.items())
        raise CorpusError(
            f"{path} leaves nothing to say: {reasons}; give sentences of {MIN_CHARACTERS} to "
            f"{MAX_CHARACTERS} characters."
        )
    return kept


def sound_of(text: str) -> str:
    """What texts that sound alike share: letters and digits in lower case."""
    bare = "".join(c if c.isalnum() else " " for c in text.casefold() if c not in "'’")
    return " ".join(bare.split())


def texts_of(path: Path) -> Iterator[str]:
    """The texts of a file, one a line: a text file, or the `text` of each line of a `.jsonl`.

    Raises:
        CorpusError: If the file is missing or a line is damaged, when it is read.
    """
    if not path.is_file():
        raise CorpusError(f"There is no file {path}; give a text file or a manifest.")
    for line in read_lines(path):
        if isinstance(line, Rejection):
            raise CorpusError(line.reason)
        text = line.text if path.suffix != ".jsonl" else _text_of_row(line.text)
        if text is None or text != storable(text):
            kind = "a JSON object with a text" if path.suffix == ".jsonl" else "UTF-8 text"
            raise CorpusError(f"The line {line.where} is not {kind}; mend it or leave it out.")
        yield clean_text(text)


def _text_of_row(line: str) -> str | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    text = row.get("text", "") if isinstance(row, dict) else None
    return text if isinstance(text, str) else None
