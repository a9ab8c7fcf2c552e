"""A speaker from end to end, with tiny untrained weights, and every refusal of a prompt."""

import math

import pytest
import soundfile
import torch
from tiny_codecs import tiny_codec, voice
from tiny_speaker import SIZES, Letters

from speechlm.errors import (
    ConfigError,
    CorruptWeights,
    ModelMismatch,
    UnsupportedAudio,
    UnsupportedText,
)
from speechlm.slm.autoregressive import AutoregressiveModel
from speechlm.slm.config import AutoregressiveConfig, NonAutoregressiveConfig
from speechlm.slm.nonautoregressive import NonAutoregressiveModel
from speechlm.slm.prompt import Voice, read_prompt
from speechlm.slm.runtime import precision_of, usual_precision
from speechlm.slm.speak import Speaker, find_voice, shipped_voices
from speechlm.tokenizer.model_folder import save_model

RATE = 16_000


@pytest.fixture(scope="module")
def parts():
    codec = tiny_codec()
    torch.manual_seed(0)
    ar = AutoregressiveModel(
        AutoregressiveConfig.for_codec(codec.identity, ar_books=3, **SIZES)
    ).eval()
    nar = NonAutoregressiveModel(
        NonAutoregressiveConfig.for_codec(codec.identity, ar_books=3, **SIZES)
    ).eval()
    return codec, ar, nar


@pytest.fixture(scope="module")
def speaker(parts):
    return Speaker(*parts, front_end=Letters())


def write(path, waveform, rate=RATE):
    soundfile.write(path, waveform.numpy(), rate)
    return path


def test_a_sentence_in_the_voice_of_a_file(speaker, tmp_path):
    prompt = write(tmp_path / "prompt.wav", voice(3 * 44_100), 44_100)
    speech = speaker.say("Any sentence of yours.", prompt, seed=3)
    assert speech.sampling_rate == RATE
    assert speech.waveform.dim() == 1 and speech.waveform.isfinite().all()
    assert speech.waveform.abs().max() <= 1
    # 22 phonemes and two boundaries, each one to five frames of 20 ms
    assert 24 * 0.02 <= speech.seconds <= 24 * 5 * 0.02
    assert speech.finish_reason == "end"
    assert speech.compute_seconds > 0
    assert speech.notes == [Letters.note]


def test_a_prompt_of_a_moment_is_told(speaker):
    assert speaker.prepare_voice(voice(2 * RATE)).note == ""
    speech = speaker.say("Hello.", voice(RATE))
    assert any("holds 1.0 s of speech" in note for note in speech.notes)


def test_the_seed_decides(speaker):
    prompt = voice(2 * RATE)
    first, again, other = (speaker.say("Hello there.", prompt, seed=s).waveform for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)


def test_large_seeds_are_told_apart(speaker):
    prompt = speaker.prepare_voice(voice(RATE))
    spoken = [speaker.say("Hello.", prompt, seed=s).waveform for s in (0, 1 << 12, 1 << 31)]
    for i, first in enumerate(spoken):
        for other in spoken[i + 1 :]:
            assert first.shape != other.shape or not torch.equal(first, other)


def test_a_prepared_voice_says_the_same(speaker):
    prompt = voice(2 * RATE)
    prepared = speaker.prepare_voice(prompt)
    assert isinstance(prepared, Voice)
    direct = speaker.say("Hello there.", prompt, seed=1).waveform
    assert torch.equal(speaker.say("Hello there.", prepared, seed=1).waveform, direct)


def test_a_transcript_is_aligned_with_its_recording(speaker):
    prepared = speaker.prepare_voice(voice(RATE // 2 + 1600), prompt_text="abc defghij")
    assert prepared.symbols.tolist() == speaker.encode("abc defghij").tolist()
    assert prepared.pointer[0] == 0 and prepared.pointer[-1] == 12
    assert speaker.say("Hello there.", prepared).seconds > 0


def test_a_long_text_is_spoken_sentence_by_sentence(speaker):
    sentences = ["The first sentence is here.", "And here we have the second one!"]
    prompt = voice(2 * RATE)
    whole = speaker.say(" ".join(sentences), prompt, seed=4)
    first = speaker.say(sentences[0], prompt, seed=4)
    # The first sentence is what it is alone, but that it fades into the pause and not into nothing.
    start = len(first.waveform) - 2 * 320
    assert torch.allclose(whole.waveform[:start], first.waveform[:start], atol=1e-4)
    assert whole.seconds > first.seconds + 0.15


def test_a_cut_sentence_is_told(speaker):
    speech = speaker.say("A sentence that takes longer.", voice(2 * RATE), max_seconds=0.1)
    assert speech.finish_reason == "length"
    assert speech.seconds == pytest.approx(0.1)
    assert any("length limit" in note for note in speech.notes)


def test_a_model_folder_speaks_as_the_models_did(parts, tmp_path, monkeypatch):
    codec, ar, nar = parts
    for name, model in (("codec", codec), ("ar", ar), ("nar", nar)):
        save_model(model, tmp_path / name, "float32")
    monkeypatch.setattr("speechlm.slm.speak.default_front_end", Letters)
    loaded = Speaker.from_pretrained(tmp_path, precision="fp32")
    wanted = Speaker(codec, ar, nar).say("Hello there.", voice(RATE)).waveform
    assert torch.equal(loaded.say("Hello there.", voice(RATE)).waveform, wanted)


def test_half_precision_is_a_storage_format(parts, tmp_path, monkeypatch):
    codec, ar, _ = parts
    save_model(ar, tmp_path / "ar")
    monkeypatch.setattr("speechlm.slm.speak.default_front_end", Letters)
    speaker = Speaker.from_pretrained(tmp_path, codec=codec)
    assert speaker.ar.dtype == torch.float32
    assert speaker.nar is None
    assert speaker.say("Hello there.", voice(RATE)).seconds > 0


def test_the_folder_of_an_exported_model_speaks_by_itself(parts, tmp_path):
    codec, ar, _ = parts
    save_model(ar, tmp_path / "models" / "ar")
    alone, within = (
        Speaker.from_pretrained(tmp_path / name, codec=codec, front_end=Letters())
        for name in ("models/ar", "models")
    )
    waves = [each.say("Hello there.", voice(RATE), seed=3).waveform for each in (alone, within)]
    assert torch.equal(*waves)


def test_the_precision_is_the_one_asked_for(parts, tmp_path):
    save_model(parts[1], tmp_path / "ar", "float32")
    loaded = {
        name: Speaker.from_pretrained(
            tmp_path, codec=parts[0], front_end=Letters(), **({"precision": name} if name else {})
        )
        for name in ("", "auto", "fp32", "bf16")
    }
    assert loaded[""].precision == loaded["auto"].precision == usual_precision()
    assert loaded["fp32"].precision == "fp32" and loaded["bf16"].precision == "bf16"
    for name in ("fp32", "bf16"):  # and the model's weights are laid out so
        assert precision_of(loaded[name].ar) == name
    with pytest.raises(ConfigError, match="int4"):
        Speaker.from_pretrained(tmp_path, codec=parts[0], precision="int4")


def test_int8_is_usual_only_where_its_products_are_exact(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    assert usual_precision() == "fp32"


def test_a_folder_without_models_is_refused(parts, tmp_path):
    with pytest.raises(CorruptWeights, match="no folder `ar`"):
        Speaker.from_pretrained(tmp_path)
    save_model(parts[1], tmp_path / "ar")
    (tmp_path / "ar" / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(CorruptWeights, match="safetensors"):
        Speaker.from_pretrained(tmp_path, codec=parts[0])


def test_models_of_another_codec_are_refused(parts):
    _, ar, nar = parts
    with pytest.raises(ModelMismatch, match="The autoregressive model was made with codec"):
        Speaker(tiny_codec(codec_id="another"), ar, nar, Letters())


def test_too_few_books_to_decode_are_refused(parts):
    codec = parts[0]
    config = AutoregressiveConfig.for_codec(codec.identity, ar_books=1, **SIZES)
    with pytest.raises(CorruptWeights, match="add the non-autoregressive model"):
        Speaker(codec, AutoregressiveModel(config), None, Letters())


def test_an_empty_text_is_refused(speaker):
    for nothing in ("", "  \n", "日本"):
        with pytest.raises(UnsupportedText):
            speaker.say(nothing, voice(RATE))


@pytest.mark.parametrize(
    ("waveform", "sentence"),
    [
        (voice(1600), r"lasts 0\.10 s"),
        (torch.zeros(2 * RATE), "is silent"),
        (1e-4 * voice(2 * RATE), "is silent"),
        (
            torch.cat((torch.zeros(RATE), voice(RATE // 5), torch.zeros(RATE))),
            r"holds only 0\.\d+ s",
        ),
        (torch.full((RATE,), math.nan), "finite"),
        (torch.zeros(0), "finite samples"),
        (torch.zeros(2, RATE), r"waveform \[L\]"),
    ],
)
def test_a_prompt_that_cannot_be_one_is_refused(waveform, sentence):
    with pytest.raises(UnsupportedAudio, match=sentence):
        read_prompt(waveform, RATE)


def test_an_unreadable_prompt_is_refused(speaker, tmp_path):
    text = tmp_path / "text.wav"
    text.write_text("This is no audio.")
    for path in (text, tmp_path / "missing.wav"):
        with pytest.raises(UnsupportedAudio, match=path.name):
            speaker.say("Hello there.", path)


def test_silence_around_a_prompt_goes():
    silence = torch.zeros(RATE)
    trimmed = read_prompt(torch.cat((silence, voice(2 * RATE), silence)), RATE)
    assert 1.9 <= len(trimmed) / RATE <= 2.15


def test_a_long_prompt_is_cut_at_a_quiet_point():
    speech = voice(12 * RATE)
    quiet = slice(12 * RATE - int(8.5 * RATE), 12 * RATE - int(8.4 * RATE))
    speech[quiet] = 0.0
    cut = read_prompt(speech, RATE)
    assert 8.4 <= len(cut) / RATE <= 8.5
    assert torch.allclose(cut[-RATE:], speech[-RATE:], atol=1e-4)


def test_a_transcribed_prompt_is_never_cut():
    assert len(read_prompt(voice(6 * RATE), RATE, is_whole=True)) > 5.8 * RATE
    with pytest.raises(UnsupportedAudio, match="leave out the text"):
        read_prompt(voice(9 * RATE), RATE, is_whole=True)


def test_a_faint_prompt_is_lifted_and_a_usual_one_left_alone():
    usual = voice(2 * RATE)
    faint, left = read_prompt(0.05 * usual, RATE), read_prompt(usual, RATE)
    assert 0.1 * left.norm() < faint.norm() <= left.norm()
    assert torch.allclose(left, usual[-len(left) :], atol=1e-6) or len(left) < len(usual)


def test_shipped_voices_are_recordings_by_name():
    for name, path in shipped_voices().items():
        assert path.suffix == ".opus" and path.stem == name
        assert 2 <= len(read_prompt(path, RATE)) / RATE <= 8
        assert find_voice(name.title()) == path
