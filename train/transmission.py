"""Training of the models behind transmission: pieces of utterances from token shards."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ..transmission.entropy_model import EntropyModel
from ..transmission.fine_model import FineModel
from ..transmission.frame_model import FrameModel, FrameOutput
from .batches import Draw
from .code_task import CodeTask
from .config import TransmissionTraining
from .task import Batch, Validation

_VALIDATION_FRAMES = 8000  # a batch


class TransmissionTask(CodeTask):
    """An entropy model or a fine model with its shards; see `task.Task` for the methods."""

    def __init__(self, config: TransmissionTraining) -> None:
        super().__init__(config.shards, config.codec, config.run.seed)
        self.config = config
        is_base = config.predicts == "base"
        kind, name = (EntropyModel, "entropy") if is_base else (FineModel, "fine")
        self.model: FrameModel = self.first_model(kind, name, config.model, config.start_from)
        self.read_rows(self.model.num_given + self.model.num_levels)
        rate = self.identity.frame_rate_hz
        self.crop_frames = max(2, round(config.crop_seconds * rate))
        self.context_frames = max(2, round(config.context_seconds * rate))
        self.max_total = config.batch_frames
        self.lengths = np.minimum(self.rows.num_frames, self.crop_frames).tolist()
        self._static: dict[str, float] | None = None

    def item(self, draw: Draw) -> Tensor:
        """A random piece of an utterance, int64 `[K, T]`."""
        codes = self.rows[draw.index].codes[: self.last_book]
        length = min(codes.shape[1], self.crop_frames)
        start = random.Random(draw.seed).randint(0, codes.shape[1] - length)
        return codes[:, start : start + length]

    def collate(self, items: list[Tensor]) -> Batch:
        """Right-padded tensors as `FrameModel.forward` takes them."""
        pad = nn.utils.rnn.pad_sequence
        lengths = torch.tensor([item.shape[1] for item in items])
        codes = pad([item.T for item in items], batch_first=True).transpose(1, 2)
        return {"codes": codes, "loss_mask": torch.arange(codes.shape[2]) < lengths[:, None]}

    def before_step(self, step: int) -> None:
        """Nothing to do."""

    def loss(self, model: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The model's own loss, with cross-entropy and hits of each book."""
        out: FrameOutput = model(**batch)
        return out.loss, self._by_book(out)  # type: ignore[return-value]

    def validate(self, model: nn.Module) -> Validation:
        """Bits of held-out codes, a chunk at a time, beside those of static tables.

        Metrics: `loss` (nats a code); for each book `bits_book_k` and `hits_book_k`; `bits_per_frame`
        over the predicted books, `order_0_bits_per_frame` and `order_1_bits_per_frame` of the static
        tables (`transmission_tables.py`), and the shares saved against raw codes and order 1.
        """
        device = next(model.parameters()).device
        totals: dict[str, float] = {}
        count = 0
        size = max(1, _VALIDATION_FRAMES // self.context_frames)
        pieces = list(self._pieces())
        for first in range(0, len(pieces), size):
            part = self.collate(pieces[first : first + size])
            batch = {name: tensor.to(device) for name, tensor in part.items()}
            out = model(**batch)
            frames = int(batch["loss_mask"].sum())
            for name, value in {"loss": out.loss, **self._by_book(out)}.items():
                totals[name] = totals.get(name, 0.0) + float(value) * frames
            count += frames
        found = {name: value / count for name, value in totals.items()}
        metrics = {"loss": found.pop("loss")}
        for name, value in found.items():
            is_loss = name.startswith("book_")
            metrics[f"bits_{name}" if is_loss else name] = value / math.log(2) if is_loss else value
        levels = self.model.num_levels
        metrics["bits_per_frame"] = metrics["loss"] * levels / math.log(2)
        metrics |= self._static_bits(pieces)
        raw = levels * math.log2(self.model.config.codebook_size)
        metrics["saved_of_raw"] = 1 - metrics["bits_per_frame"] / raw
        order_1 = metrics["order_1_bits_per_frame"]
        metrics["saved_of_order_1"] = 1 - metrics["bits_per_frame"] / order_1
        return Validation(metrics)

    def _static_bits(self, pieces: list[Tensor]) -> dict[str, float]:
        """The same for every validation of a run, hence counted once."""
        if self._static is None:
            tables = self.static_tables(range(self.model.num_given, self.last_book))
            alone, behind = tables.bits(pieces)
            self._static = {
                "order_0_bits_per_frame": float(alone.sum()),
                "order_1_bits_per_frame": float(behind.sum()),
            }
        return self._static

    def _pieces(self) -> Iterator[Tensor]:
        """Held-out utterances cut into chunks."""
        for codes in self.validation_codes:
            yield from codes.split(self.context_frames, 1)

    def _by_book(self, out: FrameOutput) -> dict[str, Tensor]:
        first = self.model.num_given + 1
        names = [str(first + level) for level in range(self.model.num_levels)]
        losses = {
            f"book_{n}": loss
            for n, loss in zip(names, cast(Tensor, out.level_losses).unbind(), strict=True)
        }
        hits = {
            f"hits_book_{n}": hit
            for n, hit in zip(names, cast(Tensor, out.level_hits).unbind(), strict=True)
        }
        return losses | hits
