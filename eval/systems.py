"""Ways a waveform comes back changed: our codec, another programme, a folder of somebody's output.

The codec report treats them all alike: each turns a recording into a decoded waveform of the same
rate and length, and says how many bits that took.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from ..data_prep.readers import Recording
from ..data_prep.readers.entry import AUDIO_SUFFIXES
from ..errors import ConfigError, CorpusError
from ..tokenizer.audio import read_audio
from ..tokenizer.codec import CodecModel
from ..tokenizer.codes import CodecIdentity
from .delay import align
from .metrics import CodebookUsage

_MUCH_SECONDS = 0.5  # a file whose length differs by more is likely another recording's


@dataclass(frozen=True)
class Decoded:
    """What came back.

    Attributes:
        waveform: float `[L]`, as long as the original and at its rate.
        bits: That were sent, None if unknown.
        seconds: That those bits code, padding included.
        encode_seconds: Of computing, None where it says nothing about the method.
        decode_seconds: Likewise.
    """

    waveform: Tensor
    bits: float | None = None
    seconds: float = 0.0
    encode_seconds: float | None = None
    decode_seconds: float | None = None


class System(Protocol):
    """One operating point of one method.

    Attributes:
        name: The row of the report.
        family: The curve of the rate-quality plot; its points are the systems of that family.
        kind: "codec" (ours), "baseline" (a programme) or "folder".
        num_books: Of ours, else None.
    """

    name: str
    family: str
    kind: str
    num_books: int | None

    def transmit(
        self, recording: Recording, waveform: Tensor, sampling_rate: int
    ) -> Decoded | None:
        """Send float `[L]` there and back; None if there is nothing for this recording."""
        ...

    @property
    def notes(self) -> list[str]:
        """What a reader must know about the figures of this system."""
        ...


class CodecSystem:
    """Our codec at one number of books; counts how its codebooks are used on the way."""

    kind = "codec"

    def __init__(self, codec: CodecModel, num_books: int) -> None:
        self.num_books: int | None = num_books
        self.name = f"{num_books} books"
        self.family = codec.identity.codec_id
        self.usage = CodebookUsage(codec.identity, num_books)
        self.notes: list[str] = []
        self._codec = codec

    def transmit(self, recording: Recording, waveform: Tensor, sampling_rate: int) -> Decoded:
        """Encode and decode one recording alone, so that the speed is that of batch one."""
        started = time.perf_counter()
        codes = self._codec.tokenize([waveform], num_books=self.num_books)
        encoded = time.perf_counter()
        decoded = self._codec.synthesize(codes)[0]
        finished = time.perf_counter()
        self.usage.add(codes)
        seconds = len(waveform) / sampling_rate
        return Decoded(
            decoded,
            codes.bits_per_second * seconds,
            seconds,
            encoded - started,
            finished - encoded,
        )


class FolderSystem:
    """Recordings that another system has already sent through, found by name.

    A file belongs to a recording if it has the same path below its folder, apart from the suffix,
    or else the same id or file name, provided that only one file there has it.
    """

    kind = "folder"
    num_books: int | None = None

    def __init__(
        self, name: str, folder: Path, recordings: Path, bits_per_second: float | None = None
    ) -> None:
        """Look what is there.

        Args:
            name: The row of the report.
            folder: Audio files at any depth.
            recordings: Folder of the originals, which paths are compared below.
            bits_per_second: What that system needed, if known.

        Raises:
            CorpusError: If the folder holds no audio.
        """
        self.name = self.family = name
        self._bits_per_second = bits_per_second
        self._root = recordings.resolve()
        self._by_path: dict[str, Path] = {}
        self._by_stem: dict[str, list[Path]] = {}
        self._missing: list[str] = []
        self._unlike: list[str] = []
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file():
                self._by_path[path.relative_to(folder).with_suffix("").as_posix()] = path
                self._by_stem.setdefault(path.stem, []).append(path)
        if not self._by_path:
            raise CorpusError(
                f"{folder} holds no audio to judge as {name}; give the folder of its output."
            )

    def transmit(
        self, recording: Recording, waveform: Tensor, sampling_rate: int
    ) -> Decoded | None:
        """Read the file of this recording, resampled, aligned and cut or filled to its length."""
        path = self._find(recording)
        if path is None:
            self._missing.append(recording.id)
            return None
        judged = read_audio(path, sampling_rate)
        seconds = len(waveform) / sampling_rate
        if abs(len(judged) / sampling_rate - seconds) > _MUCH_SECONDS:
            self._unlike.append(recording.id)
        rate = self._bits_per_second
        return Decoded(
            align(waveform, judged, sampling_rate),
            None if rate is None else rate * seconds,
            seconds,
        )

    @property
    def notes(self) -> list[str]:
        """Which recordings had no file, or one of another length; whose word the bit rate is."""
        notes = []
        if self._missing:
            notes.append(
                f"{self.name} has no file for {_some(self._missing)}; its figures, the change of "
                "the word error rate included, are over the others."
            )
        if self._unlike:
            notes.append(
                f"{self.name} differs in length by more than {_MUCH_SECONDS} s from "
                f"{_some(self._unlike)}; check that these files belong together."
            )
        if self._bits_per_second is not None:
            notes.append(f"The bit rate of {self.name} is as given, not measured.")
        return notes

    def _find(self, recording: Recording) -> Path | None:
        audio = recording.audio.resolve()
        if audio.is_relative_to(self._root):
            below = audio.relative_to(self._root).with_suffix("").as_posix()
            if below in self._by_path:
                return self._by_path[below]
        for name in (recording.id, recording.audio.stem):
            if len(found := self._by_stem.get(name, [])) == 1:
                return found[0]
        return None


def codec_systems(codec: CodecModel, num_books: Sequence[int] | None) -> list[CodecSystem]:
    """Our codec at the numbers of books asked for, fewest first; None for every one that decodes.

    Raises:
        ConfigError: If a number of books is out of the codec's range.
    """
    return [CodecSystem(codec, count) for count in _books_to_judge(codec.identity, num_books)]


def folder_systems(
    recordings: Path, folders: Sequence[str], bit_rates: Sequence[str] = ()
) -> list[FolderSystem]:
    """Systems of `NAME=FOLDER` with, for some of them, `NAME=BITS_PER_SECOND`.

    Args:
        recordings: As given to the evaluation, a folder or a list in it.
        folders: One `NAME=FOLDER` a system.
        bit_rates: One `NAME=BITS_PER_SECOND` for each system whose rate is known.

    Raises:
        ConfigError: If one is not of that form, or a rate names no such system.
        CorpusError: If a folder holds no audio.
    """
    rates: dict[str, float] = {}
    for name, value in _pairs(bit_rates, "--against-bps", "3000").items():
        try:
            rates[name] = float(value)
        except ValueError:
            rates[name] = 0.0
        if not 0 < rates[name] < float("inf"):
            raise ConfigError(
                f"--against-bps {name}={value}: give bits per second, as {name}=3000."
            )
    named = _pairs(folders, "--against", "some/folder")
    if unknown := sorted(set(rates) - set(named)):
        raise ConfigError(f"--against-bps names {', '.join(unknown)}, which no --against names.")
    root = recordings if recordings.is_dir() else recordings.parent
    return [FolderSystem(name, Path(path), root, rates.get(name)) for name, path in named.items()]


def _pairs(entries: Sequence[str], option: str, example: str) -> Mapping[str, str]:
    pairs: dict[str, str] = {}
    for entry in entries:
        name, equals, value = (part.strip() for part in entry.partition("="))
        if not (name and equals and value):
            raise ConfigError(f"{option} {entry}: write it as NAME={example}.")
        if name in pairs:
            raise ConfigError(f"{option} names {name} twice; give each system its own name.")
        pairs[name] = value
    return pairs


def _books_to_judge(identity: CodecIdentity, num_books: Sequence[int] | None) -> list[int]:
    allowed = range(identity.min_codebooks, identity.num_codebooks + 1)
    books = sorted(set(allowed if num_books is None else num_books))
    if not books or not set(books) <= set(allowed):
        raise ConfigError(
            f"Codec {identity.codec_id} decodes {allowed[0]} to {allowed[-1]} books, "
            f"not {', '.join(map(str, books)) or 'none'}; name numbers in that range."
        )
    return books


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
