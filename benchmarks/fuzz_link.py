"""Feeds malformed packets to a receiver between good ones, and compares what is heard with a run without.

    python benchmarks/fuzz_link.py                 # 100 000 packets
    python benchmarks/fuzz_link.py 5000 --seed 3

Malformed are packets that were changed anywhere, packets of another stream, noise, and packets whose
checksum holds but whose blocks are not what an encoder writes. Every one must be counted as corrupt or
foreign, and the frames that are played must be the same as without them. Anything else stops the run.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
import zlib

import torch

import speechlm
from speechlm.tokenizer.codec import CodecModel
from speechlm.tokenizer.config import CodecConfig
from speechlm.transmission.link.coders import StaticFineCoder, SymbolBlockCoder
from speechlm.transmission.link.packet import HEAD_BYTES
from speechlm.transmission.link.playback import DeferredPlayback
from speechlm.transmission.link.profile import PROFILES
from speechlm.transmission.link.receiver import Receiver
from speechlm.transmission.link.sender import Sender
from speechlm.transmission.static_learning import learn_static_table
from speechlm.transmission.static_table import StaticTableModel

SIZE, HOP, SESSION = 16, 320, 7
TINY = {
    "codebook_size": SIZE,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "head_layers": 1,
    "encoder_width": 16,
    "decoder_width": 16,
    "head_width": 16,
    "latent_size": 12,
}
PROFILE = PROFILES["redundant-10"]


def mutated(packet: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """A packet with one to three things wrong with it, or bytes that never were one."""
    if rng.random() < 0.05:
        return rng.randbytes(rng.randrange(300))
    bad = bytearray(packet)
    for _ in range(rng.randint(1, 3)):
        start = rng.randint(0, len(bad))
        stop = min(len(bad), start + rng.choice([1, 2, 4, 20]))
        change = rng.randrange(7)
        if change == 0:
            bad[start:stop] = rng.randbytes(stop - start)
        elif change == 1:
            del bad[start:stop]
        elif change == 2:
            bad[start:start] = rng.randbytes(rng.choice([1, 8, 1300]))
        elif change == 3:
            bad[start:start] = bad[start:stop]
        elif change == 4:
            del bad[start:]
        elif change == 5:
            other = rng.choice(others)
            bad[start:] = other[start:]
        elif start < len(bad):
            bad[start] ^= 1 << rng.randrange(8)
    return bytes(bad)


def forged(packet: bytes, seed: int, rng: random.Random) -> bytes:
    """A packet whose checksum holds, but whose blocks are noise that no encoder writes.

    Lengths are kept: a block as long as its codes as they are would be these codes, and not malformed.
    """
    bad = bytearray(packet)
    kind = rng.randrange(3)
    if kind == 0:  # more blocks than there are
        bad[0] = bad[0] & ~7 | 7
    elif kind == 1:  # a level too many
        last_head = HEAD_BYTES + 3 * (bad[0] & 7)
        bad[last_head] = 0xF0 | bad[last_head] & 15
    else:  # longer than any code
        bad += rng.randbytes(120)
    check = zlib.crc32(bytes(bad[HEAD_BYTES:]), zlib.crc32(bytes(bad[:7]), seed))
    bad[7:11] = check.to_bytes(4, "big")
    return bytes(bad)


def run(count: int, seed: int) -> dict[str, int]:
    """Feed `count` malformed packets; returns how many were counted as what."""
    torch.manual_seed(0)
    codec = CodecModel(CodecConfig(**TINY)).eval()  # type: ignore[arg-type]
    rng = random.Random(seed)
    draw = torch.Generator().manual_seed(seed)
    steps = torch.randint(-1, 2, (6, 400), generator=draw)
    codes = steps.cumsum(1) % SIZE
    table = learn_static_table([codes.numpy()] * 10, codec.identity, 8)
    coders = {
        "base_coder": SymbolBlockCoder(StaticTableModel(table, 3)),
        "fine_coder": StaticFineCoder(table, 3),
    }
    sender = Sender(codec, PROFILE, session=SESSION, **coders)  # type: ignore[arg-type]
    packets = sender.push_codes(codes)
    other = Sender(codec, PROFILE, session=SESSION + 1, **coders)  # type: ignore[arg-type]
    strangers = other.push_codes(codes)

    def receiver() -> tuple[Receiver, DeferredPlayback]:
        playback = DeferredPlayback(codec)
        made = Receiver(codec, PROFILE, session=SESSION, playback=playback, **coders)  # type: ignore[arg-type]
        return made, playback

    fed = 0
    totals = {"corrupt": 0, "foreign": 0}
    while fed < count:
        (plain, clean), (tried, heard) = receiver(), receiver()
        before = fed
        for packet in packets:
            share = min(rng.randint(1, 100), count - fed)
            for _ in range(share):
                draw_kind = rng.random()
                if draw_kind < 0.8:
                    bad = mutated(packet, packets, rng)
                elif draw_kind < 0.9:
                    bad = forged(packet, sender.identity.seed, rng)
                else:
                    bad = rng.choice(strangers)
                if bad in packets:  # a change that undid itself
                    continue
                told = tried.statistics
                counted = told.corrupt + told.foreign
                tried.push(bad, 0.0)
                if told.corrupt + told.foreign != counted + 1:
                    raise RuntimeError(f"A malformed packet was taken in: {bad.hex()}")
                fed += 1
            plain.push(packet, 0.0)
            tried.push(packet, 0.0)
            plain.pull(2 * HOP)
            tried.pull(2 * HOP)
        if not torch.equal(torch.cat(clean._latents), torch.cat(heard._latents)):
            raise RuntimeError(f"Malformed packets {before} to {fed} of seed {seed} were heard.")
        told = tried.statistics
        totals["corrupt"] += told.corrupt
        totals["foreign"] += told.foreign
        told.corrupt = told.foreign = 0
        if told != plain.statistics:
            raise RuntimeError(f"Malformed packets {before} to {fed} of seed {seed} were counted.")
    return totals


def main() -> None:
    """Run by hand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("count", nargs="?", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ends = run(options.count, options.seed)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    seconds = time.monotonic() - start
    print(f"{options.count} packets in {seconds:.0f} s, speechlm {speechlm.__version__}")
    for name, number in sorted(ends.items()):
        print(f"{number:8d}  {name}")
    print(
        f"what was heard stayed the same; memory grew by {grown:.0f} MiB (codec and tables included)"
    )


if __name__ == "__main__":
    main()
