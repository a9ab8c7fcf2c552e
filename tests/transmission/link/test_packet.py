"""The wire format: what is written is read, and nothing else is."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from speechlm.errors import ConfigError, CorruptStream
from speechlm.tokenizer.codes import CodecIdentity
from speechlm.transmission.link.packet import (
    MAX_PACKET_BYTES,
    Block,
    ForeignPacket,
    Packet,
    StreamIdentity,
    pack_packet,
    unpack_packet,
)

CODEC = CodecIdentity("tiny", "0123456789abcdef", 16_000, 320, 16, 6, 3)
STREAM = StreamIdentity(CODEC, "a" * 16, "b" * 16, True, 0x1234)
PACKET = Packet(
    0xFFFE,
    (Block(0, 3, 5, b"base codes"), Block(0, 9, 1, b""), Block(3, 0, 2, b"fine codes")),
    stride=1,
    is_last=True,
)


def test_a_packet_comes_back() -> None:
    packed = pack_packet(PACKET, STREAM)
    assert unpack_packet(packed, STREAM) == (PACKET, 0x1234)
    assert len(packed) == 11 + 3 * 3 - 1 + 20
    anyone = dataclasses.replace(STREAM, session=None)
    assert unpack_packet(packed, anyone) == (PACKET, 0x1234)


GOLDEN = "62e8de1234fffea582fab804030a00090031006261736520636f64657366696e6520636f646573"


def test_the_format_stays() -> None:
    """These bytes were written by format 1, and are to be read for ever."""
    packed = bytes.fromhex(GOLDEN)
    assert unpack_packet(packed, STREAM)[0] == PACKET
    assert pack_packet(PACKET, STREAM) == packed


@pytest.mark.parametrize(
    "change",
    [
        {"session": 0x1235},
        {"fine_coder": "c" * 16},
        {"has_context": False},
        {"codec": dataclasses.replace(CODEC, revision="f" * 16)},
    ],
)
def test_another_stream_s_packet_is_foreign(change: dict) -> None:
    other = dataclasses.replace(STREAM, **change)
    with pytest.raises(ForeignPacket):
        unpack_packet(pack_packet(PACKET, STREAM), other)


def test_equal_numbers_do_not_deceive() -> None:
    """Models are told apart by 16 bits on the wire, and by the checksum where these agree by chance."""
    numbers: dict[int, StreamIdentity] = {}
    for draw in range(3000):
        made = dataclasses.replace(STREAM, fine_coder=f"{draw:016x}")
        twin = numbers.setdefault(made.number, made)
        if twin is not made:
            break
    else:
        pytest.fail("no two of these models have one number")
    with pytest.raises(CorruptStream):
        unpack_packet(pack_packet(PACKET, made), twin)


def test_no_changed_bit_goes_unseen() -> None:
    packed = pack_packet(PACKET, STREAM)
    for place in range(8 * len(packed)):
        bad = bytearray(packed)
        bad[place // 8] ^= 1 << place % 8
        with pytest.raises(CorruptStream):
            unpack_packet(bytes(bad), STREAM)


def test_no_cut_or_noise_is_a_packet() -> None:
    packed, draw = pack_packet(PACKET, STREAM), random.Random(0)
    for size in range(len(packed)):
        with pytest.raises(CorruptStream):
            unpack_packet(packed[:size], STREAM)
    for _ in range(2000):
        with pytest.raises(CorruptStream):
            unpack_packet(draw.randbytes(draw.randrange(2 * MAX_PACKET_BYTES)), STREAM)


def test_forged_blocks_stay_within_the_packet() -> None:
    """Whoever knows the checksum may write what he likes; blocks still end where the packet does."""
    draw = random.Random(1)
    for _ in range(3000):
        packed = bytearray(pack_packet(PACKET, STREAM))
        packed[11:] = draw.randbytes(draw.randrange(2, 60))
        packed[0] = 0x40 | draw.randrange(64)
        signed = _signed(bytes(packed))
        try:
            packet, _ = unpack_packet(signed, STREAM)
        except CorruptStream:
            continue
        assert sum(len(block.data) for block in packet.blocks) <= len(signed) - 11
        assert all(1 <= block.num_frames <= 16 for block in packet.blocks)


def _signed(packed: bytes) -> bytes:
    import zlib

    check = zlib.crc32(packed[11:], zlib.crc32(packed[:7], STREAM.seed))
    return packed[:7] + check.to_bytes(4, "big") + packed[11:]


@pytest.mark.parametrize(
    "packet",
    [
        Packet(0, ()),
        Packet(0, (Block(0, 0, 1, b""),) * 9),
        Packet(0, (Block(0, 256, 1, b""),)),
        Packet(0, (Block(16, 0, 1, b""),)),
        Packet(0, (Block(0, 0, 17, b""),)),
        Packet(0, (Block(0, 0, 1, bytes(256)),)),
        Packet(0, (Block(0, 0, 1, b""),), stride=5),
        Packet(0, (Block(0, 0, 1, bytes(255)),) * 5),
    ],
)
def test_what_does_not_fit_is_not_written(packet: Packet) -> None:
    with pytest.raises(ConfigError):
        pack_packet(packet, STREAM)


def test_own_frames_are_told_from_copies() -> None:
    assert PACKET.own_frames == {0xFFFE, 0xFFFF} and PACKET.newest == 0xFFFF
    interleaved = Packet(9, (Block(0, 0, 2, b""), Block(0, 1, 3, b"")), stride=2)
    assert interleaved.own_frames == {9, 11} and interleaved.newest == 12


def test_the_document_has_the_sizes() -> None:
    text = (Path(__file__).parents[3] / "docs" / "rtp-payload.md").read_text(encoding="utf-8")
    assert f"{MAX_PACKET_BYTES} bytes" in text and "11 bytes" in text
