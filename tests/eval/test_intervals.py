"""Bootstrap intervals cover what they should, and repeat."""

from __future__ import annotations

import pytest
import torch

from speechlm.eval.intervals import ratio_interval


def test_the_interval_of_a_mean_is_that_of_statistics() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(1)).tolist()
    mean = sum(values) / 400
    low, high = ratio_interval(values) or (0, 0)
    assert low < mean < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)  # standard error 1 / sqrt(400)


def test_a_ratio_weighs_sentences_by_their_words() -> None:
    # all errors stand in the short sentences, so the mean of rates would be about a half
    low, high = ratio_interval([1, 0] * 50, [1, 99] * 50) or (0, 0)
    assert low < 0.01 < high < 0.02


def test_nine_in_ten_lists_hold_the_truth() -> None:
    generator = torch.Generator().manual_seed(3)
    hits = 0
    for _ in range(60):
        errors = (torch.rand(80, generator=generator) < 0.3).double().tolist()
        low, high = ratio_interval(errors) or (0, 0)
        hits += low <= 0.3 <= high
    assert hits >= 54


def test_too_little_gives_none_and_the_seed_repeats() -> None:
    assert ratio_interval([]) is None and ratio_interval([0.3]) is None
    assert ratio_interval([0, 0], [0, 0]) is None
    values = [0.1, 0.5, 0.7]
    assert ratio_interval(values) == ratio_interval(values)
