"""A network that is not there: loses, delays, reorders and doubles packets, by a seed."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from ...errors import ConfigError
from .loss import LossModel, NoLoss


@dataclass(frozen=True)
class ChannelFaults:
    """What happens to packets that are not lost.

    Attributes:
        jitter_seconds: Each is delayed by up to so much, so that one may overtake another.
        reordered: Share that is delayed by `reorder_seconds` more.
        reorder_seconds: By how much.
        duplicated: Share that comes twice.
    """

    jitter_seconds: float = 0.0
    reordered: float = 0.0
    reorder_seconds: float = 0.05
    duplicated: float = 0.0

    def __post_init__(self) -> None:
        if (
            not 0 <= self.jitter_seconds <= 10
            or not 0 <= self.reorder_seconds <= 10
            or not 0 <= self.reordered <= 1
            or not 0 <= self.duplicated <= 1
        ):
            raise ConfigError("A channel's shares go from 0 to 1, its delays from 0 to 10 seconds.")


class Channel:
    """Packets in at their time of sending, out at their time of arrival.

    Args:
        loss: Which of them are lost.
        faults: What happens to the others.
        seed: Seed of delays and copies; losses have their own.
    """

    def __init__(
        self,
        loss: LossModel | None = None,
        faults: ChannelFaults | None = None,
        seed: int = 0,
    ) -> None:
        self._loss = NoLoss() if loss is None else loss
        self._faults = ChannelFaults() if faults is None else faults
        self._draws = np.random.default_rng([seed, 1])
        self._queue: list[tuple[float, int, bytes]] = []
        self._count = 0

    def send(self, packet: bytes, seconds: float) -> bool:
        """Take a packet; returns whether it is lost."""
        is_lost = self._loss.is_lost(seconds)
        # as many draws for a lost packet, so that the fate of others does not hang on it
        jitter, order, copy, copy_jitter = self._draws.random(4)
        if is_lost:
            return True
        faults = self._faults
        arrival = seconds + jitter * faults.jitter_seconds
        arrival += faults.reorder_seconds if order < faults.reordered else 0.0
        self._put(packet, arrival)
        if copy < faults.duplicated:
            self._put(packet, arrival + copy_jitter * max(faults.jitter_seconds, 0.01))
        return False

    @property
    def next_arrival(self) -> float | None:
        """When the next packet comes; None if none is under way."""
        return self._queue[0][0] if self._queue else None

    def receive(self, seconds: float) -> list[tuple[float, bytes]]:
        """Packets that have come by that time, with their times, in order."""
        found = []
        while self._queue and self._queue[0][0] <= seconds:
            arrival, _, packet = heapq.heappop(self._queue)
            found.append((arrival, packet))
        return found

    def _put(self, packet: bytes, arrival: float) -> None:
        self._count += 1  # packets of equal times keep their order
        heapq.heappush(self._queue, (arrival, self._count, packet))
