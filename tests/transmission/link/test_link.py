"""Sender to receiver: nothing lost is exact, and what is lost costs what the pattern says, no more."""

from __future__ import annotations

import random

import pytest
import torch
from tiny_codecs import tiny_codec
from tiny_links import Listener, decoded, packets_of, random_codes

from speechlm.errors import ConfigError, UnsupportedAudio
from speechlm.tokenizer.codec import CodecModel
from speechlm.transmission.link.channel import ChannelFaults
from speechlm.transmission.link.concealers import RepetitionConcealer
from speechlm.transmission.link.loss import parse_loss
from speechlm.transmission.link.profile import PROFILES, LinkProfile
from speechlm.transmission.link.receiver import Receiver
from speechlm.transmission.link.sender import Sender
from speechlm.transmission.link.transmit import receive_signal, send_signal

SHAPES = {
    **PROFILES,
    "interleaved": LinkProfile(interleave=3, base_offsets=(1,), delay_frames=None),
    "far copies": LinkProfile(
        chunk_frames=3, base_offsets=(1, 3), fine_offsets=(2,), delay_frames=None
    ),
    "layered copies": LinkProfile(is_layered=True, fine_offsets=(1,)),
    "no context": LinkProfile(is_layered=True, has_context=False),
    "two levels": LinkProfile(fine_levels=2),
}


@pytest.mark.parametrize("name", SHAPES)
def test_without_loss_the_codec_s_own_sound_comes_out(
    name: str, codec: CodecModel, signal: torch.Tensor
) -> None:
    profile = SHAPES[name]
    sent = send_signal(codec, signal, profile)
    heard = receive_signal(codec, sent, is_live=True)
    books = 3 + (3 if profile.fine_levels is None else profile.fine_levels)
    own = codec.synthesize(codec.tokenize([signal], books))[0]
    assert torch.equal(heard.waveform, own)
    told = heard.statistics
    assert told.received == len(sent.packets)
    assert (told.lost, told.late, told.concealed, told.partial, told.repaired) == (0, 0, 0, 0, 0)
    assert told.fine_share == 1 and told.inserted == told.dropped == 0


def test_a_live_sender_sends_what_a_whole_signal_gives(
    codec: CodecModel, signal: torch.Tensor
) -> None:
    whole = [packet for _, packet in send_signal(codec, signal, session=7).packets]
    sender = Sender(codec, session=7)
    pieces = [packet for block in signal.split(777) for packet in sender.push(block)]
    assert pieces + sender.flush() == whole
    with pytest.raises(ConfigError, match="flushed"):
        sender.push(signal)


def test_a_buffer_that_is_used_again_changes_nothing(
    codec: CodecModel, signal: torch.Tensor
) -> None:
    """Sound devices hand out one buffer over and over; frames of a packet wait for each other."""
    sender, buffer, packets = Sender(codec, session=7), torch.zeros(160).numpy(), []
    for block in signal[:15_520].split(160):
        buffer[:] = block.numpy()
        packets += sender.push(buffer)
    whole = send_signal(codec, signal[:15_520], session=7).packets
    assert packets + sender.flush() == [packet for _, packet in whole]


@pytest.mark.parametrize("name", SHAPES)
def test_any_order_and_duplicates_give_the_same_frames(name: str, codec: CodecModel) -> None:
    profile, codes = SHAPES[name], random_codes(41)
    packets = packets_of(codec, codes, profile)
    kept = [packet for place, packet in enumerate(packets) if place % 5 != 3]
    # the first packet sets the clock; whatever comes before it is played is used
    straight = Listener(codec, profile).play(kept, 41)
    mixed = [*kept, *kept[::3]]
    random.Random(3).shuffle(mixed)
    mixed.insert(0, kept[0])
    listener = Listener(codec, profile)
    assert torch.equal(listener.play(mixed, 41), straight)
    told = listener.receiver.statistics
    assert (told.received, told.duplicate) == (len(kept), len(mixed) - len(kept))


def expected_latents(
    codec: CodecModel, codes: torch.Tensor, base: set[int], fine: set[int]
) -> torch.Tensor:
    """What repetition plays if just these frames have base and fine codes."""
    rows, last = [], torch.zeros(codec.config.latent_size)
    for frame in range(codes.shape[1]):
        if frame in base:
            books = 6 if frame in fine else 3
            last = decoded(codec, codes[:books, frame : frame + 1])[0]
        rows.append(last)
    return torch.stack(rows)


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "two levels"])
@pytest.mark.parametrize("seed", range(4))
def test_copies_repair_what_the_pattern_promises_and_fine_codes_are_used(
    name: str, seed: int, codec: CodecModel
) -> None:
    """Frame by frame: base where a packet with it came, fine codes where theirs came, and only that."""
    profile, codes, num_frames = SHAPES[name], random_codes(60, seed), 60
    packets = packets_of(codec, codes, profile)
    draw = random.Random(seed)
    came = [0, *(k for k in range(1, len(packets)) if draw.random() < 0.6)]
    layers = 2 if profile.is_layered else 1
    base, fine = set(), set()
    for place in came:
        index, layer = divmod(place, layers)
        if layers == 1 or layer == 0:
            base |= set(profile.carried(index, profile.base_offsets))
    for place in came:
        index, layer = divmod(place, layers)
        carried = {f for f in profile.carried(index, profile.fine_offsets) if f < num_frames}
        is_usable = not profile.is_layered or not profile.has_context or carried <= base
        if (layers == 1 or layer == 1) and is_usable:
            fine |= carried
    listener = Listener(codec, profile, concealer=RepetitionConcealer(codec))
    got = listener.play([packets[place] for place in came], num_frames)
    assert torch.equal(got, expected_latents(codec, codes, base, fine))
    known = {f for f in base if f < num_frames}
    told = listener.receiver.statistics
    assert told.partial == len(known - fine)
    assert told.fine_used == 3 * len(known & fine)
    if not profile.is_layered and set(profile.fine_offsets) <= set(profile.base_offsets):
        assert told.fine_share == 1  # every fine code that came was played


@pytest.mark.parametrize("name", ["default", "redundant-30", "interleaved", "far copies"])
def test_each_packet_alone_decodes_all_its_codes(name: str, codec: CodecModel) -> None:
    profile, codes = SHAPES[name], random_codes(40)
    packets = packets_of(codec, codes, profile)
    for index in range(3, 10):
        listener = Listener(codec, profile)
        listener.receiver.push(packets[index], 0.0)
        store = listener.receiver._store
        for frame in profile.carried(index, profile.base_offsets):
            assert store.base(frame).tolist() == codes[:3, frame].tolist()
        for frame in profile.carried(index, profile.fine_offsets):
            row = store.window(frame, frame + 1)[3:, 0]
            assert row.tolist() == codes[3:, frame].tolist()


def test_a_fine_packet_waits_for_a_copy_of_its_base(codec: CodecModel) -> None:
    profile, codes = PROFILES["layered"], random_codes(20)
    packets = packets_of(codec, codes, profile)
    listener = Listener(codec, profile)
    for place in (0, 1, 3):  # base and fine of packet 0, fine of packet 1
        listener.receiver.push(packets[place], 0.0)
    assert listener.receiver._store.num_known(2) == 0
    listener.receiver.push(packets[4], 0.0)  # base of packet 2, with a copy of that of packet 1
    assert listener.receiver._store.num_known(2) == 6
    assert listener.receiver._store.is_repaired(2)


def test_frame_numbers_wrap(codec: CodecModel) -> None:
    """Across 2^16 frames nothing is taken for old or new wrongly, with losses and duplicates."""
    profile, codes, start = PROFILES["default"], random_codes(400), (1 << 16) - 200
    sender = Sender(codec, profile, session=1)
    sender._num_frames, sender._num_packets = start, start // 2  # as if it had sent so many
    sender._history = {frame: codes[:, 0].numpy() for frame in range(start - 4, start)}
    listener, place = Listener(codec, profile), 0
    for codes_of_packet in codes.split(2, 1):
        for packet in sender.push_codes(codes_of_packet):
            if place % 7 != 3:
                listener.receiver.push(packet, 0.0)
                listener.receiver.push(packet, 0.0)
            place += 1
        listener.receiver.pull(640)
    told = listener.receiver.statistics
    assert (told.late, told.stray, told.restarts, told.concealed) == (0, 0, 0, 0)
    assert told.received == told.duplicate == 171 and told.lost == 28 + 2  # two before it joined
    assert listener.receiver._playout.next_frame > 1 << 16
    got = torch.cat(listener.playback._latents)[start - listener.receiver.first_frame :]
    known = [f for f in range(len(got)) if f // 2 % 7 != 3]
    assert torch.equal(got[known], decoded(codec, codes)[: len(got)][known])


def test_who_joins_late_hears_the_rest(codec: CodecModel) -> None:
    codes = random_codes(200)
    packets = packets_of(codec, codes, PROFILES["default"])
    listener = Listener(codec, PROFILES["default"])
    got = listener.play(packets[40:], 200)
    first = listener.receiver.first_frame
    assert 75 <= first <= 80
    assert torch.equal(got[80:], decoded(codec, codes[:, 80:]))
    assert not listener.receiver.statistics.concealed


def test_quality_of_service_is_told(codec: CodecModel, signal: torch.Tensor) -> None:
    sent = send_signal(codec, signal.repeat(4))
    heard = receive_signal(codec, sent, loss=parse_loss("0.2", 5))
    told = heard.statistics
    assert told.received + told.lost == pytest.approx(len(sent.packets), abs=2)
    assert told.loss == pytest.approx(0.2, abs=0.1)
    assert told.repaired > 5 * told.concealed
    report = told.to_dict()
    assert report["fine_share"] == 1 and report["received"] == told.received


def test_frames_that_came_too_late_are_told_even_where_their_packet_was_of_use(
    codec: CodecModel, signal: torch.Tensor
) -> None:
    profile = PROFILES["default"].changed(
        base_offsets=(), delay_frames=1, jitter_seconds=0.0, max_jitter_seconds=0.0
    )
    sent = send_signal(codec, signal.repeat(4), profile)
    told = receive_signal(codec, sent, faults=ChannelFaults(jitter_seconds=0.02), seed=3).statistics
    assert told.lost == 0 and told.received
    assert told.late_frames == told.concealed > 2 * told.late


@pytest.mark.parametrize("loss", ["0.1", "0.4", "outage:0.3,1"])
@pytest.mark.parametrize("window", [640, 1280])
def test_deferred_decoding_gives_the_same_samples(
    loss: str, window: int, signal: torch.Tensor
) -> None:
    codec = tiny_codec(fft_size=window)  # a window of 1280 reaches further than a frame
    sent = send_signal(codec, signal.repeat(2))
    live = receive_signal(codec, sent, loss=parse_loss(loss, 1), is_live=True)
    late = receive_signal(codec, sent, loss=parse_loss(loss, 1))
    assert torch.equal(live.waveform, late.waveform)
    assert live.statistics == late.statistics


def test_a_long_gap_fades_and_comes_back(codec: CodecModel, signal: torch.Tensor) -> None:
    profile = PROFILES["default"]
    sent = send_signal(codec, signal)
    kept = [(t, p) for t, p in sent.packets if not 0.3 < t < 0.8]
    lossy = receive_signal(codec, type(sent)(kept, *_rest(sent)))
    whole = receive_signal(codec, sent)
    ahead = codec.config.encoder_lookahead_samples / 16_000
    before = max(t for t, _ in kept if t < 0.5)
    behind = min(t for t, _ in kept if t > 0.5)
    start = round((before - ahead) * 16_000)  # the gap follows the last frame before it,
    stop = round((behind - ahead - 0.1) * 16_000)  # and ends with the oldest copy behind it
    silent = start + round((profile.hold_seconds + profile.fade_seconds) * 16_000)
    assert torch.equal(lossy.waveform[: start - 320], whole.waveform[: start - 320])
    assert lossy.waveform[start : start + 320].any()
    assert not lossy.waveform[silent:stop].any() and stop - silent > 800
    assert whole.waveform[silent : silent + 1600].any()
    # no step where it comes back
    assert lossy.waveform.diff().abs().max() < 2 * whole.waveform.diff().abs().max()


def _rest(sent: object) -> list:
    import dataclasses

    return [getattr(sent, field.name) for field in dataclasses.fields(sent)[1:]]


def test_a_receiver_without_packets_gives_silence(codec: CodecModel) -> None:
    receiver = Receiver(codec)
    assert receiver.pull(0).shape == (0,)
    assert not receiver.pull(1000).any() and receiver.offset_samples is None
    with pytest.raises(ConfigError):
        receiver.pull(-1)


def test_adapted_copies_need_no_word_to_the_receiver(codec: CodecModel) -> None:
    codes, profile = random_codes(60), PROFILES["default"]
    sender = Sender(codec, profile, session=7)
    packets = sender.push_codes(codes[:, :30])
    sender.adapt(PROFILES["redundant-30"].changed(fine_levels=2))
    packets += sender.push_codes(codes[:, 30:]) + sender.flush()
    got = Listener(codec, profile).play([p for k, p in enumerate(packets) if k % 4], 60)
    expected = decoded(codec, codes[:5, 40:56])
    assert torch.equal(got[40:56], expected)
    with pytest.raises(ConfigError, match="chunk_frames"):
        sender.adapt(PROFILES["low-delay"])


@pytest.mark.parametrize("samples", [torch.zeros(2, 3), torch.tensor([0.0, float("nan")])])
def test_what_is_no_signal_is_refused_and_not_taken_in(
    samples: torch.Tensor, codec: CodecModel, signal: torch.Tensor
) -> None:
    sender, undisturbed = Sender(codec, session=7), Sender(codec, session=7)
    first = sender.push(signal[:500])
    with pytest.raises(UnsupportedAudio):
        sender.push(samples)
    assert first + sender.push(signal[500:]) == undisturbed.push(signal)
    with pytest.raises(ConfigError, match="outside"):
        sender.push_codes(torch.full((6, 1), 16))
    with pytest.raises(ConfigError, match="shape"):
        sender.push_codes(torch.zeros(5, 1, dtype=torch.long))
    with pytest.raises(ConfigError, match="levels"):
        Sender(codec, LinkProfile(fine_levels=4))
    assert Sender(codec, LinkProfile(fine_levels=2)).num_levels == 2


def test_a_codec_without_fine_books_has_links_too(signal: torch.Tensor) -> None:
    plain = tiny_codec(num_codebooks=3, num_masked_books=3)
    sent = send_signal(plain, signal)
    heard = receive_signal(plain, sent)
    assert torch.equal(heard.waveform, plain.synthesize(plain.tokenize([signal]))[0])
    assert heard.statistics.fine_received == 0 and heard.statistics.fine_share == 1


def test_a_signal_without_samples_needs_no_packet(codec: CodecModel) -> None:
    assert Sender(codec).flush() == []


def test_codes_that_hang_on_others_may_be_compared_with(codec: CodecModel) -> None:
    """`fine_needs` plays what a system would whose fine codes need the base of a whole window."""
    profile, codes = LinkProfile(base_offsets=(), delay_frames=4), random_codes(60)
    packets = packets_of(codec, codes, profile)
    kept = packets[:10] + packets[11:]  # frames 20 and 21 are lost
    concealer = RepetitionConcealer(codec)
    usual = Listener(codec, profile, concealer=concealer)
    needy = Listener(codec, profile, concealer=concealer, fine_needs=(5, 2))
    all_fine = set(range(60)) - {20, 21}
    expected = expected_latents(codec, codes, all_fine, all_fine)
    assert torch.equal(usual.play(kept, 60), expected)
    unusable = set(range(18, 27))
    expected = expected_latents(codec, codes, all_fine, all_fine - unusable)
    assert torch.equal(needy.play(kept, 58), expected[:58])
    assert needy.receiver.statistics.fine_share < 1 == usual.receiver.statistics.fine_share
    # frame by frame as well, where the base behind comes just in time
    live = Listener(codec, profile, concealer=concealer, fine_needs=(5, 2))
    for packet in kept:
        live.receiver.push(packet, 0.0)
        live.receiver.pull(640)
    got = torch.cat(live.playback._latents)
    assert torch.equal(got[:20], expected[:20])
