"""Waveform packs: a split decoded once, so that codec training reads samples and never a decoder.

A pack is a folder: `samples.npy` (all utterances end to end, int16), `pitch.npy` (their F0, if
asked for) and `index.json`. It is built under another name and renamed, so a pack that is there is
whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray
from tqdm import tqdm

from ..errors import ConfigError, CorpusError, MissingExtra
from ..tokenizer.audio import read_audio
from .manifest import Utterance, read_manifest

FORMAT_VERSION = 1
FULL_SCALE = 32768  # int16 / FULL_SCALE is the waveform
PITCH_FRAMES_PER_SECOND = 200
PITCH_RANGE_HZ = (60.0, 500.0)
_INDEX = "index.json"

PitchTracker = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class WaveformPack:
    """All waveforms of a split as one memory-mapped array.

    Attributes:
        folder: Where it lies.
        sampling_rate: Samples per second.
        ids: Utterance ids, in the manifest's order.
        speakers: Their speakers, empty where unknown.
        lengths: int64 `[num_items]`, samples of each.
    """

    folder: Path
    sampling_rate: int
    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    lengths: NDArray[np.int64]
    _samples: NDArray[np.int16]
    _pitch: NDArray[np.float32] | None
    _ends: NDArray[np.int64] = field(init=False, repr=False)
    _pitch_ends: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # A frozen dataclass fills its derived fields this way
        object.__setattr__(self, "_ends", np.cumsum(self.lengths))
        object.__setattr__(
            self, "_pitch_ends", np.cumsum(_pitch_frames(self.lengths, self.sampling_rate))
        )

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> WaveformPack:
        """Open a pack; nothing is read but the index.

        Raises:
            CorpusError: If it is missing, damaged, or of another format.
        """
        name = Path(folder)
        try:
            index = json.loads((name / _INDEX).read_text("utf-8"))
            if index["format"] != FORMAT_VERSION:
                raise ValueError(f"format {index['format']}, not {FORMAT_VERSION}")
            lengths = np.array(index["lengths"], dtype=np.int64)
            if (
                not len(lengths) == len(index["ids"]) == len(index["speakers"])
                or (lengths < 1).any()
            ):
                raise ValueError("its columns do not fit together")
            rate = int(index["sampling_rate"])
            samples = _open_flat(name / "samples.npy", np.int16, int(lengths.sum()))
            pitch = None
            if index["with_pitch"]:
                frames = int(_pitch_frames(lengths, rate).sum())
                pitch = _open_flat(name / "pitch.npy", np.float32, frames)
        except FileNotFoundError as error:
            raise CorpusError(
                f"{name} is not a waveform pack ({error.filename} is missing); build it again."
            ) from error
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise CorpusError(
                f"The waveform pack {name} is damaged ({error}); delete it and build it again."
            ) from error
        return cls(
            name, rate, tuple(index["ids"]), tuple(index["speakers"]), lengths, samples, pitch
        )

    @property
    def num_items(self) -> int:
        """Utterances."""
        return len(self.lengths)

    @property
    def seconds(self) -> float:
        """Total duration."""
        return float(self.lengths.sum()) / self.sampling_rate

    @property
    def has_pitch(self) -> bool:
        """Whether `pitch` can be called."""
        return self._pitch is not None

    def waveform(self, index: int) -> NDArray[np.int16]:
        """Samples of one utterance, a read-only view `[L]`; the waveform times `FULL_SCALE`."""
        end = int(self._ends[index])
        return self._samples[end - int(self.lengths[index]) : end]

    def pitch(self, index: int) -> NDArray[np.float32]:
        """F0 in Hz, 0 where unvoiced, a read-only view `[ceil(L / hop)]` with a hop of 5 ms.

        Entry i is the F0 at the centre of samples `[hop * i, hop * (i + 1))`.

        Raises:
            CorpusError: If the pack was built without pitch.
        """
        if self._pitch is None:
            raise CorpusError(
                f"The waveform pack {self.folder} has no pitch; build it again with pitch."
            )
        end = int(self._pitch_ends[index])
        start = int(self._pitch_ends[index - 1]) if index else 0
        return self._pitch[start:end]


def pack_waveforms(
    manifest: Path,
    out: Path,
    *,
    sampling_rate: int,
    split: str,
    with_pitch: bool = False,
    progress: bool = True,
) -> WaveformPack:
    """Decode a split of a manifest into a pack, or open it if it is there already.

    Args:
        manifest: Written by `prepare_corpus`.
        out: Folder of the pack; an older pack of other content is replaced.
        sampling_rate: Of the pack; with pitch a multiple of 200.
        split: `train`, `valid` or `test`.
        with_pitch: Track F0 with DIO and StoneMask (Morise et al. 2009, 2010) every 5 ms.
        progress: Show a bar.

    Raises:
        ConfigError: If the rate has no whole number of samples in 5 ms.
        CorpusError: If the split is empty or `out` is something else than a pack.
        MissingExtra: If pitch is asked for and pyworld is not installed.
        UnsupportedAudio: If a recording can no longer be read.
    """
    utterances = [utterance for utterance in read_manifest(manifest) if utterance.split == split]
    if not utterances:
        raise CorpusError(
            f"{manifest} has no utterance in the split {split!r}; name another split."
        )
    fingerprint = _fingerprint(utterances, sampling_rate, with_pitch)
    if out.exists():
        if _built_from(out) == fingerprint:
            return WaveformPack.open(out)
        if not out.is_dir() or (any(out.iterdir()) and not (out / _INDEX).is_file()):
            raise CorpusError(
                f"{out} is or holds something that is not a waveform pack; name another folder."
            )
    tracker = pitch_tracker(sampling_rate) if with_pitch else None
    part = out.parent / f".{out.name}.part"
    shutil.rmtree(part, ignore_errors=True)  # left by a run that was killed
    part.mkdir(parents=True)
    lengths = _decode(utterances, part, sampling_rate, tracker, progress)
    index = {
        "format": FORMAT_VERSION,
        "fingerprint": fingerprint,
        "sampling_rate": sampling_rate,
        "with_pitch": with_pitch,
        "ids": [utterance.id for utterance in utterances],
        "speakers": [utterance.speaker for utterance in utterances],
        "lengths": lengths,
    }
    (part / _INDEX).write_text(json.dumps(index, ensure_ascii=False), "utf-8")
    if out.exists():
        shutil.rmtree(out)
    part.replace(out)
    return WaveformPack.open(out)


def pitch_tracker(sampling_rate: int) -> PitchTracker:
    """Make a function float32 `[L]` -> F0 in Hz, float32 `[ceil(L / hop)]`, 0 where unvoiced.

    Raises:
        ConfigError: If 5 ms are not a whole, even number of samples.
        MissingExtra: If pyworld is not installed.
    """
    hop, rest = divmod(sampling_rate, PITCH_FRAMES_PER_SECOND)
    if rest or hop % 2:
        raise ConfigError(
            f"Pitch needs a multiple of {2 * PITCH_FRAMES_PER_SECOND} Hz, not {sampling_rate} Hz."
        )
    try:
        import pyworld
    except ImportError as error:
        raise MissingExtra(
            "Pitch tracks need pyworld; install the extra `pitch` (pip install -e '.[pitch]' in a checkout)."
        ) from error
    low, high = PITCH_RANGE_HZ

    def track(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        # DIO looks at times 0, hop, 2 hop…; half a hop of silence in front and the first look left
        # out put those times on the centres of the hops.
        padded = np.pad(waveform.astype(np.float64), (hop // 2, hop))
        rough, times = pyworld.dio(
            padded,
            sampling_rate,
            f0_floor=low,
            f0_ceil=high,
            frame_period=1000 / PITCH_FRAMES_PER_SECOND,
        )
        refined = pyworld.stonemask(padded, rough, times, sampling_rate)
        f0 = refined[1 : 1 + -(-len(waveform) // hop)].astype(np.float32)
        f0[~((f0 >= low) & (f0 <= high))] = (
            0.0  # StoneMask may wander off, or return NaN in silence
        )
        return f0

    return track


def _decode(
    utterances: Sequence[Utterance],
    part: Path,
    sampling_rate: int,
    tracker: PitchTracker | None,
    progress: bool,
) -> list[int]:
    lengths: list[int] = []
    samples_file = _FlatWriter(part / "samples.npy", np.int16)
    pitch_file = _FlatWriter(part / "pitch.npy", np.float32) if tracker else None
    with samples_file:
        for utterance in tqdm(utterances, desc="pack", unit="file", disable=not progress):
            waveform = read_audio(utterance.audio, sampling_rate).numpy()
            samples = np.clip(np.rint(waveform * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(
                np.int16
            )
            samples_file.append(samples)
            lengths.append(len(samples))
            if tracker and pitch_file:
                pitch_file.append(tracker(waveform))
    if pitch_file:
        pitch_file.close()
    return lengths


class _FlatWriter:
    """A one-dimensional .npy file that grows: NumPy's header reserves room for the final length."""

    def __init__(self, path: Path, dtype: type[np.generic]) -> None:
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._count = 0
        self._file = path.open("wb")
        self._write_header()

    def append(self, values: NDArray[Any]) -> None:
        self._file.write(np.ascontiguousarray(values, self._dtype).tobytes())
        self._count += len(values)

    def close(self) -> None:
        if self._file.closed:
            return
        self._file.seek(0)
        self._write_header()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write_header(self) -> None:
        npy_format.write_array_header_1_0(
            self._file, {"descr": self._dtype.str, "fortran_order": False, "shape": (self._count,)}
        )


def _open_flat(path: Path, dtype: type[np.generic], count: int) -> NDArray[Any]:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.dtype != dtype or array.shape != (count,):
        raise ValueError(
            f"{path.name} holds {array.dtype} {list(array.shape)}, not {np.dtype(dtype)} [{count}]"
        )
    return array


def _pitch_frames(lengths: NDArray[np.int64], sampling_rate: int) -> NDArray[np.int64]:
    hop = sampling_rate // PITCH_FRAMES_PER_SECOND
    return -(-lengths // hop)


def _fingerprint(utterances: Sequence[Utterance], sampling_rate: int, with_pitch: bool) -> str:
    digest = hashlib.sha256(f"{FORMAT_VERSION} {sampling_rate} {with_pitch}".encode())
    for utterance in utterances:
        row = [utterance.id, str(utterance.audio), round(utterance.seconds, 6), utterance.speaker]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def _built_from(folder: Path) -> str | None:
    try:
        fingerprint = json.loads((folder / _INDEX).read_text("utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return fingerprint if isinstance(fingerprint, str) else None
