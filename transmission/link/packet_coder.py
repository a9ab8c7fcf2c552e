"""Codes of frames to a packet's blocks and back: where both ends agree on what codes are coded given.

A base run is coded on its own. A fine run is coded given the base frames that travel in the same packet, up
to its own last frame, and nothing else; so a packet decodes alone, whatever else was lost. A fine run in a
packet without base codes is coded given the base of its own frames, which another packet brings, or, in a
stream without context, given nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import ConfigError, CorruptStream, ModelMismatch
from ..chunk_coder import pack_codes, unpack_codes
from .packet import MAX_BLOCK_BYTES, Block, Packet, StreamIdentity
from .profile import runs
from .protocols import BlockCoder, BoolArray, FineCoder, IntArray

CONTEXT_FRAMES = 16  # the longest run that a fine coder is shown


class PacketCoder:
    """The coders of a stream, and what they are given.

    Args:
        identity: The stream's; its codec is whose codes are coded.
        base_coder, fine_coder: Those that the identity names.
        verifies: Decode every block as a receiver would, and send its codes as they are if they differ.

    Raises:
        ModelMismatch: If the coders fit neither each other nor the codec.
    """

    def __init__(
        self,
        identity: StreamIdentity,
        base_coder: BlockCoder,
        fine_coder: FineCoder,
        *,
        verifies: bool = True,
    ) -> None:
        codec = identity.codec
        self.identity, self.base_coder, self.fine_coder = identity, base_coder, fine_coder
        self.num_base, self.num_levels = base_coder.num_books, fine_coder.num_levels
        self._size, self._verifies = codec.codebook_size, verifies
        if (
            fine_coder.num_given != self.num_base
            or self.num_base < codec.min_codebooks
            or self.num_base + self.num_levels > codec.num_codebooks
        ):
            raise ModelMismatch(
                f"A coder of {self.num_base} base books and one of {self.num_levels} levels given "
                f"{fine_coder.num_given} do not make up the books of codec {codec.codec_id}."
            )

    @property
    def num_books(self) -> int:
        """Books that may be sent, base and fine."""
        return self.num_base + self.num_levels

    def require_levels(self, wanted: int | None) -> int:
        """The number of fine levels that a profile asks for; None asks for all.

        Raises:
            ConfigError: If there are fewer.
        """
        if wanted is not None and wanted > self.num_levels:
            raise ConfigError(
                f"The profile sends {wanted} fine levels; there are {self.num_levels}."
            )
        return self.num_levels if wanted is None else wanted

    def encode(
        self,
        number: int,
        base: Mapping[int, IntArray],
        fine: Mapping[int, IntArray],
        *,
        context: Mapping[int, IntArray] | None = None,
        stride: int = 1,
        is_last: bool = False,
    ) -> Packet:
        """The packet of some frames.

        Args:
            number: Its own first frame.
            base: Codes `[G]` of each frame whose base travels.
            fine: Codes `[p]` of each frame whose fine codes travel, p the same for all.
            context: Base codes of the frames of `fine`, where `base` is empty.
            stride: Distance of its frames.
            is_last: Whether no frame follows.
        """
        blocks = []
        for run in runs(base, stride):
            codes = np.stack([base[frame] for frame in run], 1)
            blocks.append(Block(0, number - run[0], len(run), self._encoded(codes, None)))
        known = base or context or {}
        for run in runs(fine, stride):
            codes = np.stack([fine[frame] for frame in run], 1)
            given = self._given(run, known, stride, is_alone=not base)
            blocks.append(Block(len(codes), number - run[0], len(run), self._encoded(codes, given)))
        return Packet(number, tuple(blocks), stride, is_last)

    def decode_base(self, packet: Packet) -> dict[int, IntArray]:
        """Base codes `[G]` of each frame.

        Raises:
            CorruptStream: If a block is not what `encode` writes.
        """
        found: dict[int, IntArray] = {}
        for block in packet.blocks:
            if not block.num_levels:
                codes = self._decoded(block, self.num_base, None)
                _add(found, packet.frames(block), codes)
        return found

    def frames_needed(self, packet: Packet) -> list[int]:
        """Frames whose base another packet must bring before this one's fine codes can be decoded."""
        if not self.identity.has_context or not packet.blocks[0].num_levels:
            return []
        return [frame for block in packet.blocks for frame in packet.frames(block)]

    def decode_fine(self, packet: Packet, base: Mapping[int, IntArray]) -> dict[int, IntArray]:
        """Fine codes `[p]` of each frame.

        Args:
            packet: The packet.
            base: What `decode_base` gave of it; or the base of `frames_needed`, where there are such.

        Raises:
            CorruptStream: If a block is not what `encode` writes.
        """
        found: dict[int, IntArray] = {}
        is_alone = packet.blocks[0].num_levels > 0
        for block in packet.blocks:
            if block.num_levels > self.num_levels:
                raise CorruptStream(
                    f"A block has {block.num_levels} fine levels, the stream has {self.num_levels}."
                )
            if block.num_levels:
                frames = packet.frames(block)
                given = self._given(frames, base, packet.stride, is_alone=is_alone)
                _add(found, frames, self._decoded(block, block.num_levels, given))
        return found

    def _given(
        self, run: Sequence[int], base: Mapping[int, IntArray], stride: int, *, is_alone: bool
    ) -> tuple[IntArray, BoolArray]:
        """What the fine coder is shown for a run: base `[G, m]`, and which of the m frames are known."""
        known = base if self.identity.has_context else {}
        first, last = run[0], run[-1]
        if not is_alone:
            # interleaved frames count as if they lay side by side
            reach = last - (CONTEXT_FRAMES - 1) * stride
            earlier = (f for f in known if reach <= f < first and (first - f) % stride == 0)
            first = min(earlier, default=first)
        frames = range(first, last + 1, stride)
        nothing = np.zeros(self.num_base, dtype=np.int64)
        codes = np.stack([known.get(frame, nothing) for frame in frames], 1)
        return codes, np.array([frame in known for frame in frames])

    def _encoded(self, codes: IntArray, given: tuple[IntArray, BoolArray] | None) -> bytes:
        """A block's bytes: coded where that is shorter and comes back, else as they are."""
        raw = pack_codes(codes, self._size)
        if len(raw) > MAX_BLOCK_BYTES:
            raise ConfigError(
                f"{codes.shape[1]} frames of {len(codes)} books do not fit a block of "
                f"{MAX_BLOCK_BYTES} bytes; choose fewer frames a packet."
            )
        if given is None:
            coded = self.base_coder.encode(codes)
        else:
            coded = self.fine_coder.encode(codes, *given)
        if len(coded) >= len(raw):
            return raw
        if self._verifies:
            try:
                block = Block(0 if given is None else len(codes), 0, codes.shape[1], coded)
                if not np.array_equal(self._decoded(block, len(codes), given), codes):
                    return raw
            except CorruptStream:
                return raw
        return coded

    def _decoded(
        self, block: Block, num_books: int, given: tuple[IntArray, BoolArray] | None
    ) -> IntArray:
        bits = num_books * block.num_frames * (self._size - 1).bit_length()
        raw_size = -(-bits // 8)
        if len(block.data) > raw_size:
            raise CorruptStream("A block is longer than its codes as they are.")
        if len(block.data) == raw_size:
            return unpack_codes(block.data, num_books, block.num_frames, self._size)
        if given is None:
            codes = self.base_coder.decode(block.data, block.num_frames)
        else:
            codes = self.fine_coder.decode(block.data, num_books, block.num_frames, *given)
        if codes.shape != (num_books, block.num_frames):
            raise CorruptStream("A block decodes to codes of another shape than its head says.")
        return codes


def _add(found: dict[int, IntArray], frames: range, codes: IntArray) -> None:
    for place, frame in enumerate(frames):
        if frame in found:
            raise CorruptStream(f"A packet brings frame {frame} twice.")
        found[frame] = codes[:, place]
