"""Speech codecs that are installed as programmes: Opus, Codec2 and AMR-WB.

The bit rate is measured: speech bits in the coded file by the time they code. Containers, headers
and the filling of a frame's last byte are left out, since a transmission need not carry them.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data_prep.readers import Recording
from ..errors import ConfigError, UnsupportedAudio
from ..tokenizer.audio import read_audio, resample, write_audio
from .bitstreams import Payload, amr_wb_payload, opus_payload
from .delay import align
from .systems import Decoded

_FLUSH_SECONDS = 0.1  # of silence after the recording: what a codec delays would be cut off
_LIMIT_SECONDS = 300


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

    @abstractmethod
    def code(self, waveform: Tensor, sampling_rate: int, folder: Path) -> tuple[Tensor, Payload]:
        """Encode and decode float `[L]` by way of files in `folder`.

        Returns:
            (decoded float `[L']` at the same rate, delay and padding left in; what was coded).

        Raises:
            ConfigError: If a programme fails.
            UnsupportedAudio: If it wrote what cannot be read.
        """

    def transmit(
        self, recording: Recording, waveform: Tensor, sampling_rate: int
    ) -> Decoded | None:
        """Encode, decode and align; None where a programme failed, which `notes` then say."""
        rate = self.rate_hz or sampling_rate
        given = resample(waveform.detach().cpu().float().clamp(-1, 1), sampling_rate, rate)
        given = torch.nn.functional.pad(given, (0, round(_FLUSH_SECONDS * rate)))
        with tempfile.TemporaryDirectory(prefix="speechlm-") as folder:
            try:
                decoded, payload = self.code(given, rate, Path(folder))
            except (ConfigError, UnsupportedAudio) as error:
                self._failures[recording.id] = str(error)
                return None
        decoded = align(waveform, resample(decoded, rate, sampling_rate), sampling_rate)
        return Decoded(decoded, payload.bits, payload.seconds)

    @property
    def notes(self) -> list[str]:
        """On how many recordings it failed, and why the first time."""
        if not self._failures:
            return []
        name, reason = next(iter(self._failures.items()))
        return [f"{self.name} failed on {len(self._failures)} recordings; on {name}: {reason}"]


class Opus(ProgramCodec):
    """Opus through opusenc or ffmpeg: variable bit rate, 20 ms frames; a mode is kbit/s."""

    title = "Opus"
    modes = ("6", "8", "12", "16", "24")
    needs = "opusenc, or an ffmpeg with libopus,"

    @classmethod
    def installed(cls) -> bool:
        """Whether one of the encoders is there; decoding is soundfile's."""
        return bool(shutil.which("opusenc")) or _ffmpeg_encodes("libopus")

    @classmethod
    def accepts(cls, mode: str) -> bool:
        """6 to 256 kbit/s."""
        return _is_number(mode) and 6 <= float(mode) <= 256

    def code(self, waveform: Tensor, sampling_rate: int, folder: Path) -> tuple[Tensor, Payload]:
        """See `ProgramCodec`."""
        source, coded = folder / "in.wav", folder / "coded.opus"
        write_audio(source, waveform, sampling_rate)
        if shutil.which("opusenc"):
            _run("opusenc", "--quiet", "--speech", "--bitrate", self.mode, str(source), str(coded))
        else:
            rate = f"{float(self.mode):g}k"
            _ffmpeg(source, coded, "-c:a", "libopus", "-b:a", rate, "-application", "voip")
        return read_audio(coded, sampling_rate), opus_payload(_written(coded))


class Codec2(ProgramCodec):
    """Codec2 through c2enc and c2dec: a vocoder of telephone bandwidth (8 kHz); a mode is bit/s."""

    title = "Codec2"
    modes = ("700C", "1300", "2400", "3200")
    rate_hz = 8_000
    needs = "c2enc and c2dec"
    # bits and milliseconds of a frame, as c2enc documents its modes
    _FRAMES: ClassVar[dict[str, tuple[int, int]]] = {
        "3200": (64, 20),
        "2400": (48, 20),
        "1600": (64, 40),
        "1400": (56, 40),
        "1300": (52, 40),
        "1200": (48, 40),
        "700C": (28, 40),
    }

    @classmethod
    def installed(cls) -> bool:
        """Whether both programmes are there."""
        return bool(shutil.which("c2enc") and shutil.which("c2dec"))

    @classmethod
    def accepts(cls, mode: str) -> bool:
        """The modes that work on frames of whole bits."""
        return mode in cls._FRAMES

    def code(self, waveform: Tensor, sampling_rate: int, folder: Path) -> tuple[Tensor, Payload]:
        """See `ProgramCodec`."""
        source, coded, back = (folder / name for name in ("in.raw", "coded.bin", "out.raw"))
        source.write_bytes(_pcm(waveform).astype("<i2").tobytes())
        _run("c2enc", self.mode, str(source), str(coded))
        _run("c2dec", self.mode, str(coded), str(back))
        bits, milliseconds = self._FRAMES[self.mode]
        frames = len(_written(coded)) // -(-bits // 8)  # a frame fills whole bytes in the file
        samples = np.frombuffer(_written(back), "<i2").astype(np.float32) / 2**15
        return torch.from_numpy(samples), Payload(bits * frames, frames * milliseconds / 1000)


class AmrWb(ProgramCodec):
    """AMR-WB (ITU-T G.722.2) through VisualOn's encoder and ffmpeg's decoder; a mode is kbit/s."""

    title = "AMR-WB"
    modes = ("6.6", "8.85", "12.65", "15.85", "23.85")
    rate_hz = 16_000
    needs = "ffmpeg, and libvo-amrwbenc in it or as a library,"
    _RATES: ClassVar[tuple[str, ...]] = tuple(
        "6.6 8.85 12.65 14.25 15.85 18.25 19.85 23.05 23.85".split()
    )
    _FRAME_SAMPLES: ClassVar[int] = 320

    @classmethod
    def installed(cls) -> bool:
        """Whether the decoder and one of the two ways to the encoder are there."""
        encoder = _ffmpeg_encodes("libvo_amrwbenc") or ctypes.util.find_library("vo-amrwbenc")
        return bool(shutil.which("ffmpeg") and encoder)

    @classmethod
    def accepts(cls, mode: str) -> bool:
        """The nine modes of the standard."""
        return mode in cls._RATES

    def code(self, waveform: Tensor, sampling_rate: int, folder: Path) -> tuple[Tensor, Payload]:
        """See `ProgramCodec`."""
        source, coded, back = (folder / name for name in ("in.wav", "coded.amr", "out.wav"))
        if _ffmpeg_encodes("libvo_amrwbenc"):
            write_audio(source, waveform, sampling_rate)
            rate = f"{round(float(self.mode) * 1000)}"
            _ffmpeg(source, coded, "-c:a", "libvo_amrwbenc", "-b:a", rate)
        else:
            coded.write_bytes(b"#!AMR-WB\n" + self._encode(_pcm(waveform)))
        _ffmpeg(coded, back)
        return read_audio(back, sampling_rate), amr_wb_payload(_written(coded))

    def _encode(self, samples: NDArray[np.int16]) -> bytes:
        """Call the library itself: Debian's ffmpeg, for one, comes without it."""
        library = ctypes.CDLL(ctypes.util.find_library("vo-amrwbenc"))
        library.E_IF_init.restype = ctypes.c_void_p
        state = ctypes.c_void_p(library.E_IF_init())
        frames = np.pad(samples, (0, -len(samples) % self._FRAME_SAMPLES))
        buffer = ctypes.create_string_buffer(64)
        coded = bytearray()
        mode = self._RATES.index(self.mode)
        try:
            for frame in frames.reshape(-1, self._FRAME_SAMPLES):
                speech = np.ascontiguousarray(frame).ctypes.data_as(ctypes.c_void_p)
                size = library.E_IF_encode(state, mode, speech, buffer, 0)
                coded += buffer.raw[:size]
        finally:
            library.E_IF_exit(state)
        return bytes(coded)


FAMILIES: dict[str, type[ProgramCodec]] = {"opus": Opus, "codec2": Codec2, "amr-wb": AmrWb}


def find_baselines(request: str | None) -> tuple[list[ProgramCodec], list[str]]:
    """Systems that a list such as `opus:12,codec2` asks for.

    Args:
        request: Names with commas between, or `all`; a name may be followed by a colon and one of
            its modes, else it is judged at several. None or nothing asks for none.

    Returns:
        (those that are installed, a sentence for each that is not).

    Raises:
        ConfigError: If there is no baseline of a name, or no such mode of it.
    """
    entries = [entry.strip() for entry in (request or "").lower().split(",") if entry.strip()]
    if entries == ["all"]:
        entries = list(FAMILIES)
    systems: list[ProgramCodec] = []
    notes: list[str] = []
    for entry in dict.fromkeys(entries):
        name, _, mode = entry.partition(":")
        family = FAMILIES.get(name)
        if family is None:
            raise ConfigError(
                f"There is no baseline {name}; name some of {', '.join(FAMILIES)}, or all."
            )
        modes: Sequence[str] = [mode.upper()] if mode else family.modes
        if not all(map(family.accepts, modes)):
            raise ConfigError(
                f"{family.title} has no mode {mode}; it has, among others, {', '.join(family.modes)}."
            )
        if family.installed():
            systems += [family(mode) for mode in modes]
        else:
            notes.append(f"{family.title} needs {family.needs} which is not on this machine.")
    if systems:
        titles = ", ".join(dict.fromkeys(system.title for system in systems))
        notes.append(
            f"Bit rates of {titles} are counted in the coded files: speech bits by the time they "
            "code, without containers, headers and the filling of last bytes."
        )
    return systems, list(dict.fromkeys(notes))


def _run(program: str, *arguments: str) -> None:
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


def _ffmpeg(source: Path, target: Path, *options: str) -> None:
    _run("ffmpeg", "-v", "error", "-y", "-i", str(source), *options, str(target))


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


def _ffmpeg_encodes(encoder: str) -> bool:
    found = shutil.which("ffmpeg")
    return bool(found) and encoder in _encoders(str(found)).split()


def _written(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"The programme wrote no {path.name}.") from error


def _pcm(waveform: Tensor) -> NDArray[np.int16]:
    return (waveform.clamp(-1, 1) * (2**15 - 1)).round().numpy().astype(np.int16)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
