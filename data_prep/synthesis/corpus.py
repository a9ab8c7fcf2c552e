"""A plan in, a corpus out: resumable at any moment, and the same from any number of processes.

Workers speak ahead, and this process writes what they spoke in its order, each audio file before its line
of metadata. So the metadata always is the head of one and the same list, and its seconds say where to stop.
"""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter, deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ...errors import ConfigError, CorpusError, SpeechLMError
from ...tokenizer.files import write_atomically
from ..worker_pool import end_workers, start_workers
from .narrator import Narrated, Narrator, NarratorSource
from .plan import Assignment, SynthesisPlan

_AHEAD = 3  # utterances a worker: enough that none waits for the slowest


@dataclass(frozen=True)
class SynthesisSummary:
    """What a synthetic corpus holds.

    Attributes:
        folder: Where it lies.
        seed: Of its plan.
        utterances: Lines of its metadata.
        hours: Of speech.
        speakers: Speakers that said something.
        fewest, most: Utterances of the speakers that said least and most.
        skipped: Sentences that gave no usable speech.
        is_complete: Whether the hours that were asked for are there.
    """

    folder: Path
    seed: int
    utterances: int
    hours: float
    speakers: int
    fewest: int
    most: int
    skipped: int
    is_complete: bool

    def report(self) -> str:
        """One or two sentences for people."""
        said = (
            f"{self.folder}: {self.utterances} utterances, {self.hours:.3f} h, {self.speakers} "
            f"speakers with {self.fewest} to {self.most} utterances each; {self.skipped} sentences "
            "skipped."
        )
        if self.is_complete:
            return said
        return f"{said}\nAll sentences are spoken; give more text for more hours."


def synthesize_corpus(
    plan: SynthesisPlan,
    source: NarratorSource,
    out: Path,
    *,
    hours: float,
    workers: int = 1,
    progress: bool = True,
) -> SynthesisSummary:
    """Speak a plan from its start until there are so many hours.

    Writes `metadata-SEED.jsonl`, an audio file for each of its lines, `synthesis-SEED.json` (what it was
    made from) and, when all is there, `summary-SEED.json`. Run again, it goes on where it stopped; with
    more hours, it goes on too. Plans of several seeds may share a folder.

    Args:
        plan: Who says what.
        source: Opens a narrator in each process.
        out: The corpus's folder.
        hours: Of speech, silence at the ends included.
        workers: Processes. With more than one, a script must guard its start by
            `if __name__ == "__main__"`.
        progress: Show a bar.

    Raises:
        ConfigError: If hours or workers make no sense, or the folder holds this seed with another plan
            or model.
        CorpusError: If the metadata is damaged, or not one sentence can be spoken.
        SpeechLMError: If a worker was killed.
    """
    if not 0 < hours < float("inf"):
        raise ConfigError(f"{hours:g} hours cannot be spoken; give more than 0.")
    if workers < 1:
        raise ConfigError(f"{workers} worker processes cannot work; give 1 or more.")
    asked = {
        "seed": plan.seed,
        "sentences": len(plan),
        "speakers": len(plan.speakers),
        "is_balanced": plan.is_balanced,
        "plan": plan.fingerprint,
        **source.fingerprint(),
    }
    out.mkdir(parents=True, exist_ok=True)
    _claim(out / f"synthesis-{plan.seed}.json", asked)
    summary_path = out / f"summary-{plan.seed}.json"
    summary_path.unlink(missing_ok=True)
    wanted = hours * 3600
    with closing(_Metadata(out / f"metadata-{plan.seed}.jsonl")) as metadata:
        todo = (plan[index] for index in range(metadata.next_index, len(plan)))
        if metadata.seconds < wanted:
            with (
                closing(_spoken(todo, source, workers)) as made,
                tqdm(
                    total=round(wanted),
                    initial=round(metadata.seconds),
                    desc="synthesize",
                    unit="s of speech",
                    disable=not progress,
                ) as bar,
            ):
                for assignment, narrated in made:
                    if narrated is None:
                        metadata.next_index = assignment.index + 1
                        continue
                    audio = out / narrated.row["audio"]
                    audio.parent.mkdir(exist_ok=True)
                    write_atomically(audio, narrated.audio)
                    metadata.add(narrated.row)
                    bar.update(min(round(metadata.seconds), bar.total) - bar.n)
                    if metadata.seconds >= wanted:
                        break
        if not metadata.speakers:
            raise CorpusError(
                f"None of {len(plan)} sentences could be spoken; give English sentences."
            )
        counts = metadata.speakers
        summary = SynthesisSummary(
            folder=out,
            seed=plan.seed,
            utterances=counts.total(),
            hours=round(metadata.seconds / 3600, 4),
            speakers=len(counts),
            fewest=min(counts.values()),
            most=max(counts.values()),
            skipped=metadata.next_index - counts.total(),
            is_complete=metadata.seconds >= wanted,
        )
    content = asdict(summary) | {"folder": out.name}
    write_atomically(summary_path, (json.dumps(content, indent=2) + "\n").encode())
    return summary


class _Metadata:
    """The lines that are there, and a pen for the next ones."""

    def __init__(self, path: Path) -> None:
        self.next_index = 0
        self.seconds = 0.0
        self.speakers: Counter[str] = Counter()
        self._file = path.open("a+b")
        self._file.seek(0)
        end = 0
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):  # a killed run was writing it
                break
            try:
                self._count(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                self._file.close()
                raise CorpusError(
                    f"The line {number} of {path} is damaged; remove it and all after it, and run again "
                    "to have them made again."
                ) from error
            end += len(line)
        self._file.truncate(end)

    def add(self, row: dict[str, Any]) -> None:
        """Write a line, so that a run that is killed now has it."""
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        self._count(row)

    def close(self) -> None:
        """Put the pen down."""
        self._file.close()

    def _count(self, row: dict[str, Any]) -> None:
        index, seconds, speaker = int(row["index"]), float(row["seconds"]), str(row["speaker"])
        if index < self.next_index or seconds <= 0:
            raise ValueError("out of order")
        self.next_index = index + 1
        self.seconds += seconds
        self.speakers[speaker] += 1


def _claim(path: Path, asked: dict[str, Any]) -> None:
    """Hold what is asked for against what the folder was begun with."""
    if not path.exists():
        write_atomically(path, (json.dumps(asked, indent=2) + "\n").encode())
        return
    try:
        begun = json.loads(path.read_bytes())
        differing = [key for key in {**begun, **asked} if begun.get(key) != asked.get(key)]
    except (ValueError, TypeError, AttributeError) as error:
        raise CorpusError(
            f"{path} is damaged; remove the corpus, or restore the file from a copy."
        ) from error
    if differing:
        raise ConfigError(
            f"{path.parent} holds speech of seed {asked['seed']} made with other "
            f"{', '.join(differing)}; give another --seed or folder, or what it was begun with."
        )


def _spoken(
    todo: Iterator[Assignment], source: NarratorSource, workers: int
) -> Generator[tuple[Assignment, Narrated | None]]:
    """Speak assignments and yield them in their order."""
    if workers == 1:
        narrator = source.open()
        for assignment in todo:
            yield assignment, narrator.narrate(assignment)
        return
    strangers = set(multiprocessing.active_children())
    pool = start_workers(workers, _begin_worker, (source,), [__name__])
    waiting: deque[tuple[Assignment, Future[Narrated | None]]] = deque()
    try:
        for assignment in todo:
            waiting.append((assignment, pool.submit(_narrate_in_worker, assignment)))
            if len(waiting) >= workers * _AHEAD:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    except BrokenProcessPool as error:
        end_workers(strangers)
        raise SpeechLMError(
            f"One of {workers} processes ended, perhaps for want of memory; what was spoken is kept: "
            "run again to go on, with fewer workers if it happens again."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_source: NarratorSource | None = None  # of a worker process
_narrator: Narrator | None = None


def _begin_worker(source: NarratorSource) -> None:
    global _source
    _source = source


def _narrate_in_worker(assignment: Assignment) -> Narrated | None:
    global _narrator
    if _narrator is None:  # here and not at the start, so that what is wrong reaches the user
        assert _source is not None  # noqa: S101 - the pool's initializer has run
        _narrator = _source.open()
    return _narrator.narrate(assignment)
