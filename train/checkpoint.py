"""Checkpoints that exist whole or not at all, and averaged weights.

A run folder holds `config.json` (what was asked), `metrics.jsonl` (one line a logged step) and
`checkpoints/step-N`, where discriminators, if there are any, are `model_1.safetensors`. Accelerate writes
optimizer state as pickles: a run folder is trusted and stays where it was made; what is shared is an export.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ..errors import ConfigError
from ..tokenizer.files import write_atomically
from .config import Strict

WEIGHTS = "model.safetensors"
_PREFIX = "step-"


class AveragedWeights:
    """Exponential moving average of a model's trained parameters (Polyak), in float32."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: p.detach().float().clone() for name, p in _trained(model)}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model; early on, faster than the decay says, or the start would linger."""
        decay = min(self.decay, (1 + step) / (10 + step))
        theirs = [p.detach().float() for _, p in _trained(model)]
        torch._foreach_lerp_(list(self.values.values()), theirs, 1 - decay)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange the model's parameters with the averages; call it again to go back."""
        for name, parameter in _trained(model):
            kept = parameter.detach().float().clone()
            parameter.copy_(self.values[name])
            self.values[name] = kept

    def load(self, path: Path) -> None:
        """Take over saved averages."""
        for name, tensor in load_file(path).items():
            self.values[name] = tensor.to(self.values[name].device)


def _trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in model.named_parameters() if p.requires_grad)


class RunFolder:
    """The files of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.metrics = folder / "metrics.jsonl"
        self.config = folder / "config.json"
        self.best = folder / "best.safetensors"

    def claim(self, kind: str, config: Strict, resumable: set[str]) -> None:
        """Write the configuration of a new run, or hold a resumed one against it.

        A key that the run was started without, since it is newer, counts as its default.

        Raises:
            ConfigError: If the folder is another run's.
        """
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        asked = {"kind": kind, **config.model_dump(mode="json")}
        if self.config.is_file() and self.latest() is not None:
            stored = _completed(json.loads(self.config.read_text(encoding="utf-8")), type(config))
            if key := _first_difference(stored, asked, resumable):
                raise ConfigError(
                    f"{self.folder} holds a run with another {key}; "
                    "choose another --run folder, or set it back."
                )
        write_atomically(self.config, json.dumps(asked, indent=2).encode())

    def latest(self) -> Path | None:
        """The newest whole checkpoint."""
        found = sorted(self.checkpoints.glob(f"{_PREFIX}*"))
        return found[-1] if found else None

    def save(
        self,
        accelerator: Accelerator,
        averages: AveragedWeights,
        progress: dict[str, object],
        keep: int,
    ) -> None:
        """Write a checkpoint under a temporary name, rename it, then remove the oldest ones."""
        step = progress["step"]
        target = self.checkpoints / f"{_PREFIX}{step:09d}"
        temporary = self.checkpoints / f".{target.name}"
        if accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(temporary))
        if accelerator.is_main_process:
            averaged: dict[str, Tensor] = {
                k: v.cpu().contiguous() for k, v in averages.values.items()
            }
            write_atomically(temporary / "averages.safetensors", save(averaged))
            if not (temporary / WEIGHTS).is_file():  # DeepSpeed keeps them in a file of its own
                bare = accelerator.unwrap_model(accelerator._models[0]).state_dict()
                whole = {name: tensor.detach().cpu().contiguous() for name, tensor in bare.items()}
                write_atomically(temporary / WEIGHTS, save(whole))
            write_atomically(temporary / "progress.json", json.dumps(progress).encode())
            shutil.rmtree(target, ignore_errors=True)
            temporary.replace(target)
            for old in sorted(self.checkpoints.glob(f"{_PREFIX}*"))[:-keep]:
                shutil.rmtree(old)
        accelerator.wait_for_everyone()

    def restore(
        self, accelerator: Accelerator, averages: AveragedWeights
    ) -> dict[str, object] | None:
        """Load the newest checkpoint; what it knows of the run's progress, or None for a new run."""
        latest = self.latest()
        if latest is None:
            self._rewrite_metrics(0)
            return None
        accelerator.load_state(str(latest))
        averages.load(latest / "averages.safetensors")
        progress: dict[str, object] = json.loads(
            (latest / "progress.json").read_text(encoding="utf-8")
        )
        if accelerator.is_main_process:
            self._rewrite_metrics(int(progress["step"]))  # type: ignore[call-overload]
        return progress

    def keep_best(self, averages: AveragedWeights, step: int, loss: float) -> None:
        """Write averaged weights, unless those that are kept had a lower held-out loss."""
        if self.best.is_file() and self.best_of_all()[1] <= loss:
            return
        averaged = {name: tensor.cpu().contiguous() for name, tensor in averages.values.items()}
        told = {"step": str(step), "loss": repr(loss)}
        write_atomically(self.best, save(averaged, metadata=told))

    def best_of_all(self) -> tuple[int, float]:
        """Step and held-out loss of the weights in `best`."""
        with safe_open(self.best, "pt") as file:
            told = file.metadata()
        return int(told["step"]), float(told["loss"])

    def _rewrite_metrics(self, step: int) -> None:
        """Forget lines after `step`: the steps will be done again."""
        if self.metrics.is_file():
            lines = self.metrics.read_bytes().splitlines(keepends=True)
            kept = [
                line for line in lines if line.endswith(b"\n") and json.loads(line)["step"] <= step
            ]
            write_atomically(self.metrics, b"".join(kept))

    def log(self, record: dict[str, object]) -> None:
        """Append one line to the metrics."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def _completed(stored: dict[str, object], kind: type[Strict]) -> dict[str, object]:
    """A stored configuration with the defaults of keys that it lacks; unchanged if it is refused now."""
    try:
        whole = kind.model_validate({k: v for k, v in stored.items() if k != "kind"})
    except ValidationError:
        return stored
    return {"kind": stored.get("kind"), **whole.model_dump(mode="json")}


def _first_difference(
    stored: object, asked: object, ignored: set[str], path: str = ""
) -> str | None:
    if isinstance(stored, dict) and isinstance(asked, dict):
        for key in sorted(stored.keys() | asked.keys()):
            if key not in ignored and (
                found := _first_difference(
                    stored.get(key), asked.get(key), ignored, f"{path}.{key}" if path else key
                )
            ):
                return found
        return None
    return None if stored == asked else path
