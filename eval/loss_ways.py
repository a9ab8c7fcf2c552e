"""Ways to send speech over a link that loses packets, as a loss report sees them.

A way makes packets of a recording once for a kind of loss, and is then heard through as many draws of the
network as wanted. All times of sending are those at which a packet is full.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..transmission.link.loss import LossModel
from ..transmission.link.sender import NETWORK_HEADER_BYTES
from .report import Row

OURS, OPUS, AMR_WB = "ours", "Opus", "AMR-WB"


@dataclass(frozen=True)
class PacketStream:
    """A recording in packets.

    Attributes:
        seconds: Of the recording.
        num_packets: How many.
        num_bytes: Of all of them, without IP, UDP and RTP.
        data: What the way made them of.
    """

    seconds: float
    num_packets: int
    num_bytes: int
    data: Any

    @property
    def payload_bits_per_second(self) -> float:
        """Without headers of the network."""
        return 8 * self.num_bytes / self.seconds

    @property
    def total_bits_per_second(self) -> float:
        """With `NETWORK_HEADER_BYTES` a packet."""
        return 8 * (self.num_bytes + NETWORK_HEADER_BYTES * self.num_packets) / self.seconds


class LossWay(ABC):
    """One row of the report at each loss.

    Attributes:
        name: Of the row.
        kind: "ours", "Opus" or "AMR-WB".
        latency_seconds: Algorithmic: the codec's delay, the packet, and what is waited for copies.
    """

    name: str
    kind: str
    latency_seconds: float

    @property
    def made_of(self) -> list[object]:
        """What its figures are a function of, in plain values."""
        return [self.name]

    @abstractmethod
    def send(self, waveform: Tensor, loss_rate: float, bits_per_second: float) -> PacketStream:
        """Packets of float `[L]`.

        Args:
            waveform: At 16 kHz for other codecs, at our codec's rate for ours.
            loss_rate: The share of packets that is expected to be lost.
            bits_per_second: The total rate to come near to; ours takes what its profile takes.
        """

    @abstractmethod
    def receive(self, sent: PacketStream, loss: LossModel) -> tuple[Tensor, Row]:
        """(what is heard, float `[L]` under the original; counts of what became of packets and codes)."""
