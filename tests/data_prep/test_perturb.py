"""Copies of training speech in other surroundings: what stays, what changes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechlm.data_prep.acoustics import Surroundings, speech_level
from speechlm.data_prep.manifest import Utterance, read_manifest, write_manifest
from speechlm.data_prep.perturb import perturb_manifest, surroundings_of
from speechlm.errors import ConfigError, CorpusError

RATE = 16_000


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.1 * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def pitch(waveform: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(np.argmax(spectrum)) * RATE / len(waveform)


def place(waveform: np.ndarray, **parts) -> np.ndarray:
    return Surroundings(**parts).place(waveform, RATE, np.random.default_rng(0))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    utterances = []
    for number, (speaker, split) in enumerate(
        [("ann", "train"), ("ann", "train"), ("bob", "train"), ("", "train"), ("eve", "valid")]
    ):
        audio = tmp_path / f"{number}.wav"
        soundfile.write(audio, tone(200 + 50 * number), RATE)
        utterances.append(
            Utterance(
                f"u{number}",
                audio,
                1.0,
                "a b",
                speaker,
                split,
                phonemes="ab",
                durations_s=(0.25, 0.25, 0.25, 0.25),
            )
        )
    write_manifest(tmp_path / "manifest.jsonl", utterances)
    return tmp_path / "manifest.jsonl"


def test_speed_moves_pitch_and_length_together():
    faster = place(tone(400), speed=1.25)
    assert len(faster) == round(RATE / 1.25)
    assert pitch(faster) == pytest.approx(500, abs=2)


def test_a_room_sounds_on_after_the_sound_and_nothing_comes_before_it():
    click = np.zeros(RATE, dtype=np.float32)
    click[2000] = 0.5
    heard = place(click, rt60_s=0.3, direct_db=6.0, low_hz=0.01)
    before, tail = heard[:1900], heard[2200:4000]
    assert np.abs(before).max() < 1e-3 * np.abs(heard).max()
    assert np.sum(tail**2) > 0.02 * np.sum(heard**2)
    late = heard[2000 + round(0.3 * RATE) :]
    assert np.abs(late).max() < 1e-2 * np.abs(heard).max()


def test_noise_lies_as_far_below_speech_as_asked():
    waveform = np.concatenate([tone(300), np.zeros(RATE, dtype=np.float32)])
    heard = place(waveform, snr_db=20.0, noise_slope=0.5)
    noise = float(np.sqrt(np.mean(heard[RATE + 2000 :] ** 2)))
    assert 20 * np.log10(speech_level(waveform, RATE) / noise) == pytest.approx(20, abs=1)


def test_a_microphone_takes_what_it_cannot_hear_and_leaves_the_level():
    both = tone(400) + tone(7000)
    heard = place(both, high_hz=2000.0)
    spectrum = np.abs(np.fft.rfft(heard[:RATE]))
    assert spectrum[7000] < 0.15 * spectrum[400]
    assert speech_level(heard, RATE) == pytest.approx(speech_level(both, RATE), rel=0.02)


@pytest.mark.parametrize("length", [1, 7, 320])
def test_shortest_and_silent_recordings_pass(length: int):
    chance = np.random.default_rng(3)
    around = Surroundings.draw(chance)
    for waveform in (np.zeros(length, dtype=np.float32), np.full(length, 0.3, dtype=np.float32)):
        heard = around.place(waveform, RATE, chance)
        assert len(heard) >= 1
        assert np.isfinite(heard).all()


def test_a_copy_is_one_voice_in_one_room_and_another_copy_another():
    ann = surroundings_of("ann", 1, 0, 1.15)
    assert ann == surroundings_of("ann", 1, 0, 1.15)
    others = [("ann", 2, 0), ("ann", 1, 1), ("bob", 1, 0)]
    assert all(surroundings_of(*other, 1.15).speed != ann.speed for other in others)


def test_copies_keep_words_and_speakers_apart_and_scale_durations(manifest: Path, tmp_path: Path):
    out = tmp_path / "out"
    summary = perturb_manifest(manifest, out, copies=2, progress=False)
    made = {utterance.id: utterance for utterance in read_manifest(out / "manifest.jsonl")}
    assert sorted(made) == sorted(f"u{n}~{copy}" for n in range(4) for copy in (1, 2))
    assert summary.held_out == 1
    assert made["u0~1"].speaker == made["u1~1"].speaker == "ann~1"
    assert made["u0~2"].speaker == "ann~2"
    assert made["u3~1"].speaker == ""
    for utterance in made.values():
        assert utterance.text == "a b"
        assert sum(utterance.durations_s) == pytest.approx(utterance.seconds, abs=1e-3)
    heard = [soundfile.read(made[f"u{n}~1"].audio)[0] for n in (0, 1)]
    assert pitch(heard[0]) / 200 == pytest.approx(pitch(heard[1]) / 250, rel=0.02)


def test_voice_and_place_can_be_changed_alone(manifest: Path, tmp_path: Path):
    perturb_manifest(manifest, tmp_path / "voice", places=False, progress=False)
    perturb_manifest(manifest, tmp_path / "place", max_speed=1.0, progress=False)
    for kind in ("voice", "place"):
        copy = read_manifest(tmp_path / kind / "manifest.jsonl")[0]
        heard = soundfile.read(copy.audio)[0]
        moved, inside = pitch(heard) / 200, heard[400:-400]
        assert (abs(moved - 1) > 0.01) == (kind == "voice")
        assert (len(heard) == RATE) == (kind == "place")
        # a tone alone is as loud everywhere; in a room, before a microphone, it wavers or is noisy
        if kind == "voice":
            length = len(inside) // 400 * 400
            levels = np.square(inside[:length].reshape(-1, 400)).mean(1)
            assert levels.std() < 0.02 * levels.mean()
        else:
            assert not np.allclose(inside, tone(200)[400:-400], atol=1e-3)


def test_a_second_run_makes_nothing_again_and_the_same(manifest: Path, tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    perturb_manifest(manifest, first, progress=False)
    one, *others = sorted((first / "audio").iterdir())
    content, times = one.read_bytes(), [path.stat().st_mtime_ns for path in others]
    one.unlink()  # as if the run had been killed before it
    perturb_manifest(manifest, first, progress=False, workers=2)
    perturb_manifest(manifest, second, progress=False)
    assert one.read_bytes() == content == (second / "audio" / one.name).read_bytes()
    assert [path.stat().st_mtime_ns for path in others] == times


def test_other_settings_replace_all_copies_and_leave_what_is_not_theirs(
    manifest: Path, tmp_path: Path
):
    out = tmp_path / "out"
    perturb_manifest(manifest, out, progress=False)
    before = {path.name for path in (out / "audio").iterdir()}
    (out / "audio" / "mine.flac").touch()
    perturb_manifest(manifest, out, seed=1, progress=False)
    after = {path.name for path in (out / "audio").iterdir()}
    assert "mine.flac" in after
    assert not before & after
    assert {u.audio.name for u in read_manifest(out / "manifest.jsonl")} == after - {"mine.flac"}


def test_what_makes_no_sense_is_refused(manifest: Path, tmp_path: Path):
    unchanged = {"max_speed": 1.0, "places": False}
    numbers = ({"copies": 0}, {"copies": 1000}, {"max_speed": 0.5}, {"max_speed": 9.0})
    for options in (*numbers, unchanged):
        with pytest.raises(ConfigError):
            perturb_manifest(manifest, tmp_path / "out", progress=False, **options)
    rows = [json.loads(line) | {"split": "test"} for line in manifest.read_text().splitlines()]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(CorpusError, match="no utterance for training"):
        perturb_manifest(manifest, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
