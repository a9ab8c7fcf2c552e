"""VCTK: speakers' folders of recordings, and the same folders of transcripts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...errors import ConfigError, CorpusError
from ..manifest import storable
from .entry import TRANSCRIPT, Recording, Rejection, read_transcript
from .tree import missing, recordings_below, subfolders

_FOLDERS = ("wav48_silence_trimmed", "wav48")  # of 0.92 and of 0.80
MICROPHONES = ("mic1", "mic2")


@dataclass(frozen=True)
class VCTKReader:
    """`wav48/p225/p225_001.wav` (0.80) or `wav48_silence_trimmed/p225/p225_001_mic1.flac` (0.92).

    Transcripts are `txt/p225/p225_001.txt`. An utterance is read once: from the chosen microphone,
    or from the other one where the chosen is absent.

    Attributes:
        microphone: `mic1` or `mic2`.

    Source:
        Yamagishi, Veaux and MacDonald, CSTR VCTK Corpus 0.92 (2019), its README.
    """

    name: ClassVar[str] = "vctk"
    microphone: str = "mic1"

    def __post_init__(self) -> None:
        if self.microphone not in MICROPHONES:
            raise ConfigError(
                f"microphone is {self.microphone!r}; VCTK has {' and '.join(MICROPHONES)}."
            )

    def accepts(self, corpus: Path) -> bool:
        """Whether there are VCTK's folders of recordings and of transcripts."""
        return (corpus / "txt").is_dir() and self._recordings(corpus) is not None

    def read(self, corpus: Path) -> Iterator[Recording | Rejection]:
        """Yield speaker by speaker."""
        root = corpus.absolute()
        recordings, texts = self._recordings(root), root / "txt"
        if recordings is None:
            raise CorpusError(f"{corpus} holds neither {' nor '.join(_FOLDERS)}; it is no VCTK.")
        speakers = {folder.name for top in (recordings, texts) for folder in subfolders(top)}
        for speaker in sorted(speakers):
            yield from self._speaker(recordings / speaker, texts / speaker)

    def _recordings(self, corpus: Path) -> Path | None:
        return next((corpus / name for name in _FOLDERS if (corpus / name).is_dir()), None)

    def _speaker(self, recordings: Path, texts: Path) -> Iterator[Recording | Rejection]:
        takes: dict[str, dict[str, Path]] = {}
        for audio in recordings_below(recordings) if recordings.is_dir() else ():
            if isinstance(audio, Rejection):
                yield audio
                continue
            utterance, *microphone = re.split(r"_(mic\d)$", audio.stem)
            takes.setdefault(utterance, {})[microphone[0] if microphone else ""] = audio
        speaker = storable(recordings.name)
        for utterance, by_microphone in takes.items():
            audio = by_microphone.get(self.microphone) or min(by_microphone.values())
            name = storable(utterance)
            try:
                text = read_transcript(texts / f"{utterance}.txt")
            except CorpusError as error:
                yield Rejection(name, str(audio), str(error), TRANSCRIPT)
                continue
            yield Recording(name, audio, text, speaker)
        for transcript in sorted(texts.glob("*.txt")):
            if transcript.stem not in takes and transcript.name[0] != ".":
                yield missing(storable(transcript.stem), recordings / f"{transcript.stem}.flac")
