"""`speechlm finetune`: what is asked of it, and what can be said against that before a model is loaded.

`finetune_stages.py` does it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ..data_prep.output import require_results_folder
from ..data_prep.readers import Recording, Rejection, read_corpus
from ..data_prep.splits import assign_splits
from ..errors import ConfigError, CorpusError
from ..slm.shipped import shipped_models
from ..tokenizer.paths import require_model_folder
from .config import RECIPE_FOLDER, SHIPPED, LanguageModelTraining, read_run_config
from .recipe import check_recipe, with_start

VALID_SHARE = 0.1
ONE_SPEAKER = "speaker"  # where nobody is named
_COMPANIONS = ("nar", "codec")
_MOST_PASSES = 30  # over the data: of two minutes, held-out loss was higher after 100 than after 50


@dataclass(frozen=True)
class FineTuning:
    """What a fine-tuning is made of.

    Attributes:
        recordings: A corpus as `prepare` reads it, with transcripts.
        out: Folder of the models that speak then; `work/` in it holds what is between.
        lora: Train adapters (`configs/ar-lora.yaml`) and not all weights (`configs/ar-finetune.yaml`).
        steps: Steps of training; the recipe's if None, fewer where data are few (`paced`).
        overrides: `key.path=value` for the training recipe.
        start_from: Folder of the models to start from, as `say --model` takes it; None for what ships.
        aligner: Folder of an aligner for their codec; None for what ships.
    """

    recordings: str
    out: Path
    lora: bool = False
    steps: int | None = None
    overrides: tuple[str, ...] = ()
    start_from: Path | None = None
    aligner: Path | None = None

    @property
    def work(self) -> Path:
        """Where everything lies that is not spoken with."""
        return self.out / "work"

    @property
    def tokens(self) -> Path:
        """The aligned token dataset."""
        return self.work / "tokens"

    @property
    def recipe(self) -> Path:
        """The training recipe, one of those that are installed with the package."""
        name = "ar-lora.yaml" if self.lora else "ar-finetune.yaml"
        return RECIPE_FOLDER / name

    @property
    def source(self) -> str:
        """What the training starts from, as `--from` takes it."""
        return SHIPPED if self.start_from is None else str(self.start_from)

    def changes(self) -> list[str]:
        """Overrides of the recipe: fewer steps cool down over their second half, data come last."""
        steps = []
        if self.steps is not None:
            cooldown = self._read(self.overrides).run.cooldown_steps
            steps = [
                f"run.total_steps={self.steps}",
                f"run.cooldown_steps={min(cooldown, self.steps // 2)}",
            ]
        # JSON is YAML
        return [*self.overrides, *steps, f"shards={json.dumps([str(self.tokens)])}"]

    def paced(self, num_frames: int) -> FineTuning:
        """The same with the steps of 30 passes over so many frames, if they are fewer and none are asked."""
        if self.steps is not None or any("run.total_steps" in each for each in self.overrides):
            return self
        recipe = self.settings()
        steps = math.ceil(_MOST_PASSES * num_frames / recipe.batch_frames)
        return replace(self, steps=min(steps, recipe.run.total_steps))

    def settings(self) -> LanguageModelTraining:
        """The recipe with all changes.

        Raises:
            ConfigError: If it is refused.
        """
        return self._read(with_start("slm", self.changes(), self.source))

    def _read(self, overrides: tuple[str, ...] | list[str]) -> LanguageModelTraining:
        return read_run_config(self.recipe, list(overrides), LanguageModelTraining)

    def companions(self) -> list[Path]:
        """Folders of the models that speak beside the one that is trained, and stay as they are."""
        folder = shipped_models() if self.start_from is None else self.start_from
        return [folder / name for name in _COMPANIONS if (folder / name).is_dir()]

    def check(self) -> None:
        """Refuse what cannot be trained, as far as that is known without torch.

        Raises:
            ConfigError: If the recipe is refused, or a folder cannot serve.
            CorpusError: If there is no recording with a transcript.
            CorruptWeights: If a model folder does not exist.
            MissingExtra: If adapters are asked for and peft is not installed.
        """
        require_results_folder(self.out)
        require_model_folder(self.start_from)
        require_model_folder(self.aligner)
        check_recipe("slm", self.recipe, self.changes(), self.source, data=False)
        if self.settings().stage != "ar":
            raise ConfigError(
                "finetune trains the autoregressive model; `speechlm train slm` trains the other."
            )
        corpus = Path(self.recordings).resolve()
        if corpus in (self.out.resolve(), *self.out.resolve().parents):
            raise ConfigError(
                f"{self.out} lies in the folder of the recordings, which the next run would read; "
                "choose a folder outside of it."
            )
        _ = self.first_look

    @cached_property
    def first_look(self) -> tuple[dict[str, str], str]:
        """Id to split of every recording, and the speaker of those that the corpus names none for.

        A tenth of the recordings validates, unless the corpus parts them: the model is to learn all
        the voices there are, so that no speaker is held out as a whole. Where no recording has a
        speaker, all are taken for one person's, and each serves as a prompt for the others.

        Raises:
            ConfigError: As `read_corpus`.
            CorpusError: As `read_corpus`; and if no recording has a transcript.
        """
        found = [
            replace(entry, content=None)
            for entry in read_corpus(self.recordings)
            if isinstance(entry, Recording)
        ]
        if not any(recording.text for recording in found):
            count = f"{len(found)} recording{'s' * (len(found) > 1)} without"
            held = f"{count} a transcript" if found else "no recording with a transcript"
            raise CorpusError(
                f"{self.recordings} holds {held}; put a .txt of the same name "
                "beside each, or give a list with the columns audio and text."
            )
        splits = assign_splits([replace(each, speaker="") for each in found], VALID_SHARE, 0)
        is_named = any(recording.speaker for recording in found)
        ids = (recording.id for recording in found)
        return dict(zip(ids, splits, strict=True)), "" if is_named else ONE_SPEAKER

    def entries(self) -> Iterator[Recording | Rejection]:
        """The corpus, with a split for each recording and a speaker; raises as `first_look` does."""
        splits, speaker = self.first_look
        for entry in read_corpus(self.recordings):
            if isinstance(entry, Recording):
                split = splits.get(entry.id, "train")
                yield replace(entry, split=split, speaker=entry.speaker or speaker)
            else:
                yield entry
