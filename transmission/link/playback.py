"""Latents and gains to samples: at once, as a listener needs them, or all together, as an experiment does."""

from __future__ import annotations

import torch
from torch import Tensor

from ...tokenizer.codec import CodecModel
from ...tokenizer.stream import CodecStream, block_frames


class Playback:
    """The end of a receiver: frames in, samples out.

    Args:
        codec: The codec, in evaluation mode.
        noise_seed: Seed of its noise source.
    """

    def __init__(self, codec: CodecModel, noise_seed: int = 0) -> None:
        self._codec = codec
        self._stream = CodecStream(codec, noise_seed=noise_seed)
        self._gains = torch.ones(0)

    def play(self, latents: Tensor, gains: Tensor) -> Tensor:
        """Samples that are now final, float32 `[n]`.

        Args:
            latents: float `[m, D]`.
            gains: float32 `[m * hop]`, of the samples of these frames, as loud as they are to be.
        """
        self._gains = torch.cat([self._gains, gains])
        return self._faded(self._stream.pull_latents(latents).cpu())

    def end(self) -> Tensor:
        """The last samples of the frames so far, float32 `[n]`."""
        return self._faded(self._stream.drain().cpu())

    def _faded(self, samples: Tensor) -> Tensor:
        gains, self._gains = self._gains[: len(samples)], self._gains[len(samples) :]
        return samples * gains


class DeferredPlayback(Playback):
    """Zeros at once and the samples later: the same ones in a fifth of the time, for experiments."""

    def __init__(self, codec: CodecModel, noise_seed: int = 0) -> None:
        super().__init__(codec, noise_seed)
        self._latents: list[Tensor] = []
        self._faded_by: list[Tensor] = []
        self._num_frames = self._num_given = 0

    def play(self, latents: Tensor, gains: Tensor) -> Tensor:
        """As many zeros as there would be samples."""
        self._latents.append(latents)
        self._faded_by.append(gains)
        self._num_frames += len(latents)
        return self._given(self._codec.config.synthesis_reach)

    def end(self) -> Tensor:
        """The zeros that are left."""
        return self._given(0)

    def _given(self, held_back: int) -> Tensor:
        total = max(0, self._num_frames * self._codec.config.hop_length - held_back)
        count, self._num_given = total - self._num_given, total
        return torch.zeros(count)

    def samples(self) -> Tensor:
        """All samples of the frames so far, float32 `[n]`."""
        if not self._latents:
            return torch.zeros(0)
        latents, gains = torch.cat(self._latents), torch.cat(self._faded_by)
        pieces = latents.split(block_frames(self._codec.device, 1))
        samples = [self._stream.pull_latents(piece).cpu() for piece in pieces]
        return torch.cat([*samples, self._stream.drain().cpu()]) * gains
