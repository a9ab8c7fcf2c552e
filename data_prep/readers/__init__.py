"""Readers of corpora: each layout in its file, all yielding the entries of `entry.py`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ...errors import ConfigError, CorpusError
from .collection import CollectionReader, within
from .common_voice import CommonVoiceReader
from .dataset import DatasetReader, is_hub_name
from .entry import AUDIO_SUFFIXES, CorpusReader, Recording, Rejection
from .folder import FolderReader
from .json_lines import JsonLinesReader
from .kaldi import KaldiReader
from .librispeech import LibriSpeechReader
from .libritts import LibriTTSReader
from .ljspeech import LJSpeechReader
from .options import option_names, parse_options, with_options
from .table import TableReader
from .vctk import VCTKReader

__all__ = [
    "LAYOUTS",
    "CorpusReader",
    "Recording",
    "Rejection",
    "parse_options",
    "read_corpus",
]

# The first that accepts a corpus reads it: from the most particular layout to lists of any kind.
# Collections and plain folders come after all of these.
_PARTICULAR: tuple[CorpusReader, ...] = (
    KaldiReader(),
    CommonVoiceReader(),
    VCTKReader(),
    LJSpeechReader(),
    LibriTTSReader(),
    LibriSpeechReader(),
    DatasetReader(),
    JsonLinesReader(),
    TableReader(),
)
_PLAIN = FolderReader()
LAYOUTS = (*(reader.name for reader in _PARTICULAR), "collection", _PLAIN.name)


def read_corpus(
    corpus: str | Path | Sequence[str | Path], layout: str | None = None, **options: object
) -> Iterator[Recording | Rejection]:
    """Read a corpus by the first reader that knows its layout.

    Args:
        corpus: A folder, a list, `hf://owner/name`, or several of them; the entries of several bear
            their corpus's name before their own.
        layout: One of `LAYOUTS`, where the first that fits is not the right one.
        options: Fields of the readers, such as `text="original"`; `parse_options` makes them from
            text. One that the corpus's layout does not have is an error, in a collection one that
            no layout has.

    Raises:
        CorpusError: If a path does not exist or has no known layout.
        ConfigError: If the layout or an option is unknown, or an option's value makes no sense.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ConfigError(f"{layout!r} is no layout; give one of {', '.join(LAYOUTS)}.")
    if isinstance(corpus, str | Path):
        return _read_one(Path(corpus), layout, options)
    corpora = [Path(each) for each in corpus]
    if len(corpora) == 1:
        return _read_one(corpora[0], layout, options)
    if not corpora:
        raise CorpusError("No corpus is given; give a folder of recordings or a list of them.")
    reads = [_read_one(each, layout, options, alone=False) for each in corpora]
    return _side_by_side(_names(corpora), reads)


def _read_one(
    corpus: Path, layout: str | None, options: Mapping[str, object], *, alone: bool = True
) -> Iterator[Recording | Rejection]:
    particular = [with_options(reader, options) for reader in _PARTICULAR]

    def find(folder: Path) -> CorpusReader | None:
        return next((reader for reader in particular if reader.accepts(folder)), None)

    plain = with_options(_PLAIN, options)
    assert isinstance(plain, FolderReader)  # noqa: S101 - for the type checker
    readers = [*particular, CollectionReader(find, plain), plain]
    _check_options(options, readers)
    if not is_hub_name(corpus) and not corpus.exists():
        raise CorpusError(
            f"{corpus} does not exist; give a folder of recordings or a list of them."
        )
    for reader in readers:
        if (
            layout == reader.name
            and corpus.is_file()
            and reader.name not in ("collection", "folder")
        ):
            break  # a list of a name that tells nothing
        if layout in (None, reader.name) and reader.accepts(corpus):
            break
    else:
        if corpus.is_file() and corpus.suffix.lower() in AUDIO_SUFFIXES:
            raise CorpusError(f"{corpus} is one recording; give a folder of recordings.")
        raise CorpusError(
            f"{corpus} has no known layout; give a folder of recordings, a JSONL, CSV or TSV list, "
            "a Parquet file or hf://owner/name, and unpack archives first."
            if layout is None
            else f"{corpus} does not have the layout {layout}; give another layout or none."
        )
    if alone and reader.name != "collection":
        _check_options(options, [reader])
    return reader.read(corpus)


def _check_options(options: Mapping[str, object], readers: Iterable[CorpusReader]) -> None:
    readers = list(readers)
    known = {name for reader in readers for name in option_names(reader)} - {"find", "plain"}
    if unknown := sorted(set(options) - known):
        who = f"The layout {readers[0].name}" if len(readers) == 1 else "No layout"
        verb = "has" if len(readers) > 1 else "does not have"
        raise ConfigError(
            f"{who} {verb} the option {', '.join(unknown)}; "
            f"there is {', '.join(sorted(known)) or 'none'}."
        )


def _names(corpora: Sequence[Path]) -> list[str]:
    """A name each: that of the folder or list, numbered where two are alike."""
    names = [path.stem if path.is_file() else path.absolute().name for path in corpora]
    names = [
        re.split("[@?]", name)[0] if is_hub_name(path) else name
        for path, name in zip(corpora, names, strict=True)
    ]
    seen: Counter[str] = Counter()
    for place, name in enumerate(names):
        seen[name] += 1
        if seen[name] > 1:
            names[place] = f"{name}-{seen[name]}"
    return names


def _side_by_side(
    names: Iterable[str], reads: Iterable[Iterator[Recording | Rejection]]
) -> Iterator[Recording | Rejection]:
    for name, entries in zip(names, reads, strict=True):
        yield from within(name, entries)
