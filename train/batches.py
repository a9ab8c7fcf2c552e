"""Batches bounded by duration, in an order that is a pure function of (seed, epoch)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError


@dataclass(frozen=True)
class Draw:
    """One item of one batch, with the seed of everything random that is done to it."""

    index: int
    seed: int


class DurationBatches:
    """Batch sampler: items of like length together, padded size bounded, batches shuffled.

    It has no `batch_size`; Accelerate shards it round-robin over ranks. An incomplete group of
    `multiple` batches at the end of an epoch is dropped, so that all ranks see the same number.

    Args:
        lengths: Length of each item, in any unit.
        max_total: Bound on (longest item) x (items) of a batch, in the same unit.
        seed: Of the order.
        multiple: Ranks times accumulation.
        bucket: Items sorted together by length; smaller is more random, larger pads less.

    Raises:
        ConfigError: If there is no item, or the longest does not fit into a batch.
    """

    drop_last = True

    def __init__(
        self,
        lengths: Sequence[int],
        max_total: int,
        seed: int,
        *,
        multiple: int = 1,
        bucket: int = 512,
    ) -> None:
        if not len(lengths):
            raise ConfigError("There is nothing to train on: the data holds no usable item.")
        if max(lengths) > max_total:
            raise ConfigError(
                f"An item of length {max(lengths)} does not fit into a batch of {max_total}; "
                "raise the batch size."
            )
        self.lengths, self.max_total, self.seed = np.asarray(lengths), max_total, seed
        self.multiple, self.bucket = multiple, bucket
        self.epoch = 0
        self.start = 0
        self._cached: tuple[int, list[list[Draw]]] | None = None
        self.batches(0)  # refuses an epoch that is too small now, not hours later

    def batches(self, epoch: int) -> list[list[Draw]]:
        """All batches of an epoch."""
        if self._cached is not None and self._cached[0] == epoch:
            return self._cached[1]
        shuffle = random.Random(self.seed * 1_000_003 + epoch)
        order = list(range(len(self.lengths)))
        shuffle.shuffle(order)
        found: list[list[int]] = []
        for first in range(0, len(order), self.bucket):
            current: list[int] = []
            for index in sorted(
                order[first : first + self.bucket], key=lambda i: int(self.lengths[i])
            ):
                if current and int(self.lengths[index]) * (len(current) + 1) > self.max_total:
                    found.append(current)
                    current = []
                current.append(index)
            if current:
                found.append(current)
        shuffle.shuffle(found)
        whole = len(found) - len(found) % self.multiple
        if whole == 0:
            raise ConfigError(
                f"An epoch of {len(found)} batches is too small for {self.multiple} ranks and accumulation."
            )
        drawn = [
            [Draw(index, shuffle.getrandbits(48)) for index in batch] for batch in found[:whole]
        ]
        self._cached = (epoch, drawn)
        return drawn

    def __len__(self) -> int:
        """Batches of the current epoch from `start` on."""
        return len(self.batches(self.epoch)) - self.start

    def __iter__(self) -> Iterator[list[Draw]]:
        """Batches of the current epoch from `start` on."""
        return iter(self.batches(self.epoch)[self.start :])
