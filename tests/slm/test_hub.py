"""The speaker in the Hub's shape: Auto classes, one folder for both doors, transformers' pipeline."""

import numpy as np
import pytest
import torch
from tiny_codecs import tiny_codec, voice
from tiny_speaker import SIZES, Letters
from transformers import AutoConfig, AutoModelForTextToWaveform, AutoProcessor, pipeline

from speechlm.errors import ConfigError, CorruptWeights, ModelMismatch, UnsupportedText
from speechlm.slm.autoregressive import AutoregressiveModel
from speechlm.slm.config import AutoregressiveConfig, NonAutoregressiveConfig
from speechlm.slm.hub import SpeechConfig, SpeechModel
from speechlm.slm.nonautoregressive import NonAutoregressiveModel
from speechlm.slm.processing import SpeechProcessor
from speechlm.slm.runtime import precision_of
from speechlm.slm.sampling import generator_of
from speechlm.slm.shipped import shipped_models
from speechlm.slm.speak import Speaker
from speechlm.slm.voice_file import save_voice

RATE = 16_000


@pytest.fixture(scope="module")
def speaker():
    codec = tiny_codec()
    torch.manual_seed(0)
    ar = AutoregressiveModel(AutoregressiveConfig.for_codec(codec.identity, ar_books=3, **SIZES))
    nar = NonAutoregressiveModel(
        NonAutoregressiveConfig.for_codec(codec.identity, ar_books=3, **SIZES)
    )
    return Speaker(codec, ar, nar, Letters())


@pytest.fixture(scope="module")
def folder(speaker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "model"
    SpeechModel.of(speaker).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def letters(monkeypatch):
    monkeypatch.setattr("speechlm.slm.processing.default_front_end", Letters)
    monkeypatch.setattr("speechlm.slm.speak.default_front_end", Letters)


def test_the_auto_classes_find_everything(folder):
    assert isinstance(AutoConfig.from_pretrained(folder), SpeechConfig)
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForTextToWaveform.from_pretrained(folder)
    assert isinstance(processor, SpeechProcessor) and isinstance(model, SpeechModel)
    assert model.config.sampling_rate == processor.sampling_rate == RATE
    assert not list(folder.rglob("*.bin")) and not list(folder.rglob("*.pkl"))


def test_what_is_loaded_says_what_the_speaker_does(speaker, folder):
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForTextToWaveform.from_pretrained(folder)
    inputs = processor(["Hello there.", "Hi, you over there!"], voice=voice(2 * RATE))
    spoken = model.generate(**inputs, seed=3)
    assert spoken.finish_reasons == ["end", "end"]
    assert all(audio.dtype == torch.float32 and audio.abs().max() <= 1 for audio in spoken.audio)
    for codes, audio in zip(spoken.audio_codes, spoken.audio, strict=True):
        assert codes.shape[0] == 6 and len(audio) == 320 * codes.shape[1]
    assert torch.equal(processor.batch_decode(spoken.audio_codes)[1], spoken.audio[1])
    # the same seed through the other door
    from speechlm.slm.generate import generate_codes

    wanted = generate_codes(
        speaker.ar,
        speaker.nar,
        speaker.encode("Hello there."),
        speaker.prepare_voice(voice(2 * RATE)),
        generator=generator_of(3, 0),
    )
    assert torch.equal(spoken.audio_codes[0], wanted.codes)
    same = (
        Speaker.from_pretrained(folder, precision="fp32").say("Hello there.", voice(RATE)).waveform
    )
    assert torch.equal(same, speaker.say("Hello there.", voice(RATE)).waveform)


def test_a_model_speaks_at_the_precision_asked_for(folder):
    assert precision_of(SpeechModel.from_pretrained(folder).ar) == "fp32"
    assert precision_of(SpeechModel.from_pretrained(folder, precision="bf16").ar) == "bf16"
    speak = pipeline("text-to-speech", model=str(folder), model_kwargs={"precision": "bf16"})
    assert precision_of(speak.model.ar) == "bf16"


def test_a_prepared_voice_says_the_same_as_its_recording(speaker, folder, tmp_path):
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForTextToWaveform.from_pretrained(folder)
    prepared = speaker.prepare_voice(voice(2 * RATE))
    save_voice(prepared, tmp_path / "a.safetensors")
    sources = [voice(2 * RATE), voice(2 * RATE).numpy(), prepared, tmp_path / "a.safetensors"]
    audio = [model.generate(**processor("Hello.", voice=s), seed=1).audio[0] for s in sources]
    assert all(torch.equal(audio[0], other) for other in audio[1:])


@pytest.mark.parametrize("text", ["Hello there.", ["Hello there.", "And you?"]])
def test_the_pipeline_speaks_from_a_folder(folder, text):
    speak = pipeline("text-to-speech", model=str(folder))
    spoken = speak(text)
    for item in spoken if isinstance(text, list) else [spoken]:
        assert item["sampling_rate"] == RATE
        assert isinstance(item["audio"], np.ndarray) and item["audio"].ndim == 1
        # 12 or 8 phonemes and two boundaries, each one to five frames of 20 ms
        assert 10 * 320 <= len(item["audio"]) <= 14 * 5 * 320


def test_the_pipeline_passes_options_on(folder):
    speak = pipeline("text-to-speech", model=str(folder))
    first, again, other = (
        speak("Hello there.", generate_kwargs={"seed": s, "top_k": 5})["audio"] for s in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    short = speak("Hello there.", generate_kwargs={"max_new_tokens": 4})["audio"]
    assert len(short) == 4 * 320
    with pytest.raises(ConfigError, match="no option 'speed'"):
        speak("Hello there.", generate_kwargs={"speed": 2})


def test_the_pipeline_takes_a_voice(folder):
    speak = pipeline("text-to-speech", model=str(folder))
    options = {"generate_kwargs": {"seed": 1}}
    one, two, again = (
        speak("Hello there.", preprocess_params={"voice": voice(RATE, pitch)}, **options)["audio"]
        for pitch in (100, 200, 100)
    )
    assert np.array_equal(one, again)
    assert one.shape != two.shape or not np.array_equal(one, two)


def test_what_cannot_be_spoken_is_refused(folder):
    processor = AutoProcessor.from_pretrained(folder)
    with pytest.raises(UnsupportedText):
        processor("...", voice=voice(RATE))
    model = AutoModelForTextToWaveform.from_pretrained(folder)
    with pytest.raises(ConfigError, match="no voice"):
        model.generate(processor.tokenizer("Hello.")["input_ids"])


def test_a_damaged_folder_is_refused(speaker, tmp_path):
    SpeechModel.of(speaker).save_pretrained(tmp_path)
    (tmp_path / "ar" / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(CorruptWeights):
        AutoModelForTextToWaveform.from_pretrained(tmp_path)
    SpeechModel.of(speaker).save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"codec_revision": "', '"codec_revision": "f'))
    with pytest.raises((CorruptWeights, ModelMismatch), match="revision"):
        SpeechModel.from_pretrained(tmp_path)


def test_the_shipped_models_are_such_a_folder():
    speak = pipeline("text-to-speech", model=str(shipped_models()))
    spoken = speak("hello", generate_kwargs={"max_new_tokens": 3})
    assert spoken["sampling_rate"] == RATE and spoken["audio"].shape == (3 * 320,)
