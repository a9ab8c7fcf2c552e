"""`MaskedConcealer`: what a codec's decoder plays for frames of which codes were lost."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from ..tokenizer.codec import CodecModel
from ..tokenizer.model_folder import load_model
from .masked_model import MaskedModel


class MaskedConcealer:
    """A `Concealer` (`link/protocols.py`) of a masked model: the mean latent of what is missing.

    It looks at received codes only, never at an earlier guess, so an error does not grow with a gap; and
    at a bounded past and future. What was received of the frame itself is played as it is.

    Args:
        model: In evaluation mode.
        codec: The codec of its codes.

    Attributes:
        past_frames, future_frames: How many frames before and behind the played one it looks at, at the most.

    Raises:
        ModelMismatch: If the model was trained on the codes of another codec.
    """

    def __init__(self, model: MaskedModel, codec: CodecModel) -> None:
        model.config.codec_identity.require(codec.identity, "The codec of this concealment")
        self._model, self._quantizer = model, codec.quantizer
        self.past_frames = model.config.past_frames
        self.future_frames = model.config.future_frames

    @classmethod
    def load(cls, folder: str | os.PathLike[str], codec: CodecModel) -> MaskedConcealer:
        """Read a folder that `speechlm export` wrote of a masked model.

        Raises:
            CorruptWeights: If a file is missing or damaged.
            ConfigError: If the configuration is refused.
            ModelMismatch: If it is a model for another codec.
        """
        return cls(load_model(Path(folder), MaskedModel), codec)

    @torch.no_grad()
    def latent(self, codes: Tensor, index: int) -> Tensor:
        """The latent that the decoder plays for one frame.

        Args:
            codes: int64 `[K, m]` as received, -1 where nothing was.
            index: The frame, among these m.

        Returns:
            float32 `[C]`. All K codes received: the codec's own latent, to the last bit.
        """
        frame = codes[:, index]
        if bool((frame >= 0).all()):
            return self._quantizer.decode(frame[None, :, None])[0, 0]
        first = max(0, index - self.past_frames)
        look = codes[:, first : index + self.future_frames + 1]
        place = torch.tensor([index - first], device=codes.device)
        return self._model.mean_latents(look[None], place, self._quantizer.codebooks)[0]
