"""The fine model: what it keeps, what it reads, and that pieces of any size give the same codes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_transmission import CODEC, as_codes, fine_model, ruled_codes
from torch import Tensor

from speechlm.errors import ConfigError, ModelMismatch
from speechlm.transmission.config import FineConfig


def pushed(base: Tensor, sizes: list[int], **how: float) -> Tensor:
    """Fine codes of `[B, G, T]` that arrive in pieces."""
    stream = fine_model().stream(batch_size=len(base), **how)  # type: ignore[arg-type]
    return torch.cat([stream.push(piece) for piece in base.split(sizes, 2)], dim=2)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_pieces_of_any_size_give_the_codes_of_the_whole(temperature: float) -> None:
    base = ruled_codes(24, batch=2)[:, :2]
    whole = pushed(base, [24], temperature=temperature, seed=3)
    for sizes in ([1] * 24, [5, 0, 7, 12]):
        assert torch.equal(pushed(base, sizes, temperature=temperature, seed=3), whole)


def test_sent_books_stay_and_the_others_are_filled_in() -> None:
    codes = as_codes(ruled_codes(15, batch=2)[:, :2])
    full = fine_model().complete(codes)
    assert full.values.shape == (2, 4, 15)
    assert torch.equal(full.values[:, :2], codes.values)
    assert full.identity == codes.identity
    assert torch.equal(full.num_samples, codes.num_samples)


def test_books_above_the_sent_ones_are_not_read() -> None:
    values = ruled_codes(15, batch=1)
    other = values.clone()
    other[:, 2:] = 0
    model = fine_model()
    assert torch.equal(
        model.complete(as_codes(values)).values, model.complete(as_codes(other)).values
    )


def test_nothing_ahead_is_read() -> None:
    base = ruled_codes(20, batch=1)[:, :2]
    other = base.clone()
    other[:, :, 11:] = 31 - other[:, :, 11:]
    fine, changed = pushed(base, [20]), pushed(other, [20])
    assert torch.equal(fine[:, :, :11], changed[:, :, :11])
    assert not torch.equal(fine[:, :, 11:], changed[:, :, 11:])


def test_an_item_gets_what_it_would_get_alone_and_a_seed_is_a_draw() -> None:
    values = ruled_codes(12, batch=2)[:, :2]
    model = fine_model()
    both = model.complete(as_codes(values), temperature=1.0, seed=5).values
    second = model.complete(as_codes(values[1:]), temperature=1.0, seed=6).values
    assert torch.equal(both[1:], second)
    again = model.complete(as_codes(values), temperature=1.0, seed=50).values
    assert not torch.equal(both, again)


def test_frames_past_an_items_length_are_zero() -> None:
    codes = as_codes(ruled_codes(10, batch=2)[:, :2])
    short = dataclasses.replace(codes, num_samples=torch.tensor([3200, 1900]))
    full = fine_model().complete(short)
    assert full.lengths.tolist() == [10, 6]
    assert not full.values[1, :, 6:].any()


def test_codes_of_another_codec_are_refused() -> None:
    other = dataclasses.replace(CODEC, revision="1" * 16)
    with pytest.raises(ModelMismatch, match="revision"):
        fine_model().complete(as_codes(ruled_codes(4, batch=1), other))


def test_codes_without_all_base_books_are_refused() -> None:
    model = fine_model(num_base_books=3)
    with pytest.raises(ModelMismatch, match="3 base books"):
        model.complete(as_codes(ruled_codes(4, batch=1)[:, :2]))


def test_a_model_without_a_book_to_generate_is_refused() -> None:
    with pytest.raises(ConfigError, match="no fine one is left"):
        FineConfig.for_codec(CODEC, num_base_books=4)


@pytest.mark.parametrize("how", [{"temperature": -0.1}, {"top_k": 0}])
def test_draws_that_mean_nothing_are_refused(how: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="temperature"):
        fine_model().stream(**how)  # type: ignore[arg-type]
