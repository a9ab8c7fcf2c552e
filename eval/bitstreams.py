"""How many bits of speech a coded file of another codec carries, and for how long.

Only what a transmission would have to send is counted: no container, no file header, no tags.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..errors import UnsupportedAudio

_AMR_WB_MAGIC = b"#!AMR-WB\n"
_AMR_WB_BITS = (132, 177, 253, 285, 317, 365, 397, 461, 477, 40)  # the last one describes silence
_AMR_WB_FRAME_SECONDS = 0.02
_OGG_HEADER_BYTES = 27


class Payload(NamedTuple):
    """Bits of speech, and the seconds that they code (padding frames included)."""

    bits: int
    seconds: float


def opus_payload(data: bytes) -> Payload:
    """Of an Ogg Opus file (RFC 7845): its packets, without the two of the header.

    Raises:
        UnsupportedAudio: If the bytes are no such file.
    """
    packets = list(ogg_packets(data))
    if len(packets) < 3 or not packets[0].startswith(b"OpusHead"):
        raise UnsupportedAudio("The coded file is not Ogg Opus; check the programme that wrote it.")
    speech = [packet for packet in packets[2:] if packet]
    return Payload(8 * sum(map(len, speech)), sum(map(_opus_seconds, speech)))


def amr_wb_payload(data: bytes) -> Payload:
    """Of an AMR-WB file (RFC 4867, section 5): its frames, without header octets and padding bits.

    Raises:
        UnsupportedAudio: If the bytes are no such file.
    """
    place, bits, frames = len(_AMR_WB_MAGIC), 0, 0
    if not data.startswith(_AMR_WB_MAGIC):
        raise UnsupportedAudio("The coded file is not AMR-WB; check the programme that wrote it.")
    while place < len(data):
        kind = data[place] >> 3 & 0x0F
        size = _AMR_WB_BITS[kind] if kind < len(_AMR_WB_BITS) else 0  # lost, or nothing to send
        bits += size
        frames += 1
        place += 1 + -(-size // 8)
    return Payload(bits, frames * _AMR_WB_FRAME_SECONDS)


def ogg_packets(data: bytes) -> Iterator[bytes]:
    """Packets of an Ogg file with one stream (RFC 3533), in order.

    Raises:
        UnsupportedAudio: If a page does not begin where it should, or is cut off.
    """
    place, packet = 0, b""
    while place < len(data):
        segments = data[place + _OGG_HEADER_BYTES - 1] if len(data) > place + 26 else 0
        start = place + _OGG_HEADER_BYTES + segments
        sizes = data[place + _OGG_HEADER_BYTES : start]
        if data[place : place + 4] != b"OggS" or start + sum(sizes) > len(data):
            raise UnsupportedAudio("The coded file is not Ogg, or is cut off; write it again.")
        place = start
        for size in sizes:
            packet += data[place : place + size]
            place += size
            if size < 255:  # a packet goes on over segments of 255 bytes, and over pages
                yield packet
                packet = b""


def _opus_seconds(packet: bytes) -> float:
    """Duration of a packet by its first byte, and its second where that counts frames."""
    setting = packet[0] >> 3
    if setting < 12:
        frame = (0.01, 0.02, 0.04, 0.06)[setting % 4]
    elif setting < 16:
        frame = (0.01, 0.02)[setting % 2]
    else:
        frame = (0.0025, 0.005, 0.01, 0.02)[setting % 4]
    code = packet[0] & 3
    if code == 3:
        return frame * (packet[1] & 0x3F) if len(packet) > 1 else 0.0
    return frame * (1 if code == 0 else 2)
