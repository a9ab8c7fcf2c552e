"""The paper's configuration, made narrow: lengths, batches and chunks, with and without attention."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from tiny_codecs import tiny_codec, voice

from speechlm.tokenizer.codec import CodecModel
from speechlm.tokenizer.stream import CodecStream

RECIPE = Path(__file__).resolve().parents[2] / "configs/codec-language-codec-24khz.yaml"
NARROW = {
    "seanet_filters": 4,
    "latent_size": 12,
    "codebook_size": 16,
    "decoder_width": 16,
    "decoder_layers": 3,
    "expansion": 2,
}
HOP = 320
WINDOW = 9


@pytest.fixture(scope="module", params=[0, WINDOW], ids=["released", "attention"])
def codec(request: pytest.FixtureRequest) -> CodecModel:
    """The recipe's model with few channels, scaled so that every layer and every book is heard."""
    described = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))["model"]
    model = tiny_codec(**{**described, **NARROW, "attention_window": request.param})
    with torch.no_grad():
        for block in model.decoder.stack.blocks:
            block.scale.fill_(1.0)
        # an untrained latent is so small that the last books would quantize rounding errors
        frames = torch.ones(1, 100, 1, dtype=torch.bool)
        latent = model.encoder(voice(100 * HOP)[None], frames)
        model.encoder.last.conv.parametrizations.weight.original0.div_(latent.std())
        normal = torch.randn(512, 12, generator=torch.Generator().manual_seed(0))
        model.quantizer.initialise(normal, iterations=3)
    return model.eval()


def test_it_is_the_recipes_model(codec: CodecModel) -> None:
    config = codec.config
    assert (config.sampling_rate, config.frame_rate_hz) == (24_000, 75)
    assert (config.num_codebooks, config.num_masked_books) == (8, 3)
    assert (config.encoder, config.is_causal, config.latency_seconds) == ("seanet", False, None)
    # a head that reads the stack directly, as in Vocos, and no source
    assert codec.decoder.upsample is None
    assert codec.decoder.head_stack is None
    assert codec.decoder.pitch_head is None
    assert (codec.decoder.prenet is not None) == bool(config.attention_window)


@pytest.mark.parametrize("num_samples", [1, HOP, HOP + 1, 4001])
@pytest.mark.parametrize("books", [3, 8])
def test_decoded_length_is_input_length(codec: CodecModel, num_samples: int, books: int) -> None:
    codes = codec.tokenize([voice(num_samples)], num_books=books)
    assert codes.values.shape == (1, books, -(-num_samples // HOP))
    assert codec.synthesize(codes)[0].shape == (num_samples,)


def test_a_padded_batch_gives_each_item_as_alone(codec: CodecModel) -> None:
    waves = [voice(n, seed=n) for n in (2500, 9000, 641)]
    together = codec.tokenize(waves)
    decoded = codec.synthesize(together)
    for index, wave in enumerate(waves):
        alone = codec.tokenize([wave])
        assert torch.equal(together.item(index), alone.item(0))
        assert torch.allclose(decoded[index], codec.synthesize(alone)[0], atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 7, 20])
def test_chunks_give_what_the_whole_gives(codec: CodecModel, chunk: int) -> None:
    wave = voice(40 * HOP + 100)
    whole = codec.tokenize([wave])
    sender, receiver = CodecStream(codec), CodecStream(codec)
    pieces = [sender.push(piece) for piece in wave.split(chunk * HOP)]
    codes = torch.cat([*pieces, sender.flush()], 1)
    assert torch.equal(codes, whole.values[0])
    played = [receiver.pull(piece) for piece in codes.split(chunk, 1)]
    decoded = torch.cat([*played, receiver.drain()])[: len(wave)]
    assert torch.allclose(decoded, codec.synthesize(whole)[0], atol=1e-5)


def test_the_trained_pass_gives_the_codes_and_samples_of_inference(codec: CodecModel) -> None:
    wave = voice(30 * HOP)[None]
    with torch.inference_mode():
        trained = codec(wave)
        codes = codec.encode(wave).audio_codes
        decoded = codec.decode(codes).audio_values
    assert torch.equal(trained.audio_codes, codes)
    assert torch.allclose(trained.audio_values, decoded, atol=1e-5)


def test_a_change_is_heard_as_far_as_the_layers_reach(codec: CodecModel) -> None:
    # the reach that streams wait for is neither too short nor a guess: its last frame matters
    codes = codec.tokenize([voice(80 * HOP)]).values
    changed = codes.clone()
    at = 60
    changed[..., at] = (changed[..., at] + 5) % 16
    first, second = (codec.decode(each).audio_values[0] for each in (codes, changed))
    ahead = codec.decoder.lookahead
    differs = (first != second).unflatten(0, (-1, HOP)).any(-1).nonzero()[0].item()
    assert at - ahead <= differs <= at - ahead + 1
    wider = 0 if codec.decoder.prenet is None else 4 * 2 + WINDOW // 2
    assert ahead == 3 + wider + 3 * 3 + 2  # two frames of windows: 480 samples past a hop of 320
