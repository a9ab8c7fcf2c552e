"""Bytes from strangers: dropped, counted, and without any effect on what is heard."""

from __future__ import annotations

import random

import pytest
import torch
from tiny_codecs import tiny_codec
from tiny_links import Listener, packets_of, random_codes

from speechlm.benchmarks import fuzz_link
from speechlm.tokenizer.codec import CodecModel
from speechlm.transmission.link.profile import PROFILES
from speechlm.transmission.link.receiver import Receiver


def test_thousands_of_mutated_packets_change_nothing(codec: CodecModel) -> None:
    codes, profile = random_codes(100), PROFILES["default"]
    packets = packets_of(codec, codes, profile)
    clean = Listener(codec, profile, session=7).play(packets, 100)
    draw, mixed, count = random.Random(0), [], 0
    for packet in packets:
        for _ in range(60):
            bad = fuzz_link.mutated(packet, packets, draw)
            if bad not in packets:
                mixed.append(bad)
                count += 1
        mixed.append(packet)
    assert count > 2500
    listener = Listener(codec, profile, session=7)
    assert torch.equal(listener.play(mixed, 100), clean)
    told = listener.receiver.statistics
    assert told.corrupt + told.foreign == count
    assert told.received == len(packets) and not told.duplicate


def test_a_foreign_stream_is_refused(codec: CodecModel) -> None:
    profile, codes = PROFILES["default"], random_codes(40)
    own = packets_of(codec, codes, profile, session=7)
    strangers = packets_of(codec, random_codes(40, seed=9), profile, session=8)
    other_codec = packets_of(tiny_codec(num_mels=24), codes, profile, session=7)
    clean = Listener(codec, profile).play(own, 40)
    listener = Listener(codec, profile)
    mixed = [packet for pair in zip(own, strangers, other_codec, strict=True) for packet in pair]
    assert torch.equal(listener.play(mixed, 40), clean)
    told = listener.receiver.statistics
    assert (told.received, told.foreign, told.corrupt) == (len(own), 2 * len(own), 0)


def test_strangers_alone_start_nothing(codec: CodecModel) -> None:
    receiver = Receiver(codec, session=7)
    for packet in packets_of(codec, random_codes(20), PROFILES["default"], session=8):
        receiver.push(packet)
    assert receiver.offset_samples is None and receiver.statistics.foreign == 12


def test_forged_packets_end_in_counts(codec: CodecModel) -> None:
    """Checksums are no secret: packets whose checksum holds may say anything, and still break nothing."""
    ends = fuzz_link.run(400, seed=3)
    assert ends["corrupt"] > 100 and ends["foreign"] > 0


def test_packets_that_anyone_may_sign_are_packets_and_fill_nothing() -> None:
    ends = fuzz_link.run_signed(3000, seed=1)
    assert min(ends["received"], ends["late"], ends["corrupt"], ends["stray"]) > 20


def test_the_fuzzer_sees_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the checksum switched off, malformed packets would be heard; the benchmark must say so."""
    monkeypatch.setattr("speechlm.transmission.link.packet._checksum", lambda *_: 0)
    with pytest.raises(RuntimeError, match="packet"):
        fuzz_link.run(3000, seed=0)
