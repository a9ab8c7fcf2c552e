"""The dataset card, and the last step of a dataset: a README.md that people and `datasets` read.

Its front matter tells `datasets.load_dataset(FOLDER)` which files make which split; the rest tells
people what the tokens are and how to hear them. The index follows it and makes the folder complete.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from ..tokenizer.codes import CodecIdentity
from ..tokenizer.files import write_atomically
from .manifest import SPLITS
from .receipts import CARD_NAME, INDEX_NAME, ShardReceipt, index_bytes

# What the Hub calls our splits
HUB_SPLITS = {"train": "train", "valid": "validation", "test": "test"}


def finish_dataset(
    folder: Path, receipts: Sequence[ShardReceipt], codec: CodecIdentity, num_books: int
) -> None:
    """Write the card and then the index, which declares the dataset complete.

    A dataset that is complete already keeps its card, to which somebody may have added a licence.

    Args:
        folder: Holds the shards.
        receipts: Of every shard, `train` before `valid` before `test`, each by number.
        codec: That made the tokens.
        num_books: K of every row.
    """
    index = index_bytes(receipts, codec, num_books)
    path, card = folder / INDEX_NAME, folder / CARD_NAME
    if card.is_file() and path.is_file() and path.read_bytes() == index:
        return
    write_atomically(card, dataset_card(folder, receipts, codec, num_books).encode())
    write_atomically(path, index)


def dataset_card(
    folder: Path, receipts: Sequence[ShardReceipt], codec: CodecIdentity, num_books: int
) -> str:
    """Text of the card, a function of the shards alone."""
    rows = []
    everyone: set[str] = set()
    found = []
    for split in SPLITS:
        shards = [receipt for receipt in receipts if receipt.split == split and receipt.rows]
        if not shards:
            continue
        found.append(split)
        speakers = _speakers(folder, shards)
        everyone |= speakers
        rows.append(_table_row(HUB_SPLITS[split], shards, len(speakers), codec))
    whole = [receipt for receipt in receipts if receipt.rows]
    if len(found) > 1:
        rows.append(_table_row("all", whole, len(everyone), codec))
    files = "\n".join(
        f"  - split: {HUB_SPLITS[split]}\n    path: {split}-*.parquet" for split in found
    )
    first = HUB_SPLITS[found[0]] if found else HUB_SPLITS[SPLITS[0]]
    bits = num_books * (codec.codebook_size - 1).bit_length() * codec.frame_rate_hz
    table = "\n".join(rows)
    return f"""---
license: unknown
task_categories:
- text-to-speech
tags:
- speech
- codec-tokens
- speechlm
size_categories:
- {_size_category(sum(receipt.rows for receipt in whole))}
configs:
- config_name: tokens-{_content_id(whole)}
  data_files:
{files}
---

# Speech as codec tokens

Recordings as the integers of a neural codec, with their texts; no waveforms. Made by speechlm.

| split | utterances | hours | speakers |
|---|---|---|---|
{table}

| | |
|---|---|
| codec | {codec.codec_id}, revision `{codec.revision}` |
| books | {num_books} of {codec.num_codebooks}, {codec.codebook_size} entries each |
| frame rate | {codec.frame_rate_hz:g} Hz ({codec.sampling_rate} Hz, {codec.hop_length} samples a frame) |
| bit rate | {bits:g} bit/s |

Columns: `id`, `text`, `phonemes` (one character a symbol), `durations` (frames of every symbol, both
boundaries included, or empty), `speaker`, `split`, `codec`, `num_samples`, `num_frames`, `codes`
(one list a book). `speaker`, `text` and `phonemes` are empty where unknown.

## Hearing it

```python
from datasets import load_dataset
from speechlm import load_codec
from speechlm.data_prep.shards import codes_of

codec = load_codec()  # or load_codec(FOLDER): the codec of the table above
row = load_dataset(DATASET, split="{first}")[0]
waveform = codec.synthesize(codes_of([row], codec.identity))[0]  # at {codec.sampling_rate} Hz
```

## Licence

Unknown: state that of the recordings, here and in `license:` above. Tokens can be turned back into
the voices of the people who spoke; what their consent covers holds for the tokens too.
"""


def _content_id(shards: Sequence[ShardReceipt]) -> str:
    """What `datasets` keeps its copy under.

    For a local folder it looks at the folder's name and the configurations of the card only: under
    one name, two datasets called `tokens` would be taken for each other.
    """
    listed = "\n".join(f"{receipt.name} {receipt.sha256}" for receipt in shards)
    return hashlib.sha256(listed.encode()).hexdigest()[:12]


def _table_row(
    name: str, shards: Sequence[ShardReceipt], num_speakers: int, codec: CodecIdentity
) -> str:
    utterances = sum(receipt.rows for receipt in shards)
    hours = sum(receipt.num_samples for receipt in shards) / codec.sampling_rate / 3600
    return f"| {name} | {utterances} | {hours:.2f} | {num_speakers or 'unknown'} |"


def _speakers(folder: Path, shards: Sequence[ShardReceipt]) -> set[str]:
    found: set[str] = set()
    for receipt in shards:
        column = pq.read_table(folder / receipt.name, columns=["speaker"]).column("speaker")
        found.update(column.unique().to_pylist())
    return found - {""}


def _size_category(rows: int) -> str:
    """The Hub's name for a number of rows."""
    names = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B")
    limits = [1000 * 10**power for power in range(len(names))]
    for place, limit in enumerate(limits):
        if rows < limit:
            return f"{names[place - 1]}<n<{names[place]}" if place else f"n<{names[0]}"
    return f"n>{names[-1]}"
