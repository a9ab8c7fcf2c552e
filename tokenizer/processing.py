"""Feature extractor: waveforms of any container type to padded `input_values` and `padding_mask`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import AutoFeatureExtractor, BatchFeature, SequenceFeatureExtractor

from ..errors import UnsupportedAudio
from .audio import resample
from .config import CodecConfig


class CodecFeatureExtractor(SequenceFeatureExtractor):
    """Prepares audio for `CodecModel`.

    Args:
        feature_size: Channels, always 1.
        sampling_rate: The codec's rate.
        hop_length: Samples per frame.
        padding_value: Of the samples past an item's end.
    """

    model_input_names = ["input_values", "padding_mask"]  # noqa: RUF012 - transformers' own class attribute

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 16_000,
        hop_length: int = 320,
        padding_value: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            feature_size=feature_size,
            sampling_rate=sampling_rate,
            padding_value=padding_value,
            **kwargs,
        )
        self.hop_length = hop_length

    def __call__(
        self,
        raw_audio: Any,
        sampling_rate: int | None = None,
        return_tensors: str | None = "pt",
        **_: Any,
    ) -> BatchFeature:
        """Resample where needed, check, and right-pad.

        Args:
            raw_audio: One waveform `[L]` or a list of them (arrays, tensors or lists of floats).
            sampling_rate: Their rate in Hz; None takes the codec's.
            return_tensors: `pt` or `np`.

        Returns:
            `input_values` float32 `[B, 1, L]` and `padding_mask` int64 `[B, 1, L]`.

        Raises:
            UnsupportedAudio: If a waveform is empty, not one-dimensional, or not finite.
        """
        is_batch = (
            isinstance(raw_audio, (list, tuple)) and len(raw_audio) and np.ndim(raw_audio[0]) > 0
        )
        items = []
        for item in raw_audio if is_batch else [raw_audio]:
            waveform = torch.as_tensor(np.asarray(item, dtype=np.float32))
            if waveform.dim() != 1 or not len(waveform):
                raise UnsupportedAudio(
                    f"A waveform must be one-dimensional and not empty, got shape {list(waveform.shape)}."
                )
            if not bool(torch.isfinite(waveform).all()):
                raise UnsupportedAudio("A waveform contains samples that are NaN or infinite.")
            items.append(
                resample(waveform, sampling_rate or self.sampling_rate, self.sampling_rate)
            )
        longest = max(len(item) for item in items)
        values = torch.full((len(items), 1, longest), float(self.padding_value))
        mask = torch.zeros(len(items), 1, longest, dtype=torch.long)
        for row, item in enumerate(items):
            values[row, 0, : len(item)] = item
            mask[row, 0, : len(item)] = 1
        return BatchFeature(
            {"input_values": values, "padding_mask": mask}, tensor_type=return_tensors
        )


AutoFeatureExtractor.register(CodecConfig, CodecFeatureExtractor, exist_ok=True)
