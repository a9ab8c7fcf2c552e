"""Verdicts by several processes: in the order of the corpus, and whatever a file does to a decoder."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import torch

from ..manifest import storable
from ..readers.entry import Recording, Rejection
from ..worker_pool import end_workers, start_workers
from .options import CleaningOptions
from .recording import Verdict, clean_recording

IN_FLIGHT_PER_WORKER = 4  # enough that no process waits; an entry may hold a whole encoded file

_CRASH = "crash"

_settings: tuple[CleaningOptions, Path, bool]


@dataclass(frozen=True)
class Task:
    """An entry that is being judged.

    Attributes:
        recording: The entry.
        future: Its verdict, sooner or later.
    """

    recording: Recording
    future: Future[Verdict]


class CleaningWorkers:
    """Processes of one thread each that judge entries; with one worker, this process does it.

    A file on which a decoder dies costs the process that read it. What was under way then is
    judged again one by one, and the entry that ends a process a second time is refused.

    Args:
        options: As `clean_recording` takes them, with `out` and `require_text`.
        out: Output folder.
        require_text: Refuse entries without transcript.
        workers: Processes.
    """

    def __init__(
        self, options: CleaningOptions, out: Path, require_text: bool, workers: int
    ) -> None:
        self.workers = workers
        self._settings = (options, out, require_text)
        self._pool: ProcessPoolExecutor | None = None
        self._solo: ProcessPoolExecutor | None = None
        self._strangers = set(multiprocessing.active_children())

    def submit(self, recording: Recording) -> Task:
        """Begin to judge an entry."""
        if self.workers == 1:
            done: Future[Verdict] = Future()
            options, out, require_text = self._settings
            done.set_result(clean_recording(recording, options, out, require_text=require_text))
            return Task(recording, done)
        for _ in range(2):
            if self._pool is None:
                self._pool = self._start(self.workers)
            try:
                return Task(recording, self._pool.submit(_judge, recording))
            except BrokenProcessPool:
                self._pool = None
        raise BrokenProcessPool("Worker processes end as soon as they start.")

    def result(self, task: Task) -> Verdict:
        """Wait for a verdict."""
        try:
            return task.future.result()
        except BrokenProcessPool:
            return self._alone(task.recording)

    def _alone(self, recording: Recording) -> Verdict:
        if self._solo is None:
            self._solo = self._start(1)
        try:
            return self._solo.submit(_judge, recording).result()
        except BrokenProcessPool:
            self._solo = None
            return Rejection(
                recording.id,
                storable(str(recording.audio)),
                f"Reading {storable(str(recording.audio))} ended the process that did it; "
                "re-encode it.",
                _CRASH,
            )

    def _start(self, workers: int) -> ProcessPoolExecutor:
        return start_workers(workers, _begin, (self._settings,), [__name__])

    def __enter__(self) -> CleaningWorkers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pool in (self._pool, self._solo):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)
        end_workers(self._strangers)  # of pools that broke, too


def _begin(settings: tuple[CleaningOptions, Path, bool]) -> None:
    global _settings
    _settings = settings
    torch.set_num_threads(1)


def _judge(recording: Recording) -> Verdict:
    options, out, require_text = _settings
    return clean_recording(recording, options, out, require_text=require_text)


def in_order(
    entries: Iterator[Recording | Rejection],
    decide: Callable[[Recording], Task | Verdict],
    workers: CleaningWorkers,
) -> Iterator[tuple[Recording | Rejection, Verdict]]:
    """Yield every entry with its verdict, in the order of the entries.

    An id that is under way already waits for its first bearer, because only if that one is refused
    may the second be taken.
    """
    queue: list[tuple[Recording | Rejection, Task | Verdict]] = []
    limit = IN_FLIGHT_PER_WORKER * workers.workers

    def pop() -> tuple[Recording | Rejection, Verdict]:
        entry, pending = queue.pop(0)
        return entry, workers.result(pending) if isinstance(pending, Task) else pending

    for entry in entries:
        if isinstance(entry, Rejection):
            queue.append((entry, entry))
        else:
            while any(waiting.id == entry.id for waiting, _ in queue):
                yield pop()
            queue.append((entry, decide(entry)))
        while queue and (len(queue) >= limit or _is_done(queue[0][1])):
            yield pop()
    while queue:
        yield pop()


def is_crash(verdict: Verdict) -> bool:
    """Whether a process ended over an entry: of that, the next run is the better judge."""
    return isinstance(verdict, Rejection) and verdict.kind == _CRASH


def _is_done(pending: Task | Verdict) -> bool:
    return not isinstance(pending, Task) or pending.future.done()
