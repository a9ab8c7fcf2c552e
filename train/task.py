"""What the training loop asks of a thing to train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn
from transformers import PreTrainedModel

from .batches import Draw

Batch = dict[str, Tensor]


@dataclass
class Validation:
    """Figures, and audio with its rate, of one validation."""

    metrics: dict[str, float]
    audio: dict[str, np.ndarray] = field(default_factory=dict)
    sampling_rate: int = 16_000


class Task(Protocol):
    """A model, its data and its loss.

    Attributes:
        max_total: Bound on the padded size of a batch.
        fingerprint: Hash of the data; a run resumes on the same data only.
    """

    max_total: int
    fingerprint: str

    @property
    def model(self) -> PreTrainedModel:
        """What is optimised, averaged and exported."""

    @property
    def lengths(self) -> Sequence[int]:
        """Length of each item, for the batch bound."""

    def item(self, draw: Draw) -> Any:
        """One item; everything random in it comes from `draw.seed`."""

    def collate(self, items: list[Any]) -> Batch:
        """Pad items into tensors."""

    def before_step(self, step: int) -> None:
        """Called on every rank before step `step` (from 0), with the model in training mode."""

    def loss(self, model: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalar loss and the parts to log. `model` is the wrapped one."""

    def validate(self, model: nn.Module) -> Validation:
        """Figures of the averaged weights."""
