"""The fine model in integers: the float model's codes, and the same in pieces, batches and draws."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from tiny_transmission import CODEC, as_codes, entropy_model, fine_model, ruled_codes

from speechlm.errors import ConfigError, ModelMismatch
from speechlm.transmission.integer_fine import IntegerFineModel
from speechlm.transmission.integer_quantize import quantize


def integers(seed: int = 0) -> IntegerFineModel:
    return IntegerFineModel(quantize(fine_model(seed)))


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_pieces_of_any_size_give_the_codes_of_the_whole(temperature: float) -> None:
    base = ruled_codes(24)[:2]
    model = integers()
    whole = model.stream(temperature=temperature, seed=3).push(base)
    for sizes in ([1] * 24, [5, 0, 7, 12]):
        stream = model.stream(temperature=temperature, seed=3)
        pieces = [stream.push(piece) for piece in base.split(sizes, 1)]
        assert torch.equal(torch.cat(pieces, dim=1), whole)


def test_likeliest_codes_are_those_of_the_trained_model() -> None:
    codes = as_codes(ruled_codes(1, batch=60)[:, :2])  # later frames would read other guesses
    true, found = fine_model().complete(codes).values, integers().complete(codes).values
    assert (true == found).float().mean() > 0.95


def test_draws_follow_the_distribution() -> None:
    model = integers()
    base = ruled_codes(1)[:2]
    hidden = model.network.advance(model.network.new_cache(), None, base[:, 0].tolist())
    counts = torch.from_numpy(model.network.counts(hidden, 0)).double()
    drawn = torch.cat(
        [model.stream(temperature=1.0, top_k=32, seed=s).push(base)[0] for s in range(600)]
    )
    share = torch.bincount(drawn, minlength=32) / 600
    assert (share - counts / counts.sum()).abs().max() < 0.08
    few = {int(model.stream(temperature=2.0, top_k=2, seed=s).push(base)[0]) for s in range(60)}
    assert few == set(counts.topk(2).indices.tolist())
    sure = {int(model.stream(temperature=0.02, seed=s).push(base)[0]) for s in range(20)}
    assert sure == {int(counts.argmax())}


def test_with_entries_the_code_nearest_to_their_mean_is_taken() -> None:
    model = integers()
    entries = torch.randn(4, 32, 5, generator=torch.Generator().manual_seed(0))
    base = ruled_codes(12)[:2]
    found = model.stream(entries=entries).push(base)
    cache, previous = model.network.new_cache(), None
    for frame in range(12):
        hidden = model.network.advance(cache, previous, base[:, frame].tolist())
        previous = found[:, frame].tolist()
        for level, code in enumerate(previous):
            shares = torch.from_numpy(model.network.counts(hidden, level)).double()
            mean = shares / shares.sum() @ entries[2 + level].double()
            distance = (entries[2 + level].double() - mean).norm(dim=1)
            assert distance[code] < distance.min() + 1e-3
            if level == 0:
                hidden = model.network.tell(hidden, 0, code)
    stream = model.stream(entries=entries)
    assert torch.equal(torch.cat([stream.push(piece) for piece in base.split(5, 1)], 1), found)
    full = model.complete(as_codes(base[None]), entries=entries)
    assert torch.equal(full.values[0, 2:], found)
    with pytest.raises(ModelMismatch, match="32 entries"):
        model.stream(entries=entries[:, :16])


def test_the_mean_sound_is_that_of_sent_codes_and_of_the_mean_of_the_others() -> None:
    model = integers()
    entries = torch.randn(4, 32, 5, generator=torch.Generator().manual_seed(0))
    base = ruled_codes(12)[:2]
    codes = model.stream(entries=entries).push(base)
    latents = model.stream(entries=entries).push_latents(base)
    cache, previous = model.network.new_cache(), None
    for frame in range(12):
        hidden = model.network.advance(cache, previous, base[:, frame].tolist())
        previous = codes[:, frame].tolist()
        expected = (entries[0, base[0, frame]] + entries[1, base[1, frame]]).double()
        for level, code in enumerate(previous):
            shares = torch.from_numpy(model.network.counts(hidden, level)).double()
            expected += shares / shares.sum() @ entries[2 + level].double()
            if level == 0:
                hidden = model.network.tell(hidden, 0, code)
        assert (latents[frame] - expected).abs().max() < 4e-3
    stream = model.stream(entries=entries)
    mixed = [stream.push_latents(base[:, :5]), stream.push_latents(base[:, 5:])]
    assert torch.equal(torch.cat(mixed), latents)
    with pytest.raises(ConfigError, match="entries"):
        model.stream().push_latents(base)


def test_items_of_a_batch_and_their_ends() -> None:
    codes = as_codes(ruled_codes(10, batch=2)[:, :2])
    short = dataclasses.replace(codes, num_samples=torch.tensor([3200, 1900]))
    model = integers()
    full = model.complete(short, temperature=1.0, seed=5)
    assert full.values.shape == (2, 4, 10)
    assert torch.equal(full.values[0, :2], codes.values[0, :2])
    assert not full.values[1, :, 6:].any()
    alone = model.stream(temperature=1.0, seed=6).push(codes.values[1, :2, :6])
    assert torch.equal(full.values[1, 2:, :6], alone)


def test_a_model_comes_back_from_its_folder(tmp_path: Path) -> None:
    model = integers()
    model.network.save(tmp_path)
    loaded = IntegerFineModel.load(tmp_path)
    assert loaded.fingerprint == model.fingerprint
    base = ruled_codes(9)[:2]
    assert torch.equal(loaded.stream().push(base), model.stream().push(base))


def test_what_does_not_fit_is_refused() -> None:
    model = integers()
    other = dataclasses.replace(CODEC, revision="1" * 16)
    with pytest.raises(ModelMismatch, match="revision"):
        model.complete(as_codes(ruled_codes(4, batch=1), other))
    with pytest.raises(ModelMismatch, match="3 base books"):
        three = IntegerFineModel(quantize(fine_model(num_base_books=3)))
        three.complete(as_codes(ruled_codes(4, batch=1)[:, :2]))
    with pytest.raises(ModelMismatch, match="no entropy model"):
        IntegerFineModel(quantize(entropy_model()))
    for how in ({"temperature": -1.0}, {"top_k": 0}, {"seed": -1}, {"temperature": float("nan")}):
        with pytest.raises(ConfigError, match="temperature"):
            model.stream(**how)  # type: ignore[arg-type]
