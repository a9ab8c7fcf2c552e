"""The parts of an `.lmc` stream as bytes: header, chunk, end record. docs/bitstream.md tells the format.

    header | chunk 0 | chunk 1 | … | end record

Every part carries a CRC-32. Those of chunks and end record go on from the header's, so that no part of
another stream is taken for one of this.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from ..errors import ConfigError, CorruptStream
from ..tokenizer.codes import CodecIdentity
from .symbol_model import NUMERIC_PROFILES, TOTAL_BITS

MAGIC = b"\x89LMC"
VERSION = 1
MAX_CHUNK_FRAMES = 255
MAX_CHUNK_BYTES = (1 << 13) - 1  # of the payload; what the length field holds
MAX_CHUNKS = 1 << 20  # twelve days of chunks of a second; ends what a hostile stream may claim
MAX_CODEC_ID_BYTES = 64

_HEADER = struct.Struct("<4sBBBB8s8sIHIBBQB")
_CHUNK = struct.Struct("<HHI")
_LAST_SAMPLES = struct.Struct("<I")
_END_MAGIC = b"END\xff"  # read as a chunk, its length field has bit 15 set, which no chunk has
_END = struct.Struct("<4sIQ")
_END_TAIL = struct.Struct("<II")
_CRC = struct.Struct("<I")
_RAW, _LAST, _RESERVED = 1 << 13, 1 << 14, 1 << 15

CHUNK_HEAD_BYTES = _CHUNK.size
MAX_HEADER_BYTES = _HEADER.size + MAX_CODEC_ID_BYTES + _CRC.size
MAX_END_BYTES = _END.size + 2 * MAX_CHUNKS + _END_TAIL.size


@dataclass(frozen=True)
class StreamHeader:
    """What a decoder must know before the first chunk.

    Attributes:
        codec: The codec that made the codes.
        num_books: K, books that are sent: the first so many.
        numeric_profile: Arithmetic of the model that coded them, one of `NUMERIC_PROFILES`.
        model_fingerprint: 16 hex digits, the model's.
        chunk_frames: Frames of every chunk but the last, 1 to 255.
        num_samples: Length of the signal, or 0 if the sender did not know it yet.

    Raises:
        ConfigError: If a value does not fit the format.
    """

    codec: CodecIdentity
    num_books: int
    numeric_profile: str
    model_fingerprint: str
    chunk_frames: int = 50
    num_samples: int = 0

    def __post_init__(self) -> None:
        codec = self.codec
        checks = {
            "the number of books": codec.min_codebooks <= self.num_books <= codec.num_codebooks,
            "the codec's number of books": codec.num_codebooks <= 255,
            "the codebook size": 2 <= codec.codebook_size <= 1 << TOTAL_BITS,
            "the hop length": codec.hop_length < 1 << 16,
            "the sampling rate": codec.sampling_rate < 1 << 32,
            "the codec's id": len(codec.codec_id.encode()) <= MAX_CODEC_ID_BYTES,
            "the codec's revision": _is_fingerprint(codec.revision),
            "the model's fingerprint": _is_fingerprint(self.model_fingerprint),
            "the numeric profile": self.numeric_profile in NUMERIC_PROFILES,
            "the number of frames in a chunk": 1 <= self.chunk_frames <= MAX_CHUNK_FRAMES,
            "the number of samples": 0 <= self.num_samples <= self.max_samples,
        }
        for name, is_fit in checks.items():
            if not is_fit:
                raise ConfigError(f"An .lmc stream cannot be written: {name} does not fit.")
        if self.max_payload > MAX_CHUNK_BYTES:
            raise ConfigError(
                f"A chunk of {self.chunk_frames} frames takes up to {self.max_payload} bytes, more "
                f"than {MAX_CHUNK_BYTES}; choose fewer frames or books."
            )

    @property
    def bits_per_code(self) -> int:
        """Bits of a code that is not entropy-coded."""
        return (self.codec.codebook_size - 1).bit_length()

    @property
    def chunk_samples(self) -> int:
        """Samples of a whole chunk."""
        return self.chunk_frames * self.codec.hop_length

    @property
    def max_payload(self) -> int:
        """Most bytes that a chunk carries: its codes as they are, and the last one's sample count."""
        bits = self.chunk_frames * self.num_books * self.bits_per_code
        return -(-bits // 8) + _LAST_SAMPLES.size

    @property
    def max_samples(self) -> int:
        """Longest signal of a stream."""
        return MAX_CHUNKS * self.chunk_samples

    def num_chunks(self, num_samples: int) -> int:
        """Chunks of a signal."""
        return -(-num_samples // self.chunk_samples)

    def pack(self) -> bytes:
        """The header as bytes, with its CRC-32."""
        codec, name = self.codec, self.codec.codec_id.encode()
        packed = _HEADER.pack(
            MAGIC,
            VERSION,
            NUMERIC_PROFILES.index(self.numeric_profile),
            self.num_books,
            self.chunk_frames,
            bytes.fromhex(codec.revision),
            bytes.fromhex(self.model_fingerprint),
            codec.sampling_rate,
            codec.hop_length,
            codec.codebook_size,
            codec.num_codebooks,
            codec.num_masked_books,
            self.num_samples,
            len(name),
        )
        packed += name
        return packed + _CRC.pack(zlib.crc32(packed))


def unpack_header(data: bytes | bytearray) -> tuple[StreamHeader, int] | None:
    """The header at the start of a stream, and its number of bytes; None if more bytes are needed.

    Raises:
        CorruptStream: If no header of this version stands there; without it nothing can be decoded.
    """
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise CorruptStream(
            "This is no .lmc stream: it does not begin as `speechlm compress` begins one (what "
            "`speechlm encode` wrote is for `speechlm decode`)."
        )
    if len(data) > len(MAGIC) and data[len(MAGIC)] != VERSION:
        raise CorruptStream(
            f"The .lmc stream is of format {data[len(MAGIC)]}, this speechlm reads format {VERSION}; "
            "use a version that fits."
        )
    if len(data) < _HEADER.size:
        return None
    fields = _HEADER.unpack_from(data)
    end = _HEADER.size + fields[-1]
    if fields[-1] <= MAX_CODEC_ID_BYTES and len(data) < end + _CRC.size:
        return None
    if fields[-1] > MAX_CODEC_ID_BYTES or zlib.crc32(data[:end]) != _CRC.unpack_from(data, end)[0]:
        raise CorruptStream(
            "The header of the .lmc stream is damaged; without it nothing can be decoded."
        )
    (
        _,
        _,
        profile,
        books,
        frames,
        revision,
        model,
        rate,
        hop,
        size,
        all_books,
        masked,
        samples,
        _,
    ) = fields
    try:
        if min(rate, hop) < 1:
            raise ConfigError("The header holds a size below one.")
        name = bytes(data[_HEADER.size : end]).decode()
        codec = CodecIdentity(name, revision.hex(), rate, hop, size, all_books, masked)
        header = StreamHeader(codec, books, NUMERIC_PROFILES[profile], model.hex(), frames, samples)
    except (ConfigError, IndexError, UnicodeDecodeError) as error:
        raise CorruptStream(
            f"The header of the .lmc stream holds values that this speechlm does not know ({error})."
        ) from error
    return header, end + _CRC.size


@dataclass(frozen=True)
class Chunk:
    """A chunk as it travels.

    Attributes:
        number: Its place in the stream, from 0.
        payload: Coded or packed codes.
        is_raw: Whether the codes are packed as they are, without a model.
        num_samples: Samples that the chunk holds if it is the last, else None: all of a chunk's.
    """

    number: int
    payload: bytes
    is_raw: bool
    num_samples: int | None = None

    def pack(self, seed: int) -> bytes:
        """The chunk as bytes; `seed` is the header's CRC-32."""
        body, kind = self.payload, _RAW if self.is_raw else 0
        if self.num_samples is not None:
            body, kind = _LAST_SAMPLES.pack(self.num_samples) + body, kind | _LAST
        if len(body) > MAX_CHUNK_BYTES:
            raise ConfigError(f"A chunk of {len(body)} bytes does not fit an .lmc stream.")
        head = struct.pack("<HH", self.number & 0xFFFF, kind | len(body))
        return head + _CRC.pack(zlib.crc32(body, zlib.crc32(head, seed))) + body


def header_crc(packed: bytes | bytearray) -> int:
    """CRC-32 of a packed header, from which those of all other parts go on."""
    return int(_CRC.unpack_from(packed, len(packed) - _CRC.size)[0])


def chunk_bytes(data: bytes | bytearray, place: int, header: StreamHeader) -> int | None:
    """Bytes of the chunk that may stand at `place`, where at least its head is there; None if none can."""
    _, kind, _ = _CHUNK.unpack_from(data, place)
    length = kind & MAX_CHUNK_BYTES
    if kind & _RESERVED or length > header.max_payload:
        return None
    return int(_CHUNK.size + length)


def unpack_chunk(
    data: bytes | bytearray, place: int, header: StreamHeader, seed: int, expected: int
) -> Chunk | None:
    """The chunk at `place`, which is there to its last byte; None if that is no chunk.

    `expected` is the lowest number that it may have; of its own, 16 bits are written.
    """
    low, kind, crc = _CHUNK.unpack_from(data, place)
    start = place + _CHUNK.size
    body = bytes(data[start : start + (kind & MAX_CHUNK_BYTES)])
    if zlib.crc32(body, zlib.crc32(data[place : place + 4], seed)) != crc:
        return None
    ahead = (low - expected) & 0xFFFF
    number = expected + ahead
    if ahead >= 1 << 15 or number >= MAX_CHUNKS:  # one that was here before, or none of ours
        return None
    num_samples = None
    if kind & _LAST:
        if len(body) < _LAST_SAMPLES.size:
            return None
        num_samples = _LAST_SAMPLES.unpack_from(body)[0]
        if not 1 <= num_samples <= header.chunk_samples:
            return None
        body = body[_LAST_SAMPLES.size :]
    return Chunk(number, body, bool(kind & _RAW), num_samples)


@dataclass(frozen=True)
class EndRecord:
    """The close of a stream, with its seek index.

    Attributes:
        num_samples: Length of the signal.
        sizes: Bytes of each chunk, its head included.
    """

    num_samples: int
    sizes: tuple[int, ...]

    def pack(self, seed: int) -> bytes:
        """The record as bytes; `seed` is the header's CRC-32."""
        packed = _END.pack(_END_MAGIC, len(self.sizes), self.num_samples)
        packed += struct.pack(f"<{len(self.sizes)}H", *self.sizes)
        return packed + _END_TAIL.pack(zlib.crc32(packed, seed), len(packed) + _END_TAIL.size)


def end_bytes(data: bytes | bytearray, place: int) -> int | None:
    """Bytes of the end record that may stand at `place`: of its fixed part if that is not all there yet.

    None if no end record begins there.
    """
    if data[place : place + len(_END_MAGIC)] != _END_MAGIC:
        return None
    if len(data) < place + _END.size:
        return _END.size
    _, count, _ = _END.unpack_from(data, place)
    return None if count > MAX_CHUNKS else int(_END.size + 2 * count + _END_TAIL.size)


def unpack_end(
    data: bytes | bytearray, place: int, header: StreamHeader, seed: int
) -> EndRecord | None:
    """The end record at `place`, which is there to its last byte; None if that is none."""
    _, count, num_samples = _END.unpack_from(data, place)
    stop = place + _END.size + 2 * count
    crc, length = _END_TAIL.unpack_from(data, stop)
    if length != stop + _END_TAIL.size - place or zlib.crc32(data[place:stop], seed) != crc:
        return None
    if header.num_chunks(num_samples) != count:
        return None
    return EndRecord(num_samples, struct.unpack_from(f"<{count}H", data, place + _END.size))


def find_end(tail: bytes, header: StreamHeader, seed: int) -> EndRecord | None:
    """The end record that a stream's last bytes hold, for seeking; None if it is not there.

    `tail` should be the last `MAX_END_BYTES`, or all there are.
    """
    if len(tail) < _END.size + _END_TAIL.size:
        return None
    length = _END_TAIL.unpack_from(tail, len(tail) - _END_TAIL.size)[1]
    place = len(tail) - length
    if place < 0 or length < _END.size + _END_TAIL.size or end_bytes(tail, place) != length:
        return None
    return unpack_end(tail, place, header, seed)


def _is_fingerprint(text: str) -> bool:
    return len(text) == 16 and set(text) <= set("0123456789abcdef")
