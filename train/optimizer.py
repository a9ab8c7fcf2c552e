"""The optimizer that a run's settings ask for."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from torch import nn

from ..errors import ConfigError
from .config import RunSettings
from .muon import Muon, hidden_matrices


def model_optimizer(
    model: nn.Module, settings: RunSettings, accelerator: Accelerator
) -> torch.optim.Optimizer:
    """AdamW, or Muon with AdamW, over what is trained of a model; biases and gains do not decay.

    Raises:
        ConfigError: If Muon is asked for under DeepSpeed, which keeps pieces of matrices.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    hidden = hidden_matrices(model) if settings.optimizer == "muon" else {}
    groups: list[dict[str, Any]] = [
        {"params": [p for n, p in trained.items() if p.dim() > 1 and n not in hidden]},
        {"params": [p for p in trained.values() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    shared: dict[str, Any] = {
        "lr": settings.learning_rate,
        "betas": settings.betas,
        "weight_decay": settings.weight_decay,
        "fused": fuses(accelerator),
    }
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, **shared)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        raise ConfigError(
            "DeepSpeed divides matrices, which Muon needs whole; set run.optimizer to adamw."
        )
    for count in sorted(set(hidden.values())):
        names = [name for name in sorted(hidden) if hidden[name] == count]
        groups.append({"params": [trained[name] for name in names], "num_matrices": count})
    is_half = accelerator.mixed_precision == "bf16"
    return Muon(groups, precision=torch.bfloat16 if is_half else torch.float32, **shared)


def fuses(accelerator: Accelerator) -> bool:
    """Whether AdamW can step in one pass over the weights, a third of the time on a CPU."""
    deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED
    return accelerator.device.type in ("cpu", "cuda") and not deepspeed
