"""The autoregressive model behind its cached past, for generation and for forced alignment."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from .alignment import pointer_age, text_at
from .autoregressive import PROMPT, TARGET, AutoregressiveModel
from .prompt import Voice
from .runtime import Stepper, runtime_of
from .transformer import KeyValueCache, prefix_lm_mask

PROMPTS_KEPT = 4  # of the last voices that a model spoke in; 10 MB each at 20 M parameters


class _Item(NamedTuple):
    """One item of a batch before padding."""

    prefix: Tensor  # [N, D], the symbols where they are a prefix, else nothing
    frames: Tensor  # [P, D], the prompt's inputs
    next_frame: Tensor  # [D], the prompt's last frame, or the start
    context: Tensor  # [S, D], what a frame reads at each symbol of the target, else nothing
    voice: Tensor  # [D], what every frame is told of the prompt


class FrameDecoder:
    """The autoregressive model behind its cached past: the prompts at once, then a frame a call.

    Shorter prompts and texts are padded on the left, so that all items write the same cache slot; a
    batch of one needs no mask at all. Steps without gradients run on the model's weights as laid out for
    them (`runtime.py`), at the precision of `set_precision`, wherever that can be done.

    Args:
        model: The autoregressive model.
        texts: int64 `[S_i]` of each item, the target's symbols.
        voices: The prompt of each item.
        capacity: Frames that will be asked for.
        one_item: Whether all items are one utterance, with text and prompt and without.

    Attributes:
        start: `[B, D]`, the frame before the first one to generate.
    """

    def __init__(
        self,
        model: AutoregressiveModel,
        texts: Sequence[Tensor],
        voices: Sequence[Voice],
        capacity: int,
        one_item: bool = False,
    ) -> None:
        self.model = model
        self.one_item = one_item
        self._runtime = None if torch.is_grad_enabled() else runtime_of(model)
        self._stepper: Stepper | None = None
        items = [self._item(text, voice) for text, voice in zip(texts, voices, strict=True)]
        self.start = torch.stack([item.next_frame for item in items])
        self.told = model.segment.weight[TARGET] + torch.stack([item.voice for item in items])
        self.context = pad_sequence([item.context for item in items], batch_first=True)
        prefixes, frames = [i.prefix for i in items], [i.frames for i in items]
        num_prefix, num_frames = max(map(len, prefixes)), max(map(len, frames))
        counts = [_count_left(prefixes, num_prefix), _count_left(frames, num_frames)]
        positions = torch.cat(counts, dim=1).to(model.device)
        self.position = torch.tensor([[len(x)] for x in frames], device=model.device)
        self.cache = model.decoder.new_cache(len(items), positions.shape[1] + capacity)
        is_valid = positions >= 0
        self.is_visible: Tensor | None = None
        self.starts: list[int] = []
        if not bool(is_valid.all()):
            self.is_visible = F.pad(is_valid, (0, capacity), value=True)
            if one_item and not num_prefix:  # two halves with a gap between them are no suffix
                self.starts = (~is_valid).sum(1).tolist()
        if positions.shape[1]:
            padded = (
                torch.stack([_pad_left(x, num_prefix) for x in prefixes]),
                torch.stack([_pad_left(x, num_frames) for x in frames]),
            )
            self._read(torch.cat(padded, dim=1), positions, is_valid, num_prefix)

    def _read(self, x: Tensor, positions: Tensor, is_valid: Tensor, num_prefix: int) -> None:
        """Run the prompts `[B, N, D]` into the cache; no work is done for items that have none."""
        has_prompt = is_valid.any(1)
        x, positions, is_valid = x[has_prompt], positions[has_prompt], is_valid[has_prompt]
        if num_prefix or not bool(is_valid.all()):
            past = self.model.decoder.new_cache(*positions.shape)
            mask = prefix_lm_mask(is_valid, num_prefix)
            self.model.decoder(x, positions.clamp(min=0), mask=mask, cache=past)
        else:
            past = self._past(x, positions)
        self.cache.fill(has_prompt, past)

    def _past(self, x: Tensor, positions: Tensor) -> KeyValueCache:
        """Keys and values of prompts of one length; those of a lone one are remembered for the next text."""
        known = self._runtime.prompts if self._runtime is not None and len(x) == 1 else None
        key = b"" if known is None else hashlib.blake2b(x.numpy().tobytes()).digest()
        past = None if known is None else known.get(key)
        if past is None:
            past = self.model.decoder.new_cache(*positions.shape)
            self.model.decoder(x, positions, is_causal=True, cache=past)
            if known is not None:
                while len(known) >= PROMPTS_KEPT:
                    known.pop(next(iter(known), b""), None)  # another thread may have been first
                known[key] = past
        return past

    def _item(self, text: Tensor, voice: Voice) -> _Item:
        model = self.model
        symbols = torch.cat((voice.symbols.to(model.device), text.to(model.device)))[None]
        prompt_size = torch.tensor([len(voice.symbols)], device=model.device)
        total = torch.tensor([symbols.shape[1]], device=model.device)
        context = model.encode_text(symbols, total, prompt_size)
        codes = voice.codes[None].to(model.device)
        previous = model.previous_codes(codes)
        frames = previous[:, :-1] + model.segment.weight[PROMPT]
        if not model.uses_pointer:
            following = previous[0, -1]
            return _Item(context[0], frames[0], following, context[0, :0], self._voice(codes))
        pointer = voice.pointer[None].to(model.device)
        age = pointer_age(pointer, model.config.max_frames_per_symbol)
        frames = frames + text_at(context, pointer) + model.age(age)
        text_states = context[0, len(voice.symbols) :]
        return _Item(context[0, :0], frames[0], previous[0, -1], text_states, self._voice(codes))

    def _voice(self, codes: Tensor) -> Tensor:
        """What every frame is told of a prompt int64 `[1, K, P]`: `[D]`."""
        count = torch.full((1,), codes.shape[2], device=codes.device)
        voice = self.model.voice_of(codes, count)
        return torch.zeros_like(self.model.segment.weight[TARGET]) if voice is None else voice[0]

    def step(self, previous: Tensor, pointer: Tensor, age: Tensor) -> Tensor:
        """State of the next frame.

        Args:
            previous: `[B, D]`, the frame before (`start` at first).
            pointer: int64 `[B]`, index into the item's own text.
            age: int64 `[B]`, frames already spent on that symbol.

        Returns:
            `[B, D]`.
        """
        model = self.model
        x = previous + self.told
        if model.uses_pointer:
            if len(x) == 1:
                text = self.context[0].index_select(0, pointer)
            else:
                text = self.context[torch.arange(len(x), device=x.device), pointer]
            x = x + text + model.age(age)
        mask = None
        stepper = self._fast(len(x))
        if self.is_visible is not None and (stepper is None or not self.starts):
            mask = self.is_visible[:, None, None, : self.cache.length + 1]
        if stepper is None:
            state = model.decoder(x[:, None], self.position, mask=mask, cache=self.cache)[:, 0]
        else:
            state = stepper.step(x, self.position[:, 0], mask, self.cache, self.starts)
        self.position = self.position + 1
        return state

    def book_logits(self, book: int, state: Tensor) -> Tensor:
        """Logits of one book, as `model.heads[book]` gives them: `[B, D]` to `[B, classes]`.

        Args:
            book: Number of the book, from 0.
            state: `[B, D]`, what `step` gave, with the vectors of the codes chosen since.
        """
        stepper = self._fast(len(state))
        return self.model.heads[book](state) if stepper is None else stepper.logits(book, state)

    def codes(
        self,
        state: Tensor,
        uniforms: Tensor,
        scale: Tensor | None,
        top_k: Sequence[tuple[int, float]],
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """Codes of all books at once, where these are drawn by nothing but top-k and temperature.

        Args:
            state: What `step` gave, `[B, D]`; `[2 B, D]` with guidance.
            uniforms: `[B, N]`, `DRAWS_PER_CODE` of each book.
            scale: `[B]`, of guidance; None is without.
            top_k: Count and temperature of each book.

        Returns:
            As `FrameSampler.codes`, which tells how codes are chosen; None where the model itself steps.
        """
        stepper = self._fast(len(state))
        return None if stepper is None else stepper.codes(state, uniforms, scale, top_k)

    def _fast(self, batch_size: int) -> Stepper | None:
        if self._runtime is None or torch.is_grad_enabled():
            return None
        if self._stepper is None or self._stepper.batch_size != batch_size:
            self._stepper = Stepper(self._runtime, batch_size, self.cache.capacity, self.one_item)
        return self._stepper

    def repeat(self, count: int) -> None:
        """Go on with `count` copies of the only item."""
        self.one_item, self.starts = False, []
        self.cache = self.cache.repeat(count)
        self.context = self.context.expand(count, -1, -1)
        self.start = self.start.expand(count, -1)
        self.told = self.told.expand(count, -1)
        self.position = self.position.expand(count, -1)


def _pad_left(x: Tensor, length: int) -> Tensor:
    return F.pad(x, (0, 0, length - len(x), 0))


def _count_left(items: Sequence[Tensor], length: int) -> Tensor:
    """Positions of items padded on the left, negative at padding: int64 `[B, length]`."""
    return torch.stack([torch.arange(length) - (length - len(x)) for x in items])
