"""What a run of `prepare` did: numbers, a table, histograms in text and in a picture."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .manifest import SPLITS, Utterance
from .output import counted
from .readers.entry import Rejection

_BAR = 40  # characters of the longest bar
_MAX_BINS = 12
_STEPS = (1, 2, 5)
# Keys of `CleaningRecord` as people say them
_CHANGES = {
    "part_s": "cut out of longer ones",
    "num_channels": "mixed down to one channel",
    "original_hz": "resampled",
    "gain_db": "turned up or down",
    "trimmed_s": "trimmed",
}
_MEASURES = {
    "loudness_lufs": "loudness",
    "clipped_share": "clipping",
    "bandwidth_hz": "bandwidth",
    "characters_per_second": "letters per second",
    "apparent_speed": "apparent speed",
}


@dataclass(frozen=True)
class Histogram:
    """Counts of bins of one width.

    Attributes:
        title: What is counted, with its unit.
        start: Lower end of the first bin.
        width: Width of a bin.
        counts: Members of each bin, upper ends left out.
    """

    title: str
    start: float
    width: float
    counts: tuple[int, ...]

    def text(self) -> str:
        """A line a bin, with a bar."""
        rows = [
            (f"{self.start + i * self.width:g} to {self.start + (i + 1) * self.width:g}", count)
            for i, count in enumerate(self.counts)
        ]
        return _bars(self.title, rows)


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
        nameless: Accepted recordings without a speaker, whose splits may share one.
        cleaned: Accepted recordings that each step measured or changed.
        trimmed_seconds: Silence that was cut off, of all of them.
        split_note: What is not as the shares ask, and what to set; empty if all is.
        durations: Accepted recordings by their seconds.
        per_speaker: Known speakers by their number of recordings.
    """

    manifest: Path
    utterances: dict[str, int]
    seconds: dict[str, float]
    speakers: dict[str, int]
    rejected: dict[str, int] = field(default_factory=dict)
    shared_speakers: int = 0
    nameless: int = 0
    cleaned: dict[str, int] = field(default_factory=dict)
    trimmed_seconds: float = 0.0
    split_note: str = ""
    durations: Histogram | None = None
    per_speaker: Histogram | None = None

    def table(self) -> str:
        """A table for people: one row a split, then cleaning and the rejections."""
        lines = [f"{'split':<8}{'utterances':>12}{'hours':>10}{'speakers':>10}"]
        for split in SPLITS:
            if self.utterances[split]:
                hours = self.seconds[split] / 3600
                lines.append(
                    f"{split:<8}{self.utterances[split]:>12}{hours:>10.3f}{self.speakers[split]:>10}"
                )
        lines += self._cleaning()
        reasons = ", ".join(f"{count} {kind}" for kind, count in sorted(self.rejected.items()))
        total = sum(self.rejected.values())
        lines.append(f"rejected {total}" + (f" ({reasons}); see rejected.jsonl" if total else ""))
        if self.shared_speakers:
            verb, them = ("is", "it") if self.shared_speakers == 1 else ("are", "them")
            lines.append(
                f"{counted(self.shared_speakers, 'speaker')} {verb} in more than one split of the "
                f"corpus; --resplit parts {them}"
            )
        if self.nameless:
            lines.append(self._nameless())
        if self.split_note:
            lines.append(self.split_note)
        return "\n".join(lines)

    def _nameless(self) -> str:
        """What recordings of unknown speakers cost, and how to name them."""
        total = sum(self.utterances.values())
        which = f"all {total}" if self.nameless == total else f"{self.nameless} of {total}"
        return (
            f"speakers are unknown for {which} recordings: none can be the prompt of another, which is "
            "how a model learns to follow a voice; give each speaker a folder, or a list with `speaker`"
        )

    def _cleaning(self) -> list[str]:
        """A line of what was changed, and one of what was measured, in words."""
        changed = [
            f"{self.cleaned[key]} {words}" for key, words in _CHANGES.items() if key in self.cleaned
        ]
        measured = [
            f"{words} of {self.cleaned[key]}"
            for key, words in _MEASURES.items()
            if key in self.cleaned
        ]
        cut = f" (silence of {self.trimmed_seconds:.1f} s in all)" if self.trimmed_seconds else ""
        return [
            *([f"recordings changed: {', '.join(changed)}{cut}"] if changed else []),
            *([f"recordings measured: {', '.join(measured)}"] if measured else []),
        ]

    def report(self) -> str:
        """The table, then histograms of durations, recordings per speaker and reasons."""
        parts = [self.table()]
        parts += [h.text() for h in (self.durations, self.per_speaker) if h is not None]
        if self.rejected:
            ranked = sorted(self.rejected.items(), key=lambda pair: (-pair[1], pair[0]))
            parts.append(_bars("rejected, by reason", ranked))
        return "\n\n".join(parts)


def summarise(
    manifest: Path,
    utterances: Sequence[Utterance],
    rejected: Iterable[Rejection],
    split_note: str = "",
) -> PrepareSummary:
    """Count what was accepted and what was not."""
    speakers: dict[str, set[str]] = {split: set() for split in SPLITS}
    for utterance in utterances:
        if utterance.speaker:
            speakers[utterance.split].add(utterance.speaker)
    homes = Counter(speaker for known in speakers.values() for speaker in known)
    per_speaker = Counter(u.speaker for u in utterances if u.speaker)
    cleaned = Counter(key for u in utterances if u.cleaning for key in u.cleaning.to_json())
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
        nameless=sum(not u.speaker for u in utterances),
        cleaned=dict(sorted(cleaned.items())),
        trimmed_seconds=round(
            sum(sum(u.cleaning.trimmed_s or ()) for u in utterances if u.cleaning), 3
        ),
        split_note=split_note,
        durations=histogram("utterances, by seconds", [u.seconds for u in utterances]),
        per_speaker=histogram("speakers, by utterances", list(per_speaker.values()), least=1),
    )


def histogram(title: str, values: Sequence[float], least: float = 0.0) -> Histogram | None:
    """Count values in at most twelve bins of a round width of `least` or more; None without values."""
    if not values:
        return None
    low, high = min(values), max(values)
    width = max(least, _round_up((high - low) / (_MAX_BINS - 2) or abs(high) or 1.0))
    start = math.floor(low / width) * width
    # The product above may be rounded to just above the least value
    counts = Counter(max(0, math.floor((value - start) / width)) for value in values)
    return Histogram(title, start, width, tuple(counts[i] for i in range(max(counts) + 1)))


def draw_summary(summary: PrepareSummary, path: Path) -> None:
    """Write the histograms as a picture.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    histograms = [h for h in (summary.durations, summary.per_speaker) if h is not None]
    panels = max(1, len(histograms) + bool(summary.rejected))
    figure = Figure(figsize=(4 * panels, 3.6), layout="constrained")
    places = figure.subplots(1, panels, squeeze=False)[0]
    for axes, shown in zip(places, histograms, strict=False):
        starts = [shown.start + i * shown.width for i in range(len(shown.counts))]
        axes.bar(starts, shown.counts, width=shown.width, align="edge", color="#4c72b0")
        axes.set_title(shown.title)
    if summary.rejected:
        names = sorted(summary.rejected, key=lambda kind: summary.rejected[kind])
        counts = [summary.rejected[kind] for kind in names]
        places[-1].barh(names, counts, color="#c44e52")
        places[-1].set_title("rejected, by reason")
    for axes in places:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, format="png")


def _round_up(width: float) -> float:
    """The next of 1, 2, 5, 10, 20, ... times a power of ten."""
    scale = 10.0 ** math.floor(math.log10(width))
    return next(step * scale for step in (*_STEPS, 10) if step * scale >= width * (1 - 1e-9))


def _bars(title: str, rows: Iterable[tuple[str, int]] | Mapping[str, int]) -> str:
    found = list(rows.items() if isinstance(rows, Mapping) else rows)
    most = max(count for _, count in found)
    named = max(len(name) for name, _ in found)
    wide = len(str(most))
    lines = [
        f"  {name:>{named}} {count:>{wide}} {'#' * math.ceil(_BAR * count / most)}".rstrip()
        for name, count in found
    ]
    return "\n".join([title, *lines])
