"""One token shard: a Parquet file, written whole and read back with suspicion.

A shard may come from a stranger or a dying disk, so what it declares is bounded before it is
decoded, and every value is checked before it is used.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from ..errors import CorruptShard
from ..tokenizer.codes import CodecIdentity
from ..tokenizer.files import write_atomically
from .receipts import (
    FORMAT_VERSION,
    DatasetIndex,
    ShardReceipt,
    identity_from,
    sha256_of,
    shard_name,
    write_receipt,
)
from .token_rows import TokenRow, check_row, codec_name, durations_problem

METADATA_KEY = b"speechlm"
ROWS_PER_GROUP = 64  # the unit of random access
MAX_GROUP_ROWS = 1 << 12
MAX_GROUP_VALUES = 1 << 26  # tokens of one row group: 64 recordings of half an hour stay below
MAX_GROUP_TEXT = 1 << 26  # bytes of one text column of one row group

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
_STRINGS = [field.name for field in SCHEMA if pa.types.is_string(field.type)]
# Few values that come often: a dictionary stores each code in as many bits as V asks for
_BY_DICTIONARY = [
    "speaker",
    "split",
    "codec",
    "durations.list.element",
    "codes.list.element.list.element",
]


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
        check_row(row, split, codec, num_books)
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
        write_page_checksum=True,
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


class ShardFile:
    """A shard that was found whole; it is opened anew for each read, so thousands may be held.

    Args:
        folder: Of the dataset.
        receipt: What the index says of the shard.
        index: The dataset's index.
        verify: Compare the SHA-256 too, which reads the whole file.

    Raises:
        CorruptShard: If it is missing, cut, altered, or not of this format.
        ModelMismatch: If its tokens were made by another codec.
    """

    def __init__(
        self, folder: Path, receipt: ShardReceipt, index: DatasetIndex, verify: bool
    ) -> None:
        self.path = folder / receipt.name
        self.receipt = receipt
        self._codec = index.codec
        self._num_books = index.num_books
        again = "tokenize again, which redoes only this shard."
        if not self.path.is_file():
            raise CorruptShard(f"{self.path} is missing; {again}")
        size = self.path.stat().st_size
        if size != receipt.num_bytes or (verify and sha256_of(self.path) != receipt.sha256):
            what = "SHA-256 is" if size == receipt.num_bytes else f"{size} bytes are"
            raise CorruptShard(
                f"{self.path} is cut or altered, its {what} not the index's; {again}"
            )
        try:
            self._metadata = pq.read_metadata(self.path)
            schema = self._metadata.schema.to_arrow_schema()
            about = json.loads((self._metadata.metadata or {}).get(METADATA_KEY, b"{}"))
            said = (about["format"], about["num_books"], about["split"])
            codec = identity_from(about["codec"])
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, CorruptShard) as error:
            raise CorruptShard(f"{self.path} is not a token shard ({error}); {again}") from error
        index.codec.require(codec, f"The token shard {self.path}")
        if (
            said != (FORMAT_VERSION, index.num_books, receipt.split)
            or not schema.equals(SCHEMA)
            or self._metadata.num_rows != receipt.rows
        ):
            raise CorruptShard(
                f"{self.path} has another split, columns, books or rows than said; {again}"
            )
        for number in range(self.num_groups):
            group = self._metadata.row_group(number)
            values = max(group.column(column).num_values for column in range(group.num_columns))
            if group.num_rows > MAX_GROUP_ROWS or values > MAX_GROUP_VALUES:
                raise CorruptShard(
                    f"{self.path} declares {values} values in one row group; {again}"
                )

    @property
    def num_groups(self) -> int:
        """Row groups, each of which is read at once."""
        return int(self._metadata.num_row_groups)

    def rows_of(self, group: int) -> int:
        """Rows of a group."""
        return int(self._metadata.row_group(group).num_rows)

    def speakers_and_lengths(self, group: int) -> tuple[list[str], NDArray[np.int64]]:
        """Of every row of a group; the lengths are what the shard says, not yet compared with codes.

        Raises:
            CorruptShard: If they cannot be read, or no utterance can be so long.
        """
        table = self._read(group, ["speaker", "num_frames"])
        lengths = table.column("num_frames")
        if table.column("speaker").null_count or lengths.null_count:
            raise CorruptShard(f"{self.path} has a row with an empty field; tokenize again.")
        frames = lengths.to_numpy()
        if len(frames) and not 1 <= frames.min() <= frames.max() <= MAX_GROUP_VALUES:
            raise CorruptShard(f"{self.path} has a row without frames; tokenize again.")
        return table.column("speaker").to_pylist(), frames

    def group(self, number: int) -> RowGroup:
        """Read a group.

        Raises:
            CorruptShard: If it cannot be decoded. Rows that contradict themselves are found later,
                by `RowGroup.problems` and `RowGroup.row`.
        """
        first = sum(self.rows_of(before) for before in range(number))
        split = self.receipt.split
        return RowGroup(self._read(number), split, self._codec, self._num_books, self.path, first)

    def _read(self, group: int, columns: list[str] | None = None) -> pa.Table:
        strings = [name for name in _STRINGS if columns is None or name in columns]
        try:
            with pq.ParquetFile(
                self.path,
                metadata=self._metadata,
                read_dictionary=strings,
                page_checksum_verification=True,
                pre_buffer=False,  # its threads cost more than they save on groups so small
            ) as file:
                table = file.read_row_group(group, columns=columns, use_threads=False)
            table.validate(full=True)
            if table.num_rows != self.rows_of(group):
                raise ValueError(f"{table.num_rows} rows where {self.rows_of(group)} are declared")
            for name in strings:
                # One long string repeated by a dictionary would fill the memory once expanded
                lengths = _dictionary_lengths(table.column(name))
                if lengths > MAX_GROUP_TEXT:
                    raise ValueError(f"{lengths} bytes in the column {name}")
            return table.cast(pa.schema([SCHEMA.field(name) for name in table.column_names]))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise CorruptShard(f"{self.path} cannot be read ({error}); tokenize again.") from error


class RowGroup:
    """One row group in memory, its token lists flattened.

    Attributes:
        num_bytes: Memory that it takes, about.
        num_frames: Frames over all rows.
        num_samples: Samples over all rows.
        problems: What is wrong with a row, by its place in the group.
    """

    def __init__(
        self,
        table: pa.Table,
        split: str,
        codec: CodecIdentity,
        num_books: int,
        path: Path,
        first: int,
    ) -> None:
        self._path = path
        self._first = first
        names = ("id", "text", "phonemes", "speaker", "split", "durations")
        self._columns = {name: table.column(name).to_pylist() for name in names}
        self._num_samples = _numbers(table.column("num_samples"))
        self._num_frames = _numbers(table.column("num_frames"))
        books = table.column("codes").combine_chunks()
        frames = books.flatten()
        tokens = frames.flatten()
        self._codes = _numbers(tokens)
        # Where row r's books begin among all books, and its tokens among all tokens
        of_books = _offsets(books)
        of_tokens = _offsets(frames)
        self._starts = of_tokens[of_books]
        self.problems: dict[int, str] = {}
        self._blame(np.flatnonzero(np.diff(of_books) != num_books), "another number of books")
        wanted = np.repeat(self._num_frames, np.diff(of_books))
        wrong = np.flatnonzero(np.diff(of_tokens) != wanted)
        self._blame(_owner(wrong, of_books), "a book of another length than its frames")
        wrong = np.flatnonzero(self._codes >= codec.codebook_size)
        wrong = np.concatenate([wrong, np.flatnonzero(tokens.is_null())])
        self._blame(_owner(wrong, self._starts), f"a code outside 0 to {codec.codebook_size - 1}")
        fits = self._num_frames == -(-self._num_samples // codec.hop_length)
        self._blame(
            np.flatnonzero(~fits | (self._num_samples < 1)), "frames that its samples do not give"
        )
        for column in table.columns:
            self._blame(np.flatnonzero(column.is_null()), "an empty field")
        of_codec = table.column("codec").to_pylist()
        for row, (durations, phonemes) in enumerate(
            zip(self._columns["durations"], self._columns["phonemes"], strict=True)
        ):
            frames_here = int(self._num_frames[row])
            problem = durations_problem(durations or (), len(phonemes or ""), frames_here)
            if problem is None and self._columns["split"][row] != split:
                problem = "another split than its shard"
            if problem is None and of_codec[row] != codec_name(codec):
                problem = "another codec than its shard"
            if problem is not None:
                self.problems.setdefault(row, problem)
        self.num_frames = int(self._num_frames.sum())
        self.num_samples = int(self._num_samples.sum())
        self.num_bytes = self._codes.nbytes + table.nbytes

    def row(self, offset: int) -> TokenRow:
        """One utterance.

        Raises:
            CorruptShard: If the row contradicts itself.
        """
        if (problem := self.problems.get(offset)) is not None:
            raise CorruptShard(
                f"Row {self._first + offset} of {self._path} contradicts itself: it has {problem}; "
                "tokenize again."
            )
        codes = self._codes[self._starts[offset] : self._starts[offset + 1]].astype(np.int64)
        value = {name: column[offset] for name, column in self._columns.items()}
        value["durations"] = torch.tensor(value["durations"], dtype=torch.int64)
        shaped = torch.from_numpy(codes).view(-1, int(self._num_frames[offset]))
        return TokenRow(num_samples=int(self._num_samples[offset]), codes=shaped, **value)

    def _blame(self, rows: NDArray[np.intp], problem: str) -> None:
        for row in np.unique(rows):
            self.problems.setdefault(int(row), problem)


def _numbers(column: pa.ChunkedArray | pa.Array) -> NDArray[Any]:
    """Values as they are stored; an empty one is 0."""
    numbers: NDArray[Any] = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
    return numbers


def _offsets(lists: pa.ListArray) -> NDArray[np.int64]:
    offsets: NDArray[np.int64] = lists.offsets.to_numpy().astype(np.int64)
    return offsets - offsets[0]


def _owner(places: NDArray[np.intp], starts: NDArray[np.int64]) -> NDArray[np.intp]:
    """The list that holds each place, where list i begins at `starts[i]`."""
    return np.searchsorted(starts, places, side="right") - 1


def _dictionary_lengths(column: pa.ChunkedArray) -> int:
    """Bytes that a dictionary-encoded text column takes once expanded."""
    total = 0
    for chunk in column.chunks:
        lengths = pc.fill_null(pc.binary_length(chunk.dictionary), 0).to_numpy(zero_copy_only=False)
        places = pc.drop_null(chunk.indices).to_numpy(zero_copy_only=False)
        total += int(lengths[places].sum(dtype=np.int64))
    return total


def _as_record(row: TokenRow, codec: CodecIdentity) -> dict[str, Any]:
    plain = ("id", "text", "phonemes", "speaker", "split", "num_samples", "num_frames")
    return {
        **{name: getattr(row, name) for name in plain},
        "codec": codec_name(codec),
        "durations": row.durations.tolist(),
        "codes": list(row.codes.numpy().astype(np.uint16)),
    }
