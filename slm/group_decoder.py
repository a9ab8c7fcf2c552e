"""The cached past of a model that writes groups of frames, asked frame by frame like any other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .autoregressive import AutoregressiveModel
from .frame_decoder import FrameDecoder, _Item
from .prompt import Voice


class GroupDecoder(FrameDecoder):
    """`FrameDecoder` for `group_size` above 1: the Transformer runs once a group.

    Between its runs the state goes on from frame to frame by `AutoregressiveModel.state_in_group`,
    with the codes and the pointer that were chosen meanwhile.

    Args:
        model, texts, voices, one_item: As for `FrameDecoder`.
        capacity: Frames that will be asked for.
    """

    def __init__(
        self,
        model: AutoregressiveModel,
        texts: Sequence[Tensor],
        voices: Sequence[Voice],
        capacity: int,
        one_item: bool = False,
    ) -> None:
        self.size = model.config.group_size
        super().__init__(model, texts, voices, -(-capacity // self.size), one_item)
        self.num_past = self.cache.length
        self.state: Tensor | None = None
        self.frames: list[Tensor] = []  # of the open group, [B, D] each

    def _item(self, text: Tensor, voice: Voice) -> _Item:
        model = self.model
        symbols = torch.cat((voice.symbols, text)).to(model.device)[None]
        prompt_size = torch.tensor([len(voice.symbols)], device=model.device)
        total = torch.tensor([symbols.shape[1]], device=model.device)
        context = model.encode_text(symbols, total, prompt_size)
        codes = voice.codes[None].to(model.device)
        pointer = voice.pointer[None].to(model.device)
        frames, following = model.prompt_inputs(context, codes, pointer)
        told = self._voice(codes)
        if model.uses_pointer:
            return _Item(context[0, :0], frames, following, context[0, len(voice.symbols) :], told)
        return _Item(context[0], frames, following, context[0, :0], told)

    def step(self, previous: Tensor, pointer: Tensor, age: Tensor) -> Tensor:
        """State of the next frame, arguments and result as in `FrameDecoder.step`."""
        model = self.model
        if self.state is None:
            state = super().step(previous, pointer, age)
        else:
            self.frames.append(previous)
            slot = len(self.frames)
            if slot == self.size:
                group = model.group_input(torch.stack(self.frames, dim=1))
                self.frames = []
                state = super().step(group, pointer, age)
            elif model.uses_pointer:
                item = torch.arange(len(previous), device=previous.device)
                text = self.context[item, pointer]
                state = model.state_in_group(self.state, previous, slot, text, age)
            else:
                state = model.state_in_group(self.state, previous, slot)
        self.state = state
        return state

    def reorder(self, items: Tensor) -> None:
        """Let item i continue item `items[i]`, all of which had the same prompt."""
        self.cache.reorder(items, start=self.num_past)
        self.frames = [frame[items] for frame in self.frames]
        if self.state is not None:
            self.state = self.state[items]


def decoder_for(
    model: AutoregressiveModel,
    texts: Sequence[Tensor],
    voices: Sequence[Voice],
    capacity: int,
    one_item: bool = False,
) -> FrameDecoder:
    """The decoder that fits a model's `group_size`; arguments as for `FrameDecoder`."""
    kind = FrameDecoder if model.config.group_size == 1 else GroupDecoder
    return kind(model, texts, voices, capacity, one_item)
