"""Audio in and out: any format, rate and channel count that soundfile reads, through soxr to one rate."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UnsupportedAudio
from .files import write_atomically
from .paths import AUDIO_FORMATS, require_audio_suffix, require_audio_target, require_recording

MAX_SECONDS = 4 * 3600.0
MAX_CHANNELS = 32
RATES_HZ = (4_000, 384_000)
_BLOCK_SAMPLES = 1 << 20
_QUALITY = "HQ"
_SUBTYPES = {".wav": "PCM_16", ".opus": "OPUS", ".ogg": "VORBIS"}


@dataclass(frozen=True)
class AudioInfo:
    """What a header says, before any sample is read."""

    num_samples: int
    sampling_rate: int
    num_channels: int

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.num_samples / self.sampling_rate


def inspect_audio(path: str | os.PathLike[str], max_seconds: float = MAX_SECONDS) -> AudioInfo:
    """Read an audio file's header and refuse what must not be decoded.

    Raises:
        UnsupportedAudio: If the file is missing, empty, unreadable, or beyond the bounds on
            duration, rate and channels.
    """
    name = require_recording(path)
    try:
        header = soundfile.info(str(name))
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        raise UnsupportedAudio(
            f"{name} is not audio that soundfile can read; convert it to WAV, FLAC, OGG, MP3 or Opus."
        ) from error
    info = AudioInfo(header.frames, header.samplerate, header.channels)
    if info.num_samples < 1:
        raise UnsupportedAudio(f"{name} holds no samples; give a recording that is not empty.")
    if not RATES_HZ[0] <= info.sampling_rate <= RATES_HZ[1]:
        raise UnsupportedAudio(
            f"{name} has a rate of {info.sampling_rate} Hz; {RATES_HZ[0]} to {RATES_HZ[1]} Hz are supported."
        )
    if info.num_channels > MAX_CHANNELS:
        raise UnsupportedAudio(
            f"{name} has {info.num_channels} channels; at most {MAX_CHANNELS} are supported."
        )
    if info.seconds > max_seconds:
        raise UnsupportedAudio(
            f"{name} lasts {info.seconds:.0f} s, the limit here is {max_seconds:.0f} s; cut it into parts."
        )
    return info


def read_audio(
    path: str | os.PathLike[str], sampling_rate: int, max_seconds: float = MAX_SECONDS
) -> Tensor:
    """Read a recording as mono at `sampling_rate`.

    Returns:
        float32 `[L]`, nominally within -1 to 1; channels are averaged.

    Raises:
        UnsupportedAudio: As `inspect_audio`, and if decoding fails, a sample is not finite, or the
            decoded stream is longer than the limit.
    """
    name = Path(path)
    info = inspect_audio(name, max_seconds)
    # The cap is on decoded samples: a compressed file's size says nothing about its length.
    limit = int(max_seconds * info.sampling_rate) + 1
    change = None
    if info.sampling_rate != sampling_rate:
        change = soxr.ResampleStream(
            info.sampling_rate, sampling_rate, 1, dtype="float32", quality=_QUALITY
        )
    parts, total, first = [], 0, None
    for block in _decoded(name):
        total += len(block)
        if total >= limit:
            raise UnsupportedAudio(
                f"{name} decodes to more than {max_seconds:.0f} s; cut it into parts."
            )
        if not np.isfinite(block).all():
            raise UnsupportedAudio(
                f"{name} contains samples that are NaN or infinite; export it again."
            )
        mono = block.mean(axis=1) if block.shape[1] > 1 else block[:, 0]
        first = mono[:1] if first is None else first
        parts.append(np.ascontiguousarray(mono) if change is None else change.resample_chunk(mono))
    if first is None:
        raise UnsupportedAudio(f"{name} holds no samples; give a recording that is not empty.")
    if change is not None:
        parts.append(change.resample_chunk(first[:0], last=True))
        if not any(len(part) for part in parts):  # fewer input samples than one output sample
            parts = [first]
    return torch.from_numpy(np.concatenate(parts))


def _decoded(name: Path) -> Iterator[NDArray[np.float32]]:
    """Samples of a file, float32 `[n, channels]` at a time: an hour of stereo fits as well."""
    try:
        with soundfile.SoundFile(str(name)) as file:
            while len(block := file.read(_BLOCK_SAMPLES, dtype="float32", always_2d=True)):
                yield block
                # soundfile seeks behind every read, and Opus decodes its last page anew for that
                if len(block) < _BLOCK_SAMPLES:
                    break
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise UnsupportedAudio(
            f"{name} breaks off or is damaged ({error}); restore or re-encode it."
        ) from error


def resample(waveform: Tensor, from_hz: int, to_hz: int) -> Tensor:
    """Change the rate of float32 `[L]`; at least one sample comes back."""
    if from_hz == to_hz:
        return waveform
    changed = soxr.resample(waveform.numpy(), from_hz, to_hz, quality=_QUALITY)
    if len(changed) == 0:  # fewer input samples than one output sample
        changed = waveform.numpy()[:1]
    return torch.from_numpy(np.ascontiguousarray(changed, dtype=np.float32))


def encode_audio(waveform: Tensor, sampling_rate: int, suffix: str) -> bytes:
    """Audio file bytes of float `[L]` in the format that `suffix` names.

    Raises:
        UnsupportedAudio: If the suffix is not one that soundfile writes for us.
    """
    suffix = require_audio_suffix(suffix)
    buffer = io.BytesIO()
    samples = waveform.detach().cpu().float().clamp(-1, 1).numpy()
    # libsndfile's Opus takes five rates only; 48 kHz holds any of ours
    if suffix == ".opus" and sampling_rate not in (8000, 12000, 16000, 24000, 48000):
        samples, sampling_rate = soxr.resample(samples, sampling_rate, 48000), 48000
    soundfile.write(
        buffer,
        samples,
        sampling_rate,
        format=AUDIO_FORMATS[suffix],
        subtype=_SUBTYPES.get(suffix),
    )
    return buffer.getvalue()


def write_audio(path: str | os.PathLike[str], waveform: Tensor, sampling_rate: int) -> None:
    """Write float `[L]` atomically; the suffix chooses WAV, FLAC, OGG, MP3 or Opus.

    Raises:
        UnsupportedAudio: If the suffix is unknown or the folder does not exist.
    """
    target = require_audio_target(path)
    write_atomically(target, encode_audio(waveform, sampling_rate, target.suffix))
