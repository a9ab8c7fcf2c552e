"""`IntegerMaskedModel`: the fine path of a `MaskedModel` in integers, a whole packet at once.

Of the trained model it holds what fine codes are coded with: base codes in, distributions of the fine
books out. Heads of the base books, which only concealment asks, stay in floating point.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .config import MaskedConfig, WindowModelConfig
from .integer_arithmetic import STREAM_LIMIT, Integers, limited, rms_norm
from .integer_network import (
    IntegerBlock,
    IntegerNetwork,
    Shapes,
    Tensors,
    block_shapes,
    head_shapes,
    linear_shapes,
)

MASKED_PROFILE = "integer-masked-1"


class IntegerMaskedModel(IntegerNetwork):
    """The fine path of the masked model in the profile `integer-masked-1`.

    Args:
        config: Of the model that it was made of.
        tensors: As `integer_quantize.py` makes them.

    Raises:
        CorruptWeights: If a tensor is missing, unknown, or not of its type, shape or range.
    """

    numeric_profile = MASKED_PROFILE

    def __init__(self, config: MaskedConfig, tensors: Tensors) -> None:
        super().__init__(config, tensors)
        # what the fine books, all unknown, put into every frame
        self._start = self.tensors["start"].astype(np.int64)
        self._unknown = self.tensors["unknown"].astype(np.int64)
        self._given = self.linear("given")
        self._blocks = [IntegerBlock(self, layer) for layer in range(config.num_layers)]

    @staticmethod
    def expected(config: WindowModelConfig) -> Shapes:
        """Type and shape of every tensor."""
        width, code, given = config.hidden_size, config.code_size, config.num_given
        books = given + config.num_levels
        found: Shapes = {"start": (np.int32, (width,)), "unknown": (np.int32, (given * code,))}
        found |= linear_shapes("codes", books * config.codebook_size, code)
        found |= linear_shapes("given", width, given * code)
        for layer in range(config.num_layers):
            found |= block_shapes(config, layer, 2 * config.window - 1)
        for level in range(config.num_levels):
            found |= head_shapes(config, level)
        return found

    def states(self, base: Integers, is_known: NDArray[np.bool_]) -> Integers:
        """States of the frames of a packet, for `logits` of level 0.

        Args:
            base: int64 `[G, m]`, at most a window of frames.
            is_known: bool `[m]`; the codes of other frames are not read.

        Returns:
            int64 `[m, D]`.
        """
        vectors = self.vectors(np.where(is_known, base, 0).T, 0)
        vectors = np.where(is_known[:, None], vectors, self._unknown)
        x = limited(self._given(vectors) + self._start, STREAM_LIMIT)
        index = np.arange(len(x))
        ages = index[:, None] - index + self.config.window - 1
        for block in self._blocks:
            query, key, value = block.split(x)
            seen = key.astype(np.float64), value.astype(np.float64)
            x = block.mix(x, query, *seen, block.bias[:, ages])
        return rms_norm(x)
