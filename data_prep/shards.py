"""Token datasets: a folder of shards, `train-00000.parquet`, `valid-00000.parquet`…, and its index.

Any tool that reads Parquet opens the shards; `TokenShards` checks them first. The format is told in
docs/shards.md.
"""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, CorpusError, CorruptShard
from ..tokenizer.codes import CodecIdentity
from .damage import Damage, find_damage
from .manifest import SPLITS
from .output import counted
from .receipts import INDEX_NAME, read_index, sha256_of
from .shard_file import ROWS_PER_GROUP, RowGroup, ShardFile, write_shard
from .token_rows import TokenRow, codes_of

__all__ = [
    "ROWS_PER_GROUP",
    "TokenRow",
    "TokenShards",
    "codes_of",
    "open_datasets",
    "write_shard",
]

CACHE_BYTES = 512 << 20


class TokenShards:
    """Map-style access to a finished token dataset.

    Opening it checks every shard's size, checksum, schema and codec and reads the small columns.
    Tokens are read a row group at a time; the latest groups stay in memory up to `CACHE_BYTES`.

    Args:
        folder: Written by `tokenize_manifest`.
        split: Only the rows of this split; without it, all rows: `train`, `valid`, `test`.
        codec: Refuse tokens of any other codec.
        verify: Check each shard's SHA-256; leave it out only for what this process just wrote.
        max_damaged_share: Share of the rows, 0 to 1, that may be lost to damage. Above 0, every value
            is checked at opening, and damaged shards and rows are left out, each shard with one
            warning; the rest keeps its order.

    Attributes:
        identity: The codec that made the tokens.
        num_books: K of the rows.
        lengths: int64 `[rows]`, frames of each.
        speakers: Speaker of each row, empty where unknown.
        damaged: What was left out, a `Damage` a shard.

    Raises:
        CorpusError: If the folder is no finished dataset, or the split is empty.
        CorruptShard: If a shard is missing, cut, altered, or not of this format, and more than
            `max_damaged_share` of the rows with it.
        ModelMismatch: If the tokens were made by another codec.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        split: str | None = None,
        codec: CodecIdentity | None = None,
        verify: bool = True,
        max_damaged_share: float = 0.0,
    ) -> None:
        self.folder = Path(folder)
        if split is not None and split not in SPLITS:
            raise CorpusError(f"The split {split!r} is none of {', '.join(SPLITS)}.")
        if not 0 <= max_damaged_share <= 1:
            raise ConfigError(f"max_damaged_share is {max_damaged_share}; give a share of 0 to 1.")
        index = read_index(self.folder)
        self.identity = index.codec
        self.num_books = index.num_books
        if codec is not None:
            codec.require(self.identity, f"The token dataset {self.folder}")
        receipts = [receipt for receipt in index.shards if split in (None, receipt.split)]
        damaged: list[Damage] = []
        self._files: list[ShardFile] = []
        self._cache: OrderedDict[tuple[int, int], RowGroup] = OrderedDict()
        self._cached_bytes = 0
        places = [np.zeros((0, 3), dtype=np.int64)]
        lengths = [np.zeros(0, dtype=np.int64)]
        speakers: list[str] = []
        for receipt in receipts:
            lost: Sequence[int] = ()
            if max_damaged_share:
                file, damage = find_damage(self.folder, receipt, index, verify)
                if damage is not None:
                    damaged.append(damage)
                    lost = damage.rows
                if file is None or len(lost) == receipt.rows:
                    continue
            else:
                file = ShardFile(self.folder, receipt, index, verify)
            self._files.append(file)
            found = _Small.of(file, frozenset(lost))
            places.append(np.insert(found.places, 0, len(self._files) - 1, axis=1))
            lengths.append(found.lengths)
            speakers += found.speakers
        self._places = np.concatenate(places)
        self.lengths: NDArray[np.int64] = np.concatenate(lengths)
        self.speakers = tuple(speakers)
        self.damaged = tuple(damaged)
        self._report_damage(sum(receipt.rows for receipt in receipts), max_damaged_share)
        if not len(self):
            where = f"in the split {split!r}" if split else "at all"
            raise CorpusError(f"The token dataset {self.folder} has no rows {where}.")

    def _report_damage(self, num_rows: int, max_damaged_share: float) -> None:
        lost = sum(len(damage.rows) for damage in self.damaged)
        if lost > max_damaged_share * num_rows:
            raise CorruptShard(
                f"{lost} of {num_rows} rows of {self.folder}, in "
                f"{counted(len(self.damaged), 'shard')}, are damaged, more than "
                f"{max_damaged_share:.1%} (the first: {self.damaged[0].reason})"
            )
        for damage in self.damaged:
            warnings.warn(f"Left out: {damage.reason}", stacklevel=3)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def fingerprint(self) -> str:
        """Hash of the dataset's content, for checkpoints; every split of a whole one has the same."""
        whole = sha256_of(self.folder / INDEX_NAME)
        if not self.damaged:
            return whole
        lost = [(damage.shard, list(damage.rows)) for damage in self.damaged]
        return hashlib.sha256(f"{whole} without {lost}".encode()).hexdigest()

    def row(self, index: int) -> TokenRow:
        """One utterance.

        Raises:
            CorruptShard: If the row's group cannot be read, or the row contradicts itself.
        """
        shard, group, offset = (int(value) for value in self._places[index])
        return self._group(shard, group).row(offset)

    def _group(self, shard: int, group: int) -> RowGroup:
        key = (shard, group)
        if key not in self._cache:
            loaded = self._files[shard].group(group)
            self._cache[key] = loaded
            self._cached_bytes += loaded.num_bytes
            while len(self._cache) > 1 and self._cached_bytes > CACHE_BYTES:
                self._cached_bytes -= self._cache.popitem(last=False)[1].num_bytes
        self._cache.move_to_end(key)
        return self._cache[key]


@dataclass(frozen=True)
class _Small:
    """The columns of a shard that are kept in memory: (group, offset), length and speaker."""

    places: NDArray[np.int64]
    lengths: NDArray[np.int64]
    speakers: list[str]

    @classmethod
    def of(cls, file: ShardFile, lost: frozenset[int]) -> _Small:
        places, lengths, speakers = [], [], []
        first = 0
        for group in range(file.num_groups):
            count = file.rows_of(group)
            kept = [offset for offset in range(count) if first + offset not in lost]
            if kept:
                names, frames = file.speakers_and_lengths(group)
                places += [(group, offset) for offset in kept]
                lengths.append(frames[kept])
                # One string a speaker, not one a row
                speakers += [sys.intern(names[offset]) for offset in kept]
            first += count
        return cls(
            np.array(places, dtype=np.int64).reshape(-1, 2),
            np.concatenate(lengths) if lengths else np.zeros(0, dtype=np.int64),
            speakers,
        )


def open_datasets(
    folders: Sequence[str | os.PathLike[str]],
    *,
    split: str | None = None,
    codec: CodecIdentity | None = None,
    max_damaged_share: float = 0.0,
) -> list[TokenShards]:
    """Open several datasets of one codec, in their order; one may be named twice, to be heard twice.

    A dataset without rows of the split is passed over, as long as another has some: copies made by
    `speechlm perturb` hold out nobody.

    Args:
        folders: As a recipe's `shards` names them.
        split: As of `TokenShards`.
        codec: That all must be of; without it, the first dataset's.
        max_damaged_share: As of `TokenShards`, in each.

    Raises:
        ConfigError: If no folder is named.
        CorpusError: As `TokenShards`, or if no dataset has rows of the split.
        CorruptShard, ModelMismatch: As `TokenShards`.
    """
    if not folders:
        raise ConfigError(
            "shards is empty; name at least one folder written by `speechlm tokenize`."
        )
    opened: list[TokenShards] = []
    for folder in folders:
        index = read_index(Path(folder))
        codec = codec or index.codec
        if len(folders) > 1 and split and all(r.split != split for r in index.shards):
            codec.require(index.codec, f"The token dataset {folder}")
            continue
        shards = TokenShards(folder, split=split, codec=codec, max_damaged_share=max_damaged_share)
        opened.append(shards)
    if not opened:
        named = ", ".join(map(str, folders))
        raise CorpusError(f"None of the token datasets {named} has rows in the split {split!r}.")
    return opened
