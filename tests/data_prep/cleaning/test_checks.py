"""What the checks find, and what they must let pass."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

import speechlm
from speechlm.data_prep.cleaning.apparent_speed import apparent_speed, voice_pitch
from speechlm.data_prep.cleaning.bandwidth import effective_bandwidth
from speechlm.data_prep.cleaning.clipping import clipped_samples
from speechlm.data_prep.cleaning.containers import is_cut_short
from speechlm.data_prep.cleaning.decoding import RefusedAudio, decode_recording
from speechlm.data_prep.cleaning.duplicates import DuplicateIndex
from speechlm.data_prep.cleaning.fingerprint import fingerprint
from speechlm.data_prep.cleaning.recording import Cleaned
from speechlm.data_prep.cleaning.scripts import script_share
from speechlm.data_prep.cleaning.speaking_rate import active_seconds, spoken_characters
from speechlm.data_prep.readers import Recording

VOICES = Path(speechlm.__file__).parent / "slm" / "weights" / "voices"


def babble(seconds, rate, seed=0):
    """Syllables of harmonics and hisses, each of its own pitch, length and colour."""
    random = np.random.default_rng(seed)
    parts = []
    while sum(map(len, parts)) < seconds * rate:
        time = np.arange(int(random.uniform(0.08, 0.2) * rate)) / rate
        pitch, centre = random.uniform(90, 250), random.uniform(300, 3000)
        harmonics = np.arange(1, int(0.45 * rate / pitch))
        weights = np.exp(-(((harmonics * pitch - centre) / 800) ** 2)) + 0.05 / harmonics
        voice = (weights[:, None] * np.sin(2 * np.pi * pitch * harmonics[:, None] * time)).sum(0)
        hiss = random.normal(0, random.uniform(0.02, 0.3), len(time))
        parts.append((voice / 4 + hiss) * np.sin(np.pi * np.arange(len(time)) / len(time)) ** 2)
    wave = np.concatenate(parts)[: int(seconds * rate)]
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


def recording(path, **fields):
    return Recording("a", path, "hello", "s", **fields)


def decoded(path, **fields):
    return decode_recording(recording(path, **fields), min_seconds=0.1, max_seconds=30)


def refusal(path, **fields):
    with pytest.raises(RefusedAudio) as caught:
        decoded(path, **fields)
    assert str(path) in str(caught.value)
    return caught.value.kind


def test_a_recording_that_somebody_upsampled_keeps_its_telephone_edge():
    wide = babble(2, 16_000)
    narrow = soxr.resample(soxr.resample(wide, 16_000, 8_000), 8_000, 16_000)
    assert effective_bandwidth(wide, 16_000) > 6_000
    assert 3_000 < effective_bandwidth(narrow, 16_000) < 4_500
    assert effective_bandwidth(soxr.resample(narrow, 16_000, 44_100), 44_100) < 4_500


def test_clipped_tops_are_counted_and_loud_peaks_are_not():
    wave = babble(2, 16_000)
    loud = wave / np.abs(wave).max()
    assert clipped_samples(loud) == 0
    sine = np.sin(2 * np.pi * 100 * np.arange(48_000) / 48_000).astype(np.float32)
    assert clipped_samples(sine) == 0
    cut = np.clip(4 * loud, -1, 1)
    at_top = np.count_nonzero(np.abs(cut) == 1)
    assert 0.5 * at_top < clipped_samples(cut) <= at_top
    assert clipped_samples(0.5 * cut) == clipped_samples(cut)  # turned down after the damage


@pytest.mark.parametrize(
    ("suffix", "subtype"), [("wav", "PCM_16"), ("ogg", "VORBIS"), ("ogg", "OPUS"), ("flac", None)]
)
def test_a_file_cut_anywhere_is_refused_and_a_whole_one_is_not(tmp_path, suffix, subtype):
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, babble(3, 16_000), 16_000, subtype=subtype)
    assert decoded(path).seconds == pytest.approx(3, abs=0.01)
    whole = path.read_bytes()
    for share in (0.999, 0.8, 0.5, 0.2):
        path.write_bytes(whole[: int(share * len(whole))])
        if suffix == "wav" and share == 0.999:
            continue  # within the tolerance for writers that forget a pad byte
        assert refusal(path) in ("cut", "unreadable")


def test_a_wave_that_was_written_to_a_pipe_is_whole():
    header = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + bytes(16) + b"data\xff\xff\xff\xff"
    assert not is_cut_short(io.BytesIO(header + bytes(100)), len(header) + 100)


def test_three_hours_are_refused_by_their_header(tmp_path):
    path = tmp_path / "long.wav"
    size = 3 * 3600 * 16_000 * 2
    soundfile.write(path, np.zeros(16, np.float32), 16_000, subtype="PCM_16")
    header = bytearray(path.read_bytes()[:44])
    header[4:8], header[40:44] = (n.to_bytes(4, "little") for n in (size + 36, size))
    with path.open("wb") as file:
        file.write(header)
        file.truncate(44 + size)  # a sparse file: nothing but its length is there
    assert refusal(path) == "duration"
    assert refusal(path, start_s=10.0) == "duration"
    assert refusal(path, start_s=10.0, end_s=12.0) == "silent"  # a part is all that is decoded


def test_channels_that_cancel_are_told_from_silence(tmp_path):
    wave = babble(1, 8_000)
    soundfile.write(tmp_path / "a.wav", np.stack([wave, -wave], 1), 8_000)
    soundfile.write(tmp_path / "b.wav", np.stack([wave, 0 * wave], 1), 8_000)
    soundfile.write(tmp_path / "c.wav", np.full(8_000, 0.3), 8_000)  # an offset and nothing else
    assert refusal(tmp_path / "a.wav") == "channels"
    assert refusal(tmp_path / "c.wav") == "silent"
    assert decoded(tmp_path / "b.wav").num_channels == 2


def test_a_part_is_what_lies_between_its_ends(tmp_path):
    wave = babble(3, 8_000)
    soundfile.write(tmp_path / "a.flac", wave, 8_000)
    clip = decoded(tmp_path / "a.flac", start_s=1.0, end_s=1.5)
    assert np.abs(clip.samples - wave[8_000:12_000]).max() < 1e-4
    assert refusal(tmp_path / "a.flac", start_s=4.0) == "part"
    assert refusal(tmp_path / "a.flac", start_s=2.0, end_s=1.0) == "part"
    assert refusal(tmp_path / "a.flac", start_s=2.0, end_s=4.0) == "cut"


def test_scripts_are_told_apart_and_digits_belong_to_none():
    assert script_share("Ça va, naïve ｗｏｒｄ 42", ["latin"]) == 1
    assert script_share("привет world", ["Latin"]) == pytest.approx(5 / 11)
    assert script_share("東京タワー", ["Han", "Katakana"]) == 1
    assert script_share("42", ["Latin"]) == 1


def test_speech_is_timed_without_its_pauses():
    wave = np.concatenate([np.zeros(8_000), babble(1, 8_000), np.zeros(16_000)]).astype(np.float32)
    assert 0.5 < active_seconds(wave, 8_000) < 1.1
    assert spoken_characters("It's 42!") == 3 + 2 * 4


@pytest.mark.parametrize("voice", sorted(VOICES.glob("*.opus")), ids=lambda path: path.stem)
def test_a_wrong_rate_in_the_header_is_heard(voice):
    samples, rate = soundfile.read(voice, dtype="float32")
    text = "a" * round(15 * active_seconds(samples, rate))
    assert 0.6 < apparent_speed(text, samples, rate) < 1.5
    assert apparent_speed(text, samples, 3 * rate) > 1.8
    pitch = voice_pitch(samples, rate)
    assert 80 < pitch < 280
    assert voice_pitch(samples, 2 * rate) == pytest.approx(2 * pitch, rel=0.1)


def _cleaned(wave, rate, digest):
    active, sound = fingerprint(wave, rate)
    return Cleaned(1.0, digest, active_s=active, sound=sound.hex())


def test_another_encoding_rate_or_level_sounds_the_same_and_other_babble_does_not():
    index = DuplicateIndex()
    for seed in range(12):
        index.add(f"u{seed}", _cleaned(babble(2, 16_000, seed), 16_000, f"{seed:032x}"))
    wave = babble(2, 16_000, seed=7)
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, 16_000, format="OGG", subtype="OPUS")
    opus, rate = soundfile.read(io.BytesIO(buffer.getvalue()), dtype="float32")
    for other, hz in [
        (opus, rate),
        (soxr.resample(wave, 16_000, 8_000), 8_000),
        (0.2 * wave, 16_000),
    ]:
        assert index.find_near(_cleaned(other, hz, "f" * 32)) == "u7"
    for seed in range(100, 112):
        assert index.find_near(_cleaned(babble(2, 16_000, seed), 16_000, "e" * 32)) is None
    assert index.find_exact(_cleaned(wave, 16_000, f"{7:032x}")) == "u7"
