"""A corpus in, a clean manifest out: every recording decoded once, every rejection explained.

Entries pass one by one and in their order, whoever judges them, so that the output does not depend
on the number of processes. Verdicts are journalled: a killed run goes on, and a run on a grown
corpus judges only what is new.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from ..errors import ConfigError, CorpusError, UnsupportedText
from ..slm.text import TextFrontEnd
from ..tokenizer.files import write_atomically
from .cleaning.duplicates import DuplicateIndex
from .cleaning.journal import Journal
from .cleaning.options import CleaningOptions
from .cleaning.recording import AUDIO_FOLDER, Cleaned, Verdict
from .cleaning.workers import CleaningWorkers, Task, in_order, is_crash
from .manifest import Utterance, storable, write_json_lines, write_manifest
from .output import make_folder
from .readers import Recording, Rejection, read_corpus
from .splits import assign_splits, split_note
from .summary import PrepareSummary, draw_summary, summarise

__all__ = ["CleaningOptions", "PrepareSummary", "assign_splits", "fit_durations", "prepare_corpus"]

JOURNAL_NAME = "prepare.journal"
_RESULTS = ("manifest.jsonl", "rejected.jsonl", "summary.json", "summary.png")
_STORED = re.compile(r"[A-Za-z0-9_-]*-[0-9a-f]{12}\.flac")
_UNFINISHED = re.compile(r"\..+\.flac\..+|\.(manifest|rejected|summary)\..+|\.prepare\.journal\..+")

Corpus = str | Path | Sequence[str | Path]


def prepare_corpus(
    corpus: Corpus | Iterator[Recording | Rejection],
    out: Path,
    *,
    options: CleaningOptions | None = None,
    min_seconds: float | None = None,
    max_seconds: float | None = None,
    valid_share: float = 0.05,
    test_share: float = 0.0,
    valid_pattern: str | None = None,
    resplit: bool = False,
    seed: int = 0,
    require_text: bool = True,
    require_phonemes: bool = False,
    front_end: TextFrontEnd | None = None,
    layout: str | None = None,
    reader_options: Mapping[str, object] | None = None,
    workers: int = 1,
    plot: bool = False,
    progress: bool = True,
) -> PrepareSummary:
    """Check and clean every recording of a corpus and write the manifest of the good ones.

    Run again after an interruption, it goes on and ends in the same bytes as an undisturbed run.

    Args:
        corpus: What `read_corpus` takes, or the entries themselves.
        out: Folder for `manifest.jsonl`, `rejected.jsonl`, `summary.json`, a journal of verdicts
            and, where cleaning changes audio, `audio/`.
        options: The steps of cleaning.
        min_seconds: In place of that of `options`.
        max_seconds: Likewise.
        valid_share: Share of the speakers that are held out for validation.
        test_share: Share of the speakers that are held out for tests.
        valid_pattern: Regular expression; speakers whose name it finds are held out instead.
        resplit: Let no split of the corpus stand, so that surely no speaker is in two.
        seed: Chooses who is held out; which side a speaker falls on does not depend on the others.
        require_text: Reject recordings without a transcript; else they are kept with empty text.
        require_phonemes: Reject recordings without phonemes, or that `front_end` cannot read.
        front_end: Writes the phonemes of transcripts that bring none.
        layout: As `read_corpus` takes it.
        reader_options: Likewise.
        workers: Processes. With more than one, a script must guard its start by
            `if __name__ == "__main__"`.
        plot: Draw `summary.png` too, if matplotlib is installed.
        progress: Show a bar.

    Raises:
        ConfigError: If an option makes no sense, or `out` is a file.
        MissingExtra: If a step needs a package that is not installed.
        CorpusError: If nothing is found, no recording has a transcript, or all are rejected.
    """
    options = options or CleaningOptions()
    options = replace(
        options,
        min_seconds=options.min_seconds if min_seconds is None else min_seconds,
        max_seconds=options.max_seconds if max_seconds is None else max_seconds,
    )
    pattern = _checked_split(valid_share, test_share, valid_pattern)
    if workers < 1:
        raise ConfigError(f"{workers} worker processes cannot work; give 1 or more.")
    options.require_extras()
    if isinstance(corpus, Iterator):
        name, entries = "the corpus", corpus
    else:
        name = str(corpus) if isinstance(corpus, str | Path) else ", ".join(map(str, corpus))
        entries = iter(read_corpus(corpus, layout, **(reader_options or {})))
    found = _judge_all(
        tqdm(entries, desc="prepare", unit="file", disable=not progress),
        out,
        options,
        require_text,
        workers,
    )
    if not found.total:
        raise CorpusError(
            f"{name} holds no recordings (WAV, FLAC, OGG, MP3 or Opus) and no list of them."
        )
    if require_text and found.recordings and not found.with_text:
        raise CorpusError(
            f"No recording in {name} has a transcript; put a .txt of the same name beside each, "
            "or allow missing text (enough for codec training)."
        )
    if front_end is not None or require_phonemes:
        _add_phonemes(found, front_end, require_phonemes)
    ledger = out / "rejected.jsonl"
    rejected = [rejection for _, rejection in sorted(found.rejected, key=lambda pair: pair[0])]
    write_json_lines(
        ledger, ({k: storable(v) for k, v in asdict(rejection).items()} for rejection in rejected)
    )
    if not found.accepted:
        raise CorpusError(
            f"No recording of {name} can be used ({found.total} rejected); {ledger} says why for each."
        )
    accepted = [recording for _, recording, _ in found.accepted]
    splits = assign_splits(
        accepted, valid_share, seed, pattern, test_share=test_share, resplit=resplit
    )
    note = split_note(
        accepted, splits, valid_share, pattern, test_share=test_share, resplit=resplit
    )
    utterances = [
        _utterance(recording, cleaned, split, out)
        for (_, recording, cleaned), split in zip(found.accepted, splits, strict=True)
    ]
    _clear_leftovers(out, utterances)
    summary = summarise(out / "manifest.jsonl", utterances, rejected, note)
    numbers = asdict(summary) | {"manifest": summary.manifest.name}
    write_atomically(out / "summary.json", (json.dumps(numbers, indent=2) + "\n").encode())
    if plot:
        with suppress(ImportError):
            draw_summary(summary, out / "summary.png")
    write_manifest(summary.manifest, utterances)  # last: where it is, the rest is whole
    return summary


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


@dataclass
class _Found:
    """Entries by verdict, each with its place in the corpus."""

    total: int = 0
    recordings: int = 0
    with_text: int = 0
    accepted: list[tuple[int, Recording, Cleaned]] = field(default_factory=list)
    rejected: list[tuple[int, Rejection]] = field(default_factory=list)


def _judge_all(
    entries: Iterable[Recording | Rejection],
    out: Path,
    options: CleaningOptions,
    require_text: bool,
    workers: int,
) -> _Found:
    found, seen, sounds = _Found(), dict[str, str](), DuplicateIndex()
    keys: list[str] = []
    fresh: dict[str, str] = {}
    make_folder(out)
    with (
        Journal(out / JOURNAL_NAME, options, require_text) as journal,
        CleaningWorkers(options, out, require_text, workers) as pool,
    ):

        def decide(recording: Recording) -> Task | Verdict:
            if recording.id in seen:
                return _repeated(
                    recording,
                    "duplicate id",
                    f"The id {recording.id!r} was there before; ids must differ.",
                )
            key = journal.key(recording)
            if key is not None:
                keys.append(key)
                known = journal.find(key, recording)
                if isinstance(known, Rejection):
                    return known
                # The stored audio of a duplicate was removed, and is not needed to know it again
                if known is not None and (known.is_stored(out) or sounds.find(known, options)):
                    return known
                fresh[recording.id] = key
            return pool.submit(recording)

        for place, (entry, verdict) in enumerate(in_order(iter(entries), decide, pool)):
            if place == 0:
                # What stands here describes an earlier run, whose audio this one may replace
                for name in _RESULTS:
                    (out / name).unlink(missing_ok=True)
            found.total += 1
            if isinstance(entry, Recording):
                found.recordings += 1
                found.with_text += bool(entry.text)
                key = fresh.pop(entry.id, None)
                if key is not None and not is_crash(verdict):
                    journal.add(key, verdict)
            if isinstance(entry, Recording) and isinstance(verdict, Cleaned):
                verdict = _first_of_its_sound(entry, verdict, options, sounds, seen)
            if isinstance(verdict, Rejection):
                found.rejected.append((place, verdict))
            elif isinstance(entry, Recording):
                seen[entry.id] = entry.text or ""
                sounds.add(entry.id, verdict)
                # The encoded audio of a whole corpus would not fit into memory
                found.accepted.append((place, replace(entry, content=None), verdict))
        journal.compact(keys)
    return found


def _first_of_its_sound(
    recording: Recording,
    cleaned: Cleaned,
    options: CleaningOptions,
    sounds: DuplicateIndex,
    seen: Mapping[str, str],
) -> Verdict:
    found = sounds.find(cleaned, options)
    if found is None:
        return cleaned
    first, is_exact = found
    kind = "duplicate audio" if is_exact else "near duplicate"
    claim = "has the same samples as" if is_exact else "sounds the same as"
    other = "" if seen[first] == (recording.text or "") else ", though with another transcript"
    return _repeated(
        recording, kind, f"{recording.audio} {claim} {first!r}{other}; the first stays."
    )


def _repeated(recording: Recording, kind: str, reason: str) -> Rejection:
    return Rejection(recording.id, storable(str(recording.audio)), storable(reason), kind)


def _add_phonemes(found: _Found, front_end: TextFrontEnd | None, required: bool) -> None:
    accepted = []
    for place, recording, cleaned in found.accepted:
        reason = "There are no phonemes; give a front end, or do without them."
        phonemes = recording.phonemes
        if phonemes is None and front_end is not None and recording.text:
            try:
                phonemes = front_end.phonemize(recording.text)
            except UnsupportedText as error:
                reason = str(error)
        if phonemes is None and required:
            audio = storable(str(recording.audio))
            found.rejected.append((place, Rejection(recording.id, audio, reason, "phonemes")))
        else:
            accepted.append((place, replace(recording, phonemes=phonemes), cleaned))
    found.accepted = accepted


def _utterance(recording: Recording, cleaned: Cleaned, split: str, out: Path) -> Utterance:
    return Utterance(
        id=recording.id,
        audio=recording.audio if cleaned.audio is None else out.absolute() / cleaned.audio,
        seconds=cleaned.seconds,
        text=recording.text or "",
        speaker=recording.speaker,
        split=split,
        phonemes=recording.phonemes,
        durations_s=fit_durations(cleaned.durations_s, cleaned.seconds),
        cleaning=cleaned.record,
    )


def _clear_leftovers(out: Path, utterances: Sequence[Utterance]) -> None:
    """Remove what a killed run was writing, and stored audio that nothing names any more."""
    for path in out.iterdir():
        if _UNFINISHED.fullmatch(path.name):
            path.unlink()
    named = {str(utterance.audio) for utterance in utterances}
    for folder in sorted((out.absolute() / AUDIO_FOLDER).glob("[0-9a-f][0-9a-f]")):
        for path in list(folder.iterdir()):
            stale = _STORED.fullmatch(path.name) and str(path) not in named
            if stale or _UNFINISHED.fullmatch(path.name):
                path.unlink()
        with suppress(OSError):  # somebody's own file lies in it
            folder.rmdir()
    with suppress(OSError):
        (out / AUDIO_FOLDER).rmdir()


def _checked_split(
    valid_share: float, test_share: float, valid_pattern: str | None
) -> re.Pattern[str] | None:
    if not 0 <= valid_share < 1:
        raise ConfigError(
            f"A validation share of {valid_share:g} makes no sense; give 0 <= share < 1."
        )
    if not (0 <= test_share and valid_share + test_share < 1):
        raise ConfigError(
            f"Shares of {valid_share:g} for validation and {test_share:g} for tests leave nothing "
            "to train on; give less than 1 together."
        )
    try:
        return None if valid_pattern is None else re.compile(valid_pattern)
    except re.error as error:
        raise ConfigError(f"{valid_pattern!r} is not a regular expression ({error}).") from error
