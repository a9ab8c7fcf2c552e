"""One block path for files, batches and live streams: samples in, codes out, and back.

A whole file is a stream that is pushed in large blocks, so offline and streamed results come from the same
steps. Codes of a causal model appear `config.encoder_lookahead_samples` after their frame is complete,
decoded samples `config.synthesis_reach` later; other models stream too, as late as their layers see ahead.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError, UnsupportedAudio
from .blocks import Carry, frame_mask, is_finite

if TYPE_CHECKING:
    from .codec import CodecModel

# Frames of one block, over all items: activations of so many stay in a core's cache, or keep a GPU busy.
_BLOCK_FRAMES = {"cpu": 512, "cuda": 1 << 15}
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
    def push(self, samples: Tensor, *, is_last: bool = False) -> Tensor:
        """Take in float `[B, n]`; returns the codes that are now complete, int64 `[B, k, m]`.

        With `is_last` these are all that remain, and the stream is over.
        """
        self.num_samples += samples.shape[-1]
        pieces = [self.waiting, samples.to(self.waiting)]
        total = None
        if is_last:
            total = -(-self.num_samples // self.hop)
            past_end = total * self.hop - self.num_samples + self.right
            past_end += self.model.encoder.lookahead * self.hop if total else 0
            pieces.append(self.waiting.new_zeros(len(self.waiting), past_end))
        self.waiting = torch.cat(pieces, 1)
        ready = (self.waiting.shape[1] - self.left - self.right) // self.hop
        codes = self._encode(max(0, ready), total)
        return codes if total is None else codes[..., : codes.shape[-1] + total - self.num_done]

    def flush(self) -> Tensor:
        """The remaining codes, int64 `[B, k, m]`; the stream is over then."""
        return self.push(self.waiting[:, :0], is_last=True)

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
    def push(self, codes: Tensor, *, is_last: bool = False) -> Tensor:
        """Take in int64 `[B, k, m]`; returns the samples that are now final, float32 `[B, n]`.

        With `is_last` these are all that remain, and the stream is over.
        """
        latent = self.model.quantizer.decode(codes.to(self.model.device))
        return self.push_latents(latent, is_last=is_last)

    @torch.inference_mode()
    def push_latents(self, latent: Tensor, *, is_last: bool = False) -> Tensor:
        """As `push`, with float32 `[B, m, D]` in place of codes: `quantizer.decode` of them."""
        self.num_frames += latent.shape[1]
        if not self.num_frames:
            return latent.new_zeros(self.batch, 0)
        # one frame of zeros before the first, and with the last one as many as windows and layers wait for
        past_end = 1 + self.model.decoder.lookahead if is_last else 0
        latent = F.pad(latent, (0, 0, int(not self.num_fed), past_end))
        samples = self._decode(latent, self.num_frames if is_last else None)
        if not is_last:
            return samples
        extra = self.num_done - self.num_frames * self.model.config.hop_length
        return samples[:, : samples.shape[1] - extra]

    def flush(self) -> Tensor:
        """The remaining samples, float32 `[B, n]`; the stream is over then."""
        books = self.model.config.num_codebooks
        return self.push(torch.zeros(self.batch, books, 0, dtype=torch.long), is_last=True)

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

    def push(self, samples: Tensor | NDArray[np.floating]) -> Tensor:
        """Take in float `[n]` at the codec's rate; returns the codes now complete, int64 `[k, m]`.

        Raises:
            UnsupportedAudio: If samples are not one-dimensional or not finite; nothing is taken in then.
        """
        samples = as_samples(samples)
        if samples.dim() != 1 or not is_finite(samples):
            raise UnsupportedAudio(
                "A stream takes one-dimensional samples, none of them NaN or infinite; "
                "push the samples of one channel."
            )
        return self._encoder.push(samples[None])[0]

    def flush(self) -> Tensor:
        """End the signal that was pushed; the next push starts another.

        Returns:
            The last codes, int64 `[k, m]`.
        """
        codes = self._encoder.flush()[0]
        self._encoder = EncoderStream(self.codec, self._encoder.num_books)
        return codes

    def pull(self, codes: Tensor) -> Tensor:
        """Take in codes, int64 `[k, m]`; returns the samples now final, float32 `[n]`.

        Raises:
            ConfigError: If the number of books or a code is out of range; nothing is taken in then.
        """
        if codes.dim() != 2:
            raise ConfigError(f"A stream decodes codes [k, m], not of shape {list(codes.shape)}.")
        self.codec.require_codes(codes[None])
        return self._decoder.push(codes[None])[0]

    def pull_latents(self, latents: Tensor) -> Tensor:
        """As `pull`, with what the decoder hears in place of codes, for frames that are only guessed.

        Codes and latents may follow each other in one signal. The mean of the entries that a frame may
        have, each by its probability, is such a guess.

        Args:
            latents: float `[m, D]`, D = `config.latent_size`; `quantizer.decode` gives those of codes.

        Returns:
            The samples now final, float32 `[n]`.

        Raises:
            ConfigError: If the shape is another, or a number is not finite; nothing is taken in then.
        """
        size = self.codec.config.latent_size
        if latents.dim() != 2 or latents.shape[1] != size or not bool(latents.isfinite().all()):
            raise ConfigError(
                f"A stream decodes finite latents [m, {size}], not of shape {list(latents.shape)}."
            )
        return self._decoder.push_latents(latents[None].to(self.codec.device, torch.float32))[0]

    def drain(self) -> Tensor:
        """End the codes that were pulled; returns their last samples, float32 `[n]`, up to whole frames."""
        samples = self._decoder.flush()[0]
        self._decoder = DecoderStream(self.codec, noise_seed=self._decoder.noise_seed)
        return samples


def as_samples(waveform: object) -> Tensor:
    """A tensor or array of numbers as a float32 tensor.

    Raises:
        UnsupportedAudio: If it is neither.
    """
    if not isinstance(waveform, (Tensor, np.ndarray)):
        raise UnsupportedAudio(
            f"A waveform must be a tensor or an array of samples, not {type(waveform).__name__}; "
            "`read_audio` reads a file."
        )
    try:
        return torch.as_tensor(waveform).float()
    except TypeError as error:
        raise UnsupportedAudio(f"A waveform must hold numbers: {error}") from error


def encode_blocks(
    model: CodecModel, waveform: Tensor, lengths: Tensor, num_books: int | None
) -> Iterator[Tensor]:
    """Codes of padded waveforms `[B, L]`, block after block: int64 `[B, k, m]` each."""
    stream = EncoderStream(model, num_books, lengths)
    step = block_frames(model.device, len(waveform)) * model.config.hop_length
    ends = lengths.to(waveform.device)[:, None]
    is_padded = bool((ends < waveform.shape[1]).any())
    for start in range(0, max(1, waveform.shape[1]), step):
        piece = waveform[:, start : start + step]
        stop = start + piece.shape[1]
        if is_padded:
            piece = piece * (torch.arange(start, stop, device=piece.device) < ends)
        yield stream.push(piece, is_last=stop == waveform.shape[1])


def decode_blocks(
    model: CodecModel, codes: Tensor, lengths: Tensor, noise_seed: int
) -> Iterator[Tensor]:
    """Waveforms of padded codes `[B, k, T]`, block after block: float32 `[B, n]` each."""
    stream = DecoderStream(model, lengths, noise_seed=noise_seed)
    step = block_frames(model.device, len(codes))
    for start in range(0, codes.shape[-1], step):
        is_last = start + step >= codes.shape[-1]
        yield stream.push(codes[..., start : start + step], is_last=is_last)
