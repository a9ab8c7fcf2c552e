"""Several ranks: two are one at the same global batch, and ZeRO-2 trains, saves, resumes and exports."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from speechlm.errors import ConfigError
from speechlm.slm.autoregressive import AutoregressiveModel
from speechlm.tokenizer.model_folder import load_model
from speechlm.train.export import export_run
from speechlm.train.run import run_training

ROOT = Path(__file__).resolve().parents[2]
EVERY = ["batch_frames=150", "run.log_every=1", "run.checkpoint_every=3"]


def ranks(config: Path, run: Path, *overrides: str) -> list[str]:
    """The command that trains on two ranks on this machine's processors."""
    worker = Path(__file__).with_name("rank_worker.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return [*command, str(worker), str(config), str(run), *overrides]


def launch(config: Path, run: Path, *overrides: str, **environment: str) -> None:
    done = subprocess.run(
        ranks(config, run, *overrides),
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def state(run: Path, name: str = "model.safetensors") -> dict[str, torch.Tensor]:
    return load_file(sorted((run / "checkpoints").glob("step-*"))[-1] / name)


def curve(run: Path) -> list[tuple[float, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if line["split"] == "train"]


@pytest.mark.slow
def test_two_ranks_are_one_at_the_same_batch_and_go_on_as_one(
    slm_config: Path, tmp_path: Path
) -> None:
    one = run_training("slm", slm_config, [*EVERY, "run.accumulation=2"], tmp_path / "one")
    launch(slm_config, tmp_path / "two", *EVERY, "run.total_steps=5")
    with pytest.raises(ConfigError, match="takes 2 batches a step"):
        run_training("slm", slm_config, EVERY, tmp_path / "two")
    run_training("slm", slm_config, [*EVERY, "run.accumulation=2"], tmp_path / "two")
    found = curve(tmp_path / "two")
    assert [step for step, _ in found] == [step for step, _ in curve(one)]
    for (_, mine), (_, theirs) in zip(found, curve(one), strict=True):
        assert mine == pytest.approx(theirs, abs=2e-4)
    for name, value in state(one).items():
        assert torch.allclose(state(tmp_path / "two")[name], value, atol=2e-4), name


@pytest.mark.slow
def test_asked_to_stop_the_ranks_keep_the_same_step(slm_config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    long = [*EVERY, "run.total_steps=5000", "run.checkpoint_every=5000", "run.validate_every=5000"]
    process = subprocess.Popen(
        ranks(slm_config, run, *long),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not (run / "metrics.jsonl").is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert "Stopped at step" in process.communicate(timeout=300)[1]
    (kept,) = (run / "checkpoints").glob("step-*")
    stopped = int(kept.name.removeprefix("step-"))
    assert curve(run)[-1][0] == stopped
    launch(slm_config, run, *long, f"run.total_steps={stopped + 2}")
    assert [step for step, _ in curve(run)] == list(range(1, stopped + 3))


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="needs the extra deepspeed"
)
def test_zero_2_trains_saves_resumes_and_exports(slm_config: Path, tmp_path: Path) -> None:
    environment = {
        "DS_ACCELERATOR": "cpu",
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(ROOT / "configs" / "deepspeed-zero2.json"),
    }
    run = tmp_path / "run"
    launch(slm_config, run, *EVERY, "run.total_steps=3", **environment)
    first = state(run)
    launch(slm_config, run, *EVERY, "run.total_steps=6", **environment)
    assert [step for step, _ in curve(run)] == [1, 2, 3, 4, 5, 6]
    assert any(not torch.equal(first[name], value) for name, value in state(run).items())
    plain = tmp_path / "plain"
    launch(slm_config, plain, *EVERY, "run.total_steps=6")
    for name, value in state(plain).items():
        assert torch.allclose(state(run)[name], value, atol=1e-3), name
    export_run(run, tmp_path / "out")
    exported = load_model(tmp_path / "out", AutoregressiveModel)
    averaged = state(run, "averages.safetensors")
    for name, parameter in exported.named_parameters():
        assert torch.equal(parameter.detach(), averaged[name].half().float())


def test_activation_checkpointing_changes_no_number(slm_config: Path, tmp_path: Path) -> None:
    plain = run_training("slm", slm_config, ["run.total_steps=2"], tmp_path / "plain")
    saving = ["run.total_steps=2", "run.activation_checkpointing=true"]
    other = run_training("slm", slm_config, saving, tmp_path / "saving")
    assert all(torch.equal(state(other)[name], value) for name, value in state(plain).items())


def test_a_codec_has_no_blocks_to_compute_twice(codec_config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is for language models"):
        run_training("codec", codec_config, ["run.activation_checkpointing=true"], tmp_path / "run")
