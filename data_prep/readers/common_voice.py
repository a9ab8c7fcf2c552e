"""Common Voice: `clips/` and tab-separated lists of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...errors import ConfigError, CorpusError
from ..manifest import storable
from .entry import LIST, TRANSCRIPT, Recording, Rejection, clean_text, split_of
from .table import read_rows
from .tree import ListedFiles, find_audio

LISTS = ("train", "dev", "test", "validated", "invalidated", "other")


@dataclass(frozen=True)
class CommonVoiceReader:
    """A language's folder with `clips/` and `train.tsv`, `dev.tsv`, `test.tsv`, `validated.tsv`.

    The columns `path`, `sentence` and `client_id` become recording, text and speaker; there is no
    quoting. `validated.tsv` repeats the clips of the three splits; those that are in none of them
    have no split of their own. Clips of the lists that are not read are passed over in silence.

    Attributes:
        lists: Lists to read, in this order; a clip counts where it is named first. `invalidated`
            and `other` (not yet voted on) are for those who ask.

    Source:
        Ardila et al., Common Voice (LREC 2020); the releases' own files.
    """

    name: ClassVar[str] = "common_voice"
    lists: tuple[str, ...] = ("train", "dev", "test", "validated")

    def __post_init__(self) -> None:
        if not self.lists or set(self.lists) - set(LISTS):
            raise ConfigError(
                f"lists is {','.join(self.lists)!r}; Common Voice has {', '.join(LISTS)}."
            )

    def accepts(self, corpus: Path) -> bool:
        """Whether there are `clips/` and one of the lists; a list alone may be given as well."""
        folder = corpus.parent if corpus.is_file() else corpus
        return (folder / "clips").is_dir() and bool(self._paths(corpus))

    def read(self, corpus: Path) -> Iterator[Recording | Rejection]:
        """Yield list by list, then clips that no list names."""
        root = (corpus.parent if corpus.is_file() else corpus).absolute()
        seen: set[int] = set()  # hashes of names: the lists of a large language name millions
        files = ListedFiles()
        chosen = self._paths(corpus)
        for path in chosen:
            for row in _rows(path):
                if isinstance(row, Rejection):
                    yield row
                    continue
                where, cells = row
                if (key := hash(cells["path"])) in seen and path is not chosen[0]:
                    continue
                seen.add(key)
                entry = _entry(root, where, cells, split_of(path.stem))
                yield files.check(entry) if isinstance(entry, Recording) else entry
        if corpus.is_dir():
            for path in (root / f"{name}.tsv" for name in LISTS if name not in self.lists):
                for row in _rows(path) if path.is_file() else ():
                    if not isinstance(row, Rejection) and "\0" not in row[1]["path"]:
                        files.add(root / "clips" / row[1]["path"])
            yield from files.others_below(root, [root / "clips"])

    def _paths(self, corpus: Path) -> list[Path]:
        if corpus.is_file():
            return [corpus] if corpus.stem in LISTS and corpus.suffix == ".tsv" else []
        paths = [corpus / f"{name}.tsv" for name in self.lists]
        return [path for path in paths if path.is_file()]


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]] | Rejection]:
    names: list[str] | None = None
    for row in read_rows(path, "\t"):
        if isinstance(row, Rejection):
            yield row
        elif names is None:
            names = row[1]
            if lacking := {"path", "sentence"} - set(names):
                yield Rejection(
                    row[0],
                    str(path),
                    f"{path} has no column {' and no '.join(sorted(lacking))}; restore its first "
                    "line.",
                    LIST,
                )
                return
        elif len(row[1]) != len(names) or not row[1][names.index("path")]:
            yield Rejection(
                row[0], "", f"The row {row[0]} has {len(row[1])} cells for {len(names)} columns, "
                "or no path; correct it.",
            )  # fmt: skip
        else:
            yield row[0], dict(zip(names, row[1], strict=True))


def _entry(
    root: Path, where: str, cells: dict[str, str], split: str | None
) -> Recording | Rejection:
    name = storable(Path(cells["path"]).stem) or where
    try:
        audio = find_audio(root / "clips", cells["path"])
    except CorpusError as error:
        return Rejection(name, cells["path"], f"In {where}, {error}")
    try:
        text = clean_text(cells["sentence"])
    except CorpusError as error:
        return Rejection(name, str(audio), f"In {where}, {error}", TRANSCRIPT)
    return Recording(name, audio, text, storable(cells.get("client_id", "")), split)
