"""The bytes of header, chunk and end record: what they hold, and what they refuse to hold."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_streams import CODEC

from speechlm.errors import ConfigError, CorruptStream
from speechlm.transmission.container import (
    Chunk,
    EndRecord,
    StreamHeader,
    find_end,
    header_crc,
    unpack_chunk,
    unpack_header,
)

HEADER = StreamHeader(CODEC, 3, "static", "00ff00ff00ff00ff", 10)


@given(
    st.builds(
        StreamHeader,
        st.builds(
            replace,
            st.just(CODEC),
            codec_id=st.text(max_size=16),
            codebook_size=st.integers(2, 1 << 16),
            hop_length=st.integers(1, (1 << 16) - 1),
        ),
        st.integers(3, 6),
        st.sampled_from(["uniform", "static", "integer-1"]),
        st.just("0123456789abcdef"),
        st.integers(1, 255),
        st.integers(0, 1 << 20),
    )
)
def test_a_header_says_again_what_it_was_told(header: StreamHeader) -> None:
    packed = header.pack()
    assert unpack_header(packed) == (header, len(packed))
    assert all(unpack_header(packed[:n]) is None for n in range(len(packed)))


def test_the_shipped_codecs_header_is_as_short_as_documented() -> None:
    codec = replace(CODEC, codec_id="speechlm-16khz-50hz", codebook_size=1024)
    assert len(replace(HEADER, codec=codec).pack()) == 68
    assert len(EndRecord(0, ()).pack(0)) == 24


@pytest.mark.parametrize(
    "changes",
    [
        {"num_books": 2},
        {"num_books": 7},
        {"numeric_profile": "float"},
        {"model_fingerprint": "abc"},
        {"model_fingerprint": "X" * 16},
        {"chunk_frames": 0},
        {"chunk_frames": 256},
        {"num_samples": -1},
        {"num_samples": (1 << 20) * 3200 + 1},
        {"codec": replace(CODEC, revision="")},
        {"codec": replace(CODEC, codec_id="ü" * 33)},
        {"codec": replace(CODEC, hop_length=1 << 16)},
        {"codec": replace(CODEC, codebook_size=1)},
        {"codec": replace(CODEC, num_codebooks=255), "num_books": 255, "chunk_frames": 255},
    ],
)
def test_what_the_format_cannot_hold_is_refused_before_it_is_written(changes: dict) -> None:
    with pytest.raises(ConfigError, match=r"\.lmc|more than"):
        replace(HEADER, **changes)


def test_a_header_with_sizes_of_no_codec_is_corrupt_though_its_checksum_holds() -> None:
    import struct
    import zlib

    packed = bytearray(HEADER.pack())
    struct.pack_into("<H", packed, 28, 0)  # the hop length
    packed[-4:] = struct.pack("<I", zlib.crc32(packed[:-4]))
    with pytest.raises(CorruptStream, match="values"):
        unpack_header(packed)


@given(st.integers(0, 100_000), st.binary(max_size=19), st.booleans(), st.booleans())
def test_a_chunk_says_again_what_it_was_told(
    number: int, payload: bytes, is_raw: bool, is_last: bool
) -> None:
    seed = header_crc(HEADER.pack())
    chunk = Chunk(number, payload, is_raw, 3200 if is_last else None)
    packed = b"??" + chunk.pack(seed)
    assert unpack_chunk(packed, 2, HEADER, seed, max(0, number - 1000)) == chunk
    assert unpack_chunk(packed, 2, HEADER, seed + 1, number) is None  # another header's
    assert unpack_chunk(packed, 2, HEADER, seed, number + 1) is None  # it was here before


def test_the_index_is_found_from_the_end() -> None:
    end = EndRecord(25_000, tuple(range(20, 28)))
    seed = header_crc(HEADER.pack())
    packed = end.pack(seed)
    assert find_end(b"any chunk" + packed, HEADER, seed) == end
    assert find_end(packed[1:], HEADER, seed) is None
    assert find_end(b"any chunk", HEADER, seed) is None
    assert find_end(packed, HEADER, seed + 1) is None
