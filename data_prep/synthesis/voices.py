"""Voices that no person has: Kokoro's packs, and seeded mixes of two of them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError, CorpusError

STYLE_SIZE = 256
# The first letter of a pack is its accent; other letters are other languages
LANGUAGES = {"a": "en-us", "b": "en-gb"}
# The less heard of two packs must colour the voice, and not take its accent over
_SHARES = (0.2, 0.6)
_HOW_TO_GET = (
    "get them with `npm pack kokoro-js@1.2.1`, unpack the archive and give its folder "
    "package/voices"
)


@dataclass(frozen=True)
class MixedSpeaker:
    """A voice between two packs.

    Attributes:
        name: Such as v0s017: voice seed 0, speaker 17.
        pack: The pack whose accent the voice has.
        other: The pack that is mixed in.
        share: How much of the other one, from 0 to 1.
    """

    name: str
    pack: str
    other: str
    share: float

    @property
    def language(self) -> str:
        """The espeak code of the accent."""
        return LANGUAGES[self.pack[0]]


class VoicePacks:
    """Style vectors of voices, one for each length of a phoneme string.

    Args:
        packs: Float32 `[lengths, 256]` by name.
    """

    def __init__(self, packs: Mapping[str, NDArray[np.float32]]) -> None:
        self._packs = dict(sorted(packs.items()))

    @classmethod
    def load(cls, folder: Path) -> VoicePacks:
        """Read the `.bin` files of a folder.

        Raises:
            CorpusError: If there are none, one is cut, or none is English.
        """
        packs = {}
        for path in sorted(folder.glob("*.bin")):
            values = np.fromfile(path, dtype="<f4").astype(np.float32)
            if not len(values) or len(values) % STYLE_SIZE or not np.isfinite(values).all():
                raise CorpusError(
                    f"{path} is no voice pack of styles of {STYLE_SIZE} numbers, or was cut; "
                    f"{_HOW_TO_GET}."
                )
            packs[path.stem] = values.reshape(-1, STYLE_SIZE)
        if not any(name[0] in LANGUAGES for name in packs):
            raise CorpusError(f"{folder} holds no English voice packs (*.bin); {_HOW_TO_GET}.")
        return cls(packs)

    @property
    def names(self) -> list[str]:
        """All packs by name."""
        return list(self._packs)

    @property
    def english(self) -> list[str]:
        """The packs that may give a voice its accent."""
        return [name for name in self._packs if name[0] in LANGUAGES]

    @property
    def fingerprint(self) -> str:
        """A checksum of all names and numbers."""
        digest = hashlib.sha256()
        for name, values in self._packs.items():
            digest.update(f"{name}\0{values.shape}".encode() + values.tobytes())
        return digest.hexdigest()

    def style(self, speaker: MixedSpeaker, num_phonemes: int) -> NDArray[np.float32]:
        """The style `[256]` of a speaker for so many phonemes; the last row serves longer ones."""

        def row(name: str) -> NDArray[np.float32]:
            pack = self._packs[name]
            return pack[min(max(num_phonemes, 1), len(pack)) - 1]

        mixed = (1 - speaker.share) * row(speaker.pack) + speaker.share * row(speaker.other)
        return np.asarray(mixed, dtype=np.float32)


def mix_speakers(packs: VoicePacks, count: int, voice_seed: int) -> list[MixedSpeaker]:
    """Draw speakers: first every English pack as it is, then mixes.

    A speaker depends on its number, the voice seed and the packs' names alone, so that more of them
    leave the first ones as they are. Numbers whose draw is the voice of an earlier number, such as a
    pack mixed with itself, are passed over, lest a voice that is held out be trained on by another name.

    Raises:
        ConfigError: If no speaker is asked for, or the seed is negative.
    """
    if count < 1:
        raise ConfigError(f"{count} speakers cannot speak; give 1 or more.")
    if voice_seed < 0:
        raise ConfigError(f"The voice seed {voice_seed} is negative; give 0 or more.")
    mains, names = packs.english, packs.names
    # One stream for all speakers: the corpora that were made first drew them so, and the names
    # of those speakers must go on meaning the same voices
    chance = random.Random(1_000_003 * (voice_seed + 1))
    found: dict[tuple[str, str, float], MixedSpeaker] = {}
    number = 0
    while len(found) < count:
        pack, other = mains[number % len(mains)], chance.choice(names)
        share = 0.0 if number < len(mains) else round(chance.uniform(*_SHARES), 2)
        voice = (pack, pack, 0.0) if other == pack or not share else (pack, other, share)
        found.setdefault(voice, MixedSpeaker(f"v{voice_seed}s{number:03d}", pack, other, share))
        number += 1
        if number > 100 * count + 10_000:
            raise ConfigError(
                f"{len(names)} voice packs do not give {count} voices; ask for fewer speakers."
            )
    return list(found.values())
