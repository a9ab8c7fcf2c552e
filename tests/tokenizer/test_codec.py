"""The codec as a model: lengths, padding, causality, look-ahead, books, saving."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from tiny_codecs import tiny_codec, voice
from transformers import AutoFeatureExtractor, AutoModel

from speechlm.errors import ConfigError, CorruptWeights, ModelMismatch, UnsupportedAudio
from speechlm.tokenizer.codec import CodecModel, load_codec
from speechlm.tokenizer.config import CodecConfig
from speechlm.tokenizer.model_folder import save_model

HOP = 320


@pytest.mark.parametrize("num_samples", [1, HOP - 1, HOP, HOP + 1, 5000])
def test_decoded_length_is_input_length(encoder: str, num_samples: int) -> None:
    codec = tiny_codec(encoder=encoder)
    codes = codec.tokenize([voice(num_samples)])
    assert codes.values.shape[-1] == -(-num_samples // HOP)
    assert codec.synthesize(codes)[0].shape == (num_samples,)


@pytest.mark.parametrize("has_source", [True, False])
def test_nothing_is_heard_past_the_stated_look_ahead(has_source: bool) -> None:
    codec = tiny_codec(has_harmonic_source=has_source)
    ahead = codec.config.lookahead_samples
    assert ahead is not None
    assert ahead <= 0.040 * codec.config.sampling_rate
    wave = voice(20 * HOP)
    frame = 10
    changed = wave.clone()
    changed[frame * HOP :] = voice(10 * HOP, pitch=250.0, seed=5)
    with torch.inference_mode():
        first, second = (codec(w[None]).audio_values[0] for w in (wave, changed))
    # a sample is settled once its own frame and the look-ahead are there
    settled = (frame - 1) * HOP - ahead
    assert torch.equal(first[:settled], second[:settled])
    assert not torch.allclose(first[settled : frame * HOP], second[settled : frame * HOP])


def test_causal_seanet_codes_depend_on_the_past_only() -> None:
    codec = tiny_codec(encoder="seanet")
    wave, changed = voice(20 * HOP), voice(20 * HOP)
    changed[10 * HOP :] = 0
    first, second = codec.tokenize([wave]).values, codec.tokenize([changed]).values
    assert torch.equal(first[..., :10], second[..., :10])
    assert not torch.equal(first, second)


@pytest.mark.parametrize("books", [3, 4, 6])
def test_any_number_of_books_is_the_start_of_all(books: int) -> None:
    codec = tiny_codec()
    wave = voice(4000)
    every, some = codec.tokenize([wave]), codec.tokenize([wave], num_books=books)
    assert torch.equal(every.values[:, :books], some.values)
    assert some.bits_per_second == books * 4 * 50
    assert len(codec.synthesize(some)[0]) == 4000


def test_fewer_books_than_the_masked_ones_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 to 6"):
        tiny_codec().tokenize([voice(1000)], num_books=2)
    assert tiny_codec(num_masked_books=0).tokenize([voice(1000)], num_books=1).values.shape[1] == 1


def test_plain_fourier_head_and_other_rates_work() -> None:
    codec = tiny_codec(
        has_harmonic_source=False, sampling_rate=24_000, upsampling=1, fft_size=1280, head_layers=0
    )
    assert codec.config.frame_rate_hz == 75
    assert codec.synthesize(codec.tokenize([voice(3000)]))[0].abs().max() > 0


def test_saved_and_loaded_it_is_the_same_codec(tmp_path) -> None:
    codec = tiny_codec()
    codec.save_pretrained(tmp_path / "hub")
    again = AutoModel.from_pretrained(tmp_path / "hub").eval()
    wave = voice(4000)
    assert again.identity == codec.identity
    assert torch.equal(again.tokenize([wave]).values, codec.tokenize([wave]).values)
    assert not list((tmp_path / "hub").glob("*.bin"))
    save_model(codec, tmp_path / "half")
    half = load_codec(tmp_path / "half")
    assert half.identity == load_codec(tmp_path / "half").identity
    assert half.identity.revision != codec.identity.revision


def test_codes_of_another_codec_are_refused() -> None:
    codec, other = tiny_codec(), tiny_codec()
    with torch.no_grad():
        other.encoder.project.bias.add_(1)
    other.eval()
    with pytest.raises(ModelMismatch, match="tokenize again"):
        other.synthesize(codec.tokenize([voice(1000)]))


def test_identity_follows_the_weights() -> None:
    codec = tiny_codec()
    before = codec.identity
    codec.train()
    with torch.no_grad():
        codec.decoder.head.bias.add_(1)
    codec.eval()
    assert codec.identity != before


@pytest.mark.parametrize(
    "wave", [torch.zeros(0), torch.tensor([0.0, float("nan")]), torch.zeros(2, 100)]
)
def test_unusable_waveforms_are_refused(wave: torch.Tensor) -> None:
    with pytest.raises(UnsupportedAudio):
        tiny_codec().tokenize([wave])


def test_broken_model_folders_are_refused(tmp_path) -> None:
    save_model(tiny_codec(), tmp_path)
    config = tmp_path / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"kernel_size"', '"kernel_sice"'))
    with pytest.raises(ConfigError, match="kernel_sice"):
        load_codec(tmp_path)
    config.write_text(text.replace('"latent_size": 12', '"latent_size": 24'))
    with pytest.raises(CorruptWeights, match="shape"):
        load_codec(tmp_path)
    config.write_text(text)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CorruptWeights):
        load_codec(tmp_path)
    with pytest.raises(CorruptWeights, match="no model folder"):
        load_codec(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "wrong",
    [
        {"encoder": "mel"},
        {"num_masked_books": 7},
        {"hop_length": 321},
        {"fft_size": 16},
        {"latent_size": 2},
    ],
)
def test_contradicting_sizes_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        CodecConfig(**wrong)


def test_a_value_of_a_wrong_type_is_refused() -> None:
    with pytest.raises(StrictDataclassFieldValidationError):
        CodecConfig(encoder_layers="two")


def test_feature_extractor_makes_what_the_model_takes(tmp_path) -> None:
    from speechlm.tokenizer.processing import CodecFeatureExtractor

    CodecFeatureExtractor().save_pretrained(tmp_path)
    tiny_codec().config.save_pretrained(tmp_path)
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path)
    waves = [voice(3000).numpy(), voice(500).numpy()]
    batch = extractor(waves, sampling_rate=16_000)
    codec: CodecModel = tiny_codec()
    codes = codec.encode(**batch).audio_codes
    assert codes.shape == (2, 6, 10)
    assert torch.equal(
        codes[1, :, :2], codec.tokenize([torch.from_numpy(waves[1])]).values[0, :, :2]
    )
    assert extractor(waves[0], sampling_rate=8000)["input_values"].shape == (1, 1, 6000)
    with pytest.raises(UnsupportedAudio):
        extractor([[]], sampling_rate=16_000)
