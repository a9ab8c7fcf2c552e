"""What cleaning does to audio, what it leaves alone, and what the manifest says of it."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

import speechlm
from speechlm.data_prep.cleaning import Cleaned, CleaningOptions, clean_recording, recording
from speechlm.data_prep.cleaning.loudness import integrated_loudness
from speechlm.data_prep.cleaning.recording import stored_name
from speechlm.data_prep.manifest import CleaningRecord, read_manifest
from speechlm.data_prep.prepare import prepare_corpus
from speechlm.data_prep.readers import Recording
from speechlm.tokenizer.audio import read_audio

VOICE = Path(speechlm.__file__).parent / "slm" / "weights" / "voices" / "clara.opus"


@pytest.fixture
def wave():
    time = np.arange(16_000) / 8_000
    return (0.2 * np.sin(2 * np.pi * 150 * time) * np.linspace(0.2, 1, 16_000)).astype(np.float32)


def cleaned(entry, out, **options):
    verdict = clean_recording(entry, CleaningOptions(**options), out)
    assert isinstance(verdict, Cleaned), verdict
    return verdict


def test_without_a_change_the_original_stands(tmp_path, wave):
    soundfile.write(tmp_path / "a.wav", np.stack([wave, wave], 1), 8_000)
    entry = Recording("a", tmp_path / "a.wav", "hello", "s")
    for options in ({}, {"resample_hz": 8_000}, {"max_clipped_share": 0.1}):
        assert cleaned(entry, tmp_path / "out", **options).audio is None
    assert not (tmp_path / "out").exists()


def test_parts_and_bytes_get_files_of_their_own(tmp_path, wave):
    soundfile.write(tmp_path / "a.wav", wave, 8_000)
    part = Recording("part", tmp_path / "a.wav", "hello", "s", start_s=0.5, end_s=1.25)
    whole = Recording(
        "whole", Path("row 7"), "hello", "s", content=(tmp_path / "a.wav").read_bytes()
    )
    found = cleaned(part, tmp_path)
    assert found.seconds == 0.75
    assert found.record == CleaningRecord(part_s=(0.5, 1.25))
    stored = read_audio(tmp_path / found.audio, 8_000).numpy()
    assert np.abs(stored - wave[4_000:10_000]).max() <= 2 / 32768
    found = cleaned(whole, tmp_path)
    assert found.record is None
    assert np.abs(read_audio(tmp_path / found.audio, 8_000).numpy() - wave).max() <= 2 / 32768


def test_every_change_is_made_and_told(tmp_path, wave):
    pytest.importorskip("pyloudnorm")
    soundfile.write(tmp_path / "a.wav", np.stack([wave, 0 * wave], 1), 8_000)
    entry = Recording("a", tmp_path / "a.wav", "hello", "s")
    found = cleaned(entry, tmp_path, resample_hz=16_000, downmix="first", loudness_lufs=-30)
    samples = read_audio(tmp_path / found.audio, 16_000).numpy()
    assert len(samples) == 32_000
    assert integrated_loudness(samples, 16_000) == pytest.approx(-30, abs=0.1)
    record = found.record
    assert (record.num_channels, record.original_hz) == (2, 8_000)
    assert record.loudness_lufs + record.gain_db == pytest.approx(-30, abs=0.02)


def test_a_gain_never_clips(tmp_path, wave):
    pytest.importorskip("pyloudnorm")
    click = wave.copy()
    click[100:110] = 0.9
    soundfile.write(tmp_path / "a.wav", click, 8_000)
    found = cleaned(Recording("a", tmp_path / "a.wav", "hi", "s"), tmp_path, loudness_lufs=-6)
    peak = read_audio(tmp_path / found.audio, 8_000).abs().max()
    assert float(peak) == pytest.approx(10 ** (-1 / 20), abs=1e-3)
    soundfile.write(tmp_path / "hot.wav", 20 * wave, 8_000, subtype="FLOAT")
    hot = Recording("hot", tmp_path / "hot.wav", "hi", "s", end_s=1.9)
    found = cleaned(hot, tmp_path)
    assert found.record.gain_db < 0
    stored = read_audio(tmp_path / found.audio, 8_000).numpy()
    expected = 20 * wave[: len(stored)]
    assert np.corrcoef(stored, expected)[0, 1] > 0.99999  # turned down, not cut


def test_silence_is_cut_and_durations_move_along(tmp_path, monkeypatch, wave):
    soundfile.write(tmp_path / "a.wav", wave, 8_000)
    monkeypatch.setattr(recording, "speech_bounds", lambda samples, rate: (0.6, 1.5))
    plain = Recording("a", tmp_path / "a.wav", "hi", "s")
    found = cleaned(plain, tmp_path, trim_silence=True, trim_margin_s=0.1)
    assert (found.seconds, found.record.trimmed_s) == (pytest.approx(1.1), (0.5, 0.4))
    timed = Recording(
        "b", tmp_path / "a.wav", "hi", "s", phonemes="ab", durations_s=(0.3, 0.5, 0.9, 0.3)
    )
    found = cleaned(timed, tmp_path, trim_silence=True, trim_margin_s=0.1)
    assert found.record.trimmed_s == (0.3, 0.3)  # all silence, and nothing of a phoneme
    assert found.durations_s[:3] == pytest.approx((0.0, 0.5, 0.9))
    assert found.seconds == pytest.approx(1.4)


def test_the_detector_finds_a_voice_between_silences(tmp_path):
    pytest.importorskip("silero_vad")
    voice = read_audio(VOICE, 16_000).numpy()
    padded = np.concatenate([np.zeros(24_000), voice, np.zeros(40_000)]).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", padded, 16_000)
    soundfile.write(tmp_path / "b.wav", np.random.default_rng(0).normal(0, 0.01, 32_000), 16_000)
    entry = Recording("a", tmp_path / "a.wav", "hi", "s")
    head, tail = cleaned(entry, tmp_path, trim_silence=True).record.trimmed_s
    assert 1.2 < head < 2.0
    assert 2.2 < tail < 3.2
    noise = clean_recording(
        Recording("b", tmp_path / "b.wav", "hi", "s"), CleaningOptions(trim_silence=True), tmp_path
    )
    assert noise.kind == "no speech"


def test_stored_names_are_safe_and_apart():
    names = ["../../etc/passwd", "a/b", "a_b", "A_B", "x" * 500, "é\ud800\0", ""]
    stored = [stored_name(name) for name in names]
    assert len({name.lower() for name in stored}) == len(names)
    for name in stored:
        assert re.fullmatch(r"audio/[0-9a-f]{2}/[A-Za-z0-9_-]{0,60}-[0-9a-f]{12}\.flac", name)


def test_the_manifest_names_stored_audio_and_what_was_done(tmp_path, wave):
    (tmp_path / "c").mkdir()
    soundfile.write(tmp_path / "c" / "a.wav", wave, 8_000)
    (tmp_path / "c" / "a.txt").write_text("hello")
    out = tmp_path / "out"
    summary = prepare_corpus(
        tmp_path / "c", out, options=CleaningOptions(resample_hz=16_000), progress=False
    )
    (utterance,) = read_manifest(out / "manifest.jsonl")
    assert utterance.audio == out / stored_name("a")
    assert utterance.cleaning == CleaningRecord(original_hz=8_000)
    assert summary.cleaned == {"original_hz": 1}
    digest = hashlib.sha256(utterance.audio.read_bytes()).hexdigest()
    prepare_corpus(tmp_path / "c", out, progress=False)  # without resampling: the copy goes
    assert read_manifest(out / "manifest.jsonl")[0].audio == tmp_path / "c" / "a.wav"
    assert not (out / "audio").exists()
    prepare_corpus(tmp_path / "c", out, options=CleaningOptions(resample_hz=16_000), progress=False)
    assert hashlib.sha256((out / stored_name("a")).read_bytes()).hexdigest() == digest
