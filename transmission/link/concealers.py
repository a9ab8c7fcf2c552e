"""Concealment without a model: the last frame again, or nothing. What a model has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from ...tokenizer.codec import CodecModel

_PAST_FRAMES = 50


def known_levels(codes: Tensor, num_base: int) -> int:
    """How many leading books of a frame `[K]` decode: 0 without a whole base."""
    missing = torch.nonzero(codes < 0)
    count = int(missing[0]) if len(missing) else len(codes)
    return count if count >= num_base else 0


def latent_of(codec: CodecModel, codes: Tensor) -> Tensor:
    """What the decoder plays for codes `[k]` of one frame, float32 `[D]`."""
    quantizer = codec.quantizer
    # asking the codec itself for its device walks through all its modules
    latent: Tensor = quantizer.decode(codes[None, :, None].to(quantizer.codebooks.device))[0, 0]
    return latent


class RepetitionConcealer:
    """The last frame whose base was received; where only fine codes are missing, the frame without them.

    Args:
        codec: The codec that plays.
    """

    past_frames, future_frames = _PAST_FRAMES, 0

    def __init__(self, codec: CodecModel) -> None:
        self._codec = codec
        self._num_base = codec.identity.min_codebooks

    def latent(self, codes: Tensor, index: int) -> Tensor:
        """The latent of frame `index` of `[K, m]`: see `Concealer`. Zeros where nothing came before it."""
        for place in range(index, -1, -1):
            count = known_levels(codes[:, place], self._num_base)
            if count:
                return latent_of(self._codec, codes[:count, place])
        return torch.zeros(self._codec.config.latent_size, device=self._codec.device)


class SilenceConcealer:
    """No sound: a receiver with it fades at once. The decoder meanwhile hears a latent of zeros.

    Args:
        codec: The codec that plays.
    """

    past_frames, future_frames = 0, 0

    def __init__(self, codec: CodecModel) -> None:
        self._codec = codec
        self._num_base = codec.identity.min_codebooks

    def latent(self, codes: Tensor, index: int) -> Tensor:
        """Zeros, or the frame without its fine codes where only these are missing."""
        count = known_levels(codes[:, index], self._num_base)
        if count:
            return latent_of(self._codec, codes[:count, index])
        return torch.zeros(self._codec.config.latent_size, device=self._codec.device)
