"""What a link asks of its models: coders of base runs, coders of fine codes, and concealment.

Everything that crosses these seams is one packet's own: no method keeps a state from one call to the next, so
that a lost packet takes nothing else with it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class BlockCoder(Protocol):
    """Codes runs of consecutive frames of the first G books, each run on its own.

    Attributes:
        fingerprint: 16 hex digits over everything that the bytes depend on.
        num_books: G.
    """

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    @property
    def num_books(self) -> int: ...  # noqa: D102

    def encode(self, codes: IntArray) -> bytes:
        """Bytes of int64 `[G, n]`, n at least 1."""
        ...

    def decode(self, data: bytes, num_frames: int) -> IntArray:
        """Codes int64 `[G, n]` of what `encode` gave for n frames.

        Raises:
            CorruptStream: If the bytes are not those that `encode` writes for these codes.
        """
        ...


class FineCoder(Protocol):
    """Codes the books above the base, level by level, given base frames that travel in the same packet.

    Attributes:
        fingerprint: 16 hex digits over everything that the bytes depend on.
        num_given: G, base books.
        num_levels: P, the most levels; any leading `p` of them, 1 to P, can be coded.
    """

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    @property
    def num_given(self) -> int: ...  # noqa: D102

    @property
    def num_levels(self) -> int: ...  # noqa: D102

    def encode(self, fine: IntArray, base: IntArray, is_known: BoolArray) -> bytes:
        """Bytes of fine codes.

        Args:
            fine: int64 `[p, n]`, of the last n frames of `base`; p from 1 to P.
            base: int64 `[G, m]`, m at least n: a run of consecutive frames.
            is_known: bool `[m]`, the frames of the run that the receiver has; the others hold 0.
        """
        ...

    def decode(
        self, data: bytes, num_levels: int, num_frames: int, base: IntArray, is_known: BoolArray
    ) -> IntArray:
        """Codes int64 `[p, n]` of what `encode` gave for p levels, n frames, and the same base frames.

        Raises:
            CorruptStream: If the bytes are not those that `encode` writes for these codes.
        """
        ...


class Concealer(Protocol):
    """Guesses what the codec's decoder plays for a frame of which codes are missing.

    Attributes:
        past_frames, future_frames: The most frames before and behind the one to be played that it reads.
    """

    @property
    def past_frames(self) -> int: ...  # noqa: D102

    @property
    def future_frames(self) -> int: ...  # noqa: D102

    def latent(self, codes: Tensor, index: int) -> Tensor:
        """The latent to be played, float32 `[D]` with D the codec's latent size.

        Args:
            codes: int64 `[K, m]`, consecutive frames as they were received, never as they were guessed;
                -1 where a code was not. A frame may have its base and no, or only some, fine levels.
            index: The frame that is to be played, among these m.
        """
        ...
