"""Recipes in configs/: each is accepted, builds, and is what its first lines say."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
import yaml

from speechlm.slm.autoregressive import AutoregressiveModel
from speechlm.slm.config import AutoregressiveConfig, NonAutoregressiveConfig
from speechlm.slm.language_model import LanguageModel
from speechlm.slm.nonautoregressive import NonAutoregressiveModel
from speechlm.tokenizer.codes import CodecIdentity
from speechlm.train.codec_recipe import CodecTraining
from speechlm.train.config import LanguageModelTraining, read_run_config
from speechlm.train.describe import CodecDescription, describe_codec

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
_WRITTEN = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted(CONFIGS.glob("*.yaml"))
}
LANGUAGE_MODELS = [
    name
    for name, written in _WRITTEN.items()
    # a fine-tuning recipe takes its sizes from weights
    if "stage" in written and "num_layers" in (written.get("model") or {})
]
CODECS = [name for name, written in _WRITTEN.items() if "data" in written]
PAPER = "codec-language-codec-24khz"
OURS = ["codec-16khz", "codec-16khz-25hz", "codec-24khz-50hz", "codec-24khz-75hz"]


@cache
def recipe(name: str) -> CodecTraining:
    return read_run_config(CONFIGS / f"{name}.yaml", [], CodecTraining)


@cache
def described(name: str) -> CodecDescription:
    return describe_codec(recipe(name))


@pytest.mark.parametrize("name", CODECS)
def test_codec_recipe_builds_and_its_parts_fit(name: str) -> None:
    found, settings = described(name), recipe(name)
    assert found.parameters > 0
    # a crop holds whole frames, or the codec would be trained on other lengths than are asked for
    assert found.crop_seconds == pytest.approx(settings.crop_seconds)
    assert settings.batch_seconds % settings.crop_seconds == 0
    if settings.adversarial is not None:
        assert settings.adversarial.start_step < settings.run.total_steps


def language_model(name: str) -> LanguageModel:
    """The model of a recipe, without memory for its weights."""
    settings = read_run_config(CONFIGS / f"{name}.yaml", [], LanguageModelTraining)
    # what the shards of the shipped codec, or of the tiny one, would say
    books, entries = (4, 64) if name.startswith("tiny") else (6, 1024)
    identity = CodecIdentity("any", "0" * 16, 16_000, 320, entries, books, books // 2)
    with torch.device("meta"):
        if settings.stage == "ar":
            config = AutoregressiveConfig.for_codec(identity, **settings.model)
            return AutoregressiveModel(config)
        return NonAutoregressiveModel(NonAutoregressiveConfig.for_codec(identity, **settings.model))


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_language_model_recipe_builds_with_the_parameters_that_it_states(name: str) -> None:
    model = language_model(name)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert millions > 0
    first = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    if not name.startswith("tiny"):
        assert first.startswith(f"# {millions:.2f} M parameters")


def test_two_models_of_one_recipe_share_their_books_and_sizes() -> None:
    for name in (name for name in LANGUAGE_MODELS if name.startswith("nar-")):
        other = "ar-1book" if name == "nar-5books" else name.removeprefix("n")
        pair = language_model(name).config, language_model(other).config
        for field in ("ar_books", "alignment", "hidden_size", "num_layers", "num_heads"):
            assert len({getattr(config, field) for config in pair}) == 1, (name, field)


@pytest.mark.parametrize("name", ["ar-valle", "nar-valle"])
def test_the_paper_recipes_have_the_papers_size(name: str) -> None:
    model = language_model(name)
    config = model.config
    assert (config.num_layers, config.hidden_size, config.num_heads) == (12, 1024, 16)
    assert (config.ar_books, config.alignment, config.dropout) == (1, "prefix", 0.1)
    # 12 layers of attention (4 D^2) and a feed-forward part of two matrices of 4 D^2
    blocks = sum(parameter.numel() for parameter in model.decoder.parameters())
    assert blocks == pytest.approx(12 * (4 + 8) * 1024**2, rel=0.005)
    run = read_run_config(CONFIGS / f"{name}.yaml", [], LanguageModelTraining).run
    assert (run.learning_rate, run.warmup_steps, run.total_steps) == (5e-4, 32_000, 800_000)
    assert run.warmup_steps + run.cooldown_steps == run.total_steps  # no plateau between


def test_every_recipe_is_looked_at() -> None:
    assert {*OURS, PAPER} <= set(CODECS)
    assert {"ar-6books", "nar-5books", "ar-5m", "ar-20m", "nar-valle"} <= set(LANGUAGE_MODELS)


@pytest.mark.parametrize("name", OURS)
def test_efficient_recipes_are_small_and_wait_no_longer_than_they_may(name: str) -> None:
    found = described(name)
    assert 4e6 < found.parameters < 15e6
    assert found.macs_per_second < described(PAPER).macs_per_second / 3
    assert found.config.is_causal
    assert found.lookahead_seconds <= 0.040
    head = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").split("model:")[0]
    said = " ".join(head.replace("#", " ").split())
    kilohertz = found.config.sampling_rate / 1000
    assert f"{kilohertz:g} kHz, {found.config.frame_rate_hz:g} Hz" in said
    assert f"{max(found.bits_per_second.values()) / 1000:.1f} kbps" in said
    milliseconds = f"{1000 * found.lookahead_seconds:g} ms"
    assert f"causal with {milliseconds} of look-ahead" in said.replace("Causal", "causal")


# Counted from the released code by others than this package; in millions, and per second of audio.
@pytest.mark.parametrize(
    ("part", "parameters", "macs"),
    [("encoder", 7.42e6, 1.5e9), ("quantizer", 8 * 1024 * 128, None), ("decoder", 11.56e6, 0.87e9)],
)
def test_the_paper_recipe_has_the_papers_sizes(
    part: str, parameters: float, macs: float | None
) -> None:
    found = next(each for each in described(PAPER).parts if each.name == part)
    assert found.parameters == pytest.approx(parameters, rel=0.02)
    if macs is not None:
        assert found.macs_per_second == pytest.approx(macs, rel=0.02)


def test_the_paper_recipe_has_the_papers_rates_losses_and_discriminators() -> None:
    found, settings = described(PAPER), recipe(PAPER)
    assert found.config.frame_rate_hz == 75
    assert found.bits_per_second[4] == 3000
    assert found.bits_per_second[8] == 6000
    assert list(found.bits_per_second) == [3, 4, 5, 6, 7, 8]
    assert not found.config.has_harmonic_source
    assert found.config.lookahead_samples is None  # not causal
    assert found.batch_items == 100
    judges = {part.name: part.macs_per_second or 0 for part in found.discriminators}
    assert judges["mrd (hinge)"] == pytest.approx(1.6e9, rel=0.02)
    assert judges["mbstft (lsgan)"] == pytest.approx(3.9e9, rel=0.02)
    assert judges["mpd (hinge)"] == pytest.approx(13.4e9, rel=0.02)
    assert sum(judges.values()) == pytest.approx(32e9, rel=0.03)
    assert (settings.mel_weight, settings.mel_scales) == (45, "single")
    assert settings.commitment_weight == 1000


def test_the_table_in_the_docs_is_what_the_command_says() -> None:
    text = (CONFIGS.parent / "docs/codec.md").read_text(encoding="utf-8")
    lines = text.split("## Configurations")[1].split("\n## ")[0].splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    rows = {row[0]: row[1:] for row in table}
    columns = {
        cell.split("`")[1]: number for number, cell in enumerate(table[0][1:]) if "`" in cell
    }
    assert set(columns) == {PAPER, *OURS}
    for name, column in columns.items():
        found = described(name)
        encoder, quantizer, decoder = found.parts
        said = {row: cells[column] for row, cells in rows.items()}
        for row, parameters in {
            "parameters: encoder": encoder.parameters,
            "parameters: decoder": decoder.parameters,
            "parameters: both": found.parameters,
            "codebook entries": quantizer.parameters,
        }.items():
            assert said[row] == f"{parameters / 1e6:.2f} M"
        for row, macs in {
            "MMAC/s: encoder": encoder.macs_per_second,
            "MMAC/s: quantizer": quantizer.macs_per_second,
            "MMAC/s: decoder": decoder.macs_per_second,
            "MMAC/s: all": found.macs_per_second,
            "MMAC/s: transforms besides": sum(
                part.fft_macs_per_second or 0 for part in found.parts
            ),
        }.items():
            # rounded to the last digit that is printed; the paper's sums to three digits
            step = 0.1 if "." in said[row] else 1.0
            close = pytest.approx((macs or 0) / 1e6, abs=0.51 * step, rel=2e-3)
            assert float(said[row]) == close
        rates = [f"{rate / 1000:g}" for rate in sorted(found.bits_per_second.values())]
        assert [f"{float(rate):g}" for rate in said["kbps, fewest to all books"].split(" to ")] == [
            rates[0],
            rates[-1],
        ]
        latency = float(said["latency of a stream"].removesuffix(" ms"))
        assert latency == pytest.approx(1000 * found.latency_seconds, abs=0.5)
