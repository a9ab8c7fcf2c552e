"""Only speech is counted in another codec's file, by the layout that its RFC gives."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
import torch

from speechlm.errors import UnsupportedAudio
from speechlm.eval.bitstreams import amr_wb_payload, ogg_packets, opus_payload, speex_payload
from speechlm.tokenizer.audio import encode_audio, write_audio

RATE = 16_000
NOISE = 0.1 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))


def page(segments: list[int], body: bytes) -> bytes:
    return b"OggS" + bytes(22) + bytes([len(segments), *segments]) + body


def test_packets_go_on_over_segments_and_pages() -> None:
    long, exact = bytes(range(250)) * 2, b"x" * 255
    data = page([3, 255], b"abc" + long[:255]) + page([245, 255, 0, 0], long[255:] + exact)
    assert list(ogg_packets(data)) == [b"abc", long, exact, b""]


def test_a_file_that_is_no_ogg_or_breaks_off_is_refused() -> None:
    whole = encode_audio(NOISE, RATE, ".opus")
    for damaged in (b"RIFF" + whole[4:], whole[:-1], whole + b"OggS"):
        with pytest.raises(UnsupportedAudio, match="not Ogg"):
            list(ogg_packets(damaged))
    with pytest.raises(UnsupportedAudio, match="not Ogg Opus"):
        opus_payload(encode_audio(NOISE, RATE, ".ogg"))


def test_opus_time_is_that_of_the_recording_and_tags_are_not_counted() -> None:
    data = encode_audio(NOISE, RATE, ".opus")
    payload = opus_payload(data)
    assert 1.0 <= payload.seconds < 1.05  # whole frames, and what the decoder skips first
    headers = sum(map(len, list(ogg_packets(data))[:2]))
    assert payload.bits / 8 < len(data) - headers
    assert payload.bits / 8 > 0.9 * (len(data) - headers)


@pytest.mark.parametrize(
    ("first", "second", "seconds"),
    [
        (0 << 3, b"", 0.01),  # SILK, one frame
        (3 << 3 | 1, b"", 0.12),  # SILK, two frames of 60 ms
        (13 << 3, b"", 0.02),  # hybrid
        (16 << 3 | 3, b"\x05", 0.0125),  # CELT, five frames of 2.5 ms
    ],
)
def test_opus_packets_say_their_duration(first: int, second: bytes, seconds: float) -> None:
    packet = bytes([first]) + second
    data = page([8, 1, len(packet)], b"OpusHeadT" + packet)
    assert opus_payload(data).seconds == pytest.approx(seconds)
    assert opus_payload(data).bits == 8 * len(packet)


def test_amr_wb_frames_count_their_bits_without_octet_padding() -> None:
    speech = bytes([2 << 3 | 4]) + bytes(32)  # 12.65 kbit/s: 253 bits in 32 octets
    silence, nothing = bytes([9 << 3 | 4]) + bytes(5), bytes([15 << 3 | 4])
    payload = amr_wb_payload(b"#!AMR-WB\n" + 3 * speech + silence + nothing)
    assert payload.bits == 3 * 253 + 40
    assert payload.seconds == pytest.approx(5 * 0.02)
    with pytest.raises(UnsupportedAudio, match="AMR-WB"):
        amr_wb_payload(b"#!AMR\n" + speech)


def speex_file(frames: int, *packets: bytes, mode: int = 1, extra: int = 0) -> bytes:
    numbers = struct.pack("<9i", RATE, mode, 4, 1, -1, 320, 0, frames, extra)
    header = b"Speex   ".ljust(36, b"1") + numbers + bytes(8)
    return page(
        [*(len(p) for p in (header, b"tags", *packets))], header + b"tags" + b"".join(packets)
    )


def speex_frame(narrow: int, narrow_bits: int, wide: int | None, wide_bits: int = 0) -> str:
    layer = "" if wide is None else f"1{wide:03b}".ljust(wide_bits, "1")
    return f"0{narrow:04b}".ljust(narrow_bits, "1") + layer


def packed(bits: str) -> bytes:
    """Bits in bytes, filled up as Speex does: a zero, then ones."""
    bits = bits + "0" + "1" * (-(len(bits) + 1) % 8) if len(bits) % 8 else bits
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def test_speex_frames_count_their_bits_without_what_fills_bytes() -> None:
    slow = speex_frame(1, 43, 1, 36)  # quality 0: 79 bits
    packets = [packed(slow), packed(slow)]
    assert speex_payload(speex_file(1, *packets)) == (2 * 79, 0.04)
    two = packed(slow + speex_frame(3, 160, 2, 112))
    assert speex_payload(speex_file(2, two)) == (79 + 272, 0.04)
    assert speex_payload(speex_file(1, packed(speex_frame(8, 79, None)))).bits == 79
    assert speex_payload(speex_file(1, b"more", *packets, extra=1)).bits == 2 * 79


def test_what_is_no_wideband_speex_is_refused() -> None:
    frame = packed(speex_frame(1, 43, 1, 36))
    with pytest.raises(UnsupportedAudio, match="not Speex"):
        speex_payload(encode_audio(NOISE, RATE, ".opus"))
    with pytest.raises(UnsupportedAudio, match="-w"):
        speex_payload(speex_file(1, frame, mode=0))
    for bad in (frame[:-2], packed("01111" + "1" * 43), packed(speex_frame(1, 43, 7, 36))):
        with pytest.raises(UnsupportedAudio, match=r"breaks off|no Speex|unknown"):
            speex_payload(speex_file(1, bad))


@pytest.mark.skipif(not shutil.which("speexenc"), reason="speexenc is not on PATH")
@pytest.mark.parametrize(("quality", "rate"), [(0, 3950), (3, 9800), (6, 20_600), (10, 42_200)])
def test_speexenc_is_measured_at_the_rates_of_its_manual(
    quality: int, rate: int, tmp_path: Path
) -> None:
    write_audio(tmp_path / "a.wav", NOISE, RATE)
    names = [str(tmp_path / name) for name in ("a.wav", "a.spx")]
    subprocess.run(
        ["speexenc", "-w", "--quality", str(quality), *names], check=True, capture_output=True
    )
    payload = speex_payload((tmp_path / "a.spx").read_bytes())
    assert payload.bits / payload.seconds == pytest.approx(rate)


@pytest.mark.skipif(not shutil.which("opusenc"), reason="opusenc is not on PATH")
def test_a_constant_rate_of_opusenc_is_measured_as_asked(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", NOISE, RATE)
    names = [str(tmp_path / name) for name in ("a.wav", "a.opus")]
    subprocess.run(["opusenc", "--quiet", "--hard-cbr", "--bitrate", "16", *names], check=True)
    payload = opus_payload((tmp_path / "a.opus").read_bytes())
    assert payload.bits / payload.seconds == pytest.approx(16_000, rel=0.01)
