"""The wire format of a packet: a head of 11 bytes, heads of blocks, blocks. Its text: `docs/rtp-payload.md`.

A block is a run of frames of one layer: the base books, or some levels of fine books. Sizes are bounded
before anything is made of them, and a checksum that begins with the models' fingerprint is compared before a
block is looked at, so that what another codec or model sent is refused even where its stream number agrees.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ...errors import ConfigError, CorruptStream

if TYPE_CHECKING:  # a profile is read and refused before torch is there
    from ...tokenizer.codes import CodecIdentity

VERSION = 1
HEAD_BYTES = 11
MAX_PACKET_BYTES = 1200  # what passes every usual path unbroken, RTP's and IP's headers included
MAX_BLOCKS = 8
MAX_BLOCK_FRAMES = 16
MAX_BLOCK_BYTES = 255
MAX_LEVELS = 15
MAX_STRIDE = 4
MAX_BACK = 255
NUMBER_BITS = 16
_HEAD = struct.Struct(">BIHI")
_IS_LAST = 0x20


class ForeignPacket(CorruptStream):
    """A whole packet, but of another stream, codec or model."""


@dataclass(frozen=True)
class StreamIdentity:
    """What both ends must agree on.

    Attributes:
        codec: Whose codes are sent.
        base_coder, fine_coder: Fingerprints of the coders.
        has_context: Whether fine codes are coded given base codes; else given nothing.
        session: 16 bits that tell streams of the same codec and models apart; None where any will do.
    """

    codec: CodecIdentity
    base_coder: str
    fine_coder: str
    has_context: bool = True
    session: int | None = None

    @cached_property
    def fingerprint(self) -> bytes:
        """SHA-256 over all but the session."""
        text = f"speechlm-link-{VERSION} {self.codec.to_json()} {self.base_coder} {self.fine_coder}"
        return hashlib.sha256(f"{text} {int(self.has_context)}".encode()).digest()

    @property
    def models(self) -> int:
        """16 bits of the fingerprint: the upper half of the stream number."""
        return int.from_bytes(self.fingerprint[:2], "big")

    @property
    def seed(self) -> int:
        """32 other bits of it, with which checksums begin."""
        return int.from_bytes(self.fingerprint[2:6], "big")

    @property
    def number(self) -> int:
        """The 32-bit stream number, which is also the RTP source.

        Raises:
            ConfigError: If there is no session number.
        """
        if self.session is None or not 0 <= self.session < 1 << 16:
            raise ConfigError(f"The session number is {self.session}; give one from 0 to 65535.")
        return self.models << 16 | self.session


@dataclass(frozen=True)
class Block:
    """A run of frames of one layer.

    Attributes:
        num_levels: 0 for the base books; else how many levels of fine books, from the lowest.
        back: By how many frames the first one lies before the packet's.
        num_frames: How many; each is the packet's stride behind the one before.
        data: Their codes.
    """

    num_levels: int
    back: int
    num_frames: int
    data: bytes

    def frames(self, number: int, stride: int) -> range:
        """Its frame numbers in a packet whose own first frame is `number`."""
        first = number - self.back
        return range(first, first + self.num_frames * stride, stride)


@dataclass(frozen=True)
class Packet:
    """Blocks that travel together.

    Attributes:
        number: Its own first frame, modulo 2^16. What lies before is a copy of what was sent earlier.
        blocks: Base blocks first.
        stride: Distance of a block's frames: above 1 where frames are interleaved.
        is_last: Whether no frame follows its last.
    """

    number: int
    blocks: tuple[Block, ...]
    stride: int = 1
    is_last: bool = False

    def frames(self, block: Block) -> range:
        """Frame numbers of one of its blocks."""
        return block.frames(self.number, self.stride)

    @property
    def newest(self) -> int:
        """Its highest frame number."""
        return max(self.frames(block)[-1] for block in self.blocks)

    @property
    def own_frames(self) -> set[int]:
        """The frames that are new in it; none where it brings nothing but copies."""
        frames = {frame for block in self.blocks for frame in self.frames(block)}
        # copies of interleaved packets lie between these
        return {f for f in frames if f >= self.number and (f - self.number) % self.stride == 0}


def pack_packet(packet: Packet, identity: StreamIdentity) -> bytes:
    """Bytes of a packet.

    Raises:
        ConfigError: If a size does not fit its field; profiles are checked so that it does.
    """
    blocks = packet.blocks
    if (
        not 1 <= len(blocks) <= MAX_BLOCKS
        or not 1 <= packet.stride <= MAX_STRIDE
        or any(
            not 1 <= block.num_frames <= MAX_BLOCK_FRAMES
            or not 0 <= block.back <= MAX_BACK
            or not 0 <= block.num_levels <= MAX_LEVELS
            or len(block.data) > MAX_BLOCK_BYTES
            for block in blocks
        )
    ):
        raise ConfigError("A packet's blocks do not fit the format; choose a profile with fewer.")
    heads = bytearray()
    for place, block in enumerate(blocks):
        heads += bytes([block.num_levels << 4 | block.num_frames - 1, block.back])
        if place < len(blocks) - 1:  # the last one's length is what is left
            heads.append(len(block.data))
    body = bytes(heads) + b"".join(block.data for block in blocks)
    first = VERSION << 6 | _IS_LAST * packet.is_last | packet.stride - 1 << 3 | len(blocks) - 1
    number = packet.number & (1 << NUMBER_BITS) - 1
    check = _checksum(first, identity.number, number, body, identity.seed)
    packed = _HEAD.pack(first, identity.number, number, check) + body
    if len(packed) > MAX_PACKET_BYTES:
        raise ConfigError(
            f"A packet of {len(packed)} bytes is too long; choose a profile with fewer copies."
        )
    return packed


def unpack_packet(data: bytes, identity: StreamIdentity) -> tuple[Packet, int]:
    """A packet and the number of its session.

    Its blocks are within the format's bounds and disjoint in the packet, but not yet decoded.

    Raises:
        ForeignPacket: If it is of another stream, codec or model.
        CorruptStream: If the bytes are no packet.
    """
    if not HEAD_BYTES + 2 <= len(data) <= MAX_PACKET_BYTES:
        raise CorruptStream(f"{len(data)} bytes are no packet.")
    first, stream, number, check = _HEAD.unpack_from(data)
    if first >> 6 != VERSION:
        raise CorruptStream(f"This is no packet of format {VERSION}.")
    session = stream & 0xFFFF
    if stream >> 16 != identity.models or identity.session not in (None, session):
        raise ForeignPacket(f"The packet belongs to the stream {stream:08x}, which is another one.")
    body = data[HEAD_BYTES:]
    if check != _checksum(first, stream, number, body, identity.seed):
        raise CorruptStream("The packet's checksum does not hold; it is damaged or a forgery.")
    stride, count = (first >> 3 & 3) + 1, (first & 7) + 1
    blocks = _blocks(body, count)
    return Packet(number, blocks, stride, bool(first & _IS_LAST)), session


def _blocks(body: bytes, count: int) -> tuple[Block, ...]:
    heads_end = 3 * count - 1
    if len(body) < heads_end:
        raise CorruptStream(f"The packet ends within the heads of its {count} blocks.")
    blocks, place = [], heads_end
    for index in range(count):
        kind, back = body[3 * index : 3 * index + 2]
        size = body[3 * index + 2] if index < count - 1 else len(body) - place
        if not 0 <= size <= min(MAX_BLOCK_BYTES, len(body) - place):
            raise CorruptStream(f"Block {index} of the packet does not end within it.")
        blocks.append(Block(kind >> 4, back, (kind & 15) + 1, body[place : place + size]))
        place += size
    is_fine = [block.num_levels > 0 for block in blocks]
    if is_fine != sorted(is_fine):
        raise CorruptStream("A base block stands behind a fine block.")
    return tuple(blocks)


def _checksum(first: int, stream: int, number: int, body: bytes, seed: int) -> int:
    return zlib.crc32(body, zlib.crc32(struct.pack(">BIH", first, stream, number), seed))
