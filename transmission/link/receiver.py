"""Packets to samples: in any order, at any time, with what is missing repaired or concealed."""

from __future__ import annotations

import dataclasses
import time

import torch
from torch import Tensor

from ...errors import ConfigError, CorruptStream
from ...tokenizer.codec import CodecModel
from .frame_store import FrameStore
from .models import load_concealer, stream_coder
from .packet import ForeignPacket, Packet, StreamIdentity, unpack_packet
from .packet_log import PacketLog
from .playback import Playback
from .playout import Playout
from .profile import PROFILES, LinkProfile
from .protocols import BlockCoder, Concealer, FineCoder
from .rendering import FrameRenderer
from .reports import ReceiverReport
from .statistics import LinkStatistics
from .stretch import most_samples, stretched

_AHEAD_SECONDS = 3.0  # how far ahead of playout packets are kept
_KEPT_SECONDS = 10.0  # how far behind it a late one is still told from another stream's
_MAX_WAITING = 64  # fine packets whose base has not come
# Frames that are decoded in one go where nothing can better them any more: far cheaper than one by one
_TOGETHER_FRAMES = 4
# Packets that are all too late or too early for so long mean that the sender stands elsewhere.
_ASTRAY_PACKETS, _ASTRAY_SECONDS = 10, 0.5


class Receiver:
    """A stream's other end. `push` what comes, in any order; `pull` samples as they are to be played.

    Time is what is pulled: a packet is late when its frames were needed for samples already pulled. Before
    the first packet, and after the end, samples are zeros. One thread at a time may use it.

    Example:
        >>> receiver = Receiver(codec)
        >>> while True:  # 50 times a second
        ...     for packet in socket:
        ...         receiver.push(packet)
        ...     play(receiver.pull(320))

    Args:
        codec: The codec, in evaluation mode.
        profile: As the sender's; how long to wait, and what is expected.
        base_coder, fine_coder: As the sender's.
        concealer: What is played for frames that are missing; what ships for the codec if not given.
        session: Number of the stream; that of the first packet if not given.
        playback: What makes samples; a `Playback` of the codec if not given.
        fine_needs: To compare with systems whose fine codes hang on others: a frame's fine codes are not
            played unless the base of so many frames before it and behind it came.

    Attributes:
        statistics: What became of packets and frames.
        offset_samples: Place among the pulled samples where the stream's sample 0 is, or would have been
            before anything was stretched; None before the first packet.

    Raises:
        ModelMismatch: If the coders do not fit the codec.
        ConfigError: If the profile asks for more levels than there are.
    """

    def __init__(
        self,
        codec: CodecModel,
        profile: LinkProfile = PROFILES["default"],
        *,
        base_coder: BlockCoder | None = None,
        fine_coder: FineCoder | None = None,
        concealer: Concealer | None = None,
        session: int | None = None,
        playback: Playback | None = None,
        fine_needs: tuple[int, int] = (0, 0),
    ) -> None:
        own, config = codec.identity, codec.config
        self._coder = stream_coder(own, profile, base_coder, fine_coder, session, verifies=False)
        self._identity = self._coder.identity
        levels = self._coder.require_levels(profile.fine_levels)
        self._codec, self.profile = codec, profile
        self._hop, self._rate = config.hop_length, config.sampling_rate
        self._frame_rate = config.frame_rate_hz
        self.statistics = LinkStatistics()
        num_layers = 2 if profile.is_layered and levels else 1
        self._log = PacketLog(profile.chunk_frames, num_layers, self.statistics)
        self._store = FrameStore(own.num_codebooks, self._coder.num_base)
        self._playout = Playout(
            self._hop,
            profile.playout_frames,
            round(profile.jitter_seconds * self._rate),
            round(profile.max_jitter_seconds * self._rate),
        )
        self._renderer = FrameRenderer(
            codec,
            self._store,
            profile,
            load_concealer("model", codec) if concealer is None else concealer,
            self._coder.num_base,
            self._coder.num_base + levels,
            self.statistics,
            fine_needs,
        )
        self._playback = Playback(codec) if playback is None else playback
        self._levels_seen: dict[int, int] = {}
        self._waiting: list[Packet] = []
        self._astray = (0, 0, 0)  # packets in a row, samples pulled at the first, frame of the last
        self._end: int | None = None
        self._is_over = False
        self.offset_samples: int | None = None
        self._num_pulled = 0
        self._ready: list[Tensor] = []
        self._num_ready = 0
        self._early = config.synthesis_reach  # what the decoder holds back of the first frame
        self._pulled_at: float | None = None
        self._last_pull = 0
        self._phase = 0.0

    @property
    def identity(self) -> StreamIdentity:
        """What packets must agree on; the session is known from the first packet on."""
        return self._identity

    @property
    def is_over(self) -> bool:
        """Whether the end of the signal was received and played."""
        return self._is_over

    @property
    def place_seconds(self) -> float | None:
        """Seconds of the sender's signal up to which samples were pulled; None before the first packet."""
        if self._playout.next_frame is None:
            return None
        held = self._codec.config.synthesis_reach - self._early
        return (self._playout.next_frame * self._hop - held - self._num_ready) / self._rate

    @property
    def first_frame(self) -> int:
        """The first frame that was to be played; 0 before the first packet."""
        return self._renderer.first_frame

    @property
    def num_ready(self) -> int:
        """Samples that are decoded and not yet pulled."""
        return self._num_ready

    def report(self) -> ReceiverReport:
        """What to tell the sender: loss since the last report, and jitter."""
        return self._log.report()

    def push(self, packet: bytes, arrival_seconds: float | None = None) -> None:
        """Take in a packet; whatever is wrong with it is counted, and changes nothing.

        Args:
            packet: As `Sender` gave it; the payload, where it came through RTP.
            arrival_seconds: When it came, on any clock; now if not given.
        """
        told = self.statistics
        try:
            found, session = unpack_packet(packet, self._identity)
            number = self._log.unwrap(found.number)
            found = dataclasses.replace(found, number=number)
            if self._log.is_known(found):
                told.duplicate += 1
                return
            needed = self._coder.frames_needed(found)
            base = self._coder.decode_base(found)
            fine = {} if needed else self._coder.decode_fine(found, base)
        except ForeignPacket:
            told.foreign += 1
            return
        except CorruptStream:
            told.corrupt += 1
            return
        if self._identity.session is None:
            self._identity = dataclasses.replace(self._identity, session=session)
        seconds = time.monotonic() if arrival_seconds is None else arrival_seconds
        if self._playout.next_frame is None:
            self._begin(found, arrival_seconds)
        elif self._is_astray(found):
            return
        next_frame = self._playout.next_frame or 0
        self._log.add(found, is_late=found.newest < next_frame)
        self._count_fine(found)
        self._watch(found, seconds, arrival_seconds)
        self._renderer.hear_of(self._log.newest or 0, next_frame)
        own = found.own_frames
        if base:  # of layers that travel apart, one counts
            told.late_frames += sum(self.first_frame <= frame < next_frame for frame in own)
        for frame, codes in base.items():
            if frame >= next_frame:
                self._store.add_base(frame, codes, is_copy=frame not in own)
        for frame, codes in fine.items():
            if frame >= next_frame:
                self._store.add_fine(frame, codes)
        if needed:
            self._waiting = [*self._waiting, found][-_MAX_WAITING:]
        if self._waiting:
            self._decode_waiting(next_frame)
        if found.is_last:
            self._end = found.newest

    def pull(self, num_samples: int, now_seconds: float | None = None) -> Tensor:
        """The next samples to be played, float32 `[num_samples]`.

        Args:
            num_samples: How many are needed now.
            now_seconds: When they begin to sound, on the clock of `arrival_seconds`; with it, a sender's
                clock is followed more finely than by whole pulls.

        Raises:
            ConfigError: If the number is negative.
        """
        if num_samples < 0:
            raise ConfigError(f"{num_samples} samples cannot be pulled; ask for 0 or more.")
        if self._playout.next_frame is not None:
            while self._num_ready < num_samples and not self._is_over:
                missing = num_samples - self._num_ready
                self._decode(-(-missing // self._hop))
        if self._num_ready < num_samples:
            self._add(torch.zeros(num_samples - self._num_ready))
        samples = torch.cat([torch.zeros(0), *self._ready])
        self._ready = [samples[num_samples:]]
        self._num_ready -= num_samples
        self._num_pulled += num_samples
        self._pulled_at, self._last_pull = now_seconds, num_samples
        return samples[:num_samples]

    def _begin(self, packet: Packet, arrival_seconds: float | None) -> None:
        """Set playout by a first packet, at the start or where the sender turned up elsewhere."""
        earliest = min(packet.frames(block)[0] for block in packet.blocks)
        wait = self._playout.start(packet.newest, earliest)
        first = self._playout.next_frame or 0
        self._log.start(first)
        self._phase = self._elapsed(arrival_seconds)
        self._add(torch.zeros(wait + self._early))
        begin = self._num_pulled + self._num_ready
        if self.offset_samples is None:
            self.offset_samples, self._renderer.first_frame = begin - first * self._hop, first

    def _is_astray(self, packet: Packet) -> bool:
        """Whether a packet is far from what is played; many of them in a row move playout to them."""
        next_frame, newest = self._playout.next_frame or 0, packet.newest
        rate = self._frame_rate
        ahead = self.profile.playout_frames + int(_AHEAD_SECONDS * rate)
        is_stray = not next_frame - int(_KEPT_SECONDS * rate) <= newest <= next_frame + ahead
        if not is_stray and newest >= next_frame:
            self._astray = (0, 0, 0)
            return False
        count, since, last = self._astray
        if not count or abs(newest - last) > ahead:
            count, since = 0, self._num_pulled
        self._astray = (count + 1, since, newest)
        is_long = self._num_pulled - since >= _ASTRAY_SECONDS * self._rate
        is_moved = count + 1 >= _ASTRAY_PACKETS and is_long and not self._is_over
        if is_moved and packet.own_frames:
            self._astray = (0, 0, 0)
            self._store.clear()
            self._levels_seen.clear()
            self._renderer.restart()
            self._waiting, self._end = [], None
            self._log.restart(newest)
            self.statistics.restarts += 1
            self._begin(packet, None)
            return False
        self.statistics.stray += is_stray
        return is_stray

    def _watch(self, packet: Packet, seconds: float, arrival_seconds: float | None) -> None:
        """Follow the sender's clock by a packet that was sent as soon as it was full."""
        if len(packet.own_frames) < self.profile.chunk_frames or packet.is_last or self._is_over:
            return
        self._log.arrive(packet, seconds, self._hop / self._rate)
        elapsed = self._elapsed(arrival_seconds)
        is_fine = arrival_seconds is not None and self._pulled_at is not None
        ready = self._num_ready - self._early - (elapsed - self._phase)
        margin = self._playout.margin(packet.newest, ready)
        self._playout.watch(margin, 1 if is_fine else self._last_pull)

    def _elapsed(self, arrival_seconds: float | None) -> float:
        """Samples that sounded since the last pull, where the times of both are known."""
        if arrival_seconds is None or self._pulled_at is None:
            return 0.0
        elapsed = (arrival_seconds - self._pulled_at) * self._rate
        return min(max(elapsed, 0.0), float(self._last_pull))

    def _count_fine(self, packet: Packet) -> None:
        for block in packet.blocks:
            for frame in packet.frames(block):
                seen = self._levels_seen.get(frame, 0)
                if block.num_levels > seen:
                    self.statistics.fine_received += block.num_levels - seen
                    self._levels_seen[frame] = block.num_levels

    def _decode_waiting(self, next_frame: int) -> None:
        """Decode fine packets whose base has come since; drop those whose time is over."""
        waiting, self._waiting = self._waiting, []
        for packet in waiting:
            found = {frame: self._store.base(frame) for frame in self._coder.frames_needed(packet)}
            base = {frame: codes for frame, codes in found.items() if codes is not None}
            if packet.newest < next_frame:
                continue
            if len(base) < len(found):
                self._waiting.append(packet)
                continue
            try:
                fine = self._coder.decode_fine(packet, base)
            except CorruptStream:
                self.statistics.corrupt += 1
                continue
            for frame, codes in fine.items():
                if frame >= next_frame:
                    self._store.add_fine(frame, codes)

    def _decode(self, count: int) -> None:
        """Decode the frames that must be played now, and those behind them that are whole already."""
        latents: list[Tensor] = []
        gains: list[Tensor] = []
        while True:
            frame = self._playout.next_frame or 0
            most = count + _TOGETHER_FRAMES - 1 if self._renderer.is_final(frame) else count
            if len(latents) >= most or (self._end is not None and frame > self._end):
                break
            latent, gain = self._renderer.next(frame, self._log.newest)
            latents.append(latent)
            gains.append(gain)
            self._playout.next_frame = frame + 1
        samples = torch.zeros(0)
        if latents:
            samples = self._playback.play(torch.stack(latents), torch.cat(gains))
            self._early = 0
        if len(latents) < count:
            samples = torch.cat([samples, self._playback.end()])
            self._is_over = True
        most = most_samples(samples) if len(samples) and self._playout.correction else 0
        if change := min(max(self._playout.correction, -most), most):
            samples = stretched(samples, change)
            self._playout.correction -= change
            self.statistics.inserted += max(0, change)
            self.statistics.dropped += max(0, -change)
        self._add(samples)
        self._forget(self._playout.next_frame or 0)

    def _forget(self, next_frame: int) -> None:
        self._log.pass_frames(next_frame)
        self._store.forget(next_frame - self._renderer.past_frames)
        oldest = next_frame - int(_KEPT_SECONDS * self._frame_rate)
        for frame in [frame for frame in self._levels_seen if frame < oldest]:
            del self._levels_seen[frame]

    def _add(self, samples: Tensor) -> None:
        self._ready.append(samples)
        self._num_ready += len(samples)
