"""How sure is a figure: bootstrap intervals over the sentences of a list."""

from __future__ import annotations

from collections.abc import Sequence

import torch

RESAMPLES = 2000
LEVEL = 0.95


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float] | None = None, seed: int = 0
) -> tuple[float, float] | None:
    """The 95 % percentile interval of a ratio of sums, sentences drawn again with replacement.

    A word error rate is the errors of all sentences by the words of all; a mean is the same with
    denominators of one (Bisani and Ney, "Bootstrap Estimates for Confidence Intervals in ASR
    Performance Evaluation", 2004).

    Args:
        numerators: One a sentence.
        denominators: One a sentence; all 1 if None.
        seed: Of the draws.

    Returns:
        (low, high), or None where fewer than two sentences are known.
    """
    above = torch.tensor(numerators, dtype=torch.float64)
    below = torch.ones_like(above)
    if denominators is not None:
        below = torch.tensor(denominators, dtype=torch.float64)
    if len(above) < 2 or float(below.sum()) == 0:
        return None
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(above), (RESAMPLES, len(above)), generator=generator)
    totals = below[drawn].sum(dim=1)
    ratios = (above[drawn].sum(dim=1) / totals)[totals > 0]
    tail = (1 - LEVEL) / 2
    low, high = ratios.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def interval_columns(
    name: str, values: Sequence[float], per: Sequence[float] | None = None
) -> dict[str, float | None]:
    """`NAME_low` and `NAME_high` of a table's row, None where unknown, so that all rows have the columns.

    Args:
        name: What the values are.
        values, per: Numerators and denominators, as `ratio_interval` takes them.
    """
    low, high = ratio_interval(values, per) or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}
