"""A link over UDP, in real time: RTP one way, receiver reports the other."""

from __future__ import annotations

import secrets
import select
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import ConfigError, CorruptStream
from .channel import Channel
from .reports import Adaptation, ReceiverReport
from .rtp import (
    RtpStream,
    SequenceTracker,
    is_rtcp,
    pack_goodbye,
    pack_report,
    unpack_goodbye,
    unpack_report,
    unpack_rtp,
)

if TYPE_CHECKING:  # an address is refused before torch is there
    from torch import Tensor

    from .receiver import Receiver
    from .sender import Sender

Address = tuple[str, int]
MAX_DATAGRAM_BYTES = 2048
_BLOCK_SECONDS = 0.01
_REPORT_SECONDS = 1.0
_GOODBYES = 3  # it may be lost as everything may


@dataclass(frozen=True)
class Clock:
    """Seconds of the signal since now, on a clock that may run faster than the world's.

    Attributes:
        start: Of `time.monotonic`.
        speed: Seconds of the signal in a second.
    """

    start: float
    speed: float = 1.0

    def now(self) -> float:
        """Seconds of the signal."""
        return (time.monotonic() - self.start) * self.speed

    def left(self, seconds: float) -> float:
        """Real seconds until then, 0 if it is over."""
        return max(0.0, self.start + seconds / self.speed - time.monotonic())


@dataclass(frozen=True)
class Sending:
    """How a signal was sent.

    Attributes:
        clock: On which its sample 0 was spoken at 0.
        most_behind: Seconds of the signal by which a packet left later than its last sample was spoken, at
            the most: what computing took, or what it fell behind where it cannot keep up.
    """

    clock: Clock
    most_behind: float


def parse_address(text: str) -> Address:
    """`HOST:PORT` or `[HOST]:PORT`.

    Raises:
        ConfigError: If it is neither.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ConfigError(f"{text} is no address; give HOST:PORT, such as 127.0.0.1:5004.")
    return host.strip("[]"), int(port)


def open_socket(host: str, port: int) -> socket.socket:
    """A UDP socket bound to an address; port 0 takes a free one.

    Raises:
        OSError: If the address is taken or is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    link = socket.socket(family, socket.SOCK_DGRAM)
    try:
        link.bind((host, port))
    except OSError:
        link.close()
        raise
    link.setblocking(False)
    return link


def send_stream(
    sender: Sender,
    blocks: Iterable[Tensor],
    link: socket.socket,
    address: Address,
    *,
    channel: Channel | None = None,
    adaptation: Adaptation | None = None,
    speed: float = 1.0,
    on_report: Callable[[float, ReceiverReport], None] | None = None,
) -> Sending:
    """Send a signal as if it were spoken now.

    Args:
        sender: What makes packets of it.
        blocks: Its samples, in pieces.
        link: An open socket, on which reports come back.
        address: Where to send; reports are taken from there only.
        channel: Faults that are played on this side, before the real network's.
        adaptation: What reports change; nothing if not given.
        speed: Seconds of the signal in a second.
        on_report: Told each report, with the signal's time.

    Returns:
        When it was spoken, and how far its packets fell behind.

    Raises:
        OSError: If there is no such address.
    """
    link.connect(address)  # names are looked up once, and strangers' bytes never seen
    rate = sender.identity.codec.sampling_rate
    channel = Channel() if channel is None else channel
    stream = RtpStream(sender.identity.number, sender.identity.codec.hop_length)
    clock, num_samples, behind = Clock(time.monotonic(), speed), 0, 0.0

    def deliver(until: float) -> None:
        """Send what is due until the next block, and take in reports."""
        while True:
            for _, packet in channel.receive(clock.now()):
                _send(link, packet)
            next_arrival = channel.next_arrival
            due = until if next_arrival is None else min(until, next_arrival)
            if select.select([link], [], [], clock.left(due))[0]:
                for data, _ in _received(link):
                    report = unpack_report(data, sender.identity.number, rate)
                    if report is None:
                        continue
                    if on_report is not None:
                        on_report(clock.now(), report)
                    if adaptation is not None:
                        sender.adapt(adaptation.push(report))
            if clock.now() >= until:
                break

    for block in blocks:
        num_samples += len(block)
        deliver(num_samples / rate)
        for packet in sender.push(block):
            channel.send(stream.pack(packet), clock.now())
        behind = max(behind, clock.now() - num_samples / rate)
    for packet in sender.flush():
        channel.send(stream.pack(packet), clock.now())
    while channel.next_arrival is not None:
        deliver(channel.next_arrival)
    for _ in range(_GOODBYES):
        _send(link, pack_goodbye(sender.identity.number))
    return Sending(clock, behind)


class StreamPlayer:
    """A receiver on a socket: plays in real time what comes.

    Args:
        receiver: What makes samples of packets.
        link: An open socket.
        speed: Seconds of the signal in a second.
        clock_ppm: By how many millionths this player's clock is too fast, to try drift out.

    Attributes:
        clock: The player's, from when it was made.
        num_malformed: Datagrams that were neither RTP nor RTCP.
        first_played_at: When the first sample was played, on `time.monotonic`; None before.
    """

    def __init__(
        self,
        receiver: Receiver,
        link: socket.socket,
        *,
        speed: float = 1.0,
        clock_ppm: float = 0.0,
    ) -> None:
        self.receiver, self._link = receiver, link
        self._speed = speed * (1 + clock_ppm * 1e-6)
        codec = receiver.identity.codec
        self._rate = codec.sampling_rate
        self._block = round(_BLOCK_SECONDS * self._rate)
        self._reporter = secrets.randbelow(1 << 32)
        self._sequences = SequenceTracker()
        self._peer: Address | None = None
        self._source = 0
        self._goodbye_at: float | None = None
        self._heard_at: float | None = None
        self.num_malformed = 0
        self.first_played_at: float | None = None
        self.clock = Clock(time.monotonic(), self._speed)

    def run(
        self,
        play: Callable[[Tensor], None],
        *,
        wait_seconds: float = 60.0,
        idle_seconds: float = 5.0,
        on_second: Callable[[float], None] | None = None,
    ) -> None:
        """Play until the stream ends.

        Args:
            play: Takes samples as they are due, float32 `[n]`, from the first packet on.
            wait_seconds: How long to wait for a first packet.
            idle_seconds: The stream is over when nothing came for so long.
            on_second: Called about once a second of the signal, with its time.
        """
        clock = self.clock
        while self._heard_at is None and clock.now() < wait_seconds * self._speed:
            self._take(min(0.2, wait_seconds))
        if self._heard_at is None:
            return
        start, num_played, next_report = self._heard_at, 0, _REPORT_SECONDS
        self.first_played_at = clock.start + start / clock.speed
        due = 0.0
        # by what was played, not by the clock: playing may be behind its time
        while not self._is_over(start + due, idle_seconds):
            due = num_played / self._rate
            self._take(0.0)  # also where playing is behind its time
            while (left := clock.left(start + due)) > 0:
                self._take(left)
            play(self.receiver.pull(self._block, start + due))
            num_played += self._block
            if due >= next_report:
                next_report += _REPORT_SECONDS
                self._report()
                if on_second is not None:
                    on_second(due)
        play(self.receiver.pull(self.receiver.num_ready))

    @property
    def sample_0_heard_at(self) -> float | None:
        """When the signal's first sample was due, on `time.monotonic`; None if nothing was played."""
        offset = self.receiver.offset_samples
        if self.first_played_at is None or offset is None:
            return None
        return self.first_played_at + offset / self._rate / self._speed

    def _is_over(self, now: float, idle_seconds: float) -> bool:
        if self.receiver.is_over:
            return True
        if self._goodbye_at is not None:
            # what is still to be played: all that a packet may be late
            profile = self.receiver.profile
            hop = self.receiver.identity.codec.hop_length / self._rate
            rest = (profile.playout_frames + 2) * hop + profile.max_jitter_seconds
            return now > self._goodbye_at + rest
        return now - (self._heard_at or 0.0) > idle_seconds * self._speed

    def _take(self, seconds: float) -> None:
        """Wait for packets, not longer than some real seconds, and take in those that come."""
        if not select.select([self._link], [], [], seconds)[0]:
            return
        for data, peer in _received(self._link):
            now = self.clock.now()
            if is_rtcp(data):
                is_end = peer == self._peer and unpack_goodbye(data) == self._source
                if is_end and self._goodbye_at is None:
                    self._goodbye_at = now
                continue
            try:
                packet = unpack_rtp(data)
            except CorruptStream:
                self.num_malformed += 1
                continue
            told = self.receiver.statistics
            before = told.received + told.late
            self.receiver.push(packet.payload, now)
            if told.received + told.late == before:
                continue  # of no stream of ours, or played back: whoever sent it is not answered
            self._heard_at = now
            self._peer, self._source = peer, packet.source
            self._sequences.push(packet.sequence)

    def _report(self) -> None:
        if self._peer is None:
            return
        report = pack_report(
            self.receiver.report(),
            self._reporter,
            self._source,
            self._sequences.highest,
            self._rate,
        )
        _send(self._link, report, self._peer)


def _received(link: socket.socket) -> list[tuple[bytes, Address]]:
    """All datagrams that wait, a hundred at a time at the most."""
    found: list[tuple[bytes, Address]] = []
    while len(found) < 100:
        try:
            data, peer = link.recvfrom(MAX_DATAGRAM_BYTES)
        except BlockingIOError:
            break
        except ConnectionRefusedError:  # nobody listens yet at the other end
            continue
        found.append((data, peer))
    return found


def _send(link: socket.socket, data: bytes, address: Address | None = None) -> None:
    try:
        if address is None:
            link.send(data)
        else:
            link.sendto(data, address)
    except OSError:
        pass  # a full buffer, a network that is away, nobody there yet: a lost packet like any other
