"""`.lmc` bytes to samples, in pieces of any size, with what is missing concealed."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ..errors import ModelMismatch
from ..tokenizer.codec import CodecModel
from ..tokenizer.stream import CodecStream
from .codes_stream import CodesPiece, CodesReader
from .container import StreamHeader
from .container_reader import Damage
from .integer_fine import IntegerFineModel, IntegerFineStream
from .symbol_model import SymbolModel

# In place of a missing chunk sounds the last good frame, ever softer for so many frames, then nothing; the
# first frame after it comes in over so many.
_FADE_FRAMES, _RISE_FRAMES = 3, 1


class Decompressor:
    """A stream back to a signal.

    Example:
        >>> decompressor = Decompressor(codec)
        >>> for data in connection:
        ...     play(decompressor.push(data))
        >>> play(decompressor.flush())
        >>> print(*(damage.reason for damage in decompressor.damages))

    Args:
        codec: The codec, in evaluation mode.
        model: The entropy model; without one, what ships with speechlm is searched for the stream's.
        fine: Model that fills in the books that are not sent, as their mean sound.
        noise_seed: Seed of the codec's noise source.

    Raises:
        ModelMismatch: If the fine model is made for another codec.
    """

    def __init__(
        self,
        codec: CodecModel,
        model: SymbolModel | None = None,
        *,
        fine: IntegerFineModel | None = None,
        noise_seed: int = 0,
    ) -> None:
        if fine is not None:
            codec.identity.require(fine.codec, "The fine model")
        self.codec, self._fine = codec, fine
        self._fine_stream: IntegerFineStream | None = None
        self._reader = CodesReader(model)
        self._stream = CodecStream(codec, noise_seed=noise_seed)
        self._num_known = 0  # samples of all codes so far
        self._num_played = 0
        self._gaps: list[tuple[int, int]] = []

    @property
    def header(self) -> StreamHeader | None:
        """Once it is in."""
        return self._reader.header

    @property
    def damages(self) -> list[Damage]:
        """What was not as it was sent, in order."""
        return self._reader.damages

    def push(self, data: bytes) -> Tensor:
        """Take in bytes; returns the samples now final, float32 `[n]`.

        Raises:
            CorruptStream: If the stream has no header that can be used.
            ModelMismatch: If it was made with another codec or entropy model, or sends other books than
                the fine model reads.
        """
        is_new = self.header is None
        pieces = self._reader.push(data)
        if is_new and self.header is not None:
            self.codec.identity.require(self.header.codec, "The .lmc stream")
        return self._played(pieces)

    def flush(self) -> Tensor:
        """No more bytes come; returns the last samples, float32 `[n]`."""
        samples = self._played(self._reader.finish())
        return torch.cat([samples, self._faded(self._stream.drain())])

    def play(self, pieces: Iterable[CodesPiece]) -> Tensor:
        """All samples of codes that another reader gives, float32 `[n]`."""
        samples = self._played(pieces)
        return torch.cat([samples, self._faded(self._stream.drain())])

    def _played(self, pieces: Iterable[CodesPiece]) -> Tensor:
        samples = [torch.zeros(0)]
        for piece in pieces:
            start, self._num_known = self._num_known, self._num_known + piece.num_samples
            if piece.is_concealed and self._gaps and self._gaps[-1][1] == start:
                start = self._gaps.pop()[0]
            if piece.is_concealed:
                self._gaps.append((start, self._num_known))
            samples.append(self._faded(self._sounded(piece)))
        return torch.cat(samples)

    def _sounded(self, piece: CodesPiece) -> Tensor:
        if self._fine is None:
            return self._stream.pull(piece.codes)
        if len(piece.codes) != self._fine.num_base_books:
            raise ModelMismatch(
                f"The stream sends {len(piece.codes)} books, the fine model reads "
                f"{self._fine.num_base_books}; take a fine model for as many, or none."
            )
        if self._fine_stream is None:
            self._fine_stream = self._fine.stream(entries=self.codec.quantizer.codebooks)
        latents = self._fine_stream.push_latents(piece.codes)
        if piece.is_concealed:  # what was made up is no past for what comes
            self._fine_stream = None
        return self._stream.pull_latents(latents)

    def _faded(self, samples: Tensor) -> Tensor:
        """Samples at their place in the signal, softer where they conceal; none beyond its end."""
        samples = samples[: self._num_known - self._num_played].cpu()
        hop = self.codec.config.hop_length
        place = torch.arange(self._num_played, self._num_played + len(samples))
        for start, stop in self._gaps:
            # before the first good frame there is nothing to repeat
            fall = 1 - (place - start) / (_FADE_FRAMES * hop) if start else torch.zeros(len(place))
            rise = (place - stop) / (_RISE_FRAMES * hop)
            gain = torch.where(place < stop, fall, rise).clamp(0, 1)
            samples = torch.where(place < start, samples, samples * gain)
        self._num_played += len(samples)
        self._gaps = [gap for gap in self._gaps if gap[1] + _RISE_FRAMES * hop > self._num_played]
        return samples
