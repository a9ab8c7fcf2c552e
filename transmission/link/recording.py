"""What a running link leaves behind: sound in a file that grows, and a log of JSON lines."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import soundfile
from torch import Tensor

from ...errors import UnsupportedAudio

_FORMATS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}


class GrowingRecording:
    """An audio file written piece by piece, so that memory does not grow with it; use as a context.

    The file has a temporary name until it is closed.

    Args:
        path: Where it goes; its suffix chooses WAV, FLAC or OGG.
        sampling_rate: Samples per second.

    Attributes:
        num_samples: Samples so far.

    Raises:
        UnsupportedAudio: If the suffix is another one or the folder does not exist.
    """

    def __init__(self, path: Path, sampling_rate: int) -> None:
        if path.suffix.lower() not in _FORMATS:
            raise UnsupportedAudio(
                f"Cannot write {path} piece by piece; use one of {', '.join(_FORMATS)}."
            )
        if not path.parent.is_dir():
            raise UnsupportedAudio(f"The folder {path.parent} does not exist; make it first.")
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}")
        kind, subtype = _FORMATS[path.suffix.lower()]
        self._file = soundfile.SoundFile(
            str(self._temporary), "w", sampling_rate, 1, subtype, format=kind
        )
        self.num_samples = 0

    def write(self, samples: Tensor) -> None:
        """Add float `[n]`."""
        self._file.write(samples.clamp(-1, 1).numpy())
        self.num_samples += len(samples)

    def __enter__(self) -> GrowingRecording:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        if kind is None or kind is KeyboardInterrupt:  # a stream may be ended by hand
            self._temporary.replace(self._path)
        else:
            self._temporary.unlink(missing_ok=True)


class LinkLog:
    """JSON lines about a running link; use as a context. Without a path, nothing is written.

    Args:
        path: The file.
    """

    def __init__(self, path: Path | None) -> None:
        self._file: IO[str] | None = None if path is None else path.open("w", encoding="utf-8")

    def write(self, **values: Any) -> None:
        """Add a line with the time, on `time.monotonic`, and the memory held; dataclasses become objects."""
        if self._file is None:
            return
        plain = {
            name: dataclasses.asdict(value)
            if dataclasses.is_dataclass(value) and not isinstance(value, type)
            else value
            for name, value in values.items()
        }
        self._file.write(
            json.dumps({"at": time.monotonic(), **plain, "memory_mib": memory_mib()}) + "\n"
        )
        self._file.flush()

    def __enter__(self) -> LinkLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()


def memory_mib() -> float | None:
    """Memory that this process holds now; None where the system does not tell."""
    statm = Path("/proc/self/statm")
    if not sys.platform.startswith("linux") or not statm.is_file():
        return None
    pages = int(statm.read_text(encoding="ascii").split()[1])
    return round(pages * os.sysconf("SC_PAGESIZE") / 2**20, 1)
