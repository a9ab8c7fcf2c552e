"""One entry of a corpus through every step: accepted with what was measured and changed, or refused."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ...tokenizer.audio import encode_audio, resample
from ...tokenizer.files import write_atomically
from ..manifest import CleaningRecord, storable
from ..readers.entry import Recording, Rejection
from .apparent_speed import apparent_speed
from .bandwidth import effective_bandwidth
from .decoding import Clip, RefusedAudio, decode_recording, require_readable, require_seconds
from .fingerprint import fingerprint
from .loudness import fitting_gain, integrated_loudness, levelling_gain
from .options import CleaningOptions
from .scripts import script_share
from .speaking_rate import characters_per_second
from .trimming import speech_bounds, trimmed_margins

AUDIO_FOLDER = "audio"
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_STEM_CHARACTERS = 60


@dataclass(frozen=True)
class Cleaned:
    """What is known of an accepted recording.

    Attributes:
        seconds: Duration after cleaning.
        digest: Hash of the samples before cleaning.
        audio: Path of the stored audio below the output folder, or None: the original stands.
        num_bytes: Its size.
        durations_s: Durations of the symbols that fit the cleaned audio, or None.
        record: What cleaning measured and changed, or None.
        active_s: Seconds from the first to the last loud frame, where a fingerprint was asked for.
        sound: The fingerprint, hexadecimal, or empty.
    """

    seconds: float
    digest: str
    audio: str | None = None
    num_bytes: int = 0
    durations_s: tuple[float, ...] | None = None
    record: CleaningRecord | None = None
    active_s: float = 0.0
    sound: str = ""

    def is_stored(self, out: Path) -> bool:
        """Whether the audio that was stored below `out`, if any was, is still there."""
        try:
            return self.audio is None or (out / self.audio).stat().st_size == self.num_bytes
        except OSError:
            return False


Verdict = Cleaned | Rejection


def clean_recording(
    recording: Recording, options: CleaningOptions, out: Path, *, require_text: bool = True
) -> Verdict:
    """Judge an entry and, if its audio is changed or lies in no file of its own, store it as FLAC.

    Args:
        recording: The entry; its audio is decoded at most once.
        options: What to check and to change.
        out: Output folder; audio goes below it to `stored_name(recording.id)`.
        require_text: Refuse an entry without a transcript.
    """
    try:
        _check_text(recording, options, require_text)
        clip = decode_recording(
            recording,
            min_seconds=options.min_seconds,
            max_seconds=options.max_seconds,
            downmix=options.downmix or "mean",
        )
        return _clean(recording, clip, options, out)
    except RefusedAudio as refusal:
        return Rejection(
            recording.id, storable(str(recording.audio)), storable(str(refusal)), refusal.kind
        )


def stored_name(name: str) -> str:
    """Path of an id's stored audio below the output folder, a function of the id alone.

    The hash keeps ids apart that differ in odd characters only, and spreads the files over 256
    folders.
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    stem = _UNSAFE.sub("_", name)[-_STEM_CHARACTERS:]
    return f"{AUDIO_FOLDER}/{digest[:2]}/{stem}-{digest[:12]}.flac"


def _check_text(recording: Recording, options: CleaningOptions, require_text: bool) -> None:
    if require_text and not recording.text:
        try:
            require_readable(recording, max_seconds=options.max_seconds)
        except RefusedAudio as worse:
            raise RefusedAudio(
                worse.kind,
                f"{worse} There is no transcript either; add one, or allow missing text.",
            ) from worse
        raise RefusedAudio("transcript", "There is no transcript; add one, or allow missing text.")
    if options.scripts and recording.text:
        share = script_share(recording.text, options.scripts)
        if share < options.min_script_share:
            raise RefusedAudio(
                "language",
                f"Only {share:.0%} of the transcript's letters are {' or '.join(options.scripts)}; "
                "leave it out, or allow its script.",
            )


def _clean(recording: Recording, clip: Clip, options: CleaningOptions, out: Path) -> Cleaned:
    name = recording.audio
    samples, rate, durations = clip.samples, clip.sampling_rate, recording.durations_s
    is_part = recording.start_s > 0 or recording.end_s is not None
    bandwidth = _checked_bandwidth(clip, options, name)
    clipped = None
    if options.max_clipped_share is not None:
        clipped = round(clip.clipped_share, 6)
        if clip.clipped_share > options.max_clipped_share:
            raise RefusedAudio(
                "clipped",
                f"{clip.clipped_share:.2%} of the samples of {name} are clipped, the limit here is "
                f"{options.max_clipped_share:.2%}; record it again.",
            )
    active_s, sound = fingerprint(samples, rate) if options.near_duplicates else (0.0, b"")
    trimmed = None
    if options.trim_silence:
        samples, durations, trimmed = _trimmed(samples, rate, durations, options, name)
    letters_hz = _checked_rate(recording, samples, rate, options)
    speed = _checked_speed(recording, samples, rate, options)
    original_hz = None
    if options.resample_hz is not None and options.resample_hz != rate:
        original_hz, rate = rate, options.resample_hz
        samples = resample(torch.from_numpy(samples), original_hz, rate).numpy()
    loudness, gain = None, 1.0
    if options.loudness_lufs is not None:
        loudness = integrated_loudness(samples, rate)
        gain = levelling_gain(samples, loudness, options.loudness_lufs)
    downmixed = options.downmix is not None and clip.num_channels > 1
    changed = bool(trimmed or original_hz or downmixed or loudness is not None)
    stored, num_bytes = None, 0
    if changed or is_part or recording.content is not None:
        gain *= fitting_gain(samples * np.float32(gain))
        data = encode_audio(torch.from_numpy(samples * np.float32(gain)), rate, ".flac")
        stored, num_bytes = stored_name(recording.id), len(data)
        (out / stored).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out / stored, data)
    record = CleaningRecord(
        part_s=(recording.start_s, recording.start_s + clip.seconds) if is_part else None,
        num_channels=clip.num_channels if stored and clip.num_channels > 1 else None,
        trimmed_s=trimmed,
        original_hz=original_hz,
        loudness_lufs=None if loudness is None else round(max(loudness, -200.0), 2),
        gain_db=round(20 * float(np.log10(gain)), 2) if gain != 1 else None,
        clipped_share=clipped,
        bandwidth_hz=bandwidth,
        characters_per_second=letters_hz,
        apparent_speed=speed,
    )
    return Cleaned(
        seconds=len(samples) / rate,
        digest=clip.digest,
        audio=stored,
        num_bytes=num_bytes,
        durations_s=durations,
        record=None if record == CleaningRecord() else record,
        active_s=round(active_s, 3),
        sound=sound.hex(),
    )


def _checked_bandwidth(clip: Clip, options: CleaningOptions, name: Path) -> float | None:
    if options.min_bandwidth_hz is None and options.min_bandwidth_share is None:
        return None
    found = effective_bandwidth(clip.samples, clip.sampling_rate)
    nyquist = clip.sampling_rate / 2
    least = max(options.min_bandwidth_hz or 0.0, (options.min_bandwidth_share or 0.0) * nyquist)
    if found < least:
        raise RefusedAudio(
            "bandwidth",
            f"{name} reaches up to {found:.0f} Hz only, of {nyquist:.0f} Hz that its rate could "
            f"hold; {least:.0f} Hz are the least here: find the original.",
        )
    return round(found, 1)


def _trimmed(
    samples: NDArray[np.float32],
    rate: int,
    durations: tuple[float, ...] | None,
    options: CleaningOptions,
    name: Path,
) -> tuple[NDArray[np.float32], tuple[float, ...] | None, tuple[float, float] | None]:
    seconds = len(samples) / rate
    bounds = speech_bounds(samples, rate)
    if bounds is None:
        raise RefusedAudio("no speech", f"No speech was found in {name}; leave it out.")
    head, tail = trimmed_margins(bounds, seconds, options.trim_margin_s, durations)
    first, last = round(head * rate), len(samples) - round(tail * rate)
    if first == 0 and last == len(samples):
        return samples, durations, None
    kept = np.ascontiguousarray(samples[first:last])
    require_seconds(
        f"What trimming left of {name}", len(kept) / rate, options.min_seconds, options.max_seconds
    )
    if durations is not None:
        durations = (durations[0] - first / rate, *durations[1:])
    return kept, durations, (round(first / rate, 4), round((len(samples) - last) / rate, 4))


def _checked_rate(
    recording: Recording, samples: NDArray[np.float32], rate: int, options: CleaningOptions
) -> float | None:
    bounds = options.characters_per_second
    if bounds is None or not recording.text:
        return None
    found = characters_per_second(recording.text, samples, rate)
    if not bounds[0] <= found <= bounds[1]:
        raise RefusedAudio(
            "speaking rate",
            f"The transcript gives {found:.1f} characters per second of speech in "
            f"{recording.audio}, {bounds[0]:g} to {bounds[1]:g} are plausible here; "
            "check transcript and sampling rate.",
        )
    return round(found, 2)


def _checked_speed(
    recording: Recording, samples: NDArray[np.float32], rate: int, options: CleaningOptions
) -> float | None:
    bounds = options.apparent_speed
    if bounds is None or not recording.text:
        return None
    found = apparent_speed(recording.text, samples, rate)
    if not bounds[0] <= found <= bounds[1]:
        raise RefusedAudio(
            "apparent speed",
            f"{recording.audio} seems to run {found:.2f} times too fast, {bounds[0]:g} to "
            f"{bounds[1]:g} are plausible here; check its sampling rate of {rate} Hz.",
        )
    return round(found, 3)
