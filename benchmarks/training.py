"""Times training steps of the codec: mel losses alone, and with the light discriminators.

    python benchmarks/training.py --json build/training-speed.json

Both recipes train in this process and take turns step by step, so that whatever else the machine does hits
both alike; the median step counts. A step is everything that a run repeats: loss, gradients of the codec
and of the discriminators, clipping, both optimizers, averaged weights. Cutting crops is left out (it is
another process's with `num_workers`). The recordings are made up; no step's cost depends on what it hears.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from speechlm.benchmarks.systems import speech_like
from speechlm.data_prep.prepare import prepare_corpus
from speechlm.tokenizer.audio import write_audio
from speechlm.tokenizer.memory import keep_freed_memory
from speechlm.train.batches import Draw
from speechlm.train.checkpoint import AveragedWeights
from speechlm.train.codec import CodecTask
from speechlm.train.codec_recipe import CodecTraining
from speechlm.train.config import read_run_config
from speechlm.train.loop import fast_bf16
from speechlm.train.rival import Rival, fuses

_CONFIGS = Path(__file__).resolve().parents[1] / "configs"
RECIPES = {"mel": "codec-16khz.yaml", "light": "codec-16khz-adversarial.yaml"}
_STEP = 100_000  # past the continuous phase, the start of the adversary and its ramp


class Stepper:
    """Repeats the step of one recipe on one batch.

    Args:
        recipe: File in configs/.
        folder: Prepared recordings, and room for packs.
        overrides: Changes to the recipe.
    """

    def __init__(self, recipe: str, folder: Path, overrides: list[str]) -> None:
        data = f"data=[{{manifest: {json.dumps(str(folder / 'manifest.jsonl'))}}}]"
        changes = [data, f"cache={json.dumps(str(folder / 'packs'))}", *overrides]
        config = read_run_config(_CONFIGS / recipe, changes, CodecTraining)
        settings = config.run
        torch.set_num_threads(settings.num_threads or torch.get_num_threads())
        torch.set_float32_matmul_precision("medium")
        self.task = CodecTask(config, progress=False)
        self.task.before_step(_STEP)
        self.seconds = self.task.max_total / self.task.model.config.sampling_rate
        bf16 = settings.precision == "bf16" and fast_bf16(torch.device("cpu"))
        self.accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no", cpu=True)
        optimizer = torch.optim.AdamW(
            self.task.model.parameters(), 1e-5, betas=settings.betas, fused=fuses(self.accelerator)
        )
        self.model, self.optimizer = self.accelerator.prepare(self.task.model, optimizer)
        self.model.train()
        self.averages = AveragedWeights(self.task.model, settings.ema_decay)
        adversary = self.task.adversary
        self.rival = (
            None
            if adversary is None
            else Rival(adversary, adversary.settings, settings, self.accelerator)
        )
        items = self.task.max_total // self.task.crop
        crops = [
            self.task.item(Draw(number % len(self.task.places), number)) for number in range(items)
        ]
        self.batch = self.task.collate(crops)
        self.clip_norm = settings.clip_norm

    def step(self) -> tuple[float, float]:
        """One step: seconds on the clock and of processor."""
        clock, processor = time.perf_counter(), time.process_time()
        with self.accelerator.autocast():
            loss, parts = self.task.loss(self.model, self.batch, _STEP)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.rival is not None:
            parts |= self.rival.learn(0)
        self.averages.update(self.task.model, _STEP)
        for value in parts.values():
            float(value.detach())
        return time.perf_counter() - clock, time.process_time() - processor


def recordings(folder: Path, sampling_rate: int = 16_000) -> None:
    """Eight made-up utterances of six seconds, prepared."""
    names = []
    for number, signal in enumerate(speech_like(6 * sampling_rate, 8, sampling_rate)):
        name = f"{number}.wav"
        write_audio(folder / name, signal, sampling_rate)
        split = "valid" if number == 7 else "train"
        names.append({"id": name, "audio": name, "text": "a", "speaker": name, "split": split})
    listing = folder / "list.jsonl"
    listing.write_text("\n".join(map(json.dumps, names)), encoding="utf-8")
    prepare_corpus(listing, folder, progress=False)


def measure(steps: int, overrides: list[str]) -> dict[str, Any]:
    """Rows of both recipes and their ratio."""
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        recordings(folder)
        steppers = {name: Stepper(recipe, folder, overrides) for name, recipe in RECIPES.items()}
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in steppers}
        for turn in range(steps + 2):
            for name, stepper in steppers.items():
                found = stepper.step()
                if turn >= 2:  # the first two warm up
                    taken[name].append(found)
    rows = []
    for name, stepper in steppers.items():
        clock, processor = (statistics.median(column) for column in zip(*taken[name], strict=True))
        rows.append(
            {
                "recipe": name,
                "audio_s": stepper.seconds,
                "seconds": clock,
                "processor_seconds": processor,
                "audio_seconds_per_second": stepper.seconds / clock,
                "audio_seconds_per_processor_second": stepper.seconds / processor,
            }
        )
    ratio = rows[1]["processor_seconds"] / rows[0]["processor_seconds"]
    machine = {"processor": platform.processor(), "threads": torch.get_num_threads()}
    return {"rows": rows, "light_over_mel": ratio, **machine, "torch": torch.__version__}


def main() -> None:
    """Run the benchmark and say what it found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each recipe")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    options = parser.parse_args()
    report = measure(options.steps, options.overrides)
    for row in report["rows"]:
        print(
            f"{row['recipe']:6} {1000 * row['seconds']:6.0f} ms a step, "
            f"{row['audio_seconds_per_second']:5.1f} s of audio a second "
            f"({row['audio_seconds_per_processor_second']:.1f} a second of processor)"
        )
    print(
        f"a step with the light discriminators takes {report['light_over_mel']:.2f} times as long"
    )
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
