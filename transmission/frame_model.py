"""`FrameModel`: the codes of each frame, level by level, from the frames before it.

A causal Transformer takes one step a frame. Inside a frame, levels (books) follow each other: small
heads predict level k from the frame's state and the codes already known in it, so each code's
distribution is given all past frames and all lower levels. (EnCodec's model predicts the levels of a
frame side by side.) The masked books of MCRVQ are peers, and are ordered as they are numbered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.utils import ModelOutput

from ..errors import ModelMismatch
from ..slm.initialization import LOGIT_GAIN, InitializedModel, initialize, initialize_logits
from ..slm.language_model import CodeEmbedding
from ..slm.transformer import RMSNorm
from .config import FrameModelConfig
from .window_transformer import WindowAttention, WindowCache, WindowTransformer, initialize_window


@dataclass
class FrameOutput(ModelOutput):
    """What one pass gives.

    Attributes:
        loss: Mean of the level losses; nats.
        level_losses: float `[P]`, mean cross-entropy of each level over the counted frames.
        level_hits: float `[P]`, share of counted frames whose code is the likeliest.
    """

    loss: Tensor | None = None
    level_losses: Tensor | None = None
    level_hits: Tensor | None = None


class LevelHead(nn.Module):
    """One level's logits from the state of the frame, in which lower levels are told."""

    def __init__(self, hidden_size: int, head_size: int, num_entries: int) -> None:
        super().__init__()
        self.norm = RMSNorm(hidden_size)
        self.hidden = nn.Linear(hidden_size, head_size)
        self.logits = nn.Linear(head_size, num_entries)

    def forward(self, state: Tensor) -> Tensor:
        """Map `[…, D]` to `[…, V]`."""
        logits: Tensor = self.logits(F.silu(self.hidden(self.norm(state))))
        return logits


@torch.no_grad()
def spread_codebooks(
    codebooks: Tensor, codes: CodeEmbedding, heads: Mapping[int, LevelHead]
) -> None:
    """Let a model's code vectors and logits begin as random maps of a codec's entries.

    Sounds move little from frame to frame, so the next code is mostly a near one. Untrained tables
    would have to find out which codes are near from pairs that occur once or never.

    Args:
        codebooks: float `[K, V, C]`, entries of the codec's books, zero where a masked book has no
            channels.
        codes: Vectors of the first books; takes their maps in.
        heads: Heads by number of the book that they predict; take theirs in.

    Raises:
        ModelMismatch: If there are fewer books or other numbers of entries than the model's.
    """
    size, width = codes.codebook_size, codes.table.weight.shape[1]
    books = len(codes.table.weight) // size
    if len(codebooks) < books or codebooks.shape[1] != size:
        raise ModelMismatch(
            f"The model is for {books} books of {size} entries, the codec has "
            f"{len(codebooks)} of {codebooks.shape[1]}; take the codec of the codes."
        )
    for book, entries in enumerate(codebooks[:books].float().cpu()):
        entries = entries - entries.mean(0)
        entries = entries / entries.norm(dim=1).square().mean().sqrt().clamp(min=1e-12)
        # rows of unit length on average, as fresh ones are
        spread = torch.randn(entries.shape[1], width) * width**-0.5
        table = codes.table.weight.unflatten(0, (books, -1))
        table[book] = (entries @ spread).to(table)
        if book in heads:
            logits = heads[book].logits.weight
            spread = torch.randn(entries.shape[1], logits.shape[1]) * logits.shape[1] ** -0.5
            logits.copy_(LOGIT_GAIN * (entries @ spread))


class FrameModel(InitializedModel):
    """The network of `EntropyModel` and `FineModel`; G books are given, P levels predicted.

    Attributes:
        num_given: G, leading books of a frame that are known before it is predicted.
        num_levels: P, the books behind them.
    """

    config_class = FrameModelConfig
    config: FrameModelConfig
    main_input_name = "codes"

    def __init__(self, config: FrameModelConfig) -> None:
        super().__init__(config)
        width, code = config.hidden_size, config.code_size
        self.num_given, self.num_levels = config.num_given, config.num_levels
        books = self.num_given + self.num_levels
        self.codes = CodeEmbedding(books, config.codebook_size, code)
        self.start = nn.Embedding(1, width)
        self.previous = nn.Linear(self.num_levels * code, width, bias=False)
        if self.num_given:
            self.given = nn.Linear(self.num_given * code, width, bias=False)
        self.decoder = WindowTransformer(
            width,
            config.num_layers,
            config.num_heads,
            config.ffn_size,
            config.window,
            config.dropout,
        )
        # what a level's code tells the levels above it
        self.chosen = nn.ModuleList(
            nn.Linear(code, width, bias=False) for _ in range(self.num_levels - 1)
        )
        self.heads = nn.ModuleList(
            LevelHead(width, config.head_size, config.codebook_size) for _ in range(self.num_levels)
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        initialize(module, self.config.code_size, self.config.num_layers)
        if isinstance(module, WindowAttention):
            initialize_window(module, self.config.num_layers)
        if isinstance(module, LevelHead):
            initialize_logits(module.logits.weight)

    def forward(self, codes: Tensor, loss_mask: Tensor, **_: Any) -> FrameOutput:
        """Losses of a batch of signals from their first frame on, padded on the right.

        Args:
            codes: int64 `[B, K, T]`, K at least G + P.
            loss_mask: bool `[B, T]`, frames that count.

        Returns:
            `FrameOutput`; float32 also under autocast.
        """
        targets = codes[:, self.num_given : self.num_given + self.num_levels]
        states = self._states(codes)[loss_mask]
        counted = targets.transpose(1, 2)[loss_mask]
        losses, hits = [], []
        for level, logits in enumerate(self.level_logits(states, counted)):
            losses.append(F.cross_entropy(logits.float(), counted[:, level]))
            hits.append((logits.argmax(-1) == counted[:, level]).float().mean())
        level_losses = torch.stack(losses)
        return FrameOutput(
            loss=level_losses.mean(),
            level_losses=level_losses.detach(),
            level_hits=torch.stack(hits),
        )

    def level_logits(self, states: Tensor, codes: Tensor) -> list[Tensor]:
        """Logits of all levels of N frames whose codes are known: `[N, D]`, int64 `[N, P]`."""
        found = []
        for level, head in enumerate(self.heads):
            found.append(head(states))
            if level + 1 < self.num_levels:
                states = self.tell(states, level, codes[:, level])
        return found

    def take_codebooks(self, codebooks: Tensor) -> None:
        """Let codes begin as alike as they sound; see `spread_codebooks`."""
        heads = {self.num_given + level: head for level, head in enumerate(self.heads)}
        spread_codebooks(codebooks, self.codes, cast(dict[int, LevelHead], heads))

    def new_cache(self, batch_size: int = 1) -> WindowCache:
        """The memory before the first frame."""
        return self.decoder.new_cache(batch_size)

    def advance(
        self, cache: WindowCache, previous: Tensor | None, given: Tensor | None = None
    ) -> Tensor:
        """Take the step to the next frame.

        Args:
            cache: Of the frames before; takes this one in.
            previous: int64 `[B, P]`, the predicted books of the frame before; None at the first one.
            given: int64 `[B, G]`, the given books of this frame; None where G is 0.

        Returns:
            `[B, D]`, the frame's state, for `heads[0]`.
        """
        if previous is None:
            x = self.start.weight.expand(len(cache.keys[0]), -1)
        else:
            x = self.previous(self._vectors(previous[..., None], self.num_given)[:, 0])
        if given is not None:
            x = x + self.given(self._vectors(given[..., None], 0)[:, 0])
        state: Tensor = self.decoder(x[:, None], cache)[:, 0]
        return state

    def tell(self, hidden: Tensor, level: int, codes: Tensor) -> Tensor:
        """The frame's state once the code of `level` is known: `[N, D]`, int64 `[N]`."""
        vectors = self.codes.of_book(self.num_given + level, codes)
        told: Tensor = hidden + self.chosen[level](vectors)
        return told

    def _vectors(self, codes: Tensor, first_book: int) -> Tensor:
        """Vectors of int64 `[B, k, T]` side by side, `[B, T, k E]`; the books begin at `first_book`."""
        first = torch.arange(first_book, first_book + codes.shape[1], device=codes.device)
        vectors = self.codes.table(codes + (first * self.config.codebook_size)[:, None])
        return vectors.transpose(1, 2).flatten(2)

    def _states(self, codes: Tensor) -> Tensor:
        """States of all frames, `[B, T, D]`."""
        end = self.num_given + self.num_levels
        past = self.previous(self._vectors(codes[:, self.num_given : end, :-1], self.num_given))
        if self.training and self.config.input_drop:
            kept = torch.rand(past.shape[:2], device=past.device) >= self.config.input_drop
            past = past * kept[..., None]
        start = self.start.weight.to(past.dtype)[None].expand(len(codes), -1, -1)
        x = torch.cat((start, past), dim=1)
        if self.num_given:
            x = x + self.given(self._vectors(codes[:, : self.num_given], 0))
        states: Tensor = self.decoder(x)
        return states
