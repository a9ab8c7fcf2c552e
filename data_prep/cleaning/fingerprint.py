"""Near-duplicates: recordings that sound the same in another encoding, rate, level or margin.

A fingerprint is the sign of energy differences between neighbouring bands and times, after Haitsma
and Kalker, "A highly robust audio fingerprinting system" (ISMIR 2002), section 4, on a grid that
spans the active part of an utterance whatever its length. Two of the same sound differ in few bits,
two of different sounds in nearly half.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .bandwidth import power_spectra

NUM_TIMES, NUM_BANDS = 65, 17  # (65 - 1) * (17 - 1) = 1024 bits
NUM_BYTES = 2 * (NUM_TIMES - 1) * (NUM_BANDS - 1) // 8  # the bits, and which of them are heard
MAX_DIFFERENCE = 0.25
_BAND_HZ = (250.0, 3400.0)  # what a telephone keeps
_ACTIVE_POWER = 1e-3
_FLOOR = 1e-4  # below it lies the room, which another encoding changes
_LEAST_COMMON = 256


def fingerprint(samples: NDArray[np.float32], sampling_rate: int) -> tuple[float, bytes]:
    """Active seconds of `[L]`, from the first to the last loud frame, and 256 bytes of its sound."""
    power = power_spectra(samples, sampling_rate)
    energy = power.sum(axis=1)
    loud = np.flatnonzero(energy >= np.quantile(energy, 0.95) * _ACTIVE_POWER)
    power = power[loud[0] : loud[-1] + 1]
    frequencies = np.linspace(0, sampling_rate / 2, power.shape[1])
    edges = np.searchsorted(frequencies, np.geomspace(*_BAND_HZ, NUM_BANDS + 1))
    bands = np.stack([power[:, a : max(b, a + 1)].sum(axis=1) for a, b in pairwise(edges)], axis=1)
    # Cell averages of any number of frames, by differences of the running sum
    sums = np.concatenate((np.zeros((1, NUM_BANDS)), np.cumsum(bands, axis=0, dtype=np.float64)))
    places = np.linspace(0, len(bands), NUM_TIMES + 1)
    cells = np.diff([np.interp(places, np.arange(len(sums)), sums[:, b]) for b in range(NUM_BANDS)])
    floor = cells.max() * _FLOOR
    levels = np.log(np.maximum(cells, floor))  # [NUM_BANDS, NUM_TIMES]
    bits = np.diff(np.diff(levels, axis=0), axis=1) > 0
    heard = cells > floor
    heard = heard[1:] & heard[:-1]
    heard = heard[:, 1:] & heard[:, :-1]
    hop = (power.shape[1] - 1) / sampling_rate
    return len(bands) * hop, np.packbits(np.stack([bits & heard, heard])).tobytes()


def differences(one: NDArray[np.uint8], many: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Share of the bits that differ between a fingerprint `[256]` and each of `[N, 256]`.

    Only what is heard in both counts, for pauses are alike; where that is little, the share is 1.
    """
    half = NUM_BYTES // 2
    both = many[:, half:] & one[half:]
    common = np.bitwise_count(both).sum(axis=1)
    differ = np.bitwise_count((many[:, :half] ^ one[:half]) & both).sum(axis=1)
    return np.where(common >= _LEAST_COMMON, differ / np.maximum(common, 1), 1.0)
