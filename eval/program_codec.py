"""A codec that runs as a programme: its files, its processor time, and its output put under the original."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data_prep.readers import Recording
from ..errors import ConfigError, UnsupportedAudio
from ..tokenizer.audio import resample
from .bitstreams import Payload
from .delay import align
from .systems import Decoded

_FLUSH_SECONDS = 0.1  # of silence after the recording: what a codec delays would be cut off
_LIMIT_SECONDS = 300


@dataclass(frozen=True)
class Sent:
    """A recording that went there and back, and what that took.

    Attributes:
        waveform: float `[L]`, as long as the original, at its rate and under it.
        payload: Bits of speech, and the seconds that they code.
        num_bytes: Of the whole coded file, its container included.
        encode_seconds: Of processor time.
        decode_seconds: Likewise.
    """

    waveform: Tensor
    payload: Payload
    num_bytes: int
    encode_seconds: float
    decode_seconds: float


class ProgramCodec(ABC):
    """A codec that runs as a programme on PATH, at one of its modes.

    Attributes:
        title: For people, and the curve of the rate-quality plot.
        modes: Those it is judged at unless others are named.
        rate_hz: Of the audio it takes; None for the recording's own.
        needs: What must be installed.
    """

    kind = "baseline"
    num_books: int | None = None
    title: ClassVar[str]
    modes: ClassVar[tuple[str, ...]]
    rate_hz: ClassVar[int | None] = None
    needs: ClassVar[str]

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.name = f"{self.title} {mode}"
        self.family = self.title
        self._failures: dict[str, str] = {}

    @classmethod
    @abstractmethod
    def installed(cls) -> bool:
        """Whether everything that it needs is there."""

    @classmethod
    @abstractmethod
    def accepts(cls, mode: str) -> bool:
        """Whether there is such a mode."""

    @property
    @abstractmethod
    def latency_seconds(self) -> float:
        """Algorithmic delay of a live signal: a frame, and what the output lags behind beyond it."""

    @abstractmethod
    def encode(self, waveform: Tensor, sampling_rate: int, folder: Path) -> Path:
        """Write float `[L]` as a coded file in `folder`; returns that file.

        Raises:
            ConfigError: If a programme fails.
        """

    @abstractmethod
    def payload(self, data: bytes) -> Payload:
        """What a coded file of this mode carries.

        Raises:
            UnsupportedAudio: If it is no such file.
        """

    @abstractmethod
    def decode(self, coded: Path, sampling_rate: int) -> Tensor:
        """Read a coded file back: float `[L']`, delay and padding left in.

        Raises:
            ConfigError: If a programme fails.
            UnsupportedAudio: If it wrote what cannot be read.
        """

    def send(self, waveform: Tensor, sampling_rate: int) -> Sent:
        """Encode, decode and align float `[L]`.

        Raises:
            ConfigError: If a programme fails.
            UnsupportedAudio: If it wrote what cannot be read.
        """
        rate = self.rate_hz or sampling_rate
        given = resample(waveform.detach().cpu().float().clamp(-1, 1), sampling_rate, rate)
        given = torch.nn.functional.pad(given, (0, round(_FLUSH_SECONDS * rate)))
        with tempfile.TemporaryDirectory(prefix="speechlm-") as folder:
            began = processor_seconds()
            coded = self.encode(given, rate, Path(folder))
            encoded = processor_seconds()
            data = written(coded)
            payload = self.payload(data)
            resumed = processor_seconds()
            decoded = self.decode(coded, rate)
            finished = processor_seconds()
        decoded = align(waveform, resample(decoded, rate, sampling_rate), sampling_rate)
        return Sent(decoded, payload, len(data), encoded - began, finished - resumed)

    def transmit(
        self, recording: Recording, waveform: Tensor, sampling_rate: int
    ) -> Decoded | None:
        """See `System`; None where a programme failed, which `notes` then say."""
        try:
            sent = self.send(waveform, sampling_rate)
        except (ConfigError, UnsupportedAudio) as error:
            self._failures[recording.id] = str(error)
            return None
        return Decoded(sent.waveform, sent.payload.bits, sent.payload.seconds)

    @property
    def notes(self) -> list[str]:
        """On how many recordings it failed, and why the first time."""
        if not self._failures:
            return []
        name, reason = next(iter(self._failures.items()))
        return [f"{self.name} failed on {len(self._failures)} recordings; on {name}: {reason}"]


def processor_seconds() -> float:
    """Processor time of this process so far, and of the programmes that it has waited for."""
    try:
        import resource
    except ImportError:  # on Windows, which does not tell of programmes that have ended
        return time.process_time()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def run_program(program: str, *arguments: str) -> None:
    """Run a programme on PATH to its end.

    Raises:
        ConfigError: If it is absent, takes minutes, or fails.
    """
    found = shutil.which(program)
    if found is None:
        raise ConfigError(f"{program} is not on PATH; install it.")
    try:
        done = subprocess.run(  # noqa: S603 - a fixed programme, and paths of our own making
            [found, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LIMIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{program} did not run to its end ({error}).") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ConfigError(f"{program} ended with {done.returncode} ({said[-1] if said else ''}).")


def run_ffmpeg(source: Path, target: Path, *options: str) -> None:
    """Convert a file; raises as `run_program` does."""
    run_program("ffmpeg", "-v", "error", "-y", "-i", str(source), *options, str(target))


def ffmpeg_encodes(encoder: str) -> bool:
    """Whether there is an ffmpeg that was built with an encoder."""
    found = shutil.which("ffmpeg")
    return bool(found) and encoder in _encoders(str(found)).split()


def written(path: Path) -> bytes:
    """The bytes of a file that a programme should have written.

    Raises:
        ConfigError: If it did not.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"The programme wrote no {path.name}.") from error


def pcm(waveform: Tensor) -> NDArray[np.int16]:
    """Float `[L]` as 16-bit samples."""
    return (waveform.clamp(-1, 1) * (2**15 - 1)).round().numpy().astype(np.int16)


@lru_cache(maxsize=8)
def _encoders(ffmpeg: str) -> str:
    command = [ffmpeg, "-hide_banner", "-encoders"]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed programme
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace")
