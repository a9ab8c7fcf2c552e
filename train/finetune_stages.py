"""`speechlm finetune`, stage by stage: the functions behind five commands, one after the other.

Each goes on where it stopped, as it does by its own command. The run folder is named after the data and
the recipe, so that more recordings or other settings train anew, and more steps go on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from ..data_prep.align import MIN_MARGIN, align_shards
from ..data_prep.align_summary import UNALIGNED_NAME
from ..data_prep.manifest import read_manifest
from ..data_prep.output import counted
from ..data_prep.prepare import prepare_corpus
from ..data_prep.shards import TokenShards
from ..data_prep.tokenize import tokenize_manifest
from ..errors import CorpusError
from ..slm.aligner import load_aligner
from ..slm.phonemes import EspeakPhonemes
from ..slm.text import TextFrontEnd
from ..tokenizer.codec import load_codec
from .checkpoint import RunFolder
from .export import export_run
from .finetune import FineTuning
from .loop import RESUMABLE
from .run import run_training

MIN_SECONDS = 60.0
_PROMPT_SECONDS = 4.0


def fine_tune(
    plan: FineTuning,
    *,
    front_end: TextFrontEnd | None = None,
    min_seconds: float = MIN_SECONDS,
    min_margin: float = MIN_MARGIN,
    tell: Callable[[str], None] = lambda line: None,
    progress: bool = True,
) -> Path:
    """Prepare, tokenize, align, train and export; run again to go on.

    Args:
        plan: What is asked.
        front_end: Writes the phonemes; espeak-ng in American English if None.
        min_seconds: Refuse to train on less speech.
        min_margin: As `align_shards` takes it.
        tell: Hears a line when a stage begins, and one of what it found.
        progress: Show bars.

    Returns:
        The folder of the models, which `Speaker.from_pretrained` and `say --model` take.

    Raises:
        SpeechLMError: As `FineTuning.check` and the functions of the stages.
        MissingExtra: If espeak-ng is to write the phonemes and is not installed.
        CorpusError: If too little speech is there, or too little is left after a stage.
    """
    plan.check()
    front_end = front_end or EspeakPhonemes()
    codec_folder = next((path for path in plan.companions() if path.name == "codec"), None)
    codec = load_codec(codec_folder)
    aligner = load_aligner(plan.aligner, codec.identity, "The codec of these models")

    tell(f"1 of 5: prepare {plan.recordings}")
    prepared = prepare_corpus(
        plan.entries(),
        plan.work / "data",
        max_seconds=plan.settings().max_seconds,
        require_phonemes=True,
        front_end=front_end,
        progress=progress,
    )
    tell(
        f"  {sum(prepared.seconds.values()) / 3600:.2f} h in "
        f"{counted(sum(prepared.utterances.values()), 'recording')}, "
        f"{sum(prepared.rejected.values())} rejected"
        + (f"; see {prepared.manifest.parent / 'rejected.jsonl'}" if prepared.rejected else "")
    )
    if prepared.speakers["train"] == 1:
        tell("  one speaker; if there are more, give each a sub-folder")
    _require_speech(prepared.seconds, min_seconds, f"{plan.recordings} holds")

    unaligned = plan.work / "unaligned"
    tell(f"2 of 5: tokenize with the codec {codec.identity.codec_id}")
    made = tokenize_manifest(prepared.manifest, unaligned, codec=codec, progress=progress)
    tell(f"  {counted(made.rows, 'utterance')} in {counted(made.num_frames, 'frame')}")

    tell("3 of 5: align phonemes with frames")
    aligned = align_shards(
        unaligned, plan.tokens, aligner, min_margin=min_margin, progress=progress
    )
    refused = aligned.rows - aligned.aligned - aligned.kept
    tell(
        f"  {aligned.aligned + aligned.kept} aligned, {refused} refused"
        + (f"; see {plan.tokens / UNALIGNED_NAME}" if refused else "")
    )
    seconds = _aligned_seconds(plan.tokens)
    _require_speech(
        seconds,
        min_seconds,
        f"Aligned with their transcripts ({plan.tokens / UNALIGNED_NAME} names the others) are",
    )

    plan = plan.paced(round(seconds["train"] * codec.identity.frame_rate_hz))
    run = _run_folder(plan)
    tell(f"4 of 5: train {'adapters' if plan.lora else 'all weights'} in {run}")
    run_training("slm", plan.recipe, plan.changes(), run, plan.source)
    tell(f"  {_figures(run)}")

    tell(f"5 of 5: export to {plan.out}")
    shutil.rmtree(plan.out / "ar" / "adapter", ignore_errors=True)  # of another run
    export_run(run, plan.out / "ar")
    for companion in plan.companions():
        shutil.copytree(companion, plan.out / companion.name, dirs_exist_ok=True)
    prompt = _some_prompt(prepared.manifest)
    tell(f'  speechlm say "Any sentence." --model {plan.out} --prompt {prompt} --out out.wav')
    return plan.out


def _require_speech(seconds: dict[str, float], least: float, where: str) -> None:
    train, valid = seconds.get("train", 0.0), seconds.get("valid", 0.0)
    if train < least or not valid:
        raise CorpusError(
            f"{where} {train:.0f} s to train on and {valid:.0f} s held out to validate on; at least "
            f"{least:.0f} s to train on and one recording held out are needed: add transcribed speech."
        )


def _aligned_seconds(tokens: Path) -> dict[str, float]:
    """Seconds with durations by split."""
    shards = TokenShards(tokens)
    rows = (shards.row(index) for index in range(len(shards)))
    seconds: dict[str, float] = {}
    for row in rows:
        if len(row.durations):
            length = row.num_frames / shards.identity.frame_rate_hz
            seconds[row.split] = seconds.get(row.split, 0.0) + length
    return seconds


def _run_folder(plan: FineTuning) -> Path:
    """Where these data are trained on with this recipe, whatever its length."""
    asked = plan.settings().model_dump(mode="json")
    asked["run"] = {key: value for key, value in asked["run"].items() if key not in RESUMABLE}
    asked["shards"] = TokenShards(plan.tokens).fingerprint
    name = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]
    return plan.work / f"{plan.recipe.stem}-{name}"


def _figures(run: Path) -> str:
    """The first and the latest held-out loss of a run, and that of the weights it exports, in words."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    found = [record for record in map(json.loads, lines) if record["split"] == "valid"]
    if not found:
        return "no step was validated"
    shown = {record["step"]: record["loss"] for record in (found[0], found[-1])}
    files = RunFolder(run)  # without keep_best, or of an earlier version, it has no best weights
    step, loss = (
        files.best_of_all() if files.best.is_file() else (found[-1]["step"], found[-1]["loss"])
    )
    told = ", ".join(f"{each:.3f} at step {number}" for number, each in shown.items())
    return f"held-out loss {told}; {loss:.3f} at step {step}, which is exported"


def _some_prompt(manifest: Path) -> Path:
    """The recording whose length suits a prompt best."""
    utterances = read_manifest(manifest)
    return min(utterances, key=lambda each: abs(each.seconds - _PROMPT_SECONDS)).audio
