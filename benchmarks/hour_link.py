"""An hour of speech over a link with loss, reordering and duplicates: memory, drift, and what became of it.

    python benchmarks/hour_link.py                       # the shipped codec, an hour of the signal
    python benchmarks/hour_link.py --tiny --minutes 60   # a tiny codec: the same packets and frames, faster
    python benchmarks/hour_link.py --audio some.wav --ppm 100

Time is the signal's, so that the hour takes as long as the computing. Prints a line for every minutes of ten.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from speechlm.tokenizer.audio import read_audio
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
            played = (receiver.next_frame or 0) * block - receiver.num_ready
            rows.append(
                {
                    "minutes": (number + 1) / 3000,
                    "memory_mib": memory_mib() or 0.0,
                    "behind_ms": round(1000 * (now - played / rate), 1),
                    "processor_seconds": round(time.process_time() - begin, 1),
                    **told.to_dict(),
                }
            )
    return rows


def main() -> None:
    """Run by hand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=10.0)
    parser.add_argument("--audio", type=Path, help="speech to send over and over; else noise")
    parser.add_argument("--tiny", action="store_true", help="with an untrained tiny codec")
    parser.add_argument("--loss", default="0.1")
    parser.add_argument("--profile", default="default")
    parser.add_argument("--ppm", type=float, default=0.0, help="the receiver's clock is too fast")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
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
