"""When frames are played: waiting at the start, slow packets, a sender's clock that is not the receiver's.

Everything is measured in samples of the receiver. The *margin* of a packet is how long before its deadline it
came; playout is kept where the fastest packets have as margin what slow ones may be late, the jitter buffer.
So a sender's clock that runs faster or slower shows as margins that grow or shrink, and is followed by
playing a few samples fewer or more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

_WINDOW_PACKETS = 100
_FIRST_WINDOW_PACKETS = 25  # the buffer's depth is a guess until then
_FASTEST = 0.9  # among the margins of a window, sorted: robust against a single odd packet
_SLOWEST = 0.02
_WINDOWS = 8  # the buffer is as deep as the worst of these asked for
_TOLERANCE = 1 / 8  # of a frame


@dataclass
class Playout:
    """Where playout stands.

    Args:
        hop_length: Samples of a frame.
        delay_frames: Frames by which a frame is played after it could be at the earliest.
        least_jitter, most_jitter: Bounds of the jitter buffer, in samples.

    Attributes:
        next_frame: The frame that is decoded next; None before the first packet.
        jitter: The jitter buffer, in samples.
        correction: Samples that are to be inserted, or left out where negative.
    """

    hop_length: int
    delay_frames: int
    least_jitter: int
    most_jitter: int
    next_frame: int | None = None
    jitter: int = field(init=False)
    correction: int = 0

    def __post_init__(self) -> None:
        self.jitter = self.least_jitter
        self._margins: list[float] = []
        self._spreads: list[float] = []
        self._window = _FIRST_WINDOW_PACKETS

    def start(self, newest: int, earliest: int) -> int:
        """Begin with the first packet.

        Args:
            newest: Its newest frame.
            earliest: Its oldest frame, which may be a copy.

        Returns:
            Samples to wait before `next_frame` is decoded.
        """
        oldest_in_time = newest - self.delay_frames - self.jitter // self.hop_length
        self.next_frame = max(earliest, oldest_in_time)
        self._margins, self._window, self.correction = [], _FIRST_WINDOW_PACKETS, 0
        return (self.next_frame + self.delay_frames - newest) * self.hop_length + self.jitter

    def margin(self, newest: int, num_ready: float) -> float:
        """How long before its deadline a packet is there whose newest frame is `newest`.

        Args:
            newest: Of the frames that are new in it.
            num_ready: Samples that are decoded and not yet played.
        """
        ahead = newest - self.delay_frames - (self.next_frame or 0)
        return num_ready + self.correction + ahead * self.hop_length

    def watch(self, margin: float, grain: float) -> None:
        """Take in a packet's margin, and see now and then whether playout must move.

        Args:
            margin: What `margin` gave.
            grain: How finely it is known, in samples.
        """
        self._margins.append(margin)
        if len(self._margins) < self._window:
            return
        margins, self._margins, self._window = sorted(self._margins), [], _WINDOW_PACKETS
        fastest = margins[int(_FASTEST * len(margins))]
        spread = fastest - margins[int(_SLOWEST * len(margins))]
        # what a coarse clock cannot tell from jitter is none
        self._spreads = [*self._spreads, spread if spread > grain else 0.0][-_WINDOWS:]
        wanted = math.ceil(max(self._spreads))
        self.jitter = min(max(wanted, self.least_jitter), self.most_jitter)
        error = fastest - self.jitter
        if abs(error) > max(grain, self.hop_length * _TOLERANCE):
            self.correction -= round(error)
