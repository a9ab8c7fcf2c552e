"""The speaker in the shape of the Hub: a composite model with `generate`, found by the Auto classes.

A folder holds `config.json` and `processor_config.json` beside the folders `ar`, `nar` and `codec`
that `Speaker.from_pretrained` reads, so one folder serves both doors, and both check it alike.
"""

# No `from __future__ import annotations` here: the Hub's `strict` checks no type that is a string.
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTextToWaveform,
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import ModelOutput

from ..errors import ConfigError, CorruptWeights
from ..tokenizer.codec import CodecModel
from ..tokenizer.files import write_atomically
from ..tokenizer.model_folder import read_config, save_model
from .generate import generate_batch
from .processing import SpeechProcessor, SpeechTokenizer, decode_codes, local_folder
from .projections import Precision
from .prompt import Voice
from .sampling import SamplingConfig, generator_of
from .silence import silent_codes
from .speak import Speaker
from .text import PAD

# Sampling options of transformers' generation configuration that mean the same here.
_SHARED = ("temperature", "top_k", "top_p")
# What pipelines add on their own account.
_IGNORED = {"return_dict_in_generate", "output_audio", "pad_token_id"}


@strict
class SpeechConfig(PreTrainedConfig):
    """Configuration of `SpeechModel`: what its parts agree on; each part brings its own.

    Attributes:
        sampling_rate: Samples per second of what is spoken.
        hop_length: Samples per frame.
        codec_id, codec_revision: The codec whose codes the parts speak.
    """

    model_type = "speechlm"

    sampling_rate: int = 16_000
    hop_length: int = 320
    codec_id: str = ""
    codec_revision: str = ""


@dataclass
class SpeechOutput(ModelOutput):
    """What `SpeechModel.generate` gives.

    Attributes:
        audio: float32 `[L_i]` of each item.
        audio_codes: int64 `[K, T_i]` of each item.
        finish_reasons: `end` or `length` of each item.
    """

    audio: list[Tensor] | None = None
    audio_codes: list[Tensor] | None = None
    finish_reasons: list[str] | None = None


class SpeechModel(PreTrainedModel):
    """Language models and codec as one model: `input_ids` and a voice in, `audio` out.

    Args:
        config: As `SpeechModel.of` makes it.
        speaker: The parts. They come from a folder; a model of random weights is not made here.

    Example:
        >>> processor = AutoProcessor.from_pretrained(folder)
        >>> model = AutoModelForTextToWaveform.from_pretrained(folder)
        >>> audio = model.generate(**processor("Any sentence.", voice="some.wav")).audio[0]
    """

    config_class = SpeechConfig
    config: SpeechConfig
    base_model_prefix = "speech"
    main_input_name = "input_ids"

    def __init__(self, config: SpeechConfig, speaker: Speaker | None = None) -> None:
        super().__init__(config)
        if speaker is None or not isinstance(speaker.codec, CodecModel):
            raise ConfigError(
                "A SpeechModel is put together of trained parts; use SpeechModel.from_pretrained, "
                "or SpeechModel.of with a speaker."
            )
        self.ar, self.nar, self.codec = speaker.ar, speaker.nar, speaker.codec
        # more than any text asks for: what ends an utterance is its text
        self.generation_config = GenerationConfig(max_new_tokens=1 << 14, do_sample=True)
        self._silent_codes: Tensor | None = None
        self.eval()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Parts come with their weights."""

    @classmethod
    def of(cls, speaker: Speaker) -> Self:
        """The model of a speaker's parts, which both then share."""
        identity = speaker.codec.identity
        config = SpeechConfig(
            sampling_rate=identity.sampling_rate,
            hop_length=identity.hop_length,
            codec_id=identity.codec_id,
            codec_revision=identity.revision,
        )
        return cls(config, speaker)

    @classmethod
    def can_generate(cls) -> bool:
        """Yes, by a loop of its own: a frame has several codes, and a pointer walks beside them."""
        return True

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None = None,
        *_: Any,
        revision: str | None = None,
        cache_dir: str | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        precision: Precision | Literal["auto"] = "fp32",
        **_ignored: Any,
    ) -> Self:
        """Load a folder, a repository of the Hub, or (None) the models that ship with speechlm.

        Args:
            pretrained_model_name_or_path: A folder that `Speaker.from_pretrained` takes, or a name.
            revision: Of a repository.
            cache_dir: As in transformers.
            local_files_only: As in transformers.
            token: As in transformers.
            precision: As in `Speaker.from_pretrained`, but in `fp32`, where a batch is what each
                text alone is, unless another is chosen.

        Raises:
            CorruptWeights: If a part is missing or damaged.
            ConfigError: If a configuration or the precision is refused.
            ModelMismatch: If the parts do not belong together.
        """
        folder = local_folder(
            pretrained_model_name_or_path,
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
        )
        model = cls.of(Speaker.from_pretrained(folder, precision=precision))
        model.name_or_path = str(folder)
        if (folder / "config.json").is_file():
            wanted = read_config(folder, SpeechConfig)
            if wanted.codec_revision not in ("", model.config.codec_revision):
                raise CorruptWeights(
                    f"{folder} was written with codec revision {wanted.codec_revision}, but its "
                    f"codec is of revision {model.config.codec_revision}; restore the folder."
                )
        return model

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | os.PathLike[str], **_: Any
    ) -> None:
        """Write the folder: every part in float32, and what AutoConfig and AutoModel read."""
        folder = Path(save_directory)
        for name, part in (("ar", self.ar), ("nar", self.nar), ("codec", self.codec)):
            if part is not None:
                save_model(part, folder / name, "float32")
        self.config.architectures = [type(self).__name__]
        write_atomically(
            folder / "config.json", self.config.to_json_string(use_diff=False).encode()
        )
        SpeechProcessor(SpeechTokenizer(self.ar.vocabulary), self.codec).save_pretrained(folder)

    @torch.inference_mode()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        prompt_codes: Tensor | None = None,
        prompt_symbols: Tensor | None = None,
        prompt_pointer: Tensor | None = None,
        input_values: Tensor | None = None,
        padding_mask: Tensor | None = None,
        *,
        max_new_tokens: int | None = None,
        do_sample: bool = True,
        seed: int | None = None,
        num_candidates: int = 1,
        generation_config: GenerationConfig | None = None,
        **options: Any,
    ) -> SpeechOutput:
        """Speak; arguments as `SpeechProcessor` gives them.

        Args:
            input_ids: int64 `[B, S]`, symbols of the texts, padded on the right.
            attention_mask: int64 `[B, S]`, 1 where there is a symbol.
            prompt_codes: int64 `[1, K, P]`, a prepared voice for all items.
            prompt_symbols: int64 `[1, S]`, its text.
            prompt_pointer: int64 `[1, P]`, the symbol under each of its frames.
            input_values: float `[1 or B, 1, L]`, prompt recordings in place of a prepared voice.
            padding_mask: int64 `[1 or B, 1, L]`, where they have samples.
            max_new_tokens: Cap on the frames; the text's own if None.
            do_sample: False takes the likeliest code.
            seed: The same seed, the same speech; None draws from torch's global generator.
            num_candidates: As in `generate_batch`.
            generation_config: `temperature`, `top_k`, `top_p`, `do_sample` and `max_new_tokens`
                that it sets are used where the call sets none.
            **options: Fields of `SamplingConfig`.

        Raises:
            ConfigError: If an option is unknown or there is no prompt.
        """
        given = {} if generation_config is None else generation_config.to_diff_dict()
        options = {k: v for k, v in options.items() if k not in _IGNORED}
        options = {k: given[k] for k in _SHARED if k in given} | options
        if not (do_sample and given.get("do_sample", True)):
            options["temperature"] = 0.0
        if max_new_tokens is None:
            max_new_tokens = given.get("max_new_tokens")
        lengths = (input_ids != PAD if attention_mask is None else attention_mask).sum(1)
        texts = [row[:length] for row, length in zip(input_ids, lengths.tolist(), strict=True)]
        if prompt_codes is not None:
            voices = [self._voice(prompt_codes, prompt_symbols, prompt_pointer)]
        elif input_values is not None:
            voices = self._encoded(input_values, padding_mask)
        else:
            raise ConfigError("There is no voice; give the output of a SpeechProcessor.")
        if self._silent_codes is None and not self.ar.uses_pointer:
            self._silent_codes = silent_codes(self.codec)
        spoken = generate_batch(
            self.ar,
            self.nar,
            texts,
            voices * len(texts) if len(voices) == 1 else voices,
            sampling=SamplingConfig.of(options),
            max_frames=max_new_tokens,
            generators=None
            if seed is None
            else [generator_of(seed, item) for item in range(len(texts))],
            silent_codes=self._silent_codes,
            num_candidates=num_candidates,
        )
        codes = [item.codes for item in spoken]
        return SpeechOutput(
            audio=decode_codes(self.codec, codes),
            audio_codes=codes,
            finish_reasons=[item.finish_reason for item in spoken],
        )

    def forward(self, *args: Any, **kwargs: Any) -> SpeechOutput:
        """Speak, as `generate` does; the parts are trained each on its own."""
        return self.generate(*args, **kwargs)

    def _voice(self, codes: Tensor, symbols: Tensor | None, pointer: Tensor | None) -> Voice:
        identity = self.codec.identity
        if symbols is None or pointer is None:
            return Voice.without_text(codes[0], identity)
        return Voice(codes[0], symbols[0], pointer[0], identity)

    def _encoded(self, input_values: Tensor, padding_mask: Tensor | None) -> list[Voice]:
        hop = self.codec.identity.hop_length
        waveforms: Sequence[Tensor] = list(input_values.flatten(1))
        if padding_mask is not None:
            counts = padding_mask.flatten(1).sum(1).tolist()
            waveforms = [w[:count] for w, count in zip(waveforms, counts, strict=True)]
        voices = []
        for waveform in waveforms:  # one by one: equal to a speaker's, to the bit
            codes = self.codec.tokenize([waveform[: len(waveform) - len(waveform) % hop]])
            voices.append(Voice.without_text(codes.item(0), codes.identity))
        return voices


AutoConfig.register(SpeechConfig.model_type, SpeechConfig, exist_ok=True)
AutoModel.register(SpeechConfig, SpeechModel, exist_ok=True)
AutoModelForTextToWaveform.register(SpeechConfig, SpeechModel, exist_ok=True)
AutoTokenizer.register(SpeechConfig, slow_tokenizer_class=SpeechTokenizer, exist_ok=True)
AutoProcessor.register(SpeechConfig, SpeechProcessor, exist_ok=True)
