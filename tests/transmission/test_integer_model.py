"""The integer profile: exact where it says so, near the trained model, and refusing what it cannot hold."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tiny_transmission import entropy_model, fine_model, ruled_codes, whole

from speechlm.errors import ConfigError, CorruptWeights, ModelMismatch
from speechlm.transmission.chunk_coder import decode_chunk, encode_chunk
from speechlm.transmission.config import EntropyConfig, FineConfig
from speechlm.transmission.entropy_coding import IntegerEntropyModel
from speechlm.transmission.frame_model import FrameModel
from speechlm.transmission.frequencies import frequencies_of_counts
from speechlm.transmission.integer_arithmetic import (
    EXP_BITS,
    LIMIT,
    ONE,
    SCALE_BITS,
    STREAM_LIMIT,
    IntegerLinear,
    exp2,
    rms_norm,
    silu,
)
from speechlm.transmission.integer_model import WEIGHTS, IntegerFrameModel, shapes
from speechlm.transmission.integer_quantize import quantize


def test_powers_of_two_are_right_to_the_last_bit_or_one_off() -> None:
    exponents = np.arange(0, 34 * ONE, 7)
    true = [math.floor(2.0 ** (EXP_BITS - number / ONE)) for number in exponents.tolist()]
    error = exp2(exponents) - np.array(true)
    assert error.min() >= -1
    assert error.max() <= 0
    assert exp2(np.array([0])) == 1 << EXP_BITS


def test_silu_and_norm_are_those_of_the_trained_model() -> None:
    x = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    given = (x * ONE).round().long().numpy()
    true = torch.nn.functional.silu(torch.from_numpy(given).double() / ONE)
    assert np.abs(silu(given) / ONE - true.numpy()).max() < 0.6 / ONE
    chance = torch.Generator().manual_seed(0)
    rows = torch.randn(9, 48, generator=chance, dtype=torch.float64)
    rows = rows * torch.logspace(-1, 2, 9)[:, None]
    given = (rows * ONE).round().long().numpy()
    true = torch.nn.functional.rms_norm(torch.from_numpy(given).double() / ONE, (48,), eps=1e-6)
    assert np.abs(rms_norm(given) / ONE - true.numpy()).max() < 1 / ONE


def test_a_norm_holds_at_both_ends() -> None:
    assert not rms_norm(np.zeros(8, dtype=np.int64)).any()
    for size in (1, 32, 1024):
        largest = rms_norm(np.full(size, STREAM_LIMIT, dtype=np.int64))
        assert np.abs(largest - ONE).max() <= 1
        alone = np.zeros(size, dtype=np.int64)
        alone[0] = -STREAM_LIMIT
        assert abs(int(rms_norm(alone)[0]) + math.isqrt(size << 24)) <= 1


def test_a_linear_layer_is_exact_at_the_largest_values_that_can_come() -> None:
    weight = np.full((4, 1024), -128, dtype=np.int8)
    weight[1:] = np.random.default_rng(0).integers(-128, 128, (3, 1024))
    scale = np.full(4, (1 << SCALE_BITS) - 1, dtype=np.int32)
    x = np.full(1024, LIMIT, dtype=np.int64)
    x[::3] = -LIMIT + 1
    for given in (x, np.full(1024, LIMIT), np.full(1024, -LIMIT)):
        true = [
            sum(int(w) * int(v) for w, v in zip(row, given, strict=True)) * int(scale[0])
            for row in weight
        ]
        true = [(value + (1 << (SCALE_BITS - 1))) >> SCALE_BITS for value in true]
        found = IntegerLinear(weight, scale)(given).tolist()
        assert found == [max(-LIMIT, min(LIMIT, value)) for value in true]
    small = IntegerLinear(weight, np.full(4, 3, dtype=np.int32), np.arange(4, dtype=np.int32))
    sums = weight.astype(object) @ x.astype(object)
    assert small(x).tolist() == [(int(s) * 3 + (1 << 23) >> 24) + i for i, s in enumerate(sums)]


def tables(model: IntegerFrameModel, codes: torch.Tensor) -> np.ndarray:
    """Shares of all codes, float64 `[T, P, V]`, from the step."""
    cache, previous, found = model.new_cache(), None, []
    first, end = model.num_given, model.num_given + model.num_levels
    for frame in codes.T.tolist():
        hidden = model.advance(cache, previous, frame[:first])
        previous = frame[first:end]
        for level, code in enumerate(previous):
            found.append(frequencies_of_counts(model.counts(hidden, level), 24) / 2**24)
            if level + 1 < model.num_levels:
                hidden = model.tell(hidden, level, code)
    return np.stack(found).reshape(len(codes.T), model.num_levels, -1)


@pytest.mark.parametrize("make", [entropy_model, fine_model])
def test_integers_cost_hardly_a_bit(make: type[FrameModel]) -> None:
    model, codes = make(), ruled_codes(40)  # several windows long: the memory wraps
    true = whole(model, codes).double().softmax(-1).numpy()
    cost = (true * np.log2(true / tables(quantize(model), codes))).sum(-1)
    entropy = -(true * np.log2(true)).sum(-1)
    assert 1 < entropy.mean() < 4.5  # of 5 bits: neither flat nor certain
    assert cost.mean() < 0.01
    assert cost.max() < 0.1


def test_the_memory_of_a_stream_does_not_grow() -> None:
    model = quantize(entropy_model())
    cache, previous = model.new_cache(), None
    size = cache.keys.nbytes
    for frame in ruled_codes(64).T.tolist():
        model.advance(cache, previous)
        previous = frame[:2]
        assert cache.end - cache.start <= model.config.window
    assert cache.keys.nbytes == size


def coder(seed: int = 0) -> IntegerEntropyModel:
    return IntegerEntropyModel(quantize(entropy_model(seed)))


def test_a_chunk_comes_back_and_is_as_long_as_its_information() -> None:
    model = coder()
    codes = ruled_codes(50)[:2].numpy()
    payload, is_raw = encode_chunk(codes, model)
    if not is_raw:
        assert np.array_equal(decode_chunk(payload, 50, model), codes)
    state, drawn, bits = model.start(), [], 0.0
    chance = np.random.default_rng(1)
    for _ in range(100):  # codes as the model expects them
        table = model.frequencies(state)
        assert table.sum() == 1 << 16
        assert table.min() >= 1
        symbol = int(chance.choice(len(table), p=table / table.sum()))
        bits -= math.log2(table[symbol] / 65_536)
        drawn.append(symbol)
        model.push(state, symbol)
    codes = np.array(drawn).reshape(50, 2).T
    payload, is_raw = encode_chunk(codes, model)
    assert not is_raw
    assert 8 * len(payload) < 1.01 * bits + 64
    assert np.array_equal(decode_chunk(payload, 50, model), codes)


def test_tables_do_not_depend_on_how_often_they_are_asked_for() -> None:
    model = coder()
    first, second = model.start(), model.start()
    for symbol in ruled_codes(9)[:2].T.flatten().tolist():
        model.frequencies(first)
        model.frequencies(first)
        model.push(first, symbol)
        model.push(second, symbol)
    assert np.array_equal(model.frequencies(first), model.frequencies(second))


def test_states_of_one_model_are_apart() -> None:
    model, codes = coder(), ruled_codes(12)[:2].T.flatten().tolist()
    alone, first, second = model.start(), model.start(), model.start()
    for symbol in codes:
        model.push(alone, symbol)
    for symbol in codes:
        model.push(first, symbol)
        model.push(second, 31 - symbol)
    assert np.array_equal(model.frequencies(first), model.frequencies(alone))


def test_a_model_comes_back_from_its_folder(tmp_path: Path) -> None:
    model = quantize(entropy_model())
    model.save(tmp_path)
    loaded = IntegerEntropyModel.load(tmp_path)
    assert loaded.fingerprint == model.fingerprint
    assert loaded.codec == model.config.codec_identity
    weights = sum(tensor.size for tensor in model.tensors.values() if tensor.dtype == np.int8)
    assert weights > 0.8 * sum(tensor.size for tensor in model.tensors.values())
    with pytest.raises(ConfigError, match="speechlm-fine"):
        IntegerFrameModel.load(tmp_path, FineConfig)


def test_every_weight_is_in_the_fingerprint() -> None:
    model = quantize(entropy_model())
    seen = {model.fingerprint}
    for name, tensor in model.tensors.items():
        changed = tensor.copy()
        changed.flat[0] = 1 if changed.flat[0] != 1 else 2
        seen.add(IntegerFrameModel(model.config, {**model.tensors, name: changed}).fingerprint)
    assert len(seen) == len(model.tensors) + 1
    wider = EntropyConfig.for_codec(
        model.config.codec_identity, **{n: getattr(model.config, n) for n in SIZE_NAMES}
    )
    assert IntegerFrameModel(wider, model.tensors).fingerprint == model.fingerprint
    wider.codec_revision = "1" * 16
    assert IntegerFrameModel(wider, model.tensors).fingerprint not in seen


SIZE_NAMES = (
    *("hidden_size", "num_layers", "num_heads", "ffn_size"),
    *("code_size", "head_size", "window"),
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("previous.scale", 1 << SCALE_BITS),
        ("previous.scale", -1),
        ("blocks.0.bias", LIMIT + 1),
        ("blocks.1.gain", -(1 << 31)),
        ("start", LIMIT + 1),
        ("heads.0.logits.bias", -LIMIT - 1),
    ],
)
def test_weights_that_could_overflow_are_refused(tmp_path: Path, name: str, value: int) -> None:
    quantize(entropy_model()).save(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    tensors[name].flat[3] = value
    save_file(tensors, tmp_path / WEIGHTS, {"profile": "integer-1"})
    with pytest.raises(CorruptWeights, match=name):
        IntegerEntropyModel.load(tmp_path)


def test_the_largest_weights_that_are_allowed_still_make_tables() -> None:
    model = quantize(entropy_model())
    chance = np.random.default_rng(0)
    extreme = {}
    for name, (kind, shape) in shapes(model.config).items():
        if kind is np.int8:
            extreme[name] = chance.choice([-128, 127], shape).astype(np.int8)
        elif name.endswith(".scale"):
            extreme[name] = np.full(shape, (1 << SCALE_BITS) - 1, dtype=np.int32)
        else:
            largest = 1 << 20 if name.endswith(".gain") else LIMIT
            extreme[name] = chance.choice([-largest, largest], shape).astype(np.int32)
    shares = tables(IntegerFrameModel(model.config, extreme), ruled_codes(20))
    assert np.isfinite(shares).all()
    assert np.allclose(shares.sum(-1), 1)


def test_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    quantize(entropy_model()).save(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    save_file(tensors, tmp_path / WEIGHTS, {"profile": "integer-2"})
    with pytest.raises(CorruptWeights, match="integer-2"):
        IntegerEntropyModel.load(tmp_path)
    save_file({**tensors, "more": np.zeros(3)}, tmp_path / WEIGHTS, {"profile": "integer-1"})
    with pytest.raises(CorruptWeights, match="tensor more"):
        IntegerEntropyModel.load(tmp_path)
    tensors["start"] = tensors["start"].astype(np.int64)
    save_file(tensors, tmp_path / WEIGHTS, {"profile": "integer-1"})
    with pytest.raises(CorruptWeights, match="start is int64"):
        IntegerEntropyModel.load(tmp_path)
    whole_file = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(whole_file[: len(whole_file) // 2])
    with pytest.raises(CorruptWeights, match="not readable"):
        IntegerEntropyModel.load(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(CorruptWeights, match="has no integer"):
        IntegerEntropyModel.load(tmp_path)


def test_weights_that_are_not_finite_are_not_rounded() -> None:
    model = entropy_model()
    model.heads[0].logits.weight.data[3, 1] = torch.nan  # type: ignore[union-attr, operator]
    with pytest.raises(CorruptWeights, match=r"heads\.0\.logits"):
        quantize(model)


def test_a_fine_model_codes_no_stream() -> None:
    with pytest.raises(ModelMismatch, match="entropy model"):
        IntegerEntropyModel(quantize(fine_model()))
