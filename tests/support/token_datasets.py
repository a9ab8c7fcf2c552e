"""Small token datasets, written as tokenizing writes them but without a codec."""

from collections import Counter

import torch

from speechlm.data_prep.card import finish_dataset
from speechlm.data_prep.shards import TokenRow, write_shard
from speechlm.tokenizer.codes import CodecIdentity

CODEC = CodecIdentity("level", "0" * 16, 8000, 80, 64, 4, 2)
OTHER = CodecIdentity("level", "1" * 16, 8000, 80, 64, 4, 2)


def make_row(index, frames, books=4, split="train"):
    draw = torch.Generator().manual_seed(index)
    codes = torch.randint(CODEC.codebook_size, (books, frames), generator=draw)
    phonemes = "hˈ" if frames > 4 else ""
    durations = torch.tensor([1, 1, 1, frames - 3] if phonemes else [], dtype=torch.int64)
    return TokenRow(
        f"u{index}",
        f"naïve {index}",
        phonemes,
        durations,
        f"s{index % 3}",
        split,
        frames * 80 - index % 80,
        codes,
    )


def write_dataset(folder, shards, codec=CODEC, books=4):
    """Each list of rows, all of one split, becomes a shard."""
    folder.mkdir(exist_ok=True)
    counts = Counter()
    receipts = []
    for rows in shards:
        split = rows[0].split
        number = counts[split]
        receipts.append(
            write_shard(
                folder, split, number, rows, codec=codec, num_books=books, source=f"source {number}"
            )
        )
        counts[split] += 1
    finish_dataset(folder, receipts, codec, books)
    return receipts


def same(one, two):
    tensors = all(torch.equal(getattr(one, n), getattr(two, n)) for n in ("codes", "durations"))
    plain = ("id", "text", "phonemes", "speaker", "split", "num_samples", "num_frames")
    return tensors and all(getattr(one, n) == getattr(two, n) for n in plain)
