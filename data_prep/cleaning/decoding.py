"""A recording decoded whole, once, with what can only be seen while its channels are apart."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from ...errors import UnsupportedAudio
from ...tokenizer.audio import MAX_CHANNELS, RATES_HZ
from ..readers.entry import Recording
from .clipping import clipped_samples, count_plateaus
from .containers import is_cut_short

SILENCE_PEAK = 1e-3  # -60 dBFS: below the noise floor of any recording that holds speech
KEPT_SHARE = (
    0.98  # a decoder may lose its last packet; a file that ends well before its header says is cut
)
CANCELLED_SHARE = (
    0.01  # the mean of 32 channels that have nothing in common keeps 0.03 of the power
)
_BLOCK_SAMPLES = 1 << 18


class RefusedAudio(UnsupportedAudio):
    """A recording that a check refuses, with the word that it is counted under."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True)
class Clip:
    """A decoded recording, or the part of it that an entry names.

    Attributes:
        samples: float32 `[L]`, one channel.
        sampling_rate: Rate in Hz.
        num_channels: Channels before the downmix.
        clipped_share: Share of the samples on clipped plateaus, of the worst channel.
        digest: Hash of the samples at 16 bit; the same in every lossless container.
    """

    samples: NDArray[np.float32]
    sampling_rate: int
    num_channels: int
    clipped_share: float
    digest: str

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.samples) / self.sampling_rate


def decode_recording(
    recording: Recording, *, min_seconds: float, max_seconds: float, downmix: str = "mean"
) -> Clip:
    """Decode what an entry names, after its header has passed.

    Memory is bounded by `max_seconds`, whatever a header claims.

    Raises:
        RefusedAudio: If it is missing, unreadable, cut short, not finite, silent, has channels that
            cancel each other, or lasts less or longer than the bounds.
    """
    with _opened(recording) as file:
        return _decode(file, recording, min_seconds, max_seconds, downmix)


def require_readable(recording: Recording, *, max_seconds: float) -> None:
    """Look at the header and the length of what an entry names, and decode nothing.

    Raises:
        RefusedAudio: If it is missing, no audio, cut short as its container tells, or longer than
            `max_seconds`.
    """
    with _opened(recording) as file:
        _checked_header(file, recording, max_seconds)


@contextmanager
def _opened(recording: Recording) -> Iterator[soundfile.SoundFile]:
    """The file of an entry, whole as far as its container tells; its errors become ours."""
    name = recording.audio
    try:
        source: BinaryIO
        if recording.content is not None:
            source = io.BytesIO(recording.content)
        elif not name.is_file():
            raise RefusedAudio(
                "unreadable",
                f"{name} does not exist or is not a file; give the path of a recording.",
            )
        else:
            source = name.open("rb")
        with source:
            size = source.seek(0, io.SEEK_END)
            if size == 0:
                raise RefusedAudio("unreadable", f"{name} is an empty file; give a recording.")
            if is_cut_short(source, size):
                raise RefusedAudio(
                    "cut", f"{name} ends before its own header says; restore the whole file."
                )
            source.seek(0)
            # libsndfile reads a path faster than it calls back into Python
            with _sound_file(recording, source) as file:
                yield file
    except OSError as error:
        raise RefusedAudio(
            "unreadable", f"{name} cannot be opened ({error.strerror}); check its permissions."
        ) from error
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError) as error:
        raise RefusedAudio(
            "unreadable", f"{name} is damaged ({error}); restore or re-encode it."
        ) from error


def _sound_file(recording: Recording, source: BinaryIO) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(
            source if recording.content is not None else str(recording.audio)
        )
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        raise RefusedAudio(
            "unreadable",
            f"{recording.audio} is not audio that soundfile can read; "
            "convert it to WAV, FLAC, OGG, MP3 or Opus.",
        ) from error


def _decode(
    file: soundfile.SoundFile,
    recording: Recording,
    min_seconds: float,
    max_seconds: float,
    downmix: str,
) -> Clip:
    name, rate, channels = recording.audio, file.samplerate, file.channels
    start, expected = _checked_header(file, recording, max_seconds)
    if start:
        file.seek(start)
    parts: list[NDArray[np.float32]] = []
    plateaus = np.zeros(channels, dtype=np.int64)
    power, mono_power, total = 0.0, 0.0, 0
    limit = min(expected, int(max_seconds * rate) + 1)
    while total < limit and len(
        block := file.read(min(_BLOCK_SAMPLES, limit - total), dtype="float32", always_2d=True)
    ):
        if not np.isfinite(block).all():
            raise RefusedAudio(
                "not finite", f"{name} contains samples that are NaN or infinite; export it again."
            )
        total += len(block)
        mono = block[:, 0]
        if channels > 1:
            plateaus += np.array([count_plateaus(block[:, c]) for c in range(channels)])
            mono = block.mean(axis=1) if downmix == "mean" else mono
            power += float(np.square(block).sum()) / channels
            mono_power += float(np.square(mono).sum())
        parts.append(np.array(mono))
    if total < KEPT_SHARE * expected:
        raise RefusedAudio(
            "cut", f"{name} breaks off after {total} of {expected} samples; restore it."
        )
    samples = np.concatenate(parts)
    require_seconds(str(name), len(samples) / rate, min_seconds, max_seconds)
    if float(np.abs(samples - samples.mean()).max()) < SILENCE_PEAK:
        if power / total >= SILENCE_PEAK**2:
            _refuse_cancelling(name)
        raise RefusedAudio(
            "silent", f"{name} is silent (its peak is under -60 dBFS); leave it out."
        )
    if channels > 1 and downmix == "mean" and mono_power < CANCELLED_SHARE * power:
        _refuse_cancelling(name)
    clipped = max(int(plateaus.max()), clipped_samples(samples))
    return Clip(samples, rate, channels, clipped / len(samples), _digest(samples, rate))


def _checked_header(
    file: soundfile.SoundFile, recording: Recording, max_seconds: float
) -> tuple[int, int]:
    """First sample and number of samples to read; refuses what must not be decoded."""
    name, rate, frames = recording.audio, file.samplerate, file.frames
    if frames < 1:
        raise RefusedAudio(
            "unreadable", f"{name} holds no samples; give a recording that is not empty."
        )
    if not RATES_HZ[0] <= rate <= RATES_HZ[1]:
        raise RefusedAudio(
            "unreadable",
            f"{name} has a rate of {rate} Hz; {RATES_HZ[0]} to {RATES_HZ[1]} Hz are supported.",
        )
    if file.channels > MAX_CHANNELS:
        raise RefusedAudio(
            "unreadable",
            f"{name} has {file.channels} channels; at most {MAX_CHANNELS} are supported.",
        )
    start, end = recording.start_s, recording.end_s
    if not start >= 0 or (end is not None and not end > start) or start * rate >= frames:
        raise RefusedAudio(
            "part",
            f"{name} has no part from {start:g} s to {'its end' if end is None else f'{end:g} s'}; "
            f"it lasts {frames / rate:.2f} s.",
        )
    first = round(start * rate)
    expected = frames - first if end is None else round(end * rate) - first
    if expected > max_seconds * rate:
        raise RefusedAudio(
            "duration",
            f"{name} lasts {expected / rate:.0f} s, the limit here is {max_seconds:g} s; "
            "cut it into parts.",
        )
    return first, expected


def require_seconds(name: str, seconds: float, min_seconds: float, max_seconds: float) -> None:
    """Hold a duration against its bounds.

    Raises:
        RefusedAudio: If it lies outside.
    """
    if seconds < min_seconds:
        raise RefusedAudio(
            "duration",
            f"{name} lasts {seconds:.2f} s, the least here is {min_seconds:g} s; leave it out.",
        )
    if seconds > max_seconds:
        raise RefusedAudio(
            "duration",
            f"{name} lasts {seconds:.2f} s, the limit here is {max_seconds:g} s; cut it into parts.",
        )


def _refuse_cancelling(name: object) -> None:
    raise RefusedAudio(
        "channels",
        f"The channels of {name} cancel each other; take the first one, or repair its polarity.",
    )


def _digest(samples: NDArray[np.float32], rate: int) -> str:
    coarse = np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2")
    return hashlib.blake2b(
        coarse.tobytes(), digest_size=16, salt=rate.to_bytes(8, "little")
    ).hexdigest()
