"""Files that were cut off, seen in the container itself: decoders take a shortened file for a short one.

RIFF/WAVE states how many bytes of samples follow; an Ogg file ends with a whole page (RFC 3533,
section 6). FLAC and MP3 with a Xing header state their samples, which decoding compares.
"""

from __future__ import annotations

import os
from typing import BinaryIO

_MAX_PAGE_BYTES = 27 + 255 + 255 * 255
_OPEN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)  # written by programmes that could not seek back
_ROUNDING_BYTES = 64  # a last sample or a pad byte that some writers forget


def is_cut_short(file: BinaryIO, size: int) -> bool:
    """Whether a WAV or Ogg file of `size` bytes ends before its own structure says."""
    file.seek(0)
    magic = file.read(12)
    if magic[:4] == b"RIFF" and magic[8:12] == b"WAVE":
        return _cut_wave(file, size)
    if magic[:4] == b"OggS":
        return _cut_ogg(file, size)
    return False


def _cut_wave(file: BinaryIO, size: int) -> bool:
    place = 12
    while place + 8 <= size:
        file.seek(place)
        header = file.read(8)
        length = int.from_bytes(header[4:8], "little")
        if header[:4] == b"data":
            return length not in _OPEN_SIZES and place + 8 + length > size + _ROUNDING_BYTES
        place += 8 + length + length % 2
    return False  # no data chunk at all: the decoder says so


def _cut_ogg(file: BinaryIO, size: int) -> bool:
    start = max(0, size - 2 * _MAX_PAGE_BYTES)
    file.seek(start, os.SEEK_SET)
    tail = file.read()
    place = tail.rfind(b"OggS")
    # The four letters may stand inside a packet: the page that begins there would have version 0
    while place >= 0 and tail[place + 4 : place + 5] not in (b"\0", b""):
        place = tail.rfind(b"OggS", 0, place)
    if place < 0 or len(tail) < place + 27:
        return True
    segments = tail[place + 27 : place + 27 + tail[place + 26]]
    if len(segments) < tail[place + 26]:
        return True
    return place + 27 + len(segments) + sum(segments) > len(tail)
