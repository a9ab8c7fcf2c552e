"""Which packets came: numbers without their wrap, duplicates, losses, jitter."""

from __future__ import annotations

from .packet import NUMBER_BITS, Packet
from .reports import ReceiverReport
from .statistics import LinkStatistics

_KEPT_FRAMES = 500  # for how long a packet is known again, and can be told late from lost
_JITTER_SHARE = 16  # RFC 3550, section 6.4.1


class PacketLog:
    """Packets of one stream, by the frames that are new in them.

    Losses are counted where later packets have come: nobody knows of a packet that none followed.

    Args:
        chunk_frames: Frames that are new in a packet.
        num_layers: Packets in which a frame is new: 2 where base and fine codes travel apart.
        statistics: Where packets are counted.
    """

    def __init__(self, chunk_frames: int, num_layers: int, statistics: LinkStatistics) -> None:
        self._chunk_frames, self._num_layers = chunk_frames, num_layers
        self._statistics = statistics
        self._newest: int | None = None
        self._keys: dict[tuple[int, bool], bool] = {}
        self._own: dict[int, int] = {}  # packets in which a frame was new, and that came
        self._first = self._counted = 0
        self._lost_frames = 0
        self._told = (0, 0)
        self._jitter = 0.0
        self._transit: float | None = None

    @property
    def newest(self) -> int | None:
        """The newest frame of any packet; None before the first."""
        return self._newest

    def unwrap(self, number: int) -> int:
        """A 16-bit frame number as the nearest one to the newest."""
        if self._newest is None:
            return number
        full = 1 << NUMBER_BITS
        return self._newest + (number - self._newest + full // 2) % full - full // 2

    def is_known(self, packet: Packet) -> bool:
        """Whether it came before."""
        return self._key(packet) in self._keys

    def start(self, frame: int) -> None:
        """Count losses from a frame on."""
        self._first = self._counted = frame

    def restart(self, newest: int) -> None:
        """Forget where the stream was: numbers go on from another place."""
        self._newest = newest
        self._keys.clear()
        self._own.clear()

    def add(self, packet: Packet, *, is_late: bool) -> None:
        """Note a packet that is neither damaged nor known."""
        self._keys[self._key(packet)] = is_late
        newest = packet.newest
        if self._newest is None or newest > self._newest:
            self._newest = newest
        if is_late:
            self._statistics.late += 1
        else:
            self._statistics.received += 1
        for frame in packet.own_frames:
            if frame >= self._counted:
                self._own[frame] = self._own.get(frame, 0) + 1
            elif frame >= self._first:
                self._lost_frames -= 1  # was counted when it was played
        self._count()

    def arrive(self, packet: Packet, seconds: float, frame_seconds: float) -> None:
        """Take in when a packet came, for the jitter."""
        transit = seconds - packet.newest * frame_seconds
        if self._transit is not None:
            self._jitter += (abs(transit - self._transit) - self._jitter) / _JITTER_SHARE
        self._transit = transit

    def pass_frames(self, next_frame: int) -> None:
        """Frames below a number are played: what did not come of them is lost."""
        newest = next_frame - 1 if self._newest is None else self._newest
        for frame in range(self._counted, min(next_frame, newest + 1)):
            self._lost_frames += self._num_layers - self._own.pop(frame, 0)
            self._counted = frame + 1
        self._count()
        for key in [key for key in self._keys if key[0] < next_frame - _KEPT_FRAMES]:
            del self._keys[key]

    def report(self) -> ReceiverReport:
        """Loss since the last report, and the jitter."""
        told = self._statistics
        lost, expected = told.lost + told.late, told.lost + told.late + told.received
        new = expected - self._told[1]
        fraction = max(0.0, (lost - self._told[0]) / new) if new > 0 else 0.0
        self._told = (lost, expected)
        return ReceiverReport(fraction, told.lost, self._jitter)

    def _count(self) -> None:
        self._statistics.lost = max(0, -(-self._lost_frames // self._chunk_frames))

    def _key(self, packet: Packet) -> tuple[int, bool]:
        return packet.number, packet.blocks[0].num_levels > 0
