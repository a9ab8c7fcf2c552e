"""A second module trained against the model in the same loop, with an optimizer and a schedule of its own."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor, nn

from ..errors import ConfigError
from .codec_recipe import AdversarialSettings
from .config import RunSettings
from .optimizer import fuses
from .schedule import rival_learning_rate


class RivalModule(Protocol):
    """What can be trained against a model.

    Attributes:
        heard: What the model's loss last showed it, detached.
    """

    heard: tuple[Tensor, ...]

    def __call__(self, *heard: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Its own scalar loss on `heard`, and the parts to log."""


class Rival:
    """Trains a `RivalModule` in the steps from `settings.start_step` on.

    Args:
        module: An `nn.Module` that is a `RivalModule`.
        settings: Its optimizer and when it takes part.
        run: The run's settings, for the fall of the learning rate.
        accelerator: The one that has prepared the model; after it, so that checkpoints without a
            rival and the model's part of those with one look the same.

    Raises:
        ConfigError: Under DeepSpeed.
    """

    def __init__(
        self,
        module: nn.Module,
        settings: AdversarialSettings,
        run: RunSettings,
        accelerator: Accelerator,
    ) -> None:
        if accelerator.distributed_type == DistributedType.DEEPSPEED:
            raise ConfigError(NO_DEEPSPEED)
        self.settings, self.run, self.accelerator = settings, run, accelerator
        optimizer = torch.optim.AdamW(
            module.parameters(),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=fuses(accelerator),
        )
        self.module: Any = module
        self.wrapped, self.optimizer = accelerator.prepare(module, optimizer)
        self.wrapped.train()

    def learns_at(self, step: int) -> bool:
        """Whether its weights move in `step` (from 0)."""
        since = step - self.settings.start_step
        return since >= 0 and since % self.settings.every_steps == 0

    def rate(self, step: int) -> float:
        """Learning rate at `step`."""
        settings = self.settings
        return rival_learning_rate(
            self.run, settings.learning_rate, settings.warmup_steps, settings.start_step, step
        )

    def learn(self, step: int) -> dict[str, Tensor]:
        """One batch, from what the model's loss has just shown; the parts to log."""
        with self.accelerator.autocast():
            loss, parts = self.wrapped(*self.module.heard)
        self.accelerator.backward(loss)
        if self.accelerator.sync_gradients:
            self.accelerator.clip_grad_norm_(self.wrapped.parameters(), self.settings.clip_norm)
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate(step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return parts


NO_DEEPSPEED = (
    "Adversarial training needs two optimizers, which DeepSpeed does not take; "
    "launch it without DeepSpeed (data parallelism works)."
)
