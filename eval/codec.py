"""How good is a codec on recordings: quality, bits, codebooks and speed at each number of books."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..data_prep.corpus import Recording, read_corpus
from ..errors import ConfigError, CorpusError
from ..tokenizer.audio import read_audio
from ..tokenizer.codec import CodecModel
from ..tokenizer.codes import CodecIdentity
from .metrics import CodebookUsage, mean
from .plots import MAX_PANELS, save_codebook_usage, save_spectrograms
from .report import Report, Row
from .scorers import FidelityScorer, Scorers, mean_similarity, word_errors

NUM_EXAMPLES = 2
MAX_SECONDS = 120.0  # of one recording; scores are about sentences


def evaluate_codec(
    folder: Path,
    out: Path,
    *,
    codec: CodecModel,
    num_books: Sequence[int] | None = None,
    limit: int | None = None,
    split: str = "valid",
    scorers: Scorers | None = None,
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
        scorers: Recognizer and speaker encoder; None takes those that are installed.

    Returns:
        What `report.json` holds; `["tables"]["quality"]` has one row a number of books, and first
        the original where a word error rate could be measured.

    Raises:
        CorpusError: If there are no recordings.
        UnsupportedAudio: If a recording cannot be read.
        ConfigError: If a number of books is out of the codec's range.
    """
    identity = codec.identity
    books = _books_to_judge(identity, num_books)
    recordings, unusable = find_recordings(folder, split, limit)
    scorers = Scorers.installed() if scorers is None else scorers
    report = Report(out, f"Codec {identity.codec_id}", notes=list(scorers.notes))
    if unusable:
        report.note(f"{unusable} entries of {folder} name no usable recording and are left out.")
    fidelity = FidelityScorer()
    passes = [_Pass(CodebookUsage(identity, count)) for count in books]
    originals = _Originals()
    for number, recording in enumerate(tqdm(recordings, desc="codec", unit="recording")):
        waveform = read_audio(recording.audio, identity.sampling_rate, MAX_SECONDS)
        if number == 0:  # the first call pays for what no later one pays for
            codec.synthesize(codec.tokenize([waveform], num_books=books[0]))
        originals.add(recording, waveform, identity.sampling_rate, scorers)
        sounds = {"original": waveform}
        for run in passes:
            decoded = run.judge(codec, waveform, scorers, fidelity)
            row = run.rows[-1]
            row["similarity"] = mean_similarity([originals.voices[-1]], [run.voices[-1]])
            sounds[run.name] = decoded
            report.items.append({"id": recording.id, "num_books": run.num_books, **row})
        if number < NUM_EXAMPLES:
            _keep_example(report, number + 1, sounds, identity.sampling_rate)
    for sentence in fidelity.notes:
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
    report.tables["quality"] = _quality_rows(originals, passes)
    report.tables["codebooks"] = _codebook_rows(passes[-1].usage)
    usage = passes[-1].usage
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
    seconds: float = 0.0

    def add(self, recording: Recording, waveform: Tensor, rate: int, scorers: Scorers) -> None:
        self.texts.append(recording.text or "")
        self.heard.append(scorers.hear(waveform, rate) if recording.text else None)
        self.voices.append(scorers.voice(waveform, rate))
        self.seconds += len(waveform) / rate


@dataclass
class _Pass:
    """All recordings at one number of books."""

    usage: CodebookUsage
    bits_per_second: float = 0.0
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    heard: list[str | None] = field(default_factory=list)
    voices: list[Tensor | None] = field(default_factory=list)

    @property
    def num_books(self) -> int:
        return len(self.usage.counts)

    @property
    def name(self) -> str:
        return f"{self.num_books} books"

    def judge(
        self, codec: CodecModel, waveform: Tensor, scorers: Scorers, fidelity: FidelityScorer
    ) -> Tensor:
        """Send one recording through the codec, score it, and return the decoded waveform."""
        rate = self.usage.identity.sampling_rate
        started = time.perf_counter()
        codes = codec.tokenize([waveform], num_books=self.num_books)
        encoded = time.perf_counter()
        decoded = codec.synthesize(codes)[0]
        self.decode_seconds += time.perf_counter() - encoded
        self.encode_seconds += encoded - started
        self.bits_per_second = codes.bits_per_second
        self.usage.add(codes)
        self.rows.append(dict(fidelity.score(waveform, decoded, rate)))
        self.heard.append(scorers.hear(decoded, rate))
        self.voices.append(scorers.voice(decoded, rate))
        self.rows[-1]["heard"] = self.heard[-1]
        return decoded


def _books_to_judge(identity: CodecIdentity, num_books: Sequence[int] | None) -> list[int]:
    allowed = range(identity.min_codebooks, identity.num_codebooks + 1)
    books = sorted(set(allowed if num_books is None else num_books))
    if not books or not set(books) <= set(allowed):
        raise ConfigError(
            f"Codec {identity.codec_id} decodes {allowed[0]} to {allowed[-1]} books, "
            f"not {', '.join(map(str, books)) or 'none'}; name numbers in that range."
        )
    return books


def _quality_rows(originals: _Originals, passes: list[_Pass]) -> list[Row]:
    truth = word_errors(originals.texts, originals.heard)
    rows: list[Row] = []
    if truth is not None:
        rows.append(
            {
                "system": "original",
                "wer": truth.word_error_rate,
                "cer": truth.character_error_rate,
            }
        )
    for run in passes:
        row: Row = {"system": run.name, "num_books": run.num_books}
        row["bits_per_second"] = run.bits_per_second
        for name in ("pesq", "stoi", "mel_distance", "similarity"):
            row[name] = mean([entry[name] for entry in run.rows])
        score = word_errors(originals.texts, run.heard)
        if score is not None and truth is not None:
            row["wer"] = score.word_error_rate
            row["wer_change"] = score.word_error_rate - truth.word_error_rate
            row["cer"] = score.character_error_rate
        row["encode_x_realtime"] = originals.seconds / run.encode_seconds
        row["decode_x_realtime"] = originals.seconds / run.decode_seconds
        rows.append(row)
    return rows


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


def _keep_example(report: Report, number: int, sounds: dict[str, Tensor], rate: int) -> None:
    for title, sound in sounds.items():
        name = f"example-{number}-{title.replace(' ', '-')}.wav"
        report.add_sound(name, f"{title}, example {number}", sound, rate)
    shown = list(sounds)
    if len(shown) > MAX_PANELS:  # the original, the fewest books, then the most
        shown = [*shown[:2], *shown[2 - MAX_PANELS :]]
    report.add_figure(
        f"example-{number}.png",
        f"Example {number}: the original, and what is decoded from its codes",
        lambda path: save_spectrograms(path, {title: (sounds[title], rate) for title in shown}),
    )
