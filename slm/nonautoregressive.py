"""`NonAutoregressiveModel`: the books after the autoregressive ones, stage by stage.

VALL-E (Wang et al. 2023, section 4.2.2) with what VALL-E 2's ablations ask for: text, prompt and an
explicit boundary between prompt and target. The prompt shows all its books, the target those below
the stage's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel
from transformers.utils import ModelOutput

from .alignment import is_before, pointer_age, prompt_symbols_of, text_at
from .config import NonAutoregressiveConfig
from .initialization import initialize_logits
from .language_model import TOP_K_ACCURACY, CodeEmbedding, LanguageModel
from .transformer import padding_mask


@dataclass
class NonAutoregressiveOutput(ModelOutput):
    """What one pass with targets gives.

    Attributes:
        loss: Mean cross-entropy over the counted frames, each item at its own stage; nats.
        stage_losses: float `[num_stages]`, the same without label smoothing; NaN for a stage that
            no item of the batch drew.
        top10_accuracy: Share of counted frames whose code is among the ten likeliest.
        logits: float `[B, T, V]` of each item's stage, if asked for.
    """

    loss: Tensor | None = None
    stage_losses: Tensor | None = None
    top10_accuracy: Tensor | None = None
    logits: Tensor | None = None


class NonAutoregressiveModel(LanguageModel):
    """Fills in the books from `ar_books` on, greedily, stage by stage."""

    config_class = NonAutoregressiveConfig
    config: NonAutoregressiveConfig
    base_model_prefix = "nonautoregressive"

    def __init__(self, config: NonAutoregressiveConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self._add_text()
        self.codes = CodeEmbedding(config.num_codebooks, config.codebook_size, width)
        self.segment = nn.Embedding(2, width)
        self.decoder = self._new_decoder(config.num_stages)
        self.heads = nn.Parameter(torch.empty(config.num_stages, config.codebook_size, width))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            initialize_logits(self.heads)

    def forward(
        self,
        symbols: Tensor,
        num_symbols: Tensor,
        codes: Tensor,
        num_frames: Tensor,
        prompt_frames: Tensor,
        loss_mask: Tensor,
        pointer: Tensor | None = None,
        stages: Tensor | None = None,
        return_logits: bool = False,
        **_: Any,
    ) -> NonAutoregressiveOutput:
        """Losses of a batch laid out as for `AutoregressiveModel.forward`.

        Args:
            symbols: int64 `[B, S]`, prompt then target.
            num_symbols: int64 `[B]`.
            codes: int64 `[B, K, T]` with all K books.
            num_frames: int64 `[B]`.
            prompt_frames: int64 `[B]`.
            loss_mask: bool `[B, T]`, frames that count.
            pointer: int64 `[B, T]`; not read with the prefix alignment.
            stages: int64 `[B]`, 0 for the first book of this model; drawn per item if None.
            return_logits: Whether the output carries the logits.

        Returns:
            `NonAutoregressiveOutput`; float32 also under autocast.
        """
        if stages is None:
            stages = torch.randint(self.config.num_stages, (len(codes),), device=codes.device)
        logits = self.stage_logits(
            symbols, num_symbols, codes, num_frames, prompt_frames, pointer, stages
        )
        item = torch.arange(len(codes), device=codes.device)
        targets = codes[item, self.config.ar_books + stages][loss_mask]
        counted = logits[loss_mask].float()
        loss = F.cross_entropy(counted, targets, label_smoothing=self.config.label_smoothing)
        each = F.cross_entropy(counted.detach(), targets, reduction="none")
        stage_of = stages[:, None].expand_as(loss_mask)[loss_mask]
        in_stage = F.one_hot(stage_of, self.config.num_stages).to(each.dtype)
        best = counted.topk(min(TOP_K_ACCURACY, counted.shape[-1]), dim=-1).indices
        return NonAutoregressiveOutput(
            loss=loss,
            stage_losses=(each[:, None] * in_stage).sum(0) / in_stage.sum(0),
            top10_accuracy=(best == targets[:, None]).any(-1).float().mean(),
            logits=logits.float() if return_logits else None,
        )

    def stage_logits(
        self,
        symbols: Tensor,
        num_symbols: Tensor,
        codes: Tensor,
        num_frames: Tensor,
        prompt_frames: Tensor,
        pointer: Tensor | None,
        stages: Tensor,
    ) -> Tensor:
        """Logits `[B, T, V]` of one book an item; target books from the stage's on are not read."""
        size, length = symbols.shape[1], codes.shape[2]
        is_frame = is_before(num_frames, length)
        is_target = ~is_before(prompt_frames, length)
        x = self._frames(codes, is_target, stages) + self.segment(is_target.long())
        positions = torch.arange(length, device=codes.device)
        if self.uses_pointer:
            if pointer is None:
                raise ValueError("The pointer alignment needs the pointer of every frame.")
            prompt_symbols = prompt_symbols_of(pointer, prompt_frames, num_symbols)
            context = self.text_encoder(symbols, num_symbols, prompt_symbols)
            age = pointer_age(pointer, self.config.max_frames_per_symbol)
            x = x + text_at(context, pointer) + self.age(age)
            states = self.decoder(x, positions, mask=padding_mask(is_frame), stages=stages)
        else:
            x = torch.cat((self.text_embedding(symbols), x), dim=1)
            positions = torch.cat((torch.arange(size, device=codes.device), positions))
            mask = padding_mask(torch.cat((is_before(num_symbols, size), is_frame), dim=1))
            states = self.decoder(x, positions, mask=mask, stages=stages)[:, size:]
        return torch.bmm(states, self.heads[stages].transpose(1, 2))

    @torch.inference_mode()
    def complete(
        self,
        symbols: Tensor,
        num_symbols: Tensor,
        codes: Tensor,
        num_frames: Tensor,
        prompt_frames: Tensor,
        pointer: Tensor | None = None,
    ) -> Tensor:
        """Fill in the target's missing books, one pass per stage, the likeliest code each.

        Args:
            symbols: As in `forward`.
            num_symbols: As in `forward`.
            codes: int64 `[B, K, T]`: prompt frames with all books, target frames with the first
                `ar_books`; what stands in the others is not read.
            num_frames: As in `forward`.
            prompt_frames: As in `forward`.
            pointer: As in `forward`.

        Returns:
            int64 `[B, K, T]`; prompt, autoregressive books and padding are as given.
        """
        filled = codes.clone()
        length = codes.shape[2]
        is_target = is_before(num_frames, length) & ~is_before(prompt_frames, length)
        for stage in range(self.config.num_stages):
            stages = torch.full((len(codes),), stage, device=codes.device)
            logits = self.stage_logits(
                symbols, num_symbols, filled, num_frames, prompt_frames, pointer, stages
            )
            book = self.config.ar_books + stage
            filled[:, book] = torch.where(is_target, logits.argmax(-1), filled[:, book])
        return filled

    def _frames(self, codes: Tensor, is_target: Tensor, stages: Tensor) -> Tensor:
        """Sum of the code vectors that each frame may show, `[B, T, D]`."""
        batch, books, length = codes.shape
        book = torch.arange(books, device=codes.device)
        is_known = book < (self.config.ar_books + stages)[:, None]
        is_shown = is_known[:, :, None] | ~is_target[:, None]
        if self.training and self.config.input_drop:
            is_kept = torch.rand(batch, books, length, device=codes.device)
            is_shown = is_shown & ((is_kept >= self.config.input_drop) | ~is_target[:, None])
        return (self.codes(codes) * is_shown[..., None]).sum(1)


AutoConfig.register(NonAutoregressiveConfig.model_type, NonAutoregressiveConfig, exist_ok=True)
AutoModel.register(NonAutoregressiveConfig, NonAutoregressiveModel, exist_ok=True)
