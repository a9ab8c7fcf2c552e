"""Kills `tokenize_manifest` at random moments and compares what comes of it with a quiet run.

    python benchmarks/kill_tokenize.py                 # 20 kills of one dataset, in this process
    python benchmarks/kill_tokenize.py --workers 2     # the parent of two workers is killed

One dataset is made through all kills: each run goes on where the one before it was stopped, works for
a random while, and gets SIGKILL. The last run may end; its folder must then hold the same files with
the same bytes as that of a run that nobody disturbed. Exits with 1 if not.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from speechlm.benchmarks.tokenizing import made_up_corpus
from speechlm.data_prep.tokenize import tokenize_manifest

ROWS = 4


def make(manifest: Path, out: Path, workers: int) -> None:
    """Make or go on with a dataset, with the shipped codec."""
    tokenize_manifest(
        manifest, out, rows_per_shard=ROWS, workers=workers, progress=False, device="cpu"
    )


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def begin(manifest: Path, out: Path, workers: int) -> subprocess.Popen[bytes]:
    """A run in a process of its own, returned when it is about to work."""
    command = [sys.executable, __file__, "--child", str(manifest), str(out)]
    child = subprocess.Popen(  # noqa: S603 - this very file
        [*command, "--workers", str(workers)], stdout=subprocess.PIPE
    )
    assert child.stdout is not None  # noqa: S101
    child.stdout.readline()
    return child


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--utterances", type=int, default=400)
    parser.add_argument("--longest", type=float, default=1.0, help="seconds until a kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Kill, go on, compare."""
    options = parse(arguments)
    if options.child:
        print("ready", flush=True)
        make(*options.child, options.workers)
        return
    draw = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp())
    try:
        manifest = made_up_corpus(folder / "corpus", ".flac", 24_000, options.utterances, 4.0)
        make(manifest, folder / "quiet", 1)
        killed, receipts, early = 0, folder / "killed" / "receipts", False
        while killed < options.kills and not early:
            child = begin(manifest, folder / "killed", options.workers)
            # several workers come up first; what counts is a kill amid the work
            before = len(list(receipts.glob("*.json"))) if receipts.is_dir() else 0
            while options.workers > 1 and child.poll() is None:
                if receipts.is_dir() and len(list(receipts.glob("*.json"))) > before:
                    break
                time.sleep(0.01)
            time.sleep(draw.uniform(0.0, options.longest))
            early = child.poll() is not None
            child.kill()
            child.wait()
            killed += not early
            shards = len(list(receipts.glob("*.json"))) if receipts.is_dir() else 0
            halves = len(list((folder / "killed").rglob(".*")))
            print(f"kill {killed:3d}: {shards:4d} shards, {halves} half-written files", flush=True)
        make(manifest, folder / "killed", options.workers)
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
