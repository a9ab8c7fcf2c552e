"""DeepSpeed: optimizer state (ZeRO-1) and gradients (ZeRO-2) divided among the ranks.

Asked for from outside, as `accelerate launch` or `ACCELERATE_USE_DEEPSPEED=true` with
`ACCELERATE_DEEPSPEED_CONFIG_FILE` does; what the recipe knows is filled in here.
"""

from __future__ import annotations

import logging
from typing import Any

from accelerate import Accelerator, PartialState
from accelerate.utils import parse_flag_from_env
from torch import distributed

from ..errors import ConfigError
from .config import RunSettings

_DIVIDES_PARAMETERS = 3
_LOGGER = "DeepSpeed"  # its own, which writes to stdout


def quiet_deepspeed() -> None:
    """Keep DeepSpeed's warnings off runs that do not use it.

    Accelerate imports it where it is installed, and it then tells on stdout that it found no GPU. Its errors
    are heard, and so is all else where it was asked for.
    """
    logging.getLogger(_LOGGER).addFilter(_is_heard)  # the same filter is added once only


def _is_heard(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR or parse_flag_from_env("ACCELERATE_USE_DEEPSPEED")


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
