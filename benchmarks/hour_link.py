"""An hour of speech over a link with loss, reordering and duplicates: memory, drift, and what became of it.

    python benchmarks/hour_link.py --udp some.wav        # two processes, real time, UDP over loopback
    python benchmarks/hour_link.py --udp some.wav --tiny --ppm 100    # the same packets, little computing
    python benchmarks/hour_link.py                       # one process without sockets, as fast as it computes
    python benchmarks/hour_link.py --tiny --audio some.wav

Prints a line for every ten minutes. With `--udp`, `--logs` keeps what `send` and `receive` wrote.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from bisect import bisect
from pathlib import Path
from typing import Any

import numpy as np
import torch

from speechlm.tokenizer.audio import inspect_audio, read_audio
from speechlm.tokenizer.codec import CodecModel, load_codec
from speechlm.tokenizer.config import CodecConfig
from speechlm.transmission.link.channel import Channel, ChannelFaults
from speechlm.transmission.link.loss import parse_loss
from speechlm.transmission.link.models import load_concealer
from speechlm.transmission.link.profile import load_profile
from speechlm.transmission.link.receiver import Receiver
from speechlm.transmission.link.recording import memory_mib
from speechlm.transmission.link.sender import Sender

TINY = {
    "encoder_layers": 1,
    "decoder_layers": 1,
    "head_layers": 1,
    "encoder_width": 16,
    "decoder_width": 16,
    "head_width": 16,
}
FAULTS = ChannelFaults(jitter_seconds=0.015, reordered=0.05, reorder_seconds=0.05, duplicated=0.05)


def tiny_codec() -> CodecModel:
    """An untrained codec of the shipped one's frames and books."""
    torch.manual_seed(0)
    return CodecModel(CodecConfig(**TINY)).eval()  # type: ignore[arg-type]


def run(
    codec: CodecModel,
    waveform: torch.Tensor,
    minutes: float,
    *,
    loss: str = "0.1",
    ppm: float = 0.0,
    seed: int = 0,
    profile: str = "default",
    every: float = 10.0,
) -> list[dict[str, float]]:
    """Send a waveform over and over; returns a row for every `every` minutes.

    Args:
        codec: The codec.
        waveform: float `[L]`, whole blocks of it are used.
        minutes: How long.
        loss: As `parse_loss` reads it.
        ppm: By how much the receiver's clock is too fast.
        seed: Of loss and faults.
        profile: As `load_profile` reads it.
        every: Minutes of a row.
    """
    rate, block = codec.config.sampling_rate, codec.config.sampling_rate // 50
    chosen = load_profile(profile)
    sender = Sender(codec, chosen, session=1)
    receiver = Receiver(codec, chosen, concealer=load_concealer("model", codec))
    channel = Channel(parse_loss(loss, seed), FAULTS, seed)
    blocks = waveform[: len(waveform) // block * block].split(block)
    num_pulled, rows = 0, []
    begin = time.process_time()
    for number in range(int(minutes * 3000)):
        now = (number + 1) * block / rate
        for packet in sender.push(blocks[number % len(blocks)]):
            channel.send(packet, now)
        local = now * (1 + ppm * 1e-6)
        for arrival, packet in channel.receive(now):
            receiver.push(packet, arrival * (1 + ppm * 1e-6))
        while num_pulled / rate <= local:
            receiver.pull(block, num_pulled / rate)
            num_pulled += block
        if (number + 1) % int(every * 3000) == 0:
            told = receiver.statistics
            # by how much playout is behind the sender, which drift would change
            played = receiver.place_seconds or 0.0
            rows.append(
                {
                    "minutes": (number + 1) / 3000,
                    "memory_mib": memory_mib() or 0.0,
                    "behind_ms": round(1000 * (now - played), 1),
                    "processor_seconds": round(time.process_time() - begin, 1),
                    **told.to_dict(),
                }
            )
    return rows


def run_udp(audio: Path, seconds: float, logs: Path, options: argparse.Namespace) -> None:
    """Let `speechlm receive` and `speechlm send` talk in real time; they write logs into a folder."""
    made = ["--profile", options.profile, "--speed", str(options.speed)]
    if options.tiny:
        tiny_codec().save_pretrained(logs / "codec")
        made += ["--codec", str(logs / "codec")]
    command = [sys.executable, "-m", "speechlm"]
    listen = ["receive", str(logs / "heard.wav"), "--log", str(logs / "receive.jsonl")]
    listen += ["--wait", "600"]  # machines may be busy
    with subprocess.Popen(  # noqa: S603 - our own commands
        [*command, *listen, "--clock-ppm", str(options.ppm), *made],
        stdout=subprocess.PIPE,
        text=True,
    ) as receiver:
        port = next(iter(receiver.stdout or [])).split()[-1]
        faults = ["--jitter", str(FAULTS.jitter_seconds), "--reorder", str(FAULTS.reordered)]
        faults += ["--duplicate", str(FAULTS.duplicated), "--loss", options.loss]
        repeat = ["--repeat", str(max(1, round(60 * options.minutes / seconds)))]
        talk = ["send", str(audio), f"127.0.0.1:{port}", "--log", str(logs / "send.jsonl")]
        subprocess.run(  # noqa: S603
            [*command, *talk, *repeat, *faults, "--seed", str(options.seed), *made], check=True
        )
        print(receiver.communicate()[0].strip())


def rows_of_logs(logs: Path, every: float) -> list[dict[str, Any]]:
    """A row for every `every` minutes of the logs that `run_udp` left."""
    heard, sent = (
        [json.loads(line) for line in (logs / name).read_text().splitlines()]
        for name in ("receive.jsonl", "send.jsonl")
    )
    heard = [line for line in heard if "seconds" in line]
    sent = [line for line in sent if "seconds" in line]
    times, places = ([line[name] for line in sent] for name in ("at", "place_seconds"))
    rows, count = [], 0
    for place, line in enumerate(heard):
        is_end = place == len(heard) - 1
        if line["seconds"] < 60 * every * (count + 1) and place and not is_end:
            continue
        count += place > 0
        # what a loaded machine holds up at both ends alike is no drift
        spoken = float(np.interp(line["at"], times, places))
        rows.append(
            {
                "minutes": round(line["seconds"] / 60, 2),
                "receiver_mib": line["memory_mib"],
                "sender_mib": sent[bisect(times, line["at"]) - 1]["memory_mib"],
                "behind_ms": round(1000 * (spoken - line["place_seconds"])),
                **line["statistics"],
            }
        )
    return rows


def main() -> None:
    """Run by hand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=10.0)
    parser.add_argument("--udp", type=Path, metavar="AUDIO", help="by two processes, in real time")
    parser.add_argument("--speed", type=float, default=1.0, help="with --udp: times real time")
    parser.add_argument(
        "--logs", type=Path, help="with --udp: a folder for both logs and the sound"
    )
    parser.add_argument("--audio", type=Path, help="speech to send over and over; else noise")
    parser.add_argument("--tiny", action="store_true", help="with an untrained tiny codec")
    parser.add_argument("--loss", default="0.1")
    parser.add_argument("--profile", default="default")
    parser.add_argument("--ppm", type=float, default=0.0, help="the receiver's clock is too fast")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.udp is not None:
        seconds = inspect_audio(options.udp).seconds
        with tempfile.TemporaryDirectory() as temporary:
            logs = Path(temporary) if options.logs is None else options.logs
            logs.mkdir(parents=True, exist_ok=True)
            run_udp(options.udp, seconds, logs, options)
            for row in rows_of_logs(logs, options.every):
                print(json.dumps(row))
        return
    codec = tiny_codec() if options.tiny else load_codec()
    rate = codec.config.sampling_rate
    draw = torch.Generator().manual_seed(0)
    waveform = 0.1 * torch.randn(20 * rate, generator=draw)
    if options.audio is not None:
        waveform = read_audio(options.audio, rate)
    rows = run(
        codec,
        waveform,
        options.minutes,
        loss=options.loss,
        ppm=options.ppm,
        seed=options.seed,
        profile=options.profile,
        every=options.every,
    )
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
