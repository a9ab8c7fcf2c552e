"""Receipts and the index: which shards of a dataset are finished, and what their bytes must be.

A shard holds rows of one split and is named by split and number, `train-00000.parquet`. Each gets a
receipt of its own in `receipts/`, so that several writers never rewrite one file; the index that
joins them is written last and makes the folder a dataset.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CorpusError, CorruptCodes, CorruptShard
from ..tokenizer.files import write_atomically
from .manifest import SPLITS

if TYPE_CHECKING:
    from ..tokenizer.codes import CodecIdentity

FORMAT_VERSION = 2
INDEX_NAME = "index.json"
LEDGER_NAME = "rejected.jsonl"
CARD_NAME = "README.md"
RECEIPTS = "receipts"
MAX_JSON_BYTES = 64 << 20
MAX_COUNT = 1 << 48
_INDEXED = ("name", "num_bytes", "sha256", "rows", "num_frames", "num_samples")
_SHARD = rf"({'|'.join(SPLITS)})-(\d{{5,}})"
_OURS = re.compile(rf"{_SHARD}\.(parquet|json)")
_OLD = re.compile(r"shard-\d{5}\.(parquet|json)")  # of format 1
_UNFINISHED = re.compile(
    rf"\.({_SHARD}\.(parquet|json)|{INDEX_NAME}|{LEDGER_NAME}|{CARD_NAME})\..+"
)


@dataclass(frozen=True)
class ShardReceipt:
    """What is known of a finished shard.

    Attributes:
        name: File name.
        num_bytes: Size of the file.
        sha256: Of the file's bytes.
        rows: Utterances in it.
        num_frames: Frames in it, over all rows.
        num_samples: Samples of the waveforms, over all rows.
        source: Fingerprint of everything that the shard is a function of.
        rejected: Ledger rows of the utterances that could not be tokenized.
    """

    name: str
    num_bytes: int
    sha256: str
    rows: int
    num_frames: int
    num_samples: int
    source: str
    rejected: tuple[dict[str, str], ...] = ()

    @property
    def split(self) -> str:
        """Split of all its rows."""
        return self.name.partition("-")[0]


@dataclass(frozen=True)
class DatasetIndex:
    """What a finished dataset consists of; its receipts here lack `source` and `rejected`."""

    codec: CodecIdentity
    num_books: int
    shards: tuple[ShardReceipt, ...]


def shard_name(split: str, number: int) -> str:
    """File name of a shard, counted from 0 within its split."""
    return f"{split}-{number:05d}.parquet"


def is_shard_name(name: str) -> bool:
    """Whether a file of this name would be taken for a shard."""
    return name.endswith(".parquet") and _OURS.fullmatch(name) is not None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_receipt(folder: Path, receipt: ShardReceipt) -> None:
    """Write a receipt, after its shard."""
    path = _receipt_path(folder, receipt.name)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, _json_bytes(asdict(receipt)))


def finished_shard(folder: Path, split: str, number: int, source: str) -> ShardReceipt | None:
    """The receipt of a shard that is whole and made from `source`, else None."""
    name = shard_name(split, number)
    try:
        receipt = _parse_receipt(_read_json(_receipt_path(folder, name)))
        whole = (
            receipt.name == name
            and receipt.source == source
            and (folder / name).stat().st_size == receipt.num_bytes
            and sha256_of(folder / name) == receipt.sha256
        )
    except (CorruptShard, OSError):
        return None
    return receipt if whole else None


def clear_leftovers(folder: Path, num_shards: Mapping[str, int]) -> None:
    """Remove what a killed run was writing, and shards that the dataset will not have.

    Args:
        folder: Of a dataset, finished or not.
        num_shards: How many shards each split is going to have.
    """
    receipts = folder / RECEIPTS
    for path in sorted([*folder.iterdir(), *(receipts.iterdir() if receipts.is_dir() else ())]):
        ours = _OURS.fullmatch(path.name)
        surplus = ours is not None and int(ours[2]) >= num_shards.get(ours[1], 0)
        if surplus or _OLD.fullmatch(path.name):
            (folder / INDEX_NAME).unlink(missing_ok=True)  # before the shards that it lists
            path.unlink()
        elif _UNFINISHED.fullmatch(path.name):
            path.unlink()


def index_bytes(receipts: Sequence[ShardReceipt], codec: CodecIdentity, num_books: int) -> bytes:
    """The index of a dataset, whose presence declares it complete."""
    index = {
        "format": FORMAT_VERSION,
        "codec": asdict(codec),
        "num_books": num_books,
        "shards": [{key: getattr(receipt, key) for key in _INDEXED} for receipt in receipts],
    }
    return _json_bytes(index)


def require_dataset(folder: Path) -> Path:
    """The folder of a finished dataset; what its index says is not looked at, and torch not needed.

    Raises:
        CorpusError: If there is none.
    """
    if not folder.is_dir():
        raise CorpusError(
            f"There is no token dataset {folder}; give the folder that `speechlm tokenize` wrote "
            "(a recipe names its own under `shards`: --set 'shards=[FOLDER]')."
        )
    if not (folder / INDEX_NAME).is_file():
        raise CorpusError(
            f"{folder} is no finished token dataset ({INDEX_NAME} is missing); "
            "run `speechlm tokenize` to its end."
        )
    return folder


def read_index(folder: Path) -> DatasetIndex:
    """Read the index of a finished dataset.

    Raises:
        CorpusError: If there is none.
        CorruptShard: If it is not what `write_index` writes.
    """
    path = require_dataset(folder) / INDEX_NAME
    raw = _read_json(path)
    if raw.get("format") != FORMAT_VERSION:
        raise CorruptShard(
            f"{path} has format {raw.get('format')!r}, this speechlm reads {FORMAT_VERSION}; "
            "tokenize again into the same folder."
        )
    try:
        shards = tuple(
            _parse_receipt(entry | {"source": "", "rejected": []}) for entry in raw["shards"]
        )
        counts = {split: sum(shard.split == split for shard in shards) for split in SPLITS}
        wanted = [shard_name(split, n) for split in SPLITS for n in range(counts[split])]
        if [shard.name for shard in shards] != wanted:
            raise ValueError("its shards are not in order")
        codec = identity_from(raw["codec"])
        books = raw["num_books"]
        if not isinstance(books, int) or not codec.min_codebooks <= books <= codec.num_codebooks:
            raise ValueError(f"it has {books} books")
    except (KeyError, TypeError, ValueError, CorruptShard) as error:
        raise CorruptShard(f"{path} is no index of shards ({error}); tokenize again.") from error
    return DatasetIndex(codec, books, shards)


def identity_from(raw: object) -> CodecIdentity:
    """The codec that a JSON value names.

    Raises:
        CorruptShard: If it names none.
    """
    from ..tokenizer.codes import CodecIdentity  # brings torch, which a first look does without

    try:
        return CodecIdentity.from_json(json.dumps(raw))
    except CorruptCodes as error:
        raise CorruptShard(str(error)) from error


def _parse_receipt(raw: dict[str, Any]) -> ShardReceipt:
    try:
        receipt = ShardReceipt(**raw | {"rejected": tuple(raw["rejected"])})
        texts = (receipt.name, receipt.sha256, receipt.source)
        counts = (receipt.num_bytes, receipt.rows, receipt.num_frames, receipt.num_samples)
        ledger = [value for row in receipt.rejected for value in (row["id"], row["reason"])]
    except (TypeError, KeyError) as error:
        raise CorruptShard(f"a receipt has other fields than expected: {error}") from error
    if not all(isinstance(v, str) for v in (*texts, *ledger)) or not all(
        type(n) is int and 0 <= n < MAX_COUNT for n in counts
    ):
        raise CorruptShard("a receipt has a field of the wrong type")
    return receipt


def _receipt_path(folder: Path, name: str) -> Path:
    return folder / RECEIPTS / name.replace(".parquet", ".json")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = json.loads(file.read(MAX_JSON_BYTES + 1))
    except (ValueError, RecursionError) as error:
        raise CorruptShard(f"{path} is not JSON ({error}); tokenize again.") from error
    if not isinstance(raw, dict):
        raise CorruptShard(f"{path} is not a JSON object; tokenize again.")
    return raw


def _json_bytes(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
