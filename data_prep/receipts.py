"""Receipts and the index: which shards of a dataset are finished, and what their bytes must be.

Each shard gets a receipt of its own, so that several writers never rewrite one file; the index that
joins them is written last and makes the folder a dataset.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import CorpusError, CorruptCodes, CorruptShard
from ..tokenizer.codes import CodecIdentity
from ..tokenizer.files import write_atomically

FORMAT_VERSION = 1
INDEX_NAME = "index.json"
MAX_JSON_BYTES = 64 << 20
_INDEXED = ("name", "sha256", "rows", "num_frames")


@dataclass(frozen=True)
class ShardReceipt:
    """What is known of a finished shard.

    Attributes:
        name: File name.
        sha256: Of the file's bytes.
        rows: Utterances in it.
        num_frames: Frames in it, over all rows.
        source: Fingerprint of everything that the shard is a function of.
        rejected: Ledger rows of the utterances that could not be tokenized.
    """

    name: str
    sha256: str
    rows: int
    num_frames: int
    source: str
    rejected: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True)
class DatasetIndex:
    """What a finished dataset consists of; its receipts here lack `source` and `rejected`."""

    codec: CodecIdentity
    num_books: int
    shards: tuple[ShardReceipt, ...]


def shard_name(number: int) -> str:
    """File name of a shard, counted from 0."""
    return f"shard-{number:05d}.parquet"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_receipt(folder: Path, number: int, receipt: ShardReceipt) -> None:
    """Write a receipt beside its shard, after the shard."""
    write_atomically(_receipt_path(folder, number), _json_bytes(asdict(receipt)))


def finished_shard(folder: Path, number: int, source: str) -> ShardReceipt | None:
    """The receipt of a shard that is whole and made from `source`, else None."""
    shard = folder / shard_name(number)
    try:
        receipt = _parse_receipt(_read_json(_receipt_path(folder, number)))
        whole = receipt.source == source and sha256_of(shard) == receipt.sha256
    except (CorruptShard, OSError):
        return None
    return receipt if whole else None


def write_index(
    folder: Path, receipts: Sequence[ShardReceipt], codec: CodecIdentity, num_books: int
) -> None:
    """Declare the dataset complete."""
    index = {
        "format": FORMAT_VERSION,
        "codec": asdict(codec),
        "num_books": num_books,
        "shards": [{key: getattr(receipt, key) for key in _INDEXED} for receipt in receipts],
    }
    write_atomically(folder / INDEX_NAME, _json_bytes(index))


def read_index(folder: Path) -> DatasetIndex:
    """Read the index of a finished dataset.

    Raises:
        CorpusError: If there is none.
        CorruptShard: If it is not what `write_index` writes.
    """
    path = folder / INDEX_NAME
    if not path.is_file():
        raise CorpusError(
            f"{folder} is no finished token dataset ({INDEX_NAME} is missing); "
            "run `speechlm tokenize` to its end."
        )
    raw = _read_json(path)
    try:
        if raw["format"] != FORMAT_VERSION:
            raise ValueError(f"it has format {raw['format']}, not {FORMAT_VERSION}")
        shards = tuple(
            _parse_receipt(entry | {"source": "", "rejected": []}) for entry in raw["shards"]
        )
        if [shard.name for shard in shards] != [shard_name(n) for n in range(len(shards))]:
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
    try:
        return CodecIdentity.from_json(json.dumps(raw))
    except CorruptCodes as error:
        raise CorruptShard(str(error)) from error


def _parse_receipt(raw: dict[str, Any]) -> ShardReceipt:
    try:
        receipt = ShardReceipt(**raw | {"rejected": tuple(raw["rejected"])})
        texts = (receipt.name, receipt.sha256, receipt.source)
        counts = (receipt.rows, receipt.num_frames)
        ledger = [value for row in receipt.rejected for value in (row["id"], row["reason"])]
    except (TypeError, KeyError) as error:
        raise CorruptShard(f"a receipt has other fields than expected: {error}") from error
    if not all(isinstance(v, str) for v in (*texts, *ledger)) or not all(
        type(n) is int for n in counts
    ):
        raise CorruptShard("a receipt has a field of the wrong type")
    return receipt


def _receipt_path(folder: Path, number: int) -> Path:
    return folder / shard_name(number).replace(".parquet", ".json")


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
