"""Low-rank adapters (LoRA, Hu et al. 2021) through peft: put into a model, trained, merged at export."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from ..errors import ConfigError
from ..tokenizer.files import write_atomically
from .config import LoraSettings
from .recipe import require_peft


def add_adapters(model: PreTrainedModel, settings: LoraSettings) -> None:
    """Freeze a model and give its named linear layers adapters, which at first change nothing.

    Args:
        model: Changed in place; it stays of its class.
        settings: Size and places of the adapters.

    Raises:
        MissingExtra: If peft is not installed.
        ConfigError: If no layer has one of the names.
    """
    require_peft()
    from peft import LoraConfig, inject_adapter_in_model

    linear = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    for target in settings.targets:
        if not any(f".{name}".endswith(f".{target}") for name in linear):
            raise ConfigError(
                f"lora.targets names {target!r}, but no linear layer of the model ends with it; "
                f"it has {', '.join(sorted({name.rpartition('.')[2] for name in linear}))}."
            )
    wanted = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # a float works, too
        lora_dropout=settings.dropout,
        target_modules=[
            name for name in linear if any(f".{name}".endswith(f".{t}") for t in settings.targets)
        ],
    )
    inject_adapter_in_model(wanted, model)


def save_adapters(model: PreTrainedModel, settings: LoraSettings, folder: Path) -> None:
    """Write the adapters alone, as peft's `adapter_model.safetensors` and `adapter_config.json`."""
    from peft import LoraConfig, get_peft_model_state_dict
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in get_peft_model_state_dict(model).items()
    }
    write_atomically(folder / "adapter_model.safetensors", save(tensors, {"format": "pt"}))
    LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=settings.targets,
    ).save_pretrained(str(folder))


@torch.no_grad()
def merge_adapters(model: PreTrainedModel) -> None:
    """Add the adapters to the weights and take them out: the model is as it was built, but tuned."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = [(n, part) for n, part in model.named_modules() if isinstance(part, BaseTunerLayer)]
    for name, part in adapted:
        part.merge()
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, part.get_base_layer())
    model.requires_grad_(True)
