"""Fine-tuning: what `--from` takes over, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from speechlm.errors import ConfigError
from speechlm.tokenizer.codec import load_codec
from speechlm.train.codec import CodecTask
from speechlm.train.codec_recipe import CodecTraining
from speechlm.train.config import read_run_config
from speechlm.train.export import export_run
from speechlm.train.run import run_training


def newest(run: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(sorted((run / "checkpoints").glob("step-*"))[-1] / name)


@pytest.fixture
def trained(adversarial_config: Path, tmp_path: Path) -> Path:
    """A run of eight steps, with discriminators."""
    return run_training("codec", adversarial_config, ["run.total_steps=8"], tmp_path / "trained")


def task(config: Path, *overrides: str) -> CodecTask:
    return CodecTask(read_run_config(config, list(overrides), CodecTraining), progress=False)


def test_a_run_goes_on_from_averages_codebooks_and_discriminators(
    trained: Path, adversarial_config: Path, tmp_path: Path
) -> None:
    started = task(adversarial_config, f"start_from={trained}", "model={}")
    averages = newest(trained, "averages.safetensors")
    own = dict(started.model.named_parameters())
    assert all(torch.equal(own[name].detach(), value) for name, value in averages.items())
    codebooks = newest(trained, "model.safetensors")["quantizer.codebooks"]
    assert torch.equal(started.model.quantizer.codebooks, codebooks)
    assert started.adversary is not None
    theirs = newest(trained, "model_1.safetensors")
    mine = started.adversary.state_dict()
    assert all(torch.equal(mine[name], value) for name, value in theirs.items())
    # no k-means again, although the recipe has continuous steps
    started.before_step(99)
    assert torch.equal(started.model.quantizer.codebooks, codebooks)
    run = run_training(
        "codec", adversarial_config, ["run.total_steps=2"], tmp_path / "tuned", str(trained)
    )
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["step"] == 1
    assert lines[0]["learning_rate"] == pytest.approx(5e-4)
    assert lines[0]["commitment"] > 0  # quantized from the first step on


def test_an_exported_codec_goes_on_and_its_averages_fit_its_codebooks(
    trained: Path, codec_config: Path, tmp_path: Path
) -> None:
    export_run(trained, tmp_path / "shared")
    quantizer = task(codec_config, f"start_from={tmp_path / 'shared'}").model.quantizer
    shared = load_codec(tmp_path / "shared").quantizer
    assert torch.equal(quantizer.codebooks, shared.codebooks)
    assert torch.allclose(quantizer.sums, quantizer.codebooks * quantizer.counts[..., None])
    assert quantizer.counts.mean(-1) == pytest.approx([0.8 * 50 / 16] * 6, rel=1e-3)


def test_other_discriminators_start_untrained(trained: Path, adversarial_config: Path) -> None:
    other = "adversarial={discriminators: [{family: light, channels: 3}]}"
    fresh = task(adversarial_config, other).adversary
    kept = task(adversarial_config, other, f"start_from={trained}").adversary
    assert fresh is not None
    assert kept is not None
    assert set(kept.state_dict()) == set(fresh.state_dict())


def test_only_a_new_run_says_that_its_discriminators_start_untrained(
    trained: Path, adversarial_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = "adversarial={discriminators: [{family: light, channels: 3}]}"
    told = []
    for steps in (1, 2):
        overrides = [other, f"run.total_steps={steps}"]
        run_training("codec", adversarial_config, overrides, tmp_path / "run", str(trained))
        told.append("start untrained" in capsys.readouterr().out)
    assert told == [True, False]


def test_a_contradicting_model_section_is_refused_by_its_first_key(
    trained: Path, codec_config: Path
) -> None:
    with pytest.raises(ConfigError, match=r"model\.latent_size is 15"):
        task(codec_config, f"start_from={trained}", "model={latent_size: 15, head_width: 9}")
    renamed = task(codec_config, f"start_from={trained}", "model={codec_id: mine}")
    assert renamed.model.config.codec_id == "mine"
    assert renamed.model.config.latent_size == 12


def test_an_aligner_starts_untrained(slm_config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`train aligner` starts untrained"):
        run_training("aligner", slm_config, [], tmp_path / "run", "shipped")
