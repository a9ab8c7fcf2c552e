"""Training what transmission needs through the command's own road: run, resume, export, refusals."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_transmission import CODEC, SIZES, ruled_codes, write_ruled_dataset
from typer.testing import CliRunner

from speechlm.cli import app
from speechlm.errors import ConfigError, SpeechLMError
from speechlm.tokenizer.codes import CodecIdentity
from speechlm.tokenizer.model_folder import load_model
from speechlm.train.batches import Draw
from speechlm.train.config import TransmissionTraining, read_run_config
from speechlm.train.export import export_run
from speechlm.train.run import describe_training, run_training
from speechlm.train.transmission import TransmissionTask
from speechlm.train.transmission_tables import StaticTables
from speechlm.transmission.chunk_coder import encode_chunk
from speechlm.transmission.config import EntropyConfig, FineConfig
from speechlm.transmission.entropy_coding import IntegerEntropyModel
from speechlm.transmission.entropy_model import EntropyModel
from speechlm.transmission.fine_model import FineModel

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ruled_dataset(tmp_path_factory.mktemp("ruled"))


@pytest.fixture(scope="module")
def recipes(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A recipe of each kind."""
    folder, found = tmp_path_factory.mktemp("recipes"), {}
    for kind, predicts in (("entropy", "base"), ("fine", "fine")):
        raw = {
            "predicts": predicts,
            "model": SIZES,
            "shards": [str(shards)],
            "batch_frames": 600,
            "crop_seconds": 0.6,
            "context_seconds": 0.5,
            "run": {
                "learning_rate": 1e-2,
                "total_steps": 60,
                "warmup_steps": 2,
                "ema_decay": 0.9,
                "log_every": 20,
                "validate_every": 30,
                "checkpoint_every": 25,
                "num_threads": 1,
                "precision": "fp32",
            },
        }
        found[kind] = folder / f"{kind}.yaml"
        found[kind].write_text(json.dumps(raw))  # JSON is YAML
    return found


@pytest.fixture(scope="module")
def runs(recipes: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {kind: run_training(kind, recipe, [], folder / kind) for kind, recipe in recipes.items()}


def figures(run: Path, split: str) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in line.items() if k not in ("seconds_per_step", "split")}
        for line in lines
        if line["split"] == split
    ]


@pytest.mark.parametrize("kind", ["entropy", "fine"])
def test_a_model_learns_what_no_static_table_knows(runs: dict[str, Path], kind: str) -> None:
    last = figures(runs[kind], "valid")[-1]
    books = ("1", "2") if kind == "entropy" else ("3", "4")
    by_book = [last[f"bits_book_{book}"] for book in books]
    assert last["bits_per_frame"] == pytest.approx(sum(by_book), rel=1e-5)
    assert last["bits_per_frame"] < 0.9 * last["order_1_bits_per_frame"]
    assert last["order_1_bits_per_frame"] < last["order_0_bits_per_frame"] < 10.1
    assert last["saved_of_raw"] == pytest.approx(1 - last["bits_per_frame"] / 10)
    assert all(last[f"hits_book_{book}"] > 0.1 for book in books)  # of 32 codes


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
    runs: dict[str, Path], recipes: dict[str, Path], tmp_path: Path
) -> None:
    for steps in ("33", "60"):
        run_training("entropy", recipes["entropy"], [f"run.total_steps={steps}"], tmp_path)
    state, again = (
        load_file(sorted((folder / "checkpoints").glob("step-*"))[-1] / "averages.safetensors")
        for folder in (runs["entropy"], tmp_path)
    )
    assert all(torch.equal(state[name], again[name]) for name in state)
    assert figures(tmp_path, "valid")[-1] == figures(runs["entropy"], "valid")[-1]


def test_an_exported_entropy_model_codes_held_out_speech_in_the_bits_it_was_measured_at(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    export_run(runs["entropy"], tmp_path)
    coder = IntegerEntropyModel.load(tmp_path)
    assert coder.codec == CODEC
    assert coder.fingerprint in (tmp_path / "README.md").read_text()
    chunks = [
        chunk
        for seed in range(100, 110)
        for chunk in ruled_codes(60, seed)[:2].split([25, 25, 10], 1)
    ]
    sent = sum(8 * len(encode_chunk(chunk.numpy(), coder, verifies=False)[0]) for chunk in chunks)
    measured = figures(runs["entropy"], "valid")[-1]["bits_per_frame"] * 600
    assert measured < sent < 1.02 * measured + 10 * len(chunks)
    half = load_model(tmp_path, EntropyModel)
    assert half.config.codec_identity == CODEC


def test_an_exported_fine_model_generates(runs: dict[str, Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(runs["fine"]), str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    model = load_model(tmp_path / "out", FineModel)
    truth = torch.stack([ruled_codes(60, seed) for seed in range(100, 110)])
    found = model.stream(batch_size=10).push(truth[:, :2])
    hits = (found == truth[:, 2:]).float().mean()
    assert hits > 0.1  # of 32 codes, a quarter of them equally likely at best


def test_crops_are_pieces_of_the_utterance_and_a_draw_repeats_itself(
    recipes: dict[str, Path],
) -> None:
    task = TransmissionTask(read_run_config(recipes["fine"], [], TransmissionTraining))
    whole = task.rows[3].codes
    starts = set()
    for seed in range(20):
        item = task.item(Draw(3, seed))
        assert torch.equal(item, task.item(Draw(3, seed)))
        assert item.shape == (4, 30)
        places = [t for t in range(31) if torch.equal(whole[:, t : t + 30], item)]
        assert places
        starts.update(places)
    assert len(starts) > 5


def test_frames_that_pad_a_batch_do_not_count(recipes: dict[str, Path]) -> None:
    task = TransmissionTask(read_run_config(recipes["entropy"], [], TransmissionTraining))
    long, short = ruled_codes(20)[:2], ruled_codes(8, 1)[:2]
    batch = task.collate([long, short])
    assert batch["loss_mask"].sum(1).tolist() == [20, 8]
    with torch.no_grad():
        losses = [
            float(task.loss(task.model.eval(), task.collate(items), 0)[0])
            for items in ([long, short], [long], [short])
        ]
    assert losses[0] == pytest.approx((20 * losses[1] + 8 * losses[2]) / 28, rel=1e-5)


def test_static_tables_count_pairs_inside_an_utterance() -> None:
    signals = [torch.tensor([[0, 1, 0, 1, 0, 1, 0, 1]]), torch.tensor([[1, 0, 1, 0, 1, 0, 1, 0]])]
    tables = StaticTables(signals * 200, range(1), 2)
    alone, behind = tables.bits([torch.tensor([[0, 1, 0, 1]])])
    assert alone[0] == pytest.approx(1.0, abs=1e-3)
    assert behind[0] == pytest.approx(0.25, abs=0.05)  # the first of four has no past
    unseen, after = tables.bits([torch.tensor([[0, 0, 0, 0]])])
    assert np.isfinite(unseen).all()
    assert (
        after[0] > 1.5
    )  # pairs that never occur, as far as the strongest smoothing lets them cost


def test_codes_begin_as_alike_as_the_codec_that_is_named(
    recipes: dict[str, Path], shards: Path, tmp_path: Path
) -> None:
    with pytest.raises(SpeechLMError, match="revision"):
        run_training("entropy", recipes["entropy"], ["codec=shipped"], tmp_path)


@pytest.mark.parametrize(("kind", "other"), [("entropy", "fine"), ("fine", "entropy")])
def test_a_recipe_of_the_other_kind_is_refused(
    recipes: dict[str, Path], kind: str, other: str
) -> None:
    done = CliRunner().invoke(app, ["train", kind, str(recipes[other])])
    assert isinstance(done.exception, ConfigError) or done.exit_code == 1
    with pytest.raises(ConfigError, match=f"train {other}"):
        describe_training(kind, recipes[other], [])


def test_shards_of_two_codecs_or_of_too_few_books_are_refused(
    recipes: dict[str, Path], shards: Path, tmp_path: Path
) -> None:
    other = write_ruled_dataset(tmp_path / "other", dataclasses.replace(CODEC, revision="1" * 16))
    with pytest.raises(SpeechLMError, match="revision"):
        describe_training("entropy", recipes["entropy"], [f"shards=[{shards},{other}]"])
    few = write_ruled_dataset(tmp_path / "few", books=3)
    describe_training("entropy", recipes["entropy"], [f"shards=[{few}]"])
    with pytest.raises(ConfigError, match="reads 4 books"):
        describe_training("fine", recipes["fine"], [f"shards=[{few}]"])


def test_a_dry_run_counts_the_model(recipes: dict[str, Path]) -> None:
    done = CliRunner().invoke(app, ["train", "entropy", str(recipes["entropy"]), "--dry-run"])
    assert done.exit_code == 0, done.output
    found = describe_training("entropy", recipes["entropy"], [])
    assert "heads" in done.output
    wide = describe_training("entropy", recipes["entropy"], ["model.head_size=25"])
    # two heads: a row and its bias in front of the logits, a column of them
    assert wide.parameters - found.parameters == 2 * (32 + 1 + 32)
    assert found.num_utterances == 40


@pytest.mark.parametrize(
    ("name", "config_class", "model_class"),
    [("entropy", EntropyConfig, EntropyModel), ("fine", FineConfig, FineModel)],
)
def test_shipped_recipes_build_and_are_what_their_first_lines_say(
    name: str, config_class: type[EntropyConfig], model_class: type[EntropyModel]
) -> None:
    settings = read_run_config(CONFIGS / f"{name}.yaml", [], TransmissionTraining)
    identity = CodecIdentity("any", "0" * 16, 16_000, 320, 1024, 6, 3)
    model = model_class(config_class.for_codec(identity, **settings.model))
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    first = (CONFIGS / f"{name}.yaml").read_text().splitlines()[0]
    assert first.startswith(f"# {millions:.2f} M parameters")
    assert math.isclose(float(first.split(", ")[1].split(" MB")[0]), millions * 1.03, abs_tol=0.06)
