"""`speechlm train`: from a configuration file to a run folder."""

from __future__ import annotations

from pathlib import Path

from accelerate.utils import parse_flag_from_env

from ..errors import ConfigError
from .codec_recipe import CodecTraining
from .config import AlignerTraining, LanguageModelTraining, MaskedTraining, read_run_config
from .describe import (
    CodecDescription,
    LanguageModelDescription,
    describe_aligner,
    describe_codec,
    describe_language_model,
    describe_masked,
    describe_transmission,
)
from .loop import Trainer
from .recipe import PREDICTS, no_such_kind, read_transmission, with_start
from .rival import NO_DEEPSPEED
from .sharded import quiet_deepspeed


def run_training(
    kind: str,
    config: Path,
    overrides: list[str],
    run: Path | None = None,
    start_from: str | None = None,
) -> Path:
    """Train what `config` describes, or go on where the run folder stands.

    Args:
        kind: `codec`, `slm`, `aligner`, `entropy`, `fine` or `masked`.
        config: A YAML file; see `configs/`.
        overrides: `key.path=value`, applied to the file.
        run: Run folder; None takes `runs/<name of the file>`.
        start_from: Run folder, model folder or `shipped` to take the first weights from; for codecs and
            language models.

    Returns:
        The run folder.

    Raises:
        ConfigError: If the configuration is refused or the folder holds another run.
    """
    quiet_deepspeed()
    folder = run if run is not None else Path("runs") / config.stem
    overrides = with_start(kind, overrides, start_from)
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
    elif kind in PREDICTS:
        from .transmission import TransmissionTask

        recipe = read_transmission(kind, config, overrides)
        Trainer(TransmissionTask(recipe), recipe, recipe.run, kind, folder).run()
    elif kind == "masked":
        from .masked import MaskedTask

        sought = read_run_config(config, overrides, MaskedTraining)
        Trainer(MaskedTask(sought), sought, sought.run, kind, folder).run()
    else:
        raise no_such_kind(kind)
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
    overrides = with_start(kind, overrides, start_from)
    if kind == "codec":
        return describe_codec(read_run_config(config, overrides, CodecTraining))
    if kind == "slm":
        return describe_language_model(read_run_config(config, overrides, LanguageModelTraining))
    if kind == "aligner":
        return describe_aligner(read_run_config(config, overrides, AlignerTraining))
    if kind in PREDICTS:
        return describe_transmission(kind, read_transmission(kind, config, overrides))
    if kind == "masked":
        return describe_masked(read_run_config(config, overrides, MaskedTraining))
    raise no_such_kind(kind)
