"""Codes to `.lmc` bytes and back, without a codec: chunks, the model that codes them, and concealment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError, CorruptStream, ModelMismatch
from ..tokenizer.codes import CodecIdentity
from .chunk_coder import decode_chunk, encode_chunk, unpack_codes
from .container import Chunk, EndRecord, StreamHeader, header_crc
from .container_reader import ContainerReader, Damage, Part
from .models import model_of_header
from .symbol_model import SymbolModel

CHUNK_FRAMES = 50  # a second of the shipped codec


class CodesWriter:
    """Codes in, `.lmc` bytes out, in pieces of any size and with the same bytes for every cut.

    A chunk is written when the first frame after it is there, so that the last one can be marked.

    Args:
        codec: The codec that makes the codes.
        model: Predicts the codes; K is its number of books.
        chunk_frames: Frames of a chunk. A longer one costs less and loses more when it is damaged.
        num_samples: Length of the signal where it is known, for the header.
        verifies: Decode every chunk as a receiver would, and send its codes as they are if they differ.

    Attributes:
        header: What was written first.
    """

    def __init__(
        self,
        codec: CodecIdentity,
        model: SymbolModel,
        *,
        chunk_frames: int = CHUNK_FRAMES,
        num_samples: int = 0,
        verifies: bool = True,
    ) -> None:
        if model.codebook_size != codec.codebook_size:
            raise ModelMismatch(
                f"The entropy model codes books of {model.codebook_size} entries, codec "
                f"{codec.codec_id} has {codec.codebook_size}; give a model made for it."
            )
        self.header = StreamHeader(
            codec,
            model.num_books,
            model.numeric_profile,
            model.fingerprint,
            chunk_frames,
            num_samples,
        )
        self._model, self._verifies = model, verifies
        packed = self.header.pack()
        self._seed = header_crc(packed)
        self._ready = packed
        self._waiting = np.zeros((model.num_books, 0), dtype=np.int64)
        self._num_frames = 0
        self._sizes: list[int] = []

    def push(self, codes: Tensor) -> bytes:
        """Take in codes, int64 `[K, m]`; returns the bytes that are now final.

        Raises:
            ConfigError: If the shape or a code does not fit; nothing is taken in then.
        """
        size = self.header.codec.codebook_size
        if codes.dim() != 2 or len(codes) != self.header.num_books:
            raise ConfigError(
                f"A stream of {self.header.num_books} books takes codes "
                f"[{self.header.num_books}, m], not of shape {list(codes.shape)}."
            )
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < size:
            raise ConfigError(f"A code lies outside 0 to {size - 1}; give codes of this codec.")
        self._num_frames += codes.shape[1]
        self._waiting = np.concatenate([self._waiting, codes.cpu().long().numpy()], 1)
        frames, packed, self._ready = self.header.chunk_frames, self._ready, b""
        while self._waiting.shape[1] > frames:
            packed += self._chunk(self._waiting[:, :frames], None)
            self._waiting = self._waiting[:, frames:]
        return packed

    def finish(self, num_samples: int) -> bytes:
        """End the stream of a signal of so many samples; returns its last bytes.

        Raises:
            ConfigError: If the codes pushed are not those of such a signal.
        """
        header = self.header
        if -(-num_samples // header.codec.hop_length) != self._num_frames or (
            header.num_samples not in (0, num_samples)
        ):
            raise ConfigError(
                f"A signal of {num_samples} samples does not give the {self._num_frames} frames that "
                f"were pushed, or not the {header.num_samples} samples that were announced."
            )
        packed, self._ready = self._ready, b""
        if self._waiting.shape[1]:
            last = num_samples - len(self._sizes) * header.chunk_samples
            packed += self._chunk(self._waiting, last)
        return packed + EndRecord(num_samples, tuple(self._sizes)).pack(self._seed)

    def _chunk(self, codes: NDArray[np.int64], num_samples: int | None) -> bytes:
        payload, is_raw = encode_chunk(codes, self._model, verifies=self._verifies)
        packed = Chunk(len(self._sizes), payload, is_raw, num_samples).pack(self._seed)
        self._sizes.append(len(packed))
        return packed


@dataclass(frozen=True)
class CodesPiece:
    """Codes as they come out of a stream.

    Attributes:
        codes: int64 `[K, m]`.
        num_samples: Samples of these frames; fewer than `m` hops only at the end of the signal.
        is_concealed: Whether they stand in for a chunk that is missing: the last good frame, over and over.
    """

    codes: Tensor
    num_samples: int
    is_concealed: bool


class CodesReader:
    """`.lmc` bytes in, codes out, in pieces of any size.

    Args:
        model: The entropy model; without one, what ships with speechlm is searched for the header's.

    Attributes:
        header: Once it is in.
        damages: What was not as it was sent, in order.
        num_chunks: Chunks that decoded.
        num_raw_chunks: Those of them that were sent without the model.
        num_samples: Samples of all codes so far.
    """

    def __init__(self, model: SymbolModel | None = None) -> None:
        self.header: StreamHeader | None = None
        self.num_samples = 0
        self.damages: list[Damage] = []
        self.num_chunks = self.num_raw_chunks = 0
        self._given_model = model
        self._model: SymbolModel | None = None
        self._reader = ContainerReader()
        self._last: Tensor | None = None

    def push(self, data: bytes) -> list[CodesPiece]:
        """Take in bytes; returns the codes that are now whole.

        Raises:
            CorruptStream: If the stream has no header that can be used.
            ModelMismatch: If the entropy model is not the one that coded the stream.
        """
        return self.take(self._reader.push(data))

    def finish(self) -> list[CodesPiece]:
        """No more bytes come; returns the last codes."""
        return self.take(self._reader.finish())

    def take(self, parts: Sequence[Part]) -> list[CodesPiece]:
        """Codes of parts that were found otherwise than from the begin on, the header first."""
        pieces: list[CodesPiece] = []
        for part in parts:  # the header always comes first
            if isinstance(part, StreamHeader):
                self.header = part
                self._model = model_of_header(part, self._given_model)
            elif isinstance(part, Chunk) and self.header and self._model:
                pieces += self._decoded(part, self.header, self._model)
            elif isinstance(part, Damage) and self.header:
                self.damages.append(part)
                pieces += self._concealed(part.num_samples, self.header)
        self.num_samples += sum(piece.num_samples for piece in pieces)
        return pieces

    def _decoded(self, chunk: Chunk, header: StreamHeader, model: SymbolModel) -> list[CodesPiece]:
        num_samples = header.chunk_samples if chunk.num_samples is None else chunk.num_samples
        frames = -(-num_samples // header.codec.hop_length)
        try:
            if chunk.is_raw:
                size = header.codec.codebook_size
                codes = unpack_codes(chunk.payload, header.num_books, frames, size)
            else:
                codes = decode_chunk(chunk.payload, frames, model)
        except CorruptStream as error:
            reason = f"Chunk {chunk.number} does not decode: {error}"
            self.damages.append(Damage(reason, 0, 0, chunk.number, 1, num_samples))
            return self._concealed(num_samples, header)
        self.num_chunks += 1
        self.num_raw_chunks += chunk.is_raw
        values = torch.from_numpy(np.ascontiguousarray(codes))
        self._last = values[:, -1:]
        return [CodesPiece(values, num_samples, False)]

    def _concealed(self, num_samples: int, header: StreamHeader) -> list[CodesPiece]:
        """The last good frame in place of what is missing, a chunk at a time."""
        pieces = []
        last = self._last
        if last is None:
            last = torch.zeros(header.num_books, 1, dtype=torch.int64)
        while num_samples > 0:
            some = min(num_samples, header.chunk_samples)
            frames = -(-some // header.codec.hop_length)
            pieces.append(CodesPiece(last.expand(-1, frames), some, True))
            num_samples -= some
        return pieces
