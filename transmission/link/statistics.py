"""What became of a stream's packets and frames."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass
class LinkStatistics:
    """Counts of a receiver.

    Attributes:
        received: Packets that came in time, each once.
        lost: Packets that did not come by the time their frames were played.
        late: Packets that came after that; they are not among the lost.
        late_frames: Frames whose own packet came after they were played, as a copy or a guess; of a packet
            that counts as in time, the first frames may be among them.
        duplicate: Packets that came again.
        corrupt: Bytes that are no packet of this stream's format, or whose blocks do not decode.
        foreign: Packets of another stream, codec or model.
        stray: Packets so far from what is played that they were put aside.
        played: Frames that were played.
        repaired: Frames whose base came only as a copy.
        concealed: Frames whose base never came.
        partial: Frames whose base came without all fine codes that were expected.
        fine_received: Fine codes in all packets that were neither corrupt nor foreign, each code once.
        fine_used: Those of them whose frame was played with them.
        inserted, dropped: Samples by which playout was stretched and shortened.
        restarts: How often playout began anew.
    """

    received: int = 0
    lost: int = 0
    late: int = 0
    late_frames: int = 0
    duplicate: int = 0
    corrupt: int = 0
    foreign: int = 0
    stray: int = 0
    played: int = 0
    repaired: int = 0
    concealed: int = 0
    partial: int = 0
    fine_received: int = 0
    fine_used: int = 0
    inserted: int = 0
    dropped: int = 0
    restarts: int = 0

    @property
    def fine_share(self) -> float:
        """Share of the received fine codes that reached the decoder; 1 where none were received."""
        return self.fine_used / self.fine_received if self.fine_received else 1.0

    @property
    def loss(self) -> float:
        """Share of the packets that were of no use: lost or late."""
        gone = self.lost + self.late
        return gone / max(1, self.received + gone)

    def to_dict(self) -> dict[str, float]:
        """All counts and both shares."""
        return {**asdict(self), "fine_share": self.fine_share, "loss": self.loss}
