"""`--from`: the weights that a run starts from, out of a run folder or an exported one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..errors import ConfigError
from ..slm.autoregressive import AutoregressiveModel
from ..slm.nonautoregressive import NonAutoregressiveModel
from ..slm.shipped import shipped_models
from ..tokenizer.codec import CodecModel, load_codec
from ..tokenizer.codes import CodecIdentity
from ..tokenizer.config import CodecConfig
from ..tokenizer.model_folder import config_from_mapping, load_model
from ..tokenizer.quantizer import MaskedChannelQuantizer
from .checkpoint import RunFolder
from .config import SHIPPED
from .export import averaged_model

_Model = TypeVar("_Model", bound=PreTrainedModel)

# What a model is trained with, and not what it is.
_FREE = {
    "dropout",
    "input_drop",
    "label_smoothing",
    "advance_weight",
    "residual_weight",
    "condition_drop",
    "guidance",
    "max_guidance",
    "min_prompt_seconds",
}
# What a trained model may be given later, and how the names of its weights begin: they start without effect.
_ADDED = {"voice_vector": "voice."}


def start_codec(source: str, asked: Mapping[str, Any], batch_seconds: float) -> CodecModel:
    """The codec that a run goes on from.

    Args:
        source: Run folder (its averaged weights), codec folder, or `shipped`.
        asked: Section `model` of the run. Empty takes everything from the weights; `codec_id` may
            always be a new one.
        batch_seconds: Audio in a batch of the run, which the quantizer's averages are brought to.

    Raises:
        ConfigError: If `asked` contradicts the weights, or the run folder is not a codec's.
        CorruptWeights: If there is no codec in the folder.
    """
    if source == SHIPPED:
        model = load_codec()
    elif RunFolder(Path(source)).checkpoints.is_dir():
        found, _ = averaged_model(Path(source))
        if not isinstance(found, CodecModel):
            raise ConfigError(f"{source} is the run of another model; --from takes a codec's.")
        model = found
    else:
        model = load_codec(Path(source))
    wanted = config_from_mapping(asked, CodecConfig, "The section `model`")
    for key in asked:
        if key == "codec_id":
            model.config.codec_id = wanted.codec_id
        else:
            _require_same(key, getattr(wanted, key), getattr(model.config, key), source)
    restart_averages(model.quantizer, batch_seconds * model.config.frame_rate_hz)
    return model


def start_language_model(
    source: str, stage: str, asked: Mapping[str, Any]
) -> AutoregressiveModel | NonAutoregressiveModel:
    """The language model that a run goes on from.

    Args:
        source: Run folder (its averaged weights), model folder, folder with `ar/` or `nar/` in it, or
            `shipped`.
        stage: `ar` or `nar`.
        asked: Section `model` of the run. Empty takes everything from the weights; shares of dropout
            and weights of losses may be new ones.

    Raises:
        ConfigError: If `asked` contradicts the weights, or they are not a model of this stage.
        CorruptWeights: If there is no model in the folder.
    """
    kind: Any = AutoregressiveModel if stage == "ar" else NonAutoregressiveModel
    folder = shipped_models() if source == SHIPPED else Path(source)
    if RunFolder(folder).checkpoints.is_dir():
        found, _ = averaged_model(folder)
    else:
        inside = folder / stage
        if source == SHIPPED and not inside.is_dir():
            raise ConfigError(f"No {stage.upper()} model ships; give --from a folder with one.")
        found = load_model(inside if inside.is_dir() else folder, kind)
    return _made_anew(found, kind, asked, source)


def start_code_model(
    source: str,
    kind: type[_Model],
    shipped: Path,
    identity: CodecIdentity,
    asked: Mapping[str, Any],
) -> _Model:
    """The entropy, fine or masked model that a run goes on from.

    Args:
        source: Run folder (its averaged weights), exported folder, or `shipped`.
        kind: Its class.
        shipped: Folder of the weights that ship.
        identity: The codec of the shards.
        asked: Section `model` of the run, as for `start_language_model`.

    Raises:
        ConfigError: If `asked` contradicts the weights, or they are another model's.
        CorruptWeights: If there is no such model in the folder.
        ModelMismatch: If it is made for another codec.
    """
    folder = shipped if source == SHIPPED else Path(source)
    found: Any
    if RunFolder(folder).checkpoints.is_dir():
        found, _ = averaged_model(folder)
    elif source == SHIPPED and not (folder / "model.safetensors").is_file():
        raise ConfigError(
            f"Of the {folder.name} model only integers ship, which are not trained on; give --from a "
            "run folder or an exported model."
        )
    else:
        found = load_model(folder, kind)
    model = _made_anew(found, kind, asked, source)
    model.config.codec_identity.require(identity, f"The weights of {source}")
    return model


def _made_anew(found: Any, kind: type[_Model], asked: Mapping[str, Any], source: str) -> _Model:
    """Weights in a model that has the asked values where these are free; float32, in training mode."""
    if not isinstance(found, kind):
        raise ConfigError(
            f"{source} is a run of {type(found).__name__}; --from needs {kind.__name__}."
        )
    theirs: Any = found.config
    free = {}
    for key, value in asked.items():
        if not hasattr(theirs, key):
            raise ConfigError(
                f"model.{key} cannot be set with weights of {source}; "
                "leave the section `model` empty to take theirs."
            )
        is_added = key in _ADDED and value and not getattr(theirs, key)
        if key in _FREE or is_added:
            free[key] = value
        else:
            _require_same(key, value, getattr(theirs, key), source)
    config = config_from_mapping({**theirs.to_dict(), **free}, type(theirs), "The section `model`")
    model = kind(config)
    added = tuple(_ADDED[key] for key in free if key in _ADDED)
    begun = {n: t for n, t in model.state_dict().items() if added and n.startswith(added)}
    model.load_state_dict({**found.state_dict(), **begun})
    return model


@torch.no_grad()
def restart_averages(quantizer: MaskedChannelQuantizer, frames_per_batch: float) -> None:
    """Make the moving averages agree with the codebooks, as if batches had always been this large.

    A codec folder holds them rounded or not at all, and the first update would then throw the entries
    about; how often each entry was used, where that is known, is kept.
    """
    mean = quantizer.counts.mean(-1, keepdim=True).clamp(min=1e-6)
    quantizer.counts.mul_(frames_per_batch / quantizer.codebook_size / mean)
    quantizer.sums.copy_(quantizer.codebooks * quantizer.counts[..., None])


def load_discriminators(adversary: nn.Module, source: str) -> bool:
    """Take the discriminators of a run folder, where it has the same ones; whether it had."""
    latest = RunFolder(Path(source)).latest() if source != SHIPPED else None
    path = latest / "model_1.safetensors" if latest is not None else None
    if path is not None and path.is_file():
        found: dict[str, Tensor] = {
            name.removeprefix("module."): tensor for name, tensor in load_file(path).items()
        }
        own = adversary.state_dict()
        if {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in own.items()}:
            adversary.load_state_dict(found)
            return True
    return False


def _require_same(key: str, asked: Any, theirs: Any, source: str) -> None:
    if _plain(asked) != _plain(theirs):
        raise ConfigError(
            f"model.{key} is {asked!r}, but the weights of {source} have {theirs!r}; "
            "leave the section `model` empty to take theirs."
        )


def _plain(value: Any) -> Any:
    """Lists and tuples are the same in a configuration."""
    return list(value) if isinstance(value, tuple) else value
