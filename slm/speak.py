"""`Speaker`: a text and a recording of a voice in, speech in that voice out."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from ..errors import ConfigError, CorruptWeights, UnsupportedAudio, UnsupportedText
from ..tokenizer.codec import load_codec
from ..tokenizer.codes import CodecIdentity, Codes
from ..tokenizer.model_folder import load_model
from .autoregressive import AutoregressiveModel
from .forced_alignment import align
from .generate import Generation, generate_batch
from .nonautoregressive import NonAutoregressiveModel
from .prompt import Voice, read_prompt
from .sampling import SamplingConfig
from .text import (
    GivenPhonemes,
    SymbolTable,
    TextFrontEnd,
    Vocabulary,
    default_front_end,
    has_words,
    split_sentences,
)

BATCH_SIZE = 8  # sentences of a long text spoken at once
PAUSE_SECONDS = 0.15  # between sentences; each brings some silence of its own
FADE_SECONDS = 0.005  # a waveform cut at a sample that is not zero clicks
RESIDUAL_TEMPERATURE = 0.5


class Codec(Protocol):
    """What a speaker asks of a codec; `CodecModel` is one."""

    @property
    def identity(self) -> CodecIdentity:
        """What its codes carry."""
        ...

    def tokenize(self, waveforms: Sequence[Tensor], num_books: int | None = None) -> Codes:
        """Waveforms `[L_i]` to codes."""
        ...

    def synthesize(self, codes: Codes) -> list[Tensor]:
        """Codes to waveforms `[L_i]`."""
        ...


@dataclass(frozen=True)
class Speech:
    """What `Speaker.say` gives.

    Attributes:
        waveform: float32 `[L]`, within -1 to 1.
        sampling_rate: Samples per second.
        finish_reason: `end`, or `length` if some sentence was cut at its cap on frames.
        compute_seconds: Wall time of the call.
        notes: Sentences that the user should see.
    """

    waveform: Tensor
    sampling_rate: int
    finish_reason: Literal["end", "length"]
    compute_seconds: float
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.waveform) / self.sampling_rate


class Speaker:
    """A codec, its language models and a text front end, ready to speak.

    Args:
        codec: Makes codes from the prompt, and the waveform from the models' codes.
        ar: Model of the leading books.
        nar: Model of the other books; None if `ar` predicts enough of them to decode.
        front_end: Text to phonemes; the best one installed if None. A model of pieces takes none.

    Raises:
        ConfigError: If a front end is given to a model of pieces.
        ModelMismatch: If the models were trained on another codec's codes.
        CorruptWeights: If without `nar` too few books are there to decode.
    """

    def __init__(
        self,
        codec: Codec,
        ar: AutoregressiveModel,
        nar: NonAutoregressiveModel | None = None,
        front_end: TextFrontEnd | None = None,
    ) -> None:
        codec.identity.require(ar.config.codec_identity, "The autoregressive model")
        if nar is not None:
            codec.identity.require(nar.config.codec_identity, "The non-autoregressive model")
        elif ar.config.ar_books < codec.identity.min_codebooks:
            raise CorruptWeights(
                f"The autoregressive model predicts {ar.config.ar_books} books, the codec decodes "
                f"from {codec.identity.min_codebooks} on; add the non-autoregressive model."
            )
        self.codec = codec
        self.ar = ar.eval()
        self.nar = None if nar is None else nar.eval()
        self.symbols: Vocabulary = ar.vocabulary
        self.front_end = front_end
        if isinstance(self.symbols, SymbolTable):
            self.front_end = front_end or default_front_end()
        elif front_end is not None:
            raise ConfigError("The model reads pieces of text, not phonemes; give no front end.")

    @classmethod
    def from_pretrained(
        cls,
        folder: str | os.PathLike[str] | None = None,
        *,
        codec: Codec | None = None,
        front_end: TextFrontEnd | None = None,
    ) -> Speaker:
        """Load a model folder, or the models that ship with speechlm.

        Args:
            folder: Holds `ar/`, where that model leaves books open `nar/`, and, if the models do
                not speak the shipped codec's codes, `codec/`.
            codec: Takes the place of the folder's or the shipped codec.
            front_end: As for a `Speaker`.

        Raises:
            CorruptWeights: If a model is missing or its tensors are not what they should be.
            ConfigError: If a configuration is refused.
            ModelMismatch: If the models and the codec do not belong together.
        """
        root = _shipped() if folder is None else Path(folder)
        if not (root / "ar").is_dir():
            raise CorruptWeights(
                f"{root} has no folder `ar` with a language model; give a folder that holds an "
                "exported AR model as `ar` and, if that leaves books open, a NAR model as `nar`."
            )
        ar = load_model(root / "ar", AutoregressiveModel)
        has_nar = (root / "nar").is_dir()
        nar = load_model(root / "nar", NonAutoregressiveModel) if has_nar else None
        if codec is None:
            codec = load_codec(root / "codec" if (root / "codec").is_dir() else None)
        return cls(codec, ar, nar, front_end)

    @property
    def sampling_rate(self) -> int:
        """Samples per second of what is spoken."""
        return self.codec.identity.sampling_rate

    def prepare_voice(
        self,
        prompt: str | os.PathLike[str] | Tensor | None = None,
        *,
        sampling_rate: int | None = None,
        prompt_text: str | None = None,
    ) -> Voice:
        """Turn a recording into a voice that serves any number of texts.

        Args:
            prompt: A file in any format and rate, a shipped voice's name, or a waveform float `[L]`;
                None takes the first shipped voice.
            sampling_rate: Rate of a waveform; the codec's if None.
            prompt_text: What the recording says. None is the usual way; a transcript is aligned
                with the recording, which takes about its duration.

        Raises:
            UnsupportedAudio: If the recording cannot be a prompt.
            UnsupportedText: If the transcript cannot be spoken or cannot fit the recording.
        """
        waveform = read_prompt(
            prompt if isinstance(prompt, Tensor) else find_voice(prompt),
            self.sampling_rate,
            source_rate=sampling_rate,
            is_whole=prompt_text is not None,
        )
        whole_frames = len(waveform) - len(waveform) % self.codec.identity.hop_length
        codes = self.codec.tokenize([waveform[:whole_frames]])
        voice = Voice.without_text(codes.item(0), codes.identity)
        if prompt_text is None:
            return voice
        symbols = self.encode(prompt_text)
        pointer = align(self.ar, symbols, voice) if self.ar.uses_pointer else voice.pointer
        return Voice(voice.codes, symbols, pointer, voice.identity)

    def encode(self, text: str) -> Tensor:
        """Symbols of a text, int64 `[S]`.

        Raises:
            UnsupportedText: If there is nothing in it that the models can speak.
        """
        if not isinstance(self.symbols, SymbolTable) or self.front_end is None:
            if not has_words(text):
                raise UnsupportedText(
                    f"There is nothing to speak in {text[:40]!r}; give a text with words."
                )
            return torch.tensor(self.symbols.encode(text))
        phonemes = self.front_end.phonemize(text)
        if not isinstance(self.front_end, GivenPhonemes):  # what is given is refused, not mended
            phonemes = self.symbols.clean(phonemes)
        return torch.tensor(self.symbols.encode(phonemes))

    def say(
        self,
        text: str,
        prompt: str | os.PathLike[str] | Tensor | Voice | None = None,
        *,
        sampling_rate: int | None = None,
        prompt_text: str | None = None,
        seed: int = 0,
        temperature: float = 0.7,
        residual_temperature: float | None = None,
        top_k: int = 30,
        top_p: float = 1.0,
        repetition_window: int | None = None,
        max_seconds: float | None = None,
    ) -> Speech:
        """Speak a text in the voice of a recording; clone only voices whose owners agreed to it.

        A long text is cut into sentences, all spoken with the same prompt.

        Args:
            text: What to say.
            prompt: As in `prepare_voice`, or a voice that it made.
            sampling_rate: Rate of a waveform; the codec's if None.
            prompt_text: As in `prepare_voice`.
            seed: The same seed gives the same speech.
            temperature: Of the masked books.
            residual_temperature: Of the residual books; at most 0.5 if None.
            top_k: As in `SamplingConfig`.
            top_p: As in `SamplingConfig`.
            repetition_window: As in `SamplingConfig`.
            max_seconds: Cap on each sentence; the text's own if None.

        Raises:
            UnsupportedText: If there is nothing to speak.
            UnsupportedAudio: If the prompt cannot be one.
            ConfigError: If a sampling option is out of range.
        """
        began = time.perf_counter()
        if residual_temperature is None:
            residual_temperature = min(temperature, RESIDUAL_TEMPERATURE)
        sampling = SamplingConfig(
            temperature, residual_temperature, top_k, top_p, repetition_window
        )
        texts = [self.encode(sentence) for sentence in split_sentences(text)]
        voice = (
            prompt
            if isinstance(prompt, Voice)
            else self.prepare_voice(prompt, sampling_rate=sampling_rate, prompt_text=prompt_text)
        )
        max_frames = None
        if max_seconds is not None:
            max_frames = max(1, round(max_seconds * self.codec.identity.frame_rate_hz))
        spoken: list[Generation] = []
        for first in range(0, len(texts), BATCH_SIZE):
            batch = texts[first : first + BATCH_SIZE]
            spoken += generate_batch(
                self.ar,
                self.nar,
                batch,
                [voice] * len(batch),
                sampling=sampling,
                max_frames=max_frames,
                generators=[_generator(seed, first + i) for i in range(len(batch))],
            )
        waveform = _join([self._decode(s) for s in spoken], self.sampling_rate)
        is_cut = any(s.finish_reason == "length" for s in spoken)
        note = self.front_end.note if self.front_end is not None else None
        notes = [note] if note else []
        if is_cut:
            notes.append("The speech was cut at its length limit; raise it, or use another seed.")
        return Speech(
            waveform,
            self.sampling_rate,
            "length" if is_cut else "end",
            time.perf_counter() - began,
            notes,
        )

    def _decode(self, generation: Generation) -> Tensor:
        identity = self.codec.identity
        num_samples = torch.tensor([generation.codes.shape[1] * identity.hop_length])
        codes = Codes(generation.codes[None], num_samples, identity)
        return self.codec.synthesize(codes)[0].clamp(-1, 1)


def shipped_voices() -> dict[str, Path]:
    """Short recordings of synthetic voices that ship with speechlm: name to file, in order."""
    return {path.stem: path for path in sorted((_shipped() / "voices").glob("*.opus"))}


def find_voice(prompt: str | os.PathLike[str] | None) -> Path:
    """The recording that a prompt means: a file, a shipped voice's name, or by default the first voice.

    Raises:
        UnsupportedAudio: If it is neither.
    """
    voices = shipped_voices()
    name = next(iter(voices), "") if prompt is None else os.fspath(prompt)
    found = Path(name) if Path(name).is_file() else voices.get(name)
    if found is None:
        raise UnsupportedAudio(
            f"The prompt {name!r} is neither a recording nor a shipped voice "
            f"({', '.join(voices) or 'none'}); give one of them."
        )
    return found


def _shipped() -> Path:
    return Path(str(files(__package__))) / "weights"


def _generator(seed: int, index: int) -> torch.Generator:
    """Each sentence's own source of chance; neighbouring seeds share none of them."""
    return torch.Generator().manual_seed((seed << 20) + index)


def _join(waveforms: list[Tensor], sampling_rate: int) -> Tensor:
    """Sentences one after the other, with faded edges and a short pause between."""
    pause = torch.zeros(round(PAUSE_SECONDS * sampling_rate))
    parts: list[Tensor] = []
    for waveform in waveforms:
        length = min(round(FADE_SECONDS * sampling_rate), len(waveform) // 2)
        ramp = torch.linspace(0, 1, length)
        faded = waveform.clone()
        faded[:length] *= ramp
        faded[len(faded) - length :] *= ramp.flip(0)
        parts += [faded, pause]
    return torch.cat(parts[:-1])
