"""What is played for a frame: what came of it, or what concealment makes of it, faded in long gaps."""

from __future__ import annotations

import torch
from torch import Tensor

from ...tokenizer.codec import CodecModel
from .concealers import SilenceConcealer, latent_of
from .fading import Fading
from .frame_store import FrameStore
from .profile import LinkProfile
from .protocols import Concealer
from .statistics import LinkStatistics


class FrameRenderer:
    """Frames of a store to latents and gains, one after the other; each is counted as what it was.

    Args:
        codec: The codec that plays.
        store: What was received.
        profile: How gaps fade.
        concealer: What guesses missing codes.
        num_base: Base books.
        num_books: Books of a whole frame, as the sender sends them.
        statistics: Where frames are counted.
        fine_needs: As in `Receiver`.

    Attributes:
        first_frame: The first frame of the stream; none before it is missed.
    """

    def __init__(
        self,
        codec: CodecModel,
        store: FrameStore,
        profile: LinkProfile,
        concealer: Concealer,
        num_base: int,
        num_books: int,
        statistics: LinkStatistics,
        fine_needs: tuple[int, int] = (0, 0),
    ) -> None:
        hop, rate = codec.config.hop_length, codec.config.sampling_rate
        is_silent = isinstance(concealer, SilenceConcealer)
        hold, fade = (0.0, 0.0) if is_silent else (profile.hold_seconds, profile.fade_seconds)
        self._fading = Fading(hop, round(hold * rate), round(fade * rate))
        self._codec, self._store, self._concealer = codec, store, concealer
        self._num_base, self._num_books = num_base, num_books
        self._statistics, self._fine_needs = statistics, fine_needs
        self._full_level = torch.ones(hop)
        self._latent = torch.zeros(codec.config.latent_size, device=codec.device)
        self._num_unheard = 0  # frames that were concealed beyond the newest one that was heard of
        self.first_frame = 0

    @property
    def past_frames(self) -> int:
        """How many frames before the next one are still read."""
        return max(self._concealer.past_frames, self._fine_needs[0])

    def is_final(self, frame: int) -> bool:
        """Whether nothing that may still come changes how a frame is played."""
        return self._store.num_known(frame) >= self._num_books and not any(self._fine_needs)

    def next(self, frame: int, newest: int | None) -> tuple[Tensor, Tensor]:
        """A frame as it is played now: its latent, float32 `[D]`, and its gains, float32 `[hop]`.

        Args:
            frame: Its number, one more than the last time.
            newest: The newest frame that is known to exist.
        """
        known = self._usable_books(frame)
        self._count(frame, known, newest)
        if known >= self._num_books:
            codes = self._store.window(frame, frame + 1)[:known, 0]
            self._latent = latent_of(self._codec, codes)
        else:
            past, future = self._concealer.past_frames, self._concealer.future_frames
            window = self._store.window(frame - past, frame + future + 1)
            # in silence, far from every frame, there is nothing to guess from
            if not self._fading.is_silent or bool((window >= 0).any()):
                self._latent = self._concealer.latent(window, past).to(self._latent.device)
        gains = self._fading.next(is_lost=not known)
        return self._latent, self._full_level if gains is None else gains

    def hear_of(self, newest: int, next_frame: int) -> None:
        """Count what was concealed before anyone knew that these frames exist.

        Args:
            newest: The newest frame that is known to exist.
            next_frame: The frame that is played next.
        """
        first = next_frame - self._num_unheard
        known = min(max(0, newest + 1 - first), self._num_unheard)
        self._statistics.concealed += known
        self._num_unheard -= known

    def restart(self) -> None:
        """Frame numbers go on from another place."""
        self._num_unheard = 0

    def _usable_books(self, frame: int) -> int:
        """Leading books that are played, 0 where the frame is lost."""
        known, (before, behind) = self._store.num_known(frame), self._fine_needs
        around = range(max(frame - before, self.first_frame), frame + behind + 1)
        if known and any(self._store.base(other) is None for other in around):
            self._store.drop_fine(frame)
            return self._num_base
        return known

    def _count(self, frame: int, known: int, newest: int | None) -> None:
        told = self._statistics
        told.played += 1
        if known:
            told.repaired += self._store.is_repaired(frame)
            told.partial += known < self._num_books
            told.fine_used += known - self._num_base
        elif newest is not None and frame > newest:
            self._num_unheard += 1
        else:
            told.concealed += 1
