"""What `.lmc` streams cost by length of their chunks: -log2 p of their codes, bytes of these, all bytes.

    python benchmarks/lmc_rate.py MANIFEST --json build/lmc-rate.json
    python benchmarks/lmc_rate.py MANIFEST --frames 50 --coders static

MANIFEST is what `prepare` writes, or lines with `audio`; rows of the split `valid` count where there are
splits. Base books of the shipped codec, each file a stream of its own, behind the coders that ship.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechlm.tokenizer.audio import read_audio
from speechlm.tokenizer.codec import CodecModel, load_codec
from speechlm.transmission.codes_stream import CodesReader, CodesWriter
from speechlm.transmission.container import Chunk
from speechlm.transmission.container_reader import ContainerReader
from speechlm.transmission.models import WEIGHTS, load_entropy_model
from speechlm.transmission.symbol_model import TOTAL_BITS, SymbolModel, UniformModel

CODERS = ("raw", "static", "entropy")


class Counted:
    """A symbol model that adds up -log2 of how likely the codes were that it was told.

    Attributes:
        bits: The sum.
    """

    def __init__(self, model: SymbolModel) -> None:
        self._model, self.bits = model, 0.0
        self.num_books, self.codebook_size = model.num_books, model.codebook_size
        self.numeric_profile, self.fingerprint = model.numeric_profile, model.fingerprint
        self._table = np.zeros(0, dtype=np.int64)

    def start(self) -> Any:
        """As the model's."""
        return self._model.start()

    def frequencies(self, state: Any) -> NDArray[np.int64]:
        """As the model's."""
        self._table = self._model.frequencies(state)
        return self._table

    def push(self, state: Any, symbol: int) -> None:
        """As the model's, counted."""
        self.bits += TOTAL_BITS - math.log2(int(self._table[symbol]))
        self._model.push(state, symbol)


def model_of(coder: str, codec: CodecModel) -> SymbolModel:
    """What ships under a name of `CODERS`, for the base books."""
    identity = codec.identity
    if coder == "raw":
        return UniformModel(identity.min_codebooks, identity.codebook_size)
    path = WEIGHTS / ("static.safetensors" if coder == "static" else "entropy")
    return load_entropy_model(path, identity, identity.min_codebooks)


def measure(
    codec: CodecModel,
    recordings: Sequence[tuple[Tensor, int]],
    model: SymbolModel,
    frames: int,
) -> dict[str, float]:
    """Bits a second of streams, one a recording.

    Args:
        codec: Whose codes they are.
        recordings: Codes `[K, T]` and samples of each.
        model: What codes them.
        frames: Of a chunk.

    Returns:
        `ideal`, `bodies` and `all` in bits a second; `encode_share` and `decode_share`, processor time of
        coding alone, without a sender's check, as shares of the speech.
    """
    rate = codec.config.sampling_rate
    seconds = sum(length for _, length in recordings) / rate
    counted, size, bodies, spent = Counted(model), 0, 0, [0.0, 0.0]
    for codes, length in recordings:
        began = time.process_time()
        writer = CodesWriter(
            codec.identity, counted, chunk_frames=frames, num_samples=length, verifies=False
        )
        data = writer.push(codes) + writer.finish(length)
        coded = time.process_time()
        reader = CodesReader(model)
        pieces = reader.push(data) + reader.finish()
        spent = [spent[0] + coded - began, spent[1] + time.process_time() - coded]
        found = torch.cat([piece.codes for piece in pieces], 1)
        if not torch.equal(found[:, : codes.shape[1]], codes):
            raise SystemExit("A stream does not come back as it was sent.")
        parts = ContainerReader()
        chunks = [part for part in parts.push(data) + parts.finish() if isinstance(part, Chunk)]
        bodies += sum(len(chunk.payload) for chunk in chunks)
        size += len(data)
    return {
        "ideal": counted.bits / seconds,
        "bodies": 8 * bodies / seconds,
        "all": 8 * size / seconds,
        "encode_share": spent[0] / seconds,
        "decode_share": spent[1] / seconds,
    }


def main() -> None:
    """Run by hand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--frames", type=int, nargs="+", default=[25, 50, 100, 250])
    parser.add_argument("--coders", nargs="+", choices=CODERS, default=list(CODERS))
    parser.add_argument("--limit", type=int, help="the first so many recordings")
    parser.add_argument("--json", type=Path, help="where the rows go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    codec = load_codec()
    lines = [json.loads(line) for line in options.manifest.read_text().splitlines()]
    held_out = [line for line in lines if line.get("split") == "valid"] or lines
    recordings = []
    for line in held_out[: options.limit]:
        waveform = read_audio(options.manifest.parent / line["audio"], codec.config.sampling_rate)
        codes = codec.tokenize([waveform], codec.identity.min_codebooks).values[0]
        recordings.append((codes, len(waveform)))
    seconds = sum(length for _, length in recordings) / codec.config.sampling_rate
    print(f"{len(recordings)} recordings, {seconds:.0f} s")
    rows = []
    for coder in options.coders:
        for frames in options.frames:
            found = measure(codec, recordings, model_of(coder, codec), frames)
            rows.append({"coder": coder, "frames": frames, **found})
            print(
                f"{coder:8} {frames:4} frames: -log2 p {found['ideal']:7.1f}, bodies "
                f"{found['bodies']:7.1f}, all {found['all']:7.1f} bits a second; coded in "
                f"{found['encode_share']:.4f}, read in {found['decode_share']:.4f} of real time"
            )
    if options.json is not None:
        options.json.write_text(json.dumps({"seconds": seconds, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
