"""The tiny road reaches its end, and stops loudly where a step went wrong."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import yaml

from speechlm.data_prep.manifest import read_manifest
from speechlm.errors import ConfigError, MissingExtra, SpeechLMError
from speechlm.eval import tiny
from speechlm.eval.synthetic import draw_text
from speechlm.slm.config import AutoregressiveConfig, NonAutoregressiveConfig
from speechlm.tokenizer.audio import inspect_audio
from speechlm.tokenizer.codes import CodecIdentity
from speechlm.tokenizer.config import CodecConfig
from speechlm.tokenizer.model_folder import config_from_mapping
from speechlm.train.codec_recipe import CodecTraining
from speechlm.train.config import LanguageModelTraining, read_run_config

CONFIGS = Path(tiny.__file__).parents[1] / "configs"


def test_the_tiny_recipes_fit_together() -> None:
    codec = read_run_config(CONFIGS / "tiny-codec.yaml", [], CodecTraining)
    sizes = config_from_mapping(codec.model, CodecConfig, "the recipe")
    identity = CodecIdentity(
        sizes.codec_id,
        "0" * 16,
        sizes.sampling_rate,
        sizes.hop_length,
        sizes.codebook_size,
        sizes.num_codebooks,
        sizes.num_masked_books,
    )
    ar = read_run_config(CONFIGS / "tiny-ar.yaml", [], LanguageModelTraining)
    nar = read_run_config(CONFIGS / "tiny-nar.yaml", [], LanguageModelTraining)
    assert (ar.stage, nar.stage) == ("ar", "nar")
    assert AutoregressiveConfig.for_codec(identity, **ar.model).ar_books == identity.num_codebooks
    assert NonAutoregressiveConfig.for_codec(identity, **nar.model).ar_books == 1
    assert ar.shards == nar.shards


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="did not make"):
        tiny.walk_tiny_road(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(ConfigError, match="did not make"):
        tiny.walk_tiny_road(tmp_path / "thesis.txt")


def test_an_earlier_walk_is_replaced(tmp_path: Path) -> None:
    (tmp_path / tiny.LOG_NAME).touch()
    (tmp_path / "runs").mkdir()
    tiny._TinyRoad(tmp_path, lambda line: None)
    assert [path.name for path in tmp_path.iterdir()] == [tiny.LOG_NAME]


@pytest.fixture
def road(tmp_path: Path) -> tiny._TinyRoad:
    return tiny._TinyRoad(tmp_path / "road", lambda line: None)


def _pretend_training(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> list[list[str]]:
    """Let a training only write these losses; the overrides that it was given come back."""
    given: list[list[str]] = []

    def run_training(kind: str, config: Path, overrides: list[str], run: Path) -> None:
        given.append(overrides)
        run.mkdir(parents=True)
        lines = [{"split": "train", "mel": loss, "loss": loss} for loss in losses]
        lines.append({"split": "valid", "mel": 0.0, "loss": 0.0})
        (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))

    monkeypatch.setattr(tiny, "run_training", run_training)
    return given


@pytest.mark.parametrize("losses", [[2.0, 1.5, 2.1], [2.0, 2.0], [2.0, float("nan")]])
def test_a_loss_that_does_not_fall_stops_the_road(
    road: tiny._TinyRoad, losses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend_training(monkeypatch, losses)
    with pytest.raises(SpeechLMError, match="did not lower loss"):
        road.train("slm", "pair-ar", "tiny-ar.yaml", {}, "loss")


def test_without_a_pitch_tracker_the_codec_goes_without_its_source(
    road: tiny._TinyRoad, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(rate: int) -> None:
        raise MissingExtra("Pitch tracks need pyworld.")

    monkeypatch.setattr(tiny, "pitch_tracker", missing)
    given = _pretend_training(monkeypatch, [2.0, 1.0])
    road.train_codec()
    (overrides,) = given
    values = {key: yaml.safe_load(value) for key, value in (o.split("=", 1) for o in overrides)}
    assert values["model.has_harmonic_source"] is False
    assert values["data"] == [{"manifest": str(road.manifest)}]
    assert road.notes and "pyworld" in road.conclude()["notes"][0]


def test_what_a_stage_prints_goes_to_the_log(
    road: tiny._TinyRoad, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    road.tell = told.append
    with road.stage("loud") as figures:
        print("a progress bar")
        figures["steps"] = 3
    assert capsys.readouterr().out == ""
    assert "a progress bar" in (road.out / tiny.LOG_NAME).read_text()
    assert len(told) == 1 and told[0].startswith("loud") and told[0].endswith("steps 3")


@pytest.mark.slow
def test_the_whole_road(tmp_path: Path) -> None:
    told: list[str] = []
    found = tiny.walk_tiny_road(tmp_path / "road", told.append)
    facts = found["facts"]
    first, last = facts["codec_mel"]
    assert last < 0.6 * first
    for name in ("multibook-ar", "pair-ar", "pair-nar"):
        first, last = facts[f"{name}_loss"]
        assert last < 0.85 * first, name
    text = draw_text(random.Random(tiny.TEXT_SEED))
    manifest = read_manifest(tmp_path / "road" / "prepared" / "manifest.jsonl")
    assert text not in {utterance.text for utterance in manifest}
    for shape in tiny.SHAPES:
        assert facts[f"{shape}_finish_reason"] == "end"
        # the pointer has learned how long this language's sounds are
        assert 0.8 < facts[f"{shape}_duration_ratio"] < 1.25
        assert 1.5 < inspect_audio(tmp_path / "road" / f"{shape}.wav").seconds < 4.5
        assert (tmp_path / "road" / f"report-{shape}" / "report.md").is_file()
    assert (tmp_path / "road" / "report" / "report.md").is_file()
    assert len(told) >= len(found["tables"]["stages"]) + 1
