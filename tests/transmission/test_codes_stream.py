"""Codes through `.lmc` bytes: whole, cut anywhere, damaged, truncated, and made by another model."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_streams import CODEC, HOP, read, tiny_table, walk, written

from speechlm.errors import ConfigError, CorruptStream, ModelMismatch
from speechlm.transmission.codes_stream import CodesReader, CodesWriter
from speechlm.transmission.container import unpack_header
from speechlm.transmission.static_table import StaticTableModel
from speechlm.transmission.symbol_model import UniformModel

FRAMES = 95  # nine chunks of ten, and a half


@cache
def stream() -> bytes:
    return written(walk(FRAMES))


def chunk_places(data: bytes) -> list[int]:
    """Where each chunk begins, from the lengths that the format tells, and where the last one ends."""
    places = [unpack_header(data)[1]]
    while data[places[-1] : places[-1] + 4] != b"END\xff":
        length = int.from_bytes(data[places[-1] + 2 : places[-1] + 4], "little") & 0x1FFF
        places.append(places[-1] + 8 + length)
    return places


@pytest.mark.parametrize("num_frames", [0, 1, 9, 10, 11, 20, 95])
@pytest.mark.parametrize("missing", [0, 1, HOP - 1])
def test_codes_and_length_come_back(num_frames: int, missing: int) -> None:
    codes = walk(num_frames)
    end = max(0, num_frames * HOP - missing)
    found, concealed, reader = read(written(codes, num_samples=end))
    assert torch.equal(found, codes) and not concealed.any()
    assert reader.damages == [] and reader.num_samples == end


@given(st.lists(st.integers(1, 40), max_size=12), st.integers(1, 300))
@settings(deadline=None, max_examples=30)
def test_cuts_change_nothing(sizes: list[int], cut: int) -> None:
    writer = CodesWriter(CODEC, StaticTableModel(tiny_table()), chunk_frames=10)
    codes, data, start = walk(FRAMES), b"", 0
    for size in [*sizes, FRAMES]:
        data += writer.push(codes[:, start : start + size])
        start += size
    assert data + writer.finish(FRAMES * HOP) == stream()
    assert torch.equal(read(stream(), cut=cut)[0], codes)


def test_a_model_saves_and_without_one_codes_are_packed() -> None:
    codes = walk(FRAMES)
    raw = written(codes, UniformModel(3, 16))
    found, _, reader = read(raw)
    assert torch.equal(found, codes)
    assert reader.num_raw_chunks == reader.num_chunks == 10
    assert len(stream()) < len(raw) - 25


def test_codes_that_the_model_did_not_expect_are_packed() -> None:
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, 16, (3, 40)))
    data = written(codes)
    found, _, reader = read(data)
    assert torch.equal(found, codes)
    assert reader.num_raw_chunks > 0
    assert len(data) <= len(written(codes, UniformModel(3, 16)))


class Otherwise(StaticTableModel):
    """A model that computes otherwise, as floats may: in every second chunk, or from frame 2 on."""

    def __init__(self, *, every_second: bool) -> None:
        super().__init__(tiny_table())
        self.every_second, self.num_started, self.num_asked = every_second, 0, 0

    def start(self) -> object:
        self.num_started, self.num_asked = self.num_started + 1, 0
        return super().start()

    def frequencies(self, state: object) -> np.ndarray:
        self.num_asked += 1
        table = super().frequencies(state)
        is_other = self.num_started % 2 == 0 if self.every_second else self.num_asked > 6
        return np.roll(table, 1) if is_other else table


def test_a_chunk_that_does_not_decode_to_itself_is_sent_as_it_is() -> None:
    codes = walk(FRAMES)
    found, _, reader = read(written(codes, Otherwise(every_second=True)))
    assert torch.equal(found, codes)
    assert reader.num_raw_chunks == 10 and reader.damages == []
    trusting = written(codes, Otherwise(every_second=True), verifies=False)
    assert read(trusting)[2].num_raw_chunks < 10


def test_a_receiver_whose_model_computes_otherwise_notices() -> None:
    _, concealed, reader = read(stream(), Otherwise(every_second=False))
    assert concealed.all()
    assert len(reader.damages) == 10 and "computes otherwise" in reader.damages[0].reason


@pytest.mark.parametrize("chunk", [0, 4, 9])
def test_any_bad_byte_costs_its_chunk_alone(chunk: int) -> None:
    data, codes = stream(), walk(FRAMES)
    start, stop = chunk_places(data)[chunk : chunk + 2]
    frames = range(10 * chunk, min(FRAMES, 10 * chunk + 10))
    for place in range(start, stop):
        bad = bytearray(data)
        bad[place] ^= 0x40
        found, concealed, reader = read(bytes(bad))
        assert concealed.nonzero().flatten().tolist() == list(frames)
        assert torch.equal(found[:, ~concealed], codes[:, ~concealed])
        (damage,) = reader.damages
        assert (damage.first_chunk, damage.num_chunks) == (chunk, 1)
        assert (damage.offset, damage.num_bytes) == (start, stop - start)
        assert f"chunk {chunk} is missing" in damage.reason


def test_the_last_good_frame_stands_in() -> None:
    data = stream()
    start, stop = chunk_places(data)[4:6]
    found = read(data[:start] + bytes(stop - start) + data[stop:])[0]
    assert torch.equal(found[:, 40:50], walk(FRAMES)[:, 39:40].expand(-1, 10))


@pytest.mark.parametrize("what", ["removed", "doubled", "swapped", "another stream's"])
def test_chunks_that_are_not_in_order_keep_the_others_in_time(what: str) -> None:
    data, codes = stream(), walk(FRAMES)
    places = chunk_places(data)
    a, b, c = places[4:7]
    other = written(walk(FRAMES, seed=1), num_samples=FRAMES * HOP - 1, chunk_frames=20)
    changed = {
        "removed": data[:a] + data[b:],
        "doubled": data[:b] + data[a:],
        "swapped": data[:a] + data[b:c] + data[a:b] + data[c:],
        "another stream's": data[:a] + other[slice(*chunk_places(other)[:2])] + data[a:],
    }[what]
    found, concealed, reader = read(changed)
    lost = range(40, 50) if what in ("removed", "swapped") else range(0)
    assert concealed.nonzero().flatten().tolist() == list(lost)
    assert torch.equal(found[:, ~concealed], codes[:, ~concealed])
    assert len(reader.damages) >= 1


@given(st.integers(0, 400))
@settings(deadline=None, max_examples=60)
def test_a_truncated_stream_gives_what_is_there(length: int) -> None:
    data = stream()
    places = chunk_places(data)
    cut = data[:length]
    if length < places[0]:
        with pytest.raises(CorruptStream):
            read(cut)
        return
    found, concealed, reader = read(cut)
    whole = sum(place <= length for place in places[1:])
    assert torch.equal(found, walk(FRAMES)[:, : 10 * whole]) and not concealed.any()
    assert bool(reader.damages) == (length < len(data))


def test_an_announced_length_tells_how_much_a_truncated_stream_lacks() -> None:
    data = stream()
    told = written(walk(FRAMES), **{"num_samples": FRAMES * HOP})
    assert read(told[: chunk_places(data)[3]])[2].damages[0].num_chunks == 0
    model = StaticTableModel(tiny_table())
    writer = CodesWriter(CODEC, model, chunk_frames=10, num_samples=FRAMES * HOP)
    announced = writer.push(walk(FRAMES)) + writer.finish(FRAMES * HOP)
    damages = read(announced[: chunk_places(announced)[3]])[2].damages
    assert damages[0].num_chunks == 7 and "chunks 3 to 9 are missing" in damages[0].reason


def test_a_few_bytes_do_not_ask_for_hours() -> None:
    """A chunk with a far number is decoded, but what it claims to be missing is not made up in full."""
    codes = walk(10_000)
    data = written(codes, UniformModel(3, 16))
    places = chunk_places(data)
    found, _, reader = read(data[: places[1]] + data[places[900] :], UniformModel(3, 16))
    assert reader.damages[0].num_chunks == 899
    assert reader.damages[0].num_samples < 80 * 10 * HOP
    assert torch.equal(found[:, -1000:], codes[:, -1000:])


def test_a_hole_of_zeros_is_concealed_in_full() -> None:
    codes = walk(3000)
    data = written(codes, UniformModel(3, 16))
    places = chunk_places(data)
    found, concealed, _ = read(
        data[: places[20]] + bytes(places[250] - places[20]) + data[places[250] :],
        UniformModel(3, 16),
    )
    assert found.shape == codes.shape and int(concealed.sum()) == 2300
    assert torch.equal(found[:, 2500:], codes[:, 2500:])


def test_the_entropy_model_must_be_the_same() -> None:
    other = tiny_table(num_books=4)
    with pytest.raises(ModelMismatch, match="entropy model static"):
        read(stream(), StaticTableModel(other, 3))
    with pytest.raises(ModelMismatch, match="entropy model static"):
        CodesReader().push(stream())
    with pytest.raises(ModelMismatch, match="books"):
        read(stream(), StaticTableModel(tiny_table(), 2))


def test_what_is_no_stream_is_said_to_be_none() -> None:
    with pytest.raises(CorruptStream, match=r"no \.lmc stream"):
        read(b"RIFF" + bytes(40))
    with pytest.raises(CorruptStream, match="format 2"):
        read(stream()[:4] + b"\2" + stream()[5:])
    for place in range(5, chunk_places(stream())[0]):
        bad = bytearray(stream())
        bad[place] ^= 1
        with pytest.raises(CorruptStream, match="header"):
            read(bytes(bad))


def test_codes_that_do_not_fit_are_refused_and_not_taken_in() -> None:
    writer = CodesWriter(CODEC, UniformModel(3, 16))
    for bad in (torch.zeros(2, 5), torch.zeros(3), torch.full((3, 2), 16)):
        with pytest.raises(ConfigError):
            writer.push(bad.long())
    writer.push(walk(5))
    for num_samples in (0, 4 * HOP, 5 * HOP + 1):
        with pytest.raises(ConfigError, match="frames"):
            writer.finish(num_samples)
    writer.finish(5 * HOP - 7)


def test_parts_cost_what_the_documentation_says() -> None:
    """64 bits for a chunk's head and 16 for its place in the index."""
    codes = walk(1000)
    long, short = (written(codes, UniformModel(3, 16), chunk_frames=n) for n in (100, 50))
    assert len(short) - len(long) == 10 * (8 + 2)


def test_memory_does_not_grow_with_the_signal() -> None:
    import tracemalloc

    writer, reader = CodesWriter(CODEC, UniformModel(3, 16)), CodesReader()
    codes, peaks = walk(2000), []
    tracemalloc.start()
    for _ in range(3):
        tracemalloc.reset_peak()
        for piece in codes.split(50, 1):
            reader.push(writer.push(piece))
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peaks[2] < peaks[0] + 20_000
