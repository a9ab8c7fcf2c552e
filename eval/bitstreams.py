"""How many bits of speech a coded file of another codec carries, and for how long.

Only what a transmission would have to send is counted: no container, no file header, no tags.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import UnsupportedAudio

_AMR_WB_MAGIC = b"#!AMR-WB\n"
_AMR_WB_BITS = (132, 177, 253, 285, 317, 365, 397, 461, 477, 40)  # the last one describes silence
_AMR_WB_FRAME_SECONDS = 0.02
_OGG_HEADER_BYTES = 27
# bits of a Speex frame by its mode, the mode itself included: the narrow band, and the layer above it
_SPEEX_NARROW_BITS = (5, 43, 119, 160, 220, 300, 364, 492, 79)
_SPEEX_WIDE_BITS = (4, 36, 112, 192, 352)
_SPEEX_HEADER_BYTES = 80


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
    frames = amr_wb_frames(data)
    return Payload(sum(map(amr_wb_bits, frames)), len(frames) * _AMR_WB_FRAME_SECONDS)


def amr_wb_frames(data: bytes) -> list[bytes]:
    """Frames of an AMR-WB file, each with its header octet.

    Raises:
        UnsupportedAudio: If the bytes are no such file.
    """
    place, frames = len(_AMR_WB_MAGIC), []
    if not data.startswith(_AMR_WB_MAGIC):
        raise UnsupportedAudio("The coded file is not AMR-WB; check the programme that wrote it.")
    while place < len(data):
        end = place + 1 + -(-amr_wb_bits(data[place : place + 1]) // 8)
        frames.append(data[place:end])
        place = end
    return frames


def amr_wb_bits(frame: bytes) -> int:
    """Bits of speech behind a frame's header octet."""
    kind = frame[0] >> 3 & 0x0F
    return _AMR_WB_BITS[kind] if kind < len(_AMR_WB_BITS) else 0  # lost, or nothing to send


def speex_payload(data: bytes) -> Payload:
    """Of an Ogg file of wideband Speex: its frames, without header packets and the ends of last bytes.

    Raises:
        UnsupportedAudio: If the bytes are no such file.
    """
    packets = list(ogg_packets(data))
    header = packets[0] if packets else b""
    if not header.startswith(b"Speex   ") or len(header) < _SPEEX_HEADER_BYTES:
        raise UnsupportedAudio("The coded file is not Speex; check the programme that wrote it.")
    # from byte 36 on: rate, mode, its version, channels, rate asked for, samples of a frame, variable rate,
    # frames of a packet, further headers
    rate, mode, _, _, _, frame_samples, _, frames, extra = struct.unpack_from("<9i", header, 36)
    if mode != 1 or rate < 1 or frame_samples < 1 or frames < 1 or extra < 0:
        raise UnsupportedAudio("The coded file is not wideband Speex; encode it with -w.")
    speech = packets[2 + extra :]
    bits = sum(_speex_bits(packet, frames) for packet in speech)
    return Payload(bits, len(speech) * frames * frame_samples / rate)


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


def _speex_bits(packet: bytes, frames: int) -> int:
    """Bits of the frames of a wideband packet, without what fills its last byte."""
    value, size, place = int.from_bytes(packet, "big"), 8 * len(packet), 0

    def peek(count: int) -> int:
        return value >> (size - place - count) & ((1 << count) - 1) if place + count <= size else 0

    for _ in range(frames):
        narrow = peek(5)  # a zero, and the mode
        if narrow >= len(_SPEEX_NARROW_BITS):
            raise UnsupportedAudio("A packet of the coded file begins with no Speex frame.")
        place += _SPEEX_NARROW_BITS[narrow]
        wide = peek(4)  # a one and the mode, where there is a layer
        if wide >> 3:
            if wide & 7 >= len(_SPEEX_WIDE_BITS):
                raise UnsupportedAudio("A Speex frame of the coded file has an unknown layer.")
            place += _SPEEX_WIDE_BITS[wide & 7]
    if place > size:
        raise UnsupportedAudio("A packet of the coded file breaks off within a Speex frame.")
    return place
