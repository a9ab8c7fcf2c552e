"""Other codecs in packets: losses are repaired from copies or concealed, at the rate that is asked for."""

from __future__ import annotations

import ctypes.util

import pytest
import torch
from tiny_codecs import voice

from speechlm.errors import ConfigError, MissingExtra
from speechlm.eval.amr_packets import AmrWbPackets, packet_bytes
from speechlm.eval.delay import find_delay
from speechlm.eval.loss_codecs import AmrWbWay, OpusWay
from speechlm.eval.opus_packets import RATE_HZ, OpusLibrary, OpusSetting
from speechlm.transmission.link.loss import IndependentLoss, TraceLoss

TARGET = 18_000.0


@pytest.fixture(scope="module")
def library() -> OpusLibrary:
    try:
        return OpusLibrary.find()
    except MissingExtra as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def amr() -> AmrWbPackets:
    try:
        return AmrWbPackets()
    except MissingExtra as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def speech() -> torch.Tensor:
    return voice(2 * RATE_HZ + 77)


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).square().mean())


@pytest.mark.parametrize("seconds", [0.02, 0.04, 0.06])
def test_opus_comes_back_under_the_original(
    library: OpusLibrary, speech: torch.Tensor, seconds: float
) -> None:
    setting = OpusSetting(24_000, seconds, False, 0.0)
    packets = library.encode(speech, setting)
    heard = library.decode(packets, [False] * len(packets), setting, len(speech))
    assert len(heard) == len(speech)
    assert abs(find_delay(speech, heard, RATE_HZ)) <= 2  # its filters shift what is so even
    assert distance(heard, speech) < 0.5 * float(speech.square().mean())


def test_a_copy_repairs_what_concealment_can_not(
    library: OpusLibrary, speech: torch.Tensor
) -> None:
    setting = OpusSetting(32_000, 0.02, True, 0.2)
    packets = library.encode(speech, setting)
    whole = library.decode(packets, [False] * len(packets), setting, len(speech))
    lost = [number % 4 == 2 for number in range(len(packets))]
    repaired = library.decode(packets, lost, setting, len(speech))
    deaf = setting._replace(has_copies=False)
    concealed = library.decode(packets, lost, deaf, len(speech))
    assert distance(repaired, whole) < 0.5 * distance(concealed, whole)


@pytest.mark.parametrize("seconds", [0.04, 0.06])
def test_opus_takes_the_total_rate_that_it_is_given(
    library: OpusLibrary, speech: torch.Tensor, seconds: float
) -> None:
    sent = OpusWay(library, seconds, has_copies=True).send(speech, 0.1, TARGET)
    assert sent.total_bits_per_second == pytest.approx(TARGET, rel=0.02)
    headers = sent.total_bits_per_second - sent.payload_bits_per_second
    assert headers == pytest.approx(320 / seconds, rel=0.05)  # one packet is not full


def test_who_waits_for_copies_is_a_packet_later(library: OpusLibrary) -> None:
    waiting, plain = (OpusWay(library, 0.04, has_copies=copies) for copies in (True, False))
    assert plain.latency_seconds == pytest.approx(0.0465)
    assert waiting.latency_seconds == pytest.approx(0.0865)


def test_ways_hear_the_losses_they_are_given(
    library: OpusLibrary, amr: AmrWbPackets, speech: torch.Tensor
) -> None:
    for way in (OpusWay(library, 0.04, has_copies=False), AmrWbWay(amr, frames=2)):
        sent = way.send(speech, 0.0, TARGET)
        whole, told = way.receive(sent, IndependentLoss(0.0))
        assert told == {"packets_lost": 0, "packets_sent": sent.num_packets}
        pieces, told = way.receive(sent, TraceLoss([False] * 20 + [True] * 3 + [False] * 1000))
        assert told["packets_lost"] == 3
        before = 20 * 640 - 400
        assert torch.equal(pieces[:before], whole[:before])
        assert not torch.equal(pieces[20 * 640 : 23 * 640], whole[20 * 640 : 23 * 640])


def test_amr_wb_comes_back_under_the_original(amr: AmrWbPackets, speech: torch.Tensor) -> None:
    frames = amr.encode(speech, "12.65")
    heard = amr.decode(frames, [False] * len(frames), len(speech))
    assert len(heard) == len(speech)
    assert abs(find_delay(speech, heard, RATE_HZ)) <= 2
    sent = AmrWbWay(amr, frames=2).send(speech, 0.1, TARGET)
    assert 16_000 < sent.total_bits_per_second < 19_000


def test_amr_wb_payloads_have_the_size_of_the_standard() -> None:
    assert packet_bytes([253]) == 33  # 12.65 kbit/s: RFC 4867, bandwidth-efficient
    assert packet_bytes([177, 177]) == 47


def test_what_is_no_opus_is_refused() -> None:
    other = ctypes.util.find_library("c") or "nowhere.so"
    with pytest.raises(ConfigError, match="no libopus"):
        OpusLibrary(other)
