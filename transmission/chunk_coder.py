"""Codes of one chunk to bytes and back, with a symbol model or as they are.

The one place where a model meets the range coder: both sides ask for each table and push each code alike.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptStream
from .frequencies import cumulative
from .range_coder import RangeDecoder, RangeEncoder
from .symbol_model import TOTAL_BITS, SymbolModel

# Behind the codes follows a checksum of them, as one more symbol: a receiver whose model computes otherwise
# than the sender's gets bytes that hold and codes that do not.
_CHECK_BITS = 8
_CHECK_TABLE = np.arange((1 << _CHECK_BITS) + 1)


def encode_chunk(
    codes: NDArray[np.int64], model: SymbolModel, *, verifies: bool = True
) -> tuple[bytes, bool]:
    """Code a chunk, and send it raw if that is shorter or if it does not decode to itself.

    Args:
        codes: `[K, T]`, K as the model has it, each in `[0, V)`.
        model: Predicts each code.
        verifies: Decode what was coded, as a receiver would, before it is trusted.

    Returns:
        The bytes, and whether they are raw.
    """
    raw = pack_codes(codes, model.codebook_size)
    coded = _code(codes, model)
    if len(coded) >= len(raw):
        return raw, True
    if verifies:
        try:
            if not np.array_equal(decode_chunk(coded, codes.shape[1], model), codes):
                return raw, True
        except CorruptStream:
            return raw, True
    return coded, False


def decode_chunk(payload: bytes, num_frames: int, model: SymbolModel) -> NDArray[np.int64]:
    """Codes `[K, T]` of what `encode_chunk` coded.

    Their checksum is compared; and they are coded again, which must give the same bytes.

    Raises:
        CorruptStream: If the bytes are not those that the encoder writes for these codes.
    """
    decoder, again = RangeDecoder(payload), RangeEncoder()
    codes = np.zeros((model.num_books, num_frames), dtype=np.int64)
    state = model.start()
    for frame in range(num_frames):
        for book in range(model.num_books):
            table = cumulative(model.frequencies(state))
            symbol = decoder.decode(table, TOTAL_BITS)
            _add(again, table, symbol)
            model.push(state, symbol)
            codes[book, frame] = symbol
    check = decoder.decode(_CHECK_TABLE, _CHECK_BITS)
    again.encode(check, 1, _CHECK_BITS)
    if check != _checksum(codes) or again.finish() != payload:
        raise CorruptStream(
            "A chunk's bytes are not what an encoder with this model writes; it was damaged, or made "
            "where the model computes otherwise."
        )
    return codes


def pack_codes(codes: NDArray[np.int64], codebook_size: int) -> bytes:
    """Codes `[K, T]` as they are: frame by frame, each in ceil(log2 V) bits, the highest first."""
    bits = (codebook_size - 1).bit_length()
    places = np.arange(bits - 1, -1, -1)
    return np.packbits((codes.T.reshape(-1, 1) >> places & 1).astype(np.uint8)).tobytes()


def unpack_codes(
    payload: bytes, num_books: int, num_frames: int, codebook_size: int
) -> NDArray[np.int64]:
    """Codes `[K, T]` of what `pack_codes` wrote.

    Raises:
        CorruptStream: If the number of bytes or a code does not fit.
    """
    bits = (codebook_size - 1).bit_length()
    count = num_books * num_frames
    if len(payload) != -(-count * bits // 8):
        raise CorruptStream(
            f"A raw chunk of {num_frames} frames came with {len(payload)} bytes; it is damaged."
        )
    unpacked = np.unpackbits(np.frombuffer(payload, dtype=np.uint8)).astype(np.int64)
    if unpacked[count * bits :].any():
        raise CorruptStream("A raw chunk does not end in zeros; it is damaged.")
    weights = 1 << np.arange(bits - 1, -1, -1)
    codes = (unpacked[: count * bits].reshape(count, bits) * weights).sum(1)
    if (codes >= codebook_size).any():
        raise CorruptStream(f"A raw chunk holds a code above {codebook_size - 1}; it is damaged.")
    return codes.reshape(num_frames, num_books).T


def _code(codes: NDArray[np.int64], model: SymbolModel) -> bytes:
    encoder, state = RangeEncoder(), model.start()
    for symbol in codes.T.reshape(-1).tolist():
        _add(encoder, cumulative(model.frequencies(state)), symbol)
        model.push(state, symbol)
    encoder.encode(_checksum(codes), 1, _CHECK_BITS)
    return encoder.finish()


def _checksum(codes: NDArray[np.int64]) -> int:
    """Lowest byte of the CRC-32 of codes `[K, T]`, frame by frame, as little-endian 16-bit integers."""
    return zlib.crc32(codes.T.astype("<u2").tobytes()) & 0xFF


def _add(encoder: RangeEncoder, table: NDArray[np.int64], symbol: int) -> None:
    start = int(table[symbol])
    encoder.encode(start, int(table[symbol + 1]) - start, TOTAL_BITS)
