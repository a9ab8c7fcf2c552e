"""LibriTTS and LibriTTS-R: LibriSpeech's tree, each recording with its transcripts beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...errors import ConfigError, CorpusError
from ..manifest import storable
from .entry import TRANSCRIPT, Recording, Rejection, read_transcript
from .librispeech import LibriSpeechReader, place_in_tree
from .tree import missing, recordings_among

TEXTS = ("normalized", "original")


@dataclass(frozen=True)
class LibriTTSReader(LibriSpeechReader):
    """`<split>/<speaker>/<chapter>/` with `<id>.wav`, `<id>.normalized.txt`, `<id>.original.txt`.

    Attributes:
        text: `normalized` (numbers and abbreviations in words) or `original`.

    Source:
        Zen et al., LibriTTS (Interspeech 2019); Koizumi et al., LibriTTS-R (Interspeech 2023).
    """

    name: ClassVar[str] = "libritts"
    known_by: ClassVar[str] = ".normalized.txt"
    text: str = "normalized"

    def __post_init__(self) -> None:
        if self.text not in TEXTS:
            raise ConfigError(f"text is {self.text!r}; LibriTTS has {' and '.join(TEXTS)}.")

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
