"""`Speaker`: a text and a recording of a voice in, speech in that voice out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import ConfigError, CorruptWeights, SpeechLMError
from ..tokenizer.codec import CodecModel, load_codec
from ..tokenizer.codes import Codes
from ..tokenizer.model_folder import load_model
from .autoregressive import AutoregressiveModel
from .generate import Choice, Generation, generate_batch
from .jobs import Job, generate_lines, prepare_lines
from .lines import Line
from .nonautoregressive import NonAutoregressiveModel
from .projections import Precision
from .prompt import Voice
from .runtime import precision_of, set_precision, usual_precision
from .sampling import SamplingConfig
from .shipped import find_voice, shipped_models, shipped_voices
from .signs import note_on
from .silence import silent_codes
from .speech import SoftEdges, Speech, join_codes
from .streaming import CHUNK_FRAMES, FIRST_FRAMES, stream_speech
from .text import (
    GivenPhonemes,
    SymbolTable,
    TextFrontEnd,
    Vocabulary,
    default_front_end,
    speakable,
    split_sentences,
)
from .transcribe import Transcriber
from .voices import Codec, Prompt, prepare_voice

__all__ = ["Codec", "Line", "Speaker", "Speech", "find_voice", "shipped_voices"]

BATCH_SIZE = 8  # sentences spoken at once in fp32


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
        self._silence: Tensor | None = None
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
        precision: Precision | Literal["auto"] = "auto",
    ) -> Speaker:
        """Load a model folder, or the models that ship with speechlm.

        Args:
            folder: Holds `ar/`, where that model leaves books open `nar/`, and, if the models do
                not speak the shipped codec's codes, `codec/`. An exported AR model's own folder serves
                where it writes all books.
            codec: Takes the place of the folder's or the shipped codec.
            front_end: As for a `Speaker`.
            precision: Of the autoregressive model's weights while it writes frames: `fp32`, `bf16`,
                `int8`, or `auto`, which is `usual_precision`.

        Raises:
            CorruptWeights: If a model is missing or its tensors are not what they should be.
            ConfigError: If a configuration or the precision is refused.
            ModelMismatch: If the models and the codec do not belong together.
        """
        root = shipped_models() if folder is None else Path(folder)
        alone = not (root / "ar").is_dir()
        if alone and not (root / "model.safetensors").is_file():
            raise CorruptWeights(
                f"{root} has no folder `ar` with a language model; give a folder that holds an "
                "exported AR model as `ar` and, if that leaves books open, a NAR model as `nar`."
            )
        ar = load_model(root if alone else root / "ar", AutoregressiveModel)
        set_precision(ar, usual_precision() if precision == "auto" else precision)
        has_nar = (root / "nar").is_dir()
        nar = load_model(root / "nar", NonAutoregressiveModel) if has_nar else None
        if codec is None:
            codec = load_codec(root / "codec" if (root / "codec").is_dir() else None)
        return cls(codec, ar, nar, front_end)

    @property
    def sampling_rate(self) -> int:
        """Samples per second of what is spoken."""
        return self.codec.identity.sampling_rate

    @property
    def precision(self) -> Precision:
        """Of the autoregressive model while it writes frames; `set_precision` changes it."""
        return precision_of(self.ar)

    def prepare_voice(
        self,
        prompt: Prompt = None,
        *,
        sampling_rate: int | None = None,
        prompt_text: str | None = None,
        transcriber: Transcriber | None = None,
    ) -> Voice:
        """Turn a recording into a voice that serves any number of texts.

        Args:
            prompt: A file in any format and rate, a shipped voice's name, or a waveform float `[L]`;
                None takes the first shipped voice. A voice, or the file of one
                (`speechlm voice`), is checked and given back.
            sampling_rate: Rate of a waveform; the codec's if None.
            prompt_text: What the recording says. None is the usual way; a transcript is aligned
                with the recording, which takes about its duration.
            transcriber: Hears the transcript where `prompt_text` is None; what it hears is left out
                where it cannot be aligned with the recording.

        Raises:
            UnsupportedAudio: If the recording cannot be a prompt.
            UnsupportedText: If the transcript cannot be spoken or cannot fit the recording.
            CorruptCodes: If the file of a voice is damaged.
            ModelMismatch: If a prepared voice was made for another codec or other symbols.
        """
        return prepare_voice(
            prompt,
            self.codec,
            self.ar,
            self.encode,
            source_rate=sampling_rate,
            prompt_text=prompt_text,
            transcriber=transcriber,
        )

    def encode(self, text: str) -> Tensor:
        """Symbols of a text, int64 `[S]`.

        Raises:
            UnsupportedText: If there is nothing in it that the models can speak.
        """
        if not isinstance(self.symbols, SymbolTable) or self.front_end is None:
            return torch.tensor(self.symbols.encode(speakable(text)[0]))
        phonemes = self.front_end.phonemize(text)
        if not isinstance(self.front_end, GivenPhonemes):  # what is given is refused, not mended
            phonemes = self.symbols.clean(phonemes)
        return torch.tensor(self.symbols.encode(phonemes))

    def say(
        self,
        text: str,
        prompt: Prompt = None,
        *,
        sampling_rate: int | None = None,
        prompt_text: str | None = None,
        transcriber: Transcriber | None = None,
        seed: int = 0,
        max_seconds: float | None = None,
        num_candidates: int = 1,
        choose: Choice = "faithful",
        **sampling: Any,
    ) -> Speech:
        """Speak a text in the voice of a recording; clone only voices whose owners agreed to it.

        A long text is cut into sentences, all spoken with the same prompt.

        Args:
            text: What to say. Symbols without a reading, such as emoji, are left out; the result's
                `notes` name them.
            prompt: As in `prepare_voice`, or a voice that it made.
            sampling_rate: Rate of a waveform; the codec's if None.
            prompt_text, transcriber: As in `prepare_voice`.
            seed: The same seed, the same speech.
            max_seconds: Cap on each sentence; the text's own if None.
            num_candidates, choose: Takes of each sentence and which one is kept, as in
                `generate_batch`.
            **sampling: Fields of `SamplingConfig`: `temperature`, `top_k`, `top_p` and so on.

        Raises:
            UnsupportedText: If there is nothing to speak.
            UnsupportedAudio: If the prompt cannot be one.
            ConfigError: If an option is unknown or out of range.
        """
        began = time.perf_counter()
        voice = self.prepare_voice(
            prompt, sampling_rate=sampling_rate, prompt_text=prompt_text, transcriber=transcriber
        )
        spoken = self.say_many(
            [Line(text, voice, seed=seed)],
            max_seconds=max_seconds,
            num_candidates=num_candidates,
            choose=choose,
            **sampling,
        )
        return replace(next(spoken), compute_seconds=time.perf_counter() - began)

    def say_many(
        self,
        lines: Iterable[Line | str],
        *,
        max_seconds: float | None = None,
        num_candidates: int = 1,
        choose: Choice = "faithful",
        batch_size: int | None = None,
        transcriber: Transcriber | None = None,
        on_error: Callable[[int, SpeechLMError], None] | None = None,
        **sampling: Any,
    ) -> Iterator[Speech]:
        """Speak many lines; each comes out as `say` gives it. A prompt is prepared once.

        Args:
            lines: What to say, with prompts and seeds; `read_lines` reads them from a file.
            max_seconds, num_candidates, choose, transcriber: As in `say`.
            batch_size: Sentences, candidates included, generated together. None is 8 in fp32, and 1
                in other precisions, where a batch is rounded otherwise and gives other takes.
            on_error: Is told the place and the fault of each line that cannot be spoken, before
                the first one is; the others are spoken. None raises at the first fault.
            **sampling: As in `say`.

        Yields:
            One `Speech` a line without fault, in their order, as soon as it is there.

        Raises:
            SpeechLMError: As `say`, for any line, before the first one is spoken.
        """
        config = SamplingConfig.of(sampling)
        jobs = self._jobs(lines, transcriber, on_error)
        if batch_size is None:
            batch_size = BATCH_SIZE if self.precision == "fp32" else 1
        per_batch = max(1, batch_size // max(1, num_candidates))

        def generate(batch: Sequence[Job]) -> list[Generation]:
            return self._generate(batch, config, max_seconds, num_candidates, choose)

        spoken = generate_lines(jobs, per_batch, generate)
        # a line without fault has at least one sentence
        notes = [(line[0].voice.note, line[0].note) for line in jobs]
        return (
            self._speech(sentences, seconds, told)
            for (sentences, seconds), told in zip(spoken, notes, strict=True)
        )

    def speak_stream(
        self,
        text: str,
        prompt: Prompt = None,
        *,
        seed: int = 0,
        max_seconds: float | None = None,
        first_frames: int = FIRST_FRAMES,
        chunk_frames: int = CHUNK_FRAMES,
        **sampling: Any,
    ) -> Iterator[Tensor]:
        """Speak while the speech is being generated.

        The pieces put together are what `say` gives, to the bit where the autoregressive model
        writes all books.

        Args:
            text, seed, max_seconds: As in `say`.
            prompt: As in `say`; the first sound comes soonest with a prepared voice.
            first_frames: Frames of codes after which the first piece comes. The pieces then double
                up to `chunk_frames`.
            chunk_frames, **sampling: Most frames of a piece; as in `say`.

        Returns:
            Pieces of the waveform, float32 `[n]` at `sampling_rate`. What is wrong with the
            arguments is raised at once, not at the first piece.

        Raises:
            ConfigError: As `say`, or if the codec is not a `CodecModel`, which alone can stream.
        """
        config = SamplingConfig.of(sampling)
        if not isinstance(self.codec, CodecModel):
            raise ConfigError("Only a CodecModel can stream; load the speaker with one.")
        if min(first_frames, chunk_frames) < 1:
            raise ConfigError("first_frames and chunk_frames must be at least 1.")
        jobs = self._jobs([Line(text, prompt, seed=seed)])[0]
        return stream_speech(
            self.codec,
            self.ar,
            self.nar,
            [job.text for job in jobs],
            jobs[0].voice,
            sampling=config,
            max_frames=self._max_frames(max_seconds),
            generators=[job.generator() for job in jobs],
            silent_codes=self._silent_codes(),
            first_frames=first_frames,
            chunk_frames=chunk_frames,
        )

    def _silent_codes(self) -> Tensor | None:
        """What keeps a model without a pointer from falling silent; learned once."""
        if self._silence is None and not self.ar.uses_pointer:
            self._silence = silent_codes(self.codec)
        return self._silence

    def _sentences(self, text: str) -> tuple[list[Tensor], str]:
        left_out: list[str] = []
        if not isinstance(self.front_end, GivenPhonemes):
            text, left_out = speakable(text)
        symbols = [self.encode(sentence) for sentence in split_sentences(text)]
        return symbols, note_on(left_out) if left_out else ""

    def _jobs(
        self,
        lines: Iterable[Line | str],
        transcriber: Transcriber | None = None,
        on_error: Callable[[int, SpeechLMError], None] | None = None,
    ) -> list[list[Job]]:
        prepare = partial(self.prepare_voice, transcriber=transcriber)
        return prepare_lines(lines, self._sentences, prepare, on_error)

    def _generate(
        self,
        jobs: Sequence[Job],
        sampling: SamplingConfig,
        max_seconds: float | None,
        num_candidates: int,
        choose: Choice,
    ) -> list[Generation]:
        return generate_batch(
            self.ar,
            self.nar,
            [job.text for job in jobs],
            [job.voice for job in jobs],
            sampling=sampling,
            max_frames=self._max_frames(max_seconds),
            generators=[job.generator() for job in jobs],
            silent_codes=self._silent_codes(),
            num_candidates=num_candidates,
            choose=choose,
        )

    def _max_frames(self, max_seconds: float | None) -> int | None:
        rate = self.codec.identity.frame_rate_hz
        return None if max_seconds is None else max(1, round(max_seconds * rate))

    def _speech(self, spoken: Sequence[Generation], seconds: float, told: Sequence[str]) -> Speech:
        began = time.perf_counter()
        identity = self.codec.identity
        codes = join_codes([s.codes for s in spoken], identity.frame_rate_hz)
        num_samples = torch.tensor([codes.shape[1] * identity.hop_length])
        decoded = self.codec.synthesize(Codes(codes[None], num_samples, identity))[0]
        edges = SoftEdges(self.sampling_rate)
        is_cut = any(s.finish_reason == "length" for s in spoken)
        own = self.front_end.note if self.front_end is not None else None
        notes = [each for each in (own, *told) if each]
        if is_cut:
            notes.append("The speech was cut at its length limit; raise it, or use another seed.")
        return Speech(
            torch.cat((edges.push(decoded), edges.flush())),
            self.sampling_rate,
            "length" if is_cut else "end",
            seconds + time.perf_counter() - began,
            notes,
        )
