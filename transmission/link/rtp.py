"""RTP around packets, and the two RTCP packets that a link needs (RFC 3550, 5506, 5761).

RTP and RTCP share one port; their second byte tells them apart. RTCP packets go alone, in reduced size.
`docs/rtp-payload.md` is the payload format.
"""

from __future__ import annotations

import secrets
import struct
from dataclasses import dataclass

from ...errors import CorruptStream
from .packet import HEAD_BYTES, NUMBER_BITS
from .reports import ReceiverReport

PAYLOAD_TYPE = 97  # dynamic; SDP may name another one
_RTP = struct.Struct(">BBHII")
_RTP_BYTES = 12
_REPORT = struct.Struct(">BBHIIIIIII")
_GOODBYE = struct.Struct(">BBHI")
_RECEIVER_REPORT, _BYE = 201, 203
_VERSION = 2 << 6


@dataclass(frozen=True)
class RtpPacket:
    """What an RTP header says, and its payload.

    Attributes:
        payload: A packet of the link.
        sequence: 16 bits, one more with every packet.
        timestamp: 32 bits, sampling time of the packet's own first frame, from a random begin.
        source: 32 bits; the stream's number.
        is_marked: Set on the first packet of a stream.
        payload_type: 7 bits.
    """

    payload: bytes
    sequence: int
    timestamp: int
    source: int
    is_marked: bool = False
    payload_type: int = PAYLOAD_TYPE

    def pack(self) -> bytes:
        """Its bytes."""
        second = self.is_marked << 7 | self.payload_type
        header = _RTP.pack(_VERSION, second, self.sequence, self.timestamp, self.source)
        return header + self.payload


def unpack_rtp(data: bytes) -> RtpPacket:
    """Read an RTP packet; contributing sources, extensions and padding are passed over.

    Raises:
        CorruptStream: If the bytes are none.
    """
    if len(data) < _RTP_BYTES or data[0] >> 6 != 2:
        raise CorruptStream("These bytes are no RTP packet of version 2.")
    first, second, sequence, timestamp, source = _RTP.unpack_from(data)
    start, stop = _RTP_BYTES + 4 * (first & 15), len(data)
    if first & 0x10:
        if start + 4 > stop:
            raise CorruptStream("An RTP packet ends within its extension.")
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    if first & 0x20:
        stop -= data[-1] or stop + 1
    if start > stop:
        raise CorruptStream("An RTP packet's header or padding is longer than the packet.")
    return RtpPacket(
        data[start:stop], sequence, timestamp, source, bool(second & 0x80), second & 0x7F
    )


class RtpStream:
    """Puts headers before the packets of one stream, in the order of sending.

    Args:
        source: The stream's number.
        hop_length: Samples of a frame, of which the timestamp counts.
        payload_type: 96 to 127.
    """

    def __init__(self, source: int, hop_length: int, payload_type: int = PAYLOAD_TYPE) -> None:
        self.source, self._hop, self._payload_type = source, hop_length, payload_type
        self._sequence = secrets.randbelow(1 << 16)
        self._begin = secrets.randbelow(1 << 32)
        self._number = 0
        self._is_first = True

    def pack(self, packet: bytes) -> bytes:
        """An RTP packet of a packet that `Sender` gave."""
        low = int.from_bytes(packet[HEAD_BYTES - 6 : HEAD_BYTES - 4], "big")
        self._number += (low - self._number) % (1 << NUMBER_BITS)
        made = RtpPacket(
            packet,
            self._sequence,
            (self._begin + self._number * self._hop) % (1 << 32),
            self.source,
            self._is_first,
            self._payload_type,
        )
        self._sequence = (self._sequence + 1) % (1 << 16)
        self._is_first = False
        return made.pack()


class SequenceTracker:
    """The highest sequence number with its wraps, as receiver reports name it (RFC 3550, appendix A.1)."""

    def __init__(self) -> None:
        self._highest: int | None = None

    @property
    def highest(self) -> int:
        """32 bits: wraps in the upper half; 0 before the first packet."""
        return (self._highest or 0) % (1 << 32)

    def push(self, sequence: int) -> None:
        """Take in a sequence number."""
        if self._highest is None:
            self._highest = sequence
            return
        step = (sequence - self._highest + 0x8000) % 0x10000 - 0x8000
        self._highest = max(self._highest, self._highest + step)


def is_rtcp(data: bytes) -> bool:
    """Whether bytes from a port shared with RTP are RTCP (RFC 5761, section 4)."""
    return len(data) >= 8 and data[0] >> 6 == 2 and 192 <= data[1] <= 223


def pack_report(
    report: ReceiverReport, reporter: int, source: int, highest: int, rate_hz: int
) -> bytes:
    """An RTCP receiver report with one block (RFC 3550, section 6.4.2).

    Args:
        report: What to tell.
        reporter, source: Numbers of the reporter and of the stream.
        highest: Highest sequence number, of `SequenceTracker`.
        rate_hz: Of the timestamps, in which jitter is told.
    """
    fraction = min(255, int(report.fraction_lost * 256))
    lost = min(report.num_lost, 0x7FFFFF)
    jitter = min(int(report.jitter_seconds * rate_hz), 0xFFFFFFFF)
    words = (fraction << 24 | lost, highest, jitter, 0, 0)
    return _REPORT.pack(_VERSION | 1, _RECEIVER_REPORT, 7, reporter, source, *words)


def unpack_report(data: bytes, source: int, rate_hz: int) -> ReceiverReport | None:
    """The report on a stream in RTCP bytes; None if they hold none on it."""
    if len(data) < _REPORT.size or data[0] != _VERSION | 1 or data[1] != _RECEIVER_REPORT:
        return None
    _, _, _, _, about, losses, _, jitter, _, _ = _REPORT.unpack_from(data)
    if about != source:
        return None
    lost = losses & 0xFFFFFF
    lost -= (lost & 0x800000) << 1  # it is signed
    return ReceiverReport((losses >> 24) / 256, lost, jitter / rate_hz)


def pack_goodbye(source: int) -> bytes:
    """The RTCP packet that ends a stream (RFC 3550, section 6.6)."""
    return _GOODBYE.pack(_VERSION | 1, _BYE, 1, source)


def unpack_goodbye(data: bytes) -> int | None:
    """The number of the stream that ends; None if the bytes say no such thing."""
    if len(data) < _GOODBYE.size or data[0] != _VERSION | 1 or data[1] != _BYE:
        return None
    return int(_GOODBYE.unpack_from(data)[3])
