"""The static profile: integer tables that need no network, each code given the one before it in its book.

The codes of the frame before are put into classes, and every class of every book has a table. In the first
frame of a chunk nothing came before; it has tables of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptCodes, CorruptWeights, ModelMismatch
from ..tokenizer.codes import CodecIdentity
from ..tokenizer.files import write_atomically
from .symbol_model import TOTAL_BITS

FORMAT = "speechlm-static-table-1"  # of the fingerprint, and of files that hold a tensor a table
PACKED_FORMAT = "speechlm-static-table-2"  # of files whose tables are compressed
MAX_FILE_BYTES = 64 << 20
MAX_TABLE_BYTES = 64 << 20  # of unpacked tables, as 16-bit numbers
_PARTS = ("start", "classes", "table")


@dataclass(frozen=True)
class BookTable:
    """Tables of one book.

    Attributes:
        start: int64 `[V]`, for the first frame of a chunk.
        classes: int64 `[V]`, the class of each code of the frame before.
        table: int64 `[C, V]`, a row for each class. All rows sum to `2 ** TOTAL_BITS`, none holds a 0.
    """

    start: NDArray[np.int64]
    classes: NDArray[np.int64]
    table: NDArray[np.int64]


@dataclass(frozen=True)
class StaticTable:
    """Tables of the leading books of a codec.

    Raises:
        CorruptWeights: If a shape or a sum is not right.
    """

    codec: CodecIdentity
    books: tuple[BookTable, ...]

    def __post_init__(self) -> None:
        size = self.codec.codebook_size
        if not 1 <= len(self.books) <= self.codec.num_codebooks:
            raise CorruptWeights(
                f"A static table of {len(self.books)} books does not fit codec {self.codec.codec_id}."
            )
        for number, book in enumerate(self.books):
            rows = np.concatenate([book.start.reshape(1, -1), book.table])
            if (
                book.classes.shape != (size,)
                or rows.shape[1:] != (size,)
                or not 0 <= book.classes.min() <= book.classes.max() < len(book.table)
                or rows.min() < 1
                or (rows.sum(1) != 1 << TOTAL_BITS).any()
            ):
                raise CorruptWeights(
                    f"Book {number} of the static table has wrong shapes, or rows that do not sum to "
                    f"2^{TOTAL_BITS}; learn it again with `speechlm static-table`."
                )

    @property
    def num_books(self) -> int:
        """Books that have tables."""
        return len(self.books)

    @property
    def fingerprint(self) -> str:
        """16 hex digits over the codec and every table."""
        digest = hashlib.sha256(f"{FORMAT} {self.codec.to_json()}".encode())
        for book in self.books:
            for values in (book.start, book.classes, book.table):
                digest.update(np.array(values.shape, "<i8").tobytes())
                digest.update(values.astype("<i4").tobytes())
        return digest.hexdigest()[:16]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file: the codec and the sizes in its metadata, the tables compressed.

        The one tensor `packed` is a zlib stream of all values of `start`, `classes` and `table`, book by
        book, as 16-bit numbers: first the low bytes of all of them, then the high ones.
        """
        from safetensors.numpy import save

        values = np.concatenate(
            [getattr(book, part).reshape(-1) for book in self.books for part in _PARTS]
        )
        planes = values.astype("<u2").view(np.uint8).reshape(-1, 2).T
        packed = np.frombuffer(zlib.compress(planes.tobytes(), 9), np.uint8)
        metadata = {
            "format": PACKED_FORMAT,
            "codec": self.codec.to_json(),
            "classes": json.dumps([len(book.table) for book in self.books]),
        }
        write_atomically(path, save({"packed": packed}, metadata))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> StaticTable:
        """Read what `save` wrote, now or when it wrote a tensor a table.

        Raises:
            CorruptWeights: If the file is missing, too large, or holds anything else.
        """
        from safetensors import SafetensorError, safe_open

        name = Path(path)
        if not name.is_file():
            raise CorruptWeights(
                f"There is no static table {name}; `speechlm static-table` learns one."
            )
        if name.stat().st_size > MAX_FILE_BYTES:
            raise CorruptWeights(f"{name} is larger than {MAX_FILE_BYTES >> 20} MiB; not read.")
        try:
            with safe_open(name, "np") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") not in (FORMAT, PACKED_FORMAT):
                    raise CorruptWeights(
                        f"{name} is no static table of the formats {FORMAT} and {PACKED_FORMAT}."
                    )
                codec = CodecIdentity.from_json(metadata.get("codec", ""))
                if metadata["format"] == FORMAT:
                    books = _separate_books(file.keys(), file.get_tensor)
                else:
                    classes = _class_counts(metadata.get("classes", ""), codec)
                    books = _packed_books(file.get_tensor("packed"), classes, codec.codebook_size)
        except (SafetensorError, OSError, CorruptCodes, ValueError, zlib.error) as error:
            raise CorruptWeights(
                f"{name} is no static table, or a damaged one ({error})."
            ) from error
        try:
            return cls(codec, books)
        except (ValueError, IndexError) as error:  # shapes that do not even stack
            raise CorruptWeights(f"{name} holds tables of wrong shapes ({error}).") from error


def _separate_books(
    names: Iterable[str], get: Callable[[str], NDArray[np.generic]]
) -> tuple[BookTable, ...]:
    """Books of a file that holds a tensor a table."""
    count = sum(name.endswith(".table") for name in names)
    return tuple(
        BookTable(*(get(f"book{number}.{part}").astype(np.int64) for part in _PARTS))
        for number in range(count)
    )


def _class_counts(text: str, codec: CodecIdentity) -> list[int]:
    """C of every book, as a packed file states them.

    Raises:
        ValueError: If a codec has no such tables, or they would be absurdly large.
    """
    classes = json.loads(text)
    size = codec.codebook_size
    if not (
        isinstance(classes, list)
        and 1 <= len(classes) <= codec.num_codebooks
        and all(type(count) is int and 1 <= count <= size for count in classes)
    ):
        raise ValueError("its classes are not those of the codec's books")
    if 2 * size * sum(count + 2 for count in classes) > MAX_TABLE_BYTES:
        raise ValueError(f"its tables would take more than {MAX_TABLE_BYTES >> 20} MiB")
    return classes


def _packed_books(
    packed: NDArray[np.generic], classes: Sequence[int], size: int
) -> tuple[BookTable, ...]:
    """Books out of the tensor `packed`; never unpacks more than `classes` imply.

    Raises:
        ValueError: If it holds more or less than that, or is damaged.
    """
    if packed.dtype != np.uint8 or packed.ndim != 1:
        raise ValueError("its packed tables are not bytes")
    counts = [part for count in classes for part in (size, size, count * size)]
    num_bytes = 2 * sum(counts)
    unpacker = zlib.decompressobj()
    raw = unpacker.decompress(packed.tobytes(), num_bytes + 1)
    if len(raw) != num_bytes or not unpacker.eof or unpacker.unused_data:
        raise ValueError(f"its packed tables do not hold {num_bytes} bytes and nothing else")
    planes = np.frombuffer(raw, np.uint8).reshape(2, -1).astype(np.int64)
    pieces = np.split(planes[0] + 256 * planes[1], np.cumsum(counts)[:-1])
    return tuple(
        BookTable(pieces[number], pieces[number + 1], pieces[number + 2].reshape(-1, size))
        for number in range(0, len(pieces), 3)
    )


@dataclass
class _State:
    """Where a chunk is: the book that comes next, and the last code of each."""

    book: int
    last: list[int]  # -1 in the first frame


class StaticTableModel:
    """A `SymbolModel` of a static table, for the first `num_books` books.

    Raises:
        ModelMismatch: If the table has fewer books.
    """

    numeric_profile = "static"

    def __init__(self, table: StaticTable, num_books: int | None = None) -> None:
        self.num_books = table.num_books if num_books is None else num_books
        if not 1 <= self.num_books <= table.num_books:
            raise ModelMismatch(
                f"The static table has {table.num_books} books, {num_books} are to be coded; learn one "
                "for as many."
            )
        self.codec, self.codebook_size = table.codec, table.codec.codebook_size
        self.fingerprint = table.fingerprint
        self._table, self._books = table, table.books

    def narrowed(self, num_books: int) -> StaticTableModel:
        """The model of the first books of the same table."""
        return StaticTableModel(self._table, num_books)

    def start(self) -> _State:
        """In front of the first frame."""
        return _State(0, [-1] * self.num_books)

    def frequencies(self, state: _State) -> NDArray[np.int64]:
        """The row of the class of this book's last code, `[V]`."""
        book, last = self._books[state.book], state.last[state.book]
        return book.start if last < 0 else book.table[book.classes[last]]

    def push(self, state: _State, symbol: int) -> None:
        """Move on to the next book, or to the first one of the next frame."""
        state.last[state.book] = symbol
        state.book = (state.book + 1) % self.num_books
