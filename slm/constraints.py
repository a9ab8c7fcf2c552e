"""Rules that a code must obey whatever the sampling: logits processors of transformers' shape.

They take a book's past codes `input_ids [B, t]` and its logits `[B, V]`, so transformers' `generate`
takes them in `logits_processor` as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import FloatTensor, LongTensor, Tensor
from transformers import LogitsProcessor


class ShortestLength(LogitsProcessor):
    """Forbids the end of speech before an item's shortest plausible length.

    Args:
        shortest: Codes that each item of the batch has at least.
        end_id: The class that ends speech.
    """

    def __init__(self, shortest: Sequence[int] | Tensor, end_id: int) -> None:
        self.shortest = torch.as_tensor(shortest)
        self.end_id = end_id

    def __call__(self, input_ids: LongTensor, scores: FloatTensor) -> FloatTensor:
        """Logits `[B, V]` with -inf at the end class where it is too early."""
        is_early = input_ids.shape[1] < self.shortest.to(scores.device)
        allowed = scores.clone()
        allowed[:, self.end_id] = allowed[:, self.end_id].masked_fill(is_early, -torch.inf)
        return cast(FloatTensor, allowed)


class SilenceCap(LogitsProcessor):
    """Forbids silent codes after a run of them, so that speech goes on or ends.

    Args:
        codes: int64 `[n]`, the codes that a codec writes for silence in this book.
        longest: Silent codes in a row that are still allowed.
    """

    def __init__(self, codes: Tensor, longest: int) -> None:
        self.codes = codes
        self.longest = longest

    def __call__(self, input_ids: LongTensor, scores: FloatTensor) -> FloatTensor:
        """Logits `[B, V]` with -inf at silent codes where the run is over."""
        if not self.longest or input_ids.shape[1] < self.longest:
            return scores
        codes = self.codes.to(scores.device)
        is_over = torch.isin(input_ids[:, -self.longest :], codes).all(1)
        without = scores.index_fill(1, codes, -torch.inf)
        # what leaves nothing to choose from is no rule
        is_over = is_over & (without > -torch.inf).any(1)
        return cast(FloatTensor, torch.where(is_over[:, None], without, scores))
