"""Recordings that were there before, by hash or by ear; the first one stays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .fingerprint import MAX_DIFFERENCE, NUM_BYTES, differences
from .options import CleaningOptions
from .recording import Cleaned

_BUCKET_S = 0.1
_TOLERANCE = 0.05  # share of the active time by which margins, rates and encodings move it


class DuplicateIndex:
    """The sounds of all accepted recordings, asked in the order of the corpus.

    Exact duplicates cost a look-up; near ones a comparison with what lasts about as long.
    """

    def __init__(self) -> None:
        self._exact: dict[bytes, str] = {}
        self._buckets: dict[int, _Bucket] = {}

    def find(self, cleaned: Cleaned, options: CleaningOptions) -> tuple[str, bool] | None:
        """Id of an earlier recording and whether its samples are the same, as far as asked for."""
        if options.duplicates and (name := self.find_exact(cleaned)) is not None:
            return name, True
        if options.near_duplicates and (name := self.find_near(cleaned)) is not None:
            return name, False
        return None

    def find_exact(self, cleaned: Cleaned) -> str | None:
        """Id of the recording with the same samples, or None."""
        return self._exact.get(bytes.fromhex(cleaned.digest))

    def find_near(self, cleaned: Cleaned) -> str | None:
        """Id of the nearest recording that sounds the same, or None; needs a fingerprint."""
        slack = _TOLERANCE * cleaned.active_s + _BUCKET_S
        first = int((cleaned.active_s - slack) / _BUCKET_S)
        last = int((cleaned.active_s + slack) / _BUCKET_S)
        bits = np.frombuffer(bytes.fromhex(cleaned.sound), dtype=np.uint8)
        found: list[tuple[float, str]] = []
        for bucket in range(first, last + 1):
            if bucket in self._buckets:
                found.append(self._buckets[bucket].nearest(bits))
        best = min(found, default=(1.0, ""))
        return best[1] if best[0] < MAX_DIFFERENCE else None

    def add(self, name: str, cleaned: Cleaned) -> None:
        """Remember an accepted recording."""
        self._exact.setdefault(bytes.fromhex(cleaned.digest), name)
        if cleaned.sound:
            bucket = self._buckets.setdefault(int(cleaned.active_s / _BUCKET_S), _Bucket())
            bucket.add(name, np.frombuffer(bytes.fromhex(cleaned.sound), dtype=np.uint8))


class _Bucket:
    """Fingerprints of recordings of nearly one length, in an array that doubles as it fills."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._bits = np.zeros((8, NUM_BYTES), dtype=np.uint8)

    def add(self, name: str, bits: NDArray[np.uint8]) -> None:
        if len(self._names) == len(self._bits):
            self._bits = np.concatenate((self._bits, np.zeros_like(self._bits)))
        self._bits[len(self._names)] = bits
        self._names.append(name)

    def nearest(self, bits: NDArray[np.uint8]) -> tuple[float, str]:
        different = differences(bits, self._bits[: len(self._names)])
        place = int(different.argmin())
        return float(different[place]), self._names[place]
