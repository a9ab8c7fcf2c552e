"""Tables sum to what a coder needs, leave nothing out, follow the counts, and are the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechlm.errors import ConfigError
from speechlm.transmission.frequencies import cumulative, frequencies_of_counts, ideal_bits

COUNTS = st.lists(st.integers(0, 1 << 30), min_size=1, max_size=200)


@given(COUNTS, st.integers(8, 24))
def test_every_symbol_has_a_share_and_the_sum_is_fixed(counts: list[int], bits: int) -> None:
    table = frequencies_of_counts(np.array(counts), bits)
    assert table.min() >= 1 and table.sum() == 1 << bits
    assert cumulative(table)[[0, -1]].tolist() == [0, 1 << bits]


@given(COUNTS)
def test_a_larger_count_never_has_the_smaller_share(counts: list[int]) -> None:
    order = np.argsort(counts, kind="stable")[::-1]
    # of equal counts the lower symbol may have one more
    steps = np.diff(frequencies_of_counts(np.array(counts))[order])
    assert (steps <= (np.diff(np.array(counts)[order]) == 0)).all()


def test_a_table_is_close_to_the_shares_of_its_counts() -> None:
    counts = np.random.default_rng(0).integers(1, 10_000, 1024)
    table = frequencies_of_counts(counts)
    assert np.abs(table / table.sum() - counts / counts.sum()).max() < 1025 / 65536 / 100
    assert ideal_bits(table, 3) == pytest.approx(-np.log2(table[3] / 65536))


def test_many_tables_at_once_are_the_tables_one_by_one() -> None:
    counts = np.random.default_rng(0).integers(0, 50, (3, 4, 17))
    together = frequencies_of_counts(counts)
    assert all(
        np.array_equal(together[i], frequencies_of_counts(counts[i])) for i in np.ndindex(3, 4)
    )


def test_what_a_table_is_shall_never_change() -> None:
    """Streams are decoded with tables made anew; another rounding would break every one of them."""
    assert frequencies_of_counts(np.array([0, 1, 2, 4]), 6).tolist() == [1, 10, 18, 35]
    assert frequencies_of_counts(np.array([0, 0, 0]), 4).tolist() == [6, 5, 5]
    assert frequencies_of_counts(np.array([5, 5, 5]), 4).tolist() == [6, 5, 5]


@pytest.mark.parametrize(
    ("counts", "bits"),
    [([-1, 2], 16), ([1 << 38], 16), ([1] * 300, 8), ([1, 1], 25), ([0.5, 0.5], 16), ([], 16)],
)
def test_what_makes_no_table_is_refused(counts: list, bits: int) -> None:
    with pytest.raises(ConfigError):
        frequencies_of_counts(np.array(counts), bits)
