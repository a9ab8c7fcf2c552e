"""What goes wrong when language models speak: endless, silent, looping, skipping or cut speech.

Counted twice, because neither view sees everything: by how generation ended and what the waveform
holds, and by words that a recognizer hears too much or misses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .extras import require
from .transcripts import normalise_transcript

RUN = 3  # words in a row: fewer are also what recognizers add and drop by themselves
SILENCE_DBFS = -55.0
BELOW_PEAK_DB = 35.0
EMPTY_SECONDS = 0.05  # the shortest word lasts longer
GAP_SECONDS = 2.0  # no pause of reading lasts so long
_WINDOW_S = 0.02

# by name, what is said of such sentences
FAULTS = {
    "failed": "raised an error",
    "empty": "hold less than 0.05 s of sound",
    "never_stop": "were cut at the cap on their length",
    "silence": "hold a silence of more than 2 s between sounds",
    "loop": "have three or more words in a row that are heard but not written",
    "skip": "lack three or more words in a row",
    "early_stop": "lack their last three words or more (these also count as skip)",
}
HEARD_FAULTS = frozenset({"loop", "skip", "early_stop"})  # that only a recognizer finds


@dataclass(frozen=True)
class SoundSpan:
    """Where a recording sounds, in seconds.

    Attributes:
        start_s: Beginning of the first sound.
        end_s: End of the last.
        longest_gap_s: Longest silence between two sounds.
    """

    start_s: float
    end_s: float
    longest_gap_s: float

    @property
    def seconds(self) -> float:
        """From the first sound to the end of the last."""
        return self.end_s - self.start_s


def sound_span(waveform: Tensor, sampling_rate: int) -> SoundSpan:
    """Find where float `[L]` is above -55 dBFS and within 35 dB of its loudest 20 ms."""
    window = max(1, round(_WINDOW_S * sampling_rate))
    padded = F.pad(waveform.detach().cpu().float(), (0, -len(waveform) % window))
    if not len(padded):
        return SoundSpan(0.0, 0.0, 0.0)
    level = 10 * padded.view(-1, window).square().mean(dim=1).clamp_min(1e-12).log10()
    floor = max(SILENCE_DBFS, float(level.max()) - BELOW_PEAK_DB)
    loud = torch.nonzero(level > floor).squeeze(1)
    if not len(loud):
        return SoundSpan(0.0, 0.0, 0.0)
    gaps = (loud.diff() - 1).tolist() or [0]
    step = window / sampling_rate
    return SoundSpan(int(loud[0]) * step, (int(loud[-1]) + 1) * step, max(gaps) * step)


@dataclass(frozen=True)
class WordRuns:
    """The longest stretches of words that one side has and the other has not.

    Attributes:
        inserted: Words heard in a row that are not in the text.
        dropped: Words of the text in a row that were not heard.
        dropped_at_end: The same for the text's last words.
    """

    inserted: int
    dropped: int
    dropped_at_end: int


def word_runs(text: str, heard: str) -> WordRuns | None:
    """Count words added and left out in a row, both sides normalised; None if the text has none.

    Between two words that agree, a stretch of the text stands against a stretch that was heard; the
    difference of their numbers of words counts, because which of them are called substitutions is
    the aligner's whim. It counts no more than the difference of their letters, so that "USB" heard
    for "U S B" drops nothing.

    Raises:
        MissingExtra: If the package jiwer is not installed.
    """
    jiwer = require("jiwer", "The count of skipped and repeated words")
    text, heard = normalise_transcript(text), normalise_transcript(heard)
    if not text:
        return None
    if not heard:
        missing = len(text.split())
        return WordRuns(0, missing, missing)
    inserted = dropped = dropped_at_end = 0
    words, others = text.split(), heard.split()
    aligned = jiwer.process_words(text, heard).alignments[0]
    for start, end, other_start, other_end in _stretches(aligned):
        ours, theirs = words[start:end], others[other_start:other_end]
        letters = len("".join(ours)) - len("".join(theirs))
        dropped_here = min(len(ours) - len(theirs), letters)
        dropped = max(dropped, dropped_here)
        inserted = max(inserted, min(len(theirs) - len(ours), -letters))
        if end == len(words):
            dropped_at_end = max(dropped_at_end, dropped_here)
    return WordRuns(inserted, dropped, dropped_at_end)


def _stretches(aligned: Sequence[object]) -> list[tuple[int, int, int, int]]:
    """Neighbouring chunks of an alignment that do not agree, as one (start, end, start, end)."""
    stretches: list[tuple[int, int, int, int]] = []
    was_equal = True
    for chunk in aligned:
        kind, *bounds = (
            getattr(chunk, name)
            for name in ("type", "ref_start_idx", "ref_end_idx", "hyp_start_idx", "hyp_end_idx")
        )
        start, end, other_start, other_end = map(int, bounds)
        if kind != "equal":
            if not was_equal:
                start, _, other_start, _ = stretches.pop()
            stretches.append((start, end, other_start, other_end))
        was_equal = kind == "equal"
    return stretches


def find_faults(
    text: str, heard: str | None, span: SoundSpan, finish_reason: str | None
) -> list[str]:
    """Names out of `FAULTS` for one spoken sentence.

    Args:
        text: What was to be said.
        heard: What a recognizer heard; None without one.
        span: Where the waveform sounds.
        finish_reason: How generation ended; None for a recording.
    """
    runs = None if heard is None else word_runs(text, heard)
    found = {
        "failed": finish_reason == "failed",
        "empty": span.seconds < EMPTY_SECONDS,
        "never_stop": finish_reason == "length",
        "silence": span.longest_gap_s > GAP_SECONDS,
        "loop": runs is not None and runs.inserted >= RUN,
        "skip": runs is not None and runs.dropped >= RUN,
        "early_stop": runs is not None and runs.dropped_at_end >= RUN,
    }
    return [name for name in FAULTS if found[name]]
