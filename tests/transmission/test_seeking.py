"""A part of a file is that part of the whole, and costs no more than it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_codecs import tiny_codec, voice

from speechlm.errors import ConfigError, CorruptStream, ModelMismatch
from speechlm.tokenizer.codec import CodecModel
from speechlm.transmission.codes_stream import CodesReader
from speechlm.transmission.compressor import Compressor
from speechlm.transmission.decompressor import Decompressor
from speechlm.transmission.seeking import SeekableStream, decompress_part

RATE, LENGTH, FRAMES = 16_000, 50_000, 25


@pytest.fixture(scope="module")
def codec() -> CodecModel:
    return tiny_codec()


@pytest.fixture(scope="module")
def file(codec: CodecModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    compressor = Compressor(codec, chunk_frames=FRAMES)
    path = tmp_path_factory.mktemp("seeking") / "voice.lmc"
    path.write_bytes(compressor.push(voice(LENGTH)) + compressor.flush())
    return path


@pytest.fixture(scope="module")
def whole(codec: CodecModel, file: Path) -> torch.Tensor:
    player = Decompressor(codec)
    return torch.cat([player.push(file.read_bytes()), player.flush()])


@pytest.mark.parametrize(
    ("start", "seconds"), [(0.0, 0.7), (0.4, 0.1), (1.3, 0.9), (1.0, 1e9), (3.1249, 1.0)]
)
def test_a_part_is_that_part_of_the_whole(
    start: float, seconds: float, codec: CodecModel, file: Path, whole: torch.Tensor
) -> None:
    part, damages = decompress_part(codec, file, start, seconds)
    expected = whole[int(start * RATE) :][: round(min(seconds, 10) * RATE)]
    assert len(part) == len(expected) and damages == []
    # the noise source is drawn from the first frame that is decoded
    if start < 0.5:
        assert torch.allclose(part, expected, atol=1e-5)


def test_codes_of_a_part_are_those_of_the_whole(file: Path) -> None:
    def codes(pieces: list) -> torch.Tensor:
        return torch.cat([piece.codes for piece in pieces], 1)

    reader = CodesReader()
    every = codes([*reader.push(file.read_bytes()), *reader.finish()])
    stream = SeekableStream.open(file)
    part = codes(list(stream.pieces(CodesReader(), 2, 4)))
    assert torch.equal(part, every[:, 2 * FRAMES : 4 * FRAMES])
    rest = codes(list(stream.pieces(CodesReader(), 6, 99)))
    assert torch.equal(rest, every[:, 6 * FRAMES :])


@pytest.mark.parametrize("number", [2, 6])
def test_damage_within_the_part_is_named(
    number: int, codec: CodecModel, file: Path, tmp_path: Path
) -> None:
    bad = bytearray(file.read_bytes())
    bad[SeekableStream.open(file).offsets[number] + 9] ^= 1
    path = tmp_path / "bad.lmc"
    path.write_bytes(bad)
    assert decompress_part(codec, path, 0, 0.4)[1] == []
    part, (damage,) = decompress_part(codec, path, number / 2, 0.5)
    assert damage.first_chunk == number and f"Chunk {number}" in damage.reason
    assert len(part) == min(RATE // 2, LENGTH - number * RATE // 2)


def test_what_cannot_be_sought_is_said(codec: CodecModel, file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lasts"):
        decompress_part(codec, file, LENGTH / RATE, 1)
    with pytest.raises(ConfigError, match="no part"):
        decompress_part(codec, file, 0, 0)
    with pytest.raises(ModelMismatch, match="voice"):
        decompress_part(tiny_codec(codebook_size=8), file, 0, 1)
    path = tmp_path / "cut.lmc"
    for data in (file.read_bytes()[:-1], file.read_bytes()[:20]):
        path.write_bytes(data)
        with pytest.raises(CorruptStream, match="cut"):
            SeekableStream.open(path)
