"""Processor time of sender and receiver on one thread, as shares of the speech that goes through them.

    python benchmarks/link.py some.wav --json build/link-speed.json
    python benchmarks/link.py some.wav --quick        # one round, ten seconds of speech

Both ends work as in a call: 20 ms of samples into the sender, its packets into the receiver unless
lost, 20 ms out of the receiver. Below 1, one core keeps up with both ends. Rounds of all cases take
turns, the best of each is shown.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from speechlm.tokenizer.audio import read_audio
from speechlm.tokenizer.codec import CodecModel, load_codec
from speechlm.transmission.link.loss import parse_loss
from speechlm.transmission.link.models import load_concealer
from speechlm.transmission.link.profile import PROFILES, LinkProfile
from speechlm.transmission.link.receiver import Receiver
from speechlm.transmission.link.sender import Sender

CASES = [  # profile, fine levels, loss
    ("default", 3, "0"),
    ("default", 3, "0.1"),
    ("default", 3, "0.3"),
    ("redundant-30", 3, "0.3"),
    ("low-delay", 3, "0"),
    ("low-delay", 3, "0.1"),
    ("low-delay", 3, "0.3"),
    ("default", 2, "0"),  # the third level is guessed in every frame
]


def measure(
    codec: CodecModel, waveform: torch.Tensor, profile: LinkProfile, levels: int, loss: str
) -> dict[str, float]:
    """Shares of real time of one round, `sender` and `receiver`, and the longest turn, `slowest_ms`."""
    rate, block = codec.config.sampling_rate, codec.config.sampling_rate // 50
    sender = Sender(codec, profile.changed(fine_levels=levels), session=1)
    receiver = Receiver(codec, profile, concealer=load_concealer("model", codec))
    network = parse_loss(loss, 1)
    spent, slowest = [0.0, 0.0], 0.0
    for number, samples in enumerate(waveform.split(block)):
        now = number * block / rate
        begin = time.process_time()
        packets = sender.push(samples)
        sent = time.process_time()
        for packet in packets:
            if not network.is_lost(now):
                receiver.push(packet, now)
        receiver.pull(block, now)
        heard = time.process_time()
        spent = [spent[0] + sent - begin, spent[1] + heard - sent]
        slowest = max(slowest, 1000 * (heard - sent))
    seconds = len(waveform) / rate
    return {"sender": spent[0] / seconds, "receiver": spent[1] / seconds, "slowest_ms": slowest}


def main() -> None:
    """Run by hand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("audio", type=Path, help="a recording of some seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="of the recording, at most")
    parser.add_argument("--quick", action="store_true", help="one round of ten seconds")
    parser.add_argument("--json", type=Path, help="where the rows go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rounds, seconds = (1, 10.0) if options.quick else (options.rounds, options.seconds)
    codec = load_codec()
    rate = codec.config.sampling_rate
    waveform = read_audio(options.audio, rate)[: int(seconds * rate)]
    found: list[list[dict[str, float]]] = [[] for _ in CASES]
    for _ in range(rounds):
        for rows, (name, levels, loss) in zip(found, CASES, strict=True):
            rows.append(measure(codec, waveform, PROFILES[name], levels, loss))
    best: list[dict[str, object]] = []
    for (name, levels, loss), rows in zip(CASES, found, strict=True):
        row = min(rows, key=lambda row: row["sender"] + row["receiver"])
        total = row["sender"] + row["receiver"]
        best.append({"profile": name, "fine_levels": levels, "loss": loss, "both": total, **row})
        print(
            f"{name:14} {levels} fine levels, loss {loss:4}: sender {row['sender']:.2f}, "
            f"receiver {row['receiver']:.2f}, both {total:.2f}; slowest turn {row['slowest_ms']:.0f} ms"
        )
    if options.json is not None:
        options.json.write_text(json.dumps({"rows": best, "seconds": seconds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
