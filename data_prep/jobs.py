"""A shard as a unit of work: what it is made of, and how any process makes it.

Which utterances a shard has, and which of them share a batch, follows from the manifest and the
options alone. Who makes it, and beside what, is the engines' business (`engines.py`) and changes no
byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..errors import SpeechLMError, UnsupportedAudio
from ..tokenizer.codes import CodecIdentity, Codes
from .durations import durations_to_frames
from .manifest import SPLITS, Utterance, storable
from .read_ahead import batches_by_length, read_ahead
from .receipts import FORMAT_VERSION, INDEX_NAME, ShardReceipt, finished_shard
from .shards import TokenRow, write_shard

_AHEAD_BATCHES = 3  # one being encoded, one ready, one being read

Tell = Callable[[int], None]  # called with the utterances done since the last call


class WaveformTokenizer(Protocol):
    """What tokenizing asks of a codec; `tokenizer.codec.CodecModel` is one."""

    @property
    def identity(self) -> CodecIdentity:
        """What its tokens will say they are."""
        ...

    def tokenize(self, waveforms: Sequence[Tensor], num_books: int | None = None) -> Codes:
        """Tokens of float32 `[L_i]` waveforms, each as if it were alone."""
        ...


@dataclass(frozen=True)
class ShardJob:
    """One shard to make.

    Attributes:
        split: Of every utterance.
        number: Counted from 0 within the split.
        utterances: In the order of the rows.
        source: Fingerprint of everything that the shard is a function of.
    """

    split: str
    number: int
    utterances: tuple[Utterance, ...]
    source: str

    def to_json(self) -> str:
        """One line of ASCII, for engines that carry tables; paths of odd bytes survive it."""
        rows = [vars(u) | {"audio": str(u.audio)} for u in self.utterances]
        return json.dumps([self.split, self.number, rows, self.source])

    @classmethod
    def from_json(cls, text: str) -> ShardJob:
        """Read what `to_json` wrote."""
        split, number, rows, source = json.loads(text)
        for row in rows:
            durations = row["durations_s"]
            row["audio"] = Path(row["audio"])
            row["durations_s"] = None if durations is None else tuple(durations)
        return cls(split, number, tuple(Utterance(**row) for row in rows), source)


@dataclass(frozen=True)
class ShardRecipe:
    """What all jobs of a run share; it goes to other processes, the codec's weights do not.

    Attributes:
        out: Folder of the dataset.
        identity: Of the codec that every process must find.
        num_books: Books to keep.
        batch_seconds: Padded audio that is encoded at once; no part of what a shard is a function
            of, since the codec encodes each utterance as if it were alone.
        codec_folder: Where each process loads the codec, or None for the shipped one.
        device: Where it runs, as torch names it; None for a GPU if the process has one.
        num_threads: Threads that torch may use in each process, or None for its own choice.
        keeps_index: Leave the index alone; its keeper will see to it.
    """

    out: Path
    identity: CodecIdentity
    num_books: int
    batch_seconds: float
    codec_folder: Path | None = None
    device: str | None = None
    num_threads: int | None = None
    keeps_index: bool = False


class MadeShard(NamedTuple):
    """A finished shard.

    Attributes:
        receipt: What is known of it.
        was_whole: Whether it was there already.
        loading_seconds: Time that loading the codec took, where this shard was the first to need it.
    """

    receipt: ShardReceipt
    was_whole: bool
    loading_seconds: float = 0.0


def shard_parts(
    utterances: Sequence[Utterance], rows_per_shard: int
) -> dict[tuple[str, int], list[Utterance]]:
    """The utterances of each shard by (split, number): within a split, in the manifest's order."""
    parts: dict[tuple[str, int], list[Utterance]] = {}
    for split in SPLITS:
        rows = [utterance for utterance in utterances if utterance.split == split]
        for number, start in enumerate(range(0, len(rows), rows_per_shard)):
            parts[split, number] = rows[start : start + rows_per_shard]
    return parts


def shard_job(
    key: tuple[str, int], utterances: Sequence[Utterance], recipe: ShardRecipe
) -> ShardJob:
    """Name a shard's work; looks at the size of every recording, which stands for its content."""
    options = [FORMAT_VERSION, recipe.identity.to_json(), recipe.num_books]
    digest = hashlib.sha256(json.dumps(options).encode())
    for u in utterances:
        size = u.audio.stat().st_size if u.audio.is_file() else -1
        row = [u.id, str(u.audio), size, u.seconds, u.text, u.speaker, u.split]
        digest.update(json.dumps([*row, u.phonemes, u.durations_s]).encode())
    return ShardJob(*key, tuple(utterances), digest.hexdigest())


class ShardMaker:
    """Makes shards in this process.

    Args:
        recipe: What all jobs share.
        codec: Makes the tokens; None loads it from the recipe's folder when the first shard needs
            it, so that a run that finds all shards whole loads nothing.
    """

    def __init__(self, recipe: ShardRecipe, codec: WaveformTokenizer | None = None) -> None:
        self.recipe = recipe
        self._codec = codec

    @property
    def codec(self) -> WaveformTokenizer:
        """The codec, loaded at its first use.

        Raises:
            ModelMismatch: If another codec lies in the recipe's folder than when the run began.
        """
        if self._codec is None:
            from ..tokenizer.codec import load_codec

            if self.recipe.num_threads is not None:
                torch.set_num_threads(self.recipe.num_threads)
            has_gpu = torch.cuda.is_available()
            device = torch.device(self.recipe.device or ("cuda" if has_gpu else "cpu"))
            codec = load_codec(self.recipe.codec_folder)
            codec.identity.require(self.recipe.identity, "This run")
            codec.to(device=device)  # type: ignore[call-arg]  # transformers wraps it
            self._codec = codec
        return self._codec

    def make(self, job: ShardJob, tell: Tell = lambda done: None) -> MadeShard:
        """Make a shard, unless it is whole already.

        Raises:
            SpeechLMError: If the codec cannot encode even a single utterance.
        """
        recipe = self.recipe
        receipt = finished_shard(recipe.out, job.split, job.number, job.source)
        if receipt is not None:
            tell(len(job.utterances))
            return MadeShard(receipt, True)
        if not recipe.keeps_index:  # the dataset is not complete until the last shard is
            (recipe.out / INDEX_NAME).unlink(missing_ok=True)
        begun = perf_counter()
        _ = self.codec  # loaded by the first shard that is not whole
        loading_seconds = perf_counter() - begun
        rows, rejected = self._rows(job, tell)
        receipt = write_shard(
            recipe.out,
            job.split,
            job.number,
            rows,
            codec=recipe.identity,
            num_books=recipe.num_books,
            source=job.source,
            rejected=rejected,
        )
        return MadeShard(receipt, False, loading_seconds)

    def _rows(self, job: ShardJob, tell: Tell) -> tuple[list[TokenRow], list[dict[str, str]]]:
        rows: dict[int, TokenRow] = {}
        rejected: dict[int, dict[str, str]] = {}
        recipe = self.recipe
        seconds = [utterance.seconds for utterance in job.utterances]
        batches = batches_by_length(seconds, recipe.batch_seconds)
        reading = read_ahead(
            [[job.utterances[index] for index in batch] for batch in batches],
            recipe.identity.sampling_rate,
            _AHEAD_BATCHES * recipe.batch_seconds,
        )
        for batch, read in zip(batches, reading, strict=True):
            found: dict[int, Tensor | UnsupportedAudio] = dict(zip(batch, read, strict=True))
            waveforms = {i: w for i, w in found.items() if isinstance(w, Tensor)}
            names = [job.utterances[index].id for index in waveforms]
            encoded = self._encode(list(waveforms.values()), names)
            found |= dict(zip(waveforms, encoded, strict=True))
            for index, result in found.items():
                utterance = job.utterances[index]
                if isinstance(result, Tensor):
                    samples = len(waveforms[index])
                    rows[index] = _token_row(utterance, result, samples, recipe.identity)
                else:
                    rejected[index] = _ledger_row(utterance, result)
            tell(len(batch))
        return [rows[i] for i in sorted(rows)], [rejected[i] for i in sorted(rejected)]

    def _encode(
        self, waveforms: list[Tensor], names: list[str]
    ) -> Sequence[Tensor | UnsupportedAudio]:
        """Codes `[K, T]` of each waveform; a batch that fails is tried again in halves.

        An utterance is as if alone in any batch, so halves change no code. What fails alone is
        either audio that the codec refuses, which is the utterance's fault, or the machine's.
        """
        if not waveforms:
            return []
        problem: str
        try:
            codes = self.codec.tokenize(waveforms, num_books=self.recipe.num_books)
            return [codes.item(place).cpu() for place in range(len(waveforms))]
        except UnsupportedAudio as error:
            if len(waveforms) == 1:
                return [error]
            problem = str(error)
        except (RuntimeError, MemoryError) as error:  # torch's out of memory is a RuntimeError
            problem = f"{type(error).__name__}: {error}"
        if len(waveforms) == 1:
            raise SpeechLMError(
                f"The codec could not encode {names[0]} ({len(waveforms[0])} samples) even alone "
                f"({problem}); free memory or choose another device, then run again to go on."
            )
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        half = len(waveforms) // 2
        first = self._encode(waveforms[:half], names[:half])
        return [*first, *self._encode(waveforms[half:], names[half:])]


def _token_row(
    utterance: Utterance, tokens: Tensor, num_samples: int, identity: CodecIdentity
) -> TokenRow:
    rate = identity.frame_rate_hz
    durations = durations_to_frames(utterance.durations_s or (), tokens.shape[-1], rate)
    return TokenRow(
        id=utterance.id,
        text=utterance.text,
        phonemes=utterance.phonemes or "",
        durations=torch.tensor(durations, dtype=torch.int64),
        speaker=utterance.speaker,
        split=utterance.split,
        num_samples=num_samples,
        codes=tokens,
    )


def _ledger_row(utterance: Utterance, error: UnsupportedAudio) -> dict[str, str]:
    fields = {"id": utterance.id, "audio": str(utterance.audio), "reason": str(error)}
    return {key: storable(value) for key, value in fields.items()}
