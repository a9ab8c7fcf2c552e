"""Training an aligner through the command's own road: run, resume, export, refusals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from made_up_speech import IDENTITY, SIZES, boundary_error, utterance, write_dataset
from safetensors.torch import load_file

from speechlm.errors import ConfigError, SpeechLMError
from speechlm.slm.aligner import AlignerConfig, AlignerModel
from speechlm.slm.text import SymbolTable
from speechlm.tokenizer.codes import CodecIdentity
from speechlm.tokenizer.model_folder import load_model
from speechlm.train.aligner import AlignerTask
from speechlm.train.batches import Draw
from speechlm.train.config import AlignerTraining, read_run_config
from speechlm.train.export import export_run
from speechlm.train.run import describe_training, run_training

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
HELD_OUT = [utterance(seed, "valid") for seed in range(1000, 1016)]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training rows without durations; the held-out ones have them."""
    rows = [utterance(seed, timed=False) for seed in range(64)]
    return write_dataset(tmp_path_factory.mktemp("made-up") / "shards", [*rows, *HELD_OUT])


@pytest.fixture(scope="module")
def recipe(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = {
        "model": SIZES,
        "shards": [str(shards)],
        "batch_frames": 1200,
        "context_steps": [12, 28],
        "run": {
            "learning_rate": 1e-2,
            "total_steps": 40,
            "warmup_steps": 2,
            "ema_decay": 0.9,
            "log_every": 10,
            "validate_every": 20,
            "checkpoint_every": 15,
            "num_threads": 1,
            "precision": "fp32",
        },
    }
    path = tmp_path_factory.mktemp("recipe") / "aligner.yaml"
    path.write_text(json.dumps(raw))  # JSON is YAML
    return path


@pytest.fixture(scope="module")
def run(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_training("aligner", recipe, [], tmp_path_factory.mktemp("runs") / "whole")


def figures(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds_per_step"} for line in lines]


def test_an_exported_run_finds_boundaries(run: Path, tmp_path: Path) -> None:
    export_run(run, tmp_path)
    model = load_model(tmp_path, AlignerModel)
    assert model.config.codec_identity == IDENTITY
    assert model.context == 1.0
    assert boundary_error(model, HELD_OUT) < 1.0
    assert "speechlm-aligner" in (tmp_path / "README.md").read_text()


def test_validation_measures_against_the_durations_that_are_known(run: Path) -> None:
    last = [line for line in figures(run) if line["split"] == "valid"][-1]
    assert last["boundary_mean_ms"] < 20
    assert last["boundary_within_40_ms"] > 0.8
    assert last["gain"] == pytest.approx(last["voice"] - last["text"], abs=0.5)


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
    run: Path, recipe: Path, tmp_path: Path
) -> None:
    parts = run_training("aligner", recipe, ["run.total_steps=29"], tmp_path)
    parts = run_training("aligner", recipe, ["run.total_steps=34"], parts)
    parts = run_training("aligner", recipe, [], parts)
    state, again = (
        load_file(sorted((folder / "checkpoints").glob("step-*"))[-1] / "averages.safetensors")
        for folder in (run, parts)
    )
    assert all(torch.equal(state[name], again[name]) for name in state)
    assert figures(parts)[-1] == figures(run)[-1]


def test_durations_of_the_shards_are_not_learned_from(recipe: Path, tmp_path: Path) -> None:
    rows = [utterance(seed) for seed in range(8)]
    wrong = [
        dataclasses.replace(row, durations=row.durations.flip(0))
        for row in rows  # their sum is the same
    ]
    batches = []
    for name, chosen in (("right", rows), ("wrong", wrong)):
        folder = write_dataset(tmp_path / name, chosen)
        task = AlignerTask(read_run_config(recipe, [f"shards=[{folder}]"], AlignerTraining))
        batches.append(task.collate([task.item(Draw(i, 0)) for i in range(8)]))
    assert set(batches[0]) == {"symbols", "num_symbols", "codes", "num_frames"}
    assert all(torch.equal(batches[0][name], batches[1][name]) for name in batches[0])


def test_a_corpus_without_held_out_rows_trains_too(recipe: Path, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, [utterance(seed) for seed in range(4)])
    task = AlignerTask(read_run_config(recipe, [f"shards=[{folder}]"], AlignerTraining))
    with torch.no_grad():
        assert task.validate(task.model.eval()).metrics["boundary_mean_ms"] > 0


def test_symbols_that_english_lacks_are_learned(recipe: Path, tmp_path: Path) -> None:
    row = utterance(3)
    foreign = dataclasses.replace(row, phonemes="ʁɯ" + row.phonemes[2:])
    folder = write_dataset(tmp_path, [foreign])
    task = AlignerTask(read_run_config(recipe, [f"shards=[{folder}]"], AlignerTraining))
    assert task.symbols.symbols == [*SymbolTable().symbols, "ɯ", "ʁ"]


def test_rows_that_no_path_fits_are_left_out(recipe: Path, tmp_path: Path) -> None:
    rows = [utterance(seed, timed=False) for seed in range(5)]
    silent = dataclasses.replace(rows[0], phonemes="", text="")
    crowded = dataclasses.replace(rows[1], phonemes="ab" * rows[1].num_frames)
    folder = write_dataset(tmp_path / "some", [silent, crowded, *rows[2:]])
    task = AlignerTask(read_run_config(recipe, [f"shards=[{folder}]"], AlignerTraining))
    assert [row.id for row in task.rows] == [row.id for row in rows[2:]]
    folder = write_dataset(tmp_path / "none", [silent, crowded])
    with pytest.raises(ConfigError, match="each needs phonemes"):
        AlignerTask(read_run_config(recipe, [f"shards=[{folder}]"], AlignerTraining))


def test_shards_of_two_codecs_are_refused(recipe: Path, shards: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(IDENTITY, revision="1" * 16)
    folder = write_dataset(tmp_path, [utterance(0)], identity=other)
    with pytest.raises(SpeechLMError, match="revision"):
        AlignerTask(read_run_config(recipe, [f"shards=[{shards},{folder}]"], AlignerTraining))


def test_a_dry_run_counts_the_aligner(recipe: Path) -> None:
    found = describe_training("aligner", recipe, [])
    wide = describe_training("aligner", recipe, ["model.num_books=3"])
    # one more book: a table of codes, and a map onto 64 logits with its bias
    assert wide.parameters - found.parameters == 64 * 32 + 64 * 32 + 64
    assert "64" in found.table()


@pytest.mark.parametrize("steps", ["[40,40]", "[20,41]"])
def test_neighbours_must_be_heard_before_the_end(recipe: Path, steps: str) -> None:
    with pytest.raises(ConfigError, match="context_steps"):
        read_run_config(recipe, [f"context_steps={steps}"], AlignerTraining)


def test_the_recipe_that_is_shipped_builds() -> None:
    settings = read_run_config(CONFIGS / "aligner.yaml", [], AlignerTraining)
    identity = CodecIdentity("any", "0" * 16, 16_000, 320, 1024, 6, 3)
    model = AlignerModel(AlignerConfig.for_codec(identity, **settings.model))
    assert 1e6 < sum(parameter.numel() for parameter in model.parameters()) < 3e6
