"""`AutoregressiveModel`: the leading books of each frame from the text, the prompt and the past.

One model, two ways to know where in the text it is (`alignment` in the configuration): a pointer
that stays or advances with every frame, or the text as a prefix that attention reads (VALL-E, Wang
et al. 2023, section 4.2.1). Several books of a frame are predicted one after the other by small
heads; `ar_books=1` is VALL-E's split. One step of the Transformer can write a group of frames
(`group_size`, see `grouping.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .alignment import advances_after, is_before, pointer_age, prompt_symbols_of, text_at
from .attention_prior import prefix_prior
from .config import AutoregressiveConfig
from .grouping import FrameGroups, GroupInput, NextInGroup
from .guidance import Utterances, without_condition
from .initialization import initialize_logits
from .language_model import TOP_K_ACCURACY, CodeEmbedding, LanguageModel, VoiceVector
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
    """Predicts the first `ar_books` codes of every frame, and when to move on in the text.

    Attributes:
        prior_strength: How much of the diagonal prior (`attention_prior.py`) is added to the attention
            from frames to text while training, 0 to 1; 0, the default, costs nothing. Training sets
            it step by step. Not read with the pointer alignment.
    """

    config_class = AutoregressiveConfig
    config: AutoregressiveConfig
    base_model_prefix = "autoregressive"

    def __init__(self, config: AutoregressiveConfig) -> None:
        super().__init__(config)
        self.prior_strength = 0.0
        width, books = config.hidden_size, config.ar_books
        self._add_text()
        if self.uses_pointer:
            self.advance = nn.Linear(width, 1)
        self.codes = CodeEmbedding(books, config.codebook_size, width)
        self.start = nn.Embedding(1, width)
        self.segment = nn.Embedding(2, width)
        self.decoder = self._new_decoder()
        if config.group_size > 1:
            self.group_input = GroupInput(width, config.group_size)
            self.next_in_group = NextInGroup(width, config.group_size)
        if books > 1:  # a lone book is conditioned on nothing: no weights without a gradient
            self.chosen = CodeEmbedding(books - 1, config.codebook_size, width)
        if config.voice_vector:
            self.voice = VoiceVector(width)
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
        if isinstance(module, VoiceVector):
            init.zeros_(module.output.weight)

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

    def voice_of(self, codes: Tensor, num_frames: Tensor) -> Tensor | None:
        """What target frames are told of the whole prompt; None if the model has no voice vector.

        Args:
            codes: int64 `[B, K, T]`, the prompt's first.
            num_frames: int64 `[B]`, frames of the prompt.

        Returns:
            `[B, D]`, zeros where there is no prompt.
        """
        if not self.config.voice_vector:
            return None
        voice: Tensor = self.voice(self._frame_vectors(codes), num_frames)
        return voice

    def previous_codes(self, codes: Tensor) -> Tensor:
        """What each frame knows of the frame before it; the first frame gets the start embedding.

        Args:
            codes: int64 `[B, K, T]`; books past `ar_books` are not read.

        Returns:
            `[B, T + 1, D]`; the last one is for the frame after the given ones.
        """
        return self._after_start(self._frame_vectors(codes))

    def prompt_inputs(
        self, context: Tensor, codes: Tensor, pointer: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the Transformer reads of a prompt, and what its first step after it knows.

        Args:
            context: `[1, S, D]` of `encode_text`; not read with the prefix alignment.
            codes: int64 `[1, K, P]`.
            pointer: int64 `[1, P]`; not read with the prefix alignment.

        Returns:
            `[N, D]`, a position for each group of `group_size` frames, and `[D]`.
        """
        num_frames = codes.shape[2]
        prompt_frames = torch.full((1,), num_frames, device=codes.device)
        groups = FrameGroups(prompt_frames, num_frames, self.config.group_size)
        count = -(-num_frames // self.config.group_size)
        previous = self._after_start(self._grouped(groups.fill(self._frame_vectors(codes))))
        x = previous[:, :count] + self.segment.weight[PROMPT]
        if self.uses_pointer and num_frames:
            x = x + self._text_of_slots(context, pointer, groups)[:, :count, 0]
        return x[0], previous[0, count]

    def state_in_group(
        self,
        state: Tensor,
        frame: Tensor,
        slot: int,
        text: Tensor | None = None,
        age: Tensor | None = None,
    ) -> Tensor:
        """State of a frame that is not the first one of its group.

        Args:
            state: `[…, D]` of the frame before.
            frame: `[…, D]`, the sum of that frame's code vectors.
            slot: Place of the frame in its group, 1 to `group_size` - 1.
            text: `[…, D]`, the context at the pointer, with the pointer alignment.
            age: int64 `[…]`, frames already spent on that symbol, with the pointer alignment.

        Returns:
            `[…, D]`.
        """
        if text is not None and age is not None:
            frame = frame + text + self.age(age)
        return self.next_in_group(state, frame, slot)

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
        if self.uses_pointer and pointer is None:
            raise ValueError("The pointer alignment needs the pointer of every frame.")
        batch = Utterances(
            symbols,
            num_symbols,
            codes,
            num_frames,
            prompt_frames,
            loss_mask,
            pointer if self.uses_pointer else None,
        )
        if self.training and self.config.condition_drop:
            drawn = torch.rand(len(codes), device=codes.device)
            batch = without_condition(batch, drawn < self.config.condition_drop)
        states = self._states(batch)
        num_frames, loss_mask, pointer = batch.num_frames, batch.loss_mask, batch.pointer
        if self.uses_pointer:
            targets = batch.codes[:, : self.config.ar_books]
        else:
            targets, loss_mask = self._with_end(batch.codes, num_frames, loss_mask)
        counted = targets.transpose(1, 2)[loss_mask]
        known = counted.clamp(0, self.config.codebook_size - 1)  # the end is no code to embed
        logits = self.book_logits(states[loss_mask], known)
        losses = torch.stack(
            [F.cross_entropy(book.float(), counted[:, k]) for k, book in enumerate(logits)]
        )
        weights = losses.new_full((len(losses),), self.config.residual_weight)
        weights[: max(1, self.config.num_masked_books)] = 1.0
        loss, advance_loss = (losses * weights).sum() / weights.sum(), losses.new_zeros(())
        if pointer is not None:
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

    def _frame_vectors(self, codes: Tensor) -> Tensor:
        """Sum over the books of each frame: int64 `[B, K, T]` to `[B, T, D]`."""
        return self.codes(codes[:, : self.config.ar_books]).sum(1)

    def _after_start(self, positions: Tensor) -> Tensor:
        """Put the start embedding before `[B, N, D]`."""
        return torch.cat((self.start.weight[None].expand(len(positions), -1, -1), positions), dim=1)

    def _grouped(self, slots: Tensor) -> Tensor:
        """One position a group: `[B, N, G, D]` to `[B, N, D]`."""
        return slots[:, :, 0] if self.config.group_size == 1 else self.group_input(slots)

    def _states(self, batch: Utterances) -> Tensor:
        """States of the T frames and, with the prefix alignment, of the end after them.

        Returns:
            `[B, T, D]` or `[B, T + 1, D]`; causality hides the padding on the right.
        """
        frames = self._hide_inputs(self._frame_vectors(batch.codes), batch.prompt_frames)
        length = frames.shape[1] + (not self.uses_pointer)
        groups = FrameGroups(batch.prompt_frames, length, self.config.group_size)
        slots = frames[:, :, None] if groups.size == 1 else groups.fill(frames)
        previous = self._after_start(self._grouped(slots))[:, : groups.num_groups]
        text: Tensor | None = None
        if batch.pointer is not None:
            prompt_symbols = prompt_symbols_of(
                batch.pointer, batch.prompt_frames, batch.num_symbols
            )
            context = self.encode_text(batch.symbols, batch.num_symbols, prompt_symbols)
            text = self._text_of_slots(context, batch.pointer, groups)
            x = previous + text[:, :, 0] + self._segments(batch, groups)
            state = self.decoder(x, torch.arange(x.shape[1], device=x.device), is_causal=True)
        else:
            state = self._prefix_states(batch, previous, groups)
        if groups.size == 1:
            return state
        states = [state]
        for slot in range(1, groups.size):
            known = slots[:, :, slot - 1]
            known = known if text is None else known + text[:, :, slot]
            states.append(self.next_in_group(states[-1], known, slot))
        return groups.frames(torch.stack(states, dim=2))

    def _hide_inputs(self, frames: Tensor, prompt_frames: Tensor) -> Tensor:
        if not self.training or self.config.input_drop == 0:
            return frames
        batch, length, _ = frames.shape
        # One draw more than there are frames: seeded runs go on as they began.
        drawn = torch.rand(batch, length + 1, device=frames.device)[:, 1:]
        is_kept = is_before(prompt_frames, length) | (drawn >= self.config.input_drop)
        return frames * is_kept[..., None]

    def _text_of_slots(self, context: Tensor, pointer: Tensor, groups: FrameGroups) -> Tensor:
        """The text under each frame and how long the pointer has been there, `[B, N, G, D]`."""
        age = groups.spread(pointer_age(pointer, self.config.max_frames_per_symbol))
        index = groups.spread(pointer)
        return text_at(context, index.flatten(1)).unflatten(1, index.shape[1:]) + self.age(age)

    def _is_target(self, batch: Utterances, groups: FrameGroups) -> Tensor:
        """Which groups are the target's, bool `[B, N]`; a group is never both."""
        return ~is_before(groups.group_counts(batch.prompt_frames), groups.num_groups)

    def _segments(self, batch: Utterances, groups: FrameGroups) -> Tensor:
        """What prompt and target are told apart by, and the target of the prompt: `[B, N, D]`."""
        is_target = self._is_target(batch, groups)
        segments: Tensor = self.segment(is_target.long())
        voice = self.voice_of(batch.codes, batch.prompt_frames)
        return segments if voice is None else segments + is_target[..., None] * voice[:, None]

    def _prefix_states(self, batch: Utterances, previous: Tensor, groups: FrameGroups) -> Tensor:
        """States of the N groups behind the text, `[B, N, D]`."""
        text = self.encode_text(batch.symbols, batch.num_symbols, batch.num_symbols)
        size, length = text.shape[1], previous.shape[1]
        x = torch.cat((text, previous + self._segments(batch, groups)), dim=1)
        num_groups = groups.group_counts(batch.num_frames + 1)
        is_valid = torch.cat((is_before(batch.num_symbols, size), is_before(num_groups, length)), 1)
        mask = prefix_lm_mask(is_valid, size)
        if self.training and self.prior_strength:
            first = groups.group_counts(batch.prompt_frames)
            prior = prefix_prior(batch.symbols, batch.num_symbols, first, num_groups, length)
            mask = (self.prior_strength * prior).masked_fill(~mask, -torch.inf)
        # Text and frames count their positions apart, as VALL-E's two position embeddings do.
        counts = [torch.arange(n, device=x.device) for n in (size, length)]
        return self.decoder(x, torch.cat(counts), mask=mask)[:, size:]

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
