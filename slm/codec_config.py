"""`CodecBoundConfig`: what every model of one codec's codes keeps of that codec."""

# No `from __future__ import annotations` here: the Hub's `strict` checks no type that is a string.
from dataclasses import asdict
from typing import Any, Self

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ..tokenizer.codes import CodecIdentity
from ..tokenizer.model_folder import config_from_mapping


@strict
class CodecBoundConfig(PreTrainedConfig):
    """A configuration that names the codec whose codes the model knows.

    Attributes:
        codec_id, codec_revision, sampling_rate, hop_length, codebook_size, num_codebooks,
            num_masked_books: The codec; the codes of any other are refused.
    """

    codec_id: str = ""
    codec_revision: str = ""
    sampling_rate: int = 16_000
    hop_length: int = 320
    codebook_size: int = 1024
    num_codebooks: int = 6
    num_masked_books: int = 3

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second."""
        return self.sampling_rate / self.hop_length

    @property
    def codec_identity(self) -> CodecIdentity:
        """The codec whose codes the model knows."""
        return CodecIdentity(
            self.codec_id,
            self.codec_revision,
            self.sampling_rate,
            self.hop_length,
            self.codebook_size,
            self.num_codebooks,
            self.num_masked_books,
        )

    @classmethod
    def for_codec(cls, identity: CodecIdentity, **sizes: Any) -> Self:
        """A configuration for the codes of one codec.

        Args:
            identity: The codec.
            **sizes: Any other field.

        Raises:
            ConfigError: If a field is unknown, has the wrong type, or values contradict.
        """
        fields = asdict(identity)
        fields["codec_revision"] = fields.pop("revision")
        return config_from_mapping({**sizes, **fields}, cls, f"The {cls.model_type} recipe")
