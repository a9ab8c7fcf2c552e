"""DeepSpeed: optimizer state (ZeRO-1) and gradients (ZeRO-2) divided among the ranks.

Asked for from outside, as `accelerate launch` or `ACCELERATE_USE_DEEPSPEED=true` with
`ACCELERATE_DEEPSPEED_CONFIG_FILE` does; what the recipe knows is filled in here.
"""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator, PartialState
from torch import distributed

from ..errors import ConfigError
from .config import RunSettings

_DIVIDES_PARAMETERS = 3


def configure_deepspeed(accelerator: Accelerator, settings: RunSettings) -> None:
    """Bring DeepSpeed's configuration in line with the recipe, before `prepare`.

    Raises:
        ConfigError: With ZeRO-3, under which no rank has the whole weights to average.
    """
    asked: dict[str, Any] = accelerator.state.deepspeed_plugin.deepspeed_config
    if asked.get("zero_optimization", {}).get("stage", 0) >= _DIVIDES_PARAMETERS:
        raise ConfigError(
            "ZeRO-3 divides the weights, of which the averaged copy needs them whole; "
            "use configs/deepspeed-zero2.json (run.activation_checkpointing saves memory, too)."
        )
    # batches are bounded by duration, so that DeepSpeed cannot read a size off the loader
    asked["train_micro_batch_size_per_gpu"] = 1
    asked["gradient_accumulation_steps"] = settings.accumulation
    asked["gradient_clipping"] = settings.clip_norm
    asked.pop("train_batch_size", None)


def count_processor_ranks() -> None:
    """Tell Accelerate of the ranks that DeepSpeed joined on processors; it takes each for the only one."""
    if distributed.is_initialized():
        state: Any = PartialState()
        state.num_processes = distributed.get_world_size()
        state.process_index = state.local_process_index = distributed.get_rank()
