"""A corpus of self-made signals: speech-like, aligned to the sample, the same for the same seed.

A made-up language whose words are spelled as they sound, spoken by voices that differ in pitch and
in the length of the vocal tract. It is to speech what a test chart is to a photograph: nobody needs
to understand it, but whoever learns it has learned pitch, formants, noise, silence and timing.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data_prep.manifest import write_json_lines
from ..slm.text import require_text
from ..tokenizer.audio import write_audio

SAMPLING_RATE = 16_000
LIST_NAME = "list.jsonl"

# Formants in Hz and level of each sounding symbol, after Peterson & Barney (1952) for the vowels.
_VOICED = {
    "a": ((730, 1090, 2440), 1.0),
    "e": ((530, 1840, 2480), 0.9),
    "i": ((290, 2250, 3000), 0.8),
    "o": ((500, 900, 2400), 0.9),
    "u": ((320, 800, 2240), 0.8),
    "m": ((250, 1100, 2200), 0.35),
    "n": ((280, 1500, 2600), 0.35),
}
# Centre and width in Hz of the noise's band, and its level.
_NOISE = {"s": ((5500.0, 1500.0), 0.12), "f": ((3500.0, 4000.0), 0.05)}
VOWELS, CONSONANTS, PAUSE = "aeiou", "mnsf", " "
_SECONDS = {**dict.fromkeys(VOWELS, 0.11), **dict.fromkeys(CONSONANTS, 0.08), PAUSE: 0.1}
_EDGE_SECONDS = 0.1  # silence before and after
_JITTER = 0.2  # durations vary by so much either way
_BANDWIDTH_HZ = 120.0
_HIGHEST_HARMONIC_HZ = 7_000.0
_RAMP_SECONDS = 0.01  # one sound fades into the next
_LEVEL = 0.25
_HUM = 2e-4  # a noise floor: recordings are never digitally silent


@dataclass(frozen=True)
class SyntheticVoice:
    """A speaker: a name, the mean pitch in Hz, and the factor on all formants."""

    name: str
    pitch_hz: float
    formant_scale: float


@dataclass(frozen=True)
class SyntheticUtterance:
    """One rendered text.

    Attributes:
        waveform: float32 `[L]`.
        num_samples: Samples of every symbol, both silences included; `len(text) + 2`, sum L.
    """

    waveform: NDArray[np.float32]
    num_samples: list[int]

    @property
    def durations_s(self) -> list[float]:
        """Seconds of every symbol."""
        return [count / SAMPLING_RATE for count in self.num_samples]


class SpelledPhonemes:
    """The front end of the made-up language: every letter is its own phoneme."""

    note: str | None = None

    def phonemize(self, text: str) -> str:
        """The text itself, without surrounding blanks."""
        return require_text(text)


def synthetic_voices(count: int) -> list[SyntheticVoice]:
    """Voices spread evenly over pitch; tract lengths follow the pitch loosely, as people's do."""
    pitch = np.geomspace(95, 230, count)
    # A fixed shuffle of the scales, so that pitch alone does not tell the voice.
    scale = np.linspace(0.88, 1.14, count) + 0.04 * np.cos(2.4 * np.arange(count))
    return [
        SyntheticVoice(f"voice-{number:02d}", float(pitch[number]), float(scale[number]))
        for number in range(count)
    ]


def draw_text(chance: random.Random, num_words: int = 5) -> str:
    """Words of four to six letters, consonants and vowels in turn."""
    return PAUSE.join(
        "".join(
            chance.choice(CONSONANTS if place % 2 == 0 else VOWELS)
            for place in range(chance.randint(4, 6))
        )
        for _ in range(num_words)
    )


def render(text: str, voice: SyntheticVoice, seed: int) -> SyntheticUtterance:
    """Speak a text of the made-up language.

    Voiced symbols are a sum of harmonics under three resonances (source and filter, Fant 1960), the
    others bands of white noise; neighbours are cross-faded over 10 ms around their exact boundary.

    Args:
        text: Letters of `VOWELS` and `CONSONANTS`, and `PAUSE`.
        voice: Whose pitch and formants.
        seed: Of the durations, the melody and the noise.
    """
    chance = np.random.default_rng(seed)
    seconds = [_EDGE_SECONDS, *(_SECONDS[symbol] for symbol in text), _EDGE_SECONDS]
    stretch = chance.uniform(1 - _JITTER, 1 + _JITTER, len(seconds))
    counts = np.rint(np.array(seconds) * stretch * SAMPLING_RATE).astype(int)
    ends = np.cumsum(counts)
    length = int(ends[-1])
    phase = _phase(voice.pitch_hz, length, chance)
    sound: NDArray[Any]
    noises = {symbol: _band_noise(length, *_NOISE[symbol][0], chance) for symbol in _NOISE}
    waveform = _HUM * chance.standard_normal(length)
    ramp = round(_RAMP_SECONDS * SAMPLING_RATE / 2)
    for symbol, start, end in zip(text, ends[:-2], ends[1:-1], strict=True):
        reach = slice(start - ramp, end + ramp)
        if symbol in _VOICED:
            sound = _resonate(symbol, voice, phase[reach])
        elif symbol in _NOISE:
            sound = _NOISE[symbol][1] * noises[symbol][reach]
        else:
            continue
        fade = np.minimum(1, (np.arange(len(sound)) + 0.5) / (2 * ramp))
        waveform[reach] += _LEVEL * sound * fade * fade[::-1]
    return SyntheticUtterance(waveform.astype(np.float32), counts.tolist())


def make_synthetic_corpus(
    folder: Path, *, num_voices: int = 25, texts_per_voice: int = 5, seed: int = 0
) -> Path:
    """Write WAV files and the JSON lines that list them with phonemes and durations.

    The voice in the middle is held out as `valid`, so that it lies between voices that are known.

    Args:
        folder: Where to; made if absent.
        num_voices: Speakers.
        texts_per_voice: Utterances of each, every one with a text of its own.
        seed: Of the texts and of everything in `render`.

    Returns:
        The list, as `prepare_corpus` takes it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)
    voices = synthetic_voices(num_voices)
    rows: list[dict[str, Any]] = []
    for voice in voices:
        for number in range(texts_per_voice):
            name, text = f"{voice.name}-{number:02d}", draw_text(chance)
            spoken = render(text, voice, chance.getrandbits(32))
            audio = f"{name}.wav"
            write_audio(folder / audio, torch.from_numpy(spoken.waveform), SAMPLING_RATE)
            rows.append(
                {
                    "id": name,
                    "audio": audio,
                    "text": text,
                    "speaker": voice.name,
                    "split": "valid" if voice is voices[num_voices // 2] else "train",
                    "phonemes": text,
                    "durations_s": spoken.durations_s,
                }
            )
    write_json_lines(folder / LIST_NAME, rows)
    return folder / LIST_NAME


def _phase(pitch_hz: float, length: int, chance: np.random.Generator) -> NDArray[np.float32]:
    """Phase of the first harmonic, within one turn: pitch falls a little and sways by a few percent."""
    position = np.linspace(0, 1, length)
    sway = np.sin(2 * np.pi * (chance.uniform(1, 2) * position + chance.uniform()))
    pitch = pitch_hz * (1.06 - 0.12 * position + 0.04 * sway)
    # Within one turn, single precision will do, whose cosine is several times as fast.
    return (2 * np.pi * np.mod(np.cumsum(pitch) / SAMPLING_RATE, 1)).astype(np.float32)


def _resonate(
    symbol: str, voice: SyntheticVoice, phase: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Harmonics `[L]`, each as loud as the resonances let it be."""
    formants, level = _VOICED[symbol]
    number = np.arange(1, int(_HIGHEST_HARMONIC_HZ / voice.pitch_hz) + 1, dtype=np.float32)
    frequency = number * voice.pitch_hz
    gain = sum(
        _BANDWIDTH_HZ / np.hypot(frequency - voice.formant_scale * formant, _BANDWIDTH_HZ)
        for formant in formants
    )
    amplitude = level * gain / np.sqrt(number)  # a glottal pulse falls off with frequency
    # Spread phases keep the peak low, as a real pulse does.
    offset = np.pi * number**2 / len(number)
    return amplitude.astype(np.float32) @ np.cos(number[:, None] * phase + offset[:, None])


def _band_noise(
    length: int, centre_hz: float, width_hz: float, chance: np.random.Generator
) -> NDArray[np.float64]:
    """White noise `[L]` through a bell over frequency, at unit power."""
    frequency = np.fft.rfftfreq(length, 1 / SAMPLING_RATE)
    bell = np.exp(-0.5 * ((frequency - centre_hz) / width_hz) ** 2)
    noise = np.fft.irfft(np.fft.rfft(chance.standard_normal(length)) * bell, length)
    return noise / np.sqrt(np.mean(noise**2))
