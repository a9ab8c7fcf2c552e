"""Other throats, rooms and microphones for a recording: what training speech is varied by.

A synthesizer's voices share one studio. A model that heard nothing else takes a prompt's room for a part of
its voice that it never met, and stumbles over the words. The remedy is the one of speech recognition:
resampled speech (Ko et al. 2015, "Audio augmentation for speech recognition"), whose pitch and formants
move together as with a longer or shorter throat, and simulated rooms and noise (Ko et al. 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

_PREDELAY_S = (0.001, 0.008)
_NUM_BELLS = 3  # broad bumps of the frequency response, as of a cheap microphone
_BELL_OCTAVES = (0.4, 1.5)
_LOUD_SHARE = 0.8  # speech is as loud as its frames at this quantile; pauses do not count
_LEVEL_S = 0.02


@dataclass(frozen=True)
class Surroundings:
    """How one speaker sounds in one place, before one microphone.

    Attributes:
        speed: Factor of rate and pitch; above 1 is faster and higher.
        rt60_s: Seconds in which the room's echo falls by 60 dB, or None for no room.
        direct_db: Energy of the direct sound over that of the echo.
        low_hz: Corner below which the microphone falls by 12 dB an octave.
        high_hz: Corner above which it does, or None.
        bells: Bumps of its response: centre in Hz, width in octaves, gain in dB.
        snr_db: Level of the speech over a steady noise, or None for no noise.
        noise_slope: The noise's power falls with frequency to this power: 0 is white, 1 pink.
    """

    speed: float = 1.0
    rt60_s: float | None = None
    direct_db: float = 10.0
    low_hz: float = 20.0
    high_hz: float | None = None
    bells: tuple[tuple[float, float, float], ...] = ()
    snr_db: float | None = None
    noise_slope: float = 1.0

    @classmethod
    def draw(cls, chance: np.random.Generator, max_speed: float = 1.15) -> Surroundings:
        """Draw surroundings as recordings of volunteers have them: mild, and each part now and then.

        Args:
            chance: Where the numbers come from.
            max_speed: Speeds lie between this and its inverse, evenly in their logarithm.
        """
        has_room, has_noise, is_dull = chance.random(3) < (0.6, 0.6, 0.3)
        bells = tuple(
            (
                float(np.exp(chance.uniform(np.log(100), np.log(6000)))),
                float(chance.uniform(*_BELL_OCTAVES)),
                float(chance.uniform(-6, 6)),
            )
            for _ in range(_NUM_BELLS)
        )
        return cls(
            speed=float(np.exp(chance.uniform(-1, 1) * np.log(max_speed))),
            rt60_s=float(chance.uniform(0.1, 0.5)) if has_room else None,
            direct_db=float(chance.uniform(3, 18)),
            low_hz=float(np.exp(chance.uniform(np.log(30), np.log(180)))),
            high_hz=float(chance.uniform(3500, 7500)) if is_dull else None,
            bells=bells,
            snr_db=float(chance.uniform(15, 40)) if has_noise else None,
            noise_slope=float(chance.uniform(0, 1.5)),
        )

    def place(
        self, waveform: NDArray[np.float32], sampling_rate: int, chance: np.random.Generator
    ) -> NDArray[np.float32]:
        """The recording as it would sound there, as loud as before.

        The echo and the noise are drawn anew by each call: a speaker moves, and noise never repeats.

        Args:
            waveform: float32 `[L]`.
            sampling_rate: Its rate in Hz.
            chance: Where echo and noise come from.

        Returns:
            float32 `[round(L / speed)]`, within -1 to 1.
        """
        level = speech_level(waveform, sampling_rate)
        sound = waveform.astype(np.float64)
        if self.speed != 1.0:
            sound = soxr.resample(sound, sampling_rate * self.speed, sampling_rate)
        length = max(1, round(len(waveform) / self.speed))
        sound = np.pad(sound, (0, max(0, length - len(sound))))[:length]
        echo = self._echo(sampling_rate, chance)
        # an impulse response as long as the longest echo lets no end wrap around to the start
        size = _fast_length(length + len(echo))
        spectrum = np.fft.rfft(sound, size)
        if len(echo):
            spectrum *= 1 + np.fft.rfft(echo, size)
        frequencies = np.fft.rfftfreq(size, 1 / sampling_rate)
        sound = np.fft.irfft(spectrum * self.response(frequencies), size)[:length]
        placed = speech_level(sound, sampling_rate)
        sound *= level / placed if placed > 0 else 0.0
        if self.snr_db is not None:
            sound += self._noise(length, sampling_rate, chance) * level * 10 ** (-self.snr_db / 20)
        peak = float(np.abs(sound).max())
        return (sound / max(1.0, peak)).astype(np.float32)

    def response(self, frequencies: NDArray[np.floating]) -> NDArray[np.float64]:
        """Gain of the microphone at these frequencies in Hz, without delay."""
        octaves = np.log2(np.maximum(frequencies, 1.0))
        gain_db = np.zeros(len(octaves))
        for centre, width, db in self.bells:
            gain_db += db * np.exp(-0.5 * ((octaves - np.log2(centre)) / width) ** 2)
        gain = 10 ** (gain_db / 20)
        gain /= np.sqrt(1 + (self.low_hz / np.maximum(frequencies, 1e-3)) ** 4)
        if self.high_hz is not None:
            gain /= np.sqrt(1 + (frequencies / self.high_hz) ** 4)
        return gain

    def _echo(self, sampling_rate: int, chance: np.random.Generator) -> NDArray[np.float64]:
        """The room's response after the direct sound: decaying noise (Polack 1988)."""
        if self.rt60_s is None:
            return np.zeros(0)
        time = np.arange(round(self.rt60_s * sampling_rate)) / sampling_rate
        echo = chance.standard_normal(len(time)) * 10 ** (-3 * time / self.rt60_s)
        echo[time < chance.uniform(*_PREDELAY_S)] = 0.0
        energy = float(np.sum(echo**2))
        return echo * 10 ** (-self.direct_db / 20) / np.sqrt(energy) if energy > 0 else echo

    def _noise(
        self, length: int, sampling_rate: int, chance: np.random.Generator
    ) -> NDArray[np.float64]:
        """Steady noise `[length]` at unit power."""
        size = _fast_length(length)
        frequencies = np.fft.rfftfreq(size, 1 / sampling_rate)
        shape = np.maximum(frequencies, 50.0) ** (-self.noise_slope / 2)
        noise = np.fft.irfft(np.fft.rfft(chance.standard_normal(size)) * shape, size)[:length]
        return noise / np.sqrt(np.mean(noise**2))


def speech_level(waveform: NDArray[np.floating], sampling_rate: int) -> float:
    """Root mean square of the loud frames of `[L]`: the level of speech, however long it pauses."""
    frame = max(1, round(_LEVEL_S * sampling_rate))
    whole = len(waveform) // frame * frame
    frames = (waveform[:whole] if whole else waveform).reshape(-1, frame if whole else 1)
    power = np.sort(np.mean(frames.astype(np.float64) ** 2, axis=1))
    return float(np.sqrt(np.mean(power[int(_LOUD_SHARE * len(power)) :])))


def _fast_length(least: int) -> int:
    """The next length that a Fourier transform is fast at: a power of two, or three quarters of one."""
    power = 1 << (least - 1).bit_length()
    return power * 3 // 4 if power * 3 // 4 >= least else power
