"""Other codecs as ways of a loss report: Opus and AMR-WB in packets, at a total rate that is given."""

from __future__ import annotations

from torch import Tensor

from ..errors import ConfigError, MissingExtra
from ..transmission.link.loss import LossModel, losses_at
from ..transmission.link.sender import NETWORK_HEADER_BYTES
from .amr_packets import FRAME_SECONDS, LAG_SAMPLES, AmrWbPackets, packet_bytes
from .baselines import AmrWb
from .bitstreams import amr_wb_bits
from .loss_ways import AMR_WB, OPUS, LossWay, PacketStream
from .opus_packets import LEAST_BITS_PER_SECOND, RATE_HZ, OpusLibrary, OpusSetting
from .report import Row

_OPUS_TRIES, _CLOSE = 4, 0.002  # encodings to come so near to a total rate


class OpusWay(LossWay):
    """Opus in packets of one length, with in-band FEC for the expected loss or without.

    Args:
        library: libopus.
        packet_seconds: 0.02, 0.04 or 0.06.
        has_copies: In-band FEC.
    """

    kind = OPUS

    def __init__(self, library: OpusLibrary, packet_seconds: float, *, has_copies: bool) -> None:
        self._library, self._packet_seconds = library, packet_seconds
        self.has_copies = has_copies
        self.name = f"Opus {1000 * packet_seconds:.0f} ms" + (", FEC" if has_copies else "")
        waited = packet_seconds if has_copies else 0.0
        self.latency_seconds = packet_seconds + library.lookahead_samples / RATE_HZ + waited

    @property
    def made_of(self) -> list[object]:
        """See `LossWay`."""
        return [self.name, self._library.version]

    def send(self, waveform: Tensor, loss_rate: float, bits_per_second: float) -> PacketStream:
        """See `LossWay`; the bit rate that Opus is asked for is sought, for it varies around that."""
        wanted = bits_per_second - 8 * NETWORK_HEADER_BYTES / self._packet_seconds
        asked = max(wanted, LEAST_BITS_PER_SECOND)
        best = found = self._encoded(waveform, asked, loss_rate)
        for _ in range(_OPUS_TRIES):
            if wanted <= LEAST_BITS_PER_SECOND or _off(best, bits_per_second) < _CLOSE:
                break
            asked = max(asked * wanted / found.payload_bits_per_second, LEAST_BITS_PER_SECOND)
            found = self._encoded(waveform, asked, loss_rate)
            best = min(best, found, key=lambda stream: _off(stream, bits_per_second))
        return best

    def _encoded(self, waveform: Tensor, bits_per_second: float, loss_rate: float) -> PacketStream:
        expected = loss_rate if self.has_copies else 0.0
        setting = OpusSetting(
            round(bits_per_second), self._packet_seconds, self.has_copies, expected
        )
        packets = self._library.encode(waveform, setting)
        num_bytes = sum(map(len, packets))
        data = (setting, packets, len(waveform))
        return PacketStream(len(waveform) / RATE_HZ, len(packets), num_bytes, data)

    def receive(self, sent: PacketStream, loss: LossModel) -> tuple[Tensor, Row]:
        """See `LossWay`."""
        setting, packets, num_samples = sent.data
        ahead = self._library.lookahead_samples / RATE_HZ
        is_lost = losses_at(loss, _full(len(packets), self._packet_seconds, ahead))
        heard = self._library.decode(packets, is_lost, setting, num_samples)
        return heard, {"packets_lost": sum(is_lost), "packets_sent": len(packets)}


class AmrWbWay(LossWay):
    """AMR-WB without copies, in packets of some frames, in the mode nearest to a total rate.

    Args:
        coder: Encoder and decoder.
        frames: In a packet.
    """

    kind = AMR_WB

    def __init__(self, coder: AmrWbPackets, frames: int) -> None:
        self._coder, self._frames = coder, frames
        self.name = f"AMR-WB {round(1000 * frames * FRAME_SECONDS)} ms"
        self.latency_seconds = frames * FRAME_SECONDS + LAG_SAMPLES / RATE_HZ

    def send(self, waveform: Tensor, loss_rate: float, bits_per_second: float) -> PacketStream:
        """See `LossWay`."""
        headers = 8 * NETWORK_HEADER_BYTES / (self._frames * FRAME_SECONDS)
        mode = min(AmrWb.modes, key=lambda m: abs(1000 * float(m) + headers - bits_per_second))
        frames = self._coder.encode(waveform, mode)
        groups = [frames[at : at + self._frames] for at in range(0, len(frames), self._frames)]
        sizes = [packet_bytes([amr_wb_bits(frame) for frame in group]) for group in groups]
        seconds = len(waveform) / RATE_HZ
        return PacketStream(seconds, len(groups), sum(sizes), (frames, len(waveform)))

    def receive(self, sent: PacketStream, loss: LossModel) -> tuple[Tensor, Row]:
        """See `LossWay`."""
        frames, num_samples = sent.data
        times = _full(sent.num_packets, self._frames * FRAME_SECONDS, LAG_SAMPLES / RATE_HZ)
        is_lost = losses_at(loss, times)
        each = [is_lost[number // self._frames] for number in range(len(frames))]
        heard = self._coder.decode(frames, each, num_samples)
        return heard, {"packets_lost": sum(is_lost), "packets_sent": sent.num_packets}


def other_ways(request: str, rate_hz: int) -> tuple[list[LossWay], list[str]]:
    """Other codecs in packets, as far as they are installed.

    Args:
        request: `opus`, `amr-wb`, both with a comma between, or nothing.
        rate_hz: Of our codec; the others are compared at 16 kHz.

    Returns:
        (the ways, a sentence for each codec that is absent).

    Raises:
        ConfigError: If there is no such codec.
    """
    names = [name.strip() for name in request.lower().split(",") if name.strip()]
    if unknown := set(names) - {"opus", "amr-wb"}:
        raise ConfigError(f"There is no {min(unknown)} in packets; name opus, amr-wb or both.")
    if names and rate_hz != RATE_HZ:
        return [], [f"Other codecs are compared at {RATE_HZ} Hz only; this codec has {rate_hz} Hz."]
    ways: list[LossWay] = []
    notes = []
    try:
        if "opus" in names:
            library = OpusLibrary.find()
            for has_copies in (True, False):
                ways += [OpusWay(library, s, has_copies=has_copies) for s in (0.02, 0.04, 0.06)]
    except MissingExtra as error:
        notes.append(str(error))
    try:
        if "amr-wb" in names:
            ways.append(AmrWbWay(AmrWbPackets(), frames=2))
    except MissingExtra as error:
        notes.append(str(error))
    return ways, notes


def _full(count: int, packet_seconds: float, ahead: float) -> list[float]:
    """When each packet is full."""
    return [(number + 1) * packet_seconds + ahead for number in range(count)]


def _off(stream: PacketStream, bits_per_second: float) -> float:
    return abs(stream.total_bits_per_second / bits_per_second - 1)
