"""Run configurations: strict, from YAML, with `--set key=value` on top."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import ConfigError
from .refusals import not_yaml, refusals

# Installed with the package.
RECIPE_FOLDER = Path(str(files(__package__.rpartition(".")[0]))) / "configs"
SHIPPED = "shipped"  # where a folder of weights is asked for: those that come with speechlm


class Strict(BaseModel):
    """A section of a run configuration: unknown keys are refused, values do not change.

    Attributes:
        KIND: What `speechlm train` is told for a recipe; None for a mere section.
    """

    KIND: ClassVar[str | None] = None
    model_config = ConfigDict(extra="forbid", frozen=True)


class RunSettings(Strict):
    """What every training has.

    Attributes:
        seed: Of everything random in the run.
        total_steps: Optimizer steps. A finished run goes on when this is raised.
        warmup_steps, cooldown_steps: Linear rise at the start, linear fall to zero at the end; the
            rate is constant between, so that a longer run repeats a shorter one up to its cooldown.
        schedule: `constant` is the above; `cosine` falls from the warm-up to zero at `total_steps`,
            which therefore stays as it is once the run has begun, and takes no `cooldown_steps`.
        optimizer: `adamw`, or `muon` for the hidden matrices (`train/muon.py`).
        learning_rate, betas, weight_decay, clip_norm: Of the optimizer, and gradient clipping.
        ema_decay: Of the averaged weights that are validated and exported.
        precision: `bf16` autocast (falls back to fp32, with a line in the log, where the processor
            has no fast bf16) or `fp32`.
        accumulation: Batches whose gradients make one step, on each rank.
        activation_checkpointing: Whether blocks keep only their inputs for the backward pass and are
            computed twice: less memory, the same numbers, about a third more time.
        num_threads: Of torch on a CPU; 0 leaves torch's choice.
        num_workers: Data loading processes; 0 loads in the training process.
        log_every, validate_every, checkpoint_every: Steps between.
        validate_first: Whether the weights are validated before the first step: what they can do
            where training goes on from others.
        keep_checkpoints: How many stay on disk.
        keep_best: Whether the averaged weights of the lowest held-out loss are kept, and exported in
            place of the newest: few data are soon learned by heart.
    """

    seed: int = 0
    total_steps: int = Field(1000, ge=1)
    warmup_steps: int = Field(100, ge=0)
    cooldown_steps: int = Field(0, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(0.01, ge=0)
    clip_norm: float = Field(1.0, gt=0)
    ema_decay: float = Field(0.999, ge=0, lt=1)
    precision: Literal["bf16", "fp32"] = "bf16"
    accumulation: int = Field(1, ge=1)
    activation_checkpointing: bool = False
    num_threads: int = Field(0, ge=0)
    num_workers: int = Field(0, ge=0)
    log_every: int = Field(20, ge=1)
    validate_every: int = Field(500, ge=1)
    validate_first: bool = False
    checkpoint_every: int = Field(500, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    keep_best: bool = False

    @model_validator(mode="after")
    def _one_way_down(self) -> RunSettings:
        if self.schedule == "cosine" and self.cooldown_steps:
            raise ValueError("schedule is cosine, which falls by itself, give cooldown_steps 0")
        return self


class LoraSettings(Strict):
    """Low-rank adapters (Hu et al. 2021), which are trained in place of the weights.

    Attributes:
        rank: r of the two factors of each update.
        alpha: The update is scaled by alpha / rank.
        dropout: Share of the adapters' inputs that training zeroes.
        targets: Linear layers that get adapters, by the end of their names.
    """

    rank: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: list[str] = Field(
        default=["query_key_value", "gate_and_value", "output"], min_length=1
    )


class LanguageModelTraining(Strict):
    """`speechlm train slm`.

    Attributes:
        stage: Which model is trained: `ar` or `nar`.
        model: Keys of the model's configuration; what the shards say (codec, books, codebook size)
            and the symbol table are filled in. Two keys are the recipe's own: `text_model`, the
            folder of `speechlm pieces` whose pieces the model reads, and `symbols: corpus`, which
            takes the symbol table from the phonemes of the shards.
        shards: Folders of token shards.
        batch_frames: Padded frames in one batch.
        prompt_seconds: Shortest and longest prompt drawn from another utterance of the speaker.
        fill_prompts: Whether a prompt without its transcript, cut from an utterance that is shorter than
            the length drawn, goes on with the speaker's utterances, as generation hears short
            prompts again (`prompt.heard_again`).
        prompt_text_share: Share of items whose prompt keeps its transcript.
        no_prompt_share: Share of items without a prompt.
        prompt_copies: Folders of token shards with copies of the same utterances in other rooms and
            before other microphones (`speechlm perturb --max-speed 1`). They are prompts only: behind
            them speaks the original, so that a prompt's noise is not taken for its voice.
        prompt_copy_share: Share of the prompts with copies that one of these takes the place of.
        prompt_loss: Whether prompt frames with their transcript count in the loss.
        attention_prior_steps: Last step of the full prior on attention that text is spoken in order,
            and first step without (`slm/attention_prior.py`); `[0, 0]` is none. For AR models without
            a pointer.
        max_seconds: Longer utterances are left out.
        max_damaged_share: Share of the rows that may be left out as damaged; see `TokenShards`.
        start_from: Run folder, exported model folder, or `shipped`, whose weights the run starts
            from; `--from` sets it.
        lora: Adapters that are trained in place of the weights of `start_from`.
        run: Settings of the run.
    """

    KIND = "slm"
    stage: Literal["ar", "nar"]
    model: dict[str, Any] = Field(default_factory=dict)
    shards: list[str]
    batch_frames: int = Field(4000, ge=1)
    prompt_seconds: tuple[float, float] = (2.0, 4.0)
    fill_prompts: bool = False
    prompt_text_share: float = Field(0.5, ge=0, le=1)
    no_prompt_share: float = Field(0.0, ge=0, le=1)
    prompt_copies: list[str] = Field(default_factory=list)
    prompt_copy_share: float = Field(0.5, ge=0, le=1)
    prompt_loss: bool = True
    attention_prior_steps: tuple[int, int] = (0, 0)
    max_seconds: float = Field(16.0, gt=0)
    max_damaged_share: float = Field(0.0, ge=0, le=1)
    start_from: str | None = None
    lora: LoraSettings | None = None
    run: RunSettings = RunSettings()

    @model_validator(mode="after")
    def _prior_fades(self) -> LanguageModelTraining:
        full, gone = self.attention_prior_steps
        if not 0 <= full <= gone:
            raise ValueError(
                f"attention_prior_steps is [{full}, {gone}], give two steps of which the second is no "
                "earlier, such as [200, 400], or [0, 0] for none"
            )
        return self


class AlignerTraining(Strict):
    """`speechlm train aligner`.

    Attributes:
        model: Keys of `AlignerConfig`; what the shards say (codec, books, codebook size) is filled in,
            and the symbols too: the English table and what else the phonemes hold.
        shards: Folders of token shards with phonemes; their durations are only measured against.
        batch_frames: Padded frames in one batch.
        max_seconds: Longer utterances are left out.
        context_steps: Steps between which symbols begin to hear their neighbours; before the first
            each is learned by itself, as recognisers learn monophones before triphones, and a belief
            that symbols lie evenly in time fades.
        run: Settings of the run.
    """

    KIND = "aligner"
    model: dict[str, Any] = Field(default_factory=dict)
    shards: list[str]
    batch_frames: int = Field(4000, ge=1)
    max_seconds: float = Field(20.0, gt=0)
    context_steps: tuple[int, int] = (250, 350)
    run: RunSettings = RunSettings()

    @model_validator(mode="after")
    def _context_arrives(self) -> AlignerTraining:
        start, full = self.context_steps
        if not 0 <= start < full <= self.run.total_steps:
            raise ValueError(
                f"context_steps is [{start}, {full}] and run.total_steps is {self.run.total_steps}, give "
                "two rising steps, the second within run.total_steps"
            )
        return self


class TransmissionTraining(Strict):
    """`speechlm train entropy` and `speechlm train fine`.

    Attributes:
        predicts: `base`, the books that are sent (entropy model), or `fine`, the others (fine model).
        model: Keys of the model's configuration; what the shards say (codec, books, codebook size) is
            filled in.
        shards: Folders of token shards.
        codec: Folder of the codec that made them, or `shipped`: codes begin as alike as its entries are
            (`FrameModel.take_codebooks`). None begins at random.
        start_from: Run folder, exported model folder, or `shipped`, whose weights the run starts
            from; `--from` sets it.
        batch_frames: Padded frames in one batch.
        crop_seconds: Longest training item, a random piece of an utterance. Streams begin anew every
            chunk, so pieces little longer than a chunk are what the entropy model will meet.
        context_seconds: Validation measures pieces of this length, each without a past: a chunk.
        run: Settings of the run.
    """

    KIND = "entropy|fine"
    predicts: Literal["base", "fine"]
    model: dict[str, Any] = Field(default_factory=dict)
    shards: list[str]
    codec: str | None = None
    start_from: str | None = None
    batch_frames: int = Field(4000, ge=1)
    crop_seconds: float = Field(2.0, gt=0)
    context_seconds: float = Field(1.0, gt=0)
    run: RunSettings = RunSettings()


class MaskedTraining(Strict):
    """`speechlm train masked`.

    Attributes:
        packet_frames: Most frames whose base codes a packet carries; fine codes are learned in packets
            of one frame up to these.
        model: Keys of the model's configuration; what the shards say (codec, books, codebook size) is
            filled in. Training items are as long as its `window`.
        shards: Folders of token shards.
        codec: Folder of the codec that made them, or `shipped`: codes begin as alike as its entries are,
            and validation measures errors of its latents. None begins at random and measures none.
        start_from: As for `TransmissionTraining`.
        batch_frames: Padded frames in one batch.
        run: Settings of the run.
    """

    KIND = "masked"
    packet_frames: int = Field(8, ge=1)
    model: dict[str, Any] = Field(default_factory=dict)
    shards: list[str]
    codec: str | None = None
    start_from: str | None = None
    batch_frames: int = Field(2000, ge=1)
    run: RunSettings = RunSettings()


_Config = TypeVar("_Config", bound=Strict)
# a key that only one kind of recipe has
_MARKS = {
    "data": "codec",
    "stage": "slm",
    "context_steps": "aligner",
    "predicts": "entropy|fine",
    "packet_frames": "masked",
}


def _find_recipe(path: Path) -> Path:
    """A file, or else one of the recipes that are installed with the package, by its name there."""
    if path.is_file():
        return path
    name = path.relative_to(RECIPE_FOLDER.name) if path.parts[:1] == (RECIPE_FOLDER.name,) else path
    if not (RECIPE_FOLDER / name).is_file():
        raise ConfigError(
            f"There is no recipe {path}; give a YAML file, or the name of one in {RECIPE_FOLDER}."
        )
    return RECIPE_FOLDER / name


def read_run_config(path: Path, overrides: list[str], kind: type[_Config]) -> _Config:
    """Read a YAML file, or a shipped recipe by name, and apply `key.path=value` overrides (YAML too).

    Raises:
        ConfigError: If the file is missing or not a mapping, is a recipe of another kind, an
            override has no `=`, or a key or value is refused; all refusals are named at once.
    """
    path = _find_recipe(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {not_yaml(error)}.") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} does not hold a mapping of keys to values.")
    for mark, theirs in _MARKS.items():
        if mark in raw and theirs != (asked := kind.KIND or theirs):
            raise ConfigError(
                f"{path} is a recipe for `train {theirs}`, not for `train {asked}`: "
                f"it has the key {mark}."
            )
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key:
            raise ConfigError(f"--set takes key=value, not {override!r}.")
        place: Any = raw
        *parents, last = key.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set {key}: {parent} is not a section.")
        try:
            place[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override} is not YAML: {not_yaml(error)}.") from error
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        given = " with " + ", ".join(overrides) if overrides else ""
        raise ConfigError(f"{path}{given} is refused: {refusals(error, kind)}.") from error
