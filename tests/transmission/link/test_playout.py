"""Playing in time: drift, jitter, slow packets, and senders that turn up elsewhere."""

from __future__ import annotations

import random

import pytest
import torch
from tiny_codecs import voice
from tiny_links import Listener, packets_of, random_codes

from speechlm.benchmarks import fuzz_link
from speechlm.tokenizer.codec import CodecModel
from speechlm.transmission.link.fading import Fading
from speechlm.transmission.link.profile import PROFILES, LinkProfile
from speechlm.transmission.link.receiver import Receiver
from speechlm.transmission.link.stretch import most_samples, stretched

PROFILE = PROFILES["default"]
PERIOD = 640  # samples of a packet


def play_with_clock(
    codec: CodecModel,
    packets: list[bytes],
    *,
    ppm: float = 0.0,
    jitter: float = 0.0,
    block: int = 320,
    has_times: bool = True,
) -> Listener:
    """A receiver whose clock is too fast by `ppm`, with delays up to `jitter` seconds."""
    listener, draw = Listener(codec, PROFILE), random.Random(0)
    arrivals = sorted(
        ((k + 1) * PERIOD / 16_000 + draw.random() * jitter, packet)
        for k, packet in enumerate(packets)
    )
    pulled = 0
    for seconds, packet in arrivals:
        local = seconds * (1 + ppm * 1e-6)
        while pulled / 16_000 <= local:
            listener.receiver.pull(block, pulled / 16_000 if has_times else None)
            pulled += block
        listener.receiver.push(packet, local)
    return listener


@pytest.mark.parametrize("ppm", [-1000, 1000])
@pytest.mark.parametrize("has_times", [True, False])
def test_another_clock_is_followed(ppm: float, has_times: bool, codec: CodecModel) -> None:
    num_packets = 1250  # 50 s: 800 samples of drift
    packets = packets_of(codec, random_codes(2 * num_packets), PROFILE, verifies=False)
    listener = play_with_clock(codec, packets[:num_packets], ppm=ppm, has_times=has_times)
    told = listener.receiver.statistics
    drift = ppm * 1e-6 * num_packets * PERIOD
    assert told.inserted - told.dropped == pytest.approx(drift, abs=400)
    assert told.late == told.concealed == told.restarts == 0
    margin = listener.receiver._playout.margin(2 * num_packets - 1, listener.receiver._num_ready)
    assert abs(margin - 320) < 700  # the jitter buffer is still as deep, to about a pull


def test_a_right_clock_is_left_alone(codec: CodecModel) -> None:
    packets = packets_of(codec, random_codes(600), PROFILE, verifies=False)
    told = play_with_clock(codec, packets).receiver.statistics
    assert told.inserted == told.dropped == 0


def test_slow_packets_are_waited_for_once_they_are_known(codec: CodecModel) -> None:
    num_packets = 800
    packets = packets_of(codec, random_codes(2 * num_packets), PROFILE, verifies=False)
    listener = play_with_clock(codec, packets[:num_packets], jitter=0.15)
    told = listener.receiver.statistics
    early = told.late
    assert listener.receiver._playout.jitter > 0.1 * 16_000
    listener = play_with_clock(codec, packets[:400], jitter=0.15)
    assert early - listener.receiver.statistics.late <= 5  # late ones came while it learned


def test_a_signal_is_stretched_without_a_step() -> None:
    signal = voice(3200)
    for change in (-4, -1, 1, 4):
        pieces = [stretched(piece, change) for piece in signal.split(320)]
        got = torch.cat(pieces)
        assert len(got) == 3200 + 10 * change
        assert got.diff().abs().max() < 1.1 * signal.diff().abs().max()
        assert got[0] == signal[0]
    tone = torch.sin(torch.arange(320) * 0.2)
    exact = torch.sin(torch.arange(322) * 320 / 322 * 0.2)
    assert (stretched(tone, 2) - exact)[2:-4].abs().max() < 1e-3
    assert torch.equal(stretched(signal, 0), signal)


def test_quiet_pieces_are_stretched_more() -> None:
    assert most_samples(voice(320)) == 2 and most_samples(torch.zeros(320)) == 32


def test_gaps_hold_fade_and_return() -> None:
    fading = Fading(320, 960, 640)
    assert fading.next(is_lost=False) is None
    gains = torch.cat([fading.next(is_lost=True) for _ in range(6)])
    assert (gains[:960] == 1).all() and (gains[1600:] == 0).all()
    assert gains[1279] == pytest.approx(0.5)
    assert (gains.diff() <= 0).all() and fading.is_silent
    back = fading.next(is_lost=False)
    assert (back.diff() > 0).all() and back[-1] == 1 and back[0] < 0.01
    assert fading.next(is_lost=False) is None
    short = [fading.next(is_lost=True) for _ in range(2)]
    assert all((gain == 1).all() for gain in short)
    assert fading.next(is_lost=False) is None  # nothing had faded


def test_silence_at_once_where_no_hold_is_asked_for() -> None:
    fading = Fading(320, 0, 0)
    assert fading.next(is_lost=False) is None
    assert not fading.next(is_lost=True).any()


def test_packets_after_their_time_are_late_and_not_lost(codec: CodecModel) -> None:
    packets = packets_of(codec, random_codes(60), PROFILE)
    receiver = Receiver(codec, PROFILE)
    for place, packet in enumerate(packets[:25]):
        if place != 8:
            receiver.push(packet, 0.0)
        receiver.pull(PERIOD)
    receiver.pull(10 * PERIOD)
    told = receiver.statistics
    assert (told.received, told.lost, told.late) == (24, 1, 0)
    receiver.push(packets[8], 0.0)
    receiver.push(packets[8], 0.0)
    assert (told.received, told.lost, told.late, told.duplicate) == (24, 0, 1, 1)
    assert told.fine_received - told.fine_used == 6  # its fine codes came, and were of no use
    assert receiver.report().fraction_lost == pytest.approx(1 / 25)
    assert receiver.report().fraction_lost == 0  # nothing new since


@pytest.mark.parametrize("jump", [-400, 4000])
def test_a_sender_that_turns_up_elsewhere_is_found_again(jump: int, codec: CodecModel) -> None:
    from speechlm.transmission.link.sender import Sender

    codes = random_codes(400)
    listener = Listener(codec, PROFILE)

    def run(start: int) -> None:
        sender = Sender(codec, PROFILE, session=7)
        sender._num_frames, sender._num_packets = start, start // 2
        sender._history = {frame: codes[:, 0].numpy() for frame in range(start - 4, start)}
        for piece in codes[:, :300].split(2, 1):
            for packet in sender.push_codes(piece):
                restarts = listener.receiver.statistics.restarts
                listener.receiver.push(packet, 0.0)
                if listener.receiver.statistics.restarts > restarts:
                    newest = listener.receiver._log.newest
                    assert listener.receiver._store.num_known(newest) == 6  # it is played
            listener.receiver.pull(PERIOD)

    run(1000)
    assert listener.receiver.statistics.concealed == 0
    run(1300 + jump)
    told = listener.receiver.statistics
    assert told.restarts == 1
    assert told.concealed + listener.receiver._renderer._num_unheard < 120
    played = told.played
    run(1600 + jump)
    assert told.restarts == 1 and told.played - played >= 295  # and plays on


def test_an_end_that_comes_late_is_still_the_end(codec: CodecModel) -> None:
    packets = packets_of(codec, random_codes(21), PROFILE)
    receiver = Receiver(codec, PROFILE)
    for packet in packets[:10]:  # all but those that bring the last frame
        receiver.push(packet, 0.0)
    receiver.pull(60 * 320)
    assert not receiver.is_over
    receiver.push(packets[10], 0.0)
    assert receiver.statistics.late == 1
    receiver.pull(640)
    assert receiver.is_over and not receiver.pull(640).any()


def test_nothing_begins_anew_after_the_end(codec: CodecModel) -> None:
    packets = packets_of(codec, random_codes(400), PROFILE, verifies=False)
    receiver = Receiver(codec, PROFILE)
    for packet in packets_of(codec, random_codes(21), PROFILE):
        receiver.push(packet, 0.0)
    receiver.pull(60 * 320)
    assert receiver.is_over
    for packet in packets[100:]:
        receiver.push(packet, 0.0)
        receiver.pull(PERIOD)
    assert receiver.statistics.restarts == 0 and receiver.is_over
    assert receiver.statistics.played == 21


def test_an_outage_moves_nothing(codec: CodecModel) -> None:
    packets = packets_of(codec, random_codes(600), PROFILE, verifies=False)
    listener = Listener(codec, PROFILE)
    for place, packet in enumerate(packets[:300]):
        if not 100 <= place < 200:  # four seconds
            listener.receiver.push(packet, 0.0)
        listener.receiver.pull(PERIOD)
    told = listener.receiver.statistics
    assert told.restarts == told.late == told.inserted == told.dropped == 0
    assert told.lost == 100 and told.concealed == pytest.approx(200, abs=4)


def test_memory_is_bounded(codec: CodecModel) -> None:
    """Whatever comes, and for however long: nothing that is kept grows."""
    profile = LinkProfile(is_layered=True)
    packets = packets_of(codec, random_codes(1200), profile, verifies=False)
    receiver = Listener(codec, profile).receiver
    for place, packet in enumerate(packets):
        if place % 2 and place % 5:  # fine packets without their base wait in vain
            receiver.push(packet, 0.0)
        receiver.pull(320)
    assert fuzz_link.held(receiver) < 2000
