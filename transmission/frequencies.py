"""Integer frequency tables: what a range coder takes in place of probabilities.

Floating point enters nowhere, so that equal counts give equal tables on every machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .symbol_model import TOTAL_BITS

MAX_TOTAL_BITS = 24
_MAX_COUNT_SUM = 1 << 38  # times a total of 2 ** 24 it still fits an int64


def frequencies_of_counts(
    counts: NDArray[np.integer], total_bits: int = TOTAL_BITS
) -> NDArray[np.int64]:
    """Tables whose shares follow counts: every symbol gets 1, the rest is dealt out by largest remainder.

    Of equal remainders the lower symbol comes first. Counts that are all zero give a uniform table.

    Args:
        counts: Integers `[..., V]`, none negative, each table's sum below 2^38.
        total_bits: The frequencies of each table sum to `2 ** total_bits`.

    Returns:
        int64 `[..., V]`, each at least 1.

    Raises:
        ConfigError: If a count is negative or too large, or V does not fit the total.
    """
    counts = np.asarray(counts)
    if not np.issubdtype(counts.dtype, np.integer) or counts.ndim < 1 or not counts.shape[-1]:
        raise ConfigError("A frequency table is made of integer counts, one for each symbol.")
    size, total = counts.shape[-1], 1 << total_bits
    if not 0 < total_bits <= MAX_TOTAL_BITS or size > total:
        raise ConfigError(
            f"A table of {size} symbols cannot sum to 2^{total_bits}; each symbol needs at least 1, "
            f"and the most is 2^{MAX_TOTAL_BITS}."
        )
    counts = counts.astype(np.int64)
    sums = counts.sum(-1, keepdims=True)
    # a sum of non-negative counts below the cap cannot have wrapped unless a single count is above it
    if counts.size and (
        counts.min() < 0 or counts.max() >= _MAX_COUNT_SUM or sums.max() >= _MAX_COUNT_SUM
    ):
        raise ConfigError("Counts must be at least 0 and sum to less than 2^38.")
    counts = np.where(sums == 0, 1, counts)
    sums = np.where(sums == 0, size, sums)
    share, remainder = np.divmod(counts * (total - size), sums)
    table = share + 1
    missing = total - table.sum(-1, keepdims=True)
    rank = np.empty_like(table)
    order = np.argsort(-remainder, axis=-1, kind="stable")
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(size), table.shape), -1)
    return table + (rank < missing)


def cumulative(table: NDArray[np.integer]) -> NDArray[np.int64]:
    """Sums before each symbol and after the last: int64 `[V + 1]` of `[V]`, from 0 to the total."""
    sums = np.zeros(len(table) + 1, dtype=np.int64)
    np.cumsum(table, out=sums[1:])
    return sums


def ideal_bits(table: NDArray[np.integer], symbol: int) -> float:
    """Information of a symbol under a table, in bits; for reports, never for coding."""
    return float(np.log2(table.sum()) - np.log2(table[symbol]))
