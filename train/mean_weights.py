"""Means of the weights of several runs, as `speechlm export --mean-with` writes them.

Runs that began at the same weights lie close enough together for the mean of their ends to be a model, often
a better one than either: model soups (Wortsman et al. 2022). A mean is to be measured like a run of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import ConfigError

# Of a configuration, what does not change what weights mean.
_ABOUT = {"_name_or_path", "transformers_version", "dtype", "architectures"}


def parse_shares(others: Sequence[str]) -> list[tuple[Path, float]]:
    """Runs of `--mean-with`, each with its share of the mean.

    Args:
        others: `RUN` or `RUN=SHARE`. Either all have shares or none, and then all runs, the first
            one too, weigh the same.

    Raises:
        ConfigError: If a share is no number above 0, some lack one, or nothing is left for the
            first run.
    """
    parted = [_part(other) for other in others]
    shares = [share for _, share in parted]
    if all(share is None for share in shares):
        return [(run, 1 / (1 + len(parted))) for run, _ in parted]
    given = [share for share in shares if share is not None]
    if len(given) < len(shares):
        raise ConfigError("Some runs of --mean-with have a share and some none; give one to each.")
    if not sum(given) < 1:
        raise ConfigError(
            f"The shares of --mean-with add up to {sum(given):g}; leave some of 1 for the first run."
        )
    return [(run, share) for (run, _), share in zip(parted, given, strict=True)]


def _part(other: str) -> tuple[Path, float | None]:
    name, sign, share = other.rpartition("=")
    if not sign or Path(other).exists():  # a folder may have such a name
        return Path(other), None
    try:
        value = float(share)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise ConfigError(
            f"--mean-with {other}: a share is a number between 0 and 1, as in RUN=0.3."
        )
    return Path(name), value


@torch.no_grad()
def mix_into(model: PreTrainedModel, others: Sequence[tuple[PreTrainedModel, float, str]]) -> None:
    """Make a model's weights the weighted mean of its own and others'; its own share is the rest of 1.

    Weights that are the same everywhere stay bit for bit what they are, so that a codec whose decoder
    alone was trained keeps its codes.

    Args:
        model: Changed in place.
        others: Model, share, and its name in messages.

    Raises:
        ConfigError: If another model is not of the same shape and configuration.
    """
    for other, _, name in others:
        _require_alike(model, other, name)
    total = 1 - sum(share for _, share, _ in others)
    state: dict[str, Tensor] = model.state_dict()
    for other, share, _ in others:
        total += share
        for name, value in other.state_dict().items():
            if value.is_floating_point():
                state[name].lerp_(value.to(state[name]), share / total)


def _require_alike(model: PreTrainedModel, other: PreTrainedModel, name: str) -> None:
    ours, theirs = (
        {k: v for k, v in m.config.to_dict().items() if k not in _ABOUT} for m in (model, other)
    )
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            raise ConfigError(
                f"{name} cannot be averaged with the first run: its {key} is {theirs.get(key)!r}, "
                f"not {ours.get(key)!r}."
            )
