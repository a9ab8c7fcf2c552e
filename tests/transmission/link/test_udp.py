"""The link over a real socket."""

from __future__ import annotations

import errno
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from speechlm.errors import ConfigError, UnsupportedAudio
from speechlm.tokenizer.codec import CodecModel
from speechlm.transmission.link.channel import Channel, ChannelFaults
from speechlm.transmission.link.loss import parse_loss
from speechlm.transmission.link.profile import PROFILES
from speechlm.transmission.link.receiver import Receiver
from speechlm.transmission.link.recording import GrowingRecording, LinkLog
from speechlm.transmission.link.reports import Adaptation, ReceiverReport
from speechlm.transmission.link.rtp import RtpPacket, RtpStream, pack_goodbye, pack_report
from speechlm.transmission.link.sender import Sender
from speechlm.transmission.link.udp import StreamPlayer, open_socket, parse_address, send_stream


def test_a_stream_comes_through_a_socket(codec: CodecModel, signal: torch.Tensor) -> None:
    """Loss, reordering, duplicates and strangers' bytes on loopback; reports come back; it ends by itself."""
    signal = signal.repeat(3)
    receiver = Receiver(codec)
    sender = Sender(codec)
    reports, heard = [], []
    with open_socket("127.0.0.1", 0) as link, open_socket("127.0.0.1", 0) as source:
        player = StreamPlayer(receiver, link, speed=2)
        target = link.getsockname()
        thread = threading.Thread(target=player.run, args=(heard.append,), daemon=True)
        thread.start()
        source.sendto(b"noise", target)
        source.sendto(RtpPacket(b"payload", 1, 2, 3).pack(), target)
        source.sendto(pack_goodbye(3), target)
        send_stream(
            sender,
            signal.split(160),
            source,
            target,
            channel=Channel(parse_loss("0.1", 1), ChannelFaults(0.01, 0.1, 0.03, 0.2), 1),
            adaptation=Adaptation(num_levels=3),
            speed=2,
            on_report=lambda seconds, report: reports.append(report),
        )
        thread.join(30)
    assert not thread.is_alive()
    told = receiver.statistics
    assert player.num_malformed == 1 and told.corrupt == 1 and told.foreign == 0
    total = told.received + told.late + told.lost
    assert total == pytest.approx(sender.statistics.num_packets, abs=3)
    assert told.duplicate > 0 and told.lost + told.late > 0
    assert reports and all(0 <= report.fraction_lost <= 1 for report in reports)
    samples = torch.cat(heard)
    assert len(samples) > len(signal) and samples.any()
    assert player.sample_0_heard_at is not None


def test_a_player_without_a_stream_gives_up(codec: CodecModel) -> None:
    heard: list[torch.Tensor] = []
    with open_socket("127.0.0.1", 0) as link:
        StreamPlayer(Receiver(codec), link).run(heard.append, wait_seconds=0.05)
    assert heard == []


def test_a_stream_that_breaks_off_ends(codec: CodecModel, signal: torch.Tensor) -> None:
    sender, receiver = Sender(codec), Receiver(codec)
    heard: list[torch.Tensor] = []
    with open_socket("127.0.0.1", 0) as link, open_socket("127.0.0.1", 0) as source:
        stream = RtpStream(sender.identity.number, 320)
        for packet in sender.push(signal):
            source.sendto(stream.pack(packet), link.getsockname())
        StreamPlayer(receiver, link, speed=4).run(heard.append, idle_seconds=0.4)
    assert receiver.statistics.received > 10 and torch.cat(heard).any()


def test_who_plays_packets_back_neither_ends_nor_prolongs_a_stream(
    codec: CodecModel, signal: torch.Tensor
) -> None:
    sender, receiver, heard = Sender(codec), Receiver(codec), []
    with (
        open_socket("127.0.0.1", 0) as link,
        open_socket("127.0.0.1", 0) as source,
        open_socket("127.0.0.1", 0) as stranger,
    ):
        stream, target = RtpStream(sender.identity.number, 320), link.getsockname()
        packets = [stream.pack(packet) for packet in sender.push(signal)]
        for packet in packets:
            source.sendto(packet, target)
        stranger.sendto(pack_goodbye(sender.identity.number), target)

        def play(samples: torch.Tensor) -> None:
            heard.append(samples)
            stranger.sendto(packets[len(heard) % len(packets)], target)

        StreamPlayer(receiver, link, speed=2).run(play, idle_seconds=0.5)
        with pytest.raises(BlockingIOError):  # no report for who only plays back
            stranger.recv(2048)
        assert source.recv(2048)
    assert receiver.statistics.duplicate > 50
    assert 0.9 < len(torch.cat(heard)) / 16_000 < 1.6


def test_a_sender_hears_only_its_receiver(codec: CodecModel, signal: torch.Tensor) -> None:
    sender, reports = Sender(codec), []
    with (
        open_socket("127.0.0.1", 0) as link,
        open_socket("127.0.0.1", 0) as source,
        open_socket("127.0.0.1", 0) as stranger,
    ):

        def blocks() -> Iterator[torch.Tensor]:
            for place, block in enumerate(signal.split(1600)):
                if place:
                    lossy = ReceiverReport(place / 20, 9, 0.0)
                    told = pack_report(lossy, 1, sender.identity.number, 0, 16_000)
                    (link if place == 5 else stranger).sendto(told, source.getsockname())
                yield block

        target = link.getsockname()
        send_stream(
            sender, blocks(), source, target, speed=5, on_report=lambda _, r: reports.append(r)
        )
    assert [report.fraction_lost for report in reports] == [0.25]


def test_a_sender_that_cannot_keep_up_says_by_how_much(
    codec: CodecModel, signal: torch.Tensor
) -> None:
    def blocks() -> Iterator[torch.Tensor]:
        for place, block in enumerate(signal.split(1600)):
            if place == 5:
                time.sleep(0.3)
            yield block

    with open_socket("127.0.0.1", 0) as link, open_socket("127.0.0.1", 0) as source:
        target, began = link.getsockname(), time.monotonic()
        sending = send_stream(Sender(codec), blocks(), source, target, speed=2)
    # 0.3 s in which a fast clock told 0.6, less the block of 0.1 that the sleep was part of
    assert 0.5 < sending.most_behind < 2 * (time.monotonic() - began)
    assert began <= sending.clock.start


def test_a_network_that_is_away_loses_packets_and_stops_nothing(
    codec: CodecModel, signal: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unreachable(socket.socket):
        def send(self, *_: object) -> int:  # type: ignore[override]
            raise OSError(errno.ENETUNREACH, "Network is unreachable")

    sender = Sender(codec)
    with Unreachable(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.setblocking(False)
        send_stream(sender, signal.split(1600), link, ("127.0.0.1", 9), speed=20)
    assert sender.statistics.num_frames == 51


@pytest.mark.parametrize("text", ["", "5004", "host:", ":5004", "host:99999", "host:-1", "host:x"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        parse_address(text)


def test_addresses() -> None:
    assert parse_address("127.0.0.1:5004") == ("127.0.0.1", 5004)
    assert parse_address("[::1]:80") == ("::1", 80)


def test_a_recording_grows_and_is_whole_or_not_there(tmp_path: Path) -> None:
    import soundfile

    out = tmp_path / "heard.wav"
    with GrowingRecording(out, 16_000) as recording:
        for _ in range(5):
            recording.write(torch.full((100,), 0.5))
        assert not out.exists()
    assert soundfile.info(out).frames == recording.num_samples == 500
    with pytest.raises(RuntimeError), GrowingRecording(tmp_path / "other.wav", 16_000):
        raise RuntimeError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heard.wav"]
    with pytest.raises(UnsupportedAudio):
        GrowingRecording(tmp_path / "heard.mp3", 16_000)
    with pytest.raises(UnsupportedAudio):
        GrowingRecording(tmp_path / "nowhere" / "heard.wav", 16_000)


def test_a_log_is_lines_of_json(tmp_path: Path, codec: CodecModel) -> None:
    receiver = Receiver(codec)
    with LinkLog(tmp_path / "log.jsonl") as log:
        log.write(seconds=1.0, statistics=receiver.statistics, profile=PROFILES["default"])
        log.write(seconds=2.0)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[0]["statistics"]["received"] == 0 and lines[0]["profile"]["chunk_frames"] == 2
    assert "memory_mib" in lines[1]
    with LinkLog(None) as silent:
        silent.write(seconds=1.0)
