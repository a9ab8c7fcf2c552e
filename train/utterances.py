"""Utterances of token shards, known by number and read when they are needed.

In memory is what batches and prompts are drawn by: a place, a length, a speaker and a hash of the name,
some twenty bytes an utterance. Codes and text stay in the shards, whose cache is bounded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ..data_prep.shards import TokenRow, TokenShards

Indices = NDArray[np.int64]


class Utterances(Sequence[TokenRow]):
    """The rows of some datasets that a task can use, in their order.

    Every row is read once, to ask `is_usable`, and not kept.

    Args:
        datasets: Where rows are read from.
        is_usable: Whether a row takes part.

    Attributes:
        num_frames: int64 `[rows]`, length of each.
    """

    def __init__(
        self, datasets: Sequence[TokenShards], is_usable: Callable[[TokenRow], bool]
    ) -> None:
        self._datasets = datasets
        places: list[tuple[int, int]] = []
        frames: list[int] = []
        names: list[bytes] = []
        of_speaker: dict[str, list[int]] = {}
        for number, dataset in enumerate(datasets):
            for index in range(len(dataset)):
                row = dataset.row(index)
                if not is_usable(row):
                    continue
                if row.speaker:
                    of_speaker.setdefault(row.speaker, []).append(len(places))
                places.append((number, index))
                frames.append(row.num_frames)
                names.append(hashlib.blake2b(row.id.encode(), digest_size=8).digest())
        self._places = np.array(places, dtype=np.int64).reshape(-1, 2)
        self._names = np.frombuffer(b"".join(names), dtype=np.int64)
        self._of_speaker = {name: np.array(found) for name, found in of_speaker.items()}
        self.num_frames: Indices = np.array(frames, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> TokenRow: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[TokenRow]: ...

    def __getitem__(self, index: int | slice) -> TokenRow | Sequence[TokenRow]:
        """Read a row from its shard, or several.

        Raises:
            CorruptShard: If it cannot be read.
        """
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        dataset, row = (int(value) for value in self._places[index])
        return self._datasets[dataset].row(row)

    def others_of(self, index: int, speaker: str) -> Indices:
        """Numbers of a speaker's utterances that do not have the name of number `index`; int64 `[N]`."""
        members = self._of_speaker.get(speaker)
        if members is None:
            return np.zeros(0, dtype=np.int64)
        return members[self._names[members] != self._names[index]]
