"""What is kept of weights is what they are now, whoever changed them and however."""

import copy
import pickle

import pytest
import torch
from tiny_codecs import tiny_codec, voice

from speechlm.tokenizer.blocks import FrameLinear, linear
from speechlm.tokenizer.prepared import Prepared, packed


def _answer(layer: FrameLinear, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return layer(x)


@pytest.mark.parametrize("fused", [True, False])
def test_a_layer_follows_its_weights(fused: bool) -> None:
    layer, x = FrameLinear(16, 24), torch.randn(50, 16)

    def is_true() -> bool:
        expected = x @ layer.weight.detach().T + layer.bias.detach()
        return torch.allclose(_answer(layer, x), expected, atol=1e-5)

    assert is_true()
    with torch.no_grad():
        layer.weight.mul_(2)
    assert is_true()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=fused)
    layer(x).square().mean().backward()
    before = layer.weight.detach().clone()
    optimizer.step()
    assert not torch.equal(layer.weight, before)
    assert is_true()
    layer.load_state_dict(FrameLinear(16, 24).state_dict())
    assert is_true()
    layer.weight = torch.nn.Parameter(torch.randn(24, 16))
    assert is_true()
    layer.weight.data = torch.randn(24, 16)
    assert is_true()


def test_it_is_made_once_while_nothing_changes() -> None:
    prepared: Prepared[torch.Tensor] = Prepared()
    source, calls = torch.ones(3), []

    def make(value: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return value + 1

    with torch.no_grad():
        first = prepared(make, source)
        assert prepared(make, source) is first
        source[0] = 5
        assert prepared(make, source)[0] == 6
    assert len(calls) == 2
    prepared(make, source)  # with gradients nothing is kept
    with torch.no_grad():
        prepared(make, source)
    assert len(calls) == 4


def test_a_packed_matrix_gives_the_same_bits() -> None:
    for rows in (1, 5, 300):
        x, weight, bias = torch.randn(rows, 36), torch.randn(70, 36), torch.randn(70)
        with torch.inference_mode():
            assert torch.equal(linear(x, packed(weight), bias), linear(x, weight, bias))


def test_a_codec_that_has_worked_can_be_copied_sent_and_cast(encoder: str) -> None:
    codec, wave = tiny_codec(encoder=encoder), voice(4000)
    codes = codec.tokenize([wave])
    twins = [copy.deepcopy(codec)]
    if encoder == "spectral":  # torch pickles no weight norm
        twins.append(pickle.loads(pickle.dumps(codec)))
    for twin in twins:
        assert torch.equal(twin.tokenize([wave]).values, codes.values)
    with torch.autocast("cpu", torch.bfloat16):
        assert codec.encode(wave[None]).audio_codes.shape == codes.values.shape
    assert torch.equal(codec.tokenize([wave]).values, codes.values)


def test_codes_follow_the_codebooks(encoder: str) -> None:
    codec, wave = tiny_codec(encoder=encoder), voice(4000)
    before = codec.tokenize([wave]).values
    with torch.no_grad():
        codec.quantizer.codebooks.copy_(codec.quantizer.codebooks.flip(1))
    after = codec.tokenize([wave]).values
    assert torch.equal(after, codec.config.codebook_size - 1 - before)
