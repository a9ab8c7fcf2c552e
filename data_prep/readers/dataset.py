"""Datasets of the `datasets` library: saved to disk, as Parquet files, or on the Hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl

from ...errors import ConfigError, CorpusError
from ..manifest import resolve_audio, storable
from .columns import ALIASES, find_columns, recording_from_row
from .entry import LIST, Recording, Rejection, split_of
from .tree import missing

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

MAX_CONTENT_BYTES = 1 << 30
_READ_ROWS = 16  # of a Parquet file at a time; its row groups may hold a thousand recordings
# Where a dataset may say that its audio lies: the Hub, this machine, and archives on either. A list
# from elsewhere sends nobody to other addresses.
_FETCHED = {"hf", "file", "zip", "tar", "gzip", "xz", "bz2", "zstd"}
_HUB_NAME = re.compile(r"hf:/{1,2}(?P<name>[^@?]+)(@(?P<revision>[^?]+))?(\?(?P<options>.*))?")


@dataclass(frozen=True)
class DatasetReader:
    """Any dataset that the `datasets` library opens, its audio as it was encoded.

    - a folder written by `save_to_disk`, of one split or several;
    - a `.parquet` file, or a folder with some: `train-00000-of-00009.parquet` tells its split;
    - `hf://owner/name`, on the Hub, with `@revision` and `?config=...&split=...&streaming=false`.

    The audio column is the one of the type `Audio`, else one with a known name; it may hold bytes,
    or the path or address of a file. Without a column of ids, split and row number make them.

    Attributes:
        columns: Our column names to the dataset's, where `ALIASES` does not know them.
        config: Configuration of a Hub dataset.
        split: The only split to read, in the syntax of `datasets` for the Hub.
        revision: Commit, tag or branch on the Hub.
        streaming: Read a Hub dataset while it comes in, rather than download all of it first.
    """

    name: ClassVar[str] = "datasets"
    columns: Mapping[str, str] = field(default_factory=dict)
    config: str = ""
    split: str = ""
    revision: str = ""
    streaming: bool = True

    def accepts(self, corpus: Path) -> bool:
        """Whether it is a Hub name, a Parquet file, or a folder with the marks of a dataset."""
        if is_hub_name(corpus):
            return True
        if corpus.is_file():
            return corpus.suffix.lower() == ".parquet"
        return _saved(corpus) or any(
            found for pattern in ("*.parquet", "*/*.parquet") for found in corpus.glob(pattern)
        )

    def read(self, corpus: Path) -> Iterator[Recording | Rejection]:
        """Yield the rows split by split; a local file that cannot be opened is a rejection.

        Raises:
            CorpusError: If the Hub does not give the dataset, or breaks off.
        """
        if is_hub_name(corpus):
            return self._from_hub(str(corpus))
        return self._from_disk(corpus) if _saved(corpus) else self._from_parquet(corpus)

    def read_rows(
        self,
        rows: Dataset | IterableDataset,
        label: str,
        folder: Path = Path(),
        split: str | None = None,
    ) -> Iterator[Recording | Rejection]:
        """Yield the rows of an open dataset, a map-style or a streaming one.

        Args:
            rows: The dataset; its audio need not be undecoded yet.
            label: What ids of rows without an id begin with.
            folder: Where relative paths of audio begin.
            split: The split of rows that name none.
        """
        if rows.features is None:  # a stream that tells its columns only by its rows
            return self._entries(rows, {}, label, folder, split)
        found, typed = self._columns(rows.features)
        if "audio" in found:
            rows = rows.select_columns(sorted(set(found.values())))
            if typed:
                from datasets import Audio

                rows = rows.cast_column(found["audio"], Audio(decode=False))
        return self._entries(rows, found, label, folder, split)

    def _columns(self, features: Mapping[str, Any]) -> tuple[dict[str, str], bool]:
        """Our column names to the dataset's, and whether the audio has the type `Audio`."""
        from datasets import Audio

        found = find_columns(list(features), self.columns)
        typed = [name for name, kind in features.items() if isinstance(kind, Audio)]
        if typed and found.get("audio") not in typed and "audio" not in self.columns:
            known = [name for name in ALIASES["audio"] if name in typed]
            found["audio"] = (known or typed)[0]
        return found, found.get("audio") in typed

    def _entries(
        self,
        rows: Iterable[dict[str, Any]],
        found: dict[str, str],
        label: str,
        folder: Path,
        split: str | None,
    ) -> Iterator[Recording | Rejection]:
        iterator = iter(rows)
        first = next(iterator, None)
        if first is None:
            return
        found = found or find_columns(list(first), self.columns)
        if "audio" not in found:
            yield Rejection(
                label,
                "",
                f"{label} has no audio column; its columns are {', '.join(first)}: "
                "name one by the option columns.",
                LIST,
            )
            return
        for number, row in enumerate(chain([first], iterator)):
            values = {key: row[name] for key, name in found.items()}
            yield _entry(values, f"{label}/{number:08d}", folder, split)

    def _from_hub(self, address: str) -> Iterator[Recording | Rejection]:
        from datasets import load_dataset

        found = _HUB_NAME.fullmatch(address)
        if found is None:
            raise CorpusError(f"{address} is no dataset's name; give hf://owner/name.")
        options = dict(parse_qsl(found["options"] or "", keep_blank_values=True))
        if unknown := sorted(set(options) - {"config", "split", "streaming"}):
            raise ConfigError(
                f"{address} has the option {', '.join(unknown)}; it takes config, split, streaming."
            )
        name = found["name"].strip("/")
        split = options.get("split") or self.split
        streaming = options.get("streaming", str(self.streaming)).lower() not in ("false", "0")
        try:
            splits = load_dataset(
                name,
                options.get("config") or self.config or None,
                split=split or None,
                revision=found["revision"] or self.revision or None,
                streaming=streaming,
            )
            for label, rows in splits.items() if not split else [(split, splits)]:
                yield from self.read_rows(rows, label, split=split_of(label))
        except (CorpusError, ConfigError):
            raise
        except Exception as error:  # whatever the network and the dataset's own files bring
            raise CorpusError(
                f"The dataset {name} could not be read from the Hub ({_first_line(error)}); "
                "check name, config, split and connection, and run again."
            ) from error

    def _from_disk(self, corpus: Path) -> Iterator[Recording | Rejection]:
        from datasets import load_from_disk

        several = (corpus / "dataset_dict.json").is_file()
        for folder in sorted(p for p in corpus.iterdir() if _saved(p)) if several else [corpus]:
            if several and self.split and folder.name != self.split:
                continue
            label = folder.name if several else "row"

            def entries(
                folder: Path = folder, label: str = label
            ) -> Iterator[Recording | Rejection]:
                rows = load_from_disk(str(folder))
                return self.read_rows(rows, label, folder, split_of(folder.name))

            yield from _guarded(folder, label, entries)

    def _from_parquet(self, corpus: Path) -> Iterator[Recording | Rejection]:
        for path in [corpus] if corpus.is_file() else sorted(corpus.rglob("*.parquet")):
            inside = path.relative_to(corpus if corpus.is_dir() else corpus.parent)
            split = next((s for p in (path.stem, *inside.parts[-2:-1]) if (s := split_of(p))), None)
            if self.split and split != split_of(self.split):
                continue
            label = storable(inside.with_suffix("").as_posix())

            def entries(
                path: Path = path, label: str = label, split: str | None = split
            ) -> Iterator[Recording | Rejection]:
                return self._parquet_entries(path, label, split)

            yield from _guarded(path, label, entries)

    def _parquet_entries(
        self, path: Path, label: str, split: str | None
    ) -> Iterator[Recording | Rejection]:
        """The rows of one file, by pyarrow: `load_dataset` reads whole row groups ahead."""
        from datasets import Features
        from pyarrow.parquet import ParquetFile

        with ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            found, _ = self._columns(Features.from_arrow_schema(file.schema_arrow))
            wanted = sorted(set(found.values())) if "audio" in found else None
            batches = file.iter_batches(_READ_ROWS, columns=wanted, use_threads=False)
            rows = (row for batch in batches for row in batch.to_pylist())
            yield from self._entries(rows, found, label, path.parent, split)


def _guarded(
    path: Path, label: str, opened: Callable[[], Iterator[Recording | Rejection]]
) -> Iterator[Recording | Rejection]:
    """The entries of a local file; where it is damaged, the rest of it is one rejection."""
    count = 0
    try:
        for entry in opened():
            count += 1
            yield entry
    except (CorpusError, ConfigError):
        raise
    except Exception as error:  # pyarrow, datasets and fsspec each raise their own
        yield Rejection(
            label,
            str(path),
            f"{path} cannot be read after row {count} ({_first_line(error)}); restore it.",
            LIST,
        )


def is_hub_name(corpus: str | Path) -> bool:
    """Whether it is an address like `hf://owner/name` (a `Path` makes one slash of two)."""
    return str(corpus).startswith("hf:/")


def _saved(folder: Path) -> bool:
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def _entry(
    row: dict[str, Any], label: str, folder: Path, split: str | None
) -> Recording | Rejection:
    name = row.get("id")
    name = storable(str(name)) if isinstance(name, str | int) and str(name) else label
    where = ""
    try:
        audio, content = _audio(row["audio"], name, folder)
        where = str(audio)
        if content is None and not audio.is_file():
            return missing(name, audio)
        return recording_from_row({**row, "id": name}, folder, split, audio=audio, content=content)
    except CorpusError as error:
        return Rejection(name, where, f"In row {label}, {error}")


def _audio(value: object, name: str, folder: Path) -> tuple[Path, bytes | None]:
    """Path and encoded bytes of an audio cell; the bytes are None where the path is a local file."""
    path: object = value
    content: object = None
    if isinstance(value, Mapping):
        path, content = value.get("path"), value.get("bytes")
        if "array" in value:
            raise CorpusError("the audio is an array of samples; cast the column to Audio.")
    elif isinstance(value, bytes):
        path, content = None, value
    if content is None and isinstance(path, str) and "://" in path:
        content = _fetch(path)
    if isinstance(content, bytes):
        if len(content) > MAX_CONTENT_BYTES:
            raise CorpusError(f"the audio has more than {MAX_CONTENT_BYTES >> 30} GiB; cut it.")
        return Path(name + (PurePosixPath(path).suffix if isinstance(path, str) else "")), content
    if not isinstance(path, str):
        raise CorpusError("the row holds neither audio nor its path.")
    return resolve_audio(path, folder), None


def _fetch(address: str) -> bytes:
    """The bytes of an audio file that a streamed row only names."""
    import fsspec  # type: ignore[import-untyped]

    schemes = set(re.findall(r"([a-z0-9+.-]+)://", address))
    if not schemes <= _FETCHED:
        raise CorpusError(f"the audio is at {address[:200]}, which is not fetched; download it.")
    with fsspec.open(address, "rb") as file:
        return bytes(file.read(MAX_CONTENT_BYTES + 1))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
