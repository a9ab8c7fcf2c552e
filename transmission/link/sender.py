"""Samples to packets."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ConfigError
from ...tokenizer.blocks import is_finite
from ...tokenizer.codec import CodecModel
from ...tokenizer.stream import CodecStream, as_samples, block_frames
from .models import stream_coder
from .packet import pack_packet
from .profile import PROFILES, LinkProfile
from .protocols import BlockCoder, FineCoder, IntArray

NETWORK_HEADER_BYTES = 40  # IPv4 20, UDP 8, RTP 12


@dataclass
class SenderStatistics:
    """What was sent.

    Attributes:
        num_packets, num_bytes: Packets, and their bytes without RTP and what is below it.
        num_frames: Frames that were new in them.
        num_base_codes, num_base_bytes: Codes in base blocks, copies included, and the bytes of these blocks.
        num_fine_codes, num_fine_bytes: The same for fine blocks.
    """

    num_packets: int = 0
    num_bytes: int = 0
    num_frames: int = 0
    num_base_codes: int = 0
    num_base_bytes: int = 0
    num_fine_codes: int = 0
    num_fine_bytes: int = 0

    def bits_per_second(self, frame_rate_hz: float, *, with_headers: bool = True) -> float:
        """Rate of the payload, or with `NETWORK_HEADER_BYTES` a packet."""
        headers = NETWORK_HEADER_BYTES * self.num_packets if with_headers else 0
        return 8 * (self.num_bytes + headers) * frame_rate_hz / max(1, self.num_frames)


class Sender:
    """A signal through codec and coders into packets.

    Example:
        >>> sender = Sender(codec)
        >>> for samples in microphone:
        ...     for packet in sender.push(samples):
        ...         send(packet)

    Args:
        codec: The codec, in evaluation mode.
        profile: What travels in which packet.
        base_coder, fine_coder: What codes the blocks; the best that ship for the codec if not given.
        session: Number of the stream, 16 bits; drawn if not given.
        verifies: Decode every block as a receiver would before it is sent.

    Attributes:
        identity: What a receiver must agree on.
        profile: The profile in force.
        statistics: What was sent.

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
        session: int | None = None,
        verifies: bool = True,
    ) -> None:
        own = codec.identity
        session = secrets.randbelow(1 << 16) if session is None else session
        self._coder = stream_coder(own, profile, base_coder, fine_coder, session, verifies=verifies)
        self.identity = self._coder.identity
        self.statistics = SenderStatistics()
        self.profile = profile
        self._num_levels = self._coder.require_levels(profile.fine_levels)
        self._stream = CodecStream(codec, self._coder.num_books)
        self._hop, self._ahead = own.hop_length, codec.config.encoder_lookahead_samples
        self._most = block_frames(codec.device, 1) * self._hop
        self._waiting: list[Tensor] = []
        self._num_samples = 0
        self._history: dict[int, IntArray] = {}
        self._num_frames = self._num_packets = 0
        self._end: int | None = None

    @property
    def num_books(self) -> int:
        """Books of the codec that are taken in, base and fine."""
        return self._coder.num_books

    @property
    def num_levels(self) -> int:
        """Fine levels that are sent."""
        return self._num_levels

    def adapt(self, profile: LinkProfile) -> None:
        """From the next packet on, send other copies or levels; receivers need not be told.

        Raises:
            ConfigError: If the profile also has another grid of packets, another delay or other contexts.
        """
        same = ("chunk_frames", "interleave", "is_layered", "has_context", "playout_frames")
        if any(getattr(profile, name) != getattr(self.profile, name) for name in same):
            raise ConfigError(
                f"While a stream runs, its {', '.join(same)} stay; change offsets and levels only."
            )
        self._num_levels = self._coder.require_levels(profile.fine_levels)
        self.profile = profile

    def push(self, samples: Tensor | NDArray[np.floating]) -> list[bytes]:
        """Take in float `[n]` at the codec's rate; returns the packets that are now full.

        Raises:
            UnsupportedAudio: If samples are not one-dimensional or not finite; nothing is taken in then.
            ConfigError: If the stream was flushed.
        """
        self._require_open()
        samples = as_samples(samples)
        if samples.dim() != 1 or not is_finite(samples):
            self._stream.push(samples)  # refuses it
        self._waiting.append(samples.clone())  # callers may use their buffer again
        self._num_samples += len(samples)
        # frames of a packet are encoded together: nobody waits for the first one alone
        last = self.profile.last_frame(self._num_packets)
        if self._ahead is not None and self._num_samples < (last + 1) * self._hop + self._ahead:
            return []
        return self._take(self._encoded())

    def push_codes(self, codes: Tensor) -> list[bytes]:
        """As `push`, with int64 `[k, m]` in place of samples, for what is encoded already.

        Raises:
            ConfigError: If the shape or a code does not fit, or the stream was flushed.
        """
        self._require_open()
        size = self.identity.codec.codebook_size
        if codes.dim() != 2 or len(codes) != self._coder.num_books:
            raise ConfigError(
                f"This stream takes codes [{self._coder.num_books}, m], not of shape {list(codes.shape)}."
            )
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < size:
            raise ConfigError(f"A code lies outside 0 to {size - 1}; give codes of this codec.")
        return self._take(codes)

    def flush(self) -> list[bytes]:
        """End the signal; returns the packets of its last frames, and those that only repeat them.

        Raises:
            ConfigError: If the stream was flushed before.
        """
        self._require_open()
        codes = torch.cat([self._encoded(), self._stream.flush()], 1)
        self._end = self._num_frames + codes.shape[1]
        packets = self._take(codes)
        profile = self.profile
        deepest = max((0, *profile.base_offsets, *profile.fine_offsets))
        end = profile.packet_of(max(0, self._num_frames - 1)) + profile.interleave
        while self._num_packets < end + deepest:
            packets += self._next_packets()
        return packets

    def _encoded(self) -> Tensor:
        """Codes of the samples that wait, in pieces that fit a cache."""
        samples, self._waiting = torch.cat([torch.zeros(0), *self._waiting]), []
        pieces = [self._stream.push(piece) for piece in samples.split(self._most)]
        return torch.cat(pieces, 1)

    def _take(self, codes: Tensor) -> list[bytes]:
        packets: list[bytes] = []
        for column in codes.T.cpu().numpy():
            self._history[self._num_frames] = column.astype(np.int64)
            self._num_frames += 1
            while self.profile.last_frame(self._num_packets) < self._num_frames:
                packets += self._next_packets()
        return packets

    def _next_packets(self) -> list[bytes]:
        """The packet that follows, or two where layers travel apart, or none if there is nothing to tell."""
        index, profile = self._num_packets, self.profile
        self._num_packets += 1
        number, num_base = profile.frames(index)[0], self._coder.num_base
        levels = slice(num_base, num_base + self._num_levels)
        base = {f: self._history[f][:num_base] for f in self._carried(index, profile.base_offsets)}
        fine = {f: self._history[f][levels] for f in self._carried(index, profile.fine_offsets)}
        if not self._num_levels:
            fine = {}
        self.statistics.num_frames += sum(f < self._num_frames for f in profile.frames(index))
        parts = [(base, {}), ({}, fine)] if profile.is_layered else [(base, fine)]
        packets = [self._packed(number, *part) for part in parts if any(part)]
        # nothing that is older can travel in a later packet
        oldest = profile.last_frame(index) - profile.playout_frames
        for frame in [frame for frame in self._history if frame < oldest]:
            del self._history[frame]
        return packets

    def _carried(self, index: int, offsets: tuple[int, ...]) -> list[int]:
        return [frame for frame in self.profile.carried(index, offsets) if frame < self._num_frames]

    def _packed(self, number: int, base: dict[int, IntArray], fine: dict[int, IntArray]) -> bytes:
        num_base = self._coder.num_base
        packet = self._coder.encode(
            number,
            base,
            fine,
            context={frame: self._history[frame][:num_base] for frame in fine},
            stride=self.profile.interleave,
            is_last=self._end is not None and self._end - 1 in {*base, *fine},
        )
        packed = pack_packet(packet, self.identity)
        told = self.statistics
        told.num_packets += 1
        told.num_bytes += len(packed)
        for block in packet.blocks:
            if block.num_levels:
                told.num_fine_codes += block.num_levels * block.num_frames
                told.num_fine_bytes += len(block.data)
            else:
                told.num_base_codes += num_base * block.num_frames
                told.num_base_bytes += len(block.data)
        return packed

    def _require_open(self) -> None:
        if self._end is not None:
            raise ConfigError("This stream was flushed; make another Sender for another signal.")
