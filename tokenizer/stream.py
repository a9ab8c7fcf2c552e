"""One block path for files, batches and live streams: samples in, codes out, and back.

A whole file is a stream that is pushed in large blocks, so offline and streamed results come from the same
steps. Codes of a causal model appear `config.encoder_lookahead_samples` after their frame is complete,
decoded samples `config.synthesis_reach` later; other models stream too, as late as their layers see ahead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError, UnsupportedAudio
from .blocks import Carry, frame_mask

if TYPE_CHECKING:
    from .codec import CodecModel

# Frames of one block, over all items: activations of so many stay in a core's cache, or keep a GPU busy.
_BLOCK_FRAMES = {"cpu": 256, "cuda": 1 << 15}
_FEWEST_FRAMES = 16


def block_frames(device: torch.device, batch: int) -> int:
    """Frames in which a long signal is best processed."""
    return max(_FEWEST_FRAMES, _BLOCK_FRAMES.get(device.type, 1 << 12) // max(1, batch))


class EncoderStream:
    """Samples to codes, for items that run in step.

    Args:
        model: The codec, in evaluation mode.
        num_books: Books to give, or None for all.
        lengths: Samples of each item, int64 `[B]`, where they are known; items then end on their own, as
            if zeros followed. None ends all items at `flush`.
        batch: B, where `lengths` is None.
    """

    def __init__(
        self,
        model: CodecModel,
        num_books: int | None = None,
        lengths: Tensor | None = None,
        batch: int = 1,
    ) -> None:
        self.model, self.num_books = model, model.require_books(num_books)
        self.hop = model.config.hop_length
        self.left, self.right = model.encoder.margins
        self.ends = None if lengths is None else -(-lengths.to(model.device) // self.hop)
        self.carry: Carry = {}
        self.waiting = torch.zeros(batch if lengths is None else len(lengths), self.left)
        self.waiting = self.waiting.to(model.device)
        self.num_samples = self.num_fed = self.num_done = 0

    @torch.inference_mode()
    def push(self, samples: Tensor) -> Tensor:
        """Take in float `[B, n]`; returns the codes that are now complete, int64 `[B, k, m]`."""
        self.num_samples += samples.shape[-1]
        self._hold(samples.to(self.waiting))
        return self._encode(max(0, self._ready))

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """The remaining codes, int64 `[B, k, m]`; the stream is over then."""
        total = -(-self.num_samples // self.hop)
        missing = total * self.hop - self.num_samples + self.right
        self._hold(self.waiting.new_zeros(len(self.waiting), missing))
        found = [self._encode(self._ready, total)]
        while self.num_done < total:
            self._hold(self.waiting.new_zeros(len(self.waiting), self.hop))
            found.append(self._encode(1, total))
        codes = torch.cat(found, -1)
        return codes[..., : codes.shape[-1] - (self.num_done - total)]

    def _hold(self, samples: Tensor) -> None:
        self.waiting = torch.cat([self.waiting, samples], 1)

    @property
    def _ready(self) -> int:
        """Whole frames whose analysis has all its samples."""
        return (self.waiting.shape[1] - self.left - self.right) // self.hop

    def _encode(self, count: int, total: int | None = None) -> Tensor:
        """Codes of the next `count` frames that wait; frames from `total` on do not exist."""
        batch = len(self.waiting)
        if not count:
            return torch.zeros(batch, self.num_books, 0, dtype=torch.long, device=self.model.device)
        piece = self.waiting[:, : self.left + count * self.hop + self.right]
        self.waiting = self.waiting[:, count * self.hop :]
        ends = self.ends
        if ends is None:
            never = self.num_fed + count if total is None else total
            ends = torch.full((batch,), never, device=piece.device)
        mask = frame_mask(ends, count, self.num_fed)
        self.num_fed += count
        latent, mask = self.model.encoder.block(piece, mask, self.carry)
        self.num_done += latent.shape[1]
        return self.model.quantizer.encode(latent, mask, self.num_books)


class DecoderStream:
    """Codes to samples, for items that run in step.

    Args:
        model: The codec, in evaluation mode.
        lengths: Frames of each item, int64 `[B]`, where they are known; None ends all at `flush`.
        batch: B, where `lengths` is None.
        noise_seed: Seed of the noise source.
    """

    def __init__(
        self,
        model: CodecModel,
        lengths: Tensor | None = None,
        batch: int = 1,
        noise_seed: int = 0,
    ) -> None:
        self.model, self.noise_seed = model, noise_seed
        self.lengths = None if lengths is None else lengths.to(model.device)
        self.batch = batch if lengths is None else len(lengths)
        self.carry: Carry = {}
        self.num_frames = self.num_fed = self.num_done = 0
        # the decoder is early by one frame of zeros and by the first window's reach
        self.num_early = model.config.hop_length + model.config.synthesis_reach

    @torch.inference_mode()
    def push(self, codes: Tensor) -> Tensor:
        """Take in int64 `[B, k, m]`; returns the samples that are now final, float32 `[B, n]`."""
        latent = self.model.quantizer.decode(codes.to(self.model.device))
        if not self.num_fed:
            latent = F.pad(latent, (0, 0, 1, 0))
        self.num_frames += codes.shape[-1]
        return self._decode(latent)

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """The remaining samples, float32 `[B, n]`; the stream is over then."""
        config = self.model.config
        total = self.num_frames * config.hop_length
        found = []
        if total:
            zeros = torch.zeros(self.batch, 1, config.latent_size, device=self.model.device)
            while self.num_done < total:
                found.append(self._decode(zeros, self.num_frames))
        if not found:
            return torch.zeros(self.batch, 0, device=self.model.device)
        samples = torch.cat(found, 1)
        return samples[:, : samples.shape[1] - (self.num_done - total)]

    def _decode(self, latent: Tensor, total: int | None = None) -> Tensor:
        """Samples of the next rows of latent; row 0 of a stream is the zero frame before the first."""
        count = latent.shape[1]
        ends = self.lengths
        if ends is None:
            never = self.num_fed + count if total is None else total
            ends = torch.full((self.batch,), never, device=latent.device)
        inside = frame_mask(ends + 1, count, self.num_fed)
        mask = frame_mask(ends + 2, count, self.num_fed)  # and one frame of zeros on either side
        self.num_fed += count
        if self.lengths is not None:
            latent = latent * inside
        samples: Tensor = self.model.decoder.block(latent, mask, self.carry, self.noise_seed)
        early = min(self.num_early, samples.shape[1])
        self.num_early -= early
        self.num_done += samples.shape[1] - early
        return samples[:, early:]


class CodecStream:
    """One live signal through a codec, in pieces of any size: `push` samples, `pull` them back out of codes.

    The two directions are independent of each other and equal to `encode` and `decode` of the whole.

    Example:
        >>> sender, receiver = CodecStream(codec), CodecStream(codec)
        >>> for samples in microphone:
        ...     play(receiver.pull(sender.push(samples)))
        >>> play(receiver.pull(sender.flush()))
        >>> play(receiver.drain())

    Args:
        codec: The codec, in evaluation mode.
        num_books: Books to give, from the masked count to K; None for all.
        noise_seed: Seed of the noise source.
    """

    def __init__(
        self, codec: CodecModel, num_books: int | None = None, noise_seed: int = 0
    ) -> None:
        self.codec = codec
        self._encoder = EncoderStream(codec, num_books)
        self._decoder = DecoderStream(codec, noise_seed=noise_seed)

    @property
    def latency_seconds(self) -> float | None:
        """Longest time from a sample to its copy, without the time to compute: see `CodecConfig`."""
        return self.codec.config.latency_seconds

    def push(self, samples: Tensor) -> Tensor:
        """Take in float `[n]` at the codec's rate; returns the codes now complete, int64 `[k, m]`.

        Raises:
            UnsupportedAudio: If samples are not one-dimensional or not finite; nothing is taken in then.
        """
        if samples.dim() != 1 or not bool(torch.isfinite(samples).all()):
            raise UnsupportedAudio(
                "A stream takes one-dimensional samples, none of them NaN or infinite; "
                "push the samples of one channel."
            )
        return self._encoder.push(samples.float()[None])[0]

    def flush(self) -> Tensor:
        """End the signal that was pushed; returns its last codes, int64 `[k, m]`."""
        return self._encoder.flush()[0]

    def pull(self, codes: Tensor) -> Tensor:
        """Take in codes, int64 `[k, m]`; returns the samples now final, float32 `[n]`.

        Raises:
            ConfigError: If the number of books or a code is out of range; nothing is taken in then.
        """
        if codes.dim() != 2:
            raise ConfigError(f"A stream decodes codes [k, m], not of shape {list(codes.shape)}.")
        self.codec.require_codes(codes[None])
        return self._decoder.push(codes[None])[0]

    def drain(self) -> Tensor:
        """End the codes that were pulled; returns their last samples, float32 `[n]`."""
        return self._decoder.flush()[0]


def encode_blocks(
    model: CodecModel, waveform: Tensor, lengths: Tensor, num_books: int | None
) -> Iterator[Tensor]:
    """Codes of padded waveforms `[B, L]`, block after block: int64 `[B, k, m]` each."""
    stream = EncoderStream(model, num_books, lengths)
    step = block_frames(model.device, len(waveform)) * model.config.hop_length
    for start in range(0, waveform.shape[1], step):
        inside = torch.arange(start, min(start + step, waveform.shape[1]), device=waveform.device)
        piece = waveform[:, start : start + step] * (inside < lengths.to(waveform.device)[:, None])
        yield stream.push(piece)
    yield stream.flush()


def decode_blocks(
    model: CodecModel, codes: Tensor, lengths: Tensor, noise_seed: int
) -> Iterator[Tensor]:
    """Waveforms of padded codes `[B, k, T]`, block after block: float32 `[B, n]` each."""
    stream = DecoderStream(model, lengths, noise_seed=noise_seed)
    step = block_frames(model.device, len(codes))
    for start in range(0, codes.shape[-1], step):
        yield stream.push(codes[..., start : start + step])
    yield stream.flush()
