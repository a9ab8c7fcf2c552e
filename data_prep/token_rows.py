"""One utterance as tokens: what a shard holds a row of, and how any such row becomes `Codes`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CorruptCodes, ModelMismatch
from ..tokenizer.codes import CodecIdentity, Codes


@dataclass(frozen=True)
class TokenRow:
    """One utterance as tokens.

    Attributes:
        id: Utterance id.
        text: Transcript, empty if unknown.
        phonemes: One character a symbol, empty if unknown.
        durations: int64 `[S]`, frames of every symbol with both boundaries, their sum T; `[0]` if
            unknown.
        speaker: Name, empty if unknown.
        split: `train`, `valid` or `test`.
        num_samples: Samples of the waveform.
        codes: int64 `[K, T]`.
    """

    id: str
    text: str
    phonemes: str
    durations: Tensor
    speaker: str
    split: str
    num_samples: int
    codes: Tensor

    @property
    def num_frames(self) -> int:
        """T."""
        return self.codes.shape[-1]


def codec_name(codec: CodecIdentity) -> str:
    """What a row says of its codec, so that it can be refused wherever it ends up."""
    return f"{codec.codec_id}@{codec.revision}"


def check_row(row: TokenRow, split: str, codec: CodecIdentity, num_books: int) -> None:
    """Refuse a row that does not fit its shard or itself.

    Raises:
        CorruptCodes: If it does not; the message names the row.
    """
    if row.split != split:
        raise CorruptCodes(f"{row.id} is of the split {row.split!r}, its shard of {split!r}.")
    books, frames = row.codes.shape
    if books != num_books or frames < 1 or frames != -(-row.num_samples // codec.hop_length):
        raise CorruptCodes(
            f"{row.id} has {books} x {frames} codes, which {row.num_samples} samples do not give."
        )
    if int(row.codes.min()) < 0 or int(row.codes.max()) >= min(codec.codebook_size, 1 << 16):
        raise CorruptCodes(f"A code of {row.id} lies outside 0 to {codec.codebook_size - 1}.")
    if (
        problem := durations_problem(row.durations.tolist(), len(row.phonemes), frames)
    ) is not None:
        raise CorruptCodes(f"{row.id} has {problem}.")


def durations_problem(
    durations: Sequence[int | None], num_phonemes: int, num_frames: int
) -> str | None:
    """Say why frames per symbol do not fit the rest of their row, or None if they do."""
    known = [frames for frames in durations if frames is not None]
    symbols = len(durations)
    if len(known) != symbols or min(known, default=0) < 0:
        return "a duration that is empty or below zero"
    if symbols and (sum(known) != num_frames or symbols != num_phonemes + 2):
        return (
            f"{symbols} durations, which do not fit {num_frames} frames and {num_phonemes} phonemes"
        )
    return None


def codes_of(rows: Sequence[Mapping[str, Any]], codec: CodecIdentity) -> Codes:
    """Rows as plain `datasets` gives them -> `Codes`, ready for `codec.synthesize`.

    Args:
        rows: Mappings with `codec`, `num_samples` and `codes` (lists, arrays or tensors `[K, T_i]`),
            all of the same K.
        codec: Identity of the codec that is to decode them.

    Returns:
        `[B, K, T]` with T the longest row's.

    Raises:
        CorruptCodes: If a row lacks a field, or its codes do not fit its samples.
        ModelMismatch: If a row was made by another codec.
    """
    items: list[Tensor] = []
    samples: list[int] = []
    for row in rows:
        name = row.get("id", "A row")
        try:
            made_by, num_samples = str(row["codec"]), int(row["num_samples"])
            raw = row["codes"]
            item = raw.long() if isinstance(raw, Tensor) else _tensor(raw)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CorruptCodes(f"{name} is no row of tokens ({error}).") from error
        if made_by != codec_name(codec):
            raise ModelMismatch(
                f"{name} was made with the codec {made_by}, but {codec_name(codec)} is loaded; "
                "load that codec, or tokenize again."
            )
        frames = -(-num_samples // codec.hop_length)
        if item.dim() != 2 or item.shape[-1] != frames or (items and len(item) != len(items[0])):
            raise CorruptCodes(
                f"{name} has codes of shape {list(item.shape)}, which its {num_samples} samples "
                "or the rows before it do not fit."
            )
        items.append(item)
        samples.append(num_samples)
    if not items:
        raise CorruptCodes("There are no rows to make codes of; give at least one.")
    longest = max(item.shape[-1] for item in items)
    padded = [torch.nn.functional.pad(item, (0, longest - item.shape[-1])) for item in items]
    return Codes(torch.stack(padded), torch.tensor(samples), codec)


def _tensor(lists: object) -> Tensor:
    return torch.from_numpy(np.array(lists, dtype=np.int64))
