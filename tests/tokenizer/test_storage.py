"""Weights of 8 bits in a file: small, near what was trained, and refused where they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_codecs import TINY

from speechlm.errors import CorruptWeights
from speechlm.tokenizer.codec import CodecModel
from speechlm.tokenizer.config import CodecConfig
from speechlm.tokenizer.model_folder import load_model, save_model
from speechlm.tokenizer.storage import restored, stored


@pytest.fixture
def model() -> CodecModel:
    torch.manual_seed(0)
    return CodecModel(CodecConfig(**TINY)).eval()


def test_every_row_comes_back_within_half_a_step_of_its_largest_weight(
    model: CodecModel, tmp_path: Path
) -> None:
    save_model(model, tmp_path, "int8")
    found = load_model(tmp_path, CodecModel).state_dict()
    in_file = load_file(tmp_path / "model.safetensors")
    num_rounded = 0
    for name, tensor in model.state_dict().items():
        if name + ".int8_scale" not in in_file:
            half = tensor.half().to(tensor.dtype) if tensor.is_floating_point() else tensor
            assert torch.equal(found[name], half)
            continue
        num_rounded += tensor.numel()
        largest = tensor.abs().flatten(1).amax(1)
        error = (found[name] - tensor).abs().flatten(1).amax(1)
        assert (error <= largest / 254 * 1.001).all()
        assert in_file[name].dtype == torch.int8
    assert num_rounded > 0.6 * sum(p.numel() for p in model.parameters())


def test_what_was_stored_in_8_bits_is_stored_alike_again(model: CodecModel, tmp_path: Path) -> None:
    save_model(model, tmp_path / "once", "int8")
    save_model(load_model(tmp_path / "once", CodecModel), tmp_path / "twice", "int8")
    once, twice = (load_file(tmp_path / name / "model.safetensors") for name in ("once", "twice"))
    for name, tensor in once.items():
        # a scale may move by its last bit
        assert torch.allclose(tensor.double(), twice[name].double(), rtol=1e-6, atol=0), name


def test_float32_is_exact_and_half_is_half(model: CodecModel, tmp_path: Path) -> None:
    for storage in ("float32", "half"):
        save_model(model, tmp_path / storage, storage)
    exact = load_model(tmp_path / "float32", CodecModel).state_dict()
    assert all(torch.equal(exact[name], value) for name, value in model.state_dict().items())
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "float32")]
    assert 0.45 < sizes[0] / sizes[1] < 0.6


@pytest.mark.parametrize("damage", ["orphan", "short", "infinite", "half"])
def test_scales_that_do_not_fit_are_refused(damage: str, tmp_path: Path) -> None:
    tensors = stored({"a.weight": torch.randn(4, 20), "a.bias": torch.randn(4)}, "int8")
    if damage == "orphan":
        tensors["b.weight.int8_scale"] = torch.ones(4)
    elif damage == "short":
        tensors["a.weight.int8_scale"] = torch.ones(3)
    elif damage == "infinite":
        tensors["a.weight.int8_scale"][1] = torch.inf
    else:
        tensors["a.weight"] = tensors["a.weight"].half()
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(CorruptWeights, match=r"weights: .*int8_scale"):
        restored(load_file(tmp_path / "x.safetensors"), "weights")
