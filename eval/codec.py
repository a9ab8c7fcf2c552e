"""How good is a codec on recordings: quality, bits, codebooks and speed at each number of books.

Other codecs and the output of other systems are judged beside it, on the same recordings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..data_prep.readers import Recording, read_corpus
from ..errors import ConfigError, CorpusError
from ..tokenizer.audio import read_audio
from ..tokenizer.codec import CodecModel
from .baselines import find_baselines
from .metrics import CodebookUsage, mean
from .plots import (
    MAX_PANELS,
    RATE_SCORES,
    save_codebook_usage,
    save_rate_quality,
    save_spectrograms,
)
from .report import Report, Row
from .scorers import FidelityScorer, Scorers, mean_similarity, word_errors
from .systems import Decoded, System, codec_systems, folder_systems

NUM_EXAMPLES = 2
MAX_SECONDS = 120.0  # of one recording; scores are about sentences
SCORES = ("pesq", "stoi", "mos", "mel_distance", "vuv_f1", "pitch_rmse_cents", "similarity")


def evaluate_codec(
    folder: Path,
    out: Path,
    *,
    codec: CodecModel,
    num_books: Sequence[int] | None = None,
    limit: int | None = None,
    split: str = "valid",
    scorers: Scorers | None = None,
    baselines: str | None = None,
    against: Sequence[str] = (),
    against_bps: Sequence[str] = (),
) -> dict[str, Any]:
    """Encode and decode recordings and score the result against the originals.

    Each recording goes through alone, as a user's would, so the real-time factors are those of
    batch one.

    Args:
        folder: Recordings (searched to any depth), a JSON-lines list of them, or the folder that
            `prepare` wrote.
        out: Folder of the report: `report.json`, `report.md`, `items.jsonl`, PNG plots and the
            sounds of two examples.
        codec: The codec to judge, in evaluation mode.
        num_books: Numbers of codebooks to judge; None for every one that decodes.
        limit: At most so many recordings, evenly spread over the list.
        split: Where recordings have splits, the one to use.
        scorers: Recognizer, speaker encoder and MOS predictor; None takes those that are installed.
        baselines: Programmes to judge too, as `opus,codec2:1300` or `all`.
        against: Another system's output for the same recordings, each as `NAME=FOLDER`.
        against_bps: Bit rates of some of those, each as `NAME=BITS_PER_SECOND`.

    Returns:
        What `report.json` holds; `["tables"]["quality"]` has one row a system: first the original
        where it could be scored, then a row a number of books, then the baselines and the folders.

    Raises:
        CorpusError: If there are no recordings, or no audio in a folder to compare with.
        UnsupportedAudio: If a recording cannot be read.
        ConfigError: If a number of books is out of the codec's range, or a baseline is unknown.
    """
    identity = codec.identity
    ours = codec_systems(codec, num_books)
    programmes, notes = find_baselines(baselines)
    systems: list[System] = [*ours, *programmes, *folder_systems(folder, against, against_bps)]
    _require_distinct([system.name for system in systems])
    recordings, unusable = find_recordings(folder, split, limit)
    scorers = Scorers.installed(quality=True) if scorers is None else scorers
    report = Report(out, f"Codec {identity.codec_id}", notes=[*scorers.notes, *notes])
    if unusable:
        report.note(f"{unusable} entries of {folder} name no usable recording and are left out.")
    fidelity = FidelityScorer()
    runs = [_Run(system) for system in systems]
    originals = _Originals()
    for number, recording in enumerate(tqdm(recordings, desc="codec", unit="recording")):
        waveform = read_audio(recording.audio, identity.sampling_rate, MAX_SECONDS)
        if number == 0:  # the first call pays for what no later one pays for
            codec.synthesize(codec.tokenize([waveform], num_books=ours[0].num_books))
        originals.add(recording, waveform, identity.sampling_rate, scorers)
        for run in runs:
            decoded = run.system.transmit(recording, waveform, identity.sampling_rate)
            run.add(decoded, waveform, originals, identity.sampling_rate, scorers, fidelity)
            if run.rows[-1] is not None:
                report.items.append({"id": recording.id, **run.labels, **run.rows[-1]})
        if number < NUM_EXAMPLES:
            _keep_example(report, number + 1, waveform, runs, identity.sampling_rate)
    for sentence in [*fidelity.notes, *(note for system in systems for note in system.notes)]:
        report.note(sentence)
    report.facts = {
        "codec": asdict(identity),
        "recordings": len(recordings),
        "speakers": len({r.speaker for r in recordings if r.speaker}),
        "seconds": originals.seconds,
        "split": split if any(r.split for r in recordings) else None,
        "threads": torch.get_num_threads(),
        **scorers.names,
    }
    usage = ours[-1].usage
    report.tables["quality"] = _quality_rows(originals, runs)
    report.tables["codebooks"] = _codebook_rows(usage)
    _draw_rate_quality(report, runs)
    report.add_figure(
        "codebooks.png",
        f"Use of the codebooks over {usage.num_frames} frames",
        lambda path: save_codebook_usage(path, usage.counts, identity.num_masked_books),
    )
    return report.save()


def find_recordings(folder: Path, split: str, limit: int | None) -> tuple[list[Recording], int]:
    """List recordings to judge.

    Returns:
        (recordings in the order of the corpus, number of its entries that are unusable).

    Raises:
        CorpusError: If nothing is there, or nothing of the split where there are splits.
    """
    manifest = folder / "manifest.jsonl"  # beside it, `prepare` keeps its list of rejections
    entries = list(read_corpus(manifest if manifest.is_file() else folder))
    recordings = [entry for entry in entries if isinstance(entry, Recording)]
    if not recordings:
        raise CorpusError(f"{folder} holds no recordings; give a folder of audio or a manifest.")
    wanted = [r for r in recordings if r.split in (None, split)]
    if not wanted:
        there = ", ".join(sorted({r.split for r in recordings if r.split}))
        raise CorpusError(f"{folder} holds no recordings of the split {split}, only of {there}.")
    if limit is not None and limit < len(wanted):
        wanted = [wanted[i * len(wanted) // limit] for i in range(limit)]
    return wanted, len(entries) - len(recordings)


@dataclass
class _Originals:
    """What the scorers say of the recordings themselves."""

    texts: list[str] = field(default_factory=list)
    heard: list[str | None] = field(default_factory=list)
    voices: list[Tensor | None] = field(default_factory=list)
    opinions: list[float | None] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, recording: Recording, waveform: Tensor, rate: int, scorers: Scorers) -> None:
        self.texts.append(recording.text or "")
        self.heard.append(scorers.hear(waveform, rate) if recording.text else None)
        self.voices.append(scorers.voice(waveform, rate))
        self.opinions.append(scorers.opinion(waveform, rate))
        self.seconds += len(waveform) / rate


@dataclass
class _Run:
    """All recordings through one system; None where it had nothing for a recording."""

    system: System
    bits: float | None = None
    coded_seconds: float = 0.0
    seconds: float = 0.0
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0
    rows: list[Row | None] = field(default_factory=list)
    heard: list[str | None] = field(default_factory=list)
    decoded: Tensor | None = None

    @property
    def labels(self) -> Row:
        """What names this system in a row."""
        labels: Row = {"system": self.system.name, "kind": self.system.kind}
        if self.system.num_books is not None:
            labels["num_books"] = self.system.num_books
        return labels

    @property
    def bits_per_second(self) -> float | None:
        return self.bits / self.coded_seconds if self.bits and self.coded_seconds else None

    def add(
        self,
        decoded: Decoded | None,
        waveform: Tensor,
        originals: _Originals,
        rate: int,
        scorers: Scorers,
        fidelity: FidelityScorer,
    ) -> None:
        """Score what came back of the recording that `originals` took last."""
        self.decoded = None if decoded is None else decoded.waveform
        if decoded is None:
            self.rows.append(None)
            self.heard.append(None)
            return
        self.seconds += len(waveform) / rate
        if decoded.bits is not None:
            self.bits = (self.bits or 0.0) + decoded.bits
            self.coded_seconds += decoded.seconds
        self.encode_seconds += decoded.encode_seconds or 0.0
        self.decode_seconds += decoded.decode_seconds or 0.0
        row: Row = dict(fidelity.score(waveform, decoded.waveform, rate))
        row["mos"] = scorers.opinion(decoded.waveform, rate)
        voice = scorers.voice(decoded.waveform, rate)
        row["similarity"] = mean_similarity([originals.voices[-1]], [voice])
        self.heard.append(
            scorers.hear(decoded.waveform, rate) if originals.texts[-1].strip() else None
        )
        row["heard"] = self.heard[-1]
        self.rows.append(row)

    def summary(self, originals: _Originals) -> Row:
        """The row of the quality table."""
        rows = [row for row in self.rows if row is not None]
        summary: Row = {**self.labels, "recordings": len(rows)}
        summary["bits_per_second"] = self.bits_per_second
        summary |= {name: mean([row[name] for row in rows]) for name in SCORES}
        score = word_errors(originals.texts, self.heard)
        # the originals of exactly these recordings: a system may lack some
        pairs = zip(originals.heard, self.heard, strict=True)
        same = [truth if heard is not None else None for truth, heard in pairs]
        truth = word_errors(originals.texts, same)
        if score is not None and truth is not None:
            summary["wer"] = score.word_error_rate
            summary["wer_change"] = score.word_error_rate - truth.word_error_rate
            summary["cer"] = score.character_error_rate
        if self.encode_seconds and self.decode_seconds:
            summary["encode_x_realtime"] = self.seconds / self.encode_seconds
            summary["decode_x_realtime"] = self.seconds / self.decode_seconds
        return summary


def _require_distinct(names: Sequence[str]) -> None:
    for name in names:
        if name == "original" or names.count(name) > 1:
            raise ConfigError(f"Two rows of the report would be called {name}; rename one system.")


def _quality_rows(originals: _Originals, runs: Sequence[_Run]) -> list[Row]:
    truth = word_errors(originals.texts, originals.heard)
    opinion = mean(originals.opinions)
    rows: list[Row] = []
    if truth is not None or opinion is not None:
        row: Row = {"system": "original", "kind": "original", "num_books": None}
        row |= {"recordings": len(originals.texts), "bits_per_second": None}
        row |= {name: opinion if name == "mos" else None for name in SCORES}
        if truth is not None:
            row |= {"wer": truth.word_error_rate, "wer_change": None}
            row["cer"] = truth.character_error_rate
        rows.append(row)
    return rows + [run.summary(originals) for run in runs]


def _codebook_rows(usage: CodebookUsage) -> list[Row]:
    masked = usage.identity.num_masked_books
    return [
        {
            "book": book + 1,
            "kind": "masked" if book < masked else "residual",
            "perplexity": perplexity,
            "usage": share,
            "frames": usage.num_frames,
        }
        for book, (perplexity, share) in enumerate(zip(usage.perplexity, usage.usage, strict=True))
    ]


def _draw_rate_quality(report: Report, runs: Sequence[_Run]) -> None:
    rows = {row["system"]: row for row in report.tables["quality"]}
    curves: dict[str, list[Row]] = {}
    for run in runs:
        row = rows[run.system.name]
        if any(row[name] is not None for name in RATE_SCORES):
            curves.setdefault(run.system.family, []).append(row)
    if not curves:  # no scorer is installed, or all recordings are silent; notes say which
        return
    report.add_figure(
        "rate-quality.png",
        "Quality over bit rate; a dotted line is a system of unknown rate",
        lambda path: save_rate_quality(path, curves, rows.get("original")),
    )


def _keep_example(
    report: Report, number: int, waveform: Tensor, runs: Sequence[_Run], rate: int
) -> None:
    sounds = {"original": waveform}
    sounds |= {run.system.name: run.decoded for run in runs if run.decoded is not None}
    for title, sound in sounds.items():
        stem = re.sub(r"[^\w.]+", "-", title)
        report.add_sound(f"example-{number}-{stem}.wav", f"{title}, example {number}", sound, rate)
    shown = ["original", *_shown([run for run in runs if run.decoded is not None])]
    report.add_figure(
        f"example-{number}.png",
        f"Example {number}: the original, and what comes back",
        lambda path: save_spectrograms(path, {title: (sounds[title], rate) for title in shown}),
    )


def _shown(runs: Sequence[_Run]) -> list[str]:
    """Names of the systems to show beside the original, in the order of the report.

    Ours with the fewest books and with the most; of each other method the one nearest in bit rate
    to the latter; and as many more of ours as there is room for.
    """
    ours = [run for run in runs if run.system.kind == "codec"]
    others: dict[str, list[_Run]] = {}
    for run in runs:
        if run.system.kind != "codec":
            others.setdefault(run.system.family, []).append(run)
    goal = ours[-1].bits_per_second or 1.0

    def distance(run: _Run) -> float:
        return abs(math.log((run.bits_per_second or goal) / goal))

    chosen = [ours[0], ours[-1], *(min(family, key=distance) for family in others.values())]
    names = [run.system.name for run in [*chosen, *ours[-2:0:-1]]]
    kept = list(dict.fromkeys(names))[: MAX_PANELS - 1]
    return [run.system.name for run in runs if run.system.name in kept]
