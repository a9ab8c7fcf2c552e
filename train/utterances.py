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
from ..errors import ConfigError

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
                names.append(_name_hash(row.id))
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

    def name_hash(self, number: int) -> bytes:
        """Eight bytes that stand for the name of an utterance."""
        return self._names[number].tobytes()

    def named(self) -> dict[bytes, int]:
        """The number of each utterance by the hash of its name; of the last one where several share it."""
        return {self.name_hash(number): number for number in range(len(self))}


class Copies:
    """Recordings of the same utterances in other places, frame for frame: `ann-1~1` of `ann-1`.

    Args:
        datasets: Tokens of what `speechlm perturb` wrote with `--max-speed 1`.
        originals: The utterances; copies of others are passed over.

    Raises:
        ConfigError: If none is a copy of an utterance, or one is longer or shorter.
    """

    def __init__(self, datasets: Sequence[TokenShards], originals: Utterances) -> None:
        number_of = originals.named()
        found: list[int] = []

        def is_copy(row: TokenRow) -> bool:
            name, tilde, _ = row.id.rpartition("~")
            number = number_of.get(_name_hash(name)) if tilde else None
            if number is None:
                return False
            frames = int(originals.num_frames[number])
            if row.num_frames != frames:
                raise ConfigError(
                    f"{row.id} has {row.num_frames} frames and {name} {frames}: a copy of a prompt "
                    "must be as long as the recording; make copies with `perturb --max-speed 1`."
                )
            found.append(number)
            return True

        self._rows = Utterances(datasets, is_copy)
        if not found:
            folders = ", ".join(str(dataset.folder) for dataset in datasets)
            raise ConfigError(
                f"No row of {folders} is a copy of an utterance that is trained on; "
                "name the tokens of what `speechlm perturb --max-speed 1` made of them."
            )
        self._of: dict[bytes, list[int]] = {}
        for copy, number in enumerate(found):
            self._of.setdefault(originals.name_hash(number), []).append(copy)
        self._originals = originals

    def of(self, number: int) -> Sequence[int]:
        """Numbers of the copies of the utterance `number`."""
        return self._of.get(self._originals.name_hash(number), ())

    def __getitem__(self, copy: int) -> TokenRow:
        """Read a copy from its shard.

        Raises:
            CorruptShard: If it cannot be read.
        """
        return self._rows[copy]


def _name_hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()
