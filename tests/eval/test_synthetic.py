"""The made-up language is what its labels say: durations, pitch, pauses, noise, and splits."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from speechlm.data_prep.manifest import read_manifest
from speechlm.data_prep.prepare import prepare_corpus
from speechlm.errors import UnsupportedText
from speechlm.eval.synthetic import (
    CONSONANTS,
    PAUSE,
    SAMPLING_RATE,
    VOWELS,
    SpelledPhonemes,
    SyntheticUtterance,
    draw_text,
    make_synthetic_corpus,
    render,
    synthetic_voices,
)
from speechlm.slm.text import SymbolTable
from speechlm.tokenizer.audio import inspect_audio

VOICES = synthetic_voices(7)


def part(spoken: SyntheticUtterance, symbol: int) -> np.ndarray:
    """The inner samples of one symbol, without its fades."""
    start = sum(spoken.num_samples[:symbol])
    return spoken.waveform[start + 160 : start + spoken.num_samples[symbol] - 160]


def level_db(samples: np.ndarray) -> float:
    return 10 * float(np.log10(np.mean(samples.astype(np.float64) ** 2)))


def mean_frequency(samples: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    return float((np.fft.rfftfreq(len(samples), 1 / SAMPLING_RATE) * power).sum() / power.sum())


@pytest.mark.parametrize("voice", VOICES[::3], ids=lambda v: v.name)
def test_every_symbol_has_its_samples(voice) -> None:
    text = draw_text(random.Random(3))
    spoken = render(text, voice, seed=5)
    assert len(spoken.num_samples) == len(text) + 2
    assert sum(spoken.num_samples) == len(spoken.waveform)
    assert min(spoken.num_samples) > 2 * 320  # two frames of the tiny codec
    assert np.abs(spoken.waveform).max() < 1


@pytest.mark.parametrize("voice", VOICES, ids=lambda v: v.name)
def test_vowels_repeat_at_the_pitch_of_the_voice(voice) -> None:
    spoken = render("mamama", voice, seed=1)
    vowel = part(spoken, 2)
    correlation = np.correlate(vowel, vowel, "full")[len(vowel) - 1 :]
    low, high = int(SAMPLING_RATE / 300), int(SAMPLING_RATE / 70)
    period = low + int(correlation[low:high].argmax())
    assert SAMPLING_RATE / period == pytest.approx(voice.pitch_hz, rel=0.12)


def test_pauses_are_silent_and_hisses_are_high() -> None:
    spoken = render("sa fi", VOICES[2], seed=9)
    hiss, vowel, pause, breath = (part(spoken, place) for place in (1, 2, 3, 4))
    for silence in (pause, part(spoken, 0)[:-160], part(spoken, 6)[160:]):
        assert level_db(silence) < level_db(vowel) - 40
    assert mean_frequency(hiss) > 4500 > 2500 > mean_frequency(vowel)
    assert level_db(vowel) > level_db(hiss) > level_db(breath) > level_db(pause) + 20


def test_a_shorter_tract_moves_the_formants_up() -> None:
    low, high = VOICES[0], VOICES[-1]
    assert high.formant_scale > 1.1 * low.formant_scale
    spectra = [
        np.abs(np.fft.rfft(part(render("i", voice, seed=2), 1), 4096)) for voice in (low, high)
    ]
    above = slice(1500 * 4096 // SAMPLING_RATE, 2900 * 4096 // SAMPLING_RATE)
    second = [int(spectrum[above].argmax()) + above.start for spectrum in spectra]
    assert second[1] > 1.1 * second[0]


def test_the_same_seed_gives_the_same_sound() -> None:
    first, again = (render("numi safo", VOICES[1], seed=4) for _ in range(2))
    assert np.array_equal(first.waveform, again.waveform)
    other = render("numi safo", VOICES[1], seed=5)
    assert other.num_samples != first.num_samples


def test_the_corpus_passes_prepare_and_holds_one_voice_out(tmp_path: Path) -> None:
    listing = make_synthetic_corpus(tmp_path / "corpus", num_voices=3, texts_per_voice=2)
    summary = prepare_corpus(listing, tmp_path / "prepared", progress=False)
    assert not summary.rejected
    assert summary.speakers == {"train": 2, "valid": 1, "test": 0}
    assert summary.shared_speakers == 0
    found = read_manifest(summary.manifest)
    assert len({utterance.text for utterance in found}) == len(found) == 6
    for utterance in found:
        assert utterance.phonemes == utterance.text
        assert inspect_audio(utterance.audio).seconds == pytest.approx(sum(utterance.durations_s))


def test_the_shipped_table_knows_every_symbol() -> None:
    language = VOWELS + CONSONANTS + PAUSE
    assert SymbolTable().clean(language) == language
    assert SpelledPhonemes().phonemize(" mani sofu ") == "mani sofu"
    with pytest.raises(UnsupportedText):
        SpelledPhonemes().phonemize("  ")
