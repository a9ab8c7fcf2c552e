"""LJSpeech: one speaker, `metadata.csv` and `wavs/`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...errors import ConfigError, CorpusError
from ..manifest import storable
from .entry import TRANSCRIPT, Recording, Rejection, clean_text
from .lines import Line, read_lines
from .table import TableReader
from .tree import ListedFiles, find_audio

TEXTS = ("normalized", "original")


@dataclass(frozen=True)
class LJSpeechReader:
    """`metadata.csv` with `id|text|normalized text` in every line, and `wavs/<id>.wav`.

    There is no first row with names and no quoting: a quote is a letter. The third column may be
    absent, as in many corpora that took over this layout.

    Attributes:
        text: `normalized` (numbers and abbreviations in words) or `original`.
        speaker: Name of the one speaker; if empty, the name of the folder.

    Source:
        Ito and Johnson, The LJ Speech Dataset 1.1 (2017), its README.
    """

    name: ClassVar[str] = "ljspeech"
    text: str = "normalized"
    speaker: str = ""

    def __post_init__(self) -> None:
        if self.text not in TEXTS:
            raise ConfigError(f"text is {self.text!r}; LJSpeech has {' and '.join(TEXTS)}.")

    def accepts(self, corpus: Path) -> bool:
        """Whether there are `metadata.csv`, without named columns, and `wavs/`."""
        metadata = corpus / "metadata.csv"
        return (
            (corpus / "wavs").is_dir()
            and metadata.is_file()
            and not TableReader().names_audio(metadata)
        )

    def read(self, corpus: Path) -> Iterator[Recording | Rejection]:
        """Yield the lines of the list, then recordings that it does not name."""
        root = corpus.absolute()
        files = ListedFiles()
        for line in read_lines(root / "metadata.csv"):
            entry = line if isinstance(line, Rejection) else self._entry(root, line)
            yield files.check(entry) if isinstance(entry, Recording) else entry
        yield from files.others_below(root, [root / "wavs"])

    def _entry(self, root: Path, line: Line) -> Recording | Rejection:
        name, *texts = line.text.split("|")
        if not name or len(texts) not in (1, 2):
            return Rejection(
                line.where, "", f"The line {line.where} is not id|text|normalized text; correct it."
            )
        try:
            audio = find_audio(root / "wavs", name)
        except CorpusError as error:
            return Rejection(storable(name), name, f"In {line.where}, {error}")
        chosen = texts[-1] if self.text == "normalized" and texts[-1] else texts[0]
        try:
            text = clean_text(chosen)
        except CorpusError as error:
            return Rejection(storable(name), str(audio), f"In {line.where}, {error}", TRANSCRIPT)
        return Recording(storable(name), audio, text, self.speaker or storable(root.name))
