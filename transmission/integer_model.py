"""`IntegerFrameModel`: a `FrameModel` in integers, one step a frame, the same on every machine.

The step is the only way through it: encoder and decoder, files and streams, all take it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .config import FrameModelConfig, WindowModelConfig
from .integer_arithmetic import Integers
from .integer_network import (
    COUNT_BITS,
    WEIGHTS,
    IntegerBlock,
    IntegerNetwork,
    Shapes,
    Tensors,
    block_shapes,
    head_shapes,
    linear_shapes,
)

__all__ = ["COUNT_BITS", "PROFILE", "WEIGHTS", "IntegerCache", "IntegerFrameModel", "shapes"]

PROFILE = "integer-1"


@dataclass
class IntegerCache:
    """Keys and values of the frames in the window, integers held in float64.

    Attributes:
        keys, values: `[L, H, 2 W, D/H]`; a frame is written at `end`, and when the end is reached the
            window moves back to the front.
        start, end: Where the frames of the window lie.
    """

    keys: NDArray[np.float64]
    values: NDArray[np.float64]
    start: int = 0
    end: int = 0


class _Block(IntegerBlock):
    """A block that steps from frame to frame."""

    def __init__(self, network: IntegerNetwork, layer: int) -> None:
        super().__init__(network, layer)
        self.layer = layer
        # oldest first, as the keys lie
        self.bias = self.bias[:, ::-1]

    def step(self, x: Integers, cache: IntegerCache) -> Integers:
        """Map a frame's `[1, D]` behind those in the cache."""
        query, key, value = self.split(x)
        keys, values = cache.keys[self.layer], cache.values[self.layer]
        keys[:, cache.end], values[:, cache.end] = key[:, 0], value[:, 0]
        keys, values = (held[:, cache.start : cache.end + 1] for held in (keys, values))
        return self.mix(x, query, keys, values, self.bias[:, None, -keys.shape[1] :])


class IntegerFrameModel(IntegerNetwork):
    """The network of the entropy model and of the fine model in the profile `integer-1`.

    Args:
        config: Of the model that it was made of.
        tensors: As `integer_quantize.py` makes them.

    Raises:
        CorruptWeights: If a tensor is missing, unknown, or not of its type, shape or range.
    """

    numeric_profile = PROFILE

    def __init__(self, config: FrameModelConfig, tensors: Tensors) -> None:
        super().__init__(config, tensors)
        self._start = self.tensors["start"].astype(np.int64)
        self._previous = self.linear("previous")
        self._given = self.linear("given") if self.num_given else None
        self._blocks = [_Block(self, layer) for layer in range(config.num_layers)]

    @staticmethod
    def expected(config: WindowModelConfig) -> Shapes:
        """Type and shape of every tensor."""
        return shapes(config)

    def new_cache(self) -> IntegerCache:
        """The memory before the first frame."""
        config = self.config
        size = config.hidden_size // config.num_heads
        shape = (config.num_layers, config.num_heads, 2 * config.window, size)
        return IntegerCache(np.zeros(shape), np.zeros(shape))

    def advance(
        self, cache: IntegerCache, previous: Sequence[int] | None, given: Sequence[int] = ()
    ) -> Integers:
        """Take the step to the next frame.

        Args:
            cache: Of the frames before; takes this one in.
            previous: P codes of the frame before; None at the first one.
            given: G codes of this frame.

        Returns:
            int64 `[D]`, the frame's state.
        """
        x = self._start
        if previous is not None:
            x = self._previous(self.vectors(previous, self.num_given))
        if self._given is not None:
            x = x + self._given(self.vectors(given, 0))
        if cache.end == cache.keys.shape[2]:
            kept = cache.end - cache.start
            for held in (cache.keys, cache.values):
                held[:, :, :kept] = held[:, :, cache.start : cache.end].copy()
            cache.start, cache.end = 0, kept
        cache.start = max(cache.start, cache.end + 1 - self.config.window)
        x = x[None]
        for block in self._blocks:
            x = block.step(x, cache)
        cache.end += 1
        return x[0]


def shapes(config: WindowModelConfig) -> Shapes:
    """Type and shape of every tensor of an integer model."""
    width, code = config.hidden_size, config.code_size
    given, levels = config.num_given, config.num_levels
    found: Shapes = {"start": (np.int32, (width,))}
    found |= linear_shapes("codes", (given + levels) * config.codebook_size, code)
    found |= linear_shapes("previous", width, levels * code)
    if given:
        found |= linear_shapes("given", width, given * code)
    for layer in range(config.num_layers):
        found |= block_shapes(config, layer, config.window)
    for level in range(levels):
        found |= head_shapes(config, level)
    return found
