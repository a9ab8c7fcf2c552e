"""Adversarial training: who moves, when, and in which direction."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_codecs import voice

from speechlm.errors import ConfigError
from speechlm.train.adversary import Adversary
from speechlm.train.batches import Draw
from speechlm.train.codec import CodecTask
from speechlm.train.codec_recipe import AdversarialSettings, CodecTraining
from speechlm.train.config import read_run_config
from speechlm.train.run import run_training

FAMILIES = ["light", "mpd", "mrd", "mbstft"]


def discriminators(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step-{step:09d}" / "model_1.safetensors")


def small(*families: str, **changes: object) -> Adversary:
    torch.manual_seed(0)
    named = [{"family": name, "channels": 2} for name in families]
    return Adversary(AdversarialSettings.model_validate({"discriminators": named, **changes}))


def test_every_discriminator_moves_from_its_start_on_and_not_before(
    adversarial_config: Path, tmp_path: Path
) -> None:
    every = ["run.checkpoint_every=1", "run.keep_checkpoints=20", "run.total_steps=9"]
    run = run_training("codec", adversarial_config, every, tmp_path / "run")
    first, before, after = (discriminators(run, step) for step in (1, 6, 7))
    assert len(first) > 4 * 10
    assert all(torch.equal(first[name], before[name]) for name in first)
    still = [name for name in first if torch.equal(before[name], after[name])]
    assert not still
    # every second step: step 7 (from 0) leaves them alone
    assert all(torch.equal(after[n], value) for n, value in discriminators(run, 8).items())


def test_the_codec_learns_from_the_adversary_alone_and_leaves_no_gradient_there(
    adversarial_config: Path,
) -> None:
    silent = ["mel_weight=0", "pitch_weight=0", "voicing_weight=0", "commitment_weight=0"]
    recipe = read_run_config(adversarial_config, [*silent, "continuous_steps=0"], CodecTraining)
    task = CodecTask(recipe, progress=False)
    adversary = task.adversary
    assert adversary is not None
    batch = task.collate([task.item(Draw(index, index)) for index in range(2)])
    task.before_step(0)
    task.model.train()
    loss, parts = task.loss(task.model, batch, 5)
    assert not any(name.startswith("light") for name in parts)
    assert float(loss.detach()) == 0
    loss, parts = task.loss(task.model, batch, 20)
    loss.backward()
    # the source is told pitch and voicing, so that only its head has nothing to learn here
    deaf = [
        name
        for name, parameter in task.model.named_parameters()
        if "pitch_head" not in name and (parameter.grad is None or not parameter.grad.any())
    ]
    assert not deaf
    assert all(parameter.grad is None for parameter in adversary.parameters())
    assert all(parameter.requires_grad for parameter in adversary.parameters())
    assert not any(audio.requires_grad for audio in adversary.heard)


@pytest.mark.parametrize("loss", ["hinge", "lsgan"])
@pytest.mark.parametrize("family", FAMILIES)
def test_both_sides_pull_in_opposite_directions(family: str, loss: str) -> None:
    settings = {"discriminators": [{"family": family, "channels": 2, "loss": loss}]}
    torch.manual_seed(0)
    adversary = Adversary(AdversarialSettings.model_validate({**settings, "feature_weight": 0}))
    real = torch.stack([voice(3200, 100 + 30 * item, item) for item in range(2)])
    fake = 0.1 * torch.randn(2, 3200)
    optimizer = torch.optim.Adam(adversary.parameters(), 5e-3)
    judged = []
    for _ in range(15):
        found, _ = adversary(real, fake)
        judged.append(float(found.detach()))
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
    assert judged[-1] < judged[0] - 2e-3
    signal = fake.clone().requires_grad_()
    before = adversary.codec_loss(real, signal, 0)[0]
    before.backward()
    # what lowers the codec's loss raises that of the discriminators
    moved = fake - 1e-3 * torch.sign(signal.grad)
    with torch.no_grad():
        assert float(adversary.codec_loss(real, moved, 0)[0]) < float(before)
        assert float(adversary(real, moved)[0]) > float(adversary(real, fake)[0])


def test_the_codec_hears_the_adversary_rise() -> None:
    adversary = small("light", start_step=10, ramp_steps=4)
    real, fake = voice(3200)[None], voice(3200, 200)[None]
    heard = [float(adversary.codec_loss(real, fake, step)[0]) for step in (10, 11, 13, 30)]
    assert heard[1:] == pytest.approx([2 * heard[0], 4 * heard[0], 4 * heard[0]], rel=1e-5)


def test_sum_and_mean_over_the_members_differ_by_their_number() -> None:
    real, fake = voice(3200)[None], voice(3200, 200)[None]
    found = []
    for reduction in ("mean", "sum"):
        torch.manual_seed(0)
        named = [{"family": "mpd", "channels": 2, "loss": "lsgan", "reduction": reduction}]
        settings = AdversarialSettings.model_validate({"discriminators": named})
        found.append(float(Adversary(settings)(real, fake)[0].detach()))
    assert found[1] == pytest.approx(5 * found[0], rel=1e-5)


def test_spectra_stay_float32_under_autocast() -> None:
    adversary = small(*FAMILIES)
    real, fake = voice(4800)[None], voice(4800, 150, 1)[None]
    exact, _ = adversary(real, fake)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _ = adversary(real.bfloat16().float(), fake.bfloat16().float())
        half, _ = adversary(real, fake)
    assert float(half) == pytest.approx(float(exact), rel=0.02)
    assert float(rounded) == pytest.approx(float(exact), rel=0.02)


def test_deepspeed_is_refused_before_anything_is_packed(
    adversarial_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ConfigError, match="without DeepSpeed"):
        run_training("codec", adversarial_config, [], tmp_path / "run")
    assert not (tmp_path / "packs").exists()


def test_the_published_recipe_can_be_written_down(codec_config: Path, tmp_path: Path) -> None:
    families = [
        {"family": "mpd"},
        {"family": "mrd"},
        {"family": "mpd", "loss": "lsgan", "reduction": "sum"},
        {"family": "mbstft", "loss": "lsgan", "reduction": "sum"},
    ]
    named = [{**each, "channels": 2} for each in families]
    published = [
        f"adversarial={json.dumps({'discriminators': named, 'betas': [0.9, 0.999]})}",
        "mel_scales=single",
        "mel_weight=45",
        "commitment_weight=1000",
        "full_books_share=0",
        "continuous_steps=0",
        "run.schedule=cosine",
        "run.warmup_steps=0",
        "run.total_steps=2",
    ]
    run = run_training("codec", codec_config, published, tmp_path / "run")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    first = next(line for line in lines if line["split"] == "train")
    known = {"mpd_deceive", "mpd_features", "mrd_deceive", "mrd_features", "mbstft_deceive"}
    assert known <= set(first)
    heard = sum(first[n] for n in first if n.endswith(("_deceive", "_features")))
    rest = 45 * first["mel"] + 1000 * first["commitment"]
    rest += 5 * first["pitch"] + 0.5 * first["voicing"]
    assert first["loss"] == pytest.approx(rest + heard, rel=1e-4)
