"""Speech codecs that are installed as programmes: Opus, Codec2, AMR-WB and Speex.

The bit rate is measured: speech bits in the coded file by the time they code. Containers, headers
and the filling of a frame's last byte are left out, since a transmission need not carry them.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError
from ..tokenizer.audio import read_audio, write_audio
from .bitstreams import Payload, amr_wb_payload, opus_payload, speex_payload
from .program_codec import ProgramCodec, ffmpeg_encodes, pcm, run_ffmpeg, run_program, written


class Opus(ProgramCodec):
    """Opus through opusenc or ffmpeg: 20 ms frames, tuned to speech.

    A mode is kbit/s: `12` at a variable rate, `12CBR` at a constant one.
    """

    title = "Opus"
    modes = ("6", "8", "12", "16", "24")
    needs = "opusenc, or an ffmpeg with libopus,"
    latency_seconds = 0.0265  # the frame, and 6.5 ms that its decoder is told to skip (pre-skip)

    def __init__(self, mode: str) -> None:
        super().__init__(mode)
        self._rate = float(mode.removesuffix("CBR"))
        self._is_constant = mode.endswith("CBR")
        self.name = f"Opus {self._rate:g}" + (" CBR" if self._is_constant else "")

    @classmethod
    def installed(cls) -> bool:
        """Whether one of the encoders is there; decoding is soundfile's."""
        return bool(shutil.which("opusenc")) or ffmpeg_encodes("libopus")

    @classmethod
    def accepts(cls, mode: str) -> bool:
        """6 to 256 kbit/s, with or without CBR behind it."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)(CBR)?", mode)
        return found is not None and 6 <= float(found[1]) <= 256

    def encode(self, waveform: Tensor, sampling_rate: int, folder: Path) -> Path:
        """See `ProgramCodec`."""
        source, coded = folder / "in.wav", folder / "coded.opus"
        write_audio(source, waveform, sampling_rate)
        if shutil.which("opusenc"):
            # its file begins with half a kilobyte of room for tags unless told otherwise
            options = ["--quiet", "--speech", "--framesize", "20", "--padding", "0"]
            options += ["--hard-cbr"] if self._is_constant else []
            bitrate = ["--bitrate", f"{self._rate:g}"]
            run_program("opusenc", *options, *bitrate, str(source), str(coded))
        else:
            rate = ["-b:a", f"{self._rate:g}k", "-vbr", "off" if self._is_constant else "on"]
            run_ffmpeg(source, coded, "-c:a", "libopus", *rate, "-application", "voip")
        return coded

    def payload(self, data: bytes) -> Payload:
        """See `ProgramCodec`."""
        return opus_payload(data)

    def decode(self, coded: Path, sampling_rate: int) -> Tensor:
        """See `ProgramCodec`."""
        return read_audio(coded, sampling_rate)


class Codec2(ProgramCodec):
    """Codec2 through c2enc and c2dec: a vocoder of telephone bandwidth (8 kHz); a mode is bit/s."""

    title = "Codec2"
    modes = ("700C", "1300", "2400", "3200")
    rate_hz = 8_000
    needs = "c2enc and c2dec"
    # bits and milliseconds of a frame, as c2enc documents its modes, and milliseconds that the output lags
    # (docs/evaluation.md, "Delays found")
    _FRAMES: ClassVar[dict[str, tuple[int, int, int]]] = {
        "3200": (64, 20, 20),
        "2400": (48, 20, 20),
        "1600": (64, 40, 20),
        "1400": (56, 40, 20),
        "1300": (52, 40, 20),
        "1200": (48, 40, 20),
        "700C": (28, 40, 30),
    }

    @classmethod
    def installed(cls) -> bool:
        """Whether both programmes are there."""
        return bool(shutil.which("c2enc") and shutil.which("c2dec"))

    @classmethod
    def accepts(cls, mode: str) -> bool:
        """The modes that work on frames of whole bits."""
        return mode in cls._FRAMES

    @property
    def latency_seconds(self) -> float:
        """See `ProgramCodec`."""
        _, frame, lag = self._FRAMES[self.mode]
        return (frame + lag) / 1000

    def encode(self, waveform: Tensor, sampling_rate: int, folder: Path) -> Path:
        """See `ProgramCodec`."""
        source, coded = folder / "in.raw", folder / "coded.bin"
        source.write_bytes(pcm(waveform).astype("<i2").tobytes())
        run_program("c2enc", self.mode, str(source), str(coded))
        return coded

    def payload(self, data: bytes) -> Payload:
        """See `ProgramCodec`."""
        bits, milliseconds, _ = self._FRAMES[self.mode]
        frames = len(data) // -(-bits // 8)  # a frame fills whole bytes in the file
        return Payload(bits * frames, frames * milliseconds / 1000)

    def decode(self, coded: Path, sampling_rate: int) -> Tensor:
        """See `ProgramCodec`."""
        back = coded.with_name("out.raw")
        run_program("c2dec", self.mode, str(coded), str(back))
        return torch.from_numpy(np.frombuffer(written(back), "<i2").astype(np.float32) / 2**15)


class AmrWb(ProgramCodec):
    """AMR-WB (ITU-T G.722.2) through VisualOn's encoder and ffmpeg's decoder; a mode is kbit/s."""

    title = "AMR-WB"
    modes = ("6.6", "8.85", "12.65", "15.85", "23.85")
    rate_hz = 16_000
    needs = "ffmpeg, and libvo-amrwbenc in it or as a library,"
    latency_seconds = 0.0259  # the frame, and 94 samples that the output lags
    _RATES: ClassVar[tuple[str, ...]] = tuple(
        "6.6 8.85 12.65 14.25 15.85 18.25 19.85 23.05 23.85".split()
    )
    _FRAME_SAMPLES: ClassVar[int] = 320

    @classmethod
    def installed(cls) -> bool:
        """Whether the decoder and one of the two ways to the encoder are there."""
        encoder = ffmpeg_encodes("libvo_amrwbenc") or ctypes.util.find_library("vo-amrwbenc")
        return bool(shutil.which("ffmpeg") and encoder)

    @classmethod
    def accepts(cls, mode: str) -> bool:
        """The nine modes of the standard."""
        return mode in cls._RATES

    def encode(self, waveform: Tensor, sampling_rate: int, folder: Path) -> Path:
        """See `ProgramCodec`."""
        source, coded = folder / "in.wav", folder / "coded.amr"
        if ffmpeg_encodes("libvo_amrwbenc"):
            write_audio(source, waveform, sampling_rate)
            rate = f"{round(float(self.mode) * 1000)}"
            run_ffmpeg(source, coded, "-c:a", "libvo_amrwbenc", "-b:a", rate)
        else:
            coded.write_bytes(b"#!AMR-WB\n" + self._frames(pcm(waveform)))
        return coded

    def payload(self, data: bytes) -> Payload:
        """See `ProgramCodec`."""
        return amr_wb_payload(data)

    def decode(self, coded: Path, sampling_rate: int) -> Tensor:
        """See `ProgramCodec`."""
        back = coded.with_name("out.wav")
        run_ffmpeg(coded, back)
        return read_audio(back, sampling_rate)

    def _frames(self, samples: NDArray[np.int16]) -> bytes:
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


class Speex(ProgramCodec):
    """Wideband Speex through speexenc and speexdec, at a constant rate; a mode is a quality, 0 to 10."""

    title = "Speex"
    modes = ("0", "2", "4", "6")
    rate_hz = 16_000
    needs = "speexenc and speexdec"
    latency_seconds = 0.034  # the frame of 20 ms and 14 ms of look-ahead, as Speex's manual tells

    @classmethod
    def installed(cls) -> bool:
        """Whether both programmes are there."""
        return bool(shutil.which("speexenc") and shutil.which("speexdec"))

    @classmethod
    def accepts(cls, mode: str) -> bool:
        """The eleven qualities."""
        return mode in map(str, range(11))

    def encode(self, waveform: Tensor, sampling_rate: int, folder: Path) -> Path:
        """See `ProgramCodec`."""
        source, coded = folder / "in.wav", folder / "coded.spx"
        write_audio(source, waveform, sampling_rate)
        run_program("speexenc", "-w", "--quality", self.mode, str(source), str(coded))
        return coded

    def payload(self, data: bytes) -> Payload:
        """See `ProgramCodec`."""
        return speex_payload(data)

    def decode(self, coded: Path, sampling_rate: int) -> Tensor:
        """See `ProgramCodec`."""
        back = coded.with_name("out.wav")
        run_program("speexdec", str(coded), str(back))
        return read_audio(back, sampling_rate)


FAMILIES: dict[str, type[ProgramCodec]] = {
    "opus": Opus,
    "codec2": Codec2,
    "amr-wb": AmrWb,
    "speex": Speex,
}


def find_baselines(request: str | None) -> tuple[list[ProgramCodec], list[str]]:
    """Systems that a list such as `opus:12,codec2` asks for.

    Args:
        request: Names with commas between, or `all`; a name may be followed by a colon and one of
            its modes, else it is judged at several. None or nothing asks for none.

    Returns:
        (those that are installed, a sentence for each that is not).

    Raises:
        ConfigError: If there is no baseline of a name, or no such mode of it, or one is asked for twice.
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
        systems += [family(mode) for mode in modes]
        if not family.installed():
            notes.append(f"{family.title} needs {family.needs} which is not on this machine.")
    require_distinct([system.name for system in systems])  # whether they are installed or not
    systems = [system for system in systems if system.installed()]
    if systems:
        titles = ", ".join(dict.fromkeys(system.title for system in systems))
        notes.append(
            f"Bit rates of {titles} are counted in the coded files: speech bits by the time they "
            "code, without containers, headers and the filling of last bytes."
        )
    return systems, list(dict.fromkeys(notes))


def require_distinct(names: Sequence[str]) -> None:
    """Refuse a report whose rows could not be told apart.

    Raises:
        ConfigError: If a name is there twice.
    """
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"Two rows of the report would be called {name}; name one of them.")
