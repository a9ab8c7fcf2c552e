"""Feeds malformed packets to a receiver between good ones, and compares what is heard with a run without.

    python benchmarks/fuzz_link.py                 # 100 000 packets
    python benchmarks/fuzz_link.py 5000 --seed 3

Malformed are packets that were changed anywhere, packets of another stream, noise, and packets whose
checksum holds but whose blocks are not what an encoder writes. Every one must be counted as corrupt or
foreign, and the frames that are played must be the same as without them. Anything else stops the run.

A tenth as many packets are changed and signed anew, which anyone can do who knows the format: they may be
heard, for they are packets, but each must count once, and what a receiver holds must stay small.
"""

from __future__ import annotations

import argparse
import random
import resource
import struct
import time
import zlib
from collections.abc import Sized
from typing import Any

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
MOST_HELD = 4000  # each of frames, packets and levels at most some ten seconds


class Unheard(DeferredPlayback):
    """As many zeros as there would be samples, and no samples later."""

    def play(self, latents: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
        """Keeps nothing."""
        silence = super().play(latents, gains)
        self._latents.clear()
        self._faded_by.clear()
        return silence


def held(receiver: Receiver) -> int:
    """How many frames, packets and pieces of sound a receiver keeps."""
    log, playout = receiver._log, receiver._playout
    kept: list[Sized] = [receiver._store, receiver._levels_seen, receiver._waiting]
    kept += [receiver._ready, log._keys, log._own, playout._margins, playout._spreads]
    return sum(len(things) for things in kept)


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


def signed(packet: bytes, seed: int, count: int | None = None) -> bytes:
    """Bytes with the checksum of a stream, and its number; with `count` blocks, if given."""
    bad = bytearray(packet)
    if count is not None:
        bad[0] = bad[0] & ~7 | count - 1
    check = zlib.crc32(bytes(bad[HEAD_BYTES:]), zlib.crc32(bytes(bad[:7]), seed))
    bad[7:11] = check.to_bytes(4, "big")
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
    return signed(bytes(bad), seed)


def run_signed(count: int, seed: int) -> dict[str, int]:
    """Feed `count` packets that were changed and signed anew; returns how many were counted as what."""
    codec, coders, codes = _stream(seed)
    rng = random.Random(seed)
    sender = Sender(codec, PROFILE, session=SESSION, **coders)
    packets = sender.push_codes(codes)
    number = struct.pack(">I", sender.identity.number)
    receiver = Receiver(codec, PROFILE, session=SESSION, playback=Unheard(codec), **coders)
    told = receiver.statistics
    kinds = ("received", "late", "duplicate", "corrupt", "foreign", "stray")
    for fed in range(count):
        bad = bytearray(mutated(rng.choice(packets), packets, rng))
        if len(bad) < HEAD_BYTES or rng.random() < 0.2:  # heads of blocks that say anything
            bad = bytearray(packets[0][:7]) + rng.randbytes(rng.randrange(4, 200))
        bad[0] = bad[0] & 0x1F | 0x40  # of this format, and no end
        bad[1:5] = number
        now = receiver.place_seconds
        if now is not None and rng.random() < 0.7:  # else far from what is played, mostly
            frame = int(50 * now) + rng.randrange(-20, 60)
            bad[5:7] = (frame % (1 << 16)).to_bytes(2, "big")
        before = sum(getattr(told, kind) for kind in kinds)
        receiver.push(signed(bytes(bad), sender.identity.seed, rng.randint(1, 8)), 0.0)
        if sum(getattr(told, kind) for kind in kinds) != before + 1:
            raise RuntimeError(f"A packet was counted not once: {bad.hex()}")
        if fed % 3 == 0:
            receiver.pull(HOP)
        if (number_held := held(receiver)) > MOST_HELD:
            raise RuntimeError(
                f"After {fed} packets of seed {seed}, {number_held} things are held."
            )
    return {kind: getattr(told, kind) for kind in kinds} | {"restarts": told.restarts}


def _stream(seed: int) -> tuple[CodecModel, dict[str, Any], torch.Tensor]:
    """A codec, coders, and codes that they make shorter."""
    torch.manual_seed(0)
    codec = CodecModel(CodecConfig(**TINY)).eval()  # type: ignore[arg-type]
    draw = torch.Generator().manual_seed(seed)
    steps = torch.randint(-1, 2, (6, 400), generator=draw)
    codes = steps.cumsum(1) % SIZE
    table = learn_static_table([codes.numpy()] * 10, codec.identity, 8)
    base_coder = SymbolBlockCoder(StaticTableModel(table, 3))
    return codec, {"base_coder": base_coder, "fine_coder": StaticFineCoder(table, 3)}, codes


def run(count: int, seed: int) -> dict[str, int]:
    """Feed `count` malformed packets; returns how many were counted as what."""
    codec, coders, codes = _stream(seed)
    rng = random.Random(seed)
    sender = Sender(codec, PROFILE, session=SESSION, **coders)
    packets = sender.push_codes(codes)
    other = Sender(codec, PROFILE, session=SESSION + 1, **coders)
    strangers = other.push_codes(codes)

    def receiver() -> tuple[Receiver, DeferredPlayback]:
        playback = DeferredPlayback(codec)
        made = Receiver(codec, PROFILE, session=SESSION, playback=playback, **coders)
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
    again = run_signed(options.count // 10, options.seed)
    print(f"{options.count // 10} signed: " + ", ".join(f"{n} {name}" for name, n in again.items()))
    print(
        f"what was heard stayed the same; memory grew by {grown:.0f} MiB (codec and tables included)"
    )


if __name__ == "__main__":
    main()
