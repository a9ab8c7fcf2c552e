"""The learning rate as a pure function of the step, so that a resumed run repeats the undisturbed one."""

from __future__ import annotations

import math

from .config import RunSettings


def learning_rate(settings: RunSettings, step: int) -> float:
    """Rate of the model's optimizer at `step` (from 0); see `RunSettings` for the shape."""
    return settings.learning_rate * _share(settings, step, settings.warmup_steps)


def rival_learning_rate(
    settings: RunSettings, rate: float, warmup_steps: int, start_step: int, step: int
) -> float:
    """Rate of an optimizer that sets in at `start_step`: a warm-up of its own, then the run's fall."""
    return rate * _share(settings, step, warmup_steps, start_step)


def _share(settings: RunSettings, step: int, warmup_steps: int, start: int = 0) -> float:
    rise = min(1.0, (step - start + 1) / max(1, warmup_steps))
    if settings.schedule == "cosine":
        begun = max(0, step - settings.warmup_steps)
        whole = max(1, settings.total_steps - settings.warmup_steps)
        return rise * 0.5 * (1 + math.cos(math.pi * begun / whole))
    fall = min(1.0, (settings.total_steps - step) / max(1, settings.cooldown_steps))
    return min(rise, fall)
