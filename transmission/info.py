"""What an `.lmc` file holds, told without a codec or a model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import CorruptStream
from ..tokenizer.paths import require_file
from .container import Chunk, StreamHeader, unpack_header
from .container_reader import ContainerReader, Damage, Part

BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class StreamInfo:
    """An `.lmc` file, read to its end.

    Attributes:
        header: Its header.
        num_bytes: All of it.
        num_chunks: Chunks that are whole.
        num_raw_chunks: Those of them whose codes are packed without a model.
        num_code_bytes: Bytes of codes in them, without heads.
        num_samples: Length of the signal, as far as the file tells.
        damages: What is not as it was sent.
    """

    header: StreamHeader
    num_bytes: int
    num_chunks: int
    num_raw_chunks: int
    num_code_bytes: int
    num_samples: int
    damages: tuple[Damage, ...]

    @property
    def seconds(self) -> float:
        """Length of the signal."""
        return self.num_samples / self.header.codec.sampling_rate

    @property
    def bits_per_second(self) -> float:
        """What the file takes, all of it; 0 for a signal without samples."""
        return 8 * self.num_bytes / self.seconds if self.num_samples else 0.0

    @property
    def raw_bits_per_second(self) -> float:
        """What its codes would take without entropy coding and container."""
        header = self.header
        return header.bits_per_code * header.num_books * header.codec.frame_rate_hz

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        told = asdict(self)
        told |= {
            "seconds": self.seconds,
            "bits_per_second": self.bits_per_second,
            "raw_bits_per_second": self.raw_bits_per_second,
        }
        return told

    def text(self) -> str:
        """A few lines for people."""
        header, codec = self.header, self.header.codec
        model = header.numeric_profile
        if model != "uniform":
            model += f" {header.model_fingerprint}"
        lines = [
            f"codec      {codec.codec_id} revision {codec.revision}, {codec.sampling_rate} Hz",
            f"books      {header.num_books} of {codec.num_codebooks}, {codec.codebook_size} entries each",
            f"model      {model}",
            f"signal     {self.seconds:.2f} s, {self.num_samples} samples",
            f"size       {self.num_bytes} bytes: {self.bits_per_second:.0f} bits per second, "
            f"{self.raw_bits_per_second:.0f} without entropy coding",
            f"chunks     {self.num_chunks} of {header.chunk_frames} frames, {self.num_raw_chunks} "
            f"of them raw, {self.num_code_bytes} bytes of codes",
            f"damage     {len(self.damages) or 'none'}",
        ]
        return "\n".join(lines + [f"           {damage.reason}" for damage in self.damages])


def describe_stream(path: str | os.PathLike[str]) -> StreamInfo:
    """Read an `.lmc` file, a block at a time, and check its checksums.

    Raises:
        CorruptStream: If the file is missing or its header cannot be used.
    """
    reader, num_bytes = ContainerReader(), 0
    counts = {"chunks": 0, "raw": 0, "codes": 0, "samples": 0}
    damages: list[Damage] = []

    def take(parts: list[Part]) -> None:
        for part in parts:
            if isinstance(part, Damage):
                damages.append(part)
                counts["samples"] += part.num_samples
            elif isinstance(part, Chunk) and reader.header is not None:
                counts["chunks"] += 1
                counts["raw"] += part.is_raw
                counts["codes"] += len(part.payload)
                counts["samples"] += part.num_samples or reader.header.chunk_samples

    for block in blocks(path):
        num_bytes += len(block)
        take(reader.push(block))
    take(reader.finish())
    header = reader.header
    if header is None:
        raise CorruptStream(f"{path} has no header.")
    known = reader.end.num_samples if reader.end is not None else header.num_samples
    return StreamInfo(
        header,
        num_bytes,
        counts["chunks"],
        counts["raw"],
        counts["codes"],
        known or counts["samples"],
        tuple(damages),
    )


def read_header(path: str | os.PathLike[str]) -> StreamHeader | None:
    """The header of a file, and nothing behind it; None if the file ends before the header does.

    Raises:
        CorruptStream: If there is no such file, or no header that can be used.
    """
    found = unpack_header(next(blocks(path), b""))
    return None if found is None else found[0]


def blocks(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The bytes of a file, some at a time.

    Raises:
        CorruptStream: If there is no such file.
    """
    name = require_file(path, CorruptStream, "a file that `speechlm compress` wrote")
    with name.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block
