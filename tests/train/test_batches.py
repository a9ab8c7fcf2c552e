"""Batches: bounded, complete, the same for everybody."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechlm.errors import ConfigError
from speechlm.train.batches import DurationBatches


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=200),
    seed=st.integers(0, 100),
    epoch=st.integers(0, 3),
)
@settings(max_examples=40, deadline=None)
def test_every_item_once_within_the_bound(lengths: list[int], seed: int, epoch: int) -> None:
    batches = DurationBatches(lengths, 120, seed, bucket=32).batches(epoch)
    assert sorted(draw.index for batch in batches for draw in batch) == list(range(len(lengths)))
    assert all(max(lengths[draw.index] for draw in batch) * len(batch) <= 120 for batch in batches)


def test_order_is_a_function_of_seed_and_epoch_only() -> None:
    lengths = list(range(1, 101))
    first, second = (DurationBatches(lengths, 300, 7) for _ in range(2))
    second.batches(5)
    assert first.batches(2) == second.batches(2)
    assert first.batches(2) != first.batches(3)
    assert first.batches(2) != DurationBatches(lengths, 300, 8).batches(2)


def test_start_skips_exactly_what_was_consumed() -> None:
    sampler = DurationBatches(list(range(1, 101)), 300, 0)
    every = list(sampler)
    sampler.start = 4
    assert list(sampler) == every[4:]
    assert len(sampler) == len(every) - 4


def test_ranks_see_equally_many_batches() -> None:
    sampler = DurationBatches([10] * 97, 30, 0, multiple=4)
    assert len(sampler.batches(0)) % 4 == 0


def test_impossible_data_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to train on"):
        DurationBatches([], 10, 0)
    with pytest.raises(ConfigError, match="does not fit"):
        DurationBatches([11], 10, 0)
    with pytest.raises(ConfigError, match="too small"):
        DurationBatches([10], 10, 0, multiple=2)
