"""`speechlm train`: from a configuration file to a run folder."""

from __future__ import annotations

import json
from pathlib import Path

from accelerate.utils import parse_flag_from_env

from ..errors import ConfigError
from .config import AlignerTraining, CodecTraining, LanguageModelTraining, read_run_config
from .describe import (
    CodecDescription,
    LanguageModelDescription,
    describe_aligner,
    describe_codec,
    describe_language_model,
)
from .loop import Trainer
from .rival import NO_DEEPSPEED

_NO_SUCH_KIND = "There is no training {!r}; choose codec, slm or aligner."


def run_training(
    kind: str,
    config: Path,
    overrides: list[str],
    run: Path | None = None,
    start_from: str | None = None,
) -> Path:
    """Train what `config` describes, or go on where the run folder stands.

    Args:
        kind: `codec`, `slm` or `aligner`.
        config: A YAML file; see `configs/`.
        overrides: `key.path=value`, applied to the file.
        run: Run folder; None takes `runs/<name of the file>`.
        start_from: Run folder, model folder or `shipped` to take the first weights from; not for an
            aligner.

    Returns:
        The run folder.

    Raises:
        ConfigError: If the configuration is refused or the folder holds another run.
    """
    folder = run if run is not None else Path("runs") / config.stem
    overrides = _with_start(kind, overrides, start_from)
    if kind == "codec":
        from .codec import CodecTask

        settings = read_run_config(config, overrides, CodecTraining)
        # before hours of packing audio, which the task begins with
        if settings.adversarial and parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"):
            raise ConfigError(NO_DEEPSPEED)
        task = CodecTask(settings)
        rival = None if task.adversary is None else (task.adversary, task.adversary.settings)
        Trainer(task, settings, settings.run, kind, folder, rival).run()
    elif kind == "slm":
        from .slm import LanguageModelTask

        asked = read_run_config(config, overrides, LanguageModelTraining)
        Trainer(LanguageModelTask(asked), asked, asked.run, kind, folder).run()
    elif kind == "aligner":
        from .aligner import AlignerTask

        wanted = read_run_config(config, overrides, AlignerTraining)
        Trainer(AlignerTask(wanted), wanted, wanted.run, kind, folder).run()
    else:
        raise ConfigError(_NO_SUCH_KIND.format(kind))
    return folder


def describe_training(
    kind: str, config: Path, overrides: list[str], start_from: str | None = None
) -> CodecDescription | LanguageModelDescription:
    """What `run_training` would train, built and counted; nothing is written.

    Args:
        kind, config, overrides, start_from: As in `run_training`. A codec needs no data for this, the
            others need their shards.

    Raises:
        ConfigError: If the configuration is refused.
    """
    overrides = _with_start(kind, overrides, start_from)
    if kind == "codec":
        return describe_codec(read_run_config(config, overrides, CodecTraining))
    if kind == "slm":
        return describe_language_model(read_run_config(config, overrides, LanguageModelTraining))
    if kind == "aligner":
        return describe_aligner(read_run_config(config, overrides, AlignerTraining))
    raise ConfigError(_NO_SUCH_KIND.format(kind))


def _with_start(kind: str, overrides: list[str], start_from: str | None) -> list[str]:
    if start_from is None:
        return overrides
    if kind == "aligner":
        raise ConfigError("--from takes codecs and language models; an aligner starts untrained.")
    return [*overrides, f"start_from={json.dumps(start_from)}"]  # JSON is YAML
