"""Token shards without durations -> the same shards with them, found by an aligner.

One shard in, one shard out; resumable at any moment, and always to the same bytes. What was found
about a shard's rows lies in `alignment/`, written before the shard itself, so that a run which goes on
knows it too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

import torch
from tqdm import tqdm

from ..errors import ConfigError
from ..slm.aligner import AlignerModel
from ..slm.text import SymbolTable, is_speakable
from ..tokenizer.files import write_atomically
from ..tokenizer.model_folder import fingerprint
from .align_summary import (
    NOTES,
    POOR,
    SUMMARY_NAME,
    UNALIGNED_NAME,
    AlignSummary,
    ShardNotes,
    clear_notes,
    read_notes,
)
from .card import finish_dataset
from .manifest import SPLITS, write_json_lines
from .output import counted, make_folder
from .receipts import (
    FORMAT_VERSION,
    INDEX_NAME,
    LEDGER_NAME,
    DatasetIndex,
    ShardReceipt,
    clear_leftovers,
    finished_shard,
    read_index,
)
from .shards import TokenRow, TokenShards, write_shard

MIN_MARGIN = 0.2
NUM_OTHERS = 3
_MAX_STEPS = 50  # how far a row looks for other texts: a corpus may consist of a few commands
_MAX_PLACES = 1 << 24  # frames x symbols of one batch: about two minutes of one recording


def align_shards(
    shards: Path,
    out: Path,
    aligner: AlignerModel,
    *,
    overwrite: bool = False,
    min_margin: float = MIN_MARGIN,
    batch_frames: int = 4000,
    progress: bool = True,
) -> AlignSummary:
    """Copy a token dataset, with durations for the rows that have none.

    Run again after an interruption, it does only what is missing. A row that cannot be aligned
    stays without durations, and `unaligned.jsonl` says why.

    Args:
        shards: A finished dataset with phonemes.
        out: Folder of the new dataset, another one.
        aligner: Trained on tokens of the same codec, in evaluation mode.
        overwrite: Align the rows that have durations too; one that cannot be aligned loses them.
        min_margin: Alignments with a lower margin are not believed; nats a frame.
        batch_frames: Padded frames that are aligned at once.
        progress: Show a bar.

    Raises:
        ConfigError: If `out` is `shards` or a file, or the shards hold fewer books than the aligner
            reads.
        CorpusError: If there is no finished dataset.
        CorruptShard: If one of its shards is damaged.
        ModelMismatch: If the aligner is for another codec.
    """
    begun = perf_counter()
    index = _alignable(shards, out, aligner)
    dataset = TokenShards(shards)
    make_folder(out / NOTES)
    counts = Counter(shard.split for shard in index.shards)
    clear_leftovers(out, {split: counts[split] for split in SPLITS})
    clear_notes(out, {f"{shard.name.removesuffix('.parquet')}.json" for shard in index.shards})
    options = [
        FORMAT_VERSION,
        fingerprint(aligner.state_dict()),
        aligner.config.to_json_string(use_diff=False),
        overwrite,
        min_margin,
        batch_frames,
    ]
    receipts: list[ShardReceipt] = []
    found: list[ShardNotes] = []
    skipped = start = 0
    numbers: Counter[str] = Counter()
    with tqdm(total=len(dataset), desc="align", unit="utt", disable=not progress) as bar:
        for shard in index.shards:
            split, number = shard.split, numbers[shard.split]
            numbers[split] += 1
            source = hashlib.sha256(json.dumps([*options, shard.sha256]).encode()).hexdigest()
            receipt = finished_shard(out, split, number, source)
            path = out / NOTES / f"{shard.name.removesuffix('.parquet')}.json"
            notes = read_notes(path, source) if receipt is not None else None
            if receipt is None or notes is None:
                (out / INDEX_NAME).unlink(missing_ok=True)  # not complete until the last shard is
                rows = [dataset.row(start + offset) for offset in range(shard.rows)]
                notes = ShardNotes(source)
                rows = _aligned(rows, aligner, overwrite, min_margin, batch_frames, notes, bar)
                write_atomically(path, json.dumps(asdict(notes), ensure_ascii=False).encode())
                receipt = write_shard(
                    out,
                    split,
                    number,
                    rows,
                    codec=index.codec,
                    num_books=index.num_books,
                    source=source,
                )
            else:
                skipped += 1
                bar.update(shard.rows)
            start += shard.rows
            receipts.append(receipt)
            found.append(notes)
    summary = AlignSummary.of(out, receipts, found, skipped, perf_counter() - begun)
    if (shards / LEDGER_NAME).is_file():
        write_atomically(out / LEDGER_NAME, (shards / LEDGER_NAME).read_bytes())
    write_json_lines(out / UNALIGNED_NAME, [e for notes in found for e in notes.unaligned])
    write_atomically(out / SUMMARY_NAME, (json.dumps(summary.figures(), indent=1) + "\n").encode())
    finish_dataset(out, receipts, index.codec, index.num_books)
    return summary


def _alignable(shards: Path, out: Path, aligner: AlignerModel) -> DatasetIndex:
    """The index of a dataset that this aligner can align into another folder; errors as above."""
    if out.resolve() == shards.resolve():
        raise ConfigError(
            f"{out} is the dataset that is read; choose another folder for the new one."
        )
    index = read_index(shards)
    aligner.config.codec_identity.require(index.codec, f"The token dataset {shards}")
    if index.num_books < aligner.config.num_books:
        raise ConfigError(
            f"{shards} holds {index.num_books} books, the aligner reads {aligner.config.num_books}; "
            "tokenize with more of them, or train an aligner on fewer."
        )
    return index


def _aligned(
    rows: Sequence[TokenRow],
    aligner: AlignerModel,
    overwrite: bool,
    min_margin: float,
    batch_frames: int,
    notes: ShardNotes,
    bar: tqdm,
) -> list[TokenRow]:
    """The rows of one shard with durations, in their order; what was found goes to `notes`."""
    table = aligner.config.symbol_table
    none = torch.zeros(0, dtype=torch.int64)
    result = list(rows)
    open_rows: list[int] = []
    for place, row in enumerate(rows):
        if len(row.durations) and not overwrite:
            notes.kept += 1
            continue
        result[place] = dataclasses.replace(row, durations=none)
        refused = _refusal(row, table)
        if refused is None:
            open_rows.append(place)
        else:
            notes.refuse(row, *refused)
    bar.update(len(rows) - len(open_rows))
    others = _other_texts(rows, open_rows)
    margins: dict[int, float] = {}
    for batch in _batches(rows, others, batch_frames):
        own = aligner.align([(table.encode(rows[p].phonemes), rows[p].codes) for p in batch])
        best = _best_other_gains(rows, batch, others, aligner)
        for place, alignment, other_gain in zip(batch, own, best, strict=True):
            margins[place] = alignment.gain - other_gain
            if margins[place] >= min_margin:
                result[place] = dataclasses.replace(rows[place], durations=alignment.durations)
                notes.aligned += 1
        bar.update(len(batch))
    for place in open_rows:
        notes.margins.append(round(margins[place], 4))
        if margins[place] < min_margin:
            notes.refuse(
                rows[place],
                POOR,
                f"its text explains the recording by {margins[place]:.2f} nats a frame better than "
                f"texts of other recordings, less than {min_margin:g}: one of the two is wrong, or "
                "the aligner has not learned such speech",
            )
    return result


def _refusal(row: TokenRow, table: SymbolTable) -> tuple[str, str] | None:
    """Kind and reason why a row is not even tried, or None."""
    symbols = len(row.phonemes) + 2
    if not is_speakable(row.phonemes):
        return "no phonemes", "it has no phonemes; run `speechlm prepare` with a front end"
    if unknown := sorted({character for character in row.phonemes if character not in table}):
        return "unknown symbol", f"the aligner has not been trained on {unknown[0]!r}"
    if symbols > row.num_frames:
        frames = counted(row.num_frames, "frame")
        return "too many symbols", f"{symbols} symbols do not fit {frames}"
    if symbols * row.num_frames > _MAX_PLACES:
        return "too long", f"{row.num_frames} frames are too many to align at once; cut it"
    return None


def _other_texts(rows: Sequence[TokenRow], places: Sequence[int]) -> dict[int, list[str]]:
    """For each place up to `NUM_OTHERS` texts unlike its own that would fit, of rows of like length.

    Where no row has one, it is the own text backwards.
    """
    order = sorted(places, key=lambda each: (rows[each].num_frames, each))
    found: dict[int, list[str]] = {}
    for index, place in enumerate(order):
        taken = {rows[place].phonemes}
        for step in range(1, _MAX_STEPS):
            for beside in (index - step, index + step):
                if not 0 <= beside < len(order) or len(taken) > NUM_OTHERS:
                    continue
                text, frames = rows[order[beside]].phonemes, rows[place].num_frames
                if len(text) + 2 <= min(frames, _MAX_PLACES // frames):
                    taken.add(text)
        # A row alone in its shard is compared with itself backwards: against no text at all even an
        # aligner that has learned nothing gains, by the silence that every text has at its ends
        own = rows[place].phonemes
        found[place] = sorted(taken - {own}) or [text for text in (own[::-1],) if text != own]
    return found


def _best_other_gains(
    rows: Sequence[TokenRow],
    batch: Sequence[int],
    others: Mapping[int, Sequence[str]],
    aligner: AlignerModel,
) -> list[float]:
    """The best gain of any other text on each recording; 0, that of no text, where there is none."""
    table = aligner.config.symbol_table
    best = dict.fromkeys(batch, 0.0)
    for rank in range(NUM_OTHERS):
        places = [place for place in batch if rank < len(others[place])]
        inputs = [(table.encode(others[place][rank]), rows[place].codes) for place in places]
        found = aligner.align(inputs) if inputs else []
        for place, other in zip(places, found, strict=True):
            best[place] = max(best[place], other.gain) if rank else other.gain
    return list(best.values())


def _batches(
    rows: Sequence[TokenRow], others: Mapping[int, Sequence[str]], batch_frames: int
) -> Iterator[list[int]]:
    """Places of similar length, the longest first, bounded in padded frames and in memory."""
    batch: list[int] = []
    most_symbols = 0
    for place in sorted(others, key=lambda each: (-rows[each].num_frames, each)):
        symbols = max(len(text) + 2 for text in (rows[place].phonemes, *others[place]))
        frames = rows[batch[0] if batch else place].num_frames * (len(batch) + 1)
        most_symbols = max(most_symbols, symbols)
        if batch and (frames > batch_frames or frames * most_symbols > _MAX_PLACES):
            yield batch
            batch, most_symbols = [], symbols
        batch.append(place)
    if batch:
        yield batch
