"""Samples to `.lmc` bytes, in pieces of any size: the same bytes for every cut."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError, ModelMismatch
from ..tokenizer.blocks import is_finite
from ..tokenizer.codec import CodecModel
from ..tokenizer.codes import CodecIdentity
from ..tokenizer.stream import CodecStream, as_samples, block_frames
from .codes_stream import CHUNK_FRAMES, CodesWriter
from .models import shipped_model
from .symbol_model import SymbolModel


class Compressor:
    """A signal through codec and entropy coder.

    Example:
        >>> compressor = Compressor(codec)
        >>> for samples in microphone:
        ...     send(compressor.push(samples))
        >>> send(compressor.flush())

    Args:
        codec: The codec, in evaluation mode.
        num_books: Books to send; the base books (the codec's masked ones) if not given.
        model: Entropy model; the best that ships for the codec if not given, or none if none does.
        chunk_frames: Frames of a chunk, which is coded, checked and lost as a whole.
        num_samples: Length of the signal where it is known, for the header.
        verifies: Decode every chunk as a receiver would before it is sent.

    Raises:
        ConfigError: If the number of books or of frames is out of range.
        ModelMismatch: If the entropy model is made for another number of books or entries.
    """

    def __init__(
        self,
        codec: CodecModel,
        num_books: int | None = None,
        *,
        model: SymbolModel | None = None,
        chunk_frames: int = CHUNK_FRAMES,
        num_samples: int = 0,
        verifies: bool = True,
    ) -> None:
        identity = codec.identity
        books = codec.require_books(identity.min_codebooks if num_books is None else num_books)
        self.model = shipped_model(identity, books) if model is None else model
        if self.model.num_books != books:
            raise ModelMismatch(
                f"The entropy model codes {self.model.num_books} books, {books} are to be sent; give a "
                "model for as many."
            )
        self.codec = codec
        self._stream = CodecStream(codec, books)
        self._writer = CodesWriter(
            identity,
            self.model,
            chunk_frames=chunk_frames,
            num_samples=num_samples,
            verifies=verifies,
        )
        self._num_samples = 0
        self._is_over = False

    @property
    def latency_seconds(self) -> float | None:
        """Longest time from a sample to its copy: a chunk, the frame that ends it, and the codec's own."""
        own = self._stream.latency_seconds
        frames = self._writer.header.chunk_frames
        return None if own is None else own + frames / self.codec.config.frame_rate_hz

    def push(self, samples: Tensor | NDArray[np.floating]) -> bytes:
        """Take in float `[n]` at the codec's rate; returns the bytes that are now final.

        Raises:
            UnsupportedAudio: If samples are not one-dimensional or not finite; nothing is taken in then.
            ConfigError: If the stream was flushed.
        """
        if self._is_over:
            raise ConfigError(
                "This stream was flushed; make another Compressor for another signal."
            )
        samples = as_samples(samples)
        if samples.dim() != 1 or not is_finite(samples):
            self._stream.push(samples)  # refuses all of it, before a part of it is taken in
        # long signals in blocks, as files are: activations stay small
        size = block_frames(self.codec.device, 1) * self.codec.config.hop_length
        packed = [self._writer.push(self._stream.push(piece)) for piece in samples.split(size)]
        self._num_samples += len(samples)
        return b"".join(packed)

    def flush(self) -> bytes:
        """End the signal; returns the last bytes.

        Raises:
            ConfigError: If another number of samples was announced, or the stream was flushed before.
        """
        if self._is_over:
            raise ConfigError(
                "This stream was flushed; make another Compressor for another signal."
            )
        self._is_over = True
        packed = self._writer.push(self._stream.flush())
        return packed + self._writer.finish(self._num_samples)


def books_of_bitrate(codec: CodecIdentity, bits_per_second: float) -> int:
    """As many books as fit a bit rate without entropy coding.

    Raises:
        ConfigError: If the fewest that the codec decodes do not fit.
    """
    each = (codec.codebook_size - 1).bit_length() * codec.frame_rate_hz
    books = min(codec.num_codebooks, int(bits_per_second / each + 1e-9))
    if books < codec.min_codebooks:
        raise ConfigError(
            f"{bits_per_second:g} bits per second are too few: codec {codec.codec_id} needs "
            f"{codec.min_codebooks} books of {each:g}; ask for {codec.min_codebooks * each:g} or more."
        )
    return books
