"""Token shards: Parquet files of codec tokens, written whole and read back with suspicion.

A dataset is a folder of `train-00000.parquet`, `valid-00000.parquet`…, each with its receipt, and an
index. Any tool that reads Parquet opens the shards; `TokenShards` checks them first.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CorpusError, CorruptCodes, CorruptShard, ModelMismatch
from ..tokenizer.codes import CodecIdentity, Codes
from ..tokenizer.files import write_atomically
from .manifest import SPLITS
from .receipts import (
    FORMAT_VERSION,
    INDEX_NAME,
    DatasetIndex,
    ShardReceipt,
    identity_from,
    read_index,
    sha256_of,
    shard_name,
    write_receipt,
)

METADATA_KEY = b"speechlm"
ROWS_PER_GROUP = 64  # the unit of random access
MAX_GROUP_ROWS = 1 << 16
MAX_GROUP_VALUES = 1 << 26  # tokens of one row group: 64 recordings of an hour stay below
CACHE_BYTES = 512 << 20
# Few values that come often: a dictionary stores each code in as many bits as V asks for
_BY_DICTIONARY = [
    "speaker",
    "split",
    "codec",
    "durations.list.element",
    "codes.list.element.list.element",
]

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("phonemes", pa.string()),
        ("durations", pa.list_(pa.int32())),
        ("speaker", pa.string()),
        ("split", pa.string()),
        ("codec", pa.string()),
        ("num_samples", pa.int64()),
        ("num_frames", pa.int64()),
        ("codes", pa.list_(pa.list_(pa.uint16()))),
    ]
)


@dataclass(frozen=True)
class TokenRow:
    """One utterance as tokens.

    Attributes:
        id: Utterance id.
        text: Transcript, empty if unknown.
        phonemes: One character a symbol, empty if unknown.
        durations: int64 `[S]`, frames of every symbol with both boundaries, their sum T; `[0]` if
            unknown.
        speaker: Name, empty if unknown.
        split: `train`, `valid` or `test`.
        num_samples: Samples of the waveform.
        codes: int64 `[K, T]`.
    """

    id: str
    text: str
    phonemes: str
    durations: Tensor
    speaker: str
    split: str
    num_samples: int
    codes: Tensor

    @property
    def num_frames(self) -> int:
        """T."""
        return self.codes.shape[-1]


def write_shard(
    folder: Path,
    split: str,
    number: int,
    rows: Sequence[TokenRow],
    *,
    codec: CodecIdentity,
    num_books: int,
    source: str,
    rejected: Sequence[dict[str, str]] = (),
) -> ShardReceipt:
    """Write a shard and then its receipt, each atomically; equal input gives equal bytes.

    Args:
        folder: Of the dataset.
        split: Of every row.
        number: Counted from 0 within the split.
        rows: In their order.
        codec: That made the tokens.
        num_books: K of every row.
        source: Fingerprint of everything that the shard is a function of.
        rejected: Ledger rows of the utterances that could not be tokenized.

    Raises:
        CorruptCodes: If a row does not fit the codec, the split or itself.
    """
    for row in rows:
        _check_row(row, split, codec, num_books)
    about = {
        "format": FORMAT_VERSION,
        "codec": asdict(codec),
        "num_books": num_books,
        "split": split,
        "rows": len(rows),
    }
    table = pa.Table.from_pylist([_as_record(row, codec) for row in rows], SCHEMA)
    table = table.replace_schema_metadata(
        {METADATA_KEY: json.dumps(about, sort_keys=True).encode()}
    )
    buffer = io.BytesIO()
    # Named options, not defaults: these bytes must not change when pyarrow changes its mind
    pq.write_table(
        table,
        buffer,
        row_group_size=ROWS_PER_GROUP,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=3,
        use_dictionary=_BY_DICTIONARY,
        use_compliant_nested_type=True,
        write_statistics=False,
    )
    data = buffer.getvalue()
    receipt = ShardReceipt(
        name=shard_name(split, number),
        num_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        rows=len(rows),
        num_frames=sum(row.num_frames for row in rows),
        num_samples=sum(row.num_samples for row in rows),
        source=source,
        rejected=tuple(rejected),
    )
    write_atomically(folder / receipt.name, data)
    write_receipt(folder, receipt)
    return receipt


def codes_of(rows: Sequence[Mapping[str, Any]], codec: CodecIdentity) -> Codes:
    """Rows as plain `datasets` gives them -> `Codes`, ready for `codec.synthesize`.

    Args:
        rows: Mappings with `codec`, `num_samples` and `codes` (lists, arrays or tensors `[K, T_i]`),
            all of the same K.
        codec: Identity of the codec that is to decode them.

    Returns:
        `[B, K, T]` with T the longest row's.

    Raises:
        CorruptCodes: If a row lacks a field, or its codes do not fit its samples.
        ModelMismatch: If a row was made by another codec.
    """
    items: list[Tensor] = []
    samples: list[int] = []
    for row in rows:
        name = row.get("id", "a row")
        try:
            made_by, num_samples = str(row["codec"]), int(row["num_samples"])
            item = torch.as_tensor(np.array(row["codes"], dtype=np.int64))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CorruptCodes(f"{name} is no row of tokens ({error}).") from error
        if made_by != _codec_name(codec):
            raise ModelMismatch(
                f"{name} was made with the codec {made_by}, but {_codec_name(codec)} is loaded; "
                "load that codec, or tokenize again."
            )
        frames = -(-num_samples // codec.hop_length)
        if item.dim() != 2 or item.shape[-1] != frames or (items and len(item) != len(items[0])):
            raise CorruptCodes(
                f"{name} has codes of shape {list(item.shape)}, which its {num_samples} samples "
                "or the rows before it do not fit."
            )
        items.append(item)
        samples.append(num_samples)
    if not items:
        raise CorruptCodes("There are no rows to make codes of; give at least one.")
    longest = max(item.shape[-1] for item in items)
    padded = [torch.nn.functional.pad(item, (0, longest - item.shape[-1])) for item in items]
    return Codes(torch.stack(padded), torch.tensor(samples), codec)


class TokenShards:
    """Map-style access to a finished token dataset.

    Opening it checks every shard's checksum, schema and codec and reads the small columns. Tokens
    are read a row group at a time; the latest groups stay in memory up to `CACHE_BYTES`.

    Args:
        folder: Written by `tokenize_manifest`.
        split: Only the rows of this split.
        codec: Refuse tokens of any other codec.
        verify: Check each shard's SHA-256; leave it out only for what this process just wrote.

    Attributes:
        identity: The codec that made the tokens.
        num_books: K of the rows.
        lengths: int64 `[rows]`, frames of each.
        speakers: Speaker of each row, empty where unknown.

    Raises:
        CorpusError: If the folder is no finished dataset, or the split is empty.
        CorruptShard: If a shard is missing, cut, altered, or not of this format.
        ModelMismatch: If the tokens were made by another codec.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        split: str | None = None,
        codec: CodecIdentity | None = None,
        verify: bool = True,
    ) -> None:
        self.folder = Path(folder)
        if split is not None and split not in SPLITS:
            raise CorpusError(f"The split {split!r} is none of {', '.join(SPLITS)}.")
        index = read_index(self.folder)
        self.identity = index.codec
        self.num_books = index.num_books
        if codec is not None:
            codec.require(self.identity, f"The token dataset {self.folder}")
        shards = [shard for shard in index.shards if split in (None, shard.split)]
        self._splits = [shard.split for shard in shards]
        self._paths = [self.folder / shard.name for shard in shards]
        self._files = [_open_shard(self.folder, shard, index, verify) for shard in shards]
        self._cache: OrderedDict[tuple[int, int], _Group] = OrderedDict()
        self._cached_bytes = 0
        places: list[tuple[int, int, int]] = []
        lengths: list[int] = []
        speakers: list[str] = []
        for number, (path, file) in enumerate(zip(self._paths, self._files, strict=True)):
            for group in range(file.num_row_groups):
                small = _read_group(file, path, group, ["speaker", "num_frames"])
                for offset, row in enumerate(small.to_pylist()):
                    places.append((number, group, offset))
                    lengths.append(row["num_frames"])
                    speakers.append(row["speaker"])
        if not places:
            where = f"in the split {split!r}" if split else "at all"
            raise CorpusError(f"The token dataset {self.folder} has no rows {where}.")
        self._places = np.array(places, dtype=np.int64)
        self.lengths: NDArray[np.int64] = np.array(lengths, dtype=np.int64)
        self.speakers = tuple(speakers)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def fingerprint(self) -> str:
        """Hash of the whole dataset's content, for checkpoints; every split has the same."""
        return sha256_of(self.folder / INDEX_NAME)

    def row(self, index: int) -> TokenRow:
        """One utterance.

        Raises:
            CorruptShard: If the row's group cannot be read or contradicts itself.
        """
        shard, group, offset = (int(value) for value in self._places[index])
        return self._group(shard, group).row(offset)

    def _group(self, shard: int, group: int) -> _Group:
        key = (shard, group)
        if key not in self._cache:
            table = _read_group(self._files[shard], self._paths[shard], group)
            path, split = self._paths[shard], self._splits[shard]
            loaded = _Group(table, split, self.identity, self.num_books, path)
            self._cache[key] = loaded
            self._cached_bytes += loaded.num_bytes
            while len(self._cache) > 1 and self._cached_bytes > CACHE_BYTES:
                self._cached_bytes -= self._cache.popitem(last=False)[1].num_bytes
        self._cache.move_to_end(key)
        return self._cache[key]


class _Group:
    """One row group in memory, its token lists flattened."""

    def __init__(
        self, table: pa.Table, split: str, codec: CodecIdentity, num_books: int, path: Path
    ) -> None:
        names = ("id", "text", "phonemes", "speaker", "split", "durations")
        self._columns = {name: table.column(name).to_pylist() for name in names}
        self._num_samples = table.column("num_samples").to_numpy()
        self._num_frames = table.column("num_frames").to_numpy()
        books = table.column("codes").combine_chunks()
        frames = books.flatten()
        tokens = frames.flatten()
        self._codes = tokens.to_numpy(zero_copy_only=False)
        sound = (
            not frames.null_count
            and not tokens.null_count
            and (np.diff(books.offsets.to_numpy()) == num_books).all()
            and (np.diff(frames.offsets.to_numpy()) == np.repeat(self._num_frames, num_books)).all()
            and (self._num_frames == -(-self._num_samples // codec.hop_length)).all()
            and (self._num_samples > 0).all()
            and int(self._codes.max(initial=0)) < codec.codebook_size
            and all(value == split for value in self._columns["split"])
            and set(table.column("codec").to_pylist()) <= {_codec_name(codec)}
            and all(
                not d or (None not in d and sum(d) == t)
                for d, t in zip(self._columns["durations"], self._num_frames, strict=True)
            )
        )
        if not sound:
            raise CorruptShard(f"{path} holds a row that contradicts itself; tokenize again.")
        self._starts = np.concatenate([[0], np.cumsum(self._num_frames * num_books)])
        self.num_bytes = self._codes.nbytes + table.nbytes

    def row(self, offset: int) -> TokenRow:
        codes = self._codes[self._starts[offset] : self._starts[offset + 1]].astype(np.int64)
        value = {name: column[offset] for name, column in self._columns.items()}
        value["durations"] = torch.tensor(value["durations"], dtype=torch.int64)
        shaped = torch.from_numpy(codes).view(-1, int(self._num_frames[offset]))
        return TokenRow(num_samples=int(self._num_samples[offset]), codes=shaped, **value)


def _open_shard(
    folder: Path, shard: ShardReceipt, index: DatasetIndex, verify: bool
) -> pq.ParquetFile:
    path = folder / shard.name
    again = "tokenize again, which redoes only this shard."
    if not path.is_file():
        raise CorruptShard(f"{path} is missing; {again}")
    if path.stat().st_size != shard.num_bytes or (verify and sha256_of(path) != shard.sha256):
        raise CorruptShard(
            f"{path} is cut or altered, its size or SHA-256 is not the index's; {again}"
        )
    try:
        file = pq.ParquetFile(path, memory_map=True)
        about = json.loads((file.schema_arrow.metadata or {}).get(METADATA_KEY, b"{}"))
        said = (about["format"], about["num_books"], about["split"])
        fits = said == (FORMAT_VERSION, index.num_books, shard.split)
        codec = identity_from(about["codec"])
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, CorruptShard) as error:
        raise CorruptShard(f"{path} is not a token shard ({error}); {again}") from error
    index.codec.require(codec, f"The token shard {path}")
    if not fits or not file.schema_arrow.equals(SCHEMA) or file.metadata.num_rows != shard.rows:
        raise CorruptShard(
            f"{path} has other columns, books, rows or another split than its index says; {again}"
        )
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        values = max(group.column(column).num_values for column in range(group.num_columns))
        if group.num_rows > MAX_GROUP_ROWS or values > MAX_GROUP_VALUES:
            raise CorruptShard(f"{path} declares {values} values in one row group; {again}")
    return file


def _read_group(
    file: pq.ParquetFile, path: Path, group: int, columns: list[str] | None = None
) -> pa.Table:
    try:
        table = file.read_row_group(group, columns=columns, use_threads=False)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorruptShard(f"{path} cannot be read ({error}); tokenize again.") from error
    if any(column.null_count for column in table.columns):
        raise CorruptShard(f"{path} has a row with an empty field; tokenize again.")
    return table


def _check_row(row: TokenRow, split: str, codec: CodecIdentity, num_books: int) -> None:
    if row.split != split:
        raise CorruptCodes(f"{row.id} is of the split {row.split!r}, its shard of {split!r}.")
    books, frames = row.codes.shape
    if books != num_books or frames < 1 or frames != -(-row.num_samples // codec.hop_length):
        raise CorruptCodes(
            f"{row.id} has {books} x {frames} codes, which {row.num_samples} samples do not give."
        )
    if int(row.codes.min()) < 0 or int(row.codes.max()) >= min(codec.codebook_size, 1 << 16):
        raise CorruptCodes(f"A code of {row.id} lies outside 0 to {codec.codebook_size - 1}.")
    symbols = len(row.durations)
    if symbols and (int(row.durations.sum()) != frames or symbols != len(row.phonemes) + 2):
        raise CorruptCodes(
            f"{row.id} has {symbols} durations, which do not fit {frames} frames "
            f"and {len(row.phonemes)} phonemes."
        )


def _codec_name(codec: CodecIdentity) -> str:
    """What a row says of its codec, so that it can be refused wherever it ends up."""
    return f"{codec.codec_id}@{codec.revision}"


def _as_record(row: TokenRow, codec: CodecIdentity) -> dict[str, Any]:
    plain = ("id", "text", "phonemes", "speaker", "split", "num_samples", "num_frames")
    return {
        **{name: getattr(row, name) for name in plain},
        "codec": _codec_name(codec),
        "durations": row.durations.tolist(),
        "codes": list(row.codes.numpy().astype(np.uint16)),
    }
