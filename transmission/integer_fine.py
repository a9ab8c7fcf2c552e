"""The fine model in integers: a receiver generates the same fine codes on every machine.

Draws are integers too: a generator whose stream of bits is fixed (PCG64), and a sum of counts.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError, ModelMismatch
from ..tokenizer.codes import CodecIdentity, Codes
from .config import FineConfig
from .integer_arithmetic import EXP_BITS, FRACTION, Integers, exp2
from .integer_model import COUNT_BITS, PROFILE, IntegerFrameModel

_MAX_SHARPNESS = 64 << FRACTION  # temperatures below 1/64 are 1/64


class IntegerFineModel:
    """Generates the fine books of every frame from its base books and the frames before.

    Args:
        model: The integer twin of a `FineModel`.

    Attributes:
        codec: The codec whose codes the model knows.
        num_base_books: G, the books that it reads.
        num_fine_books: P, those that it generates.
        fingerprint: 16 hex digits over everything that its codes depend on.
    """

    numeric_profile = PROFILE

    def __init__(self, model: IntegerFrameModel) -> None:
        if not model.num_given:
            raise ModelMismatch(
                "A model that is given no books generates nothing; take a fine model, no entropy model."
            )
        self.network = model
        self.codec: CodecIdentity = model.config.codec_identity
        self.num_base_books, self.num_fine_books = model.num_given, model.num_levels
        self.fingerprint = model.fingerprint

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> IntegerFineModel:
        """Read a folder that `speechlm export` wrote of a fine model.

        Raises:
            CorruptWeights: If a file is missing or damaged, or of another profile.
            ConfigError: If the configuration is refused.
        """
        return cls(IntegerFrameModel.load(folder, FineConfig))

    def stream(
        self, *, temperature: float = 0.0, top_k: int = 30, seed: int = 0
    ) -> IntegerFineStream:
        """Begin to generate; see `IntegerFineStream`."""
        return IntegerFineStream(self.network, temperature, top_k, seed)

    def complete(
        self, codes: Codes, *, temperature: float = 0.0, top_k: int = 30, seed: int = 0
    ) -> Codes:
        """All books of codes that hold the base books.

        Args:
            codes: At least the base books; those above are not read.
            temperature, top_k, seed: As in `IntegerFineStream`; item i has the seed `seed` + i.

        Returns:
            The same codes with all K books; frames past an item's length are 0.

        Raises:
            ModelMismatch: If the codes are another codec's, or lack a base book.
        """
        self.codec.require(codes.identity, "These codes")
        batch, books, frames = codes.values.shape
        if books < self.num_base_books:
            raise ModelMismatch(
                f"The fine model reads {self.num_base_books} base books, the codes hold {books}; "
                "encode with more books, or take a fine model for fewer."
            )
        size = self.num_base_books + self.num_fine_books
        values = codes.values.new_zeros(batch, size, frames)
        for item, length in enumerate(codes.lengths.tolist()):
            base = codes.values[item, : self.num_base_books, :length]
            stream = self.stream(temperature=temperature, top_k=top_k, seed=seed + item)
            values[item, :, :length] = torch.cat((base, stream.push(base)))
        return Codes(values, codes.num_samples, codes.identity)


class IntegerFineStream:
    """Fine codes of a signal that arrives in pieces of any size; pieces or whole, the codes are the same.

    A frame's fine codes are there as soon as its base codes are: the stream looks at nothing ahead.

    Args:
        model: The network.
        temperature: Divides the logits; 0 takes the likeliest code, the first of equals.
        top_k: Likeliest codes that are drawn from.
        seed: Of the draws.

    Raises:
        ConfigError: If the temperature or the seed is negative, or `top_k` below 1.
    """

    def __init__(self, model: IntegerFrameModel, temperature: float, top_k: int, seed: int) -> None:
        if not 0 <= temperature or top_k < 1 or seed < 0:
            raise ConfigError(
                f"temperature is {temperature}, top_k {top_k} and seed {seed}; take at least 0, 1 "
                "and 0."
            )
        self._model, self._top_k = model, top_k
        self._sharpness = 0
        if temperature:
            self._sharpness = min(round((1 << FRACTION) / temperature), _MAX_SHARPNESS)
        self._bits = np.random.PCG64(seed)
        self._cache = model.new_cache()
        self._previous: list[int] | None = None

    def push(self, base: Tensor) -> Tensor:
        """Generate for the next frames.

        Args:
            base: int64 `[G, m]`, their base codes.

        Returns:
            int64 `[P, m]`.
        """
        found = np.zeros((self._model.num_levels, base.shape[1]), dtype=np.int64)
        for number, given in enumerate(base.T.tolist()):
            hidden = self._model.advance(self._cache, self._previous, given)
            codes: list[int] = []
            for level in range(self._model.num_levels):
                codes.append(self._choose(self._model.logits(hidden, level)))
                if level + 1 < self._model.num_levels:
                    hidden = self._model.tell(hidden, level, codes[-1])
            self._previous = codes
            found[:, number] = codes
        return torch.from_numpy(found)

    def _choose(self, logits: Integers) -> int:
        if not self._sharpness:
            return int(logits.argmax())
        # of equals the lower code, whatever a sort does with them elsewhere
        kept: NDArray[np.int64] = np.argsort(-logits, kind="stable")[: self._top_k]
        behind = (logits[kept[0]] - logits[kept]) * self._sharpness >> FRACTION
        sums = np.cumsum(exp2(behind) >> (EXP_BITS - COUNT_BITS))
        # 32 of the bits, times a sum below 2^37: within 64
        threshold = (int(self._bits.random_raw()) >> 32) * int(sums[-1]) >> 32
        return int(kept[np.searchsorted(sums, threshold, side="right")])
