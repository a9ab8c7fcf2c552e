"""Learn a static table from codes: count which code follows which, put what is followed alike into a class.

Classes are found as in k-means with the coding cost as distance: each code joins the class whose table codes
what follows it in the fewest bits (Linde, Buzo and Gray, 1980, with the divergence in place of the square).
A book whose past does not help on held-out codes keeps one class.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, CorpusError
from ..tokenizer.codes import CodecIdentity
from .frequencies import frequencies_of_counts
from .static_table import BookTable, StaticTable

_ROUNDS = 30
_HELD_OUT = 10  # every tenth utterance judges whether classes help
# Weight of the book's overall shares in every row, in counts: what a class has not seen may still come.
_PRIOR_COUNTS = 64
_SCALE = 256  # counts are integers; the prior is dealt out in fractions of this


def learn_static_table(
    utterances: Iterable[NDArray[np.integer]], codec: CodecIdentity, num_classes: int = 128
) -> StaticTable:
    """Tables of all books in `utterances`.

    Args:
        utterances: Codes `[K, T]` each, K the same in all.
        codec: The codec that made them.
        num_classes: Classes of a book whose past tells something; V at the most are made.

    Raises:
        CorpusError: If there are no codes.
        ConfigError: If the number of classes is below 1.
    """
    size = codec.codebook_size
    if num_classes < 1:
        raise ConfigError(f"num_classes is {num_classes}; give 1 or more.")
    pairs: list[NDArray[np.int64]] = []  # [2, K, V, V]: for learning, and held out
    for number, codes in enumerate(utterances):
        codes = np.asarray(codes, dtype=np.int64)
        if not pairs:
            pairs = [np.zeros((len(codes), size, size), dtype=np.int64) for _ in range(2)]
        target = pairs[number % _HELD_OUT == _HELD_OUT - 1]
        for book in range(len(codes)):
            np.add.at(target[book], (codes[book, :-1], codes[book, 1:]), 1)
    if not pairs or not pairs[0].any():
        raise CorpusError("A static table needs codes to learn from; there are none.")
    books = []
    for learn, judge in zip(*pairs, strict=True):
        shares = frequencies_of_counts(learn.sum(0))
        single = np.zeros(size, dtype=np.int64)
        classes = _classes(learn, shares, num_classes)
        costs = [
            _bits(judge, frequencies_of_counts(_rows(learn, shares, labels)), labels)
            for labels in (single, classes)
        ]
        # where nothing is held out, there is no reason to trust classes
        labels = classes if costs[1] < costs[0] else single
        both = learn + judge
        shares = frequencies_of_counts(both.sum(0))
        table = frequencies_of_counts(_rows(both, shares, labels))
        books.append(BookTable(shares, labels, table))
    return StaticTable(codec, tuple(books))


def _rows(
    counts: NDArray[np.int64], shares: NDArray[np.int64], labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Counts of each class with the prior, `[C, V]`."""
    rows = np.zeros((int(labels.max()) + 1, len(shares)), dtype=np.int64)
    np.add.at(rows, labels, counts)
    return rows * _SCALE + shares * (_PRIOR_COUNTS * _SCALE) // int(shares.sum())


def _classes(
    counts: NDArray[np.int64], shares: NDArray[np.int64], num_classes: int
) -> NDArray[np.int64]:
    """The class of each code, `[V]`."""
    prior = shares * (_PRIOR_COUNTS / shares.sum())
    rows = counts[_seeds(counts + prior, counts, num_classes)].astype(np.float64)
    labels = np.full(len(counts), -1)
    for _ in range(_ROUNDS):
        found = (counts @ _log_shares(rows + prior).T).argmax(1)
        if np.array_equal(found, labels):
            break
        labels = found
        rows = np.zeros_like(rows)
        np.add.at(rows, labels, counts)
    # classes that nobody chose leave no row behind
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _seeds(smooth: NDArray[np.float64], counts: NDArray[np.int64], num_classes: int) -> list[int]:
    """Codes to begin classes with: the commonest, then each time the one that the others code worst."""
    best = (counts * _log_shares(smooth)).sum(1)  # with a table of its own
    chosen = [int(counts.sum(1).argmax())]
    reached = np.full(len(counts), -np.inf)
    while len(chosen) < min(num_classes, len(counts)):
        np.maximum(reached, counts @ _log_shares(smooth[chosen[-1]]), out=reached)
        lost = best - reached
        lost[chosen] = -1
        chosen.append(int(lost.argmax()))
    return chosen


def _log_shares(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.log2(rows / rows.sum(-1, keepdims=True))
    return shares


def _bits(counts: NDArray[np.int64], table: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """What held-out pairs cost."""
    cost = np.log2(table.sum(1, keepdims=True) / table)
    return float((counts * cost[labels]).sum())
