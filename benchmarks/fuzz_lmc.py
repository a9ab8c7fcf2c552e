"""Feeds damaged and made-up `.lmc` streams to the reader, and counts how they end.

    python benchmarks/fuzz_lmc.py                      # 100 000 streams, to codes
    python benchmarks/fuzz_lmc.py 10000 --sound        # to samples, with a tiny codec

Every stream must end in a clean error of speechlm's own, or in codes with the damage told, and give no more
than the reader's cap. Anything else stops the run with a message that repeats it.
"""

from __future__ import annotations

import argparse
import collections
import random
import resource
import time
import zlib

import numpy as np
import torch

import speechlm
from speechlm.errors import SpeechLMError
from speechlm.tokenizer.codec import CodecModel
from speechlm.tokenizer.codes import CodecIdentity
from speechlm.tokenizer.config import CodecConfig
from speechlm.transmission.codes_stream import CodesReader, CodesWriter
from speechlm.transmission.container_reader import MAX_CHUNKS_UNSEEN
from speechlm.transmission.decompressor import Decompressor
from speechlm.transmission.static_learning import learn_static_table
from speechlm.transmission.static_table import StaticTableModel
from speechlm.transmission.symbol_model import SymbolModel, UniformModel

BOOKS, SIZE, CHUNK_FRAMES = 3, 16, 10
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


def seeds_of_streams(codec: CodecIdentity) -> list[tuple[bytes, SymbolModel]]:
    """Whole streams to damage, with their models."""
    rng = np.random.default_rng(0)

    def walk(frames: int) -> np.ndarray:
        return np.cumsum(rng.choice([-1, 0, 0, 0, 1, 5], (BOOKS, frames)), 1) % SIZE

    table = StaticTableModel(learn_static_table([walk(200) for _ in range(20)], codec, 8))
    streams: list[tuple[bytes, SymbolModel]] = []
    for model in (table, UniformModel(BOOKS, SIZE)):
        for frames, announced in ((0, 0), (7, 0), (95, 95 * 320 - 1), (400, 0)):
            writer = CodesWriter(
                codec, model, chunk_frames=CHUNK_FRAMES, num_samples=announced, verifies=False
            )
            data = writer.push(torch.from_numpy(walk(frames)))
            streams.append((data + writer.finish(announced or frames * 320), model))
    return streams


def damaged(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """A stream with one to four things wrong with it, or bytes that never were one."""
    kind = rng.random()
    if kind < 0.05:
        return rng.randbytes(rng.randrange(400))
    bad = bytearray(data)
    if kind < 0.15:  # a header whose checksum holds
        place = rng.randrange(4, 45)
        bad[place] = rng.randrange(256)
        end = min(45 + bad[44], len(bad) - 4)
        bad[end : end + 4] = zlib.crc32(bad[:end]).to_bytes(4, "little")
        return bytes(bad)
    for _ in range(rng.randint(1, 4)):
        # mostly behind the header, without which nothing more happens
        lowest = min(len(bad), 0 if rng.random() < 0.1 else 49 + data[44])
        start = rng.randint(lowest, len(bad))
        stop = min(len(bad), start + rng.choice([1, 2, 4, 30, 200]))
        change = rng.randrange(8)
        if change == 0:
            bad[start:stop] = rng.randbytes(stop - start)
        elif change == 1:
            del bad[start:stop]
        elif change == 2:
            bad[start:start] = rng.randbytes(rng.choice([1, 8, 300]))
        elif change == 3:
            bad[start:stop] = bytes(stop - start)
        elif change == 4:
            bad[start:start] = bad[start:stop]
        elif change == 5:
            del bad[start:]
        elif change == 6:
            other = rng.choice(others)
            place = rng.randrange(len(other))
            bad[start:stop] = other[place : place + rng.choice([8, 40, 400])]
        elif start < len(bad):
            bad[start] ^= 1 << rng.randrange(8)
    return bytes(bad)


def forged(data: bytes, rng: random.Random) -> bytes:
    """A stream whose checksums all hold, but whose chunks do not say what an encoder says."""
    size = 45 + data[44] + 4
    seed = int.from_bytes(data[size - 4 : size], "little")
    out = bytearray(data[:size])
    for _ in range(rng.randint(1, 6)):
        body = rng.randbytes(rng.choice([0, 1, 4, 5, 15, 19, 30]))
        kind = rng.choice([0, 1 << 13, 1 << 14, 3 << 13]) | len(body)
        head = rng.choice([rng.randrange(8), rng.randrange(1 << 16)]).to_bytes(2, "little")
        head += kind.to_bytes(2, "little")
        out += head + zlib.crc32(body, zlib.crc32(head, seed)).to_bytes(4, "little") + body
    if rng.random() < 0.5:
        count = rng.choice([rng.randrange(9), rng.randrange(1 << 21)])
        packed = b"END\xff" + count.to_bytes(4, "little")
        packed += rng.choice([count * 3200, rng.getrandbits(64)]).to_bytes(8, "little")
        packed += rng.randbytes(2 * min(count, 9))
        out += packed + zlib.crc32(packed, seed).to_bytes(4, "little")
        out += (len(packed) + 8).to_bytes(4, "little")
    return bytes(out)


def check(data: bytes, model: SymbolModel, codec: CodecModel | None, rng: random.Random) -> str:
    """Read one stream; returns how it ended, raises if it must not end so."""
    reader: CodesReader | Decompressor
    reader = CodesReader(model) if codec is None else Decompressor(codec, model)
    cut = rng.choice([1 << 30, 97])
    num_frames = 0.0
    try:
        for start in range(0, len(data), cut):
            got = reader.push(data[start : start + cut])
            num_frames += _frames(got)
        num_frames += _frames(
            reader.finish() if isinstance(reader, CodesReader) else reader.flush()
        )
    except SpeechLMError as error:
        return type(error).__name__
    header = reader.header
    if header is None:
        raise RuntimeError("A stream without a header was read.")
    limit = (MAX_CHUNKS_UNSEEN + len(data) // 8) * header.chunk_frames
    if num_frames > limit:
        raise RuntimeError(f"{len(data)} bytes gave {num_frames:.1f} frames, the limit is {limit}.")
    if any(not damage.reason for damage in reader.damages):
        raise RuntimeError("A damage has no name.")
    return "damage told" if reader.damages else "whole"


def _frames(got: object) -> float:
    """Frames of codes, or of samples, none of which may be impossible."""
    if isinstance(got, torch.Tensor):
        if not bool(got.isfinite().all()):
            raise RuntimeError("Samples are not finite.")
        return len(got) / 320
    pieces = got if isinstance(got, list) else []
    for piece in pieces:
        if piece.codes.numel() and not 0 <= int(piece.codes.min()) <= int(piece.codes.max()) < SIZE:
            raise RuntimeError("A code is out of range.")
    return sum(piece.codes.shape[1] for piece in pieces)


def run(count: int, seed: int, with_sound: bool = False) -> dict[str, int]:
    """Read `count` streams; returns how many ended how."""
    torch.manual_seed(0)
    codec = CodecModel(CodecConfig(**TINY)).eval()  # type: ignore[arg-type]
    streams = seeds_of_streams(codec.identity)
    others = [data for data, _ in streams]
    ends: collections.Counter[str] = collections.Counter()
    for number in range(count):
        rng = random.Random(seed * 1_000_003 + number)
        data, model = rng.choice(streams)
        bad = forged(data, rng) if rng.random() < 0.2 else damaged(data, others, rng)
        try:
            ends[check(bad, model, codec if with_sound else None, rng)] += 1
        except Exception as error:
            raise RuntimeError(f"Stream {number} of seed {seed}: {bad.hex()}") from error
    return dict(ends)


def main() -> None:
    """Run by hand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("count", nargs="?", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sound", action="store_true", help="decode to samples, with a tiny codec")
    options = parser.parse_args()
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ends = run(options.count, options.seed, options.sound)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"{options.count} streams in {time.monotonic() - start:.0f} s, speechlm {speechlm.__version__}"
    )
    for name, number in sorted(ends.items()):
        print(f"{number:8d}  {name}")
    print(f"memory grew by {grown:.0f} MiB (the tiny codec and tables included)")


if __name__ == "__main__":
    main()
