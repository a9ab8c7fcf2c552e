"""`speechlm export`: from a run folder to a model folder that anyone can load."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from transformers import PreTrainedModel

from ..errors import ConfigError
from ..slm.aligner import AlignerModel
from ..slm.autoregressive import AutoregressiveModel
from ..slm.nonautoregressive import NonAutoregressiveModel
from ..tokenizer.codec import CodecModel
from ..tokenizer.files import write_atomically
from ..tokenizer.model_folder import config_from_mapping, fingerprint, load_model, save_model
from ..tokenizer.processing import CodecFeatureExtractor
from ..tokenizer.storage import Storage
from ..transmission.entropy_model import EntropyModel
from ..transmission.fine_model import FineModel
from ..transmission.frame_model import FrameModel
from ..transmission.integer_quantize import quantize, quantize_masked
from ..transmission.masked_model import MaskedModel
from .adapters import add_adapters, merge_adapters, save_adapters
from .checkpoint import RunFolder
from .config import LoraSettings
from .mean_weights import mix_into, parse_shares

_VOICES = (
    "Voices: speak in a person's voice only with that person's consent, and say that the speech is "
    "synthetic.\n"
)


def export_run(
    run: Path, out: Path, storage: Storage = "half", mean_with: Sequence[str] = ()
) -> None:
    """Write a run's averaged weights, with a card: the newest, or with `run.keep_best` the best.

    Args:
        run: Folder of `speechlm train`.
        out: Folder for `config.json`, `model.safetensors`, `README.md`, for a codec
            `preprocessor_config.json`, for an entropy, fine or masked model `integer.safetensors`,
            which coders run, and for a run with LoRA, whose weights are merged, `adapter/` with the
            adapters alone.
        storage: How the weights lie in the file (`tokenizer/storage.py`).
        mean_with: Runs whose weights the exported ones are the mean with, `RUN` or `RUN=SHARE`.

    Raises:
        ConfigError: If a folder has no checkpoint, a codec is to be stored in 8 bits, or runs
            cannot be averaged.
        CorruptWeights: If weights that coders run cannot be written in integers.
    """
    files = RunFolder(run)
    others = parse_shares(mean_with)
    model, step = _restored(run)
    asked = _asked(files)
    if (lora := _lora(asked)) is not None:
        if not others:  # a mean has no adapters of its own
            save_adapters(model, lora, out / "adapter")
        merge_adapters(model)
    mix_into(model, [(averaged_model(other)[0], share, str(other)) for other, share in others])
    if isinstance(model, CodecModel) and storage == "int8":
        raise ConfigError(
            "A codec's codes are those of its exact weights; store it in half precision or float32."
        )
    save_model(model, out, storage)
    if isinstance(model, CodecModel):
        extractor = CodecFeatureExtractor(
            sampling_rate=model.config.sampling_rate, hop_length=model.config.hop_length
        )
        extractor.save_pretrained(str(out))
    note = _VOICES
    if isinstance(model, FrameModel | MaskedModel):
        integers = quantize(model) if isinstance(model, FrameModel) else quantize_masked(model)
        integers.save(out)
        note = f"Coders run the weights in integers, {integers.fingerprint}.\n"
    stored = load_model(out, type(model))
    card = _card(asked, stored, step, files, others) + note
    write_atomically(out / "README.md", card.encode())


def averaged_model(run: Path) -> tuple[PreTrainedModel, int]:
    """The averaged weights that a run exports, in evaluation mode, and their step.

    Adapters are merged.

    Raises:
        ConfigError: If the folder has no checkpoint.
    """
    model, step = _restored(run)
    if _lora(_asked(RunFolder(run))) is not None:
        merge_adapters(model)
    return model, step


def _restored(run: Path) -> tuple[PreTrainedModel, int]:
    """The same with its adapters as they were trained."""
    files = RunFolder(run)
    latest = files.latest() if files.checkpoints.is_dir() else None
    if latest is None or not files.config.is_file():
        raise ConfigError(f"{run} has no checkpoint; give a folder that `speechlm train` wrote.")
    model = _model(run)
    if (lora := _lora(_asked(files))) is not None:
        add_adapters(model, lora)
    # what is averaged comes from the averages; buffers, such as codebooks, from the model itself
    state = load_file(latest / "model.safetensors")
    if _asked(files)["run"].get("keep_best") and files.best.is_file():
        model.load_state_dict(state | load_file(files.best))
        return model.eval(), files.best_of_all()[0]
    model.load_state_dict(state | load_file(latest / "averages.safetensors"))
    progress = json.loads((latest / "progress.json").read_text(encoding="utf-8"))
    return model.eval(), int(progress["step"])


def _asked(files: RunFolder) -> dict[str, Any]:
    asked: dict[str, Any] = json.loads(files.config.read_text(encoding="utf-8"))
    return asked


def _lora(asked: dict[str, Any]) -> LoraSettings | None:
    return LoraSettings(**asked["lora"]) if asked.get("lora") else None


def _model(run: Path) -> PreTrainedModel:
    """An untrained model as the run describes it."""
    raw: dict[str, Any] = json.loads((run / "model.json").read_text(encoding="utf-8"))
    model_classes: tuple[type[Any], ...] = (
        CodecModel,
        AutoregressiveModel,
        NonAutoregressiveModel,
        AlignerModel,
        EntropyModel,
        FineModel,
        MaskedModel,
    )
    for model_class in model_classes:
        if raw.get("model_type") == model_class.config_class.model_type:
            return model_class(
                config_from_mapping(raw, model_class.config_class, f"{run}/model.json")
            )
    raise ConfigError(f"{run}/model.json names no model of speechlm; train again.")


def _card(
    asked: dict[str, Any],
    model: PreTrainedModel,
    step: int,
    files: RunFolder,
    others: Sequence[tuple[Path, float]],
) -> str:
    """What a stranger must know: what it is, what it was trained on, its last figures, its limits."""
    if isinstance(model, CodecModel):
        revision = model.identity.revision
    else:
        revision = fingerprint(model.state_dict())
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    lines = (
        files.metrics.read_text(encoding="utf-8").splitlines() if files.metrics.is_file() else []
    )
    records = [record for record in map(json.loads, lines) if record["split"] == "valid"]
    figures = next(
        (each for each in records if each["step"] == step), records[-1] if records else {}
    )
    data = asked.get("shards") or [Path(each["manifest"]).parent for each in asked.get("data", [])]
    # two parts of a path tell data apart and say little of whose machine it was
    sources = Counter("/".join(Path(folder).parts[-2:]) for folder in data)
    read = ", ".join(f"{n} times {name}" if n > 1 else name for name, n in sources.items())
    rows = "\n".join(f"| {k} | {v:.4g} |" for k, v in figures.items() if k != "split")
    base = asked.get("start_from")
    tuned = ""
    if base:
        name = "the shipped weights" if base == "shipped" else Path(base).name
        by = f" (LoRA of rank {asked['lora']['rank']}, merged)" if asked.get("lora") else ""
        tuned = f"Fine-tuned from: {name}{by}.\n\n"
    if others:
        named = ", ".join(f"{share:.3g} of {run.name}" for run, share in others)
        tuned += (
            f"These weights are the mean of this run's and others' ({named}); the figures are this "
            "run's alone.\n\n"
        )
    return (
        f"# {model.config.model_type}\n\n"
        f"{parameters:.1f} M parameters, {step} steps, exported by speechlm; "
        f"weights {revision}.\n\n"
        f"Trained on: {read}.\n\n"
        f"{tuned}"
        f"| held-out figure | value |\n|---|---|\n{rows}\n\n"
    )
