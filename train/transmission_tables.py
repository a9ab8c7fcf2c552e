"""Static tables of codes, what a model of codes is measured against.

Order 0 knows how often each code of a book occurs; order 1 also knows the code before it in the same
book. Both are counted on training data and cost no computation.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

# Weights of order 0 in order 1; a measurement takes the best, which is in the table's favour.
_SMOOTHING = (30.0, 100.0, 300.0, 1000.0)


class StaticTables:
    """Counts of some books' codes, alone and behind each other.

    Args:
        signals: Codes int64 `[K, T]`; frames of different signals are not neighbours.
        books: Which rows are counted.
        codebook_size: V.
    """

    def __init__(self, signals: Iterable[Tensor], books: range, codebook_size: int) -> None:
        self.books, size = books, codebook_size
        self._size = size
        alone = np.zeros((len(books), size))
        pairs = np.zeros((len(books), size * size), dtype=np.float32)
        for codes in signals:
            rows = codes[books.start : books.stop].numpy()
            for book, row in enumerate(rows):
                alone[book] += np.bincount(row, minlength=size)
                np.add.at(pairs[book], row[:-1] * size + row[1:], 1.0)
        alone += 0.5  # no code is impossible
        self._alone = alone / alone.sum(1, keepdims=True)
        self._pairs = pairs.reshape(len(books), size, size)

    def bits(self, pieces: Iterable[Tensor]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean information of a code under order 0 and under order 1, in bits: two `[books]`.

        Args:
            pieces: Codes int64 `[K, T]`; the first frame of each has no past, and takes order 0.
        """
        own: list[NDArray[np.float64]] = []
        behind: list[NDArray[np.float64]] = []
        totals = self._pairs.sum(2)
        for piece in pieces:
            rows = piece[self.books.start : self.books.stop].numpy()
            book = np.arange(len(rows))[:, None]
            alone = self._alone[book, rows]
            own.append(-np.log2(alone))
            found = np.repeat(own[-1][None], len(_SMOOTHING), axis=0)
            past, now = rows[:, :-1], rows[:, 1:]
            for number, weight in enumerate(_SMOOTHING):
                pairs = self._pairs[book, past, now] + weight * alone[:, 1:]
                found[number, :, 1:] = -np.log2(pairs / (totals[book, past] + weight))
            behind.append(found)
        order_1 = np.concatenate(behind, axis=2).mean(2)
        return np.concatenate(own, axis=1).mean(1), order_1[order_1.sum(1).argmin()]
