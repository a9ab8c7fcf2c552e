"""`MaskedModel`: any missing book of any frame, from whatever is there before and behind it.

One network serves both ends of a lossy link, after SoundSpring (Yao et al. 2025, arXiv 2501.12696). At the
sender it says how likely fine codes are, given the base codes in their packet; at the receiver, what was
lost, given all that came. A bidirectional Transformer over a short window of frames reads the known codes
of each; what is not known enters as a learned vector of its book. Sizes are ours, and so is what fine codes
are conditioned on: the packet that carries them, never another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from ..slm.initialization import InitializedModel, initialize, initialize_logits
from ..slm.language_model import CodeEmbedding
from ..slm.transformer import NORM_EPS
from .config import MaskedConfig
from .frame_model import LevelHead, spread_codebooks
from .window_transformer import WindowAttention, WindowTransformer, initialize_window

_TOLD = 4.0  # what is told then begins at half the size of a state


@dataclass
class MaskedOutput(ModelOutput):
    """What one pass gives, code by code.

    Attributes:
        nats: float32 `[B, K, T]`, cross-entropy of each counted code, 0 of the others.
        hits: bool `[B, K, T]`, counted codes that are the likeliest.
    """

    nats: Tensor | None = None
    hits: Tensor | None = None


class MaskedModel(InitializedModel):
    """Predicts all books of a frame, G base books and P fine books, from the known ones around.

    Base books are predicted side by side. A fine book is told the fine books below it in its frame, or
    that they are not known: with them it gives the chain of distributions that an entropy coder needs,
    without them the distribution whose mean a receiver plays.

    Attributes:
        num_given: G, the base books.
        num_levels: P, the fine books.
    """

    config_class = MaskedConfig
    config: MaskedConfig
    base_model_prefix = "masked"
    main_input_name = "codes"

    def __init__(self, config: MaskedConfig) -> None:
        super().__init__(config)
        width, code = config.hidden_size, config.code_size
        self.num_given, self.num_levels = config.num_given, config.num_levels
        books = self.num_given + self.num_levels
        self.codes = CodeEmbedding(books, config.codebook_size, code)
        self.unknown = nn.Embedding(books, code)
        self.given = nn.Linear(books * code, width, bias=False)
        self.encoder = WindowTransformer(
            width,
            config.num_layers,
            config.num_heads,
            config.ffn_size,
            config.window,
            config.dropout,
            ahead=config.window - 1,
        )
        # what a fine book tells the fine books above it
        self.chosen = nn.ModuleList(
            nn.Linear(code, width, bias=False) for _ in range(self.num_levels - 1)
        )
        self.heads = nn.ModuleList(
            LevelHead(width, config.head_size, config.codebook_size) for _ in range(books)
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        initialize(module, self.config.code_size, self.config.num_layers)
        if module is self:  # after its children
            for chosen in self.chosen:
                init.normal_(
                    cast(nn.Linear, chosen).weight, std=_TOLD * self.config.code_size**-0.5
                )
        if isinstance(module, WindowAttention):
            initialize_window(module, self.config.num_layers)
        if isinstance(module, LevelHead):
            initialize_logits(module.logits.weight)

    def take_codebooks(self, codebooks: Tensor) -> None:
        """Let codes begin as alike as they sound; see `spread_codebooks`."""
        heads = cast(dict[int, LevelHead], dict(enumerate(self.heads)))
        spread_codebooks(codebooks, self.codes, heads)

    def forward(
        self,
        codes: Tensor,
        is_known: Tensor,
        is_told: Tensor,
        is_counted: Tensor,
        segments: Tensor,
        **_: Any,
    ) -> MaskedOutput:
        """Cross-entropy of some codes of a batch of looks.

        Args:
            codes: int64 `[B, K, T]`.
            is_known: bool `[B, K, T]`, codes that are read.
            is_told: bool `[B, K, T]`, fine codes that the fine books above them in the frame are told.
            is_counted: bool `[B, K, T]`, codes that are predicted.
            segments: int64 `[B, T]`; frames see each other where their numbers are equal.

        Returns:
            `MaskedOutput`; float32 also under autocast.
        """
        states = self._states(codes, is_known, segments)
        told = self._vectors(codes, is_told)
        nats, hits = [], []
        for book, head in enumerate(self.heads):
            counted, targets = is_counted[:, book], codes[:, book]
            logits = head(states[counted]).float()
            found = F.cross_entropy(logits, targets[counted], reduction="none")
            empty = torch.zeros_like(targets, dtype=torch.float32)
            nats.append(empty.masked_scatter(counted, found))
            is_hit = logits.argmax(-1) == targets[counted]
            hits.append(torch.zeros_like(counted).masked_scatter(counted, is_hit))
            if self._tells(book):
                states = states + self.chosen[book - self.num_given](told[:, :, book])
        return MaskedOutput(nats=torch.stack(nats, dim=1), hits=torch.stack(hits, dim=1))

    def mean_latents(self, codes: Tensor, places: Tensor, codebooks: Tensor) -> Tensor:
        """The expected latent of one frame of each look: known entries, and the mean of those that are not.

        A mean errs less than the likeliest code, and far less than a drawn one (docs/lmcodec.md).

        Args:
            codes: int64 `[B, K, T]`, -1 where a code is not known.
            places: int64 `[B]`, the frames that are asked for.
            codebooks: float `[K, V, C]`, entries of the codec's books.

        Returns:
            float `[B, C]`.
        """
        is_known = codes >= 0
        items = torch.arange(len(codes), device=codes.device)
        states = self._states(codes, is_known)[items, places]
        told = self._vectors(codes, is_known)[items, places]
        frame, is_there = codes[items, :, places], is_known[items, :, places]
        latents = codebooks.new_zeros(len(codes), codebooks.shape[2])
        for book, head in enumerate(self.heads):
            entries = codebooks[book]
            found = entries[frame[:, book].clamp(min=0)]
            missing = ~is_there[:, book]
            if bool(missing.any()):
                found[missing] = head(states[missing]).float().softmax(-1) @ entries
            latents = latents + found
            if self._tells(book):
                states = states + self.chosen[book - self.num_given](told[:, book])
        return latents

    def _tells(self, book: int) -> bool:
        """Whether books above this one are told its code: all fine books but the last."""
        return self.num_given <= book < self.num_given + self.num_levels - 1

    def _vectors(self, codes: Tensor, is_known: Tensor) -> Tensor:
        """Vectors of the known codes and of the books of the others: `[B, T, K, E]`."""
        vectors = self.codes(codes.clamp(min=0))
        unknown = self.unknown.weight[:, None].to(vectors.dtype)
        return torch.where(is_known[..., None], vectors, unknown).transpose(1, 2)

    def _states(self, codes: Tensor, is_known: Tensor, segments: Tensor | None = None) -> Tensor:
        """States of all frames, `[B, T, D]`, of one size, so that what books are told keeps its weight."""
        x = self.given(self._vectors(codes, is_known).flatten(2))
        is_seen = None if segments is None else segments[:, :, None] == segments[:, None, :]
        states = self.encoder(x, is_seen=is_seen)
        return F.rms_norm(states, states.shape[-1:], eps=NORM_EPS)


AutoConfig.register(MaskedConfig.model_type, MaskedConfig, exist_ok=True)
AutoModel.register(MaskedConfig, MaskedModel, exist_ok=True)
