"""The masked model reads what it is shown, and nothing else; its integer twin says the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_masked import masked_model
from tiny_transmission import CODEC, ruled_codes

from speechlm.errors import ConfigError, CorruptWeights, ModelMismatch
from speechlm.tokenizer.model_folder import load_model, save_model
from speechlm.transmission.config import EntropyConfig, MaskedConfig
from speechlm.transmission.frequencies import frequencies_of_counts
from speechlm.transmission.integer_masked import IntegerMaskedModel
from speechlm.transmission.integer_model import IntegerFrameModel
from speechlm.transmission.integer_quantize import quantize_masked
from speechlm.transmission.masked_model import MaskedModel, MaskedOutput

BOOKS, FRAMES, BASE = 4, 9, 2


def masks(value: bool) -> torch.Tensor:
    return torch.full((1, BOOKS, FRAMES), value)


def read(
    model: MaskedModel,
    codes: torch.Tensor,
    is_known: torch.Tensor,
    *,
    is_told: torch.Tensor | None = None,
    segments: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross-entropy of all codes of a look, `[K, T]`."""
    told = is_known if is_told is None else is_told
    parts = torch.zeros(1, FRAMES, dtype=torch.int64) if segments is None else segments[None]
    with torch.no_grad():
        out: MaskedOutput = model(codes[None], is_known, told, masks(True), parts)
    assert out.nats is not None
    return out.nats[0]


def others(codes: torch.Tensor) -> torch.Tensor:
    return (codes + 7) % CODEC.codebook_size


def test_every_known_code_is_read_from_every_frame_before_and_behind() -> None:
    model, codes = masked_model(), ruled_codes(FRAMES)
    is_known = masks(True)
    is_known[:, :, 4] = False
    plain = read(model, codes, is_known)[:, 4]
    for frame in (0, 3, 5, 8):
        for book in range(BOOKS):
            changed = codes.clone()
            changed[book, frame] = others(codes)[book, frame]
            assert not torch.equal(read(model, changed, is_known)[:, 4], plain)


def test_codes_that_are_not_known_are_not_read() -> None:
    model, codes = masked_model(), ruled_codes(FRAMES)
    is_known = torch.rand(1, BOOKS, FRAMES, generator=torch.Generator().manual_seed(1)) < 0.5
    unread = torch.where(is_known[0], codes, others(codes))
    with torch.no_grad():
        places, entries = torch.tensor([4]), torch.randn(BOOKS, 32, 5)
        shown = torch.where(is_known, codes, -1)
        latents = model.mean_latents(shown, places, entries)
        states = [model._states(each[None], is_known) for each in (codes, unread)]
        assert torch.equal(*states)
        shown[~is_known] = -5
        assert torch.equal(model.mean_latents(shown, places, entries), latents)


def test_segments_do_not_see_each_other() -> None:
    model, codes = masked_model(), ruled_codes(FRAMES)
    segments = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    changed = codes.clone()
    changed[:, 3:5] = others(codes)[:, 3:5]
    found, again = (read(model, each, masks(True), segments=segments) for each in (codes, changed))
    same = segments != 1
    assert torch.equal(found[:, same], again[:, same])
    alone = read(model, codes, masks(True))
    assert not torch.equal(found[:, same], alone[:, same])


def test_a_fine_book_is_told_the_fine_books_below_it_and_no_other() -> None:
    model, codes = masked_model(), ruled_codes(FRAMES)
    is_known = masks(False)
    is_known[:, :BASE] = True
    changed = codes.clone()
    changed[BASE] = others(codes)[BASE]
    told, untold = masks(True), is_known
    first = [read(model, each, is_known, is_told=told) for each in (codes, changed)]
    assert not torch.equal(first[0][BASE + 1], first[1][BASE + 1])
    second = [read(model, each, is_known, is_told=untold) for each in (codes, changed)]
    assert torch.equal(second[0][BASE + 1], second[1][BASE + 1])
    changed[BASE + 1] = others(codes)[BASE + 1]
    top = [read(model, each, is_known, is_told=told) for each in (codes, changed)]
    assert torch.equal(first[0][:BASE], top[1][:BASE])


def test_a_mean_latent_is_received_entries_and_the_mean_of_the_others() -> None:
    model, codes = masked_model(), ruled_codes(FRAMES)
    entries = torch.randn(BOOKS, 32, 5, generator=torch.Generator().manual_seed(0))
    shown = codes.clone()
    shown[1:, 4] = -1
    shown[:, 6] = -1
    with torch.no_grad():
        found = model.mean_latents(shown.expand(3, -1, -1), torch.tensor([4, 6, 3]), entries)
        logits = []
        states = model._states(shown[None], shown[None] >= 0)
        for book, head in enumerate(model.heads):
            logits.append(head(states)[0])
            if book == BASE:
                told = torch.where(
                    (shown[BASE] >= 0)[:, None],
                    model.codes.of_book(BASE, shown[BASE].clamp(min=0)),
                    model.unknown.weight[BASE],
                )
                states = states + model.chosen[0](told)
    means = [row.softmax(-1) @ entries[book] for book, row in enumerate(logits)]
    wanted = entries[0, codes[0, 4]] + sum(mean[4] for mean in means[1:])
    assert torch.allclose(found[0], wanted, atol=1e-5)
    assert torch.allclose(found[1], sum(mean[6] for mean in means), atol=1e-5)
    assert torch.allclose(found[2], sum(entries[k, codes[k, 3]] for k in range(BOOKS)), atol=1e-6)


def test_codes_begin_as_alike_as_a_codecs_entries() -> None:
    model = masked_model()
    entries = torch.randn(BOOKS, 32, 6)
    entries[:, 1] = entries[:, 0]
    model.take_codebooks(entries)
    for book in range(BOOKS):
        table = model.codes.table.weight.unflatten(0, (BOOKS, -1))[book]
        assert torch.allclose(table[0], table[1])
        assert not torch.allclose(table[0], table[2])
        logits = model.heads[book].logits.weight
        assert torch.allclose(logits[0], logits[1])
    with pytest.raises(ModelMismatch, match="codec has 3"):
        model.take_codebooks(entries[:3])


def test_integers_cost_hardly_a_bit() -> None:
    model, codes = masked_model(), ruled_codes(FRAMES)
    twin = quantize_masked(model)
    columns = np.array([True, True, False, True, True, True, False, True, True])
    is_known = masks(False)
    is_known[:, :BASE] = torch.from_numpy(columns)
    with torch.no_grad():
        states = model._states(codes[None], is_known)[0]
        first = model.heads[BASE](states).double().softmax(-1).numpy()
        told = states + model.chosen[0](model.codes.of_book(BASE, codes[BASE]))
        second = model.heads[BASE + 1](told).double().softmax(-1).numpy()
    integer = twin.states(codes[:BASE].numpy(), columns)
    counts = [twin.counts(integer, 0)]
    counts.append(twin.counts(twin.tell(integer, 0, codes[BASE].numpy()), 1))
    for true, found in zip((first, second), counts, strict=True):
        shares = frequencies_of_counts(found, 24) / 2**24
        assert (true * np.log2(true / shares)).sum(-1).max() < 0.1
        assert (true * np.log2(true / shares)).sum(-1).mean() < 0.01
        assert 1 < -(true * np.log2(true)).sum(-1).mean() < 4.5


def test_a_packets_states_do_not_depend_on_codes_that_it_lacks() -> None:
    twin, codes = quantize_masked(masked_model()), ruled_codes(FRAMES)[:BASE].numpy()
    is_known = np.arange(FRAMES) % 3 > 0
    changed = np.where(is_known, codes, 0)
    assert np.array_equal(twin.states(codes, is_known), twin.states(changed, is_known))
    assert not np.array_equal(
        twin.states(codes, is_known), twin.states(codes, np.ones(FRAMES, dtype=bool))
    )


def test_both_forms_come_back_from_a_folder_and_no_other_does(tmp_path: Path) -> None:
    model = masked_model()
    twin = quantize_masked(model)
    save_model(model, tmp_path)
    twin.save(tmp_path)
    loaded = IntegerMaskedModel.load(tmp_path, MaskedConfig)
    assert loaded.fingerprint == twin.fingerprint
    assert load_model(tmp_path, MaskedModel).config.codec_identity == CODEC
    with pytest.raises(ConfigError, match="EntropyConfig"):
        IntegerFrameModel.load(tmp_path, EntropyConfig)
    with pytest.raises(CorruptWeights, match="unknown"):
        IntegerMaskedModel(model.config, {k: v for k, v in twin.tensors.items() if k != "unknown"})
    wild = {**twin.tensors, "unknown": np.full_like(twin.tensors["unknown"], 1 << 20)}
    with pytest.raises(CorruptWeights, match="unknown holds"):
        IntegerMaskedModel(model.config, wild)


def test_a_configuration_without_a_fine_book_or_with_too_much_future_is_refused() -> None:
    with pytest.raises(ConfigError, match="no fine one is left"):
        MaskedConfig.for_codec(dataclasses.replace(CODEC, num_codebooks=2))
    with pytest.raises(ConfigError, match="future_frames is 9"):
        MaskedConfig.for_codec(CODEC, window=9, future_frames=9)
