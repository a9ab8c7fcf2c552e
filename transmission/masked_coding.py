"""`MaskedFineCoder`: fine codes to bytes and back, each given base frames that travel in the same packet.

Nothing of another packet is asked for, so fine codes decode whenever their packet comes, whatever else was
lost. Level after level is coded, all frames of one before the next: a level's tables are made at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, CorruptStream
from ..tokenizer.codes import CodecIdentity
from .config import MaskedConfig
from .frequencies import cumulative, frequencies_of_counts
from .integer_arithmetic import Integers
from .integer_masked import IntegerMaskedModel
from .range_coder import RangeDecoder, RangeEncoder

_TOTAL_BITS = 20  # of a table; its floor of 1 for each of 1024 codes then costs 0.0014 bits a code

# Codes the symbol of a table's row: given its level and frame, says which it is.
_Step = Callable[[Integers, int, int], int]


class MaskedFineCoder:
    """A `FineCoder` (`link/protocols.py`) of an integer masked model.

    Blocks carry no checksum of their own: packets do.

    Args:
        model: The integer twin of a `MaskedModel`.

    Attributes:
        codec: The codec whose codes the model knows.
        fingerprint: 16 hex digits over everything that the bytes depend on.
        num_given: G, base books.
        num_levels: P, fine levels at most.
    """

    def __init__(self, model: IntegerMaskedModel) -> None:
        self._model = model
        self.codec: CodecIdentity = model.config.codec_identity
        self.fingerprint = model.fingerprint
        self.num_given, self.num_levels = model.num_given, model.num_levels

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> MaskedFineCoder:
        """Read a folder that `speechlm export` wrote of a masked model.

        Raises:
            CorruptWeights: If a file is missing or damaged, or of another profile.
            ConfigError: If the configuration is refused.
        """
        return cls(IntegerMaskedModel.load(folder, MaskedConfig))

    def encode(self, fine: Integers, base: Integers, is_known: NDArray[np.bool_]) -> bytes:
        """Bytes of the fine codes of a packet's last frames.

        Args:
            fine: int64 `[p, n]`, the first p fine levels of the last n frames of `base`.
            base: int64 `[G, m]`, consecutive frames, m at least n.
            is_known: bool `[m]`, the frames whose base codes the packet carries.

        Raises:
            ConfigError: If the shapes do not fit the model, or a code is none.
        """
        levels, frames = fine.shape
        if problem := self._problem(levels, frames, base, is_known) or self._foreign(fine):
            raise ConfigError(f"Fine codes cannot be coded: {problem}.")
        encoder = RangeEncoder()

        def step(table: Integers, level: int, frame: int) -> int:
            symbol = int(fine[level, frame])
            _add(encoder, table, symbol)
            return symbol

        self._walk(step, levels, frames, base, is_known)
        return encoder.finish()

    def decode(
        self,
        data: bytes,
        num_levels: int,
        num_frames: int,
        base: Integers,
        is_known: NDArray[np.bool_],
    ) -> Integers:
        """Fine codes `[p, n]` of what `encode` wrote for the same base frames.

        The codes are coded again, which must give the same bytes.

        Args:
            data: The bytes.
            num_levels, num_frames: p and n.
            base, is_known: As they were encoded with.

        Raises:
            CorruptStream: If the bytes are not those that the encoder writes for these codes, or the
                numbers do not fit the model.
        """
        if problem := self._problem(num_levels, num_frames, base, is_known):
            raise CorruptStream(f"A block of fine codes cannot be decoded: {problem}.")
        decoder, again = RangeDecoder(data), RangeEncoder()

        def step(table: Integers, level: int, frame: int) -> int:
            symbol = decoder.decode(table, _TOTAL_BITS)
            _add(again, table, symbol)
            return symbol

        codes = self._walk(step, num_levels, num_frames, base, is_known)
        if again.finish() != data:
            raise CorruptStream(
                "A block of fine codes is not what an encoder with this model writes; it was damaged, "
                "or made with other base codes."
            )
        return codes

    def _walk(
        self,
        step: _Step,
        num_levels: int,
        num_frames: int,
        base: Integers,
        is_known: NDArray[np.bool_],
    ) -> Integers:
        """Take sender or receiver through the codes in their order; `[p, n]`."""
        states = self._model.states(base, is_known)[-num_frames:]
        codes = np.zeros((num_levels, num_frames), dtype=np.int64)
        for level in range(num_levels):
            tables = frequencies_of_counts(self._model.counts(states, level), _TOTAL_BITS)
            for frame, table in enumerate(tables):
                codes[level, frame] = step(cumulative(table), level, frame)
            if level + 1 < num_levels:
                states = self._model.tell(states, level, codes[level])
        return codes

    def _problem(
        self, num_levels: int, num_frames: int, base: Integers, is_known: NDArray[np.bool_]
    ) -> str:
        """What of a call does not fit the model; empty if all does."""
        window = self._model.config.window
        if base.ndim != 2 or len(base) != self.num_given or is_known.shape != base.shape[1:]:
            return (
                f"the base codes are {list(base.shape)}, of which {list(is_known.shape)} are known"
            )
        if not 1 <= num_frames <= base.shape[1] <= window:
            return f"{num_frames} of {base.shape[1]} frames are coded, a look takes in {window}"
        if not 1 <= num_levels <= self.num_levels:
            return f"{num_levels} levels are asked for, the model knows {self.num_levels}"
        return self._foreign(base)

    def _foreign(self, codes: Integers) -> str:
        size = self._model.config.codebook_size
        is_code = not codes.size or 0 <= codes.min() <= codes.max() < size
        return "" if is_code else f"a code is not in 0 to {size - 1}"


def _add(encoder: RangeEncoder, table: Integers, symbol: int) -> None:
    start = int(table[symbol])
    encoder.encode(start, int(table[symbol + 1]) - start, _TOTAL_BITS)
