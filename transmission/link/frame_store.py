"""Codes as they were received, by frame number, within a bounded span."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .protocols import IntArray


class FrameStore:
    """Frames `[K]` each, -1 where a code was not received. What came first stays.

    Args:
        num_books: K.
        num_base: The first G of them, which come together.
    """

    def __init__(self, num_books: int, num_base: int) -> None:
        self._num_books, self._num_base = num_books, num_base
        self._frames: dict[int, IntArray] = {}
        self._repaired: set[int] = set()

    def __len__(self) -> int:
        return len(self._frames)

    def add_base(self, frame: int, codes: IntArray, *, is_copy: bool) -> None:
        """Base codes `[G]` of a frame."""
        row = self._row(frame)
        if row[0] < 0:
            row[: self._num_base] = codes
            if is_copy:
                self._repaired.add(frame)
        elif not is_copy:
            self._repaired.discard(frame)

    def add_fine(self, frame: int, codes: IntArray) -> None:
        """Fine codes `[p]` of a frame."""
        self._row(frame)[self._num_base :][: len(codes)] = codes

    def drop_fine(self, frame: int) -> None:
        """Forget a frame's fine codes."""
        self._row(frame)[self._num_base :] = -1

    def base(self, frame: int) -> IntArray | None:
        """Base codes `[G]`, or None where they were not received."""
        row = self._frames.get(frame)
        return None if row is None or row[0] < 0 else row[: self._num_base]

    def num_known(self, frame: int) -> int:
        """How many leading books of a frame were received; 0 without a base."""
        if self.base(frame) is None:
            return 0
        missing = np.flatnonzero(self._frames[frame] < 0)
        return int(missing[0]) if len(missing) else self._num_books

    def is_repaired(self, frame: int) -> bool:
        """Whether the base came in a copy and not in its own packet."""
        return frame in self._repaired

    def window(self, start: int, stop: int) -> Tensor:
        """Frames `start` to `stop - 1`, int64 `[K, m]`."""
        codes = np.full((self._num_books, stop - start), -1, dtype=np.int64)
        for frame in range(start, stop):
            row = self._frames.get(frame)
            if row is not None:
                codes[:, frame - start] = row
        return torch.from_numpy(codes)

    def forget(self, before: int) -> None:
        """Drop frames below a number."""
        for frame in [frame for frame in self._frames if frame < before]:
            del self._frames[frame]
            self._repaired.discard(frame)

    def clear(self) -> None:
        """Drop all."""
        self._frames.clear()
        self._repaired.clear()

    def _row(self, frame: int) -> IntArray:
        if frame not in self._frames:
            self._frames[frame] = np.full(self._num_books, -1, dtype=np.int64)
        return self._frames[frame]
