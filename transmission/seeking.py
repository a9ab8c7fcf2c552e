"""A part of an `.lmc` file without reading the rest, by the index at its end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from torch import Tensor

from ..errors import ConfigError, CorruptStream
from ..tokenizer.codec import CodecModel
from ..tokenizer.paths import require_file
from .codes_stream import CodesPiece, CodesReader
from .container import (
    MAX_END_BYTES,
    MAX_HEADER_BYTES,
    StreamHeader,
    find_end,
    header_crc,
    unpack_chunk,
    unpack_header,
)
from .container_reader import Damage
from .decompressor import Decompressor
from .integer_fine import IntegerFineModel
from .symbol_model import SymbolModel


@dataclass(frozen=True)
class SeekableStream:
    """An `.lmc` file with its index.

    Attributes:
        path: The file.
        header: Its header.
        seed: The header's CRC-32.
        offsets: Place of each chunk, and of the end record.
        num_samples: Length of the signal.
    """

    path: Path
    header: StreamHeader
    seed: int
    offsets: tuple[int, ...]
    num_samples: int

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> SeekableStream:
        """Read header and index.

        Raises:
            CorruptStream: If the file is missing, or its header or index cannot be used.
        """
        name = require_file(path, CorruptStream, "a file that `speechlm compress` wrote")
        with name.open("rb") as file:
            head = file.read(MAX_HEADER_BYTES)
            found = unpack_header(head)
            if found is None:
                raise CorruptStream(f"{name} breaks off within its header.")
            header, size = found
            seed = header_crc(head[:size])
            file.seek(max(size, name.stat().st_size - MAX_END_BYTES))
            end = find_end(file.read(MAX_END_BYTES), header, seed)
        if end is None:
            raise CorruptStream(
                f"{name} has no index at its end, where it is truncated or damaged; decompress all of it."
            )
        return cls(name, header, seed, tuple(accumulate(end.sizes, initial=size)), end.num_samples)

    def pieces(self, reader: CodesReader, first: int, stop: int) -> Iterator[CodesPiece]:
        """Codes of chunks `first` to `stop - 1`, as far as there are so many; `reader` notes their damage."""
        yield from reader.take([self.header])
        with self.path.open("rb") as file:
            for number in range(first, min(stop, len(self.offsets) - 1)):
                start, end = self.offsets[number : number + 2]
                file.seek(start)
                data = file.read(end - start)
                chunk = unpack_chunk(data, 0, self.header, self.seed, number)
                if chunk is not None and chunk.number == number:
                    yield from reader.take([chunk])
                    continue
                left = self.num_samples - number * self.header.chunk_samples
                lost = min(self.header.chunk_samples, left)
                reason = f"Chunk {number} is damaged (at byte {start})."
                yield from reader.take([Damage(reason, start, end - start, number, 1, lost)])


def decompress_part(
    codec: CodecModel,
    path: str | os.PathLike[str],
    start_seconds: float,
    seconds: float,
    model: SymbolModel | None = None,
    fine: IntegerFineModel | None = None,
) -> tuple[Tensor, list[Damage]]:
    """Some seconds of an `.lmc` file; the arguments `model` and `fine` are those of `Decompressor`.

    The chunk before them is decoded too, to warm up the codec's layers; what comes before that chunk is not
    heard, so that samples may differ a little from those of the whole.

    Returns:
        Samples, float32 `[n]`, fewer than asked for at the end of the signal; and the damage among them.

    Raises:
        ConfigError: If the part begins before the signal or behind it, or is empty.
        CorruptStream: If the header or the index cannot be used.
        ModelMismatch: If the file was made with another codec or entropy model.
    """
    stream = SeekableStream.open(path)
    codec.identity.require(stream.header.codec, f"The .lmc file {stream.path}")
    rate, size = stream.header.codec.sampling_rate, stream.header.chunk_samples
    length = stream.num_samples / rate
    if not 0 <= start_seconds < length or not seconds > 0:
        raise ConfigError(
            f"{stream.path} lasts {length:.2f} s; {seconds:g} s from {start_seconds:g} s are no part of it."
        )
    start = min(int(start_seconds * rate), stream.num_samples - 1)
    stop = start + max(1, round(min(seconds, length) * rate))
    stop = min(stop, stream.num_samples)
    first = max(0, start // size - 1)
    reader = CodesReader(model)
    # one chunk more, for what the last samples wait for
    samples = Decompressor(codec, fine=fine).play(
        stream.pieces(reader, first, -(-stop // size) + 1)
    )
    return samples[start - first * size : stop - first * size], reader.damages
