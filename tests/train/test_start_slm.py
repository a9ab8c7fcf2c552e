"""Fine-tuning language models: whole or through adapters, from a run or an export, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from speechlm.errors import ConfigError, ModelMismatch
from speechlm.slm.autoregressive import AutoregressiveModel
from speechlm.tokenizer.model_folder import load_model
from speechlm.train.config import LanguageModelTraining, read_run_config
from speechlm.train.export import averaged_model, export_run
from speechlm.train.run import run_training
from speechlm.train.slm import LanguageModelTask

LORA = "lora={rank: 2, alpha: 4}"


@pytest.fixture
def trained(slm_config: Path, tmp_path: Path) -> Path:
    return run_training("slm", slm_config, ["run.total_steps=2"], tmp_path / "trained")


def newest(run: Path) -> Path:
    return sorted((run / "checkpoints").glob("step-*"))[-1]


def task(config: Path, *overrides: str) -> LanguageModelTask:
    return LanguageModelTask(read_run_config(config, list(overrides), LanguageModelTraining))


def test_a_run_goes_on_from_the_averages_of_a_run_and_from_an_export(
    trained: Path, slm_config: Path, tmp_path: Path
) -> None:
    averages, _ = averaged_model(trained)
    started = task(slm_config, f"start_from={trained}", "model={dropout: 0.25}").model
    for name, value in averages.state_dict().items():
        assert torch.equal(started.state_dict()[name], value)
    assert started.decoder.blocks[0].dropout.p == 0.25  # type: ignore[union-attr]
    export_run(trained, tmp_path / "model" / "ar")
    assert (
        task(slm_config, f"start_from={tmp_path / 'model'}", "model={}").model.config.ar_books == 3
    )
    [shards] = read_run_config(slm_config, [], LanguageModelTraining).shards
    tuned = ["model={}", "run.total_steps=1", f"start_from={tmp_path / 'model'}"]
    tuned.append(f"shards=[{shards},{shards}]")
    export_run(run_training("slm", slm_config, tuned, tmp_path / "tuned"), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Fine-tuned from: model.\n" in card
    assert f"Trained on: 2 times {'/'.join(Path(shards).parts[-2:])}.\n" in card


def test_the_best_weights_are_exported_where_they_are_asked_for(
    slm_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validate, losses = LanguageModelTask.validate, iter([3.0, 1.0, 2.0])

    def scripted(self: LanguageModelTask, model: Any) -> Any:
        found = validate(self, model)
        found.metrics["loss"] = next(losses)
        return found

    monkeypatch.setattr(LanguageModelTask, "validate", scripted)
    asked = ["total_steps=3", "cooldown_steps=0", "validate_every=1", "checkpoint_every=1"]
    asked += ["keep_checkpoints=3", "keep_best=true"]
    run = run_training("slm", slm_config, [f"run.{each}" for each in asked], tmp_path / "run")
    model, step = averaged_model(run)
    second, third = sorted((run / "checkpoints").iterdir())[1:]
    own = model.state_dict()
    for checkpoint, is_best in ((second, True), (third, False)):
        averages = load_file(checkpoint / "averages.safetensors")
        assert all(torch.equal(own[name], value) for name, value in averages.items()) == is_best
    export_run(run, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert step == 2 and ", 2 steps, " in card and "| loss | 1 |" in card


def test_adapters_alone_are_trained_and_the_export_is_their_sum_with_the_weights(
    trained: Path, slm_config: Path, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    overrides = ["model={}", LORA, "run.total_steps=4", "run.warmup_steps=0"]
    overrides += ["run.checkpoint_every=2", "run.learning_rate=0.02"]
    run = run_training("slm", slm_config, overrides, tmp_path / "run", str(trained))
    before, _ = averaged_model(trained)
    whole = load_file(newest(run) / "model.safetensors")
    kept = {n.replace(".base_layer", ""): t for n, t in whole.items() if "lora_" not in n}
    assert all(torch.equal(kept[name], value) for name, value in before.state_dict().items())
    averaged = load_file(newest(run) / "averages.safetensors")
    assert all("lora_" in name for name in averaged)
    export_run(run, tmp_path / "out")
    merged = load_model(tmp_path / "out", AutoregressiveModel).state_dict()
    name = "decoder.blocks.0.attention.query_key_value"
    up, down = (averaged[f"{name}.lora_{which}.default.weight"] for which in "BA")
    assert up.abs().max() > 0
    wanted = before.state_dict()[f"{name}.weight"] + 2.0 * up @ down
    assert torch.allclose(merged[f"{name}.weight"], wanted, atol=2e-3)
    assert torch.equal(
        merged["codes.table.weight"], before.state_dict()["codes.table.weight"].half().float()
    )
    small = load_file(tmp_path / "out" / "adapter" / "adapter_model.safetensors")
    assert sum(t.numel() for t in small.values()) == sum(t.numel() for t in averaged.values())
    assert "(LoRA of rank 2, merged)" in (tmp_path / "out" / "README.md").read_text()
    halves = tmp_path / "halves"
    for steps in (2, 4):
        run_training(
            "slm", slm_config, [*overrides, f"run.total_steps={steps}"], halves, str(trained)
        )
    assert all(
        torch.equal(t, whole[n]) for n, t in load_file(newest(halves) / "model.safetensors").items()
    )


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["model={hidden_size: 64}"], r"model\.hidden_size is 64, but"),
        (["model={text_model: pieces}"], r"model\.text_model cannot be set"),
        (["stage=nar", "model={}"], "needs NonAutoregressiveModel"),
    ],
)
def test_what_contradicts_the_weights_is_refused(
    trained: Path, slm_config: Path, overrides: list[str], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        task(slm_config, f"start_from={trained}", *overrides)


def test_a_trained_model_may_be_given_a_voice_vector(trained: Path, slm_config: Path) -> None:
    before = task(slm_config, f"start_from={trained}", "model={}").model
    model = task(slm_config, f"start_from={trained}", "model={voice_vector: true}").model
    assert isinstance(model, AutoregressiveModel) and model.config.voice_vector
    assert not model.voice.output.weight.any()
    kept = model.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in before.state_dict().items())


def test_adapters_for_no_layer_are_refused(trained: Path, slm_config: Path) -> None:
    pytest.importorskip("peft")
    with pytest.raises(ConfigError, match="no linear layer"):
        task(slm_config, f"start_from={trained}", "model={}", "lora={targets: [nothing]}")


def test_other_codecs_and_adapters_of_nothing_are_refused(slm_config: Path) -> None:
    with pytest.raises(ModelMismatch, match="tokenize again"):
        task(slm_config, "start_from=shipped", "model={}")
    with pytest.raises(ConfigError, match="adapts trained weights"):
        task(slm_config, LORA)


def test_a_recipe_of_another_kind_is_refused_in_one_sentence(
    slm_config: Path, codec_config: Path
) -> None:
    for kind, config, theirs in (("slm", codec_config, "codec"), ("codec", slm_config, "slm")):
        with pytest.raises(ConfigError, match=f"is a recipe for `train {theirs}`, not for"):
            run_training(kind, config, [])


def test_rows_are_read_when_they_are_needed(slm_config: Path) -> None:
    from speechlm.train.batches import Draw

    made = task(slm_config)
    opened: list[int] = []
    for shards in made.train_shards:
        reading = shards.row
        shards.row = lambda index, read=reading: (opened.append(index), read(index))[1]  # type: ignore[method-assign]
    made.item(Draw(0, 1))
    assert 1 <= len(opened) <= 2  # the target, and a prompt
