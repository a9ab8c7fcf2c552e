"""The integer entropy model as a `SymbolModel`, which the range coder asks code by code."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelMismatch
from ..tokenizer.codes import CodecIdentity
from .config import EntropyConfig
from .frequencies import frequencies_of_counts
from .integer_arithmetic import Integers
from .integer_model import PROFILE, IntegerCache, IntegerFrameModel


@dataclass
class EntropyState:
    """Where in a chunk the coder stands.

    Attributes:
        cache: The frames before.
        previous: Codes of the last frame; None in the first one.
        codes: Codes already known of the current frame.
        hidden: State of the current frame; None until its first table is asked for.
        table: Frequencies of the next code; None until they are asked for.
    """

    cache: IntegerCache
    previous: list[int] | None = None
    codes: list[int] = field(default_factory=list)
    hidden: Integers | None = None
    table: NDArray[np.int64] | None = None


class IntegerEntropyModel:
    """Tables of the base books from an integer network; see `SymbolModel` for the methods.

    Args:
        model: The integer twin of an `EntropyModel`.

    Attributes:
        codec: The codec whose codes the model knows.
    """

    numeric_profile = PROFILE

    def __init__(self, model: IntegerFrameModel) -> None:
        if model.num_given:
            raise ModelMismatch(
                "A model that is given books codes no stream; take an entropy model, no fine model."
            )
        self._model = model
        self.codec: CodecIdentity = model.config.codec_identity
        self.num_books, self.codebook_size = model.num_levels, model.config.codebook_size
        self.fingerprint = model.fingerprint

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> IntegerEntropyModel:
        """Read a folder that `speechlm export` wrote of an entropy model.

        Raises:
            CorruptWeights: If a file is missing or damaged, or of another profile.
            ConfigError: If the configuration is refused.
        """
        return cls(IntegerFrameModel.load(folder, EntropyConfig))

    def start(self) -> EntropyState:
        """The state in front of a chunk."""
        return EntropyState(self._model.new_cache())

    def frequencies(self, state: EntropyState) -> NDArray[np.int64]:
        """Table of the next code, `[V]`; computed once, however often it is asked for."""
        if state.table is None:
            hidden = self._hidden(state)
            counts = self._model.counts(hidden, len(state.codes))
            state.table = frequencies_of_counts(counts)
        return state.table

    def push(self, state: EntropyState, symbol: int) -> None:
        """Take in a code."""
        hidden = self._hidden(state)
        level = len(state.codes)
        state.codes.append(symbol)
        state.table = None
        if level + 1 < self.num_books:
            state.hidden = self._model.tell(hidden, level, symbol)
        else:
            state.previous, state.codes, state.hidden = state.codes, [], None

    def _hidden(self, state: EntropyState) -> Integers:
        """The current frame's state. The step into it is taken late: no chunk pays for one it ends before."""
        if state.hidden is None:
            state.hidden = self._model.advance(state.cache, state.previous)
        return state.hidden
