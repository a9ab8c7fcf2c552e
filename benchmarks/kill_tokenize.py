"""Kills `tokenize_manifest` at random moments and compares what comes of it with a quiet run.

    python benchmarks/kill_tokenize.py                 # 20 kills of one dataset, in this process
    python benchmarks/kill_tokenize.py --workers 2     # the parent of two workers is killed

One dataset is made through all kills: each run goes on where the one before it was stopped, works for
a random while, and gets SIGKILL. The last run may end; its folder must then hold the same files with
the same bytes as that of a run that nobody disturbed. Exits with 1 if not.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from speechlm.benchmarks.tokenizing import made_up_corpus
from speechlm.data_prep.tokenize import tokenize_manifest

ROWS = 4

Running = multiprocessing.context.ForkProcess


def make(manifest: Path, out: Path, workers: int) -> None:
    """Make or go on with a dataset, with the shipped codec."""
    tokenize_manifest(
        manifest, out, rows_per_shard=ROWS, workers=workers, progress=False, device="cpu"
    )


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def begin(manifest: Path, out: Path, workers: int) -> Running:
    """A run in a process of its own.

    A fork, so that nothing has to be imported 20 times.
    """
    child = multiprocessing.get_context("fork").Process(target=make, args=(manifest, out, workers))
    child.start()
    return child


def work_for(child: Running, seconds: float, receipts: Path, workers: int) -> None:
    """Wait until a run has worked for so long, on a busy machine too.

    A single process is timed by its own processor. Workers come up first, so theirs is the time
    since the first new shard.
    """
    before, begun = len(list(receipts.glob("*.json"))), processor_seconds(child.pid or 0)
    while child.is_alive():
        if workers == 1 and processor_seconds(child.pid or 0) - begun >= seconds:
            return
        if workers > 1 and len(list(receipts.glob("*.json"))) > before:
            time.sleep(seconds)
            return
        time.sleep(0.005)


def processor_seconds(pid: int) -> float:
    """Processor time of a process so far; the clock's where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return time.monotonic()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--utterances", type=int, default=400)
    parser.add_argument("--longest", type=float, default=1.0, help="seconds of work until a kill")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Kill, go on, compare."""
    options = parse(arguments)
    torch.set_num_threads(1)  # threads of tensor operations would not survive the forks
    draw = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp())
    try:
        manifest = made_up_corpus(folder / "corpus", ".flac", 24_000, options.utterances, 4.0)
        begin(manifest, folder / "quiet", 1).join()
        killed, receipts, early = 0, folder / "killed" / "receipts", False
        while killed < options.kills and not early:
            child = begin(manifest, folder / "killed", options.workers)
            work_for(child, draw.uniform(0.0, options.longest), receipts, options.workers)
            early = not child.is_alive()
            child.kill()
            child.join()
            killed += not early
            shards = len(list(receipts.glob("*.json"))) if receipts.is_dir() else 0
            halves = len(list((folder / "killed").rglob(".*")))
            print(f"kill {killed:3d}: {shards:4d} shards, {halves} half-written files", flush=True)
        begin(manifest, folder / "killed", options.workers).join()
        same = content(folder / "quiet") == content(folder / "killed")
        count = len(content(folder / "quiet"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if early:
        sys.exit(f"The dataset was finished after {killed} kills; give more --utterances.")
    if not same:
        sys.exit(f"After {killed} kills the dataset differs from the undisturbed one.")
    print(f"{killed} kills, {count} files: byte-identical to the undisturbed run")


if __name__ == "__main__":
    main()
