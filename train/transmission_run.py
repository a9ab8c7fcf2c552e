"""`speechlm train entropy|fine`, and what becomes of such a run: an integer model to share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from ..errors import ConfigError
from ..tokenizer.files import write_atomically
from ..tokenizer.model_folder import config_from_mapping, save_model
from ..transmission.config import EntropyConfig, FineConfig
from ..transmission.entropy_model import EntropyModel
from ..transmission.fine_model import FineModel
from ..transmission.frame_model import FrameModel
from ..transmission.integer_quantize import quantize
from .checkpoint import RunFolder
from .config import read_run_config
from .describe import LanguageModelDescription, Part
from .loop import Trainer
from .transmission import TransmissionTask
from .transmission_recipe import TransmissionTraining

KINDS = {"entropy": "base", "fine": "fine"}


def train_transmission(
    kind: str, config: Path, overrides: list[str], run: Path | None = None
) -> Path:
    """Train what `config` describes, or go on where the run folder stands.

    Args:
        kind: `entropy` or `fine`.
        config: A YAML file; see `configs/`.
        overrides: `key.path=value`, applied to the file.
        run: Run folder; None takes `runs/<name of the file>`.

    Returns:
        The run folder.

    Raises:
        ConfigError: If the configuration is refused or the folder holds another run.
    """
    settings = _recipe(kind, config, overrides)
    folder = run if run is not None else Path("runs") / config.stem
    Trainer(TransmissionTask(settings), settings, settings.run, kind, folder).run()
    return folder


def describe_transmission(
    kind: str, config: Path, overrides: list[str]
) -> LanguageModelDescription:
    """What `train_transmission` would train, built and counted; nothing is written.

    Raises:
        ConfigError: If the configuration is refused.
    """
    settings = _recipe(kind, config, overrides)
    task = TransmissionTask(settings)
    sizes = {
        name: sum(parameter.numel() for parameter in child.parameters())
        for name, child in task.model.named_children()
    }
    return LanguageModelDescription(
        stage=kind,
        codec_id=task.model.config.codec_id,
        num_utterances=len(task.rows),
        parts=tuple(Part(name, size) for name, size in sizes.items() if size),
        batch_frames=settings.batch_frames,
    )


def is_transmission_run(run: Path) -> bool:
    """Whether a run folder is one of `train entropy` or `train fine`."""
    path = RunFolder(run).config
    try:
        return path.is_file() and json.loads(path.read_text(encoding="utf-8"))["kind"] in KINDS
    except (ValueError, KeyError, TypeError):
        return False


def averaged_frame_model(run: Path) -> tuple[FrameModel, int]:
    """The averaged weights of a run's newest checkpoint, in evaluation mode, and its step.

    Raises:
        ConfigError: If the folder has no checkpoint, or is another kind of run.
    """
    files = RunFolder(run)
    latest = files.latest() if files.checkpoints.is_dir() else None
    if latest is None or not is_transmission_run(run):
        raise ConfigError(
            f"{run} has no checkpoint of an entropy or fine model; give a folder that "
            "`speechlm train entropy` or `speechlm train fine` wrote."
        )
    raw: dict[str, Any] = json.loads((run / "model.json").read_text(encoding="utf-8"))
    where = f"{run}/model.json"
    model: FrameModel
    if raw.get("model_type") == EntropyConfig.model_type:
        model = EntropyModel(config_from_mapping(raw, EntropyConfig, where))
    else:
        model = FineModel(config_from_mapping(raw, FineConfig, where))
    state = load_file(latest / "model.safetensors") | load_file(latest / "averages.safetensors")
    model.load_state_dict(state)
    progress = json.loads((latest / "progress.json").read_text(encoding="utf-8"))
    return model.eval(), int(progress["step"])


def export_transmission(run: Path, out: Path) -> None:
    """Write a run's model in integers, which coders run, and in half precision, to train on.

    Args:
        run: Folder of `speechlm train entropy` or `fine`.
        out: Folder for `config.json`, `integer.safetensors`, `model.safetensors` and `README.md`.

    Raises:
        ConfigError: If the folder has no checkpoint.
        CorruptWeights: If the weights cannot be written in integers.
    """
    model, step = averaged_frame_model(run)
    integers = quantize(model)
    save_model(model, out)
    integers.save(out)
    card = _card(model, integers.fingerprint, step, RunFolder(run))
    write_atomically(out / "README.md", card.encode())


def _recipe(kind: str, config: Path, overrides: list[str]) -> TransmissionTraining:
    settings = read_run_config(config, overrides, TransmissionTraining)
    if KINDS.get(kind) != settings.predicts:
        theirs = next(name for name, books in KINDS.items() if books == settings.predicts)
        raise ConfigError(
            f"{config} is a recipe for `train {theirs}`, not for `train {kind}`: "
            f"it predicts the {settings.predicts} books."
        )
    return settings


def _card(model: FrameModel, revision: str, step: int, files: RunFolder) -> str:
    """What a stranger must know: what it is, what it was trained on, its last figures."""
    asked = json.loads(files.config.read_text(encoding="utf-8"))
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    lines = (
        files.metrics.read_text(encoding="utf-8").splitlines() if files.metrics.is_file() else []
    )
    figures = [record for record in map(json.loads, lines) if record["split"] == "valid"]
    rows = "\n".join(
        f"| {name} | {value:.4g} |"
        for name, value in (figures[-1] if figures else {}).items()
        if name != "split"
    )
    sources = ", ".join(Path(source).parent.name or source for source in asked["shards"])
    config = model.config
    return (
        f"# {config.model_type}\n\n"
        f"{parameters:.2f} M parameters, {step} steps, exported by speechlm; integer weights "
        f"{revision}, for codes of {config.codec_id} revision {config.codec_revision}.\n\n"
        f"Trained on: {sources}.\n\n"
        f"| held-out figure, floating point | value |\n|---|---|\n{rows}\n"
    )
