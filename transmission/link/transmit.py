"""A signal over a lossy link in one process: packets once, then as many draws of the network as wanted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...tokenizer.codec import CodecModel
from ...tokenizer.stream import block_frames
from .channel import Channel, ChannelFaults
from .latency import latency_budget
from .loss import LossModel
from .playback import DeferredPlayback
from .profile import PROFILES, LinkProfile
from .protocols import BlockCoder, Concealer, FineCoder
from .receiver import Receiver
from .sender import Sender, SenderStatistics
from .statistics import LinkStatistics


@dataclass(frozen=True)
class SentSignal:
    """Packets of a signal with their times of sending.

    Attributes:
        packets: Seconds since the signal's begin at which each is full, and its bytes.
        num_samples: Length of the signal.
        codes: int64 `[k, T]`, what was sent.
        profile: What it was sent with.
        base_coder, fine_coder: The coders, which a receiver needs as well; None for those that ship.
        statistics: What was sent.
    """

    packets: list[tuple[float, bytes]]
    num_samples: int
    codes: Tensor
    profile: LinkProfile
    base_coder: BlockCoder | None
    fine_coder: FineCoder | None
    statistics: SenderStatistics


@dataclass(frozen=True)
class Transmission:
    """What arrived.

    Attributes:
        waveform: float32 `[L]`, as long as the original and aligned with it.
        statistics: What became of packets and frames.
        latency_seconds: By how much playout is behind, the jitter buffer included.
    """

    waveform: Tensor
    statistics: LinkStatistics
    latency_seconds: float


def send_signal(
    codec: CodecModel,
    waveform: Tensor,
    profile: LinkProfile = PROFILES["default"],
    *,
    base_coder: BlockCoder | None = None,
    fine_coder: FineCoder | None = None,
    session: int = 0,
    verifies: bool = True,
) -> SentSignal:
    """All packets of a signal, float `[L]` at the codec's rate; arguments as in `Sender`."""
    sender = Sender(
        codec,
        profile,
        base_coder=base_coder,
        fine_coder=fine_coder,
        session=session,
        verifies=verifies,
    )
    config = codec.config
    codes = codec.tokenize([waveform], sender.num_books).values[0]
    ahead = config.encoder_lookahead_samples or 0
    packets: list[tuple[float, bytes]] = []

    def add(made: list[bytes], num_frames: int) -> None:
        full = (num_frames * config.hop_length + ahead) / config.sampling_rate
        packets.extend((full, packet) for packet in made)

    for number in range(codes.shape[1]):
        add(sender.push_codes(codes[:, number : number + 1]), number + 1)
    add(sender.flush(), codes.shape[1])
    return SentSignal(
        packets, len(waveform), codes, profile, base_coder, fine_coder, sender.statistics
    )


def receive_signal(
    codec: CodecModel,
    sent: SentSignal,
    *,
    loss: LossModel | None = None,
    faults: ChannelFaults | None = None,
    seed: int = 0,
    concealer: Concealer | None = None,
    is_live: bool = False,
    fine_needs: tuple[int, int] = (0, 0),
) -> Transmission:
    """Play packets as a receiver behind a network would.

    Args:
        codec: The codec that made them.
        sent: What `send_signal` gave.
        loss: Which packets are lost; none if not given.
        faults: Delays, reordering and copies; none if not given.
        seed: Seed of these.
        concealer: As in `Receiver`.
        is_live: Decode frame by frame even where nothing delays packets: the same samples, later.
        fine_needs: As in `Receiver`.
    """
    config = codec.config
    # what stretches playout has to hear it
    deferred = None if is_live or faults is not None else DeferredPlayback(codec)
    receiver = Receiver(
        codec,
        sent.profile,
        base_coder=sent.base_coder,
        fine_coder=sent.fine_coder,
        concealer=concealer,
        playback=deferred,
        fine_needs=fine_needs,
    )
    channel = Channel(loss, faults, seed)
    for seconds, packet in sent.packets:
        channel.send(packet, seconds)
    latency = latency_budget(codec, sent.profile).total
    delay = round(latency * config.sampling_rate)
    end = sent.num_samples + delay
    most = block_frames(codec.device, 1) * config.hop_length
    heard, num_heard = [torch.zeros(0)], 0
    while num_heard < end:
        arrival = channel.next_arrival
        place = end if arrival is None else min(round(arrival * config.sampling_rate), end)
        while num_heard < place:
            count = min(place - num_heard, most)
            num_heard += count
            heard.append(receiver.pull(count, num_heard / config.sampling_rate))
        if arrival is not None:
            for seconds, packet in channel.receive(arrival):
                receiver.push(packet, seconds)
    start = delay if receiver.offset_samples is None else receiver.offset_samples
    if deferred is None:
        rest = receiver.pull(max(0, start - delay))
        waveform = torch.cat([*heard, rest])[start : start + sent.num_samples]
    else:
        lead = torch.zeros(receiver.first_frame * config.hop_length)
        waveform = torch.cat([lead, deferred.samples(), torch.zeros(sent.num_samples)])
        waveform = waveform[: sent.num_samples]
    return Transmission(waveform, receiver.statistics, start / config.sampling_rate)
