"""The codec as a model: encoder, quantizer, Fourier decoder, and the road between waveforms and `Codes`."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from ..errors import ConfigError, UnsupportedAudio
from .blocks import frame_mask, is_finite
from .codes import CodecIdentity, Codes
from .config import CodecConfig
from .encoder import SpectralEncoder
from .fourier import FourierDecoder, Synthesis
from .model_folder import fingerprint, load_model
from .paths import require_model_folder
from .quantizer import MaskedChannelQuantizer, Quantized
from .seanet import SEANetEncoder
from .stream import as_samples, decode_blocks, encode_blocks

# The averages that training needs are no part of what codes mean.
_TRAINING_STATE = ("quantizer.counts", "quantizer.sums", "quantizer.is_initialised")


@dataclass
class CodecEncoderOutput(ModelOutput):
    """`audio_codes`: int64 `[B, k, T]`."""

    audio_codes: Tensor | None = None


@dataclass
class CodecDecoderOutput(ModelOutput):
    """`audio_values`: float32 `[B, T * hop]`."""

    audio_values: Tensor | None = None


@dataclass
class CodecOutput(ModelOutput):
    """What a training pass needs.

    Attributes:
        audio_codes: int64 `[B, k, T]`.
        audio_values: `[B, L]`.
        commitment_loss: Scalar.
        log_pitch, voicing_logit: `[B, T * upsampling]`, or None without a harmonic source.
    """

    audio_codes: Tensor | None = None
    audio_values: Tensor | None = None
    commitment_loss: Tensor | None = None
    log_pitch: Tensor | None = None
    voicing_logit: Tensor | None = None


class CodecModel(PreTrainedModel):
    """Language-Codec: waveform -> MCRVQ codes -> waveform.

    Example:
        >>> codec = load_codec()
        >>> codes = codec.tokenize([waveform])
        >>> decoded = codec.synthesize(codes)[0]
    """

    config_class = CodecConfig
    base_model_prefix = "codec"
    main_input_name = "input_values"

    def __init__(self, config: CodecConfig) -> None:
        super().__init__(config)
        self.encoder: SEANetEncoder | SpectralEncoder = (
            SEANetEncoder if config.encoder == "seanet" else SpectralEncoder
        )(config)
        self.quantizer = MaskedChannelQuantizer(
            config.latent_size, config.num_codebooks, config.codebook_size, config.num_masked_books
        )
        self.decoder = FourierDecoder(config)
        self._revision: str | None = None
        self._has_frozen_codes = False
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Modules initialise themselves in their constructors."""

    @property
    def identity(self) -> CodecIdentity:
        """Id and weights' hash, as codes carry them. The hash is computed once, in evaluation mode.

        After training of the decoder alone the revision is the one of before: codes are the same.
        """
        config, revision = self.config, self._revision
        if revision is None or self.training:
            if config.codes_revision and self._codes_fingerprint() == config.codes_fingerprint:
                revision = config.codes_revision
            else:
                revision = fingerprint(self._meaning())
            self._revision = None if self.training else revision
        return CodecIdentity(
            config.codec_id,
            revision,
            config.sampling_rate,
            config.hop_length,
            config.codebook_size,
            config.num_codebooks,
            config.num_masked_books,
        )

    def _meaning(self) -> dict[str, Tensor]:
        """The weights that say what codes mean."""
        state: dict[str, Tensor] = self.state_dict()
        return {name: value for name, value in state.items() if name not in _TRAINING_STATE}

    def _codes_fingerprint(self) -> str:
        """Hash of the weights that make codes of a waveform."""
        parts = ("encoder.", "quantizer.")
        return fingerprint({n: v for n, v in self._meaning().items() if n.startswith(parts)})

    def train(self, mode: bool = True) -> CodecModel:
        """Switch mode; weights that may change lose their cached hash."""
        self._revision = None
        super().train(mode)
        if self._has_frozen_codes:
            self.encoder.eval()
            self.quantizer.eval()  # else the codebooks would follow the averages
        return self

    def freeze_codes(self) -> None:
        """Train the decoder alone from here on: codes, and the revision they carry, stay as they are."""
        self.config.codes_revision = self.identity.revision
        self.config.codes_fingerprint = self._codes_fingerprint()
        self._has_frozen_codes = True
        self.encoder.requires_grad_(False)
        self.train(self.training)

    def load_state_dict(self, *args: object, **kwargs: object) -> object:
        """As in torch; the cached hash is dropped."""
        self._revision = None
        return super().load_state_dict(*args, **kwargs)  # type: ignore[arg-type]

    def require_books(self, num_books: int | None) -> int:
        """The number of books that `num_books` asks for; None asks for all.

        Raises:
            ConfigError: If it is out of range.
        """
        most, fewest = self.config.num_codebooks, max(1, self.config.num_masked_books)
        if num_books is not None and not fewest <= num_books <= most:
            raise ConfigError(
                f"num_books is {num_books}; codec {self.config.codec_id} takes {fewest} to {most}, "
                "since its masked books only make sense together."
            )
        return most if num_books is None else num_books

    def require_codes(self, codes: Tensor) -> None:
        """Refuse int64 `[B, k, T]` that cannot be decoded.

        Raises:
            ConfigError: If k or a code is out of range.
        """
        self.require_books(codes.shape[1])
        entries = self.config.codebook_size
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < entries:
            raise ConfigError(
                f"A code lies outside 0 to {entries - 1}; these are not codes of "
                f"{self.config.codec_id}."
            )

    def _whole(self, input_values: Tensor, padding_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Waveform `[B, L]` and the samples of each item `[B]`."""
        waveform = input_values[:, 0] if input_values.dim() == 3 else input_values
        if padding_mask is None:
            full = torch.full((len(waveform),), waveform.shape[-1], device=waveform.device)
            return waveform, full
        return waveform, padding_mask.flatten(1).long().sum(-1)

    @torch.no_grad()
    def encode(
        self, input_values: Tensor, padding_mask: Tensor | None = None, num_books: int | None = None
    ) -> CodecEncoderOutput:
        """Waveform to codes, in blocks, so that memory does not grow with the length.

        Args:
            input_values: float `[B, L]` or `[B, 1, L]` at `config.sampling_rate`.
            padding_mask: Same shape, 1 where there is signal; items are right-padded.
            num_books: Books to give, from the masked count (at least 1) to K; None for all.

        Returns:
            `audio_codes [B, num_books, ceil(L / hop)]`; 0 in padding frames.

        Raises:
            ConfigError: If `num_books` is out of range.
        """
        waveform, lengths = self._whole(input_values, padding_mask)
        blocks = encode_blocks(self, waveform, lengths, num_books)
        return CodecEncoderOutput(audio_codes=torch.cat(list(blocks), -1))

    @torch.no_grad()
    def decode(
        self, audio_codes: Tensor, padding_mask: Tensor | None = None, noise_seed: int = 0
    ) -> CodecDecoderOutput:
        """Codes to waveform, in blocks.

        Args:
            audio_codes: int64 `[B, k, T]`, k from the masked count (at least 1) to K.
            padding_mask: bool `[B, T]`, frames that exist, items right-padded; None for all.
            noise_seed: Seed of the noise source.

        Returns:
            `audio_values [B, T * hop]`.

        Raises:
            ConfigError: If k or a code is out of range.
        """
        self.require_codes(audio_codes)
        if padding_mask is None:
            lengths = torch.full((len(audio_codes),), audio_codes.shape[-1])
        else:
            lengths = padding_mask.long().sum(-1)
        audio = self._decoded(audio_codes, lengths, noise_seed, self.device)
        return CodecDecoderOutput(audio_values=audio)

    def _decoded(
        self, codes: Tensor, lengths: Tensor, noise_seed: int, device: torch.device
    ) -> Tensor:
        """`[B, T * hop]` on `device`; blocks go straight to their place."""
        audio = torch.empty(len(codes), codes.shape[-1] * self.config.hop_length, device=device)
        start = 0
        for block in decode_blocks(self, codes, lengths, noise_seed):
            audio[:, start : start + block.shape[1]] = block
            start += block.shape[1]
        return audio

    def forward(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        num_books: Tensor | int | None = None,
        pitch_hz: Tensor | None = None,
        voicing: Tensor | None = None,
        noise_seed: int = 0,
    ) -> CodecOutput:
        """Encode, quantize and decode in one differentiable pass.

        Args:
            input_values, padding_mask: As in `encode`.
            num_books: Books decoded from, one number or one an item `[B]`; None for all.
            pitch_hz, voicing: `[B, T * upsampling]`, true pitch (positive) and voicing for the source
                while training; None lets the decoder use its own prediction.
            noise_seed: Seed of the noise source.
        """
        waveform, lengths = self._whole(input_values, padding_mask)
        hop = self.config.hop_length
        if padding_mask is not None:
            waveform = waveform * padding_mask.flatten(1)
        waveform = F.pad(waveform, (0, -waveform.shape[-1] % hop))
        mask = frame_mask(-(-lengths // hop), waveform.shape[-1] // hop)
        books = self.config.num_codebooks if num_books is None else num_books
        quantized: Quantized = self.quantizer(self.encoder(waveform, mask), mask, books)
        synthesis: Synthesis = self.decoder(
            quantized.latent * mask, mask, pitch_hz, voicing, noise_seed
        )
        return CodecOutput(
            audio_codes=quantized.codes,
            audio_values=synthesis.waveform[:, : input_values.shape[-1]],
            commitment_loss=quantized.commitment_loss,
            log_pitch=synthesis.log_pitch,
            voicing_logit=synthesis.voicing_logit,
        )

    @torch.inference_mode()
    def tokenize(
        self, waveforms: Sequence[Tensor | NDArray[np.floating]], num_books: int | None = None
    ) -> Codes:
        """Waveforms of any lengths to `Codes`, in one padded batch.

        Args:
            waveforms: float `[L_i]` each, at `config.sampling_rate`, at least one sample.
            num_books: As in `encode`.

        Raises:
            UnsupportedAudio: If there is no waveform, or one is empty or not finite.
        """
        if isinstance(waveforms, (Tensor, np.ndarray)):
            raise UnsupportedAudio("`tokenize` takes a list of waveforms; give [waveform] for one.")
        signals = [as_samples(waveform) for waveform in waveforms]
        if not signals:
            raise UnsupportedAudio("There is no waveform to tokenize; give at least one.")
        for waveform in signals:
            if waveform.dim() != 1 or not len(waveform):
                raise UnsupportedAudio(
                    "A waveform to tokenize must be one-dimensional and hold at least one sample."
                )
            if not is_finite(waveform):
                raise UnsupportedAudio(
                    "A waveform to tokenize contains samples that are NaN or infinite."
                )
        lengths = torch.tensor([len(waveform) for waveform in signals])
        if len(signals) == 1:
            batch = signals[0][None].to(self.device)
        else:
            batch = nn.utils.rnn.pad_sequence(signals, batch_first=True).to(self.device)
        blocks = encode_blocks(self, batch, lengths, num_books)
        return Codes(torch.cat(list(blocks), -1).cpu(), lengths, self.identity)

    @torch.inference_mode()
    def synthesize(self, codes: Codes, noise_seed: int = 0) -> list[Tensor]:
        """`Codes` to waveforms, each as long as its original.

        Raises:
            ModelMismatch: If another codec made the codes.
        """
        self.identity.require(codes.identity, "This code sequence")
        audio = self._decoded(codes.values, codes.lengths, noise_seed, torch.device("cpu"))
        return [audio[i, :length] for i, length in enumerate(codes.num_samples.tolist())]


AutoConfig.register(CodecConfig.model_type, CodecConfig, exist_ok=True)
AutoModel.register(CodecConfig, CodecModel, exist_ok=True)


def load_codec(folder: Path | None = None) -> CodecModel:
    """Load a codec folder, or the weights that ship with speechlm.

    Raises:
        CorruptWeights: If the folder or its tensors are not a codec's.
        ConfigError: If its config.json is refused.
    """
    if folder is None:
        folder = Path(str(importlib.resources.files(__package__))) / "weights"
    require_model_folder(folder)
    return load_model(Path(folder), CodecModel)
