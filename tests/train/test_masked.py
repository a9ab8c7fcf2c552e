"""Training the masked model through the command's own road: looks, run, resume, export."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_codecs import tiny_codec
from tiny_masked import MASKED_SIZES
from tiny_transmission import voiced_codes, write_ruled_dataset
from typer.testing import CliRunner

from speechlm.cli import app
from speechlm.errors import ConfigError, ModelMismatch
from speechlm.tokenizer.codec import CodecModel
from speechlm.tokenizer.codes import CodecIdentity
from speechlm.tokenizer.model_folder import save_model
from speechlm.train.batches import Draw
from speechlm.train.concealment import fine_figures, gap_figures
from speechlm.train.config import MaskedTraining, read_run_config
from speechlm.train.export import export_run
from speechlm.train.masked import MaskedTask
from speechlm.train.masks import lossy_look, packet_look
from speechlm.train.run import describe_training, run_training
from speechlm.train.start import start_code_model
from speechlm.transmission.concealment import MaskedConcealer
from speechlm.transmission.config import MaskedConfig
from speechlm.transmission.entropy_model import EntropyModel
from speechlm.transmission.masked_coding import MaskedFineCoder
from speechlm.transmission.masked_model import MaskedModel

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
BASE, FINE = 2, 2


@pytest.fixture(scope="module")
def codec() -> CodecModel:
    return tiny_codec(codebook_size=32, num_codebooks=4, num_masked_books=2)


@pytest.fixture(scope="module")
def recipe(codec: CodecModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe over made-up codes that bear the name of a tiny codec."""
    folder = tmp_path_factory.mktemp("masked")
    save_model(codec, folder / "codec", "float32")
    raw = {
        "packet_frames": 5,
        "model": MASKED_SIZES,
        "shards": [
            str(write_ruled_dataset(folder / "voiced", codec.identity, signal=voiced_codes))
        ],
        "codec": str(folder / "codec"),
        "batch_frames": 600,
        "run": {
            "optimizer": "muon",
            "learning_rate": 1e-2,
            "total_steps": 100,
            "warmup_steps": 2,
            "ema_decay": 0.9,
            "log_every": 20,
            "validate_every": 50,
            "checkpoint_every": 25,
            "num_threads": 1,
            "precision": "fp32",
        },
    }
    path = folder / "masked.yaml"
    path.write_text(json.dumps(raw))  # JSON is YAML
    return path


@pytest.fixture(scope="module")
def run(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_training("masked", recipe, [], tmp_path_factory.mktemp("runs") / "masked")


@pytest.fixture(scope="module")
def task(recipe: Path) -> MaskedTask:
    return MaskedTask(read_run_config(recipe, [], MaskedTraining))


def figures(folder: Path, split: str) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in line.items() if k not in ("seconds_per_step", "split")}
        for line in lines
        if line["split"] == split
    ]


def test_both_uses_are_learned_together(run: Path) -> None:
    parts = figures(run, "train")
    # of log 32 codes; the voice, once known, leaves log 8 of a base book, the base log 4 of a fine one
    assert parts[-1]["lost_base"] < math.log(32) - 0.2
    assert parts[-1]["packets"] < math.log(32) - 0.8
    last = figures(run, "valid")[-1]
    for frames in (2, 4, 8):
        assert last[f"packet_{frames}_bits_per_frame"] < 0.9 * last["order_0_bits_per_frame"]
    assert last["order_0_bits_per_frame"] < 10.1
    assert last["saved_of_raw"] == pytest.approx(1 - last["packet_4_bits_per_frame"] / 10)
    for gap in (1, 2, 3, 5):
        assert last[f"gap_{gap}_hits"] > 2 / 32
        assert last[f"gap_{gap}_error"] < last[f"gap_{gap}_repeated_error"]
    assert last["fine_error"] < last["no_fine_error"]


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
    run: Path, recipe: Path, tmp_path: Path
) -> None:
    for steps in ("33", "100"):
        run_training("masked", recipe, [f"run.total_steps={steps}"], tmp_path)
    state, again = (
        load_file(sorted((folder / "checkpoints").glob("step-*"))[-1] / "averages.safetensors")
        for folder in (run, tmp_path)
    )
    assert all(torch.equal(state[name], again[name]) for name in state)
    assert figures(tmp_path, "valid")[-1] == figures(run, "valid")[-1]


def test_a_run_goes_on_from_weights_with_other_data(
    run: Path, recipe: Path, tmp_path: Path
) -> None:
    export_run(run, tmp_path / "exported")
    for source in (run, tmp_path / "exported"):
        config = read_run_config(recipe, [f"start_from={source}"], MaskedTraining)
        task = MaskedTask(config)
        with torch.no_grad():
            begun = task.validate(task.model.eval()).metrics
        last = figures(run, "valid")[-1]
        assert begun["saved_of_raw"] == pytest.approx(last["saved_of_raw"], abs=2e-3)
    with pytest.raises(ConfigError, match=r"model\.num_layers is 7, but the weights of"):
        MaskedTask(
            read_run_config(recipe, [f"start_from={run}", "model.num_layers=7"], MaskedTraining)
        )


def test_weights_of_another_codec_or_model_are_refused(
    run: Path, codec: CodecModel, tmp_path: Path
) -> None:
    identity = codec.identity
    sizes = {**MASKED_SIZES, "dropout": 0.2}
    assert start_code_model(str(run), MaskedModel, run, identity, sizes).config.dropout == 0.2
    other = dataclasses.replace(identity, revision="0" * 16)
    with pytest.raises(ModelMismatch, match="The weights of"):
        start_code_model(str(run), MaskedModel, run, other, {})
    with pytest.raises(ConfigError, match="is a run of MaskedModel; --from needs EntropyModel"):
        start_code_model(str(run), EntropyModel, run, identity, {})
    with pytest.raises(ConfigError, match="only integers ship"):
        start_code_model("shipped", EntropyModel, tmp_path, identity, {})


def test_an_export_codes_and_conceals(run: Path, codec: CodecModel, tmp_path: Path) -> None:
    export_run(run, tmp_path)
    coder = MaskedFineCoder.load(tmp_path)
    assert coder.codec == codec.identity
    assert coder.fingerprint in (tmp_path / "README.md").read_text()
    packets = [packet for seed in range(100, 110) for packet in voiced_codes(60, seed).split(4, 1)]
    sent, known = 0, np.ones(4, dtype=bool)
    for packet in packets:
        base, fine = packet[:BASE].numpy(), packet[BASE:, -2:].numpy()
        data = coder.encode(fine, base, known)
        assert np.array_equal(coder.decode(data, FINE, 2, base, known), fine)
        sent += 8 * len(data)
    measured = 2 * len(packets) * figures(run, "valid")[-1]["packet_4_bits_per_frame"]
    assert measured < sent < 1.02 * measured + 8 * len(packets)
    concealer = MaskedConcealer.load(tmp_path, codec)
    missed = repeated = 0.0
    for seed in range(100, 110):
        codes = voiced_codes(60, seed)
        true = codec.quantizer.decode(codes[None])[0]
        codes[:, 30] = -1
        missed += float((concealer.latent(codes, 30) - true[30]).square().sum())
        repeated += float((true[29] - true[30]).square().sum())
    assert missed < repeated


def test_items_are_pieces_with_looks_and_a_draw_repeats_itself(task: MaskedTask) -> None:
    whole, starts = task.rows[3].codes, set()
    for seed in range(20):
        codes, looks = task.item(Draw(3, seed))
        again, same = task.item(Draw(3, seed))
        assert torch.equal(codes, again)
        for look, other in zip(looks, same, strict=True):
            assert all(np.array_equal(vars(look)[name], vars(other)[name]) for name in vars(look))
        places = [t for t in range(52) if torch.equal(whole[:, t : t + 9], codes)]
        assert places
        starts.update(places)
    assert len(starts) > 5


def test_padding_changes_no_loss(task: MaskedTask) -> None:
    long = task.item(Draw(0, 1))
    short_codes = voiced_codes(5, 1)
    chance = np.random.default_rng(0)
    short = (short_codes, (lossy_look(chance, 2, 2, 5), packet_look(chance, 2, 2, 5, 3)))
    batches = [task.collate(items) for items in ([long, short], [long], [short])]
    assert batches[0]["codes"].shape == (4, 4, 9)
    model = task.model.eval()
    with torch.no_grad():
        nats = [model(**batch).nats for batch in batches]
    for row, (single, place) in enumerate([(1, 0), (2, 0), (1, 1), (2, 1)]):
        frames = nats[single].shape[2]
        assert torch.allclose(nats[0][row, :, :frames], nats[single][place], atol=1e-5)
        assert not nats[0][row, :, frames:].any()


def test_a_receivers_look_asks_for_what_was_lost_and_for_nothing_else() -> None:
    chance, shares, runs = np.random.default_rng(0), [], []
    for _ in range(300):
        look = lossy_look(chance, 3, 3, 29)
        assert not (look.is_counted & look.is_known).any()
        assert (look.is_counted | look.is_known).all()
        assert look.is_counted.any()
        base = look.is_known[:3]
        assert (base == base[0]).all()  # a frame's base travels as one
        fine = look.is_known[3:]
        assert (fine[1:] <= fine[:-1]).all()  # levels are lost from the top
        shares.append(1 - base[0].mean())
        runs.append(int(fine[0].sum() and not (base[0] | ~fine[0]).all()))
    # sin(pi u / 2) has a mean of 2 / pi
    assert np.mean(shares) == pytest.approx(2 / math.pi, abs=0.05)
    assert np.quantile(shares, 0.1) < 0.3 < 0.95 < np.quantile(shares, 0.9)
    assert 0 < np.mean(runs) < 0.5  # fine codes without their base


def test_a_coders_look_is_packets_with_their_own_frames_last() -> None:
    chance, lengths, has_holes = np.random.default_rng(0), set(), False
    for _ in range(200):
        look = packet_look(chance, 3, 3, 29, 8)
        assert not look.is_known[3:].any()
        assert (look.is_counted[3:] == look.is_known[0]).all()
        assert not look.is_counted[:3].any()
        assert look.is_told.all()
        bounds = np.flatnonzero(np.diff(look.segments, prepend=-1, append=99))
        for first, end in itertools.pairwise(bounds.tolist()):
            lengths.add(end - first)
            assert look.is_known[0, end - 1]
            has_holes = has_holes or not look.is_known[0, first:end].all()
    assert lengths == set(range(1, 9))
    assert has_holes


def test_figures_of_a_model_that_knows_nothing_are_those_of_the_mean(codec: CodecModel) -> None:
    """Logits without a say leave uniform shares: the guess is the mean entry, whatever came."""
    torch.manual_seed(0)
    model = MaskedModel(MaskedConfig.for_codec(codec.identity, **MASKED_SIZES)).eval()
    with torch.no_grad():
        for head in model.heads:
            head.logits.weight.zero_()  # type: ignore[operator, union-attr]
    books = codec.quantizer.codebooks
    signals = [voiced_codes(60, seed) for seed in range(8)]
    with torch.no_grad():
        found = gap_figures(model, signals, 2, books) | fine_figures(model, signals, books)
    # 2 gaps of 2 frames in each of 8 signals: places by hand
    places = [start + i for start in torch.linspace(7, 56, 4)[1:-1].round().long() for i in (0, 1)]
    true = torch.cat([codec.quantizer.decode(codes[None, :, places])[0] for codes in signals])
    wanted = (books.mean(1).sum(0) - true).square().sum()
    wanted = wanted / (true - true.mean(0)).square().sum()
    assert found["gap_2_error"] == pytest.approx(float(wanted), rel=1e-4)
    assert found["no_fine_error"] > 0
    assert gap_figures(model, [voiced_codes(8)], 2, books) == {}


def test_a_recipe_without_a_codec_measures_no_latents(recipe: Path) -> None:
    task = MaskedTask(read_run_config(recipe, ["codec=null"], MaskedTraining))
    with torch.no_grad():
        metrics = task.validate(task.model.eval()).metrics
    assert "gap_1_hits" in metrics
    assert not [name for name in metrics if "error" in name]


def test_recipes_of_other_kinds_are_refused_by_name(recipe: Path) -> None:
    with pytest.raises(ConfigError, match="recipe for `train masked`"):
        describe_training("entropy", recipe, [])
    with pytest.raises(ConfigError, match=r"recipe for `train entropy\|fine`"):
        describe_training("masked", CONFIGS / "entropy.yaml", [])


def test_a_dry_run_counts_the_model(recipe: Path) -> None:
    done = CliRunner().invoke(app, ["train", "masked", str(recipe), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "encoder" in done.output


def test_the_shipped_recipe_is_what_its_first_line_says() -> None:
    settings = read_run_config(CONFIGS / "masked.yaml", [], MaskedTraining)
    identity = CodecIdentity("any", "0" * 16, 16_000, 320, 1024, 6, 3)
    model = MaskedModel(MaskedConfig.for_codec(identity, **settings.model))
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    first = (CONFIGS / "masked.yaml").read_text().splitlines()[0]
    assert first.startswith(f"# {millions:.2f} M parameters, ")
