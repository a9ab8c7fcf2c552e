"""Our codec's ways over a low rate: what is sent as an `.lmc` stream, and how a receiver plays it.

A sender is a number of books behind an entropy coder, a receiver makes sound of the stream; a way is one of
each. A further way of playing is one more subclass of `MeanReceiver` in `GENERATORS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CorruptStream, ModelMismatch
from ..tokenizer.codec import CodecModel
from ..tokenizer.codes import CodecIdentity
from ..tokenizer.stream import CodecStream
from ..transmission.codes_stream import CHUNK_FRAMES, CodesPiece, CodesReader
from ..transmission.compressor import Compressor
from ..transmission.container import Chunk
from ..transmission.container_reader import ContainerReader
from ..transmission.decompressor import Decompressor
from ..transmission.frequencies import ideal_bits
from ..transmission.integer_fine import IntegerFineModel
from ..transmission.models import WEIGHTS, load_entropy_model
from ..transmission.static_table import StaticTableModel
from ..transmission.symbol_model import NUMERIC_PROFILES, SymbolModel, UniformModel

RAW, STATIC, NETWORK = "raw", "static table", "entropy model"
_CODERS = dict(zip(NUMERIC_PROFILES, (RAW, STATIC, NETWORK), strict=True))
_SHIPPED_CODERS = ("static.safetensors", "entropy")
_SHIPPED_FINE = "fine"
_SHIPPED = "shipped"

_Model = TypeVar("_Model", SymbolModel, IntegerFineModel)


@dataclass(frozen=True)
class Sender:
    """The first books of a codec behind an entropy coder.

    Attributes:
        codec: The codec.
        model: Predicts the codes; its number of books is sent.
        coder: What the model is called in the report.
        chunk_frames: Frames that are coded together.
    """

    codec: CodecModel
    model: SymbolModel
    coder: str
    chunk_frames: int = CHUNK_FRAMES

    @property
    def title(self) -> str:
        """As in a row of the report."""
        is_all = self.model.num_books == self.codec.identity.num_codebooks
        return f"{'all' if is_all else 'base'} books, {self.coder}"

    @property
    def latency_seconds(self) -> float | None:
        """Algorithmic delay; None for a codec that hears the whole signal first."""
        return self._compressor(0).latency_seconds

    def send(self, waveform: Tensor) -> bytes:
        """The stream of float `[L]`."""
        compressor = self._compressor(len(waveform))
        return compressor.push(waveform) + compressor.flush()

    def _compressor(self, num_samples: int) -> Compressor:
        return Compressor(
            self.codec,
            self.model.num_books,
            model=self.model,
            chunk_frames=self.chunk_frames,
            num_samples=num_samples,
        )


class Receiver(ABC):
    """A way to make sound of a stream.

    Attributes:
        title: What is added to the books that were sent; empty for nothing.
        fingerprint: Of the model that adds it.
    """

    title = ""
    fingerprint = ""

    def __init__(self, codec: CodecModel) -> None:
        self.codec = codec

    @abstractmethod
    def receive(self, data: bytes, model: SymbolModel) -> Tensor:
        """Samples of a stream, float `[L]`.

        Raises:
            CorruptStream: If it does not come back as it was sent.
        """


class PlainReceiver(Receiver):
    """Plays the books that were sent."""

    def receive(self, data: bytes, model: SymbolModel) -> Tensor:
        """See `Receiver`."""
        return _played(Decompressor(self.codec, model), data)


class MeanReceiver(Receiver):
    """Plays the books that were not sent as their mean sound under a fine model."""

    title = "mean of the fine books"

    def __init__(self, codec: CodecModel, fine: IntegerFineModel) -> None:
        super().__init__(codec)
        self.fine, self.fingerprint = fine, fine.fingerprint

    def receive(self, data: bytes, model: SymbolModel) -> Tensor:
        """See `Receiver`."""
        return _played(Decompressor(self.codec, model, fine=self.fine), data)


class CodesReceiver(MeanReceiver):
    """Generates codes of the books that were not sent: those nearest to the mean."""

    title = "fine codes"

    def receive(self, data: bytes, model: SymbolModel) -> Tensor:
        """See `Receiver`."""
        fine = self.fine.stream(entries=self.codec.quantizer.codebooks)
        stream, pieces = CodecStream(self.codec), read_codes(data, model)
        samples = [stream.pull(torch.cat((p.codes, fine.push(p.codes)))) for p in pieces]
        waveform = torch.cat([*samples, stream.drain()])
        return waveform[: sum(piece.num_samples for piece in pieces)].cpu()


GENERATORS: tuple[type[MeanReceiver], ...] = (CodesReceiver, MeanReceiver)


@dataclass(frozen=True)
class Way:
    """One row of the report.

    Attributes:
        name: Of the row.
        family: The curve on which its point lies.
        sender: What is sent.
        receiver: How it is played.
    """

    name: str
    family: str
    sender: Sender
    receiver: Receiver

    @property
    def kind(self) -> str:
        """Whether books are generated, or only what was sent is played."""
        return "generated" if self.receiver.title else "sent"

    @property
    def made_of(self) -> list[object]:
        """What its figures are a function of, in plain values."""
        model, chunk_frames = self.sender.model, self.sender.chunk_frames
        return [
            self.name,
            model.num_books,
            model.fingerprint,
            chunk_frames,
            self.receiver.fingerprint,
        ]


@dataclass(frozen=True)
class StreamSize:
    """What an `.lmc` stream takes.

    Attributes:
        num_bytes: All of it.
        payload_bits: Of the codes in each chunk.
        num_raw_chunks: Chunks whose codes are packed as they are.
    """

    num_bytes: int
    payload_bits: tuple[int, ...]
    num_raw_chunks: int


def stream_size(data: bytes) -> StreamSize:
    """Count a stream, from its own bytes."""
    reader = ContainerReader()
    chunks = [part for part in reader.push(data) + reader.finish() if isinstance(part, Chunk)]
    return StreamSize(
        len(data),
        tuple(8 * len(chunk.payload) for chunk in chunks),
        sum(chunk.is_raw for chunk in chunks),
    )


def read_codes(data: bytes, model: SymbolModel) -> list[CodesPiece]:
    """Codes of an undamaged stream, a piece a chunk.

    Raises:
        CorruptStream: If it is damaged.
    """
    reader = CodesReader(model)
    pieces = reader.push(data) + reader.finish()
    if reader.damages:
        raise CorruptStream(reader.damages[0].reason)
    return pieces


def model_bits(codes: NDArray[np.int64], model: SymbolModel, chunk_frames: int) -> list[float]:
    """The model's own -log2 p of codes `[K, T]`, for each chunk."""
    bits = []
    for start in range(0, codes.shape[1], chunk_frames):
        state, total = model.start(), 0.0
        for symbol in codes[:, start : start + chunk_frames].T.reshape(-1).tolist():
            total += ideal_bits(model.frequencies(state), symbol)
            model.push(state, symbol)
        bits.append(total)
    return bits


def find_ways(
    codec: CodecModel,
    entropy: Sequence[Path] = (),
    fine: Sequence[Path] = (),
    chunk_frames: int = CHUNK_FRAMES,
) -> tuple[list[Way], list[str]]:
    """All ways that models allow, those that ship among them.

    Base books and all books raw and with each coder that knows so many; then, behind the best coder, the base
    books and what each fine model adds.

    Args:
        codec: The codec, in evaluation mode.
        entropy: Files of static tables, folders of entropy models.
        fine: Folders of fine models.
        chunk_frames: Frames of a chunk.

    Returns:
        (the ways, those without generated books first; a sentence for each kind of model that is missing).

    Raises:
        CorruptWeights: If a file or folder cannot be used.
        ModelMismatch: If a model is of another codec, or models are for different numbers of books.
    """
    identity = codec.identity
    coders = _coders(entropy, identity)
    fines = _fine_models(fine, identity)
    base = _base_books(identity, [model for _, model in coders], [model for _, model in fines])
    senders: list[Sender] = []
    for books in dict.fromkeys((base, identity.num_codebooks)):
        raw = UniformModel(books, identity.codebook_size)
        known = [(name, _narrowed(model, books)) for name, model in coders]
        there = [(name, model) for name, model in known if model is not None]
        kinds = [_CODERS[model.numeric_profile] for _, model in there]
        senders.append(Sender(codec, raw, RAW, chunk_frames))
        for kind, (name, model) in zip(kinds, there, strict=True):
            title = kind if kinds.count(kind) == 1 else f"{kind} {name}"
            senders.append(Sender(codec, model, title, chunk_frames))
    plain = PlainReceiver(codec)
    ways = [Way(s.title, f"ours, {s.coder}", s, plain) for s in senders]
    best = [sender for sender in senders if sender.model.num_books == base][-1]
    for name, each in fines:
        for receiver in (generator(codec, each) for generator in GENERATORS):
            added = receiver.title if len(fines) == 1 else f"{receiver.title} {name}"
            ways.append(Way(f"{best.title} + {added}", f"ours, + {added}", best, receiver))
    return ways, _missing(senders, ways)


def _coders(given: Sequence[Path], identity: CodecIdentity) -> list[tuple[str, SymbolModel]]:
    """Names and entropy models, the better profile later."""
    found: list[tuple[str, SymbolModel]] = []
    for path in (WEIGHTS / name for name in _SHIPPED_CODERS):
        model = load_entropy_model(path) if path.exists() else None
        if getattr(model, "codec", None) == identity and model is not None:
            found.append((_SHIPPED, model))
    for path in given:
        found.append((_name(path), load_entropy_model(path, identity)))
    return sorted(
        _distinct(found), key=lambda each: NUMERIC_PROFILES.index(each[1].numeric_profile)
    )


def _fine_models(
    given: Sequence[Path], identity: CodecIdentity
) -> list[tuple[str, IntegerFineModel]]:
    found: list[tuple[str, IntegerFineModel]] = []
    path = WEIGHTS / _SHIPPED_FINE
    model = IntegerFineModel.load(path) if path.exists() else None
    if model is not None and model.codec == identity:
        found.append((_SHIPPED, model))
    for path in given:
        model = IntegerFineModel.load(path)
        identity.require(model.codec, f"The fine model {path}")
        found.append((_name(path), model))
    return _distinct(found)


def _name(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _distinct(models: Sequence[tuple[str, _Model]]) -> list[tuple[str, _Model]]:
    """Each model once, under a name of its own."""
    kept = list({model.fingerprint: (name, model) for name, model in reversed(models)}.values())
    names = [name for name, _ in kept]
    return [
        (name if names.count(name) == 1 else f"{name} {model.fingerprint}", model)
        for name, model in reversed(kept)
    ]


def _base_books(
    identity: CodecIdentity, coders: Sequence[SymbolModel], fines: Sequence[IntegerFineModel]
) -> int:
    """The books that are sent where others are not: what the models are made for, else the masked ones."""
    known = sorted({fine.num_base_books for fine in fines})
    if len(known) > 1:
        raise ModelMismatch(
            f"The fine models read {', '.join(map(str, known))} base books; measure models for one "
            "number of them at a time."
        )
    networks = [m.num_books for m in coders if _CODERS[m.numeric_profile] == NETWORK]
    base = known[0] if known else min(networks, default=identity.min_codebooks)
    for model in coders:
        if all(_narrowed(model, books) is None for books in (base, identity.num_codebooks)):
            raise ModelMismatch(
                f"An entropy model codes {model.num_books} books, {base} are the base books and "
                f"{identity.num_codebooks} all; give one for as many."
            )
    return base


def _narrowed(model: SymbolModel, books: int) -> SymbolModel | None:
    """The model for so many books; None where it is not made for them."""
    if isinstance(model, StaticTableModel) and model.num_books > books:
        return model.narrowed(books)
    return model if model.num_books == books else None


def _missing(senders: Sequence[Sender], ways: Sequence[Way]) -> list[str]:
    profiles = {_CODERS[sender.model.numeric_profile] for sender in senders}
    told = {
        STATIC: "No static table is measured: `speechlm static-table` learns one; give it as --entropy.",
        NETWORK: "No entropy model is measured: `speechlm train entropy` and `speechlm export` make "
        "one; give its folder as --entropy.",
    }
    notes = [sentence for kind, sentence in told.items() if kind not in profiles]
    if not any(way.receiver.title for way in ways):
        notes.append(
            "No fine model is measured: `speechlm train fine` and `speechlm export` make one; give its "
            "folder as --fine."
        )
    return notes


def _played(decompressor: Decompressor, data: bytes) -> Tensor:
    waveform = torch.cat([decompressor.push(data), decompressor.flush()])
    if decompressor.damages:
        raise CorruptStream(decompressor.damages[0].reason)
    return waveform
