"""LibriTTS and LibriTTS-R: LibriSpeech's tree, each recording with its transcripts beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...errors import ConfigError, CorpusError
from ..manifest import storable
from .entry import TRANSCRIPT, Recording, Rejection, read_transcript
from .librispeech import place_in_tree
from .tree import holds_below, missing, recordings_among, walk

TEXTS = ("normalized", "original")


@dataclass(frozen=True)
class LibriTTSReader:
    """`<split>/<speaker>/<chapter>/` with `<id>.wav`, `<id>.normalized.txt`, `<id>.original.txt`.

    Attributes:
        text: `normalized` (numbers and abbreviations in words) or `original`.

    Source:
        Zen et al., LibriTTS (Interspeech 2019); Koizumi et al., LibriTTS-R (Interspeech 2023).
    """

    name: ClassVar[str] = "libritts"
    text: str = "normalized"

    def __post_init__(self) -> None:
        if self.text not in TEXTS:
            raise ConfigError(f"text is {self.text!r}; LibriTTS has {' and '.join(TEXTS)}.")

    def accepts(self, corpus: Path) -> bool:
        """Whether a normalized transcript lies where a chapter would."""
        return corpus.is_dir() and holds_below(corpus, ".normalized.txt")

    def read(self, corpus: Path) -> Iterator[Recording | Rejection]:
        """Yield chapter by chapter."""
        root = corpus.absolute()
        for found in walk(root):
            if isinstance(found, Rejection):
                yield found
            else:
                yield from self._chapter(root, *found)

    def _chapter(
        self, root: Path, folder: Path, files: list[str]
    ) -> Iterator[Recording | Rejection]:
        ending = f".{self.text}.txt"
        untold = {name.removesuffix(ending) for name in files if name.endswith(ending)}
        speaker, split = place_in_tree(root, folder)
        for audio in recordings_among(root, folder, files):
            if isinstance(audio, Rejection):
                yield audio
                continue
            name = storable(audio.stem)
            untold.discard(audio.stem)
            try:
                text = read_transcript(audio.with_suffix(ending))
            except CorpusError as error:
                yield Rejection(name, str(audio), str(error), TRANSCRIPT)
                continue
            yield Recording(name, audio, text, speaker, split)
        for utterance in sorted(untold):
            yield missing(storable(utterance), folder / f"{utterance}.wav")
