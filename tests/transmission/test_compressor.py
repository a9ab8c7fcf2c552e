"""Samples through bytes: whole and in pieces, the codec's own codes, and what a lost second sounds like."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_codecs import tiny_codec, voice
from tiny_transmission import fine_model

from speechlm.errors import ConfigError, CorruptStream, ModelMismatch, UnsupportedAudio
from speechlm.tokenizer import stream as stream_module
from speechlm.tokenizer.codec import CodecModel
from speechlm.tokenizer.stream import CodecStream
from speechlm.transmission.codes_stream import CodesReader
from speechlm.transmission.compressor import Compressor, books_of_bitrate
from speechlm.transmission.container import unpack_header
from speechlm.transmission.decompressor import Decompressor
from speechlm.transmission.integer_fine import IntegerFineModel
from speechlm.transmission.integer_quantize import quantize

HOP, LENGTH = 320, 12_345


@cache
def codec() -> CodecModel:
    return tiny_codec()


@cache
def stream() -> bytes:
    return compressed([LENGTH])


def compressed(sizes: list[int], **options: object) -> bytes:
    """A stream whose samples are pushed in pieces of these sizes, over and over."""
    compressor = Compressor(codec(), **{"chunk_frames": 8, **options})
    wave, data, start, turn = voice(LENGTH), b"", 0, 0
    while start < LENGTH:
        size = sizes[turn % len(sizes)]
        data += compressor.push(wave[start : start + size])
        start, turn = start + size, turn + 1
    return data + compressor.flush()


def decompressed(data: bytes, cut: int = 1 << 30) -> tuple[torch.Tensor, Decompressor]:
    decompressor = Decompressor(codec())
    pieces = [decompressor.push(data[n : n + cut]) for n in range(0, len(data), cut)]
    return torch.cat([*pieces, decompressor.flush()]), decompressor


@given(st.lists(st.integers(200, 5000), min_size=1, max_size=5), st.integers(1, 500))
@settings(deadline=None, max_examples=8)
def test_streaming_is_offline_bit_for_bit(sizes: list[int], cut: int) -> None:
    assert compressed(sizes) == stream()
    assert torch.equal(decompressed(stream(), cut)[0], decompressed(stream())[0])


def test_a_long_signal_goes_through_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    push = CodecStream.push
    monkeypatch.setattr(CodecStream, "push", lambda *a: sizes.append(len(a[1])) or push(*a))
    monkeypatch.setitem(stream_module._BLOCK_FRAMES, "cpu", 16)
    assert compressed([LENGTH]) == stream()
    assert max(sizes) == 16 * HOP


def test_the_signal_is_what_the_codec_makes_of_it() -> None:
    codes = codec().tokenize([voice(LENGTH)], num_books=3)
    reader = CodesReader()
    found = torch.cat([p.codes for p in [*reader.push(stream()), *reader.finish()]], 1)
    assert torch.equal(found, codes.values[0])
    heard, decompressor = decompressed(stream())
    assert len(heard) == LENGTH and decompressor.damages == []
    assert (heard - codec().synthesize(codes)[0]).abs().max() <= 1e-5


@pytest.mark.parametrize("num_samples", [0, 1, HOP, 8 * HOP, 8 * HOP + 1])
def test_any_length_comes_back(num_samples: int) -> None:
    compressor = Compressor(codec(), chunk_frames=8, num_samples=num_samples)
    data = compressor.push(voice(num_samples)) + compressor.flush()
    assert len(decompressed(data)[0]) == num_samples


def test_samples_come_out_as_soon_as_their_chunk_is_in() -> None:
    compressor, decompressor = Compressor(codec(), chunk_frames=8), Decompressor(codec())
    behind, heard = 0, 0
    for start in range(0, LENGTH, 100):
        heard += len(decompressor.push(compressor.push(voice(LENGTH)[start : start + 100])))
        behind = max(behind, start + 100 - heard)
    assert compressor.latency_seconds is not None
    assert behind <= compressor.latency_seconds * 16_000 + 100
    assert compressor.latency_seconds == pytest.approx(
        codec().config.latency_seconds + 9 * HOP / 16_000 - HOP / 16_000
    )


def test_a_lost_second_fades_and_the_rest_is_unharmed() -> None:
    data = stream()
    start = unpack_header(data)[1]
    for _ in range(2):
        start += 8 + (int.from_bytes(data[start + 2 : start + 4], "little") & 0x1FFF)
    bad = bytearray(data)
    bad[start + 9] ^= 1
    heard, decompressor = decompressed(bytes(bad))
    whole = decompressed(data)[0]
    gap = slice(16 * HOP, 24 * HOP)
    assert len(heard) == LENGTH and "chunk 2 is missing" in decompressor.damages[0].reason
    assert torch.equal(heard[: 14 * HOP], whole[: 14 * HOP])
    assert heard[gap][: 2 * HOP].abs().max() > 0
    assert not heard[gap][3 * HOP :].any()
    # the codec's causal layers remember for a while what stood in
    assert (heard[26 * HOP :] != 0).any()
    assert heard.isfinite().all()


@pytest.mark.parametrize("length_is_told", [True, False])
def test_an_end_that_is_missing_is_counted_where_its_length_was_told(length_is_told: bool) -> None:
    told = {"num_samples": LENGTH} if length_is_told else {}
    compressor = Compressor(codec(), chunk_frames=8, **told)
    data = compressor.push(voice(LENGTH)) + compressor.flush()
    heard, decompressor = decompressed(data[: len(data) // 2])
    damage = decompressor.damages[-1]
    assert damage.is_open == (not length_is_told) and damage.num_samples == 0
    if length_is_told:
        assert len(heard) + damage.num_lost == LENGTH
        assert f"{damage.num_lost / 16_000:.2f} s" in damage.reason
    else:
        assert f"what follows chunk {damage.first_chunk - 1} is missing" in damage.reason


def test_a_stream_of_nothing_but_damage_is_silent() -> None:
    data = bytearray(stream())
    first = unpack_header(data)[1]
    for place in range(first, len(data) - 34):
        data[place] ^= 0x55
    heard, decompressor = decompressed(bytes(data))
    assert not heard.any() and decompressor.damages


def test_books_that_were_not_sent_sound_as_the_fine_model_expects_them() -> None:
    base = codec().config.num_masked_books
    fine = IntegerFineModel(quantize(fine_model(codec=codec().identity)))
    data = compressed([LENGTH])
    heard = {}
    for cut in (1 << 30, 77):
        decompressor = Decompressor(codec(), fine=fine)
        pieces = [decompressor.push(data[n : n + cut]) for n in range(0, len(data), cut)]
        heard[cut] = torch.cat([*pieces, decompressor.flush()])
    assert torch.equal(heard[77], heard[1 << 30])
    codes = codec().tokenize([voice(LENGTH)], num_books=base).values[0]
    entries = codec().quantizer.codebooks
    latents = fine.stream(entries=entries).push_latents(codes)
    player = CodecStream(codec())
    expected = torch.cat([player.pull_latents(latents), player.drain()])[:LENGTH]
    assert (heard[77] - expected).abs().max() < 1e-6
    assert (expected - decompressed(data)[0]).abs().max() > 1e-4
    with pytest.raises(ModelMismatch, match="fine model"):
        Decompressor(tiny_codec(codebook_size=8), fine=fine)
    every = Decompressor(codec(), fine=fine)
    with pytest.raises(ModelMismatch, match="6 books"):
        every.push(compressed([LENGTH], num_books=6))


def test_codec_and_length_are_checked() -> None:
    other = tiny_codec(codebook_size=8)
    with pytest.raises(ModelMismatch, match="stream"):
        Decompressor(other).push(stream())
    with pytest.raises(CorruptStream):
        Decompressor(codec()).flush()
    compressor = Compressor(codec(), num_samples=100)
    with pytest.raises(UnsupportedAudio):
        compressor.push(torch.full((3,), torch.nan))
    with pytest.raises(UnsupportedAudio):
        compressor.push(torch.zeros(2, 3))
    compressor.push(voice(99))
    with pytest.raises(ConfigError, match="announced"):
        compressor.flush()
    with pytest.raises(ConfigError, match="flushed"):
        compressor.push(voice(1))


@pytest.mark.parametrize(("rate", "books"), [(600, 3), (799, 3), (800, 4), (1e6, 6)])
def test_as_many_books_as_fit(rate: float, books: int) -> None:
    assert books_of_bitrate(codec().identity, rate) == books  # of 200 bits per second each


def test_too_few_bits_are_refused() -> None:
    with pytest.raises(ConfigError, match="600"):
        books_of_bitrate(codec().identity, 599)
