"""The integer entropy model in a whole stream: the codes that a stream without a model would carry."""

from __future__ import annotations

import pytest
import torch
from tiny_codecs import tiny_codec, voice
from tiny_transmission import entropy_model

from speechlm.errors import ModelMismatch
from speechlm.transmission.compressor import Compressor
from speechlm.transmission.decompressor import Decompressor
from speechlm.transmission.entropy_coding import IntegerEntropyModel
from speechlm.transmission.integer_quantize import quantize
from speechlm.transmission.symbol_model import UniformModel

CODEC = tiny_codec()
MODEL = IntegerEntropyModel(quantize(entropy_model(codec=CODEC.identity, sharpness=2.0)))


def test_a_stream_sounds_as_one_without_a_model() -> None:
    samples = voice(16_000)
    heard = []
    for model in (MODEL, UniformModel(3, 16)):
        compressor = Compressor(CODEC, 3, model=model, chunk_frames=20)
        data = compressor.push(samples) + compressor.flush()
        decompressor = Decompressor(CODEC, model)
        heard.append(torch.cat([decompressor.push(data), decompressor.flush()]))
        assert not decompressor.damages
        assert decompressor.header is not None
        assert decompressor.header.numeric_profile == model.numeric_profile
    assert len(heard[0]) == 16_000
    assert torch.equal(heard[0], heard[1])


def test_cuts_change_neither_bytes_nor_sound() -> None:
    samples = voice(9_000)
    whole = Compressor(CODEC, 3, model=MODEL, chunk_frames=10)
    data = whole.push(samples) + whole.flush()
    cut = Compressor(CODEC, 3, model=MODEL, chunk_frames=10)
    assert b"".join([*(cut.push(piece) for piece in samples.split(700)), cut.flush()]) == data
    one, many = Decompressor(CODEC, MODEL), Decompressor(CODEC, MODEL)
    heard = torch.cat([one.push(data), one.flush()])
    pieces = [many.push(data[start : start + 50]) for start in range(0, len(data), 50)]
    assert torch.equal(torch.cat([*pieces, many.flush()]), heard)


def test_another_model_is_refused() -> None:
    compressor = Compressor(CODEC, 3, model=MODEL)
    data = compressor.push(voice(4_000)) + compressor.flush()
    other = IntegerEntropyModel(quantize(entropy_model(1, codec=CODEC.identity)))
    decompressor = Decompressor(CODEC, other)
    with pytest.raises(ModelMismatch, match=MODEL.fingerprint):
        decompressor.push(data)
