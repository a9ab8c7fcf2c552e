"""Runs: exact resume, kills, refusals, export."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from speechlm.errors import ConfigError, Stopped
from speechlm.slm.autoregressive import AutoregressiveModel
from speechlm.tokenizer.codec import load_codec
from speechlm.tokenizer.model_folder import load_model
from speechlm.train.config import RunSettings
from speechlm.train.export import export_run
from speechlm.train.run import run_training
from speechlm.train.schedule import learning_rate, rival_learning_rate
from speechlm.train.slm import LanguageModelTask


@pytest.fixture
def in_foreground() -> Iterator[None]:
    """Ctrl-C as a terminal has it: a suite in the background, which ignores it, passes too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def curve(run: Path) -> list[dict[str, float]]:
    """All logged figures, without the wall clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds_per_step"} for line in lines]


def weights(run: Path) -> dict[str, torch.Tensor]:
    newest = sorted((run / "checkpoints").glob("step-*"))[-1]
    rival = newest / "model_1.safetensors"
    return (
        load_file(newest / "model.safetensors")
        | load_file(newest / "averages.safetensors")
        | (load_file(rival) if rival.is_file() else {})
    )


def assert_same_run(first: Path, second: Path) -> None:
    assert curve(first) == curve(second)
    one, two = weights(first), weights(second)
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("recipe", ["codec", "adversarial", "slm", "slm-muon"])
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
    recipe: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    name, _, optimizer = recipe.partition("-")
    kind = "slm" if name == "slm" else "codec"
    config = request.getfixturevalue(f"{name}_config")
    wishes = [f"run.optimizer={optimizer}"] if optimizer else []
    whole = run_training(kind, config, wishes, tmp_path / "whole")
    for steps in (2, 5, 7):
        leg = [*wishes, f"run.total_steps={steps}"]
        parts = run_training(kind, config, leg, tmp_path / "parts")
    parts = run_training(kind, config, wishes, tmp_path / "parts")
    # the stops validated and logged where the whole run did not
    steps = {line["step"] for line in curve(whole) if line["split"] == "valid"}
    lines = [line for line in curve(parts) if line["split"] == "train" or line["step"] in steps]
    assert lines == curve(whole)
    assert all(torch.equal(a, weights(parts)[name]) for name, a in weights(whole).items())


def test_figures_logged_across_a_stop_are_the_undisturbed_ones(
    slm_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the checkpoint at step 3 lies between the logged steps 2 and 4, the stop between 4 and 6
    often = ["run.log_every=2"]
    whole = run_training("slm", slm_config, often, tmp_path / "whole")
    going = LanguageModelTask.before_step

    def stop(task: LanguageModelTask, step: int) -> None:
        if step == 5:
            raise KeyboardInterrupt
        going(task, step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(LanguageModelTask, "before_step", stop)
        run_training("slm", slm_config, often, tmp_path / "stopped")
    assert_same_run(whole, run_training("slm", slm_config, often, tmp_path / "stopped"))


@pytest.mark.usefixtures("in_foreground")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_keeps_every_step_and_goes_on(
    slm_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    rare = ["run.checkpoint_every=100"]
    whole = run_training("slm", slm_config, rare, tmp_path / "whole")
    before, going = signal.getsignal(number), LanguageModelTask.before_step

    def ask(task: LanguageModelTask, step: int) -> None:
        going(task, step)
        if step == 4:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch, pytest.raises(Stopped, match="at step 5 of"):
        patch.setattr(LanguageModelTask, "before_step", ask)
        run_training("slm", slm_config, rare, tmp_path / "stopped")
    assert signal.getsignal(number) is before
    assert_same_run(whole, run_training("slm", slm_config, rare, tmp_path / "stopped"))


@pytest.mark.usefixtures("in_foreground")
def test_asked_twice_it_stops_at_once(
    slm_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(task: LanguageModelTask, step: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(LanguageModelTask, "before_step", ask)
    with pytest.raises(KeyboardInterrupt):
        run_training("slm", slm_config, [], tmp_path / "run")


def test_killed_at_random_moments_it_ends_as_the_undisturbed_run(
    codec_config: Path, tmp_path: Path
) -> None:
    whole = run_training("codec", codec_config, [], tmp_path / "whole")
    code = (
        "import sys; from pathlib import Path; from speechlm.train.run import run_training; "
        "run_training('codec', Path(sys.argv[1]), [], Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(codec_config), str(tmp_path / "killed")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    metrics = tmp_path / "killed" / "metrics.jsonl"
    chance = random.Random(3)
    for _ in range(3):
        before = metrics.read_bytes() if metrics.is_file() else b""
        process = subprocess.Popen(
            command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if metrics.is_file() and metrics.read_bytes() != before:
                break
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(
        command, env=environment, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    assert_same_run(whole, tmp_path / "killed")


def test_another_configuration_or_other_data_is_not_resumed(
    slm_config: Path, tmp_path: Path
) -> None:
    run = run_training("slm", slm_config, ["run.total_steps=3"], tmp_path / "run")
    with pytest.raises(ConfigError, match=r"run\.learning_rate"):
        run_training("slm", slm_config, ["run.learning_rate=0.5"], run)
    progress = next((run / "checkpoints").glob("step-*")) / "progress.json"
    progress.write_text(progress.read_text().replace('"data": "', '"data": "0'))
    with pytest.raises(ConfigError, match="other data"):
        run_training("slm", slm_config, [], run)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("run.learning_rte=1", "learning_rte"),
        ("model.hidden_sice=1", "hidden_sice"),
        ("run.total_steps=-1", "total_steps"),
        ("nonsense", "key=value"),
        ("shards=[]", "shards is empty"),
    ],
)
def test_wrong_configurations_are_refused_in_one_sentence(
    slm_config: Path, tmp_path: Path, override: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        run_training("slm", slm_config, [override], tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_a_run_started_before_a_key_existed_goes_on(codec_config: Path, tmp_path: Path) -> None:
    run = run_training("codec", codec_config, ["run.total_steps=3"], tmp_path / "run")
    stored = json.loads((run / "config.json").read_text())
    for newer in ("adversarial", "start_from", "mel_scales"):
        stored.pop(newer, None)
    del stored["run"]["schedule"]
    (run / "config.json").write_text(json.dumps(stored))
    run_training("codec", codec_config, ["run.total_steps=4"], run)
    assert curve(run)[-1]["step"] == 4
    with pytest.raises(ConfigError, match=r"run\.schedule"):
        run_training("codec", codec_config, ["run.schedule=cosine"], run)


def test_missing_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no recipe"):
        run_training("slm", tmp_path / "none.yaml", [])


def test_exports_load_as_models(codec_config: Path, slm_config: Path, tmp_path: Path) -> None:
    export_run(run_training("codec", codec_config, [], tmp_path / "codec"), tmp_path / "codec-out")
    codec = load_codec(tmp_path / "codec-out")
    assert bool(codec.quantizer.is_initialised)
    averaged = weights(tmp_path / "codec")["decoder.head.bias"]
    assert torch.equal(codec.state_dict()["decoder.head.bias"], averaged.half().float())
    export_run(run_training("slm", slm_config, [], tmp_path / "ar"), tmp_path / "ar-out")
    model = load_model(tmp_path / "ar-out", AutoregressiveModel)
    assert model.config.ar_books == 3
    assert "consent" in (tmp_path / "ar-out" / "README.md").read_text()
    with pytest.raises(ConfigError, match="no checkpoint"):
        export_run(tmp_path / "nowhere", tmp_path / "out")


def test_learning_rate_rises_stays_and_falls() -> None:
    settings = RunSettings(total_steps=100, warmup_steps=10, cooldown_steps=20, learning_rate=1.0)
    rates = [learning_rate(settings, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:80] == [1.0] * 71
    assert rates[99] == pytest.approx(0.05)
    longer = RunSettings(total_steps=200, warmup_steps=10, cooldown_steps=20, learning_rate=1.0)
    assert [learning_rate(longer, step) for step in range(80)] == rates[:80]


def test_cosine_falls_to_zero_and_a_rival_warms_up_from_its_own_start() -> None:
    cosine = RunSettings(total_steps=100, warmup_steps=0, schedule="cosine", learning_rate=1.0)
    rates = [learning_rate(cosine, step) for step in range(100)]
    assert rates[0] == 1.0
    assert rates[50] == pytest.approx(0.5)
    assert rates[99] < 1e-3
    settings = RunSettings(total_steps=100, warmup_steps=10, cooldown_steps=20)
    rival = [rival_learning_rate(settings, 2.0, 5, 40, step) for step in range(40, 100)]
    assert rival[:6] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0, 2.0])
    assert rival[-1] == pytest.approx(0.1)
