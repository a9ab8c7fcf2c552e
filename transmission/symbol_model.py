"""What predicts the next code: the protocol between a probability model and the range coder.

The codes of a chunk are coded frame by frame, and within a frame book by book: book k of frame t is
predicted from all earlier frames of the chunk and from books 0 to k - 1 of the same frame. Encoder and
decoder walk the same road: `start`, then for each code `frequencies` and `push`. There is no other way to ask
a model, so that both sides run the same steps in the same order, and every value on it is an integer.

Every chunk begins with `start`. A model that is trained for this protocol therefore sees contexts that begin
anywhere in an utterance; in return, a damaged chunk costs itself alone.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError

TOTAL_BITS = 16  # the frequencies of a table sum to 2 ** TOTAL_BITS

# Names of the arithmetic that makes the tables; their places in this tuple stand in headers, so append only.
# A change that alters a single table is a new name.
NUMERIC_PROFILES = ("uniform", "static", "integer-1")


class SymbolModel(Protocol):
    """Predicts codes one by one, in integers.

    Attributes:
        num_books: K, books of a frame that the model codes; all of them, always.
        codebook_size: V, entries of each book.
        numeric_profile: One of `NUMERIC_PROFILES`: which arithmetic makes the tables.
        fingerprint: 16 hex digits over everything that the tables depend on.
    """

    @property
    def num_books(self) -> int: ...  # noqa: D102

    @property
    def codebook_size(self) -> int: ...  # noqa: D102

    @property
    def numeric_profile(self) -> str: ...  # noqa: D102

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    def start(self) -> Any:
        """A new state, in front of book 0 of frame 0."""
        ...

    def frequencies(self, state: Any) -> NDArray[np.int64]:
        """Table of the next code: `[V]`, each at least 1, sum `2 ** TOTAL_BITS`; `state` stays as it is."""
        ...

    def push(self, state: Any, symbol: int) -> None:
        """Move `state` past a code in `[0, V)`."""
        ...


class UniformModel:
    """Every code is as likely as any other: what a stream is coded with that has no model.

    Args:
        num_books: K.
        codebook_size: V, at most `2 ** TOTAL_BITS`.
    """

    numeric_profile = "uniform"
    fingerprint = "0" * 16

    def __init__(self, num_books: int, codebook_size: int) -> None:
        if num_books < 1 or not 1 <= codebook_size <= 1 << TOTAL_BITS:
            raise ConfigError(
                f"{num_books} books of {codebook_size} entries cannot be coded; a table holds 1 to "
                f"{1 << TOTAL_BITS} entries."
            )
        self.num_books, self.codebook_size = num_books, codebook_size
        self._table = np.full(codebook_size, (1 << TOTAL_BITS) // codebook_size, dtype=np.int64)
        self._table[: (1 << TOTAL_BITS) % codebook_size] += 1

    def start(self) -> None:
        """There is nothing to remember."""

    def frequencies(self, state: None) -> NDArray[np.int64]:
        """The same table for every code, `[V]`."""
        return self._table

    def push(self, state: None, symbol: int) -> None:
        """Nothing changes."""
