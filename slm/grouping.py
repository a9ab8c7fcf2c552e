"""Grouped code modelling: one step of the Transformer writes several frames.

VALL-E 2 (Chen et al. 2024, section 3.2) embeds a group of frames, projects them to one position, and
predicts the next group. Its frames do not see each other; here a small network goes on from a frame's
state to the next one's inside the group, so that each frame knows the codes, and the move of the
pointer, that were chosen before it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .transformer import RMSNorm


class FrameGroups:
    """Where the frames of a batch lie in groups; with groups of one frame nothing is moved.

    The target begins with a group, as it does in generation, so a prompt that does not fill its
    groups leaves slots empty before its first frame, and the target's last group may be open.

    Args:
        prompt_frames: int64 `[B]`.
        num_frames: T, frames that need a slot, padding included.
        size: G, frames of a group.

    Attributes:
        num_groups: N, the same for all items.
    """

    def __init__(self, prompt_frames: Tensor, num_frames: int, size: int) -> None:
        self.size = size
        # The emptiest first group decides, without a look at the data.
        self.num_groups = -(-(num_frames + size - 1) // size)
        if size > 1:
            shift = (-prompt_frames % size)[:, None]
            slots = torch.arange(self.num_groups * size, device=prompt_frames.device)
            self._frame_of_slot = slots - shift
            self._slot_of_frame = slots[:num_frames] + shift

    def fill(self, frames: Tensor) -> Tensor:
        """Vectors by slot, zeros where there is no frame: `[B, T, D]` to `[B, N, G, D]`."""
        if self.size == 1:
            return F.pad(frames, (0, 0, 0, self.num_groups - frames.shape[1]))[:, :, None]
        frame, last = self._frame_of_slot, frames.shape[1] - 1
        if last < 0:
            return frames.new_zeros(len(frames), self.num_groups, self.size, frames.shape[2])
        index = frame.clamp(0, last)[..., None].expand(-1, -1, frames.shape[2])
        is_frame = (frame >= 0) & (frame <= last)
        return (frames.gather(1, index) * is_frame[..., None]).unflatten(1, (-1, self.size))

    def spread(self, values: Tensor) -> Tensor:
        """Numbers by slot, the nearest frame's where there is none: `[B, T]` to `[B, N, G]`."""
        if self.size == 1:
            return values[:, :, None]
        index = self._frame_of_slot.clamp(0, values.shape[1] - 1)
        return values.gather(1, index).unflatten(1, (-1, self.size))

    def frames(self, slots: Tensor) -> Tensor:
        """Vectors of the frames: `[B, N, G, D]` to `[B, T, D]`."""
        if self.size == 1:
            return slots[:, :, 0]
        flat = slots.flatten(1, 2)
        return flat.gather(1, self._slot_of_frame[..., None].expand(-1, -1, flat.shape[2]))

    def group_counts(self, num_frames: Tensor) -> Tensor:
        """Groups in use by so many frames an item: int64 `[B]`."""
        if self.size == 1:
            return num_frames
        return -(-(num_frames + self._slot_of_frame[:, 0]) // self.size)


class GroupInput(nn.Module):
    """One position of the Transformer from the frames of a group, side by side."""

    def __init__(self, hidden_size: int, size: int) -> None:
        super().__init__()
        self.projection = nn.Linear(size * hidden_size, hidden_size)

    def forward(self, frames: Tensor) -> Tensor:
        """Map `[…, G, D]` to `[…, D]`."""
        return self.projection(frames.flatten(-2))


class NextInGroup(nn.Module):
    """The state of a group's next frame, from the state before and what has become known since."""

    def __init__(self, hidden_size: int, size: int) -> None:
        super().__init__()
        self.slot = nn.Embedding(size - 1, hidden_size)
        self.state_norm = RMSNorm(hidden_size)
        self.known_norm = RMSNorm(hidden_size)
        self.hidden = nn.Linear(2 * hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)

    def forward(self, state: Tensor, known: Tensor, slot: int) -> Tensor:
        """Go on by one frame.

        Args:
            state: `[…, D]` of the frame before.
            known: `[…, D]`: the codes of the frame before and, with the pointer, the text under the
                frame and its age.
            slot: Place of the frame in its group, 1 to G - 1.

        Returns:
            `[…, D]`.
        """
        known = known + self.slot.weight[slot - 1]
        both = torch.cat((self.state_norm(state), self.known_norm(known)), dim=-1)
        return state + self.output(F.gelu(self.hidden(both)))
