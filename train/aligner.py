"""Aligner training: whole utterances from token shards, phonemes and codes, no durations needed.

Where rows have durations all the same, validation measures the found boundaries against them;
training never sees them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ..data_prep.shards import TokenRow, open_datasets
from ..errors import ConfigError
from ..slm.aligner import AlignerConfig, AlignerModel, padded
from ..slm.text import SymbolTable, is_speakable
from .batches import Draw
from .config import AlignerTraining
from .task import Batch, Validation
from .utterances import Utterances

_VALIDATION_ROWS = 64
_VALIDATION_BATCH = 8


class AlignerTask:
    """The aligner with its shards; see `task.Task` for the methods.

    Rows of the split `valid` are held out. A dataset without any is validated on its own training
    rows: an aligner is there for the very rows it was trained on.
    """

    def __init__(self, config: AlignerTraining) -> None:
        self.config = config
        datasets = open_datasets(config.shards)
        first = datasets[0]
        self.frame_rate_hz = first.identity.frame_rate_hz
        longest = config.max_seconds * self.frame_rate_hz
        written: set[str] = set()

        def is_usable(row: TokenRow, split: str) -> bool:
            fits = row.split == split and len(row.phonemes) + 2 <= row.num_frames <= longest
            if usable := fits and is_speakable(row.phonemes):
                written.update(row.phonemes)
            return usable

        self.rows, held_out = (
            Utterances(datasets, partial(is_usable, split=split)) for split in ("train", "valid")
        )
        self.valid_rows = held_out or self.rows
        if not self.rows:
            raise ConfigError(
                f"No row of {', '.join(config.shards)} can be trained on: each needs phonemes, and "
                f"a frame a symbol in at most {config.max_seconds:g} s."
            )
        sizes = {"symbols": _symbols_of(written), **config.model}
        torch.manual_seed(config.run.seed)
        self.model = AlignerModel(AlignerConfig.for_codec(first.identity, **sizes))
        if self.model.config.num_books > min(dataset.num_books for dataset in datasets):
            raise ConfigError(
                f"model.num_books is {self.model.config.num_books}, but {config.shards[0]} holds "
                f"{first.num_books} books; lower it, or tokenize with more."
            )
        self.symbols = self.model.config.symbol_table
        self.max_total = config.batch_frames
        self.lengths = self.rows.num_frames.tolist()
        self.fingerprint = hashlib.sha256(
            json.dumps([shards.fingerprint for shards in datasets]).encode()
        ).hexdigest()

    def item(self, draw: Draw) -> TokenRow:
        """A whole utterance."""
        return self.rows[draw.index]

    def collate(self, items: list[TokenRow]) -> Batch:
        """Right-padded tensors as `AlignerModel.forward` takes them."""
        return padded([self._inputs(row) for row in items])

    def before_step(self, step: int) -> None:
        """Let the belief in the diagonal go, then let the neighbours be heard."""
        start, full = self.config.context_steps
        self.model.diagonal = max(0.0, 1.0 - step / start) if start else 0.0
        self.model.context = min(1.0, max(0.0, (step - start) / (full - start)))

    def loss(self, model: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The model's own loss and its two parts."""
        out = model(**batch)
        return out.loss, {"text": out.text_loss, "voice": out.voice_loss}

    def validate(self, model: nn.Module) -> Validation:
        """Losses and gain; boundary errors where the shards know the durations.

        A boundary error is the distance in milliseconds between the found and the known end of a
        symbol, the last symbol's left out.
        """
        aligner = cast(AlignerModel, model)
        count = min(_VALIDATION_ROWS, len(self.valid_rows))
        rows = [
            self.valid_rows[int(i)]
            for i in np.linspace(0, len(self.valid_rows) - 1, count).astype(int)
        ]
        losses: list[tuple[float, float]] = []
        gains: list[float] = []
        errors: list[Tensor] = []
        for first in range(0, len(rows), _VALIDATION_BATCH):
            part = rows[first : first + _VALIDATION_BATCH]
            batch = {name: t.to(aligner.device) for name, t in self.collate(part).items()}
            out = aligner(**batch)
            losses.append((float(out.text_loss), float(out.voice_loss)))
            for row, found in zip(
                part, aligner.align([self._inputs(row) for row in part]), strict=True
            ):
                gains.append(found.gain)
                if len(row.durations) == len(found.durations):
                    moves = found.durations.cumsum(0) - row.durations.cumsum(0)
                    errors.append(moves[:-1].abs())
        text, voice = (float(value) for value in np.mean(losses, axis=0))
        metrics = {"loss": text + voice, "text": text, "voice": voice}
        metrics["gain"] = float(np.mean(gains))
        if errors:
            off = torch.cat(errors).double() * 1000 / self.frame_rate_hz
            metrics["boundary_mean_ms"] = float(off.mean())
            metrics["boundary_median_ms"] = float(off.median())
            metrics["boundary_within_40_ms"] = float((off <= 40).double().mean())
        return Validation(metrics)

    def _inputs(self, row: TokenRow) -> tuple[list[int], Tensor]:
        return self.symbols.encode(row.phonemes), row.codes


def _symbols_of(written: Iterable[str]) -> list[str]:
    """The English table, and behind it what else was written, in order of code points."""
    table = SymbolTable()
    return [*table.symbols, *sorted(symbol for symbol in written if symbol not in table)]
