"""Damage to a token dataset: which rows of which shard cannot be used, and why.

Bytes that were written well can still rot, be cut by a copy, or come from a stranger. What is found
here can be left out (`TokenShards`), or made again alone by tokenizing again into the same folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..errors import CorruptShard
from .output import counted
from .receipts import DatasetIndex, ShardReceipt, is_shard_name, read_index
from .shard_file import ShardFile

_NAMED_ROWS = 5


@dataclass(frozen=True)
class Damage:
    """What is wrong with one shard.

    Attributes:
        shard: File name.
        rows: Places of the rows that cannot be used, counted from 0 within the shard; all of them
            if the shard as a whole cannot.
        reason: A sentence that says what is wrong, where, and what to do.
    """

    shard: str
    rows: Sequence[int]
    reason: str


@dataclass(frozen=True)
class DatasetReport:
    """What `check_dataset` found.

    Attributes:
        folder: The dataset.
        shards: Shards in its index.
        rows: Utterances in its index.
        seconds: Their duration.
        damaged: A `Damage` for each shard with any.
        strays: Files named like shards that the index does not list; `datasets` would read them too.
    """

    folder: Path
    shards: int
    rows: int
    seconds: float
    damaged: tuple[Damage, ...]
    strays: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damaged and not self.strays

    def table(self) -> str:
        """A few lines for people, one for each shard with damage."""
        lost = sum(len(damage.rows) for damage in self.damaged)
        lines = [
            f"{counted(self.rows, 'utterance')}, {self.seconds / 3600:.3f} h in "
            f"{counted(self.shards, 'shard')}",
            f"damaged: {counted(len(self.damaged), 'shard')}, {counted(lost, 'utterance')}",
        ]
        lines += [damage.reason for damage in self.damaged]
        lines += [
            f"{self.folder / name} is not in the index; delete it, or tokenize again."
            for name in self.strays
        ]
        return "\n".join(lines)


def check_dataset(folder: str | os.PathLike[str], *, progress: bool = False) -> DatasetReport:
    """Check a finished token dataset to its last value: sizes, checksums, schema, codec, rows.

    Args:
        folder: Of the dataset.
        progress: Show a bar.

    Raises:
        CorpusError: If the folder is no finished dataset.
        CorruptShard: If its index cannot be read.
        ModelMismatch: If a shard was made by another codec than the index says.
    """
    name = Path(folder)
    index = read_index(name)
    found = []
    total = sum(receipt.rows for receipt in index.shards)
    with tqdm(total=total, desc="check", unit="utt", disable=not progress) as bar:
        for receipt in index.shards:
            found.append(find_damage(name, receipt, index)[1])
            bar.update(receipt.rows)
    listed = {receipt.name for receipt in index.shards}
    present = {path.name for path in name.iterdir() if is_shard_name(path.name)}
    return DatasetReport(
        folder=name,
        shards=len(index.shards),
        rows=sum(receipt.rows for receipt in index.shards),
        seconds=sum(receipt.num_samples for receipt in index.shards) / index.codec.sampling_rate,
        damaged=tuple(damage for damage in found if damage is not None),
        strays=tuple(sorted(present - listed)),
    )


def find_damage(
    folder: Path, receipt: ShardReceipt, index: DatasetIndex, verify: bool = True
) -> tuple[ShardFile | None, Damage | None]:
    """Check one shard to its last value.

    Args:
        folder: Of the dataset.
        receipt: What the index says of the shard.
        index: The dataset's index.
        verify: Compare the SHA-256 too.

    Returns:
        The shard, or None if it cannot be used as a whole, and what is wrong with it, if anything.

    Raises:
        ModelMismatch: If its tokens were made by another codec, which is no damage.
    """
    try:
        file = ShardFile(folder, receipt, index, verify)
    except CorruptShard as error:
        return None, Damage(receipt.name, range(receipt.rows), str(error))
    rows: list[int] = []
    reasons: list[str] = []
    first = num_frames = num_samples = 0
    for number in range(file.num_groups):
        count = file.rows_of(number)
        try:
            group = file.group(number)
        except CorruptShard as error:
            rows += range(first, first + count)
            reasons.append(f"rows {first} to {first + count - 1}: {error}")
        else:
            problems = sorted(group.problems.items())
            rows += [first + place for place, _ in problems]
            reasons += [f"row {first + place} has {problem}" for place, problem in problems]
            num_frames += group.num_frames
            num_samples += group.num_samples
        first += count
    counted = (first, num_frames, num_samples)
    if not rows and counted != (receipt.rows, receipt.num_frames, receipt.num_samples):
        reasons.append("its rows, frames and samples are not as many as the index says")
    if not reasons:
        return file, None
    more = f"; and {len(reasons) - _NAMED_ROWS} more" if len(reasons) > _NAMED_ROWS else ""
    said = "; ".join(reasons[:_NAMED_ROWS]) + more
    again = "tokenize again, which redoes only this shard."
    return file, Damage(receipt.name, tuple(rows), f"{file.path} is damaged ({said}); {again}")
