"""RTP and RTCP as RFC 3550 lays them out."""

from __future__ import annotations

import random
import struct

import pytest
from tiny_links import packets_of, random_codes

from speechlm.errors import CorruptStream
from speechlm.tokenizer.codec import CodecModel
from speechlm.transmission.link.profile import PROFILES
from speechlm.transmission.link.reports import ReceiverReport
from speechlm.transmission.link.rtp import (
    RtpPacket,
    RtpStream,
    SequenceTracker,
    is_rtcp,
    pack_goodbye,
    pack_report,
    unpack_goodbye,
    unpack_report,
    unpack_rtp,
)


def test_a_header_has_the_standard_s_layout() -> None:
    packed = RtpPacket(b"payload", 0x1234, 0x89ABCDEF, 0xDEADBEEF, True, 97).pack()
    assert packed == bytes.fromhex("80e1123489abcdefdeadbeef") + b"payload"
    assert unpack_rtp(packed) == RtpPacket(b"payload", 0x1234, 0x89ABCDEF, 0xDEADBEEF, True, 97)


def test_sources_extensions_and_padding_are_passed_over() -> None:
    head = struct.pack(">BBHII", 0xB2, 97, 1, 2, 3)
    packed = head + bytes(8) + b"\0\0\0\1" + bytes(4) + b"payload" + b"\0\0\3"
    assert unpack_rtp(packed).payload == b"payload"


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        bytes(11),
        bytes(40),
        b"\x8f" + bytes(20),  # 15 sources that are not there
        b"\x90" + bytes(11) + b"\0\0\xff\xff" + bytes(8),  # an extension beyond the end
        b"\xa0" + bytes(11) + b"\xff",  # more padding than packet
        b"\xa0" + bytes(12),  # padding of no byte
    ],
)
def test_headers_that_lie_are_refused(packed: bytes) -> None:
    with pytest.raises(CorruptStream):
        unpack_rtp(packed)


def test_noise_is_read_or_refused() -> None:
    draw = random.Random(0)
    for _ in range(3000):
        data = draw.randbytes(draw.randrange(80))
        try:
            assert len(unpack_rtp(data).payload) <= len(data)
        except CorruptStream:
            pass
        unpack_report(data, 3, 16_000), unpack_goodbye(data), is_rtcp(data)


def test_a_stream_counts_packets_and_samples(codec: CodecModel) -> None:
    stream = RtpStream(77, 320)
    stream._sequence, stream._begin = 65_534, (1 << 32) - 640  # both wrap soon
    packets = packets_of(codec, random_codes(10), PROFILES["default"])
    read = [unpack_rtp(stream.pack(packet)) for packet in packets]
    assert [packet.sequence for packet in read[:4]] == [65_534, 65_535, 0, 1]
    assert [packet.timestamp for packet in read[:4]] == [(1 << 32) - 640, 0, 640, 1280]
    assert [packet.is_marked for packet in read[:2]] == [True, False]
    assert [packet.payload for packet in read] == packets


def test_reports_come_back() -> None:
    told = ReceiverReport(0.25, 1000, 0.01)
    packed = pack_report(told, 5, 77, 0x1FFFF, 16_000)
    assert len(packed) == 32 and is_rtcp(packed) and packed[1] == 201
    assert unpack_report(packed, 77, 16_000) == told
    assert unpack_report(packed, 78, 16_000) is None
    assert unpack_goodbye(packed) is None
    assert unpack_goodbye(pack_goodbye(77)) == 77 and is_rtcp(pack_goodbye(77))
    assert not is_rtcp(RtpPacket(b"payload", 1, 2, 3).pack())
    assert (
        unpack_report(
            pack_report(ReceiverReport(1, 0, 0), 5, 7, 0, 16_000), 7, 16_000
        ).fraction_lost
        < 1
    )


def test_sequences_are_unwrapped() -> None:
    tracker = SequenceTracker()
    for sequence in (65_534, 65_535, 1, 0, 65_533, 3):
        tracker.push(sequence)
    assert tracker.highest == 0x10003
