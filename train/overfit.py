"""`speechlm train slm --overfit`: learns one batch by heart, which a sound set-up can.

A model that cannot learn a few utterances by heart will learn nothing from many: shards, symbols, durations,
loss and optimizer are then wrong somewhere, or the rate is.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import ConfigError
from .batches import DurationBatches
from .config import LanguageModelTraining, read_run_config
from .slm import LanguageModelTask

# What keeps a model from learning by heart.
_REGULARISATION = ("dropout", "input_drop", "label_smoothing", "condition_drop")
_FRAMES = 600
_STEPS = 400
_SHARE = 0.25
_WARMUP = 10
_SEED = 20_231


@dataclass(frozen=True)
class Overfit:
    """How one batch was learned.

    Attributes:
        losses: Of each step, nats.
        wanted: The loss that had to be reached.
        num_items, num_frames: Of the batch, prompts included.
        unmoved: Trained parameters that never had a gradient, by name.
        seconds: On the clock.
    """

    losses: tuple[float, ...]
    wanted: float
    num_items: int
    num_frames: int
    unmoved: tuple[str, ...]
    seconds: float

    @property
    def reached(self) -> float:
        """Lowest mean loss of five steps in a row; nan if a loss was not finite."""
        if not all(map(math.isfinite, self.losses)):
            return math.nan
        width = min(5, len(self.losses))
        return min(
            sum(self.losses[first : first + width]) / width
            for first in range(len(self.losses) - width + 1)
        )

    @property
    def is_sound(self) -> bool:
        """Whether the batch was learned and every part of the model took part."""
        return self.reached <= self.wanted and not self.unmoved

    def verdict(self) -> str:
        """One line for the terminal: what was learned, or what is probably wrong."""
        learned = (
            f"{self.num_items} utterances of {self.num_frames} frames: loss {self.losses[0]:.2f} to "
            f"{self.reached:.2f} in {len(self.losses)} steps and {self.seconds:.0f} s "
            f"(wanted {self.wanted:.2f})"
        )
        if self.is_sound:
            return f"SOUND: {learned}."
        if math.isnan(self.reached):
            cause = "the loss is not finite; lower run.learning_rate or set run.precision=fp32"
        elif self.unmoved:
            cause = f"no gradient reaches {', '.join(self.unmoved[:3])}; these weights cannot learn"
        elif self.losses[-1] > 1.5 * self.reached:
            cause = "the loss rises again; lower run.learning_rate"
        elif self.reached > 0.8 * self.losses[0]:
            cause = (
                "the loss hardly falls; raise run.learning_rate, and see whether the durations "
                "and the codes belong to the same utterances"
            )
        else:
            cause = "the loss falls, but slowly; raise run.learning_rate or the size of the model"
        return f"NOT LEARNED: {learned}: {cause}."


def overfit_batch(
    config: Path,
    overrides: list[str],
    start_from: str | None = None,
    *,
    steps: int = _STEPS,
    share: float = _SHARE,
) -> Overfit:
    """Train the model of a recipe on one batch, without regularisation, until it knows it by heart.

    Nothing is written. The batch is the first utterances of the recipe's first batch, at most 600 frames
    of them; the same prompts come in every step.

    Args:
        config: Recipe for `train slm`.
        overrides: `key.path=value`, as in `run_training`.
        start_from: As in `run_training`.
        steps: Give up after so many.
        share: Stop when the loss has come down to this share of the first one. (A book that is
            guessed among 1024 codes costs 6.93 nats.)

    Raises:
        ConfigError: If the recipe is refused.
    """
    read = read_run_config(config, overrides, LanguageModelTraining)
    if start_from is not None:
        read = read.model_copy(update={"start_from": start_from})
    if read.run.num_threads:
        torch.set_num_threads(read.run.num_threads)
    task = LanguageModelTask(read)
    model = task.model
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    model.to(device)  # type: ignore[arg-type]
    for name in (name for name in _REGULARISATION if hasattr(model.config, name)):
        setattr(model.config, name, 0.0)
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    draws = DurationBatches(task.lengths, task.max_total, read.run.seed).batches(0)[0]
    items = []
    for draw in draws:
        items.append(task.item(draw))
        if sum(item.codes.shape[1] for item in items) >= _FRAMES:
            break
    batch = {name: tensor.to(device) for name, tensor in task.collate(items).items()}
    if not bool(batch["loss_mask"].any()):
        raise ConfigError(
            "The first batch has no frame that counts in the loss; lengthen the data."
        )
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(
        parameters.values(), read.run.learning_rate, betas=read.run.betas, weight_decay=0.0
    )
    unmoved = set(parameters)
    losses: list[float] = []
    began = time.monotonic()
    wanted = -math.inf
    model.train()
    while len(losses) < steps:
        torch.manual_seed(
            _SEED + len(losses) % 8
        )  # the NAR model draws its stages: eight draws in turn
        for group in optimizer.param_groups:
            group["lr"] = read.run.learning_rate * min(1.0, (1 + len(losses)) / _WARMUP)
        loss = task.loss(model, batch, 0)[0]
        optimizer.zero_grad()
        loss.backward()
        unmoved -= {
            name for name in unmoved if (g := parameters[name].grad) is not None and bool(g.any())
        }
        torch.nn.utils.clip_grad_norm_(list(parameters.values()), read.run.clip_norm)
        optimizer.step()
        losses.append(float(loss.detach()))
        wanted = share * losses[0]
        if not math.isfinite(losses[-1]) or (len(losses) >= 5 and sum(losses[-5:]) / 5 <= wanted):
            break
    return Overfit(
        tuple(losses),
        wanted,
        len(items),
        int(batch["num_frames"].sum()),
        tuple(sorted(unmoved)),
        time.monotonic() - began,
    )
