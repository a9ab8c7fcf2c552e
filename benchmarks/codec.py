"""Times the codec beside EnCodec, Mimi and DAC: encode and decode, with the peak memory of each.

    python benchmarks/codec.py --quick
    python benchmarks/codec.py --json build/codec-speed.json

Every system runs in a process of its own, so that a peak is that system's alone. The processes take
turns pass by pass, so that whatever else the machine does hits all of them alike, and the best pass
counts. The peers are transformers' models from their default configurations with random weights,
which compute as much as trained ones. The input is made up: harmonics that rise and fall like
syllables, and some noise. No model's cost depends on what it hears.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from speechlm.benchmarks.meter import (
    Measured,
    MeterProcess,
    Pass,
    ProcessEnded,
    free_memory_mb,
)
from speechlm.benchmarks.systems import LOADERS, PAPER_RECIPE

TASKS = ("encode", "decode")
OURS = ("ours", "ours-paper")
# The longer of two passes that warm up: this share of a setting's audio, within bounds in seconds.
# At less than that, DAC's memory was foreseen at a fifth of what it grew to.
_WARM_UP_SHARE, _WARM_UP_SECONDS = 1 / 16, (1.0, 10.0)
_QUICK_SECONDS = 50.0  # a row is repeated only if that ends before
_MEMORY_MARGIN = 0.8  # of what is free
_QUIET_SHARE = 0.95


class Setting(NamedTuple):
    """What every system is asked to do: seconds of audio an item, items, threads."""

    audio_s: int
    batch: int
    threads: int

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.audio_s} s x {self.batch}, {threads}"


@dataclass
class Row:
    """The best of a system's passes over one task. Memory is the highest of all passes."""

    system: str
    task: str
    audio_s: int
    batch: int
    threads: int
    seconds: float
    processor_seconds: float
    peak_rss_mb: float
    passes: int = 1

    def add(self, measured: Pass) -> None:
        """Count one more pass."""
        if measured.seconds < self.seconds:
            self.seconds, self.processor_seconds = measured[:2]
        self.peak_rss_mb = max(self.peak_rss_mb, measured.peak_rss_mb)
        self.passes += 1

    @property
    def times_real_time(self) -> float:
        """Seconds of audio per second."""
        return self.audio_s * self.batch / self.seconds


@dataclass(frozen=True)
class Bounds:
    """How much measuring is enough.

    Attributes:
        repeats: Passes of a row.
        max_seconds: A row whose passes would take longer gets fewer; if one would, none.
        deadline: Clock reading that a repeated pass must not be expected to go past.
    """

    repeats: int = 3
    max_seconds: float = 120.0
    deadline: float = float("inf")


@dataclass
class Report:
    """What was found.

    Attributes:
        rows: One a system, task and setting.
        left_out: Sentences on what was not measured.
        failures: Sentences on systems that broke down.
        notes: What each system is.
    """

    rows: list[Row] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)


def measure_setting(
    setting: Setting, systems: dict[str, Measured], bounds: Bounds, report: Report
) -> None:
    """Warm every system up, then let them take turns until `bounds`."""
    spent: dict[tuple[str, str], float] = {}
    rows: dict[tuple[str, str], Row] = {}
    alive = dict(systems)

    def bury(name: str, error: ProcessEnded) -> None:
        del alive[name]
        report.failures.append(f"{name}, {setting}: {error}")

    for name, system in systems.items():
        try:
            if isinstance(system, MeterProcess):
                report.notes[name] = system.note
            unfit = _too_much(setting, system, bounds)
        except ProcessEnded as error:
            bury(name, error)
            continue
        for task, reason in unfit.items():
            if reason:
                report.left_out.append(f"{name} {task}, {setting}: {reason}")
            else:
                spent[name, task] = 0.0
    for _ in range(bounds.repeats):
        for name, task in spent:
            row = rows.get((name, task))
            if name not in alive or (row and _is_enough(row, spent[name, task], bounds)):
                continue
            try:
                measured = alive[name].measure(task, setting.audio_s, setting.batch)
            except ProcessEnded as error:
                bury(name, error)
                continue
            spent[name, task] += measured.seconds
            if row:
                row.add(measured)
            else:
                rows[name, task] = Row(name, task, *setting, *measured)
    report.rows += rows.values()


def _is_enough(row: Row, spent: float, bounds: Bounds) -> bool:
    return (
        spent + row.seconds > bounds.max_seconds or time.monotonic() + row.seconds > bounds.deadline
    )


def _too_much(setting: Setting, system: Measured, bounds: Bounds) -> dict[str, str | None]:
    """Why each task will not be measured, if so: foreseen from short passes, which also warm up."""
    audio_s = setting.audio_s * setting.batch
    least, most = _WARM_UP_SECONDS
    warm_up_s = min(most, max(least, audio_s * _WARM_UP_SHARE))
    # Two lengths, so that what a pass needs at all and what further seconds need come apart.
    short, long = (
        {task: system.measure(task, length_s, 1) for task in TASKS}
        for length_s in (warm_up_s / 2, warm_up_s)
    )
    reasons: dict[str, str | None] = {}
    for task in TASKS:
        seconds = long[task].seconds * audio_s / warm_up_s
        growth = max(0.0, long[task].peak_rss_mb - short[task].peak_rss_mb) / (warm_up_s / 2)
        needed = growth * (audio_s - warm_up_s)
        if seconds > bounds.max_seconds:
            reasons[task] = f"a pass would take about {seconds:.0f} s"
        elif needed > _MEMORY_MARGIN * free_memory_mb():
            reasons[task] = f"a pass would need about {needed / 1000:.0f} GB of memory"
        else:
            reasons[task] = None
    return reasons


def table(report: Report) -> str:
    """Speeds and ratios as Markdown."""
    lines = [
        "| setting | system | encode x real time | decode x real time | peak MB encode / decode "
        "| passes | ours is faster by | ours-paper is faster by |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    found = {
        (Setting(row.audio_s, row.batch, row.threads), row.system, row.task): row
        for row in report.rows
    }
    for setting in dict.fromkeys(key[0] for key in found):
        for name in dict.fromkeys(key[1] for key in found if key[0] == setting):
            pair = [found.get((setting, name, task)) for task in TASKS]
            speeds = [f"{row.times_real_time:.1f}" if row else "–" for row in pair]
            peaks = [f"{row.peak_rss_mb:.0f}" if row else "–" for row in pair]
            passes = [str(row.passes) if row else "–" for row in pair]
            ratios = ["–" if own == name else _ratio(found, setting, own, name) for own in OURS]
            cells = [str(setting), name, *speeds, " / ".join(peaks), " / ".join(passes), *ratios]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _ratio(found: dict[Any, Row], setting: Setting, own: str, peer: str) -> str:
    """Time of a peer over our own, encode and decode together."""
    times = []
    for name in (peer, own):
        pair = [found.get((setting, name, task)) for task in TASKS]
        if not all(pair):
            return "–"
        times.append(sum(row.seconds for row in pair if row))
    return f"{times[0] / times[1]:.2f}"


def as_json(report: Report) -> dict[str, Any]:
    """Rows for another program, with the machine and what was left out beside them."""
    rows = [asdict(row) for row in report.rows]
    for row in rows:
        del row["passes"], row["processor_seconds"]
    return {
        "rows": rows,
        "left_out": report.left_out,
        "failures": report.failures,
        "systems": report.notes,
        "machine": machine() | {"core_share": core_share(report)},
    }


def save(report: Report, path: Path) -> None:
    """Write what was found so far, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    growing = path.with_name(path.name + ".part")
    growing.write_text(json.dumps(as_json(report), indent=2) + "\n", encoding="utf-8")
    growing.replace(path)


def core_share(report: Report) -> float | None:
    """The least share of its core that a counted pass of one thread got; 1 on a quiet machine."""
    shares = [row.processor_seconds / row.seconds for row in report.rows if row.threads == 1]
    return round(min(shares), 2) if shares else None


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """What ran the benchmark."""
    from importlib.metadata import version

    return {
        "architecture": platform.machine(),
        "usable_cores": usable_cores(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks/codec.py", description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to FILE")
    parser.add_argument(
        "--quick", action="store_true", help="10 s, batch 1, 1 thread, in under a minute"
    )
    parser.add_argument("--systems", nargs="+", choices=LOADERS, default=list(LOADERS))
    parser.add_argument("--audio-seconds", nargs="+", type=_count, default=[10, 60], metavar="N")
    parser.add_argument("--batch", nargs="+", type=_count, default=[1, 8], metavar="N")
    parser.add_argument("--threads", nargs="+", type=_count, default=[1, 2], metavar="N")
    parser.add_argument(
        "--repeats", type=_count, default=3, metavar="N", help="passes of a row; the best counts"
    )
    parser.add_argument(
        "--max-seconds", type=float, default=120.0, metavar="S", help="the most time for a row"
    )
    options = parser.parse_args(arguments)
    if options.quick:
        options.audio_seconds, options.batch, options.threads = [10], [1], [1]
    return options


def _count(text: str) -> int:
    if (count := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{count} is less than 1")
    return count


def settings(options: argparse.Namespace, cores: int, report: Report) -> Iterable[Setting]:
    """The settings asked for, less those that would share one core among two threads."""
    for threads in options.threads:
        if threads > cores:
            report.left_out.append(f"{threads} threads: only {cores} core(s) may be used")
            continue
        for audio_s in options.audio_seconds:
            for batch in options.batch:
                yield Setting(audio_s, batch, threads)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the rows; exit with 1 if a system broke down."""
    options = parse(arguments)
    start = time.monotonic()
    deadline = start + _QUICK_SECONDS if options.quick else float("inf")
    bounds = Bounds(options.repeats, options.max_seconds, deadline)
    report, names = Report(), list(dict.fromkeys(options.systems))
    if "ours-paper" in names and not PAPER_RECIPE.is_file():
        names.remove("ours-paper")
        report.left_out.append(f"ours-paper: there is no configs/{PAPER_RECIPE.name}")
    for setting in settings(options, usable_cores(), report):
        print(f"{time.monotonic() - start:6.0f} s  {setting}", file=sys.stderr)
        with ExitStack() as stack:
            processes = {
                name: stack.enter_context(MeterProcess(name, setting.threads)) for name in names
            }
            measure_setting(setting, dict(processes), bounds, report)
        if options.json:  # as far as it got: all settings take long, and a run may be cut off
            save(report, options.json)
    print(table(report))
    print("\nRatios: time of the system over ours, encode and decode together, best passes.")
    for name, note in report.notes.items():
        print(f"{name}: {note}")
    for sentence in report.left_out:
        print(f"left out: {sentence}")
    for sentence in report.failures:
        print(f"failed: {sentence}")
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    if (share := core_share(report)) is not None and share < _QUIET_SHARE:
        print(f"The machine was busy: a pass got as little as {share:.0%} of its core.")
    print(f"took {time.monotonic() - start:.0f} s")
    if options.json:
        save(report, options.json)
    sys.exit(1 if report.failures else 0)


if __name__ == "__main__":
    main()
