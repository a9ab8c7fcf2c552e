"""Coders of blocks that need no network: codes as they are, and integer tables.

`SymbolBlockCoder` takes any `SymbolModel`, so that what codes chunks of `.lmc` files codes base frames
too. There is no checksum in a block; the packet has one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...errors import CorruptStream, ModelMismatch
from ..chunk_coder import pack_codes, unpack_codes
from ..frequencies import cumulative
from ..range_coder import RangeDecoder, RangeEncoder
from ..static_table import StaticTable
from ..symbol_model import TOTAL_BITS, SymbolModel
from .protocols import BoolArray, IntArray

# Cumulative table of the next code, given the codes so far in coding order
_NextTable = Callable[[list[int]], NDArray[np.int64]]


class RawBlockCoder:
    """Base codes as they are, ceil(log2 V) bits each.

    Args:
        num_books: G.
        codebook_size: V.
    """

    def __init__(self, num_books: int, codebook_size: int) -> None:
        self.num_books, self.codebook_size = num_books, codebook_size
        self.fingerprint = fingerprint_of("raw block", num_books, codebook_size)

    def encode(self, codes: IntArray) -> bytes:
        """Bytes of int64 `[G, n]`."""
        return pack_codes(codes, self.codebook_size)

    def decode(self, data: bytes, num_frames: int) -> IntArray:
        """Codes int64 `[G, n]`; refuses other bytes than `encode` writes."""
        return unpack_codes(data, self.num_books, num_frames, self.codebook_size)


class RawFineCoder:
    """Fine codes as they are, whatever the base.

    Args:
        num_given: G.
        num_levels: P.
        codebook_size: V.
    """

    def __init__(self, num_given: int, num_levels: int, codebook_size: int) -> None:
        self.num_given, self.num_levels, self.codebook_size = num_given, num_levels, codebook_size
        self.fingerprint = fingerprint_of("raw fine", num_given, num_levels, codebook_size)

    def encode(self, fine: IntArray, base: IntArray, is_known: BoolArray) -> bytes:
        """Bytes of int64 `[p, n]`."""
        return pack_codes(fine, self.codebook_size)

    def decode(
        self, data: bytes, num_levels: int, num_frames: int, base: IntArray, is_known: BoolArray
    ) -> IntArray:
        """Codes int64 `[p, n]`; refuses other bytes than `encode` writes."""
        return unpack_codes(data, num_levels, num_frames, self.codebook_size)


class SymbolBlockCoder:
    """Base codes through a symbol model that begins anew with every run.

    Args:
        model: A static table's, or an integer network.
    """

    def __init__(self, model: SymbolModel) -> None:
        self.model, self.num_books = model, model.num_books
        self.fingerprint = fingerprint_of(
            "block", model.numeric_profile, model.fingerprint, model.num_books
        )

    def encode(self, codes: IntArray) -> bytes:
        """Bytes of int64 `[G, n]`."""
        return encode_symbols(codes.T.reshape(-1).tolist(), self._tables())

    def decode(self, data: bytes, num_frames: int) -> IntArray:
        """Codes int64 `[G, n]`; refuses other bytes than `encode` writes."""
        symbols = decode_symbols(data, num_frames * self.num_books, self._tables())
        return np.array(symbols, dtype=np.int64).reshape(num_frames, self.num_books).T

    def _tables(self) -> _NextTable:
        state = self.model.start()

        def following(symbols: list[int]) -> NDArray[np.int64]:
            if symbols:
                self.model.push(state, symbols[-1])
            return cumulative(self.model.frequencies(state))

        return following


class StaticFineCoder:
    """Fine codes through the tables of their books, each given the code before it in its book and block.

    Args:
        table: Tables of all books that are sent.
        num_given: G, the first of them that are base books.

    Raises:
        ModelMismatch: If no book is left for the fine levels.
    """

    def __init__(self, table: StaticTable, num_given: int) -> None:
        if not 1 <= num_given < table.num_books:
            raise ModelMismatch(
                f"A static table of {table.num_books} books codes no level above {num_given} base "
                "books; learn one from all books."
            )
        self.num_given, self.num_levels = num_given, table.num_books - num_given
        self.fingerprint = fingerprint_of("static fine", table.fingerprint, num_given)
        self._books = table.books[num_given:]

    def encode(self, fine: IntArray, base: IntArray, is_known: BoolArray) -> bytes:
        """Bytes of int64 `[p, n]`."""
        return encode_symbols(fine.T.reshape(-1).tolist(), self._tables(len(fine)))

    def decode(
        self, data: bytes, num_levels: int, num_frames: int, base: IntArray, is_known: BoolArray
    ) -> IntArray:
        """Codes int64 `[p, n]`; refuses other bytes than `encode` writes."""
        symbols = decode_symbols(data, num_levels * num_frames, self._tables(num_levels))
        return np.array(symbols, dtype=np.int64).reshape(num_frames, num_levels).T

    def _tables(self, num_levels: int) -> _NextTable:
        def following(symbols: list[int]) -> NDArray[np.int64]:
            book = self._books[len(symbols) % num_levels]
            if len(symbols) < num_levels:
                return cumulative(book.start)
            return cumulative(book.table[book.classes[symbols[-num_levels]]])

        return following


def encode_symbols(symbols: list[int], following: _NextTable) -> bytes:
    """Range-code symbols, each with the table of what came before it."""
    encoder = RangeEncoder()
    for place, symbol in enumerate(symbols):
        table = following(symbols[:place])
        start = int(table[symbol])
        encoder.encode(start, int(table[symbol + 1]) - start, TOTAL_BITS)
    return encoder.finish()


def decode_symbols(data: bytes, count: int, following: _NextTable) -> list[int]:
    """Symbols of what `encode_symbols` gave.

    Raises:
        CorruptStream: If it gives other bytes for these symbols.
    """
    decoder, again = RangeDecoder(data), RangeEncoder()
    symbols: list[int] = []
    for _ in range(count):
        table = following(symbols)
        symbol = decoder.decode(table, TOTAL_BITS)
        start = int(table[symbol])
        again.encode(start, int(table[symbol + 1]) - start, TOTAL_BITS)
        symbols.append(symbol)
    if again.finish() != data:
        raise CorruptStream("A block's bytes are not what an encoder with this table writes.")
    return symbols


def fingerprint_of(*parts: object) -> str:
    """16 hex digits over what a coder's bytes depend on."""
    text = " ".join(["speechlm-link-1", *map(str, parts)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
