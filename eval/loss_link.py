"""Our link as a way of a loss report: packets are made once and played with one concealment or another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import ConfigError
from ..tokenizer.codec import CodecModel
from ..transmission.link.latency import latency_budget
from ..transmission.link.loss import LossModel
from ..transmission.link.models import (
    CONCEALMENTS,
    load_concealer,
    shipped_base_coder,
    shipped_fine_coder,
)
from ..transmission.link.packet import StreamIdentity, unpack_packet
from ..transmission.link.packet_coder import PacketCoder
from ..transmission.link.profile import LinkProfile, load_profile
from ..transmission.link.protocols import BlockCoder, BoolArray, FineCoder, IntArray
from ..transmission.link.transmit import SentSignal, receive_signal, send_signal
from .loss_ways import OURS, LossWay, PacketStream
from .report import Row

NO_COPIES = "no-copies"  # a profile that only an evaluation wants: what concealment alone does
HUNG = "hung"
# As published, fine codes decode if the base of 17 frames came. Here 3 of them are behind a frame, as many
# as the waiting time of `default` lets a receiver have.
_HUNG_FRAMES = (13, 3)


@dataclass
class RememberedFineCoder:
    """A fine coder that decodes each block once: a packet decodes alone, whatever the network does to others.

    Args:
        coder: What decodes.
    """

    coder: FineCoder
    _known: dict[tuple[object, ...], IntArray] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """The coder's."""
        return self.coder.fingerprint

    @property
    def num_given(self) -> int:
        """The coder's."""
        return self.coder.num_given

    @property
    def num_levels(self) -> int:
        """The coder's."""
        return self.coder.num_levels

    def encode(self, fine: IntArray, base: IntArray, is_known: BoolArray) -> bytes:
        """See `FineCoder`."""
        return self.coder.encode(fine, base, is_known)

    def decode(
        self, data: bytes, num_levels: int, num_frames: int, base: IntArray, is_known: BoolArray
    ) -> IntArray:
        """See `FineCoder`."""
        key = (data, num_levels, num_frames, base.tobytes(), is_known.tobytes())
        if key not in self._known:
            self._known[key] = self.coder.decode(data, num_levels, num_frames, base, is_known)
        return self._known[key]

    def forget(self) -> None:
        """Another recording comes."""
        self._known.clear()


class LinkSource:
    """Packets of our link, made once for all ways that play them.

    Args:
        codec: The codec, in evaluation mode.
        base_coder, fine_coder: What codes the packets; what ships if not given.
    """

    def __init__(
        self,
        codec: CodecModel,
        base_coder: BlockCoder | None = None,
        fine_coder: FineCoder | None = None,
    ) -> None:
        own = codec.identity
        self.codec = codec
        self.base_coder = shipped_base_coder(own) if base_coder is None else base_coder
        self.fine_coder = RememberedFineCoder(
            shipped_fine_coder(own) if fine_coder is None else fine_coder
        )
        self._waveform: Tensor | None = None
        self._sent: dict[LinkProfile, SentSignal] = {}
        self._own: Tensor | None = None

    def sent(self, waveform: Tensor, profile: LinkProfile) -> SentSignal:
        """Packets of float `[L]`."""
        self._take(waveform)
        if profile not in self._sent:
            self._sent[profile] = send_signal(
                self.codec,
                waveform,
                profile,
                base_coder=self.base_coder,
                fine_coder=self.fine_coder,
            )
        return self._sent[profile]

    def own_sound(self, waveform: Tensor) -> Tensor:
        """What codec and decoder make of float `[L]` without a link, as long."""
        self._take(waveform)
        if self._own is None:
            books = self.base_coder.num_books + self.fine_coder.num_levels
            codes = self.codec.tokenize([waveform], num_books=books)
            self._own = self.codec.synthesize(codes)[0].cpu()
        return self._own

    def differing_codes(self, sent: SentSignal) -> int:
        """Codes that come out of the packets otherwise than they were sent, or not at all; 0 is right."""
        identity = StreamIdentity(
            self.codec.identity,
            self.base_coder.fingerprint,
            self.fine_coder.fingerprint,
            sent.profile.has_context,
            None,
        )
        coder = PacketCoder(identity, self.base_coder, self.fine_coder)
        found = torch.full_like(sent.codes, -1)
        for _, data in sent.packets:
            packet, _ = unpack_packet(data, identity)
            base = coder.decode_base(packet)
            for frame, codes in base.items():
                found[: len(codes), frame] = torch.from_numpy(codes)
            needed = coder.frames_needed(packet)
            base |= {frame: found[: coder.num_base, frame].numpy() for frame in needed}
            for frame, codes in coder.decode_fine(packet, base).items():
                found[coder.num_base : coder.num_base + len(codes), frame] = torch.from_numpy(codes)
        return int((found != sent.codes).sum())

    def _take(self, waveform: Tensor) -> None:
        if self._waveform is not waveform:
            self._waveform, self._own = waveform, None
            self._sent.clear()
            self.fine_coder.forget()


class LinkWay(LossWay):
    """Our link in one profile, with one concealment.

    Args:
        source: Makes the packets.
        profile: A profile's name, a JSON file of one, or `no-copies`.
        concealment: One of `CONCEALMENTS`.
        is_hung: Play fine codes only where the base of all frames around came, as in the published system.
    """

    kind = OURS

    def __init__(
        self, source: LinkSource, profile: str, concealment: str, *, is_hung: bool = False
    ) -> None:
        self._source = source
        self.profile = find_profile(profile)
        self._concealer = load_concealer(concealment, source.codec)
        self._needs = _HUNG_FRAMES if is_hung else (0, 0)
        self.name = ", ".join([profile, concealment, *([HUNG] if is_hung else [])])
        self.profile_name, self.concealment, self.is_hung = profile, concealment, is_hung
        self.latency_seconds = latency_budget(source.codec, self.profile).algorithmic

    @property
    def made_of(self) -> list[object]:
        """See `LossWay`."""
        source = self._source
        prints = [source.base_coder.fingerprint, source.fine_coder.fingerprint]
        return [self.name, repr(self.profile), *prints, self._needs]

    def send(self, waveform: Tensor, loss_rate: float, bits_per_second: float) -> PacketStream:
        """See `LossWay`."""
        sent = self._source.sent(waveform, self.profile)
        seconds = len(waveform) / self._source.codec.config.sampling_rate
        told = sent.statistics
        return PacketStream(seconds, told.num_packets, told.num_bytes, sent)

    def receive(self, sent: PacketStream, loss: LossModel) -> tuple[Tensor, Row]:
        """See `LossWay`."""
        heard = receive_signal(
            self._source.codec,
            sent.data,
            loss=loss,
            concealer=self._concealer,
            fine_needs=self._needs,
        )
        told = heard.statistics
        names = ("played", "repaired", "concealed", "partial", "fine_received", "fine_used")
        row: Row = {name: getattr(told, name) for name in names}
        row["packets_lost"], row["packets_sent"] = told.lost + told.late, sent.num_packets
        return heard.waveform, row


def find_profile(name: str) -> LinkProfile:
    """A profile as `load_profile` finds it, or `no-copies`: those of `default` without copies."""
    if name == NO_COPIES:
        return LinkProfile(base_offsets=())
    return load_profile(name)


def link_ways(source: LinkSource, requests: Sequence[str]) -> list[LinkWay]:
    """Our ways by name.

    Args:
        source: Makes the packets.
        requests: `PROFILE`, `PROFILE:CONCEALMENT` or `PROFILE:CONCEALMENT:hung`; the model conceals where
            nothing is named.

    Raises:
        ConfigError: If there is no such profile or concealment.
    """
    ways = []
    for request in dict.fromkeys(requests):
        profile, _, rest = request.partition(":")
        concealment, _, last = rest.partition(":")
        if last not in ("", HUNG) or concealment not in ("", *CONCEALMENTS):
            raise ConfigError(
                f"{request} names no way; write PROFILE, PROFILE:{'|'.join(CONCEALMENTS)} or "
                f"PROFILE:model:{HUNG}."
            )
        ways.append(LinkWay(source, profile, concealment or CONCEALMENTS[0], is_hung=bool(last)))
    return ways
