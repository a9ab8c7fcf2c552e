"""A manifest -> token shards: resumable at any moment, and always to the same bytes.

Which utterances make a shard, and which of them share a batch, follows from the manifest and the
options alone. A shard is skipped if its receipt names the same source and its bytes have the
receipt's checksum; anything else is made again. A killed run ends like any other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import ConfigError, CorpusError, UnsupportedAudio
from ..tokenizer.audio import read_audio
from ..tokenizer.codes import CodecIdentity, Codes
from .card import finish_dataset
from .durations import durations_to_frames
from .manifest import SPLITS, Utterance, read_manifest, storable, write_json_lines
from .receipts import (
    FORMAT_VERSION,
    INDEX_NAME,
    LEDGER_NAME,
    ShardReceipt,
    clear_leftovers,
    finished_shard,
)
from .shards import TokenRow, write_shard

MAX_REJECTED_SHARE = 0.05


class WaveformTokenizer(Protocol):
    """What tokenizing asks of a codec; `tokenizer.codec.CodecModel` is one."""

    @property
    def identity(self) -> CodecIdentity:
        """What its tokens will say they are."""
        ...

    def tokenize(self, waveforms: Sequence[Tensor], num_books: int | None = None) -> Codes:
        """Tokens of float32 `[L_i]` waveforms, each as if it were alone."""
        ...


@dataclass(frozen=True)
class TokenizeSummary:
    """What `tokenize_manifest` did.

    Attributes:
        folder: The dataset.
        shards: Shards in it.
        skipped: How many of them were whole already.
        rows: Utterances in it.
        num_frames: Frames in it.
        seconds: Their duration.
        rejected: Utterances that could not be read, listed in `rejected.jsonl`.
        wall_seconds: Time that the run took.
    """

    folder: Path
    shards: int
    skipped: int
    rows: int
    num_frames: int
    seconds: float
    rejected: int
    wall_seconds: float

    def table(self) -> str:
        """A few lines for people."""
        lines = [
            f"{self.rows} utterances, {self.seconds / 3600:.3f} h, {self.num_frames} frames "
            f"in {self.shards} shards ({self.skipped} were whole already)",
            f"rejected {self.rejected}" + ("; see rejected.jsonl" if self.rejected else ""),
            f"took {self.wall_seconds:.1f} s",
        ]
        return "\n".join(lines)


def tokenize_manifest(
    manifest: Path,
    out: Path,
    *,
    codec: WaveformTokenizer,
    num_books: int | None = None,
    rows_per_shard: int = 1000,
    batch_seconds: float = 120.0,
    progress: bool = True,
) -> TokenizeSummary:
    """Encode every utterance of a manifest into token shards.

    Run again after an interruption, or after the manifest grew, it does only what is missing.

    Args:
        manifest: Written by `prepare_corpus`.
        out: Folder of the dataset.
        codec: Makes the tokens.
        num_books: Books to keep, from the codec's masked count to all of them (the default).
        rows_per_shard: Utterances a shard.
        batch_seconds: Padded audio that is encoded at once.
        progress: Show a bar.

    Raises:
        ConfigError: If an option makes no sense.
        CorpusError: If the manifest cannot be read, or more than 5 % of its recordings cannot.
    """
    begun = perf_counter()
    identity = codec.identity
    books = identity.num_codebooks if num_books is None else num_books
    if not identity.min_codebooks <= books <= identity.num_codebooks:
        raise ConfigError(
            f"{books} books asked for; codec {identity.codec_id} gives "
            f"{identity.min_codebooks} to {identity.num_codebooks}."
        )
    if rows_per_shard < 1 or not batch_seconds > 0:
        raise ConfigError("rows_per_shard and batch_seconds must be above zero.")
    utterances = read_manifest(manifest)
    parts = shard_parts(utterances, rows_per_shard)
    out.mkdir(parents=True, exist_ok=True)
    clear_leftovers(out, {split: sum(key[0] == split for key in parts) for split in SPLITS})
    receipts: list[ShardReceipt] = []
    skipped = 0
    options = [FORMAT_VERSION, identity.to_json(), books, batch_seconds]
    with tqdm(total=len(utterances), desc="tokenize", unit="utt", disable=not progress) as bar:
        for (split, number), part in parts.items():
            source = _fingerprint(part, options)
            receipt = finished_shard(out, split, number, source)
            skipped += receipt is not None
            if receipt is None:
                (out / INDEX_NAME).unlink(missing_ok=True)  # not complete until the last shard is
                rows, rejected = _tokenize_part(part, codec, books, batch_seconds, bar)
                receipt = write_shard(
                    out,
                    split,
                    number,
                    rows,
                    codec=identity,
                    num_books=books,
                    source=source,
                    rejected=rejected,
                )
            else:
                bar.update(len(part))
            receipts.append(receipt)
            _check_rejected(receipts, len(utterances))
    ledger = [row for receipt in receipts for row in receipt.rejected]
    write_json_lines(out / LEDGER_NAME, ledger)
    finish_dataset(out, receipts, identity, books)
    lost = {row["id"] for row in ledger}
    return TokenizeSummary(
        folder=out,
        shards=len(receipts),
        skipped=skipped,
        rows=sum(receipt.rows for receipt in receipts),
        num_frames=sum(receipt.num_frames for receipt in receipts),
        seconds=sum(
            utterance.seconds for utterance in utterances if storable(utterance.id) not in lost
        ),
        rejected=len(ledger),
        wall_seconds=perf_counter() - begun,
    )


def shard_parts(
    utterances: Sequence[Utterance], rows_per_shard: int
) -> dict[tuple[str, int], list[Utterance]]:
    """The utterances of each shard by (split, number): within a split, in the manifest's order."""
    parts: dict[tuple[str, int], list[Utterance]] = {}
    for split in SPLITS:
        rows = [utterance for utterance in utterances if utterance.split == split]
        for number, start in enumerate(range(0, len(rows), rows_per_shard)):
            parts[split, number] = rows[start : start + rows_per_shard]
    return parts


def batches_by_length(seconds: Sequence[float], batch_seconds: float) -> list[list[int]]:
    """Group indices of similar duration so that each group, padded, lasts at most `batch_seconds`.

    An utterance that is longer than that is a group of its own.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(seconds)), key=lambda i: (-seconds[i], i)):
        # Longest first: the first of a batch is what all others are padded to
        if batches and (len(batches[-1]) + 1) * seconds[batches[-1][0]] <= batch_seconds:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _tokenize_part(
    part: Sequence[Utterance], codec: WaveformTokenizer, books: int, batch_seconds: float, bar: tqdm
) -> tuple[list[TokenRow], list[dict[str, str]]]:
    rows: dict[int, TokenRow] = {}
    rejected: dict[int, dict[str, str]] = {}
    for batch, waveforms in _read_ahead(part, codec.identity.sampling_rate, batch_seconds):
        good: list[tuple[int, Tensor]] = []
        for index, found in zip(batch, waveforms, strict=True):
            if isinstance(found, UnsupportedAudio):
                utterance = part[index]
                fields = {"id": utterance.id, "audio": str(utterance.audio), "reason": str(found)}
                rejected[index] = {key: storable(value) for key, value in fields.items()}
            else:
                good.append((index, found))
        if good:
            codes = codec.tokenize([waveform for _, waveform in good], num_books=books)
            for place, (index, _) in enumerate(good):
                rows[index] = _token_row(part[index], codes, place)
        bar.update(len(batch))
    return [rows[index] for index in sorted(rows)], [rejected[index] for index in sorted(rejected)]


def _read_ahead(
    part: Sequence[Utterance], sampling_rate: int, batch_seconds: float
) -> Iterator[tuple[list[int], list[Tensor | UnsupportedAudio]]]:
    """Yield batches of waveforms, reading the next one while the codec works on this one."""

    def read(batch: list[int]) -> list[Tensor | UnsupportedAudio]:
        found: list[Tensor | UnsupportedAudio] = []
        for index in batch:
            try:
                found.append(read_audio(part[index].audio, sampling_rate))
            except UnsupportedAudio as error:
                found.append(error)
            except OSError as error:
                found.append(
                    UnsupportedAudio(f"{part[index].audio} cannot be opened ({error.strerror}).")
                )
        return found

    batches = batches_by_length([utterance.seconds for utterance in part], batch_seconds)
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(read, batches[0])
        for batch, following in zip(batches, [*batches[1:], None], strict=True):
            waveforms = coming.result()
            if following is not None:
                coming = reader.submit(read, following)
            yield batch, waveforms


def _token_row(utterance: Utterance, codes: Codes, place: int) -> TokenRow:
    tokens = codes.item(place)
    rate = codes.identity.frame_rate_hz
    durations = durations_to_frames(utterance.durations_s or (), tokens.shape[-1], rate)
    return TokenRow(
        id=utterance.id,
        text=utterance.text,
        phonemes=utterance.phonemes or "",
        durations=torch.tensor(durations, dtype=torch.int64),
        speaker=utterance.speaker,
        split=utterance.split,
        num_samples=int(codes.num_samples[place]),
        codes=tokens.cpu(),
    )


def _fingerprint(part: Sequence[Utterance], options: Sequence[object]) -> str:
    """Hash of all that a shard is a function of; a file's size stands for its content."""
    digest = hashlib.sha256(json.dumps(options).encode())
    for u in part:
        size = u.audio.stat().st_size if u.audio.is_file() else -1
        row = [
            u.id,
            str(u.audio),
            size,
            u.seconds,
            u.text,
            u.speaker,
            u.split,
            u.phonemes,
            u.durations_s,
        ]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def _check_rejected(receipts: Sequence[ShardReceipt], total: int) -> None:
    ledger = [row for receipt in receipts for row in receipt.rejected]
    if len(ledger) > MAX_REJECTED_SHARE * total:
        raise CorpusError(
            f"{len(ledger)} of {total} recordings can no longer be read, more than "
            f"{MAX_REJECTED_SHARE:.0%} (the first: {ledger[0]['reason']}); "
            "restore them, or run `speechlm prepare` again."
        )
