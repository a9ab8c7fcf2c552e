"""The fine model in integers: a receiver generates the same fine codes on every machine.

Draws are integers too: a generator whose stream of bits is fixed (PCG64), and a sum of counts. So is the
mean of a codec's entries, which is the better guess where codes are near noise, and better still where the
decoder hears the mean itself (docs/lmcodec.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError, ModelMismatch
from ..tokenizer.codes import CodecIdentity, Codes
from .config import FineConfig
from .integer_arithmetic import EXP_BITS, FRACTION, LIMIT, ONE, Integers, exp2
from .integer_model import COUNT_BITS, PROFILE, IntegerFrameModel

_MEAN_BITS = 16
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
        self,
        *,
        entries: Tensor | None = None,
        temperature: float = 0.0,
        top_k: int = 30,
        seed: int = 0,
    ) -> IntegerFineStream:
        """Begin to generate; see `IntegerFineStream`."""
        return IntegerFineStream(self.network, temperature, top_k, seed, entries)

    def complete(
        self,
        codes: Codes,
        *,
        entries: Tensor | None = None,
        temperature: float = 0.0,
        top_k: int = 30,
        seed: int = 0,
    ) -> Codes:
        """All books of codes that hold the base books.

        Args:
            codes: At least the base books; those above are not read.
            entries, temperature, top_k, seed: As in `IntegerFineStream`; item i has the seed `seed` + i.

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
            stream = self.stream(
                entries=entries, temperature=temperature, top_k=top_k, seed=seed + item
            )
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
        entries: float `[K, V, C]`, the codec's codebooks. With them nothing is drawn: each code is the one
            whose entry is nearest to the mean of all entries under the model, which errs least.

    Raises:
        ConfigError: If the temperature or the seed is negative, or `top_k` below 1.
        ModelMismatch: If the entries are not of the model's books and codes.
    """

    def __init__(
        self,
        model: IntegerFrameModel,
        temperature: float = 0.0,
        top_k: int = 30,
        seed: int = 0,
        entries: Tensor | None = None,
    ) -> None:
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
        self._base_entries: NDArray[np.float64] | None = None
        self._entries: NDArray[np.float64] | None = None
        if entries is not None:
            self._base_entries, self._entries = self._rounded(entries)
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
        for number, (codes, _) in enumerate(self._frames(base)):
            found[:, number] = codes
        return torch.from_numpy(found)

    def push_latents(self, base: Tensor) -> Tensor:
        """The mean sound of the next frames, given their base codes and all before them.

        The base books' entries, and of each generated book the mean of its entries under the model, with
        the books below it taken as `push` would have given them. What `CodecStream.pull_latents` plays.

        Args:
            base: int64 `[G, m]`, their base codes.

        Returns:
            float32 `[m, C]`, multiples of 2^-12: the same on every machine.

        Raises:
            ConfigError: If the stream was made without entries.
        """
        if self._entries is None or self._base_entries is None:
            raise ConfigError(
                "The mean sound of a frame is made of the codec's entries; make the stream with "
                "entries=codec.quantizer.codebooks."
            )
        sums = np.zeros((base.shape[1], self._entries.shape[2]), dtype=np.int64)
        for number, (_, means) in enumerate(self._frames(base)):
            known = [
                book[code] for book, code in zip(self._base_entries, base[:, number], strict=True)
            ]
            sums[number] = np.sum(known, axis=0).astype(np.int64) + np.sum(means, axis=0)
        return torch.from_numpy(sums / ONE).float()

    def _frames(self, base: Tensor) -> Iterator[tuple[list[int], list[Integers]]]:
        """Codes of each next frame, and with entries the mean of each book's, int64 `[C]`."""
        for given in base.T.tolist():
            hidden = self._model.advance(self._cache, self._previous, given)
            codes: list[int] = []
            means: list[Integers] = []
            for level in range(self._model.num_levels):
                logits = self._model.logits(hidden, level)
                if self._entries is None:
                    codes.append(self._choose(logits))
                else:
                    means.append(_mean(logits, self._entries[level]))
                    codes.append(_nearest(means[-1], self._entries[level]))
                if level + 1 < self._model.num_levels:
                    hidden = self._model.tell(hidden, level, codes[-1])
            self._previous = codes
            yield codes, means

    def _rounded(self, entries: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Fixed-point entries as integers in float64: base books `[G, V, C]`, others `[P, V, C]`."""
        model = self._model
        end, size = model.num_given + model.num_levels, model.config.codebook_size
        if entries.dim() != 3 or len(entries) < end or entries.shape[1] != size:
            raise ModelMismatch(
                f"The fine model is for {end} books of {size} entries, the codebooks are "
                f"{list(entries.shape)}; take those of the codec of the codes."
            )
        # a product with a power of two is exact, and so is what is rounded
        scaled = np.rint(entries[:end].detach().cpu().double().numpy() * ONE).clip(-LIMIT, LIMIT)
        return scaled[: model.num_given], scaled[model.num_given :]

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


def _mean(logits: Integers, entries: NDArray[np.float64]) -> Integers:
    """The mean entry, rounded down: int64 `[C]`."""
    counts = exp2(logits.max() - logits) >> (EXP_BITS - _MEAN_BITS)
    # 2^16 times 2^19 over 2^11 codes: far below 2^53
    mean: Integers = (counts.astype(np.float64) @ entries).astype(np.int64) // int(counts.sum())
    return mean


def _nearest(mean: Integers, entries: NDArray[np.float64]) -> int:
    """The code whose entry is nearest; of equals the lower one."""
    # 2^19 squared over the channels: far below 2^53
    return int(((entries * entries).sum(1) - 2 * (entries @ mean.astype(np.float64))).argmin())
