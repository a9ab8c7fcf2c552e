"""Bytes of an `.lmc` stream, in pieces of any size, to its parts; what is damaged is named and passed over.

After a part that does not hold, every following byte is tried as the begin of another, so a chunk that was
altered, cut, doubled or put in costs no other. What comes out depends on the bytes only, not on their cuts.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import CorruptStream
from .container import (
    CHUNK_HEAD_BYTES,
    Chunk,
    EndRecord,
    StreamHeader,
    chunk_bytes,
    end_bytes,
    header_crc,
    unpack_chunk,
    unpack_end,
    unpack_header,
)

# Beyond one chunk for every eight bytes received, only so many are made up for chunks that are missing: a
# stream of a few bytes must not ask for days of silence.
MAX_CHUNKS_UNSEEN = 64


@dataclass(frozen=True)
class Damage:
    """Something of a stream that is not as it was sent.

    Attributes:
        reason: One sentence.
        offset: Place in the stream, in bytes.
        num_bytes: Bytes passed over there.
        first_chunk: Number of the first chunk concerned.
        num_chunks: Chunks that are missing.
        num_samples: Samples to conceal for them: none where the stream breaks off, and fewer than are
            missing where the hole is longer than such a stream may claim.
        num_lost: Samples that are missing and not concealed, as far as that is known.
        is_open: Whether the stream breaks off there and never told how long it would be.
    """

    reason: str
    offset: int
    num_bytes: int
    first_chunk: int
    num_chunks: int = 0
    num_samples: int = 0
    num_lost: int = 0
    is_open: bool = False


Part = StreamHeader | Chunk | Damage | EndRecord


class ContainerReader:
    """Bytes in, parts out: the header, chunks in rising order with damage between them, the end record.

    Attributes:
        header: Once it is in.
        end: The end record, once it is in.
    """

    def __init__(self) -> None:
        self.header: StreamHeader | None = None
        self.end: EndRecord | None = None
        self._seed = 0
        self._waiting = bytearray()
        self._base = 0  # place in the stream of the first waiting byte
        self._expected = 0  # number of the next chunk
        self._given = 0  # chunks given out, those to conceal included
        self._skipped = 0  # bytes passed over since the last part
        self._num_samples: int | None = None  # of the whole signal, once the last chunk was seen

    def push(self, data: bytes) -> list[Part]:
        """Take in bytes; returns the parts that are now whole.

        Raises:
            CorruptStream: If the stream does not begin with a header that can be used.
        """
        self._waiting += data
        return self._parts(is_finished=False)

    def finish(self) -> list[Part]:
        """No more bytes come; returns what is left.

        Raises:
            CorruptStream: If not even the header was whole.
        """
        parts = self._parts(is_finished=True)
        if self.header is None:
            raise CorruptStream(
                "The .lmc stream breaks off within its header; nothing can be decoded."
            )
        if self.end is None:
            told = self._num_samples or self.header.num_samples
            missing = max(0, self.header.num_chunks(told) - self._expected)
            lost = max(0, told - self._expected * self.header.chunk_samples) if missing else 0
            what = "The stream breaks off before its end record"
            parts.append(self._damage(what, self._base, missing, 0, lost, is_open=not told))
        elif self._skipped:
            parts.append(self._damage("Bytes follow the end of the stream", self._base, 0, 0, 0))
        return parts

    def _parts(self, is_finished: bool) -> list[Part]:
        parts: list[Part] = []
        place = 0
        if self.header is None:
            found = unpack_header(self._waiting)
            if found is None:
                return parts
            self.header, place = found
            self._seed = header_crc(self._waiting[:place])
            parts.append(self.header)
        while place < len(self._waiting) and self.end is None:
            size, part = self._part_at(place, self.header)
            if part is not None:
                parts += self._with_damage(part, self._base + place, self.header)
                place += size
            elif size and not is_finished:
                break  # the rest of it may still come
            else:
                self._skipped += 1
                place += 1
        if self.end is not None:
            self._skipped += len(self._waiting) - place
            place = len(self._waiting)
        del self._waiting[:place]
        self._base += place
        return parts

    def _part_at(self, place: int, header: StreamHeader) -> tuple[int, Chunk | EndRecord | None]:
        """Bytes of what may stand at `place`, 0 if nothing can; and the part itself if it is whole."""
        left = len(self._waiting) - place
        if left < CHUNK_HEAD_BYTES:
            return CHUNK_HEAD_BYTES, None
        part: Chunk | EndRecord | None
        size = end_bytes(self._waiting, place)
        if size is not None:
            if size > left:
                return size, None
            part = unpack_end(self._waiting, place, header, self._seed)
            return (size, part) if part is not None and self._fits(part, header) else (0, None)
        size = chunk_bytes(self._waiting, place, header)
        if size is None or self._num_samples is not None:
            return 0, None
        if size > left:
            return size, None
        part = unpack_chunk(self._waiting, place, header, self._seed, self._expected)
        return (size, part) if part is not None and _is_within(part, header) else (0, None)

    def _fits(self, end: EndRecord, header: StreamHeader) -> bool:
        """Whether an end record says nothing else than what came before it."""
        known = self._num_samples or header.num_samples or end.num_samples
        return end.num_samples == known and len(end.sizes) >= self._expected

    def _with_damage(
        self, part: Chunk | EndRecord, offset: int, header: StreamHeader
    ) -> list[Part]:
        """A part, behind the damage that lies between the last one and it."""
        parts: list[Part] = []
        number = part.number if isinstance(part, Chunk) else len(part.sizes)
        missing = number - self._expected
        if missing or self._skipped:
            allowed = MAX_CHUNKS_UNSEEN + offset // CHUNK_HEAD_BYTES - self._given
            believed = max(0, min(missing, allowed))
            num_samples = believed * header.chunk_samples
            hole = missing * header.chunk_samples
            if isinstance(part, EndRecord) and missing:
                hole = part.num_samples - self._expected * header.chunk_samples
                num_samples = hole if believed == missing else num_samples
            what = "A part of the stream is damaged"
            parts.append(self._damage(what, offset, missing, num_samples, hole - num_samples))
            self._given += believed
        if isinstance(part, EndRecord):
            self.end = part
        else:
            self._expected = number + 1
            self._given += 1
            if part.num_samples is not None:
                self._num_samples = number * header.chunk_samples + part.num_samples
        return [*parts, part]

    def _damage(
        self,
        what: str,
        offset: int,
        num_chunks: int,
        num_samples: int,
        num_lost: int,
        *,
        is_open: bool = False,
    ) -> Damage:
        """Name what lies before `offset`."""
        first, skipped, self._skipped = self._expected, self._skipped, 0
        missing = {0: "no chunk is missing", 1: f"chunk {first} is missing"}.get(
            num_chunks, f"chunks {first} to {first + num_chunks - 1} are missing"
        )
        if is_open:
            missing = f"what follows chunk {first - 1} is missing" if first else "all is missing"
        elif num_chunks and self.header is not None:
            seconds = (num_samples + num_lost) / self.header.codec.sampling_rate
            missing += f", {seconds:.2f} s"
        where = f"at byte {offset - skipped}"
        passed = f", {skipped} bytes passed over" if skipped else ""
        reason = f"{what} ({where}{passed}): {missing}."
        place = offset - skipped
        return Damage(
            reason, place, skipped, first, num_chunks, num_samples, max(0, num_lost), is_open
        )


def _is_within(chunk: Chunk, header: StreamHeader) -> bool:
    """Whether a chunk belongs to a signal of the length that the header tells, if it tells one."""
    if not header.num_samples:
        return True
    start = chunk.number * header.chunk_samples
    left = header.num_samples - start
    return left > 0 if chunk.num_samples is None else chunk.num_samples == left
