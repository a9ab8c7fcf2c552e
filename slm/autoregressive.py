"""`AutoregressiveModel`: the leading books of each frame from the text, the prompt and the past.

One model, two ways to know where in the text it is (`alignment` in the configuration): a pointer
that stays or advances with every frame, or the text as a prefix that attention reads (VALL-E, Wang
et al. 2023, section 4.2.1). Several books of a frame are predicted one after the other by small
heads; `ar_books=1` is VALL-E's split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel
from transformers.utils import ModelOutput

from .alignment import advances_after, is_before, pointer_age, prompt_symbols_of, text_at
from .config import AutoregressiveConfig
from .initialization import initialize_logits
from .language_model import TOP_K_ACCURACY, CodeEmbedding, LanguageModel
from .transformer import RMSNorm, prefix_lm_mask

PROMPT, TARGET = 0, 1


@dataclass
class AutoregressiveOutput(ModelOutput):
    """What one pass with targets gives.

    Attributes:
        loss: Weighted mean of the book losses, plus the weighted advance loss; nats.
        book_losses: float `[ar_books]`, mean cross-entropy of each book over the counted frames.
        advance_loss: Binary cross-entropy of stay or advance (0 with the prefix alignment).
        top10_accuracy: Share of counted frames whose first code is among the ten likeliest.
        logits: float `[N, ar_books, V]` of the N counted frames in batch order, if asked for.
    """

    loss: Tensor | None = None
    book_losses: Tensor | None = None
    advance_loss: Tensor | None = None
    top10_accuracy: Tensor | None = None
    logits: Tensor | None = None


class BookHead(nn.Module):
    """One book's logits from the frame's state and the codes already chosen in it."""

    def __init__(self, hidden_size: int, num_classes: int) -> None:
        super().__init__()
        self.norm = RMSNorm(hidden_size)
        self.hidden = nn.Linear(hidden_size, hidden_size)
        self.logits = nn.Linear(hidden_size, num_classes)

    def forward(self, state: Tensor) -> Tensor:
        """Map `[…, D]` to `[…, classes]`."""
        return self.logits(F.gelu(self.hidden(self.norm(state))))


class AutoregressiveModel(LanguageModel):
    """Predicts the first `ar_books` codes of every frame, and when to move on in the text."""

    config_class = AutoregressiveConfig
    config: AutoregressiveConfig
    base_model_prefix = "autoregressive"

    def __init__(self, config: AutoregressiveConfig) -> None:
        super().__init__(config)
        width, books = config.hidden_size, config.ar_books
        self._add_text()
        if self.uses_pointer:
            self.advance = nn.Linear(width, 1)
        self.codes = CodeEmbedding(books, config.codebook_size, width)
        self.start = nn.Embedding(1, width)
        self.segment = nn.Embedding(2, width)
        self.decoder = self._new_decoder()
        if books > 1:  # a lone book is conditioned on nothing: no weights without a gradient
            self.chosen = CodeEmbedding(books - 1, config.codebook_size, width)
        # Without a pointer the end of speech is one more class of the first book.
        has_end = not self.uses_pointer
        self.heads = nn.ModuleList(
            BookHead(width, config.codebook_size + (has_end and book == 0)) for book in range(books)
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, BookHead):
            initialize_logits(module.logits.weight)

    def encode_text(self, symbols: Tensor, num_symbols: Tensor, prompt_symbols: Tensor) -> Tensor:
        """What frames read: at the pointer, or as a prefix.

        Args:
            symbols: int64 `[B, S]`, the prompt's first.
            num_symbols: int64 `[B]`.
            prompt_symbols: int64 `[B]`; only the pointer alignment needs it.

        Returns:
            `[B, S, D]`.
        """
        if self.uses_pointer:
            return self.text_encoder(symbols, num_symbols, prompt_symbols)
        return self.text_embedding(symbols)

    def previous_codes(self, codes: Tensor) -> Tensor:
        """What each frame knows of the frame before it; the first frame gets the start embedding.

        Args:
            codes: int64 `[B, K, T]`; books past `ar_books` are not read.

        Returns:
            `[B, T + 1, D]`; the last one is for the frame after the given ones.
        """
        frames = self.codes(codes[:, : self.config.ar_books]).sum(1)
        return torch.cat((self.start.weight[None].expand(len(codes), -1, -1), frames), dim=1)

    def forward(
        self,
        symbols: Tensor,
        num_symbols: Tensor,
        codes: Tensor,
        num_frames: Tensor,
        prompt_frames: Tensor,
        loss_mask: Tensor,
        pointer: Tensor | None = None,
        return_logits: bool = False,
        **_: Any,
    ) -> AutoregressiveOutput:
        """Losses of a batch; each item is a prompt followed by its target, padded on the right.

        Args:
            symbols: int64 `[B, S]`, symbols of the prompt, then of the target; a prompt without its
                transcript has the single symbol `NO_TEXT`.
            num_symbols: int64 `[B]`.
            codes: int64 `[B, K, T]`, frames of the prompt, then of the target.
            num_frames: int64 `[B]`, prompt included.
            prompt_frames: int64 `[B]`.
            loss_mask: bool `[B, T]`, frames that count.
            pointer: int64 `[B, T]`, index into the item's symbols; moves by 0 or 1 from frame to
                frame. Not read with the prefix alignment.
            return_logits: Whether the output carries the logits.

        Returns:
            `AutoregressiveOutput`; float32 also under autocast.
        """
        previous = self._hide_inputs(self.previous_codes(codes), prompt_frames)
        if self.uses_pointer:
            if pointer is None:
                raise ValueError("The pointer alignment needs the pointer of every frame.")
            states = self._pointer_states(symbols, num_symbols, previous, prompt_frames, pointer)
            targets = codes[:, : self.config.ar_books]
        else:
            states = self._prefix_states(symbols, num_symbols, previous, num_frames, prompt_frames)
            targets, loss_mask = self._with_end(codes, num_frames, loss_mask)
        counted = targets.transpose(1, 2)[loss_mask]
        known = counted.clamp(0, self.config.codebook_size - 1)  # the end is no code to embed
        logits = self.book_logits(states[loss_mask], known)
        losses = torch.stack(
            [F.cross_entropy(book.float(), counted[:, k]) for k, book in enumerate(logits)]
        )
        weights = losses.new_full((len(losses),), self.config.residual_weight)
        weights[: max(1, self.config.num_masked_books)] = 1.0
        loss, advance_loss = (losses * weights).sum() / weights.sum(), losses.new_zeros(())
        if self.uses_pointer and pointer is not None:
            moves = advances_after(pointer, num_frames)[loss_mask]
            score = self.advance(states[loss_mask]).squeeze(-1).float()
            advance_loss = F.binary_cross_entropy_with_logits(score, moves.float())
            loss = loss + self.config.advance_weight * advance_loss
        best = logits[0].topk(min(TOP_K_ACCURACY, logits[0].shape[-1]), dim=-1).indices
        return AutoregressiveOutput(
            loss=loss,
            book_losses=losses.detach(),
            advance_loss=advance_loss.detach(),
            top10_accuracy=(best == counted[:, :1]).any(-1).float().mean(),
            logits=torch.stack([book[:, : self.config.codebook_size] for book in logits], 1).float()
            if return_logits
            else None,
        )

    def book_logits(self, states: Tensor, codes: Tensor) -> list[Tensor]:
        """Logits of all books of N frames whose codes are known: `[N, D]`, `[N, ar_books]`."""
        logits = [self.heads[0](states)]
        for book, head in enumerate(list(self.heads)[1:], start=1):
            states = states + self.chosen.of_book(book - 1, codes[:, book - 1])
            logits.append(head(states))
        return logits

    def _hide_inputs(self, previous: Tensor, prompt_frames: Tensor) -> Tensor:
        if not self.training or self.config.input_drop == 0:
            return previous
        batch, length, _ = previous.shape
        # Input t carries frame t - 1; the last prompt frame is part of the prompt and stays.
        is_prompt = is_before(prompt_frames + 1, length)
        is_kept = torch.rand(batch, length, device=previous.device) >= self.config.input_drop
        return previous * (is_prompt | is_kept)[..., None]

    def _pointer_states(
        self,
        symbols: Tensor,
        num_symbols: Tensor,
        previous: Tensor,
        prompt_frames: Tensor,
        pointer: Tensor,
    ) -> Tensor:
        """States of the T frames, `[B, T, D]`; causality hides the padding on the right."""
        prompt_symbols = prompt_symbols_of(pointer, prompt_frames, num_symbols)
        context = self.encode_text(symbols, num_symbols, prompt_symbols)
        length = pointer.shape[1]
        is_target = (~is_before(prompt_frames, length)).long()
        age = pointer_age(pointer, self.config.max_frames_per_symbol)
        x = previous[:, :length] + text_at(context, pointer)
        x = x + self.segment(is_target) + self.age(age)
        return self.decoder(x, torch.arange(length, device=x.device), is_causal=True)

    def _prefix_states(
        self,
        symbols: Tensor,
        num_symbols: Tensor,
        previous: Tensor,
        num_frames: Tensor,
        prompt_frames: Tensor,
    ) -> Tensor:
        """States of the T frames and of the end after them, `[B, T + 1, D]`."""
        text = self.encode_text(symbols, num_symbols, num_symbols)
        size, length = symbols.shape[1], previous.shape[1]
        is_target = (~is_before(prompt_frames, length)).long()
        x = torch.cat((text, previous + self.segment(is_target)), dim=1)
        is_valid = torch.cat((is_before(num_symbols, size), is_before(num_frames + 1, length)), 1)
        # Text and frames count their positions apart, as VALL-E's two position embeddings do.
        counts = [torch.arange(n, device=x.device) for n in (size, length)]
        states = self.decoder(x, torch.cat(counts), mask=prefix_lm_mask(is_valid, size))
        return states[:, size:]

    def _with_end(
        self, codes: Tensor, num_frames: Tensor, loss_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Targets and mask with the end class behind each item whose last frame counts."""
        targets = F.pad(codes[:, : self.config.ar_books], (0, 1))
        counts = F.pad(loss_mask, (0, 1))
        item = torch.arange(len(codes), device=codes.device)
        ends = counts[item, num_frames - 1]
        counts[item, num_frames] = ends
        targets[item, 0, num_frames] = self.config.codebook_size
        # Only the first book can say "end"; the others learn nothing from a frame that is none.
        targets[item, 1:, num_frames] = -100
        return targets, counts


AutoConfig.register(AutoregressiveConfig.model_type, AutoregressiveConfig, exist_ok=True)
AutoModel.register(AutoregressiveConfig, AutoregressiveModel, exist_ok=True)
