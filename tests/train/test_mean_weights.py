"""`speechlm export --mean-with`: the mean of runs as one model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from speechlm.errors import ConfigError
from speechlm.train.export import averaged_model, export_run
from speechlm.train.mean_weights import mix_into, parse_shares
from speechlm.train.run import run_training


@pytest.fixture
def runs(slm_config: Path, tmp_path: Path) -> list[Path]:
    """Three runs from other seeds, and so of other weights."""
    return [
        run_training(
            "slm", slm_config, ["run.total_steps=2", f"run.seed={seed}"], tmp_path / f"r{seed}"
        )
        for seed in range(3)
    ]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return averaged_model(run)[0].state_dict()


@pytest.mark.parametrize(
    ("asked", "shares"), [(("", ""), (1 / 3, 1 / 3, 1 / 3)), (("=0.2", "=0.5"), (0.3, 0.2, 0.5))]
)
def test_each_run_weighs_as_asked(
    runs: list[Path], tmp_path: Path, asked: tuple[str, str], shares: tuple[float, ...]
) -> None:
    others = [f"{run}{share}" for run, share in zip(runs[1:], asked, strict=True)]
    export_run(runs[0], tmp_path / "out", "float32", others)
    found = load_file(tmp_path / "out" / "model.safetensors")
    parts = [weights(run) for run in runs]
    for name, value in found.items():
        wanted = sum(share * part[name] for share, part in zip(shares, parts, strict=True))
        assert torch.allclose(value, torch.as_tensor(wanted), atol=1e-6), name
    assert not torch.equal(found[name], parts[0][name])
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{shares[1]:.3g} of r1, {shares[2]:.3g} of r2" in card
    assert "figures are this run's alone" in card


def test_what_is_the_same_everywhere_stays_bit_for_bit(runs: list[Path]) -> None:
    model, twin, third = (averaged_model(run)[0] for run in (runs[0], runs[0], runs[0]))
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    mix_into(model, [(twin, 0.3, "twin"), (third, 0.17, "third")])
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["a=0.5", "b"], "some none"),
        (["a=0.5", "b=0.5"], "add up to 1"),
        (["a=1.5"], "between 0 and 1"),
        (["a=half"], "between 0 and 1"),
        (["a=nan"], "between 0 and 1"),
    ],
)
def test_shares_that_make_no_mean_are_refused(asked: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_shares(asked)


def test_a_folder_whose_name_holds_a_sign_is_a_run(tmp_path: Path) -> None:
    (tmp_path / "rate=0.1").mkdir()
    assert parse_shares([f"{tmp_path}/rate=0.1"]) == [(tmp_path / "rate=0.1", 0.5)]


def test_other_models_are_refused_before_anything_is_written(
    runs: list[Path], slm_config: Path, codec_config: Path, tmp_path: Path
) -> None:
    wider = run_training(
        "slm", slm_config, ["run.total_steps=1", "model.ffn_size=64"], tmp_path / "wider"
    )
    with pytest.raises(ConfigError, match="its ffn_size is 64, not 48"):
        export_run(runs[0], tmp_path / "out", mean_with=[str(wider)])
    codec = run_training("codec", codec_config, ["run.total_steps=1"], tmp_path / "codec")
    with pytest.raises(ConfigError, match="cannot be averaged"):
        export_run(runs[0], tmp_path / "out", mean_with=[str(codec)])
    with pytest.raises(ConfigError, match="nothing has no checkpoint"):
        export_run(runs[0], tmp_path / "out", mean_with=["nothing"])
    assert not (tmp_path / "out").exists()
