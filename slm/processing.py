"""Tokenizer and processor: texts and a voice to what `SpeechModel.generate` takes, codes to sound."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchEncoding, BatchFeature, PreTrainedTokenizer, ProcessorMixin

from ..errors import UnsupportedAudio
from ..tokenizer.audio import write_audio
from ..tokenizer.codec import CodecModel, load_codec
from ..tokenizer.codes import Codes
from ..tokenizer.files import write_atomically
from ..tokenizer.model_folder import load_model, read_config
from .autoregressive import AutoregressiveModel
from .config import AutoregressiveConfig
from .prompt import Voice, read_prompt
from .shipped import VOICE_SUFFIX, find_voice, shipped_models
from .speech import SoftEdges
from .text import (
    PAD,
    SPECIALS,
    GivenPhonemes,
    SymbolTable,
    TextFrontEnd,
    Vocabulary,
    default_front_end,
    speakable,
)
from .voice_file import load_voice

Texts = str | Sequence[str]


def local_folder(
    name: str | os.PathLike[str] | None,
    *,
    revision: str | None = None,
    cache_dir: str | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Path:
    """The folder that a name means: a folder, a repository of the Hub, or (None) the shipped models."""
    if name is None:
        return shipped_models()
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            os.fspath(name),
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
            allow_patterns=["*.json", "*.safetensors", "*.md"],
        )
    )


def _own(options: dict[str, Any]) -> dict[str, Any]:
    known = ("revision", "cache_dir", "local_files_only", "token")
    return {name: options[name] for name in known if name in options}


class SpeechTokenizer(PreTrainedTokenizer):
    """Text to the symbols or pieces of a language model, boundaries included.

    Args:
        vocabulary: The model's.
        front_end: Text to phonemes, for a model of symbols; the best one installed if None.
    """

    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012 - transformers' own

    def __init__(
        self,
        vocabulary: Vocabulary | None = None,
        front_end: TextFrontEnd | None = None,
        **kwargs: Any,
    ) -> None:
        self.vocabulary: Vocabulary = SymbolTable() if vocabulary is None else vocabulary
        self.front_end = front_end
        kwargs.setdefault("pad_token", SPECIALS[PAD])
        super().__init__(**kwargs)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None = None, *_: Any, **kw: Any
    ) -> Self:
        """Take the vocabulary from a folder's `ar`; arguments as for `SpeechModel`."""
        folder = local_folder(pretrained_model_name_or_path, **_own(kw))
        config = read_config(folder / "ar", AutoregressiveConfig)
        if config.num_pieces:
            return cls(load_model(folder / "ar", AutoregressiveModel).vocabulary)
        return cls(config.symbol_table)

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[()]:
        """Write nothing: the vocabulary is part of the language model."""
        return ()

    def save_pretrained(self, save_directory: str | os.PathLike[str], **_: Any) -> tuple[()]:  # type: ignore[override]
        """Write nothing: the vocabulary is part of the language model."""
        return ()

    @property
    def vocab_size(self) -> int:
        """Number of ids, specials included."""
        return self.vocabulary.size

    def get_vocab(self) -> dict[str, int]:
        """Names to ids: the symbols, or the numbers of pieces."""
        if isinstance(self.vocabulary, SymbolTable):
            return {symbol: i for i, symbol in enumerate(self.vocabulary.symbols)}
        names = {name: i for i, name in enumerate(SPECIALS)}
        return names | {f"<{i}>": i for i in range(len(SPECIALS), self.vocab_size)}

    def encode(self, text: str, **_: Any) -> list[int]:  # type: ignore[override]
        """Ids of one text.

        Raises:
            UnsupportedText: If there is nothing to speak in it.
        """
        if not isinstance(self.vocabulary, SymbolTable):
            return self.vocabulary.encode(speakable(text)[0])
        self.front_end = self.front_end or default_front_end()
        phonemes = self.front_end.phonemize(text)
        if not isinstance(self.front_end, GivenPhonemes):
            phonemes = self.vocabulary.clean(phonemes)
        return self.vocabulary.encode(phonemes)

    def decode(self, token_ids: Any, **_: Any) -> str:  # type: ignore[override]
        """The phonemes or the text of ids, specials left out."""
        return self.vocabulary.decode(torch.as_tensor(token_ids).tolist())

    def __call__(  # type: ignore[override]
        self, text: Texts, return_tensors: str | None = "pt", **_: Any
    ) -> BatchEncoding:
        """`input_ids` and `attention_mask`, int64 `[B, S]`, padded on the right."""
        rows = [torch.tensor(self.encode(t)) for t in ([text] if isinstance(text, str) else text)]
        masks = [torch.ones_like(row) for row in rows]
        columns = {"input_ids": rows, "attention_mask": masks}
        padded = {name: pad_sequence(row, batch_first=True) for name, row in columns.items()}
        if return_tensors == "pt":
            return BatchEncoding(padded)
        return BatchEncoding({k: v.numpy() for k, v in padded.items()}, tensor_type=return_tensors)


class SpeechProcessor(ProcessorMixin):
    """Texts and a voice to the inputs of `SpeechModel.generate`; codes to sound.

    Args:
        tokenizer: Text to symbols.
        codec: What the models speak; the shipped one if None, loaded when it is needed.
    """

    def __init__(self, tokenizer: SpeechTokenizer, codec: CodecModel | None = None) -> None:
        self.tokenizer = tokenizer
        self.chat_template = None
        self._codec = codec
        self._folder: Path | None = None

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None = None, **kwargs: Any
    ) -> Self:
        """As `SpeechModel.from_pretrained`; the codec is loaded when it is needed."""
        folder = local_folder(pretrained_model_name_or_path, **_own(kwargs))
        processor = cls(SpeechTokenizer.from_pretrained(folder))
        processor._folder = folder
        return processor

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | os.PathLike[str], **_: Any
    ) -> list[str]:
        """Write what AutoProcessor looks for; vocabulary and codec are the model's to write."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "processor_config.json"
        write_atomically(path, b'{"processor_class": "SpeechProcessor"}\n')
        return [str(path)]

    @property
    def codec(self) -> CodecModel:
        """The codec of the models."""
        if self._codec is None:
            own = None if self._folder is None else self._folder / "codec"
            self._codec = load_codec(own if own is not None and own.is_dir() else None)
        return self._codec

    @property
    def sampling_rate(self) -> int:
        """Samples per second."""
        return self.codec.config.sampling_rate

    def __call__(  # type: ignore[override]
        self,
        text: Texts,
        voice: str | os.PathLike[str] | Tensor | np.ndarray | Voice | None = None,
        sampling_rate: int | None = None,
        return_tensors: str | None = "pt",
        **_: Any,
    ) -> BatchFeature:
        """Make the inputs of `SpeechModel.generate`.

        Args:
            text: One text or several.
            voice: A recording, a waveform `[L]`, a shipped voice's name, a prepared voice or its
                file, for all texts; None takes the first shipped voice.
            sampling_rate: Rate of a waveform; the codec's if None.
            return_tensors: Only `pt`.

        Raises:
            UnsupportedText: If there is nothing to speak.
            UnsupportedAudio: If the recording cannot be a prompt.
        """
        inputs: dict[str, Tensor] = dict(self.tokenizer(text))
        if isinstance(voice, np.ndarray):
            voice = torch.from_numpy(voice)
        if not isinstance(voice, (Tensor, Voice)):
            voice = find_voice(voice)
            if voice.suffix == VOICE_SUFFIX:
                voice = load_voice(voice)
        if isinstance(voice, Voice):
            self.codec.identity.require(voice.identity, "The voice")
            inputs["prompt_codes"] = voice.codes[None]
            inputs["prompt_symbols"] = voice.symbols[None]
            inputs["prompt_pointer"] = voice.pointer[None]
        else:
            prompt = read_prompt(voice, self.sampling_rate, source_rate=sampling_rate)
            inputs["input_values"] = prompt[None, None]
            inputs["padding_mask"] = torch.ones(1, 1, len(prompt), dtype=torch.int64)
        return BatchFeature(inputs)

    def decode(self, audio_codes: Tensor, **_: Any) -> Tensor:  # type: ignore[override]
        """Waveform float32 `[L]` of codes int64 `[K, T]`."""
        return decode_codes(self.codec, [audio_codes])[0]

    def batch_decode(self, audio_codes: Sequence[Tensor], **_: Any) -> list[Tensor]:  # type: ignore[override]
        """Waveforms float32 `[L_i]` of codes int64 `[K, T_i]`."""
        return decode_codes(self.codec, audio_codes)

    def save_audio(
        self, audio: Tensor | Sequence[Tensor], path: str | os.PathLike[str] | Sequence[str]
    ) -> None:
        """Write a waveform to a file, or several to as many.

        Raises:
            UnsupportedAudio: If there are not as many files as waveforms.
        """
        waveforms = [audio] if isinstance(audio, Tensor) else list(audio)
        paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
        if len(waveforms) != len(paths):
            raise UnsupportedAudio(
                f"{len(waveforms)} waveforms came with {len(paths)} file names; give one each."
            )
        for waveform, name in zip(waveforms, paths, strict=True):
            write_audio(Path(name), waveform, self.sampling_rate)


def decode_codes(codec: CodecModel, codes: Sequence[Tensor]) -> list[Tensor]:
    """Waveforms float32 `[L_i]` of codes int64 `[k, T_i]`, faded at both ends."""
    audio = []
    for item in codes:
        edges = SoftEdges(codec.config.sampling_rate)
        num_samples = torch.tensor([item.shape[1] * codec.config.hop_length])
        decoded = codec.synthesize(Codes(item[None], num_samples, codec.identity))[0]
        audio.append(torch.cat((edges.push(decoded), edges.flush())))
    return audio
