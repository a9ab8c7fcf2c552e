"""Times language-model training: our loop, and the same model, optimizer and batches in a bare loop.

    python benchmarks/training_slm.py --json build/training-slm.json

Both train in this process, in turns of a few steps, so that whatever else the machine does hits both alike.
The bare loop has its batches ready in memory and does nothing but forward, backward, clipping and step; ours
reads token shards, draws prompts, averages weights and logs. The tokens are random: no step's cost depends on
what they say.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from speechlm.data_prep.card import finish_dataset
from speechlm.data_prep.shards import TokenRow, write_shard
from speechlm.slm.text import SPECIALS, SymbolTable
from speechlm.tokenizer.codes import CodecIdentity
from speechlm.train.batches import DurationBatches
from speechlm.train.config import LanguageModelTraining, read_run_config
from speechlm.train.loop import Trainer, fast_bf16
from speechlm.train.slm import LanguageModelTask

_CONFIGS = Path(__file__).resolve().parents[1] / "configs"
_CODEC = CodecIdentity("random", "0" * 16, 16_000, 320, 1024, 6, 3)
_WARMUP = 2


def random_tokens(folder: Path, rows: int = 160) -> None:
    """Token shards of eight speakers, with phonemes and durations, utterances of 2 to 6 s."""
    draw = torch.Generator().manual_seed(0)
    letters = [
        symbol for symbol in SymbolTable().symbols if symbol not in SPECIALS and symbol.isalpha()
    ]
    counts = {"train": rows, "valid": 8}
    receipts = []
    for split, count in counts.items():
        made = []
        for number in range(count):
            frames = int(torch.randint(100, 300, (1,), generator=draw))
            symbols = frames // 5
            chosen = torch.randint(len(letters), (symbols,), generator=draw).tolist()
            durations = torch.full((symbols + 2,), frames // (symbols + 2))
            durations[0] += frames - int(durations.sum())
            codes = torch.randint(1024, (6, frames), generator=draw)
            phonemes = "".join(letters[i] for i in chosen)
            name = f"{split}-{number}"
            made.append(
                TokenRow(
                    name, "", phonemes, durations, f"s{number % 8}", split, frames * 320, codes
                )
            )
        receipts.append(
            write_shard(folder, split, 0, made, codec=_CODEC, num_books=6, source=split)
        )
    finish_dataset(folder, receipts, _CODEC, 6)


class _Timed(LanguageModelTask):
    """Notes when each step of our loop begins."""

    def __init__(self, config: LanguageModelTraining) -> None:
        super().__init__(config)
        self.began: list[float] = []
        self.frames: list[int] = []

    def before_step(self, step: int) -> None:
        self.began.append(time.perf_counter())

    def loss(self, model: Any, batch: Any, step: int) -> Any:
        self.frames.append(int(batch["num_frames"].sum()))
        return super().loss(model, batch, step)


def _ours(config: LanguageModelTraining, run: Path) -> float:
    """Frames per second of our loop after its first steps, loading included."""
    task = _Timed(config)
    Trainer(task, config, config.run, "slm", run).run()
    # the last step ends in a validation and a checkpoint: it is not timed
    seconds = task.began[-1] - task.began[_WARMUP]
    return sum(task.frames[_WARMUP:-1]) / seconds


def _bare(config: LanguageModelTraining) -> float:
    """Frames per second of the bare loop over the same batches."""
    task = LanguageModelTask(config)
    draws = DurationBatches(task.lengths, task.max_total, config.run.seed).batches(0)
    wanted = config.run.total_steps
    batches = [
        task.collate([task.item(draw) for draw in draws[number % len(draws)]])
        for number in range(wanted)
    ]
    settings = config.run
    optimizer = torch.optim.AdamW(
        task.model.parameters(), settings.learning_rate, betas=settings.betas, fused=True
    )
    bf16 = settings.precision == "bf16" and fast_bf16(torch.device("cpu"))
    task.model.train()
    began, frames = 0.0, 0
    for number, batch in enumerate(batches[:-1]):
        if number == _WARMUP:
            began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = task.model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.model.parameters(), settings.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        frames += int(batch["num_frames"].sum()) if number >= _WARMUP else 0
    return frames / (time.perf_counter() - began)


def measure(recipe: str = "ar-6books", steps: int = 8, turns: int = 3) -> dict[str, Any]:
    """Rows of both loops and their ratio.

    Args:
        recipe: Name of a recipe in configs/ for pointer alignment.
        steps: Of a turn; the first two and the last one are not timed.
        turns: Of each loop, one after the other; the median counts.

    Returns:
        `rows`, and `share_of_bare_loop` (1 is no loss at all).
    """
    taken: dict[str, list[float]] = {"bare loop": [], "our loop": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        random_tokens(folder)
        overrides = [f"shards=[{json.dumps(str(folder))}]", f"run.total_steps={steps}"]
        overrides += ["run.cooldown_steps=0", "run.log_every=20"]
        overrides += ["run.validate_every=1000", "run.checkpoint_every=1000"]
        config = read_run_config(_CONFIGS / f"{recipe}.yaml", overrides, LanguageModelTraining)
        if config.run.num_threads:
            torch.set_num_threads(config.run.num_threads)
        torch.set_float32_matmul_precision("medium")
        for turn in range(turns):
            taken["bare loop"].append(_bare(config))
            taken["our loop"].append(_ours(config, folder / f"run-{turn}"))
    rows = [
        {"loop": name, "recipe": recipe, "frames_per_second": statistics.median(found)}
        for name, found in taken.items()
    ]
    ratios = [ours / bare for bare, ours in zip(*taken.values(), strict=True)]
    return {
        "rows": rows,
        "share_of_bare_loop": statistics.median(ratios),
        "shares": ratios,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main() -> None:
    """Run the benchmark and say what it found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--recipe", default="ar-6books")
    parser.add_argument("--steps", type=int, default=8, help="steps of a turn")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    found = measure(options.recipe, options.steps, options.turns)
    for row in found["rows"]:
        print(f"{row['loop']:<12}{row['frames_per_second']:10.0f} frames/s")
    print(f"our loop reaches {found['share_of_bare_loop']:.2f} of the bare one")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
