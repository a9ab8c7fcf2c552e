"""Muon: hidden matrices step along orthogonal ones, everything else exactly as under AdamW."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from accelerate import DistributedType
from tiny_language import ar_model
from torch import nn

from speechlm.errors import ConfigError
from speechlm.train.config import RunSettings
from speechlm.train.muon import Muon, hidden_matrices, orthogonalized
from speechlm.train.optimizer import model_optimizer


@pytest.mark.parametrize("shape", [(24, 24), (24, 96), (96, 24)])
def test_singular_values_come_near_to_one_and_directions_stay(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalized(matrix)
    assert found.shape == shape
    inside = left.T @ found @ right.T  # diagonal where the directions are the same
    values = inside.diagonal()
    assert 0.5 < values.min() <= values.max() < 1.4
    assert (inside - torch.diag(values)).abs().max() < 1e-4


def test_a_step_is_about_as_large_as_adams_whatever_the_gradient() -> None:
    torch.manual_seed(0)
    for scale in (1e-6, 1.0, 1e4):
        weight = nn.Parameter(torch.zeros(64, 192))
        weight.grad = scale * torch.randn(64, 192)
        groups = [
            {"params": [nn.Parameter(torch.zeros(2))]},
            {"params": [weight], "num_matrices": 1},
        ]
        Muon(groups, lr=0.01, weight_decay=0.0).step()
        # Adam's first step has this root mean square exactly, its later ones about a fifth of it
        assert 0.1 < weight.detach().square().mean().sqrt() / 0.01 < 0.3


def test_matrices_that_lie_on_top_of_each_other_step_on_their_own() -> None:
    torch.manual_seed(0)
    gradient = torch.randn(96, 32) * torch.tensor([1.0, 100.0, 0.01]).repeat_interleave(32)[:, None]
    whole = nn.Parameter(torch.zeros(96, 32))
    parts = [nn.Parameter(torch.zeros(32, 32)) for _ in range(3)]
    whole.grad = gradient
    for part, its in zip(parts, gradient.chunk(3), strict=True):
        part.grad = its.clone()
    other = {"params": [nn.Parameter(torch.zeros(2))]}
    Muon([other, {"params": [whole], "num_matrices": 3}], lr=0.01).step()
    Muon([other, {"params": parts, "num_matrices": 1}], lr=0.01).step()
    assert torch.allclose(whole, torch.cat(parts), atol=1e-7)


def test_hidden_matrices_are_those_between_embeddings_and_logits() -> None:
    model = ar_model()
    named = dict(model.named_parameters())
    hidden = hidden_matrices(model)
    assert any("query_key_value" in name for name in hidden)
    assert any("convolutions" in name for name in hidden)
    for name in hidden:
        assert named[name].dim() > 1 and not name.endswith("logits.weight")
    embeddings = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Embedding)}
    assert embeddings and not embeddings & set(hidden)
    packed = {name for name, count in hidden.items() if count == 3}
    assert packed == {name for name in named if name.endswith("query_key_value.weight")}


def test_what_is_no_hidden_matrix_steps_as_under_adamw() -> None:
    accelerator = SimpleNamespace(
        distributed_type=DistributedType.NO, device=torch.device("cpu"), mixed_precision="no"
    )
    after = {}
    for name in ("adamw", "muon"):
        model = ar_model()
        settings = RunSettings(optimizer=name, learning_rate=0.01, weight_decay=0.1)
        optimizer = model_optimizer(model, settings, accelerator)
        assert sum(len(group["params"]) for group in optimizer.param_groups) == len(
            list(model.parameters())
        )
        for seed in (0, 1):
            torch.manual_seed(seed)
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
        after[name] = {n: p.detach().clone() for n, p in model.named_parameters()}
    hidden = hidden_matrices(ar_model())
    for name, tensor in after["adamw"].items():
        assert torch.equal(tensor, after["muon"][name]) == (name not in hidden), name


def test_deepspeed_is_told_that_matrices_must_be_whole() -> None:
    accelerator = SimpleNamespace(
        distributed_type=DistributedType.DEEPSPEED, device=torch.device("cpu"), mixed_precision="no"
    )
    with pytest.raises(ConfigError, match="DeepSpeed"):
        model_optimizer(ar_model(), RunSettings(optimizer="muon"), accelerator)
