"""A made-up language to align: every symbol has codes of its own, and lasts a random time."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from speechlm.data_prep.card import finish_dataset
from speechlm.data_prep.shards import TokenRow, write_shard
from speechlm.slm.aligner import AlignerConfig, AlignerModel, padded
from speechlm.slm.text import SymbolTable
from speechlm.tokenizer.codes import CodecIdentity

LETTERS = "abdefhik"
IDENTITY = CodecIdentity("made-up", "0" * 16, 16_000, 320, 64, 3, 2)
SIZES = {"num_books": 2, "hidden_size": 32, "num_layers": 1}
_TABLE = SymbolTable()


def utterance(seed: int, split: str = "train", timed: bool = True) -> TokenRow:
    """A random word of 4 to 9 letters, 1 to 9 frames each, in one of two voices."""
    chance = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int, count: int = 1) -> Tensor:
        return torch.randint(low, high, (count,), generator=chance)

    word = "".join(LETTERS[i] for i in draw(0, len(LETTERS), int(draw(4, 10))))
    durations = draw(1, 10, len(word) + 2)
    sounds = torch.tensor([0, *(1 + LETTERS.index(letter) for letter in word), 0])
    sound = torch.repeat_interleave(sounds, durations)
    frames = len(sound)
    # three codes a sound and book; a quarter of the frames say nothing
    codes = torch.stack(
        [(3 * sound + draw(0, 3, frames) + 32 * (book % 2)) % 64 for book in range(3)]
    )
    noise = draw(0, 64, 3 * frames).view(3, frames)
    codes = torch.where(draw(0, 4, frames) == 0, noise, codes)
    return TokenRow(
        id=f"u{seed:04d}",
        text=word,
        phonemes=word,
        durations=durations if timed else torch.zeros(0, dtype=torch.int64),
        speaker=f"s{seed % 4}",
        split=split,
        num_samples=320 * frames,
        codes=codes,
    )


def write_dataset(
    folder: Path,
    rows: list[TokenRow],
    rows_per_shard: int = 1000,
    identity: CodecIdentity = IDENTITY,
) -> Path:
    """The rows as a finished token dataset."""
    folder.mkdir(parents=True, exist_ok=True)
    receipts = []
    for split in ("train", "valid"):
        part = [row for row in rows if row.split == split]
        for number, start in enumerate(range(0, len(part), rows_per_shard)):
            chosen = part[start : start + rows_per_shard]
            receipts.append(
                write_shard(
                    folder, split, number, chosen, codec=identity, num_books=3, source="made up"
                )
            )
    finish_dataset(folder, receipts, identity, 3)
    return folder


def aligner(identity: CodecIdentity = IDENTITY, **changes: object) -> AlignerModel:
    """An untrained aligner for the made-up codec."""
    torch.manual_seed(0)
    config = AlignerConfig.for_codec(identity, **{**SIZES, **changes})
    return AlignerModel(config).eval()


def inputs(row: TokenRow) -> tuple[list[int], Tensor]:
    """Symbols and codes of a row."""
    return _TABLE.encode(row.phonemes), row.codes


def trained_aligner(steps: int = 60) -> AlignerModel:
    """An aligner that has heard 64 utterances without a word about their durations."""
    model = aligner().train()
    batch = padded([inputs(utterance(seed)) for seed in range(64)])
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for step in range(steps):
        model.context = min(1.0, max(0.0, 2 * step / steps - 1))
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.context = 1.0  # as a model is that comes from a folder
    return model.eval()


def boundary_error(model: AlignerModel, rows: list[TokenRow]) -> float:
    """Mean distance of found and true boundaries, in frames."""
    found = model.align([inputs(row) for row in rows])
    errors = [
        (alignment.durations.cumsum(0) - row.durations.cumsum(0))[:-1].abs()
        for alignment, row in zip(found, rows, strict=True)
    ]
    return float(torch.cat(errors).double().mean())
