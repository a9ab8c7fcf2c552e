"""A corpus in, a clean manifest out: every recording decoded once, every rejection explained."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tqdm import tqdm

from ..errors import ConfigError, CorpusError, UnsupportedAudio
from ..tokenizer.audio import inspect_audio, read_audio
from ..tokenizer.files import write_atomically
from .manifest import SPLITS, Utterance, storable, write_json_lines, write_manifest
from .readers import Recording, Rejection, read_corpus

SILENCE_PEAK = 1e-3  # -60 dBFS: below the noise floor of any recording that holds speech
KEPT_SHARE = (
    0.98  # a decoder may lose its last packet; a file that ends well before its header says is cut
)


@dataclass(frozen=True)
class PrepareSummary:
    """What `prepare_corpus` did.

    Attributes:
        manifest: Path of the manifest.
        utterances: Accepted recordings of each split.
        seconds: Their total duration, of each split.
        speakers: Known speakers of each split.
        rejected: Rejections by kind.
        shared_speakers: Speakers that the corpus itself puts in more than one split.
    """

    manifest: Path
    utterances: dict[str, int]
    seconds: dict[str, float]
    speakers: dict[str, int]
    rejected: dict[str, int] = field(default_factory=dict)
    shared_speakers: int = 0

    def table(self) -> str:
        """A table for people: one row a split, then the rejections."""
        lines = [f"{'split':<8}{'utterances':>12}{'hours':>10}{'speakers':>10}"]
        for split in SPLITS:
            if self.utterances[split]:
                hours = self.seconds[split] / 3600
                lines.append(
                    f"{split:<8}{self.utterances[split]:>12}{hours:>10.3f}{self.speakers[split]:>10}"
                )
        reasons = ", ".join(f"{count} {kind}" for kind, count in sorted(self.rejected.items()))
        total = sum(self.rejected.values())
        lines.append(f"rejected {total}" + (f" ({reasons}); see rejected.jsonl" if total else ""))
        if self.shared_speakers:
            lines.append(
                f"{self.shared_speakers} speakers are in more than one split of the corpus"
            )
        return "\n".join(lines)


def prepare_corpus(
    corpus: Path,
    out: Path,
    *,
    min_seconds: float = 0.4,
    max_seconds: float = 30.0,
    valid_share: float = 0.05,
    valid_pattern: str | None = None,
    seed: int = 0,
    require_text: bool = True,
    progress: bool = True,
) -> PrepareSummary:
    """Check every recording of a corpus and write the manifest of the good ones.

    Args:
        corpus: A folder of recordings with `.txt` transcripts, a JSONL list, or a folder of those.
        out: Folder for `manifest.jsonl`, `rejected.jsonl` and `summary.json`.
        min_seconds: Shorter recordings are rejected.
        max_seconds: Longer ones too.
        valid_share: Share of the speakers that are held out for validation.
        valid_pattern: Regular expression; speakers whose name it finds are held out instead.
        seed: Chooses who is held out; which side a speaker falls on does not depend on the others.
        require_text: Reject recordings without a transcript; else they are kept with empty text.
        progress: Show a bar.

    Raises:
        ConfigError: If an option makes no sense.
        CorpusError: If nothing is found, no recording has a transcript, or all are rejected.
    """
    pattern = _checked_options(min_seconds, max_seconds, valid_share, valid_pattern)
    entries = list(read_corpus(corpus))
    recordings = [entry for entry in entries if isinstance(entry, Recording)]
    if not entries:
        raise CorpusError(
            f"{corpus} holds no recordings (WAV, FLAC, OGG, MP3 or Opus) and no JSONL list of them."
        )
    if require_text and recordings and not any(recording.text for recording in recordings):
        raise CorpusError(
            f"No recording in {corpus} has a transcript; put a .txt of the same name beside each, "
            "or allow missing text (enough for codec training)."
        )
    accepted: list[tuple[Recording, float]] = []
    rejected: list[Rejection] = []
    seen: set[str] = set()
    for entry in tqdm(entries, desc="prepare", unit="file", disable=not progress):
        verdict = (
            entry
            if isinstance(entry, Rejection)
            else _judge(entry, seen, min_seconds, max_seconds, require_text)
        )
        if isinstance(verdict, Rejection):
            rejected.append(verdict)
        elif isinstance(entry, Recording):
            seen.add(entry.id)
            accepted.append((entry, verdict))
    out.mkdir(parents=True, exist_ok=True)
    ledger = out / "rejected.jsonl"
    write_json_lines(
        ledger, ({k: storable(v) for k, v in asdict(rejection).items()} for rejection in rejected)
    )
    if not accepted:
        raise CorpusError(
            f"All {len(entries)} recordings of {corpus} were rejected; {ledger} says why for each."
        )
    splits = assign_splits([recording for recording, _ in accepted], valid_share, seed, pattern)
    utterances = [
        Utterance(
            id=recording.id,
            audio=recording.audio,
            seconds=seconds,
            text=recording.text or "",
            speaker=recording.speaker,
            split=split,
            phonemes=recording.phonemes,
            durations_s=fit_durations(recording.durations_s, seconds),
        )
        for (recording, seconds), split in zip(accepted, splits, strict=True)
    ]
    write_manifest(out / "manifest.jsonl", utterances)
    summary = _summarise(out / "manifest.jsonl", utterances, rejected)
    numbers = asdict(summary) | {"manifest": summary.manifest.name}
    write_atomically(out / "summary.json", (json.dumps(numbers, indent=2) + "\n").encode())
    return summary


def assign_splits(
    recordings: Sequence[Recording],
    valid_share: float,
    seed: int,
    pattern: re.Pattern[str] | None = None,
) -> list[str]:
    """Choose a split for each recording so that no speaker is in two, unless the corpus says so.

    A given split stands, and the speaker's other recordings follow it. Otherwise the hash of seed
    and speaker decides, so that a grown corpus keeps its split. With a single speaker, or unknown
    ones, the recording's id takes the speaker's place.
    """
    given = {r.speaker: r.split for r in reversed(recordings) if r.split is not None and r.speaker}
    alone = len({r.speaker for r in recordings}) == 1
    keys = [r.id if alone or not r.speaker else r.speaker for r in recordings]
    free = {
        key: _fraction(seed, key)
        for key, r in zip(keys, recordings, strict=True)
        if r.split is None and (alone or r.speaker not in given)
    }
    if pattern is not None:
        held_out = {
            k
            for k, r in zip(keys, recordings, strict=True)
            if k in free and pattern.search(r.speaker)
        }
    else:
        held_out = {key for key, fraction in free.items() if fraction < valid_share}
        whole = len(free) == len(set(keys))  # the corpus brought no split: it must get both sides
        if whole and valid_share > 0 and len(free) > 1:
            by_fraction = sorted(free, key=lambda key: (free[key], key))
            held_out = (held_out or {by_fraction[0]}) - {by_fraction[-1]}
    return [
        r.split
        or (None if alone else given.get(r.speaker))
        or ("valid" if key in held_out else "train")
        for key, r in zip(keys, recordings, strict=True)
    ]


def fit_durations(
    durations_s: tuple[float, ...] | None, seconds: float
) -> tuple[float, ...] | None:
    """Make durations end with the recording: cut what lies past it, lengthen the last symbol."""
    if durations_s is None:
        return None
    fitted, start = [], 0.0
    for duration in durations_s:
        end = min(start + duration, seconds)
        fitted.append(end - start)
        start = end
    fitted[-1] += seconds - start
    return tuple(fitted)


def measure_recording(path: Path, min_seconds: float, max_seconds: float) -> float:
    """Decode a recording whole and return its seconds.

    Raises:
        UnsupportedAudio: If it cannot be decoded, breaks off, is silent, or has a duration out of
            bounds.
    """
    try:
        info = inspect_audio(path, max_seconds)
        waveform = read_audio(path, info.sampling_rate, max_seconds)
    except OSError as error:
        raise UnsupportedAudio(
            f"{path} cannot be opened ({error.strerror}); check its permissions."
        ) from error
    if len(waveform) < KEPT_SHARE * info.num_samples:
        raise UnsupportedAudio(
            f"{path} breaks off after {len(waveform)} of {info.num_samples} samples; restore it."
        )
    seconds = len(waveform) / info.sampling_rate
    if seconds < min_seconds:
        raise UnsupportedAudio(
            f"{path} lasts {seconds:.2f} s, the least here is {min_seconds:g} s; leave it out."
        )
    if float(waveform.abs().max()) < SILENCE_PEAK:
        raise UnsupportedAudio(f"{path} is silent (its peak is under -60 dBFS); leave it out.")
    return seconds


def _judge(
    recording: Recording, seen: set[str], min_seconds: float, max_seconds: float, require_text: bool
) -> float | Rejection:
    name, audio = recording.id, str(recording.audio)
    if name in seen:
        return Rejection(
            name, audio, f"The id {name!r} was there before; ids must differ.", "duplicate"
        )
    if require_text and not recording.text:
        return Rejection(
            name, audio, "There is no transcript; add one, or allow missing text.", "transcript"
        )
    try:
        return measure_recording(recording.audio, min_seconds, max_seconds)
    except UnsupportedAudio as error:
        return Rejection(name, audio, str(error), "audio")


def _fraction(seed: int, key: str) -> float:
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _checked_options(
    min_seconds: float, max_seconds: float, valid_share: float, valid_pattern: str | None
) -> re.Pattern[str] | None:
    if not 0 <= min_seconds < max_seconds:
        raise ConfigError(
            f"{min_seconds:g} to {max_seconds:g} s is no range of durations; give 0 <= min < max."
        )
    if not 0 <= valid_share < 1:
        raise ConfigError(
            f"A validation share of {valid_share:g} makes no sense; give 0 <= share < 1."
        )
    try:
        return None if valid_pattern is None else re.compile(valid_pattern)
    except re.error as error:
        raise ConfigError(f"{valid_pattern!r} is not a regular expression ({error}).") from error


def _summarise(
    manifest: Path, utterances: Sequence[Utterance], rejected: Iterable[Rejection]
) -> PrepareSummary:
    speakers = {
        split: {u.speaker for u in utterances if u.split == split and u.speaker} for split in SPLITS
    }
    homes = Counter(speaker for known in speakers.values() for speaker in known)
    return PrepareSummary(
        manifest=manifest,
        utterances={split: sum(u.split == split for u in utterances) for split in SPLITS},
        seconds={
            split: round(sum(u.seconds for u in utterances if u.split == split), 3)
            for split in SPLITS
        },
        speakers={split: len(known) for split, known in speakers.items()},
        rejected=dict(sorted(Counter(rejection.kind for rejection in rejected).items())),
        shared_speakers=sum(count > 1 for count in homes.values()),
    )
