"""Recipes by the kind of training, and what can be said against one before torch is imported."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from ..data_prep.manifest import require_manifest
from ..data_prep.receipts import require_dataset
from ..errors import ConfigError, MissingExtra
from .codec_recipe import CodecTraining
from .config import (
    SHIPPED,
    AlignerTraining,
    LanguageModelTraining,
    MaskedTraining,
    Strict,
    TransmissionTraining,
    read_run_config,
)

RECIPES: dict[str, type[Strict]] = {
    "codec": CodecTraining,
    "slm": LanguageModelTraining,
    "aligner": AlignerTraining,
    "entropy": TransmissionTraining,
    "fine": TransmissionTraining,
    "masked": MaskedTraining,
}
PREDICTS = {"entropy": "base", "fine": "fine"}


def check_recipe(
    kind: str, path: Path, overrides: list[str], start_from: str | None = None, *, data: bool = True
) -> None:
    """Refuse a recipe that cannot be trained, as far as that is known without torch.

    Args:
        kind: A key of `RECIPES`.
        path, overrides: As in `read_run_config`.
        start_from: Run folder, model folder or `shipped`.
        data: Whether its corpora must be there.

    Raises:
        ConfigError: As `read_run_config`; and if `start_from` is no folder, or this kind starts untrained.
        CorpusError: If a manifest or a token dataset is not there.
        MissingExtra: If it trains adapters and peft is not installed.
    """
    config = read_recipe(kind, path, with_start(kind, overrides, start_from))
    source = getattr(config, "start_from", None)
    if source not in (None, SHIPPED) and not Path(source).is_dir():
        raise ConfigError(
            f"There is no folder {source} to start from; give a run folder, an exported model or "
            f"`{SHIPPED}`."
        )
    if getattr(config, "lora", None) is not None:
        require_peft()
    if data:
        for corpus in getattr(config, "data", []):
            require_manifest(Path(corpus.manifest))
        for folder in getattr(config, "shards", []):
            require_dataset(Path(folder))


def read_recipe(kind: str, path: Path, overrides: list[str]) -> Strict:
    """The recipe of a kind of training; arguments and errors as for `read_run_config`.

    Raises:
        ConfigError: Also if there is no such kind.
    """
    if kind not in RECIPES:
        raise no_such_kind(kind)
    if kind in PREDICTS:
        return read_transmission(kind, path, overrides)
    return read_run_config(path, overrides, RECIPES[kind])


def read_transmission(kind: str, path: Path, overrides: list[str]) -> TransmissionTraining:
    """The recipe of `entropy` or `fine`; arguments and errors as for `read_run_config`.

    Raises:
        ConfigError: Also if it predicts other books than `kind` does.
    """
    recipe = read_run_config(path, overrides, TransmissionTraining)
    if recipe.predicts != PREDICTS[kind]:
        theirs = next(name for name, books in PREDICTS.items() if books == recipe.predicts)
        raise ConfigError(
            f"{path} is a recipe for `train {theirs}`, not for `train {kind}`: "
            f"it predicts the {recipe.predicts} books."
        )
    return recipe


def with_start(kind: str, overrides: list[str], start_from: str | None) -> list[str]:
    """The overrides, with `start_from` among them if it is given.

    Raises:
        ConfigError: If this kind of training starts untrained.
    """
    if start_from is None:
        return overrides
    if "start_from" not in RECIPES[kind].model_fields:
        raise ConfigError(f"`train {kind}` starts untrained; leave out --from.")
    return [*overrides, f"start_from={json.dumps(start_from)}"]  # JSON is YAML


def require_peft() -> None:
    """Refuse to go on without peft.

    Raises:
        MissingExtra: If it is not installed.
    """
    if find_spec("peft") is None:
        raise MissingExtra(
            "Training with `lora` needs peft; install it with: pip install -e '.[lora]' in a checkout."
        )


def no_such_kind(kind: str) -> ConfigError:
    """What to raise for a kind of training that there is not."""
    *names, last = RECIPES
    return ConfigError(f"There is no training {kind!r}; choose {', '.join(names)} or {last}.")
