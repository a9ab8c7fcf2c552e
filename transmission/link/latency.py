"""How long a sample takes from one end to the other: computed from the configuration, and measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from ...errors import ConfigError
from ...tokenizer.codec import CodecModel
from .profile import LinkProfile
from .receiver import Receiver
from .sender import Sender

_BLOCK_SAMPLES = 8


@dataclass(frozen=True)
class LatencyBudget:
    """Seconds of each cause, for the sample that waits longest; playout is even, so all samples take as long.

    Attributes:
        frame: A frame must be whole.
        lookahead: What codec and decoder look ahead.
        chunk: Other frames of the packet.
        repair: Copies in later packets.
        concealment: Frames behind a gap that are waited for beyond that, to conceal it from both sides.
        jitter: The jitter buffer.
    """

    frame: float
    lookahead: float
    chunk: float
    repair: float
    concealment: float
    jitter: float

    @property
    def algorithmic(self) -> float:
        """All but the jitter buffer; the time to compute and the network come on top."""
        return self.total - self.jitter

    @property
    def total(self) -> float:
        """All of it."""
        return sum(asdict(self).values())

    def to_dict(self) -> dict[str, float]:
        """Every part, and both sums, in seconds."""
        return {**asdict(self), "algorithmic": self.algorithmic, "total": self.total}


def latency_budget(codec: CodecModel, profile: LinkProfile) -> LatencyBudget:
    """The budget of a link.

    Raises:
        ConfigError: If the codec is not causal, so that nothing bounds its look-ahead.
    """
    config = codec.config
    lookahead = config.lookahead_samples
    if lookahead is None:
        raise ConfigError(
            f"Codec {config.codec_id} is not causal: its latency has no bound, take another one."
        )
    hop = config.hop_length / config.sampling_rate
    waited = profile.own_delay_frames + profile.repair_frames
    return LatencyBudget(
        frame=hop,
        lookahead=lookahead / config.sampling_rate,
        chunk=profile.own_delay_frames * hop,
        repair=profile.repair_frames * hop,
        concealment=(profile.playout_frames - waited) * hop,
        jitter=round(profile.jitter_seconds * config.sampling_rate) / config.sampling_rate,
    )


def measure_latency(
    codec: CodecModel, profile: LinkProfile, *, place_seconds: float = 0.2
) -> float:
    """Seconds from an impulse at one end to its copy at the other, if network and models take no time.

    The copy is looked for as the codec's own decoding of the same signal, which has no delay: where both are
    equal, the difference of places is the latency.

    Raises:
        ConfigError: If the received signal is nowhere equal to the codec's own.
    """
    config = codec.config
    rate = config.sampling_rate
    waited = latency_budget(codec, profile).total + 0.2
    signal = torch.zeros(round((place_seconds + waited) * rate))
    signal[int(place_seconds * rate)] = 1.0
    sender, receiver = Sender(codec, profile, session=0), Receiver(codec, profile)
    heard = []
    # a block is there when its last sample is; what sounds during it is pulled before
    for block in signal.split(_BLOCK_SAMPLES):
        heard.append(receiver.pull(len(block)))
        for packet in sender.push(block):
            receiver.push(packet)
    got = torch.cat(heard)
    own = codec.synthesize(codec.tokenize([signal], sender.num_books))[0]
    # samples around the impulse, which no silence resembles
    start = int(place_seconds * rate) - config.hop_length
    pattern = own[start : start + 4 * config.hop_length]
    windows = got.unfold(0, len(pattern), 1)
    distance = (windows - pattern).abs().amax(1)
    best = int(distance.argmin())
    if float(distance[best]) > 1e-5 or not float(pattern.abs().max()) > 0:
        raise ConfigError(
            "What came over the link is not the codec's own sound; nothing to measure."
        )
    return (best - start) / rate
