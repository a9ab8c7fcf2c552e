"""Model folders: safetensors and config.json, checked before anything runs on them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from ..errors import ConfigError, CorruptWeights
from .files import write_atomically
from .storage import Storage, restored, stored

MAX_CONFIG_BYTES = 1 << 20
# Names of types as people say them.
_KINDS = {
    "int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false",
    "list": "a list", "dict": "a mapping", "NoneType": "null",
}  # fmt: skip
_Model = TypeVar("_Model", bound=PreTrainedModel)
_Config = TypeVar("_Config", bound=PreTrainedConfig)


def read_config(folder: Path, config_class: type[_Config]) -> _Config:
    """Build a configuration from `folder/config.json`, refusing keys that the class does not know.

    `PreTrainedConfig` itself stores unknown keys silently, so that a typo would pass.

    Raises:
        CorruptWeights: If the file is missing or not JSON, or the folder is that of a training run.
        ConfigError: If a key is unknown or a value is refused.
    """
    path = folder / "config.json"
    if (folder / "checkpoints").is_dir() and not (folder / "model.safetensors").is_file():
        raise CorruptWeights(
            f"{folder} is the run folder of a training; write its model by "
            f"`speechlm export {folder} OUT` first, then give OUT."
        )
    if not path.is_file() or path.stat().st_size > MAX_CONFIG_BYTES:
        raise CorruptWeights(
            f"{folder} has no usable config.json; give a folder written by `speechlm export`."
        )
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorruptWeights(f"{path} is not JSON ({error}); export the model again.") from error
    if not isinstance(raw, dict):
        raise CorruptWeights(f"{path} does not hold a JSON object; export the model again.")
    return config_from_mapping(raw, config_class, str(path))


def config_from_mapping(raw: Mapping[str, Any], config_class: type[_Config], where: str) -> _Config:
    """Build a configuration from a mapping, refusing unknown keys and a foreign `model_type`.

    A whole number stands for a field that takes any number.

    Raises:
        ConfigError: Naming `where`, the key, and what was expected.
    """
    defaults = config_class().to_dict()
    known = set(defaults) | {
        "architectures",
        "transformers_version",
        "dtype",
        "model_type",
    }
    if unknown := sorted(set(raw) - known):
        raise ConfigError(
            f"{where} has the unknown key {unknown[0]!r}; {config_class.__name__} does not know it."
        )
    if raw.get("model_type", config_class.model_type) != config_class.model_type:
        raise ConfigError(
            f"{where} is for a {raw['model_type']!r} model, not for {config_class.model_type!r}."
        )
    values: dict[str, Any] = {
        key: float(value) if type(value) is int and type(defaults.get(key)) is float else value
        for key, value in raw.items()
        if key != "model_type"
    }
    try:
        return config_class(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except Exception as error:  # the Hub's strict dataclasses raise errors of their own family
        raise ConfigError(f"{where} has a value of a wrong type: {_wrong_type(error)}") from error


def _wrong_type(error: Exception) -> str:
    """Field, value and what is wanted, out of what the Hub's dataclasses say of a value."""
    text = " ".join(str(error).split())
    one = re.search(r"Field '(\w+)' expected (\w+), got \w+ \(value: (.*)\)$", text)
    several = re.search(
        r"Field '(\w+)' with value (.*?) doesn't match any type in \((.*?)\)\. ", text
    )
    if several:
        field, value = several[1], several[2]
        kinds = [kind for kind in _KINDS if re.search(rf"\b{kind}\b(?!])", several[3])]
    elif one:
        field, value, kinds = one[1], one[3], [one[2]]
    else:
        return text
    if "float" in kinds and "int" in kinds:
        kinds.remove("int")
    return f"{field} is {value}, give {' or '.join(_KINDS.get(kind, kind) for kind in kinds)}."


def load_model(folder: Path, model_class: type[_Model]) -> _Model:
    """Load a model in float32 from `config.json` and `model.safetensors`, in evaluation mode.

    Raises:
        CorruptWeights: If the tensors' names or shapes are not the model's, or one is not finite.
        ConfigError: If the configuration is refused.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = read_config(folder, model_class.config_class)  # type: ignore[arg-type]
    path = folder / "model.safetensors"
    if not path.is_file():
        raise CorruptWeights(
            f"{folder} has no model.safetensors; give a folder written by `speechlm export`."
        )
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CorruptWeights(
            f"{path} is not readable safetensors ({error}); export the model again."
        ) from error
    tensors = restored(tensors, str(path))
    model = model_class(config)
    own = model.state_dict()
    if set(own) != set(tensors):
        odd = sorted(set(own) ^ set(tensors))[0]
        raise CorruptWeights(
            f"{path} and its config.json disagree about the tensor {odd}; export the model again."
        )
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise CorruptWeights(
                f"{path}: {name} has shape {list(tensor.shape)}, expected {list(own[name].shape)}."
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CorruptWeights(
                f"{path}: {name} holds values that are not finite; restore the file."
            )
    model.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in tensors.items()})
    return model.eval()


def save_model(model: PreTrainedModel, folder: Path, storage: Storage = "half") -> None:
    """Write `config.json` and `model.safetensors` atomically, floating tensors as `storage` says.

    Models are loaded and run in float32, however they are stored.
    """
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    tensors = stored(model.state_dict(), storage)
    write_atomically(folder / "model.safetensors", save(tensors, {"format": "pt"}))
    model.config.architectures = [type(model).__name__]
    model.config.dtype = torch.float32  # what the Hub's `from_pretrained` loads it as
    write_atomically(folder / "config.json", model.config.to_json_string(use_diff=False).encode())


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """First 16 hex digits of the SHA-256 over names, shapes and float32 values, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        digest.update(f"{name}{list(tensor.shape)}".encode())
        digest.update(
            (tensor.float() if tensor.is_floating_point() else tensor)
            .contiguous()
            .numpy()
            .tobytes()
        )
    return digest.hexdigest()[:16]
